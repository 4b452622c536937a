//! The card between a driver made here and a socket.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tap::{self, TapError};
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
    assert_eq!(b.net.config(), [&MAC[..], &[1, 0]].concat());
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
fn a_pulled_cable_carries_nothing_and_is_told() {
    let mut b = Bench::new();
    let cable = b.net.cable();
    assert!(!b.net.config_changed());
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.wake(Wake::Queue(RECEIVE));
    cable.plug(false);
    assert!(is_woken(&b.net));
    b.wake(Wake::HostSource);
    assert!(b.net.config_changed() && !b.net.config_changed() && !is_woken(&b.net));
    assert_eq!(b.net.config()[6..], [0, 0]);
    // What the driver sends and what comes meanwhile is gone, and holds nothing up.
    b.transmit(&[1; 60]);
    assert_eq!(b.driver.used(TRANSMIT).len(), 1);
    b.host_sends(&[2; 60]);
    b.wake(Wake::HostSource);
    assert!(b.driver.used(RECEIVE).is_empty() && !is_woken(&b.net));
    cable.plug(true);
    b.wake(Wake::HostSource);
    assert!(b.net.config_changed());
    assert_eq!(b.net.config()[6..], [1, 0]);
    b.transmit(&[3; 60]);
    assert_eq!(b.host_gets(), [3; 60]);
    b.host_sends(&[4; 60]);
    b.wake(Wake::HostSource);
    let used = b.driver.used(RECEIVE);
    assert_eq!(used.len(), 1);
    assert_eq!(used[0].data[HEADER..HEADER + 60], [4; 60]);
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

/// Whether the device wants to be woken by its host's side.
fn is_woken(net: &Net) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let source = net.host_source().unwrap();
    poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[test]
fn a_host_that_goes_while_the_ring_is_full_wakes_nobody() {
    let mut b = Bench::new();
    b.host_sends(&[7; 60]);
    b.wake(Wake::HostSource);
    b.host = UnixStream::pair().unwrap().0;
    assert!(!is_woken(&b.net));
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.wake(Wake::Queue(RECEIVE));
    assert_eq!(b.driver.used(RECEIVE)[0].data[HEADER..], [7; 60]);
    assert!(!is_woken(&b.net));
}

/// A card on a tap device of the host, 10.9.0.1 on its side.
struct OnTap {
    driver: Driver,
    net: Net,
}

impl OnTap {
    fn transmit(&mut self, frame: &[u8]) {
        self.driver.submit(TRANSMIT, &[&[0; HEADER], frame], &[]);
        self.driver.drive(&mut self.net, Wake::Queue(TRANSMIT)).unwrap();
        assert_eq!(self.driver.used(TRANSMIT).len(), 1);
    }

    /// The first frame that is one of these.
    fn receive(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            self.driver.submit(RECEIVE, &[], &[2000]);
            let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
            let source = self.net.host_source().unwrap();
            poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&limit)).unwrap();
            self.driver.drive(&mut self.net, Wake::HostSource).unwrap();
            for used in self.driver.used(RECEIVE) {
                let frame = used.data[HEADER..].to_vec();
                if wanted(&frame) {
                    return frame;
                }
            }
        }
        panic!("no such frame");
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// One's complement of the one's complement sum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    (!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes()
}

/// In a network namespace of its own.
fn on_a_tap() {
    assert!(matches!(tap::open("inlay0"), Err(TapError::Missing(_))));
    assert!(matches!(tap::open("lo"), Err(TapError::Refused { .. })));
    assert!(matches!(tap::open("../lo"), Err(TapError::Name(_))));
    assert!(matches!(tap::open("an-interface-name"), Err(TapError::Name(_))));
    ip("tuntap add dev inlay0 mode tap");
    ip("addr add 10.9.0.1/24 dev inlay0");
    let net = Net::on_tap(tap::open("inlay0").unwrap(), MAC).unwrap();
    assert!(matches!(tap::open("inlay0"), Err(TapError::Refused { .. })));
    let mut b = OnTap { driver: Driver::new(2), net };
    // An interface that is down loses frames, and nothing else.
    b.transmit(&[1; 60]);
    ip("link set inlay0 up");

    let socket = UdpSocket::bind("10.9.0.1:7").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(b"hello", "10.9.0.2:9").unwrap();
    // Who has 10.9.0.2? (RFC 826)
    let question = b.receive(|frame| frame[12..14] == [8, 6] && frame[38..42] == [10, 9, 0, 2]);
    let host: [u8; 6] = question[6..12].try_into().unwrap();
    let answer =
        [&host[..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &MAC, &[10, 9, 0, 2], &host, &[10, 9, 0, 1]];
    b.transmit(&answer.concat());
    let frame = b.receive(|frame| frame[12..14] == [8, 0] && frame[30..34] == [10, 9, 0, 2]);
    assert_eq!(frame[..12], [MAC, host].concat());
    assert_eq!(frame[42..47], *b"hello");

    let mut header = [&[0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0][..], &[10, 9, 0, 2, 10, 9, 0, 1]].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    b.transmit(&[&host[..], &MAC, &[8, 0], &header, &[0, 9, 0, 7, 0, 13, 0, 0], b"world"].concat());
    let mut bytes = [0; 16];
    let (count, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..count], from.to_string().as_str()), (&b"world"[..], "10.9.0.2:9"));

    // Its end wakes once; frames are lost then.
    ip("link del inlay0");
    b.driver.drive(&mut b.net, Wake::HostSource).unwrap();
    b.driver.submit(RECEIVE, &[], &[2000]);
    b.driver.drive(&mut b.net, Wake::HostSource).unwrap();
    assert!(!is_woken(&b.net));
    b.transmit(&[1; 60]);
}

#[test]
fn frames_go_over_a_tap_device() {
    const INSIDE: &str = "INLAY_TAP";
    if std::env::var_os(INSIDE).is_some() {
        return on_a_tap();
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "devices::net::tests::frames_go_over_a_tap_device", "--nocapture"]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
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
