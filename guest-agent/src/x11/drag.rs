//! Drags over X11 apps and out of them, between the window manager's thread and [`crate::drag`].
//!
//! An X11 app that drags something keeps the pointer, and asks the X server what is under it. Over another X11 app the pointer is put
//! where the host has the drag, and both talk to each other; everywhere else a window of the window manager's lies above all and
//! stands for whoever is there:
//!
//! ```text
//! owner of XdndSelection -> Looking: the window is there -> XdndEnter -> Held: DragStart -> host -> the drag's feedback -> XdndStatus
//!                                                                        dropped, cancelled: the button is lifted -> Ending
//! ```

use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::{Point, Rect};
use inlay_protocol::selection::{Actions, DragIcon, Selection};

use super::wm::{Dragging, Kind, Order, Step, Xid};
use super::{CLIENT_BITS, X11};
use crate::agent::Agent;
use crate::drag::out::{self, From};
use crate::inject::pointer::{self, At};

/// How long an app may take to see the window that stands for others, or to let go.
const PATIENCE: Duration = Duration::from_secs(1);
/// The image of what is dragged is no further from the pointer than this, in logical pixels.
const NEAR: u32 = 32;
/// The pointer is moved a little so often until it has.
const NUDGE: Duration = Duration::from_millis(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// An app owns what is dragged; whether it drags is not known yet.
    Looking,
    /// It does, and the user holds it.
    Held,
    /// Nothing comes of it: the app lets go when it has heard so.
    Cancelled,
    /// The app was made to let go, and has not done so yet.
    Ending,
}

/// What an X11 app drags.
#[derive(Debug)]
pub struct Drag {
    stage: Stage,
    since: Instant,
    /// The app's client.
    client: Xid,
    /// The window that stands for others is to lie above all.
    covered: bool,
    /// The app talks to that window.
    entered: bool,
    nudged: Option<Instant>,
    /// Which way the pointer was moved last.
    aside: bool,
    /// Where the app has the pointer.
    at: At,
    /// The window that it moves along.
    icon: Option<Xid>,
    /// What is fetched of it, as which type, once it has let go.
    fetched: Vec<(String, Pipe)>,
}

/// What the host drags comes over a window.
pub fn enters(agent: &Agent, surface: SurfaceId, types: Vec<String>, actions: Actions) {
    if let Some((id, _)) = agent.x11.window(surface) {
        agent.x11.order(Order::Drag(Step::Enter(id, types, actions)));
    }
}

/// It moves on it, to this place of the root window.
pub fn moves(agent: &Agent, at: Point, action: Actions) {
    let at = agent.x11.scale.point(at);
    agent.x11.order(Order::Drag(Step::Move(at, action)));
}

/// It goes elsewhere, or is dropped.
pub fn leaves(agent: &Agent, dropped: bool) {
    agent.x11.order(Order::Drag(if dropped { Step::Drop } else { Step::Leave }));
}

/// What the window manager's thread hears of an app that drags.
pub fn hear(agent: &mut Agent, news: Dragging) {
    tracing::debug!(?news, stage = ?agent.x11.drag.as_ref().map(|drag| drag.stage), "an X11 app drags");
    match news {
        Dragging::Owned(owner) => looks(agent, owner),
        Dragging::Gone => {
            if agent.x11.drag.is_some() {
                out::take_back(agent);
                ends(agent);
            }
        }
        Dragging::Entered(types, actions) => entered(agent, types, actions),
        Dragging::Left => left(agent),
        Dragging::Told => {
            if agent.x11.drag.as_ref().is_some_and(|drag| drag.stage == Stage::Ending) {
                lift(agent);
            }
        }
    }
}

/// An app owns what is dragged: it does drag if it sees the window that stands for others while it holds the pointer.
fn looks(agent: &mut Agent, owner: Xid) {
    let client = owner >> CLIENT_BITS;
    let held = !agent.input.buttons.is_empty() && agent.display.is_up();
    let under = agent.input.pointer_root.and_then(|root| agent.x11.window(root));
    let pressed = under.is_some_and(|(id, _)| id >> CLIENT_BITS == client);
    if !held || !pressed || agent.drags.out.is_some() && agent.x11.drag.is_some() {
        return;
    }
    let at = agent.seat.get_pointer().map(|pointer| pointer.current_location()).unwrap_or_default();
    let replaced = agent.x11.drag.replace(Drag {
        stage: Stage::Looking,
        since: Instant::now(),
        client,
        covered: false,
        entered: false,
        nudged: None,
        aside: false,
        at,
        icon: None,
        fetched: Vec::new(),
    });
    // One that was taken back: who fetches it is not to take what came for all there is.
    replaced.into_iter().flat_map(|drag| drag.fetched).for_each(|(_, pipe)| pipe.cut_off());
    cover(agent, true);
}

/// Has the window that stands for others lie above all, or go.
fn cover(agent: &mut Agent, on: bool) {
    let Some(drag) = agent.x11.drag.as_mut().filter(|drag| drag.covered != on) else { return };
    (drag.covered, drag.nudged) = (on, None);
    drag.entered &= on;
    agent.x11.order(Order::Cover(on));
}

/// The app talks to it: this can be had.
fn entered(agent: &mut Agent, types: Vec<String>, actions: Actions) {
    let Some(drag) = agent.x11.drag.as_mut().filter(|drag| drag.covered) else { return };
    drag.entered = true;
    match drag.stage {
        Stage::Looking => {}
        Stage::Cancelled => return let_go(agent),
        Stage::Held | Stage::Ending => return,
    }
    match agent.input.pointer_root.filter(|_| !agent.input.buttons.is_empty()) {
        Some(root) => {
            drag.stage = Stage::Held;
            drag.at = agent.seat.get_pointer().map_or(drag.at, |pointer| pointer.current_location());
            out::begin(agent, From::X11, types, actions, root);
            follow_icon(agent);
        }
        None => ends(agent),
    }
}

/// It does so no more: it went elsewhere, or is done.
fn left(agent: &mut Agent) {
    let Some(drag) = &mut agent.x11.drag else { return };
    drag.entered = false;
    if drag.stage == Stage::Ending {
        ends(agent);
    }
}

/// What the app under it would do.
pub fn answered(agent: &Agent, action: Actions) {
    agent.x11.order(Order::DragStatus(action));
}

/// The user let go: so does the app, and drops it where it was taken last.
pub fn let_go(agent: &mut Agent) {
    let Some(drag) = agent.x11.drag.as_mut().filter(|drag| drag.stage != Stage::Ending) else { return };
    (drag.stage, drag.since) = (Stage::Ending, Instant::now());
    // After all that it was told: else it would drop what is cancelled, or not drop what was taken just now.
    agent.x11.order(Order::LetGo);
}

/// The app has heard all: its button is lifted.
fn lift(agent: &mut Agent) {
    let time = agent.input.last_ms;
    for button in agent.input.buttons.clone() {
        pointer::button(agent, time, button, false);
    }
    out::pointer_comes_back(agent);
}

/// It is over, and this is what became of it.
pub fn ended(agent: &mut Agent, action: Actions, dropped: bool) {
    if dropped {
        return agent.x11.order(Order::DragFinished(action));
    }
    answered(agent, Actions::NONE);
    // Not where another app would take it.
    cover(agent, true);
    match &mut agent.x11.drag {
        Some(drag) if drag.entered => let_go(agent),
        Some(drag) => (drag.stage, drag.since) = (Stage::Cancelled, Instant::now()),
        None => out::pointer_comes_back(agent),
    }
}

/// It is over, for the app as well.
fn ends(agent: &mut Agent) {
    if agent.x11.drag.as_ref().is_some_and(|drag| drag.stage != Stage::Looking) {
        lift(agent);
    }
    cover(agent, false);
    for (kind, pipe) in agent.x11.drag.take().into_iter().flat_map(|drag| drag.fetched) {
        match agent.drags.out {
            Some(_) => super::take(agent, Selection::Drag, kind, pipe),
            None => pipe.cut_off(),
        }
    }
}

/// Fetches what it drags. Some apps give nothing of what was dropped to who does not name the time at which they dropped it, which is
/// not known before they did.
pub fn fetch(agent: &mut Agent, kind: String, pipe: Pipe) {
    match &mut agent.x11.drag {
        Some(drag) if drag.stage == Stage::Ending => drag.fetched.push((kind, pipe)),
        _ => super::take(agent, Selection::Drag, kind, pipe),
    }
}

/// The host has it over a window of another X11 app, or of the same: they see each other.
pub fn enters_x11(agent: &mut Agent, surface: SurfaceId) {
    super::entered(agent, surface);
    cover(agent, false);
}

/// It moves there.
pub fn moves_over_x11(agent: &mut Agent, at: At) {
    let Some(drag) = agent.x11.drag.as_mut().filter(|drag| drag.stage == Stage::Held) else { return };
    drag.at = at;
    pointer::held_at(agent, at);
}

/// It goes elsewhere.
pub fn leaves_x11(agent: &mut Agent) {
    if agent.x11.drag.as_ref().is_some_and(|drag| drag.stage == Stage::Held) {
        cover(agent, true);
    }
}

/// When [`turn`] has to look again.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    let drag = agent.x11.drag.as_ref()?;
    let nudge = (drag.stage != Stage::Ending && drag.covered && !drag.entered)
        .then(|| drag.nudged.map_or_else(Instant::now, |at| at + NUDGE));
    let patience = (drag.stage != Stage::Held).then_some(drag.since + PATIENCE);
    nudge.into_iter().chain(patience).min()
}

/// The end of a turn of the loop.
pub fn turn(agent: &mut Agent, now: Instant) {
    let Some(drag) = &mut agent.x11.drag else { return };
    if drag.stage != Stage::Held && drag.since + PATIENCE <= now {
        tracing::debug!(stage = ?drag.stage, "an X11 app does not drag, or does not let go");
        return ends(agent);
    }
    if drag.stage != Stage::Ending
        && drag.covered
        && !drag.entered
        && drag.nudged.is_none_or(|at| at + NUDGE <= now)
    {
        // An app looks what is under the pointer when that moves.
        drag.nudged = Some(now);
        drag.aside = !drag.aside;
        let by = if drag.aside { 1.0 } else { -1.0 };
        // Until it is held by the host, it moves as the host tells.
        let looking = drag.stage == Stage::Looking;
        let now = agent.seat.get_pointer().filter(|_| looking).map(|pointer| pointer.current_location());
        let at = now.unwrap_or(drag.at);
        drag.at = At::from((at.x + by, at.y));
        let at = drag.at;
        pointer::held_at(agent, at);
    }
}

/// A window is not mapped any more.
pub fn icon_gone(x11: &mut X11, window: Xid) {
    if let Some(drag) = &mut x11.drag {
        drag.icon = drag.icon.filter(|icon| *icon != window);
    }
}

/// The X server is gone, and the app with it.
pub fn server_gone(agent: &mut Agent) {
    if let Some(drag) = agent.x11.drag.take() {
        drag.fetched.into_iter().for_each(|(_, pipe)| pipe.cut_off());
        out::take_back(agent);
        out::pointer_comes_back(agent);
    }
}

impl X11 {
    /// Whether a window is the image of what its app drags: the host shows it at its own pointer.
    pub(super) fn is_drag_icon(&self, id: Xid) -> bool {
        self.drag.as_ref().is_some_and(|drag| drag.icon == Some(id))
    }

    /// Looks for the image of what an app drags: a window of that type, or one that it put at the pointer itself.
    fn find_drag_icon(&mut self, pressed: Option<SurfaceId>) {
        let Some(drag) = self.drag.as_mut().filter(|drag| drag.stage == Stage::Held && drag.icon.is_none())
        else {
            return;
        };
        let at = drag.at.to_i32_round::<i32>();
        let own = |id: Xid| id >> CLIENT_BITS == drag.client;
        let placed = self.windows.iter().filter(|(id, w)| own(**id) && w.now.override_redirect);
        let there = |w: &super::XWindow| {
            let Rect { x, y, width, height } = w.now.place;
            let area = Rect::new(
                x.saturating_sub(NEAR.cast_signed()),
                y.saturating_sub(NEAR.cast_signed()),
                width.saturating_add(2 * NEAR),
                height.saturating_add(2 * NEAR),
            );
            width > 1 && w.surface != pressed && super::contains(area, Point::new(at.x, at.y))
        };
        let icons = placed.filter(|(_, w)| w.now.kind == Kind::Dnd || there(w));
        // The newest has the largest number.
        drag.icon = icons.map(|(id, w)| (w.now.kind == Kind::Dnd, *id)).max().map(|(_, id)| id);
        self.changed.extend(drag.icon);
    }
}

/// The app moved the image of what it drags, or has another.
pub fn follow_icon(agent: &mut Agent) {
    agent.x11.find_drag_icon(agent.input.pointer_root);
    let x11 = &agent.x11;
    let Some(drag) = x11.drag.as_ref().filter(|drag| drag.stage == Stage::Held) else { return };
    let Some(window) = drag.icon.and_then(|id| x11.windows.get(&id)) else { return };
    let Some(surface) = window.surface else { return };
    let at = drag.at.to_i32_round::<i32>();
    let place = window.now.place;
    let offset = Point::new(place.x.saturating_sub(at.x), place.y.saturating_sub(at.y));
    let most = inlay_protocol::limits::COORDINATE;
    let offset = Point::new(offset.x.clamp(-most, most), offset.y.clamp(-most, most));
    out::set_icon(agent, DragIcon { surface, offset });
    agent.surfaces.mark(surface);
}
