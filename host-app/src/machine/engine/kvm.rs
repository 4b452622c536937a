//! A guest on our own engine, in this process.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use inlay_vmm_core::devices::block::{Block, Format, Image, ImageConfig};
use inlay_vmm_core::devices::rng::Rng;
use inlay_vmm_core::engine::kvm::{KvmConfig, Vmm};
use inlay_vmm_core::virtio::Device;

use super::super::MachineError;
use super::super::guest::{Ended, Guest};
use super::{Start, device_error, ended};
use crate::create;

/// Switches the guest on.
pub fn start(start: Start<'_>) -> Result<Box<dyn Guest>, MachineError> {
    let Start { name: _, config, boot, initrd, sockets, observer, serial_log } = start;
    let bases: Vec<_> = boot.base.root().parent().map(Path::to_path_buf).into_iter().collect();
    let disk = |path, format, serial: &str| {
        let image = ImageConfig { path, format, read_only: false, backing_folders: bases.clone() };
        let queues = u16::try_from(config.cpus).unwrap_or(1).min(4);
        let block = Block::new(Image::open(&image).map_err(device_error)?, serial, queues);
        Ok::<Box<dyn Device>, MachineError>(Box::new(block))
    };
    let devices = vec![
        disk(boot.root_disk, Format::Qcow2, create::ROOT_SERIAL)?,
        disk(boot.home_disk, Format::Raw, create::HOME_SERIAL)?,
        Box::new(Rng),
        super::gpu(observer),
        super::vsock(sockets)?,
    ];
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
    Ok(Box::new(KvmGuest { vmm }))
}

/// A guest in this process.
struct KvmGuest {
    vmm: Vmm,
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
