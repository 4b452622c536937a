//! The first bytes of every connection, in an encoding that no version changes.
//!
//! The connecting end (the agent) sends a [`Hello`] of 48 bytes; the other answers with a [`Welcome`] of 24 bytes and
//! closes the connection when it refuses. Both ends use the lower minor version and the capabilities that both have; a
//! different major version is refused.
//!
//! ```text
//! Hello:    magic "INLY" | major u16 | minor u16 | role u8 | 0 x7 | capabilities u64 | stream id 16 bytes | 0 x8
//! Welcome:  magic "INLY" | major u16 | minor u16 | refusal u8 | 0 x7 | capabilities u64
//! ```
//! Numbers are little-endian.

/// Version of the protocol spoken by this build.
pub const VERSION: Version = Version { major: 8, minor: 0 };
/// First bytes of both messages.
pub const MAGIC: [u8; 4] = *b"INLY";

/// A protocol version: a different major one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Incompatible changes.
    pub major: u16,
    /// Additions.
    pub minor: u16,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Optional parts that an end can do, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Buffers are memory file descriptors sent beside the messages (local mode).
    pub const MEMFD: Self = Self(1);
    /// Buffers are virtio-gpu resources.
    pub const VIRTIO_GPU: Self = Self(1 << 1);

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Launch, exec, shutdown.
    Control,
    /// Surfaces, input, selections.
    Display,
    /// Bulk bytes of one transfer, named by its one-time id.
    Stream([u8; 16]),
}

/// What the connecting end says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Its version.
    pub version: Version,
    /// What the connection is for.
    pub role: Role,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The major versions differ.
    #[error("the other end speaks another major version of the protocol")]
    Version,
    /// This socket serves another role.
    #[error("this socket does not serve that role")]
    Role,
    /// A session of this role is there already.
    #[error("there is a session of this role already")]
    Busy,
    /// No transfer has this id.
    #[error("no transfer has this id")]
    UnknownStream,
}

/// The answer to a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Version of the answering end.
    pub version: Version,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Set when the connection is refused.
    pub refusal: Option<Refusal>,
}

/// Why the first bytes are no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not this protocol.
    #[error("the other end does not speak this protocol")]
    Magic,
    /// A role of another version.
    #[error("the other end asks for the unknown role {0}")]
    Role(u8),
    /// The other end is of another major version.
    #[error("the other end speaks protocol {theirs}, this one {VERSION}: update the older of the two")]
    Version {
        /// What the other end said.
        theirs: Version,
    },
    /// The other end said no.
    #[error("the other end refused the connection")]
    Refused(#[from] Refusal),
}

impl Hello {
    /// Bytes on the wire.
    pub const SIZE: usize = 48;

    /// Its bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.major.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.version.minor.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.capabilities.0.to_le_bytes());
        bytes[8] = match self.role {
            Role::Control => 1,
            Role::Display => 2,
            Role::Stream(id) => {
                bytes[24..40].copy_from_slice(&id);
                3
            }
        };
        bytes
    }

    /// Reads one; the version is left for [`Welcome::answer`] to judge.
    ///
    /// # Errors
    /// When the magic is wrong or the role unknown within the same major version.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, HandshakeError> {
        if bytes[..4] != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[24..40]);
        let version = version_at_4(bytes);
        let role = match bytes[8] {
            1 => Role::Control,
            2 => Role::Display,
            3 => Role::Stream(id),
            other => return Err(HandshakeError::Role(other)),
        };
        Ok(Self { version, role, capabilities: Capabilities(u64_at_16(bytes)) })
    }
}

impl Welcome {
    /// Bytes on the wire.
    pub const SIZE: usize = 24;

    /// The answer of this build to a hello: refused for another major version, else welcome.
    #[must_use]
    pub fn answer(hello: &Hello, capabilities: Capabilities) -> Self {
        let refusal = (hello.version.major != VERSION.major).then_some(Refusal::Version);
        Self { version: VERSION, capabilities, refusal }
    }

    /// A refusal.
    #[must_use]
    pub fn refuse(refusal: Refusal) -> Self {
        Self { version: VERSION, capabilities: Capabilities::default(), refusal: Some(refusal) }
    }

    /// Its bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.major.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.version.minor.to_le_bytes());
        bytes[8] = match self.refusal {
            None => 0,
            Some(Refusal::Version) => 1,
            Some(Refusal::Role) => 2,
            Some(Refusal::Busy) => 3,
            Some(Refusal::UnknownStream) => 4,
        };
        bytes[16..24].copy_from_slice(&self.capabilities.0.to_le_bytes());
        bytes
    }

    /// Reads the answer and judges it.
    ///
    /// # Errors
    /// When the magic is wrong, the major version differs or the connection was refused.
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, HandshakeError> {
        if bytes[..4] != MAGIC {
            return Err(HandshakeError::Magic);
        }
        let version = version_at_4(bytes);
        match bytes[8] {
            _ if version.major != VERSION.major => Err(HandshakeError::Version { theirs: version }),
            0 => Ok(Self { version, capabilities: Capabilities(u64_at_16(bytes)), refusal: None }),
            1 => Err(HandshakeError::Version { theirs: version }),
            3 => Err(Refusal::Busy.into()),
            4 => Err(Refusal::UnknownStream.into()),
            _ => Err(Refusal::Role.into()),
        }
    }
}

fn version_at_4(bytes: &[u8]) -> Version {
    Version {
        major: u16::from_le_bytes([bytes[4], bytes[5]]),
        minor: u16::from_le_bytes([bytes[6], bytes[7]]),
    }
}

fn u64_at_16(bytes: &[u8]) -> u64 {
    bytes[16..24].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_and_welcome_come_back() {
        for role in [Role::Control, Role::Display, Role::Stream([0xa5; 16])] {
            let hello = Hello { version: VERSION, role, capabilities: Capabilities(u64::MAX - 6) };
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
            let welcome = Welcome::answer(&hello, Capabilities::MEMFD);
            assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
        }
    }

    #[test]
    fn another_major_version_is_refused_by_both_ends() {
        let theirs = Version { major: VERSION.major + 1, minor: 0 };
        let hello = Hello { version: theirs, role: Role::Control, capabilities: Capabilities::default() };
        let answer = Welcome::answer(&Hello::decode(&hello.encode()).unwrap(), Capabilities::default());
        assert_eq!(answer.refusal, Some(Refusal::Version));
        assert!(matches!(Welcome::decode(&answer.encode()), Err(HandshakeError::Version { .. })));
        let newer = Welcome { version: theirs, capabilities: Capabilities::default(), refusal: None };
        assert_eq!(Welcome::decode(&newer.encode()), Err(HandshakeError::Version { theirs }));
    }

    #[test]
    fn other_bytes_are_no_handshake() {
        assert_eq!(Hello::decode(&[0x47; Hello::SIZE]), Err(HandshakeError::Magic));
        let mut bytes =
            Hello { version: VERSION, role: Role::Control, capabilities: Capabilities(0) }.encode();
        bytes[8] = 9;
        assert_eq!(Hello::decode(&bytes), Err(HandshakeError::Role(9)));
    }
}
