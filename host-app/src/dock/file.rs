//! The desktop file of a guest app on this host (Desktop Entry Specification 1.5).

use std::fmt::Write as _;

use inlay_protocol::catalogue::{App, Takes};

use crate::apps::{Stored, picture};
use crate::paths::MachineName;

/// The category, as menus of desktops merge it (Desktop Menu Specification 1.1).
pub(super) const MENU: &str = r#"<!DOCTYPE Menu PUBLIC "-//freedesktop//DTD Menu 1.0//EN" "http://www.freedesktop.org/standards/menu-spec/menu-1.0.dtd">
<Menu>
  <Name>Applications</Name>
  <Menu>
    <Name>Inlay</Name>
    <Directory>inlay.directory</Directory>
    <Include><Category>X-Inlay</Category></Include>
  </Menu>
</Menu>
"#;

/// What themes have for any program.
const NO_ICON: &str = "application-x-executable";

/// The desktop file. `command` starts Inlay.
pub(super) fn text(machine: &MachineName, stored: &Stored, command: &str) -> String {
    let app = &stored.app;
    let has_icon = app.icons.iter().any(|png| picture(png).is_some());
    let icon = if has_icon { format!("inlay.{machine}.{}", app.id) } else { NO_ICON.to_owned() };
    let class = format!("inlay.{machine}.");
    let mut out = String::from("[Desktop Entry]\nType=Application\nVersion=1.4\n");
    let mut line = |key: &str, value: &str| {
        if !value.is_empty() {
            // A `String` takes all that is written.
            let _ = writeln!(out, "{key}={value}");
        }
    };
    // In the language of this host's user, for which the texts were asked for.
    line("Name", &format!("{} ({machine})", escape(app.name.shown())));
    line("GenericName", &escape(app.generic_name.shown()));
    line("Comment", &escape(app.comment.shown()));
    line("Keywords", &keywords(machine, app));
    line("Exec", &exec(command, machine, app, None));
    line("Icon", &icon);
    line("Terminal", "false");
    line("Categories", "X-Inlay;");
    line("StartupNotify", "true");
    line("StartupWMClass", &format!("{class}{}", escape(app.wm_class.as_deref().unwrap_or(&app.id))));
    line("MimeType", &mime_types(app));
    line("Actions", &app.actions.iter().map(|action| format!("{};", action.id)).collect::<String>());
    line("X-Inlay-Machine", machine.as_str());
    // Another icon is another file.
    line("X-Inlay-Digest", &format!("{:016x}", stored.digest));
    for action in &app.actions {
        let exec = exec(command, machine, app, Some(&action.id));
        let _ = write!(
            out,
            "\n[Desktop Action {}]\nName={}\nExec={exec}\n",
            action.id,
            escape(action.name.shown())
        );
    }
    out
}

/// What finds it beside its name: its own words, its name in no language, and the machine.
fn keywords(machine: &MachineName, app: &App) -> String {
    let plain = app.name.local.as_ref().map(|_| app.name.plain.replace(';', " "));
    let own = app.keywords.shown().split(';').map(str::to_owned);
    let words = own.chain(plain).filter(|word| !word.trim().is_empty());
    let words: String = words.map(|word| format!("{};", escape(word.trim()))).collect();
    format!("{words}{machine};inlay;")
}

fn exec(command: &str, machine: &MachineName, app: &App, action: Option<&str>) -> String {
    let files = match app.takes {
        _ if action.is_some() => "",
        Takes::Nothing => "",
        Takes::File | Takes::Files => " %F",
        Takes::Uri | Takes::Uris => " %U",
    };
    let action = action.map(|action| format!(" --action {action}")).unwrap_or_default();
    // Machines, ids and actions have no sign that would need quotes.
    escape(&format!("{} run --notify{action} {machine} {}.desktop{files}", quote(command), app.id))
}

/// An argument of `Exec`.
fn quote(argument: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._+@-".contains(char);
    if argument.chars().all(plain) {
        return argument.to_owned();
    }
    let mut out = String::from('"');
    for char in argument.chars() {
        match char {
            '"' | '`' | '$' | '\\' => out.extend(['\\', char]),
            '%' => out.push_str("%%"),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// A value: no line of its own, and no space that would be lost.
fn escape(value: &str) -> String {
    let text: String = value.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let text = text.replace('\\', "\\\\");
    match text.strip_prefix(' ') {
        Some(rest) => format!("\\s{rest}"),
        None => text,
    }
}

/// Links that an app of the guest can be chosen for; never by itself (types.rs).
const LINKS: [&str; 3] = ["http", "https", "mailto"];

/// What it can open: types of files, and links.
fn mime_types(app: &App) -> String {
    let good = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let is_type = |name: &&String| {
        name.split_once('/').is_some_and(|(kind, rest)| {
            good(kind) && good(rest) && (kind != "x-scheme-handler" || LINKS.contains(&rest))
        })
    };
    if app.takes == Takes::Nothing {
        return String::new();
    }
    app.mime_types.iter().filter(is_type).map(|name| format!("{name};")).collect()
}
