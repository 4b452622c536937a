//! The launcher: starts window processes for a machine process, which is kept from the desktop and so cannot do it itself.
//!
//! ```text
//!   machine process (confined) --- Ask ---> launcher (not confined) --spawns--> window process
//!                              <-- Answer --
//! ```
//!
//! All that can be asked of it is this machine's one window process, on a display that its variables name, and that the host's menus
//! show this machine's apps (`inlay dock`, which reads what the machine process stored, and checks it). It is started
//! before the machine process is confined, and ends with it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::framing::{Invalid, Message};
use serde::{Deserialize, Serialize};

use super::door::chain;
use super::windows::{Direct, Starter, WindowCommand};
use crate::api::Display;
use crate::process;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Start the window process there.
    Start(Display),
    /// How did it end, if it did?
    Ended,
    /// End it.
    End,
    /// Have the host's menus made anew.
    Menus,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Its process id, with a descriptor that is readable at its end.
    Started(u32),
    /// It cannot be started.
    Failed(String),
    /// How it ended; nothing when it runs.
    Ended(Option<String>),
}

impl Message for Ask {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Start(Display::Host(variables)) => {
                let known = |(name, _): &(String, String)| Display::variables().contains(&name.as_str());
                Invalid::unless(variables.iter().all(known), "display")
            }
            Self::Start(_) | Self::Ended | Self::End | Self::Menus => Ok(()),
        }
    }
}

impl Message for Answer {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Started(_)))
    }
}

/// The machine process's end.
#[derive(Debug)]
pub struct Launcher {
    connection: Connection,
    _process: Child,
}

impl Launcher {
    /// Starts it; it dies with the calling thread, which must be the main one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &WindowCommand) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut launcher = Command::new(&command.program);
        launcher.arg("launcher").arg(&command.label);
        launcher.arg("--runtime").arg(&command.runtime).arg("--log").arg(&command.log);
        launcher.args(command.border_argument());
        if command.tray {
            launcher.arg("--tray");
        }
        launcher.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let process = process::die_with_this_thread(process::in_own_session(&mut launcher)).spawn()?;
        Ok(Self { connection: Connection::new(ours.into())?, _process: process })
    }

    fn ask(&mut self, ask: &Ask) -> Result<(Answer, Vec<OwnedFd>), ConnectionError> {
        self.connection.queue(ask)?;
        self.connection.wait_message(Some(PATIENCE))?.ok_or(ConnectionError::Closed)
    }
}

impl Starter for Launcher {
    fn start(&mut self, display: &Display) -> io::Result<(u32, OwnedFd)> {
        let gone = |error: ConnectionError| io::Error::other(format!("its launcher: {}", chain(&error)));
        match self.ask(&Ask::Start(display.clone())).map_err(gone)? {
            (Answer::Started(pid), mut fds) => {
                Ok((pid, fds.pop().ok_or_else(|| io::Error::other("its launcher gave no descriptor"))?))
            }
            (Answer::Failed(why), _) => Err(io::Error::other(why)),
            (Answer::Ended(_), _) => Err(io::Error::other("its launcher talks nonsense")),
        }
    }

    fn ended(&mut self) -> Option<String> {
        match self.ask(&Ask::Ended) {
            Ok((Answer::Ended(status), _)) => status,
            Ok(_) => Some("its launcher talks nonsense".into()),
            Err(error) => Some(format!("its launcher: {}", chain(&error))),
        }
    }

    fn end(&mut self) {
        if let Err(error) = self.ask(&Ask::End) {
            // With the launcher it has gone as well.
            tracing::warn!(error = %chain(&error), "the launcher of the window process is gone");
        }
    }

    fn menus_changed(&mut self) {
        if let Err(error) = self.ask(&Ask::Menus) {
            tracing::warn!(error = %chain(&error), "the host's menus do not show the guest's apps");
        }
    }
}

/// The launcher's own process: serves its standard input until that ends. Must be called on the main thread.
///
/// # Errors
/// Standard input is no socket of a machine process, or it breaks the protocol.
pub fn serve(command: WindowCommand) -> Result<(), ConnectionError> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let mut connection = Connection::new(input)?;
    let mut windows = Direct::new(command);
    loop {
        let ask = match connection.wait_message::<Ask>(None) {
            Ok(Some((ask, _))) => ask,
            Ok(None) => continue,
            // The window process ends with this one.
            Err(ConnectionError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (answer, fds) = match ask {
            Ask::Start(display) => match windows.start(&display) {
                Ok((pid, fd)) => (Answer::Started(pid), vec![Arc::new(fd)]),
                Err(error) => (Answer::Failed(error.to_string()), Vec::new()),
            },
            Ask::Ended => (Answer::Ended(windows.ended()), Vec::new()),
            Ask::End => {
                windows.end();
                (Answer::Ended(None), Vec::new())
            }
            Ask::Menus => {
                windows.menus_changed();
                (Answer::Ended(None), Vec::new())
            }
        };
        connection.queue_with(&answer, fds)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_displays_can_be_asked_for() {
        let host = |name: &str| Ask::Start(Display::Host(vec![(name.into(), "x".into())]));
        assert!(host("DISPLAY").check().is_ok());
        assert!(host("LD_PRELOAD").check().is_err());
        assert!(host("PATH").check().is_err());
    }
}
