//! The border in a machine's colour around its windows and menus, on both kinds of desktops, and the machine's name in titles.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use common::compositor::{Desk, Desktop, FIRST, Offers};
use common::scripted::{Agent, GREEN, RED, Screen};
use common::{Xvfb, eventually};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::InputEvent;
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::State;

/// The border: blue, green, red, alpha.
const COLOUR: [u8; 4] = [0xd6, 0x6f, 0x2f, 255];
const ARGUMENT: &str = "--border=#2f6fd6";
const SIZE: Size = Size::new(300, 200);

fn size_of(event: &Event, of: u32) -> Option<(u32, Size)> {
    match event {
        Event::ConfigureToplevel { surface, serial, size: Some(size), .. } if surface.0 == of => {
            Some((*serial, *size))
        }
        _ => None,
    }
}

fn pointed(event: &Event) -> Option<(f64, f64)> {
    match event {
        Event::Input(InputEvent::PointerMotion { x, y, .. } | InputEvent::PointerEnter { x, y, .. }) => {
            Some((*x, *y))
        }
        _ => None,
    }
}

#[test]
fn on_x11_all_of_a_machine_has_its_colour_around_it() {
    let xvfb = Xvfb::start();
    let mut agent = Agent::start_with(Screen::X11(&xvfb.display), &[ARGUMENT]);
    agent.toplevel(1, "framed", |toplevel| toplevel.min_size = Size::new(100, 80));
    agent.paint(1, SIZE, RED);
    let window = xvfb.find("framed");
    assert!(xvfb.tool("xprop", &["-id", &window, "_NET_WM_NAME"]).contains("\"framed (guest)\""));
    assert!(xvfb.tool("xprop", &["-id", &window, "WM_NORMAL_HINTS"]).contains("minimum size: 106 by 86"));
    let at = xvfb.area(&window);
    assert_eq!(at.size(), Size::new(306, 206));
    let seen = |x: i32, y: i32, colour: [u8; 4]| {
        eventually(&format!("{colour:?} at {x},{y}"), || {
            xvfb.shows((at.x + x, at.y + y), colour).then_some(())
        });
    };
    for (x, y) in [(0, 0), (2, 100), (150, 2), (303, 100), (305, 205), (150, 203)] {
        seen(x, y, COLOUR);
    }
    for (x, y) in [(3, 3), (302, 202)] {
        seen(x, y, RED);
    }

    // The pointer's places are the content's.
    agent.events.clear();
    let (x, y) = ((at.x + 13).to_string(), (at.y + 23).to_string());
    xvfb.xdotool(&["mousemove", &x, &y]);
    agent.until("the pointer", |e| pointed(e).filter(|at| *at == (10.0, 20.0)));

    // A menu is where the app has it, with a border of its own.
    agent.popup(2, 1, Rect::new(40, 30, 60, 50), PopupKind::Menu);
    agent.paint(2, Size::new(60, 50), GREEN);
    seen(43, 33, GREEN);
    seen(102, 82, GREEN);
    seen(42, 50, COLOUR);
    seen(50, 83, COLOUR);
    seen(38, 28, RED);
    agent.send(&Request::RoleGone { surface: SurfaceId(2) });

    // What the user makes of the window is the content's size with the border around it.
    agent.events.clear();
    xvfb.xdotool(&["windowsize", &window, "406", "306"]);
    agent.until("the content's size", |e| size_of(e, 1).filter(|(_, size)| *size == Size::new(400, 300)));

    // Shaped: the border is around the outline.
    agent.toplevel(3, "shaped", |toplevel| toplevel.decoration = Decoration::ClientSide);
    agent.send(&Request::Shape { surface: SurfaceId(3), rects: Some(vec![Rect::new(20, 20, 60, 60)]) });
    agent.paint(3, Size::new(100, 100), GREEN);
    let shaped = xvfb.find("shaped");
    xvfb.xdotool(&["windowmove", "--sync", &shaped, "700", "400", "windowraise", &shaped]);
    for (x, y, colour) in
        [(723, 423, GREEN), (782, 482, GREEN), (722, 450, COLOUR), (750, 483, COLOUR), (720, 420, COLOUR)]
    {
        eventually(&format!("{colour:?} at {x},{y}"), || xvfb.shows((x, y), colour).then_some(()));
    }
    for (x, y) in [(719, 450), (750, 486)] {
        assert!(!xvfb.shows((x, y), COLOUR) && !xvfb.shows((x, y), GREEN), "{x},{y}");
    }
}

#[test]
fn on_wayland_all_of_a_machine_has_its_colour_around_it() {
    for scale_120 in [120, 180] {
        let offers = Offers { frames: Some(Mode::ServerSide), scale_120, ..Offers::default() };
        let desktop = Desktop::start(offers);
        let mut agent = Agent::start_with(Screen::Wayland(&desktop.socket()), &[ARGUMENT]);
        agent.toplevel(1, "framed", |_| {});
        agent.paint(1, SIZE, RED);
        let geometry = |want: (i32, i32)| {
            eventually(&format!("a geometry of {want:?}"), || {
                desktop.with(move |desk| {
                    let size = Desk::geometry(desk.windows().first()?.wl_surface()).size;
                    ((size.w, size.h) == want).then_some(())
                })
            });
        };
        geometry((306, 206));
        let seen = |x: i32, y: i32, colour: [u8; 4]| {
            let want = [colour[2], colour[1], colour[0]];
            eventually(&format!("{want:?} at {x},{y}"), || {
                let picture = desktop.with(|desk| desk.picture());
                let (x, y) = (FIRST.0 + x, FIRST.1 + y);
                (picture.get_pixel(x.unsigned_abs(), y.unsigned_abs()).0 == want).then_some(())
            });
        };
        if scale_120 == 120 {
            for (x, y, colour) in
                [(0, 0, COLOUR), (2, 100, COLOUR), (305, 205, COLOUR), (3, 3, RED), (302, 202, RED)]
            {
                seen(x, y, colour);
            }
            agent.popup(2, 1, Rect::new(40, 30, 60, 50), PopupKind::Menu);
            agent.until("the menu's place", |e| {
                matches!(e, Event::ConfigurePopup { surface, area, .. }
                    if surface.0 == 2 && *area == Rect::new(40, 30, 60, 50))
                .then_some(())
            });
            agent.paint(2, Size::new(60, 50), GREEN);
            seen(43, 33, GREEN);
            seen(42, 33, COLOUR);
            seen(103, 60, COLOUR);
        }
        agent.events.clear();
        desktop.with(|desk| desk.configure(0, Some((506, 406)), &[State::Activated]));
        let (serial, _) =
            agent.until("a size", |e| size_of(e, 1).filter(|(_, size)| *size == Size::new(500, 400)));
        let bytes = GREEN.repeat(500 * 400);
        agent.show(1, Size::new(500, 400), &bytes, |commit| commit.acked = Some(serial));
        geometry((506, 406));
        agent.events.clear();
        desktop.with(|desk| desk.point(FIRST.0 + 103, FIRST.1 + 203));
        agent.until("the pointer", |e| pointed(e).filter(|at| *at == (100.0, 200.0)));
    }
}
