//! Both renderers draw the same, and the processor draws no more than what changed.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of tests")]

use super::*;

/// The processor, and a graphics device (a software one where there is no other).
fn both() -> [Renderer; 2] {
    let device = gpu::Device::open(None, Some(wgpu::Backends::VULKAN)).unwrap();
    [Renderer::with(None), Renderer::with(Some(device))]
}

fn fill(renderer: &mut Renderer, texture: &Texture, rect: Rect, bytes: &[u8]) {
    let row = 4 * rect.width as usize;
    let ok = renderer.upload(texture, rect, |to, pitch, room| {
        assert!(room >= pitch * (rect.height as usize - 1) + row);
        for (y, line) in bytes.chunks(row).enumerate() {
            // SAFETY: the slot has `room` bytes, checked above.
            unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), to.add(y * pitch), row) };
        }
        true
    });
    assert!(ok);
}

fn filled(renderer: &mut Renderer, size: Size, bytes: &[u8]) -> Texture {
    let texture = renderer.texture(size).unwrap();
    fill(renderer, &texture, Rect::of_size(size), bytes);
    texture
}

const UPRIGHT: [[f32; 2]; 4] = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];

/// Numbers without order, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap() % end
    }

    /// Pixels whose colours are not above their alpha.
    fn pixels(&mut self, count: u32) -> Vec<u8> {
        let mut pixel = || {
            let alpha = [0, 255, self.below(256)][self.below(3) as usize];
            [0, 1, 2].map(|_| self.below(alpha + 1)).into_iter().chain([alpha]).collect::<Vec<u32>>()
        };
        (0..count).flat_map(|_| pixel()).map(|v| u8::try_from(v).unwrap()).collect()
    }
}

#[test]
fn bytes_come_out_as_they_went_in() {
    for mut renderer in both() {
        let size = Size::new(333, 217);
        let bytes = Numbers(1).pixels(333 * 217);
        let texture = filled(&mut renderer, size, &bytes);
        let quad = |opaque| Quad {
            texture: texture.clone(),
            to: [0.0, 0.0, 333.0, 217.0],
            corners: UPRIGHT,
            opaque,
            filtered: false,
        };
        assert!(renderer.picture(size, &[quad(false)]).unwrap() == bytes, "argb differs");
        let picture = renderer.picture(size, &[quad(true)]).unwrap();
        let same = |(a, b): (&[u8], &[u8])| a[..3] == b[..3] && a[3] == 255;
        assert!(picture.chunks(4).zip(bytes.chunks(4)).all(same), "xrgb differs");
    }
}

#[test]
fn a_quad_over_another_blends_premultiplied() {
    for mut renderer in both() {
        let one = Size::new(1, 1);
        let below = filled(&mut renderer, one, &[200, 100, 50, 255]);
        // The last colour is above its alpha, as only a guest that plays tricks has it.
        let above = filled(&mut renderer, one, &[10, 20, 240, 128]);
        let quad = |texture| Quad {
            texture,
            to: [0.0, 0.0, 1.0, 1.0],
            corners: UPRIGHT,
            opaque: false,
            filtered: false,
        };
        let got = renderer.picture(one, &[quad(below), quad(above)]).unwrap();
        let want = [10.0 + 200.0 * 127.0 / 255.0, 20.0 + 100.0 * 127.0 / 255.0, 255.0, 255.0];
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 1.0, "{got} is not {want}");
        }
    }
}

#[test]
fn outside_of_an_outline_nothing_is_drawn() {
    for mut renderer in both() {
        let size = Size::new(16, 8);
        let bytes: Vec<u8> = (0..16 * 8_u8).flat_map(|i| [i, 2 * i, 255 - i, 255]).collect();
        let texture = filled(&mut renderer, size, &bytes);
        let quad =
            Quad { texture, to: [0.0, 0.0, 16.0, 8.0], corners: UPRIGHT, opaque: true, filtered: false };
        let outline = [[2.0, 1.0, 7.0, 3.0], [9.0, 3.0, 99.0, 99.0], [-5.0, -5.0, 0.0, 9.0]];
        let picture = renderer.picture(size, &cut_out(&[quad], &outline)).unwrap();
        for (i, (got, whole)) in picture.chunks(4).zip(bytes.chunks(4)).enumerate() {
            let (x, y) = (i % 16, i / 16);
            let inside = (2..7).contains(&x) && (1..3).contains(&y) || x >= 9 && y >= 3;
            assert_eq!(got, if inside { whole } else { &[0; 4] }, "{x}, {y}");
        }
    }
}

#[test]
fn sizes_beyond_the_device_are_refused() {
    for renderer in both() {
        assert!(renderer.texture(Size::new(0, 5)).is_none());
        assert!(renderer.texture(Size::new(1 << 20, 1)).is_none());
        let big = Size::new(8192, 8192);
        let kept: Vec<_> = (0..20).filter_map(|_| renderer.texture(big)).collect();
        assert!(!kept.is_empty() && kept.len() as u64 <= TEXTURE_BUDGET / (8192 * 8192 * 4));
    }
}

/// Quads as windows have them: turned, cut, filtered, transparent, partly outside.
fn quads(numbers: &mut Numbers, textures: &[Texture]) -> Vec<Quad> {
    let turned = [
        [0, 1, 2, 3],
        [3, 0, 1, 2],
        [2, 3, 0, 1],
        [1, 2, 3, 0],
        [1, 0, 3, 2],
        [0, 3, 2, 1],
        [3, 2, 1, 0],
        [2, 1, 0, 3],
    ];
    let mut edge = |end: u32| numbers.below(end) as f32 - 8.0;
    let count = 1 + edge(5) as i32 + 8;
    let mut all = Vec::new();
    for _ in 0..count {
        let texture = textures[(edge(100) + 8.0) as usize % textures.len()].clone();
        let (left, top) = (edge(60), edge(60));
        let (width, height) = match edge(3) as i32 + 8 {
            0 => (texture.size.width as f32, texture.size.height as f32),
            _ => (edge(40) + 9.0, edge(40) + 9.0),
        };
        let exact = (width, height) == (texture.size.width as f32, texture.size.height as f32);
        let order = if exact { turned[0] } else { turned[(edge(8) + 8.0) as usize] };
        let part = if exact { 1.0 } else { (edge(4) + 9.0) / 4.0 };
        all.push(Quad {
            texture,
            to: [left, top, left + width, top + height],
            corners: order.map(|at| UPRIGHT[at].map(|v| v * part)),
            opaque: edge(2) < -7.0,
            filtered: !exact,
        });
    }
    all
}

#[test]
fn the_processor_draws_what_a_graphics_device_draws() {
    let size = Size::new(64, 56);
    let mut numbers = Numbers(7);
    let mut both = both();
    let contents: Vec<(Size, Vec<u8>)> = [(1, 1), (7, 9), (32, 20), (64, 56)]
        .map(|(width, height)| (Size::new(width, height), numbers.pixels(width * height)))
        .into();
    let textures =
        both.each_mut().map(|renderer| contents.iter().map(|(size, b)| filled(renderer, *size, b)).collect());
    let [ours, theirs]: [Vec<Texture>; 2] = textures;
    for round in 0..200 {
        let seed = numbers.0;
        let drawn = [(0, &ours), (1, &theirs)].map(|(at, textures)| {
            numbers.0 = seed;
            let quads = quads(&mut numbers, textures);
            (both[at].picture(size, &quads).unwrap(), quads)
        });
        let [(ours, quads), (theirs, _)] = drawn;
        // Each layer may round otherwise, and each filter.
        let far = ours.iter().zip(&theirs).filter(|(a, b)| a.abs_diff(**b) > 6).count();
        let shapes: Vec<_> = quads.iter().map(|q| (q.to, q.corners, q.opaque, q.filtered)).collect();
        assert!(far == 0, "round {round}: {far} bytes differ; {shapes:?}");
    }
}

/// A display that notes what it is given, and has some sheets.
#[derive(Debug, Default)]
struct Screen(Arc<Mutex<Shows>>);

#[derive(Debug, Default)]
struct Shows {
    sheets: Vec<(Vec<u32>, cpu::Shown)>,
    size: Size,
    /// What is on it.
    seen: Vec<u32>,
    damaged: usize,
    filled: Option<cpu::Filled>,
    kept: usize,
    forgot: bool,
    busy: bool,
}

/// The sheet that is lent.
#[derive(Debug, Default)]
struct Lent {
    pixels: Vec<u32>,
    shown: cpu::Shown,
}

#[derive(Debug, Default)]
struct Window(Screen, Lent);

impl cpu::Display for Window {
    fn sheet(&mut self, size: Size) -> anyhow::Result<Option<cpu::Sheet<'_>>> {
        let mut shows = self.0.0.lock().unwrap();
        if shows.busy {
            return Ok(None);
        }
        let pixels = (size.width * size.height) as usize;
        if shows.size != size {
            *shows = Shows { size, seen: vec![0; pixels], ..Shows::default() };
        }
        let mut sheet = (vec![0xdead_beef; pixels], cpu::Shown::default());
        if shows.sheets.len() > 1 {
            sheet = shows.sheets.remove(0);
        }
        self.1 = Lent { pixels: sheet.0, shown: sheet.1 };
        Ok(Some(cpu::Sheet { pixels: &mut self.1.pixels, shown: &mut self.1.shown }))
    }

    fn show(&mut self, damage: &[Rect], filled: cpu::Filled) -> anyhow::Result<()> {
        let mut shows = self.0.0.lock().unwrap();
        let width = shows.size.width as usize;
        shows.damaged = 0;
        for rect in damage {
            for y in rect.y as usize..rect.bottom() as usize {
                let row = y * width + rect.x as usize..y * width + rect.right() as usize;
                shows.damaged += row.len();
                shows.seen[row.clone()].copy_from_slice(&self.1.pixels[row]);
            }
        }
        shows.filled = Some(filled);
        let lent = std::mem::take(&mut self.1);
        shows.sheets.push((lent.pixels, lent.shown));
        Ok(())
    }

    fn keep(&mut self) {
        self.0.0.lock().unwrap().kept += 1;
    }

    fn forgot(&mut self) -> bool {
        std::mem::take(&mut self.0.0.lock().unwrap().forgot)
    }
}

fn screen() -> (Arc<Mutex<Shows>>, Target) {
    let shows = Arc::<Mutex<Shows>>::default();
    let window = Window(Screen(shows.clone()), Lent::default());
    (shows, Target::by_processor(Box::new(window)))
}

#[test]
fn only_what_changed_is_drawn_and_the_window_is_always_whole() {
    let mut renderer = Renderer::with(None);
    let (shows, mut target) = screen();
    let mut numbers = Numbers(3);
    let contents = [(1, 1), (7, 9), (32, 20), (64, 56)].map(|(width, height)| Size::new(width, height));
    let textures: Vec<Texture> =
        contents.map(|size| filled(&mut renderer, size, &numbers.pixels(size.width * size.height))).into();
    let (mut size, mut shown) = (Size::new(64, 56), Vec::new());
    for round in 0..600 {
        match numbers.below(12) {
            0 => shown = quads(&mut numbers, &textures),
            1 => size = Size::new(40 + numbers.below(30), 40 + numbers.below(30)),
            2 => shows.lock().unwrap().forgot = true,
            3 => {
                let mut other = quads(&mut numbers, &textures);
                shown.extend(other.pop());
                shown.truncate(9);
            }
            4 => drop((!shown.is_empty()).then(|| shown.remove(0))),
            _ => {
                let texture = &textures[numbers.below(4) as usize];
                let Size { width, height } = texture.size();
                let (x, y) = (numbers.below(width), numbers.below(height));
                let rect = Rect {
                    x: x.cast_signed(),
                    y: y.cast_signed(),
                    width: 1 + numbers.below(width - x),
                    height: 1 + numbers.below(height - y),
                };
                let bytes = numbers.pixels(rect.width * rect.height);
                fill(&mut renderer, texture, rect, &bytes);
            }
        }
        assert_eq!(renderer.draw(&mut target, size, &shown), Drawn::Yes);
        let seen: Vec<u8> = shows.lock().unwrap().seen.iter().flat_map(|p| p.to_ne_bytes()).collect();
        let picture = renderer.picture(size, &shown).unwrap();
        let wrong = seen.chunks(4).zip(picture.chunks(4)).position(|(a, b)| a != b);
        let place = wrong.map(|at| (at as u32 % size.width, at as u32 / size.width));
        let shapes = || shown.iter().map(|q| (q.texture.size, q.to, q.corners, q.opaque, q.filtered));
        assert!(wrong.is_none(), "round {round}: {place:?} is wrong; {:?}", shapes().collect::<Vec<_>>());
    }
}

#[test]
fn a_change_of_a_few_pixels_damages_no_more_and_none_shows_nothing() {
    let mut renderer = Renderer::with(None);
    let (shows, mut target) = screen();
    let size = Size::new(100, 80);
    let texture = filled(&mut renderer, size, &[9; 4 * 100 * 80]);
    let quad = |opaque| Quad {
        texture: texture.clone(),
        to: [0.0, 0.0, 100.0, 80.0],
        corners: UPRIGHT,
        opaque,
        filtered: false,
    };
    let told = |what: fn(&Shows) -> u32| what(&shows.lock().unwrap());
    let damaged = || told(|shows| u32::try_from(shows.damaged).unwrap());
    let covers = || shows.lock().unwrap().filled;
    let kept = || told(|shows| u32::try_from(shows.kept).unwrap());
    renderer.draw(&mut target, size, &[quad(true)]);
    assert_eq!((damaged(), covers()), (8000, Some(cpu::Filled::Opaque)));
    fill(&mut renderer, &texture, Rect::new(90, 70, 4, 5), &[1; 80]);
    renderer.draw(&mut target, size, &[quad(true)]);
    assert_eq!((damaged(), kept()), (20, 0));
    renderer.draw(&mut target, size, &[quad(true)]);
    assert_eq!(kept(), 1);
    renderer.draw(&mut target, size, &[quad(false)]);
    assert_eq!((damaged(), covers()), (8000, Some(cpu::Filled::All)));
    renderer.draw(&mut target, size, &[Quad { to: [0.0, 0.0, 99.0, 80.0], ..quad(true) }]);
    assert_eq!(covers(), Some(cpu::Filled::Part));
    renderer.draw(&mut target, size, &[quad(false)]);
    // The display reads all sheets: later, and nothing is lost.
    shows.lock().unwrap().busy = true;
    fill(&mut renderer, &texture, Rect::new(0, 0, 1, 1), &[7; 4]);
    assert_eq!(renderer.draw(&mut target, size, &[quad(false)]), Drawn::Later);
    shows.lock().unwrap().busy = false;
    assert_eq!(renderer.draw(&mut target, size, &[quad(false)]), Drawn::Yes);
    assert_eq!((damaged(), told(|shows| shows.seen[0])), (1, 0x0707_0707));
}

#[test]
fn what_is_drawn_into_a_canvas_comes_to_the_window_that_shows_it() {
    let mut renderer = Renderer::with(None);
    let (shows, mut window) = screen();
    let size = Size::new(60, 40);
    let texture = filled(&mut renderer, size, &[9; 4 * 60 * 40]);
    let inner = Quad {
        texture: texture.clone(),
        to: [0.0, 0.0, 60.0, 40.0],
        corners: UPRIGHT,
        opaque: false,
        filtered: false,
    };
    let canvas = Canvas::default();
    let mut part = Target::Texture(canvas.clone());
    for round in 1..4 {
        fill(&mut renderer, &texture, Rect::new(7, 5, 3, 2), &[round; 24]);
        assert_eq!(renderer.draw(&mut part, size, std::slice::from_ref(&inner)), Drawn::Yes);
        let quad = Quad { to: [10.0, 10.0, 70.0, 50.0], texture: canvas.texture().unwrap(), ..inner.clone() };
        assert_eq!(renderer.draw(&mut window, Size::new(80, 60), &[quad]), Drawn::Yes);
        let shows = shows.lock().unwrap();
        let at = |x: usize, y: usize| shows.seen[y * 80 + x].to_ne_bytes()[0];
        assert_eq!([at(0, 0), at(10, 10), at(17, 15), at(19, 16), at(20, 16)], [0, 9, round, round, 9]);
        assert!(round == 1 || shows.damaged == 6, "{}", shows.damaged);
    }
}

#[test]
fn of_surfaces_without_end_above_each_other_the_uppermost_are_drawn() {
    let mut renderer = Renderer::with(None);
    let size = Size::new(100, 100);
    let texture = filled(&mut renderer, Size::new(2, 1), &[0; 8]);
    let quad = |to, opaque| Quad { texture: texture.clone(), to, corners: UPRIGHT, opaque, filtered: true };
    let (all, large) = ([0.0, 0.0, 100.0, 100.0], [-1e9, -1e9, 1e9, 1e9]);
    let left = |quads: &[Quad]| cpu::affordable(size, quads).len();
    assert_eq!(left(&vec![quad(all, false); 4000]), 8);
    assert_eq!(left(&vec![quad(large, false); 4000]), 8);
    assert_eq!(left(&vec![quad([0.0, 0.0, 10.0, 10.0], false); 700]), 700);
    assert_eq!(left(&vec![quad([200.0, 0.0, 300.0, 10.0], false); 4000]), 4000, "outside of the window");
    // What is covered is not drawn.
    assert_eq!(left(&[quad(all, false), quad(large, true), quad(all, false), quad(all, false)]), 3);
    assert!(left(&[]) == 0);
}
