//! Whether apps are alive: a window that the user closes has its app pinged; the user is asked about one that is silent.

use std::time::Instant;

use inlay_protocol::display::{Event, SurfaceId};

use super::{Session, SessionError};
use crate::windows::dialogs::Dialogs;
use crate::windows::window::{self, Ping, Role};

impl Session {
    /// The user closes a toplevel.
    pub(super) fn close_asked(&mut self, surface: SurfaceId) -> Result<(), SessionError> {
        self.tell(&Event::Close { surface })?;
        self.serial = self.serial.wrapping_add(1);
        let (serial, since) = (self.serial, Instant::now());
        match self.windows.get_mut(&surface) {
            // An older ping is not answered: its time goes on.
            Some(window) if window.ping.is_none() => {
                window.ping = Some(Ping { serial, since, asked: false });
                self.tell(&Event::Ping { surface, serial })
            }
            _ => Ok(()),
        }
    }

    /// The app of a toplevel answers.
    pub(super) fn pong(&mut self, surface: SurfaceId, serial: u32, dialogs: &mut Dialogs) {
        if let Some(window) = self.windows.get_mut(&surface)
            && let Some(ping) = window.ping.take_if(|p| p.serial == serial)
            && ping.asked
        {
            dialogs.stop(surface);
        }
    }

    /// The user decided about an app that did not answer.
    pub(super) fn answered(&mut self, surface: SurfaceId, force: bool) -> Result<(), SessionError> {
        let Some(window) = self.windows.get_mut(&surface) else { return Ok(()) };
        // With the next close it begins again.
        window.ping = None;
        if force { self.tell(&Event::Kill { surface }) } else { Ok(()) }
    }

    /// When the user is to be asked next.
    #[must_use]
    pub fn asks_at(&self) -> Option<Instant> {
        self.windows.values().filter_map(|w| w.hangs_at()).min()
    }

    /// Asks the user about apps that did not answer in time.
    pub fn ask_about_silent(&mut self, now: Instant, dialogs: &mut Dialogs) {
        for (surface, window) in &mut self.windows {
            if window.hangs_at().is_some_and(|at| now >= at)
                && let (Some(ping), Role::Toplevel(toplevel)) = (&mut window.ping, &window.role)
            {
                ping.asked = true;
                // The title is the guest's: short, and marked as a quotation.
                let title = window::title(toplevel);
                let app: String = title.chars().filter(|c| *c != '"').take(60).collect();
                dialogs.ask(*surface, &format!("\"{app}\" of {} does not answer.", self.machine));
            }
        }
    }
}
