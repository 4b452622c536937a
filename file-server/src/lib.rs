//! Shared folders and granted files, served to a hostile guest: FUSE requests in, system calls of the host out.
//!
//! A [`Server`] knows nothing of virtio: a [`Message`] is a request and the room for its answer. What makes it safe:
//!
//! - A name from the guest is one component, checked before any system call sees it, and looked up in a folder that is held by its
//!   descriptor, never through a symbolic link. Links are text, which the guest's kernel follows within the guest.
//! - What is found is held by its descriptor from then on: no path is looked up twice, so nothing can be swapped in between.
//! - Files and folders alone are opened: no device, no pipe, no socket. No set-user-id bit is ever set.
//! - Files of the serving user are the guest user's; nobody's owner can be changed.
//! - All tables are bounded by the number of descriptors that the process may have.
//!
//! Around it the process that runs it is in a jail, where nothing but these descriptors is left of the host.

mod abi;
mod attributes;
mod files;
mod folders;
pub mod jail;
mod names;
mod nodes;
mod server;
mod shares;
#[cfg(test)]
mod tests;

pub use nodes::Owner;
pub use server::{Message, Server};
pub use shares::{FILES_NAME, Refused, Share, ShareId};
