//! `permissions`, and the one question at a machine's creation.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use super::power::say;
use super::{PermissionsArgs, resolve};
use crate::machine::check_exists;
use crate::permissions::{Permissions, Resource};

pub(super) fn permissions(args: &PermissionsArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = resolve(&args.name)?;
    check_exists(&folders.machine(&name))?;
    let file = folders.permissions(&name);
    let mut permissions = Permissions::read(&file)?;
    let resources: Vec<Resource> = match &args.permission {
        Some(pattern) => pattern.resources().to_vec(),
        None => Resource::all().collect(),
    };
    let Some(verdict) = args.verdict else {
        for resource in resources {
            say(&format!("{:<22} {:<7} {}", resource, permissions.get(resource), resource.about()));
        }
        return Ok(ExitCode::SUCCESS);
    };
    for resource in resources {
        permissions.set(resource, verdict);
    }
    permissions.write(&file)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a new machine is integrated, where no option says it. Without a terminal it is isolated: that can be changed later.
pub(super) fn ask_integrated(name: &str) -> anyhow::Result<bool> {
    let mut input = std::io::stdin().lock();
    let mut out = std::io::stderr();
    if !input.is_terminal() || !out.is_terminal() {
        return Ok(false);
    }
    writeln!(
        out,
        "How close is {name} to your desktop?\n  \
         integrated: what you copy or drag here can be pasted or dropped there, and the other way, without a question.\n  \
         isolated:   you are asked each time, and its windows have a coloured border.\n\
         `inlay permissions {name}` changes it later, one by one."
    )?;
    loop {
        write!(out, "integrated or isolated? [isolated] ")?;
        out.flush()?;
        let mut line = String::new();
        let count = input.read_line(&mut line).context("no answer")?;
        match line.trim() {
            "isolated" | "" => return Ok(false),
            "integrated" => return Ok(true),
            _ if count == 0 => return Ok(false),
            _ => {}
        }
    }
}
