//! What this host lacks, each with the command that mends it (`inlay doctor`).
//!
//! Every check looks at the thing itself: programs are started, drivers opened, rights tried.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use inlay_vmm_core::engine::kvm::{Unfit, probe};
use inlay_vmm_core::engine::qemu;

use crate::create::{self, Mirror};
use crate::process;

/// Oldest QEMU whose vhost-user-gpu works under emulation.
const QEMU_OLDEST: u32 = 8;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All is well.
    Good,
    /// Works without, but something is slower or not possible.
    Note,
    /// Inlay does not work without.
    Missing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Missing => "MISSING",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// What was found, in short.
    pub state: State,
    /// What was found, in words.
    pub found: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Good, found: found.into(), mend: None }
    }

    fn bad(what: &'static str, state: State, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Looks at everything.
#[must_use]
pub fn checks() -> Vec<Check> {
    let mut all = vec![qemu_works()];
    all.extend([
        program("qemu-img", "qemu-utils", "makes root disks"),
        program("mmdebstrap", "mmdebstrap", "builds guests"),
        program("mke2fs", "e2fsprogs", "makes file systems"),
        program("zstd", "zstd", "unpacks kernels"),
        program("setpriv", "util-linux", "starts mmdebstrap"),
        mirror(),
        keyring(),
    ]);
    all.extend((!rustix::process::geteuid().is_root()).then(user_namespace));
    all.extend([kvm(), uefi(), network(), isolation(), folders(), graphics(), display()]);
    all
}

/// Tells what was found; the result is whether nothing is missing.
///
/// # Errors
/// Of writing.
pub fn report(out: &mut dyn Write) -> io::Result<bool> {
    let checks = checks();
    for check in &checks {
        writeln!(out, "{:8} {}: {}", check.state.to_string(), check.what, check.found)?;
        if let Some(mend) = &check.mend {
            writeln!(out, "         mend: {mend}")?;
        }
    }
    Ok(checks.iter().all(|check| check.state != State::Missing))
}

/// The command that installs packages, for this user.
fn install(packages: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install {packages}")
}

fn isolation() -> Check {
    const WHAT: &str = "isolation";
    match crate::machine::landlock_version() {
        Some(version) => {
            Check::good(WHAT, format!("machines reach only their own files (Landlock {version})"))
        }
        None => Check::bad(
            WHAT,
            State::Note,
            "this kernel has no Landlock: machine processes can reach your files",
            "a kernel with Landlock (Linux 5.13 or newer, with `landlock` in its `lsm=` list)",
        ),
    }
}

fn uefi() -> Check {
    const WHAT: &str = "UEFI";
    if create::has_uefi() {
        return Check::good(WHAT, "imported disks that need it can start");
    }
    Check::bad(WHAT, State::Note, "imported disks start by BIOS only", install("ovmf"))
}

/// Tried in a process of its own: it cannot come back from there.
fn folders() -> Check {
    const WHAT: &str = "shared folders";
    let tried = process::own_binary()
        .map_err(|error| error.to_string())
        .and_then(|own| Command::new(own).arg("jail").output().map_err(|error| error.to_string()));
    match tried {
        Ok(out) if out.status.success() => Check::good(WHAT, "their server can be put into a jail"),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let said = process::one_line(said.trim_start_matches("inlay: "));
            let mend = "sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000";
            Check::bad(WHAT, State::Note, format!("machines see none: {said}"), mend)
        }
        Err(error) => Check::bad(WHAT, State::Note, error, "run `inlay doctor` again"),
    }
}

fn qemu_works() -> Check {
    const WHAT: &str = "QEMU";
    let Some(binary) = find("qemu-system-x86_64") else {
        return Check::bad(
            WHAT,
            State::Missing,
            "qemu-system-x86_64 is not in PATH",
            install("qemu-system-x86"),
        );
    };
    let version = match qemu::version(&binary) {
        Ok((major, text)) if major >= QEMU_OLDEST => text,
        Ok((_, text)) => {
            let mend = format!(
                "{}, after adding the suite bookworm-backports to your apt sources (`cargo xtask setup` does both)",
                install("-t bookworm-backports qemu-system-x86")
            );
            let found = format!("version {text} is too old, {QEMU_OLDEST} or newer is needed");
            return Check::bad(WHAT, State::Missing, found, mend);
        }
        Err(error) => return Check::bad(WHAT, State::Missing, error.to_string(), install("qemu-system-x86")),
    };
    let devices = Command::new(&binary).args(["-device", "help"]).output();
    let gpu = devices
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("\"vhost-user-gpu-pci\""));
    if gpu {
        Check::good(WHAT, format!("version {version}, with vhost-user-gpu"))
    } else {
        let found = format!("version {version} lacks the device vhost-user-gpu-pci");
        Check::bad(WHAT, State::Missing, found, install("qemu-system-x86 qemu-system-common"))
    }
}

fn program(name: &'static str, package: &str, purpose: &str) -> Check {
    match find(name) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::bad(name, State::Missing, format!("not installed; it {purpose}"), install(package)),
    }
}

fn mirror() -> Check {
    const WHAT: &str = "Debian mirror";
    match Mirror::of_host(Path::new("/etc/apt")) {
        Ok(mirror) => Check::good(WHAT, mirror.archive),
        Err(error) => Check::bad(WHAT, State::Note, error.to_string(), "inlay create --mirror URL NAME"),
    }
}

fn keyring() -> Check {
    const WHAT: &str = "Debian's archive keys";
    let folder = Path::new("/usr/share/keyrings");
    let known = |name: &str| folder.join(name).exists();
    if known("debian-archive-trixie-stable.gpg") || known("debian-archive-trixie-stable.pgp") {
        return Check::good(WHAT, format!("{}, with those of trixie", folder.display()));
    }
    Check::bad(WHAT, State::Missing, "the keys of trixie are missing", install("debian-archive-keyring"))
}

/// mmdebstrap builds as the root of a user namespace when it is run by a user.
fn user_namespace() -> Check {
    const WHAT: &str = "building as a user";
    if find("newuidmap").is_none() {
        return Check::bad(WHAT, State::Missing, "newuidmap is not installed", install("uidmap"));
    }
    let uid = rustix::process::geteuid().as_raw();
    let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let name = name.unwrap_or_else(|| uid.to_string());
    let listed =
        |file: &str| fs::read_to_string(file).is_ok_and(|text| subordinate_ids(&text, &name, uid) >= 65_536);
    if listed("/etc/subuid") && listed("/etc/subgid") {
        return Check::good(WHAT, "newuidmap and subordinate ids are there");
    }
    let mend = format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}");
    Check::bad(WHAT, State::Missing, "/etc/subuid and /etc/subgid give you no 65536 ids", mend)
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()))?;
    line.split(':').next().map(str::to_owned)
}

/// How many ids a user has in the text of `/etc/subuid`.
fn subordinate_ids(text: &str, name: &str, uid: u32) -> u64 {
    let entry = |line: &str| {
        let mut fields = line.trim().split(':');
        let user = fields.next()?;
        let count: u64 = fields.nth(1)?.parse().ok()?;
        (user == name || user == uid.to_string()).then_some(count)
    };
    text.lines().filter_map(entry).max().unwrap_or(0)
}

fn kvm() -> Check {
    const WHAT: &str = "KVM";
    match probe() {
        Ok(time) => Check::good(
            WHAT,
            format!("runs guests at native speed (a million steps in {time:.1?}): machines run on it"),
        ),
        Err(why @ Unfit::Forbidden) => {
            let found = format!("{why}: machines run under QEMU, by slow emulation");
            Check::bad(WHAT, State::Note, found, "sudo adduser $USER kvm, and log in again")
        }
        Err(why) => Check {
            what: WHAT,
            state: State::Note,
            found: format!("{why}: machines run under QEMU, by slow emulation"),
            mend: None,
        },
    }
}

/// The network of guests on our own engine.
fn network() -> Check {
    const WHAT: &str = "passt";
    match find("passt") {
        Some(path) => Check::good(WHAT, path.display().to_string()),
        None => Check::bad(WHAT, State::Note, "missing: guests on KVM have no network", install("passt")),
    }
}

/// Asks for a driver in the way that the windows do.
fn graphics() -> Check {
    const WHAT: &str = "Vulkan or OpenGL driver";
    for backends in [wgpu::Backends::VULKAN, wgpu::Backends::GL] {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        if let Ok(adapter) =
            pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        {
            let info = adapter.get_info();
            return Check::good(WHAT, format!("{} ({:?})", info.name, info.backend));
        }
    }
    Check::bad(WHAT, State::Missing, "none works", install("mesa-vulkan-drivers libgl1-mesa-dri libegl1"))
}

fn display() -> Check {
    const WHAT: &str = "display";
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let of = |name: &str| Some(format!("{name} is {}", set(name)?));
    match of("WAYLAND_DISPLAY").or_else(|| of("DISPLAY")) {
        Some(found) => Check::good(WHAT, found),
        None => {
            let found = "neither WAYLAND_DISPLAY nor DISPLAY is set: windows cannot be shown";
            Check::bad(WHAT, State::Note, found, "log in to a desktop, or use `inlay start --headless NAME`")
        }
    }
}

/// Where a program is, in `PATH` and the folders of the system's tools.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own: Vec<_> = env::split_paths(&path).collect();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    own.into_iter().chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_thing_has_its_command() {
        let checks = checks();
        assert!(
            checks.iter().filter(|check| check.state == State::Missing).all(|check| check.mend.is_some())
        );
        let mut told = Vec::new();
        let well = report(&mut told).unwrap();
        assert_eq!(well, checks.iter().all(|check| check.state != State::Missing));
        let told = String::from_utf8(told).unwrap();
        assert!(checks.iter().all(|check| told.contains(check.what)), "{told}");
    }

    #[test]
    fn subordinate_ids_of_a_user() {
        let text = "ann:100000:65536\n1001:200000:1000\nbroken\n";
        assert_eq!(subordinate_ids(text, "ann", 1000), 65536);
        assert_eq!(subordinate_ids(text, "bob", 1001), 1000);
        assert_eq!(subordinate_ids(text, "eve", 1002), 0);
        assert_eq!(
            user_name("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n", 1000).unwrap(),
            "ann"
        );
    }

    #[test]
    fn a_missing_program_is_told() {
        let check = program("inlay-no-such-program", "some-package", "does nothing");
        assert_eq!(check.state, State::Missing);
        assert!(check.mend.unwrap().ends_with("apt-get install some-package"));
        assert_eq!(program("sh", "dash", "runs").state, State::Good);
    }
}
