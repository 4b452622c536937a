//! Inlay's host side: machines, their windows, and what the command line does with them.

pub mod config;
pub mod paths;
