//! Toplevels and popups of the agent: their windows open with the first content and close with the last.

use std::time::{Duration, Instant};

use inlay_protocol::display::{Act, Constraint, Event, Place, Popup, States, SurfaceId, Toplevel};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;

use super::{Session, SessionError, Tools};
use crate::windows::presenter::{Announce, Announced, Presenter};
use crate::windows::window::{self, Pace, Role, Stale, Told, Window};
use crate::windows::{dialogs, placement};

/// Toplevels open at once: more than anybody handles, and few enough for the desktop.
const TOPLEVELS: usize = 256;
/// Popups open at once.
const POPUPS: usize = 32;
/// Windows announced to a desktop that decides between two times that it is told how windows look.
pub(super) const ANNOUNCED: u32 = 16;
/// Acts on windows within a time: each one makes the window manager work.
const ACTS: u32 = 32;
const ACT_TIME: Duration = Duration::from_millis(250);

impl Session {
    pub(super) fn open(
        &mut self,
        root: SurfaceId,
        size: Size,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        self.default_icons(root, tools);
        let look = self.look_of(root);
        let Some(window) = self.windows.get(&root) else { return Ok(()) };
        if window.told != Told::Decided {
            // It opens when the desktop has decided about it.
            return Ok(());
        }
        let states = self.early.remove(&root).unwrap_or_default();
        let size = Self::fitting(window.fixed().map_or(size, Rect::size), tools.presenter);
        let opened = match (&window.role, look) {
            (Role::Toplevel(_), None) => return Ok(()),
            (Role::Toplevel(_), Some(_)) if self.toplevels() >= TOPLEVELS => {
                return self.tell(&Event::Close { surface: root });
            }
            (Role::Toplevel(_), Some(look)) => {
                tools.presenter.open_toplevel(root, &look, size, states, tools.renderer)
            }
            (Role::Popup(popup, area), _) => {
                if !self.is_open(popup.parent) || self.popups().count() >= POPUPS {
                    return self.tell(&Event::PopupDone { surface: root });
                }
                let area = Rect { width: size.width, height: size.height, ..*area };
                tools.presenter.open_popup(root, window::popup_look(popup, area), tools.renderer)
            }
        };
        self.serial = self.serial.wrapping_add(1);
        match opened {
            Ok(target) => {
                if let Some(window) = self.windows.get_mut(&root) {
                    window.target = Some(target);
                    window.size = size;
                    window.dirty = true;
                    window.opened = self.serial;
                    let (icons, shape) = (!window.icons.is_empty(), window.shape.is_some());
                    window.stale = Stale { look: false, icons, shape };
                }
                self.restyle_children(root);
                // Before it is shown: no tick draws outside of its outline.
                self.restyle(tools.presenter);
            }
            Err(error) => {
                tracing::warn!("a window cannot be opened: {error:#}");
                return match self.windows.get(&root).map(|w| &w.role) {
                    Some(Role::Popup(..)) => self.tell(&Event::PopupDone { surface: root }),
                    _ => Ok(()),
                };
            }
        }
        self.grab_changed(tools.presenter)
    }

    pub(super) fn is_open(&self, surface: SurfaceId) -> bool {
        self.windows.get(&surface).is_some_and(Window::is_open)
    }

    pub(super) fn close_window(&mut self, root: SurfaceId, tools: &mut Tools<'_>) {
        let Some(window) = self.windows.get_mut(&root) else { return };
        // Taken first: whatever popups name each other as parents, each window is closed once.
        let target = window.target.take();
        if !std::mem::take(&mut window.told).is_known() && target.is_none() {
            return;
        }
        window.pace = Pace::Free;
        window.misfit_since = None;
        window.ping = None;
        window.forget_configured();
        window.wish = window::Wish::default();
        self.places.remove(&root);
        self.restyle_children(root);
        // Popups of it go before it: they are drawn in relation to it.
        let children = self.windows.keys().copied().filter(|p| self.is_child(*p, root));
        for child in children.collect::<Vec<_>>() {
            self.close_window(child, tools);
        }
        drop(target);
        tools.dialogs.stop(root);
        tools.presenter.close(root);
    }

    fn is_child(&self, popup: SurfaceId, of: SurfaceId) -> bool {
        matches!(self.windows.get(&popup).map(|w| &w.role), Some(Role::Popup(p, _)) if p.parent == of)
    }

    /// Open popups, in the order of their ids.
    pub(super) fn popups(&self) -> impl Iterator<Item = SurfaceId> {
        let open = self.windows.iter().filter(|(_, w)| w.is_open() && matches!(w.role, Role::Popup(..)));
        open.map(|(id, _)| *id)
    }

    fn toplevels(&self) -> usize {
        self.windows.values().filter(|w| w.is_open() && matches!(w.role, Role::Toplevel(_))).count()
    }

    /// A size that the host has room for: no larger than its largest monitor.
    pub(super) fn fitting(size: Size, presenter: &dyn Presenter) -> Size {
        let outputs = presenter.outputs();
        let most = |side: fn(Rect) -> u32| outputs.iter().map(|o| side(o.area)).max().unwrap_or(u32::MAX);
        Size::new(size.width.min(most(|a| a.width)), size.height.min(most(|a| a.height)))
    }

    pub(super) fn drop_window(&mut self, surface: SurfaceId, tools: &mut Tools<'_>) {
        self.close_window(surface, tools);
        self.early.remove(&surface);
        if self.windows.remove(&surface).is_some()
            && let Err(error) = self.grab_changed(tools.presenter)
        {
            tracing::debug!("focus after a closed window: {error}");
        }
    }

    /// Closes all windows: the agent is gone.
    pub fn end(mut self, tools: &mut Tools<'_>) -> usize {
        let toplevels = self.toplevels();
        // Those as well that are announced only.
        for id in self.windows.keys().copied().collect::<Vec<_>>() {
            self.close_window(id, tools);
        }
        tools.presenter.watch_clicks(None);
        tools.presenter.flush();
        toplevels
    }

    pub(super) fn toplevel(
        &mut self,
        toplevel: Toplevel,
        presenter: &mut dyn Presenter,
    ) -> Result<(), SessionError> {
        let surface = toplevel.surface;
        if self.windows.len() >= limits::SURFACES {
            return Err(SessionError::Nonsense("too many windows"));
        }
        if surface.0 >= dialogs::FIRST {
            return Err(SessionError::Nonsense("a window with an id of the host's own"));
        }
        if toplevel.parent == Some(surface) {
            return Err(SessionError::Nonsense("a toplevel that is its own parent"));
        }
        match self.windows.get_mut(&surface) {
            Some(Window { role: Role::Popup(..), .. }) => {
                return Err(SessionError::Nonsense("a popup that becomes a toplevel"));
            }
            Some(window) => {
                window.role = Role::Toplevel(toplevel);
                window.stale.look = true;
                // Its children may be in a circle no more, or now.
                self.restyle_children(surface);
            }
            None => {
                self.windows.insert(surface, Window::announced(Role::Toplevel(toplevel)));
            }
        }
        self.announce(surface, presenter)
    }

    /// Tells the desktop of a window that is to come, as soon as it can be told.
    fn announce(&mut self, surface: SurfaceId, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let look = self.look_of(surface);
        let states = self.early.get(&surface).copied().unwrap_or_default();
        let Some(window) = self.windows.get(&surface).filter(|w| w.told == Told::Nothing) else {
            return Ok(());
        };
        if self.decides && self.told.1 >= ANNOUNCED {
            // With the next tick.
            return Ok(());
        }
        let popup = matches!(window.role, Role::Popup(..));
        let alike = |w: &&Window| w.told.is_known() && matches!(w.role, Role::Popup(..)) == popup;
        let full = self.windows.values().filter(alike).count() >= if popup { POPUPS } else { TOPLEVELS };
        let what = match (&window.role, &look) {
            (Role::Popup(popup, _), _) => Announce::Popup(popup),
            (Role::Toplevel(_), Some(look)) => Announce::Toplevel { look, states },
            (Role::Toplevel(_), None) => return Ok(()),
        };
        let told = if full && self.decides { None } else { Some(presenter.announce(surface, what)) };
        self.told.1 += u32::from(told == Some(Announced::Waits));
        if let Some(window) = self.windows.get_mut(&surface) {
            window.told = match told {
                Some(Announced::NotYet) => Told::Nothing,
                Some(Announced::Free) => Told::Decided,
                Some(Announced::Waits) => Told::Announced,
                None => Told::Refused,
            };
        }
        match told {
            None if popup => self.tell(&Event::PopupDone { surface }),
            None => self.tell(&Event::Close { surface }),
            Some(_) => Ok(()),
        }
    }

    /// Announces what could not be announced so far.
    pub(super) fn announce_all(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let new = self.windows.iter().filter(|(_, w)| w.told == Told::Nothing).map(|(id, _)| *id);
        for id in new.collect::<Vec<_>>() {
            self.announce(id, presenter)?;
        }
        Ok(())
    }

    /// Opens a window that had content before the desktop decided about it.
    pub(super) fn open_late(&mut self, id: SurfaceId, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let content = self.scene.get(id).filter(|content| content.is_mapped());
        match content.map(|content| content.geometry().size()).filter(|size| !size.is_empty()) {
            Some(size) if self.windows.get(&id).is_some_and(|w| w.told == Told::Decided && !w.is_open()) => {
                self.open(id, size, tools)
            }
            _ => Ok(()),
        }
    }

    /// The desktop found a place for a popup.
    pub(super) fn placed(
        &mut self,
        surface: SurfaceId,
        area: Rect,
        reposition: Option<u32>,
    ) -> Result<(), SessionError> {
        let Some(window) = self.windows.get_mut(&surface) else { return Ok(()) };
        let Role::Popup(_, place) = &mut window.role else { return Ok(()) };
        *place = area;
        window.told = Told::Decided;
        self.configure_popup(surface, area, reposition)
    }

    fn configure_popup(
        &mut self,
        surface: SurfaceId,
        area: Rect,
        reposition: Option<u32>,
    ) -> Result<(), SessionError> {
        self.serial = self.serial.wrapping_add(1);
        self.tell(&Event::ConfigurePopup { surface, serial: self.serial, area, reposition })
    }

    /// Where a popup goes, relative to its parent's window geometry.
    fn place_of(&self, popup: &Popup, presenter: &mut dyn Presenter) -> Rect {
        let origin = presenter.origin(popup.parent);
        let parent = self.windows.get(&popup.parent).map(|w| w.size).unwrap_or_default();
        let outputs = presenter.outputs();
        let around = Rect::of_size(parent).translated(origin);
        let edge = presenter.border().map_or(0, |border| border.width);
        let monitor = placement::relative(placement::monitor(outputs, around), origin).shrunk(edge);
        match &popup.place {
            Place::Positioner(positioner) => placement::place(positioner, monitor),
            Place::Fixed(area) => {
                let Size { width, height } = Self::fitting(area.size(), presenter);
                let monitors = outputs.iter().map(|o| placement::relative(o.area, origin));
                placement::fixed(Rect { width, height, ..*area }, monitors, monitor)
            }
        }
    }

    pub(super) fn popup(&mut self, popup: Popup, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let surface = popup.surface;
        if self.windows.len() >= limits::SURFACES {
            return Err(SessionError::Nonsense("too many windows"));
        }
        if surface.0 >= dialogs::FIRST {
            return Err(SessionError::Nonsense("a window with an id of the host's own"));
        }
        if tools.dialogs.asks_permission() && !self.windows.contains_key(&surface) {
            // Nothing of the guest lies above a question of the host.
            return self.tell(&Event::PopupDone { surface });
        }
        if self.toplevel_of(popup.parent).is_none() || popup.parent == surface {
            // The parent went at the same moment; the app is told to take the popup back.
            return self.tell(&Event::PopupDone { surface });
        }
        let decides = tools.presenter.decides();
        let mut area = self.place_of(&popup, tools.presenter);
        let reposition = popup.reposition;
        if let Some(Window { role: Role::Popup(before, at), .. }) = self.windows.get(&surface) {
            if before.parent != popup.parent {
                return Err(SessionError::Nonsense("a popup that changes its parent"));
            }
            if decides {
                (area.x, area.y) = (at.x, at.y);
            }
        }
        match self.windows.get_mut(&surface) {
            Some(Window { role: Role::Toplevel(_), .. }) => {
                return Err(SessionError::Nonsense("a toplevel that becomes a popup"));
            }
            Some(window) => {
                window.role = Role::Popup(popup, area);
                window.stale.look = true;
                if window.fixed().is_some() && window.size != area.size() {
                    window.size = area.size();
                    window.dirty = true;
                }
            }
            None => {
                self.windows.insert(surface, Window::announced(Role::Popup(popup, area)));
            }
        }
        self.announce(surface, tools.presenter)?;
        if decides { Ok(()) } else { self.configure_popup(surface, area, reposition) }
    }

    /// The toplevel that a popup hangs on; itself for a toplevel.
    pub(super) fn toplevel_of(&self, surface: SurfaceId) -> Option<SurfaceId> {
        let mut at = surface;
        for _ in 0..limits::TREE_DEPTH {
            match &self.windows.get(&at)?.role {
                Role::Toplevel(_) => return Some(at),
                Role::Popup(popup, _) => at = popup.parent,
            }
        }
        None
    }

    /// Whether the desktop may be bothered once more at this time.
    fn may_act(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.acts.0) >= ACT_TIME {
            self.acts = (now, 0);
        }
        self.acts.1 += 1;
        if self.acts.1 == ACTS + 1 {
            tracing::warn!("the agent has windows moved and resized too often");
        }
        self.acts.1 <= ACTS
    }

    /// The pointer is to be held in a window, as the desktop sees fit.
    pub(super) fn constrain(&mut self, surface: SurfaceId, how: Option<Constraint>, tools: &mut Tools<'_>) {
        if self.is_open(surface) && (how.is_none() || self.may_act()) {
            tools.presenter.constrain(surface, how);
        }
    }

    pub(super) fn act(&mut self, surface: SurfaceId, act: Act, tools: &mut Tools<'_>) {
        let open = self.is_open(surface);
        if (open || self.decides) && self.may_act() {
            tools.presenter.act(surface, act);
        }
        if !open && self.windows.contains_key(&surface) {
            let early = self.early.entry(surface).or_default();
            *early = match act {
                Act::Maximize => early.set(States::MAXIMIZED, true),
                Act::Unmaximize => early.set(States::MAXIMIZED, false),
                Act::Fullscreen => early.set(States::FULLSCREEN, true),
                Act::Unfullscreen => early.set(States::FULLSCREEN, false),
                Act::Move | Act::Resize(_) | Act::WindowMenu(_) | Act::Minimize | Act::Activate => *early,
            };
        }
    }
}
