//! The list of the launcher: what is found, what is marked, and how it looks.

use crate::apps::picture;
use egui::text::{LayoutJob, TextWrapping};
use egui::{Align2, Color32, ColorImage, FontId, Pos2, Rect, Sense, TextureHandle, TextureOptions, Ui, Vec2};

const BACKGROUND: Color32 = Color32::from_rgb(30, 32, 37);
const FIELD: Color32 = Color32::from_rgb(46, 49, 56);
const MARKED: Color32 = Color32::from_rgb(58, 84, 128);
const TEXT: Color32 = Color32::from_rgb(236, 238, 240);
const FAINT: Color32 = Color32::from_rgb(160, 164, 170);
/// Logical pixels: around all, of the field, of an entry, of an icon.
const MARGIN: f32 = 12.0;
const FIELD_HEIGHT: f32 = 38.0;
const ROW: f32 = 46.0;
const ICON: f32 = 32.0;
/// Pixels of an icon that is sharp enough at any scale.
const SHARP: u32 = 64;
/// Characters that can be searched for.
const MOST: usize = 100;

/// An app.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// As the user sees it.
    pub name: String,
    /// What it is; may be empty.
    pub comment: String,
    /// Its machine.
    pub machine: String,
    /// What it is found by beside these.
    pub keywords: Vec<String>,
    /// Whether it was opened lately: those are first, in the order in which they are given.
    pub recent: bool,
    /// Whether a window of it is open.
    pub open: bool,
    /// Its pictures, PNG files of the guest's, smallest first: one is decoded, within limits, when it is first seen.
    pub icons: Vec<Vec<u8>>,
}

/// The entries, and the user's part.
pub struct List {
    entries: Vec<Entry>,
    /// Of each entry, once it was seen; one without a usable picture has none.
    icons: Vec<Option<Option<TextureHandle>>>,
    query: String,
    /// Places of those that fit, best first.
    found: Vec<usize>,
    marked: usize,
    /// Logical pixels that are above what is seen.
    scrolled: f32,
    /// The marked one is to be seen.
    follow: bool,
    loaded: bool,
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("List").field("query", &self.query).field("found", &self.found).finish_non_exhaustive()
    }
}

impl List {
    /// A list of these; an empty query finds all.
    pub fn new(entries: Vec<Entry>) -> Self {
        let found = (0..entries.len()).collect();
        let icons = vec![None; entries.len()];
        let query = String::new();
        Self { entries, icons, query, found, marked: 0, scrolled: 0.0, follow: true, loaded: false }
    }

    /// The place of the marked entry among all.
    pub fn chosen(&self) -> Option<usize> {
        self.found.get(self.marked).copied()
    }

    /// Types.
    pub fn add(&mut self, text: &str) {
        let room = MOST.saturating_sub(self.query.chars().count());
        self.query.extend(text.chars().take(room));
        self.search();
    }

    /// Takes the last character back.
    pub fn erase(&mut self) {
        self.query.pop();
        self.search();
    }

    /// Takes all back.
    pub fn erase_all(&mut self) {
        self.query.clear();
        self.search();
    }

    /// Marks another one, so many further down.
    pub fn move_by(&mut self, by: isize) {
        let last = self.found.len().saturating_sub(1);
        self.marked = self.marked.saturating_add_signed(by).min(last);
        self.follow = true;
    }

    /// Moves what is seen.
    pub fn scroll(&mut self, by: f32) {
        self.scrolled += if by.is_finite() { by } else { 0.0 };
    }

    /// Whether something is to be drawn that was not there in this frame.
    pub fn wants_frame(&mut self) -> bool {
        std::mem::take(&mut self.loaded)
    }

    /// All words are to be in an entry. Names that begin with the first word come first, then names with it, then the rest; and
    /// within that the order stays.
    fn search(&mut self) {
        let query = self.query.to_lowercase();
        let words: Vec<&str> = query.split_whitespace().collect();
        let rank = |entry: &Entry| {
            let name = entry.name.to_lowercase();
            let mut all =
                format!("{name}\n{}\n{}", entry.comment.to_lowercase(), entry.machine.to_lowercase());
            for word in &entry.keywords {
                all.push('\n');
                all.push_str(&word.to_lowercase());
            }
            let Some(first) = words.first() else { return Some(0) };
            if !words.iter().all(|word| all.contains(word)) {
                return None;
            }
            let begins = |word: &str| name.split_whitespace().any(|part| part.starts_with(word));
            Some(match () {
                () if name.starts_with(first) => 0,
                () if begins(first) => 1,
                () if name.contains(first) => 2,
                () => 3,
            })
        };
        let mut found: Vec<(u8, usize)> =
            self.entries.iter().enumerate().filter_map(|(at, entry)| Some((rank(entry)?, at))).collect();
        found.sort_by_key(|(rank, _)| *rank);
        self.found = found.into_iter().map(|(_, at)| at).collect();
        self.marked = 0;
        self.follow = true;
    }

    /// Draws it; the entry that was clicked.
    pub fn show(&mut self, ui: &mut Ui) -> Option<usize> {
        let whole = ui.max_rect();
        ui.painter().rect_filled(whole, 0.0, BACKGROUND);
        let inner = whole.shrink(MARGIN);
        let field = Rect::from_min_size(inner.min, Vec2::new(inner.width(), FIELD_HEIGHT));
        self.field(ui, field);
        let rows = Rect::from_min_max(Pos2::new(inner.left(), field.bottom() + MARGIN), inner.max);
        if self.found.is_empty() {
            let text = if self.entries.is_empty() {
                "No apps of a machine are known yet."
            } else {
                "Nothing like that."
            };
            ui.painter().text(rows.center(), Align2::CENTER_CENTER, text, FontId::proportional(14.0), FAINT);
            return None;
        }
        self.keep_in_view(rows.height());
        let clip = ui.painter().with_clip_rect(rows);
        let mut clicked = None;
        let mut hovered = None;
        for (index, at) in self.found.clone().into_iter().enumerate() {
            let top = rows.top() + ROW * index as f32 - self.scrolled;
            let row = Rect::from_min_size(Pos2::new(rows.left(), top), Vec2::new(rows.width(), ROW));
            let Some(seen) = Some(row.intersect(rows)).filter(|seen| seen.is_positive()) else { continue };
            let response = ui.interact(seen, ui.scope_id().with(at), Sense::click());
            if response.clicked() {
                clicked = Some(at);
            }
            if response.hovered() && ui.input(|input| input.pointer.delta() != Vec2::ZERO) {
                hovered = Some(index);
            }
            self.row(ui, &clip, row, at, index == self.marked);
        }
        if let Some(hovered) = hovered.filter(|hovered| *hovered != self.marked) {
            self.marked = hovered;
            self.loaded = true;
        }
        clicked
    }

    fn field(&self, ui: &Ui, field: Rect) {
        let painter = ui.painter().with_clip_rect(field);
        painter.rect_filled(field, 6.0, FIELD);
        let at = Pos2::new(field.left() + MARGIN, field.center().y);
        let font = FontId::proportional(16.0);
        let end = if self.query.is_empty() {
            painter.text(at + Vec2::new(4.0, 0.0), Align2::LEFT_CENTER, "Type to search", font, FAINT);
            at.x
        } else {
            painter.text(at, Align2::LEFT_CENTER, &self.query, font, TEXT).right()
        };
        let cursor = [Pos2::new(end + 1.0, field.top() + 9.0), Pos2::new(end + 1.0, field.bottom() - 9.0)];
        painter.line_segment(cursor, (1.5, TEXT));
    }

    fn keep_in_view(&mut self, height: f32) {
        if std::mem::take(&mut self.follow) {
            let top = ROW * self.marked as f32;
            self.scrolled = self.scrolled.min(top).max(top + ROW - height);
        }
        let most = (ROW * self.found.len() as f32 - height).max(0.0);
        self.scrolled = self.scrolled.clamp(0.0, most);
    }

    fn row(&mut self, ui: &Ui, painter: &egui::Painter, row: Rect, at: usize, marked: bool) {
        let Some(entry) = self.entries.get(at) else { return };
        if marked {
            painter.rect_filled(row, 6.0, MARKED);
        }
        if let Some(slot) = self.icons.get_mut(at) {
            let texture = slot.get_or_insert_with(|| {
                self.loaded = true;
                let icon = entry
                    .icons
                    .iter()
                    .filter_map(|png| picture(png))
                    .reduce(|best, next| if best.width() >= SHARP { best } else { next })?;
                let size = [icon.width() as usize, icon.height() as usize];
                let pixels = ColorImage::from_rgba_unmultiplied(size, icon.as_raw());
                Some(ui.ctx().load_texture(format!("icon {at}"), pixels, TextureOptions::LINEAR))
            });
            if let Some(texture) = texture {
                let left = Pos2::new(row.left() + 8.0, row.center().y - ICON / 2.0);
                let place = Rect::from_min_size(left, Vec2::splat(ICON));
                let all = Rect::from_min_max(Pos2::ZERO, Pos2::new(1.0, 1.0));
                painter.image(texture.id(), place, all, Color32::WHITE);
            }
        }
        let left = row.left() + 8.0 + ICON + 10.0;
        let mut marks = Vec::new();
        marks.extend(entry.open.then_some("open"));
        marks.extend(entry.recent.then_some("recent"));
        marks.push(entry.machine.as_str());
        let place = Pos2::new(row.right() - 8.0, row.center().y);
        let small = FontId::proportional(12.0);
        let side = painter.text(place, Align2::RIGHT_CENTER, marks.join(" · "), small.clone(), FAINT);
        let width = (side.left() - left - 8.0).max(0.0);
        let line = |text: &str, font: FontId, colour: Color32, top: f32| {
            let mut job = LayoutJob::simple_singleline(text.to_owned(), font, colour);
            job.wrap = TextWrapping::truncate_at_width(width);
            painter.galley(Pos2::new(left, top), painter.layout_job(job), colour);
        };
        if entry.comment.is_empty() {
            line(&entry.name, FontId::proportional(15.0), TEXT, row.center().y - 9.0);
        } else {
            line(&entry.name, FontId::proportional(15.0), TEXT, row.top() + 5.0);
            line(&entry.comment, small, FAINT, row.top() + 25.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let entry = |name: &str, comment: &str, machine: &str, keywords: &[&str]| Entry {
            name: name.into(),
            comment: comment.into(),
            machine: machine.into(),
            keywords: keywords.iter().map(|word| (*word).into()).collect(),
            ..Entry::default()
        };
        List::new(vec![
            entry("XTerm", "standard terminal emulator", "work", &["shell"]),
            entry("Écran", "", "work", &[]),
            entry("Foot", "A terminal", "play", &["shell", "prompt"]),
            entry("Text Editor", "Edit text", "play", &[]),
        ])
    }

    fn found(query: &str) -> Vec<usize> {
        let mut list = list();
        list.add(query);
        list.found
    }

    #[test]
    fn names_come_before_what_is_said_of_them() {
        assert_eq!(found(""), [0, 1, 2, 3]);
        assert_eq!(found("te"), [3, 0, 2], "begins with it, has it, says it");
        assert_eq!(found("TERM"), [0, 2]);
        assert_eq!(found("editor"), [3], "a later word of a name");
        assert_eq!(found("écr"), [1]);
        assert_eq!(found("shell play"), [2], "all words");
        assert_eq!(found("nothing"), [] as [usize; 0]);
    }

    #[test]
    fn marks_stay_within_what_was_found() {
        let mut list = list();
        assert_eq!(list.chosen(), Some(0));
        list.move_by(2);
        assert_eq!(list.chosen(), Some(2));
        list.move_by(9);
        assert_eq!(list.chosen(), Some(3));
        list.move_by(-9);
        assert_eq!(list.chosen(), Some(0));
        list.add("zzz");
        list.move_by(1);
        assert_eq!(list.chosen(), None);
        list.erase();
        list.erase_all();
        assert_eq!(list.found.len(), 4);
        list.add(&"x".repeat(1000));
        assert_eq!(list.query.len(), MOST);
    }
}
