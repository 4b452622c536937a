//! Icons of guest apps on this host: decoded within limits and written anew, so that no byte of the guest's is read by a desktop.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, RgbaImage};

use crate::apps::picture;

/// The sizes that are written, in pixels.
const SIZES: [u32; 5] = [32, 48, 64, 128, 256];

fn folder(hicolor: &Path, size: u32) -> std::path::PathBuf {
    hicolor.join(format!("{size}x{size}/apps"))
}

/// Writes an icon in all sizes; an app without a usable one has none.
///
/// # Errors
/// The folders cannot be written.
pub(super) fn write(hicolor: &Path, name: &str, icons: &[Vec<u8>]) -> io::Result<()> {
    let mut pictures: Vec<RgbaImage> = icons.iter().filter_map(|png| picture(png)).collect();
    pictures.sort_by_key(RgbaImage::width);
    for size in SIZES {
        let folder = folder(hicolor, size);
        let path = folder.join(format!("{name}.png"));
        // Nothing is blown up but the largest one, to the smallest size: an icon that is there beats none.
        let found = pictures.iter().find(|picture| picture.width() >= size);
        let found = found.or(pictures.last().filter(|_| size == SIZES[0]));
        let Some(picture) = found else {
            remove(&path)?;
            continue;
        };
        let scaled = match picture.width() {
            width if width == size => picture.clone(),
            _ => image::imageops::resize(picture, size, size, FilterType::CatmullRom),
        };
        let mut png = Cursor::new(Vec::new());
        DynamicImage::from(scaled).write_to(&mut png, ImageFormat::Png).map_err(io::Error::other)?;
        fs::create_dir_all(&folder)?;
        // No name of an icon begins with a dot.
        let new = folder.join(format!(".inlay-{}", std::process::id()));
        fs::write(&new, png.into_inner()).and_then(|()| fs::rename(&new, &path))?;
    }
    Ok(())
}

/// Removes icons of this machine whose name is not among the names.
///
/// # Errors
/// They cannot be removed.
pub(super) fn remove_others(hicolor: &Path, prefix: &str, names: &BTreeSet<String>) -> io::Result<()> {
    for size in SIZES {
        super::remove_others(&folder(hicolor, size), prefix, ".png", names)?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
