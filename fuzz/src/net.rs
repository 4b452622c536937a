//! What the target `net` runs: a virtio-net device between a network and a guest that do whatever the input says.
//!
//! The network is a real socket; what comes out of it are whole frames.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use inlay_vmm_core::devices::net::Net;
use inlay_vmm_core::virtio::Wake;

use super::guest::{Guest, Input, STEPS};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Ethernet's header, and 64 KiB behind one.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=65_550;

/// The guest, kept between inputs because its memory is costly to map.
pub struct Bench {
    guest: Guest,
}

impl Default for Bench {
    fn default() -> Self {
        Self { guest: Guest::new(2) }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        self.guest.begin(input.byte().unwrap_or(4));
        let (host, end) = UnixStream::pair().expect("sockets");
        host.set_nonblocking(true).expect("a flag");
        let mut device = Net::new(end.into(), MAC).expect("a device");
        let mut network = Network { host, came: Vec::new() };
        for _ in 0..STEPS {
            if self.step(&mut device, &mut network, &mut input).is_none() {
                break;
            }
        }
        // What waited for room goes out when there is some.
        for _ in 0..4 {
            network.receive(1 << 20);
            self.guest.wake(&mut device, Wake::HostSource);
        }
        self.guest.settle(&mut device);
    }

    fn step(&mut self, device: &mut Net, network: &mut Network, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? {
            kind @ 0..16 => self.guest.step(kind, device, input)?,
            16 => drop(self.guest.save(device)),
            // Bytes of the network as they come.
            17 => {
                let count = input.byte()?;
                let _ = network.host.write(input.bytes(count.into()));
                self.guest.wake(device, Wake::HostSource);
            }
            18 => {
                network.receive(usize::try_from(input.word()?).expect("64 bits").min(1 << 18));
                self.guest.wake(device, Wake::HostSource);
            }
            19 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both];
                let _ = network.host.shutdown(how[usize::from(input.byte()?) % how.len()]);
            }
            // Many frames: the same heap again and again.
            20 => {
                for _ in 0..=input.byte()? {
                    self.guest.submit(1, 12, &[0x11; 0x3000], 0);
                    self.guest.wake(device, Wake::Queue(1));
                }
            }
            // Frames of the network, and buffers for them or frames of the guest.
            kind if kind % 3 == 0 => {
                let length = input.word()? % 4096;
                let frame = [&length.to_be_bytes()[..], &vec![kind; length as usize]].concat();
                let _ = network.host.write(&frame);
                self.guest.wake(device, Wake::HostSource);
            }
            kind => {
                let queue = usize::from(kind % 3 - 1);
                let length = input.word()? % 4096;
                if queue == 0 {
                    self.guest.submit(0, 0, &[], length);
                } else {
                    self.guest.submit(1, kind, &vec![kind; length as usize], 0);
                }
                self.guest.wake(device, Wake::Queue(queue));
            }
        }
        Some(())
    }
}

/// The other end.
struct Network {
    host: UnixStream,
    came: Vec<u8>,
}

impl Network {
    /// Reads at most so many bytes; frames are whole and as long as they say.
    fn receive(&mut self, most: usize) {
        let mut bytes = vec![0; most];
        let count = self.host.read(&mut bytes).unwrap_or(0);
        self.came.extend(&bytes[..count]);
        while let Some(prefix) = self.came.first_chunk() {
            let length = u32::from_be_bytes(*prefix) as usize;
            assert!(LENGTHS.contains(&length), "a frame of {length} bytes");
            if self.came.len() < 4 + length {
                break;
            }
            self.came.drain(..4 + length);
        }
    }
}
