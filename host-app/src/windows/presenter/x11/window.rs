//! Creation of windows, and their states: EWMH 1.5.

use anyhow::Context;
use inlay_exchange::x11::xdnd;
use inlay_protocol::display::States;
use inlay_protocol::geometry::Rect;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    self, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, VisualClass, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::xcb_ffi::XCBConnection;

use super::{Look, X11, pointer};

/// The visual of our windows: 32 bits with alpha where the display has one.
#[derive(Debug, Clone, Copy)]
pub struct Visual {
    /// Its id.
    pub id: xproto::Visualid,
    /// Its depth in bits.
    pub depth: u8,
    colormap: xproto::Colormap,
}

impl Visual {
    /// The best visual of a screen; without alpha (`plain`) for windows that have none, and for those of Mesa's software rasterisers,
    /// which before Mesa 23 draw only into 24 bits.
    ///
    /// # Errors
    /// When the display has no true-colour visual of 24 or 32 bits.
    pub fn choose(connection: &XCBConnection, screen: usize, plain: bool) -> anyhow::Result<Self> {
        let screen = connection.setup().roots.get(screen).context("the X display has no such screen")?;
        let of_depth = |bits: u8| {
            let depth = screen.allowed_depths.iter().find(|d| d.depth == bits)?;
            let usable =
                |v: &&xproto::Visualtype| v.class == VisualClass::TRUE_COLOR && v.red_mask == 0xff_0000;
            Some((bits, depth.visuals.iter().find(usable)?.visual_id))
        };
        let alpha = if plain { None } else { of_depth(32) };
        let (depth, id) =
            alpha.or_else(|| of_depth(24)).context("the X display has no true-colour visual")?;
        let colormap = connection.generate_id()?;
        connection.create_colormap(xproto::ColormapAlloc::NONE, colormap, screen.root, id)?;
        Ok(Self { id, depth, colormap })
    }
}

/// Creates a window; popups bypass the window manager.
pub fn create(x11: &X11, area: Rect, popup: bool, visual: Visual) -> anyhow::Result<xproto::Window> {
    let xid = x11.connection.generate_id()?;
    let mut mask = EventMask::EXPOSURE | EventMask::STRUCTURE_NOTIFY | EventMask::VISIBILITY_CHANGE;
    if !popup {
        mask |= EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::FOCUS_CHANGE
            | EventMask::KEYMAP_STATE
            | EventMask::PROPERTY_CHANGE;
    }
    let aux = CreateWindowAux::new()
        .border_pixel(0)
        // Content stays at the upper left while the app draws a new size: nothing is stretched or cleared.
        .bit_gravity(xproto::Gravity::NORTH_WEST)
        .colormap(visual.colormap)
        .override_redirect(u32::from(popup))
        .event_mask(mask);
    let side = |v: u32| u16::try_from(v).unwrap_or(u16::MAX).max(1);
    let place = |v: i32| i16::try_from(v).unwrap_or(0);
    x11.connection
        .create_window(
            visual.depth,
            xid,
            x11.root,
            place(area.x),
            place(area.y),
            side(area.width),
            side(area.height),
            0,
            WindowClass::INPUT_OUTPUT,
            visual.id,
            &aux,
        )?
        .check()
        .context("the display refused a window")?;
    pointer::listen(&x11.connection, xid)?;
    let version = [xdnd::VERSION];
    x11.connection.change_property32(PropMode::REPLACE, xid, x11.xdnd.XdndAware, AtomEnum::ATOM, &version)?;
    Ok(xid)
}

/// Sets the states that a toplevel begins with, before it is mapped (EWMH `_NET_WM_STATE`).
pub fn first_states(x11: &X11, xid: xproto::Window, states: States, look: &Look) -> anyhow::Result<()> {
    let a = &x11.atoms;
    let mut list = Vec::new();
    if states.contains(States::MAXIMIZED) {
        list.extend([a._NET_WM_STATE_MAXIMIZED_VERT, a._NET_WM_STATE_MAXIMIZED_HORZ]);
    }
    list.extend(states.contains(States::FULLSCREEN).then_some(a._NET_WM_STATE_FULLSCREEN));
    list.extend(look.modal.then_some(a._NET_WM_STATE_MODAL));
    list.extend(look.urgent.then_some(a._NET_WM_STATE_DEMANDS_ATTENTION));
    if !list.is_empty() {
        x11.connection.change_property32(PropMode::REPLACE, xid, a._NET_WM_STATE, AtomEnum::ATOM, &list)?;
    }
    Ok(())
}

/// The states that the window manager gave a window, and whether it is minimised.
pub fn states(x11: &X11, xid: xproto::Window) -> (States, bool) {
    let a = &x11.atoms;
    let reply = x11
        .connection
        .get_property(false, xid, a._NET_WM_STATE, AtomEnum::ATOM, 0, 64)
        .map_err(drop)
        .and_then(|cookie| cookie.reply().map_err(drop));
    let list: Vec<u32> = reply.ok().and_then(|r| r.value32().map(Iterator::collect)).unwrap_or_default();
    let has = |atom| list.contains(&atom);
    let maximized = has(a._NET_WM_STATE_MAXIMIZED_VERT) && has(a._NET_WM_STATE_MAXIMIZED_HORZ);
    let states = States::default()
        .set(States::MAXIMIZED, maximized)
        .set(States::FULLSCREEN, has(a._NET_WM_STATE_FULLSCREEN));
    (states, has(a._NET_WM_STATE_HIDDEN))
}
