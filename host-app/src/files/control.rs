//! What the user's programs say to a file server that runs: questions and their answers, in turn.
//!
//! The socket lies in a folder that is the user's alone; the guest cannot reach it. Folders and files come as mounts without a place
//! ([`inlay_file_server::jail`]), which the server, in its jail, could not make.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::framing::{Invalid, Message};
use serde::{Deserialize, Serialize};

/// How long either end may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// To the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Share the folder that comes with it. The same folder under the same name may be changed in the other way from now on.
    Share {
        /// What the guest sees it as.
        name: String,
        /// The guest changes nothing in it.
        read_only: bool,
    },
    /// Share this no longer.
    Remove(String),
    /// Grant the file or folder that comes with it, alone.
    Grant {
        /// What the guest sees it as, in bytes: its own name.
        name: Vec<u8>,
        /// The guest does not change it.
        read_only: bool,
    },
}

/// From the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is granted, by this number.
    Granted(u32),
    /// It is not: in words for the user.
    Refused(String),
}

impl Message for Ask {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Share { .. } | Self::Grant { .. }))
    }
}

impl Message for Answer {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Why a file server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be reached, or went.
    #[error("the machine's file server does not answer")]
    Connection(#[from] ConnectionError),
    /// Not in time.
    #[error("the machine's file server did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// It said no.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a file server.
#[derive(Debug)]
pub struct FilesClient(Connection);

impl FilesClient {
    /// Connects; `None` where none runs.
    ///
    /// # Errors
    /// The socket is there but cannot be used.
    pub fn connect(socket: &Path) -> Result<Option<Self>, FilesError> {
        let connection = match UnixStream::connect(socket) {
            Ok(stream) => Connection::new(stream.into()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        Ok(Some(Self(connection.map_err(ConnectionError::from)?)))
    }

    /// Asks one thing; what was granted has a number.
    ///
    /// # Errors
    /// See [`FilesError`].
    pub fn ask(&mut self, ask: &Ask, mount: Option<OwnedFd>) -> Result<Option<u32>, FilesError> {
        self.0.queue_with(ask, mount.into_iter().map(Arc::new).collect())?;
        match self.0.wait_message(Some(PATIENCE))? {
            Some((Answer::Done, _)) => Ok(None),
            Some((Answer::Granted(number), _)) => Ok(Some(number)),
            Some((Answer::Refused(why), _)) => Err(FilesError::Refused(why)),
            None => Err(FilesError::TimedOut),
        }
    }
}
