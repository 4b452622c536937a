//! Which Debian mirror the host's own apt uses: guests are built from the same.
//!
//! Reads `sources.list` in its one-line form and `*.sources` in deb822 form. Only entries whose suite is one of Debian's
//! count, since other archives use the same files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names of Debian's own suites, without `-updates` and the like.
const SUITES: [&str; 10] =
    ["bullseye", "bookworm", "trixie", "forky", "duke", "sid", "stable", "testing", "unstable", "oldstable"];

/// Whether this is the name of a suite of Debian.
pub(super) fn is_suite(name: &str) -> bool {
    SUITES.contains(&name)
}

/// Why no mirror is known.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The configuration names none.
    #[error(
        "no Debian mirror in {0} (this host's apt configuration): name one with --mirror URL, such as the one of \
         https://www.debian.org/mirror/list nearest to you"
    )]
    None(PathBuf),
    /// A file of the configuration cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The one given is no address.
    #[error("bad mirror {0:?}: it must begin with http://, https:// or file:/ and hold no blanks")]
    Bad(String),
}

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Address of the archive.
    pub archive: String,
    /// Address of the security archive, when the host has one.
    pub security: Option<String>,
}

impl Mirror {
    /// The mirror given by the user.
    ///
    /// # Errors
    /// Not an address.
    pub fn given(url: &str) -> Result<Self, MirrorError> {
        let scheme = ["http://", "https://", "file:/"].iter().any(|scheme| url.starts_with(scheme));
        if scheme && url.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self { archive: url.trim_end_matches('/').into(), security: None })
        } else {
            Err(MirrorError::Bad(url.into()))
        }
    }

    /// The mirror of the host's apt configuration, in `folder` (`/etc/apt`).
    ///
    /// # Errors
    /// There is none, or a file cannot be read.
    pub fn of_host(folder: &Path) -> Result<Self, MirrorError> {
        let mut entries = Vec::new();
        for file in source_files(folder)? {
            let text = match fs::read(&file) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(MirrorError::Io { path: file, source }),
            };
            let deb822 = file.extension().is_some_and(|extension| extension == "sources");
            entries.extend(if deb822 { deb822_entries(&text) } else { one_line_entries(&text) });
        }
        let address = |suffix: &str| {
            let serves = |entry: &&(String, String)| {
                entry.1.strip_suffix(suffix).is_some_and(|suite| SUITES.contains(&suite))
                    && Self::given(&entry.0).is_ok()
            };
            entries.iter().find(serves).map(|entry| entry.0.trim_end_matches('/').to_owned())
        };
        let archive = address("").ok_or_else(|| MirrorError::None(folder.into()))?;
        Ok(Self { archive, security: address("-security") })
    }

    /// The lines of a guest's `sources.list`.
    #[must_use]
    pub fn lines(&self, suite: &str) -> Vec<String> {
        let rolling = ["sid", "unstable", "testing"].contains(&suite);
        let mut lines = vec![format!("deb {} {suite} main", self.archive)];
        if !rolling {
            lines.push(format!("deb {} {suite}-updates main", self.archive));
            lines.extend(self.security.iter().map(|url| format!("deb {url} {suite}-security main")));
        }
        lines
    }
}

/// `sources.list` and what is in `sources.list.d`, by name.
fn source_files(folder: &Path) -> Result<Vec<PathBuf>, MirrorError> {
    let parts = folder.join("sources.list.d");
    let mut files: Vec<_> = match fs::read_dir(&parts) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(MirrorError::Io { path: parts, source }),
    };
    files.retain(|file| file.extension().is_some_and(|end| end == "list" || end == "sources"));
    files.sort();
    files.insert(0, folder.join("sources.list"));
    Ok(files)
}

/// Address and suite of each `deb [options] ADDRESS SUITE COMPONENTS...`.
fn one_line_entries(text: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix(|c: char| c.is_whitespace())?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        words.any(|word| word == "main").then(|| (address.to_owned(), suite.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// Address and suite of each enabled stanza, every combination of them.
fn deb822_entries(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let words = |key: &str| -> Vec<&str> {
            let mut found = Vec::new();
            let mut inside = false;
            for line in stanza {
                match line.split_once(':') {
                    Some((name, value)) if !line.starts_with([' ', '\t']) => {
                        inside = name.trim().eq_ignore_ascii_case(key);
                        found.extend(value.split_whitespace().filter(|_| inside));
                    }
                    _ => found.extend(line.split_whitespace().filter(|_| inside)),
                }
            }
            found
        };
        let disabled = words("Enabled").first().is_some_and(|word| word.eq_ignore_ascii_case("no"));
        if disabled || !words("Types").contains(&"deb") || !words("Components").contains(&"main") {
            continue;
        }
        for address in words("URIs") {
            entries.extend(words("Suites").iter().map(|suite| (address.to_owned(), (*suite).to_owned())));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Result<Mirror, MirrorError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Mirror::of_host(folder.path())
    }

    #[test]
    fn one_line_form() {
        let mirror = host(&[(
            "sources.list",
            "# deb http://old.example/debian bookworm main\n\
             deb-src http://source.example/debian bookworm main\n\
             deb [arch=amd64 signed-by=/x y] http://a.example/debian/ bookworm main contrib\n\
             deb http://a.example/debian-security bookworm-security main # comment\n",
        )]);
        let expected = Mirror {
            archive: "http://a.example/debian".into(),
            security: Some("http://a.example/debian-security".into()),
        };
        assert_eq!(mirror.unwrap(), expected);
        assert_eq!(
            expected.lines("trixie"),
            [
                "deb http://a.example/debian trixie main",
                "deb http://a.example/debian trixie-updates main",
                "deb http://a.example/debian-security trixie-security main",
            ]
        );
        assert_eq!(expected.lines("sid").len(), 1);
    }

    #[test]
    fn deb822_form() {
        let mirror = host(&[
            ("sources.list.d/a.list", "deb https://vendor.example/apt nodistro main\n"),
            (
                "sources.list.d/debian.sources",
                "Types: deb deb-src\n# a comment\nURIs: https://b.example/debian\nSuites: trixie\n trixie-updates\n\
                 Components: main\n\nTypes: deb\nURIs: https://b.example/security/\nSuites: trixie-security\n\
                 Components: main\n",
            ),
            ("sources.list.d/off.sources.disabled", "deb http://off.example/debian trixie main"),
        ])
        .unwrap();
        assert_eq!(mirror.archive, "https://b.example/debian");
        assert_eq!(mirror.security.as_deref(), Some("https://b.example/security"));
    }

    #[test]
    fn nothing_usable() {
        let off = "Enabled: no\nTypes: deb\nURIs: http://c.example/debian\nSuites: sid\nComponents: main\n";
        for files in [
            &[][..],
            &[(
                "sources.list",
                "deb http://ubuntu.example/ubuntu noble main\ndeb cdrom:[Disk]/ trixie main\n",
            )],
            &[("sources.list.d/a.sources", off)],
        ] {
            assert!(matches!(host(files), Err(MirrorError::None(_))), "{files:?}");
        }
    }

    #[test]
    fn given_addresses() {
        assert_eq!(Mirror::given("http://d.example/debian/").unwrap().archive, "http://d.example/debian");
        for bad in ["", "d.example", "http://x y", "http://x\ndeb"] {
            assert!(matches!(Mirror::given(bad), Err(MirrorError::Bad(_))), "{bad:?}");
        }
    }
}
