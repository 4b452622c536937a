//! Input path, hop 1 of 4: the host's keymap and modifiers, by XKB.

use anyhow::Context;
use inlay_protocol::input::Modifiers;
use x11rb::protocol::xkb::{self, ConnectionExt as _};
use x11rb::protocol::xproto::KeymapNotifyEvent;
use x11rb::xcb_ffi::XCBConnection;
use xkbcommon::xkb as common;

use super::Keymap;

/// `XkbUseCoreKbd`.
const CORE: u16 = 0x100;

/// The core keyboard.
#[derive(Debug)]
pub struct Keyboard {
    device: i32,
    /// Modifiers and locks, as the events that were taken tell them.
    pub modifiers: Modifiers,
    /// Keys that were held when the focus came, evdev codes.
    pub held: Vec<u32>,
}

impl Keyboard {
    /// Sets the extension up: detectable repeats, notice of state and map changes.
    ///
    /// # Errors
    /// When the display has no XKB.
    pub fn new(connection: &XCBConnection) -> anyhow::Result<Self> {
        let [mut major, mut minor] = [0; 2];
        let [mut event, mut error] = [0; 2];
        let there = common::x11::setup_xkb_extension(
            connection,
            common::x11::MIN_MAJOR_XKB_VERSION,
            common::x11::MIN_MINOR_XKB_VERSION,
            common::x11::SetupXkbExtensionFlags::NoFlags,
            &mut major,
            &mut minor,
            &mut event,
            &mut error,
        );
        anyhow::ensure!(there, "the X display has no XKB extension");
        let _ = connection.xkb_use_extension(1, 0)?.reply()?;
        let device = common::x11::get_core_keyboard_device_id(connection);
        anyhow::ensure!(device >= 0, "the X display has no core keyboard");
        let repeat = xkb::PerClientFlag::DETECTABLE_AUTO_REPEAT;
        let none = xkb::BoolCtrl::from(0_u32);
        connection.xkb_per_client_flags(CORE, repeat, repeat, none, none, none)?.reply()?;
        let events =
            xkb::EventType::STATE_NOTIFY | xkb::EventType::MAP_NOTIFY | xkb::EventType::NEW_KEYBOARD_NOTIFY;
        let parts = xkb::MapPart::KEY_TYPES | xkb::MapPart::KEY_SYMS | xkb::MapPart::MODIFIER_MAP;
        let clear = xkb::EventType::from(0_u16);
        connection
            .xkb_select_events(CORE, clear, events, parts, parts, &xkb::SelectEventsAux::new())?
            .check()
            .context("the X display refuses keyboard events")?;
        let mut keyboard = Self { device, modifiers: Modifiers::default(), held: Vec::new() };
        keyboard.read_modifiers(connection);
        Ok(keyboard)
    }

    /// Asks for modifiers and locks: another keyboard may have others without an event that says so.
    pub fn read_modifiers(&mut self, connection: &XCBConnection) {
        let Some(state) = connection.xkb_get_state(CORE).ok().and_then(|c| c.reply().ok()) else { return };
        self.modifiers = Modifiers {
            depressed: u16::from(state.base_mods).into(),
            latched: u16::from(state.latched_mods).into(),
            locked: u16::from(state.locked_mods).into(),
            group: u8::from(state.group).into(),
        };
    }

    /// The keymap and key repeat.
    pub fn describe(&self, connection: &XCBConnection) -> Option<Keymap> {
        let context = common::Context::new(common::CONTEXT_NO_FLAGS);
        let keymap = common::x11::keymap_new_from_device(
            &context,
            connection,
            self.device,
            common::KEYMAP_COMPILE_NO_FLAGS,
        );
        if keymap.get_raw_ptr().is_null() {
            tracing::warn!("the host's keymap cannot be read");
            return None;
        }
        let text = keymap.get_as_string(common::KEYMAP_FORMAT_TEXT_V1);
        let controls = connection.xkb_get_controls(CORE).ok()?.reply().ok();
        let (rate, delay) = controls
            .map_or((25, 600), |c| (1000 / u32::from(c.repeat_interval.max(1)), u32::from(c.repeat_delay)));
        Some(Keymap { text, rate, delay })
    }
}

/// Keys that were held when the display sent this, evdev codes: it follows each `FocusIn`.
///
/// What the display says when asked may be newer: a key pressed since then would be held, and its press not count.
pub fn held(event: &KeymapNotifyEvent) -> Vec<u32> {
    // The codes 0 to 7, which no key has, are left out.
    let bit = |code: u32| event.keys.get((code / 8 - 1) as usize).is_some_and(|b| b >> (code % 8) & 1 == 1);
    (8..256).filter(|code| bit(*code)).map(|code| code - 8).collect()
}

/// Modifiers of a state event.
pub fn modifiers_of(event: &xkb::StateNotifyEvent) -> Modifiers {
    Modifiers {
        depressed: u16::from(event.base_mods).into(),
        latched: u16::from(event.latched_mods).into(),
        locked: u16::from(event.locked_mods).into(),
        group: u8::from(event.group).into(),
    }
}
