//! Windows that the processor draws: pictures in memory that the display has too (MIT-SHM 1.2), or sent to one that is elsewhere.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inlay_protocol::geometry::{Rect, Size};
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::shape::{self, ConnectionExt as _};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, AtomEnum, ClipOrdering, ConnectionExt as _, ImageFormat, PropMode};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::x11_utils::X11Error;
use x11rb::xcb_ffi::XCBConnection;

use super::hints;
use super::outline::Outline;
use super::plain;
use crate::windows::render::cpu::{self, Display, Filled, Memory, Shown};

/// Pictures of a window: one that the display reads, one that is drawn.
const MOST: usize = 2;

/// What the display does with windows that the processor draws: for them and for whoever takes its events.
#[derive(Debug, Clone)]
pub struct News(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// It takes memory from this process.
    shares: bool,
    /// Memory that it has not read to the end.
    read: HashSet<shm::Seg>,
    /// Windows of which it forgot something.
    forgot: HashSet<xproto::Window>,
    /// It can cut windows out (SHAPE).
    shapes: bool,
    /// What is transparent is blended with what is behind it.
    blends: bool,
    /// Windows whose apps gave them an outline.
    outlined: HashSet<xproto::Window>,
    /// Windows whose outline is another than they had last by themselves.
    reshaped: HashSet<xproto::Window>,
}

impl News {
    /// Nothing so far.
    ///
    /// # Errors
    /// The display is gone.
    pub fn new(connection: &XCBConnection, blends: bool) -> anyhow::Result<Self> {
        let shares = takes_memory(connection)?;
        let shapes = connection.extension_information(shape::X11_EXTENSION_NAME)?.is_some();
        Ok(Self(Arc::new(Mutex::new(Told { shares, shapes, blends, ..Told::default() }))))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has read this memory.
    pub fn done(&self, seg: shm::Seg) {
        self.told().read.remove(&seg);
    }

    /// It took some memory not, and shows nothing of that: pixels are sent from here on.
    pub fn refused(&self) {
        self.told().shares = false;
    }

    /// It forgot something of this window.
    pub fn exposed(&self, window: xproto::Window) {
        self.told().forgot.insert(window);
    }

    /// What is transparent is blended with what is behind it from now on, or no longer.
    pub fn blends(&self, blends: bool) {
        self.told().blends = blends;
    }

    /// An app gave a window an outline, or took it back.
    pub fn outlined(&self, window: xproto::Window, outlined: bool) {
        let mut told = self.told();
        if outlined {
            told.outlined.insert(window);
        } else {
            told.outlined.remove(&window);
        }
        told.reshaped.insert(window);
    }

    /// A window is no more.
    pub fn closed(&self, window: xproto::Window) {
        let mut told = self.told();
        told.forgot.remove(&window);
        told.outlined.remove(&window);
        told.reshaped.remove(&window);
    }
}

fn takes_memory(c: &XCBConnection) -> anyhow::Result<bool> {
    if c.extension_information(shm::X11_EXTENSION_NAME)?.is_none() {
        return Ok(false);
    }
    let version = c.shm_query_version()?.reply();
    if version.is_ok_and(|version| (version.major_version, version.minor_version) < (1, 2)) {
        return Ok(false);
    }
    // A display elsewhere has the extension as well, and one may refuse all of it.
    let Ok((_memory, file)) = Memory::new(Size::new(1, 1)) else { return Ok(false) };
    let seg = c.generate_id()?;
    let here = c.shm_attach_fd(seg, file, true)?.check().is_ok();
    if here {
        c.shm_detach(seg)?;
    }
    Ok(here)
}

/// Whether an error is that the display did not take memory.
pub fn is_refusal(error: &X11Error) -> bool {
    error.extension_name.as_deref() == Some(shm::X11_EXTENSION_NAME)
        && error.minor_opcode == u16::from(shm::ATTACH_FD_REQUEST)
}

#[derive(Debug)]
struct Sheet {
    memory: Memory,
    /// None where pixels are sent.
    seg: Option<shm::Seg>,
    shown: Shown,
}

/// The pictures of a window.
#[derive(Debug)]
pub struct Sheets {
    connection: Arc<XCBConnection>,
    to: plain::To,
    news: News,
    sheets: Vec<Sheet>,
    /// The one that was asked for last.
    current: (usize, Size),
    /// EWMH's `_NET_WM_OPAQUE_REGION`, and the size for which compositing managers were told that nothing is seen through it.
    region: xproto::Atom,
    opaque: Option<Size>,
    /// What is seen where nothing blends, and what of that the display was told.
    outline: Outline,
    shape: Option<Vec<Rect>>,
}

impl Sheets {
    /// None so far.
    ///
    /// # Errors
    /// The display is gone.
    pub fn new(
        connection: &Arc<XCBConnection>,
        (window, depth): (xproto::Window, u8),
        news: News,
        region: xproto::Atom,
    ) -> anyhow::Result<Self> {
        let gc = connection.generate_id()?;
        connection.create_gc(gc, window, &xproto::CreateGCAux::new())?;
        let to = plain::To { drawable: window, gc, depth };
        let (sheets, current) = (Vec::new(), (0, Size::default()));
        let (outline, shape) = (Outline::default(), None);
        let connection = connection.clone();
        Ok(Self { connection, to, news, sheets, current, region, opaque: None, outline, shape })
    }

    fn add(&mut self, size: Size) -> anyhow::Result<usize> {
        let (memory, file) = Memory::new(size)?;
        let shares = self.news.told().shares;
        let seg = shares.then(|| self.connection.generate_id()).transpose()?;
        if let Some(seg) = seg {
            self.connection.shm_attach_fd(seg, file, true)?;
        }
        self.sheets.push(Sheet { memory, seg, shown: Shown::default() });
        Ok(self.sheets.len() - 1)
    }

    /// Does without memory where the display does not take it; whether there was some.
    fn leave_refused(&mut self) -> bool {
        if self.news.told().shares {
            return false;
        }
        let refused: Vec<Sheet> = self.sheets.extract_if(.., |sheet| sheet.seg.is_some()).collect();
        refused.iter().for_each(|sheet| Self::forget(&self.connection, &self.news, sheet));
        !refused.is_empty()
    }

    fn say_opaque(&mut self, opaque: Option<Size>) -> anyhow::Result<()> {
        if self.to.depth != 32 || std::mem::replace(&mut self.opaque, opaque) == opaque {
            return Ok(());
        }
        let (c, window) = (&self.connection, self.to.drawable);
        match opaque {
            Some(Size { width, height }) => {
                let all = [0, 0, width, height];
                c.change_property32(PropMode::REPLACE, window, self.region, AtomEnum::CARDINAL, &all)?
            }
            None => c.delete_property(window, self.region)?,
        };
        Ok(())
    }

    /// Cuts off what would be black because nothing blends it.
    fn say_outline(&mut self, damage: &[Rect], filled: Filled) -> anyhow::Result<()> {
        let (at, size) = self.current;
        let (blends, outlined, unknown) = {
            let mut told = self.news.told();
            let window = self.to.drawable;
            let (outlined, unknown) = (told.outlined.contains(&window), told.reshaped.remove(&window));
            (!told.shapes || told.blends && self.to.depth == 32, outlined, unknown)
        };
        let mut shape = None;
        if blends || filled != Filled::All || outlined {
            self.outline = Outline::default();
        } else if let Some(sheet) = self.sheets.get_mut(at) {
            self.outline.look(size, sheet.memory.pixels(size), damage);
            shape = self.outline.rects().filter(|_| self.outline.is_solid());
        }
        let known =
            std::mem::replace(&mut self.shape, shape.clone()) == shape && !(unknown && shape.is_some());
        if known || outlined {
            return Ok(());
        }
        let (c, window, kind) = (&self.connection, self.to.drawable, shape::SK::BOUNDING);
        match shape {
            None => c.shape_mask(shape::SO::SET, kind, window, 0, 0, x11rb::NONE)?,
            Some(rects) => {
                let (order, rects) = (ClipOrdering::YX_BANDED, hints::rectangles(&rects));
                c.shape_rectangles(shape::SO::SET, kind, order, window, 0, 0, &rects)?
            }
        };
        Ok(())
    }

    fn forget(connection: &XCBConnection, news: &News, sheet: &Sheet) {
        if let Some(seg) = sheet.seg {
            news.done(seg);
            // It fails only when the connection is gone, which the next dispatch tells.
            let _ = connection.shm_detach(seg);
        }
    }
}

impl Display for Sheets {
    fn sheet(&mut self, size: Size) -> anyhow::Result<Option<cpu::Sheet<'_>>> {
        self.leave_refused();
        let told = self.news.told();
        let free = |sheet: &Sheet| sheet.seg.is_none_or(|seg| !told.read.contains(&seg));
        let at = self.sheets.iter().position(free);
        drop(told);
        let at = match at {
            Some(at) if !self.sheets[at].memory.fits(size) => {
                let old = self.sheets.swap_remove(at);
                Self::forget(&self.connection, &self.news, &old);
                self.add(size)?
            }
            Some(at) => at,
            None if self.sheets.len() >= MOST => return Ok(None),
            None => self.add(size)?,
        };
        self.current = (at, size);
        let sheet = &mut self.sheets[at];
        Ok(Some(cpu::Sheet { pixels: sheet.memory.pixels(size), shown: &mut sheet.shown }))
    }

    fn show(&mut self, damage: &[Rect], filled: Filled) -> anyhow::Result<()> {
        let (at, size) = self.current;
        self.say_opaque((filled == Filled::Opaque).then_some(size))?;
        self.say_outline(damage, filled)?;
        let Some(sheet) = self.sheets.get_mut(at) else { return Ok(()) };
        let c = &self.connection;
        let Some(seg) = sheet.seg else {
            let pixels = sheet.memory.pixels(size);
            for rect in damage {
                let (x, y) = (rect.x.unsigned_abs() as usize, rect.y.unsigned_abs() as usize);
                let begin = y * size.width as usize + x;
                let rows = pixels[begin..].chunks(size.width as usize).take(rect.height as usize);
                let bytes: Vec<u8> = rows
                    .flat_map(|row| row.iter().take(rect.width as usize))
                    .flat_map(|pixel| pixel.to_ne_bytes())
                    .collect();
                plain::put(c, self.to, *rect, &bytes)?;
            }
            return Ok(());
        };
        let side = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
        let (width, height) = (side(size.width), side(size.height));
        let format = u8::from(ImageFormat::Z_PIXMAP);
        for (number, rect) in damage.iter().enumerate() {
            // The last one tells when the memory was read: the display does one after the other.
            let last = number + 1 == damage.len();
            let (x, y) = (u16::try_from(rect.x)?, u16::try_from(rect.y)?);
            let (to_x, to_y) = (i16::try_from(rect.x)?, i16::try_from(rect.y)?);
            let plain::To { drawable, gc, depth } = self.to;
            c.shm_put_image(
                drawable,
                gc,
                width,
                height,
                x,
                y,
                side(rect.width),
                side(rect.height),
                to_x,
                to_y,
                depth,
                format,
                last,
                seg,
                0,
            )?;
        }
        self.news.told().read.insert(seg);
        Ok(())
    }

    fn forgot(&mut self) -> bool {
        let refused = self.leave_refused();
        self.news.told().forgot.remove(&self.to.drawable) || refused
    }
}

impl Drop for Sheets {
    fn drop(&mut self) {
        for sheet in &self.sheets {
            Self::forget(&self.connection, &self.news, sheet);
        }
        let _ = self.connection.free_gc(self.to.gc);
    }
}
