//! Shows two apps of a guest as windows of this desktop, or of one without a screen, and takes a picture of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, Running};
use crate::{apt, packages, setup};

/// What the user wants to see.
#[derive(Debug)]
pub struct Options {
    /// On a display of its own, without a screen.
    pub headless: bool,
    /// Where to write a picture of the desktop.
    pub screenshot: Option<PathBuf>,
}

/// Titles of the two windows, and what is in them.
const WINDOWS: [(&str, &str); 2] = [
    (
        "A guest's system",
        "printf '\\033[1;36mA window of the guest\\033[0m\\n\\n'; . /etc/os-release; echo \"$PRETTY_NAME, kernel $(uname -r)\"; \
         echo; df -h / /home; echo; exec bash",
    ),
    (
        "A guest's colours",
        "printf '\\033[1;33mAnother window of the same guest\\033[0m\\n\\n'; for c in 1 2 3 4 5 6 7; do \
         printf '\\033[4%sm          \\033[0m colour %s\\n' $c $c; done; echo; exec bash",
    ),
];

/// How long an app may take to show its window; guests under emulation are slow.
const WINDOW_LIMIT: Duration = Duration::from_secs(120);

/// Sets up what is missing and shows it.
pub fn run(options: &Options) -> Result<()> {
    let mut groups = vec![packages::BUILD, packages::MACHINES, packages::QEMU];
    if options.headless || options.screenshot.is_some() {
        groups.push(packages::HEADLESS);
    }
    apt::ensure(&groups)?;
    setup::build()?;
    setup::machine(setup::MACHINE, "", |command| command)?;
    if !options.headless {
        let display = std::env::var("DISPLAY").ok().filter(|display| !display.is_empty());
        let display = display.context("DISPLAY is not set: log in to a desktop, or add --headless")?;
        show(&display, options.screenshot.as_deref())?;
        println!(
            "close the windows when you like; `{} stop demo` switches the guest off",
            setup::inlay().display()
        );
        return Ok(());
    }
    let desktop = Desktop::start()?;
    let shown = show(&desktop.display, options.screenshot.as_deref());
    // Also after a failure: its display goes away now.
    let stopped = shell::visible(inlay(&desktop.display).args(["stop", setup::MACHINE]));
    shown.and(stopped)
}

fn inlay(display: &str) -> Command {
    let mut command = Command::new(setup::inlay());
    command.env("DISPLAY", display).env_remove("WAYLAND_DISPLAY");
    command
}

/// Opens both apps, waits for their windows, takes the picture.
fn show(display: &str, screenshot: Option<&Path>) -> Result<()> {
    for (title, script) in WINDOWS {
        let title = format!("--title={title}");
        let app = ["foot", "--override=locked-title=yes", &title, "sh", "-c", script];
        shell::visible(inlay(display).args(["run", setup::MACHINE]).args(app))?;
    }
    if screenshot.is_none() && Command::new("xdotool").arg("version").output().is_err() {
        // Without a picture to take, nobody needs to know when the windows are there.
        return Ok(());
    }
    for (title, _) in WINDOWS {
        let shown = || {
            let search = ["search", "--onlyvisible", "--name", &format!("^{title}")];
            let output = Command::new("xdotool").env("DISPLAY", display).args(search).output();
            let output = output.context("cannot run xdotool")?;
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
        };
        shell::wait_for(&format!("the window {title:?}"), WINDOW_LIMIT, shown)?;
        println!("window: {title}");
    }
    if let Some(file) = screenshot {
        take(display, file)?;
        println!("picture: {}", file.display());
    }
    Ok(())
}

/// Writes a picture of the display once two in a row are alike: the apps have drawn what they show first.
fn take(display: &str, file: &Path) -> Result<()> {
    let mut last = Vec::new();
    shell::wait_for("a picture that stays the same", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(1500));
        let output = Command::new("import")
            .args(["-display", display, "-window", "root", "png:-"])
            .output()
            .context("cannot run import (package imagemagick)")?;
        if !output.status.success() {
            bail!("import failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let pixels = pixels(&output.stdout)?;
        let same = pixels == last;
        last = pixels;
        Ok(same.then_some(output.stdout))
    })
    .and_then(|png| std::fs::write(file, png).with_context(|| format!("cannot write {}", file.display())))
}

/// The pixels of a PNG file, since the file itself holds the time.
fn pixels(png: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write as _;
    let mut child = Command::new("convert")
        .args(["png:-", "rgb:-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run convert (package imagemagick)")?;
    let mut input = child.stdin.take().context("no input")?;
    // From another thread, as both pipes are bounded.
    let png = png.to_owned();
    let writer = std::thread::spawn(move || input.write_all(&png));
    let output = child.wait_with_output().context("convert failed")?;
    writer.join().ok().context("the writer ended")?.context("convert took no picture")?;
    Ok(output.stdout)
}

/// A display without a screen, with a window manager.
struct Desktop {
    display: String,
    // In the order in which they end.
    _manager: Running,
    _server: Running,
}

impl Desktop {
    fn start() -> Result<Self> {
        let mut server = Command::new("Xvfb")
            // It tells the number of the free display that it took.
            .args(["-displayfd", "1", "-screen", "0", "1600x900x24", "-nolisten", "tcp", "-noreset"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run Xvfb")?;
        let stdout = server.stdout.take().context("no output of Xvfb")?;
        let server = Running(server);
        let mut number = String::new();
        BufReader::new(stdout).read_line(&mut number).context("Xvfb ended")?;
        let number: u32 = number.trim().parse().context("Xvfb did not start")?;
        let display = format!(":{number}");
        let manager = Command::new("openbox")
            .env("DISPLAY", &display)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run openbox")?;
        let desktop = Self { display, _manager: Running(manager), _server: server };
        let managed = || {
            let output = Command::new("xprop")
                .args(["-display", &desktop.display, "-root", "_NET_SUPPORTING_WM_CHECK"])
                .output()
                .context("cannot run xprop")?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("window id").then_some(()))
        };
        shell::wait_for("the window manager", Duration::from_secs(20), managed)?;
        println!("display {}: Xvfb with openbox", desktop.display);
        Ok(desktop)
    }
}
