//! The control session: commands of the machine process.

use std::path::Path;

use inlay_protocol::control::{Command, Exit, Report};
use rustix::process::Signal;

use crate::agent::{Agent, End};
use crate::catalogue::{self, Ask, Open};
use crate::{apps, clock, exchange, exec};

/// The session is up: says who the guest is, then what still runs.
pub fn up(agent: &mut Agent) {
    agent.clock.begin();
    agent.report(&Report::Ready { system: system_name() });
    for (id, pid) in agent.apps.running() {
        agent.report(&Report::Launched { id, pid });
    }
}

/// `PRETTY_NAME` of the guest (os-release(5)).
fn system_name() -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    pretty_name(&text).unwrap_or_else(|| "Linux".into())
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let value = value.trim();
    let quoted = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    Some(value.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// Handles one command.
pub fn handle(agent: &mut Agent, command: Command) {
    match command {
        Command::Launch { id, program } => apps::launch(agent, id, program),
        Command::Exec { id, program, stream, terminal } => exec::start(agent, id, program, stream, terminal),
        Command::Signal { id, signal } if agent.apps.take_back(id) => {
            agent.report(&Report::Exited { id, exit: Exit::Signal(signal) });
        }
        Command::Signal { id, signal } => match Signal::from_named_raw(signal) {
            Some(signal) => agent.apps.signal(id, signal),
            None => tracing::warn!(signal, "the host asks for a signal that there is not"),
        },
        Command::PowerOff => power_off(agent),
        Command::KeepCopied(bytes) => exchange::keep_up_to(agent, bytes),
        Command::SharpX11(sharp) => crate::x11::sharpen(agent, sharp),
        Command::ListApps { locale } => {
            agent.settings.locale.clone_from(&locale);
            catalogue::ask(agent, Ask::List(locale));
        }
        Command::DescribeApp(id) => catalogue::ask(agent, Ask::Describe(id)),
        Command::Open { id, app, action, uris, env } => {
            catalogue::ask(agent, Ask::Open(Open { id, app, action, uris, env }));
        }
        Command::Ping(number) => agent.report(&Report::Pong(number)),
        Command::CheckClock { now } => clock::check(agent, now),
        Command::Time { question, now } => clock::told(agent, question, now),
        Command::TimeZone(name) => set_zone(agent, &name),
    }
}

/// Has the guest's time zone be the host's. On the host's own kernel it is.
fn set_zone(agent: &mut Agent, name: &str) {
    let now = std::fs::read_link("/etc/localtime").unwrap_or_default();
    if agent.control.address().is_local()
        || now.strip_prefix("/usr/share/zoneinfo").is_ok_and(|z| z == Path::new(name))
    {
        return;
    }
    tracing::info!(name, "the time zone is to be the host's");
    if let Err(error) = apps::set_zone(agent, name) {
        tracing::warn!(%error, "the time zone stays as it is");
    }
}

fn power_off(agent: &mut Agent) {
    if agent.control.address().is_local() {
        agent.report(&Report::PoweringOff);
        agent.end = Some(End::Done);
        return;
    }
    match apps::power_off(agent) {
        Ok(()) => agent.report(&Report::PoweringOff),
        Err(error) => agent.report(&Report::PowerOffFailed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_system_is_unquoted() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
        assert_eq!(pretty_name(text).as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(pretty_name("PRETTY_NAME=Arch").as_deref(), Some("Arch"));
        assert_eq!(pretty_name("NAME=x"), None);
    }
}
