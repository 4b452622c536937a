//! Making machines: a Debian guest built from packages into a base image, and a machine's own disks on it.
//!
//! ```text
//! Debian mirror --mmdebstrap + customize.sh--> .bases/ID/ root.ext4   read-only, shared by its machines
//!                                                         vmlinux      unpacked kernel
//!                                                         initramfs.cpio  modules, busybox, e2fsck
//! .bases/ID/root.ext4 <--overlay-- NAME/disk.qcow2        NAME/home.raw   a disk of its own, survives a reset
//! start: initramfs.cpio + (init, agent, units of this build) = the initrd that the guest boots, kept while these stay as they are
//!
//! somebody's disk --inlay import--> NAME/disk.qcow2 or disk.raw, with its own boot loader
//! ```
//!
//! A base is named by its content: by what was asked for and by what was installed. Everything is made in a folder beside
//! its final place and renamed into it, so a failure or an interruption leaves nothing half-made.

mod base;
mod bootstrap;
pub mod cpio;
mod elf;
mod import;
mod initramfs;
mod interrupt;
pub mod kernel;
mod loader;
mod machines;
mod mirror;
mod progress;
mod sources;
mod tool;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use base::{Base, BaseRequest};
pub use import::{ImportError, ImportOptions, Uefi, has_uefi, import};
pub use initramfs::{agent_cpio, agent_folder, initrd};
pub use kernel::KernelError;
pub use machines::{
    Boot, BootFiles, HOME_SERIAL, ImportedFiles, ROOT_SERIAL, boot_files, check_free, create, delete, list,
};
pub use mirror::{Mirror, MirrorError};
pub use progress::{Progress, Quiet, for_terminal};

use crate::config::ConfigError;
use crate::paths::{Folders, MachineName, PathError};
use crate::permissions::PermissionError;

/// What `inlay create` is asked for.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The user's folders.
    pub folders: Folders,
    /// Name of the new machine.
    pub name: MachineName,
    /// What its base image holds.
    pub base: BaseRequest,
    /// Processors, if not the default.
    pub cpus: Option<u32>,
    /// Memory in MiB, if not the default.
    pub memory: Option<u32>,
    /// Whether it is a part of the user's desktop, or kept apart.
    pub integrated: bool,
}

/// Why a machine could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one of that name.
    #[error("the machine {0} exists already; `inlay delete {0}` removes it")]
    Exists(MachineName),
    /// There is none of that name.
    #[error("no such machine: {0} (`inlay list` tells those that exist)")]
    Unknown(MachineName),
    /// It runs, or somebody else is making or deleting it.
    #[error("the machine {0} is in use: `inlay stop {0}` first")]
    InUse(MachineName),
    /// The base image that a machine's disk belongs to is not there.
    #[error("the base image {id} of this machine is missing or incomplete in {folder}")]
    NoBase {
        /// Its id.
        id: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Not a suite of Debian.
    #[error("unknown suite {0:?}: use trixie or another of Debian's suites")]
    Suite(String),
    /// Not the name of a package.
    #[error("bad package name {0:?}")]
    Package(String),
    /// The file system is full.
    #[error("not enough space in {folder}: {need_mib} MiB are needed there, {free_mib} MiB are free")]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// What it takes, roughly.
        need_mib: u64,
        /// What there was when it failed.
        free_mib: u64,
    },
    /// Ended by the user.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
    /// A program that is needed is not installed.
    #[error("the program {program} is missing: apt-get install {package}")]
    NoTool {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Tool {
        /// Its name.
        program: &'static str,
        /// What it said about it.
        said: String,
    },
    /// The agent's program cannot be handed to a guest.
    #[error("{0} is not a program that can be handed to a guest (x86-64, dynamically linked)")]
    BadAgent(PathBuf),
    /// A file or folder cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user's folders.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it may exchange.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// The mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A disk to be imported, or a firmware.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl CreateError {
    /// Wraps an error of a file.
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Says it plainly when a full file system is behind the error.
    fn or_no_space(self, folder: &Path, need_mib: u64) -> Self {
        let full = match &self {
            Self::Io { source, .. } | Self::Kernel(KernelError::Io { source, .. }) => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Config(ConfigError::Io { source, .. }) => source.kind() == io::ErrorKind::StorageFull,
            Self::Tool { said, .. } | Self::Kernel(KernelError::BadPayload { said, .. }) => {
                tool::says_no_space(said)
            }
            _ => false,
        };
        if !full {
            return self;
        }
        Self::NoSpace { folder: folder.into(), need_mib, free_mib: free_mib(folder).unwrap_or(0) }
    }
}

/// Space that is free for this user where `folder` is, in MiB.
fn free_mib(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize) / (1024 * 1024))
}

/// Writes a file that is there as a whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    fs::rename(&new, path)
}
