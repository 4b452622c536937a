//! The pixels that the test client draws, computed alike by the client and by the test that looks at the window.

/// Pixel `(x, y)` of a picture: blue, green, red, alpha; colour premultiplied with alpha, all values occur.
#[must_use]
pub fn pixel(seed: u32, x: u32, y: u32) -> [u8; 4] {
    let hash = (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed.wrapping_mul(0xc2b2_ae3d))
        .wrapping_mul(0x27d4_eb2f);
    let [a, b, c, d] = (hash ^ hash >> 15).to_le_bytes();
    let under = |v: u8| u8::try_from(u32::from(v) * u32::from(a) / 255).unwrap_or(255);
    [under(b), under(c), under(d), a]
}

/// A picture: rows of `4 * width` bytes.
#[must_use]
pub fn picture(seed: u32, width: u32, height: u32) -> Vec<u8> {
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(seed, x, y))).collect()
}

/// Overwrites a rectangle of a picture with the same place of another.
pub fn paint(bytes: &mut [u8], width: u32, rect: [u32; 4], seed: u32) {
    let [left, top, w, h] = rect;
    for y in top..top + h {
        for x in left..left + w {
            let at = 4 * (y * width + x) as usize;
            bytes[at..at + 4].copy_from_slice(&pixel(seed, x, y));
        }
    }
}

/// Puts an opaque picture (its alpha ignored) over another.
pub fn cover(bytes: &mut [u8], width: u32, at: [u32; 2], above: &[u8], above_width: u32) {
    for (row, line) in above.chunks(4 * above_width as usize).enumerate() {
        let start = 4 * ((at[1] as usize + row) * width as usize + at[0] as usize);
        for (to, from) in bytes[start..].chunks_mut(4).zip(line.chunks(4)) {
            to.copy_from_slice(&[from[0], from[1], from[2], 255]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_premultiplied_and_varied() {
        let all = picture(1, 333, 217);
        assert!(all.chunks(4).all(|p| p[..3].iter().all(|c| *c <= p[3])));
        let alphas: std::collections::HashSet<u8> = all.chunks(4).map(|p| p[3]).collect();
        assert_eq!(alphas.len(), 256);
        assert_ne!(all, picture(2, 333, 217));
    }
}
