//! How windows look to the desktop beside their content: told with the next tick, however often it changes.

use inlay_protocol::display::{Cursor, Event, Icon, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;

use super::{News, Session, SessionError, Tools};
use crate::apps::WindowIcons;
use crate::windows::presenter::image::Image;
use crate::windows::presenter::{Announce, Look, Presenter};
use crate::windows::scene::CURSOR_SIDE;
use crate::windows::window::{self, Role, Window};

/// A picture as windows have theirs.
fn icon(picture: &image::RgbaImage) -> Icon {
    let premultiplied = |colour: u8, alpha: u8| {
        u8::try_from((u32::from(colour) * u32::from(alpha) + 127) / 255).unwrap_or(u8::MAX)
    };
    let pixels = picture.pixels().flat_map(|pixel| {
        let [red, green, blue, alpha] = pixel.0;
        [premultiplied(blue, alpha), premultiplied(green, alpha), premultiplied(red, alpha), alpha]
    });
    Icon { size: Size::new(picture.width(), picture.height()), pixels: pixels.collect() }
}

/// Bytes of icons and outlines that all windows may have.
const EXTRAS: usize = 64 << 20;

impl Session {
    pub(super) fn icons(&mut self, surface: SurfaceId, icons: Vec<Icon>) {
        let bytes = icons.iter().map(|i| i.pixels.len()).sum();
        let room = self.has_room(bytes);
        if let Some(window) = self.windows.get_mut(&surface)
            && matches!(window.role, Role::Toplevel(_))
            && room
        {
            window.icons = icons;
            window.stale.icons = true;
        }
    }

    pub(super) fn shape(&mut self, surface: SurfaceId, rects: Option<Vec<Rect>>) {
        let room = self.has_room(rects.as_ref().map_or(0, |r| r.len() * size_of::<Rect>()));
        if let Some(window) = self.windows.get_mut(&surface)
            && room
        {
            window.shape = rects;
            window.stale.shape = true;
        }
    }

    /// Gives a window that has no icon that of its app's entry in menus.
    pub(super) fn default_icons(&mut self, surface: SurfaceId, tools: &mut Tools<'_>) {
        let Some(window) = self.windows.get_mut(&surface).filter(|window| window.icons.is_empty()) else {
            return;
        };
        let Role::Toplevel(toplevel) = &window.role else { return };
        let Some(icons) = tools.icons.as_mut() else { return };
        let pictures = icons.of_window(&window::app_id(toplevel)).iter();
        let small = pictures.filter(|picture| picture.width() <= limits::ICON);
        window.icons = small.map(icon).take(limits::ICONS).collect();
    }

    /// The guest's apps are others than before: windows that were open before they were known have their icons now.
    pub fn new_apps(&mut self, tools: &mut Tools<'_>) {
        let Some(icons) = tools.icons.as_mut() else { return };
        let app_id = |window: &Window| match &window.role {
            Role::Toplevel(toplevel) if window.icons.is_empty() => Some(window::app_id(toplevel)),
            _ => None,
        };
        let mut app_ids: Vec<String> = self.windows.values().filter_map(app_id).collect();
        app_ids.sort_unstable();
        app_ids.dedup();
        app_ids.truncate(WindowIcons::MOST);
        icons.find(app_ids.iter().cloned());
        let known = |window: &Window| app_id(window).is_some_and(|id| app_ids.contains(&id));
        let without = self.windows.iter().filter(|(_, window)| known(window)).map(|(id, _)| *id);
        for id in without.collect::<Vec<_>>() {
            self.default_icons(id, tools);
            if let Some(window) = self.windows.get_mut(&id) {
                window.stale.icons |= !window.icons.is_empty();
            }
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let used: usize = self.windows.values().map(Window::extras).sum();
        let room = bytes == 0 || used + bytes <= EXTRAS;
        if !room {
            tracing::warn!("the icons and outlines of the agent's windows need too much memory");
        }
        room
    }

    pub(super) fn look_of(&self, surface: SurfaceId) -> Option<Look> {
        let window = self.windows.get(&surface)?;
        match &window.role {
            Role::Toplevel(toplevel) => {
                let look = window::look(toplevel, &self.machine, self.open_parent(surface));
                // Where it came up first; then it is the user's.
                Some(Look { place: look.place.filter(|_| window.opened == 0), ..look })
            }
            Role::Popup(..) => None,
        }
    }

    /// The parent of a toplevel, if it is open and not in turn a child of it.
    fn open_parent(&self, surface: SurfaceId) -> Option<SurfaceId> {
        let parent_of = |id: SurfaceId| match &self.windows.get(&id)?.role {
            Role::Toplevel(toplevel) => toplevel.parent,
            Role::Popup(..) => None,
        };
        let parent = parent_of(surface).filter(|p| self.is_open(*p))?;
        let mut at = parent;
        for _ in 0..limits::TREE_DEPTH {
            match parent_of(at) {
                None => return Some(parent),
                Some(next) if next == surface => return None,
                Some(next) => at = next,
            }
        }
        None
    }

    /// Children of a toplevel that opened or closed are told to the desktop again.
    pub(super) fn restyle_children(&mut self, parent: SurfaceId) {
        for window in self.windows.values_mut() {
            window.stale.look |= matches!(&window.role, Role::Toplevel(t) if t.parent == Some(parent));
        }
    }

    /// The outline of a window in the coordinates of its window geometry.
    #[must_use]
    pub fn outline(&self, surface: SurfaceId) -> Option<Vec<Rect>> {
        let corner = self.scene.get(surface).map(|s| s.geometry()).unwrap_or_default();
        self.windows.get(&surface)?.outline(corner)
    }

    /// Tells the desktop what changed about the windows that it knows.
    pub(super) fn restyle(&mut self, presenter: &mut dyn Presenter) {
        let known = |w: &Window| w.is_open() || self.decides && w.told.is_known();
        let changed = self.windows.iter().filter(|(_, w)| w.stale.any() && known(w));
        for id in changed.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(window) = self.windows.get_mut(&id) else { continue };
            let stale = std::mem::take(&mut window.stale);
            if stale.look {
                match &window.role {
                    Role::Popup(popup, _) if self.decides => {
                        presenter.announce(id, Announce::Popup(popup));
                    }
                    Role::Popup(popup, area) => {
                        let area = Rect { width: window.size.width, height: window.size.height, ..*area };
                        presenter.place_popup(id, window::popup_look(popup, area));
                    }
                    Role::Toplevel(_) => {
                        if let Some(look) = self.look_of(id) {
                            presenter.update(id, &look);
                        }
                    }
                }
            }
            if stale.icons
                && let Some(window) = self.windows.get(&id)
            {
                presenter.set_icons(id, &window.icons);
            }
            if stale.shape {
                presenter.set_shape(id, self.outline(id).as_deref());
                if let Some(window) = self.windows.get_mut(&id) {
                    // It is cut out while it is drawn, where the desktop does not.
                    window.dirty |= self.decides;
                }
            }
        }
    }

    pub(super) fn take_cursor(&mut self, cursor: Cursor) -> Result<(), SessionError> {
        self.news.add(News::CURSOR);
        let named = match &cursor {
            Cursor::Surface { surface, .. } => Some(*surface),
            Cursor::Hidden | Cursor::Named(_) => None,
        };
        self.cursor = cursor;
        match named {
            // Its pixels were not kept so far.
            Some(surface) if self.scene.name_cursor(surface) => {
                self.tell(&Event::Refresh { surface: Some(surface) })
            }
            _ => Ok(()),
        }
    }

    pub fn show_cursor(&self, presenter: &mut dyn Presenter) {
        let image = match &self.cursor {
            Cursor::Hidden => Image::Hidden,
            Cursor::Named(name) => Image::Named(name.clone()),
            Cursor::Surface { surface, hotspot } => {
                let shown = self.scene.get(*surface).and_then(|s| Some((s.image()?, s.state()?.size)));
                // As with the pixels, so with what they are stretched to.
                let small = |size: Size| size.width <= CURSOR_SIDE && size.height <= CURSOR_SIDE;
                let Some(((size, bytes), logical)) = shown.filter(|(_, logical)| small(*logical)) else {
                    return;
                };
                Image::Pixels { size: *size, bytes: bytes.clone(), logical, hotspot: *hotspot }
            }
        };
        presenter.set_cursor(image);
    }
}
