//! What apps want beside windows: to know when they are seen, icons, the desktop's shortcuts, one pixel for a whole surface.

use inlay_protocol::display::{ContentType, Event, Format, WindowKind};
use inlay_protocol::geometry::Size;
use wayland_client::protocol::wl_shm;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::WpContentTypeManagerV1;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_v1::Type;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_wm_dialog_v1::XdgWmDialogV1;
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1;

use crate::client::{Client, Told};
use crate::host::{Host, Manners, POLITE};

fn seen(client: &mut Client, host: &mut Host) -> u32 {
    client.until(host, "the commit is seen", |told| match told {
        Told::Presented { refresh } => Some(*refresh),
        _ => None,
    })
}

fn discarded(client: &mut Client, host: &mut Host) {
    client.until(host, "the commit is not seen", |told| (*told == Told::Discarded).then_some(()));
}

#[test]
fn a_commit_is_seen_with_the_first_frame_after_the_host_has_its_pixels() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let presentation: WpPresentation = client.bind(1);
    let buffers = [(); 4].map(|()| client.buffer(20, 20));
    let (window, id) = client.mapped(&mut host, &buffers[0]);
    host.manners = Manners { tick: false, release: false, ..POLITE };
    let before = host.surfaces[&id].number;

    presentation.feedback(&window.surface, &client.handle, ());
    client.show(&window.surface, &buffers[1]);
    host.until("a commit", |host| host.surfaces[&id].number == before + 1);
    assert!(host.surfaces[&id].wants_frame);
    host.tick(id);
    host.serve_for(std::time::Duration::from_millis(50));
    client.roundtrip();
    assert!(!client.state.told.iter().any(|told| matches!(told, Told::Presented { .. })), "it was not shown");
    host.release(id, before + 1);
    host.tick(id);
    // The monitor that apps see before the host names one has 60 Hz.
    assert_eq!(seen(&mut client, &mut host), 16_666_666);

    // Two are on their way; what is replaced before it can leave is never seen.
    for (buffer, number) in buffers[1..3].iter().zip(before + 2..) {
        client.show(&window.surface, buffer);
        host.until("a commit", |host| host.surfaces[&id].number == number);
    }
    presentation.feedback(&window.surface, &client.handle, ());
    client.show(&window.surface, &buffers[3]);
    client.roundtrip();
    presentation.feedback(&window.surface, &client.handle, ());
    client.show(&window.surface, &buffers[0]);
    discarded(&mut client, &mut host);
    host.release(id, before + 2);
    host.release(id, before + 3);
    host.until("the last commit", |host| host.surfaces[&id].number == before + 4);
    host.release(id, before + 4);
    host.tick(id);
    seen(&mut client, &mut host);

    // Nor is anything of a host that goes, or of a surface that does.
    presentation.feedback(&window.surface, &client.handle, ());
    client.show(&window.surface, &buffers[1]);
    host.until("a commit", |host| host.surfaces[&id].number == before + 5);
    host.drop_display();
    discarded(&mut client, &mut host);
    let surface = client.compositor.create_surface(&client.handle, ());
    presentation.feedback(&surface, &client.handle, ());
    client.show(&surface, &buffers[2]);
    surface.destroy();
    discarded(&mut client, &mut host);
}

#[test]
fn one_pixel_is_a_buffer() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let manager: WpSinglePixelBufferManagerV1 = client.bind(1);
    let part = |eighth: u32| u32::MAX / 255 * eighth;
    let clear = manager.create_u32_rgba_buffer(part(10), part(20), part(30), part(40), &client.handle, ());
    let solid = manager.create_u32_rgba_buffer(part(1), 0, part(2), u32::MAX, &client.handle, ());
    let window = client.window();
    window.surface.commit();
    client.configured(&mut host, &window);
    let viewport = client.viewporter.get_viewport(&window.surface, &client.handle, ());
    viewport.set_destination(40, 30);
    window.surface.attach(Some(&clear), 0, 0);
    window.surface.damage_buffer(0, 0, 1, 1);
    window.surface.commit();
    client.roundtrip();
    let id = host.until_mapped();
    let content = host.surfaces[&id].content.unwrap();
    assert_eq!((content.size, content.format), (Size::new(1, 1), Format::Argb8888));
    assert_eq!(host.surfaces[&id].size, Size::new(40, 30));
    assert_eq!(host.pixels(id), [30, 20, 10, 40]);
    window.surface.attach(Some(&solid), 0, 0);
    window.surface.damage_buffer(0, 0, 1, 1);
    window.surface.commit();
    host.until("the other pixel", |host| {
        client.roundtrip();
        host.surfaces[&id].content.is_some_and(|content| content.format == Format::Xrgb8888)
    });
    assert_eq!(host.pixels(id)[..3], [2, 0, 1]);
}

#[test]
fn what_a_window_is_and_shows_is_told() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    let dialogs: XdgWmDialogV1 = client.bind(1);
    let dialog = dialogs.get_xdg_dialog(&window.toplevel, &client.handle, ());
    dialog.set_modal();
    client.roundtrip();
    host.until("a modal dialog", |host| {
        let toplevel = &host.toplevels[&id];
        toplevel.modal && toplevel.kind == WindowKind::Dialog
    });
    dialog.destroy();
    client.roundtrip();
    host.until("none", |host| !host.toplevels[&id].modal);

    // A film in a part of the window, as browsers have them.
    let content: WpContentTypeManagerV1 = client.bind(1);
    let part = client.compositor.create_surface(&client.handle, ());
    let subsurface = client.subcompositor.get_subsurface(&part, &window.surface, &client.handle, ());
    subsurface.set_desync();
    let kind = content.get_surface_content_type(&part, &client.handle, ());
    kind.set_content_type(Type::Video);
    client.show(&part, &buffer);
    client.show(&window.surface, &buffer);
    client.roundtrip();
    host.until("a film", |host| host.toplevels[&id].content_type == ContentType::Video);
    kind.destroy();
    client.show(&part, &buffer);
    client.roundtrip();
    host.until("none", |host| host.toplevels[&id].content_type == ContentType::None);
}

#[test]
fn an_app_has_the_desktop_s_shortcuts_when_the_host_says_so() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &buffer);
    let (_, other) = client.mapped(&mut host, &buffer);
    let manager: ZwpKeyboardShortcutsInhibitManagerV1 = client.bind(1);
    let inhibitor = manager.inhibit_shortcuts(&window.surface, &client.seat, &client.handle, ());
    client.roundtrip();
    host.until("the wish", |host| host.toplevels[&id].inhibits_shortcuts);
    assert!(!host.toplevels[&other].inhibits_shortcuts);
    assert!(!client.state.told.iter().any(|told| matches!(told, Told::Shortcuts(_))));
    for (surface, inhibited) in [(other, true), (id, true), (id, true), (id, false)] {
        host.send(&Event::ShortcutsInhibited { surface, inhibited });
    }
    client.until(&mut host, "no more", |told| (*told == Told::Shortcuts(false)).then_some(()));
    let told = client.state.told.iter().filter(|told| matches!(told, Told::Shortcuts(_)));
    assert_eq!(told.collect::<Vec<_>>(), [&Told::Shortcuts(true)]);
    inhibitor.destroy();
    client.roundtrip();
    host.until("no wish", |host| !host.toplevels[&id].inhibits_shortcuts);
}

#[test]
fn icons_are_told_pixel_by_pixel_and_those_that_break_the_rules_end_their_app() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let content = client.buffer(20, 20);
    let (window, id) = client.mapped(&mut host, &content);
    let manager: XdgToplevelIconManagerV1 = client.bind(1);
    let (small, large) = (client.buffer(16, 16), client.buffer_of(48, 48, wl_shm::Format::Argb8888));
    let (small_pixels, large_pixels) = (small.fill(1), large.fill(2));
    let icon = manager.create_icon(&client.handle, ());
    icon.set_name("an-app".to_owned());
    icon.add_buffer(&small.wl, 1);
    icon.add_buffer(&large.wl, 1);
    manager.set_icon(&window.toplevel, Some(&icon));
    client.roundtrip();
    host.until("the icons", |host| host.icons.get(&id).is_some_and(|icons| icons.len() == 2));
    let told: Vec<_> = host.icons[&id].iter().map(|icon| (icon.size.width, icon.pixels.clone())).collect();
    assert!(told == [(16, small_pixels), (48, large_pixels)]);
    icon.destroy();
    small.wl.destroy();
    manager.set_icon(&window.toplevel, None);
    client.roundtrip();
    host.until("no icon", |host| host.icons[&id].is_empty());

    type Fault = fn(&mut Client, &XdgToplevelIconManagerV1, &crate::client::Window);
    let faults: [(&str, Fault, u32); 4] = [
        (
            "not square",
            |client, manager, _| {
                let buffer = client.buffer(16, 17);
                manager.create_icon(&client.handle, ()).add_buffer(&buffer.wl, 1);
            },
            1,
        ),
        (
            "not in shared memory",
            |client, manager, _| {
                let pixels: WpSinglePixelBufferManagerV1 = client.bind(1);
                let pixel = pixels.create_u32_rgba_buffer(1, 2, 3, 4, &client.handle, ());
                manager.create_icon(&client.handle, ()).add_buffer(&pixel, 1);
            },
            1,
        ),
        (
            "changed afterwards",
            |client, manager, window| {
                let icon = manager.create_icon(&client.handle, ());
                manager.set_icon(&window.toplevel, Some(&icon));
                icon.set_name("another".to_owned());
            },
            2,
        ),
        (
            "its buffer is gone",
            |client, manager, window| {
                let buffer = client.buffer(16, 16);
                let icon = manager.create_icon(&client.handle, ());
                icon.add_buffer(&buffer.wl, 1);
                buffer.wl.destroy();
                manager.set_icon(&window.toplevel, Some(&icon));
            },
            3,
        ),
    ];
    for (what, fault, code) in faults {
        let mut client = Client::new(&host);
        let buffer = client.buffer(20, 20);
        let (window, _) = client.mapped(&mut host, &buffer);
        let manager: XdgToplevelIconManagerV1 = client.bind(1);
        fault(&mut client, &manager, &window);
        assert!(client.queue.roundtrip(&mut client.state).is_err(), "{what}");
        assert_eq!(client.connection.protocol_error().map(|error| error.code), Some(code), "{what}");
    }
    client.roundtrip();
}
