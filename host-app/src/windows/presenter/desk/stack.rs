//! The windows within one window: where each is, which lies above which, and what is at a place.
//!
//! Places are logical pixels of the room inside of the one window's border. Toplevels that the host is to frame have a title above
//! their content; a panel at the lower edge names them all.

use inlay_protocol::display::{Decoration, Edges, States, SurfaceId, WindowKind};
use inlay_protocol::geometry::{Point, Rect, Size};

use crate::windows::presenter::{Look, PopupLook};

/// Height of a title.
pub const TITLE: u32 = 28;
/// Height of the panel.
pub const PANEL: u32 = 34;
/// Width of a button in a title.
pub const BUTTON: u32 = 30;
/// Width of the panel's last button, which puts the windows apart.
pub const APART: u32 = 130;
/// Largest width of a window's button in the panel.
const ENTRY: u32 = 200;
/// How far outside of a window's edge it can be taken.
const GRIP: f64 = 6.0;
/// How far new windows are from each other.
const STEP: u32 = 32;
/// Chains of parents that are followed.
const DEPTH: usize = 32;

/// What a title's buttons do, from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// Takes the window off the screen; its entry in the panel brings it back.
    Minimize,
    /// All of the room, or its place again.
    Maximize,
    /// Asks its app to close it.
    Close,
}

/// In their order.
pub const BUTTONS: [Button; 3] = [Button::Minimize, Button::Maximize, Button::Close];

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spot {
    /// The content of a window, and where in it.
    Content(SurfaceId, f64, f64),
    /// A title.
    Title(SurfaceId),
    /// A button in a title.
    Button(SurfaceId, Button),
    /// An edge or a corner that can be dragged.
    Edge(SurfaceId, Edges),
    /// A window's entry in the panel.
    Entry(SurfaceId),
    /// What puts all windows apart.
    Apart,
    /// The panel, where nothing is.
    Panel,
    /// Nothing.
    Nothing,
}

/// A toplevel.
#[derive(Debug, Clone)]
pub struct Toplevel {
    /// Its surface.
    pub id: SurfaceId,
    /// How it looks.
    pub look: Look,
    /// Where its content is.
    pub area: Rect,
    /// Its states, without the focus.
    pub states: States,
    /// Where it was before it took all of the room.
    pub before: Option<Rect>,
    /// Whether it is off the screen.
    pub minimized: bool,
    /// Its outline.
    pub shape: Option<Vec<Rect>>,
}

impl Toplevel {
    /// Whether it is as large as it can be.
    pub fn is_whole(&self) -> bool {
        self.states.0 & (States::MAXIMIZED.0 | States::FULLSCREEN.0) != 0
    }

    /// Whether a title is drawn above it.
    pub fn is_framed(&self) -> bool {
        self.look.decoration == Decoration::ServerSide
            && self.look.kind != WindowKind::Splash
            && !self.states.contains(States::FULLSCREEN)
    }

    /// Its title.
    pub fn title(&self) -> Option<Rect> {
        let at = Rect { y: self.area.y.saturating_sub(TITLE.cast_signed()), height: TITLE, ..self.area };
        self.is_framed().then_some(at)
    }

    /// Whether the user may give it another size.
    fn is_sizable(&self) -> bool {
        let Look { min_size: min, max_size: max, .. } = &self.look;
        !self.is_whole() && (*max == Size::default() || max != min)
    }

    /// The size nearest to a wanted one that it takes.
    pub fn fitting(&self, wanted: Size) -> Size {
        let side = |wanted: u32, min: u32, max: u32, base: u32, step: u32| {
            let max = if max == 0 { u32::MAX } else { max };
            let wanted = wanted.clamp(min.max(1).min(max), max.max(1));
            if step > 1 && wanted > base { base + (wanted - base) / step * step } else { wanted }
        };
        let Look { min_size: min, max_size: max, base_size: base, increment: step, .. } = &self.look;
        Size::new(
            side(wanted.width, min.width, max.width, base.width, step.width).max(1),
            side(wanted.height, min.height, max.height, base.height, step.height).max(1),
        )
    }
}

/// A popup.
#[derive(Debug, Clone)]
pub struct Popup {
    /// Its surface.
    pub id: SurfaceId,
    /// Where it is in its parent, and what for.
    pub look: PopupLook,
    /// Its outline.
    pub shape: Option<Vec<Rect>>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Stack {
    /// From the lowest to the highest.
    pub toplevels: Vec<Toplevel>,
    /// In the order in which they were opened.
    pub popups: Vec<Popup>,
    /// The room.
    pub room: Size,
    placed: u32,
}

impl Stack {
    /// A toplevel.
    pub fn get(&self, id: SurfaceId) -> Option<&Toplevel> {
        self.toplevels.iter().find(|toplevel| toplevel.id == id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: SurfaceId) -> Option<&mut Toplevel> {
        self.toplevels.iter_mut().find(|toplevel| toplevel.id == id)
    }

    /// Takes a window away.
    pub fn remove(&mut self, id: SurfaceId) {
        self.toplevels.retain(|toplevel| toplevel.id != id);
        self.popups.retain(|popup| popup.id != id);
    }

    /// Gives a window an outline.
    pub fn set_shape(&mut self, id: SurfaceId, shape: Option<Vec<Rect>>) {
        if let Some(toplevel) = self.get_mut(id) {
            toplevel.shape = shape;
        } else if let Some(popup) = self.popups.iter_mut().find(|popup| popup.id == id) {
            popup.shape = shape;
        }
    }

    /// The room beside the panel.
    pub fn work(&self) -> Rect {
        Rect::new(0, 0, self.room.width, self.room.height.saturating_sub(PANEL).max(1))
    }

    /// The panel; none while a window has the full screen.
    pub fn panel(&self) -> Option<Rect> {
        let whole = self.shown().last().is_some_and(|top| top.states.contains(States::FULLSCREEN));
        let work = self.work();
        (!whole).then(|| Rect::new(0, work.height.cast_signed(), self.room.width, PANEL))
    }

    /// Toplevels that can be seen, from the lowest.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = &Toplevel> {
        self.toplevels.iter().filter(|toplevel| !toplevel.minimized)
    }

    /// The toplevel that a window belongs to.
    pub fn toplevel_of(&self, id: SurfaceId) -> Option<SurfaceId> {
        let mut at = id;
        for _ in 0..DEPTH {
            match self.popups.iter().find(|popup| popup.id == at) {
                Some(popup) => at = popup.look.parent,
                None => return self.get(at).map(|toplevel| toplevel.id),
            }
        }
        None
    }

    /// Where the content of a window is.
    pub fn area(&self, id: SurfaceId) -> Option<Rect> {
        self.area_within(id, 0)
    }

    fn area_within(&self, id: SurfaceId, depth: usize) -> Option<Rect> {
        if let Some(toplevel) = self.get(id) {
            return Some(toplevel.area);
        }
        let popup = self.popups.iter().find(|popup| popup.id == id).filter(|_| depth < DEPTH)?;
        let parent = self.area_within(popup.look.parent, depth + 1)?;
        Some(popup.look.area.translated(Point::new(parent.x, parent.y)))
    }

    /// Popups of a toplevel, from the lowest.
    pub fn popups_of(&self, toplevel: SurfaceId) -> impl DoubleEndedIterator<Item = &Popup> {
        self.popups.iter().filter(move |popup| self.toplevel_of(popup.id) == Some(toplevel))
    }

    /// A place for a new toplevel with a content of this size: where its app wants it, over its parent, or where the last one was and a
    /// step further.
    pub fn place(&mut self, look: &Look, size: Size) -> Rect {
        let title = if look.decoration == Decoration::ServerSide { TITLE.cast_signed() } else { 0 };
        let work = self.work();
        let parent = look.parent.and_then(|parent| self.get(parent)).map(|parent| parent.area);
        let centred = |around: Rect| {
            let middle = |start: i32, whole: u32, side: u32| {
                start.saturating_add((whole.cast_signed() - side.cast_signed()) / 2)
            };
            Point::new(
                middle(around.x, around.width, size.width),
                middle(around.y, around.height, size.height),
            )
        };
        let at = match (look.place, parent) {
            (Some(place), _) => place.at,
            (None, Some(parent)) => centred(parent),
            (None, None) if look.kind != WindowKind::Normal => centred(work),
            (None, None) => {
                let room = |whole: u32, side: u32| (whole.saturating_sub(side) / STEP).max(1);
                let high = size.height.saturating_add(TITLE);
                let step = |places: u32| (self.placed % places).saturating_mul(STEP).saturating_add(STEP / 2);
                let at = Point::new(
                    step(room(work.width, size.width)).cast_signed(),
                    step(room(work.height, high)).cast_signed() + title,
                );
                self.placed = self.placed.wrapping_add(1);
                at
            }
        };
        self.kept(Rect::new(at.x, at.y, size.width, size.height), title)
    }

    /// The size of a new toplevel: the wanted one, where there is room for it and its app takes a smaller one.
    pub fn fitting(&self, look: &Look, size: Size) -> Size {
        let title = if look.decoration == Decoration::ServerSide { TITLE } else { 0 };
        let work = self.work();
        let side = |wanted: u32, room: u32, least: u32| wanted.min(room.max(least).max(1));
        Size::new(
            side(size.width, work.width, look.min_size.width),
            side(size.height, work.height.saturating_sub(title), look.min_size.height),
        )
    }

    /// The nearest place to a wanted one from which a window can be had.
    pub fn kept_for(&self, look: &Look, area: Rect) -> Rect {
        let title = if look.decoration == Decoration::ServerSide { TITLE.cast_signed() } else { 0 };
        self.kept(area, title)
    }

    /// A place from which a window can be had: its title is in the room, and all of it if there is room for it.
    fn kept(&self, area: Rect, title: i32) -> Rect {
        let work = self.work();
        let most = |whole: u32, side: u32| whole.cast_signed().saturating_sub(side.cast_signed());
        let x = area.x.min(most(work.width, area.width)).max(0);
        let y = area.y.min(most(work.height, area.height)).max(title);
        Rect { x, y, ..area }
    }

    /// Where a toplevel is that is maximised or has the full screen.
    pub fn whole(&self, toplevel: &Toplevel) -> Rect {
        if toplevel.states.contains(States::FULLSCREEN) {
            return Rect::of_size(self.room);
        }
        let work = self.work();
        let title = if toplevel.is_framed() { TITLE } else { 0 };
        Rect { y: title.cast_signed(), height: work.height.saturating_sub(title).max(1), ..work }
    }

    /// Follows the room: whoever has all of it keeps it, and the others can still be had. What changed.
    pub fn resize(&mut self, room: Size) -> Vec<SurfaceId> {
        self.room = room;
        let mut changed = Vec::new();
        for at in 0..self.toplevels.len() {
            let Some(toplevel) = self.toplevels.get(at) else { continue };
            let title = if toplevel.is_framed() { TITLE.cast_signed() } else { 0 };
            let area =
                if toplevel.is_whole() { self.whole(toplevel) } else { self.kept(toplevel.area, title) };
            if let Some(toplevel) = self.toplevels.get_mut(at).filter(|toplevel| toplevel.area != area) {
                toplevel.area = area;
                changed.push(toplevel.id);
            }
        }
        changed
    }

    /// Puts a toplevel above all others, with those that it belongs to below it and those that belong to it above.
    pub fn raise(&mut self, id: SurfaceId) {
        let mut root = id;
        for _ in 0..DEPTH {
            match self.get(root).and_then(|toplevel| toplevel.look.parent).filter(|p| self.get(*p).is_some())
            {
                Some(parent) => root = parent,
                None => break,
            }
        }
        let generation = |stack: &Self, id: SurfaceId| {
            let mut at = Some(id);
            for depth in 0..DEPTH {
                if at == Some(root) {
                    return Some(depth);
                }
                at = stack.get(at?)?.look.parent;
            }
            None
        };
        let order: Vec<_> = self.toplevels.iter().map(|t| generation(self, t.id)).collect();
        let mut family: Vec<(usize, bool, Toplevel)> = Vec::new();
        let mut rest = Vec::new();
        for (toplevel, generation) in std::mem::take(&mut self.toplevels).into_iter().zip(order) {
            match generation {
                Some(generation) => family.push((generation, toplevel.id == id, toplevel)),
                None => rest.push(toplevel),
            }
        }
        family.sort_by_key(|(generation, last, _)| (*generation, *last));
        rest.extend(family.into_iter().map(|(_, _, toplevel)| toplevel));
        self.toplevels = rest;
    }

    /// The toplevel that has the keyboard when another one is chosen: a modal child takes it for its parent.
    pub fn focusable(&self, id: SurfaceId) -> Option<SurfaceId> {
        let mut at = self.get(id)?;
        for _ in 0..DEPTH {
            let modal = |t: &&Toplevel| t.look.modal && !t.minimized && t.look.parent == Some(at.id);
            match self.toplevels.iter().rev().find(modal) {
                Some(child) => at = child,
                None => break,
            }
        }
        (!at.look.no_focus && !at.minimized).then_some(at.id)
    }

    /// The highest toplevel that takes the keyboard.
    pub fn top(&self) -> Option<SurfaceId> {
        self.shown().rev().find_map(|toplevel| self.focusable(toplevel.id))
    }

    /// The toplevel after another one in the panel, in a circle.
    pub fn next(&self, after: Option<SurfaceId>) -> Option<SurfaceId> {
        let mut ids: Vec<SurfaceId> =
            self.toplevels.iter().filter(|t| !t.look.no_focus).map(|t| t.id).collect();
        ids.sort_unstable();
        ids.iter().find(|id| after.is_some_and(|after| **id > after)).or(ids.first()).copied()
    }

    /// Entries of the panel: toplevels in the order of their ids, which nothing changes while they are open, and where each is.
    pub fn entries(&self) -> Vec<(SurfaceId, Rect)> {
        let Some(panel) = self.panel() else { return Vec::new() };
        let normal =
            |toplevel: &&Toplevel| !matches!(toplevel.look.kind, WindowKind::Splash | WindowKind::Menu);
        let mut ids: Vec<SurfaceId> = self.toplevels.iter().filter(normal).map(|t| t.id).collect();
        ids.sort_unstable();
        let room = panel.width.saturating_sub(APART);
        let side = (room / u32::try_from(ids.len().max(1)).unwrap_or(u32::MAX)).min(ENTRY);
        let at = |index: usize| side.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX)).cast_signed();
        ids.into_iter()
            .enumerate()
            .map(|(index, id)| (id, Rect { x: at(index), width: side, ..panel }))
            .collect()
    }

    /// Where the panel's last button is.
    pub fn apart(&self) -> Option<Rect> {
        let panel = self.panel()?;
        let width = APART.min(panel.width);
        Some(Rect { x: (panel.width - width).cast_signed(), width, ..panel })
    }

    /// What is at a place.
    pub fn at(&self, x: f64, y: f64) -> Spot {
        let inside = |rect: Rect| within(rect, x, y);
        if self.panel().is_some_and(inside) {
            let entry = self.entries().into_iter().find(|(_, rect)| inside(*rect));
            return match entry {
                Some((id, _)) => Spot::Entry(id),
                None if self.apart().is_some_and(inside) => Spot::Apart,
                None => Spot::Panel,
            };
        }
        for toplevel in self.shown().rev() {
            let popups = self.popups_of(toplevel.id).rev();
            for (id, shape, area) in popups.map(|p| (p.id, &p.shape, self.area(p.id))).chain([(
                toplevel.id,
                &toplevel.shape,
                Some(toplevel.area),
            )]) {
                let Some(area) = area.filter(|area| inside(*area)) else { continue };
                let (x, y) = (x - f64::from(area.x), y - f64::from(area.y));
                if shape.as_ref().is_none_or(|rects| rects.iter().any(|rect| within(*rect, x, y))) {
                    return Spot::Content(id, x, y);
                }
            }
            if let Some(spot) = frame_at(toplevel, x, y) {
                return spot;
            }
        }
        Spot::Nothing
    }
}

/// What of the frame of a toplevel is at a place.
fn frame_at(toplevel: &Toplevel, x: f64, y: f64) -> Option<Spot> {
    let title = toplevel.title()?;
    let id = toplevel.id;
    let outer = title.union(toplevel.area);
    let [left, top] = [outer.x, outer.y].map(f64::from);
    let [right, bottom] = [outer.right(), outer.bottom()].map(|end| end as f64);
    let around = x >= left - GRIP && x < right + GRIP && y >= top - GRIP && y < bottom + GRIP;
    if around && !within(outer, x, y) && toplevel.is_sizable() {
        let corner = f64::from(TITLE);
        let upright = y < top || y >= bottom;
        // A corner is as long as a title is high.
        let (wide, high) = if upright { (corner, 0.0) } else { (0.0, corner) };
        let mut edges = Edges::default();
        for (edge, is) in [
            (Edges::LEFT, x < left + wide),
            (Edges::RIGHT, x >= right - wide),
            (Edges::TOP, y < top + high),
            (Edges::BOTTOM, y >= bottom - high),
        ] {
            edges = if is { edges.with(edge) } else { edges };
        }
        return Some(Spot::Edge(id, edges));
    }
    if within(title, x, y) {
        let button = buttons(title).into_iter().find(|(_, rect)| within(*rect, x, y));
        return Some(button.map_or(Spot::Title(id), |(button, _)| Spot::Button(id, button)));
    }
    None
}

/// Where the buttons of a title are; a narrow one has only the last of them.
pub fn buttons(title: Rect) -> Vec<(Button, Rect)> {
    let shown = (title.width / BUTTON).min(3).max(u32::from(title.width > 0));
    let last = title.right();
    (0..shown)
        .filter_map(|from_right| {
            let button = BUTTONS.get(2 - from_right as usize)?;
            let x = i32::try_from(last - i64::from((from_right + 1) * BUTTON)).ok()?;
            Some((*button, Rect { x, width: BUTTON, ..title }))
        })
        .collect()
}

fn within(rect: Rect, x: f64, y: f64) -> bool {
    x >= f64::from(rect.x) && y >= f64::from(rect.y) && x < rect.right() as f64 && y < rect.bottom() as f64
}
