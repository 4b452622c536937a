//! What the item's menu shows: what the machine does, the apps that were opened last, the folders that it sees.

use std::io::Cursor;
use std::path::PathBuf;

use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat};
use inlay_protocol::memory::{Agent, Phase};

use super::Seen;
use crate::apps::{Apps, Recent, picture};
use crate::paths::{Folders, MachineName};
use crate::shares::Shares;
use crate::windows::clean;

/// Apps and folders in the menu.
const MOST_APPS: usize = 5;
const MOST_FOLDERS: usize = 20;
/// Characters of a line.
const LINE: usize = 60;
/// Width and height of an app's icon, in pixels.
const ICON: u32 = 32;

/// An app that was opened lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    /// Its id, a plain word.
    pub id: String,
    /// Its name as the user sees it.
    pub name: String,
    /// A PNG of this host's making; empty where it has no icon.
    pub icon: Vec<u8>,
}

/// A folder that the machine sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// What the machine calls it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    /// What the machine does.
    pub seen: Seen,
    /// Newest first.
    pub apps: Vec<App>,
    /// In the user's order.
    pub folders: Vec<Folder>,
}

impl Model {
    /// Reads what is in files.
    pub fn read(folders: &Folders, name: &MachineName, seen: Seen) -> Self {
        let known = Apps::of(&folders.machine(name));
        let recent = Recent::of(folders, name).read();
        let stored = recent.iter().filter_map(|(id, _)| known.get(id)).take(MOST_APPS);
        let apps = stored.map(|stored| App {
            name: stored.app.name.shown().to_owned(),
            icon: icon(&stored.app.icons).unwrap_or_default(),
            id: stored.app.id,
        });
        let apps = apps.collect();
        let shared = Shares::read(&folders.shares(name)).inspect_err(|error| tracing::debug!("{error}"));
        let shared = shared.unwrap_or_default();
        let folder = |f: &crate::shares::SharedFolder| Folder { name: f.name.clone(), path: f.path.clone() };
        Self { seen, apps, folders: shared.iter().take(MOST_FOLDERS).map(folder).collect() }
    }

    /// What the machine does, in words.
    pub fn words(&self) -> &'static str {
        match (self.seen.state.phase, self.seen.state.agent) {
            (_, Agent::Missing) => "its agent does not answer",
            (Phase::Starting, _) => "starting",
            (Phase::Running, _) => "running",
            (Phase::Paused, _) => "paused",
            (Phase::Stopping, _) => "stopping",
        }
    }
}

/// The smallest of an app's icons that is large enough, decoded within limits and written anew: no desktop reads a picture of the guest's.
fn icon(icons: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut pictures: Vec<_> = icons.iter().filter_map(|png| picture(png)).collect();
    pictures.sort_by_key(image::RgbaImage::width);
    let found = pictures.iter().find(|picture| picture.width() >= ICON).or(pictures.last())?;
    let scaled = image::imageops::resize(found, ICON, ICON, FilterType::CatmullRom);
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(scaled).write_to(&mut png, ImageFormat::Png).ok()?;
    Some(png.into_inner())
}

/// A text as a line of a menu shows it: plain and not too long, and no character of it is an access key.
pub(super) fn label(text: &str) -> String {
    let plain = clean(text, LINE + 1);
    let short = match plain.chars().count() {
        more if more > LINE => plain.chars().take(LINE - 1).chain(['…']).collect(),
        _ => plain,
    };
    short.replace('_', "__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::Stored;
    use inlay_protocol::catalogue::{self, Text};
    use inlay_protocol::memory::State;

    #[test]
    fn labels_are_plain_short_and_without_access_keys() {
        assert_eq!(label("my_app__x"), "my__app____x");
        assert_eq!(label("a\u{202e}b\n\u{7}c"), "abc");
        let long = label(&"_".repeat(4096));
        assert_eq!((long.matches('_').count(), long.ends_with('…')), (2 * (LINE - 1), true));
        assert_eq!(label(&"x".repeat(LINE)), "x".repeat(LINE));
    }

    #[test]
    fn it_has_what_was_opened_last_and_what_is_shared() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        let name: MachineName = "work".parse().unwrap();
        let seen = Seen { state: State::default(), together: false };
        let empty = Model::read(&folders, &name, seen);
        assert_eq!((empty.apps.len(), empty.folders.len(), empty.words()), (0, 0, "starting"));
        let mut png = Cursor::new(Vec::new());
        image::RgbaImage::from_pixel(48, 40, image::Rgba([1, 2, 3, 255]))
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        for id in 0..9 {
            let name_of = Text { plain: format!("App {id}"), local: None };
            let icons = vec![b"no picture".to_vec(), png.get_ref().clone()];
            let app =
                catalogue::App { id: format!("a{id}"), name: name_of, icons, ..catalogue::App::default() };
            Apps::of(&folders.machine(&name)).put(&Stored { digest: 1, app }).unwrap();
            Recent::of(&folders, &name).note(&format!("a{id}")).unwrap();
        }
        Recent::of(&folders, &name).note("gone").unwrap();
        let shared = root.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let mut shares = Shares::default();
        shares.add(shared.clone(), None, false).unwrap();
        shares.write(&folders.shares(&name)).unwrap();
        let model = Model::read(&folders, &name, seen);
        let ids: Vec<&str> = model.apps.iter().map(|app| app.id.as_str()).collect();
        assert_eq!(ids, ["a8", "a7", "a6", "a5", "a4"]);
        assert_eq!(image::load_from_memory(&model.apps[0].icon).unwrap().width(), ICON);
        assert_eq!(model.folders, [Folder { name: "shared".into(), path: shared }]);
        // A broken list is none.
        std::fs::write(folders.shares(&name), "nonsense").unwrap();
        assert!(Model::read(&folders, &name, seen).folders.is_empty());
    }
}
