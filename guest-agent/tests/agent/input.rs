//! Keys, modifiers and pointer, from the host's messages to what an app is told.

use inlay_protocol::display::{Cursor, Event, Output, Request, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::{AxisSource, InputEvent, Modifiers, Scroll};
use wayland_client::Proxy;
use wayland_client::protocol::wl_pointer::WlPointer;

use crate::client::{Client, Told, Window};
use crate::host::Host;

const LEFT: u32 = 0x110;

fn shown(width: i32, height: i32) -> (Host, Client, Window, SurfaceId) {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(width, height);
    let (window, id) = client.mapped(&mut host, &buffer);
    (host, client, window, id)
}

#[track_caller]
fn told(client: &mut Client, host: &mut Host, wanted: &Told) {
    client.until(host, &format!("{wanted:?}"), |told| (told == wanted).then_some(()));
}

#[test]
fn focus_brings_held_keys_modifiers_and_locks() {
    let (mut host, mut client, window, surface) = shown(50, 50);
    // Shift (42) and A (30) are held, Caps Lock is locked.
    let modifiers = Modifiers { depressed: 1, locked: 2, ..Modifiers::default() };
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![42, 30], modifiers });
    let id = window.surface.id().protocol_id();
    told(&mut client, &mut host, &Told::KeyboardEnter { surface: id, keys: vec![30, 42] });
    told(&mut client, &mut host, &Told::Modifiers { depressed: 1, locked: 2, group: 0 });
    host.input(InputEvent::Key { time_ms: 1, key: 42, pressed: false });
    told(&mut client, &mut host, &Told::Key { key: 42, pressed: false });
    told(&mut client, &mut host, &Told::Modifiers { depressed: 0, locked: 2, group: 0 });
    host.input(InputEvent::Modifiers(Modifiers { depressed: 4, locked: 16, ..Modifiers::default() }));
    told(&mut client, &mut host, &Told::Modifiers { depressed: 4, locked: 16, group: 0 });
    host.input(InputEvent::KeyboardLeave);
    told(&mut client, &mut host, &Told::KeyboardLeave);
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![], modifiers: Modifiers::default() });
    told(&mut client, &mut host, &Told::KeyboardEnter { surface: id, keys: vec![] });
    told(&mut client, &mut host, &Told::Modifiers { depressed: 0, locked: 0, group: 0 });
    // A repeated press is the guest's business, not an event.
    client.state.told.clear();
    for time_ms in [5, 6, 7] {
        host.input(InputEvent::Key { time_ms, key: 16, pressed: true });
    }
    host.input(InputEvent::Key { time_ms: 8, key: 16, pressed: false });
    told(&mut client, &mut host, &Told::Key { key: 16, pressed: false });
    let keys: Vec<_> = client.state.told.iter().filter(|t| matches!(t, Told::Key { .. })).collect();
    assert_eq!(keys, [&Told::Key { key: 16, pressed: true }]);
}

#[test]
fn the_host_s_keymap_and_repeat_reach_the_app() {
    let (mut host, mut client, _window, surface) = shown(50, 50);
    let text = client.state.told.iter().find_map(|t| match t {
        Told::Keymap(text) => Some(text.clone()),
        _ => None,
    });
    let text = text.unwrap().trim_end_matches('\0').to_string();
    // The same keymap with Q where A was.
    let swap = |line: &str| {
        let is_a = line.trim_start().starts_with("key <AC01>") && line.contains('[');
        if is_a { "key <AC01> { [ q, Q ] };".to_string() } else { line.to_string() }
    };
    let swapped: String = text.lines().map(|line| swap(line) + "\n").collect();
    let has_q = |text: &str| {
        let mut lines = text.lines().map(str::trim_start);
        lines.any(|line| line.starts_with("key <AC01>") && line.contains('q'))
    };
    assert!(!has_q(&text) && has_q(&swapped));
    host.input(InputEvent::Keymap(swapped));
    host.input(InputEvent::Repeat { rate: 33, delay: 444 });
    told(&mut client, &mut host, &Told::Repeat { rate: 33, delay: 444 });
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![], modifiers: Modifiers::default() });
    host.input(InputEvent::Key { time_ms: 1, key: 30, pressed: true });
    client.until(&mut host, "the host's keymap", |told| match told {
        Told::Keymap(text) if has_q(text) => Some(()),
        _ => None,
    });
    told(&mut client, &mut host, &Told::Key { key: 30, pressed: true });
    host.input(InputEvent::Keymap("no keymap".into()));
    host.input(InputEvent::Key { time_ms: 2, key: 30, pressed: false });
    told(&mut client, &mut host, &Told::Key { key: 30, pressed: false });
}

#[test]
fn the_pointer_finds_the_surface_below_it_and_stays_while_a_button_is_held() {
    let (mut host, mut client, window, id) = shown(100, 100);
    let (root, buffer) = (window.surface.id().protocol_id(), client.buffer(30, 20));
    let surface = client.compositor.create_surface(&client.handle, ());
    let sub = client.subcompositor.get_subsurface(&surface, &window.surface, &client.handle, ());
    sub.set_position(50, 60);
    // The right half of the subsurface lets the pointer through.
    let region = client.compositor.create_region(&client.handle, ());
    region.add(0, 0, 15, 20);
    surface.set_input_region(Some(&region));
    client.show(&surface, &buffer);
    window.surface.commit();
    client.roundtrip();
    host.until("the subsurface", |host| host.surfaces.len() == 2);
    let child = surface.id().protocol_id();

    host.input(InputEvent::PointerEnter { surface: id, x: 10.5, y: 20.25 });
    told(&mut client, &mut host, &Told::PointerEnter { surface: root, x: 10.5, y: 20.25 });
    host.input(InputEvent::PointerMotion { time_ms: 1, x: 52.0, y: 61.0 });
    told(&mut client, &mut host, &Told::PointerLeave { surface: root });
    told(&mut client, &mut host, &Told::PointerEnter { surface: child, x: 2.0, y: 1.0 });
    host.input(InputEvent::PointerMotion { time_ms: 2, x: 70.0, y: 61.0 });
    told(&mut client, &mut host, &Told::PointerEnter { surface: root, x: 70.0, y: 61.0 });
    host.input(InputEvent::PointerMotion { time_ms: 3, x: 51.0, y: 61.0 });
    told(&mut client, &mut host, &Told::PointerEnter { surface: child, x: 1.0, y: 1.0 });

    host.input(InputEvent::PointerButton { time_ms: 4, button: LEFT, pressed: true });
    told(&mut client, &mut host, &Told::Button { button: LEFT, pressed: true });
    host.input(InputEvent::PointerMotion { time_ms: 5, x: -20.0, y: 300.0 });
    told(&mut client, &mut host, &Told::Motion { x: -70.0, y: 240.0 });
    host.input(InputEvent::PointerButton { time_ms: 6, button: LEFT, pressed: false });
    told(&mut client, &mut host, &Told::Button { button: LEFT, pressed: false });
    host.input(InputEvent::PointerLeave);
    told(&mut client, &mut host, &Told::PointerLeave { surface: child });
}

#[test]
fn a_button_held_when_the_pointer_leaves_is_forgotten() {
    let (mut host, mut client, window, id) = shown(100, 100);
    let root = window.surface.id().protocol_id();
    host.input(InputEvent::PointerEnter { surface: id, x: 1.0, y: 1.0 });
    host.input(InputEvent::PointerButton { time_ms: 1, button: LEFT, pressed: true });
    told(&mut client, &mut host, &Told::Button { button: LEFT, pressed: true });
    host.input(InputEvent::PointerLeave);
    told(&mut client, &mut host, &Told::PointerLeave { surface: root });
    host.input(InputEvent::PointerEnter { surface: id, x: 2.0, y: 2.0 });
    told(&mut client, &mut host, &Told::PointerEnter { surface: root, x: 2.0, y: 2.0 });
    host.input(InputEvent::PointerButton { time_ms: 2, button: LEFT, pressed: true });
    told(&mut client, &mut host, &Told::Button { button: LEFT, pressed: true });
}

#[test]
fn wheels_and_fingers_scroll() {
    let (mut host, mut client, _window, id) = shown(100, 100);
    host.input(InputEvent::PointerEnter { surface: id, x: 1.0, y: 1.0 });
    let none = Scroll::default();
    let wheel = Scroll { pixels: 7.5, v120: 60, stop: false };
    host.input(InputEvent::PointerAxis {
        time_ms: 1,
        source: AxisSource::Wheel,
        horizontal: none,
        vertical: wheel,
    });
    told(&mut client, &mut host, &Told::Axis120 { vertical: true, value: 60 });
    told(&mut client, &mut host, &Told::Axis { vertical: true, value: 7.5 });
    let finger = Scroll { pixels: -3.0, ..none };
    host.input(InputEvent::PointerAxis {
        time_ms: 2,
        source: AxisSource::Finger,
        horizontal: finger,
        vertical: none,
    });
    told(&mut client, &mut host, &Told::Axis { vertical: false, value: -3.0 });
    let stop = Scroll { stop: true, ..none };
    host.input(InputEvent::PointerAxis {
        time_ms: 3,
        source: AxisSource::Finger,
        horizontal: stop,
        vertical: none,
    });
    told(&mut client, &mut host, &Told::AxisStop);
}

#[test]
fn a_cursor_surface_is_exported_with_its_hotspot() {
    let (mut host, mut client, _window, id) = shown(100, 100);
    let pointer: WlPointer = client.seat.get_pointer(&client.handle, ());
    host.input(InputEvent::PointerEnter { surface: id, x: 1.0, y: 1.0 });
    client.until(&mut host, "the pointer", |told| matches!(told, Told::PointerEnter { .. }).then_some(()));
    let (cursor, buffer) = (client.compositor.create_surface(&client.handle, ()), client.buffer(24, 24));
    let drawn = buffer.fill(6);
    client.show(&cursor, &buffer);
    pointer.set_cursor(client.state.pointer_serial, Some(&cursor), 3, 4);
    client.roundtrip();
    let mut said = None;
    host.until("the cursor", |host| {
        said = host.requests.iter().rev().find_map(|r| match r {
            Request::Cursor(Cursor::Surface { surface, hotspot }) => Some((*surface, *hotspot)),
            _ => None,
        });
        said.is_some_and(|(surface, _)| host.is_mapped(surface))
    });
    let (surface, hotspot) = said.unwrap();
    assert_eq!(hotspot, Point::new(3, 4));
    assert!(host.pixels(surface) == drawn);
    pointer.set_cursor(client.state.pointer_serial, None, 0, 0);
    client.roundtrip();
    host.until("no cursor", |host| host.requests.last() == Some(&Request::Cursor(Cursor::Hidden)));
}

#[test]
fn a_window_that_goes_while_it_has_the_focus_takes_nothing_down() {
    let (mut host, mut client, window, id) = shown(100, 100);
    host.input(InputEvent::PointerEnter { surface: id, x: 1.0, y: 1.0 });
    host.input(InputEvent::PointerButton { time_ms: 1, button: LEFT, pressed: true });
    host.input(InputEvent::KeyboardEnter { surface: id, keys: vec![30], modifiers: Modifiers::default() });
    told(&mut client, &mut host, &Told::Button { button: LEFT, pressed: true });
    window.toplevel.destroy();
    window.xdg.destroy();
    window.surface.destroy();
    client.roundtrip();
    host.until("it is gone", |host| host.surfaces.is_empty());
    for time_ms in 2..10 {
        host.input(InputEvent::Key { time_ms, key: 31, pressed: time_ms % 2 == 0 });
        host.input(InputEvent::PointerMotion { time_ms, x: 5.0, y: 5.0 });
        host.input(InputEvent::PointerButton { time_ms, button: LEFT, pressed: time_ms % 2 == 1 });
    }
    let modifiers = Modifiers::default();
    host.input(InputEvent::KeyboardEnter { surface: SurfaceId(4_000_000), keys: vec![], modifiers });
    host.input(InputEvent::PointerEnter { surface: SurfaceId(4_000_000), x: 0.0, y: 0.0 });
    let buffer = client.buffer(10, 10);
    let (window, id) = client.mapped(&mut host, &buffer);
    host.input(InputEvent::KeyboardEnter { surface: id, keys: vec![], modifiers });
    let surface = window.surface.id().protocol_id();
    told(&mut client, &mut host, &Told::KeyboardEnter { surface, keys: vec![] });
}

#[test]
fn the_host_s_monitors_are_the_guest_s() {
    let (mut host, mut client, _window, _id) = shown(10, 10);
    let output = |name: &str, x, scale_120| Output {
        name: name.into(),
        area: Rect::new(x, 0, 1280, 720),
        mode: Size::new(2560, 1440),
        refresh: 75_000,
        scale_120,
    };
    host.send(&Event::Outputs(vec![output("A-1", 0, 240), output("B-1", 1280, 120)]));
    told(&mut client, &mut host, &Told::Scale(2));
    let mut second = Client::new(&host);
    let names = second.globals("wl_output");
    assert_eq!(names, 2);
    let buffer = second.buffer(10, 10);
    second.mapped(&mut host, &buffer);
    told(&mut second, &mut host, &Told::Scale(2));
}

#[test]
fn without_xkb_data_the_host_s_keymap_is_enough() {
    let keymap = {
        let host = Host::start();
        let client = Client::new(&host);
        let text = client.state.told.iter().find_map(|t| match t {
            Told::Keymap(text) => Some(text.trim_end_matches('\0').to_string()),
            _ => None,
        });
        text.unwrap()
    };
    let mut host = Host::start_with(&[("XKB_CONFIG_ROOT", "/no/such/directory")]);
    host.accept_display();
    let mut client = Client::new(&host);
    let buffer = client.buffer(10, 10);
    let (_window, surface) = client.mapped(&mut host, &buffer);
    host.input(InputEvent::Keymap(keymap));
    let modifiers = Modifiers { locked: 2, ..Modifiers::default() };
    host.input(InputEvent::KeyboardEnter { surface, keys: vec![], modifiers });
    client.until(&mut host, "the whole keymap", |told| match told {
        Told::Keymap(text) if text.contains("<AC01>") => Some(()),
        _ => None,
    });
    told(&mut client, &mut host, &Told::Modifiers { depressed: 0, locked: 2, group: 0 });
    host.input(InputEvent::Key { time_ms: 1, key: 30, pressed: true });
    told(&mut client, &mut host, &Told::Key { key: 30, pressed: true });
}
