//! Files of the guest that are copied to the host ([`inlay_protocol::copying`]): read by a thread of their own, which writes into the pipe of a
//! transfer ([`crate::exchange`]), as fast as the host takes them.
//!
//! Symbolic links that were chosen are followed; those in a chosen folder are sent as links, and the host says which it makes. Nothing is held
//! in memory but one piece of a file, and the folders that are open.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_protocol::copying::{Item, Left, Node};
use inlay_protocol::{framing, limits};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

/// So often the host hears how much was found.
const SAY: Duration = Duration::from_millis(200);

/// Has a thread copy files and folders into a pipe. One that goes early ends it.
///
/// # Errors
/// The system has no thread left.
pub fn begin(paths: Vec<PathBuf>, pipe: Pipe) -> io::Result<()> {
    std::thread::Builder::new().name("copy".into()).spawn(move || {
        let out = BufWriter::with_capacity(limits::CHUNK, File::from(pipe.into_fd()));
        if let Err(error) = copy(&paths, out) {
            tracing::debug!(%error, "a copy of files to the host ends early");
        }
    })?;
    Ok(())
}

/// All of it.
fn copy(paths: &[PathBuf], out: impl Write) -> io::Result<()> {
    let mut copier = Copier { out, files: 0, bytes: 0, said: Instant::now() };
    for path in paths {
        if let Ok(real) = path.canonicalize() {
            copier.count(&real, 0)?;
        }
    }
    copier.say_found()?;
    for (number, path) in (0..).zip(paths) {
        copier.put(&Item::Chosen(number))?;
        match path.canonicalize() {
            // Under the name that it was chosen by.
            Ok(real) => copier.any(&real, path.file_name().unwrap_or(OsStr::new("files")), 0)?,
            Err(_) => copier.leave(path, Left::Unreadable)?,
        }
    }
    copier.put(&Item::Done)?;
    copier.out.flush()
}

struct Copier<W> {
    out: W,
    files: u64,
    bytes: u64,
    said: Instant,
}

impl<W: Write> Copier<W> {
    fn put(&mut self, item: &Item) -> io::Result<()> {
        self.out.write_all(&framing::encode(item).map_err(io::Error::other)?)
    }

    fn leave(&mut self, path: &Path, why: Left) -> io::Result<()> {
        tracing::debug!("not copied to the host ({why:?}): {}", path.display());
        self.put(&Item::Left(why))
    }

    fn say_found(&mut self) -> io::Result<()> {
        self.said = Instant::now();
        self.put(&Item::Found { files: self.files, bytes: self.bytes })?;
        self.out.flush()
    }

    /// Counts what is there; what cannot be read is told when it is its turn.
    fn count(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
        self.files += 1;
        if found.is_file() {
            self.bytes = self.bytes.saturating_add(found.len());
        }
        if self.said.elapsed() >= SAY {
            self.say_found()?;
        }
        if found.is_dir() && depth < limits::COPY_DEPTH {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.count(&entry.path(), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Whatever is there, which is called so.
    fn any(&mut self, path: &Path, name: &OsStr, depth: usize) -> io::Result<()> {
        let Ok(found) = fs::symlink_metadata(path) else { return self.leave(path, Left::Unreadable) };
        let kind = found.file_type();
        if kind.is_file() {
            self.file(path, name)
        } else if kind.is_dir() {
            self.folder(path, node(name, &found), depth)
        } else if kind.is_symlink() {
            let Ok(target) = fs::read_link(path) else { return self.leave(path, Left::Unreadable) };
            let target = target.into_os_string().into_vec();
            self.put(&Item::Link { name: name.as_bytes().to_vec(), target })
        } else {
            self.leave(path, Left::Special)
        }
    }

    fn folder(&mut self, path: &Path, node: Node, depth: usize) -> io::Result<()> {
        if depth >= limits::COPY_DEPTH {
            return self.leave(path, Left::Deep);
        }
        let Ok(entries) = fs::read_dir(path) else { return self.leave(path, Left::Unreadable) };
        self.put(&Item::Folder(node))?;
        for entry in entries {
            match entry {
                Ok(entry) => self.any(&entry.path(), &entry.file_name(), depth + 1)?,
                Err(_) => {
                    self.leave(path, Left::Unreadable)?;
                    break;
                }
            }
        }
        self.put(&Item::Close)
    }

    fn file(&mut self, path: &Path, name: &OsStr) -> io::Result<()> {
        // It may have become something else since: a link is not followed, nothing that has no writer is waited for.
        let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let opened = OpenOptions::new().read(true).custom_flags(careful.cast_signed()).open(path);
        let Ok((file, found)) = opened.and_then(|file| file.metadata().map(|found| (file, found))) else {
            return self.leave(path, Left::Unreadable);
        };
        if !found.is_file() {
            return self.leave(path, Left::Special);
        }
        self.put(&Item::File(node(name, &found)))?;
        let whole = self.content(&file)?;
        self.put(if whole { &Item::Close } else { &Item::Broken })
    }

    /// What is in a file; whether all of it could be read.
    fn content(&mut self, file: &File) -> io::Result<bool> {
        let mut piece = vec![0; limits::CHUNK];
        let mut at: u64 = 0;
        while let Some((start, end)) = extent(file, at) {
            if start > at {
                self.put(&Item::Hole(start - at))?;
                at = start;
            }
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
                match file.read_at(&mut piece[..most], at) {
                    Ok(0) => return Ok(true),
                    Ok(count) => {
                        self.put(&Item::Data(piece[..count].to_vec()))?;
                        at += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Ok(false),
                }
            }
        }
        // No byte is stored from here on.
        let length = file.metadata().map_or(at, |found| found.len());
        if length > at {
            self.put(&Item::Hole(length - at))?;
        }
        Ok(true)
    }
}

/// The next bytes that are stored, from where on and until where; nothing where there are none.
fn extent(file: &File, at: u64) -> Option<(u64, u64)> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Some((start, rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(u64::MAX))),
        Err(Errno::NXIO) => None,
        // Not known there.
        Err(_) => Some((at, u64::MAX)),
    }
}

fn node(name: &OsStr, found: &Metadata) -> Node {
    Node {
        name: name.as_bytes().to_vec(),
        executable: found.permissions().mode() & 0o111 != 0,
        modified: (found.mtime(), u32::try_from(found.mtime_nsec()).unwrap_or(0)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn items(paths: &[PathBuf]) -> Vec<Item> {
        let mut bytes = Vec::new();
        copy(paths, &mut bytes).unwrap();
        let mut decoder = framing::Decoder::default();
        decoder.push(&bytes);
        let mut items = Vec::new();
        while let Some(item) = decoder.next_message::<Item>().unwrap() {
            items.push(item);
        }
        assert!(decoder.is_empty());
        items
    }

    /// One line for each, without times.
    fn words(items: &[Item]) -> Vec<String> {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let word = |item: &Item| match item {
            Item::File(node) => {
                format!("file {}{}", text(&node.name), if node.executable { "*" } else { "" })
            }
            Item::Folder(node) => format!("folder {}", text(&node.name)),
            Item::Link { name, target } => format!("link {} -> {}", text(name), text(target)),
            Item::Data(bytes) => format!("data {}", text(bytes)),
            other => format!("{other:?}"),
        };
        items.iter().map(word).collect()
    }

    #[test]
    fn files_folders_and_links_are_sent_by_any_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let odd = root.path().join(OsStr::from_bytes(b"o\xffd\nd"));
        fs::create_dir(&odd).unwrap();
        fs::write(at("letter"), "dear").unwrap();
        fs::set_permissions(at("letter"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", odd.join("out")).unwrap();
        symlink("letter", at("way")).unwrap();
        let sent = items(&[at("letter"), odd, at("way"), at("gone")]);
        let expected = [
            "Found { files: 4, bytes: 8 }",
            "Chosen(0)",
            "file letter*",
            "data dear",
            "Close",
            "Chosen(1)",
            "folder o\\xffd\\nd",
            "link out -> /etc/passwd",
            "Close",
            "Chosen(2)",
            "file way*",
            "data dear",
            "Close",
            "Chosen(3)",
            "Left(Unreadable)",
            "Done",
        ];
        assert_eq!(words(&sent), expected);
        let Item::File(node) = &sent[2] else { panic!("{sent:?}") };
        assert_eq!(node.modified.0, fs::metadata(at("letter")).unwrap().mtime());
    }

    #[test]
    fn what_is_no_file_or_lies_too_deep_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(words(&items(&[pipe]))[2], "Left(Special)");
        let mut deep = root.path().join("deep");
        let top = deep.clone();
        for _ in 0..limits::COPY_DEPTH + 3 {
            fs::create_dir(&deep).unwrap();
            deep.push("d");
        }
        let sent = items(&[top]);
        let count = |which: fn(&Item) -> bool| sent.iter().filter(|item| which(item)).count();
        assert_eq!(count(|item| matches!(item, Item::Folder(_))), limits::COPY_DEPTH);
        assert_eq!(count(|item| *item == Item::Left(Left::Deep)), 1);
        assert_eq!(count(|item| *item == Item::Close), limits::COPY_DEPTH);
    }

    #[test]
    fn content_comes_in_pieces_and_holes_are_not_sent() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("sparse");
        let file = File::create(&path).unwrap();
        let bytes: Vec<u8> = (0..251).cycle().take(limits::CHUNK * 2 + 5).collect();
        file.write_all_at(&bytes, 0).unwrap();
        file.write_all_at(b"end", 64 << 20).unwrap();
        file.set_len(96 << 20).unwrap();
        let sent = items(std::slice::from_ref(&path));
        let (mut data, mut length) = (0, 0);
        for item in &sent {
            match item {
                Item::Data(piece) => {
                    let mut there = vec![0; piece.len()];
                    file_at(&path, length, &mut there);
                    assert!(there == *piece);
                    (data, length) = (data + piece.len() as u64, length + piece.len() as u64);
                }
                Item::Hole(bytes) => length += bytes,
                _ => {}
            }
        }
        assert_eq!(length, 96 << 20);
        assert!(data < 2 << 20, "{data} bytes were sent");
        assert!(words(&items(&[PathBuf::from("/proc/self/stat")]))[3].starts_with("data "));
    }

    fn file_at(path: &Path, at: u64, bytes: &mut [u8]) {
        File::open(path).unwrap().read_exact_at(bytes, at).unwrap();
    }

    #[test]
    fn who_reads_no_more_ends_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("large");
        File::create(&path).unwrap().set_len(1).unwrap();
        fs::write(&path, vec![7; 4 << 20]).unwrap();
        let (read, write) = Pipe::pair().unwrap();
        let thread = std::thread::spawn(move || copy(&[path], File::from(write.into_fd())));
        drop(read);
        assert_eq!(thread.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
