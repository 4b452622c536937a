//! How a device reaches a guest. One device, several transports: `vhost_user` carries it into QEMU.

pub mod vhost_user;
