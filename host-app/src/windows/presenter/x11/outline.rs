//! The outline of what is seen of a picture where nothing blends it with what is behind it (SHAPE 1.1): without a compositing manager
//! the shadow of a menu and the corners of a window would be black.

use inlay_protocol::geometry::{Rect, Size};
use x11rb::connection::Connection as _;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::xcb_ffi::XCBConnection;

/// Pixels of at least this alpha are seen.
const SEEN: u32 = 128 << 24;
/// Runs of seen pixels in a row, and rectangles of an outline: what has more is taken whole.
const RUNS: usize = 512;
const RECTS: usize = 8192;

/// Which pixels of a picture are seen, row by row.
#[derive(Debug, Default)]
pub struct Outline {
    size: Size,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Row {
    /// Begins and ends, in order.
    Runs(Vec<(u16, u16)>),
    TooMany,
}

impl Row {
    fn of(pixels: &[u32]) -> Self {
        // Most rows are seen all along, which is found quickest so.
        if pixels.iter().fold(u32::MAX, |all, pixel| all & pixel) >= SEEN {
            return Self::Runs(vec![(0, side(pixels.len()))]);
        }
        let mut runs = Vec::new();
        let mut at = 0;
        for run in pixels.chunk_by(|a, b| (*a >= SEEN) == (*b >= SEEN)) {
            if run.first().is_some_and(|pixel| *pixel >= SEEN) {
                if runs.len() == RUNS {
                    return Self::TooMany;
                }
                runs.push((side(at), side(at + run.len())));
            }
            at += run.len();
        }
        Self::Runs(runs)
    }

    fn runs(&self) -> &[(u16, u16)] {
        match self {
            Self::Runs(runs) => runs,
            Self::TooMany => &[],
        }
    }
}

/// Windows are no longer than X can express.
fn side(v: usize) -> u16 {
    u16::try_from(v).unwrap_or(u16::MAX)
}

impl Outline {
    /// Looks at a picture (rows of `size.width` pixels: blue, green, red, alpha in memory) where it may have changed.
    pub fn look(&mut self, size: Size, pixels: &[u32], damage: &[Rect]) {
        let (width, height) = (size.width as usize, size.height as usize);
        if width == 0 {
            return;
        }
        let new = self.size != size || self.rows.len() != height;
        if new {
            *self = Self { size, rows: vec![Row::TooMany; height] };
        }
        let damaged = |y: usize| {
            damage.iter().any(|rect| {
                let top = rect.y.unsigned_abs() as usize;
                (top..top + rect.height as usize).contains(&y)
            })
        };
        for (y, (row, pixels)) in self.rows.iter_mut().zip(pixels.chunks_exact(width)).enumerate() {
            if new || damaged(y) {
                *row = Row::of(pixels);
            }
        }
    }

    /// What is seen; `None` where nothing is, all of it, or what would be too much to say.
    #[must_use]
    pub fn rects(&self) -> Option<Vec<Rect>> {
        let mut rects = Vec::new();
        let mut y = 0;
        for band in self.rows.chunk_by(|a, b| a == b) {
            if band.first() == Some(&Row::TooMany) {
                return None;
            }
            for (begin, end) in band.first().map(Row::runs).unwrap_or_default() {
                let (width, height) = (u32::from(end - begin), u32::try_from(band.len()).ok()?);
                rects.push(Rect::new(i32::from(*begin), i32::try_from(y).ok()?, width, height));
            }
            y += band.len();
            if rects.len() > RECTS {
                return None;
            }
        }
        (!rects.is_empty() && rects != [Rect::of_size(self.size)]).then_some(rects)
    }

    /// Whether what is seen is a body of its own, as a menu within its shadow, and not the letters on a pane of glass, or the one thing
    /// on it: at least three quarters of the smallest rectangle around it, which is a third of all or more.
    #[must_use]
    pub fn is_solid(&self) -> bool {
        let seen = |row: &&Row| !row.runs().is_empty();
        let pixels: usize =
            self.rows.iter().flat_map(Row::runs).map(|(begin, end)| usize::from(end - begin)).sum();
        let left = self.rows.iter().filter_map(|row| row.runs().first()).map(|run| run.0).min().unwrap_or(0);
        let right = self.rows.iter().filter_map(|row| row.runs().last()).map(|run| run.1).max().unwrap_or(0);
        let top = self.rows.iter().take_while(|row| !seen(row)).count();
        let bottom = self.rows.iter().rev().take_while(|row| !seen(row)).count();
        let around = usize::from(right - left) * self.rows.len().saturating_sub(top + bottom);
        let all = self.size.width as usize * self.size.height as usize;
        pixels * 4 >= around * 3 && around * 3 >= all
    }
}

/// The selection whose owner blends the windows of a screen (EWMH, "Compositing Managers").
///
/// # Errors
/// The display is gone.
pub fn manager(c: &XCBConnection, screen: usize) -> anyhow::Result<xproto::Atom> {
    Ok(c.intern_atom(false, format!("_NET_WM_CM_S{screen}").as_bytes())?.reply()?.atom)
}

/// Whether windows of a screen are blended now.
///
/// # Errors
/// The display is gone.
pub fn is_blended(c: &XCBConnection, manager: xproto::Atom) -> anyhow::Result<bool> {
    Ok(c.get_selection_owner(manager)?.reply()?.owner != x11rb::NONE)
}

/// Asks to be told when that changes, by `XfixesSelectionNotify`.
///
/// # Errors
/// The display is gone, or has no XFIXES.
pub fn watch(c: &XCBConnection, root: xproto::Window, manager: xproto::Atom) -> anyhow::Result<()> {
    c.xfixes_query_version(1, 0)?.reply()?;
    let all = SelectionEventMask::SET_SELECTION_OWNER
        | SelectionEventMask::SELECTION_WINDOW_DESTROY
        | SelectionEventMask::SELECTION_CLIENT_CLOSE;
    c.xfixes_select_selection_input(root, manager, all)?;
    c.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(size: Size, alpha: &[u32]) -> Outline {
        let pixels: Vec<u32> = alpha.iter().map(|a| a << 24 | 0x12_3456).collect();
        let mut outline = Outline::default();
        outline.look(size, &pixels, &[]);
        outline
    }

    fn plain(outline: &Outline) -> Option<Vec<(i32, i32, u32, u32)>> {
        Some(outline.rects()?.iter().map(|r| (r.x, r.y, r.width, r.height)).collect())
    }

    #[test]
    fn an_outline_is_what_is_seen() {
        let image = outline(Size::new(3, 2), &[0, 255, 200, 0, 127, 128]);
        assert_eq!(plain(&image), Some(vec![(1, 0, 2, 1), (2, 1, 1, 1)]));
        assert_eq!(plain(&outline(Size::new(3, 2), &[0; 6])), None, "better a black one than none");
        assert_eq!(plain(&outline(Size::new(3, 2), &[255; 6])), None, "all of it");
        assert_eq!(plain(&outline(Size::default(), &[])), None);
        let stripes: Vec<u32> = (0..1200).map(|x| x % 2 * 255).collect();
        assert_eq!(plain(&outline(Size::new(1200, 1), &stripes)), None, "too much to say");
    }

    #[test]
    fn rows_that_are_alike_are_one_rectangle_and_only_damaged_ones_are_looked_at() {
        let size = Size::new(4, 4);
        let mut pixels = [0, 0, 0, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 0, 0, 0].map(|a: u32| a << 24);
        let mut menu = Outline::default();
        menu.look(size, &pixels, &[]);
        assert_eq!(plain(&menu), Some(vec![(1, 1, 2, 2)]));
        pixels[0] = 255 << 24;
        pixels[15] = 255 << 24;
        menu.look(size, &pixels, &[Rect::new(0, 3, 4, 1)]);
        assert_eq!(plain(&menu), Some(vec![(1, 1, 2, 2), (3, 3, 1, 1)]));
        menu.look(size, &pixels, &[Rect::new(0, 0, 1, 1)]);
        assert_eq!(plain(&menu), Some(vec![(0, 0, 1, 1), (1, 1, 2, 2), (3, 3, 1, 1)]));
    }

    #[test]
    fn a_menu_in_its_shadow_is_solid_and_letters_on_glass_are_not() {
        let side = 40;
        let picture = |seen: &dyn Fn(u32, u32) -> bool| {
            let alpha: Vec<u32> =
                (0..side * side).map(|at| if seen(at % side, at / side) { 255 } else { 40 }).collect();
            outline(Size::new(side, side), &alpha)
        };
        let far = |x: u32, y: u32| (x.abs_diff(20).pow(2) + y.abs_diff(20).pow(2)) < 225;
        assert!(picture(&|x, y| (5..35).contains(&x) && (8..32).contains(&y)).is_solid());
        assert!(!picture(&|x, y| (12..30).contains(&x) && (15..25).contains(&y)).is_solid(), "a cursor");
        assert!(picture(&far).is_solid(), "a disc");
        assert!(!picture(&|x, y| x % 5 == 0 || y % 7 == 0).is_solid());
        assert!(!picture(&|x, y| x == y || x == 0).is_solid());
    }
}
