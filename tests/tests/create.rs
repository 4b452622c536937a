//! Making machines when something is wrong: one clear line, nothing half-made.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Process, eventually, program, within};
use rustix::process::Signal;

/// A user's folders of their own.
fn folders(root: &Path, command: &mut Command) {
    command.env("XDG_DATA_HOME", root.join("data")).env("XDG_CONFIG_HOME", root.join("config"));
    command.stdin(Stdio::null());
}

fn one_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

/// Every file and folder below, but locks.
fn left(root: &Path) -> Vec<String> {
    let mut open = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if entry.file_name() != "lock" {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn an_interrupted_create_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("inlay"));
    folders(root.path(), command.args(["create", "broken-off"]));
    let mut create = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    // In the middle of its work, whatever that is just now.
    let data = root.path().join("data");
    within(Duration::from_secs(120), "files of the new base", || (!left(&data).is_empty()).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(create.ended(), None, "it cannot be done already");
    create.signal(Signal::INT);
    let status = within(Duration::from_secs(60), "the end of the command", || create.ended());
    assert!(!status.success());
    assert_eq!(left(root.path()), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(root.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // A small disk in a mount namespace of its own; what is left is told before that goes.
    let script = "mount -t tmpfs -o size=24m tmpfs \"$1\" && \"$2\" create full; s=$?; find \"$1\" -type f ! -name lock; exit $s";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(&data).arg(program("inlay"));
    folders(root.path(), &mut command);
    let output = command.output().unwrap();
    let line = one_line(&output);
    assert!(line.starts_with("inlay: not enough space"), "{line}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "left behind");
    assert_eq!(left(root.path()), Vec::<String>::new());
}

#[test]
fn a_name_is_used_once() {
    let name = format!("t{}-twice", std::process::id());
    let run =
        |words: &[&str]| Command::new(program("inlay")).args(words).stdin(Stdio::null()).output().unwrap();
    let first = run(&["create", &name, "--packages", "xterm"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let line = one_line(&run(&["create", &name]));
    assert!(line.contains("exists already") && line.contains(&name), "{line}");
    assert!(run(&["list"]).stdout.windows(name.len()).any(|w| w == name.as_bytes()));
    assert!(run(&["delete", &name]).status.success());
    let gone = eventually("the second deletion's answer", || Some(run(&["delete", &name])));
    assert!(one_line(&gone).contains("no such machine"));
}
