//! One host window and its dealings with the app: what it shows, and the configure sequence.
//!
//! ```text
//!                 first content            content gone / role gone
//!   announced ---------------------> open ------------------------> (dropped)
//!       | configure(size: none)       ^ | host: size or states
//!       v                             | v
//!    waits for the app             acked <--- configured(serial)
//! ```
//! At most one configure is on its way: the host's newest wish waits for the acknowledgement (or one second), so a slow
//! app gets the sizes that it can keep up with, and the last one always.

use std::time::{Duration, Instant};

use inlay_protocol::display::{Icon, Place, Popup, States, SurfaceId, Toplevel};
use inlay_protocol::geometry::{Point, Rect, Size};

use super::presenter::{Look, PopupLook};
use super::render::Target;

/// How long an app may take to acknowledge before the next configure is sent all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a desktop that decides is kept waiting for content that follows.
const SETTLE: Duration = Duration::from_millis(150);

/// How long an app may take to answer a ping before the user is asked.
const ALIVE: Duration = Duration::from_secs(5);

/// What a window is to the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An `xdg_toplevel`.
    Toplevel(Toplevel),
    /// An `xdg_popup` and the place that was found for it.
    Popup(Popup, Rect),
}

/// What the host wants of a toplevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Its size, none to leave it to the app.
    pub size: Option<Size>,
    /// Its states.
    pub states: States,
}

/// What of a window the desktop has to be told with the next tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stale {
    /// How it looks; for popups its place.
    pub look: bool,
    /// Its icons.
    pub icons: bool,
    /// Its outline.
    pub shape: bool,
}

impl Stale {
    /// Whether there is anything.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// What the desktop knows of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// That it is to come.
    Announced,
    /// Not of this one: it is one too many.
    Refused,
    /// So much that it has decided, or does not want to: the app may be told a size, and the window opened.
    Decided,
}

impl Told {
    /// Whether it knows of it.
    #[must_use]
    pub fn is_known(self) -> bool {
        matches!(self, Self::Announced | Self::Decided)
    }
}

/// When a window may be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// With the next tick.
    #[default]
    Free,
    /// When the desktop says so, which it is to do since this time.
    Waits(Instant),
    /// So as well, but it has not for so long that the window counts as hidden.
    Starved,
}

/// A ping on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Its serial.
    pub serial: u32,
    /// When it was sent.
    pub since: Instant,
    /// Whether the user was asked what to do.
    pub asked: bool,
}

/// The newest configure that its app was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    serial: u32,
    wish: Wish,
    at: Instant,
    /// The size of its content when it was told this one.
    before: Size,
    /// Whether the app committed another size since.
    committed: bool,
    /// Whether it committed anything since.
    drew: bool,
}

/// A window, from its announcement on.
#[derive(Debug)]
pub struct Window {
    /// What it is.
    pub role: Role,
    /// Where it is drawn; `None` until it has content.
    pub target: Option<Target>,
    /// Size of the host window's content.
    pub size: Size,
    /// Whether it can be seen.
    pub visible: bool,
    /// Whether it must be drawn.
    pub dirty: bool,
    /// Whether its app waits for a frame callback.
    pub wants_frame: bool,
    /// What the host wants.
    pub wish: Wish,
    sent: Option<Sent>,
    acked: Option<u32>,
    /// The size of its content.
    content: Size,
    /// Counts openings: later ones have larger numbers.
    pub opened: u32,
    /// When the app last committed a size that differs from the host's.
    pub misfit_since: Option<Instant>,
    /// Icons of a toplevel.
    pub icons: Vec<Icon>,
    /// Its outline, surface-local; `None` is the whole window.
    pub shape: Option<Vec<Rect>>,
    /// What the desktop has not been told yet.
    pub stale: Stale,
    /// The ping that its app has not answered.
    pub ping: Option<Ping>,
    /// What the desktop knows of it.
    pub told: Told,
    /// When it may be drawn.
    pub pace: Pace,
    /// The monitors that it is on, as places in the list of them, and its scale times 120: as its app knows it.
    pub shown: Option<(Vec<u8>, u32)>,
}

impl Window {
    /// A window that has no content yet.
    #[must_use]
    pub fn announced(role: Role) -> Self {
        Self {
            role,
            target: None,
            size: Size::default(),
            visible: true,
            dirty: false,
            wants_frame: false,
            wish: Wish::default(),
            sent: None,
            acked: None,
            content: Size::default(),
            opened: 0,
            misfit_since: None,
            icons: Vec::new(),
            shape: None,
            stale: Stale::default(),
            ping: None,
            told: Told::default(),
            pace: Pace::default(),
            shown: None,
        }
    }

    /// Bytes of its icons and outline.
    #[must_use]
    pub fn extras(&self) -> usize {
        let pixels: usize = self.icons.iter().map(|i| i.pixels.len()).sum();
        pixels + self.shape.as_ref().map_or(0, |s| s.len() * size_of::<Rect>())
    }

    /// Its outline relative to its window geometry.
    #[must_use]
    pub fn outline(&self, geometry: Rect) -> Option<Vec<Rect>> {
        let back = Point::new(geometry.x.saturating_neg(), geometry.y.saturating_neg());
        Some(self.shape.as_ref()?.iter().map(|rect| rect.translated(back)).collect())
    }

    /// The place of a popup that its app chose.
    #[must_use]
    pub fn fixed(&self) -> Option<Rect> {
        match &self.role {
            Role::Popup(Popup { place: Place::Fixed(_), .. }, area) => Some(*area),
            Role::Popup(..) | Role::Toplevel(_) => None,
        }
    }

    /// Whether the desktop holds it at its size: maximised or full screen.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.wish.states.0 & (States::MAXIMIZED.0 | States::FULLSCREEN.0) != 0
    }

    /// When the user is to be asked whether its app is to be ended.
    #[must_use]
    pub fn hangs_at(&self) -> Option<Instant> {
        self.ping.filter(|p| self.is_open() && !p.asked).map(|p| p.since + ALIVE)
    }

    /// Whether the host window exists.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.target.is_some()
    }

    /// Notes a commit of content of this size, and the newest serial that the app acknowledged with it.
    pub fn acknowledge(&mut self, serial: Option<u32>, content: Size) {
        if let Some(sent) = &mut self.sent {
            if serial.is_some() && serial != self.acked && serial != Some(sent.serial) {
                // Late: it answers an earlier wish.
                sent.before = content;
            } else {
                sent.committed |= sent.before != content;
                sent.drew = true;
            }
        }
        self.acked = serial.or(self.acked);
        self.content = content;
    }

    /// Whether the size of its content answers the newest wish: what was drawn before that does not, nor more of the same size, however
    /// long the answer takes; but an app that has acknowledged nothing for seconds, as some of X11 that refuse a size, wants what it draws.
    #[must_use]
    pub fn is_answered(&self, now: Instant) -> bool {
        let waited = |sent: Sent| sent.committed || now.duration_since(sent.at) >= ALIVE;
        !self.is_settling(now) && self.may_insist() && (self.is_acked() || self.sent.is_some_and(waited))
    }

    /// Whether its app may have another size than the desktop's when it is time: no commit has to come before.
    #[must_use]
    pub fn may_insist(&self) -> bool {
        !self.has_news() && (self.is_acked() || self.sent.is_some_and(|sent| sent.drew))
    }

    fn is_acked(&self) -> bool {
        self.sent.is_none_or(|sent| self.acked == Some(sent.serial))
    }

    /// Whether a configure is on its way that the app has not answered.
    #[must_use]
    pub fn is_settling(&self, now: Instant) -> bool {
        self.sent.is_some_and(|sent| !self.is_acked() && now.duration_since(sent.at) < PATIENCE)
    }

    /// Whether its content follows the desktop's newest wish, or its app had time enough to.
    #[must_use]
    pub fn is_settled(&self, now: Instant) -> bool {
        let late = self.sent.is_some_and(|sent| now.duration_since(sent.at) >= SETTLE);
        !self.has_news() && (self.is_acked() || late)
    }

    /// Whether a wish waits for the acknowledgement of an earlier one.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.sent.is_none_or(|sent| sent.wish != self.wish)
    }

    /// The wish to be sent now as a configure with this serial, if it is time.
    pub fn configure(&mut self, serial: u32, now: Instant) -> Option<Wish> {
        if self.told != Told::Decided || !self.has_news() || self.is_settling(now) {
            return None;
        }
        let Wish { size, .. } = self.wish;
        // It may have answered this size already, or choose its own.
        let same = self.sent.filter(|sent| size.is_none() || sent.wish.size == size);
        let (before, drew) = same.map_or((self.content, false), |sent| (sent.before, sent.drew));
        let committed = same.is_some_and(|sent| sent.committed || self.acked == Some(sent.serial));
        self.sent = Some(Sent { serial, wish: self.wish, at: now, before, committed, drew });
        Some(self.wish)
    }

    /// Has everything configured again, for an agent that asks.
    pub fn forget_configured(&mut self) {
        self.sent = None;
    }
}

/// How a popup looks on the host.
#[must_use]
pub fn popup_look(popup: &Popup, area: Rect) -> PopupLook {
    PopupLook { parent: popup.parent, area, kind: popup.kind }
}

/// What runs without a machine is said to be of this one.
const LOCAL: &str = "local";

/// What a toplevel says that it is, cleaned for display.
#[must_use]
pub fn app_id(toplevel: &Toplevel) -> String {
    let id = clean(&toplevel.app_id, 128);
    if id.is_empty() { "app".to_owned() } else { id }
}

/// The class of a toplevel on the host: `inlay.<machine>.<app id>`.
#[must_use]
pub fn class(toplevel: &Toplevel, machine: &str) -> String {
    format!("inlay.{machine}.{}", app_id(toplevel))
}

/// The title that an app gave its toplevel, cleaned for display.
#[must_use]
pub fn title(toplevel: &Toplevel) -> String {
    let title = clean(&toplevel.title, 512);
    if title.is_empty() { app_id(toplevel) } else { title }
}

/// A title of a machine's window: it ends with the machine's name.
#[must_use]
pub fn titled(title: &str, machine: &str) -> String {
    if machine == LOCAL { title.to_owned() } else { format!("{title} ({machine})") }
}

/// How a toplevel looks on the host, as a child of this one. Its title ends with the machine's name.
#[must_use]
pub fn look(toplevel: &Toplevel, machine: &str, parent: Option<SurfaceId>) -> Look {
    Look {
        title: titled(&title(toplevel), machine),
        class: class(toplevel, machine),
        parent,
        min_size: toplevel.min_size,
        max_size: toplevel.max_size,
        base_size: toplevel.base_size,
        increment: toplevel.increment,
        decoration: toplevel.decoration,
        kind: toplevel.kind,
        modal: toplevel.modal,
        urgent: toplevel.urgent,
        no_focus: toplevel.no_focus,
        keeps_awake: toplevel.keeps_awake,
        inhibits_shortcuts: toplevel.inhibits_shortcuts,
        content_type: toplevel.content_type,
        place: toplevel.place,
    }
}

/// Makes the pixels of a picture that lie outside of an outline transparent. Both in the picture's coordinates.
pub fn cut_out(bytes: &mut [u8], size: Size, outline: &[Rect]) {
    let (width, height) = (size.width as usize, size.height as usize);
    // How many rectangles begin less end at each place, summed along rows and columns: their number over each pixel.
    let mut over = vec![0_i32; (width + 1) * (height + 1)];
    for rect in outline.iter().filter_map(|r| r.intersection(Rect::of_size(size))) {
        let (x, y) = (rect.x.unsigned_abs() as usize, rect.y.unsigned_abs() as usize);
        let (right, bottom) = (x + rect.width as usize, y + rect.height as usize);
        for (x, y, sign) in [(x, y, 1), (right, y, -1), (x, bottom, -1), (right, bottom, 1)] {
            over[y * (width + 1) + x] += sign;
        }
    }
    let mut above = vec![0; width];
    for (row, pixels) in over.chunks(width + 1).zip(bytes.chunks_mut((4 * width).max(1))) {
        let mut here = 0;
        for ((step, above), pixel) in row.iter().zip(&mut above).zip(pixels.chunks_mut(4)) {
            here += step;
            *above += here;
            if *above == 0 {
                pixel.fill(0);
            }
        }
    }
}

/// Text of the guest for the host's eyes: no control characters, line breaks or bidirectional overrides, capped.
#[must_use]
pub fn clean(text: &str, most: usize) -> String {
    let bidi = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = text.chars().filter(|c| !c.is_control() && !bidi(*c));
    plain.take(most).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::display::Decoration;

    fn toplevel(title: &str, app_id: &str) -> Toplevel {
        Toplevel {
            surface: SurfaceId(1),
            title: title.to_owned(),
            app_id: app_id.to_owned(),
            parent: Some(SurfaceId(9)),
            decoration: Decoration::ServerSide,
            ..Toplevel::default()
        }
    }

    #[test]
    fn titles_cannot_play_tricks() {
        let title = format!("\u{202e}e\u{61c}v\u{2028}il\n\x07{}", "x".repeat(5000));
        let l = look(&toplevel(&title, "a/b\0c"), "demo", None);
        assert!(l.title.starts_with("evilxxx") && l.title.ends_with("x (demo)") && l.title.len() <= 519);
        assert_eq!((l.class.as_str(), l.parent), ("inlay.demo.a/bc", None));
        assert_eq!(look(&toplevel(" \t", ""), "demo", None).title, "app (demo)");
        assert_eq!(look(&toplevel("foot", ""), "local", None).title, "foot");
    }

    #[test]
    fn outside_of_an_outline_nothing_is_left() {
        let size = Size::new(7, 5);
        let outline =
            [Rect::new(1, 1, 3, 2), Rect::new(2, 2, 3, 2), Rect::new(-9, 4, 10, 90), Rect::new(9, 9, 1, 1)];
        let mut bytes = vec![7; 4 * 7 * 5];
        cut_out(&mut bytes, size, &outline);
        let rows: Vec<String> = bytes
            .chunks(28)
            .map(|row| row.chunks(4).map(|p| if p == [7; 4] { '#' } else { '.' }).collect())
            .collect();
        assert_eq!(rows, [".......", ".###...", ".####..", "..###..", "#......"]);
        cut_out(&mut bytes, size, &[]);
        assert!(bytes.iter().all(|b| *b == 0));
    }

    #[test]
    fn the_user_is_asked_once_about_an_app_that_does_not_answer() {
        let now = Instant::now();
        let mut w = Window::announced(Role::Toplevel(toplevel("t", "a")));
        w.ping = Some(Ping { serial: 1, since: now, asked: false });
        assert_eq!(w.hangs_at(), None, "it has no window");
        w.target = Some(Target::None);
        assert_eq!(w.hangs_at(), Some(now + ALIVE));
        w.ping = Some(Ping { serial: 1, since: now, asked: true });
        assert_eq!(w.hangs_at(), None);
    }

    #[test]
    fn what_was_drawn_before_a_size_was_told_is_no_answer_to_it() {
        let now = Instant::now();
        let later = now + 2 * PATIENCE;
        let [old, rounded] = [Size::new(9, 9), Size::new(29, 18)];
        let mut w = Window::announced(Role::Toplevel(toplevel("t", "a")));
        w.told = Told::Decided;
        assert!(!w.is_answered(now), "it was told nothing");
        w.configure(1, now).unwrap();
        w.acknowledge(Some(1), old);
        assert!(w.is_answered(now));
        w.wish.size = Some(Size::new(30, 20));
        assert!(!w.is_answered(now), "a size waits to be told");
        w.configure(2, now).unwrap();
        assert!(!w.is_answered(later) && !w.may_insist(), "however slow it is");
        w.acknowledge(None, old);
        assert!(!w.is_answered(later), "whatever it goes on to draw");
        assert!(w.is_answered(now + ALIVE), "it refuses");
        // One that acknowledges nothing.
        w.acknowledge(None, rounded);
        assert!(!w.is_answered(now) && w.is_answered(later));
        // It has answered the size already.
        w.wish.states = States::ACTIVATED;
        w.configure(3, later).unwrap();
        assert!(!w.is_answered(later) && w.is_answered(later + PATIENCE));
        w.wish.size = Some(Size::new(40, 20));
        w.configure(4, later + PATIENCE).unwrap();
        assert!(!w.is_answered(later + 9 * PATIENCE));
        w.acknowledge(Some(4), rounded);
        assert!(w.is_answered(later + PATIENCE));
    }

    #[test]
    fn a_late_answer_is_one_to_its_own_size_and_a_refusal_is_remembered() {
        let now = Instant::now();
        let later = now + 2 * PATIENCE;
        let [old, first] = [Size::new(9, 9), Size::new(30, 20)];
        let mut w = Window::announced(Role::Toplevel(toplevel("t", "a")));
        w.told = Told::Decided;
        w.configure(1, now).unwrap();
        w.acknowledge(Some(1), old);
        w.wish.size = Some(first);
        w.configure(2, now).unwrap();
        w.wish.size = Some(Size::new(40, 20));
        w.configure(3, now + PATIENCE).unwrap();
        for _ in 0..2 {
            w.acknowledge(Some(2), first);
            assert!(!w.is_answered(now + 3 * PATIENCE), "it answers the size before");
        }
        w.acknowledge(Some(3), old);
        assert!(w.is_answered(later), "it keeps its own");
        w.wish.states = States::ACTIVATED;
        w.configure(4, later).unwrap();
        w.acknowledge(None, old);
        assert!(w.is_answered(later + PATIENCE), "which the focus does not change");
    }

    #[test]
    fn a_slow_app_gets_one_size_at_a_time_and_the_last() {
        let now = Instant::now();
        let mut w = Window::announced(Role::Toplevel(toplevel("t", "a")));
        assert!(w.configure(1, now).is_none(), "the desktop has not decided");
        w.told = Told::Decided;
        assert!(w.configure(1, now).is_some(), "the initial configure");
        assert!(!w.is_settled(now) && w.is_settled(now + SETTLE));
        assert!(w.configure(2, now).is_none(), "nothing new");
        w.acknowledge(Some(1), Size::default());
        assert!(w.is_settled(now));
        for side in 1..=3 {
            w.wish.size = Some(Size::new(side, side));
            assert_eq!(w.configure(1 + side, now).is_some(), side == 1, "{side}");
        }
        w.acknowledge(None, Size::default());
        assert!(w.configure(9, now).is_none());
        w.acknowledge(Some(2), Size::default());
        assert_eq!(w.configure(9, now).and_then(|w| w.size), Some(Size::new(3, 3)));
        w.wish.size = Some(Size::new(7, 7));
        assert!(w.configure(10, now).is_none());
        assert!(w.configure(10, now + PATIENCE).is_some(), "an app that never acknowledges");
    }
}
