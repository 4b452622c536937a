//! Files: opening, reading, writing.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use crate::abi::{self, Args, Body, OUT_HEADER};
use crate::names::mode;
use crate::nodes;
use crate::server::{Answer, Handle, Message, Result, Server, within};

/// What of the flags of an open the host's kernel is to know. Not among them: what bypasses its cache (the guest's memory is not laid
/// out for that), and all that is about names, which was said before.
const PASSED: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC);

/// What is passed on, and whether it writes.
fn flags(bits: u32) -> (OFlags, bool) {
    let flags = OFlags::from_bits_truncate(bits).intersection(PASSED);
    let writes = flags.intersects(OFlags::RDWR.union(OFlags::WRONLY).union(OFlags::TRUNC));
    (flags, writes)
}

/// The host's error as such.
fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

fn opened(handle: u64, body: Body) -> Answer {
    Answer::Body(body.u64(handle).u32(0).u32(0))
}

impl Server {
    pub(crate) fn open(&mut self, node: u64, mut args: Args<'_>) -> Result {
        let (flags, writes) = flags(args.u32()?);
        let node = if writes { self.writable(node)? } else { self.node(node)? };
        let (share, fd) = (node.share, reopen(node, flags)?);
        let handle = self.keep(Handle::File { share, fd, writes })?;
        Ok(opened(handle, Body::default()))
    }

    pub(crate) fn create(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let (bits, permissions, _mask, _) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        let name = args.name()?;
        let exclusive = OFlags::from_bits_truncate(bits).contains(OFlags::EXCL);
        let (flags, writes) = flags(bits);
        self.has_room()?;
        let (share, folder) = self.folder(parent)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let permissions = mode(permissions, FileType::RegularFile);
        let (named, fd) = match rustix::fs::openat2(folder, name, new, permissions, resolve) {
            Ok(fd) => {
                // The same file, whatever has its name by now.
                let named =
                    rustix::fs::open(nodes::path(&fd), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                (named, Some(fd))
            }
            Err(Errno::EXIST) if !exclusive => (within(folder, name)?, None),
            Err(error) => return Err(error),
        };
        let body = self.tell(share, named)?;
        let id = body.0.first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
        let kept = fd
            .map_or_else(|| reopen(self.nodes.get(id)?, flags), Ok)
            .and_then(|fd| self.keep(Handle::File { share, fd, writes }));
        match kept {
            Ok(handle) => Ok(opened(handle, body)),
            Err(error) => {
                self.nodes.forget(id, 1);
                Err(error)
            }
        }
    }

    pub(crate) fn release(&mut self, mut args: Args<'_>) -> Result {
        self.handles.remove(&args.u64()?);
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn read(&mut self, mut args: Args<'_>, message: &mut dyn Message) -> Result {
        let (handle, at, size) = (args.u64()?, args.u64()?, args.u32()?);
        let room = message.room().checked_sub(OUT_HEADER).ok_or(Errno::INVAL)?;
        let size = usize::try_from(size.min(abi::MOST_DATA)).unwrap_or(0).min(room);
        let file = self.file(handle, false)?;
        let read = message.read_file(file, at, size, OUT_HEADER).map_err(|error| errno(&error))?;
        Ok(Answer::Data(read.min(size)))
    }

    pub(crate) fn write(&mut self, message: &mut dyn Message) -> Result {
        let mut arguments = [0; 40];
        message.read(&mut arguments).map_err(|_| Errno::INVAL)?;
        let mut args = Args(&arguments);
        let (handle, at, size) = (args.u64()?, args.u64()?, args.u32()?);
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        if size != message.left() || size > abi::MOST_DATA as usize {
            return Err(Errno::INVAL);
        }
        let file = self.file(handle, true)?;
        let written = message.write_file(file, at, size).map_err(|error| errno(&error))?;
        let written = u32::try_from(written).map_err(|_| Errno::IO)?;
        Ok(Answer::Body(Body::default().u32(written).u32(0)))
    }

    pub(crate) fn fsync(&mut self, mut args: Args<'_>) -> Result {
        let (handle, flags) = (args.u64()?, args.u32()?);
        let fd = match self.handles.get(&handle) {
            Some(Handle::File { fd, .. } | Handle::Folder { fd, .. }) => fd,
            Some(Handle::Place { .. }) => return Ok(Answer::Body(Body::default())),
            None => return Err(Errno::BADF),
        };
        if flags & abi::FSYNC_DATA == 0 {
            rustix::fs::fsync(fd)?
        } else {
            rustix::fs::fdatasync(fd)?
        }
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn fallocate(&mut self, mut args: Args<'_>) -> Result {
        let (handle, at, length, bits) = (args.u64()?, args.u64()?, args.u64()?, args.u32()?);
        let mode = FallocateFlags::from_bits(bits).ok_or(Errno::OPNOTSUPP)?;
        rustix::fs::fallocate(self.file(handle, true)?, mode, at, length)?;
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn lseek(&mut self, mut args: Args<'_>) -> Result {
        let (handle, at, whence) = (args.u64()?, args.u64()?, args.u32()?);
        // All else the guest's kernel knows by itself.
        let to = match whence {
            3 => SeekFrom::Data(at),
            4 => SeekFrom::Hole(at),
            _ => return Err(Errno::INVAL),
        };
        let found = rustix::fs::seek(self.file(handle, false)?, to)?;
        Ok(Answer::Body(Body::default().u64(found)))
    }

    pub(crate) fn copy_file_range(&mut self, mut args: Args<'_>) -> Result {
        let (from, mut from_at) = (args.u64()?, args.u64()?);
        let (_node, to, mut to_at) = (args.u64()?, args.u64()?, args.u64()?);
        let (length, flags) = (args.u64()?, args.u64()?);
        if flags != 0 {
            return Err(Errno::INVAL);
        }
        // No more at once than one request should take.
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(16 << 20);
        let (from, to) = (self.file(from, false)?, self.file(to, true)?);
        let copied = rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), length)?;
        let copied = u32::try_from(copied).map_err(|_| Errno::IO)?;
        Ok(Answer::Body(Body::default().u32(copied).u32(0)))
    }

    pub(crate) fn syncfs(&mut self, node: u64) -> Result {
        if self.shares.place(node).is_none() {
            let node = self.node(node)?;
            if matches!(node.kind, FileType::Directory | FileType::RegularFile) {
                rustix::fs::syncfs(reopen_any(node)?)?;
            }
        }
        Ok(Answer::Body(Body::default()))
    }
}

/// Opens the file that a node is.
fn reopen(node: &nodes::Node, flags: OFlags) -> Result<OwnedFd> {
    match node.kind {
        FileType::RegularFile => {
            let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            rustix::fs::open(nodes::path(&node.fd), flags, Mode::empty())
        }
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        // Devices, pipes and sockets are the guest kernel's own; ours are nobody's.
        _ => Err(Errno::NXIO),
    }
}

/// Opens a file or folder to ask it something.
pub fn reopen_any(node: &nodes::Node) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match node.kind {
        FileType::RegularFile | FileType::Directory => {
            rustix::fs::open(nodes::path(&node.fd.as_fd()), flags, Mode::empty())
        }
        _ => Err(Errno::NXIO),
    }
}
