//! What is dragged from apps of the host onto windows of the guest, with real pointer input and foreign apps; what is permitted is looked
//! at where it would cross, with the test in the place of the agent.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::drags::{self, ONCE, Scene, drag, entry, source};
use common::scripted::Screen;
use common::{Local, Process, Xvfb, eventually};
use inlay::permissions::{Permissions, Verdict};
use inlay_exchange::kinds::TEXT;
use inlay_protocol::display::{Event, Request};
use inlay_protocol::selection::{Actions, Drag, Selection};

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
    let sway = drags::floating_sway();
    let (mut pointer, mut keyboard) = (sway.pointer(), sway.keyboard());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let script = format!("GDK_BACKEND=wayland zenity --entry --title target --text text > {}", out.display());
    let _local = Local::start_on(&["sh", "-c", &script], Screen::Wayland(&sway.socket()));
    let mut command = Command::new("zenity");
    command.env("WAYLAND_DISPLAY", sway.socket()).env("GDK_BACKEND", "wayland").env_remove("DISPLAY");
    command.env("XDG_RUNTIME_DIR", folder.path());
    let _app = entry(&mut command, "source", Some("dragged words"), Stdio::null());
    let (from, to) = drags::side_by_side(&sway, "source", "target");
    // sway draws the frame of the one, the other draws its own.
    drags::drag_on(&mut pointer, (from.0 + 50, from.1 + 54), (to.0 + 90, to.1 + 91));
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
struct Over {
    scene: Scene,
    from: (i32, i32),
    _app: Process,
}

impl Over {
    fn new(permissions: &Permissions) -> Self {
        let scene = Scene::new(permissions);
        let (app, from) = source(&scene.xvfb);
        Self { scene, from, _app: app }
    }

    fn drag(&mut self) {
        let to = self.scene.at(100, 80);
        drag(&self.scene.xvfb, self.from, to);
        self.scene.agent.listen(Duration::from_millis(300));
    }

    fn drags(&self) -> Vec<&Drag> {
        let drags = self.scene.agent.events.iter().filter_map(|e| match e {
            Event::Drag(drag) => Some(drag),
            _ => None,
        });
        drags.collect()
    }

    /// The app of the test takes it as text.
    fn accept(&mut self) -> u64 {
        let (serial, types) = self.scene.agent.until("the drag", |e| match e {
            Event::Drag(Drag::Enter { serial, types, x, y, .. }) => {
                assert!((0.0..=300.0).contains(x) && (0.0..=200.0).contains(y), "{x}, {y}");
                Some((*serial, types.clone()))
            }
            _ => None,
        });
        assert!(types.iter().any(|t| t == TEXT), "{types:?}");
        self.scene.agent.send(&Request::DragAnswer {
            serial,
            kind: Some(TEXT.to_owned()),
            action: Actions::COPY,
        });
        self.scene.agent.listen(Duration::from_millis(500));
        serial
    }

    fn dropped(&mut self) {
        self.scene.agent.until("the drop", |e| (*e == Event::Drag(Drag::Drop)).then_some(()));
    }

    fn fetch(&mut self, serial: u64) -> Option<Vec<u8>> {
        let kind = TEXT.to_owned();
        self.scene.agent.send(&Request::Fetch { transfer: serial, selection: Selection::Drag, serial, kind });
        let stream = self.scene.agent.until("an answer", |e| match e {
            Event::Stream { transfer, stream } if *transfer == serial => Some(*stream),
            _ => None,
        });
        stream.map(|stream| self.scene.agent.read(stream))
    }
}

#[test]
fn a_drop_is_fetched_and_ended_or_given_up_and_where_the_app_wants_nothing_nothing_is_dropped() {
    let mut over = Over::new(&Permissions::integrated());
    over.drag();
    let serial = over.accept();
    // The pointer has no part in it.
    over.scene.release();
    over.dropped();
    assert_eq!(over.fetch(serial).as_deref(), Some(&b"dragged words"[..]));
    over.scene.agent.send(&Request::DragEnd { serial, action: Actions::COPY });
    over.scene.agent.listen(Duration::from_millis(300));
    assert_eq!(over.fetch(serial + 7), None, "there is no such drag");
    // One whose app never says that it is done is given up.
    over.scene.agent.events.clear();
    over.drag();
    let serial = over.accept();
    over.scene.release();
    over.dropped();
    assert_eq!(over.fetch(serial).as_deref(), Some(&b"dragged words"[..]));
    over.scene.agent.listen(Duration::from_secs(63));
    over.scene.agent.events.clear();
    assert_eq!(over.fetch(serial), None, "after a minute");
    // Not wanted: it leaves, or is dropped without effect.
    over.scene.agent.events.clear();
    over.drag();
    over.scene.release();
    assert!(matches!(over.drags()[0], Drag::Enter { .. }));
    assert!(!over.drags().contains(&&Drag::Drop), "{:?}", over.drags());
}

#[test]
fn nothing_is_dropped_at_never_and_nothing_before_the_answer_at_ask() {
    let mut over = Over::new(&Permissions::all(Verdict::Never));
    over.drag();
    over.scene.release();
    assert!(over.drags().is_empty(), "{:?}", over.drags());
    drop(over);

    let mut over = Over::new(&Permissions::isolated());
    over.drag();
    let serial = over.accept();
    assert_eq!(over.fetch(serial), None, "not before it is dropped");
    over.scene.agent.events.clear();
    over.scene.release();
    over.scene.xvfb.find("Inlay");
    assert!(!over.drags().contains(&&Drag::Drop));
    assert_eq!(over.fetch(serial), None, "not before the answer");
    over.scene.agent.events.clear();
    over.scene.answer(ONCE);
    over.dropped();
    assert_eq!(over.fetch(serial).as_deref(), Some(&b"dragged words"[..]));
}
