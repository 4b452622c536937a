//! Copy and paste between apps of the host and of the guest, all of them foreign programs: every kind of host with every kind of app,
//! both ways.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::compositor::{Desktop, FIRST, LEFT, Offers};
use common::scripted::{Agent, Screen};
use common::sway::Sway;
use common::{Local, Process, Xvfb, eventually};
use inlay_exchange::kinds::TEXT;
use inlay_exchange::x11::own_window;
use inlay_protocol::display::{Event, Request};
use inlay_protocol::geometry::Size;
use inlay_protocol::selection::{Offer, Selection};
use inlay_protocol::stream::Chunk;
use rustix::process::Signal;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

/// Where apps are that copy and paste.
#[derive(Debug, Clone, PartialEq)]
enum Side {
    /// An X display and its key.
    X11(String, Option<PathBuf>),
    /// A Wayland socket.
    Wayland(PathBuf),
}

impl Side {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_remove("DISPLAY").env_remove("XAUTHORITY").env_remove("WAYLAND_DISPLAY");
        match self {
            Self::X11(display, key) => {
                command.env("DISPLAY", display);
                if let Some(key) = key {
                    command.env("XAUTHORITY", key);
                }
            }
            Self::Wayland(socket) => {
                command.env("WAYLAND_DISPLAY", socket);
            }
        }
        command
    }

    /// An app that has this file's content to give, until it is dropped.
    fn copies(&self, kind: &str, path: &Path, primary: bool) -> Process {
        match self {
            Self::X11(..) => {
                let mut command = self.command("xclip");
                let selection = if primary { "primary" } else { "clipboard" };
                command.args(["-i", "-quiet", "-selection", selection]);
                // Without a type it gives text by all of its names.
                command.args(["-t", if kind == TEXT { "UTF8_STRING" } else { kind }]);
                Process::spawn(command.arg(path).stderr(Stdio::null()))
            }
            Self::Wayland(_) => {
                let mut command = self.command("wl-copy");
                command.args(["--foreground", "--type", kind]).args(primary.then_some("--primary"));
                Process::spawn(command.stdin(std::fs::File::open(path).unwrap()))
            }
        }
    }

    /// The types that an app finds.
    fn types(&self, primary: bool) -> Vec<String> {
        let out = match self {
            Self::X11(..) => {
                let selection = if primary { "primary" } else { "clipboard" };
                self.command("xclip").args(["-o", "-selection", selection, "-t", "TARGETS"]).output()
            }
            Self::Wayland(_) => {
                self.command("wl-paste").arg("--list-types").args(primary.then_some("--primary")).output()
            }
        };
        String::from_utf8_lossy(&out.unwrap().stdout).lines().map(str::to_owned).collect()
    }

    /// What an app gets that pastes.
    fn pastes(&self, kind: &str, primary: bool) -> Vec<u8> {
        let mut command = match self {
            Self::X11(..) => {
                let mut command = self.command("xclip");
                let selection = if primary { "primary" } else { "clipboard" };
                command.args(["-o", "-selection", selection, "-t"]);
                command.arg(if kind == TEXT { "UTF8_STRING" } else { kind });
                command
            }
            Self::Wayland(_) => {
                let mut command = self.command("wl-paste");
                command.args(["--no-newline", "--type", kind]).args(primary.then_some("--primary"));
                command
            }
        };
        command.stderr(Stdio::null()).output().unwrap().stdout
    }

    /// Waits until an app finds this type.
    #[track_caller]
    fn finds(&self, kind: &str, primary: bool) {
        eventually(&format!("{kind} with {self:?}"), || {
            self.types(primary).iter().any(|t| t == kind).then_some(())
        });
    }
}

/// A host with a guest in local mode.
struct Place {
    host: Side,
    guest: [Side; 2],
    _local: Local,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(host: Side, screen: Screen<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("environment");
        let script = format!(
            "echo \"$DISPLAY $XAUTHORITY $WAYLAND_DISPLAY\" > {0}.new; mv {0}.new {0}; exec sleep 100000",
            path.display()
        );
        let local = Local::start_on(&["sh", "-c", &script], screen);
        let text = eventually("the guest's environment", || std::fs::read_to_string(&path).ok());
        let [display, key, _] = text.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let guest = [Side::X11(display.to_owned(), Some(key.into())), Side::Wayland(local.wayland())];
        Self { host, guest, _local: local, folder }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Both ways between the host and each kind of app.
    fn ways(&self) -> Vec<(&Side, &Side)> {
        self.guest.iter().flat_map(|guest| [(&self.host, guest), (guest, &self.host)]).collect()
    }
}

fn png() -> Vec<u8> {
    let picture = image::RgbaImage::from_fn(320, 200, |x, y| {
        image::Rgba([x, y, x ^ y, 255].map(|v| u8::try_from(v % 256).unwrap()))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Bytes without a pattern.
fn noise(length: usize) -> Vec<u8> {
    let mut random = common::Random::new(5);
    (0..length / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
}

/// Everything that is pasted everywhere.
fn items() -> Vec<(&'static str, Vec<u8>)> {
    let list =
        |count: usize| -> String { (0..count).map(|n| format!("file:///tmp/a%20file%20{n}\r\n")).collect() };
    vec![
        (TEXT, "Grüße aus 東京 🌍\n\tund mehr\0".trim_end_matches('\0').as_bytes().to_vec()),
        ("text/html", b"<b>bold</b> &amp; <i>\xc3\xa4</i>".to_vec()),
        ("image/png", png()),
        ("text/uri-list", list(1).into_bytes()),
        ("x-special/gnome-copied-files", b"copy\nfile:///tmp/a%20file".to_vec()),
        ("application/x-inlay-test.unknown", noise(100_000)),
        (TEXT, Vec::new()),
        ("text/uri-list", list(10_000).into_bytes()),
        ("application/octet-stream", noise(64 << 20)),
    ]
}

fn everything_arrives(place: &Place) {
    for (kind, bytes) in items() {
        let path = place.file("content", &bytes);
        for (from, to) in place.ways() {
            let owner = from.copies(kind, &path, false);
            to.finds(if matches!(to, Side::X11(..)) && kind == TEXT { "UTF8_STRING" } else { kind }, false);
            let got = to.pastes(kind, false);
            let what = format!("{} bytes of {kind} from {from:?} to {to:?}", bytes.len());
            assert!(got == bytes, "{what}: {} bytes came", got.len());
            drop(owner);
            if to == &place.host {
                // What the guest keeps of it is another test's.
                continue;
            }
            eventually("nothing more to paste", || {
                (!to.types(false).iter().any(|t| t == kind)).then_some(())
            });
        }
    }
}

#[test]
fn everything_arrives_on_x11() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    everything_arrives(&place);
}

#[test]
fn everything_arrives_on_wayland() {
    let sway = Sway::start();
    let place = Place::new(Side::Wayland(sway.socket()), Screen::Wayland(&sway.socket()));
    everything_arrives(&place);
}

fn everything_arrives_and_primary(place: &Place) {
    let path = place.file("marked", b"marked words");
    for (from, to) in place.ways() {
        let owner = from.copies(TEXT, &path, true);
        to.finds(if matches!(to, Side::X11(..)) { "UTF8_STRING" } else { TEXT }, true);
        assert_eq!(to.pastes(TEXT, true), b"marked words", "from {from:?} to {to:?}");
        assert!(to.types(false).is_empty(), "what is marked is not copied");
        drop(owner);
        eventually("nothing marked", || to.types(true).is_empty().then_some(()));
    }
}

#[test]
fn what_is_marked_arrives_as_well() {
    let (xvfb, sway) = (Xvfb::start(), Sway::start());
    let host = Side::X11(xvfb.display.clone(), None);
    everything_arrives_and_primary(&Place::new(host, Screen::X11(&xvfb.display)));
    let host = Side::Wayland(sway.socket());
    everything_arrives_and_primary(&Place::new(host, Screen::Wayland(&sway.socket())));
}

/// As on a desktop without data control: the test is the desktop, its other apps, and the agent.
#[test]
fn a_desktop_without_data_control_shares_with_the_window_that_has_the_focus() {
    let desk = Desktop::start(Offers::default());
    let mut agent = Agent::start(Screen::Wayland(&desk.socket()));
    let offer = |selection, serial, types: &[&str]| {
        let types = types.iter().map(|t| (*t).to_owned()).collect();
        Request::Offer(Offer { selection, serial, types })
    };
    for (serial, selection) in (1..).zip(Selection::ALL) {
        agent.send(&offer(selection, serial, &[TEXT, "image/png"]));
    }
    agent.listen(Duration::from_millis(300));
    assert!(desk.with(|desk| desk.copied(false)).is_empty(), "without a window nothing can be set");
    agent.window(1, "window", Size::new(300, 200));
    eventually("the window", || desk.with(|desk| !desk.windows().is_empty()).then_some(()));
    agent.listen(Duration::from_millis(300));
    // For a click, as the desktop wants it.
    desk.with(|desk| {
        desk.point(FIRST.0 + 50, FIRST.1 + 50);
        desk.click(LEFT);
        desk.key(30);
    });
    for (primary, selection) in [(false, Selection::Clipboard), (true, Selection::Primary)] {
        eventually("what the guest copied", || {
            agent.listen(Duration::from_millis(20));
            desk.with(move |desk| desk.copied(primary)).contains(&"image/png".to_owned()).then_some(())
        });
        // Another app of the desktop pastes it.
        let (read, write) = rustix::pipe::pipe().unwrap();
        desk.with(move |desk| desk.paste(primary, "UTF8_STRING", write));
        let (stream, kind) = agent.until("a fetch", |e| match e {
            Event::Fetch { stream, selection: of, kind, .. } if *of == selection => {
                Some((*stream, kind.clone()))
            }
            _ => None,
        });
        assert_eq!(kind, TEXT);
        let mut connection = agent.open(stream).unwrap();
        connection.queue(&Chunk::Data(b"of the guest".to_vec())).unwrap();
        connection.queue(&Chunk::End).unwrap();
        connection.flush().unwrap();
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "of the guest");
        // Another app copies.
        desk.with(move |desk| desk.copy(primary, "text/plain", b"of the desktop"));
        let serial = agent.until("an offer", |e| match e {
            Event::Offer(offer) if offer.selection == selection && offer.types == [TEXT] => {
                Some(offer.serial)
            }
            _ => None,
        });
        agent.send(&Request::Fetch { transfer: 9 + serial, selection, serial, kind: TEXT.to_owned() });
        let stream = agent.until("a stream", |e| match e {
            Event::Stream { transfer, stream } if *transfer == 9 + serial => *stream,
            _ => None,
        });
        assert_eq!(agent.read(stream), b"of the desktop");
    }
}

#[test]
fn what_was_copied_outlives_its_app() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    let [x11, wayland] = &place.guest;
    for (from, other) in [(x11, wayland), (wayland, x11)] {
        for (kind, bytes) in [(TEXT, "zůstane".as_bytes().to_vec()), ("image/png", png())] {
            let owner = from.copies(kind, &place.file("content", &bytes), false);
            eventually("it on the host", || (place.host.pastes(kind, false) == bytes).then_some(()));
            // Long enough to be read, as any user is slow.
            std::thread::sleep(Duration::from_millis(700));
            owner.signal(Signal::KILL);
            drop(owner);
            for to in [&place.host, other, from] {
                eventually(&format!("{kind} that outlives {from:?} with {to:?}"), || {
                    (to.pastes(kind, false) == bytes).then_some(())
                });
            }
        }
        // What nobody keeps goes with its app: what is too long, and what is no common type.
        let long = place.file("long", &noise(17 << 20));
        for (kind, path) in [("application/x-rare", place.file("rare", b"rare")), (TEXT, long)] {
            let owner = from.copies(kind, &path, false);
            let name = if kind == TEXT { "UTF8_STRING" } else { kind };
            eventually("it on the host", || {
                (place.host.types(false).iter().any(|t| t == name)
                    && from.pastes(kind, false).len() as u64 == path.metadata().unwrap().len())
                .then_some(())
            });
            std::thread::sleep(Duration::from_secs(1));
            drop(owner);
            eventually("its end", || (!place.host.types(false).iter().any(|t| t == name)).then_some(()));
        }
    }
}

#[test]
fn the_newest_copy_counts_whoever_made_it() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    let [x11, wayland] = &place.guest;
    let sides = [&place.host, x11, wayland];
    let mut owners = Vec::new();
    for turn in 0..12_usize {
        let from = sides[(turn * 2 + turn / 3) % 3];
        let text = format!("copy number {turn}");
        owners.push(from.copies(TEXT, &place.file(&format!("text{turn}"), text.as_bytes()), false));
        for to in sides {
            eventually(&format!("{text} from {from:?} to {to:?}"), || {
                (to.pastes(TEXT, false) == text.as_bytes()).then_some(())
            });
        }
    }
    // All but the last lost it, and their programs ended by themselves.
    let last = owners.pop();
    for mut owner in owners {
        eventually("the end of an owner that lost it", || owner.ended());
    }
    drop(last);
}

/// The desktop hears of the guest's copies a moment later where they follow each other; what its own apps copied meanwhile is newer.
#[test]
fn a_copy_that_is_still_to_be_told_takes_nothing_from_a_newer_one() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    let (c, screen) = RustConnection::connect(Some(&xvfb.display)).unwrap();
    let root = c.setup().roots[screen].root;
    let window = own_window(&c, root).unwrap();
    let clipboard = c.intern_atom(false, b"CLIPBOARD").unwrap().reply().unwrap().atom;
    let owner = || c.get_selection_owner(clipboard).unwrap().reply().unwrap().owner;
    for round in 0..5 {
        for serial in [2 * round + 1, 2 * round + 2] {
            let types = vec![TEXT.to_owned()];
            agent.send(&Request::Offer(Offer { selection: Selection::Clipboard, serial, types }));
        }
        eventually("the guest's copy", || (![x11rb::NONE, window].contains(&owner())).then_some(()));
        c.set_selection_owner(window, clipboard, x11rb::CURRENT_TIME).unwrap();
        assert_eq!(owner(), window);
        agent.listen(Duration::from_millis(200));
        assert_eq!(owner(), window, "the newest copy");
    }
}

#[test]
fn many_copies_in_a_row_leave_the_last() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    for (from, to) in place.ways() {
        let texts: Vec<String> = (0..20).map(|n| format!("quick copy {n}")).collect();
        let owners: Vec<Process> = (0..20)
            .map(|n| from.copies(TEXT, &place.file(&format!("quick{n}"), texts[n].as_bytes()), false))
            .collect();
        // They started at about the same time: whoever has it in the end is the one that all see.
        let settled = eventually("the end of the others", || {
            let here = from.pastes(TEXT, false);
            std::thread::sleep(Duration::from_millis(300));
            (!here.is_empty() && from.pastes(TEXT, false) == here).then_some(here)
        });
        eventually("the same on both sides", || (to.pastes(TEXT, false) == settled).then_some(()));
        drop(owners);
    }
}

#[test]
fn text_is_copied_and_pasted_in_a_gtk_app_by_its_own_keys() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    for (backend, side) in ["x11", "wayland"].into_iter().zip(&place.guest) {
        // Copied on the host, pasted in the guest.
        let owner = place.host.copies(TEXT, &place.file("host", "dal host: žluťoučký kůň".as_bytes()), false);
        let out = std::fs::File::create(place.folder.path().join("out")).unwrap();
        let title = format!("paste {backend}");
        let mut command = side.command("zenity");
        command.args(["--entry", "--title", &title, "--text", "paste"]).env("GDK_BACKEND", backend);
        command.env("XDG_RUNTIME_DIR", place.folder.path()).stdout(out).stderr(Stdio::null());
        let mut app = Process::spawn(&mut command);
        let window = xvfb.find(&title);
        xvfb.xdotool(&["windowfocus", "--sync", &window]);
        xvfb.xdotool(&["key", "--delay", "100", "ctrl+v"]);
        std::thread::sleep(Duration::from_millis(500));
        xvfb.xdotool(&["key", "Return"]);
        eventually("the app's end", || app.ended());
        let text = std::fs::read_to_string(place.folder.path().join("out")).unwrap();
        assert_eq!(text.trim_end(), "dal host: žluťoučký kůň", "with {backend}");
        drop(owner);

        // Copied in the guest, pasted on the host.
        let title = format!("copy {backend}");
        let mut command = side.command("zenity");
        command.args([
            "--entry",
            "--title",
            &title,
            "--text",
            "copy",
            "--entry-text",
            "z hosta: ďábelské ódy",
        ]);
        command.env("GDK_BACKEND", backend).env("XDG_RUNTIME_DIR", place.folder.path()).stderr(Stdio::null());
        let app = Process::spawn(&mut command);
        let window = xvfb.find(&title);
        xvfb.xdotool(&["windowfocus", "--sync", &window]);
        xvfb.xdotool(&["key", "--delay", "100", "ctrl+a", "ctrl+c"]);
        place.host.finds("UTF8_STRING", false);
        assert_eq!(place.host.pastes(TEXT, false), "z hosta: ďábelské ódy".as_bytes(), "with {backend}");
        drop(app);
    }
}

#[test]
fn terminals_mark_and_paste_with_the_mouse() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    for (name, side) in ["xterm", "foot"].into_iter().zip(&place.guest) {
        let typed = place.folder.path().join("typed");
        let script =
            format!("echo singleword{name}; read -r line; echo \"$line\" > {}; sleep 1000", typed.display());
        let mut command = side.command(name);
        command
            .args(["-T", name])
            .args((name == "xterm").then_some("-e"))
            .args(["sh", "-c", &script])
            .env("XDG_RUNTIME_DIR", place.folder.path());
        let _app = Process::spawn(command.stderr(Stdio::null()));
        let window = xvfb.find(name);
        xvfb.click(&window);
        // A double click marks the word in the first row.
        let word = format!("singleword{name}");
        eventually("the marked word", || {
            xvfb.xdotool(&[
                "mousemove",
                "--window",
                &window,
                "30",
                "8",
                "click",
                "--repeat",
                "2",
                "--delay",
                "50",
                "1",
            ]);
            std::thread::sleep(Duration::from_millis(700));
            (place.host.pastes(TEXT, true) == word.as_bytes()).then_some(())
        });
        // What is marked on the host is pasted by the middle button.
        let _owner = place.host.copies(TEXT, &place.file("marked", b"from the host"), true);
        // Until then the terminal itself has what was marked, as the same types.
        let kind = if name == "xterm" { "UTF8_STRING" } else { TEXT };
        eventually("what was marked on the host", || {
            (side.pastes(kind, true) == b"from the host").then_some(())
        });
        xvfb.xdotool(&["mousemove", "--window", &window, "60", "60", "click", "2"]);
        std::thread::sleep(Duration::from_millis(500));
        xvfb.xdotool(&["key", "Return"]);
        let line =
            eventually("the pasted line", || std::fs::read_to_string(&typed).ok().filter(|t| !t.is_empty()));
        assert_eq!(line, "from the host\n", "in {name}");
        std::fs::remove_file(&typed).unwrap();
    }
}

#[test]
fn an_owner_that_hangs_or_dies_ends_a_paste_and_nothing_else() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    let [x11, wayland] = &place.guest;
    let blob = place.file("blob", &noise(64 << 20));
    for (from, to) in [(&place.host, wayland), (x11, &place.host)] {
        // It is stopped while it gives: the paste hangs; then it dies: nothing was pasted.
        let owner = from.copies("application/octet-stream", &blob, false);
        to.finds("application/octet-stream", false);
        owner.signal(Signal::STOP);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let paste = scope.spawn(|| to.pastes("application/octet-stream", false));
            std::thread::sleep(Duration::from_secs(1));
            assert!(!paste.is_finished(), "it waits for the owner");
            owner.signal(Signal::KILL);
            let got = paste.join().unwrap();
            assert!(got.is_empty(), "{} bytes", got.len());
        });
        assert!(begin.elapsed() < Duration::from_secs(20), "the end of the owner ends the paste");
        drop(owner);
        // The next copy is as good as any.
        let _owner = from.copies(TEXT, &place.file("after", b"after"), false);
        eventually("what is copied after it", || (to.pastes(TEXT, false) == b"after").then_some(()));
    }
}

#[test]
fn an_owner_that_never_answers_is_given_up() {
    let xvfb = Xvfb::start();
    let place = Place::new(Side::X11(xvfb.display.clone(), None), Screen::X11(&xvfb.display));
    let [_, wayland] = &place.guest;
    let owner = place.host.copies(TEXT, &place.file("text", b"never given"), false);
    wayland.finds(TEXT, false);
    owner.signal(Signal::STOP);
    let begin = Instant::now();
    let got = wayland.pastes(TEXT, false);
    let took = begin.elapsed();
    assert!(got.is_empty() && took > Duration::from_secs(20), "{got:?} after {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}
