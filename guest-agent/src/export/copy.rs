//! The one copy in the guest: damaged rows from an app's `wl_shm` buffer into a pool buffer. A single-pixel buffer is its pixel.

use inlay_protocol::display::Format;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_shm;
use smithay::wayland::shm::{BufferAccessError, BufferData, with_buffer_contents};
use smithay::wayland::single_pixel_buffer::get_single_pixel_buffer;

use super::damage::Damage;
use super::slots::Layout;
use crate::pool::Buffer;

/// Why pixels of an app cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Neither a `wl_shm` nor a single-pixel buffer, or its pool is shorter than it claimed.
    #[error("the app's buffer cannot be read")]
    Access(#[from] BufferAccessError),
    /// Larger than a surface may be, or not within its pool.
    #[error("the app's buffer has a size or stride out of the limits")]
    Bounds,
}

/// Size and format of an app's buffer.
///
/// # Errors
/// When it is neither a `wl_shm` nor a single-pixel buffer, or out of the limits.
pub fn layout(buffer: &WlBuffer) -> Result<Layout, CopyError> {
    if let Ok(pixel) = get_single_pixel_buffer(buffer) {
        let format = if pixel.has_alpha() { Format::Argb8888 } else { Format::Xrgb8888 };
        return Ok(Layout { size: Size::new(1, 1), format });
    }
    with_buffer_contents(buffer, |_, _, data| layout_of(&data))?.ok_or(CopyError::Bounds)
}

fn layout_of(data: &BufferData) -> Option<Layout> {
    let size = Size::new(u32::try_from(data.width).ok()?, u32::try_from(data.height).ok()?);
    let format = match data.format {
        wl_shm::Format::Argb8888 => Format::Argb8888,
        wl_shm::Format::Xrgb8888 => Format::Xrgb8888,
        _ => return None,
    };
    let layout = Layout { size, format };
    let fits = !size.is_empty() && size.is_sane() && layout.bytes() as u64 <= limits::BUFFER_BYTES;
    fits.then_some(layout)
}

/// Where the pixels of a buffer lie in its pool.
#[derive(Debug, Clone, Copy)]
struct Source {
    layout: Layout,
    offset: usize,
    stride: usize,
}

impl Source {
    /// Checks that every pixel is within a pool of `len` bytes.
    fn new(data: &BufferData, len: usize) -> Option<Self> {
        let layout = layout_of(data)?;
        let (offset, stride) = (usize::try_from(data.offset).ok()?, usize::try_from(data.stride).ok()?);
        let (width, height) = (layout.size.width as usize * 4, layout.size.height as usize);
        let end = stride.checked_mul(height - 1)?.checked_add(width)?.checked_add(offset)?;
        (stride >= width && end <= len).then_some(Self { layout, offset, stride })
    }
}

/// Copies the damaged pixels of `from` into `to`, whose rows are `layout.stride()` bytes; returns the bytes copied. Damage must
/// have been clipped to the layout.
///
/// # Errors
/// When the buffer cannot be read, or is not what it was when `layout` was taken.
pub fn copy(from: &WlBuffer, to: &Buffer, layout: Layout, damage: &Damage) -> Result<u64, CopyError> {
    if layout.bytes() > to.len() {
        return Err(CopyError::Bounds);
    }
    if let Ok(pixel) = get_single_pixel_buffer(from) {
        let [red, green, blue, alpha] = pixel.rgba8888();
        let bytes = [blue, green, red, alpha];
        // SAFETY: `to` holds the layout's bytes (checked above), which are those of one pixel at least.
        unsafe { to.start().as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        return Ok(bytes.len() as u64);
    }
    with_buffer_contents(from, |start, len, data| {
        let source = Source::new(&data, len).filter(|s| s.layout == layout)?;
        let bounds = Rect::of_size(layout.size);
        let mut copied = 0;
        for rect in damage.rects().iter().filter_map(|r| r.intersection(bounds)) {
            // SAFETY: `Source::new` checked that the buffer's rows lie within the `len` bytes at `start`, `to` has
            // `layout.bytes()` bytes (checked above), and the rectangle lies within the layout that both have. The two are
            // different mappings. A pool that its client truncated ends in smithay's SIGBUS handler.
            copied += unsafe { copy_rect(start, source, to.start().as_ptr(), layout, rect) };
        }
        Some(copied)
    })?
    .ok_or(CopyError::Bounds)
}

/// All pixels of a buffer, row after row.
///
/// # Errors
/// When it is no `wl_shm` buffer, or not what it was when `layout` was taken.
pub fn pixels(from: &WlBuffer, layout: Layout) -> Result<Vec<u8>, CopyError> {
    with_buffer_contents(from, |start, len, data| {
        let source = Source::new(&data, len).filter(|s| s.layout == layout)?;
        let mut pixels = vec![0; layout.bytes()];
        // SAFETY: as in `copy`; the vector has the layout's bytes.
        unsafe { copy_rect(start, source, pixels.as_mut_ptr(), layout, Rect::of_size(layout.size)) };
        Some(pixels)
    })?
    .ok_or(CopyError::Bounds)
}

/// Copies one rectangle.
///
/// # Safety
/// `rect` lies within `layout.size` and has no negative corner; `from` and `to` hold all rows of that size, and do not overlap.
unsafe fn copy_rect(from: *const u8, source: Source, to: *mut u8, layout: Layout, rect: Rect) -> u64 {
    let (x, y) = (rect.x.unsigned_abs() as usize, rect.y.unsigned_abs() as usize);
    let (width, height) = (rect.width as usize * 4, rect.height as usize);
    let stride = layout.stride() as usize;
    // SAFETY: by the contract above.
    unsafe {
        let mut from = from.add(source.offset + y * source.stride + x * 4);
        let mut to = to.add(y * stride + x * 4);
        if width == stride && source.stride == stride {
            std::ptr::copy_nonoverlapping(from, to, stride * height);
        } else {
            for row in 0..height {
                std::ptr::copy_nonoverlapping(from, to, width);
                if row + 1 < height {
                    from = from.add(source.stride);
                    to = to.add(stride);
                }
            }
        }
    }
    (width * height) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::pool::memfd::MemfdPool;

    fn data(width: i32, height: i32, stride: i32, offset: i32) -> BufferData {
        BufferData { offset, width, height, stride, format: wl_shm::Format::Argb8888 }
    }

    #[test]
    fn a_buffer_out_of_its_pool_is_refused() {
        assert!(Source::new(&data(10, 10, 40, 0), 400).is_some());
        assert!(Source::new(&data(10, 10, 40, 0), 399).is_none());
        assert!(Source::new(&data(10, 10, 40, 1), 400).is_none());
        assert!(Source::new(&data(10, 10, 39, 0), 4000).is_none());
        assert!(Source::new(&data(10, 10, 40, -1), 4000).is_none());
        assert!(Source::new(&data(0, 10, 40, 0), 4000).is_none());
        assert!(Source::new(&data(16_385, 1, 65_540, 0), 1 << 20).is_none());
        assert!(Source::new(&data(16_384, 16_384, i32::MAX, 0), 1 << 20).is_none());
    }

    #[test]
    fn only_the_rectangle_is_copied() {
        let layout = layout_of(&data(7, 5, 32, 8)).unwrap();
        let source = Source { layout, offset: 8, stride: 32 };
        let from: Vec<u8> = (0..200).map(|n| u8::try_from(n).unwrap()).collect();
        let to = MemfdPool.create(4096).unwrap();
        let rect = Rect::new(2, 1, 3, 2);
        // SAFETY: both hold five rows of seven pixels, and the rectangle is within them.
        let copied = unsafe { copy_rect(from.as_ptr(), source, to.start().as_ptr(), layout, rect) };
        assert_eq!(copied, 24);
        for y in 0..5_usize {
            for x in 0..7_usize {
                // SAFETY: within the buffer.
                let got = unsafe { to.start().as_ptr().add(y * 28 + x * 4).read() };
                let inside = (2..5).contains(&x) && (1..3).contains(&y);
                assert_eq!(got, if inside { from[8 + y * 32 + x * 4] } else { 0 }, "{x} {y}");
            }
        }
    }
}
