//! What the device says of itself (virtio 1.2, section 5.8.4): the driver writes what it asks for, and reads the answer.

use serde::{Deserialize, Serialize};

use super::{AXIS_MAX, Kind};

/// Where the answer begins, and how long it may be.
const ANSWER: usize = 8;
const ROOM: usize = 128;

/// `enum virtio_input_config_select`.
mod select {
    pub const ID_NAME: u8 = 1;
    pub const ID_SERIAL: u8 = 2;
    pub const ID_DEVIDS: u8 = 3;
    pub const PROP_BITS: u8 = 0x10;
    pub const EV_BITS: u8 = 0x11;
    pub const ABS_INFO: u8 = 0x12;
}

/// evdev's event types.
mod ev {
    pub const KEY: u8 = 1;
    pub const REL: u8 = 2;
    pub const ABS: u8 = 3;
    pub const LED: u8 = 0x11;
}

/// evdev's codes.
const KEYS: std::ops::RangeInclusive<u16> = 1..=248;
/// `BTN_LEFT`, `BTN_RIGHT`, `BTN_MIDDLE`, `BTN_SIDE`, `BTN_EXTRA`.
const BUTTONS: std::ops::RangeInclusive<u16> = 0x110..=0x114;
/// `REL_HWHEEL`, `REL_WHEEL`.
const WHEELS: [u16; 2] = [6, 8];
/// `ABS_X`, `ABS_Y`.
const AXES: [u16; 2] = [0, 1];
/// `LED_NUML`, `LED_CAPSL`, `LED_SCROLLL`.
const LIGHTS: [u16; 3] = [0, 1, 2];
/// `INPUT_PROP_POINTER`: it moves a pointer on the screen.
const PROP_POINTER: u16 = 0;
/// `BUS_VIRTUAL`.
const BUS: u16 = 6;
const VENDOR: u16 = 0x1af4;

/// What the driver asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select {
    select: u8,
    subsel: u8,
}

impl Select {
    /// Takes a write of the driver; only these two bytes are its own.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, byte) in data.iter().enumerate() {
            match offset.checked_add(at) {
                Some(0) => self.select = *byte,
                Some(1) => self.subsel = *byte,
                _ => {}
            }
        }
    }

    /// The whole configuration: the question, and the answer's length and bytes.
    pub fn answer(self, kind: Kind) -> Vec<u8> {
        let mut answer = self.bytes(kind);
        answer.truncate(ROOM);
        let len = u8::try_from(answer.len()).unwrap_or(0);
        answer.resize(ROOM, 0);
        let mut config = vec![self.select, self.subsel, len];
        config.resize(ANSWER, 0);
        config.extend(answer);
        config
    }

    fn bytes(self, kind: Kind) -> Vec<u8> {
        match (self.select, self.subsel, kind) {
            (select::ID_NAME, 0, Kind::Keyboard) => b"Inlay Keyboard".to_vec(),
            (select::ID_NAME, 0, Kind::Pointer) => b"Inlay Pointer".to_vec(),
            (select::ID_SERIAL, 0, Kind::Keyboard) => b"inlay-keyboard".to_vec(),
            (select::ID_SERIAL, 0, Kind::Pointer) => b"inlay-pointer".to_vec(),
            (select::ID_DEVIDS, 0, _) => {
                let product = match kind {
                    Kind::Keyboard => 1,
                    Kind::Pointer => 2_u16,
                };
                [BUS, VENDOR, product, 1].iter().flat_map(|id| id.to_le_bytes()).collect()
            }
            (select::PROP_BITS, 0, Kind::Pointer) => bits([PROP_POINTER]),
            (select::EV_BITS, ev::KEY, Kind::Keyboard) => bits(KEYS),
            (select::EV_BITS, ev::LED, Kind::Keyboard) => bits(LIGHTS),
            (select::EV_BITS, ev::KEY, Kind::Pointer) => bits(BUTTONS),
            (select::EV_BITS, ev::REL, Kind::Pointer) => bits(WHEELS),
            (select::EV_BITS, ev::ABS, Kind::Pointer) => bits(AXES),
            // `struct virtio_input_absinfo`: least, greatest, fuzz, flat, resolution.
            (select::ABS_INFO, axis, Kind::Pointer) if AXES.contains(&axis.into()) => {
                [0, AXIS_MAX, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A bitmap with these bits, as short as can be.
fn bits(set: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for bit in set {
        let at = usize::from(bit / 8);
        if bytes.len() <= at {
            bytes.resize(at + 1, 0);
        }
        bytes[at] |= 1 << (bit % 8);
    }
    bytes
}
