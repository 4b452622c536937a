//! The real agent with a host of the test's own and real Wayland clients: memory files, two sockets and no window.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod apps;
mod client;
mod control;
mod drag;
mod host;
mod hostile;
mod input;
mod links;
mod pixels;
mod programs;
mod reconnect;
mod shell;
mod windows;
mod wishes;
mod x11;
mod xclient;
