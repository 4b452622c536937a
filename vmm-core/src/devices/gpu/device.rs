//! The virtio-gpu device: its two queues, its commands, its answers (virtio 1.2, sections 5.7.2 and 5.7.6).

use serde::{Deserialize, Serialize};
use vm_memory::{ByteValued, GuestAddress, GuestMemory, Le32};

use super::protocol::{self as p, AttachBacking, CtrlHdr, MemEntry, Rect, ResourceCreate2d, ResourceId};
use super::resources::{GpuLimits, Resource, RunList, Table, TableError};
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
}

/// A virtio-gpu with 2D resources and no scanout.
pub struct Gpu {
    table: Table,
    observer: Box<dyn ResourceObserver>,
}

/// An answer other than "unknown": what follows the header.
enum Reply {
    NoData,
    DisplayInfo,
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
    /// Makes the device; `observer` learns of every backed resource.
    pub fn new(limits: GpuLimits, observer: Box<dyn ResourceObserver>) -> Self {
        Self { table: Table::new(limits), observer }
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
            p::CMD_GET_DISPLAY_INFO => Reply::DisplayInfo,
            p::CMD_RESOURCE_CREATE_2D => self.create(&chain.read_obj(mem)?),
            p::CMD_RESOURCE_UNREF => self.unref(chain.read_obj::<ResourceId>(mem)?.resource_id.to_native()),
            p::CMD_SET_SCANOUT => set_scanout(&chain.read_obj(mem)?),
            p::CMD_RESOURCE_FLUSH => {
                let flush: p::ResourceFlush = chain.read_obj(mem)?;
                self.check_rect(flush.resource_id, &flush.rect)
            }
            p::CMD_TRANSFER_TO_HOST_2D => {
                let transfer: p::TransferToHost2d = chain.read_obj(mem)?;
                self.check_rect(transfer.resource_id, &transfer.rect)
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
    }

    fn check_rect(&self, id: Le32, rect: &Rect) -> Reply {
        let Some(resource) = self.table.get(id.to_native()) else {
            return Reply::Error(p::RESP_ERR_INVALID_RESOURCE_ID);
        };
        let inside = |start: Le32, len: Le32, end: u32| {
            start.to_native().checked_add(len.to_native()).is_some_and(|sum| sum <= end)
        };
        if inside(rect.x, rect.width, resource.width) && inside(rect.y, rect.height, resource.height) {
            Reply::NoData
        } else {
            Reply::Error(p::RESP_ERR_INVALID_PARAMETER)
        }
    }
}

/// There is one scanout, and it stays off: turning it off is all that a driver may do.
fn set_scanout(cmd: &p::SetScanout) -> Reply {
    match (cmd.scanout_id.to_native(), cmd.resource_id.to_native()) {
        (0, 0) => Reply::NoData,
        (0, _) => Reply::Error(p::RESP_ERR_INVALID_PARAMETER),
        _ => Reply::Error(p::RESP_ERR_INVALID_SCANOUT_ID),
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
        Reply::DisplayInfo => p::RESP_OK_DISPLAY_INFO,
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
    if matches!(reply, Reply::DisplayInfo) {
        chain.write(mem, &[0; p::MAX_SCANOUTS * p::DISPLAY_ONE_SIZE])?;
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

    fn config(&self) -> Vec<u8> {
        p::Config { num_scanouts: 1.into(), ..p::Config::default() }.as_slice().to_vec()
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let Wake::Queue(index @ (CONTROL | CURSOR)) = wake else { return Ok(used) };
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        while let Some(mut chain) = queue.pop(mem)? {
            // Cursor commands have no answer, and there is no scanout to show a cursor on.
            if index == CONTROL {
                self.control(&mut chain, mem).map_err(|source| queue.chain_error(source))?;
            }
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
    }
    fn save(&self) -> serde_json::Value {
        to_json(&GpuState {
            next_generation: self.table.next_generation(),
            resources: self.table.all().iter().map(|(id, r)| (*id, r.clone())).collect(),
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
        Ok(())
    }
}
