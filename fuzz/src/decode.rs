//! What the decoder targets run: arbitrary bytes as the stream of a channel. An input's first byte chooses the message
//! family where a target has several.
//!
//! What is accepted must be sendable, and come back the same; how the stream was cut must not matter.

use std::fmt::Debug;

use inlay_protocol::control::{Command, Report};
use inlay_protocol::copying::Item;
use inlay_protocol::display::{Commit, Event, Request};
use inlay_protocol::framing::{self, Decoder, Message};
use inlay_protocol::geometry::Rect;
use inlay_protocol::handshake::{Capabilities, Hello, Welcome};
use inlay_protocol::limits;
use inlay_protocol::memory::Notice;
use inlay_protocol::stream::{Chunk, Input, Output};

/// Requests of the agent.
pub fn display_requests(data: &[u8]) {
    for request in messages::<Request>(data) {
        if let Request::Transaction(commits) = &request {
            commits.iter().for_each(commit);
        }
    }
}

/// Events of the window process.
pub fn display_events(data: &[u8]) {
    messages::<Event>(data);
}

/// Commands of the host and reports of the agent.
pub fn control(data: &[u8]) {
    match data.split_first() {
        Some((family, bytes)) if family % 2 == 0 => drop(messages::<Command>(bytes)),
        Some((_, bytes)) => drop(messages::<Report>(bytes)),
        None => {}
    }
}

/// Streams of programs and of what is pasted, the memory channel, handshakes.
pub fn streams(data: &[u8]) {
    let Some((family, bytes)) = data.split_first() else { return };
    match family % 6 {
        0 => drop(messages::<Input>(bytes)),
        1 => drop(messages::<Output>(bytes)),
        2 => drop(messages::<Notice>(bytes)),
        3 => drop(messages::<Chunk>(bytes)),
        4 => drop(messages::<Item>(bytes)),
        _ => handshake(bytes),
    }
}

/// Decodes a stream in pieces and the same bytes as the body of one message.
fn messages<M: Message + PartialEq + Debug>(bytes: &[u8]) -> Vec<M> {
    let whole = decode_in_pieces::<M>(bytes, bytes.len().max(1));
    assert_eq!(decode_in_pieces::<M>(bytes, 7), whole, "how the stream is cut matters");
    // The body alone, so that the fuzzer need not find the length first.
    let mut all = whole.0;
    all.extend(framing::decode::<M>(bytes));
    for message in &all {
        let again = framing::encode(message).expect("an accepted message can be sent");
        let again = framing::decode::<M>(&again[framing::HEADER..]).expect("and is accepted again");
        assert_eq!(again, *message, "and is the same");
    }
    all
}

fn decode_in_pieces<M: Message>(bytes: &[u8], piece: usize) -> (Vec<M>, bool) {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_message::<M>() {
                Ok(Some(message)) => all.push(message),
                Ok(None) => break,
                Err(_) => return (all, false),
            }
        }
    }
    (all, true)
}

/// What every user of a commit relies on.
fn commit(commit: &Commit) {
    if let Some(content) = &commit.content {
        assert!(content.end().is_some_and(|end| end <= limits::BUFFER_BYTES));
        let whole = Rect::of_size(content.size);
        for rect in &commit.damage {
            let part = rect.intersection(whole);
            assert!(part.is_none_or(|part| whole.contains(part) && rect.contains(part)));
            assert!(rect.is_empty() || rect.union(whole).contains(whole));
        }
    }
    let listed = commit.children.iter().filter_map(|child| child.surface());
    assert!(listed.clone().all(|id| id != commit.surface) && listed.count() <= limits::CHILDREN);
}

fn handshake(bytes: &[u8]) {
    if let Some(Ok(hello)) = bytes.first_chunk().map(Hello::decode) {
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        let welcome = Welcome::answer(&hello, Capabilities::MEMFD);
        assert_eq!(Welcome::decode(&welcome.encode()).is_ok(), welcome.refusal.is_none());
    }
    if let Some(Ok(welcome)) = bytes.first_chunk().map(Welcome::decode) {
        assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    }
}
