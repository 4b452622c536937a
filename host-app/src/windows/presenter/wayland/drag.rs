//! What is dragged over windows of ours (`wl_data_device`).

use inlay_exchange::kinds;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::selection::Actions;
use wayland_client::Proxy as _;
use wayland_client::protocol::wl_data_device;
use wayland_client::protocol::wl_data_device_manager::DndAction;
use wayland_client::protocol::wl_data_offer::WlDataOffer;

use super::super::{Dragged, HostEvent};
use super::State;

/// The version of offers with actions.
pub const ACTIONS: u32 = 3;

/// What is dragged over a window of ours, or was dropped on it.
#[derive(Debug)]
pub struct Drag {
    offer: WlDataOffer,
    names: Vec<String>,
    /// The serial of its entry.
    serial: u32,
    /// What its source allows.
    allowed: Actions,
    /// The action that was answered last.
    action: Actions,
    /// The action that the desktop decided on.
    chosen: Actions,
    accepted: bool,
    dropped: bool,
    /// It is dragged out of a window of ours.
    pub own: bool,
}

/// Actions as they travel.
pub fn actions(actions: DndAction) -> Actions {
    Actions(u8::try_from(actions.bits() & 7).unwrap_or(0))
}

pub fn to_wayland(actions: Actions) -> DndAction {
    DndAction::from_bits_truncate(actions.0.into())
}

impl State {
    /// What the data device tells of drags.
    pub(super) fn drag_event(&mut self, event: wl_data_device::Event) {
        match event {
            wl_data_device::Event::Enter { serial, surface, x, y, id: Some(offer) } => {
                let id = offer.id();
                let names = self.selections.take_dragged(&id);
                let Some(window) = surface.data::<SurfaceId>().copied() else {
                    // A frame of ours, or a window that is gone.
                    offer.accept(serial, None);
                    return self.selections.drop_dragged();
                };
                // Before sources could say, everything was copied.
                let allowed = self.selections.allowed.get(&id).copied().unwrap_or(Actions::COPY);
                let types = kinds::travelling(&names);
                let own = names.iter().any(|name| name == self.selections.mark());
                self.drag = Some(Drag {
                    allowed,
                    offer,
                    names,
                    serial,
                    action: Actions::NONE,
                    chosen: Actions::NONE,
                    accepted: false,
                    dropped: false,
                    own,
                });
                self.events.push(HostEvent::Drag(Dragged::Enter {
                    window,
                    x,
                    y,
                    types,
                    actions: allowed,
                    own,
                }));
            }
            wl_data_device::Event::Motion { time, x, y } if self.drag.is_some() => {
                self.events.push(HostEvent::Drag(Dragged::Motion { time_ms: time.into(), x, y }));
            }
            wl_data_device::Event::Leave if self.drag.as_ref().is_some_and(|drag| !drag.dropped) => {
                self.drag = None;
                self.selections.drop_dragged();
                self.events.push(HostEvent::Drag(Dragged::Leave));
            }
            wl_data_device::Event::Drop => {
                if let Some(drag) = &mut self.drag {
                    drag.dropped = true;
                    self.events.push(HostEvent::Drag(Dragged::Drop));
                }
            }
            _ => {}
        }
    }

    /// The desktop decided what becomes of what an offer is of.
    pub(super) fn action_chosen(&mut self, offer: &WlDataOffer, action: DndAction) {
        if let Some(drag) = self.drag.as_mut().filter(|drag| drag.offer == *offer) {
            drag.chosen = actions(action);
        }
    }

    /// What would be done with what is dragged.
    pub(super) fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        let Some(drag) = &mut self.drag else { return };
        let name = match kind {
            // Not all that it can be had as is shown to others.
            Some(_) if drag.own => Some(self.selections.mark().to_owned()),
            Some(kind) => kinds::to_ask(&drag.names, kind).map(str::to_owned),
            None => None,
        };
        drag.accepted = name.is_some();
        drag.action = if drag.accepted { action.common(drag.allowed) } else { Actions::NONE };
        drag.offer.accept(drag.serial, name);
        if drag.offer.version() >= ACTIONS {
            let action = to_wayland(drag.action);
            drag.offer.set_actions(action, action);
        }
    }

    /// What became of what was dropped.
    pub(super) fn end_drag(&mut self, action: Actions) {
        let Some(drag) = self.drag.take_if(|drag| drag.dropped) else { return };
        // Whoever finishes what nothing was agreed on is disconnected.
        let last = match drag.chosen {
            Actions::ASK => [action, Actions::COPY, Actions::MOVE]
                .into_iter()
                .find(|a| [Actions::COPY, Actions::MOVE].contains(a) && drag.allowed.contains(*a)),
            chosen => Some(chosen).filter(|chosen| !chosen.is_empty()),
        };
        if let Some(last) = last.filter(|_| drag.accepted && !action.is_empty())
            && drag.offer.version() >= ACTIONS
        {
            if last != drag.chosen {
                drag.offer.set_actions(to_wayland(last), to_wayland(last));
            }
            drag.offer.finish();
        }
        // Destroyed without, nothing came of it.
        self.selections.drop_dragged();
    }
}
