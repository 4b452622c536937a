//! The control session: launch, exec, signals, ends.

use std::time::Duration;

use inlay_protocol::connection::Connection;
use inlay_protocol::control::{Command, Exit, LaunchError, Program, Report, TerminalSize};
use inlay_protocol::stream::{Input, Output};

use crate::host::{Host, LONG};

fn program(argv: &[&str]) -> Program {
    Program { argv: argv.iter().map(ToString::to_string).collect(), ..Program::default() }
}

#[track_caller]
fn failure(host: &mut Host, id: u64, program: Program) -> LaunchError {
    host.command(&Command::Launch { id, program });
    let mut found = None;
    host.until("a failed launch", |host| {
        found = host.reports.iter().find_map(|r| match r {
            Report::LaunchFailed { id: of, error } if *of == id => Some(error.clone()),
            _ => None,
        });
        found.is_some()
    });
    found.unwrap()
}

#[track_caller]
fn exit(host: &mut Host, id: u64) -> Exit {
    let mut found = None;
    host.until("an exit", |host| {
        found = host.reports.iter().find_map(|r| match r {
            Report::Exited { id: of, exit } if *of == id => Some(*exit),
            _ => None,
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn programs_start_and_their_ends_are_told() {
    let mut host = Host::start();
    let Some(Report::Ready { system }) = host.reports.first() else { panic!("not ready") };
    assert!(!system.is_empty());
    host.launch(1, &["sh", "-c", "exit 41"]);
    assert_eq!(exit(&mut host, 1), Exit::Code(41));
    assert!(host.reports.iter().any(|r| matches!(r, Report::Launched { id: 1, pid } if *pid > 1)));
    host.launch(2, &["sh", "-c", "kill -9 $$"]);
    assert_eq!(exit(&mut host, 2), Exit::Signal(9));
    host.launch(3, &["sleep", "1000"]);
    host.until("it runs", |host| host.reports.iter().any(|r| matches!(r, Report::Launched { id: 3, .. })));
    host.command(&Command::Signal { id: 3, signal: 15 });
    assert_eq!(exit(&mut host, 3), Exit::Signal(15));
    host.command(&Command::Signal { id: 3, signal: 15 });
    host.command(&Command::Ping(99));
    host.until("a pong", |host| host.reports.contains(&Report::Pong(99)));
}

#[test]
fn an_app_finds_its_session_and_nothing_of_the_agent() {
    let mut host = Host::start();
    let out = host.dir.path().join("out");
    let script = format!(
        "{{ echo $WAYLAND_DISPLAY; echo $XDG_SESSION_TYPE; echo $XAUTHORITY$DISPLAY; echo $A; pwd; ls /proc/self/fd | wc -l; \
         grep SigBlk /proc/self/status; [ $(ps -o sid= -p $$) = $$ ] && echo leads; }} > {}",
        out.display()
    );
    let mut program = program(&["sh", "-c", &script]);
    program.env = vec![("A".into(), "b=c".into())];
    program.directory = Some("/usr".into());
    host.command(&Command::Launch { id: 1, program });
    assert_eq!(exit(&mut host, 1), Exit::Code(0));
    let text = std::fs::read_to_string(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Standard input, output and error, and the directory that ls reads.
    let [authority, number] = lines[2].split(':').collect::<Vec<_>>().try_into().unwrap();
    let own = host.dir.path().join(format!("inlay-xauthority-{number}"));
    assert_eq!(authority, own.display().to_string(), "the agent's own X display");
    assert_eq!([&lines[..2], &lines[3..6]].concat(), ["inlay-0", "wayland", "b=c", "/usr", "4"]);
    assert_eq!((lines[6], lines[7]), ("SigBlk:\t0000000000000000", "leads"));
}

#[test]
fn why_a_program_was_not_started_is_exact() {
    let mut host = Host::start();
    let missing = failure(&mut host, 1, program(&["no-such-program"]));
    assert_eq!(missing, LaunchError::NotFound("no-such-program".into()));
    let plain = failure(&mut host, 2, program(&["/etc/passwd"]));
    assert_eq!(plain, LaunchError::NotExecutable("/etc/passwd".into()));
    let directory = Some("/no/such".to_string());
    let nowhere = failure(&mut host, 3, Program { directory, ..program(&["sh"]) });
    assert_eq!(nowhere, LaunchError::Directory("/no/such".into()));
    let script = host.dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let script = script.display().to_string();
    let other = failure(&mut host, 4, program(&[&script]));
    assert!(matches!(&other, LaunchError::Other(text) if text.contains("interpreter")), "{other}");
}

fn exec(host: &mut Host, id: u64, argv: &[&str], terminal: Option<TerminalSize>) -> Connection {
    let stream = [u8::try_from(id).unwrap(); 16];
    host.command(&Command::Exec { id, program: program(argv), stream, terminal });
    let (connection, greeted) = host.accept_stream();
    assert_eq!(greeted, stream);
    connection
}

/// All output until the exit; (standard output, standard error, exit).
fn collect(stream: &mut Connection) -> (Vec<u8>, Vec<u8>, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match stream.wait_message::<Output>(Some(LONG)).unwrap().unwrap().0 {
            Output::Stdout(bytes) => out.extend(bytes),
            Output::Stderr(bytes) => err.extend(bytes),
            Output::Exited(exit) => return (out, err, exit),
        }
    }
}

#[test]
fn exec_carries_input_output_and_exit() {
    let mut host = Host::start();
    let mut stream = exec(&mut host, 1, &["sh", "-c", "cat; echo wrong >&2; exit 3"], None);
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for chunk in input.chunks(60_000) {
        stream.queue(&Input::Stdin(chunk.to_vec())).unwrap();
    }
    stream.queue(&Input::StdinEnd).unwrap();
    let (out, err, status) = collect(&mut stream);
    assert!(out == input);
    assert_eq!((err.as_slice(), status), (&b"wrong\n"[..], Exit::Code(3)));
    assert_eq!(exit(&mut host, 1), Exit::Code(3));
    let mut stream = exec(&mut host, 2, &["sh", "-c", "kill -15 $$"], None);
    assert_eq!(collect(&mut stream).2, Exit::Signal(15));
}

#[test]
fn exec_with_a_terminal_has_its_size_and_signals() {
    let mut host = Host::start();
    let size = TerminalSize { columns: 101, rows: 37 };
    let script = "stty size; read x; stty size; echo got $x; read y";
    let mut stream = exec(&mut host, 1, &["sh", "-c", script], Some(size));
    let mut seen = String::new();
    let mut until = |stream: &mut Connection, text: &str| {
        while !seen.contains(text) {
            let output = stream.wait_message::<Output>(Some(LONG)).unwrap();
            match output.unwrap_or_else(|| panic!("no {text:?} after {seen:?}")).0 {
                Output::Stdout(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
    };
    until(&mut stream, "37 101");
    stream.queue(&Input::Terminal(TerminalSize { columns: 55, rows: 22 })).unwrap();
    stream.queue(&Input::Stdin(b"word\n".to_vec())).unwrap();
    until(&mut stream, "22 55");
    until(&mut stream, "got word");
    stream.queue(&Input::Stdin(vec![3])).unwrap();
    assert_eq!(collect(&mut stream).2, Exit::Signal(2));
}

#[test]
fn a_lost_stream_hangs_the_command_up() {
    let mut host = Host::start();
    let stream = exec(&mut host, 1, &["sleep", "1000"], None);
    host.until("it runs", |host| host.reports.iter().any(|r| matches!(r, Report::Launched { id: 1, .. })));
    drop(stream);
    assert_eq!(exit(&mut host, 1), Exit::Signal(1));
}

#[test]
fn output_waits_in_its_pipe_while_nobody_reads() {
    let mut host = Host::start();
    let before = host.count().resident_bytes;
    let mut stream = exec(&mut host, 1, &["head", "-c", "50000000", "/dev/zero"], None);
    host.serve_for(Duration::from_millis(500));
    let grown = host.count().resident_bytes.saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
    let (out, _, status) = collect(&mut stream);
    assert_eq!((out.len(), status), (50_000_000, Exit::Code(0)));
}

#[test]
fn nothing_outlives_the_host() {
    let mut host = Host::start();
    let pids = host.dir.path().join("pids");
    // One that ignores hang-ups, one that left its session, and an orphan.
    let script = format!(
        "trap '' HUP TERM; echo $$ >> {0}; setsid sh -c 'trap \"\" HUP TERM; echo $$ >> {0}; sleep 1000' & \
         (sh -c 'echo $$ >> {0}; exec sleep 1000' &) ; sleep 1000",
        pids.display()
    );
    host.launch(1, &["sh", "-c", &script]);
    let read = || std::fs::read_to_string(&pids).unwrap_or_default();
    host.until("all three run", |_| read().lines().count() == 3);
    let all: Vec<String> = read().lines().map(String::from).collect();
    assert!(all.iter().all(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert!(host.end().success());
    for pid in all {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}

#[test]
fn power_off_ends_a_local_agent() {
    let mut host = Host::start();
    host.command(&Command::PowerOff);
    host.until("it is told", |host| host.reports.contains(&Report::PoweringOff));
    host.until("it ends", |host| host.agent.try_wait().unwrap().is_some_and(|status| status.success()));
}

#[test]
fn on_the_hosts_own_kernel_the_clock_is_left_alone() {
    let mut host = Host::start();
    let year_2100 = 4_102_444_800_000_000_000;
    host.command(&Command::CheckClock { now: year_2100 });
    host.command(&Command::Time { question: 1, now: year_2100 });
    host.command(&Command::Ping(1));
    host.until("a pong", |host| host.reports.contains(&Report::Pong(1)));
    assert!(!host.reports.iter().any(|report| matches!(report, Report::AskTime(_))));
    assert!(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() < Duration::from_nanos(year_2100));
}
