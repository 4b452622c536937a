//! The window process goes and comes back: everything is said again.

use std::time::Duration;

use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};
use wayland_client::Proxy;

use crate::client::{Client, Told};
use crate::host::{Host, Manners, POLITE};

#[test]
fn a_new_window_process_is_told_everything() {
    let mut host = Host::start();
    host.manners = Manners { release: false, ..POLITE };
    let mut client = Client::new(&host);
    let (first, second) = (client.buffer(120, 90), client.buffer(60, 50));
    let drawn = [first.fill(1), second.fill(2)];
    let (window, id) = client.mapped(&mut host, &first);
    window.toplevel.set_title("stays".into());
    let (other, other_id) = client.mapped(&mut host, &second);
    host.input(InputEvent::KeyboardEnter { surface: id, keys: vec![30], modifiers: Modifiers::default() });
    client.until(&mut host, "focus", |told| matches!(told, Told::KeyboardEnter { .. }).then_some(()));
    // Commits were in flight and are never released: the connection ends first.
    host.drop_display();
    client.until(&mut host, "the focus is lost", |told| (*told == Told::KeyboardLeave).then_some(()));
    host.accept_display();
    host.until("both windows", |host| host.is_mapped(id) && host.is_mapped(other_id));
    assert_eq!(host.toplevels[&id].title, "stays");
    assert_eq!(host.toplevels.len(), 2);
    assert_eq!(host.surfaces[&id].damage, [Rect::new(0, 0, 120, 90)]);
    assert_eq!(host.surfaces[&other_id].damage, [Rect::new(0, 0, 60, 50)]);
    assert!(host.pixels(id) == drawn[0] && host.pixels(other_id) == drawn[1]);
    let configured = client.configured(&mut host, &window);
    assert_eq!(configured.1, (0, 0));
    // Life goes on.
    let drawn = second.fill(9);
    client.show(&other.surface, &second);
    host.manners.release = true;
    host.until("new pixels", |host| host.pixels(other_id) == drawn);
}

#[test]
fn without_a_window_process_apps_start_and_draw_slowly() {
    let mut host = Host::start_without_display();
    let mut client = Client::new(&host);
    let window = client.window();
    window.surface.commit();
    client.configured(&mut host, &window);
    let buffers = [client.buffer(30, 30), client.buffer(30, 30)];
    buffers[0].fill(1);
    window.surface.frame(&client.handle, ());
    client.show(&window.surface, &buffers[0]);
    client.until(&mut host, "a frame at leisure", |told| (*told == Told::Frame).then_some(()));
    let drawn = buffers[1].fill(2);
    client.show(&window.surface, &buffers[1]);
    let released = Told::Released(buffers[0].wl.id().protocol_id());
    client.until(&mut host, "the older buffer", |told| (*told == released).then_some(()));
    host.accept_display();
    let id = host.until_mapped();
    assert!(host.pixels(id) == drawn);
    assert_eq!(host.count().copied_bytes, 30 * 30 * 4, "what nobody saw is not copied");
}

#[test]
fn a_window_that_was_asked_for_is_not_left_waiting() {
    let mut host = Host::start();
    host.manners = Manners { configure: None, ..POLITE };
    let mut client = Client::new(&host);
    let window = client.window();
    window.surface.commit();
    client.roundtrip();
    host.until("the toplevel", |host| !host.toplevels.is_empty());
    host.drop_display();
    client.configured(&mut host, &window);
    let buffer = client.buffer(30, 30);
    client.show(&window.surface, &buffer);
    client.roundtrip();
    host.manners = Manners { configure: Some(Some(Size::new(77, 66))), ..POLITE };
    host.accept_display();
    host.until_mapped();
    assert_eq!(client.configured(&mut host, &window).1, (77, 66));
}

#[test]
fn many_restarts_leave_nothing_behind() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(400, 300);
    let drawn = buffer.fill(1);
    let (_window, id) = client.mapped(&mut host, &buffer);
    let before = host.count();
    for _ in 0..20 {
        host.drop_display();
        host.accept_display();
        host.until("the window", |host| host.is_mapped(id));
        assert!(host.pixels(id) == drawn);
        assert_eq!(host.buffers.len(), 1);
    }
    let after = host.count();
    assert_eq!(before.copied_bytes, after.copied_bytes);
    assert!(after.resident_bytes < before.resident_bytes + (4 << 20));
    host.serve_for(Duration::from_millis(10));
}
