//! Installs Debian packages that are missing; derives the backports' entry of apt's sources from the one that this machine
//! has already, so that the same mirror serves both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::shell;

/// Oldest QEMU whose vhost-user-gpu works under emulation.
const QEMU_OLDEST: u32 = 8;

/// Installs those packages of the groups that are missing.
pub fn ensure(groups: &[&[&str]]) -> Result<()> {
    let wanted: Vec<&str> = groups.iter().flat_map(|group| group.iter().copied()).collect();
    let missing: Vec<&str> = missing(&wanted)?;
    let with_qemu = wanted.contains(&packages::QEMU[0]);
    let old_qemu = with_qemu && qemu_version().is_none_or(|major| major < QEMU_OLDEST);
    if missing.is_empty() && !old_qemu {
        return Ok(());
    }
    let release = debian_release().with_context(|| {
        format!("this is not Debian: install by hand what these packages hold: {}", wanted.join(" "))
    })?;
    println!(
        "installing packages: {}",
        if missing.is_empty() { "a newer QEMU".into() } else { missing.join(" ") }
    );
    let backports = old_qemu && release == "bookworm";
    if backports {
        add_backports(&release)?;
    }
    as_root(&["apt-get", "update", "-qq"])?;
    let plain: Vec<&str> =
        missing.iter().copied().filter(|name| !backports || !packages::QEMU.contains(name)).collect();
    if !plain.is_empty() {
        install(&[], &plain)?;
    }
    if backports {
        install(&["-t", &format!("{release}-backports")], packages::QEMU)?;
    }
    if with_qemu && qemu_version().is_none_or(|major| major < QEMU_OLDEST) {
        bail!(
            "the installed QEMU is older than version {QEMU_OLDEST}; Debian 12 with backports or Debian 13 has a newer one"
        );
    }
    Ok(())
}

fn install(options: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq", "-y"];
    command.push("--no-install-recommends");
    command.extend(options);
    command.extend(packages);
    as_root(&command)
}

/// Which of these packages are not installed.
fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("this is not Debian: there is no dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(wanted.iter().copied().filter(|name| !installed.contains(name)).collect())
}

/// Major version of the QEMU that is installed.
fn qemu_version() -> Option<u32> {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_once("version ")?.1.split('.').next()?.parse().ok()
}

/// Codename of this Debian.
fn debian_release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim_matches('"').to_owned()))
    };
    if value("ID").as_deref() != Some("debian") {
        bail!("its ID in /etc/os-release is not debian");
    }
    value("VERSION_CODENAME").context("/etc/os-release names no release")
}

fn as_root(command: &[&str]) -> Result<()> {
    let root = shell::output("id", &["-u"])?.trim() == "0";
    let mut whole = if root { vec![] } else { vec!["sudo"] };
    whole.extend(command);
    let (program, arguments) = whole.split_first().context("an empty command")?;
    let status = Command::new(program)
        .args(arguments)
        // Installers chat; what goes wrong is told on standard error.
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {program} (packages need root)"))?;
    if status.success() { Ok(()) } else { bail!("`{}` failed", whole.join(" ")) }
}

/// Adds the suite of backports unless apt knows it.
fn add_backports(release: &str) -> Result<()> {
    let suite = format!("{release}-backports");
    let files = source_files(Path::new("/etc/apt"))?;
    if files.iter().any(|(_, text)| text.lines().any(|line| !line.starts_with('#') && line.contains(&suite)))
    {
        return Ok(());
    }
    let (extension, entry) =
        files.iter().find_map(|(path, text)| derived(path, text, release, &suite)).with_context(|| {
            format!("no entry for {release} in this machine's apt sources to derive {suite} from")
        })?;
    let target = format!("/etc/apt/sources.list.d/inlay-backports.{extension}");
    println!("adding {suite} in {target}");
    // Through a file, as only `install` may need root.
    let new = std::env::temp_dir().join(format!("inlay-backports-{}", std::process::id()));
    fs::write(&new, entry).with_context(|| format!("cannot write {}", new.display()))?;
    let result = as_root(&["install", "-m", "644", &new.to_string_lossy(), &target]);
    fs::remove_file(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    result
}

/// apt's source files with their texts.
fn source_files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut paths = vec![folder.join("sources.list")];
    if let Ok(entries) = fs::read_dir(folder.join("sources.list.d")) {
        paths.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    paths.retain(|path| {
        path.extension().is_some_and(|end| end == "list" || end == "sources") && path.is_file()
    });
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, text))
    };
    paths.into_iter().map(read).collect()
}

/// The entry for another suite, made from the one that a file has for `release`, with the kind of file it belongs in.
fn derived(path: &Path, text: &str, release: &str, suite: &str) -> Option<(&'static str, String)> {
    if path.extension().is_some_and(|extension| extension == "sources") {
        return Some(("sources", derived_stanza(text, release, suite)?));
    }
    let line = text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|word| *word == release)?;
        let debian = words.first() == Some(&"deb") && words.get(place + 1..)?.contains(&"main");
        debian.then(|| [&words[..place], &[suite, "main"]].concat().join(" "))
    })?;
    Some(("list", line + "\n"))
}

/// The same in deb822 form: the fields of the stanza, with another suite.
fn derived_stanza(text: &str, release: &str, suite: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in stanza {
            match line.split_once(':') {
                Some((name, value)) if !line.starts_with([' ', '\t']) => {
                    fields.push((name, value.split_whitespace().collect()));
                }
                _ => fields.last_mut()?.1.extend(line.split_whitespace()),
            }
        }
        let field = |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let holds = |name: &str, word: &str| field(name).is_some_and(|(_, words)| words.contains(&word));
        if !holds("Suites", release)
            || !holds("Types", "deb")
            || !holds("Components", "main")
            || holds("Enabled", "no")
        {
            continue;
        }
        let mut entry = String::new();
        for (name, words) in &fields {
            let value = match name.to_ascii_lowercase().as_str() {
                "types" => "deb".to_owned(),
                "suites" => suite.to_owned(),
                "components" => "main".to_owned(),
                // Keys may stand in the stanza itself, over several lines.
                "signed-by" if words.iter().any(|word| word.contains("BEGIN")) => return None,
                _ => words.join(" "),
            };
            entry.push_str(&format!("{name}: {value}\n"));
        }
        return Some(entry);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backports(name: &str, text: &str) -> Option<(&'static str, String)> {
        derived(Path::new(name), text, "bookworm", "bookworm-backports")
    }

    #[test]
    fn from_one_line_entries() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb http://a.example/security bookworm-security main\n\
                    deb [signed-by=/k.gpg arch=amd64] http://a.example/debian bookworm main contrib # c\n";
        let (kind, entry) = backports("sources.list", text).unwrap();
        assert_eq!(kind, "list");
        assert_eq!(
            entry,
            "deb [signed-by=/k.gpg arch=amd64] http://a.example/debian bookworm-backports main\n"
        );
        assert!(backports("sources.list", "deb-src http://a.example/debian bookworm main\n").is_none());
        assert!(backports("sources.list", "deb http://a.example/debian trixie main\n").is_none());
    }

    #[test]
    fn from_stanzas() {
        let text = "Types: deb\nURIs: http://a.example/security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb deb-src\n# c\nURIs: http://a.example/debian\nSuites: bookworm\n bookworm-updates\n\
                    Components: main contrib\nSigned-By: /usr/share/keyrings/k.gpg\n";
        let (kind, entry) = backports("debian.sources", text).unwrap();
        assert_eq!(kind, "sources");
        assert_eq!(
            entry,
            "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/k.gpg\n"
        );
        assert!(
            backports("x.sources", "Types: deb\nURIs: u\nSuites: nodistro\nComponents: main\n").is_none()
        );
    }

    #[test]
    fn missing_packages() {
        assert_eq!(missing(&["dpkg", "inlay-no-such-package"]).unwrap(), ["inlay-no-such-package"]);
    }
}
