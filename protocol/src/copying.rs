//! Files that are copied out of the guest: what its [`Event::CopyOut`](crate::display::Event::CopyOut) named, one after the other, on a stream
//! of [`Chunk`](crate::stream::Chunk)s whose bytes are these messages.
//!
//! ```text
//! Found* { Chosen (file | folder | Left) }* Done        file = File (Data | Hole)* (Close | Broken)
//!                                                        folder = Folder (file | folder | Link | Left)* Close
//! ```
//! The host makes every file, folder and link itself, so it says what is made and where: a name is one component of a path, and is never
//! looked up.

use serde::{Deserialize, Serialize};

use crate::framing::{Invalid, Message};
use crate::{limits, stream};

/// What a file or folder is called, and some of what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// One component of a path: any bytes but NUL and `/`.
    pub name: Vec<u8>,
    /// Whether it can be executed.
    pub executable: bool,
    /// When it was changed last: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

/// Why something is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left {
    /// It is not there, or cannot be read.
    Unreadable,
    /// It is neither a file nor a folder nor a symbolic link.
    Special,
    /// It lies too deep: [`limits::COPY_DEPTH`].
    Deep,
}

/// The next of what is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// So much was found so far; said again while more is found, and so that nobody takes the search for the end.
    Found {
        /// Files, folders and links.
        files: u64,
        /// Bytes of the files.
        bytes: u64,
    },
    /// What follows is the one of this number, counted from 0 in the order in which they were named.
    Chosen(u32),
    /// A folder begins, and is open.
    Folder(Node),
    /// A file begins, and is open.
    File(Node),
    /// The next bytes of the open file, 1 to [`limits::CHUNK`].
    Data(#[serde(with = "stream::bytes")] Vec<u8>),
    /// So many bytes of the open file are 0, and have no place on a disk.
    Hole(u64),
    /// The innermost open file or folder has all of its content.
    Close,
    /// The open file cannot be read to its end.
    Broken,
    /// A symbolic link in the open folder.
    Link {
        /// As a [`Node::name`].
        name: Vec<u8>,
        /// Where it leads.
        target: Vec<u8>,
    },
    /// Something in the open folder, or the chosen one itself, is left out.
    Left(Left),
    /// That was all. A stream that ends without it was cut off.
    Done,
}

/// Whether these bytes can be the name of a file.
fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// Checks a path that is to be copied: absolute, as long as the kernel takes.
///
/// # Errors
/// It is none.
pub fn check_path(path: &[u8]) -> Result<(), Invalid> {
    let sane = path.first() == Some(&b'/') && path.len() < limits::PATH && !path.contains(&0);
    Invalid::unless(sane, "path")
}

impl Message for Item {
    const LIMIT: usize = limits::CHUNK + 64;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Folder(node) | Self::File(node) => {
                Invalid::unless(is_name(&node.name), "name of a file")?;
                Invalid::unless(node.modified.1 < 1_000_000_000, "time of a file")
            }
            Self::Link { name, target } => {
                Invalid::unless(is_name(name), "name of a link")?;
                let sane = (1..limits::PATH).contains(&target.len()) && !target.contains(&0);
                Invalid::unless(sane, "target of a link")
            }
            Self::Data(bytes) => Invalid::unless((1..=limits::CHUNK).contains(&bytes.len()), "chunk"),
            Self::Hole(bytes) => Invalid::unless(*bytes > 0, "hole"),
            Self::Found { .. }
            | Self::Chosen(_)
            | Self::Close
            | Self::Broken
            | Self::Left(_)
            | Self::Done => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::{decode, encode};

    #[test]
    fn a_name_is_one_component_of_any_bytes() {
        let checked = |name: &[u8]| {
            let node = Node { name: name.to_vec(), executable: false, modified: (0, 0) };
            let bytes = encode(&Item::File(node)).unwrap();
            decode::<Item>(&bytes[4..]).is_ok()
        };
        for good in [&b"a"[..], b"\xff\n\x01", b"...", b"-rf", &[b'x'; 255]] {
            assert!(checked(good), "{good:?}");
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
            assert!(!checked(bad), "{bad:?}");
        }
        assert!(check_path(b"/a/\xff").is_ok());
        for bad in [&b""[..], b"a", b"/a\0", &[b'/'; limits::PATH]] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_piece_fits_and_none_is_empty() {
        let piece =
            |length| encode(&Item::Data(vec![7; length])).map(|bytes| decode::<Item>(&bytes[4..]).is_ok());
        assert!(piece(limits::CHUNK).unwrap() && !piece(0).unwrap());
        assert!(piece(limits::CHUNK + 64).is_err());
    }
}
