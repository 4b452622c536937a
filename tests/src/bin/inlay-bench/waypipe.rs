//! The peer: waypipe with lz4, between the same client and a headless weston.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::clock::{family, process_ms};
use super::local::{Client, Process, arguments, eventually, program};
use super::{Case, median};

/// CPU of both ends, in milliseconds a frame.
pub fn measure(case: Case, runs: usize, frames: usize) -> Result<f64> {
    let runtime = tempfile::Builder::new().prefix("inlay-bench-").tempdir_in("/tmp")?;
    let dir = runtime.path();
    let quiet = |command: &mut Command| {
        command.env("XDG_RUNTIME_DIR", dir).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    };
    let mut command = Command::new("weston");
    command.args(["--backend=headless-backend.so", "--socket=host", "--idle-time=0"]);
    command.args([format!("--width={}", case.size.0), format!("--height={}", case.size.1)]);
    quiet(&mut command);
    let _weston = Process(command.spawn().context("weston cannot be started")?);
    eventually("weston", || dir.join("host").exists().then_some(()))?;

    let mut costs = Vec::new();
    for run in 0..runs {
        let socket = dir.join(format!("waypipe-{run}"));
        let mut command = Command::new("waypipe");
        command.args(["--compress", "lz4", "--socket"]).arg(&socket).arg("client");
        quiet(&mut command);
        command.env("WAYLAND_DISPLAY", "host");
        let near = Process(command.spawn().context("waypipe cannot be started")?);
        eventually("waypipe", || socket.exists().then_some(()))?;
        let mut command = Command::new("waypipe");
        command.args(["--compress", "lz4", "--socket"]).arg(&socket).args(["server", "--"]);
        command.arg(program("inlay-pattern")?).args(arguments(case, frames));
        command.env("XDG_RUNTIME_DIR", dir).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let mut far = Client::start(&mut command)?;
        let ends = [near.0.id(), far.process.0.id()];
        let before = waypipes(&ends);
        far.frames()?;
        costs.push((waypipes(&ends) - before) / frames as f64);
    }
    Ok(median(costs))
}

/// CPU of these processes and their descendants that are waypipe, not the client.
fn waypipes(ends: &[u32]) -> f64 {
    let is_waypipe = |pid: &u32| {
        let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
        name.is_ok_and(|name| name.starts_with("waypipe"))
    };
    ends.iter().flat_map(|pid| family(*pid)).filter(is_waypipe).map(process_ms).sum()
}
