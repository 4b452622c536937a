//! One request after the other: what it is, who does it, and its answer.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::abi::{self, Args, Body, Header, IN_HEADER, OUT_HEADER, init, opcode};
use crate::nodes::{self, Devices, Node, Nodes, Owner};
use crate::shares::{Place, Refused, Share, ShareId, Shares};

/// A request of the guest, and the room for the answer. Only a write's data are taken, and only a read's data given, without a
/// copy: from and to the guest's memory.
pub trait Message {
    /// Bytes of the request that were not read yet.
    fn left(&self) -> usize;
    /// Reads so many bytes as `out` has.
    ///
    /// # Errors
    /// There are less left.
    fn read(&mut self, out: &mut [u8]) -> io::Result<()>;
    /// Bytes that the answer may still have.
    fn room(&self) -> usize;
    /// Writes to the answer.
    ///
    /// # Errors
    /// There is no room; nothing was written then.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes the next `length` bytes of the request to a place of a file, or to its end where it was opened so.
    ///
    /// # Errors
    /// The host's. Less than `length` is none.
    fn write_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize) -> io::Result<usize>;
    /// Reads from a place of a file into the answer, behind the next `skip` bytes of it; nothing counts as written by that.
    ///
    /// # Errors
    /// The host's. Less than `length` is none.
    fn read_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize, skip: usize) -> io::Result<usize>;
    /// Counts bytes as written that [`read_file`](Self::read_file) put there.
    fn advance(&mut self, count: usize);
}

/// What becomes of a request.
pub(crate) enum Answer {
    /// The guest expects none.
    Silence,
    /// This.
    Body(Body),
    /// So many bytes, which are in their place already.
    Data(usize),
}

pub(crate) type Result<T = Answer> = std::result::Result<T, Errno>;

/// What the guest opened.
#[derive(Debug)]
pub(crate) enum Handle {
    /// A file.
    File {
        share: ShareId,
        fd: OwnedFd,
        /// May it be written?
        writes: bool,
    },
    /// A folder of the host.
    Folder { share: ShareId, node: u64, fd: OwnedFd },
    /// A place, as it was when it was opened.
    Place { place: Place, names: Vec<Vec<u8>> },
}

/// Descriptors for other things than what the guest knows or opened.
const RESERVE: usize = 128;

/// Serves one guest.
#[derive(Debug)]
pub struct Server {
    pub(crate) shares: Shares,
    pub(crate) nodes: Nodes,
    pub(crate) handles: HashMap<u64, Handle>,
    last_handle: u64,
    pub(crate) devices: Devices,
    pub(crate) owner: Owner,
    most: usize,
}

impl Server {
    /// Shares nothing yet. `descriptors` is how many the process may have open at a time (`RLIMIT_NOFILE`); `/proc/self/fd` must be
    /// there, and the process's umask should be 0, as the guest's processes have their own.
    #[must_use]
    pub fn new(owner: Owner, descriptors: usize) -> Self {
        let most = descriptors.saturating_sub(RESERVE);
        Self {
            shares: Shares::default(),
            nodes: Nodes::new(most),
            handles: HashMap::new(),
            last_handle: 0,
            devices: Devices::default(),
            owner,
            most,
        }
    }

    /// Grants a file or folder alone: the guest finds it below [`FILES_NAME`](crate::FILES_NAME), by the number that is given and its
    /// name. The same one is granted once.
    ///
    /// # Errors
    /// It cannot be looked at, is neither file nor folder, or see [`Refused`].
    pub fn grant(&mut self, share: Share) -> io::Result<ShareId> {
        let stat = nodes::status(share.root.as_fd())?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(io::Error::other("it is neither a file nor a folder"));
        }
        self.shares.grant(share, &stat).map_err(|why| {
            io::Error::other(if why == Refused::TooMany {
                "too much was given to it"
            } else {
                "its name is odd"
            })
        })
    }

    /// Shares a folder, at once.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn add(&mut self, share: Share) -> std::result::Result<ShareId, Refused> {
        self.shares.add(share)
    }

    /// The shared folder of this name.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<ShareId> {
        self.shares.by_name(name)
    }

    /// Ends a share. What the guest has open of it is closed.
    pub fn remove(&mut self, id: ShareId) -> Option<Share> {
        let share = self.shares.remove(id)?;
        self.nodes.drop_share(id);
        self.handles.retain(|_, handle| handle.share() != Some(id));
        Some(share)
    }

    /// Has a share be read-only, or not any more, through another descriptor of the same folder (on which the host's kernel may hold
    /// the same). What was open for writing is closed where it becomes read-only; what the guest knows of it, it knows on.
    ///
    /// # Errors
    /// `root` is another folder, or it cannot be looked at.
    pub fn change(&mut self, id: ShareId, root: OwnedFd, read_only: bool) -> io::Result<()> {
        let share = self.shares.get_mut(id).ok_or(Errno::STALE)?;
        let (old, new) = (nodes::status(share.root.as_fd())?, nodes::status(root.as_fd())?);
        let which = |stat: &rustix::fs::Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        if which(&old) != which(&new) {
            return Err(io::Error::other("it is another folder"));
        }
        let was = rustix::fs::readlink(nodes::path(&share.root), Vec::new())?.into_bytes();
        share.read_only = read_only;
        for node in self.nodes.of_share(id) {
            // A node that is not found where it was (the host moved it meanwhile) keeps what it has: it can do less, or is checked by
            // us alone.
            if let Ok(fd) = again(node, &was, root.as_fd()) {
                node.fd = fd;
            }
        }
        share.root = root;
        if read_only {
            let closed =
                |handle: &Handle| matches!(handle, Handle::File { share, writes: true, .. } if *share == id);
            self.handles.retain(|_, handle| !closed(handle));
        }
        Ok(())
    }

    /// The guest starts anew: nothing is known or open.
    pub fn reset(&mut self) {
        self.nodes.clear();
        self.handles.clear();
    }

    /// Does what a request wants, and answers. One that says too little to be answered is passed over.
    pub fn serve(&mut self, message: &mut dyn Message) {
        let mut header = [0; IN_HEADER];
        if message.left() < IN_HEADER || message.read(&mut header).is_err() {
            return;
        }
        let header = Header::parse(&header);
        let room = message.room();
        let answer = self.request(&header, message);
        if room < OUT_HEADER {
            return;
        }
        let (answer, error) = match answer {
            Ok(Answer::Silence) => return,
            Ok(Answer::Body(body)) if body.0.len() > room - OUT_HEADER => {
                (Answer::Silence, Some(Errno::RANGE))
            }
            Ok(answer) => (answer, None),
            Err(error) => (Answer::Silence, Some(error)),
        };
        let length = match &answer {
            Answer::Silence => 0,
            Answer::Body(body) => body.0.len(),
            Answer::Data(length) => *length,
        };
        // There is room for all of it.
        let _ = message.write(&abi::out_header(length, error, header.unique));
        match answer {
            Answer::Silence => {}
            Answer::Body(body) => drop(message.write(&body.0)),
            Answer::Data(length) => message.advance(length),
        }
    }

    fn request(&mut self, header: &Header, message: &mut dyn Message) -> Result {
        let length = usize::try_from(header.length).map_err(|_| Errno::INVAL)?;
        if length.checked_sub(IN_HEADER) != Some(message.left()) {
            return Err(Errno::INVAL);
        }
        if header.opcode == opcode::WRITE {
            return self.write(message);
        }
        if message.left() > abi::MOST_ARGUMENTS {
            return Err(Errno::INVAL);
        }
        let mut arguments = vec![0; message.left()];
        message.read(&mut arguments).map_err(|_| Errno::INVAL)?;
        let args = Args(&arguments);
        if header.opcode == opcode::READ {
            return self.read(args, message);
        }
        let room = message.room().saturating_sub(OUT_HEADER);
        self.ask(header, args, room)
    }

    fn ask(&mut self, header: &Header, args: Args<'_>, room: usize) -> Result {
        let node = header.node;
        match header.opcode {
            opcode::INIT => self.init(args),
            opcode::LOOKUP => self.lookup(node, args),
            opcode::FORGET => self.forget(node, args),
            opcode::BATCH_FORGET => self.forget_many(args),
            opcode::GETATTR => self.getattr(node),
            opcode::SETATTR => self.setattr(node, args),
            opcode::READLINK => self.readlink(node),
            opcode::SYMLINK => self.symlink(node, args),
            opcode::MKNOD => self.mknod(node, args),
            opcode::MKDIR => self.mkdir(node, args),
            opcode::UNLINK => self.unlink(node, args, false),
            opcode::RMDIR => self.unlink(node, args, true),
            opcode::RENAME => self.rename(node, args, false),
            opcode::RENAME2 => self.rename(node, args, true),
            opcode::LINK => self.link(node, args),
            opcode::OPEN => self.open(node, args),
            opcode::CREATE => self.create(node, args),
            opcode::RELEASE | opcode::RELEASEDIR => self.release(args),
            opcode::FSYNC | opcode::FSYNCDIR => self.fsync(args),
            opcode::FALLOCATE => self.fallocate(args),
            opcode::LSEEK => self.lseek(args),
            opcode::COPY_FILE_RANGE => self.copy_file_range(args),
            opcode::OPENDIR => self.opendir(node),
            opcode::READDIR => self.readdir(args, false, room),
            opcode::READDIRPLUS => self.readdir(args, true, room),
            opcode::STATFS => self.statfs(node),
            opcode::SYNCFS => self.syncfs(node),
            opcode::GETXATTR => self.getxattr(node, args),
            opcode::LISTXATTR => self.listxattr(node, args),
            opcode::SETXATTR => self.setxattr(node, args),
            opcode::REMOVEXATTR => self.removexattr(node, args),
            // What is asked is done before the next request is looked at: there is nothing to interrupt.
            opcode::INTERRUPT => Ok(Answer::Silence),
            opcode::DESTROY => {
                self.reset();
                Ok(Answer::Body(Body::default()))
            }
            _ => Err(Errno::NOSYS),
        }
    }

    fn init(&mut self, mut args: Args<'_>) -> Result {
        let (major, _minor, ahead, flags) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
        if major < abi::MAJOR {
            return Err(Errno::PROTO);
        }
        // A file system that is mounted anew knows nothing of what was before.
        self.reset();
        let body = Body::default().u32(abi::MAJOR).u32(abi::MINOR).u32(ahead.min(abi::MOST_DATA));
        // As many requests on their way as the kernel likes; times are exact to one nanosecond.
        let body = body.u32(flags & init::OFFERED).u16(64).u16(48).u32(abi::MOST_DATA).u32(1);
        Ok(Answer::Body(body.u16(abi::MOST_PAGES).zeroes(34)))
    }

    /// A handle for something that was opened.
    pub(crate) fn keep(&mut self, handle: Handle) -> Result<u64> {
        self.has_room()?;
        self.last_handle += 1;
        self.handles.insert(self.last_handle, handle);
        Ok(self.last_handle)
    }

    /// Whether the process may have one more descriptor.
    pub(crate) fn has_room(&self) -> Result<()> {
        if self.handles.len() + self.nodes.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// A node of the host with its share.
    pub(crate) fn node(&self, id: u64) -> Result<&Node> {
        if self.shares.place(id).is_some() {
            return Err(Errno::PERM);
        }
        self.nodes.get(id)
    }

    /// The same, to be changed.
    pub(crate) fn writable(&self, id: u64) -> Result<&Node> {
        if self.shares.place(id).is_some() {
            return Err(Errno::ROFS);
        }
        let node = self.nodes.get(id)?;
        if self.shares.get(node.share)?.read_only { Err(Errno::ROFS) } else { Ok(node) }
    }

    /// A file that the guest opened.
    pub(crate) fn file(&self, handle: u64, to_write: bool) -> Result<BorrowedFd<'_>> {
        match self.handles.get(&handle) {
            Some(Handle::File { writes, .. }) if to_write && !writes => Err(Errno::BADF),
            Some(Handle::File { fd, .. }) => Ok(fd.as_fd()),
            _ => Err(Errno::BADF),
        }
    }
}

impl Handle {
    fn share(&self) -> Option<ShareId> {
        match self {
            Self::File { share, .. } | Self::Folder { share, .. } => Some(*share),
            Self::Place { .. } => None,
        }
    }
}

/// What a name in a folder is, itself: a link is a link.
pub(crate) fn within(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve)
}

/// Finds a node of the folder that was at the path `was` in the same folder behind another descriptor.
fn again(node: &Node, was: &[u8], root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = rustix::fs::readlink(nodes::path(&node.fd), Vec::new())?.into_bytes();
    let gone = || io::Error::from(Errno::NOENT);
    let below = path.strip_prefix(was).ok_or_else(gone)?;
    let below = if was.ends_with(b"/") { below } else { below.strip_prefix(b"/").unwrap_or(below) };
    let fd = if below.is_empty() { rustix::io::dup(root)? } else { within(root, below)? };
    if nodes::is_same(node, &nodes::status(fd.as_fd())?) { Ok(fd) } else { Err(gone()) }
}
