//! What the user does in the full window, as wishes for the guest's keyboard and pointer.
//!
//! The right Ctrl key is the window's own: tapped, it opens the menu, which takes the keyboard from the guest; held, F is full screen,
//! S shows the windows of all apps in its place, Delete is Ctrl-Alt-Delete, and a function key is one with Ctrl and Alt.

use inlay_protocol::input::{InputEvent, Scroll};
use inlay_protocol::memory::Wish;

use super::WINDOW;
use super::layout::Layout;
use crate::windows::own_key::{Kept, OwnKey};

/// 120ths of a detent of a wheel.
const DETENT: i32 = 120;
/// Logical pixels of a finger's movement that are worth a detent.
const FINGER: f64 = 15.0;

/// evdev's codes.
mod key {
    pub const LEFT_CTRL: u16 = 29;
    pub const S: u16 = 31;
    pub const F: u16 = 33;
    pub const LEFT_ALT: u16 = 56;
    pub const DELETE: u16 = 111;
}

/// Evdev code of a function key, 1 to 12.
fn function_key(number: u16) -> Option<u16> {
    match number {
        1..=10 => Some(58 + number),
        11 | 12 => Some(76 + number),
        _ => None,
    }
}

/// What the window itself is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Open the menu.
    Menu,
    /// Take all of a monitor, or no more.
    Fullscreen,
    /// Give its place to one with the windows of all apps in it.
    Apps,
}

/// Ctrl and Alt with a key, pressed and let go.
pub fn with_ctrl_alt(code: u16) -> impl Iterator<Item = Wish> {
    let all = [key::LEFT_CTRL, key::LEFT_ALT, code];
    let press = |pressed: bool| move |key: u16| Wish::Key { key, pressed };
    all.into_iter().map(press(true)).chain(all.into_iter().rev().map(press(false)))
}

/// Ctrl-Alt-Delete.
pub fn ctrl_alt_delete() -> impl Iterator<Item = Wish> {
    with_ctrl_alt(key::DELETE)
}

/// Ctrl-Alt-Fn, of a function key from 1 to 12.
pub fn ctrl_alt_function(number: u16) -> impl Iterator<Item = Wish> {
    function_key(number).into_iter().flat_map(with_ctrl_alt)
}

/// Where keyboard and pointer are.
#[derive(Debug, Default)]
pub struct Input {
    pointed: bool,
    focused: bool,
    /// What wheels turned that was no whole detent, in 120ths: down, and to the right.
    turned: [f64; 2],
    own: OwnKey,
    orders: Vec<Order>,
}

impl Input {
    /// Whether the pointer is in the window.
    pub fn is_pointed(&self) -> bool {
        self.pointed
    }

    /// What the window itself is to do.
    pub fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// The keyboard comes to the window or goes. Keys that are held then are not pressed in the guest: they were for someone else.
    pub fn focus(&mut self, focused: bool) -> Option<Wish> {
        let left = self.focused && !focused;
        self.focused = focused;
        self.own = OwnKey::default();
        left.then_some(Wish::Released)
    }

    /// Takes what is for this window; what is left is for the others.
    pub fn take(&mut self, event: InputEvent, layout: &Layout, wishes: &mut Vec<Wish>) -> Option<InputEvent> {
        match event {
            InputEvent::PointerEnter { surface, x, y } if surface == WINDOW => {
                self.pointed = true;
                self.point(layout.place(x, y), wishes);
            }
            InputEvent::PointerEnter { .. } => {
                self.pointed = false;
                return Some(event);
            }
            InputEvent::PointerLeave if self.pointed => self.pointed = false,
            InputEvent::PointerMotion { x, y, .. } if self.pointed => self.point(layout.place(x, y), wishes),
            InputEvent::PointerButton { button, pressed, .. } if self.pointed => {
                let button = u16::try_from(button).unwrap_or(0);
                if (0x110..=0x114).contains(&button) {
                    wishes.push(Wish::Button { button, pressed });
                }
            }
            InputEvent::PointerAxis { vertical, horizontal, .. } if self.pointed => {
                self.wheel(vertical, horizontal, wishes);
            }
            InputEvent::Key { key, pressed, .. } if self.focused => {
                let key = u16::try_from(key).unwrap_or(0);
                if !self.keeps(key, pressed, wishes) && (1..=248).contains(&key) {
                    wishes.push(Wish::Key { key, pressed });
                }
            }
            InputEvent::Modifiers(_) if self.focused => {}
            other => return Some(other),
        }
        None
    }

    /// Whether a key is the window's, and not the guest's.
    fn keeps(&mut self, code: u16, pressed: bool, wishes: &mut Vec<Wish>) -> bool {
        let code = match self.own.take(code.into(), pressed) {
            Kept::No => return false,
            Kept::Yes => return true,
            Kept::Tapped => {
                self.orders.push(Order::Menu);
                return true;
            }
            Kept::Pressed(_) => code,
        };
        match code {
            key::F => self.orders.push(Order::Fullscreen),
            key::S => self.orders.push(Order::Apps),
            key::DELETE => wishes.extend(ctrl_alt_delete()),
            code => {
                let number = (1..=12).find(|number| function_key(*number) == Some(code));
                wishes.extend(number.into_iter().flat_map(ctrl_alt_function));
            }
        }
        true
    }

    /// Of places that follow each other only the last one counts.
    fn point(&self, place: Wish, wishes: &mut Vec<Wish>) {
        match wishes.last_mut() {
            Some(last @ Wish::Pointer { .. }) => *last = place,
            _ => wishes.push(place),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "clamped to a few detents")]
    fn wheel(&mut self, vertical: Scroll, horizontal: Scroll, wishes: &mut Vec<Wish>) {
        let mut detents = [0_i8; 2];
        for (axis, scroll) in [vertical, horizontal].into_iter().enumerate() {
            let turned = if scroll.v120 == 0 {
                scroll.pixels * f64::from(DETENT) / FINGER
            } else {
                f64::from(scroll.v120)
            };
            let (Some(sum), Some(whole)) = (self.turned.get_mut(axis), detents.get_mut(axis)) else {
                continue;
            };
            *sum = if turned.is_finite() { (*sum + turned).clamp(-12_000.0, 12_000.0) } else { 0.0 };
            *whole = (*sum / f64::from(DETENT)).trunc() as i8;
            *sum -= f64::from(*whole) * f64::from(DETENT);
        }
        let [down, right] = detents;
        if (down, right) != (0, 0) {
            wishes.push(Wish::Wheel { up: -down, right });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::display::SurfaceId;
    use inlay_protocol::geometry::Size;
    use inlay_protocol::input::{AxisSource, Modifiers};

    #[derive(Default)]
    struct Bench {
        input: Input,
        wishes: Vec<Wish>,
    }

    impl Bench {
        fn take(&mut self, event: InputEvent) -> bool {
            let layout = Layout::new(Size::new(100, 100), 120, None);
            self.input.take(event, &layout, &mut self.wishes).is_none()
        }

        fn enter(&mut self, surface: SurfaceId) -> bool {
            self.take(InputEvent::PointerEnter { surface, x: 0.0, y: 0.0 })
        }
    }

    fn key(key: u32, pressed: bool) -> InputEvent {
        InputEvent::Key { time_ms: 0, key, pressed }
    }

    #[test]
    fn keys_are_the_guests_while_its_window_has_them_and_go_up_with_it() {
        let mut b = Bench::default();
        assert!(!b.take(key(30, true)));
        assert_eq!(b.input.focus(true), None);
        assert!(
            b.take(key(30, true))
                && b.take(key(0, true))
                && b.take(key(249, true))
                && b.take(key(70000, true))
        );
        assert!(b.take(InputEvent::Modifiers(Modifiers::default())));
        assert_eq!(b.wishes, [Wish::Key { key: 30, pressed: true }]);
        assert_eq!(b.input.focus(false), Some(Wish::Released));
        assert_eq!(b.input.focus(false), None);
        assert!(!b.take(key(30, false)));
    }

    #[test]
    fn the_right_ctrl_key_is_the_windows_own() {
        let mut b = Bench::default();
        b.input.focus(true);
        let mut typed = |events: &[(u16, bool)]| {
            events.iter().for_each(|(code, pressed)| assert!(b.take(key((*code).into(), *pressed))));
            (std::mem::take(&mut b.wishes), b.input.orders())
        };
        assert_eq!(typed(&[(97, true), (97, false)]), (vec![], vec![Order::Menu]));
        let combined = |code: u16| {
            let press = |key, pressed| Wish::Key { key, pressed };
            let down = [29, 56, code].map(|key| press(key, true));
            down.into_iter().chain([code, 56, 29].map(|key| press(key, false))).collect::<Vec<_>>()
        };
        // F2 is let go after the window's own key, and is not the guest's all the same.
        assert_eq!(typed(&[(97, true), (60, true), (97, false), (60, false)]), (combined(60), vec![]));
        assert_eq!(typed(&[(97, true), (88, true), (88, false), (97, false)]), (combined(88), vec![]));
        assert_eq!(typed(&[(97, true), (111, true), (111, false), (97, false)]), (combined(111), vec![]));
        assert_eq!(
            typed(&[(97, true), (33, true), (33, false), (97, false)]),
            (vec![], vec![Order::Fullscreen])
        );
        assert_eq!(typed(&[(97, true), (30, true), (30, false), (97, false)]), (vec![], vec![]));
        assert_eq!(typed(&[(60, true), (60, false)]).0.len(), 2);
        assert_eq!(function_key(13), None);
    }

    #[test]
    fn the_pointer_is_the_guests_in_its_window() {
        let mut b = Bench::default();
        let motion = |x| InputEvent::PointerMotion { time_ms: 0, x, y: 0.0 };
        let button = |button| InputEvent::PointerButton { time_ms: 0, button, pressed: true };
        assert!(!b.take(motion(1.0)) && !b.enter(SurfaceId(7)) && !b.take(button(0x110)));
        assert!(b.enter(WINDOW) && b.take(motion(50.0)) && b.take(motion(100.0)));
        assert!(b.take(button(0x110)) && b.take(button(0x115)) && b.take(motion(0.0)));
        assert_eq!(
            b.wishes,
            [
                Wish::Pointer { x: 32767, y: 0 },
                Wish::Button { button: 0x110, pressed: true },
                Wish::Pointer { x: 0, y: 0 },
            ]
        );
        assert!(b.take(InputEvent::PointerLeave) && !b.take(InputEvent::PointerLeave));
        assert!(b.enter(WINDOW) && !b.enter(SurfaceId(7)) && !b.take(motion(1.0)));
    }

    #[test]
    fn wheels_turn_by_whole_detents() {
        let mut b = Bench::default();
        b.enter(WINDOW);
        b.wishes.clear();
        let mut scroll = |v120, pixels| {
            let vertical = Scroll { v120, pixels, stop: false };
            let (time_ms, source) = (0, AxisSource::Wheel);
            b.take(InputEvent::PointerAxis { time_ms, source, vertical, horizontal: Scroll::default() });
            std::mem::take(&mut b.wishes)
        };
        assert_eq!(scroll(-120, -15.0), [Wish::Wheel { up: 1, right: 0 }]);
        assert_eq!(scroll(60, 7.5), []);
        assert_eq!(scroll(60, 7.5), [Wish::Wheel { up: -1, right: 0 }]);
        assert_eq!(scroll(0, 45.0), [Wish::Wheel { up: -3, right: 0 }]);
        assert_eq!(scroll(0, f64::NAN), []);
        assert_eq!(scroll(i32::MAX, 0.0), [Wish::Wheel { up: -100, right: 0 }]);
    }
}
