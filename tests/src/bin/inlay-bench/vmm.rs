//! Our own engine beside QEMU on the same KVM, with the same kernel, initramfs and disks; in the nested machine where this host has no
//! KVM that runs kernels.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use inlay_vmm_core::engine::kvm::probe;

use super::clock::family;
use super::local::program;
use super::small::{self, Guest};
use super::{median, say};

/// Says that this process is in the nested machine already.
const INSIDE: &str = "INLAY_NESTED";
const ENGINES: [&str; 2] = ["kvm", "qemu"];

/// What one run of an engine gave.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Seconds from `inlay start` to the agent.
    ready: f64,
    /// MiB of the engine's process beside guest memory.
    memory: f64,
    /// MB/s of a disk in order: written, read.
    in_order: [f64; 2],
    /// 4 KiB requests a second at random: read, written.
    random: [f64; 2],
}

struct Machine(String);

impl Machine {
    fn inlay(&self, arguments: &[&str], input: Stdio) -> Result<String> {
        let mut words: Vec<&str> = arguments.to_vec();
        words.insert(1, &self.0);
        let mut command = Command::new(program("inlay")?);
        command.args(&words).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").stdin(input);
        let out = command.output()?;
        ensure!(out.status.success(), "inlay {words:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn run(&self, engine: &str) -> Result<Run> {
        let begin = Instant::now();
        self.inlay(&["start", "--headless", "--timeout", "600", "--engine", engine], Stdio::null())?;
        let ready = begin.elapsed().as_secs_f64();
        let memory = self.memory(engine)?;
        let load = std::fs::File::open(program("inlay-load")?)?;
        self.inlay(&["exec", "--", "sh", "-c", "cat > load && chmod +x load"], load.into())?;
        // The first one runs beside the rest of the guest's start, which goes on behind the agent: the sooner that came, the more of it.
        self.inlay(&["exec", "--", "./load", "load.data"], Stdio::null())?;
        let said = self.inlay(&["exec", "--", "./load", "load.data"], Stdio::null())?;
        let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [write, read, random_read, random_write] = numbers[..] else {
            anyhow::bail!("inlay-load says {said}")
        };
        self.inlay(&["stop"], Stdio::null())?;
        Ok(Run { ready, memory, in_order: [write, read], random: [random_read, random_write] })
    }

    /// Memory of the process that runs the guest, shared pages by their share, without the guest's own.
    fn memory(&self, engine: &str) -> Result<f64> {
        let out = Command::new(program("inlay")?).args(["list", "--json"]).output()?;
        let all: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let mine = all.as_array().and_then(|all| all.iter().find(|m| m["name"] == self.0.as_str()));
        let mut pid = mine.and_then(|m| m["pid"].as_u64()).context("the machine is not listed")?;
        if engine == "qemu" {
            let is_qemu = |pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.starts_with("qemu"))
            };
            let mut family = family(u32::try_from(pid)?).into_iter();
            pid = family.find(is_qemu).context("QEMU is no child of the machine process")?.into();
        }
        let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let mut guest = false;
        let mut kib = 0;
        for line in maps.lines() {
            if let Some(size) = line.strip_prefix("Pss:") {
                let size: u64 = size.trim().trim_end_matches(" kB").parse()?;
                kib += if guest { 0 } else { size };
            } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
                guest = line.contains("/memfd:");
            }
        }
        Ok(kib as f64 / 1024.0)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.inlay(&["delete", "--force"], Stdio::null());
    }
}

/// Measures, here or in the nested machine, and prints.
///
/// # Errors
/// A machine does not run.
pub fn measure(runs: usize) -> Result<()> {
    if std::env::var_os(INSIDE).is_none() && probe().is_err() {
        say("KVM does not run kernels here: in the nested machine, under emulation");
        let own = std::env::current_exe()?;
        let mut nested = Command::new(program("inlay-nested")?);
        nested.arg(own).args(["--vmm", "--runs", &runs.to_string()]).env(INSIDE, "1");
        ensure!(nested.status()?.success(), "the benchmark in the nested machine failed");
        return Ok(());
    }
    let machine = Machine(format!("bench-{}", std::process::id()));
    machine.inlay(&["create", "--integrated", "--memory", "1024"], Stdio::null())?;
    let config = PathBuf::from(std::env::var_os("XDG_CONFIG_HOME").context("run by cargo xtask bench")?);
    let config = config.join("inlay/machines").join(format!("{}.toml", machine.0));
    let text = std::fs::read_to_string(&config)?;
    // What `--engine qemu` uses.
    let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("accel")).collect();
    std::fs::write(&config, format!("accel = \"kvm\"\n{}\n", rest.join("\n")))?;
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (runs, engine) in all.iter_mut().zip(ENGINES) {
            runs.push(machine.run(engine)?);
        }
    }
    say(&format!("our own engine beside QEMU on the same KVM, medians of {runs}:"));
    let row = |what: &str, aim: &str, part: &dyn Fn(&Run) -> f64| {
        let [ours, theirs] = all.each_ref().map(|runs| median(runs.iter().map(part).collect()));
        say(&format!("{what:38} {ours:9.1} {theirs:9.1}   {:5.2}x   aim {aim}", ours / theirs));
    };
    row("start to agent ready, s", "at most 0.5x", &|run| run.ready);
    row("memory beside the guest's, MiB", "at most 0.25x and 16 MiB", &|run| run.memory);
    row("disk written in order, MB/s", "at least 1.0x", &|run| run.in_order[0]);
    row("disk read in order, MB/s", "at least 1.0x", &|run| run.in_order[1]);
    row("disk read at random, 4 KiB/s", "at least 1.0x", &|run| run.random[0]);
    row("disk written at random, 4 KiB/s", "at least 1.0x", &|run| run.random[1]);

    let guest = Guest::make()?;
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (runs, engine) in all.iter_mut().zip(ENGINES) {
            runs.push(guest.run(engine)?);
        }
    }
    say("a folder that virtiofsd shares; sockets of our device beside vhost-device-vsock under QEMU:");
    let row = |what: &str, aim: &str, part: &dyn Fn(&small::Run) -> f64| {
        let [ours, theirs] = all.each_ref().map(|runs| median(runs.iter().map(part).collect()));
        say(&format!("{what:38} {ours:9.1} {theirs:9.1}   {:5.2}x   {aim}", ours / theirs));
    };
    let least = "aim at least 1.0x";
    row("folder written in order, MB/s", least, &|run| run.shared[0]);
    row("folder read in order, MB/s", least, &|run| run.shared[1]);
    row("folder read at random, 4 KiB/s", least, &|run| run.shared[2]);
    row("folder written at random, 4 KiB/s", least, &|run| run.shared[3]);
    row("socket's round trip, microseconds", "", &|run| run.vsock[0]);
    row("socket to the host, MB/s", "", &|run| run.vsock[1]);
    row("socket from the host, MB/s", "", &|run| run.vsock[2]);
    Ok(())
}
