//! The processor as renderer: textures are plain memory, and windows are drawn into memory that is shared with the display.
//!
//! Only what changed is drawn and shown: each sheet knows what it shows ([`Shown`]), and each image which parts of it are newer.

mod memory;
mod raster;
mod shown;

use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inlay_protocol::geometry::{Rect, Size};

use super::{Drawn, Quad, Storage};
pub use memory::Memory;
use raster::Picture;
pub use shown::Shown;
use shown::{Log, area};

/// The longest side of images and windows, in pixels.
pub const LARGEST: u32 = 1 << 14;

/// How often all of a picture may be drawn over for one frame: a guest has as many surfaces above each other as it likes.
const LAYERS: u64 = 8;

/// A texture.
#[derive(Debug)]
pub struct Image {
    /// No other has it.
    number: u64,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    size: Size,
    /// Rows of `size.width` pixels: blue, green, red, alpha.
    pixels: Vec<u32>,
    log: Log,
    /// What was drawn into it, if anything was.
    shown: Shown,
}

impl Image {
    /// One without content, of this size (within [`LARGEST`]); nothing if the system has no memory for it.
    #[must_use]
    pub fn new(size: Size) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let content =
            Content { size, pixels: zeroed(area(size))?, log: Log::default(), shown: Shown::default() };
        Some(Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), content: Mutex::new(content) })
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a part of it filled, as [`super::Renderer::upload`] says.
    pub fn fill(&self, rect: Rect, fill: impl FnOnce(*mut u8, usize, usize) -> bool) -> bool {
        let mut content = self.content();
        if rect.width == 0 || rect.height == 0 || !Rect::of_size(content.size).contains(rect) {
            return false;
        }
        let width = content.size.width as usize;
        let first = rect.y.unsigned_abs() as usize * width + rect.x.unsigned_abs() as usize;
        let Some(rows) = content.pixels.get_mut(first..) else { return false };
        let (to, room) = (rows.as_mut_ptr().cast(), 4 * rows.len());
        let filled = fill(to, 4 * width, room);
        // Also of one that was given up some rows may be new.
        content.log.add(rect);
        filled
    }

    /// Has it show these quads, which do not show itself.
    pub fn draw(&self, quads: &[Quad]) {
        let mut content = self.content();
        let Content { size, pixels, log, shown } = &mut *content;
        let size = *size;
        for rect in redraw(pixels, size, shown, quads) {
            log.add(rect);
        }
    }
}

/// So many zeroes, which the system gives as such; nothing if it has not so much memory.
fn zeroed(count: usize) -> Option<Vec<u32>> {
    let layout = Layout::array::<u32>(count).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<u32>();
    // SAFETY: it was allocated as a vector of so many numbers is, and zeroes are numbers.
    (!memory.is_null()).then(|| unsafe { Vec::from_raw_parts(memory, count, count) })
}

/// The uppermost quads of a picture of this size: as many as are seen, and as can be drawn without drawing it over more often than
/// [`LAYERS`] times.
#[must_use]
pub fn affordable(size: Size, quads: &[Quad]) -> &[Quad] {
    let whole = Rect::of_size(size);
    let mut left = LAYERS * area(size) as u64;
    for (at, quad) in quads.iter().enumerate().rev() {
        let part = raster::bounds(quad.to).intersection(whole);
        let pixels = part.map_or(0, |part| area(part.size()) as u64);
        let Some(rest) = left.checked_sub(pixels) else {
            tracing::debug!("a window has too much above each other: the lowest is left out");
            return &quads[at + 1..];
        };
        left = rest;
        if quad.opaque && part == Some(whole) {
            return &quads[at..];
        }
    }
    quads
}

/// Draws what of a picture is not as quads have it; where that is.
fn redraw(pixels: &mut [u32], size: Size, shown: &mut Shown, quads: &[Quad]) -> Vec<Rect> {
    let stale = shown.stale(size, quads);
    if let Some(mut picture) = Picture::new(pixels, size) {
        stale.iter().for_each(|rect| picture.draw(*rect, quads));
    }
    *shown = Shown::of(size, quads);
    stale
}

fn image(quad: &Quad) -> Option<&Image> {
    match &quad.texture.storage {
        Storage::Memory(image) => Some(image),
        // Textures are drawn by the renderer that made them.
        Storage::Device(_) => None,
    }
}

/// The picture of quads: rows of `4 * width` bytes.
#[must_use]
pub fn picture(size: Size, quads: &[Quad]) -> Vec<u8> {
    let mut pixels = vec![0; area(size)];
    if let Some(mut picture) = Picture::new(&mut pixels, size) {
        picture.draw(Rect::of_size(size), quads);
    }
    pixels.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Memory that a display reads a window's pixels from.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// Rows of the window's width: blue, green, red, alpha, premultiplied.
    pub pixels: &'a mut [u32],
    /// What they show.
    pub shown: &'a mut Shown,
}

/// How much of a window has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Not all of it: an app draws less than the desktop gave it.
    Part,
    /// All of it, and the content itself may let through what is behind.
    All,
    /// All of it, and nothing behind it is to be seen.
    Opaque,
}

impl Filled {
    fn of(whole: Rect, quads: &[Quad]) -> Self {
        let covers = |quad: &&Quad| raster::covers(quad, whole);
        match quads.iter().filter(covers).map(|quad| quad.opaque).max() {
            None => Self::Part,
            Some(false) => Self::All,
            Some(true) => Self::Opaque,
        }
    }
}

/// A window of a display that takes pixels from memory. It must go before its window is closed.
pub trait Display: std::fmt::Debug {
    /// A sheet of this size that the display does not read now; none while it reads all that there are.
    ///
    /// # Errors
    /// There is no memory for it.
    fn sheet(&mut self, size: Size) -> anyhow::Result<Option<Sheet<'_>>>;

    /// Has the window show the sheet that was asked for last. All outside of `damage` is as what it shows now.
    ///
    /// # Errors
    /// The display is gone.
    fn show(&mut self, damage: &[Rect], filled: Filled) -> anyhow::Result<()>;

    /// Has the window go on with what it shows: what else was requested for the frame counts.
    fn keep(&mut self) {}

    /// Whether the display forgot what the window showed; said once.
    fn forgot(&mut self) -> bool {
        false
    }
}

/// A window that the processor draws.
#[derive(Debug)]
pub struct Sheets {
    display: Box<dyn Display>,
    /// What the window shows.
    shown: Shown,
    /// Nothing could be shown the last time.
    failed: bool,
}

impl Sheets {
    /// Nothing was shown so far.
    #[must_use]
    pub fn new(display: Box<dyn Display>) -> Self {
        Self { display, shown: Shown::default(), failed: false }
    }

    /// Has the window show quads.
    pub fn draw(&mut self, size: Size, quads: &[Quad]) -> Drawn {
        match self.try_draw(size, quads) {
            Ok(drawn) => {
                self.failed = false;
                drawn
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!("a window cannot be drawn now: {error:#}");
                }
                Drawn::Later
            }
        }
    }

    fn try_draw(&mut self, size: Size, quads: &[Quad]) -> anyhow::Result<Drawn> {
        let size = Size::new(size.width.min(LARGEST), size.height.min(LARGEST));
        if self.display.forgot() {
            self.shown = Shown::default();
        }
        let damage = self.shown.stale(size, quads);
        if damage.is_empty() {
            self.display.keep();
            return Ok(Drawn::Yes);
        }
        let Some(sheet) = self.display.sheet(size)? else { return Ok(Drawn::Later) };
        redraw(sheet.pixels, size, sheet.shown, quads);
        // Until it is shown, nothing is known of what is.
        self.shown = Shown::default();
        let shows = sheet.shown.clone();
        self.display.show(&damage, Filled::of(Rect::of_size(size), quads))?;
        self.shown = shows;
        Ok(Drawn::Yes)
    }
}
