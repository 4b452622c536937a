//! What the whole-path tests share: a Wayland client that draws known pixels, and handles on real hosts and machines.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

pub mod bare;
pub mod client;
pub mod echo;
pub mod nested;
pub mod pattern;

/// What tests keep outside the checkout.
fn folder() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from(home).join(".cache"), PathBuf::from);
    Ok(cache.join("inlay-test"))
}

/// A program that `cargo xtask` builds for tests and benchmarks, in the newest version that is there.
///
/// # Errors
/// It was not built.
pub fn tool(name: &str) -> Result<PathBuf> {
    let tools = folder()?.join("tools");
    let mut found: Vec<PathBuf> = std::fs::read_dir(&tools)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")))
        .map(|entry| entry.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    match found.pop() {
        Some(path) => Ok(path),
        None => bail!("{name} is not in {}: run cargo xtask test", tools.display()),
    }
}
