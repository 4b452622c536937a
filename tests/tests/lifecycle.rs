//! A machine that is paused, and goes on: its clock is the host's, and what ran in it lost nothing.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::print_stdout, reason = "figures, for whoever looks at them")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::machine::{BOOT, LOCALE, Machine, run};
use common::{Process, eventually, program, within};
use inlay::windows::api;

/// Seconds, of a time or between two.
type Seconds = f64;

/// The clock of a machine process: the host's, and some more.
struct HostClock {
    file: tempfile::NamedTempFile,
    shift: Seconds,
}

impl HostClock {
    fn new() -> Self {
        let clock = Self { file: tempfile::NamedTempFile::new().unwrap(), shift: 0.0 };
        clock.write();
        clock
    }

    fn write(&self) {
        #[expect(clippy::cast_possible_truncation, reason = "an hour in nanoseconds")]
        let nanos = (self.shift * 1e9) as i64;
        self.file.as_file().write_all_at(&nanos.to_ne_bytes(), 0).unwrap();
    }

    fn advance(&mut self, by: Seconds) {
        self.shift += by;
        self.write();
    }

    fn now(&self) -> Seconds {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + self.shift
    }

    /// Starts a machine whose process has this clock.
    fn start(&self, machine: &Machine) {
        let timeout = BOOT.as_secs().to_string();
        let mut command = machine.command(&["start", &machine.name, "--headless", "--timeout", &timeout]);
        command.args(["--engine", "qemu"]);
        command.env("LD_PRELOAD", program("libinlay_shifted_clock.so"));
        command.env("INLAY_SHIFTED_CLOCK", self.file.path());
        command
            .env("TZ", "Asia/Kathmandu")
            .env("LANG", LOCALE)
            .env_remove("LC_ALL")
            .env_remove("LC_MESSAGES");
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stderr), machine.logs());
    }
}

/// A shell of the guest that tells its time for each line; it runs all the while.
struct GuestClock {
    _shell: Process,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How far the guest's clock is from the host's, give or take the error.
#[derive(Debug, Clone, Copy)]
struct Off {
    by: Seconds,
    error: Seconds,
}

impl GuestClock {
    fn new(machine: &Machine) -> Self {
        // Numbers with a point, in whatever language.
        let script = "LC_ALL=C; while read line; do echo $EPOCHREALTIME; done";
        let mut command = machine.command(&["exec", &machine.name, "--", "bash", "-c", script]);
        let mut shell = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let ask = shell.0.stdin.take().unwrap();
        let answers = BufReader::new(shell.0.stdout.take().unwrap());
        Self { _shell: shell, ask, answers }
    }

    /// One look at it.
    fn look(&mut self, host: &HostClock) -> Off {
        let before = host.now();
        self.ask.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let after = host.now();
        let guest: Seconds = line.trim().parse().unwrap();
        Off { by: guest - f64::midpoint(before, after), error: (after - before) / 2.0 }
    }

    /// The best of many looks.
    fn best(&mut self, host: &HostClock) -> Off {
        let looks = (0..30).map(|_| self.look(host));
        looks.min_by(|a, b| a.error.total_cmp(&b.error)).unwrap()
    }

    #[track_caller]
    fn is_right(&mut self, host: &HostClock, when: &str) {
        let first = self.look(host);
        let best = self.best(host);
        println!("{when}: at once {first:?}, then {best:?}");
        assert!(first.by.abs() <= 0.1 + first.error, "{when}: {first:?}");
        assert!(best.by.abs() + best.error <= 0.1, "{when}: {best:?}");
    }
}

/// A conversation over TCP within the guest: each side answers each number with the next one. What was said last is in a file.
const CONVERSATION: &str = r#"
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:7070") or die "no listener: $!";
if (!fork) {
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:7070") or die "no connection: $!";
	print $socket "0\n";
	$socket->flush;
	while (my $number = <$socket>) { print $socket $number + 1, "\n"; $socket->flush; }
	exit 1;
}
my $socket = $listener->accept;
my $next = 0;
while (my $number = <$socket>) {
	die "$number in the place of $next" if $number != $next;
	open my $file, ">", "/tmp/said"; print $file $number; close $file;
	select undef, undef, undef, 0.05;
	$next = $number + 2;
	print $socket $number + 1, "\n";
	$socket->flush;
}
die "the conversation ended";
"#;

fn said(machine: &Machine) -> u64 {
    eventually("a number", || machine.guest("cat /tmp/said 2>/dev/null || true").trim().parse().ok())
}

/// One machine for all of it: a start is the dearest part.
#[test]
fn an_hours_pause_is_not_noticed_but_by_the_clock() {
    let mut host = HostClock::new();
    // Nothing but the agent can tell the guest that.
    host.advance(-500.0);
    let machine = Machine::create("pause", None);
    host.start(&machine);
    let mut guest = GuestClock::new(&machine);
    guest.is_right(&host, "after the start");

    // The time zone is the host's as well.
    within(BOOT, "the host's time zone", || (machine.guest("date +%z").trim() == "+0545").then_some(()));
    assert_eq!(
        machine.guest("cat /etc/timezone; readlink /etc/localtime").trim(),
        "Asia/Kathmandu\n/usr/share/zoneinfo/Asia/Kathmandu"
    );
    zones_that_are_none(&machine);
    // And its language: that of formats, and of texts.
    assert_eq!(machine.guest("echo $LANG; date -d 2026-11-27 +%A").trim(), "de_DE.UTF-8\nFreitag");
    let texts = machine.guest("ls /usr/share/locale");
    let mut languages = texts.split_whitespace();
    assert!(languages.next() == Some("de") && languages.all(|name| name.starts_with("de_")), "{texts}");

    let talk = machine.guest_process("exec perl -e \"$(cat)\"");
    let mut talk = talk;
    talk.0.stdin.take().unwrap().write_all(CONVERSATION.as_bytes()).unwrap();
    let mut timer =
        machine.guest_process("read up x < /proc/uptime; sleep 20; read now x < /proc/uptime; echo $up $now");
    let before = said(&machine);
    machine.ok(&["pause", &machine.name]);
    assert_eq!(machine.listed()["state"], "paused");
    host.advance(3600.0);
    std::thread::sleep(Duration::from_secs(3));
    machine.ok(&["resume", &machine.name]);
    guest.is_right(&host, "after a pause of an hour");

    // It goes on when something is run in it, which finds the clock right.
    machine.ok(&["pause", &machine.name]);
    host.advance(86_400.0);
    let early = host.now();
    let date: Seconds = machine.guest("date +%s.%N").trim().parse().unwrap();
    let late = host.now();
    assert!(date >= early - 0.1 && date <= late + 0.1, "{date} is not between {early} and {late}");
    guest.is_right(&host, "after a pause that a command ended");

    assert!(talk.ended().is_none(), "the conversation ended: {}", machine.logs());
    within(BOOT, "what is said further", || (said(&machine) > before + 10).then_some(()));
    let mut line = String::new();
    BufReader::new(timer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let up: Vec<Seconds> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let slept = up[1] - up[0];
    assert!((19.9..30.0).contains(&slept), "20 s took {slept} s");

    copies(&machine);

    // The host's clock is set back: heard of within a minute, as a library does not wake who waits for that.
    host.advance(-7200.0);
    within(Duration::from_secs(90), "the clock that was set back", || {
        (guest.look(&host).by.abs() < 1.0).then_some(())
    });
    guest.is_right(&host, "after the host's clock was set back");
    drop(talk);
    machine.stop();
}

/// What the guest's user writes where the agent asks for a time zone changes nothing else.
fn zones_that_are_none(machine: &Machine) {
    for zone in ["../../../etc/shadow", "/etc/shadow", "Europe/../../../etc/shadow", "No/Such", "-f", ""] {
        machine.guest(&format!("/run/inlay/agent/zone '{zone}'"));
        within(BOOT, "the end of what was asked", || {
            machine.guest("[ -e /run/inlay/ask/zone ] || echo gone").starts_with("gone").then_some(())
        });
    }
    machine.guest("ln -s /etc/shadow /run/inlay/ask/zone");
    within(BOOT, "the end of the link", || {
        machine.guest("[ -L /run/inlay/ask/zone ] || echo gone").starts_with("gone").then_some(())
    });
    let files = "readlink /etc/localtime; ls /etc | grep -c inlay; sudo grep -c root /etc/shadow";
    assert_eq!(machine.guest(files), "/usr/share/zoneinfo/Asia/Kathmandu\n0\n1\n");
}

/// A file is copied out of the guest while the machine is paused, some times.
fn copies(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    machine.ok(&["share", "add", &machine.name, folder.path().to_str().unwrap(), "--name", "out"]);
    let sum = machine.guest("head -c 150000000 /dev/urandom > big; sha256sum < big");
    let mut copy = machine
        .guest_process("dd if=big of=/media/host/out/big bs=1M 2>/dev/null && sync /media/host/out/big");
    let file = folder.path().join("big");
    let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let mut pauses = 0;
    for part in [20_000_000, 60_000_000, 100_000_000] {
        within(BOOT, "a part of the copy", || (size() >= part || copy.ended().is_some()).then_some(()));
        machine.ok(&["pause", &machine.name]);
        // What was on its way to the host's file arrives.
        std::thread::sleep(Duration::from_millis(500));
        let (then, ended) = (size(), copy.ended().is_some());
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(size(), then, "it stands still");
        pauses += usize::from(!ended && then < 150_000_000);
        machine.ok(&["resume", &machine.name]);
    }
    assert!(pauses > 0, "the copy was done before the first pause");
    println!("{pauses} pauses while the file was copied");
    let status = within(BOOT, "the end of the copy", || copy.ended());
    assert!(status.success());
    let (_, here) = run("sha256sum", &[Path::new(&file)]);
    assert_eq!(here.split(' ').next(), sum.split(' ').next(), "another file");
    machine.guest("rm big");
    machine.ok(&["share", "remove", &machine.name, "out"]);
}

/// A machine that nobody uses is paused after its minutes, not before, and goes on when it is used; with its last window it is stopped.
#[test]
fn what_nobody_uses_is_paused_and_what_has_no_window_any_more_is_stopped() {
    let machine = Machine::create("idle", None);
    let config = Path::new(&std::env::var_os("XDG_CONFIG_HOME").expect("run by cargo xtask test"))
        .join(format!("inlay/machines/{}.toml", machine.name));
    let text = std::fs::read_to_string(&config).unwrap();
    let changed = text
        .replace("autopause = 10", "autopause = 1")
        .replace("last_window = \"keep\"", "last_window = \"stop\"");
    assert_ne!(changed, text);
    std::fs::write(&config, changed).unwrap();
    machine.start();
    let state = || machine.listed()["state"].as_str().unwrap().to_owned();

    // A command is work, however long it says nothing.
    machine.guest("sleep 75");
    assert_eq!(state(), "running");
    let idle = Instant::now();
    within(Duration::from_secs(120), "the pause", || (state() == "paused").then_some(()));
    let after = idle.elapsed();
    assert!(after >= Duration::from_secs(50), "paused after {after:?} already");
    assert_eq!(machine.guest("echo on").trim(), "on");
    assert_eq!(state(), "running");

    // A window is use, though nothing moves in it.
    machine.ok(&[
        "run",
        "--headless",
        &machine.name,
        "foot",
        "sh",
        "-c",
        "while [ ! -e end ]; do sleep 1; done",
    ]);
    let windows = || api::windows(&machine.api()).map_or(0, |windows| windows.len());
    within(BOOT, "the window", || (windows() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(75));
    assert_eq!((state().as_str(), windows()), ("running", 1));
    machine.guest("touch end");
    within(BOOT, "the machine's end", || (state() == "stopped").then_some(()));
    machine.disks_were_left_in_order();
}
