//! A real panel (xfce4-panel) on a session bus of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Process, Xvfb};

/// A session bus, whose programs have a home of their own: the panel's settings are served by one.
pub struct Bus {
    _daemon: Process,
    pub address: String,
    home: tempfile::TempDir,
}

/// Gives a program the home of the bus.
fn at_home<'a>(command: &'a mut Command, home: &Path) -> &'a mut Command {
    for (name, folder) in [
        ("HOME", ""),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_RUNTIME_DIR", ""),
    ] {
        command.env(name, home.join(folder));
    }
    command.env("NO_AT_BRIDGE", "1")
}

impl Bus {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("dbus-daemon");
        at_home(&mut command, home.path());
        command.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]);
        let mut daemon = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let mut address = String::new();
        BufReader::new(daemon.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { _daemon: daemon, address: address.trim().to_owned(), home }
    }
}

/// A panel at the upper edge of the screen, 32 pixels high.
pub struct Panel {
    _process: Process,
}

impl Panel {
    /// With these plugins, and their settings in the words of xfconf's file. It opens apps with this process's own environment, but
    /// keeps to the home of the bus itself.
    pub fn start(xvfb: &Xvfb, bus: &Bus, plugins: &[(&str, &str)]) -> Self {
        let channels = bus.home.path().join("config/xfce4/xfconf/xfce-perchannel-xml");
        std::fs::create_dir_all(&channels).unwrap();
        let list: String =
            (1..=plugins.len()).map(|n| format!("<value type=\"int\" value=\"{n}\"/>")).collect();
        let each = plugins.iter().zip(1..).map(|((name, settings), n)| {
            format!("<property name=\"plugin-{n}\" type=\"string\" value=\"{name}\">{settings}</property>\n")
        });
        let text = include_str!("../../data/panel.xml").replace("LIST", &list);
        let text = text.replace("PLUGINS", &each.collect::<String>());
        std::fs::write(channels.join("xfce4-panel.xml"), text).unwrap();
        let mut command = Command::new("xfce4-panel");
        command.arg("--disable-wm-check").env("NO_AT_BRIDGE", "1");
        command.env("DISPLAY", &xvfb.display).env("DBUS_SESSION_BUS_ADDRESS", &bus.address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _process: Process::spawn(&mut command) }
    }
}

/// Where the screen's upper 32 rows have this colour (red, green, blue), from left to right; the picture stays at `picture`.
pub fn spots(xvfb: &Xvfb, colour: [u8; 3], picture: &Path) -> Vec<(u32, u32)> {
    xvfb.tool("import", &["-window", "root", picture.to_str().unwrap()]);
    let Ok(image) = image::open(picture) else { return Vec::new() };
    let image = image.to_rgb8();
    let found = image.enumerate_pixels().filter(|(_, y, pixel)| *y < 32 && pixel.0 == colour);
    let mut found: Vec<_> = found.map(|(x, y, _)| (x, y)).collect();
    found.sort_unstable();
    found
}

/// A place of the last run's screenshots.
pub fn screenshot(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
