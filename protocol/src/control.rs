//! The control session: apps and commands of the guest, shutdown. Between the agent and the machine process.
//!
//! The agent says [`Report::Ready`] after the handshake, then every app that still runs; so a restarted machine process
//! knows them again.

use serde::{Deserialize, Serialize};

use crate::catalogue::{self, App, Listed};
use crate::framing::{Invalid, Message};
use crate::limits;

/// A program to start in the guest, as the guest user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Program {
    /// The program (looked up in `PATH` when it has no slash) and its arguments.
    pub argv: Vec<String>,
    /// Environment entries added to those of the session.
    pub env: Vec<(String, String)>,
    /// Working directory; the user's home when there is none.
    pub directory: Option<String>,
}

impl Program {
    /// Checks counts and sizes, and that nothing holds a NUL byte.
    ///
    /// # Errors
    /// The field out of its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        let entries =
            self.argv.iter().chain(self.env.iter().flat_map(|(k, v)| [k, v])).chain(&self.directory);
        Invalid::unless(!self.argv.is_empty(), "argv")?;
        Invalid::unless(self.argv.len() + self.env.len() <= limits::ARGUMENTS, "argv")?;
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.len();
            Invalid::unless(bytes <= limits::ARGUMENT_BYTES, "bytes of the arguments")?;
            Invalid::unless(!entry.contains('\0'), "arguments (a NUL byte)")?;
        }
        let named = |key: &String| !key.is_empty() && !key.contains('=');
        Invalid::unless(self.env.iter().all(|(key, _)| named(key)), "environment name")
    }
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status that a shell would give: the code, or 128 plus the signal.
    #[must_use]
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_i32.saturating_add(signal),
        }
    }
}

/// Why a program was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LaunchError {
    /// Not in `PATH`, or no such file.
    #[error("no such program: {0}")]
    NotFound(String),
    /// Found, but may not be executed.
    #[error("not executable: {0}")]
    NotExecutable(String),
    /// The working directory cannot be entered.
    #[error("no such directory: {0}")]
    Directory(String),
    /// Anything else, in the guest's words.
    #[error("{0}")]
    Other(String),
    /// No desktop file of that id, or one that is not for menus.
    #[error("no such app: {0}")]
    NoApp(String),
}

/// From the machine process to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Starts an app; its windows come by the display session.
    Launch {
        /// Given by the host, named in the reports.
        id: u64,
        /// What.
        program: Program,
    },
    /// Runs a command whose input and output travel on a stream of this id.
    Exec {
        /// Given by the host, named in the reports.
        id: u64,
        /// What.
        program: Program,
        /// One-time id of the stream that the agent opens.
        stream: [u8; 16],
        /// Set to give it a terminal of this size.
        terminal: Option<TerminalSize>,
    },
    /// Sends a signal to the process group of an app.
    Signal {
        /// The id of its launch.
        id: u64,
        /// Signal number.
        signal: i32,
    },
    /// Switches the guest off in order.
    PowerOff,
    /// Answered by [`Report::Pong`].
    Ping(u64),
    /// Bytes of what was copied that are kept when its app ends; 0 keeps nothing.
    KeepCopied(u64),
    /// Whether X11 apps draw at the scale of the host's sharpest monitor; else they draw at 1, and are enlarged.
    SharpX11(bool),
    /// Asks for the apps that the guest has, now and whenever that changes ([`crate::catalogue`]).
    ListApps {
        /// Language, and country or more, of the host's user, as in `LANG`; empty for none.
        locale: String,
    },
    /// Asks for all of one app.
    DescribeApp(String),
    /// Opens an app as its desktop file says; its reports are those of a launch.
    Open {
        /// Given by the host, named in the reports.
        id: u64,
        /// Which.
        app: String,
        /// One of its actions.
        action: Option<String>,
        /// Files (as the guest finds them) and links to open with it.
        uris: Vec<String>,
        /// Environment entries added to those of the session.
        env: Vec<(String, String)>,
    },
    /// The guest's clock may be wrong: at the start of a session, after a pause, when the host's own clock was set, and now
    /// and then. The agent asks for the time ([`Report::AskTime`]).
    CheckClock {
        /// The host's time when this was sent, in nanoseconds since 1970 (UTC).
        now: u64,
    },
    /// Answer to [`Report::AskTime`].
    Time {
        /// The number of the question.
        question: u64,
        /// The host's time, in nanoseconds since 1970 (UTC).
        now: u64,
    },
    /// The host's time zone, by its name ([`is_time_zone`]): the guest's is to be the same.
    TimeZone(String),
}

/// From the agent to the machine process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The agent is up and serves; `PRETTY_NAME` of the guest.
    Ready {
        /// The guest's operating system.
        system: String,
    },
    /// The program runs.
    Launched {
        /// Its id.
        id: u64,
        /// Its process id in the guest.
        pid: u32,
    },
    /// The program could not be started.
    LaunchFailed {
        /// Its id.
        id: u64,
        /// Why.
        error: LaunchError,
    },
    /// The program ended.
    Exited {
        /// Its id.
        id: u64,
        /// How.
        exit: Exit,
    },
    /// Answer to a ping.
    Pong(u64),
    /// Switching off has begun.
    PoweringOff,
    /// Switching off is not possible.
    PowerOffFailed(String),
    /// The apps that there are.
    Apps(Vec<Listed>),
    /// All of one app.
    App(Box<App>),
    /// There is no such app (any more).
    NoApp(String),
    /// Asks for the host's time; the number comes back. After each [`Command::CheckClock`], [`limits::TIMES`] are answered.
    AskTime(u64),
}

/// Whether this can be a locale as desktop files name them: `lang_COUNTRY.ENCODING@MODIFIER`, or nothing.
fn is_locale(locale: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    locale.len() <= 64 && locale.bytes().all(plain)
}

/// Whether this can be the name of a time zone: `Europe/Berlin`, `Etc/GMT+5`, `UTC`. It becomes a path in the guest.
#[must_use]
pub fn is_time_zone(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte);
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.bytes().all(plain);
    name.len() <= limits::TIME_ZONE && name.split('/').all(part)
}

impl Message for Command {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Launch { program, .. } | Self::Exec { program, .. } => program.check(),
            Self::Signal { signal, .. } => Invalid::unless((1..=64).contains(signal), "signal"),
            Self::PowerOff
            | Self::Ping(_)
            | Self::KeepCopied(_)
            | Self::SharpX11(_)
            | Self::CheckClock { .. }
            | Self::Time { .. } => Ok(()),
            Self::TimeZone(name) => Invalid::unless(is_time_zone(name), "time zone"),
            Self::ListApps { locale } => Invalid::unless(is_locale(locale), "locale"),
            Self::DescribeApp(app) => catalogue::check_open(app, None, &[]),
            Self::Open { app, action, uris, env, .. } => {
                catalogue::check_open(app, action.as_ref(), uris)?;
                Program { argv: vec![app.clone()], env: env.clone(), directory: None }.check()
            }
        }
    }
}

impl Message for Report {
    fn check(&self) -> Result<(), Invalid> {
        let short = |text: &String| Invalid::unless(text.len() <= limits::TITLE, "text");
        match self {
            Self::Ready { system: text } | Self::PowerOffFailed(text) => short(text),
            Self::LaunchFailed { error, .. } => match error {
                LaunchError::NotFound(text)
                | LaunchError::NotExecutable(text)
                | LaunchError::Directory(text)
                | LaunchError::Other(text)
                | LaunchError::NoApp(text) => short(text),
            },
            Self::Launched { .. }
            | Self::Exited { .. }
            | Self::Pong(_)
            | Self::PoweringOff
            | Self::AskTime(_) => Ok(()),
            Self::Apps(apps) => catalogue::check_list(apps),
            Self::App(app) => app.check(),
            Self::NoApp(id) => catalogue::check_open(id, None, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_plain_names() {
        for name in
            ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Etc/GMT-14", "GB-Eire"]
        {
            assert!(Command::TimeZone(name.into()).check().is_ok(), "{name}");
        }
        let long = "a".repeat(limits::TIME_ZONE + 1);
        let bad = [
            "",
            "/etc/shadow",
            "../etc/shadow",
            "Europe/../..",
            "Europe//Berlin",
            "Europe/",
            "-f",
            "Europe/-f",
        ];
        for name in bad.into_iter().chain([":UTC", "a b", "a\nb", "a.b", "Z\u{fc}rich", &long]) {
            assert!(Command::TimeZone(name.into()).check().is_err(), "{name:?}");
        }
    }
}
