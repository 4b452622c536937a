//! Files of the guest that are copied out of it ([`crate::files::copies`]): the streams on which they come, and what the user sees of that.

use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use inlay_exchange::transfer::Transfer;
use inlay_protocol::display::Event;
use inlay_protocol::limits;

use super::{Exchange, Moving};
use crate::files::copies::{Copies, Wish};
use crate::windows::dialogs::Dialogs;
use crate::windows::gate::Pass;

/// So often a copy's window shows how far it is.
const SHOW: Duration = Duration::from_millis(150);

impl Exchange {
    pub(super) fn copies(&self) -> Option<&Copies> {
        self.lists.as_ref().map(|(_, copies)| copies)
    }

    /// Does what lists that are on their way need; what the agent is to know.
    pub(super) fn begin_copies(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for wish in self.copies().map(Copies::wishes).unwrap_or_default() {
            match wish {
                Wish::Say(text) => self.said.push(text),
                Wish::Copy { number, source, paths, pipe } => {
                    // Without a stream the pipe ends here, and the copy with it.
                    let may = self.gate.pass(source.resource, source.of) == Pass::Yes;
                    let (transfer, of, resource) = (Transfer::pour(pipe), source.of, source.resource);
                    let moving = Moving { transfer, resource, of, files: Some(number) };
                    if let Some(stream) = may.then(|| self.expect(moving)).flatten() {
                        events.extend(named(stream, paths));
                    }
                }
            }
        }
        events
    }

    /// Shows what takes its time, tells what went wrong, and ends what the user does not want.
    pub fn show_copies(&mut self, dialogs: &mut Dialogs) {
        for text in self.said.drain(..) {
            dialogs.say(&text);
        }
        let Some((_, copies)) = &self.lists else { return };
        for number in dialogs.copying(&copies.shown()) {
            copies.cancel(number);
            self.tickets.retain(|ticket| ticket.moving.files != Some(number));
            self.streams.retain(|(_, moving)| moving.files != Some(number));
        }
    }

    /// When a window of a copy has something new to show.
    pub(super) fn copies_due(&self) -> Option<Instant> {
        self.copies().filter(|copies| copies.runs()).map(|_| Instant::now() + SHOW)
    }
}

/// Paths for a stream, in as many messages as they need.
fn named(stream: [u8; 16], paths: Vec<PathBuf>) -> Vec<Event> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for path in paths {
        let path = path.into_os_string().into_vec();
        bytes += path.len();
        match parts.last_mut() {
            Some(part) if part.len() < limits::COPY_PATHS && bytes <= limits::COPY_PATHS_BYTES => {
                part.push(path)
            }
            _ => {
                bytes = path.len();
                parts.push(vec![path]);
            }
        }
    }
    let last = parts.len() - 1;
    let event = |(at, paths)| Event::CopyOut { stream, paths, last: at == last };
    parts.into_iter().enumerate().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::framing::Message as _;

    #[test]
    fn many_paths_are_named_in_messages_that_each_may_be_sent() {
        let long = format!("/{}", "x".repeat(limits::PATH - 2));
        for (count, path, messages) in [(1, "/a", 1), (2500, "/a", 3), (100, long.as_str(), 2)] {
            let events = named([7; 16], vec![PathBuf::from(path); count]);
            assert_eq!(events.len(), messages);
            let mut all = 0;
            for (at, event) in events.iter().enumerate() {
                event.check().unwrap();
                let Event::CopyOut { paths, last, .. } = event else { panic!("{event:?}") };
                assert_eq!(*last, at == messages - 1);
                all += paths.len();
            }
            assert_eq!(all, count);
        }
    }
}
