//! Runs other programs: quietly with a log, or with their output taken.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How much of a log is shown when its program fails.
const TAIL_LINES: usize = 40;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command with its output on the terminal.
pub fn visible(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    if status.success() { Ok(()) } else { bail!("{} failed ({status})", name(command)) }
}

/// Runs a command with its output in a log; a failure shows the log's end and where it is.
pub fn logged(title: &str, command: &mut Command) -> Result<String> {
    let folder = target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{}.log", title.replace(' ', "-")));
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let errors = log.try_clone().context("cannot share the log")?;
    println!("{title} ...");
    let begin = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .status()
        .with_context(|| format!("cannot run {}", name(command)))?;
    let text = String::from_utf8_lossy(&fs::read(&path).context("cannot read the log")?).into_owned();
    if status.success() {
        println!("{title}: done in {:.0} s", begin.elapsed().as_secs_f32());
        return Ok(text);
    }
    let lines: Vec<&str> = text.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"));
    bail!("{title}: failed ({status}); all of its output is in {}", path.display())
}

/// What a command prints.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {} failed ({})", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until there is an answer or the time is over.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// A program that runs beside this one and ends with it.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Either it is gone already or this ends it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_log() {
        let text = logged("xtask self test", Command::new("echo").arg("well")).unwrap();
        assert_eq!(text, "well\n");
        let error =
            logged("xtask self test", Command::new("sh").args(["-c", "echo why; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with("xtask-self-test.log"), "{error}");
    }

    #[test]
    fn waiting_ends() {
        let mut asked = 0;
        let third = || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        };
        assert_eq!(wait_for("it", Duration::from_secs(5), third).unwrap(), 3);
        assert!(wait_for("it", Duration::ZERO, || Ok(None::<()>)).is_err());
    }
}
