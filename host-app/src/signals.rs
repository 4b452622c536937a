//! Signals as something that a loop can wait for.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that are noted instead of taking their usual effect, until dropped; then they are ignored.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    flags: Vec<(i32, Arc<AtomicBool>)>,
    handlers: Vec<signal_hook::SigId>,
}

impl Signals {
    /// Begins noting them.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn watch(signals: &[i32]) -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut watched = Self { wake, flags: Vec::new(), handlers: Vec::new() };
        for &signal in signals {
            let flag = Arc::new(AtomicBool::new(false));
            // Handlers run in this order: whoever is woken finds the flag set.
            watched.handlers.push(signal_hook::flag::register(signal, flag.clone())?);
            watched.handlers.push(signal_hook::low_level::pipe::register(signal, write.try_clone()?)?);
            watched.flags.push((signal, flag));
        }
        Ok(watched)
    }

    /// Readable when one came.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Those that came since the last call.
    pub fn came(&mut self) -> Vec<i32> {
        // Only its being readable means something; it is emptied before the flags are read.
        while matches!(self.wake.read(&mut [0; 64]), Ok(count) if count > 0) {}
        self.flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst)).map(|(s, _)| *s).collect()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            signal_hook::low_level::unregister(handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGUSR1, SIGUSR2};

    #[test]
    fn noted_once_each() {
        let mut signals = Signals::watch(&[SIGUSR1, SIGUSR2]).unwrap();
        assert!(signals.came().is_empty());
        signal_hook::low_level::raise(SIGUSR2).unwrap();
        assert_eq!(signals.came(), [SIGUSR2]);
        assert!(signals.came().is_empty());
    }
}
