//! What runs a guest's processors: `kvm`, our own machine on the host's processor; `qemu`, a QEMU process (software emulation,
//! or KVM).

pub mod kvm;
mod lines;
pub mod qemu;
mod serial;
pub mod signals;

use std::fmt;

/// How a machine ended; prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched itself off.
    PoweredOff,
    /// We ended it.
    Asked,
    /// A signal that was not ours killed QEMU.
    Killed(i32),
    /// The engine gave up; why.
    Failed(String),
    /// The guest's kernel panicked; its last words.
    Panicked(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::Asked => f.write_str("the machine was ended"),
            Self::Killed(signal) => write!(f, "QEMU was killed by signal {signal}"),
            Self::Failed(words) => write!(f, "the engine failed: {words}"),
            Self::Panicked(words) => write!(f, "the guest's kernel panicked: {words}"),
        }
    }
}
