//! Whole paths on our own engine: on this host where its KVM runs stock kernels, else in a nested machine that has such a KVM.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use common::folders::folders;
use common::machine::{BOOT, Machine, apps, cable, copies, pixels, stops};
use common::{Xvfb, nested, within};

/// One machine for all of it: a start is the dearest part.
#[test]
fn apps_pixels_processors_network_and_pause_on_our_engine() {
    if nested::elsewhere("apps_pixels_processors_network_and_pause_on_our_engine") {
        return;
    }
    let xvfb = Xvfb::start();
    let machine = Machine::create_for("kvm", "ours", Some(&xvfb.display));
    machine.start();
    assert_eq!(machine.listed()["engine"], "kvm");
    assert_eq!(machine.guest("nproc").trim(), "2");
    assert_eq!(machine.guest("cat /sys/devices/system/cpu/cpu*/topology/physical_package_id"), "0\n0\n");
    // Free pages are reported (VIRTIO_BALLOON_F_REPORTING, 5): memory that the guest frees goes back to the host.
    let features = within(BOOT, "the balloon's driver", || {
        let text = machine.guest("cat /sys/bus/virtio/drivers/virtio_balloon/virtio*/features || true");
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(features.chars().nth(5), Some('1'), "{features}");
    apps(&machine, &xvfb);
    copies(&machine, &xvfb);
    folders(&machine);
    cable(&machine);
    network(&machine);
    pause(&machine);
    pixels(&machine);
    stops(&machine);
}

/// The host's servers are reached, its loopback is not.
fn network(machine: &Machine) {
    // A server of this host, by the address that it has on its own network.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    probe.connect("192.0.2.1:9").unwrap();
    let server = TcpListener::bind((probe.local_addr().unwrap().ip(), 0)).unwrap();
    let address = server.local_addr().unwrap();
    let words = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut words = [0; 12];
        stream.read_exact(&mut words).unwrap();
        stream.write_all(b"and to you\n").unwrap();
        words
    });
    within(BOOT, "the guest's network", || {
        machine.guest("cat /proc/net/route").contains("eth0").then_some(())
    });
    let script =
        format!("exec 3<>/dev/tcp/{}/{} && echo 'hello, host' >&3 && cat <&3", address.ip(), address.port());
    let answer = machine.ok(&["exec", &machine.name, "--", "bash", "-c", &script]);
    assert_eq!(answer, "and to you\n");
    assert_eq!(&words.join().unwrap(), b"hello, host\n");
    // The host's loopback is not the guest's business.
    let local = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let out = machine.output(&[
        "exec",
        &machine.name,
        "--",
        "bash",
        "-c",
        &format!("timeout 5 bash -c 'exec 3<>/dev/tcp/192.168.127.1/{local}'"),
    ]);
    assert!(!out.status.success());
}

/// Nothing runs while it is paused.
fn pause(machine: &Machine) {
    let ticks = || machine.guest("cat ticks | wc -l").trim().parse::<u64>().unwrap();
    let mut ticker = machine.guest_process("while :; do echo x >> ticks; sleep 0.1; done");
    within(BOOT, "ticks", || (machine.guest("cat ticks 2>/dev/null || true").len() > 4).then_some(()));
    machine.ok(&["pause", &machine.name]);
    assert_eq!(machine.listed()["state"], "paused");
    std::thread::sleep(Duration::from_secs(10));
    let resumed = std::time::Instant::now();
    machine.ok(&["resume", &machine.name]);
    let before = ticks();
    std::thread::sleep(Duration::from_secs(3));
    let after = ticks();
    // A tick takes 0.1 s at least: those of the pause would be 100 more.
    assert!(after > before, "{before} {after}");
    assert!(after - before < 10 * resumed.elapsed().as_secs() + 20, "{before} {after}");
    let _ = ticker.0.kill();
}
