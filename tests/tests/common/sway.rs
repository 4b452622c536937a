//! A Wayland desktop without a screen: headless sway, with a pointer and a keyboard of ours.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use inlay_protocol::geometry::Rect;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_pointer::{Axis, AxisSource, ButtonState};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::{
    zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1,
    zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1,
};
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

use super::{Process, eventually};

/// The size of its only output.
pub const SIZE: (u32, u32) = (1280, 720);
/// What the keyboard types; sway's own library completes it.
const KEYMAP: &str =
    "xkb_keymap { xkb_keycodes { include \"evdev+aliases(qwerty)\" }; xkb_types { include \"complete\" };
xkb_compat { include \"complete\" }; xkb_symbols { include \"pc+us+inet(evdev)\" }; };\0";
/// Evdev codes of the characters of the letters' rows of that keymap, from these codes on.
const ROWS: [(u32, &str); 4] =
    [(2, "1234567890-="), (16, "qwertyuiop[]\n"), (30, "asdfghjkl;'"), (44, "zxcvbnm,./")];
const SHIFTED: [(char, char); 4] = [('>', '.'), ('_', '-'), ('"', '\''), ('$', '4')];
const KEY_SPACE: u32 = 57;
const KEY_LEFTSHIFT: u32 = 42;

/// The desktop.
#[derive(Debug)]
pub struct Sway {
    // Dropped in this order.
    _process: Process,
    runtime: tempfile::TempDir,
    /// The size of all outputs together, in logical pixels.
    extent: (u32, u32),
}

/// An output: its size in pixels, its scale, and where it begins; outputs are side by side.
pub type Monitor = ((u32, u32), u32, u32);

impl Sway {
    pub fn start() -> Self {
        Self::start_with(&[(SIZE, 1, 0)], "")
    }

    /// With these outputs, named `HEADLESS-1` and so on, and more lines of configuration (sway(5)).
    pub fn start_with(monitors: &[Monitor], lines: &str) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-sway-").tempdir_in("/tmp").unwrap();
        let config = runtime.path().join("config");
        let mut text = format!("default_border none\nfocus_follows_mouse no\n{lines}\n");
        let mut extent = (0, 0);
        for (number, ((width, height), scale, x)) in (1..).zip(monitors) {
            writeln!(text, "output HEADLESS-{number} mode {width}x{height} scale {scale} position {x} 0")
                .unwrap();
            extent = (extent.0.max(x + width / scale), extent.1.max(height / scale));
        }
        std::fs::write(&config, text).unwrap();
        let mut command = inlay_tests::sway::command(runtime.path(), &config, monitors.len()).unwrap();
        let sway = Self { _process: Process::spawn(&mut command), runtime, extent };
        eventually("sway", || UnixStream::connect(sway.socket()).ok());
        sway
    }

    /// Its Wayland socket; the runtime folder is new, so it has the first name.
    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("wayland-1")
    }

    /// Has it do something (sway(5)).
    pub fn msg(&self, arguments: &[&str]) -> String {
        let socket = std::fs::read_dir(self.runtime.path()).unwrap().flatten().find_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("sway-ipc.").then(|| entry.path())
        });
        let mut command = Command::new("swaymsg");
        command.arg("--raw").arg("--socket").arg(socket.expect("sway's socket")).args(arguments);
        let out = command.output().unwrap();
        assert!(out.status.success(), "swaymsg {arguments:?}: {}", String::from_utf8_lossy(&out.stdout));
        String::from_utf8(out.stdout).unwrap()
    }

    /// What it knows of the window with this title, behind which a machine's name may stand.
    pub fn find(&self, title: &str) -> Option<Value> {
        fn find(node: &Value, title: &str) -> Option<Value> {
            let name = node["name"].as_str().and_then(|name| name.strip_prefix(title));
            let named =
                name.is_some_and(|rest| rest.is_empty() || rest.starts_with(" (") && rest.ends_with(')'));
            if named && node["pid"].is_number() {
                return Some(node.clone());
            }
            let below = ["nodes", "floating_nodes"].into_iter().filter_map(|name| node[name].as_array());
            below.flatten().find_map(|node| find(node, title))
        }
        find(&serde_json::from_str(&self.msg(&["-t", "get_tree"])).unwrap(), title)
    }

    /// Waits for a window.
    pub fn window(&self, title: &str) -> Value {
        eventually(&format!("a window \"{title}\""), || self.find(title))
    }

    /// Where a window's content is on the output.
    pub fn content(&self, title: &str) -> Rect {
        let node = self.window(title);
        let number = |of: &Value| i32::try_from(of.as_i64().unwrap()).unwrap();
        let (outer, inner) = (&node["rect"], &node["window_rect"]);
        let place = |name: &str| number(&outer[name]) + number(&inner[name]);
        let side = |name: &str| number(&inner[name]).unsigned_abs();
        Rect::new(place("x"), place("y"), side("width"), side("height"))
    }

    /// What the output shows.
    pub fn screen(&self) -> image::RgbImage {
        self.screen_of(1)
    }

    /// What an output shows.
    pub fn screen_of(&self, output: u32) -> image::RgbImage {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("screen.png");
        let mut command = Command::new("grim");
        command.args(["-o", &format!("HEADLESS-{output}")]);
        command.arg(&file).env("WAYLAND_DISPLAY", self.socket()).env("XDG_RUNTIME_DIR", self.runtime.path());
        assert!(command.status().unwrap().success(), "grim");
        image::open(&file).unwrap().to_rgb8()
    }

    fn client(&self) -> (EventQueue<Nothing>, wayland_client::globals::GlobalList) {
        let stream = UnixStream::connect(self.socket()).unwrap();
        let connection = Connection::from_socket(stream).unwrap();
        let (globals, queue) = registry_queue_init::<Nothing>(&connection).unwrap();
        (queue, globals)
    }

    /// Its keyboard, which must live as long as anything is typed.
    pub fn keyboard(&self) -> Keyboard {
        let (queue, globals) = self.client();
        let handle = queue.handle();
        let manager: ZwpVirtualKeyboardManagerV1 = globals.bind(&handle, 1..=1, ()).unwrap();
        let seat: WlSeat = globals.bind(&handle, 1..=1, ()).unwrap();
        let keyboard = manager.create_virtual_keyboard(&seat, &handle, ());
        let file: OwnedFd = memfd_create("keymap", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(rustix::io::pwrite(&file, KEYMAP.as_bytes(), 0), Ok(KEYMAP.len()));
        keyboard.keymap(1, file.as_fd(), u32::try_from(KEYMAP.len()).unwrap());
        let mut keyboard = Keyboard { keyboard, queue, time: 0 };
        keyboard.queue.roundtrip(&mut Nothing).unwrap();
        keyboard
    }

    /// Its pointer, which must live as long as anything is pointed at.
    pub fn pointer(&self) -> Pointer {
        let (queue, globals) = self.client();
        let handle = queue.handle();
        let manager: ZwlrVirtualPointerManagerV1 = globals.bind(&handle, 1..=2, ()).unwrap();
        let pointer = manager.create_virtual_pointer(None, &handle, ());
        let mut pointer = Pointer { pointer, queue, time: 0, extent: self.extent };
        pointer.sync();
        pointer
    }

    /// An X server whose screen is one window that fills the output.
    pub fn xwayland(&self) -> (Process, String) {
        let mut command = Command::new("Xwayland");
        command.args(["-displayfd", "1", "-nolisten", "tcp"]).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("WAYLAND_DISPLAY", self.socket()).env("XDG_RUNTIME_DIR", self.runtime.path());
        let mut server = Process::spawn(&mut command);
        let mut number = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut number).unwrap();
        (server, format!(":{}", number.trim()))
    }
}

/// sway's pointer.
#[derive(Debug)]
pub struct Pointer {
    pointer: ZwlrVirtualPointerV1,
    queue: EventQueue<Nothing>,
    time: u32,
    extent: (u32, u32),
}

impl Pointer {
    /// Moves it to a place of the outputs, in logical pixels.
    pub fn move_to(&mut self, x: u32, y: u32) {
        let time = self.tick();
        self.pointer.motion_absolute(time, x, y, self.extent.0, self.extent.1);
        self.sync();
    }

    /// Presses the left button, or lifts it.
    pub fn button(&mut self, pressed: bool) {
        const BTN_LEFT: u32 = 0x110;
        let time = self.tick();
        let state = if pressed { ButtonState::Pressed } else { ButtonState::Released };
        self.pointer.button(time, BTN_LEFT, state);
        self.sync();
    }

    /// Clicks.
    pub fn click(&mut self) {
        self.button(true);
        self.button(false);
    }

    /// Scrolls down as a touchpad does: a distance in pixels.
    pub fn scroll_finger(&mut self, pixels: f64) {
        let time = self.tick();
        self.pointer.axis_source(AxisSource::Finger);
        self.pointer.axis(time, Axis::VerticalScroll, pixels);
        self.sync();
    }

    /// Scrolls down as a wheel does: detents.
    pub fn scroll_wheel(&mut self, detents: i32) {
        let time = self.tick();
        self.pointer.axis_source(AxisSource::Wheel);
        self.pointer.axis_discrete(time, Axis::VerticalScroll, f64::from(15 * detents), detents);
        self.sync();
    }

    fn tick(&mut self) -> u32 {
        self.time += 10;
        self.time
    }

    fn sync(&mut self) {
        self.pointer.frame();
        self.queue.roundtrip(&mut Nothing).unwrap();
    }
}

/// sway's keyboard.
#[derive(Debug)]
pub struct Keyboard {
    keyboard: ZwpVirtualKeyboardV1,
    queue: EventQueue<Nothing>,
    time: u32,
}

impl Keyboard {
    /// Presses or lifts a key, by its evdev code.
    pub fn key(&mut self, code: u32, pressed: bool) {
        self.time += 10;
        self.keyboard.key(self.time, code, u32::from(pressed));
        self.queue.roundtrip(&mut Nothing).unwrap();
    }

    /// Says which modifiers are held, as bits.
    pub fn modifiers(&mut self, held: u32) {
        self.keyboard.modifiers(held, 0, 0, 0);
        self.queue.roundtrip(&mut Nothing).unwrap();
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            let plain = SHIFTED.iter().find(|(shifted, _)| *shifted == c).map(|(_, plain)| *plain);
            let shift = plain.is_some();
            let c = plain.unwrap_or(c);
            let place = |(first, row): &(u32, &str)| Some(first + u32::try_from(row.find(c)?).unwrap());
            let code = if c == ' ' { Some(KEY_SPACE) } else { ROWS.iter().find_map(place) };
            let code = code.unwrap_or_else(|| panic!("no key for {c:?}"));
            if shift {
                self.key(KEY_LEFTSHIFT, true);
                self.modifiers(1);
            }
            self.key(code, true);
            self.key(code, false);
            if shift {
                self.key(KEY_LEFTSHIFT, false);
                self.modifiers(0);
            }
        }
    }
}

#[derive(Debug)]
struct Nothing;

impl Dispatch<WlRegistry, GlobalListContents> for Nothing {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(Nothing: ignore ZwlrVirtualPointerManagerV1);
delegate_noop!(Nothing: ignore ZwlrVirtualPointerV1);
delegate_noop!(Nothing: ignore ZwpVirtualKeyboardManagerV1);
delegate_noop!(Nothing: ignore ZwpVirtualKeyboardV1);
delegate_noop!(Nothing: ignore WlSeat);
