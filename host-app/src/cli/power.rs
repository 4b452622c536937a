//! `start`, `stop`, `pause`, `resume`; and starting on demand.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{BeginArgs, NameArg, NetworkArgs, StartArgs, StopArgs, Switch};
use crate::api::{ApiError, Client, Display, Reply, Request};
use crate::machine::record::{self, Lock, State};
use crate::machine::{Sockets, check_exists};
use crate::paths::{Folders, MachineName, MachinePaths};
use crate::process;

/// Words that a machine process says first. What the user should know follows the first of them.
pub(crate) const LISTENING: &str = "listening ";
pub(super) const RUNNING: &str = "running";
pub(crate) const ERROR: &str = "error ";

/// A log that is longer is kept as `.old` and begun anew.
const LOG_MAX: u64 = 4 << 20;
/// How long a machine that another process just starts, makes or ends may take to answer.
const SETTLE: Duration = Duration::from_secs(45);

/// A connection to a machine process, and whether it was started for it.
pub(super) struct Connected {
    pub client: Client,
    pub started: bool,
}

/// Connects to the machine's process; starts one when there is none. Of several at the same instant one starts it.
pub(super) fn connect_or_start(
    folders: &Folders,
    name: &MachineName,
    begin: &BeginArgs,
) -> anyhow::Result<Connected> {
    connect_or_start_with(folders, name, begin, false)
}

/// The same; one that is started here shows the guest's screen if asked to.
pub(super) fn connect_or_start_with(
    folders: &Folders,
    name: &MachineName,
    begin: &BeginArgs,
    window: bool,
) -> anyhow::Result<Connected> {
    let paths = folders.machine(name);
    check_exists(&paths)?;
    let socket = Sockets::new(paths.runtime()).api();
    let end = Instant::now() + SETTLE;
    loop {
        if let Some(client) = Client::connect(&socket)? {
            return Ok(Connected { client, started: false });
        }
        if spawn(&paths, begin, window)? {
            let client = Client::connect(&socket)?.context("the machine process ended at once")?;
            return Ok(Connected { client, started: true });
        }
        if Instant::now() > end {
            bail!("the machine {name} is in use by another process, which does not answer");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a machine process; `false` when another holds the machine.
fn spawn(paths: &MachinePaths, begin: &BeginArgs, window: bool) -> anyhow::Result<bool> {
    let log_path = paths.machine_log();
    let log = open_log(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut command = Command::new(process::own_binary()?);
    command.arg("machine").arg(paths.name().as_str()).arg("--timeout").arg(begin.timeout.to_string());
    if begin.headless {
        command.arg("--headless");
    }
    if window {
        command.arg("--window");
    }
    if let Some(engine) = begin.engine {
        command.arg("--engine").arg(engine.name());
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child =
        process::in_own_session(&mut command).spawn().context("cannot start the machine process")?;
    let out = child.stdout.take().context("the machine process has no output")?;
    let mut line = String::new();
    BufReader::new(out.take(4096)).read_line(&mut line)?;
    if let Some(note) = line.strip_prefix(LISTENING) {
        if !note.trim().is_empty() {
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "inlay: {}", note.trim());
        }
        return Ok(true);
    }
    match line.trim_end() {
        RUNNING => {
            child.wait()?;
            Ok(false)
        }
        other => {
            child.wait()?;
            match other.strip_prefix(ERROR) {
                Some(error) => bail!("{error}"),
                None => bail!("the machine process ended: see {}", log_path.display()),
            }
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LOG_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// Waits until the agent serves, telling on a terminal what goes on.
pub(super) fn wait_ready(
    client: &mut Client,
    name: &MachineName,
    display: Display,
    told: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let mut progress = Progress::new(name);
    let answer = client.ask(&Request::Ready(display), &mut |text| {
        progress.tell(text);
        told(text);
    });
    drop(progress);
    answer.with_context(|| format!("the machine {name} is not ready"))?;
    Ok(())
}

/// A line on a terminal that says what goes on; nothing elsewhere.
struct Progress {
    name: String,
    bar: Option<indicatif::ProgressBar>,
}

impl Progress {
    fn new(name: &MachineName) -> Self {
        Self { name: name.to_string(), bar: None }
    }

    fn tell(&mut self, text: &str) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = indicatif::ProgressBar::new_spinner();
            let style = indicatif::ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{}: {text}", self.name));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

pub(super) fn start(args: &StartArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let begun = Instant::now();
    let mut connected = connect_or_start(&folders, &name, &args.begin)?;
    if !connected.started {
        bail!("the machine {name} is running already");
    }
    let display = Display::from_env(args.begin.headless);
    match wait_ready(&mut connected.client, &name, display, &mut |_| {}) {
        Ok(()) => say(&format!("{name} is ready after {:.1} s", begun.elapsed().as_secs_f64())),
        // It runs nevertheless.
        Err(error) => match error.downcast_ref::<ApiError>() {
            Some(ApiError::NoAgent(why)) => say(&format!("{name} runs; {why}")),
            _ => return Err(error),
        },
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn stop(args: &StopArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let paths = folders.machine(&name);
    let mut client = connect(&paths)?;
    let grace = Duration::from_secs(args.timeout.into());
    if let Some(reason) = switch_off(&mut client, &paths, args.force, grace)?
        && !args.force
    {
        // Standard error may be closed.
        let _ = writeln!(std::io::stderr(), "inlay: {name} was switched off by force: {reason}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Switches a machine off and waits until nothing of it runs; the reason when force was used.
pub(super) fn switch_off(
    client: &mut Client,
    paths: &MachinePaths,
    force: bool,
    grace: Duration,
) -> anyhow::Result<Option<String>> {
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    let mut progress = Progress::new(paths.name());
    progress.tell("switching off");
    let answer = client.ask(&Request::Stop { force, grace_ms }, &mut |text| progress.tell(text));
    drop(progress);
    let (reply, _) = answer.with_context(|| format!("the machine {} does not stop", paths.name()))?;
    let Reply::Stopped { forced } = reply else {
        bail!("the machine process gave an answer that does not fit")
    };
    let end = Instant::now() + SETTLE;
    while paths.data().exists() && Lock::take(paths)?.is_none() {
        if Instant::now() > end {
            bail!("the machine process of {} does not end", paths.name());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(forced)
}

/// Connects to a machine that is on.
pub(super) fn connect(paths: &MachinePaths) -> anyhow::Result<Client> {
    check_exists(paths)?;
    if let Some(client) = Client::connect(&Sockets::new(paths.runtime()).api())? {
        return Ok(client);
    }
    match record::look(paths)? {
        State::Failed(reason) => bail!("the machine {} is not running; it failed: {reason}", paths.name()),
        _ => bail!("the machine {} is not running", paths.name()),
    }
}

pub(super) fn pause(name: &NameArg, pause: bool) -> anyhow::Result<ExitCode> {
    let (folders, name) = name.resolve()?;
    let request = if pause { Request::Pause } else { Request::Resume };
    connect(&folders.machine(&name))?.ask(&request, &mut |_| {})?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn network(args: &NetworkArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let mut machine = connect(&folders.machine(&name))?;
    match args.switch {
        Some(switch) => {
            machine.ask(&Request::Network(switch == Switch::On), &mut |_| {})?;
        }
        None => {
            let (Reply::Status(status), _) = machine.ask(&Request::Status, &mut |_| {})? else {
                bail!("the machine {name} does not say what it does");
            };
            say(match status.network {
                Some(true) => "on",
                Some(false) => "off",
                None => "none",
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line on standard output.
pub(super) fn say(text: &str) {
    // Whoever reads it may be gone.
    let _ = writeln!(std::io::stdout(), "{text}");
}
