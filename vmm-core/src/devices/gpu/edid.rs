//! What the screen says of itself (VESA E-EDID 1.4): one detailed timing, the size that is wished.

/// The vendor `INL`, five bits a letter from 1 on.
const VENDOR: u16 = (9 << 10) | (14 << 5) | 12;
/// Pixels of a line and lines of a picture that are not shown.
const BLANK: (u32, u32) = (160, 35);
/// Pictures a second.
const RATE: u32 = 60;
/// Tenths of a millimetre to a pixel: 96 to the inch.
const PITCH: u32 = 265;

/// An EDID whose preferred mode has this size. A width or height that its fields cannot hold (12 bits), or a clock that they
/// cannot, leaves the timing out: the display information says the size as well.
pub fn edid(width: u32, height: u32) -> [u8; 128] {
    let mut out = [0; 128];
    out[..8].copy_from_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    out[8..10].copy_from_slice(&VENDOR.to_be_bytes());
    // Product 1; made in the year 0 of 1990; version 1.4; digital, 8 bits a colour.
    out[10] = 1;
    out[16..21].copy_from_slice(&[1, 0, 1, 4, 0xa0]);
    let centimetres = |pixels: u32| byte(pixels * PITCH / 100_000);
    out[21..23].copy_from_slice(&[centimetres(width), centimetres(height)]);
    // Gamma 2.2; sRGB, and the first timing is the preferred one.
    out[23..25].copy_from_slice(&[120, 0x06]);
    out[25..35].copy_from_slice(&[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // No standard timings.
    out[38..54].fill(1);
    if let Some(timing) = timing(width, height) {
        out[54..72].copy_from_slice(&timing);
    }
    let name = *b"\0\0\0\xfc\0Inlay\n       ";
    out[72..90].copy_from_slice(&name);
    // No other descriptors.
    out[93] = 0x10;
    out[111] = 0x10;
    out[127] = out.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    out
}

fn byte(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// The detailed timing descriptor.
fn timing(width: u32, height: u32) -> Option<[u8; 18]> {
    let (across, down) = BLANK;
    if width > 0xfff || height > 0xfff {
        return None;
    }
    let clock = u16::try_from((width + across) * (height + down) * RATE / 10_000).ok()?;
    let [low, high] = clock.to_le_bytes();
    let (wide, high_mm) = (width * PITCH / 1000, height * PITCH / 1000);
    let nibbles = |a: u32, b: u32| byte((a >> 8 & 0xf) << 4 | (b >> 8 & 0xf));
    let part = |value: u32| byte(value & 0xff);
    Some([
        low,
        high,
        part(width),
        part(across),
        nibbles(width, across),
        part(height),
        part(down),
        nibbles(height, down),
        // Front porch and sync: 48 and 32 pixels, 3 and 6 lines.
        48,
        32,
        0x36,
        0,
        part(wide),
        part(high_mm),
        nibbles(wide, high_mm),
        0,
        0,
        // Digital separate sync, both positive.
        0x1e,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_timing_has_the_size() {
        for (width, height) in [(1280, 800), (640, 480), (2560, 1440)] {
            let edid = edid(width, height);
            assert_eq!(edid.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            let at = |index: usize| u32::from(edid[index]);
            assert_eq!(at(56) | (at(58) >> 4) << 8, width);
            assert_eq!(at(59) | (at(61) >> 4) << 8, height);
            let clock = u64::from(at(54) | at(55) << 8) * 10_000;
            let all = u64::from(width + BLANK.0) * u64::from(height + BLANK.1);
            assert!((59..=60).contains(&(clock / all)), "{clock}");
        }
    }

    #[test]
    fn what_the_fields_cannot_hold_is_left_out() {
        for (width, height) in [(4096, 100), (100, 4096), (4000, 4000), (0xffff, 0xffff)] {
            assert!(edid(width, height)[54..72].iter().all(|byte| *byte == 0));
        }
    }
}
