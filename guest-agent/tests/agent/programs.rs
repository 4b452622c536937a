//! Unmodified programs under the agent.

use std::time::Duration;

use inlay_protocol::control::{Exit, Report};
use inlay_protocol::display::{Event, States};
use inlay_protocol::geometry::Size;
use inlay_protocol::input::{InputEvent, Modifiers};

use crate::host::{Host, Manners, POLITE};

/// Evdev codes of a small part of the keyboard.
fn code(character: char) -> u32 {
    let rows = [(16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm")];
    match character {
        ' ' => 57,
        '\n' => 28,
        '/' => 53,
        '.' => 52,
        '-' => 12,
        _ => rows
            .iter()
            .find_map(|(first, row)| row.find(character).map(|at| first + u32::try_from(at).unwrap()))
            .unwrap(),
    }
}

fn type_text(host: &mut Host, text: &str) {
    for (n, character) in (0_u64..).zip(text.chars()) {
        let key = code(character);
        host.input(InputEvent::Key { time_ms: n * 20, key, pressed: true });
        host.input(InputEvent::Key { time_ms: n * 20 + 10, key, pressed: false });
        host.serve(Duration::from_millis(1));
    }
}

#[test]
fn foot_is_typed_into_resized_and_closed() {
    let mut host = Host::start();
    host.manners = Manners { configure: Some(Some(Size::new(700, 400))), ..POLITE };
    let file = host.dir.path().join("out");
    let script = format!("read line; printf %s \"$line\" > {}; read line", file.display());
    host.launch(7, &["foot", "--config=/dev/null", "--app-id=a", "--title=t", "sh", "-c", &script]);
    let window = host.until_mapped();
    let toplevel = &host.toplevels[&window];
    assert_eq!((toplevel.app_id.as_str(), toplevel.title.as_str()), ("a", "t"));
    let keys = Vec::new();
    host.input(InputEvent::KeyboardEnter { surface: window, keys, modifiers: Modifiers::default() });
    type_text(&mut host, "hello ");
    // Capitals: shift is held, as a key and as the host's modifier.
    host.input(InputEvent::Key { time_ms: 1000, key: 42, pressed: true });
    host.input(InputEvent::Modifiers(Modifiers { depressed: 1, ..Modifiers::default() }));
    type_text(&mut host, "w");
    host.input(InputEvent::Key { time_ms: 1100, key: 42, pressed: false });
    host.input(InputEvent::Modifiers(Modifiers::default()));
    type_text(&mut host, "orld\n");
    host.until("foot's shell writes what was typed", |_| {
        std::fs::read_to_string(&file).is_ok_and(|text| text == "hello World")
    });

    host.configure(window, Some(Size::new(900, 500)), States::ACTIVATED);
    host.until("the window follows", |host| {
        let commit = &host.surfaces[&window];
        commit.geometry.is_none_or(|g| g.width > 880) && commit.size.width > 880
    });
    host.send(&Event::Close { surface: window });
    host.until("foot ends", |host| {
        host.reports.iter().any(|r| matches!(r, Report::Exited { id: 7, exit: Exit::Code(_) }))
    });
    host.until("its window is gone", |host| host.toplevels.is_empty());
    assert!(host.end().success());
}
