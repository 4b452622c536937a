//! Many windows: memory comes back, nothing is logged as wrong, and windows that do not change cost nothing.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::scripted::Screen;
use common::sway::{SIZE, Sway};
use common::{Local, Process, Xvfb, descendants, eventually, program, says};
use rustix::process::Pid;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{AtomEnum, ConfigureWindowAux, ConnectionExt as _};

/// KiB of some blocks of graphics memory.
const BLOCKS: u64 = 8 << 10;

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

/// Memory of a process in KiB that is its own, and what it has swapped out.
fn memory(pid: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).unwrap();
    let of = |name: &str| -> u64 {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Clean pages are those of files, and private only where nobody else uses the same library.
    of("Private_Dirty:") + of("Swap:")
}

fn settled(local: &Local, pids: [Pid; 2]) -> [u64; 2] {
    eventually("no window", || local.windows().is_empty().then_some(()));
    // Freed by the graphics device in its own time, and given back a second after the last window.
    std::thread::sleep(Duration::from_secs(3));
    pids.map(memory)
}

#[test]
fn a_thousand_windows_leave_nothing() {
    leave_nothing(Screen::None);
}

#[test]
fn a_thousand_windows_that_are_moved_and_resized_leave_nothing_on_wayland() {
    // Each is tiled, which resizes those that are there, and goes to another place and size.
    let moved = "for_window [title=.*] floating enable, move position 300 200, resize set 260 210";
    let sway = Sway::start_with(&[(SIZE, 1, 0)], moved);
    leave_nothing(Screen::Wayland(&sway.socket()));
}

#[test]
fn a_thousand_windows_that_are_moved_and_resized_leave_nothing_on_x11() {
    let xvfb = Xvfb::start();
    let (x, screen) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let root = x.setup().roots[screen].root;
    let list = x.intern_atom(false, b"_NET_CLIENT_LIST").unwrap().reply().unwrap().atom;
    let over = Arc::new(AtomicBool::new(false));
    let seen_over = over.clone();
    let mover = std::thread::spawn(move || {
        let mut moved = BTreeSet::new();
        while !seen_over.load(Ordering::Relaxed) {
            let clients =
                x.get_property(false, root, list, AtomEnum::WINDOW, 0, 1024).unwrap().reply().unwrap();
            for client in clients
                .value32()
                .into_iter()
                .flatten()
                .filter(|client| !moved.contains(client))
                .collect::<Vec<_>>()
            {
                moved.insert(client);
                let aux = ConfigureWindowAux::new().x(300).y(200).width(260).height(210);
                x.configure_window(client, &aux).unwrap();
            }
            x.flush().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        moved.len()
    });
    leave_nothing(Screen::X11(&xvfb.display));
    over.store(true, Ordering::Relaxed);
    let moved = mover.join().unwrap();
    assert!(moved > 1000, "only {moved} were moved");
}

/// Opens and closes windows: 1,000 in a row, and 200 at once.
fn leave_nothing(screen: Screen<'_>) {
    let local = Local::start_on(&["sleep", "600"], screen);
    let mut windows = Windows::start(&local);
    let pids = ours(&local);
    for warm in ["200 200", "1000 1", "200 200"] {
        windows.run(warm);
        settled(&local, pids);
    }
    let before = settled(&local, pids);
    let sum = |kib: [u64; 2]| -> u64 { kib.iter().sum() };
    for load in ["1000 1", "200 200"] {
        // Graphics memory comes in blocks of some megabytes, which may be one more than before: then what leaks would be more each time.
        let mut after = Vec::new();
        while after.len() < 3 {
            windows.run(load);
            after.push(sum(settled(&local, pids)));
            if after.iter().any(|kib| *kib <= sum(before) + sum(before) / 20) {
                break;
            }
        }
        let steady = after.len() < 3 || after[2] <= after[0] + after[0] / 100;
        let near = after.iter().all(|kib| *kib <= sum(before) + sum(before) / 20 + BLOCKS);
        assert!(steady && near, "{load}: {before:?} KiB before, {after:?} after each time");
    }
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
