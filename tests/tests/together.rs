//! All windows of a machine in one window of the desktop, and back: no app hears of it, and each shows what it showed.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::scripted::{Agent, GREEN, RED, Screen};
use common::sway::Sway;
use common::{Local, Xvfb, descendants, eventually, is_gone, program, soon, within};
use inlay::windows::api::{self, Picture, Selector, WindowInfo};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::InputEvent;
use rustix::process::Pid;

const BLUE: [u8; 4] = [255, 0, 0, 255];
/// evdev's codes.
const KEY_TAB: u32 = 15;
const KEY_S: u32 = 31;
const KEY_RIGHT_CTRL: u32 = 97;
/// The apps, Wayland's and X11's; the last one never stands still.
const APPS: [&str; 5] = ["foot", "xterm", "zenity", "dialog", "counter"];
const TIMES: usize = 10;
/// What fades from one look into another (GTK's) has done so after this time.
const FADED: Duration = Duration::from_millis(400);

fn area(api: &Path, title: &str) -> Rect {
    eventually(&format!("the place of {title}"), || {
        let windows = api::windows(api).ok()?;
        windows.into_iter().find(|window| window.title == title).map(|window| window.area)
    })
}

/// Two windows of a machine with a border, on an X11 desktop.
struct Two {
    xvfb: Xvfb,
    agent: Agent,
    api: PathBuf,
}

impl Two {
    fn start() -> Self {
        let xvfb = Xvfb::start();
        let mut agent = Agent::start_with(Screen::X11(&xvfb.display), &["--border=#2f6fd6"]);
        for (surface, title, colour) in [(1, "one", RED), (2, "two", GREEN)] {
            agent.toplevel(surface, title, |_| {});
            agent.paint(surface, Size::new(300, 200), colour);
            xvfb.find(title);
        }
        let api = agent.socket();
        Self { xvfb, agent, api }
    }

    /// Puts them together.
    fn together(&self) {
        api::together(&self.api, true, false).unwrap();
        self.xvfb.find("Apps");
        assert!(self.xvfb.is_gone("one") && self.xvfb.is_gone("two"), "they are in it");
    }

    /// A place in a window, on the screen.
    fn place(&self, title: &str, x: i32, y: i32) -> (i32, i32) {
        let (at, area) = (self.xvfb.area(&self.xvfb.find("Apps")), area(&self.api, title));
        (at.x + 3 + area.x + x, at.y + 3 + area.y + y)
    }

    /// Waits until the screen has a colour there.
    fn sees(&self, title: &str, (x, y): (i32, i32), colour: [u8; 4]) {
        let at = self.place(title, x, y);
        eventually(&format!("{colour:?} in {title}, at {at:?} of the screen"), || {
            self.xvfb.shows(at, colour).then_some(())
        });
    }

    /// Brings the pointer there.
    fn put(&self, title: &str, x: i32, y: i32) {
        let (x, y) = self.place(title, x, y);
        self.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string()]);
    }

    /// Drags from a place in the first window to another.
    fn drag(&self, from: (i32, i32), to: (i32, i32)) {
        let (x, y) = self.place("one", to.0, to.1);
        self.put("one", from.0, from.1);
        self.xvfb.xdotool(&["mousedown", "1"]);
        for x in [x - 5, x] {
            self.xvfb.xdotool(&["mousemove", &x.to_string(), &y.to_string()]);
        }
        self.xvfb.xdotool(&["mouseup", "1"]);
    }
}

#[test]
fn pointer_keys_and_menus_are_those_of_the_window_that_lies_above() {
    let mut two = Two::start();
    two.agent.popup(3, 1, Rect::new(10, 10, 50, 50), PopupKind::Menu);
    two.agent.paint(3, Size::new(50, 50), BLUE);
    eventually("the menu", || {
        api::windows(&two.api).ok()?.into_iter().find(|window| window.parent.is_some())
    });
    two.agent.events.clear();
    two.together();
    let done = |e: &Event| matches!(e, Event::PopupDone { surface } if surface.0 == 3).then_some(());
    two.agent.until("the end of the menu", done);
    two.agent.send(&Request::RoleGone { surface: SurfaceId(3) });
    // The second one lies above; each has the machine's border.
    for at in [(0, 0), (299, 199)] {
        two.sees("two", at, GREEN);
    }
    two.sees("one", (0, 0), RED);
    two.sees("one", (-1, 50), [0xd6, 0x6f, 0x2f, 255]);

    // The pointer goes to who is under it, with that one's places; a click brings it up.
    two.agent.events.clear();
    two.put("one", 20, 3);
    two.agent.until("the pointer", |e| match e {
        Event::Input(InputEvent::PointerEnter { surface, x, y }) => {
            ((surface.0, *x, *y) == (1, 20.0, 3.0)).then_some(())
        }
        _ => None,
    });
    two.xvfb.xdotool(&["click", "1"]);
    two.agent.until("its focus", |e| match e {
        Event::Input(InputEvent::KeyboardEnter { surface, .. }) => (surface.0 == 1).then_some(()),
        _ => None,
    });
    two.sees("one", (290, 190), RED);
    two.xvfb.xdotool(&["key", "x"]);
    let key =
        |e: &Event| matches!(e, Event::Input(InputEvent::Key { key: 45, pressed: true, .. })).then_some(());
    two.agent.until("a key", key);

    // A menu lies in its window's place.
    two.agent.popup(4, 1, Rect::new(40, 150, 80, 120), PopupKind::Menu);
    two.agent.paint(4, Size::new(80, 120), BLUE);
    two.sees("one", (43, 153), BLUE);
    two.sees("one", (118, 265), BLUE);
}

#[test]
fn windows_are_moved_resized_closed_and_put_apart_with_what_became_of_them() {
    let mut two = Two::start();
    two.together();
    two.put("one", 20, 3);
    two.xvfb.xdotool(&["click", "1"]);
    let before = area(&two.api, "one");
    two.drag((50, -12), (250, 138));
    let moved = eventually("it is moved", || Some(area(&two.api, "one")).filter(|area| *area != before));
    assert_eq!(moved, Rect { x: before.x + 200, y: before.y + 150, ..before });
    two.sees("one", (0, 0), RED);
    two.agent.events.clear();
    two.drag((305, 205), (345, 235));
    let size = Size::new(340, 230);
    let serial = two.agent.until("its new size", |e| match e {
        Event::ConfigureToplevel { surface, serial, size: Some(new), states, .. } => {
            (surface.0 == 1 && *new == size && !states.contains(States::RESIZING)).then_some(*serial)
        }
        _ => None,
    });
    let bytes: Vec<u8> = RED.repeat((size.width * size.height) as usize);
    two.agent.show(1, size, &bytes, |commit| commit.acked = Some(serial));
    two.sees("one", (339, 229), RED);
    two.agent.events.clear();
    two.put("one", 340 + 3 - 15, -15);
    two.xvfb.xdotool(&["click", "1"]);
    two.agent.until("its end", |e| matches!(e, Event::Close { surface } if surface.0 == 1).then_some(()));

    // The window's own key puts them apart, with the size that each has; then together again, where each was.
    two.xvfb.xdotool(&["keydown", "Control_R", "key", "s", "keyup", "Control_R"]);
    let window = two.xvfb.find("one");
    two.xvfb.find("two");
    eventually("its size", || (two.xvfb.area(&window).size() == Size::new(346, 236)).then_some(()));
    assert!(two.xvfb.is_gone("Apps"));
    let keys = two.agent.has(|e| matches!(e, Event::Input(InputEvent::Key { key: KEY_S, .. })));
    assert_eq!(keys, 0, "none of theirs");
    two.together();
    let again = area(&two.api, "one");
    assert_eq!((again.x, again.y), (moved.x, moved.y));
    // Closed like any window, it puts them apart as well.
    two.xvfb.xdotool(&["windowactivate", "--sync", &two.xvfb.find("Apps")]);
    two.xvfb.xdotool(&["key", "alt+F4"]);
    two.xvfb.find("one");
    two.xvfb.find("two");
}

/// Starts the apps by one agent; the window process and the processes of the apps.
fn start(screen: Screen<'_>) -> (Local, PathBuf, Vec<Pid>) {
    let script = r#"
        foot -T foot -o cursor.blink=no sh -c 'echo this is foot; exec sleep 1000' &
        xterm -T xterm -e sh -c 'echo this is xterm; exec sleep 1000' &
        GDK_BACKEND=wayland zenity --info --title zenity --text 'this is zenity' &
        GDK_BACKEND=x11 zenity --info --title dialog --text 'this is a dialog' &
        foot -T counter bash -c 'n=0; while :; do printf "\r%06d" $n; n=$((n + 1)); read -t 0.1; done' &
        wait"#;
    let local = Local::start_on(&["sh", "-c", script], screen);
    let api = local.api();
    within(soon() * 5, "all apps", || {
        let titles: Vec<String> = titles(&api::windows(&api).unwrap_or_default());
        APPS.iter().all(|app| titles.iter().any(|title| title == app)).then_some(())
    });
    let programs: Vec<Pid> = descendants(Pid::from_raw(local.process.0.id().cast_signed()).unwrap());
    let named = |pid: &Pid| APPS.iter().any(|app| common::says(*pid, app));
    let apps: Vec<Pid> = programs.into_iter().filter(named).collect();
    assert!(apps.len() >= APPS.len(), "{apps:?}");
    (local, api, apps)
}

fn titles(windows: &[WindowInfo]) -> Vec<String> {
    windows.iter().filter(|window| window.parent.is_none()).map(|window| window.title.clone()).collect()
}

fn picture(api: &Path, title: &str) -> Picture {
    api::picture(api, Selector::Text(title.to_owned())).unwrap()
}

/// Whether a screen has the picture at a place; alpha aside, and but for what rounded corners leave open.
fn has(screen: &image::RgbImage, at: (i32, i32), picture: &Picture) -> bool {
    let width = picture.size.width;
    let (left, top) = (u32::try_from(at.0).unwrap(), u32::try_from(at.1).unwrap());
    (0_u32..).zip(picture.bytes.chunks_exact(4)).all(|(index, pixel)| {
        let (x, y) = (left + index % width, top + index / width);
        if pixel[3] != 255 {
            return true;
        }
        screen.get_pixel_checked(x, y).is_none_or(|seen| seen.0 == [pixel[2], pixel[1], pixel[0]])
    })
}

/// How much of two pictures is the same, in percent.
fn alike(one: &Picture, other: &Picture) -> usize {
    if one.size != other.size {
        return 0;
    }
    let pixels = one.bytes.chunks_exact(4).zip(other.bytes.chunks_exact(4));
    let (all, same) = (pixels.len(), pixels.filter(|(one, other)| one == other).count());
    100 * same / all.max(1)
}

/// What the apps show: the same whenever it is looked at, but for the one that counts, and for what the focus changes (GTK has other
/// colours without it).
struct Shown {
    api: PathBuf,
    first: Vec<(&'static str, Picture)>,
}

impl Shown {
    fn new(api: &Path) -> Self {
        std::thread::sleep(2 * FADED);
        let still = APPS.into_iter().filter(|app| *app != "counter");
        Self { api: api.to_owned(), first: still.map(|app| (app, picture(api, app))).collect() }
    }

    /// Whether an app has at a place of the screen what it shows, which is what it showed.
    fn is_right(&self, app: &str, screen: &image::RgbImage, at: (i32, i32)) -> bool {
        let (_, first) = self.first.iter().find(|(name, _)| *name == app).unwrap();
        let now = picture(&self.api, app);
        alike(first, &now) >= 50 && has(screen, at, &now)
    }

    fn apps(&self) -> Vec<&'static str> {
        self.first.iter().map(|(app, _)| *app).collect()
    }

    /// No window is lost, nor another there.
    fn all_are_there(&self) {
        let mut there = titles(&api::windows(&self.api).unwrap());
        there.retain(|title| title != "Apps");
        there.sort();
        let mut wanted = APPS.map(str::to_owned).to_vec();
        wanted.sort();
        assert_eq!(there, wanted);
    }

    fn goes_on(&self) {
        let before = picture(&self.api, "counter");
        eventually("the counter goes on", || {
            (picture(&self.api, "counter").bytes != before.bytes).then_some(())
        });
    }
}

fn counts(api: &Path) -> usize {
    api::windows(api).unwrap().iter().filter(|window| window.parent.is_none()).count()
}

fn inlay(local: &Local, arguments: &[&str]) {
    let mut command = Command::new(program("inlay"));
    let out = command.args(arguments).env("XDG_RUNTIME_DIR", local.runtime.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn five_apps_go_into_one_window_and_back_ten_times_on_x11() {
    let xvfb = Xvfb::start();
    let (local, api, apps) = start(Screen::X11(&xvfb.display));
    let screen = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("screen.png");
        xvfb.tool("import", &["-window", "root", path.to_str().unwrap()]);
        image::open(&path).unwrap().to_rgb8()
    };
    for app in APPS {
        xvfb.find(app);
    }
    let shown = Shown::new(&api);
    for time in 0..TIMES {
        inlay(&local, &["window", "--local", "--together"]);
        let desk = xvfb.find("Apps");
        xvfb.click(&desk);
        shown.all_are_there();
        assert_eq!(counts(&api), APPS.len() + 1);
        // One after the other comes to the front, and is what it was.
        let mut left = shown.apps();
        eventually(&format!("all of them in front, the {time}. time"), || {
            xvfb.xdotool(&["keydown", "Control_R", "key", "Tab", "keyup", "Control_R"]);
            std::thread::sleep(FADED);
            let (at, image) = (xvfb.area(&desk), screen());
            left.retain(|app| {
                let area = area(&api, app);
                !shown.is_right(app, &image, (at.x + area.x, at.y + area.y))
            });
            left.is_empty().then_some(())
        });
        shown.goes_on();
        inlay(&local, &["window", "--local", "--apart"]);
        for app in shown.apps() {
            let window = xvfb.find(app);
            eventually(&format!("{app} apart, the {time}. time"), || {
                xvfb.xdotool(&["windowactivate", &window]);
                std::thread::sleep(FADED);
                let at = xvfb.area(&window);
                shown.is_right(app, &screen(), (at.x, at.y)).then_some(())
            });
        }
        assert!(xvfb.is_gone("Apps"));
        shown.all_are_there();
        shown.goes_on();
    }
    assert!(apps.iter().all(|pid| !is_gone(*pid)), "an app was started anew");
}

#[test]
fn five_apps_go_into_one_window_and_back_on_wayland() {
    let sway = Sway::start();
    let (local, api, apps) = start(Screen::Wayland(&sway.socket()));
    for app in APPS {
        sway.window(app);
    }
    let mut keyboard = sway.keyboard();
    for time in 0..3 {
        inlay(&local, &["window", "--local", "--together"]);
        eventually("the one window", || sway.find("Apps"));
        eventually("the others are in it", || APPS.iter().all(|app| sway.find(app).is_none()).then_some(()));
        let shown = Shown::new(&api);
        shown.all_are_there();
        let mut left = shown.apps();
        eventually(&format!("all of them in front, the {time}. time"), || {
            keyboard.key(KEY_RIGHT_CTRL, true);
            keyboard.key(KEY_TAB, true);
            keyboard.key(KEY_TAB, false);
            keyboard.key(KEY_RIGHT_CTRL, false);
            std::thread::sleep(FADED);
            let (at, image) = (sway.content("Apps"), sway.screen());
            left.retain(|app| {
                let area = area(&api, app);
                !shown.is_right(app, &image, (at.x + area.x, at.y + area.y))
            });
            left.is_empty().then_some(())
        });
        shown.goes_on();
        inlay(&local, &["window", "--local", "--apart"]);
        for app in APPS {
            sway.window(app);
        }
        assert!(sway.find("Apps").is_none());
        shown.all_are_there();
        shown.goes_on();
    }
    assert!(apps.iter().all(|pid| !is_gone(*pid)), "an app was started anew");
}
