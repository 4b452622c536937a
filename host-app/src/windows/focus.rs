//! Input path, hop 2 of 4: who gets keys and pointer, so that the guest's seat is never in doubt.
//!
//! The host's focus is a toplevel; keys may be aimed at a popup with a grab in it. Whenever the aim changes the agent gets
//! one message with the held keys and the modifiers, so both ends agree whatever happened in between.

use inlay_protocol::display::SurfaceId;
use inlay_protocol::input::{InputEvent, Modifiers};
use inlay_protocol::limits;

/// Focus of keyboard and pointer.
#[derive(Debug, Default)]
pub struct Focus {
    window: Option<SurfaceId>,
    keys: Vec<u32>,
    modifiers: Modifiers,
    aimed: Option<SurfaceId>,
    pointed: Option<SurfaceId>,
}

impl Focus {
    /// The host's focus changed.
    pub fn host(&mut self, window: Option<SurfaceId>, mut keys: Vec<u32>, modifiers: Modifiers) {
        keys.truncate(limits::KEYS);
        if window.is_some() && window == self.window && keys != self.keys {
            // Keys went up or down while somebody else had them: the agent is told again.
            self.aimed = None;
        }
        self.window = window;
        self.keys = if window.is_some() { keys } else { Vec::new() };
        self.modifiers = modifiers;
    }

    /// The toplevel with the host's focus.
    #[must_use]
    pub fn window(&self) -> Option<SurfaceId> {
        self.window
    }

    /// The window under the pointer.
    #[must_use]
    pub fn pointed(&self) -> Option<SurfaceId> {
        self.pointed
    }

    /// The agent knows nothing any more.
    pub fn forget(&mut self) {
        self.aimed = None;
    }

    /// Aims the keys at a surface; the message for the agent when that is a change.
    pub fn aim(&mut self, surface: Option<SurfaceId>) -> Option<InputEvent> {
        if surface == self.aimed {
            return None;
        }
        self.aimed = surface;
        Some(match surface {
            Some(surface) => {
                InputEvent::KeyboardEnter { surface, keys: self.keys.clone(), modifiers: self.modifiers }
            }
            None => InputEvent::KeyboardLeave,
        })
    }

    /// Notes an input event on its way to the agent; `false` when nobody is to get it.
    pub fn passes(&mut self, input: &InputEvent) -> bool {
        match input {
            InputEvent::Key { key, pressed: true, .. } => {
                if self.keys.contains(key) || self.keys.len() >= limits::KEYS {
                    return false;
                }
                self.keys.push(*key);
                self.aimed.is_some()
            }
            InputEvent::Key { key, pressed: false, .. } => {
                let held = self.keys.iter().position(|k| k == key);
                held.map(|at| self.keys.swap_remove(at)).is_some() && self.aimed.is_some()
            }
            InputEvent::Modifiers(modifiers) => {
                self.modifiers = *modifiers;
                self.aimed.is_some()
            }
            InputEvent::PointerEnter { surface, .. } => {
                self.pointed = Some(*surface);
                true
            }
            InputEvent::PointerLeave => self.pointed.take().is_some(),
            InputEvent::PointerMotion { .. }
            | InputEvent::PointerRelative { .. }
            | InputEvent::PointerButton { .. }
            | InputEvent::PointerAxis { .. } => self.pointed.is_some(),
            InputEvent::Keymap(_)
            | InputEvent::Repeat { .. }
            | InputEvent::KeyboardEnter { .. }
            | InputEvent::KeyboardLeave => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: u32, pressed: bool) -> InputEvent {
        InputEvent::Key { time_ms: 0, key, pressed }
    }

    #[test]
    fn repeats_and_stray_releases_do_not_pass() {
        let mut focus = Focus::default();
        focus.host(Some(SurfaceId(1)), vec![29], Modifiers::default());
        focus.aim(Some(SurfaceId(1)));
        assert!(focus.passes(&key(30, true)));
        assert!(!focus.passes(&key(30, true)), "a repeat");
        assert!(focus.passes(&key(30, false)));
        assert!(!focus.passes(&key(30, false)), "not held");
        assert!(focus.passes(&key(29, false)), "held since before the focus");
    }

    #[test]
    fn a_popup_takes_the_keys_with_all_that_is_held() {
        let mut focus = Focus::default();
        let modifiers = Modifiers { locked: 2, ..Modifiers::default() };
        focus.host(Some(SurfaceId(1)), vec![], modifiers);
        focus.aim(Some(SurfaceId(1)));
        focus.passes(&key(56, true));
        let enter = InputEvent::KeyboardEnter { surface: SurfaceId(2), keys: vec![56], modifiers };
        assert_eq!(focus.aim(Some(SurfaceId(2))), Some(enter));
        assert_eq!(focus.aim(Some(SurfaceId(2))), None);
        focus.host(Some(SurfaceId(1)), vec![], modifiers);
        let again = InputEvent::KeyboardEnter { surface: SurfaceId(2), keys: vec![], modifiers };
        assert_eq!(focus.aim(Some(SurfaceId(2))), Some(again), "the key went up meanwhile");
        focus.host(None, vec![], modifiers);
        assert_eq!(focus.aim(None), Some(InputEvent::KeyboardLeave));
        assert!(!focus.passes(&key(56, false)), "all keys are up after leave");
    }
}
