//! A guest on our own engine, in this process.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use inlay_vmm_core::devices::balloon::Balloon;
use inlay_vmm_core::devices::block::{Block, Format, Image, ImageConfig};
use inlay_vmm_core::devices::net::{Cable, Net, tap};
use inlay_vmm_core::devices::rng::Rng;
use inlay_vmm_core::engine::kvm::{KvmConfig, Vmm};
use inlay_vmm_core::virtio::Device;

use super::super::MachineError;
use super::super::guest::{Ended, Guest};
use super::files::FileServer;
use super::network::{Passt, mac};
use super::{Boots, Start, device_error, ended};
use crate::{config, create};

/// Switches the guest on.
pub fn start(start: Start<'_>) -> Result<Box<dyn Guest>, MachineError> {
    let Start { name, config, boot, sockets, observer, screen, serial_log, sandbox, files, agent: _ } = start;
    let Boots::Own { files: boot, initrd } = boot else { return Err(MachineError::Imported(name.clone())) };
    let bases: Vec<_> = boot.base.root().parent().map(Path::to_path_buf).into_iter().collect();
    let disk = |path, format, serial: &str| {
        let image = ImageConfig { path, format, read_only: false, backing_folders: bases.clone() };
        let queues = u16::try_from(config.cpus).unwrap_or(1).min(4);
        let block = Block::new(Image::open(&image).map_err(device_error)?, serial, queues);
        Ok::<Box<dyn Device>, MachineError>(Box::new(block))
    };
    let mut devices = vec![
        disk(boot.root_disk, Format::Qcow2, create::ROOT_SERIAL)?,
        disk(boot.home_disk, Format::Raw, create::HOME_SERIAL)?,
        Box::new(Rng),
        // Pages that the guest has free go back to the host.
        Box::new(Balloon::new().map_err(device_error)?),
        super::gpu(observer, screen),
        super::vsock(sockets)?,
    ];
    devices.extend(super::inputs(screen)?);
    if files.is_some() {
        devices.push(Box::new(FileServer::device(sockets)?));
    }
    let (card, network) = network(&config.network, mac(name), &serial_log)?;
    let cable = card.as_ref().map(Net::cable);
    devices.extend(card.map(|card| Box::new(card) as Box<dyn Device>));
    sandbox.enter();
    let machine = KvmConfig {
        cpus: config.cpus,
        memory_mib: config.memory,
        kernel: boot.kernel,
        initrd: Some(initrd),
        cmdline: boot.command_line,
        serial_log: serial_log.clone(),
    };
    let vmm = Vmm::start(&machine, devices, Some(&mut observer.clone()))
        .map_err(|source| MachineError::Engine { log: serial_log, source: Box::new(source) })?;
    Ok(Box::new(KvmGuest { vmm, _network: network, cable, files }))
}

/// A guest's network card, and what must live as long as it.
type Network = (Option<Net>, Option<Passt>);

/// Makes the guest's network card. passt that cannot be started is told of in the log: the guest
/// runs without.
fn network(connected: &config::Network, mac: [u8; 6], serial_log: &Path) -> Result<Network, MachineError> {
    match connected {
        config::Network::None => Ok((None, None)),
        config::Network::Tap(name) => {
            let tap = tap::open(name).map_err(device_error)?;
            Ok((Some(Net::on_tap(tap, mac).map_err(device_error)?), None))
        }
        config::Network::User => match Passt::start(&serial_log.with_file_name("network.log")) {
            Ok((passt, socket)) => Ok((Some(Net::new(socket, mac).map_err(device_error)?), Some(passt))),
            Err(error) => {
                let mend = "`inlay doctor` tells what is missing";
                tracing::warn!("the guest has no network: passt cannot be started ({error}); {mend}");
                Ok((None, None))
            }
        },
    }
}

/// A guest in this process. Fields are dropped in their order: first the machine, whose end of the network's socket goes with
/// it, then the network.
struct KvmGuest {
    vmm: Vmm,
    _network: Option<Passt>,
    cable: Option<Cable>,
    files: Option<FileServer>,
}

impl Guest for KvmGuest {
    fn engine(&self) -> String {
        "kvm".into()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.vmm.as_fd()
    }

    fn ended(&mut self) -> Option<Ended> {
        self.vmm.try_wait().as_ref().map(ended)
    }

    fn restarts(&self) -> u64 {
        self.vmm.restarts()
    }

    fn network(&self) -> Option<bool> {
        self.cable.as_ref().map(Cable::is_plugged)
    }

    fn connect(&mut self, connected: bool) -> Result<(), String> {
        self.cable.as_ref().ok_or("the machine has no network")?.plug(connected);
        Ok(())
    }

    fn files_fd(&self) -> Option<BorrowedFd<'_>> {
        self.files.as_ref().map(FileServer::fd)
    }

    fn files_ended(&mut self) -> Option<String> {
        self.files.as_mut()?.ended()
    }

    fn power_button(&mut self) -> Result<(), String> {
        self.vmm.powerdown().map_err(|error| error.to_string())
    }

    fn quit(&mut self) -> Result<(), String> {
        self.vmm.quit();
        Ok(())
    }

    fn kill(&mut self) {
        self.vmm.quit();
    }

    fn pause(&mut self) -> Result<(), String> {
        self.vmm.pause().map_err(|error| error.to_string())
    }

    fn resume(&mut self) -> Result<(), String> {
        self.vmm.resume().map_err(|error| error.to_string())
    }
}
