//! Small windows of the host's own: one says a thing and goes when it is clicked or closed, another asks.
//!
//! Drawn with the display's built-in font: they must work when the graphics device or the guest does not.

use inlay_protocol::display::SurfaceId;
use x11rb::connection::Connection as _;
use x11rb::properties::{WmHints, WmSizeHints};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    self, AtomEnum, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, PropMode, Rectangle,
    WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::{HostEvent, X11};

/// Characters in a line.
const LINE: usize = 72;
/// Pixels of a character cell of the font `fixed`, and around the text.
const CELL: (u16, u16) = (6, 16);
const MARGIN: u16 = 18;
/// Height of a button, and the space beside its text.
const BUTTON: u16 = 26;
const PAD: u16 = 12;
/// Questions that may be open at once.
const QUESTIONS: usize = 16;

/// What a question's buttons say, and whether each ends the app.
const CHOICES: [(&str, bool); 2] = [("Wait", false), ("Force it to close", true)];

/// A window of the host's own.
#[derive(Debug)]
pub struct Notice {
    /// Its window.
    pub xid: xproto::Window,
    /// The toplevel that it asks about; `None` when it only says something.
    pub about: Option<SurfaceId>,
    gc: xproto::Gcontext,
    lines: Vec<String>,
    buttons: Vec<Rectangle>,
    /// Keycodes of Escape and Return: they wait.
    keys: Vec<u8>,
}

/// What the user did to a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Nothing,
    Draw,
    Closed,
    Forced,
}

/// Shows a notice, or a question about a toplevel.
pub fn show(x11: &X11, text: &str, about: Option<SurfaceId>) -> anyhow::Result<Notice> {
    let c = &x11.connection;
    let a = &x11.atoms;
    let lines = wrap(text);
    let choices = if about.is_some() { &CHOICES[..] } else { &[] };
    let (width, height, buttons) = layout(&lines, choices);
    let [xid, gc, font] = [c.generate_id()?, c.generate_id()?, c.generate_id()?];
    let screen = &c.setup().roots[x11.screen];
    let mut mask = EventMask::EXPOSURE | EventMask::BUTTON_PRESS;
    if about.is_some() {
        mask |= EventMask::KEY_PRESS;
    }
    let aux = CreateWindowAux::new().background_pixel(screen.white_pixel).event_mask(mask);
    c.create_window(
        screen.root_depth,
        xid,
        x11.root,
        0,
        0,
        width,
        height,
        0,
        WindowClass::INPUT_OUTPUT,
        screen.root_visual,
        &aux,
    )?;
    c.change_property8(PropMode::REPLACE, xid, a._NET_WM_NAME, a.UTF8_STRING, b"Inlay")?;
    c.change_property8(PropMode::REPLACE, xid, AtomEnum::WM_NAME, AtomEnum::STRING, b"Inlay")?;
    c.change_property8(PropMode::REPLACE, xid, AtomEnum::WM_CLASS, AtomEnum::STRING, b"inlay\0inlay\0")?;
    let words = |property: xproto::Atom, kind: AtomEnum, value| {
        c.change_property32(PropMode::REPLACE, xid, property, kind, &[value])
    };
    words(a.WM_PROTOCOLS, AtomEnum::ATOM, a.WM_DELETE_WINDOW)?;
    words(a._NET_WM_WINDOW_TYPE, AtomEnum::ATOM, a._NET_WM_WINDOW_TYPE_DIALOG)?;
    // A notice comes by itself and takes no keys away from anybody; a question follows what the user just did.
    WmHints { input: Some(about.is_some()), ..WmHints::new() }.set(&**c, xid)?;
    let size = Some((width.into(), height.into()));
    WmSizeHints { min_size: size, max_size: size, ..WmSizeHints::new() }.set_normal_hints(&**c, xid)?;
    match about {
        None => drop(words(a._NET_WM_USER_TIME, AtomEnum::CARDINAL, 0)?),
        Some(_) => {
            if let Some(time) = x11.user_time {
                words(a._NET_WM_USER_TIME, AtomEnum::CARDINAL, time)?;
            }
        }
    }
    if let Some(window) = about.and_then(|id| x11.windows.get(&id)) {
        words(AtomEnum::WM_TRANSIENT_FOR.into(), AtomEnum::WINDOW, window.xid)?;
    }
    c.open_font(font, b"fixed")?;
    let colours = CreateGCAux::new().foreground(screen.black_pixel).background(screen.white_pixel);
    c.create_gc(gc, xid, &colours.font(font))?;
    c.close_font(font)?;
    c.map_window(xid)?;
    let keys = if about.is_some() { waiting_keys(x11)? } else { Vec::new() };
    Ok(Notice { xid, about, gc, lines, buttons, keys })
}

/// Size of a window with this text, and where its buttons are: a row at the lower right.
fn layout(lines: &[String], choices: &[(&str, bool)]) -> (u16, u16, Vec<Rectangle>) {
    let cells = |count: usize| CELL.0 * u16::try_from(count).unwrap_or(0);
    let wide = |label: &str| cells(label.len()) + 2 * PAD;
    let row: u16 = choices.iter().map(|(label, _)| wide(label) + PAD).sum();
    let text = cells(lines.iter().map(String::len).max().unwrap_or(1));
    let width = text.max(row) + 2 * MARGIN;
    let below = MARGIN + CELL.1 * u16::try_from(lines.len()).unwrap_or(0);
    let mut x = width - MARGIN - row;
    let button = |(label, _): &(&str, bool)| {
        x += PAD;
        let at = Rectangle {
            x: x.cast_signed(),
            y: (below + PAD).cast_signed(),
            width: wide(label),
            height: BUTTON,
        };
        x += wide(label);
        at
    };
    let buttons: Vec<Rectangle> = choices.iter().map(button).collect();
    let height = if buttons.is_empty() { below + MARGIN } else { below + PAD + BUTTON + MARGIN };
    (width, height, buttons)
}

/// Keycodes that produce Escape, Return or Enter.
fn waiting_keys(x11: &X11) -> anyhow::Result<Vec<u8>> {
    const KEYSYMS: [u32; 3] = [0xff1b, 0xff0d, 0xff8d];
    let setup = x11.connection.setup();
    let count = setup.max_keycode - setup.min_keycode + 1;
    let map = x11.connection.get_keyboard_mapping(setup.min_keycode, count)?.reply()?;
    let columns = usize::from(map.keysyms_per_keycode.max(1));
    let codes = (setup.min_keycode..=setup.max_keycode).zip(map.keysyms.chunks(columns));
    Ok(codes.filter(|(_, syms)| syms.iter().any(|s| KEYSYMS.contains(s))).map(|(code, _)| code).collect())
}

/// Takes an event of a notice; `true` when it was one.
pub fn handle(x11: &mut X11, event: &Event, out: &mut Vec<HostEvent>) -> bool {
    let xid = match event {
        Event::Expose(e) => e.window,
        Event::ButtonPress(e) | Event::ButtonRelease(e) => e.event,
        Event::KeyPress(e) | Event::KeyRelease(e) => e.event,
        Event::ClientMessage(e) => e.window,
        _ => return false,
    };
    let Some(index) = x11.notices.iter().position(|n| n.xid == xid) else { return false };
    match x11.notices[index].follow(event, x11.atoms.WM_DELETE_WINDOW) {
        Done::Nothing => {}
        Done::Draw => x11.notices[index].draw(x11),
        done @ (Done::Closed | Done::Forced) => {
            let notice = x11.notices.remove(index);
            if let Some(window) = notice.about {
                out.push(HostEvent::Answer { window, force: done == Done::Forced });
            }
            notice.close(x11);
        }
    }
    true
}

impl Notice {
    fn follow(&self, event: &Event, delete: xproto::Atom) -> Done {
        match event {
            Event::Expose(_) => Done::Draw,
            Event::ButtonPress(_) if self.buttons.is_empty() => Done::Closed,
            Event::ButtonPress(e) if e.detail == 1 => {
                let hit = |r: &Rectangle| {
                    let within = |at: i16, start: i16, len: u16| {
                        i32::from(at) >= i32::from(start) && i32::from(at) < i32::from(start) + i32::from(len)
                    };
                    within(e.event_x, r.x, r.width) && within(e.event_y, r.y, r.height)
                };
                match self.buttons.iter().position(hit).and_then(|at| CHOICES.get(at)) {
                    None => Done::Nothing,
                    Some((_, false)) => Done::Closed,
                    Some((_, true)) => Done::Forced,
                }
            }
            Event::KeyPress(e) if self.keys.contains(&e.detail) => Done::Closed,
            Event::ClientMessage(e) if e.data.as_data32()[0] == delete => Done::Closed,
            _ => Done::Nothing,
        }
    }

    /// Draws its text and buttons.
    fn draw(&self, x11: &X11) {
        let text = |x: i16, y: i16, line: &str| {
            x11.sent(x11.connection.image_text8(self.xid, self.gc, x, y, line.as_bytes()));
        };
        for (row, line) in (0_i16..).zip(&self.lines) {
            text(MARGIN.cast_signed(), MARGIN.cast_signed() + 12 + row * CELL.1.cast_signed(), line);
        }
        x11.sent(x11.connection.poly_rectangle(self.xid, self.gc, &self.buttons));
        for (button, (label, _)) in self.buttons.iter().zip(CHOICES) {
            text(button.x + PAD.cast_signed(), button.y + 17, label);
        }
    }

    /// Takes it away.
    pub fn close(self, x11: &X11) {
        x11.sent(x11.connection.free_gc(self.gc));
        x11.sent(x11.connection.destroy_window(self.xid));
    }
}

impl X11 {
    /// Shows a notice in the place of the one before: a guest must not cover the desktop with them.
    pub(super) fn say(&mut self, text: &str) {
        self.replace_notice(text, None);
    }

    /// Asks about a toplevel, once at a time.
    pub(super) fn ask(&mut self, window: SurfaceId, text: &str) {
        if self.notices.iter().filter(|n| n.about.is_some()).count() < QUESTIONS {
            self.replace_notice(text, Some(window));
        }
    }

    fn replace_notice(&mut self, text: &str, about: Option<SurfaceId>) {
        match show(self, text, about) {
            Ok(notice) => {
                self.drop_notice(about);
                self.notices.push(notice);
            }
            Err(error) => tracing::warn!("a notice cannot be shown: {error:#}"),
        }
    }

    /// Takes the question about a toplevel away, or the notice.
    pub(super) fn drop_notice(&mut self, about: Option<SurfaceId>) {
        if let Some(at) = self.notices.iter().position(|n| n.about == about) {
            self.notices.remove(at).close(self);
        }
    }
}

/// Lines of printable ASCII, broken between words.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String =
            word.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(LINE).collect();
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word,
            Some(line) if line.len() + 1 + word.len() <= LINE => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines.truncate(20);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        let text = format!("{} end\u{7}", "word ".repeat(20));
        let lines = wrap(&text);
        assert!(lines.len() == 2 && lines.iter().all(|l| l.len() <= 72), "{lines:?}");
        assert!(lines[1].ends_with("end?"));
        assert_eq!(wrap(&"x".repeat(500))[0].len(), 72);
    }

    #[test]
    fn buttons_lie_beside_each_other_below_the_text() {
        for lines in [vec!["short".to_owned()], vec!["x".repeat(72); 3]] {
            let (width, height, buttons) = layout(&lines, &CHOICES);
            let [wait, force] = buttons.as_slice() else { panic!("{buttons:?}") };
            assert!(wait.x + wait.width.cast_signed() < force.x && wait.x >= MARGIN.cast_signed());
            assert_eq!(force.x + force.width.cast_signed(), (width - MARGIN).cast_signed());
            let text_end = MARGIN + CELL.1 * u16::try_from(lines.len()).unwrap();
            assert!(wait.y > text_end.cast_signed() && wait.y + 26 < height.cast_signed());
        }
    }

    #[test]
    fn only_a_click_on_the_button_forces() {
        let (_, _, buttons) = layout(&["text".to_owned()], &CHOICES);
        let at = |index: usize| (buttons[index].x + 3, buttons[index].y + 3);
        let places = [at(0), at(1)];
        let notice = Notice { xid: 1, about: None, gc: 0, lines: vec![], buttons, keys: vec![9, 36] };
        let press = |(event_x, event_y), detail| {
            let event = button(event_x, event_y, detail);
            notice.follow(&Event::ButtonPress(event), 7)
        };
        assert_eq!(press(places[0], 1), Done::Closed);
        assert_eq!(press(places[1], 1), Done::Forced);
        assert_eq!([press(places[1], 3), press((0, 0), 1)], [Done::Nothing; 2]);
        assert_eq!(notice.follow(&Event::KeyPress(key(36)), 7), Done::Closed);
        assert_eq!(notice.follow(&Event::KeyPress(key(65)), 7), Done::Nothing);
    }

    fn button(event_x: i16, event_y: i16, detail: u8) -> xproto::ButtonPressEvent {
        xproto::ButtonPressEvent {
            response_type: 4,
            detail,
            sequence: 0,
            time: 0,
            root: 0,
            event: 1,
            child: 0,
            root_x: 0,
            root_y: 0,
            event_x,
            event_y,
            state: xproto::KeyButMask::default(),
            same_screen: true,
        }
    }

    fn key(detail: u8) -> xproto::KeyPressEvent {
        xproto::KeyPressEvent {
            response_type: 2,
            detail,
            sequence: 0,
            time: 0,
            root: 0,
            event: 1,
            child: 0,
            root_x: 0,
            root_y: 0,
            event_x: 0,
            event_y: 0,
            state: xproto::KeyButMask::default(),
            same_screen: true,
        }
    }
}
