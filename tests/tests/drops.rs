//! What is dragged from apps of the host onto windows of the guest, with real pointer input and foreign apps; what is permitted is looked
//! at where it would cross, with the test in the place of the agent.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::scripted::{Agent, Screen};
use common::sway::Sway;
use common::{Local, Process, Xvfb, eventually};
use inlay::permissions::{Permissions, Verdict};
use inlay_exchange::kinds::TEXT;
use inlay_protocol::display::{Event, Request};
use inlay_protocol::geometry::Size;
use inlay_protocol::selection::{Actions, Drag, Selection};

/// An entry whose text is marked, and where in its window that is.
fn entry(command: &mut Command, title: &str, text: Option<&str>, out: Stdio) -> Process {
    command.args(["--entry", "--title", title, "--text", "text"]);
    command.args(text.map(|text| format!("--entry-text={text}")));
    Process::spawn(command.stdout(out).stderr(Stdio::null()))
}

/// A source of the host, with its marked text at this place of the screen.
fn source(xvfb: &Xvfb) -> (Process, (i32, i32)) {
    let mut command = Command::new("zenity");
    command.env("DISPLAY", &xvfb.display).env("GDK_BACKEND", "x11").env_remove("WAYLAND_DISPLAY");
    let app = entry(&mut command, "source", Some("dragged words"), Stdio::null());
    let window = xvfb.find("source");
    xvfb.xdotool(&["windowmove", &window, "50", "50"]);
    xvfb.xdotool(&["windowfocus", "--sync", &window, "key", "ctrl+a"]);
    std::thread::sleep(Duration::from_millis(500));
    let area = xvfb.area(&window);
    (app, (area.x + 50, area.y + 52))
}

/// Moves the pointer with the button held, as a hand does.
fn drag(xvfb: &Xvfb, from: (i32, i32), to: (i32, i32)) {
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

#[test]
fn text_is_dropped_on_windows_of_the_guest_on_x11() {
    let xvfb = Xvfb::start();
    let folder = tempfile::tempdir().unwrap();
    // Where the entry is: below a title that the app draws itself, or the host does.
    for (backend, down) in [("wayland", 91), ("x11", 52)] {
        let out = folder.path().join(backend);
        let script =
            format!("GDK_BACKEND={backend} zenity --entry --title target --text text > {}", out.display());
        let _local = Local::start(&["sh", "-c", &script], Some(&xvfb.display));
        let target = xvfb.find("target");
        xvfb.xdotool(&["windowmove", &target, "600", "400"]);
        let (_app, from) = source(&xvfb);
        let area = xvfb.area(&target);
        // Escape takes it back.
        drag(&xvfb, from, (area.x + 90, area.y + down));
        xvfb.xdotool(&["key", "Escape"]);
        std::thread::sleep(Duration::from_millis(300));
        xvfb.xdotool(&["mouseup", "1"]);
        std::thread::sleep(Duration::from_millis(500));
        drag(&xvfb, from, (area.x + 90, area.y + down));
        xvfb.xdotool(&["mouseup", "1"]);
        std::thread::sleep(Duration::from_secs(1));
        xvfb.xdotool(&["windowfocus", "--sync", &target]);
        let text = eventually("what was dropped", || {
            // An X11 app's window gets the keyboard a moment later.
            std::thread::sleep(Duration::from_millis(300));
            xvfb.xdotool(&["key", "Return"]);
            std::fs::read_to_string(&out).ok().filter(|t| !t.is_empty())
        });
        assert_eq!(text, "dragged words\n", "once, on an app of {backend}");
    }
}

#[test]
fn text_is_dropped_on_a_window_of_the_guest_on_wayland() {
    let sway = Sway::start();
    let (mut pointer, mut keyboard) = (sway.pointer(), sway.keyboard());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let script = format!("GDK_BACKEND=wayland zenity --entry --title target --text text > {}", out.display());
    let _local = Local::start_on(&["sh", "-c", &script], Screen::Wayland(&sway.socket()));
    sway.window("target");
    let mut command = Command::new("zenity");
    command.env("WAYLAND_DISPLAY", sway.socket()).env("GDK_BACKEND", "wayland").env_remove("DISPLAY");
    command.env("XDG_RUNTIME_DIR", folder.path());
    let _app = entry(&mut command, "source", Some("dragged words"), Stdio::null());
    sway.window("source");
    sway.msg(&["[title=\"target\"] floating enable, move position 700 400"]);
    sway.msg(&["[title=\"source\"] floating enable, move position 50 50, focus"]);
    std::thread::sleep(Duration::from_secs(1));
    let (from, to) = (sway.content("source"), sway.content("target"));
    let place = |v: i32| u32::try_from(v).unwrap();
    // sway draws the frame of the one, the other draws its own.
    let (from, to) = ((from.x + 50, from.y + 54), (to.x + 90, to.y + 91));
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
    pointer.button(false);
    std::thread::sleep(Duration::from_secs(1));
    sway.msg(&["[title=\"target\"] focus"]);
    eventually("the focus", || sway.window("target")["focused"].as_bool()?.then_some(()));
    keyboard.type_text("\n");
    let text =
        eventually("what was dropped", || std::fs::read_to_string(&out).ok().filter(|t| !t.is_empty()));
    assert_eq!(text, "dragged words\n");
}

/// A drag over a window of the test's.
struct Scene {
    xvfb: Xvfb,
    agent: Agent,
    window: String,
    from: (i32, i32),
    _app: Process,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(permissions: &Permissions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("guest.toml");
        permissions.write(&file).unwrap();
        let xvfb = Xvfb::start();
        let screen = Screen::X11(&xvfb.display);
        let mut agent = Agent::start_with(screen, &["--permissions", file.to_str().unwrap()]);
        agent.window(1, "window", Size::new(300, 200));
        let window = xvfb.find("window");
        xvfb.xdotool(&["windowmove", &window, "600", "400"]);
        let (app, from) = source(&xvfb);
        agent.listen(Duration::from_millis(300));
        Self { xvfb, agent, window, from, _app: app, _folder: folder }
    }

    fn drag(&mut self) {
        let area = self.xvfb.area(&self.window);
        drag(&self.xvfb, self.from, (area.x + 100, area.y + 80));
        self.agent.listen(Duration::from_millis(300));
    }

    fn release(&mut self) {
        self.xvfb.xdotool(&["mouseup", "1"]);
        self.agent.listen(Duration::from_millis(500));
    }

    fn drags(&self) -> Vec<&Drag> {
        let drags = self.agent.events.iter().filter_map(|e| match e {
            Event::Drag(drag) => Some(drag),
            _ => None,
        });
        drags.collect()
    }

    /// The app of the test takes it as text.
    fn accept(&mut self) -> u64 {
        let (serial, types) = self.agent.until("the drag", |e| match e {
            Event::Drag(Drag::Enter { serial, types, x, y, .. }) => {
                assert!((0.0..=300.0).contains(x) && (0.0..=200.0).contains(y), "{x}, {y}");
                Some((*serial, types.clone()))
            }
            _ => None,
        });
        assert!(types.iter().any(|t| t == TEXT), "{types:?}");
        self.agent.send(&Request::DragAnswer { serial, kind: Some(TEXT.to_owned()), action: Actions::COPY });
        self.agent.listen(Duration::from_millis(500));
        serial
    }

    fn dropped(&mut self) {
        self.agent.until("the drop", |e| (*e == Event::Drag(Drag::Drop)).then_some(()));
    }

    fn fetch(&mut self, serial: u64) -> Option<Vec<u8>> {
        let kind = TEXT.to_owned();
        self.agent.send(&Request::Fetch { transfer: serial, selection: Selection::Drag, serial, kind });
        let stream = self.agent.until("an answer", |e| match e {
            Event::Stream { transfer, stream } if *transfer == serial => Some(*stream),
            _ => None,
        });
        stream.map(|stream| self.agent.read(stream))
    }
}

#[test]
fn a_drop_is_fetched_and_ended_and_where_the_app_wants_nothing_nothing_is_dropped() {
    let mut scene = Scene::new(&Permissions::integrated());
    scene.drag();
    let serial = scene.accept();
    // The pointer has no part in it.
    scene.release();
    scene.dropped();
    assert_eq!(scene.fetch(serial).as_deref(), Some(&b"dragged words"[..]));
    scene.agent.send(&Request::DragEnd { serial, action: Actions::COPY });
    scene.agent.listen(Duration::from_millis(300));
    assert_eq!(scene.fetch(serial + 7), None, "there is no such drag");
    // Not wanted: it leaves, or is dropped without effect.
    scene.agent.events.clear();
    scene.drag();
    scene.release();
    assert!(matches!(scene.drags()[0], Drag::Enter { .. }));
    assert!(!scene.drags().contains(&&Drag::Drop), "{:?}", scene.drags());
}

#[test]
fn nothing_is_dropped_at_never_and_nothing_before_the_answer_at_ask() {
    let mut scene = Scene::new(&Permissions::all(Verdict::Never));
    scene.drag();
    scene.release();
    assert!(scene.drags().is_empty(), "{:?}", scene.drags());
    drop(scene);

    let mut scene = Scene::new(&Permissions::isolated());
    scene.drag();
    let serial = scene.accept();
    assert_eq!(scene.fetch(serial), None, "not before it is dropped");
    scene.agent.events.clear();
    scene.release();
    let question = scene.xvfb.find("Inlay");
    assert!(!scene.drags().contains(&&Drag::Drop));
    assert_eq!(scene.fetch(serial), None, "not before the answer");
    scene.agent.events.clear();
    scene.agent.listen(Duration::from_millis(700));
    let area = scene.xvfb.area(&question);
    let (x, y) =
        (area.x + area.size().width.cast_signed() - 190, area.y + area.size().height.cast_signed() - 30);
    scene.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "click", "1"]);
    scene.dropped();
    assert_eq!(scene.fetch(serial).as_deref(), Some(&b"dragged words"[..]));
}
