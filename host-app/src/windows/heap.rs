//! Memory of windows that were closed goes back to the system: the allocator keeps whatever lies between things that stay, which after
//! some hundred windows is several times of what is in use. Menus and tool tips do not count: they come again.

use std::time::{Duration, Instant};

/// How long after a window was closed: more may follow, and they are worth one walk through the heap only.
const QUIET: Duration = Duration::from_secs(1);

/// When memory is given back.
#[derive(Debug, Default)]
pub struct Heap {
    open: usize,
    due: Option<Instant>,
}

impl Heap {
    /// Notes how many windows there are; whether memory is to be given back now.
    pub fn windows(&mut self, open: usize, now: Instant) -> bool {
        if open < self.open {
            self.due.get_or_insert(now + QUIET);
        }
        self.open = open;
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// When [`Heap::windows`] has to be called again.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// Has the allocator give back what it keeps.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks; whole pages without allocations are given back.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_windows_that_close_together() {
        let (mut heap, start) = (Heap::default(), Instant::now());
        assert!(!heap.windows(3, start));
        assert_eq!(heap.due(), None);
        assert!(!heap.windows(2, start));
        assert!(!heap.windows(0, start + QUIET / 2));
        assert_eq!(heap.due(), Some(start + QUIET));
        assert!(heap.windows(0, start + QUIET));
        assert_eq!(heap.due(), None);
        assert!(!heap.windows(5, start + QUIET));
        assert_eq!(heap.due(), None);
    }
}
