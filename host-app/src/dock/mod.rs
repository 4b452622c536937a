//! Guest apps in the menus and docks of this host: desktop files and icons in the user's own folders.
//!
//! ```text
//!   $XDG_DATA_HOME/applications/inlay.MACHINE.ID.desktop        what opens it, and what it is
//!   $XDG_DATA_HOME/icons/hicolor/SIZExSIZE/apps/inlay.MACHINE.ID.png
//!   $XDG_DATA_HOME/desktop-directories/inlay.directory          one category for all of them
//!   $XDG_CONFIG_HOME/menus/applications-merged/inlay.menu
//!   $XDG_DATA_HOME/applications/mimeapps.list                   what opens a type stays what it was (types.rs)
//! ```
//!
//! Nothing in them comes from the guest unchecked: ids are plain (`inlay_protocol::catalogue::is_id`), texts are one line, pictures are
//! decoded and written anew, and no command of the guest's is in them. Only files whose names begin with `inlay.MACHINE.` are ever removed.

mod file;
mod icons;
mod types;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::types::Search;
use crate::apps::{Apps, Stored};
use crate::paths::{Folders, MachineName, write_anew};
use crate::process;

/// The icon of the category, for it has no other.
const CATEGORY_ICON: &str = "applications-other";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Entries written, because they are new or another than before.
    pub written: usize,
    /// Entries removed.
    pub removed: usize,
    /// Entries that are there.
    pub all: usize,
}

/// Where menus find things.
#[derive(Debug)]
struct Places {
    applications: PathBuf,
    hicolor: PathBuf,
    directory: PathBuf,
    menu: PathBuf,
    types: Search,
}

impl Places {
    fn of(folders: &Folders) -> Self {
        let share = folders.user_data();
        Self {
            applications: share.join("applications"),
            hicolor: share.join("icons/hicolor"),
            directory: share.join("desktop-directories/inlay.directory"),
            types: Search::new(folders.user_config(), share, folders.data().join(".menu-types")),
            menu: folders.user_config().join("menus/applications-merged/inlay.menu"),
        }
    }
}

/// Says that a machine's apps are not wanted in menus.
fn unwanted(folders: &Folders, name: &MachineName) -> PathBuf {
    folders.machine(name).data().join("no-menu")
}

/// Whether the machine's apps are wanted in menus: until they were removed.
#[must_use]
pub fn is_wanted(folders: &Folders, name: &MachineName) -> bool {
    !unwanted(folders, name).exists()
}

/// Makes the menus show the apps of a machine as they were last told, from now on.
///
/// # Errors
/// The user's folders cannot be written.
pub fn sync(folders: &Folders, name: &MachineName) -> io::Result<Changed> {
    match fs::remove_file(unwanted(folders, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let command = command();
    let apps = Apps::of(&folders.machine(name));
    show(&Places::of(folders), name, apps.each(), &command)
}

/// Takes the apps of a machine out of the menus, until they are asked for again.
///
/// # Errors
/// The user's folders cannot be written.
pub fn remove(folders: &Folders, name: &MachineName) -> io::Result<Changed> {
    if folders.machine(name).data().is_dir() {
        fs::write(unwanted(folders, name), "")?;
    }
    forget(folders, name)
}

/// Takes the apps of a machine out of the menus: it is gone.
///
/// # Errors
/// The user's folders cannot be written.
pub fn forget(folders: &Folders, name: &MachineName) -> io::Result<Changed> {
    show(&Places::of(folders), name, [], "inlay")
}

/// How desktop files start Inlay: by its name where that finds it.
fn command() -> String {
    let Ok(own) = process::own_binary() else { return "inlay".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("inlay")).find(|file| file.is_file());
    let same = |file: PathBuf| file.canonicalize().ok() == own.canonicalize().ok();
    if found.is_some_and(same) { "inlay".into() } else { own.to_string_lossy().into_owned() }
}

fn show(
    places: &Places,
    name: &MachineName,
    apps: impl IntoIterator<Item = Stored>,
    command: &str,
) -> io::Result<Changed> {
    let prefix = format!("inlay.{name}.");
    let mut changed = Changed::default();
    let mut names = BTreeSet::new();
    for stored in apps {
        let entry = format!("{prefix}{}", stored.app.id);
        let text = file::text(name, &stored, command);
        let path = places.applications.join(format!("{entry}.desktop"));
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            // The icon first: a desktop that sees the file looks for it.
            icons::write(&places.hicolor, &entry, &stored.app.icons)?;
            write_anew(&path, &text)?;
            changed.written += 1;
        }
        names.insert(entry);
    }
    changed.all = names.len();
    changed.removed = remove_others(&places.applications, &prefix, ".desktop", &names)?;
    icons::remove_others(&places.hicolor, &prefix, &names)?;
    if changed.written + changed.removed > 0 {
        let entries = entries(&places.applications)?;
        category(places, !entries.is_empty())?;
        places.types.keep(&types(&entries)?)?;
        refresh(places);
    }
    Ok(changed)
}

/// Removes files of this machine whose entry is not among the names.
fn remove_others(folder: &Path, prefix: &str, suffix: &str, names: &BTreeSet<String>) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let ours = name.strip_suffix(suffix).filter(|name| name.starts_with(prefix));
        if ours.is_some_and(|name| !names.contains(name)) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The desktop files of guest apps, of any machine.
fn entries(applications: &Path) -> io::Result<Vec<PathBuf>> {
    let is_entry = |name: &str| {
        let name = name.strip_prefix("inlay.").and_then(|name| name.strip_suffix(".desktop"));
        name.is_some_and(|name| name.contains('.'))
    };
    let all = fs::read_dir(applications)?.flatten();
    Ok(all
        .filter(|entry| entry.file_name().to_str().is_some_and(is_entry))
        .map(|entry| entry.path())
        .collect())
}

/// All types that apps of guests open.
fn types(entries: &[PathBuf]) -> io::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for path in entries {
        let text = fs::read_to_string(path)?;
        let listed = text.lines().find_map(|line| line.strip_prefix("MimeType=")).unwrap_or_default();
        all.extend(listed.split(';').filter(|kind| !kind.is_empty()).map(str::to_owned));
    }
    Ok(all)
}

/// The category in which all apps of guests are, there while there are any.
fn category(places: &Places, any: bool) -> io::Result<()> {
    if any {
        let directory = format!(
            "[Desktop Entry]\nType=Directory\nName=Inlay\nComment=Apps of your machines\nIcon={CATEGORY_ICON}\n"
        );
        keep(&places.directory, &directory)?;
        return keep(&places.menu, file::MENU);
    }
    for path in [&places.directory, &places.menu] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn keep(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).ok().as_deref() == Some(text.as_bytes()) { Ok(()) } else { write_anew(path, text) }
}

/// What desktops keep of their own to find things faster is made anew, where they do.
fn refresh(places: &Places) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    // Toolkits look at this folder's time to see whether icons changed; it may not be there.
    let _ = rustix::fs::utimensat(rustix::fs::CWD, &places.hicolor, &times, rustix::fs::AtFlags::empty());
    let mut update = Command::new("update-desktop-database");
    update
        .arg("-q")
        .arg(&places.applications)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match update.status() {
        Ok(status) if !status.success() => tracing::warn!(%status, "update-desktop-database failed"),
        // "Open with" needs it; a host without it has none.
        Err(error) => tracing::debug!(%error, "no update-desktop-database"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests;
