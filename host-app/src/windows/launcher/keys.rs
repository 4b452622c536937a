//! Keys of the launcher: text by the host's keymap, and what a list needs.

use std::time::{Duration, Instant};

use inlay_protocol::input::Modifiers;
use xkbcommon::xkb;

use crate::windows::presenter::Keymap;

/// X's and xkbcommon's codes begin here.
const FIRST: u32 = 8;
/// Entries that Page Up and Page Down go over.
const PAGE: isize = 8;
/// Characters that one key may type.
const MOST: usize = 16;

/// What a key does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Types.
    Text(String),
    /// Takes the last character back.
    Erase,
    /// Takes all characters back.
    EraseAll,
    /// Goes down, or up.
    Move(isize),
    /// Opens what is marked.
    Choose,
    /// Closes the window.
    Leave,
}

/// The keyboard.
#[derive(Default)]
pub struct Keys {
    state: Option<xkb::State>,
    /// Time before a held key repeats, and between two times.
    rhythm: Option<(Duration, Duration)>,
    held: Option<(u32, Instant)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Keys {
    /// Takes the host's keymap.
    pub fn set_keymap(&mut self, keymap: Option<&Keymap>) {
        let Some(keymap) = keymap else { return };
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let (format, flags) = (xkb::KEYMAP_FORMAT_TEXT_V1, xkb::KEYMAP_COMPILE_NO_FLAGS);
        let compiled = xkb::Keymap::new_from_string(&context, keymap.text.clone(), format, flags);
        if compiled.is_none() {
            tracing::warn!("the keymap cannot be read: nothing can be typed");
        }
        self.state = compiled.map(|keymap| xkb::State::new(&keymap));
        let between = Duration::from_secs(1).checked_div(keymap.rate);
        self.rhythm = between.map(|between| (Duration::from_millis(keymap.delay.into()), between));
    }

    /// Takes modifiers and layout.
    pub fn modifiers(&mut self, modifiers: Modifiers) {
        if let Some(state) = &mut self.state {
            let Modifiers { depressed, latched, locked, group } = modifiers;
            state.update_mask(depressed, latched, locked, 0, 0, group);
        }
    }

    /// No key is held any more.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// A key goes down or up, by evdev's code; what that does.
    pub fn key(&mut self, key: u32, pressed: bool, now: Instant) -> Option<Typed> {
        if !pressed {
            self.held = self.held.filter(|(held, _)| *held != key);
            return None;
        }
        self.held = self.rhythm.map(|(delay, _)| (key, now + delay));
        self.meaning(key)
    }

    /// When the held key is due again.
    pub fn due(&self) -> Option<Instant> {
        self.held.map(|(_, at)| at)
    }

    /// What the held key does once more, if it is time.
    pub fn repeated(&mut self, now: Instant) -> Option<Typed> {
        let ((_, between), (key, at)) = (self.rhythm?, self.held?);
        if at > now {
            return None;
        }
        self.held = Some((key, now + between));
        // Held down it opens nothing a second time.
        self.meaning(key).filter(|typed| !matches!(typed, Typed::Choose | Typed::Leave))
    }

    fn meaning(&self, key: u32) -> Option<Typed> {
        use xkb::keysyms as sym;
        let state = self.state.as_ref()?;
        let code = xkb::Keycode::new(key + FIRST);
        let active = |name| state.mod_name_is_active(name, xkb::STATE_MODS_EFFECTIVE);
        let (ctrl, shift) = (active(xkb::MOD_NAME_CTRL), active(xkb::MOD_NAME_SHIFT));
        match state.key_get_one_sym(code).raw() {
            sym::KEY_Escape => Some(Typed::Leave),
            sym::KEY_Return | sym::KEY_KP_Enter => Some(Typed::Choose),
            sym::KEY_BackSpace if ctrl => Some(Typed::EraseAll),
            sym::KEY_u if ctrl => Some(Typed::EraseAll),
            sym::KEY_BackSpace => Some(Typed::Erase),
            sym::KEY_Down | sym::KEY_KP_Down => Some(Typed::Move(1)),
            sym::KEY_Up | sym::KEY_KP_Up => Some(Typed::Move(-1)),
            sym::KEY_Tab if !shift => Some(Typed::Move(1)),
            sym::KEY_ISO_Left_Tab | sym::KEY_Tab => Some(Typed::Move(-1)),
            sym::KEY_Page_Down => Some(Typed::Move(PAGE)),
            sym::KEY_Page_Up => Some(Typed::Move(-PAGE)),
            _ if ctrl => None,
            _ => {
                let text: String =
                    state.key_get_utf8(code).chars().filter(|c| !c.is_control()).take(MOST).collect();
                (!text.is_empty()).then_some(Typed::Text(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let map =
            xkb::Keymap::new_from_names(&context, "", "", "us,de", "", None, xkb::KEYMAP_COMPILE_NO_FLAGS);
        let text = map.unwrap().get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1);
        let mut keys = Keys::default();
        keys.set_keymap(Some(&Keymap { text, rate: 25, delay: 600 }));
        keys
    }

    #[test]
    fn text_is_typed_by_the_layout_and_repeats() {
        let mut keys = keys();
        let now = Instant::now();
        let text = |text: &str| Some(Typed::Text(text.into()));
        assert_eq!(keys.key(21, true, now), text("y"));
        keys.key(21, false, now);
        keys.modifiers(Modifiers { group: 1, ..Modifiers::default() });
        assert_eq!(keys.key(21, true, now), text("z"));
        keys.modifiers(Modifiers { depressed: 1, group: 1, ..Modifiers::default() });
        assert_eq!(keys.key(12, true, now), text("?"));
        assert_eq!(keys.repeated(now), None);
        assert_eq!(keys.repeated(now + Duration::from_millis(601)), text("?"));
        assert_eq!(keys.repeated(now + Duration::from_millis(602)), None);
        keys.key(12, false, now);
        assert_eq!(keys.repeated(now + Duration::from_secs(9)), None);
        // Ctrl with a letter types nothing.
        keys.modifiers(Modifiers { depressed: 4, ..Modifiers::default() });
        assert_eq!(keys.key(30, true, now), None);
        assert_eq!(keys.key(22, true, now), Some(Typed::EraseAll));
        keys.modifiers(Modifiers::default());
        assert_eq!(keys.key(28, true, now), Some(Typed::Choose));
        assert_eq!(keys.repeated(now + Duration::from_secs(9)), None, "it opens once");
        assert_eq!(keys.key(108, true, now), Some(Typed::Move(1)));
    }
}
