//! Where the guest's screen is in its window: as large as it can be with its own shape, in the middle; pixel for pixel where it
//! fits exactly.

use inlay_protocol::geometry::Size;
use inlay_protocol::memory::{PLACES, Wish};

/// The window's content and the screen in it, in pixels of the host: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Layout {
    window: [f32; 4],
    screen: [f32; 4],
    /// Pixels of the host to one of the window's.
    scale: f32,
    exact: bool,
}

impl Layout {
    /// A window's content of this size in logical pixels, at a scale in 120ths, and a screen's size in pixels.
    pub fn new(window: Size, scale_120: u32, screen: Option<Size>) -> Self {
        let scale = scale_120 as f32 / 120.0;
        let [width, height] = [window.width, window.height].map(|side| (side as f32 * scale).round());
        let whole = [0.0, 0.0, width, height];
        let Some(screen) = screen.filter(|screen| !screen.is_empty()) else {
            return Self { window: whole, screen: whole, scale, exact: true };
        };
        let (wide, high) = (screen.width as f32, screen.height as f32);
        let factor = (width / wide).min(height / high);
        // A pixel more or less by rounding of the window's size is no reason to blur all of it.
        let exact = (width - wide).abs() <= 1.0 && (height - high).abs() <= 1.0;
        let factor = if exact { 1.0 } else { factor };
        let (drawn_x, drawn_y) = ((wide * factor).round().max(1.0), (high * factor).round().max(1.0));
        let left = ((width - drawn_x) / 2.0).floor().max(0.0);
        let top = ((height - drawn_y) / 2.0).floor().max(0.0);
        Self { window: whole, screen: [left, top, left + drawn_x, top + drawn_y], scale, exact }
    }

    pub fn window(&self) -> [f32; 4] {
        self.window
    }

    pub fn screen(&self) -> [f32; 4] {
        self.screen
    }

    /// Whether each pixel of the screen is one of the window.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// A place in the window, in logical pixels, as one of the guest's pointer: at the edge where it is beside the screen.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and PLACES")]
    pub fn place(&self, x: f64, y: f64) -> Wish {
        let [left, top, right, bottom] = self.screen.map(f64::from);
        let along = |at: f64, start: f64, end: f64| {
            let part = (at * f64::from(self.scale) - start) / (end - start).max(1.0);
            (part.clamp(0.0, 1.0) * f64::from(PLACES)).round() as u16
        };
        Wish::Pointer { x: along(x, left, right), y: along(y, top, bottom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_of_the_windows_size_is_shown_pixel_for_pixel() {
        let layout = Layout::new(Size::new(640, 400), 240, Some(Size::new(1280, 800)));
        assert_eq!((layout.screen(), layout.is_exact()), ([0.0, 0.0, 1280.0, 800.0], true));
        // 801 * 1.25 is rounded.
        let layout = Layout::new(Size::new(801, 400), 150, Some(Size::new(1000, 500)));
        assert_eq!((layout.screen(), layout.is_exact()), ([0.0, 0.0, 1000.0, 500.0], true));
    }

    #[test]
    fn any_other_keeps_its_shape_in_the_middle() {
        let layout = Layout::new(Size::new(1000, 400), 120, Some(Size::new(640, 400)));
        assert_eq!((layout.screen(), layout.is_exact()), ([180.0, 0.0, 820.0, 400.0], false));
        let layout = Layout::new(Size::new(320, 400), 120, Some(Size::new(640, 400)));
        assert_eq!(layout.screen(), [0.0, 100.0, 320.0, 300.0]);
        let wide = Layout::new(Size::new(100, 100), 120, Some(Size::new(16384, 1)));
        assert_eq!(wide.screen(), [0.0, 49.0, 100.0, 50.0]);
    }

    #[test]
    fn places_are_parts_of_the_screen() {
        let layout = Layout::new(Size::new(1000, 400), 120, Some(Size::new(640, 400)));
        assert_eq!(layout.place(180.0, 0.0), Wish::Pointer { x: 0, y: 0 });
        assert_eq!(layout.place(500.0, 200.0), Wish::Pointer { x: 16384, y: 16384 });
        for (x, y) in [(-50.0, -1.0), (0.0, 0.0), (179.0, -0.1)] {
            assert_eq!(layout.place(x, y), Wish::Pointer { x: 0, y: 0 });
        }
        assert_eq!(layout.place(1e9, f64::INFINITY), Wish::Pointer { x: PLACES, y: PLACES });
        assert_eq!(layout.place(f64::NAN, 0.0), Wish::Pointer { x: 0, y: 0 }, "no place is one");
        assert_eq!(Layout::default().place(5.0, 5.0), Wish::Pointer { x: 0, y: 0 });
    }
}
