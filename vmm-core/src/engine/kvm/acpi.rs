//! ACPI tables (6.5), hardware-reduced: no fixed power management registers, an event device for the power button.
//!
//! ```text
//!   RSDP -> XSDT -> FADT -> DSDT: PCI root, serial port, power button and the event device that presses it, S5
//!                   MADT: local APICs, I/O APIC        MCFG: PCI's extended configuration space
//! ```

use acpi_tables::aml::{
    self, AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Method, Name, Notify,
    Package, Path, ResourceTemplate,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use vm_memory::{Bytes as _, GuestAddress};

use super::KvmError;
use super::boot::{ACPI, ACPI_SIZE};
use super::memory::{BARS, BARS_SIZE, ECAM, HIGH, IOAPIC, LAPIC, Ram};

const OEM: [u8; 6] = *b"INLAY ";
const TABLE: [u8; 8] = *b"INLAYVM ";
/// Interrupt of the serial port.
pub const SERIAL_GSI: u32 = 4;
/// Interrupt of the event device.
pub const EVENT_GSI: u32 = 5;
/// Port of the sleep control register; the status register is the next one.
pub const SLEEP_PORT: u16 = 0x600;
/// Port of the reset register.
pub const RESET_PORT: u16 = 0x602;
/// What resets when it is written there.
pub const RESET_VALUE: u8 = 1;
/// The sleep type of "soft off" (S5).
pub const SOFT_OFF: u8 = 5;
/// Size of the window for shared memory regions above RAM.
pub const HIGH_WINDOW: u64 = 1 << 36;

/// Writes the tables for this many processors.
///
/// # Errors
/// They do not fit.
pub fn write(ram: &Ram, cpus: u8) -> Result<(), KvmError> {
    let mut at = ACPI + Rsdp::len() as u64;
    let mut place = |table: &dyn Aml| {
        at = at.next_multiple_of(16);
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let here = at;
        at += bytes.len() as u64;
        if at > ACPI + ACPI_SIZE {
            return Err(KvmError::Config("the ACPI tables do not fit".into()));
        }
        ram.mem.write_slice(&bytes, GuestAddress(here)).map_err(|e| KvmError::Config(e.to_string()))?;
        Ok(here)
    };
    let dsdt = place(&dsdt(ram))?;
    let register = |port: u16| GAS::new(GasSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into());
    let mut fadt = FADTBuilder::new(OEM, TABLE, 1)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.sleep_control_reg = register(SLEEP_PORT);
    fadt.sleep_status_reg = register(SLEEP_PORT + 1);
    fadt.reset_reg = register(RESET_PORT);
    fadt.reset_value = RESET_VALUE;
    // Neither VGA nor legacy devices; the i8042 is its reset line alone, which needs no driver.
    fadt.iapc_boot_arch = (1 << 2).into();
    let fadt = place(&fadt.finalize())?;
    let mut madt = MADT::new(OEM, TABLE, 1, LocalInterruptController::Address(LAPIC));
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IOAPIC, 0));
    let madt = place(&madt)?;
    let mut mcfg = MCFG::new(OEM, TABLE, 1);
    mcfg.add_ecam(ECAM, 0, 0, 0);
    let mcfg = place(&mcfg)?;
    let mut xsdt = XSDT::new(OEM, TABLE, 1);
    [fadt, madt, mcfg].into_iter().for_each(|table| xsdt.add_entry(table));
    let xsdt = place(&xsdt)?;
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    ram.mem.write_slice(&rsdp, GuestAddress(ACPI)).map_err(|e| KvmError::Config(e.to_string()))
}

fn dsdt(ram: &Ram) -> Sdt {
    let mut aml = Vec::new();
    let address = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let high = ram.high_end().next_multiple_of(HIGH);
    Device::new(
        "_SB_.PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_SEG".into(), &aml::ZERO),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new("_BBN".into(), &aml::ZERO),
            &Name::new("_CCA".into(), &aml::ONE),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &AddressSpace::<u16>::new_bus_number(0, 0),
                    &IO::new(0xcf8, 0xcf8, 1, 8),
                    &AddressSpace::<u32>::new_memory(
                        AddressSpaceCacheable::NotCacheable,
                        true,
                        address(BARS),
                        address(BARS + BARS_SIZE - 1),
                        None,
                    ),
                    &AddressSpace::<u64>::new_memory(
                        AddressSpaceCacheable::NotCacheable,
                        true,
                        high,
                        high + HIGH_WINDOW - 1,
                        None,
                    ),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut aml);
    // The configuration space must be a resource of somebody, or systems do not trust it.
    Device::new(
        "_SB_.MB00".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&aml::Memory32Fixed::new(
                    true,
                    address(ECAM),
                    address(super::memory::ECAM_SIZE),
                )]),
            ),
        ],
    )
    .to_aml_bytes(&mut aml);
    Device::new(
        "_SB_.COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Interrupt::new(true, true, false, false, SERIAL_GSI),
                    &IO::new(0x3f8, 0x3f8, 0, 8),
                ]),
            ),
        ],
    )
    .to_aml_bytes(&mut aml);
    Device::new(
        "_SB_.PWRB".into(),
        vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C")), &Name::new("_UID".into(), &aml::ZERO)],
    )
    .to_aml_bytes(&mut aml);
    Device::new(
        "_SB_.GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&Interrupt::new(true, true, false, false, EVENT_GSI)]),
            ),
            &Method::new("_EVT".into(), 1, true, vec![&Notify::new(&Path::new("\\_SB_.PWRB"), &0x80_u8)]),
        ],
    )
    .to_aml_bytes(&mut aml);
    Name::new("_S5_".into(), &Package::new(vec![&SOFT_OFF])).to_aml_bytes(&mut aml);
    let mut sdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, 1);
    AmlSink::vec(&mut sdt, &aml);
    sdt
}
