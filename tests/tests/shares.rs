//! Shared folders through a real Debian guest under QEMU.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use common::folders::{folders, programs};
use common::machine::Machine;

/// One machine for all of it: a start is the dearest part.
#[test]
fn folders_come_and_go_and_programs_find_them_as_their_own_disk() {
    let machine = Machine::create("shares", None);
    machine.start();
    folders(&machine);
    programs(&machine);
    machine.stop();
}
