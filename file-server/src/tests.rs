//! A guest that speaks FUSE by hand, well-behaved and not.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use inlay_vmm_core::confine::{Thread, confine};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::abi::{self, Args, Body, IN_HEADER, OUT_HEADER, ROOT, opcode};
use crate::server::{Message, Server};
use crate::shares::{Refused, Share};
use crate::{Owner, ShareId};

const GUEST: (u32, u32) = (1000, 1000);

/// A request with its answer, in bytes of this process.
struct Bytes {
    request: Vec<u8>,
    at: usize,
    answer: Vec<u8>,
    written: usize,
}

impl Message for Bytes {
    fn left(&self) -> usize {
        self.request.len() - self.at
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.request.get(self.at..self.at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        self.at += out.len();
        Ok(())
    }

    fn room(&self) -> usize {
        self.answer.len() - self.written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.answer[self.written..self.written + bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len();
        Ok(())
    }

    fn write_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize) -> io::Result<usize> {
        let written =
            rustix::io::pwritev(file, &[io::IoSlice::new(&self.request[self.at..self.at + length])], at)?;
        self.at += written;
        Ok(written)
    }

    fn read_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize, skip: usize) -> io::Result<usize> {
        let start = self.written + skip;
        let mut answer = [io::IoSliceMut::new(&mut self.answer[start..start + length])];
        Ok(rustix::io::preadv(file, &mut answer, at)?)
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
    }
}

struct Guest {
    server: Server,
    host: tempfile::TempDir,
    share: ShareId,
    top: u64,
}

fn hold(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn share(name: &str, path: &Path) -> Share {
    Share { name: name.into(), root: hold(path), read_only: false, granted: false }
}

/// A name as requests have it.
fn name(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

impl Guest {
    /// A guest with one share, `work`, of a folder in `host` beside which `secret` lies.
    fn new() -> Self {
        let host = tempfile::tempdir().unwrap();
        let folder = host.path().join("shared");
        fs::create_dir(&folder).unwrap();
        fs::write(host.path().join("secret"), "secret").unwrap();
        let mut server = Server::new(Owner::new(GUEST), 1024);
        let id = server.add(share("work", &folder)).unwrap();
        let mut guest = Self { server, host, share: id, top: 0 };
        guest.top = guest.lookup(ROOT, b"work").unwrap().0;
        guest
    }

    fn path(&self, below: &str) -> PathBuf {
        self.host.path().join("shared").join(below)
    }

    /// The answer as it is: empty where there is none.
    fn raw(&mut self, bytes: Vec<u8>, room: usize) -> Vec<u8> {
        let mut message = Bytes { request: bytes, at: 0, answer: vec![0; room], written: 0 };
        // As in its process: any system call that is not on its list ends this one.
        let server = &mut self.server;
        let serve = || {
            confine(Thread::Files).unwrap();
            server.serve(&mut message);
        };
        std::thread::scope(|scope| scope.spawn(serve).join().unwrap());
        message.answer.truncate(message.written);
        message.answer
    }

    fn ask(&mut self, opcode: u32, node: u64, arguments: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = u32::try_from(IN_HEADER + arguments.len()).unwrap();
        let header = Body::default().u32(length).u32(opcode).u64(7).u64(node).zeroes(16);
        let answer = self.raw(header.bytes(arguments).0, 1 << 16);
        let mut args = Args(&answer);
        let (length, error, unique) = (args.u32().unwrap(), args.u32().unwrap(), args.u64().unwrap());
        assert_eq!((length as usize, unique), (answer.len(), 7));
        match error.cast_signed() {
            0 => Ok(answer[OUT_HEADER..].to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    /// Node and mode.
    fn lookup(&mut self, parent: u64, what: &[u8]) -> Result<(u64, u32), Errno> {
        self.ask(opcode::LOOKUP, parent, &name(what)).map(|entry| told(&entry))
    }

    fn open(&mut self, node: u64, flags: OFlags) -> Result<u64, Errno> {
        let body = Body::default().u32(flags.bits()).u32(0);
        self.ask(opcode::OPEN, node, &body.0).map(|answer| Args(&answer).u64().unwrap())
    }

    fn create(&mut self, parent: u64, what: &[u8], flags: OFlags, mode: u32) -> Result<(u64, u64), Errno> {
        let flags = flags | OFlags::CREATE;
        let body = Body::default().u32(flags.bits()).u32(mode).u32(0).u32(0).bytes(&name(what));
        let answer = self.ask(opcode::CREATE, parent, &body.0)?;
        Ok((told(&answer).0, Args(&answer[abi::ENTRY..]).u64().unwrap()))
    }

    fn read(&mut self, handle: u64, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let body = Body::default().u64(handle).u64(at).u32(size).zeroes(20);
        self.ask(opcode::READ, 0, &body.0)
    }

    fn write(&mut self, handle: u64, at: u64, data: &[u8]) -> Result<u32, Errno> {
        let size = u32::try_from(data.len()).unwrap();
        let body = Body::default().u64(handle).u64(at).u32(size).zeroes(20).bytes(data);
        self.ask(opcode::WRITE, 0, &body.0).map(|answer| Args(&answer).u32().unwrap())
    }

    fn list(&mut self, node: u64, plus: bool, size: u32) -> Result<Vec<(Vec<u8>, u64)>, Errno> {
        let handle = self.ask(opcode::OPENDIR, node, &[0; 8])?;
        let handle = Args(&handle).u64().unwrap();
        let (mut names, mut at) = (Vec::new(), 0);
        loop {
            let kind = if plus { opcode::READDIRPLUS } else { opcode::READDIR };
            let body = Body::default().u64(handle).u64(at).u32(size).zeroes(20);
            let answer = self.ask(kind, node, &body.0)?;
            let mut rest = answer.as_slice();
            while !rest.is_empty() {
                let mut node = 0;
                if plus {
                    node = Args(rest).u64().unwrap();
                    rest = &rest[abi::ENTRY..];
                }
                let mut args = Args(rest);
                let (_ino, next, length) = (args.u64().unwrap(), args.u64().unwrap(), args.u32().unwrap());
                at = next;
                let end = 24 + length as usize;
                names.push((rest[24..end].to_vec(), node));
                rest = &rest[end.next_multiple_of(8)..];
            }
            if answer.is_empty() {
                self.ask(opcode::RELEASEDIR, node, &Body::default().u64(handle).zeroes(16).0)?;
                return Ok(names);
            }
        }
    }

    fn setattr(&mut self, node: u64, valid: u32, change: impl Fn(&mut [u8])) -> Result<Vec<u8>, Errno> {
        let mut body = [0; 88];
        body[..4].copy_from_slice(&valid.to_le_bytes());
        change(&mut body);
        self.ask(opcode::SETATTR, node, &body)
    }

    fn rename(&mut self, from: u64, old: &[u8], to: u64, new: &[u8], flags: u32) -> Result<Vec<u8>, Errno> {
        let body = Body::default().u64(to).u32(flags).u32(0).bytes(&name(old)).bytes(&name(new));
        self.ask(opcode::RENAME2, from, &body.0)
    }

    fn link(&mut self, node: u64, folder: u64, what: &[u8]) -> Result<(u64, u32), Errno> {
        let body = Body::default().u64(node).bytes(&name(what));
        self.ask(opcode::LINK, folder, &body.0).map(|entry| told(&entry))
    }
}

/// Node and mode of `fuse_entry_out`.
fn told(entry: &[u8]) -> (u64, u32) {
    let mode = entry[40 + 60..40 + 64].try_into().unwrap();
    (Args(entry).u64().unwrap(), u32::from_le_bytes(mode))
}

#[test]
fn files_are_made_read_written_and_removed() {
    let mut guest = Guest::new();
    let init = Body::default().u32(7).u32(38).u32(1 << 17).u32(u32::MAX).zeroes(48);
    let answer = guest.ask(opcode::INIT, 0, &init.0).unwrap();
    assert_eq!(answer.len(), 64);
    assert_eq!(Args(&answer).u32().unwrap(), 7);
    let top = guest.lookup(ROOT, b"work").unwrap().0;

    let (node, handle) = guest.create(top, b"a", OFlags::RDWR | OFlags::EXCL, 0o100_640).unwrap();
    assert_eq!(guest.write(handle, 5, b"hello").unwrap(), 5);
    assert_eq!(guest.read(handle, 3, 100).unwrap(), b"\0\0hello");
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"\0\0\0\0\0hello");
    assert_eq!(guest.create(top, b"a", OFlags::RDWR | OFlags::EXCL, 0o644).unwrap_err(), Errno::EXIST);
    assert_eq!(guest.create(top, b"a", OFlags::RDWR, 0o644).unwrap().0, node, "the same file");
    assert_eq!(guest.lookup(top, b"a").unwrap(), (node, 0o100_640));
    // It is the guest user's, and has a size.
    let attr = guest.ask(opcode::GETATTR, node, &[0; 16]).unwrap();
    let mut args = Args(&attr[16..]);
    assert_eq!((args.u64().unwrap() >> 56 > 0, args.u64().unwrap()), (true, 10));
    assert_eq!(attr[16 + 68..16 + 76], [1000u32.to_le_bytes(), 1000u32.to_le_bytes()].concat());

    guest.ask(opcode::MKDIR, top, &Body::default().u32(0o755).u32(0).bytes(b"d\0").0).unwrap();
    let d = guest.lookup(top, b"d").unwrap().0;
    guest.rename(top, b"a", d, b"b", 0).unwrap();
    assert_eq!(guest.lookup(d, b"b").unwrap().0, node);
    guest.link(node, top, b"c").unwrap();
    assert_eq!(fs::metadata(guest.path("c")).unwrap().nlink(), 2);
    assert_eq!(guest.rename(top, b"c", d, b"b", 1).unwrap_err(), Errno::EXIST, "without replacing");
    guest.ask(opcode::SYMLINK, top, b"s\0/etc/passwd\0").unwrap();
    let (s, mode) = guest.lookup(top, b"s").unwrap();
    assert_eq!(mode & 0o170_000, 0o120_000);
    assert_eq!(guest.ask(opcode::READLINK, s, &[]).unwrap(), b"/etc/passwd");

    let names: Vec<_> = guest.list(top, false, 4096).unwrap().into_iter().map(|entry| entry.0).collect();
    for wanted in [&b"."[..], b"..", b"c", b"d", b"s"] {
        assert!(names.iter().any(|name| name == wanted), "{names:?}");
    }
    assert_eq!(guest.ask(opcode::UNLINK, top, b"d\0").unwrap_err(), Errno::ISDIR);
    assert_eq!(guest.ask(opcode::RMDIR, top, b"d\0").unwrap_err(), Errno::NOTEMPTY);
    guest.ask(opcode::UNLINK, d, b"b\0").unwrap();
    guest.ask(opcode::RMDIR, top, b"d\0").unwrap();
    // Times, sizes, copies, and what brings all of it to the disk.
    let times = |body: &mut [u8]| {
        body[32..48].copy_from_slice(&[77u64.to_le_bytes(), 99u64.to_le_bytes()].concat());
        body[60..64].copy_from_slice(&5u32.to_le_bytes());
    };
    let c = guest.lookup(top, b"c").unwrap().0;
    for node in [c, s] {
        guest.setattr(node, abi::valid::ATIME | abi::valid::MTIME, times).unwrap();
    }
    let meta = fs::symlink_metadata(guest.path("s")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (99, 5));
    guest.setattr(c, abi::valid::MTIME | abi::valid::MTIME_NOW, |_| {}).unwrap();
    let meta = fs::metadata(guest.path("c")).unwrap();
    assert!(meta.atime() == 77 && meta.mtime() > 1_000_000_000, "now");
    guest.setattr(c, abi::valid::SIZE, |body| body[16] = 7).unwrap();
    guest
        .setattr(c, abi::valid::SIZE | abi::valid::FH, |body| {
            body[8..24].copy_from_slice(&[handle.to_le_bytes(), 8u64.to_le_bytes()].concat());
        })
        .unwrap();
    assert_eq!(fs::read(guest.path("c")).unwrap(), b"\0\0\0\0\0he\0");
    let (_, copy) = guest.create(top, b"copy", OFlags::RDWR, 0o600).unwrap();
    let range = Body::default().u64(handle).u64(5).u64(0).u64(copy).u64(0).u64(100).u64(0);
    assert_eq!(guest.ask(opcode::COPY_FILE_RANGE, c, &range.0).unwrap()[..4], [3, 0, 0, 0]);
    assert_eq!(fs::read(guest.path("copy")).unwrap(), b"he\0");
    for flags in [0, 1] {
        guest.ask(opcode::FSYNC, c, &Body::default().u64(copy).u32(flags).u32(0).0).unwrap();
    }
    guest.ask(opcode::SYNCFS, top, &[0; 8]).unwrap();
    assert_eq!(guest.ask(opcode::STATFS, top, &[]).unwrap().len(), 80);
    assert_eq!(guest.ask(opcode::STATFS, ROOT, &[]).unwrap().len(), 80);
    guest.write(handle, 5, b"hello").unwrap();
    // What is open lives on.
    assert_eq!(guest.read(handle, 5, 5).unwrap(), b"hello");
    guest.ask(opcode::RELEASE, node, &Body::default().u64(handle).zeroes(16).0).unwrap();
    assert_eq!(guest.read(handle, 5, 5).unwrap_err(), Errno::BADF);
}

#[test]
fn long_folders_are_listed_in_pieces_each_name_once() {
    let mut guest = Guest::new();
    for number in 0..3000 {
        fs::write(guest.path(&format!("{number:050}")), "").unwrap();
    }
    fs::create_dir(guest.path("odd")).unwrap();
    let odd: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    {
        use std::os::unix::ffi::OsStrExt as _;
        fs::write(guest.path("odd").join(std::ffi::OsStr::from_bytes(&odd)), "").unwrap();
    }
    let top = guest.top;
    for (plus, size) in [(false, 4096), (true, 4096), (false, 1 << 20), (true, 1 << 20)] {
        // Plus knows of each file, which the guest forgets again.
        let mut names = guest.list(top, plus, size.min(60_000)).unwrap_or_default();
        assert_eq!(names.len(), 3003, "plus {plus}, {size} bytes");
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        assert_eq!(names.len(), 3003);
        let known: Vec<u64> = names.iter().map(|entry| entry.1).filter(|node| *node != 0).collect();
        assert_eq!(known.is_empty(), !plus);
        // No more descriptors than the process may have; the rest is listed by name alone.
        assert!(known.len() <= 1024 && (!plus || known.len() > 800), "{}", known.len());
        let count = u32::try_from(known.len()).unwrap();
        let body = known.iter().fold(Body::default().u32(count).u32(0), |body, node| body.u64(*node).u64(1));
        let length = u32::try_from(IN_HEADER + body.0.len()).unwrap();
        let header = Body::default().u32(length).u32(opcode::BATCH_FORGET).u64(7).zeroes(24);
        assert!(guest.raw(header.bytes(&body.0).0, 0).is_empty(), "nothing is said to that");
    }
    let odd_folder = guest.lookup(top, b"odd").unwrap().0;
    let names = guest.list(odd_folder, true, 4096).unwrap();
    assert!(names.iter().any(|entry| entry.0 == odd && entry.1 != 0), "{names:?}");
    assert!(guest.lookup(odd_folder, &odd).is_ok());
}

#[test]
fn no_name_leads_outside() {
    let mut guest = Guest::new();
    let top = guest.top;
    symlink("../secret", guest.path("relative")).unwrap();
    symlink(guest.host.path().join("secret"), guest.path("absolute")).unwrap();
    symlink("..", guest.path("above")).unwrap();
    symlink("/proc/self/root", guest.path("magic")).unwrap();
    for bad in [&b""[..], b".", b"..", b"a/b", b"/etc", b"../secret", b"above/secret"] {
        assert_eq!(guest.lookup(top, bad).unwrap_err(), Errno::INVAL, "{bad:?}");
        assert_eq!(guest.create(top, bad, OFlags::RDWR, 0o600).unwrap_err(), Errno::INVAL);
        assert_eq!(guest.rename(top, b"relative", top, bad, 0).unwrap_err(), Errno::INVAL);
        assert_eq!(guest.rename(top, bad, top, b"x", 0).unwrap_err(), Errno::INVAL);
        assert_eq!(guest.ask(opcode::UNLINK, top, &name(bad)).unwrap_err(), Errno::INVAL);
        assert_eq!(
            guest.ask(opcode::SYMLINK, top, &[&name(bad), &b"x\0"[..]].concat()).unwrap_err(),
            Errno::INVAL
        );
        let mkdir = Body::default().u32(0o755).u32(0).bytes(&name(bad));
        assert_eq!(guest.ask(opcode::MKDIR, top, &mkdir.0).unwrap_err(), Errno::INVAL);
    }
    assert_eq!(guest.lookup(top, &[b'x'; 256]).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(guest.ask(opcode::LOOKUP, top, b"relative").unwrap_err(), Errno::INVAL, "no end");
    for link in [&b"relative"[..], b"absolute", b"above", b"magic"] {
        // A link is a link, and nothing is opened, made or found through it.
        let (node, mode) = guest.lookup(top, link).unwrap();
        assert_eq!(mode & 0o170_000, 0o120_000);
        assert_eq!(guest.open(node, OFlags::RDONLY).unwrap_err(), Errno::LOOP);
        assert_eq!(guest.ask(opcode::OPENDIR, node, &[0; 8]).unwrap_err(), Errno::NOTDIR);
        assert_eq!(guest.lookup(node, b"secret").unwrap_err(), Errno::NOTDIR);
        assert_eq!(guest.create(top, link, OFlags::RDWR | OFlags::TRUNC, 0o600).unwrap_err(), Errno::LOOP);
        assert_eq!(guest.create(node, b"x", OFlags::RDWR, 0o600).unwrap_err(), Errno::NOTDIR);
        let resize = guest.setattr(node, abi::valid::SIZE, |_| {});
        assert_eq!(resize.unwrap_err(), Errno::INVAL);
        let mode = guest.setattr(node, abi::valid::MODE, |_| {});
        assert_eq!(mode.unwrap_err(), Errno::OPNOTSUPP);
    }
    assert_eq!(fs::read(guest.host.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn what_is_swapped_for_a_link_meanwhile_is_not_followed() {
    let mut guest = Guest::new();
    let top = guest.top;
    fs::create_dir(guest.path("folder")).unwrap();
    fs::write(guest.path("folder/secret"), "shared").unwrap();
    fs::write(guest.path("file"), "shared").unwrap();
    let folder = guest.lookup(top, b"folder").unwrap().0;
    let file = guest.lookup(top, b"file").unwrap().0;
    // Known to the guest; now they are others.
    fs::rename(guest.path("folder"), guest.path("moved")).unwrap();
    fs::rename(guest.path("file"), guest.path("file2")).unwrap();
    symlink(guest.host.path(), guest.path("folder")).unwrap();
    symlink(guest.host.path().join("secret"), guest.path("file")).unwrap();
    let handle = guest.open(file, OFlags::RDWR).unwrap();
    assert_eq!(guest.read(handle, 0, 10).unwrap(), b"shared");
    let inner = guest.lookup(folder, b"secret").unwrap().0;
    let handle = guest.open(inner, OFlags::RDONLY).unwrap();
    assert_eq!(guest.read(handle, 0, 10).unwrap(), b"shared");
    // A folder that leaves the share takes what the guest knows along, and shows no way further.
    fs::rename(guest.path("moved"), guest.host.path().join("out")).unwrap();
    assert_eq!(guest.lookup(folder, b"..").unwrap_err(), Errno::INVAL);
}

/// Somebody on the host, or another process of the guest, swaps a folder for a link that leads out, as fast as it can.
#[test]
fn a_race_of_renames_leads_nowhere() {
    let mut guest = Guest::new();
    let top = guest.top;
    fs::create_dir(guest.path("folder")).unwrap();
    fs::write(guest.path("folder/secret"), "shared").unwrap();
    symlink(guest.host.path(), guest.path("link")).unwrap();
    /// Ends the other thread, however this one ends.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (one, two, over) = (guest.path("folder"), guest.path("link"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _ends = Ends(&over);
        let (mut folders, mut links) = (0, 0);
        // Both are met, however the two run.
        for round in 0.. {
            let Ok((node, mode)) = guest.lookup(top, b"folder") else { continue };
            if mode & 0o170_000 == 0o040_000 {
                folders += 1;
                let inner = guest.lookup(node, b"secret").unwrap().0;
                let handle = guest.open(inner, OFlags::RDWR).unwrap();
                assert_eq!(guest.read(handle, 0, 10).unwrap(), b"shared");
                guest.ask(opcode::RELEASE, inner, &Body::default().u64(handle).zeroes(16).0).unwrap();
            } else {
                links += 1;
                assert_eq!(guest.lookup(node, b"secret").unwrap_err(), Errno::NOTDIR);
                assert_eq!(guest.open(node, OFlags::RDONLY).unwrap_err(), Errno::LOOP);
            }
            if round >= 1_000 && folders > 100 && links > 100 {
                break;
            }
        }
    });
    assert_eq!(fs::read(guest.host.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn devices_pipes_and_set_user_id_bits_are_nobodys() {
    let mut guest = Guest::new();
    let top = guest.top;
    let mknod =
        |mode: u32, what: &[u8]| Body::default().u32(mode).u32(0x103).u32(0).u32(0).bytes(&name(what)).0;
    assert_eq!(guest.ask(opcode::MKNOD, top, &mknod(0o020_666, b"null")).unwrap_err(), Errno::PERM);
    assert_eq!(guest.ask(opcode::MKNOD, top, &mknod(0o060_666, b"disk")).unwrap_err(), Errno::PERM);
    let pipe = guest.ask(opcode::MKNOD, top, &mknod(0o010_666, b"pipe")).unwrap();
    // Opening it would wait for somebody at its other end.
    assert_eq!(guest.open(told(&pipe).0, OFlags::RDONLY).unwrap_err(), Errno::NXIO);
    assert_eq!(guest.create(top, b"pipe", OFlags::WRONLY, 0o600).unwrap_err(), Errno::NXIO);

    let (node, _) = guest.create(top, b"run", OFlags::RDWR, 0o106_755).unwrap();
    let mode = |guest: &Guest| fs::metadata(guest.path("run")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&guest) & 0o6000, 0);
    let set = |body: &mut [u8]| body[68..72].copy_from_slice(&0o106_711u32.to_le_bytes());
    guest.setattr(node, abi::valid::MODE, set).unwrap();
    assert_eq!(mode(&guest), 0o711);
    // Nobody's owner changes, not even to another of the guest's users.
    let owner = |uid: u32| move |body: &mut [u8]| body[76..80].copy_from_slice(&uid.to_le_bytes());
    assert_eq!(guest.setattr(node, abi::valid::UID, owner(0)).unwrap_err(), Errno::PERM);
    guest.setattr(node, abi::valid::UID, owner(1000)).unwrap();
}

#[test]
fn a_share_that_is_read_only_changes_nothing() {
    let mut guest = Guest::new();
    let top = guest.top;
    fs::write(guest.path("a"), "kept").unwrap();
    fs::create_dir(guest.path("d")).unwrap();
    fs::write(guest.path("d/inner"), "kept").unwrap();
    let (a, d) = (guest.lookup(top, b"a").unwrap().0, guest.lookup(top, b"d").unwrap().0);
    let inner = guest.lookup(d, b"inner").unwrap().0;
    let writes = guest.open(a, OFlags::RDWR).unwrap();
    let reads = guest.open(a, OFlags::RDONLY).unwrap();
    guest.server.change(guest.share, hold(&guest.path("")), true).unwrap();
    assert_eq!(guest.write(writes, 0, b"gone").unwrap_err(), Errno::BADF, "what was open is closed");
    assert_eq!(guest.read(reads, 0, 10).unwrap(), b"kept");
    assert_eq!(guest.write(reads, 0, b"gone").unwrap_err(), Errno::BADF);
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
        assert_eq!(guest.open(a, flags).unwrap_err(), Errno::ROFS);
    }
    assert_eq!(guest.create(top, b"new", OFlags::RDWR, 0o600).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.create(top, b"a", OFlags::RDONLY, 0o600).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.ask(opcode::UNLINK, top, b"a\0").unwrap_err(), Errno::ROFS);
    assert_eq!(guest.rename(top, b"a", d, b"a", 0).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.link(a, d, b"a").unwrap_err(), Errno::ROFS);
    assert_eq!(guest.ask(opcode::SYMLINK, top, b"s\0x\0").unwrap_err(), Errno::ROFS);
    assert_eq!(guest.setattr(a, abi::valid::MODE, |_| {}).unwrap_err(), Errno::ROFS);
    let xattr = Body::default().u32(1).u32(0).bytes(b"user.x\0y");
    assert_eq!(guest.ask(opcode::SETXATTR, a, &xattr.0).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.ask(opcode::REMOVEXATTR, a, b"user.x\0").unwrap_err(), Errno::ROFS);
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"kept");

    // And back, through a descriptor of another mount: what the guest knows of, it knows on.
    guest.server.change(guest.share, hold(&guest.path("")), false).unwrap();
    for node in [a, inner] {
        let handle = guest.open(node, OFlags::RDWR).unwrap();
        assert_eq!(guest.write(handle, 0, b"new!").unwrap(), 4);
    }
    assert_eq!(fs::read(guest.path("d/inner")).unwrap(), b"new!");
    // Another folder is no other way to this one.
    assert!(guest.server.change(guest.share, hold(guest.host.path()), false).is_err());
}

#[test]
fn a_share_that_ends_takes_all_with_it() {
    let mut guest = Guest::new();
    let top = guest.top;
    let (node, handle) = guest.create(top, b"a", OFlags::RDWR, 0o600).unwrap();
    let folder = guest.ask(opcode::OPENDIR, top, &[0; 8]).unwrap();
    let other = guest.server.add(share("other", guest.host.path())).unwrap();
    let kept = guest.lookup(ROOT, b"other").unwrap().0;
    let before = guest.server.nodes.len();
    guest.server.remove(guest.share).unwrap();
    assert!(guest.server.remove(guest.share).is_none());
    assert_eq!((before, guest.server.nodes.len(), guest.server.handles.len()), (3, 1, 0));
    assert_eq!(guest.write(handle, 0, b"x").unwrap_err(), Errno::BADF);
    assert_eq!(guest.open(node, OFlags::RDONLY).unwrap_err(), Errno::STALE);
    assert_eq!(guest.lookup(top, b"a").unwrap_err(), Errno::STALE);
    assert_eq!(guest.lookup(ROOT, b"work").unwrap_err(), Errno::NOENT);
    let list = Body::default().u64(Args(&folder).u64().unwrap()).u64(0).u32(4096).zeroes(20);
    assert_eq!(guest.ask(opcode::READDIR, top, &list.0).unwrap_err(), Errno::BADF);
    assert!(guest.lookup(kept, b"secret").is_ok(), "the other share lives on");
    // Of the same name, it is another.
    assert!(guest.server.add(share("work", &guest.path(""))).unwrap() > other);
    assert_ne!(guest.lookup(ROOT, b"work").unwrap().0, top);
}

#[test]
fn one_file_is_granted_alone() {
    let mut guest = Guest::new();
    let secret = guest.host.path().join("secret");
    let id = guest.server.grant(share("letter.odt", &secret)).unwrap();
    assert_eq!(guest.server.grant(share("letter.odt", &secret)).unwrap(), id, "once");
    let read_only = guest.server.grant(Share { read_only: true, ..share("letter.odt", &secret) }).unwrap();
    assert_ne!(read_only, id);
    assert!(guest.server.grant(share("null", Path::new("/dev/null"))).is_err());
    // No listing shows it; who was told its number finds it.
    let names = guest.list(ROOT, true, 4096).unwrap();
    assert_eq!(names.iter().map(|entry| entry.0.as_slice()).collect::<Vec<_>>(), [&b"."[..], b"..", b"work"]);
    let files = guest.lookup(ROOT, b".files").unwrap().0;
    assert_eq!(guest.list(files, false, 4096).unwrap().len(), 2);
    let number = id.0.to_string();
    let around = guest.lookup(files, number.as_bytes()).unwrap().0;
    assert_eq!(guest.lookup(files, format!("0{number}").as_bytes()).unwrap_err(), Errno::NOENT);
    assert_eq!(guest.lookup(files, b"1").unwrap_err(), Errno::NOENT, "a shared folder is no granted file");
    assert_eq!(guest.list(around, false, 4096).unwrap()[2].0, b"letter.odt");
    assert_eq!(guest.lookup(around, b"shared").unwrap_err(), Errno::NOENT);
    let (file, mode) = guest.lookup(around, b"letter.odt").unwrap();
    assert_eq!(mode & 0o170_000, 0o100_000);
    let handle = guest.open(file, OFlags::RDWR).unwrap();
    assert_eq!(guest.write(handle, 0, b"S").unwrap(), 1);
    assert_eq!(fs::read(&secret).unwrap(), b"Secret");
    // It is no folder, gets no second name that would stay, and nothing is made, moved or removed beside it.
    let top = guest.top;
    assert_eq!(guest.lookup(file, b"shared").unwrap_err(), Errno::NOTDIR);
    assert_eq!(guest.link(file, top, b"mine").unwrap_err(), Errno::XDEV);
    assert_eq!(guest.link(file, around, b"mine").unwrap_err(), Errno::ROFS);
    assert_eq!(guest.rename(around, b"letter.odt", top, b"mine", 0).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.create(around, b"other", OFlags::RDWR, 0o600).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.ask(opcode::UNLINK, around, b"letter.odt\0").unwrap_err(), Errno::ROFS);
    // Nor between shares.
    fs::create_dir(guest.host.path().join("two")).unwrap();
    guest.server.add(share("two", &guest.host.path().join("two"))).unwrap();
    let two = guest.lookup(ROOT, b"two").unwrap().0;
    let (own, _) = guest.create(top, b"own", OFlags::RDWR, 0o600).unwrap();
    assert_eq!(guest.rename(top, b"own", two, b"own", 0).unwrap_err(), Errno::XDEV);
    assert_eq!(guest.link(own, two, b"own").unwrap_err(), Errno::XDEV);
}

#[test]
fn names_of_shares_are_names() {
    let mut guest = Guest::new();
    let path = guest.path("");
    for bad in ["", ".", "..", "a/b", ".files", ".x", "a\0b", &"x".repeat(256)] {
        assert_eq!(guest.server.add(share(bad, &path)).unwrap_err(), Refused::Name, "{bad:?}");
    }
    assert_eq!(guest.server.add(share("work", &path)).unwrap_err(), Refused::Taken);
    for request in [opcode::MKDIR, opcode::SYMLINK, opcode::UNLINK] {
        let body = Body::default().u32(0o755).u32(0).bytes(b"x\0y\0");
        let body = if request == opcode::MKDIR { body.0 } else { b"x\0y\0".to_vec() };
        assert_eq!(guest.ask(request, ROOT, &body).unwrap_err(), Errno::ROFS);
    }
}

#[test]
fn holes_stay_holes_and_what_users_say_of_files_stays() {
    let mut guest = Guest::new();
    let top = guest.top;
    let (node, handle) = guest.create(top, b"sparse", OFlags::RDWR, 0o600).unwrap();
    let far = 5 << 30;
    guest.write(handle, far, b"end").unwrap();
    assert_eq!(fs::metadata(guest.path("sparse")).unwrap().len(), far + 3);
    assert!(fs::metadata(guest.path("sparse")).unwrap().blocks() < 1000);
    let seek = |from: u64, whence: u32| Body::default().u64(handle).u64(from).u32(whence).u32(0).0;
    let at = |answer: Vec<u8>| Args(&answer).u64().unwrap();
    let data = guest.ask(opcode::LSEEK, node, &seek(0, 3)).map(at).unwrap();
    assert!(data > 0 && data <= far, "{data}");
    assert_eq!(guest.ask(opcode::LSEEK, node, &seek(far + 100, 3)).unwrap_err(), Errno::NXIO);
    assert_eq!(guest.ask(opcode::LSEEK, node, &seek(0, 0)).unwrap_err(), Errno::INVAL);
    let punch = Body::default().u64(handle).u64(far).u64(1).u32(3).u32(0);
    guest.ask(opcode::FALLOCATE, node, &punch.0).unwrap();
    assert_eq!(guest.read(handle, far, 10).unwrap(), b"\0nd");

    let set = |name: &[u8]| Body::default().u32(3).u32(0).bytes(name).bytes(b"\0abc").0;
    guest.ask(opcode::SETXATTR, node, &set(b"user.colour")).unwrap();
    for other in [&b"security.capability"[..], b"trusted.x", b"system.posix_acl_access", b"user."] {
        assert_eq!(guest.ask(opcode::SETXATTR, node, &set(other)).unwrap_err(), Errno::OPNOTSUPP);
    }
    let get = |size: u32| Body::default().u32(size).u32(0).bytes(b"user.colour\0").0;
    assert_eq!(guest.ask(opcode::GETXATTR, node, &get(0)).unwrap()[..4], [3, 0, 0, 0]);
    assert_eq!(guest.ask(opcode::GETXATTR, node, &get(2)).unwrap_err(), Errno::RANGE);
    assert_eq!(guest.ask(opcode::GETXATTR, node, &get(64)).unwrap(), b"abc");
    let list = Body::default().u32(64).u32(0).0;
    assert_eq!(guest.ask(opcode::LISTXATTR, node, &list).unwrap(), b"user.colour\0");
    guest.ask(opcode::REMOVEXATTR, node, b"user.colour\0").unwrap();
    assert_eq!(guest.ask(opcode::GETXATTR, node, &get(64)).unwrap_err(), Errno::NODATA);
}

#[test]
fn the_guest_appends_where_the_host_does() {
    let mut guest = Guest::new();
    fs::write(guest.path("log"), "host\n").unwrap();
    let log = guest.lookup(guest.top, b"log").unwrap().0;
    let handle = guest.open(log, OFlags::WRONLY | OFlags::APPEND).unwrap();
    guest.write(handle, 0, b"guest\n").unwrap();
    assert_eq!(fs::read(guest.path("log")).unwrap(), b"host\nguest\n");
}

#[test]
fn requests_that_say_too_little_get_an_error_or_nothing() {
    let mut guest = Guest::new();
    let header =
        |length: u32, opcode: u32| Body::default().u32(length).u32(opcode).u64(7).u64(ROOT).zeroes(16).0;
    assert!(guest.raw(vec![0; 39], 100).is_empty());
    assert!(guest.raw(header(40, opcode::LOOKUP), 15).is_empty(), "no room");
    let error = |answer: Vec<u8>| i32::from_le_bytes(answer[4..8].try_into().unwrap());
    let invalid = -Errno::INVAL.raw_os_error();
    for length in [0, 39, 41, u32::MAX] {
        assert_eq!(error(guest.raw(header(length, opcode::GETATTR), 200)), invalid);
    }
    for opcode in 1..=60 {
        // Without any argument, and with a few bytes of nothing.
        for extra in [0, 1, 7, 8, 200] {
            let mut request = header(40 + extra, opcode);
            request.resize(40 + extra as usize, 0);
            let answer = guest.raw(request, 200);
            let silent = [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT].contains(&opcode);
            assert!(answer.len() >= OUT_HEADER || silent, "{opcode} with {extra} bytes");
        }
    }
    assert_eq!(guest.ask(999, ROOT, &[]).unwrap_err(), Errno::NOSYS);
    // An answer that has no room is an error, not a part of one.
    let request = [header(45, opcode::LOOKUP), name(b"work")].concat();
    assert_eq!(error(guest.raw(request, 60)), -Errno::RANGE.raw_os_error());
}
