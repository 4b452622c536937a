//! What the command line says when something is wrong: one clear line, a status that is not 0, nothing half-made. No virtual
//! machine is started here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BASE: &str = "0123456789abcdef";

struct Home {
    root: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inlay"));
        command
            .args(words)
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"));
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        // Any dynamically linked program can be handed to a guest.
        command.env("INLAY_AGENT", std::env::current_exe().unwrap());
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "INLAY_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it; the one line that it says, without `inlay: `.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        failure(&self.command(words).output().unwrap())
    }

    /// A machine on disk, with a base that holds `kernel`.
    fn machine(&self, name: &str, config: &str, kernel: &str) {
        let base = self.path("data/inlay/.bases").join(BASE);
        let data = self.path("data/inlay").join(name);
        let configs = self.path("config/inlay/machines");
        for folder in [&base, &data, &configs] {
            fs::create_dir_all(folder).unwrap();
        }
        for (file, content) in [("vmlinux", kernel), ("initramfs.cpio", ""), ("root.ext4", "")] {
            fs::write(base.join(file), content).unwrap();
        }
        fs::write(data.join("disk.qcow2"), "").unwrap();
        fs::write(data.join("home.raw"), "").unwrap();
        fs::write(configs.join(format!("{name}.toml")), config).unwrap();
    }

    /// Nothing runs and no socket is left.
    #[track_caller]
    fn is_quiet(&self, name: &str) {
        assert!(!self.path("run/inlay").join(name).exists(), "sockets are left");
        let lock = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("data/inlay").join(name).join("lock"));
        lock.unwrap().try_lock().expect("nobody holds the machine");
    }
}

#[track_caller]
fn failure(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "{said}");
    let line = said.strip_prefix("inlay: ").and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("not one line: {said:?}"));
    assert!(!line.contains('\n'), "more than one line: {said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    line.to_owned()
}

#[test]
fn unknown_machines() {
    let home = Home::new();
    let commands: [&[&str]; 10] = [
        &["start", "nope"],
        &["agent", "install", "nope"],
        &["stop", "nope"],
        &["pause", "nope"],
        &["resume", "nope"],
        &["delete", "nope"],
        &["run", "nope", "foot"],
        &["run", "--headless", "nope", "foot"],
        &["exec", "nope", "--", "true"],
        &["screenshot", "nope", "1", "x.png"],
    ];
    for words in commands {
        let said = home.fails(words);
        assert!(said.contains("nope"), "{words:?}: {said}");
    }
    assert_eq!(fs::read_dir(home.root.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn bad_names() {
    let home = Home::new();
    for name in ["UPPER", "a/b", "..", "a.b", ""] {
        for words in [&["start", name][..], &["create", name], &["delete", name], &["run", name, "foot"]] {
            assert!(home.fails(words).contains("bad machine name"), "{words:?}");
        }
    }
    assert!(home.fails(&["create", "local"]).contains("reserved"));
    assert_eq!(fs::read_dir(home.root.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_broken_configuration_is_told_with_line_and_key() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\nmemroy = 3\n"), "");
    let said = home.fails(&["start", "m"]);
    assert!(said.contains("m.toml:2: ") && said.contains("`memroy`"), "{said}");
    home.is_quiet("m");
    let list = home.command(&["list", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list[0]["state"], "failed");
    assert!(list[0]["reason"].as_str().unwrap().contains("`memroy`"));
}

#[test]
fn no_qemu() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    let output =
        home.command(&["start", "m", "--headless"]).env("PATH", home.path("nothing")).output().unwrap();
    let said = failure(&output);
    assert!(said.contains("qemu-system-x86_64 is not installed") && said.contains("inlay doctor"), "{said}");
    home.is_quiet("m");
}

#[test]
fn a_qemu_that_is_too_old() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    let bin = home.path("bin");
    fs::create_dir(&bin).unwrap();
    let qemu = bin.join("qemu-system-x86_64");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version 7.2.22 (Debian)' && exit\n\
                  echo 'qemu-system-x86_64: vhost-user-gpu-pci requires kvm' >&2\nexit 1\n";
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let output = home.command(&["start", "m", "--headless"]).env("PATH", &bin).output().unwrap();
    let said = failure(&output);
    assert!(said.contains("7.2.22") && said.contains("inlay doctor"), "{said}");
    home.is_quiet("m");
}

#[test]
fn a_missing_agent_or_disk() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    let output = home.command(&["start", "m"]).env("INLAY_AGENT", "/nowhere/agent").output().unwrap();
    let said = failure(&output);
    assert!(said.contains("/nowhere/agent") && said.contains("INLAY_AGENT"), "{said}");
    home.is_quiet("m");
    fs::remove_file(home.path("data/inlay/m/home.raw")).unwrap();
    let said = home.fails(&["start", "m"]);
    assert!(said.contains("home.raw"), "{said}");
    home.is_quiet("m");
}

#[test]
fn no_display() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    for words in [&["run", "m", "foot"][..], &["run", "--local", "foot"]] {
        let said = home.fails(words);
        assert!(said.contains("DISPLAY") && said.contains("--headless"), "{said}");
    }
    assert!(!home.path("run").exists(), "nothing was started");
}

#[test]
fn machines_that_are_off() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    for words in [&["stop", "m"][..], &["pause", "m"], &["screenshot", "m", "1", "x.png"]] {
        assert_eq!(home.fails(words), "the machine m is not running", "{words:?}");
    }
    let list = home.command(&["list"]).output().unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains("stopped"));
    assert!(home.fails(&["create", "m"]).contains("exists already"));
    assert!(home.fails(&["screenshot", "--local", "1", "x.png"]).contains("no app runs"));
    assert!(home.fails(&["run", "m"]).contains("which app?"));
}

#[test]
fn deleted_machines_are_gone() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    assert!(home.command(&["delete", "m"]).status().unwrap().success());
    assert!(!Path::new(&home.path("data/inlay/m")).exists());
    assert!(home.fails(&["delete", "m"]).contains("no such machine"));
}

/// Makes a disk image with QEMU's own tool.
fn image(arguments: &[&str]) {
    let output = Command::new("qemu-img").arg("create").arg("-q").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A file of this size, none of it zero, with the first sector of a disk that boots.
fn disk(path: &Path, mib: usize) {
    let mut content = vec![0x77; mib << 20];
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, content).unwrap();
}

#[test]
fn disks_that_cannot_be_imported() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    disk(&home.path("disk"), 1);
    fs::write(home.path("text"), "no disk\n".repeat(1000)).unwrap();
    let text = |name: &str| home.path(name).to_str().unwrap().to_owned();
    for (path, name, part) in [
        ("disk", "m", "exists already"),
        ("disk", "a.b", "bad machine name"),
        ("none", "new", "No such file"),
        ("data", "new", "not a file"),
        ("text", "new", "boot loader"),
    ] {
        let said = home.fails(&["import", &text(path), "--name", name]);
        assert!(said.contains(part), "{path}: {said}");
        let left = fs::read_dir(home.path("data/inlay")).unwrap().count();
        assert_eq!(left, 2, "its folder is left: {path}");
        assert!(!home.path("config/inlay/machines/new.toml").exists());
    }
    let said = home.fails(&["import", &text("disk"), "--name", "new", "--memory", "1"]);
    assert!(said.contains("`memory`"), "{said}");
    // One that Inlay made has its agent.
    assert!(home.fails(&["agent", "install", "m"]).contains("made by Inlay"));

    // It is taken: then it is a machine, which our own engine does not start.
    let made = home.command(&["import", &text("disk"), "--name", "new"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(fs::read(home.path("data/inlay/new/disk.raw")).unwrap(), fs::read(home.path("disk")).unwrap());
    let said = home.fails(&["start", "new", "--headless", "--engine", "kvm"]);
    assert!(said.contains("only QEMU has"), "{said}");
    home.is_quiet("new");
    assert!(home.command(&["delete", "new"]).status().unwrap().success());
    assert!(!home.path("data/inlay/new").exists());
}

#[test]
fn an_import_that_is_interrupted_leaves_nothing() {
    let home = Home::new();
    disk(&home.path("disk"), 700);
    let mut command = home.command(&["import", home.path("disk").to_str().unwrap(), "--name", "new"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let copy = home.path("data/inlay/.new-new/disk.raw");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !copy.exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("interrupted"), "{said}");
    assert!(!home.path("data/inlay/.new-new").exists() && !home.path("data/inlay/new").exists());
    assert!(!home.path("config/inlay/machines/new.toml").exists());
}

#[test]
fn disks_that_our_engine_cannot_use() {
    let home = Home::new();
    home.machine("m", &format!("base = \"{BASE}\"\n"), "");
    let disk = home.path("data/inlay/m/disk.qcow2");
    let path = disk.to_str().unwrap();
    let start = ["start", "m", "--headless", "--engine", "kvm"];

    // No image, one whose header lies, one that is cut short.
    let mut broken = vec![0; 4096];
    broken[..8].copy_from_slice(b"QFI\xfb\0\0\0\x63");
    image(&["-f", "qcow2", path, "1G"]);
    let good = fs::read(&disk).unwrap();
    let mut size = good.clone();
    size[24..32].fill(0xff);
    for content in [&[][..], b"no image at all", &broken, &size, &good[..40]] {
        fs::write(&disk, content).unwrap();
        let said = home.fails(&start);
        assert!(said.contains("disk.qcow2"), "{} bytes: {said}", content.len());
        assert_eq!(fs::read(&disk).unwrap(), content, "it is left as it is");
        home.is_quiet("m");
    }

    // A backing file that is none of the machine's business.
    let secret = home.path("secret.raw");
    fs::write(&secret, vec![0x77; 1 << 16]).unwrap();
    fs::remove_file(&disk).unwrap();
    image(&["-f", "qcow2", "-F", "raw", "-b", secret.to_str().unwrap(), path]);
    let said = home.fails(&start);
    assert!(said.contains("secret.raw") && said.contains("disk.qcow2"), "{said}");
    home.is_quiet("m");

    // In use by another program, which QEMU's tools are.
    fs::remove_file(&disk).unwrap();
    image(&["-f", "qcow2", path, "1G"]);
    let mut other = Command::new("qemu-io")
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It asks for commands when it has the image.
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0; 7]).unwrap();
    let said = home.fails(&start);
    assert!(said.contains("in use by another") && said.contains("disk.qcow2"), "{said}");
    home.is_quiet("m");
    other.kill().unwrap();
    other.wait().unwrap();
}
