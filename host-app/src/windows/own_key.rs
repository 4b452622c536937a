//! The key that windows with a whole screen in them keep to themselves: the right Ctrl key, tapped or held down with another.

/// evdev's code.
const RIGHT_CTRL: u32 = 97;
/// Keys that may be held with it.
const MOST: usize = 16;

/// How the key is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Up,
    /// Nothing else was pressed since.
    Alone,
    /// Another key was.
    Used,
}

/// Whose a key event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The guest's.
    No,
    /// The window's, which has nothing to do.
    Yes,
    /// The window's own key was pressed and let go alone.
    Tapped,
    /// This key was pressed while it was held.
    Pressed(u32),
}

/// What is known of it.
#[derive(Debug, Default)]
pub struct OwnKey {
    state: State,
    /// Keys that were pressed while it was held: their ends are not the guest's either.
    kept: Vec<u32>,
}

impl OwnKey {
    /// Takes a key event, by evdev's code.
    pub fn take(&mut self, code: u32, pressed: bool) -> Kept {
        if code == RIGHT_CTRL {
            let tapped = !pressed && self.state == State::Alone;
            self.state = if pressed { State::Alone } else { State::Up };
            return if tapped { Kept::Tapped } else { Kept::Yes };
        }
        if !pressed {
            let before = self.kept.len();
            self.kept.retain(|kept| *kept != code);
            return if self.kept.len() == before { Kept::No } else { Kept::Yes };
        }
        if self.state == State::Up {
            return Kept::No;
        }
        self.state = State::Used;
        if self.kept.len() < MOST {
            self.kept.push(code);
        }
        Kept::Pressed(code)
    }
}
