//! Frames of Inlay's own, on a Wayland desktop that draws none (a scripted one).

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::time::Duration;

use common::compositor::{Asked, Desk, Desktop, FIRST, LEFT, Offers, RIGHT};
use common::scripted::{Agent, GREEN, RED, Screen};
use common::{Local, eventually};
use inlay_protocol::display::*;
use inlay_protocol::geometry::Size;
use inlay_protocol::input::InputEvent;
use smithay::input::pointer::{CursorIcon, CursorImageStatus};
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::{ResizeEdge, State};

/// The height of a frame's title: sctk-adwaita's.
const TITLE: i32 = 35;

/// A window of one colour, of 300x200.
fn window(agent: &mut Agent, surface: u32, change: impl FnOnce(&mut Toplevel)) {
    agent.toplevel(surface, "a window", change);
    agent.until("a configure", |e| configured(e, surface));
    agent.paint(surface, Size::new(300, 200), RED);
}

fn configured(event: &Event, of: u32) -> Option<(u32, Option<Size>, States)> {
    match event {
        Event::ConfigureToplevel { surface, serial, size, states, .. } if surface.0 == of => {
            Some((*serial, *size, *states))
        }
        _ => None,
    }
}

/// Waits until the geometry of the first window is this.
fn geometry(desktop: &Desktop, want: (i32, i32, i32, i32)) {
    eventually(&format!("a geometry of {want:?}"), || {
        desktop.with(move |desk| {
            let geometry = Desk::geometry(desk.windows().first()?.wl_surface());
            let (at, size) = (geometry.loc, geometry.size);
            ((at.x, at.y, size.w, size.h) == want).then_some(())
        })
    });
}

fn pixel(desktop: &Desktop, x: i32, y: i32) -> [u8; 3] {
    desktop.with(|desk| desk.picture()).get_pixel(x.unsigned_abs(), y.unsigned_abs()).0
}

fn seen(desktop: &Desktop, (x, y): (i32, i32), colour: [u8; 4]) {
    let want = [colour[2], colour[1], colour[0]];
    eventually(&format!("{want:?} at {x},{y}"), || (pixel(desktop, x, y) == want).then_some(()));
}

/// What the window asks for next.
fn asked(desktop: &Desktop) -> Asked {
    eventually("a request", || desktop.with(|desk| (!desk.asked.is_empty()).then(|| desk.asked.remove(0))))
}

#[test]
fn a_window_gets_a_frame_where_the_desktop_draws_none() {
    for (frames, wish, framed) in [
        (None, Decoration::ServerSide, true),
        (None, Decoration::ClientSide, false),
        (Some(Mode::ClientSide), Decoration::ServerSide, true),
        (Some(Mode::ServerSide), Decoration::ServerSide, false),
    ] {
        let desktop = Desktop::start(Offers { frames, ..Offers::default() });
        let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
        window(&mut agent, 1, |toplevel| toplevel.decoration = wish);
        let title = if framed { TITLE } else { 0 };
        geometry(&desktop, (0, -title, 300, 200 + title));
        let (x, y) = FIRST;
        seen(&desktop, (x + 5, y + title + 1), RED);
        seen(&desktop, (x + 299, y + title + 199), RED);
        if framed {
            let above = pixel(&desktop, x + 5, y + 20);
            assert!(above.iter().all(|part| *part > 200) || above.iter().all(|part| *part < 90), "{above:?}");
        }

        // Its app may choose anew while it is open, where the desktop leaves it to it.
        let other =
            if wish == Decoration::ServerSide { Decoration::ClientSide } else { Decoration::ServerSide };
        agent.toplevel(1, "a window", |toplevel| toplevel.decoration = other);
        agent.paint(1, Size::new(300, 200), GREEN);
        let framed = other == Decoration::ServerSide && frames != Some(Mode::ServerSide);
        let title = if framed { TITLE } else { 0 };
        geometry(&desktop, (0, -title, 300, 200 + title));
        seen(&desktop, (x + 5, y + title + 1), GREEN);
    }
}

#[test]
fn sizes_and_menus_are_the_contents_with_a_frame_around_it() {
    let desktop = Desktop::start(Offers::default());
    let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
    window(&mut agent, 1, |toplevel| toplevel.min_size = Size::new(100, 80));
    geometry(&desktop, (0, -TITLE, 300, 200 + TITLE));

    // The size that the desktop gives has the frame in.
    agent.events.clear();
    desktop.with(|desk| desk.configure(0, Some((500, 400)), &[State::Activated]));
    let inside = Size::new(500, 400 - TITLE.unsigned_abs());
    let (serial, ..) =
        agent.until("a size", |e| configured(e, 1).filter(|(_, size, _)| *size == Some(inside)));
    let bytes = GREEN.repeat((inside.width * inside.height) as usize);
    agent.show(1, inside, &bytes, |commit| commit.acked = Some(serial));
    geometry(&desktop, (0, -TITLE, 500, 400));

    // Menus are where the content has them.
    agent.popup(2, 1, inlay_protocol::geometry::Rect::new(40, 30, 60, 50), PopupKind::Menu);
    agent.until("the menu's place", |e| {
        matches!(e, Event::ConfigurePopup { surface, area, .. } if surface.0 == 2 && (area.x, area.y) == (40, 30)).then_some(())
    });
    agent.paint(2, Size::new(60, 50), RED);
    seen(&desktop, (FIRST.0 + 40, FIRST.1 + TITLE + 30), RED);
    seen(&desktop, (FIRST.0 + 39, FIRST.1 + TITLE + 30), GREEN);
    seen(&desktop, (FIRST.0 + 40, FIRST.1 + TITLE + 29), GREEN);

    // Full screen has none, and afterwards it is there again.
    agent.events.clear();
    desktop.with(|desk| desk.configure(0, Some((1280, 800)), &[State::Activated, State::Fullscreen]));
    let whole = Size::new(1280, 800);
    let (serial, ..) =
        agent.until("full screen", |e| configured(e, 1).filter(|(_, size, _)| *size == Some(whole)));
    let bytes = RED.repeat((whole.width * whole.height) as usize);
    agent.show(1, whole, &bytes, |commit| commit.acked = Some(serial));
    geometry(&desktop, (0, 0, 1280, 800));
}

#[test]
fn a_frame_is_used_with_the_pointer() {
    let desktop = Desktop::start(Offers::default());
    let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
    window(&mut agent, 1, |_| {});
    geometry(&desktop, (0, -TITLE, 300, 200 + TITLE));
    seen(&desktop, (FIRST.0 + 5, FIRST.1 + TITLE + 1), RED);
    let (left, top) = FIRST;
    let at = move |desktop: &Desktop, x: i32, y: i32| {
        desktop.with(move |desk| desk.point(left + x, top + y));
        // What a click means depends on what the frame knows of the pointer.
        std::thread::sleep(Duration::from_millis(100));
    };

    at(&desktop, 90, 18);
    desktop.with(|desk| desk.button(LEFT, true));
    assert_eq!(asked(&desktop), Asked::Move);
    desktop.with(|desk| desk.button(LEFT, false));
    std::thread::sleep(Duration::from_millis(500));
    desktop.with(|desk| [true, false, true, false].map(|pressed| desk.button(LEFT, pressed)));
    assert_eq!((asked(&desktop), asked(&desktop)), (Asked::Move, Asked::Maximize));
    desktop.with(|desk| desk.click(RIGHT));
    assert_eq!(asked(&desktop), Asked::Menu(90, 18 - TITLE));

    // Buttons from the right: close, maximise, minimise.
    at(&desktop, 300 - 5 - 12 - 37, 18);
    desktop.with(|desk| desk.click(LEFT));
    assert_eq!(asked(&desktop), Asked::Maximize);
    at(&desktop, 300 - 5 - 12 - 2 * 37, 18);
    desktop.with(|desk| desk.click(LEFT));
    assert_eq!(asked(&desktop), Asked::Minimize);

    // Edges reach a little beyond what is seen.
    for (x, y, edge, cursor) in [
        (305, 120, ResizeEdge::Right, CursorIcon::EResize),
        (-5, 120, ResizeEdge::Left, CursorIcon::WResize),
        (150, -4, ResizeEdge::Top, CursorIcon::NResize),
        (150, 200 + TITLE + 3, ResizeEdge::Bottom, CursorIcon::SResize),
        (302, 200 + TITLE + 3, ResizeEdge::BottomRight, CursorIcon::SeResize),
    ] {
        at(&desktop, x, y);
        desktop.with(|desk| desk.click(LEFT));
        assert_eq!(asked(&desktop), Asked::Resize(edge));
        let now = desktop.with(|desk| desk.cursor.clone());
        if let CursorImageStatus::Named(now) = now {
            assert_eq!(now, cursor);
        }
    }

    // Of all that its app saw nothing; of what is inside it sees each place as its own.
    agent.listen(Duration::from_millis(100));
    assert_eq!(agent.has(|e| matches!(e, Event::Input(InputEvent::PointerEnter { .. }))), 0);
    agent.events.clear();
    at(&desktop, 20, TITLE + 10);
    agent.until("the pointer inside", |e| {
        matches!(e, Event::Input(InputEvent::PointerEnter { surface, x, y }) if (surface.0, *x, *y) == (1, 20.0, 10.0)).then_some(())
    });
    agent.events.clear();
    at(&desktop, 300 - 5 - 12, 18);
    agent.until("the pointer gone", |e| matches!(e, Event::Input(InputEvent::PointerLeave)).then_some(()));
    desktop.with(|desk| desk.click(LEFT));
    agent.until("the wish to close", |e| {
        matches!(e, Event::Close { surface } if surface.0 == 1).then_some(())
    });
    assert_eq!(agent.has(|e| matches!(e, Event::Input(InputEvent::PointerButton { .. }))), 0);
    // A window that goes under the pointer.
    agent.send(&Request::DestroySurface { surface: SurfaceId(1) });
    eventually("no window", || desktop.with(|desk| desk.windows().is_empty()).then_some(()));
    at(&desktop, 20, 18);
    window(&mut agent, 3, |_| {});
    geometry(&desktop, (0, -TITLE, 300, 200 + TITLE));
}

#[test]
fn a_frame_is_crisp_at_every_scale() {
    for scale_120 in [150, 180, 240] {
        let desktop = Desktop::start(Offers { scale_120, ..Offers::default() });
        let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
        window(&mut agent, 1, |_| {});
        geometry(&desktop, (0, -TITLE, 300, 200 + TITLE));
        let scaled = |v: i32| (v * i32::try_from(scale_120).unwrap() + 60) / 120;
        seen(&desktop, (scaled(FIRST.0) + 1, scaled(FIRST.1 + TITLE) + 1), RED);
        // The content has the output's pixels, the title and the edges have as many or more.
        let densities = desktop.with(|desk| desk.densities());
        assert_eq!(densities.len(), 6, "{densities:?}");
        assert!(densities.iter().all(|density| *density >= scale_120), "{densities:?}");
        assert!(densities.contains(&scale_120), "{densities:?}");
    }
}

#[test]
fn real_apps_have_one_frame_each() {
    let desktop = Desktop::start(Offers::default());
    // xterm leaves its frame to whoever shows it, foot draws its own when it must: Inlay says that it need not.
    for (app, title) in [(&["xterm", "-T", "one"][..], "one"), (&["foot", "-T", "two"][..], "two")] {
        let local = Local::start_on(app, Screen::Wayland(&desktop.socket()));
        local.window(title);
        eventually("a frame around it", || {
            desktop.with(|desk| {
                let geometry = Desk::geometry(desk.windows().last()?.wl_surface());
                (geometry.loc.y == -TITLE && geometry.size.h > 100).then_some(())
            })
        });
        std::thread::sleep(Duration::from_millis(500));
        if let Some(folder) = std::env::var_os("INLAY_PICTURES") {
            let picture = desktop.with(|desk| desk.picture());
            picture.save(std::path::Path::new(&folder).join(format!("frame-{title}.png"))).unwrap();
        }
    }
}
