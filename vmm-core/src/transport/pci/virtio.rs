//! A virtio device as a PCI function: its registers in one BAR (virtio 1.2, section 4.1.4).
//!
//! ```text
//!   0x0000 common   0x1000 interrupt status   0x2000 device   0x3000 doorbells, 4 bytes a queue   0x4000 MSI-X   0x5000 pending
//! ```

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_queue::QueueT as _;

use super::config::{ConfigSpace, Identity};
use super::msix::Msix;
use super::worker::Worker;
use super::{PciError, Platform};
use crate::virtio::{Device, Mem, QueueError, QueueSet, RemoteRing, VirtQueue, Wake, drive, features};

const VENDOR: u16 = 0x1af4;
/// Device ids are this plus the virtio device type.
const MODERN: u16 = 0x1040;
const COMMON: u64 = 0;
const COMMON_SIZE: u64 = 0x3c;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const DEVICE_SIZE: u64 = 0x1000;
const DOORBELLS: u64 = 0x3000;
const DOORBELL_STEP: u64 = 4;
const TABLE: u64 = 0x4000;
const PENDING: u64 = 0x5000;
/// `VIRTIO_MSI_NO_VECTOR`.
const NO_VECTOR: u16 = 0xffff;
/// The feature that has no meaning before the driver accepted it, and that modern devices insist on.
const VERSION_1: u64 = 1 << 32;

/// Device status bits (virtio 1.2, section 2.1).
mod status {
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 0x40;
}

/// A device on the bus, with a thread of its own that lets it work.
#[derive(Debug)]
pub struct VirtioPci {
    shared: Arc<Shared>,
    worker: Mutex<Option<Worker>>,
}

/// What processors and the device's thread share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Where the BAR is, or `u64::MAX`.
    bar: AtomicU64,
    /// Doorbells by queue.
    pub kicks: Vec<OwnedFd>,
    /// Wakes the thread because something changed.
    pub poke: OwnedFd,
    pub name: String,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the driver set for a queue.
#[derive(Debug, Clone, Copy)]
struct Ring {
    size: u16,
    vector: u16,
    enabled: bool,
    desc: u64,
    driver: u64,
    device: u64,
    /// Another process serves it, and interrupts by this vector.
    lent: Option<u16>,
    /// Where that process stopped.
    base: u16,
}

/// Everything of the function that changes.
pub(super) struct State {
    /// Gone only when the function was taken apart.
    device: Option<Box<dyn Device>>,
    platform: Arc<dyn Platform>,
    mem: Mem,
    queues: Vec<VirtQueue>,
    rings: Vec<Ring>,
    space: ConfigSpace,
    msix: Msix,
    msix_at: usize,
    window_at: usize,
    status: u8,
    isr: u8,
    feature_select: u32,
    driver_feature_select: u32,
    accepted: u64,
    config_vector: u16,
    generation: u8,
    queue_select: u16,
    /// Queues with work left from the last turn.
    pending: QueueSet,
    /// The processors stand still, and so does the device.
    paused: bool,
    /// Of a device whose queues another process serves.
    elsewhere: Option<Elsewhere>,
    /// The BAR whose doorbells the engine watches.
    heard: Option<u64>,
}

/// How far a device in another process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    Idle,
    /// It was told to begin.
    Begun,
    /// The driver asked for a reset, which the device's thread does.
    Resetting,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("status", &self.status)
            .field("rings", &self.rings)
            .finish_non_exhaustive()
    }
}

impl VirtioPci {
    /// Bytes of the BAR.
    pub const BAR_SIZE: u64 = 0x8000;

    /// Makes the function with its BAR at `bar`, and starts the device's thread.
    ///
    /// # Errors
    /// The device's queues, descriptors or the thread.
    pub fn new(
        mut device: Box<dyn Device>,
        mem: Mem,
        bar: u64,
        platform: Arc<dyn Platform>,
    ) -> Result<Arc<Self>, PciError> {
        let sizes = device.queue_sizes().to_vec();
        let queues = queues(&sizes)?;
        let elsewhere = device.remote().map(|_| Elsewhere::Idle);
        let kind = u16::try_from(device.device_type()).unwrap_or(0);
        let vectors = u16::try_from(sizes.len() + 1).unwrap_or(1);
        let identity = Identity {
            vendor: VENDOR,
            device: MODERN + kind,
            revision: 1,
            class: class(kind),
            subsystem: MODERN + kind,
        };
        let mut space = ConfigSpace::new(identity, Some((bar, Self::BAR_SIZE)));
        add_capabilities(&mut space, sizes.len());
        let window_at = space.add_capability(
            9,
            &capability(5, 0, 0, &[0; 4]),
            &[0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        );
        let table = |at: u64| u32::try_from(at).unwrap_or(0).to_le_bytes();
        let control = (vectors - 1).to_le_bytes();
        let body = [&control[..], &table(TABLE), &table(PENDING)].concat();
        let msix_at = space.add_capability(0x11, &body, &[0, 0xc0]);
        let descriptor = || {
            let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
            rustix::event::eventfd(0, flags).map_err(|e| PciError::Start(e.into()))
        };
        let state = State {
            device: Some(device),
            platform,
            mem,
            queues,
            rings: rings(&sizes),
            space,
            msix: Msix::new(vectors),
            msix_at,
            window_at,
            status: 0,
            isr: 0,
            feature_select: 0,
            driver_feature_select: 0,
            accepted: 0,
            config_vector: NO_VECTOR,
            generation: 0,
            queue_select: 0,
            pending: QueueSet::EMPTY,
            paused: false,
            elsewhere,
            heard: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            bar: AtomicU64::new(u64::MAX),
            kicks: sizes.iter().map(|_| descriptor()).collect::<Result<_, _>>()?,
            poke: descriptor()?,
            name: format!("virtio-{kind}"),
        });
        shared.move_bar(&mut shared.lock());
        let worker = Worker::start(shared.clone()).map_err(PciError::Start)?;
        Ok(Arc::new(Self { shared, worker: Mutex::new(Some(worker)) }))
    }

    /// Where its BAR is, while it listens there.
    pub fn bar(&self) -> Option<u64> {
        Some(self.shared.bar.load(Ordering::Acquire)).filter(|at| *at != u64::MAX)
    }

    /// Stops the device's thread and gives the device back, reset.
    pub fn take_apart(&self) -> Option<Box<dyn Device>> {
        drop(self.worker.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut state = self.shared.lock();
        state.recall();
        state.reset();
        self.shared.bar.store(u64::MAX, Ordering::Release);
        self.shared.watch_doorbells(&mut state);
        state.device.take()
    }

    /// Has the device stand still, or go on.
    pub fn pause(&self, paused: bool) {
        let mut state = self.shared.lock();
        state.paused = paused;
        state.tend(&self.shared);
        if !paused && !state.is_elsewhere() {
            // Kicks that came meanwhile were not looked at.
            let active =
                (0..state.queues.len()).filter(|i| state.queues.get(*i).is_some_and(VirtQueue::is_active));
            let active: Vec<usize> = active.collect();
            active.into_iter().for_each(|index| state.pending.insert(index));
        }
        drop(state);
        self.shared.poke();
    }

    /// Reads configuration space.
    pub fn read_config(&self, at: usize, out: &mut [u8]) {
        let state = self.shared.lock();
        let data = state.window_at + 16;
        if at < data + 4 && at + out.len() > data {
            let (address, length) = state.window();
            if at == data && out.len() == length {
                drop(state);
                return self.read_bar(address, out);
            }
        }
        state.space.read(at, out);
    }

    /// Writes configuration space.
    pub fn write_config(&self, at: usize, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let data = state.window_at + 16;
        if at == data {
            let (address, length) = state.window();
            if bytes.len() == length {
                drop(state);
                return self.write_bar(address, bytes);
            }
        }
        state.space.write(at, bytes);
        let mut control = [0; 2];
        state.space.read(state.msix_at + 2, &mut control);
        let platform = state.platform.clone();
        state.msix.set_control(u16::from_le_bytes(control), &*platform);
        self.shared.move_bar(&mut state);
    }

    /// Reads registers.
    pub fn read_bar(&self, at: u64, out: &mut [u8]) {
        let mut state = self.shared.lock();
        out.fill(0);
        let offset = |base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
        match at {
            COMMON..COMMON_SIZE => state.read_common(at, out),
            ISR => {
                // Reading clears it.
                let isr = std::mem::take(&mut state.isr);
                out.iter_mut().take(1).for_each(|byte| *byte = isr);
            }
            DEVICE..DOORBELLS => {
                let config = state.device.as_ref().map(|d| d.config()).unwrap_or_default();
                for (to, from) in out.iter_mut().zip(config.get(offset(DEVICE)..).unwrap_or_default()) {
                    *to = *from;
                }
            }
            TABLE..PENDING => state.msix.read_table(offset(TABLE), out),
            PENDING..Self::BAR_SIZE => state.msix.read_pending(offset(PENDING), out, &*state.platform),
            _ => {}
        }
    }

    /// Writes registers.
    pub fn write_bar(&self, at: u64, data: &[u8]) {
        let mut state = self.shared.lock();
        let offset = |base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
        match at {
            COMMON..COMMON_SIZE => {
                state.write_common(at, data);
                self.shared.watch_doorbells(&mut state);
                drop(state);
                // Which feature or queue is meant, and where a queue is, is nothing to the device yet.
                if !matches!(at, 0x00..0x10 | 0x16..0x1a | 0x20..0x38) {
                    self.shared.poke();
                }
            }
            DEVICE..DOORBELLS => {
                if let Some(device) = &mut state.device {
                    device.write_config(offset(DEVICE), data);
                }
            }
            DOORBELLS..TABLE => {
                drop(state);
                let queue = usize::try_from((at - DOORBELLS) / DOORBELL_STEP).unwrap_or(usize::MAX);
                if let Some(kick) = self.shared.kicks.get(queue) {
                    signal(kick);
                }
            }
            TABLE..PENDING => {
                let platform = state.platform.clone();
                state.msix.write_table(offset(TABLE), data, &*platform);
            }
            _ => {}
        }
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        drop(self.take_apart());
    }
}

impl Shared {
    pub fn poke(&self) {
        signal(&self.poke);
    }

    /// Follows the BAR to where the guest put it.
    fn move_bar(&self, state: &mut State) {
        self.bar.store(state.space.bar().unwrap_or(u64::MAX), Ordering::Release);
        self.watch_doorbells(state);
    }

    /// Has the engine watch the doorbells while a driver uses them, where they are. Each costs a call that waits for all
    /// processors, and a guest that looks for its devices switches their registers off and on many times.
    fn watch_doorbells(&self, state: &mut State) {
        let bar = Some(self.bar.load(Ordering::Acquire)).filter(|at| *at != u64::MAX);
        let wanted = bar.filter(|_| state.status & status::DRIVER_OK != 0);
        if wanted == state.heard {
            return;
        }
        let doorbells = |bar: u64| {
            let addresses = (0..).map(move |queue| bar + DOORBELLS + DOORBELL_STEP * queue);
            addresses.zip(&self.kicks)
        };
        for (address, kick) in state.heard.into_iter().flat_map(doorbells) {
            state.platform.forget_doorbell(address, kick.as_fd());
        }
        for (address, kick) in wanted.into_iter().flat_map(doorbells) {
            if let Err(error) = state.platform.watch_doorbell(address, kick.as_fd()) {
                tracing::debug!(%error, "a doorbell is heard the long way");
            }
        }
        state.heard = wanted;
    }
}

fn signal(fd: &OwnedFd) {
    // A full counter means that the signal is pending already.
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

fn queues(sizes: &[u16]) -> Result<Vec<VirtQueue>, QueueError> {
    sizes.iter().enumerate().map(|(index, size)| VirtQueue::new(index, *size)).collect()
}

fn rings(sizes: &[u16]) -> Vec<Ring> {
    let ring = |size: &u16| Ring {
        size: *size,
        vector: NO_VECTOR,
        enabled: false,
        desc: 0,
        driver: 0,
        device: 0,
        lent: None,
        base: 0,
    };
    sizes.iter().map(ring).collect()
}

/// Class codes (PCI Code and ID Assignment) by device type.
fn class(kind: u16) -> [u8; 3] {
    match kind {
        1 => [0x02, 0x00, 0],
        2 => [0x01, 0x80, 0],
        16 => [0x03, 0x80, 0],
        18 => [0x09, 0x80, 0],
        26 => [0x01, 0x80, 0],
        _ => [0xff, 0x00, 0],
    }
}

/// The body of a `virtio_pci_cap`, behind id and link.
fn capability(kind: u8, offset: u64, length: u64, more: &[u8]) -> Vec<u8> {
    let word = |value: u64| u32::try_from(value).unwrap_or(0).to_le_bytes();
    let size = u8::try_from(16 + more.len()).unwrap_or(0);
    [&[size, kind, 0, 0, 0, 0][..], &word(offset), &word(length), more].concat()
}

fn add_capabilities(space: &mut ConfigSpace, queues: usize) {
    let step = u32::try_from(DOORBELL_STEP).unwrap_or(0).to_le_bytes();
    let doorbells = DOORBELL_STEP * queues as u64;
    for (kind, offset, length, more) in [
        (1, COMMON, COMMON_SIZE, &[][..]),
        (3, ISR, 1, &[]),
        (4, DEVICE, DEVICE_SIZE, &[]),
        (2, DOORBELLS, doorbells, &step),
    ] {
        space.add_capability(9, &capability(kind, offset, length, more), &[]);
    }
}

impl State {
    /// Address and length that the access capability names (section 4.1.4.9); only BAR 0 is there.
    fn window(&self) -> (u64, usize) {
        let mut bytes = [0; 12];
        self.space.read(self.window_at + 4, &mut bytes);
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let length = if bytes[0] == 0 { usize::try_from(word(8)).unwrap_or(0) } else { 0 };
        (word(4).into(), if matches!(length, 1 | 2 | 4) { length } else { 0 })
    }

    fn offered(&self) -> u64 {
        self.device.as_ref().map_or(features::TRANSPORT, |d| d.features() | d.transport_features())
    }

    fn common(&self) -> [u8; 0x3c] {
        let mut out = [0; 0x3c];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in out.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        let half = |bits: u64, select: u32| match select {
            0 => u32::try_from(bits & 0xffff_ffff).unwrap_or(0),
            1 => u32::try_from(bits >> 32).unwrap_or(0),
            _ => 0,
        };
        put(0x00, &self.feature_select.to_le_bytes());
        put(0x04, &half(self.offered(), self.feature_select).to_le_bytes());
        put(0x08, &self.driver_feature_select.to_le_bytes());
        put(0x0c, &half(self.accepted, self.driver_feature_select).to_le_bytes());
        put(0x10, &self.config_vector.to_le_bytes());
        put(0x12, &u16::try_from(self.rings.len()).unwrap_or(0).to_le_bytes());
        put(0x14, &[self.status, self.generation]);
        put(0x16, &self.queue_select.to_le_bytes());
        if let Some(ring) = self.rings.get(usize::from(self.queue_select)) {
            put(0x18, &ring.size.to_le_bytes());
            put(0x1a, &ring.vector.to_le_bytes());
            put(0x1c, &u16::from(ring.enabled).to_le_bytes());
            put(0x1e, &self.queue_select.to_le_bytes());
            put(0x20, &ring.desc.to_le_bytes());
            put(0x28, &ring.driver.to_le_bytes());
            put(0x30, &ring.device.to_le_bytes());
        } else {
            put(0x1a, &NO_VECTOR.to_le_bytes());
        }
        out
    }

    fn read_common(&self, at: u64, out: &mut [u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        for (to, from) in out.iter_mut().zip(self.common().get(at..).unwrap_or_default()) {
            *to = *from;
        }
    }

    fn write_common(&mut self, at: u64, data: &[u8]) {
        if self.elsewhere == Some(Elsewhere::Resetting) {
            // The driver waits until the status is 0 (section 4.1.4.3.2).
            return;
        }
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u64::from_le_bytes(bytes);
        let word = u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        let short = u16::try_from(value & 0xffff).unwrap_or(0);
        let vector = if self.msix.has(short) { short } else { NO_VECTOR };
        let negotiating = self.status & status::FEATURES_OK == 0;
        match (at, data.len()) {
            (0x00, 4) => self.feature_select = word,
            (0x08, 4) => self.driver_feature_select = word,
            (0x0c, 4) if negotiating => match self.driver_feature_select {
                0 => self.accepted = self.accepted & !0xffff_ffff | u64::from(word),
                1 => self.accepted = self.accepted & 0xffff_ffff | u64::from(word) << 32,
                _ => {}
            },
            (0x10, 2) => self.config_vector = vector,
            (0x14, 1) => self.set_status(bytes[0]),
            (0x16, 2) => self.queue_select = short,
            (0x1a, 2) => {
                if let Some(ring) = self.rings.get_mut(usize::from(self.queue_select)) {
                    ring.vector = vector;
                }
            }
            (0x1c, 2) if short == 1 => self.enable(usize::from(self.queue_select)),
            (0x3a, 2) if short == 1 => self.reset_queue(usize::from(self.queue_select)),
            _ => self.write_ring(at, data.len(), value, word),
        }
    }

    /// Addresses and size of a ring, before it is enabled.
    fn write_ring(&mut self, at: u64, length: usize, value: u64, word: u32) {
        let Some(ring) = self.rings.get_mut(usize::from(self.queue_select)).filter(|ring| !ring.enabled)
        else {
            return;
        };
        let (low, high) = (
            |old: u64| old & !0xffff_ffff | u64::from(word),
            |old: u64| old & 0xffff_ffff | u64::from(word) << 32,
        );
        match (at, length) {
            (0x18, 2) => ring.size = u16::try_from(word & 0xffff).unwrap_or(0),
            (0x20, 8) => ring.desc = value,
            (0x28, 8) => ring.driver = value,
            (0x30, 8) => ring.device = value,
            (0x20, 4) => ring.desc = low(ring.desc),
            (0x24, 4) => ring.desc = high(ring.desc),
            (0x28, 4) => ring.driver = low(ring.driver),
            (0x2c, 4) => ring.driver = high(ring.driver),
            (0x30, 4) => ring.device = low(ring.device),
            (0x34, 4) => ring.device = high(ring.device),
            _ => {}
        }
    }

    fn set_status(&mut self, new: u8) {
        if new == 0 {
            match &mut self.elsewhere {
                Some(turn @ Elsewhere::Begun) => *turn = Elsewhere::Resetting,
                _ => self.reset(),
            }
            return;
        }
        let was = self.status;
        // Bits are only added, and the device's own is not the driver's.
        self.status |= new & !status::NEEDS_RESET;
        if self.status & status::FEATURES_OK != 0 && was & status::FEATURES_OK == 0 {
            if self.accepted & !self.offered() != 0 || self.accepted & VERSION_1 == 0 {
                self.status &= !status::FEATURES_OK;
            } else {
                let accepted = self.accepted;
                if let Some(device) = &mut self.device {
                    let own = device.features();
                    device.accept_features(accepted & own);
                }
                for queue in &mut self.queues {
                    queue.setup().set_event_idx(accepted & features::EVENT_IDX != 0);
                }
            }
        }
        if self.status & status::DRIVER_OK != 0 && was & status::DRIVER_OK == 0 {
            for index in 0..self.rings.len() {
                self.start(index);
            }
        }
    }

    fn enable(&mut self, index: usize) {
        let Some((ring, queue)) = self.rings.get_mut(index).zip(self.queues.get_mut(index)) else { return };
        if ring.enabled || self.status & status::FEATURES_OK == 0 {
            return;
        }
        let placed = queue
            .setup()
            .try_set_size(ring.size)
            .map_err(QueueError::from)
            .and_then(|()| queue.set_addresses(ring.desc, ring.driver, ring.device));
        if let Err(error) = placed {
            tracing::warn!(%error, index, "the guest sets up a bad queue");
            return self.fail();
        }
        ring.enabled = true;
        self.start(index);
    }

    fn start(&mut self, index: usize) {
        let runs = self.status & status::DRIVER_OK != 0 && self.status & status::NEEDS_RESET == 0;
        if let Some((ring, queue)) = self.rings.get(index).zip(self.queues.get_mut(index))
            && runs
            && ring.enabled
            && self.elsewhere.is_none()
        {
            queue.set_active(true);
            // It may hold buffers already.
            self.pending.insert(index);
        }
    }

    /// Queue reset (section 2.6.1): done at once.
    fn reset_queue(&mut self, index: usize) {
        let Some(device) = &self.device else { return };
        if self.accepted & features::RING_RESET == 0 {
            return;
        }
        let sizes = device.queue_sizes().to_vec();
        let Some(size) = sizes.get(index) else { return };
        let event_idx = self.accepted & features::EVENT_IDX != 0;
        let fresh = VirtQueue::new(index, *size);
        if let (Ok(mut fresh), Some(queue), Some(ring)) =
            (fresh, self.queues.get_mut(index), self.rings.get_mut(index))
        {
            fresh.setup().set_event_idx(event_idx);
            *queue = fresh;
            *ring = Ring { vector: ring.vector, ..rings(&[*size])[0] };
        }
    }

    fn reset(&mut self) {
        if let Some(device) = &mut self.device {
            let sizes = device.queue_sizes().to_vec();
            // They were made of these sizes before.
            if let Ok(queues) = queues(&sizes) {
                self.queues = queues;
            }
            self.rings = rings(&sizes);
            device.reset();
        }
        self.status = 0;
        self.isr = 0;
        self.accepted = 0;
        self.feature_select = 0;
        self.driver_feature_select = 0;
        self.config_vector = NO_VECTOR;
        self.queue_select = 0;
        self.pending = QueueSet::EMPTY;
    }

    /// The device gave up: the driver has to reset it.
    pub fn fail(&mut self) {
        self.status |= status::NEEDS_RESET;
        self.pending = QueueSet::EMPTY;
        self.queues.iter_mut().for_each(|queue| queue.set_active(false));
        self.config_changed();
    }

    fn config_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.status & status::DRIVER_OK != 0 {
            self.isr |= 2;
            self.interrupt(self.config_vector);
        }
    }

    fn interrupt(&self, vector: u16) {
        if let Some(line) = self.platform.line(vector) {
            // A full counter means that it is pending already.
            let _ = rustix::io::write(line, &1u64.to_ne_bytes());
        }
    }

    /// Whether another process serves the queues, and takes the doorbells.
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Has another process serve what is to be served, and nothing else. Waits for it.
    pub fn tend(&mut self, shared: &Shared) {
        if !self.is_elsewhere() {
            return;
        }
        if self.elsewhere == Some(Elsewhere::Resetting) {
            self.recall();
            self.reset();
        }
        let ready = self.status & status::DRIVER_OK != 0 && self.status & status::NEEDS_RESET == 0;
        let done = if ready && !self.paused {
            self.lend(shared)
        } else {
            self.recall();
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!(%error, device = shared.name, "another process does not serve a device; it stops");
            self.fail();
            self.recall();
        }
        shared.watch_doorbells(self);
    }

    fn lend(&mut self, shared: &Shared) -> std::io::Result<()> {
        let Some(remote) = self.device.as_mut().and_then(|device| device.remote()) else { return Ok(()) };
        if self.elsewhere != Some(Elsewhere::Begun) {
            // Also after an error in it there is something to recall.
            self.elsewhere = Some(Elsewhere::Begun);
            remote.begin(self.accepted, &self.mem)?;
        }
        for (index, (ring, kick)) in self.rings.iter_mut().zip(&shared.kicks).enumerate() {
            if !ring.enabled {
                continue;
            }
            let call = self.platform.line(ring.vector);
            match ring.lent {
                Some(vector) if vector == ring.vector => {}
                Some(_) => remote.set_call(index, call)?,
                None => {
                    let there = RemoteRing {
                        size: ring.size,
                        desc: ring.desc,
                        avail: ring.driver,
                        used: ring.device,
                        base: ring.base,
                        kick: kick.as_fd(),
                        call,
                    };
                    remote.start(index, &there, &self.mem)?;
                }
            }
            ring.lent = Some(ring.vector);
        }
        Ok(())
    }

    fn recall(&mut self) {
        match &mut self.elsewhere {
            None | Some(Elsewhere::Idle) => return,
            Some(turn) => *turn = Elsewhere::Idle,
        }
        let Some(remote) = self.device.as_mut().and_then(|device| device.remote()) else { return };
        for (index, ring) in self.rings.iter_mut().enumerate() {
            if ring.lent.take().is_some() {
                match remote.stop(index) {
                    Ok(base) => ring.base = base,
                    Err(error) => tracing::debug!(%error, index, "another process did not give a queue back"),
                }
            }
        }
    }

    /// The device, while it is to be served.
    pub fn serving(&self) -> Option<&dyn Device> {
        self.device.as_deref().filter(|_| !self.paused && self.status & status::NEEDS_RESET == 0)
    }

    /// The device, whatever its state.
    pub fn any(&self) -> Option<&dyn Device> {
        self.device.as_deref()
    }

    /// Whether there is work that needs no event.
    pub fn has_work(&self) -> bool {
        !self.paused && !self.pending.is_empty()
    }

    /// Lets the device do what was left over.
    pub fn work_pending(&mut self) {
        if self.paused {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        while let Some(index) = pending.pop_first() {
            self.work(Wake::Queue(index));
        }
    }

    /// Lets the device work and interrupts the driver as needed.
    pub fn work(&mut self, wake: Wake) {
        if self.serving().is_none() {
            return;
        }
        let Some(device) = &mut self.device else { return };
        match drive(device.as_mut(), wake, &self.mem, &mut self.queues) {
            Ok(mut outcome) => {
                if device.config_changed() {
                    self.config_changed();
                }
                self.pending = self.pending.union(outcome.again);
                while let Some(index) = outcome.notify.pop_first() {
                    self.isr |= 1;
                    if let Some(ring) = self.rings.get(index) {
                        self.interrupt(ring.vector);
                    }
                }
            }
            Err(error) => {
                let kind = device.device_type();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(device = kind, error, "the guest broke a device; it stops");
                self.fail();
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::{AsRawFd as _, BorrowedFd};

    use super::super::Message;
    use super::*;
    use crate::devices::rng::Rng;
    use crate::transport::tests::shared_ram;

    const PLACE: u64 = 0xe000_0000;
    const COMMAND: usize = 4;
    const STATUS: u64 = 0x14;

    /// Watches doorbells, and counts how often it was asked for anything.
    #[derive(Debug, Default)]
    pub struct Watcher(Mutex<(BTreeMap<u64, i32>, u32)>);

    impl Watcher {
        fn watched(&self) -> Vec<u64> {
            self.0.lock().unwrap().0.keys().copied().collect()
        }
    }

    impl Platform for Watcher {
        fn set_message(&self, _: u16, _: Message) -> std::io::Result<()> {
            Ok(())
        }

        fn connect(&self, _: u16, _: bool) -> std::io::Result<()> {
            Ok(())
        }

        fn line(&self, _: u16) -> Option<BorrowedFd<'_>> {
            None
        }

        fn watch_doorbell(&self, address: u64, kick: BorrowedFd<'_>) -> std::io::Result<()> {
            let mut watched = self.0.lock().unwrap();
            watched.1 += 1;
            assert_eq!(watched.0.insert(address, kick.as_raw_fd()), None, "watched already");
            Ok(())
        }

        fn forget_doorbell(&self, address: u64, kick: BorrowedFd<'_>) {
            let mut watched = self.0.lock().unwrap();
            watched.1 += 1;
            assert_eq!(watched.0.remove(&address), Some(kick.as_raw_fd()), "watched before");
        }
    }

    #[test]
    fn doorbells_are_watched_while_a_driver_uses_them() {
        let watcher = Arc::new(Watcher::default());
        let function = VirtioPci::new(Box::new(Rng), shared_ram(), PLACE, watcher.clone()).unwrap();
        let decode = |on: u8| function.write_config(COMMAND, &[on << 1, 0]);
        let set = |value: u8| function.write_bar(STATUS, &[value]);
        for _ in 0..10 {
            decode(0);
            decode(1);
        }
        assert_eq!(*watcher.0.lock().unwrap(), (BTreeMap::new(), 0), "no driver is there yet");

        set(3);
        function.write_bar(0x08, &1_u32.to_le_bytes());
        function.write_bar(0x0c, &1_u32.to_le_bytes());
        set(11);
        set(15);
        assert_eq!(watcher.watched(), [PLACE + DOORBELLS]);
        set(15);
        decode(0);
        assert_eq!(watcher.watched(), [0_u64; 0]);
        assert_eq!(function.bar(), None);
        function.write_config(0x10, &0xe100_0000_u64.to_le_bytes());
        decode(1);
        assert_eq!(watcher.watched(), [0xe100_0000 + DOORBELLS]);
        set(0);
        assert_eq!(watcher.watched(), [0_u64; 0]);

        set(3);
        set(7);
        assert_eq!(watcher.watched().len(), 1);
        assert!(function.take_apart().is_some());
        assert_eq!(watcher.watched(), [0_u64; 0]);
        assert_eq!(function.bar(), None);
    }
}
