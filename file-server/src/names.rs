//! Names: what a folder has under one, and giving, changing and taking them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use crate::abi::{Args, Body, entry};
use crate::nodes;
use crate::server::{Answer, Result, Server, within};
use crate::shares::{Found, ShareId};

/// Bits of a mode that files of a guest may have: nobody becomes another by running one.
pub fn mode(bits: u32, kind: FileType) -> Mode {
    let most = if kind == FileType::Directory { 0o3777 } else { 0o1777 };
    Mode::from_raw_mode(bits & most)
}

impl Server {
    pub(crate) fn lookup(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let name = args.name()?;
        let Some(place) = self.shares.place(parent) else { return self.found(parent, name) };
        match self.shares.find(place, name)? {
            Found::Place(place) => Ok(Answer::Body(entry(place.node(), &place.attr(self.owner)))),
            Found::Share(id) => self.begin(id).map(Answer::Body),
        }
    }

    /// The beginning of a share.
    pub(crate) fn begin(&mut self, id: ShareId) -> Result<Body> {
        self.has_room()?;
        let root = rustix::io::fcntl_dupfd_cloexec(&self.shares.get(id)?.root, 0)?;
        self.tell(id, root)
    }

    fn found(&mut self, parent: u64, name: &[u8]) -> Result {
        self.entry(parent, name).map(Answer::Body)
    }

    /// Tells the guest of something with this name in this folder of the host.
    pub(crate) fn entry(&mut self, parent: u64, name: &[u8]) -> Result<Body> {
        self.has_room()?;
        let folder = self.node(parent)?;
        let (share, fd) = (folder.share, within(folder.folder()?, name)?);
        self.tell(share, fd)
    }

    /// Tells the guest of what this descriptor names.
    pub(crate) fn tell(&mut self, share: ShareId, fd: OwnedFd) -> Result<Body> {
        let stat = nodes::status(fd.as_fd())?;
        let attr = self.devices.attr(&stat, self.owner);
        let id = self.nodes.add(share, fd, &stat)?;
        Ok(entry(id, &attr))
    }

    pub(crate) fn forget(&mut self, node: u64, mut args: Args<'_>) -> Result {
        self.nodes.forget(node, args.u64()?);
        Ok(Answer::Silence)
    }

    pub(crate) fn forget_many(&mut self, mut args: Args<'_>) -> Result {
        let (count, _) = (args.u32()?, args.u32()?);
        for _ in 0..count {
            // What is missing is not forgotten.
            let (Ok(node), Ok(lookups)) = (args.u64(), args.u64()) else { break };
            self.nodes.forget(node, lookups);
        }
        Ok(Answer::Silence)
    }

    /// A folder in which something is to be changed.
    pub(crate) fn folder(&self, id: u64) -> Result<(ShareId, BorrowedFd<'_>)> {
        let node = self.writable(id)?;
        Ok((node.share, node.folder()?))
    }

    pub(crate) fn readlink(&mut self, node: u64) -> Result {
        let node = self.node(node)?;
        if node.kind != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let text = rustix::fs::readlinkat(&node.fd, c"", Vec::new())?;
        Ok(Answer::Body(Body(text.into_bytes())))
    }

    pub(crate) fn symlink(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let (name, text) = (args.name()?, args.string()?);
        let (_, folder) = self.folder(parent)?;
        rustix::fs::symlinkat(text, folder, name)?;
        self.found(parent, name)
    }

    pub(crate) fn mknod(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let (bits, _device, _mask, _) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        let name = args.name()?;
        let kind = FileType::from_raw_mode(bits);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let (_, folder) = self.folder(parent)?;
        rustix::fs::mknodat(folder, name, kind, mode(bits, kind), 0)?;
        self.found(parent, name)
    }

    pub(crate) fn mkdir(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let (bits, _mask) = (args.u32()?, args.u32()?);
        let name = args.name()?;
        let (_, folder) = self.folder(parent)?;
        rustix::fs::mkdirat(folder, name, mode(bits, FileType::Directory))?;
        self.found(parent, name)
    }

    pub(crate) fn unlink(&mut self, parent: u64, mut args: Args<'_>, is_folder: bool) -> Result {
        let name = args.name()?;
        let (_, folder) = self.folder(parent)?;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(folder, name, flags)?;
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn rename(&mut self, parent: u64, mut args: Args<'_>, has_flags: bool) -> Result {
        let to = args.u64()?;
        let flags = if has_flags { (args.u32()?, args.u32()?).0 } else { 0 };
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        // A name that hides what is below is a matter of layered file systems.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (args.name()?, args.name()?);
        let ((from_share, from), (to_share, to)) = (self.folder(parent)?, self.folder(to)?);
        if from_share != to_share {
            return Err(Errno::XDEV);
        }
        rustix::fs::renameat_with(from, old, to, new, flags)?;
        Ok(Answer::Body(Body::default()))
    }

    pub(crate) fn link(&mut self, parent: u64, mut args: Args<'_>) -> Result {
        let node = args.u64()?;
        let name = args.name()?;
        let (share, folder) = self.folder(parent)?;
        let node = self.node(node)?;
        // What was granted alone gets no second name in a shared folder, where it would stay.
        if node.share != share {
            return Err(Errno::XDEV);
        }
        if node.kind == FileType::Directory {
            return Err(Errno::PERM);
        }
        rustix::fs::linkat(rustix::fs::CWD, nodes::path(&node.fd), folder, name, AtFlags::SYMLINK_FOLLOW)?;
        self.found(parent, name)
    }
}
