//! Icons of apps: found in themes (Icon Theme Specification 0.13), and made PNG files of a few sizes.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inlay_protocol::limits;

use super::entry::Entry;
use super::folders::{self, DataFolders};

/// The sizes that are made, in pixels: for lists and panels, for menus, for docks.
const SIZES: [u32; 3] = [48, 128, 256];
/// Bytes of an icon's file.
const MOST_BYTES: u64 = 1 << 20;
/// Themes that are looked into.
const MOST_THEMES: usize = 24;
/// Folders of one theme.
const MOST_FOLDERS: usize = 512;
/// What is seen first: where apps put their own, then what has most of the rest.
const FIRST: [&str; 4] = ["hicolor", "Adwaita", "breeze", "gnome"];

/// Files that show the icons which were asked for, by the icon's name.
#[derive(Debug, Default)]
pub struct Icons(HashMap<String, Vec<PathBuf>>);

impl Icons {
    /// Looks for icons of these names.
    pub fn find(data: &DataFolders, wanted: &HashSet<String>) -> Self {
        let mut found = Self::default();
        let bases: Vec<PathBuf> = data.iter().map(|folder| folder.join("icons")).collect();
        for theme in themes(&bases) {
            // What an earlier theme has counts; of one theme all sizes do.
            let missing: HashSet<&str> =
                wanted.iter().map(String::as_str).filter(|name| !found.0.contains_key(*name)).collect();
            if missing.is_empty() {
                return found;
            }
            let roots: Vec<PathBuf> = bases.iter().map(|base| base.join(&theme)).collect();
            let index = roots.iter().find_map(|root| folders::read_text(&root.join("index.theme")));
            let directories = index.map(|text| directories(&text)).unwrap_or_default();
            for folder in roots.iter().flat_map(|root| directories.iter().map(|name| root.join(name))) {
                found.list(&folder, &missing);
            }
        }
        let missing: HashSet<&str> =
            wanted.iter().map(String::as_str).filter(|name| !found.0.contains_key(*name)).collect();
        for folder in data.iter().flat_map(|folder| [folder.join("pixmaps"), folder.join("icons")]) {
            found.list(&folder, &missing);
        }
        found
    }

    fn list(&mut self, folder: &Path, wanted: &HashSet<&str>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some("png" | "svg" | "svgz"), Some(name)) = (kind, name)
                && wanted.contains(name)
            {
                let files = self.0.entry(name.to_owned()).or_default();
                if files.len() < 64 {
                    files.push(path);
                }
            }
        }
    }

    fn files(&self, icon: &str) -> Vec<PathBuf> {
        if icon.starts_with('/') { vec![icon.into()] } else { self.0.get(icon).cloned().unwrap_or_default() }
    }

    /// Something that changes when the icon does.
    pub fn stamp(&self, icon: &str, hasher: &mut impl Hasher) {
        for file in self.files(icon) {
            let info = std::fs::metadata(&file).ok();
            (file, info.map(|info| (info.len(), info.mtime(), info.mtime_nsec()))).hash(hasher);
        }
    }

    /// PNG files of the icon, smallest first.
    pub fn load(&self, icon: &str) -> Vec<Vec<u8>> {
        let mut drawing = None;
        let mut pictures: Vec<(u32, Vec<u8>)> = Vec::new();
        for file in self.files(icon) {
            if file.extension().is_some_and(|kind| kind == "svg" || kind == "svgz") {
                drawing = drawing.or_else(|| folders::read(&file, MOST_BYTES));
            } else if let Some(bytes) = folders::read(&file, limits::APP_ICON as u64)
                && let Some(side) = png_side(&bytes)
            {
                pictures.push((side, bytes));
            }
        }
        pictures.sort_by_key(|(side, _)| *side);
        pictures.dedup_by_key(|(side, _)| *side);
        let mut chosen: Vec<(u32, Vec<u8>)> = Vec::new();
        for size in SIZES {
            let exact = pictures.iter().find(|(side, _)| *side == size).cloned();
            let drawn = || drawing.as_ref().and_then(|svg| Some((size, render(svg, size)?)));
            let near = || pictures.iter().find(|(side, _)| *side > size).or(pictures.last()).cloned();
            let best = exact.or_else(drawn).or_else(near);
            chosen.extend(best.filter(|(side, png)| {
                png.len() <= limits::APP_ICON && !chosen.iter().any(|(have, _)| have == side)
            }));
        }
        chosen.sort_by_key(|(side, _)| *side);
        chosen.into_iter().map(|(_, png)| png).collect()
    }
}

/// The name of an icon as themes have it.
pub fn name(icon: &str) -> &str {
    if icon.starts_with('/') {
        return icon;
    }
    [".png", ".svg", ".xpm"].iter().find_map(|kind| icon.strip_suffix(kind)).unwrap_or(icon)
}

fn themes(bases: &[PathBuf]) -> Vec<String> {
    let mut all: Vec<String> = FIRST.map(str::to_owned).to_vec();
    let there = bases.iter().flat_map(|base| std::fs::read_dir(base).into_iter().flatten().flatten());
    let mut more: Vec<String> = there
        .filter(|entry| entry.path().join("index.theme").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    more.sort();
    all.extend(more);
    let mut seen = HashSet::new();
    all.retain(|theme| seen.insert(theme.clone()));
    all.truncate(MOST_THEMES);
    all
}

/// The folders of a theme whose icons have as many pixels as their size says.
fn directories(index: &str) -> Vec<String> {
    let index = Entry::parse(index);
    let listed = index.words("Icon Theme", "Directories");
    let plain = |name: &String| {
        index.raw(name, "Scale").is_none_or(|scale| scale == "1")
            && !name.contains("..")
            && !name.starts_with('/')
    };
    listed.into_iter().filter(plain).take(MOST_FOLDERS).collect()
}

/// Width and height of a square PNG (ISO/IEC 15948, IHDR), the larger of both of another.
fn png_side(bytes: &[u8]) -> Option<u32> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let is_png = bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR");
    let side = if is_png { number(16)?.max(number(20)?) } else { 0 };
    (1..=1024).contains(&side).then_some(side)
}

/// The word that makes this program draw an icon instead of being the agent.
pub const RENDER: &str = "render-icon";

/// A drawing as PNG, by a process of its own: a drawing may be made to eat time and memory.
fn render(svg: &[u8], size: u32) -> Option<Vec<u8>> {
    let program = own_command()?;
    let mut command = Command::new(program.first()?);
    command.args(&program[1..]).arg(RENDER).arg(size.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        command.spawn().inspect_err(|error| tracing::warn!(%error, "an icon cannot be drawn")).ok()?;
    // It reads all before it writes. Where it dies early, the pipe tells; it is collected with all children of the agent.
    let written = child.stdin.take()?.write_all(svg);
    let mut png = Vec::new();
    let read = child.stdout.take()?.take(limits::APP_ICON as u64 + 1).read_to_end(&mut png);
    (written.is_ok() && read.is_ok() && png_side(&png) == Some(size) && png.ends_with(b"IEND\xaeB`\x82"))
        .then_some(png)
}

/// How this program was started, without its arguments: it may run by a loader of its own.
fn own_command() -> Option<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStringExt as _;
    let all = std::fs::read("/proc/self/cmdline").ok()?;
    let words: Vec<_> = all.strip_suffix(b"\0")?.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let own = words.len().checked_sub(std::env::args_os().count().saturating_sub(1))?;
    if own == 1 {
        return Some(vec!["/proc/self/exe".into()]);
    }
    Some(words[..own].iter().cloned().map(std::ffi::OsString::from_vec).collect())
}

/// The process that draws: an SVG file comes in, a PNG file goes out.
///
/// # Errors
/// It is no drawing, or too much of one.
pub fn render_main(size: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use resvg::{tiny_skia, usvg};
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::As, limit(512 << 20))?;
    setrlimit(Resource::Cpu, limit(10))?;
    setrlimit(Resource::Core, limit(0))?;
    let size: u32 = size.parse()?;
    anyhow::ensure!((1..=512).contains(&size), "no such size");
    let mut svg = Vec::new();
    std::io::stdin().take(MOST_BYTES).read_to_end(&mut svg)?;
    // Nothing of another file is drawn, and no text.
    let nothing = usvg::ImageHrefResolver {
        resolve_data: Box::new(|_, _, _| None),
        resolve_string: Box::new(|_, _| None),
    };
    let options = usvg::Options { image_href_resolver: nothing, ..usvg::Options::default() };
    let tree = usvg::Tree::from_data(&svg, &options)?;
    let (width, height) = (tree.size().width(), tree.size().height());
    #[expect(clippy::cast_precision_loss, reason = "at most 512")]
    let side = size as f32;
    let scale = side / width.max(height);
    let (left, top) = ((side - width * scale) / 2.0, (side - height * scale) / 2.0);
    let mut picture = tiny_skia::Pixmap::new(size, size).context("no memory")?;
    let place = tiny_skia::Transform::from_scale(scale, scale).post_translate(left, top);
    resvg::render(&tree, place, &mut picture.as_mut());
    // One that has nothing but text (xterm's) would be invisible in menus.
    anyhow::ensure!(picture.pixels().iter().any(|pixel| pixel.alpha() > 0), "nothing is drawn");
    std::io::stdout().write_all(&picture.encode_png()?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a PNG file of this size.
    fn png(side: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(side.to_be_bytes());
        bytes.extend(side.to_be_bytes());
        bytes
    }

    #[test]
    fn a_picture_of_each_size_or_the_nearest_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join("icons/hicolor").join(name);
        for (size, bytes) in
            [("16x16", png(16)), ("64x64", png(64)), ("128x128", png(128)), ("512x512", png(512))]
        {
            std::fs::create_dir_all(folder(size).join("apps")).unwrap();
            std::fs::write(folder(size).join("apps/app.png"), bytes).unwrap();
        }
        let index = "[Icon Theme]\nDirectories=16x16/apps,64x64/apps,128x128/apps,512x512/apps,2x/apps,../x\n[2x/apps]\nScale=2\n";
        std::fs::write(folder("index.theme"), index).unwrap();
        assert_eq!(directories(index), ["16x16/apps", "64x64/apps", "128x128/apps", "512x512/apps"]);
        let data = DataFolders::of(&[dir.path()]);
        let icons = Icons::find(&data, &HashSet::from(["app".to_owned()]));
        let sides: Vec<_> = icons.load("app").iter().map(|icon| png_side(icon).unwrap()).collect();
        assert_eq!(sides, [64, 128, 512], "for 48, 128 and 256");
        assert!(icons.load("none").is_empty());
        std::fs::write(folder("64x64").join("apps/app.png"), vec![b'x'; 2 << 20]).unwrap();
        assert_eq!(icons.load("app").len(), 2, "what is no picture, or a large one, is left out");
    }

    #[test]
    fn names_and_sizes() {
        assert_eq!(
            [name("app.png"), name("app"), name("/a/b.png"), name("a.b.svg")],
            ["app", "app", "/a/b.png", "a.b"]
        );
        assert_eq!(png_side(&png(48)), Some(48));
        assert_eq!([png_side(&png(0)), png_side(&png(5000)), png_side(b"GIF"), png_side(&[])], [None; 4]);
    }
}
