//! Ctrl-C and termination while a machine is made: noticed and answered by cleaning up, instead of dying at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::CreateError;

/// The two flags that the signal handlers use; they live as long as the process, as handlers cannot be taken back.
struct Flags {
    requested: Arc<AtomicBool>,
    /// Whether a signal ends the process as usual.
    usual: Arc<AtomicBool>,
}

static FLAGS: OnceLock<Flags> = OnceLock::new();

/// While it lives, signals are only noted.
#[derive(Debug)]
pub(super) struct Interrupts(());

impl Interrupts {
    /// Begins noting them.
    pub(super) fn noted() -> Self {
        let flags = FLAGS.get_or_init(|| {
            let flags = Flags { requested: Arc::default(), usual: Arc::new(AtomicBool::new(true)) };
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                // Cannot fail: none of these is forbidden to handle.
                let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&flags.usual));
                let _ = signal_hook::flag::register(signal, Arc::clone(&flags.requested));
            }
            flags
        });
        flags.requested.store(false, Ordering::SeqCst);
        flags.usual.store(false, Ordering::SeqCst);
        Self(())
    }

    /// Ends what is going on if a signal came.
    #[expect(clippy::unused_self, reason = "only asked for while signals are noted")]
    pub(super) fn check(&self) -> Result<(), CreateError> {
        let came = FLAGS.get().is_some_and(|flags| flags.requested.load(Ordering::SeqCst));
        if came { Err(CreateError::Interrupted) } else { Ok(()) }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(flags) = FLAGS.get() {
            flags.usual.store(true, Ordering::SeqCst);
        }
    }
}
