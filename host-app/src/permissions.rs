//! What a machine may exchange with this host, and what the user said about it.
//!
//! One small file per machine, in the folder of configurations: the confined machine process, which a hostile guest might take over,
//! cannot write there. It is read by the window process, which asks and enforces, and changed by `inlay permissions` and by the
//! user's answers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use inlay_exchange::kinds;
use serde::{Deserialize, Serialize};

use crate::paths::write_anew;

/// Largest file that is read.
const FILE_MAX: u64 = 16 * 1024;

/// What the user said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The user is asked each time
    Ask,
    /// Allowed without a question
    Always,
    /// Refused without a question
    Never,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ask => "ask",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Into the guest.
    In,
    /// Out of the guest.
    Out,
}

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Text, plain or formatted.
    Text,
    /// Pictures.
    Images,
    /// Lists of files.
    Files,
    /// All else.
    Other,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Text, Self::Images, Self::Files, Self::Other];

    /// What a type is (RFC 6838).
    #[must_use]
    pub fn of(name: &str) -> Self {
        let formatted = ["application/rtf", "application/x-rtf", "application/xhtml+xml"];
        match name {
            files if kinds::is_files(files) => Self::Files,
            image if image.starts_with("image/") || image == "application/x-qt-image" => Self::Images,
            text if text.starts_with("text/") || formatted.contains(&text) => Self::Text,
            _ => Self::Other,
        }
    }

    /// As a question calls it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Images => "a picture",
            Self::Files => "files",
            Self::Other => "data",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Images => "images",
            Self::Files => "files",
            Self::Other => "other",
        }
    }
}

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resource {
    /// What was copied or marked.
    Clipboard(Way, Kind),
    /// What is dragged.
    Drop(Way),
    /// Links that apps of the guest open.
    Links,
}

impl Resource {
    /// All of them, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Self> {
        let copies =
            [Way::In, Way::Out].into_iter().flat_map(|way| Kind::ALL.map(|kind| Self::Clipboard(way, kind)));
        copies.chain([Self::Drop(Way::In), Self::Drop(Way::Out), Self::Links])
    }

    /// What it is about, for a list.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Clipboard(Way::In, Kind::Text) => "text that you copied, pasted by apps of the machine",
            Self::Clipboard(Way::In, Kind::Images) => "pictures that you copied",
            Self::Clipboard(Way::In, Kind::Files) => "files that you copied",
            Self::Clipboard(Way::In, Kind::Other) => "anything else that you copied",
            Self::Clipboard(Way::Out, Kind::Text) => "text that apps of the machine copied, pasted here",
            Self::Clipboard(Way::Out, Kind::Images) => "pictures that they copied",
            Self::Clipboard(Way::Out, Kind::Files) => "files that they copied",
            Self::Clipboard(Way::Out, Kind::Other) => "anything else that they copied",
            Self::Drop(Way::In) => "what you drop on a window of the machine",
            Self::Drop(Way::Out) => "what you drag out of it",
            Self::Links => {
                "links that apps of the machine open here; at \"never\" its own browser opens them"
            }
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |way: &Way| if *way == Way::In { "in" } else { "out" };
        match self {
            Self::Clipboard(way, kind) => f.pad(&format!("clipboard-{}-{}", words(way), kind.name())),
            Self::Drop(way) => f.pad(&format!("drop-{}", words(way))),
            Self::Links => f.pad("links"),
        }
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.to_string()
    }
}

impl TryFrom<String> for Resource {
    type Error = PermissionError;

    fn try_from(name: String) -> Result<Self, PermissionError> {
        Self::all().find(|r| r.to_string() == name).ok_or(PermissionError::Unknown(name))
    }
}

/// One permission, or a group of them by the beginning of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Resource>);

impl FromStr for Pattern {
    type Err = PermissionError;

    fn from_str(name: &str) -> Result<Self, PermissionError> {
        let group = format!("{name}-");
        let named = |r: &Resource| r.to_string() == name || r.to_string().starts_with(&group);
        let found: Vec<Resource> = Resource::all().filter(named).collect();
        if found.is_empty() { Err(PermissionError::Unknown(name.into())) } else { Ok(Self(found)) }
    }
}

impl Pattern {
    /// Those that it means.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.0
    }
}

/// What can be wrong with permissions.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
    /// No such permission.
    #[error("there is no permission {0:?}: `inlay permissions NAME` lists them")]
    Unknown(String),
    /// The file itself.
    #[error("cannot use the permissions in {file}")]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text.
    #[error(
        "the permissions in {file} cannot be read: {message}; mend the file, or remove it and set them anew"
    )]
    Syntax {
        /// Which.
        file: PathBuf,
        /// What, with the line.
        message: String,
    },
}

/// All permissions of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(BTreeMap<Resource, Verdict>);

impl Permissions {
    /// The same for everything.
    #[must_use]
    pub fn all(verdict: Verdict) -> Self {
        Self(Resource::all().map(|resource| (resource, verdict)).collect())
    }

    /// Of a machine that is a part of the user's desktop.
    #[must_use]
    pub fn integrated() -> Self {
        Self::all(Verdict::Always)
    }

    /// Of a machine that is kept apart: also of one whose user never said anything.
    #[must_use]
    pub fn isolated() -> Self {
        Self::all(Verdict::Ask)
    }

    /// What the user said of this.
    #[must_use]
    pub fn get(&self, resource: Resource) -> Verdict {
        self.0.get(&resource).copied().unwrap_or(Verdict::Ask)
    }

    /// The user says something else.
    pub fn set(&mut self, resource: Resource, verdict: Verdict) {
        self.0.insert(resource, verdict);
    }

    /// Reads a machine's; those that the file does not name are asked for, as are all where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or says something else than permissions.
    pub fn read(file: &Path) -> Result<Self, PermissionError> {
        let io = |source| PermissionError::Io { file: file.into(), source };
        let syntax = |message: String| PermissionError::Syntax { file: file.into(), message };
        match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::isolated()),
            Err(error) => return Err(io(error)),
            Ok(meta) if meta.len() > FILE_MAX => {
                return Err(syntax(format!("it is larger than {FILE_MAX} bytes")));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(file).map_err(io)?;
        let named: BTreeMap<Resource, Verdict> =
            toml::from_str(&text).map_err(|error: toml::de::Error| {
                let line =
                    text.bytes().take(error.span().map_or(0, |s| s.start)).filter(|b| *b == b'\n').count()
                        + 1;
                syntax(format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join(", ")))
            })?;
        let mut all = Self::isolated();
        all.0.extend(named);
        Ok(all)
    }

    /// Writes them in place of the old ones; a reader sees one of both.
    ///
    /// # Errors
    /// The file cannot be written; the old one is as it was.
    pub fn write(&self, file: &Path) -> Result<(), PermissionError> {
        let io = |source| PermissionError::Io { file: file.into(), source };
        let keys = toml::to_string(&self.0).map_err(|error| io(io::Error::other(error)))?;
        let text = format!(
            "# What this machine and its host may exchange: \"ask\", \"always\" or \"never\". Changes count at once.\n{keys}"
        );
        write_anew(file, &text).map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_read_and_changed_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("permissions/work.toml");
        assert_eq!(Permissions::read(&file).unwrap(), Permissions::isolated(), "without a file all is asked");
        let mut permissions = Permissions::integrated();
        permissions.set(Resource::Clipboard(Way::Out, Kind::Images), Verdict::Never);
        permissions.write(&file).unwrap();
        assert_eq!(Permissions::read(&file).unwrap(), permissions);
        fs::write(&file, "clipboard-in-text = \"never\"\n").unwrap();
        let read = Permissions::read(&file).unwrap();
        assert_eq!(read.get(Resource::Clipboard(Way::In, Kind::Text)), Verdict::Never);
        assert_eq!(read.get(Resource::Clipboard(Way::In, Kind::Other)), Verdict::Ask);
    }

    #[test]
    fn what_is_no_permission_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("work.toml");
        for (text, part) in [
            ("# x\nclipboard-in-text = \"perhaps\"\n", "line 2"),
            ("clipboard-in-smell = \"ask\"\n", "clipboard-in-smell"),
            ("clipboard-in-text\n", "line 1"),
        ] {
            fs::write(&file, text).unwrap();
            let error = Permissions::read(&file).unwrap_err().to_string();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
        fs::write(&file, "#".repeat(20_000)).unwrap();
        assert!(Permissions::read(&file).is_err());
    }

    #[test]
    fn names_and_groups() {
        let of = |name: &str| name.parse::<Pattern>().map(|p| p.resources().len()).ok();
        assert_eq!(of("clipboard"), Some(8));
        assert_eq!(of("clipboard-out"), Some(4));
        assert_eq!(of("clipboard-out-text"), Some(1));
        assert_eq!(of("clip"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("clipboard-in-"), None);
    }

    #[test]
    fn types_have_kinds() {
        assert_eq!(Kind::of(kinds::TEXT), Kind::Text);
        assert_eq!(Kind::of("text/html"), Kind::Text);
        assert_eq!(Kind::of("text/uri-list"), Kind::Files);
        assert_eq!(Kind::of("image/png"), Kind::Images);
        assert_eq!(Kind::of("application/octet-stream"), Kind::Other);
    }
}
