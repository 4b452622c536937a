//! The item's picture: a window on a square in the machine's colour, so that machines are told apart; two bars while it is paused.

use ksni::Icon;

/// Widths, in pixels: trays take the nearest.
const SIZES: [u32; 4] = [16, 22, 32, 48];
/// Places looked at for each pixel, in each direction.
const FINE: u32 = 4;
/// What is drawn on the square.
const FIGURE: [u8; 3] = [0xff; 3];

/// How the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It runs.
    Runs,
    /// It stands still.
    Paused,
    /// It starts, stops, or something is wrong: pale.
    Between,
}

/// The picture in all sizes.
pub(super) fn icons(colour: [u8; 3], mood: Mood) -> Vec<Icon> {
    let ground = match mood {
        Mood::Runs | Mood::Paused => colour,
        Mood::Between => colour.map(|part| part / 3 + 0x60),
    };
    SIZES.into_iter().map(|size| draw(size, ground, mood)).collect()
}

fn draw(size: u32, ground: [u8; 3], mood: Mood) -> Icon {
    let fine = size * FINE;
    let mut data = Vec::with_capacity(4 * (size * size) as usize);
    for (y, x) in (0..size).flat_map(|y| (0..size).map(move |x| (y, x))) {
        let (mut square, mut figure) = (0, 0);
        for (v, u) in (0..FINE).flat_map(|v| (0..FINE).map(move |u| (v, u))) {
            // Thousandths of the picture.
            let at = |pixel: u32, part: u32| (1000 * (pixel * FINE + part) + 500) / fine;
            let (x, y) = (at(x, u), at(y, v));
            let inside = in_square(x, y);
            square += u32::from(inside);
            figure += u32::from(inside && in_figure(x, y, mood));
        }
        let alpha = u8::try_from(square * 255 / (FINE * FINE)).unwrap_or(255);
        let mix = |ground: u8, figure_part: u8| {
            let of = square.max(1);
            let sum = u32::from(ground) * (square - figure) + u32::from(figure_part) * figure;
            u8::try_from(sum / of).unwrap_or(255)
        };
        data.push(alpha);
        data.extend((0..3).map(|part| mix(ground[part], FIGURE[part])));
    }
    let side = i32::try_from(size).unwrap_or(0);
    Icon { width: side, height: side, data }
}

/// A square with round corners.
fn in_square(x: u32, y: u32) -> bool {
    const EDGE: u32 = 40;
    const ROUND: u32 = 180;
    let past = |at: u32| {
        let (low, high) = (EDGE + ROUND, 1000 - EDGE - ROUND);
        low.saturating_sub(at).max(at.saturating_sub(high))
    };
    past(x).pow(2) + past(y).pow(2) <= ROUND.pow(2)
}

fn in_figure(x: u32, y: u32, mood: Mood) -> bool {
    match mood {
        Mood::Paused => (250..750).contains(&y) && ((280..430).contains(&x) || (570..720).contains(&x)),
        // A window: its title, and a frame.
        Mood::Runs | Mood::Between => {
            let inside = (290..710).contains(&x) && (440..690).contains(&y);
            (210..790).contains(&x) && (240..770).contains(&y) && !inside
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_the_colour_the_figure_or_nothing() {
        let icons = icons([10, 20, 30], Mood::Runs);
        assert_eq!(icons.len(), SIZES.len());
        let icon = icons.last().unwrap();
        let pixel = |x: usize, y: usize| &icon.data[4 * (48 * y + x)..][..4];
        assert_eq!((pixel(0, 0)[0], pixel(4, 24), pixel(24, 14)), (0, &[255, 10, 20, 30][..], &[255; 4][..]));
        for icon in &icons {
            assert_eq!(icon.data.len(), 4 * usize::try_from(icon.width * icon.height).unwrap());
        }
        let paused = super::icons([10, 20, 30], Mood::Paused);
        assert!(paused.iter().zip(&icons).all(|(a, b)| a.data != b.data));
    }
}
