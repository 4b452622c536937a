//! The packet header of virtio-vsock (virtio 1.2, section 5.10.6).

use vm_memory::{ByteValued, Le16, Le32, Le64};

/// `VMADDR_CID_HOST`.
pub const HOST_CID: u64 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub const TYPE_STREAM: u16 = 1;
/// Bytes of a header.
pub const HEADER_SIZE: usize = size_of::<Header>();
/// Bytes of payload that one packet may carry towards the guest.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// `VIRTIO_VSOCK_OP_*`.
pub mod op {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// `VIRTIO_VSOCK_SHUTDOWN_F_*`: what the sender of a SHUTDOWN will no longer do.
pub mod shutdown {
    pub const RECEIVE: u32 = 1;
    pub const SEND: u32 = 2;
    pub const BOTH: u32 = RECEIVE | SEND;
}

/// `struct virtio_vsock_hdr`.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    pub src_cid: Le64,
    pub dst_cid: Le64,
    pub src_port: Le32,
    pub dst_port: Le32,
    pub len: Le32,
    pub kind: Le16,
    pub op: Le16,
    pub flags: Le32,
    pub buf_alloc: Le32,
    pub fwd_cnt: Le32,
}

// SAFETY: `repr(C, packed)`, made of little-endian integers only, so it has no padding and any bytes are a value.
unsafe impl ByteValued for Header {}
const _: () = assert!(HEADER_SIZE == 44);

/// The two ports that name a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub guest_port: u32,
    pub host_port: u32,
}

impl Header {
    /// A packet of the host about the connection `key`.
    pub fn to_guest(guest_cid: u64, key: Key, op: u16) -> Self {
        Self {
            src_cid: HOST_CID.into(),
            dst_cid: guest_cid.into(),
            src_port: key.host_port.into(),
            dst_port: key.guest_port.into(),
            kind: TYPE_STREAM.into(),
            op: op.into(),
            ..Self::default()
        }
    }

    /// The answer to a packet that no connection takes.
    pub fn reset_for(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            op: op::RST.into(),
            ..Self::default()
        }
    }

    /// The connection that a packet of the guest names.
    pub fn key(&self) -> Key {
        Key { guest_port: { self.src_port }.to_native(), host_port: { self.dst_port }.to_native() }
    }

    pub fn op(&self) -> u16 {
        { self.op }.to_native()
    }
}
