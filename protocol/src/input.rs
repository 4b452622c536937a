//! Pointer and keys, from the window process to the agent. Part of the display session.
//!
//! Keys are evdev codes without repeats: the guest repeats. Focus brings keymap (if changed), held keys, modifiers and
//! locks in one message; its loss lifts all keys.

use serde::{Deserialize, Serialize};

use crate::display::SurfaceId;
use crate::framing::Invalid;
use crate::limits;

/// Modifier state as XKB has it (`wl_keyboard.modifiers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Modifiers {
    /// Held.
    pub depressed: u32,
    /// Until the next key.
    pub latched: u32,
    /// Until pressed again.
    pub locked: u32,
    /// The effective layout.
    pub group: u32,
}

/// Where an axis event comes from (`wl_pointer.axis_source`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are wl_pointer.axis_source's own")]
pub enum AxisSource {
    Wheel,
    Finger,
    Continuous,
}

/// One axis of a scroll.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Scroll {
    /// Distance in logical pixels (`wl_pointer.axis`).
    pub pixels: f64,
    /// Distance in 120ths of a wheel detent (`axis_value120`), 0 when there is no wheel.
    pub v120: i32,
    /// Whether a finger was lifted (`axis_stop`).
    pub stop: bool,
}

/// Pointer and keys. Places are in logical pixels of the window's root surface; times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InputEvent {
    /// The keymap in XKB's text form.
    Keymap(String),
    /// How the guest repeats keys.
    Repeat {
        /// Keys a second; 0 is never.
        rate: u32,
        /// Milliseconds before the first repeat.
        delay: u32,
    },
    /// A window has the keyboard focus.
    KeyboardEnter {
        /// The surface of the toplevel or popup.
        surface: SurfaceId,
        /// Held keys, evdev codes.
        keys: Vec<u32>,
        /// Modifiers and locks.
        modifiers: Modifiers,
    },
    /// No window has it: all keys are up.
    KeyboardLeave,
    /// A key goes down or up.
    Key {
        /// When.
        time_ms: u64,
        /// Evdev code.
        key: u32,
        /// Down.
        pressed: bool,
    },
    /// Modifiers changed.
    Modifiers(Modifiers),
    /// The pointer is over a window.
    PointerEnter {
        /// The surface of the toplevel or popup.
        surface: SurfaceId,
        /// Where.
        x: f64,
        /// Where.
        y: f64,
    },
    /// The pointer is over none.
    PointerLeave,
    /// It moves within the window that it entered.
    PointerMotion {
        /// When.
        time_ms: u64,
        /// Where.
        x: f64,
        /// Where.
        y: f64,
    },
    /// A button goes down or up.
    PointerButton {
        /// When.
        time_ms: u64,
        /// Evdev code, `BTN_LEFT` is 0x110.
        button: u32,
        /// Down.
        pressed: bool,
    },
    /// A wheel or a finger scrolls.
    PointerAxis {
        /// When.
        time_ms: u64,
        /// What.
        source: AxisSource,
        /// Sideways, right is positive.
        horizontal: Scroll,
        /// Down is positive.
        vertical: Scroll,
    },
    /// How far the pointer is moved, whether its place changes or not (`zwp_relative_pointer_v1`); while a window has it held.
    PointerRelative {
        /// When, in microseconds.
        time_us: u64,
        /// Logical pixels to the right and down, as the desktop moves a pointer.
        delta: (f64, f64),
        /// The same, as the device moved.
        unaccelerated: (f64, f64),
    },
}

impl InputEvent {
    /// Checks limits and finite numbers.
    ///
    /// # Errors
    /// The first field out of its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        let near = |v: f64| v.is_finite() && v.abs() <= f64::from(limits::COORDINATE);
        match self {
            Self::Keymap(text) => Invalid::unless(text.len() <= limits::KEYMAP, "keymap"),
            Self::Repeat { rate, delay } => Invalid::unless(*rate <= 1000 && *delay <= 60_000, "key repeat"),
            Self::KeyboardEnter { keys, .. } => {
                Invalid::unless(keys.len() <= limits::KEYS && keys.iter().all(|k| *k < 0x2ff), "held keys")
            }
            Self::Key { key, .. } => Invalid::unless(*key < 0x2ff, "key"),
            Self::PointerEnter { x, y, .. } | Self::PointerMotion { x, y, .. } => {
                Invalid::unless(near(*x) && near(*y), "pointer place")
            }
            Self::PointerButton { button, .. } => Invalid::unless(*button < 0x2ff, "button"),
            Self::PointerAxis { horizontal, vertical, .. } => {
                Invalid::unless(near(horizontal.pixels) && near(vertical.pixels), "scroll")
            }
            Self::PointerRelative { delta, unaccelerated, .. } => {
                let all = [delta.0, delta.1, unaccelerated.0, unaccelerated.1];
                Invalid::unless(all.into_iter().all(near), "pointer movement")
            }
            Self::KeyboardLeave | Self::PointerLeave | Self::Modifiers(_) => Ok(()),
        }
    }
}
