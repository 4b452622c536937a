//! The presenter for hosts without a display: windows exist, are visible and keep the size that their apps choose.
//!
//! Pictures of them can be taken (`inlay screenshot`), and the pixel path runs as with a display, to the upload ring.

use std::os::fd::BorrowedFd;

use inlay_protocol::display::{Act, Icon, Output, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};

use super::image::Image;
use super::{HostEvent, Keymap, Look, Pixels, PopupLook, Presenter};
use crate::windows::render::{Renderer, Target};

const SCREEN: Rect = Rect::new(0, 0, 1920, 1080);

/// No desktop at all.
#[derive(Debug)]
pub struct Headless {
    events: Vec<HostEvent>,
    outputs: [Output; 1],
}

/// A window of the host's own that nobody sees.
#[derive(Debug)]
struct Nowhere;

impl Pixels for Nowhere {
    fn show(&mut self, _size: Size, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Default for Headless {
    fn default() -> Self {
        let output = Output {
            name: "headless-1".to_owned(),
            area: SCREEN,
            mode: SCREEN.size(),
            refresh: 60_000,
            scale_120: 120,
        };
        Self { events: Vec::new(), outputs: [output] }
    }
}

impl Presenter for Headless {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        Ok(std::mem::take(&mut self.events))
    }

    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        None
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        _look: &Look,
        size: Size,
        states: States,
        _renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let whole = states.contains(States::MAXIMIZED) || states.contains(States::FULLSCREEN);
        let size = if whole { SCREEN.size() } else { size };
        self.events.push(HostEvent::Configured { window, size, states });
        Ok(Target::None)
    }

    fn open_plain(&mut self, window: SurfaceId, _look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        self.events.push(HostEvent::Configured { window, size, states: States::default() });
        Ok(Box::new(Nowhere))
    }

    fn open_popup(
        &mut self,
        _window: SurfaceId,
        _look: PopupLook,
        _renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        Ok(Target::None)
    }

    fn expect_window(&mut self, _token: Option<String>) {}

    fn watch_clicks(&mut self, _toplevel: Option<SurfaceId>) {}

    fn close(&mut self, _window: SurfaceId) {}

    fn update(&mut self, _window: SurfaceId, _look: &Look) {}

    fn set_icons(&mut self, _window: SurfaceId, _icons: &[Icon]) {}

    fn set_shape(&mut self, _window: SurfaceId, _rects: Option<&[Rect]>) {}

    fn resize(&mut self, window: SurfaceId, size: Size) {
        self.events.push(HostEvent::Configured { window, size, states: States::default() });
    }

    fn place_popup(&mut self, _window: SurfaceId, _look: PopupLook) {}

    fn origin(&mut self, _window: SurfaceId) -> Point {
        Point::default()
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        let (size, states) = match act {
            Act::Maximize => (SCREEN.size(), States::MAXIMIZED),
            Act::Fullscreen => (SCREEN.size(), States::FULLSCREEN),
            Act::Unmaximize | Act::Unfullscreen => (Size::default(), States::default()),
            Act::Move | Act::Resize(_) | Act::WindowMenu(_) | Act::Activate | Act::Minimize => return,
        };
        self.events.push(HostEvent::Configured { window, size, states });
    }

    fn set_cursor(&mut self, _image: Image) {}

    fn flush(&mut self) {}
}
