//! X11 apps through the real Xwayland: what the host is told of them, and what reaches them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use inlay_protocol::control::Command;
use inlay_protocol::display::{Act, Edges, Event, Output, Place, Placed, Request, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};
use x11rb::connection::Connection as _;
use x11rb::properties::{WmHints, WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::Event as XEvent;
use x11rb::protocol::shape::{ConnectionExt as _, SK, SO};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ClipOrdering, ConfigureWindowAux, ConnectionExt as _, GrabMode,
    Rectangle, Window,
};

use crate::client::Client;
use crate::host::{Host, Manners, POLITE};
use crate::xclient::XClient;

/// What the host knows of windows, as text; surfaces are numbered in the order of their ids.
fn told(host: &Host) -> String {
    let all: Vec<SurfaceId> = host.toplevels.keys().chain(host.popups.keys()).copied().collect();
    let mut ids = all.clone();
    ids.sort();
    let name = |id: SurfaceId| format!("w{}", ids.iter().position(|i| *i == id).unwrap() + 1);
    let mut text = String::new();
    for (id, t) in &host.toplevels {
        let size = |s: Size| format!("{}x{}", s.width, s.height);
        let sizes = [t.min_size, t.max_size, t.base_size, t.increment].map(size).join(" ");
        write!(
            text,
            "{} toplevel {:?} {:?} {:?} {:?} sizes {sizes}",
            name(*id),
            t.title,
            t.app_id,
            t.kind,
            t.decoration
        )
        .unwrap();
        if let Some(parent) = t.parent {
            write!(text, " of {}", name(parent)).unwrap();
        }
        for (on, word) in [(t.modal, "modal"), (t.urgent, "urgent"), (t.no_focus, "no-focus")] {
            text.push_str(if on { " " } else { "" });
            text.push_str(if on { word } else { "" });
        }
        text.push('\n');
    }
    for (id, p) in &host.popups {
        let Place::Fixed(Rect { x, y, width, height }) = p.place else { panic!("{p:?}") };
        let grab = if p.grab { " grab" } else { "" };
        let (id, parent) = (name(*id), name(p.parent));
        writeln!(text, "{id} popup of {parent} at {x},{y} {width}x{height} {:?}{grab}", p.kind).unwrap();
    }
    text
}

/// A host with a mapped window of 200 x 100 whose content begins at 300,200 of the desktop.
fn with_window() -> (Host, XClient, Window, SurfaceId) {
    let mut host = Host::start();
    let mut x = XClient::new(&host);
    let window = x.create((0, 0, 200, 100), 0x0033_6699, false);
    x.text(window, AtomEnum::WM_NAME, b"main");
    x.text(window, AtomEnum::WM_CLASS, b"app\0App\0");
    x.atoms(window, "WM_PROTOCOLS", &["WM_DELETE_WINDOW", "_NET_WM_PING"]);
    x.map(window);
    let id = host.until_mapped();
    host.send(&Event::Place { surface: id, at: Point::new(300, 200) });
    x.until(&mut host, "its place", |e| match e {
        XEvent::ConfigureNotify(e) if (e.x, e.y) == (300, 200) => Some(()),
        _ => None,
    });
    (host, x, window, id)
}

fn focus(host: &mut Host, x: &mut XClient, window: Window, surface: SurfaceId) {
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![], modifiers: Modifiers::default() });
    x.until(host, "the focus", |e| matches!(e, XEvent::FocusIn(e) if e.event == window).then_some(()));
}

#[test]
fn a_window_is_told_with_its_hints_and_its_pixels() {
    let mut host = Host::start();
    let x = XClient::new(&host);
    let main = x.create((10, 20, 200, 100), 0x0033_6699, false);
    x.text(main, AtomEnum::WM_NAME, b"caf\xe9");
    x.text(main, AtomEnum::WM_CLASS, b"term\0XTerm\0");
    let hints = WmSizeHints {
        min_size: Some((10, 17)),
        base_size: Some((4, 4)),
        size_increment: Some((6, 13)),
        ..WmSizeHints::new()
    };
    hints.set_normal_hints(&x.c, main).unwrap();
    x.map(main);
    let id = host.until_mapped();
    let told_main = "w1 toplevel \"café\" \"XTerm\" Normal ServerSide sizes 10x17 0x0 4x4 6x13";
    assert_eq!(told(&host), format!("{told_main}\n"));
    assert!(host.pixels(id).chunks(4).all(|p| p[..3] == [0x99, 0x66, 0x33]), "blue, green, red");

    let dialog = x.create((0, 0, 50, 40), 0, false);
    x.numbers(dialog, AtomEnum::WM_TRANSIENT_FOR.into(), AtomEnum::WINDOW, &[main]);
    let name = x.atom("_NET_WM_NAME");
    x.c.change_property(
        x11rb::protocol::xproto::PropMode::REPLACE,
        dialog,
        name,
        x.atom("UTF8_STRING"),
        8,
        5,
        "żó!".as_bytes(),
    )
    .unwrap();
    x.atoms(dialog, "_NET_WM_STATE", &["_NET_WM_STATE_MODAL"]);
    x.numbers(dialog, x.atom("_MOTIF_WM_HINTS"), x.atom("_MOTIF_WM_HINTS"), &[2, 0, 0, 0, 0]);
    WmHints { input: Some(false), urgent: true, ..WmHints::new() }.set(&x.c, dialog).unwrap();
    x.map(dialog);
    host.until("the dialog", |host| host.toplevels.len() == 2);
    let told_dialog =
        "w2 toplevel \"żó!\" \"\" Dialog ClientSide sizes 0x0 0x0 0x0 0x0 of w1 modal urgent no-focus";
    assert_eq!(told(&host), format!("{told_main}\n{told_dialog}\n"));

    x.text(main, AtomEnum::WM_NAME, b"another");
    x.ask(main, "_NET_ACTIVE_WINDOW", [1, 0, 0, 0, 0]);
    host.until("the new title", |host| host.toplevels[&id].title == "another");
    host.until("it wants attention", |host| host.toplevels[&id].urgent);
    x.c.destroy_window(dialog).unwrap();
    x.c.unmap_window(main).unwrap();
    x.c.flush().unwrap();
    host.until("both are gone", |host| host.toplevels.is_empty());
    x.map(main);
    assert_ne!(host.until_mapped(), id, "mapped again it has another surface");
}

#[test]
fn where_an_app_puts_a_window_is_told_once() {
    use WmSizeHintsSpecification::{ProgramSpecified, UserSpecified};

    let mut host = Host::start();
    let x = XClient::new(&host);
    let put = |at: (i16, i16), by: Option<WmSizeHintsSpecification>| {
        let window = x.create((at.0, at.1, 200, 100), 0, false);
        let position = by.map(|by| (by, at.0.into(), at.1.into()));
        WmSizeHints { position, ..WmSizeHints::new() }.set_normal_hints(&x.c, window).unwrap();
        x.map(window);
        window
    };
    let main = put((310, 220), Some(UserSpecified));
    let id = host.until_mapped();
    let place = |at: (i32, i32), by_user| Some(Placed { at: Point::new(at.0, at.1), by_user });
    assert_eq!(host.toplevels[&id].place, place((310, 220), true));
    // Later it is where the host has it.
    host.send(&Event::Place { surface: id, at: Point::new(40, 50) });
    x.text(main, AtomEnum::WM_NAME, b"renamed");
    x.c.flush().unwrap();
    host.until("the new title", |host| host.toplevels[&id].title == "renamed");
    assert_eq!(host.toplevels[&id].place, place((310, 220), true));
    let mut told = Vec::new();
    for (number, (at, by)) in
        [((60, 70), Some(ProgramSpecified)), ((0, 0), Some(ProgramSpecified)), ((80, 90), None)]
            .into_iter()
            .enumerate()
    {
        put(at, by);
        host.until("the next window", |host| host.toplevels.len() == number + 2);
        told.push(host.toplevels.values().last().unwrap().place);
    }
    assert_eq!(told, [place((60, 70), false), None, None]);
    // Another time it comes up where it was.
    x.c.unmap_window(main).unwrap();
    x.c.flush().unwrap();
    host.until("it is gone", |host| host.toplevels.len() == 3);
    x.map(main);
    host.until("it is there again", |host| host.toplevels.len() == 4);
    assert_eq!(host.toplevels.values().last().unwrap().place, place((40, 50), true));
}

#[test]
fn icons_and_shapes_are_told_and_taken_back() {
    let (mut host, x, window, id) = with_window();
    let icon = x.atom("_NET_WM_ICON");
    x.numbers(window, icon, AtomEnum::CARDINAL, &[1, 2, 0xff10_2030, 0x80ff_0000]);
    x.c.flush().unwrap();
    host.until("the icon", |host| host.icons.get(&id).is_some_and(|i| i.len() == 1));
    assert_eq!(host.icons[&id][0].size, Size::new(1, 2));
    assert_eq!(host.icons[&id][0].pixels, [0x30, 0x20, 0x10, 0xff, 0, 0, 0x80, 0x80]);
    x.c.delete_property(window, icon).unwrap();
    x.c.flush().unwrap();
    host.until("no icon", |host| host.icons[&id].is_empty());

    let rects = [
        Rectangle { x: 0, y: 0, width: 200, height: 50 },
        Rectangle { x: 50, y: 50, width: 100, height: 50 },
    ];
    x.c.shape_rectangles(SO::SET, SK::BOUNDING, ClipOrdering::UNSORTED, window, 0, 0, &rects).unwrap();
    x.c.flush().unwrap();
    host.until("the shape", |host| host.shapes.get(&id).is_some_and(Option::is_some));
    let area = |r: &Rect| u64::from(r.width) * u64::from(r.height);
    let shape = host.shapes[&id].clone().unwrap();
    assert_eq!(shape.iter().map(area).sum::<u64>(), 200 * 50 + 100 * 50, "{shape:?}");
    x.c.shape_mask(SO::SET, SK::BOUNDING, window, 0, 0, x11rb::NONE).unwrap();
    x.c.flush().unwrap();
    host.until("no shape", |host| host.shapes[&id].is_none());
}

#[test]
fn menus_are_popups_at_their_offset() {
    let (mut host, x, window, id) = with_window();
    let menu = x.create((310, 230, 80, 60), 0, true);
    x.map(menu);
    host.until("the menu", |host| host.popups.len() == 1);
    let main = "w1 toplevel \"main\" \"App\" Normal ServerSide sizes 0x0 0x0 0x0 0x0\n";
    assert_eq!(told(&host), format!("{main}w2 popup of w1 at 10,30 80x60 Menu grab\n"));
    x.c.configure_window(menu, &ConfigureWindowAux::new().x(290).height(70)).unwrap();
    x.c.flush().unwrap();
    let moved = Place::Fixed(Rect::new(-10, 30, 80, 70));
    host.until("the menu moves", |host| host.popups.values().next().unwrap().place == moved);

    let tip = x.create((305, 305, 30, 10), 0, true);
    x.atoms(tip, "_NET_WM_WINDOW_TYPE", &["_NET_WM_WINDOW_TYPE_TOOLTIP"]);
    x.numbers(tip, AtomEnum::WM_TRANSIENT_FOR.into(), AtomEnum::WINDOW, &[window]);
    x.map(tip);
    host.until("the tool tip", |host| host.popups.len() == 2);
    let popups = "w2 popup of w1 at -10,30 80x70 Menu grab\nw3 popup of w1 at 5,105 30x10 Tooltip\n";
    assert_eq!(told(&host), format!("{main}{popups}"));
    // The parent is moved by the user: what is open stays beside it.
    host.send(&Event::Place { surface: id, at: Point::new(0, 0) });
    host.serve_for(Duration::from_millis(100));
    assert_eq!(told(&host), format!("{main}{popups}"));
    x.c.destroy_window(menu).unwrap();
    x.c.unmap_window(tip).unwrap();
    x.c.flush().unwrap();
    host.until("both are gone", |host| host.popups.is_empty());

    let mut host = Host::start();
    let x = XClient::new(&host);
    x.map(x.create((5, 5, 30, 30), 0, true));
    host.until_mapped();
    assert_eq!(
        told(&host),
        "w1 toplevel \"\" \"\" Normal ClientSide sizes 0x0 0x0 0x0 0x0\n",
        "nothing it belongs to"
    );
}

#[test]
fn the_host_sizes_and_places_a_window() {
    let (mut host, mut x, window, id) = with_window();
    let serial = host.configure(id, Some(Size::new(240, 130)), States::MAXIMIZED);
    x.until(&mut host, "its size", |e| match e {
        XEvent::ConfigureNotify(e) => ((e.x, e.y, e.width, e.height) == (300, 200, 240, 130)).then_some(()),
        _ => None,
    });
    host.until("it is drawn so", |host| host.surfaces[&id].size == Size::new(240, 130));
    host.until("and says so", |host| host.surfaces[&id].acked == Some(serial));
    let states = x.property(window, "_NET_WM_STATE");
    assert!(states.contains(&x.atom("_NET_WM_STATE_MAXIMIZED_VERT")), "{states:?}");
    // Maximised, its size is not the app's to choose; the place never is.
    let wish = ConfigureWindowAux::new().x(0).y(0).width(50).height(50);
    x.c.configure_window(window, &wish).unwrap();
    x.c.flush().unwrap();
    x.until(&mut host, "the answer", |e| match e {
        XEvent::ConfigureNotify(e) => ((e.x, e.y, e.width, e.height) == (300, 200, 240, 130)).then_some(()),
        _ => None,
    });
    let serial = host.configure(id, None, States::default());
    host.until("no size is answered too", |host| host.surfaces[&id].acked == Some(serial));
    x.c.configure_window(window, &wish).unwrap();
    x.c.flush().unwrap();
    host.until("its own size", |host| host.surfaces[&id].size == Size::new(50, 50));
    let place = x.c.get_geometry(window).unwrap().reply().unwrap();
    assert_eq!((place.x, place.y), (300, 200));
}

#[test]
fn shadows_are_not_part_of_the_window() {
    let (mut host, mut x, window, id) = with_window();
    x.numbers(window, x.atom("_GTK_FRAME_EXTENTS"), AtomEnum::CARDINAL, &[10, 20, 5, 15]);
    x.c.flush().unwrap();
    host.until("its geometry", |host| host.surfaces[&id].geometry == Some(Rect::new(10, 5, 170, 80)));
    let serial = host.configure(id, Some(Size::new(300, 200)), States::default());
    host.until("its size", |host| host.surfaces[&id].geometry == Some(Rect::new(10, 5, 300, 200)));
    assert_eq!(host.surfaces[&id].size, Size::new(330, 220));
    host.until("it is answered", |host| host.surfaces[&id].acked == Some(serial));
    host.send(&Event::Place { surface: id, at: Point::new(50, 60) });
    x.until(&mut host, "its place", |e| match e {
        XEvent::ConfigureNotify(e) => ((e.x, e.y) == (40, 55)).then_some(()),
        _ => None,
    });
}

#[test]
fn keys_and_pointer_arrive_where_the_host_says() {
    let (mut host, mut x, window, id) = with_window();
    focus(&mut host, &mut x, window, id);
    assert_eq!(x.property(x.root, "_NET_ACTIVE_WINDOW"), [window]);
    for (time_ms, pressed) in [(1000, true), (1010, false)] {
        host.input(InputEvent::Key { time_ms, key: 30, pressed });
    }
    let key =
        x.until(&mut host, "the key", |e| if let XEvent::KeyPress(e) = e { Some(e.detail) } else { None });
    assert_eq!(key, 38, "evdev's code and 8");
    host.input(InputEvent::PointerEnter { surface: id, x: 20.0, y: 10.0 });
    host.input(InputEvent::PointerMotion { time_ms: 1020, x: 21.0, y: 11.0 });
    host.input(InputEvent::PointerButton { time_ms: 1030, button: 0x110, pressed: true });
    let press =
        x.until(&mut host, "the press", |e| if let XEvent::ButtonPress(e) = e { Some(*e) } else { None });
    assert_eq!((press.event_x, press.event_y, press.root_x, press.root_y), (21, 11, 321, 211));
    // A menu opens below the held button: the pointer goes on into it, at its place.
    let menu = x.create((310, 230, 80, 60), 0, true);
    x.map(menu);
    host.until("the menu", |host| host.popups.len() == 1);
    let popup = *host.popups.keys().next().unwrap();
    host.until("it is drawn", |host| host.is_mapped(popup));
    host.input(InputEvent::PointerEnter { surface: popup, x: 5.0, y: 6.0 });
    host.input(InputEvent::PointerMotion { time_ms: 1040, x: 7.0, y: 8.0 });
    let at = x.until(&mut host, "the drag", |e| match e {
        XEvent::MotionNotify(e) if (e.root_x, e.root_y) == (317, 238) => Some((e.event_x, e.event_y)),
        _ => None,
    });
    assert_eq!(at, (17, 38), "the window where the button went down has it");
    host.input(InputEvent::PointerButton { time_ms: 1050, button: 0x110, pressed: false });
    host.input(InputEvent::PointerMotion { time_ms: 1060, x: 9.0, y: 9.0 });
    let into = x.until(&mut host, "the motion", |e| match e {
        XEvent::MotionNotify(e) if e.event == menu => Some((e.event_x, e.event_y)),
        _ => None,
    });
    assert_eq!(into, (9, 9));
    // Keys that the host aims at the menu reach the window that has the X focus.
    host.input(InputEvent::KeyboardEnter { surface: popup, keys: vec![], modifiers: Modifiers::default() });
    host.input(InputEvent::Key { time_ms: 1070, key: 31, pressed: true });
    let key = x.until(&mut host, "the key", |e| match e {
        XEvent::KeyPress(e) if e.detail == 39 => Some(e.event),
        _ => None,
    });
    assert_eq!(key, window);
    host.input(InputEvent::KeyboardLeave);
    x.until(&mut host, "no focus", |e| matches!(e, XEvent::FocusOut(e) if e.event == window).then_some(()));
}

#[test]
fn a_click_outside_reaches_the_menu_s_grab_as_one() {
    let (mut host, mut x, window, id) = with_window();
    focus(&mut host, &mut x, window, id);
    let menu = x.create((310, 230, 80, 60), 0, true);
    x.map(menu);
    host.until("the menu", |host| host.popups.len() == 1);
    let popup = *host.popups.keys().next().unwrap();
    host.until("it is drawn", |host| host.is_mapped(popup));
    let mask =
        x11rb::protocol::xproto::EventMask::BUTTON_PRESS | x11rb::protocol::xproto::EventMask::BUTTON_RELEASE;
    let (grab, now) = (GrabMode::ASYNC, x11rb::CURRENT_TIME);
    x.c.grab_pointer(true, menu, mask, grab, grab, x11rb::NONE, x11rb::NONE, now).unwrap().reply().unwrap();
    host.send(&Event::PopupDone { surface: popup });
    let press =
        x.until(&mut host, "the press", |e| if let XEvent::ButtonPress(e) = e { Some(*e) } else { None });
    let (at, areas) = ((press.root_x, press.root_y), [(300..500, 200..300), (310..390, 230..290)]);
    assert!(!areas.iter().any(|(h, v)| h.contains(&at.0) && v.contains(&at.1)), "{at:?} is inside");
    x.until(&mut host, "the release", |e| matches!(e, XEvent::ButtonRelease(_)).then_some(()));
    // An app that leaves it open has it hidden all the same, until it opens again.
    host.popups.clear();
    x.c.configure_window(menu, &ConfigureWindowAux::new().x(320)).unwrap();
    x.c.flush().unwrap();
    host.serve_for(Duration::from_millis(100));
    assert!(host.popups.is_empty());
    x.c.unmap_window(menu).unwrap();
    x.map(menu);
    host.until("the menu again", |host| host.popups.len() == 1);
}

#[test]
fn what_an_app_asks_of_its_window_is_the_host_s_to_do() {
    let (mut host, x, window, id) = with_window();
    let state = |name: &str| x.atom(&format!("_NET_WM_STATE_{name}"));
    let (vertical, horizontal, full) =
        (state("MAXIMIZED_VERT"), state("MAXIMIZED_HORZ"), state("FULLSCREEN"));
    x.ask(window, "_NET_WM_STATE", [1, vertical, horizontal, 1, 0]);
    x.ask(window, "_NET_WM_STATE", [2, full, 0, 1, 0]);
    x.ask(window, "_NET_WM_STATE", [0, full, 0, 1, 0]);
    x.ask(window, "WM_CHANGE_STATE", [3, 0, 0, 0, 0]);
    x.ask(window, "_NET_WM_MOVERESIZE", [0, 0, 8, 1, 1]);
    x.ask(window, "_NET_WM_MOVERESIZE", [0, 0, 4, 1, 1]);
    x.ask(window, "_GTK_SHOW_WINDOW_MENU", [2, 303, 204, 0, 0]);
    let wanted = [
        Act::Maximize,
        Act::Fullscreen,
        Act::Unfullscreen,
        Act::Minimize,
        Act::Move,
        Act::Resize(Edges::BOTTOM.with(Edges::RIGHT)),
        Act::WindowMenu(Point::new(3, 4)),
    ];
    let asked = |host: &Host, of: SurfaceId| -> Vec<Act> {
        let acts = host.requests.iter().filter_map(|r| match r {
            Request::Act { surface, act } if *surface == of => Some(*act),
            _ => None,
        });
        acts.collect()
    };
    host.until("all acts", |host| asked(host, id).len() == wanted.len());
    assert_eq!(asked(&host, id), wanted);
    // States that a window begins with.
    let second = x.create((0, 0, 20, 20), 0, false);
    x.atoms(second, "_NET_WM_STATE", &["_NET_WM_STATE_FULLSCREEN"]);
    x.map(second);
    host.until("it is told", |host| host.toplevels.len() == 2);
    let second = *host.toplevels.keys().find(|s| **s != id).unwrap();
    host.until("its first state", |host| asked(host, second) == [Act::Fullscreen]);
}

#[test]
fn windows_close_answer_pings_and_can_be_ended_by_force() {
    let (mut host, mut x, window, id) = with_window();
    let (protocols, ping) = (x.atom("WM_PROTOCOLS"), x.atom("_NET_WM_PING"));
    host.send(&Event::Ping { surface: id, serial: 77 });
    let data = x.until(&mut host, "the ping", |e| match e {
        XEvent::ClientMessage(e) if e.type_ == protocols => Some(e.data.as_data32()),
        _ => None,
    });
    assert_eq!(data[..3], [ping, 77, window]);
    x.ask(x.root, "WM_PROTOCOLS", data);
    let pong = Request::Pong { surface: id, serial: 77 };
    host.until("the pong", |host| host.requests.contains(&pong));
    host.send(&Event::Close { surface: id });
    let data = x.until(&mut host, "the close", |e| match e {
        XEvent::ClientMessage(e) if e.type_ == protocols => Some(e.data.as_data32()),
        _ => None,
    });
    assert_eq!(data[0], x.atom("WM_DELETE_WINDOW"));
    host.send(&Event::Kill { surface: id });
    host.until("its end", |host| host.toplevels.is_empty());
    assert!(
        x.c.get_input_focus().is_err() || x.c.get_input_focus().unwrap().reply().is_err(),
        "it is disconnected"
    );
}

#[test]
fn everything_is_told_again_to_another_window_process() {
    let (mut host, x, window, _) = with_window();
    x.numbers(window, x.atom("_NET_WM_ICON"), AtomEnum::CARDINAL, &[1, 1, 0xff10_2030]);
    x.map(x.create((310, 230, 80, 60), 0, true));
    host.until("the menu", |host| host.popups.len() == 1 && host.icons.len() == 1);
    let before = told(&host);
    host.drop_display();
    host.accept_display();
    host.until("all is told", |host| host.popups.len() == 1 && host.icons.len() == 1);
    assert_eq!(told(&host), before);
    host.until("with pixels", |host| {
        host.toplevels.keys().chain(host.popups.keys()).all(|id| host.is_mapped(*id))
    });
}

#[test]
fn xwayland_is_started_again_when_it_dies() {
    let (mut host, x, _, _) = with_window();
    let children = |host: &Host| -> Vec<i32> {
        let pid = host.agent.id();
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().map(|p| p.parse().unwrap()).collect()
    };
    let servers = children(&host);
    assert_eq!(servers.len(), 1, "only Xwayland");
    let mut wayland = Client::new(&host);
    let buffer = wayland.buffer(20, 20);
    let (_window, other) = wayland.mapped(&mut host, &buffer);
    let pid = rustix::process::Pid::from_raw(servers[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    host.until("its windows are gone", |host| host.toplevels.keys().eq([&other]));
    drop(x);
    let end = Instant::now() + Duration::from_secs(10);
    let again = loop {
        // It pauses after an early end; the client waits at the socket meanwhile.
        let x = XClient::new(&host);
        if x.c.get_input_focus().unwrap().reply().is_ok() {
            break x;
        }
        assert!(Instant::now() < end);
    };
    again.map(again.create((0, 0, 30, 30), 0, false));
    host.until("another window", |host| host.toplevels.len() == 2);
    assert_ne!(children(&host), servers);
}

/// What X clients can do wrong or by ill will must not hold up others.
#[test]
fn x_clients_that_misbehave_stop_nobody() {
    let (mut host, x, window, _) = with_window();
    // The server is grabbed: nothing of X11 goes on, Wayland apps do.
    x.c.grab_server().unwrap();
    x.text(window, AtomEnum::WM_NAME, b"during the grab");
    x.c.flush().unwrap();
    let mut wayland = Client::new(&host);
    let buffer = wayland.buffer(20, 20);
    let (_window, other) = wayland.mapped(&mut host, &buffer);
    host.send(&Event::Close { surface: other });
    host.until("it goes on", |host| host.is_mapped(other));
    x.c.ungrab_server().unwrap();
    x.c.flush().unwrap();
    host.until("X goes on", |host| host.toplevels.values().any(|t| t.title == "during the grab"));
    // Properties of wrong types and lengths.
    for (property, values) in [
        ("_NET_WM_ICON", vec![u32::MAX, u32::MAX, 7]),
        ("_GTK_FRAME_EXTENTS", vec![u32::MAX; 4]),
        ("_NET_WM_WINDOW_TYPE", vec![u32::MAX, 0]),
        ("WM_PROTOCOLS", vec![u32::MAX; 40]),
        ("_MOTIF_WM_HINTS", vec![2]),
        ("WM_NORMAL_HINTS", vec![u32::MAX; 3]),
        ("WM_HINTS", vec![u32::MAX; 2]),
        ("WM_TRANSIENT_FOR", vec![window]),
        ("_NET_WM_NAME", vec![0xffff_ffff; 500]),
    ] {
        for kind in [AtomEnum::CARDINAL, AtomEnum::STRING, AtomEnum::WM_SIZE_HINTS, AtomEnum::WM_HINTS] {
            x.numbers(window, x.atom(property), kind, &values);
        }
    }
    x.c.delete_property(window, x.atom("_NET_WM_NAME")).unwrap();
    for kind in
        ["WL_SURFACE_ID", "WL_SURFACE_SERIAL", "_NET_WM_STATE", "_NET_WM_MOVERESIZE", "WM_CHANGE_STATE"]
    {
        x.ask(window, kind, [u32::MAX; 5]);
        x.ask(0x7fff_ffff, kind, [1, 2, 3, 4, 5]);
    }
    // Transient for each other, and for themselves through others.
    let pair = [x.create((0, 0, 9, 9), 0, false), x.create((0, 0, 9, 9), 0, true)];
    for (one, other) in [(0, 1), (1, 0)] {
        x.numbers(pair[one], AtomEnum::WM_TRANSIENT_FOR.into(), AtomEnum::WINDOW, &[pair[other]]);
    }
    pair.iter().for_each(|w| x.map(*w));
    // Windows that come and go at once, and change their kind.
    for turn in 0..300_u32 {
        let quick = x.create((1, 1, 5, 5), turn, turn % 2 == 0);
        x.map(quick);
        let aux = ChangeWindowAttributesAux::new().override_redirect(turn % 3);
        let _ = x.c.change_window_attributes(quick, &aux);
        x.c.destroy_window(quick).unwrap();
    }
    for turn in 0..3000_u32 {
        x.text(window, AtomEnum::WM_NAME, format!("title {turn}").as_bytes());
    }
    x.c.flush().unwrap();
    host.until("the last title", |host| host.toplevels.values().any(|t| t.title == "title 2999"));
    host.manners = Manners { tick: true, ..POLITE };
    let (later, later_id) = wayland.mapped(&mut host, &buffer);
    assert!(host.is_mapped(later_id));
    drop(later);
    assert!(host.count().resident_bytes < 200 << 20, "memory stays bounded");
}

#[test]
fn the_pointer_is_in_the_window_that_the_host_says_whatever_lies_above_it() {
    let (mut host, mut x, below, id) = with_window();
    let above = x.create((300, 200, 200, 100), 0, false);
    x.map(above);
    host.until("the other window", |host| host.toplevels.len() == 2);
    for (time_ms, surface, window) in [
        (1000, id, below),
        (2000, *host.toplevels.keys().find(|s| **s != id).unwrap(), above),
        (3000, id, below),
    ] {
        host.send(&Event::Place { surface, at: Point::new(300, 200) });
        // Those of the turn before would count as this one's.
        x.events.clear();
        host.input(InputEvent::PointerEnter { surface, x: 20.0, y: 10.0 });
        x.until(&mut host, "the pointer", |e| match e {
            XEvent::MotionNotify(e) if e.event == window => Some(()),
            XEvent::EnterNotify(e) if e.event == window => Some(()),
            _ => None,
        });
        host.input(InputEvent::PointerButton { time_ms, button: 0x110, pressed: true });
        host.input(InputEvent::PointerButton { time_ms, button: 0x110, pressed: false });
        let pressed = x.until(&mut host, "the press", |e| {
            if let XEvent::ButtonPress(e) = e { Some(e.event) } else { None }
        });
        assert_eq!(pressed, window);
    }
}

#[test]
fn java_takes_no_frame_off_its_windows() {
    let host = Host::start();
    let x = XClient::new(&host);
    let check = x.property(x.root, "_NET_SUPPORTING_WM_CHECK");
    let name = x.c.get_property(false, check[0], x.atom("_NET_WM_NAME"), AtomEnum::ANY, 0, 16).unwrap();
    assert_eq!(name.reply().unwrap().value, b"LG3D");
}

#[test]
fn a_window_that_takes_the_keyboard_itself_is_told_when() {
    let mut host = Host::start();
    let mut x = XClient::new(&host);
    let window = x.create((0, 0, 60, 40), 0, false);
    WmHints { input: Some(false), ..WmHints::new() }.set(&x.c, window).unwrap();
    x.atoms(window, "WM_PROTOCOLS", &["WM_TAKE_FOCUS"]);
    x.map(window);
    let surface = host.until_mapped();
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![], modifiers: Modifiers::default() });
    let [protocols, take] = ["WM_PROTOCOLS", "WM_TAKE_FOCUS"].map(|name| x.atom(name));
    let time = x.until(&mut host, "its turn", |e| match e {
        XEvent::ClientMessage(e) if e.window == window && e.type_ == protocols => {
            let data = e.data.as_data32();
            (data[0] == take).then_some(data[1])
        }
        _ => None,
    });
    assert!(
        !x.events.iter().any(|e| matches!(e, XEvent::FocusIn(_))),
        "it is not given what it takes itself"
    );
    x.c.set_input_focus(x11rb::protocol::xproto::InputFocus::PARENT, window, time).unwrap();
    x.c.flush().unwrap();
    x.until(&mut host, "the focus", |e| matches!(e, XEvent::FocusIn(e) if e.event == window).then_some(()));
}

fn monitor(name: &str, x: i32, scale_120: u32) -> Output {
    let size = Size::new(1200, 900);
    let area = Rect::new(x, 0, size.width, size.height);
    let mode = Size::new(size.width * scale_120 / 120, size.height * scale_120 / 120);
    Output { name: name.into(), area, mode, refresh: 60_000, scale_120 }
}

/// A text property of the root window.
fn root_text(x: &XClient, name: &str) -> String {
    let reply = x.c.get_property(false, x.root, x.atom(name), AtomEnum::ANY, 0, 256).unwrap();
    String::from_utf8(reply.reply().unwrap().value).unwrap()
}

#[test]
fn apps_draw_at_the_scale_of_the_sharpest_monitor() {
    let mut host = Host::start();
    host.send(&Event::Outputs(vec![monitor("A-1", 0, 120), monitor("B-1", 1200, 240)]));
    host.serve_for(Duration::from_millis(200));
    let mut x = XClient::new(&host);
    let screen = x.c.get_geometry(x.root).unwrap().reply().unwrap();
    assert_eq!((screen.width, screen.height), (4800, 1800));
    host.until("what an inch has", |_| root_text(&x, "RESOURCE_MANAGER").contains("Xft.dpi:\t192\n"));
    let settings = x.c.get_selection_owner(x.atom("_XSETTINGS_S0")).unwrap().reply().unwrap().owner;
    assert!(!x.property(settings, "_XSETTINGS_SETTINGS").is_empty() || settings != x11rb::NONE);

    let window = x.create((0, 0, 400, 200), 0x0033_6699, false);
    let hints =
        WmSizeHints { min_size: Some((20, 34)), size_increment: Some((12, 26)), ..WmSizeHints::new() };
    hints.set_normal_hints(&x.c, window).unwrap();
    x.map(window);
    let id = host.until_mapped();
    assert_eq!(told(&host), "w1 toplevel \"\" \"\" Normal ServerSide sizes 10x17 0x0 10x17 6x13\n");
    let drawn = |host: &Host| (host.surfaces[&id].size, host.surfaces[&id].content.map(|c| c.size));
    host.until("its pixels", |host| drawn(host) == (Size::new(200, 100), Some(Size::new(400, 200))));

    host.send(&Event::Place { surface: id, at: Point::new(300, 150) });
    let moved = |event: &XEvent| match event {
        XEvent::ConfigureNotify(e) if e.window == window => Some((e.x, e.y, e.width, e.height)),
        _ => None,
    };
    x.until(&mut host, "its place", |e| moved(e).filter(|m| (m.0, m.1) == (600, 300)));
    let serial = host.configure(id, Some(Size::new(210, 110)), States::ACTIVATED);
    x.until(&mut host, "its size", |e| moved(e).filter(|m| (m.2, m.3) == (420, 220)));
    host.until("the answer", |host| host.surfaces[&id].acked == Some(serial));
    assert_eq!(drawn(&host), (Size::new(210, 110), Some(Size::new(420, 220))));
    // Pixels of the window, wherever the pointer is.
    host.input(InputEvent::PointerEnter { surface: id, x: 10.0, y: 20.5 });
    host.input(InputEvent::PointerMotion { time_ms: 1, x: 11.0, y: 20.5 });
    let at = |event: &XEvent| match event {
        XEvent::MotionNotify(e) => Some((e.event_x, e.event_y, e.root_x, e.root_y)),
        _ => None,
    };
    x.until(&mut host, "the pointer", |e| at(e).filter(|at| *at == (22, 41, 622, 341)));
    let menu = x.create((620, 400, 100, 60), 0, true);
    x.map(menu);
    host.until("its menu", |host| !host.popups.is_empty());
    assert!(told(&host).contains("w2 popup of w1 at 10,50 50x30 Menu"), "{}", told(&host));
    x.c.destroy_window(menu).unwrap();

    // Another monitor is the sharpest: windows keep their extent, in other pixels.
    host.send(&Event::Outputs(vec![monitor("A-1", 0, 120), monitor("C-1", 1200, 180)]));
    x.until(&mut host, "its other size", |e| moved(e).filter(|m| *m == (450, 225, 315, 165)));
    let size = (Size::new(210, 110), Some(Size::new(315, 165)));
    host.until("its other pixels", |host| drawn(host) == size);
    host.until("what an inch has now", |_| root_text(&x, "RESOURCE_MANAGER").contains("Xft.dpi:\t144\n"));
    let told = told(&host);
    assert!(told.contains("sizes 13x23 0x0 0x0 0x0"), "no steps of fractions: {told}");
    assert_eq!(host.toplevels.len(), 1);

    // The user has X11 apps enlarged: they draw at 1, whatever the monitors, and the host makes them as large as before.
    host.command(&Command::SharpX11(false));
    x.until(&mut host, "its size at 1", |e| moved(e).filter(|m| *m == (300, 150, 210, 110)));
    let one = Size::new(210, 110);
    host.until("its pixels at 1", |host| drawn(host) == (one, Some(one)));
    host.until("an inch at 1", |_| root_text(&x, "RESOURCE_MANAGER").contains("Xft.dpi:\t96\n"));
    let screen = |x: &XClient| x.c.get_geometry(x.root).unwrap().reply().unwrap();
    host.until("the screen at 1", |_| (screen(&x).width, screen(&x).height) == (2400, 900));
    host.send(&Event::Outputs(vec![monitor("A-1", 0, 120), monitor("B-1", 1200, 240)]));
    host.serve_for(Duration::from_millis(200));
    assert_eq!((drawn(&host), screen(&x).width), ((one, Some(one)), 2400), "not of the monitor's scale");
    host.command(&Command::SharpX11(true));
    x.until(&mut host, "its size at 2", |e| moved(e).filter(|m| *m == (600, 300, 420, 220)));
    host.until("its pixels at 2", |host| drawn(host) == (one, Some(Size::new(420, 220))));
    host.until("the screen at 2", |_| (screen(&x).width, screen(&x).height) == (4800, 1800));
}
