//! Inlay's host side: machines, their windows, and what the command line does with them.

pub mod api;
pub mod apps;
pub mod cli;
pub mod config;
pub mod create;
pub mod dock;
pub mod doctor;
pub mod files;
pub mod local;
pub mod locale;
pub mod login;
pub mod machine;
pub mod paths;
pub mod permissions;
pub mod process;
pub mod shares;
pub mod signals;
pub mod tray;
pub mod windows;
