//! Bulk streams: one connection for one transfer, opened by the agent with the one-time id that the host gave it.
//!
//! An exec stream carries [`Input`] to the program and [`Output`] from it; [`Output::Exited`] is its last message. A stream of
//! pasted data carries [`Chunk`]s one way; [`Chunk::End`] is the last, and who got it closes the stream. The socket's own flow
//! control is the back-pressure.

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

/// A piece of what is pasted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chunk {
    /// The next bytes, 1 to [`limits::CHUNK`].
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// That was all. A stream that ends without it was cut off.
    End,
}

/// Bytes as one piece: serde takes a list of numbers apart.
pub(crate) mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

impl Message for Chunk {
    const LIMIT: usize = limits::CHUNK + 64;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            // Nothing is no piece: one that sends no bytes would never be at an end.
            Self::Data(bytes) => Invalid::unless((1..=limits::CHUNK).contains(&bytes.len()), "chunk"),
            Self::End => Ok(()),
        }
    }
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
