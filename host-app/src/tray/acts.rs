//! What the item's menu does: each entry is a command of Inlay's own, or the desktop's file manager.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Said;
use crate::paths::MachineName;
use crate::process::{self, one_line};

/// Bytes of a command's last words.
const WORDS: u64 = 4096;

/// Something that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Open this app.
    Open(String),
    /// Have the user choose among all apps.
    Apps,
    /// Show a folder of this host.
    Folder(PathBuf),
    /// Show the guest's screen.
    Screen,
    /// Have the windows of all apps in one, or no more.
    Together(bool),
    /// Connect its network, or cut it off.
    Network(bool),
    /// Let its processors stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Switch it off.
    Stop,
}

impl Act {
    /// The words behind `inlay`; none for a folder.
    fn words(&self, name: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Open(id) => {
                return ["run", "--notify", name, &format!("{id}.desktop")].map(str::to_owned).to_vec();
            }
            Self::Apps => &["menu", name],
            Self::Folder(_) => &[],
            Self::Screen => &["window", name],
            Self::Together(true) => &["window", name, "--together"],
            Self::Together(false) => &["window", name, "--apart"],
            Self::Network(true) => &["network", name, "on"],
            Self::Network(false) => &["network", name, "off"],
            Self::Pause => &["pause", name],
            Self::Resume => &["resume", name],
            Self::Stop => &["stop", name],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether the command itself tells the user what went wrong.
    fn tells(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Apps)
    }
}

/// Does what is chosen.
#[derive(Debug)]
pub(super) struct Acts {
    name: MachineName,
    said: Said,
}

impl Acts {
    /// For this machine.
    pub fn new(name: &MachineName, said: Said) -> Self {
        Self { name: name.clone(), said }
    }

    /// Does one, on a thread of its own: a command takes its time. `token` is the desktop's, for the window that opens.
    pub fn act(&self, act: Act, token: Option<String>) {
        let (name, said) = (self.name.to_string(), self.said.clone());
        let run = move || {
            if let Err(why) = run(&act, &name, token)
                && !act.tells()
            {
                said.say(one_line(&format!("{name}: {why}")));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("tray command".into()).spawn(run) {
            tracing::warn!("what was chosen in the tray is not done: {error}");
        }
    }
}

/// Runs the command to its end; its last words where it failed.
fn run(act: &Act, name: &str, token: Option<String>) -> Result<(), String> {
    let mut command = match act {
        Act::Folder(path) if !path.is_dir() => {
            return Err(format!("{} is no folder any more", path.display()));
        }
        Act::Folder(path) => {
            let mut command = Command::new("xdg-open");
            command.arg(path).stderr(Stdio::null());
            command
        }
        _ => {
            let mut command = Command::new(process::own_binary().map_err(|error| error.to_string())?);
            command.args(act.words(name)).stderr(Stdio::piped());
            command
        }
    };
    // What this process was started with is used.
    command.env_remove("XDG_ACTIVATION_TOKEN").env_remove("DESKTOP_STARTUP_ID");
    command.envs(token.map(|token| ("XDG_ACTIVATION_TOKEN", token)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
    let mut child = process::in_own_session(&mut command).spawn().map_err(|error| match act {
        Act::Folder(_) => format!("a folder cannot be shown: xdg-open cannot be started ({error})"),
        _ => error.to_string(),
    })?;
    let mut words = Vec::new();
    if let Some(errors) = child.stderr.take() {
        // As much as it says at the end of what it does is little.
        let _ = errors.take(WORDS).read_to_end(&mut words);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words).into_owned();
    let last = words.lines().rev().find(|line| !line.trim().is_empty());
    Err(match (act, last) {
        (Act::Folder(path), _) => format!("{} cannot be shown ({status})", path.display()),
        (_, Some(line)) => line.trim().trim_start_matches("inlay: ").to_owned(),
        (_, None) => status.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_commands_that_users_have() {
        use clap::CommandFactory as _;
        for act in [
            Act::Open("foot".into()),
            Act::Apps,
            Act::Screen,
            Act::Together(true),
            Act::Together(false),
            Act::Network(true),
            Act::Network(false),
            Act::Pause,
            Act::Resume,
            Act::Stop,
        ] {
            let words = std::iter::once("inlay".to_owned()).chain(act.words("work"));
            crate::cli::Cli::command()
                .try_get_matches_from(words)
                .unwrap_or_else(|error| panic!("{act:?}: {error}"));
        }
    }
}
