//! The loop around a device, written once for all transports: disable notifications, process, enable, look
//! again, notify if needed (virtio 1.2, sections 2.7.7 and 2.7.10).

use super::{Device, DeviceError, Mem, QueueSet, VirtQueue, Wake};

/// Rounds before the transport gets a turn: a driver that refills a ring for ever cannot hold the thread.
const MAX_ROUNDS: usize = 8;

/// What is left to do for the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Queues whose driver must be interrupted.
    pub notify: QueueSet,
    /// Queues that have more work: call [`drive`] for each after looking at everything else.
    pub again: QueueSet,
}

/// Lets `device` do the work that `wake` announces.
///
/// A queue whose chains the device leaves in place (a receive queue without data) causes no further round: only
/// queues from which something was taken are looked at again.
///
/// # Errors
/// The device's own; the transport must stop it.
pub fn drive(
    device: &mut dyn Device,
    wake: Wake,
    mem: &Mem,
    queues: &mut [VirtQueue],
) -> Result<Outcome, DeviceError> {
    let mut used = QueueSet::EMPTY;
    let mut todo = QueueSet::EMPTY;
    let mut next = Some(wake);
    for _ in 0..MAX_ROUNDS {
        let Some(wake) = next.take().or_else(|| todo.pop_first().map(Wake::Queue)) else { break };
        if let Wake::Queue(index) = wake {
            match queues.get_mut(index) {
                Some(queue) if queue.is_active() => queue.disable_notification(mem)?,
                _ => continue,
            }
        }
        let before: Vec<u16> = queues.iter().map(VirtQueue::position).collect();
        for queue in queues.iter_mut() {
            queue.refill_budget();
        }
        used = used.union(device.process(wake, mem, queues)?);
        for (index, (queue, before)) in queues.iter_mut().zip(before).enumerate() {
            let moved = queue.position() != before;
            if !queue.is_active() || !(moved || wake == Wake::Queue(index)) {
                continue;
            }
            if queue.enable_notification(mem)? && moved {
                todo.insert(index);
            }
        }
    }
    let mut notify = QueueSet::EMPTY;
    while let Some(index) = used.pop_first() {
        if let Some(queue) = queues.get_mut(index)
            && queue.is_active()
            && queue.needs_notification(mem)?
        {
            notify.insert(index);
        }
    }
    Ok(Outcome { notify, again: todo })
}
