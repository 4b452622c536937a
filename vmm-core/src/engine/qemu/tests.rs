//! QEMU without a guest system: a kernel file that is none, the firmware, and what QEMU says about bad settings.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::qmp::{Message, parse};
use super::{Boot, Disk, DiskFormat, Exit, Qemu, QemuConfig, QemuError, version};
use crate::engine::lines::Lines;
use crate::engine::serial::{SerialLog, printable};

/// hlt; jmp back
const HALT: [u8; 3] = [0xf4, 0xeb, 0xfd];

/// A 32-bit multiboot kernel of this code, which is loaded at 1 MiB + 32.
fn multiboot(dir: &Path, code: &[u8]) -> std::path::PathBuf {
    let (magic, flags, load) = (0x1bad_b002_u32, 0x1_0000_u32, 0x10_0000_u32);
    let mut image = Vec::new();
    let words = [
        magic,
        flags,
        0u32.wrapping_sub(magic).wrapping_sub(flags),
        load,      // where this header is loaded
        load,      // where the file's first byte is loaded
        0,         // up to the end of the file
        0,         // no bss
        load + 32, // the entry
    ];
    image.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    image.extend(code);
    let path = dir.join("kernel");
    std::fs::write(&path, image).unwrap();
    path
}

fn kernel(kernel: std::path::PathBuf) -> Boot {
    Boot::Kernel { kernel, initrd: None, cmdline: String::new() }
}

fn config(dir: &Path) -> QemuConfig {
    QemuConfig {
        // Enough for QEMU to run a machine.
        boot: kernel(multiboot(dir, &HALT)),
        memory_mib: 64,
        cpus: 1,
        serial_log: dir.join("serial.log"),
        ..QemuConfig::default()
    }
}

fn start_error(config: &QemuConfig) -> String {
    match Qemu::spawn(config) {
        Ok(_) => panic!("QEMU starts"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_machine_starts_pauses_goes_on_and_quits() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = Qemu::spawn(&config(dir.path())).unwrap();
    assert!(Path::new(&format!("/proc/{}", qemu.pid())).exists());
    qemu.pause().unwrap();
    qemu.resume().unwrap();
    qemu.powerdown().unwrap();
    assert_eq!(qemu.try_wait(), None);
    assert_eq!(qemu.wait_timeout(Duration::from_millis(20)), None);
    qemu.quit().unwrap();
    assert_eq!(qemu.wait_timeout(Duration::from_secs(10)), Some(Exit::Asked));
    let ended = qemu.as_fd();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&now)).unwrap(), 1);
    assert!(matches!(qemu.pause(), Err(QemuError::Ended(Exit::Asked))));
}

#[test]
fn a_kill_from_outside_is_told_and_a_dropped_machine_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = Qemu::spawn(&config(dir.path())).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(qemu.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let exit = qemu.wait();
    assert_eq!(exit, Exit::Killed(9));
    assert_eq!(exit.to_string(), "QEMU was killed by signal 9");

    let qemu = Qemu::spawn(&config(dir.path())).unwrap();
    let proc = format!("/proc/{}", qemu.pid());
    drop(qemu);
    assert!(!Path::new(&proc).exists());
}

/// The kernel's words before it goes down decide: first it only restarts, the next time it had panicked.
#[test]
fn a_guest_restarts_until_its_kernel_panics() {
    let dir = tempfile::tempdir().unwrap();
    let mut code = vec![
        0xfe, 0x05, 0x00, 0x00, 0x20, 0x00, // inc byte [0x200000]: memory is kept over a reset
        0x80, 0x3d, 0x00, 0x00, 0x20, 0x00, 0x01, // cmp byte [0x200000], 1
        0x74, 0x11, // je reset
        0xbe, 0x4a, 0x00, 0x10, 0x00, // mov esi, words
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // print: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // je reset
        0xee, // out dx, al
        0xeb, 0xf8, // jmp print
        0x66, 0xba, 0xf9, 0x0c, // reset: mov dx, 0xcf9
        0xb0, 0x06, // mov al, 6
        0xee, // out dx, al
    ];
    code.extend(HALT);
    assert_eq!(code.len() + 32, 0x4a);
    code.extend(b"Kernel panic - not syncing: twice\n\0");
    let config = config(dir.path());
    // In place of the one that halts.
    multiboot(dir.path(), &code);
    let qemu = Qemu::spawn(&config).unwrap();
    assert_eq!(qemu.wait_timeout(Duration::from_secs(60)), Some(Exit::Panicked("twice".into())));
    // It goes on until it is heard.
    assert!(qemu.restarts() >= 2);
}

#[test]
fn the_machine_outlives_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let qemu = std::thread::spawn(move || Qemu::spawn(&config).unwrap()).join().unwrap();
    assert_eq!(qemu.wait_timeout(Duration::from_millis(200)), None);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let base = config(dir.path());

    let none = QemuConfig { binary: "qemu-of-nowhere".into(), ..base.clone() };
    assert_eq!(start_error(&none), "qemu-of-nowhere is not installed");

    let uefi =
        |code, variables| Boot::Uefi { code: dir.path().join(code), variables: dir.path().join(variables) };
    for boot in [kernel(dir.path().join("missing")), uefi("kernel", "missing"), uefi("missing", "kernel")] {
        let said = start_error(&QemuConfig { boot, ..base.clone() });
        assert!(said.contains("missing: No such file"), "{said}");
    }

    let image = dir.path().join("disk,with=comma.qcow2");
    std::fs::write(&image, vec![0; 4096]).unwrap();
    let disk = Disk {
        path: image,
        format: DiskFormat::Qcow2,
        serial: "root".into(),
        read_only: false,
        overlay: true,
    };
    let bad = QemuConfig { disks: vec![disk.clone()], ..base.clone() };
    let said = start_error(&bad);
    assert!(said.starts_with("QEMU does not start: ") && said.contains("not in qcow2 format"), "{said}");
    assert_eq!(said.lines().count(), 1);

    let raw = Disk { format: DiskFormat::Raw, ..disk.clone() };
    let good = QemuConfig { disks: vec![raw.clone()], ..base.clone() };
    let first = Qemu::spawn(&good).unwrap();
    assert!(start_error(&good).contains("lock"), "{}", start_error(&good));
    drop(first);

    let long = Disk { serial: "x".repeat(21), ..raw };
    assert!(start_error(&QemuConfig { disks: vec![long], ..base.clone() }).contains("serial"));
    assert!(start_error(&QemuConfig { cpus: 0, ..base.clone() }).contains("processors"));
    assert!(
        start_error(&QemuConfig { gpu_socket: Some(dir.path().join("no.sock")), ..base }).contains("no.sock")
    );
}

#[test]
fn an_old_qemu_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("old-qemu");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.17 (Debian)' && exit\n\
                  echo 'old-qemu: vhost-user-gpu requires kvm' >&2; exit 1\n";
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = start_error(&QemuConfig { binary: binary.clone(), ..config(dir.path()) });
    assert_eq!(said, format!("{} is version 7.2.17; Inlay needs 8 or newer", binary.display()));
    assert_eq!(version(&binary).unwrap().0, 7);
}

#[test]
fn messages_are_understood() {
    assert_eq!(parse(br#"{"QMP": {"version": {}}}"#), Message::Greeting);
    assert_eq!(parse(br#"{"return": {}, "id": 3}"#), Message::Answer(3, Ok(())));
    let refused = br#"{"id": 4, "error": {"class": "GenericError", "desc": "no"}}"#;
    assert_eq!(parse(refused), Message::Answer(4, Err("no".into())));
    let off = br#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
    assert_eq!(parse(off), Message::Shutdown("guest-shutdown".into()));
    let again = br#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#;
    assert_eq!(parse(again), Message::Reset);
    assert_eq!(parse(b"{"), Message::Other);
}

#[test]
fn lines_are_bounded() {
    let mut lines = Lines::new(5);
    let mut got = Vec::new();
    for piece in ["ab", "c\r\nlonger than five\n\n", "end"] {
        lines.push(piece.as_bytes(), |l| got.push(String::from_utf8(l.to_vec()).unwrap()));
    }
    assert_eq!(got, ["abc", "longe", ""]);
    assert_eq!(lines.rest(), b"end");
}

#[test]
fn the_serial_log_is_bounded_and_knows_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serial.log");
    let mut log = SerialLog::create(&path).unwrap();
    log.push(b"[    1.0] Kernel panic - not syncing: VFS: \x1b[31mno root\r\n");
    assert_eq!(log.panic(), Some("VFS:  [31mno root"));
    for _ in 0..9 {
        log.push(&vec![b'x'; 1 << 20]);
    }
    assert!(path.metadata().unwrap().len() <= 5 << 20);
    assert!(dir.path().join("serial.log.old").metadata().unwrap().len() <= 5 << 20);
    assert_eq!(printable(b"a\nb"), "a b");
}
