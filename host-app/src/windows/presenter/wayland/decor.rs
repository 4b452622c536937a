//! Frames of our own, where the desktop draws none (GNOME): title, buttons and edges in subsurfaces around a toplevel's surface, so
//! that content stays where it is. `xdg_surface.set_window_geometry` has them in, what the session knows of sizes and places
//! has not.

use std::cell::OnceCell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use inlay_protocol::display::{Decoration, States, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use sctk_adwaita::{AdwaitaFrame, FrameConfig};
use smithay_client_toolkit::compositor::{CompositorState, SurfaceData};
use smithay_client_toolkit::globals::GlobalData;
use smithay_client_toolkit::reexports::csd_frame::{
    DecorationsFrame as _, FrameAction, FrameClick, ResizeEdge as FrameEdge, WindowManagerCapabilities,
    WindowState,
};
use smithay_client_toolkit::shell::WaylandSurface;
use smithay_client_toolkit::shm::Shm;
use smithay_client_toolkit::subcompositor::{SubcompositorState, SubsurfaceData};
use wayland_client::backend::ObjectId;
use wayland_client::globals::GlobalList;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_shm::WlShm;
use wayland_client::protocol::wl_subcompositor::WlSubcompositor;
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{ResizeEdge, WmCapabilities, XdgToplevel};

use super::super::{HostEvent, Look};
use super::State;
use super::window::{HostWindow, Role, Toplevel};

/// Evdev codes of the buttons that mean something to a frame.
const LEFT: u32 = 0x110;
const RIGHT: u32 = 0x111;
/// The title reaches this far beyond the content, to the left and right.
const BORDER: f64 = 1.0;
/// What of a title can be seen at most: each of its letters is drawn before it is cut.
const TITLE: usize = 256;

/// What frames are made with.
#[derive(Debug)]
pub struct Frames {
    compositor: Arc<CompositorState>,
    subcompositor: Arc<SubcompositorState>,
    shm: Shm,
    /// Light or dark, asked for with the first.
    config: OnceCell<FrameConfig>,
}

/// The frame of a toplevel.
#[derive(Debug)]
pub struct Frame {
    inner: AdwaitaFrame<State>,
    /// The content that it was last laid out around, and its scale in 120ths.
    around: (Size, u32),
    maximized: bool,
}

/// A surface that gets a frame.
struct Base(WlSurface);

impl WaylandSurface for Base {
    fn wl_surface(&self) -> &WlSurface {
        &self.0
    }
}

impl Frames {
    /// `None` where there are no subsurfaces.
    pub fn bind(list: &GlobalList, handle: &QueueHandle<State>, shm: &WlShm) -> Option<Self> {
        let compositor = CompositorState::bind(list, handle).ok()?;
        let subcompositor =
            SubcompositorState::bind(compositor.wl_compositor().clone(), list, handle).ok()?;
        let (compositor, subcompositor) = (Arc::new(compositor), Arc::new(subcompositor));
        Some(Self { compositor, subcompositor, shm: Shm::from(shm.clone()), config: OnceCell::new() })
    }

    fn frame(&self, surface: &WlSurface, handle: &QueueHandle<State>) -> Option<Frame> {
        let base = Base(surface.clone());
        let (compositor, subcompositor) = (self.compositor.clone(), self.subcompositor.clone());
        let config = self.config.get_or_init(FrameConfig::auto).clone();
        match AdwaitaFrame::new(&base, &self.shm, compositor, subcompositor, handle.clone(), config) {
            Ok(inner) => Some(Frame { inner, around: (Size::default(), 0), maximized: false }),
            Err(error) => {
                tracing::warn!("a window has no frame: {error}");
                None
            }
        }
    }
}

impl Frame {
    /// Room above the content.
    pub fn above(&self) -> u32 {
        self.inner.location().1.unsigned_abs()
    }

    /// The content's size in a window of this size.
    pub fn content(&self, window: Size) -> Size {
        // Nothing is left of smaller ones; the app says what it needs at least.
        let inner = |width, height| self.inner.subtract_borders(width, height);
        let (Some(width), Some(height)) = (NonZeroU32::new(window.width), NonZeroU32::new(window.height))
        else {
            return window;
        };
        let (width, height) = inner(width, height);
        Size::new(width.map_or(1, NonZeroU32::get), height.map_or(1, NonZeroU32::get))
    }

    /// Takes what is to be seen of a look.
    fn describe(&mut self, look: &Look) {
        self.inner.set_title(look.title.chars().take(TITLE).collect::<String>());
        let fixed = look.min_size == look.max_size && !look.max_size.is_empty();
        self.inner.set_resizable(!fixed);
    }

    /// Takes the states of its window.
    fn take_states(&mut self, states: States) {
        let pairs = [
            (States::ACTIVATED, WindowState::ACTIVATED),
            (States::MAXIMIZED, WindowState::MAXIMIZED),
            (States::FULLSCREEN, WindowState::FULLSCREEN),
            (States::TILED_LEFT, WindowState::TILED_LEFT),
            (States::TILED_RIGHT, WindowState::TILED_RIGHT),
            (States::TILED_TOP, WindowState::TILED_TOP),
            (States::TILED_BOTTOM, WindowState::TILED_BOTTOM),
        ];
        let has = pairs.into_iter().filter(|(ours, _)| states.contains(*ours)).map(|(_, theirs)| theirs);
        self.inner.update_state(has.collect());
        self.maximized = states.contains(States::MAXIMIZED);
    }

    /// Draws what is new, for the next commit of the content's surface, around a content of this size. The whole window.
    pub fn draw(&mut self, content: Size, scale_120: u32) -> Rect {
        if self.around != (content, scale_120) {
            self.around = (content, scale_120);
            let side = |v: u32| NonZeroU32::new(v).unwrap_or(NonZeroU32::MIN);
            self.inner.set_scaling_factor(f64::from(scale_120) / 120.0);
            self.inner.resize(side(content.width), side(content.height));
        }
        if self.inner.is_dirty() {
            self.inner.draw();
        }
        let (x, y) = self.inner.location();
        let (width, height) = self.inner.add_borders(content.width, content.height);
        Rect { x, y, width, height }
    }

    /// A place on the title as one of the content's surface.
    fn on_content(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let side = if self.maximized { 0.0 } else { BORDER };
        #[expect(clippy::cast_possible_truncation, reason = "a place within a window; a float saturates")]
        let place = |v: f64| v.floor() as i32;
        (place(x - side), place(y) + self.inner.location().1)
    }
}

/// The pointer on a frame.
#[derive(Debug)]
pub struct OnFrame {
    pub window: SurfaceId,
    pub serial: u32,
    part: ObjectId,
    at: (f64, f64),
}

impl OnFrame {
    /// `None` when this surface is not a part of a frame.
    pub fn enter(surface: &WlSurface, serial: u32, at: (f64, f64)) -> Option<Self> {
        let parent = surface.data::<SurfaceData<()>>()?.parent_surface()?;
        let window = *parent.data::<SurfaceId>()?;
        Some(Self { window, serial, part: surface.id(), at })
    }
}

/// What a click on a frame asks for, of `wl_pointer.button`.
#[derive(Debug, Clone, Copy)]
pub struct Click {
    pub time: u32,
    pub button: u32,
    pub pressed: bool,
    pub serial: u32,
}

impl State {
    /// A toplevel that is there, with its frame.
    fn framed(&mut self, id: SurfaceId) -> Option<(&XdgToplevel, &mut Frame)> {
        match &mut self.windows.get_mut(&id)?.role {
            Role::Toplevel(toplevel) => {
                let Toplevel { toplevel, frame, .. } = &mut **toplevel;
                Some((toplevel, frame.as_mut()?))
            }
            Role::Popup(_) => None,
        }
    }

    /// Gives a toplevel a frame where it is to have one and the desktop draws none, or takes it.
    pub(super) fn fit_frame(&mut self, id: SurfaceId) {
        let Some(HostWindow { role: Role::Toplevel(toplevel), surface, .. }) = self.windows.get_mut(&id)
        else {
            return;
        };
        let wanted = toplevel.bare && toplevel.look.decoration == Decoration::ServerSide;
        if wanted != toplevel.frame.is_some() {
            let frames = self.globals.frames.as_ref().filter(|_| wanted);
            toplevel.frame = frames.and_then(|frames| frames.frame(surface, &self.handle)).map(Box::new);
            toplevel.say_limits();
        }
        let Some(frame) = &mut toplevel.frame else { return };
        frame.describe(&toplevel.look);
        frame.take_states(toplevel.states);
        frame.inner.update_wm_capabilities(toplevel.capabilities);
        self.redraw_frame(id);
    }

    /// Has a frame drawn with the next commit of its window, when something about it is new.
    fn redraw_frame(&mut self, id: SurfaceId) {
        if self.framed(id).is_some_and(|(_, frame)| frame.inner.is_dirty()) {
            self.events.push(HostEvent::Exposed { window: id });
        }
    }

    /// The pointer is at another place of a frame.
    pub(super) fn point_at_frame(&mut self, time: u32, at: (f64, f64)) {
        let Some(on) = &mut self.pointer.frame else { return };
        on.at = at;
        let (window, part) = (on.window, on.part.clone());
        let Some((_, frame)) = self.framed(window) else { return };
        let time = Duration::from_millis(time.into());
        let icon = frame.inner.click_point_moved(time, &part, at.0, at.1);
        self.redraw_frame(window);
        if let Some(icon) = icon {
            self.cursor.on_frame = icon.name();
            self.dress();
        }
    }

    /// The pointer has left the frame that it was on.
    pub(super) fn leave_frame(&mut self) {
        let Some(OnFrame { window, .. }) = self.pointer.frame.take() else { return };
        if let Some((_, frame)) = self.framed(window) {
            frame.inner.click_point_left();
            // A button that it was on looks as if nothing were.
            self.events.push(HostEvent::Exposed { window });
        }
    }

    /// A button is pressed or lifted on a frame.
    pub(super) fn click_frame(&mut self, click: Click) {
        let Some(OnFrame { window, at, .. }) = &self.pointer.frame else { return };
        let (window, at) = (*window, *at);
        if click.pressed && !self.grabs.is_empty() {
            // To the desktop a frame is a part of the app: it dismisses nothing.
            self.events.push(HostEvent::ClickOutside { window: None });
        }
        let Some(seat) = self.globals.seat.as_ref().map(|(_, seat)| seat.clone()) else { return };
        let Some((toplevel, frame)) = self.framed(window) else { return };
        let kind = match click.button {
            LEFT => FrameClick::Normal,
            RIGHT => FrameClick::Alternate,
            _ => return,
        };
        let time = Duration::from_millis(click.time.into());
        match frame.inner.on_click(time, kind, click.pressed) {
            Some(FrameAction::Minimize) => toplevel.set_minimized(),
            Some(FrameAction::Maximize) => toplevel.set_maximized(),
            Some(FrameAction::UnMaximize) => toplevel.unset_maximized(),
            Some(FrameAction::Close) => self.events.push(HostEvent::Close { window }),
            Some(FrameAction::Move) => toplevel._move(&seat, click.serial),
            Some(FrameAction::Resize(edge)) if click.pressed => {
                toplevel.resize(&seat, click.serial, resize_edge(edge));
            }
            Some(FrameAction::ShowMenu(..)) => {
                let (x, y) = frame.on_content(at);
                toplevel.show_window_menu(&seat, click.serial, x, y);
            }
            _ => {}
        }
    }
}

fn resize_edge(edge: FrameEdge) -> ResizeEdge {
    match edge {
        FrameEdge::Top => ResizeEdge::Top,
        FrameEdge::Bottom => ResizeEdge::Bottom,
        FrameEdge::Left => ResizeEdge::Left,
        FrameEdge::TopLeft => ResizeEdge::TopLeft,
        FrameEdge::BottomLeft => ResizeEdge::BottomLeft,
        FrameEdge::Right => ResizeEdge::Right,
        FrameEdge::TopRight => ResizeEdge::TopRight,
        FrameEdge::BottomRight => ResizeEdge::BottomRight,
        _ => ResizeEdge::None,
    }
}

/// What the desktop can do with windows, from the wire form of `xdg_toplevel.wm_capabilities`.
pub fn capabilities(wire: &[u8]) -> WindowManagerCapabilities {
    let numbers = wire.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(u32::from_ne_bytes);
    let known = numbers.filter_map(|number| {
        Some(match WmCapabilities::try_from(number).ok()? {
            WmCapabilities::WindowMenu => WindowManagerCapabilities::WINDOW_MENU,
            WmCapabilities::Maximize => WindowManagerCapabilities::MAXIMIZE,
            WmCapabilities::Fullscreen => WindowManagerCapabilities::FULLSCREEN,
            WmCapabilities::Minimize => WindowManagerCapabilities::MINIMIZE,
            _ => return None,
        })
    });
    known.collect()
}

// Nothing is told of these, or nothing that matters here.
macro_rules! untold {
    ($($interface:ty, $data:ty;)*) => {$(
        impl Dispatch<$interface, $data> for State {
            fn event(
                _: &mut Self,
                _: &$interface,
                _: <$interface as wayland_client::Proxy>::Event,
                _: &$data,
                _: &Connection,
                _: &QueueHandle<Self>,
            ) {
            }
        }
    )*};
}

untold! {
    WlCompositor, GlobalData;
    WlSubcompositor, GlobalData;
    WlSubsurface, SubsurfaceData;
    WlSurface, SurfaceData<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_desktop_can_do_is_read_from_the_wire() {
        let wire: Vec<u8> = [1_u32, 4, 99].iter().flat_map(|n| n.to_ne_bytes()).chain([2, 0]).collect();
        let can = WindowManagerCapabilities::WINDOW_MENU | WindowManagerCapabilities::MINIMIZE;
        assert_eq!(capabilities(&wire), can);
    }
}
