//! What the target `block` runs: a virtio-blk device on a small raw image with a guest that does whatever the input says.
//!
//! The image keeps its size, and what a read-only disk holds stays.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use inlay_vmm_core::devices::block::{Block, Format, Image, ImageConfig};
use inlay_vmm_core::virtio::Wake;

use super::guest::{Guest, Input, STEPS};

const SECTORS: u8 = 48;
const SIZE: usize = SECTORS as usize * 512;
static FILLED: [u8; SIZE] = [0x5a; SIZE];
/// Reads, writes, flushes, identities, discards, zeroes, and what is none of these.
const KINDS: [u8; 8] = [0, 1, 4, 8, 11, 13, 1, 2];

/// A disk that can be written to and one that cannot, kept between inputs because files are costly to make.
pub struct Bench {
    guest: Guest,
    disks: [(Block, File); 2],
    _folder: tempfile::TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disks = [false, true].map(|read_only| {
            let path = folder.path().join(if read_only { "fixed" } else { "disk" });
            std::fs::write(&path, FILLED).expect("an image");
            let file = File::options().read(true).write(true).open(&path).expect("the image");
            let image = ImageConfig { path, format: Format::Raw, read_only, backing_folders: Vec::new() };
            (Block::new(Image::open(&image).expect("an image"), "fuzz", 2), file)
        });
        Self { guest: Guest::new(2), disks, _folder: folder }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        let shape = input.byte().unwrap_or(4);
        self.guest.begin(shape);
        let read_only = shape & 0x20 != 0;
        let (disk, file) = &mut self.disks[usize::from(read_only)];
        if !read_only {
            file.write_all_at(&FILLED, 0).expect("a filled image");
        }
        for _ in 0..STEPS {
            if step(&mut self.guest, disk, &mut input).is_none() {
                break;
            }
        }
        self.guest.reset(disk, 0);
        assert_eq!(file.metadata().expect("a file").len(), SIZE as u64, "the image keeps its size");
        if read_only {
            let mut bytes = [0; SIZE];
            file.read_exact_at(&mut bytes, 0).expect("all of it");
            assert!(bytes == FILLED, "nothing was written");
        }
    }
}

fn step(guest: &mut Guest, disk: &mut Block, input: &mut Input<'_>) -> Option<()> {
    match input.byte()? {
        kind @ 0..16 => guest.step(kind, disk, input)?,
        16 => drop(guest.save(disk)),
        // A request, well-formed most of the time.
        kind => {
            let queue = usize::from(kind >> 7);
            let kind = KINDS[usize::from(kind) % KINDS.len()];
            let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend(u64::from(input.word()?).to_le_bytes());
            let (shape, length) = (input.byte()?, input.byte()?);
            let room = match kind {
                0 => 512 * u32::from(length % 8) + 1,
                1 => {
                    bytes.resize(16 + 512 * usize::from(length % 8), length);
                    1
                }
                8 => 21,
                11 | 13 => {
                    for _ in 0..length % 4 {
                        bytes.extend(u64::from(input.word()?).to_le_bytes());
                        bytes.extend(input.word()?.to_le_bytes());
                        bytes.extend(u32::from(shape & 1).to_le_bytes());
                    }
                    1
                }
                _ => 1,
            };
            let odd = u32::from(shape & 0x60 == 0x60);
            guest.submit(queue, if shape & 0x80 == 0 { 16 } else { shape }, &bytes, room + odd);
            guest.wake(disk, Wake::Queue(queue));
        }
    }
    Some(())
}
