//! The device's side of the vhost-user messages: rings are set up, started and stopped, the device is driven.
//!
//! ```text
//!   SET_VRING_NUM/ADDR/BASE/KICK/CALL, SET_VRING_ENABLE 1          GET_VRING_BASE or SET_VRING_ENABLE 0
//!   stopped ------------------------------------------> running ----------------------------------> stopped
//! ```
//!
//! vhost-user tells a back end neither that the driver reset the device nor that the machine was only paused: both stop
//! all rings. They differ in where the rings start again. After a pause it is where they stopped; after a reset it is
//! 0. So a ring that starts elsewhere than it stopped means that the device was reset in between.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::QueueT;

use super::memory::{MemoryObserver, MemoryTable};
use crate::virtio::{Device, DeviceError, QueueError, QueueSet, VirtQueue, Wake, drive, features};

/// How long a queue is looked at for its next chain.
const LOOK: Duration = Duration::from_micros(250);

const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// What the front end set for a ring, beside the queue itself.
#[derive(Default)]
struct Vring {
    kick: Option<Arc<OwnedFd>>,
    call: Option<OwnedFd>,
    err: Option<OwnedFd>,
    enabled: bool,
    started: bool,
    stopped_at: Option<u16>,
}

/// A device with its rings and memory, as one front end sees them.
pub(super) struct Backend {
    device: Box<dyn Device>,
    observer: Option<Box<dyn MemoryObserver>>,
    memory: Option<MemoryTable>,
    queues: Vec<VirtQueue>,
    vrings: Vec<Vring>,
    accepted: u64,
    /// Queues with work left from the last turn.
    pending: QueueSet,
    /// The queue that was worked on last, until when that took, and whether its driver asks so fast that it is looked at for a while.
    newest: Option<usize>,
    ended: Instant,
    looks: bool,
    /// The device gave up; only a reset brings it back.
    failed: bool,
    /// QEMU's display channel for a GPU: held, because QEMU expects a peer, and unused, because no scanout is ever on.
    _display: Option<GpuBackend>,
}

impl Backend {
    pub fn new(
        device: Box<dyn Device>,
        observer: Option<Box<dyn MemoryObserver>>,
    ) -> std::result::Result<Self, QueueError> {
        let sizes = device.queue_sizes();
        let queues = sizes
            .iter()
            .enumerate()
            .map(|(i, size)| VirtQueue::new(i, *size))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let vrings = sizes.iter().map(|_| Vring::default()).collect();
        Ok(Self {
            device,
            observer,
            memory: None,
            queues,
            vrings,
            accepted: 0,
            pending: QueueSet::EMPTY,
            newest: None,
            ended: Instant::now(),
            looks: false,
            failed: false,
            _display: None,
        })
    }

    /// The device's host source; none while the device has given up, because nobody would read it.
    pub fn host_source(&self) -> Option<BorrowedFd<'_>> {
        self.device.host_source().filter(|_| !self.failed)
    }

    /// The device's host source, whatever its state.
    pub fn any_host_source(&self) -> Option<BorrowedFd<'_>> {
        self.device.host_source()
    }

    /// The kick descriptors to wait for, by queue: those of running rings.
    pub fn kicks(&self) -> Vec<Option<Arc<OwnedFd>>> {
        self.queues.iter().zip(&self.vrings).map(|(q, v)| v.kick.clone().filter(|_| q.is_active())).collect()
    }

    /// Whether there is work that needs no event.
    pub fn has_work(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A ring was kicked: forgets the kick and lets the device work.
    pub fn kicked(&mut self, queue: u32) {
        let Ok(index) = usize::try_from(queue) else { return };
        let Some(kick) = self.vrings.get(index).and_then(|v| v.kick.clone()) else { return };
        // The count does not matter, and a kick of a descriptor that was replaced meanwhile reads as nothing.
        let _ = rustix::io::read(&*kick, &mut [0; 8]);
        self.looks |= self.device.is_waited_for() && self.ended.elapsed() < LOOK;
        self.newest = Some(index);
        self.work(Wake::Queue(index));
    }

    /// Looks for the next chain of the queue that was worked on last, for a moment, where the driver seems to put one after the other: to
    /// sleep and to be woken takes longer than most requests do.
    pub fn look_on(&mut self) {
        let Some(index) = self.newest.filter(|_| !self.failed) else { return };
        if self.looks && self.pending.is_empty() {
            match self.look(index) {
                Ok(true) => self.pending.insert(index),
                Ok(false) => self.looks = false,
                // The next that is taken from it meets the same error, and says so.
                Err(_) => (self.looks, self.newest) = (false, None),
            }
        }
        if self.pending.is_empty() {
            self.newest = None;
        }
        self.ended = Instant::now();
    }

    /// Whether there is a chain within a moment; its driver does not kick then.
    fn look(&mut self, index: usize) -> std::result::Result<bool, DeviceError> {
        let (Some(table), Some(queue)) = (&self.memory, self.queues.get_mut(index)) else { return Ok(false) };
        if !queue.is_active() {
            return Ok(false);
        }
        queue.disable_notification(&table.mem)?;
        let end = Instant::now() + LOOK;
        while Instant::now() < end {
            if queue.has_next(&table.mem)? {
                return Ok(true);
            }
            // Whoever else is to run here goes first: the guest, perhaps.
            std::thread::yield_now();
        }
        queue.enable_notification(&table.mem)
    }

    /// Lets the device do what was left over.
    pub fn work_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        while let Some(index) = pending.pop_first() {
            self.work(Wake::Queue(index));
        }
    }

    /// Lets the device work and interrupts the driver as needed.
    pub fn work(&mut self, wake: Wake) {
        if self.failed {
            return;
        }
        // Before the guest's driver is up the device still serves its host side: it has memory without running rings.
        let empty;
        let mem = match &self.memory {
            Some(table) => &table.mem,
            None => {
                empty = crate::virtio::Mem::new();
                &empty
            }
        };
        match drive(self.device.as_mut(), wake, mem, &mut self.queues) {
            Ok(mut outcome) => {
                self.pending = self.pending.union(outcome.again);
                while let Some(index) = outcome.notify.pop_first() {
                    signal(self.vrings.get(index).and_then(|v| v.call.as_ref()));
                }
            }
            Err(error) => {
                let kind = self.device.device_type();
                tracing::warn!(
                    device = kind,
                    error = &error as &dyn std::error::Error,
                    "the guest broke a device; it stops"
                );
                self.fail();
            }
        }
    }

    fn fail(&mut self) {
        self.failed = true;
        self.pending = QueueSet::EMPTY;
        for (queue, vring) in self.queues.iter_mut().zip(&self.vrings) {
            queue.set_active(false);
            signal(vring.err.as_ref());
        }
    }

    fn reset(&mut self) {
        self.failed = false;
        self.pending = QueueSet::EMPTY;
        for vring in &mut self.vrings {
            vring.stopped_at = None;
        }
        self.device.reset();
    }

    /// The front end is gone.
    pub fn shut_down(&mut self) {
        for queue in &mut self.queues {
            queue.set_active(false);
        }
        self.reset();
        self.memory = None;
    }

    /// Starts or stops a ring as its settings say; a ring that starts is looked at once without a kick.
    fn update_ring(&mut self, index: usize) {
        let (Some(queue), Some(vring)) = (self.queues.get_mut(index), self.vrings.get(index)) else { return };
        let run = vring.started && vring.enabled && vring.kick.is_some() && !self.failed;
        if run != queue.is_active() {
            queue.set_active(run);
            if run {
                self.pending.insert(index);
            }
        }
    }

    fn queue(&mut self, index: u32) -> Result<&mut VirtQueue> {
        usize::try_from(index).ok().and_then(|i| self.queues.get_mut(i)).ok_or(Error::InvalidParam)
    }

    fn vring(&mut self, index: impl Into<u32>) -> Result<(usize, &mut Vring)> {
        let index = usize::try_from(index.into()).map_err(|_| Error::InvalidParam)?;
        self.vrings.get_mut(index).map(|v| (index, v)).ok_or(Error::InvalidParam)
    }
}

/// Writes an eventfd; a full counter means that the signal is pending already.
fn signal(fd: Option<&OwnedFd>) {
    if let Some(fd) = fd
        && let Err(error) = rustix::io::write(fd, &1u64.to_ne_bytes())
        && error != rustix::io::Errno::AGAIN
    {
        tracing::warn!(%error, "cannot signal the front end");
    }
}

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::ReqHandlerError(io::Error::new(io::ErrorKind::Unsupported, what)))
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        for index in 0..self.vrings.len() {
            if let Some(vring) = self.vrings.get_mut(index) {
                vring.enabled = false;
            }
            self.update_ring(index);
        }
        self.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.device.features() | features::TRANSPORT | PROTOCOL_FEATURES)
    }

    fn set_features(&mut self, accepted: u64) -> Result<()> {
        let offered = self.get_features()?;
        if accepted & !offered != 0 {
            return Err(Error::FeatureMismatch);
        }
        self.accepted = accepted;
        self.device.accept_features(accepted & self.device.features());
        for queue in &mut self.queues {
            queue.setup().set_event_idx(accepted & features::EVENT_IDX != 0);
        }
        if accepted & PROTOCOL_FEATURES == 0 {
            for index in 0..self.vrings.len() {
                if let Some(vring) = self.vrings.get_mut(index) {
                    vring.enabled = true;
                }
                self.update_ring(index);
            }
        }
        Ok(())
    }

    fn set_mem_table(&mut self, table: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let new = MemoryTable::map(table, files)?;
        let changed = self.memory.as_ref().is_none_or(|old| !old.same_ram(&new));
        if changed && let Some(observer) = &mut self.observer {
            observer.memory_changed(&new.regions);
        }
        self.memory = Some(new);
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.queue(index)?.setup().try_set_size(size).map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let memory = self.memory.as_ref().ok_or(Error::InvalidParam)?;
        let translate = |addr| memory.translate(addr).ok_or(Error::InvalidParam);
        let (desc, avail, used) = (translate(descriptor)?, translate(available)?, translate(used)?);
        let queue =
            usize::try_from(index).ok().and_then(|i| self.queues.get_mut(i)).ok_or(Error::InvalidParam)?;
        queue.set_addresses(desc, avail, used).map_err(|_| Error::InvalidParam)?;
        // SET_VRING_BASE names only the available index; the used index is where the ring itself says.
        let at = queue.setup().used_idx(&memory.mem, std::sync::atomic::Ordering::Acquire);
        queue.setup().set_next_used(at.map_err(|_| Error::InvalidParam)?.0);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        let (_, vring) = self.vring(index)?;
        if vring.stopped_at.take().is_some_and(|at| at != base) {
            tracing::debug!(device = self.device.device_type(), "the driver reset the device");
            self.reset();
        }
        self.queue(index)?.setup().set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let at = self.queue(index)?.setup().next_avail();
        let (slot, vring) = self.vring(index)?;
        vring.started = false;
        vring.kick = None;
        vring.call = None;
        vring.stopped_at = Some(at);
        self.update_ring(slot);
        Ok(VhostUserVringState::new(index, u32::from(at)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (slot, vring) = self.vring(index)?;
        // Without a descriptor the ring would have to be polled; QEMU never asks for that.
        let kick: OwnedFd = fd.ok_or(Error::IncorrectFds)?.into();
        rustix::io::ioctl_fionbio(&kick, true).map_err(|e| Error::ReqHandlerError(e.into()))?;
        vring.kick = Some(Arc::new(kick));
        vring.started = true;
        self.update_ring(slot);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.vring(index)?.1.call = fd.map(OwnedFd::from);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.vring(index)?.1.err = fd.map(OwnedFd::from);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.queues.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let (slot, vring) = self.vring(index)?;
        vring.enabled = enable;
        self.update_ring(slot);
        Ok(())
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        // A front end may ask for more than there is: the rest reads as zero.
        let (offset, size) = (u64::from(offset), u64::from(size));
        let (Ok(offset), Ok(size)) = (usize::try_from(offset), usize::try_from(size)) else {
            return Err(Error::InvalidParam);
        };
        let config = self.device.config();
        let mut bytes = config.get(offset..).unwrap_or_default().to_vec();
        bytes.resize(size, 0);
        Ok(bytes)
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.device.write_config(usize::try_from(offset).map_err(|_| Error::InvalidParam)?, data);
        Ok(())
    }

    fn set_gpu_socket(&mut self, display: GpuBackend) -> Result<()> {
        self._display = Some(display);
        Ok(())
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported("shared objects")
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unsupported("in-flight tracking")
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        unsupported("in-flight tracking")
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unsupported("memory slots")
    }

    fn add_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion, _fd: File) -> Result<()> {
        unsupported("memory slots")
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported("memory slots")
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        unsupported("device state")
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported("device state")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported("shared memory regions")
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported("dirty logging")
    }
}
