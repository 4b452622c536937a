//! The apps of a machine's guest as they were last told, in a folder of the machine: for menus also while the machine is off.
//!
//! One file for each app. The machine process, which writes them, is confined and speaks to the guest: whoever reads them checks them again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use image::{ImageFormat, ImageReader, Limits, RgbaImage};
use inlay_protocol::catalogue::{App, is_id};
use inlay_protocol::{framing, limits};
use serde::{Deserialize, Serialize};

use crate::paths::{Folders, MachineName, MachinePaths};

/// Bytes of all apps of one machine.
const MOST_BYTES: u64 = 128 << 20;

/// Width and height of a picture that is decoded, in pixels.
const MOST_SIDE: u32 = 1024;
/// Memory for decoding one, in bytes.
const MOST_MEMORY: u64 = 16 << 20;

/// Apps that are remembered as opened lately.
const MOST_RECENT: usize = 10;

/// How long the icons of a window's app count as known, and of how many.
const FOUND_FOR: Duration = Duration::from_secs(10);
const MOST_KNOWN: usize = 16;

/// Bytes of a file; 0 where there is none.
fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| found.len())
}

/// An app, and the number by which the guest tells changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// See [`inlay_protocol::catalogue::Listed`].
    pub digest: u64,
    /// All of it.
    pub app: App,
}

impl framing::Message for Stored {
    fn check(&self) -> Result<(), framing::Invalid> {
        self.app.check()
    }
}

/// The folder of a machine's apps.
#[derive(Debug, Clone)]
pub struct Apps {
    folder: PathBuf,
    /// Bytes in it, once something is stored from here: one process does so.
    used: Option<u64>,
}

impl Apps {
    /// Those of this machine.
    #[must_use]
    pub fn of(paths: &MachinePaths) -> Self {
        Self { folder: paths.data().join("apps"), used: None }
    }

    /// All that are known, by name as the user sees it. What cannot be read is left out.
    #[must_use]
    pub fn all(&self) -> Vec<Stored> {
        let mut all: Vec<Stored> = self.each().collect();
        all.sort_by_cached_key(|stored| (stored.app.name.shown().to_lowercase(), stored.app.id.clone()));
        all
    }

    /// Them, one by one, in no order: however large they are, one is in memory.
    pub fn each(&self) -> impl Iterator<Item = Stored> {
        let mut left = MOST_BYTES;
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().take(limits::APPS);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(move |id| {
            let (stored, bytes) = self.read(&id)?;
            left = left.checked_sub(bytes)?;
            Some(stored)
        })
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Stored> {
        Some(self.read(id)?.0)
    }

    fn read(&self, id: &str) -> Option<(Stored, u64)> {
        if !is_id(id) {
            return None;
        }
        let path = self.folder.join(id);
        let length = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        if length > limits::MESSAGE as u64 {
            return None;
        }
        let stored: Stored = framing::decode(&fs::read(path).ok()?).ok()?;
        (stored.app.id == id).then_some((stored, length))
    }

    /// Stores one, in place of what was known of it.
    ///
    /// # Errors
    /// It cannot be written, or there would be too much.
    pub fn put(&mut self, stored: &Stored) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let frame = framing::encode(stored).map_err(io::Error::other)?;
        let bytes = &frame[framing::HEADER..];
        let path = self.folder.join(&stored.app.id);
        let others = self.used().saturating_sub(length(&path));
        let sum = others.saturating_add(bytes.len() as u64);
        if sum > MOST_BYTES {
            return Err(io::Error::other("the guest's apps need too much room"));
        }
        // No app's id begins with a dot.
        let new = self.folder.join(".new");
        fs::File::create(&new).and_then(|mut file| file.write_all(bytes))?;
        fs::rename(&new, path)?;
        self.used = Some(sum);
        Ok(())
    }

    fn used(&mut self) -> u64 {
        *self.used.get_or_insert_with(|| {
            let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
            entries.map(|entry| length(&entry.path())).sum()
        })
    }

    /// Forgets one.
    pub fn remove(&mut self, id: &str) {
        let path = self.folder.join(id);
        let bytes = length(&path);
        // It may not be there.
        if fs::remove_file(path).is_ok() {
            self.used = self.used.map(|used| used.saturating_sub(bytes));
        }
    }

    /// The app whose windows say that they are this: by its class (`StartupWMClass`), else by its id.
    #[must_use]
    pub fn of_window(&self, app_id: &str) -> Option<App> {
        let named = self.get(app_id).filter(|stored| stored.app.wm_class.is_none());
        let found = named.or_else(|| {
            let same = |own: &str| own.eq_ignore_ascii_case(app_id);
            self.each().find(|Stored { app, .. }| same(app.wm_class.as_deref().unwrap_or(&app.id)))
        });
        found.map(|stored| stored.app)
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Which apps of a machine the user opened last.
///
/// A line for each, newest first: seconds since 1970, and the app's id.
#[derive(Debug)]
pub struct Recent(PathBuf);

impl Recent {
    /// Those of this machine.
    #[must_use]
    pub fn of(folders: &Folders, name: &MachineName) -> Self {
        Self(folders.recent(name))
    }

    /// Ids, newest first, and when each was opened.
    #[must_use]
    pub fn read(&self) -> Vec<(String, u64)> {
        // There may be none yet; and one that is no text says nothing.
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let line = |line: &str| {
            let (at, id) = line.split_once(' ')?;
            is_id(id).then(|| (id.to_owned(), at.parse().unwrap_or(0)))
        };
        text.lines().filter_map(line).take(MOST_RECENT).collect()
    }

    /// Notes that one was opened now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&self, id: &str) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut all = self.read();
        all.retain(|(known, _)| known != id);
        all.insert(0, (id.to_owned(), now));
        all.truncate(MOST_RECENT);
        let text: String = all.iter().map(|(id, at)| format!("{at} {id}\n")).collect();
        let new = self.0.with_extension(format!("new-{}", std::process::id()));
        fs::create_dir_all(self.0.parent().unwrap_or(&self.0))?;
        fs::write(&new, text)?;
        fs::rename(&new, &self.0)
    }
}

/// The icons of windows, by what these say that they are. What was found counts for a while: a guest may open windows as fast as it likes,
/// and have many apps.
#[derive(Debug)]
pub struct WindowIcons {
    apps: Apps,
    known: Vec<(String, Instant, Vec<RgbaImage>)>,
    news: bool,
}

impl WindowIcons {
    /// Those of these apps.
    #[must_use]
    pub fn new(apps: Apps) -> Self {
        Self { apps, known: Vec::new(), news: false }
    }

    /// The apps are others than before: what was found does not count any more.
    pub fn forget(&mut self) {
        (self.news, self.known) = (true, Vec::new());
    }

    /// Whether they are others than before; said once.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// How many are remembered.
    pub const MOST: usize = MOST_KNOWN;

    /// Finds those of several apps at once, as many as are remembered: however many there are of either, all apps are read once.
    pub fn find(&mut self, app_ids: impl IntoIterator<Item = String>) {
        let app_ids: BTreeSet<String> = app_ids.into_iter().take(Self::MOST).collect();
        self.known.clear();
        // The first app of a class counts, as it does for one window: however many claim one, the pictures of one are decoded.
        let mut wanted = app_ids;
        for Stored { app, .. } in self.apps.each() {
            if wanted.is_empty() {
                break;
            }
            let class = app.wm_class.as_deref().unwrap_or(&app.id);
            let same: Vec<String> = wanted.extract_if(.., |id| class.eq_ignore_ascii_case(id)).collect();
            if !same.is_empty() {
                let pictures: Vec<RgbaImage> = app.icons.iter().filter_map(|png| picture(png)).collect();
                self.known.extend(same.into_iter().map(|id| (id, Instant::now(), pictures.clone())));
            }
        }
        self.known.extend(wanted.into_iter().map(|id| (id, Instant::now(), Vec::new())));
    }

    /// The pictures of the app whose windows say that they are this; none for one that is not known.
    pub fn of_window(&mut self, app_id: &str) -> &[RgbaImage] {
        self.known.retain(|(_, at, _)| at.elapsed() < FOUND_FOR);
        let at = self.known.iter().position(|(known, ..)| known == app_id).unwrap_or_else(|| {
            let app = self.apps.of_window(app_id);
            let pictures = app.iter().flat_map(|app| &app.icons).filter_map(|png| picture(png)).collect();
            if self.known.len() >= MOST_KNOWN {
                self.known.remove(0);
            }
            self.known.push((app_id.to_owned(), Instant::now(), pictures));
            self.known.len() - 1
        });
        &self.known[at].2
    }
}

/// A picture of an app, decoded within limits, as a square.
#[must_use]
pub fn picture(png: &[u8]) -> Option<RgbaImage> {
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    let picture =
        reader.decode().inspect_err(|error| tracing::debug!(%error, "an icon is none")).ok()?.to_rgba8();
    let (width, height) = picture.dimensions();
    if width == height {
        return Some(picture);
    }
    let side = width.max(height);
    let mut square = RgbaImage::new(side, side);
    image::imageops::overlay(
        &mut square,
        &picture,
        i64::from((side - width) / 2),
        i64::from((side - height) / 2),
    );
    Some(square)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::catalogue::Text;

    pub(crate) fn app(id: &str, name: &str) -> Stored {
        let name = Text { plain: name.into(), local: None };
        Stored { digest: 7, app: App { id: id.into(), name, ..App::default() } }
    }

    #[test]
    fn what_was_opened_last_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let recent = Recent::of(&Folders::below(dir.path()).unwrap(), &"m".parse().unwrap());
        assert!(recent.read().is_empty());
        for id in ["a", "b", "a", "c"] {
            recent.note(id).unwrap();
        }
        let ids = || recent.read().into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(), ["c", "a", "b"]);
        (0..20).for_each(|number| recent.note(&format!("x{number}")).unwrap());
        assert_eq!((ids().len(), ids()[0].as_str()), (MOST_RECENT, "x19"));
        fs::write(&recent.0, "1 ../x\nnothing\n9 ok\n").unwrap();
        assert_eq!(recent.read(), [("ok".to_owned(), 9)]);
        fs::write(&recent.0, [0xff; 99]).unwrap();
        assert!(recent.read().is_empty());
    }

    #[test]
    fn what_was_put_is_found_and_what_is_wrong_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut apps = Apps::of(&Folders::below(dir.path()).unwrap().machine(&"m".parse().unwrap()));
        assert!(apps.all().is_empty());
        apps.put(&app("b", "beta")).unwrap();
        apps.put(&app("a", "Zeta")).unwrap();
        apps.put(&app("c", "Alpha")).unwrap();
        let names: Vec<_> = apps.all().into_iter().map(|stored| stored.app.name.plain).collect();
        assert_eq!(names, ["Alpha", "beta", "Zeta"]);
        // Another's file under its name, a link, something long, something else.
        fs::copy(apps.folder().join("b"), apps.folder().join("x")).unwrap();
        std::os::unix::fs::symlink(apps.folder().join("b"), apps.folder().join("y")).unwrap();
        fs::write(apps.folder().join("z"), vec![0; limits::MESSAGE + 1]).unwrap();
        fs::write(apps.folder().join("c"), "junk").unwrap();
        assert_eq!(apps.all().len(), 2);
        assert_eq!(apps.get("../apps/b"), None);
        let named = App { wm_class: Some("XTerm".into()), ..app("n", "Terminal").app };
        apps.put(&Stored { digest: 1, app: named }).unwrap();
        let of_window = |id: &str| apps.of_window(id).map(|app| app.id);
        assert_eq!(
            [of_window("XTerm"), of_window("B"), of_window("n"), of_window("../b")],
            [Some("n".into()), Some("b".into()), None, None]
        );
        for (id, side) in [("p", 4), ("q", 8)] {
            let mut png = Cursor::new(Vec::new());
            RgbaImage::new(side, side).write_to(&mut png, ImageFormat::Png).unwrap();
            let twice =
                App { wm_class: Some("Twice".into()), icons: vec![png.into_inner()], ..app(id, id).app };
            apps.put(&Stored { digest: 1, app: twice }).unwrap();
        }
        let mut icons = WindowIcons::new(apps.clone());
        icons.find(["Twice", "twice", "unknown"].map(str::to_owned));
        let mut known = |id: &str| icons.of_window(id).iter().map(RgbaImage::width).collect::<Vec<_>>();
        assert_eq!(
            (known("Twice").len(), known("unknown").len()),
            (1, 0),
            "of one app, however many there are"
        );
        assert_eq!(known("Twice"), known("twice"));
        (0..100).for_each(|number| assert!(icons.of_window(&format!("x{number}")).is_empty()));
        assert_eq!(icons.known.len(), MOST_KNOWN);
        apps.remove("n");
        apps.remove("b");
        assert_eq!(apps.get("b"), None);
        assert_eq!(apps.get("a").unwrap().digest, 7);
    }

    #[test]
    fn large_apps_are_stored_until_there_are_too_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut apps = Apps::of(&Folders::below(dir.path()).unwrap().machine(&"m".parse().unwrap()));
        let large = |id: String| {
            let mut large = app(&id, "Large");
            large.app.icons = vec![vec![7; limits::APP_ICON]; limits::ICONS];
            large
        };
        let stored = (0..limits::APPS).take_while(|n| apps.put(&large(format!("a{n}"))).is_ok()).count();
        assert!((100..limits::APPS).contains(&stored), "{stored}");
        let files = fs::read_dir(apps.folder()).unwrap().flatten();
        let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= MOST_BYTES, "{bytes}");
        assert_eq!(apps.each().count(), stored);
        assert!(apps.put(&app("small", "Small")).is_ok(), "what there is room for");
    }
}
