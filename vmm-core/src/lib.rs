//! Engines, devices and transports of Inlay's virtual machines.
//!
//! Dependencies point one way: `engine` and `transport` use [`virtio`], `devices` implement it, and a device
//! knows neither who carries it nor which engine runs the guest. This crate carries bytes: it knows neither
//! Inlay's messages nor its windows.
//!
//! - [`virtio`]: what a device is, and the queue loop around it.
//! - [`devices`]: `gpu` (guest pages by resource id), `vsock` (guest sockets as host Unix sockets), `block`, `net`, and small
//!   ones.
//! - [`transport`]: `vhost_user` carries a device into another process, QEMU; `pci` puts it on the bus of a machine of ours.
//! - [`engine`]: `kvm` is a machine of our own, `qemu` starts, watches and ends one under QEMU.
//! - [`confine`]: what the threads of devices and processors may ask of the host.
//!
//! Everything that a guest says (ids, lengths, addresses, rectangles) is checked where it is decoded.

pub mod confine;
pub mod devices;
pub mod engine;
pub mod transport;
pub mod virtio;
