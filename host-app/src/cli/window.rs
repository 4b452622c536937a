//! `window`: the whole screen of a machine, or the windows of its apps in one.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::{WindowArgs, picture, power, resolve};
use crate::api::{Client, Display, Request};
use crate::machine::Sockets;
use crate::machine::windows::NoDisplay;
use crate::paths::{Folders, MachineName};
use crate::windows::api;

/// How long a window process that was just started may take to listen.
const LISTENS: Duration = Duration::from_secs(15);

pub(super) fn window(args: &WindowArgs) -> anyhow::Result<ExitCode> {
    let arranges = args.together || args.apart;
    let Some(name) = &args.name else {
        if !arranges {
            bail!(
                "there is no screen without a machine: give --together or --apart behind --local, or a machine"
            );
        }
        for socket in picture::local_sockets()? {
            api::together(&socket, args.together, args.fullscreen)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (folders, name) = resolve(name)?;
    let display = Display::from_env(args.begin.headless);
    let paths = folders.machine(&name);
    crate::machine::check_exists(&paths)?;
    let runs = Client::connect(&Sockets::new(paths.runtime()).api())?.is_some();
    if args.apart && !runs {
        bail!("{name} is off: it has no windows");
    }
    // A machine that is off is not started in vain.
    if display == Display::Any && !runs {
        return Err(NoDisplay.into());
    }
    if arranges { arrange(args, &folders, &name, display) } else { screen(args, &folders, &name, display) }
}

/// Shows the guest's screen until the window is closed; the guest goes on.
fn screen(
    args: &WindowArgs,
    folders: &Folders,
    name: &MachineName,
    display: Display,
) -> anyhow::Result<ExitCode> {
    let mut connected = power::connect_or_start_with(folders, name, &args.begin, true)?;
    let request = Request::Window { fullscreen: args.fullscreen, display };
    let failed = || format!("the screen of {name} cannot be shown");
    connected.client.ask(&request, &mut |_| {}).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the windows of apps into one, or each on the desktop.
fn arrange(
    args: &WindowArgs,
    folders: &Folders,
    name: &MachineName,
    display: Display,
) -> anyhow::Result<ExitCode> {
    let mut connected = power::connect_or_start(folders, name, &args.begin)?;
    power::wait_ready(&mut connected.client, name, display, &mut |_| {})?;
    let socket = Sockets::new(folders.machine(name).runtime()).windows();
    wait_listening(&socket);
    api::together(&socket, args.together, args.fullscreen)
        .with_context(|| format!("the windows of {name} cannot be arranged"))?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for a window process that is just being started.
fn wait_listening(socket: &Path) {
    let end = Instant::now() + LISTENS;
    while api::windows(socket).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
}
