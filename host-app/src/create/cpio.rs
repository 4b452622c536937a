//! Writes cpio archives in the "newc" form, which the kernel unpacks as initramfs (Linux, `buffer-format.rst`).
//!
//! Archives may follow each other in one file: later entries replace earlier ones.

use std::io::{self, Write};

/// Ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
#[derive(Debug)]
pub struct Archive<W: Write> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds a folder; those above it must have been added before.
    ///
    /// # Errors
    /// Of writing.
    pub fn folder(&mut self, path: &str, permissions: u32) -> io::Result<()> {
        self.entry(path, 0o040_000 | (permissions & 0o7777), &[])
    }

    /// Adds a file with its content.
    ///
    /// # Errors
    /// Of writing, or a file of 4 GiB or more.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, 0o100_000 | (permissions & 0o7777), content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Of writing.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, 0o120_777, target.as_bytes())
    }

    /// Ends the archive, padded to 512 bytes so that another may follow.
    ///
    /// # Errors
    /// Of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry(TRAILER, 0, &[])?;
        self.pad(512)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is too large"));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's size, checksum.
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.inode += 1;
        self.put(header.as_bytes())?;
        self.put(path.as_bytes())?;
        self.put(&[0])?;
        self.pad(4)?;
        self.put(content)?;
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        while !self.written.is_multiple_of(to) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: path, mode, content.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                u32::from_str_radix(std::str::from_utf8(&bytes[6 + n * 8..14 + n * 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            if name == TRAILER {
                assert!(bytes[start..].iter().all(|&byte| byte == 0));
                return entries;
            }
            entries.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn entries_come_back() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("bin", 0o755).unwrap();
        archive.file("bin/a", 0o700, b"hello").unwrap();
        archive.link("bin/b", "a").unwrap();
        archive.file("empty", 0o644, b"").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(
            read(&bytes),
            [
                ("bin".into(), 0o040_755, vec![]),
                ("bin/a".into(), 0o100_700, b"hello".to_vec()),
                ("bin/b".into(), 0o120_777, b"a".to_vec()),
                ("empty".into(), 0o100_644, vec![]),
            ]
        );
    }
}
