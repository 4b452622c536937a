//! A border in a machine's colour around each of its windows and menus, on any desktop: what a guest draws cannot pass for the host's, nor
//! for another machine's. The host's own questions have none.
//!
//! This stands between the session and the desktop's presenter: host windows are larger by the border, and nobody else knows. The
//! session draws the border itself ([`Presenter::border`]), as it draws all that is in a window.

use std::os::fd::BorrowedFd;

use inlay_protocol::display::{Act, Constraint, Icon, Output, Place, Placed, Popup, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::Actions;

use super::desk::Desk;
use super::image::Image;
use super::{
    Announce, Announced, Dragged, Ended, HostEvent, Keymap, Look, Pixels, PopupLook, Presenter, Selections,
};
use crate::windows::dialogs;
use crate::windows::render::{Renderer, Target};

/// The width of a border, in logical pixels.
const WIDTH: u32 = 3;

/// A border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Border {
    /// Its width, in logical pixels.
    pub width: u32,
    /// Red, green, blue.
    pub colour: [u8; 3],
}

impl Border {
    /// One of this colour (red, green, blue).
    #[must_use]
    pub fn new(colour: [u8; 3]) -> Self {
        Self { width: WIDTH, colour }
    }
}

/// A presenter whose windows have borders.
#[derive(Debug)]
pub struct Framed {
    desktop: Box<dyn Presenter>,
    border: Border,
    /// The window that the pointer is in.
    pointed: Option<SurfaceId>,
    /// The window that something is dragged over.
    dragged: Option<SurfaceId>,
}

impl Framed {
    /// Windows with such borders on a desktop.
    #[must_use]
    pub fn new(desktop: Box<dyn Presenter>, border: Border) -> Self {
        Self { desktop, border, pointed: None, dragged: None }
    }

    /// The border of a window on each side; the host's own have none.
    fn edge(&self, window: SurfaceId) -> u32 {
        if dialogs::is_own(window) { 0 } else { self.border.width }
    }

    fn outer(&self, window: SurfaceId, size: Size) -> Size {
        let more = 2 * self.edge(window);
        Size::new(size.width.saturating_add(more), size.height.saturating_add(more))
    }

    /// The content of a window; an empty size, which says nothing, stays one.
    fn inner(&self, window: SurfaceId, size: Size) -> Size {
        let less = 2 * self.edge(window);
        let side = |side: u32| if side == 0 { 0 } else { side.saturating_sub(less).max(1) };
        Size::new(side(size.width), side(size.height))
    }

    /// A place in the content of a window as one of its host window, or back.
    fn shifted(&self, window: SurfaceId, at: Point, sign: i32) -> Point {
        let by = sign * self.edge(window).cast_signed();
        Point::new(at.x.saturating_add(by), at.y.saturating_add(by))
    }

    fn outer_look(&self, window: SurfaceId, look: &Look) -> Look {
        let limit = |size: Size| {
            let outer = self.outer(window, size);
            let side = |of: u32, outer: u32| if of == 0 { 0 } else { outer };
            Size::new(side(size.width, outer.width), side(size.height, outer.height))
        };
        let steps = look.increment != Size::default();
        Look {
            min_size: limit(look.min_size),
            max_size: limit(look.max_size),
            place: look.place.map(|place| Placed { at: self.shifted(window, place.at, -1), ..place }),
            base_size: if steps { self.outer(window, look.base_size) } else { look.base_size },
            ..look.clone()
        }
    }

    /// A popup's place in its parent's content is that of its host window in the parent's, as both have the same border.
    fn outer_popup(&self, window: SurfaceId, look: PopupLook) -> PopupLook {
        let Size { width, height } = self.outer(window, look.area.size());
        PopupLook { area: Rect { width, height, ..look.area }, ..look }
    }

    fn outer_place(&self, window: SurfaceId, popup: &Popup) -> Popup {
        let place = match &popup.place {
            Place::Positioner(positioner) => {
                let mut positioner = *positioner;
                positioner.size = self.outer(window, positioner.size);
                let rect = &mut positioner.anchor_rect;
                let at = self.shifted(popup.parent, Point::new(rect.x, rect.y), 1);
                (rect.x, rect.y) = (at.x, at.y);
                Place::Positioner(positioner)
            }
            Place::Fixed(area) => {
                let Size { width, height } = self.outer(window, area.size());
                Place::Fixed(Rect { width, height, ..*area })
            }
        };
        Popup { place, ..popup.clone() }
    }

    fn inner_event(&mut self, event: HostEvent) -> HostEvent {
        match event {
            HostEvent::Configured { window, size, states } => {
                HostEvent::Configured { window, size: self.inner(window, size), states }
            }
            HostEvent::Placed { window, area, reposition } => {
                let Size { width, height } = self.inner(window, area.size());
                HostEvent::Placed { window, area: Rect { width, height, ..area }, reposition }
            }
            HostEvent::Moved { window, at } => HostEvent::Moved { window, at: self.shifted(window, at, 1) },
            HostEvent::Input(InputEvent::PointerEnter { surface, x, y }) => {
                self.pointed = Some(surface);
                let edge = f64::from(self.edge(surface));
                HostEvent::Input(InputEvent::PointerEnter { surface, x: x - edge, y: y - edge })
            }
            HostEvent::Input(InputEvent::PointerMotion { time_ms, x, y }) => {
                let edge = self.pointed.map_or(0.0, |window| f64::from(self.edge(window)));
                HostEvent::Input(InputEvent::PointerMotion { time_ms, x: x - edge, y: y - edge })
            }
            HostEvent::Drag(Dragged::Enter { window, x, y, types, actions, own }) => {
                self.dragged = Some(window);
                let edge = f64::from(self.edge(window));
                HostEvent::Drag(Dragged::Enter { window, x: x - edge, y: y - edge, types, actions, own })
            }
            HostEvent::Drag(Dragged::Motion { time_ms, x, y }) => {
                let edge = self.dragged.map_or(0.0, |window| f64::from(self.edge(window)));
                HostEvent::Drag(Dragged::Motion { time_ms, x: x - edge, y: y - edge })
            }
            other => other,
        }
    }
}

impl Presenter for Framed {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.desktop.fd()
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        let events = self.desktop.dispatch()?;
        Ok(events.into_iter().map(|event| self.inner_event(event)).collect())
    }

    fn outputs(&self) -> &[Output] {
        self.desktop.outputs()
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        self.desktop.keyboard()
    }

    fn decides(&self) -> bool {
        self.desktop.decides()
    }

    fn desk(&self) -> Option<&Desk> {
        self.desktop.desk()
    }

    fn desk_mut(&mut self) -> Option<&mut Desk> {
        self.desktop.desk_mut()
    }

    fn border(&self) -> Option<Border> {
        Some(self.border)
    }

    fn announce(&mut self, window: SurfaceId, what: Announce<'_>) -> Announced {
        match what {
            Announce::Toplevel { look, states } => {
                let look = self.outer_look(window, look);
                self.desktop.announce(window, Announce::Toplevel { look: &look, states })
            }
            Announce::Popup(popup) => {
                let popup = self.outer_place(window, popup);
                self.desktop.announce(window, Announce::Popup(&popup))
            }
        }
    }

    fn scale(&self, window: SurfaceId) -> u32 {
        self.desktop.scale(window)
    }

    fn begin_frame(&mut self, window: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        let size = self.outer(window, size);
        self.desktop.begin_frame(window, size, settled)
    }

    fn end_frame(&mut self, window: SurfaceId, ended: Ended) -> bool {
        self.desktop.end_frame(window, ended)
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let (look, size) = (self.outer_look(window, look), self.outer(window, size));
        self.desktop.open_toplevel(window, &look, size, states, renderer)
    }

    fn open_plain(&mut self, window: SurfaceId, look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        let (look, size) = (self.outer_look(window, look), self.outer(window, size));
        self.desktop.open_plain(window, &look, size)
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let look = self.outer_popup(window, look);
        self.desktop.open_popup(window, look, renderer)
    }

    fn expect_window(&mut self, token: Option<String>) {
        self.desktop.expect_window(token);
    }

    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>) {
        self.desktop.watch_clicks(toplevel);
    }

    fn close(&mut self, window: SurfaceId) {
        self.pointed = self.pointed.filter(|pointed| *pointed != window);
        self.desktop.close(window);
    }

    fn update(&mut self, window: SurfaceId, look: &Look) {
        let look = self.outer_look(window, look);
        self.desktop.update(window, &look);
    }

    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]) {
        self.desktop.set_icons(window, icons);
    }

    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>) {
        let rects = rects.map(|rects| widened(rects, self.edge(window)));
        self.desktop.set_shape(window, rects.as_deref());
    }

    fn resize(&mut self, window: SurfaceId, size: Size) {
        let size = self.outer(window, size);
        self.desktop.resize(window, size);
    }

    fn place_popup(&mut self, window: SurfaceId, look: PopupLook) {
        let look = self.outer_popup(window, look);
        self.desktop.place_popup(window, look);
    }

    fn origin(&mut self, window: SurfaceId) -> Point {
        let at = self.desktop.origin(window);
        self.shifted(window, at, 1)
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        let act = match act {
            Act::WindowMenu(at) => Act::WindowMenu(self.shifted(window, at, 1)),
            other => other,
        };
        self.desktop.act(window, act);
    }

    fn constrain(&mut self, window: SurfaceId, how: Option<Constraint>) {
        self.desktop.constrain(window, how);
    }

    fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        self.desktop.answer_drag(kind, action);
    }

    fn end_drag(&mut self, action: Actions) {
        self.desktop.end_drag(action);
    }

    fn start_drag(&mut self, window: SurfaceId, types: &[String], actions: Actions) -> bool {
        self.desktop.start_drag(window, types, actions)
    }

    fn set_drag_icon(&mut self, image: Image) {
        self.desktop.set_drag_icon(image);
    }

    fn cancel_drag(&mut self) {
        self.desktop.cancel_drag();
    }

    fn selections(&self) -> Option<&dyn Selections> {
        self.desktop.selections()
    }

    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        self.desktop.selections_mut()
    }

    fn set_cursor(&mut self, image: Image) {
        self.desktop.set_cursor(image);
    }

    fn flush(&mut self) {
        self.desktop.flush();
    }
}

/// An outline in the coordinates of a content as that of the border around it, in those of the host window: every rectangle grows by
/// `edge` to all sides.
#[must_use]
pub fn widened(outline: &[Rect], edge: u32) -> Vec<Rect> {
    let more = |side: u32| side.saturating_add(2 * edge);
    // What lies further right and down by the border begins further left and up by it.
    outline.iter().map(|r| Rect { width: more(r.width), height: more(r.height), ..*r }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::presenter::headless::Headless;
    use crate::windows::window;
    use inlay_protocol::display::Toplevel;

    const WINDOW: SurfaceId = SurfaceId(4);
    const OWN: SurfaceId = SurfaceId(dialogs::FIRST + 1);

    fn framed() -> Framed {
        Framed::new(Box::new(Headless::default()), Border::new([1, 2, 3]))
    }

    #[test]
    fn sizes_and_places_are_those_of_the_content_inside() {
        let mut framed = framed();
        let size = Size::new(100, 50);
        assert_eq!(framed.begin_frame(WINDOW, size, true), Some(Size::new(106, 56)));
        assert_eq!(framed.begin_frame(OWN, size, true), Some(size), "a question of the host's own");
        let states = States::default();
        let told = |framed: &mut Framed, size| match framed.inner_event(HostEvent::Configured {
            window: WINDOW,
            size,
            states,
        }) {
            HostEvent::Configured { size, .. } => size,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&mut framed, Size::new(106, 56)), size);
        assert_eq!(told(&mut framed, Size::default()), Size::default(), "the app's choice");
        assert_eq!(told(&mut framed, Size::new(2, 56)), Size::new(1, 50));
        let enter = |surface| HostEvent::Input(InputEvent::PointerEnter { surface, x: 3.0, y: 5.5 });
        let motion = || HostEvent::Input(InputEvent::PointerMotion { time_ms: 0, x: 4.0, y: 0.0 });
        let place = |event| match event {
            HostEvent::Input(
                InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. },
            ) => (x, y),
            other => panic!("{other:?}"),
        };
        assert_eq!(place(framed.inner_event(enter(WINDOW))), (0.0, 2.5));
        assert_eq!(place(framed.inner_event(motion())), (1.0, -3.0));
        assert_eq!(place(framed.inner_event(enter(OWN))), (3.0, 5.5));
        assert_eq!(place(framed.inner_event(motion())), (4.0, 0.0));
    }

    #[test]
    fn limits_grow_and_none_stays_none() {
        let toplevel = Toplevel {
            min_size: Size::new(10, 0),
            base_size: Size::new(4, 4),
            increment: Size::new(6, 13),
            place: Some(Placed { at: Point::new(40, 3), by_user: true }),
            ..Toplevel::default()
        };
        let look = framed().outer_look(WINDOW, &window::look(&toplevel, "demo", None));
        assert_eq!((look.min_size, look.max_size), (Size::new(16, 0), Size::default()));
        assert_eq!((look.base_size, look.increment), (Size::new(10, 10), Size::new(6, 13)));
        assert_eq!(look.place.unwrap().at, Point::new(37, 0), "its content is where its app wants it");
        assert_eq!(widened(&[Rect::new(5, 7, 1, 1)], 3), [Rect::new(5, 7, 7, 7)]);
    }
}
