//! What the target `windows` runs: the parts of the window process that read guest memory, and the places of popups.
//!
//! The machine process's notices, the agent's buffers and the copies of rows come from the input. Guest memory holds a known
//! pattern, so each copied pixel is compared with a model that knows nothing of mappings.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use inlay_protocol::display::{
    Backing, BufferId, ConstraintAdjustment, Content, Edges, Format, Place, Popup, PopupKind, Positioner,
    Request, SurfaceId,
};
use inlay_protocol::framing::Message as _;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::memory::{Notice, Region, Run};
use rustix::fs::{MemfdFlags, SealFlags};

use super::buffers::{Buffers, Found};
use super::memory::GuestMemory;
use super::placement;

/// Bytes of each memory file.
const FILE: usize = 0x4000;
const FILES: usize = 2;
/// Steps of one input.
const STEPS: usize = 48;
/// Room for one copy.
const ROOM: usize = 0x2000;
/// What rows are copied over.
const UNTOUCHED: u8 = 0xee;

/// The byte at a place of a memory file; never [`UNTOUCHED`].
fn pattern(file: usize, at: usize) -> u8 {
    u8::try_from((at * 31 + (at >> 8) * 7 + file * 101) % 237).expect("below 237")
}

/// The memory files, kept between inputs because they are costly to make.
pub struct Bench {
    files: Vec<OwnedFd>,
    room: Vec<u8>,
}

impl Default for Bench {
    fn default() -> Self {
        let file = |index| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let fd = rustix::fs::memfd_create("fuzz", flags).expect("a memory file");
            let bytes: Vec<u8> = (0..FILE).map(|at| pattern(index, at)).collect();
            assert_eq!(rustix::io::write(&fd, &bytes), Ok(FILE));
            // The first could be cut short: nothing of it may be mapped.
            let seals = if index == 0 { SealFlags::GROW } else { SealFlags::GROW | SealFlags::SHRINK };
            rustix::fs::fcntl_add_seals(&fd, seals).expect("a seal");
            fd
        };
        Self { files: (0..=FILES).map(file).collect(), room: vec![UNTOUCHED; ROOM] }
    }
}

/// What one input made, and what the model knows of it.
#[derive(Default)]
struct Made {
    memory: GuestMemory,
    buffers: Buffers,
    /// File and region.
    regions: Vec<(usize, Region)>,
    /// Generation and bytes, by resource id.
    resources: HashMap<u32, (u64, Vec<u8>)>,
    /// Announced size, and the file or resource, by buffer id.
    known: HashMap<u32, (u64, Known)>,
}

enum Known {
    File(usize),
    Resource { id: u32, bound: Option<u64> },
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }

    /// A number that is small most of the time.
    fn word(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            0xff => u64::from(self.u32()?) << 32 | u64::from(self.u32()?),
            0xfe => self.u32()?.into(),
            0xfd => u64::from(self.byte()?) << 8 | u64::from(self.byte()?),
            0xfc => u64::from(self.byte()?) << 12,
            small => small.into(),
        })
    }

    fn side(&mut self) -> Option<u32> {
        Some(u32::try_from(self.word()?).unwrap_or(u32::MAX))
    }

    fn place(&mut self) -> Option<i32> {
        let value = i32::try_from(self.word()?).unwrap_or(i32::MAX);
        Some(if self.byte()? & 1 == 0 { value } else { -value })
    }

    fn rect(&mut self) -> Option<Rect> {
        Some(Rect::new(self.place()?, self.place()?, self.side()?, self.side()?))
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        let mut run = Made::default();
        for _ in 0..STEPS {
            if self.step(&mut run, &mut input).is_none() {
                break;
            }
        }
    }

    fn step(&mut self, run: &mut Made, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? % 8 {
            0 => self.regions(run, input)?,
            1 => {
                let (id, generation) = (u32::from(input.byte()? % 4), u64::from(input.byte()?));
                let mut runs = Vec::new();
                for _ in 0..input.byte()? % 8 {
                    runs.push(Run { addr: input.word()?, len: input.word()? });
                }
                let bytes = run.bytes(&runs);
                let applied = run.memory.apply(Notice::Resource { id, generation, runs }, Vec::new());
                assert_eq!(applied.is_ok(), bytes.is_some());
                if let Some(bytes) = bytes {
                    run.resources.insert(id, (generation, bytes));
                }
            }
            2 => {
                let (id, generation) = (u32::from(input.byte()? % 4), u64::from(input.byte()?));
                run.memory.apply(Notice::ResourceGone { id, generation }, Vec::new()).expect("never refused");
                if run.resources.get(&id).is_some_and(|(has, _)| *has == generation) {
                    run.resources.remove(&id);
                }
            }
            3 => self.create(run, input)?,
            4 => {
                let id = u32::from(input.byte()? % 4);
                run.buffers.destroy(BufferId(id));
                run.known.remove(&id);
            }
            5 => popup(input)?,
            _ => self.copy(run, input)?,
        }
        Some(())
    }

    fn regions(&self, run: &mut Made, input: &mut Input<'_>) -> Option<()> {
        let mut regions = Vec::new();
        for _ in 0..input.byte()? % 4 {
            let file = usize::from(input.byte()?) % (FILES + 1);
            let guest_addr = input.word()?;
            let shape = input.byte()?;
            let (size, file_offset) = match shape % 4 {
                0 => (FILE as u64, 0),
                1 => (0x1000, 0x1000 * u64::from(shape >> 4)),
                _ => (input.word()?, input.word()?),
            };
            regions.push((file, Region { guest_addr, size, file_offset }));
        }
        let fds = regions.iter().map(|(file, _)| self.files[*file].try_clone().expect("a descriptor"));
        let notice = Notice::Regions(regions.iter().map(|(_, region)| *region).collect());
        run.resources.clear();
        let fits = |(file, region): &(usize, Region)| {
            let end = region.file_offset.checked_add(region.size);
            *file > 0
                && region.size > 0
                && end.is_some_and(|end| end <= FILE as u64)
                && region.file_offset.is_multiple_of(0x1000)
        };
        let all_fit = regions.iter().all(fits);
        if run.memory.apply(notice, fds.collect()).is_ok() {
            assert!(all_fit);
            run.regions = regions;
        } else {
            assert!(!all_fit);
        }
        Some(())
    }

    fn create(&self, run: &mut Made, input: &mut Input<'_>) -> Option<()> {
        let (id, kind) = (u32::from(input.byte()? % 4), input.byte()?);
        let size = input.word()?;
        let file = usize::from(kind >> 4) % (FILES + 1);
        let resource = u32::from(kind >> 4) % 4;
        let fd = (kind & 2 == 0).then_some(&self.files[file]);
        let (backing, known) = if kind & 1 == 0 {
            (Backing::Memfd, Known::File(file))
        } else {
            (Backing::VirtioGpu { resource }, Known::Resource { id: resource, bound: None })
        };
        // What the decoder lets through.
        if (Request::CreateBuffer { buffer: BufferId(id), size, backing }).check().is_ok()
            && run.buffers.create(BufferId(id), size, backing, fd).is_ok()
        {
            if let Known::File(file) = known {
                assert!(file > 0 && size <= FILE as u64);
            }
            assert!(run.known.insert(id, (size, known)).is_none(), "an id is used twice");
        }
        Some(())
    }

    fn copy(&mut self, run: &mut Made, input: &mut Input<'_>) -> Option<()> {
        let content = Content {
            buffer: BufferId(u32::from(input.byte()? % 4)),
            offset: 4 * (input.word()? >> 2),
            size: Size::new(input.side()?, input.side()?),
            stride: 4 * (input.side()? >> 2),
            format: Format::Argb8888,
        };
        let sane = content.size.is_sane()
            && !content.size.is_empty()
            && u64::from(content.stride) >= 4 * u64::from(content.size.width);
        if !sane || content.end().is_none_or(|end| end > inlay_protocol::limits::BUFFER_BYTES) {
            return Some(());
        }
        let found = run.buffers.find(&content, &run.memory);
        let model = run.find(&content);
        let Found::Ready(backing) = found else {
            assert!(model.is_none(), "the bytes are there");
            return Some(());
        };
        let model = model.expect("there are such bytes");
        let rect = input.rect()?;
        let pitch = usize::try_from(input.side()?).ok()?.min(ROOM);
        let room = usize::try_from(input.side()?).ok()?.min(ROOM);
        // SAFETY: the vector has `ROOM` bytes.
        let copied = unsafe { backing.copy_rect(&content, rect, self.room.as_mut_ptr(), pitch, room) };
        let mut want = vec![UNTOUCHED; ROOM];
        if copied.is_some() {
            for y in 0..rect.height {
                for x in 0..4 * rect.width {
                    let from = content.offset
                        + u64::from(content.stride) * (u64::from(rect.y.unsigned_abs()) + u64::from(y))
                        + 4 * u64::from(rect.x.unsigned_abs())
                        + u64::from(x);
                    let to = pitch * y as usize + x as usize;
                    assert!(to < room);
                    want[to] = model[usize::try_from(from).ok()?];
                }
            }
        } else {
            let inside = Rect::of_size(content.size).contains(rect) && !rect.is_empty();
            let row = 4 * u64::from(rect.width);
            let end =
                (pitch as u64).saturating_mul(u64::from(rect.height).saturating_sub(1)).saturating_add(row);
            assert!(!inside || row > pitch as u64 || end > room as u64, "it could have been copied");
        }
        assert!(self.room == want, "other pixels");
        self.room.fill(UNTOUCHED);
        Some(())
    }
}

impl Made {
    /// The bytes of runs of guest memory.
    fn bytes(&self, runs: &[Run]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for run in runs {
            let end = run.addr.checked_add(run.len)?;
            let inside = |r: &Region| run.addr >= r.guest_addr && end <= r.guest_addr.saturating_add(r.size);
            let (file, region) = self.regions.iter().find(|(_, region)| inside(region))?;
            let from = usize::try_from(run.addr - region.guest_addr + region.file_offset).ok()?;
            bytes.extend((from..from + usize::try_from(run.len).ok()?).map(|at| pattern(*file, at)));
        }
        Some(bytes)
    }

    /// The bytes of a content's buffer, when they can be read.
    fn find(&mut self, content: &Content) -> Option<Vec<u8>> {
        let end = content.end()?;
        let (size, known) = self.known.get_mut(&content.buffer.0)?;
        if end > *size {
            return None;
        }
        let bytes: Vec<u8> = match known {
            Known::File(file) => (0..usize::try_from(*size).ok()?).map(|at| pattern(*file, at)).collect(),
            Known::Resource { id, bound } => {
                let (generation, bytes) = self.resources.get(id)?;
                if *bound.get_or_insert(*generation) != *generation {
                    return None;
                }
                bytes.clone()
            }
        };
        (end <= bytes.len() as u64).then_some(bytes)
    }
}

fn popup(input: &mut Input<'_>) -> Option<()> {
    let positioner = Positioner {
        size: Size::new(input.side()?, input.side()?),
        anchor_rect: input.rect()?,
        anchor: Edges(input.byte()?),
        gravity: Edges(input.byte()?),
        adjustment: ConstraintAdjustment(input.byte()?),
        offset: Point::new(input.place()?, input.place()?),
        reactive: false,
    };
    let monitor = input.rect()?;
    let popup = Popup {
        surface: SurfaceId(1),
        parent: SurfaceId(2),
        place: Place::Positioner(positioner),
        kind: PopupKind::Menu,
        grab: false,
        reposition: None,
    };
    // Displays have 16-bit coordinates, and windows on them too.
    let near = |at: i32, side: u32| at.unsigned_abs() <= 1 << 16 && (1..1 << 16).contains(&side);
    if Request::Popup(popup).check().is_err()
        || !near(monitor.x, monitor.width)
        || !near(monitor.y, monitor.height)
    {
        return Some(());
    }
    let place = placement::place(&positioner, monitor);
    assert!(place.is_sane(), "{place:?}");
    assert!(
        place.width <= positioner.size.width && place.height <= positioner.size.height && !place.is_empty()
    );
    let axis = |len: u32, most: u32, start: i64, low: i64| len > most || start >= low;
    assert!(axis(place.width, monitor.width, place.x.into(), monitor.x.into()));
    assert!(axis(place.height, monitor.height, place.y.into(), monitor.y.into()));
    assert!(place.width > monitor.width || place.right() <= monitor.right());
    assert!(place.height > monitor.height || place.bottom() <= monitor.bottom());
    Some(())
}
