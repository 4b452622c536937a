//! Bulk streams: one connection for one transfer, opened by the agent with the one-time id that the host gave it.
//!
//! An exec stream carries [`Input`] to the program and [`Output`] from it; [`Output::Exited`] is its last message. The
//! socket's own flow control is the back-pressure.

use serde::{Deserialize, Serialize};

use crate::control::{Exit, TerminalSize};
use crate::framing::{Invalid, Message};
use crate::limits;

/// To the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Bytes of its standard input.
    Stdin(Vec<u8>),
    /// The end of its standard input.
    StdinEnd,
    /// Its terminal has another size.
    Terminal(TerminalSize),
    /// A signal for its process group.
    Signal(i32),
}

/// From the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Bytes of its standard output (of its terminal, where it has one).
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended, and all its output is sent.
    Exited(Exit),
}

impl Message for Input {
    const LIMIT: usize = limits::CHUNK + 64;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Stdin(bytes) => Invalid::unless(bytes.len() <= limits::CHUNK, "chunk"),
            Self::Signal(signal) => Invalid::unless((1..=64).contains(signal), "signal"),
            Self::StdinEnd | Self::Terminal(_) => Ok(()),
        }
    }
}

impl Message for Output {
    const LIMIT: usize = limits::CHUNK + 64;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) => {
                Invalid::unless(bytes.len() <= limits::CHUNK, "chunk")
            }
            Self::Exited(_) => Ok(()),
        }
    }
}
