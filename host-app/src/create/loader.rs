//! Finds out which firmware a disk is made for: by its first sector and its table of partitions, which come from anywhere.

use std::io;

use crate::config::Firmware;

/// Bytes of a sector.
const SECTOR: usize = 512;
/// Where the first sector's boot code ends, and its four partitions begin.
const CODE_END: usize = 440;
const PARTITIONS: usize = 446;
/// A partition's type in the old table: an EFI system partition.
const EFI_SYSTEM: u8 = 0xef;
/// The same in the new table (C12A7328-F81F-11D2-BA4B-00A0C93EC93B).
const EFI_SYSTEM_GUID: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// Partitions that are looked at; tables have 128.
const MOST_PARTITIONS: u32 = 1024;

/// The firmware that runs the disk's boot loader: the BIOS where the first sector has code, else UEFI where there is a partition for
/// it. `None` where there is neither.
///
/// # Errors
/// The disk cannot be read.
pub fn firmware(mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<Option<Firmware>> {
    let mut first = [0; SECTOR];
    read(&mut first, 0)?;
    if first[SECTOR - 2..] != [0x55, 0xaa] {
        return Ok(None);
    }
    if first[..CODE_END].iter().any(|byte| *byte != 0) {
        return Ok(Some(Firmware::Bios));
    }
    let mut partitions = first[PARTITIONS..SECTOR - 2].chunks_exact(16);
    let uefi = partitions.any(|partition| partition.get(4) == Some(&EFI_SYSTEM)) || has_efi_system(read)?;
    Ok(uefi.then_some(Firmware::Uefi))
}

/// Whether the new table (UEFI 2.10, 5.3) has an EFI system partition.
fn has_efi_system(mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<bool> {
    let mut header = [0; SECTOR];
    match read(&mut header, SECTOR as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    if !header.starts_with(b"EFI PART") {
        return Ok(false);
    }
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let begin = u64::from(number(72)) | u64::from(number(76)) << 32;
    let (count, size) = (number(80).min(MOST_PARTITIONS), number(84));
    if !(128..=4096).contains(&size) {
        return Ok(false);
    }
    for index in 0..count {
        let at = begin.checked_mul(SECTOR as u64);
        let Some(at) = at.and_then(|at| at.checked_add(u64::from(index) * u64::from(size))) else { break };
        let mut kind = [0; 16];
        match read(&mut kind, at) {
            // The table says that it is where the disk has no bytes.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        if kind == EFI_SYSTEM_GUID {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(disk: &[u8]) -> Option<Firmware> {
        firmware(|bytes, at| {
            let from = usize::try_from(at).ok().and_then(|at| disk.get(at..)?.get(..bytes.len()));
            bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
        .unwrap()
    }

    /// A disk with both tables, the new one's EFI system partition as its third.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 * 1024];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 4] = 0xee;
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72] = 2;
        disk[512 + 80] = 128;
        disk[512 + 84] = 128;
        disk[1024 + 256..1024 + 272].copy_from_slice(&EFI_SYSTEM_GUID);
        disk
    }

    #[test]
    fn the_firmware_follows_from_boot_code_and_partitions() {
        let uefi = disk();
        assert_eq!(of(&uefi), Some(Firmware::Uefi));
        let mut both = uefi.clone();
        both[0] = 0xeb;
        assert_eq!(of(&both), Some(Firmware::Bios));
        let mut none = uefi.clone();
        none[1024 + 256] = 0;
        assert_eq!(of(&none), None);
        let mut old = none.clone();
        old[446 + 16 + 4] = EFI_SYSTEM;
        assert_eq!(of(&old), Some(Firmware::Uefi));
        let mut unsigned = both;
        unsigned[510] = 0;
        assert_eq!(of(&unsigned), None);
        assert_eq!(of(&uefi[..512]), None);
    }

    #[test]
    fn a_table_that_lies_ends_the_search() {
        for (at, value) in
            [(72, u64::MAX), (72, u64::MAX / 512), (72, 1 << 40), (80, u64::MAX), (84, 0x1_0000)]
        {
            let mut disk = disk();
            disk[1024 + 256] = 0;
            disk[512 + at..512 + at + 8].copy_from_slice(&value.to_le_bytes());
            assert_eq!(of(&disk), None, "{at} {value}");
        }
    }
}
