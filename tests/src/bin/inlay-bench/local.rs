//! Inlay itself, in local mode without a display.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use inlay::windows::api;
use inlay::windows::uploads::Upload;

use super::{Case, Cost, clock, median};

/// A program beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: build the workspace", path.display());
    Ok(path)
}

/// Waits for something that comes soon.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("{what} did not come within a minute");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that ends with its handle.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed())
            && matches!(self.0.try_wait(), Ok(None))
        {
            // Local runs clean up after themselves at SIGTERM.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            for _ in 0..300 {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The client that is measured, at its `ready`.
#[derive(Debug)]
pub struct Client {
    /// Its process, or the one that carries it.
    pub process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it by a command that ends in the client's; it is ready to be measured.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut client = Self::waiting(command)?;
        let line = client.line()?;
        ensure!(line == "ready", "the client said {line:?}");
        Ok(client)
    }

    /// Starts one that waits for what it is asked.
    pub fn waiting(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { process: Process(child), input, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Writes a line to it and reads one.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input.as_mut().context("no pipe")?, "{line}")?;
        self.line()
    }

    /// Has it show its frames; gives the times of its commits.
    pub fn frames(&mut self) -> Result<Vec<u64>> {
        let line = self.ask("")?;
        line.split(' ').map(|t| Ok(t.parse()?)).collect()
    }
}

/// The arguments of the client for a case.
pub fn arguments(case: Case, frames: usize) -> [String; 4] {
    let size = |(w, h): (u32, u32)| format!("{w}x{h}");
    ["frames".to_owned(), size(case.size), size(case.damage), frames.to_string()]
}

/// Where windows are shown.
#[derive(Debug, Clone, Copy)]
pub enum Screen<'a> {
    /// An X display.
    X11(&'a str),
    /// A Wayland socket.
    Wayland(&'a Path),
    /// Nowhere.
    None,
}

/// A running local mode.
#[derive(Debug)]
pub struct Host {
    process: Process,
    _runtime: tempfile::TempDir,
    folder: PathBuf,
}

impl Host {
    /// Starts it without a display.
    pub fn start() -> Result<Self> {
        Self::on(Screen::None, &["sleep", "86400"])
    }

    /// Starts it with an app.
    pub fn on(screen: Screen<'_>, app: &[&str]) -> Result<Self> {
        let runtime = tempfile::Builder::new().prefix("inlay-bench-").tempdir_in("/tmp")?;
        let mut command = Command::new(program("inlay")?);
        command.args(["run", "--local"]).env("XDG_RUNTIME_DIR", runtime.path());
        command.env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY");
        match screen {
            Screen::X11(display) => command.env("DISPLAY", display),
            Screen::Wayland(socket) => command.env("WAYLAND_DISPLAY", socket),
            Screen::None => command.arg("--headless"),
        };
        let child = command.args(app).stdin(Stdio::null()).spawn()?;
        let folder = runtime.path().join(format!("inlay/local.{}", child.id()));
        let process = Process(child);
        let sockets = ["windows.sock", "inlay-0"].map(|name| folder.join(name));
        eventually("local mode", || sockets.iter().all(|s| s.exists()).then_some(()))?;
        Ok(Self { process, _runtime: runtime, folder })
    }

    /// The socket that tools ask.
    pub fn api(&self) -> PathBuf {
        self.folder.join("windows.sock")
    }

    /// Makes a command a client of the agent.
    pub fn client(&self, command: &mut Command) {
        command.env("WAYLAND_DISPLAY", self.folder.join("inlay-0")).env("XDG_RUNTIME_DIR", &self.folder);
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|e| e.file_name());
        const KEY: &str = "inlay-xauthority-";
        if let Some(key) = names.filter_map(|n| n.into_string().ok()).find(|n| n.starts_with(KEY)) {
            command
                .env("DISPLAY", format!(":{}", &key[KEY.len()..]))
                .env("XAUTHORITY", self.folder.join(key));
        }
    }

    /// Private memory of the agent and the window process, in KiB.
    pub fn private_kib(&self) -> Result<u64> {
        let ours = clock::family(self.process.0.id()).into_iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains("inlay-agent --control") || line.contains("inlay windows")
        });
        ours.map(super::desktop::private_kib).sum()
    }

    /// A film of so many frames of 1280x720, 60 a second, in a subsurface: the costs of a frame, and how many were uploaded.
    pub fn video(&self, runs: usize, frames: usize) -> Result<(Cost, f64)> {
        let case = Case { name: "film", size: (1280, 720), damage: (1280, 720) };
        let (mut costs, mut shown) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let mut command = Command::new(program("inlay-pattern")?);
            self.client(command.args(["video", &frames.to_string()]));
            let mut client = Client::start(&mut command)?;
            let before = api::counters(&self.api())?;
            let line = client.ask("")?;
            ensure!(line == "done", "the client said {line:?}");
            let after = api::counters(&self.api())?;
            let agents = before.agent.zip(after.agent).context("the agent gave no figures")?;
            let each = frames as f64;
            costs.push(Cost {
                copy: clock::memcpy(case),
                guest: (agents.1.cpu_micros - agents.0.cpu_micros) as f64 / 1e3 / each,
                host: (after.loop_cpu_ns - before.loop_cpu_ns) as f64 / 1e6 / each,
                ..Cost::default()
            });
            shown.push((after.uploaded_bytes - before.uploaded_bytes) as f64 / f64::from(4 * 1280 * 720));
            drop(client);
            let gone = || api::windows(Path::new(&self.api())).ok()?.is_empty().then_some(());
            eventually("the end of the window", gone)?;
        }
        let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        let cost =
            Cost { copy: of(|c| c.copy), guest: of(|c| c.guest), host: of(|c| c.host), ..Cost::default() };
        Ok((cost, median(shown)))
    }

    /// Several runs of one case.
    pub fn measure(&self, case: Case, runs: usize, frames: usize) -> Result<Cost> {
        let mut costs = Vec::new();
        for _ in 0..runs {
            let mut command = Command::new(program("inlay-pattern")?);
            command.args(arguments(case, frames));
            command.env("WAYLAND_DISPLAY", self.folder.join("inlay-0")).env("XDG_RUNTIME_DIR", &self.folder);
            let mut client = Client::start(&mut command)?;
            let before = api::counters(&self.api())?;
            let commits = client.frames()?;
            let after = api::counters(&self.api())?;
            let agents = before.agent.zip(after.agent).context("the agent gave no figures")?;
            let (width, height) = case.damage;
            let bytes = 4 * u64::from(width) * u64::from(height) * frames as u64;
            let uploaded = after.uploaded_bytes - before.uploaded_bytes;
            ensure!(uploaded == bytes, "{uploaded} bytes were uploaded, not {bytes}");
            let sent = agents.1.commits - agents.0.commits;
            ensure!(sent == frames as u64, "{frames} commits of the client became {sent} of the agent");
            let each = frames as f64;
            let (p50, p99) = latencies(&commits, &api::uploads(&self.api())?)?;
            costs.push(Cost {
                // Just beside the run: how fast memory is changes with what else the machine does.
                copy: clock::memcpy(case),
                guest: (agents.1.cpu_micros - agents.0.cpu_micros) as f64 / 1e3 / each,
                host: (after.loop_cpu_ns - before.loop_cpu_ns) as f64 / 1e6 / each,
                p50,
                p99,
            });
            drop(client);
            let gone = || api::windows(Path::new(&self.api())).ok()?.is_empty().then_some(());
            eventually("the end of the window", gone)?;
        }
        let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
        Ok(Cost {
            copy: of(|c| c.copy),
            guest: of(|c| c.guest),
            host: of(|c| c.host),
            p50: of(|c| c.p50),
            p99: of(|c| c.p99),
        })
    }
}

/// Median and 99th percentile of the time from the client's commit to the filled upload buffer, in milliseconds.
fn latencies(commits: &[u64], uploads: &[Upload]) -> Result<(f64, f64)> {
    let surface = uploads.last().context("nothing was uploaded")?.surface;
    let mine: Vec<&Upload> = uploads.iter().filter(|u| u.surface == surface).collect();
    ensure!(mine.len() >= commits.len(), "{} commits became {} uploads", commits.len(), mine.len());
    let tail = &mine[mine.len() - commits.len()..];
    let in_turn = tail.windows(2).all(|pair| pair[1].number == pair[0].number + 1);
    ensure!(in_turn, "commits are missing among the uploads");
    let mut times = Vec::new();
    for (commit, upload) in commits.iter().zip(tail) {
        ensure!(upload.at_ns >= *commit, "an upload before its commit: the counts do not match");
        times.push((upload.at_ns - commit) as f64 / 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
