//! A small window of the host's own that says one thing and goes when it is clicked or closed.
//!
//! Drawn with the display's built-in font: it must work when the graphics device or the guest does not.

use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    self, AtomEnum, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, PropMode, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::X11;

/// Characters in a line.
const LINE: usize = 72;
/// Pixels of a character cell of the font `fixed`, and around the text.
const CELL: (u16, u16) = (6, 16);
const MARGIN: u16 = 18;

/// A notice that is shown.
#[derive(Debug)]
pub struct Notice {
    /// Its window.
    pub xid: xproto::Window,
    gc: xproto::Gcontext,
    lines: Vec<String>,
}

/// Shows a notice.
pub fn show(x11: &X11, text: &str) -> anyhow::Result<Notice> {
    let c = &x11.connection;
    let a = &x11.atoms;
    let lines = wrap(text);
    let columns = lines.iter().map(String::len).max().unwrap_or(1);
    let width = CELL.0 * u16::try_from(columns)? + 2 * MARGIN;
    let height = CELL.1 * u16::try_from(lines.len())? + 2 * MARGIN;
    let [xid, gc, font] = [c.generate_id()?, c.generate_id()?, c.generate_id()?];
    let screen = &c.setup().roots[x11.screen];
    let mask = EventMask::EXPOSURE | EventMask::BUTTON_PRESS;
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
    c.change_property8(PropMode::REPLACE, xid, AtomEnum::WM_CLASS, AtomEnum::STRING, b"inlay\0inlay\0")?;
    let atoms =
        |property, value| c.change_property32(PropMode::REPLACE, xid, property, AtomEnum::ATOM, &[value]);
    atoms(a.WM_PROTOCOLS, a.WM_DELETE_WINDOW)?;
    atoms(a._NET_WM_WINDOW_TYPE, a._NET_WM_WINDOW_TYPE_DIALOG)?;
    c.open_font(font, b"fixed")?;
    let colours = CreateGCAux::new().foreground(screen.black_pixel).background(screen.white_pixel);
    c.create_gc(gc, xid, &colours.font(font))?;
    c.close_font(font)?;
    c.map_window(xid)?;
    Ok(Notice { xid, gc, lines })
}

impl Notice {
    /// Draws its text.
    pub fn draw(&self, x11: &X11) {
        for (row, line) in (0_i16..).zip(&self.lines) {
            let (x, y) = (MARGIN.cast_signed(), MARGIN.cast_signed() + 12 + row * CELL.1.cast_signed());
            x11.sent(x11.connection.image_text8(self.xid, self.gc, x, y, line.as_bytes()));
        }
    }

    /// Takes it away.
    pub fn close(self, x11: &X11) {
        x11.sent(x11.connection.free_gc(self.gc));
        x11.sent(x11.connection.destroy_window(self.xid));
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
    use super::wrap;

    #[test]
    fn text_is_broken_between_words() {
        let text = format!("{} end\u{7}", "word ".repeat(20));
        let lines = wrap(&text);
        assert!(lines.len() == 2 && lines.iter().all(|l| l.len() <= 72), "{lines:?}");
        assert!(lines[1].ends_with("end?"));
        assert_eq!(wrap(&"x".repeat(500))[0].len(), 72);
    }
}
