//! The virtio-gpu device: its two queues, its commands, its answers (virtio 1.2, sections 5.7.2 and 5.7.6).

use std::os::fd::{AsFd as _, BorrowedFd};

use serde::{Deserialize, Serialize};
use vm_memory::{ByteValued, GuestAddress, GuestMemory, Le32};

use super::edid::edid;
use super::protocol::{self as p, AttachBacking, CtrlHdr, MemEntry, Rect, ResourceCreate2d, ResourceId};
use super::resources::{GpuLimits, Resource, RunList, Table, TableError};
use super::screen::{Area, CursorImage, Scanout, ScreenHandle};
use super::{ResourceInfo, ResourceObserver};
use crate::virtio::{
    Chain, ChainError, Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json,
};

/// The virtio device id of a GPU.
const DEVICE_TYPE: u32 = 16;
const CONTROL: usize = 0;
const CURSOR: usize = 1;
const QUEUE_SIZES: [u16; 2] = [256, 16];
/// Page entries read from the guest at a time.
const ENTRY_BATCH: usize = 256;

/// No device lives long enough to come here.
const MOST_GENERATIONS: u64 = 1 << 62;

/// All state of the device, for save and restore.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuState {
    next_generation: u64,
    resources: Vec<(u32, Resource)>,
    scanout: Option<(u32, Area)>,
    cursor: Option<Cursor>,
    events: u32,
}

/// What the driver made the pointer's image.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cursor {
    id: u32,
    hot_x: u32,
    hot_y: u32,
}

/// A virtio-gpu with 2D resources and one scanout.
pub struct Gpu {
    table: Table,
    observer: Box<dyn ResourceObserver>,
    screen: ScreenHandle,
    /// The display as the driver was told of it.
    told: Option<(u32, u32)>,
    /// Events that the driver has not cleared (`events_read`).
    events: u32,
    /// The resource on the screen and the part of it.
    scanout: Option<(u32, Area)>,
    cursor: Option<Cursor>,
}

/// An answer other than "unknown": what follows the header.
enum Reply {
    NoData,
    DisplayInfo(Option<(u32, u32)>),
    Edid(Box<[u8; 128]>),
    Error(u32),
}

impl From<TableError> for Reply {
    fn from(error: TableError) -> Self {
        Self::Error(match error {
            TableError::NoSuchResource | TableError::IdInUse => p::RESP_ERR_INVALID_RESOURCE_ID,
            TableError::Invalid => p::RESP_ERR_INVALID_PARAMETER,
            TableError::LimitReached => p::RESP_ERR_OUT_OF_MEMORY,
        })
    }
}

impl Gpu {
    /// Makes the device; `observer` learns of every backed resource, and of what is on the screen.
    pub fn new(limits: GpuLimits, observer: Box<dyn ResourceObserver>, screen: ScreenHandle) -> Self {
        let told = screen.display();
        Self { table: Table::new(limits), observer, screen, told, events: 0, scanout: None, cursor: None }
    }

    fn control(&mut self, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
        let header: CtrlHdr = chain.read_obj(mem)?;
        let reply = match self.command(&header, chain, mem) {
            Ok(reply) => reply,
            // Too short a command: the guest's own fault, told in the answer.
            Err(ChainError::ShortRead) => Reply::Error(p::RESP_ERR_INVALID_PARAMETER),
            Err(other) => return Err(other),
        };
        answer(&header, &reply, chain, mem)
    }

    fn command(&mut self, header: &CtrlHdr, chain: &mut Chain, mem: &Mem) -> Result<Reply, ChainError> {
        Ok(match header.cmd.to_native() {
            p::CMD_GET_DISPLAY_INFO => Reply::DisplayInfo(self.screen.display()),
            p::CMD_GET_EDID => self.edid(&chain.read_obj(mem)?),
            p::CMD_RESOURCE_CREATE_2D => self.create(&chain.read_obj(mem)?),
            p::CMD_RESOURCE_UNREF => self.unref(chain.read_obj::<ResourceId>(mem)?.resource_id.to_native()),
            p::CMD_SET_SCANOUT => self.set_scanout(&chain.read_obj(mem)?),
            p::CMD_RESOURCE_FLUSH => {
                let flush: p::ResourceFlush = chain.read_obj(mem)?;
                self.flush(&flush)
            }
            p::CMD_TRANSFER_TO_HOST_2D => {
                let transfer: p::TransferToHost2d = chain.read_obj(mem)?;
                match self.check_rect(transfer.resource_id, &transfer.rect) {
                    Ok(_) => Reply::NoData,
                    Err(reply) => reply,
                }
            }
            p::CMD_RESOURCE_ATTACH_BACKING => {
                let attach: AttachBacking = chain.read_obj(mem)?;
                self.attach(&attach, chain, mem)?
            }
            p::CMD_RESOURCE_DETACH_BACKING => {
                self.detach(chain.read_obj::<ResourceId>(mem)?.resource_id.to_native())
            }
            _ => Reply::Error(p::RESP_ERR_UNSPEC),
        })
    }

    fn create(&mut self, cmd: &ResourceCreate2d) -> Reply {
        let (id, format) = (cmd.resource_id.to_native(), cmd.format.to_native());
        match self.table.create(id, cmd.width.to_native(), cmd.height.to_native(), format) {
            Ok(()) => Reply::NoData,
            Err(error) => error.into(),
        }
    }

    fn unref(&mut self, id: u32) -> Reply {
        match self.table.unref(id) {
            Ok(generation) => {
                self.pages_gone(id);
                if self.scanout.is_some_and(|(shown, _)| shown == id) {
                    self.scanout = None;
                }
                if self.cursor.is_some_and(|cursor| cursor.id == id) {
                    self.cursor = None;
                }
                if let Some(generation) = generation {
                    self.observer.gone(id, generation);
                }
                Reply::NoData
            }
            Err(error) => error.into(),
        }
    }

    fn detach(&mut self, id: u32) -> Reply {
        match self.table.detach(id) {
            Ok(generation) => {
                self.pages_gone(id);
                self.observer.gone(id, generation);
                Reply::NoData
            }
            Err(error) => error.into(),
        }
    }

    fn attach(&mut self, cmd: &AttachBacking, chain: &mut Chain, mem: &Mem) -> Result<Reply, ChainError> {
        let count = cmd.nr_entries.to_native();
        if count > self.table.limits().entries {
            return Ok(Reply::Error(p::RESP_ERR_OUT_OF_MEMORY));
        }
        let mut left = usize::try_from(count).map_err(|_| ChainError::ShortRead)?;
        if left.saturating_mul(size_of::<MemEntry>()) > chain.readable_len() {
            return Err(ChainError::ShortRead);
        }
        let mut runs = RunList::default();
        let mut bytes = [0; ENTRY_BATCH * size_of::<MemEntry>()];
        while left > 0 {
            let now = left.min(ENTRY_BATCH);
            let (batch, _) = bytes.split_at_mut(now * size_of::<MemEntry>());
            chain.read(mem, batch)?;
            for entry in batch.chunks_exact(size_of::<MemEntry>()).filter_map(read_entry) {
                let (addr, len) = (entry.addr.to_native(), u64::from(entry.length.to_native()));
                if len == 0 || !in_ram(mem, addr, len) {
                    return Ok(Reply::Error(p::RESP_ERR_INVALID_PARAMETER));
                }
                runs.push(addr, len);
            }
            left -= now;
        }
        if runs.bytes() > self.table.limits().backing_bytes {
            return Ok(Reply::Error(p::RESP_ERR_OUT_OF_MEMORY));
        }
        Ok(match self.table.attach(cmd.resource_id.to_native(), runs.into_runs()) {
            Ok(info) => {
                self.announce(&info);
                Reply::NoData
            }
            Err(error) => error.into(),
        })
    }

    fn announce(&mut self, info: &ResourceInfo) {
        tracing::trace!(
            id = info.id,
            generation = info.generation,
            runs = info.runs.len(),
            "resource backed"
        );
        self.observer.backed(info);
        if self.scanout.is_some_and(|(shown, _)| shown == info.id) {
            self.tell_scanout();
        }
        if self.cursor.is_some_and(|cursor| cursor.id == info.id) {
            self.tell_cursor();
        }
    }

    fn check_rect(&self, id: Le32, rect: &Rect) -> Result<Area, Reply> {
        let resource = self.table.get(id.to_native());
        let resource = resource.ok_or(Reply::Error(p::RESP_ERR_INVALID_RESOURCE_ID))?;
        Area::inside(rect, resource.width, resource.height).ok_or(Reply::Error(p::RESP_ERR_INVALID_PARAMETER))
    }

    fn flush(&mut self, cmd: &p::ResourceFlush) -> Reply {
        match self.check_rect(cmd.resource_id, &cmd.rect) {
            Ok(area) => {
                if let Some((id, shown)) = self.scanout
                    && id == cmd.resource_id.to_native()
                    && let Some(seen) = area.seen_in(shown)
                {
                    self.observer.flushed(seen);
                }
                Reply::NoData
            }
            Err(reply) => reply,
        }
    }

    /// Shows a part of a resource, or nothing. A resource whose bytes are in another order than blue, green, red is refused: no driver
    /// on x86 has a screen of one.
    fn set_scanout(&mut self, cmd: &p::SetScanout) -> Reply {
        let id = match (cmd.scanout_id.to_native(), cmd.resource_id.to_native()) {
            (0, id) => id,
            _ => return Reply::Error(p::RESP_ERR_INVALID_SCANOUT_ID),
        };
        if id == 0 {
            self.scanout = None;
            self.tell_scanout();
            return Reply::NoData;
        }
        let area = match self.check_rect(cmd.resource_id, &cmd.rect) {
            Ok(area) => area,
            Err(reply) => return reply,
        };
        if area.width == 0 || area.height == 0 || !self.is_shown_in_order(id) {
            return Reply::Error(p::RESP_ERR_INVALID_PARAMETER);
        }
        self.scanout = Some((id, area));
        self.tell_scanout();
        Reply::NoData
    }

    fn is_shown_in_order(&self, id: u32) -> bool {
        self.table.get(id).is_some_and(|resource| p::is_blue_first(resource.format))
    }

    fn tell_scanout(&mut self) {
        let shown = self.scanout.and_then(|(id, area)| {
            let resource = self.table.get(id)?;
            let generation = resource.backing.as_ref()?.generation;
            Some(Scanout { id, generation, stride: resource.width.saturating_mul(4), area })
        });
        self.observer.scanout(shown);
    }

    fn tell_cursor(&mut self) {
        let shown = self.cursor.and_then(|Cursor { id, hot_x, hot_y }| {
            let resource = self.table.get(id)?;
            let generation = resource.backing.as_ref()?.generation;
            let (width, height) = (resource.width, resource.height);
            Some(CursorImage { id, generation, width, height, hot_x, hot_y })
        });
        self.observer.cursor(shown);
    }

    /// What was shown of a resource can no longer be read.
    fn pages_gone(&mut self, id: u32) {
        if self.scanout.is_some_and(|(shown, _)| shown == id) {
            self.observer.scanout(None);
        }
        if self.cursor.is_some_and(|cursor| cursor.id == id) {
            self.observer.cursor(None);
        }
    }

    /// The cursor queue has no answers (virtio 1.2, section 5.7.6.10). A place is none of the host's: its own pointer is where the user
    /// has it.
    fn cursor(&mut self, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
        let header: CtrlHdr = chain.read_obj(mem)?;
        match header.cmd.to_native() {
            p::CMD_UPDATE_CURSOR => {}
            p::CMD_MOVE_CURSOR => return Ok(()),
            cmd => {
                tracing::debug!(cmd, "no command of the cursor queue");
                return Ok(());
            }
        }
        let cmd: p::UpdateCursor = chain.read_obj(mem)?;
        let id = cmd.resource_id.to_native();
        if cmd.scanout_id.to_native() != 0 || (id != 0 && !self.is_shown_in_order(id)) {
            return Ok(());
        }
        let cursor = Cursor { id, hot_x: cmd.hot_x.to_native(), hot_y: cmd.hot_y.to_native() };
        self.cursor = (id != 0).then_some(cursor);
        self.tell_cursor();
        Ok(())
    }

    fn edid(&self, cmd: &p::GetEdid) -> Reply {
        match (cmd.scanout.to_native(), self.screen.display()) {
            (0, Some((width, height))) => Reply::Edid(Box::new(edid(width, height))),
            (0, None) => Reply::Error(p::RESP_ERR_UNSPEC),
            _ => Reply::Error(p::RESP_ERR_INVALID_SCANOUT_ID),
        }
    }
}

fn read_entry(bytes: &[u8]) -> Option<MemEntry> {
    let mut entry = MemEntry::default();
    if bytes.len() != size_of::<MemEntry>() {
        return None;
    }
    entry.as_mut_slice().copy_from_slice(bytes);
    Some(entry)
}

fn in_ram(mem: &Mem, addr: u64, len: u64) -> bool {
    usize::try_from(len).is_ok_and(|len| mem.check_range(GuestAddress(addr), len))
}

fn answer(request: &CtrlHdr, reply: &Reply, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
    let code = match reply {
        Reply::NoData => p::RESP_OK_NODATA,
        Reply::DisplayInfo(_) => p::RESP_OK_DISPLAY_INFO,
        Reply::Edid(_) => p::RESP_OK_EDID,
        Reply::Error(code) => {
            tracing::debug!(cmd = request.cmd.to_native(), code, "the guest's gpu command failed");
            *code
        }
    };
    let mut header = CtrlHdr { cmd: code.into(), ..CtrlHdr::default() };
    let flags = request.flags.to_native();
    if flags & p::FLAG_FENCE != 0 {
        header.flags = (flags & (p::FLAG_FENCE | p::FLAG_INFO_RING_IDX)).into();
        header.fence_id = request.fence_id;
        header.ctx_id = request.ctx_id;
        header.ring_idx = request.ring_idx;
    }
    chain.write(mem, header.as_slice())?;
    match reply {
        Reply::DisplayInfo(display) => {
            let mut first = p::DisplayOne::default();
            if let Some((width, height)) = *display {
                first.rect = Rect { width: width.into(), height: height.into(), ..Rect::default() };
                first.enabled = 1.into();
            }
            chain.write(mem, first.as_slice())?;
            chain.write(mem, &[0; (p::MAX_SCANOUTS - 1) * p::DISPLAY_ONE_SIZE])?;
        }
        Reply::Edid(edid) => {
            chain.write(mem, &[128, 0, 0, 0, 0, 0, 0, 0])?;
            chain.write(mem, &edid[..])?;
            chain.write(mem, &[0; p::EDID_ROOM - 128])?;
        }
        Reply::NoData | Reply::Error(_) => {}
    }
    Ok(())
}

impl Device for Gpu {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        p::F_EDID
    }

    fn config(&self) -> Vec<u8> {
        let config =
            p::Config { events_read: self.events.into(), num_scanouts: 1.into(), ..p::Config::default() };
        config.as_slice().to_vec()
    }

    /// `events_clear` is all that a driver writes.
    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let mut clear = [0; 4];
        for (at, byte) in data.iter().enumerate() {
            let place = offset.checked_add(at).and_then(|at| at.checked_sub(4));
            if let Some(to) = place.and_then(|at| clear.get_mut(at)) {
                *to = *byte;
            }
        }
        self.events &= !u32::from_le_bytes(clear);
    }

    fn config_changed(&mut self) -> bool {
        let now = self.screen.display();
        let changed = std::mem::replace(&mut self.told, now) != now;
        if changed {
            self.events |= p::EVENT_DISPLAY;
        }
        changed
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.screen.as_fd())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        if wake == Wake::HostSource {
            self.screen.heard();
        }
        let Wake::Queue(index @ (CONTROL | CURSOR)) = wake else { return Ok(used) };
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        while let Some(mut chain) = queue.pop(mem)? {
            let done = if index == CONTROL {
                self.control(&mut chain, mem)
            } else {
                match self.cursor(&mut chain, mem) {
                    // Too short a command: nothing is to be done, and there is no answer.
                    Err(ChainError::ShortRead) => Ok(()),
                    other => other,
                }
            };
            done.map_err(|source| queue.chain_error(source))?;
            queue.add_used(mem, chain)?;
            used.insert(index);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        let ids: Vec<u32> = self.table.all().keys().copied().collect();
        for id in ids {
            self.unref(id);
        }
        self.events = 0;
    }

    fn save(&self) -> serde_json::Value {
        to_json(&GpuState {
            next_generation: self.table.next_generation(),
            resources: self.table.all().iter().map(|(id, r)| (*id, r.clone())).collect(),
            scanout: self.scanout,
            cursor: self.cursor,
            events: self.events,
        })
    }

    /// The observer is told of the resources under new generations. What no longer passes the checks (limits, guest RAM) is
    /// left out.
    fn restore(&mut self, state: serde_json::Value, mem: &Mem) -> Result<(), RestoreError> {
        let state: GpuState = serde_json::from_value(state)?;
        if state.next_generation > MOST_GENERATIONS {
            return Err(RestoreError::Content("too many generations"));
        }
        self.reset();
        self.table.set_next_generation(state.next_generation);
        for (id, resource) in state.resources {
            if self.table.create(id, resource.width, resource.height, resource.format).is_err() {
                continue;
            }
            let Some(backing) = resource.backing else { continue };
            if backing.runs.iter().all(|run| run.len > 0 && in_ram(mem, run.addr, run.len))
                && let Ok(info) = self.table.attach(id, backing.runs)
            {
                self.announce(&info);
            }
        }
        self.events = state.events & p::EVENT_DISPLAY;
        self.scanout = state.scanout.filter(|(id, area)| {
            let fits = |r: &Resource| area.width > 0 && area.height > 0 && area.fits(r.width, r.height);
            self.is_shown_in_order(*id) && self.table.get(*id).is_some_and(fits)
        });
        self.cursor = state.cursor.filter(|cursor| self.is_shown_in_order(cursor.id));
        self.tell_scanout();
        self.tell_cursor();
        Ok(())
    }
}
