//! What is said of files beside their content.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::abi::{Args, Body, attributes, valid};
use crate::files::reopen_any;
use crate::names::mode;
use crate::nodes::{self, Node};
use crate::server::{Answer, Result, Server};

/// The longest list of names, and the longest value, in bytes (`XATTR_LIST_MAX`).
const MOST_XATTR: usize = 1 << 16;

/// What a guest may say of a file beside its bytes: what users say. All other name spaces mean something to the host.
fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") && name.len() > 5
}

/// `FUSE_SETATTR`.
struct Wanted {
    valid: u32,
    handle: u64,
    size: u64,
    atime: Timespec,
    mtime: Timespec,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Wanted {
    fn parse(mut args: Args<'_>) -> Result<Self> {
        let (valid, _, handle, size, _owner) =
            (args.u32()?, args.u32()?, args.u64()?, args.u64()?, args.u64()?);
        let (atime, mtime, _ctime) = (args.u64()?, args.u64()?, args.u64()?);
        let (atime_ns, mtime_ns, _) = (args.u32()?, args.u32()?, args.u32()?);
        let (mode, _, uid, gid) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        let time = |bit: u32, now: u32, seconds: u64, nanoseconds: u32| {
            let tv_nsec = match valid {
                _ if valid & now != 0 => rustix::fs::UTIME_NOW,
                _ if valid & bit != 0 => nanoseconds.into(),
                _ => rustix::fs::UTIME_OMIT,
            };
            Timespec { tv_sec: seconds.cast_signed(), tv_nsec }
        };
        let atime = time(valid::ATIME, valid::ATIME_NOW, atime, atime_ns);
        let mtime = time(valid::MTIME, valid::MTIME_NOW, mtime, mtime_ns);
        Ok(Self { valid, handle, size, atime, mtime, mode, uid, gid })
    }

    fn has(&self, bits: u32) -> bool {
        self.valid & bits != 0
    }
}

impl Server {
    pub(crate) fn getattr(&mut self, node: u64) -> Result {
        let attr = match self.shares.place(node) {
            Some(place) => place.attr(self.owner),
            None => self.devices.attr(&self.nodes.get(node)?.status()?, self.owner),
        };
        Ok(Answer::Body(attributes(&attr)))
    }

    pub(crate) fn setattr(&mut self, id: u64, args: Args<'_>) -> Result {
        let wanted = Wanted::parse(args)?;
        let node = self.writable(id)?;
        if wanted.has(valid::UID | valid::GID) {
            let now = self.owner;
            let stat = node.status()?;
            // Nobody's owner changes; who asks for what is so gets it.
            let same = |bit, asked, has: u32, (own, guest): (u32, u32)| {
                !wanted.has(bit) || (has == own && asked == guest)
            };
            if !same(valid::UID, wanted.uid, stat.stx_uid, (now.host.0, now.guest.0))
                || !same(valid::GID, wanted.gid, stat.stx_gid, (now.host.1, now.guest.1))
            {
                return Err(Errno::PERM);
            }
        }
        if wanted.has(valid::MODE) {
            if node.kind == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            rustix::fs::chmod(nodes::path(&node.fd), mode(wanted.mode, node.kind))?;
        }
        if wanted.has(valid::SIZE) {
            self.resize(node, &wanted)?;
        }
        if wanted.has(valid::ATIME | valid::MTIME | valid::ATIME_NOW | valid::MTIME_NOW) {
            let times = Timestamps { last_access: wanted.atime, last_modification: wanted.mtime };
            rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        self.getattr(id)
    }

    fn resize(&self, node: &Node, wanted: &Wanted) -> Result<()> {
        if wanted.has(valid::FH) {
            return rustix::fs::ftruncate(self.file(wanted.handle, true)?, wanted.size);
        }
        if node.kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
        let file = rustix::fs::open(nodes::path(&node.fd), flags, rustix::fs::Mode::empty())?;
        rustix::fs::ftruncate(file, wanted.size)
    }

    pub(crate) fn statfs(&mut self, node: u64) -> Result {
        let zeroes = Answer::Body(Body::default().zeroes(40).u32(4096).u32(255).u32(4096).zeroes(28));
        if self.shares.place(node).is_some() {
            return Ok(zeroes);
        }
        let has = rustix::fs::fstatvfs(&self.node(node)?.fd)?;
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let body = Body::default().u64(has.f_blocks).u64(has.f_bfree).u64(has.f_bavail);
        let body = body.u64(has.f_files).u64(has.f_ffree).u32(small(has.f_bsize));
        Ok(Answer::Body(body.u32(small(has.f_namemax)).u32(small(has.f_frsize)).zeroes(28)))
    }

    pub(crate) fn getxattr(&mut self, node: u64, mut args: Args<'_>) -> Result {
        let (size, _) = (args.u32()?, args.u32()?);
        let name = args.string()?;
        if self.shares.place(node).is_some() || !is_users(name) {
            return Err(if name.is_empty() { Errno::INVAL } else { Errno::NODATA });
        }
        let file = reopen_any(self.node(node)?).map_err(|_| Errno::NODATA)?;
        let mut value = Vec::with_capacity(MOST_XATTR);
        rustix::fs::fgetxattr(file.as_fd(), name, rustix::buffer::spare_capacity(&mut value))?;
        sized(size, &value)
    }

    pub(crate) fn listxattr(&mut self, node: u64, mut args: Args<'_>) -> Result {
        let (size, _) = (args.u32()?, args.u32()?);
        let mut names = Vec::with_capacity(MOST_XATTR);
        if self.shares.place(node).is_none() {
            match reopen_any(self.node(node)?) {
                Ok(file) => {
                    rustix::fs::flistxattr(file.as_fd(), rustix::buffer::spare_capacity(&mut names))?;
                }
                // Links and the like have none that are users'.
                Err(Errno::NXIO | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
        }
        let users: Vec<u8> = names
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| is_users(name))
            .flatten()
            .copied()
            .collect();
        sized(size, &users)
    }

    pub(crate) fn setxattr(&mut self, node: u64, mut args: Args<'_>) -> Result {
        let (size, flags) = (args.u32()?, args.u32()?);
        let name = args.string()?;
        let value = args.0.get(..usize::try_from(size).map_err(|_| Errno::INVAL)?).ok_or(Errno::INVAL)?;
        if !is_users(name) {
            return Err(Errno::OPNOTSUPP);
        }
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let file = reopen_any(self.writable(node)?).map_err(|_| Errno::PERM)?;
        rustix::fs::fsetxattr(file.as_fd(), name, value, flags)?;
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn removexattr(&mut self, node: u64, mut args: Args<'_>) -> Result {
        let name = args.string()?;
        if !is_users(name) {
            return Err(Errno::OPNOTSUPP);
        }
        let file = reopen_any(self.writable(node)?).map_err(|_| Errno::PERM)?;
        rustix::fs::fremovexattr(file.as_fd(), name)?;
        Ok(Answer::Body(Body::default()))
    }
}

/// The size of something where the guest asks for it (with no room), else the thing.
fn sized(room: u32, bytes: &[u8]) -> Result {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)?;
    match room {
        0 => Ok(Answer::Body(Body::default().u32(length).u32(0))),
        _ if length > room => Err(Errno::RANGE),
        _ => Ok(Answer::Body(Body(bytes.to_vec()))),
    }
}
