//! The window process on KWin, with two monitors of 1.5: a desktop that draws frames, knows fractional scales and places popups itself.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::scripted::{Agent, GREEN, RED, Screen};
use common::{Process, eventually};
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Rect, Size};

/// A user without rights: KWin runs as one.
const NOBODY: u32 = 65534;
const SCALE_120: u32 = 180;
/// A monitor, in pixels and in logical pixels.
const PIXELS: Size = Size::new(1920, 1200);
const MONITOR: Size = Size::new(1280, 800);

struct KWin {
    _process: Process,
    runtime: tempfile::TempDir,
}

impl KWin {
    fn start() -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-kwin-").tempdir_in("/tmp").unwrap();
        // Debian's has a capability that containers do not grant: the copy of a file has none.
        let program = runtime.path().join("kwin_wayland");
        std::fs::copy("/usr/bin/kwin_wayland", &program).expect("kwin_wayland (Debian package kwin-wayland)");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = if rustix::process::getuid().is_root() {
            chown(runtime.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            let id = NOBODY.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let (width, height) = (MONITOR.width.to_string(), MONITOR.height.to_string());
        command.args(["--virtual", "--width", &width, "--height", &height]);
        command.args(["--output-count", "2", "--scale", "1.5", "--no-lockscreen", "--no-global-shortcuts"]);
        command.args(["--socket", "wayland-kwin"]).current_dir(runtime.path());
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("HOME", runtime.path());
        // Its painter needs no graphics device.
        command.env("KWIN_COMPOSE", "Q").env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        // Nor a session bus: one that is started for it would outlive the test.
        for name in ["DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let kwin = Self { _process: Process::spawn(&mut command), runtime };
        eventually("KWin", || UnixStream::connect(kwin.socket()).ok());
        kwin
    }

    fn socket(&self) -> PathBuf {
        self.runtime.path().join("wayland-kwin")
    }
}

fn configured(event: &Event) -> Option<(u32, Option<Size>, States)> {
    match event {
        Event::ConfigureToplevel { surface, serial, size, states, .. } if surface.0 == 1 => {
            Some((*serial, *size, *states))
        }
        _ => None,
    }
}

/// Does as an app would that follows.
fn follow(agent: &mut Agent, what: &str, wanted: impl Fn(Option<Size>, States) -> bool) -> Size {
    let (serial, size, _) =
        agent.until(what, |e| configured(e).filter(|(_, size, states)| wanted(*size, *states)));
    let size = size.unwrap_or(Size::new(300, 200));
    let bytes = GREEN.repeat((size.width * size.height) as usize);
    agent.show(1, size, &bytes, |commit| commit.acked = Some(serial));
    size
}

#[test]
fn windows_are_sized_scaled_and_placed_by_kwin() {
    let kwin = KWin::start();
    let mut agent = Agent::start(Screen::Wayland(&kwin.socket()));
    let outputs = agent.until("the monitors", |e| match e {
        Event::Outputs(outputs) if outputs.len() == 2 => Some(outputs.clone()),
        _ => None,
    });
    for output in &outputs {
        assert_eq!((output.mode, output.area.size(), output.scale_120), (PIXELS, MONITOR, SCALE_120));
    }
    assert_ne!(outputs[0].area.x, outputs[1].area.x, "they are side by side");

    agent.toplevel(1, "a window", |toplevel| toplevel.decoration = Decoration::ServerSide);
    follow(&mut agent, "a configure", |_, _| true);
    agent.until("its monitor's scale", |e| match e {
        Event::Shown { surface, scale_120, .. } if surface.0 == 1 => (*scale_120 == SCALE_120).then_some(()),
        _ => None,
    });
    agent.until("a frame", |e| matches!(e, Event::Frame { surface, .. } if surface.0 == 1).then_some(()));

    // Maximised: the monitor less KWin's own frame; full screen: the whole monitor.
    for (act, back, state) in [
        (Act::Maximize, Act::Unmaximize, States::MAXIMIZED),
        (Act::Fullscreen, Act::Unfullscreen, States::FULLSCREEN),
    ] {
        agent.events.clear();
        agent.send(&Request::Act { surface: SurfaceId(1), act });
        let size = follow(&mut agent, "a larger size", |size, states| {
            states.contains(state) && size.is_some_and(|size| size.width >= MONITOR.width)
        });
        assert!(size.width.abs_diff(MONITOR.width) <= 1 && size.height <= MONITOR.height + 1, "{size:?}");
        if state == States::FULLSCREEN {
            assert!(size.height.abs_diff(MONITOR.height) <= 1, "{size:?}");
        }
        agent.events.clear();
        agent.send(&Request::Act { surface: SurfaceId(1), act: back });
        follow(&mut agent, "its size before", |size, states| {
            !states.contains(state) && size.is_none_or(|size| size.width < MONITOR.width)
        });
    }

    // A menu where the app wants it.
    agent.events.clear();
    agent.popup(2, 1, Rect::new(40, 30, 60, 50), PopupKind::Menu);
    let area = agent.until("the menu's place", |e| match e {
        Event::ConfigurePopup { surface, area, .. } if surface.0 == 2 => Some(*area),
        _ => None,
    });
    assert_eq!(area, Rect::new(40, 30, 60, 50));
    agent.paint(2, Size::new(60, 50), RED);
    agent.until("the menu's frame", |e| matches!(e, Event::Frame { .. }).then_some(()));
    assert_eq!(agent.has(|e| matches!(e, Event::PopupDone { .. })), 0);
    agent.send(&Request::RoleGone { surface: SurfaceId(2) });
}
