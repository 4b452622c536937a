//! The virtual machine as the machine process sees it, whichever engine runs it.

use std::os::fd::BorrowedFd;

/// A running guest. Dropping it kills it.
pub trait Guest {
    /// Who runs it, for people: `qemu, tcg`.
    fn engine(&self) -> String;

    /// Process of the engine.
    fn pid(&self) -> u32;

    /// Becomes readable when the engine's process ends.
    fn fd(&self) -> BorrowedFd<'_>;

    /// How it ended, once it has.
    fn ended(&mut self) -> Option<Ended>;

    /// How often it restarted.
    fn restarts(&self) -> u64;

    /// Whether its network is connected; nothing where it has none.
    fn network(&self) -> Option<bool>;

    /// Connects its network, or cuts it off.
    ///
    /// # Errors
    /// It has none, or the engine does not take orders; the text is one line.
    fn connect(&mut self, connected: bool) -> Result<(), String>;

    /// Becomes readable when its file server ends, if it has one.
    fn files_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How its file server ended, once it has; the guest's programs then wait for it in vain.
    fn files_ended(&mut self) -> Option<String> {
        None
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// The engine does not take orders; the text is one line.
    fn power_button(&mut self) -> Result<(), String>;

    /// Ends the engine in order: the guest is not asked, its disks' caches are written.
    ///
    /// # Errors
    /// As [`Guest::power_button`].
    fn quit(&mut self) -> Result<(), String>;

    /// Ends the engine at once.
    fn kill(&mut self);

    /// Stops its processors.
    ///
    /// # Errors
    /// As [`Guest::power_button`].
    fn pause(&mut self) -> Result<(), String>;

    /// Lets them run again.
    ///
    /// # Errors
    /// As [`Guest::power_button`].
    fn resume(&mut self) -> Result<(), String>;
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whether it switched itself off or was asked to.
    pub in_order: bool,
    /// What happened: one line.
    pub reason: String,
}
