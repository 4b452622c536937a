//! Does at random what programs do with a file, and checks each step against what the file should have: `inlay-fsx FILE STEPS SEED`
//! prints the SHA-256 of what is there in the end.
//!
//! Reads, writes, cuts, holes, mappings, copies, renames and reopenings in any order: what a file system with a cache gets wrong.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use sha2::{Digest as _, Sha256};

/// The largest file, in bytes.
const MOST: u64 = 300_000;

struct Random(u64);

impl Random {
    /// xorshift64*.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256).to_le_bytes()[0]).collect()
    }
}

struct Tester {
    path: PathBuf,
    file: File,
    should: Vec<u8>,
    random: Random,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().context("inlay-fsx FILE STEPS SEED");
    let (path, steps, seed) = (PathBuf::from(next()?), next()?.parse::<u32>()?, next()?.parse::<u64>()?);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let mut tester = Tester { path, file, should: Vec::new(), random: Random(seed << 8 | 0x55) };
    for step in 0..steps {
        let what = tester.random.below(12);
        tester.step(what).with_context(|| format!("step {step} (kind {what}), seed {seed}"))?;
    }
    tester.file.sync_all()?;
    tester.step(11)?;
    let content = std::fs::read(&tester.path)?;
    ensure!(content == tester.should, "the file is another in the end");
    let sum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    #[allow(clippy::print_stdout, reason = "the result")]
    {
        println!("{sum}");
    }
    Ok(())
}

impl Tester {
    /// A place and a length within the largest file.
    fn range(&mut self) -> (u64, usize) {
        let at = self.random.below(MOST);
        let length = self.random.below((MOST - at).min(40_000)) + 1;
        (at, usize::try_from(length).unwrap_or(1))
    }

    /// The same, within the file.
    fn inside(&mut self) -> Option<(u64, usize)> {
        let length = self.should.len() as u64;
        if length == 0 {
            return None;
        }
        let at = self.random.below(length);
        let count = self.random.below((length - at).min(40_000)) + 1;
        Some((at, usize::try_from(count).ok()?))
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if self.should.len() < at + bytes.len() {
            self.should.resize(at + bytes.len(), 0);
        }
        for (to, from) in self.should.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn expected(&self, at: u64, length: usize) -> &[u8] {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.should.get(at..(at + length).min(self.should.len())).unwrap_or_default()
    }

    fn step(&mut self, what: u64) -> Result<()> {
        match what {
            0..=2 => {
                let (at, length) = self.range();
                let bytes = self.random.bytes(length);
                self.file.write_all_at(&bytes, at)?;
                self.put(at, &bytes);
            }
            3 | 4 => {
                let (at, length) = self.range();
                let mut bytes = vec![0; length];
                let wanted = self.expected(at, length).to_vec();
                let mut got = 0;
                while got < wanted.len() {
                    let count =
                        self.file.read_at(bytes.get_mut(got..).unwrap_or_default(), at + got as u64)?;
                    ensure!(count > 0, "the file is too short: {} of {} bytes at {at}", got, wanted.len());
                    got += count;
                }
                ensure!(bytes.get(..wanted.len()) == Some(&wanted), "other bytes are read at {at}");
            }
            5 => {
                let length = self.random.below(MOST);
                self.file.set_len(length)?;
                self.should.resize(usize::try_from(length)?, 0);
            }
            6 => self.map(false)?,
            7 => self.map(true)?,
            8 => {
                let Some((at, length)) = self.inside() else { return Ok(()) };
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&self.file, mode, at, length as u64)?;
                self.put(at, &vec![0; length]);
            }
            9 => {
                let Some((at, length)) = self.inside() else { return Ok(()) };
                let to = self.random.below(MOST);
                let (mut from, mut to_at, mut left) = (at, to, length);
                // Ranges of one file must not overlap.
                if to < at + length as u64 && at < to + length as u64 {
                    return Ok(());
                }
                let bytes = self.expected(at, length).to_vec();
                while left > 0 {
                    let file = self.file.as_fd();
                    let copied =
                        rustix::fs::copy_file_range(file, Some(&mut from), file, Some(&mut to_at), left)?;
                    ensure!(copied > 0, "nothing is copied");
                    left -= copied;
                }
                self.put(to, &bytes);
            }
            10 => {
                let other = self.path.with_extension("other");
                std::fs::rename(&self.path, &other)?;
                ensure!(!self.path.exists(), "it is still there");
                std::fs::rename(&other, &self.path)?;
            }
            11 => {
                self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
                let length = self.file.metadata()?.len();
                ensure!(length == self.should.len() as u64, "{length} bytes, not {}", self.should.len());
            }
            _ => bail!("no such step"),
        }
        Ok(())
    }

    /// Reads or writes through a mapping.
    fn map(&mut self, writes: bool) -> Result<()> {
        let Some((at, length)) = self.inside() else { return Ok(()) };
        let size = self.should.len();
        let bytes = self.random.bytes(if writes { length } else { 0 });
        let start = usize::try_from(at)?;
        // SAFETY: a new mapping of the whole file, at a place of the kernel's choice; nobody cuts the file meanwhile.
        let map = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &self.file,
                0,
            )?
        };
        // SAFETY: `start` and `length` are within the mapping, which is this function's own.
        let part = unsafe { std::slice::from_raw_parts_mut(map.cast::<u8>().add(start), length) };
        let same = writes || *part == *self.expected(at, length);
        if writes {
            part.copy_from_slice(&bytes);
        }
        // SAFETY: the mapping is this function's own, and used no more.
        unsafe {
            if writes {
                rustix::mm::msync(map, size, MsyncFlags::SYNC)?;
            }
            rustix::mm::munmap(map, size)?;
        }
        ensure!(same, "other bytes are mapped at {at}");
        if writes {
            self.put(at, &bytes);
        }
        Ok(())
    }
}
