//! What the target `console` runs: a virtio-console device between a terminal and a guest that do whatever the input says.
//!
//! The terminal is real: a pair of sockets.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use inlay_vmm_core::devices::console::Console;
use inlay_vmm_core::virtio::Wake;

use super::guest::{Guest, Input, STEPS};

/// Bytes of output that may wait.
const BACKLOG: usize = 64 << 10;

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
        let (mut host, end) = UnixStream::pair().expect("sockets");
        host.set_nonblocking(true).expect("a flag");
        let output = end.try_clone().expect("a descriptor");
        let mut device = Console::new(end.into(), output.into()).expect("a device");
        for _ in 0..STEPS {
            if self.step(&mut device, &mut host, &mut input).is_none() {
                break;
            }
        }
        self.guest.settle(&mut device);
    }

    fn step(&mut self, device: &mut Console, host: &mut UnixStream, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? {
            kind @ 0..16 => self.guest.step(kind, device, input)?,
            16 => {
                if let Some(state) = self.guest.save(device) {
                    assert!(state["backlog"].as_array().expect("bytes").len() <= BACKLOG);
                }
            }
            17 => {
                let count = input.byte()?;
                let _ = host.write(input.bytes(count.into()));
                self.guest.wake(device, Wake::HostSource);
            }
            18 => {
                let count = usize::try_from(input.word()?).expect("64 bits").min(1 << 18);
                let _ = host.read(&mut vec![0; count]);
                self.guest.wake(device, Wake::HostSource);
            }
            19 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both];
                let _ = host.shutdown(how[usize::from(input.byte()?) % how.len()]);
            }
            // Much output: the same heap again and again.
            20 => {
                let text = [b'x'; 0x3000];
                // More than the backlog takes.
                for _ in 0..=input.byte()? % 16 {
                    self.guest.submit(1, 0, &text, 0);
                    self.guest.wake(device, Wake::Queue(1));
                }
            }
            kind => {
                let count = input.byte()?;
                if kind % 2 == 0 {
                    self.guest.submit(0, 0, &[], count.into());
                } else {
                    self.guest.submit(1, kind, input.bytes(count.into()), 0);
                }
                self.guest.wake(device, Wake::Queue((kind % 2).into()));
            }
        }
        Some(())
    }
}
