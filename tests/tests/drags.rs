//! What is dragged out of windows of the guest: onto foreign apps of the host, other windows of the same guest, and those of another, with
//! real pointer input; what is permitted, and what a hostile agent gets, is looked at with the test in the place of the agent.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::drags::{self, ONCE, Scene, drag, drag_on, entry, mark};
use common::scripted::{GREEN, Screen};
use common::sway::Sway;
use common::xdnd::{Manners, Seen, Target, is_dragged};
use common::{Local, Process, Xvfb, eventually};
use inlay::permissions::{Permissions, Verdict};
use inlay_exchange::kinds::TEXT;
use inlay_protocol::connection::ConnectionError;
use inlay_protocol::display::{Event, Request, SurfaceId};
use inlay_protocol::geometry::{Point, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::{Actions, Drag, DragIcon, DragStart, Feedback, Selection};
use inlay_protocol::stream::Chunk;
use rustix::process::{Pid, Signal, kill_process};

/// Where the text of an entry is below the upper edge of its window: below a title that the app draws itself, or somebody else does.
const OWN_TITLE: i32 = 91;
const NO_TITLE: i32 = 52;

fn down(backend: &str) -> i32 {
    if backend == "wayland" { OWN_TITLE } else { NO_TITLE }
}

/// An app of the guest that has a text to drag.
fn source_script(backend: &str) -> String {
    format!("GDK_BACKEND={backend} zenity --entry --title source --text text --entry-text='dragged words'")
}

/// An app of the guest that is dropped upon, and writes what it got.
fn target_script(backend: &str, out: &Path) -> String {
    format!("GDK_BACKEND={backend} zenity --entry --title target --text text > {}", out.display())
}

/// Ends an entry by its Return key; what was in it.
fn read_entry(out: &Path, mut press: impl FnMut()) -> String {
    eventually("what was dropped", || {
        // An X11 app's window gets the keyboard a moment later.
        std::thread::sleep(Duration::from_millis(300));
        press();
        std::fs::read_to_string(out).ok().filter(|text| !text.is_empty())
    })
}

fn read_entry_on(xvfb: &Xvfb, out: &Path) -> String {
    std::thread::sleep(Duration::from_secs(1));
    let target = xvfb.find("target");
    xvfb.xdotool(&["windowfocus", "--sync", &target]);
    read_entry(out, || drop(xvfb.xdotool(&["key", "Return"])))
}

/// Drags the marked text of the source into the target, after an attempt that Escape took back.
fn drags_on_x11(xvfb: &Xvfb, (from_down, to_down): (i32, i32)) {
    let (source, target) = (xvfb.find("source"), xvfb.find("target"));
    xvfb.xdotool(&["windowmove", &target, "600", "400"]);
    let from = mark(xvfb, &source, from_down);
    let area = xvfb.area(&target);
    let to = (area.x + 90, area.y + to_down);
    let carried = |on| eventually("the drag", || (is_dragged(&xvfb.display) == on).then_some(()));
    drag(xvfb, from, to);
    carried(true);
    xvfb.xdotool(&["key", "Escape"]);
    carried(false);
    xvfb.xdotool(&["mouseup", "1"]);
    std::thread::sleep(Duration::from_millis(700));
    drag(xvfb, from, to);
    carried(true);
    // The app under it says that it takes it.
    std::thread::sleep(Duration::from_secs(1));
    xvfb.xdotool(&["mouseup", "1"]);
}

#[test]
fn text_is_dragged_out_of_the_guest_on_x11() {
    let xvfb = Xvfb::start();
    let folder = tempfile::tempdir().unwrap();
    for backend in ["wayland", "x11"] {
        let out = folder.path().join(backend);
        let script = source_script(backend);
        let _local = Local::start(&["sh", "-c", &script], Some(&xvfb.display));
        let mut command = Command::new("zenity");
        command.env("DISPLAY", &xvfb.display).env("GDK_BACKEND", "x11").env_remove("WAYLAND_DISPLAY");
        let _target = entry(&mut command, "target", None, std::fs::File::create(&out).unwrap().into());
        drags_on_x11(&xvfb, (down(backend), NO_TITLE));
        assert_eq!(read_entry_on(&xvfb, &out), "dragged words\n", "once, from an app of {backend}");
    }
}

#[test]
fn text_is_dragged_within_the_guest_on_x11() {
    let xvfb = Xvfb::start();
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("wayland", "wayland"), ("wayland", "x11"), ("x11", "wayland"), ("x11", "x11")] {
        let out = folder.path().join(format!("{from}-{to}"));
        let script = format!("{} & {}", source_script(from), target_script(to, &out));
        let _local = Local::start(&["sh", "-c", &script], Some(&xvfb.display));
        drags_on_x11(&xvfb, (down(from), down(to)));
        assert_eq!(read_entry_on(&xvfb, &out), "dragged words\n", "once, from {from} to {to}");
    }
}

#[test]
fn text_is_dragged_from_one_guest_into_another() {
    let xvfb = Xvfb::start();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (source, target) = (source_script("wayland"), target_script("wayland", &out));
    let _one = Local::start(&["sh", "-c", &source], Some(&xvfb.display));
    let _other = Local::start(&["sh", "-c", &target], Some(&xvfb.display));
    drags_on_x11(&xvfb, (OWN_TITLE, OWN_TITLE));
    assert_eq!(read_entry_on(&xvfb, &out), "dragged words\n");
}

/// Drags the marked text of the source into the target on sway; what the target got.
fn drags_on_sway(sway: &Sway, (from_down, to_down): (i32, i32), out: &Path) -> String {
    let (mut pointer, mut keyboard) = (sway.pointer(), sway.keyboard());
    let (from, to) = drags::side_by_side(sway, "source", "target");
    // The whole of the text is marked when an entry opens.
    drag_on(&mut pointer, (from.0 + 50, from.1 + from_down), (to.0 + 90, to.1 + to_down));
    pointer.button(false);
    std::thread::sleep(Duration::from_secs(1));
    sway.msg(&["[title=\"target\"] focus"]);
    eventually("the focus", || sway.window("target")["focused"].as_bool()?.then_some(()));
    read_entry(out, || keyboard.type_text("\n"))
}

#[test]
fn text_is_dragged_out_of_the_guest_on_wayland() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["wayland", "x11"] {
        let sway = drags::floating_sway();
        let out = folder.path().join(backend);
        let script = source_script(backend);
        let _local = Local::start_on(&["sh", "-c", &script], Screen::Wayland(&sway.socket()));
        let mut command = Command::new("zenity");
        command.env("WAYLAND_DISPLAY", sway.socket()).env("GDK_BACKEND", "wayland").env_remove("DISPLAY");
        command.env("XDG_RUNTIME_DIR", folder.path());
        let _target = entry(&mut command, "target", None, std::fs::File::create(&out).unwrap().into());
        let text = drags_on_sway(&sway, (down(backend), 54), &out);
        assert_eq!(text, "dragged words\n", "from an app of {backend}");
    }
}

#[test]
fn text_is_dragged_within_the_guest_on_wayland() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("wayland", "wayland"), ("wayland", "x11"), ("x11", "wayland"), ("x11", "x11")] {
        let sway = drags::floating_sway();
        let out = folder.path().join(format!("{from}-{to}"));
        let script = format!("{} & {}", source_script(from), target_script(to, &out));
        let _local = Local::start_on(&["sh", "-c", &script], Screen::Wayland(&sway.socket()));
        let text = drags_on_sway(&sway, (down(from), down(to)), &out);
        assert_eq!(text, "dragged words\n", "from {from} to {to}");
    }
}

#[test]
fn an_app_that_dies_while_it_drags_gives_the_pointer_back() {
    let xvfb = Xvfb::start();
    let folder = tempfile::tempdir().unwrap();
    for backend in ["wayland", "x11"] {
        let pid = folder.path().join(backend);
        let script = format!("{} & echo $! > {}; sleep 600", source_script(backend), pid.display());
        let _local = Local::start(&["sh", "-c", &script], Some(&xvfb.display));
        let manners = Manners { accepts: true, finishes: true };
        let target = Target::start(&xvfb.display, (700, 500), TEXT, manners);
        let source = xvfb.find("source");
        let from = mark(&xvfb, &source, down(backend));
        drag(&xvfb, from, (760, 560));
        assert!(matches!(target.seen()[..], [Seen::Enter(_)]), "{:?}", target.seen());
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        eventually("the end of the drag", || target.seen().contains(&Seen::Leave).then_some(()));
        xvfb.xdotool(&["mouseup", "1"]);
        assert!(!target.seen().contains(&Seen::Drop));
        // The pointer is everybody's again.
        let mut command = Command::new("xterm");
        command.args(["-T", "elsewhere", "-geometry", "40x5+100+100"]).env("DISPLAY", &xvfb.display);
        let _other = Process::spawn(command.stderr(Stdio::null()));
        xvfb.click(&xvfb.find("elsewhere"));
    }
}

/// A drag out of a window of the test's.
struct Out {
    scene: Scene,
    serial: u64,
}

impl Out {
    fn new(permissions: &Permissions) -> Self {
        Self { scene: Scene::new(permissions), serial: 0 }
    }

    /// Presses the button in the window, and drags this from there.
    fn start(&mut self, types: &[&str]) -> u64 {
        let (x, y) = self.scene.at(100, 80);
        self.scene.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "mousedown", "1"]);
        self.scene.agent.events.clear();
        self.scene.agent.until("the press", |e| {
            matches!(e, Event::Input(InputEvent::PointerButton { pressed: true, .. })).then_some(())
        });
        self.say(types)
    }

    fn say(&mut self, types: &[&str]) -> u64 {
        self.serial += 1;
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        let (serial, surface, actions) = (self.serial, SurfaceId(1), Actions::COPY);
        self.scene.agent.send(&Request::DragStart(DragStart { serial, surface, types, actions }));
        self.scene.agent.listen(Duration::from_millis(200));
        serial
    }

    fn move_to(&mut self, (x, y): (i32, i32)) {
        for step in 0..10 {
            self.scene.xvfb.xdotool(&["mousemove", &(x + step % 2).to_string(), &y.to_string()]);
            self.scene.agent.listen(Duration::from_millis(50));
        }
    }

    fn feedback(&self) -> Vec<Feedback> {
        let of = |event: &Event| match event {
            Event::DragFeedback { serial, feedback } if *serial == self.serial => Some(feedback.clone()),
            _ => None,
        };
        self.scene.agent.events.iter().filter_map(of).collect()
    }

    fn hears(&mut self, wanted: &Feedback) {
        let own = self.serial;
        self.scene.agent.until(&format!("{wanted:?}"), |e| match e {
            Event::DragFeedback { serial, feedback } => (*serial == own && feedback == wanted).then_some(()),
            _ => None,
        });
    }

    /// Sends what is fetched.
    fn serve(&mut self, bytes: &[u8]) {
        let own = self.serial;
        let stream = self.scene.agent.until("a fetch", |e| match e {
            Event::Fetch { stream, selection: Selection::Drag, serial, kind } if *serial == own => {
                assert_eq!(kind, TEXT);
                Some(*stream)
            }
            _ => None,
        });
        let mut connection = self.scene.agent.open(stream).unwrap();
        connection.queue(&Chunk::Data(bytes.to_vec())).unwrap();
        connection.queue(&Chunk::End).unwrap();
        connection.flush().unwrap();
        let end = connection.wait_message::<Chunk>(Some(common::SOON));
        assert!(matches!(end, Err(ConnectionError::Closed)), "{end:?}");
    }

    fn fetches(&self) -> usize {
        self.scene.agent.has(|e| matches!(e, Event::Fetch { .. }))
    }
}

const TAKES: Manners = Manners { accepts: true, finishes: true };
const PLACE: (i16, i16) = (100, 100);
const ON_TARGET: (i32, i32) = (180, 160);

#[test]
fn a_drag_out_is_told_fetched_and_finished_or_taken_back() {
    let mut out = Out::new(&Permissions::integrated());
    let target = Target::start(&out.scene.xvfb.display, PLACE, "text/html", TAKES);
    out.start(&["text/html", "image/png", "application/x-anything", "text/uri-list", TEXT]);
    // The host's own pointer is not the guest's while it carries something.
    out.scene
        .agent
        .until("the pointer's end", |e| (*e == Event::Input(InputEvent::PointerLeave)).then_some(()));
    out.move_to(ON_TARGET);
    let Seen::Enter(types) = target.seen()[0].clone() else { panic!("{:?}", target.seen()) };
    assert!(types.len() > 3 && types.iter().any(|name| name == "application/x-anything"), "{types:?}");
    out.hears(&Feedback::Target { kind: Some("text/html".to_owned()), action: Actions::COPY });
    assert!(!out.feedback().contains(&Feedback::Dropped));
    out.scene.release();
    out.hears(&Feedback::Dropped);
    let stream = out.scene.agent.until("a fetch", |e| match e {
        Event::Fetch { stream, kind, .. } if kind == "text/html" => Some(*stream),
        _ => None,
    });
    let mut connection = out.scene.agent.open(stream).unwrap();
    connection.queue(&Chunk::Data(b"<b>bold</b>".to_vec())).unwrap();
    connection.queue(&Chunk::End).unwrap();
    connection.flush().unwrap();
    out.hears(&Feedback::Finished { action: Actions::COPY });
    assert_eq!(target.seen()[1..], [Seen::Drop, Seen::Data(Some(b"<b>bold</b>".to_vec()))]);

    // Escape, and a drop where nobody takes it.
    out.start(&[TEXT]);
    out.move_to(ON_TARGET);
    out.scene.xvfb.xdotool(&["key", "Escape"]);
    out.hears(&Feedback::Cancelled);
    assert_eq!(target.seen().last(), Some(&Seen::Leave));
    out.scene.release();
    out.start(&[TEXT]);
    out.move_to((20, 20));
    out.scene.release();
    out.hears(&Feedback::Cancelled);
    // The app takes it back.
    let serial = out.start(&[TEXT]);
    out.move_to(ON_TARGET);
    out.scene.agent.send(&Request::DragCancel { serial });
    out.move_to(ON_TARGET);
    assert_eq!(target.seen().last(), Some(&Seen::Leave));
    out.scene.release();
    assert_eq!(target.seen().iter().filter(|seen| **seen == Seen::Drop).count(), 1);
    assert_eq!(out.fetches(), 0);
}

#[test]
fn an_agent_drags_only_what_the_user_holds() {
    let mut out = Out::new(&Permissions::integrated());
    let target = Target::start(&out.scene.xvfb.display, PLACE, TEXT, TAKES);
    // No button is down, or it went down elsewhere.
    out.say(&[TEXT]);
    out.hears(&Feedback::Cancelled);
    let (x, y) = ON_TARGET;
    out.scene.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "mousedown", "1"]);
    out.say(&[TEXT]);
    out.hears(&Feedback::Cancelled);
    out.scene.release();
    // A window that there is not; another drag while one is held.
    out.start(&[TEXT]);
    let first = out.serial;
    out.say(&["text/html"]);
    out.hears(&Feedback::Cancelled);
    let held = |e: &Event| matches!(e, Event::DragFeedback { serial, feedback: Feedback::Cancelled } if *serial == first);
    assert_eq!(out.scene.agent.has(held), 0);
    let (serial, surface) = (90, SurfaceId(77));
    let start = DragStart { serial, surface, types: vec![], actions: Actions::NONE };
    out.scene.agent.send(&Request::DragStart(start));
    // Whatever else it says, with the button the pointer is the user's again.
    for serial in 0..200 {
        let icon = Some(DragIcon { surface: SurfaceId(60 + serial), offset: Point::new(-5, 7) });
        out.scene.agent.send(&Request::DragIcon { serial: first, icon });
    }
    out.move_to(ON_TARGET);
    out.scene.agent.send(&Request::RoleGone { surface: SurfaceId(1) });
    out.scene.agent.listen(Duration::from_millis(300));
    out.scene.release();
    assert!(target.seen().contains(&Seen::Drop), "{:?}", target.seen());
    let mut command = Command::new("xterm");
    command.args(["-T", "elsewhere", "-geometry", "40x5+400+300"]).env("DISPLAY", &out.scene.xvfb.display);
    let _other = Process::spawn(command.stderr(Stdio::null()));
    out.scene.xvfb.click(&out.scene.xvfb.find("elsewhere"));
}

#[test]
fn nothing_is_dragged_out_at_never_and_nothing_before_the_answer_at_ask() {
    let mut out = Out::new(&Permissions::all(Verdict::Never));
    let target = Target::start(&out.scene.xvfb.display, PLACE, TEXT, TAKES);
    out.start(&[TEXT, "text/html"]);
    out.move_to(ON_TARGET);
    out.scene.release();
    out.scene.agent.listen(Duration::from_secs(1));
    let seen = target.seen();
    assert_eq!(seen[0], Seen::Enter(vec![]), "not even the name of a type");
    assert!(!seen.contains(&Seen::Data(Some(Vec::new()))), "{seen:?}");
    assert_eq!(out.fetches(), 0);
    drop((target, out));

    let mut out = Out::new(&Permissions::isolated());
    let target = Target::start(&out.scene.xvfb.display, PLACE, TEXT, TAKES);
    out.start(&[TEXT]);
    out.move_to(ON_TARGET);
    out.scene.release();
    out.hears(&Feedback::Dropped);
    out.scene.xvfb.find("Inlay");
    assert_eq!(target.seen()[1..], [Seen::Drop]);
    assert_eq!(out.fetches(), 0, "not before the answer");
    out.scene.answer(ONCE);
    out.serve(b"asked for");
    out.hears(&Feedback::Finished { action: Actions::COPY });
    assert_eq!(target.seen().last(), Some(&Seen::Data(Some(b"asked for".to_vec()))));

    // Over the machine's own windows nobody is asked, and nothing is fetched by the host.
    out.scene.agent.events.clear();
    let serial = out.start(&[TEXT]);
    let at = out.scene.at(150, 100);
    out.move_to(at);
    let own = out.scene.agent.until("its own drag", |e| match e {
        Event::Drag(Drag::Enter { serial: number, types, own: Some(own), .. }) if *own == serial => {
            assert!(types.is_empty());
            Some(*number)
        }
        _ => None,
    });
    let answer = Request::DragAnswer { serial: own, kind: Some(TEXT.to_owned()), action: Actions::COPY };
    out.scene.agent.send(&answer);
    out.move_to(at);
    out.scene.release();
    out.scene.agent.until("the drop", |e| (*e == Event::Drag(Drag::Drop)).then_some(()));
    let kind = TEXT.to_owned();
    out.scene.agent.send(&Request::Fetch { transfer: 5, selection: Selection::Drag, serial: own, kind });
    out.scene.agent.until("no stream", |e| (*e == Event::Stream { transfer: 5, stream: None }).then_some(()));
    out.scene.agent.send(&Request::DragEnd { serial: own, action: Actions::COPY });
    out.hears(&Feedback::Finished { action: Actions::COPY });
    assert_eq!(out.fetches(), 0);
    let questions = out.scene.xvfb.xdotool(&["search", "--onlyvisible", "--name", "^Inlay$"]);
    assert!(questions.trim().is_empty());
}

#[test]
fn a_drop_that_nobody_ends_is_given_up() {
    let mut out = Out::new(&Permissions::integrated());
    let target =
        Target::start(&out.scene.xvfb.display, PLACE, TEXT, Manners { accepts: true, finishes: false });
    out.start(&[TEXT]);
    out.move_to(ON_TARGET);
    out.scene.release();
    out.serve(b"never finished");
    eventually("the data", || {
        target.seen().contains(&Seen::Data(Some(b"never finished".to_vec()))).then_some(())
    });
    let begin = std::time::Instant::now();
    while !out.feedback().contains(&Feedback::Cancelled) {
        assert!(begin.elapsed() < Duration::from_secs(90), "it is waited for without end");
        out.scene.agent.listen(Duration::from_millis(500));
    }
    assert!(begin.elapsed() > Duration::from_secs(30), "{:?}: apps may take their time", begin.elapsed());
}

#[test]
fn what_is_dragged_has_its_image_at_the_pointer() {
    let mut out = Out::new(&Permissions::integrated());
    out.scene.agent.paint(9, Size::new(40, 30), GREEN);
    let serial = out.start(&[TEXT]);
    let icon = Some(DragIcon { surface: SurfaceId(9), offset: Point::new(8, -4) });
    out.scene.agent.send(&Request::DragIcon { serial, icon });
    let at = (300, 300);
    out.move_to(at);
    let corner = (at.0 + 1 + 8, at.1 - 4);
    let shows = |out: &Out, x, y| out.scene.xvfb.shows((corner.0 + x, corner.1 + y), GREEN);
    eventually("the image", || {
        out.scene.agent.listen(Duration::from_millis(50));
        shows(&out, 0, 0).then_some(())
    });
    assert!(shows(&out, 39, 29) && !shows(&out, -1, 0) && !shows(&out, 0, -1) && !shows(&out, 40, 29));
    // It changes with its surface, and ends with the drag.
    out.scene.agent.paint(9, Size::new(20, 10), GREEN);
    eventually("the smaller image", || {
        out.scene.agent.listen(Duration::from_millis(50));
        (shows(&out, 19, 9) && !shows(&out, 20, 9)).then_some(())
    });
    out.scene.release();
    eventually("its end", || (!shows(&out, 0, 0)).then_some(()));
}
