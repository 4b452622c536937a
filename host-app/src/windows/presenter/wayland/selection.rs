//! The desktop's selections: by data control where there is one (`ext_data_control_v1`, `zwlr_data_control_v1`), at any time; else by
//! the data device and primary selection, which only the app with the focus may use.
//!
//! The four protocols say the same with other names: [`Giver`] is a source of ours, [`Found`] an offer of another app's.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use inlay_exchange::pipe::Pipe;
use inlay_exchange::{News, kinds};
use inlay_protocol::limits;
use inlay_protocol::selection::{Actions, Selection};
use wayland_client::backend::ObjectId;
use wayland_client::globals::GlobalList;
use wayland_client::protocol::wl_data_device::{self, WlDataDevice};
use wayland_client::protocol::wl_data_device_manager::WlDataDeviceManager;
use wayland_client::protocol::wl_data_offer::{self, WlDataOffer};
use wayland_client::protocol::wl_data_source::WlDataSource;
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::{
    Connection, Dispatch, Proxy as _, QueueHandle, WEnum, delegate_noop, event_created_child,
};
use wayland_protocols::ext::data_control::v1::client::ext_data_control_device_v1::{
    self, ExtDataControlDeviceV1,
};
use wayland_protocols::ext::data_control::v1::client::ext_data_control_manager_v1::ExtDataControlManagerV1;
use wayland_protocols::ext::data_control::v1::client::ext_data_control_offer_v1::{
    self, ExtDataControlOfferV1,
};
use wayland_protocols::ext::data_control::v1::client::ext_data_control_source_v1::{
    self, ExtDataControlSourceV1,
};
use wayland_protocols::wp::primary_selection::zv1::client::zwp_primary_selection_device_manager_v1::ZwpPrimarySelectionDeviceManagerV1 as PrimaryManager;
use wayland_protocols::wp::primary_selection::zv1::client::zwp_primary_selection_device_v1::{
    self, ZwpPrimarySelectionDeviceV1 as PrimaryDevice,
};
use wayland_protocols::wp::primary_selection::zv1::client::zwp_primary_selection_offer_v1::{
    self, ZwpPrimarySelectionOfferV1 as PrimaryOffer,
};
use wayland_protocols::wp::primary_selection::zv1::client::zwp_primary_selection_source_v1::{
    self, ZwpPrimarySelectionSourceV1 as PrimarySource,
};
use wayland_protocols_wlr::data_control::v1::client::zwlr_data_control_device_v1::{
    self, ZwlrDataControlDeviceV1,
};
use wayland_protocols_wlr::data_control::v1::client::zwlr_data_control_manager_v1::ZwlrDataControlManagerV1;
use wayland_protocols_wlr::data_control::v1::client::zwlr_data_control_offer_v1::{
    self, ZwlrDataControlOfferV1,
};
use wayland_protocols_wlr::data_control::v1::client::zwlr_data_control_source_v1::{
    self, ZwlrDataControlSourceV1,
};

use super::super::Selections;
use super::drag::ACTIONS;
use super::{State, Wayland};

/// Offers of other apps that are kept: the two that count, and those that are being told.
const OFFERS: usize = 16;

/// By what selections are reached.
#[derive(Debug)]
enum Manager {
    Ext(ExtDataControlManagerV1),
    Wlr(ZwlrDataControlManagerV1),
    Core(WlDataDeviceManager, Option<PrimaryManager>),
}

#[derive(Debug)]
enum Device {
    Ext(ExtDataControlDeviceV1),
    Wlr(ZwlrDataControlDeviceV1),
    Core(WlDataDevice, Option<PrimaryDevice>),
}

/// A source of ours.
#[derive(Debug)]
enum Giver {
    Ext(ExtDataControlSourceV1),
    Wlr(ZwlrDataControlSourceV1),
    Core(WlDataSource),
    Primary(PrimarySource),
}

/// An offer of another app's.
#[derive(Debug)]
enum Found {
    Ext(ExtDataControlOfferV1),
    Wlr(ZwlrDataControlOfferV1),
    Core(WlDataOffer),
    Primary(PrimaryOffer),
}

/// Does the same with whatever variant it is.
macro_rules! each {
    ($what:expr, $kind:ident, $inner:ident => $act:expr) => {
        match $what {
            $kind::Ext($inner) => $act,
            $kind::Wlr($inner) => $act,
            $kind::Core($inner) => $act,
            $kind::Primary($inner) => $act,
        }
    };
}

impl Drop for Giver {
    fn drop(&mut self) {
        each!(self, Self, source => source.destroy());
    }
}

impl Giver {
    fn id(&self) -> ObjectId {
        each!(self, Self, source => source.id())
    }

    fn offer(&self, name: String) {
        each!(self, Self, source => source.offer(name));
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        each!(self, Self, offer => offer.destroy());
    }
}

/// What is known of the desktop's selections.
#[derive(Debug)]
pub struct Desktop {
    manager: Option<Manager>,
    device: Option<Device>,
    /// By it our own sources are known among offers.
    mark: String,
    offers: HashMap<ObjectId, (Found, Vec<String>)>,
    /// For drags, where it is not the manager already.
    drag_manager: Option<WlDataDeviceManager>,
    drag_device: Option<WlDataDevice>,
    /// What the sources of drags allow.
    pub(super) allowed: HashMap<ObjectId, Actions>,
    current: [Option<ObjectId>; Selection::COUNT],
    ours: [Option<Giver>; 2],
    /// Offers of ours that wait for the focus.
    waiting: [Option<Vec<String>>; 2],
    pub(super) news: Vec<News>,
}

impl Desktop {
    /// Binds what there is.
    pub fn bind(list: &GlobalList, handle: &QueueHandle<State>) -> Self {
        let ext = list.bind(handle, 1..=1, ()).map(Manager::Ext);
        // Its first version knows no primary selection.
        let wlr = || list.bind(handle, 2..=2, ()).map(Manager::Wlr);
        let core = || {
            let primary = list.bind(handle, 1..=1, ()).ok();
            list.bind(handle, 1..=3, ()).map(|manager| Manager::Core(manager, primary))
        };
        let manager = ext.or_else(|_| wlr()).or_else(|_| core()).ok();
        let mut random = [0; 8];
        // Without randomness it is still unlikely that another has the same.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let number = u64::from_ne_bytes(random) ^ u64::from(std::process::id());
        let mark = format!("{}{number:x}", kinds::MARK);
        let drag_manager = match &manager {
            Some(Manager::Core(..)) => None,
            _ => list.bind(handle, 1..=3, ()).ok(),
        };
        Self {
            manager,
            drag_manager,
            drag_device: None,
            allowed: HashMap::new(),
            device: None,
            mark,
            offers: HashMap::new(),
            current: [None, None, None],
            ours: [None, None],
            waiting: [None, None],
            news: Vec::new(),
        }
    }

    /// The seat is there.
    pub fn take_seat(&mut self, seat: &WlSeat, handle: &QueueHandle<State>) {
        self.drag_device =
            self.drag_manager.as_ref().map(|manager| manager.get_data_device(seat, handle, ()));
        self.device = self.manager.as_ref().map(|manager| match manager {
            Manager::Ext(manager) => Device::Ext(manager.get_data_device(seat, handle, ())),
            Manager::Wlr(manager) => Device::Wlr(manager.get_data_device(seat, handle, ())),
            Manager::Core(manager, primary) => Device::Core(
                manager.get_data_device(seat, handle, ()),
                primary.as_ref().map(|primary| primary.get_device(seat, handle, ())),
            ),
        });
    }

    /// The seat, or its device, is gone.
    pub fn drop_seat(&mut self) {
        if let Some(device) = self.drag_device.take().filter(|device| device.version() >= 2) {
            device.release();
        }
        match self.device.take() {
            Some(Device::Ext(device)) => device.destroy(),
            Some(Device::Wlr(device)) => device.destroy(),
            Some(Device::Core(device, primary)) => {
                if device.version() >= 2 {
                    device.release();
                }
                if let Some(primary) = primary {
                    primary.destroy();
                }
            }
            None => {}
        }
        self.offers.clear();
        self.ours = [None, None];
        for selection in Selection::ALL {
            self.selected(selection, None);
        }
    }

    /// By what something can be dragged out of windows of ours.
    pub(super) fn for_drags(&self) -> Option<(&WlDataDeviceManager, &WlDataDevice)> {
        let core = match (&self.manager, &self.device) {
            (Some(Manager::Core(manager, _)), Some(Device::Core(device, _))) => Some((manager, device)),
            _ => self.drag_manager.as_ref().zip(self.drag_device.as_ref()),
        };
        core.filter(|(manager, _)| manager.version() >= ACTIONS)
    }

    /// The type by which our own sources are known.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Another app's offer, whose types follow.
    fn found(&mut self, id: ObjectId, offer: Found) {
        if self.offers.len() < OFFERS {
            self.offers.insert(id, (offer, Vec::new()));
        }
    }

    /// The offer of what is dragged over a window of ours from now on, with its names.
    pub(super) fn take_dragged(&mut self, id: &ObjectId) -> Vec<String> {
        // One that was dropped, and never ended, goes with the next.
        self.drop_dragged();
        self.current[Selection::Drag.index()] = Some(id.clone());
        self.offers.get(id).map(|(_, names)| names.clone()).unwrap_or_default()
    }

    /// It is there no more.
    pub(super) fn drop_dragged(&mut self) {
        if let Some(id) = self.current[Selection::Drag.index()].take() {
            self.offers.remove(&id);
            self.allowed.remove(&id);
        }
    }

    fn named(&mut self, id: &ObjectId, name: String) {
        if let Some((_, names)) = self.offers.get_mut(id)
            && names.len() < 2 * limits::TYPES
        {
            names.push(name);
        }
    }

    /// A selection is this offer now.
    fn selected(&mut self, selection: Selection, id: Option<ObjectId>) {
        if let Some(before) = std::mem::replace(&mut self.current[selection.index()], id.clone())
            && Some(&before) != id.as_ref()
        {
            self.offers.remove(&before);
        }
        let names = id.and_then(|id| self.offers.get(&id)).map_or(&[][..], |(_, names)| names);
        // Where an offer of ours waits for the focus, that is to be the selection.
        if !names.contains(&self.mark) && self.waiting.get(selection.index()).is_none_or(Option::is_none) {
            self.news.push(News::Changed { selection, types: kinds::travelling(names) });
        }
    }

    pub(super) fn asked(&mut self, source: &ObjectId, name: &str, fd: OwnedFd) {
        let is = |giver: &Option<Giver>| giver.as_ref().is_some_and(|g| g.id() == *source);
        let Some(at) = self.ours.iter().position(is) else { return };
        match Pipe::foreign(fd) {
            Ok(pipe) => {
                let kind = kinds::meant(name).to_owned();
                self.news.push(News::Wanted { selection: Selection::ALL[at], kind, pipe });
            }
            Err(error) => tracing::debug!("an app pastes into no pipe: {error}"),
        }
    }

    pub(super) fn cancelled(&mut self, source: &ObjectId) {
        for ours in &mut self.ours {
            ours.take_if(|giver| giver.id() == *source);
        }
    }

    fn source(&self, selection: Selection, handle: &QueueHandle<State>) -> Option<Giver> {
        Some(match (self.manager.as_ref()?, selection) {
            (Manager::Ext(manager), _) => Giver::Ext(manager.create_data_source(handle, ())),
            (Manager::Wlr(manager), _) => Giver::Wlr(manager.create_data_source(handle, ())),
            (Manager::Core(manager, _), Selection::Clipboard) => {
                Giver::Core(manager.create_data_source(handle, ()))
            }
            (Manager::Core(_, primary), Selection::Primary) => {
                Giver::Primary(primary.as_ref()?.create_source(handle, ()))
            }
            (Manager::Core(..), Selection::Drag) => return None,
        })
    }

    /// Makes a source of ours the selection, or withdraws the one that is; `false` when that cannot be done now.
    fn set(&self, selection: Selection, giver: Option<&Giver>, press: Option<u32>) -> bool {
        match (self.device.as_ref(), selection, giver) {
            (Some(Device::Ext(device)), Selection::Clipboard, Some(Giver::Ext(s))) => {
                device.set_selection(Some(s))
            }
            (Some(Device::Ext(device)), Selection::Primary, Some(Giver::Ext(s))) => {
                device.set_primary_selection(Some(s));
            }
            (Some(Device::Wlr(device)), Selection::Clipboard, Some(Giver::Wlr(s))) => {
                device.set_selection(Some(s))
            }
            (Some(Device::Wlr(device)), Selection::Primary, Some(Giver::Wlr(s))) => {
                device.set_primary_selection(Some(s));
            }
            (Some(Device::Core(device, primary)), _, giver) => {
                let Some(press) = press else { return false };
                match (selection, giver, primary) {
                    (Selection::Clipboard, Some(Giver::Core(s)), _) => device.set_selection(Some(s), press),
                    (Selection::Primary, Some(Giver::Primary(s)), Some(primary)) => {
                        primary.set_selection(Some(s), press);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        true
    }

    /// Does what waited for the focus.
    fn settle(&mut self, press: Option<u32>, handle: &QueueHandle<State>) {
        for selection in Selection::ALL {
            let Some(types) = self.waiting[selection.index()].take() else { continue };
            let Some(giver) = self.source(selection, handle) else { continue };
            for name in kinds::for_wayland(&types) {
                giver.offer(name);
            }
            giver.offer(self.mark.clone());
            if self.set(selection, Some(&giver), press) {
                self.ours[selection.index()] = Some(giver);
            } else {
                self.waiting[selection.index()] = Some(types);
            }
        }
    }
}

impl State {
    /// What the user did last in a window of ours, while it has the focus: only then may the data device set anything.
    fn press_of_focus(&self) -> Option<u32> {
        self.newest_press().filter(|_| self.keyboard.focus().is_some())
    }

    fn settle_selections(&mut self) {
        let press = self.press_of_focus();
        self.selections.settle(press, &self.handle);
    }
}

impl Selections for Wayland {
    fn due(&self) -> Option<Instant> {
        let Desktop { news, waiting, .. } = &self.state.selections;
        let can_settle = waiting.iter().any(Option::is_some) && self.state.press_of_focus().is_some();
        (!news.is_empty() || can_settle).then(Instant::now).or_else(|| self.state.drag_due())
    }

    fn turn(&mut self) -> Vec<News> {
        if self.state.selections.waiting.iter().any(Option::is_some) {
            self.state.settle_selections();
            self.state.make_room();
        }
        self.state.end_silent_drag();
        std::mem::take(&mut self.state.selections.news)
    }

    fn offer(&mut self, selection: Selection, types: Vec<String>) {
        let selections = &mut self.state.selections;
        selections.waiting[selection.index()] = None;
        if types.is_empty() {
            // Destroyed, it is the selection no more.
            selections.ours[selection.index()] = None;
        } else {
            selections.waiting[selection.index()] = Some(types);
            self.state.settle_selections();
        }
        self.state.make_room();
    }

    fn take(&mut self, selection: Selection, kind: &str, pipe: Pipe) {
        let selections = &self.state.selections;
        let current = selections.current[selection.index()].as_ref().and_then(|id| selections.offers.get(id));
        let Some((offer, name)) = current.and_then(|(o, names)| Some((o, kinds::to_ask(names, kind)?)))
        else {
            return pipe.cut_off();
        };
        let fd = pipe.into_fd();
        each!(offer, Found, offer => offer.receive(name.to_owned(), fd.as_fd()));
        // The request holds the descriptor until it is written.
        self.state.make_room();
    }
}

/// What an offer tells, in one protocol.
macro_rules! names {
    ($offer:ident in $offer_mod:ident) => {
        impl Dispatch<$offer, ()> for State {
            fn event(
                state: &mut Self,
                offer: &$offer,
                event: $offer_mod::Event,
                (): &(),
                _: &Connection,
                _: &QueueHandle<Self>,
            ) {
                if let $offer_mod::Event::Offer { mime_type } = event {
                    state.selections.named(&offer.id(), mime_type);
                }
            }
        }
    };
}

names!(ExtDataControlOfferV1 in ext_data_control_offer_v1);
names!(ZwlrDataControlOfferV1 in zwlr_data_control_offer_v1);
names!(PrimaryOffer in zwp_primary_selection_offer_v1);

impl Dispatch<WlDataOffer, ()> for State {
    fn event(
        state: &mut Self,
        offer: &WlDataOffer,
        event: wl_data_offer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_data_offer::Event::Offer { mime_type } => state.selections.named(&offer.id(), mime_type),
            wl_data_offer::Event::SourceActions { source_actions: WEnum::Value(actions) } => {
                state.selections.allowed.insert(offer.id(), super::drag::actions(actions));
            }
            wl_data_offer::Event::Action { dnd_action: WEnum::Value(action) } => {
                state.action_chosen(offer, action);
            }
            _ => {}
        }
    }
}

/// What a source tells, in one protocol.
macro_rules! tells {
    ($source:ident in $source_mod:ident) => {
        impl Dispatch<$source, ()> for State {
            fn event(
                state: &mut Self,
                source: &$source,
                event: $source_mod::Event,
                (): &(),
                _: &Connection,
                _: &QueueHandle<Self>,
            ) {
                match event {
                    $source_mod::Event::Send { mime_type, fd } => {
                        state.selections.asked(&source.id(), &mime_type, fd);
                    }
                    $source_mod::Event::Cancelled => state.selections.cancelled(&source.id()),
                    _ => {}
                }
            }
        }
    };
}

tells!(ExtDataControlSourceV1 in ext_data_control_source_v1);
tells!(ZwlrDataControlSourceV1 in zwlr_data_control_source_v1);
tells!(PrimarySource in zwp_primary_selection_source_v1);

/// What a data control device tells, in one of its two protocols.
macro_rules! controls {
    ($device:ident in $module:ident, $offer:ident as $found:ident) => {
        impl Dispatch<$device, ()> for State {
            fn event(
                state: &mut Self,
                _: &$device,
                event: $module::Event,
                (): &(),
                _: &Connection,
                _: &QueueHandle<Self>,
            ) {
                let id = |offer: Option<$offer>| offer.map(|offer| offer.id());
                match event {
                    $module::Event::DataOffer { id } => state.selections.found(id.id(), Found::$found(id)),
                    $module::Event::Selection { id: offer } => {
                        state.selections.selected(Selection::Clipboard, id(offer));
                    }
                    $module::Event::PrimarySelection { id: offer } => {
                        state.selections.selected(Selection::Primary, id(offer));
                    }
                    $module::Event::Finished => state.selections.drop_seat(),
                    _ => {}
                }
            }

            event_created_child!(State, $device, [$module::EVT_DATA_OFFER_OPCODE => ($offer, ())]);
        }
    };
}

controls!(ExtDataControlDeviceV1 in ext_data_control_device_v1, ExtDataControlOfferV1 as Ext);
controls!(ZwlrDataControlDeviceV1 in zwlr_data_control_device_v1, ZwlrDataControlOfferV1 as Wlr);

impl Dispatch<WlDataDevice, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataDevice,
        event: wl_data_device::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_data_device::Event::DataOffer { id } => state.selections.found(id.id(), Found::Core(id)),
            wl_data_device::Event::Selection { id } if state.selections.drag_device.is_none() => {
                state.selections.selected(Selection::Clipboard, id.map(|id| id.id()));
            }
            // Told by data control as well.
            wl_data_device::Event::Selection { id: Some(id) } => {
                state.selections.offers.remove(&id.id());
            }
            other => state.drag_event(other),
        }
    }

    event_created_child!(State, WlDataDevice, [wl_data_device::EVT_DATA_OFFER_OPCODE => (WlDataOffer, ())]);
}

impl Dispatch<PrimaryDevice, ()> for State {
    fn event(
        state: &mut Self,
        _: &PrimaryDevice,
        event: zwp_primary_selection_device_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            zwp_primary_selection_device_v1::Event::DataOffer { offer } => {
                state.selections.found(offer.id(), Found::Primary(offer));
            }
            zwp_primary_selection_device_v1::Event::Selection { id } => {
                state.selections.selected(Selection::Primary, id.map(|id| id.id()));
            }
            _ => {}
        }
    }

    event_created_child!(State, PrimaryDevice, [zwp_primary_selection_device_v1::EVT_DATA_OFFER_OPCODE => (PrimaryOffer, ())]);
}

delegate_noop!(State: ExtDataControlManagerV1);
delegate_noop!(State: ZwlrDataControlManagerV1);
delegate_noop!(State: WlDataDeviceManager);
delegate_noop!(State: PrimaryManager);
