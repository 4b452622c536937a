//! Copy and paste of the agent's apps, and what the user says to it.

use inlay_protocol::display::SurfaceId;
use inlay_protocol::selection::{Offer, Selection};

use super::{Session, SessionError, Tools};
use crate::windows::exchange::{Exchange, Outside};
use crate::windows::gate::Answer;
use crate::windows::window::{self, Role};

/// Characters of an app's title in a question.
const TITLE: usize = 40;

impl Session {
    /// An app of the guest has something to give.
    pub(super) fn copied(&mut self, offer: Offer, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let (exchange, mut outside) = self.outside(tools);
        exchange.guest_offers(offer, &mut outside);
        self.clear_for_question(tools)
    }

    /// An app of the guest pastes.
    pub(super) fn pastes(
        &mut self,
        transfer: u64,
        what: (Selection, u64, String),
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let (exchange, mut outside) = self.outside(tools);
        if let Some(answer) = exchange.guest_fetches(transfer, what, &mut outside) {
            self.tell(&answer)?;
        }
        self.clear_for_question(tools)
    }

    /// An app of the guest opens a link.
    pub(super) fn link(&mut self, uri: String, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let (exchange, mut outside) = self.outside(tools);
        exchange.link(uri, &mut outside);
        self.clear_for_question(tools)
    }

    /// The user answered a question about it.
    pub(super) fn permitted(
        &mut self,
        question: u64,
        answer: Answer,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let (exchange, mut outside) = self.outside(tools);
        let events = exchange.answered(question, answer, &mut outside);
        events.iter().try_for_each(|event| self.tell(event))
    }

    /// Whether a window of the machine has the focus; a question of the host's about one counts as that window.
    #[must_use]
    pub fn has_focus(&self) -> bool {
        self.focus.window().is_some()
    }

    /// Menus go when a question opens: nothing of the guest may lie above it.
    pub(super) fn clear_for_question(&mut self, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        if tools.dialogs.asks_permission() && self.popups().next().is_some() {
            self.dismiss_where(tools, |_, _| true)?;
        }
        Ok(())
    }

    /// Copy and paste, and what of the desktop it needs.
    pub(super) fn outside<'t>(&self, tools: &'t mut Tools<'_>) -> (&'t mut Exchange, Outside<'t>) {
        let focus = self.focus.window().map(|id| (id, self.quotable(id)));
        let outside = Outside { presenter: tools.presenter, dialogs: tools.dialogs, focus };
        (tools.exchange, outside)
    }

    /// A toplevel's title in a question: the guest's, so it is short and cannot end the quotation.
    pub(super) fn quotable(&self, id: SurfaceId) -> String {
        match self.windows.get(&id).map(|w| &w.role) {
            Some(Role::Toplevel(toplevel)) => {
                window::title(toplevel).chars().filter(|c| *c != '"').take(TITLE).collect()
            }
            _ => String::new(),
        }
    }
}
