//! Whole paths on our own engine: on this host where its KVM runs stock kernels, else in a nested machine that has such a KVM.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use common::machine::{BOOT, Machine, apps, pixels};
use common::{nested, within};

#[test]
fn apps_are_typed_into_resized_and_closed_on_our_engine() {
    if !nested::elsewhere("apps_are_typed_into_resized_and_closed_on_our_engine") {
        apps("kvm");
    }
}

#[test]
fn known_pixels_arrive_exactly_on_our_engine() {
    if !nested::elsewhere("known_pixels_arrive_exactly_on_our_engine") {
        pixels("kvm");
    }
}

#[test]
fn processors_network_and_pause_on_our_engine() {
    if nested::elsewhere("processors_network_and_pause_on_our_engine") {
        return;
    }
    let machine = Machine::create_for("kvm", "net", None);
    machine.start();
    assert_eq!(machine.listed()["engine"], "kvm");
    assert_eq!(machine.guest("nproc").trim(), "2");

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

    // Nothing runs while it is paused.
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
    machine.guest("echo kept > kept && sync");
    machine.ok(&["stop", &machine.name]);
    machine.disks_were_left_in_order();
    machine.start();
    assert_eq!(machine.guest("cat kept"), "kept\n");
    machine.ok(&["stop", &machine.name]);
}
