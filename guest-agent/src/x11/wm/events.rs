//! What X clients do, as the server tells the window manager.

use inlay_protocol::display::{Act, Edges, States};
use inlay_protocol::geometry::{Point, Rect};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigWindow, ConfigureNotifyEvent, ConfigureRequestEvent,
    ConfigureWindowAux, ConnectionExt as _, MapRequestEvent,
};

use super::window::{self, Part};
use super::{Association, Fault, News, Wm, Xid};

fn rect(x: i16, y: i16, width: u16, height: u16) -> Rect {
    Rect::new(x.into(), y.into(), width.into(), height.into())
}

impl Wm {
    /// Takes an event: selections see it first, as they have windows of their own.
    pub(super) fn take(&mut self, event: Event) -> Result<(), Fault> {
        if let Event::XfixesSelectionNotify(e) = &event
            && e.selection == self.xdnd.XdndSelection
        {
            self.drag_owner_changed(e);
            return Ok(());
        }
        self.selections.event(&self.c, &event)?;
        self.event(event)
    }

    fn event(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::CreateNotify(e) if e.parent == self.root => {
                self.follow(e.window, e.override_redirect, rect(e.x, e.y, e.width, e.height))
            }
            Event::DestroyNotify(e) => self.forget(e.window),
            Event::ReparentNotify(e) if e.parent == self.root => {
                let size = self.c.get_geometry(e.window)?.reply();
                let (width, height) = size.map_or((1, 1), |g| (g.width, g.height));
                self.follow(e.window, e.override_redirect, rect(e.x, e.y, width, height))
            }
            Event::ReparentNotify(e) => self.forget(e.window),
            Event::MapRequest(e) => self.map(e),
            Event::MapNotify(e) => {
                if let Some(entry) = self.windows.get_mut(&e.window) {
                    entry.mapped = true;
                    entry.dirty = true;
                    entry.window.override_redirect = e.override_redirect;
                }
                Ok(())
            }
            Event::UnmapNotify(e) if e.event == self.root || e.window == e.event => {
                self.unmapped(e.window)?;
                // ICCCM 4.1.4: withdrawn windows have no state.
                self.c.delete_property(e.window, self.atoms.WM_STATE)?;
                self.c.delete_property(e.window, self.atoms._NET_WM_STATE)?;
                Ok(())
            }
            Event::ConfigureRequest(e) => self.configure_asked(&e),
            Event::ConfigureNotify(e) => {
                self.configured(&e);
                Ok(())
            }
            Event::PropertyNotify(e) => {
                self.time = e.time;
                if let Some(part) = Part::of(e.atom, &self.atoms)
                    && let Some(entry) = self.windows.get_mut(&e.window)
                {
                    entry.stale.insert(part);
                }
                Ok(())
            }
            Event::ShapeNotify(e) => {
                if let Some(entry) = self.windows.get_mut(&e.affected_window) {
                    entry.stale.insert(Part::Shape);
                }
                Ok(())
            }
            Event::ClientMessage(e) => self.message(&e),
            Event::Error(error) => {
                // A window may be gone before a request about it arrives.
                tracing::trace!(?error, "X error");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A client maps a managed window: its states are read now, as nobody tells them again.
    fn map(&mut self, e: MapRequestEvent) -> Result<(), Fault> {
        let a = self.atoms;
        let states = self.c.get_property(false, e.window, a._NET_WM_STATE, AtomEnum::ATOM, 0, 64)?.reply();
        let states: Vec<u32> =
            states.ok().and_then(|r| r.value32().map(Iterator::collect)).unwrap_or_default();
        if let Some(entry) = self.windows.get_mut(&e.window) {
            entry.window.modal = states.contains(&a._NET_WM_STATE_MODAL);
            entry.window.attention = states.contains(&a._NET_WM_STATE_DEMANDS_ATTENTION);
            let first = window::states(&states, &a);
            if first.contains(States::MAXIMIZED) {
                self.news.push(News::Act(e.window, Act::Maximize));
            }
            if first.contains(States::FULLSCREEN) {
                self.news.push(News::Act(e.window, Act::Fullscreen));
            }
            if !self.clients.contains(&e.window) {
                self.clients.push(e.window);
            }
            self.list_clients()?;
        }
        // NormalState, and no icon window.
        self.set(e.window, a.WM_STATE, a.WM_STATE, &[1, x11rb::NONE])?;
        self.set(e.window, a._NET_FRAME_EXTENTS, AtomEnum::CARDINAL, &[0; 4])?;
        self.c.configure_window(e.window, &ConfigureWindowAux::new().border_width(0))?;
        self.c.map_window(e.window)?;
        Ok(())
    }

    /// A client wants its window elsewhere or of another size. The place of a mapped window is the host's; its size too where
    /// it is maximised or full screen.
    fn configure_asked(&mut self, e: &ConfigureRequestEvent) -> Result<(), Fault> {
        let has = |bit: ConfigWindow| u16::from(e.value_mask) & u16::from(bit) != 0;
        let Some(entry) = self.windows.get(&e.window) else {
            self.c.configure_window(e.window, &ConfigureWindowAux::from_configure_request(e))?;
            return Ok(());
        };
        let held = entry.states.contains(States::MAXIMIZED) || entry.states.contains(States::FULLSCREEN);
        let (may_move, may_resize) = (!entry.mapped, !(entry.mapped && held));
        let Rect { width, height, .. } = entry.window.place;
        let mut aux = ConfigureWindowAux::new();
        if may_move {
            aux.x = has(ConfigWindow::X).then_some(e.x.into());
            aux.y = has(ConfigWindow::Y).then_some(e.y.into());
        }
        if may_resize {
            aux.width = has(ConfigWindow::WIDTH).then_some(e.width.into());
            aux.height = has(ConfigWindow::HEIGHT).then_some(e.height.into());
        }
        let stays = aux.width.is_none_or(|w| w == width) && aux.height.is_none_or(|h| h == height);
        if entry.mapped && stays {
            // ICCCM 4.1.5: a request that changes nothing is answered all the same.
            return self.repeat_place(e.window);
        }
        self.c.configure_window(e.window, &aux.border_width(0))?;
        Ok(())
    }

    fn configured(&mut self, e: &ConfigureNotifyEvent) {
        if let Some(entry) = self.windows.get_mut(&e.window) {
            let place = rect(e.x, e.y, e.width, e.height);
            entry.dirty |= entry.window.place != place;
            entry.window.place = place;
            entry.window.override_redirect = e.override_redirect;
        }
    }

    fn message(&mut self, e: &ClientMessageEvent) -> Result<(), Fault> {
        if e.format != 32 || self.source_says(e)? {
            return Ok(());
        }
        if let Some(answer) = self.source.message(&self.c, e)? {
            return self.drag_answered(Some(answer));
        }
        let a = self.atoms;
        let data = e.data.as_data32();
        match e.type_ {
            t if t == a.WL_SURFACE_SERIAL => {
                let serial = u64::from(data[0]) | u64::from(data[1]) << 32;
                self.associate(e.window, Association::Serial(serial));
            }
            t if t == a.WL_SURFACE_ID => self.associate(e.window, Association::Id(data[0])),
            t if t == a._NET_WM_STATE => return self.state_asked(e.window, data),
            t if t == a._NET_WM_MOVERESIZE => {
                if let Some(act) = drag(data[2]) {
                    self.news.push(News::Act(e.window, act));
                }
            }
            t if t == a._GTK_SHOW_WINDOW_MENU => {
                if let Some(entry) = self.windows.get(&e.window) {
                    let place = entry.window.place;
                    let [x, y] = [data[1], data[2]].map(|v| i32::try_from(v).unwrap_or(0));
                    let at = Point::new(x.saturating_sub(place.x), y.saturating_sub(place.y));
                    self.news.push(News::Act(e.window, Act::WindowMenu(at)));
                }
            }
            t if t == a._NET_ACTIVE_WINDOW => {
                // The focus is the host's: an app may ask for the user's attention.
                if let Some(entry) = self.windows.get_mut(&e.window).filter(|_| self.focus != Some(e.window))
                {
                    entry.window.attention = true;
                    entry.dirty = true;
                }
            }
            t if t == a._NET_CLOSE_WINDOW => self.news.push(News::CloseAsked(e.window)),
            // IconicState.
            t if t == a.WM_CHANGE_STATE && data[0] == 3 => self.news.push(News::Act(e.window, Act::Minimize)),
            t if t == a._NET_REQUEST_FRAME_EXTENTS => {
                self.set(e.window, a._NET_FRAME_EXTENTS, AtomEnum::CARDINAL, &[0; 4])?;
            }
            t if t == a.WM_PROTOCOLS && e.window == self.root && data[0] == a._NET_WM_PING => {
                self.news.push(News::Pong(data[2], data[1]));
            }
            _ => {}
        }
        Ok(())
    }

    fn associate(&mut self, id: Xid, surface: Association) {
        if let Some(entry) = self.windows.get_mut(&id) {
            entry.window.surface = Some(surface);
            entry.dirty = true;
        }
    }

    /// `_NET_WM_STATE`: what the host decides is asked of it, the rest is noted.
    fn state_asked(&mut self, id: Xid, data: [u32; 5]) -> Result<(), Fault> {
        let a = self.atoms;
        let Some(entry) = self.windows.get_mut(&id) else { return Ok(()) };
        let wanted = |now: bool| match data[0] {
            0 => false,
            1 => true,
            _ => !now,
        };
        for atom in [data[1], data[2]] {
            if atom == a._NET_WM_STATE_FULLSCREEN {
                let on = wanted(entry.states.contains(States::FULLSCREEN));
                self.news.push(News::Act(id, if on { Act::Fullscreen } else { Act::Unfullscreen }));
            } else if atom == a._NET_WM_STATE_MODAL {
                entry.window.modal = wanted(entry.window.modal);
                entry.dirty = true;
            } else if atom == a._NET_WM_STATE_DEMANDS_ATTENTION {
                entry.window.attention = wanted(entry.window.attention) && self.focus != Some(id);
                entry.dirty = true;
            }
        }
        // One of the two alone is a state that the protocol does not have.
        if [data[1], data[2]].contains(&a._NET_WM_STATE_MAXIMIZED_VERT)
            && [data[1], data[2]].contains(&a._NET_WM_STATE_MAXIMIZED_HORZ)
        {
            let on = wanted(entry.states.contains(States::MAXIMIZED));
            self.news.push(News::Act(id, if on { Act::Maximize } else { Act::Unmaximize }));
        }
        self.write_states(id)
    }
}

/// The meaning of a direction of `_NET_WM_MOVERESIZE`; by keyboard (9, 10) and cancel (11) have none here.
fn drag(direction: u32) -> Option<Act> {
    let [top, bottom, left, right] = [Edges::TOP, Edges::BOTTOM, Edges::LEFT, Edges::RIGHT];
    let edges =
        [top.with(left), top, top.with(right), right, bottom.with(right), bottom, bottom.with(left), left];
    match direction {
        8 => Some(Act::Move),
        edge => edges.get(usize::try_from(edge).ok()?).copied().map(Act::Resize),
    }
}
