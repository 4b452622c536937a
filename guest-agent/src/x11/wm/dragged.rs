//! Something that an X11 app drags: the target's side (XDND 5), by a window without content that lies above all others and stands for
//! whoever else is there.
//!
//! Each position is answered at once, with what the drag's target said last; another answer is sent when it comes.

use inlay_exchange::x11::xdnd;
use inlay_protocol::selection::Actions;
use x11rb::protocol::xfixes::SelectionNotifyEvent;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux, EventMask,
    StackMode, WindowClass,
};

use super::{Fault, News, Wm, Xid};

/// Larger than any screen.
const EVERYWHERE: u16 = 32_767;

/// What an app does that drags something.
#[derive(Debug)]
pub enum Dragging {
    /// It owns what is dragged, by this window.
    Owned(Xid),
    /// It does so no more.
    Gone,
    /// It has it over the window that stands for others: what it can be had as, and what it allows.
    Entered(Vec<String>, Actions),
    /// It has it there no more, or dropped it.
    Left,
    /// It was told all that was ordered before [`super::Order::LetGo`].
    Told,
}

/// The window that stands for others.
#[derive(Debug)]
pub struct Cover {
    window: Xid,
    /// The app's window that talks to it, and what it can give.
    source: Option<(Xid, Vec<String>)>,
    /// The agent was told.
    told: bool,
    /// What would become of it.
    action: Actions,
}

impl Cover {
    /// Makes the window, which is not shown yet.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn new(
        c: &x11rb::rust_connection::RustConnection,
        root: Xid,
        atoms: &xdnd::Atoms,
    ) -> Result<Self, Fault> {
        use x11rb::connection::Connection as _;
        use x11rb::wrapper::ConnectionExt as _;
        let window = c.generate_id()?;
        let aux = CreateWindowAux::new().override_redirect(1);
        let (only, copy) = (WindowClass::INPUT_ONLY, x11rb::COPY_FROM_PARENT);
        c.create_window(0, window, root, 0, 0, EVERYWHERE, EVERYWHERE, 0, only, copy, &aux)?;
        let (replace, kind) = (x11rb::protocol::xproto::PropMode::REPLACE, AtomEnum::ATOM);
        c.change_property32(replace, window, atoms.XdndAware, kind, &[xdnd::VERSION])?;
        Ok(Self { window, source: None, told: false, action: Actions::NONE })
    }
}

impl Wm {
    /// Another owns what is dragged.
    pub(super) fn drag_owner_changed(&mut self, e: &SelectionNotifyEvent) {
        use x11rb::connection::Connection as _;
        let is_ours = e.owner & !self.c.setup().resource_id_mask == self.c.setup().resource_id_base;
        self.news.push(News::Dragging(match e.owner {
            x11rb::NONE => Dragging::Gone,
            _ if is_ours => return,
            owner => Dragging::Owned(owner),
        }));
    }

    /// Shows the window that stands for others, or takes it away.
    pub(super) fn cover(&mut self, on: bool) -> Result<(), Fault> {
        if on {
            let above = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
            self.c.configure_window(self.cover.window, &above)?;
            self.c.map_window(self.cover.window)?;
            (self.cover.source, self.cover.action) = (None, Actions::NONE);
        } else {
            self.c.unmap_window(self.cover.window)?;
        }
        Ok(())
    }

    /// What the drag's target would do.
    pub(super) fn drag_status(&mut self, action: Actions) -> Result<(), Fault> {
        self.cover.action = action;
        self.answer_source()
    }

    /// What became of what was dropped.
    pub(super) fn drag_finished(&mut self, action: Actions) -> Result<(), Fault> {
        let Some((source, _)) = self.cover.source.take() else { return Ok(()) };
        Ok(xdnd::finish(&self.c, &self.xdnd, (source, self.cover.window), action)?)
    }

    /// Waits until the server has handed on all that the app was told.
    pub(super) fn let_go(&mut self) -> Result<(), Fault> {
        self.c.get_input_focus()?.reply()?;
        self.news.push(News::Dragging(Dragging::Told));
        Ok(())
    }

    fn answer_source(&self) -> Result<(), Fault> {
        let Cover { window, source: Some((source, _)), action, .. } = &self.cover else { return Ok(()) };
        // Positions are wanted everywhere.
        let flags = u32::from(!action.is_empty()) | 2;
        let data = [*window, flags, 0, 0, self.xdnd.of_action(*action)];
        let message = ClientMessageEvent::new(32, *source, self.xdnd.XdndStatus, data);
        self.c.send_event(false, *source, EventMask::NO_EVENT, message)?;
        Ok(())
    }

    /// Takes what an app says to the window; `false` for other messages.
    pub(super) fn source_says(&mut self, e: &ClientMessageEvent) -> Result<bool, Fault> {
        if e.window != self.cover.window || e.format != 32 {
            return Ok(false);
        }
        let a = self.xdnd;
        let data = e.data.as_data32();
        if e.type_ == a.XdndEnter {
            let names = xdnd::types(&self.c, &a, data)?;
            self.selections.dragged(&self.c, names.clone())?;
            (self.cover.source, self.cover.told) = (Some((data[0], names)), false);
            return Ok(true);
        }
        let Some((source, names)) = self.cover.source.clone().filter(|(source, _)| *source == data[0]) else {
            return Ok(true);
        };
        match e.type_ {
            kind if kind == a.XdndPosition => {
                self.selections.drag_moved(data[3]);
                if !std::mem::replace(&mut self.cover.told, true) {
                    let actions = a.allowed(&self.c, source, data[4])?;
                    self.news.push(News::Dragging(Dragging::Entered(names, actions)));
                }
                self.answer_source()?;
            }
            kind if kind == a.XdndLeave => {
                self.cover.source = None;
                self.news.push(News::Dragging(Dragging::Left));
            }
            kind if kind == a.XdndDrop => {
                // Its end is told to this window.
                self.selections.drag_moved(data[2]);
                self.news.push(News::Dragging(Dragging::Left));
                if self.cover.action.is_empty() {
                    // Nobody takes it.
                    self.drag_finished(Actions::NONE)?;
                }
            }
            _ => {}
        }
        Ok(true)
    }
}
