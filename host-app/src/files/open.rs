//! Files and links of this host that the user opens with an app of the guest: what is in a shared folder is found there, any other file is
//! given alone, to be worked with. That the user opens it is the permission.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use inlay_exchange::files::Entry;

use super::hold;
use super::lists::shared;
use crate::paths::{Folders, MachineName};
use crate::shares::Shares;

/// What an argument of the command line names: an address, or a path from here.
///
/// # Errors
/// There is no such file, or it is an address of something that only this host has.
pub fn named(argument: &str) -> anyhow::Result<Entry> {
    let scheme = argument.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let first = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_address = first && scheme.bytes().all(sign) && !Path::new(argument).exists();
    let entry = match is_address {
        true => Entry::of_uri(argument.as_bytes()),
        false => Entry::File(std::path::absolute(argument)?),
    };
    match &entry {
        Entry::File(path) if std::fs::metadata(path).is_err() => bail!("no such file: {}", path.display()),
        Entry::Uri(_) if !entry.is_global() => {
            bail!("{argument} is no file, and no address that the machine could open")
        }
        _ => Ok(entry),
    }
}

/// What the guest calls them, in their order.
///
/// # Errors
/// One of them cannot be given to the guest: none is opened then.
pub fn for_guest(folders: &Folders, name: &MachineName, entries: Vec<Entry>) -> anyhow::Result<Vec<String>> {
    let shares = Shares::read(&folders.shares(name))?;
    let place = |path: &PathBuf| match shared(&shares, path) {
        Some(there) => Ok(there),
        None => {
            let given = hold::grant(name, std::slice::from_ref(path), false)?;
            given.into_iter().next().flatten().with_context(|| {
                format!(
                    "{} is not given to {name}: only files and folders are, and those that you can read",
                    path.display()
                )
            })
        }
    };
    let entries = entries.into_iter().map(|entry| match entry {
        Entry::File(path) => place(&path).map(Entry::File),
        uri => Ok(uri),
    });
    let uris = entries.map(|entry| Ok(String::from_utf8(entry?.to_uri())?));
    uris.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_files_or_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("http:x");
        std::fs::write(&odd, "").unwrap();
        let path = |path: &Path| Entry::File(path.to_owned());
        assert_eq!(named(odd.to_str().unwrap()).unwrap(), path(&odd), "a file that is there");
        let uri = String::from_utf8(path(&odd).to_uri()).unwrap();
        assert_eq!(named(&uri).unwrap(), path(&odd));
        assert_eq!(named("https://a/b").unwrap(), Entry::Uri(b"https://a/b".to_vec()));
        assert_eq!(named("Cargo.toml").unwrap(), path(&std::path::absolute("Cargo.toml").unwrap()));
        let why = |argument: &str| named(argument).unwrap_err().to_string();
        assert!(why("gone.txt").starts_with("no such file: /"));
        assert!(why("trash:///x").contains("no address"));
        assert!(why("file:///gone").starts_with("no such file"));
    }
}
