//! Toplevels: from their announcement to their end, and what the compositor decides about them (xdg-shell).

use inlay_protocol::display::{Act, Decoration, Edges, States, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use smithay_client_toolkit::reexports::csd_frame::WindowManagerCapabilities;
use wayland_client::backend::ObjectId;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::{
    self, WpFractionalScaleV1,
};
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::xdg::decoration::zv1::client::zxdg_toplevel_decoration_v1::{
    self, Mode, ZxdgToplevelDecorationV1,
};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{self, ResizeEdge, State as XdgState, XdgToplevel};

use super::super::{Announced, HostEvent, Look};
use super::State;
use super::constraint::Held;
use super::decor::{self, Frame};
use super::icons::Picture;
use super::popup::PopupRole;
use super::wishes::Wishes;

/// The scale of windows whose monitor is not known yet.
const UNSCALED: u32 = 120;

/// A window of ours.
#[derive(Debug)]
pub struct HostWindow {
    pub surface: WlSurface,
    pub xdg: XdgSurface,
    pub viewport: Option<WpViewport>,
    pub fractional: Option<WpFractionalScaleV1>,
    pub role: Role,
    /// The compositor has decided about it at least once: it may be drawn.
    pub configured: bool,
    /// The newest decision that no commit has acknowledged.
    pub serial: Option<u32>,
    /// Something was presented: it is on the screen, and popups may hang on it.
    pub mapped: bool,
    /// The pointer is to be held in it.
    pub held: Option<Held>,
    /// The frame callback that is waited for.
    pub callback: Option<WlCallback>,
    /// Pixels to logical pixels, in 120ths, as `wp_fractional_scale_v1` or `wl_surface` prefers it.
    pub preferred: Option<u32>,
    /// The monitors that it is on.
    pub entered: Vec<ObjectId>,
    /// The scale of its newest frame: where it is not told, it is not changed by a commit without content.
    pub scale: u32,
}

/// What a window is.
#[derive(Debug)]
pub enum Role {
    Toplevel(Box<Toplevel>),
    Popup(PopupRole),
}

/// A toplevel.
#[derive(Debug)]
pub struct Toplevel {
    pub toplevel: XdgToplevel,
    pub decoration: Option<ZxdgToplevelDecorationV1>,
    /// The desktop draws no frame around it.
    pub bare: bool,
    /// The frame that is drawn here instead.
    pub frame: Option<Box<Frame>>,
    pub look: Look,
    /// The pictures of its icons.
    pub icons: Vec<Picture>,
    /// What its app wants of the desktop.
    pub wishes: Wishes,
    /// What the compositor says before its `xdg_surface.configure`.
    pending: (Size, States),
    /// What the desktop can do with it.
    pub capabilities: WindowManagerCapabilities,
    /// What it decided, without a frame of ours: an empty size leaves it to the app.
    pub size: Size,
    pub states: States,
}

impl Toplevel {
    /// Says how small and large it may be, with its frame.
    pub fn say_limits(&self) {
        let above = self.frame.as_ref().map_or(0, |frame| frame.above());
        let side = |v: u32| i32::try_from(v).unwrap_or(0);
        let whole = |height: u32| if height == 0 { 0 } else { side(height.saturating_add(above)) };
        let (min, max) = (self.look.min_size, self.look.max_size);
        self.toplevel.set_min_size(side(min.width), whole(min.height));
        // A largest size below the smallest one is a protocol error.
        let most = |max: u32, min: u32| if max == 0 { 0 } else { max.max(min) };
        self.toplevel.set_max_size(side(most(max.width, min.width)), whole(most(max.height, min.height)));
    }
}

impl HostWindow {
    /// Pixels of a window of this size: as `wp_fractional_scale_v1` rounds.
    pub fn pixels(&self, size: Size) -> Size {
        scaled(size, self.scale)
    }

    fn destroy(self) {
        if let Some(held) = self.held {
            held.release();
        }
        // No request ends it, and for a surface that goes the compositor does not call back: it would stay for ever.
        if let Some(callback) = self.callback
            && let Some(backend) = callback.backend().upgrade()
        {
            // It fails only for one that has gone already.
            let _ = backend.destroy_object(&callback.id());
        }
        if let Some(fractional) = self.fractional {
            fractional.destroy();
        }
        if let Some(viewport) = self.viewport {
            viewport.destroy();
        }
        match self.role {
            Role::Toplevel(toplevel) => {
                drop(toplevel.frame);
                toplevel.wishes.destroy();
                if let Some(decoration) = toplevel.decoration {
                    decoration.destroy();
                }
                toplevel.toplevel.destroy();
            }
            Role::Popup(popup) => popup.popup.destroy(),
        }
        self.xdg.destroy();
        self.surface.destroy();
    }
}

/// Pixels of a size at a scale in 120ths; halves are rounded up.
fn scaled(size: Size, scale_120: u32) -> Size {
    let side = |v: u32| {
        let pixels = (u64::from(v) * u64::from(scale_120) + 60) / 120;
        u32::try_from(pixels).unwrap_or(u32::MAX).max(1)
    };
    Size::new(side(size.width), side(size.height))
}

impl State {
    /// A surface with what every window has, without a role.
    pub(super) fn surface(&self, id: SurfaceId) -> (WlSurface, XdgSurface) {
        let surface = self.globals.compositor.create_surface(&self.handle, id);
        let xdg = self.globals.wm_base.get_xdg_surface(&surface, &self.handle, id);
        (surface, xdg)
    }

    pub(super) fn add(&mut self, id: SurfaceId, surface: WlSurface, xdg: XdgSurface, role: Role, scale: u32) {
        let viewport = self.globals.viewporter.as_ref().map(|v| v.get_viewport(&surface, &self.handle, ()));
        // Fractions need a viewport to be shown.
        let manager = self.globals.fractional_scale.as_ref().filter(|_| viewport.is_some());
        let fractional = manager.map(|m| m.get_fractional_scale(&surface, &self.handle, id));
        surface.commit();
        let new = HostWindow {
            surface,
            xdg,
            viewport,
            fractional,
            role,
            configured: false,
            serial: None,
            mapped: false,
            held: None,
            callback: None,
            preferred: None,
            entered: Vec::new(),
            scale,
        };
        self.windows.insert(id, new);
    }

    /// Makes a toplevel, without content: the compositor says how large it is to be.
    pub(super) fn announce_toplevel(&mut self, id: SurfaceId, look: &Look, states: States) -> Announced {
        if self.windows.contains_key(&id) {
            return Announced::Waits;
        }
        let (surface, xdg) = self.surface(id);
        let toplevel = xdg.get_toplevel(&self.handle, id);
        let decoration = self
            .globals
            .decoration
            .as_ref()
            .map(|manager| manager.get_toplevel_decoration(&toplevel, &self.handle, id));
        if states.contains(States::MAXIMIZED) {
            toplevel.set_maximized();
        }
        if states.contains(States::FULLSCREEN) {
            toplevel.set_fullscreen(None);
        }
        let role = Toplevel {
            toplevel,
            bare: decoration.is_none(),
            decoration,
            frame: None,
            look: look.clone(),
            icons: Vec::new(),
            wishes: Wishes::default(),
            pending: (Size::default(), States::default()),
            // Until it says.
            capabilities: WindowManagerCapabilities::all(),
            size: Size::default(),
            states: States::default(),
        };
        self.say_look(&role, None);
        // Most windows open beside those that are there.
        let beside = self.windows.values().map(|w| w.scale).max();
        let scale = beside.or(self.outputs.largest_scale()).unwrap_or(UNSCALED);
        self.add(id, surface, xdg, Role::Toplevel(Box::new(role)), scale);
        self.fit_frame(id);
        self.wish(id);
        Announced::Waits
    }

    /// Says how a toplevel looks now.
    pub(super) fn describe(&mut self, id: SurfaceId, look: &Look) {
        let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut toplevel.look, look.clone());
        if self.is_circle(id)
            && let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get_mut(&id)
        {
            // To the desktop that would be an error that ends all windows: it has none until the other is told.
            toplevel.look.parent = None;
        }
        self.fit_frame(id);
        self.wish(id);
        if let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get(&id) {
            self.say_look(toplevel, Some(&before));
        }
        if look.urgent && !before.urgent {
            self.activate(id, None);
        }
    }

    /// Whether a toplevel is above itself, as the desktop was told so far.
    fn is_circle(&self, id: SurfaceId) -> bool {
        let parent = |id: SurfaceId| match &self.windows.get(&id)?.role {
            Role::Toplevel(toplevel) => toplevel.look.parent,
            Role::Popup(_) => None,
        };
        let mut above = std::iter::successors(parent(id), |at| parent(*at));
        above.by_ref().take(self.windows.len() + 1).any(|at| at == id)
    }

    /// Says what of a look is another than before.
    fn say_look(&self, of: &Toplevel, before: Option<&Look>) {
        let Toplevel { toplevel, decoration, look, .. } = of;
        let new = |same: fn(&Look, &Look) -> bool| before.is_none_or(|before| !same(before, look));
        if new(|a, b| a.title == b.title) {
            toplevel.set_title(look.title.clone());
        }
        if new(|a, b| a.class == b.class) {
            toplevel.set_app_id(look.class.clone());
        }
        if new(|a, b| a.parent == b.parent) {
            let parent = look.parent.and_then(|id| self.windows.get(&id));
            let parent = parent.and_then(|window| match &window.role {
                Role::Toplevel(parent) => Some(&parent.toplevel),
                Role::Popup(_) => None,
            });
            toplevel.set_parent(parent);
        }
        if new(|a, b| (a.min_size, a.max_size) == (b.min_size, b.max_size)) {
            of.say_limits();
        }
        if let Some(decoration) = decoration
            && new(|a, b| a.decoration == b.decoration)
        {
            decoration.set_mode(match look.decoration {
                Decoration::ClientSide => Mode::ClientSide,
                Decoration::ServerSide => Mode::ServerSide,
            });
        }
    }

    /// Ends a window; popups that hang on it go before it, innermost first.
    pub(super) fn close(&mut self, id: SurfaceId) {
        let hanging = |role: &Role| matches!(role, Role::Popup(popup) if popup.parent == id);
        let popups: Vec<SurfaceId> =
            self.windows.iter().filter(|(_, w)| hanging(&w.role)).map(|(id, _)| *id).collect();
        for popup in popups {
            self.close(popup);
        }
        let Some(mut gone) = self.windows.remove(&id) else { return };
        if let Role::Toplevel(toplevel) = &mut gone.role {
            let icons = std::mem::take(&mut toplevel.icons);
            self.keep_pictures(icons);
        }
        self.grabs.retain(|grab| *grab != id);
        self.configured.remove(&id);
        self.left_by_pointer(&gone.surface);
        self.left_by_keyboard(&gone.surface);
        gone.destroy();
    }

    /// Where a window takes input: everywhere, or within an outline.
    pub(super) fn set_input(&mut self, id: SurfaceId, rects: Option<&[Rect]>) {
        self.make_room();
        if !self.windows.contains_key(&id) {
            return;
        }
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
        let region = rects.map(|rects| {
            let region = self.globals.compositor.create_region(&self.handle, ());
            for some in rects.chunks(64) {
                self.make_room();
                for rect in some {
                    region.add(rect.x, rect.y, side(rect.width), side(rect.height));
                }
            }
            region
        });
        let Some(window) = self.windows.get(&id) else { return };
        window.surface.set_input_region(region.as_ref());
        if let Some(region) = region {
            region.destroy();
        }
    }

    /// Does what an app asked for.
    pub(super) fn act(&mut self, id: SurfaceId, act: Act) {
        let press = self.pointer.press(id);
        let seat = self.globals.seat.as_ref().map(|(_, seat)| seat);
        let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get(&id) else { return };
        let toplevel = &toplevel.toplevel;
        match act {
            Act::Activate => self.activate(id, self.newest_press()),
            Act::Maximize => toplevel.set_maximized(),
            Act::Unmaximize => toplevel.unset_maximized(),
            Act::Fullscreen => toplevel.set_fullscreen(None),
            Act::Unfullscreen => toplevel.unset_fullscreen(),
            Act::Minimize => toplevel.set_minimized(),
            // The pointer is the user's: an app may only have it dragged from where it is pressed just now.
            Act::Move | Act::Resize(_) | Act::WindowMenu(_) => {
                let (Some(seat), Some(serial)) = (seat, press) else { return };
                match act {
                    Act::Move => toplevel._move(seat, serial),
                    Act::Resize(edges) => toplevel.resize(seat, serial, edge(edges)),
                    Act::WindowMenu(at) => toplevel.show_window_menu(seat, serial, at.x, at.y),
                    _ => {}
                }
            }
        }
    }

    /// Takes the size that the desktop gave a toplevel, which is its content's and its frame's.
    fn take_size(&mut self, id: SurfaceId) {
        if let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get_mut(&id) {
            let (size, _) = toplevel.pending;
            toplevel.size = match &toplevel.frame {
                Some(frame) if !size.is_empty() => frame.content(size),
                _ => size,
            };
        }
    }

    /// Pixels to logical pixels of a window, in 120ths.
    pub(super) fn scale(&self, id: SurfaceId) -> u32 {
        self.windows.get(&id).map_or(UNSCALED, |w| w.scale)
    }

    /// A window's monitors or scale may be others: its app is told, and it is drawn again if so.
    fn rescale(&mut self, id: SurfaceId) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        let whole = self.outputs.scale(&window.entered).map(|scale| 120 * scale);
        let Some(scale_120) = window.preferred.or(whole) else { return };
        let outputs = self.outputs.places(&window.entered);
        self.events.push(HostEvent::Shown { window: id, outputs, scale_120 });
        if scale_120 != window.scale {
            window.scale = scale_120;
            self.events.push(HostEvent::Exposed { window: id });
        }
    }

    /// The monitors are others: so may be those that windows are on.
    pub(super) fn rescale_all(&mut self) {
        for id in self.windows.keys().copied().collect::<Vec<_>>() {
            self.rescale(id);
        }
    }
}

fn edge(edges: Edges) -> ResizeEdge {
    let has = |edge| edges.contains(edge);
    match (has(Edges::TOP), has(Edges::BOTTOM), has(Edges::LEFT), has(Edges::RIGHT)) {
        (true, _, true, _) => ResizeEdge::TopLeft,
        (true, _, _, true) => ResizeEdge::TopRight,
        (_, true, true, _) => ResizeEdge::BottomLeft,
        (_, true, _, true) => ResizeEdge::BottomRight,
        (true, ..) => ResizeEdge::Top,
        (_, true, ..) => ResizeEdge::Bottom,
        (_, _, true, _) => ResizeEdge::Left,
        (_, _, _, true) => ResizeEdge::Right,
        _ => ResizeEdge::None,
    }
}

/// The states of a toplevel from their wire form.
fn states(wire: &[u8]) -> States {
    let numbers = wire.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(u32::from_ne_bytes);
    numbers.filter_map(|number| XdgState::try_from(number).ok()).fold(States::default(), |all, state| {
        let bit = match state {
            XdgState::Maximized => States::MAXIMIZED,
            XdgState::Fullscreen => States::FULLSCREEN,
            XdgState::Resizing => States::RESIZING,
            XdgState::Activated => States::ACTIVATED,
            XdgState::TiledLeft => States::TILED_LEFT,
            XdgState::TiledRight => States::TILED_RIGHT,
            XdgState::TiledTop => States::TILED_TOP,
            XdgState::TiledBottom => States::TILED_BOTTOM,
            XdgState::Suspended => States::SUSPENDED,
            _ => States::default(),
        };
        all.set(bit, true)
    })
}

impl Dispatch<WlSurface, SurfaceId> for State {
    fn event(
        state: &mut Self,
        surface: &WlSurface,
        event: wl_surface::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(window) = state.windows.get_mut(id).filter(|w| w.surface == *surface) else { return };
        match event {
            wl_surface::Event::Enter { output } => window.entered.push(output.id()),
            wl_surface::Event::Leave { output } => window.entered.retain(|entered| *entered != output.id()),
            wl_surface::Event::PreferredBufferScale { factor } if window.fractional.is_none() => {
                window.preferred =
                    u32::try_from(factor).ok().filter(|f| (1..=16).contains(f)).map(|f| 120 * f);
            }
            _ => return,
        }
        state.rescale(*id);
    }
}

impl Dispatch<WpFractionalScaleV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        scale: &WpFractionalScaleV1,
        event: wp_fractional_scale_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wp_fractional_scale_v1::Event::PreferredScale { scale: preferred } = event
            && let Some(window) = state.windows.get_mut(id).filter(|w| w.fractional.as_ref() == Some(scale))
        {
            window.preferred = Some(preferred.clamp(30, 16 * 120));
            state.rescale(*id);
        }
    }
}

impl Dispatch<XdgSurface, SurfaceId> for State {
    fn event(
        state: &mut Self,
        xdg: &XdgSurface,
        event: xdg_surface::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let xdg_surface::Event::Configure { serial } = event else { return };
        let Some(window) = state.windows.get_mut(id).filter(|w| w.xdg == *xdg) else { return };
        window.serial = Some(serial);
        window.configured = true;
        match &mut window.role {
            Role::Toplevel(toplevel) => {
                toplevel.states = toplevel.pending.1;
                state.configured.insert(*id);
                state.fit_frame(*id);
                state.take_size(*id);
            }
            Role::Popup(popup) => {
                let (area, reposition) = popup.decided();
                state.events.push(HostEvent::Placed { window: *id, area, reposition });
            }
        }
    }
}

impl Dispatch<XdgToplevel, SurfaceId> for State {
    fn event(
        state: &mut Self,
        xdg: &XdgToplevel,
        event: xdg_toplevel::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = state.windows.get_mut(id) else {
            return;
        };
        if toplevel.toplevel != *xdg {
            return;
        }
        match event {
            xdg_toplevel::Event::Configure { width, height, states: wire } => {
                let side = |v: i32| u32::try_from(v).unwrap_or(0);
                let size = Size::new(side(width), side(height));
                let sane = size.is_sane() && !size.is_empty();
                toplevel.pending = (if sane { size } else { Size::default() }, states(&wire));
            }
            xdg_toplevel::Event::WmCapabilities { capabilities } => {
                toplevel.capabilities = decor::capabilities(&capabilities);
            }
            xdg_toplevel::Event::Close => state.events.push(HostEvent::Close { window: *id }),
            _ => {}
        }
    }
}

impl Dispatch<ZxdgToplevelDecorationV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        _: &ZxdgToplevelDecorationV1,
        event: zxdg_toplevel_decoration_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let zxdg_toplevel_decoration_v1::Event::Configure { mode: WEnum::Value(mode) } = event {
            // It counts with the configure that follows.
            if let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = state.windows.get_mut(id) {
                toplevel.bare = mode == Mode::ClientSide;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_fractions_are_rounded_half_up() {
        let size = Size::new(801, 3);
        assert_eq!(scaled(size, 120), size);
        // 1001.25 and 3.75; 1201.5 and 4.5.
        assert_eq!(scaled(size, 150), Size::new(1001, 4));
        assert_eq!(scaled(size, 180), Size::new(1202, 5));
        assert_eq!(scaled(Size::new(0, 1), 30), Size::new(1, 1));
    }

    #[test]
    fn states_are_read_from_the_wire() {
        let wire: Vec<u8> = [1_u32, 4, 9, 77].iter().flat_map(|n| n.to_ne_bytes()).chain([1, 2]).collect();
        let all = States::MAXIMIZED.0 | States::ACTIVATED.0 | States::SUSPENDED.0;
        assert_eq!(states(&wire), States(all));
    }

    #[test]
    fn edges_and_corners_have_their_names() {
        assert_eq!(edge(Edges::TOP.with(Edges::LEFT)), ResizeEdge::TopLeft);
        assert_eq!(edge(Edges::BOTTOM.with(Edges::RIGHT)), ResizeEdge::BottomRight);
        assert_eq!(edge(Edges::RIGHT), ResizeEdge::Right);
        assert_eq!(edge(Edges(0)), ResizeEdge::None);
    }
}
