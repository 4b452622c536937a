//! Builds a guest from its configuration: devices, kernel, initramfs, disks, and QEMU around them.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use inlay_protocol::ports;
use inlay_vmm_core::devices::gpu::{Gpu, GpuLimits};
use inlay_vmm_core::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use inlay_vmm_core::engine::qemu::{self, Disk, DiskFormat, Exit, Qemu, QemuConfig, QemuError};
use inlay_vmm_core::transport::vhost_user::VhostUser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::guest::{Ended, Guest};
use super::memory::Observer;
use super::{MachineError, Sockets};
use crate::config::{Accel, Config};
use crate::create::{self, BootFiles};
use crate::paths::{Folders, MachineName};
use crate::process;

/// The guest's context id. Any from 3 on: each machine has a vsock device of its own.
const GUEST_CID: u32 = 3;

/// Switches a machine's guest on. The caller holds the machine's lock.
///
/// # Errors
/// Its configuration, files, devices or QEMU.
pub fn start(
    folders: &Folders,
    name: &MachineName,
    sockets: &Sockets,
    observer: &Observer,
) -> Result<Box<dyn Guest>, MachineError> {
    let (config, boot) = create::boot_files(folders, name)?;
    let initrd = folders.machine(name).data().join("initrd");
    create::initrd(&boot.base, &process::agent_binary()?, &initrd)?;
    let devices = devices(sockets, observer)?;
    let paths = folders.machine(name);
    let qemu = QemuConfig {
        name: format!("inlay-{name}"),
        initrd: Some(initrd),
        serial_log: paths.serial_log(),
        gpu_socket: Some(sockets.gpu()),
        vsock_socket: Some(sockets.vhost_vsock()),
        ..of(&config, boot)
    };
    let engine = format!("qemu, {}", if config.accel == Accel::Kvm { "kvm" } else { "tcg" });
    let qemu = Qemu::spawn(&qemu).map_err(|error| match error {
        QemuError::NotFound(_) | QemuError::TooOld { .. } => MachineError::NoEngine(error),
        source => MachineError::Engine { log: paths.serial_log(), source },
    })?;
    Ok(Box::new(QemuGuest { qemu, engine, _devices: devices }))
}

/// What the configuration and the base say of the machine.
fn of(config: &Config, boot: BootFiles) -> QemuConfig {
    let disk = |path, format, serial: &str| Disk { path, format, serial: serial.into(), read_only: false };
    QemuConfig {
        accel: match config.accel {
            Accel::Tcg => qemu::Accel::Tcg,
            Accel::Kvm => qemu::Accel::Kvm,
        },
        cpus: config.cpus,
        memory_mib: config.memory,
        kernel: boot.kernel,
        cmdline: boot.command_line,
        disks: vec![
            disk(boot.root_disk, DiskFormat::Qcow2, create::ROOT_SERIAL),
            disk(boot.home_disk, DiskFormat::Raw, create::HOME_SERIAL),
        ],
        network: true,
        ..QemuConfig::default()
    }
}

fn devices(sockets: &Sockets, observer: &Observer) -> Result<[VhostUser; 2], MachineError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| MachineError::Device(error);
    let gpu = Gpu::new(GpuLimits::default(), Box::new(observer.clone()));
    let gpu = VhostUser::spawn(Box::new(gpu), &sockets.gpu(), Some(Box::new(observer.clone())))
        .map_err(|error| failed(error.into()))?;
    let vsock = Vsock::new(VsockConfig {
        guest_cid: GUEST_CID,
        socket: sockets.vsock(),
        privileged_ports: [ports::CONTROL, ports::DISPLAY, ports::STREAM].into(),
        limits: VsockLimits::default(),
    })
    .map_err(|error| failed(error.into()))?;
    let vsock = VhostUser::spawn(Box::new(vsock), &sockets.vhost_vsock(), None)
        .map_err(|error| failed(error.into()))?;
    Ok([gpu, vsock])
}

/// A guest under QEMU. Fields are dropped in their order: first QEMU, then the devices that it uses.
struct QemuGuest {
    qemu: Qemu,
    engine: String,
    _devices: [VhostUser; 2],
}

impl Guest for QemuGuest {
    fn engine(&self) -> String {
        self.engine.clone()
    }

    fn pid(&self) -> u32 {
        self.qemu.pid()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.qemu.as_fd()
    }

    fn ended(&mut self) -> Option<Ended> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let over =
            poll(&mut [PollFd::new(&self.qemu, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0);
        // QEMU's last words are read just after its end.
        let exit = if over { self.qemu.wait_timeout(Duration::from_secs(2)) } else { self.qemu.try_wait() }?;
        let in_order = matches!(exit, Exit::PoweredOff | Exit::Asked);
        Some(Ended { in_order, reason: process::one_line(&exit.to_string()) })
    }

    fn power_button(&mut self) -> Result<(), String> {
        self.qemu.powerdown().map_err(|error| error.to_string())
    }

    fn quit(&mut self) -> Result<(), String> {
        self.qemu.quit().map_err(|error| error.to_string())
    }

    fn kill(&mut self) {
        self.qemu.kill();
    }

    fn pause(&mut self) -> Result<(), String> {
        self.qemu.pause().map_err(|error| error.to_string())
    }

    fn resume(&mut self) -> Result<(), String> {
        self.qemu.resume().map_err(|error| error.to_string())
    }
}
