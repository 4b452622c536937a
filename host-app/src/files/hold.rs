//! Bringing folders and files to a file server that runs: by a short-lived process, because only one with a single thread can go where it may make
//! mounts, and it cannot come back.

use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use inlay_file_server::jail::Namespaces;

use super::{Ask, FilesClient};
use crate::machine::Sockets;
use crate::paths::{Folders, MachineName};
use crate::process;
use crate::shares::{GUEST_PLACE, SharedFolder};

/// Has a machine that runs see this folder, or see it in another way; nothing is done where none runs.
///
/// # Errors
/// It cannot be shared: in words for the user.
pub fn share(folders: &Folders, name: &MachineName, folder: &SharedFolder) -> anyhow::Result<()> {
    let sockets = Sockets::new(folders.machine(name).runtime());
    if FilesClient::connect(&sockets.files())?.is_none() {
        return Ok(());
    }
    let mut command = Command::new(process::own_binary()?);
    command.arg("hold").arg("--name").arg(&folder.name);
    command.args(folder.read_only.then_some("--read-only"));
    command.arg("--").arg(name.as_str()).arg(&folder.path);
    let output = command.stdin(Stdio::null()).output().context("cannot bring it to the file server")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it was not brought to the file server");
    Err(anyhow::anyhow!("{}", process::one_line(said.trim_start_matches("inlay: "))))
}

/// The short-lived process itself.
///
/// # Errors
/// As [`share`].
pub fn hold(
    folders: &Folders,
    name: &MachineName,
    path: &Path,
    called: String,
    read_only: bool,
) -> anyhow::Result<()> {
    let sockets = Sockets::new(folders.machine(name).runtime());
    let mut server = FilesClient::connect(&sockets.files())?.context("the machine has no file server")?;
    let mount = Namespaces::enter(&folders.own())?.hold(path, read_only)?;
    server.ask(&Ask::Share { name: called, read_only }, Some(mount))?;
    Ok(())
}

/// Grants files and folders to a machine that runs, each alone; where the guest finds them, in their order, and nothing for those
/// that it does not get.
///
/// # Errors
/// None can be granted: in words for the log.
pub fn grant(name: &MachineName, paths: &[PathBuf], read_only: bool) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let mut command = Command::new(process::own_binary()?);
    command.arg("grant").args(read_only.then_some("--read-only")).arg("--").arg(name.as_str()).args(paths);
    let output = command.stdin(Stdio::null()).output().context("cannot bring files to the file server")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{}", process::one_line(said.lines().last().unwrap_or("files were not granted")));
    }
    // Numbers, or nothing, by line.
    let numbers = output.stdout.split(|byte| *byte == b'\n');
    let found = numbers.zip(paths).map(|(number, path)| {
        let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some(Path::new(GUEST_PLACE).join(".files").join(number.to_string()).join(path.file_name()?))
    });
    Ok(found.collect())
}

/// The short-lived process itself: writes a line for each path.
///
/// # Errors
/// As [`grant`].
pub fn grant_all(
    folders: &Folders,
    name: &MachineName,
    paths: &[PathBuf],
    read_only: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sockets = Sockets::new(folders.machine(name).runtime());
    let mut server = FilesClient::connect(&sockets.files())?.context("the machine has no file server")?;
    let namespaces = Namespaces::enter(&folders.own())?;
    for path in paths {
        let granted = path.canonicalize().map_err(anyhow::Error::from).and_then(|real| {
            let name = path.file_name().context("it has no name")?.as_bytes().to_vec();
            let mount = namespaces.hold(&real, read_only)?;
            Ok(server.ask(&Ask::Grant { name, read_only }, Some(mount))?)
        });
        match granted {
            Ok(Some(number)) => writeln!(out, "{number}")?,
            Ok(None) => writeln!(out)?,
            Err(error) => {
                // The window process's log has it.
                tracing::warn!("{} is not given to the guest: {error:#}", path.display());
                writeln!(out)?;
            }
        }
    }
    Ok(())
}
