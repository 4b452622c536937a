//! Inlay's host side: machines, their windows, and what the command line does with them.

pub mod api;
pub mod config;
pub mod create;
pub mod machine;
pub mod paths;
pub mod process;
pub mod windows;
