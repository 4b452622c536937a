//! Input path, hop 1 of 4: the pointer (`wl_pointer`). What belongs to one frame of a scroll is told at once.

use inlay_protocol::display::SurfaceId;
use inlay_protocol::input::{AxisSource, InputEvent, Scroll};
use wayland_client::protocol::wl_pointer::{self, Axis, WlPointer};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum};
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::ZwpRelativePointerV1;

use super::super::HostEvent;
use super::State;
use super::decor::{Click, OnFrame};

/// A wheel's detent, in 120ths.
const DETENT: i32 = 120;

/// The pointer.
#[derive(Debug, Default)]
pub struct Pointer {
    pub pointer: Option<WlPointer>,
    /// The window that it is in, and the serial of its entry.
    pub inside: Option<(SurfaceId, u32)>,
    /// It is on a frame of ours.
    pub frame: Option<OnFrame>,
    relative: Option<ZwpRelativePointerV1>,
    /// A window has it held.
    pub relative_wanted: bool,
    /// Buttons held, with the window in which the first of them was pressed and the serial of the newest press.
    held: Vec<u32>,
    press: Option<(SurfaceId, u32)>,
    newest: Option<u32>,
    scroll: Scrolled,
}

/// What of a scroll came since the last frame.
#[derive(Debug, Default)]
struct Scrolled {
    time: Option<u32>,
    source: Option<AxisSource>,
    horizontal: Scroll,
    vertical: Scroll,
}

impl Pointer {
    /// The serial of the press that holds the pointer in this window.
    pub fn press(&self, window: SurfaceId) -> Option<u32> {
        self.press.filter(|(id, _)| *id == window && !self.held.is_empty()).map(|(_, serial)| serial)
    }

    /// The serial of the newest press.
    pub fn newest_press(&self) -> Option<u32> {
        self.newest
    }

    fn axis(&mut self, axis: WEnum<Axis>) -> Option<&mut Scroll> {
        match axis {
            WEnum::Value(Axis::HorizontalScroll) => Some(&mut self.scroll.horizontal),
            WEnum::Value(Axis::VerticalScroll) => Some(&mut self.scroll.vertical),
            _ => None,
        }
    }

    /// What was scrolled, once all of it came.
    fn scrolled(&mut self) -> Option<InputEvent> {
        let Scrolled { time, source, horizontal, vertical } = std::mem::take(&mut self.scroll);
        let moved = |s: &Scroll| *s != Scroll::default();
        if !moved(&horizontal) && !moved(&vertical) {
            return None;
        }
        let wheel = horizontal.v120 != 0 || vertical.v120 != 0;
        let source = source.unwrap_or(if wheel { AxisSource::Wheel } else { AxisSource::Continuous });
        let time_ms = time.unwrap_or(0).into();
        Some(InputEvent::PointerAxis { time_ms, source, horizontal, vertical })
    }
}

impl State {
    /// The seat has a pointer.
    pub(super) fn take_pointer(&mut self, seat: &WlSeat, handle: &QueueHandle<State>) {
        if self.pointer.pointer.is_none() {
            let pointer = seat.get_pointer(handle, ());
            self.cursor.follow(&pointer, &self.globals, handle);
            let manager = self.globals.relative_pointer.as_ref();
            self.pointer.relative = manager.map(|manager| manager.get_relative_pointer(&pointer, handle, ()));
            self.pointer.pointer = Some(pointer);
        }
    }

    /// It has none any more.
    pub(super) fn drop_pointer(&mut self) {
        if let Some(pointer) = self.pointer.pointer.take() {
            self.cursor.leave();
            if let Some(relative) = self.pointer.relative.take() {
                relative.destroy();
            }
            if pointer.version() >= 3 {
                pointer.release();
            }
            self.leave_pointer();
            self.pointer = Pointer::default();
        }
    }

    /// A window of ours goes.
    pub(super) fn left_by_pointer(&mut self, surface: &WlSurface) {
        let Some(id) = surface.data::<SurfaceId>() else { return };
        let (inside, frame) = (self.pointer.inside, &self.pointer.frame);
        if inside.is_some_and(|(inside, _)| inside == *id)
            || frame.as_ref().is_some_and(|on| on.window == *id)
        {
            self.leave_pointer();
        }
    }

    fn leave_pointer(&mut self) {
        self.leave_frame();
        if self.pointer.inside.take().is_some() {
            for button in std::mem::take(&mut self.pointer.held) {
                let lifted = InputEvent::PointerButton { time_ms: 0, button, pressed: false };
                self.events.push(HostEvent::Input(lifted));
            }
            self.events.push(HostEvent::Input(InputEvent::PointerLeave));
        }
    }

    fn button(&mut self, time: u32, button: u32, pressed: bool, serial: u32) {
        let Some((inside, _)) = self.pointer.inside else { return };
        if pressed {
            // The click that brings a window the focus comes after it, for the app as well.
            if let Some(event) = self.tell_focus() {
                self.events.push(event);
            }
            if !self.grabs.is_empty() {
                // To the desktop all of the guest's apps are one: it dismisses nothing for a click into another of them.
                let window = self.toplevel_of(inside);
                self.events.push(HostEvent::ClickOutside { window });
            }
            self.pointer.newest = Some(serial);
            if self.pointer.held.is_empty() {
                self.pointer.press = Some((inside, serial));
            }
            self.pointer.held.push(button);
        } else {
            self.pointer.held.retain(|held| *held != button);
            self.drag_was_refused();
        }
        let event = InputEvent::PointerButton { time_ms: time.into(), button, pressed };
        self.events.push(HostEvent::Input(event));
    }
}

impl Dispatch<WlPointer, ()> for State {
    fn event(
        state: &mut Self,
        pointer: &WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let mut ends = pointer.version() < 5;
        match event {
            wl_pointer::Event::Enter { serial, surface, surface_x: x, surface_y: y } => {
                state.leave_pointer();
                let Some(id) = surface.data::<SurfaceId>().copied() else {
                    state.pointer.frame = OnFrame::enter(&surface, serial, (x, y));
                    state.point_at_frame(0, (x, y));
                    return;
                };
                state.pointer.inside = Some((id, serial));
                state.pointer_is_back();
                state.dress();
                state.events.push(HostEvent::Input(InputEvent::PointerEnter { surface: id, x, y }));
            }
            wl_pointer::Event::Leave { .. } => state.leave_pointer(),
            wl_pointer::Event::Motion { time, surface_x: x, surface_y: y }
                if state.pointer.frame.is_some() =>
            {
                state.point_at_frame(time, (x, y));
            }
            wl_pointer::Event::Motion { time, surface_x: x, surface_y: y } => {
                let event = InputEvent::PointerMotion { time_ms: time.into(), x, y };
                state.events.push(HostEvent::Input(event));
            }
            wl_pointer::Event::Button { serial, time, button, state: WEnum::Value(how) } => {
                let pressed = how == wl_pointer::ButtonState::Pressed;
                if state.pointer.frame.is_some() {
                    state.click_frame(Click { time, button, pressed, serial });
                } else {
                    state.button(time, button, pressed, serial);
                }
            }
            wl_pointer::Event::Axis { time, axis, value } => {
                state.pointer.scroll.time = Some(time);
                if let Some(scroll) = state.pointer.axis(axis) {
                    scroll.pixels += value;
                }
            }
            wl_pointer::Event::AxisSource { axis_source: WEnum::Value(source) } => {
                use wl_pointer::AxisSource as Wire;
                state.pointer.scroll.source = match source {
                    Wire::Wheel | Wire::WheelTilt => Some(AxisSource::Wheel),
                    Wire::Finger => Some(AxisSource::Finger),
                    _ => Some(AxisSource::Continuous),
                };
            }
            wl_pointer::Event::AxisStop { time, axis } => {
                state.pointer.scroll.time = Some(time);
                if let Some(scroll) = state.pointer.axis(axis) {
                    scroll.stop = true;
                }
            }
            wl_pointer::Event::AxisDiscrete { axis, discrete } => {
                if let Some(scroll) = state.pointer.axis(axis) {
                    scroll.v120 = scroll.v120.saturating_add(discrete.saturating_mul(DETENT));
                }
                // Its distance follows.
                ends = false;
            }
            wl_pointer::Event::AxisValue120 { axis, value120 } => {
                if let Some(scroll) = state.pointer.axis(axis) {
                    scroll.v120 = scroll.v120.saturating_add(value120);
                }
            }
            wl_pointer::Event::Frame => ends = true,
            _ => {}
        }
        if ends && let Some(event) = state.pointer.scrolled() {
            state.events.push(HostEvent::Input(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_a_scroll_is_told_at_once() {
        let mut pointer = Pointer::default();
        assert_eq!(pointer.scrolled(), None);
        pointer.scroll.time = Some(7);
        pointer.axis(WEnum::Value(Axis::VerticalScroll)).unwrap().pixels += 15.0;
        pointer.axis(WEnum::Value(Axis::VerticalScroll)).unwrap().v120 += 120;
        let vertical = Scroll { pixels: 15.0, v120: 120, stop: false };
        let (horizontal, source) = (Scroll::default(), AxisSource::Wheel);
        let want = InputEvent::PointerAxis { time_ms: 7, source, horizontal, vertical };
        assert_eq!(pointer.scrolled(), Some(want));
        assert_eq!(pointer.scrolled(), None);
    }

    #[test]
    fn a_window_may_be_dragged_only_while_it_is_pressed() {
        let mut pointer =
            Pointer { press: Some((SurfaceId(3), 70)), held: vec![0x110], ..Pointer::default() };
        assert_eq!(pointer.press(SurfaceId(3)), Some(70));
        assert_eq!(pointer.press(SurfaceId(4)), None);
        pointer.held.clear();
        assert_eq!(pointer.press(SurfaceId(3)), None);
    }
}
