//! Atoms and their names. A server never forgets an atom, so there is a bound on those that are made for others.

use std::collections::HashMap;

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{Atom, ConnectionExt as _};

use super::Fault;

/// Atoms that are made; a name beyond is only found where the server has it already.
const MADE: usize = 2048;
/// Names that are remembered.
const KNOWN: usize = 4096;

/// Names that were met.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<String, Atom>,
    names: HashMap<Atom, String>,
    made: usize,
}

impl Names {
    /// The number of a name; none where it may not be made.
    pub fn number<C: Connection>(&mut self, c: &C, name: &str) -> Result<Option<Atom>, Fault> {
        if let Some(atom) = self.numbers.get(name) {
            return Ok(Some(*atom));
        }
        let atom = c.intern_atom(self.made >= MADE, name.as_bytes())?.reply()?.atom;
        if atom == x11rb::NONE {
            return Ok(None);
        }
        self.made += 1;
        self.remember(atom, name);
        Ok(Some(atom))
    }

    /// The names of these, in their order; what has none is left out.
    pub fn names<C: Connection>(&mut self, c: &C, atoms: &[Atom]) -> Result<Vec<String>, Fault> {
        let new: Vec<Atom> = atoms.iter().copied().filter(|a| !self.names.contains_key(a)).collect();
        let asked: Vec<_> =
            new.iter().map(|atom| c.get_atom_name(*atom).map(|c| (*atom, c))).collect::<Result<_, _>>()?;
        let mut found = HashMap::new();
        for (atom, cookie) in asked {
            // A number that is no atom is the app's fault.
            if let Ok(reply) = cookie.reply()
                && let Ok(name) = String::from_utf8(reply.name)
            {
                self.remember(atom, &name);
                found.insert(atom, name);
            }
        }
        let name = |atom| self.names.get(atom).or_else(|| found.get(atom)).cloned();
        Ok(atoms.iter().filter_map(name).collect())
    }

    fn remember(&mut self, atom: Atom, name: &str) {
        if self.names.len() < KNOWN {
            self.numbers.insert(name.to_owned(), atom);
            self.names.insert(atom, name.to_owned());
        }
    }
}
