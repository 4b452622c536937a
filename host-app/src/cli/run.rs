//! `run`: an app of a machine, or of this system.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inlay_protocol::control::Program;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{RunArgs, power, resolve, status};
use crate::api::{ApiError, Client, Display, Reply, Request};
use crate::local;
use crate::machine::Sockets;
use crate::machine::wait::wait;
use crate::machine::windows::NoDisplay;
use crate::paths::Folders;
use crate::signals::Signals;

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    if args.local {
        let argv = std::iter::once(args.first).chain(args.rest).collect();
        let (display, border) = (Display::from_env(args.begin.headless), args.border.unwrap_or_default());
        let code = local::run(&Folders::from_env()?, argv, &display, border)?;
        return Ok(status(code));
    }
    let (folders, name) = resolve(&args.first)?;
    let Some(app) = args.rest.first().cloned() else {
        bail!("which app? give it behind the machine's name");
    };
    let display = Display::from_env(args.begin.headless);
    let paths = folders.machine(&name);
    crate::machine::check_exists(&paths)?;
    // A machine that is off is not started in vain.
    if display == Display::Any && Client::connect(&Sockets::new(paths.runtime()).api())?.is_none() {
        return Err(NoDisplay.into());
    }
    let mut connected = power::connect_or_start(&folders, &name, &args.begin)?;
    power::wait_ready(&mut connected.client, &name, display.clone())?;
    // Not there yet when this starts the window process: then it has no earlier input to go by.
    if let Err(error) = crate::windows::api::launched(&Sockets::new(paths.runtime()).windows()) {
        tracing::debug!("no window process to tell: {error:#}");
    }
    let program = Program { argv: args.rest, env: Vec::new(), directory: None };
    let request = Request::Launch { program, wait: args.wait, display };
    let failed = || format!("cannot run {app} in {name}");
    let (reply, _) = connected.client.ask(&request, &mut |_| {}).with_context(failed)?;
    let Reply::Launched(_) = reply else { return Err(ApiError::Unexpected).with_context(failed) };
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(status(wait_for_end(&mut connected.client).with_context(|| format!("{app} in {name}"))?))
}

/// Waits for the app's end; signals are handed on to it.
fn wait_for_end(client: &mut Client) -> anyhow::Result<i32> {
    let mut signals = Signals::watch(&[SIGINT, SIGTERM, SIGHUP])?;
    loop {
        match client.next(Some(std::time::Duration::ZERO)) {
            Ok((Reply::Exited(exit), _)) => return Ok(exit.shell_status()),
            Ok(_) | Err(ApiError::TimedOut(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let connection = client.connection();
        wait([(connection.fd(), connection.wants_write()), (signals.fd(), false)].into_iter(), None)?;
        // `next` does not read when it may not wait.
        client.connection().receive().map_err(ApiError::from)?;
        for signal in signals.came() {
            client.send(&Request::Signal(signal))?;
        }
    }
}
