//! What the whole-path tests share: a Wayland client that draws known pixels, and handles on real hosts and machines.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

pub mod bare;
pub mod client;
pub mod echo;
pub mod foreign;
pub mod nested;
pub mod pattern;
pub mod sway;

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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Names of the test functions in the sources below a folder.
    fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                tests_in(&entry.path(), found);
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for part in text.split("#[test]\n").skip(1) {
                let line = part.lines().next().unwrap_or_default().trim_start();
                found.extend(
                    line.strip_prefix("fn ").and_then(|l| l.split_once('(')).map(|(name, _)| name.into()),
                );
            }
        }
    }

    #[test]
    fn the_table_of_protocols_names_tests_that_there_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut known = BTreeSet::new();
        for folder in ["tests/tests", "guest-agent/tests/agent", "guest-agent/src", "host-app/src"] {
            tests_in(&root.join(folder), &mut known);
        }
        let text = std::fs::read_to_string(root.join("PROTOCOLS.md")).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| ") && !line.contains("| tests |"));
        for row in rows {
            let column = row.trim_end_matches('|').rsplit('|').next().unwrap();
            let named: Vec<&str> = column.split('`').skip(1).step_by(2).collect();
            let said = ["wlcs", "the same", "none of its own yet"].iter().any(|words| column.contains(words));
            assert!(said || !named.is_empty(), "no test: {row}");
            for name in named {
                assert!(known.contains(name), "no such test: {name}");
            }
        }
    }
}
