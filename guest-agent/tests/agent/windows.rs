//! Toplevels and popups: their life, their serials, and what apps ask the host for.

use std::time::Duration;

use inlay_protocol::display::{Act, Decoration, Edges, Event, Request, States};
use inlay_protocol::geometry::{Point, Rect, Size};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Proxy, delegate_noop};
use wayland_protocols::xdg::decoration::zv1::client::{
    zxdg_decoration_manager_v1::ZxdgDecorationManagerV1,
    zxdg_toplevel_decoration_v1::{Mode, ZxdgToplevelDecorationV1},
};
use wayland_protocols::xdg::shell::client::{xdg_popup, xdg_positioner, xdg_surface, xdg_toplevel};

use crate::client::{Client, State, Told, Window};
use crate::host::{Host, Manners, POLITE, positioner_of};

delegate_noop!(State: ignore ZxdgDecorationManagerV1);
delegate_noop!(State: ignore ZxdgToplevelDecorationV1);

#[test]
fn the_host_s_size_and_serial_come_back_with_the_commit() {
    let mut host = Host::start();
    host.manners = Manners { configure: None, ..POLITE };
    let mut client = Client::new(&host);
    let window = client.window();
    window.toplevel.set_title("a title".into());
    window.toplevel.set_app_id("an.app".into());
    window.toplevel.set_min_size(10, 20);
    window.toplevel.set_max_size(300, 0);
    window.surface.commit();
    client.roundtrip();
    host.until("the toplevel", |host| !host.toplevels.is_empty());
    let id = host.toplevel();
    let said = host.toplevels[&id].clone();
    assert_eq!((said.title.as_str(), said.app_id.as_str()), ("a title", "an.app"));
    assert_eq!((said.min_size, said.max_size), (Size::new(10, 20), Size::new(300, 0)));
    assert_eq!((said.parent, said.decoration), (None, Decoration::ClientSide));
    host.serve_for(Duration::from_millis(50));
    client.roundtrip();
    let waits = !client.state.told.iter().any(|t| matches!(t, Told::Configured { .. }));
    assert!(waits, "the app is configured before the host answered");

    let first = host.configure(id, Some(Size::new(200, 100)), States::ACTIVATED.set(States::MAXIMIZED, true));
    let (_, size, states) = client.configured(&mut host, &window);
    assert_eq!(size, (200, 100));
    assert_eq!(states, [xdg_toplevel::State::Maximized as u32, xdg_toplevel::State::Activated as u32]);
    let second = host.configure(id, Some(Size::new(210, 110)), States::ACTIVATED);
    let buffer = client.buffer(200, 100);
    client.show(&window.surface, &buffer);
    host.until("mapped", |host| host.is_mapped(id));
    assert_eq!(host.surfaces[&id].acked, Some(first));
    client.configured(&mut host, &window);
    let buffer = client.buffer(210, 110);
    client.show(&window.surface, &buffer);
    host.until("the size", |host| host.surfaces[&id].size == Size::new(210, 110));
    assert_eq!(host.surfaces[&id].acked, Some(second));

    window.toplevel.set_title("another".into());
    client.roundtrip();
    host.until("the title", |host| host.toplevels[&id].title == "another");
    host.send(&Event::Close { surface: id });
    client.until(&mut host, "close", |told| (*told == Told::Closed).then_some(()));
    window.toplevel.destroy();
    client.roundtrip();
    host.until("its role is gone", |host| host.toplevels.is_empty());
    assert!(host.surfaces.contains_key(&id));
    window.xdg.destroy();
    window.surface.destroy();
    client.roundtrip();
    host.until("its surface is gone", |host| host.surfaces.is_empty());
}

#[test]
fn an_unmapped_window_starts_again() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    client.roundtrip();
    host.until("it is no window", |host| host.toplevels.is_empty());
    host.until("it has no content", |host| !host.is_mapped(id));
    window.surface.commit();
    client.configured(&mut host, &window);
    let drawn = buffer.fill(5);
    client.show(&window.surface, &buffer);
    assert_eq!(host.until_mapped(), id);
    assert!(host.pixels(id) == drawn);
}

#[test]
fn what_an_app_asks_of_its_window_reaches_the_host() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    // Before the host knows the window, too.
    let window = client.window();
    window.toplevel.set_maximized();
    window.surface.commit();
    client.configured(&mut host, &window);
    let buffer = client.buffer(20, 20);
    client.show(&window.surface, &buffer);
    let id = host.until_mapped();
    let asked = |host: &Host| -> Vec<Act> {
        let acts = host.requests.iter().filter_map(|r| match r {
            Request::Act { surface, act } if *surface == id => Some(*act),
            _ => None,
        });
        acts.collect()
    };
    assert_eq!(asked(&host), [Act::Maximize]);
    window.toplevel.unset_maximized();
    window.toplevel.set_fullscreen(None);
    window.toplevel.unset_fullscreen();
    window.toplevel.set_minimized();
    window.toplevel._move(&client.seat, 1);
    window.toplevel.resize(&client.seat, 1, xdg_toplevel::ResizeEdge::BottomRight);
    window.toplevel.show_window_menu(&client.seat, 1, 3, 4);
    client.roundtrip();
    let all = [
        Act::Maximize,
        Act::Unmaximize,
        Act::Fullscreen,
        Act::Unfullscreen,
        Act::Minimize,
        Act::Move,
        Act::Resize(Edges::BOTTOM.with(Edges::RIGHT)),
        Act::WindowMenu(Point::new(3, 4)),
    ];
    host.until("all acts", |host| asked(host).len() == all.len());
    assert_eq!(asked(&host), all);
}

#[test]
fn the_host_decorates_unless_the_app_insists() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let manager: ZxdgDecorationManagerV1 = client.bind(1);
    let window = client.window();
    let decoration = manager.get_toplevel_decoration(&window.toplevel, &client.handle, ());
    window.surface.commit();
    client.configured(&mut host, &window);
    let id = host.toplevel();
    assert_eq!(host.toplevels[&id].decoration, Decoration::ServerSide);
    decoration.set_mode(Mode::ClientSide);
    client.roundtrip();
    host.until("the app's wish", |host| host.toplevels[&id].decoration == Decoration::ClientSide);
    decoration.unset_mode();
    client.roundtrip();
    host.until("the host's choice", |host| host.toplevels[&id].decoration == Decoration::ServerSide);
}

#[test]
fn a_dialog_names_its_parent() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (parent, parent_id) = client.mapped(&mut host, &buffer);
    let dialog = client.window();
    dialog.toplevel.set_parent(Some(&parent.toplevel));
    dialog.surface.commit();
    client.configured(&mut host, &dialog);
    let child = *host.toplevels.keys().find(|id| **id != parent_id).unwrap();
    assert_eq!(host.toplevels[&child].parent, Some(parent_id));
}

struct Popup {
    surface: WlSurface,
    xdg: xdg_surface::XdgSurface,
    popup: xdg_popup::XdgPopup,
}

fn positioner(client: &Client, x: i32) -> xdg_positioner::XdgPositioner {
    let positioner = client.wm_base.create_positioner(&client.handle, ());
    positioner.set_size(40, 30);
    positioner.set_anchor_rect(x, 5, 10, 10);
    positioner.set_anchor(xdg_positioner::Anchor::BottomLeft);
    positioner.set_gravity(xdg_positioner::Gravity::BottomRight);
    positioner.set_constraint_adjustment(
        xdg_positioner::ConstraintAdjustment::FlipY | xdg_positioner::ConstraintAdjustment::SlideX,
    );
    positioner.set_offset(1, 2);
    positioner
}

fn popup(client: &Client, parent: &xdg_surface::XdgSurface, grab: bool) -> Popup {
    let surface = client.compositor.create_surface(&client.handle, ());
    let xdg = client.wm_base.get_xdg_surface(&surface, &client.handle, ());
    let popup = xdg.get_popup(Some(parent), &positioner(client, 5), &client.handle, ());
    if grab {
        popup.grab(&client.seat, 1);
    }
    surface.commit();
    client.connection.flush().unwrap();
    Popup { surface, xdg, popup }
}

#[track_caller]
fn placed(client: &mut Client, host: &mut Host, popup: &Popup) -> ((i32, i32), (i32, i32)) {
    let (serial, place, size) = client.until(host, "a popup's configure", |told| match told {
        Told::PopupConfigured { serial, place, size } => Some((*serial, *place, *size)),
        _ => None,
    });
    popup.xdg.ack_configure(serial);
    (place, size)
}

fn with_popup() -> (Host, Client, Window, Popup) {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(200, 200);
    let (window, id) = client.mapped(&mut host, &buffer);
    let popup = popup(&client, &window.xdg, true);
    host.until("the popup", |host| host.popups.len() == 1);
    let said = host.popups.values().next().unwrap().clone();
    assert_eq!((said.parent, said.grab, said.reposition), (id, true, None));
    let wish = positioner_of(&said);
    assert_eq!(wish.size, Size::new(40, 30));
    assert_eq!(wish.anchor_rect, Rect::new(5, 5, 10, 10));
    assert_eq!(wish.anchor, Edges::BOTTOM.with(Edges::LEFT));
    assert_eq!(wish.gravity, Edges::BOTTOM.with(Edges::RIGHT));
    assert_eq!(wish.adjustment.0, 1 | 8);
    assert_eq!(wish.offset, Point::new(1, 2));
    let surface = said.surface;
    host.send(&Event::ConfigurePopup {
        surface,
        serial: 77,
        area: Rect::new(6, 17, 40, 30),
        reposition: None,
    });
    assert_eq!(placed(&mut client, &mut host, &popup), ((6, 17), (40, 30)));
    let buffer = client.buffer(40, 30);
    let drawn = buffer.fill(8);
    client.show(&popup.surface, &buffer);
    host.until("the popup is mapped", |host| host.is_mapped(surface));
    assert!(host.pixels(surface) == drawn);
    assert_eq!(host.surfaces[&surface].acked, Some(77));
    (host, client, window, popup)
}

#[test]
fn a_popup_is_placed_by_the_host_and_moved_on_request() {
    let (mut host, mut client, _window, popup) = with_popup();
    let surface = *host.popups.keys().next().unwrap();
    popup.popup.reposition(&positioner(&client, 90), 1234);
    client.roundtrip();
    host.until("the new place is asked", |host| host.popups[&surface].reposition == Some(1234));
    assert_eq!(positioner_of(&host.popups[&surface]).anchor_rect.x, 90);
    host.send(&Event::ConfigurePopup {
        surface,
        serial: 78,
        area: Rect::new(91, 17, 40, 30),
        reposition: Some(1234),
    });
    client.until(&mut host, "the token", |told| (*told == Told::Repositioned(1234)).then_some(()));
    assert_eq!(placed(&mut client, &mut host, &popup), ((91, 17), (40, 30)));
    popup.surface.commit();
    client.roundtrip();
    host.until("the ack", |host| host.surfaces[&surface].acked == Some(78));
}

#[test]
fn dismissing_a_popup_dismisses_those_above_it_first() {
    let (mut host, mut client, _window, below) = with_popup();
    let below_id = *host.popups.keys().next().unwrap();
    let above = popup(&client, &below.xdg, true);
    host.until("the second popup", |host| host.popups.len() == 2);
    let above_id = *host.popups.keys().find(|id| **id != below_id).unwrap();
    assert_eq!(host.popups[&above_id].parent, below_id);
    let area = Rect::new(0, 0, 40, 30);
    host.send(&Event::ConfigurePopup { surface: above_id, serial: 1, area, reposition: None });
    placed(&mut client, &mut host, &above);
    let buffer = client.buffer(40, 30);
    client.show(&above.surface, &buffer);
    host.until("the second popup is mapped", |host| host.is_mapped(above_id));
    host.send(&Event::PopupDone { surface: below_id });
    for _ in 0..2 {
        client.until(&mut host, "popup_done", |told| (*told == Told::PopupDone).then_some(()));
    }
    above.popup.destroy();
    below.popup.destroy();
    client.roundtrip();
    host.until("both are gone", |host| host.popups.is_empty());
    let gone: Vec<_> = host
        .requests
        .iter()
        .filter_map(|r| match r {
            Request::RoleGone { surface } => Some(*surface),
            _ => None,
        })
        .collect();
    assert_eq!(gone, [above_id, below_id]);
}

#[test]
fn frames_follow_the_host_s_ticks() {
    let mut host = Host::start();
    host.manners = Manners { tick: false, ..POLITE };
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    let (other, _) = client.mapped(&mut host, &buffer);
    window.surface.frame(&client.handle, ());
    client.show(&window.surface, &buffer);
    other.surface.frame(&client.handle, ());
    client.show(&other.surface, &buffer);
    host.until("a frame is wanted", |host| host.surfaces[&id].wants_frame);
    host.serve_for(Duration::from_millis(100));
    client.roundtrip();
    assert!(!client.state.told.contains(&Told::Frame));
    host.tick(id);
    client.until(&mut host, "the frame", |told| (*told == Told::Frame).then_some(()));
    host.serve_for(Duration::from_millis(30));
    client.roundtrip();
    assert!(!client.state.told.contains(&Told::Frame), "the other window had no tick");
    assert_ne!(window.surface.id(), other.surface.id());
}
