//! The desk without a desktop: events in, places and events out.

use super::*;
use crate::windows::presenter::headless::Headless;
use crate::windows::window;
use inlay_protocol::display::{Edges, Placed, PopupKind, Toplevel as Role};
use inlay_protocol::input::{InputEvent, Modifiers};

const A: SurfaceId = SurfaceId(4);
const B: SurfaceId = SurfaceId(7);
const C: SurfaceId = SurfaceId(8);
const MENU: SurfaceId = SurfaceId(9);
const SIZE: Size = Size::new(300, 200);
/// The one window's, on the monitor of 1920x1080 that a headless desktop has.
const ROOM: Size = Size::new(1632, 918);
const LEFT: u32 = 0x110;
const TITLE_HEIGHT: i32 = stack::TITLE.cast_signed();

struct Bench {
    desk: Desk,
    renderer: Renderer,
    time_ms: u64,
}

fn look(title: &str) -> Look {
    let role = Role { title: title.into(), decoration: Decoration::ServerSide, ..Role::default() };
    window::look(&role, "demo", None)
}

impl Bench {
    /// Windows are together, and the one window is open and has the keyboard.
    fn new() -> Self {
        let renderer = Renderer::new(None).unwrap();
        let mut bench =
            Self { desk: Desk::new(Box::new(Headless::default()), "demo", None), renderer, time_ms: 10_000 };
        bench.desk.put_together(false);
        bench.turn();
        let (keys, modifiers) = (Vec::new(), Modifiers::default());
        bench.host(HostEvent::Focus { window: Some(WINDOW), keys, modifiers });
        bench.host(HostEvent::Input(InputEvent::PointerEnter { surface: WINDOW, x: 1.0, y: 800.0 }));
        bench
    }

    fn turn(&mut self) -> Vec<HostEvent> {
        self.desk.turn(Duration::ZERO, &mut self.renderer);
        self.desk.dispatch().unwrap()
    }

    fn host(&mut self, event: HostEvent) -> Vec<HostEvent> {
        let left = self.desk.take(event);
        let mut events = std::mem::take(&mut self.desk.events);
        events.extend(left);
        events
    }

    fn open(&mut self, id: SurfaceId, look: &Look) -> Vec<HostEvent> {
        let target = self.desk.open_toplevel(id, look, SIZE, States::default(), &self.renderer).unwrap();
        assert!(matches!(target, Target::Texture(_)));
        std::mem::take(&mut self.desk.events)
    }

    fn motion(&mut self, x: f64, y: f64) -> Vec<HostEvent> {
        let time_ms = self.time_ms;
        self.host(HostEvent::Input(InputEvent::PointerMotion { time_ms, x, y }))
    }

    fn press(&mut self, pressed: bool) -> Vec<HostEvent> {
        let time_ms = self.time_ms;
        self.host(HostEvent::Input(InputEvent::PointerButton { time_ms, button: LEFT, pressed }))
    }

    fn click(&mut self, x: f64, y: f64) -> Vec<HostEvent> {
        self.time_ms += 1000;
        let mut events = self.motion(x, y);
        events.extend(self.press(true));
        events.extend(self.press(false));
        events
    }

    fn key(&mut self, key: u32, pressed: bool) -> Vec<HostEvent> {
        self.host(HostEvent::Input(InputEvent::Key { time_ms: 0, key, pressed }))
    }

    fn area(&self, id: SurfaceId) -> Rect {
        self.desk.stack.area(id).unwrap()
    }

    /// A place in a window, as the one window has it.
    fn spot(&self, id: SurfaceId, x: i32, y: i32) -> (f64, f64) {
        let area = self.area(id);
        (f64::from(area.x + x), f64::from(area.y + y))
    }
}

fn focus(events: &[HostEvent]) -> Vec<Option<SurfaceId>> {
    let focus = |event: &HostEvent| match event {
        HostEvent::Focus { window, .. } => Some(*window),
        _ => None,
    };
    events.iter().filter_map(focus).collect()
}

fn sizes(events: &[HostEvent]) -> Vec<(SurfaceId, Size, States)> {
    let size = |event: &HostEvent| match event {
        HostEvent::Configured { window, size, states } => Some((*window, *size, *states)),
        _ => None,
    };
    events.iter().filter_map(size).collect()
}

#[test]
fn apart_everything_passes() {
    let mut desk = Desk::new(Box::new(Headless::default()), "demo", None);
    assert_eq!(desk.outputs()[0].name, "headless-1");
    let event = HostEvent::Input(InputEvent::PointerEnter { surface: A, x: 1.0, y: 2.0 });
    assert_eq!(desk.take(event.clone()), Some(event));
    let renderer = Renderer::new(None).unwrap();
    let target = desk.open_toplevel(A, &look("a"), SIZE, States::default(), &renderer).unwrap();
    assert!(matches!(target, Target::None), "the desktop's own");
    assert_eq!(desk.begin_frame(A, SIZE, true), Some(SIZE));
    assert!(!desk.end_frame(A, Ended::Presented));
}

#[test]
fn the_pointer_is_where_the_highest_window_is() {
    let mut b = Bench::new();
    assert_eq!(b.desk.outputs()[0].area, Rect::of_size(ROOM));
    b.open(A, &look("a"));
    let events = b.open(B, &look("b"));
    assert_eq!(focus(&events), [Some(B)], "new windows have the keyboard");
    let (at_a, at_b) = (b.area(A), b.area(B));
    assert!(at_a.y >= TITLE_HEIGHT && at_b.x > at_a.x && at_b.y > at_a.y, "{at_a:?} {at_b:?}");

    // Where both are it is B's; on its title nobody's.
    let (x, y) = b.spot(B, 10, 5);
    let events = b.motion(x, y);
    assert_eq!(events, [HostEvent::Input(InputEvent::PointerEnter { surface: B, x: 10.0, y: 5.0 })]);
    let (x, y) = b.spot(B, 10, -5);
    assert_eq!(b.motion(x, y), [HostEvent::Input(InputEvent::PointerLeave)]);
    // A click on what is seen of A brings it up.
    let (x, y) = b.spot(A, 2, 2);
    let events = b.click(x, y);
    assert_eq!(focus(&events), [Some(A)]);
    let buttons = |pressed: bool| move |event: &&HostEvent| matches!(event, HostEvent::Input(InputEvent::PointerButton { pressed: p, .. }) if *p == pressed);
    assert_eq!(
        (events.iter().filter(buttons(true)).count(), events.iter().filter(buttons(false)).count()),
        (1, 1)
    );
    let (x, y) = b.spot(B, 10, 5);
    let enter = b.motion(x, y);
    let over_a = matches!(enter[..], [HostEvent::Input(InputEvent::PointerMotion { .. })]);
    assert!(over_a, "A lies above now: {enter:?}");
    // While a button is held the window keeps the pointer wherever it goes.
    b.press(true);
    let events = b.motion(2000.0, 3.0);
    assert!(matches!(events[..], [HostEvent::Input(InputEvent::PointerMotion { .. })]), "{events:?}");
    let events = b.press(false);
    assert_eq!(events.last(), Some(&HostEvent::Input(InputEvent::PointerLeave)), "{events:?}");
}

#[test]
fn windows_are_moved_resized_and_made_whole_by_their_frames() {
    let mut b = Bench::new();
    b.open(A, &Look { min_size: Size::new(100, 80), ..look("a") });
    let before = b.area(A);
    let (x, y) = b.spot(A, 20, -10);
    b.motion(x, y);
    b.press(true);
    b.motion(x + 50.0, y + 40.0);
    b.press(false);
    assert_eq!(b.area(A), before.translated(Point::new(50, 40)));
    // Its title cannot be moved off the room.
    let (x, y) = b.spot(A, 20, -10);
    b.time_ms += 1000;
    b.motion(x, y);
    b.press(true);
    b.motion(x, -500.0);
    b.press(false);
    assert_eq!(b.area(A).y, TITLE_HEIGHT);

    // The lower right corner; no smaller than its app has it.
    let (x, y) = b.spot(A, 302, 202);
    b.motion(x, y);
    b.press(true);
    let events = b.motion(x + 30.0, y + 20.0);
    assert_eq!(sizes(&events), [(A, Size::new(330, 220), States::RESIZING)]);
    b.motion(x - 900.0, y - 900.0);
    let events = b.press(false);
    assert_eq!(sizes(&events), [(A, Size::new(100, 80), States::default())]);

    // The upper left one moves that corner alone.
    let corner = (b.area(A).right(), b.area(A).bottom());
    let (x, y) = b.spot(A, -3, -TITLE_HEIGHT);
    b.motion(x, y);
    b.press(true);
    b.motion(x - 10.0, y);
    b.press(false);
    assert_eq!((b.area(A).right(), b.area(A).bottom()), corner);
    assert_eq!(b.area(A).width, 110);

    // A double click on the title, and another.
    let before = b.area(A);
    let (x, y) = b.spot(A, 10, -10);
    let twice = |b: &mut Bench, x, y| {
        let mut events = b.click(x, y);
        b.time_ms -= 900;
        events.extend(b.click(x, y));
        events
    };
    let events = twice(&mut b, x, y);
    let whole = Size::new(ROOM.width, ROOM.height - stack::PANEL - stack::TITLE);
    assert_eq!(sizes(&events), [(A, whole, States::MAXIMIZED)]);
    let (x, y) = b.spot(A, 10, -10);
    let events = twice(&mut b, x, y);
    assert_eq!(sizes(&events), [(A, before.size(), States::default())]);
    assert_eq!(b.area(A), before);

    // Full screen: no frame, no panel.
    b.desk.act(A, Act::Fullscreen);
    assert_eq!((b.area(A), b.desk.stack.panel()), (Rect::of_size(ROOM), None));
    b.desk.act(A, Act::Unfullscreen);
    assert_eq!(b.area(A), before);
}

#[test]
fn titles_buttons_and_the_panel_close_hide_and_bring_back() {
    let mut b = Bench::new();
    b.open(A, &look("a"));
    b.open(B, &look("b"));
    let close = |b: &Bench, id| b.spot(id, 300 - 15, -10);
    let (x, y) = close(&b, B);
    assert!(b.click(x, y).contains(&HostEvent::Close { window: B }));
    // One that is let go elsewhere does nothing.
    b.motion(x, y);
    b.press(true);
    b.motion(x, y + 100.0);
    assert!(!b.press(false).contains(&HostEvent::Close { window: B }));
    let (x, y) = b.spot(B, 300 - 75, -10);
    let events = b.click(x, y);
    assert!(events.contains(&HostEvent::Visible { window: B, visible: false, shown: false }), "{events:?}");
    assert_eq!(focus(&events), [Some(A)], "the next one has the keyboard");
    // Its entry in the panel is the second.
    let entries = b.desk.stack.entries();
    assert_eq!(entries.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [A, B]);
    let at = entries[1].1;
    let events = b.click(f64::from(at.x + 5), f64::from(at.y + 5));
    assert!(events.contains(&HostEvent::Visible { window: B, visible: true, shown: true }));
    assert_eq!(focus(&events), [Some(B)]);
    // The last button, and the close button of the one window, put all apart.
    let at = b.desk.stack.apart().unwrap();
    b.click(f64::from(at.x + 5), f64::from(at.y + 5));
    assert_eq!((b.desk.wants_apart(), b.desk.wants_apart()), (true, false));
    b.host(HostEvent::Close { window: WINDOW });
    assert!(b.desk.wants_apart());
}

#[test]
fn the_windows_own_key_is_kept_and_all_others_pass() {
    const RIGHT_CTRL: u32 = 97;
    let mut b = Bench::new();
    b.open(A, &look("a"));
    b.open(B, &look("b"));
    assert_eq!(b.key(31, true).len(), 1, "an s for the app");
    b.key(31, false);
    assert_eq!(b.key(RIGHT_CTRL, true), []);
    assert_eq!(focus(&b.key(15, true)), [Some(A)], "Tab: the next window");
    assert_eq!(b.key(15, false), []);
    assert_eq!(b.key(31, true), []);
    assert_eq!((b.key(31, false), b.key(RIGHT_CTRL, false)), (vec![], vec![]));
    assert!(b.desk.wants_apart());
}

#[test]
fn menus_lie_in_their_window_and_a_click_elsewhere_is_told() {
    let mut b = Bench::new();
    b.open(A, &look("a"));
    b.open(B, &look("b"));
    let menu = PopupLook { parent: B, area: Rect::new(20, 190, 100, 60), kind: PopupKind::Menu };
    b.desk.open_popup(MENU, menu, &b.renderer).unwrap();
    b.desk.watch_clicks(Some(B));
    assert_eq!(b.area(MENU), Rect::new(b.area(B).x + 20, b.area(B).y + 190, 100, 60));
    let (x, y) = b.spot(MENU, 4, 50);
    let events = b.motion(x, y);
    assert_eq!(events, [HostEvent::Input(InputEvent::PointerEnter { surface: MENU, x: 4.0, y: 50.0 })]);
    let outside = |events: &[HostEvent]| {
        let outside = |event: &HostEvent| match event {
            HostEvent::ClickOutside { window } => Some(*window),
            _ => None,
        };
        events.iter().filter_map(outside).collect::<Vec<_>>()
    };
    assert_eq!(outside(&b.click(x, y)), []);
    let (x, y) = b.spot(B, 4, 4);
    assert_eq!(outside(&b.click(x, y)), [Some(B)], "its app decides");
    let (x, y) = b.spot(A, 2, 2);
    assert_eq!(outside(&b.click(x, y)), [Some(A)]);
    assert_eq!(outside(&b.click(1600.0, 800.0)), [None]);
}

#[test]
fn a_modal_child_is_above_and_has_the_keyboard_of_its_parent() {
    let mut b = Bench::new();
    b.open(A, &look("a"));
    let child = Look { parent: Some(A), modal: true, kind: WindowKind::Dialog, ..look("child") };
    b.open(B, &child);
    let middle = |area: Rect| (area.x + area.width.cast_signed() / 2, area.y + area.height.cast_signed() / 2);
    let (a, c) = (middle(b.area(A)), middle(b.area(B)));
    assert!((a.0 - c.0).abs() <= 1 && (a.1 - c.1).abs() <= TITLE_HEIGHT, "over its parent: {a:?} {c:?}");
    let other = SurfaceId(20);
    b.open(other, &look("other"));
    let (x, y) = b.spot(A, 2, 150);
    let events = b.click(x, y);
    assert_eq!(focus(&events), [Some(B)]);
    let order: Vec<_> = b.desk.stack.toplevels.iter().map(|toplevel| toplevel.id).collect();
    assert_eq!(order, [other, A, B]);
}

#[test]
fn frames_go_on_with_those_of_the_one_window_and_places_are_remembered() {
    let mut b = Bench::new();
    b.open(A, &look("a"));
    b.turn();
    assert!(b.desk.end_frame(A, Ended::Presented), "the next one waits");
    assert!(b.turn().contains(&HostEvent::Ready { window: A }));
    b.host(HostEvent::Visible { window: WINDOW, visible: false, shown: false });
    assert!(b.desk.end_frame(A, Ended::Unchanged));
    assert!(!b.turn().contains(&HostEvent::Ready { window: A }), "nobody looks");
    let (x, y) = b.spot(A, 20, -10);
    b.motion(x, y);
    b.press(true);
    b.motion(x + 300.0, y + 200.0);
    b.press(false);
    let moved = b.area(A);
    b.desk.close(A);
    b.desk.put_apart();
    assert!(!b.desk.is_on());
    assert!(b.desk.dispatch().unwrap().contains(&HostEvent::Outputs));
    b.desk.put_together(false);
    let put =
        |x, y, look: Look| Look { place: Some(Placed { at: Point::new(x, y), by_user: false }), ..look };
    b.open(A, &put(700, 300, look("a")));
    assert_eq!(b.area(A), moved, "not where its app had it at first");
    b.open(B, &put(312, 207, look("b")));
    let Rect { x, y, .. } = b.area(B);
    assert_eq!((x, y), (312, 207));
    b.open(C, &put(-9000, -9000, look("c")));
    let Rect { x, y, .. } = b.area(C);
    assert!(x == 0 && (1..100).contains(&y), "its title is in the room: {x},{y}");
}

#[test]
fn an_app_moves_its_window_only_where_it_is_pressed() {
    let mut b = Bench::new();
    b.open(A, &Look { decoration: Decoration::ClientSide, ..look("a") });
    let before = b.area(A);
    b.desk.act(A, Act::Move);
    b.motion(500.0, 500.0);
    assert_eq!(b.area(A), before);
    let (x, y) = b.spot(A, 20, 10);
    b.motion(x, y);
    b.press(true);
    b.desk.act(A, Act::Move);
    assert!(b.desk.events.contains(&HostEvent::Input(InputEvent::PointerLeave)), "the button is up for it");
    b.motion(x + 30.0, y + 20.0);
    b.press(false);
    assert_eq!(b.area(A), before.translated(Point::new(30, 20)));
    b.press(true);
    b.desk.act(A, Act::Resize(Edges::RIGHT));
    b.motion(x + 130.0, y + 20.0);
    b.press(false);
    assert_eq!(b.area(A).width, 400);
}

#[test]
fn a_smaller_room_keeps_every_title_in_it() {
    let mut b = Bench::new();
    b.open(A, &look("a"));
    b.desk.move_to(A, Rect::new(1200, 700, 300, 200));
    b.open(B, &look("b"));
    b.desk.act(B, Act::Maximize);
    let size = Size::new(640, 400);
    let events = b.host(HostEvent::Configured { window: WINDOW, size, states: States::default() });
    assert!(events.contains(&HostEvent::Outputs));
    assert_eq!(b.desk.outputs()[0].area, Rect::of_size(size));
    assert_eq!(b.area(B).size(), Size::new(640, 400 - stack::PANEL - stack::TITLE));
    let area = b.area(A);
    assert_eq!((area.x, area.size()), (340, SIZE));
    assert!(area.y >= TITLE_HEIGHT && area.bottom() <= 366, "{area:?}");
    // A new one that is larger than the room is as large as there is room, or as its app has it at least.
    let large = Size::new(700, 500);
    let look = Look { min_size: Size::new(650, 0), ..look("large") };
    b.desk.open_toplevel(MENU, &look, large, States::default(), &b.renderer).unwrap();
    assert_eq!(b.area(MENU), Rect::new(0, TITLE_HEIGHT, 650, 400 - stack::PANEL - stack::TITLE));
}
