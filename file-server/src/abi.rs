//! The words of FUSE 7.38 (`include/uapi/linux/fuse.h`), as far as a guest's kernel uses them over virtio-fs: numbers, the
//! arguments of requests, and the parts of answers. All is little-endian here, as virtio wants it (virtio 1.2, section 5.11.6).

use rustix::io::Errno;

/// The version that is spoken.
pub const MAJOR: u32 = 7;
/// See [`MAJOR`].
pub const MINOR: u32 = 38;
/// Bytes before every request.
pub const IN_HEADER: usize = 40;
/// Bytes before every answer.
pub const OUT_HEADER: usize = 16;
/// Bytes of what [`entry`] makes.
pub const ENTRY: usize = 128;
/// The longest read or write, in bytes.
pub const MOST_DATA: u32 = 1 << 20;
/// The same in pages.
pub const MOST_PAGES: u16 = 256;
/// The longest request that is no write: extended attributes and lists of what is forgotten.
pub const MOST_ARGUMENTS: usize = (1 << 20) + (1 << 12);
/// The node that the guest mounts.
pub const ROOT: u64 = 1;

/// What is asked for.
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
}

/// What both ends can do (`FUSE_INIT`).
pub mod init {
    pub const ASYNC_READ: u32 = 1 << 0;
    pub const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub const BIG_WRITES: u32 = 1 << 5;
    pub const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub const ASYNC_DIO: u32 = 1 << 15;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const MAX_PAGES: u32 = 1 << 22;
    /// A write takes set-user-id bits away by itself, which the host's kernel does.
    pub const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
    /// All that is offered. Not among it: locks, which the guest's kernel keeps among its own processes then.
    pub const OFFERED: u32 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | PARALLEL_DIROPS
        | MAX_PAGES
        | HANDLE_KILLPRIV_V2;
}

/// What `FUSE_SETATTR` sets.
pub mod valid {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// `FUSE_FSYNC` of data alone.
pub const FSYNC_DATA: u32 = 1;
/// Largest answer to a read of a folder, in bytes.
pub const MOST_LISTING: usize = 1 << 16;

/// The beginning of a request (`fuse_in_header`).
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub length: u32,
    pub opcode: u32,
    pub unique: u64,
    pub node: u64,
}

impl Header {
    /// Reads it. The process and user that ask are the guest's own matter: its kernel checks what they may.
    pub fn parse(bytes: &[u8; IN_HEADER]) -> Self {
        let mut args = Args(bytes);
        let (mut word, mut long) = (0, 0);
        let mut next32 = || args.u32().unwrap_or_default();
        let (length, opcode) = (next32(), next32());
        for value in [&mut word, &mut long] {
            *value = args.u64().unwrap_or_default();
        }
        Self { length, opcode, unique: word, node: long }
    }
}

/// What is left of a request's arguments. All that is missing is `EINVAL`.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a>(pub &'a [u8]);

impl<'a> Args<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (now, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*now)
    }

    pub fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_le_bytes)
    }

    /// Bytes up to a NUL, which is taken too.
    pub fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(string)
    }

    /// The name of something in a folder: one component, which means that thing and no other.
    pub fn name(&mut self) -> Result<&'a [u8], Errno> {
        let name = self.string()?;
        match name {
            b"" | b"." | b".." => Err(Errno::INVAL),
            _ if name.len() > 255 => Err(Errno::NAMETOOLONG),
            _ if name.contains(&b'/') => Err(Errno::INVAL),
            _ => Ok(name),
        }
    }
}

/// What is put together for an answer.
#[derive(Debug, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn zeroes(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// What the guest learns of a file (`fuse_attr`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Attr {
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    /// Access, modification, change: seconds and nanoseconds.
    pub times: [(u64, u32); 3],
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub blksize: u32,
}

impl Attr {
    pub fn put(&self, body: Body) -> Body {
        let body = body.u64(self.ino).u64(self.size).u64(self.blocks);
        let body = self.times.iter().fold(body, |body, time| body.u64(time.0));
        let body = self.times.iter().fold(body, |body, time| body.u32(time.1));
        let body = body.u32(self.mode).u32(self.nlink).u32(self.uid).u32(self.gid);
        // No device's number: there are no devices.
        body.u32(0).u32(self.blksize).u32(0)
    }
}

/// For how long the guest believes what it was told, in seconds: the host changes files as well, and cannot tell.
const BELIEVED: u64 = 1;

/// `fuse_attr_out`.
pub fn attributes(attr: &Attr) -> Body {
    attr.put(Body::default().u64(BELIEVED).u32(0).u32(0))
}

/// `fuse_entry_out`.
pub fn entry(node: u64, attr: &Attr) -> Body {
    attr.put(Body::default().u64(node).u64(0).u64(BELIEVED).u64(BELIEVED).u32(0).u32(0))
}

/// `fuse_out_header`.
pub fn out_header(length: usize, error: Option<Errno>, unique: u64) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    let length = u32::try_from(OUT_HEADER + length).unwrap_or(u32::MAX);
    let error = error.map_or(0, |error| -error.raw_os_error());
    let bytes = length.to_le_bytes().into_iter().chain(error.to_le_bytes()).chain(unique.to_le_bytes());
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = from;
    }
    header
}
