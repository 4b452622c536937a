//! Local mode: agent and window process on this kernel, real clients, no virtual machine.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::scripted::Screen;
use common::sway::Sway;
use common::{Local, Process, Steps, Xvfb, eventually, program};
use image::RgbImage;
use inlay::windows::api;
use inlay_protocol::geometry::{Point, Rect};
use inlay_tests::pattern;
use rustix::process::Signal;

const WIDTH: u32 = 333;
const HEIGHT: u32 = 217;

/// Windows of sway as their apps have them.
const FLOATING: &str = "for_window [title=\".*\"] floating enable";

#[test]
fn known_pixels_arrive_exactly_and_only_damage_is_copied() {
    let local = Local::start(&["sleep", "600"], None);
    let mut client = Steps::new(local.client(&mut Steps::command()));
    let counters = || api::counters(&local.api()).unwrap();
    let agent = || counters().agent.expect("the agent's counters");
    let title = "pattern steps";
    let whole = u64::from(4 * WIDTH * HEIGHT);

    let mut bytes = pattern::picture(1, WIDTH, HEIGHT);
    local.shows(title, &bytes);
    assert_eq!(counters().uploaded_bytes, whole, "the first commit is whole");
    assert_eq!(agent().copied_bytes, whole);

    let before = counters();
    client.step("pixel");
    pattern::paint(&mut bytes, WIDTH, [300, 200, 1, 1], 2);
    local.shows(title, &bytes);
    assert_eq!(counters().uploaded_bytes - before.uploaded_bytes, 4, "one pixel");

    // The agent copies this damage and, where it takes the other pool buffer, the pixel that this one missed.
    let (before, agent_before) = (counters(), agent());
    client.step("rects");
    for rect in [[0, 0, 17, 3], [200, 100, 33, 55]] {
        pattern::paint(&mut bytes, WIDTH, rect, 3);
    }
    local.shows(title, &bytes);
    let damage = 4 * (17 * 3 + 33 * 55);
    assert_eq!(counters().uploaded_bytes - before.uploaded_bytes, damage, "two rectangles");
    let copied = agent().copied_bytes - agent_before.copied_bytes;
    assert!([damage, damage + 4].contains(&copied), "the agent copied {copied} bytes");

    client.step("subsurface");
    let mut covered = bytes.clone();
    pattern::cover(&mut covered, WIDTH, [101, 77], &pattern::picture(5, 57, 31), 57);
    local.shows(title, &covered);
    assert_eq!(
        counters().uploaded_bytes - before.uploaded_bytes,
        damage + 4 * 57 * 31,
        "only the subsurface"
    );

    let before = counters();
    client.step("full");
    let mut bytes = pattern::picture(4, WIDTH, HEIGHT);
    pattern::cover(&mut bytes, WIDTH, [101, 77], &pattern::picture(5, 57, 31), 57);
    local.shows(title, &bytes);
    assert_eq!(counters().uploaded_bytes - before.uploaded_bytes, whole);

    let after = counters();
    assert!(after.socket_bytes < 8192, "no pixel went through the socket: {} bytes", after.socket_bytes);
    assert!(agent().socket_bytes < 8192);
    assert_eq!(after.dropped, 0);
    client.close();
    eventually("the window's end", || local.windows().is_empty().then_some(()));
}

/// Compositing managers need not look behind a window through which nothing is seen.
#[test]
fn a_window_says_whether_something_is_seen_through_it() {
    let xvfb = Xvfb::start();
    let local = Local::start_in(&["sleep", "600"], Screen::X11(&xvfb.display), &[("WGPU_BACKEND", "none")]);
    let mut opaque = std::process::Command::new(program("inlay-pattern"));
    opaque.args(["frames", "300x200", "10x10", "1"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let _opaque = local.client(&mut opaque);
    let _steps = Steps::new(local.client(&mut Steps::command()));
    let region = |title: &str| xvfb.tool("xprop", &["-id", &xvfb.find(title), "_NET_WM_OPAQUE_REGION"]);
    eventually("the opaque window's region", || {
        region("pattern frames").contains("= 0, 0, 300, 200").then_some(())
    });
    let transparent = region("pattern steps");
    assert!(!transparent.contains('='), "{transparent}");
}

/// Without a compositing manager the round corners of a window have what is behind it, not black, also when one comes and goes.
#[test]
fn what_is_transparent_is_cut_off_where_nothing_blends() {
    use x11rb::connection::Connection as _;
    use x11rb::protocol::shape::{ConnectionExt as _, SK};
    use x11rb::protocol::xproto::{ConnectionExt as _, CreateWindowAux, WindowClass};

    let xvfb = Xvfb::start();
    let dialog = ["zenity", "--info", "--title", "corners", "--text", "round"];
    let local = Local::start_in(&dialog, Screen::X11(&xvfb.display), &[("WGPU_BACKEND", "none")]);
    let window: u32 = xvfb.find("corners").parse().unwrap();
    let (x, screen) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let outline = || x.shape_get_rectangles(window, SK::BOUNDING).unwrap().reply().unwrap().rectangles;
    let size = || x.get_geometry(window).unwrap().reply().unwrap();
    let is_cut = || {
        let outline = outline();
        let all = size();
        let corner = outline.iter().any(|r| (r.x, r.y) == (0, 0));
        let body = outline.iter().any(|r| r.width == all.width && r.height > all.height / 2);
        (!corner && body).then_some(())
    };
    let is_whole = || {
        let all = size();
        let same = |r: &x11rb::protocol::xproto::Rectangle| {
            (r.x, r.y, r.width, r.height) == (0, 0, all.width, all.height)
        };
        matches!(&outline()[..], [one] if same(one)).then_some(())
    };
    eventually("an outline without corners", is_cut);

    let name = format!("_NET_WM_CM_S{screen}");
    let manager = x.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    let (root, owner) = (x.setup().roots[screen].root, x.generate_id().unwrap());
    let (class, aux) = (WindowClass::INPUT_ONLY, CreateWindowAux::new());
    x.create_window(0, owner, root, 0, 0, 1, 1, 0, class, 0, &aux).unwrap().check().unwrap();
    x.set_selection_owner(owner, manager, x11rb::CURRENT_TIME).unwrap().check().unwrap();
    eventually("a whole window", is_whole);
    x.destroy_window(owner).unwrap().check().unwrap();
    eventually("an outline without corners again", is_cut);
    drop(local);
}

/// Has another window over all of a display for a moment: what was below is forgotten.
fn cover_all(display: &str) {
    use x11rb::connection::Connection as _;
    use x11rb::protocol::xproto::{ConnectionExt as _, CreateWindowAux, WindowClass};

    let (x, screen) = x11rb::connect(Some(display)).unwrap();
    let (root, window) = (x.setup().roots[screen].root, x.generate_id().unwrap());
    let aux = CreateWindowAux::new().override_redirect(1).background_pixel(0x00ff_00ff);
    let class = WindowClass::INPUT_OUTPUT;
    x.create_window(0, window, root, 0, 0, 1280, 900, 0, class, 0, &aux).unwrap().check().unwrap();
    x.map_window(window).unwrap().check().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    x.destroy_window(window).unwrap().check().unwrap();
}

/// A screen, where the window is on it, and the colour behind it.
type Look = (RgbImage, Rect, [u8; 3]);

/// What an X11 and a Wayland desktop have on their screens is what the app drew, after each change, drawn by the processor as well as by a
/// driver of the graphics libraries.
#[test]
fn the_screen_shows_what_the_app_drew_whatever_draws_it() {
    let (xvfb, sway) = (Xvfb::start(), Sway::start_with(&[((1280, 720), 1, 0)], FLOATING));
    // As displays are that are elsewhere.
    let far = Xvfb::start_with(&["-extension", "MIT-SHM"]);
    for driver in ["none", "vulkan"] {
        // What an X11 desktop without a compositor has behind windows is not seen, whatever their alpha.
        let on = |xvfb: &Xvfb| (xvfb.screen(), xvfb.area(&xvfb.find("pattern steps")), [0; 3]);
        let (x11, elsewhere) = (|| on(&xvfb), || on(&far));
        let wayland = || {
            let screen = sway.screen();
            let behind = screen.get_pixel(screen.width() - 1, screen.height() - 1).0;
            (screen, sway.content("pattern steps"), behind)
        };
        let socket = sway.socket();
        let mut desktops: Vec<(Screen<'_>, &dyn Fn() -> Look)> =
            vec![(Screen::X11(&xvfb.display), &x11), (Screen::Wayland(&socket), &wayland)];
        if driver == "none" {
            desktops.push((Screen::X11(&far.display), &elsewhere));
        }
        for (screen, look) in desktops {
            let local = Local::start_in(&["sleep", "600"], screen, &[("WGPU_BACKEND", driver)]);
            let mut client = Steps::new(local.client(&mut Steps::command()));
            let mut bytes = pattern::picture(1, WIDTH, HEIGHT);
            let shows = |what: &str, bytes: &[u8]| {
                local.shows("pattern steps", bytes);
                let ok = |(screen, area, behind): Look| {
                    let pixels = bytes.chunks(4).enumerate().all(|(at, pixel)| {
                        let at = u32::try_from(at).unwrap();
                        let (x, y) = (area.x.unsigned_abs() + at % WIDTH, area.y.unsigned_abs() + at / WIDTH);
                        let near = |(i, seen): (usize, &u8)| {
                            let through = u32::from(behind[i]) * u32::from(255 - pixel[3]) / 255;
                            u32::from(*seen).abs_diff(u32::from(pixel[2 - i]) + through) <= 2
                        };
                        screen.get_pixel_checked(x, y).is_some_and(|seen| seen.0.iter().enumerate().all(near))
                    });
                    (pixels && (area.width, area.height) == (WIDTH, HEIGHT)).then_some(())
                };
                eventually(&format!("{what} by {driver} on the screen"), || ok(look()));
            };
            shows("the first picture", &bytes);
            client.step("pixel");
            pattern::paint(&mut bytes, WIDTH, [300, 200, 1, 1], 2);
            shows("a pixel", &bytes);
            client.step("rects");
            for rect in [[0, 0, 17, 3], [200, 100, 33, 55]] {
                pattern::paint(&mut bytes, WIDTH, rect, 3);
            }
            shows("two rectangles", &bytes);
            client.step("subsurface");
            pattern::cover(&mut bytes, WIDTH, [101, 77], &pattern::picture(5, 57, 31), 57);
            shows("a subsurface", &bytes);
            client.step("full");
            let mut bytes = pattern::picture(4, WIDTH, HEIGHT);
            pattern::cover(&mut bytes, WIDTH, [101, 77], &pattern::picture(5, 57, 31), 57);
            shows("another picture", &bytes);
            if let Screen::X11(display) = screen {
                cover_all(display);
                shows("what was covered", &bytes);
            }
            client.close();
        }
    }
}

#[test]
fn the_status_of_the_app_is_the_status_of_the_run() {
    let status = |app: &[&str]| {
        let mut local = Local::start(app, None);
        let code = eventually("the run's end", || local.process.ended()).code();
        let left: Vec<_> = std::fs::read_dir(local.runtime.path().join("inlay")).unwrap().flatten().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        code
    };
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["true"]), Some(0));
    assert_eq!(status(&["no-such-app"]), Some(127));
}

#[test]
fn a_killed_window_process_comes_back_with_the_windows_content() {
    let local = Local::start(&["sleep", "600"], None);
    let mut client = Steps::new(local.client(&mut Steps::command()));
    let mut bytes = pattern::picture(1, WIDTH, HEIGHT);
    local.shows("pattern steps", &bytes);
    let first = child(&local.process, "windows");
    rustix::process::kill_process(first, Signal::KILL).unwrap();
    let second = eventually("another window process", || {
        Some(child_now(&local.process, "windows")?).filter(|pid| *pid != first)
    });
    assert_ne!(first, second);
    local.window("pattern steps");
    local.shows("pattern steps", &bytes);
    client.step("pixel");
    pattern::paint(&mut bytes, WIDTH, [300, 200, 1, 1], 2);
    local.shows("pattern steps", &bytes);
}

#[test]
fn nothing_remains_of_a_killed_run() {
    let mut local = Local::start(&["sleep", "600"], None);
    let client = Steps::new(local.client(&mut Steps::command()));
    let family = ["windows", "inlay-agent"].map(|name| child(&local.process, name));
    local.process.0.kill().unwrap();
    local.process.0.wait().unwrap();
    for pid in family {
        eventually("the end of a process", || rustix::process::test_kill_process(pid).err());
    }
    drop(client);
}

#[test]
fn a_terminal_takes_keys_and_follows_the_hosts_size() {
    let xvfb = Xvfb::start();
    let dir = tempfile::tempdir().unwrap();
    let (typed, sizes) = (dir.path().join("typed"), dir.path().join("sizes"));
    let script = format!(
        "echo hello-from-foot; read line; echo \"$line\" > {}; trap 'stty size > {}' WINCH; while :; do read -t 1 x; done",
        typed.display(),
        sizes.display()
    );
    let local = Local::start(&["foot", "--title=local foot", "bash", "-c", &script], Some(&xvfb.display));
    let window = xvfb.find("local foot");
    xvfb.click(&window);
    xvfb.type_text("Typed: {it's} \"42\"!\n");
    let line =
        eventually("the typed line", || std::fs::read_to_string(&typed).ok().filter(|t| t.ends_with('\n')));
    assert_eq!(line, "Typed: {it's} \"42\"!\n");

    xvfb.xdotool(&["windowsize", &window, "700", "400"]);
    let small = eventually("the first size", || read_size(&sizes));
    xvfb.xdotool(&["windowsize", &window, "1000", "640"]);
    let large = eventually("the second size", || read_size(&sizes).filter(|s| *s != small));
    assert!(large.0 > small.0 && large.1 > small.1, "{small:?} {large:?}");
    eventually("the window's content to follow", || {
        let size = local.windows().first()?.area;
        (size.width == 1000 && size.height == 640).then_some(())
    });

    let class = xvfb.tool("xprop", &["-id", &window, "WM_CLASS"]);
    assert!(class.contains("\"inlay.local.foot\""), "{class}");
}

#[test]
fn an_x11_terminal_comes_up_where_it_was_told_to() {
    let xvfb = Xvfb::start();
    let local = Local::start(&["xterm", "-T", "put", "-geometry", "40x10+317+209"], Some(&xvfb.display));
    let window = xvfb.find("put");
    let told = Some(Point::new(317, 209));
    eventually("its place", || (xvfb.corner(&window) == told).then_some(()));
    // Where the user has it, it comes back.
    xvfb.xdotool(&["windowmove", &window, "431", "277"]);
    eventually("another place", || (xvfb.corner(&window) != told).then_some(()));
    // The app hears of it.
    std::thread::sleep(Duration::from_secs(1));
    let moved = xvfb.corner(&window);
    assert!(moved.is_some());
    rustix::process::kill_process(child(&local.process, "windows"), Signal::KILL).unwrap();
    eventually("the window again", || {
        let now = xvfb.xdotool(&["search", "--onlyvisible", "--name", "put"]);
        (now.lines().count() == 1 && now.trim() != window && xvfb.corner(now.trim()) == moved).then_some(())
    });
}

#[test]
fn dead_keys_compose_in_wayland_and_x11_terminals() {
    for terminal in ["foot", "xterm"] {
        let xvfb = Xvfb::start();
        xvfb.tool("setxkbmap", &["-layout", "de"]);
        let dir = tempfile::tempdir().unwrap();
        let typed = dir.path().join("typed");
        let script = format!("read line; echo \"$line\" > {}; sleep 100", typed.display());
        let app = ["env", "LC_ALL=C.UTF-8", terminal, "-T", "composer", "-e", "bash", "-c", &script];
        let _local = Local::start(&app, Some(&xvfb.display));
        let window = xvfb.find("composer");
        xvfb.click(&window);
        std::thread::sleep(Duration::from_millis(500));
        for key in ["dead_acute", "e", "dead_circumflex", "o", "odiaeresis", "z", "Return"] {
            xvfb.xdotool(&["key", key]);
        }
        let line = eventually(&format!("what was typed into {terminal}"), || {
            std::fs::read_to_string(&typed).ok().filter(|t| t.ends_with('\n'))
        });
        assert_eq!(line, "éôöz\n", "{terminal}");
    }
}

fn read_size(path: &std::path::Path) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

#[test]
fn closing_the_host_window_ends_the_app_and_ending_the_app_closes_the_window() {
    let xvfb = Xvfb::start();
    let mut local = Local::start(&["foot", "--title=to close"], Some(&xvfb.display));
    let window = xvfb.find("to close");
    xvfb.click(&window);
    xvfb.xdotool(&["key", "alt+F4"]);
    let status = eventually("the app's end", || local.process.ended());
    assert!(status.code().is_some());
    assert!(xvfb.is_gone("to close"));

    let dir = tempfile::tempdir().unwrap();
    let end = dir.path().join("end");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done; exit 5", end.display());
    let mut local = Local::start(&["foot", "--title=to end", "sh", "-c", &script], Some(&xvfb.display));
    xvfb.find("to end");
    std::fs::write(&end, "").unwrap();
    assert_eq!(eventually("the run's end", || local.process.ended()).code(), Some(5));
    assert!(xvfb.is_gone("to end"));
}

#[test]
fn an_idle_window_costs_nothing() {
    let local = Local::start(&["sleep", "600"], None);
    let _client = Steps::new(local.client(&mut Steps::command()));
    local.window("pattern steps");
    std::thread::sleep(Duration::from_millis(500));
    let pids = ["windows", "inlay-agent"].map(|name| child(&local.process, name));
    let before = pids.map(switches);
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let after = pids.map(switches);
    let woken: Vec<u64> = before.iter().zip(after).map(|(b, a)| a - b).collect();
    assert!(woken.iter().all(|w| *w <= 2), "woken {woken:?} times in {:?}", start.elapsed());
}

/// Context switches of a process's main thread.
fn switches(pid: rustix::process::Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let lines = text.lines().filter(|l| l.contains("ctxt_switches"));
    lines.filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// The child of a process whose command line has a word.
fn child_now(parent: &Process, word: &str) -> Option<rustix::process::Pid> {
    let own = parent.0.id();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?;
    let found = children.split_whitespace().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|part| part.ends_with(word.as_bytes()))
    })?;
    rustix::process::Pid::from_raw(found.parse().ok()?)
}

fn child(parent: &Process, word: &str) -> rustix::process::Pid {
    eventually(&format!("the process {word}"), || child_now(parent, word))
}

#[test]
fn without_a_display_the_user_is_told_what_to_do() {
    let out = std::process::Command::new(program("inlay"))
        .args(["run", "--local", "foot"])
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && out.stdout.is_empty());
    assert!(text.lines().count() == 1 && text.contains("DISPLAY") && text.contains("--headless"), "{text}");
}
