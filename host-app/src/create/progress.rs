//! What the user sees while a machine is made: a bar on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of making a machine, in their order.
pub(super) const STEPS: [&str; 7] = [
    "fetching packages",
    "unpacking packages",
    "installing packages",
    "setting up the guest",
    "making the base image",
    "unpacking the kernel",
    "making the machine's disks",
];

/// Is told how far the making of a machine is.
pub trait Progress: fmt::Debug {
    /// Step `number` of `of` begins.
    fn step(&self, number: usize, of: usize, what: &str);
    /// Something worth a line beside the steps.
    fn note(&self, text: &str);
    /// So much of the step is done.
    fn part(&self, _done: u64, _of: u64) {}
    /// It is over, well or not.
    fn end(&self) {}
}

/// Says nothing.
#[derive(Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _number: usize, _of: usize, _what: &str) {}
    fn note(&self, _text: &str) {}
}

/// A bar when standard error is a terminal, else one line a step.
#[must_use]
pub fn for_terminal() -> Box<dyn Progress> {
    if !std::io::stderr().is_terminal() {
        return Box::new(Lines);
    }
    let bar = ProgressBar::new(STEPS.len() as u64);
    let style = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(120));
    Box::new(Bar(bar))
}

#[derive(Debug)]
struct Bar(ProgressBar);

impl Progress for Bar {
    fn step(&self, number: usize, of: usize, what: &str) {
        self.0.set_length(of as u64);
        self.0.set_position(number.saturating_sub(1) as u64);
        self.0.set_message(what.to_owned());
    }

    fn note(&self, text: &str) {
        self.0.println(text);
    }

    fn part(&self, done: u64, of: u64) {
        // Of the bar, which has a place for each step.
        self.0.set_length(of);
        self.0.set_position(done);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[derive(Debug)]
struct Lines;

impl Progress for Lines {
    fn step(&self, number: usize, of: usize, what: &str) {
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr(), "step {number}/{of}: {what}");
    }

    fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
