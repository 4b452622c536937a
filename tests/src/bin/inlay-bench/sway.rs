//! A Wayland desktop on which a window is dragged larger and smaller: frames of a new size that are shown, through Inlay and without.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::local::{self, Client, Process, eventually, program};

/// How long a window is resized, and the pause between two sizes: a pointer's rate.
const STORM: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(8);
const CONFIG: &str = "output * mode 1600x1000\ndefault_border none\nfor_window [title=.*] floating enable\n";

/// Headless sway.
struct Sway {
    // Dropped in this order.
    _process: Process,
    commands: UnixStream,
    runtime: tempfile::TempDir,
}

impl Sway {
    fn start() -> Result<Self> {
        let runtime = tempfile::Builder::new().prefix("inlay-bench-sway-").tempdir_in("/tmp")?;
        let config = runtime.path().join("config");
        std::fs::write(&config, CONFIG)?;
        let mut command = inlay_tests::sway::command(runtime.path(), &config, 1)?;
        let process = Process(command.spawn().context("sway")?);
        let commands = eventually("sway", || {
            let names = std::fs::read_dir(runtime.path()).ok()?.flatten();
            let socket =
                names.map(|e| e.path()).find(|path| path.extension().is_some_and(|e| e == "sock"))?;
            UnixStream::connect(socket).ok()
        })?;
        Ok(Self { _process: process, commands, runtime })
    }

    fn socket(&self) -> PathBuf {
        self.runtime.path().join("wayland-1")
    }

    /// Has it do something (sway-ipc(7), RUN_COMMAND); whether it could.
    fn run(&mut self, command: &str) -> Result<bool> {
        let mut message = b"i3-ipc".to_vec();
        message.extend(u32::try_from(command.len())?.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(command.as_bytes());
        self.commands.write_all(&message)?;
        let mut head = [0; 14];
        self.commands.read_exact(&mut head)?;
        let length = u32::from_ne_bytes([head[6], head[7], head[8], head[9]]);
        let mut answer = vec![0; usize::try_from(length)?];
        self.commands.read_exact(&mut answer)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        Ok(answer.as_array().is_some_and(|all| all.iter().all(|one| one["success"] == true)))
    }

    /// Frames of a new size a second that are shown of a client, while its window is resized all the time.
    fn frames(&mut self, client: &mut Client, title: &str) -> Result<f64> {
        let first = format!("[title=\"^{title}\"] resize set 400 300");
        eventually(title, || self.run(&first).ok().filter(|done| *done))?;
        std::thread::sleep(Duration::from_millis(500));
        let before: f64 = client.ask("count")?.parse()?;
        let (start, mut turn) = (Instant::now(), 0_u32);
        while start.elapsed() < STORM {
            turn += 1;
            let side = |base: u32, step: u32| base + (turn * step) % 400;
            let (width, height) = (side(400, 7), side(300, 5));
            ensure!(
                self.run(&format!("[title=\"^{title}\"] resize set {width} {height}"))?,
                "no window {title}"
            );
            std::thread::sleep(PAUSE);
        }
        let time = start.elapsed().as_secs_f64();
        let after: f64 = client.ask("count")?.parse()?;
        ensure!(after > before, "the client drew nothing");
        Ok((after - before) / time)
    }
}

/// Frames a second of a Wayland client whose window is dragged: directly on the desktop, and through Inlay.
pub fn drag() -> Result<(f64, f64)> {
    let mut sway = Sway::start()?;
    let pattern = program("inlay-pattern")?;
    let direct = {
        let mut command = Command::new(&pattern);
        command.args(["drag", "direct"]).env("WAYLAND_DISPLAY", sway.socket());
        let mut client = Client::waiting(&mut command)?;
        sway.frames(&mut client, "direct")?
    };
    let host = local::Host::on(local::Screen::Wayland(&sway.socket()), &["sleep", "86400"])?;
    let mut command = Command::new(&pattern);
    host.client(command.args(["drag", "inlay"]));
    let mut client = Client::waiting(&mut command)?;
    let through = sway.frames(&mut client, "inlay")?;
    Ok((direct, through))
}
