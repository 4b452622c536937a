//! Window path, hop 5 of 6: the upload ring. Rows go straight from guest memory into a mapped buffer of the device.
//!
//! A chunk is in one of four places: free (mapped, empty), open (being filled), in use (unmapped, read by the device) or on
//! its way back (being mapped again). Chunks are reused, because making one costs a clearing of all its bytes.

use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a chunk, unless a single slot needs more.
const CHUNK: u64 = 4 << 20;
/// Bytes of free chunks that are kept.
const KEEP: u64 = 96 << 20;
/// Row pitch of buffer-to-texture copies (`COPY_BYTES_PER_ROW_ALIGNMENT`).
pub const PITCH: u32 = wgpu::COPY_BYTES_PER_ROW_ALIGNMENT;

#[derive(Debug)]
struct Open {
    buffer: wgpu::Buffer,
    // Declared after the buffer's clone and dropped before it is unmapped.
    view: wgpu::BufferViewMut,
    filled: u64,
}

/// A piece of an upload buffer to be filled.
#[derive(Debug)]
pub struct Slot {
    /// Its first byte; valid for `len` bytes until the ring is flushed.
    pub to: *mut u8,
    /// Bytes.
    pub len: usize,
    /// The buffer that it is in.
    pub buffer: wgpu::Buffer,
    /// Where it begins there.
    pub offset: u64,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    device: wgpu::Device,
    free: Vec<wgpu::Buffer>,
    open: Option<Open>,
    closed: Vec<wgpu::Buffer>,
    sender: Sender<wgpu::Buffer>,
    returned: Receiver<wgpu::Buffer>,
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new(device: wgpu::Device) -> Self {
        let (sender, returned) = channel();
        Self { device, free: Vec::new(), open: None, closed: Vec::new(), sender, returned }
    }

    /// A slot of `len` bytes, `None` when the device gives no memory.
    pub fn slot(&mut self, len: u64) -> Option<Slot> {
        let fits = |open: &Open| open.buffer.size() - open.filled >= len;
        if !self.open.as_ref().is_some_and(fits) {
            self.close();
            let buffer = self.take(len);
            let view = buffer.get_mapped_range_mut(..).ok()?;
            self.open = Some(Open { buffer, view, filled: 0 });
        }
        let open = self.open.as_mut()?;
        let offset = open.filled;
        let start = usize::try_from(offset).ok()?;
        let len_here = usize::try_from(len).ok()?;
        open.filled += len.next_multiple_of(u64::from(PITCH)).min(open.buffer.size() - offset);
        let mut slice = open.view.slice(start..start + len_here);
        Some(Slot {
            to: slice.as_raw_element_ptr().as_ptr(),
            len: len_here,
            buffer: open.buffer.clone(),
            offset,
        })
    }

    fn take(&mut self, len: u64) -> wgpu::Buffer {
        self.collect();
        let best =
            (0..self.free.len()).filter(|i| self.free[*i].size() >= len).min_by_key(|i| self.free[*i].size());
        if let Some(index) = best {
            return self.free.swap_remove(index);
        }
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("upload"),
            size: if len > CHUNK { len.next_multiple_of(1 << 20) } else { CHUNK },
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        })
    }

    fn close(&mut self) {
        if let Some(Open { buffer, view, .. }) = self.open.take() {
            drop(view);
            buffer.unmap();
            self.closed.push(buffer);
        }
    }

    /// Ends writing: to be called before the copies out of the slots are submitted. Slots are void from here on.
    pub fn flush(&mut self) {
        self.close();
    }

    /// Takes the chunks back once the device has read them: to be called after the submission.
    pub fn reuse(&mut self) {
        for buffer in self.closed.drain(..) {
            let sender = self.sender.clone();
            let back = buffer.clone();
            buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                if mapped.is_ok() {
                    let _ = sender.send(back);
                }
            });
        }
        self.collect();
    }

    /// Gives back the memory of free chunks.
    pub fn give_back(&mut self) {
        self.collect();
        self.free.clear();
    }

    fn collect(&mut self) {
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.free.extend(self.returned.try_iter());
        let mut kept = 0;
        self.free.sort_by_key(wgpu::Buffer::size);
        self.free.retain(|buffer| {
            kept += buffer.size();
            kept <= KEEP
        });
    }
}
