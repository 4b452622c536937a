//! The device with a driver in guest memory and a host that types and points.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::host::PENDING;
use super::{EVENT, Event, Input, Kind, STATUS};
use crate::virtio::testing::Driver;
use crate::virtio::{Device as _, RestoreError, Wake};

const KEY_A: u16 = 30;

struct Bench {
    driver: Driver,
    device: Input,
}

fn key(code: u16, value: i32) -> Event {
    Event { kind: 1, code, value }
}

impl Bench {
    fn new(kind: Kind) -> Self {
        Self { driver: Driver::new(2), device: Input::new(kind).unwrap() }
    }

    fn ask(&mut self, select: u8, subsel: u8) -> Vec<u8> {
        self.device.write_config(0, &[select]);
        self.device.write_config(1, &[subsel]);
        let config = self.device.config();
        assert_eq!(config.len(), 136);
        assert_eq!(config[..2], [select, subsel]);
        let (answer, rest) = config[8..].split_at(config[2].into());
        assert!(rest.iter().all(|byte| *byte == 0));
        answer.to_vec()
    }

    fn bits(&mut self, kind: u8) -> Vec<usize> {
        let bytes = self.ask(0x11, kind);
        assert_ne!(bytes.last(), Some(&0), "no longer than it need be");
        (0..8 * bytes.len()).filter(|bit| bytes[bit / 8] & 1 << (bit % 8) != 0).collect()
    }

    fn post(&mut self, count: usize) {
        for _ in 0..count {
            self.driver.submit(EVENT, &[], &[8]);
        }
    }

    /// Lets the device work for `wake`, and takes its events.
    fn events(&mut self, wake: Wake) -> Vec<Event> {
        let outcome = self.driver.drive(&mut self.device, wake).unwrap();
        let used = self.driver.used(EVENT);
        assert_eq!(outcome.notify.contains(EVENT), !used.is_empty());
        used.iter()
            .map(|used| {
                let bytes: [u8; 8] = used.data[..].try_into().unwrap();
                let [a, b, c, d, rest @ ..] = bytes;
                let half = |bytes| u16::from_le_bytes(bytes);
                Event { kind: half([a, b]), code: half([c, d]), value: i32::from_le_bytes(rest) }
            })
            .collect()
    }

    fn is_woken(&self) -> bool {
        let source = self.device.host_source().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&now)).unwrap() == 1
    }
}

#[test]
fn a_keyboard_says_what_it_is() {
    let mut b = Bench::new(Kind::Keyboard);
    assert_eq!(b.ask(1, 0), b"Inlay Keyboard");
    assert_eq!(b.ask(2, 0), b"inlay-keyboard");
    assert_eq!(b.ask(3, 0), [6, 0, 0xf4, 0x1a, 1, 0, 1, 0]);
    assert_eq!(b.bits(1), (1..=248).collect::<Vec<_>>());
    assert_eq!(b.bits(0x11), [0, 1, 2]);
    // No repeats (EV_REP), no axes, no wheels.
    for kind in [0, 2, 3, 4, 0x14, 0xff] {
        assert!(b.bits(kind).is_empty());
    }
    for (select, subsel) in [(0, 0), (1, 1), (0x10, 0), (0x12, 0), (0x13, 0), (0xff, 0xff)] {
        assert!(b.ask(select, subsel).is_empty());
    }
}

#[test]
fn a_pointer_says_what_it_is() {
    let mut b = Bench::new(Kind::Pointer);
    assert_eq!(b.ask(1, 0), b"Inlay Pointer");
    assert_eq!(b.ask(0x10, 0), [1]);
    assert_eq!(b.bits(1), [0x110, 0x111, 0x112, 0x113, 0x114]);
    assert_eq!(b.bits(2), [6, 8]);
    assert_eq!(b.bits(3), [0, 1]);
    assert!(b.bits(0x11).is_empty());
    let range = [[0; 4], 32767_u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    assert_eq!(b.ask(0x12, 0), range);
    assert_eq!(b.ask(0x12, 1), range);
    assert!(b.ask(0x12, 2).is_empty());
    // The answer is not the driver's to write, and a reset takes the question back.
    b.device.write_config(2, &[9; 64]);
    b.device.write_config(usize::MAX, &[9; 4]);
    assert_eq!(b.device.config()[..3], [0x12, 2, 0]);
    b.device.reset();
    assert_eq!(b.device.config(), [0; 136]);
}

#[test]
fn a_report_reaches_the_driver_in_order() {
    let mut b = Bench::new(Kind::Pointer);
    let handle = b.device.handle();
    b.post(8);
    assert!(b.events(Wake::Queue(EVENT)).is_empty());
    let place = [Event { kind: 3, code: 0, value: 5 }, Event { kind: 3, code: 1, value: -6 }, Event::SYN];
    let button = [key(0x110, 1)];
    assert!(!b.is_woken());
    assert!(std::thread::spawn(move || handle.send(&place) && handle.send(&button)).join().unwrap());
    assert!(b.is_woken());
    // What ends without a SYN gets one.
    let expected = [&place[..], &button, &[Event::SYN]].concat();
    assert_eq!(b.events(Wake::HostSource), expected);
    assert!(!b.is_woken());
    assert!(b.events(Wake::HostSource).is_empty());
}

#[test]
fn events_wait_for_buffers_and_whole_reports_are_dropped() {
    let mut b = Bench::new(Kind::Keyboard);
    let handle = b.device.handle();
    let mut expected = Vec::new();
    for i in 0..PENDING / 3 {
        let report = [key(KEY_A, 1), key(KEY_A + 1, i32::try_from(i).unwrap()), Event::SYN];
        assert!(handle.send(&report));
        expected.extend(report);
    }
    // One event has room, but no report of two; the next one fits.
    assert!(!handle.send(&[key(KEY_A, 0)]));
    assert!(!handle.send(&[key(1, 1), Event::SYN, Event::SYN, key(2, 1), Event::SYN]));
    expected.push(Event::SYN);
    assert_eq!(expected.len(), PENDING);
    let mut got = Vec::new();
    b.post(5);
    got.extend(b.events(Wake::HostSource));
    assert_eq!(got.len(), 5);
    while got.len() < PENDING {
        b.post(64);
        let more = b.events(Wake::Queue(EVENT));
        assert!(!more.is_empty());
        got.extend(more);
    }
    assert_eq!(got, expected);
    // There is room again.
    assert!(handle.send(&[key(KEY_A, 0)]));
}

#[test]
fn nothing_waits_for_a_driver_that_is_not_there() {
    let mut b = Bench::new(Kind::Keyboard);
    b.driver.queues[EVENT].set_active(false);
    b.device.handle().send(&[key(KEY_A, 1)]);
    assert!(b.events(Wake::HostSource).is_empty());
    assert!(!b.is_woken());
    b.driver.queues[EVENT].set_active(true);
    b.post(4);
    assert!(b.events(Wake::Queue(EVENT)).is_empty());
    // Nor across a reset.
    b.device.handle().send(&[key(KEY_A, 1)]);
    b.device.reset();
    assert!(b.events(Wake::HostSource).is_empty());
}

#[test]
fn lights_are_taken_and_short_buffers_stop_the_device() {
    let mut b = Bench::new(Kind::Keyboard);
    b.driver.submit(STATUS, &[&[0x11, 0, 1, 0, 1, 0, 0, 0]], &[]);
    b.driver.submit(STATUS, &[&[1]], &[]);
    assert!(b.driver.drive(&mut b.device, Wake::Queue(STATUS)).unwrap().notify.contains(STATUS));
    assert_eq!(b.driver.used(STATUS).len(), 2);
    b.driver.submit(EVENT, &[], &[7]);
    b.device.handle().send(&[key(KEY_A, 1)]);
    assert!(b.driver.drive(&mut b.device, Wake::HostSource).is_err());
}

#[test]
fn state_survives_as_json() {
    let mut b = Bench::new(Kind::Keyboard);
    b.ask(0x11, 1);
    b.device.handle().send(&[key(KEY_A, 0), Event::SYN]);
    let state = b.device.save().to_string();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let mut other = Bench::new(Kind::Keyboard);
    other.device.restore(state.clone(), &other.driver.mem).unwrap();
    assert_eq!(other.device.config(), b.device.config());
    assert!(other.is_woken());
    other.post(4);
    assert_eq!(other.events(Wake::HostSource), [key(KEY_A, 0), Event::SYN]);
    let mut many = state.clone();
    many["pending"] = json!(vec![&state["pending"][0]; PENDING + 1]);
    let mut pointer = Bench::new(Kind::Pointer);
    let error = pointer.device.restore(state, &pointer.driver.mem).unwrap_err();
    assert!(matches!(error, RestoreError::Content(_)));
    for garbage in [json!(null), json!([1]), json!({ "kind": "Keyboard" }), many] {
        assert!(other.device.restore(garbage, &other.driver.mem).is_err());
    }
    assert_eq!(other.device.config(), b.device.config());
}
