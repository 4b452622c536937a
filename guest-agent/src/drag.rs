//! Something of the host that is dragged over apps of the guest: Wayland's (`wl_data_device`), or X11's (`x11/wm/drag.rs`).
//!
//! ```text
//! host: Enter, Motion -> the surface under it -> data_offer, enter, motion -> accept, set_actions -> DragAnswer -> host
//!       Drop          -> drop, once the app takes it -> receive -> exchange -> finish              -> DragEnd    -> host
//! ```
//! The pointer has no part in it: it left all windows when the drag began.

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
}

/// The host tells of a drag.
pub fn handle(agent: &mut Agent, event: Event) {
    match event {
        Event::Enter { surface, x, y, serial, types, actions } => {
            cancel(agent);
            let drag = Drag {
                serial,
                root: surface,
                types: kinds::travelling(types),
                actions,
                target: None,
                answered: None,
            };
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
}

fn leave(agent: &Agent, drag: &mut Drag) {
    let Some(target) = drag.target.take() else { return };
    target.devices.iter().for_each(WlDataDevice::leave);
    if target.x11 {
        x11::drag_leaves(agent, false);
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
    if drag.target.as_ref().is_some_and(|target| target.x11) {
        // The same as where the seat's pointer would be: the root window.
        let at = location.to_i32_round();
        x11::drag_moves(agent, Point::new(at.x, at.y), choose(drag.actions, Actions::COPY));
    }
    answer(agent, &mut drag);
    agent.drags.now = Some(drag);
}

/// Offers it to the app of a surface; none where that has no data device.
fn enter(agent: &Agent, drag: &Drag, surface: &WlSurface, at: (f64, f64), number: u64) -> Option<Target> {
    if id_of(surface).is_some_and(|id| x11::drag_enters(agent, id, drag.types.clone())) {
        let (surface, action) = (surface.clone(), Actions::NONE);
        return Some(Target {
            number,
            surface,
            devices: Vec::new(),
            offers: Vec::new(),
            x11: true,
            kind: None,
            action,
            dropped: false,
        });
    }
    let client = surface.client()?;
    let display = &agent.display_handle;
    let mut ids = Vec::new();
    display.backend_handle().with_all_objects_for(client.id(), |id| ids.push(id)).ok()?;
    ids.retain(|id| id.interface().name == WlDataDevice::interface().name);
    let devices: Vec<WlDataDevice> =
        ids.into_iter().filter_map(|id| WlDataDevice::from_id(display, id).ok()).collect();
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
    Some(Target {
        number,
        surface: surface.clone(),
        devices,
        offers,
        x11: false,
        kind: None,
        action,
        dropped: false,
    })
}

/// Tells the host what the app under the drag would do, if that is new.
fn answer(agent: &mut Agent, drag: &mut Drag) {
    let takes = drag.target.as_ref().filter(|target| target.kind.is_some() && !target.action.is_empty());
    let now = takes.map_or((None, Actions::NONE), |target| (target.kind.clone(), target.action));
    if drag.answered.as_ref() != Some(&now) {
        drag.answered = Some(now.clone());
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
            if target.x11 {
                x11::drag_leaves(agent, true);
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
    if let Some(target) = drag.target.as_mut().filter(|target| target.x11) {
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
    match drag.map(|drag| drag.serial) {
        Some(serial) => exchange::fetch(agent, Selection::Drag, kind, pipe, Origin::Host(serial)),
        None => pipe.cut_off(),
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
                let Some(serial) = drag.as_ref().map(|drag| drag.serial) else { return };
                match Pipe::foreign(fd) {
                    Ok(pipe) => {
                        let kind = kinds::meant(&mime_type).to_owned();
                        exchange::fetch(agent, Selection::Drag, &kind, pipe, Origin::Host(serial));
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
