//! A guest under QEMU, with our devices by vhost-user.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use inlay_vmm_core::devices::block::Format;
use inlay_vmm_core::devices::net::tap;
use inlay_vmm_core::engine::qemu::{self, Disk, DiskFormat, Qemu, QemuConfig, QemuError};
use inlay_vmm_core::transport::vhost_user::VhostUser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::guest::{Ended, Guest};
use super::super::memory::Observer;
use super::super::screen::{Devices, FIRST_SIZE};
use super::super::{MachineError, Sockets};
use super::files::FileServer;
use super::network::mac;
use super::{Boots, Start, device_error, ended};
use crate::config::{Accel, Config, Network};
use crate::create::{self, Uefi};
use crate::files::{AGENT_TAG, TAG};

/// Switches the guest on.
pub fn start(start: Start<'_>) -> Result<Box<dyn Guest>, MachineError> {
    let Start { name, config, boot, sockets, observer, screen, serial_log, mut sandbox, files, agent } =
        start;
    let network = match &config.network {
        Network::User => qemu::Network::User,
        Network::None => qemu::Network::None,
        Network::Tap(name) => qemu::Network::Tap(Arc::new(tap::open(name).map_err(device_error)?)),
    };
    let connected = (config.network != Network::None).then_some(true);
    // Before the devices have threads, so that it holds for them; QEMU is in it as well.
    sandbox.program = Some(qemu::BINARY);
    sandbox.enter();
    if screen.screen().display().is_none() {
        // QEMU lets no device tell its driver that a display came: it is there from the start, and its size stays.
        screen.screen().set_display(Some(FIRST_SIZE));
    }
    let devices = devices(sockets, observer, screen)?;
    let qemu = QemuConfig {
        name: format!("inlay-{name}"),
        serial_log: serial_log.clone(),
        gpu_socket: Some(sockets.gpu()),
        vsock_socket: Some(sockets.vhost_vsock()),
        input_sockets: vec![sockets.keyboard(), sockets.pointer()],
        file_systems: [
            files.as_ref().map(|_| (sockets.vhost_files(), TAG.into())),
            agent.as_ref().map(|_| (sockets.vhost_agent(), AGENT_TAG.into())),
        ]
        .into_iter()
        .flatten()
        .collect(),
        network,
        mac: mac(name),
        ..of(config, boot)
    };
    let engine = format!("qemu, {}", if config.accel == Accel::Kvm { "kvm" } else { "tcg" });
    let qemu = Qemu::spawn(&qemu).map_err(|error| match error {
        QemuError::NotFound(_) | QemuError::TooOld { .. } => MachineError::NoEngine(error),
        source => MachineError::Engine { log: serial_log, source: Box::new(source) },
    })?;
    Ok(Box::new(QemuGuest { qemu, engine, network: connected, _devices: devices, files, _agent: agent }))
}

/// What the configuration and the disks say of the machine.
fn of(config: &Config, boot: Boots) -> QemuConfig {
    let disk = |path, format, serial: &str, overlay| Disk {
        path,
        format,
        serial: serial.into(),
        read_only: false,
        overlay,
    };
    let (boot, disks) = match boot {
        Boots::Own { files, initrd } => {
            let cmdline = match config.accel {
                // They guard a real processor's speculation; each system call would empty the emulator's page cache.
                Accel::Tcg => format!("{} mitigations=off", files.command_line),
                Accel::Kvm => files.command_line,
            };
            let disks = vec![
                disk(files.root_disk, DiskFormat::Qcow2, create::ROOT_SERIAL, true),
                disk(files.home_disk, DiskFormat::Raw, create::HOME_SERIAL, false),
            ];
            (qemu::Boot::Kernel { kernel: files.kernel, initrd: Some(initrd), cmdline }, disks)
        }
        Boots::Imported(files) => {
            let boot = match files.uefi {
                None => qemu::Boot::Bios,
                Some(Uefi { code, variables }) => qemu::Boot::Uefi { code, variables },
            };
            let format = match files.format {
                Format::Raw => DiskFormat::Raw,
                Format::Qcow2 => DiskFormat::Qcow2,
            };
            (boot, vec![disk(files.disk, format, create::ROOT_SERIAL, false)])
        }
    };
    QemuConfig {
        accel: match config.accel {
            Accel::Tcg => qemu::Accel::Tcg,
            Accel::Kvm => qemu::Accel::Kvm,
        },
        cpus: config.cpus,
        memory_mib: config.memory,
        boot,
        disks,
        ..QemuConfig::default()
    }
}

fn devices(sockets: &Sockets, observer: &Observer, screen: &Devices) -> Result<[VhostUser; 4], MachineError> {
    let gpu = super::gpu(observer, screen);
    let gpu =
        VhostUser::spawn(gpu, &sockets.gpu(), Some(Box::new(observer.clone()))).map_err(device_error)?;
    let [keyboard, pointer] = super::inputs(screen)?;
    let keyboard = VhostUser::spawn(keyboard, &sockets.keyboard(), None).map_err(device_error)?;
    let pointer = VhostUser::spawn(pointer, &sockets.pointer(), None).map_err(device_error)?;
    let vsock =
        VhostUser::spawn(super::vsock(sockets)?, &sockets.vhost_vsock(), None).map_err(device_error)?;
    Ok([gpu, vsock, keyboard, pointer])
}

/// A guest under QEMU. Fields are dropped in their order: first QEMU, then the devices that it uses.
struct QemuGuest {
    qemu: Qemu,
    engine: String,
    /// Whether its network is connected, where it has one.
    network: Option<bool>,
    _devices: [VhostUser; 4],
    files: Option<FileServer>,
    _agent: Option<FileServer>,
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
        Some(ended(&exit))
    }

    fn restarts(&self) -> u64 {
        self.qemu.restarts()
    }

    fn network(&self) -> Option<bool> {
        self.network
    }

    fn connect(&mut self, connected: bool) -> Result<(), String> {
        let now = self.network.as_mut().ok_or("the machine has no network")?;
        self.qemu.plug(connected).map_err(|error| error.to_string())?;
        *now = connected;
        Ok(())
    }

    fn files_fd(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(FileServer::fd)
    }

    fn files_ended(&mut self) -> Option<String> {
        self.files.as_mut()?.ended()
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
