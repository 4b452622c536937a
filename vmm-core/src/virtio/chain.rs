//! A descriptor chain, checked once: in guest memory, readable part before writable part, bounded.
//!
//! Reading and writing go through cursors over the two parts (virtio 1.2, section 2.7.4: a device makes no assumption
//! on how the driver split them).

use virtio_queue::DescriptorChain;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemory};

use super::Mem;

/// No stock driver puts more descriptors into one chain (1 MiB of page entries is 257).
const MAX_DESCRIPTORS: usize = 1024;

/// What is wrong with a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A descriptor lies outside guest memory.
    #[error("a buffer lies outside guest memory")]
    OutsideMemory,
    /// A readable descriptor follows a writable one.
    #[error("a readable buffer follows a writable one")]
    Order,
    /// More descriptors than any driver needs.
    #[error("more than {MAX_DESCRIPTORS} buffers")]
    TooLong,
    /// Fewer readable bytes than the request needs.
    #[error("the request is cut short")]
    ShortRead,
    /// Fewer writable bytes than the answer needs.
    #[error("no room for the answer")]
    ShortWrite,
    /// Guest memory vanished.
    #[error("guest memory cannot be accessed")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// A piece of guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Guest physical address.
    pub addr: GuestAddress,
    /// Length in bytes.
    pub len: usize,
}

/// Spans with a position; advancing consumes from the front.
#[derive(Debug, Default)]
struct Cursor {
    spans: Vec<Span>,
    first: usize,
    remaining: usize,
}

impl Cursor {
    fn push(&mut self, span: Span) {
        self.remaining = self.remaining.saturating_add(span.len);
        self.spans.push(span);
    }

    fn spans(&self) -> &[Span] {
        self.spans.get(self.first..).unwrap_or_default()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        while let Some(span) = self.spans.get_mut(self.first) {
            if count < span.len {
                span.addr.0 = span.addr.0.saturating_add(count as u64);
                span.len -= count;
                return;
            }
            count -= span.len;
            self.first += 1;
        }
    }
}

/// One request of the driver: bytes to read, then room to write.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    readable: Cursor,
    writable: Cursor,
    written: u32,
}

impl Chain {
    pub(super) fn collect(descriptors: DescriptorChain<&Mem>, mem: &Mem) -> Result<Self, ChainError> {
        let head = descriptors.head_index();
        let (mut readable, mut writable) = (Cursor::default(), Cursor::default());
        for (count, desc) in descriptors.enumerate() {
            if count == MAX_DESCRIPTORS {
                return Err(ChainError::TooLong);
            }
            let len = usize::try_from(desc.len()).map_err(|_| ChainError::OutsideMemory)?;
            let span = Span { addr: desc.addr(), len };
            if !mem.check_range(span.addr, span.len) {
                return Err(ChainError::OutsideMemory);
            }
            if desc.is_write_only() {
                writable.push(span);
            } else if writable.spans.is_empty() {
                readable.push(span);
            } else {
                return Err(ChainError::Order);
            }
        }
        Ok(Self { head, readable, writable, written: 0 })
    }

    /// Index of the chain's first descriptor.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes written so far.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Bytes left to read.
    pub fn readable_len(&self) -> usize {
        self.readable.remaining
    }

    /// Room left to write.
    pub fn writable_len(&self) -> usize {
        self.writable.remaining
    }

    /// The guest memory left to read, in order; all of it was checked to be there.
    pub fn readable_spans(&self) -> &[Span] {
        self.readable.spans()
    }

    /// The guest memory left to write, in order; all of it was checked to be there.
    pub fn writable_spans(&self) -> &[Span] {
        self.writable.spans()
    }

    /// Skips readable bytes, at most those that are left.
    pub fn skip_readable(&mut self, count: usize) {
        self.readable.advance(count);
    }

    /// Counts bytes that were written through [`writable_spans`](Self::writable_spans).
    pub fn advance_written(&mut self, count: usize) {
        let count = count.min(self.writable.remaining);
        self.writable.advance(count);
        self.written = self.written.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Reads exactly `out.len()` bytes.
    ///
    /// # Errors
    /// [`ChainError::ShortRead`] when fewer are left.
    pub fn read(&mut self, mem: &Mem, out: &mut [u8]) -> Result<(), ChainError> {
        if out.len() > self.readable.remaining {
            return Err(ChainError::ShortRead);
        }
        let mut rest = out;
        while !rest.is_empty() {
            let span = *self.readable.spans().first().ok_or(ChainError::ShortRead)?;
            let (now, later) = rest.split_at_mut(span.len.min(rest.len()));
            mem.read_slice(now, span.addr)?;
            self.readable.advance(now.len());
            rest = later;
        }
        Ok(())
    }

    /// Reads one plain value.
    ///
    /// # Errors
    /// [`ChainError::ShortRead`] when fewer bytes are left.
    pub fn read_obj<T: ByteValued + Default>(&mut self, mem: &Mem) -> Result<T, ChainError> {
        let mut value = T::default();
        self.read(mem, value.as_mut_slice())?;
        Ok(value)
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// [`ChainError::ShortWrite`] when there is no room; nothing is written then.
    pub fn write(&mut self, mem: &Mem, data: &[u8]) -> Result<(), ChainError> {
        if data.len() > self.writable.remaining {
            return Err(ChainError::ShortWrite);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let span = *self.writable.spans().first().ok_or(ChainError::ShortWrite)?;
            let (now, later) = rest.split_at(span.len.min(rest.len()));
            mem.write_slice(now, span.addr)?;
            self.advance_written(now.len());
            rest = later;
        }
        Ok(())
    }
}
