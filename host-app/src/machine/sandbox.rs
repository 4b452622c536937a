//! Keeps the machine process, which holds devices that a hostile guest speaks to, from everything that is not this machine's:
//! files, the desktop's sockets, signals to other programs (Landlock), and new privileges.
//!
//! What must be outside of it is started before: the launcher of window processes, and the guest's network.

use std::path::{Path, PathBuf};

use inlay_vmm_core::confine;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};

/// The newest version of Landlock whose rights are known here; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;
/// Where programs and what they need lie: for an engine that is a program of its own.
const SYSTEM: [&str; 11] =
    ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/nix", "/gnu", "/proc", "/sys"];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/kvm"];

/// The version of Landlock that the running kernel has, if it has it.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call reads and makes nothing; it answers with a number (landlock_create_ruleset(2)).
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(answer).ok().filter(|version| *version > 0)
}

/// What a machine may reach.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// Its own folders: everything in them.
    pub own: Vec<PathBuf>,
    /// Folders whose folders it may remove when they are empty.
    pub parents: Vec<PathBuf>,
    /// Folders that it reads.
    pub reads: Vec<PathBuf>,
    /// A program that it runs, by `PATH`, which may use the network.
    pub program: Option<&'static str>,
}

impl Sandbox {
    /// Enters it with the calling thread and all that it will start. A kernel that cannot enforce it (all of it) is told of in
    /// the log: the machine runs nevertheless.
    pub fn enter(&self) {
        match self.restrict() {
            Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
                tracing::warn!("this kernel has no Landlock: the machine process can reach the user's files");
            }
            Ok(status) => tracing::info!(landlock = ?status.ruleset, "the machine process is confined"),
            Err(error) => {
                tracing::warn!(%error, "the machine process cannot be confined: it can reach the user's files");
            }
        }
    }

    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        confine::prepare();
        let all = AccessFs::from_all(NEWEST);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .scope(Scope::from_all(NEWEST))?;
        if self.program.is_none() {
            ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let mut rules = ruleset.create()?;
        // Nothing in it is a device or a program.
        let own = all & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
        for path in &self.own {
            rules = allow(rules, path, own)?;
        }
        for path in &self.parents {
            rules = allow(rules, path, AccessFs::RemoveDir.into())?;
        }
        for path in &self.reads {
            rules = allow(rules, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        for path in DEVICES {
            rules =
                allow(rules, Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
        }
        if let Some(program) = self.program {
            let folders = SYSTEM.iter().map(PathBuf::from).chain(homes(program));
            for folder in folders {
                rules = allow(rules, &folder, AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir)?;
            }
        }
        rules.restrict_self()
    }
}

/// Where a program that was not installed by the system has its file, and what goes with it.
fn homes(program: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(folder) = std::env::split_paths(&path).find(|folder| folder.join(program).is_file()) else {
        return Vec::new();
    };
    let beside = ["lib", "libexec", "share"].map(|name| folder.with_file_name(name));
    std::iter::once(folder).chain(beside).collect()
}

/// A path that is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => rules.add_rule(PathBeneath::new(fd, access)),
        Err(error) => {
            tracing::debug!(%error, "no rule is made");
            Ok(rules)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::Command;

    const INSIDE: &str = "INLAY_SANDBOX";

    /// Inside, as a process of its own: what is allowed works, and nothing else does. Prints how much the kernel enforces.
    fn inside(folder: &Path) {
        let sandbox = Sandbox {
            own: vec![folder.join("own")],
            parents: vec![folder.to_owned()],
            reads: vec![folder.join("base")],
            program: None,
        };
        let status = sandbox.restrict().unwrap();
        assert!(status.no_new_privs);
        println!("{:?}", status.ruleset);
        if status.ruleset == RulesetStatus::NotEnforced {
            return;
        }
        fs::write(folder.join("own/new"), "x").unwrap();
        fs::rename(folder.join("own/new"), folder.join("own/newer")).unwrap();
        drop(UnixListener::bind(folder.join("own/socket")).unwrap());
        assert_eq!(fs::read(folder.join("base/file")).unwrap(), b"base");
        fs::File::open("/dev/urandom").unwrap();

        let denied = |result: std::io::Result<()>| {
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied));
        };
        denied(fs::read(folder.join("secret")).map(drop));
        denied(fs::read("/etc/passwd").map(drop));
        denied(fs::read_dir("/").map(drop));
        denied(fs::write(folder.join("base/file"), "mine"));
        denied(fs::write(folder.join("left"), "x"));
        denied(fs::rename(folder.join("own/newer"), folder.join("left")));
        denied(Command::new("/bin/true").status().map(drop));
        fs::remove_dir_all(folder.join("own")).unwrap();
        // Since Linux 6.12.
        if status.ruleset == RulesetStatus::FullyEnforced {
            let name = folder.join("desktop");
            let address = SocketAddr::from_abstract_name(name.as_os_str().as_encoded_bytes()).unwrap();
            denied(UnixStream::connect_addr(&address).map(drop));
        }
    }

    #[test]
    fn nothing_but_the_machines_own_can_be_reached() {
        if let Some(folder) = std::env::var_os(INSIDE) {
            return inside(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("own")).unwrap();
        fs::create_dir(folder.path().join("base")).unwrap();
        fs::write(folder.path().join("base/file"), "base").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let name = folder.path().join("desktop");
        let address = SocketAddr::from_abstract_name(name.as_os_str().as_encoded_bytes()).unwrap();
        let _desktop = UnixListener::bind_addr(&address).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "machine::sandbox::tests::nothing_but_the_machines_own_can_be_reached"]);
        let output = command.arg("--nocapture").env(INSIDE, folder.path()).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        // Here it may not exist; the nested machine has it (as its kernel is older, without signals and sockets).
        assert!(text.contains("Enforced"), "{text}");
    }
}
