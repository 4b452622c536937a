//! What a picture shows, and what of it is out of date.

use std::collections::VecDeque;

use inlay_protocol::geometry::{Rect, Size};

use super::{Image, image, raster};
use crate::windows::render::Quad;

/// Changes of an image that are told apart.
const CHANGES: usize = 32;
/// Rectangles that are drawn one by one.
const RECTS: usize = 16;

/// Pixels of a size.
pub fn area(size: Size) -> usize {
    size.width as usize * size.height as usize
}

/// The newest changes of an image.
#[derive(Debug, Default)]
pub struct Log {
    version: u64,
    newest: VecDeque<(u64, Rect)>,
}

impl Log {
    /// A part of it is another now.
    pub fn add(&mut self, rect: Rect) {
        self.version += 1;
        if self.newest.len() == CHANGES {
            self.newest.pop_front();
        }
        self.newest.push_back((self.version, rect));
    }

    /// What is newer than a version; nothing when that is too long ago to be known.
    fn since(&self, version: u64) -> Option<Vec<Rect>> {
        let oldest = self.newest.front().map_or(self.version + 1, |(oldest, _)| *oldest);
        let newer = self.newest.iter().filter(|(at, _)| *at > version).map(|(_, rect)| *rect);
        (version + 1 >= oldest).then(|| newer.collect())
    }
}

/// What a picture shows: nothing that is known, or these quads.
#[derive(Debug, Clone, Default)]
pub struct Shown(Option<(Size, Vec<One>)>);

/// A quad as it was drawn.
#[derive(Debug, Clone)]
struct One {
    /// Of the image, and its version.
    number: u64,
    version: u64,
    to: [f32; 4],
    corners: [[f32; 2]; 4],
    opaque: bool,
    filtered: bool,
}

impl One {
    fn of(quad: &Quad, image: &Image) -> Self {
        let Quad { to, corners, opaque, filtered, .. } = *quad;
        Self { number: image.number, version: image.content().log.version, to, corners, opaque, filtered }
    }

    /// Whether a quad differs by no more than changes of its image.
    fn is(&self, quad: &Quad, image: &Image) -> bool {
        self.number == image.number
            && (self.to, self.corners) == (quad.to, quad.corners)
            && (self.opaque, self.filtered) == (quad.opaque, quad.filtered)
    }
}

impl Shown {
    /// These.
    pub fn of(size: Size, quads: &[Quad]) -> Self {
        let drawn = quads.iter().filter_map(|quad| Some(One::of(quad, image(quad)?)));
        Self(Some((size, drawn.collect())))
    }

    /// The parts of a picture of this size that are to be drawn for it to show quads.
    pub fn stale(&self, size: Size, quads: &[Quad]) -> Vec<Rect> {
        let whole = Rect::of_size(size);
        let Some((_, before)) = self.0.as_ref().filter(|(known, _)| *known == size) else {
            return vec![whole];
        };
        let mut stale: Vec<Rect> = Vec::new();
        let mut add = |rect: Rect| stale.extend(rect.intersection(whole));
        let now: Vec<(&Quad, &Image)> = quads.iter().filter_map(|quad| Some((quad, image(quad)?))).collect();
        for at in 0..before.len().max(now.len()) {
            match (before.get(at), now.get(at)) {
                (Some(one), Some((quad, image))) if one.is(quad, image) => {
                    let content = image.content();
                    if content.log.version == one.version {
                        continue;
                    }
                    match content.log.since(one.version) {
                        Some(newer) => {
                            newer.into_iter().for_each(|rect| add(raster::place(quad, content.size, rect)))
                        }
                        None => add(raster::bounds(quad.to)),
                    }
                }
                (one, other) => {
                    one.into_iter().for_each(|one| add(raster::bounds(one.to)));
                    other.into_iter().for_each(|(quad, _)| add(raster::bounds(quad.to)));
                }
            }
        }
        tidy(stale, whole)
    }
}

/// Fewer rectangles, where it takes no more to draw these.
fn tidy(mut rects: Vec<Rect>, whole: Rect) -> Vec<Rect> {
    let mut tidied: Vec<Rect> = Vec::new();
    if rects.len() > RECTS {
        let all = rects.iter().copied().reduce(Rect::union);
        rects = all.into_iter().collect();
    }
    for rect in rects {
        if tidied.iter().any(|known| known.contains(rect)) {
            continue;
        }
        tidied.retain(|known| !rect.contains(*known));
        tidied.push(rect);
    }
    let pixels: usize = tidied.iter().map(|rect| area(rect.size())).sum();
    if pixels >= area(whole.size()) { vec![whole] } else { tidied }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_known_until_there_are_too_many() {
        let mut log = Log::default();
        assert_eq!(log.since(0), Some(vec![]));
        let rect = |n: u32| Rect::new(n.cast_signed(), 0, 1, 1);
        (1..=3).for_each(|n| log.add(rect(n)));
        assert_eq!(log.since(0), Some(vec![rect(1), rect(2), rect(3)]));
        assert_eq!(log.since(2), Some(vec![rect(3)]));
        assert_eq!(log.since(3), Some(vec![]));
        (4..=40).for_each(|n| log.add(rect(n)));
        assert_eq!((log.since(7), log.since(8).map(|newer| newer.len())), (None, Some(32)));
    }

    #[test]
    fn rectangles_within_others_and_more_than_the_whole_are_drawn_once() {
        let whole = Rect::new(0, 0, 10, 10);
        let (small, large, other) = (Rect::new(1, 1, 2, 2), Rect::new(0, 0, 5, 5), Rect::new(8, 8, 1, 1));
        assert_eq!(tidy(vec![small, other, large, small], whole), [other, large]);
        let halves = vec![Rect::new(0, 0, 10, 6), Rect::new(0, 4, 10, 6)];
        assert_eq!(tidy(halves, whole), [whole]);
        let many = (0..40).map(|n| Rect::new(n % 4, n / 8, 1, 1)).collect();
        assert_eq!(tidy(many, whole), [Rect::new(0, 0, 4, 5)]);
        assert!(tidy(vec![], whole).is_empty());
    }
}
