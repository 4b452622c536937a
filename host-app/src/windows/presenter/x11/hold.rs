//! Locked and confined pointers, and how far a pointer is moved whatever its place: X11 knows neither, so they are a grab that confines
//! the pointer to a window (X11 protocol, `GrabPointer`), of one pixel for a locked one, and the raw motion of devices (XInput 2.1).
//!
//! The pointer is held while the window has it and the keyboard is ours; the keyboard is never grabbed, so that the window manager's
//! shortcuts lead out of any window.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use inlay_protocol::display::{Constraint, SurfaceId};
use inlay_protocol::input::InputEvent;
use x11rb::connection::Connection as _;
use x11rb::protocol::xinput::{
    self, ConnectionExt as _, DeviceClassData, DeviceId, ValuatorMode, XIEventMask,
};
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask, GrabMode, GrabStatus, WindowClass};

use super::{HostEvent, X11, pointer};

/// A pointer that somebody else has is asked for no oftener.
const AGAIN: Duration = Duration::from_millis(100);

/// What an app wants of the pointer.
#[derive(Debug)]
pub struct Hold {
    window: SurfaceId,
    how: Constraint,
    /// Set while it is held; with the window of one pixel that a locked one is in.
    held: Option<Option<xproto::Window>>,
    /// When the display refused last, as somebody else has the pointer.
    refused: Option<Instant>,
}

/// Where devices that tell places were, by device: what they are moved is told as a difference.
pub type Places = HashMap<DeviceId, Option<(f64, f64)>>;

impl X11 {
    /// Has the pointer held in a window while that has it, or no more.
    pub(super) fn hold(&mut self, window: SurfaceId, how: Option<Constraint>) {
        let known = self.held.as_ref().is_some_and(|hold| hold.window == window);
        if how.is_none() && !known {
            return;
        }
        self.let_go();
        self.held = how.map(|how| Hold { window, how, held: None, refused: None });
        self.hold_or_not();
    }

    /// Holds the pointer or lets it go, by where pointer and keyboard are now.
    pub(super) fn hold_or_not(&mut self) {
        let Some(hold) = &self.held else { return };
        let window = hold.window;
        if !self.windows.contains_key(&window) {
            self.let_go();
            self.held = None;
            return;
        }
        let wants = self.focus.is_some() && self.pointed == Some(window) && self.watched.is_none();
        match (wants, hold.held.is_some()) {
            (true, false) if hold.refused.is_none_or(|at| at.elapsed() >= AGAIN) => self.take_hold(),
            (false, true) => self.let_go(),
            _ => {}
        }
    }

    fn take_hold(&mut self) {
        let Some(Hold { window, how, .. }) = self.held else { return };
        let Some(xid) = self.windows.get(&window).map(|window| window.xid) else { return };
        let cage = (how == Constraint::Locked).then(|| self.cage(xid)).flatten();
        if how == Constraint::Locked && cage.is_none() {
            return;
        }
        let grab = self.connection.grab_pointer(
            true,
            // With another window the server tells raw motion twice: to the grab's window as well as to the root.
            self.root,
            EventMask::NO_EVENT,
            GrabMode::ASYNC,
            GrabMode::ASYNC,
            cage.unwrap_or(xid),
            x11rb::NONE,
            x11rb::CURRENT_TIME,
        );
        let status = grab.map_err(drop).and_then(|c| c.reply().map_err(drop)).map(|r| r.status);
        if status != Ok(GrabStatus::SUCCESS) {
            tracing::debug!("the pointer is not held: {status:?}");
            cage.into_iter().for_each(|cage| self.sent(self.connection.destroy_window(cage)));
            if let Some(hold) = &mut self.held {
                hold.refused = Some(Instant::now());
            }
            return;
        }
        self.read_places();
        self.watch_raw(true);
        if let Some(hold) = &mut self.held {
            hold.held = Some(cage);
        }
        self.own.push(HostEvent::Constrained { window, held: true });
    }

    fn let_go(&mut self) {
        let Some(hold) = &mut self.held else { return };
        let (window, Some(cage)) = (hold.window, hold.held.take()) else { return };
        self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
        cage.into_iter().for_each(|cage| self.sent(self.connection.destroy_window(cage)));
        self.watch_raw(false);
        self.own.push(HostEvent::Constrained { window, held: false });
    }

    /// A window of one pixel where the pointer is, in a window of ours.
    fn cage(&self, xid: xproto::Window) -> Option<xproto::Window> {
        let at = self.connection.query_pointer(xid).ok()?.reply().ok()?;
        let cage = self.connection.generate_id().ok()?;
        let aux = xproto::CreateWindowAux::new();
        let (class, visual) = (WindowClass::INPUT_ONLY, x11rb::COPY_FROM_PARENT);
        self.sent(
            self.connection.create_window(0, cage, xid, at.win_x, at.win_y, 1, 1, 0, class, visual, &aux),
        );
        self.sent(self.connection.map_window(cage));
        Some(cage)
    }

    fn watch_raw(&self, watch: bool) {
        let mut mask = XIEventMask::DEVICE_CHANGED;
        if watch {
            mask |= XIEventMask::RAW_MOTION;
        }
        let masks = [xinput::EventMask { deviceid: pointer::ALL_MASTERS, mask: vec![mask] }];
        self.sent(self.connection.xinput_xi_select_events(self.root, &masks));
    }

    /// Which devices tell places (tablets, the pointers of virtual machines).
    fn read_places(&mut self) {
        let reply = self.connection.xinput_xi_query_device(pointer::ALL).map_err(drop);
        let infos = reply.and_then(|c| c.reply().map_err(drop)).map(|r| r.infos).unwrap_or_default();
        let absolute = |class: &xinput::DeviceClass| matches!(&class.data, DeviceClassData::Valuator(v) if v.number < 2 && v.mode == ValuatorMode::ABSOLUTE);
        let absolute = infos.iter().filter(|device| device.classes.iter().any(absolute));
        self.places = absolute.map(|device| (device.deviceid, None)).collect();
    }

    /// A device was moved.
    pub(super) fn moved(&mut self, event: &xinput::RawMotionEvent, out: &mut Vec<HostEvent>) {
        if self.held.as_ref().is_none_or(|hold| hold.held.is_none()) {
            return;
        }
        let axes = |values: &[xinput::Fp3232]| {
            let mut place = (None, None);
            for (axis, value) in pointer::values(&event.valuator_mask, values) {
                match axis {
                    0 => place.0 = Some(value),
                    1 => place.1 = Some(value),
                    _ => {}
                }
            }
            place
        };
        let (accelerated, raw) = (axes(&event.axisvalues), axes(&event.axisvalues_raw));
        if accelerated == (None, None) {
            return;
        }
        let or_none = |(x, y): (Option<f64>, Option<f64>)| (x.unwrap_or(0.0), y.unwrap_or(0.0));
        let (delta, unaccelerated) = match self.places.get_mut(&event.sourceid) {
            None => (or_none(accelerated), or_none(raw)),
            Some(place) => {
                let before = place.unwrap_or_else(|| or_none(accelerated));
                let now = (accelerated.0.unwrap_or(before.0), accelerated.1.unwrap_or(before.1));
                *place = Some(now);
                let delta = (now.0 - before.0, now.1 - before.1);
                (delta, delta)
            }
        };
        let time_us = 1000 * u64::from(event.time);
        out.push(HostEvent::Input(InputEvent::PointerRelative { time_us, delta, unaccelerated }));
    }
}
