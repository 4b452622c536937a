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

use self::files::{FileServer, Starting};
use super::guest::{Ended, Guest};
use super::memory::Observer;
use super::sandbox::Sandbox;
use super::screen::Devices;
use super::{MachineError, Sockets};
use crate::config::{Config, Engine, Network};
use crate::create::{self, Boot, BootFiles, ImportedFiles};
use crate::files::Serves;
use crate::paths::{Folders, MachineName, MachinePaths};
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
    boot: Boots,
    sockets: &'a Sockets,
    observer: &'a Observer,
    screen: &'a Devices,
    serial_log: PathBuf,
    /// To be entered before the guest's devices run.
    sandbox: Sandbox,
    files: Option<FileServer>,
    /// What gives an imported guest its agent.
    agent: Option<FileServer>,
}

/// What a guest boots from, ready.
enum Boots {
    Own { files: BootFiles, initrd: PathBuf },
    Imported(ImportedFiles),
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
    let (config, boot) = create::boot_files(folders, name)?;
    let engine = engine.unwrap_or(config.engine);
    let imported = matches!(boot, Boot::Imported(_));
    if imported && engine == Engine::Kvm {
        return Err(MachineError::Imported(name.clone()));
    }
    let paths = folders.machine(name);
    let files = FileServer::start(name, Serves::Shares, &paths.data().join("files.log"));
    let (agent, agent_note) = if imported { agent(&paths)? } else { (None, None) };
    let base = match &boot {
        Boot::Own(files) => files.base.root().parent().map(Path::to_path_buf),
        Boot::Imported(_) => None,
    };
    let initrd = paths.data().join("initrd");
    if let Boot::Own(own) = &boot {
        create::initrd(&own.base.initramfs(), &process::agent_binary()?, &initrd)?;
    }
    let (files, file_note) = match files.and_then(Starting::ready) {
        Ok((files, note)) => (Some(files), note),
        Err(why) => {
            tracing::warn!("the guest has no shared folders: {why}");
            (None, Some(format!("the guest has no shared folders: {why}")))
        }
    };
    let boot = match boot {
        Boot::Own(mut own) => {
            own.command_line.push_str(&more_words(&config, screen, files.is_some()));
            Boots::Own { files: own, initrd }
        }
        Boot::Imported(files) => Boots::Imported(files),
    };
    let sandbox = Sandbox {
        own: vec![paths.data().into(), paths.runtime().into()],
        parents: paths.runtime().parent().map(Path::to_path_buf).into_iter().collect(),
        reads: base.into_iter().collect(),
        program: None,
    };
    let serial_log = paths.serial_log();
    let start =
        Start { name, config: &config, boot, sockets, observer, screen, serial_log, sandbox, files, agent };
    let (guest, engine_note) = match engine {
        Engine::Kvm => (kvm::start(start)?, None),
        Engine::Qemu => (qemu::start(start)?, None),
        Engine::Auto if imported => (qemu::start(start)?, None),
        Engine::Auto => match probe() {
            Ok(_) => (kvm::start(start)?, None),
            Err(why) => {
                let note = format!("the guest runs under QEMU: {why}");
                tracing::info!("{note}");
                (qemu::start(start)?, Some(note))
            }
        },
    };
    let notes: Vec<_> = engine_note.into_iter().chain(file_note).chain(agent_note).collect();
    Ok((guest, (!notes.is_empty()).then(|| notes.join("; "))))
}

/// What the kernel of a guest that was built here is told beside what every start tells it.
fn more_words(config: &Config, screen: &Devices, files: bool) -> String {
    let mut words = String::new();
    if screen.screen().display().is_some() {
        words.push_str(ON_SCREEN);
    }
    if config.network == Network::None {
        // It would look for its card for ever.
        words.push_str(" inlay.no-network");
    }
    if !config.kernel_options.is_empty() {
        words.push(' ');
        words.push_str(&config.kernel_options);
    }
    if files {
        words.push_str(" inlay.files");
    }
    words
}

/// A file server, and what the user should know.
type Served = (Option<FileServer>, Option<String>);

/// Lays ready what an imported guest gets of us, of this build, and serves it. Where that cannot be done the guest runs without.
fn agent(paths: &MachinePaths) -> Result<Served, MachineError> {
    create::agent_folder(&process::agent_binary()?, &paths.agent_folder())?;
    let server = FileServer::start(paths.name(), Serves::Agent, &paths.data().join("agent.log"));
    Ok(match server.and_then(Starting::ready) {
        Ok((server, note)) => (Some(server), note),
        Err(why) => {
            let note = format!("the guest gets no agent of this host: {why}");
            tracing::warn!("{note}");
            (None, Some(note))
        }
    })
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
