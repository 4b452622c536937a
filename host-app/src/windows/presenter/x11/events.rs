//! Input path, hop 1 of 4: the display's events become [`HostEvent`]s.
//!
//! All events that are there are taken at once. Sizes, focus and outputs are told once at the end, with their last value:
//! a window that is dragged larger causes one event, and a focus that moves between two windows of ours is never nowhere.

use std::collections::BTreeSet;

use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::Size;
use inlay_protocol::input::InputEvent;
use inlay_protocol::limits;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask, NotifyDetail, NotifyMode, Visibility};
use x11rb::x11_utils::X11Error;

use super::keyboard;
use super::{HostEvent, Kind, Seen, X11, drag, hints, monitors, pointer, sheets, window};

/// What is told once at the end of a dispatch.
#[derive(Debug, Default)]
struct Late {
    configured: BTreeSet<SurfaceId>,
    seen: BTreeSet<SurfaceId>,
    /// The newest press of a key or button, and in which window.
    user: Option<(xproto::Timestamp, SurfaceId)>,
    focus: bool,
    outputs: bool,
    keyboard: bool,
}

/// Takes all events that are there.
pub fn dispatch(x11: &mut X11) -> anyhow::Result<Vec<HostEvent>> {
    let mut events = std::mem::take(&mut x11.own);
    let mut late = Late::default();
    while let Some(event) = x11.connection.poll_for_event()? {
        let used = matches!(event, Event::XinputButtonPress(_) | Event::KeyPress(_) | Event::KeyRelease(_));
        if used && late.focus && x11.focus.is_some() {
            // A click that gives a window the focus comes after it, for the app as well: a menu that it opens would be
            // closed by a focus that comes later. Keys that are held with it are the ones before this.
            late.focus = false;
            events.push(focused(x11));
        }
        if !x11.drag_event(&event) {
            handle(x11, event, &mut late, &mut events);
        }
    }
    x11.follow_drag();
    for id in late.configured {
        if let Some(window) = x11.windows.get(&id)
            && window.kind == Kind::Toplevel
        {
            let (size, states) = (window.size, window.states);
            events.push(HostEvent::Configured { window: id, size, states });
        }
    }
    x11.find_moved(&mut events);
    x11.keep_awake();
    for id in late.seen {
        if let Some(window) = x11.windows.get(&id) {
            let (visible, shown) = (window.seen.visible(), window.seen.shown());
            events.push(HostEvent::Visible { window: id, visible, shown });
        }
    }
    if late.outputs {
        x11.outputs = monitors::outputs(&x11.connection, x11.root);
        events.push(HostEvent::Outputs);
    }
    if late.keyboard {
        x11.keymap = None;
        events.push(HostEvent::Keyboard);
        x11.keyboard.read_modifiers(&x11.connection);
        events.push(HostEvent::Input(InputEvent::Modifiers(x11.keyboard.modifiers)));
    }
    if let Some((time, id)) = late.user {
        x11.user_time = Some(time);
        note_user(x11, id, time);
    }
    if late.focus {
        events.push(focused(x11));
    }
    x11.dress();
    x11.hold_or_not();
    events.append(&mut x11.own);
    Ok(events)
}

/// Where the focus is, with what is held.
fn focused(x11: &mut X11) -> HostEvent {
    if let Some(id) = x11.focus {
        x11.set_urgent(id, false);
    }
    let keys = x11.keyboard.held.clone();
    HostEvent::Focus { window: x11.focus, keys, modifiers: x11.keyboard.modifiers }
}

/// Notes the user's time at the toplevel of a window.
fn note_user(x11: &X11, mut id: SurfaceId, time: xproto::Timestamp) {
    for _ in 0..limits::TREE_DEPTH {
        match x11.windows.get(&id) {
            Some(window) => match window.kind {
                Kind::Toplevel => return hints::set_user_time(x11, window.xid, time),
                Kind::Popup(look) => id = look.parent,
            },
            None => return,
        }
    }
}

fn handle(x11: &mut X11, event: Event, late: &mut Late, out: &mut Vec<HostEvent>) {
    match event {
        Event::ConfigureNotify(e) => {
            if let Some(id) = x11.by_xid.get(&e.window).copied()
                && let Some(window) = x11.windows.get_mut(&id)
            {
                let before = std::mem::replace(&mut window.size, Size::new(e.width.into(), e.height.into()));
                window.at = None;
                late.configured.insert(id);
                let same = window.size == before;
                x11.resize_came(id, same);
            }
        }
        Event::ReparentNotify(e) => {
            if let Some(window) = x11.by_xid.get(&e.window).and_then(|id| x11.windows.get_mut(id)) {
                window.at = None;
            }
        }
        Event::MapNotify(e) => {
            if let Some(seen) = seen(x11, e.window, late) {
                seen.mapped = true;
            }
            x11.fit_frame(e.window);
        }
        Event::UnmapNotify(e) => {
            // Another workspace, or minimised.
            if let Some(seen) = seen(x11, e.window, late) {
                seen.mapped = false;
            }
        }
        Event::PropertyNotify(e) if e.atom == x11.atoms._NET_WM_STATE => {
            let Some(id) = x11.by_xid.get(&e.window).copied() else { return };
            let (states, hidden) = window::states(x11, e.window);
            if let Some(window) = x11.windows.get_mut(&id)
                && window.states != states
            {
                window.states = states;
                late.configured.insert(id);
            }
            if let Some(seen) = seen(x11, e.window, late) {
                seen.hidden = hidden;
            }
        }
        Event::PropertyNotify(e) if e.atom == x11.atoms._NET_FRAME_EXTENTS => x11.fit_frame(e.window),
        Event::VisibilityNotify(e) => {
            if let Some(seen) = seen(x11, e.window, late) {
                seen.obscured = e.state == Visibility::FULLY_OBSCURED;
            }
        }
        Event::Expose(e) if e.count == 0 => exposed(x11, x11.by_xid.get_key_value(&e.window), out),
        Event::ShmCompletion(e) => x11.pictures.done(e.shmseg),
        Event::XfixesSelectionNotify(e) if e.selection == x11.manager => {
            blends(x11, e.owner != x11rb::NONE, out)
        }
        Event::DestroyNotify(e) => {
            // Not by us: then it would be forgotten already.
            if let Some(id) = x11.by_xid.remove(&e.window) {
                x11.windows.remove(&id);
                out.push(HostEvent::Destroyed { window: id });
            }
        }
        Event::ClientMessage(e) => message(x11, e, out),
        Event::FocusIn(e) => {
            if focus_counts(e.detail)
                && let Some(id) = x11.by_xid.get(&e.event)
            {
                late.focus |= e.mode != NotifyMode::GRAB;
                if e.mode != NotifyMode::GRAB {
                    x11.focus = Some(*id);
                }
            }
        }
        Event::FocusOut(e) => {
            let real = matches!(e.mode, NotifyMode::NORMAL | NotifyMode::WHILE_GRABBED);
            if real && focus_counts(e.detail) && x11.by_xid.get(&e.event) == x11.focus.as_ref() {
                x11.focus = None;
                late.focus = true;
            }
        }
        Event::KeymapNotify(e) => x11.keyboard.held = keyboard::held(&e),
        Event::KeyPress(e) => {
            late.user = x11.by_xid.get(&e.event).map(|id| (e.time, *id)).or(late.user);
            out.push(key(&e, true));
        }
        Event::KeyRelease(e) => out.push(key(&e, false)),
        Event::XkbStateNotify(e) => {
            x11.keyboard.modifiers = keyboard::modifiers_of(&e);
            out.push(HostEvent::Input(InputEvent::Modifiers(x11.keyboard.modifiers)));
        }
        Event::XkbMapNotify(_) | Event::XkbNewKeyboardNotify(_) => late.keyboard = true,
        Event::RandrScreenChangeNotify(_) => late.outputs = true,
        Event::PropertyNotify(e) if e.window == x11.root => {
            // Where the display's scale is.
            late.outputs |= e.atom == u32::from(xproto::AtomEnum::RESOURCE_MANAGER);
        }
        Event::Error(e) if sheets::is_refusal(&e) => refused(x11, &e, out),
        Event::Error(e) => tracing::debug!("X error: {e:?}"),
        other => {
            if let Event::XinputButtonPress(e) = &other {
                late.user = x11.by_xid.get(&e.event).map(|id| (e.time, *id)).or(late.user);
            }
            pointer::handle(x11, &other, out);
        }
    }
}

/// What is known of whether a window can be seen; it is told with the end of the dispatch.
fn seen<'a>(x11: &'a mut X11, xid: xproto::Window, late: &mut Late) -> Option<&'a mut Seen> {
    let id = x11.by_xid.get(&xid)?;
    late.seen.insert(*id);
    Some(&mut x11.windows.get_mut(id)?.seen)
}

fn focus_counts(detail: NotifyDetail) -> bool {
    !matches!(
        detail,
        NotifyDetail::INFERIOR | NotifyDetail::POINTER | NotifyDetail::POINTER_ROOT | NotifyDetail::NONE
    )
}

/// A compositing manager came or went.
fn blends(x11: &X11, blends: bool, out: &mut Vec<HostEvent>) {
    x11.pictures.blends(blends);
    exposed(x11, &x11.by_xid, out);
}

/// The display forgot what these windows show.
fn exposed<'a>(
    x11: &X11,
    windows: impl IntoIterator<Item = (&'a xproto::Window, &'a SurfaceId)>,
    out: &mut Vec<HostEvent>,
) {
    for (xid, id) in windows {
        x11.pictures.exposed(*xid);
        out.push(HostEvent::Exposed { window: *id });
    }
}

/// The display did not take memory for a window, and does not show what was drawn there.
fn refused(x11: &X11, error: &X11Error, out: &mut Vec<HostEvent>) {
    tracing::warn!(
        "the display takes no memory for windows any more ({:?}): pixels are sent",
        error.error_kind
    );
    x11.pictures.refused();
    out.extend(x11.windows.keys().map(|id| HostEvent::Exposed { window: *id }));
}

fn message(x11: &mut X11, event: xproto::ClientMessageEvent, out: &mut Vec<HostEvent>) {
    if event.format != 32 || drag::message(x11, &event, out) || event.type_ != x11.atoms.WM_PROTOCOLS {
        return;
    }
    let [protocol, _, low, high, _] = event.data.as_data32();
    if protocol == x11.atoms._NET_WM_SYNC_REQUEST {
        let window = x11.by_xid.get(&event.window).and_then(|id| x11.windows.get_mut(id));
        if let Some(resize) = window.and_then(|window| window.resize.as_mut()) {
            resize.ask(low, high);
        }
    } else if protocol == x11.atoms.WM_DELETE_WINDOW {
        if let Some(id) = x11.by_xid.get(&event.window) {
            out.push(HostEvent::Close { window: *id });
        }
    } else if protocol == x11.atoms._NET_WM_PING {
        let answer = xproto::ClientMessageEvent { window: x11.root, ..event };
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        x11.sent(x11.connection.send_event(false, x11.root, mask, answer));
    }
}

fn key(event: &xproto::KeyPressEvent, pressed: bool) -> HostEvent {
    // X keycodes are evdev codes plus 8.
    let key = u32::from(event.detail).saturating_sub(8);
    HostEvent::Input(InputEvent::Key { time_ms: event.time.into(), key, pressed })
}
