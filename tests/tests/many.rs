//! Many windows: memory comes back, nothing is logged as wrong, and windows that do not change cost nothing.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Local, Process, descendants, eventually, program, says};
use rustix::process::Pid;

/// `inlay-pattern windows`.
struct Windows {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Windows {
    fn start(local: &Local) -> Self {
        let mut command = Command::new(program("inlay-pattern"));
        command.arg("windows").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = local.client(&mut command);
        let input = process.0.stdin.take().unwrap();
        let output = BufReader::new(process.0.stdout.take().unwrap());
        Self { _process: process, input, output }
    }

    fn run(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "the client's answer");
    }
}

/// The agent and the window process of a run.
fn ours(local: &Local) -> [Pid; 2] {
    let run = Pid::from_raw(local.process.0.id().cast_signed()).unwrap();
    ["inlay-agent", "inlay windows"]
        .map(|word| eventually(word, || descendants(run).into_iter().find(|pid| says(*pid, word))))
}

/// Private memory of a process in KiB, and what it has swapped out.
fn memory(pid: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).unwrap();
    let of = |name: &str| -> u64 {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    of("Private_Clean:") + of("Private_Dirty:") + of("Swap:")
}

fn settled(local: &Local, pids: [Pid; 2]) -> [u64; 2] {
    eventually("no window", || local.windows().is_empty().then_some(()));
    // Freed by the graphics device in its own time.
    std::thread::sleep(Duration::from_secs(2));
    pids.map(memory)
}

#[test]
fn a_thousand_windows_leave_nothing() {
    let local = Local::start(&["sleep", "600"], None);
    let mut windows = Windows::start(&local);
    let pids = ours(&local);
    let within = |before: [u64; 2], after: [u64; 2], what: &str| {
        println!("{what}: {before:?} KiB before, {after:?} after");
        let (before, after): (u64, u64) = (before.iter().sum(), after.iter().sum());
        assert!(after <= before + before / 20, "{what}: {before} KiB became {after}");
    };
    // What allocators, the upload ring (whole chunks) and the graphics library keep for reuse is there after the greatest need.
    windows.run("200 200");
    windows.run("500 1");
    let before = settled(&local, pids);
    windows.run("1000 1");
    within(before, settled(&local, pids), "1000 windows in a row");
    windows.run("200 200");
    within(before, settled(&local, pids), "200 windows at once");
    let log = std::fs::read_to_string(local.folder().join("windows.log")).unwrap();
    let wrong: Vec<&str> = log.lines().filter(|l| l.contains("ERROR") || l.contains("WARN")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn ten_windows_that_do_not_change_cost_nothing() {
    let local = Local::start(&["sleep", "600"], None);
    let mut windows = Windows::start(&local);
    windows.run("keep 10");
    eventually("ten windows", || (local.windows().len() == 10).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    let switches = |pid: Pid| -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().flatten();
        let of = |path: std::path::PathBuf| -> u64 {
            let text = std::fs::read_to_string(path.join("status")).unwrap();
            let lines = text.lines().filter(|l| l.starts_with("voluntary_ctxt_switches"));
            lines.filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok()).sum()
        };
        tasks.map(|t| of(t.path())).sum()
    };
    let pids = ours(&local);
    let before = pids.map(switches);
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(pids.map(switches), before, "agent and window process were woken");
}
