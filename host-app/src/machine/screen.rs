//! The guest's screen, keyboard and pointer as the machine process has them: what the window process wishes goes to the devices.
//!
//! The engine makes the devices and leaves their host sides here ([`Controls`]).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use inlay_protocol::memory::{PLACES, Show, Wish};
use inlay_vmm_core::devices::gpu::ScreenHandle;
use inlay_vmm_core::devices::input::{AXIS_MAX, Event, Input, InputHandle, Kind};

/// The size of the screen before the window process says another.
pub const FIRST_SIZE: (u32, u32) = (1280, 800);

/// evdev's event types and codes.
mod ev {
    pub const KEY: u16 = 1;
    pub const REL: u16 = 2;
    pub const ABS: u16 = 3;
    pub const REL_HWHEEL: u16 = 6;
    pub const REL_WHEEL: u16 = 8;
    pub const ABS_X: u16 = 0;
    pub const ABS_Y: u16 = 1;
}

const _: () = assert!(PLACES as u32 == AXIS_MAX);

/// The host sides of the devices.
#[derive(Debug, Clone)]
struct Controls {
    keyboard: InputHandle,
    pointer: InputHandle,
}

/// The devices' host sides, for whoever makes the devices and whoever works them.
#[derive(Debug, Clone)]
pub struct Devices {
    screen: ScreenHandle,
    controls: Arc<Mutex<Option<Controls>>>,
}

impl Devices {
    /// A screen that is off, and no keyboard or pointer yet.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { screen: ScreenHandle::new()?, controls: Arc::default() })
    }

    /// For the gpu device.
    #[must_use]
    pub fn screen(&self) -> ScreenHandle {
        self.screen.clone()
    }

    /// Makes the keyboard and the pointer.
    ///
    /// # Errors
    /// The host has no descriptor for them.
    pub fn inputs(&self) -> io::Result<[Input; 2]> {
        let [keyboard, pointer] = [Input::new(Kind::Keyboard)?, Input::new(Kind::Pointer)?];
        let controls = Controls { keyboard: keyboard.handle(), pointer: pointer.handle() };
        *self.controls.lock().unwrap_or_else(PoisonError::into_inner) = Some(controls);
        Ok([keyboard, pointer])
    }

    fn controls(&self) -> Option<Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is shown, and what is held down.
#[derive(Debug)]
pub struct Screen {
    devices: Devices,
    show: Option<Show>,
    held: BTreeSet<u16>,
    /// What the display was last told.
    size: Option<(u32, u32)>,
}

impl Screen {
    /// Nothing is shown.
    #[must_use]
    pub fn new(devices: Devices) -> Self {
        Self { devices, show: None, held: BTreeSet::new(), size: None }
    }

    /// How it is shown, if it is.
    #[must_use]
    pub fn shown(&self) -> Option<Show> {
        self.show
    }

    /// Shows it from now on: the guest has a display.
    pub fn show(&mut self, how: Show) {
        self.show = Some(how);
        self.set_size(Some(self.size.unwrap_or(FIRST_SIZE)));
    }

    /// Shows it no more. The guest keeps what it draws on: a display that goes would end what draws there.
    fn hide(&mut self) {
        self.release();
        self.show = None;
    }

    fn set_size(&mut self, size: Option<(u32, u32)>) {
        if self.size != size {
            self.size = size;
            self.devices.screen.set_display(size);
        }
    }

    /// Does what the window process wishes of the screen; `true` when the user closed the window.
    pub fn take(&mut self, wish: Wish) -> bool {
        if self.show.is_none() {
            // What was on its way when it was closed.
            return false;
        }
        match wish {
            // For the memory channel, and for the machine.
            Wish::Drawn | Wish::Windows(_) | Wish::Needed | Wish::Screen | Wish::Wait => {}
            Wish::Size(size) => self.set_size(Some((size.width, size.height))),
            Wish::Closed => {
                self.hide();
                return true;
            }
            Wish::Key { key: code, pressed } | Wish::Button { button: code, pressed } => {
                self.press(code, pressed);
            }
            Wish::Pointer { x, y } => {
                self.point(&[(ev::ABS, ev::ABS_X, x.into()), (ev::ABS, ev::ABS_Y, y.into())])
            }
            Wish::Wheel { up, right } => {
                let turned = [(ev::REL, ev::REL_WHEEL, up.into()), (ev::REL, ev::REL_HWHEEL, right.into())];
                let turned: Vec<_> = turned.into_iter().filter(|(_, _, by)| *by != 0).collect();
                self.point(&turned);
            }
            Wish::Released => self.release(),
        }
        false
    }

    /// All keys and buttons go up.
    pub fn release(&mut self) {
        while let Some(code) = self.held.first().copied() {
            self.press(code, false);
        }
    }

    fn press(&mut self, code: u16, pressed: bool) {
        let changed = if pressed { self.held.insert(code) } else { self.held.remove(&code) };
        if !changed {
            return;
        }
        let Some(controls) = self.devices.controls() else { return };
        let device = if code >= 0x110 { controls.pointer } else { controls.keyboard };
        let key = Event { kind: ev::KEY, code, value: pressed.into() };
        if !device.send(&[key, Event::SYN]) {
            tracing::warn!("the guest takes no input: a key is lost");
        }
    }

    fn point(&self, what: &[(u16, u16, i32)]) {
        let Some(controls) = self.devices.controls() else { return };
        let report: Vec<_> = what.iter().map(|&(kind, code, value)| Event { kind, code, value }).collect();
        if !report.is_empty() {
            // A movement that the guest has no room for is followed by others.
            controls.pointer.send(&report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::geometry::Size;

    #[test]
    fn the_screen_is_on_from_the_first_look_and_keeps_its_size() {
        let devices = Devices::new().unwrap();
        let handle = devices.screen();
        let mut screen = Screen::new(devices);
        assert!(!screen.take(Wish::Size(Size::new(800, 600))));
        assert_eq!(handle.display(), None, "nobody looks");
        screen.show(Show::default());
        assert_eq!(handle.display(), Some(FIRST_SIZE));
        screen.take(Wish::Size(Size::new(800, 600)));
        assert!(screen.take(Wish::Closed));
        assert_eq!(screen.shown(), None);
        assert!(!screen.take(Wish::Closed), "once");
        screen.show(Show { fullscreen: true });
        assert_eq!(handle.display(), Some((800, 600)));
    }

    #[test]
    fn keys_are_held_once_and_all_go_up_with_the_window() {
        let devices = Devices::new().unwrap();
        let inputs = devices.inputs().unwrap();
        let mut screen = Screen::new(devices);
        screen.show(Show::default());
        let key = |key, pressed| Wish::Key { key, pressed };
        for wish in [key(29, true), key(29, true), key(30, true), key(30, false), key(31, false)] {
            screen.take(wish);
        }
        screen.take(Wish::Button { button: 0x110, pressed: true });
        assert_eq!(screen.held, BTreeSet::from([29, 0x110]));
        screen.take(Wish::Closed);
        assert!(screen.held.is_empty());
        let sent = |input: &Input| {
            let state = inlay_vmm_core::virtio::Device::save(input);
            let events = state["pending"].as_array().unwrap().clone();
            let number = |event: &serde_json::Value, what: &str| event[what].as_i64().unwrap();
            let keys = events.iter().filter(|event| number(event, "kind") == 1);
            keys.map(|event| (number(event, "code"), number(event, "value"))).collect::<Vec<_>>()
        };
        assert_eq!(sent(&inputs[0]), [(29, 1), (30, 1), (30, 0), (29, 0)]);
        assert_eq!(sent(&inputs[1]), [(0x110, 1), (0x110, 0)]);
    }
}
