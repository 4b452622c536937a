//! Drags, both ways: what comes over windows of the machine, and what its apps drag out of them.
//!
//! ```text
//! desktop's app: Dragged -> gate -> Drag -> agent -> DragAnswer, DragEnd -> answer_drag, end_drag
//! guest's app:   DragStart -> start_drag -> the desktop carries it -> News::Drag -> DragFeedback -> agent
//!                                                                  -> News::Wanted -> gate -> Event::Fetch
//! ```
//! Where the user is asked, the question comes with the drop. What a guest drags over its own windows comes back by the first road with
//! no more than its number: the data does not cross. Whoever never says that it is done is given up after [`FINISH`].

use std::time::{Duration, Instant};

use inlay_exchange::kinds;
use inlay_exchange::pipe::Pipe;
use inlay_exchange::transfer::Transfer;
use inlay_protocol::display::{Event, SurfaceId};
use inlay_protocol::limits;
use inlay_protocol::selection::{Actions, Drag, DragStart, Feedback, Selection};

use super::{Desktop, Exchange, Moving, Outside};
use crate::files::copies::{Copies, Source};
use crate::permissions::{Resource, Way};
use crate::windows::gate::Pass;
use crate::windows::presenter::{Dragged, Presenter};

/// How long an app, or the user, may leave what was dropped without an end while nothing of it moves.
const FINISH: Duration = Duration::from_secs(60);

/// Where something is that is dragged over windows of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Dragging {
    /// Nowhere, or where it may not be dropped.
    #[default]
    Nothing,
    /// Over a window.
    Over,
    /// Dropped: the user is asked, until then.
    Waits(Instant),
    /// Dropped: the app fetches it, until then.
    Dropped(Instant),
}

/// Where something is that an app of the guest drags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The user holds it.
    Held,
    /// Dropped on an app of the desktop: the user is asked, until then.
    Waits(Instant),
    /// Dropped: the app fetches it, until then.
    Dropped(Instant),
}

/// Something that an app of the guest drags.
#[derive(Debug)]
pub(super) struct Carried {
    /// The agent's number for it, and ours.
    serial: u64,
    copy: u64,
    /// What of it may be had on the desktop.
    shown: Vec<String>,
    /// The toplevel that it comes from, and what that is called.
    from: (SurfaceId, String),
    stage: Stage,
    /// Fetches that wait for the drop and the user.
    waiting: Vec<(String, Pipe)>,
    /// Files of the guest that it may be of; they wait for the drop, too.
    copies: Option<Copies>,
}

impl Carried {
    fn feedback(&self, feedback: Feedback) -> Event {
        Event::DragFeedback { serial: self.serial, feedback }
    }

    /// Nothing of it will be had.
    fn refuse(&mut self) {
        self.waiting.drain(..).for_each(|(_, pipe)| pipe.cut_off());
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(copies) = &self.copies {
            copies.drag_ends(self.copy);
        }
        self.refuse();
    }
}

impl Exchange {
    /// Something is dragged over a window of the machine: what the agent is to know.
    pub fn dragged(&mut self, dragged: Dragged, outside: &mut Outside<'_>) -> Option<Drag> {
        match dragged {
            Dragged::Enter { window, x, y, types, actions, own } => {
                self.serial += 1;
                self.copies += 1;
                let (own, types) = match &self.carried {
                    Some(carried) if own => (Some(carried.serial), Vec::new()),
                    _ if own => (None, Vec::new()),
                    _ => (None, self.crossing(Way::In, types)),
                };
                let desktop = &mut self.desktop[Selection::Drag.index()];
                let copy = self.copies;
                *desktop = Desktop { copy, serial: self.serial, ..Desktop::default() };
                (desktop.told, desktop.types) = (types.clone(), types.clone());
                self.drag = Dragging::Over;
                let refused = self.gate.pass(Resource::Drop(Way::In), copy) == Pass::No || types.is_empty();
                if own.is_none() && refused {
                    outside.presenter.answer_drag(None, Actions::NONE);
                    self.drag_is_over();
                    return None;
                }
                Some(Drag::Enter { surface: window, x, y, serial: self.serial, types, actions, own })
            }
            Dragged::Motion { time_ms, x, y } if self.drag == Dragging::Over => {
                Some(Drag::Motion { time_ms, x, y })
            }
            Dragged::Leave if self.drag == Dragging::Over => {
                self.drag_is_over();
                Some(Drag::Leave)
            }
            Dragged::Drop if self.drag == Dragging::Over => {
                let Desktop { copy, types, .. } = &self.desktop[Selection::Drag.index()];
                let (copy, own) = (*copy, types.is_empty());
                if own {
                    self.drag = Dragging::Dropped(Instant::now() + FINISH);
                    return Some(Drag::Drop);
                }
                self.drag = Dragging::Waits(Instant::now() + FINISH);
                if self.asks(Resource::Drop(Way::In), copy, outside) {
                    return None;
                }
                match self.drop_if_permitted(outside) {
                    Some(Event::Drag(drag)) => Some(drag),
                    _ => None,
                }
            }
            Dragged::Motion { .. } | Dragged::Leave => None,
            Dragged::Drop => {
                outside.presenter.end_drag(Actions::NONE);
                None
            }
        }
    }

    /// Asks the user about a drop where that is to be asked; whether there is an answer to wait for.
    fn asks(&mut self, resource: Resource, copy: u64, outside: &mut Outside<'_>) -> bool {
        if self.gate.pass(resource, copy) != Pass::Ask {
            return false;
        }
        self.ask(resource, copy, outside);
        self.gate.open().is_some_and(|q| (q.resource, q.serial) == (resource, copy))
    }

    /// Lets go what was dropped, or takes it away from the app that was under it.
    pub(super) fn drop_if_permitted(&mut self, outside: &mut Outside<'_>) -> Option<Event> {
        if !matches!(self.drag, Dragging::Waits(_)) {
            return None;
        }
        let copy = self.desktop[Selection::Drag.index()].copy;
        if self.gate.pass(Resource::Drop(Way::In), copy) == Pass::Yes {
            self.drag = Dragging::Dropped(Instant::now() + FINISH);
            return Some(Event::Drag(Drag::Drop));
        }
        self.drag_is_over();
        outside.presenter.end_drag(Actions::NONE);
        Some(Event::Drag(Drag::Leave))
    }

    /// Nothing of it can be had any more.
    pub(super) fn drag_is_over(&mut self) {
        self.drag = Dragging::Nothing;
        let desktop = &mut self.desktop[Selection::Drag.index()];
        (desktop.types, desktop.told) = (Vec::new(), Vec::new());
    }

    /// What the guest's app under the drag would do.
    pub fn drag_answered(
        &mut self,
        serial: u64,
        kind: Option<&str>,
        action: Actions,
        presenter: &mut dyn Presenter,
    ) {
        let Desktop { serial: now, types, .. } = &self.desktop[Selection::Drag.index()];
        // What a guest drags over its own window it knows itself.
        let known = kind.filter(|kind| types.is_empty() || types.iter().any(|t| t == kind));
        if self.drag == Dragging::Over && *now == serial {
            presenter.answer_drag(known, if known.is_some() { action } else { Actions::NONE });
        }
    }

    /// What became of what was dropped.
    pub fn drag_ended(&mut self, serial: u64, action: Actions, presenter: &mut dyn Presenter) {
        let current = self.desktop[Selection::Drag.index()].serial == serial;
        if matches!(self.drag, Dragging::Dropped(_)) && current {
            self.drag_is_over();
            presenter.end_drag(action);
        }
    }

    /// An app of the guest drags something out of a window; what the agent is to know.
    pub fn drag_starts(
        &mut self,
        start: DragStart,
        from: Option<(SurfaceId, String)>,
        presenter: &mut dyn Presenter,
    ) -> Vec<Event> {
        let DragStart { serial, surface, types, actions } = start;
        let mut events = Vec::new();
        self.copies += 1;
        let copy = self.copies;
        let types = self.crossing(Way::Out, kinds::travelling(types));
        let passes = self.gate.pass(Resource::Drop(Way::Out), copy) != Pass::No;
        let shown = if passes { types } else { Vec::new() };
        // Whatever is said of it meanwhile, only what the desktop itself sees held is carried.
        match from.filter(|_| presenter.start_drag(surface, &shown, actions)) {
            Some(from) => {
                let stage = Stage::Held;
                let copies = self.copies().cloned();
                if let Some(copies) = &copies {
                    copies.drag_begins(copy);
                }
                let new = Carried { serial, copy, shown, from, stage, waiting: Vec::new(), copies };
                // One that was dropped, and never ended, is ended by the next.
                let before = self.carried.replace(new);
                events.extend(before.map(|before| before.feedback(Feedback::Cancelled)));
            }
            None => events.push(Event::DragFeedback { serial, feedback: Feedback::Cancelled }),
        }
        events
    }

    /// Whether this is what an app of the guest drags, and the user still holds it.
    #[must_use]
    pub fn is_held(&self, serial: u64) -> bool {
        self.carried.as_ref().is_some_and(|c| c.serial == serial && c.stage == Stage::Held)
    }

    /// The app takes it back.
    pub fn drag_cancelled(&mut self, serial: u64, presenter: &mut dyn Presenter) {
        if self.carried.take_if(|carried| carried.serial == serial).is_some() {
            presenter.cancel_drag();
        }
    }

    /// What becomes of what an app of the guest drags, `own` where that is over a window of the same machine; what the agent is to
    /// know.
    pub fn carried(&mut self, feedback: Feedback, own: bool, outside: &mut Outside<'_>) -> Vec<Event> {
        let Some(carried) = &mut self.carried else { return Vec::new() };
        let told = carried.feedback(feedback.clone());
        match feedback {
            // The agent knows what its own app under it said.
            Feedback::Target { .. } if own => return Vec::new(),
            Feedback::Target { .. } => {}
            Feedback::Dropped => {
                carried.stage = Stage::Dropped(Instant::now() + FINISH);
                let copy = carried.copy;
                if own {
                    carried.refuse();
                    return vec![told];
                }
                outside.focus = Some(carried.from.clone());
                let asks = self.asks(Resource::Drop(Way::Out), copy, outside);
                if let Some(carried) = self.carried.as_mut().filter(|_| asks) {
                    carried.stage = Stage::Waits(Instant::now() + FINISH);
                    return vec![told];
                }
                let served = self.give_if_permitted();
                return std::iter::once(told).chain(served).collect();
            }
            Feedback::Finished { .. } | Feedback::Cancelled => self.carried = None,
        }
        vec![told]
    }

    /// An app of the desktop fetches it; what the agent is to know.
    pub(super) fn carried_is_wanted(&mut self, kind: String, pipe: Pipe) -> Vec<Event> {
        let Some(carried) = self.carried.as_mut().filter(|c| c.shown.contains(&kind)) else {
            pipe.cut_off();
            return Vec::new();
        };
        let pass = self.gate.pass(Resource::Drop(Way::Out), carried.copy);
        match (pass, carried.stage) {
            (Pass::Yes, _) => self.give(kind, pipe).into_iter().collect(),
            (Pass::Ask, Stage::Held | Stage::Waits(_)) if carried.waiting.len() < limits::TRANSFERS => {
                carried.waiting.push((kind, pipe));
                Vec::new()
            }
            _ => {
                pipe.cut_off();
                Vec::new()
            }
        }
    }

    /// Has the agent send what is wanted.
    fn give(&mut self, kind: String, pipe: Pipe) -> Option<Event> {
        let Carried { serial, copy, .. } = self.carried.as_ref()?;
        let (serial, of, resource) = (*serial, *copy, Resource::Drop(Way::Out));
        let pipe = self.outward(&kind, pipe, Source { of, resource })?;
        let stream = self.expect(Moving { transfer: Transfer::take(pipe), resource, of, files: None })?;
        Some(Event::Fetch { stream, selection: Selection::Drag, serial, kind })
    }

    /// Serves the fetches that waited for the user, or refuses them.
    pub(super) fn give_if_permitted(&mut self) -> Vec<Event> {
        let Some(carried) = &mut self.carried else { return Vec::new() };
        if carried.stage != Stage::Held {
            carried.stage = Stage::Dropped(Instant::now() + FINISH);
        }
        if self.gate.pass(Resource::Drop(Way::Out), carried.copy) != Pass::Yes {
            carried.refuse();
            return Vec::new();
        }
        if let (Some(copies), Stage::Dropped(_)) = (&carried.copies, carried.stage) {
            copies.drag_dropped(carried.copy);
        }
        let waiting = std::mem::take(&mut carried.waiting);
        waiting.into_iter().filter_map(|(kind, pipe)| self.give(kind, pipe)).collect()
    }

    /// When a drop is given up.
    pub(super) fn drags_due(&self) -> impl Iterator<Item = Instant> {
        let over = match self.drag {
            Dragging::Waits(until) | Dragging::Dropped(until) => Some(until),
            Dragging::Nothing | Dragging::Over => None,
        };
        let carried = self.carried.as_ref().and_then(|carried| match carried.stage {
            Stage::Waits(until) | Stage::Dropped(until) => Some(until),
            Stage::Held => None,
        });
        over.into_iter().chain(carried)
    }

    /// Ends drops that never end by themselves; what the agent is to know.
    pub(super) fn give_drags_up(&mut self, now: Instant, presenter: &mut dyn Presenter) -> Vec<Event> {
        let mut events = Vec::new();
        let moves = |way| {
            let of = |moving: &Moving| moving.resource == Resource::Drop(way);
            self.tickets.iter().any(|t| of(&t.moving)) || self.streams.iter().any(|(_, m)| of(m))
        };
        let [moves_in, moves_out] = [moves(Way::In), moves(Way::Out)];
        if let Dragging::Waits(until) | Dragging::Dropped(until) = &mut self.drag {
            if moves_in {
                *until = now + FINISH;
            } else if *until <= now {
                tracing::debug!("what was dropped is given up: its app never said that it is done");
                // Taken from the app that was not told of the drop yet.
                let asked = matches!(self.drag, Dragging::Waits(_));
                events.extend(asked.then_some(Event::Drag(Drag::Leave)));
                self.drag_is_over();
                presenter.end_drag(Actions::NONE);
            }
        }
        if let Some(carried) = &mut self.carried
            && let Stage::Waits(until) | Stage::Dropped(until) = &mut carried.stage
        {
            if moves_out {
                *until = now + FINISH;
            } else if *until <= now {
                tracing::debug!("what was dragged out is given up: nobody said that it is done");
                events.push(carried.feedback(Feedback::Cancelled));
                self.carried = None;
                presenter.cancel_drag();
            }
        }
        events
    }
}
