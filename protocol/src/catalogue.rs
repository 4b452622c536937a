//! The apps of the guest, as its desktop files tell of them: for the host's menus. Part of the control session.
//!
//! ```text
//!   host                              agent
//!   Command::ListApps ------------->  reads the desktop files, and watches them from now on
//!                     <-------------  Report::Apps: id and digest of each, now and after each change
//!   Command::DescribeApp (one) ---->
//!                     <-------------  Report::App: all of it, or that it is gone
//!   Command::Open (id, files) ----->  expands the app's own command line; it never leaves the guest
//! ```
//!
//! The host asks for one app at a time, and only for those whose digest it does not know: so it decides how much comes.
//! Keys and their meaning are those of the Desktop Entry Specification 1.5.

use serde::{Deserialize, Serialize};

use crate::framing::Invalid;
use crate::limits;

/// A text with its translation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Text {
    /// Without a locale.
    pub plain: String,
    /// In the locale that was asked for, where it differs.
    pub local: Option<String>,
}

impl Text {
    /// The text for the user.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.local.as_deref().unwrap_or(&self.plain)
    }

    fn parts(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.plain).chain(&self.local)
    }
}

/// How many files or links an app takes at once (the field codes of `Exec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Takes {
    /// None.
    #[default]
    Nothing,
    /// One file.
    File,
    /// One file or link.
    Uri,
    /// Several files.
    Files,
    /// Several files or links.
    Uris,
}

/// One of the further things that an app does (`Actions`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its key: `A-Z`, `a-z`, `0-9` and `-`.
    pub id: String,
    /// What it does.
    pub name: Text,
}

/// An app, without the command that starts it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct App {
    /// Its desktop file id, without `.desktop`; see [`is_id`].
    pub id: String,
    /// `Name`.
    pub name: Text,
    /// `GenericName`.
    pub generic_name: Text,
    /// `Comment`.
    pub comment: Text,
    /// `Keywords`: lists divided by `;`.
    pub keywords: Text,
    /// `Categories`.
    pub categories: Vec<String>,
    /// `MimeType`.
    pub mime_types: Vec<String>,
    /// `Actions`.
    pub actions: Vec<Action>,
    /// `StartupWMClass`: what its windows say that they are, where it is not the id.
    pub wm_class: Option<String>,
    /// `StartupNotify`.
    pub notifies: bool,
    /// What can be opened with it.
    pub takes: Takes,
    /// PNG files, smallest first.
    pub icons: Vec<Vec<u8>>,
}

/// An app's id, with a number that is another one when something of it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// See [`App::id`].
    pub id: String,
    /// Compared, nothing else.
    pub digest: u64,
}

/// Whether this can be an app's id here: `A-Z`, `a-z`, `0-9`, `-`, `_`, `.`, `+` and `@`, beginning with none of the signs, 200 at most. What
/// else there is in the guest has no place in a menu of the host, where ids become names of files and parts of command lines.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let sign = |byte: u8| b"-_.+@".contains(&byte);
    first && id.len() <= 200 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || sign(byte))
}

/// Whether this can be the key of an action.
#[must_use]
pub fn is_action(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Checks a list of apps.
///
/// # Errors
/// Too many, or an id that is none.
pub fn check_list(apps: &[Listed]) -> Result<(), Invalid> {
    Invalid::unless(apps.len() <= limits::APPS, "apps")?;
    Invalid::unless(apps.iter().all(|app| is_id(&app.id)), "id of an app")
}

impl App {
    /// Checks lengths, counts, ids, and that no text holds a control character.
    ///
    /// # Errors
    /// The field out of its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        let clean = |text: &String| text.len() <= limits::TITLE && !text.contains(char::is_control);
        let texts = [&self.name, &self.generic_name, &self.comment, &self.keywords];
        let texts = texts.into_iter().chain(self.actions.iter().map(|action| &action.name));
        Invalid::unless(is_id(&self.id), "id of an app")?;
        Invalid::unless(texts.flat_map(Text::parts).all(clean), "text of an app")?;
        Invalid::unless(!self.name.plain.is_empty(), "name of an app")?;
        let words = || self.categories.iter().chain(&self.mime_types).chain(&self.wm_class);
        Invalid::unless(words().count() <= limits::APP_WORDS, "categories and types of an app")?;
        Invalid::unless(words().all(|word| clean(word) && word.len() <= limits::TYPE), "word of an app")?;
        Invalid::unless(self.actions.len() <= limits::APP_ACTIONS, "actions of an app")?;
        Invalid::unless(self.actions.iter().all(|action| is_action(&action.id)), "id of an action")?;
        Invalid::unless(self.icons.len() <= limits::ICONS, "icons of an app")?;
        Invalid::unless(self.icons.iter().all(|icon| icon.len() <= limits::APP_ICON), "icon of an app")
    }
}

/// Checks what is to be opened.
///
/// # Errors
/// An id that is none, too many addresses, or one with a control character.
pub fn check_open(app: &str, action: Option<&String>, uris: &[String]) -> Result<(), Invalid> {
    Invalid::unless(is_id(app), "id of an app")?;
    Invalid::unless(action.is_none_or(|action| is_action(action)), "id of an action")?;
    Invalid::unless(uris.len() <= limits::ARGUMENTS, "files to open")?;
    let bytes: usize = uris.iter().map(String::len).sum();
    Invalid::unless(bytes <= limits::ARGUMENT_BYTES, "files to open")?;
    Invalid::unless(!uris.iter().any(|uri| uri.contains(char::is_control)), "file to open")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        let name = Text { plain: "Files".into(), local: Some("Dateien".into()) };
        App { id: "org.example.Files".into(), name, ..App::default() }
    }

    #[test]
    fn ids_are_names_of_files_and_nothing_more() {
        for good in ["foot", "org.gnome.TextEditor", "a", "libreoffice-writer", "x_1+2@3"] {
            assert!(is_id(good), "{good}");
        }
        let long = "a".repeat(201);
        for bad in ["", ".", "..", "../x", "a/b", "a b", "-x", "a\nb", "a\"b", "a%f", "ä", "a;b", &long] {
            assert!(!is_id(bad), "{bad:?}");
        }
        assert!(is_action("new-window") && !is_action("") && !is_action("a b") && !is_action("a]\n[b"));
    }

    #[test]
    fn what_would_break_a_desktop_file_is_refused() {
        assert_eq!(app().check(), Ok(()));
        assert_eq!(app().name.shown(), "Dateien");
        let with = |change: fn(&mut App)| {
            let mut app = app();
            change(&mut app);
            app.check().map_err(|invalid| invalid.0)
        };
        assert_eq!(with(|a| a.name.plain = "x\nExec=evil".into()), Err("text of an app"));
        assert_eq!(with(|a| a.comment.local = Some("\0".into())), Err("text of an app"));
        assert_eq!(with(|a| a.name.plain.clear()), Err("name of an app"));
        assert_eq!(with(|a| a.keywords.plain = "x".repeat(4097)), Err("text of an app"));
        assert_eq!(with(|a| a.categories = vec!["A\n".into()]), Err("word of an app"));
        assert_eq!(with(|a| a.mime_types = vec!["a/b".into(); 1025]), Err("categories and types of an app"));
        assert_eq!(with(|a| a.icons = vec![Vec::new(); 5]), Err("icons of an app"));
        assert_eq!(with(|a| a.icons = vec![vec![0; limits::APP_ICON + 1]]), Err("icon of an app"));
        let action = |id: &str| Action { id: id.into(), name: Text::default() };
        let mut bad = app();
        bad.actions = vec![action("a]")];
        assert_eq!(bad.check(), Err(Invalid("id of an action")));
        bad.actions = vec![action("a"); limits::APP_ACTIONS + 1];
        assert_eq!(bad.check(), Err(Invalid("actions of an app")));
    }

    #[test]
    fn the_largest_app_fits_into_a_message() {
        let text = || Text { plain: "x".repeat(limits::TITLE), local: Some("x".repeat(limits::TITLE)) };
        let icons = limits::ICONS * limits::APP_ICON;
        assert!(icons + 10 * text().parts().map(String::len).sum::<usize>() < limits::MESSAGE);
        let ids = limits::APPS * (200 + 2 + 10);
        assert!(ids < limits::MESSAGE);
    }
}
