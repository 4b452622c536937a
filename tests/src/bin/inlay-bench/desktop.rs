//! What a user of a desktop waits for: a key's echo, a window, a window that is dragged larger.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use inlay::windows::api;
use inlay::windows::uploads::nanoseconds;
use rustix::time::ClockId;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    ConfigureWindowAux, ConnectionExt as _, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use super::local::{self, Client, Process, eventually, program};

/// Keys that are pressed, and the pause between them.
const KEYS: usize = 200;
const PAUSE: Duration = Duration::from_millis(30);
/// The X keycode of the letter A.
const KEY_A: u8 = 38;
/// Windows that are open at the end of each step.
const STEPS: [usize; 4] = [1, 10, 50, 200];
/// How long a window is resized, and the pause between two sizes.
const STORM: Duration = Duration::from_secs(4);
const STORM_PAUSE: Duration = Duration::from_millis(4);

/// An X server with a window manager.
pub struct Desktop {
    // Dropped in this order.
    x: RustConnection,
    _manager: Process,
    _server: Process,
    display: String,
}

impl Desktop {
    /// Its name, as `DISPLAY` has it.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }

    /// Starts both.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn start() -> Result<Self> {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]);
        let mut server =
            Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("Xvfb")?);
        let mut number = String::new();
        BufReader::new(server.0.stdout.take().context("no pipe")?).read_line(&mut number)?;
        let display = format!(":{}", number.trim());
        let mut command = Command::new("openbox");
        command.env("DISPLAY", &display).stderr(Stdio::null());
        let manager = Process(command.spawn().context("openbox")?);
        let (x, _) = RustConnection::connect(Some(&display))?;
        Ok(Self { x, _manager: manager, _server: server, display })
    }

    /// A window whose name begins so, once it is mapped, wherever it is in the tree.
    ///
    /// # Errors
    /// There is none in time.
    pub fn window(&self, title: &str) -> Result<u32> {
        eventually(title, || self.find(self.x.setup().roots.first()?.root, title))
    }

    fn find(&self, below: u32, title: &str) -> Option<u32> {
        for window in self.x.query_tree(below).ok()?.reply().ok()?.children {
            let name = self.x.get_property(false, window, 39_u32, 0_u32, 0, 64).ok()?.reply().ok()?;
            let mapped = self.x.get_window_attributes(window).ok()?.reply().ok()?.map_state;
            if name.value.starts_with(title.as_bytes()) && u8::from(mapped) == 2 {
                return Some(window);
            }
            if let Some(found) = self.find(window, title) {
                return Some(found);
            }
        }
        None
    }
}

/// From a key press of the host's display to the upload of what `foot` shows for it, in milliseconds: p50 and p99.
pub fn keys() -> Result<(f64, f64)> {
    let desktop = Desktop::start()?;
    let host = local::Host::on(local::Screen::X11(&desktop.display), &["foot", "--title=keys", "cat"])?;
    let window = desktop.window("keys")?;
    desktop.x.set_input_focus(InputFocus::POINTER_ROOT, window, x11rb::CURRENT_TIME)?;
    desktop.x.flush()?;
    std::thread::sleep(Duration::from_secs(1));
    let mut times = Vec::new();
    for key in 0..KEYS {
        let newest = || api::uploads(&host.api()).ok()?.last().map(|u| u.at_ns);
        let before = newest().unwrap_or(0);
        let start = nanoseconds(ClockId::Monotonic);
        for kind in [KEY_PRESS_EVENT, KEY_RELEASE_EVENT] {
            desktop.x.xtest_fake_input(kind, KEY_A, 0, x11rb::NONE, 0, 0, 0)?;
        }
        desktop.x.flush()?;
        std::thread::sleep(PAUSE);
        let first = eventually("the echo of a key", || {
            let all = api::uploads(&host.api()).ok()?;
            all.iter().map(|u| u.at_ns).find(|at| *at > before && *at > start)
        })?;
        // The first ones make fonts and textures.
        if key >= 20 {
            times.push((first - start) as f64 / 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
    Ok((at(50).context("no keys")?, at(99).context("no keys")?))
}

/// What windows cost: how many are open, milliseconds for each new one, KiB of private memory of agent and window process for each.
pub fn windows() -> Result<Vec<(usize, f64, f64)>> {
    let host = local::Host::start()?;
    let mut command = Command::new(program("inlay-pattern")?);
    host.client(command.arg("windows"));
    let mut client = Client::waiting(&mut command)?;
    client.ask("20 1")?;
    let mut rows = Vec::new();
    let (mut open, mut memory) = (0, host.private_kib()?);
    for step in STEPS {
        let start = Instant::now();
        client.ask(&format!("keep {}", step - open))?;
        let time = start.elapsed().as_secs_f64() * 1e3;
        std::thread::sleep(Duration::from_secs(1));
        let (new, now) = ((step - open) as f64, host.private_kib()?);
        rows.push((step, time / new, (now as f64 - memory as f64) / new));
        (open, memory) = (step, now);
    }
    Ok(rows)
}

/// Frames a second of an X11 client that draws for each new size, while its window is resized all the time: directly on the
/// display, and through Inlay.
pub fn storm() -> Result<(f64, f64)> {
    let desktop = Desktop::start()?;
    let pattern = program("inlay-pattern")?;
    let mut direct = Command::new(&pattern);
    direct.args(["storm", "direct"]).env("DISPLAY", &desktop.display);
    let direct = {
        let mut client = Client::waiting(&mut direct)?;
        resize(&desktop, &mut client, "direct")?
    };
    let host = local::Host::on(local::Screen::X11(&desktop.display), &["sleep", "86400"])?;
    let mut command = Command::new(&pattern);
    host.client(command.args(["storm", "inlay"]));
    let mut client = Client::waiting(&mut command)?;
    let through = resize(&desktop, &mut client, "inlay")?;
    Ok((direct, through))
}

fn resize(desktop: &Desktop, client: &mut Client, title: &str) -> Result<f64> {
    let window = desktop.window(title)?;
    let before: f64 = client.ask("count")?.parse()?;
    let (start, mut turn) = (Instant::now(), 0_u32);
    while start.elapsed() < STORM {
        turn += 1;
        let side = |base: u32, step: u32| base + (turn * step) % 400;
        let aux = ConfigureWindowAux::new().width(side(400, 7)).height(side(300, 5));
        desktop.x.configure_window(window, &aux)?;
        desktop.x.flush()?;
        std::thread::sleep(STORM_PAUSE);
    }
    let time = start.elapsed().as_secs_f64();
    let after: f64 = client.ask("count")?.parse()?;
    ensure!(after > before, "the client drew nothing");
    Ok((after - before) / time)
}

/// Private memory of a process in KiB.
pub fn private_kib(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps_rollup"))?;
    let of = |name: &str| -> Option<u64> {
        text.lines().find_map(|l| l.strip_prefix(name))?.trim().trim_end_matches(" kB").parse().ok()
    };
    let parts = [of("Private_Clean:"), of("Private_Dirty:")].into_iter().flatten();
    Ok(parts.sum())
}
