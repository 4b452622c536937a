//! Listing folders.

use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use crate::abi::{Args, Body, ENTRY, MOST_LISTING, ROOT};
use crate::files::reopen_any;
use crate::nodes;
use crate::server::{Answer, Handle, Result, Server};
use crate::shares::{Found, Place};

/// Bytes of `fuse_dirent` before the name.
const DIRENT: usize = 24;

/// What is read from the host's folder at once, in bytes.
const CHUNK: usize = 1 << 15;

/// A name in a listing.
struct Listed {
    ino: u64,
    /// Where the next one is.
    next: u64,
    /// Where it is known.
    kind: Option<FileType>,
    name: Vec<u8>,
}

impl Listed {
    /// What it takes, in bytes.
    fn size(&self, plus: bool) -> usize {
        let size = (DIRENT + self.name.len()).next_multiple_of(8);
        if plus { ENTRY + size } else { size }
    }

    /// `fuse_dirent`.
    fn put(&self, body: Body) -> Body {
        let length = u32::try_from(self.name.len()).unwrap_or(0);
        // As `struct dirent` says it: the kind's bits in a mode, moved down.
        let kind = self.kind.map_or(0, |kind| kind.as_raw_mode() >> 12);
        let padding = (DIRENT + self.name.len()).next_multiple_of(8) - DIRENT - self.name.len();
        body.u64(self.ino).u64(self.next).u32(length).u32(kind).bytes(&self.name).zeroes(padding)
    }

    fn is_dots(&self) -> bool {
        matches!(self.name.as_slice(), b"." | b"..")
    }
}

impl Server {
    pub(crate) fn opendir(&mut self, node: u64) -> Result {
        let handle = if let Some(place) = self.shares.place(node) {
            Handle::Place { place, names: self.shares.list(place) }
        } else {
            let found = self.node(node)?;
            found.folder()?;
            Handle::Folder { share: found.share, node, fd: reopen_any(found)? }
        };
        let handle = self.keep(handle)?;
        Ok(Answer::Body(Body::default().u64(handle).u32(0).u32(0)))
    }

    pub(crate) fn readdir(&mut self, mut args: Args<'_>, plus: bool, room: usize) -> Result {
        let (handle, at, size) = (args.u64()?, args.u64()?, args.u32()?);
        let room = usize::try_from(size).unwrap_or(0).min(room).min(MOST_LISTING);
        match self.handles.get(&handle) {
            Some(Handle::Place { place, names }) => {
                let place = *place;
                let listed = place_listing(place, names, at);
                Ok(Answer::Body(self.list_place(place, listed, plus, room)))
            }
            Some(Handle::Folder { .. }) => self.list_folder(handle, at, plus, room),
            _ => Err(Errno::BADF),
        }
    }

    fn list_place(&mut self, place: Place, listed: Vec<Listed>, plus: bool, room: usize) -> Body {
        let mut body = Body::default();
        for name in listed {
            if body.0.len() + name.size(plus) > room {
                break;
            }
            if plus {
                let share = match self.shares.find(place, &name.name) {
                    Ok(Found::Share(id)) => self.begin(id).ok(),
                    _ => None,
                };
                body = body.bytes(&share.unwrap_or_else(|| Body::default().zeroes(ENTRY)).0);
            }
            body = name.put(body);
        }
        body
    }

    fn list_folder(&mut self, handle: u64, from: u64, plus: bool, room: usize) -> Result {
        let Some(Handle::Folder { node, fd, .. }) = self.handles.get(&handle) else {
            return Err(Errno::BADF);
        };
        let node = *node;
        // What was read beyond the last answer's room is read again.
        rustix::fs::seek(fd, SeekFrom::Start(from))?;
        let device = nodes::device(&nodes::status(fd.as_fd())?);
        let mut listed = Vec::new();
        let mut needed = 0;
        let mut space = [MaybeUninit::uninit(); CHUNK];
        let mut folder = RawDir::new(fd, &mut space);
        while let Some(found) = folder.next() {
            let found = found?;
            let name = found.file_name().to_bytes().to_vec();
            // The number of what is above is nobody's matter.
            let ino = if name == b".." { ROOT } else { self.devices.ino(device, found.ino()) };
            let kind = Some(found.file_type());
            let entry = Listed { ino, next: found.next_entry_cookie(), kind, name };
            needed += entry.size(plus);
            if needed > room {
                break;
            }
            listed.push(entry);
        }
        let mut body = Body::default();
        for name in listed {
            if plus {
                let told = if name.is_dots() { Err(Errno::INVAL) } else { self.entry(node, &name.name) };
                // Gone meanwhile, or too many are known: it has a name all the same.
                body = body.bytes(&told.unwrap_or_else(|_| Body::default().zeroes(ENTRY)).0);
            }
            body = name.put(body);
        }
        Ok(Answer::Body(body))
    }
}

/// What is in a place, from a position on.
fn place_listing(place: Place, names: &[Vec<u8>], at: u64) -> Vec<Listed> {
    let dots = [b".".to_vec(), b"..".to_vec()];
    let all = dots.iter().chain(names).zip(1..);
    let skip = usize::try_from(at).unwrap_or(usize::MAX);
    let listed = all.skip(skip).map(|(name, next)| {
        let kind = (next <= 2 || place == Place::Root).then_some(FileType::Directory);
        Listed { ino: place.node(), next, kind, name: name.clone() }
    });
    listed.collect()
}
