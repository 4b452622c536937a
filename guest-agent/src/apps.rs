//! Programs that the agent started: apps, commands of `exec`, the switch-off. Their ends, and those of orphans that fall to the
//! agent, are collected when SIGCHLD came.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use inlay_protocol::control::{Exit, LaunchError, Program, Report};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group};

use crate::agent::Agent;
use crate::exec::{self, Execs};
use crate::spawn::{Channels, Inherited, spawn};

/// Time for programs to end by themselves when the agent does.
const GRACE: Duration = Duration::from_millis(700);
/// How long an app waits for the host's monitors at most: where no window process comes there is nothing to wait for.
const MONITORS: Duration = Duration::from_secs(2);

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    App(u64),
    Exec(u64),
    PowerOff,
    Zone,
    Xwayland,
}

/// All programs that run.
#[derive(Debug, Default)]
pub struct Apps {
    running: BTreeMap<i32, Kind>,
    inherited: Option<Inherited>,
    /// Those with a stream.
    pub execs: Execs,
    /// Apps that wait for the host's monitors, each at most until then.
    waiting: Vec<(Instant, u64, Program)>,
    /// Whether the host has told its monitors.
    monitors: bool,
}

impl Apps {
    /// Takes the limits for children.
    pub fn set_inherited(&mut self, inherited: Inherited) {
        self.inherited = Some(inherited);
    }

    /// The limits for children.
    pub fn inherited(&mut self) -> Inherited {
        *self.inherited.get_or_insert_with(Inherited::raise)
    }

    /// Remembers a command of `exec`.
    pub fn add_exec(&mut self, id: u64, pid: Pid) {
        self.running.insert(pid.as_raw_nonzero().get(), Kind::Exec(id));
    }

    /// Remembers the X server.
    pub fn add_xwayland(&mut self, pid: Pid) {
        self.running.insert(pid.as_raw_nonzero().get(), Kind::Xwayland);
    }

    /// Programs that run, as (id, process id).
    #[must_use]
    pub fn running(&self) -> Vec<(u64, u32)> {
        let of_host = self.running.iter().filter_map(|(pid, kind)| match kind {
            Kind::App(id) | Kind::Exec(id) => Some((*id, u32::try_from(*pid).ok()?)),
            Kind::PowerOff | Kind::Zone | Kind::Xwayland => None,
        });
        of_host.collect()
    }

    /// Takes back an app that has not been started yet; whether there was one.
    pub fn take_back(&mut self, id: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(_, waiting, _)| *waiting != id);
        self.waiting.len() < before
    }

    /// Sends a signal to the process group of a program that runs.
    pub fn signal(&self, id: u64, signal: Signal) {
        let found =
            self.running.iter().find(|(_, kind)| matches!(kind, Kind::App(i) | Kind::Exec(i) if *i == id));
        let pid = found.and_then(|(pid, _)| Pid::from_raw(*pid));
        match pid.map(|pid| kill_process_group(pid, signal)) {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(id, %error, "a signal was not delivered"),
            None => tracing::debug!(id, "a signal for a program that does not run"),
        }
    }
}

/// Starts an app, once the host has told its monitors: an app that sees its monitor go away while it starts may not survive that (SDL 2).
pub fn launch(agent: &mut Agent, id: u64, program: Program) {
    if agent.apps.monitors {
        launch_now(agent, id, &program);
    } else {
        agent.apps.waiting.push((Instant::now() + MONITORS, id, program));
    }
}

/// The host has told its monitors.
pub fn monitors_told(agent: &mut Agent) {
    agent.apps.monitors = true;
    turn(agent, Instant::now());
}

/// Starts apps that need not wait any more.
pub fn turn(agent: &mut Agent, now: Instant) {
    let all = agent.apps.monitors;
    for (_, id, program) in
        agent.apps.waiting.extract_if(.., |(until, ..)| all || *until <= now).collect::<Vec<_>>()
    {
        launch_now(agent, id, &program);
    }
}

/// When [`turn`] has to look again.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    agent.apps.waiting.iter().map(|(until, ..)| *until).min()
}

/// Starts an app.
fn launch_now(agent: &mut Agent, id: u64, program: &Program) {
    let inherited = agent.apps.inherited();
    match spawn(&agent.settings, inherited, program, &Channels::Log) {
        Ok(spawned) => {
            tracing::info!(
                id,
                program = program.argv.first(),
                pid = spawned.pid.as_raw_nonzero(),
                "app started"
            );
            agent.apps.running.insert(spawned.pid.as_raw_nonzero().get(), Kind::App(id));
            let pid = spawned.pid.as_raw_nonzero().get().unsigned_abs();
            agent.report(&Report::Launched { id, pid });
        }
        Err(error) => failed(agent, id, error),
    }
}

/// Reports that a program could not be started.
pub fn failed(agent: &mut Agent, id: u64, error: LaunchError) {
    tracing::warn!(id, %error, "a program was not started");
    agent.report(&Report::LaunchFailed { id, error });
}

/// Runs the command that switches the guest off.
///
/// # Errors
/// When it cannot be started.
pub fn power_off(agent: &mut Agent) -> Result<(), LaunchError> {
    let command = agent.settings.poweroff.clone();
    run(agent, &["/bin/sh", "-c", &command], Kind::PowerOff)
}

/// Runs the command that sets the guest's time zone, with the name of it.
///
/// # Errors
/// When it cannot be started.
pub fn set_zone(agent: &mut Agent, name: &str) -> Result<(), LaunchError> {
    let command = format!("{} \"$1\"", agent.settings.zone);
    run(agent, &["/bin/sh", "-c", &command, "sh", name], Kind::Zone)
}

fn run(agent: &mut Agent, argv: &[&str], kind: Kind) -> Result<(), LaunchError> {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    let program = Program { argv, env: Vec::new(), directory: Some("/".into()) };
    let inherited = agent.apps.inherited();
    let spawned = spawn(&agent.settings, inherited, &program, &Channels::Log)?;
    agent.apps.running.insert(spawned.pid.as_raw_nonzero().get(), kind);
    Ok(())
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Collects all that ended.
pub fn reap(agent: &mut Agent) {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let Some(exit) = exit_of(status) else { continue };
                match agent.apps.running.remove(&pid.as_raw_nonzero().get()) {
                    Some(Kind::App(id)) => {
                        tracing::info!(id, ?exit, "app ended");
                        agent.report(&Report::Exited { id, exit });
                    }
                    Some(Kind::Exec(id)) => exec::exited(agent, id, exit),
                    Some(Kind::Xwayland) => crate::x11::ended(agent, pid),
                    Some(Kind::PowerOff) if exit != Exit::Code(0) => {
                        let text =
                            format!("`{}` ended with {}", agent.settings.poweroff, exit.shell_status());
                        agent.report(&Report::PowerOffFailed(text));
                    }
                    Some(Kind::Zone) if exit != Exit::Code(0) => {
                        tracing::warn!(
                            command = agent.settings.zone,
                            status = exit.shell_status(),
                            "the time zone stays as it is"
                        );
                    }
                    Some(Kind::PowerOff | Kind::Zone) | None => {}
                }
            }
            Ok(None) => return,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends all programs and what they left behind: asks first, and kills what is still there after a moment.
pub fn end_all(agent: &mut Agent) {
    for pid in agent.apps.running.keys().filter_map(|pid| Pid::from_raw(*pid)) {
        // A group may be gone already.
        let _ = kill_process_group(pid, Signal::HUP);
        let _ = kill_process_group(pid, Signal::TERM);
    }
    let asked = Instant::now();
    loop {
        reap_quietly();
        let left = children();
        if left.is_empty() {
            return;
        }
        let kill = asked.elapsed() > GRACE;
        if asked.elapsed() > GRACE * 4 {
            tracing::error!(left = left.len(), "programs do not end");
            return;
        }
        for pid in left.into_iter().filter(|_| kill) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn reap_quietly() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// Children of this process; orphans of the programs are among them (`PR_SET_CHILD_SUBREAPER`).
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let list = std::fs::read_to_string(format!("/proc/self/task/{}/children", own.as_raw_nonzero()));
    let list = list.unwrap_or_default();
    list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Makes orphans of the programs fall to this process.
///
/// # Errors
/// When the kernel does not know how.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}
