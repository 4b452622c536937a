//! What tests of drags share: apps with a text to drag and a place to drop it, and hands that do so.

use std::process::{Command, Stdio};
use std::time::Duration;

use inlay::permissions::Permissions;
use inlay_protocol::geometry::Size;

use super::scripted::{Agent, Screen};
use super::sway::{Pointer, Sway};
use super::{Process, Xvfb};

/// An app that drags files of a folder, or puts what is dropped into it (see there).
pub const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/drag.py");
/// How far the button that allows something once is from the right edge of a question.
pub const ONCE: i32 = 190;

/// An entry whose text is marked, and where in its window that is.
pub fn entry(command: &mut Command, title: &str, text: Option<&str>, out: Stdio) -> Process {
    command.args(["--entry", "--title", title, "--text", "text"]);
    command.args(text.map(|text| format!("--entry-text={text}")));
    Process::spawn(command.stdout(out).stderr(Stdio::null()))
}

/// A source of the host, with its marked text at this place of the screen.
pub fn source(xvfb: &Xvfb) -> (Process, (i32, i32)) {
    let mut command = Command::new("zenity");
    command.env("DISPLAY", &xvfb.display).env("GDK_BACKEND", "x11").env_remove("WAYLAND_DISPLAY");
    let app = entry(&mut command, "source", Some("dragged words"), Stdio::null());
    let window = xvfb.find("source");
    (app, mark(xvfb, &window, 52))
}

/// Puts a window with an entry at the left, and marks its text, which lies so far below its edge; the place of the text.
pub fn mark(xvfb: &Xvfb, window: &str, down: i32) -> (i32, i32) {
    xvfb.xdotool(&["windowmove", window, "50", "50"]);
    xvfb.xdotool(&["windowfocus", "--sync", window, "key", "ctrl+a"]);
    std::thread::sleep(Duration::from_millis(500));
    let area = xvfb.area(window);
    (area.x + 50, area.y + down)
}

/// Moves the pointer with the button held, as a hand does.
pub fn drag(xvfb: &Xvfb, from: (i32, i32), to: (i32, i32)) {
    let at = |x: i32, y: i32| drop(xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string()]));
    at(from.0, from.1);
    xvfb.xdotool(&["mousedown", "1"]);
    for step in 1..=20 {
        at(from.0 + (to.0 - from.0) * step / 20, from.1 + (to.1 - from.1) * step / 20);
        std::thread::sleep(Duration::from_millis(30));
    }
    // The app hears of it, and its answer comes back.
    for _ in 0..5 {
        at(to.0 + 1, to.1);
        std::thread::sleep(Duration::from_millis(100));
        at(to.0, to.1);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The same on sway.
pub fn drag_on(pointer: &mut Pointer, from: (i32, i32), to: (i32, i32)) {
    let place = |v: i32| u32::try_from(v).unwrap();
    pointer.move_to(place(from.0), place(from.1));
    pointer.button(true);
    for step in 1..=30 {
        pointer.move_to(
            place(from.0 + (to.0 - from.0) * step / 30),
            place(from.1 + (to.1 - from.1) * step / 30),
        );
        std::thread::sleep(Duration::from_millis(30));
    }
    std::thread::sleep(Duration::from_secs(1));
}

/// sway with windows of the size that their apps choose.
pub fn floating_sway() -> Sway {
    Sway::start_with(&[(super::sway::SIZE, 1, 0)], "for_window [app_id=\".*\"] floating enable")
}

/// Puts two windows of sway side by side; where their contents begin.
pub fn side_by_side(sway: &Sway, source: &str, target: &str) -> ((i32, i32), (i32, i32)) {
    for title in [source, target] {
        sway.window(title);
    }
    sway.msg(&[&format!("[title=\"{target}\"] move position 700 400")]);
    sway.msg(&[&format!("[title=\"{source}\"] move position 50 50, focus")]);
    std::thread::sleep(Duration::from_secs(1));
    let (from, to) = (sway.content(source), sway.content(target));
    ((from.x, from.y), (to.x, to.y))
}

/// A window of the test's, with the test in the place of the agent.
#[derive(Debug)]
pub struct Scene {
    pub agent: Agent,
    pub window: String,
    pub xvfb: Xvfb,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub fn new(permissions: &Permissions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("guest.toml");
        permissions.write(&file).unwrap();
        let xvfb = Xvfb::start();
        let screen = Screen::X11(&xvfb.display);
        let mut agent = Agent::start_with(screen, &["--permissions", file.to_str().unwrap()]);
        agent.window(1, "window", Size::new(300, 200));
        let window = xvfb.find("window");
        xvfb.xdotool(&["windowmove", &window, "600", "400"]);
        agent.listen(Duration::from_millis(300));
        Self { agent, window, xvfb, _folder: folder }
    }

    /// A place of the window on the screen.
    pub fn at(&self, x: i32, y: i32) -> (i32, i32) {
        let area = self.xvfb.area(&self.window);
        (area.x + x, area.y + y)
    }

    pub fn release(&mut self) {
        self.xvfb.xdotool(&["mouseup", "1"]);
        self.agent.listen(Duration::from_millis(500));
    }

    /// Answers the host's question by a click on its button, so far from the right edge.
    pub fn answer(&mut self, from_right: i32) {
        let question = self.xvfb.find("Inlay");
        // It takes no input before it can have been seen.
        self.agent.listen(Duration::from_millis(700));
        let area = self.xvfb.area(&question);
        let (x, y) = (
            area.x + area.size().width.cast_signed() - from_right,
            area.y + area.size().height.cast_signed() - 30,
        );
        self.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "click", "1"]);
    }
}
