//! Device tests: the guest is a driver in guest memory, the host programs are real Unix sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::json;
use vm_memory::ByteValued;

use super::packet::{Header, Key, op, shutdown};
use super::{Vsock, VsockConfig, VsockError, VsockLimits};
use crate::virtio::testing::Driver;
use crate::virtio::{Device, Wake};

const CID: u32 = 42;
const GUEST_BUFFER: u32 = 64 << 10;

struct Bench {
    driver: Driver,
    device: Vsock,
    dir: tempfile::TempDir,
    /// What the guest says of its own buffer in every packet.
    buf_alloc: u32,
    fwd_cnt: u32,
    /// Receive buffers that the device has.
    posted: usize,
}

#[derive(Debug)]
struct Packet {
    header: Header,
    payload: Vec<u8>,
}

impl Packet {
    fn op(&self) -> u16 {
        self.header.op()
    }
    fn flags(&self) -> u32 {
        { self.header.flags }.to_native()
    }
}

impl Bench {
    fn new(limits: VsockLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = VsockConfig {
            guest_cid: CID,
            socket: dir.path().join("v"),
            privileged_ports: [77].into(),
            limits,
        };
        let device = Vsock::new(config).unwrap();
        Self { driver: Driver::new(3), device, dir, buf_alloc: GUEST_BUFFER, fwd_cnt: 0, posted: 0 }
    }

    fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.dir.path().join(format!("v_{port}"))).unwrap()
    }

    fn send(&mut self, key: Key, op: u16, flags: u32, payload: &[u8]) {
        let header = Header {
            src_cid: u64::from(CID).into(),
            dst_cid: 2.into(),
            src_port: key.guest_port.into(),
            dst_port: key.host_port.into(),
            len: u32::try_from(payload.len()).unwrap().into(),
            kind: 1.into(),
            op: op.into(),
            flags: flags.into(),
            buf_alloc: self.buf_alloc.into(),
            fwd_cnt: self.fwd_cnt.into(),
        };
        self.send_raw(&header, payload);
    }

    fn send_raw(&mut self, header: &Header, payload: &[u8]) {
        let parts: &[&[u8]] = &[header.as_slice(), payload];
        self.driver.submit(1, if payload.is_empty() { &parts[..1] } else { parts }, &[]);
        self.driver.drive(&mut self.device, Wake::Queue(1)).unwrap();
        assert_eq!(self.driver.used(1).len(), 1);
    }

    /// Lets the device have `count` receive buffers of 4 KiB and takes what it puts there.
    fn receive_up_to(&mut self, count: usize) -> Vec<Packet> {
        while self.posted < count {
            self.driver.submit(0, &[], &[44, 4096]);
            self.posted += 1;
        }
        self.driver.drive(&mut self.device, Wake::Queue(0)).unwrap();
        self.host()
    }

    /// Lets the device look at its sockets, and takes the packets it made.
    fn host(&mut self) -> Vec<Packet> {
        self.driver.drive(&mut self.device, Wake::HostSource).unwrap();
        let packets = self.driver.used(0).into_iter().map(|used| {
            let mut header = Header::default();
            header.as_mut_slice().copy_from_slice(&used.data[..44]);
            let payload = used.data[44..].to_vec();
            assert_eq!({ header.len }.to_native() as usize, payload.len());
            Packet { header, payload }
        });
        let packets: Vec<Packet> = packets.collect();
        self.posted -= packets.len();
        packets
    }

    /// A connection that the guest opened to `port`.
    fn guest_connection(&mut self, port: u32) -> (Key, UnixStream) {
        let listener = self.listen(port);
        let key = Key { guest_port: 5000, host_port: port };
        self.send(key, op::REQUEST, 0, &[]);
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let got = self.receive_up_to(1);
        assert_eq!(got.iter().map(Packet::op).collect::<Vec<_>>(), [op::RESPONSE]);
        (key, stream)
    }

    /// A connection that the host opened to guest port 70.
    fn host_connection(&mut self) -> (Key, UnixStream) {
        let mut stream = UnixStream::connect(self.dir.path().join("v")).unwrap();
        stream.write_all(b"CONNECT 70\n").unwrap();
        // Accepted in one turn, read in the next.
        let mut got = self.receive_up_to(1);
        got.extend(self.host());
        assert_eq!(got.iter().map(Packet::op).collect::<Vec<_>>(), [op::REQUEST]);
        let host_port = { got[0].header.src_port }.to_native();
        assert_eq!({ got[0].header.dst_port }.to_native(), 70);
        (Key { guest_port: 70, host_port }, stream)
    }
}

fn read_now(stream: &mut UnixStream) -> Vec<u8> {
    stream.set_nonblocking(true).unwrap();
    let mut out = Vec::new();
    match stream.read_to_end(&mut out) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
    }
    out
}

#[test]
fn bytes_go_both_ways() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.guest_connection(9);
    b.send(key, op::RW, 0, b"to the host");
    assert_eq!(read_now(&mut host), b"to the host");
    host.write_all(b"to the guest").unwrap();
    let got = b.receive_up_to(1);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].op(), &got[0].payload[..]), (op::RW, &b"to the guest"[..]));
    assert_eq!({ got[0].header.fwd_cnt }.to_native(), 11);
}

#[test]
fn nobody_listens() {
    let mut b = Bench::new(VsockLimits::default());
    b.send(Key { guest_port: 5000, host_port: 9 }, op::REQUEST, 0, &[]);
    let got = b.receive_up_to(4);
    assert_eq!(got.iter().map(Packet::op).collect::<Vec<_>>(), [op::RST]);
    assert_eq!({ got[0].header.dst_port }.to_native(), 5000);
}

#[test]
fn privileged_host_ports_want_privileged_guest_ports() {
    let mut b = Bench::new(VsockLimits::default());
    let listener = b.listen(77);
    for (guest_port, want) in [(1024, op::RST), (1023, op::RESPONSE)] {
        b.send(Key { guest_port, host_port: 77 }, op::REQUEST, 0, &[]);
        assert_eq!(b.receive_up_to(1)[0].op(), want);
    }
    listener.set_nonblocking(true).unwrap();
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_host_connects() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.host_connection();
    assert_eq!(read_now(&mut host), b"");
    b.send(key, op::RESPONSE, 0, &[]);
    assert_eq!(read_now(&mut host), format!("OK {}\n", key.host_port).as_bytes());
    host.write_all(b"hi").unwrap();
    assert_eq!(b.receive_up_to(1)[0].payload, b"hi");
    // Refused by the guest.
    let (key, mut refused) = b.host_connection();
    b.send(key, op::RST, 0, &[]);
    refused.set_nonblocking(false).unwrap();
    assert_eq!(refused.read(&mut [0; 8]).unwrap(), 0);
    // Given up by the host before the guest answers.
    let (key, gone) = b.host_connection();
    drop(gone);
    let got = b.receive_up_to(1);
    assert_eq!((got[0].op(), got[0].header.key().guest_port), (op::RST, key.host_port));
}

#[test]
fn the_guest_half_closes_and_still_hears() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.guest_connection(9);
    b.send(key, op::RW, 0, b"question");
    b.send(key, op::SHUTDOWN, shutdown::SEND, &[]);
    host.set_nonblocking(false).unwrap();
    let mut question = String::new();
    host.read_to_string(&mut question).unwrap();
    assert_eq!(question, "question");
    host.write_all(b"answer").unwrap();
    drop(host);
    let got = b.receive_up_to(8);
    let ops: Vec<u16> = got.iter().map(Packet::op).collect();
    assert_eq!(got.iter().flat_map(|p| p.payload.clone()).collect::<Vec<_>>(), b"answer");
    assert!(ops.contains(&op::SHUTDOWN) && !ops.contains(&op::RST), "{ops:?}");
    assert_eq!(got.last().unwrap().flags(), shutdown::BOTH);
    b.send(key, op::SHUTDOWN, shutdown::BOTH, &[]);
    assert_eq!(b.host().last().unwrap().op(), op::RST);
}

#[test]
fn the_host_half_closes_and_still_hears() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.guest_connection(9);
    host.write_all(b"question").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    let got = b.receive_up_to(4);
    assert_eq!(got[0].payload, b"question");
    assert_eq!((got[1].op(), got[1].flags()), (op::SHUTDOWN, shutdown::SEND));
    assert_eq!(got.len(), 2);
    b.send(key, op::RW, 0, b"answer");
    b.send(key, op::SHUTDOWN, shutdown::BOTH, &[]);
    assert_eq!(b.host().last().unwrap().op(), op::RST);
    host.set_nonblocking(false).unwrap();
    let mut answer = String::new();
    host.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn a_guest_that_stops_receiving_stops_the_host() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.guest_connection(9);
    b.send(key, op::SHUTDOWN, shutdown::RECEIVE, &[]);
    assert_eq!(host.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    b.send(key, op::RW, 0, b"still");
    assert_eq!(read_now(&mut host), b"still");
    assert_eq!(b.receive_up_to(2).len(), 0);
}

#[test]
fn a_host_that_stops_receiving_is_told_to_the_guest() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, host) = b.guest_connection(9);
    host.shutdown(Shutdown::Read).unwrap();
    b.send(key, op::RW, 0, b"lost");
    let got = b.receive_up_to(4);
    assert_eq!((got[0].op(), got[0].flags()), (op::SHUTDOWN, shutdown::RECEIVE));
}

#[test]
fn the_guest_fills_its_credit_and_no_more() {
    let limits = VsockLimits { buffer: 1 << 20, ..VsockLimits::default() };
    let mut b = Bench::new(limits);
    let (key, mut host) = b.guest_connection(9);
    let block: Vec<u8> = (0..=255).cycle().take(32 << 10).collect();
    let mut sent: Vec<u8> = Vec::new();
    // Until the socket is full and the backlog holds all that the guest may send.
    let told = loop {
        b.send(key, op::RW, 0, &block);
        sent.extend(&block);
        let told = b.receive_up_to(1).last().map(|p| ({ p.header.fwd_cnt }.to_native(), p.op()));
        if sent.len() > 1 << 20 {
            break told;
        }
    };
    assert!(told.is_none_or(|(fwd, op)| op == op::CREDIT_UPDATE && fwd < 1 << 20));
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let more = read_now(&mut host);
        assert!(!more.is_empty());
        got.extend(more);
        b.host();
    }
    assert!(got == sent);
    // A guest that ignores its credit is cut off.
    let mut cut = false;
    for _ in 0..64 {
        b.send(key, op::RW, 0, &block);
        cut |= b.host().iter().any(|p| p.op() == op::RST);
    }
    assert!(cut || b.receive_up_to(8).iter().any(|p| p.op() == op::RST));
}

#[test]
fn end_of_file_waits_for_the_backlog() {
    let mut b = Bench::new(VsockLimits { buffer: 4 << 20, ..VsockLimits::default() });
    let (key, mut host) = b.guest_connection(9);
    let block = vec![7; 32 << 10];
    for _ in 0..32 {
        b.send(key, op::RW, 0, &block);
    }
    b.send(key, op::SHUTDOWN, shutdown::BOTH, &[]);
    assert!(b.receive_up_to(4).iter().all(|p| p.op() != op::RST));
    let (mut got, mut ops) = (0, Vec::new());
    while got < 32 * block.len() {
        got += read_now(&mut host).len();
        ops.extend(b.host().iter().map(Packet::op));
    }
    assert_eq!(ops.last(), Some(&op::RST), "{ops:?}");
    host.set_nonblocking(false).unwrap();
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_host_sends_no_more_than_the_guest_has_room_for() {
    let mut b = Bench::new(VsockLimits::default());
    b.buf_alloc = 5000;
    let (key, mut host) = b.guest_connection(9);
    host.write_all(&[1; 12000]).unwrap();
    let got = b.receive_up_to(8);
    assert_eq!(got.iter().map(|p| p.payload.len()).collect::<Vec<_>>(), [4096, 904, 0]);
    assert_eq!(got[2].op(), op::CREDIT_REQUEST);
    assert_eq!(b.host().len(), 0);
    b.fwd_cnt = 5000;
    b.send(key, op::CREDIT_UPDATE, 0, &[]);
    assert_eq!(b.host().iter().map(|p| p.payload.len()).sum::<usize>(), 5000);
    // Numbers that make no sense give no credit.
    b.fwd_cnt = 20_000;
    b.send(key, op::CREDIT_UPDATE, 0, &[]);
    assert_eq!(b.host().iter().map(|p| p.payload.len()).sum::<usize>(), 0);
}

#[test]
fn connections_take_turns() {
    let mut b = Bench::new(VsockLimits::default());
    let (first, mut one) = b.guest_connection(9);
    let (second, mut two) = b.guest_connection(10);
    one.write_all(&[1; 20_000]).unwrap();
    two.write_all(&[2; 20_000]).unwrap();
    let ports: Vec<u32> = b.receive_up_to(4).iter().map(|p| { p.header.src_port }.to_native()).collect();
    assert_eq!(ports.iter().filter(|p| **p == first.host_port).count(), 2, "{ports:?}");
    assert_eq!(ports.iter().filter(|p| **p == second.host_port).count(), 2, "{ports:?}");
}

#[test]
fn data_that_waits_for_buffers_does_not_keep_the_epoll_readable() {
    let mut b = Bench::new(VsockLimits::default());
    let (_, mut host) = b.guest_connection(9);
    host.write_all(&[1; 20_000]).unwrap();
    b.host();
    let source = b.device.host_source().unwrap();
    let mut fds = [rustix::event::PollFd::new(&source, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&now)).unwrap(), 0);
    assert_eq!(b.receive_up_to(8).iter().map(|p| p.payload.len()).sum::<usize>(), 20_000);
}

#[test]
fn the_guest_cannot_take_all_connections() {
    let limits = VsockLimits { connections: 4, reserved_for_host: 1, ..VsockLimits::default() };
    let mut b = Bench::new(limits);
    let _listener = b.listen(9);
    for port in 0..5 {
        b.send(Key { guest_port: 2000 + port, host_port: 9 }, op::REQUEST, 0, &[]);
    }
    let ops: Vec<u16> = b.receive_up_to(8).iter().map(Packet::op).collect();
    assert_eq!(ops.iter().filter(|op| **op == op::RESPONSE).count(), 3);
    assert_eq!(ops.iter().filter(|op| **op == op::RST).count(), 2);
    let mut b2 = b;
    b2.send(Key { guest_port: 2000, host_port: 9 }, op::RST, 0, &[]);
    b2.send(Key { guest_port: 3000, host_port: 9 }, op::REQUEST, 0, &[]);
    assert_eq!(b2.host().last().unwrap().op(), op::RESPONSE);
}

#[test]
fn nonsense_is_answered_with_a_reset_or_silence() {
    let mut b = Bench::new(VsockLimits::default());
    let key = Key { guest_port: 5000, host_port: 9 };
    for op in [op::RESPONSE, op::SHUTDOWN, op::RW, op::CREDIT_UPDATE, op::CREDIT_REQUEST, 99] {
        b.send(key, op, 0, b"");
        assert_eq!(b.receive_up_to(1)[0].op(), op::RST, "{op}");
    }
    b.send(key, op::RST, 0, &[]);
    let good = Header {
        src_cid: u64::from(CID).into(),
        dst_cid: 2.into(),
        dst_port: 9.into(),
        kind: 1.into(),
        op: op::REQUEST.into(),
        ..Header::default()
    };
    b.send_raw(&Header { src_cid: 9.into(), ..good }, &[]);
    assert_eq!(b.receive_up_to(1).len(), 0);
    for bad in [
        Header { dst_cid: 7.into(), ..good },
        Header { kind: 2.into(), ..good },
        Header { len: u32::MAX.into(), ..good },
        Header { dst_port: u32::MAX.into(), ..good },
    ] {
        b.send_raw(&bad, &[]);
        assert_eq!(b.receive_up_to(1)[0].op(), op::RST);
    }
}

#[test]
fn a_second_request_on_a_connection_ends_it() {
    let mut b = Bench::new(VsockLimits::default());
    let (key, mut host) = b.guest_connection(9);
    b.send(key, op::REQUEST, 0, &[]);
    assert_eq!(b.receive_up_to(1)[0].op(), op::RST);
    host.set_nonblocking(false).unwrap();
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
}

#[test]
fn resets_are_bounded() {
    let mut b = Bench::new(VsockLimits::default());
    for port in 0..3000 {
        b.send(Key { guest_port: port, host_port: 9 }, op::RW, 0, &[]);
    }
    let mut count = 0;
    loop {
        let got = b.receive_up_to(30).len();
        count += got;
        if got == 0 {
            break;
        }
    }
    assert_eq!(count, 1024);
}

#[test]
fn a_short_packet_or_buffer_stops_the_device() {
    let mut b = Bench::new(VsockLimits::default());
    b.driver.submit(1, &[&[0; 43]], &[]);
    assert!(b.driver.drive(&mut b.device, Wake::Queue(1)).is_err());
    let mut b = Bench::new(VsockLimits::default());
    b.send(Key { guest_port: 1, host_port: 9 }, op::RW, 0, &[]);
    b.driver.submit(0, &[], &[40]);
    assert!(b.driver.drive(&mut b.device, Wake::Queue(0)).is_err());
}

#[test]
fn reset_and_restore() {
    let mut b = Bench::new(VsockLimits::default());
    let (_, mut host) = b.guest_connection(9);
    b.device.reset();
    host.set_nonblocking(false).unwrap();
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    let state = b.device.save().to_string();
    b.device.restore(serde_json::from_str(&state).unwrap(), &b.driver.mem).unwrap();
    b.driver.submit(2, &[], &[4]);
    b.driver.drive(&mut b.device, Wake::Queue(2)).unwrap();
    assert_eq!(b.driver.used(2)[0].data, [0; 4]);
    for garbage in
        [json!(null), json!({ "next_local_port": 9 }), json!({ "next_local_port": u32::MAX }), json!({})]
    {
        assert!(b.device.restore(garbage, &b.driver.mem).is_err());
    }
    // What was refused changed nothing: the guest hears of no second end.
    b.driver.submit(2, &[], &[4]);
    b.driver.drive(&mut b.device, Wake::Queue(2)).unwrap();
    assert!(b.driver.used(2).is_empty());
}

#[test]
fn context_ids_of_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for guest_cid in [0, 1, 2, u32::MAX] {
        let config = VsockConfig {
            guest_cid,
            socket: dir.path().join("v"),
            privileged_ports: [].into(),
            limits: VsockLimits::default(),
        };
        assert!(matches!(Vsock::new(config), Err(VsockError::ContextId(_))));
    }
}
