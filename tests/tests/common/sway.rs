//! A Wayland desktop without a screen: headless sway, with a pointer of ours.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_pointer::{Axis, AxisSource};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1,
    zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

use super::{Process, eventually};

/// The size of its only output.
pub const SIZE: (u32, u32) = (1280, 720);
/// Whom it runs as: it refuses to run as root.
const NOBODY: u32 = 65534;

/// The desktop.
#[derive(Debug)]
pub struct Sway {
    // Dropped in this order.
    _process: Process,
    runtime: tempfile::TempDir,
}

impl Sway {
    pub fn start() -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-sway-").tempdir_in("/tmp").unwrap();
        let config = runtime.path().join("config");
        let (width, height) = SIZE;
        std::fs::write(&config, format!("output * mode {width}x{height}\ndefault_border none\n")).unwrap();
        let mut command = if rustix::process::getuid().is_root() {
            chown(runtime.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&config, Some(NOBODY), Some(NOBODY)).unwrap();
            let id = NOBODY.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sway"]);
            command
        } else {
            Command::new("sway")
        };
        command.arg("--config").arg(&config);
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("HOME", runtime.path());
        command.env("WLR_BACKENDS", "headless").env("WLR_RENDERER", "pixman");
        command.env("WLR_LIBINPUT_NO_DEVICES", "1").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sway = Self { _process: Process::spawn(&mut command), runtime };
        eventually("sway", || UnixStream::connect(sway.socket()).ok());
        sway
    }

    /// Its Wayland socket; the runtime folder is new, so it has the first name.
    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("wayland-1")
    }

    /// Its pointer, which must live as long as anything is pointed at.
    pub fn pointer(&self) -> Pointer {
        let stream = UnixStream::connect(self.socket()).unwrap();
        let connection = Connection::from_socket(stream).unwrap();
        let (globals, queue) = registry_queue_init::<Nothing>(&connection).unwrap();
        let handle = queue.handle();
        let manager: ZwlrVirtualPointerManagerV1 = globals.bind(&handle, 1..=2, ()).unwrap();
        let pointer = manager.create_virtual_pointer(None, &handle, ());
        let mut pointer = Pointer { pointer, queue, time: 0 };
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
}

impl Pointer {
    /// Moves it to a place of the output.
    pub fn move_to(&mut self, x: u32, y: u32) {
        let time = self.tick();
        self.pointer.motion_absolute(time, x, y, SIZE.0, SIZE.1);
        self.sync();
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
