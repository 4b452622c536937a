//! One scale for a whole desktop that knows pixels only (X11): the session, and with it the apps, count in logical pixels, as Wayland
//! does; the desktop's presenter counts its own.
//!
//! A window has whole pixels, and its content is counted in whole logical pixels: at a scale with a fraction the last column or row
//! of a window may be cut off, or be the background.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use inlay_protocol::display::{Act, Constraint, Icon, Output, Placed, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::scale::Scale;
use inlay_protocol::selection::Actions;

use super::image::{Image, resampled};
use super::{Dragged, Ended, HostEvent, Keymap, Look, Pixels, PopupLook, Presenter, Selections};
use crate::windows::render::{Renderer, Target};

/// A window's pixels, and the states of a toplevel.
#[derive(Debug, Clone, Copy)]
struct Known {
    pixels: Size,
    states: Option<States>,
}

/// A presenter in logical pixels.
#[derive(Debug)]
pub struct Scaled {
    desktop: Box<dyn Presenter>,
    scale: Scale,
    outputs: Vec<Output>,
    windows: BTreeMap<SurfaceId, Known>,
}

impl Scaled {
    /// Counts in logical pixels on a desktop whose monitors, in pixels, all have one scale.
    #[must_use]
    pub fn new(desktop: Box<dyn Presenter>) -> Self {
        let mut scaled = Self { desktop, scale: Scale::ONE, outputs: Vec::new(), windows: BTreeMap::new() };
        scaled.read_outputs();
        scaled
    }

    /// Takes the desktop's monitors and scale.
    fn read_outputs(&mut self) {
        let outputs = self.desktop.outputs();
        self.scale = Scale(outputs.first().map_or(120, |output| output.scale_120.max(120)));
        let logical = |o: &Output| Output { area: self.scale.logical_rect(o.area), ..o.clone() };
        self.outputs = outputs.iter().map(logical).collect();
    }

    fn logical_event(&mut self, event: HostEvent, out: &mut Vec<HostEvent>) {
        let scale = self.scale;
        let logical = match event {
            HostEvent::Configured { window, size, states } => {
                if let Some(known) = self.windows.get_mut(&window) {
                    (known.pixels, known.states) = (size, Some(states));
                }
                HostEvent::Configured { window, size: scale.logical_size(size), states }
            }
            HostEvent::Moved { window, at } => HostEvent::Moved { window, at: scale.logical_point(at) },
            HostEvent::Input(InputEvent::PointerEnter { surface, x, y }) => {
                let (x, y) = (scale.logical(x), scale.logical(y));
                HostEvent::Input(InputEvent::PointerEnter { surface, x, y })
            }
            HostEvent::Input(InputEvent::PointerMotion { time_ms, x, y }) => {
                let (x, y) = (scale.logical(x), scale.logical(y));
                HostEvent::Input(InputEvent::PointerMotion { time_ms, x, y })
            }
            HostEvent::Input(InputEvent::PointerRelative { time_us, delta, unaccelerated }) => {
                let [delta, unaccelerated] =
                    [delta, unaccelerated].map(|(x, y)| (scale.logical(x), scale.logical(y)));
                HostEvent::Input(InputEvent::PointerRelative { time_us, delta, unaccelerated })
            }
            HostEvent::Drag(Dragged::Enter { window, x, y, types, actions, own }) => {
                let (x, y) = (scale.logical(x), scale.logical(y));
                HostEvent::Drag(Dragged::Enter { window, x, y, types, actions, own })
            }
            HostEvent::Drag(Dragged::Motion { time_ms, x, y }) => {
                let (x, y) = (scale.logical(x), scale.logical(y));
                HostEvent::Drag(Dragged::Motion { time_ms, x, y })
            }
            HostEvent::Outputs => {
                self.read_outputs();
                if self.scale != scale {
                    // Windows keep their pixels, which are another size and place now.
                    for (window, known) in &self.windows {
                        if let Some(states) = known.states {
                            let (window, size) = (*window, self.scale.logical_size(known.pixels));
                            out.push(HostEvent::Configured { window, size, states });
                            let at = self.scale.logical_point(self.desktop.origin(window));
                            out.push(HostEvent::Moved { window, at });
                        }
                    }
                }
                HostEvent::Outputs
            }
            other => other,
        };
        out.push(logical);
    }

    fn look(&self, look: &Look) -> Look {
        // Steps are of whole pixels, and where logical ones are none there are no steps.
        let steps = |size: Size| if self.scale.is_whole() { self.scale.size(size) } else { Size::default() };
        Look {
            min_size: self.scale.size(look.min_size),
            max_size: self.scale.size(look.max_size),
            base_size: steps(look.base_size),
            increment: steps(look.increment),
            place: look.place.map(|place| Placed { at: self.scale.point(place.at), ..place }),
            ..look.clone()
        }
    }

    /// An image of the guest's in pixels.
    fn image(&self, image: Image) -> Image {
        match image {
            Image::Pixels { size, bytes, logical, hotspot } => {
                let to = self.scale.size(logical);
                let bytes = if to == size { bytes } else { resampled(size, &bytes, to) };
                Image::Pixels { size: to, bytes, logical: to, hotspot: self.scale.point(hotspot) }
            }
            other => other,
        }
    }

    fn popup(&mut self, window: SurfaceId, look: PopupLook) -> PopupLook {
        let at = self.scale.point(Point::new(look.area.x, look.area.y));
        // Its size does not depend on its place, or it would not be what its content has.
        let pixels = self.scale.size(look.area.size());
        let area = Rect::new(at.x, at.y, pixels.width, pixels.height);
        self.windows.insert(window, Known { pixels, states: None });
        PopupLook { area, ..look }
    }
}

impl Presenter for Scaled {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.desktop.fd()
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        let mut out = Vec::new();
        for event in self.desktop.dispatch()? {
            self.logical_event(event, &mut out);
        }
        Ok(out)
    }

    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        self.desktop.keyboard()
    }

    fn scale(&self, _: SurfaceId) -> u32 {
        self.scale.0
    }

    fn begin_frame(&mut self, window: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        let known = self.windows.get(&window).map(|known| known.pixels);
        let pixels = known.filter(|pixels| self.scale.logical_size(*pixels) == size);
        self.desktop.begin_frame(window, pixels.unwrap_or_else(|| self.scale.size(size)), settled)
    }

    fn end_frame(&mut self, window: SurfaceId, ended: Ended) -> bool {
        self.desktop.end_frame(window, ended)
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let (look, pixels) = (self.look(look), self.scale.size(size));
        self.windows.insert(window, Known { pixels, states: None });
        self.desktop.open_toplevel(window, &look, pixels, states, renderer)
    }

    fn open_plain(&mut self, window: SurfaceId, look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        let (look, pixels) = (self.look(look), self.scale.size(size));
        self.windows.insert(window, Known { pixels, states: None });
        self.desktop.open_plain(window, &look, pixels)
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let look = self.popup(window, look);
        self.desktop.open_popup(window, look, renderer)
    }

    fn expect_window(&mut self, token: Option<String>) {
        self.desktop.expect_window(token);
    }

    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>) {
        self.desktop.watch_clicks(toplevel);
    }

    fn close(&mut self, window: SurfaceId) {
        self.windows.remove(&window);
        self.desktop.close(window);
    }

    fn update(&mut self, window: SurfaceId, look: &Look) {
        let look = self.look(look);
        self.desktop.update(window, &look);
    }

    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]) {
        self.desktop.set_icons(window, icons);
    }

    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>) {
        let pixels = |rects: &[Rect]| -> Vec<Rect> { rects.iter().map(|r| self.scale.rect(*r)).collect() };
        let rects = rects.map(pixels);
        self.desktop.set_shape(window, rects.as_deref());
    }

    fn resize(&mut self, window: SurfaceId, size: Size) {
        self.desktop.resize(window, self.scale.size(size));
    }

    fn place_popup(&mut self, window: SurfaceId, look: PopupLook) {
        let look = self.popup(window, look);
        self.desktop.place_popup(window, look);
    }

    fn origin(&mut self, window: SurfaceId) -> Point {
        self.scale.logical_point(self.desktop.origin(window))
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        let act = match act {
            Act::WindowMenu(at) => Act::WindowMenu(self.scale.point(at)),
            other => other,
        };
        self.desktop.act(window, act);
    }

    fn constrain(&mut self, window: SurfaceId, how: Option<Constraint>) {
        self.desktop.constrain(window, how);
    }

    fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        self.desktop.answer_drag(kind, action);
    }

    fn end_drag(&mut self, action: Actions) {
        self.desktop.end_drag(action);
    }

    fn start_drag(&mut self, window: SurfaceId, types: &[String], actions: Actions) -> bool {
        self.desktop.start_drag(window, types, actions)
    }

    fn set_drag_icon(&mut self, image: Image) {
        let image = self.image(image);
        self.desktop.set_drag_icon(image);
    }

    fn cancel_drag(&mut self) {
        self.desktop.cancel_drag();
    }

    fn selections(&self) -> Option<&dyn Selections> {
        self.desktop.selections()
    }

    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        self.desktop.selections_mut()
    }

    fn set_cursor(&mut self, image: Image) {
        let image = self.image(image);
        self.desktop.set_cursor(image);
    }

    fn flush(&mut self) {
        self.desktop.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::presenter::headless::Headless;
    use inlay_protocol::display::PopupKind;

    const WINDOW: SurfaceId = SurfaceId(4);

    fn scaled(scale: u32) -> Scaled {
        Scaled { scale: Scale(scale), ..Scaled::new(Box::new(Headless::default())) }
    }

    #[test]
    fn a_popup_has_the_pixels_of_its_size_wherever_it_is() {
        let mut scaled = scaled(150);
        for x in 0..20 {
            let area = Rect::new(x, 3 * x, 201, 99);
            let kind = PopupKind::Menu;
            let pixels = scaled.popup(WINDOW, PopupLook { parent: SurfaceId(1), area, kind }).area.size();
            assert_eq!(pixels, Scale(150).size(area.size()));
            assert_eq!(scaled.begin_frame(WINDOW, area.size(), true), Some(pixels), "at {x}");
        }
    }

    #[test]
    fn what_the_desktop_tells_is_logical() {
        let mut scaled = scaled(240);
        let pixels = Size::new(401, 300);
        scaled.windows.insert(WINDOW, Known { pixels: Size::default(), states: None });
        let states = States::default();
        let mut out = Vec::new();
        scaled.logical_event(HostEvent::Configured { window: WINDOW, size: pixels, states }, &mut out);
        let (delta, unaccelerated) = ((10.0, -4.0), (5.0, 1.0));
        let moved = InputEvent::PointerRelative { time_us: 1, delta, unaccelerated };
        scaled.logical_event(HostEvent::Input(moved), &mut out);
        scaled.logical_event(HostEvent::Moved { window: WINDOW, at: Point::new(-7, 30) }, &mut out);
        let (delta, unaccelerated) = ((5.0, -2.0), (2.5, 0.5));
        let size = Size::new(201, 150);
        assert_eq!(
            out,
            [
                HostEvent::Configured { window: WINDOW, size, states },
                HostEvent::Input(InputEvent::PointerRelative { time_us: 1, delta, unaccelerated }),
                HostEvent::Moved { window: WINDOW, at: Point::new(-3, 15) },
            ]
        );
        assert_eq!(scaled.begin_frame(WINDOW, size, true), Some(pixels), "all of its pixels");
        // Another scale: the same pixels are another size, at another place.
        out.clear();
        scaled.logical_event(HostEvent::Outputs, &mut out);
        let told = |event: &HostEvent| matches!(event, HostEvent::Configured { size, .. } if *size == pixels);
        assert!(out.iter().any(told) && out.iter().any(|e| matches!(e, HostEvent::Moved { .. })), "{out:?}");
        assert_eq!(out.last(), Some(&HostEvent::Outputs));
    }
}
