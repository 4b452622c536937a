//! Where desktop files and icons lie: found, read with limits, and watched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use inlay_protocol::catalogue::is_id;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

/// Desktop files that are looked at.
const MOST_FILES: usize = 8192;
/// Folders in folders, for desktop files.
const DEPTH: usize = 4;
/// Bytes of a desktop file.
const MOST_BYTES: u64 = 512 * 1024;
/// Folders that are watched.
const MOST_WATCHES: usize = 256;

/// Folders of data, the first before the later ones.
#[derive(Debug, Clone)]
pub struct DataFolders(Vec<PathBuf>);

impl DataFolders {
    /// Those of the environment (XDG Base Directory Specification), and those in which app stores put theirs.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/".into());
        let own = set("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
        let all = set("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
        let mut folders = vec![own.clone()];
        folders.extend(std::env::split_paths(&all));
        folders.extend([own.join("flatpak/exports/share"), "/var/lib/flatpak/exports/share".into()]);
        folders.push("/var/lib/snapd/desktop".into());
        folders.retain(|folder| folder.is_absolute());
        let mut seen = Vec::new();
        folders.retain(|folder| {
            !seen.contains(folder) && {
                seen.push(folder.clone());
                true
            }
        });
        Self(folders)
    }

    /// These.
    #[cfg(test)]
    pub fn of(folders: &[&Path]) -> Self {
        Self(folders.iter().map(|folder| folder.to_path_buf()).collect())
    }

    /// Each, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }

    /// All desktop files by their id: the first folder that has one counts. Ids that the host could not take are left out.
    pub fn desktop_files(&self) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        let mut left = MOST_FILES;
        for folder in self.iter() {
            collect(&folder.join("applications"), "", DEPTH, &mut left, &mut found);
        }
        if left == 0 {
            tracing::warn!(most = MOST_FILES, "there are more desktop files than are looked at");
        }
        found
    }
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    left: &mut usize,
    found: &mut BTreeMap<String, PathBuf>,
) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if let Some(id) = name.strip_suffix(".desktop") {
            let id = format!("{prefix}{id}");
            if is_id(&id) {
                found.entry(id).or_insert(path);
            }
        } else if depth > 1 && path.is_dir() {
            collect(&path, &format!("{prefix}{name}-"), depth - 1, left, found);
        }
    }
}

/// The bytes of a regular file that is not longer than `most`.
pub fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    // A pipe in its place must not be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let info = file.metadata().ok()?;
    if !info.is_file() || info.len() > most {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// The text of a desktop file, or of a theme's index.
pub fn read_text(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&read(path, MOST_BYTES)?).into_owned())
}

/// Tells when something in the folders changes.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Watches from now on. A folder that is missing is waited for.
    ///
    /// # Errors
    /// The system has no such thing left.
    pub fn watch(folders: &DataFolders) -> std::io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let change = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        let change = change | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let mut wanted = Vec::new();
        for folder in folders.iter() {
            below(&folder.join("applications"), DEPTH, &mut wanted);
            wanted.extend([folder.join("icons/hicolor"), folder.join("pixmaps")]);
        }
        let mut watched: Vec<PathBuf> = Vec::new();
        for folder in wanted {
            let there =
                folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned();
            if watched.len() < MOST_WATCHES && !watched.contains(&there) {
                if let Err(error) = inotify::add_watch(&fd, &there, change) {
                    tracing::debug!(folder = %there.display(), %error, "a folder cannot be watched");
                }
                watched.push(there);
            }
        }
        Ok(Self(fd))
    }

    /// Takes what was told; whether there was something.
    pub fn take(&self) -> bool {
        let mut bytes = [0; 4096];
        let mut any = false;
        while matches!(rustix::io::read(&self.0, &mut bytes), Ok(count) if count > 0) {
            any = true;
        }
        any
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A folder and all in it; itself as well where it is missing.
fn below(folder: &Path, depth: usize, all: &mut Vec<PathBuf>) {
    all.push(folder.to_owned());
    if depth <= 1 || all.len() > MOST_WATCHES {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_FILES) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), depth - 1, all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn the_first_folder_counts_and_only_good_ids() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write(&one.join("applications/a.desktop"));
        write(&two.join("applications/a.desktop"));
        write(&two.join("applications/kde/deep/b.desktop"));
        write(&two.join("applications/a b.desktop"));
        write(&two.join("applications/-x.desktop"));
        write(&two.join("applications/mimeinfo.cache"));
        std::os::unix::fs::symlink(&two, two.join("applications/loop")).unwrap();
        let found = DataFolders(vec![one.clone(), two]).desktop_files();
        let names: Vec<&str> =
            found.keys().map(String::as_str).filter(|id| !id.starts_with("loop")).collect();
        assert_eq!(names, ["a", "kde-deep-b"]);
        assert!(found["a"].starts_with(one));
        assert!(found.len() < 20, "a link to itself ends");
    }

    #[test]
    fn only_plain_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file);
        assert_eq!(read(&file, 1).as_deref(), Some(&b"x"[..]));
        assert_eq!(read(&file, 0), None);
        assert_eq!(read(dir.path(), 100), None);
        assert_eq!(read(Path::new("/dev/zero"), 100), None);
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read(&pipe, 100), None, "without waiting");
    }

    #[test]
    fn a_folder_that_comes_later_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = DataFolders(vec![dir.path().join("share")]);
        let changes = Changes::watch(&folders).unwrap();
        assert!(!changes.take());
        std::fs::create_dir_all(dir.path().join("share/applications")).unwrap();
        assert!(changes.take());
        let changes = Changes::watch(&folders).unwrap();
        write(&dir.path().join("share/applications/a.desktop"));
        assert!(changes.take() && !changes.take());
    }
}
