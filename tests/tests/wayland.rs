//! Windows on a Wayland desktop (headless sway): real apps through agent and window process, and the window process alone with the
//! test in the place of the agent.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::time::{Duration, Instant};

use common::scripted::{Agent, GREEN, RED, Screen};
use common::sway::{SIZE, Sway};
use common::{Local, SOON, eventually};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::InputEvent;

/// A configure of a toplevel: serial, size, states.
fn configured(event: &Event, of: u32) -> Option<(u32, Option<Size>, States)> {
    match event {
        Event::ConfigureToplevel { surface, serial, size, states, .. } if surface.0 == of => {
            Some((*serial, *size, *states))
        }
        _ => None,
    }
}

/// A window of one colour that follows its configures, as an app does, until the desktop wants no other size; that size.
fn window(sway: &Sway, agent: &mut Agent, surface: u32, title: &str) -> Size {
    agent.toplevel(surface, title, |_| {});
    let mut painted = None;
    eventually(&format!("a settled window \"{title}\""), || {
        let newest = agent.events.iter().rev().find_map(|e| configured(e, surface));
        let Some((serial, size, _)) = newest else {
            agent.listen(Duration::from_millis(20));
            return None;
        };
        if painted.is_none_or(|(answered, _)| answered != serial) {
            let size = size.unwrap_or(Size::new(300, 200));
            follow(agent, surface, serial, size, RED);
            painted = Some((serial, size));
        }
        agent.listen(Duration::from_millis(100));
        let (_, size) = painted?;
        // Tiles are as high as the output.
        let tiled = size.height == SIZE.1 && sway.find(title).is_some();
        (tiled && sway.content(title).size() == size).then_some(size)
    })
}

fn follow(agent: &mut Agent, surface: u32, serial: u32, size: Size, colour: [u8; 4]) {
    let bytes = colour.repeat((size.width * size.height) as usize);
    agent.show(surface, size, &bytes, |commit| commit.acked = Some(serial));
}

fn shows(sway: &Sway, at: (i32, i32), colour: [u8; 4]) -> bool {
    let pixel = sway.screen().get_pixel(at.0.unsigned_abs(), at.1.unsigned_abs()).0;
    pixel == [colour[2], colour[1], colour[0]]
}

fn seen(sway: &Sway, at: (i32, i32), colour: [u8; 4]) {
    eventually(&format!("{colour:?} at {at:?}"), || shows(sway, at, colour).then_some(()));
}

#[test]
fn an_app_is_tiled_typed_into_resized_and_closed() {
    let sway = Sway::start();
    let mut keyboard = sway.keyboard();
    let folder = tempfile::tempdir().unwrap();
    let sizes = folder.path().join("sizes");
    // Each new size is written down as the app sees it, and each line that is typed.
    let script = format!(
        "while :; do s=$(stty size); [ \"$s\" = \"$o\" ] || echo $s >> {0}; o=$s
         read -t 0.2 -r l && echo \"typed $l\" >> {0}; done",
        sizes.display()
    );
    let local =
        Local::start_on(&["foot", "-T", "terminal", "bash", "-c", &script], Screen::Wayland(&sway.socket()));
    let node = sway.window("terminal");
    assert_eq!(node["app_id"], "inlay.local.foot");
    // The only window fills the output.
    let whole = Rect::new(0, 0, SIZE.0, SIZE.1);
    let numbers = |line: &str| line.split(' ').filter_map(|n| n.parse::<u32>().ok()).collect::<Vec<_>>();
    let last = || Some(std::fs::read_to_string(&sizes).ok()?.lines().last()?.to_owned());
    // Not the size that it begins with before it is told another.
    let first = eventually("a size of many columns", || {
        last().filter(|line| numbers(line).get(1).is_some_and(|columns| *columns > 150))
    });
    assert_eq!(sway.content("terminal"), whole);
    assert_eq!(local.windows()[0].title, "terminal");

    eventually("the focus", || sway.window("terminal")["focused"].as_bool()?.then_some(()));
    keyboard.type_text("hello wayland\n");
    eventually("what was typed", || (last()? == "typed hello wayland").then_some(()));

    sway.msg(&["floating enable, resize set 640 400, move position 100 80"]);
    let smaller = eventually("a smaller size", || {
        last().filter(|line| numbers(line).first().is_some_and(|rows| *rows < 30))
    });
    let (before, after) = (numbers(&first), numbers(&smaller));
    assert!(after[0] < before[0] && after[1] < before[1], "{first} {smaller}");
    // What is seen is what the app drew: a terminal has whole characters, the window is as large as they are.
    let picture = eventually("a picture of the new size", || {
        let content = sway.content("terminal");
        let picture = local.picture("terminal");
        (picture.size == content.size() && content.width <= 640).then_some((picture, content))
    });
    let (picture, content) = picture;
    let same = eventually("the same pixels on the screen", || {
        let screen = sway.screen();
        let pixels = (0..content.height).flat_map(|y| (0..content.width).map(move |x| (x, y)));
        let wrong = pixels.filter(|(x, y)| {
            let at = 4 * (y * content.width + x) as usize;
            let [b, g, r] = [picture.bytes[at], picture.bytes[at + 1], picture.bytes[at + 2]];
            let shown = screen.get_pixel(content.x.unsigned_abs() + x, content.y.unsigned_abs() + y).0;
            shown != [r, g, b]
        });
        (wrong.count() == 0).then_some(true)
    });
    assert!(same);

    sway.msg(&["fullscreen enable"]);
    eventually("full screen", || (sway.content("terminal") == whole).then_some(()));
    eventually("its first size again", || (last()? == first).then_some(()));
    sway.msg(&["kill"]);
    let mut local = local;
    eventually("the app's end", || local.process.ended());
}

#[test]
fn sizes_are_followed_without_a_frame_of_another() {
    let sway = Sway::start();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    let size = window(&sway, &mut agent, 1, "sized");
    assert_eq!(size, Size::new(SIZE.0, SIZE.1));
    seen(&sway, (640, 360), RED);
    agent
        .until("the focus", |e| configured(e, 1).filter(|(_, _, states)| states.contains(States::ACTIVATED)));

    // An app that is slow: what is seen stays as large as what it drew.
    agent.events.clear();
    sway.msg(&["floating enable, resize set 500 300, move position 200 100"]);
    let wanted = Size::new(500, 300);
    let (serial, ..) =
        agent.until("the wish", |e| configured(e, 1).filter(|(_, size, _)| *size == Some(wanted)));
    agent.listen(Duration::from_millis(600));
    follow(&mut agent, 1, serial, wanted, GREEN);
    seen(&sway, (200 + 10, 100 + 10), GREEN);
    seen(&sway, (200 + 490, 100 + 290), GREEN);
    assert_eq!(sway.content("sized").size(), wanted);

    // An app that chooses by itself gets it.
    agent.paint(1, Size::new(320, 180), GREEN);
    eventually("the app's size", || (sway.content("sized").size() == Size::new(320, 180)).then_some(()));

    // One that is full screen and does not follow is anchored, not stretched.
    agent.events.clear();
    sway.msg(&["fullscreen enable"]);
    let (serial, ..) =
        agent.until("full screen", |e| configured(e, 1).filter(|(_, _, s)| s.contains(States::FULLSCREEN)));
    let bytes = RED.repeat(320 * 180);
    agent.show(1, Size::new(320, 180), &bytes, |commit| commit.acked = Some(serial));
    seen(&sway, (10, 10), RED);
    seen(&sway, (700, 500), [0, 0, 0, 255]);
}

#[test]
fn popups_are_placed_and_dismissed_by_the_desktop() {
    let sway = Sway::start();
    let mut pointer = sway.pointer();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    let size = window(&sway, &mut agent, 1, "parent");
    seen(&sway, (640, 360), RED);
    // A menu of a button at the lower right corner: it has to be above the button, and moved to the left.
    let menu = |anchor: Rect, grab: bool, reposition: Option<u32>| {
        let positioner = Positioner {
            size: Size::new(200, 120),
            anchor_rect: anchor,
            anchor: Edges::BOTTOM.with(Edges::LEFT),
            gravity: Edges::BOTTOM.with(Edges::RIGHT),
            adjustment: ConstraintAdjustment(
                ConstraintAdjustment::SLIDE_X.0 | ConstraintAdjustment::FLIP_Y.0,
            ),
            offset: Point::default(),
            reactive: false,
        };
        move |surface: u32, parent: u32| {
            Request::Popup(Popup {
                surface: SurfaceId(surface),
                parent: SurfaceId(parent),
                place: Place::Positioner(positioner),
                kind: PopupKind::Menu,
                grab,
                reposition,
            })
        }
    };
    let placed = |agent: &mut Agent, of: u32| {
        agent.until("a place", |e| match e {
            Event::ConfigurePopup { surface, serial, area, .. } if surface.0 == of => Some((*serial, *area)),
            _ => None,
        })
    };
    // The user does something first: only then a menu may take a grab.
    pointer.move_to(600, 300);
    pointer.click();
    agent.until("the click", |e| {
        matches!(e, Event::Input(InputEvent::PointerButton { pressed: false, .. })).then_some(())
    });
    let corner = Rect::new(size.width.cast_signed() - 60, size.height.cast_signed() - 30, 60, 30);
    agent.send(&menu(corner, true, None)(2, 1));
    let (serial, area) = placed(&mut agent, 2);
    let right = Rect::new(size.width.cast_signed() - 200, size.height.cast_signed() - 150, 200, 120);
    assert_eq!(area, right);
    follow(&mut agent, 2, serial, area.size(), GREEN);
    seen(&sway, (area.x + 5, area.y + 5), GREEN);
    seen(&sway, (area.x + 195, area.y + 115), GREEN);
    seen(&sway, (area.x - 5, area.y + 5), RED);
    // A submenu beside it, on its left as there is no room.
    agent.send(&menu(Rect::new(0, 0, 200, 20), true, None)(3, 2));
    let (serial, inner) = placed(&mut agent, 3);
    follow(&mut agent, 3, serial, inner.size(), RED);
    seen(&sway, (area.x + inner.x + 5, area.y + inner.y + 5), RED);
    // The pointer is where it is in the popup.
    agent.events.clear();
    pointer.move_to((area.x + 7).unsigned_abs(), (area.y + 9).unsigned_abs());
    agent.until("the pointer in the menu", |e| match e {
        Event::Input(InputEvent::PointerEnter { surface, x, y }) if surface.0 == 2 => {
            ((*x, *y) == (7.0, 9.0)).then_some(())
        }
        _ => None,
    });
    // A click into the menu's own window is its app's matter.
    let done = |agent: &Agent| -> Vec<u32> {
        let done = |e: &Event| match e {
            Event::PopupDone { surface } => Some(surface.0),
            _ => None,
        };
        agent.events.iter().filter_map(done).collect()
    };
    pointer.move_to(100, 100);
    pointer.click();
    agent.listen(Duration::from_millis(300));
    assert!(done(&agent).is_empty());
    // One elsewhere closes both, innermost first.
    sway.msg(&["floating enable, resize set 400 300, move position 100 100"]);
    pointer.move_to(1000, 650);
    pointer.click();
    eventually("the end of both", || {
        agent.listen(Duration::from_millis(50));
        (done(&agent).len() >= 2).then_some(())
    });
    assert_eq!(done(&agent), [3, 2]);
    sway.msg(&["[title=parent] floating disable, focus"]);
    seen(&sway, (area.x + 5, area.y + 5), RED);

    // A popup that its app places itself (X11), and one that comes before its parent has content.
    agent.popup(4, 1, Rect::new(50, 60, 120, 80), PopupKind::Tooltip);
    agent.paint(4, Size::new(120, 80), GREEN);
    seen(&sway, (55, 65), GREEN);
    seen(&sway, (165, 135), GREEN);
    seen(&sway, (45, 65), RED);
    agent.toplevel(5, "second", |_| {});
    agent.popup(6, 5, Rect::new(10, 20, 60, 40), PopupKind::Tooltip);
    agent.paint(6, Size::new(60, 40), GREEN);
    let (serial, ..) = agent.until("the second's configure", |e| configured(e, 5));
    follow(&mut agent, 5, serial, Size::new(300, 200), [9, 9, 9, 255]);
    let (serial, tile, _) =
        agent.until("the second's tile", |e| configured(e, 5).filter(|(_, size, _)| size.is_some()));
    follow(&mut agent, 5, serial, tile.unwrap(), [9, 9, 9, 255]);
    let second = eventually("the second window", || sway.find("second").map(|_| sway.content("second")));
    seen(&sway, (second.x + 15, second.y + 25), GREEN);
    // A toplevel that goes takes its popups along.
    agent.send(&Request::RoleGone { surface: SurfaceId(5) });
    eventually("its end", || sway.find("second").is_none().then_some(()));
    seen(&sway, (second.x + 15, second.y + 25), RED);
}

#[test]
fn focus_keys_and_layout_reach_the_app() {
    let sway = Sway::start();
    let mut keyboard = sway.keyboard();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    window(&sway, &mut agent, 1, "first");
    agent.until("the focus", |e| {
        matches!(e, Event::Input(InputEvent::KeyboardEnter { surface, .. }) if surface.0 == 1).then_some(())
    });
    let keymap = agent.until("the keymap", |e| match e {
        Event::Input(InputEvent::Keymap(text)) => Some(text.clone()),
        _ => None,
    });
    assert!(keymap.contains("xkb_symbols"), "{keymap:.200}");
    const KEY_A: u32 = 30;
    const KEY_B: u32 = 48;
    keyboard.key(KEY_A, true);
    let key = |code: u32, down: bool| {
        move |e: &Event| {
            matches!(e, Event::Input(InputEvent::Key { key, pressed, .. }) if (*key, *pressed) == (code, down))
                .then_some(())
        }
    };
    agent.until("a key", key(KEY_A, true));
    // The focus goes to another window while it is held: all keys are up in the first, and held in the other.
    window(&sway, &mut agent, 2, "second");
    let held = agent.until("the focus in the second", |e| match e {
        Event::Input(InputEvent::KeyboardEnter { surface, keys, .. }) if surface.0 == 2 => Some(keys.clone()),
        _ => None,
    });
    assert_eq!(held, [KEY_A]);
    keyboard.key(KEY_A, false);
    agent.until("the key's end", key(KEY_A, false));
    agent.events.clear();
    sway.msg(&["[title=first] focus"]);
    agent.until("the focus in the first", |e| match e {
        Event::Input(InputEvent::KeyboardEnter { surface, keys, .. }) if surface.0 == 1 => {
            keys.is_empty().then_some(())
        }
        _ => None,
    });
    keyboard.modifiers(4);
    agent.until("modifiers", |e| {
        matches!(e, Event::Input(InputEvent::Modifiers(m)) if m.depressed == 4).then_some(())
    });
    keyboard.modifiers(0);
    keyboard.key(KEY_B, true);
    keyboard.key(KEY_B, false);
    agent.until("another key", key(KEY_B, false));
    // Closed by the desktop.
    sway.msg(&["[title=first] kill"]);
    agent.until("close", |e| matches!(e, Event::Close { surface } if surface.0 == 1).then_some(()));
}

#[test]
fn windows_that_cannot_be_seen_draw_nothing_and_none_hangs() {
    let sway = Sway::start();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    let size = window(&sway, &mut agent, 1, "hidden");
    seen(&sway, (640, 360), RED);
    sway.msg(&["workspace 2"]);
    eventually("an empty workspace", || (!shows(&sway, (640, 360), RED)).then_some(()));
    agent.events.clear();
    // Frames are asked for as an animation does: they come, but slowly.
    let begin = Instant::now();
    let mut frames = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        let bytes = GREEN.repeat((size.width * size.height) as usize);
        agent.events.clear();
        agent.show(1, size, &bytes, |commit| commit.wants_frame = true);
        agent.until("a frame", |e| matches!(e, Event::Frame { surface, .. } if surface.0 == 1).then_some(()));
        frames += 1;
    }
    assert!((2..=9).contains(&frames), "{frames} frames in 5 s");
    sway.msg(&["workspace 1"]);
    seen(&sway, (640, 360), GREEN);
}

#[test]
fn outside_of_an_outline_lies_what_is_behind() {
    let sway = Sway::start();
    let mut pointer = sway.pointer();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    window(&sway, &mut agent, 1, "behind");
    seen(&sway, (640, 360), RED);
    agent.toplevel(2, "shaped", |t| {
        t.decoration = Decoration::ClientSide;
        t.min_size = Size::new(300, 200);
        t.max_size = Size::new(300, 200);
    });
    let half = vec![Rect::new(0, 0, 150, 200), Rect::new(150, 50, 10, 40)];
    agent.send(&Request::Shape { surface: SurfaceId(2), rects: Some(half) });
    let (serial, ..) = agent.until("the first configure", |e| configured(e, 2));
    follow(&mut agent, 2, serial, Size::new(300, 200), GREEN);
    // A window of one size is not tiled.
    let at = eventually("its place", || sway.find("shaped").map(|_| sway.content("shaped")));
    assert_eq!(at.size(), Size::new(300, 200));
    seen(&sway, (at.x + 20, at.y + 20), GREEN);
    seen(&sway, (at.x + 155, at.y + 60), GREEN);
    seen(&sway, (at.x + 155, at.y + 100), RED);
    seen(&sway, (at.x + 250, at.y + 100), RED);
    // Nor is the pointer in it there (to sway it is then in no window).
    pointer.move_to((at.x + 20).unsigned_abs(), (at.y + 20).unsigned_abs());
    agent.until("the pointer in it", |e| {
        matches!(e, Event::Input(InputEvent::PointerEnter { surface: SurfaceId(2), .. })).then_some(())
    });
    agent.events.clear();
    pointer.move_to((at.x + 250).unsigned_abs(), (at.y + 100).unsigned_abs());
    agent.until("the pointer's leave", |e| matches!(e, Event::Input(InputEvent::PointerLeave)).then_some(()));
    agent.send(&Request::Shape { surface: SurfaceId(2), rects: None });
    // Not where the pointer's image is.
    seen(&sway, (at.x + 250, at.y + 60), GREEN);
}

#[test]
fn twice_as_many_pixels_are_shown_one_by_one() {
    let sway = Sway::start();
    sway.msg(&["output * scale 2"]);
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    let outputs = agent.until("outputs", |e| match e {
        Event::Outputs(outputs) => Some(outputs.clone()),
        _ => None,
    });
    assert_eq!((outputs[0].scale_120, outputs[0].area.size()), (240, Size::new(SIZE.0 / 2, SIZE.1 / 2)));
    agent.toplevel(1, "sharp", |_| {});
    let size = Size::new(SIZE.0 / 2, SIZE.1 / 2);
    let (serial, ..) = agent.until("the first configure", |e| configured(e, 1));
    let pixels = Size::new(2 * size.width, 2 * size.height);
    // Columns of single pixels: anything but one for one is grey.
    let bytes: Vec<u8> = (0..pixels.width * pixels.height)
        .flat_map(
            |i| if (i % pixels.width).is_multiple_of(2) { [255, 255, 255, 255] } else { [0, 0, 0, 255] },
        )
        .collect();
    agent.show(1, pixels, &bytes, |commit| {
        (commit.scale, commit.size, commit.acked) = (2, size, Some(serial));
    });
    let end = Instant::now() + SOON;
    loop {
        let screen = sway.screen();
        let sharp =
            |x: u32, y: u32| screen.get_pixel(x, y).0 == if x.is_multiple_of(2) { [255; 3] } else { [0; 3] };
        if (0..SIZE.0).all(|x| [0, 100, SIZE.1 - 1].iter().all(|y| sharp(x, *y))) {
            return;
        }
        assert!(Instant::now() < end, "{:?}", (0..8).map(|x| screen.get_pixel(x, 100).0).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_app_that_does_not_answer_can_be_forced_to_close() {
    let sway = Sway::start();
    let mut pointer = sway.pointer();
    let mut agent = Agent::start(Screen::Wayland(&sway.socket()));
    window(&sway, &mut agent, 1, "stuck");
    sway.msg(&["[title=stuck] kill"]);
    agent.until("a ping", |e| matches!(e, Event::Ping { .. }).then_some(()));
    // A window of one size that belongs to another floats above it.
    let question = eventually("the question", || {
        agent.listen(Duration::from_millis(50));
        sway.find("Inlay").map(|_| sway.content("Inlay"))
    });
    assert!(question.width >= 300 && question.width < SIZE.0, "{question:?}");
    // There is something to be read in it: dark and light.
    eventually("its text", || {
        let screen = sway.screen();
        let row = |y: u32| (0..question.width).map(move |x| (question.x.unsigned_abs() + x, y));
        let pixels = (0..question.height).flat_map(|y| row(question.y.unsigned_abs() + y));
        let bright = pixels.map(|(x, y)| screen.get_pixel(x, y).0[1]).collect::<Vec<_>>();
        let (darkest, brightest) = (bright.iter().min()?, bright.iter().max()?);
        (brightest - darkest > 80).then_some(())
    });
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(agent.has(|e| matches!(e, Event::Kill { .. })), 0);
    // The desktop placed it anew when it knew its size.
    let question = sway.content("Inlay");
    // The right one of the two buttons at the lower right.
    let [right, bottom] = [question.right(), question.bottom()].map(|edge| u32::try_from(edge).unwrap());
    pointer.move_to(right - 40, bottom - 30);
    pointer.click();
    agent.until("kill", |e| matches!(e, Event::Kill { surface: SurfaceId(1) }).then_some(()));
    eventually("the question's end", || sway.find("Inlay").is_none().then_some(()));
}
