//! Where copies of the guest's files are on the host: `$XDG_CACHE_HOME/inlay/copied/MACHINE/NUMBER/`, a folder for each paste or drop, which
//! the confined machine process cannot reach.
//!
//! Nobody says when a file manager, or an app that a file was dropped on, is done with it. So a copy stays for a day ([`KEEP`]), also when the
//! machine ends; where space is needed, an hour ([`LEAST`]), the oldest first. One in which something was changed since it came is somebody's
//! work: it stays until the machine is deleted. `NUMBER.done`, beside the folder, says since when it is whole, and holds its size.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::unpack::Room;
use crate::paths::{Folders, MachineName};

/// How long a copy stays.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How long it stays where space is needed.
pub const LEAST: Duration = Duration::from_secs(3600);
/// What a copy leaves free of a disk, in bytes.
const RESERVE: u64 = 1 << 30;
/// A change so soon after the end of a copy is the copy's own.
const SAME: i64 = 2;

/// The copies of one machine.
#[derive(Debug, Clone)]
pub struct Store {
    /// Those of all machines.
    all: PathBuf,
    own: PathBuf,
}

/// A folder for what is being copied; gone with it, unless it is kept.
#[derive(Debug)]
pub struct Arriving {
    folder: PathBuf,
    kept: bool,
}

impl Store {
    /// Those of this machine.
    #[must_use]
    pub fn new(folders: &Folders, name: &MachineName) -> Self {
        Self { all: folders.all_copied(), own: folders.copied(name) }
    }

    /// What nobody will end any more, before anything is begun.
    pub fn left(&self) -> Vec<PathBuf> {
        listed(&self.own).into_iter().filter(|path| has_end(path, "part")).collect()
    }

    /// Removes that, and what is old of any machine.
    pub fn tidy(&self, left: &[PathBuf]) {
        left.iter().for_each(|part| removed(part));
        for machine in listed(&self.all) {
            sweep(&machine, KEEP, || true);
        }
    }

    /// A new folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(&self) -> io::Result<Arriving> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.own)?;
        let numbers = listed(&self.own).into_iter().filter_map(|path| number(&path));
        let mut next = numbers.max().unwrap_or(0) + 1;
        loop {
            let folder = self.own.join(format!("{next}.part"));
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Arriving { folder, kept: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => next += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.own).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Bytes of the copies that are there.
    fn kept(&self) -> u64 {
        let size = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let done = listed(&self.own).into_iter().filter(|path| has_end(path, "done"));
        done.filter_map(|path| size(&path)).fold(0, u64::saturating_add)
    }
}

impl Room for Store {
    /// No more than leaves the reserve, and than half of what would be free without any copy of this machine: whatever a guest has copied, and
    /// however often.
    fn most(&self, need: u64) -> u64 {
        let most = || {
            let (free, kept) = (self.free(), self.kept());
            free.saturating_sub(RESERVE).min((free.saturating_add(kept) / 2).saturating_sub(kept))
        };
        if need > most() {
            sweep(&self.own, LEAST, || need > most());
        }
        most()
    }

    fn is_short(&self) -> bool {
        self.free() < RESERVE
    }
}

impl Arriving {
    /// Where it is made.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// It is whole, and takes so many bytes: where it is from now on.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn keep(mut self, bytes: u64) -> io::Result<PathBuf> {
        let place = self.folder.with_extension("");
        fs::rename(&self.folder, &place)?;
        self.folder.clone_from(&place);
        fs::write(place.with_extension("done"), format!("{bytes}\n"))?;
        self.kept = true;
        Ok(place)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.kept {
            removed(&self.folder);
        }
    }
}

/// What is in a folder, if it is there.
fn listed(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension() == Some(OsStr::new(end))
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn removed(folder: &Path) {
    // `remove_dir_all` follows no link.
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a copy cannot be removed: {}", folder.display());
    }
}

/// Removes copies that are older, the oldest first, while it goes on.
fn sweep(own: &Path, age: Duration, goes_on: impl Fn() -> bool) {
    let done = listed(own).into_iter().filter(|path| has_end(path, "done"));
    let mut old: Vec<(SystemTime, i64, PathBuf)> = done
        .filter_map(|path| {
            let found = fs::metadata(&path).ok()?;
            let since = found.modified().ok()?;
            (since.elapsed().ok()? >= age).then(|| (since, found.mtime(), path))
        })
        .collect();
    old.sort();
    for (_, whole, mark) in old {
        let folder = mark.with_extension("");
        if goes_on() && !changed_since(&folder, whole + SAME) {
            removed(&folder);
            let _ = fs::remove_file(&mark);
        }
    }
}

/// Whether something below a folder was changed, or made, after this second.
fn changed_since(folder: &Path, second: i64) -> bool {
    listed(folder).into_iter().any(|path| {
        let Ok(found) = fs::symlink_metadata(&path) else { return true };
        // A name that is moved away changes its folder only: what is left is nobody's work.
        let changed = !found.is_dir() && found.ctime() > second;
        changed || (found.is_dir() && changed_since(&path, second))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        (root, Store::new(&folders, &"work".parse().unwrap()))
    }

    fn kept(store: &Store, text: &str) -> PathBuf {
        let arriving = store.begin().unwrap();
        fs::create_dir(arriving.folder().join("folder")).unwrap();
        fs::write(arriving.folder().join("folder/letter"), text).unwrap();
        arriving.keep(text.len() as u64).unwrap()
    }

    /// As if the copy had ended so long ago.
    fn aged(place: &Path, by: Duration) {
        let mark = fs::File::options().write(true).open(place.with_extension("done")).unwrap();
        mark.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn what_is_not_kept_goes_and_numbers_are_not_used_twice() {
        let (_root, store) = store();
        let first = kept(&store, "a");
        assert!(first.ends_with("copied/work/1"));
        let arriving = store.begin().unwrap();
        let part = arriving.folder().to_owned();
        assert!(part.ends_with("copied/work/2.part"));
        fs::write(part.join("half"), "").unwrap();
        drop(arriving);
        assert!(!part.exists());
        // One that a process left that is no more.
        std::mem::forget(store.begin().unwrap());
        assert!(kept(&store, "b").ends_with("copied/work/3"));
        store.tidy(&store.left());
        assert!(!part.exists() && first.exists());
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o700);
        assert_eq!(store.kept(), 2);
    }

    #[test]
    fn old_copies_go_but_not_what_somebody_works_on() {
        let (_root, store) = store();
        let [old, new, work, moved] = ["old", "new", "work", "moved"].map(|text| kept(&store, text));
        for place in [&old, &work, &moved] {
            // What is in it has the time of now, which is after that of the mark: as if it was changed.
            aged(place, KEEP + Duration::from_secs(60));
        }
        store.tidy(&store.left());
        assert!([&old, &new, &work, &moved].iter().all(|place| place.exists()), "all of them are worked on");
        // A file of now is no work where the mark has the same time.
        let whole = fs::metadata(old.join("folder/letter")).unwrap().ctime();
        assert!(!changed_since(&old, whole + SAME) && changed_since(&work, whole - 1));
        fs::remove_file(old.join("folder/letter")).unwrap();
        fs::remove_file(moved.join("folder/letter")).unwrap();
        store.tidy(&store.left());
        assert!(!old.exists() && !moved.exists() && new.exists() && work.exists());
        assert!(!old.with_extension("done").exists());
    }

    #[test]
    fn a_copy_takes_no_more_than_the_disk_has() {
        let (_root, store) = store();
        kept(&store, "a");
        let free = store.free();
        assert!(store.most(0) <= free / 2 + 1 && store.most(0) <= free.saturating_sub(RESERVE));
        assert!(store.most(u64::MAX) < u64::MAX);
    }
}
