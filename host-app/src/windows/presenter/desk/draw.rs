//! What the one window shows: a background, the windows with their titles, and the panel.

use std::collections::BTreeMap;

use egui::text::{LayoutJob, TextWrapping};
use egui::{Align2, Color32, FontId, Pos2, Stroke, StrokeKind, Vec2};
use inlay_protocol::display::{Icon, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::scale::Scale;

use super::stack::{self, Button, Stack, Toplevel};
use crate::windows::paint::{Page, Painter};
use crate::windows::render::{Canvas, Quad, Renderer, Texture};

const BACKGROUND: [u8; 3] = [38, 42, 48];
const PANEL: Color32 = Color32::from_rgb(24, 26, 30);
const ACTIVE: Color32 = Color32::from_rgb(70, 78, 90);
const INACTIVE: Color32 = Color32::from_rgb(46, 49, 55);
const TEXT: Color32 = Color32::from_rgb(236, 238, 240);
const FAINT: Color32 = Color32::from_rgb(160, 164, 170);
const FONT: f32 = 13.0;
/// Logical pixels on either side of a text.
const PAD: f32 = 8.0;
/// Side of an icon in the panel, in logical pixels.
const ICON: u32 = 18;
/// What the panel's last button says.
const APART: &str = "Separate windows";
/// egui remembers nothing of these pages.
const PAGE: u32 = 0;

/// Something of the host's own that is drawn when it changes.
#[derive(Debug)]
struct Strip {
    shows: Shows,
    /// Nothing when there is no room for it.
    texture: Option<Texture>,
}

/// All that a strip depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shows {
    size: Size,
    scale: Scale,
    entries: Vec<Entry>,
}

/// One text of a strip.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    text: String,
    /// Left edge and width, in logical pixels of the strip.
    at: (i32, u32),
    active: bool,
    /// Its window is off the screen.
    faint: bool,
    icon: bool,
}

/// What is kept from one frame to the next.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    painter: Painter,
    background: Option<Texture>,
    titles: BTreeMap<SurfaceId, Strip>,
    panel: Option<Strip>,
    icons: BTreeMap<SurfaceId, Picture>,
}

/// An icon, before and after it is on the device.
#[derive(Debug)]
enum Picture {
    Given(Icon),
    Drawn(Texture),
    /// The device has no room for it.
    Refused,
}

impl Drawing {
    /// A window is gone.
    pub fn forget(&mut self, window: SurfaceId) {
        self.titles.remove(&window);
        self.icons.remove(&window);
    }

    /// A window has these icons: the smallest one is taken that has pixels enough, else the largest.
    pub fn set_icon(&mut self, window: SurfaceId, icons: &[Icon]) {
        let side = |icon: &&Icon| icon.size.width.max(icon.size.height);
        let enough = icons.iter().filter(|icon| side(icon) >= 2 * ICON).min_by_key(side);
        match enough.or_else(|| icons.iter().max_by_key(side)) {
            Some(icon) => drop(self.icons.insert(window, Picture::Given(icon.clone()))),
            None => drop(self.icons.remove(&window)),
        }
    }

    /// All that is to be drawn, in pixels of the room, from the lowest to the highest.
    pub fn quads(
        &mut self,
        stack: &Stack,
        canvases: &BTreeMap<SurfaceId, Canvas>,
        active: Option<SurfaceId>,
        scale: Scale,
        renderer: &mut Renderer,
    ) -> Vec<Quad> {
        let mut quads = Vec::new();
        if self.background.is_none() {
            self.background = renderer.solid(BACKGROUND);
        }
        let room = edges(Rect::of_size(stack.room), scale);
        quads.extend(self.background.clone().map(|texture| Quad::solid(texture, room)));
        for toplevel in stack.shown() {
            if let Some(title) = toplevel.title() {
                let texture =
                    self.title(toplevel, active == Some(toplevel.id), title.size(), scale, renderer);
                quads.extend(texture.map(|texture| part(texture, title, scale)));
            }
            let popups =
                stack.popups_of(toplevel.id).filter_map(|popup| Some((popup.id, stack.area(popup.id)?)));
            for (id, area) in std::iter::once((toplevel.id, toplevel.area)).chain(popups) {
                let texture = canvases.get(&id).and_then(Canvas::texture);
                quads.extend(texture.map(|texture| part(texture, area, scale)));
            }
        }
        if let Some(panel) = stack.panel() {
            let texture = self.panel(stack, active, panel, scale, renderer);
            quads.extend(texture.map(|texture| part(texture, panel, scale)));
            for (id, entry) in stack.entries() {
                let texture = self.icon(id, renderer);
                let at = icon_place(entry);
                quads.extend(texture.map(|texture| part(texture, at, scale)));
            }
        }
        quads
    }

    fn title(
        &mut self,
        toplevel: &Toplevel,
        active: bool,
        size: Size,
        scale: Scale,
        renderer: &mut Renderer,
    ) -> Option<Texture> {
        let buttons = stack::buttons(Rect::of_size(size));
        let room = buttons.iter().map(|(_, rect)| rect.x).min().unwrap_or(size.width.cast_signed());
        let width = room.max(0).cast_unsigned();
        let text = toplevel.look.title.clone();
        let entry = Entry { text, at: (0, width), active, faint: !active, icon: false };
        let shows = Shows { size, scale, entries: vec![entry] };
        if let Some(strip) = self.titles.get(&toplevel.id).filter(|strip| strip.shows == shows) {
            return strip.texture.clone();
        }
        let texture = paint(&mut self.painter, &shows, renderer, |ui| {
            let background = if active { ACTIVE } else { INACTIVE };
            ui.rect_filled(ui.clip_rect(), 0.0, background);
            shows.entries.iter().for_each(|entry| text_of(ui, entry, size.height, Color32::TRANSPARENT));
            for (button, rect) in &buttons {
                sign(ui, *button, rect_of(*rect), if active { TEXT } else { FAINT });
            }
        });
        self.titles.insert(toplevel.id, Strip { shows, texture: texture.clone() });
        texture
    }

    fn panel(
        &mut self,
        stack: &Stack,
        active: Option<SurfaceId>,
        panel: Rect,
        scale: Scale,
        renderer: &mut Renderer,
    ) -> Option<Texture> {
        let mut entries: Vec<Entry> = Vec::new();
        for (id, rect) in stack.entries() {
            let Some(toplevel) = stack.get(id) else { continue };
            entries.push(Entry {
                text: toplevel.look.title.clone(),
                at: (rect.x, rect.width),
                active: active == Some(id),
                faint: toplevel.minimized,
                icon: self.icons.contains_key(&id),
            });
        }
        let apart = stack.apart().map(|rect| (rect.x, rect.width)).unwrap_or_default();
        entries.push(Entry { text: APART.to_owned(), at: apart, active: false, faint: true, icon: false });
        let shows = Shows { size: panel.size(), scale, entries };
        if let Some(strip) = self.panel.as_ref().filter(|strip| strip.shows == shows) {
            return strip.texture.clone();
        }
        let texture = paint(&mut self.painter, &shows, renderer, |ui| {
            ui.rect_filled(ui.clip_rect(), 0.0, PANEL);
            for entry in &shows.entries {
                let colour = if entry.active { ACTIVE } else { INACTIVE };
                text_of(ui, entry, panel.height, colour);
            }
        });
        self.panel = Some(Strip { shows, texture: texture.clone() });
        texture
    }

    fn icon(&mut self, window: SurfaceId, renderer: &mut Renderer) -> Option<Texture> {
        let picture = self.icons.get_mut(&window)?;
        if let Picture::Given(icon) = picture {
            *picture = texture_of(icon.size, &icon.pixels, renderer).map_or(Picture::Refused, Picture::Drawn);
        }
        match picture {
            Picture::Drawn(texture) => Some(texture.clone()),
            Picture::Given(_) | Picture::Refused => None,
        }
    }
}

/// A picture (rows of blue, green, red, alpha) as a texture.
fn texture_of(size: Size, bytes: &[u8], renderer: &mut Renderer) -> Option<Texture> {
    let texture = renderer.texture(size)?;
    let row = 4 * size.width as usize;
    let filled = renderer.upload(&texture, Rect::of_size(size), |to, pitch, room| {
        let rows = bytes.chunks_exact(row.max(1));
        if row == 0 || rows.len() < size.height as usize {
            return false;
        }
        for (index, pixels) in rows.take(size.height as usize).enumerate() {
            if index * pitch + row > room {
                return false;
            }
            // SAFETY: the row ends within `room`, which the ring handed out for writing.
            unsafe { to.add(index * pitch).copy_from_nonoverlapping(pixels.as_ptr(), row) };
        }
        true
    });
    filled.then_some(texture)
}

/// Draws a strip.
fn paint(
    painter: &mut Painter,
    shows: &Shows,
    renderer: &mut Renderer,
    draw: impl Fn(&egui::Painter),
) -> Option<Texture> {
    let scale = shows.scale.0 as f32 / 120.0;
    let pixels = shows.scale.size(shows.size);
    let page = Page { id: PAGE, size: shows.size, scale };
    let laid = painter.lay_out(page, Vec::new(), |ui| draw(ui.painter()));
    texture_of(pixels, &painter.paint(laid, pixels, scale), renderer)
}

/// The text of an entry, on its background, cut off where its room ends.
fn text_of(painter: &egui::Painter, entry: &Entry, height: u32, background: Color32) {
    let (left, width, height) = (entry.at.0 as f32, entry.at.1 as f32, height as f32);
    let room = egui::Rect::from_min_size(Pos2::new(left, 0.0), Vec2::new(width, height));
    painter.rect_filled(room.shrink(2.0), 3.0, background);
    let begin = if entry.icon { PAD + ICON as f32 + PAD } else { PAD };
    let colour = if entry.faint { FAINT } else { TEXT };
    let mut job = LayoutJob::simple_singleline(entry.text.clone(), FontId::proportional(FONT), colour);
    job.wrap = TextWrapping::truncate_at_width((width - begin - PAD).max(0.0));
    let galley = painter.layout_job(job);
    let top = (height - galley.size().y) / 2.0;
    painter.galley(Pos2::new(left + begin, top), galley, colour);
}

/// What a button of a title looks like.
fn sign(painter: &egui::Painter, button: Button, rect: egui::Rect, colour: Color32) {
    let stroke = Stroke::new(1.4, colour);
    let sign = Align2::CENTER_CENTER.anchor_size(rect.center(), Vec2::splat(10.0));
    match button {
        Button::Minimize => {
            painter.line_segment([sign.left_bottom(), sign.right_bottom()], stroke);
        }
        Button::Maximize => {
            painter.rect_stroke(sign, 0.0, stroke, StrokeKind::Inside);
        }
        Button::Close => {
            painter.line_segment([sign.left_top(), sign.right_bottom()], stroke);
            painter.line_segment([sign.left_bottom(), sign.right_top()], stroke);
        }
    }
}

fn rect_of(rect: Rect) -> egui::Rect {
    let size = Vec2::new(rect.width as f32, rect.height as f32);
    egui::Rect::from_min_size(Pos2::new(rect.x as f32, rect.y as f32), size)
}

fn icon_place(entry: Rect) -> Rect {
    let pad = (entry.height.saturating_sub(ICON) / 2).cast_signed();
    Rect { x: entry.x + pad, y: entry.y + pad, width: ICON, height: ICON }
}

/// A rectangle in pixels: left, top, right, bottom.
fn edges(rect: Rect, scale: Scale) -> [f32; 4] {
    let at = |place: i32| scale.place(place) as f32;
    let (x, y) = (at(rect.x), at(rect.y));
    [x, y, x + scale.length(rect.width) as f32, y + scale.length(rect.height) as f32]
}

/// A texture in its place, pixel for pixel where it fits.
fn part(texture: Texture, at: Rect, scale: Scale) -> Quad {
    let exact = texture.size() == scale.size(at.size());
    Quad { opaque: false, filtered: !exact, ..Quad::solid(texture, edges(at, scale)) }
}
