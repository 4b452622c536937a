//! QMP, as far as it is needed: lines of JSON are split, bounded and understood.

use serde_json::{Value, json};

/// QEMU's answers to the commands sent here are short; one that is not is dropped.
pub const MAX_LINE: usize = 256 << 10;

/// What QEMU says.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// It is there.
    Greeting,
    /// The answer to the command of this id.
    Answer(u64, Result<(), String>),
    /// The machine is about to end; why, in QEMU's words.
    Shutdown(String),
    /// The guest restarts.
    Reset,
    /// Anything else.
    Other,
}

/// A command as it is sent, with its arguments (an object; `null` for none).
pub fn command(name: &str, arguments: &Value, id: u64) -> String {
    let command = match arguments {
        Value::Null => json!({"execute": name, "id": id}),
        arguments => json!({"execute": name, "arguments": arguments, "id": id}),
    };
    format!("{command}\n")
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
    match value.get("event").and_then(Value::as_str) {
        Some("SHUTDOWN") => {
            let reason = value.pointer("/data/reason").and_then(Value::as_str).unwrap_or("unknown");
            Message::Shutdown(reason.to_owned())
        }
        Some("RESET") => Message::Reset,
        _ => Message::Other,
    }
}
