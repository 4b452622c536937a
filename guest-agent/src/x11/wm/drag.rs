//! Something that is dragged over an X11 app: the source's side (XDND 5), by the window manager's own window.

use inlay_exchange::x11::xdnd::Answer;
use inlay_protocol::geometry::Point;
use inlay_protocol::selection::{Actions, Selection};

use super::{Fault, News, Wm, Xid};

/// What the drag does.
#[derive(Debug)]
pub enum Step {
    /// It comes over this window, with what it can be had as, and what its source allows.
    Enter(Xid, Vec<String>, Actions),
    /// It moves to this place of the root window.
    Move(Point, Actions),
    /// It goes elsewhere.
    Leave,
    /// It is dropped.
    Drop,
}

impl Wm {
    pub(super) fn drag(&mut self, step: Step) -> Result<(), Fault> {
        let time = x11rb::CURRENT_TIME;
        match step {
            Step::Enter(target, types, actions) => {
                let list = self.selections.numbers(&self.c, &types)?;
                self.source.begin(&self.c, list, actions)?;
                self.selections.offer(&self.c, Selection::Drag, types)?;
                self.source.over(&self.c, Some(target))?;
            }
            Step::Move(at, action) => self.source.moved(&self.c, at, time, action)?,
            Step::Leave => {
                self.source.over(&self.c, None)?;
                self.selections.offer(&self.c, Selection::Drag, Vec::new())?;
            }
            Step::Drop => {
                let answer = self.source.dropped(&self.c, time)?;
                self.drag_answered(answer)?;
            }
        }
        Ok(())
    }

    /// The app under the drag answered.
    pub(super) fn drag_answered(&mut self, answer: Option<Answer>) -> Result<(), Fault> {
        let end = match answer {
            None | Some(Answer::Dropped) => return Ok(()),
            Some(Answer::Status(action)) => {
                self.news.push(News::DragAnswer(action));
                return Ok(());
            }
            Some(Answer::Finished(action)) => action,
            Some(Answer::Refused) => Actions::NONE,
        };
        self.selections.offer(&self.c, Selection::Drag, Vec::new())?;
        self.news.push(News::DragEnd(end));
        Ok(())
    }
}
