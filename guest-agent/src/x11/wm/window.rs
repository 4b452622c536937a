//! What the window manager knows of one X11 window, and its properties.

use std::sync::Arc;

use inlay_protocol::display::{Icon, States};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use inlay_protocol::scale::Scale;
use x11rb::cookie::Cookie;
use x11rb::properties::{WmHints, WmSizeHints, WmSizeHintsSpecification};
use x11rb::protocol::shape::{self, ConnectionExt as _, SK};
use x11rb::protocol::xproto::{Atom, AtomEnum, ConnectionExt as _, GetPropertyReply};
use x11rb::rust_connection::RustConnection;

use super::atoms::Atoms;
use crate::windows::choose_icons;

/// An X11 window.
pub type Xid = u32;

/// 32-bit units of a text or list property that are read.
const SHORT: u32 = 1024;
/// 32-bit units of `_NET_WM_ICON` that are read: some megabytes, as apps put all sizes in.
const ICON_UNITS: u32 = 1 << 20;

/// What a window is for (EWMH `_NET_WM_WINDOW_TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are EWMH's own")]
pub enum Kind {
    #[default]
    Unsaid,
    Normal,
    Dialog,
    Utility,
    Toolbar,
    Menu,
    Splash,
    DropdownMenu,
    PopupMenu,
    Combo,
    Tooltip,
    Notification,
    Dnd,
}

/// How Xwayland tells which `wl_surface` shows a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Association {
    /// The serial of `xwayland_surface_v1.set_serial`.
    Serial(u64),
    /// The protocol id of the `wl_surface`, from Xwayland before 23.1.
    Id(u32),
}

#[expect(clippy::struct_excessive_bools, reason = "they are the hints of ICCCM and EWMH, each on its own")]
/// A window that is mapped, as the rest of the agent sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Itself.
    pub id: Xid,
    /// Whether it bypasses the window manager: menus, tool tips, drag icons.
    pub override_redirect: bool,
    /// Which surface shows it.
    pub surface: Option<Association>,
    /// Place and size on the root window.
    pub place: Rect,
    /// `_NET_WM_NAME`, or `WM_NAME`.
    pub title: String,
    /// The class of `WM_CLASS`.
    pub class: String,
    /// `WM_TRANSIENT_FOR`.
    pub transient_for: Option<Xid>,
    /// What it is for.
    pub kind: Kind,
    /// `WM_NORMAL_HINTS`: smallest, largest, base size and step; 0 is none.
    pub sizes: [Size; 4],
    /// `WM_NORMAL_HINTS`: the app chose its place, and whether the user told it to.
    pub placed: Option<bool>,
    /// `_MOTIF_WM_HINTS`: it wants no frame.
    pub undecorated: bool,
    /// `_NET_WM_STATE_MODAL`.
    pub modal: bool,
    /// `_NET_WM_STATE_DEMANDS_ATTENTION`.
    pub attention: bool,
    /// The urgency of `WM_HINTS`.
    pub urgent: bool,
    /// `WM_HINTS`: it takes the keyboard when it is given.
    pub input: bool,
    /// `WM_PROTOCOLS`: it takes the keyboard itself when told.
    pub takes_focus: bool,
    /// `WM_PROTOCOLS`: it closes itself when told.
    pub deletes: bool,
    /// `WM_PROTOCOLS`: it answers pings.
    pub pings: bool,
    /// `_GTK_FRAME_EXTENTS`: what it draws around itself (shadows): left, right, top, bottom.
    pub extents: [u32; 4],
    /// `_NET_WM_ICON`, the sizes worth sending.
    pub icons: Arc<Vec<Icon>>,
    /// Its bounding shape, when it has one.
    pub shape: Option<Arc<Vec<Rect>>>,
}

impl Window {
    /// A window that was just created.
    #[must_use]
    pub fn new(id: Xid, override_redirect: bool, place: Rect) -> Self {
        Self {
            id,
            override_redirect,
            surface: None,
            place,
            title: String::new(),
            class: String::new(),
            transient_for: None,
            kind: Kind::default(),
            sizes: Default::default(),
            placed: None,
            undecorated: false,
            modal: false,
            attention: false,
            urgent: false,
            input: true,
            takes_focus: false,
            deletes: false,
            pings: false,
            extents: [0; 4],
            icons: Arc::default(),
            shape: None,
        }
    }

    /// The same in logical pixels.
    #[must_use]
    pub fn logical(mut self, scale: Scale) -> Self {
        if scale == Scale::ONE {
            return self;
        }
        let ([left, right, top, bottom], whole) = (self.extents, self.place.size());
        self.place = scale.logical_rect(self.place);
        // What is left of the whole is around the window itself: each rounded alone they would not add up.
        let around = |whole: u32, logical: u32, first: u32, second: u32| {
            let inner = scale.logical_length(whole.saturating_sub(first + second).max(1));
            let more = if first + second == 0 { 0 } else { logical.saturating_sub(inner) };
            let first = scale.logical_length(first).min(more);
            (first, more - first)
        };
        let (left, right) = around(whole.width, self.place.width, left, right);
        let (top, bottom) = around(whole.height, self.place.height, top, bottom);
        self.extents = [left, right, top, bottom];
        let even = |size: Size| scale.size(scale.logical_size(size)) == size;
        let steps = scale.is_whole() && even(self.sizes[2]) && even(self.sizes[3]);
        self.sizes = self.sizes.map(|size| scale.logical_size(size));
        if !steps {
            // A step of these pixels is none of whole logical ones.
            (self.sizes[2], self.sizes[3]) = Default::default();
        }
        self.shape =
            self.shape.map(|shape| Arc::new(shape.iter().map(|r| scale.logical_bounds(*r)).collect()));
        self
    }
}

/// A part of a window's state that is read from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `_NET_WM_NAME` and `WM_NAME`.
    Title,
    /// `WM_CLASS`.
    Class,
    /// `WM_TRANSIENT_FOR`.
    Transient,
    /// `_NET_WM_WINDOW_TYPE`.
    Kind,
    /// `WM_NORMAL_HINTS`.
    Sizes,
    /// `WM_HINTS`.
    Hints,
    /// `WM_PROTOCOLS`.
    Protocols,
    /// `_MOTIF_WM_HINTS`.
    Motif,
    /// `_GTK_FRAME_EXTENTS`.
    Extents,
    /// `_NET_WM_ICON`.
    Icons,
    /// The bounding shape.
    Shape,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Title,
        Self::Class,
        Self::Transient,
        Self::Kind,
        Self::Sizes,
        Self::Hints,
        Self::Protocols,
        Self::Motif,
        Self::Extents,
        Self::Icons,
        Self::Shape,
    ];

    /// The part that a property belongs to.
    #[must_use]
    pub fn of(property: Atom, atoms: &Atoms) -> Option<Self> {
        let name = |atom: AtomEnum| u32::from(atom);
        Some(match property {
            p if p == atoms._NET_WM_NAME || p == name(AtomEnum::WM_NAME) => Self::Title,
            p if p == name(AtomEnum::WM_CLASS) => Self::Class,
            p if p == name(AtomEnum::WM_TRANSIENT_FOR) => Self::Transient,
            p if p == atoms._NET_WM_WINDOW_TYPE => Self::Kind,
            p if p == name(AtomEnum::WM_NORMAL_HINTS) => Self::Sizes,
            p if p == name(AtomEnum::WM_HINTS) => Self::Hints,
            p if p == atoms.WM_PROTOCOLS => Self::Protocols,
            p if p == atoms._MOTIF_WM_HINTS => Self::Motif,
            p if p == atoms._GTK_FRAME_EXTENTS => Self::Extents,
            p if p == atoms._NET_WM_ICON => Self::Icons,
            _ => return None,
        })
    }

    /// Asks the server for it.
    pub fn ask<'c>(self, window: Xid, c: &'c RustConnection, atoms: &Atoms) -> Option<Asked<'c>> {
        let any = AtomEnum::ANY;
        let get = |property: u32, units| c.get_property(false, window, property, any, 0, units).ok();
        let one = |cookie| Some(Asked { part: self, first: cookie, second: None, shape: None });
        match self {
            Self::Title => Some(Asked {
                part: self,
                first: get(atoms._NET_WM_NAME, SHORT),
                second: get(AtomEnum::WM_NAME.into(), SHORT),
                shape: None,
            }),
            Self::Class => one(get(AtomEnum::WM_CLASS.into(), SHORT)),
            Self::Transient => one(get(AtomEnum::WM_TRANSIENT_FOR.into(), 1)),
            Self::Kind => one(get(atoms._NET_WM_WINDOW_TYPE, 32)),
            Self::Sizes => one(get(AtomEnum::WM_NORMAL_HINTS.into(), 18)),
            Self::Hints => one(get(AtomEnum::WM_HINTS.into(), 9)),
            Self::Protocols => one(get(atoms.WM_PROTOCOLS, 32)),
            Self::Motif => one(get(atoms._MOTIF_WM_HINTS, 5)),
            Self::Extents => one(get(atoms._GTK_FRAME_EXTENTS, 4)),
            Self::Icons => one(get(atoms._NET_WM_ICON, ICON_UNITS)),
            Self::Shape => Some(Asked {
                part: self,
                first: None,
                second: None,
                shape: Some((
                    c.shape_query_extents(window).ok()?,
                    c.shape_get_rectangles(window, SK::BOUNDING).ok()?,
                )),
            }),
        }
    }
}

type Property<'c> = Cookie<'c, RustConnection, GetPropertyReply>;
type Outline<'c> = (
    Cookie<'c, RustConnection, shape::QueryExtentsReply>,
    Cookie<'c, RustConnection, shape::GetRectanglesReply>,
);

/// Requests whose replies hold a part.
#[derive(Debug)]
pub struct Asked<'c> {
    part: Part,
    first: Option<Property<'c>>,
    second: Option<Property<'c>>,
    shape: Option<Outline<'c>>,
}

impl Asked<'_> {
    /// Waits for the replies and puts them in. A window that is gone has no properties any more.
    pub fn fill(self, window: &mut Window, atoms: &Atoms) {
        let reply =
            |cookie: Option<Property<'_>>| cookie.and_then(|c| c.reply().ok()).filter(|r| r.type_ != 0);
        let (first, second) = (reply(self.first), reply(self.second));
        let list = || -> Vec<u32> {
            first.as_ref().and_then(|r| r.value32()).map(Iterator::collect).unwrap_or_default()
        };
        match self.part {
            Part::Title => {
                let text = first.as_ref().or(second.as_ref());
                window.title = text.map(|r| text_of(r, atoms)).unwrap_or_default();
            }
            Part::Class => {
                let text = first.as_ref().map(|r| text_of(r, atoms)).unwrap_or_default();
                // The instance, then the class.
                let mut names = text.split('\0');
                let instance = names.next().unwrap_or_default();
                let class = names.next().filter(|c| !c.is_empty()).unwrap_or(instance);
                window.class = class.to_owned();
            }
            Part::Transient => {
                window.transient_for = list().first().copied().filter(|id| *id != 0 && *id != window.id);
            }
            Part::Kind => window.kind = list().iter().find_map(|a| kind(*a, atoms)).unwrap_or_default(),
            Part::Sizes => {
                let hints = first.as_ref().and_then(|r| WmSizeHints::from_reply(r).ok().flatten());
                window.placed = hints
                    .and_then(|h| h.position)
                    .map(|(by, ..)| matches!(by, WmSizeHintsSpecification::UserSpecified));
                window.sizes = hints.map(|h| sizes(&h)).unwrap_or_default();
            }
            Part::Hints => {
                let hints = first.as_ref().and_then(|r| WmHints::from_reply(r).ok().flatten());
                window.input = hints.as_ref().and_then(|h| h.input).unwrap_or(true);
                window.urgent = hints.is_some_and(|h| h.urgent);
            }
            Part::Protocols => {
                let list = list();
                window.takes_focus = list.contains(&atoms.WM_TAKE_FOCUS);
                window.deletes = list.contains(&atoms.WM_DELETE_WINDOW);
                window.pings = list.contains(&atoms._NET_WM_PING);
            }
            Part::Motif => {
                // Flags, functions, decorations, input mode, status; flag 2 says that decorations count.
                let list = list();
                window.undecorated = list.len() >= 3 && list[0] & 2 != 0 && list[2] == 0;
            }
            Part::Extents => {
                let extents: Result<[u32; 4], _> = list().try_into();
                window.extents = extents.ok().filter(|e| e.iter().all(|v| *v <= 512)).unwrap_or_default();
            }
            Part::Icons => window.icons = Arc::new(icons(&list())),
            Part::Shape => {
                let shape = self.shape.and_then(|(extents, rects)| {
                    let (extents, rects) = (extents.reply().ok()?, rects.reply().ok()?);
                    let shaped = extents.bounding_shaped && rects.rectangles.len() <= limits::SHAPE_RECTS;
                    shaped.then_some(rects.rectangles)
                });
                let rect = |r: &x11rb::protocol::xproto::Rectangle| {
                    Rect::new(r.x.into(), r.y.into(), r.width.into(), r.height.into())
                };
                window.shape = shape.map(|rects| Arc::new(rects.iter().map(rect).collect()));
            }
        }
    }
}

/// Text of a property: UTF-8, or Latin-1 (`STRING`).
fn text_of(reply: &GetPropertyReply, atoms: &Atoms) -> String {
    let bytes = &reply.value;
    if reply.type_ == atoms.UTF8_STRING {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

fn kind(atom: Atom, atoms: &Atoms) -> Option<Kind> {
    Some(match atom {
        a if a == atoms._NET_WM_WINDOW_TYPE_NORMAL => Kind::Normal,
        a if a == atoms._NET_WM_WINDOW_TYPE_DIALOG => Kind::Dialog,
        a if a == atoms._NET_WM_WINDOW_TYPE_UTILITY => Kind::Utility,
        a if a == atoms._NET_WM_WINDOW_TYPE_TOOLBAR => Kind::Toolbar,
        a if a == atoms._NET_WM_WINDOW_TYPE_MENU => Kind::Menu,
        a if a == atoms._NET_WM_WINDOW_TYPE_SPLASH => Kind::Splash,
        a if a == atoms._NET_WM_WINDOW_TYPE_DROPDOWN_MENU => Kind::DropdownMenu,
        a if a == atoms._NET_WM_WINDOW_TYPE_POPUP_MENU => Kind::PopupMenu,
        a if a == atoms._NET_WM_WINDOW_TYPE_COMBO => Kind::Combo,
        a if a == atoms._NET_WM_WINDOW_TYPE_TOOLTIP => Kind::Tooltip,
        a if a == atoms._NET_WM_WINDOW_TYPE_NOTIFICATION => Kind::Notification,
        a if a == atoms._NET_WM_WINDOW_TYPE_DND => Kind::Dnd,
        _ => return None,
    })
}

/// The states among the values of `_NET_WM_STATE`.
#[must_use]
pub fn states(values: &[Atom], atoms: &Atoms) -> States {
    let has = |atom: Atom| values.contains(&atom);
    let maximized = has(atoms._NET_WM_STATE_MAXIMIZED_VERT) && has(atoms._NET_WM_STATE_MAXIMIZED_HORZ);
    States::default()
        .set(States::MAXIMIZED, maximized)
        .set(States::FULLSCREEN, has(atoms._NET_WM_STATE_FULLSCREEN))
}

/// Smallest, largest, base size and step, within what the protocol carries.
fn sizes(hints: &WmSizeHints) -> [Size; 4] {
    let most = |v: i32| u32::try_from(v).unwrap_or(0).min(limits::DIMENSION);
    let size = |pair: Option<(i32, i32)>| pair.map(|(w, h)| Size::new(most(w), most(h))).unwrap_or_default();
    let (min, base) = (hints.min_size.or(hints.base_size), hints.base_size.or(hints.min_size));
    [size(min), size(hints.max_size), size(base), size(hints.size_increment)]
}

/// The icons worth sending.
fn icons(mut values: &[u32]) -> Vec<Icon> {
    let mut found: Vec<Icon> = Vec::new();
    while let [width, height, rest @ ..] = values {
        let Some(count) = usize::try_from(u64::from(*width) * u64::from(*height)).ok().filter(|c| *c > 0)
        else {
            break;
        };
        let Some(pixels) = rest.get(..count) else { break };
        values = &rest[count..];
        let fits = |side: u32| (1..=limits::ICON).contains(&side);
        let known = found.iter().any(|i| i.size == Size::new(*width, *height));
        if fits(*width) && fits(*height) && !known && found.len() < 64 {
            let pixels = pixels.iter().flat_map(|argb| premultiplied(*argb)).collect();
            found.push(Icon { size: Size::new(*width, *height), pixels });
        }
    }
    choose_icons(found)
}

/// Bytes blue, green, red, alpha of a colour with straight alpha.
fn premultiplied(argb: u32) -> [u8; 4] {
    let [alpha, colours @ ..] = argb.to_be_bytes();
    let [red, green, blue] = colours.map(|c| {
        let product = u32::from(c) * u32::from(alpha);
        u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
    });
    [blue, green, red, alpha]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_and_what_is_around_it_add_up_at_every_scale() {
        for scale in [120, 150, 180, 210, 240, 300, 360].map(Scale) {
            for extents in [[0, 0, 0, 0], [25, 25, 20, 31], [1, 0, 0, 1], [26, 26, 23, 29]] {
                for side in 1..500 {
                    let own = Size::new(scale.length(side), scale.length(2 * side));
                    let [left, right, top, bottom] = extents;
                    let place = Rect::new(5, 5, own.width + left + right, own.height + top + bottom);
                    let window = Window { extents, ..Window::new(1, false, place) }.logical(scale);
                    let [left, right, top, bottom] = window.extents;
                    let inner = (window.place.width - left - right, window.place.height - top - bottom);
                    assert_eq!(inner, (side, 2 * side), "{scale:?} {extents:?}");
                }
            }
        }
        let steps = |scale, step| {
            let sizes = [Size::default(), Size::default(), Size::default(), Size::new(step, 2 * step)];
            Window { sizes, ..Window::new(1, false, Rect::default()) }.logical(Scale(scale)).sizes[3]
        };
        assert_eq!((steps(240, 6), steps(240, 7)), (Size::new(3, 6), Size::default()));
        assert_eq!((steps(120, 7), steps(180, 6)), (Size::new(7, 14), Size::default()));
    }

    #[test]
    fn icons_are_cut_from_their_list_and_chosen_by_size() {
        let icon = |side: u32, colour: u32| {
            let mut values = vec![side, side];
            values.extend(std::iter::repeat_n(colour, (side * side) as usize));
            values
        };
        let list: Vec<u32> = [(256, 1), (16, 0x80ff_0000), (22, 2), (48, 3), (64, 4)]
            .into_iter()
            .flat_map(|(side, colour)| icon(side, colour))
            .collect();
        let chosen = icons(&list);
        let sides: Vec<u32> = chosen.iter().map(|i| i.size.width).collect();
        assert_eq!(sides, [16, 22, 48, 64], "256 is too large to be sent");
        assert_eq!(chosen[0].pixels[..4], [0, 0, 128, 128], "blue, green, red, alpha, premultiplied");
        assert_eq!(icons(&list[..list.len() - 1]).len(), 3, "the last one is cut off");
    }

    #[test]
    fn icons_that_lie_about_their_size_do_no_harm() {
        assert!(icons(&[u32::MAX, u32::MAX, 1, 2]).is_empty());
        assert!(icons(&[0, 5, 1]).is_empty());
        assert!(icons(&[1]).is_empty());
    }

    #[test]
    fn size_hints_of_a_terminal() {
        let hints = WmSizeHints {
            base_size: Some((4, 4)),
            size_increment: Some((6, 13)),
            min_size: Some((10, 17)),
            ..WmSizeHints::new()
        };
        let all = [Size::new(10, 17), Size::default(), Size::new(4, 4), Size::new(6, 13)];
        assert_eq!(sizes(&hints), all);
        let wild = WmSizeHints { min_size: Some((-5, i32::MAX)), ..WmSizeHints::new() };
        assert_eq!(sizes(&wild)[0], Size::new(0, limits::DIMENSION));
    }
}
