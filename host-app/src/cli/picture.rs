//! `screenshot`: what a window shows, from the window process itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::{ScreenshotArgs, power, resolve};
use crate::local;
use crate::machine::Sockets;
use crate::paths::Folders;
use crate::windows::api;

pub(super) fn screenshot(args: ScreenshotArgs) -> anyhow::Result<ExitCode> {
    let (sockets, window, file) = match (args.local, args.words.as_slice()) {
        (false, [name, window, file]) => {
            let (folders, name) = resolve(name)?;
            let paths = folders.machine(&name);
            // An error that says whether it is unknown or off.
            drop(power::connect(&paths)?);
            (vec![Sockets::new(paths.runtime()).windows()], window, file)
        }
        (true, [window, file]) => (local_sockets()?, window, file),
        (false, _) => bail!("give a machine, a window and a file (or --local, a window and a file)"),
        (true, _) => bail!("give a window and a file behind --local"),
    };
    let window: api::Selector = window.parse().unwrap_or_else(|never| match never {});
    let socket = match sockets.as_slice() {
        [one] => one,
        several => which(several, &window)?,
    };
    let picture = api::picture(socket, window).context("cannot take the picture")?;
    picture.save_png(Path::new(file))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn local_sockets() -> anyhow::Result<Vec<PathBuf>> {
    let runs = local::runs(&Folders::from_env()?);
    if runs.is_empty() {
        bail!("no app runs by `inlay run --local`");
    }
    Ok(runs.iter().map(|folder| Sockets::new(folder).windows()).collect())
}

/// Of several local runs, the one that has such a window.
fn which<'a>(sockets: &'a [PathBuf], window: &api::Selector) -> anyhow::Result<&'a PathBuf> {
    let has =
        |socket: &&PathBuf| api::windows(socket).is_ok_and(|windows| api::choose(&windows, window).is_ok());
    let mut found = sockets.iter().filter(has);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!("no local run has one such window"),
        (Some(_), Some(_)) => bail!("several local runs have such a window"),
    }
}
