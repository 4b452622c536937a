//! The command line: what can be asked, and who does it.
//!
//! Every failure ends in one line on standard error, `inlay: what: why`, and a status that is not 0.

mod apps;
mod exec;
mod import;
mod internal;
mod login;
mod machines;
mod menu;
mod opening;
mod permissions;
mod picture;
mod power;
mod run;
mod share;
mod window;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use inlay_protocol::control::LaunchError;

use crate::api::ApiError;
use crate::config::{Border, Engine, Firmware};
use crate::paths::{Folders, MachineName};
use crate::permissions::{Pattern, Verdict};
use crate::process::one_line;

pub(crate) use self::power::{ERROR, LISTENING};

/// Shows the apps of a guest operating system as windows of your own desktop.
#[derive(Debug, Parser)]
#[command(name = "inlay", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a machine: a Debian guest with a root disk and a home disk of its own
    Create(CreateArgs),
    /// Make a machine of a copy of a disk: a Linux with its own boot loader, in a raw or qcow2 image
    Import(ImportArgs),
    /// Put Inlay's agent into the guest of an imported machine, so that its apps can be opened as windows
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Open an app of a machine as a window; the machine is started if it is off
    #[command(
        override_usage = "inlay run [OPTIONS] NAME APP [ARGS]...\n       inlay run [OPTIONS] --local APP [ARGS]..."
    )]
    Run(RunArgs),
    /// Run a command in a machine, with its input, output and exit status here
    Exec(ExecArgs),
    /// Show a machine's whole screen in one window, or its apps' windows in one; the machine is started if it is off
    #[command(
        override_usage = "inlay window [OPTIONS] NAME\n       inlay window --together|--apart NAME|--local"
    )]
    Window(WindowArgs),
    /// Start a machine and wait until it is ready
    Start(StartArgs),
    /// Switch a machine off
    Stop(StopArgs),
    /// Stop a machine's processors; its memory stays. It goes on with `resume`, or when something of it is opened or run
    Pause(NameArg),
    /// Let a paused machine go on
    Resume(NameArg),
    /// List the machines and what they are doing
    List {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Delete a machine with its disks
    Delete {
        #[command(flatten)]
        name: NameArg,
        /// Also when it runs: switch it off at once
        #[arg(long)]
        force: bool,
    },
    /// List the apps of a machine, as it told of them last
    Apps(AppsArgs),
    /// Search the apps of all machines, or of one, in a window, and open one: for a key of the desktop's (or click on a tray item)
    Menu(MenuArgs),
    /// Show the apps of a machine in this host's menus and docks, or no longer
    #[command(subcommand)]
    Dock(DockCommand),
    /// List what a machine may exchange with this host, or change it; in effect at once
    Permissions(PermissionsArgs),
    /// Have a machine ready in the background when you log in, or no longer; without on or off, tell which
    Login(LoginArgs),
    /// Cut a running machine off its network, or connect it again; without on or off, tell which
    Network(NetworkArgs),
    /// Let a machine see folders of this host, in /media/host; in effect at once
    #[command(subcommand)]
    Share(ShareCommand),
    /// Tell what is missing on this host, each with the command that mends it
    Doctor,
    /// Write what a window shows to a PNG file
    #[command(
        override_usage = "inlay screenshot NAME WINDOW FILE.png\n       inlay screenshot --local WINDOW FILE.png"
    )]
    Screenshot(ScreenshotArgs),
    /// Internal: hold a machine that is on (the machine process)
    #[command(hide = true)]
    Machine(MachineArgs),
    /// Internal: show windows (the window process)
    #[command(hide = true)]
    Windows(WindowsArgs),
    /// Internal: start window processes for a machine process
    #[command(hide = true)]
    Launcher(LauncherArgs),
    /// Internal: serve a machine's shared folders (the file server)
    #[command(hide = true)]
    Files {
        #[command(flatten)]
        name: NameArg,
        /// Those that an imported guest's agent comes from instead
        #[arg(long)]
        agent: bool,
    },
    /// Internal: bring a folder to a file server
    #[command(hide = true)]
    Hold(HoldArgs),
    /// Internal: give files to a machine, through its file server
    #[command(hide = true)]
    Grant(GrantArgs),
    /// Internal: try what a file server needs
    #[command(hide = true)]
    Jail,
}

#[derive(Debug, Args)]
struct GrantArgs {
    /// The machine
    machine: String,
    /// Files and folders
    paths: Vec<PathBuf>,
    /// The guest does not change them
    #[arg(long)]
    read_only: bool,
}

#[derive(Debug, Args)]
struct HoldArgs {
    /// The machine
    machine: String,
    /// The folder
    path: PathBuf,
    /// What the guest sees it as
    #[arg(long)]
    name: String,
    /// The guest changes nothing in it
    #[arg(long)]
    read_only: bool,
}

#[derive(Debug, Subcommand)]
enum ShareCommand {
    /// Share a folder; one that is shared already can be made read-only so, or writable
    Add {
        /// The machine
        name: String,
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The guest changes nothing in it
        #[arg(long)]
        read_only: bool,
        /// What the guest sees it as; its own name when not given
        #[arg(long = "name", value_name = "AS")]
        called: Option<String>,
    },
    /// Share a folder no longer; what the guest has open of it is closed
    Remove {
        /// The machine
        name: String,
        /// The folder, or what the guest sees it as
        #[arg(value_name = "DIR")]
        folder: String,
    },
    /// List the folders that are shared
    List {
        /// The machine
        name: String,
    },
}

#[derive(Debug, Args)]
struct AppsArgs {
    #[command(flatten)]
    name: NameArg,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DockCommand {
    /// Show them as they are now, and keep that so (as is done for every machine until its apps are removed)
    Sync(NameArg),
    /// Take them out, until `dock sync`
    Remove(NameArg),
    /// Internal: the machine's apps changed
    #[command(hide = true)]
    Refresh(NameArg),
}

#[derive(Debug, Args)]
struct NameArg {
    /// The machine
    name: String,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name: 1 to 31 of a-z, 0-9 and '-'
    name: String,
    /// Debian suite
    #[arg(long, default_value = "trixie")]
    suite: String,
    /// Packages to install beside the basic ones
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    packages: Vec<String>,
    /// Debian mirror; the host's own when not given
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Processors
    #[arg(long)]
    cpus: Option<u32>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// A part of your desktop: copy and paste both ways without a question
    #[arg(long, conflicts_with = "isolated")]
    integrated: bool,
    /// Kept apart: you are asked each time, and its windows have a border (the default, where nobody can be asked)
    #[arg(long)]
    isolated: bool,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The image, raw or qcow2; it is copied, and stays as it is
    disk: PathBuf,
    /// The machine's name: 1 to 31 of a-z, 0-9 and '-'
    #[arg(long)]
    name: String,
    /// What runs its boot loader: by default BIOS where the disk has code for it, else UEFI where it has an EFI system partition
    #[arg(long)]
    firmware: Option<Firmware>,
    /// Processors
    #[arg(long)]
    cpus: Option<u32>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// A part of your desktop: copy and paste both ways without a question
    #[arg(long, conflicts_with = "isolated")]
    integrated: bool,
    /// Kept apart: you are asked each time, and its windows have a border (the default, where nobody can be asked)
    #[arg(long)]
    isolated: bool,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Start the machine if it is off, say what is to be typed in its guest, and wait until the agent comes
    Install(StartArgs),
}

#[derive(Debug, Args)]
struct LoginArgs {
    #[command(flatten)]
    name: NameArg,
    /// Started by a unit of your systemd
    switch: Option<Switch>,
}

#[derive(Debug, Args)]
struct NetworkArgs {
    #[command(flatten)]
    name: NameArg,
    /// Until it is switched off; `network = "none"` in its configuration is for good
    switch: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
struct PermissionsArgs {
    /// The machine
    name: String,
    /// Which permission, or a group of them (clipboard, clipboard-in, clipboard-out-text ...)
    permission: Option<Pattern>,
    /// What it is to be; without it the permissions are listed
    verdict: Option<Verdict>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Run the app on this system, without a machine
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    begin: BeginArgs,
    /// With --local: a border around its windows and menus, "none", "auto" or a colour such as "#d93a2b"
    #[arg(long, value_name = "COLOUR", requires = "local")]
    border: Option<Border>,
    /// One of the further things that the app does, as its entry in menus has them
    #[arg(long, value_name = "ACTION", conflicts_with = "local")]
    action: Option<String>,
    /// Say in a window why it failed, as entries in menus do
    #[arg(long, conflicts_with = "local")]
    notify: bool,
    /// Wait until the app ends; its exit status becomes this command's
    #[arg(long)]
    wait: bool,
    /// The machine (with --local: the app)
    #[arg(value_name = "NAME")]
    first: String,
    /// A program and its arguments; or an app (NAME.desktop, see `inlay apps`) and files or links to open with it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "APP")]
    rest: Vec<String>,
}

/// How to start a machine.
#[derive(Debug, Args)]
struct BeginArgs {
    /// Without a display: windows can only be seen by `inlay screenshot`
    #[arg(long)]
    headless: bool,
    /// Seconds that the guest may take to start; then it fails, or on a desktop you are asked
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
    /// Who runs the guest, if it is off; as its configuration says when not given
    #[arg(long)]
    engine: Option<Engine>,
}

#[derive(Debug, Args)]
struct StartArgs {
    #[command(flatten)]
    name: NameArg,
    #[command(flatten)]
    begin: BeginArgs,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct WindowArgs {
    /// The machine (not with --local)
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    name: Option<String>,
    #[command(flatten)]
    begin: BeginArgs,
    /// On all of a monitor
    #[arg(long)]
    fullscreen: bool,
    /// The windows of all apps in one, instead of the guest's screen
    #[arg(long)]
    together: bool,
    /// Each app's windows on the desktop again
    #[arg(long, conflicts_with_all = ["together", "fullscreen"])]
    apart: bool,
    /// Those of apps that run on this system, without a machine; with --together or --apart
    #[arg(long)]
    local: bool,
}

#[derive(Debug, Args)]
struct MenuArgs {
    /// Only this machine's
    name: Option<String>,
}

#[derive(Debug, Args)]
struct StopArgs {
    #[command(flatten)]
    name: NameArg,
    /// At once, without asking the guest
    #[arg(long)]
    force: bool,
    /// Seconds that the guest may take before force is used
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// Give the command a terminal
    #[arg(short, long)]
    terminal: bool,
    #[command(flatten)]
    name: NameArg,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct ScreenshotArgs {
    /// Of an app that runs on this system, without a machine
    #[arg(long)]
    local: bool,
    /// The machine (not with --local), the window (a part of its title, or its number), the file
    #[arg(num_args = 2..=3, required = true, value_names = ["NAME", "WINDOW", "FILE"])]
    words: Vec<String>,
}

#[derive(Debug, Args)]
struct MachineArgs {
    #[command(flatten)]
    name: NameArg,
    #[command(flatten)]
    begin: BeginArgs,
    /// Show the guest's screen
    #[arg(long)]
    window: bool,
}

#[derive(Debug, Args)]
struct WindowsArgs {
    /// The machine, or `local`
    label: String,
    /// Folder of its sockets
    #[arg(long)]
    runtime: Option<PathBuf>,
    /// Buffers come as memory descriptors
    #[arg(long)]
    local: bool,
    /// On no screen
    #[arg(long)]
    headless: bool,
    /// What may be exchanged [default: the machine's, everything with --local]
    #[arg(long, value_name = "FILE")]
    permissions: Option<PathBuf>,
    /// Around the guest's windows and menus
    #[arg(long, default_value_t)]
    border: Border,
    /// With an item in the desktop's tray
    #[arg(long, conflicts_with = "local")]
    tray: bool,
}

#[derive(Debug, Args)]
struct LauncherArgs {
    /// The machine
    label: String,
    /// Folder of its sockets
    #[arg(long)]
    runtime: PathBuf,
    /// Around the guest's windows and menus
    #[arg(long, default_value_t)]
    border: Border,
    /// With an item in the desktop's tray
    #[arg(long)]
    tray: bool,
    /// Where window processes log
    #[arg(long)]
    log: PathBuf,
}

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed; the status tells it too.
            let _ = writeln!(std::io::stderr(), "inlay: {}", one_line(&format!("{error:#}")));
            failure_status(&error)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => machines::create(args),
        Command::Import(args) => import::import(args),
        Command::Agent(AgentCommand::Install(args)) => import::install_agent(&args),
        Command::Run(args) => run::run(args),
        Command::Exec(args) => exec::exec(args),
        Command::Menu(args) => menu::menu(&args),
        Command::Window(args) => window::window(&args),
        Command::Start(args) => power::start(&args),
        Command::Stop(args) => power::stop(&args),
        Command::Network(args) => power::network(&args),
        Command::Pause(name) => power::pause(&name, true),
        Command::Resume(name) => power::pause(&name, false),
        Command::List { json } => machines::list(json),
        Command::Delete { name, force } => machines::delete(&name, force),
        Command::Apps(args) => apps::apps(&args),
        Command::Dock(command) => apps::dock(&command),
        Command::Permissions(args) => permissions::permissions(&args),
        Command::Login(args) => login::login(&args),
        Command::Share(command) => share::share(&command),
        Command::Doctor => machines::doctor(),
        Command::Screenshot(args) => picture::screenshot(args),
        Command::Machine(args) => internal::machine(&args),
        Command::Windows(args) => internal::windows(args),
        Command::Launcher(args) => internal::launcher(args),
        Command::Files { name, agent } => internal::files(&name, agent),
        Command::Hold(args) => internal::hold(args),
        Command::Grant(args) => internal::grant(&args),
        Command::Jail => internal::jail(),
    }
}

/// As shells say it: 127 for a program that is not there, 126 for one that cannot be executed, else 1.
fn failure_status(error: &anyhow::Error) -> ExitCode {
    let launch = error.downcast_ref::<LaunchError>().or_else(|| match error.downcast_ref::<ApiError>() {
        Some(ApiError::Launch(error)) => Some(error),
        _ => None,
    });
    match launch {
        Some(LaunchError::NotFound(_) | LaunchError::NoApp(_)) => ExitCode::from(127),
        Some(LaunchError::NotExecutable(_)) => ExitCode::from(126),
        _ => ExitCode::FAILURE,
    }
}

impl NameArg {
    /// The user's folders and the machine's name, checked.
    fn resolve(&self) -> anyhow::Result<(Folders, MachineName)> {
        resolve(&self.name)
    }
}

fn resolve(name: &str) -> anyhow::Result<(Folders, MachineName)> {
    let name = name.parse()?;
    Ok((Folders::from_env()?, name))
}

impl BeginArgs {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// A program's status as this command's.
fn status(code: i32) -> ExitCode {
    // As a parent would see it: the low 8 bits.
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definitions_hold() {
        Cli::command().debug_assert();
    }

    fn run_args(words: &[&str]) -> RunArgs {
        let words = ["inlay", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_before_the_app_are_ours_and_those_behind_it_are_its_own() {
        let args = run_args(&["demo", "--wait", "foot", "--headless", "-e", "top"]);
        assert!(args.wait && !args.begin.headless);
        assert_eq!((args.first.as_str(), args.rest.join(" ")), ("demo", "foot --headless -e top".into()));
        let args = run_args(&["--local", "foot", "-e", "top"]);
        assert!(args.local);
        assert_eq!((args.first.as_str(), args.rest.join(" ")), ("foot", "-e top".into()));
    }

    #[test]
    fn commands_with_and_without_dashes() {
        for words in
            [&["inlay", "exec", "-t", "m", "--", "ls", "-l"][..], &["inlay", "exec", "-t", "m", "ls", "-l"]]
        {
            let Command::Exec(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("{words:?}")
            };
            assert!(args.terminal);
            assert_eq!(args.command, ["ls", "-l"]);
        }
        assert!(Cli::try_parse_from(["inlay", "exec", "m"]).is_err());
        assert!(Cli::try_parse_from(["inlay", "screenshot", "m"]).is_err());
    }

    #[test]
    fn failures_of_programs_have_the_shells_status() {
        let error = anyhow::Error::from(ApiError::Launch(LaunchError::NotFound("x".into())));
        assert_eq!(failure_status(&error.context("cannot run x")), ExitCode::from(127));
        assert_eq!(failure_status(&anyhow::anyhow!("no")), ExitCode::FAILURE);
    }
}
