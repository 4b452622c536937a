//! Shared folders through a virtual machine, whichever engine runs it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::machine::{BOOT, Machine};
use super::within;

/// How long the guest may believe what was, and some.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// Runs a shell command in the guest that may fail; all that it says, and its status.
fn tried(machine: &Machine, script: &str) -> String {
    let out = machine.output(&["exec", &machine.name, "--", "sh", "-c", script]);
    let status = out.status.code().unwrap_or(-1);
    format!("{}{}{status}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn share(machine: &Machine, folder: &Path, more: &[&str]) -> String {
    let folder = folder.to_str().unwrap();
    machine.ok(&[&["share", "add", &machine.name, folder], more].concat())
}

/// Folders come, change and go while the machine runs; both sides see the same files, and nothing beside them.
pub fn folders(machine: &Machine) {
    let host = tempfile::tempdir().unwrap();
    let path = |name: &str| host.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("secret"), "a secret of the host").unwrap();
    fs::write(path("one/hello"), "hello from the host\n").unwrap();
    symlink("../secret", path("one/relative")).unwrap();
    symlink(path("secret"), path("one/absolute")).unwrap();
    within(BOOT, "the guest's mount", || {
        tried(machine, "mountpoint -q /media/host").ends_with('0').then_some(())
    });

    // Bad input is one line, and nothing changes.
    let nested = path("one/inner");
    fs::create_dir(&nested).unwrap();
    share(machine, &path("one"), &[]);
    for (words, part) in [
        (["add", path("none").to_str().unwrap()], "no such folder"),
        (["add", path("secret").to_str().unwrap()], "not a folder"),
        (["add", nested.to_str().unwrap()], "lies in"),
        (["add", "/"], "belongs to the system"),
        (["remove", "two"], "not shared"),
    ] {
        let out = machine.output(&["share", words[0], &machine.name, words[1]]);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && text.lines().count() == 1 && text.contains(part),
            "{words:?}: {text}"
        );
    }
    let list = machine.ok(&["share", "list", &machine.name]);
    assert!(
        list.lines().count() == 1 && list.contains("/media/host/one") && list.contains("read-write"),
        "{list}"
    );

    let sees = |script: &str, wanted: &str| {
        within(SOON, script, || {
            let said = tried(machine, script);
            said.starts_with(wanted).then_some(())
        });
    };
    sees("cat /media/host/one/hello", "hello from the host\n0");
    // Both ways, with the right owner, in both directions.
    machine.guest("cd /media/host/one && mkdir -p a/b && echo guest > a/b/file && test -O a/b/file && chmod 600 a/b/file");
    let meta = fs::metadata(path("one/a/b/file")).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (rustix::process::getuid().as_raw(), 0o600));
    fs::write(path("one/a/b/file"), "changed by the host").unwrap();
    sees("cat /media/host/one/a/b/file", "changed by the host");
    fs::rename(path("one/a"), path("one/c")).unwrap();
    sees("ls /media/host/one/c/b", "file\n0");
    // Links are the guest's own: what they say means its own files, or nothing.
    for link in ["relative", "absolute"] {
        let said = tried(machine, &format!("cat /media/host/one/{link}"));
        assert!(!said.contains("a secret") && !said.ends_with('0'), "{said}");
    }
    assert!(tried(machine, "cat /media/host/one/../secret /media/host/secret").ends_with('1'));
    // Large and full of holes; locks hold among the guest's processes; nobody runs as another.
    machine.guest("cd /media/host/one && truncate -s 5G big && printf end | dd of=big bs=1 seek=5368709117 conv=notrunc 2>/dev/null");
    let meta = fs::metadata(path("one/big")).unwrap();
    assert!(meta.len() == 5 << 30 && meta.blocks() < 1000, "{} bytes, {} blocks", meta.len(), meta.blocks());
    let locks = "cd /media/host/one && exec 9> lock && flock 9 && ! flock -n lock true && echo held";
    assert_eq!(machine.guest(locks), "held\n");
    machine.guest("cd /media/host/one && cp /bin/true . && chmod 6755 true");
    assert_eq!(fs::metadata(path("one/true")).unwrap().mode() & 0o6000, 0);

    // Another comes; this one is made read-only while it is used, and writable again.
    share(machine, &path("two"), &["--read-only", "--name", "zwei"]);
    sees("ls /media/host", "one\nzwei\n0");
    assert!(tried(machine, "touch /media/host/zwei/x").contains("Read-only"), "from the start");
    let mut user = machine.guest_process(
        "cd /media/host/one/c && exec 8>> kept && while read -r word; do (echo $word >&8 && cat ../hello) 2> /dev/null || echo closed; done",
    );
    let mut say = |word: &str| {
        use std::io::{Read as _, Write as _};
        user.0.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut byte = [0];
        // Until the end of the line.
        let mut line = String::new();
        while user.0.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    };
    assert_eq!(say("first"), "hello from the host");
    share(machine, &path("one"), &["--read-only"]);
    assert!(tried(machine, "cd /media/host/one/c && rm -r b").contains("Read-only"));
    assert!(tried(machine, "echo x > /media/host/one/hello").contains("Read-only"));
    share(machine, &path("one"), &[]);
    machine.guest("echo again > /media/host/one/c/again");
    assert_eq!(fs::read(path("one/c/again")).unwrap(), b"again\n");
    assert_eq!(fs::read(path("one/c/kept")).unwrap(), b"first\n");

    // Removed while it is used: an error for its users, and nothing for those of the other.
    machine.ok(&["share", "remove", &machine.name, path("one").to_str().unwrap()]);
    assert_eq!(say("second"), "closed");
    assert_eq!(fs::read(path("one/c/kept")).unwrap(), b"first\n");
    sees("ls /media/host", "zwei\n0");
    assert!(tried(machine, "cat /media/host/one/hello").ends_with('1'));
    machine.ok(&["share", "remove", &machine.name, "zwei"]);
    assert_eq!(machine.ok(&["share", "list", &machine.name]), "");
}

/// What programs do with files comes to the same on a shared folder and on the guest's own disk.
pub fn programs(machine: &Machine) {
    let host = tempfile::tempdir().unwrap();
    share(machine, host.path(), &["--name", "work"]);
    machine.install(&super::program("inlay-fsx"), "/tmp/inlay-fsx");
    machine.install(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/folder-programs.sh")),
        "/tmp/programs.sh",
    );
    within(SOON, "the folder", || tried(machine, "test -d /media/host/work").ends_with('0').then_some(()));
    let seed = std::process::id();
    let run = |folder: &str| machine.guest(&format!("/tmp/programs.sh {folder} {seed} 2>&1"));
    let own = run("/home/user/work");
    let shared = run("/media/host/work");
    assert!(own.lines().count() >= 12, "{own}");
    assert_eq!(own, shared, "seed {seed}");
    // What is there in the end is on the host as well.
    let sum = shared.lines().find_map(|line| line.strip_prefix("fsx ")).unwrap();
    let file = super::machine::run("sha256sum", &[&host.path().join("fsx")]).1;
    assert_eq!(sum, &file[..64]);
    assert_eq!(fs::read_dir(host.path().join("clone/src")).unwrap().count(), 1000);
    machine.ok(&["share", "remove", &machine.name, "work"]);
}
