//! The root of the only bus: which function a configuration or memory access is for.

use std::sync::{Arc, Mutex, PoisonError};

use super::config::{ConfigSpace, Identity};
use super::{PciError, VirtioPci};

/// Slots of a bus.
const SLOTS: usize = 32;

/// A place on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

/// The host bridge in slot 0, and the functions behind it.
#[derive(Debug)]
pub struct Root {
    bridge: Mutex<ConfigSpace>,
    functions: Vec<Arc<VirtioPci>>,
    /// The address register of configuration mechanism 1 (port 0xcf8).
    address: Mutex<u32>,
}

impl Default for Root {
    fn default() -> Self {
        // A host bridge that says nothing else.
        let identity =
            Identity { vendor: 0x1b36, device: 0x0008, revision: 0, class: [6, 0, 0], subsystem: 0x1100 };
        Self {
            bridge: Mutex::new(ConfigSpace::new(identity, None)),
            functions: Vec::new(),
            address: Mutex::new(0),
        }
    }
}

impl Root {
    /// Where the next function goes.
    ///
    /// # Errors
    /// All slots are taken.
    pub fn next(&self) -> Result<Slot, PciError> {
        let slot = self.functions.len() + 1;
        if slot < SLOTS { Ok(Slot(slot)) } else { Err(PciError::Full) }
    }

    /// Adds a function at [`next`](Self::next).
    pub fn add(&mut self, function: Arc<VirtioPci>) {
        self.functions.push(function);
    }

    /// Reads configuration space; `at` is as in the memory-mapped form (bus, slot, function, register).
    pub fn read_config(&self, at: u64, out: &mut [u8]) {
        let (slot, register) = split(at);
        match slot {
            Some(0) => self.bridge.lock().unwrap_or_else(PoisonError::into_inner).read(register, out),
            Some(slot) => match self.functions.get(slot - 1) {
                Some(function) => function.read_config(register, out),
                None => out.fill(0xff),
            },
            None => out.fill(0xff),
        }
    }

    /// Writes configuration space.
    pub fn write_config(&self, at: u64, data: &[u8]) {
        let (slot, register) = split(at);
        match slot {
            Some(0) => self.bridge.lock().unwrap_or_else(PoisonError::into_inner).write(register, data),
            Some(slot) => {
                if let Some(function) = self.functions.get(slot - 1) {
                    function.write_config(register, data);
                }
            }
            None => {}
        }
    }

    /// Reads from the ports 0xcf8 to 0xcff.
    pub fn read_port(&self, port: u16, out: &mut [u8]) {
        let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
        match port {
            0xcf8 if out.len() == 4 => out.copy_from_slice(&address.to_le_bytes()),
            0xcfc..=0xcff => match mechanism_1(address, port) {
                Some(at) => self.read_config(at, out),
                None => out.fill(0xff),
            },
            _ => out.fill(0xff),
        }
    }

    /// Writes to the ports 0xcf8 to 0xcff.
    pub fn write_port(&self, port: u16, data: &[u8]) {
        let mut address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        match port {
            0xcf8 => {
                if let Ok(data) = data.try_into() {
                    *address = u32::from_le_bytes(data);
                }
            }
            0xcfc..=0xcff => {
                if let Some(at) = mechanism_1(*address, port) {
                    drop(address);
                    self.write_config(at, data);
                }
            }
            _ => {}
        }
    }

    /// Reads memory that may be a function's BAR.
    pub fn read_bar(&self, address: u64, out: &mut [u8]) {
        match self.at(address) {
            Some((function, offset)) => function.read_bar(offset, out),
            None => out.fill(0xff),
        }
    }

    /// Writes memory that may be a function's BAR.
    pub fn write_bar(&self, address: u64, data: &[u8]) {
        if let Some((function, offset)) = self.at(address) {
            function.write_bar(offset, data);
        }
    }

    fn at(&self, address: u64) -> Option<(&VirtioPci, u64)> {
        self.functions.iter().find_map(|function| {
            let offset = address.checked_sub(function.bar()?)?;
            (offset < VirtioPci::BAR_SIZE).then_some((&**function, offset))
        })
    }

    /// Takes all functions out, in their order.
    pub fn take(&mut self) -> Vec<Arc<VirtioPci>> {
        std::mem::take(&mut self.functions)
    }

    /// The functions in their order.
    pub fn functions(&self) -> &[Arc<VirtioPci>] {
        &self.functions
    }
}

/// Slot (of bus 0, function 0) and register of an address in the memory-mapped form.
fn split(at: u64) -> (Option<usize>, usize) {
    let register = usize::try_from(at & 0xfff).unwrap_or(0);
    let function = at >> 12;
    let slot = usize::try_from(function >> 3).ok().filter(|slot| *slot < SLOTS && function & 7 == 0);
    (slot, register)
}

/// The address register's meaning, in the memory-mapped form.
fn mechanism_1(address: u32, port: u16) -> Option<u64> {
    let [register, function, bus, enable] = address.to_le_bytes();
    (enable & 0x80 != 0 && bus == 0)
        .then(|| u64::from(function) << 12 | u64::from(register & 0xfc) | u64::from(port & 3))
}
