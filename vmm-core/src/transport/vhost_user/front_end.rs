//! The other end of vhost-user: a device on our bus whose queues another process serves, such as a file server in its jail. That
//! process maps guest RAM, takes the driver's doorbells and interrupts the driver by itself; this end only sets it up.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::epoll;
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestAddress, GuestMemory as _};
use vmm_sys_util::eventfd::EventFd;

use crate::devices::fs;
use crate::virtio::{
    Device, DeviceError, Mem, QueueSet, Remote, RemoteRing, RestoreError, VirtQueue, Wake, features,
};

/// The other process answers within this time, or it is given up.
const PATIENCE: Duration = Duration::from_secs(2);
const VERSION_1: u64 = 1 << 32;

/// What the other process cannot say of a device itself.
#[derive(Debug, Clone)]
pub struct FrontEndConfig {
    /// The virtio device id.
    pub device_type: u32,
    /// The largest size of each queue.
    pub queue_sizes: Vec<u16>,
    /// The configuration space.
    pub config: Vec<u8>,
}

impl FrontEndConfig {
    /// A shared folder (virtio 1.2, section 5.11) with one request queue. A guest mounts it by its tag.
    ///
    /// # Errors
    /// The tag is empty or longer than 36 bytes.
    pub fn file_system(tag: &str) -> io::Result<Self> {
        let config = fs::config(tag).map_err(io::Error::other)?;
        Ok(Self { device_type: fs::DEVICE_TYPE, queue_sizes: fs::queue_sizes(), config })
    }
}

/// A device that another process serves.
pub struct FrontEnd {
    peer: Frontend,
    config: FrontEndConfig,
    offered: u64,
    /// A line that nobody listens to.
    unheard: EventFd,
    /// Signalled by the other process when it can serve a queue no longer.
    broken: EventFd,
    /// Becomes readable by that, and when the other process is gone.
    trouble: OwnedFd,
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontEnd").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FrontEnd {
    /// Begins to talk with the process at the other end of `socket`.
    ///
    /// # Errors
    /// It does not answer, or its device is none of virtio 1.
    pub fn new(socket: UnixStream, config: FrontEndConfig) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut peer = Frontend::from_stream(socket.try_clone()?, config.queue_sizes.len() as u64);
        peer.set_owner().map_err(other)?;
        let offered = peer.get_features().map_err(other)?;
        if offered & VERSION_1 == 0 {
            return Err(io::Error::other("the other process does not speak virtio 1"));
        }
        if offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            let known = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
            let both = peer.get_protocol_features().map_err(other)? & known;
            peer.set_protocol_features(both).map_err(other)?;
            if both.contains(VhostUserProtocolFeatures::REPLY_ACK) {
                peer.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        let line = || EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        let (unheard, broken) = (line()?, line()?);
        let trouble = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&trouble, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let lent = event_fd(&broken);
        epoll::add(&trouble, lent, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        Ok(Self { peer, config, offered, unheard, broken, trouble })
    }

    fn line(&self, call: Option<BorrowedFd<'_>>) -> io::Result<EventFd> {
        match call {
            Some(fd) => Ok(event(fd.try_clone_to_owned()?)),
            None => self.unheard.try_clone(),
        }
    }

    fn has_protocol_features(&self) -> bool {
        self.offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0
    }
}

fn event(fd: OwnedFd) -> EventFd {
    // SAFETY: the descriptor is owned by nobody else.
    unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) }
}

fn event_fd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: it is open as long as the eventfd is there.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

fn other(error: vhost::Error) -> io::Error {
    io::Error::other(format!("vhost-user: {error}"))
}

impl Device for FrontEnd {
    fn device_type(&self) -> u32 {
        self.config.device_type
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.config.queue_sizes
    }

    fn features(&self) -> u64 {
        // Bits below 24 are the device type's own (virtio 1.2, section 6).
        self.offered & 0xff_ffff
    }

    fn transport_features(&self) -> u64 {
        self.offered & features::TRANSPORT & !features::RING_RESET
    }

    fn remote(&mut self) -> Option<&mut dyn Remote> {
        Some(self)
    }

    fn config(&self) -> Vec<u8> {
        self.config.config.clone()
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.trouble.as_fd())
    }

    fn process(&mut self, wake: Wake, _: &Mem, _: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        match wake {
            Wake::HostSource if self.broken.read().is_ok() => Err(DeviceError::Host {
                act: "go on: the process that serves it found a fault",
                source: io::ErrorKind::InvalidData.into(),
            }),
            // That process says nothing unasked, so this is its end.
            Wake::HostSource => Err(DeviceError::Host {
                act: "go on: the process that serves it is gone",
                source: io::ErrorKind::UnexpectedEof.into(),
            }),
            Wake::Queue(_) => Ok(QueueSet::EMPTY),
        }
    }

    fn reset(&mut self) {}

    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn restore(&mut self, _: serde_json::Value, _: &Mem) -> Result<(), RestoreError> {
        Err(RestoreError::Content("its state is another process's, which has to be asked for it"))
    }
}

impl Remote for FrontEnd {
    fn begin(&mut self, accepted: u64, mem: &Mem) -> io::Result<()> {
        let own = self.offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.peer.set_features(accepted & self.offered | own).map_err(other)?;
        let regions: Result<Vec<_>, _> =
            mem.iter().map(VhostUserMemoryRegionInfo::from_guest_region).collect();
        self.peer.set_mem_table(&regions.map_err(other)?).map_err(other)
    }

    fn start(&mut self, index: usize, ring: &RemoteRing<'_>, mem: &Mem) -> io::Result<()> {
        // Virtio 1.2, section 2.7: the length of each part, with the fields behind the rings.
        let size = usize::from(ring.size);
        let host = |address: u64, length: usize| {
            let part = mem.get_slice(GuestAddress(address), length);
            let part = part.map_err(|_| io::Error::other("a ring is not in guest memory"))?;
            Ok::<u64, io::Error>(part.ptr_guard_mut().as_ptr() as u64)
        };
        let config = VringConfigData {
            queue_max_size: self.config.queue_sizes.get(index).copied().unwrap_or(0),
            queue_size: ring.size,
            flags: 0,
            desc_table_addr: host(ring.desc, 16 * size)?,
            avail_ring_addr: host(ring.avail, 6 + 2 * size)?,
            used_ring_addr: host(ring.used, 6 + 8 * size)?,
            log_addr: None,
        };
        let call = self.line(ring.call)?;
        let kick = event(ring.kick.try_clone_to_owned()?);
        self.peer.set_vring_num(index, ring.size).map_err(other)?;
        self.peer.set_vring_addr(index, &config).map_err(other)?;
        self.peer.set_vring_base(index, ring.base).map_err(other)?;
        self.peer.set_vring_call(index, &call).map_err(other)?;
        self.peer.set_vring_err(index, &self.broken).map_err(other)?;
        self.peer.set_vring_kick(index, &kick).map_err(other)?;
        if self.has_protocol_features() {
            self.peer.set_vring_enable(index, true).map_err(other)?;
        }
        Ok(())
    }

    fn set_call(&mut self, index: usize, call: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let call = self.line(call)?;
        self.peer.set_vring_call(index, &call).map_err(other)
    }

    fn stop(&mut self, index: usize) -> io::Result<u16> {
        if self.has_protocol_features() {
            self.peer.set_vring_enable(index, false).map_err(other)?;
        }
        let base = self.peer.get_vring_base(index).map_err(other)?;
        u16::try_from(base).map_err(io::Error::other)
    }
}
