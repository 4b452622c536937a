//! Two monitors of different scale: windows that go from one to the other, menus at every edge of both, the pointer in every corner.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::time::Duration;

use common::eventually;
use common::scripted::{Agent, GREEN, Screen};
use common::sway::{Monitor, Sway};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::scale::Scale;

/// Sway has no fractions in its protocols yet; `kwin.rs` has a scale of 1.5.
const MONITORS: [Monitor; 2] = [((1200, 800), 1, 0), ((2400, 1600), 2, 1200)];
const SIZE: Size = Size::new(400, 300);
const MENU: Size = Size::new(180, 90);
const BLUE: [u8; 4] = [200, 0, 0, 255];

/// The area of a monitor, in logical pixels.
fn area(monitor: usize) -> Rect {
    let ((width, height), scale, x) = MONITORS[monitor];
    Rect::new(x.cast_signed(), 0, width / scale, height / scale)
}

fn scale(monitor: usize) -> Scale {
    Scale(MONITORS[monitor].1 * 120)
}

fn configured(event: &Event) -> Option<(u32, Option<Size>)> {
    match event {
        Event::ConfigureToplevel { surface: SurfaceId(1), serial, size, .. } => Some((*serial, *size)),
        _ => None,
    }
}

/// Draws the window as an app does that follows scale and size: blue, and its outermost pixels green.
fn draw(agent: &mut Agent, size: Size, scale: Scale, serial: Option<u32>) {
    let pixels = scale.size(size);
    let edge = |at: u32, of: u32| at == 0 || at + 1 == of;
    let bytes: Vec<u8> = (0..pixels.height)
        .flat_map(|y| (0..pixels.width).map(move |x| (x, y)))
        .flat_map(|(x, y)| if edge(x, pixels.width) || edge(y, pixels.height) { GREEN } else { BLUE })
        .collect();
    agent.show(1, pixels, &bytes, |commit| (commit.size, commit.acked) = (size, serial));
}

/// Moves the window on the outputs, and waits until it is there and knows its scale.
fn go(sway: &Sway, agent: &mut Agent, monitor: usize, at: Point) {
    let at = Point::new(area(monitor).x + at.x, at.y);
    sway.msg(&[&format!("[title=two] move absolute position {} {}", at.x, at.y)]);
    eventually("its place", || {
        let content = sway.content("two");
        (Point::new(content.x, content.y) == at).then_some(())
    });
    agent.listen(Duration::from_millis(50));
}

/// Whether the four corners of the window are green on the screen, and what lies one pixel further inside is blue.
fn is_crisp(sway: &Sway, monitor: usize, window: Rect) -> bool {
    let screen = sway.screen_of(u32::try_from(monitor).unwrap() + 1);
    let on = window.translated(Point::new(-area(monitor).x, 0));
    let scale = scale(monitor);
    let (corner, size) = (scale.point(Point::new(on.x, on.y)), scale.size(on.size()));
    let pixel = |x: u32, y: u32| {
        let at = (corner.x.unsigned_abs() + x, corner.y.unsigned_abs() + y);
        screen.get_pixel_checked(at.0, at.1).map(|pixel| pixel.0)
    };
    let rgb = |c: [u8; 4]| Some([c[2], c[1], c[0]]);
    let ends = |of: u32| [(0, 1), (of - 1, of - 2)];
    ends(size.width).iter().all(|(x, inside_x)| {
        ends(size.height)
            .iter()
            .all(|(y, inside_y)| pixel(*x, *y) == rgb(GREEN) && pixel(*inside_x, *inside_y) == rgb(BLUE))
    })
}

#[test]
fn windows_and_menus_are_right_on_two_monitors_of_different_scale() {
    let floating = "for_window [title=two] floating enable, border none";
    let sway = Sway::start_with(&MONITORS, floating);
    let mut pointer = sway.pointer();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    let outputs = agent.until("the monitors", |e| match e {
        Event::Outputs(outputs) if outputs.len() == 2 => Some(outputs.clone()),
        _ => None,
    });
    for (monitor, output) in outputs.iter().enumerate() {
        assert_eq!((output.area, Scale(output.scale_120)), (area(monitor), scale(monitor)));
    }
    agent.toplevel(1, "two", |_| {});
    let (serial, _) = agent.until("the first configure", configured);
    draw(&mut agent, SIZE, Scale::ONE, Some(serial));
    sway.window("two");

    // To the other, and back, and to the other.
    for monitor in [0, 1, 0, 1] {
        agent.events.clear();
        go(&sway, &mut agent, monitor, Point::new(100, 80));
        let wanted = scale(monitor).0;
        let told = |agent: &mut Agent| {
            agent.listen(Duration::from_millis(50));
            let newest = agent.events.iter().rev().find_map(|e| match e {
                Event::Shown { surface: SurfaceId(1), outputs, scale_120 } => {
                    Some((outputs.clone(), *scale_120))
                }
                _ => None,
            });
            newest.is_none_or(|(on, scale)| on == [u8::try_from(monitor).unwrap()] && scale == wanted)
        };
        eventually("the scale of that monitor", || told(&mut agent).then_some(()));
        draw(&mut agent, SIZE, scale(monitor), None);
        let window = sway.content("two");
        assert_eq!(window.size(), SIZE, "its size stays");
        eventually("pixel by pixel", || is_crisp(&sway, monitor, window).then_some(()));

        // The pointer in every corner.
        for (x, y) in [(0, 0), (SIZE.width - 1, 0), (SIZE.width - 1, SIZE.height - 1), (0, SIZE.height - 1)] {
            agent.events.clear();
            pointer.move_to(window.x.unsigned_abs() + x, window.y.unsigned_abs() + y);
            agent.until(&format!("the pointer at {x}, {y}"), |e| match e {
                Event::Input(InputEvent::PointerEnter { x: px, y: py, .. })
                | Event::Input(InputEvent::PointerMotion { x: px, y: py, .. }) => {
                    // The desktop has fractions of its own.
                    let near = |is: f64, wanted: u32| (is - f64::from(wanted)).abs() < 0.05;
                    (near(*px, x) && near(*py, y)).then_some(())
                }
                _ => None,
            });
        }
    }

    // Menus at every edge of both: whole, on the monitor of their window.
    let mut surface = 10;
    for monitor in [0, 1] {
        let on = area(monitor);
        let (right, bottom) = (on.width - SIZE.width, on.height - SIZE.height);
        for (x, y) in
            [(0, 0), (right, 0), (right, bottom), (0, bottom), (right / 2, bottom), (right, bottom / 2)]
        {
            go(&sway, &mut agent, monitor, Point::new(x.cast_signed(), y.cast_signed()));
            let window = sway.content("two");
            for (anchor, edges) in [
                (Rect::new(0, 0, 60, 20), Edges::BOTTOM.with(Edges::RIGHT)),
                (Rect::new(340, 280, 60, 20), Edges::BOTTOM.with(Edges::RIGHT)),
                (Rect::new(340, 0, 60, 20), Edges::TOP.with(Edges::RIGHT)),
                (Rect::new(0, 280, 60, 20), Edges::BOTTOM.with(Edges::LEFT)),
            ] {
                surface += 1;
                let place = menu_at(&mut agent, surface, anchor, edges);
                let menu = place.translated(Point::new(window.x, window.y));
                assert_eq!(
                    menu.intersection(on),
                    Some(menu),
                    "{edges:?} of {anchor:?} in a window at {window:?}"
                );
                agent.paint(surface, MENU, GREEN);
                let centre = Point::new(menu.x - on.x + 90, menu.y + 45);
                let pixel = scale(monitor).point(centre);
                eventually("the menu", || {
                    let screen = sway.screen_of(u32::try_from(monitor).unwrap() + 1);
                    let is = screen.get_pixel(pixel.x.unsigned_abs(), pixel.y.unsigned_abs()).0;
                    (is == [GREEN[2], GREEN[1], GREEN[0]]).then_some(())
                });
                agent.send(&Request::RoleGone { surface: SurfaceId(surface) });
                agent.send(&Request::DestroySurface { surface: SurfaceId(surface) });
            }
        }
    }

    // As large as the monitor, on either.
    for monitor in [1, 0] {
        go(&sway, &mut agent, monitor, Point::new(50, 50));
        agent.events.clear();
        sway.msg(&["[title=two] fullscreen enable"]);
        let size = area(monitor).size();
        let (serial, _) =
            agent.until("the size of the monitor", |e| configured(e).filter(|c| c.1 == Some(size)));
        draw(&mut agent, size, scale(monitor), Some(serial));
        eventually("pixel by pixel", || is_crisp(&sway, monitor, area(monitor)).then_some(()));
        agent.events.clear();
        sway.msg(&["[title=two] fullscreen disable"]);
        let (serial, _) = agent.until("its own size", |e| configured(e).filter(|c| c.1 == Some(SIZE)));
        draw(&mut agent, SIZE, scale(monitor), Some(serial));
        eventually("its own size again", || (sway.content("two").size() == SIZE).then_some(()));
    }
}

/// A menu at a corner of an anchor rectangle, which may be flipped and moved; where the desktop puts it.
fn menu_at(agent: &mut Agent, surface: u32, anchor_rect: Rect, towards: Edges) -> Rect {
    let flips = ConstraintAdjustment::FLIP_X.0 | ConstraintAdjustment::FLIP_Y.0;
    let slides = ConstraintAdjustment::SLIDE_X.0 | ConstraintAdjustment::SLIDE_Y.0;
    let positioner = Positioner {
        size: MENU,
        anchor_rect,
        anchor: towards,
        gravity: towards,
        adjustment: ConstraintAdjustment(flips | slides),
        offset: Point::default(),
        reactive: false,
    };
    agent.send(&Request::Popup(Popup {
        surface: SurfaceId(surface),
        parent: SurfaceId(1),
        place: Place::Positioner(positioner),
        kind: PopupKind::Menu,
        grab: false,
        reposition: None,
    }));
    agent.until("its place", |e| match e {
        Event::ConfigurePopup { surface: SurfaceId(of), area, .. } if *of == surface => Some(*area),
        _ => None,
    })
}
