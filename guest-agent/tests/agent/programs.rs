//! Unmodified programs under the agent.

use std::time::{Duration, Instant};

use inlay_protocol::control::{Exit, Report};
use inlay_protocol::display::{Decoration, Event, States};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};

use crate::host::{Host, Manners, POLITE, positioner_of};

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

#[test]
fn a_gtk_window_opens_its_menu() {
    let mut host = Host::start();
    host.launch(1, &["gtk3-demo", "--run=combobox"]);
    let mut found = None;
    host.until("the dialog over the main window", |host| {
        let mut dialogs = host.toplevels.values().filter(|t| t.parent.is_some());
        found = dialogs.next().map(|t| t.surface).filter(|id| host.is_mapped(*id));
        found.is_some()
    });
    let window = found.unwrap();
    // GTK draws its own frame with a shadow around it: the window's geometry is less than its surface.
    let commit = host.surfaces[&window].clone();
    let geometry = commit.geometry.unwrap();
    assert_eq!(host.toplevels[&window].decoration, Decoration::ClientSide);
    assert!(geometry.x > 0 && geometry.width < commit.size.width);
    host.input(InputEvent::KeyboardEnter { surface: window, keys: vec![], modifiers: Modifiers::default() });
    // The first box is below the title bar.
    let (x, y) = (f64::from(geometry.x) + f64::from(geometry.width) / 2.0, f64::from(geometry.y) + 90.0);
    host.input(InputEvent::PointerEnter { surface: window, x, y });
    for (time_ms, pressed) in [(1000, true), (1100, false)] {
        host.input(InputEvent::PointerButton { time_ms, button: 0x110, pressed });
        host.serve_for(Duration::from_millis(100));
    }
    host.until("its menu", |host| host.popups.len() == 1);
    let popup = host.popups.values().next().unwrap().clone();
    assert!(popup.grab && popup.parent == window, "{popup:?}");
    let area = Rect::of_size(positioner_of(&popup).size);
    host.send(&Event::ConfigurePopup { surface: popup.surface, serial: 5, area, reposition: None });
    host.until("its menu is drawn", |host| host.is_mapped(popup.surface));
    assert!(host.pixels(popup.surface).iter().any(|byte| *byte != 0));
    host.send(&Event::PopupDone { surface: popup.surface });
    host.until("its menu is gone", |host| host.popups.is_empty());
    host.send(&Event::Close { surface: window });
    host.until("the dialog is gone", |host| !host.toplevels.contains_key(&window));
}

#[test]
fn an_app_starts_when_the_hosts_monitors_are_known() {
    let mut host = Host::start_without_display();
    host.launch(1, &["true"]);
    host.serve_for(Duration::from_millis(500));
    let launched = |host: &Host, id| {
        host.reports.iter().any(|r| matches!(r, Report::Launched { id: i, .. } if *i == id))
    };
    assert!(!launched(&host, 1), "it would see a monitor that goes away");
    host.accept_display();
    host.send(&Event::Outputs(Vec::new()));
    host.until("the app starts", |host| launched(host, 1));
    // From then on apps wait no more, nor where no window process comes.
    let asked = Instant::now();
    host.launch(2, &["true"]);
    host.until("another", |host| launched(host, 2));
    assert!(asked.elapsed() < Duration::from_secs(2));
    let mut alone = Host::start_without_display();
    alone.launch(1, &["true"]);
    alone.until("an app without a display", |host| launched(host, 1));
}
