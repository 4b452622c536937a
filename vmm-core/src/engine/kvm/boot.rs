//! What a guest finds in memory when its first processor starts: kernel, initramfs, command line and the tables that tell it
//! about them. Two ways in: PVH (an uncompressed `vmlinux` says where by a note) and the 64-bit boot protocol of a `bzImage`.
//!
//! ```text
//!   0x0500 GDT   0x6000 start info   0x7000 zero page   0x9000 page tables   0x20000 command line   0xe0000 ACPI
//!   0xffff0 reset   1 MiB kernel
//! ```

use std::fs::File;
use std::io::Seek as _;
use std::path::Path;

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator as _, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::{BzImage, Elf, KernelLoader as _, load_cmdline};
use vm_memory::{Address as _, Bytes as _, GuestAddress, ReadVolatile as _};

use super::memory::{HIGH, Ram};
use super::{KvmConfig, KvmError};

const GDT: u64 = 0x500;
const START_INFO: u64 = 0x6000;
const MODULES: u64 = 0x6100;
const MEMORY_MAP: u64 = 0x6200;
const ZERO_PAGE: u64 = 0x7000;
const STACK: u64 = 0x8ff0;
const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
const COMMAND_LINE_SIZE: usize = 0x1_0000;
/// Conventional memory ends here.
const LOW_MEMORY_END: u64 = 0x9_fc00;
/// The ACPI tables, below 1 MiB where systems look for them.
pub const ACPI: u64 = 0xe_0000;
/// Room for them.
pub const ACPI_SIZE: u64 = RESET - ACPI;
/// Where a processor starts, and where systems jump to as their way to reset: stock kernels do so when ACPI is hardware-reduced
/// and there is no EFI.
const RESET: u64 = 0xf_fff0;
/// `mov al, 0xfe; out 0x64, al; hlt; jmp` to the `hlt`: the keyboard controller's reset line.
const RESET_CODE: [u8; 7] = [0xb0, super::legacy::PULSE_RESET, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
const KERNEL: u64 = 0x10_0000;
/// The 64-bit entry of a bzImage, behind its start.
const ENTRY_64: u64 = 0x200;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// How the first processor starts.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// 32-bit, without paging, `rbx` at the start info.
    Pvh { entry: u64 },
    /// 64-bit, memory mapped one to one, `rsi` at the zero page.
    Linux64 { entry: u64 },
}

/// Puts kernel, initramfs and command line into guest memory. The ACPI tables are placed by [`super::acpi`].
///
/// # Errors
/// A file that cannot be read, is no kernel, is cut short, or does not fit.
pub fn load(config: &KvmConfig, ram: &Ram) -> Result<Start, KvmError> {
    let kernel = load_kernel(&config.kernel, ram)?;
    let initrd = match &config.initrd {
        Some(path) => Some(load_initrd(path, ram, kernel.end)?),
        None => None,
    };
    let mut line =
        Cmdline::new(COMMAND_LINE_SIZE).map_err(|e| KvmError::Config(format!("the command line: {e}")))?;
    line.insert_str(&config.cmdline).map_err(|e| KvmError::Config(format!("the command line: {e}")))?;
    ram.mem
        .write_slice(&RESET_CODE, GuestAddress(RESET))
        .map_err(|e| KvmError::Config(format!("the machine's memory: {e}")))?;
    load_cmdline(&ram.mem, GuestAddress(COMMAND_LINE), &line)
        .map_err(|e| KvmError::Config(format!("the command line: {e}")))?;
    match kernel.header {
        None => write_start_info(ram, initrd)?,
        Some(header) => write_zero_page(header, ram, initrd, config.cmdline.len())?,
    }
    Ok(kernel.start)
}

/// A kernel in guest memory.
struct Kernel {
    start: Start,
    /// Memory from its place to here is its own.
    end: u64,
    /// A bzImage's.
    header: Option<setup_header>,
}

fn bad_kernel(path: &Path, why: impl std::fmt::Display) -> KvmError {
    KvmError::Config(format!("{} is not a kernel that can be started: {why}", path.display()))
}

fn load_kernel(path: &Path, ram: &Ram) -> Result<Kernel, KvmError> {
    let mut file = open(path)?;
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut file, &mut magic).map_err(|_| bad_kernel(path, "it is too short"))?;
    file.rewind().map_err(|source| KvmError::File { path: path.into(), source })?;
    let place = Some(GuestAddress(KERNEL));
    if magic == *b"\x7fELF" {
        let length = file.metadata().map_err(|source| KvmError::File { path: path.into(), source })?.len();
        whole_elf(path, &file, length)?;
        let loaded = Elf::load(&ram.mem, None, &mut file, place).map_err(|e| bad_kernel(path, e))?;
        match loaded.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(entry) => {
                let start = Start::Pvh { entry: entry.raw_value() };
                Ok(Kernel { start, end: loaded.kernel_end, header: None })
            }
            _ => Err(bad_kernel(path, "it has no PVH entry (CONFIG_PVH)")),
        }
    } else {
        let loaded = BzImage::load(&ram.mem, place, &mut file, place).map_err(|e| bad_kernel(path, e))?;
        let header = loaded.setup_header.ok_or_else(|| bad_kernel(path, "it has no header"))?;
        // XLF_KERNEL_64.
        if header.xloadflags & 1 == 0 {
            return Err(bad_kernel(path, "it has no 64-bit entry"));
        }
        let start = Start::Linux64 { entry: loaded.kernel_load.raw_value() + ENTRY_64 };
        // It unpacks itself to here.
        let unpacked = header.pref_address.saturating_add(header.init_size.into());
        Ok(Kernel { start, end: loaded.kernel_end.max(unpacked), header: Some(header) })
    }
}

/// Refuses a file that ends before its last segment does: the loader would leave it half empty.
fn whole_elf(path: &Path, file: &File, length: u64) -> Result<(), KvmError> {
    use std::os::unix::fs::FileExt as _;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).map_err(|_| bad_kernel(path, "it is too short"))?;
    let u16_at =
        |at: usize| header.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
    let table = header.get(32..40).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    for index in 0..u64::from(u16_at(56)) {
        let mut entry = [0; 40];
        let at = table.saturating_add(index * u64::from(u16_at(54)));
        file.read_exact_at(&mut entry, at).map_err(|_| bad_kernel(path, "it is cut short"))?;
        let field =
            |at: usize| entry.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let (offset, size) = (field(8), field(32));
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(bad_kernel(path, "it is cut short"));
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, KvmError> {
    File::open(path).map_err(|source| KvmError::File { path: path.into(), source })
}

/// As high as it fits below 2 GiB, where every boot protocol allows it.
fn load_initrd(path: &Path, ram: &Ram, kernel_end: u64) -> Result<(u64, u64), KvmError> {
    let mut file = open(path)?;
    let failed = |source| KvmError::File { path: path.into(), source };
    let size = file.metadata().map_err(failed)?.len();
    let top = ram.low_end().min(1 << 31);
    let at = top.checked_sub(size).map(|at| at & !0xfff).filter(|at| *at >= kernel_end);
    let at = at.ok_or_else(|| {
        KvmError::Config(format!(
            "{} ({} MiB) does not fit into the machine's memory beside the kernel",
            path.display(),
            size >> 20
        ))
    })?;
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    let slice = vm_memory::GuestMemory::get_slice(&ram.mem, GuestAddress(at), length)
        .map_err(|e| KvmError::Config(e.to_string()))?;
    file.read_exact_volatile(&mut { slice }).map_err(|e| failed(std::io::Error::other(e)))?;
    Ok((at, size))
}

/// What there is of memory: start, length, kind.
fn memory_map(ram: &Ram) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, LOW_MEMORY_END, E820_RAM),
        (ACPI, KERNEL - ACPI, E820_RESERVED),
        (KERNEL, ram.low_end() - KERNEL, E820_RAM),
        (super::memory::ECAM, super::memory::ECAM_SIZE, E820_RESERVED),
    ];
    if ram.high_end() > HIGH {
        map.push((HIGH, ram.high_end() - HIGH, E820_RAM));
    }
    map
}

fn write_start_info(ram: &Ram, initrd: Option<(u64, u64)>) -> Result<(), KvmError> {
    let map: Vec<_> = memory_map(ram)
        .into_iter()
        .map(|(addr, size, type_)| hvm_memmap_table_entry { addr, size, type_, reserved: 0 })
        .collect();
    let modules: Vec<_> = initrd
        .into_iter()
        .map(|(paddr, size)| hvm_modlist_entry { paddr, size, ..hvm_modlist_entry::default() })
        .collect();
    let info = hvm_start_info {
        magic: 0x336e_c578,
        version: 1,
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: ACPI,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        modlist_paddr: MODULES,
        nr_modules: u32::try_from(modules.len()).unwrap_or(0),
        ..hvm_start_info::default()
    };
    let mut params = BootParams::new::<hvm_start_info>(&info, GuestAddress(START_INFO));
    params.set_sections::<hvm_memmap_table_entry>(&map, GuestAddress(MEMORY_MAP));
    params.set_modules::<hvm_modlist_entry>(&modules, GuestAddress(MODULES));
    PvhBootConfigurator::write_bootparams(&params, &ram.mem).map_err(|e| KvmError::Config(e.to_string()))
}

fn write_zero_page(
    hdr: setup_header,
    ram: &Ram,
    initrd: Option<(u64, u64)>,
    line: usize,
) -> Result<(), KvmError> {
    let mut header = boot_params { hdr, ..boot_params::default() };
    header.hdr.type_of_loader = 0xff;
    header.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE).unwrap_or(0);
    header.hdr.cmdline_size = u32::try_from(line + 1).unwrap_or(0);
    if let Some((at, size)) = initrd {
        header.hdr.ramdisk_image = u32::try_from(at).unwrap_or(0);
        header.hdr.ramdisk_size = u32::try_from(size).unwrap_or(0);
    }
    header.acpi_rsdp_addr = ACPI;
    let map = memory_map(ram);
    header.e820_entries = u8::try_from(map.len()).unwrap_or(0);
    for (slot, (addr, size, type_)) in map.into_iter().enumerate() {
        header.e820_table[slot] = boot_e820_entry { addr, size, type_ };
    }
    let params = BootParams::new::<boot_params>(&header, GuestAddress(ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, &ram.mem).map_err(|e| KvmError::Config(e.to_string()))
}

/// Registers of the first processor.
///
/// # Errors
/// Guest memory is too small for the tables that they name.
pub fn registers(start: Start, ram: &Ram, sregs: &mut kvm_sregs) -> Result<kvm_regs, KvmError> {
    let write = |value: u64, at: u64| {
        ram.mem.write_obj(value, GuestAddress(at)).map_err(|e| KvmError::Config(e.to_string()))
    };
    let regs = kvm_regs { rflags: 2, ..kvm_regs::default() };
    match start {
        Start::Pvh { entry } => {
            sregs.cr0 = 1;
            sregs.cr4 = 0;
            set_segments(sregs, false);
            write_gdt(&write, false)?;
            sregs.gdt.base = GDT;
            sregs.gdt.limit = 31;
            Ok(kvm_regs { rip: entry, rbx: START_INFO, rsp: STACK, ..regs })
        }
        Start::Linux64 { entry } => {
            // The first 4 GiB, one to one, in 2 MiB pages.
            write(PAGE_TABLES + 0x1003, PAGE_TABLES)?;
            for giga in 0..4 {
                write(PAGE_TABLES + 0x2003 + 0x1000 * giga, PAGE_TABLES + 0x1000 + 8 * giga)?;
                for page in 0..512 {
                    let at = PAGE_TABLES + 0x2000 + 0x1000 * giga + 8 * page;
                    write((giga << 30) + (page << 21) + 0x83, at)?;
                }
            }
            sregs.cr3 = PAGE_TABLES;
            sregs.cr4 = 1 << 5;
            sregs.cr0 = 1 << 31 | 1;
            sregs.efer = 1 << 8 | 1 << 10;
            set_segments(sregs, true);
            write_gdt(&write, true)?;
            sregs.gdt.base = GDT;
            sregs.gdt.limit = 31;
            Ok(kvm_regs { rip: entry, rsi: ZERO_PAGE, rsp: STACK, rbp: STACK, ..regs })
        }
    }
}

fn write_gdt(write: &impl Fn(u64, u64) -> Result<(), KvmError>, long: bool) -> Result<(), KvmError> {
    let code = if long { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
    for (slot, entry) in [0, 0, code, 0x00cf_9300_0000_ffff].into_iter().enumerate() {
        write(entry, GDT + 8 * slot as u64)?;
    }
    Ok(())
}

fn set_segments(sregs: &mut kvm_sregs, long: bool) {
    let flat = kvm_segment { limit: u32::MAX, g: 1, present: 1, s: 1, ..kvm_segment::default() };
    let (db, l) = if long { (0, 1) } else { (1, 0) };
    sregs.cs = kvm_segment { selector: 0x10, type_: 0xb, db, l, ..flat };
    let data = kvm_segment { selector: 0x18, type_: 0x3, db: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, type_: 0xb, present: 1, ..kvm_segment::default() };
}
