//! The memory channel: what the machine process tells the window process about guest memory. Never reachable for the guest.
//!
//! Both ways: the machine process tells what is on the guest's screen as well, and the window process what the user does there.
//!
//! First [`Notice::Regions`] with one read-only file descriptor for each region, then every virtio-gpu resource that has
//! backing, then changes as they happen. The end of the connection is the end of the machine.

use serde::{Deserialize, Serialize};

use crate::framing::{Invalid, Message};
use crate::geometry::{Point, Rect, Size};
use crate::limits;

/// A piece of guest memory in a file that travels beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Guest physical address of its first byte.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where it begins in the file.
    pub file_offset: u64,
}

/// A run of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Guest physical address of its first byte.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
}

/// What the guest's screen shows: a part of a resource, in 4 bytes a pixel: blue, green, red and one that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanout {
    /// The resource.
    pub resource: u32,
    /// Which use of that id.
    pub generation: u64,
    /// Bytes from its first to the first pixel.
    pub offset: u64,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Size in pixels.
    pub size: Size,
}

/// The pointer's image over the guest's screen: rows without gaps of blue, green, red, alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorImage {
    /// The resource.
    pub resource: u32,
    /// Which use of that id.
    pub generation: u64,
    /// Size in pixels.
    pub size: Size,
    /// The pixel that points.
    pub hotspot: Point,
}

/// Width and height of a pointer's image, in pixels.
pub const CURSOR: u32 = 256;
/// Width and height of the guest's screen, in pixels.
pub const SCREEN: std::ops::RangeInclusive<u32> = 64..=8192;

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Phase {
    /// The guest boots.
    #[default]
    Starting,
    /// Its agent has been ready, or the user goes on without.
    Running,
    /// Its processors stand still.
    Paused,
    /// It is switching off.
    Stopping,
}

/// The guest's agent, as the machine process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Agent {
    /// It is not there; it may come.
    #[default]
    Away,
    /// It serves.
    Ready,
    /// It did not come within its time: the user is to be offered the guest's screen. [`Wish::Screen`] or [`Wish::Wait`] answers.
    Missing,
}

/// What the user is shown of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// Its guest's agent.
    pub agent: Agent,
    /// Whether its network is connected; nothing where it has none.
    pub network: Option<bool>,
}

/// From the machine process to the window process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// All of guest memory; replaces what was said before.
    Regions(Vec<Region>),
    /// A resource has backing.
    Resource {
        /// The id that guest and device use.
        id: u32,
        /// Which use of that id, unique in the life of the device.
        generation: u64,
        /// The pages of its bytes, in order.
        runs: Vec<Run>,
    },
    /// The machine is switched off in order: its windows close without a word.
    Ending,
    /// A resource lost its backing.
    ResourceGone {
        /// The id.
        id: u32,
        /// Which use of that id.
        generation: u64,
    },
    /// The guest's screen is to be shown in a window, or no more.
    Screen(Option<Show>),
    /// The screen shows this now, or nothing.
    Scanout(Option<Scanout>),
    /// The guest drew there, in pixels of the screen. No other follows before [`Wish::Drawn`].
    Flushed(Rect),
    /// The pointer has this image over the screen, to be read anew, or none.
    Cursor(Option<CursorImage>),
    /// The user is to be told this: one line.
    Say(String),
    /// What the machine does now; the first comes when the window process does.
    State(State),
    /// The guest's apps are others than before, or are known now.
    Apps,
}

/// How the guest's screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Show {
    /// On all of a monitor.
    pub fullscreen: bool,
}

/// From the window process to the machine process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// What was flushed is taken.
    Drawn,
    /// The screen is to have this size, in pixels.
    Size(Size),
    /// The user closed the screen's window.
    Closed,
    /// A key goes down or up.
    Key {
        /// Evdev code, of a key.
        key: u16,
        /// Down.
        pressed: bool,
    },
    /// The pointer is there.
    Pointer {
        /// From 0, the left edge, to [`PLACES`].
        x: u16,
        /// From 0, the upper edge.
        y: u16,
    },
    /// A button of the pointer goes down or up.
    Button {
        /// Evdev code, from `BTN_LEFT` on.
        button: u16,
        /// Down.
        pressed: bool,
    },
    /// A wheel turns, in detents: away from the user, and to the right.
    Wheel {
        /// Away from the user.
        up: i8,
        /// To the right.
        right: i8,
    },
    /// All keys and buttons are up.
    Released,
    /// So many windows of the guest are open: toplevels, and its screen.
    Windows(u32),
    /// Something of the guest is needed, though nothing of it is opened: what one of its apps copied is pasted.
    Needed,
    /// The agent is missing ([`Agent::Missing`]): the user wants to see the guest's screen.
    Screen,
    /// The agent is missing: the user waits for it.
    Wait,
}

/// The greatest place of the pointer, on either axis.
pub const PLACES: u16 = 32_767;

impl Message for Wish {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Size(size) => {
                let fine = SCREEN.contains(&size.width) && SCREEN.contains(&size.height);
                Invalid::unless(fine, "size of the screen")
            }
            Self::Key { key, .. } => Invalid::unless((1..=248).contains(key), "key"),
            Self::Button { button, .. } => Invalid::unless((0x110..=0x114).contains(button), "button"),
            Self::Pointer { x, y } => Invalid::unless(*x <= PLACES && *y <= PLACES, "place"),
            Self::Drawn
            | Self::Closed
            | Self::Wheel { .. }
            | Self::Released
            | Self::Windows(_)
            | Self::Needed
            | Self::Screen
            | Self::Wait => Ok(()),
        }
    }
}

impl Message for Notice {
    const LIMIT: usize = limits::MEMORY_MESSAGE;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Regions(regions) => Invalid::unless(regions.len() <= limits::PENDING_FDS, "memory regions"),
            Self::Resource { runs, .. } => Invalid::unless(runs.len() <= limits::PAGE_RUNS, "page runs"),
            Self::Scanout(Some(scanout)) => {
                let Size { width, height } = scanout.size;
                let fine = 1..=limits::DIMENSION;
                Invalid::unless(fine.contains(&width) && fine.contains(&height), "size of a scanout")?;
                Invalid::unless(scanout.stride / 4 >= width, "stride of a scanout")
            }
            Self::Flushed(area) => Invalid::unless(area.is_sane(), "flushed area"),
            Self::Cursor(Some(CursorImage { size, hotspot, .. })) => {
                let fine = 1..=CURSOR;
                Invalid::unless(
                    fine.contains(&size.width) && fine.contains(&size.height),
                    "size of a cursor",
                )?;
                Invalid::unless(hotspot.is_sane(), "hotspot")
            }
            Self::Say(text) => {
                Invalid::unless(text.len() <= limits::TITLE && !text.contains(char::is_control), "text")
            }
            Self::ResourceGone { .. }
            | Self::Ending
            | Self::Apps
            | Self::Screen(_)
            | Self::State(_)
            | Self::Scanout(None)
            | Self::Cursor(None) => Ok(()),
        }
    }

    fn descriptors(&self) -> usize {
        if let Self::Regions(regions) = self { regions.len() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_screen_and_no_keyboard_has_is_refused() {
        let scanout = Scanout { resource: 1, generation: 1, offset: 0, stride: 256, size: Size::new(64, 1) };
        assert!(Notice::Scanout(Some(scanout)).check().is_ok());
        for (width, stride) in [(65, 256), (0, 256), (limits::DIMENSION + 1, u32::MAX)] {
            let bad = Scanout { size: Size::new(width, 1), stride, ..scanout };
            assert!(Notice::Scanout(Some(bad)).check().is_err());
        }
        assert!(Wish::Key { key: 248, pressed: true }.check().is_ok());
        for bad in [
            Wish::Key { key: 0, pressed: true },
            Wish::Key { key: 249, pressed: true },
            Wish::Button { button: 0x10f, pressed: false },
            Wish::Button { button: 0x115, pressed: false },
            Wish::Pointer { x: PLACES + 1, y: 0 },
            Wish::Size(Size::new(63, 600)),
            Wish::Size(Size::new(600, 8193)),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
