//! What follows a click in the host's menu: the window that says so while the machine starts, and the app's own where it runs, beside the
//! same app started by hand in the guest.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use inlay::windows::api;

use super::desktop::Desktop;
use super::local::{eventually, program};
use super::machine::Machine;
use super::{median, say};

/// Clicks and starts by hand for each start of the machine.
const PAIRS: usize = 5;

struct Clicks {
    desktop: Desktop,
    machine: Machine,
    socket: PathBuf,
}

impl Clicks {
    fn inlay(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("inlay")?);
        command.args(words).env_remove("WAYLAND_DISPLAY").env("DISPLAY", self.desktop.display());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn click(&self) -> Result<Child> {
        Ok(self.inlay(&["run", self.machine.name(), "foot.desktop"])?.spawn()?)
    }

    fn open(&self) -> usize {
        api::windows(&self.socket).map_or(0, |windows| windows.len())
    }

    /// Seconds until there is a window more than before.
    fn until_open(&self, start: impl FnOnce() -> Result<()>) -> Result<f64> {
        let before = self.open();
        let began = Instant::now();
        start()?;
        eventually("a window of the guest", || (self.open() > before).then_some(()))?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Prints the figures.
///
/// # Errors
/// The machine does not do what it should.
pub fn report(runs: usize) -> Result<()> {
    let machine = Machine::new("clicks");
    machine.inlay(&["create", "--integrated"])?;
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").context("run by cargo xtask bench")?);
    let socket = runtime.join("inlay").join(machine.name()).join("windows.sock");
    let clicks = Clicks { desktop: Desktop::start()?, machine, socket };
    let (mut told, mut clicked, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let began = Instant::now();
        let mut click = clicks.click()?;
        clicks.desktop.window("Inlay")?;
        told.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(click.wait()?.success(), "the first click fails");
        eventually("the first window", || (clicks.open() > 0).then_some(()))?;
        let mut shell = clicks.inlay(&["exec", clicks.machine.name(), "--", "sh"])?;
        let mut shell = shell.stdin(Stdio::piped()).spawn()?;
        let mut line = shell.stdin.take().context("no pipe")?;
        for _ in 0..PAIRS {
            let by_click = clicks.until_open(|| {
                ensure!(clicks.click()?.wait()?.success(), "a click fails");
                Ok(())
            })?;
            let by_hand = clicks.until_open(|| Ok(line.write_all(b"foot &\n")?))?;
            clicked.push(by_click);
            ratios.push(by_click / by_hand);
        }
        drop(line);
        shell.wait()?;
        clicks.machine.inlay(&["stop"])?;
    }
    let (told, clicked, ratio) = (median(told), median(clicked), median(ratios));
    say(&format!("click on an app of a machine that is off, to the window that says so: {told:.0} ms"));
    say(&format!(
        "click on an app of a machine that runs, to its window: {clicked:.2} s, {ratio:.2}x of a start by hand in the guest"
    ));
    for (what, met) in [
        ("a window 200 ms after the click", told <= 200.0),
        ("a click at 1.3x of a start by hand", ratio <= 1.3),
    ] {
        say(&format!("aim {}: {what}", if met { "met" } else { "NOT met" }));
    }
    Ok(())
}
