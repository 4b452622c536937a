//! Fuzzing: builds the targets of `fuzz/` with coverage instrumentation and lets libFuzzer run each for a while.
//!
//! This needs the nightly toolchain, for the instrumentation; nothing else does. What is found is kept below the target
//! folder and goes on from there the next time; `--merge` puts a minimal selection into the committed corpora, which the
//! ordinary tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::shell;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What libFuzzer needs of the compiler (cargo-fuzz sets the same).
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";
/// Longest input in bytes.
const LENGTH: usize = 512;

/// How to fuzz.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Minutes for each target.
    pub minutes: u64,
    /// Only these; all when empty.
    pub targets: Vec<String>,
    /// Whether the committed corpora take what was found.
    pub merge: bool,
}

/// Fuzzes.
pub fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = options.targets.iter().find(|target| !all.contains(target)) {
        bail!("no such target: {unknown}; there are: {}", all.join(", "));
    }
    let chosen = if options.targets.is_empty() { &all } else { &options.targets };
    build()?;
    let mut lines = Vec::new();
    let mut crashed = false;
    for target in chosen {
        let place = Place::make(target)?;
        let run = place.fuzz(options.minutes)?;
        if options.merge && run.crashes.is_empty() {
            place.merge()?;
        }
        crashed |= !run.crashes.is_empty();
        lines.push(run.line(target));
    }
    println!("\n{}", lines.join("\n"));
    if crashed {
        bail!("an input breaks its target; run the target with that file alone to see it again");
    }
    Ok(())
}

/// Makes sure that the targets' own lock file follows the workspace: nothing else builds them.
pub fn is_locked() -> Result<()> {
    let mut fetch = shell::cargo();
    fetch.args(["fetch", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    shell::visible(&mut fetch)
        .context("fuzz/Cargo.lock is behind: `cargo metadata` in fuzz/ brings it up to date")
}

/// The targets by name: the programs that the manifest names.
fn targets() -> Result<Vec<String>> {
    let manifest = shell::root().join("fuzz/Cargo.toml");
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let programs = text.split("[[bin]]").skip(1);
    let name =
        |part: &str| Some(part.lines().find_map(|l| l.strip_prefix("name = "))?.trim_matches('"').to_owned());
    Ok(programs.filter_map(name).collect())
}

fn build() -> Result<()> {
    // By name and not `cargo +nightly`: the cargo that runs this program has chosen a toolchain already.
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        bail!(
            "fuzzing needs the nightly toolchain (nothing else does); install it with: \
             rustup toolchain install nightly --profile minimal"
        );
    }
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", "nightly", "cargo", "build", "--locked", "--release", "--target", TRIPLE])
        .current_dir(shell::root().join("fuzz"))
        .env("CARGO_TARGET_DIR", folder())
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(name);
    }
    shell::visible(&mut cargo)
}

/// Where fuzzing keeps what it makes.
fn folder() -> PathBuf {
    shell::target().join("fuzz")
}

/// Files of one target.
struct Place {
    program: PathBuf,
    /// All inputs that reached something.
    found: PathBuf,
    /// The selection that is committed.
    committed: PathBuf,
    /// Inputs that break the target.
    artifacts: PathBuf,
    /// Temporary files of the target itself, which has no chance to clean up.
    scratch: PathBuf,
    log: PathBuf,
}

/// What came of fuzzing a target.
struct Run {
    executions: u64,
    time: Duration,
    crashes: Vec<PathBuf>,
}

impl Run {
    fn line(&self, target: &str) -> String {
        let crashes: String =
            self.crashes.iter().map(|path| format!("\n    broken by {}", path.display())).collect();
        let rate = self.executions as f64 / self.time.as_secs_f64().max(1.0);
        format!("{target:18} {:>11} executions, {rate:.0} a second{crashes}", self.executions)
    }
}

impl Place {
    fn make(target: &str) -> Result<Self> {
        let base = folder();
        let place = Self {
            program: base.join(TRIPLE).join("release").join(target),
            found: base.join("corpus").join(target),
            committed: shell::root().join("fuzz/corpus").join(target),
            artifacts: base.join("artifacts").join(target),
            scratch: base.join("scratch"),
            log: base.join(format!("{target}.log")),
        };
        for path in [&place.found, &place.committed, &place.artifacts] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(place)
    }

    fn command(&self) -> Result<Command> {
        // What an earlier run left; a fresh folder else.
        let _ = fs::remove_dir_all(&self.scratch);
        fs::create_dir_all(&self.scratch).context("cannot make a folder for temporary files")?;
        let log =
            fs::File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command.env("TMPDIR", &self.scratch).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    fn fuzz(&self, minutes: u64) -> Result<Run> {
        println!("{} for {minutes} min ...", self.program.file_name().unwrap_or_default().display());
        let before = files(&self.artifacts);
        let begin = Instant::now();
        let mut artifacts = self.artifacts.clone().into_os_string();
        artifacts.push("/");
        let mut prefix = std::ffi::OsString::from("-artifact_prefix=");
        prefix.push(artifacts);
        let status = self
            .command()?
            .arg(format!("-max_total_time={}", 60 * minutes))
            .args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=1024"])
            .arg(format!("-max_len={LENGTH}"))
            .arg(prefix)
            .args([&self.found, &self.committed])
            .status()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let crashes: Vec<PathBuf> =
            files(&self.artifacts).into_iter().filter(|path| !before.contains(path)).collect();
        let executions = executions(&fs::read_to_string(&self.log).unwrap_or_default());
        if !status.success() && crashes.is_empty() {
            bail!("{} failed ({status}); its output is in {}", self.program.display(), self.log.display());
        }
        Ok(Run { executions, time: begin.elapsed(), crashes })
    }

    /// Replaces the committed corpus by the smallest one that reaches as much.
    fn merge(&self) -> Result<()> {
        let new = folder().join("merged");
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).context("cannot make a folder for the merged corpus")?;
        let mut command = self.command()?;
        // Lines reached, not how often: a few hundred small files are enough for the tests.
        command.args(["-merge=1", "-use_value_profile=0", "-use_counters=0"]);
        let status =
            command.arg(&new).args([&self.committed, &self.found]).status().context("cannot merge")?;
        if !status.success() {
            bail!("merging failed ({status}); its output is in {}", self.log.display());
        }
        let failed = || format!("cannot replace {}", self.committed.display());
        fs::remove_dir_all(&self.committed).with_context(failed)?;
        fs::create_dir_all(&self.committed).with_context(failed)?;
        for file in files(&new) {
            fs::copy(&file, self.committed.join(file.file_name().unwrap_or_default()))
                .with_context(failed)?;
        }
        Ok(())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// How many inputs ran, as libFuzzer says at its end, or else in its newest line.
fn executions(log: &str) -> u64 {
    let end = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let newest = || log.lines().rev().find_map(|line| line.strip_prefix('#')?.split_whitespace().next());
    end.or_else(newest).and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_a_corpus() {
        let targets = targets().unwrap();
        assert!(targets.iter().any(|target| target == "gpu"), "{targets:?}");
        for target in targets {
            assert!(!files(&shell::root().join("fuzz/corpus").join(&target)).is_empty(), "{target}");
        }
    }

    #[test]
    fn executions_are_read() {
        let log = "#2\tINITED cov: 7\n#4096\tpulse\nstat::number_of_executed_units: 5000\n";
        assert_eq!(executions(log), 5000);
        assert_eq!(executions("#2\tINITED\n#4096\tpulse cov: 9\n==1== ERROR: libFuzzer\n"), 4096);
    }
}
