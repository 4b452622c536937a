//! The card between a driver made here and a socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{HEADER, MOST_FRAME, Net, RECEIVE, TRANSMIT};
use crate::virtio::testing::Driver;
use crate::virtio::{Device as _, Wake};

const MAC: [u8; 6] = [2, 0, 0, 1, 2, 3];

struct Bench {
    driver: Driver,
    net: Net,
    host: UnixStream,
}

impl Bench {
    fn new() -> Self {
        let (guest, host) = UnixStream::pair().unwrap();
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { driver: Driver::new(2), net: Net::new(guest.into(), MAC).unwrap(), host }
    }

    fn wake(&mut self, wake: Wake) {
        self.driver.drive(&mut self.net, wake).unwrap();
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.driver.submit(TRANSMIT, &[&[0; HEADER], frame], &[]);
        self.wake(Wake::Queue(TRANSMIT));
    }

    fn host_gets(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.host.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.host.read_exact(&mut frame).unwrap();
        frame
    }

    fn host_sends(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        self.host.write_all(&[&length[..], frame].concat()).unwrap();
    }
}

#[test]
fn frames_go_both_ways() {
    let mut b = Bench::new();
    assert_eq!(b.net.config(), MAC);
    let frame: Vec<u8> = (0..200).collect();
    b.transmit(&frame);
    assert_eq!(b.host_gets(), frame);
    assert_eq!(b.driver.used(TRANSMIT).len(), 1);

    // Two come before the driver has room for the first.
    b.host_sends(&[7; 60]);
    b.host_sends(&[8; 1514]);
    b.wake(Wake::HostSource);
    assert!(b.driver.used(RECEIVE).is_empty());
    b.driver.submit(RECEIVE, &[], &[12, 1514]);
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.wake(Wake::Queue(RECEIVE));
    let used = b.driver.used(RECEIVE);
    assert_eq!(used.len(), 2);
    assert_eq!(used[0].data[HEADER..HEADER + 60], [7; 60]);
    assert_eq!(used[0].data[..HEADER], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(used[1].data[HEADER..HEADER + 1514], [8; 1514]);
}

#[test]
fn frames_in_pieces_are_put_together() {
    let mut b = Bench::new();
    b.driver.submit(RECEIVE, &[], &[2000]);
    let bytes = [&100_u32.to_be_bytes()[..], &[5; 100]].concat();
    for piece in bytes.chunks(33) {
        assert!(b.driver.used(RECEIVE).is_empty());
        b.host.write_all(piece).unwrap();
        b.wake(Wake::HostSource);
    }
    assert_eq!(b.driver.used(RECEIVE)[0].data[HEADER..HEADER + 100], [5; 100]);
}

#[test]
fn a_host_that_does_not_read_holds_the_ring_and_loses_nothing() {
    let mut b = Bench::new();
    let frame = vec![3; 60_000];
    let mut sent = 0;
    loop {
        b.driver.submit(TRANSMIT, &[&[0; HEADER], &frame], &[]);
        b.wake(Wake::Queue(TRANSMIT));
        sent += 1;
        if b.driver.used(TRANSMIT).is_empty() {
            break;
        }
        assert!(sent < 50, "the socket takes everything");
    }
    for _ in 0..sent {
        assert_eq!(b.host_gets(), frame);
        b.wake(Wake::HostSource);
    }
    assert_eq!(b.driver.used(TRANSMIT).len(), 1);
}

#[test]
fn what_no_card_sends_or_takes_is_dropped() {
    let mut b = Bench::new();
    b.transmit(&[1; 13]);
    b.transmit(&vec![1; MOST_FRAME + 1]);
    b.transmit(&[2; 14]);
    assert_eq!(b.host_gets(), [2; 14]);
    assert_eq!(b.driver.used(TRANSMIT).len(), 3);
    // Too long for its buffer: the next one gets it.
    b.driver.submit(RECEIVE, &[], &[100]);
    b.host_sends(&[1; 200]);
    b.host_sends(&[4; 50]);
    b.wake(Wake::HostSource);
    assert_eq!(b.driver.used(RECEIVE)[0].data[HEADER..HEADER + 50], [4; 50]);
    // A host that talks nonsense is gone.
    b.host.write_all(&[0xff; 8]).unwrap();
    b.wake(Wake::HostSource);
    b.transmit(&[2; 14]);
    b.transmit(&[2; 14]);
    assert_eq!(b.driver.used(TRANSMIT).len(), 2);
}

#[test]
fn state_survives_as_json() {
    let mut b = Bench::new();
    // One waits for a buffer.
    b.host_sends(&[7; 60]);
    b.wake(Wake::HostSource);
    let state = b.net.save().to_string();
    for garbage in ["null", "{}", "{\"mac\":[1,2,3]}", "{\"mac\":[2,0,0,1,2,4]}"] {
        assert!(b.net.restore(serde_json::from_str(garbage).unwrap(), &b.driver.mem).is_err(), "{garbage}");
    }
    let (guest, host) = UnixStream::pair().unwrap();
    host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    b.net = Net::new(guest.into(), MAC).unwrap();
    b.host = host;
    b.net.restore(serde_json::from_str(&state).unwrap(), &b.driver.mem).unwrap();
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.host_sends(&[9; 60]);
    b.wake(Wake::HostSource);
    assert_eq!(b.driver.used(RECEIVE)[0].data[HEADER..HEADER + 60], [9; 60]);
    b.transmit(&[3; 60]);
    assert_eq!(b.host_gets(), [3; 60]);
}
