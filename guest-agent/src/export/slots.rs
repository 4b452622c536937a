//! The two pool buffers of a surface, and the commits that the host has not released.
//!
//! Rules (DESIGN section 6): at most two commits in flight; a buffer that a commit in flight names is not written; each buffer
//! is kept complete, so writing one takes this commit's damage and what it missed while the other was written.

use inlay_protocol::display::{Content, Format};
use inlay_protocol::geometry::Size;

use super::damage::Damage;
use crate::pool::recycler::PoolBuffer;

/// Commits of a surface that the host may hold.
const IN_FLIGHT: usize = 2;

/// Size and format of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Size in pixels.
    pub size: Size,
    /// Order of the bytes.
    pub format: Format,
}

impl Layout {
    /// Bytes from one row to the next in a pool buffer.
    #[must_use]
    pub fn stride(self) -> u32 {
        self.size.width * 4
    }

    /// Bytes that a pool buffer needs.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.size.width as usize * 4 * self.size.height as usize
    }
}

/// A pool buffer in use by a surface.
#[derive(Debug)]
pub struct Slot {
    /// The buffer.
    pub buffer: PoolBuffer,
    /// What it holds, once it was written.
    pub layout: Option<Layout>,
    /// What changed since it was written.
    pub missed: Damage,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    number: u64,
    slot: Option<usize>,
}

/// A surface's pool buffers.
#[derive(Debug, Default)]
pub struct Slots {
    slots: [Option<Slot>; 2],
    current: Option<usize>,
    flights: Vec<Flight>,
}

impl Slots {
    /// Whether a commit may be sent at all.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.flights.len() < IN_FLIGHT
    }

    fn is_read(&self, slot: usize) -> bool {
        self.flights.iter().any(|f| f.slot == Some(slot))
    }

    /// The slot to write next: the one shown last if the host has released it (it missed nothing), else the other.
    #[must_use]
    pub fn writable(&self) -> Option<usize> {
        let first = self.current.unwrap_or(0);
        [first, 1 - first].into_iter().find(|slot| !self.is_read(*slot))
    }

    /// The slot itself, to be filled or written.
    pub fn slot(&mut self, slot: usize) -> &mut Option<Slot> {
        &mut self.slots[slot & 1]
    }

    /// The slot was written completely: it is shown from now on, and the other one missed `damage`.
    pub fn written(&mut self, slot: usize, layout: Layout, damage: &Damage) {
        if let Some(other) = &mut self.slots[1 - (slot & 1)] {
            if other.layout == Some(layout) {
                other.missed.add_all(damage);
            } else {
                other.layout = None;
            }
        }
        if let Some(this) = &mut self.slots[slot & 1] {
            this.layout = Some(layout);
            this.missed = Damage::default();
        }
        self.current = Some(slot & 1);
    }

    /// The content that is shown, with its buffer.
    pub fn current(&mut self) -> Option<(Content, &mut PoolBuffer)> {
        let slot = self.slots[self.current?].as_mut()?;
        let layout = slot.layout?;
        let content = Content {
            buffer: slot.buffer.id,
            offset: 0,
            size: layout.size,
            stride: layout.stride(),
            format: layout.format,
        };
        Some((content, &mut slot.buffer))
    }

    /// Nothing is shown any more.
    pub fn unmap(&mut self) {
        self.current = None;
        self.slots.iter_mut().flatten().for_each(|slot| slot.layout = None);
    }

    /// A commit was sent; it names the current slot when `content` is set.
    pub fn sent(&mut self, number: u64, content: bool) {
        self.flights.push(Flight { number, slot: self.current.filter(|_| content) });
    }

    /// The host released a commit; `false` when there is no such commit.
    pub fn released(&mut self, number: u64) -> bool {
        let before = self.flights.len();
        self.flights.retain(|f| f.number != number);
        self.flights.len() != before
    }

    /// The connection is gone: nothing is in flight, nothing is announced.
    pub fn disconnected(&mut self) {
        self.flights.clear();
        for slot in self.slots.iter_mut().flatten() {
            crate::pool::recycler::Recycler::forget(&mut slot.buffer);
        }
    }

    /// Takes all buffers, each with the newest commit that still reads it.
    pub fn take_all(&mut self) -> Vec<(PoolBuffer, Option<u64>)> {
        let mut taken = Vec::new();
        for index in 0..2 {
            let reader = self.flights.iter().filter(|f| f.slot == Some(index)).map(|f| f.number).max();
            taken.extend(self.slots[index].take().map(|slot| (slot.buffer, reader)));
        }
        self.flights.clear();
        self.current = None;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::memfd::MemfdPool;
    use crate::pool::recycler::Recycler;
    use inlay_protocol::geometry::Rect;

    const LAYOUT: Layout = Layout { size: Size::new(100, 100), format: Format::Argb8888 };

    fn fill(slots: &mut Slots, index: usize) {
        let buffer = Recycler::new(Box::new(MemfdPool)).take(LAYOUT.bytes()).unwrap();
        *slots.slot(index) = Some(Slot { buffer, layout: None, missed: Damage::default() });
    }

    fn one(x: i32) -> Damage {
        let mut damage = Damage::default();
        damage.add(Rect::new(x, 0, 1, 1));
        damage
    }

    #[test]
    fn no_more_than_two_in_flight_and_none_is_written_twice() {
        let mut slots = Slots::default();
        assert_eq!(slots.writable(), Some(0));
        fill(&mut slots, 0);
        slots.written(0, LAYOUT, &Damage::all(LAYOUT.size));
        slots.sent(1, true);
        assert_eq!(slots.writable(), Some(1));
        fill(&mut slots, 1);
        slots.written(1, LAYOUT, &one(1));
        slots.sent(2, true);
        assert_eq!((slots.writable(), slots.may_send()), (None, false));
        assert!(slots.released(1) && !slots.released(1));
        assert_eq!((slots.writable(), slots.may_send()), (Some(0), true));
    }

    #[test]
    fn a_released_buffer_is_written_again_before_a_second_one_is_made() {
        let mut slots = Slots::default();
        fill(&mut slots, 0);
        slots.written(0, LAYOUT, &Damage::all(LAYOUT.size));
        slots.sent(1, true);
        slots.released(1);
        assert_eq!(slots.writable(), Some(0));
    }

    #[test]
    fn a_buffer_remembers_what_it_missed() {
        let mut slots = Slots::default();
        fill(&mut slots, 0);
        fill(&mut slots, 1);
        slots.written(0, LAYOUT, &Damage::all(LAYOUT.size));
        slots.written(1, LAYOUT, &Damage::all(LAYOUT.size));
        slots.written(1, LAYOUT, &one(5));
        slots.written(1, LAYOUT, &one(7));
        let missed = &slots.slot(0).as_ref().unwrap().missed;
        assert!(missed.rects().contains(&Rect::of_size(LAYOUT.size)));
        slots.written(0, LAYOUT, &one(9));
        assert_eq!(slots.slot(1).as_ref().unwrap().missed, one(9));
        assert!(slots.slot(0).as_ref().unwrap().missed.rects().is_empty());
    }

    #[test]
    fn a_commit_without_pixels_reads_no_buffer() {
        let mut slots = Slots::default();
        fill(&mut slots, 0);
        slots.written(0, LAYOUT, &Damage::all(LAYOUT.size));
        slots.sent(1, false);
        assert_eq!(slots.writable(), Some(0));
        slots.sent(2, true);
        assert_eq!((slots.writable(), slots.may_send()), (Some(1), false));
    }
}
