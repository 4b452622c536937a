//! `import`, and `agent install` for what was imported.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inlay_vmm_core::engine::kvm::probe;

use super::permissions::ask_integrated;
use super::power::{connect_or_start, say};
use super::{ImportArgs, StartArgs, resolve};
use crate::api::{Reply, Request};
use crate::config::{Config, Firmware};
use crate::create::{self, ImportOptions};
use crate::files::{AGENT_NAME, AGENT_TAG};
use crate::machine::check_exists;

pub(super) fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = resolve(&args.name)?;
    create::check_free(&folders, &name)?;
    let integrated = args.integrated || (!args.isolated && ask_integrated(&args.name)?);
    let options = ImportOptions {
        folders,
        name,
        disk: args.disk,
        firmware: args.firmware,
        cpus: args.cpus,
        memory: args.memory,
        integrated,
        kvm: probe().is_ok(),
    };
    let firmware = create::import(&options, &*create::for_terminal())?;
    let name = &options.name;
    let boots = match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    say(&format!(
        "{name} is made, and boots by {boots}; `inlay window {name}` shows its screen, `inlay agent install {name}` puts the agent in"
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn install_agent(args: &StartArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let paths = folders.machine(&name);
    check_exists(&paths)?;
    if Config::read(paths.config())?.firmware.is_none() {
        bail!("{name} was made by Inlay: its agent comes with each start");
    }
    let mut client = connect_or_start(&folders, &name, &args.begin)?.client;
    let (Reply::Status(status), _) = client.ask(&Request::Status, &mut |_| {})? else {
        bail!("the machine process gave an answer that does not fit")
    };
    if status.agent {
        say(&format!("the agent of {name} is there"));
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "Log in as root in the guest, and type this line there, once:\n\n    \
         mount -t virtiofs {AGENT_TAG} /mnt && sh /mnt/{AGENT_NAME}/install\n\n\
         `inlay window {name}` shows the guest's screen. This waits until the agent comes (Ctrl-C ends the waiting)."
    ));
    client.ask(&Request::AwaitAgent, &mut |_| {}).with_context(|| format!("no agent came from {name}"))?;
    say(&format!(
        "the agent of {name} is there; `inlay run {name} APP` opens an app, `inlay apps {name}` lists them"
    ));
    Ok(ExitCode::SUCCESS)
}
