//! Everything that is dragged, everywhere, with real pointer input: text, formatted text, a picture, files, types that nobody knows, between an
//! app of the host and one of the guest, of each kind, both ways.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::drags::{PROGRAM, drag, drag_on, floating_sway, side_by_side};
use common::scripted::Screen;
use common::sway::Sway;
use common::{Local, Process, Random, Xvfb, within};

/// The middle of its window.
const MIDDLE: (i32, i32) = (100, 80);

fn files(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("file:///tmp/a%20file%20{n}\r\n")).collect::<String>().into_bytes()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    (0..length / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
}

fn png() -> Vec<u8> {
    let picture =
        image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([x, y, 30].map(|v| u8::try_from(v).unwrap())));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// What is dragged: all of the first at once, then all of the second. On X11, Qt has to give each thing in one request of at most 16 MiB; it
/// ends at a larger one.
fn drags(source: &str) -> [Vec<(&'static str, Vec<u8>)>; 2] {
    [
        vec![
            ("text/plain", "Grüße aus 東京 🌍\n\tund mehr".into()),
            ("text/html", "<b>bold</b> &amp; <i>ä</i>".into()),
            ("image/png", png()),
            ("text/uri-list", files(1)),
            ("application/x-inlay-test.unknown", noise(100_000)),
            ("application/x-inlay-test.empty", Vec::new()),
        ],
        vec![
            ("text/uri-list", files(10_000)),
            ("application/octet-stream", noise(if source == "xcb" { 12 } else { 64 } << 20)),
        ],
    ]
}

/// A folder for the program to read or write.
fn folder(drags: &[Vec<(&str, Vec<u8>)>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, items) in (1..).zip(drags) {
        let folder = folder.path().join(format!("{number}"));
        std::fs::create_dir(&folder).unwrap();
        for (name, bytes) in items {
            std::fs::write(folder.join(name.replace('/', "!")), bytes).unwrap();
        }
    }
    folder
}

/// Drags it all with the hands that are given, and looks at what came.
fn each_arrives(
    what: &str,
    drags: [Vec<(&str, Vec<u8>)>; 2],
    source: &Path,
    target: &Path,
    mut carry: impl FnMut(),
) {
    for (number, items) in (1..).zip(drags) {
        carry();
        let limit = Duration::from_secs(120);
        let got = target.join(format!("{number}"));
        within(limit, &format!("drop {number}, {what}"), || got.is_dir().then_some(()));
        let wrong: Vec<String> = items
            .iter()
            .filter_map(|(name, bytes)| {
                let came = std::fs::read(got.join(name.replace('/', "!"))).ok();
                let long = came.as_ref().map(Vec::len);
                (came.as_ref() != Some(bytes)).then(|| format!("{name}: {long:?} of {} bytes", bytes.len()))
            })
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
        let ended = source.join(format!("ended-{number}"));
        let ended = within(limit, "the drag's end", || {
            std::fs::read_to_string(&ended).ok().filter(|t| !t.is_empty())
        });
        assert_eq!(ended, "1\n", "a copy, {what}");
    }
}

/// The program as an app of the host, on this display, or of the guest.
fn app(platform: &str, role: &str, folder: &Path) -> String {
    format!("QT_QPA_PLATFORM={platform} exec /usr/bin/python3 {PROGRAM} {role} {}", folder.display())
}

fn on_host(script: &str, variable: &str, value: &Path, runtime: &Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.env(variable, value).env("XDG_RUNTIME_DIR", runtime);
    Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// Which of the two apps is the guest's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    In,
    Out,
}

/// Starts both apps: the guest's for its kind of display, the host's for the host's.
fn apps(
    way: Way,
    guest: &str,
    host: (&str, &str, &Path),
    screen: Screen<'_>,
    folders: [&Path; 2],
) -> (Local, Process) {
    let [source, target] = folders;
    let (platform, variable, value) = host;
    let scripts = match way {
        Way::In => [app(guest, "target", target), app(platform, "source", source)],
        Way::Out => [app(guest, "source", source), app(platform, "target", target)],
    };
    let local = Local::start_on(&["sh", "-c", &scripts[0]], screen);
    (local, on_host(&scripts[1], variable, value, source))
}

#[test]
fn everything_is_dragged_everywhere_on_x11() {
    for guest in ["wayland", "xcb"] {
        for way in [Way::In, Way::Out] {
            let xvfb = Xvfb::start();
            let drags = drags(if way == Way::In { "xcb" } else { guest });
            let (from, to) = (folder(&drags), folder(&[]));
            let host = ("xcb", "DISPLAY", Path::new(&xvfb.display));
            let _apps = apps(way, guest, host, Screen::X11(&xvfb.display), [from.path(), to.path()]);
            let (source, target) = (xvfb.find("source"), xvfb.find("target"));
            xvfb.xdotool(&["windowmove", &source, "50", "50"]);
            xvfb.xdotool(&["windowmove", &target, "600", "400"]);
            std::thread::sleep(Duration::from_millis(500));
            let [begin, end] = [&source, &target].map(|window| {
                let area = xvfb.area(window);
                (area.x + MIDDLE.0, area.y + MIDDLE.1)
            });
            // Its image is at the pointer, around its hotspot.
            let red = [0, 0, 255, 255];
            let shows = |x: i32, y: i32| xvfb.shows((end.0 + x, end.1 + y), red);
            each_arrives(&format!("{way:?}, app of {guest}"), drags, from.path(), to.path(), || {
                drag(&xvfb, begin, end);
                assert!(shows(-30, -20) && shows(29, 19) && !shows(-31, 0) && !shows(0, 20));
                xvfb.xdotool(&["mouseup", "1"]);
            });
        }
    }
}

#[test]
fn everything_is_dragged_everywhere_on_wayland() {
    for guest in ["wayland", "xcb"] {
        for way in [Way::In, Way::Out] {
            let sway: Sway = floating_sway();
            // Apps know a pointer from the start.
            let mut pointer = sway.pointer();
            let drags = drags(if way == Way::In { "wayland" } else { guest });
            let (from, to) = (folder(&drags), folder(&[]));
            let socket = sway.socket();
            let host = ("wayland", "WAYLAND_DISPLAY", socket.as_path());
            let _apps = apps(way, guest, host, Screen::Wayland(&socket), [from.path(), to.path()]);
            let (begin, end) = side_by_side(&sway, "source", "target");
            let at = |place: (i32, i32)| (place.0 + MIDDLE.0, place.1 + MIDDLE.1);
            each_arrives(&format!("{way:?}, app of {guest}"), drags, from.path(), to.path(), || {
                drag_on(&mut pointer, at(begin), at(end));
                pointer.button(false);
            });
        }
    }
}
