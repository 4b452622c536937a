//! Apps of a guest in the host's menus, and opened from there, through a real Debian guest under QEMU.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::machine::{BOOT, Machine};
use common::panel::{Bus, Panel, screenshot, spots};
use common::{Xvfb, eventually, within};

/// A desktop file of the guest, whose program says what it was given and adds to it.
const NOTES: &str = "[Desktop Entry]\nType=Application\nName=Notes\nComment=with \\\\ and %f\nIcon=notes\n\
    Exec=sh -c \"for f; do echo \\\\\"\\\\$f\\\\\" >> opened; echo more >> \\\\\"\\\\$f\\\\\"; done\" sh %F\n\
    MimeType=text/plain;\nActions=new;\n[Desktop Action new]\nName=New note\nExec=touch new-note\n";
/// One whose windows stay.
const PAINT: &str = "[Desktop Entry]\nType=Application\nName=Paint\nIcon=notes\nStartupWMClass=paint\n\
    Exec=foot --app-id=paint --title=painted sh -c \"sleep 600\"\n";
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><rect width=\"9\" height=\"9\" fill=\"#00f\"/></svg>";

fn data() -> PathBuf {
    std::env::var_os("XDG_DATA_HOME").expect("run by cargo xtask test").into()
}

fn entries(machine: &Machine) -> Vec<String> {
    let files = std::fs::read_dir(data().join("applications")).into_iter().flatten().flatten();
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let prefix = format!("inlay.{}.", machine.name);
    let mut mine: Vec<_> = names.filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)).collect();
    mine.sort();
    mine
}

fn entry(machine: &Machine, id: &str) -> PathBuf {
    data().join("applications").join(format!("inlay.{}.{id}.desktop", machine.name))
}

/// Installs a package of the test's own in the guest, by the guest's means.
fn install(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("notes");
    let control = "Package: notes\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: notes\n";
    for (path, text) in [
        ("DEBIAN/control", control),
        ("usr/share/applications/notes.desktop", NOTES),
        ("usr/share/applications/paint.desktop", PAINT),
        ("usr/share/icons/hicolor/scalable/apps/notes.svg", ICON),
    ] {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let package = dir.path().join("notes.deb");
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .arg(&tree)
        .arg(&package)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    machine.install(&package, "notes.deb");
    machine.guest("sudo dpkg --install notes.deb");
}

/// One machine for all of it: a start is the dearest part.
#[test]
fn apps_of_the_guest_are_in_the_menus_and_open_with_a_click() {
    let xvfb = Xvfb::start();
    let machine = Machine::create("menus", Some(&xvfb.display));
    let name = machine.name.as_str();
    assert!(machine.ok(&["apps", name]).contains("no apps"), "nothing is known before the first start");
    clicks_start_it_once(&machine, &xvfb);
    come_and_go(&machine);
    // Windows that were open before the guest's apps were known have their icon now.
    let window = xvfb.find("first click");
    eventually("its icon", || {
        xvfb.tool("xprop", &["-id", &window, "_NET_WM_ICON"]).contains("Icon (").then_some(())
    });
    in_a_panel(&machine, &xvfb);
    open_files(&machine);
    links(&machine);
    // A click on an app of a paused machine has it go on.
    machine.ok(&["pause", name]);
    assert_eq!(machine.listed()["state"], "paused");
    machine.ok(&["run", name, "foot", "--title=after the pause"]);
    xvfb.find("after the pause");
    assert_eq!(machine.listed()["state"], "running");
    // Its windows are in one window, and on the desktop again.
    machine.ok(&["window", name, "--together"]);
    xvfb.find("Apps");
    assert!(xvfb.is_gone("after the pause"));
    machine.ok(&["window", name, "--apart"]);
    xvfb.find("after the pause");
    machine.stop();
    // While it is off they are there all the same, and start it with a click.
    assert!(entries(&machine).contains(&"foot.desktop".to_owned()));
    assert!(machine.ok(&["apps", name]).contains("foot.desktop"));
    machine.ok(&["dock", "remove", name]);
    assert_eq!(entries(&machine), [""; 0]);
    machine.ok(&["dock", "sync", name]);
    assert!(entries(&machine).contains(&"foot.desktop".to_owned()));
    machine.ok(&["delete", name]);
    assert_eq!(entries(&machine), [""; 0], "they go with their machine");
}

/// Two clicks at the same instant on apps of a machine that is off.
fn clicks_start_it_once(machine: &Machine, xvfb: &Xvfb) {
    let timeout = BOOT.as_secs().to_string();
    let click = |title: &str| {
        let title = format!("--title={title}");
        machine.command(&["run", "--timeout", &timeout, &machine.name, "foot", &title]).spawn().unwrap()
    };
    let mut clicks = [click("first click"), click("second click")];
    // A window says what happens long before the guest is there.
    xvfb.find("Inlay");
    for click in &mut clicks {
        assert!(click.wait().unwrap().success(), "{}", machine.logs());
    }
    xvfb.find("first click");
    xvfb.find("second click");
    within(BOOT, "the end of what said that they start", || xvfb.is_gone("Inlay").then_some(()));
    let bad = machine.output(&["run", &machine.name, "no-such-app.desktop"]);
    let text = String::from_utf8_lossy(&bad.stderr);
    assert_eq!(bad.status.code(), Some(127), "{text}");
    assert!(text.lines().count() == 1 && text.contains("no such app: no-such-app"), "{text}");
    // As from a menu, where nobody sees what a command prints: a window says it until it is clicked away.
    let mut told =
        machine.command(&["run", "--notify", &machine.name, "no-such-app.desktop"]).spawn().unwrap();
    let notice = xvfb.find("Inlay");
    let status = within(BOOT, "the end of a notice that is clicked", || {
        xvfb.xdotool(&["mousemove", "--window", &notice, "50", "50", "click", "1"]);
        std::thread::sleep(Duration::from_millis(300));
        told.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(127));
    let bad = machine.output(&["run", &machine.name, "foot.desktop", "/no/such/file"]);
    let text = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && text.contains("no such file: /no/such/file"), "{text}");
}

/// What packages of the guest bring is in the menus soon after.
fn come_and_go(machine: &Machine) {
    within(BOOT, "the apps that the guest came with", || {
        let all = entries(machine);
        ["foot.desktop", "debian-xterm.desktop"]
            .iter()
            .all(|id| all.contains(&(*id).to_owned()))
            .then_some(())
    });
    let text = std::fs::read_to_string(entry(machine, "foot")).unwrap();
    assert!(text.contains(&format!("\nName=Foot ({})\n", machine.name)), "{text}");
    assert!(text.contains(&format!("\nStartupWMClass=inlay.{}.foot\n", machine.name)), "{text}");
    let icon = data().join(format!("icons/hicolor/48x48/apps/inlay.{}.foot.png", machine.name));
    assert_eq!(image_size(&icon), (48, 48));
    install(machine);
    let path = entry(machine, "notes");
    within(BOOT, "a new app", || path.exists().then_some(()));
    let icon = data().join(format!("icons/hicolor/256x256/apps/inlay.{}.notes.png", machine.name));
    assert_eq!(image_size(&icon), (256, 256), "the drawing, as a picture");
    // What else the host has says that all is well-formed (its hint: there is no category but Inlay's), and finds the app for its type.
    for file in entries(machine) {
        let file = data().join("applications").join(format!("inlay.{}.{file}", machine.name));
        let checked = Command::new("desktop-file-validate").arg("--no-hints").arg(&file).output().unwrap();
        let said =
            String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.is_empty(), "{}: {said}", file.display());
    }
    let types = std::fs::read_to_string(data().join("applications/mimeinfo.cache")).unwrap();
    let types = types.lines().find(|line| line.starts_with("text/plain=")).unwrap_or_default();
    assert!(types.contains(&format!("inlay.{}.notes.desktop", machine.name)), "{types}");
}

/// A real panel shows the entry with its icon; a double-click is two windows, which the task bar has as one group under that icon.
fn in_a_panel(machine: &Machine, xvfb: &Xvfb) {
    const BLUE: [u8; 3] = [0, 0, 0xff];
    let path = entry(machine, "paint");
    within(BOOT, "a new app", || path.exists().then_some(()));
    let item = format!(
        "<property name=\"items\" type=\"array\"><value type=\"string\" value=\"{}\"/></property>",
        path.display()
    );
    let bus = Bus::start();
    let group = "<property name=\"grouping\" type=\"uint\" value=\"1\"/>";
    let _panel = Panel::start(xvfb, &bus, &[("launcher", &item), ("tasklist", group)]);
    let picture = screenshot("menus.png");
    let button = eventually("its icon in the panel", || {
        let found = spots(xvfb, BLUE, &picture);
        (found.len() > 30).then(|| found[found.len() / 2])
    });
    assert!(button.0 < 32, "{button:?}");
    let at = [button.0, button.1].map(|at| at.to_string());
    xvfb.xdotool(&["mousemove", &at[0], &at[1], "click", "--repeat", "2", "--delay", "100", "1"]);
    within(BOOT, "two windows", || {
        let found = xvfb.xdotool(&["search", "--onlyvisible", "--name", "^painted"]);
        (found.lines().count() == 2).then_some(())
    });
    // Its own icon in the task bar: once, behind the launcher's.
    let group = within(BOOT, "the group in the task bar", || {
        let right: Vec<_> = spots(xvfb, BLUE, &picture).into_iter().filter(|at| at.0 > 32).collect();
        (right.len() > 30).then_some(right)
    });
    let (first, last) = (group[0].0, group[group.len() - 1].0);
    assert!(last - first < 32, "one button: {first} to {last}");
    machine.guest("pkill -f '[f]oot --app-id=paint'");
    within(BOOT, "their end", || xvfb.is_gone("painted").then_some(()));
}

/// Files that are opened with an app of the guest are given to it, to be worked with.
fn open_files(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one file.txt", "two%20.txt"].map(|name| dir.path().join(name));
    std::fs::write(&one, "1\n").unwrap();
    std::fs::write(&two, "2\n").unwrap();
    let uri = format!("file://{}", dir.path().join("two%2520.txt").display());
    machine.ok(&["run", "--wait", &machine.name, "notes.desktop", one.to_str().unwrap(), &uri]);
    assert_eq!(std::fs::read_to_string(&one).unwrap(), "1\nmore\n");
    assert_eq!(std::fs::read_to_string(&two).unwrap(), "2\nmore\n");
    let opened = machine.guest("cat opened");
    assert!(opened.contains("/one file.txt\n") && opened.contains("/two%20.txt\n"), "{opened}");
    // In a shared folder it is that file there.
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("three.txt"), "3\n").unwrap();
    machine.ok(&["share", "add", &machine.name, shared.to_str().unwrap()]);
    machine.ok(&[
        "run",
        "--wait",
        &machine.name,
        "notes.desktop",
        shared.join("three.txt").to_str().unwrap(),
    ]);
    assert!(machine.guest("cat opened").contains("/media/host/shared/three.txt\n"));
    machine.ok(&["run", "--wait", "--action", "new", &machine.name, "notes.desktop"]);
    machine.guest("test -e new-note");
    // The desktop's own way: what stands in the entry.
    let click = Command::new("gio").arg("launch").arg(entry(machine, "notes")).arg(&one).status().unwrap();
    assert!(click.success());
    eventually("the click", || (std::fs::read_to_string(&one).unwrap() == "1\nmore\nmore\n").then_some(()));
    machine.guest("sudo dpkg --remove notes");
    let path = entry(machine, "notes");
    within(BOOT, "the end of an app's entry", || (!path.exists()).then_some(()));
    let gone = machine.output(&["run", &machine.name, "notes.desktop"]);
    assert_eq!(gone.status.code(), Some(127));
}

/// Links that apps of the guest open are opened by the host's browser, as far as that is permitted.
fn links(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    // What it is given it writes down. Its command has no quotes: xdg-open knows none.
    let script = |opened: &str| format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> {opened}\n");
    let entry = |program: &str| {
        format!(
            "[Desktop Entry]\nType=Application\nName=Browser\nExec={program} %u\n\
             MimeType=x-scheme-handler/https;x-scheme-handler/http;x-scheme-handler/mailto;\n"
        )
    };
    // The host's own browser.
    let (program, opened) = (dir.path().join("browser"), dir.path().join("opened"));
    std::fs::write(&program, script(opened.to_str().unwrap())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let browser = data().join("applications/inlay-test-browser.desktop");
    std::fs::write(&browser, entry(program.to_str().unwrap())).unwrap();
    let config: PathBuf = std::env::var_os("XDG_CONFIG_HOME").expect("run by cargo xtask test").into();
    let kinds = ["http", "https", "mailto"];
    let defaults: String =
        kinds.iter().map(|kind| format!("x-scheme-handler/{kind}=inlay-test-browser.desktop\n")).collect();
    std::fs::write(config.join("mimeapps.list"), format!("[Default Applications]\n{defaults}")).unwrap();
    let lines = |count: usize| {
        within(BOOT, "a link on the host", || {
            let text = std::fs::read_to_string(&opened).unwrap_or_default();
            (text.lines().count() == count).then_some(text)
        })
    };
    let run = |app: &[&str]| machine.ok(&[&["run", "--wait", &machine.name], app].concat());
    run(&["xdg-open", "https://host.invalid/?a=1&b=%20$(x)"]);
    assert_eq!(lines(1), "https://host.invalid/?a=1&b=%20$(x)\n");
    run(&["xdg-open", "mailto:somebody@host.invalid"]);
    lines(2);
    // By an app of its own.
    run(&["/run/inlay/agent/open-link", "http://host.invalid/"]);
    assert!(lines(3).ends_with("http://host.invalid/\n"));
    // At "never" they stay with the guest's own browser.
    machine.ok(&["permissions", &machine.name, "links", "never"]);
    std::fs::write(&program, script("/home/user/own")).unwrap();
    machine.install(&program, "browser");
    std::fs::write(&program, entry("/home/user/browser")).unwrap();
    machine.guest("mkdir -p .local/share/applications");
    machine.install(&program, ".local/share/applications/own.desktop");
    let cache = "[MIME Cache]\\nx-scheme-handler/https=own.desktop;\\n";
    machine.guest(&format!("printf '{cache}' > .local/share/applications/mimeinfo.cache"));
    run(&["xdg-open", "https://guest.invalid/"]);
    within(BOOT, "a link in the guest's own browser", || {
        (machine.guest("cat own 2>/dev/null || true") == "https://guest.invalid/\n").then_some(())
    });
    lines(3);
    machine.ok(&["permissions", &machine.name, "links", "always"]);
    std::fs::remove_file(browser).unwrap();
    std::fs::remove_file(config.join("mimeapps.list")).unwrap();
}

fn image_size(path: &Path) -> (u32, u32) {
    let bytes = within(BOOT, &format!("{}", path.display()), || std::fs::read(path).ok());
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}
