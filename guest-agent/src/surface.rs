//! What the agent keeps for each `wl_surface`: the app's newest buffer, what changed, the pool buffers, frame callbacks.
//!
//! ```text
//! app commits -> waiting (the app's buffer) + damage -> copied into a slot -> commit in flight -> released
//! ```
//! The double-buffered protocol state itself stays in smithay's `SurfaceData`.

use std::collections::{BTreeMap, BTreeSet};

use inlay_protocol::display::{Commit, ContentType, SurfaceId};
use smithay::output::Output;
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_callback::WlCallback;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::compositor;

use crate::export::damage::{Damage, View};
use crate::export::slots::{Layout, Slots};
use crate::handlers::presentation::Feedbacks;

/// Frame callbacks that one surface may wait for; an app that asks for more gets the oldest ones at once.
const CALLBACKS: usize = 1024;

/// An app's buffer that is not copied yet. Released when dropped.
#[derive(Debug)]
pub struct ClientBuffer {
    buffer: WlBuffer,
    /// Its size and format.
    pub layout: Layout,
}

impl ClientBuffer {
    /// Takes a buffer that the app attached.
    #[must_use]
    pub fn new(buffer: WlBuffer, layout: Layout) -> Self {
        Self { buffer, layout }
    }

    /// The buffer.
    #[must_use]
    pub fn buffer(&self) -> &WlBuffer {
        &self.buffer
    }
}

impl Drop for ClientBuffer {
    fn drop(&mut self) {
        if self.buffer.is_alive() {
            self.buffer.release();
        }
    }
}

/// A `wl_surface`.
#[derive(Debug)]
pub struct Surface {
    /// Its id towards the host.
    pub id: SurfaceId,
    /// Itself.
    pub wl: WlSurface,
    /// The newest buffer of the app, not copied yet.
    pub waiting: Option<ClientBuffer>,
    /// How the newest buffer is shown; none when the surface has no content.
    pub view: Option<View>,
    /// What changed since the commit that was sent last, in buffer pixels.
    pub damage: Damage,
    /// Pool buffers and commits in flight.
    pub slots: Slots,
    /// Number of the commit that was sent last.
    pub number: u64,
    /// The commit that was sent last in this connection, without its damage.
    pub last: Option<Commit>,
    /// The next commit damages all and is sent even if nothing changed.
    pub again: bool,
    /// Frame callbacks that the app waits for.
    pub callbacks: Vec<WlCallback>,
    /// The host was told of it in this connection.
    pub known: bool,
    /// Frame callbacks were added since the commit that was sent last.
    pub asks_frame: bool,
    /// What it shows, as far as the app says.
    pub content_type: ContentType,
    /// What the app wants to be told of its commits.
    pub feedbacks: Feedbacks,
    /// Where the host says that the window of this root surface is.
    pub shown: Option<Shown>,
}

/// Where a window is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Places in the list of monitors.
    pub outputs: Vec<u8>,
    /// The scale to draw at, times 120.
    pub scale_120: u32,
}

impl Surface {
    fn new(id: SurfaceId, wl: WlSurface) -> Self {
        Self {
            id,
            wl,
            waiting: None,
            view: None,
            damage: Damage::default(),
            slots: Slots::default(),
            number: 0,
            last: None,
            again: false,
            callbacks: Vec::new(),
            known: false,
            asks_frame: false,
            content_type: ContentType::None,
            feedbacks: Feedbacks::default(),
            shown: None,
        }
    }

    /// Adds frame callbacks of a commit.
    pub fn add_callbacks(&mut self, callbacks: Vec<WlCallback>, time_ms: u32) {
        self.asks_frame |= !callbacks.is_empty();
        self.callbacks.extend(callbacks);
        if self.callbacks.len() > CALLBACKS {
            let late = self.callbacks.len() - CALLBACKS;
            self.callbacks.drain(..late).for_each(|c| c.done(time_ms));
        }
    }

    /// Tells the app that it is time for its next frame, and which of its commits were seen on the monitor; without one, none will be.
    pub fn frame(&mut self, time_ms: u32, output: Option<&Output>) {
        self.asks_frame = false;
        self.feedbacks.frame(output);
        self.callbacks.drain(..).for_each(|c| c.done(time_ms));
    }

    /// The connection is gone: all is to be said again.
    pub fn disconnected(&mut self) {
        self.slots.disconnected();
        self.last = None;
        self.feedbacks.clear();
        self.known = false;
        self.again = true;
        self.shown = None;
    }
}

/// All surfaces, and which of them changed.
#[derive(Debug, Default)]
pub struct Surfaces {
    map: BTreeMap<SurfaceId, Surface>,
    dirty: BTreeSet<SurfaceId>,
    last: u32,
}

impl Surfaces {
    /// Adds a surface; `None` when no ids are left.
    pub fn add(&mut self, wl: &WlSurface) -> Option<SurfaceId> {
        let id = SurfaceId(self.last.checked_add(1)?);
        self.last = id.0;
        compositor::with_states(wl, |states| states.data_map.insert_if_missing_threadsafe(|| id));
        self.map.insert(id, Surface::new(id, wl.clone()));
        Some(id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// A surface.
    #[must_use]
    pub fn get(&self, id: SurfaceId) -> Option<&Surface> {
        self.map.get(&id)
    }

    /// A surface.
    pub fn get_mut(&mut self, id: SurfaceId) -> Option<&mut Surface> {
        self.map.get_mut(&id)
    }

    /// Takes a surface out.
    pub fn remove(&mut self, id: SurfaceId) -> Option<Surface> {
        self.dirty.remove(&id);
        self.map.remove(&id)
    }

    /// All surfaces.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Surface> {
        self.map.values_mut()
    }

    /// The host is told of this surface.
    pub fn know(&mut self, id: SurfaceId) {
        if let Some(surface) = self.map.get_mut(&id) {
            surface.known = true;
        }
    }

    /// Marks a surface: its tree is looked at after this turn of the loop.
    pub fn mark(&mut self, id: SurfaceId) {
        self.dirty.insert(id);
    }

    /// Marks all of them.
    pub fn mark_all(&mut self) {
        self.dirty.extend(self.map.keys());
    }

    /// Whether any surface is marked.
    #[must_use]
    pub fn is_any_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes the marks.
    pub fn take_dirty(&mut self) -> BTreeSet<SurfaceId> {
        std::mem::take(&mut self.dirty)
    }
}

/// The id of a surface, also after its death; `None` for one that was refused.
#[must_use]
pub fn id_of(surface: &WlSurface) -> Option<SurfaceId> {
    compositor::with_states(surface, |states| states.data_map.get::<SurfaceId>().copied())
}

/// The root of a surface's tree.
#[must_use]
pub fn root_of(surface: &WlSurface) -> WlSurface {
    let mut root = surface.clone();
    while let Some(parent) = compositor::get_parent(&root) {
        root = parent;
    }
    root
}
