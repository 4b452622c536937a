//! The processes behind the command line: `machine`, `launcher`, `windows`, `files`, `hold`, `grant` and `jail`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::power::{ERROR, LISTENING, RUNNING};
use super::{GrantArgs, HoldArgs, LauncherArgs, MachineArgs, NameArg, WindowsArgs, resolve};
use crate::api::Display;
use crate::apps::Apps;
use crate::files::{self, Serves, lists::FileLists};
use crate::machine::windows::WindowCommand;
use crate::machine::{self, MachineError, Options, Sockets, launcher};
use crate::paths::Folders;
use crate::process::{self, one_line};
use crate::windows::{self, Screen};

/// Logs go to standard error, which the starting process points at a file; `INLAY_LOG` says which.
pub fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("INLAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A second call (in tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

pub(super) fn machine(args: &MachineArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let (folders, name) = args.name.resolve()?;
    let options = Options {
        start_limit: args.begin.limit(),
        display: Display::from_env(args.begin.headless),
        engine: args.begin.engine,
        window: args.window,
    };
    let mut told = false;
    let end = machine::run(&folders, &name, &options, |note| {
        tell(&format!("{LISTENING}{}", one_line(note.unwrap_or_default())));
        told = true;
    });
    if let Err(error) = &end
        && !told
    {
        match error {
            MachineError::Running(_) => tell(RUNNING),
            error => tell(&format!("{ERROR}{}", one_line(&machine::door::chain(error)))),
        }
    }
    end?;
    Ok(ExitCode::SUCCESS)
}

/// Says the one line that whoever started this process waits for.
fn tell(line: &str) {
    let mut out = std::io::stdout();
    // Nobody listens when it was started by hand in the background.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

pub(super) fn windows(args: WindowsArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let runtime = match args.runtime {
        Some(folder) => folder,
        None => {
            let (folders, name) = resolve(&args.label)?;
            folders.machine(&name).runtime().to_owned()
        }
    };
    let sockets = Sockets::new(&runtime);
    let permissions = match args.permissions {
        None if !args.local => Some(Folders::from_env()?.permissions(&args.label.parse()?)),
        given => given,
    };
    let lists =
        if args.local { None } else { Some(FileLists::new(Folders::from_env()?, args.label.parse()?)) };
    let apps = match args.local {
        true => None,
        false => Some(Apps::of(&Folders::from_env()?.machine(&args.label.parse()?))),
    };
    let tray = match args.tray && !args.headless {
        false => None,
        true => Some((Folders::from_env()?, args.label.parse()?)),
    };
    windows::run(&windows::Options {
        permissions,
        tray,
        apps,
        lists,
        border: args.border.colour(&args.label),
        name: args.label,
        display_socket: sockets.display(),
        memory_socket: (!args.local).then(|| sockets.memory()),
        api_socket: sockets.windows(),
        screen: if args.headless { Screen::Headless } else { Screen::Auto },
    })
    .context("cannot show windows")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn launcher(args: LauncherArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let LauncherArgs { label, runtime, border, tray, log } = args;
    let border = border.colour(&label);
    let program = process::own_binary()?;
    launcher::serve(WindowCommand { program, label, runtime, local: false, border, tray, log })
        .context("the machine process does not speak as it should")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn files(name: &NameArg, agent: bool) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let (folders, name) = name.resolve()?;
    let serves = if agent { Serves::Agent } else { Serves::Shares };
    let served = files::serve(&folders, &name, serves, |note| {
        tell(&format!("{LISTENING}{}", one_line(note.unwrap_or_default())));
    });
    if let Err(error) = &served {
        tell(&format!("{ERROR}{}", one_line(&format!("{error:#}"))));
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn hold(args: HoldArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = resolve(&args.machine)?;
    files::hold::hold(&folders, &name, &args.path, args.name, args.read_only)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn jail() -> anyhow::Result<ExitCode> {
    inlay_file_server::jail::check()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn grant(args: &GrantArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    let (folders, name) = resolve(&args.machine)?;
    files::hold::grant_all(&folders, &name, &args.paths, args.read_only, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
