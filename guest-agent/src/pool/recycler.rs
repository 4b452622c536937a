//! Pool buffers by size class, with those that no surface uses kept for the next one that does.
//!
//! The recycler also remembers which buffers the host knows in this connection. A buffer that the host may still read (its
//! surface died with commits in flight) waits in `limbo` until it is released.

use std::collections::VecDeque;
use std::io;

use inlay_protocol::display::{BufferId, SurfaceId};
use inlay_protocol::limits;

use super::{Buffer, Pool};

/// Bytes of unused buffers that are kept.
const KEEP_BYTES: usize = 96 << 20;
/// Buffers that wait for a release after their surface died.
const LIMBO: usize = 64;

/// A pool buffer with its id.
#[derive(Debug)]
pub struct PoolBuffer {
    /// Its id towards the host.
    pub id: BufferId,
    /// Its memory.
    pub memory: Buffer,
    /// Whether the host knows it in this connection.
    announced: bool,
}

/// Hands out pool buffers and takes them back.
pub struct Recycler {
    pool: Box<dyn Pool>,
    free: VecDeque<PoolBuffer>,
    free_bytes: usize,
    limbo: VecDeque<(SurfaceId, u64, PoolBuffer)>,
    next: u32,
    alive: usize,
    destroyed: Vec<BufferId>,
}

/// The size class of `bytes`: powers of two in four steps, at least 64 KiB. A class is at most a quarter more than asked.
#[must_use]
pub fn class(bytes: usize) -> usize {
    let bytes = bytes.max(64 << 10);
    let step = (bytes.next_power_of_two() / 8).max(4096);
    bytes.div_ceil(step) * step
}

impl Recycler {
    /// A recycler over this pool.
    #[must_use]
    pub fn new(pool: Box<dyn Pool>) -> Self {
        Self {
            pool,
            free: VecDeque::new(),
            free_bytes: 0,
            limbo: VecDeque::new(),
            next: 1,
            alive: 0,
            destroyed: Vec::new(),
        }
    }

    /// Whether the pool can make buffers by now.
    pub fn is_ready(&mut self) -> bool {
        self.pool.is_ready()
    }

    /// A buffer of at least `bytes`; its contents are anything.
    ///
    /// # Errors
    /// When the pool cannot make one, or too many live.
    pub fn take(&mut self, bytes: usize) -> io::Result<PoolBuffer> {
        let class = class(bytes);
        let fits = |b: &PoolBuffer| b.memory.len() >= bytes && b.memory.len() <= class * 2;
        let best = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, b)| fits(b))
            .min_by_key(|(_, b)| b.memory.len())
            .map(|(index, _)| index);
        if let Some(buffer) = best.and_then(|index| self.free.remove(index)) {
            self.free_bytes -= buffer.memory.len();
            return Ok(buffer);
        }
        if self.alive >= limits::BUFFERS {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let memory = self.pool.create(class)?;
        let id = BufferId(self.next);
        self.next = self.next.checked_add(1).ok_or(io::ErrorKind::QuotaExceeded)?;
        self.alive += 1;
        Ok(PoolBuffer { id, memory, announced: false })
    }

    /// Takes a buffer back that the host does not read.
    pub fn give(&mut self, buffer: PoolBuffer) {
        self.free_bytes += buffer.memory.len();
        self.free.push_back(buffer);
        while self.free_bytes > KEEP_BYTES {
            let Some(oldest) = self.free.pop_front() else { break };
            self.free_bytes -= oldest.memory.len();
            self.destroy(&oldest);
        }
    }

    /// Takes a buffer back that the host reads until it releases commit `number` of a surface that is gone.
    pub fn give_later(&mut self, surface: SurfaceId, number: u64, buffer: PoolBuffer) {
        self.limbo.push_back((surface, number, buffer));
        if self.limbo.len() > LIMBO
            && let Some((_, _, oldest)) = self.limbo.pop_front()
        {
            self.destroy(&oldest);
        }
    }

    /// A commit of a surface that is gone was released.
    pub fn released(&mut self, surface: SurfaceId, number: u64) {
        let found = self.limbo.iter().position(|(s, n, _)| (*s, *n) == (surface, number));
        if let Some((_, _, buffer)) = found.and_then(|index| self.limbo.remove(index)) {
            self.give(buffer);
        }
    }

    /// The connection is gone: nothing is announced, nothing is read any more. Unused buffers are dropped.
    pub fn disconnected(&mut self) {
        self.alive -= self.free.len() + self.limbo.len();
        self.free.clear();
        self.free_bytes = 0;
        self.limbo.clear();
        self.destroyed.clear();
    }

    /// Whether `buffer` must be announced before its use; it counts as announced from now on.
    pub fn announce(buffer: &mut PoolBuffer) -> bool {
        !std::mem::replace(&mut buffer.announced, true)
    }

    /// Forgets that the host knows `buffer`: there is a new connection.
    pub fn forget(buffer: &mut PoolBuffer) {
        buffer.announced = false;
    }

    /// Announced buffers that are gone since the last call.
    pub fn destroyed(&mut self) -> Vec<BufferId> {
        std::mem::take(&mut self.destroyed)
    }

    fn destroy(&mut self, buffer: &PoolBuffer) {
        self.alive -= 1;
        if buffer.announced {
            self.destroyed.push(buffer.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::memfd::MemfdPool;

    fn recycler() -> Recycler {
        Recycler::new(Box::new(MemfdPool))
    }

    #[test]
    fn a_class_wastes_little() {
        for bytes in [1, 65_536, 100_000, 1920 * 1080 * 4, 333 * 217 * 4, 1 << 30] {
            let class = class(bytes);
            assert!(class >= bytes && class <= (bytes + bytes / 4).max(64 << 10), "{bytes}: {class}");
        }
    }

    #[test]
    fn a_buffer_comes_back() {
        let mut recycler = recycler();
        let a = recycler.take(500_000).unwrap();
        let id = a.id;
        recycler.give(a);
        assert_eq!(recycler.take(480_000).unwrap().id, id);
        assert_ne!(recycler.take(480_000).unwrap().id, id);
    }

    #[test]
    fn a_huge_buffer_does_not_serve_a_small_surface() {
        let mut recycler = recycler();
        let a = recycler.take(8 << 20).unwrap();
        let id = a.id;
        recycler.give(a);
        assert_ne!(recycler.take(1000).unwrap().id, id);
    }

    #[test]
    fn unused_memory_is_bounded_and_the_host_is_told() {
        let mut recycler = recycler();
        let mut buffers: Vec<_> = (0..4).map(|_| recycler.take(40 << 20).unwrap()).collect();
        let first = buffers[0].id;
        buffers.iter_mut().for_each(|b| assert!(Recycler::announce(b)));
        buffers.drain(..).for_each(|b| recycler.give(b));
        assert!(recycler.free_bytes <= KEEP_BYTES);
        assert_eq!(recycler.destroyed(), [first, BufferId(first.0 + 1)]);
    }

    #[test]
    fn a_buffer_of_a_dead_surface_waits_for_its_release() {
        let mut recycler = recycler();
        let a = recycler.take(70_000).unwrap();
        let id = a.id;
        recycler.give_later(SurfaceId(3), 9, a);
        assert_ne!(recycler.take(70_000).unwrap().id, id);
        recycler.released(SurfaceId(3), 9);
        assert_eq!(recycler.take(70_000).unwrap().id, id);
    }
}
