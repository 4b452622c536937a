//! Whole paths through a real Debian guest in a real virtual machine.
//!
//! Each test has machines of its own, made from the base image that `cargo xtask test` built before.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::machine::{BOOT, Machine, apps, cable, copied_files, copies, dropped_file, pixels, stops};
use common::{Random, Xvfb, descendants, eventually, is_gone, within};
use rustix::process::{Signal, kill_process};

/// One machine for all of it: a start is the dearest part.
#[test]
fn apps_are_typed_into_resized_and_closed_known_pixels_arrive_exactly_and_the_machine_stops_cleanly() {
    let xvfb = Xvfb::start();
    let machine = Machine::create("apps", Some(&xvfb.display));
    machine.start();
    apps(&machine, &xvfb);
    copies(&machine, &xvfb);
    copied_files(&machine, &xvfb);
    dropped_file(&machine, &xvfb);
    pixels(&machine);
    stops(&machine);
}

#[test]
fn two_machines_run_at_once_and_kills_leave_nothing_behind() {
    let machines = [Machine::create("one", None), Machine::create("two", None)];
    std::thread::scope(|scope| machines.iter().for_each(|m| drop(scope.spawn(|| m.start()))));
    for machine in &machines {
        assert_eq!(machine.guest("hostname").trim(), machine.name);
    }
    let [one, two] = &machines;

    // Commands: output, errors, input and status.
    let out = one.output(&["exec", &one.name, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (out.stdout.as_slice(), out.stderr.as_slice(), out.status.code()),
        (&b"out\n"[..], &b"err\n"[..], Some(7))
    );
    let out = one.output(&["exec", &one.name, "--", "no-such-command"]);
    assert_eq!(out.status.code(), Some(127));
    let out = one.output(&["run", &one.name, "no-such-app"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.lines().count() == 1 && text.contains("no-such-app"), "{text}");

    // QEMU is killed: the list says so, and the next start works.
    one.guest("dd if=/dev/urandom of=file bs=1M count=20 2>/dev/null; sync; sha256sum file > sum; sync");
    let engine = one.process("qemu-system");
    let keeper = one.pid();
    rustix::process::kill_process(engine, Signal::KILL).unwrap();
    within(BOOT, "the failure in the list", || (one.listed()["state"] == "failed").then_some(()));
    assert!(one.listed()["reason"].as_str().is_some_and(|n| !n.is_empty()), "{}", one.listed());
    eventually("the machine process's end", || is_gone(keeper).then_some(()));
    one.disks_are_sound();
    one.start();
    assert_eq!(one.guest("sha256sum -c --status sum && echo same").trim(), "same");

    // The machine process is killed: nothing of it remains.
    let keeper = two.pid();
    let family = descendants(keeper);
    assert!(family.len() >= 2, "QEMU and the window process: {family:?}");
    rustix::process::kill_process(keeper, Signal::KILL).unwrap();
    for pid in family {
        eventually("the end of a process", || is_gone(pid).then_some(()));
    }
    assert_ne!(two.listed()["state"], "running");
    two.disks_are_sound();
    two.start();

    // A session that ends sends SIGTERM, and SIGHUP, to every process of a machine: the guest is switched off in order all the same.
    let keeper = two.pid();
    let family = descendants(keeper);
    for signal in [Signal::TERM, Signal::HUP] {
        for pid in family.iter().chain([&keeper]) {
            // Windows are gone at once.
            let _ = kill_process(*pid, signal);
        }
    }
    within(BOOT, "the machine's end", || is_gone(keeper).then_some(()));
    assert_eq!(two.listed()["state"], "stopped", "{}", two.listed());
    two.disks_were_left_in_order();

    // A guest that restarts is the same machine, with its agent and its shared folders.
    let keeper = one.pid();
    one.restarts("sudo systemctl reboot");
    cable(one);
    assert_eq!(one.pid(), keeper);
    one.ok(&["run", "--headless", &one.name, "foot", "true"]);
    one.stop();
}

#[test]
fn a_kernel_that_does_not_boot_is_told_with_the_serial_logs_place() {
    let machine = Machine::create("noboot", None);
    let config = Path::new(&std::env::var_os("XDG_CONFIG_HOME").expect("run by cargo xtask test"))
        .join(format!("inlay/machines/{}.toml", machine.name));
    let text = std::fs::read_to_string(&config).unwrap();
    let base = text.lines().find_map(|l| l.strip_prefix("base = \"")?.strip_suffix('"')).unwrap().to_owned();
    let bases = machine.data().parent().unwrap().join(".bases");
    // A base with the same content, but a kernel that stops at once.
    let other = format!("{:016x}", u64::from(std::process::id()));
    let broken = bases.join(&other);
    std::fs::create_dir(&broken).unwrap();
    for entry in std::fs::read_dir(bases.join(&base)).unwrap().flatten() {
        let to = broken.join(entry.file_name());
        if entry.file_name() == "vmlinux" {
            let mut kernel = std::fs::read(entry.path()).unwrap();
            let half = kernel.len() / 2;
            kernel[4096..half].fill(0xf4);
            std::fs::write(to, kernel).unwrap();
        } else {
            std::fs::hard_link(entry.path(), to).unwrap();
        }
    }
    std::fs::write(&config, text.replace(&base, &other)).unwrap();
    let out = machine.output(&["start", &machine.name, "--headless", "--timeout", "20"]);
    std::fs::remove_dir_all(&broken).unwrap();
    std::fs::write(&config, text).unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    let last = text.lines().last().unwrap_or_default();
    assert!(!out.status.success() && last.contains("serial.log"), "{text}");
    assert_ne!(machine.listed()["state"], "running");
}

/// Each kill of something in the guest or on the host is followed by a look at what was written before it, and the next app opens.
#[test]
fn a_machine_survives_kills_and_loses_no_byte() {
    const KILLS: usize = 20;
    let seed =
        std::env::var("INLAY_SEED").map_or(u64::from(std::process::id()) << 20 | 1, |t| t.parse().unwrap());
    println!("INLAY_SEED={seed}");
    let mut random = Random::new(seed);
    let machine = Machine::create("kills", None);
    machine.start();
    // Each in its turn, in any order.
    let mut order: Vec<u64> = Vec::new();
    for round in 0..KILLS {
        // An app that commits all the time, and a file that is on the disk once it is told.
        machine.ok(&["run", "--headless", &machine.name, "foot", "sh", "-c", "while :; do date; done"]);
        machine.ok(&[
            "run",
            "--headless",
            &machine.name,
            "xterm",
            "-e",
            "sh",
            "-c",
            "while :; do date; done",
        ]);
        let write = "head -c 3000000 /dev/urandom > data && sha256sum data > sum && sync";
        machine.guest(&format!("{write} && echo {round} > round && sync"));
        std::thread::sleep(Duration::from_millis(random.below(3000)));
        let keeper = machine.pid();
        let family = descendants(keeper);
        let in_guest = |pattern: &str| {
            // Its own end takes the command's connection with it where it is the agent's.
            machine.output(&["exec", &machine.name, "--", "pkill", "-KILL", "-f", pattern]);
        };
        if order.is_empty() {
            order = (0..6).collect();
        }
        let victim = order.swap_remove(usize::try_from(random.below(order.len() as u64)).unwrap());
        let name = ["app", "agent", "Xwayland", "window process", "machine process", "QEMU"]
            [usize::try_from(victim).unwrap()];
        println!("{round}: {name}");
        match victim {
            0 => in_guest("^foot"),
            1 => in_guest("agent/inlay-agent"),
            2 => in_guest("^Xwayland"),
            3 => kill_process(machine.process("inlay windows"), Signal::KILL).unwrap(),
            4 => kill_process(keeper, Signal::KILL).unwrap(),
            _ => kill_process(machine.process("qemu-system"), Signal::KILL).unwrap(),
        }
        if victim >= 4 {
            for pid in family.into_iter().chain([keeper]) {
                eventually("the end of a process", || is_gone(pid).then_some(()));
            }
            machine.disks_are_sound();
        }
        // The next app opens, whatever it takes; then all is as it was written.
        within(BOOT, "the next app", || {
            machine.output(&["run", "--headless", &machine.name, "true"]).status.success().then_some(())
        });
        let same = machine.guest("sha256sum -c --status sum && cat round");
        assert_eq!(same.trim(), round.to_string());
        machine.output(&["exec", &machine.name, "--", "pkill", "-KILL", "-x", "foot|xterm"]);
    }
    machine.stop();
    machine.disks_are_sound();
}
