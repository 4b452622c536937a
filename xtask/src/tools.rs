//! Programs of the tests that Debian does not package: built once from the package registry, kept outside the checkout by version.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::shell;

/// Crate and version. Tests look for `tools/CRATE-VERSION/bin/CRATE` in their folder (`inlay_tests::tool`).
const VIRTIOFSD: (&str, &str) = ("virtiofsd", "1.14.0");
const VSOCK: (&str, &str) = ("vhost-device-vsock", "0.3.0");

/// What the tests attach as another process: a file server.
pub fn for_tests(folder: &Path) -> Result<()> {
    ensure(folder, VIRTIOFSD)
}

/// What the benchmark compares with, too.
pub fn for_bench(folder: &Path) -> Result<()> {
    ensure(folder, VIRTIOFSD)?;
    ensure(folder, VSOCK)
}

fn ensure(folder: &Path, (name, version): (&str, &str)) -> Result<()> {
    let root: PathBuf = folder.join(format!("tools/{name}-{version}"));
    if root.join("bin").join(name).exists() {
        return Ok(());
    }
    let mut cargo = shell::cargo();
    cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(&root).arg(name);
    shell::logged(&format!("building {name}"), &mut cargo).map(drop)
}
