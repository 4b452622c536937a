//! Lists of files as apps give and take them: `text/uri-list` (RFC 2483) with `file:` URIs (RFC 8089), and the lists of file managers
//! that say whether the files were copied or cut.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

/// The longest list that is translated, in bytes.
pub const MOST: usize = 4 << 20;
/// Lists that have paths in them, which can be translated.
const URIS: [&str; 2] = ["text/uri-list", "application/x-kde4-urilist"];
/// Those whose first line is `copy` or `cut`.
const MANAGERS: [&str; 2] = ["x-special/gnome-copied-files", "x-special/mate-copied-files"];
/// Those that have no paths in them, and mean the same everywhere.
const PLAIN: [&str; 1] = ["application/x-kde-cutselection"];

/// Whether lists of this type can be given to apps of another system, with other paths in them.
#[must_use]
pub fn is_translated(kind: &str) -> bool {
    URIS.contains(&kind) || MANAGERS.contains(&kind) || PLAIN.contains(&kind)
}

/// Whether a type that [`is_translated`] has no paths in it: it crosses as it is.
#[must_use]
pub fn is_plain(kind: &str) -> bool {
    PLAIN.contains(&kind)
}

/// What is in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file or folder of the system where the list was made: absolute, without `.` and `..`.
    File(PathBuf),
    /// Anything else that can be named.
    Uri(Vec<u8>),
}

impl Entry {
    /// What a URI names.
    #[must_use]
    pub fn of_uri(uri: &[u8]) -> Self {
        entry(uri)
    }

    /// The URI that names it.
    #[must_use]
    pub fn to_uri(&self) -> Vec<u8> {
        match self {
            Self::File(path) => uri(path),
            Self::Uri(uri) => uri.clone(),
        }
    }

    /// Whether it means the same on every system: a place on the network. All else (`file:` in any spelling, a bare path) might be read as a
    /// file of the system where it comes to.
    #[must_use]
    pub fn is_global(&self) -> bool {
        let Self::Uri(uri) = self else { return false };
        let schemes: [&[u8]; 4] = [b"https:", b"http:", b"ftp:", b"mailto:"];
        schemes
            .iter()
            .any(|scheme| uri.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme)))
    }
}

/// A list of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    /// The files are to be moved.
    pub cut: bool,
    /// In their order.
    pub entries: Vec<Entry>,
}

impl FileList {
    /// Reads a list; nothing for types that have no paths in them, and for what is none.
    #[must_use]
    pub fn parse(kind: &str, bytes: &[u8]) -> Option<Self> {
        let mut lines =
            bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let cut = match () {
            () if URIS.contains(&kind) => false,
            () if MANAGERS.contains(&kind) => match lines.next()? {
                b"copy" => false,
                b"cut" => true,
                _ => return None,
            },
            () => return None,
        };
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#") && *line != b"\0");
        Some(Self { cut, entries: lines.map(entry).collect() })
    }

    /// Writes it as this type.
    #[must_use]
    pub fn format(&self, kind: &str) -> Vec<u8> {
        let uris = self.entries.iter().map(Entry::to_uri);
        if MANAGERS.contains(&kind) {
            let first = if self.cut { b"cut".to_vec() } else { b"copy".to_vec() };
            return std::iter::once(first).chain(uris).collect::<Vec<_>>().join(&b'\n');
        }
        uris.flat_map(|uri| [uri, b"\r\n".to_vec()].concat()).collect()
    }
}

fn entry(line: &[u8]) -> Entry {
    let other = || Entry::Uri(line.to_vec());
    let Some(rest) = line.strip_prefix(b"file:") else { return other() };
    let path = match rest.strip_prefix(b"//") {
        // An authority: this system, by no name or by the usual one.
        Some(rest) => {
            let at = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (host, path) = rest.split_at(at);
            if !host.is_empty() && host != b"localhost" {
                return other();
            }
            path
        }
        None => rest,
    };
    decode(path).filter(|path| is_straight(path)).map_or_else(other, Entry::File)
}

/// Absolute, and without ways back.
fn is_straight(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir) && components.all(|c| matches!(c, Component::Normal(_)))
}

/// A path from its percent-encoding (RFC 3986, section 2.1).
fn decode(text: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok().filter(|byte| *byte != 0)?
            }
            0 => return None,
            byte => *byte,
        });
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// A path as a `file:` URI.
fn uri(path: &Path) -> Vec<u8> {
    let mut uri = b"file://".to_vec();
    for byte in OsStr::as_bytes(path.as_os_str()) {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(*byte),
            _ => uri.extend(format!("%{byte:02X}").bytes()),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry::File(path.into())
    }

    #[test]
    fn lists_of_each_kind_are_read_and_written() {
        let text = b"# files\r\nfile:///a/b%20c\r\nfile://localhost/d\r\nhttps://x.org/y\r\nfile:/e\r\n";
        let list = FileList::parse("text/uri-list", text).unwrap();
        let entries = [file("/a/b c"), file("/d"), Entry::Uri(b"https://x.org/y".to_vec()), file("/e")];
        assert_eq!((list.cut, list.entries.as_slice()), (false, &entries[..]));
        assert_eq!(
            list.format("application/x-kde4-urilist"),
            b"file:///a/b%20c\r\nfile:///d\r\nhttps://x.org/y\r\nfile:///e\r\n"
        );
        let kind = "x-special/gnome-copied-files";
        let list = FileList::parse(kind, b"cut\nfile:///a\nfile:///b%c3%bc").unwrap();
        assert_eq!(list, FileList { cut: true, entries: vec![file("/a"), file("/bü")] });
        assert_eq!(list.format(kind), b"cut\nfile:///a\nfile:///b%C3%BC");
        assert_eq!(FileList::parse(kind, b"file:///a\n"), None);
        assert_eq!(FileList::parse("text/plain", b"file:///a\n"), None);
    }

    #[test]
    fn any_byte_of_a_name_comes_back() {
        let name: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        let path = Path::new("/x").join(OsStr::from_bytes(&name));
        let list = FileList { cut: false, entries: vec![Entry::File(path)] };
        for kind in ["text/uri-list", "x-special/mate-copied-files"] {
            assert_eq!(FileList::parse(kind, &list.format(kind)).unwrap(), list);
        }
    }

    #[test]
    fn what_is_no_plain_path_of_this_system_is_no_file() {
        for line in [
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file://elsewhere/a",
            "file:///a%00b",
            "file:///a%zz",
            "file:///a%2",
            "file:a",
            "file://",
            "/a",
        ] {
            let list = FileList::parse("text/uri-list", line.as_bytes()).unwrap();
            assert_eq!(list.entries, [Entry::Uri(line.into())], "{line}");
            assert!(!list.entries[0].is_global(), "{line}");
        }
        assert!(!Entry::Uri(b"FILE:///etc/passwd".into()).is_global());
        assert!(Entry::Uri(b"HTTPS://x.org".into()).is_global());
        // A doubled slash, and a dot, are nothing.
        let list = FileList::parse("text/uri-list", b"file:///a//b/./c").unwrap();
        assert_eq!(list.entries, [file("/a/b/c")]);
    }
}
