//! The initramfs in its two halves: the base's (modules of its kernel, busybox, e2fsck), and the host's, written at every
//! start: the init script, the agent with its own loader and libraries so that it runs in any distribution, and its
//! units.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::elf::Elf;
use super::{CreateError, sources, write_whole};

/// What the init script calls of busybox.
const APPLETS: [&str; 15] = [
    "cat",
    "chmod",
    "chown",
    "cp",
    "insmod",
    "mkdir",
    "mount",
    "mv",
    "poweroff",
    "sed",
    "sh",
    "sleep",
    "switch_root",
    "sync",
    "tr",
];

const INIT: &str = include_str!("../../../assets/guest/init");
const POWEROFF: &str = include_str!("../../../assets/guest/poweroff");
const ZONE: &str = include_str!("../../../assets/guest/zone");
const SET_ZONE: &str = include_str!("../../../assets/guest/set-zone");
const LOGIN: &str = include_str!("../../../assets/guest/login");
const UDHCPC: &str = include_str!("../../../assets/guest/udhcpc");

const OPEN_LINK: &str = include_str!("../../../assets/guest/open-link");

/// What an imported guest has beside the agent itself: name, text.
const IMPORTED: [(&str, &str); 4] = [
    ("begin", include_str!("../../../assets/guest/imported/begin")),
    ("inlay.service", include_str!("../../../assets/guest/imported/inlay.service")),
    ("install", include_str!("../../../assets/guest/imported/install")),
    ("user", include_str!("../../../assets/guest/imported/user")),
];

/// What makes the guest's programs give links to the agent.
const SHARE: [(&str, &str); 2] = [
    ("applications/inlay-link.desktop", include_str!("../../../assets/guest/share/inlay-link.desktop")),
    ("xdg/mimeapps.list", include_str!("../../../assets/guest/share/mimeapps.list")),
];

/// Units of the guest: name, text, the target that wants it.
const UNITS: [(&str, &str, Option<&str>); 11] = [
    (
        "inlay-agent.service",
        include_str!("../../../assets/guest/units/inlay-agent.service"),
        Some("sysinit.target"),
    ),
    (
        "inlay-poweroff.path",
        include_str!("../../../assets/guest/units/inlay-poweroff.path"),
        Some("sysinit.target"),
    ),
    ("inlay-zone.path", include_str!("../../../assets/guest/units/inlay-zone.path"), Some("sysinit.target")),
    ("inlay-zone.service", include_str!("../../../assets/guest/units/inlay-zone.service"), None),
    ("inlay-keys.path", include_str!("../../../assets/guest/units/inlay-keys.path"), Some("sysinit.target")),
    ("inlay-keys.service", include_str!("../../../assets/guest/units/inlay-keys.service"), None),
    (
        "media-host.mount",
        include_str!("../../../assets/guest/units/media-host.mount"),
        Some("sysinit.target"),
    ),
    ("inlay-bus.socket", include_str!("../../../assets/guest/units/inlay-bus.socket"), None),
    ("inlay-bus.service", include_str!("../../../assets/guest/units/inlay-bus.service"), None),
    ("inlay-console@.service", include_str!("../../../assets/guest/units/inlay-console@.service"), None),
    (
        "inlay-network.service",
        include_str!("../../../assets/guest/units/inlay-network.service"),
        Some("multi-user.target"),
    ),
];

/// Those that an imported guest has as well; consoles and network are its own.
const IMPORTED_UNITS: [&str; 9] = [
    "inlay-agent.service",
    "inlay-bus.service",
    "inlay-bus.socket",
    "inlay-poweroff.path",
    "inlay-zone.path",
    "inlay-zone.service",
    "inlay-keys.path",
    "inlay-keys.service",
    "media-host.mount",
];

/// Consoles of the guest's screen that have a login, as Ctrl-Alt-F1 and Ctrl-Alt-F2 show them.
const CONSOLES: [&str; 2] = ["tty1", "tty2"];

/// Writes the base's half from the parts that the recipe collected.
pub(super) fn base_cpio(parts: &Path, out: &Path) -> Result<(), CreateError> {
    let mut archive = Archive::new(Vec::new());
    let at_out = || CreateError::io(out);
    let mut write = || -> io::Result<()> {
        for folder in [
            "bin",
            "dev",
            "etc",
            "lib",
            "lib/x86_64-linux-gnu",
            "lib64",
            "modules",
            "proc",
            "run",
            "sys",
            "sysroot",
        ] {
            archive.folder(folder, 0o755)?;
        }
        archive.link("etc/mtab", "/proc/mounts")?;
        for applet in APPLETS {
            archive.link(&format!("bin/{applet}"), "busybox")?;
        }
        for (from, to, permissions) in
            [("bin", "bin", 0o755), ("lib", "lib/x86_64-linux-gnu", 0o755), ("modules", "modules", 0o644)]
        {
            for (name, path) in files_in(&parts.join(from))? {
                let to = if name.starts_with("ld-linux") { "lib64" } else { to };
                archive.file(&format!("{to}/{name}"), permissions, &fs::read(path)?)?;
            }
        }
        Ok(())
    };
    write().map_err(at_out())?;
    let bytes = archive.finish().map_err(at_out())?;
    fs::write(out, bytes).map_err(at_out())
}

/// Writes the host's half: init script, units, and the agent with what it is linked with.
///
/// # Errors
/// The agent is no dynamically linked x86-64 program, or files cannot be used.
pub fn agent_cpio(agent: &Path, out: &Path) -> Result<(), CreateError> {
    write_whole(out, &agent_archive(agent, &agent_files(agent)?)?).map_err(CreateError::io(out))
}

/// Writes what a machine boots: the base's half and the host's half. Does nothing where `out` was made of the same files as
/// they are now: reading all of them is a good part of what a start costs on this side.
///
/// # Errors
/// As [`agent_cpio`].
pub fn initrd(base: &Path, agent: &Path, out: &Path) -> Result<(), CreateError> {
    let program = std::env::current_exe().map_err(CreateError::io(Path::new("/proc/self/exe")))?;
    // The last one says which libraries the loader finds, where there is one.
    let cache = Some(Path::new("/etc/ld.so.cache")).filter(|cache| cache.exists());
    let sources: Vec<&Path> = [base, agent, &program].into_iter().chain(cache).collect();
    if sources::are_unchanged(out, &sources) {
        return Ok(());
    }
    let mut list: String = sources.into_iter().map(sources::line).collect();
    // The base's half goes first, as its folders must be there and its files may be replaced.
    let mut whole = fs::read(base).map_err(CreateError::io(base))?;
    let files = agent_files(agent)?;
    whole.extend(agent_archive(agent, &files)?);
    write_whole(out, &whole).map_err(CreateError::io(out))?;
    list.extend(files.iter().filter_map(|file| file.source.as_deref()));
    sources::keep(out, &list)
}

/// Makes the folder that an imported guest reads its agent from, anew.
///
/// # Errors
/// As [`agent_cpio`].
pub fn agent_folder(agent: &Path, out: &Path) -> Result<(), CreateError> {
    let programs = agent_files(agent)?;
    let new = out.with_extension("new");
    let write = || -> io::Result<()> {
        remove_folder(&new)?;
        for folder in ["lib", "units", "share/applications", "share/xdg"] {
            fs::create_dir_all(new.join(folder))?;
        }
        for file in programs {
            fs::write(new.join(&file.path), &file.content)?;
            fs::set_permissions(new.join(&file.path), fs::Permissions::from_mode(file.mode))?;
        }
        for (name, text) in IMPORTED {
            fs::write(new.join(name), text)?;
        }
        for (name, text, _) in UNITS.iter().filter(|(name, ..)| IMPORTED_UNITS.contains(name)) {
            fs::write(new.join("units").join(name), text)?;
        }
        remove_folder(out)?;
        fs::rename(&new, out)
    };
    write().map_err(CreateError::io(out))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn agent_archive(agent: &Path, programs: &[AgentFile]) -> Result<Vec<u8>, CreateError> {
    let mut archive = Archive::new(Vec::new());
    add_agent(&mut archive, programs).and_then(|()| archive.finish()).map_err(CreateError::io(agent))
}

/// A file of the agent's folder.
struct AgentFile {
    path: String,
    mode: u32,
    content: Vec<u8>,
    /// Of a library: its [`sources::line`] on this host.
    source: Option<String>,
}

/// The agent with what it is linked with, and what it calls.
fn agent_files(agent: &Path) -> Result<Vec<AgentFile>, CreateError> {
    // The loader searches PATH for names without a slash.
    let agent = &fs::canonicalize(agent).map_err(CreateError::io(agent))?;
    with_libraries(agent).map_err(|error| match error {
        AgentError::Bad => CreateError::BadAgent(agent.clone()),
        AgentError::Io(path, source) => CreateError::Io { path, source },
    })
}

enum AgentError {
    Bad,
    Io(PathBuf, io::Error),
}

fn with_libraries(agent: &Path) -> Result<Vec<AgentFile>, AgentError> {
    let read = |path: &Path| fs::read(path).map_err(|error| AgentError::Io(path.into(), error));
    let program = read(agent)?;
    let elf = Elf::parse(&program).ok_or(AgentError::Bad)?;
    let interpreter = elf.interpreter().ok_or(AgentError::Bad)?;
    let libraries = libraries(Path::new(interpreter), agent)?;
    let file = |path: String, mode, content| AgentFile { path, mode, content, source: None };
    let mut files = vec![file("inlay-agent".into(), 0o755, elf.stripped())];
    for (name, text) in
        [("poweroff", POWEROFF), ("zone", ZONE), ("set-zone", SET_ZONE), ("open-link", OPEN_LINK)]
    {
        files.push(file(name.into(), 0o755, text.into()));
    }
    for (name, text) in SHARE {
        files.push(file(format!("share/{name}"), 0o644, text.into()));
    }
    for (name, path) in &libraries {
        // As it is before it is read: a newer one is then told from it.
        let source = Some(sources::line(path));
        files.push(AgentFile { source, ..file(format!("lib/{name}"), 0o755, read(path)?) });
    }
    Ok(files)
}

fn add_agent<W: Write>(archive: &mut Archive<W>, programs: &[AgentFile]) -> io::Result<()> {
    archive.file("init", 0o755, INIT.as_bytes())?;
    let folders = ["", "/lib", "/units", "/share", "/share/applications", "/share/xdg"];
    for folder in folders {
        archive.folder(&format!("inlay-agent{folder}"), 0o755)?;
    }
    for file in programs {
        archive.file(&format!("inlay-agent/{}", file.path), file.mode, &file.content)?;
    }
    archive.file("inlay-agent/login", 0o755, LOGIN.as_bytes())?;
    archive.file("inlay-agent/udhcpc", 0o755, UDHCPC.as_bytes())?;
    let mut targets = BTreeMap::<_, Vec<_>>::new();
    for (name, text, target) in UNITS {
        archive.file(&format!("inlay-agent/units/{name}"), 0o644, text.as_bytes())?;
        if let Some(target) = target {
            targets.entry(target).or_default().push(name);
        }
    }
    for (target, units) in targets {
        let folder = format!("inlay-agent/units/{target}.wants");
        archive.folder(&folder, 0o755)?;
        for unit in units {
            archive.link(&format!("{folder}/{unit}"), &format!("../{unit}"))?;
        }
        if target == "multi-user.target" {
            for console in CONSOLES {
                let link = format!("{folder}/inlay-console@{console}.service");
                archive.link(&link, "../inlay-console@.service")?;
            }
        }
    }
    Ok(())
}

/// The libraries that the loader finds for a program, and the loader itself under the name that the unit calls.
fn libraries(loader: &Path, program: &Path) -> Result<Vec<(String, PathBuf)>, AgentError> {
    let output = Command::new(loader).arg("--list").arg(program).env_remove("LD_PRELOAD").output();
    let output = output.map_err(|error| AgentError::Io(loader.into(), error))?;
    if !output.status.success() {
        return Err(AgentError::Bad);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("=> not found")) {
        let missing = line.split_whitespace().next().unwrap_or_default();
        return Err(AgentError::Io(missing.into(), io::Error::from(io::ErrorKind::NotFound)));
    }
    let mut found = vec![("ld-linux-x86-64.so.2".to_owned(), loader.to_owned())];
    found.extend(text.lines().filter_map(library));
    Ok(found)
}

/// Name and path of a line such as `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f...)`.
fn library(line: &str) -> Option<(String, PathBuf)> {
    let (name, rest) = line.trim().split_once(" => ")?;
    let (path, _) = rest.rsplit_once(" (")?;
    // The loader comes under its own name.
    (!name.contains('/')).then(|| (name.to_owned(), PathBuf::from(path)))
}

/// Files of a folder by name, in a fixed order.
fn files_in(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    fs::read_dir(folder)?.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_what_the_archive_holds() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("agent.cpio");
        agent_cpio(&std::env::current_exe().unwrap(), &out).unwrap();
        let bytes = fs::read(&out).unwrap();
        let holds = |path: &str| {
            let entry = [path.as_bytes(), &[0]].concat();
            bytes.windows(entry.len()).any(|window| window == entry)
        };
        let unit = UNITS[0].1;
        for part in unit.split_whitespace().filter_map(|word| word.strip_prefix("/run/inlay/agent/")) {
            assert!(part == "lib" || holds(&format!("inlay-agent/{part}")), "{part}");
        }
        assert!(unit.contains("ExecStart=/run/inlay/agent/lib/ld-linux-x86-64.so.2 "));
        assert!(holds("inlay-agent/lib/libc.so.6"));
        assert!(holds("inlay-agent/units/sysinit.target.wants/inlay-agent.service"));
        assert!(holds("inlay-agent/units/multi-user.target.wants/inlay-console@tty1.service"));
        assert!(holds("init"));
    }

    #[test]
    fn an_imported_guest_finds_what_its_scripts_and_units_name() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("agent");
        // Over an older one.
        fs::create_dir_all(out.join("lib")).unwrap();
        fs::write(out.join("lib/old"), "").unwrap();
        agent_folder(&std::env::current_exe().unwrap(), &out).unwrap();
        assert!(!out.join("lib/old").exists());
        for (path, part) in
            [("begin", "$host/"), ("install", "$here/"), ("inlay.service", "/run/inlay/host/agent/")]
        {
            let text = fs::read_to_string(out.join(path)).unwrap();
            for (at, _) in text.match_indices(part) {
                let name: String = text[at + part.len()..]
                    .chars()
                    .take_while(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(*letter))
                    .collect();
                assert!(name.is_empty() || out.join(&name).exists(), "{path}: {name}");
            }
        }
        let begin = fs::read_to_string(out.join("begin")).unwrap();
        let agent = fs::read_to_string(out.join("units/inlay-agent.service")).unwrap();
        for program in agent.split_whitespace().filter_map(|word| word.strip_prefix("/run/inlay/agent/")) {
            assert!(begin.contains(program.split('/').next().unwrap()), "{program}");
        }
        // What is put in other words for its user is there to be.
        let texts: String =
            IMPORTED_UNITS.map(|unit| fs::read_to_string(out.join("units").join(unit)).unwrap()).concat();
        for line in [
            "\nUser=user\n",
            "\nSocketUser=user\n",
            "\nSocketGroup=user\n",
            "\nConditionKernelCommandLine=inlay.files\n",
            "\nStandardError=journal+console\n",
        ] {
            assert!(texts.contains(line) && begin.contains(line.trim().split('+').next().unwrap()), "{line}");
        }
    }

    #[test]
    fn an_initrd_is_made_anew_only_when_something_of_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let base = path("base");
        fs::write(&base, "base").unwrap();
        fs::copy(std::env::current_exe().unwrap(), path("agent")).unwrap();
        let (agent, out) = (path("agent"), path("initrd"));
        let make = || {
            initrd(&base, &agent, &out).unwrap();
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(&out).unwrap())
        };
        let first = make();
        assert_eq!(make(), first);
        // Of the same length, in place.
        fs::write(&base, "more").unwrap();
        let second = make();
        assert_ne!(second, first);
        assert!(fs::read(&out).unwrap().starts_with(b"more"));
        let whole = fs::read(&out).unwrap();
        fs::write(&out, &whole[..whole.len() / 2]).unwrap();
        assert_ne!(make(), second);
        assert_eq!(fs::read(&out).unwrap(), whole);
        let third = make();
        fs::copy(std::env::current_exe().unwrap(), &agent).unwrap();
        assert_ne!(make(), third);
        fs::remove_file(&out).unwrap();
        make();
        let fourth = make();
        fs::write(out.with_extension("sources"), "no list").unwrap();
        assert_ne!(make(), fourth);
        assert_eq!(fs::read(&out).unwrap(), whole);
        fs::remove_file(&agent).unwrap();
        assert!(initrd(&base, &agent, &out).is_err());
    }

    #[test]
    fn a_script_is_no_agent() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, "#!/bin/sh\n").unwrap();
        let result = agent_cpio(&agent, &folder.path().join("out"));
        assert!(matches!(result, Err(CreateError::BadAgent(_))));
    }

    #[test]
    fn every_command_of_the_init_script_is_there() {
        let known =
            ["[", "echo", "exec", "exit", "fail", "load", "say", "wait", "read", "return", "check", "e2fsck"];
        for applet in INIT.lines().filter_map(|line| line.split_whitespace().next()) {
            let plain = applet.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let keyword = ["if", "fi", "for", "do", "done", "while", "then", "else"].contains(&applet);
            assert!(!plain || keyword || known.contains(&applet) || APPLETS.contains(&applet), "{applet}");
        }
    }
}
