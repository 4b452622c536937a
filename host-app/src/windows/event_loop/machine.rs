//! What the machine does, for the user's eyes: the offer of the guest's screen where its agent is missing.

use inlay_protocol::memory::{Agent, Wish};

use super::Loop;

impl Loop {
    /// Offers the guest's screen while the agent is missing, and tells the machine process what the user says.
    pub(super) fn offer_screen(&mut self) {
        if let Some(screen) = self.dialogs.offer_answered() {
            self.tell_machine(&[if screen { Wish::Screen } else { Wish::Wait }]);
            return;
        }
        let missing = !self.ending && self.state.is_some_and(|state| state.agent == Agent::Missing);
        if missing && !self.offers {
            self.dialogs.offer_screen(&self.name);
        } else if self.offers && !missing {
            self.dialogs.offer_no_more();
        }
        self.offers = missing;
    }
}
