//! SIGKILL at random moments: whatever of Inlay is killed, nothing of it remains but what goes on by itself, and the next run works.
//!
//! The moments come from a seed, which is printed; `INLAY_KILLS` sets their number in local mode, `INLAY_SEED` the seed.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Local, Random, descendants, eventually, is_gone, says};
use rustix::process::{Pid, Signal, kill_process};

/// Kills in local mode unless `INLAY_KILLS` says otherwise.
const KILLS: usize = 200;
/// Longest pause before a kill: it falls into the start of a run as well as after it.
const PAUSE_MS: u64 = 1500;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// What is killed, by a word of its command line; the run itself has none.
const VICTIMS: [&str; 5] = ["", "inlay windows", "inlay-agent", "Xwayland :", "foot sh"];

/// Sockets and locks of X displays whose agent is dead.
fn stale_displays() -> Vec<PathBuf> {
    let locks = std::fs::read_dir("/tmp").unwrap().flatten().map(|e| e.path());
    let stale = locks.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|l| Pid::from_raw(l.trim().parse().ok()?));
        name.starts_with(".X") && lines.next() == Some("inlay") && pid.is_some_and(is_gone)
    });
    stale.collect()
}

/// Runs an app that is busy on both display protocols, kills one process after another until the run is over; the kills.
fn round(random: &mut Random, most: usize, killed: &mut BTreeMap<&str, usize>) -> usize {
    // Both apps draw all the time, so that a kill falls into commits, copies and uploads.
    let script = "xterm -e sh -c 'while :; do date; done' & exec foot sh -c 'while :; do date; done'";
    let mut local = Local::start(&["sh", "-c", script], None);
    let run = Pid::from_raw(local.process.0.id().cast_signed()).unwrap();
    let mut family = std::collections::HashSet::new();
    let mut kills = 0;
    let mut over = false;
    while kills < most && !over {
        std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
        family.extend(descendants(run));
        let victim = VICTIMS[usize::try_from(random.below(VICTIMS.len() as u64)).unwrap()];
        let pid = match victim {
            "" => Some(run),
            word => descendants(run).into_iter().find(|pid| says(*pid, word)),
        };
        // Not started yet, or gone already: another one then.
        let Some(pid) = pid else { continue };
        kill_process(pid, Signal::KILL).unwrap();
        kills += 1;
        *killed.entry(if victim.is_empty() { "the run" } else { victim }).or_default() += 1;
        // Only the window process and the X server come back.
        over = !["inlay windows", "Xwayland :"].contains(&victim);
        if over {
            let status = eventually("the run's end", || local.process.ended());
            assert!(!status.success(), "{victim:?} was killed");
        } else {
            eventually("the victim's end", || is_gone(pid).then_some(()));
        }
    }
    if !over {
        local.process.signal(Signal::TERM);
        eventually("the run's end in order", || local.process.ended());
    }
    for pid in family {
        eventually("the end of every process", || is_gone(pid).then_some(()));
    }
    // The next run in this place works, and takes away what is left.
    let next = next_run(local.runtime.path());
    assert!(next.success(), "{next}");
    let left: Vec<_> = std::fs::read_dir(local.runtime.path().join("inlay")).unwrap().flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    kills
}

fn next_run(runtime: &Path) -> std::process::ExitStatus {
    std::process::Command::new(common::program("inlay"))
        .args(["run", "--local", "--headless", "true"])
        .env("XDG_RUNTIME_DIR", runtime)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .status()
        .unwrap()
}

#[test]
fn a_local_run_survives_kills_or_ends_whole() {
    let seed = number("INLAY_SEED", u64::from(std::process::id()) << 20 | 0x5eed);
    println!("INLAY_SEED={seed}");
    let mut random = Random::new(seed);
    let wanted = usize::try_from(number("INLAY_KILLS", KILLS as u64)).unwrap();
    let (mut kills, mut killed) = (0, BTreeMap::new());
    while kills < wanted {
        kills += round(&mut random, (wanted - kills).min(6), &mut killed);
    }
    println!("{kills} kills: {killed:?}");
    assert!(wanted < KILLS || killed.len() == VICTIMS.len(), "each was killed at least once: {killed:?}");
    assert_eq!(stale_displays(), Vec::<PathBuf>::new());
}
