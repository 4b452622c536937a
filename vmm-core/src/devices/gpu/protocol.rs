//! The words of virtio-gpu that are spoken here (virtio 1.2, section 5.7.6.7), little-endian as on the wire.

use vm_memory::{ByteValued, Le32, Le64};

pub const CMD_GET_DISPLAY_INFO: u32 = 0x0100;
pub const CMD_RESOURCE_CREATE_2D: u32 = 0x0101;
pub const CMD_RESOURCE_UNREF: u32 = 0x0102;
pub const CMD_SET_SCANOUT: u32 = 0x0103;
pub const CMD_RESOURCE_FLUSH: u32 = 0x0104;
pub const CMD_TRANSFER_TO_HOST_2D: u32 = 0x0105;
pub const CMD_RESOURCE_ATTACH_BACKING: u32 = 0x0106;
pub const CMD_RESOURCE_DETACH_BACKING: u32 = 0x0107;
pub const CMD_GET_EDID: u32 = 0x010a;
pub const CMD_UPDATE_CURSOR: u32 = 0x0300;
pub const CMD_MOVE_CURSOR: u32 = 0x0301;

pub const RESP_OK_NODATA: u32 = 0x1100;
pub const RESP_OK_DISPLAY_INFO: u32 = 0x1101;
pub const RESP_OK_EDID: u32 = 0x1104;
pub const RESP_ERR_UNSPEC: u32 = 0x1200;
pub const RESP_ERR_OUT_OF_MEMORY: u32 = 0x1201;
pub const RESP_ERR_INVALID_SCANOUT_ID: u32 = 0x1202;
pub const RESP_ERR_INVALID_RESOURCE_ID: u32 = 0x1203;
pub const RESP_ERR_INVALID_PARAMETER: u32 = 0x1205;

pub const FLAG_FENCE: u32 = 1;
pub const FLAG_INFO_RING_IDX: u32 = 2;

/// `VIRTIO_GPU_F_EDID`.
pub const F_EDID: u64 = 1 << 1;
/// `VIRTIO_GPU_EVENT_DISPLAY`: the display information changed.
pub const EVENT_DISPLAY: u32 = 1;

/// `VIRTIO_GPU_MAX_SCANOUTS`: the display information has this many entries.
pub const MAX_SCANOUTS: usize = 16;
/// Size of a `virtio_gpu_display_one`.
pub const DISPLAY_ONE_SIZE: usize = 24;
/// Room for an EDID in its answer.
pub const EDID_ROOM: usize = 1024;

/// Whether a `VIRTIO_GPU_FORMAT_*` is known; each has 4 bytes per pixel.
pub fn is_known_format(format: u32) -> bool {
    matches!(format, 1..=4 | 67 | 68 | 121 | 134)
}

/// Whether its bytes are blue, green, red and one more (`B8G8R8A8`, `B8G8R8X8`).
pub fn is_blue_first(format: u32) -> bool {
    matches!(format, 1 | 2)
}

/// `virtio_gpu_ctrl_hdr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CtrlHdr {
    pub cmd: Le32,
    pub flags: Le32,
    pub fence_id: Le64,
    pub ctx_id: Le32,
    pub ring_idx: u8,
    pub padding: [u8; 3],
}

/// `virtio_gpu_rect`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Rect {
    pub x: Le32,
    pub y: Le32,
    pub width: Le32,
    pub height: Le32,
}

/// `virtio_gpu_resource_create_2d` after its header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ResourceCreate2d {
    pub resource_id: Le32,
    pub format: Le32,
    pub width: Le32,
    pub height: Le32,
}

/// `virtio_gpu_resource_unref` and `virtio_gpu_resource_detach_backing` after their headers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ResourceId {
    pub resource_id: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_set_scanout` after its header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SetScanout {
    pub rect: Rect,
    pub scanout_id: Le32,
    pub resource_id: Le32,
}

/// `virtio_gpu_resource_flush` after its header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ResourceFlush {
    pub rect: Rect,
    pub resource_id: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_transfer_to_host_2d` after its header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TransferToHost2d {
    pub rect: Rect,
    pub offset: Le64,
    pub resource_id: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_resource_attach_backing` after its header; the entries follow.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct AttachBacking {
    pub resource_id: Le32,
    pub nr_entries: Le32,
}

/// `virtio_gpu_mem_entry`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MemEntry {
    pub addr: Le64,
    pub length: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_display_one`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct DisplayOne {
    pub rect: Rect,
    pub enabled: Le32,
    pub flags: Le32,
}

/// `virtio_gpu_get_edid` after its header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct GetEdid {
    pub scanout: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_update_cursor` after its header; the same for moving it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct UpdateCursor {
    pub scanout_id: Le32,
    pub x: Le32,
    pub y: Le32,
    pub pos_padding: Le32,
    pub resource_id: Le32,
    pub hot_x: Le32,
    pub hot_y: Le32,
    pub padding: Le32,
}

/// `virtio_gpu_config`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Config {
    pub events_read: Le32,
    pub events_clear: Le32,
    pub num_scanouts: Le32,
    pub num_capsets: Le32,
}

macro_rules! plain {
    ($($name:ty),+) => {$(
        // SAFETY: `repr(C)`, made of little-endian integers and bytes only, without implicit padding (every field lies
        // at a multiple of its size, and explicit padding fills the rest), so any bytes are a value and back.
        unsafe impl ByteValued for $name {}
        const _: () = assert!(size_of::<$name>().is_multiple_of(8));
    )+};
}
plain!(
    CtrlHdr,
    Rect,
    ResourceCreate2d,
    ResourceId,
    SetScanout,
    ResourceFlush,
    TransferToHost2d,
    AttachBacking,
    MemEntry,
    DisplayOne,
    GetEdid,
    UpdateCursor,
    Config
);
