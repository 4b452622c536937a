//! The keyboard of the guest's own consoles, as the host's is: its keymap as the kernel's key tables (`keymaps(5)`, `KDSKBENT`).
//!
//! ```text
//! host's keymap -> the agent: table -> a file -> inlay-keys.path -> root: this program as `set-keys FILE` -> kernel
//! ```
//!
//! Only what a key types is set: no strings, nothing that acts. Any program of the guest's user may have written the file.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use smithay::input::keyboard::{Keycode, xkb};

/// The word that makes this program set the kernel's keys instead of being an agent.
pub const SET: &str = "set-keys";

/// Keys that type something, evdev's codes.
const KEYS: [std::ops::RangeInclusive<u8>; 8] =
    [2..=13, 16..=27, 30..=41, 43..=53, 57..=57, 86..=86, 89..=89, 124..=124];

/// The kernel's modifiers, which together are the number of a table.
const SHIFT: u8 = 1;
const ALT_GR: u8 = 2;
const CTRL: u8 = 4;
const ALT: u8 = 8;
/// The tables that are set: all that the kernel has from the start. One that is made anew has no modifiers in it, which then stay down;
/// what keys type with both AltGr and Shift is left out for that.
const TABLES: [u8; 6] = [0, SHIFT, ALT_GR, CTRL, ALT, CTRL | ALT];
/// Consoles of which one takes characters beyond Latin-1; the tables are of all. The first is the one in front.
const CONSOLES: [&str; 7] =
    ["/dev/tty0", "/dev/tty1", "/dev/tty2", "/dev/tty3", "/dev/tty4", "/dev/tty5", "/dev/tty6"];

/// Kinds of a key's value, in its upper byte (`linux/keyboard.h`): a character as it is, nothing, a dead key, with Meta, a letter that
/// Caps Lock is for. A value beyond all kinds is a character of Unicode.
const LATIN: u16 = 0x0000;
const HOLE: u16 = 0x0200;
const DEAD: u16 = 0x0400;
const META: u16 = 0x0800;
const LETTER: u16 = 0x0b00;
const UNICODE: u16 = 0xf000;
const KINDS: u16 = 0x0f;
/// Dead keys in the kernel's order.
const DEAD_KEYS: [u32; 6] = [
    xkb::keysyms::KEY_dead_grave,
    xkb::keysyms::KEY_dead_acute,
    xkb::keysyms::KEY_dead_circumflex,
    xkb::keysyms::KEY_dead_tilde,
    xkb::keysyms::KEY_dead_diaeresis,
    xkb::keysyms::KEY_dead_cedilla,
];

/// Bytes of a file of entries, which needs a tenth of it.
const MOST: u64 = 64 << 10;
const KDSKBENT: u64 = 0x4b47;
const KDGKBMODE: u64 = 0x4b44;
const K_UNICODE: libc::c_int = 3;

/// `struct kbentry` of `linux/kd.h`: what a key is in a table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    table: u8,
    key: u8,
    value: u16,
}

/// Has the guest's consoles type what the host's keyboard does, where `file` says that they can. `written` is what they were told last.
pub fn follow(file: Option<&Path>, written: &mut Option<String>, keymap: &str) {
    let Some(file) = file else { return };
    let Some(table) = compiled(keymap).map(|keymap| text(&entries(&keymap))) else { return };
    let (new, told) = (file.with_extension("new"), file.with_extension("told"));
    // As they are from the start, where no agent before this one said otherwise.
    let first = written.is_none() && !told.exists() && american().is_some_and(|american| american == table);
    if !first && written.as_ref() != Some(&table) {
        let tell = || {
            std::fs::write(&told, "")?;
            std::fs::write(&new, &table)?;
            std::fs::rename(&new, file)
        };
        match tell() {
            Ok(()) => tracing::debug!("the consoles are to have the host's keyboard"),
            Err(error) => tracing::warn!(%error, "the consoles' keyboard stays as it is"),
        }
    }
    *written = Some(table);
}

fn compiled(text: &str) -> Option<xkb::Keymap> {
    // The text holds all it needs; a context with the system's data is none where that is missing.
    let context = xkb::Context::new(xkb::CONTEXT_NO_DEFAULT_INCLUDES);
    xkb::Keymap::new_from_string(
        &context,
        text.to_owned(),
        xkb::KEYMAP_FORMAT_TEXT_V1,
        xkb::KEYMAP_COMPILE_NO_FLAGS,
    )
}

/// The table of the layout that Linux begins with.
fn american() -> Option<String> {
    if !crate::inject::keyboard::xkb_data_is_there() {
        return None;
    }
    let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
    let keymap = xkb::Keymap::new_from_names(
        &context,
        "evdev",
        "pc105",
        "us",
        "",
        None,
        xkb::KEYMAP_COMPILE_NO_FLAGS,
    )?;
    Some(text(&entries(&keymap)))
}

/// What the keys of a keymap's first layout type.
fn entries(keymap: &xkb::Keymap) -> Vec<Entry> {
    let mut state = xkb::State::new(keymap);
    let mask = |name: &str| match keymap.mod_get_index(name) {
        xkb::MOD_INVALID => 0,
        index => 1_u32.checked_shl(index).unwrap_or_default(),
    };
    let (shift, level3) = (mask(xkb::MOD_NAME_SHIFT), mask("Mod5"));
    let mut entries = Vec::new();
    for key in KEYS.into_iter().flatten() {
        let code = Keycode::new(u32::from(key) + 8);
        let mut symbol = |table: u8| {
            let shifted = if table & SHIFT == 0 { 0 } else { shift };
            let third = if table & ALT_GR == 0 { 0 } else { level3 };
            state.update_mask(shifted | third, 0, 0, 0, 0, 0);
            state.key_get_one_sym(code)
        };
        let (plain, shifted) = (character(symbol(0)), character(symbol(SHIFT)));
        for table in TABLES {
            let value = match table {
                CTRL => control(plain).or_else(|| control(shifted)).map_or(HOLE, |c| LATIN | c),
                ALT => ascii(plain).map_or(HOLE, |c| META | c),
                table if table == CTRL | ALT => control(plain).map_or(HOLE, |c| META | c),
                table => value(symbol(table)),
            };
            entries.push(Entry { table, key, value });
        }
    }
    entries
}

fn character(symbol: xkb::Keysym) -> Option<char> {
    char::from_u32(xkb::keysym_to_utf32(symbol)).filter(|c| !c.is_control())
}

fn ascii(character: Option<char>) -> Option<u16> {
    character.filter(char::is_ascii).map(|c| c as u16)
}

/// What a character is with Ctrl.
fn control(character: Option<char>) -> Option<u16> {
    match character? {
        ' ' | '@' => Some(0),
        c @ ('a'..='z' | '['..='_') => Some(c as u16 & 0x1f),
        _ => None,
    }
}

fn value(symbol: xkb::Keysym) -> u16 {
    let dead = DEAD_KEYS.iter().position(|dead| *dead == symbol.raw());
    if let Some(dead) = dead.and_then(|at| u16::try_from(at).ok()) {
        return DEAD | dead;
    }
    match character(symbol) {
        Some(c) if c.is_ascii_alphabetic() => LETTER | c as u16,
        Some(c) if c.is_ascii() => LATIN | c as u16,
        // In the kernel's letters there is room for Latin-1.
        Some(c @ '\u{c0}'..='\u{ff}') if c.is_alphabetic() => LETTER | c as u16,
        Some(c) => u16::try_from(u32::from(c)).ok().filter(|c| *c < 0xe000).map_or(HOLE, |c| c ^ UNICODE),
        None => HOLE,
    }
}

fn text(entries: &[Entry]) -> String {
    entries.iter().fold(String::new(), |mut text, Entry { table, key, value }| {
        let _ = writeln!(text, "{table} {key} {value}");
        text
    })
}

/// Reads entries; `None` where one is anything but a character of a key that types one.
fn read(text: &str) -> Option<Vec<Entry>> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let entry =
            Entry { table: word()?.parse().ok()?, key: word()?.parse().ok()?, value: word()?.parse().ok()? };
        let low = entry.value & 0xff;
        let types = match entry.value & 0xff00 {
            LATIN | META | LETTER => true,
            HOLE => low == 0,
            DEAD => usize::from(low) < DEAD_KEYS.len(),
            kind if kind >> 8 < KINDS => false,
            _ => (0x20..0xe000).contains(&(entry.value ^ UNICODE)),
        };
        let fits = word().is_none()
            && types
            && TABLES.contains(&entry.table)
            && KEYS.iter().any(|keys| keys.contains(&entry.key));
        fits.then_some(entry)
    };
    text.lines().map(entry).collect()
}

/// The program of its own: sets the kernel's keys as a file says, which it takes away.
///
/// # Errors
/// The file is none of [`follow`]'s, or the kernel refuses it.
pub fn set_main(file: &str) -> io::Result<()> {
    let bad = || io::Error::other(format!("no table of keys: {file}"));
    // Out of the folder of the guest's user: whatever it is, it is asked for once, and it stays what it is.
    let (file, folder) =
        Path::new(file).parent().and_then(Path::parent).map(|up| (file, up)).ok_or_else(bad)?;
    let taken = folder.join(format!("keys-{}", std::process::id()));
    std::fs::rename(file, &taken)?;
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&taken);
    std::fs::remove_file(&taken).or_else(|_| std::fs::remove_dir_all(&taken))?;
    let opened = opened?;
    if !opened.metadata()?.is_file() {
        return Err(bad());
    }
    let mut text = String::new();
    opened.take(MOST).read_to_string(&mut text)?;
    let entries = read(&text).ok_or_else(bad)?;
    let open = |console: &&str| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(console)
    };
    let unicode = CONSOLES.iter().filter_map(|console| open(console).ok()).find(is_unicode);
    let console = unicode.map_or_else(|| open(&CONSOLES[0]), Ok)?;
    entries.iter().try_for_each(|entry| set(&console, entry))
}

/// Whether its keyboard gives characters of Unicode; that of a console with a desktop on it gives none at all.
fn is_unicode(console: &File) -> bool {
    let mut mode: libc::c_int = 0;
    // SAFETY: the kernel writes one number, which outlives the call.
    let done = unsafe { libc::ioctl(console.as_raw_fd(), KDGKBMODE, &raw mut mode) };
    done == 0 && mode == K_UNICODE
}

/// Where no console is in Unicode, such characters are not taken: what is there then stays.
fn set(console: &File, entry: &Entry) -> io::Result<()> {
    // SAFETY: the kernel reads one entry, which outlives the call.
    let done = unsafe { libc::ioctl(console.as_raw_fd(), KDSKBENT, std::ptr::from_ref(entry)) };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::EINVAL) && entry.value >> 8 >= KINDS => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: &str) -> Vec<Entry> {
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let keymap = xkb::Keymap::new_from_names(
            &context,
            "evdev",
            "pc105",
            name,
            "",
            None,
            xkb::KEYMAP_COMPILE_NO_FLAGS,
        );
        // As it comes from the host.
        let text = keymap.unwrap().get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1);
        entries(&compiled(&text).unwrap())
    }

    fn key(entries: &[Entry], table: u8, key: u8) -> u16 {
        entries.iter().find(|entry| entry.table == table && entry.key == key).unwrap().value
    }

    /// Codes of evdev: Q, Y as an American keyboard has them, and those around them.
    const Q: u8 = 16;
    const Y: u8 = 21;
    const BRACKET: u8 = 26;
    const MINUS: u8 = 12;
    const EQUAL: u8 = 13;

    #[test]
    fn keys_type_what_the_hosts_do() {
        let german = layout("de");
        assert_eq!(key(&german, 0, Y), LETTER | u16::from(b'z'));
        assert_eq!(key(&german, SHIFT, Y), LETTER | u16::from(b'Z'));
        assert_eq!(key(&german, CTRL, Y), 26);
        assert_eq!(key(&german, ALT, Y), META | u16::from(b'z'));
        assert_eq!(key(&german, CTRL | ALT, Y), META | 26);
        assert_eq!(key(&german, ALT_GR, Q), u16::from(b'@'));
        assert_eq!(key(&german, 0, BRACKET), LETTER | 0xfc);
        assert_eq!(key(&german, ALT_GR, 18), 0x20ac ^ UNICODE, "the euro");
        assert_eq!(key(&german, 0, EQUAL), DEAD | 1);
        assert_eq!(key(&german, SHIFT, MINUS), u16::from(b'?'));
        let greek = layout("gr");
        assert_eq!(key(&greek, 0, 30), 0x3b1 ^ UNICODE);
        assert_eq!(key(&greek, CTRL, 30), HOLE);
        let american = layout("us");
        assert_eq!(key(&american, 0, Y), LETTER | u16::from(b'y'));
        assert_eq!(key(&american, CTRL, MINUS), 0x1f);
        assert_eq!(key(&american, CTRL, 57), 0);
        for entries in [german, greek, american] {
            assert_eq!(read(&text(&entries)), Some(entries));
        }
    }

    #[test]
    fn what_does_more_than_type_is_refused() {
        assert_eq!(read("0 16 113\n"), Some(vec![Entry { table: 0, key: 16, value: 113 }]));
        // A function key's string, a reboot, a console, a modifier, a key that types nothing, a table that is none; and no entries.
        for bad in ["0 16 256", "0 16 524", "0 16 1280", "0 16 1793", "0 1 113", "0 29 113", "6 16 113"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for bad in ["", "0 16", "0 16 113 0", "0 16 -1", "0 16 70000", " 0 16 113", "0 16 1029\nx"] {
            assert!(read(bad).is_none_or(|entries| entries.is_empty()), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ask")).unwrap();
        let (link, target) = (dir.path().join("ask/keys"), dir.path().join("target"));
        std::fs::write(&target, "0 16 113\n").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(set_main(link.to_str().unwrap()).is_err());
        assert!(!link.is_symlink() && target.is_file());
        std::fs::write(&link, "0 16 256\n").unwrap();
        assert!(set_main(link.to_str().unwrap()).unwrap_err().to_string().contains("no table"));
        assert!(!link.exists());
        std::fs::create_dir_all(link.join("folder")).unwrap();
        assert!(set_main(link.to_str().unwrap()).is_err());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!link.exists() && left.len() == 2, "{left:?}");
    }

    #[test]
    fn only_another_keyboard_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let keymap = |name: &str| {
            let flags = xkb::KEYMAP_COMPILE_NO_FLAGS;
            let keymap = xkb::Keymap::new_from_names(&context, "evdev", "pc105", name, "", None, flags);
            keymap.unwrap().get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1)
        };
        let mut written = None;
        let mut told = |name: &str| {
            follow(Some(&file), &mut written, &keymap(name));
            let told = file.exists();
            let _ = std::fs::remove_file(&file);
            told
        };
        assert_eq!(["us", "us", "de", "de", "us"].map(&mut told), [false, false, true, false, true]);
        // The next agent does not know what the last one told.
        follow(Some(&file), &mut None, &keymap("us"));
        assert!(std::fs::remove_file(&file).is_ok());
        follow(Some(&file), &mut written, "no keymap");
        assert!(!file.exists());
    }
}
