//! Disks of a Debian that knows nothing of Inlay, with boot loaders of their own: built from packages (`foreign/debian.sh`), once for a
//! recipe, and kept outside the checkout.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use inlay::create::Mirror;
use sha2::{Digest as _, Sha256};

const RECIPE: &str = include_str!("../foreign/debian.sh");
/// What the guests of all tests are.
const SUITE: &str = "trixie";

/// One of the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// syslinux on an MBR, in a qcow2 image; a login on its console.
    Bios,
    /// systemd-boot on an EFI system partition of a GPT, in a raw image; a desktop of its own.
    Uefi,
}

impl Disk {
    fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios.qcow2",
            Self::Uefi => "uefi.raw",
        }
    }

    /// Its image, which nobody may change; made if it is not there yet, which takes some minutes.
    ///
    /// # Errors
    /// A tool is missing, or a package does not come.
    pub fn path(self) -> Result<PathBuf> {
        Ok(folder()?.join(self.name()))
    }
}

/// The folder of both, made if it is not there yet.
fn folder() -> Result<PathBuf> {
    let all = crate::folder()?.join("foreign");
    std::fs::create_dir_all(&all)?;
    let hash = Sha256::digest(format!("{SUITE}\n{RECIPE}"));
    let id: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = all.join(id);
    // Whoever comes while it is made waits for it.
    let lock = File::create(all.join("lock"))?;
    lock.lock()?;
    if !folder.is_dir() {
        let work = tempfile::Builder::new().prefix("work-").tempdir_in(&all)?;
        build(work.path())?;
        std::fs::rename(work.path(), &folder)?;
    }
    Ok(folder)
}

fn build(work: &Path) -> Result<()> {
    let mirror = Mirror::of_host(Path::new("/etc/apt"))?;
    let output = Command::new("bash")
        .args(["-c", RECIPE, "debian.sh"])
        .arg(work)
        .arg(SUITE)
        .args(mirror.lines(SUITE))
        .output()
        .context("cannot run bash")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(10).collect();
        bail!(
            "the disks of foreign guests cannot be made: {}",
            last.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}
