//! The item of a machine in the desktop's tray: on a session bus of the test's own, in the tray of a real panel, which is clicked; and read as
//! any tray reads it.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::machine::{BOOT, Machine};
use common::panel::{Bus, Panel, screenshot, spots};
use common::{Process, Xvfb, eventually, soon, within};
use inlay::apps::{Apps, Recent, Stored};
use inlay::paths::Folders;
use inlay_protocol::catalogue::{App, Text};

/// The machine's colour, and what becomes of it while its agent is away.
const BORDER: &str = "#d93a2b";
const PALE: [u8; 3] = [0xd9 / 3 + 0x60, 0x3a / 3 + 0x60, 0x2b / 3 + 0x60];
const FULL: [u8; 3] = [0xd9, 0x3a, 0x2b];
const WATCHER: [&str; 2] = ["org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"];

/// What the tray's side says on the bus.
impl Bus {
    /// Calls a method; what it answers, in GVariant's words.
    fn call(&self, [name, path]: [&str; 2], method: &str, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("gdbus");
        command.args(["call", "--address", &self.address, "--dest", name, "--object-path", path]);
        let out = command.args(["--method", method, "--"]).args(arguments).output().unwrap();
        out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
    }

    fn property(&self, object: [&str; 2], interface: &str, name: &str) -> Option<String> {
        self.call(object, "org.freedesktop.DBus.Properties.Get", &[interface, name])
    }

    /// The name of the item, if there is one.
    fn item(&self) -> Option<String> {
        let bus = ["org.freedesktop.DBus", "/org/freedesktop/DBus"];
        let names = self.call(bus, "org.freedesktop.DBus.ListNames", &[]).unwrap();
        names.split('\'').find(|name| name.starts_with("org.kde.StatusNotifierItem-")).map(str::to_owned)
    }

    /// Whether the tray has it.
    fn has_registered(&self, item: &str) -> bool {
        let items = self.property(WATCHER, WATCHER[0], "RegisteredStatusNotifierItems");
        items.is_some_and(|items| items.contains(item))
    }
}

/// An entry of a menu, as trays hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    id: String,
    label: String,
    enabled: bool,
    checked: bool,
}

struct Menu<'a> {
    bus: &'a Bus,
    item: String,
}

impl Menu<'_> {
    fn entries(&self) -> Vec<Entry> {
        let object = [self.item.as_str(), "/MenuBar"];
        // It may have gone just now.
        let layout = self.bus.call(object, "com.canonical.dbusmenu.GetLayout", &["0", "-1", "@as []"]);
        let layout = layout.unwrap_or_default();
        let entries = layout.split("<(").skip(1).filter_map(|entry| {
            let (id, rest) = entry.split_once(", ")?;
            let (properties, _) = rest.split_once('}')?;
            let label = properties.split_once("'label': <'")?.1.split_once("'>")?.0;
            let enabled = !properties.contains("'enabled': <false>");
            let checked = properties.contains("'toggle-state': <1>");
            Some(Entry { id: id.to_owned(), label: label.to_owned(), enabled, checked })
        });
        entries.collect()
    }

    fn labels(&self) -> Vec<String> {
        self.entries().into_iter().map(|entry| entry.label).collect()
    }

    fn has(&self, label: &str) -> bool {
        self.entries().iter().any(|entry| entry.label == label && entry.enabled)
    }

    /// Waits until it has an entry that can be chosen.
    #[track_caller]
    fn waits_for(&self, label: &str) {
        let end = Instant::now() + soon();
        while !self.has(label) {
            assert!(Instant::now() < end, "no {label:?} in {:?}", self.entries());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Chooses an entry, as a tray does.
    fn choose(&self, label: &str) {
        let entry = self.entries().into_iter().find(|entry| entry.label == label && entry.enabled).unwrap();
        let event = [entry.id.as_str(), "clicked", "<''>", "0"];
        self.bus.call([&self.item, "/MenuBar"], "com.canonical.dbusmenu.Event", &event).unwrap();
    }

    fn tool_tip(&self) -> String {
        let object = [self.item.as_str(), "/StatusNotifierItem"];
        self.bus.property(object, "org.kde.StatusNotifierItem", "ToolTip").unwrap()
    }
}

/// The middle of what has this colour in the panel.
fn icon(xvfb: &Xvfb, colour: [u8; 3], picture: &Path) -> Option<(u32, u32)> {
    let found = spots(xvfb, colour, picture);
    let middle =
        |of: fn(&(u32, u32)) -> u32| found.iter().map(of).sum::<u32>() / u32::try_from(found.len()).unwrap();
    (found.len() > 30).then(|| (middle(|at| at.0), middle(|at| at.1)))
}

fn click(xvfb: &Xvfb, at: (u32, u32), button: &str) {
    xvfb.xdotool(&["mousemove", &at.0.to_string(), &at.1.to_string(), "click", button]);
}

/// Writes the machine's configuration with other values.
fn configure(machine: &Machine, changes: &[(&str, &str)]) {
    let config: PathBuf = std::env::var_os("XDG_CONFIG_HOME").expect("run by cargo xtask test").into();
    let config = config.join(format!("inlay/machines/{}.toml", machine.name));
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{text}");
        text = text.replace(from, to);
    }
    std::fs::write(&config, text).unwrap();
}

/// Starts it on the display and the bus; nobody waits for its agent, which does not come.
fn start(machine: &Machine, bus: &Bus) -> Process {
    let mut command = machine.command(&["start", &machine.name, "--engine", "qemu", "--timeout", "20"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", &bus.address).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::spawn(&mut command);
    eventually("the window process", || inlay::windows::api::windows(&machine.api()).ok());
    process
}

/// A folder is opened by the desktop's own file manager.
fn a_folder_is_shown(menu: &Menu<'_>, shared: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (manager, opened) = (dir.path().join("manager"), dir.path().join("opened"));
    std::fs::write(&manager, format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> {}\n", opened.display())).unwrap();
    std::fs::set_permissions(&manager, std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = |name: &str| PathBuf::from(std::env::var_os(name).expect("run by cargo xtask test"));
    let entry = home("XDG_DATA_HOME").join("applications/inlay-test-manager.desktop");
    std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
    let text = format!(
        "[Desktop Entry]\nType=Application\nName=Manager\nExec={} %f\nMimeType=inode/directory;\n",
        manager.display()
    );
    std::fs::write(&entry, text).unwrap();
    let defaults = home("XDG_CONFIG_HOME").join("mimeapps.list");
    std::fs::write(&defaults, "[Default Applications]\ninode/directory=inlay-test-manager.desktop\n")
        .unwrap();
    menu.choose("shared things");
    let text = eventually("the file manager", || {
        std::fs::read_to_string(&opened).ok().filter(|t| t.ends_with('\n'))
    });
    assert_eq!(text.trim_end(), shared.to_str().unwrap());
    std::fs::remove_file(entry).unwrap();
    std::fs::remove_file(defaults).unwrap();
}

/// Its agent does not come within its time, but somebody looks at it: it can be paused.
fn it_is_paused_and_goes_on(machine: &Machine, menu: &Menu<'_>, xvfb: &Xvfb, at: (u32, u32)) {
    let dir = tempfile::tempdir().unwrap();
    let looked = dir.path().join("screen.png");
    menu.waits_for("Pause");
    menu.choose("Pause");
    within(BOOT, "the pause", || (machine.listed()["state"] == "paused").then_some(()));
    menu.waits_for("Resume");
    assert!(menu.tool_tip().contains("paused"), "{}", menu.tool_tip());
    let icon_at = eventually("the icon of a pause", || icon(xvfb, FULL, &looked));
    assert!(icon_at.0.abs_diff(at.0) < 20, "{icon_at:?} {at:?}");
    menu.choose("Resume");
    menu.waits_for("Network");
    menu.choose("Network");
    let network = || machine.ok(&["network", &machine.name]);
    eventually("a machine without its network", || (network() == "off\n").then_some(()));
    assert_eq!(machine.listed()["network"], false);
    let is_checked = || menu.entries().iter().any(|entry| entry.label == "Network" && entry.checked);
    eventually("an entry without its mark", || (!is_checked()).then_some(()));
    menu.choose("Network");
    eventually("its network", || (network() == "on\n").then_some(()));
    menu.waits_for("Pause");
    assert_eq!(machine.listed()["state"], "running");
}

#[test]
fn a_machine_has_an_item_in_the_tray_which_does_what_is_chosen() {
    let (xvfb, bus) = (Xvfb::start(), Bus::start());
    let pictures = tempfile::tempdir().unwrap();
    // The last run's stay there.
    let screenshot = screenshot("tray.png");
    let looked = pictures.path().join("screen.png");
    let machine = Machine::create("tray", Some(&xvfb.display));
    let border = format!("border = \"{BORDER}\"");
    configure(
        &machine,
        &[
            ("border = \"none\"", border.as_str()),
            ("kernel_options = \"\"", "kernel_options = \"inlay.no-agent\""),
        ],
    );

    // The bus has no tray: nothing is wrong with that, and one that comes finds the item.
    let starts = start(&machine, &bus);
    let item = eventually("the item", || bus.item());
    let panel = Panel::start(&xvfb, &bus, &[("systray", "")]);
    eventually("the item in the tray", || bus.has_registered(&item).then_some(()));
    let at = eventually("its icon", || icon(&xvfb, PALE, &looked));
    let menu = Menu { bus: &bus, item: item.clone() };
    assert!(menu.tool_tip().contains(&format!("{}: starting", machine.name)), "{}", menu.tool_tip());
    let nothing_opened = menu.labels();
    let first = format!("{}: starting", machine.name);
    let expected = [&first, "All apps…", "Whole screen", "All windows in one", "Network", "Pause", "Stop"];
    assert_eq!(nothing_opened, expected.map(String::from));
    assert!(!menu.has("Pause") && !menu.has("All windows in one"), "not while it starts");

    // What is opened and shared meanwhile is in it, and no text is anything but a text.
    let folders = Folders::from_env().unwrap();
    let name = machine.name.parse().unwrap();
    let plain = Text { plain: "My_Editor _&<b>".into(), local: None };
    let app = App { id: "editor".into(), name: plain, ..App::default() };
    Apps::of(&folders.machine(&name)).put(&Stored { digest: 1, app }).unwrap();
    Recent::of(&folders, &name).note("editor").unwrap();
    menu.waits_for("My__Editor __&<b>");
    let shared = pictures.path().join("shared things");
    std::fs::create_dir(&shared).unwrap();
    machine.ok(&["share", "add", &machine.name, shared.to_str().unwrap()]);
    menu.waits_for("shared things");

    a_folder_is_shown(&menu, &shared);

    // A click on it: all apps.
    click(&xvfb, at, "1");
    xvfb.find("Apps of your machines");
    xvfb.xdotool(&["key", "Escape"]);
    eventually("the launcher's end", || xvfb.is_gone("Apps of your machines").then_some(()));

    // The other button: its menu, of which the app, all apps, folders and the screen can be chosen.
    click(&xvfb, at, "3");
    std::thread::sleep(Duration::from_secs(2));
    xvfb.tool("import", &["-window", "root", screenshot.to_str().unwrap()]);
    for key in ["Down", "Down", "Down", "Down", "Return"] {
        xvfb.xdotool(&["key", key]);
        std::thread::sleep(Duration::from_millis(200));
    }
    xvfb.find("Screen");

    it_is_paused_and_goes_on(&machine, &menu, &xvfb, at);

    // A tray that goes and comes back has it again.
    drop(panel);
    eventually("the tray's end", || {
        bus.property(WATCHER, WATCHER[0], "ProtocolVersion").is_none().then_some(())
    });
    let _panel = Panel::start(&xvfb, &bus, &[("systray", "")]);
    eventually("the item in the tray", || bus.has_registered(&item).then_some(()));

    // Without a login nobody takes the power button at once; the item follows all the same, and goes with the machine.
    menu.choose("Stop");
    eventually("the machine is stopping", || {
        (bus.item().is_none() || menu.labels().iter().any(|label| label.ends_with(": stopping")))
            .then_some(())
    });
    let _ = machine.output(&["stop", "--force", &machine.name]);
    eventually("the item's end", || bus.item().is_none().then_some(()));
    drop(starts);

    // Where it is switched off there is none.
    configure(&machine, &[("tray = true", "tray = false")]);
    let _starts = start(&machine, &bus);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(bus.item(), None);
    machine.ok(&["stop", "--force", &machine.name]);
}
