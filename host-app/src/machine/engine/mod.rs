//! Builds a guest from its configuration: devices, kernel, initramfs, disks, and an engine around them.

mod files;
mod kvm;
mod network;
mod qemu;

use std::path::{Path, PathBuf};

use inlay_protocol::ports;
use inlay_vmm_core::devices::gpu::{Gpu, GpuLimits};
use inlay_vmm_core::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use inlay_vmm_core::engine::Exit;
use inlay_vmm_core::engine::kvm::probe;
use inlay_vmm_core::virtio::Device;

use self::files::FileServer;
use super::guest::{Ended, Guest};
use super::memory::Observer;
use super::sandbox::Sandbox;
use super::screen::Devices;
use super::{MachineError, Sockets};
use crate::config::{Config, Engine, Network};
use crate::create::{self, BootFiles};
use crate::paths::{Folders, MachineName};
use crate::process;

/// The guest's context id. Any from 3 on: each machine has a vsock device of its own.
const GUEST_CID: u32 = 3;

/// What the kernel says on the screen as well, for someone who watches from the first line on: the last console is where the guest's
/// first process writes.
const ON_SCREEN: &str = " console=tty0 loglevel=6 systemd.show_status=1";

/// What an engine needs to know.
struct Start<'a> {
    name: &'a MachineName,
    config: &'a Config,
    boot: BootFiles,
    initrd: PathBuf,
    sockets: &'a Sockets,
    observer: &'a Observer,
    screen: &'a Devices,
    serial_log: PathBuf,
    /// To be entered before the guest's devices run.
    sandbox: Sandbox,
    files: Option<FileServer>,
}

/// Switches a machine's guest on, with the engine that is asked for, or else the one of its configuration. When the choice is
/// left to us and fell on QEMU, one line says why. The caller holds the machine's lock.
///
/// # Errors
/// Its configuration, files, devices or engine.
pub fn start(
    folders: &Folders,
    name: &MachineName,
    engine: Option<Engine>,
    sockets: &Sockets,
    observer: &Observer,
    screen: &Devices,
) -> Result<(Box<dyn Guest>, Option<String>), MachineError> {
    let (config, mut boot) = create::boot_files(folders, name)?;
    if screen.screen().display().is_some() {
        boot.command_line.push_str(ON_SCREEN);
    }
    if config.network == Network::None {
        // It would look for its card for ever.
        boot.command_line.push_str(" inlay.no-network");
    }
    if !config.kernel_options.is_empty() {
        boot.command_line.push(' ');
        boot.command_line.push_str(&config.kernel_options);
    }
    let (files, file_note) = match FileServer::start(name, &folders.machine(name).data().join("files.log")) {
        Ok((files, note)) => {
            boot.command_line.push_str(" inlay.files");
            (Some(files), note)
        }
        Err(why) => {
            tracing::warn!("the guest has no shared folders: {why}");
            (None, Some(format!("the guest has no shared folders: {why}")))
        }
    };
    let initrd = folders.machine(name).data().join("initrd");
    create::initrd(&boot.base, &process::agent_binary()?, &initrd)?;
    let serial_log = folders.machine(name).serial_log();
    let paths = folders.machine(name);
    let sandbox = Sandbox {
        own: vec![paths.data().into(), paths.runtime().into()],
        parents: paths.runtime().parent().map(Path::to_path_buf).into_iter().collect(),
        reads: boot.base.root().parent().map(Path::to_path_buf).into_iter().collect(),
        program: None,
    };
    let start =
        Start { name, config: &config, boot, initrd, sockets, observer, screen, serial_log, sandbox, files };
    let (guest, engine_note) = match engine.unwrap_or(config.engine) {
        Engine::Kvm => (kvm::start(start)?, None),
        Engine::Qemu => (qemu::start(start)?, None),
        Engine::Auto => match probe() {
            Ok(_) => (kvm::start(start)?, None),
            Err(why) => {
                let note = format!("the guest runs under QEMU: {why}");
                tracing::info!("{note}");
                (qemu::start(start)?, Some(note))
            }
        },
    };
    let notes: Vec<_> = engine_note.into_iter().chain(file_note).collect();
    Ok((guest, (!notes.is_empty()).then(|| notes.join("; "))))
}

fn device_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> MachineError {
    MachineError::Device(error.into())
}

fn gpu(observer: &Observer, screen: &Devices) -> Box<dyn Device> {
    Box::new(Gpu::new(GpuLimits::default(), Box::new(observer.clone()), screen.screen()))
}

/// The keyboard and the pointer of the full window.
fn inputs(screen: &Devices) -> Result<[Box<dyn Device>; 2], MachineError> {
    Ok(screen.inputs().map_err(device_error)?.map(|input| Box::new(input) as Box<dyn Device>))
}

fn vsock(sockets: &Sockets) -> Result<Box<dyn Device>, MachineError> {
    let vsock = Vsock::new(VsockConfig {
        guest_cid: GUEST_CID,
        socket: sockets.vsock(),
        privileged_ports: [ports::CONTROL, ports::DISPLAY, ports::STREAM].into(),
        limits: VsockLimits::default(),
    });
    Ok(Box::new(vsock.map_err(device_error)?))
}

fn ended(exit: &Exit) -> Ended {
    let in_order = matches!(exit, Exit::PoweredOff | Exit::Asked);
    Ended { in_order, reason: process::one_line(&exit.to_string()) }
}
