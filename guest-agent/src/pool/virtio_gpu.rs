//! Pool buffers as 2D resources of virtio-gpu: guest pages that the host's device knows by resource id (virtio 1.2, 5.7.6.8
//! `RESOURCE_CREATE_2D` and `RESOURCE_ATTACH_BACKING`, both sent by the guest's kernel).
//!
//! Made on the render node by `VIRTGPU_RESOURCE_CREATE` (include/uapi/drm/virtgpu_drm.h), which needs neither 3D nor DRM
//! master. Nothing is ever transferred or flushed: the host reads the pages.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use inlay_protocol::display::Backing;
use inlay_protocol::handshake::Capabilities;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

use super::{Buffer, Mapping, Pool};

/// `DRM_IOCTL_BASE`.
const GROUP: u8 = b'd';
/// `DRM_COMMAND_BASE`: the driver's own requests begin here.
const DRIVER: u8 = 0x40;
/// `PIPE_TEXTURE_2D`.
const TARGET_2D: u32 = 2;
/// `PIPE_FORMAT_B8G8R8A8_UNORM`; contents are read by their own format, not by this one.
const FORMAT_BGRA: u32 = 1;
/// `PIPE_BIND_RENDER_TARGET`.
const BIND_RENDER_TARGET: u32 = 2;
/// Pixels of a row of the resource as the device sees it. Our rows are laid out within its bytes as we like.
const ROW: usize = 1024;
/// Most rows that a resource may have.
const ROWS: usize = 16_384;

/// `struct drm_version`.
#[repr(C)]
struct Version {
    major: i32,
    minor: i32,
    patch: i32,
    name_len: usize,
    name: *mut u8,
    date_len: usize,
    date: *mut u8,
    desc_len: usize,
    desc: *mut u8,
}

/// `struct drm_virtgpu_map`.
#[repr(C)]
#[derive(Default)]
struct Map {
    offset: u64,
    handle: u32,
    pad: u32,
}

/// `struct drm_virtgpu_resource_create`.
#[repr(C)]
#[derive(Default)]
struct ResourceCreate {
    target: u32,
    format: u32,
    bind: u32,
    width: u32,
    height: u32,
    depth: u32,
    array_size: u32,
    last_level: u32,
    nr_samples: u32,
    flags: u32,
    bo_handle: u32,
    res_handle: u32,
    size: u32,
    stride: u32,
}

/// `struct drm_virtgpu_resource_info`.
#[repr(C)]
#[derive(Default)]
struct ResourceInfo {
    bo_handle: u32,
    res_handle: u32,
    size: u32,
    blob_mem: u32,
}

/// `struct drm_gem_close`.
#[repr(C)]
struct GemClose {
    handle: u32,
    pad: u32,
}

const VERSION: Opcode = opcode::read_write::<Version>(GROUP, 0x00);
const GEM_CLOSE: Opcode = opcode::write::<GemClose>(GROUP, 0x09);
const MAP: Opcode = opcode::read_write::<Map>(GROUP, DRIVER + 0x01);
const RESOURCE_CREATE: Opcode = opcode::read_write::<ResourceCreate>(GROUP, DRIVER + 0x04);
const RESOURCE_INFO: Opcode = opcode::read_write::<ResourceInfo>(GROUP, DRIVER + 0x05);

/// Why there is no pool on virtio-gpu.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No render node belongs to the driver `virtio_gpu`.
    #[error("no virtio-gpu render node in /dev/dri (is the module virtio_gpu loaded?)")]
    None,
    /// There is one, but it cannot be opened.
    #[error("the virtio-gpu render node {0} cannot be opened")]
    Open(String, #[source] io::Error),
}

/// The pool inside a machine. The render node is opened when it is there and may be opened: the agent starts before the
/// guest's device manager.
#[derive(Debug)]
pub struct VirtioGpuPool {
    device: Option<Rc<File>>,
    since: Instant,
    tried: Option<Instant>,
    complained: bool,
}

/// A GEM handle, closed when dropped.
#[derive(Debug)]
pub struct Handle {
    device: Rc<File>,
    handle: u32,
}

/// Pause between two attempts to open the render node, and time until its lack is worth a warning.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

impl Default for VirtioGpuPool {
    fn default() -> Self {
        Self { device: None, since: Instant::now(), tried: None, complained: false }
    }
}

/// Opens the first render node of the driver `virtio_gpu`.
fn open() -> Result<File, OpenError> {
    let mut failed = None;
    for minor in 128..192 {
        let path = format!("/dev/dri/renderD{minor}");
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(device) if driver_name(&device).is_ok_and(|name| name == "virtio_gpu") => {
                tracing::info!(path, "virtio-gpu pool");
                return Ok(device);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failed = Some(OpenError::Open(path, error)),
        }
    }
    Err(failed.unwrap_or(OpenError::None))
}

/// The name of a DRM device's driver.
fn driver_name(device: &File) -> io::Result<String> {
    let mut name = [0_u8; 64];
    let mut version = Version {
        major: 0,
        minor: 0,
        patch: 0,
        name_len: name.len() - 1,
        name: name.as_mut_ptr(),
        date_len: 0,
        date: std::ptr::null_mut(),
        desc_len: 0,
        desc: std::ptr::null_mut(),
    };
    // SAFETY: the opcode belongs to this struct, and its only non-null pointer has `name_len` bytes and outlives the call.
    unsafe { ioctl(device, Updater::<VERSION, _>::new(&mut version))? };
    let name = CStr::from_bytes_until_nul(&name).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Rows of [`ROW`] pixels that hold `size` bytes; wider rows where there would be too many.
fn shape(size: usize) -> (usize, usize) {
    let rows = size.div_ceil(ROW * 4);
    if rows <= ROWS { (ROW, rows.max(1)) } else { (ROWS, size.div_ceil(ROWS * 4)) }
}

impl Pool for VirtioGpuPool {
    fn is_ready(&mut self) -> bool {
        if self.device.is_some() || self.tried.is_some_and(|at| at.elapsed() < PAUSE.0) {
            return self.device.is_some();
        }
        self.tried = Some(Instant::now());
        match open() {
            Ok(device) => self.device = Some(Rc::new(device)),
            Err(error) if !self.complained && self.since.elapsed() > PAUSE.1 => {
                self.complained = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no windows until there is a virtio-gpu"
                );
            }
            Err(_) => {}
        }
        self.device.is_some()
    }

    fn create(&self, size: usize) -> io::Result<Buffer> {
        let device = self.device.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let (width, height) = shape(size);
        let size = width * height * 4;
        let narrow = |n: usize| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let mut create = ResourceCreate {
            target: TARGET_2D,
            format: FORMAT_BGRA,
            bind: BIND_RENDER_TARGET,
            width: narrow(width)?,
            height: narrow(height)?,
            depth: 1,
            array_size: 1,
            size: narrow(size)?,
            stride: narrow(width * 4)?,
            ..ResourceCreate::default()
        };
        // SAFETY: the opcode belongs to this struct, which holds no pointers.
        unsafe { ioctl(&**device, Updater::<RESOURCE_CREATE, _>::new(&mut create))? };
        let handle = Handle { device: device.clone(), handle: create.bo_handle };
        let mut info = ResourceInfo { bo_handle: handle.handle, ..ResourceInfo::default() };
        // SAFETY: as above.
        unsafe { ioctl(&**device, Updater::<RESOURCE_INFO, _>::new(&mut info))? };
        let mut map = Map { handle: handle.handle, ..Map::default() };
        // SAFETY: as above.
        unsafe { ioctl(&**device, Updater::<MAP, _>::new(&mut map))? };
        let mapping = Mapping::new(device.as_fd(), map.offset, size)?;
        let backing = Backing::VirtioGpu { resource: info.res_handle };
        Ok(Buffer { mapping, backing, fd: None, _handle: Some(handle) })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::VIRTIO_GPU
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let close = GemClose { handle: self.handle, pad: 0 };
        // SAFETY: the opcode belongs to this struct, and the handle is ours and used no more.
        if let Err(error) = unsafe { ioctl(&*self.device, Setter::<GEM_CLOSE, _>::new(close)) } {
            tracing::error!(%error, "a virtio-gpu resource could not be closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<Version>(), 64);
        assert_eq!(size_of::<Map>(), 16);
        assert_eq!(size_of::<ResourceCreate>(), 56);
        assert_eq!(size_of::<ResourceInfo>(), 16);
        assert_eq!(size_of::<GemClose>(), 8);
        assert_eq!(RESOURCE_CREATE, 0xc038_6444);
        assert_eq!(MAP, 0xc010_6441);
    }

    #[test]
    fn a_shape_holds_its_bytes_within_the_device_s_sides() {
        for size in [1, 4096, 4097, 1920 * 1080 * 4, 64 << 20, (64 << 20) + 1, 1 << 30] {
            let (width, height) = shape(size);
            assert!(width * height * 4 >= size && width <= ROWS && height <= ROWS, "{size}");
            assert!(width * height * 4 - size < width * 4);
        }
    }
}
