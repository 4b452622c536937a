//! What runs a guest's processors: `qemu`, a QEMU process (software emulation, or KVM).

pub mod qemu;
