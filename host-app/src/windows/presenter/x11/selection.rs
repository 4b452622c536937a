//! The selections of the X server, on a connection of their own: an app that pastes much never delays input or frames.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use anyhow::Context;
use inlay_exchange::News;
use inlay_exchange::pipe::Pipe;
use inlay_exchange::x11::{Fault, Selections};
use inlay_protocol::selection::Selection;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::EventMask;
use x11rb::rust_connection::RustConnection;

/// Events of one turn.
const EVENTS: usize = 256;

/// The server's selections.
#[derive(Debug)]
pub struct Clipboards {
    connection: RustConnection,
    selections: Selections,
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
        Ok(Self { connection, selections, over: false, more: false })
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
                left -= 1;
            }
            self.selections.turn(&self.connection)?;
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
        now.or_else(|| self.selections.due()).filter(|_| !self.over)
    }

    fn turn(&mut self) -> Vec<News> {
        if !self.over {
            let result = self.step();
            self.check(result);
        }
        self.selections.news()
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
