//! Names of machines, and where their files are.
//!
//! | what | where |
//! |---|---|
//! | configuration | `$XDG_CONFIG_HOME/inlay/machines/NAME.toml` |
//! | permissions | `$XDG_CONFIG_HOME/inlay/permissions/NAME.toml` |
//! | disks, logs, lock | `$XDG_DATA_HOME/inlay/NAME/` |
//! | base images, shared by machines | `$XDG_DATA_HOME/inlay/.bases/ID/` |
//! | sockets | `$XDG_RUNTIME_DIR/inlay/NAME/` |
//! | copies of the guest's files | `$XDG_CACHE_HOME/inlay/copied/NAME/` |
//!
//! The folder of bases begins with a dot, which no machine's name does. A runtime folder that is not ours alone is
//! refused: who can put sockets there can pose as a guest.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a Unix socket, without the closing NUL (`sockaddr_un`).
const SOCKET_PATH_MAX: usize = 107;

/// Room that a socket's own name needs in the runtime folder (`/windows-api.sock` and the like).
const SOCKET_NAME_ROOM: usize = 24;

/// What can be wrong with a name or a folder.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Not a machine's name.
    #[error("bad machine name {0:?}: use 1 to 31 of a-z, 0-9 and '-', beginning with a letter or a digit")]
    Name(String),
    /// A name that means something else.
    #[error("the machine name {0:?} is reserved")]
    Reserved(String),
    /// Neither the variable nor `HOME` says where the user's files are.
    #[error("cannot tell where your files are: set HOME or {0} to an absolute path")]
    NoHome(&'static str),
    /// A folder could not be made or looked at.
    #[error("cannot use the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could put sockets into the runtime folder.
    #[error("{0} is not a folder that belongs to you alone (mode 0700): set XDG_RUNTIME_DIR")]
    NotPrivate(PathBuf),
    /// Sockets in it could not be addressed.
    #[error("the path {0} is too long for sockets: set XDG_RUNTIME_DIR to a shorter one")]
    TooLong(PathBuf),
}

/// A machine's name: `[a-z0-9][a-z0-9-]{0,30}`, and not `local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

impl MachineName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (1..=31).contains(&text.len())
            && text.bytes().all(|byte| plain(byte) || byte == b'-')
            && !text.starts_with('-');
        if !valid {
            return Err(PathError::Name(text.chars().take(64).collect()));
        }
        if text == "local" {
            return Err(PathError::Reserved(text.into()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Writes a file in place of an old one; a reader sees one of both.
///
/// # Errors
/// It cannot be written; the old one is as it was.
pub fn write_anew(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = file.with_extension(format!("new-{}", std::process::id()));
    let written = fs::File::create(&new)
        .and_then(|mut out| out.write_all(text.as_bytes()).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // Best effort: the write's own error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    written
}

/// The folders of one user.
#[derive(Debug, Clone)]
pub struct Folders {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
    cache: PathBuf,
    user_config: PathBuf,
    user_data: PathBuf,
}

impl Folders {
    /// The folders that the environment names.
    ///
    /// # Errors
    /// No home, or a runtime folder whose sockets would have too long names.
    pub fn from_env() -> Result<Self, PathError> {
        let user_config = xdg("XDG_CONFIG_HOME", ".config")?;
        let user_data = xdg("XDG_DATA_HOME", ".local/share")?;
        let (config, data) = (user_config.join("inlay"), user_data.join("inlay"));
        let cache = xdg("XDG_CACHE_HOME", ".cache")?.join("inlay");
        Self { config, data, runtime: runtime_base(), cache, user_config, user_data }.checked()
    }

    /// Everything below one folder, for tests.
    ///
    /// # Errors
    /// Sockets in it would have too long names.
    pub fn below(root: &Path) -> Result<Self, PathError> {
        let [config, data, runtime, cache] = ["config", "data", "run", "cache"].map(|name| root.join(name));
        let (user_config, user_data) = (root.join("user-config"), root.join("user-data"));
        Self { config, data, runtime, cache, user_config, user_data }.checked()
    }

    fn checked(self) -> Result<Self, PathError> {
        let longest = self.runtime.as_os_str().len() + 1 + 31 + SOCKET_NAME_ROOM;
        if longest > SOCKET_PATH_MAX { Err(PathError::TooLong(self.runtime)) } else { Ok(self) }
    }

    /// Where the user's programs keep their configurations.
    #[must_use]
    pub fn user_config(&self) -> &Path {
        &self.user_config
    }

    /// Where the user's programs keep their data: desktop files and icons among it.
    #[must_use]
    pub fn user_data(&self) -> &Path {
        &self.user_data
    }

    /// Where every machine has a folder, and the bases are.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the base images are.
    #[must_use]
    pub fn bases(&self) -> PathBuf {
        self.data.join(".bases")
    }

    /// Where the machines' configurations are.
    #[must_use]
    pub fn configs(&self) -> PathBuf {
        self.config.join("machines")
    }

    /// What a machine may exchange with the host; not where its confined process may write.
    #[must_use]
    pub fn permissions(&self, name: &MachineName) -> PathBuf {
        self.config.join("permissions").join(format!("{name}.toml"))
    }

    /// Which folders of this host a machine sees; not where its confined process may write.
    #[must_use]
    pub fn shares(&self, name: &MachineName) -> PathBuf {
        self.config.join("shares").join(format!("{name}.toml"))
    }

    /// Which apps of a machine were opened last; not where its confined process may write.
    #[must_use]
    pub fn recent(&self, name: &MachineName) -> PathBuf {
        self.config.join("recent").join(name.as_str())
    }

    /// Where copies of files of any guest are.
    #[must_use]
    pub fn all_copied(&self) -> PathBuf {
        self.cache.join("copied")
    }

    /// Copies of a machine's files, which were pasted or dropped on the host; not where its confined process may write.
    #[must_use]
    pub fn copied(&self, name: &MachineName) -> PathBuf {
        self.all_copied().join(name.as_str())
    }

    /// Inlay's own folders, of which no guest ever sees anything.
    #[must_use]
    pub fn own(&self) -> Vec<PathBuf> {
        let own = [&self.config, &self.data, &self.runtime];
        own.into_iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect()
    }

    /// Where the machines' sockets are; also of `local.PID`.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Makes the runtime folder if it is missing, and checks that it is the user's alone.
    ///
    /// # Errors
    /// It cannot be made, or somebody else can write to it.
    pub fn make_runtime(&self) -> Result<&Path, PathError> {
        make_private(&self.runtime)?;
        Ok(&self.runtime)
    }

    /// The files of one machine.
    #[must_use]
    pub fn machine(&self, name: &MachineName) -> MachinePaths {
        MachinePaths {
            name: name.clone(),
            config: self.configs().join(format!("{name}.toml")),
            data: self.data.join(name.as_str()),
            runtime: self.runtime.join(name.as_str()),
        }
    }
}

/// Where the files of one machine are.
#[derive(Debug, Clone)]
pub struct MachinePaths {
    name: MachineName,
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
}

impl MachinePaths {
    /// Whose.
    #[must_use]
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its folder of disks and logs.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its folder of sockets.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Its root disk: an overlay on its base, or an imported one.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.data.join("disk.qcow2")
    }

    /// Its disk where that was imported as it is, without a format around it.
    #[must_use]
    pub fn raw_disk(&self) -> PathBuf {
        self.data.join("disk.raw")
    }

    /// What an imported machine's UEFI remembers.
    #[must_use]
    pub fn uefi_variables(&self) -> PathBuf {
        self.data.join("uefi-variables.fd")
    }

    /// What an imported machine's guest gets of us, to be read there.
    #[must_use]
    pub fn agent_folder(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// There once an agent came from an imported machine's guest.
    #[must_use]
    pub fn agent_came(&self) -> PathBuf {
        self.data.join("agent-came")
    }

    /// Its home disk, of its own.
    #[must_use]
    pub fn home_disk(&self) -> PathBuf {
        self.data.join("home.raw")
    }

    /// What its kernel says.
    #[must_use]
    pub fn serial_log(&self) -> PathBuf {
        self.data.join("serial.log")
    }

    /// What its machine process says.
    #[must_use]
    pub fn machine_log(&self) -> PathBuf {
        self.data.join("machine.log")
    }

    /// Held (flock) by its machine process, and by whoever makes or deletes the machine.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// Makes its folder of sockets, private to the user.
    ///
    /// # Errors
    /// It cannot be made, or somebody else can write to it.
    pub fn make_runtime(&self) -> Result<&Path, PathError> {
        if let Some(parent) = self.runtime.parent() {
            make_private(parent)?;
        }
        make_private(&self.runtime)?;
        Ok(&self.runtime)
    }
}

/// The variable's folder, or the one below the home.
fn xdg(variable: &'static str, below_home: &str) -> Result<PathBuf, PathError> {
    // The specification: a relative path is invalid and to be ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .ok_or(PathError::NoHome(variable))
}

/// `$XDG_RUNTIME_DIR/inlay`, else `/run/user/UID/inlay`, else `/tmp/inlay-UID`.
fn runtime_base() -> PathBuf {
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(path) = named {
        return path.join("inlay");
    }
    let uid = rustix::process::geteuid().as_raw();
    let login = PathBuf::from(format!("/run/user/{uid}"));
    if login.is_dir() { login.join("inlay") } else { PathBuf::from(format!("/tmp/inlay-{uid}")) }
}

/// Makes a folder of mode 0700, or checks that it is one that belongs to this user.
fn make_private(path: &Path) -> Result<(), PathError> {
    let failed = |source| PathError::Folder { path: path.into(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // Not followed: a link planted in /tmp is not a folder of ours.
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o077 == 0 { Ok(()) } else { Err(PathError::NotPrivate(path.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn names() {
        for good in ["a", "0", "debian-13", "a-", "abcdefghijklmnopqrstuvwxyz01234"] {
            assert_eq!(good.parse::<MachineName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(32);
        for bad in ["", "-a", "A", "a_b", "a.b", "a/b", "..", ".bases", "a b", "ä", "a\n", &long] {
            assert!(matches!(bad.parse::<MachineName>(), Err(PathError::Name(_))), "{bad:?}");
        }
        assert!(matches!("local".parse::<MachineName>(), Err(PathError::Reserved(_))));
    }

    #[test]
    fn runtime_folder_is_private() {
        let root = tempfile::tempdir().unwrap();
        let machine = Folders::below(root.path()).unwrap().machine(&"m".parse().unwrap());
        let made = machine.make_runtime().unwrap().to_owned();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        machine.make_runtime().unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(machine.make_runtime(), Err(PathError::NotPrivate(_))));
        fs::remove_dir(&made).unwrap();
        std::os::unix::fs::symlink(root.path(), &made).unwrap();
        assert!(matches!(machine.make_runtime(), Err(PathError::NotPrivate(_))));
    }

    #[test]
    fn sockets_must_be_addressable() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(60)));
        assert!(matches!(Folders::below(&long), Err(PathError::TooLong(_))));
    }
}
