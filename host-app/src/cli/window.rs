//! `window`: the whole screen of a machine.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{WindowArgs, power};
use crate::api::{Client, Display, Request};
use crate::machine::Sockets;
use crate::machine::windows::NoDisplay;

/// Shows it until the window is closed; the guest goes on.
pub(super) fn window(args: &WindowArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let display = Display::from_env(args.begin.headless);
    let paths = folders.machine(&name);
    crate::machine::check_exists(&paths)?;
    // A machine that is off is not started in vain.
    if display == Display::Any && Client::connect(&Sockets::new(paths.runtime()).api())?.is_none() {
        return Err(NoDisplay.into());
    }
    let mut connected = power::connect_or_start_with(&folders, &name, &args.begin, true)?;
    let request = Request::Window { fullscreen: args.fullscreen, display };
    let failed = || format!("the screen of {name} cannot be shown");
    connected.client.ask(&request, &mut |_| {}).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
