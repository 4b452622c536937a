//! What the target `rng` runs: a virtio-rng device with a guest that does whatever the input says.

use inlay_vmm_core::devices::rng::Rng;
use inlay_vmm_core::virtio::Device as _;

use super::guest::{Guest, Input, STEPS};

/// The guest, kept between inputs because its memory is costly to map.
pub struct Bench {
    guest: Guest,
}

impl Default for Bench {
    fn default() -> Self {
        Self { guest: Guest::new(1) }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        self.guest.begin(input.byte().unwrap_or(4));
        for _ in 0..STEPS {
            let Some(kind) = input.byte() else { break };
            if kind == 16 {
                Rng.restore(Rng.save(), &self.guest.mem).expect("its own state");
            } else if self.guest.step(kind, &mut Rng, &mut input).is_none() {
                break;
            }
        }
        self.guest.reset(&mut Rng, 0);
    }
}
