//! `inlay menu`: apps of machines that are off are found by typing, and opened as a click in the desktop's menu does.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Process, Xvfb, eventually, program};
use inlay::apps::{Apps, Recent, Stored};
use inlay::paths::Folders;
use inlay_protocol::catalogue::{App, Text};

const TITLE: &str = "Apps of your machines";

/// Two machines that are off, with apps.
fn machines(root: &Path) -> Folders {
    let folders = Folders::below(root).unwrap();
    for (user, own) in [("xdg-config", "config"), ("xdg-data", "data")] {
        std::fs::create_dir(root.join(user)).unwrap();
        std::fs::create_dir(root.join(own)).unwrap();
        std::os::unix::fs::symlink(root.join(own), root.join(user).join("inlay")).unwrap();
    }
    let apps = [("work", "editor", "Text Editor"), ("work", "foot", "Foot"), ("play", "game", "Tetris")];
    for (machine, id, name) in apps {
        let name_of = machine.parse().unwrap();
        let paths = folders.machine(&name_of);
        std::fs::create_dir_all(folders.configs()).unwrap();
        std::fs::write(paths.config(), "").unwrap();
        let name = Text { plain: name.into(), local: None };
        let app = App { id: id.into(), name, ..App::default() };
        Apps::of(&paths).put(&Stored { digest: 1, app }).unwrap();
    }
    folders
}

fn menu(xvfb: &Xvfb, root: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(program("inlay"));
    command.arg("menu").args(arguments).env("DISPLAY", &xvfb.display).env_remove("WAYLAND_DISPLAY");
    for (name, folder) in
        [("XDG_CONFIG_HOME", "xdg-config"), ("XDG_DATA_HOME", "xdg-data"), ("XDG_RUNTIME_DIR", "")]
    {
        command.env(name, root.join(folder));
    }
    let process = Process::spawn(command.stdin(Stdio::null()));
    let window = xvfb.find(TITLE);
    eventually("the focus", || (xvfb.xdotool(&["getwindowfocus"]).trim() == window).then_some(()));
    process
}

/// What a process was started as, or is now.
fn words(process: &Process) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{}/cmdline", process.0.id())).unwrap_or_default();
    String::from_utf8_lossy(&line).split('\0').skip(1).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

#[test]
fn apps_are_found_by_typing_and_opened_by_return() {
    let xvfb = Xvfb::start();
    let root = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
    let folders = machines(root.path());

    // The second that begins with "te".
    let mut process = menu(&xvfb, root.path(), &[]);
    xvfb.type_text("te");
    xvfb.xdotool(&["key", "Down", "key", "Return"]);
    let opens = eventually("an app is opened", || {
        Some(words(&process)).filter(|words| words.first().is_some_and(|word| word == "run"))
    });
    assert_eq!(opens, ["run", "--notify", "work", "editor.desktop"]);
    // Such a machine has no disk: the user is told so in a window, and closes it.
    let notice = xvfb.find("Inlay");
    xvfb.xdotool(&["windowclose", &notice]);
    assert!(!eventually("its end", || process.ended()).success());

    // What was opened last comes first; a single machine has its own alone.
    Recent::of(&folders, &"work".parse().unwrap()).note("foot").unwrap();
    let process = menu(&xvfb, root.path(), &[]);
    xvfb.xdotool(&["key", "Return"]);
    let opens = eventually("an app is opened", || {
        Some(words(&process)).filter(|words| words.first().is_some_and(|word| word == "run"))
    });
    assert_eq!(opens[2..], ["work", "foot.desktop"]);
    drop(process);
    let mut process = menu(&xvfb, root.path(), &["play"]);
    xvfb.type_text("foot");
    xvfb.xdotool(&["key", "Return"]);
    xvfb.xdotool(&["key", "BackSpace", "key", "Escape"]);
    assert!(eventually("its end", || process.ended()).success(), "nothing was opened");
}
