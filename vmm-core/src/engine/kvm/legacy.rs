//! What a PC has at its ports: serial port, keyboard controller (its reset line alone), clock, sleep and reset registers,
//! PCI's configuration mechanism 1. And what processors do with memory where no RAM is.

use std::io::Write;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::acpi::{RESET_PORT, RESET_VALUE, SLEEP_PORT, SOFT_OFF};
use super::memory::{BARS, BARS_SIZE, ECAM, ECAM_SIZE};
use super::{Event, KvmError};
use crate::engine::serial::SerialLog;
use crate::transport::pci::Root;

const SERIAL: u16 = 0x3f8;
/// "Pulse the reset line" of the keyboard controller.
pub const PULSE_RESET: u8 = 0xfe;
/// "Sleep enable" of the sleep control register (ACPI 6.5, section 4.8.3.7), its type from bit 2 on.
const SLEEP_ENABLE: u8 = 1 << 5;

/// The serial port's log, shared with whoever asks for the guest's last words.
pub type Log = Arc<Mutex<SerialLog>>;

struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

struct Out(Log);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that a processor reaches outside RAM.
pub struct Bus {
    pub root: Arc<Root>,
    serial: Mutex<Serial<Line, NoEvents, Out>>,
    clock: Mutex<u8>,
    events: Mutex<Sender<Event>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Bus {
    /// `line` interrupts for the serial port; `events` hears of power and reset.
    pub fn new(root: Arc<Root>, line: EventFd, log: Log, events: Sender<Event>) -> Self {
        Self {
            root,
            serial: Mutex::new(Serial::new(Line(line), Out(log))),
            clock: Mutex::new(0),
            events: Mutex::new(events),
        }
    }

    /// Tells the machine's thread.
    pub fn tell(&self, event: Event) {
        // It is gone only when the machine ends.
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    /// A processor reads from a port.
    pub fn read_port(&self, port: u16, out: &mut [u8]) {
        match port {
            SERIAL..=0x3ff => {
                let offset = u8::try_from(port - SERIAL).unwrap_or(0);
                out.fill(self.serial.lock().unwrap_or_else(PoisonError::into_inner).read(offset));
            }
            0x71 => out.fill(clock(*self.clock.lock().unwrap_or_else(PoisonError::into_inner))),
            // Nothing is waiting, everything is taken.
            0x60 | 0x64 => out.fill(0),
            0xcf8..=0xcff => self.root.read_port(port, out),
            SLEEP_PORT..=RESET_PORT => out.fill(0),
            _ => out.fill(0xff),
        }
    }

    /// A processor writes to a port.
    pub fn write_port(&self, port: u16, data: &[u8]) {
        let Some(first) = data.first().copied() else { return };
        match port {
            SERIAL..=0x3ff => {
                let offset = u8::try_from(port - SERIAL).unwrap_or(0);
                if let Err(error) =
                    self.serial.lock().unwrap_or_else(PoisonError::into_inner).write(offset, first)
                {
                    tracing::debug!("serial port: {error:?}");
                }
            }
            0x70 => *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = first & 0x7f,
            0x64 if first == PULSE_RESET => self.tell(Event::Reset("the keyboard controller's reset line")),
            RESET_PORT if first == RESET_VALUE => self.tell(Event::Reset("ACPI's reset register")),
            // The reset register of PC chipsets.
            0xcf9 if first & 0b100 != 0 => self.tell(Event::Reset("the chipset's reset register")),
            SLEEP_PORT if first & SLEEP_ENABLE != 0 && first >> 2 & 7 == SOFT_OFF => {
                self.tell(Event::PowerOff)
            }
            0xcf8..=0xcff => self.root.write_port(port, data),
            _ => {}
        }
    }

    /// A processor reads where no RAM is.
    pub fn read_memory(&self, address: u64, out: &mut [u8]) {
        if (ECAM..ECAM + ECAM_SIZE).contains(&address) {
            self.root.read_config(address - ECAM, out);
        } else if (BARS..BARS + BARS_SIZE).contains(&address) {
            self.root.read_bar(address, out);
        } else {
            out.fill(0xff);
        }
    }

    /// A processor writes where no RAM is.
    pub fn write_memory(&self, address: u64, data: &[u8]) {
        if (ECAM..ECAM + ECAM_SIZE).contains(&address) {
            self.root.write_config(address - ECAM, data);
        } else {
            self.root.write_bar(address, data);
        }
    }
}

/// A register of the clock (MC146818): the host's time in UTC, 24 hours, BCD.
fn clock(register: u8) -> u8 {
    let now = clock_gettime(ClockId::Realtime).tv_sec.max(0);
    let (days, second) = (now / 86_400, now % 86_400);
    let (year, month, day) = date(days);
    let value = match register {
        0 => second % 60,
        2 => second / 60 % 60,
        4 => second / 3600,
        // Sunday is 1; day 0 was a Thursday.
        6 => (days + 4) % 7 + 1,
        7 => day,
        8 => month,
        9 => year % 100,
        0x32 => year / 100,
        // No update in progress, the usual divider; 24 hours; battery good.
        0xa => return 0x26,
        0xb => return 0x02,
        0xd => return 0x80,
        _ => return 0,
    };
    u8::try_from(value / 10 * 16 + value % 10).unwrap_or(0)
}

/// Year, month and day of a day since 1970 (proleptic Gregorian calendar, counted in eras of 400 years from a first of March).
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + 400 * era + i64::from(month <= 2), month, date)
}

/// A line of the I/O APIC as an eventfd.
///
/// # Errors
/// KVM or the host refuse.
pub fn line(vm: &kvm_ioctls::VmFd, gsi: u32) -> Result<EventFd, KvmError> {
    let fd = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
        .map_err(|source| KvmError::Os { act: "make an interrupt line", source })?;
    vm.register_irqfd(&fd, gsi).map_err(KvmError::kvm("make an interrupt line"))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(19_722), (2023, 12, 31));
        assert_eq!(date(19_723), (2024, 1, 1));
    }

    #[test]
    fn the_clock_counts_in_bcd() {
        assert_eq!(clock(0x32), 0x20);
        assert!(clock(8) <= 0x12 && clock(4) <= 0x23 && clock(0) & 0xf <= 9);
    }
}
