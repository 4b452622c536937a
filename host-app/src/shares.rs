//! The folders of this host that a machine sees: what the user said, in a file of the user's.
//!
//! It lies in the folder of configurations, where the confined machine process cannot write. The file server reads it when the
//! machine starts; `inlay share` changes it, and tells a file server that runs.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths::{Folders, write_anew};

/// Largest file that is read.
const FILE_MAX: u64 = 256 * 1024;
/// Where guests see shared folders.
pub const GUEST_PLACE: &str = "/media/host";

/// One shared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SharedFolder {
    /// What guests see it as, below [`GUEST_PLACE`].
    pub name: String,
    /// Where it is, from the root on.
    pub path: PathBuf,
    /// The guest changes nothing in it.
    #[serde(default)]
    pub read_only: bool,
}

/// All of a machine, as the file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    #[serde(default, rename = "folder")]
    folders: Vec<SharedFolder>,
}

/// What is wrong with a share, or with the file.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It is not there, or cannot be looked at.
    #[error("cannot share {path}: {why}")]
    Path {
        /// Which.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// Another share has the name, or the folder, or a part of it.
    #[error("{0}")]
    Taken(String),
    /// A name that is none.
    #[error(
        "{0:?} cannot be the name of a shared folder: it is empty, begins with a dot, or has a slash or control character"
    )]
    Name(String),
    /// There is no such share.
    #[error("{0} is not shared: `inlay share list NAME` tells what is")]
    Unknown(String),
    /// The file.
    #[error("cannot use the list of shared folders in {file}")]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text.
    #[error("the list of shared folders in {file} cannot be read: {message}; mend the file, or remove it")]
    Syntax {
        /// Which.
        file: PathBuf,
        /// What, with the line.
        message: String,
    },
}

/// What adding a folder came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(SharedFolder),
    /// It was shared already, and differs in whether the guest may change it.
    Changed(SharedFolder),
    /// It was shared already, in the same way.
    Same(SharedFolder),
}

impl Added {
    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &SharedFolder {
        let (Self::New(folder) | Self::Changed(folder) | Self::Same(folder)) = self;
        folder
    }
}

/// A folder that can be shared, by its true path.
///
/// # Errors
/// It is none, cannot be read, or is Inlay's own: in words for the user.
pub fn check(folders: &Folders, path: &Path) -> Result<PathBuf, ShareError> {
    let refuse = |why: &str| Err(ShareError::Path { path: path.into(), why: why.into() });
    let failed = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such folder".into(),
            io::ErrorKind::PermissionDenied => "you may not read it".into(),
            _ => error.to_string(),
        };
        ShareError::Path { path: path.into(), why }
    };
    let real = path.canonicalize().map_err(failed)?;
    if !real.is_dir() {
        return refuse("it is not a folder");
    }
    std::fs::read_dir(&real).map_err(failed)?;
    if real.to_str().is_none() {
        return refuse("its path is not UTF-8");
    }
    if real == Path::new("/") || ["/proc", "/sys", "/dev"].iter().any(|system| real.starts_with(system)) {
        return refuse("it belongs to the system: share a folder of your own");
    }
    if folders.own().iter().any(|own| real.starts_with(own)) {
        return refuse("it has files of machines in it");
    }
    Ok(real)
}

/// Whether this is the user's home, or has it in it.
#[must_use]
pub fn has_home(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok());
    home.is_some_and(|home| home.starts_with(path))
}

fn is_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c.is_control();
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.chars().any(bad)
}

impl Shares {
    /// Reads a machine's; none where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or says something else.
    pub fn read(file: &Path) -> Result<Self, ShareError> {
        let io = |source| ShareError::Io { file: file.into(), source };
        let syntax = |message: String| ShareError::Syntax { file: file.into(), message };
        match std::fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io(error)),
            Ok(meta) if meta.len() > FILE_MAX => {
                return Err(syntax(format!("it is larger than {FILE_MAX} bytes")));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(file).map_err(io)?;
        let shares: Self = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(before).filter(|byte| *byte == b'\n').count() + 1;
            syntax(format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join(", ")))
        })?;
        for (index, folder) in shares.folders.iter().enumerate() {
            if !is_name(&folder.name) {
                return Err(syntax(ShareError::Name(folder.name.clone()).to_string()));
            }
            if shares.folders.iter().take(index).any(|other| other.name == folder.name) {
                return Err(syntax(format!("two folders are called {:?}", folder.name)));
            }
        }
        Ok(shares)
    }

    /// Writes them in place of the old ones.
    ///
    /// # Errors
    /// The file cannot be written; the old one is as it was.
    pub fn write(&self, file: &Path) -> Result<(), ShareError> {
        let io = |source| ShareError::Io { file: file.into(), source };
        let list = toml::to_string(self).map_err(|error| io(io::Error::other(error)))?;
        let text = format!(
            "# Folders of this host that the machine sees in {GUEST_PLACE}. `inlay share` changes them while the machine runs.\n{list}"
        );
        write_anew(file, &text).map_err(io)
    }

    /// Them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &SharedFolder> {
        self.folders.iter()
    }

    /// Adds a folder that was [`check`]ed, or changes what may be done with it.
    ///
    /// # Errors
    /// Another has its name, lies in it, or has it in it.
    pub fn add(&mut self, path: PathBuf, name: Option<&str>, read_only: bool) -> Result<Added, ShareError> {
        if let Some(folder) = self.folders.iter_mut().find(|folder| folder.path == path) {
            if name.is_some_and(|name| name != folder.name) {
                let known = format!("{} is shared already, as {:?}", path.display(), folder.name);
                return Err(ShareError::Taken(format!("{known}: remove it first to give it another name")));
            }
            if folder.read_only == read_only {
                return Ok(Added::Same(folder.clone()));
            }
            folder.read_only = read_only;
            return Ok(Added::Changed(folder.clone()));
        }
        for other in &self.folders {
            let (a, b) = (path.display(), other.path.display());
            let nested = match (path.starts_with(&other.path), other.path.starts_with(&path)) {
                (true, _) => format!("{a} lies in {b}, which is shared already, as {:?}", other.name),
                (_, true) => format!(
                    "{b}, which lies in it, is shared already, as {:?}: remove that first",
                    other.name
                ),
                _ => continue,
            };
            return Err(ShareError::Taken(nested));
        }
        let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.unwrap_or(own);
        if !is_name(name) {
            return Err(ShareError::Name(name.into()));
        }
        if let Some(other) = self.folders.iter().find(|other| other.name == name) {
            let other = other.path.display();
            return Err(ShareError::Taken(format!(
                "{other} is shared as {name:?} already: give this one another name with --name"
            )));
        }
        let folder = SharedFolder { name: name.into(), path, read_only };
        self.folders.push(folder.clone());
        Ok(Added::New(folder))
    }

    /// Removes one, by its name or its path (which may be gone).
    ///
    /// # Errors
    /// There is none.
    pub fn remove(&mut self, which: &str) -> Result<SharedFolder, ShareError> {
        let path = std::path::absolute(which).ok();
        let real = Path::new(which).canonicalize().ok();
        let named = self.folders.iter().position(|folder| folder.name == which);
        let at = named.or_else(|| {
            self.folders
                .iter()
                .position(|folder| Some(&folder.path) == real.as_ref() || Some(&folder.path) == path.as_ref())
        });
        let at = at.ok_or_else(|| ShareError::Unknown(which.into()))?;
        Ok(self.folders.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_are_added_changed_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let file = root.join("shares/work.toml");
        for folder in ["a/inner", "b", "other/a"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let mut shares = Shares::read(&file).unwrap();
        assert_eq!(shares.iter().count(), 0);
        assert!(
            matches!(shares.add(root.join("a"), None, false).unwrap(), Added::New(folder) if folder.name == "a")
        );
        assert!(matches!(shares.add(root.join("a"), None, false).unwrap(), Added::Same(_)));
        assert!(matches!(shares.add(root.join("a"), None, true).unwrap(), Added::Changed(f) if f.read_only));
        let text = |error: ShareError| error.to_string();
        assert!(text(shares.add(root.join("a"), Some("x"), true).unwrap_err()).contains("another name"));
        assert!(text(shares.add(root.join("a/inner"), None, true).unwrap_err()).contains("lies in"));
        assert!(text(shares.add(root.clone(), None, true).unwrap_err()).contains("which lies in it"));
        assert!(text(shares.add(root.join("other/a"), None, true).unwrap_err()).contains("--name"));
        for bad in ["", ".x", "a/b", "a\nb"] {
            assert!(
                matches!(shares.add(root.join("b"), Some(bad), true), Err(ShareError::Name(_))),
                "{bad:?}"
            );
        }
        shares.add(root.join("other/a"), Some("a2"), false).unwrap();
        shares.write(&file).unwrap();
        assert_eq!(Shares::read(&file).unwrap(), shares);
        assert!(text(shares.remove("b").unwrap_err()).contains("not shared"));
        // Also when it is gone.
        fs::remove_dir_all(root.join("other")).unwrap();
        assert_eq!(shares.remove(root.join("other/a").to_str().unwrap()).unwrap().name, "a2");
        assert_eq!(shares.remove("a").unwrap().path, root.join("a"));
    }

    #[test]
    fn what_cannot_be_shared_is_told_in_one_line() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        fs::create_dir_all(root.path().join("data/work")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for (path, part) in [
            (root.path().join("none"), "no such folder"),
            (root.path().join("file"), "not a folder"),
            (root.path().join("data/work"), "files of machines"),
            ("/".into(), "belongs to the system"),
            ("/proc/self".into(), "belongs to the system"),
        ] {
            let error = check(&folders, &path).unwrap_err().to_string();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
        assert_eq!(check(&folders, root.path()).unwrap(), root.path().canonicalize().unwrap());
    }

    #[test]
    fn a_broken_list_is_told_with_its_line() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("work.toml");
        let folder = |name: &str| format!("[[folder]]\nname = \"{name}\"\npath = \"/x\"\n");
        for (text, part) in [
            ("[[folder]]\nname = 3\n".into(), "line 2"),
            ("[[folder]]\nname = \"a\"\nsize = 3\n".into(), "size"),
            (folder("../x"), "cannot be the name"),
            (folder("a") + &folder("a"), "two folders"),
        ] {
            fs::write(&file, text).unwrap();
            let error = Shares::read(&file).unwrap_err().to_string();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
    }
}
