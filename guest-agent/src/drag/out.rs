//! What apps of the guest drag: the host's desktop carries it, over its own apps, those of other guests, and back over this one's.
//!
//! ```text
//! app: start_drag -> DragStart -> host   host: DragFeedback -> target, action, dnd_drop_performed, dnd_finished, cancelled -> app
//!                                              Event::Fetch -> send
//! ```
//! While it is held, the pointer is the desktop's: an app of Wayland's has it no more, an X11 app keeps it as far as it knows
//! ([`crate::x11::drag`]). What the host tells of it meanwhile counts when the drag is over.

use std::os::fd::AsFd as _;

use inlay_exchange::kinds;
use inlay_exchange::pipe::Pipe;
use inlay_protocol::display::{Request, SurfaceId};
use inlay_protocol::geometry::Point;
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::{Actions, DragIcon, DragStart, Feedback};
use smithay::reexports::wayland_server::Resource as _;
use smithay::reexports::wayland_server::backend::{ClientId, ObjectId};
use smithay::reexports::wayland_server::protocol::wl_data_device::{self, WlDataDevice};
use smithay::reexports::wayland_server::protocol::wl_data_source::WlDataSource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::Serial;
use smithay::wayland::compositor::{self, SurfaceAttributes, with_states};
use smithay::wayland::selection::data_device::with_source_metadata;

use super::{CHOOSES, to_wayland};
use crate::agent::Agent;
use crate::inject::pointer;
use crate::surface::id_of;
use crate::{exchange, x11};

/// The role of a drag icon's surface.
const ICON: &str = "dnd_icon";
/// What a drag is taken as that only its own app understands.
pub const INTERNAL: &str = "application/octet-stream";

/// Who drags it.
#[derive(Debug)]
pub enum From {
    /// A Wayland app; without a source it is for this app alone.
    Wayland(Option<WlDataSource>, Option<ClientId>),
    /// An X11 app.
    X11,
}

/// Something that an app drags, or that was dropped and is still fetched.
#[derive(Debug)]
pub struct Out {
    /// Its number towards the host.
    pub serial: u64,
    /// Who drags it.
    pub from: From,
    /// What it can be had as, by the names that travel, and by those that its app gave.
    pub types: Vec<String>,
    given: Vec<String>,
    /// What its app allows.
    pub actions: Actions,
    icon: Option<DragIcon>,
    /// What its app was told of the one under it.
    told: (Option<String>, Actions),
    /// It was dropped.
    dropped: bool,
}

impl Out {
    /// Whether it may be dropped on an app.
    pub fn is_for(&self, client: &ClientId) -> bool {
        match &self.from {
            From::Wayland(None, own) => own.as_ref() == Some(client),
            From::Wayland(Some(_), _) | From::X11 => true,
        }
    }

    /// Whether there is a source that offers are made of.
    pub fn is_offered(&self) -> bool {
        !matches!(self.from, From::Wayland(None, _))
    }

    fn source(&self) -> Option<&WlDataSource> {
        match &self.from {
            From::Wayland(source, _) => source.as_ref().filter(|source| source.is_alive()),
            From::X11 => None,
        }
    }
}

/// A Wayland app drags something (`wl_data_device.start_drag`).
pub fn start(
    agent: &mut Agent,
    device: &WlDataDevice,
    source: Option<WlDataSource>,
    icon: Option<WlSurface>,
    serial: Serial,
) {
    let of = |out: &Out| source.is_some() && out.source() == source.as_ref();
    if agent.drags.out.as_ref().is_some_and(of)
        || source.as_ref().is_some_and(|s| exchange::is_copied(agent, &s.id()))
    {
        return device.post_error(wl_data_device::Error::UsedSource, "the source has already been used");
    }
    let grabbed = agent.seat.get_pointer().filter(|pointer| pointer.has_grab(serial));
    let pressed = grabbed.and_then(|pointer| pointer.grab_start_data()?.focus);
    let own = pressed.is_some_and(|(surface, _)| surface.id().same_client_as(&device.id()));
    let held = agent.drags.out.as_ref().is_some_and(|out| !out.dropped);
    let root = agent.input.pointer_root.filter(|_| own && !held && agent.display.is_up());
    let Some(root) = root else {
        tracing::debug!("an app drags something that no button holds");
        if let Some(source) = source {
            source.cancelled();
        }
        return;
    };
    if icon.as_ref().is_some_and(|icon| compositor::give_role(icon, ICON).is_err()) {
        return device.post_error(wl_data_device::Error::Role, "the icon's surface has another role");
    }
    let known = source.as_ref().and_then(|source| {
        with_source_metadata(source, |meta| (meta.mime_types.clone(), meta.dnd_action)).ok()
    });
    let (given, allowed) = known.map_or((Vec::new(), Actions::COPY), |(given, allowed)| {
        (given, Actions(u8::try_from(allowed.bits() & 7).unwrap_or(0)))
    });
    // Before sources could say, everything was copied.
    let chooses = source.as_ref().is_some_and(|source| source.version() >= CHOOSES);
    let actions = if chooses { allowed } else { Actions::COPY };
    let client = device.client().map(|client| client.id());
    begin(agent, From::Wayland(source, client), given, actions, root);
    // No app has the pointer while something is dragged.
    pointer::leave(agent);
    if let Some(surface) = icon {
        // Where it was moved before it was an icon does not count.
        let _ = moved_by(&surface);
        if let Some(surface) = id_of(&surface) {
            set_icon(agent, DragIcon { surface, offset: Point::default() });
            agent.surfaces.mark(surface);
        }
    }
}

/// An app drags something out of a window: the host is told.
pub fn begin(agent: &mut Agent, from: From, given: Vec<String>, actions: Actions, root: SurfaceId) {
    finish(agent, Feedback::Cancelled);
    let (x, y) = agent.input.pointer_at;
    let drags = &mut agent.drags;
    drags.started += 1;
    let (serial, types) = (drags.started, kinds::travelling(&given));
    let out = Out {
        serial,
        from,
        types: types.clone(),
        given,
        actions,
        icon: None,
        told: (None, Actions::NONE),
        dropped: false,
    };
    drags.out = Some(out);
    drags.pointer = Some(Some((root, x, y)));
    agent.send(&Request::DragStart(DragStart { serial, surface: root, types, actions }));
}

/// It has this image.
pub fn set_icon(agent: &mut Agent, icon: DragIcon) {
    let Some(out) = agent.drags.out.as_mut().filter(|out| !out.dropped && out.icon != Some(icon)) else {
        return;
    };
    out.icon = Some(icon);
    let serial = out.serial;
    agent.surfaces.know(icon.surface);
    agent.send(&Request::DragIcon { serial, icon: Some(icon) });
}

/// How far the newest commit moves a surface (`wl_surface.offset`).
fn moved_by(surface: &WlSurface) -> Point {
    let delta = with_states(surface, |states| {
        states.cached_state.get::<SurfaceAttributes>().current().buffer_delta.take()
    });
    delta.map_or(Point::default(), |delta| Point::new(delta.x, delta.y))
}

/// A surface committed: the icon's offset moves with `wl_surface.offset`.
pub fn committed(agent: &mut Agent, surface: &WlSurface) {
    let icon = agent.drags.out.as_ref().and_then(|out| out.icon);
    let Some(icon) = icon.filter(|icon| id_of(surface) == Some(icon.surface)) else { return };
    if !matches!(agent.drags.out.as_ref().map(|out| &out.from), Some(From::Wayland(..))) {
        return;
    }
    let by = moved_by(surface);
    let most = inlay_protocol::limits::COORDINATE;
    let sum = |at: i32, by: i32| at.saturating_add(by).clamp(-most, most);
    let offset = Point::new(sum(icon.offset.x, by.x), sum(icon.offset.y, by.y));
    set_icon(agent, DragIcon { offset, ..icon });
}

/// The host tells what becomes of it.
pub fn feedback(agent: &mut Agent, serial: u64, feedback: Feedback) {
    let Some(out) = agent.drags.out.as_mut().filter(|out| out.serial == serial) else { return };
    match feedback {
        Feedback::Target { kind, action } => target(agent, kind, action),
        Feedback::Dropped if out.dropped => {}
        Feedback::Dropped => {
            out.dropped = true;
            if let Some(source) = out.source().filter(|source| source.version() >= CHOOSES) {
                source.dnd_drop_performed();
            }
            match out.from {
                From::Wayland(..) => pointer_comes_back(agent),
                From::X11 => {
                    // What is dropped was taken, also where the desktop says as what only now.
                    if out.told.0.is_none() || out.told.1.is_empty() {
                        let copies = out.actions.contains(Actions::COPY);
                        let action = if copies { Actions::COPY } else { out.actions };
                        x11::drag::answered(agent, action);
                    }
                    x11::drag::let_go(agent);
                }
            }
        }
        over @ (Feedback::Finished { .. } | Feedback::Cancelled) => finish(agent, over),
    }
}

/// What the app under it would do.
pub fn target(agent: &mut Agent, kind: Option<String>, action: Actions) {
    let Some(out) = agent.drags.out.as_mut() else { return };
    let before = std::mem::replace(&mut out.told, (kind.clone(), action));
    if let From::X11 = out.from {
        return x11::drag::answered(agent, if kind.is_some() { action } else { Actions::NONE });
    }
    let Some(source) = out.source() else { return };
    if before.0 != kind {
        source.target(kind.and_then(|kind| kinds::to_ask(&out.given, &kind).map(str::to_owned)));
    }
    if before.1 != action && source.version() >= CHOOSES {
        source.action(to_wayland(action));
    }
}

/// It is over: the app is told how it ended.
fn finish(agent: &mut Agent, how: Feedback) {
    let Some(out) = agent.drags.out.take() else { return };
    let action = match how {
        Feedback::Finished { action } => action,
        _ => Actions::NONE,
    };
    if let Some(source) = out.source() {
        if action.is_empty() {
            source.cancelled();
        } else if source.version() >= CHOOSES {
            if out.told.1 != action {
                source.action(to_wayland(action));
            }
            source.dnd_finished();
        }
    }
    match out.from {
        // It lets go when it has seen that nothing comes of it.
        From::X11 => x11::drag::ended(agent, action, out.dropped),
        From::Wayland(..) if !out.dropped => pointer_comes_back(agent),
        From::Wayland(..) => {}
    }
}

/// The host's pointer is the apps' again.
pub fn pointer_comes_back(agent: &mut Agent) {
    let Some(place) = agent.drags.pointer.take() else { return };
    match place {
        Some((root, x, y)) => pointer::enter(agent, root, x, y),
        None => pointer::leave(agent),
    }
}

/// Takes an event of the pointer while something is held; `false` where the apps are to have it.
pub fn takes_pointer(agent: &mut Agent, event: &InputEvent) -> bool {
    let Some(place) = &mut agent.drags.pointer else { return false };
    match *event {
        InputEvent::PointerEnter { surface, x, y } => *place = Some((surface, x, y)),
        InputEvent::PointerMotion { x, y, .. } => *place = place.map(|(surface, ..)| (surface, x, y)),
        InputEvent::PointerLeave => *place = None,
        InputEvent::PointerButton { .. }
        | InputEvent::PointerAxis { .. }
        | InputEvent::PointerRelative { .. } => {}
        _ => return false,
    }
    true
}

/// Gives its data into a pipe.
pub fn give(agent: &mut Agent, serial: u64, kind: &str, pipe: Pipe) {
    let Some(out) = agent.drags.out.as_ref().filter(|out| out.serial == serial) else {
        return pipe.cut_off();
    };
    match (&out.from, out.source(), kinds::to_ask(&out.given, kind)) {
        (From::X11, _, Some(_)) => x11::drag::fetch(agent, kind.to_owned(), pipe),
        (_, Some(source), Some(name)) => source.send(name.to_owned(), pipe.into_fd().as_fd()),
        _ => pipe.cut_off(),
    }
}

/// The app takes it back: a Wayland app's source is gone.
pub fn source_gone(agent: &mut Agent, source: &ObjectId) {
    let is = |out: &Out| matches!(&out.from, From::Wayland(Some(own), _) if own.id() == *source);
    if agent.drags.out.as_ref().is_some_and(is) {
        take_back(agent);
    }
}

/// The app takes it back.
pub fn take_back(agent: &mut Agent) {
    if let Some(serial) = agent.drags.out.as_ref().map(|out| out.serial) {
        agent.send(&Request::DragCancel { serial });
        finish(agent, Feedback::Cancelled);
    }
}

/// The host is gone.
pub fn disconnected(agent: &mut Agent) {
    if let Some(place) = &mut agent.drags.pointer {
        *place = None;
    }
    finish(agent, Feedback::Cancelled);
}
