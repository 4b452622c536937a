//! `create`, `list`, `delete`, `doctor`.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::permissions::ask_integrated;
use super::power::{say, switch_off};
use super::{CreateArgs, NameArg, resolve};
use crate::api::Client;
use crate::create::{self, BaseRequest, CreateOptions};
use crate::locale;
use crate::machine::record::{self, State};
use crate::machine::{Sockets, check_exists};
use crate::paths::{self, MachinePaths};

pub(super) fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = resolve(&args.name)?;
    let locale = locale::generated(&locale::named());
    let base = BaseRequest { suite: args.suite, packages: args.packages, mirror: args.mirror, locale };
    create::check_free(&folders, &name)?;
    let integrated = args.integrated || (!args.isolated && ask_integrated(&args.name)?);
    let options = CreateOptions { folders, name, base, cpus: args.cpus, memory: args.memory, integrated };
    create::create(&options, &*create::for_terminal())?;
    say(&format!("{} is made; `inlay run {} foot` opens a terminal of it", options.name, options.name));
    Ok(ExitCode::SUCCESS)
}

/// One machine, as `list --json` gives it.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// `stopped`, `starting`, `running`, `paused`, `stopping`, `failed` or `busy`.
    state: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether its agent is ready.
    agent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_failed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_failed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<bool>,
    apps: u32,
}

impl Entry {
    fn of(paths: &MachinePaths) -> Self {
        let entry = |state: &str, reason| Self {
            name: paths.name().to_string(),
            state: state.into(),
            reason,
            agent: false,
            system: None,
            engine: None,
            pid: None,
            engine_pid: None,
            windows_pid: None,
            windows_failed: None,
            files_failed: None,
            network: None,
            apps: 0,
        };
        let state = check_exists(paths).map_err(|_| "its folder is missing".to_owned());
        let state = state.and_then(|()| record::look(paths).map_err(|error| format!("{error}")));
        match state {
            Err(reason) => entry("failed", Some(reason)),
            Ok(State::Stopped) => entry("stopped", None),
            Ok(State::Failed(reason)) => entry("failed", Some(reason)),
            Ok(State::Busy) => entry("busy", None),
            Ok(State::On(status)) => Self {
                agent: status.agent,
                system: status.system,
                engine: Some(status.engine),
                pid: Some(status.pid),
                engine_pid: Some(status.engine_pid),
                windows_pid: status.windows_pid,
                windows_failed: status.windows_failed,
                files_failed: status.files_failed,
                network: status.network,
                apps: status.apps,
                ..entry(&status.phase.to_string(), None)
            },
        }
    }

    fn line(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        let pid = self.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let agent = if self.agent { "ready" } else { "-" };
        let reason = self.reason.as_ref().or(self.windows_failed.as_ref()).or(self.files_failed.as_ref());
        let cut_off = (self.network == Some(false)).then_some("its network is cut off");
        let line = format!(
            "{:<20} {:<9} {:<6} {:<10} {:<8} {}",
            self.name,
            self.state,
            agent,
            text(&self.engine),
            pid,
            reason.map(String::as_str).or(cut_off).unwrap_or_default()
        );
        line.trim_end().to_owned()
    }
}

pub(super) fn list(json: bool) -> anyhow::Result<ExitCode> {
    let folders = paths::Folders::from_env()?;
    let entries: Vec<_> =
        create::list(&folders)?.iter().map(|name| Entry::of(&folders.machine(name))).collect();
    if json {
        say(&serde_json::to_string_pretty(&entries)?);
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        say("no machines; `inlay create NAME` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{:<20} {:<9} {:<6} {:<10} {:<8} {}", "NAME", "STATE", "AGENT", "ENGINE", "PID", "NOTE"));
    for entry in entries {
        say(&entry.line());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn delete(name: &NameArg, force: bool) -> anyhow::Result<ExitCode> {
    let (folders, name) = name.resolve()?;
    let paths = folders.machine(&name);
    if force && let Some(mut client) = Client::connect(&Sockets::new(paths.runtime()).api())? {
        switch_off(&mut client, &paths, true, Duration::ZERO)?;
    }
    create::delete(&folders, &name)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn doctor() -> anyhow::Result<ExitCode> {
    let well = crate::doctor::report(&mut std::io::stdout().lock())?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
