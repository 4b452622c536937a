//! What the guest's kernel knows by number: files and folders of the host, each held by a descriptor that can do nothing but name
//! it (`O_PATH`), so that no path is ever looked up twice.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::io::Errno;

use crate::abi::Attr;
use crate::shares::ShareId;

/// Numbers of nodes begin here; those below are of folders that are not the host's.
const FIRST: u64 = 1 << 16;
/// Times that hold for ever.
const FORGOTTEN: u64 = 0;

/// The same file has the same key, under whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub share: ShareId,
    pub dev: u64,
    pub ino: u64,
}

/// A file or folder of the host that the guest knows.
#[derive(Debug)]
pub struct Node {
    pub share: ShareId,
    /// `O_PATH`.
    pub fd: OwnedFd,
    pub kind: FileType,
    key: Key,
    /// How often the guest was told of it and has not forgotten it.
    lookups: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Nodes {
    nodes: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    next: u64,
    most: usize,
}

impl Nodes {
    /// Holds at most this many.
    pub fn new(most: usize) -> Self {
        Self { nodes: HashMap::new(), by_key: HashMap::new(), next: FIRST, most }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A node by its number; `ESTALE` when there is none, or no more.
    pub fn get(&self, id: u64) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    /// The guest is told of a file: its number.
    pub fn add(&mut self, share: ShareId, fd: OwnedFd, stat: &Statx) -> Result<u64, Errno> {
        let key = Key { share, dev: device(stat), ino: stat.stx_ino };
        if let Some(id) = self.by_key.get(&key)
            && let Some(node) = self.nodes.get_mut(id)
        {
            node.lookups = node.lookups.saturating_add(1);
            return Ok(*id);
        }
        if self.nodes.len() >= self.most {
            return Err(Errno::NFILE);
        }
        let id = self.next;
        self.next += 1;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        self.nodes.insert(id, Node { share, fd, kind, key, lookups: 1 });
        self.by_key.insert(key, id);
        Ok(id)
    }

    /// The guest forgets what it was told so many times.
    pub fn forget(&mut self, id: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == FORGOTTEN {
            self.by_key.remove(&node.key);
            self.nodes.remove(&id);
        }
    }

    /// A share is gone, with all that is known of it.
    pub fn drop_share(&mut self, share: ShareId) {
        self.nodes.retain(|_, node| node.share != share);
        self.by_key.retain(|key, _| key.share != share);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.by_key.clear();
    }

    /// The nodes of a share, to be changed.
    pub fn of_share(&mut self, share: ShareId) -> impl Iterator<Item = &mut Node> {
        self.nodes.values_mut().filter(move |node| node.share == share)
    }
}

/// Whether a node is still what it was when seen through `stat`.
pub fn is_same(node: &Node, stat: &Statx) -> bool {
    (node.key.dev, node.key.ino) == (device(stat), stat.stx_ino)
}

/// The file system that it is on.
pub fn device(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

/// A descriptor as a path: the only way to open, or to change, what a descriptor of kind `O_PATH` names.
pub fn path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What is at the other end of a descriptor.
pub fn status(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

impl Node {
    /// Its state now.
    pub fn status(&self) -> Result<Statx, Errno> {
        status(self.fd.as_fd())
    }

    /// It must be a folder.
    pub fn folder(&self) -> Result<BorrowedFd<'_>, Errno> {
        if self.kind == FileType::Directory { Ok(self.fd.as_fd()) } else { Err(Errno::NOTDIR) }
    }
}

/// Who owns files, on both sides: the user that serves them is the guest's user; all others are nobody there.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User and group in the guest.
    pub guest: (u32, u32),
    /// User and group of this process.
    pub host: (u32, u32),
}

/// Neither the guest's user nor anybody that it knows.
const NOBODY: u32 = 65534;

impl Owner {
    /// Files of this process's user are this user's in the guest.
    #[must_use]
    pub fn new(guest: (u32, u32)) -> Self {
        let host = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { guest, host }
    }
}

/// Numbers of files as the guest sees them: those of several file systems of the host must not meet.
#[derive(Debug, Default)]
pub struct Devices(Vec<u64>);

impl Devices {
    pub fn ino(&mut self, dev: u64, ino: u64) -> u64 {
        let index = self.0.iter().position(|known| *known == dev).unwrap_or_else(|| {
            self.0.push(dev);
            self.0.len() - 1
        });
        // 2^56 files on one system are none that exist; should there be more, two numbers may meet, as they may in any archive.
        ((index as u64).wrapping_add(1) << 56) ^ ino
    }

    /// What the guest learns.
    pub fn attr(&mut self, stat: &Statx, owner: Owner) -> Attr {
        let map = |id, own, guest| if id == own { guest } else { NOBODY };
        // Times before 1970 wrap around, which is how the guest's kernel reads them again.
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec.cast_unsigned(), time.tv_nsec);
        Attr {
            ino: self.ino(device(stat), stat.stx_ino),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            times: [time(stat.stx_atime), time(stat.stx_mtime), time(stat.stx_ctime)],
            mode: stat.stx_mode.into(),
            nlink: stat.stx_nlink,
            uid: map(stat.stx_uid, owner.host.0, owner.guest.0),
            gid: map(stat.stx_gid, owner.host.1, owner.guest.1),
            blksize: stat.stx_blksize,
        }
    }
}
