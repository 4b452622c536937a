//! Scrolling, from the pointer of a Wayland desktop through an X server on it, whose devices have scroll axes as real ones
//! do, to an app.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::sway::Sway;
use common::{Local, SOON, eventually};

/// What comes of a scroll, as wev says it: distances, each with the detents that came with it.
fn scrolled(lines: &Receiver<String>) -> Vec<(f64, i32)> {
    let (mut seen, mut detents, mut wait) = (Vec::new(), 0, SOON);
    while let Ok(line) = lines.recv_timeout(wait) {
        let after = |word: &str| line.rsplit(word).next().unwrap().trim().to_owned();
        if line.contains(" discrete: ") {
            detents = after(" discrete: ").parse().unwrap();
        } else if line.contains("] axis: ") {
            seen.push((after("value: ").parse().unwrap(), std::mem::take(&mut detents)));
            // What else comes of it.
            wait = Duration::from_millis(500);
        }
    }
    seen
}

#[test]
fn touchpads_scroll_smoothly_and_wheels_by_detents() {
    let sway = Sway::start();
    let mut pointer = sway.pointer();
    let (_server, display) = sway.xwayland();
    let local = Local::start(&["sleep", "1000"], Some(&display));
    // It prints into a buffer else.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "wev", "-f", "wl_pointer"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = local.client(&mut command);
    let output = client.0.stdout.take().unwrap();
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.for_each(|line| drop(send.send(line)));
    });
    eventually("wev's window", || local.windows().into_iter().next());
    // No window manager: it is at the left upper corner.
    eventually("the pointer in wev's window", || {
        pointer.move_to(150, 120);
        pointer.move_to(151, 121);
        std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(200)).ok())
            .any(|line| line.contains("] enter"))
            .then_some(())
    });
    // Xwayland has a detent at 10 pixels, and wl_fixed has 8 bits.
    pointer.scroll_finger(4.0);
    pointer.scroll_finger(3.5);
    let seen = scrolled(&lines);
    let sum: f64 = seen.iter().map(|(pixels, _)| pixels).sum();
    assert!((sum - 11.25).abs() < 0.1 && seen.len() == 2, "{seen:?}");
    assert!(seen.iter().all(|(_, detents)| *detents == 0), "{seen:?}");
    pointer.scroll_wheel(2);
    assert_eq!(scrolled(&lines), [(30.0, 2)]);
    pointer.scroll_wheel(-1);
    assert_eq!(scrolled(&lines), [(-15.0, -1)]);
}
