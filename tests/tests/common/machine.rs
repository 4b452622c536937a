//! Handles on virtual machines, and whole paths through them, whichever engine runs them.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use inlay::windows::api;
use inlay_tests::pattern;
use rustix::process::{Pid, Signal};

use super::{Process, Steps, Xvfb, descendants, drags, eventually, program, says, shows, within};

/// A slow machine under emulation, even a nested one.
pub const BOOT: Duration = Duration::from_secs(600);
/// What the guests have beside the usual; `cargo xtask test` makes the base image with it.
const PACKAGES: &str = "git,make,sqlite3,tcc,wl-clipboard,xclip,xterm";
/// The locale that these guests have beside C.UTF-8.
pub const LOCALE: &str = "de_DE.UTF-8";
const WIDTH: u32 = 333;
const HEIGHT: u32 = 217;

/// A machine that is deleted with its handle.
#[derive(Debug)]
pub struct Machine {
    pub name: String,
    display: Option<String>,
    engine: &'static str,
}

impl Machine {
    pub fn create(what: &str, display: Option<&str>) -> Self {
        Self::create_for("qemu", what, display)
    }

    pub fn create_for(engine: &'static str, what: &str, display: Option<&str>) -> Self {
        let name = format!("t{}-{what}", std::process::id());
        let machine = Self { name, display: display.map(str::to_owned), engine };
        let create = ["create", &machine.name, "--integrated", "--memory", "1024", "--packages", PACKAGES];
        // Of a user whose apps are to speak German, where one says so.
        let out = machine
            .command(&create)
            .env("LANG", LOCALE)
            .env_remove("LC_ALL")
            .env_remove("LC_MESSAGES")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        machine
    }

    /// One of a copy of somebody's disk.
    pub fn import(what: &str, display: Option<&str>, disk: &Path) -> Self {
        let name = format!("t{}-{what}", std::process::id());
        let machine = Self { name, display: display.map(str::to_owned), engine: "qemu" };
        let disk = disk.to_str().unwrap();
        machine.ok(&["import", disk, "--name", &machine.name, "--integrated", "--memory", "1024"]);
        machine
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("inlay"));
        command.args(arguments).env_remove("WAYLAND_DISPLAY").stdin(Stdio::null());
        match &self.display {
            Some(display) => command.env("DISPLAY", display),
            None => command.env_remove("DISPLAY"),
        };
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let out = self.output(arguments);
        let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "inlay {arguments:?}: {text}{errors}{}", self.logs());
        text.into_owned()
    }

    pub fn start(&self) {
        let timeout = BOOT.as_secs().to_string();
        let mut arguments = vec!["start", &self.name, "--timeout", &timeout, "--engine", self.engine];
        if self.display.is_none() {
            arguments.push("--headless");
        }
        self.ok(&arguments);
    }

    /// Switches it off, by no force.
    pub fn stop(&self) {
        let timeout = BOOT.as_secs().to_string();
        let out = self.output(&["stop", &self.name, "--timeout", &timeout]);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && !text.contains("by force"), "{text}{}", self.logs());
    }

    /// Runs a shell command in the guest.
    pub fn guest(&self, script: &str) -> String {
        self.ok(&["exec", &self.name, "--", "sh", "-c", script])
    }

    /// Has the guest restart by this command, and waits until it has.
    pub fn restarts(&self, command: &str) {
        const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
        let before = self.guest(&format!("cat {BOOT_ID}"));
        // It may be gone before the command is.
        self.output(&["exec", &self.name, "--", "sh", "-c", command]);
        within(BOOT, "the guest's next start", || {
            let out = self.output(&["exec", &self.name, "--", "cat", BOOT_ID]);
            (out.status.success() && out.stdout != before.as_bytes()).then_some(())
        });
    }

    /// Starts a shell command in the guest, with pipes.
    pub fn guest_process(&self, script: &str) -> Process {
        let mut command = self.command(&["exec", &self.name, "--", "sh", "-c", script]);
        Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    /// Puts a program into the guest.
    pub fn install(&self, path: &Path, to: &str) {
        let mut child = self.guest_process(&format!("cat > {to} && chmod +x {to}"));
        child.0.stdin.take().unwrap().write_all(&std::fs::read(path).unwrap()).unwrap();
        let status = within(BOOT, "a copy into the guest", || child.ended());
        assert!(status.success());
    }

    pub fn data(&self) -> PathBuf {
        Path::new(&std::env::var_os("XDG_DATA_HOME").expect("run by cargo xtask test"))
            .join("inlay")
            .join(&self.name)
    }

    /// Where copies of its files are.
    pub fn copied(&self) -> PathBuf {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache");
        cache.unwrap_or_else(home).join("inlay/copied").join(&self.name)
    }

    pub fn runtime(&self) -> PathBuf {
        let base = std::env::var_os("XDG_RUNTIME_DIR").expect("run by cargo xtask test");
        Path::new(&base).join("inlay").join(&self.name)
    }

    pub fn api(&self) -> PathBuf {
        self.runtime().join("windows.sock")
    }

    pub fn logs(&self) -> String {
        let tail = |name: &str| {
            let text = std::fs::read(self.data().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            format!("\n--- {name}\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        ["machine.log", "windows.log", "serial.log"].map(tail).concat()
    }

    /// What `inlay list` says of it.
    pub fn listed(&self) -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(&self.ok(&["list", "--json"])).unwrap();
        let mine = all.as_array().unwrap().iter().find(|m| m["name"] == self.name.as_str());
        mine.unwrap_or_else(|| panic!("{} is not listed: {all}", self.name)).clone()
    }

    pub fn pid(&self) -> Pid {
        let pid = self.listed()["pid"].as_i64().expect("the machine runs");
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    /// The descendant of the machine process whose command line has a word.
    pub fn process(&self, word: &str) -> Pid {
        eventually(&format!("the process {word}"), || {
            descendants(self.pid()).into_iter().find(|p| says(*p, word))
        })
    }

    /// Both disks are clean after at most a journal replay.
    pub fn disks_are_sound(&self) {
        let dir = tempfile::tempdir_in(self.data()).unwrap();
        let root = dir.path().join("root.raw");
        let path = Path::new;
        let disk = self.data().join("disk.qcow2");
        // A QEMU that was just killed holds its locks until its last thread is gone.
        eventually("the copy of the root disk", || {
            let (status, text) = run("qemu-img", &[path("convert"), path("-O"), path("raw"), &disk, &root]);
            assert!(status == Some(0) || text.contains("lock"), "{text}");
            (status == Some(0)).then_some(())
        });
        for image in [root, self.data().join("home.raw")] {
            let (status, text) = run("e2fsck", &[path("-p"), &image]);
            assert!(matches!(status, Some(0 | 1)), "{}: {status:?} {text}", image.display());
            is_sound(&image);
        }
    }

    /// Both disks were left in order: clean, with no journal to be replayed and no orphans.
    pub fn disks_were_left_in_order(&self) {
        for (format, disk) in
            [("qcow2", self.data().join("disk.qcow2")), ("raw", self.data().join("home.raw"))]
        {
            let super_block = SuperBlock::read(format, &disk);
            assert_eq!(super_block.number::<2>(0x38), 0xef53, "{}: no ext4", disk.display());
            assert_eq!(super_block.number::<2>(0x3a), 1, "{}: not clean", disk.display());
            assert_eq!(super_block.number::<4>(0x60) & 4, 0, "{}: a journal to replay", disk.display());
            assert_eq!(super_block.number::<4>(0xe8), 0, "{}: orphans", disk.display());
        }
        is_sound(&self.data().join("home.raw"));
    }
}

/// Runs a tool; its status and what it said.
pub fn run(name: &str, arguments: &[&Path]) -> (Option<i32>, String) {
    let out = Command::new(name).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code(), text)
}

/// ext4's, 1 KiB into the disk.
struct SuperBlock(Vec<u8>);

impl SuperBlock {
    /// Reads it with QEMU's own tool, out of any image.
    fn read(format: &str, disk: &Path) -> Self {
        let path = Path::new;
        let (status, text) = run(
            "qemu-io",
            &[path("-r"), path("-f"), path(format), path("-c"), path("read -v 1024 1024"), disk],
        );
        assert_eq!(status, Some(0), "{text}");
        // Lines such as "00000400:  00 00 01 00 ...  ....".
        let lines = text.lines().filter_map(|line| Some(line.split_once(":  ")?.1));
        let bytes =
            lines.flat_map(|line| line.split(' ').take(16)).map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        assert_eq!(bytes.len(), 1024, "{text}");
        Self(bytes)
    }

    /// The number of N bytes at this place.
    fn number<const N: usize>(&self, at: usize) -> u64 {
        self.0[at..at + N].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn is_sound(image: &Path) {
    let (status, text) = run("e2fsck", &[Path::new("-fn"), image]);
    assert_eq!(status, Some(0), "{}: {text}", image.display());
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let _ = self.output(&["delete", "--force", &self.name]);
    }
}

/// Apps of a machine that shows its windows there are typed into, resized and closed.
pub fn apps(machine: &Machine, xvfb: &Xvfb) {
    let script =
        "read line; echo \"$line\" > typed; trap 'stty size > sizes' WINCH; while :; do read -t 1 x; done";
    machine.ok(&["run", &machine.name, "foot", "--title=guest foot", "bash", "-c", script]);
    let window = xvfb.find("guest foot");
    xvfb.click(&window);
    // The app's shell must be there before it can read.
    within(BOOT, "the shell in the guest's terminal", || {
        machine.guest("pgrep -x bash || true").lines().next().map(str::to_owned)
    });
    xvfb.type_text("Hello, guest: {1+1} \"2\"\n");
    let typed = within(BOOT, "the typed line", || {
        let text = machine.guest("cat typed 2>/dev/null || true");
        text.ends_with('\n').then_some(text)
    });
    assert_eq!(typed, "Hello, guest: {1+1} \"2\"\n");

    let size = |not: &str| {
        within(BOOT, "a new size of the terminal", || {
            let text = machine.guest("cat sizes 2>/dev/null || true");
            (!text.is_empty() && text != not).then_some(text)
        })
    };
    xvfb.xdotool(&["windowsize", &window, "560", "330"]);
    let small = size("");
    xvfb.xdotool(&["windowsize", &window, "1000", "640"]);
    let large = size(&small);
    let numbers = |text: &str| -> Vec<u32> { text.split_whitespace().map(|n| n.parse().unwrap()).collect() };
    let (small, large) = (numbers(&small), numbers(&large));
    assert!(large[0] > small[0] && large[1] > small[1], "{small:?} {large:?}");
    let class = xvfb.tool("xprop", &["-id", &window, "WM_CLASS"]);
    assert!(class.contains(&format!("\"inlay.{}.foot\"", machine.name)), "{class}");

    xvfb.click(&window);
    xvfb.xdotool(&["key", "alt+F4"]);
    within(BOOT, "the end of the closed app", || {
        machine.guest("pgrep -x foot || true").is_empty().then_some(())
    });
    within(BOOT, "the closed window's end", || xvfb.is_gone("guest foot").then_some(()));

    let script = "while [ ! -e end ]; do sleep 0.2; done";
    machine.ok(&["run", &machine.name, "foot", "--title=ends itself", "sh", "-c", script]);
    xvfb.find("ends itself");
    machine.guest("touch end");
    within(BOOT, "the window's end", || xvfb.is_gone("ends itself").then_some(()));
}

/// Copy and paste, both ways, for both kinds of apps of the guest; lists of files and what is not permitted stay where they are.
pub fn copies(machine: &Machine, xvfb: &Xvfb) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blob");
    let mut random = super::Random::new(9);
    let blob: Vec<u8> = (0..1 << 20).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect();
    std::fs::write(&path, &blob).unwrap();
    let sum = run("sha256sum", &[&path]).1[..64].to_owned();
    let kind = "application/x-blob";
    let host = |arguments: &[&str]| {
        let mut command = Command::new("xclip");
        command.args(["-selection", "clipboard", "-t", kind]).args(arguments).env("DISPLAY", &xvfb.display);
        command.stderr(Stdio::null());
        command
    };
    // From the host.
    let owner = Process::spawn(host(&["-i", "-quiet"]).arg(&path));
    for paste in ["wl-paste -n -t", "xclip -o -selection clipboard -t"] {
        within(BOOT, paste, || {
            let out = machine.output(&[
                "exec",
                &machine.name,
                "--",
                "sh",
                "-c",
                &format!("{paste} {kind} | sha256sum"),
            ]);
            String::from_utf8_lossy(&out.stdout).starts_with(&sum).then_some(())
        });
    }
    drop(owner);
    lists_of_files(machine, folder.path(), &host);
    // From the guest.
    machine.install(&path, "/tmp/blob");
    for copy in ["wl-copy -t application/x-blob", "xclip -i -selection clipboard -t application/x-blob"] {
        machine.guest(&format!("{copy} < /tmp/blob > /dev/null 2>&1"));
        within(BOOT, copy, || (host(&["-o"]).output().unwrap().stdout == blob).then_some(()));
        // Not any more, at once.
        machine.ok(&["permissions", &machine.name, "clipboard-out", "never"]);
        within(BOOT, "nothing", || host(&["-o"]).output().unwrap().stdout.is_empty().then_some(()));
        machine.ok(&["permissions", &machine.name, "clipboard-out", "always"]);
        within(BOOT, "it again", || (host(&["-o"]).output().unwrap().stdout == blob).then_some(()));
    }
}

/// A list of files becomes one of the other side's: a path in a shared folder is that folder's there, a file of the host that is in
/// none is given alone, to be read, and one of the guest is copied.
fn lists_of_files(machine: &Machine, folder: &Path, host: &dyn Fn(&[&str]) -> Command) {
    let list = |out: &[u8]| String::from_utf8_lossy(out).into_owned();
    let shared = folder.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("in it"), "shared").unwrap();
    std::fs::write(folder.join("letter"), "alone").unwrap();
    std::fs::write(folder.join("beside"), "a secret").unwrap();
    machine.ok(&["share", "add", &machine.name, shared.to_str().unwrap(), "--name", "some"]);
    let path = folder.join("list");
    let (shown, folder) = (shared.display(), folder.display());
    std::fs::write(&path, format!("file://{shown}/in%20it\r\nfile://{folder}/letter\r\n")).unwrap();
    let owner = Process::spawn(host(&["-i", "-quiet", "-t", "text/uri-list"]).arg(&path));
    for paste in ["wl-paste -n -t", "xclip -o -selection clipboard -t"] {
        let pasted = within(BOOT, paste, || {
            let script = format!("{paste} text/uri-list");
            let out = machine.output(&["exec", &machine.name, "--", "sh", "-c", &script]);
            let lines: Vec<String> = list(&out.stdout).lines().map(str::to_owned).collect();
            (lines.len() == 2).then_some(lines)
        });
        assert_eq!(pasted[0], "file:///media/host/some/in%20it");
        let letter = pasted[1].strip_prefix("file://").unwrap();
        assert!(letter.starts_with("/media/host/.files/") && letter.ends_with("/letter"), "{letter}");
        let around = Path::new(letter).parent().unwrap().display();
        let script = format!(
            "cat {letter}; ls {around}; (echo x > {letter}) 2>/dev/null || echo read-only; ls {around}/../.."
        );
        assert_eq!(machine.guest(&script), "aloneletter\nread-only\nsome\n");
    }
    drop(owner);
    machine.guest("printf 'file:///media/host/some/in%%20it\\r\\nfile:///etc/hostname\\r\\n' | wl-copy -t text/uri-list");
    let pasted = within(BOOT, "the host's paths", || {
        let lines: Vec<String> = pasted_list(machine).lines().map(str::to_owned).collect();
        (lines.len() == 2).then_some(lines)
    });
    assert_eq!(pasted[0], format!("file://{shown}/in%20it"));
    let copied = pasted[1].strip_prefix("file://").unwrap();
    assert!(
        copied.starts_with(machine.copied().to_str().unwrap()) && copied.ends_with("/hostname"),
        "{copied}"
    );
    assert_eq!(std::fs::read_to_string(copied).unwrap(), machine.guest("cat /etc/hostname"));
    machine.ok(&["share", "remove", &machine.name, "some"]);
}

/// The list of files that an app of the host pastes.
fn pasted_list(machine: &Machine) -> String {
    let mut command = Command::new("xclip");
    command.args(["-selection", "clipboard", "-t", "text/uri-list", "-o"]);
    let out = command.env("DISPLAY", machine.display.as_deref().unwrap()).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Files and folders of the guest's user are copied when they are pasted, byte by byte; nothing is that is not permitted, or not wanted.
pub fn copied_files(machine: &Machine, xvfb: &Xvfb) {
    let script = "mkdir -p docs/sub && cd docs && head -c 5000000 /dev/urandom > sub/blob && chmod +x sub/blob \
        && touch -d @1000000000 sub/blob && printf odd > \"$(printf 'o\\377d\\nd')\" && ln -s sub/blob way \
        && ln -s /etc/passwd out && mkfifo pipe && printf dear > ../letter && sha256sum < sub/blob";
    let sum = machine.guest(script);
    let offer = |names: &[&str], copy: &str| {
        let list: String = names.iter().map(|name| format!("file://$HOME/{name}\\r\\n")).collect();
        machine.guest(&format!("printf \"{list}\" | {copy} > /dev/null 2>&1"));
    };
    let list = |names: &[&str]| {
        within(BOOT, "the copied files", || {
            let lines: Vec<String> = pasted_list(machine).lines().map(str::to_owned).collect();
            let paths: Vec<PathBuf> =
                lines.iter().map(|l| l.strip_prefix("file://").unwrap().into()).collect();
            let found = |(path, name): (&PathBuf, &&str)| path.ends_with(name);
            (paths.len() == names.len() && paths.iter().zip(names).all(found)).then_some(paths)
        })
    };
    let mut places = Vec::new();
    for copy in ["wl-copy -t text/uri-list", "xclip -i -selection clipboard -t text/uri-list"] {
        offer(&["letter", "docs"], copy);
        let paths = within(BOOT, "another copy", || {
            Some(list(&["letter", "docs"])).filter(|paths| !places.contains(&paths[0]))
        });
        assert_eq!(std::fs::read(&paths[0]).unwrap(), b"dear");
        let docs = &paths[1];
        assert_eq!(run("sha256sum", &[&docs.join("way")]).1[..64], sum[..64]);
        let found = std::fs::metadata(docs.join("sub/blob")).unwrap();
        assert_eq!((found.mtime(), found.mode() & 0o100, found.len()), (1_000_000_000, 0o100, 5_000_000));
        assert_eq!(std::fs::read_link(docs.join("way")).unwrap(), Path::new("sub/blob"));
        assert_eq!(std::fs::read(docs.join(OsStr::from_bytes(b"o\xffd\nd"))).unwrap(), b"odd");
        let mut names: Vec<_> = std::fs::read_dir(docs).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, [OsStr::from_bytes(b"o\xffd\nd"), "sub".as_ref(), "way".as_ref()]);
        places.push(paths[0].clone());
    }
    // What was left out is told in a window.
    xvfb.find("Inlay");
    // Not permitted: nothing comes.
    let copies = || std::fs::read_dir(machine.copied()).unwrap().count();
    let before = copies();
    machine.ok(&["permissions", &machine.name, "clipboard-out-files", "never"]);
    offer(&["letter"], "wl-copy -t text/uri-list");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((pasted_list(machine).as_str(), copies()), ("", before));
    machine.ok(&["permissions", &machine.name, "clipboard-out-files", "always"]);
    // One that takes longer is shown in a window, whose only button cancels it.
    machine.guest("head -c 400000000 /dev/zero > large");
    offer(&["large"], "wl-copy -t text/uri-list");
    let windows = || xvfb.xdotool(&["search", "--onlyvisible", "--name", "^Inlay$"]);
    let others = windows();
    let paste = std::thread::scope(|scope| {
        let paste = scope.spawn(|| pasted_list(machine));
        let new = within(BOOT, "the window of a copy", || {
            windows().lines().find(|id| !others.contains(*id)).map(str::to_owned)
        });
        std::thread::sleep(Duration::from_millis(700));
        let area = xvfb.area(&new);
        let (x, y) = (area.x + area.width.cast_signed() - 40, area.y + area.height.cast_signed() - 30);
        xvfb.xdotool(&["windowraise", &new, "mousemove", &x.to_string(), &y.to_string(), "click", "1"]);
        paste.join().unwrap()
    });
    assert_eq!((paste.as_str(), copies()), ("", before));
    assert_eq!(machine.guest("rm large; echo on").trim(), "on");
}

/// A file of the host is dragged, with the pointer, from an app of the host onto a terminal of the guest: it is given that file alone.
pub fn dropped_file(machine: &Machine, xvfb: &Xvfb) {
    let dir = tempfile::tempdir().unwrap();
    let letter = dir.path().join("a letter");
    std::fs::write(&letter, "from the host\n").unwrap();
    std::fs::create_dir(dir.path().join("1")).unwrap();
    let list = format!("file://{}\r\n", letter.display().to_string().replace(' ', "%20"));
    std::fs::write(dir.path().join("1/text!uri-list"), list).unwrap();
    let mut source = Command::new("/usr/bin/python3");
    source.args([drags::PROGRAM, "source"]).arg(dir.path()).env("DISPLAY", &xvfb.display);
    source.env("QT_QPA_PLATFORM", "xcb").stdin(Stdio::null()).stderr(Stdio::null());
    let _source = Process::spawn(&mut source);
    // The terminal types where it is, as a shell would want it.
    let script = "read -r line; eval \"cat $line\" > dropped 2>&1";
    machine.ok(&["run", &machine.name, "foot", "--title=dropped on", "sh", "-c", script]);
    let (from, to) = (xvfb.find("source"), xvfb.find("dropped on"));
    xvfb.xdotool(&["windowmove", &from, "20", "40"]);
    xvfb.xdotool(&["windowmove", &to, "500", "300"]);
    std::thread::sleep(Duration::from_secs(1));
    let [from, to] = [(&from, 100), (&to, 200)].map(|(window, inside)| {
        let area = xvfb.area(window);
        (area.x + inside, area.y + 80)
    });
    drags::drag(xvfb, from, to);
    std::thread::sleep(Duration::from_secs(1));
    xvfb.xdotool(&["mouseup", "1"]);
    let ended = dir.path().join("ended-1");
    let ended = within(BOOT, "the end of the drag", || {
        std::fs::read_to_string(&ended).ok().filter(|t| !t.is_empty())
    });
    assert_eq!(ended, "1\n", "a copy");
    xvfb.click(&xvfb.find("dropped on"));
    let text = within(BOOT, "what was dropped", || {
        xvfb.xdotool(&["key", "Return"]);
        std::thread::sleep(Duration::from_secs(1));
        Some(machine.guest("cat dropped 2> /dev/null || true")).filter(|text| !text.is_empty())
    });
    assert_eq!(text, "from the host\n");
}

/// The network is cut off and connected again, which the guest sees.
pub fn cable(machine: &Machine) {
    let carrier = |expected: &str| {
        within(BOOT, "the card's carrier", || {
            // It cannot be read before the card is up.
            let carrier = machine.guest("cat /sys/class/net/eth0/carrier 2> /dev/null || true");
            (carrier.trim() == expected).then_some(())
        });
    };
    carrier("1");
    for (switch, expected) in [("off", "0"), ("on", "1")] {
        machine.ok(&["network", &machine.name, switch]);
        assert_eq!(machine.ok(&["network", &machine.name]).trim(), switch);
        carrier(expected);
    }
}

/// Known pixels arrive exactly, and windows survive restarts of window process and agent.
pub fn pixels(machine: &Machine) {
    machine.install(&program("inlay-pattern"), "/tmp/inlay-pattern");
    let wayland = "export XDG_RUNTIME_DIR=/run/user/1000; export WAYLAND_DISPLAY=$(cd $XDG_RUNTIME_DIR; ls | grep -E '^(inlay|wayland)-[0-9]+$' | head -1);";
    let counters = || api::counters(&machine.api()).unwrap();
    let before = counters();
    let uploaded = || counters().uploaded_bytes - before.uploaded_bytes;
    let mut client = Steps::new(machine.guest_process(&format!("{wayland} exec /tmp/inlay-pattern steps")));
    let title = "pattern steps";
    let whole = u64::from(4 * WIDTH * HEIGHT);

    let mut bytes = pattern::picture(1, WIDTH, HEIGHT);
    shows(&machine.api(), title, &bytes);
    assert_eq!(uploaded(), whole, "the first commit is whole");
    client.step("pixel");
    pattern::paint(&mut bytes, WIDTH, [300, 200, 1, 1], 2);
    shows(&machine.api(), title, &bytes);
    assert_eq!(uploaded(), whole + 4, "one pixel");
    client.step("rects");
    for rect in [[0, 0, 17, 3], [200, 100, 33, 55]] {
        pattern::paint(&mut bytes, WIDTH, rect, 3);
    }
    shows(&machine.api(), title, &bytes);
    let damage = 4 * (17 * 3 + 33 * 55);
    assert_eq!(uploaded(), whole + 4 + damage, "two rectangles");
    client.step("subsurface");
    let above = pattern::picture(5, 57, 31);
    pattern::cover(&mut bytes, WIDTH, [101, 77], &above, 57);
    shows(&machine.api(), title, &bytes);
    client.step("full");
    let mut bytes = pattern::picture(4, WIDTH, HEIGHT);
    pattern::cover(&mut bytes, WIDTH, [101, 77], &above, 57);
    shows(&machine.api(), title, &bytes);
    let after = counters();
    assert_eq!(after.dropped, before.dropped);
    let passed = after.socket_bytes - before.socket_bytes;
    assert!(passed < 16_384, "no pixel went through a socket: {passed} bytes");
    let [before, after] = [before.agent, after.agent].map(|agent| agent.expect("the agent's counters"));
    let [passed, copied] =
        [after.socket_bytes - before.socket_bytes, after.copied_bytes - before.copied_bytes];
    assert!(passed < 16_384 && copied < 4 * whole, "{passed} bytes passed, {copied} copied");

    // The window process dies: another one shows the same.
    let first = machine.process("inlay windows");
    rustix::process::kill_process(first, Signal::KILL).unwrap();
    within(BOOT, "another window process", || (machine.process("inlay windows") != first).then_some(()));
    within(BOOT, "the window", || {
        api::windows(&machine.api()).ok()?.iter().any(|w| w.title == title).then_some(())
    });
    shows(&machine.api(), title, &bytes);

    // The agent dies: its service comes back, the windows close and the user is told.
    // The command's own stream goes with it.
    let _ = machine.output(&["exec", &machine.name, "--", "pkill", "-KILL", "-f", "agent/inlay-agent"]);
    within(BOOT, "the windows' end", || api::windows(&machine.api()).ok()?.is_empty().then_some(()));
    within(BOOT, "the agent's return", || {
        let out = machine.output(&["exec", &machine.name, "--", "echo", "back"]);
        (out.stdout == b"back\n").then_some(())
    });
    let log = std::fs::read_to_string(machine.data().join("windows.log")).unwrap();
    assert!(log.contains("windows were closed"), "{log}");
    drop(client);
}

/// The machine stops cleanly, and what was written last is on its disk.
pub fn stops(machine: &Machine) {
    machine.guest("echo kept > kept && sync");
    machine.stop();
    assert_eq!(machine.listed()["state"], "stopped");
    machine.disks_were_left_in_order();
    let home = machine.data().join("home.raw");
    let (status, text) = run("debugfs", &["-R".as_ref(), "cat /user/kept".as_ref(), &home]);
    assert!(status == Some(0) && text.contains("kept\n"), "{text}");
}
