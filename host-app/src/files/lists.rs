//! Lists of files on their way between host and guest: paths in shared folders become those of the other side, what of the host is
//! in none is granted alone, and what of the guest is in none is copied ([`super::copies`]).
//!
//! A list waits for the file server, or for a copy, so each is worked on by a thread of its own between two pipes.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inlay_exchange::files::{Entry, FileList, MOST, is_plain};
use inlay_exchange::pipe::Pipe;
use inlay_exchange::transfer::IDLE;
use inlay_protocol::copying::check_path;
use inlay_protocol::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::copies::store::Store;
use super::copies::{Copies, Source};
use super::hold;
use crate::machine::Sockets;
use crate::paths::{Folders, MachineName};
use crate::process::one_line;
use crate::shares::{GUEST_PLACE, Shares};

/// Files of one list that are granted alone; who has more should share their folder.
const MOST_GRANTS: usize = 256;

/// How lists of files of one machine are translated.
#[derive(Debug, Clone)]
pub struct FileLists {
    folders: Folders,
    name: MachineName,
}

impl FileLists {
    /// Those of this machine.
    #[must_use]
    pub fn new(folders: Folders, name: MachineName) -> Self {
        Self { folders, name }
    }

    /// Whether the machine has a file server.
    #[must_use]
    pub fn is_served(&self) -> bool {
        Sockets::new(self.folders.machine(&self.name).runtime()).files().exists()
    }

    /// What an app of the host writes into `list` comes out of the pipe that is given, for an app of the guest.
    ///
    /// # Errors
    /// The system has no pipe or thread left.
    pub fn into_guest(&self, kind: &str, list: Pipe, read_only: bool) -> io::Result<Pipe> {
        let (read, write) = Pipe::pair()?;
        let (this, of) = (self.clone(), kind.to_owned());
        translate(list, write, move |bytes| this.list_into_guest(&of, bytes, read_only))?;
        Ok(read)
    }

    /// What the guest writes into the pipe that is given goes into `list`, for an app of the host, once what it names is here.
    ///
    /// # Errors
    /// The system has no pipe or thread left.
    pub fn out_of_guest(&self, kind: &str, list: Pipe, copies: &Copies, source: Source) -> io::Result<Pipe> {
        let (read, write) = Pipe::pair()?;
        let (this, of, copies) = (self.clone(), kind.to_owned(), copies.clone());
        std::thread::Builder::new().name("files".into()).spawn(move || {
            let mut copied = false;
            let copy = |paths: &[PathBuf]| {
                copied = true;
                if paths.len() > limits::COPY_CHOSEN {
                    copies.say(
                        "the files were not copied: they are too many at once, copy their folder instead",
                    );
                    return None;
                }
                copies.fetch(source, paths)
            };
            list.set_at_work(true);
            let bytes = read_all(&read).and_then(|bytes| this.list_out_of_guest(&of, bytes, copy));
            list.set_at_work(false);
            let taken = bytes.as_ref().and_then(|bytes| write_all(&list, bytes));
            if taken.is_none() {
                list.cut_off();
            }
            if copied && bytes.is_some() {
                copies.given(source, taken.is_some());
            }
        })?;
        Ok(write)
    }

    /// Where copies of the guest's files are.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(&self.folders, &self.name)
    }

    fn shares(&self) -> Shares {
        Shares::read(&self.folders.shares(&self.name)).unwrap_or_else(|error| {
            tracing::warn!(%error, "no folder is known to be shared");
            Shares::default()
        })
    }

    fn list_into_guest(&self, kind: &str, bytes: Vec<u8>, read_only: bool) -> Option<Vec<u8>> {
        let mut list = match FileList::parse(kind, &bytes) {
            Some(list) => list,
            // What says that it is a list and is none is for nobody.
            None => return is_plain(kind).then_some(bytes),
        };
        let shares = self.shares();
        let mut alone: Vec<PathBuf> = Vec::new();
        for entry in &mut list.entries {
            let Entry::File(path) = entry else { continue };
            match shared(&shares, path) {
                Some(there) => *path = there,
                None => alone.push(path.clone()),
            }
        }
        if alone.is_empty() {
            list.entries.retain(|entry| matches!(entry, Entry::File(_)) || entry.is_global());
            return (!list.entries.is_empty()).then(|| list.format(kind));
        }
        if alone.len() > MOST_GRANTS {
            tracing::warn!("{} files at once are not given to the guest: share their folder", alone.len());
            return None;
        }
        // What is granted alone cannot be taken away from where it is.
        list.cut = false;
        let granted = hold::grant(&self.name, &alone, read_only).unwrap_or_else(|error| {
            tracing::warn!("files are not given to the guest: {}", one_line(&format!("{error:#}")));
            vec![None; alone.len()]
        });
        let found: Vec<(PathBuf, Option<PathBuf>)> = alone.into_iter().zip(granted).collect();
        list.entries.retain_mut(|entry| {
            let Entry::File(path) = entry else { return entry.is_global() };
            match found.iter().find(|(was, _)| was == path) {
                Some((_, Some(there))) => *path = there.clone(),
                Some((_, None)) => return false,
                None => {}
            }
            true
        });
        (!list.entries.is_empty()).then(|| list.format(kind))
    }

    /// `copy` says where copies of the guest's files are, or that there are none.
    fn list_out_of_guest(
        &self,
        kind: &str,
        bytes: Vec<u8>,
        copy: impl FnOnce(&[PathBuf]) -> Option<Vec<Option<PathBuf>>>,
    ) -> Option<Vec<u8>> {
        let mut list = match FileList::parse(kind, &bytes) {
            Some(list) => list,
            // What says that it is a list and is none is for nobody.
            None => return is_plain(kind).then_some(bytes),
        };
        let shares = self.shares();
        // What means something here, and the paths of what does not.
        let mut here: Vec<Option<Entry>> = Vec::new();
        let mut alone: Vec<PathBuf> = Vec::new();
        for entry in list.entries {
            match entry {
                Entry::File(path) => match own(&shares, &path) {
                    Some(path) => here.push(Some(Entry::File(path))),
                    None if check_path(path.as_os_str().as_bytes()).is_err() => {}
                    None => {
                        here.push(None);
                        alone.push(path);
                    }
                },
                uri if uri.is_global() => here.push(Some(uri)),
                Entry::Uri(_) => {}
            }
        }
        let mut copied = Vec::new().into_iter();
        if !alone.is_empty() {
            // What is copied is not taken away from where it is.
            list.cut = false;
            copied = copy(&alone)?.into_iter();
        }
        let entries = here.into_iter();
        list.entries =
            entries.filter_map(|entry| entry.or_else(|| copied.next().flatten().map(Entry::File))).collect();
        (!list.entries.is_empty()).then(|| list.format(kind))
    }
}

/// Where the guest finds a path of the host that is in a shared folder.
pub(super) fn shared(shares: &Shares, path: &Path) -> Option<PathBuf> {
    // The folder's true path, or another way there.
    let real = path.parent()?.canonicalize().ok()?.join(path.file_name()?);
    shares.iter().find_map(|folder| {
        let below = real.strip_prefix(&folder.path).ok()?;
        Some(below_of(&Path::new(GUEST_PLACE).join(&folder.name), below))
    })
}

/// Where the host finds a path of the guest that is in a shared folder: not where a link there leads out of it.
fn own(shares: &Shares, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(GUEST_PLACE).ok()?;
    let mut parts = below.components();
    let name = parts.next()?.as_os_str();
    let folder = shares.iter().find(|folder| name == folder.name.as_str())?;
    let here = below_of(&folder.path, parts.as_path());
    let real = here.canonicalize().ok()?;
    real.starts_with(&folder.path).then_some(here)
}

/// A path below another, or that one itself.
fn below_of(folder: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { folder.into() } else { folder.join(below) }
}

/// Has a thread read all that comes, work on it, and write what comes of it; nothing comes of what was cut off, or is too long.
fn translate(
    from: Pipe,
    to: Pipe,
    work: impl FnOnce(Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> io::Result<()> {
    std::thread::Builder::new().name("files".into()).spawn(move || {
        let done = read_all(&from).and_then(work).and_then(|bytes| write_all(&to, &bytes));
        if done.is_none() {
            to.cut_off();
        }
    })?;
    Ok(())
}

fn read_all(from: &Pipe) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = [0; 1 << 14];
    loop {
        match rustix::io::read(&from.fd, &mut piece) {
            Ok(0) => return (!from.is_cut_off()).then_some(all),
            Ok(count) => {
                all.extend_from_slice(piece.get(..count)?);
                if all.len() > MOST {
                    return None;
                }
            }
            Err(Errno::AGAIN) => ready(from, PollFlags::IN)?,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

fn write_all(to: &Pipe, bytes: &[u8]) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&to.fd, rest) {
            Ok(count) => rest = rest.get(count..)?,
            Err(Errno::AGAIN) => ready(to, PollFlags::OUT)?,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

/// Waits; nothing when it takes too long.
fn ready(pipe: &Pipe, what: PollFlags) -> Option<()> {
    const PATIENCE: Duration = IDLE;
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut [PollFd::new(&pipe.fd, what)], Some(&patience)) {
        Ok(0) => None,
        Ok(_) | Err(Errno::INTR) => Some(()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn paths_in_shared_folders_are_translated_both_ways() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("docs/sub")).unwrap();
        fs::create_dir_all(root.join("docs2")).unwrap();
        fs::write(root.join("docs/sub/a b"), "").unwrap();
        fs::write(root.join("secret"), "").unwrap();
        std::os::unix::fs::symlink("docs", root.join("way")).unwrap();
        std::os::unix::fs::symlink("../secret", root.join("docs/link")).unwrap();
        std::os::unix::fs::symlink("sub", root.join("docs/inner")).unwrap();
        let mut shares = Shares::default();
        shares.add(root.join("docs"), Some("Documents"), true).unwrap();
        let there = |path: &str| shared(&shares, &root.join(path)).map(|p| p.to_str().unwrap().to_owned());
        assert_eq!(there("docs/sub/a b").as_deref(), Some("/media/host/Documents/sub/a b"));
        assert_eq!(there("way/sub/a b").as_deref(), Some("/media/host/Documents/sub/a b"));
        assert_eq!(there("docs").as_deref(), Some("/media/host/Documents"));
        assert_eq!(there("docs2"), None);
        assert_eq!(there("secret"), None);
        let here = |path: &str| own(&shares, Path::new(path));
        assert_eq!(here("/media/host/Documents/sub/a b"), Some(root.join("docs/sub/a b")));
        assert_eq!(here("/media/host/Documents/inner/a b"), Some(root.join("docs/inner/a b")));
        for not in [
            "/media/host/Documents/link",
            "/media/host/Documents/none",
            "/media/host/docs",
            "/media/host",
            "/etc",
        ] {
            assert_eq!(here(not), None, "{not}");
        }
    }

    #[test]
    fn no_spelling_of_a_path_of_the_guest_comes_out_as_one_of_the_host() {
        let root = tempfile::tempdir().unwrap();
        let lists = FileLists::new(Folders::below(root.path()).unwrap(), "work".parse().unwrap());
        let out = |kind: &str, text: &str| {
            lists.list_out_of_guest(kind, text.as_bytes().to_vec(), |paths| Some(vec![None; paths.len()]))
        };
        for uri in [
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "file://localhost/etc/passwd",
            "file:///media/host/../../etc/passwd",
            "/etc/passwd",
            "file:/etc/passwd",
            "file://%2fetc/passwd",
        ] {
            assert_eq!(out("text/uri-list", &format!("{uri}\r\n")), None, "{uri}");
            let manager = "x-special/gnome-copied-files";
            assert_eq!(out(manager, &format!("copy\n{uri}")), None, "{uri}");
            assert_eq!(out(manager, &format!("Copy\n{uri}")), None, "no list at all");
            assert_eq!(
                out("text/uri-list", &format!("{uri}\nhttps://x.org/")).unwrap(),
                b"https://x.org/\r\n"
            );
        }
        assert_eq!(out("application/x-kde-cutselection", "1").unwrap(), b"1");
    }

    #[test]
    fn what_is_copied_takes_its_place_in_the_list() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (folders, name) = (Folders::below(&root).unwrap(), "work".parse().unwrap());
        let docs = root.join("docs");
        fs::create_dir(&docs).unwrap();
        fs::write(docs.join("a"), "").unwrap();
        let mut shares = Shares::default();
        shares.add(docs.clone(), Some("docs"), true).unwrap();
        shares.write(&folders.shares(&name)).unwrap();
        let lists = FileLists::new(folders, name);
        // A path of the guest may be spelt as one of the host.
        let same = docs.join("a").display().to_string();
        let text =
            format!("cut\nfile:///x\nfile:///media/host/docs/a\nfile://{same}\nhttps://x.org/\nfile:///y");
        let kind = "x-special/gnome-copied-files";
        let copy = |paths: &[PathBuf]| {
            assert_eq!(paths, ["/x", &same, "/y"].map(PathBuf::from));
            Some(vec![Some("/copied/x".into()), None, Some("/copied/2/y".into())])
        };
        let out = lists.list_out_of_guest(kind, text.clone().into(), copy).unwrap();
        let docs = docs.display();
        let expected = format!("copy\nfile:///copied/x\nfile://{docs}/a\nhttps://x.org/\nfile:///copied/2/y");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(lists.list_out_of_guest(kind, text.into(), |_| None), None, "a copy that fails");
        let shared = "cut\nfile:///media/host/docs/a";
        let out = lists.list_out_of_guest(kind, shared.into(), |_| panic!("nothing is to be copied"));
        assert_eq!(String::from_utf8(out.unwrap()).unwrap(), format!("cut\nfile://{docs}/a"));
    }

    #[test]
    fn what_is_cut_off_or_too_long_comes_to_nothing() {
        let through = |bytes: &[u8], cut: bool| {
            let (read, write) = Pipe::pair().unwrap();
            let (result, out) = Pipe::pair().unwrap();
            translate(read, out, |bytes| Some([b"<", bytes.as_slice(), b">"].concat())).unwrap();
            let _ = write_all(&write, bytes);
            if cut {
                write.cut_off();
            }
            drop(write);
            read_all(&result)
        };
        assert_eq!(through(b"abc", false).as_deref(), Some(&b"<abc>"[..]));
        assert_eq!(through(&vec![7; 1 << 20], false).map(|bytes| bytes.len()), Some((1 << 20) + 2));
        assert_eq!(through(b"abc", true), None);
        assert_eq!(through(&vec![7; MOST + 1], false), None);
    }
}
