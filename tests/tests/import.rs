//! Guests that Inlay did not make: a Debian with its own boot loader, imported as a disk. Everything is typed with real keys into the full
//! window until the agent is there.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::machine::{BOOT, Machine};
use common::{Process, Steps, Xvfb, program, shows, soon, within};
use inlay::windows::api::{self, Picture, Selector};
use inlay_tests::foreign::Disk;
use inlay_tests::pattern;

/// The password of both users of the disks.
const PASSWORD: &str = "inlay";
/// Blue, green, red of the desktop's background.
const DESKTOP: [u8; 3] = [0xa0, 0x40, 0x20];
/// And of the colours that its terminal paints with `\e[41m` and `\e[44m`.
const RED: [u8; 3] = [0, 0, 0xcd];
const BLUE: [u8; 3] = [0xee, 0, 0];

fn picture(machine: &Machine) -> Option<Picture> {
    api::picture(&machine.api(), Selector::Text("Screen".into())).ok()
}

/// How many of a hundred places of the screen have a colour.
fn share(picture: &Picture, colour: [u8; 3]) -> usize {
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    let places = (0..10).flat_map(|y| (0..10).map(move |x| (x, y)));
    let at = |(x, y): (usize, usize)| {
        let first = 4 * ((2 * y + 1) * height / 20 * width + (2 * x + 1) * width / 20);
        picture.bytes[first..first + 3] == colour
    };
    places.filter(|place| at(*place)).count()
}

fn is_drawn_on(picture: &Picture) -> bool {
    picture.bytes.chunks_exact(4).any(|pixel| pixel[..3] != [0, 0, 0])
}

fn full_window(machine: &Machine) -> Process {
    let arguments = ["window", &machine.name];
    Process::spawn(machine.command(&arguments).stdin(Stdio::null()))
}

/// What the guest wrote to its serial port.
fn serial(machine: &Machine) -> String {
    let text = std::fs::read(machine.data().join("serial.log")).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

fn wait_serial(machine: &Machine, words: &str) {
    within(BOOT, words, || serial(machine).contains(words).then_some(()));
}

/// Types a line. The guest has a keyboard of its own: the tool's "\n" may be a key that no other keyboard has.
fn enter(xvfb: &Xvfb, line: &str) {
    xvfb.type_text(line);
    xvfb.xdotool(&["key", "Return"]);
}

/// Logs in on the console as root, as often as it takes until the guest listens.
fn log_in(machine: &Machine, xvfb: &Xvfb) {
    let end = Instant::now() + BOOT;
    let mut patience = Duration::from_secs(4);
    // What syslinux told its kernel.
    let is_in = || serial(machine).contains("/dev/tty1\r\nroot\r\nBOOT_IMAGE=vmlinuz");
    while !is_in() {
        assert!(Instant::now() < end, "no login that listens: {}{}", serial(machine), machine.logs());
        for line in
            ["root", PASSWORD, "tty > /dev/ttyS0; id -un > /dev/ttyS0; cat /proc/cmdline > /dev/ttyS0"]
        {
            enter(xvfb, line);
            let tried = Instant::now();
            while tried.elapsed() < patience && !is_in() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        patience += Duration::from_secs(2);
    }
}

/// `inlay agent install`, which waits for the agent.
struct Install {
    process: Process,
    output: BufReader<ChildStdout>,
    /// What it says is to be typed.
    line: String,
}

impl Install {
    fn begin(machine: &Machine) -> Self {
        let mut command = machine.command(&["agent", "install", &machine.name]);
        let mut process = Process::spawn(command.stdout(Stdio::piped()));
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("(Ctrl-C") {
            assert!(output.read_line(&mut said).unwrap() > 0, "{said}{}", machine.logs());
        }
        let line = said.lines().find_map(|line| line.strip_prefix("    ")).unwrap().to_owned();
        assert!(said.contains(&format!("inlay window {}", machine.name)), "{said}");
        assert!(process.ended().is_none(), "it waits");
        Self { process, output, line }
    }

    fn done(mut self, machine: &Machine) {
        let status = within(BOOT, "the agent", || self.process.ended());
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        assert!(status.success() && said.contains("is there"), "{said}{}{}", serial(machine), machine.logs());
    }
}

/// Paints the desktop's terminal, at its upper left, as often as it takes until that is there and listens.
fn paint_terminal(machine: &Machine, xvfb: &Xvfb, window: &str, background: u8, colour: [u8; 3]) {
    let is_painted = || picture(machine).is_some_and(|picture| share(&picture, colour) >= 10);
    let area = xvfb.area(window);
    let at = [area.width / 8, area.height / 6].map(|place| place.to_string());
    let end = Instant::now() + BOOT;
    while !is_painted() {
        assert!(Instant::now() < end, "no terminal that listens{}", machine.logs());
        xvfb.xdotool(&["mousemove", "--window", window, &at[0], &at[1], "click", "1"]);
        std::thread::sleep(Duration::from_secs(1));
        // A line that only half came may have a quote that is open.
        xvfb.xdotool(&["key", "ctrl+c"]);
        enter(xvfb, &format!("printf '\\033[{background}m\\033[2J\\033[H'"));
        let tried = Instant::now();
        while tried.elapsed() < Duration::from_secs(4) && !is_painted() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A client of the guest's user shows a known picture in a window of the host.
fn shows_known_pixels(machine: &Machine) {
    machine.install(&program("inlay-pattern"), "/tmp/inlay-pattern");
    let display =
        "export WAYLAND_DISPLAY=$(cd $XDG_RUNTIME_DIR; ls | grep -E '^(inlay|wayland)-[0-9]+$' | head -1)";
    let client = machine.guest_process(&format!("{display}; exec /tmp/inlay-pattern steps"));
    let client = Steps::new(client);
    shows(&machine.api(), "pattern steps", &pattern::picture(1, 333, 217));
    client.close();
}

#[test]
fn a_debian_without_a_desktop_is_imported_and_gets_its_agent_by_one_typed_line() {
    let xvfb = Xvfb::start();
    let disk = Disk::Bios.path().unwrap();
    let written = || std::fs::metadata(&disk).unwrap().modified().unwrap();
    let before = written();
    let machine = Machine::import("bios", Some(&xvfb.display), &disk);

    // Our own engine has no firmware.
    let out = machine.output(&["start", &machine.name, "--engine", "kvm"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.lines().count() == 1 && said.contains("only QEMU"), "{said}");

    // It runs without an agent, and whoever needs one is told at once.
    let said = machine.ok(&["start", &machine.name]);
    assert!(
        said.contains("no agent") && said.contains("inlay window") && said.contains("agent install"),
        "{said}"
    );
    for words in [&["exec", &machine.name, "--", "true"][..], &["run", &machine.name, "foot"]] {
        let out = machine.output(words);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && said.lines().count() == 1 && said.contains("agent install"),
            "{said}"
        );
    }
    let listed = machine.listed();
    assert_eq!((&listed["state"], &listed["agent"]), (&"running".into(), &false.into()), "{listed}");

    // Its own boot loader brings it to its login, where real keys are typed.
    let mut window = full_window(&machine);
    let shown = xvfb.find("Screen");
    wait_serial(&machine, "foreign login:");
    within(BOOT, "the console", || picture(&machine).filter(is_drawn_on));
    xvfb.click(&shown);
    log_in(&machine, &xvfb);

    let install = Install::begin(&machine);
    enter(&xvfb, &install.line);
    install.done(&machine);
    xvfb.xdotool(&["windowclose", &shown]);
    assert!(within(soon() * 5, "the window's end", || window.ended()).success());

    // The ordinary user's apps, with sockets of their own; the clock is the host's.
    assert_eq!(machine.guest("id -un; echo $XDG_RUNTIME_DIR"), "ada\n/run/inlay/user\n");
    let there: u64 = machine.guest("date +%s").trim().parse().unwrap();
    let here = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(there.abs_diff(here) < 60, "{there} is not {here}");
    shows_known_pixels(&machine);
    machine.ok(&["run", &machine.name, "xterm", "-T", "of X11", "-e", "sleep", "1000"]);
    xvfb.find("of X11");
    let folder = tempfile::tempdir().unwrap();
    machine.ok(&["share", "add", &machine.name, folder.path().to_str().unwrap(), "--name", "shared"]);
    machine.guest("echo of ada > /media/host/shared/letter");
    assert_eq!(std::fs::read_to_string(folder.path().join("letter")).unwrap(), "of ada\n");
    // Nothing of the agent can be changed by the user whose apps it runs.
    machine.guest("for f in /run/inlay/agent/*; do ! [ -w $f ] || exit 1; done");

    // It comes by itself from now on, when the guest restarts by its own boot loader; and its user's desktop has the shared folders.
    machine.guest("mkdir Desktop");
    machine.restarts(&format!("echo {PASSWORD} | su -c 'systemctl reboot'"));
    within(BOOT, "the shared folders on the desktop", || {
        (machine.guest("cat Desktop/Host/shared/letter || true") == "of ada\n").then_some(())
    });
    assert_eq!(
        machine.guest("systemctl is-system-running --wait || systemctl --failed --no-legend").trim(),
        "running"
    );
    shows_known_pixels(&machine);
    let said = machine.ok(&["agent", "install", &machine.name]);
    assert!(said.contains("is there"), "{said}");
    machine.stop();
    assert_eq!(written(), before, "the imported disk is as it was");

    starts_on_another_host(&machine);
}

/// The same disk on a host that has nothing for it: the guest starts, and nothing of it fails.
fn starts_on_another_host(machine: &Machine) {
    let log = machine.data().join("other.log");
    let disk = machine.data().join("disk.qcow2");
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
    ]);
    command.args(["-m", "1024", "-smp", "2", "-snapshot", "-serial", &format!("file:{}", log.display())]);
    command.args(["-drive", &format!("file={},format=qcow2,if=virtio", disk.display())]);
    let _qemu = Process::spawn(&mut command);
    let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    within(BOOT, "its login", || said().contains("foreign login:").then_some(()));
    assert!(!said().contains("[FAILED]"), "{}", said());
}

#[test]
fn a_debian_with_a_desktop_is_seen_from_its_firmware_on_beside_windows_of_its_apps() {
    let xvfb = Xvfb::start();
    let machine = Machine::import("uefi", Some(&xvfb.display), &Disk::Uefi.path().unwrap());
    let _window = full_window(&machine);
    let shown = xvfb.find("Screen");
    within(BOOT, "the firmware's screen", || picture(&machine).filter(is_drawn_on));
    let said = serial(&machine);
    assert!(!said.contains("Linux version"), "the kernel came first: {said}");

    within(BOOT, "the desktop", || picture(&machine).filter(|picture| share(picture, DESKTOP) > 50));
    wait_serial(&machine, "foreign login:");
    xvfb.click(&shown);
    paint_terminal(&machine, &xvfb, &shown, 41, RED);
    let install = Install::begin(&machine);
    let line = install.line.clone();
    enter(&xvfb, &format!("echo {PASSWORD} | su -c '{line}'"));
    install.done(&machine);

    // Apps are windows of the host while the desktop goes on in its own.
    shows_known_pixels(&machine);
    machine.ok(&["run", &machine.name, "foot", "--title=beside", "sleep", "1000"]);
    let beside = xvfb.find("beside");
    assert!(share(&picture(&machine).unwrap(), DESKTOP) > 50, "the desktop is as it was");
    assert_eq!(machine.guest("cat /proc/[0-9]*/comm 2> /dev/null | grep -cx Xorg").trim(), "1");
    xvfb.xdotool(&["windowclose", &beside]);

    // Taken out again, the guest is switched off by its power button.
    xvfb.xdotool(&["windowraise", &shown]);
    xvfb.click(&shown);
    paint_terminal(&machine, &xvfb, &shown, 44, BLUE);
    enter(&xvfb, &format!("echo {PASSWORD} | su -c '{line} --remove'"));
    within(BOOT, "the agent's end", || (machine.listed()["agent"] == false).then_some(()));
    machine.stop();
    assert_eq!(machine.listed()["state"], "stopped");
}
