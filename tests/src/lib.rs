//! What the whole-path tests share: a Wayland client that draws known pixels, and handles on real hosts and machines.

pub mod bare;
pub mod client;
pub mod nested;
pub mod pattern;
