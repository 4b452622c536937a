//! Bytes as they come, as lines.

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
