//! `apps` and `dock`: what the guest offers, and the host's menus.

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::power::say;
use super::{AppsArgs, DockCommand, NameArg, internal};
use crate::apps::Apps;
use crate::dock;
use crate::machine::check_exists;
use crate::paths::{Folders, MachineName};

/// One app, as `apps --json` gives it.
#[derive(Debug, Serialize)]
struct Entry {
    /// What `inlay run` takes.
    id: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    categories: Vec<String>,
    mime_types: Vec<String>,
    actions: Vec<String>,
}

fn resolve(name: &NameArg) -> anyhow::Result<(Folders, MachineName)> {
    let (folders, name) = name.resolve()?;
    check_exists(&folders.machine(&name))?;
    Ok((folders, name))
}

pub(super) fn apps(args: &AppsArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = resolve(&args.name)?;
    let apps = Apps::of(&folders.machine(&name)).all();
    if args.json {
        let entry = |stored: crate::apps::Stored| Entry {
            id: format!("{}.desktop", stored.app.id),
            name: stored.app.name.shown().to_owned(),
            comment: stored.app.comment.shown().to_owned(),
            categories: stored.app.categories,
            mime_types: stored.app.mime_types,
            actions: stored.app.actions.into_iter().map(|action| action.id).collect(),
        };
        let entries: Vec<_> = apps.into_iter().map(entry).collect();
        say(&serde_json::to_string_pretty(&entries)?);
        return Ok(ExitCode::SUCCESS);
    }
    if apps.is_empty() {
        say(&format!("no apps of {name} are known: they are, some seconds after its first start"));
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{:<40} {}", "APP", "NAME"));
    for stored in apps {
        say(&format!("{:<40} {}", format!("{}.desktop", stored.app.id), stored.app.name.shown()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dock(command: &DockCommand) -> anyhow::Result<ExitCode> {
    match command {
        DockCommand::Sync(name) => {
            let (folders, name) = resolve(name)?;
            let changed = dock::sync(&folders, &name).context("the menus cannot be written")?;
            let (all, written, removed) = (changed.all, changed.written, changed.removed);
            say(&format!("{all} apps of {name} are in the menus ({written} new, {removed} removed)"));
        }
        DockCommand::Remove(name) => {
            let (folders, name) = resolve(name)?;
            let changed = dock::remove(&folders, &name).context("the menus cannot be written")?;
            say(&format!("{} apps of {name} are taken out of the menus", changed.removed));
        }
        DockCommand::Refresh(name) => {
            internal::log_to_stderr("info");
            let (folders, name) = resolve(name)?;
            if dock::is_wanted(&folders, &name) {
                let changed = dock::sync(&folders, &name).context("the menus cannot be written")?;
                tracing::info!(?changed, "menus");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
