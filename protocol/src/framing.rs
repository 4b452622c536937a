//! Length-framed messages: four bytes of length (little-endian), then the message in postcard's encoding.
//!
//! The length is compared with the limit before anything is allocated or read further. Postcard's sequences cannot claim
//! more elements than the frame has bytes, and serde caps what it reserves for them, so decoding allocates in proportion
//! to the frame.

use serde::{Serialize, de::DeserializeOwned};

use crate::limits;

/// Bytes of the length in front of each message.
pub const HEADER: usize = 4;

/// What every message is: encodable, decodable, and checked against the limits after decoding.
pub trait Message: Serialize + DeserializeOwned {
    /// Largest encoded size in bytes.
    const LIMIT: usize = limits::MESSAGE;

    /// Checks what the types cannot hold: list lengths, coordinates, finite numbers.
    ///
    /// # Errors
    /// The first field that passes its limit.
    fn check(&self) -> Result<(), Invalid>;

    /// How many file descriptors travel with this message (local mode and the memory channel only).
    fn descriptors(&self) -> usize {
        0
    }
}

/// A field that passes its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of its limits")]
pub struct Invalid(pub &'static str);

impl Invalid {
    /// `Ok` when the condition holds, else this field is out of its limits.
    ///
    /// # Errors
    /// When `holds` is false.
    pub fn unless(holds: bool, field: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self(field)) }
    }
}

/// Why bytes from a peer are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The announced length passes the limit of the channel.
    #[error("a message of {length} bytes passes the limit of {limit}")]
    TooLong {
        /// Announced bytes.
        length: usize,
        /// Allowed bytes.
        limit: usize,
    },
    /// The bytes are no such message.
    #[error("the bytes are no message of this channel")]
    Malformed(#[source] postcard::Error),
    /// A frame holds more bytes than its message.
    #[error("{0} bytes are left behind the message")]
    Trailing(usize),
    /// A field passes its limit.
    #[error("a message is refused")]
    Invalid(#[from] Invalid),
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Longer than the channel allows, or not encodable.
    #[error("a message cannot be encoded within {0} bytes")]
    TooLong(usize),
}

/// Encodes one message with its length in front.
///
/// # Errors
/// When the message is longer than [`Message::LIMIT`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let bytes = postcard::to_extend(message, vec![0; HEADER]).map_err(|_| EncodeError::TooLong(M::LIMIT))?;
    let length = bytes.len() - HEADER;
    if length > M::LIMIT {
        return Err(EncodeError::TooLong(M::LIMIT));
    }
    let mut bytes = bytes;
    let length = u32::try_from(length).map_err(|_| EncodeError::TooLong(M::LIMIT))?;
    bytes[..HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Decodes and checks the body of one frame.
///
/// # Errors
/// When the bytes are no message, leave bytes over, or a field passes its limit.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, DecodeError> {
    let (message, rest) = postcard::take_from_bytes::<M>(body).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    message.check()?;
    Ok(message)
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.bytes.len() || self.start > limits::CHUNK) {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no byte waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `count` raw bytes when that many wait (the handshake, which is not framed).
    pub fn take_raw(&mut self, count: usize) -> Option<Vec<u8>> {
        let bytes = self.bytes.get(self.start..self.start.checked_add(count)?)?.to_vec();
        self.start += count;
        Some(bytes)
    }

    /// The next message, or `None` until enough bytes came.
    ///
    /// # Errors
    /// As [`decode`]; the stream cannot be continued after one.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, DecodeError> {
        let waiting = &self.bytes[self.start..];
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if length > M::LIMIT {
            return Err(DecodeError::TooLong { length, limit: M::LIMIT });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = decode(body);
        self.start += HEADER + length;
        message.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::{Event, Request, SurfaceId};

    #[test]
    fn messages_come_back_from_any_cut() {
        let sent = [
            Request::DestroySurface { surface: SurfaceId(7) },
            Request::SayAgain,
            Request::DestroySurface { surface: SurfaceId(9) },
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|m| encode(m).unwrap()).collect();
        for step in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(message) = decoder.next_message::<Request>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent);
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_length_past_the_limit_is_refused_at_once() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next_message::<Request>(), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        let mut bytes = postcard::to_stdvec(&Request::SayAgain).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<Request>(&bytes), Err(DecodeError::Trailing(1))));
    }

    #[test]
    fn an_overlong_message_is_not_sent() {
        let keymap = "x".repeat(limits::MESSAGE + 1);
        let event = Event::Input(crate::input::InputEvent::Keymap(keymap));
        assert!(matches!(encode(&event), Err(EncodeError::TooLong(_))));
    }
}
