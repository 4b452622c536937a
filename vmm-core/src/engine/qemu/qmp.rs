//! QMP, as far as it is needed: lines of JSON are split, bounded and understood.

use serde_json::{Value, json};

/// QEMU's answers to the commands sent here are short; one that is not is dropped.
const MAX_LINE: usize = 256 << 10;

/// What QEMU says.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// It is there.
    Greeting,
    /// The answer to the command of this id.
    Answer(u64, Result<(), String>),
    /// The machine is about to end; why, in QEMU's words.
    Shutdown(String),
    /// Anything else.
    Other,
}

/// A command as it is sent.
pub fn command(name: &str, id: u64) -> String {
    format!("{}\n", json!({"execute": name, "id": id}))
}

/// Understands one line.
pub fn parse(line: &[u8]) -> Message {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return Message::Other };
    if value.get("QMP").is_some() {
        return Message::Greeting;
    }
    if let Some(id) = value.get("id").and_then(Value::as_u64) {
        let error = value
            .get("error")
            .map(|e| e.get("desc").and_then(Value::as_str).unwrap_or("without saying why").to_owned());
        return Message::Answer(id, error.map_or(Ok(()), Err));
    }
    if value.get("event").and_then(Value::as_str) == Some("SHUTDOWN") {
        let reason = value.pointer("/data/reason").and_then(Value::as_str).unwrap_or("unknown");
        return Message::Shutdown(reason.to_owned());
    }
    Message::Other
}

/// Collects bytes into lines, each of bounded length; what is longer is cut.
#[derive(Debug)]
pub struct Lines {
    partial: Vec<u8>,
    max: usize,
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max }
    }

    /// Lines of QMP.
    pub fn qmp() -> Self {
        Self::new(MAX_LINE)
    }

    /// Takes bytes and hands out each line that they complete, without its end.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, whole) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = self.max.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            if whole {
                line(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
                self.partial.clear();
            }
        }
    }

    /// The line that has no end yet.
    pub fn rest(&self) -> &[u8] {
        &self.partial
    }
}
