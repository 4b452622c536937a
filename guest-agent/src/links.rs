//! Links that apps open: to the host, where it takes them, else to the guest's own programs.
//!
//! ```text
//! app -> xdg-open, GIO, ... -> the desktop file inlay-link, the default of its schemes -> this program as `open-link URI`
//!     -> a datagram -> the agent -> Request::OpenLink -> host     or, where links stay in the guest, -> xdg-open without that default
//! ```

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use inlay_protocol::control::Program;
use inlay_protocol::display::Request;
use inlay_protocol::limits;
use inlay_protocol::links::is_link;

use crate::agent::Agent;
use crate::spawn::{Channels, spawn};

/// The word that makes this program hand a link to the agent instead of being it.
pub const OPEN: &str = "open-link";
/// The agent's socket, in its folder.
const SOCKET: &str = "inlay-links";
/// Links in one turn of the loop.
const MOST: usize = 16;

/// Where links go.
#[derive(Debug, Default)]
pub struct Links {
    /// The host takes them.
    pub to_host: bool,
}

/// The socket on which links come.
///
/// # Errors
/// It cannot be made.
pub fn listen(folder: &Path) -> io::Result<UnixDatagram> {
    let path = folder.join(SOCKET);
    // One that an agent before left.
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes links that came.
pub fn take(agent: &mut Agent, socket: &UnixDatagram) {
    let mut bytes = [0; limits::LINK + 1];
    for _ in 0..MOST {
        let Ok(count) = socket.recv(&mut bytes) else { return };
        let uri = std::str::from_utf8(&bytes[..count]).map(encoded).unwrap_or_default();
        if !is_link(&uri) {
            tracing::warn!("a link that is none, or of a scheme that stays here");
        } else if agent.links.to_host && agent.display.is_up() {
            if agent.display.waiting() < limits::OUTBOX / 4 {
                agent.send(&Request::OpenLink(uri));
            }
        } else {
            open_here(agent, uri);
        }
    }
}

/// What is no sign of a URI is encoded, as browsers do it (RFC 3987, section 3.1).
fn encoded(uri: &str) -> String {
    let mut out = String::with_capacity(uri.len());
    for char in uri.chars() {
        if char.is_ascii_graphic() {
            out.push(char);
        } else {
            let mut bytes = [0; 4];
            out.extend(char.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    out
}

/// By the guest's own program for it: its defaults are those without ours.
fn open_here(agent: &mut Agent, uri: String) {
    let own = |(name, value): (&str, OsString)| Some((name.to_owned(), value.into_string().ok()?));
    let env = folders(None).into_iter().filter_map(own).collect();
    let program = Program { argv: vec!["xdg-open".into(), uri], env, directory: None };
    let inherited = agent.apps.inherited();
    if let Err(error) = spawn(&agent.settings, inherited, &program, &Channels::Log) {
        tracing::warn!(%error, "a link is not opened");
    }
}

/// Where apps look for desktop files and defaults: in ours as well, after the guest's own files but before its own defaults. What the guest's
/// user chose comes before either.
#[must_use]
pub fn folders(share: Option<&PathBuf>) -> [(&'static str, OsString); 2] {
    let set = |name: &str, default: &str| {
        std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
    };
    let (config, data) =
        (set("XDG_CONFIG_DIRS", "/etc/xdg"), set("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
    let Some(share) = share else { return [("XDG_CONFIG_DIRS", config), ("XDG_DATA_DIRS", data)] };
    let join =
        |first: &std::ffi::OsStr, second: &std::ffi::OsStr| [first, second].join(std::ffi::OsStr::new(":"));
    let xdg = share.join("xdg");
    [("XDG_CONFIG_DIRS", join(xdg.as_os_str(), &config)), ("XDG_DATA_DIRS", join(&data, share.as_os_str()))]
}

/// The process that an app starts to open a link.
///
/// # Errors
/// There is no agent.
pub fn open_main(uri: &str) -> io::Result<()> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
    let socket = UnixDatagram::unbound()?;
    socket.send_to(uri.as_bytes(), folder.join(SOCKET))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_other_scripts_are_encoded_and_what_is_encoded_stays() {
        assert_eq!(encoded("https://a/ä b%20c"), "https://a/%C3%A4%20b%20c");
        assert!(is_link(&encoded("https://a/\u{202e}x\ny")));
    }

    #[test]
    fn ours_comes_after_the_guests_files_and_before_its_defaults() {
        let share = PathBuf::from("/x/share");
        let [(_, config), (_, data)] = folders(Some(&share));
        assert!(config.to_str().unwrap().starts_with("/x/share/xdg:"));
        assert!(data.to_str().unwrap().ends_with(":/x/share"));
    }
}
