//! The full window: the screen of a guest without agent, from its first line to a login, with real keys on a real desktop; and that of a
//! guest that had no display while it booted.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::machine::{BOOT, Machine};
use common::{Process, Xvfb, eventually, soon, within};
use inlay::windows::api::{self, Picture, Selector};

/// Blue, green, red of the colours that a console paints as its first and fourth background.
const RED: [u8; 3] = [0, 0, 0xaa];
const BLUE: [u8; 3] = [0xaa, 0, 0];
const BLACK: [u8; 3] = [0, 0, 0];

fn picture(machine: &Machine) -> Option<Picture> {
    api::picture(&machine.api(), Selector::Text("Screen".into())).ok()
}

/// How many of a hundred places of the screen have a colour, in the lower half, where a painted console has no text.
fn share(picture: &Picture, colour: [u8; 3]) -> usize {
    let (width, height) = (picture.size.width as usize, picture.size.height as usize);
    let places = (0..10).flat_map(|y| (0..10).map(move |x| (x, y)));
    let at = |(x, y): (usize, usize)| {
        let (x, y) = ((2 * x + 1) * width / 20, height / 2 + (2 * y + 1) * height / 40);
        let first = 4 * (y * width + x);
        picture.bytes[first..first + 3] == colour
    };
    places.filter(|place| at(*place)).count()
}

fn is_painted(machine: &Machine, colour: [u8; 3]) -> bool {
    picture(machine).is_some_and(|picture| share(&picture, colour) >= 99)
}

/// Has it start without its agent from now on.
fn without_agent(machine: &Machine) {
    let config = Path::new(&std::env::var_os("XDG_CONFIG_HOME").expect("run by cargo xtask test"))
        .join(format!("inlay/machines/{}.toml", machine.name));
    let text = std::fs::read_to_string(&config).unwrap();
    let none = "kernel_options = \"inlay.no-agent\"";
    std::fs::write(&config, text.replace("kernel_options = \"\"", none)).unwrap();
}

/// Clicks into a question of the host's, so far from its right edge.
fn click_button(xvfb: &Xvfb, question: &str, from_right: u32) {
    // No window takes input before it can have been seen.
    std::thread::sleep(Duration::from_secs(1));
    let area = xvfb.area(question);
    let at = [area.width - from_right, area.height - 30].map(|place| place.to_string());
    xvfb.xdotool(&["mousemove", "--window", question, &at[0], &at[1], "click", "1"]);
}

fn full_window(machine: &Machine, more: &[&str]) -> Process {
    let mut arguments = vec!["window", &machine.name, "--engine", "qemu"];
    arguments.extend(more);
    Process::spawn(machine.command(&arguments).stdin(Stdio::null()))
}

/// Types a line. The guest has a keyboard of its own: the tool's "\n" may be a key that no other keyboard has.
fn enter(xvfb: &Xvfb, line: &str) {
    xvfb.type_text(line);
    xvfb.xdotool(&["key", "Return"]);
}

/// Logs in and paints the console, as often as it takes until the guest listens.
fn log_in_and_paint(machine: &Machine, xvfb: &Xvfb, user: &str, background: u8, colour: [u8; 3]) {
    let end = Instant::now() + BOOT;
    while !is_painted(machine, colour) {
        assert!(Instant::now() < end, "no login that listens{}", machine.logs());
        xvfb.xdotool(&["key", "Return"]);
        enter(xvfb, user);
        std::thread::sleep(Duration::from_secs(5));
        // Both signs are elsewhere on keyboards of other countries.
        enter(xvfb, &format!("tput setab {background}; tput clear --"));
        let tried = Instant::now();
        while tried.elapsed() < Duration::from_secs(4) && !is_painted(machine, colour) {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_guest_without_agent_is_logged_into_and_its_consoles_are_switched() {
    let xvfb = Xvfb::start();
    let machine = Machine::create("screen", Some(&xvfb.display));
    without_agent(&machine);

    // The agent's time passes quickly, and the guest goes on all the same: someone looks at it.
    let mut command = full_window(&machine, &["--timeout", "5"]);
    let window = xvfb.find("Screen");
    within(BOOT, "the first line", || {
        picture(&machine).filter(|p| p.bytes.chunks_exact(4).any(|pixel| pixel[..3] != BLACK))
    });
    xvfb.click(&window);
    log_in_and_paint(&machine, &xvfb, "user", 1, RED);
    let listed = machine.listed();
    assert_eq!((&listed["state"], &listed["agent"]), (&"running".into(), &false.into()), "{listed}");

    // The window's own key with a function key: Ctrl and Alt with it are the host's own, and an X server keeps them for itself.
    xvfb.xdotool(&["key", "--delay", "100", "Control_R+F2"]);
    within(soon() * 5, "the second console", || (!is_painted(&machine, RED)).then_some(()));
    log_in_and_paint(&machine, &xvfb, "user", 4, BLUE);
    xvfb.xdotool(&["key", "--delay", "100", "Control_R+F1"]);
    within(soon() * 5, "the first console", || is_painted(&machine, RED).then_some(()));

    // The menu: its fourth button from the right is Ctrl-Alt-F2.
    xvfb.xdotool(&["key", "Control_R"]);
    let menu = xvfb.find("Inlay");
    click_button(&xvfb, &menu, 290);
    within(soon() * 5, "the second console", || is_painted(&machine, BLUE).then_some(()));

    xvfb.xdotool(&["windowclose", &window]);
    let status = within(soon() * 5, "the command's end", || command.ended());
    assert!(status.success());
    assert_eq!(machine.listed()["state"], "running", "the guest goes on");
    machine.ok(&["stop", &machine.name, "--force"]);
}

#[test]
fn the_screen_of_a_guest_that_runs_is_shown_and_keeps_its_shape_in_the_window() {
    let xvfb = Xvfb::start();
    let machine = Machine::create("attach", Some(&xvfb.display));
    // The guest's consoles have the keyboard of the host.
    xvfb.tool("setxkbmap", &["de"]);
    machine.start();
    assert!(picture(&machine).is_none(), "nobody looks");
    let mut command = full_window(&machine, &[]);
    let window = xvfb.find("Screen");
    xvfb.click(&window);
    log_in_and_paint(&machine, &xvfb, "user", 1, RED);

    // 1280x800 in 1000x600 is 960x600 in the middle.
    xvfb.xdotool(&["windowsize", &window, "1000", "600"]);
    within(soon() * 5, "the other size", || {
        let picture = picture(&machine).filter(|p| (p.size.width, p.size.height) == (1000, 600))?;
        let pixel = |x: usize| picture.bytes[4 * (300 * 1000 + x)..][..3].to_vec();
        let seen = [10, 30, 970, 990].map(pixel);
        (seen == [BLACK, RED, RED, BLACK].map(Vec::from)).then_some(())
    });

    // Full screen, by the window's own key.
    xvfb.xdotool(&["key", "--delay", "100", "Control_R+f"]);
    within(soon() * 5, "full screen", || (xvfb.area(&window).width == 1280).then_some(()));

    xvfb.xdotool(&["windowclose", &window]);
    let status = within(soon() * 5, "the command's end", || command.ended());
    assert!(status.success());
    eventually("the window's end", || xvfb.is_gone("Screen").then_some(()));

    // Its agent goes while nobody looks: the screen is offered; and no more when the agent is back.
    let mut command = full_window(&machine, &[]);
    let window = xvfb.find("Screen");
    xvfb.click(&window);
    xvfb.xdotool(&["key", "--delay", "100", "Control_R+F2"]);
    log_in_and_paint(&machine, &xvfb, "root", 4, BLUE);
    enter(&xvfb, "(sleep 3; systemctl stop inlay-agent; sleep 15; systemctl start inlay-agent) &");
    xvfb.xdotool(&["windowclose", &window]);
    within(soon() * 5, "the command's end", || command.ended());
    xvfb.find("Inlay");
    assert_eq!(machine.listed()["agent"], false);
    within(BOOT, "the question's end", || xvfb.is_gone("Inlay").then_some(()));
    within(BOOT, "the agent", || (machine.listed()["agent"] == true).then_some(()));
    machine.stop();
}

#[test]
fn the_screen_is_offered_where_the_agent_does_not_come() {
    let xvfb = Xvfb::start();
    let machine = Machine::create("offer", Some(&xvfb.display));
    without_agent(&machine);
    let mut start = machine.command(&["start", &machine.name, "--engine", "qemu", "--timeout", "5"]);
    let mut start = Process::spawn(start.stdout(Stdio::null()).stderr(Stdio::piped()));
    // The user waits, and is asked again.
    let question = xvfb.find("Inlay");
    xvfb.tool("import", &["-window", "root", concat!(env!("CARGO_TARGET_TMPDIR"), "/offer.png")]);
    click_button(&xvfb, &question, 210);
    eventually("the question's end", || xvfb.is_gone("Inlay").then_some(()));
    assert_eq!(machine.listed()["state"], "starting");
    let question = xvfb.find("Inlay");
    assert!(start.ended().is_none(), "it waits as well");
    click_button(&xvfb, &question, 80);
    xvfb.find("Screen");
    let status = eventually("the command's end", || start.ended());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut start.0.stderr.take().unwrap(), &mut said).unwrap();
    assert!(!status.success() && said.contains("its screen is shown"), "{said}");
    let listed = machine.listed();
    assert_eq!((&listed["state"], &listed["agent"]), (&"running".into(), &false.into()), "{listed}");
    within(BOOT, "the first line", || {
        picture(&machine).filter(|p| p.bytes.chunks_exact(4).any(|pixel| pixel[..3] != BLACK))
    });
    machine.ok(&["stop", &machine.name, "--force"]);
}
