//! Desktop files: their keys, and what an app is according to them (Desktop Entry Specification 1.5).
//!
//! Read by hand: what is needed of them is little, and the readers that are there leave out field codes inside of words, escapes and limits.

use std::collections::HashMap;

use inlay_protocol::catalogue::{self, Action, App, Text};
use inlay_protocol::limits;

use super::command;

const MAIN: &str = "Desktop Entry";

/// One desktop file.
#[derive(Debug, Default)]
pub struct Entry {
    /// Group and key (with its locale) to the value as it is written.
    keys: HashMap<(String, String), String>,
}

/// The locale of whoever reads the texts: names to look for, best first.
#[derive(Debug, Clone, Default)]
pub struct Locale(Vec<String>);

impl Locale {
    /// Of `lang_COUNTRY.ENCODING@MODIFIER`.
    pub fn new(name: &str) -> Self {
        let (rest, modifier) = name.split_once('@').unwrap_or((name, ""));
        let rest = rest.split_once('.').map_or(rest, |(rest, _)| rest);
        let (language, country) = rest.split_once('_').unwrap_or((rest, ""));
        let mut names = Vec::new();
        if !matches!(language, "" | "C" | "POSIX") {
            for (country, modifier) in [(country, modifier), (country, ""), ("", modifier), ("", "")] {
                let part = |sign: &str, text: &str| match text {
                    "" => String::new(),
                    text => format!("{sign}{text}"),
                };
                names.push(format!("{language}{}{}", part("_", country), part("@", modifier)));
            }
            names.dedup();
        }
        Self(names)
    }
}

impl Entry {
    /// Reads a desktop file; a key that comes twice counts once, lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        let mut entry = Self::default();
        let mut group: Option<String> = None;
        for line in text.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                group = Some(name.to_owned());
            } else if let Some((key, value)) = line.split_once('=')
                && !line.starts_with('#')
                && let Some(group) = &group
            {
                let place = (group.clone(), key.trim_end().to_owned());
                entry.keys.entry(place).or_insert_with(|| value.trim_start().to_owned());
            }
        }
        entry
    }

    /// A value, as it is written.
    pub fn raw(&self, group: &str, key: &str) -> Option<&str> {
        self.keys.get(&(group.to_owned(), key.to_owned())).map(String::as_str)
    }

    /// The words of a list that commas divide.
    pub fn words(&self, group: &str, key: &str) -> Vec<String> {
        let words = self.raw(group, key).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// A value of the main group, with its escapes resolved; nothing where it is empty.
    pub fn string(&self, key: &str) -> Option<String> {
        self.raw(MAIN, key).map(unescape).filter(|value| !value.is_empty())
    }

    fn is_true(&self, key: &str) -> bool {
        self.raw(MAIN, key) == Some("true")
    }

    fn text(&self, group: &str, key: &str, locale: &Locale) -> Text {
        let plain = self.raw(group, key).map(shown).unwrap_or_default();
        let local = locale.0.iter().find_map(|name| self.raw(group, &format!("{key}[{name}]")));
        let local = local.map(shown).filter(|local| !local.is_empty() && *local != plain);
        Text { plain, local }
    }

    fn list(&self, key: &str) -> Vec<String> {
        let Some(value) = self.raw(MAIN, key) else { return Vec::new() };
        let words = value.split(';').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// The command line of the app, or of one of its actions.
    pub fn exec(&self, action: Option<&str>) -> Option<String> {
        match action {
            None => self.string("Exec"),
            Some(action) => {
                let listed = self.list("Actions").iter().any(|listed| listed == action);
                let exec = self.raw(&group_of(action), "Exec").filter(|_| listed);
                exec.map(unescape).filter(|exec| !exec.is_empty())
            }
        }
    }

    /// Whether it is an app that menus show on a desktop that is none of those that it names.
    pub fn is_for_menus(&self) -> bool {
        self.raw(MAIN, "Type") == Some("Application")
            && !self.is_true("Hidden")
            && !self.is_true("NoDisplay")
            && self.list("OnlyShowIn").is_empty()
            && self.exec(None).is_some_and(|exec| command::is_valid(&exec))
    }

    /// Whether it runs in a terminal.
    pub fn needs_terminal(&self) -> bool {
        self.is_true("Terminal")
    }

    /// What the host is told of it, without its icons. Nothing where it has no name.
    pub fn describe(&self, id: &str, locale: &Locale) -> Option<App> {
        let action = |id: &String| {
            let name = self.text(&group_of(id), "Name", locale);
            let known = catalogue::is_action(id) && !name.plain.is_empty() && self.exec(Some(id)).is_some();
            known.then(|| Action { id: id.clone(), name })
        };
        let mut categories = self.list("Categories");
        categories.truncate(64);
        let mut mime_types = self.list("MimeType");
        mime_types.truncate(limits::APP_WORDS - 65);
        let app = App {
            id: id.to_owned(),
            name: self.text(MAIN, "Name", locale),
            generic_name: self.text(MAIN, "GenericName", locale),
            comment: self.text(MAIN, "Comment", locale),
            keywords: self.text(MAIN, "Keywords", locale),
            categories,
            mime_types,
            actions: self.list("Actions").iter().filter_map(action).take(limits::APP_ACTIONS).collect(),
            wm_class: self.string("StartupWMClass").map(|class| shown(&class)),
            notifies: self.is_true("StartupNotify"),
            takes: self.exec(None).map(|exec| command::takes(&exec)).unwrap_or_default(),
            icons: Vec::new(),
        };
        app.check().is_ok().then_some(app)
    }
}

fn group_of(action: &str) -> String {
    format!("Desktop Action {action}")
}

/// Resolves `\s`, `\n`, `\t`, `\r` and `\\`; what else follows a backslash stays with it, for `Exec`.
fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('s') => out.push(' '),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') | None => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
        }
    }
    out
}

/// A text as it is shown: one line, of bounded length.
fn shown(value: &str) -> String {
    let text = unescape(value);
    let mut text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let end = (0..=text.len().min(limits::TITLE)).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::catalogue::Takes;

    const FILE: &str = "# a comment\n[Desktop Entry]\nType=Application\nName=Files\nName[de]=Dateien\nName[de_AT]=Ordner\n\
        Comment=a\\nb\\\\c\nExec=files %U\nKeywords=folder;disk;\nMimeType=inode/directory;a/b\nActions=new;gone;\n\
        StartupNotify=true\nStartupWMClass=Files\nName=twice\n\n[Desktop Action new]\nName=New\nName[de]=Neu\nExec=files --new\n";

    #[test]
    fn an_app_is_what_its_desktop_file_says() {
        let entry = Entry::parse(FILE);
        assert!(entry.is_for_menus());
        let app = entry.describe("files", &Locale::new("de_DE.UTF-8")).unwrap();
        assert_eq!((app.name.plain.as_str(), app.name.shown()), ("Files", "Dateien"));
        assert_eq!(app.comment.plain, "a b\\c", "one line");
        assert_eq!(app.mime_types, ["inode/directory", "a/b"]);
        assert_eq!((app.takes, app.notifies), (Takes::Uris, true));
        assert_eq!(app.actions.len(), 1, "an action without a group is none");
        assert_eq!((app.actions[0].id.as_str(), app.actions[0].name.shown()), ("new", "Neu"));
        assert_eq!(entry.exec(Some("new")).as_deref(), Some("files --new"));
        assert_eq!(entry.exec(Some("other")), None);
    }

    #[test]
    fn the_nearest_translation_is_taken() {
        let name = |locale: &str| {
            let text = Entry::parse(FILE).text(MAIN, "Name", &Locale::new(locale));
            text.shown().to_owned()
        };
        assert_eq!(name("de_AT.UTF-8@euro"), "Ordner");
        assert_eq!(name("de"), "Dateien");
        assert_eq!(name("fr_FR"), "Files");
        assert_eq!([name("C.UTF-8"), name("")], ["Files", "Files"]);
        assert_eq!(Locale::new("sr_RS.UTF-8@latin").0, ["sr_RS@latin", "sr_RS", "sr@latin", "sr"]);
    }

    #[test]
    fn what_is_not_for_menus_is_not_shown() {
        let hidden = |line: &str| !Entry::parse(&format!("{FILE}\n[Desktop Entry]\n{line}\n")).is_for_menus();
        assert!(hidden("NoDisplay=true") && hidden("Hidden=true") && hidden("OnlyShowIn=GNOME;"));
        assert!(!hidden("NotShowIn=KDE;"));
        assert!(!Entry::parse("[Desktop Entry]\nType=Link\nName=x\nExec=x").is_for_menus());
        assert!(!Entry::parse("[Desktop Entry]\nType=Application\nName=x\n").is_for_menus());
        assert!(!Entry::parse("Type=Application\nName=x\nExec=x").is_for_menus());
        let nameless = Entry::parse("[Desktop Entry]\nType=Application\nExec=x");
        assert_eq!(nameless.describe("x", &Locale::default()), None);
    }

    #[test]
    fn long_and_wild_texts_are_cut_and_cleaned() {
        let text = format!("[Desktop Entry]\nType=Application\nName={}\u{1b}[0m\nExec=x\n", "ä".repeat(4000));
        let app = Entry::parse(&text).describe("x", &Locale::default()).unwrap();
        assert!(app.name.plain.len() <= limits::TITLE && app.name.plain.ends_with('ä'));
        for junk in ["", "[", "=\n[]\n=", "[a]\n==", "\u{feff}", "[Desktop Entry]\n\\=\\"] {
            assert!(!Entry::parse(junk).is_for_menus(), "{junk:?}");
        }
    }
}
