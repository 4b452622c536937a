//! Entries, icons and the category in folders of the test's own.

use super::*;
use inlay_protocol::catalogue::{Action, App, Takes, Text};
use inlay_protocol::limits;

fn text(plain: &str) -> Text {
    Text { plain: plain.into(), local: None }
}

fn app(id: &str) -> Stored {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(128, 128, image::Rgba([255, 0, 0, 255]))
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let app = App {
        id: id.into(),
        name: Text { plain: "Files".into(), local: Some("Dateien".into()) },
        comment: text("back\\slash"),
        keywords: text("folder;disk;"),
        mime_types: ["inode/directory", "x-scheme-handler/http", "x-scheme-handler/ssh", "bad type/x", "a/b"]
            .map(str::to_owned)
            .to_vec(),
        actions: vec![Action { id: "new".into(), name: text("New") }],
        takes: Takes::Uris,
        icons: vec![png.into_inner()],
        ..App::default()
    };
    Stored { digest: 1, app }
}

struct Desk {
    _dir: tempfile::TempDir,
    folders: Folders,
    name: MachineName,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::below(dir.path()).unwrap();
        Self { _dir: dir, folders, name: "demo".parse().unwrap() }
    }

    fn show(&self, apps: &[Stored]) -> Changed {
        show(&Places::of(&self.folders), &self.name, apps.to_vec(), "inlay").unwrap()
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folders.user_data().to_owned(), self.folders.user_config().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        found.retain(|name| name != "mimeinfo.cache");
        found.sort();
        found
    }
}

#[test]
fn an_entry_says_what_the_app_is_and_nothing_that_it_runs() {
    let text = file::text(&"demo".parse().unwrap(), &app("org.x.Files"), "inlay");
    let expected = "[Desktop Entry]\nType=Application\nVersion=1.4\nName=Dateien (demo)\nComment=back\\\\slash\n\
        Keywords=folder;disk;Files;demo;inlay;\nExec=inlay run --notify demo org.x.Files.desktop %U\nIcon=inlay.demo.org.x.Files\n\
        Terminal=false\nCategories=X-Inlay;\nStartupNotify=true\nStartupWMClass=inlay.demo.org.x.Files\n\
        MimeType=inode/directory;x-scheme-handler/http;a/b;\nActions=new;\nX-Inlay-Machine=demo\nX-Inlay-Digest=0000000000000001\n\n\
        [Desktop Action new]\nName=New\nExec=inlay run --notify --action new demo org.x.Files.desktop\n";
    assert_eq!(text, expected);
    let odd = file::text(&"demo".parse().unwrap(), &app("a"), "/my \"own\" $x/100%/inlay");
    assert!(
        odd.contains("\nExec=\"/my \\\\\"own\\\\\" \\\\$x/100%%/inlay\" run --notify demo a.desktop %U\n"),
        "{odd}"
    );
}

#[test]
fn entries_come_change_and_go_and_nothing_else_is_touched() {
    let desk = Desk::new();
    let places = Places::of(&desk.folders);
    fs::create_dir_all(&places.applications).unwrap();
    for other in ["inlay.demo2.a.desktop", "inlay.desktop", "foot.desktop", "inlay.demo.a.txt"] {
        fs::write(places.applications.join(other), "").unwrap();
    }
    let before = desk.files();
    assert_eq!(desk.show(&[app("a"), app("b")]), Changed { written: 2, removed: 0, all: 2 });
    let icon = image::open(places.hicolor.join("48x48/apps/inlay.demo.a.png")).unwrap().to_rgba8();
    assert_eq!((icon.dimensions(), icon.get_pixel(24, 24).0), ((48, 48), [255, 0, 0, 255]));
    assert!(!places.hicolor.join("256x256/apps/inlay.demo.a.png").exists(), "not blown up");
    assert_eq!(desk.show(&[app("a"), app("b")]).written, 0, "nothing is news");
    let other = Stored { digest: 2, ..app("a") };
    assert_eq!(desk.show(&[other]), Changed { written: 1, removed: 1, all: 1 });
    assert_eq!(desk.show(&[]).removed, 1);
    let mut after = desk.files();
    // The other machine still has an app there, so the category stays.
    after.retain(|name| !["inlay.menu", "inlay.directory"].contains(&name.as_str()));
    assert_eq!(after, before);
    fs::remove_file(places.applications.join("inlay.demo2.a.desktop")).unwrap();
    desk.show(&[app("a")]);
    desk.show(&[]);
    assert!(!places.menu.exists() && !places.directory.exists());
}

#[test]
fn what_was_removed_stays_away_until_it_is_asked_for() {
    let desk = Desk::new();
    let paths = desk.folders.machine(&desk.name);
    fs::create_dir_all(paths.data()).unwrap();
    Apps::of(&paths).put(&app("a")).unwrap();
    assert!(is_wanted(&desk.folders, &desk.name));
    assert_eq!(sync(&desk.folders, &desk.name).unwrap().written, 1);
    assert_eq!(remove(&desk.folders, &desk.name).unwrap().removed, 1);
    assert!(!is_wanted(&desk.folders, &desk.name));
    assert_eq!(sync(&desk.folders, &desk.name).unwrap().written, 1);
    assert!(is_wanted(&desk.folders, &desk.name));
}

#[test]
fn pictures_that_are_none_or_too_large_are_no_icons() {
    let desk = Desk::new();
    let places = Places::of(&desk.folders);
    // A small file that says it has 30000 x 30000 pixels.
    let mut bomb = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(2000, 2000).write_to(&mut bomb, image::ImageFormat::Png).unwrap();
    let mut huge = bomb.get_ref().clone();
    huge[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let cut = app("a").app.icons[0][..60].to_vec();
    let mut bad = app("a");
    bad.app.icons = vec![b"junk".to_vec(), bomb.into_inner(), huge, cut];
    assert_eq!(desk.show(&[bad]).written, 1);
    assert!(!places.hicolor.exists());
    let text = fs::read_to_string(places.applications.join("inlay.demo.a.desktop")).unwrap();
    assert!(text.contains("\nIcon=application-x-executable\n"), "{text}");
    // One that is wide becomes a square.
    let mut wide = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(64, 20, image::Rgba([0, 0, 255, 255]))
        .write_to(&mut wide, image::ImageFormat::Png)
        .unwrap();
    let mut good = app("b");
    good.app.icons = vec![wide.into_inner()];
    desk.show(&[good]);
    let icon = image::open(places.hicolor.join("64x64/apps/inlay.demo.b.png")).unwrap().to_rgba8();
    assert_eq!((icon.get_pixel(32, 2).0, icon.get_pixel(32, 32).0), ([0, 0, 0, 0], [0, 0, 255, 255]));
}

/// Set where the test below is the process whose memory is looked at.
const FOLDER: &str = "INLAY_TEST_FOLDER";
/// What the menus may need at most, in MiB; the apps have 128.
const MOST: u64 = 24;

/// The most memory that this process had so far, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

#[test]
fn as_many_and_as_large_apps_as_a_guest_may_have_need_little_memory() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folders = Folders::below(Path::new(&folder)).unwrap();
        let before = peak();
        let all = sync(&folders, &"demo".parse().unwrap()).unwrap().all;
        assert!(all > 100, "{all}");
        let needed = peak() - before;
        assert!(needed < MOST, "{needed} MiB");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folders = Folders::below(dir.path()).unwrap();
    let mut apps = Apps::of(&folders.machine(&"demo".parse().unwrap()));
    let stored = (0..limits::APPS).take_while(|n| {
        let mut large = app(&format!("a{n}"));
        large.app.icons = vec![vec![7; limits::APP_ICON]; limits::ICONS];
        apps.put(&large).is_ok()
    });
    let large = stored.count();
    let small = (large..limits::APPS).take_while(|n| apps.put(&app(&format!("a{n}"))).is_ok()).count();
    assert!(large > 50 && small > 50, "{large} {small}");
    let own = "dock::tests::as_many_and_as_large_apps_as_a_guest_may_have_need_little_memory";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", own, "--nocapture"]).env(FOLDER, dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}
