//! `Exec`: from a desktop file's command line to the arguments of a program (Desktop Entry Specification 1.5, "The Exec key").
//!
//! No shell ever sees any of it.

use inlay_exchange::files::Entry;
use inlay_protocol::catalogue::Takes;

/// What stands for something in a command line.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Files and links to open.
    pub uris: &'a [String],
    /// The app's name, for `%c`.
    pub name: &'a str,
    /// The app's icon, for `%i`.
    pub icon: Option<&'a str>,
    /// The desktop file, for `%k`.
    pub file: &'a str,
}

/// Why there are no arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A quote that does not end, or nothing at all.
    #[error("its desktop file has no proper command line")]
    Malformed,
    /// The app takes none, or one only.
    #[error("it does not open {0}")]
    Takes(&'static str),
    /// A link, for an app that opens files only; or a file whose name is no text.
    #[error("it cannot open {0}")]
    Uri(String),
}

/// The words of a command line: quotes and their escapes resolved.
fn words(exec: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = exec.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        char => word.push(char),
                    }
                }
            }
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next()?),
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(words)
}

/// Whether it is a command line.
pub fn is_valid(exec: &str) -> bool {
    words(exec).is_some()
}

/// The program, as it is written.
pub fn program(exec: &str) -> Option<String> {
    words(exec)?.into_iter().next()
}

/// What can be opened with it.
pub fn takes(exec: &str) -> Takes {
    let words = words(exec).unwrap_or_default();
    let code = |word: &str, code: char| {
        let mut chars = word.chars();
        std::iter::from_fn(|| chars.find(|c| *c == '%').and_then(|_| chars.next())).any(|c| c == code)
    };
    let has = |wanted: char| words.iter().any(|word| code(word, wanted));
    [(Takes::Uris, 'U'), (Takes::Files, 'F'), (Takes::Uri, 'u'), (Takes::File, 'f')]
        .into_iter()
        .find_map(|(takes, code)| has(code).then_some(takes))
        .unwrap_or_default()
}

/// The arguments: program first.
///
/// # Errors
/// See [`CommandError`].
pub fn expand(exec: &str, field: &Field<'_>) -> Result<Vec<String>, CommandError> {
    let takes = takes(exec);
    match takes {
        Takes::Nothing if !field.uris.is_empty() => return Err(CommandError::Takes("files or links")),
        Takes::File | Takes::Uri if field.uris.len() > 1 => {
            return Err(CommandError::Takes("more than one at a time"));
        }
        _ => {}
    }
    let mut out = Vec::new();
    for word in words(exec).ok_or(CommandError::Malformed)? {
        match word.as_str() {
            "%F" => out.extend(field.uris.iter().map(|uri| path(uri)).collect::<Result<Vec<_>, _>>()?),
            "%U" => out.extend(field.uris.iter().cloned()),
            // No argument at all where there is nothing.
            "%f" | "%u" if field.uris.is_empty() => {}
            // Deprecated.
            "%d" | "%D" | "%n" | "%N" | "%v" | "%m" => {}
            "%i" => {
                if let Some(icon) = field.icon {
                    out.extend(["--icon".to_owned(), icon.to_owned()]);
                }
            }
            word => out.push(inside(word, field)?),
        }
    }
    match out.first() {
        Some(program) if !program.is_empty() => Ok(out),
        _ => Err(CommandError::Malformed),
    }
}

/// Field codes inside of a word.
fn inside(word: &str, field: &Field<'_>) -> Result<String, CommandError> {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('f') => {
                out.push_str(&field.uris.first().map(|uri| path(uri)).transpose()?.unwrap_or_default())
            }
            Some('u') => out.push_str(field.uris.first().map(String::as_str).unwrap_or_default()),
            Some('c') => out.push_str(field.name),
            Some('k') => out.push_str(field.file),
            // Deprecated, or only for a word of its own.
            _ => {}
        }
    }
    Ok(out)
}

/// The path of a file, from its address.
fn path(uri: &str) -> Result<String, CommandError> {
    let bad = || CommandError::Uri(uri.chars().take(200).collect());
    let Entry::File(path) = Entry::of_uri(uri.as_bytes()) else { return Err(bad()) };
    path.into_os_string().into_string().map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(exec: &str, uris: &[&str]) -> Result<Vec<String>, CommandError> {
        let uris: Vec<String> = uris.iter().map(ToString::to_string).collect();
        let field = Field { uris: &uris, name: "My App", icon: Some("app"), file: "/a/app.desktop" };
        expand(exec, &field)
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(with("a b  c", &[]).unwrap(), ["a", "b", "c"]);
        assert_eq!(with(r#""/a b/c" "x\"y" "\$z" "#, &[]).unwrap(), ["/a b/c", "x\"y", "$z"]);
        assert_eq!(with(r#"sh -c "echo; \`true\`""#, &[]).unwrap(), ["sh", "-c", "echo; `true`"]);
        assert_eq!(with(r#"a"b c"d"#, &[]).unwrap(), ["ab cd"]);
        assert_eq!(with(r#"a "" b"#, &[]).unwrap(), ["a", "", "b"]);
        for bad in ["", "  ", "\"a", "a \\", "\"\\", "\"\"", "%F"] {
            assert_eq!(with(bad, &[]), Err(CommandError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn field_codes() {
        let files = ["file:///a/x%20y", "file:///b"];
        assert_eq!(with("e %F -z", &files).unwrap(), ["e", "/a/x y", "/b", "-z"]);
        assert_eq!(with("e %U", &files).unwrap(), ["e", "file:///a/x%20y", "file:///b"]);
        assert_eq!(with("e --file=%f", &files[..1]).unwrap(), ["e", "--file=/a/x y"]);
        assert_eq!(with("e %f", &[]).unwrap(), ["e"]);
        assert_eq!(with("e %u", &["https://a/%20"]).unwrap(), ["e", "https://a/%20"]);
        assert_eq!(
            with("e %i %c %k 100%%", &[]).unwrap(),
            ["e", "--icon", "app", "My App", "/a/app.desktop", "100%"]
        );
        assert_eq!(with("e %d %m x%", &[]).unwrap(), ["e", "x"], "deprecated ones stand for nothing");
    }

    #[test]
    fn what_an_app_does_not_take_is_an_error() {
        let files = ["file:///a", "file:///b"];
        assert!(matches!(with("e", &files[..1]), Err(CommandError::Takes(_))));
        assert!(matches!(with("e %f", &files), Err(CommandError::Takes(_))));
        assert!(matches!(with("e %F", &["https://a/"]), Err(CommandError::Uri(_))));
        assert!(matches!(with("e %f", &["file:///%ff"]), Err(CommandError::Uri(_))));
        assert_eq!(takes("e %F %u"), Takes::Files);
        assert_eq!(takes("e 100%%f"), Takes::Nothing);
    }

    #[test]
    fn a_file_cannot_become_an_option_or_another_word() {
        assert_eq!(with("e %f", &["file:///a\"b%20-c;d%25f"]).unwrap(), ["e", "/a\"b -c;d%f"]);
    }
}
