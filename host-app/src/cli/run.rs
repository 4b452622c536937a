//! `run`: an app of a machine, or of this system.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inlay_protocol::catalogue::{self, Takes};
use inlay_protocol::control::Program;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::opening::Opening;
use super::{RunArgs, power, resolve, status};
use crate::api::{ApiError, Client, Display, Reply, Request};
use crate::apps::{Apps, Recent};
use crate::files::open;
use crate::local;
use crate::machine::Sockets;
use crate::machine::wait::wait;
use crate::machine::windows::NoDisplay;
use crate::paths::{Folders, MachinePaths};
use crate::process::one_line;
use crate::signals::Signals;

/// What the id of a desktop file ends with.
const DESKTOP: &str = ".desktop";

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let notify = args.notify;
    let result = run_app(args);
    if let Err(error) = &result
        && notify
        && let Err(why) = crate::windows::notice(&one_line(&format!("{error:#}")))
    {
        tracing::warn!("the user is not told: {why:#}");
    }
    result
}

fn run_app(args: RunArgs) -> anyhow::Result<ExitCode> {
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
    let id = app.strip_suffix(DESKTOP).unwrap_or_default();
    let entries = match app.ends_with(DESKTOP) && !app.contains('/') {
        true if !catalogue::is_id(id) => bail!("no such app: {app}"),
        // Before a machine is started in vain.
        true => Some(args.rest[1..].iter().map(|file| open::named(file)).collect::<Result<Vec<_>, _>>()?),
        false if args.action.is_some() => {
            bail!("--action is for apps (NAME.desktop), and {app} is a program")
        }
        false => None,
    };
    let display = Display::from_env(args.begin.headless);
    let paths = folders.machine(&name);
    crate::machine::check_exists(&paths)?;
    // A machine that is off is not started in vain.
    if display == Display::Any && Client::connect(&Sockets::new(paths.runtime()).api())?.is_none() {
        return Err(NoDisplay.into());
    }
    let shown = Apps::of(&paths).get(id).map(|stored| stored.app.name.shown().to_owned());
    let waits = matches!(display, Display::Host(_)) && is_away(&paths)?;
    let opening =
        waits.then(|| Opening::begin(&paths, shown.as_deref().unwrap_or(app.trim_end_matches(DESKTOP))));
    let mut connected = power::connect_or_start(&folders, &name, &args.begin)?;
    if let Some(opening) = opening.as_ref().filter(|_| connected.started) {
        opening.started();
    }
    power::wait_ready(&mut connected.client, &name, display.clone(), &mut |text| {
        opening.iter().for_each(|opening| opening.progress(text));
    })?;
    opening.iter().for_each(|opening| opening.progress("the app starts"));
    // Not there yet when this starts the window process: then it has no earlier input to go by.
    if let Err(error) = crate::windows::api::launched(&Sockets::new(paths.runtime()).windows()) {
        tracing::debug!("no window process to tell: {error:#}");
    }
    let failed = || format!("cannot run {app} in {name}");
    let requests = match entries {
        None => {
            let program = Program { argv: args.rest, env: Vec::new(), directory: None };
            vec![Request::Launch { program, wait: args.wait, display }]
        }
        Some(entries) => {
            let uris = open::for_guest(&folders, &name, entries).with_context(failed)?;
            let stored = Apps::of(&paths).get(id);
            let each = portions(stored.map(|stored| stored.app.takes), uris);
            if args.wait && each.len() > 1 {
                bail!("{app} opens one file at a time: with --wait, name one");
            }
            let open = |uris| Request::Open {
                app: id.to_owned(),
                action: args.action.clone(),
                uris,
                wait: args.wait,
                display: display.clone(),
            };
            each.into_iter().map(open).collect()
        }
    };
    for request in &requests {
        let (reply, _) = connected.client.ask(request, &mut |_| {}).with_context(failed)?;
        let Reply::Launched(_) = reply else { return Err(ApiError::Unexpected).with_context(failed) };
    }
    opening.iter().for_each(Opening::opened);
    drop(opening);
    if !id.is_empty()
        && let Err(error) = Recent::of(&folders, &name).note(id)
    {
        tracing::debug!(%error, "what was opened is not noted");
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(status(wait_for_end(&mut connected.client).with_context(|| format!("{app} in {name}"))?))
}

/// Whether the machine's agent does not serve: to open something takes a while.
fn is_away(paths: &MachinePaths) -> anyhow::Result<bool> {
    let Some(mut client) = Client::connect(&Sockets::new(paths.runtime()).api())? else { return Ok(true) };
    Ok(!matches!(client.ask(&Request::Status, &mut |_| {})?, (Reply::Status(status), _) if status.agent))
}

/// Files and links by what an app takes at once; one portion at least.
fn portions(takes: Option<Takes>, uris: Vec<String>) -> Vec<Vec<String>> {
    match takes {
        Some(Takes::File | Takes::Uri) if !uris.is_empty() => uris.into_iter().map(|uri| vec![uri]).collect(),
        _ => vec![uris],
    }
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
