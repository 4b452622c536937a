//! Apps for the host's menus: desktop files and icons of the guest, well-behaved and hostile ones.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use inlay_protocol::catalogue::{App, Listed, Takes};
use inlay_protocol::control::{Command, Exit, LaunchError, Report};

use crate::host::Host;

/// An agent whose apps lie in a folder of the test's own.
struct Guest {
    host: Host,
    data: tempfile::TempDir,
}

impl Guest {
    fn start(files: &[(&str, &[u8])]) -> Self {
        let data = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            put(data.path(), name, bytes);
        }
        Self::over(data)
    }

    fn over(data: tempfile::TempDir) -> Self {
        let path = data.path().to_str().unwrap();
        let mut host = Host::start_with(&[("XDG_DATA_DIRS", path), ("XDG_DATA_HOME", "/nowhere")]);
        host.accept_display();
        host.command(&Command::ListApps { locale: "de_DE.UTF-8".into() });
        Self { host, data }
    }

    /// The list that is told next.
    fn list(&mut self) -> Vec<Listed> {
        let mut found = None;
        self.host.until("a list of apps", |host| {
            let at = host.reports.iter().position(|report| matches!(report, Report::Apps(_)));
            found = at.map(|at| host.reports.remove(at));
            found.is_some()
        });
        let Some(Report::Apps(list)) = found else { unreachable!() };
        list
    }

    fn ids(&mut self) -> Vec<String> {
        self.list().into_iter().map(|app| app.id).collect()
    }

    fn app(&mut self, id: &str) -> Option<App> {
        self.host.command(&Command::DescribeApp(id.into()));
        let mut found = None;
        self.host.until("an app", |host| {
            found = host.reports.iter().rev().find_map(|report| match report {
                Report::App(app) if app.id == id => Some(Some((**app).clone())),
                Report::NoApp(of) if of == id => Some(None),
                _ => None,
            });
            found.is_some()
        });
        found.unwrap()
    }

    fn open(&mut self, id: u64, app: &str, action: Option<&str>, uris: &[&str]) {
        let uris = uris.iter().map(ToString::to_string).collect();
        let action = action.map(str::to_owned);
        self.host.command(&Command::Open { id, app: app.into(), action, uris, env: Vec::new() });
    }

    fn failure(&mut self, of: u64) -> LaunchError {
        let mut found = None;
        self.host.until("a failure", |host| {
            found = host.reports.iter().find_map(|report| match report {
                Report::LaunchFailed { id, error } if *id == of => Some(error.clone()),
                _ => None,
            });
            found.is_some()
        });
        found.unwrap()
    }

    fn ends(&mut self, id: u64) {
        let end = Report::Exited { id, exit: Exit::Code(0) };
        self.host.until("an app's end", |host| host.reports.contains(&end));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.data.path().join(name)).unwrap()
    }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As package managers do it: the file is there at once.
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(&new, path).unwrap();
}

fn entry(lines: &str) -> Vec<u8> {
    format!("[Desktop Entry]\nType=Application\nName=App\nExec=true\n{lines}").into_bytes()
}

const SVG: &[u8] = br##"<svg xmlns="http://www.w3.org/2000/svg" width="10" height="20"><rect width="10" height="20" fill="#ff0000"/></svg>"##;
const INDEX: &[u8] =
    b"[Icon Theme]\nName=Hicolor\nDirectories=scalable/apps\n[scalable/apps]\nSize=128\nType=Scalable\n";

#[test]
fn apps_are_told_with_their_icons_and_changes_follow() {
    let mut guest = Guest::start(&[
        ("applications/one.desktop", &entry("Icon=one\nName[de]=Eins\nMimeType=text/plain;\n")),
        ("applications/kde/two.desktop", &entry("")),
        ("applications/hidden.desktop", &entry("NoDisplay=true\n")),
        ("applications/gone.desktop", &entry("TryExec=no-such-program-anywhere\n")),
        ("icons/hicolor/index.theme", INDEX),
        ("icons/hicolor/scalable/apps/one.svg", SVG),
    ]);
    let first = guest.list();
    let ids: Vec<_> = first.iter().map(|app| app.id.as_str()).collect();
    assert_eq!(ids, ["kde-two", "one"]);
    let app = guest.app("one").unwrap();
    assert_eq!((app.name.plain.as_str(), app.name.shown()), ("App", "Eins"));
    assert_eq!((app.mime_types, app.takes), (vec!["text/plain".to_owned()], Takes::Nothing));
    let sides: Vec<_> =
        app.icons.iter().map(|png| u32::from_be_bytes(png[16..20].try_into().unwrap())).collect();
    assert_eq!(sides, [48, 128, 256], "the drawing, in the sizes that menus need");
    assert_eq!(guest.app("hidden"), None);
    // What changes is told, with another digest; what stays keeps its own.
    put(guest.data.path(), "applications/one.desktop", &entry("Icon=one\nComment=new\n"));
    put(guest.data.path(), "applications/three.desktop", &entry(""));
    let second = guest.list();
    let digest = |list: &[Listed], id: &str| list.iter().find(|app| app.id == id).map(|app| app.digest);
    assert_eq!(second.len(), 3);
    assert_ne!(digest(&first, "one"), digest(&second, "one"));
    assert_eq!(digest(&first, "kde-two"), digest(&second, "kde-two"));
    fs::remove_file(guest.data.path().join("applications/one.desktop")).unwrap();
    assert_eq!(guest.ids(), ["kde-two", "three"]);
}

#[test]
fn an_app_is_opened_as_its_desktop_file_says() {
    let script =
        |out: &str| format!("Exec=sh -c \"echo \\\\\"\\\\$@\\\\\" > {out}; pwd >> {out}\" sh %F --name=%c\n");
    let mut guest = Guest::start(&[("applications/new.desktop", b"")]);
    assert!(guest.ids().is_empty());
    let path = guest.data.path().to_str().unwrap().to_owned();
    let text = format!(
        "[Desktop Entry]\nType=Application\nName=My App\n{}Path={path}\nActions=act;\n[Desktop Action act]\nName=Act\nExec=touch {path}/acted\n",
        script(&format!("{path}/out"))
    );
    put(guest.data.path(), "applications/new.desktop", text.as_bytes());
    assert_eq!(guest.ids(), ["new"]);
    assert_eq!(guest.app("new").unwrap().takes, Takes::Files);
    guest.open(1, "new", None, &["file:///a%20b", "file:///%24%28touch%20x%29"]);
    guest.ends(1);
    assert_eq!(guest.text("out"), format!("/a b /$(touch x) --name=My App\n{path}\n"));
    guest.open(2, "new", Some("act"), &[]);
    guest.ends(2);
    assert!(guest.data.path().join("acted").exists());
    guest.open(3, "new", Some("other"), &[]);
    assert_eq!(guest.failure(3), LaunchError::Other("new has no action other".into()));
    guest.open(4, "other", None, &[]);
    assert_eq!(guest.failure(4), LaunchError::NoApp("other".into()));
    guest.open(5, "new", None, &["https://a/"]);
    assert!(matches!(guest.failure(5), LaunchError::Other(why) if why.contains("cannot open https://a/")));
}

#[test]
fn hostile_desktop_files_and_icons_cost_little_and_end_nothing() {
    // A drawing that would be 10^9 shapes, one that is huge, a picture of 10 MB, one that says it has 2^31 pixels a side.
    let mut bomb = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><g id=\"a0\"><rect width=\"9\" height=\"9\"/></g>",
    );
    for level in 1..10 {
        let uses = format!("<use href=\"#a{}\"/>", level - 1).repeat(10);
        bomb.push_str(&format!("<g id=\"a{level}\">{uses}</g>"));
    }
    bomb.push_str("</svg>");
    let mut wide = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff".to_vec();
    wide.resize(4096, 0);
    let large = vec![b'x'; 10 << 20];
    let pixmap = |name: &str| entry(&format!("Icon={name}\n"));
    let long = entry(&format!("Comment={}\n", "x".repeat(300_000)));
    let mut guest = Guest::start(&[
        ("applications/bomb.desktop", &pixmap("bomb")),
        ("applications/wide.desktop", &pixmap("wide")),
        ("applications/large.desktop", &pixmap("large")),
        ("applications/device.desktop", &pixmap("/dev/zero")),
        ("applications/long.desktop", &long),
        ("applications/lines.desktop", &entry("Comment=a\\nExec=touch /tmp/x\u{7}\n")),
        ("applications/a b.desktop", &entry("")),
        ("applications/-x.desktop", &entry("")),
        ("applications/quote.desktop", &entry("[Desktop Entry]\nExec=\"unfinished\n")),
        ("applications/junk.desktop", &large),
        ("pixmaps/bomb.svg", bomb.as_bytes()),
        ("pixmaps/wide.png", &wide),
        ("pixmaps/large.png", &large),
    ]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        guest.data.path().join("applications/pipe.desktop"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let ids = guest.ids();
    assert_eq!(ids, ["bomb", "device", "large", "lines", "long", "quote", "wide"]);
    let began = Instant::now();
    for id in ["bomb", "device", "large", "wide"] {
        assert_eq!(guest.app(id).unwrap().icons.len(), 0, "{id}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(guest.app("lines").unwrap().comment.plain, "a Exec=touch /tmp/x ");
    assert!(guest.app("long").unwrap().comment.plain.len() <= inlay_protocol::limits::TITLE);
    guest.host.command(&Command::Ping(7));
    guest.host.until("a pong", |host| host.reports.contains(&Report::Pong(7)));
}

#[test]
fn more_apps_than_menus_take_are_cut_off() {
    let data = tempfile::tempdir().unwrap();
    // 100,000 names for a few files: an inode has 65,000 at most.
    for first in (0..100_000).step_by(10_000) {
        let one = format!("applications/a{first}.desktop");
        put(data.path(), &one, &entry(""));
        for number in first + 1..first + 10_000 {
            let other = data.path().join(format!("applications/a{number}.desktop"));
            fs::hard_link(data.path().join(&one), other).unwrap();
        }
    }
    let mut guest = Guest::over(data);
    assert_eq!(guest.list().len(), inlay_protocol::limits::APPS);
}
