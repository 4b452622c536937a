//! A machine's start: to the agent, to the first window, and its stop.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use inlay::windows::api;

use super::local::{eventually, program};
use super::median;

/// Seconds.
#[derive(Debug, Clone, Copy)]
pub struct Boot {
    /// `inlay start` until the agent is ready.
    pub ready: f64,
    /// From the start until the first window of `foot` has content.
    pub window: f64,
    /// `inlay stop`.
    pub stop: f64,
}

/// A machine that is deleted with its handle.
pub struct Machine(String);

impl Machine {
    /// One that is not made yet.
    #[must_use]
    pub fn new(what: &str) -> Self {
        Self(format!("{what}-{}", std::process::id()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs `inlay COMMAND NAME ...` without a display.
    ///
    /// # Errors
    /// It fails.
    pub fn inlay(&self, arguments: &[&str]) -> Result<()> {
        let mut words: Vec<&str> = arguments.to_vec();
        words.insert(1, &self.0);
        let out = Command::new(program("inlay")?)
            .args(&words)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .output()?;
        ensure!(out.status.success(), "inlay {words:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.inlay(&["delete", "--force"]);
    }
}

/// Several starts of a fresh machine.
pub fn measure(runs: usize) -> Result<Boot> {
    let machine = Machine::new("bench");
    machine.inlay(&["create", "--integrated"])?;
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").context("run by cargo xtask bench")?);
    let socket = runtime.join("inlay").join(&machine.0).join("windows.sock");
    let mut all = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        machine.inlay(&["start", "--headless"])?;
        let ready = start.elapsed().as_secs_f64();
        machine.inlay(&["run", "foot"])?;
        eventually("the first window", || (!api::windows(&socket).ok()?.is_empty()).then_some(()))?;
        let window = start.elapsed().as_secs_f64();
        let start = Instant::now();
        machine.inlay(&["stop"])?;
        all.push(Boot { ready, window, stop: start.elapsed().as_secs_f64() });
    }
    let of = |part: fn(&Boot) -> f64| median(all.iter().map(part).collect());
    Ok(Boot { ready: of(|b| b.ready), window: of(|b| b.window), stop: of(|b| b.stop) })
}
