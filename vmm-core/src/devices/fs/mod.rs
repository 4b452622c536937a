//! `fs` (virtio 1.2, section 5.11): FUSE requests from the guest to whoever serves files. The device carries them and knows
//! nothing of their content; file data goes between the guest's memory and files without a copy.

mod request;
#[cfg(test)]
mod tests;

use crate::virtio::{Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json};

pub use self::request::Request;

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 26;
/// The longest tag, in bytes.
pub const MOST_TAG: usize = 36;
/// What must not wait, and all else. QEMU has one size for both.
const QUEUES: [u16; 2] = [1024, 1024];

/// Serves files.
pub trait Server: Send {
    /// Does what a request wants, and writes the answer.
    fn serve(&mut self, request: &mut Request<'_>);
    /// The guest's driver starts anew: it knows nothing any more.
    fn reset(&mut self);
}

/// The configuration space of a device with this tag and one request queue.
///
/// # Errors
/// The tag is empty, too long, or has a NUL: a sentence for the user.
pub fn config(tag: &str) -> Result<Vec<u8>, String> {
    if tag.is_empty() || tag.len() > MOST_TAG || tag.contains('\0') {
        return Err(format!("{tag:?} is no tag: it has 1 to {MOST_TAG} bytes"));
    }
    let mut config = tag.as_bytes().to_vec();
    config.resize(MOST_TAG, 0);
    config.extend(1u32.to_le_bytes());
    Ok(config)
}

/// The largest size of each queue.
#[must_use]
pub fn queue_sizes() -> Vec<u16> {
    QUEUES.to_vec()
}

/// The device.
pub struct Fs<S> {
    config: Vec<u8>,
    server: S,
}

impl<S: Server> Fs<S> {
    /// A guest mounts it by its tag.
    ///
    /// # Errors
    /// See [`config`].
    pub fn new(tag: &str, server: S) -> Result<Self, String> {
        Ok(Self { config: config(tag)?, server })
    }
}

impl<S> std::fmt::Debug for Fs<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs").finish_non_exhaustive()
    }
}

impl<S: Server> Device for Fs<S> {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUES
    }

    fn config(&self) -> Vec<u8> {
        self.config.clone()
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let Wake::Queue(index) = wake else { return Ok(used) };
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        while let Some(chain) = queue.pop(mem)? {
            let mut request = Request::new(chain, mem);
            self.server.serve(&mut request);
            queue.add_used(mem, request.into_chain())?;
            used.insert(index);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        self.server.reset();
    }

    fn save(&self) -> serde_json::Value {
        to_json(&())
    }

    fn restore(&mut self, _state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        // What the guest has open is of the process that serves it.
        Err(RestoreError::Content("a file system goes on only where it was begun"))
    }
}
