//! Properties of windows: ICCCM 4.1.2, EWMH 1.5, and their outline (SHAPE 1.1).

use inlay_protocol::display::{Decoration, Icon, Placed, PopupKind, WindowKind};
use inlay_protocol::geometry::{Rect, Size};
use x11rb::properties::{AspectRatio, WmHints, WmHintsState, WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::shape::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, AtomEnum, ClipOrdering, ConnectionExt as _, PropMode};
use x11rb::wrapper::ConnectionExt as _;

use super::{Atoms, Look, PopupLook, X11};

/// Sets the properties of a toplevel that differ from those before; all of them when there were none.
pub fn describe(x11: &X11, xid: xproto::Window, look: &Look, before: Option<&Look>) -> anyhow::Result<()> {
    let c = &x11.connection;
    let a = &x11.atoms;
    let text = |property: u32, kind: u32, bytes: &[u8]| {
        c.change_property8(PropMode::REPLACE, xid, property, kind, bytes)
    };
    let words = |property: u32, kind: u32, values: &[u32]| {
        c.change_property32(PropMode::REPLACE, xid, property, kind, values)
    };
    if before.is_none() {
        let host = rustix::system::uname();
        text(a.WM_CLIENT_MACHINE, AtomEnum::STRING.into(), host.nodename().to_bytes())?;
        let mut protocols = vec![a.WM_DELETE_WINDOW, a._NET_WM_PING];
        protocols.extend(x11.has_counters.then_some(a._NET_WM_SYNC_REQUEST));
        words(a.WM_PROTOCOLS, AtomEnum::ATOM.into(), &protocols)?;
        words(a._NET_WM_PID, AtomEnum::CARDINAL.into(), &[std::process::id()])?;
    }
    if before.is_none_or(|b| b.title != look.title) {
        text(a._NET_WM_NAME, a.UTF8_STRING, look.title.as_bytes())?;
        text(AtomEnum::WM_NAME.into(), a.UTF8_STRING, look.title.as_bytes())?;
    }
    if before.is_none_or(|b| b.class != look.class) {
        let class = format!("{0}\0{0}\0", look.class);
        text(AtomEnum::WM_CLASS.into(), AtomEnum::STRING.into(), class.as_bytes())?;
    }
    if before.is_none_or(|b| b.kind != look.kind) {
        words(a._NET_WM_WINDOW_TYPE, AtomEnum::ATOM.into(), &[window_type(a, look.kind)])?;
    }
    if before.is_none_or(|b| b.parent != look.parent) {
        let transient = AtomEnum::WM_TRANSIENT_FOR.into();
        match look.parent.and_then(|p| x11.windows.get(&p)) {
            Some(parent) => drop(words(transient, AtomEnum::WINDOW.into(), &[parent.xid])?),
            None if before.is_some() => drop(c.delete_property(xid, transient)?),
            None => {}
        }
    }
    if before.is_none_or(|b| b.decoration != look.decoration) {
        // Motif's hints: flags (decorations), functions, decorations, input mode, status.
        let frame = u32::from(look.decoration == Decoration::ServerSide);
        words(a._MOTIF_WM_HINTS, a._MOTIF_WM_HINTS, &[2, 0, frame, 0, 0])?;
    }
    let sizes = |l: &Look| [l.min_size, l.max_size, l.base_size, l.increment];
    if before.is_none_or(|b| sizes(b) != sizes(look)) {
        let mut hints = size_hints(look);
        if let Some(Placed { at, by_user }) = look.place.filter(|_| before.is_none()) {
            let user = WmSizeHintsSpecification::UserSpecified;
            let by = if by_user { user } else { WmSizeHintsSpecification::ProgramSpecified };
            // The place is the content's, whatever the frame around it.
            (hints.position, hints.win_gravity) = (Some((by, at.x, at.y)), Some(xproto::Gravity::STATIC));
        }
        hints.set_normal_hints(&**c, xid)?;
    }
    Ok(())
}

/// Sets whether a toplevel takes the keyboard and whether it is urgent.
pub fn set_wm_hints(x11: &X11, xid: xproto::Window, look: &Look, urgent: bool) -> anyhow::Result<()> {
    let state = Some(WmHintsState::Normal);
    let hints = WmHints { input: Some(!look.no_focus), initial_state: state, urgent, ..WmHints::new() };
    hints.set(&*x11.connection, xid)?;
    Ok(())
}

/// Notes when the user last did something in a window: window managers give new ones the focus or not by it.
pub fn set_user_time(x11: &X11, xid: xproto::Window, time: xproto::Timestamp) {
    let property = x11.atoms._NET_WM_USER_TIME;
    let set = x11.connection.change_property32(PropMode::REPLACE, xid, property, AtomEnum::CARDINAL, &[time]);
    x11.sent(set);
}

/// Ends what the launcher shows while an app starts (startup notification): its window is here. The launcher's time is the user's.
pub fn end_startup(x11: &X11, xid: xproto::Window, startup: &str) {
    let c = &x11.connection;
    let (property, text) = (x11.atoms._NET_STARTUP_ID, x11.atoms.UTF8_STRING);
    x11.sent(c.change_property8(PropMode::REPLACE, xid, property, text, startup.as_bytes()));
    if let Some(time) = startup.rsplit_once("_TIME").and_then(|(_, time)| time.parse().ok()) {
        set_user_time(x11, xid, time);
    }
    let quoted = startup.replace('\\', "\\\\").replace('"', "\\\"");
    let mut message = format!("remove: ID=\"{quoted}\"").into_bytes();
    message.push(0);
    let mut kind = x11.atoms._NET_STARTUP_INFO_BEGIN;
    for part in message.chunks(20) {
        let mut data = [0; 20];
        data[..part.len()].copy_from_slice(part);
        let event = xproto::ClientMessageEvent::new(8, xid, kind, data);
        x11.sent(c.send_event(false, x11.root, xproto::EventMask::PROPERTY_CHANGE, event));
        kind = x11.atoms._NET_STARTUP_INFO;
    }
}

fn window_type(a: &Atoms, kind: WindowKind) -> xproto::Atom {
    match kind {
        WindowKind::Normal => a._NET_WM_WINDOW_TYPE_NORMAL,
        WindowKind::Dialog => a._NET_WM_WINDOW_TYPE_DIALOG,
        WindowKind::Utility => a._NET_WM_WINDOW_TYPE_UTILITY,
        WindowKind::Toolbar => a._NET_WM_WINDOW_TYPE_TOOLBAR,
        WindowKind::Menu => a._NET_WM_WINDOW_TYPE_MENU,
        WindowKind::Splash => a._NET_WM_WINDOW_TYPE_SPLASH,
    }
}

fn popup_type(a: &Atoms, kind: PopupKind) -> xproto::Atom {
    match kind {
        PopupKind::Menu => a._NET_WM_WINDOW_TYPE_POPUP_MENU,
        PopupKind::Tooltip => a._NET_WM_WINDOW_TYPE_TOOLTIP,
        PopupKind::Drag => a._NET_WM_WINDOW_TYPE_DND,
        PopupKind::Notification => a._NET_WM_WINDOW_TYPE_NOTIFICATION,
    }
}

fn size_hints(look: &Look) -> WmSizeHints {
    let side = |v: u32, none: i32| if v == 0 { none } else { i32::try_from(v).unwrap_or(none) };
    let pair = |s: Size, none: i32| (side(s.width, none), side(s.height, none));
    let min = pair(look.min_size, 1);
    let max = pair(look.max_size, i32::from(i16::MAX));
    // A largest size below the smallest is the app's mistake; the smallest counts.
    let max = (max.0.max(min.0), max.1.max(min.1));
    let set = |s: Size| s != Size::default();
    WmSizeHints {
        min_size: Some(min),
        max_size: set(look.max_size).then_some(max),
        // An increment of 0 in one direction only is a step of one pixel there.
        size_increment: set(look.increment).then(|| pair(look.increment, 1)),
        base_size: set(look.base_size).then(|| pair(look.base_size, 0)),
        aspect: None::<(AspectRatio, AspectRatio)>,
        ..WmSizeHints::new()
    }
}

/// Sets the properties of a popup.
pub fn describe_popup(x11: &X11, xid: xproto::Window, look: PopupLook) -> anyhow::Result<()> {
    set_popup_kind(x11, xid, look.kind);
    if let Some(parent) = x11.windows.get(&look.parent) {
        let transient = AtomEnum::WM_TRANSIENT_FOR;
        x11.connection.change_property32(
            PropMode::REPLACE,
            xid,
            transient,
            AtomEnum::WINDOW,
            &[parent.xid],
        )?;
    }
    Ok(())
}

/// Says what a popup is for.
pub fn set_popup_kind(x11: &X11, xid: xproto::Window, kind: PopupKind) {
    let a = &x11.atoms;
    let kind = [popup_type(a, kind)];
    x11.sent(x11.connection.change_property32(
        PropMode::REPLACE,
        xid,
        a._NET_WM_WINDOW_TYPE,
        AtomEnum::ATOM,
        &kind,
    ));
}

/// Sets or takes away the icons of a toplevel.
pub fn set_icons(x11: &X11, xid: xproto::Window, icons: &[Icon]) {
    let property = x11.atoms._NET_WM_ICON;
    if icons.is_empty() {
        return x11.sent(x11.connection.delete_property(xid, property));
    }
    let words: Vec<u32> = icons.iter().flat_map(icon_words).collect();
    let set = x11.connection.change_property32(PropMode::REPLACE, xid, property, AtomEnum::CARDINAL, &words);
    x11.sent(set);
}

/// An icon as `_NET_WM_ICON` has it: width, height, then rows of straight ARGB.
fn icon_words(icon: &Icon) -> impl Iterator<Item = u32> {
    let pixels = icon.pixels.chunks_exact(4).map(|p| {
        let alpha = u32::from(p[3]);
        let straight = |c: u8| match (u32::from(c) * 255 + alpha / 2).checked_div(alpha) {
            None => 0,
            Some(value) => value.min(255),
        };
        alpha << 24 | straight(p[2]) << 16 | straight(p[1]) << 8 | straight(p[0])
    });
    [icon.size.width, icon.size.height].into_iter().chain(pixels)
}

/// Gives a window an outline, for what is shown and for the pointer.
pub fn set_shape(x11: &X11, xid: xproto::Window, rects: Option<&[Rect]>) {
    let c = &x11.connection;
    for kind in [shape::SK::BOUNDING, shape::SK::INPUT] {
        match rects {
            None => x11.sent(c.shape_mask(shape::SO::SET, kind, xid, 0, 0, x11rb::NONE)),
            Some(rects) => {
                let order = ClipOrdering::UNSORTED;
                x11.sent(c.shape_rectangles(shape::SO::SET, kind, order, xid, 0, 0, &rectangles(rects)));
            }
        }
    }
}

/// Rectangles as X has them.
pub fn rectangles(rects: &[Rect]) -> Vec<xproto::Rectangle> {
    rects.iter().filter_map(|rect| rectangle(*rect)).collect()
}

/// The part of a rectangle that X can express.
fn rectangle(rect: Rect) -> Option<xproto::Rectangle> {
    let most = i16::MAX.unsigned_abs();
    let part = rect.intersection(Rect::new(0, 0, most.into(), most.into()))?;
    Some(xproto::Rectangle {
        x: part.x.try_into().ok()?,
        y: part.y.try_into().ok()?,
        width: part.width.try_into().ok()?,
        height: part.height.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::window;
    use inlay_protocol::display::Toplevel;

    #[test]
    fn icons_become_straight_argb() {
        let icon = Icon { size: Size::new(3, 1), pixels: vec![0, 64, 128, 128, 9, 9, 9, 0, 1, 2, 3, 255] };
        let words: Vec<u32> = icon_words(&icon).collect();
        assert_eq!(words, [3, 1, 0x80ff_8000, 0, 0xff03_0201]);
    }

    #[test]
    fn size_hints_are_those_of_the_app_where_they_make_sense() {
        let hints = |toplevel: Toplevel| size_hints(&window::look(&toplevel, "demo", None));
        let none = hints(Toplevel::default());
        assert_eq!((none.min_size, none.max_size), (Some((1, 1)), None));
        assert_eq!((none.base_size, none.size_increment), (None, None));
        let (large, small) = (Size::new(50, 60), Size::new(10, 0));
        let terminal = hints(Toplevel {
            min_size: large,
            max_size: small,
            base_size: Size::new(4, 4),
            increment: Size::new(6, 13),
            ..Toplevel::default()
        });
        assert_eq!((terminal.min_size, terminal.max_size), (Some((50, 60)), Some((50, 32767))));
        assert_eq!((terminal.base_size, terminal.size_increment), (Some((4, 4)), Some((6, 13))));
    }

    #[test]
    fn rectangles_that_x_cannot_express_are_cut() {
        let cut = rectangle(Rect::new(-5, -5, 100_000, 10)).unwrap();
        assert_eq!((cut.x, cut.y, cut.width, cut.height), (0, 0, 32767, 5));
        assert!(rectangle(Rect::new(40_000, 0, 5, 5)).is_none());
    }
}
