//! Names of types. One list of names travels between host and guest; apps know the same thing by several, above all text.
//!
//! Text is [`TEXT`] on the way, whatever the app called it; everything else keeps its name. Towards apps, text has all the names that
//! Wayland's and X11's toolkits look for.

use inlay_protocol::limits;

/// What text is called on the way.
pub const TEXT: &str = "text/plain;charset=utf-8";
/// Names for UTF-8 text, the surest first. `STRING` is Latin-1 and `COMPOUND_TEXT` ISO 2022 on X11 (ICCCM section 2.6.2).
pub const TEXT_NAMES: [&str; 6] = [TEXT, "UTF8_STRING", "text/plain", "STRING", "TEXT", "COMPOUND_TEXT"];
/// Names that a source of text shows to Wayland apps.
const WAYLAND_TEXT: [&str; 5] = [TEXT, "text/plain", "UTF8_STRING", "TEXT", "STRING"];
/// Targets of X11 that are no types: they ask about the selection, or do something (ICCCM section 2.6.2, 2.6.3).
const NO_TYPES: [&str; 17] = [
    "TARGETS",
    "MULTIPLE",
    "TIMESTAMP",
    "DELETE",
    "INSERT_PROPERTY",
    "INSERT_SELECTION",
    "SAVE_TARGETS",
    "CLIENT_WINDOW",
    "HOST_NAME",
    "HOSTNAME",
    "USER",
    "CLASS",
    "NAME",
    "PROCESS",
    "TASK",
    "LENGTH",
    "OWNER_OS",
];
/// Lists of files: the common one, and those that say whether they were cut or copied.
const FILES: [&str; 6] = [
    "text/uri-list",
    "x-special/gnome-copied-files",
    "x-special/mate-copied-files",
    "application/x-kde4-urilist",
    "application/x-kde-cutselection",
    "application/vnd.portal.filetransfer",
];
/// How our own sources are known to us: one of their types begins so. Never told to anybody.
pub const MARK: &str = "application/x-inlay-source-";

fn is_text(name: &str) -> bool {
    TEXT_NAMES.iter().any(|text| name.eq_ignore_ascii_case(text))
        || name.eq_ignore_ascii_case("text/plain; charset=utf-8")
}

fn is_sane(name: &str) -> bool {
    (1..=limits::TYPE).contains(&name.len())
        && !name.chars().any(char::is_control)
        && !name.starts_with(MARK)
        && !NO_TYPES.contains(&name)
}

/// The list that travels, from the names that an app gave: without doubles, without what is no type, bounded.
pub fn travelling(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names {
        let name = name.as_ref();
        let name = if is_text(name) { TEXT } else { name };
        if is_sane(name) && list.len() < limits::TYPES && !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
    list
}

/// Whether a type is a list of files, which mean nothing on another kernel.
#[must_use]
pub fn is_files(kind: &str) -> bool {
    FILES.contains(&kind)
}

/// The name by which to ask an app that gave these names.
#[must_use]
pub fn to_ask<'a>(given: &'a [String], kind: &str) -> Option<&'a str> {
    let find = |name: &str| given.iter().find(|g| g.eq_ignore_ascii_case(name)).map(String::as_str);
    if kind == TEXT {
        let spaced = || given.iter().find(|name| is_text(name)).map(String::as_str);
        return TEXT_NAMES.iter().find_map(|name| find(name)).or_else(spaced);
    }
    given.iter().find(|name| *name == kind).map(String::as_str)
}

/// The names that Wayland apps are shown for a list that travelled.
#[must_use]
pub fn for_wayland(list: &[String]) -> Vec<String> {
    shown(list, &WAYLAND_TEXT)
}

/// The names that X11 apps are shown.
#[must_use]
pub fn for_x11(list: &[String]) -> Vec<String> {
    shown(list, &TEXT_NAMES)
}

fn shown(list: &[String], text: &[&str]) -> Vec<String> {
    let names = list.iter().flat_map(|kind| if kind == TEXT { text.to_vec() } else { vec![kind.as_str()] });
    names.map(str::to_owned).collect()
}

/// What an app means that asks by this name.
#[must_use]
pub fn meant(name: &str) -> &str {
    if is_text(name) { TEXT } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn text_is_one_type_on_the_way() {
        let given =
            strings(&["TARGETS", "TIMESTAMP", "UTF8_STRING", "STRING", "text/html", "TEXT", "text/html"]);
        assert_eq!(travelling(&given), [TEXT, "text/html"]);
        assert_eq!(to_ask(&given, TEXT), Some("UTF8_STRING"));
        assert_eq!(to_ask(&given, "text/html"), Some("text/html"));
        assert_eq!(to_ask(&given, "image/png"), None);
        assert_eq!(to_ask(&strings(&["text/plain; charset=UTF-8"]), TEXT), Some("text/plain; charset=UTF-8"));
        assert_eq!(
            to_ask(&strings(&["STRING", "text/plain;charset=UTF-8"]), TEXT),
            Some("text/plain;charset=UTF-8")
        );
        assert_eq!(for_wayland(&strings(&["image/png", TEXT])).len(), 6);
        assert_eq!(meant("STRING"), TEXT);
        assert_eq!(meant("image/png"), "image/png");
    }

    #[test]
    fn a_list_is_bounded_and_clean() {
        let many: Vec<String> = (0..1000).map(|n| format!("application/x-{n}")).collect();
        assert_eq!(travelling(&many).len(), limits::TYPES);
        let odd =
            strings(&["", &"x".repeat(limits::TYPE + 1), "a\nb", &format!("{MARK}1"), "chromium/x-web"]);
        assert_eq!(travelling(&odd), ["chromium/x-web"]);
    }
}
