//! What is shared, and where the guest finds it.
//!
//! ```text
//! /                 the root: nothing can be made here
//!   NAME/           a shared folder
//!   .files/         granted files, which no listing shows
//!     NUMBER/NAME   one file or folder, alone
//! ```

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Statx};
use rustix::io::Errno;

use crate::abi::{Attr, ROOT};
use crate::nodes::{Owner, device};

/// The folder of granted files.
const FILES: u64 = 2;
/// The folder of one granted file: this and its number.
const GRANT: u64 = 1 << 62;
/// Its name.
pub const FILES_NAME: &[u8] = b".files";
/// Shares and grants at a time.
const MOST: usize = 4096;

/// A share or grant; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareId(pub u32);

/// What of the host a guest may reach.
#[derive(Debug)]
pub struct Share {
    /// As the guest sees it.
    pub name: Vec<u8>,
    /// `O_PATH` of the folder (or, for a grant, the file).
    pub root: OwnedFd,
    /// Nothing may be changed.
    pub read_only: bool,
    /// It stands alone in a folder of [`FILES_NAME`].
    pub granted: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Shares {
    shares: BTreeMap<ShareId, Share>,
    last: u32,
    /// What was granted, so that it is granted once.
    granted: BTreeMap<(u64, u64, bool, Vec<u8>), ShareId>,
}

/// Why a share was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is another of this name.
    Taken,
    /// The name is no name of a file, or hidden.
    Name,
    /// There are too many.
    TooMany,
}

/// A folder that is not the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What the guest mounts.
    Root,
    /// [`FILES_NAME`].
    Files,
    /// The folder around a granted file.
    Grant(ShareId),
}

/// What is found in a [`Place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Another place.
    Place(Place),
    /// The beginning of a share.
    Share(ShareId),
}

impl Shares {
    /// Shares a folder, or grants a file.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn add(&mut self, share: Share) -> Result<ShareId, Refused> {
        let name = share.name.as_slice();
        let bad = name.is_empty() || name.len() > 255 || name == b"." || name == b"..";
        if bad
            || name.iter().any(|byte| matches!(byte, 0 | b'/'))
            || (!share.granted && name.starts_with(b"."))
        {
            return Err(Refused::Name);
        }
        if !share.granted && self.by_name(name).is_some() {
            return Err(Refused::Taken);
        }
        if self.shares.len() >= MOST {
            return Err(Refused::TooMany);
        }
        self.last = self.last.checked_add(1).ok_or(Refused::TooMany)?;
        let id = ShareId(self.last);
        self.shares.insert(id, share);
        Ok(id)
    }

    /// Grants a file or folder alone; the same one under the same name is granted once.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn grant(&mut self, share: Share, stat: &Statx) -> Result<ShareId, Refused> {
        let key = (device(stat), stat.stx_ino, share.read_only, share.name.clone());
        if let Some(id) = self.granted.get(&key) {
            return Ok(*id);
        }
        let id = self.add(Share { granted: true, ..share })?;
        self.granted.insert(key, id);
        Ok(id)
    }

    /// Ends a share.
    pub fn remove(&mut self, id: ShareId) -> Option<Share> {
        self.granted.retain(|_, granted| *granted != id);
        self.shares.remove(&id)
    }

    /// A share; `ESTALE` when it ended.
    pub fn get(&self, id: ShareId) -> Result<&Share, Errno> {
        self.shares.get(&id).ok_or(Errno::STALE)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: ShareId) -> Option<&mut Share> {
        self.shares.get_mut(&id)
    }

    /// A shared folder by its name.
    pub fn by_name(&self, name: &[u8]) -> Option<ShareId> {
        self.shares.iter().find(|(_, share)| !share.granted && share.name == name).map(|(id, _)| *id)
    }

    /// What has this name in a place.
    pub fn find(&self, place: Place, name: &[u8]) -> Result<Found, Errno> {
        let found = match place {
            Place::Root if name == FILES_NAME => Some(Found::Place(Place::Files)),
            Place::Root => self.by_name(name).map(Found::Share),
            Place::Files => {
                // As it is written, and no other way.
                let id = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).map(ShareId);
                id.filter(|id| id.0.to_string().as_bytes() == name && self.is_granted(*id))
                    .map(|id| Found::Place(Place::Grant(id)))
            }
            Place::Grant(id) => self
                .shares
                .get(&id)
                .filter(|share| share.granted && share.name == name)
                .map(|_| Found::Share(id)),
        };
        found.ok_or(Errno::NOENT)
    }

    fn is_granted(&self, id: ShareId) -> bool {
        self.shares.get(&id).is_some_and(|share| share.granted)
    }

    /// The place with this number, if it is one.
    pub fn place(&self, node: u64) -> Option<Place> {
        match node {
            ROOT => Some(Place::Root),
            FILES => Some(Place::Files),
            _ => {
                let id = ShareId(u32::try_from(node.checked_sub(GRANT)?).ok()?);
                self.is_granted(id).then_some(Place::Grant(id))
            }
        }
    }

    /// Names in a place, for listings.
    pub fn list(&self, place: Place) -> Vec<Vec<u8>> {
        let all = self.shares.iter();
        match place {
            Place::Root => {
                let mut names: Vec<_> =
                    all.filter(|(_, share)| !share.granted).map(|(_, share)| share.name.clone()).collect();
                names.sort();
                names
            }
            // Who was told of a file knows where it is.
            Place::Files => Vec::new(),
            Place::Grant(id) => self.shares.get(&id).into_iter().map(|share| share.name.clone()).collect(),
        }
    }
}

impl Place {
    /// Its number.
    pub fn node(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::Files => FILES,
            Self::Grant(id) => GRANT + u64::from(id.0),
        }
    }

    /// What the guest learns of it.
    pub fn attr(self, owner: Owner) -> Attr {
        Attr {
            ino: self.node(),
            mode: FileType::Directory.as_raw_mode() | 0o555,
            nlink: 2,
            uid: owner.guest.0,
            gid: owner.guest.1,
            blksize: 4096,
            ..Attr::default()
        }
    }
}
