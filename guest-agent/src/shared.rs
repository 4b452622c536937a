//! The host's shared folders on the desktop of the guest's user, where that has one: a link, made once, which is the user's to move or remove.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the folders of the host are.
const PLACE: &str = "/media/host";
/// The link's name.
const NAME: &str = "Host";

/// Links the shared folders, where nobody did.
pub fn link() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return };
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let state = variable("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
    match link_in(&home, &config, &state) {
        Ok(true) => tracing::info!("the shared folders are on the desktop"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the shared folders are not on the desktop"),
    }
}

fn link_in(home: &Path, config: &Path, state: &Path) -> io::Result<bool> {
    let (desktop, made) = (desktop(home, config), state.join("inlay/on-desktop"));
    if !desktop.is_dir() || desktop == home || made.exists() {
        return Ok(false);
    }
    std::fs::create_dir_all(state.join("inlay"))?;
    std::fs::write(made, "")?;
    match symlink(PLACE, desktop.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        done => done.map(|()| true),
    }
}

/// The user's desktop folder (`user-dirs.dirs(5)`).
fn desktop(home: &Path, config: &Path) -> PathBuf {
    let text = std::fs::read_to_string(config.join("user-dirs.dirs")).unwrap_or_default();
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix("XDG_DESKTOP_DIR="));
    let value = value.map(|value| value.trim_matches('"'));
    match value.map(|value| (value.strip_prefix("$HOME/"), Path::new(value))) {
        Some((Some(below), _)) => home.join(below),
        Some((None, path)) if path.is_absolute() => path.into(),
        _ => home.join("Desktop"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_made_once_where_there_is_a_desktop() {
        let dir = tempfile::tempdir().unwrap();
        let (home, config, state) =
            (dir.path().join("home"), dir.path().join("config"), dir.path().join("state"));
        std::fs::create_dir_all(&config).unwrap();
        let make = || link_in(&home, &config, &state).unwrap();
        assert!(!make(), "no desktop");
        std::fs::write(
            config.join("user-dirs.dirs"),
            "# XDG_DESKTOP_DIR=\"x\"\nXDG_DESKTOP_DIR=\"$HOME/Arbeits fläche\"\n",
        )
        .unwrap();
        let link = home.join("Arbeits fläche/Host");
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        assert!(make());
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(PLACE));
        std::fs::remove_file(&link).unwrap();
        assert!(!make() && !link.is_symlink(), "who took it away does not want it");
    }

    #[test]
    fn what_is_there_stays_and_a_home_is_no_desktop() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        std::fs::create_dir_all(home.join("Desktop/Host")).unwrap();
        assert!(!link_in(home, &home.join("none"), &home.join("one")).unwrap());
        assert!(home.join("Desktop/Host").is_dir());
        // As user-dirs says of a desktop that is switched off.
        std::fs::write(home.join("user-dirs.dirs"), "XDG_DESKTOP_DIR=\"$HOME/\"\n").unwrap();
        assert!(!link_in(home, home, &home.join("two")).unwrap());
        assert!(!home.join("Host").exists());
    }
}
