//! The selections of the X server, on a connection of their own: an app that pastes much never delays input or frames. So is what is
//! said to apps that something of the guest is dragged over (XDND 5).

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use anyhow::Context;
use inlay_exchange::News;
use inlay_exchange::pipe::Pipe;
use inlay_exchange::x11::xdnd::{self, Answer};
use inlay_exchange::x11::{Fault, Selections};
use inlay_protocol::geometry::Point;
use inlay_protocol::selection::{Actions, Feedback, Selection};
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{EventMask, Timestamp, Window};
use x11rb::rust_connection::RustConnection;

/// Events of one turn.
const EVENTS: usize = 256;

/// The server's selections.
#[derive(Debug)]
pub struct Clipboards {
    connection: RustConnection,
    root: Window,
    selections: Selections,
    /// What the guest drags.
    source: xdnd::Source,
    /// What it can be had as, while there is something.
    dragged: Option<Vec<String>>,
    /// It is over a window of ours.
    own: bool,
    /// What the app under it would do.
    action: Actions,
    news: Vec<News>,
    /// The connection failed: nothing more happens.
    over: bool,
    /// There may be events that poll does not see.
    more: bool,
}

impl Clipboards {
    /// Connects to the display that `DISPLAY` names.
    ///
    /// # Errors
    /// When that fails, or the server lacks XFIXES.
    pub fn connect() -> anyhow::Result<Self> {
        let (connection, screen) = RustConnection::connect(None)?;
        let root = connection.setup().roots.get(screen).context("the display has no screen")?.root;
        let selections = Selections::new(&connection, root, EventMask::NO_EVENT)?;
        let window = inlay_exchange::x11::own_window(&connection, root)?;
        let source = xdnd::Source::new(xdnd::Atoms::new(&connection)?.reply()?, window);
        let (dragged, own, action) = (None, false, Actions::NONE);
        let news = Vec::new();
        Ok(Self {
            connection,
            root,
            selections,
            source,
            dragged,
            own,
            action,
            news,
            over: false,
            more: false,
        })
    }

    /// Something is dragged that can be had by these names.
    pub fn dragged(&mut self, names: Vec<String>) {
        let result = self.selections.dragged(&self.connection, names);
        self.asked(result);
    }

    /// Its source told this time.
    pub fn drag_moved(&mut self, time: u32) {
        self.selections.drag_moved(time);
    }

    /// The window that stands for the source of what the guest drags.
    pub fn drag_window(&self) -> Window {
        self.source.window()
    }

    /// What the app under it would do.
    pub fn drag_action(&self) -> Actions {
        self.action
    }

    /// The guest drags something, of these types that travel.
    pub fn drag_starts(&mut self, types: &[String], allowed: Actions) {
        // What is still to be told is of the drag before.
        self.news.clear();
        (self.dragged, self.own, self.action) = (Some(types.to_vec()), false, Actions::NONE);
        let c = &self.connection;
        let begun = self.selections.numbers(c, types).and_then(|list| self.source.begin(c, list, allowed));
        let result = begun.and_then(|()| self.selections.offer(c, Selection::Drag, types.to_vec()));
        self.asked(result);
    }

    /// The window at a place of the root window that can be dropped upon.
    pub fn drag_target(&mut self, at: Point) -> Option<Window> {
        let found = self.source.find(&self.connection, self.root, at);
        let target = found.as_ref().ok().copied().flatten();
        self.asked(found.map(drop));
        target
    }

    /// It moves over this window, one of ours or not.
    pub fn drag_to(
        &mut self,
        (target, own): (Option<Window>, bool),
        at: Point,
        time: Timestamp,
        wanted: Actions,
    ) {
        if self.source.target() != target {
            if std::mem::take(&mut self.action) != Actions::NONE {
                self.tell_drag(Feedback::Target { kind: None, action: Actions::NONE });
            }
            self.own = own;
        }
        let c = &self.connection;
        let result = self.source.over(c, target).and_then(|()| self.source.moved(c, at, time, wanted));
        self.asked(result);
    }

    /// The user lets go.
    pub fn drag_drops(&mut self, time: Timestamp) {
        let answer = self.source.dropped(&self.connection, time);
        let result = answer.and_then(|answer| answer.map_or(Ok(()), |answer| self.drag_answered(answer)));
        self.asked(result);
    }

    /// The user wants it no more.
    pub fn drag_ends(&mut self) {
        let result = self.source.over(&self.connection, None);
        let result = result.and_then(|()| self.drag_answered(Answer::Refused));
        self.asked(result);
    }

    /// The guest has it no more.
    pub fn drag_forgets(&mut self) {
        self.dragged = None;
        let result = self.source.over(&self.connection, None);
        let offered = self.selections.offer(&self.connection, Selection::Drag, Vec::new());
        self.asked(result.and(offered));
        self.news.retain(|news| !matches!(news, News::Drag { .. }));
    }

    fn tell_drag(&mut self, feedback: Feedback) {
        self.news.push(News::Drag { feedback, own: self.own });
    }

    /// The app under it answered.
    fn drag_answered(&mut self, answer: Answer) -> Result<(), Fault> {
        let Some(types) = &self.dragged else { return Ok(()) };
        let over = match answer {
            Answer::Status(action) => {
                if std::mem::replace(&mut self.action, action) != action {
                    // Apps do not say which type they would take.
                    let kind = types.first().filter(|_| !action.is_empty()).cloned();
                    self.tell_drag(Feedback::Target { kind, action });
                }
                return Ok(());
            }
            Answer::Dropped => {
                self.tell_drag(Feedback::Dropped);
                return Ok(());
            }
            Answer::Finished(action) if !action.is_empty() => Feedback::Finished { action },
            Answer::Finished(_) | Answer::Refused => Feedback::Cancelled,
        };
        self.tell_drag(over);
        self.dragged = None;
        self.selections.offer(&self.connection, Selection::Drag, Vec::new())
    }

    /// After a request: replies may have taken events off the socket.
    fn asked(&mut self, result: Result<(), Fault>) {
        self.more = true;
        self.check(result);
    }

    fn check(&mut self, result: Result<(), Fault>) {
        if let Err(error) = result
            && !std::mem::replace(&mut self.over, true)
        {
            tracing::warn!("copy and paste end, as their connection to the display failed: {error}");
        }
    }

    fn step(&mut self) -> Result<(), Fault> {
        let mut left = EVENTS;
        loop {
            let before = left;
            while left > 0
                && let Some(event) = self.connection.poll_for_event()?
            {
                self.selections.event(&self.connection, &event)?;
                if let Event::ClientMessage(message) = &event
                    && let Some(answer) = self.source.message(&self.connection, message)?
                {
                    self.drag_answered(answer)?;
                }
                left -= 1;
            }
            self.selections.turn(&self.connection)?;
            if let Some(answer) = self.source.turn(&self.connection)? {
                self.drag_answered(answer)?;
            }
            // Replies take events off the socket into the library's queue, where poll does not see them.
            if left == before || left == 0 {
                self.more = left == 0;
                return Ok(());
            }
        }
    }
}

impl super::super::Selections for Clipboards {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, bool, bool)> {
        if self.over {
            return Vec::new();
        }
        let own = (self.connection.stream().as_fd(), true, false);
        std::iter::once(own).chain(self.selections.wishes()).collect()
    }

    fn due(&self) -> Option<Instant> {
        let now = self.more.then(Instant::now);
        let told = (!self.news.is_empty()).then(Instant::now);
        let due = [self.selections.due(), self.source.due()].into_iter().flatten().min();
        told.or(now).or(due).filter(|_| !self.over)
    }

    fn turn(&mut self) -> Vec<News> {
        if !self.over {
            let result = self.step();
            self.check(result);
        }
        self.news.extend(self.selections.news());
        std::mem::take(&mut self.news)
    }

    fn offer(&mut self, selection: Selection, types: Vec<String>) {
        if !self.over {
            let result = self.selections.offer(&self.connection, selection, types);
            self.asked(result);
        }
    }

    fn take(&mut self, selection: Selection, kind: &str, pipe: Pipe) {
        if !self.over {
            let result = self.selections.take(&self.connection, selection, kind, pipe);
            self.asked(result);
        } else {
            pipe.cut_off();
        }
    }
}
