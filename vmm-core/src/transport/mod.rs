//! How a device reaches a guest. One device, two transports: `vhost_user` carries it into QEMU, `pci` into a guest that
//! this process runs.

pub mod pci;
#[cfg(test)]
mod tests;
pub mod vhost_user;
