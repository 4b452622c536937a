//! Machines that are ready in the background when the user logs in: a unit of the user's systemd, wanted at the login for each machine
//! that is to be. Where there is no systemd nothing comes of it.
//!
//! The unit is the machine process itself, so that a shutdown of the host switches the guest off in order. It has no display: windows
//! come with the first app that is opened, on the display that it is opened from.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::paths::{Folders, MachineName, write_anew};

/// The unit, of which each machine is an instance.
const UNIT: &str = "inlay-machine@.service";
const WANTS: &str = "default.target.wants";

fn folder(folders: &Folders) -> PathBuf {
    folders.user_config().join("systemd/user")
}

fn link(folder: &Path, name: &MachineName) -> PathBuf {
    folder.join(WANTS).join(format!("inlay-machine@{name}.service"))
}

/// Whether the machine is started at the login.
#[must_use]
pub fn is_on(folders: &Folders, name: &MachineName) -> bool {
    fs::symlink_metadata(link(&folder(folders), name)).is_ok()
}

/// Has the machine started at the login by this program.
///
/// # Errors
/// The user's folders cannot be written.
pub fn switch_on(folders: &Folders, name: &MachineName, program: &Path) -> io::Result<()> {
    let folder = folder(folders);
    let program = plain(program)?;
    let data = plain(folders.data())?;
    write_anew(&folder.join(UNIT), &unit(program, data))?;
    fs::create_dir_all(folder.join(WANTS))?;
    match symlink(format!("../{UNIT}"), link(&folder, name)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    reload();
    Ok(())
}

/// Has it started no more. One that runs goes on.
///
/// # Errors
/// As [`switch_on`].
pub fn switch_off(folders: &Folders, name: &MachineName) -> io::Result<()> {
    let folder = folder(folders);
    match fs::remove_file(link(&folder, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    let ours = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("inlay-machine@");
    if !fs::read_dir(folder.join(WANTS))?.flatten().any(ours) {
        fs::remove_file(folder.join(UNIT))?;
    }
    reload();
    Ok(())
}

/// A path as units can have it.
fn plain(path: &Path) -> io::Result<&str> {
    let strange = |c: char| c.is_control() || "\"'\\".contains(c);
    let text = path.to_str().filter(|text| !text.contains(strange));
    text.ok_or_else(|| io::Error::other(format!("systemd does not take the path {}", path.display())))
}

/// The text of the unit, with plain paths.
fn unit(program: &str, data: &str) -> String {
    let specifiers = |text: &str| text.replace('%', "%%");
    format!(
        "# Made by `inlay login`, which removes it as well.\n\
         [Unit]\n\
         Description=Inlay machine %i, ready in the background\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart=\"{}\" machine %i\n\
         # Windows come with the first app, on the display that it is opened from.\n\
         UnsetEnvironment=DISPLAY WAYLAND_DISPLAY\n\
         # The guest is asked to switch off, and has a minute for it.\n\
         KillMode=mixed\n\
         TimeoutStopSec=90\n\
         StandardOutput=null\n\
         StandardError=append:{}/%i/machine.log\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        specifiers(program),
        specifiers(data)
    )
}

/// Tells the user's systemd that units changed, where it runs.
fn reload() {
    let mut command = Command::new("systemctl");
    command
        .args(["--user", "daemon-reload"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        // It reads them at the next login.
        Ok(status) if !status.success() => tracing::debug!(%status, "the user's systemd was not told"),
        Err(error) => tracing::debug!(%error, "no systemd"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_while_it_is_on_and_nothing_is_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        let [one, two] = ["one", "two-2"].map(|name| name.parse::<MachineName>().unwrap());
        switch_off(&folders, &one).unwrap();
        for name in [&one, &two, &two] {
            switch_on(&folders, name, Path::new("/opt/inlay")).unwrap();
            assert!(is_on(&folders, name));
        }
        let folder = folder(&folders);
        assert_eq!(fs::canonicalize(link(&folder, &one)).unwrap(), folder.canonicalize().unwrap().join(UNIT));
        switch_off(&folders, &one).unwrap();
        assert!(!is_on(&folders, &one) && is_on(&folders, &two) && folder.join(UNIT).exists());
        switch_off(&folders, &two).unwrap();
        assert!(!folder.join(UNIT).exists());
    }

    /// By systemd's own words, where it is installed.
    #[test]
    fn systemd_takes_the_unit() {
        let root = tempfile::tempdir().unwrap();
        let odd = root.path().join("a b $c %d");
        fs::create_dir(&odd).unwrap();
        let program = odd.join("inlay");
        symlink("/bin/true", &program).unwrap();
        let text = unit(program.to_str().unwrap(), odd.to_str().unwrap());
        let file = root.path().join("inlay-machine@one.service");
        fs::write(&file, &text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--user", "--man=no"]).arg(&file).env("XDG_RUNTIME_DIR", root.path());
        let output = match verify.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return println!("no systemd here"),
            output => output.unwrap(),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
        assert!(plain(Path::new("/home/a \"b\"/inlay")).is_err());
    }
}
