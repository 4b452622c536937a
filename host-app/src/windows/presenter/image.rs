//! Pointer images: names of the theme's, or pixels of the guest.

use inlay_protocol::geometry::{Point, Size};

/// The pointer image over our windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// None.
    Hidden,
    /// One of the host's theme, by CSS name.
    Named(String),
    /// Pixels of the guest: blue, green, red, alpha, premultiplied.
    Pixels {
        /// Width and height.
        size: Size,
        /// `4 * width * height` bytes.
        bytes: Vec<u8>,
        /// Width and height that it is to have, in logical pixels.
        logical: Size,
        /// The point that points, in logical pixels.
        hotspot: Point,
    },
}

/// CSS's cursor names, in the order of `wp_cursor_shape_device_v1`: the only ones that reach a theme's folders.
pub const CURSORS: [&str; 36] = [
    "default",
    "context-menu",
    "help",
    "pointer",
    "progress",
    "wait",
    "cell",
    "crosshair",
    "text",
    "vertical-text",
    "alias",
    "copy",
    "move",
    "no-drop",
    "not-allowed",
    "grab",
    "grabbing",
    "e-resize",
    "n-resize",
    "ne-resize",
    "nw-resize",
    "s-resize",
    "se-resize",
    "sw-resize",
    "w-resize",
    "ew-resize",
    "ns-resize",
    "nesw-resize",
    "nwse-resize",
    "col-resize",
    "row-resize",
    "all-scroll",
    "zoom-in",
    "zoom-out",
    "dnd-ask",
    "all-resize",
];

/// The X cursor font's name for a CSS one, for themes without the latter.
#[must_use]
pub fn older_cursor(name: &str) -> &'static str {
    match name {
        "text" => "xterm",
        "pointer" => "hand2",
        "wait" | "progress" => "watch",
        "crosshair" => "crosshair",
        "move" | "all-scroll" | "grab" | "grabbing" => "fleur",
        "n-resize" => "top_side",
        "s-resize" => "bottom_side",
        "e-resize" => "right_side",
        "w-resize" => "left_side",
        "ne-resize" | "nesw-resize" => "top_right_corner",
        "nw-resize" | "nwse-resize" => "top_left_corner",
        "se-resize" => "bottom_right_corner",
        "sw-resize" => "bottom_left_corner",
        "ew-resize" | "col-resize" => "sb_h_double_arrow",
        "ns-resize" | "row-resize" => "sb_v_double_arrow",
        "not-allowed" | "no-drop" => "X_cursor",
        "help" => "question_arrow",
        _ => "left_ptr",
    }
}

/// A picture of 4 bytes a pixel in another size, by its nearest pixels.
#[must_use]
pub fn resampled(size: Size, bytes: &[u8], to: Size) -> Vec<u8> {
    let nearest = |at: u32, from: u32, to: u32| {
        let centre = (2 * u64::from(at) + 1) * u64::from(from) / (2 * u64::from(to.max(1)));
        usize::try_from(centre).unwrap_or(0)
    };
    let width = usize::try_from(size.width).unwrap_or(0);
    let pixel = |x: u32, y: u32| {
        let at = 4 * (nearest(y, size.height, to.height) * width + nearest(x, size.width, to.width));
        bytes.get(at..at + 4).unwrap_or(&[0; 4])
    };
    (0..to.height).flat_map(|y| (0..to.width).flat_map(move |x| pixel(x, y))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_grow_and_shrink_by_their_nearest_pixels() {
        let picture: Vec<u8> = [[1; 4], [2; 4], [3; 4], [4; 4]].concat();
        let firsts = |to| -> Vec<u8> {
            resampled(Size::new(2, 2), &picture, to).chunks_exact(4).map(|pixel| pixel[0]).collect()
        };
        assert_eq!(firsts(Size::new(4, 2)), [1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(firsts(Size::new(2, 2)), [1, 2, 3, 4]);
        assert_eq!(firsts(Size::new(1, 1)), [4]);
        assert_eq!(firsts(Size::new(3, 1)), [3, 4, 4]);
        assert!(firsts(Size::default()).is_empty());
    }
}
