//! In level 1: runs what comes over the virtio port, one command at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Order;
use super::frames::{self, Kind};

enum Heard {
    Frame(Kind, Vec<u8>),
    Output(Kind, Vec<u8>),
    End,
    Gone,
}

/// Serves until level 1 ends. Called as its first process.
///
/// # Errors
/// There is no port.
pub fn serve() -> Result<()> {
    let port = port()?;
    let (send, heard) = channel();
    let mut reader = port.try_clone()?;
    let frames = send.clone();
    std::thread::spawn(move || {
        while let Ok((kind, bytes)) = frames::read(&mut reader) {
            if frames.send(Heard::Frame(kind, bytes)).is_err() {
                return;
            }
        }
        let _ = frames.send(Heard::Gone);
    });
    let mut out = port;
    frames::write(&mut out, Kind::Ready, &[])?;
    loop {
        match heard.recv()? {
            Heard::Frame(Kind::Order, bytes) => {
                let (kind, bytes) = match execute(&bytes, &send, &heard, &mut out) {
                    Ok(status) => (Kind::Exit, vec![status]),
                    Err(error) => (Kind::Failed, format!("{error:#}").into_bytes()),
                };
                frames::write(&mut out, kind, &bytes)?;
            }
            Heard::Gone => break,
            _ => {}
        }
    }
    // The server is gone.
    std::fs::write("/proc/sysrq-trigger", "o").context("cannot switch off")
}

fn port() -> Result<File> {
    for _ in 0..100 {
        for entry in std::fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == "run" {
                let path = std::path::Path::new("/dev").join(entry.file_name());
                if let Ok(file) = OpenOptions::new().read(true).write(true).open(path) {
                    return Ok(file);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("no virtio port")
}

fn execute(
    order: &[u8],
    send: &Sender<Heard>,
    heard: &std::sync::mpsc::Receiver<Heard>,
    out: &mut File,
) -> Result<u8> {
    let order: Order = serde_json::from_slice(order)?;
    let (program, arguments) = order.words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&order.environment).current_dir(&order.folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let group = Pid::from_raw(child.id().cast_signed()).context("no process id")?;
    let mut pipes = 0;
    if let Some(pipe) = child.stdout.take() {
        pump(pipe, Kind::Out, send.clone());
        pipes += 1;
    }
    if let Some(pipe) = child.stderr.take() {
        pump(pipe, Kind::Err, send.clone());
        pipes += 1;
    }
    let mut status = None;
    while pipes > 0 {
        match heard.recv_timeout(Duration::from_millis(200)) {
            Ok(Heard::Output(kind, bytes)) => frames::write(out, kind, &bytes)?,
            Ok(Heard::End) => pipes -= 1,
            Ok(Heard::Frame(Kind::Kill, _) | Heard::Gone) => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Ok(Heard::Frame(..)) => {}
            Err(_) => {
                // What it left behind may hold the pipes: its own end counts.
                status = status.or(child.try_wait()?);
                if status.is_some() {
                    break;
                }
            }
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait()?,
    };
    out.flush()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code & 0xff).unwrap_or(255))
}

fn pump(mut pipe: impl Read + Send + 'static, kind: Kind, send: Sender<Heard>) {
    std::thread::spawn(move || {
        let mut bytes = vec![0; 0x1_0000];
        while let Ok(count) = pipe.read(&mut bytes) {
            let Some(read) = bytes.get(..count).filter(|read| !read.is_empty()) else { break };
            if send.send(Heard::Output(kind, read.to_vec())).is_err() {
                return;
            }
        }
        let _ = send.send(Heard::End);
    });
}
