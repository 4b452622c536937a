//! Drag and drop on an X server (XDND 5): what both sides of it know. [`Source`] is the side of whoever drags.

mod source;

use inlay_protocol::selection::Actions;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{Atom, AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, Window};

use super::Fault;
pub use atoms::Atoms;
pub use source::{Answer, Source};

/// The newest version of the protocol.
pub const VERSION: u32 = 5;
/// Types and actions of a drag that are looked at.
const MOST: u32 = 256;

#[allow(missing_docs, reason = "the macro writes functions without")]
mod atoms {
    x11rb::atom_manager! {
        /// Numbers of the protocol's names.
        pub Atoms: AtomsCookie {
            XdndAware,
            XdndProxy,
            XdndSelection,
            XdndEnter,
            XdndPosition,
            XdndStatus,
            XdndLeave,
            XdndDrop,
            XdndFinished,
            XdndTypeList,
            XdndActionList,
            XdndActionCopy,
            XdndActionMove,
            XdndActionAsk,
            DELETE,
            _INLAY_DATA,
        }
    }
}

impl Atoms {
    /// The name of one action; [`x11rb::NONE`] for none.
    #[must_use]
    pub fn of_action(&self, action: Actions) -> Atom {
        match action {
            Actions::COPY => self.XdndActionCopy,
            Actions::MOVE => self.XdndActionMove,
            Actions::ASK => self.XdndActionAsk,
            _ => x11rb::NONE,
        }
    }

    /// What a name of an action means; links and private actions are copies, as far as anybody else can tell.
    #[must_use]
    pub fn action(&self, atom: Atom) -> Actions {
        match atom {
            atom if atom == self.XdndActionMove => Actions::MOVE,
            atom if atom == self.XdndActionAsk => Actions::ASK,
            x11rb::NONE => Actions::NONE,
            _ => Actions::COPY,
        }
    }

    /// What a source allows that wants this now, by what the keys say: one that moves can copy as well, and one that has the user asked
    /// lists what there is to choose from (`XdndActionList`).
    ///
    /// # Errors
    /// When the connection fails.
    pub fn allowed<C: Connection>(&self, c: &C, source: Window, wanted: Atom) -> Result<Actions, Fault> {
        let wanted = self.action(wanted);
        if wanted != Actions::ASK {
            return Ok(wanted.with(Actions::COPY));
        }
        let list = list(c, source, self.XdndActionList)?;
        let all = list.into_iter().fold(wanted, |all, atom| all.with(self.action(atom)));
        Ok(if all == Actions::ASK { all.with(Actions::MOVE).with(Actions::COPY) } else { all })
    }
}

/// What a source can give, by the data of its `XdndEnter`.
///
/// # Errors
/// When the connection fails.
pub fn types<C: Connection>(c: &C, atoms: &Atoms, enter: [u32; 5]) -> Result<Vec<String>, Fault> {
    let [source, flags, first @ ..] = enter;
    let mut types = first.to_vec();
    if flags & 1 != 0 {
        types = list(c, source, atoms.XdndTypeList)?;
    }
    types.retain(|atom| *atom != x11rb::NONE);
    // All questions go out before the first answer is waited for.
    let asked: Vec<_> = types.into_iter().map(|atom| c.get_atom_name(atom)).collect::<Result<_, _>>()?;
    // A number that is no atom is the source's fault.
    Ok(asked.into_iter().filter_map(|cookie| String::from_utf8(cookie.reply().ok()?.name).ok()).collect())
}

/// Tells a source what became of what it dropped on a window of ours (`XdndFinished`). What was moved is deleted first, as some only do
/// that when they are asked for it (ICCCM section 2.6.3, `DELETE`).
///
/// # Errors
/// When the connection fails.
pub fn finish<C: Connection>(
    c: &C,
    atoms: &Atoms,
    (source, target): (Window, Window),
    action: Actions,
) -> Result<(), Fault> {
    if action == Actions::MOVE {
        let (selection, time) = (atoms.XdndSelection, x11rb::CURRENT_TIME);
        c.convert_selection(target, selection, atoms.DELETE, atoms._INLAY_DATA, time)?;
    }
    let data = [target, u32::from(!action.is_empty()), atoms.of_action(action), 0, 0];
    let message = ClientMessageEvent::new(32, source, atoms.XdndFinished, data);
    c.send_event(false, source, EventMask::NO_EVENT, message)?;
    c.flush()?;
    Ok(())
}

/// A property of atoms, of a window that may be gone.
fn list<C: Connection>(c: &C, window: Window, property: Atom) -> Result<Vec<Atom>, Fault> {
    let reply = c.get_property(false, window, property, AtomEnum::ATOM, 0, MOST)?.reply();
    Ok(reply.ok().and_then(|reply| reply.value32().map(Iterator::collect)).unwrap_or_default())
}
