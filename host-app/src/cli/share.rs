//! `share`: which folders of this host a machine sees.

use std::io::Write as _;
use std::process::ExitCode;

use super::power::say;
use super::{ShareCommand, resolve};
use crate::files::{Ask, FilesClient, hold};
use crate::machine::{Sockets, check_exists};
use crate::shares::{Added, GUEST_PLACE, Shares, check, has_home};

pub(super) fn share(command: &ShareCommand) -> anyhow::Result<ExitCode> {
    let (ShareCommand::Add { name, .. } | ShareCommand::Remove { name, .. } | ShareCommand::List { name }) =
        command;
    let (folders, name) = resolve(name)?;
    let paths = folders.machine(&name);
    check_exists(&paths)?;
    let file = folders.shares(&name);
    let mut shares = Shares::read(&file)?;
    match command {
        ShareCommand::List { .. } => {
            for folder in shares.iter() {
                let may = if folder.read_only { "read-only" } else { "read-write" };
                let gone = if folder.path.is_dir() { "" } else { "  (not there)" };
                let path = folder.path.display();
                say(&format!("{:<24} {may:<10} {path}{gone}", format!("{GUEST_PLACE}/{}", folder.name)));
            }
        }
        ShareCommand::Add { folder, read_only, called, .. } => {
            let path = check(&folders, folder)?;
            if has_home(&path) && !read_only {
                let mut out = std::io::stderr();
                // Standard error may be closed.
                let _ = writeln!(
                    out,
                    "inlay: note: who can write to your home can act as you; --read-only, or a folder in it, is safer"
                );
            }
            let added = shares.add(path, called.as_deref(), *read_only)?;
            let folder = added.folder().clone();
            // The guest's end first: what cannot be shared is not written down.
            hold::share(&folders, &name, &folder)?;
            shares.write(&file)?;
            let may = if *read_only { "read-only" } else { "read-write" };
            let place = format!("{GUEST_PLACE}/{}", folder.name);
            say(&match added {
                Added::New(_) => format!("{name} sees it as {place} ({may})"),
                Added::Changed(_) => format!("{name} saw it already, as {place}; it is {may} now"),
                Added::Same(_) => format!("{name} saw it already, as {place} ({may})"),
            });
        }
        ShareCommand::Remove { folder, .. } => {
            let removed = shares.remove(folder)?;
            shares.write(&file)?;
            if let Some(mut server) = FilesClient::connect(&Sockets::new(paths.runtime()).files())? {
                server.ask(&Ask::Remove(removed.name), None)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
