//! Engines, devices and transports of Inlay's virtual machines.
//!
//! Dependencies point one way: `engine` and `transport` use [`virtio`], `devices` implement it, and a device
//! knows neither who carries it nor which engine runs the guest. This crate carries bytes: it knows neither
//! Inlay's messages nor its windows.
//!
//! - [`virtio`]: what a device is, and the queue loop around it.
//! - [`devices`]: `gpu` (guest pages by resource id) and `vsock` (guest sockets as host Unix sockets).
//! - [`transport`]: `vhost_user` carries a device into another process, QEMU.
//! - [`engine`]: `qemu` starts, watches and ends a virtual machine.
//!
//! Everything that a guest says (ids, lengths, addresses, rectangles) is checked where it is decoded.

pub mod devices;
pub mod engine;
pub mod transport;
pub mod virtio;
