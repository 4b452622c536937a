//! What a machine under QEMU consists of.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::QemuError;

/// QEMU shows the guest no more than this of a disk's serial.
const MAX_SERIAL: usize = 20;

/// What executes the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Software emulation, on every host.
    Tcg,
    /// The host's processor.
    Kvm,
}

/// How a disk image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's format, with backing files.
    Qcow2,
}

impl DiskFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What the guest begins with.
#[derive(Clone, Debug)]
pub enum Boot {
    /// A kernel that QEMU loads.
    Kernel {
        /// The file: an uncompressed `vmlinux` with a PVH entry starts seconds earlier than a `bzImage` under emulation.
        kernel: PathBuf,
        /// The initramfs.
        initrd: Option<PathBuf>,
        /// The kernel's command line; the serial port is `ttyS0`.
        cmdline: String,
    },
    /// QEMU's own BIOS, which runs the boot loader of the first disk.
    Bios,
    /// A UEFI firmware, which runs the boot loader of the first disk.
    Uefi {
        /// Its code: never written to.
        code: PathBuf,
        /// What it remembers: written to.
        variables: PathBuf,
    },
}

/// A virtio disk. It is cached by the host, and safe: what the guest flushes is on the host's disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format; never guessed, because a guest could write another format's header into a raw image.
    pub format: DiskFormat,
    /// The guest finds it as `/dev/disk/by-id/virtio-<serial>`: at most 20 letters, digits, `-`, `_`, `.`.
    pub serial: String,
    /// The guest cannot write it. QEMU locks an image against other machines unless all use it so.
    pub read_only: bool,
    /// Whether the image may be laid over another one that it names.
    pub overlay: bool,
}

/// What the guest's network card is connected to.
#[derive(Clone, Debug)]
pub enum Network {
    /// Nothing: it has none.
    None,
    /// QEMU's own network, which needs no rights and lets nobody in.
    User,
    /// A tap device ([`tap::open`](crate::devices::net::tap::open)).
    Tap(Arc<OwnedFd>),
}

/// A machine.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The program, with or without a path.
    pub binary: PathBuf,
    /// Shown in process lists.
    pub name: String,
    /// What executes the guest's code.
    pub accel: Accel,
    /// Virtual processors, 1 to 255.
    pub cpus: u32,
    /// RAM in MiB; a memfd that vhost-user devices share.
    pub memory_mib: u32,
    /// What the guest begins with.
    pub boot: Boot,
    /// Disks in the order in which the guest finds them (`vda`, `vdb`, ...).
    pub disks: Vec<Disk>,
    /// The guest's network.
    pub network: Network,
    /// The address of its card.
    pub mac: [u8; 6],
    /// Where the serial port's output goes; the file before it is kept as `<path>.old` when it grows large.
    pub serial_log: PathBuf,
    /// The vhost-user socket of a gpu device.
    pub gpu_socket: Option<PathBuf>,
    /// The vhost-user socket of a vsock device, which also says the guest's context id.
    pub vsock_socket: Option<PathBuf>,
    /// The vhost-user sockets of input devices.
    pub input_sockets: Vec<PathBuf>,
    /// The vhost-user sockets of file servers, and the tags that the guest mounts.
    pub file_systems: Vec<(PathBuf, String)>,
}

impl Default for QemuConfig {
    /// A machine with two processors and 1 GiB, without disks, network or devices.
    fn default() -> Self {
        Self {
            binary: super::BINARY.into(),
            name: "inlay".into(),
            accel: Accel::Tcg,
            cpus: 2,
            memory_mib: 1024,
            boot: Boot::Bios,
            disks: Vec::new(),
            network: Network::None,
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            serial_log: PathBuf::from("/dev/null"),
            gpu_socket: None,
            vsock_socket: None,
            input_sockets: Vec::new(),
            file_systems: Vec::new(),
        }
    }
}

impl QemuConfig {
    /// Refuses what QEMU would misread or explain badly.
    pub(super) fn check(&self) -> Result<(), QemuError> {
        if !(1..=255).contains(&self.cpus) {
            return Err(QemuError::Config(format!("{} processors are not possible", self.cpus)));
        }
        if self.memory_mib < 64 {
            return Err(QemuError::Config(format!("{} MiB of memory are too little", self.memory_mib)));
        }
        let boot = match &self.boot {
            Boot::Kernel { kernel, initrd, .. } => vec![Some(kernel), initrd.as_ref()],
            Boot::Bios => Vec::new(),
            Boot::Uefi { code, variables } => vec![Some(code), Some(variables)],
        };
        let files = self.disks.iter().map(|disk| &disk.path).chain(boot.into_iter().flatten());
        for file in files {
            if let Err(error) = std::fs::metadata(file) {
                return Err(QemuError::Config(format!("cannot use {}: {error}", file.display())));
            }
        }
        for disk in &self.disks {
            let fine = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
            if disk.serial.is_empty() || disk.serial.len() > MAX_SERIAL || !disk.serial.bytes().all(fine) {
                return Err(QemuError::Config(format!("{:?} is not a disk serial", disk.serial)));
            }
        }
        Ok(())
    }
}
