//! Tests that need a working KVM: here where there is one, else in a nested machine that has it.

use std::process::Command;

use inlay_tests::nested::GONE;
use inlay_vmm_core::engine::kvm::probe;

use super::program;

/// The nested machine's own kernel breaks down now and then under emulation: the test did not fail then, but did not run.
const TRIES: u32 = 3;
/// Set for tests that run in the nested machine.
const INSIDE: &str = "INLAY_NESTED";

/// Whether this is the nested machine.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// As [`elsewhere`], for a test whose guests live on an emulating KVM as well.
pub fn elsewhere_without_kvm(test: &str) -> bool {
    let kvm = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    kvm.is_err() && elsewhere(test)
}

/// Runs this test in the nested machine and gives true, unless it can run here: then false.
pub fn elsewhere(test: &str) -> bool {
    if inside() || probe().is_ok() {
        return false;
    }
    let mut command = Command::new(program("inlay-nested"));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let mut tries = 0;
    let (output, text) = loop {
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        tries += 1;
        if output.status.code() != Some(GONE.into()) || tries == TRIES {
            break (output, text);
        }
        eprintln!("{test}: once more, as {}", text.lines().last().unwrap_or_default());
    };
    assert!(output.status.success(), "in the nested machine: {text}");
    // A filter that matches nothing succeeds as well.
    assert!(text.contains("1 passed"), "{text}");
    true
}
