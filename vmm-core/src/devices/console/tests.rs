//! The device between a driver in guest memory and sockets, pipes and files of the host.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::host::BACKLOG;
use super::{Console, LONGEST, RX, TX};
use crate::virtio::testing::Driver;
use crate::virtio::{Device as _, RestoreError, Wake};

struct Bench {
    driver: Driver,
    device: Console,
    host: UnixStream,
}

impl Bench {
    fn new() -> Self {
        let (host, guest) = UnixStream::pair().unwrap();
        host.set_nonblocking(true).unwrap();
        let device = Console::new(guest.try_clone().unwrap().into(), guest.into()).unwrap();
        Self { driver: Driver::new(2), device, host }
    }

    /// Chains that came back from `queue`.
    fn drive(&mut self, wake: Wake, queue: usize) -> Vec<Vec<u8>> {
        let outcome = self.driver.drive(&mut self.device, wake).unwrap();
        let used = self.driver.used(queue);
        assert_eq!(outcome.notify.contains(queue), !used.is_empty());
        used.into_iter().map(|used| used.data).collect()
    }

    fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let error = self.host.read_to_end(&mut all).map_err(|error| error.kind());
        assert!(matches!(error, Ok(_) | Err(ErrorKind::WouldBlock)));
        all
    }

    fn is_woken(&self) -> bool {
        let source = self.device.host_source().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&now)).unwrap() == 1
    }
}

#[test]
fn text_goes_both_ways() {
    let mut b = Bench::new();
    b.driver.submit(TX, &[b"hel", b"lo\n"], &[]);
    b.driver.submit(TX, &[b"again"], &[]);
    assert_eq!(b.drive(Wake::Queue(TX), TX).len(), 2);
    assert_eq!(b.output(), b"hello\nagain");
    b.host.write_all(b"typed").unwrap();
    assert!(b.is_woken());
    // It waits for buffers, and does not spin meanwhile.
    assert!(b.drive(Wake::HostSource, RX).is_empty());
    assert!(!b.is_woken());
    b.driver.submit(RX, &[], &[2, 1]);
    b.driver.submit(RX, &[], &[0]);
    b.driver.submit(RX, &[], &[64]);
    b.driver.submit(RX, &[], &[64]);
    assert_eq!(b.drive(Wake::Queue(RX), RX), [&b"typ"[..], b"", b"ed"]);
    b.host.write_all(b"more").unwrap();
    assert_eq!(b.drive(Wake::HostSource, RX), [b"more"]);
}

#[test]
fn output_waits_for_the_host_within_bounds() {
    let mut b = Bench::new();
    let text: Vec<u8> = (0..1_000_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let mut chains = text.chunks(50_000);
    let mut waiting = 0;
    // The socket's buffer and the backlog fill up, until a chain waits in the queue.
    while waiting == 0 {
        b.driver.submit(TX, &[chains.next().unwrap()], &[]);
        waiting = 1 - b.drive(Wake::Queue(TX), TX).len();
    }
    let state = b.device.save();
    assert_eq!(state["backlog"].as_array().unwrap().len(), BACKLOG);
    assert!(b.drive(Wake::HostSource, TX).is_empty(), "no room came");
    assert!(!b.is_woken());
    let mut seen = Vec::new();
    loop {
        let output = b.output();
        if output.is_empty() {
            break;
        }
        seen.extend(output);
        waiting -= b.drive(Wake::HostSource, TX).len();
    }
    assert_eq!(waiting, 0);
    let sent = text.len() - chains.map(<[u8]>::len).sum::<usize>();
    assert!(sent > BACKLOG && seen == text[..sent], "all of it, once, in order");
}

#[test]
fn a_host_that_is_gone_holds_nobody_up() {
    let mut b = Bench::new();
    let (gone, _) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut b.host, gone));
    for _ in 0..8 {
        b.driver.submit(TX, &[&[7; 50_000]], &[]);
        assert_eq!(b.drive(Wake::Queue(TX), TX).len(), 1);
    }
    assert_eq!(b.device.save()["backlog"], json!([]));
    b.driver.submit(RX, &[], &[16]);
    for _ in 0..3 {
        assert!(b.drive(Wake::HostSource, RX).is_empty());
    }
    assert!(!b.is_woken(), "an end is told once");
}

#[test]
fn plain_files_are_always_ready() {
    let mut b = Bench::new();
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"abc").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    b.device = Console::new(input.into(), File::create(&path).unwrap().into()).unwrap();
    b.driver.submit(RX, &[], &[2]);
    b.driver.submit(RX, &[], &[2]);
    b.driver.submit(RX, &[], &[2]);
    assert_eq!(b.drive(Wake::Queue(RX), RX), [&b"ab"[..], b"c"]);
    b.driver.submit(TX, &[b"boot"], &[]);
    assert_eq!(b.drive(Wake::Queue(TX), TX).len(), 1);
    assert_eq!(std::fs::read(path).unwrap(), b"boot");
}

#[test]
fn a_chain_is_cut_where_no_driver_goes() {
    let mut b = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let null = File::open("/dev/null").unwrap();
    b.device = Console::new(null.into(), File::create(&path).unwrap().into()).unwrap();
    let half = u32::try_from(LONGEST / 2).unwrap();
    b.driver.submit_raw(TX, &[(0x10_0000, half, 0), (0x10_0000, half, 0), (0x10_0000, half, 0)]);
    b.driver.submit(TX, &[b"end"], &[]);
    assert_eq!(b.drive(Wake::Queue(TX), TX).len(), 2);
    assert_eq!(std::fs::metadata(path).unwrap().len(), LONGEST as u64 + 3);
    b.driver.submit_raw(TX, &[(5 << 20, 8, 0)]);
    assert!(b.driver.drive(&mut b.device, Wake::Queue(TX)).is_err());
}

#[test]
fn state_survives_as_json() {
    let mut b = Bench::new();
    let text = vec![3; 100_000];
    // As much as makes a chain wait that was taken in part.
    while b.device.taken == 0 {
        b.driver.submit(TX, &[&text], &[]);
        b.drive(Wake::Queue(TX), TX);
    }
    let taken = b.device.taken;
    let state = b.device.save().to_string();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    // The rings go on where they were, with another host.
    let mut other = Bench::new();
    std::mem::swap(&mut other.driver, &mut b.driver);
    other.device.restore(state.clone(), &other.driver.mem).unwrap();
    let mut seen = 0;
    loop {
        let output = other.output();
        if output.is_empty() {
            break;
        }
        seen += output.len();
        other.drive(Wake::HostSource, TX);
    }
    assert_eq!(seen, BACKLOG + text.len() - taken);
    let mut long = state;
    long["backlog"] = json!(vec![1; BACKLOG + 1]);
    let error = other.device.restore(long, &other.driver.mem).unwrap_err();
    assert!(matches!(error, RestoreError::Content(_)));
    let far = json!({ "taken": LONGEST + 1, "backlog": [] });
    for garbage in [json!(null), json!({ "taken": 1 }), json!({ "taken": 1, "backlog": [256] }), far] {
        assert!(other.device.restore(garbage, &other.driver.mem).is_err());
    }
    other.device.reset();
    assert_eq!(other.device.taken, 0);
}
