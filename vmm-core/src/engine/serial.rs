//! The guest's serial port: to a file of bounded size, and watched for a kernel panic.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::lines::Lines;

/// A guest may print for ever: beyond this the log starts anew, and one old log is kept.
const MAX_LOG: u64 = 4 << 20;
const MAX_LINE: usize = 400;

/// A serial port's log.
#[derive(Debug)]
pub struct SerialLog {
    path: PathBuf,
    file: File,
    size: u64,
    lines: Lines,
    panic: Option<String>,
}

impl SerialLog {
    /// Starts an empty log.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self { path: path.to_owned(), file, size: 0, lines: Lines::new(MAX_LINE), panic: None })
    }

    /// Takes what the guest printed. A full disk loses output, never the machine.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.size >= MAX_LOG {
            self.turn();
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.size = self.size.saturating_add(bytes.len() as u64),
            Err(error) => tracing::debug!(%error, "serial output is lost"),
        }
        let panic = &mut self.panic;
        self.lines.push(bytes, |line| {
            if let Some(at) = find(line, b"Kernel panic - not syncing: ") {
                *panic = Some(printable(line.get(at..).unwrap_or_default()));
            }
        });
    }

    /// The kernel's last words, if it panicked.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    fn turn(&mut self) {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        self.size = 0;
        match std::fs::rename(&self.path, &old).and_then(|()| open(&self.path)) {
            Ok(file) => self.file = file,
            Err(error) => tracing::debug!(%error, "cannot turn the serial log over"),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The place behind `what`.
fn find(line: &[u8], what: &[u8]) -> Option<usize> {
    line.windows(what.len()).position(|w| w == what).map(|at| at + what.len())
}

/// Words of a guest or of QEMU as one line that is safe to print.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
