//! `menu`: the apps of machines in a window that is searched by typing.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use super::{MenuArgs, resolve};
use crate::apps::{Apps, Recent, Stored};
use crate::create;
use crate::machine::{Sockets, check_exists};
use crate::paths::{Folders, MachineName};
use crate::process;
use crate::windows::launcher::{self, Entry};
use crate::windows::{api, no_display_hint};

/// Opens what the user chooses as a click in the desktop's menu does.
pub(super) fn menu(args: &MenuArgs) -> anyhow::Result<ExitCode> {
    no_display_hint()?;
    let (folders, names) = match &args.name {
        Some(name) => {
            let (folders, name) = resolve(name)?;
            check_exists(&folders.machine(&name))?;
            (folders, vec![name])
        }
        None => {
            let folders = Folders::from_env()?;
            let names = create::list(&folders)?;
            (folders, names)
        }
    };
    let (choices, entries): (Vec<_>, Vec<_>) = all(&folders, &names).into_iter().unzip();
    let Some((name, id)) = launcher::choose(entries)?.and_then(|at| choices.get(at)) else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(process::own_binary()?);
    command.args(["run", "--notify", name.as_str(), &format!("{id}.desktop")]);
    // What the desktop gave for this window was used for it.
    command.env_remove("XDG_ACTIVATION_TOKEN").env_remove("DESKTOP_STARTUP_ID");
    Err(command.exec()).context("cannot open it")
}

/// All apps, those that were opened lately first, then by name; each as what is opened and as what is shown.
fn all(folders: &Folders, names: &[MachineName]) -> Vec<((MachineName, String), Entry)> {
    let mut found = Vec::new();
    for name in names {
        let paths = folders.machine(name);
        let recent = Recent::of(folders, name).read();
        // A machine that is off has none.
        let windows = api::windows(&Sockets::new(paths.runtime()).windows()).unwrap_or_default();
        for stored in Apps::of(&paths).all() {
            let at = recent.iter().find(|(id, _)| *id == stored.app.id).map(|(_, at)| *at);
            let open = windows.iter().any(|window| is_of(&window.class, name, &stored));
            found.push((at, (name.clone(), stored.app.id.clone()), entry(name, stored, at.is_some(), open)));
        }
    }
    found.sort_by_cached_key(|(at, (name, id), entry)| {
        (at.is_none(), std::cmp::Reverse(*at), entry.name.to_lowercase(), name.clone(), id.clone())
    });
    found.into_iter().map(|(_, choice, entry)| (choice, entry)).collect()
}

/// Whether a window with this class is one of an app.
fn is_of(class: &str, name: &MachineName, stored: &Stored) -> bool {
    let own = stored.app.wm_class.as_deref().unwrap_or(&stored.app.id);
    let app = class.strip_prefix("inlay.").and_then(|rest| rest.strip_prefix(name.as_str()));
    app.and_then(|rest| rest.strip_prefix('.')).is_some_and(|app| app.eq_ignore_ascii_case(own))
}

fn entry(name: &MachineName, stored: Stored, recent: bool, open: bool) -> Entry {
    let app = stored.app;
    let said = [app.comment.shown(), app.generic_name.shown()].into_iter().find(|text| !text.is_empty());
    let mut keywords: Vec<String> = app.keywords.shown().split(';').map(str::to_owned).collect();
    keywords.push(app.generic_name.shown().to_owned());
    keywords.push(app.id.clone());
    Entry {
        name: app.name.shown().to_owned(),
        comment: said.unwrap_or_default().to_owned(),
        machine: name.to_string(),
        keywords,
        recent,
        open,
        icons: app.icons,
    }
}
