//! The real agent with a host of the test's own and real Wayland clients: a memory file, two sockets and no window.

mod host;
mod programs;
