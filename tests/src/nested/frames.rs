//! Frames: a kind, a length of 4 bytes, bytes.

use std::io::{self, Read, Write};

/// Longest frame.
const MOST: u32 = 1 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To level 1: what to run, as JSON.
    Order = 1,
    /// To level 1: end what runs.
    Kill = 2,
    /// From level 1: it takes orders.
    Ready = 3,
    /// From level 1: standard output.
    Out = 4,
    /// From level 1: standard error.
    Err = 5,
    /// From level 1: the status, one byte.
    Exit = 6,
    /// Why there is no status.
    Failed = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [Self::Order, Self::Kill, Self::Ready, Self::Out, Self::Err, Self::Exit, Self::Failed];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes a frame.
pub fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let frame = [&[kind as u8][..], &length.to_le_bytes(), bytes].concat();
    to.write_all(&frame)?;
    to.flush()
}

/// Reads a frame.
pub fn read(from: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let kind = Kind::from_byte(head[0]).ok_or_else(|| io::Error::other("no such frame"))?;
    let length = u32::from_le_bytes(std::array::from_fn(|i| head[1 + i]));
    if length > MOST {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}
