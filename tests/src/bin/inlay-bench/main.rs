//! `cargo xtask bench`: what a frame costs on its way to the host's graphics device, beside one memcpy of the same bytes and beside
//! waypipe with the same client; and how long a machine takes to start. Figures are medians of several runs.
//!
//! Counted for Inlay is the CPU time of the agent's whole process and of the window loop up to the filled upload buffer; drawing, which
//! depends on the graphics device, is left out. Counted for waypipe are both its ends, up to the host compositor's buffer.
//!
//! `inlay-bench [--no-vm] [--no-waypipe] [--runs N] [--frames N]`; `inlay-bench --vmm [--runs N]` compares our own engine with QEMU
//! instead, `inlay-bench --files [--runs N]` a shared folder with virtiofsd's, `inlay-bench --clicks [--runs N]` a click in the host's menu with
//! the same app started by hand, `inlay-bench --resize [--runs N]` a window whose size changes all the time.

mod clicks;
mod clock;
mod desktop;
mod files;
mod local;
mod machine;
mod small;
mod sway;
mod vmm;
mod waypipe;

use anyhow::{Context, Result, bail};

/// What a frame is.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// For the table.
    pub name: &'static str,
    /// Width and height of the window.
    pub size: (u32, u32),
    /// Width and height of the damage in its middle.
    pub damage: (u32, u32),
}

/// What a frame cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// CPU of one memcpy of the same bytes, in milliseconds.
    pub copy: f64,
    /// CPU of the guest's end, in milliseconds a frame.
    pub guest: f64,
    /// CPU of the host's end, in milliseconds a frame.
    pub host: f64,
    /// Commit to upload, in milliseconds: half of the frames are faster.
    pub p50: f64,
    /// 99 of 100 frames are faster.
    pub p99: f64,
}

const CASES: [Case; 3] = [
    Case { name: "1920x1080, all", size: (1920, 1080), damage: (1920, 1080) },
    Case { name: "3840x2160, all", size: (3840, 2160), damage: (3840, 2160) },
    Case { name: "256x256 of 1920x1080", size: (1920, 1080), damage: (256, 256) },
];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Frames, windows and a machine's start.
    Windows,
    /// Our engine beside QEMU.
    Vmm,
    /// A shared folder beside virtiofsd's.
    Files,
    /// Clicks in the host's menu.
    Clicks,
    /// Windows under the user's hand.
    Resize,
}

#[derive(Debug)]
struct Options {
    what: What,
    vm: bool,
    waypipe: bool,
    runs: usize,
    frames: usize,
}

fn options() -> Result<Options> {
    let mut options = Options { what: What::Windows, vm: true, waypipe: true, runs: 5, frames: 120 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<usize> { Ok(words.next().context("a number is missing")?.parse()?) };
        match word.as_str() {
            "--no-vm" => options.vm = false,
            "--vmm" => options.what = What::Vmm,
            "--clicks" => options.what = What::Clicks,
            "--files" => options.what = What::Files,
            "--resize" => options.what = What::Resize,
            "--no-waypipe" => options.waypipe = false,
            "--runs" => options.runs = number()?.max(1),
            "--frames" => options.frames = number()?.clamp(10, 3000),
            other => bail!("unknown option {other}"),
        }
    }
    Ok(options)
}

/// The middle one.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A window whose size changes all the time.
fn resize(runs: usize, aims: &mut Vec<(String, bool)>) -> Result<()> {
    let pairs = (0..runs).map(|_| sway::drag()).collect::<Result<Vec<_>>>()?;
    let of = |side: fn(&(f64, f64)) -> f64| median(pairs.iter().map(side).collect());
    let (direct, through, ratio) = (of(|p| p.0), of(|p| p.1), of(|p| p.1 / p.0));
    say(&format!(
        "resize storm on sway, frames of a new size that are shown a second: {through:.0} through inlay, {direct:.0} directly ({ratio:.2}x)"
    ));
    aims.push(("a resize storm at 0.9x of the frames directly".to_owned(), ratio >= 0.9));
    let (direct, through) = desktop::storm()?;
    say(&format!(
        "resize storm on X11, frames that a client draws a second: {through:.0} through inlay (one a tick), {direct:.0} directly (one for each size, shown or not)"
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn say(text: &str) {
    println!("{text}");
}

/// The load of the last minute: what else ran beside the benchmark.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn main() -> Result<()> {
    let options = options()?;
    match options.what {
        What::Vmm => return vmm::measure(options.runs),
        What::Files => return files::report(options.runs),
        What::Clicks => return clicks::report(options.runs),
        What::Resize => return resize(options.runs, &mut Vec::new()),
        What::Windows => {}
    }
    say(&format!("load average before: {}", load()));
    say(&format!("CPU per frame in ms, medians of {} runs of {} frames:", options.runs, options.frames));
    say(
        "                       memcpy   inlay = guest + host   of memcpy   waypipe   of memcpy   latency p50 / p99 ms",
    );
    let host = local::Host::start()?;
    let mut aims = Vec::new();
    for case in CASES {
        let ours = host.measure(case, options.runs, options.frames)?;
        let copy = ours.copy;
        let theirs = if options.waypipe {
            waypipe::measure(case, options.runs.min(3), options.frames).map_err(|e| format!("{e:#}"))
        } else {
            Err("left out".to_owned())
        };
        let total = ours.guest + ours.host;
        let peer = match &theirs {
            Ok(cost) => format!("{cost:9.3} {:9.1}x", cost / copy),
            Err(_) => format!("{:>9} {:>10}", "-", "-"),
        };
        say(&format!(
            "{:22} {copy:6.3}   {total:6.3} = {:5.3} + {:5.3} {:10.2}x {peer}   {:.3} / {:.3}",
            case.name,
            ours.guest,
            ours.host,
            total / copy,
            ours.p50,
            ours.p99
        ));
        if let Err(why) = theirs {
            say(&format!("  no waypipe: {why}"));
        }
        let mut aim = |what: String, met: bool| aims.push((what, met));
        if case.damage == case.size {
            aim(
                format!("{}: at most 2.6x of a memcpy ({:.2}x)", case.name, total / copy),
                total <= 2.6 * copy,
            );
        } else {
            aim(format!("{}: under 0.25 ms of CPU ({total:.3} ms)", case.name), total < 0.25);
            aim(format!("{}: p99 under 2 ms ({:.3} ms)", case.name, ours.p99), ours.p99 < 2.0);
        }
    }
    let (film, shown) = host.video(options.runs.min(3), 300)?;
    let share = |ms: f64| ms * 60.0 / 10.0;
    say(&format!(
        "film of 1280x720 at 60 frames a second, in a subsurface: {:.1} % of a core in the guest and {:.1} % on the host, {:.2}x of a \
         memcpy; {shown:.0} of 300 frames uploaded",
        share(film.guest),
        share(film.host),
        (film.guest + film.host) / film.copy
    ));
    drop(host);
    say(
        "frames are of one colour, which costs waypipe's compression least; memcpy is cold, and taken beside each run",
    );
    say(&format!("load average after: {}", load()));
    let (p50, p99) = desktop::keys()?;
    say(&format!("key press on an X display to the upload of foot's echo: p50 {p50:.1} ms, p99 {p99:.1} ms"));
    for (open, time, memory) in desktop::windows()? {
        say(&format!("windows up to {open:3}: {time:6.1} ms and {memory:6.0} KiB of ours for each new one"));
    }
    resize(options.runs, &mut aims)?;
    for (what, met) in aims {
        say(&format!("aim {}: {what}", if met { "met" } else { "NOT met" }));
    }
    if options.vm {
        let boots = machine::measure(options.runs.min(3))?;
        say(&format!(
            "machine (emulated unless its configuration says kvm), medians of {}: start to agent ready {:.1} s, to the first window {:.1} s, stop {:.1} s",
            options.runs.min(3),
            boots.ready,
            boots.window,
            boots.stop
        ));
    }
    Ok(())
}
