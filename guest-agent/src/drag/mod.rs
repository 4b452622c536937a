//! Something that is dragged over apps of the guest: Wayland's (`wl_data_device`), or X11's (`x11/wm/drag.rs`). It is of the host, or of
//! an app of the guest ([`out`]) whose data does not leave the guest then.
//!
//! ```text
//! host: Enter, Motion -> the surface under it -> data_offer, enter, motion -> accept, set_actions -> DragAnswer -> host
//!       Drop          -> drop, once the app takes it -> receive -> exchange -> finish              -> DragEnd    -> host
//! ```
//! The pointer has no part in it: it left all windows when the drag began.

pub mod out;

use std::sync::atomic::{AtomicBool, Ordering};

use inlay_exchange::kinds;
use inlay_exchange::pipe::Pipe;
use inlay_protocol::display::{Request, SurfaceId};
use inlay_protocol::geometry::Point;
use inlay_protocol::selection::{Actions, Drag as Event, Selection};
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::protocol::wl_data_device::WlDataDevice;
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::wayland_server::protocol::wl_data_offer::{self, WlDataOffer};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, DataInit, Dispatch, DisplayHandle, Resource, WEnum};
use smithay::utils::{IsAlive, SERIAL_COUNTER};

use crate::agent::Agent;
use crate::exchange::{self, Origin};
use crate::inject::{pointer, wire_ms};
use crate::surface::id_of;
use crate::x11;
use out::{From, Out};

/// The version of offers from which apps choose actions, and say that they are finished.
const CHOOSES: u32 = 3;

/// What belongs to an offer: which of the targets it was made for, and whether it was dropped there.
#[derive(Debug)]
pub struct OfferOf(u64, AtomicBool);

/// The app under the drag.
#[derive(Debug)]
struct Target {
    number: u64,
    surface: WlSurface,
    devices: Vec<WlDataDevice>,
    offers: Vec<WlDataOffer>,
    /// It is an X11 app's.
    x11: bool,
    /// Both are X11 apps of this guest, which need nobody between them.
    native: bool,
    /// What the app would take, by the name that travels.
    kind: Option<String>,
    action: Actions,
    /// It was dropped there.
    dropped: bool,
}

/// A drag.
#[derive(Debug)]
struct Drag {
    serial: u64,
    root: SurfaceId,
    types: Vec<String>,
    actions: Actions,
    /// The number of what an app of the guest drags.
    own: Option<u64>,
    target: Option<Target>,
    answered: Option<(Option<String>, Actions)>,
}

/// What is dragged, and what was dropped and is still fetched.
#[derive(Debug, Default)]
pub struct Drags {
    now: Option<Drag>,
    /// It was dropped: its app fetches it.
    dropped: Option<Drag>,
    targets: u64,
    /// What an app of the guest drags.
    pub out: Option<Out>,
    /// While it is held: the window that the host's pointer is in, and where.
    pointer: Option<Option<(SurfaceId, f64, f64)>>,
    /// Counts what apps of the guest drag.
    started: u64,
}

/// The host tells of a drag.
pub fn handle(agent: &mut Agent, event: Event) {
    match event {
        Event::Enter { surface, x, y, serial, types, actions, own } => {
            cancel(agent);
            let out = agent.drags.out.as_ref().filter(|out| Some(out.serial) == own);
            if own.is_some() && out.is_none() {
                // It ended at the same moment.
                return;
            }
            let (types, actions) = match out {
                Some(out) => (out.types.clone(), out.actions),
                None => (kinds::travelling(types), actions),
            };
            let (root, target, answered) = (surface, None, None);
            let drag = Drag { serial, root, types, actions, own, target, answered };
            agent.drags.now = Some(drag);
            let time = agent.input.last_ms;
            moved(agent, time, x, y);
        }
        Event::Motion { time_ms, x, y } => moved(agent, wire_ms(time_ms), x, y),
        Event::Leave => cancel(agent),
        Event::Drop => dropped(agent),
    }
}

/// The drag is over, and nothing was dropped.
pub fn cancel(agent: &mut Agent) {
    if let Some(mut drag) = agent.drags.now.take() {
        leave(agent, &mut drag);
    }
}

/// The host is gone.
pub fn disconnected(agent: &mut Agent) {
    cancel(agent);
    agent.drags.dropped = None;
    out::disconnected(agent);
}

fn leave(agent: &mut Agent, drag: &mut Drag) {
    let Some(target) = drag.target.take() else { return };
    target.devices.iter().for_each(WlDataDevice::leave);
    if target.native {
        x11::drag::leaves_x11(agent);
    } else if target.x11 {
        x11::drag::leaves(agent, false);
    }
    if drag.own.is_some() {
        out::target(agent, None, Actions::NONE);
    }
}

fn moved(agent: &mut Agent, time: u32, x: f64, y: f64) {
    let Some(mut drag) = agent.drags.now.take() else { return };
    let (location, under) = pointer::find(agent, drag.root, x, y);
    let same = match (&drag.target, &under) {
        (Some(target), Some((surface, _))) => target.surface == *surface,
        (None, None) => true,
        _ => false,
    };
    if !same {
        leave(agent, &mut drag);
        agent.drags.targets += 1;
        let number = agent.drags.targets;
        if let Some((surface, origin)) = &under {
            let at = location - *origin;
            drag.target = enter(agent, &drag, surface, (at.x, at.y), number);
        }
    } else if let (Some(target), Some((_, origin))) = (&drag.target, &under) {
        let at = location - *origin;
        target.devices.iter().for_each(|device| device.motion(time, at.x, at.y));
    }
    // The same as where the seat's pointer would be: the root window.
    match &drag.target {
        Some(Target { native: true, .. }) => x11::drag::moves_over_x11(agent, location),
        Some(Target { x11: true, .. }) => {
            let at = location.to_i32_round();
            x11::drag::moves(agent, Point::new(at.x, at.y), choose(drag.actions, Actions::COPY));
        }
        _ => {}
    }
    answer(agent, &mut drag);
    agent.drags.now = Some(drag);
}

/// Offers it to the app of a surface; none where that has no data device.
fn enter(agent: &mut Agent, drag: &Drag, surface: &WlSurface, at: (f64, f64), number: u64) -> Option<Target> {
    let target = |x11, native| Target {
        number,
        surface: surface.clone(),
        devices: Vec::new(),
        offers: Vec::new(),
        x11,
        native,
        kind: None,
        action: Actions::NONE,
        dropped: false,
    };
    let of_x11 = |agent: &Agent| matches!(&agent.drags.out, Some(Out { from: From::X11, .. }));
    if let Some(id) = id_of(surface).filter(|id| agent.x11.has(*id)) {
        if drag.own.is_some() && of_x11(agent) {
            x11::drag::enters_x11(agent, id);
            // What they say to each other is not heard.
            let kind = Some(out::INTERNAL.to_owned());
            return Some(Target { kind, action: Actions::COPY, ..target(true, true) });
        }
        x11::drag::enters(agent, id, drag.types.clone(), drag.actions);
        return Some(target(true, false));
    }
    let client = surface.client()?;
    let display = &agent.display_handle;
    let mut ids = Vec::new();
    display.backend_handle().with_all_objects_for(client.id(), |id| ids.push(id)).ok()?;
    ids.retain(|id| id.interface().name == WlDataDevice::interface().name);
    let devices: Vec<WlDataDevice> =
        ids.into_iter().filter_map(|id| WlDataDevice::from_id(display, id).ok()).collect();
    let own = agent.drags.out.as_ref().filter(|out| Some(out.serial) == drag.own);
    if own.is_some_and(|out| !out.is_for(&client.id())) || devices.is_empty() {
        return None;
    }
    if own.is_some_and(|out| !out.is_offered()) {
        let serial = SERIAL_COUNTER.next_serial();
        devices.iter().for_each(|device| device.enter(serial.into(), surface, at.0, at.1, None));
        let kind = Some(out::INTERNAL.to_owned());
        return Some(Target { devices, kind, action: Actions::COPY, ..target(false, false) });
    }
    let mut offers = Vec::new();
    for device in &devices {
        let offer = client
            .create_resource::<WlDataOffer, OfferOf, Agent>(
                display,
                device.version(),
                OfferOf(number, AtomicBool::new(false)),
            )
            .ok()?;
        device.data_offer(&offer);
        for name in kinds::for_wayland(&drag.types) {
            offer.offer(name);
        }
        if offer.version() >= CHOOSES {
            offer.source_actions(to_wayland(drag.actions));
        }
        device.enter(SERIAL_COUNTER.next_serial().into(), surface, at.0, at.1, Some(&offer));
        offers.push(offer);
    }
    let first = devices.first()?;
    // Before apps could choose, everything was copied.
    let action = if first.version() < CHOOSES { Actions::COPY } else { Actions::NONE };
    Some(Target { devices, offers, action, ..target(false, false) })
}

/// Tells the host what the app under the drag would do, if that is new.
fn answer(agent: &mut Agent, drag: &mut Drag) {
    let takes = drag.target.as_ref().filter(|target| target.kind.is_some() && !target.action.is_empty());
    let now = takes.map_or((None, Actions::NONE), |target| (target.kind.clone(), target.action));
    if drag.answered.as_ref() != Some(&now) {
        drag.answered = Some(now.clone());
        let native = drag.target.as_ref().is_some_and(|target| target.native);
        if drag.own.is_some() && !native {
            out::target(agent, now.0.clone(), now.1);
        }
        agent.send(&Request::DragAnswer { serial: drag.serial, kind: now.0, action: now.1 });
    }
}

fn dropped(agent: &mut Agent) {
    let Some(mut drag) = agent.drags.now.take() else { return };
    let serial = drag.serial;
    match &mut drag.target {
        Some(target) if target.kind.is_some() && !target.action.is_empty() && target.surface.alive() => {
            target.dropped = true;
            target.devices.iter().for_each(WlDataDevice::drop);
            for of in target.offers.iter().filter_map(|offer| offer.data::<OfferOf>()) {
                of.1.store(true, Ordering::Relaxed);
            }
            let (native, action) = (target.native, target.action);
            if target.x11 && !native {
                x11::drag::leaves(agent, true);
            }
            if native || target.offers.is_empty() && !target.x11 {
                // The app that it is from does the rest.
                if native {
                    x11::drag::let_go(agent);
                }
                agent.send(&Request::DragEnd { serial, action });
                return;
            }
            agent.drags.dropped = Some(drag);
        }
        _ => {
            leave(agent, &mut drag);
            agent.send(&Request::DragEnd { serial, action: Actions::NONE });
        }
    }
}

/// The X11 app under the drag says what it would do.
pub fn x11_answered(agent: &mut Agent, action: Actions) {
    let Some(mut drag) = agent.drags.now.take() else { return };
    if let Some(target) = drag.target.as_mut().filter(|target| target.x11 && !target.native) {
        // It does not say which type it would take.
        target.kind = drag.types.first().filter(|_| !action.is_empty()).cloned();
        target.action = action;
        answer(agent, &mut drag);
    }
    agent.drags.now = Some(drag);
}

/// It is done with what was dropped.
pub fn x11_ended(agent: &mut Agent, action: Actions) {
    let is_x11 = |drag: &Drag| drag.target.as_ref().is_some_and(|target| target.x11);
    if agent.drags.dropped.as_ref().is_some_and(is_x11) {
        end(agent, Some(action));
    }
}

/// An X11 app fetches what is dragged.
pub fn x11_fetches(agent: &mut Agent, kind: &str, pipe: Pipe) {
    let drag = agent.drags.dropped.as_ref().or(agent.drags.now.as_ref());
    match drag.map(|drag| (drag.own, drag.serial)) {
        Some(of) => fetch(agent, of, kind, pipe),
        None => pipe.cut_off(),
    }
}

/// Fetches what is dragged, from the app of the guest that drags it or from the host.
fn fetch(agent: &mut Agent, of: (Option<u64>, u64), kind: &str, pipe: Pipe) {
    match of {
        (Some(own), _) => out::give(agent, own, kind, pipe),
        (None, serial) => exchange::fetch(agent, Selection::Drag, kind, pipe, Origin::Host(serial)),
    }
}

/// The app is done with what was dropped, or will never be.
fn end(agent: &mut Agent, action: Option<Actions>) {
    if let Some(drag) = agent.drags.dropped.take() {
        let chosen = drag.target.map_or(Actions::NONE, |target| target.action);
        agent.send(&Request::DragEnd { serial: drag.serial, action: action.unwrap_or(chosen) });
    }
}

fn to_wayland(actions: Actions) -> DndAction {
    DndAction::from_bits_truncate(actions.0.into())
}

fn from_wayland(actions: WEnum<DndAction>) -> Actions {
    let bits = actions.into_result().unwrap_or(DndAction::empty()).bits();
    Actions(u8::try_from(bits & 7).unwrap_or(0))
}

/// One of those that both allow: the app's favourite, else the least that can go wrong.
fn choose(possible: Actions, favourite: Actions) -> Actions {
    let one = favourite.0.count_ones() == 1 && possible.contains(favourite);
    let fallback = [Actions::COPY, Actions::MOVE, Actions::ASK].into_iter().find(|a| possible.contains(*a));
    if one { favourite } else { fallback.unwrap_or(Actions::NONE) }
}

impl Dispatch<WlDataOffer, OfferOf> for Agent {
    fn request(
        agent: &mut Self,
        _: &Client,
        offer: &WlDataOffer,
        request: wl_data_offer::Request,
        of: &OfferOf,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let is = |drag: &Drag| drag.target.as_ref().is_some_and(|target| target.number == of.0);
        let over = agent.drags.now.as_ref().is_some_and(is);
        let taken = agent.drags.dropped.as_ref().is_some_and(is);
        match request {
            wl_data_offer::Request::Accept { mime_type, .. } if over => {
                let Some(mut drag) = agent.drags.now.take() else { return };
                if let Some(target) = &mut drag.target {
                    let kind =
                        mime_type.as_deref().map(kinds::meant).filter(|k| drag.types.iter().any(|t| t == k));
                    target.kind = kind.map(str::to_owned);
                }
                answer(agent, &mut drag);
                agent.drags.now = Some(drag);
            }
            wl_data_offer::Request::SetActions { dnd_actions, preferred_action } => {
                let favourite = from_wayland(preferred_action);
                if favourite.0.count_ones() > 1 {
                    offer.post_error(wl_data_offer::Error::InvalidAction, "more than one preferred action");
                    return;
                }
                let drags = &mut agent.drags;
                let drag = if over { drags.now.as_mut() } else { drags.dropped.as_mut().filter(|_| taken) };
                let Some(Drag { actions, target: Some(target), .. }) = drag else { return };
                let action = choose(actions.common(from_wayland(dnd_actions)), favourite);
                if action != target.action {
                    target.action = action;
                    offer.action(to_wayland(action));
                }
                if over && let Some(mut drag) = agent.drags.now.take() {
                    answer(agent, &mut drag);
                    agent.drags.now = Some(drag);
                }
            }
            wl_data_offer::Request::Receive { mime_type, fd } if over || taken => {
                let drag = if over { &agent.drags.now } else { &agent.drags.dropped };
                let Some(from) = drag.as_ref().map(|drag| (drag.own, drag.serial)) else { return };
                match Pipe::foreign(fd) {
                    Ok(pipe) => {
                        let kind = kinds::meant(&mime_type).to_owned();
                        fetch(agent, from, &kind, pipe);
                    }
                    Err(error) => tracing::debug!(%error, "an app takes what is dropped into no pipe"),
                }
            }
            wl_data_offer::Request::Finish if taken => end(agent, None),
            // It was dropped, and another drop or another window process came since.
            wl_data_offer::Request::Finish if of.1.load(Ordering::Relaxed) => {}
            wl_data_offer::Request::Finish => {
                offer.post_error(wl_data_offer::Error::InvalidFinish, "nothing was dropped");
            }
            _ => {}
        }
    }

    fn destroyed(agent: &mut Self, _: ClientId, offer: &WlDataOffer, of: &OfferOf) {
        let is = |drag: &Drag| drag.target.as_ref().is_some_and(|target| target.number == of.0);
        if agent.drags.dropped.as_ref().is_some_and(is) {
            // Before apps could say that they are finished, this said it.
            end(agent, (offer.version() >= CHOOSES).then_some(Actions::NONE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_that_both_allow() {
        let both = Actions::COPY.with(Actions::MOVE);
        assert_eq!(choose(both, Actions::MOVE), Actions::MOVE);
        assert_eq!(choose(both, Actions::ASK), Actions::COPY);
        assert_eq!(choose(Actions::MOVE, Actions::COPY), Actions::MOVE);
        assert_eq!(choose(both, both), Actions::COPY);
        assert_eq!(choose(Actions::NONE, Actions::COPY), Actions::NONE);
        assert_eq!(from_wayland(WEnum::Unknown(0xffff)), Actions::NONE);
    }
}
