//! A hostile agent against the window process: nothing that it says on the display socket may end the window process, fill
//! its memory, keep it from answering, or keep others from the desktop. The test is the agent.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::print_stdout, reason = "figures, shown when a test fails")]

mod common;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::agent::{Agent, Windows, commit, content, memory_file, popup, toplevel};
use common::scripted::Screen;
use common::sway::Sway;
use common::{SOON, Xvfb, eventually, within};
use inlay::windows::api::{self, Selector};
use inlay_protocol::display::*;
use inlay_protocol::framing;
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::limits;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event as XEvent;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateWindowAux, EventMask, GrabMode, GrabStatus, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;

/// How soon tools and other programs must be served, whatever the agent does. On a machine that does nothing else it takes a tenth of a
/// second; a busy one with a tenth of its speed must not fail, and a stall would be longer.
const PROMPT: Duration = Duration::from_secs(10);
/// The screen of hosts without a display.
const SCREEN: Size = Size::new(1920, 1080);

/// A small generator of numbers (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(u32::try_from(from.len()).unwrap()) as usize].clone()
    }

    fn surface(&mut self) -> SurfaceId {
        SurfaceId(if self.chance(40) { self.pick(&[0, u32::MAX, 9999]) } else { 1 + self.below(12) })
    }

    /// Small most of the time, else about a limit.
    fn side(&mut self) -> u32 {
        match self.below(20) {
            0 => 0,
            1 => limits::DIMENSION - self.below(2),
            2 => self.below(4000),
            _ => 1 + self.below(120),
        }
    }

    fn size(&mut self) -> Size {
        Size::new(self.side(), self.side())
    }

    fn place(&mut self) -> i32 {
        let most = limits::COORDINATE;
        match self.below(12) {
            0 => self.pick(&[most, -most, most - 1]),
            _ => i32::try_from(self.below(400)).unwrap() - 200,
        }
    }

    fn point(&mut self) -> Point {
        Point::new(self.place(), self.place())
    }

    fn rect(&mut self) -> Rect {
        Rect::new(self.place(), self.place(), self.side(), self.side())
    }

    fn rects(&mut self, most: u32) -> Vec<Rect> {
        (0..self.below(most + 1)).map(|_| self.rect()).collect()
    }
}

fn random_commit(r: &mut Random, numbers: &mut u64) -> Commit {
    *numbers += 1;
    let content = Content {
        buffer: BufferId(r.below(7)),
        offset: if r.chance(4) { u64::from(4 * r.below(20_000)) } else { 0 },
        size: Size::new(r.side().max(1), r.side().max(1)),
        stride: 0,
        format: r.pick(&[Format::Argb8888, Format::Xrgb8888]),
    };
    let stride = 4 * (content.size.width + if r.chance(5) { r.below(99) } else { 0 });
    let content = Some(Content { stride, ..content }).filter(|_| !r.chance(8));
    let size = if r.chance(3) { r.size() } else { content.map_or(Size::default(), |c| c.size) };
    let surface = r.surface();
    let mut children: Vec<Child> = Vec::new();
    if r.chance(3) {
        for _ in 0..r.below(6) {
            let child = r.surface();
            if child != surface && !children.iter().any(|c| c.surface() == Some(child)) {
                children.push(Child::Subsurface { surface: child, position: r.point() });
            }
        }
        let at = r.below(u32::try_from(children.len()).unwrap() + 1);
        children.insert(at as usize, Child::Itself);
    }
    let source = RectF { x: r.side().into(), y: 0.5, width: r.side().into(), height: 1e-9 };
    Commit {
        number: if r.chance(9) { r.next() } else { *numbers },
        damage: r.rects(8),
        scale: 1 + r.below(3),
        transform: r.pick(&[Transform::Normal, Transform::Rotated90, Transform::Flipped270]),
        source: Some(source).filter(|_| r.chance(4)),
        size,
        children,
        input: Some(r.rects(3)).filter(|_| r.chance(4)),
        opaque: r.rects(2),
        geometry: Some(r.rect()).filter(|g| !g.is_empty() && r.chance(3)),
        acked: Some(r.below(40)).filter(|_| r.chance(2)),
        wants_frame: r.chance(2),
        ..commit(surface.0, 0, content)
    }
}

fn random_toplevel(r: &mut Random) -> Request {
    Request::Toplevel(Toplevel {
        surface: r.surface(),
        title: r.pick(&["", "a", "\u{202e}\n\0\u{1b}[2J", "long"]).repeat(if r.chance(5) { 200 } else { 1 }),
        app_id: r.pick(&["x", "../../x", "\0", ""]).to_owned(),
        parent: Some(r.surface()).filter(|_| r.chance(3)),
        min_size: r.size(),
        max_size: r.size(),
        base_size: r.size(),
        increment: r.size(),
        decoration: r.pick(&[Decoration::ClientSide, Decoration::ServerSide]),
        kind: r.pick(&[WindowKind::Normal, WindowKind::Dialog, WindowKind::Splash, WindowKind::Menu]),
        modal: r.chance(3),
        urgent: r.chance(3),
        keeps_awake: r.chance(3),
        inhibits_shortcuts: r.chance(3),
        content_type: if r.chance(2) { ContentType::None } else { ContentType::Game },
        place: r.chance(2).then(|| Placed { at: r.point(), by_user: r.chance(2) }),
        no_focus: r.chance(3),
    })
}

fn random_popup(r: &mut Random) -> Request {
    let edges = [0, 1, 2, 4, 8, 5, 6, 9, 10].map(Edges);
    let positioner = Positioner {
        size: Size::new(r.side().max(1), r.side().max(1)),
        anchor_rect: r.rect(),
        anchor: r.pick(&edges),
        gravity: r.pick(&edges),
        adjustment: ConstraintAdjustment(r.byte() % 64),
        offset: r.point(),
        reactive: r.chance(2),
    };
    let area = r.rect();
    let fixed = Rect::new(area.x, area.y, area.width.max(1), area.height.max(1));
    Request::Popup(Popup {
        surface: r.surface(),
        parent: r.surface(),
        place: if r.chance(2) { Place::Fixed(fixed) } else { Place::Positioner(positioner) },
        kind: r.pick(&[PopupKind::Menu, PopupKind::Tooltip, PopupKind::Drag, PopupKind::Notification]),
        grab: r.chance(2),
        reposition: Some(r.below(9)).filter(|_| r.chance(3)),
    })
}

fn random_icons(r: &mut Random) -> Request {
    let icon = |r: &mut Random| {
        let size = Size::new(1 + r.below(limits::ICON), 1 + r.below(limits::ICON));
        Icon { size, pixels: vec![r.byte(); 4 * (size.width * size.height) as usize] }
    };
    let count = r.below(u32::try_from(limits::ICONS).unwrap() + 1);
    Request::Icons { surface: r.surface(), icons: (0..count).map(|_| icon(r)).collect() }
}

/// Any message, with ids that mostly exist and fields that the decoder mostly lets through.
fn random_request(r: &mut Random, numbers: &mut u64) -> Request {
    let acts = [
        Act::Move,
        Act::Resize(Edges(r.byte() % 16)),
        Act::WindowMenu(r.point()),
        Act::Maximize,
        Act::Unmaximize,
        Act::Fullscreen,
        Act::Unfullscreen,
        Act::Minimize,
        Act::Activate,
    ];
    let surface = r.surface();
    match r.below(40) {
        0..16 => Request::Transaction((0..1 + r.below(3)).map(|_| random_commit(r, numbers)).collect()),
        16..21 => random_toplevel(r),
        21..25 => random_popup(r),
        25 => Request::DestroySurface { surface },
        26 => Request::RoleGone { surface },
        27 => Request::DestroyBuffer { buffer: BufferId(r.below(7)) },
        28..31 => Request::Act { surface, act: r.pick(&acts) },
        31 | 32 => Request::Cursor(match r.below(3) {
            0 => Cursor::Hidden,
            1 => Cursor::Named(r.pick(&["text", "../etc/passwd", "", "no-such"]).to_owned()),
            _ => Cursor::Surface { surface, hotspot: r.point() },
        }),
        33 => random_icons(r),
        34 | 35 => Request::Shape { surface, rects: Some(r.rects(40)).filter(|_| !r.chance(4)) },
        36 => Request::Pong { surface, serial: r.below(9) },
        38 => Request::Constrain {
            surface,
            how: r.pick(&[None, Some(Constraint::Locked), Some(Constraint::Confined)]),
        },
        37 => Request::Counters(AgentCounters { commits: r.next(), ..AgentCounters::default() }),
        _ => Request::SayAgain,
    }
}

/// One session of random messages; `most` at most. Returns how many were sent.
fn random_session(agent: &mut Agent, r: &mut Random, file: &Arc<OwnedFd>, most: u32) -> u32 {
    let mut numbers = 0;
    let reads = !r.chance(4);
    let steps = r.below(most);
    for step in 0..steps {
        if agent.over {
            return step;
        }
        match r.below(30) {
            0..4 => {
                let size = r.pick(&[1 << 20, 65_536, 4096, 1, 1 << 30, (1 << 20) + 1]);
                if size > 1 << 20 && !r.chance(10) {
                    continue;
                }
                agent.buffer(r.below(7), size, file);
            }
            4 if r.chance(20) => {
                let backing = r.pick(&[Backing::Memfd, Backing::VirtioGpu { resource: 1 }]);
                let request = Request::CreateBuffer { buffer: BufferId(r.below(9)), size: 4096, backing };
                agent.without_descriptor(&request);
            }
            5 if r.chance(20) => agent.send_raw(&r.next().to_le_bytes()),
            6 if r.chance(20) => {
                // Half a message, and the end.
                let bytes = framing::encode(&random_request(r, &mut numbers)).unwrap();
                agent.send_raw(&bytes[..bytes.len() / 2]);
                return step;
            }
            _ => {
                let request = random_request(r, &mut numbers);
                let Ok(bytes) = framing::encode(&request) else { continue };
                // What the decoder refuses ends the session: rarely, so that the others come to something.
                if framing::decode::<Request>(&bytes[framing::HEADER..]).is_ok() || r.chance(60) {
                    agent.send(&request);
                }
            }
        }
        if reads && r.chance(6) {
            agent.drain();
        }
    }
    steps
}

/// Sessions of random messages, one after the other; each seed is another test run.
fn many_random_sessions(windows: &mut Windows, seed: u64, sessions: u32, bound: u64) {
    let mut r = Random(seed);
    let file = Arc::new(memory_file(1 << 20));
    let mut sent = 0;
    for session in 0..sessions {
        let mut agent = windows.connect();
        sent += random_session(&mut agent, &mut r, &file, 200);
        if session % 10 == 0 {
            windows.answers_within(PROMPT);
            if let Some(window) = windows.answers_within(PROMPT).first() {
                // It may close meanwhile; the answer counts.
                let begin = Instant::now();
                let _ = api::picture(&windows.api(), Selector::Surface(window.surface));
                assert!(begin.elapsed() <= PROMPT, "a picture took {:?}", begin.elapsed());
            }
            let resident = windows.resident();
            assert!(resident <= bound, "{resident} MiB after {session} sessions");
        }
    }
    println!("{sent} messages in {sessions} sessions, {} MiB", windows.resident());
    windows.assert_alive();
    windows.serves();
}

#[test]
fn random_sessions_do_no_harm() {
    let mut windows = Windows::start(None);
    let before = windows.resident();
    many_random_sessions(&mut windows, 0x5eed_0001, 400, before + 512);
}

#[test]
fn bytes_that_are_no_session_do_no_harm() {
    let mut windows = Windows::start(None);
    let mut r = Random(0x5eed_0002);
    for _ in 0..400 {
        let mut stream = windows.stream();
        let bytes: Vec<u8> = (0..r.below(200)).map(|_| r.byte()).collect();
        // It may be refused already.
        let _ = stream.write_all(&bytes);
    }
    // Connections that never say hello, more than are held.
    let silent: Vec<_> = (0..100).map(|_| windows.stream()).collect();
    windows.answers_within(PROMPT);
    drop(silent);
    windows.serves();
}

/// A session with an open toplevel 1 of this size, whose buffer 1 has room for more.
fn with_window(windows: &Windows, title: &str, width: u32, height: u32) -> Agent {
    let mut agent = windows.connect();
    let size = 4 * width as usize * height as usize;
    agent.buffer(1, size as u64, &Arc::new(memory_file(size)));
    agent.send(&toplevel(1, title));
    agent.send(&Request::Transaction(vec![commit(1, 1, Some(content(1, width, height)))]));
    eventually("the hostile window", || {
        agent.drain();
        api::windows(&windows.api()).unwrap().iter().any(|w| w.title == title).then_some(())
    });
    agent
}

/// What floods are made of: request number `n`.
type Flood = (&'static str, fn(u32) -> Request);

fn floods() -> Vec<Flood> {
    vec![
        ("commits", |n| Request::Transaction(vec![commit(1, n.into(), Some(content(1, 64, 64)))])),
        ("cursor names", |n| Request::Cursor(Cursor::Named(format!("c{}", "x".repeat(n as usize % 50))))),
        ("cursors", |n| {
            Request::Cursor(if n % 2 == 0 { Cursor::Hidden } else { Cursor::Named("text".into()) })
        }),
        ("popups", |n| popup(2, 1, Size::new(1 + n % 50, 9), n % 2 == 0)),
        ("new popups", |n| popup(10 + n % 3000, 1, Size::new(50, 50), true)),
        ("toplevels", |n| toplevel(10 + n % 3000, "many")),
        ("titles", |n| toplevel(1, &format!("title {n}"))),
        ("icons", |n| Request::Icons {
            surface: SurfaceId(1),
            icons: vec![Icon { size: Size::new(32, 32), pixels: vec![n.to_le_bytes()[0]; 4096] }],
        }),
        ("shapes", |n| Request::Shape {
            surface: SurfaceId(1),
            rects: Some(vec![Rect::new(i32::try_from(n % 9).unwrap(), 0, 50, 50); 100]),
        }),
        ("acts", |n| Request::Act {
            surface: SurfaceId(1),
            act: [Act::Maximize, Act::Unmaximize, Act::Fullscreen, Act::Unfullscreen][n as usize % 4],
        }),
        ("drags", |n| Request::Act {
            surface: SurfaceId(1),
            act: [Act::Move, Act::Resize(Edges::LEFT), Act::WindowMenu(Point::default())][n as usize % 3],
        }),
        ("say again", |_| Request::SayAgain),
        ("pongs", |n| Request::Pong { surface: SurfaceId(1), serial: n }),
        ("roles", |n| {
            if n % 2 == 0 { Request::RoleGone { surface: SurfaceId(9) } } else { toplevel(9, "in and out") }
        }),
    ]
}

/// Sends one kind of message as fast as it is taken, for a time, while `check` looks from outside. A session that is ended
/// for it begins again.
fn flood(windows: &mut Windows, what: Flood, time: Duration, mut check: impl FnMut(&mut Windows)) -> u32 {
    let (name, request) = what;
    let end = Instant::now() + time;
    let mut sent = 0;
    let mut agent = with_window(windows, name, 300, 200);
    let mut looked = Instant::now();
    while Instant::now() < end {
        if agent.over {
            agent = with_window(windows, name, 300, 200);
        }
        for _ in 0..64 {
            sent += 1;
            agent.send(&request(sent));
        }
        agent.drain();
        agent.push(Duration::from_millis(20));
        if looked.elapsed() > Duration::from_millis(250) {
            check(windows);
            looked = Instant::now();
        }
    }
    drop(agent);
    sent
}

#[test]
fn floods_do_no_harm() {
    let mut windows = Windows::start(None);
    let bound = windows.resident() + 512;
    for what in floods() {
        let sent = flood(&mut windows, what, Duration::from_millis(1500), |windows| {
            windows.answers_within(PROMPT);
            assert!(windows.resident() <= bound, "{} MiB under a flood of {}", windows.resident(), what.0);
        });
        println!("{}: {sent} sent, {} MiB", what.0, windows.resident());
    }
    windows.serves();
}

/// The windows that the window process lists.
fn list(windows: &Windows) -> Vec<api::WindowInfo> {
    api::windows(&windows.api()).unwrap()
}

/// Waits until no window of this surface is open.
fn gone(windows: &Windows, surface: u32) {
    eventually("the window's end", || {
        list(windows).iter().all(|w| w.surface != SurfaceId(surface)).then_some(())
    });
}

fn opened(windows: &Windows, surface: u32) -> api::WindowInfo {
    eventually("the window", || list(windows).into_iter().find(|w| w.surface == SurfaceId(surface)))
}

/// A commit of one pixel of buffer 1, stretched to a size.
fn stretched(surface: u32, number: u64, size: Size) -> Request {
    Request::Transaction(vec![Commit { size, ..commit(surface, number, Some(content(1, 1, 1))) }])
}

/// What an agent does against the rules.
type Breach<'a> = &'a dyn Fn(&mut Agent);

#[test]
fn an_agent_that_breaks_the_rules_is_cut_off() {
    let other_parent = |agent: &mut Agent| {
        agent.send(&toplevel(7, "other"));
        agent.send(&popup(2, 1, Size::new(9, 9), false));
        agent.send(&popup(2, 7, Size::new(9, 9), false));
    };
    let cycle = |agent: &mut Agent| {
        for (child, parent) in [(2, 1), (3, 2), (4, 3), (2, 4)] {
            agent.send(&popup(child, parent, Size::new(9, 9), true));
        }
    };
    let twice = |agent: &mut Agent| (0..2).for_each(|_| agent.buffer(5, 64, &Arc::new(memory_file(64))));
    let short = |agent: &mut Agent| agent.buffer(5, 65, &Arc::new(memory_file(64)));
    let unsealed = |agent: &mut Agent| {
        let file = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 64).unwrap();
        agent.buffer(5, 64, &Arc::new(file));
    };
    let too_many_surfaces = |agent: &mut Agent| {
        for id in 0..=u32::try_from(limits::SURFACES).unwrap() {
            agent.send(&Request::Transaction(vec![commit(100 + id, 1, None)]));
            agent.push(SOON);
        }
    };
    let too_many_buffers = |agent: &mut Agent| {
        let file = Arc::new(memory_file(64));
        for id in 0..=u32::try_from(limits::BUFFERS).unwrap() {
            agent.buffer(100 + id, 64, &file);
            agent.push(SOON);
        }
    };
    let breaches: [(&str, Breach<'_>); 11] = [
        ("another parent", &other_parent),
        ("a cycle of popups", &cycle),
        ("a buffer id twice", &twice),
        ("a short buffer", &short),
        ("an unsealed buffer", &unsealed),
        ("surfaces without end", &too_many_surfaces),
        ("buffers without end", &too_many_buffers),
        ("a popup from a toplevel", &|agent| agent.send(&popup(1, 1, Size::new(9, 9), false))),
        ("its own parent", &|agent| {
            agent.send(&match toplevel(3, "self") {
                Request::Toplevel(t) => Request::Toplevel(Toplevel { parent: Some(SurfaceId(3)), ..t }),
                other => other,
            })
        }),
        ("no descriptor", &|agent| {
            let backing = Backing::Memfd;
            agent.without_descriptor(&Request::CreateBuffer { buffer: BufferId(8), size: 1, backing });
        }),
        ("a long message", &|agent| agent.send_raw(&[0xff; 64])),
    ];
    let mut windows = Windows::start(None);
    for (what, breach) in breaches {
        println!("{what}");
        let mut agent = with_window(&windows, what, 40, 30);
        breach(&mut agent);
        if what == "a popup from a toplevel" {
            // The parent is no other window: nothing comes of it.
            agent.expect("the popup's end", |e| matches!(e, Event::PopupDone { .. }).then_some(()));
            continue;
        }
        agent.expect_end();
        assert!(list(&windows).is_empty(), "its windows are closed");
        windows.assert_alive();
    }
    windows.serves();
}

#[test]
fn what_an_agent_does_not_read_is_bounded() {
    let mut windows = Windows::start(None);
    let bound = windows.resident() + 64;
    let mut agent = with_window(&windows, "deaf", 40, 30);
    let end = Instant::now() + Duration::from_secs(5);
    // A popup of nobody is answered; no answer is read.
    while Instant::now() < end && !agent.over {
        for _ in 0..1000 {
            agent.send(&popup(2, 99, Size::new(9, 9), false));
        }
        windows.answers_within(PROMPT);
        assert!(windows.resident() <= bound, "{} MiB wait for the agent", windows.resident());
    }
    drop(agent);
    windows.serves();
}

#[test]
fn the_log_stays_small() {
    let mut windows = Windows::start(None);
    for round in 0..3 {
        let mut agent = with_window(&windows, "talkative", 40, 30);
        for number in 1..20_000 {
            // No such buffer, and a popup of nobody.
            agent.send(&Request::Transaction(vec![commit(1, number, Some(content(77, 8, 8)))]));
            agent.send(&popup(2, 99, Size::new(9, 9), false));
            agent.drain();
        }
        agent.push(SOON);
        let size = windows.log().len();
        assert!(size <= 32 << 10, "{size} bytes are logged after round {round}");
    }
    windows.answers_within(PROMPT);
    windows.serves();
}

#[test]
fn windows_are_no_larger_than_the_screen() {
    let windows = Windows::start(None);
    let mut agent = with_window(&windows, "large", 40, 30);
    let huge = Size::new(limits::DIMENSION, limits::DIMENSION);
    agent.send(&toplevel(2, "huge"));
    agent.send(&stretched(2, 1, huge));
    assert_eq!(opened(&windows, 2).area.size(), SCREEN);
    agent.send(&popup(3, 1, huge, false));
    agent.send(&stretched(3, 1, huge));
    let area = opened(&windows, 3).area;
    assert!(area.width <= SCREEN.width && area.height <= SCREEN.height, "{area:?}");
    // Also those that grow later.
    agent.send(&stretched(1, 2, huge));
    eventually("the first window grows", || (opened(&windows, 1).area.size() == SCREEN).then_some(()));
    let picture = api::picture(&windows.api(), Selector::Surface(SurfaceId(1))).unwrap();
    assert_eq!(picture.size, SCREEN);
}

#[test]
fn a_surface_is_drawn_in_one_tree_only() {
    let windows = Windows::start(None);
    let mut agent = windows.connect();
    let bytes: Vec<u8> = [[0x10, 0x20, 0x30, 0xff]; 64].concat().into_iter().chain([0xff; 256]).collect();
    let file = memory_file(512);
    assert_eq!(rustix::io::pwrite(&file, &bytes, 0), Ok(512));
    agent.buffer(1, 512, &Arc::new(file));
    let child = || Child::Subsurface { surface: SurfaceId(9), position: Point::default() };
    let part = Content { offset: 256, ..content(1, 8, 8) };
    agent.send(&Request::Transaction(vec![commit(9, 1, Some(part))]));
    for id in 1..=3 {
        agent.send(&toplevel(id, &format!("tree {id}")));
        let tree = Commit { children: vec![Child::Itself, child()], ..commit(id, 1, Some(content(1, 8, 8))) };
        agent.send(&Request::Transaction(vec![tree]));
        opened(&windows, id);
    }
    let shows_child = |id| {
        let picture = api::picture(&windows.api(), Selector::Surface(SurfaceId(id))).unwrap();
        picture.bytes[..4] == [0xff; 4]
    };
    let count = || [1, 2, 3].map(shows_child).iter().filter(|shown| **shown).count();
    assert_eq!(eventually("the child in a tree", || Some(count()).filter(|count| *count > 0)), 1);
}

#[test]
fn damage_of_waiting_commits_is_bounded() {
    let windows = Windows::start(None);
    let (width, height) = (200, 100);
    let mut agent = with_window(&windows, "damage", width, height);
    let whole = u64::from(4 * width * height);
    let dots = |number: u64, row| {
        let damage = (0..64).map(|x| Rect::new(3 * x, row, 1, 1)).collect();
        Commit { damage, ..commit(1, number, Some(content(1, width, height))) }
    };
    let uploaded = || api::counters(&windows.api()).unwrap().uploaded_bytes;
    // The first is taken at once; the others wait for the tick and become one.
    within(SOON, "three commits within a tick", || {
        let before = uploaded();
        let number = before;
        agent.send(&Request::Transaction(vec![dots(number, 1), dots(number + 1, 3), dots(number + 2, 5)]));
        for last in [number + 1, number + 2] {
            let release = |e| matches!(e, Event::Release { number, .. } if number == last).then_some(());
            agent.expect("the release", release);
        }
        let taken = uploaded() - before;
        assert!(taken <= whole + 64 * 4 + whole, "{taken} bytes");
        (taken >= whole).then_some(())
    });
}

#[test]
fn textures_have_a_budget() {
    let mut windows = Windows::start(None);
    // 2 GiB of textures, what is on its way to them, and the device's own.
    let bound = windows.resident() + 2048 + 768;
    let side = 4096;
    let bytes = 4 * side as usize * side as usize;
    let mut agent = windows.connect();
    agent.buffer(1, bytes as u64, &Arc::new(memory_file(bytes)));
    let mut most = 0;
    for id in 1..=48 {
        agent.send(&toplevel(id, "filler"));
        agent.send(&Request::Transaction(vec![commit(id, 1, Some(content(1, side, side)))]));
        agent.until("a release", SOON, |e| {
            matches!(e, Event::Release { surface, .. } if surface.0 == id).then_some(())
        });
        windows.answers_within(PROMPT);
        most = most.max(windows.resident());
    }
    println!("{most} MiB with textures, {} windows", list(&windows).len());
    assert!(most <= bound, "{most} MiB are resident");
    assert!(list(&windows).len() < 48, "the budget was never reached");
    // Surfaces that go at once, before the device has their pixels.
    for id in 100..200 {
        agent.send(&Request::DestroySurface { surface: SurfaceId(id - 99) });
        agent.send(&Request::Transaction(vec![commit(id, 1, Some(content(1, side, side)))]));
        agent.send(&Request::DestroySurface { surface: SurfaceId(id) });
        agent.drain();
        most = most.max(windows.resident());
    }
    agent.push(SOON);
    windows.answers_within(PROMPT);
    most = most.max(windows.resident());
    assert!(most <= bound, "{most} MiB are resident");
    drop(agent);
    windows.serves();
    let left = windows.resident();
    println!("{left} MiB afterwards");
    assert!(left <= 1024, "{left} MiB stay");
}

/// Another program of the same X display.
struct Neighbour {
    connection: RustConnection,
    root: Window,
}

impl Neighbour {
    fn new(xvfb: &Xvfb) -> Self {
        let (connection, screen) = RustConnection::connect(Some(&xvfb.display)).unwrap();
        let root = connection.setup().roots[screen].root;
        Self { connection, root }
    }

    /// Maps a window, waits until it is drawn (the window manager took part), and takes it away; says how long that took.
    fn maps(&self) -> Duration {
        let begin = Instant::now();
        let c = &self.connection;
        let window = c.generate_id().unwrap();
        let mask = EventMask::EXPOSURE | EventMask::STRUCTURE_NOTIFY;
        let aux = CreateWindowAux::new().event_mask(mask).background_pixel(0);
        let class = WindowClass::INPUT_OUTPUT;
        c.create_window(0, window, self.root, 700, 500, 90, 60, 0, class, 0, &aux).unwrap();
        c.map_window(window).unwrap();
        c.flush().unwrap();
        within(SOON, "another program's window", || {
            while let Some(event) = c.poll_for_event().unwrap() {
                if matches!(&event, XEvent::MapNotify(e) if e.window == window) {
                    return Some(());
                }
            }
            None
        });
        let took = begin.elapsed();
        c.destroy_window(window).unwrap();
        c.flush().unwrap();
        took
    }

    /// Whether the pointer can be had: nobody else holds it.
    fn may_grab(&self) -> bool {
        let (mask, mode) = (EventMask::BUTTON_PRESS, GrabMode::ASYNC);
        let grab = self.connection.grab_pointer(false, self.root, mask, mode, mode, 0_u32, 0_u32, 0_u32);
        let free = grab.unwrap().reply().unwrap().status == GrabStatus::SUCCESS;
        self.connection.ungrab_pointer(0_u32).unwrap();
        self.connection.flush().unwrap();
        free
    }
}

/// The display serves others and the window process serves tools.
fn usable(windows: &mut Windows, neighbour: &Neighbour, what: &str) {
    windows.answers_within(PROMPT);
    let took = neighbour.maps();
    assert!(took <= PROMPT, "{what}: another program's window took {took:?}");
}

#[test]
fn floods_leave_the_display_usable() {
    let xvfb = Xvfb::start();
    let neighbour = Neighbour::new(&xvfb);
    let mut windows = Windows::start(Some(&xvfb.display));
    let bound = windows.resident() + 512;
    for what in floods() {
        let sent = flood(&mut windows, what, Duration::from_millis(1500), |windows| {
            usable(windows, &neighbour, what.0);
            assert!(windows.resident() <= bound, "{} MiB under a flood of {}", windows.resident(), what.0);
        });
        println!("{}: {sent} sent, {} MiB", what.0, windows.resident());
    }
    windows.serves();
}

#[test]
fn random_sessions_leave_the_display_usable() {
    let xvfb = Xvfb::start();
    let neighbour = Neighbour::new(&xvfb);
    let mut windows = Windows::start(Some(&xvfb.display));
    let bound = windows.resident() + 1024;
    for seed in 0..5 {
        many_random_sessions(&mut windows, 0x5eed_1000 + seed, 20, bound);
        usable(&mut windows, &neighbour, "random sessions");
    }
}

#[test]
fn a_wayland_desktop_survives_floods_and_random_sessions() {
    let sway = Sway::start();
    let mut windows = Windows::start_on(Screen::Wayland(&sway.socket()));
    let bound = windows.resident() + 1024;
    // Its own answer takes as long as it is busy with our windows.
    let usable = |windows: &mut Windows, what: &str| {
        windows.answers_within(PROMPT);
        let begin = Instant::now();
        sway.msg(&["-t", "get_version"]);
        assert!(begin.elapsed() <= PROMPT, "{what}: sway took {:?}", begin.elapsed());
        assert!(windows.resident() <= bound, "{} MiB: {what}", windows.resident());
    };
    for what in floods() {
        let sent = flood(&mut windows, what, Duration::from_millis(1000), |windows| usable(windows, what.0));
        println!("{}: {sent} sent, {} MiB", what.0, windows.resident());
    }
    for seed in 0..5 {
        many_random_sessions(&mut windows, 0x5eed_2000 + seed, 20, bound);
        usable(&mut windows, "random sessions");
    }
    windows.serves();
}

#[test]
fn windows_without_end_leave_the_display_usable() {
    let xvfb = Xvfb::start();
    let neighbour = Neighbour::new(&xvfb);
    let mut windows = Windows::start(Some(&xvfb.display));
    // The largest windows there can be, each with images of its own.
    let bound = windows.resident() + 2048;
    let mut agent = with_window(&windows, "first", 40, 30);
    for id in 2..1000 {
        agent.send(&toplevel(id, "one of many"));
        agent.send(&stretched(id, 1, Size::new(1280, 900)));
        agent.drain();
        if id % 25 == 0 {
            usable(&mut windows, &neighbour, "many windows");
            let resident = windows.resident();
            println!("{} windows, {resident} MiB", list(&windows).len());
            assert!(resident <= bound, "{resident} MiB are resident");
        }
    }
    agent.push(SOON);
    usable(&mut windows, &neighbour, "many windows");
    assert_eq!(list(&windows).len(), 256, "there is an end");
    drop(agent);
    windows.serves();
}

#[test]
fn the_user_is_told_when_an_agent_is_cut_off() {
    let xvfb = Xvfb::start();
    let windows = Windows::start(Some(&xvfb.display));
    let mut agent = with_window(&windows, "doomed", 40, 30);
    xvfb.find("doomed");
    agent.send(&popup(2, 1, Size::new(9, 9), false));
    agent.send_raw(&[0xff; 64]);
    agent.expect_end();
    xvfb.find("Inlay");
    assert!(xvfb.is_gone("doomed"));
    // Ten more agents of this kind make no more notices.
    for _ in 0..10 {
        let mut agent = with_window(&windows, "doomed", 40, 30);
        agent.send_raw(&[0xff; 64]);
        agent.expect_end();
    }
    eventually("one notice", || {
        let found = xvfb.xdotool(&["search", "--onlyvisible", "--name", "^Inlay$"]);
        (found.lines().count() == 1).then_some(())
    });
}

/// A window that has the keyboard, by a click of the user.
fn focused(xvfb: &Xvfb, windows: &Windows, title: &str) -> (Agent, String) {
    let mut agent = with_window(windows, title, 300, 200);
    let window = xvfb.find(title);
    xvfb.click(&window);
    agent.expect("the keyboard", |e| {
        matches!(e, Event::Input(InputEvent::KeyboardEnter { .. })).then_some(())
    });
    (agent, window)
}

#[test]
fn the_pointer_is_taken_only_by_what_the_user_does() {
    let xvfb = Xvfb::start();
    let neighbour = Neighbour::new(&xvfb);
    let windows = Windows::start(Some(&xvfb.display));
    let mut agent = with_window(&windows, "grabber", 300, 200);
    let window = xvfb.find("grabber");
    xvfb.xdotool(&["windowfocus", "--sync", &window]);
    let menu = Size::new(50, 50);
    // No click and no key came yet.
    agent.send(&popup(2, 1, menu, true));
    agent.send(&stretched(2, 1, menu));
    opened(&windows, 2);
    for act in [Act::Move, Act::Resize(Edges::RIGHT), Act::WindowMenu(Point::default())] {
        agent.send(&Request::Act { surface: SurfaceId(1), act });
    }
    for _ in 0..20 {
        agent.drain();
        assert!(neighbour.may_grab(), "the pointer was taken without the user");
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.send(&Request::DestroySurface { surface: SurfaceId(2) });
    gone(&windows, 2);
    // After a click it may.
    xvfb.click(&window);
    agent.expect("the click", |e| {
        matches!(e, Event::Input(InputEvent::PointerButton { pressed: false, .. })).then_some(())
    });
    agent.send(&popup(3, 1, menu, true));
    agent.send(&stretched(3, 1, menu));
    opened(&windows, 3);
    // The neighbour's own tries take the pointer for a moment: not in the moment in which the popup wants it.
    std::thread::sleep(Duration::from_millis(300));
    eventually("the popup's grab", || (!neighbour.may_grab()).then_some(()));
    // Not for longer than its toplevel has the focus.
    let mut other = std::process::Command::new("xterm");
    let _other = common::Process::spawn(other.env("DISPLAY", &xvfb.display).args(["-T", "neighbour"]));
    let neighbours = xvfb.find("neighbour");
    xvfb.xdotool(&["windowfocus", &neighbours]);
    agent.expect("the popup's end", |e| (e == Event::PopupDone { surface: SurfaceId(3) }).then_some(()));
    gone(&windows, 3);
    eventually("the pointer's freedom", || neighbour.may_grab().then_some(()));
}

#[test]
fn hidden_windows_get_their_frames_while_a_commit_waits() {
    let xvfb = Xvfb::start();
    let windows = Windows::start(Some(&xvfb.display));
    let mut agent = with_window(&windows, "hidden", 300, 200);
    let window = xvfb.find("hidden");
    xvfb.xdotool(&["windowminimize", "--sync", &window]);
    within(SOON, "frames of a hidden window", || {
        agent.drain();
        let waits = Commit { wants_frame: true, ..commit(1, 2, Some(content(1, 300, 200))) };
        agent.send(&Request::Transaction(vec![waits]));
        let mut released = false;
        let frame = agent.until("a frame", Duration::from_secs(3), |e| {
            released |= matches!(e, Event::Release { number: 2, .. });
            matches!(e, Event::Frame { .. }).then_some(())
        });
        // Released: it was not hidden yet.
        frame.filter(|()| !released)
    });
}

#[test]
fn keys_that_went_up_elsewhere_are_told() {
    let xvfb = Xvfb::start();
    let neighbour = Neighbour::new(&xvfb);
    let windows = Windows::start(Some(&xvfb.display));
    let (mut agent, _window) = focused(&xvfb, &windows, "keys");
    xvfb.xdotool(&["keydown", "a"]);
    agent.expect("the key", |e| {
        matches!(e, Event::Input(InputEvent::Key { pressed: true, .. })).then_some(())
    });
    let c = &neighbour.connection;
    let grab = c.grab_keyboard(false, neighbour.root, 0_u32, GrabMode::ASYNC, GrabMode::ASYNC);
    assert_eq!(grab.unwrap().reply().unwrap().status, GrabStatus::SUCCESS);
    xvfb.xdotool(&["keyup", "a"]);
    c.ungrab_keyboard(0_u32).unwrap();
    c.flush().unwrap();
    agent.expect("the focus without keys", |e| match e {
        Event::Input(InputEvent::KeyboardEnter { keys, .. }) => keys.is_empty().then_some(()),
        Event::Input(InputEvent::Key { pressed: false, .. }) => Some(()),
        _ => None,
    });
}

#[test]
fn an_agent_that_closes_at_odd_moments_does_no_harm() {
    let xvfb = Xvfb::start();
    let mut windows = Windows::start(Some(&xvfb.display));
    for moment in 0..12 {
        let mut agent = windows.connect();
        let file = Arc::new(memory_file(4096));
        let requests = [
            toplevel(1, "odd"),
            stretched(1, 1, Size::new(200, 100)),
            popup(2, 1, Size::new(50, 50), true),
            stretched(2, 1, Size::new(50, 50)),
            Request::Cursor(Cursor::Surface { surface: SurfaceId(2), hotspot: Point::default() }),
            Request::Act { surface: SurfaceId(1), act: Act::Fullscreen },
        ];
        agent.buffer(1, 4096, &file);
        for request in requests.iter().take(moment / 2 + 1) {
            agent.send(request);
        }
        if moment % 2 == 0 {
            // In the middle of what it causes.
            std::thread::sleep(Duration::from_millis(3 * moment as u64));
        }
        drop(agent);
        windows.assert_alive();
    }
    windows.serves();
    eventually("no window is left", || xvfb.is_gone("odd").then_some(()));
}
