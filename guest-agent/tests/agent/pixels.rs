//! Pixels and damage: what arrives is what was drawn, and no more is copied than changed.

use std::time::Duration;

use inlay_protocol::display::{Child, Event, Format, Request, Transform};
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use wayland_client::Proxy;
use wayland_client::protocol::{wl_output, wl_shm};

use crate::client::{Client, Told};
use crate::host::{Host, Manners, POLITE};

fn released(client: &mut Client, host: &mut Host, buffer: &crate::client::Buffer) {
    let id = buffer.wl.id().protocol_id();
    client.until(host, "the buffer is released", |told| (*told == Told::Released(id)).then_some(()));
}

#[test]
fn odd_sizes_and_alpha_arrive_byte_exact_without_passing_the_socket() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(333, 217);
    let drawn = buffer.fill(1);
    let (_window, id) = client.mapped(&mut host, &buffer);
    released(&mut client, &mut host, &buffer);
    let content = host.surfaces[&id].content.unwrap();
    assert_eq!((content.size, content.format), (Size::new(333, 217), Format::Argb8888));
    assert_eq!(host.surfaces[&id].damage, [Rect::new(0, 0, 333, 217)]);
    assert!(host.pixels(id) == drawn);
    let counters = host.count();
    assert_eq!(counters.copied_bytes, 333 * 217 * 4);
    assert!(counters.socket_bytes < 2000, "{}", counters.socket_bytes);
    assert!(counters.cpu_micros > 0 && counters.resident_bytes > 1 << 20);
}

#[test]
fn one_pixel_of_damage_copies_one_pixel() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer_of(500, 400, wl_shm::Format::Xrgb8888);
    let mut drawn = buffer.fill(1);
    let (window, id) = client.mapped(&mut host, &buffer);
    released(&mut client, &mut host, &buffer);
    let before = host.count();
    buffer.write_row(123, 45, &[1, 2, 3, 4]);
    let at = (45 * 500 + 123) * 4;
    drawn[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
    // Not damaged, so not to be copied.
    buffer.write_row(0, 0, &[9, 9, 9, 9]);
    window.surface.attach(Some(&buffer.wl), 0, 0);
    window.surface.damage_buffer(123, 45, 1, 1);
    window.surface.commit();
    released(&mut client, &mut host, &buffer);
    host.until("the commit", |host| host.surfaces[&id].number >= 2);
    assert_eq!(host.surfaces[&id].damage, [Rect::new(123, 45, 1, 1)]);
    assert!(host.pixels(id) == drawn);
    assert_eq!(host.count().copied_bytes - before.copied_bytes, 4);
    assert_eq!(host.surfaces[&id].content.unwrap().format, Format::Xrgb8888);
}

#[test]
fn damage_in_surface_coordinates_follows_scale_transform_and_viewport() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(400, 200);
    buffer.fill(1);
    let (window, id) = client.mapped(&mut host, &buffer);
    window.surface.set_buffer_scale(2);
    window.surface.set_buffer_transform(wl_output::Transform::_180);
    window.surface.attach(Some(&buffer.wl), 0, 0);
    window.surface.damage(10, 20, 5, 5);
    window.surface.commit();
    client.roundtrip();
    host.until("the commit", |host| host.surfaces[&id].number >= 2);
    let commit = &host.surfaces[&id];
    assert_eq!((commit.scale, commit.transform), (2, Transform::Rotated180));
    assert_eq!(commit.size, Size::new(200, 100));
    assert_eq!(commit.damage, [Rect::new(400 - 30, 200 - 50, 10, 10)]);

    let viewport = client.viewporter.get_viewport(&window.surface, &client.handle, ());
    window.surface.set_buffer_scale(1);
    window.surface.set_buffer_transform(wl_output::Transform::Normal);
    viewport.set_source(100.0, 50.0, 200.0, 100.0);
    viewport.set_destination(100, 50);
    window.surface.attach(Some(&buffer.wl), 0, 0);
    window.surface.damage(10, 10, 10, 10);
    window.surface.commit();
    client.roundtrip();
    host.until("the commit", |host| host.surfaces[&id].number >= 3);
    let commit = &host.surfaces[&id];
    assert_eq!(commit.source, Some(RectF { x: 100.0, y: 50.0, width: 200.0, height: 100.0 }));
    assert_eq!(commit.size, Size::new(100, 50));
    assert_eq!(commit.damage, [Rect::new(120, 70, 20, 20)]);
}

#[test]
fn two_commits_are_in_flight_and_later_ones_wait_and_merge() {
    let mut host = Host::start();
    host.manners = Manners { release: false, ..POLITE };
    let mut client = Client::new(&host);
    let buffers = [(); 4].map(|()| client.buffer(64, 64));
    let drawn: Vec<_> = (0..).zip(&buffers).map(|(seed, b)| b.fill(seed)).collect();
    let (window, id) = client.mapped(&mut host, &buffers[0]);
    let first = host.surfaces[&id].number;
    client.show(&window.surface, &buffers[1]);
    host.until("the second commit", |host| host.surfaces[&id].number == first + 1);
    assert!(host.pixels(id) == drawn[1]);
    released(&mut client, &mut host, &buffers[0]);
    released(&mut client, &mut host, &buffers[1]);
    // The third waits: its buffer is held, and comes back unread when the fourth replaces it.
    client.show(&window.surface, &buffers[2]);
    client.roundtrip();
    host.serve_for(Duration::from_millis(100));
    client.roundtrip();
    assert_eq!(host.surfaces[&id].number, first + 1);
    assert!(!client.state.told.contains(&Told::Released(buffers[2].wl.id().protocol_id())));
    window.surface.attach(Some(&buffers[3].wl), 0, 0);
    window.surface.damage_buffer(1, 1, 1, 1);
    window.surface.commit();
    released(&mut client, &mut host, &buffers[2]);
    host.serve_for(Duration::from_millis(50));
    assert_eq!(host.surfaces[&id].number, first + 1);
    let copied = host.count().copied_bytes;
    assert_eq!(copied, 2 * 64 * 64 * 4);
    // Written is only the buffer that is released: the one of the first commit.
    let in_flight = host.surfaces[&id].content.unwrap().buffer;
    host.release(id, first);
    host.until("the last commit", |host| host.surfaces[&id].number == first + 2);
    assert_ne!(host.surfaces[&id].content.unwrap().buffer, in_flight);
    assert_eq!(host.surfaces[&id].damage, [Rect::new(0, 0, 64, 64)]);
    assert!(host.pixels(id) == drawn[3]);
    released(&mut client, &mut host, &buffers[3]);
}

#[test]
fn two_buffers_in_turn_stay_complete() {
    let mut host = Host::start();
    host.manners = Manners { release: false, ..POLITE };
    let mut client = Client::new(&host);
    let buffer = client.buffer(100, 100);
    let mut drawn = buffer.fill(1);
    let (window, id) = client.mapped(&mut host, &buffer);
    let first = host.surfaces[&id].number;
    // One commit always stays in flight, so the two pool buffers take turns.
    for (last, turn) in (first..).zip(0..20_u8) {
        let (x, y) = (i32::from(turn) * 3, i32::from(turn) * 2);
        buffer.write_row(x, y, &[turn; 8]);
        let at = usize::try_from(y * 100 + x).unwrap() * 4;
        drawn[at..at + 8].fill(turn);
        window.surface.attach(Some(&buffer.wl), 0, 0);
        window.surface.damage_buffer(x, y, 2, 1);
        window.surface.commit();
        client.roundtrip();
        host.until("the next commit", |host| host.surfaces[&id].number == last + 1);
        assert_eq!(host.surfaces[&id].damage, [Rect::new(x, y, 2, 1)]);
        assert!(host.pixels(id) == drawn, "turn {turn}");
        host.release(id, last);
    }
    assert_eq!(host.buffers.len(), 2);
    // Two whole copies, then two pixels in each turn and two that the other buffer missed.
    let whole = 2 * 100 * 100 * 4;
    let copied = host.count().copied_bytes;
    assert!(copied > whole && copied <= whole + 20 * 16, "{copied}");
}

#[test]
fn a_commit_without_damage_says_state_only() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(50, 50);
    let drawn = buffer.fill(3);
    let (window, id) = client.mapped(&mut host, &buffer);
    let before = host.surfaces[&id].clone();
    window.surface.commit();
    client.roundtrip();
    host.serve_for(Duration::from_millis(30));
    assert_eq!(host.surfaces[&id].number, before.number, "nothing changed, nothing is said");
    window.surface.frame(&client.handle, ());
    window.surface.commit();
    client.until(&mut host, "a frame", |told| (*told == Told::Frame).then_some(()));
    let commit = host.surfaces[&id].clone();
    assert!(commit.wants_frame && commit.damage.is_empty());
    assert_eq!(commit.content, before.content);
    let region = client.compositor.create_region(&client.handle, ());
    region.add(5, 6, 7, 8);
    window.surface.set_input_region(Some(&region));
    window.surface.set_opaque_region(Some(&region));
    window.xdg.set_window_geometry(1, 2, 40, 30);
    window.surface.commit();
    client.roundtrip();
    host.until("the regions", |host| host.surfaces[&id].number > commit.number);
    let commit = &host.surfaces[&id];
    assert_eq!(commit.input.as_deref(), Some(&[Rect::new(5, 6, 7, 8)][..]));
    assert_eq!(
        (commit.opaque.clone(), commit.geometry),
        (vec![Rect::new(5, 6, 7, 8)], Some(Rect::new(1, 2, 40, 30)))
    );
    assert!(commit.damage.is_empty() && host.pixels(id) == drawn);
}

#[test]
fn a_synchronised_subsurface_comes_with_its_parent() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let (below, above) = (client.buffer(100, 80), client.buffer(20, 10));
    below.fill(1);
    let drawn = above.fill(2);
    let (window, id) = client.mapped(&mut host, &below);
    let surface = client.compositor.create_surface(&client.handle, ());
    let sub = client.subcompositor.get_subsurface(&surface, &window.surface, &client.handle, ());
    sub.set_position(30, 40);
    client.show(&surface, &above);
    client.roundtrip();
    host.serve_for(Duration::from_millis(50));
    assert_eq!(host.surfaces.len(), 1, "the parent has not committed");
    host.requests.clear();
    window.surface.commit();
    client.roundtrip();
    host.until("the subsurface", |host| host.surfaces.len() == 2);
    let child = *host.surfaces.keys().find(|s| **s != id).unwrap();
    let together = host.requests.iter().any(|r| matches!(r, Request::Transaction(c) if c.len() == 2));
    assert!(together, "{:?}", host.requests);
    let at = Child::Subsurface { surface: child, position: Point::new(30, 40) };
    assert_eq!(host.surfaces[&id].children, [Child::Itself, at]);
    assert!(host.pixels(child) == drawn);

    // Desynchronised, it goes alone; below its parent, the stack says so.
    sub.set_desync();
    let number = host.surfaces[&id].number;
    let drawn = above.fill(3);
    client.show(&surface, &above);
    host.until("new pixels", |host| host.pixels(child) == drawn);
    assert_eq!(host.surfaces[&id].number, number);
    sub.place_below(&window.surface);
    sub.set_position(-5, 0);
    window.surface.commit();
    client.roundtrip();
    host.until("the stack", |host| host.surfaces[&id].children.last() == Some(&Child::Itself));
    let at = Child::Subsurface { surface: child, position: Point::new(-5, 0) };
    assert_eq!(host.surfaces[&id].children, [at, Child::Itself]);
    sub.destroy();
    surface.destroy();
    window.surface.commit();
    client.roundtrip();
    host.until("the subsurface is gone", |host| host.surfaces.len() == 1);
    host.until("the stack is empty", |host| host.surfaces[&id].children.is_empty());
}

#[test]
fn a_refresh_brings_all_pixels_again() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let buffer = client.buffer(90, 70);
    let drawn = buffer.fill(4);
    let (_window, id) = client.mapped(&mut host, &buffer);
    let number = host.surfaces[&id].number;
    for (n, surface) in [(1, Some(id)), (2, None)] {
        host.send(&Event::Refresh { surface });
        host.until("all again", |host| host.surfaces[&id].number == number + n);
        assert_eq!(host.surfaces[&id].damage, [Rect::new(0, 0, 90, 70)]);
        assert!(host.pixels(id) == drawn);
    }
    assert_eq!(host.count().copied_bytes, 90 * 70 * 4, "nothing is copied twice");
}

#[test]
fn a_new_size_damages_all_and_pool_buffers_are_used_again() {
    let mut host = Host::start();
    let mut client = Client::new(&host);
    let first = client.buffer(200, 100);
    first.fill(0);
    let (window, id) = client.mapped(&mut host, &first);
    for seed in 1..30 {
        let n = i32::try_from(seed).unwrap();
        let buffer = client.buffer(200 + n, 100 + n);
        let drawn = buffer.fill(seed);
        window.surface.attach(Some(&buffer.wl), 0, 0);
        window.surface.damage_buffer(0, 0, 1, 1);
        window.surface.commit();
        client.roundtrip();
        let size = Size::new(200 + seed, 100 + seed);
        host.until("the size", |host| host.surfaces[&id].content.unwrap().size == size);
        assert_eq!(host.surfaces[&id].damage, [Rect::of_size(size)]);
        assert!(host.pixels(id) == drawn);
    }
    assert!(host.buffers.len() <= 4, "{}", host.buffers.len());
}

#[test]
fn an_app_that_lies_about_its_memory_ends_alone() {
    let mut host = Host::start();
    let (mut liar, mut honest) = (Client::new(&host), Client::new(&host));
    let good = honest.buffer(64, 64);
    let drawn = good.fill(1);
    let (_window, id) = honest.mapped(&mut host, &good);
    let bad = liar.buffer(640, 640);
    let window = liar.window();
    window.surface.commit();
    liar.configured(&mut host, &window);
    bad.truncate();
    liar.show(&window.surface, &bad);
    host.until("the liar is cut off", |_| liar.queue.roundtrip(&mut liar.state).is_err());
    assert!(host.pixels(id) == drawn);
    honest.roundtrip();
    host.until("its window is gone", |host| host.toplevels.len() == 1);
}
