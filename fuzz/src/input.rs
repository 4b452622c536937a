//! What the target `input` runs: a virtio-input device between a host that types and a guest that does whatever the input
//! says.

use inlay_vmm_core::devices::input::{Event, Input as Device, Kind};
use inlay_vmm_core::virtio::{Device as _, Wake};

use super::guest::{Guest, Input, STEPS};

/// Events that may wait.
const PENDING: usize = 1024;

/// The guest and the devices, kept between inputs because memory and descriptors are costly to make.
pub struct Bench {
    guest: Guest,
    devices: [Device; 2],
}

impl Default for Bench {
    fn default() -> Self {
        let devices = [Kind::Keyboard, Kind::Pointer].map(|kind| Device::new(kind).expect("a device"));
        Self { guest: Guest::new(2), devices }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        let shape = input.byte().unwrap_or(4);
        self.guest.begin(shape);
        let device = &mut self.devices[usize::from(shape & 0x20 != 0)];
        for _ in 0..STEPS {
            if step(&mut self.guest, device, &mut input).is_none() {
                break;
            }
        }
        self.guest.settle(device);
        assert_eq!(device.config(), [0; 136], "a reset takes all back");
    }
}

fn step(guest: &mut Guest, device: &mut Device, input: &mut Input<'_>) -> Option<()> {
    match input.byte()? {
        kind @ 0..16 => guest.step(kind, device, input)?,
        16 => {
            if let Some(state) = guest.save(device) {
                let pending = state["pending"].as_array().expect("a list");
                assert!(pending.len() <= PENDING);
                let last = pending.last().map(|event| event["kind"] == 0 && event["code"] == 0);
                assert!(last.unwrap_or(true), "whole reports");
                assert!(device.save() == state);
            }
        }
        // The driver asks.
        17 => {
            device.write_config(0, &[input.byte()?, input.byte()?]);
            let config = device.config();
            assert!(config.len() == 136 && config[2] <= 128);
        }
        18 => {
            let at = usize::try_from(input.word()?).expect("64 bits");
            let count = input.byte()?;
            device.write_config(at, input.bytes(count.into()));
        }
        // Reports of the host, many of them at times.
        kind @ 19..128 => {
            let mut events = Vec::new();
            for _ in 0..input.byte()? % 16 {
                let (kind, code) = (input.byte()? % 4, input.byte()?);
                let value = i32::from(input.byte()?);
                events.push(Event { kind: kind.into(), code: code.into(), value });
            }
            for _ in 0..=if kind > 120 { 100 } else { 0 } {
                device.handle().send(&events);
            }
            guest.wake(device, Wake::HostSource);
        }
        // Buffers for events.
        count => {
            for _ in 0..count % 16 {
                guest.submit(0, 0, &[], 8);
            }
            guest.wake(device, Wake::Queue(0));
        }
    }
    Some(())
}
