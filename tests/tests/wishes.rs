//! What apps wish for beside their content, from an app of the guest to a Wayland desktop (a scripted one): the focus, icons, a
//! screen that stays on, pixels at the monitor's scale.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::compositor::{Asked, CursorPixels, Desktop, FIRST, Held, Kind, LEFT, Offers};
use common::scripted::{Agent, RED, Screen};
use common::{Local, Xvfb, eventually};
use inlay::windows::api;
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Point, Size};
use inlay_protocol::input::InputEvent;
use smithay::input::pointer::{CursorIcon, CursorImageStatus};
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::protocol::wl_shm::{self, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::WpContentTypeManagerV1;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_v1::{Type, WpContentTypeV1};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::{
    self, WpFractionalScaleV1,
};
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1;
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibitor_v1::ZwpIdleInhibitorV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibitor_v1::{
    self, ZwpKeyboardShortcutsInhibitorV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_confined_pointer_v1::{
    self, ZwpConfinedPointerV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_locked_pointer_v1::{
    self, ZwpLockedPointerV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1::{
    Lifetime, ZwpPointerConstraintsV1,
};
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::{
    self, ZwpRelativePointerV1,
};
use wayland_protocols::xdg::activation::v1::client::xdg_activation_token_v1::{self, XdgActivationTokenV1};
use wayland_protocols::xdg::activation::v1::client::xdg_activation_v1::XdgActivationV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_dialog_v1::XdgDialogV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_wm_dialog_v1::XdgWmDialogV1;
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

/// An app of the guest, step by step.
struct App {
    queue: EventQueue<Seen>,
    seen: Seen,
    globals: wayland_client::globals::GlobalList,
    seat: WlSeat,
    pointer: WlPointer,
    surface: WlSurface,
    toplevel: XdgToplevel,
}

/// What it was told.
#[derive(Default)]
struct Seen {
    configured: bool,
    /// The serial of the newest press.
    press: Option<u32>,
    token: Option<String>,
    /// Whether it has the desktop's shortcuts.
    shortcuts: Option<bool>,
    /// Whether it has the pointer held.
    held: Option<bool>,
    /// Where the pointer is.
    at: (f64, f64),
    /// How far it was moved in all, and the device.
    moved: (f64, f64),
    device: (f64, f64),
    /// The scale to draw at times 120, and rounded up.
    scale: Option<u32>,
    whole: Option<u32>,
}

impl App {
    /// Opens a window of 200x100.
    fn open(local: &Local, title: &str) -> Self {
        let connection = Connection::from_socket(UnixStream::connect(local.wayland()).unwrap()).unwrap();
        let (globals, mut queue) = registry_queue_init::<Seen>(&connection).unwrap();
        let handle = queue.handle();
        let compositor: WlCompositor = globals.bind(&handle, 4..=6, ()).unwrap();
        let wm_base: XdgWmBase = globals.bind(&handle, 1..=3, ()).unwrap();
        let shm: WlShm = globals.bind(&handle, 1..=1, ()).unwrap();
        let seat: WlSeat = globals.bind(&handle, 1..=7, ()).unwrap();
        let pointer = seat.get_pointer(&handle, ());
        seat.get_keyboard(&handle, ());
        let surface = compositor.create_surface(&handle, ());
        let xdg = wm_base.get_xdg_surface(&surface, &handle, ());
        let toplevel = xdg.get_toplevel(&handle, ());
        toplevel.set_title(title.to_owned());
        surface.commit();
        let mut seen = Seen::default();
        while !seen.configured {
            queue.blocking_dispatch(&mut seen).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&RED.repeat(200 * 100)).unwrap();
        let pool = shm.create_pool(file.as_fd(), 200 * 100 * 4, &handle, ());
        let buffer = pool.create_buffer(0, 200, 100, 800, wl_shm::Format::Argb8888, &handle, ());
        surface.attach(Some(&buffer), 0, 0);
        surface.commit();
        queue.roundtrip(&mut seen).unwrap();
        local.window(title);
        Self { queue, seen, globals, seat, pointer, surface, toplevel }
    }

    fn roundtrip(&mut self) {
        self.queue.roundtrip(&mut self.seen).unwrap();
    }

    /// A token for a window, with the serial of a press or none.
    fn token(&mut self, serial: Option<u32>) -> (XdgActivationV1, String) {
        let handle = self.queue.handle();
        let activation: XdgActivationV1 = self.globals.bind(&handle, 1..=1, ()).unwrap();
        let token = activation.get_activation_token(&handle, ());
        if let Some(serial) = serial {
            token.set_serial(serial, &self.seat);
        }
        token.commit();
        self.seen.token = None;
        self.roundtrip();
        (activation, self.seen.token.take().expect("a token"))
    }
}

fn asked(desktop: &Desktop) -> Asked {
    eventually("a request", || desktop.with(|desk| (!desk.asked.is_empty()).then(|| desk.asked.remove(0))))
}

fn local(desktop: &Desktop) -> Local {
    Local::start_on(&["sleep", "600"], Screen::Wayland(&desktop.socket()))
}

#[test]
fn an_app_gets_the_focus_for_what_the_user_did_and_else_attention() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let mut first = App::open(&local, "first");
    let mut second = App::open(&local, "second");
    // A click into the first window, on whose account it has the second one raised.
    desktop.with(|desk| {
        desk.point(FIRST.0 + 50, FIRST.1 + 50);
        desk.click(LEFT);
    });
    let serial = eventually("the click", || {
        first.roundtrip();
        first.seen.press
    });
    let (_, token) = first.token(Some(serial));
    let (activation, other) = second.token(None);
    activation.activate(token, &second.surface);
    second.roundtrip();
    assert_eq!(asked(&desktop), Asked::Focus);
    // A token that nobody earned.
    activation.activate(other, &second.surface);
    second.roundtrip();
    assert_eq!(asked(&desktop), Asked::Attention);
    // One that does not exist.
    activation.activate("nonsense".to_owned(), &second.surface);
    second.roundtrip();
    assert!(desktop.with(|desk| desk.asked.is_empty()));
}

#[test]
fn the_launchers_token_goes_to_the_window_that_the_user_waits_for() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let before = App::open(&local, "before");
    let token = desktop.with(|desk| desk.launch());
    api::ask(&local.api(), &api::ApiRequest::Launched(Some(token))).unwrap();
    assert!(desktop.with(|desk| desk.asked.is_empty()));
    let _after = App::open(&local, "after");
    assert_eq!(asked(&desktop), Asked::Launched);
    let _third = App::open(&local, "third");
    assert!(desktop.with(|desk| desk.asked.is_empty()));
    drop(before);
}

#[test]
fn the_screen_stays_on_as_long_as_an_app_wants() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let mut app = App::open(&local, "video");
    let handle = app.queue.handle();
    let manager: ZwpIdleInhibitManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let inhibitor = manager.create_inhibitor(&app.surface, &handle, ());
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Awake(true));
    inhibitor.destroy();
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Awake(false));
    // It ends with its app.
    let _inhibitor = manager.create_inhibitor(&app.surface, &handle, ());
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Awake(true));
    drop(app);
    eventually("no window", || desktop.with(|desk| desk.windows().is_empty()).then_some(()));
}

#[test]
fn the_desktops_shortcuts_are_an_apps_when_the_desktop_leaves_them() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let mut app = App::open(&local, "remote");
    let handle = app.queue.handle();
    let manager: ZwpKeyboardShortcutsInhibitManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let inhibitor = manager.inhibit_shortcuts(&app.surface, &app.seat, &handle, ());
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Shortcuts(true));
    assert_eq!(app.seen.shortcuts, None, "the desktop has not said");
    for leave in [true, false, true] {
        desktop.with(move |desk| desk.leave_shortcuts(leave));
        eventually("the desktop's answer", || {
            app.roundtrip();
            (app.seen.shortcuts == Some(leave)).then_some(())
        });
    }
    inhibitor.destroy();
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Shortcuts(false));
}

#[test]
fn the_desktop_knows_dialogs_and_films() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let mut app = App::open(&local, "film");
    let handle = app.queue.handle();
    let content: WpContentTypeManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let content = content.get_surface_content_type(&app.surface, &handle, ());
    for (told, kind) in [(Type::Video, Kind::Video), (Type::Game, Kind::Game), (Type::None, Kind::None)] {
        content.set_content_type(told);
        app.surface.commit();
        app.roundtrip();
        eventually("what it shows", || (desktop.with(|desk| desk.kind(0)) == kind).then_some(()));
    }
    let dialogs: XdgWmDialogV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let dialog = dialogs.get_xdg_dialog(&app.toplevel, &handle, ());
    dialog.set_modal();
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Modal(true));
    dialog.unset_modal();
    app.roundtrip();
    assert_eq!(asked(&desktop), Asked::Modal(false));
}

#[test]
fn a_game_locks_the_pointer_and_hears_how_far_it_is_moved() {
    let desktop = Desktop::start(Offers::default());
    let local = local(&desktop);
    let mut app = App::open(&local, "game");
    let handle = app.queue.handle();
    let constraints: ZwpPointerConstraintsV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let manager: ZwpRelativePointerManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    manager.get_relative_pointer(&app.pointer, &handle, ());
    let locked =
        constraints.lock_pointer(&app.surface, &app.pointer, None, Lifetime::Persistent, &handle, ());
    app.roundtrip();
    assert_eq!(desktop.with(|desk| desk.held()), None, "the pointer is elsewhere");
    let on_screen = |desk: &mut common::compositor::Desk| {
        let (x, y) = (FIRST.0.unsigned_abs() + 50, FIRST.1.unsigned_abs() + 40);
        desk.picture().get_pixel(x, y).0 == [RED[2], RED[1], RED[0]]
    };
    eventually("the window on the screen", || desktop.with(on_screen).then_some(()));

    desktop.with(|desk| desk.point(FIRST.0 + 50, FIRST.1 + 40));
    eventually("a locked pointer", || {
        app.roundtrip();
        (app.seen.held == Some(true) && desktop.with(|desk| desk.held()) == Some(Held::Locked)).then_some(())
    });
    let before = app.seen.at;
    for _ in 0..3 {
        desktop.with(|desk| desk.push(500, -20));
    }
    eventually("the movement", || {
        app.roundtrip();
        (app.seen.moved == (1500.0, -60.0) && app.seen.device == (750.0, -30.0)).then_some(())
    });
    assert_eq!(app.seen.at, before, "it has not moved");

    // The user takes it back, by the desktop.
    desktop.with(|desk| desk.let_go());
    eventually("a free pointer", || {
        app.roundtrip();
        (app.seen.held == Some(false)).then_some(())
    });
    locked.destroy();
    app.roundtrip();
    desktop.with(|desk| desk.push(5, 5));
    eventually("its new place", || {
        app.roundtrip();
        (app.seen.at == (55.0, 45.0)).then_some(())
    });
    // Nothing more is told than the place.
    assert_eq!(app.seen.moved, (1500.0, -60.0));

    let confined =
        constraints.confine_pointer(&app.surface, &app.pointer, None, Lifetime::Oneshot, &handle, ());
    eventually("a confined pointer", || {
        app.roundtrip();
        (app.seen.held == Some(true) && desktop.with(|desk| desk.held()) == Some(Held::Confined))
            .then_some(())
    });
    confined.destroy();
    app.roundtrip();
    eventually("a free pointer", || desktop.with(|desk| desk.held().is_none()).then_some(()));
}

/// The same on an X11 desktop, where a grab of the pointer and the motion of devices are what there is.
#[test]
fn a_game_locks_the_pointer_on_x11() {
    let xvfb = Xvfb::start();
    let local = Local::start(&["sleep", "600"], Some(&xvfb.display));
    let mut app = App::open(&local, "game");
    let handle = app.queue.handle();
    let constraints: ZwpPointerConstraintsV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    let manager: ZwpRelativePointerManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    manager.get_relative_pointer(&app.pointer, &handle, ());
    let window = xvfb.find("game");
    xvfb.click(&window);
    let area = xvfb.area(&window);
    let place = || {
        let text = xvfb.xdotool(&["getmouselocation", "--shell"]);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{text}")).parse::<i32>().unwrap()
        };
        (field("X=") - area.x, field("Y=") - area.y)
    };
    assert_eq!(place(), (50, 50));
    let locked =
        constraints.lock_pointer(&app.surface, &app.pointer, None, Lifetime::Persistent, &handle, ());
    eventually("a locked pointer", || {
        app.roundtrip();
        (app.seen.held == Some(true)).then_some(())
    });
    for _ in 0..3 {
        xvfb.xdotool(&["mousemove_relative", "--", "300", "-20"]);
    }
    eventually("the movement", || {
        app.roundtrip();
        (app.seen.device == (900.0, -60.0)).then_some(())
    });
    assert_eq!((place(), app.seen.at), ((50, 50), (50.0, 50.0)), "it has not moved");
    app.seen.press = None;
    xvfb.xdotool(&["click", "1"]);
    eventually("a press", || {
        app.roundtrip();
        app.seen.press
    });

    // Another window takes the keyboard, as the window manager's shortcuts do: the pointer is free.
    let other = Local::start(&["sleep", "600"], Some(&xvfb.display));
    let _other = App::open(&other, "other");
    let elsewhere = xvfb.find("other");
    xvfb.xdotool(&["windowactivate", &elsewhere]);
    eventually("a free pointer", || {
        app.roundtrip();
        (app.seen.held == Some(false)).then_some(())
    });
    xvfb.xdotool(&["windowactivate", &window]);
    eventually("a locked pointer again", || {
        app.roundtrip();
        (app.seen.held == Some(true)).then_some(())
    });
    locked.destroy();
    app.roundtrip();
    eventually("a pointer that moves", || {
        xvfb.xdotool(&["mousemove_relative", "--", "5", "0"]);
        (place().0 > 60).then_some(())
    });

    app.seen.held = None;
    xvfb.xdotool(&["mousemove", "--window", &window, "50", "50"]);
    let confined =
        constraints.confine_pointer(&app.surface, &app.pointer, None, Lifetime::Persistent, &handle, ());
    eventually("a confined pointer", || {
        app.roundtrip();
        (app.seen.held == Some(true)).then_some(())
    });
    xvfb.xdotool(&["mousemove_relative", "--", "2000", "-2000"]);
    eventually("the corner", || (place() == (199, 0)).then_some(()));
    confined.destroy();
    app.roundtrip();
    eventually("a free pointer", || {
        xvfb.xdotool(&["mousemove_relative", "--", "50", "0"]);
        (place().0 > 220).then_some(())
    });
}

#[test]
fn the_pointers_image_is_the_desktops_where_it_has_a_name_and_the_apps_where_not() {
    for cursor_shapes in [true, false] {
        let desktop = Desktop::start(Offers { scale_120: 240, cursor_shapes, ..Offers::default() });
        let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
        agent.toplevel(1, "a window", |_| {});
        agent.until("a configure", |e| matches!(e, Event::ConfigureToplevel { .. }).then_some(()));
        agent.paint(1, Size::new(300, 200), RED);
        eventually("the pointer in the window", || {
            desktop.with(|desk| desk.point(FIRST.0 + 50, FIRST.1 + 50));
            agent.listen(Duration::from_millis(50));
            let entered = |e: &Event| matches!(e, Event::Input(InputEvent::PointerEnter { .. }));
            (agent.has(entered) > 0).then_some(())
        });

        agent.send(&Request::Cursor(Cursor::Named("text".to_owned())));
        eventually("the image of text", || {
            let by_name =
                desktop.with(|desk| matches!(&desk.cursor, CursorImageStatus::Named(CursorIcon::Text)));
            // The theme has a size for this scale, or none is installed but one of half the pixels.
            let by_theme = desktop.with(|desk| desk.cursor_pixels().is_some_and(|pixels| pixels.scale <= 2));
            (if cursor_shapes { by_name } else { by_theme }).then_some(())
        });
        // The app's own has the pixels of the monitor, and points where it says.
        agent.send(&Request::Cursor(Cursor::Surface { surface: SurfaceId(2), hotspot: Point::new(5, 7) }));
        let pixels = RED.repeat(48 * 48);
        agent.show(2, Size::new(48, 48), &pixels, |commit| {
            (commit.size, commit.scale) = (Size::new(24, 24), 2)
        });
        eventually("the app's image", || {
            let drawn = CursorPixels { size: (48, 48), scale: 2, hotspot: (5, 7) };
            (desktop.with(|desk| desk.cursor_pixels()) == Some(drawn)).then_some(())
        });
        agent.send(&Request::Cursor(Cursor::Hidden));
        eventually("no image", || {
            desktop.with(|desk| desk.cursor == CursorImageStatus::Hidden).then_some(())
        });
    }
}

#[test]
fn icons_are_the_apps_own() {
    let desktop = Desktop::start(Offers::default());
    let mut agent = Agent::start(Screen::Wayland(&desktop.socket()));
    agent.toplevel(1, "a window", |_| {});
    agent.until("a configure", |e| matches!(e, Event::ConfigureToplevel { .. }).then_some(()));
    agent.paint(1, Size::new(300, 200), RED);
    let icon = |width: u32, height: u32| {
        let size = Size::new(width, height);
        Icon { size, pixels: (0..4 * width * height).map(|n| u8::try_from(n % 251).unwrap()).collect() }
    };
    // One that is not square is none to a desktop.
    for (icons, want) in [
        (vec![icon(16, 16), icon(30, 20), icon(48, 48)], (vec![16, 48], icon(16, 16).pixels)),
        (vec![icon(48, 48)], (vec![48], icon(48, 48).pixels)),
        (vec![icon(16, 16)], (vec![16], icon(16, 16).pixels)),
        (Vec::new(), (Vec::new(), Vec::new())),
    ] {
        agent.send(&Request::Icons { surface: SurfaceId(1), icons });
        eventually("icons", || (desktop.with(|desk| desk.icons.clone()) == want).then_some(()));
    }
    agent.send(&Request::RoleGone { surface: SurfaceId(1) });
    eventually("no window", || desktop.with(|desk| desk.windows().is_empty()).then_some(()));
    // The desktop has not thrown the windows out for it.
    agent.toplevel(2, "another", |_| {});
    eventually("another window", || desktop.with(|desk| desk.windows().len() == 1).then_some(()));
}

#[test]
fn apps_draw_at_the_scale_of_the_monitor_that_they_are_on() {
    let desktop = Desktop::start(Offers { scale_120: 150, ..Offers::default() });
    let local = local(&desktop);
    let mut app = App::open(&local, "crisp");
    let handle = app.queue.handle();
    let manager: WpFractionalScaleManagerV1 = app.globals.bind(&handle, 1..=1, ()).unwrap();
    manager.get_fractional_scale(&app.surface, &handle, ());
    for scale in [150, 240, 180, 120] {
        desktop.with(move |desk| desk.rescale(scale));
        eventually(&format!("a scale of {scale}"), || {
            app.roundtrip();
            (app.seen.scale == Some(scale) && app.seen.whole == Some(scale.div_ceil(120))).then_some(())
        });
        // What is on the screen has the screen's pixels.
        eventually(&format!("content at {scale}"), || {
            desktop.with(move |desk| desk.densities().contains(&scale)).then_some(())
        });
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Seen {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

impl Dispatch<ZwpKeyboardShortcutsInhibitorV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &ZwpKeyboardShortcutsInhibitorV1,
        event: zwp_keyboard_shortcuts_inhibitor_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        seen.shortcuts = Some(matches!(event, zwp_keyboard_shortcuts_inhibitor_v1::Event::Active));
    }
}

impl Dispatch<XdgWmBase, ()> for Seen {
    fn event(
        _: &mut Self,
        wm_base: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            wm_base.pong(serial);
        }
    }
}

impl Dispatch<XdgSurface, ()> for Seen {
    fn event(
        seen: &mut Self,
        xdg: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            xdg.ack_configure(serial);
            seen.configured = true;
        }
    }
}

impl Dispatch<WpFractionalScaleV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &WpFractionalScaleV1,
        event: wp_fractional_scale_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wp_fractional_scale_v1::Event::PreferredScale { scale } = event {
            seen.scale = Some(scale);
        }
    }
}

impl Dispatch<WlSurface, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &WlSurface,
        event: wl_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_surface::Event::PreferredBufferScale { factor } = event {
            seen.whole = Some(factor.unsigned_abs());
        }
    }
}

impl Dispatch<WlPointer, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_pointer::Event::Button { serial, .. } => seen.press = Some(serial),
            wl_pointer::Event::Enter { surface_x: x, surface_y: y, .. }
            | wl_pointer::Event::Motion { surface_x: x, surface_y: y, .. } => seen.at = (x, y),
            _ => {}
        }
    }
}

impl Dispatch<ZwpLockedPointerV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &ZwpLockedPointerV1,
        event: zwp_locked_pointer_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        seen.held = Some(matches!(event, zwp_locked_pointer_v1::Event::Locked));
    }
}

impl Dispatch<ZwpConfinedPointerV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &ZwpConfinedPointerV1,
        event: zwp_confined_pointer_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        seen.held = Some(matches!(event, zwp_confined_pointer_v1::Event::Confined));
    }
}

impl Dispatch<ZwpRelativePointerV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &ZwpRelativePointerV1,
        event: zwp_relative_pointer_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let zwp_relative_pointer_v1::Event::RelativeMotion { dx, dy, dx_unaccel, dy_unaccel, .. } = event {
            seen.moved = (seen.moved.0 + dx, seen.moved.1 + dy);
            seen.device = (seen.device.0 + dx_unaccel, seen.device.1 + dy_unaccel);
        }
    }
}

impl Dispatch<WlKeyboard, ()> for Seen {
    fn event(
        _: &mut Self,
        _: &WlKeyboard,
        _: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

impl Dispatch<WlSeat, ()> for Seen {
    fn event(_: &mut Self, _: &WlSeat, _: wl_seat::Event, (): &(), _: &Connection, _: &QueueHandle<Self>) {}
}

impl Dispatch<XdgActivationTokenV1, ()> for Seen {
    fn event(
        seen: &mut Self,
        _: &XdgActivationTokenV1,
        event: xdg_activation_token_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_activation_token_v1::Event::Done { token } = event {
            seen.token = Some(token);
        }
    }
}

delegate_noop!(Seen: ZwpKeyboardShortcutsInhibitManagerV1);
delegate_noop!(Seen: WpContentTypeManagerV1);
delegate_noop!(Seen: WpContentTypeV1);
delegate_noop!(Seen: XdgWmDialogV1);
delegate_noop!(Seen: XdgDialogV1);
delegate_noop!(Seen: WlCompositor);
delegate_noop!(Seen: WlShmPool);
delegate_noop!(Seen: XdgActivationV1);
delegate_noop!(Seen: ZwpIdleInhibitManagerV1);
delegate_noop!(Seen: ZwpIdleInhibitorV1);
delegate_noop!(Seen: ZwpPointerConstraintsV1);
delegate_noop!(Seen: ZwpRelativePointerManagerV1);
delegate_noop!(Seen: ignore WlBuffer);
delegate_noop!(Seen: ignore WlShm);
delegate_noop!(Seen: WpFractionalScaleManagerV1);
delegate_noop!(Seen: ignore XdgToplevel);
