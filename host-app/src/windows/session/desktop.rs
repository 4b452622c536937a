//! Input path, hop 2 of 4: what the desktop tells, aimed at the right surface.

use std::time::Instant;

use inlay_protocol::display::{Event, States, SurfaceId};
use inlay_protocol::geometry::Rect;
use inlay_protocol::input::{InputEvent, Modifiers};

use super::{News, Session, SessionError, Tools};
use crate::windows::placement;
use crate::windows::presenter::{HostEvent, Presenter};
use crate::windows::window::{Pace, Role, Told};

impl Session {
    /// Follows what the desktop tells.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn host_event(&mut self, event: HostEvent, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        match event {
            HostEvent::Configured { window, size, states } => {
                tracing::debug!(window = window.0, ?size, ?states, "the desktop decided");
                let decides = tools.presenter.decides();
                if let Some(w) = self.windows.get_mut(&window) {
                    let activated = if decides { states } else { w.wish.states }.contains(States::ACTIVATED);
                    w.wish.states = states.set(States::ACTIVATED, activated);
                    w.told = Told::Decided;
                    let same = w.size == size;
                    if !decides {
                        w.dirty |= !same;
                        w.size = size;
                    }
                    let content = self.scene.get(window).map(|s| s.geometry().size());
                    if size.is_empty() && !w.is_open() && w.wish.size.is_some() {
                        // It was open before, elsewhere.
                    } else if content != Some(size) || w.wish.size.is_some() {
                        w.wish.size = (!size.is_empty()).then_some(size);
                    }
                    if decides || !same {
                        w.misfit_since = None;
                    }
                    // Where nothing is asked of the app, this alone answers.
                    w.dirty |= decides && !w.has_news();
                    if let Some(content) = content.filter(|_| !decides && w.is_open() && !w.has_news()) {
                        // The app is told nothing new, so what it drew stays its answer.
                        self.fit(window, content, Instant::now(), &*tools.presenter);
                    }
                }
                self.find_monitors(window, tools.presenter)?;
                self.open_late(window, tools)?;
            }
            HostEvent::Placed { window, area, reposition } => {
                self.placed(window, area, reposition)?;
                self.open_late(window, tools)?;
            }
            HostEvent::Ready { window } => {
                let pace = self.windows.get_mut(&window).map(|w| std::mem::take(&mut w.pace));
                if pace == Some(Pace::Starved) {
                    return self.host_event(HostEvent::Visible { window, visible: true, shown: true }, tools);
                }
            }
            HostEvent::Visible { window, visible, shown } => self.seen(window, visible, shown, tools)?,
            HostEvent::Shown { window, outputs, scale_120 } => self.shown(window, outputs, scale_120)?,
            HostEvent::ShortcutsInhibited { window, inhibited } => {
                self.tell(&Event::ShortcutsInhibited { surface: window, inhibited })?;
            }
            HostEvent::Constrained { window, held } => {
                self.tell(&Event::Constrained { surface: window, held })?;
            }
            HostEvent::Exposed { window } => {
                if let Some(w) = self.windows.get_mut(&window) {
                    w.dirty = true;
                }
            }
            HostEvent::Destroyed { window } => {
                let popup = matches!(self.windows.get(&window).map(|w| &w.role), Some(Role::Popup(..)));
                if popup {
                    self.dismiss(window, tools)?;
                } else {
                    self.close_window(window, tools);
                    self.tell(&Event::Close { surface: window })?;
                }
                self.grab_changed(tools.presenter)?;
            }
            HostEvent::Close { window } => self.close_asked(window)?,
            HostEvent::Answer { window, force } => self.answered(window, force)?,
            HostEvent::Drag(dragged) => self.dragged(dragged, tools)?,
            // The guest's screen's.
            HostEvent::Menu { .. } => {}
            HostEvent::Permitted { question, answer } => self.permitted(question, answer, tools)?,
            HostEvent::Moved { window, at } => {
                if self.is_open(window) && self.places.insert(window, at) != Some(at) {
                    self.tell(&Event::Place { surface: window, at })?;
                    self.find_monitors(window, tools.presenter)?;
                }
            }
            HostEvent::Focus { window, keys, modifiers } => {
                if window.is_none() && !tools.presenter.decides() {
                    self.dismiss_where(tools, |_, _| true)?;
                }
                for (id, w) in self.windows.iter_mut().filter(|_| !tools.presenter.decides()) {
                    w.wish.states = w.wish.states.set(States::ACTIVATED, Some(*id) == window);
                }
                self.focus.host(window, keys, modifiers);
                self.update_focus()?;
            }
            HostEvent::ClickOutside { window } => {
                // Those of the clicked toplevel are left to its app.
                let grabs: Vec<SurfaceId> = self.grabs();
                self.dismiss_where(tools, |this, popup| {
                    grabs.contains(&popup) && (window.is_none() || this.toplevel_of(popup) != window)
                })?;
            }
            HostEvent::Input(input) => self.input(input)?,
            HostEvent::Outputs => self.news.add(News::OUTPUTS),
            HostEvent::Keyboard => self.news.add(News::KEYBOARD),
        }
        self.configure_all(Instant::now())
    }

    /// Closes all windows, to be opened again on another desktop: their apps hear no more of it than that popups are over and that nobody
    /// looks at them.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn move_out(&mut self, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        self.dismiss_where(tools, |_, _| true)?;
        self.input(InputEvent::PointerLeave)?;
        self.focus.host(None, Vec::new(), Modifiers::default());
        self.update_focus()?;
        for id in self.windows.keys().copied().collect::<Vec<_>>() {
            let Some(window) = self.windows.get(&id) else { continue };
            let (open, size) = (window.is_open(), window.size);
            let states = States(window.wish.states.0 & (States::MAXIMIZED.0 | States::FULLSCREEN.0));
            self.close_window(id, tools);
            let Some(window) = self.windows.get_mut(&id) else { continue };
            (window.visible, window.shown) = (true, None);
            if open && states == States::default() {
                // It keeps its size where the desktop has no wish.
                window.wish.size = Some(size);
            } else if open {
                self.early.insert(id, states);
            }
        }
        Ok(())
    }

    /// Opens all windows on the desktop that there is now.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn move_in(&mut self, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        self.decides = tools.presenter.decides();
        self.news.add(News::OUTPUTS);
        self.news.add(News::CURSOR);
        self.announce_all(tools.presenter)?;
        for id in self.windows.keys().copied().collect::<Vec<_>>() {
            self.open_late(id, tools)?;
        }
        self.configure_all(Instant::now())?;
        self.flush()
    }

    /// A window can or cannot be seen.
    fn seen(
        &mut self,
        window: SurfaceId,
        visible: bool,
        shown: bool,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        if let Some(w) = self.windows.get_mut(&window) {
            w.dirty |= visible && !w.visible;
            w.visible = visible;
        }
        if visible {
            // What waited for it is drawn at once, all together.
            for surface in self.scene.waiting() {
                if self.scene.root(surface) == window {
                    self.advance(surface, Instant::now(), tools)?;
                }
            }
        }
        // One that is only covered, maybe by its own menu, keeps its popups.
        if !shown && self.windows.get(&window).is_some_and(|w| matches!(w.role, Role::Toplevel(_))) {
            self.dismiss_where(tools, |this, popup| this.toplevel_of(popup) == Some(window))?;
        }
        Ok(())
    }

    /// Tells an app where its window is, when that is new.
    fn shown(&mut self, window: SurfaceId, outputs: Vec<u8>, scale_120: u32) -> Result<(), SessionError> {
        let now = Some((outputs.clone(), scale_120));
        let Some(w) = self.windows.get_mut(&window).filter(|w| w.shown != now) else { return Ok(()) };
        w.shown = now;
        self.tell(&Event::Shown { surface: window, outputs, scale_120 })
    }

    /// Where the desktop only says places: the monitors that a toplevel is on, and the scale of the one that has most of it.
    fn find_monitors(&mut self, window: SurfaceId, presenter: &dyn Presenter) -> Result<(), SessionError> {
        let (Some(at), Some(w)) = (self.places.get(&window), self.windows.get(&window)) else {
            return Ok(());
        };
        if presenter.decides() {
            return Ok(());
        }
        let (area, outputs) = (Rect::of_size(w.size).translated(*at), presenter.outputs());
        let most = placement::monitor(outputs, area);
        let places = outputs.iter().enumerate().filter(|(_, o)| o.area.intersection(area).is_some());
        let on = places.filter_map(|(at, _)| u8::try_from(at).ok()).collect();
        match outputs.iter().find(|o| o.area == most) {
            Some(output) => self.shown(window, on, output.scale_120),
            None => Ok(()),
        }
    }

    /// Tells all apps again where their windows are: the list of monitors is another.
    pub(super) fn say_shown(&mut self, presenter: &dyn Presenter) -> Result<(), SessionError> {
        for (surface, shown) in self.windows.iter().map(|(id, w)| (*id, w.shown.clone())).collect::<Vec<_>>()
        {
            if let Some((outputs, scale_120)) = shown {
                self.tell(&Event::Shown { surface, outputs, scale_120 })?;
            }
            self.find_monitors(surface, presenter)?;
        }
        Ok(())
    }

    /// Dismisses popups. Their windows close at once, whatever the app does: an app must not keep the pointer, nor cover the
    /// desktop.
    pub(super) fn dismiss_where(
        &mut self,
        tools: &mut Tools<'_>,
        which: impl Fn(&Self, SurfaceId) -> bool,
    ) -> Result<(), SessionError> {
        let popups: Vec<SurfaceId> = self.popups().filter(|p| which(self, *p)).collect();
        for popup in popups.iter().rev() {
            self.dismiss(*popup, tools)?;
        }
        self.prompted &= popups.is_empty();
        self.grab_changed(tools.presenter)
    }

    /// Closes a popup's window for good and tells the app.
    fn dismiss(&mut self, popup: SurfaceId, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        self.close_window(popup, tools);
        self.windows.remove(&popup);
        self.tell(&Event::PopupDone { surface: popup })
    }

    /// Open popups that took a grab, oldest first. Only those of the focused toplevel count, and only after the user did
    /// something in it.
    fn grabs(&self) -> Vec<SurfaceId> {
        let focused = self.focus.window().filter(|_| self.prompted);
        let grab = |id: &SurfaceId| {
            let role = self.windows.get(id).map(|w| &w.role);
            matches!(role, Some(Role::Popup(p, _)) if p.grab) && self.toplevel_of(*id) == focused
        };
        let mut grabs: Vec<SurfaceId> = self.popups().filter(|id| focused.is_some() && grab(id)).collect();
        grabs.sort_by_key(|id| self.windows.get(id).map(|w| w.opened));
        grabs
    }

    pub(super) fn grab_changed(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        presenter.watch_clicks(self.grabs().last().and_then(|popup| self.toplevel_of(*popup)));
        self.update_focus()
    }

    /// Keys go to the newest popup with a grab in the focused toplevel, else to the toplevel.
    pub(super) fn update_focus(&mut self) -> Result<(), SessionError> {
        let focused = self.focus.window().filter(|f| self.is_open(*f));
        let target = self.grabs().last().copied().or(focused);
        if let Some(input) = self.focus.aim(target) {
            self.tell(&Event::Input(input))?;
        }
        Ok(())
    }

    pub(super) fn input(&mut self, mut input: InputEvent) -> Result<(), SessionError> {
        let pointed = match &input {
            InputEvent::PointerEnter { surface, .. } => Some(*surface),
            _ => self.focus.pointed(),
        };
        if let InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. } = &mut input
            && let Some(surface) = pointed.and_then(|s| self.scene.get(s))
        {
            let corner = surface.geometry();
            *x += f64::from(corner.x);
            *y += f64::from(corner.y);
        }
        if !self.focus.passes(&input) {
            return Ok(());
        }
        self.prompted |= matches!(
            input,
            InputEvent::Key { pressed: true, .. } | InputEvent::PointerButton { pressed: true, .. }
        );
        self.tell(&Event::Input(input))
    }
}
