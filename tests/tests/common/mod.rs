//! Handles on real processes: local runs, pattern clients, X servers. Everything ends with its handle, by its id.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod agent;
pub mod compositor;
pub mod drags;
pub mod folders;
pub mod machine;
pub mod nested;
pub mod panel;
pub mod scripted;
pub mod sway;
pub mod xdnd;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use inlay::windows::api::{self, Picture, Selector, WindowInfo};
use inlay_protocol::geometry::{Point, Rect};
use rustix::process::Pid;

use scripted::Screen;

/// How long anything may take that happens soon; generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(60);

/// The same in the nested machine, where nothing is soon.
pub fn soon() -> Duration {
    if nested::inside() { SOON * 5 } else { SOON }
}

/// A program that this workspace builds.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: build the whole workspace first (cargo xtask test)",
        path.display()
    );
    path
}

/// Waits until a question has an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within(soon(), what, &mut ask)
}

/// Waits until a question has an answer, for at most a time.
pub fn within<T>(time: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {time:?}");
        // Asking costs as well, most of all where it is done by commands in the nested machine's guest.
        std::thread::sleep(Duration::from_millis(if nested::inside() { 500 } else { 20 }));
    }
}

/// All processes below one.
pub fn descendants(of: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(pid) = open.pop() {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?));
            open.extend(pids.clone());
            found.extend(pids);
        }
    }
    found
}

/// Whether a process has this in its command line.
pub fn says(pid: Pid, word: &str) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").contains(word)
}

/// Whether a process has ended.
pub fn is_gone(pid: Pid) -> bool {
    // A zombie that nobody has reaped yet is gone as well.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    status.is_empty() || status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// xorshift64: repeatable, and good enough for moments.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A child that is killed and reaped with its handle.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        // SAFETY: prctl is async-signal-safe and touches only the new process: it ends with this test's thread.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
                    .map_err(Into::into)
            })
        };
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.0.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(rustix::process::Signal::TERM);
            let end = Instant::now() + Duration::from_secs(10);
            while self.ended().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// `inlay run --local` in a runtime folder of its own.
#[derive(Debug)]
pub struct Local {
    pub process: Process,
    pub runtime: tempfile::TempDir,
}

impl Local {
    /// Starts it with an app; without a display unless one is given.
    pub fn start(app: &[&str], display: Option<&str>) -> Self {
        Self::start_on(app, display.map_or(Screen::None, Screen::X11))
    }

    /// Starts it with an app on a display or none.
    pub fn start_on(app: &[&str], screen: Screen<'_>) -> Self {
        Self::start_in(app, screen, &[])
    }

    /// The same, in an environment with these variables.
    pub fn start_in(app: &[&str], screen: Screen<'_>, variables: &[(&str, &str)]) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
        let mut command = Command::new(program("inlay"));
        command.args(["run", "--local"]);
        command.env("XDG_RUNTIME_DIR", runtime.path());
        screen.of(&mut command);
        command.envs(variables.iter().copied()).args(app).stdin(Stdio::null());
        let process = Process::spawn(&mut command);
        Self { process, runtime }
    }

    /// The folder of its sockets.
    pub fn folder(&self) -> PathBuf {
        let path = self.runtime.path().join(format!("inlay/local.{}", self.process.0.id()));
        eventually("the local run's folder", || path.is_dir().then_some(()));
        path
    }

    /// The socket that tools ask.
    pub fn api(&self) -> PathBuf {
        self.folder().join("windows.sock")
    }

    /// The agent's Wayland socket.
    pub fn wayland(&self) -> PathBuf {
        let folder = self.folder();
        eventually("the agent's Wayland socket", || {
            let entries = std::fs::read_dir(&folder).ok()?.flatten();
            let mut paths = entries.map(|e| e.path());
            let named = |p: &PathBuf| {
                let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name.starts_with("wayland-") || name.starts_with("inlay-")) && !name.ends_with(".lock")
            };
            // It is there a moment before anybody listens.
            paths.find(|p| named(p) && UnixStream::connect(p).is_ok())
        })
    }

    /// A client of the agent.
    pub fn client(&self, command: &mut Command) -> Process {
        command
            .env("WAYLAND_DISPLAY", self.wayland())
            .env("XDG_RUNTIME_DIR", self.folder())
            .env_remove("DISPLAY");
        Process::spawn(command)
    }

    /// The open windows.
    pub fn windows(&self) -> Vec<WindowInfo> {
        api::windows(&self.api()).unwrap_or_default()
    }

    /// Waits for a window with this title.
    pub fn window(&self, title: &str) -> WindowInfo {
        eventually(&format!("a window \"{title}\""), || self.windows().into_iter().find(|w| w.title == title))
    }

    /// What a window shows.
    pub fn picture(&self, title: &str) -> Picture {
        api::picture(&self.api(), Selector::Text(title.to_owned())).unwrap()
    }

    /// Waits until a window shows exactly these pixels.
    pub fn shows(&self, title: &str, bytes: &[u8]) {
        shows(&self.api(), title, bytes);
    }
}

/// Waits until a window shows exactly these pixels.
pub fn shows(api: &Path, title: &str, bytes: &[u8]) {
    let end = Instant::now() + soon();
    loop {
        let picture = api::picture(api, Selector::Text(title.to_owned())).unwrap();
        if picture.bytes == bytes {
            return;
        }
        if Instant::now() > end {
            assert_eq!(picture.bytes.len(), bytes.len(), "size {:?}", picture.size);
            let wrong: Vec<usize> = (0..bytes.len() / 4)
                .filter(|i| picture.bytes[4 * i..4 * i + 4] != bytes[4 * i..4 * i + 4])
                .collect();
            let (width, first) = (picture.size.width as usize, wrong[0]);
            panic!(
                "{} pixels differ, first at ({}, {}): {:?} is not {:?}",
                wrong.len(),
                first % width,
                first / width,
                &picture.bytes[4 * first..4 * first + 4],
                &bytes[4 * first..4 * first + 4]
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The pattern client, told step by step.
#[derive(Debug)]
pub struct Steps {
    pub process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Steps {
    /// Takes a started client with piped input and output; its first picture is shown when this returns.
    pub fn new(mut process: Process) -> Self {
        let input = process.0.stdin.take().unwrap();
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let mut steps = Self { process, input, output };
        steps.done();
        steps
    }

    pub fn command() -> Command {
        let mut command = Command::new(program("inlay-pattern"));
        command.arg("steps").stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn done(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "the client's answer");
    }

    /// Makes it do a step and waits until its frame callback came.
    pub fn step(&mut self, name: &str) {
        writeln!(self.input, "{name}").unwrap();
        self.done();
    }

    /// Ends it.
    pub fn close(mut self) {
        writeln!(self.input, "close").unwrap();
        eventually("the client's end", || self.process.ended());
    }
}

/// An X server with a window manager.
#[derive(Debug)]
pub struct Xvfb {
    // Dropped in this order.
    manager: Process,
    server: Process,
    pub display: String,
}

impl Xvfb {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments for the server.
    pub fn start_with(arguments: &[&str]) -> Self {
        // Another server may take the same number at the same moment: then this one ends, and the next try has another.
        (0..5).find_map(|_| Self::try_start(arguments)).expect("an X server with a window manager")
    }

    fn try_start(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Process::spawn(&mut command);
        let mut number = String::new();
        BufReader::new(server.0.stdout.take()?).read_line(&mut number).ok()?;
        let display = format!(":{}", number.trim().parse::<u32>().ok()?);
        let mut command = Command::new("openbox");
        command.env("DISPLAY", &display).env_remove("XDG_CONFIG_HOME").stderr(Stdio::null());
        let manager = Process::spawn(&mut command);
        let mut xvfb = Self { manager, server, display };
        let end = Instant::now() + soon();
        while Instant::now() < end && xvfb.manager.ended().is_none() && xvfb.server.ended().is_none() {
            if xvfb.tool("xprop", &["-root", "_NET_SUPPORTING_WM_CHECK"]).contains("window id") {
                // The first key of a tool is another keyboard's: the manager takes its keys anew then, and misses those that
                // are pressed meanwhile.
                xvfb.xdotool(&["key", "shift"]);
                return Some(xvfb);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }

    /// Runs a tool on this display and gives what it printed.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let out = Command::new(name).args(arguments).env("DISPLAY", &self.display).output();
        String::from_utf8_lossy(&out.unwrap_or_else(|e| panic!("{name}: {e}")).stdout).into_owned()
    }

    pub fn xdotool(&self, arguments: &[&str]) -> String {
        self.tool("xdotool", arguments)
    }

    /// The pattern of a title, behind which a machine's name may stand.
    fn named(title: &str) -> String {
        format!("^{title}( [(].*[)])?$")
    }

    /// A window's area on the root window, without its frame.
    pub fn area(&self, window: &str) -> Rect {
        let text = self.tool("xwininfo", &["-id", window]);
        let field = |name: &str| {
            let line =
                text.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            line.trim().parse::<i32>().unwrap()
        };
        let side = |name| field(name).unsigned_abs();
        let (x, y) = (field("Absolute upper-left X:"), field("Absolute upper-left Y:"));
        Rect::new(x, y, side("Width:"), side("Height:"))
    }

    /// What is on the screen.
    pub fn screen(&self) -> image::RgbImage {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.png");
        self.tool("import", &["-window", "root", path.to_str().unwrap()]);
        image::open(&path).unwrap().to_rgb8()
    }

    /// Whether the screen has this colour (blue, green, red, alpha) at a place.
    pub fn shows(&self, at: (i32, i32), colour: [u8; 4]) -> bool {
        let image = self.screen();
        let pixel = image.get_pixel(at.0.unsigned_abs(), at.1.unsigned_abs()).0;
        pixel == [colour[2], colour[1], colour[0]]
    }

    /// The X window with this title, once it is there and mapped.
    pub fn find(&self, title: &str) -> String {
        let name = Self::named(title);
        within(soon() * 5, &format!("an X window \"{title}\""), || {
            let out = self.xdotool(&["search", "--onlyvisible", "--name", &name]);
            out.lines().last().map(str::to_owned)
        })
    }

    /// Whether no X window has this title.
    pub fn is_gone(&self, title: &str) -> bool {
        let name = Self::named(title);
        self.xdotool(&["search", "--onlyvisible", "--name", &name]).trim().is_empty()
    }

    /// Where the content of a window begins on the screen.
    pub fn corner(&self, window: &str) -> Option<Point> {
        let text = self.tool("xwininfo", &["-id", window]);
        let number = |name: &str| -> Option<i32> {
            text.lines().find_map(|line| line.trim().strip_prefix(name))?.trim().parse().ok()
        };
        Some(Point::new(number("Absolute upper-left X:")?, number("Absolute upper-left Y:")?))
    }

    /// What the window manager draws to the left of a window and above it.
    pub fn frame(&self, window: &str) -> Point {
        eventually("the frame of a window", || {
            let extents = self.tool("xprop", &["-id", window, "_NET_FRAME_EXTENTS"]);
            let sides = extents.split(&['=', ',']).filter_map(|word| word.trim().parse().ok());
            let [left, _, top, _] = sides.collect::<Vec<i32>>()[..] else { return None };
            Some(Point::new(left, top))
        })
    }

    /// Gives a window the focus by a click into it.
    pub fn click(&self, window: &str) {
        self.xdotool(&["mousemove", "--window", window, "50", "50", "click", "1"]);
        eventually("the focus", || {
            let focused = self.xdotool(&["getwindowfocus"]);
            (focused.trim() == window).then_some(())
        });
    }

    /// Types text with pauses that a slow guest can follow.
    pub fn type_text(&self, text: &str) {
        self.xdotool(&["type", "--delay", "60", text]);
    }
}
