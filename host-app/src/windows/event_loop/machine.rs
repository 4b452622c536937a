//! What the machine does, for the user's eyes: the item in the desktop's tray, and the offer of the guest's screen where its agent is
//! missing.

use inlay_protocol::memory::{Agent, Wish};

use super::Loop;
use crate::tray::Seen;
use crate::windows::presenter::desk::Desk;

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

    /// Tells the tray what it is to show, and the user what became of what was chosen there.
    pub(super) fn serve_tray(&mut self) {
        let together = self.presenter.desk().is_some_and(Desk::is_on);
        let Some(tray) = &mut self.tray else { return };
        if let Some(state) = self.state {
            tray.tell(Seen { state, together });
        }
        for text in tray.said() {
            self.dialogs.say(&text);
        }
    }
}
