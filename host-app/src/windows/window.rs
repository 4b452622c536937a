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

use inlay_protocol::display::{Popup, States, SurfaceId, Toplevel};
use inlay_protocol::geometry::{Rect, Size};

use super::presenter::Look;
use super::render::Target;

/// How long an app may take to acknowledge before the next configure is sent all the same.
const PATIENCE: Duration = Duration::from_secs(1);

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
    sent: Option<(u32, Wish, Instant)>,
    acked: Option<u32>,
    /// Counts openings: later ones have larger numbers.
    pub opened: u32,
    /// When the app last committed a size that differs from the host's.
    pub misfit_since: Option<Instant>,
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
            opened: 0,
            misfit_since: None,
        }
    }

    /// Whether the host window exists.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.target.is_some()
    }

    /// Notes the newest serial that the app acknowledged.
    pub fn acknowledge(&mut self, serial: Option<u32>) {
        self.acked = serial.or(self.acked);
    }

    /// Whether a configure is on its way that the app has not answered.
    #[must_use]
    pub fn is_settling(&self, now: Instant) -> bool {
        self.sent
            .is_some_and(|(serial, _, at)| self.acked != Some(serial) && now.duration_since(at) < PATIENCE)
    }

    /// Whether a wish waits for the acknowledgement of an earlier one.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.sent.is_none_or(|(_, wish, _)| wish != self.wish)
    }

    /// The wish to be sent now as a configure with this serial, if it is time.
    pub fn configure(&mut self, serial: u32, now: Instant) -> Option<Wish> {
        if !self.has_news() || self.is_settling(now) {
            return None;
        }
        self.sent = Some((serial, self.wish, now));
        Some(self.wish)
    }

    /// Has everything configured again, for an agent that asks.
    pub fn forget_configured(&mut self) {
        self.sent = None;
    }
}

/// How a toplevel looks on the host.
#[must_use]
pub fn look(toplevel: &Toplevel, machine: &str, parent_open: impl Fn(SurfaceId) -> bool) -> Look {
    let id = clean(&toplevel.app_id, 128);
    let id = if id.is_empty() { "app".to_owned() } else { id };
    let title = clean(&toplevel.title, 512);
    Look {
        title: if title.is_empty() { id.clone() } else { title },
        class: format!("inlay.{machine}.{id}"),
        parent: toplevel.parent.filter(|p| parent_open(*p)),
        min_size: toplevel.min_size,
        max_size: toplevel.max_size,
        decoration: toplevel.decoration,
    }
}

/// Text of the guest for the host's eyes: no control characters, no bidirectional overrides, capped.
fn clean(text: &str, most: usize) -> String {
    let bidi =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
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
        let title = format!("\u{202e}evil\n\x07{}", "x".repeat(5000));
        let l = look(&toplevel(&title, "a/b\0c"), "demo", |_| false);
        assert!(l.title.starts_with("evilxxx") && l.title.len() <= 512);
        assert_eq!((l.class.as_str(), l.parent), ("inlay.demo.a/bc", None));
        assert_eq!(look(&toplevel(" \t", ""), "demo", |_| true).title, "app");
    }

    #[test]
    fn a_slow_app_gets_one_size_at_a_time_and_the_last() {
        let now = Instant::now();
        let mut w = Window::announced(Role::Toplevel(toplevel("t", "a")));
        assert!(w.configure(1, now).is_some(), "the initial configure");
        assert!(w.configure(2, now).is_none(), "nothing new");
        w.acknowledge(Some(1));
        for side in 1..=3 {
            w.wish.size = Some(Size::new(side, side));
            assert_eq!(w.configure(1 + side, now).is_some(), side == 1, "{side}");
        }
        w.acknowledge(None);
        assert!(w.configure(9, now).is_none());
        w.acknowledge(Some(2));
        assert_eq!(w.configure(9, now).and_then(|w| w.size), Some(Size::new(3, 3)));
        w.wish.size = Some(Size::new(7, 7));
        assert!(w.configure(10, now).is_none());
        assert!(w.configure(10, now + PATIENCE).is_some(), "an app that never acknowledges");
    }
}
