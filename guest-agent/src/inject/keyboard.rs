//! Keys. Input path, hop 3 of 4: from the host's messages into the seat.

use std::collections::BTreeSet;
use std::path::PathBuf;

use inlay_protocol::display::SurfaceId;
use inlay_protocol::input::Modifiers;
use smithay::backend::input::KeyState;
use smithay::input::keyboard::{
    FilterResult, KeyboardHandle, KeyboardTarget, Keycode, ModifiersState, XkbConfig,
};
use smithay::utils::SERIAL_COUNTER;

use super::focus::{KeyboardFocus, serialized};
use crate::agent::Agent;
use crate::{console, x11};

/// XKB's codes are evdev's plus this.
const XKB_OFFSET: u32 = 8;
/// How keys repeat until the host says otherwise: milliseconds before, keys a second.
const REPEAT: (i32, i32) = (600, 25);

/// Where libxkbcommon finds its data.
const XKB_ROOTS: [&str; 2] = ["/usr/share/X11/xkb", "/usr/share/xkeyboard-config-2"];

/// XKB data with one key: folder, file, text.
const SMALLEST_DATA: [(&str, &str, &str); 5] = [
    (
        "rules",
        "evdev",
        "! model = keycodes\n * = inlay\n! model = types\n * = inlay\n! model = compat\n * = inlay\n\
         ! model layout = symbols\n * * = inlay\n",
    ),
    ("keycodes", "inlay", "default xkb_keycodes \"inlay\" { minimum = 8; maximum = 255; <ESC> = 9; };\n"),
    (
        "types",
        "inlay",
        "default xkb_types \"inlay\" { type \"ONE_LEVEL\" { modifiers = none; level_name[Level1] = \"Any\"; }; };\n",
    ),
    ("compat", "inlay", "default xkb_compatibility \"inlay\" { };\n"),
    ("symbols", "inlay", "default xkb_symbols \"inlay\" { key <ESC> { [ Escape ] }; };\n"),
];

/// Adds the keyboard to the seat, with the layout `us` until the host sends its keymap. Without XKB data in the guest its keys
/// mean nothing until then.
pub fn add(agent: &mut Agent) {
    let added = if xkb_data_is_there() {
        agent.seat.add_keyboard(XkbConfig::default(), REPEAT.0, REPEAT.1).map_err(anyhow::Error::from)
    } else {
        tracing::warn!(
            "no XKB data (xkb-data) in this system: keys mean nothing until the host's keymap comes"
        );
        add_without_data(agent)
    };
    match added {
        Ok(keyboard) => {
            agent.input.keyboard = Some(keyboard);
            refresh_state(agent);
        }
        Err(error) => tracing::error!(%error, "there is no keyboard"),
    }
}

/// Whether libxkbcommon finds its data. It must not be asked without: then it has no context, and no error either.
pub fn xkb_data_is_there() -> bool {
    let root = std::env::var_os("XKB_CONFIG_ROOT").map(PathBuf::from);
    let roots = root.map_or_else(|| XKB_ROOTS.map(PathBuf::from).to_vec(), |root| vec![root]);
    roots.iter().any(|root| root.join("rules/evdev").is_file())
}

/// Adds a keyboard with the smallest XKB data there can be: one key. The host's keymap holds all it needs in itself.
fn add_without_data(agent: &mut Agent) -> anyhow::Result<KeyboardHandle<Agent>> {
    let dir = agent.settings.runtime_dir.join(format!("inlay-xkb-{}", std::process::id()));
    for (folder, file, text) in SMALLEST_DATA {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(file), text)?;
    }
    let before = std::env::var_os("XKB_CONFIG_ROOT");
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("XKB_CONFIG_ROOT", &dir) };
    let added = agent.seat.add_keyboard(XkbConfig::default(), REPEAT.0, REPEAT.1);
    match before {
        // SAFETY: as above.
        Some(before) => unsafe { std::env::set_var("XKB_CONFIG_ROOT", before) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var("XKB_CONFIG_ROOT") },
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(added?)
}

/// Remembers smithay's XKB state, which is another one after each keymap.
fn refresh_state(agent: &mut Agent) {
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    agent.input.xkb = keyboard.with_xkb_state(agent, |context| {
        let xkb = context.xkb().lock().ok()?;
        // SAFETY: the state is counted by reference in libxkbcommon and used on this thread only, as is the keyboard.
        Some(unsafe { xkb.state() }.clone())
    });
}

/// The host's keymap.
pub fn keymap(agent: &mut Agent, text: String) {
    console::follow(agent.settings.console_keys.as_deref(), &mut agent.input.console_keys, &text);
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    match keyboard.set_keymap_from_string(agent, text) {
        Ok(()) => {
            refresh_state(agent);
            send_modifiers(agent, &keyboard);
        }
        Err(error) => tracing::warn!(%error, "the host's keymap is refused"),
    }
}

/// How keys repeat.
pub fn repeat(agent: &mut Agent, rate: u32, delay: u32) {
    if let Some(keyboard) = &agent.input.keyboard {
        let number = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
        keyboard.change_repeat_info(number(rate), number(delay));
    }
}

/// A window has the focus, with these keys held and these modifiers.
pub fn enter(agent: &mut Agent, surface: SurfaceId, keys: &[u32], modifiers: Modifiers) {
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    let surface = x11::focus(agent, Some(surface)).unwrap_or(surface);
    let Some(surface) = agent.surfaces.get(surface).map(|s| KeyboardFocus(s.wl.clone())) else {
        tracing::debug!(surface = surface.0, "focus on a surface that is gone");
        return leave(agent);
    };
    let wanted: BTreeSet<u32> = keys.iter().copied().collect();
    if keyboard.current_focus().as_ref() == Some(&surface) && wanted == agent.input.keys {
        return set_modifiers(agent, modifiers);
    }
    // Without a focus, keys change the state and reach no app; `enter` then names those that are held.
    let serial = SERIAL_COUNTER.next_serial();
    keyboard.set_focus(agent, None, serial);
    let held = agent.input.keys.clone();
    held.difference(&wanted).for_each(|k| feed(agent, &keyboard, *k, false, 0));
    wanted.difference(&held).for_each(|k| feed(agent, &keyboard, *k, true, 0));
    write_modifiers(agent, modifiers);
    keyboard.set_focus(agent, Some(surface), serial);
}

/// No window has the focus: all keys are up.
pub fn leave(agent: &mut Agent) {
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    x11::focus(agent, None);
    keyboard.set_focus(agent, None, SERIAL_COUNTER.next_serial());
    for key in agent.input.keys.clone() {
        feed(agent, &keyboard, key, false, 0);
    }
}

/// A key goes down or up; what it does already is ignored.
pub fn key(agent: &mut Agent, time_ms: u32, key: u32, pressed: bool) {
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    if agent.input.keys.contains(&key) != pressed {
        feed(agent, &keyboard, key, pressed, time_ms);
    }
}

fn feed(agent: &mut Agent, keyboard: &KeyboardHandle<Agent>, key: u32, pressed: bool, time_ms: u32) {
    let state = if pressed { KeyState::Pressed } else { KeyState::Released };
    if pressed {
        agent.input.keys.insert(key);
    } else {
        agent.input.keys.remove(&key);
    }
    let code = Keycode::from(key.saturating_add(XKB_OFFSET));
    let serial = SERIAL_COUNTER.next_serial();
    keyboard.input::<(), _>(agent, code, state, serial, time_ms, |_, _, _| FilterResult::Forward);
}

/// The host's modifiers, when they are not what the keys already made them.
pub fn set_modifiers(agent: &mut Agent, modifiers: Modifiers) {
    let Some(keyboard) = agent.input.keyboard.clone() else { return };
    if write_modifiers(agent, modifiers) {
        send_modifiers(agent, &keyboard);
    }
}

/// Writes the host's numbers into the XKB state; whether they are others than before.
fn write_modifiers(agent: &mut Agent, modifiers: Modifiers) -> bool {
    let Some(state) = &mut agent.input.xkb else { return false };
    let before = serialized(state);
    let Modifiers { depressed, latched, locked, group } = modifiers;
    state.update_mask(depressed, latched, locked, 0, 0, group);
    serialized(state) != before
}

fn send_modifiers(agent: &mut Agent, keyboard: &KeyboardHandle<Agent>) {
    if let Some(focus) = keyboard.current_focus() {
        let seat = agent.seat.clone();
        let serial = SERIAL_COUNTER.next_serial();
        KeyboardTarget::modifiers(&focus, &seat, agent, ModifiersState::default(), serial);
    }
}
