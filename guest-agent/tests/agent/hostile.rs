//! Apps that send nonsense: at worst they end alone.

use std::time::Duration;

use inlay_protocol::framing::Message;
use inlay_protocol::geometry::Rect;
use inlay_protocol::input::InputEvent;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::xdg::shell::client::xdg_positioner;

use crate::client::{Client, Window};
use crate::host::Host;

const MIN: i32 = i32::MIN;
const MAX: i32 = i32::MAX;
const EXTREMES: [i32; 7] = [MIN, MIN + 1, -1, 0, 1, MAX - 1, MAX];

/// Something that an app does with a window, and its name.
type Nonsense = (&'static str, fn(&mut Client, &Window));

/// Runs one act of an app on a window of its own, then looks whether the agent still serves others and keeps to the limits.
fn survives(acts: &[Nonsense]) {
    let mut host = Host::start();
    let mut witness = Client::new(&host);
    let good = witness.buffer(32, 32);
    let (good_window, good_id) = witness.mapped(&mut host, &good);
    for (seed, (what, act)) in (1..).zip(acts) {
        let mut app = Client::new(&host);
        let buffer = app.buffer(40, 30);
        let (window, id) = app.mapped(&mut host, &buffer);
        act(&mut app, &window);
        window.surface.attach(Some(&buffer.wl), 0, 0);
        window.surface.damage_buffer(0, 0, MAX, MAX);
        window.surface.commit();
        // The app may be cut off by now.
        let _ = app.queue.roundtrip(&mut app.state);
        host.input(InputEvent::PointerEnter { surface: id, x: 5.0, y: 5.0 });
        host.input(InputEvent::PointerMotion { time_ms: 1, x: -1e6, y: 1e6 });
        host.serve_for(Duration::from_millis(20));
        for request in &host.requests {
            request.check().unwrap_or_else(|error| panic!("{what}: {error}: {request:?}"));
        }
        drop(app);
        let drawn = good.fill(seed);
        witness.show(&good_window.surface, &good);
        host.until(what, |host| host.pixels(good_id) == drawn);
        host.until("it is gone", |host| host.toplevels.len() == 1);
    }
}

fn quads() -> impl Iterator<Item = [i32; 4]> {
    EXTREMES.into_iter().flat_map(|a| EXTREMES.into_iter().map(move |b| [a, b, b, a]))
}

#[test]
fn extreme_numbers_on_surfaces() {
    survives(&[
        ("surface damage", |_, w| quads().for_each(|[a, b, c, d]| w.surface.damage(a, b, c, d))),
        ("buffer damage", |_, w| quads().for_each(|[a, b, c, d]| w.surface.damage_buffer(a, b, c, d))),
        ("regions", |app, w| {
            let region = app.compositor.create_region(&app.handle, ());
            for [a, b, c, d] in quads() {
                region.add(a, b, c, d);
                region.subtract(b, a, d, c);
            }
            region.add(MIN, MIN, MAX, MAX);
            w.surface.set_input_region(Some(&region));
            w.surface.set_opaque_region(Some(&region));
        }),
        ("offsets", |_, w| EXTREMES.into_iter().for_each(|n| w.surface.offset(n, n))),
        ("a huge scale", |_, w| w.surface.set_buffer_scale(MAX)),
        ("a negative scale", |_, w| w.surface.set_buffer_scale(MIN)),
        ("a huge destination", |app, w| {
            app.viewporter.get_viewport(&w.surface, &app.handle, ()).set_destination(MAX, MAX);
        }),
        ("a huge source", |app, w| {
            let viewport = app.viewporter.get_viewport(&w.surface, &app.handle, ());
            viewport.set_source(8_000_000.0, 8_000_000.0, 8_000_000.0, 8_000_000.0);
        }),
        ("a source of nothing", |app, w| {
            let viewport = app.viewporter.get_viewport(&w.surface, &app.handle, ());
            viewport.set_source(1.0, 1.0, 0.1, 0.1);
            viewport.set_destination(1, MAX);
        }),
    ]);
}

fn subsurface(app: &Client, parent: &WlSurface) -> WlSurface {
    let surface = app.compositor.create_surface(&app.handle, ());
    let sub = app.subcompositor.get_subsurface(&surface, parent, &app.handle, ());
    sub.set_position(MAX, MIN);
    surface.commit();
    surface
}

#[test]
fn extreme_windows_and_trees() {
    survives(&[
        ("geometry", |_, w| w.xdg.set_window_geometry(MIN, MAX, MAX, MAX)),
        ("negative geometry", |_, w| w.xdg.set_window_geometry(0, 0, -5, -5)),
        ("size hints", |_, w| {
            w.toplevel.set_min_size(MAX, 1);
            w.toplevel.set_max_size(MAX, MAX);
        }),
        ("negative size hints", |_, w| w.toplevel.set_min_size(MIN, MIN)),
        ("a popup out of this world", |app, w| {
            let positioner = app.wm_base.create_positioner(&app.handle, ());
            positioner.set_size(MAX, MAX);
            positioner.set_anchor_rect(MIN, MIN, MAX, MAX);
            positioner.set_anchor(xdg_positioner::Anchor::BottomRight);
            positioner.set_offset(MAX, MIN);
            let surface = app.compositor.create_surface(&app.handle, ());
            let xdg = app.wm_base.get_xdg_surface(&surface, &app.handle, ());
            xdg.get_popup(Some(&w.xdg), &positioner, &app.handle, ());
            surface.commit();
        }),
        ("a window menu far away", |app, w| w.toplevel.show_window_menu(&app.seat, 0, MIN, MAX)),
        ("a deep tree", |app, w| {
            let mut parent = w.surface.clone();
            for _ in 0..200 {
                parent = subsurface(app, &parent);
            }
        }),
        ("a wide tree", |app, w| {
            for _ in 0..600 {
                subsurface(app, &w.surface);
            }
        }),
        ("a parent of itself", |_, w| w.toplevel.set_parent(Some(&w.toplevel))),
        ("a wrong order of destruction", |_, w| w.surface.destroy()),
        ("many titles", |_, w| (0..500).for_each(|n| w.toplevel.set_title(format!("{n}\u{7}\n")))),
        ("many frame callbacks", |app, w| {
            for _ in 0..3000 {
                w.surface.frame(&app.handle, ());
            }
        }),
    ]);
}

#[test]
fn an_app_with_too_many_surfaces_ends_alone() {
    survives(&[("too many surfaces", |app, _| {
        for n in 0..5000 {
            app.compositor.create_surface(&app.handle, ());
            if n % 100 == 0 && app.queue.roundtrip(&mut app.state).is_err() {
                return;
            }
        }
        panic!("5000 surfaces are accepted");
    })]);
}

#[test]
fn an_app_that_never_reads_holds_nobody_up() {
    let mut host = Host::start();
    let mut deaf = Client::new(&host);
    let buffer = deaf.buffer(10, 10);
    let (window, id) = deaf.mapped(&mut host, &buffer);
    host.input(InputEvent::PointerEnter { surface: id, x: 1.0, y: 1.0 });
    for time_ms in 0..30_000_u64 {
        let x = f64::from(u32::try_from(time_ms % 9).unwrap());
        host.input(InputEvent::PointerMotion { time_ms, x, y: 1.0 });
    }
    let mut other = Client::new(&host);
    let buffer = other.buffer(20, 20);
    let drawn = buffer.fill(1);
    let (_other_window, id) = other.mapped(&mut host, &buffer);
    assert!(host.pixels(id) == drawn);
    assert!(host.count().resident_bytes < 200 << 20);
    assert_eq!(host.surfaces[&id].damage, [Rect::new(0, 0, 20, 20)]);
    drop(window);
}
