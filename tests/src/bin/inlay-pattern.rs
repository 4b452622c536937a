//! A Wayland client that draws known pixels, step by step as its standard input says, or frame after frame to be measured.
//!
//! `inlay-pattern steps` shows a window of 333x217 pixels with alpha and then, for each line on standard input, makes one
//! change and answers `done`:
//! `pixel` (one pixel, other buffer), `rects` (two rectangles, first buffer again), `subsurface`, `full`, `close`.
//!
//! `inlay-pattern frames WxH DAMAGE_WxH COUNT` shows its window, says `ready`, and for a line on standard input commits COUNT
//! frames, each when the frame callback of the one before came; then it prints their `CLOCK_MONOTONIC` times in nanoseconds, taken
//! just before each commit. At the end of standard input it ends.

//!
//! `inlay-pattern windows` opens, resizes and closes windows: for each line `COUNT TOGETHER` on standard input COUNT of them, TOGETHER at a
//! time, each on a connection of its own, and then says `done`. A line `keep COUNT` opens that many, says `done` and keeps them.

//!
//! `inlay-pattern video COUNT` shows a film as players do, in a subsurface of its own over a window that does not change: for each line on
//! standard input COUNT frames of 1280x720, 60 a second, and then says `done`.

//!
//! `inlay-pattern storm TITLE` is an X11 client that fills its window anew for each size that it gets; for each line on standard input it
//! says how often it did. `inlay-pattern drag TITLE` is a Wayland client that draws each frame at the newest size, and says how many frames
//! of a new size were shown.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use inlay_tests::client::{Buffer, Client, Window};
use inlay_tests::pattern;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeGCAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, PropMode, Rectangle,
    WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

const WIDTH: u32 = 333;
const HEIGHT: u32 = 217;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["steps"] => steps(),
        ["frames", size, damage, count] => frames(parse(size)?, parse(damage)?, count.parse()?),
        ["video", count] => video(count.parse()?),
        ["windows"] => windows(),
        ["storm", title] => storm(title),
        ["drag", title] => drag(title),
        _ => bail!(
            "usage: inlay-pattern steps | frames WxH DAMAGE_WxH COUNT | video COUNT | windows | storm TITLE | drag TITLE"
        ),
    }
}

fn parse(size: &str) -> Result<(u32, u32)> {
    let (width, height) = size.split_once('x').context("a size is WxH")?;
    Ok((width.parse()?, height.parse()?))
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Commits a buffer with damage and waits until it was shown.
fn show(client: &mut Client, window: &Window, buffer: &Buffer, damage: &[[u32; 4]]) -> Result<()> {
    let before = client.happened.frames;
    commit(client, window, buffer, damage);
    client.wait("a frame callback", |h| h.frames > before)
}

/// Commits a buffer with damage and asks for a frame callback.
fn commit(client: &Client, window: &Window, buffer: &Buffer, damage: &[[u32; 4]]) {
    window.surface.attach(Some(&buffer.buffer), 0, 0);
    for rect in damage {
        let [x, y, w, h] = rect.map(u32::cast_signed);
        window.surface.damage_buffer(x, y, w, h);
    }
    client.request_frame(&window.surface);
    window.surface.commit();
}

fn steps() -> Result<()> {
    let mut client = Client::connect()?;
    let window = client.window("pattern steps", "inlay-pattern")?;
    let mut first = client.buffer(WIDTH, HEIGHT, true)?;
    let mut second = client.buffer(WIDTH, HEIGHT, true)?;
    let whole = [0, 0, WIDTH, HEIGHT];
    let mut bytes = pattern::picture(1, WIDTH, HEIGHT);
    first.fill(&bytes);
    show(&mut client, &window, &first, &[whole])?;
    say("done")?;
    // Subsurfaces live as long as their objects.
    let mut above = Vec::new();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let Some(line) = lines.next() else { return Ok(()) };
        match line?.trim() {
            "pixel" => {
                pattern::paint(&mut bytes, WIDTH, [300, 200, 1, 1], 2);
                second.fill(&bytes);
                show(&mut client, &window, &second, &[[300, 200, 1, 1]])?;
            }
            "rects" => {
                let rects = [[0, 0, 17, 3], [200, 100, 33, 55]];
                rects.iter().for_each(|r| pattern::paint(&mut bytes, WIDTH, *r, 3));
                first.fill(&bytes);
                show(&mut client, &window, &first, &rects)?;
            }
            "full" => {
                bytes = pattern::picture(4, WIDTH, HEIGHT);
                second.fill(&bytes);
                show(&mut client, &window, &second, &[whole])?;
            }
            "subsurface" => {
                let (surface, role) = client.subsurface(&window.surface, (101, 77))?;
                let mut buffer = client.buffer(57, 31, false)?;
                buffer.fill(&pattern::picture(5, 57, 31));
                surface.attach(Some(&buffer.buffer), 0, 0);
                surface.damage_buffer(0, 0, 57, 31);
                surface.commit();
                show(&mut client, &window, &second, &[])?;
                above.push((surface, role, buffer));
            }
            "close" => return Ok(()),
            other => bail!("no such step: {other}"),
        }
        client.pump(Duration::from_millis(10), None)?;
        say("done")?;
    }
}

fn frames(size: (u32, u32), damage: (u32, u32), count: usize) -> Result<()> {
    let mut client = Client::connect()?;
    let window = client.window("pattern frames", "inlay-pattern")?;
    let mut buffers = [client.buffer(size.0, size.1, false)?, client.buffer(size.0, size.1, false)?];
    let whole = [0, 0, size.0, size.1];
    let whole_bytes = pattern::picture(1, size.0, size.1);
    for buffer in &mut buffers {
        buffer.fill(&whole_bytes);
    }
    show(&mut client, &window, &buffers[0], &[whole])?;
    let part = [(size.0 - damage.0) / 2, (size.1 - damage.1) / 2, damage.0, damage.1];
    let mut frame = 0;
    let mut round = |client: &mut Client, count: usize| -> Result<Vec<String>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            frame += 1;
            client.acknowledge(&window);
            let buffer = &mut buffers[frame % 2];
            buffer.wash(part, u8::try_from(frame % 251)?);
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            times.push((time.tv_sec * 1_000_000_000 + time.tv_nsec).to_string());
            show(client, &window, buffer, &[part])?;
        }
        Ok(times)
    };
    // All buffers exist, on both sides, before anything is measured.
    round(&mut client, 20)?;
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let times = round(&mut client, count)?;
        say(&times.join(" "))?;
    }
    Ok(())
}

fn video(count: u32) -> Result<()> {
    const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);
    let (width, height) = (1280, 720);
    let mut client = Client::connect()?;
    let window = client.window("pattern video", "inlay-pattern")?;
    let mut behind = client.buffer(width + 80, height + 120, false)?;
    let whole = [0, 0, width + 80, height + 120];
    behind.wash(whole, 40);
    show(&mut client, &window, &behind, &[whole])?;
    let (surface, role) = client.subsurface(&window.surface, (40, 40))?;
    role.set_desync();
    let mut buffers =
        [(); 3].map(|()| client.buffer(width, height, false)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut number = 0_usize;
    let mut next = |client: &mut Client| -> Result<()> {
        number += 1;
        let turn = number % buffers.len();
        buffers[turn].wash([0, 0, width, height], u8::try_from(number % 251)?);
        surface.attach(Some(&buffers[turn].buffer), 0, 0);
        surface.damage_buffer(0, 0, width.cast_signed(), height.cast_signed());
        surface.commit();
        client.flush()
    };
    next(&mut client)?;
    show(&mut client, &window, &behind, &[])?;
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let begin = Instant::now();
        for frame in 0..count {
            let due = begin + FRAME * frame;
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                client.pump(left, None)?;
            }
            next(&mut client)?;
        }
        say("done")?;
    }
    Ok(())
}

/// A window on a connection of its own, whose content is on its way.
fn opened(number: usize) -> Result<(Client, Window)> {
    let mut client = Client::connect()?;
    let window = client.window(&format!("pattern {number}"), "inlay-pattern")?;
    let mut buffer = client.buffer(120, 90, false)?;
    buffer.wash([0, 0, 120, 90], u8::try_from(number % 251)?);
    commit(&client, &window, &buffer, &[[0, 0, 120, 90]]);
    client.flush()?;
    Ok((client, window))
}

/// Waits until windows were shown so often, all at once: one that others cover is slow.
fn all_shown(open: &mut [(Client, Window)], frames: u64) -> Result<()> {
    open.iter_mut().try_for_each(|(client, _)| client.wait("a frame callback", |h| h.frames >= frames))
}

fn windows() -> Result<()> {
    let mut kept = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (count, together) = line.split_once(' ').context("COUNT TOGETHER")?;
        if count == "keep" {
            for number in 0..together.parse()? {
                kept.push(opened(number)?);
                let newest = kept.len() - 1;
                all_shown(&mut kept[newest..], 1)?;
            }
            say("done")?;
            continue;
        }
        let (mut left, together): (usize, usize) = (count.parse()?, together.parse()?);
        while left > 0 {
            let group = left.min(together);
            let mut open = (0..group).map(opened).collect::<Result<Vec<_>>>()?;
            all_shown(&mut open, 1)?;
            for (client, window) in &mut open {
                let buffer = client.buffer(160, 100, false)?;
                client.acknowledge(window);
                commit(client, window, &buffer, &[[0, 0, 160, 100]]);
                client.flush()?;
            }
            all_shown(&mut open, 2)?;
            left -= group;
        }
        say("done")?;
    }
    Ok(())
}

/// Says a count for each line on standard input, and ends with it.
fn say_count() -> Arc<AtomicU64> {
    let drawn = Arc::new(AtomicU64::new(0));
    let count = drawn.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || say(&count.load(Ordering::Relaxed).to_string()).is_err() {
                break;
            }
        }
        // Nobody asks any more.
        std::process::exit(0);
    });
    drawn
}

fn drag(title: &str) -> Result<()> {
    let mut client = Client::connect()?;
    let window = client.window(title, "inlay-pattern")?;
    let shown = say_count();
    let mut buffers = Vec::new();
    let (mut drawn, mut colour) = ((0, 0), 0_u8);
    loop {
        client.acknowledge(&window);
        let asked = client.happened.size;
        let size = if asked == (0, 0) { (400, 300) } else { asked };
        let (width, height) = (size.0.unsigned_abs(), size.1.unsigned_abs());
        let mut buffer = client.buffer(width, height, false)?;
        colour = colour.wrapping_add(40);
        buffer.wash([0, 0, width, height], colour);
        show(&mut client, &window, &buffer, &[[0, 0, width, height]])?;
        buffers.push(buffer);
        // The compositor has the others no more.
        let gone = buffers.len().saturating_sub(3);
        buffers.drain(..gone).for_each(|buffer| buffer.buffer.destroy());
        if drawn != size {
            shown.fetch_add(1, Ordering::Relaxed);
        }
        drawn = size;
        if client.happened.size == asked {
            client.wait("another size", |h| h.size != asked || h.close)?;
        }
    }
}

fn storm(title: &str) -> Result<()> {
    let (x, screen) = x11rb::connect(None)?;
    let root = x.setup().roots.get(screen).context("no screen")?.root;
    let (window, gc) = (x.generate_id()?, x.generate_id()?);
    let aux = CreateWindowAux::new().event_mask(EventMask::STRUCTURE_NOTIFY | EventMask::EXPOSURE);
    x.create_window(0, window, root, 0, 0, 400, 300, 0, WindowClass::INPUT_OUTPUT, 0, &aux)?;
    x.change_property8(PropMode::REPLACE, window, AtomEnum::WM_NAME, AtomEnum::STRING, title.as_bytes())?;
    x.create_gc(gc, window, &CreateGCAux::new())?;
    x.map_window(window)?;
    x.flush()?;
    let drawn = say_count();
    let mut size = (0, 0);
    let mut colour = 0_u32;
    loop {
        let mut newest = None;
        let mut event = Some(x.wait_for_event()?);
        while let Some(e) = event {
            match e {
                Event::ConfigureNotify(e) => newest = Some((e.width, e.height)),
                Event::Expose(e) if newest.is_none() && size == (0, 0) => newest = Some((e.width, e.height)),
                _ => {}
            }
            event = x.poll_for_event()?;
        }
        let Some(new) = newest.filter(|new| *new != size) else { continue };
        size = new;
        colour = colour.wrapping_add(0x0010_3070) & 0x00ff_ffff;
        x.change_gc(gc, &ChangeGCAux::new().foreground(colour))?;
        x.poly_fill_rectangle(window, gc, &[Rectangle { x: 0, y: 0, width: size.0, height: size.1 }])?;
        // A frame is done when the server has drawn it.
        x.get_input_focus()?.reply()?;
        drawn.fetch_add(1, Ordering::Relaxed);
    }
}
