//! Reads as much of an ELF program as handing it to a guest takes: which loader it names, and where its contents end.
//! x86-64 only, like the guests.

/// Kinds of program headers (`p_type`).
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// A 64-bit little-endian ELF file.
#[derive(Debug)]
pub struct Elf<'a> {
    file: &'a [u8],
    /// Kind, offset and size in the file of each program header.
    parts: Vec<(u32, u64, u64)>,
}

impl<'a> Elf<'a> {
    /// Reads the header and the program headers.
    #[must_use]
    pub fn parse(file: &'a [u8]) -> Option<Self> {
        let known = file.get(..6)? == b"\x7fELF\x02\x01";
        let table = usize::try_from(u64_at(file, 32)?).ok()?;
        let size = usize::from(u16_at(file, 54)?);
        let count = usize::from(u16_at(file, 56)?);
        if !known || size < 56 {
            return None;
        }
        let part = |index: usize| {
            let header = file.get(table.checked_add(index * size)?..)?;
            Some((u32_at(header, 0)?, u64_at(header, 8)?, u64_at(header, 32)?))
        };
        Some(Self { file, parts: (0..count).map(part).collect::<Option<_>>()? })
    }

    /// The path of the loader that the program asks for.
    #[must_use]
    pub fn interpreter(&self) -> Option<&'a str> {
        let &(_, offset, size) = self.parts.iter().find(|(kind, ..)| *kind == PT_INTERP)?;
        let start = usize::try_from(offset).ok()?;
        let path = self.file.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        std::str::from_utf8(path.strip_suffix(&[0])?).ok()
    }

    /// The byte after the last one that a running program needs.
    #[must_use]
    pub fn end_of_contents(&self) -> u64 {
        let end = |&(_, offset, size): &(u32, u64, u64)| offset.saturating_add(size);
        self.parts.iter().filter(|(kind, ..)| *kind == PT_LOAD).map(end).max().unwrap_or(u64::MAX)
    }

    /// The file without its symbols and debugging information, which follow what is loaded.
    #[must_use]
    pub fn stripped(&self) -> Vec<u8> {
        let end = usize::try_from(self.end_of_contents()).unwrap_or(usize::MAX).min(self.file.len());
        let mut bytes = self.file.get(..end).unwrap_or(self.file).to_vec();
        // No section headers any more: their offset, count and the index of their names.
        for field in [40..48, 60..62, 62..64] {
            if let Some(field) = bytes.get_mut(field) {
                field.fill(0);
            }
        }
        bytes
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::process::Command;

    /// An ELF header, one loaded part, and `size` bytes in all.
    pub fn tiny_elf(size: usize) -> Vec<u8> {
        let mut file = vec![0x90; size];
        file[..120].fill(0);
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 1;
        file[96..104].copy_from_slice(&(size as u64).to_le_bytes());
        file
    }

    #[test]
    fn a_stripped_program_still_runs() {
        let own = std::env::current_exe().unwrap();
        let file = std::fs::read(&own).unwrap();
        let elf = Elf::parse(&file).unwrap();
        assert!(elf.interpreter().unwrap().starts_with("/lib"), "{:?}", elf.interpreter());
        let stripped = elf.stripped();
        assert!(stripped.len() < file.len());
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        std::fs::copy(&own, &copy).unwrap();
        std::fs::write(&copy, &stripped).unwrap();
        let output = Command::new(&copy).arg("--list").output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("a_stripped_program_still_runs"));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Elf::parse(b"").is_none());
        assert!(Elf::parse(&[0; 64]).is_none());
        let mut file = tiny_elf(200);
        file[33] = 0xff;
        assert!(Elf::parse(&file).is_none(), "program headers behind the end");
    }
}
