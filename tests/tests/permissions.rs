//! What may cross between host and guest: looked at where it would cross, with the test in the place of the agent, foreign programs
//! that copy and paste on the host, and real clicks as the user's answers.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::scripted::{Agent, Screen};
use common::{Process, SOON, Xvfb, eventually, program};
use inlay::config::Config;
use inlay::permissions::{Kind, Permissions, Resource, Verdict, Way};
use inlay_exchange::kinds::TEXT;
use inlay_protocol::connection::ConnectionError;
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::selection::{Offer, Selection};
use inlay_protocol::stream::Chunk;

/// A window process with permissions, and a window of the guest's.
struct Place {
    xvfb: Xvfb,
    agent: Agent,
    window: String,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

/// How far the buttons of a question are from its right edge.
const ONCE: i32 = 190;
const ALWAYS: i32 = 110;
const NEVER: i32 = 40;

impl Place {
    fn new(permissions: &Permissions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("guest.toml");
        permissions.write(&file).unwrap();
        let xvfb = Xvfb::start();
        let screen = Screen::X11(&xvfb.display);
        let mut agent = Agent::start_with(screen, &["--permissions", file.to_str().unwrap()]);
        agent.window(1, "word processor", Size::new(500, 300));
        let window = xvfb.find("word processor");
        Self { xvfb, agent, window, file, _folder: folder }
    }

    fn focus(&mut self) {
        self.xvfb.click(&self.window);
        self.agent.listen(Duration::from_millis(200));
    }

    /// Another program of the host has the focus, until it is dropped.
    fn look_elsewhere(&mut self) -> Process {
        let mut command = Command::new("xterm");
        command.args(["-T", "elsewhere", "-geometry", "40x5+700+500"]).env("DISPLAY", &self.xvfb.display);
        let other = Process::spawn(command.stderr(Stdio::null()));
        let window = self.xvfb.find("elsewhere");
        self.xvfb.click(&window);
        self.agent.listen(Duration::from_millis(300));
        other
    }

    /// An app of the host that has text to give.
    fn copies(&self, text: &str) -> Process {
        let path = self._folder.path().join("text");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("xclip");
        command.args(["-i", "-quiet", "-selection", "clipboard", "-t", "UTF8_STRING"]).arg(&path);
        let owner = Process::spawn(command.env("DISPLAY", &self.xvfb.display).stderr(Stdio::null()));
        eventually("the copied text", || (self.pastes() == text).then_some(()));
        owner
    }

    /// What an app of the host pastes.
    fn pastes(&self) -> String {
        self.xvfb.tool("xclip", &["-o", "-selection", "clipboard", "-t", "UTF8_STRING"])
    }

    fn offer(&mut self, serial: u64, types: &[&str]) {
        let types = types.iter().map(|t| (*t).to_owned()).collect();
        self.agent.send(&Request::Offer(Offer { selection: Selection::Clipboard, serial, types }));
    }

    fn fetch(&mut self, transfer: u64, serial: u64) {
        let kind = TEXT.to_owned();
        self.agent.send(&Request::Fetch { transfer, selection: Selection::Clipboard, serial, kind });
    }

    /// The newest offer of the host.
    fn offered(&self) -> Option<Offer> {
        self.agent.events.iter().rev().find_map(|e| match e {
            Event::Offer(offer) if offer.selection == Selection::Clipboard => Some(offer.clone()),
            _ => None,
        })
    }

    /// Events that are about copy and paste.
    fn crossed(&self) -> Vec<&Event> {
        let about = |e: &&Event| matches!(e, Event::Offer(_) | Event::Fetch { .. } | Event::Stream { .. });
        self.agent.events.iter().filter(about).collect()
    }

    fn questions(&self) -> Vec<String> {
        let found = self.xvfb.xdotool(&["search", "--onlyvisible", "--name", "^Inlay$"]);
        found.lines().map(str::to_owned).collect()
    }

    /// Waits for the question and until it takes input.
    fn question(&mut self) -> String {
        self.agent.listen(Duration::from_millis(100));
        let window = self.xvfb.find("Inlay");
        self.agent.listen(Duration::from_millis(700));
        assert_eq!(self.questions(), std::slice::from_ref(&window), "one at a time");
        window
    }

    /// Answers the question by a click on its button.
    fn answer(&mut self, from_right: i32) {
        let window = self.question();
        let area = self.xvfb.area(&window);
        let (x, y) = (
            area.x + area.size().width.cast_signed() - from_right,
            area.y + area.size().height.cast_signed() - 30,
        );
        self.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string(), "click", "1"]);
        self.agent.listen(Duration::from_millis(300));
        eventually("the end of the question", || self.questions().is_empty().then_some(()));
    }

    fn stream_of(&mut self, transfer: u64) -> Option<[u8; 16]> {
        self.agent.until("an answer to the paste", |e| match e {
            Event::Stream { transfer: of, stream } if *of == transfer => Some(*stream),
            _ => None,
        })
    }
}

fn text(way: Way) -> Resource {
    Resource::Clipboard(way, Kind::Text)
}

#[test]
fn at_never_no_byte_crosses() {
    let mut place = Place::new(&Permissions::all(Verdict::Never));
    let _owner = place.copies("a secret of the host");
    place.focus();
    place.offer(1, &[TEXT, "image/png", "application/x-anything"]);
    for transfer in 0..50 {
        place.fetch(transfer, transfer % 5);
    }
    place.agent.listen(Duration::from_secs(1));
    assert_eq!(place.pastes(), "a secret of the host", "what the guest has takes nothing's place");
    let refused = |e: &&&Event| matches!(e, Event::Stream { stream: None, .. });
    let crossed = place.crossed();
    assert_eq!(crossed.len(), 50, "{crossed:?}");
    assert_eq!(crossed.iter().filter(refused).count(), 50);
    assert!(place.questions().is_empty());
    assert!(place.agent.open([7; 16]).is_err(), "nobody guesses a stream");
}

#[test]
fn nothing_crosses_before_the_answer_and_a_no_is_a_pause() {
    let mut place = Place::new(&Permissions::isolated());
    place.focus();
    let other = place.look_elsewhere();
    let _owner = place.copies("a secret of the host");
    place.agent.listen(Duration::from_millis(500));
    assert!(place.crossed().is_empty(), "who is not looked at knows of nothing: {:?}", place.crossed());
    drop(other);
    place.focus();
    let offer = place.agent.until("the names of types", |e| match e {
        Event::Offer(offer) => Some(offer.clone()),
        _ => None,
    });
    assert_eq!(offer.types, [TEXT]);
    place.agent.events.clear();

    // A menu of the guest's that would lie above the question goes, and none comes.
    place.agent.popup(2, 1, Rect::new(0, 0, 300, 200), PopupKind::Menu);
    place.agent.paint(2, Size::new(300, 200), common::scripted::GREEN);
    place.agent.listen(Duration::from_millis(300));
    place.fetch(1, offer.serial);
    place.agent.until("the end of the menu", |e| {
        matches!(e, Event::PopupDone { surface } if surface.0 == 2).then_some(())
    });
    place.agent.popup(3, 1, Rect::new(0, 0, 300, 200), PopupKind::Menu);
    place.agent.until("no other menu", |e| {
        matches!(e, Event::PopupDone { surface } if surface.0 == 3).then_some(())
    });
    for transfer in 2..1000 {
        place.fetch(transfer, offer.serial);
    }
    let window = place.question();
    // Those that do not wait were refused; none was served.
    assert!(place.crossed().iter().all(|e| matches!(e, Event::Stream { stream: None, .. })));
    assert_eq!(place.stream_of(999), None);
    assert!(place.agent.has(|e| matches!(e, Event::Stream { transfer: 1, .. })) == 0, "it waits");
    place.xvfb.xdotool(&["windowfocus", "--sync", &window, "key", "Return"]);
    assert_eq!(place.stream_of(1), None, "the default is no");
    eventually("the end of the question", || place.questions().is_empty().then_some(()));
    // Not heard for a while.
    place.focus();
    for transfer in 1000..2000 {
        place.fetch(transfer, offer.serial);
    }
    assert_eq!(place.stream_of(1999), None);
    place.agent.listen(Duration::from_secs(1));
    assert!(place.questions().is_empty(), "a pause");
}

#[test]
fn answers_let_through_what_they_say() {
    let mut place = Place::new(&Permissions::isolated());
    place.focus();
    let _owner = place.copies("first");
    let serial = eventually("an offer", || {
        place.agent.listen(Duration::from_millis(50));
        place.offered().filter(|o| !o.types.is_empty())
    })
    .serial;
    place.fetch(1, serial);
    place.answer(ONCE);
    let stream = place.stream_of(1).expect("once");
    assert_eq!(place.agent.read(stream), b"first");
    assert!(place.agent.open(stream).is_err(), "an id is good once");
    // Again the same, without a question.
    place.fetch(2, serial);
    let stream = place.stream_of(2).expect("the same copy");
    assert_eq!(place.agent.read(stream), b"first");
    // Another copy is another question.
    let _owner = place.copies("second");
    let serial = eventually("another offer", || {
        place.agent.listen(Duration::from_millis(50));
        place.offered().filter(|o| o.serial > serial && !o.types.is_empty())
    })
    .serial;
    place.fetch(3, serial - 1);
    assert_eq!(place.stream_of(3), None, "what was copied before is gone");
    place.focus();
    place.fetch(4, serial);
    place.answer(ALWAYS);
    let stream = place.stream_of(4).expect("always");
    assert_eq!(place.agent.read(stream), b"second");
    assert_eq!(
        Permissions::read(&place.file).unwrap().get(text(Way::In)),
        Verdict::Always,
        "it is remembered"
    );
    assert_eq!(Permissions::read(&place.file).unwrap().get(text(Way::Out)), Verdict::Ask);
}

#[test]
fn what_a_guest_copies_waits_for_the_answer() {
    let mut place = Place::new(&Permissions::isolated());
    let other = place.look_elsewhere();
    let owner = place.copies("of the host");
    // Nobody looks: not even a question.
    place.offer(1, &[TEXT]);
    place.agent.listen(Duration::from_millis(500));
    assert!(place.questions().is_empty());
    drop(other);
    place.focus();
    place.offer(2, &[TEXT]);
    place.question();
    assert_eq!(place.pastes(), "of the host");
    place.answer(ONCE);
    // A foreign program pastes; the test is the app of the guest.
    let paste = std::thread::scope(|scope| {
        let display = place.xvfb.display.clone();
        let paste = scope.spawn(move || {
            let mut command = Command::new("xclip");
            command.args(["-o", "-selection", "clipboard", "-t", "UTF8_STRING"]);
            command.env("DISPLAY", display).output().unwrap().stdout
        });
        let (stream, serial) = place.agent.until("a fetch", |e| match e {
            Event::Fetch { stream, serial, .. } => Some((*stream, *serial)),
            _ => None,
        });
        assert_eq!(serial, 2);
        let mut connection = place.agent.open(stream).unwrap();
        connection.queue(&Chunk::Data(b"of the guest".to_vec())).unwrap();
        connection.queue(&Chunk::End).unwrap();
        connection.flush().unwrap();
        assert!(matches!(connection.wait_message::<Chunk>(Some(SOON)), Err(ConnectionError::Closed)));
        paste.join().unwrap()
    });
    assert_eq!(paste, b"of the guest");
    drop(owner);

    // Never: also what was allowed before is taken back.
    place.focus();
    place.offer(3, &["text/html"]);
    place.answer(NEVER);
    assert_eq!(Permissions::read(&place.file).unwrap().get(text(Way::Out)), Verdict::Never);
    place.focus();
    place.offer(4, &[TEXT]);
    place.agent.listen(Duration::from_millis(500));
    assert!(place.questions().is_empty());
    let targets = place.xvfb.tool("xclip", &["-o", "-selection", "clipboard", "-t", "TARGETS"]);
    assert!(!targets.contains("UTF8"), "{targets}");
}

#[test]
fn a_change_counts_at_once() {
    let mut place = Place::new(&Permissions::integrated());
    place.offer(1, &[TEXT, "image/png"]);
    let targets =
        |place: &Place| place.xvfb.tool("xclip", &["-o", "-selection", "clipboard", "-t", "TARGETS"]);
    eventually("what the guest has", || targets(&place).contains("image/png").then_some(()));
    let mut permissions = Permissions::integrated();
    permissions.set(Resource::Clipboard(Way::Out, Kind::Images), Verdict::Never);
    permissions.write(&place.file).unwrap();
    eventually("text only", || {
        let now = targets(&place);
        (!now.contains("image/png") && now.contains("UTF8_STRING")).then_some(())
    });
    permissions.set(text(Way::Out), Verdict::Never);
    permissions.write(&place.file).unwrap();
    eventually("nothing", || (!targets(&place).contains("UTF8_STRING")).then_some(()));
    // The other way.
    let _owner = place.copies("text");
    let offered = |place: &mut Place, some: bool| {
        eventually("an offer", || {
            place.agent.listen(Duration::from_millis(50));
            place.offered().filter(|o| o.types.is_empty() != some)
        })
    };
    offered(&mut place, true);
    Permissions::all(Verdict::Never).write(&place.file).unwrap();
    offered(&mut place, false);
    Permissions::integrated().write(&place.file).unwrap();
    let serial = offered(&mut place, true).serial;
    // A paste that is on its way ends as well.
    let blob = place._folder.path().join("blob");
    std::fs::write(&blob, vec![7; 32 << 20]).unwrap();
    let mut command = Command::new("xclip");
    command.args(["-i", "-quiet", "-selection", "clipboard", "-t", "text/x-long"]).arg(&blob);
    let _owner = Process::spawn(command.env("DISPLAY", &place.xvfb.display).stderr(Stdio::null()));
    let serial = eventually("the long text", || {
        place.agent.listen(Duration::from_millis(50));
        place.offered().filter(|o| o.serial > serial && o.types == ["text/x-long"])
    })
    .serial;
    let kind = "text/x-long".to_owned();
    place.agent.send(&Request::Fetch { transfer: 9, selection: Selection::Clipboard, serial, kind });
    let stream = place.stream_of(9).unwrap();
    let mut connection = place.agent.open(stream).unwrap();
    assert!(connection.wait_message::<Chunk>(Some(SOON)).unwrap().is_some());
    Permissions::all(Verdict::Never).write(&place.file).unwrap();
    let mut got = 0;
    let end = loop {
        match connection.wait_message::<Chunk>(Some(SOON)) {
            Ok(Some((Chunk::Data(bytes), _))) => got += bytes.len(),
            other => break other,
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(end, Err(ConnectionError::Closed)), "{end:?}");
    assert!(got < 32 << 20, "{got} bytes came");
}

#[test]
fn permissions_are_listed_and_changed_by_command_and_what_is_wrong_is_told() {
    let root = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
    let (config, data) = (root.path().join("config"), root.path().join("data"));
    std::fs::create_dir_all(config.join("inlay/machines")).unwrap();
    std::fs::create_dir_all(data.join("inlay/work")).unwrap();
    Config::new("0123456789abcdef".into()).write_new(&config.join("inlay/machines/work.toml")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program("inlay"));
        command.arg("permissions").args(arguments).stdin(Stdio::null());
        command
            .env("XDG_CONFIG_HOME", &config)
            .env("XDG_DATA_HOME", &data)
            .env("XDG_RUNTIME_DIR", root.path());
        let out = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.success(), text(&out.stdout), text(&out.stderr))
    };
    let (good, list, _) = run(&["work"]);
    assert!(good && list.lines().count() == 11 && list.lines().all(|l| l.contains(" ask ")), "{list}");
    assert!(run(&["work", "clipboard-in", "always"]).0);
    assert!(run(&["work", "clipboard-out-images", "never"]).0);
    let (_, list, _) = run(&["work", "clipboard"]);
    let count = |word: &str| list.lines().filter(|l| l.split_whitespace().nth(1) == Some(word)).count();
    assert_eq!([count("always"), count("never"), count("ask")], [4, 1, 3], "{list}");
    let file = config.join("inlay/permissions/work.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    for (arguments, part) in [
        (&["work", "clipboard-smell", "always"][..], "clipboard-smell"),
        (&["work", "clipboard", "perhaps"], "perhaps"),
        (&["play", "clipboard", "always"], "play"),
        (&["../x", "clipboard", "always"], "../x"),
    ] {
        let (good, _, error) = run(arguments);
        assert!(!good && error.contains(part), "{arguments:?}: {error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "nothing changed");
    }
    std::fs::write(&file, "clipboard-in-text = 3\n").unwrap();
    let (good, _, error) = run(&["work", "clipboard", "always"]);
    assert!(!good && error.lines().count() == 1 && error.contains("line 1"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "clipboard-in-text = 3\n",
        "what the user wrote is kept"
    );
}
