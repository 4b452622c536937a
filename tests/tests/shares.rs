//! Shared folders through a real Debian guest under QEMU.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use common::eventually;
use common::folders::{folders, programs};
use common::machine::Machine;

/// One machine for all of it: a start is the dearest part.
#[test]
fn folders_come_and_go_and_programs_find_them_as_their_own_disk() {
    let machine = Machine::create("shares", None);
    machine.start();
    folders(&machine);
    programs(&machine);
    // A server that ends is told, and the guest goes on without it.
    assert!(machine.listed()["files_failed"].is_null());
    let server = machine.process("inlay files");
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    let told = eventually("the end of the file server in the list", || {
        machine.listed()["files_failed"].as_str().map(str::to_owned)
    });
    assert!(told.contains("shared folders are gone") && told.contains("signal: 9"), "{told}");
    assert_eq!(machine.guest("echo on").trim(), "on");
    // Its kernel waits for the server when it is to let the folders go, so it does not end by itself.
    machine.ok(&["stop", &machine.name, "--force"]);
}
