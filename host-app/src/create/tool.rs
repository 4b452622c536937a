//! Runs the programs that making a machine takes (e2fsprogs, qemu-img, tar), and words their failures.

use std::io;
use std::process::{Command, Stdio};

use super::CreateError;

/// Runs `program` to its end.
pub(super) fn run(
    program: &'static str,
    package: &'static str,
    set_up: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<(), CreateError> {
    let mut command = Command::new(program);
    // e2fsprogs live in a folder that users' PATH may lack.
    command.env("PATH", path()).env("LC_ALL", "C").stdin(Stdio::null());
    let output = set_up(&mut command).output().map_err(|error| missing(program, package, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CreateError::Tool { program, said: telling(said.lines(), &output.status.to_string()) })
}

/// The error of starting a program.
pub(super) fn missing(program: &'static str, package: &'static str, error: io::Error) -> CreateError {
    if error.kind() == io::ErrorKind::NotFound {
        CreateError::NoTool { program, package }
    } else {
        CreateError::Io { path: program.into(), source: error }
    }
}

/// `PATH` with the folders of the system's tools.
pub(super) fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}{}/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", if own.is_empty() { "" } else { ":" })
}

/// Whether a program's words blame a full file system.
pub(super) fn says_no_space(said: &str) -> bool {
    ["No space left on device", "enough free space", "Disk quota exceeded"]
        .iter()
        .any(|text| said.contains(text))
}

/// The line that tells most: one about space, else the first error, else the last line.
pub(super) fn telling<'a>(lines: impl Iterator<Item = &'a str> + Clone, otherwise: &str) -> String {
    let mut full = lines.clone().filter(|line| says_no_space(line));
    let mut errors = lines.clone().filter(|line| line.starts_with("E: "));
    let line =
        full.next().or_else(|| errors.next()).or_else(|| lines.filter(|line| !line.trim().is_empty()).last());
    line.map_or_else(|| otherwise.to_owned(), |line| line.trim_start_matches("E: ").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_one_line() {
        let told = |text: &str| telling(text.lines(), "exit status: 1");
        assert_eq!(told("a\nE: first\nE: setup failed\n"), "first");
        assert_eq!(told("E: x\ndpkg: No space left on device\nE: y\n"), "dpkg: No space left on device");
        assert_eq!(told("a\nlast\n\n"), "last");
        assert_eq!(told(""), "exit status: 1");
        let none = run("inlay-no-such-program", "nowhere", |command| command);
        assert!(matches!(none, Err(CreateError::NoTool { package: "nowhere", .. })));
        let failed = run("sh", "dash", |command| command.args(["-c", "echo broken >&2; exit 3"]));
        assert!(matches!(failed, Err(CreateError::Tool { said, .. }) if said == "broken"));
    }
}
