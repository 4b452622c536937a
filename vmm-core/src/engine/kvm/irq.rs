//! Interrupts and doorbells of PCI functions, by the kernel: messages through routes and irqfds, doorbells through ioeventfds.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::transport::pci::{Message, Platform};

/// Lines of the I/O APIC; messages have the numbers behind.
const PINS: u32 = 24;
/// Bounded by what the kernel takes (`KVM_MAX_IRQ_ROUTES` is 4096).
const MESSAGES: usize = 2048;

/// All routes of a machine.
#[derive(Debug)]
pub struct Interrupts {
    vm: Arc<VmFd>,
    messages: Mutex<Vec<Option<Message>>>,
}

impl Interrupts {
    pub fn new(vm: Arc<VmFd>) -> Arc<Self> {
        Arc::new(Self { vm, messages: Mutex::default() })
    }

    /// Numbers for a function with this many interrupts.
    ///
    /// # Errors
    /// There are none left, or no descriptors.
    pub fn function(self: &Arc<Self>, vectors: u16) -> io::Result<Function> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let first = messages.len();
        let end = first + usize::from(vectors);
        if end > MESSAGES {
            return Err(io::Error::other("more interrupts than the kernel has routes"));
        }
        messages.resize(end, None);
        let first = PINS + u32::try_from(first).map_err(io::Error::other)?;
        let lines = (0..vectors)
            .map(|_| EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))
            .collect::<io::Result<_>>()?;
        Ok(Function { all: self.clone(), first, lines })
    }

    fn set(&self, number: u32, message: Message) -> io::Result<()> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number - PINS).map_err(io::Error::other)?;
        let slot = messages.get_mut(index).ok_or_else(|| io::Error::other("no such interrupt"))?;
        *slot = Some(message);
        let mut entries: Vec<_> = (0..PINS).flat_map(pins).collect();
        for (index, message) in messages.iter().enumerate() {
            if let Some(message) = message {
                let number = PINS + u32::try_from(index).map_err(io::Error::other)?;
                entries.push(entry(number, *message));
            }
        }
        let routing =
            KvmIrqRouting::from_entries(&entries).map_err(|e| io::Error::other(format!("{e:?}")))?;
        self.vm.set_gsi_routing(&routing).map_err(errno)
    }
}

fn errno(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// The routes that a line has from the start.
fn pins(gsi: u32) -> impl Iterator<Item = kvm_irq_routing_entry> {
    let chip = |irqchip: u32, pin: u32| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..kvm_irq_routing_entry::default()
    };
    let pic = match gsi {
        0..8 => Some(chip(KVM_IRQCHIP_PIC_MASTER, gsi)),
        8..16 => Some(chip(KVM_IRQCHIP_PIC_SLAVE, gsi - 8)),
        _ => None,
    };
    [Some(chip(KVM_IRQCHIP_IOAPIC, gsi)), pic].into_iter().flatten()
}

fn entry(gsi: u32, message: Message) -> kvm_irq_routing_entry {
    let [low, high] =
        [message.address & 0xffff_ffff, message.address >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let msi =
        kvm_irq_routing_msi { address_lo: low, address_hi: high, data: message.data, ..Default::default() };
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..kvm_irq_routing_entry::default()
    }
}

/// One function's.
#[derive(Debug)]
pub struct Function {
    all: Arc<Interrupts>,
    first: u32,
    lines: Vec<EventFd>,
}

impl Platform for Function {
    fn set_message(&self, vector: u16, message: Message) -> io::Result<()> {
        self.all.set(self.first + u32::from(vector), message)
    }

    fn connect(&self, vector: u16, connected: bool) -> io::Result<()> {
        let line =
            self.lines.get(usize::from(vector)).ok_or_else(|| io::Error::other("no such interrupt"))?;
        let number = self.first + u32::from(vector);
        // What was counted meanwhile is sent at once.
        let done = if connected {
            self.all.vm.register_irqfd(line, number)
        } else {
            self.all.vm.unregister_irqfd(line, number)
        };
        done.map_err(errno)
    }

    fn line(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.lines.get(usize::from(vector)).map(borrowed)
    }

    fn watch_doorbell(&self, address: u64, kick: BorrowedFd<'_>) -> io::Result<()> {
        let kick = owned(kick)?;
        self.all.vm.register_ioevent(&kick, &IoEventAddress::Mmio(address), NoDatamatch).map_err(errno)
    }

    fn forget_doorbell(&self, address: u64, kick: BorrowedFd<'_>) {
        let forgotten = owned(kick).and_then(|kick| {
            self.all.vm.unregister_ioevent(&kick, &IoEventAddress::Mmio(address), NoDatamatch).map_err(errno)
        });
        if let Err(error) = forgotten {
            tracing::debug!(%error, "a doorbell was not there");
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Those that are cut already are refused.
        for (line, number) in self.lines.iter().zip(self.first..) {
            let _ = self.all.vm.unregister_irqfd(line, number);
        }
    }
}

fn borrowed(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: it is open as long as the eventfd is there.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

/// The same eventfd under another number.
fn owned(fd: BorrowedFd<'_>) -> io::Result<EventFd> {
    let copy = fd.try_clone_to_owned()?;
    // SAFETY: the descriptor is an eventfd of ours, owned by nobody else.
    Ok(unsafe { EventFd::from_raw_fd(copy.into_raw_fd()) })
}
