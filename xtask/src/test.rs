//! Runs the tests (quick ones first), the lints and the benchmarks.
//!
//! Tests have their own folders of machines, so that they never touch the user's; the base images are the same.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{apt, fuzz, packages, setup, shell, tools};

/// The folder whose tests start virtual machines and host displays.
const WHOLE_PATHS: &str = "tests";

/// The machine that makes sure of the base image before the tests begin.
const WARM_UP: &str = "warm-up";
/// The language of the guests' user (the same as in `tests/tests/common/machine.rs`, as the next).
const GUEST_LOCALE: &str = "de_DE.UTF-8";
/// What the guests of the tests have beside the usual.
const GUEST_PACKAGES: &str = "git,make,sqlite3,tcc,wl-clipboard,xclip,xterm";

/// All tests.
pub fn all() -> Result<()> {
    apt::ensure(&[packages::BUILD, packages::MACHINES, packages::QEMU, packages::HEADLESS, packages::TESTS])?;
    quick_with_packages()?;
    let folders = Folders::make()?;
    tools::for_tests(&folders.root)?;
    // Made anew: the recipe of the base may have changed since the last time.
    folders
        .apply(Command::new(setup::inlay()).args(["delete", "--force", WARM_UP]))
        .output()
        .context("inlay delete")?;
    setup::machine(WARM_UP, GUEST_PACKAGES, |command| {
        folders.apply(command).env("LANG", GUEST_LOCALE).env_remove("LC_ALL").env_remove("LC_MESSAGES")
    })?;
    let mut foreign = Command::new(shell::target().join("debug/inlay-foreign"));
    shell::logged("the disks of foreign guests", folders.apply(&mut foreign))?;
    let mut cargo = cargo_test();
    for target in test_targets(true)? {
        cargo.args(["--test", &target]);
    }
    let log = shell::logged("tests with virtual machines", folders.apply(&mut cargo))?;
    println!("{}", summary(&log));
    Ok(())
}

/// Those without a virtual machine.
pub fn quick() -> Result<()> {
    apt::ensure(&[packages::BUILD, packages::MACHINES, packages::QEMU, packages::HEADLESS, packages::TESTS])?;
    quick_with_packages()
}

fn quick_with_packages() -> Result<()> {
    fuzz::is_locked()?;
    // Everything at once and always the whole workspace: another selection of packages has other features, and dependencies
    // would be built again for it.
    shell::visible(shell::cargo().args(["build", "--workspace", "--all-targets"]))?;
    let folders = Folders::make()?;
    let mut cargo = cargo_test();
    cargo.args(["--lib", "--bins"]);
    for target in test_targets(false)? {
        cargo.args(["--test", &target]);
    }
    let log = shell::logged("quick tests", folders.apply(&mut cargo))?;
    println!("{}", summary(&log));
    Ok(())
}

fn cargo_test() -> Command {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace"]);
    cargo
}

/// Names of the test programs: those of the whole paths, or those of all other packages.
fn test_targets(whole_paths: bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for package in fs::read_dir(shell::root()).context("cannot read the workspace")?.flatten() {
        if (package.file_name() == WHOLE_PATHS) != whole_paths {
            continue;
        }
        for entry in fs::read_dir(package.path().join("tests")).into_iter().flatten().flatten() {
            let path = entry.path();
            let program = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
            if let (true, Some(name)) = (program, path.file_stem()) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Formatting, lints, tests.
pub fn prepush() -> Result<()> {
    shell::visible(shell::cargo().args(["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    shell::visible(shell::cargo().args(lints))?;
    all()
}

/// The benchmarks, with the peers that they compare with.
pub fn bench(arguments: &[String]) -> Result<()> {
    apt::ensure(&[
        packages::BUILD,
        packages::MACHINES,
        packages::QEMU,
        packages::HEADLESS,
        packages::TESTS,
        packages::BENCH,
    ])?;
    shell::visible(shell::cargo().args(["build", "--release", "--workspace"]))?;
    let folders = Folders::make()?;
    tools::for_bench(&folders.root)?;
    let mut bench = Command::new(shell::target().join("release/inlay-bench"));
    shell::visible(folders.apply(bench.args(arguments)))
}

/// The tests' own folders.
struct Folders {
    root: PathBuf,
    runtime: PathBuf,
}

impl Folders {
    fn make() -> Result<Self> {
        let variable =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
        let home = variable("HOME").context("HOME is not set")?;
        let cache = variable("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let data = variable("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
        let root = cache.join("inlay-test");
        let own = root.join("data/inlay");
        let bases = data.join("inlay/.bases");
        for folder in [&own, &bases, &root.join("config")] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // Base images are large and the same for all.
        let link = own.join(".bases");
        if link != bases && fs::read_link(&link).ok().as_ref() != Some(&bases) {
            // A link to where they were before, or nothing.
            let _ = fs::remove_file(&link);
            symlink(&bases, &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
        // Short, as sockets have their places in it.
        let runtime = PathBuf::from(format!("/tmp/inlay-test-{}", shell::output("id", &["-u"])?.trim()));
        match fs::DirBuilder::new().mode(0o700).create(&runtime) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("cannot make {}", runtime.display()))?;
            }
            _ => {}
        }
        Ok(Self { root, runtime })
    }

    fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .env("XDG_DATA_HOME", self.root.join("data"))
            .env("XDG_RUNTIME_DIR", &self.runtime)
    }
}

/// The sum of what cargo's test programs say.
fn summary(log: &str) -> String {
    let count = |word: &str| -> u64 {
        let of_line = |line: &str| -> Option<u64> {
            let before = line.strip_prefix("test result: ")?.split_once(&format!(" {word}"))?.0;
            before.rsplit([' ', '.', ';']).next()?.parse().ok()
        };
        log.lines().filter_map(of_line).sum()
    };
    format!("{} passed, {} failed, {} ignored", count("passed"), count("failed"), count("ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let log = "test a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out\n\
                   test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(summary(log), "17 passed, 2 failed, 1 ignored");
    }
}
