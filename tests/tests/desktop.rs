//! The window process on a real X display, with the test in the place of the agent: what only X11 apps of a guest cause.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::time::{Duration, Instant};

use common::scripted::{Agent, GREEN, RED, Screen};
use common::{SOON, Xvfb, eventually};
use inlay::windows::api::{self, Selector};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::InputEvent;
use rustix::process::{Pid, Signal, kill_process};
use x11rb::connection::Connection as _;
use x11rb::protocol::sync::ConnectionExt as _;
use x11rb::protocol::xproto::{
    self, AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, InputFocus, KEY_PRESS_EVENT,
    KEY_RELEASE_EVENT,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::wrapper::ConnectionExt as _;

/// Keys, evdev codes.
const A: u8 = 30;
const SHIFT: u8 = 42;

/// The windows directly below the root that have this size: their ids and places.
fn sized(xvfb: &Xvfb, size: (u32, u32)) -> Vec<(String, Point)> {
    let text = xvfb.tool("xwininfo", &["-root", "-children"]);
    let prefix = format!("{}x{}+", size.0, size.1);
    let found = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let id = words.next().filter(|id| id.starts_with("0x"))?;
        let at = words.find_map(|w| w.strip_prefix(&prefix))?;
        let (x, y) = at.split_once('+')?;
        Some((id.to_owned(), Point::new(x.parse().ok()?, y.parse().ok()?)))
    });
    found.collect()
}

fn property(xvfb: &Xvfb, window: &str, name: &str) -> String {
    xvfb.tool("xprop", &["-id", window, name])
}

#[test]
fn a_menu_that_covers_its_whole_window_stays_and_one_of_a_minimised_window_goes() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "small", Size::new(120, 80));
    let small = xvfb.find("small");
    agent.popup(2, 1, Rect::new(-90, -90, 300, 260), PopupKind::Menu);
    agent.paint(2, Size::new(300, 260), GREEN);
    eventually("the menu", || (sized(&xvfb, (300, 260)).len() == 1).then_some(()));
    agent.listen(Duration::from_millis(500));
    assert_eq!(agent.has(|e| matches!(e, Event::PopupDone { .. })), 0);
    assert_eq!(sized(&xvfb, (300, 260)).len(), 1);
    xvfb.xdotool(&["windowminimize", &small]);
    let is_done = |e: &Event| matches!(e, Event::PopupDone { surface } if surface.0 == 2).then_some(());
    agent.until("the menu's end", is_done);
    assert_eq!(sized(&xvfb, (300, 260)).len(), 0);
}

#[test]
fn fixed_popups_are_where_their_app_puts_them() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "parent", Size::new(400, 300));
    let parent = xvfb.find("parent");
    xvfb.xdotool(&["windowmove", &parent, "300", "200"]);
    eventually("the parent's place", || (xvfb.area(&parent).x >= 300).then_some(()));
    let origin = xvfb.area(&parent);
    let place = |size, x, y| {
        eventually(&format!("a popup of {size:?} at {x}, {y}"), || {
            let found = sized(&xvfb, size);
            let [(id, at)] = found.as_slice() else { return None };
            (*at == Point::new(x, y)).then(|| id.clone())
        })
    };
    agent.popup(2, 1, Rect::new(-50, 260, 120, 80), PopupKind::Tooltip);
    agent.paint(2, Size::new(120, 80), GREEN);
    let popup = place((120, 80), origin.x - 50, origin.y + 260);
    assert!(property(&xvfb, &popup, "_NET_WM_WINDOW_TYPE").contains("_NET_WM_WINDOW_TYPE_TOOLTIP"));
    eventually("its pixels", || xvfb.shows((origin.x - 20, origin.y + 330), GREEN).then_some(()));

    agent.popup(2, 1, Rect::new(10, -90, 200, 60), PopupKind::Menu);
    let same = place((200, 60), origin.x + 10, origin.y - 90);
    assert_eq!(same, popup);
    eventually("its other kind", || {
        property(&xvfb, &popup, "_NET_WM_WINDOW_TYPE").contains("POPUP_MENU").then_some(())
    });
    // It goes with its parent, and nowhere where nobody could see it.
    xvfb.xdotool(&["windowmove", &parent, "350", "240"]);
    eventually("the parent's other place", || (xvfb.area(&parent).x >= 350).then_some(()));
    let origin = xvfb.area(&parent);
    place((200, 60), origin.x + 10, origin.y - 90);
    agent.popup(2, 1, Rect::new(90_000, -90_000, 200, 60), PopupKind::Menu);
    place((200, 60), 1280 - 200, 0);
    agent.popup(2, 1, Rect::new(-30_000, 10, 5000, 60), PopupKind::Menu);
    place((1280, 60), 0, origin.y + 10);
    // A click elsewhere is the app's own matter: it took no grab.
    agent.popup(2, 1, Rect::new(0, 0, 200, 60), PopupKind::Menu);
    place((200, 60), origin.x, origin.y);
    xvfb.click(&parent);
    agent.listen(Duration::from_millis(300));
    assert_eq!(agent.has(|e| matches!(e, Event::PopupDone { .. })), 0);
    assert_eq!(sized(&xvfb, (200, 60)).len(), 1);
}

#[test]
fn shaped_windows_show_nothing_outside_of_their_outline() {
    let half = vec![Rect::new(0, 0, 150, 200), Rect::new(100, 50, 60, 40)];
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    // What lies behind it.
    agent.window(1, "behind", Size::new(600, 500));
    let behind = xvfb.find("behind");
    xvfb.xdotool(&["windowmove", &behind, "100", "100"]);
    let shape = |rects| Request::Shape { surface: SurfaceId(2), rects };
    agent.toplevel(2, "shaped", |t| t.decoration = Decoration::ClientSide);
    agent.send(&shape(Some(half.clone())));
    agent.paint(2, Size::new(300, 200), GREEN);
    let shaped = xvfb.find("shaped");
    xvfb.xdotool(&["windowmove", &shaped, "200", "200", "windowraise", &shaped]);
    eventually("the shaped window's place", || (xvfb.area(&shaped).x == 200).then_some(()));
    let at = xvfb.area(&shaped);
    let seen = |x: i32, y: i32, colour| {
        eventually(&format!("{colour:?} at {x}, {y}"), || {
            xvfb.shows((at.x + x, at.y + y), colour).then_some(())
        });
    };
    seen(20, 20, GREEN);
    seen(155, 60, GREEN);
    seen(250, 100, RED);
    // The pointer goes through as well.
    for (x, y, surface) in [(20, 20, 2), (250, 100, 1)] {
        agent.events.clear();
        let [x, y] = [at.x + x, at.y + y].map(|v| v.to_string());
        xvfb.xdotool(&["mousemove", &x, &y]);
        agent.until(&format!("the pointer in {surface}"), |e| {
            let entered = |s: SurfaceId| s == SurfaceId(surface);
            matches!(e, Event::Input(InputEvent::PointerEnter { surface, .. }) if entered(*surface))
                .then_some(())
        });
    }

    agent.send(&shape(None));
    seen(250, 100, GREEN);
    agent.send(&shape(Some(vec![])));
    seen(20, 20, RED);
    // Pictures without a display are cut as well.
    let mut agent = Agent::start(Screen::None);
    agent.toplevel(2, "shaped", |_| {});
    agent.send(&shape(Some(half)));
    agent.paint(2, Size::new(300, 200), GREEN);
    let picture =
        eventually("a picture", || api::picture(&agent.socket(), Selector::Text("shaped".to_owned())).ok());
    let pixel = |x: usize, y: usize| picture.bytes[4 * (y * 300 + x)..][..4].to_vec();
    assert_eq!([pixel(20, 20), pixel(155, 60)], [GREEN.to_vec(), GREEN.to_vec()]);
    assert_eq!([pixel(250, 100), pixel(155, 95)], [vec![0; 4], vec![0; 4]]);
}

#[test]
fn hints_of_x11_apps_reach_the_window_manager() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    let child = |t: &mut Toplevel| {
        t.parent = Some(SurfaceId(1));
        t.kind = WindowKind::Utility;
        t.base_size = Size::new(7, 9);
        t.increment = Size::new(6, 13);
        t.no_focus = true;
    };
    agent.toplevel(2, "child", child);
    let icon = Icon { size: Size::new(2, 1), pixels: vec![0, 64, 128, 128, 1, 2, 3, 255] };
    agent.send(&Request::Icons { surface: SurfaceId(2), icons: vec![icon] });
    agent.paint(2, Size::new(127, 139), RED);
    let window = xvfb.find("child");
    let holds = |name: &str, what: &str| {
        let end = Instant::now() + SOON;
        while !property(&xvfb, &window, name).contains(what) {
            let now = property(&xvfb, &window, name);
            assert!(Instant::now() < end, "{name} does not hold {what}: {now}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    holds("_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_UTILITY");
    holds("WM_NORMAL_HINTS", "program specified resize increment: 6 by 13");
    holds("WM_NORMAL_HINTS", "program specified base size: 7 by 9");
    holds("WM_HINTS", "Client accepts input or input focus: False");
    let words = [2, 1, 0x80ff_8000_u32, 0xff03_0201].map(|w| w.to_string()).join(", ");
    let icon = || xvfb.tool("xprop", &["-id", &window, "-f", "_NET_WM_ICON", "32c", " $0+", "_NET_WM_ICON"]);
    assert!(icon().contains(&words), "{} does not hold {words}", icon());

    // The parent opens later, and closes.
    holds("WM_TRANSIENT_FOR", "not found");
    agent.window(1, "parent", Size::new(300, 200));
    let parent = xvfb.find("parent");
    let id = format!("{:#x}", parent.parse::<u32>().unwrap());
    holds("WM_TRANSIENT_FOR", &id);
    // A circle of parents is none.
    agent.toplevel(1, "parent", |t| t.parent = Some(SurfaceId(2)));
    holds("WM_TRANSIENT_FOR", "not found");
    assert!(property(&xvfb, &parent, "WM_TRANSIENT_FOR").contains("not found"));
    agent.toplevel(1, "parent", |_| {});
    holds("WM_TRANSIENT_FOR", &id);

    agent.toplevel(2, "child", |t| {
        child(t);
        (t.modal, t.urgent) = (true, true);
    });
    holds("_NET_WM_STATE", "_NET_WM_STATE_MODAL");
    holds("_NET_WM_STATE", "_NET_WM_STATE_DEMANDS_ATTENTION");
    holds("WM_HINTS", "urgency hint");
    agent.toplevel(2, "child", |t| {
        child(t);
        t.no_focus = false;
        t.urgent = true;
    });
    holds("WM_HINTS", "focus: True");
    xvfb.click(&window);
    eventually("no urgency", || {
        let calm = !property(&xvfb, &window, "WM_HINTS").contains("urgency")
            && !property(&xvfb, &window, "_NET_WM_STATE").contains("ATTENTION");
        calm.then_some(())
    });
    assert!(!property(&xvfb, &window, "_NET_WM_STATE").contains("MODAL"));
    agent.send(&Request::RoleGone { surface: SurfaceId(1) });
    holds("WM_TRANSIENT_FOR", "not found");
    agent.send(&Request::Icons { surface: SurfaceId(2), icons: vec![] });
    // openbox gives such a window an icon of its own.
    eventually("no icon", || (!icon().contains(&words)).then_some(()));
}

#[test]
fn the_agent_learns_where_windows_are() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "placed", Size::new(300, 200));
    let window = xvfb.find("placed");
    let told = |agent: &mut Agent, at: Point| {
        agent.until(&format!("{at:?}"), |e| {
            matches!(e, Event::Place { surface: SurfaceId(1), at: told } if *told == at).then_some(())
        });
    };
    let corner = |window: &str| {
        let area = xvfb.area(window);
        Point::new(area.x, area.y)
    };
    xvfb.xdotool(&["windowmove", "--sync", &window, "211", "123"]);
    told(&mut agent, corner(&window));
    agent.events.clear();
    for step in 0..20 {
        let x = (300 + 5 * step).to_string();
        xvfb.xdotool(&["windowmove", &window, &x, "200"]);
    }
    xvfb.xdotool(&["windowmove", "--sync", &window, "500", "222"]);
    told(&mut agent, corner(&window));
    // Everything is told again to an agent that asks.
    agent.events.clear();
    agent.send(&Request::SayAgain);
    told(&mut agent, corner(&window));
}

#[test]
fn an_app_that_does_not_answer_can_be_forced_to_close() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "stuck", Size::new(300, 200));
    let window = xvfb.find("stuck");
    let close = |agent: &mut Agent| {
        agent.events.clear();
        xvfb.click(&window);
        xvfb.xdotool(&["key", "alt+F4"]);
        agent.until("close", |e| matches!(e, Event::Close { .. }).then_some(()));
        agent.until("a ping", |e| match e {
            Event::Ping { serial, .. } => Some(*serial),
            _ => None,
        })
    };
    // It answers in time: nobody is asked.
    let serial = close(&mut agent);
    agent.send(&Request::Pong { surface: SurfaceId(1), serial });
    agent.listen(Duration::from_secs(6));
    assert!(xvfb.is_gone("Inlay"));

    // It answers late: the question goes.
    let begin = Instant::now();
    let serial = close(&mut agent);
    let question = xvfb.find("Inlay");
    assert!(begin.elapsed() >= Duration::from_secs(5));
    assert!(property(&xvfb, &question, "WM_TRANSIENT_FOR").contains("0x"));
    agent.send(&Request::Pong { surface: SurfaceId(1), serial: serial.wrapping_add(9) });
    agent.listen(Duration::from_millis(300));
    assert!(!xvfb.is_gone("Inlay"), "another serial is no answer");
    agent.send(&Request::Pong { surface: SurfaceId(1), serial });
    eventually("the question's end", || xvfb.is_gone("Inlay").then_some(()));

    // Keys wait; they never force.
    for key in ["Escape", "Return"] {
        close(&mut agent);
        let question = xvfb.find("Inlay");
        eventually("the question's focus", || {
            (xvfb.xdotool(&["getwindowfocus"]).trim() == question).then_some(())
        });
        // It takes no key before it can have been seen.
        eventually("the question's end", || {
            xvfb.xdotool(&["key", key]);
            xvfb.is_gone("Inlay").then_some(())
        });
    }

    close(&mut agent);
    let question = xvfb.area(&xvfb.find("Inlay"));
    // The right one of the two buttons at the lower right.
    let button =
        (question.x + question.width.cast_signed() - 40, question.y + question.height.cast_signed() - 30);
    assert_eq!(agent.has(|e| matches!(e, Event::Kill { .. })), 0);
    std::thread::sleep(Duration::from_millis(600));
    xvfb.xdotool(&["mousemove", &button.0.to_string(), &button.1.to_string(), "click", "1"]);
    agent.until("kill", |e| matches!(e, Event::Kill { surface: SurfaceId(1) }).then_some(()));
    eventually("the question's end", || xvfb.is_gone("Inlay").then_some(()));

    // The window's own end takes it away too.
    close(&mut agent);
    xvfb.find("Inlay");
    agent.send(&Request::RoleGone { surface: SurfaceId(1) });
    eventually("the question's end", || xvfb.is_gone("Inlay").then_some(()));
}

#[test]
fn windows_of_another_workspace_upload_nothing() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "hidden", Size::new(300, 200));
    xvfb.find("hidden");
    xvfb.xdotool(&["set_desktop", "1"]);
    eventually("an empty workspace", || xvfb.is_gone("hidden").then_some(()));
    agent.listen(Duration::from_millis(300));
    let number = agent.paint(1, Size::new(300, 200), GREEN);
    let released = |e: &Event| matches!(e, Event::Release { number: n, .. } if *n == number);
    agent.listen(Duration::from_millis(700));
    assert_eq!(agent.has(released), 0);
    xvfb.xdotool(&["set_desktop", "0"]);
    agent.until("the release", |e| released(e).then_some(()));
    let window = xvfb.find("hidden");
    let at = xvfb.area(&window);
    eventually("its pixels", || xvfb.shows((at.x + 20, at.y + 20), GREEN).then_some(()));
}

#[test]
fn new_windows_take_the_focus_only_from_their_own() {
    let xvfb = Xvfb::start();
    let mut one = Agent::start(Screen::X11(&xvfb.display));
    one.window(1, "one", Size::new(300, 200));
    xvfb.click(&xvfb.find("one"));
    let mut two = Agent::start(Screen::X11(&xvfb.display));
    two.window(1, "two", Size::new(300, 200));
    let window = xvfb.find("two");
    xvfb.xdotool(&["windowmove", "--sync", &window, "600", "400"]);
    xvfb.click(&window);
    // Window managers compare the times at which the user last did something in the apps.
    let time = |title: &str| {
        let text = property(&xvfb, &xvfb.find(title), "_NET_WM_USER_TIME");
        text.trim().rsplit(' ').next().and_then(|t| t.parse::<u32>().ok())
    };
    let (first, second) = (time("one").unwrap(), time("two").unwrap());
    assert!(first < second, "{first} {second}");
    one.window(2, "thief", Size::new(200, 150));
    assert_eq!(time("thief"), Some(first));
    two.window(2, "own", Size::new(200, 150));
    assert_eq!(time("own"), Some(second));
    let own = xvfb.find("own");
    eventually("the focus", || (xvfb.xdotool(&["getwindowfocus"]).trim() == own).then_some(()));
    // One that the user starts is like that of any new app, once.
    api::launched(&one.socket()).unwrap();
    one.window(3, "started", Size::new(200, 150));
    assert_eq!(time("started"), None);
    one.window(4, "later", Size::new(200, 150));
    assert_eq!(time("later"), Some(first));
}

#[test]
fn however_often_it_is_asked_for_it_is_told_once_a_tick() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "calm", Size::new(300, 200));
    xvfb.find("calm");
    agent.listen(Duration::from_millis(500));
    agent.events.clear();
    let begin = Instant::now();
    for n in 0..5000_u32 {
        agent.connection.queue(&Request::SayAgain).unwrap();
        agent.connection.queue(&Request::Cursor(Cursor::Named(format!("cursor-{n}")))).unwrap();
        if n % 100 == 0 {
            agent.send(&Request::SayAgain);
        }
    }
    agent.toplevel(1, "told", |_| {});
    xvfb.find("told");
    agent.listen(Duration::from_millis(300));
    let ticks = usize::try_from(begin.elapsed().as_millis() / 16).unwrap() + 2;
    let outputs = agent.has(|e| matches!(e, Event::Outputs(_)));
    assert!((1..=ticks).contains(&outputs) && outputs < 1000, "{outputs} times in {ticks} ticks");
    let keymaps = agent.has(|e| matches!(e, Event::Input(InputEvent::Keymap(_))));
    assert_eq!(keymaps, outputs);
}

#[test]
fn another_layout_is_told_and_the_same_is_not() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "typed", Size::new(300, 200));
    xvfb.click(&xvfb.find("typed"));
    let keymaps = |agent: &Agent| -> Vec<String> {
        let text = |e: &Event| match e {
            Event::Input(InputEvent::Keymap(text)) => Some(text.clone()),
            _ => None,
        };
        agent.events.iter().filter_map(text).collect()
    };
    agent.listen(Duration::from_millis(500));
    assert_eq!(keymaps(&agent).len(), 1);
    let set = |layout: &str| xvfb.tool("setxkbmap", &["-layout", layout, "-option", "grp:caps_toggle"]);
    set("us,de");
    agent.until("a keymap with umlauts", |e| {
        matches!(e, Event::Input(InputEvent::Keymap(text)) if text.contains("udiaeresis")).then_some(())
    });
    agent.listen(Duration::from_millis(700));
    let after = keymaps(&agent).len();
    assert!(after <= 4, "{after} keymaps for one change");
    // A dead key is in it for the app to compose with.
    assert!(keymaps(&agent).last().unwrap().contains("dead_circumflex"));
    set("us,de");
    agent.listen(Duration::from_millis(700));
    assert_eq!(keymaps(&agent).len(), after, "nothing changed");
    // The group travels as a modifier.
    // Caps Lock, by its keycode: it has another meaning now.
    xvfb.xdotool(&["key", "66"]);
    agent.until("the other group", |e| {
        matches!(e, Event::Input(InputEvent::Modifiers(m)) if m.group == 1).then_some(())
    });
}

#[test]
fn a_key_that_is_pressed_as_the_focus_comes_is_a_press() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    let windows = [(1, "typed"), (2, "beside")].map(|(surface, title)| {
        agent.window(surface, title, Size::new(300, 200));
        xvfb.find(title).parse::<u32>().unwrap()
    });
    let (x, _) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let focus =
        |window| x.set_input_focus(InputFocus::POINTER_ROOT, window, x11rb::CURRENT_TIME).map(drop).unwrap();
    let key = |kind: u8, key: u8| {
        x.xtest_fake_input(kind, key + 8, 0, x11rb::NONE, 0, 0, 0).unwrap();
    };
    let entered = |agent: &mut Agent, window: u32| {
        agent.until("the focus", |e| match e {
            Event::Input(InputEvent::KeyboardEnter { surface, keys, modifiers })
                if *surface == SurfaceId(window) =>
            {
                Some((keys.clone(), modifiers.depressed))
            }
            _ => None,
        })
    };
    focus(windows[1]);
    x.flush().unwrap();
    entered(&mut agent, 2);
    agent.listen(Duration::from_millis(300));
    agent.events.clear();
    // The display has all of it before the window process hears of any: one key is held as the focus comes, the other not.
    let process = Pid::from_raw(agent.process_id().cast_signed()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    key(KEY_PRESS_EVENT, SHIFT);
    focus(windows[0]);
    key(KEY_PRESS_EVENT, A);
    x.get_input_focus().unwrap().reply().unwrap();
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!(entered(&mut agent, 1), (vec![u32::from(SHIFT)], 1));
    agent.until("the press", |e| {
        matches!(e, Event::Input(InputEvent::Key { key, pressed: true, .. }) if *key == u32::from(A))
            .then_some(())
    });
    for up in [A, SHIFT] {
        key(KEY_RELEASE_EVENT, up);
        x.flush().unwrap();
        agent.until("the release", |e| {
            matches!(e, Event::Input(InputEvent::Key { key, pressed: false, .. }) if *key == u32::from(up))
                .then_some(())
        });
    }
}

#[test]
fn a_surface_that_becomes_a_cursor_is_asked_for_again() {
    let mut agent = Agent::start(Screen::None);
    agent.paint(9, Size::new(16, 16), GREEN);
    agent.until("the release", |e| matches!(e, Event::Release { .. }).then_some(()));
    let cursor = Request::Cursor(Cursor::Surface { surface: SurfaceId(9), hotspot: Point::new(1, 1) });
    agent.send(&cursor);
    agent.send(&cursor);
    agent.until("a refresh", |e| matches!(e, Event::Refresh { surface: Some(SurfaceId(9)) }).then_some(()));
    agent.listen(Duration::from_millis(200));
    assert_eq!(agent.has(|e| matches!(e, Event::Refresh { .. })), 1);
}

#[test]
fn an_app_may_raise_a_window_of_its_own_machine_and_the_launchers_wait_ends() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    let launched = api::ApiRequest::Launched(Some("launcher-1_TIME77".to_owned()));
    api::ask(&agent.socket(), &launched).unwrap();
    agent.window(1, "first", Size::new(200, 150));
    let first = xvfb.find("first");
    let startup = |window: &str| property(&xvfb, window, "_NET_STARTUP_ID");
    assert!(startup(&first).ends_with("= \"launcher-1_TIME77\"\n"), "{}", startup(&first));
    assert!(property(&xvfb, &first, "_NET_WM_USER_TIME").ends_with("= 77\n"));
    agent.window(2, "second", Size::new(200, 150));
    let second = xvfb.find("second");
    assert!(startup(&second).contains("not found"));

    let focused = || xvfb.xdotool(&["getwindowfocus"]).trim().to_owned();
    xvfb.click(&first);
    agent.send(&Request::Act { surface: SurfaceId(2), act: Act::Activate });
    eventually("the focus of the other", || (focused() == second).then_some(()));
    // Elsewhere the user is not disturbed.
    let mut other = std::process::Command::new("xterm");
    let _other = common::Process::spawn(other.args(["-T", "elsewhere"]).env("DISPLAY", &xvfb.display));
    let elsewhere = xvfb.find("elsewhere");
    xvfb.click(&elsewhere);
    agent.send(&Request::Act { surface: SurfaceId(1), act: Act::Activate });
    eventually("attention", || {
        property(&xvfb, &first, "_NET_WM_STATE").contains("_NET_WM_STATE_DEMANDS_ATTENTION").then_some(())
    });
    assert_eq!(focused(), elsewhere);
}

#[test]
fn the_screen_stays_on_as_long_as_an_app_wants() {
    use x11rb::connection::Connection as _;
    use x11rb::protocol::screensaver::ConnectionExt as _;
    use x11rb::protocol::xproto::{Blanking, ConnectionExt as _, Exposures};

    let xvfb = Xvfb::start();
    let (x, screen) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let root = x.setup().roots[screen].root;
    let saver = || x.screensaver_query_info(root).unwrap().reply().unwrap().state;
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.toplevel(1, "video", |toplevel| toplevel.keeps_awake = true);
    agent.paint(1, Size::new(200, 150), RED);
    xvfb.find("video");
    // The server's saver begins after a second without input.
    x.set_screen_saver(1, 0, Blanking::PREFERRED, Exposures::ALLOWED).unwrap().check().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(saver(), 0, "the saver is off");
    agent.toplevel(1, "video", |_| {});
    eventually("the saver", || (saver() == 1).then_some(()));
}

/// The window manager's part of `_NET_WM_SYNC_REQUEST`.
#[test]
fn a_resize_goes_on_when_the_content_of_the_new_size_is_shown() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "in step", Size::new(300, 200));
    let window = xvfb.find("in step");
    assert!(property(&xvfb, &window, "WM_PROTOCOLS").contains("_NET_WM_SYNC_REQUEST"));
    let (connection, _) = x11rb::connect(Some(&xvfb.display)).unwrap();
    connection.sync_initialize(3, 1).unwrap().reply().unwrap();
    let atom = |name: &str| connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    let [protocols, request, property] =
        ["WM_PROTOCOLS", "_NET_WM_SYNC_REQUEST", "_NET_WM_SYNC_REQUEST_COUNTER"].map(atom);
    let xid: u32 = window.parse().unwrap();
    let counter = connection.get_property(false, xid, property, AtomEnum::CARDINAL, 0, 1).unwrap();
    let counter = counter.reply().unwrap().value32().unwrap().next().unwrap();
    let value = || connection.sync_query_counter(counter).unwrap().reply().unwrap().counter_value.lo;
    assert_eq!(value(), 0);
    let ask = |number: u32| {
        let event = ClientMessageEvent::new(32, xid, protocols, [request, 0, number, 0, 0]);
        connection.send_event(false, xid, EventMask::NO_EVENT, event).unwrap();
        connection.flush().unwrap();
    };

    agent.events.clear();
    ask(7);
    xvfb.xdotool(&["windowsize", &window, "420", "310"]);
    let serial = agent.until("the new size", |e| match e {
        Event::ConfigureToplevel { serial, size: Some(size), .. } if *size == Size::new(420, 310) => {
            Some(*serial)
        }
        _ => None,
    });
    // Content of the old size is no answer.
    agent.paint(1, Size::new(300, 200), GREEN);
    agent.listen(Duration::from_millis(60));
    assert_eq!(value(), 0, "before its app drew the new size");
    let bytes = RED.repeat(420 * 310);
    agent.show(1, Size::new(420, 310), &bytes, |commit| commit.acked = Some(serial));
    eventually("the number", || (value() == 7).then_some(()));

    // A window that is only moved shows nothing new, and keeps nobody waiting.
    ask(9);
    xvfb.xdotool(&["windowmove", &window, "400", "300"]);
    eventually("the next number", || {
        agent.listen(Duration::from_millis(20));
        (value() == 9).then_some(())
    });
}

#[test]
fn windows_come_up_where_their_x11_apps_put_them() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "by itself", Size::new(300, 200));
    let frame = xvfb.frame(&xvfb.find("by itself"));
    // The window manager would choose others, a corner for a child that is no dialog.
    let (inside, corner) = (Point::new(370, 290), Point::new(0, 0));
    for (surface, place, by_user, content) in [
        (2, inside, true, inside),
        (3, Point::new(611, 333), false, Point::new(611, 333)),
        // Its frame is to be seen as well.
        (4, corner, true, frame),
    ] {
        agent.toplevel(surface, &format!("put {surface}"), |toplevel| {
            toplevel.place = Some(Placed { at: place, by_user });
            toplevel.parent = (!by_user).then_some(SurfaceId(1));
        });
        agent.paint(surface, Size::new(250, 150), GREEN);
        let window = xvfb.find(&format!("put {surface}"));
        eventually("its place", || (xvfb.corner(&window) == Some(content)).then_some(()));
    }
    // Where no monitor is nobody would find it.
    agent.toplevel(5, "lost", |toplevel| {
        toplevel.place = Some(Placed { at: Point::new(5_000, -4_000), by_user: true });
    });
    agent.paint(5, Size::new(250, 150), GREEN);
    let Point { x, y } = xvfb.corner(&xvfb.find("lost")).unwrap();
    assert!((0..1280).contains(&x) && (0..900).contains(&y), "{x} {y}");
}

/// A terminal rounds each size to its cells. However slow it is, and however late its answer is looked at, it takes nothing back
/// from the size that the user wants by then.
#[test]
fn what_answers_an_earlier_size_undoes_no_later_one() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "rounds", Size::new(300, 200));
    let window = xvfb.find("rounds");
    let resize = |size: Size| {
        xvfb.xdotool(&["windowsize", &window, &size.width.to_string(), &size.height.to_string()]);
    };
    let told = |agent: &mut Agent, size: Size| {
        agent.until("a size", |e| match e {
            Event::ConfigureToplevel { serial, size: Some(told), .. } if *told == size => Some(*serial),
            _ => None,
        })
    };
    let answer = |agent: &mut Agent, serial: u32, size: Size| {
        let bytes = GREEN.repeat((size.width * size.height) as usize);
        agent.show(1, size, &bytes, |commit| commit.acked = Some(serial));
    };
    let shown = || {
        let geometry = xvfb.xdotool(&["getwindowgeometry", "--shell", &window]);
        let number = |name: &str| {
            geometry.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u32>().unwrap()
        };
        Size::new(number("WIDTH="), number("HEIGHT="))
    };
    let [first, second, third] = [400, 500, 600].map(|width| Size::new(width, width - 100));
    let rounded = |size: Size| Size::new(size.width - 7, size.height - 9);

    resize(first);
    let serial = told(&mut agent, first);
    answer(&mut agent, serial, rounded(first));
    // The next size, and the moment at which the window would take the app's, are one to a process that was kept from both.
    agent.listen(Duration::from_millis(150));
    let process = Pid::from_raw(agent.process_id().cast_signed()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    resize(second);
    eventually("the next size", || (shown() == second).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    kill_process(process, Signal::CONT).unwrap();
    let serial = told(&mut agent, second);
    agent.listen(Duration::from_millis(300));
    assert_eq!(shown(), second, "an answer to the size before");
    answer(&mut agent, serial, rounded(second));
    eventually("the size of its app", || (shown() == rounded(second)).then_some(()));

    // The user goes on before the window took the app's size, and the app takes its time.
    resize(first);
    let serial = told(&mut agent, first);
    agent.events.clear();
    answer(&mut agent, serial, rounded(first));
    resize(third);
    let late = told(&mut agent, third);
    for _ in 0..20 {
        // What moves in it goes on meanwhile.
        answer(&mut agent, serial, rounded(first));
        agent.listen(Duration::from_millis(100));
    }
    assert_eq!(shown(), third, "of a slow app");
    answer(&mut agent, late, rounded(third));
    eventually("the size of its app", || (shown() == rounded(third)).then_some(()));
}

#[test]
fn windows_have_the_scale_of_the_display() {
    let xvfb = Xvfb::start();
    let (x, screen) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let root = x.setup().roots[screen].root;
    let resources = |text: &str| {
        let (replace, name) = (xproto::PropMode::REPLACE, AtomEnum::RESOURCE_MANAGER);
        x.change_property8(replace, root, name, AtomEnum::STRING, text.as_bytes()).unwrap();
        x.flush().unwrap();
    };
    resources("*foreground:\tblack\nXft.dpi:\t192\n");
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    let outputs = |e: &Event| match e {
        Event::Outputs(outputs) => Some((outputs[0].area, outputs[0].scale_120)),
        _ => None,
    };
    assert_eq!(agent.until("the monitors", outputs), (Rect::new(0, 0, 640, 450), 240));

    // Twice as many pixels, each of them where it belongs.
    let logical = Size::new(200, 100);
    let pixels: Vec<u8> =
        (0..400 * 200).flat_map(|at| if at == 400 * 199 + 399 { GREEN } else { RED }).collect();
    agent.toplevel(1, "sharp", |_| {});
    agent.show(1, Size::new(400, 200), &pixels, |commit| (commit.size, commit.scale) = (logical, 2));
    let window = xvfb.find("sharp");
    let at = xvfb.area(&window);
    assert_eq!((at.width, at.height), (400, 200));
    eventually("its last pixel", || xvfb.shows((at.x + 399, at.y + 199), GREEN).then_some(()));
    assert!(xvfb.shows((at.x + 398, at.y + 199), RED) && xvfb.shows((at.x, at.y), RED));
    let shown = |e: &Event| match e {
        Event::Shown { surface: SurfaceId(1), scale_120, .. } => Some(*scale_120),
        _ => None,
    };
    assert_eq!(agent.until("its scale", shown), 240);

    xvfb.xdotool(&["mousemove", "--window", &window, "100", "61"]);
    let pointer = |e: &Event| match e {
        Event::Input(InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. }) => {
            ((*x, *y) == (50.0, 30.5)).then_some(())
        }
        _ => None,
    };
    agent.until("the pointer", pointer);
    agent.popup(2, 1, Rect::new(10, 20, 50, 30), PopupKind::Menu);
    agent.paint(2, Size::new(50, 30), GREEN);
    eventually("its menu", || {
        sized(&xvfb, (100, 60))
            .iter()
            .any(|(_, place)| *place == Point::new(at.x + 20, at.y + 40))
            .then_some(())
    });

    let configured = |e: &Event| match e {
        Event::ConfigureToplevel { surface: SurfaceId(1), size, .. } => *size,
        _ => None,
    };
    agent.events.clear();
    xvfb.xdotool(&["windowsize", &window, "500", "300"]);
    agent.until("another size", |e| configured(e).filter(|size| *size == Size::new(250, 150)));
    // The user chooses another scale: the window's pixels are more of the app's.
    agent.events.clear();
    resources("Xft.dpi:\t120\n");
    assert_eq!(agent.until("the monitors", outputs), (Rect::new(0, 0, 1024, 720), 150));
    agent.until("the new size", |e| configured(e).filter(|size| *size == Size::new(400, 240)));
    assert_eq!(agent.until("the new scale", shown), 150);
}

#[test]
fn a_window_manager_hears_that_windows_are_alive() {
    let xvfb = Xvfb::start();
    let (x, screen) = x11rb::connect(Some(&xvfb.display)).unwrap();
    let root = x.setup().roots[screen].root;
    let mut agent = Agent::start(Screen::X11(&xvfb.display));
    agent.window(1, "alive", Size::new(120, 80));
    let window: u32 = xvfb.find("alive").trim().parse().unwrap();
    let id = window.to_string();
    let owner = property(&xvfb, &id, "_NET_WM_PID");
    let pid = agent.process_id().to_string();
    assert!(owner.trim().ends_with(&format!("= {pid}")), "{owner} is not {pid}");
    let machine = property(&xvfb, &id, "WM_CLIENT_MACHINE");
    let name = rustix::system::uname();
    assert!(machine.contains(name.nodename().to_str().unwrap()), "{machine}");

    let aux = xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
    x.change_window_attributes(root, &aux).unwrap();
    let atom = |name: &str| x.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    let (protocols, ping) = (atom("WM_PROTOCOLS"), atom("_NET_WM_PING"));
    let event = ClientMessageEvent::new(32, window, protocols, [ping, 4711, window, 0, 0]);
    x.send_event(false, window, EventMask::NO_EVENT, event).unwrap();
    x.flush().unwrap();
    eventually("the answer", || {
        while let Some(event) = x.poll_for_event().unwrap() {
            if let x11rb::protocol::Event::ClientMessage(e) = event
                && (e.window, e.type_, e.data.as_data32()) == (root, protocols, [ping, 4711, window, 0, 0])
            {
                return Some(());
            }
        }
        None
    });
}
