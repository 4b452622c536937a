//! Brings a fresh machine to where the demo and the tests can run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{apt, packages, shell};

/// The machine of the demo.
pub const MACHINE: &str = "demo";

/// Packages, programs and the demo's machine.
pub fn everything() -> Result<()> {
    apt::ensure(&[packages::BUILD, packages::MACHINES, packages::QEMU, packages::HEADLESS, packages::TESTS])?;
    build()?;
    machine(MACHINE, "", |command| command)?;
    println!("ready: `cargo xtask demo` shows it, `{} --help` tells what there is", inlay().display());
    Ok(())
}

/// Builds the programs. cargo shows its own progress.
pub fn build() -> Result<()> {
    shell::visible(shell::cargo().args(["build", "--workspace", "--bins"]))
}

/// The built command.
pub fn inlay() -> PathBuf {
    shell::target().join("debug/inlay")
}

/// Makes a machine with these packages (beside the usual ones, commas between them) unless there is one of that name.
/// `set_up` names its folders.
pub fn machine(name: &str, packages: &str, set_up: impl Fn(&mut Command) -> &mut Command) -> Result<()> {
    let output = set_up(Command::new(inlay()).arg("list")).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", inlay().display()))?;
    if !output.status.success() {
        bail!("`inlay list` failed");
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    if listed.lines().any(|line| line.split_whitespace().next() == Some(name)) {
        return Ok(());
    }
    println!("making the machine {name}; its first base image takes some minutes");
    let mut create = Command::new(inlay());
    create.args(["create", name, "--integrated"]);
    if !packages.is_empty() {
        create.args(["--packages", packages]);
    }
    shell::visible(set_up(&mut create))
}
