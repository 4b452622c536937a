//! Files of the guest that are in no shared folder, pasted on the host: with the test in the place of the agent, and foreign programs that
//! paste.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::scripted::{Agent, Screen};
use common::sway::Sway;
use common::xdnd::{Manners, Seen, Target};
use common::{Process, SOON, Xvfb, eventually};
use inlay::permissions::{Kind, Permissions, Resource, Verdict, Way};
use inlay_exchange::transfer::IDLE;
use inlay_protocol::connection::Connection;
use inlay_protocol::copying::{Item, Left, Node};
use inlay_protocol::display::*;
use inlay_protocol::framing::encode;
use inlay_protocol::geometry::Size;
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::{Actions, DragStart, Feedback, Offer, Selection};
use inlay_protocol::stream::Chunk;

const LIST: &str = "text/uri-list";

enum Host {
    X11(Xvfb),
    Wayland(Sway),
}

impl Host {
    /// An app that pastes from the clipboard: this type, or the names of all types.
    fn paste(&self, kind: Option<&str>) -> Command {
        match self {
            Self::X11(xvfb) => {
                let mut command = Command::new("xclip");
                command.args(["-o", "-selection", "clipboard", "-t", kind.unwrap_or("TARGETS")]);
                command.env("DISPLAY", &xvfb.display);
                command
            }
            Self::Wayland(sway) => {
                let mut command = Command::new("wl-paste");
                match kind {
                    Some(kind) => command.args(["--no-newline", "--type", kind]),
                    None => command.arg("--list-types"),
                };
                command.env("WAYLAND_DISPLAY", sway.socket());
                command
            }
        }
    }
}

struct Place {
    host: Host,
    agent: Agent,
    permissions: PathBuf,
    folder: tempfile::TempDir,
    pastes: u32,
}

/// A paste that is on its way.
struct Paste {
    app: Process,
    out: PathBuf,
}

impl Paste {
    /// What came, when the app is done.
    fn ended(mut self) -> String {
        eventually("the end of the paste", || self.app.ended());
        fs::read_to_string(&self.out).unwrap()
    }
}

impl Place {
    fn new() -> Self {
        Self::on(Host::X11(Xvfb::start()))
    }

    fn on(host: Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let permissions = folder.path().join("guest.toml");
        Permissions::all(Verdict::Always).write(&permissions).unwrap();
        let arguments = ["--permissions", permissions.to_str().unwrap()];
        let agent = match &host {
            Host::X11(xvfb) => Agent::start_apart(Screen::X11(&xvfb.display), &arguments),
            Host::Wayland(sway) => Agent::start_apart(Screen::Wayland(&sway.socket()), &arguments),
        };
        Self { host, agent, permissions, folder, pastes: 0 }
    }

    fn xvfb(&self) -> &Xvfb {
        let Host::X11(xvfb) = &self.host else { panic!("not on X11") };
        xvfb
    }

    /// The guest copies a list of files.
    fn copies(&mut self, serial: u64) {
        let types = vec![LIST.to_owned()];
        self.agent.send(&Request::Offer(Offer { selection: Selection::Clipboard, serial, types }));
        eventually("the copied list", || {
            let types = self.host.paste(None).output().unwrap().stdout;
            String::from_utf8_lossy(&types).contains(LIST).then_some(())
        });
    }

    fn pastes(&mut self) -> Paste {
        self.pastes += 1;
        let out = self.folder.path().join(self.pastes.to_string());
        let mut command = self.host.paste(Some(LIST));
        command.stdout(fs::File::create(&out).unwrap()).stderr(Stdio::null());
        Paste { app: Process::spawn(&mut command), out }
    }

    /// Answers the fetch of the list.
    fn gives(&mut self, list: &str) {
        let stream = self.agent.until("a fetch", |event| match event {
            Event::Fetch { stream, kind, .. } if kind == LIST => Some(*stream),
            _ => None,
        });
        self.agent.events.clear();
        send(&mut self.agent.open(stream).unwrap(), list.as_bytes());
    }

    /// What is to be copied, and the stream for it.
    fn asked(&mut self) -> (Vec<String>, Connection) {
        let (stream, paths) = self.agent.until("what is to be copied", |event| match event {
            Event::CopyOut { stream, paths, last: true } => Some((*stream, paths.clone())),
            _ => None,
        });
        self.agent.events.clear();
        let paths = paths.into_iter().map(|path| String::from_utf8(path).unwrap()).collect();
        (paths, self.agent.open(stream).unwrap())
    }

    /// Where copies are.
    fn copied(&self) -> PathBuf {
        self.agent.runtime().join("cache/inlay/copied/guest")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.copied()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn permits(&self, verdict: Verdict) {
        let mut permissions = Permissions::all(Verdict::Always);
        permissions.set(Resource::Clipboard(Way::Out, Kind::Files), verdict);
        permissions.write(&self.permissions).unwrap();
    }
}

/// A list that is dragged onto an app of the host, with the pointer: what that gets are paths of the host.
#[test]
fn files_are_dragged_out_with_the_pointer() {
    const AT: (i16, i16) = (100, 100);
    let mut place = Place::new();
    let manners = Manners { accepts: true, finishes: true };
    let target = Target::start(&place.xvfb().display, AT, LIST, manners);
    place.agent.window(1, "window", Size::new(300, 200));
    let window = place.xvfb().find("window");
    let xdotool = |place: &Place, x: i32, y: i32, more: &[&str]| {
        place.xvfb().xdotool(&[&["mousemove", &x.to_string(), &y.to_string()], more].concat());
    };
    place.xvfb().xdotool(&["windowmove", &window, "600", "400"]);
    place.agent.listen(Duration::from_millis(300));
    let area = place.xvfb().area(&window);
    xdotool(&place, area.x + 100, area.y + 80, &["mousedown", "1"]);
    place.agent.until("the press", |event| {
        matches!(event, Event::Input(InputEvent::PointerButton { pressed: true, .. })).then_some(())
    });
    let (types, actions) = (vec![LIST.to_owned()], Actions::COPY);
    place.agent.send(&Request::DragStart(DragStart { serial: 1, surface: SurfaceId(1), types, actions }));
    for step in 0..10 {
        xdotool(&place, 180 + step % 2, 160, &[]);
        place.agent.listen(Duration::from_millis(100));
    }
    assert!(matches!(target.seen()[..], [Seen::Enter(_)]), "{:?}", target.seen());
    place.agent.events.clear();
    place.xvfb().xdotool(&["mouseup", "1"]);
    place.gives("file:///home/user/a%20letter\r\n");
    let (paths, mut stream) = place.asked();
    assert_eq!(paths, ["/home/user/a letter"]);
    let items = [
        vec![Item::Found { files: 1, bytes: 4 }, Item::Chosen(0)],
        file("a letter", b"dear"),
        vec![Item::Done],
    ];
    send(&mut stream, &bytes(&items.concat()));
    let list = eventually("the list", || match target.seen().last() {
        Some(Seen::Data(Some(list))) => Some(String::from_utf8(list.clone()).unwrap()),
        _ => None,
    });
    let copy = place.copied().join("1/a letter");
    assert_eq!(list, format!("file://{}\r\n", copy.display().to_string().replace(' ', "%20")));
    assert_eq!(fs::read(copy).unwrap(), b"dear");
    let action = Actions::COPY;
    place.agent.until("the drag's end", |event| {
        (*event == Event::DragFeedback { serial: 1, feedback: Feedback::Finished { action } }).then_some(())
    });
}

/// Writes bytes in pieces, and the end.
fn send(connection: &mut Connection, bytes: &[u8]) {
    pour(connection, bytes);
    connection.queue(&Chunk::End).unwrap();
    connection.flush().unwrap();
    // Whoever took it closes.
    let end = connection.wait_message::<Chunk>(Some(SOON));
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

fn pour(connection: &mut Connection, bytes: &[u8]) {
    for piece in bytes.chunks(10_000) {
        connection.queue(&Chunk::Data(piece.to_vec())).unwrap();
        connection.flush().unwrap();
    }
}

fn bytes(items: &[Item]) -> Vec<u8> {
    items.iter().flat_map(|item| encode(item).unwrap()).collect()
}

fn file(name: &str, content: &[u8]) -> Vec<Item> {
    let node = Node { name: name.into(), executable: false, modified: (1, 0) };
    vec![Item::File(node), Item::Data(content.to_vec()), Item::Close]
}

fn folder(name: &str) -> Item {
    Item::Folder(Node { name: name.into(), executable: false, modified: (1, 0) })
}

fn link(name: &str, target: &str) -> Item {
    Item::Link { name: name.into(), target: target.into() }
}

#[test]
fn a_list_is_given_when_its_files_are_here_and_a_hostile_tree_leads_nowhere() {
    let mut place = Place::new();
    place.copies(1);
    let paste = place.pastes();
    place.gives(
        "file:///home/user/letter\r\nhttps://x.org/\r\nfile:///home/user/docs\r\nfile:///etc/passwd\r\n",
    );
    let (paths, mut stream) = place.asked();
    assert_eq!(paths, ["/home/user/letter", "/home/user/docs", "/etc/passwd"]);
    let items = [
        vec![Item::Found { files: 9, bytes: 8 }, Item::Chosen(0)],
        file("letter", b"dear"),
        vec![
            Item::Chosen(1),
            folder("docs"),
            link("passwd", "/etc/passwd"),
            link("up", "../../.."),
            link("in", "a b"),
        ],
        file("a b", b"text"),
        vec![Item::Close, Item::Chosen(2), Item::Left(Left::Special), Item::Done],
    ];
    send(&mut stream, &bytes(&items.concat()));
    let copied = place.copied();
    let list = paste.ended();
    let at = copied.display();
    assert_eq!(list, format!("file://{at}/1/letter\r\nhttps://x.org/\r\nfile://{at}/1/docs\r\n"));
    assert_eq!(fs::read(copied.join("1/letter")).unwrap(), b"dear");
    assert_eq!(fs::read(copied.join("1/docs/in")).unwrap(), b"text");
    assert!(
        ["passwd", "up"].iter().all(|name| fs::symlink_metadata(copied.join("1/docs").join(name)).is_err())
    );
    // The user is told of what is missing.
    place.xvfb().find("Inlay");
    // Another paste of the same list is served by the same copy; what was copied anew is not.
    let paste = place.pastes();
    place.gives(
        "file:///home/user/letter\r\nhttps://x.org/\r\nfile:///home/user/docs\r\nfile:///etc/passwd\r\n",
    );
    assert_eq!(paste.ended(), list);
    assert_eq!(place.agent.has(|event| matches!(event, Event::CopyOut { .. })), 0);
    place.copies(2);
    let paste = place.pastes();
    place.gives("file:///home/user/letter\r\n");
    let (_, mut stream) = place.asked();
    send(&mut stream, &bytes(&[vec![Item::Chosen(0)], file("letter", b"new"), vec![Item::Done]].concat()));
    assert_eq!(paste.ended(), format!("file://{at}/2/letter\r\n"));
    assert_eq!(fs::read(copied.join("2/letter")).unwrap(), b"new");
}

#[test]
fn a_copy_that_is_cancelled_breaks_off_or_is_forbidden_ends_in_an_empty_paste() {
    let mut place = Place::new();
    // So large that it cannot come at once.
    let begin = |place: &mut Place, serial| {
        place.copies(serial);
        let paste = place.pastes();
        place.gives("file:///large\r\n");
        let (_, mut stream) = place.asked();
        let begun =
            [vec![Item::Found { files: 1, bytes: 1 << 20 }, Item::Chosen(0)], file("large", &[7; 60_000])];
        let begun = begun.concat();
        pour(&mut stream, &bytes(&begun[..begun.len() - 1]));
        eventually("what came so far", || {
            fs::metadata(place.copied().join("1.part/large")).ok().filter(|found| found.len() == 60_000)
        });
        (paste, stream)
    };
    let closed = |stream: &mut Connection| {
        let end = stream.wait_message::<Chunk>(Some(SOON));
        assert!(end.is_err(), "{end:?}");
    };
    // A window says how far it is, and takes a "Cancel".
    let (paste, mut stream) = begin(&mut place, 1);
    let window = place.xvfb().find("Inlay");
    place.agent.listen(Duration::from_millis(700));
    let area = place.xvfb().area(&window);
    let (x, y) = (area.x + area.width.cast_signed() - 40, area.y + area.height.cast_signed() - 30);
    place.xvfb().xdotool(&["mousemove", &x.to_string(), &y.to_string(), "click", "1"]);
    assert_eq!(paste.ended(), "");
    closed(&mut stream);
    eventually("the window's end", || place.xvfb().is_gone("Inlay").then_some(()));
    assert_eq!(place.names(), [""; 0]);
    // Not permitted any more.
    let (paste, mut stream) = begin(&mut place, 2);
    place.permits(Verdict::Never);
    assert_eq!(paste.ended(), "");
    closed(&mut stream);
    assert_eq!(place.names(), [""; 0]);
    // Never: nothing is asked for.
    place.agent.events.clear();
    assert_eq!(place.pastes().ended(), "");
    place.agent.listen(Duration::from_millis(300));
    assert_eq!(place.agent.has(|event| matches!(event, Event::Fetch { .. } | Event::CopyOut { .. })), 0);
    place.permits(Verdict::Always);
    // The guest breaks off, which the user is told.
    let (paste, stream) = begin(&mut place, 3);
    drop(stream);
    assert_eq!(paste.ended(), "");
    place.xvfb().find("Inlay");
    assert_eq!(place.names(), [""; 0]);
    assert!(Path::new("/proc").join(place.agent.process_id().to_string()).exists());
}

#[test]
fn a_guest_that_sends_nothing_more_is_given_up() {
    let mut place = Place::new();
    place.copies(1);
    let begun = Instant::now();
    let paste = place.pastes();
    place.gives("file:///large\r\n");
    let (_, mut stream) = place.asked();
    let first =
        [vec![Item::Found { files: 1, bytes: 1 << 20 }, Item::Chosen(0)], file("large", &[7; 60_000])];
    pour(&mut stream, &bytes(&first.concat()[..4]));
    assert_eq!(paste.ended(), "");
    let waited = begun.elapsed();
    assert!(waited >= IDLE && waited < IDLE + Duration::from_secs(25), "{waited:?}");
    assert_eq!(place.names(), [""; 0]);
    place.xvfb().find("Inlay");
}

#[test]
fn a_list_is_pasted_on_a_wayland_desktop() {
    let mut place = Place::on(Host::Wayland(Sway::start()));
    place.copies(1);
    let paste = place.pastes();
    place.gives("file:///home/a%20b\r\n");
    let (paths, mut stream) = place.asked();
    assert_eq!(paths, ["/home/a b"]);
    let items =
        [vec![Item::Found { files: 1, bytes: 5 }, Item::Chosen(0)], file("a b", b"words"), vec![Item::Done]];
    send(&mut stream, &bytes(&items.concat()));
    let list = paste.ended();
    let path = list.trim_end().strip_prefix("file://").unwrap().replace("%20", " ");
    assert!(Path::new(&path).starts_with(place.copied()), "{list}");
    assert_eq!(fs::read(path).unwrap(), b"words");
}
