//! How many pixels an inch has, told to apps in the two ways that they look for: resources of the root window (Xlib, Qt, Xft), and
//! the XSETTINGS that GTK follows (freedesktop.org's XSETTINGS 0.5).

use inlay_protocol::scale::Scale;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, PropMode};
use x11rb::wrapper::ConnectionExt as _;

use super::{Fault, Wm};

/// Pixels an inch, and of a pointer image, at a scale of 1.
const DPI: u32 = 96;
const CURSOR: u32 = 24;
/// 32-bit units of the user's resources that are kept.
const RESOURCES: u32 = 1 << 16;
/// Fractions in which XSETTINGS count pixels an inch.
const FRACTIONS: u32 = 1024;

impl Wm {
    /// Tells apps the scale. Nothing is told as long as it is 1, as everywhere that is what apps begin with.
    pub(super) fn publish_scale(&mut self, scale: Scale) -> Result<(), Fault> {
        if scale == Scale::ONE && self.serial == 0 {
            return Ok(());
        }
        let (resources, string) = (AtomEnum::RESOURCE_MANAGER, AtomEnum::STRING);
        let before = self.c.get_property(false, self.root, resources, string, 0, RESOURCES)?.reply()?.value;
        let text = with_scale(&String::from_utf8_lossy(&before), scale);
        self.c.change_property8(PropMode::REPLACE, self.root, resources, string, text.as_bytes())?;
        let [owned, name] = [self.atoms._XSETTINGS_S0, self.atoms._XSETTINGS_SETTINGS];
        let bytes = settings(scale, self.serial);
        self.c.change_property8(PropMode::REPLACE, self.own, name, name, &bytes)?;
        if self.serial == 0 {
            self.c.set_selection_owner(self.own, owned, self.time)?;
            let data = [self.time, owned, self.own, 0, 0];
            let event = ClientMessageEvent::new(32, self.root, self.atoms.MANAGER, data);
            self.c.send_event(false, self.root, EventMask::STRUCTURE_NOTIFY, event)?;
        }
        self.serial += 1;
        Ok(self.c.flush()?)
    }
}

/// The user's resources, with those of the scale.
fn with_scale(resources: &str, scale: Scale) -> String {
    let ours =
        |line: &&str| ["Xft.dpi:", "Xcursor.size:"].iter().any(|name| line.trim_start().starts_with(name));
    let mut text: String =
        resources.lines().filter(|line| !ours(line)).flat_map(|line| [line, "\n"]).collect();
    text += &format!("Xft.dpi:\t{}\nXcursor.size:\t{}\n", scale.length(DPI), scale.length(CURSOR));
    text
}

/// The property `_XSETTINGS_SETTINGS`, in this machine's byte order.
fn settings(scale: Scale, serial: u32) -> Vec<u8> {
    // GTK scales windows by whole numbers, and text by the rest.
    let whole = (scale.0 / 120).max(1);
    let dpi = |of: u32| scale.length(DPI * FRACTIONS) / of;
    let all = [
        ("Gdk/UnscaledDPI", dpi(whole)),
        ("Gdk/WindowScalingFactor", whole),
        ("Gtk/CursorThemeSize", scale.length(CURSOR)),
        ("Xft/DPI", dpi(1)),
    ];
    let order = u8::from(cfg!(target_endian = "big"));
    let mut bytes = vec![order, 0, 0, 0];
    bytes.extend(serial.to_ne_bytes());
    bytes.extend(u32::try_from(all.len()).unwrap_or(0).to_ne_bytes());
    for (name, value) in all {
        // An integer: its type, the name's length, the name, padding, when it changed, the value.
        bytes.extend([0, 0]);
        bytes.extend(u16::try_from(name.len()).unwrap_or(0).to_ne_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(serial.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_resources_stay() {
        let text = with_scale("XTerm*background: black\nXft.dpi: 96\n! a remark", Scale(240));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["XTerm*background: black", "! a remark", "Xft.dpi:\t192", "Xcursor.size:\t48"]);
        assert_eq!(with_scale(&text, Scale(240)), text);
    }

    #[test]
    fn settings_are_laid_out_as_their_readers_expect() {
        let bytes = settings(Scale(300), 7);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(4), word(8)), (7, 4));
        assert_eq!(&bytes[16..31], b"Gdk/UnscaledDPI");
        assert_eq!((word(32), word(36)), (7, 96 * 1024 * 5 / 4), "what two whole pixels leave");
        assert_eq!(&bytes[44..67], b"Gdk/WindowScalingFactor");
        assert_eq!(word(72), 2);
        assert_eq!(bytes.len(), 12 + (4 + 16 + 8) + (4 + 24 + 8) + (4 + 20 + 8) + (4 + 8 + 8));
    }
}
