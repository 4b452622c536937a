//! `rng` (virtio 1.2, section 5.4): the host's random numbers.

#[cfg(test)]
mod tests;

use crate::virtio::{Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 4;
/// Bytes of one answer: more is given in the next one.
const MOST: usize = 4096;

/// The device.
#[derive(Debug, Default)]
pub struct Rng;

impl Device for Rng {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let (Wake::Queue(index), Some(queue)) = (wake, queues.first_mut()) else { return Ok(used) };
        while let Some(mut chain) = queue.pop(mem)? {
            let mut bytes = [0; MOST];
            let wanted = bytes.get_mut(..chain.writable_len().min(MOST)).unwrap_or_default();
            rustix::rand::getrandom(&mut *wanted, rustix::rand::GetRandomFlags::empty())
                .map_err(|e| DeviceError::Host { act: "get random numbers", source: e.into() })
                .and_then(|count| {
                    let bytes = wanted.get(..count).unwrap_or_default();
                    chain.write(mem, bytes).map_err(|source| queue.chain_error(source))
                })?;
            queue.add_used(mem, chain)?;
            used.insert(index);
        }
        Ok(used)
    }

    fn reset(&mut self) {}

    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        Ok(serde_json::from_value::<()>(state)?)
    }
}
