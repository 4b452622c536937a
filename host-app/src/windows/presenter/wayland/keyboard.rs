//! Input path, hop 1 of 4: keys (`wl_keyboard`), their codes as they come, without repeats.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use inlay_protocol::display::SurfaceId;
use inlay_protocol::input::{InputEvent, Modifiers};
use inlay_protocol::limits;
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum};

use super::super::{HostEvent, Keymap};
use super::State;

/// The keyboard, and where its focus is.
#[derive(Debug)]
pub struct Keyboard {
    keyboard: Option<WlKeyboard>,
    text: Option<String>,
    rate: u32,
    delay: u32,
    /// The window with the focus, a toplevel or a popup.
    focus: Option<SurfaceId>,
    keys: Vec<u32>,
    modifiers: Modifiers,
    /// The focus changed since it was told.
    news: bool,
    /// The serial of the newest press of a key.
    pub press: Option<u32>,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            keyboard: None,
            text: None,
            // Until the compositor says.
            rate: 25,
            delay: 600,
            focus: None,
            keys: Vec::new(),
            modifiers: Modifiers::default(),
            news: false,
            press: None,
        }
    }
}

impl Keyboard {
    /// The seat has a keyboard.
    pub fn take(&mut self, seat: &WlSeat, handle: &QueueHandle<State>) {
        self.keyboard.get_or_insert_with(|| seat.get_keyboard(handle, ()));
    }

    /// The keymap and the repeats, when they are known.
    pub fn keymap(&self) -> Option<Keymap> {
        Some(Keymap { text: self.text.clone()?, rate: self.rate, delay: self.delay })
    }

    /// Whether the focus left a window of ours and has not come to another.
    pub fn left_for_nowhere(&self) -> bool {
        self.news && self.focus.is_none()
    }

    /// The window with the focus.
    pub fn focus(&self) -> Option<SurfaceId> {
        self.focus
    }

    fn leave(&mut self) {
        self.focus = None;
        self.keys.clear();
        self.news = true;
    }
}

impl State {
    /// The seat has no keyboard any more.
    pub(super) fn drop_keyboard(&mut self) {
        if let Some(keyboard) = self.keyboard.keyboard.take() {
            if keyboard.version() >= 3 {
                keyboard.release();
            }
            self.keyboard.leave();
        }
    }

    /// A window of ours goes.
    pub(super) fn left_by_keyboard(&mut self, surface: &WlSurface) {
        if let Some(id) = surface.data::<SurfaceId>()
            && self.keyboard.focus == Some(*id)
        {
            self.keyboard.leave();
        }
    }

    /// Where the focus is, if it changed since it was told.
    pub(super) fn tell_focus(&mut self) -> Option<HostEvent> {
        if !std::mem::take(&mut self.keyboard.news) {
            return None;
        }
        let window = self.keyboard.focus.and_then(|id| self.toplevel_of(id));
        let keys = self.keyboard.keys.clone();
        Some(HostEvent::Focus { window, keys, modifiers: self.keyboard.modifiers })
    }

    /// The serial of the newest press of a key or button.
    pub(super) fn newest_press(&self) -> Option<u32> {
        let [key, button] = [self.keyboard.press, self.pointer.newest_press()];
        match (key, button) {
            // Serials wrap around.
            (Some(key), Some(button)) => {
                Some(if key.wrapping_sub(button).cast_signed() > 0 { key } else { button })
            }
            (one, other) => one.or(other),
        }
    }

    fn key(&mut self, time: u32, key: u32, pressed: bool) {
        // What is held when the focus is told is told with it.
        if let Some(event) = self.tell_focus() {
            self.events.push(event);
        }
        if pressed {
            if !self.keyboard.keys.contains(&key) && self.keyboard.keys.len() < limits::KEYS {
                self.keyboard.keys.push(key);
            }
        } else {
            self.keyboard.keys.retain(|held| *held != key);
        }
        self.events.push(HostEvent::Input(InputEvent::Key { time_ms: time.into(), key, pressed }));
    }
}

/// The text of a keymap in a file; `None` when it is none or too long.
fn read_keymap(file: OwnedFd, size: u32) -> Option<String> {
    let size = usize::try_from(size).ok().filter(|size| (1..=limits::KEYMAP + 1).contains(size))?;
    let mut bytes = vec![0; size];
    if let Err(error) = File::from(file).read_exact_at(&mut bytes, 0) {
        tracing::warn!("the keymap cannot be read: {error}");
        return None;
    }
    // It ends with a zero.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(size);
    bytes.truncate(end);
    String::from_utf8(bytes).ok()
}

impl Dispatch<WlKeyboard, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlKeyboard,
        event: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let keyboard = &mut state.keyboard;
        match event {
            wl_keyboard::Event::Keymap { format: WEnum::Value(format), fd, size } => {
                if format == wl_keyboard::KeymapFormat::XkbV1
                    && let Some(text) = read_keymap(fd, size)
                    && keyboard.text.as_ref() != Some(&text)
                {
                    keyboard.text = Some(text);
                    state.events.push(HostEvent::Keyboard);
                }
            }
            wl_keyboard::Event::RepeatInfo { rate, delay } => {
                let sane = |v: i32, most: u32| u32::try_from(v).unwrap_or(0).min(most);
                let new = (sane(rate, 1000), sane(delay, 60_000));
                if new != (keyboard.rate, keyboard.delay) {
                    (keyboard.rate, keyboard.delay) = new;
                    state.events.push(HostEvent::Keyboard);
                }
            }
            wl_keyboard::Event::Enter { surface, keys, .. } => {
                keyboard.focus = surface.data::<SurfaceId>().copied();
                let held = keys.chunks_exact(4).filter_map(|four| four.try_into().ok());
                keyboard.keys = held.map(u32::from_ne_bytes).take(limits::KEYS).collect();
                keyboard.news = true;
            }
            wl_keyboard::Event::Leave { surface, .. }
                if surface.data::<SurfaceId>().copied() == keyboard.focus =>
            {
                keyboard.leave();
            }
            wl_keyboard::Event::Key { serial, time, key, state: WEnum::Value(how) } => {
                // A repeat that the compositor makes is none of ours.
                if how == wl_keyboard::KeyState::Pressed {
                    keyboard.press = Some(serial);
                    state.key(time, key, true);
                } else if how == wl_keyboard::KeyState::Released {
                    state.key(time, key, false);
                }
            }
            wl_keyboard::Event::Modifiers { mods_depressed, mods_latched, mods_locked, group, .. } => {
                let modifiers = Modifiers {
                    depressed: mods_depressed,
                    latched: mods_latched,
                    locked: mods_locked,
                    group,
                };
                keyboard.modifiers = modifiers;
                if !keyboard.news {
                    state.events.push(HostEvent::Input(InputEvent::Modifiers(modifiers)));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_keymap_is_read_up_to_its_end() {
        let read = |text: &[u8], size: u32| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text).unwrap();
            read_keymap(file.into(), size)
        };
        assert_eq!(read(b"xkb_keymap {};\0", 15).as_deref(), Some("xkb_keymap {};"));
        assert_eq!(read(b"xkb", 3).as_deref(), Some("xkb"));
        assert_eq!(read(b"xkb", 4), None, "shorter than it says");
        assert_eq!(read(b"\xff\xfe\0", 3), None);
        assert_eq!(read(b"", 0), None);
        assert_eq!(read(b"x", u32::MAX), None);
    }
}
