//! The pointer: enter, leave, motion, buttons, wheels and touchpads (XInput 2.1, of the master pointer).
//!
//! Scrolling comes as values of a device's scroll axes, in fractions of a detent. For programs that know only buttons the
//! server makes buttons 4 to 7 of it, marked as emulated: they are not looked at. Buttons 4 to 7 that are not emulated are
//! of devices without scroll axes, and whole detents.

use std::collections::HashMap;

use anyhow::Context as _;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::input::{AxisSource, InputEvent, Scroll};
use x11rb::protocol::xinput::{
    self, ConnectionExt as _, DeviceClassData, DeviceId, NotifyDetail, NotifyMode, PointerEventFlags,
    ScrollType, XIEventMask,
};
use x11rb::protocol::{Event, xproto};
use x11rb::xcb_ffi::XCBConnection;

use super::{HostEvent, Kind, X11};

/// Pixels of one wheel detent, as compositors have it.
const DETENT: f64 = 15.0;
/// `XIAllDevices` and `XIAllMasterDevices`.
pub const ALL: DeviceId = 0;
pub const ALL_MASTERS: DeviceId = 1;
/// A distance is whole detents when it is no further from them than this.
const NEAR: f64 = 1e-3;
/// More detents at once than anybody turns: the axis was set anew.
const MOST: f64 = 1000.0;

/// What our windows hear of the pointer.
pub fn mask() -> XIEventMask {
    XIEventMask::BUTTON_PRESS
        | XIEventMask::BUTTON_RELEASE
        | XIEventMask::MOTION
        | XIEventMask::ENTER
        | XIEventMask::LEAVE
}

/// Has a window hear of the pointer.
pub fn listen(connection: &XCBConnection, xid: xproto::Window) -> anyhow::Result<()> {
    let masks = [xinput::EventMask { deviceid: ALL_MASTERS, mask: vec![mask()] }];
    connection.xinput_xi_select_events(xid, &masks)?;
    Ok(())
}

/// The pointing devices.
#[derive(Debug)]
pub struct Pointer {
    /// The master pointer, for grabs.
    pub master: DeviceId,
    /// Scroll axes by device; `None` when devices changed.
    wheels: Option<HashMap<DeviceId, Vec<Axis>>>,
}

/// A scroll axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    number: u16,
    horizontal: bool,
    /// One detent.
    increment: f64,
    value: f64,
}

impl Pointer {
    /// Asks for what is needed.
    ///
    /// # Errors
    /// When the display has no XInput 2.1.
    pub fn new(connection: &XCBConnection, root: xproto::Window) -> anyhow::Result<Self> {
        let version = connection.xinput_xi_query_version(2, 1)?.reply();
        let version = version.context("the X display has no XInput 2, which any since 2011 has")?;
        if (version.major_version, version.minor_version) < (2, 1) {
            anyhow::bail!("the X display has no XInput 2.1, which any since 2011 has");
        }
        let master = connection.xinput_xi_get_client_pointer(x11rb::NONE)?.reply()?.deviceid;
        let masks = [
            xinput::EventMask { deviceid: ALL, mask: vec![XIEventMask::HIERARCHY] },
            xinput::EventMask { deviceid: ALL_MASTERS, mask: vec![XIEventMask::DEVICE_CHANGED] },
        ];
        connection.xinput_xi_select_events(root, &masks)?;
        Ok(Self { master, wheels: None })
    }

    /// Reads all axes: their values change while the pointer is elsewhere.
    fn read(&mut self, connection: &XCBConnection) {
        let reply =
            connection.xinput_xi_query_device(ALL).map_err(drop).and_then(|c| c.reply().map_err(drop));
        let infos = reply.map(|r| r.infos).unwrap_or_default();
        let wheels = infos.iter().map(|device| (device.deviceid, axes(device)));
        self.wheels = Some(wheels.filter(|(_, axes)| !axes.is_empty()).collect());
    }

    /// The pointer comes to a window of ours.
    fn entered(&mut self, connection: &XCBConnection) {
        // Without any scroll axis there is nothing to read.
        if self.wheels.as_ref().is_none_or(|wheels| !wheels.is_empty()) {
            self.read(connection);
        }
    }

    /// How far the device's axes went, in detents, to the right and down; `None` when the event is not about them.
    fn scrolled(&mut self, connection: &XCBConnection, event: &xinput::MotionEvent) -> Option<(f64, f64)> {
        if self.wheels.is_none() {
            self.read(connection);
        }
        let axes = self.wheels.as_mut()?.get_mut(&event.sourceid)?;
        turn(axes, values(&event.valuator_mask, &event.axisvalues))
    }
}

/// The scroll axes of a device.
fn axes(device: &xinput::XIDeviceInfo) -> Vec<Axis> {
    let value = |wanted: u16| {
        device.classes.iter().find_map(|class| match &class.data {
            DeviceClassData::Valuator(v) if v.number == wanted => Some(number(v.value)),
            _ => None,
        })
    };
    let of = |class: &xinput::DeviceClass| match &class.data {
        DeviceClassData::Scroll(scroll) => Some(Axis {
            number: scroll.number,
            horizontal: scroll.scroll_type == ScrollType::HORIZONTAL,
            increment: Some(number(scroll.increment)).filter(|increment| *increment != 0.0)?,
            value: value(scroll.number)?,
        }),
        _ => None,
    };
    device.classes.iter().filter_map(of).collect()
}

fn number(value: xinput::Fp3232) -> f64 {
    f64::from(value.integral) + f64::from(value.frac) / 4_294_967_296.0
}

/// The values of an event by axis: those whose bits are set, in this order.
pub fn values(mask: &[u32], values: &[xinput::Fp3232]) -> impl Iterator<Item = (u16, f64)> {
    let set = |n: &u16| mask.get(usize::from(n / 32)).is_some_and(|word| word >> (n % 32) & 1 == 1);
    let most = u16::try_from(32 * mask.len()).unwrap_or(u16::MAX);
    (0..most).filter(set).zip(values.iter().copied().map(number))
}

/// Takes new values of scroll axes.
fn turn(axes: &mut [Axis], values: impl Iterator<Item = (u16, f64)>) -> Option<(f64, f64)> {
    let (mut right, mut down, mut any) = (0.0, 0.0, false);
    for (number, value) in values {
        let Some(axis) = axes.iter_mut().find(|axis| axis.number == number) else { continue };
        let detents = (value - axis.value) / axis.increment;
        axis.value = value;
        any = true;
        if detents.abs() <= MOST {
            *(if axis.horizontal { &mut right } else { &mut down }) += detents;
        }
    }
    any.then_some((right, down))
}

/// A scroll by detents. The display does not say what kind of device it was: whole detents are a wheel's.
fn scroll(time_ms: u64, right: f64, down: f64) -> HostEvent {
    let whole = |detents: f64| (detents - detents.round()).abs() < NEAR;
    let wheel = whole(right) && whole(down);
    let of = |detents: f64| {
        #[allow(clippy::cast_possible_truncation, reason = "at most MOST")]
        let v120 = if wheel { 120 * detents.round() as i32 } else { 0 };
        Scroll { pixels: DETENT * detents, v120, stop: false }
    };
    let source = if wheel { AxisSource::Wheel } else { AxisSource::Continuous };
    HostEvent::Input(InputEvent::PointerAxis { time_ms, source, horizontal: of(right), vertical: of(down) })
}

/// Takes an event of the pointer; others are left.
pub fn handle(x11: &mut X11, event: &Event, out: &mut Vec<HostEvent>) {
    match event {
        Event::XinputMotion(e) => motion(x11, e, out),
        Event::XinputEnter(e) => enter(x11, e, out),
        Event::XinputLeave(e) => leave(x11, e, out),
        Event::XinputRawMotion(e) => x11.moved(e, out),
        Event::XinputButtonPress(e) => button(x11, e, true, out),
        Event::XinputButtonRelease(e) => button(x11, e, false, out),
        Event::XinputHierarchy(_) | Event::XinputDeviceChanged(_) => x11.pointer.wheels = None,
        _ => {}
    }
}

fn place(x: xinput::Fp1616, y: xinput::Fp1616) -> (f64, f64) {
    (f64::from(x) / 65536.0, f64::from(y) / 65536.0)
}

/// Whether a place lies in a window.
fn inside(x11: &X11, id: SurfaceId, (x, y): (f64, f64)) -> bool {
    x11.windows.get(&id).is_some_and(|window| {
        x >= 0.0 && y >= 0.0 && x < f64::from(window.size.width) && y < f64::from(window.size.height)
    })
}

fn motion(x11: &mut X11, e: &xinput::MotionEvent, out: &mut Vec<HostEvent>) {
    let Some(id) = x11.by_xid.get(&e.event).copied() else { return };
    let scrolled = x11.pointer.scrolled(&x11.connection, e);
    let (x, y) = place(e.event_x, e.event_y);
    if x11.buttons.is_empty() && !inside(x11, id, (x, y)) {
        // Reported by the grab of a popup's toplevel, for a place outside all our windows.
        return;
    }
    if x11.pointed != Some(id) {
        x11.pointed = Some(id);
        out.push(HostEvent::Input(InputEvent::PointerEnter { surface: id, x, y }));
    }
    let time_ms = e.time.into();
    let moved = e.valuator_mask.first().is_some_and(|word| word & 3 != 0);
    if moved || scrolled.is_none() {
        out.push(HostEvent::Input(InputEvent::PointerMotion { time_ms, x, y }));
    }
    if let Some((right, down)) = scrolled.filter(|(right, down)| *right != 0.0 || *down != 0.0) {
        out.push(scroll(time_ms, right, down));
    }
}

fn enter(x11: &mut X11, e: &xinput::EnterEvent, out: &mut Vec<HostEvent>) {
    let Some(id) = x11.by_xid.get(&e.event).copied() else { return };
    x11.left = false;
    x11.pointer.entered(&x11.connection);
    if x11.pointed != Some(id) && e.mode != NotifyMode::GRAB && x11.buttons.is_empty() {
        x11.pointed = Some(id);
        let (x, y) = place(e.event_x, e.event_y);
        out.push(HostEvent::Input(InputEvent::PointerEnter { surface: id, x, y }));
    }
}

fn leave(x11: &mut X11, e: &xinput::LeaveEvent, out: &mut Vec<HostEvent>) {
    if e.detail == NotifyDetail::INFERIOR {
        // It is in a window of ours inside this one: held there.
        return;
    }
    if x11.pointed.is_none() || x11.by_xid.get(&e.event) != x11.pointed.as_ref() {
        return;
    }
    if !x11.buttons.is_empty() {
        // The implicit grab: the app keeps the pointer until the button is up.
        x11.left = true;
    } else if e.mode != NotifyMode::GRAB {
        x11.pointed = None;
        out.push(HostEvent::Input(InputEvent::PointerLeave));
    }
}

fn button(x11: &mut X11, e: &xinput::ButtonPressEvent, pressed: bool, out: &mut Vec<HostEvent>) {
    let Some(id) = x11.by_xid.get(&e.event).copied() else { return };
    let Some(kind) = x11.windows.get(&id).map(|window| window.kind) else { return };
    let inside = inside(x11, id, place(e.event_x, e.event_y));
    let wheel = (4..=7).contains(&e.detail);
    if pressed && x11.watched.is_some() && x11.buttons.is_empty() && !wheel {
        if !inside {
            // Outside all our windows: the click only closes the popups.
            out.push(HostEvent::ClickOutside { window: None });
            return;
        }
        if kind == Kind::Toplevel {
            out.push(HostEvent::ClickOutside { window: Some(id) });
        }
    }
    let time_ms = e.time.into();
    if wheel {
        if pressed && inside && !e.flags.contains(PointerEventFlags::POINTER_EMULATED) {
            out.push(detent(e.detail, time_ms));
        }
        return;
    }
    let Some(code) = button_code(e.detail) else { return };
    let held = x11.buttons.iter().position(|b| *b == code);
    match (pressed, held) {
        (true, None) => x11.buttons.push(code),
        (false, Some(at)) => drop(x11.buttons.swap_remove(at)),
        _ => return,
    }
    out.push(HostEvent::Input(InputEvent::PointerButton { time_ms, button: code, pressed }));
    if x11.buttons.is_empty() && std::mem::take(&mut x11.left) {
        x11.pointed = None;
        out.push(HostEvent::Input(InputEvent::PointerLeave));
    }
}

/// Releases of all held buttons, for when somebody else takes the pointer.
pub fn lift_buttons(buttons: &mut Vec<u32>) -> Vec<HostEvent> {
    let up = |button| HostEvent::Input(InputEvent::PointerButton { time_ms: 0, button, pressed: false });
    buttons.drain(..).map(up).collect()
}

fn detent(button: u32, time_ms: u64) -> HostEvent {
    let (right, down) = match button {
        4 => (0.0, -1.0),
        5 => (0.0, 1.0),
        6 => (-1.0, 0.0),
        _ => (1.0, 0.0),
    };
    scroll(time_ms, right, down)
}

/// The evdev code of an X button.
pub fn button_code(button: u32) -> Option<u32> {
    match button {
        1 => Some(0x110),
        2 => Some(0x112),
        3 => Some(0x111),
        8..=15 => Some(0x113 + button - 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp(value: f64) -> xinput::Fp3232 {
        let integral = value.floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
        xinput::Fp3232 { integral: integral as i32, frac: ((value - integral) * 4_294_967_296.0) as u32 }
    }

    #[test]
    fn axes_are_turned_by_what_an_event_has_of_them() {
        let axis = |number, horizontal| Axis { number, horizontal, increment: 15.0, value: 30.0 };
        let mut axes = [axis(2, true), axis(35, false)];
        // Place 0, both axes: the values stand in the order of the bits.
        let all = [fp(7.5), fp(22.5), fp(60.0)];
        assert_eq!(turn(&mut axes, values(&[0b101, 1 << 3], &all)), Some((-0.5, 2.0)));
        assert_eq!(turn(&mut axes, values(&[0b11], &[fp(1.0), fp(2.0)])), None);
        assert_eq!(turn(&mut axes, values(&[0b100], &[fp(22.5)])), Some((0.0, 0.0)));
        // Set anew by somebody: no scroll, but remembered.
        assert_eq!(turn(&mut axes, values(&[0, 1 << 3], &[fp(-1e6)])), Some((0.0, 0.0)));
        assert_eq!(turn(&mut axes, values(&[0, 1 << 3], &[fp(-1e6 - 15.0)])), Some((0.0, -1.0)));
    }

    #[test]
    fn whole_detents_are_a_wheels() {
        let of = |right, down| match scroll(1, right, down) {
            HostEvent::Input(InputEvent::PointerAxis { source, horizontal, vertical, .. }) => {
                (source, horizontal.v120, vertical.v120, vertical.pixels)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(of(0.0, -2.0), (AxisSource::Wheel, 0, -240, -30.0));
        assert_eq!(of(0.0, 0.1), (AxisSource::Continuous, 0, 0, 1.5));
    }
}
