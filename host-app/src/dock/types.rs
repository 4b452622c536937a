//! What opens a type of file stays what it was: apps of guests are further choices.
//!
//! Where nobody ever chose, desktops take the first app that says it can, and the user's own folder comes first: a guest's app would be the
//! default. So what opened such a type before is written down as the default, in the weakest of the user's lists
//! (`$XDG_DATA_HOME/applications/mimeapps.list`, MIME Applications Associations Specification 1.0.1), and taken out again with the last guest
//! app of the type. A type that nothing else on this host opens is left to the guest's app.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::paths::write_anew;

const DEFAULTS: &str = "[Default Applications]";

/// Where a desktop looks: for each folder its lists, and the apps in it.
#[derive(Debug)]
pub(super) struct Search {
    /// Lists of choices, the strongest first.
    lists: Vec<PathBuf>,
    /// Folders of desktop files, the first one first.
    folders: Vec<PathBuf>,
    /// The list that is written.
    own: PathBuf,
    /// What was written into it.
    record: PathBuf,
}

impl Search {
    /// As the environment has it, with the user's folders given.
    pub fn new(config: &Path, data: &Path, record: PathBuf) -> Self {
        let dirs = |name: &str, default: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            let value = value.unwrap_or_else(|| default.into());
            std::env::split_paths(&value).filter(|path| path.is_absolute()).collect::<Vec<_>>()
        };
        let folders =
            std::iter::once(data.to_owned()).chain(dirs("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
        let folders: Vec<PathBuf> = folders.map(|folder| folder.join("applications")).collect();
        let configs = std::iter::once(config.to_owned()).chain(dirs("XDG_CONFIG_DIRS", "/etc/xdg"));
        let desktops = std::env::var("XDG_CURRENT_DESKTOP").unwrap_or_default().to_lowercase();
        let names: Vec<String> = desktops
            .split(':')
            .filter(|name| !name.is_empty() && !name.contains('/'))
            .map(|name| format!("{name}-mimeapps.list"))
            .chain(std::iter::once("mimeapps.list".to_owned()))
            .collect();
        let places = configs.chain(folders.iter().cloned());
        let lists = places.flat_map(|place| names.iter().map(move |name| place.join(name))).collect();
        let own = data.join("applications/mimeapps.list");
        Self { lists, folders, own, record }
    }

    /// Sees to it that what opens these types is no app of a guest, unless nothing else does.
    ///
    /// # Errors
    /// The list cannot be written.
    pub fn keep(&self, types: &BTreeSet<String>) -> io::Result<()> {
        let before = fs::read_to_string(&self.own).unwrap_or_default();
        let record = fs::read_to_string(&self.record).unwrap_or_default();
        let written: BTreeMap<&str, &str> = record.lines().filter_map(|line| line.split_once('=')).collect();
        let cleaned = without(&before, &written);
        let choices = Choices::read(&self.lists, |path| {
            if path == self.own { Some(cleaned.clone()) } else { fs::read_to_string(path).ok() }
        });
        let caches: Vec<BTreeMap<String, Vec<String>>> =
            self.folders.iter().map(|folder| cache(folder)).collect();
        let there = |app: &&String| {
            !app.starts_with("inlay.") && self.folders.iter().any(|folder| folder.join(app).is_file())
        };
        let mut keep = BTreeMap::new();
        for kind in types {
            if choices.defaults.get(kind).is_some_and(|apps| apps.iter().any(|app| there(&app))) {
                continue;
            }
            let added = choices.added.get(kind).into_iter();
            let all = added.chain(caches.iter().filter_map(|cache| cache.get(kind))).flatten();
            if let Some(app) = all.filter(there).find(|app| !choices.removes(kind, app)) {
                keep.insert(kind.as_str(), app.as_str());
            }
        }
        let after = with(&cleaned, &keep);
        if after != before {
            if after.trim().is_empty() {
                remove(&self.own)?;
            } else {
                write_anew(&self.own, &after)?;
            }
        }
        let record: String = keep.iter().map(|(kind, app)| format!("{kind}={app}\n")).collect();
        if record.is_empty() { remove(&self.record) } else { write_anew(&self.record, &record) }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What lists say, the strongest first.
#[derive(Debug, Default)]
struct Choices {
    defaults: BTreeMap<String, Vec<String>>,
    added: BTreeMap<String, Vec<String>>,
    removed: BTreeMap<String, Vec<String>>,
}

impl Choices {
    fn read(lists: &[PathBuf], read: impl Fn(&Path) -> Option<String>) -> Self {
        let mut all = Self::default();
        for text in lists.iter().filter_map(|path| read(path)) {
            for (group, kind, apps) in entries(&text) {
                let map = match group {
                    DEFAULTS => &mut all.defaults,
                    "[Added Associations]" => &mut all.added,
                    "[Removed Associations]" => &mut all.removed,
                    _ => continue,
                };
                map.entry(kind.to_owned()).or_default().extend(split(apps));
            }
        }
        all
    }

    fn removes(&self, kind: &str, app: &String) -> bool {
        self.removed.get(kind).is_some_and(|apps| apps.contains(app))
    }
}

fn split(apps: &str) -> impl Iterator<Item = String> {
    apps.split(';').map(str::trim).filter(|app| !app.is_empty()).map(str::to_owned)
}

/// Group, key and value of each line that has one.
fn entries(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut group = "";
    text.lines().filter_map(move |line| {
        if line.starts_with('[') {
            group = line.trim();
        }
        let (kind, apps) = line.split_once('=').filter(|_| !line.starts_with(['[', '#']))?;
        Some((group, kind.trim(), apps))
    })
}

/// What apps of a folder open (`mimeinfo.cache`).
fn cache(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(folder.join("mimeinfo.cache")).unwrap_or_default();
    entries(&text).map(|(_, kind, apps)| (kind.to_owned(), split(apps).collect())).collect()
}

/// A list without the lines that were written into it.
fn without(text: &str, written: &BTreeMap<&str, &str>) -> String {
    let mut group = "";
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| {
            if line.starts_with('[') {
                group = line.trim();
            }
            let entry = line.split_once('=').filter(|_| group == DEFAULTS);
            entry.is_none_or(|(kind, apps)| written.get(kind) != Some(&apps.trim_end_matches(';')))
        })
        .collect();
    // A group that has nothing any more was there for them alone.
    let alone = kept.iter().all(|line| line.trim().is_empty() || *line == DEFAULTS);
    if alone { String::new() } else { kept.iter().map(|line| format!("{line}\n")).collect() }
}

/// A list with these lines.
fn with(text: &str, keep: &BTreeMap<&str, &str>) -> String {
    if keep.is_empty() {
        return text.to_owned();
    }
    let lines: String = keep.iter().map(|(kind, app)| format!("{kind}={app};\n")).collect();
    let at = text.lines().position(|line| line.trim() == DEFAULTS);
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        out.push_str(line);
        out.push('\n');
        if at == Some(number) {
            out.push_str(&lines);
        }
    }
    if at.is_none() {
        out.push_str(&format!("{DEFAULTS}\n{lines}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        search: Search,
    }

    impl Host {
        /// A host with some apps of its own, and a guest's.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let folders = vec![path("home/applications"), path("usr/applications")];
            for folder in folders.iter().chain([&path("config")]) {
                fs::create_dir_all(folder).unwrap();
            }
            let own = path("home/applications/mimeapps.list");
            let lists =
                vec![path("config/mimeapps.list"), own.clone(), path("usr/applications/mimeapps.list")];
            let search = Search { lists, folders, own, record: path("record") };
            for app in [
                "home/applications/inlay.m.e.desktop",
                "usr/applications/a.desktop",
                "usr/applications/b.desktop",
            ] {
                fs::write(path(app), "").unwrap();
            }
            fs::write(
                path("home/applications/mimeinfo.cache"),
                "[MIME Cache]\nt/x=inlay.m.e.desktop;\nt/only=inlay.m.e.desktop;\n",
            )
            .unwrap();
            fs::write(
                path("usr/applications/mimeinfo.cache"),
                "[MIME Cache]\nt/x=gone.desktop;a.desktop;b.desktop;\nt/y=b.desktop;\n",
            )
            .unwrap();
            Self { dir, search }
        }

        fn keep(&self, types: &[&str]) -> String {
            self.search.keep(&types.iter().map(ToString::to_string).collect()).unwrap();
            fs::read_to_string(&self.search.own).unwrap_or_default()
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }
    }

    #[test]
    fn what_opened_a_type_goes_on_opening_it_and_nothing_is_left_behind() {
        let host = Host::new();
        assert_eq!(host.keep(&["t/x", "t/only"]), "[Default Applications]\nt/x=a.desktop;\n");
        assert_eq!(host.keep(&["t/x", "t/y"]), "[Default Applications]\nt/x=a.desktop;\nt/y=b.desktop;\n");
        assert_eq!(host.keep(&[]), "");
        assert!(!host.search.own.exists() && !host.search.record.exists());
    }

    #[test]
    fn what_the_user_or_the_system_chose_is_not_touched() {
        let host = Host::new();
        host.write("config/mimeapps.list", "[Default Applications]\nt/x=b.desktop\n");
        host.write("usr/applications/mimeapps.list", "[Default Applications]\nt/y=gone.desktop;a.desktop;\n");
        assert_eq!(host.keep(&["t/x", "t/y"]), "");
        let own = "# mine\n[Added Associations]\nt/x=a.desktop\n\n[Default Applications]\nt/z=b.desktop\n";
        host.write("config/mimeapps.list", "[Removed Associations]\nt/x=a.desktop;\n");
        host.write("home/applications/mimeapps.list", own);
        let text = host.keep(&["t/x"]);
        assert_eq!(text, own.replace("t/z", "t/x=b.desktop;\nt/z"), "a was removed by the user");
        // A choice that the user makes later stays.
        host.write("home/applications/mimeapps.list", &text.replace("t/x=b.desktop;", "t/x=a.desktop;"));
        assert!(host.keep(&[]).contains("t/x=a.desktop;"));
    }
}
