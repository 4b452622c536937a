//! What the target `vsock` runs: a virtio-vsock device between a guest and host programs that do whatever the input says.
//!
//! The host programs are real: Unix sockets in a temporary folder.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use inlay_vmm_core::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use inlay_vmm_core::virtio::{Device as _, Wake};

use super::guest::{Guest, Input, STEPS};

const CID: u32 = 42;
/// Host ports on which somebody listens; the second is for the guest's root only.
const PORTS: [u32; 2] = [9, 77];
/// The first port of connections that the host opens.
const LOCAL: u32 = 1 << 30;
const LIMITS: VsockLimits = VsockLimits { connections: 6, reserved_for_host: 2, buffer: 4096 };

/// Device, guest and listeners, kept between inputs because sockets are costly to make.
pub struct Bench {
    guest: Guest,
    device: Vsock,
    fresh: serde_json::Value,
    listeners: Vec<UnixListener>,
    host: Vec<UnixStream>,
    /// The newest packet of the guest.
    last: Vec<u8>,
    flooded: bool,
    folder: tempfile::TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = VsockConfig {
            guest_cid: CID,
            socket: folder.path().join("v"),
            privileged_ports: [PORTS[1]].into(),
            limits: LIMITS,
        };
        let device = Vsock::new(config).expect("a device");
        let listeners = PORTS.map(|port| {
            let listener = UnixListener::bind(folder.path().join(format!("v_{port}"))).expect("a listener");
            listener.set_nonblocking(true).expect("a flag");
            listener
        });
        let fresh = device.save();
        Self {
            guest: Guest::new(3),
            device,
            fresh,
            listeners: listeners.into(),
            host: Vec::new(),
            last: Vec::new(),
            flooded: false,
            folder,
        }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        self.guest.begin(input.byte().unwrap_or(4));
        self.last.clear();
        self.flooded = false;
        let mut connected = false;
        for _ in 0..STEPS {
            if self.step(&mut input, &mut connected).is_none() {
                break;
            }
        }
        // The next input begins with a device as new, without programs.
        self.device.restore(self.fresh.clone(), &self.guest.mem).expect("its own state");
        self.device.reset();
        self.host.clear();
        if connected {
            self.take_callers();
            self.host.clear();
            self.guest.settle(&mut self.device);
        }
    }

    /// Programs accept all connections of the guest.
    fn take_callers(&mut self) {
        for listener in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                let _ = stream.set_nonblocking(true);
                self.host.push(stream);
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>, connected: &mut bool) -> Option<()> {
        match input.byte()? {
            kind @ 0..16 => {
                // Any chain may hold a request.
                *connected |= kind % 8 == 7 || kind % 8 == 2;
                self.guest.step(kind, &mut self.device, input)?;
            }
            16..32 => self.program(input, connected)?,
            32 => drop(self.guest.save(&mut self.device)),
            // The same packet again and again: programs that do not read get a backlog.
            33 => {
                let count = input.byte()? % 64;
                // Once for each input, as it takes long.
                for _ in 0..if self.flooded { 0 } else { count } {
                    self.guest.submit(1, 44, &self.last, 0);
                    self.guest.wake(&mut self.device, Wake::Queue(1));
                }
                self.flooded = true;
            }
            // Receive buffers.
            kind @ 34..64 => {
                let room = if kind & 1 == 0 { 44 + 512 } else { input.word()? };
                for _ in 0..kind % 4 {
                    self.guest.submit(0, 0, &[], room);
                }
                self.guest.submit(2, 0, &[], 4);
                self.guest.wake(&mut self.device, Wake::Queue(0));
            }
            kind => {
                *connected |= kind % 8 == 1;
                let packet = packet(kind, input)?;
                self.guest.submit(1, if kind & 0x40 == 0 { 44 } else { 20 }, &packet, 0);
                self.guest.wake(&mut self.device, Wake::Queue(1));
                self.last = packet;
            }
        }
        Some(())
    }

    /// What a host program does.
    fn program(&mut self, input: &mut Input<'_>, connected: &mut bool) -> Option<()> {
        let what = input.byte()?;
        if what % 8 == 0 {
            *connected = true;
            let mut stream = UnixStream::connect(self.folder.path().join("v")).ok()?;
            let _ = stream.set_nonblocking(true);
            let line: &[u8] = if what & 8 == 0 { b"CONNECT 70\n" } else { input.bytes(40) };
            let _ = stream.write(line);
            self.host.push(stream);
            self.guest.wake(&mut self.device, Wake::HostSource);
        } else if what % 8 == 1 {
            self.take_callers();
        } else {
            let count = self.host.len();
            let index = usize::from(input.byte()?).checked_rem(count)?;
            let stream = &mut self.host[index];
            match what % 8 {
                2 => drop(stream.write(&[7; 4096][..usize::from(input.byte()?) * 16])),
                3 => drop(stream.read(&mut [0; 4096][..usize::from(input.byte()?) * 16])),
                4 => drop(stream.shutdown(Shutdown::Write)),
                5 => drop(stream.shutdown(Shutdown::Read)),
                6 => drop(stream.shutdown(Shutdown::Both)),
                _ => drop(self.host.swap_remove(index)),
            }
        }
        self.guest.wake(&mut self.device, Wake::HostSource);
        Some(())
    }
}

/// A packet of the guest: most fields are right most of the time.
fn packet(kind: u8, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (ports, shape, len) = (input.byte()?, input.byte()?, input.byte()?);
    let wrong = shape & 0x80 != 0;
    let guest_port = match ports & 3 {
        0 => 70,
        1 => 1000,
        2 => 5000,
        _ => 5001,
    };
    let host_port = match ports >> 2 & 7 {
        0 => PORTS[1],
        1..4 => PORTS[0],
        7 if wrong => input.word()?,
        local => LOCAL + u32::from(local) - 4,
    };
    let length = if wrong { input.word()? } else { 16 * u32::from(len) };
    let mut bytes = Vec::with_capacity(44 + 16 * usize::from(len));
    bytes.extend(u64::from(CID).to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(u32::to_le_bytes(guest_port));
    bytes.extend(host_port.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(u16::from(kind % 8).to_le_bytes());
    bytes.extend(u32::from(shape & 3).to_le_bytes());
    let buffer = match shape >> 2 & 3 {
        0 => 0,
        1 => 100,
        2 => 0x1_0000,
        _ => input.word()?,
    };
    bytes.extend(buffer.to_le_bytes());
    let done = if shape & 0x10 == 0 { 0 } else { input.word()? };
    bytes.extend(done.to_le_bytes());
    if wrong {
        // One byte of the header is anything.
        let at = usize::from(input.byte()?) % bytes.len();
        bytes[at] = input.byte()?;
    }
    bytes.resize(44 + 16 * usize::from(len), 5);
    Some(bytes)
}
