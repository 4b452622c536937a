//! Feeds arbitrary bytes to the decoders of every channel: first byte chooses the channel, the rest is its stream.
#![no_main]

use inlay_protocol::control::{Command, Report};
use inlay_protocol::display::{Event, Request};
use inlay_protocol::framing::{self, Decoder, Message};
use inlay_protocol::handshake::{Hello, Welcome};
use inlay_protocol::memory::Notice;
use inlay_protocol::stream::{Input, Output};
use libfuzzer_sys::fuzz_target;

fn run<M: Message>(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(7) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_message::<M>() {
            let again = framing::encode(&message).expect("an accepted message can be sent");
            framing::decode::<M>(&again[framing::HEADER..]).expect("and accepted again");
        }
    }
    // The body alone, so that the fuzzer need not find the length first.
    let _ = framing::decode::<M>(bytes);
}

fuzz_target!(|data: &[u8]| {
    let Some((channel, bytes)) = data.split_first() else { return };
    match channel % 8 {
        0 => run::<Request>(bytes),
        1 => run::<Event>(bytes),
        2 => run::<Command>(bytes),
        3 => run::<Report>(bytes),
        4 => run::<Input>(bytes),
        5 => run::<Output>(bytes),
        6 => run::<Notice>(bytes),
        _ => {
            if let Some(hello) = bytes.first_chunk::<{ Hello::SIZE }>() {
                let _ = Hello::decode(hello);
            }
            if let Some(welcome) = bytes.first_chunk::<{ Welcome::SIZE }>() {
                let _ = Welcome::decode(welcome);
            }
        }
    }
});
