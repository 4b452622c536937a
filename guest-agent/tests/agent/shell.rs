//! Every state and every error of xdg-shell (version 6): who breaks a rule hears which, is disconnected, and nobody else notices.

use inlay_protocol::display::{Event, States};
use inlay_protocol::geometry::{Rect, Size};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Proxy as _, WEnum};
use wayland_protocols::xdg::shell::client::{
    xdg_popup, xdg_positioner, xdg_surface, xdg_toplevel, xdg_wm_base,
};

use crate::client::{Client, Told, Window};
use crate::host::Host;

/// The library no longer knows the object that the error is about.
const GONE: &str = "";

/// The fault is the last that it sends, and not sent yet: what is written after the app was disconnected would hide the error.
type Fault = fn(&mut Client, &mut Host, &Window);

/// What is wrong, how it is done, with a window that is shown at hand, and the error: interface and code.
const FAULTS: &[(&str, Fault, &str, u32)] = &[
    (
        "a surface with another role",
        |client, _, window| {
            let child = client.compositor.create_surface(&client.handle, ());
            client.subcompositor.get_subsurface(&child, &window.surface, &client.handle, ());
            client.wm_base.get_xdg_surface(&child, &client.handle, ());
        },
        "xdg_wm_base",
        xdg_wm_base::Error::Role as u32,
    ),
    (
        "the base goes before what was made by it",
        |client, _, _| client.wm_base.destroy(),
        GONE,
        xdg_wm_base::Error::DefunctSurfaces as u32,
    ),
    (
        "a popup below another goes first",
        |client, host, window| {
            let (_, lower, popup) = shown_popup(client, host, &window.xdg);
            shown_popup(client, host, &lower);
            popup.destroy();
        },
        "xdg_wm_base",
        xdg_wm_base::Error::NotTheTopmostPopup as u32,
    ),
    (
        "a popup without a parent",
        |client, _, _| {
            let (surface, xdg) = plain(client);
            xdg.get_popup(None, &positioner(client), &client.handle, ());
            surface.commit();
        },
        "xdg_wm_base",
        xdg_wm_base::Error::InvalidPopupParent as u32,
    ),
    (
        "a surface that shows something",
        |client, _, _| {
            let surface = client.compositor.create_surface(&client.handle, ());
            let buffer = client.buffer(4, 4);
            client.show(&surface, &buffer);
            client.wm_base.get_xdg_surface(&surface, &client.handle, ());
        },
        "xdg_wm_base",
        xdg_wm_base::Error::InvalidSurfaceState as u32,
    ),
    (
        "a positioner without size",
        |client, _, window| {
            let (_, xdg) = plain(client);
            let place = client.wm_base.create_positioner(&client.handle, ());
            place.set_anchor_rect(0, 0, 1, 1);
            xdg.get_popup(Some(&window.xdg), &place, &client.handle, ());
        },
        "xdg_wm_base",
        xdg_wm_base::Error::InvalidPositioner as u32,
    ),
    (
        "a positioner without anchor rectangle, later",
        |client, host, window| {
            let (_, _, popup) = shown_popup(client, host, &window.xdg);
            let place = client.wm_base.create_positioner(&client.handle, ());
            place.set_size(5, 5);
            popup.reposition(&place, 1);
        },
        "xdg_wm_base",
        xdg_wm_base::Error::InvalidPositioner as u32,
    ),
    (
        "a positioner's size of nothing",
        |client, _, _| client.wm_base.create_positioner(&client.handle, ()).set_size(0, 5),
        "xdg_positioner",
        xdg_positioner::Error::InvalidInput as u32,
    ),
    (
        "a negative anchor rectangle",
        |client, _, _| client.wm_base.create_positioner(&client.handle, ()).set_anchor_rect(0, 0, -1, 5),
        "xdg_positioner",
        xdg_positioner::Error::InvalidInput as u32,
    ),
    (
        "a geometry before the role",
        |client, _, _| plain(client).1.set_window_geometry(0, 0, 5, 5),
        "xdg_surface",
        xdg_surface::Error::NotConstructed as u32,
    ),
    (
        "an answer before the role",
        |client, _, _| plain(client).1.ack_configure(1),
        "xdg_surface",
        xdg_surface::Error::NotConstructed as u32,
    ),
    (
        "a toplevel twice",
        |client, _, window| drop(window.xdg.get_toplevel(&client.handle, ())),
        "xdg_surface",
        xdg_surface::Error::AlreadyConstructed as u32,
    ),
    (
        "a toplevel that becomes a popup",
        |client, _, window| {
            let (_, parent) = plain(client);
            drop(window.xdg.get_popup(Some(&parent), &positioner(client), &client.handle, ()));
        },
        "xdg_surface",
        xdg_surface::Error::AlreadyConstructed as u32,
    ),
    (
        "a buffer before the first commit",
        |client, _, _| {
            let buffer = client.buffer(4, 4);
            let window = client.window();
            window.surface.attach(Some(&buffer.wl), 0, 0);
            window.surface.commit();
        },
        "xdg_surface",
        xdg_surface::Error::UnconfiguredBuffer as u32,
    ),
    (
        "a buffer before the answer",
        |client, host, _| {
            let window = client.window();
            window.surface.commit();
            let configured = |told: &Told| matches!(told, Told::Configured { .. }).then_some(());
            client.until(host, "a configure", configured);
            let buffer = client.buffer(4, 4);
            window.surface.attach(Some(&buffer.wl), 0, 0);
            window.surface.commit();
        },
        "xdg_surface",
        xdg_surface::Error::UnconfiguredBuffer as u32,
    ),
    (
        "an answer to nothing",
        |_, _, window| window.xdg.ack_configure(4_000_000_000),
        "xdg_surface",
        xdg_surface::Error::InvalidSerial as u32,
    ),
    (
        "an empty geometry",
        |_, _, window| window.xdg.set_window_geometry(0, 0, 0, 5),
        "xdg_surface",
        xdg_surface::Error::InvalidSize as u32,
    ),
    (
        "an xdg_surface before its toplevel",
        |_, _, window| window.xdg.destroy(),
        GONE,
        xdg_surface::Error::DefunctRoleObject as u32,
    ),
    (
        "an edge that is none",
        |client, _, window| {
            let (seat, edges) = (client.seat.clone(), WEnum::Unknown(3));
            let _ = window.toplevel.send_request(xdg_toplevel::Request::Resize { seat, serial: 1, edges });
        },
        "xdg_toplevel",
        xdg_toplevel::Error::InvalidResizeEdge as u32,
    ),
    (
        "a parent of its own",
        |_, _, window| window.toplevel.set_parent(Some(&window.toplevel)),
        "xdg_toplevel",
        xdg_toplevel::Error::InvalidParent as u32,
    ),
    (
        "parents in a circle",
        |client, _, window| {
            let other = client.window();
            other.toplevel.set_parent(Some(&window.toplevel));
            window.toplevel.set_parent(Some(&other.toplevel));
        },
        "xdg_toplevel",
        xdg_toplevel::Error::InvalidParent as u32,
    ),
    (
        "a negative size",
        |_, _, window| window.toplevel.set_max_size(-1, 10),
        "xdg_toplevel",
        xdg_toplevel::Error::InvalidSize as u32,
    ),
    (
        "a smallest size above the largest",
        |_, _, window| {
            window.toplevel.set_min_size(100, 10);
            window.toplevel.set_max_size(50, 0);
            window.surface.commit();
        },
        "xdg_toplevel",
        xdg_toplevel::Error::InvalidSize as u32,
    ),
    (
        "a grab of a popup that is shown",
        |client, host, window| {
            let (_, _, popup) = shown_popup(client, host, &window.xdg);
            popup.grab(&client.seat, 1);
        },
        "xdg_popup",
        xdg_popup::Error::InvalidGrab as u32,
    ),
];

#[test]
fn every_error_of_the_shell_is_told_as_the_protocol_has_it() {
    let mut host = Host::start();
    let mut bystander = Client::new(&host);
    let buffer = bystander.buffer(8, 8);
    let (_window, id) = bystander.mapped(&mut host, &buffer);
    for (what, fault, interface, code) in FAULTS {
        let mut client = Client::new(&host);
        let buffer = client.buffer(20, 20);
        let (window, _) = client.mapped(&mut host, &buffer);
        fault(&mut client, &mut host, &window);
        assert!(client.queue.roundtrip(&mut client.state).is_err(), "{what}: no error");
        let error = client.connection.protocol_error().expect(what);
        assert_eq!(
            (error.object_interface.as_str(), error.code),
            (*interface, *code),
            "{what}: {}",
            error.message
        );
        host.until("only the other app's window", |host| host.toplevels.keys().eq([&id]));
    }
    bystander.roundtrip();
}

#[test]
fn popups_that_the_host_has_closed_may_go_in_any_order() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    let (_, lower, first) = shown_popup(&mut client, &mut host, &window.xdg);
    let (_, upper, second) = shown_popup(&mut client, &mut host, &lower);
    let lowest = *host.popups.keys().next().unwrap();
    host.send(&Event::PopupDone { surface: lowest });
    for _ in 0..2 {
        client.until(&mut host, "popup_done", |told| (*told == Told::PopupDone).then_some(()));
    }
    first.destroy();
    lower.destroy();
    second.destroy();
    upper.destroy();
    client.roundtrip();
    host.until("both are gone", |host| host.popups.is_empty());
    assert!(host.toplevels.contains_key(&id));
}

#[test]
fn every_state_of_a_window_reaches_its_app() {
    use xdg_toplevel::State;
    const STATES: [(States, State); 9] = [
        (States::MAXIMIZED, State::Maximized),
        (States::FULLSCREEN, State::Fullscreen),
        (States::RESIZING, State::Resizing),
        (States::ACTIVATED, State::Activated),
        (States::TILED_LEFT, State::TiledLeft),
        (States::TILED_RIGHT, State::TiledRight),
        (States::TILED_TOP, State::TiledTop),
        (States::TILED_BOTTOM, State::TiledBottom),
        (States::SUSPENDED, State::Suspended),
    ];
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    for (step, (state, told)) in (1..).zip(STATES) {
        let size = Size::new(100 + step, 50);
        host.configure(id, Some(size), state);
        let (_, at, states) = client.configured(&mut host, &window);
        assert_eq!((at.0.unsigned_abs(), states), (size.width, vec![told as u32]), "{told:?}");
    }
    let all = STATES.iter().fold(States::default(), |all, (state, _)| all.set(*state, true));
    host.configure(id, None, all);
    let (_, size, states) = client.configured(&mut host, &window);
    assert_eq!((size, states.len()), ((0, 0), STATES.len()), "{states:?}");
    host.configure(id, None, States::default());
    assert_eq!(client.configured(&mut host, &window).2, [0_u32; 0]);
}

/// A popup with its own idea of a place, which is shown.
fn shown_popup(
    client: &mut Client,
    host: &mut Host,
    parent: &xdg_surface::XdgSurface,
) -> (WlSurface, xdg_surface::XdgSurface, xdg_popup::XdgPopup) {
    let (surface, xdg) = plain(client);
    let popup = xdg.get_popup(Some(parent), &positioner(client), &client.handle, ());
    surface.commit();
    client.roundtrip();
    let known = host.popups.len();
    host.until("the popup", |host| host.popups.len() > known);
    let id = *host.popups.keys().next_back().unwrap();
    let area = Rect::new(0, 0, 5, 5);
    host.send(&Event::ConfigurePopup { surface: id, serial: 1, area, reposition: None });
    let serial = client.until(host, "the popup's place", |told| match told {
        Told::PopupConfigured { serial, .. } => Some(*serial),
        _ => None,
    });
    xdg.ack_configure(serial);
    let buffer = client.buffer(5, 5);
    client.show(&surface, &buffer);
    host.until("the popup is shown", |host| host.is_mapped(id));
    (surface, xdg, popup)
}

fn plain(client: &Client) -> (WlSurface, xdg_surface::XdgSurface) {
    let surface = client.compositor.create_surface(&client.handle, ());
    let xdg = client.wm_base.get_xdg_surface(&surface, &client.handle, ());
    (surface, xdg)
}

fn positioner(client: &Client) -> xdg_positioner::XdgPositioner {
    let positioner = client.wm_base.create_positioner(&client.handle, ());
    positioner.set_size(5, 5);
    positioner.set_anchor_rect(0, 0, 1, 1);
    positioner
}
