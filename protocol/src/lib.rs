//! The messages between the host and the guest agent.
//!
//! Four channels, each a stream of length-framed messages ([`framing`]) behind a fixed-size handshake ([`handshake`]):
//!
//! | channel | from the guest | to the guest | carried by |
//! |---|---|---|---|
//! | control | [`control::Report`] | [`control::Command`] | virtio-vsock or a Unix socket |
//! | display | [`display::Request`] | [`display::Event`] | virtio-vsock or a Unix socket |
//! | stream | [`stream::Output`], [`stream::Chunk`] | [`stream::Input`], [`stream::Chunk`] | virtio-vsock or a Unix socket |
//! | memory | [`memory::Notice`] (from the machine process) | nothing | a Unix socket, never the guest |
//!
//! Words and directions are Wayland's: a *request* goes from the app towards the host, an *event* from the host towards the
//! app. Everything here is decoded from a peer that may be hostile: lengths are checked before anything is allocated, and
//! [`framing::Message::check`] holds the limits that the types cannot.

pub mod catalogue;
pub mod connection;
pub mod control;
pub mod copying;
pub mod display;
pub mod framing;
pub mod geometry;
pub mod handshake;
pub mod input;
pub mod limits;
pub mod links;
pub mod memory;
pub mod scale;
pub mod selection;
pub mod stream;

/// Ports of virtio-vsock on the host, to which the agent connects (context id 2, `VMADDR_CID_HOST`).
pub mod ports {
    /// The control session, held by the machine process.
    pub const CONTROL: u32 = 5000;
    /// The display session, and the streams of what is pasted and dropped; held by the window process.
    pub const DISPLAY: u32 = 5001;
    /// Streams of commands, one connection each, opened by a one-time id; held by the machine process.
    pub const STREAM: u32 = 5002;
}
