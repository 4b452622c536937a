//! `login`: which machines are ready in the background when the user logs in.

use std::process::ExitCode;

use anyhow::Context as _;

use super::power::say;
use super::{LoginArgs, Switch};
use crate::login;
use crate::machine::check_exists;
use crate::process;

pub(super) fn login(args: &LoginArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    check_exists(&folders.machine(&name))?;
    let failed = "the user's units cannot be written";
    match args.switch {
        None => say(if login::is_on(&folders, &name) { "on" } else { "off" }),
        Some(Switch::On) => {
            login::switch_on(&folders, &name, &process::own_binary()?).context(failed)?;
        }
        Some(Switch::Off) => login::switch_off(&folders, &name).context(failed)?,
    }
    Ok(ExitCode::SUCCESS)
}
