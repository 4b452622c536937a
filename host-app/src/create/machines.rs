//! Machines on the disk: made, listed, deleted, and what each boots from.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use inlay_vmm_core::devices::block::Format;

use super::import::Uefi;
use super::interrupt::Interrupts;
use super::progress::{Progress, STEPS};
use super::{Base, CreateError, CreateOptions, tool};
use crate::config::{Border, Config, ConfigError};
use crate::dock;
use crate::login;
use crate::paths::{Folders, MachineName, MachinePaths};
use crate::permissions::Permissions;

/// Size of a machine's home disk; only what is written takes space.
const HOME_SIZE: u64 = 16 << 30;

/// Space that a new machine's own files take, in MiB.
const MACHINE_MIB: u64 = 128;

/// Makes a machine: its base image unless there is one already, its disks, its configuration.
///
/// Signals that would end the process are noted meanwhile and answered by cleaning up and [`CreateError::Interrupted`].
///
/// # Errors
/// The name is taken, something is missing on the host or in the mirror, no space. Nothing half-made is left.
pub fn create(options: &CreateOptions, progress: &dyn Progress) -> Result<(), CreateError> {
    let interrupts = Interrupts::noted();
    let result = make(options, progress, &interrupts);
    progress.end();
    result
}

fn make(
    options: &CreateOptions,
    progress: &dyn Progress,
    interrupts: &Interrupts,
) -> Result<(), CreateError> {
    let paths = options.folders.machine(&options.name);
    check_free(&options.folders, &options.name)?;
    let mut config = Config::new("0".repeat(16));
    config.cpus = options.cpus.unwrap_or(config.cpus);
    config.memory = options.memory.unwrap_or(config.memory);
    if !options.integrated {
        config.border = Border::Auto;
    }
    config.check(paths.config())?;
    let base = Base::ensure(&options.folders, &options.base, progress, interrupts)?;
    progress.step(STEPS.len(), STEPS.len(), STEPS[STEPS.len() - 1]);
    let data = options.folders.data();
    // One machine is made at a time, so that the name can be looked up and taken.
    let lock_path = options.folders.bases().join("machines.lock");
    let lock = File::create(&lock_path).map_err(CreateError::io(&lock_path))?;
    lock.lock().map_err(CreateError::io(&lock_path))?;
    check_free(&options.folders, &options.name)?;
    base.id().clone_into(&mut config.base);
    let new = data.join(format!(".new-{}", options.name));
    let made = remove_if_there(&new)
        .and_then(|()| make_disks(&new, &base))
        .and_then(|()| interrupts.check())
        .and_then(|()| permit(&options.folders, &options.name, options.integrated))
        .and_then(|()| publish(&new, &paths, &config));
    made.map_err(|error| {
        let error = error.or_no_space(data, MACHINE_MIB);
        // The next attempt removes what cannot be removed now.
        let _ = fs::remove_dir_all(&new);
        let _ = fs::remove_file(options.folders.permissions(&options.name));
        error
    })
}

/// Whether a name can be given to a new machine.
///
/// # Errors
/// There is one of that name.
pub fn check_free(folders: &Folders, name: &MachineName) -> Result<(), CreateError> {
    let paths = folders.machine(name);
    let exists = paths.config().exists() || paths.data().exists();
    if exists { Err(CreateError::Exists(name.clone())) } else { Ok(()) }
}

/// What the new machine may exchange; an isolated one needs no file. What an earlier one of its name had is not its own.
pub(super) fn permit(folders: &Folders, name: &MachineName, integrated: bool) -> Result<(), CreateError> {
    let file = folders.permissions(name);
    remove_file_if_there(&file)?;
    remove_file_if_there(&folders.shares(name))?;
    remove_file_if_there(&folders.recent(name))?;
    if integrated { Ok(Permissions::integrated().write(&file)?) } else { Ok(()) }
}

fn make_disks(new: &Path, base: &Base) -> Result<(), CreateError> {
    fs::create_dir(new).map_err(CreateError::io(new))?;
    // A relative name, so that all of the user's machines can move together.
    let backing = format!("../.bases/{}/root.ext4", base.id());
    tool::run("qemu-img", "qemu-utils", |command| {
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &backing]).arg(new.join("disk.qcow2"))
    })?;
    let home = new.join("home.raw");
    File::create_new(&home).and_then(|file| file.set_len(HOME_SIZE)).map_err(CreateError::io(&home))?;
    tool::run("mke2fs", "e2fsprogs", |command| {
        let extended = "root_owner=0:0,lazy_journal_init=1";
        command.args(["-q", "-F", "-t", "ext4", "-L", "inlay-home", "-m", "0", "-E", extended]).arg(&home)
    })
}

/// Gives the finished machine its name. The configuration comes first: it is what makes a machine.
pub(super) fn publish(new: &Path, paths: &MachinePaths, config: &Config) -> Result<(), CreateError> {
    if let Some(folder) = paths.config().parent() {
        fs::create_dir_all(folder).map_err(CreateError::io(folder))?;
    }
    config.write_new(paths.config())?;
    fs::rename(new, paths.data()).map_err(|error| {
        // Best effort: the rename's error is the one to tell.
        let _ = fs::remove_file(paths.config());
        CreateError::io(paths.data())(error)
    })
}

/// Names of the machines that have a configuration, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folders: &Folders) -> Result<Vec<MachineName>, CreateError> {
    let folder = folders.configs();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CreateError::io(&folder)(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_suffix(".toml")?.parse::<MachineName>().ok()
    };
    let mut names: Vec<_> = entries.filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Removes a machine that does not run: its configuration, its disks, its logs. Its base stays for others.
///
/// # Errors
/// There is none of that name, it is in use, or its files cannot be removed.
pub fn delete(folders: &Folders, name: &MachineName) -> Result<(), CreateError> {
    let paths = folders.machine(name);
    if !paths.config().exists() && !paths.data().exists() {
        return Err(CreateError::Unknown(name.clone()));
    }
    if paths.data().exists() {
        let lock_path = paths.lock();
        let lock = File::create(&lock_path).map_err(CreateError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CreateError::InUse(name.clone())),
            Err(TryLockError::Error(error)) => return Err(CreateError::io(&lock_path)(error)),
        }
        // Renamed first: a machine is there as a whole or not at all.
        let gone = folders.data().join(format!(".gone-{name}"));
        remove_if_there(&gone)?;
        fs::rename(paths.data(), &gone).map_err(CreateError::io(paths.data()))?;
        remove_file_if_there(paths.config())?;
        remove_if_there(&gone)?;
    }
    remove_file_if_there(&folders.permissions(name))?;
    remove_file_if_there(&folders.shares(name))?;
    remove_file_if_there(&folders.recent(name))?;
    remove_if_there(&folders.copied(name))?;
    dock::forget(folders, name).map_err(CreateError::io(folders.user_data()))?;
    login::switch_off(folders, name).map_err(CreateError::io(folders.user_config()))?;
    remove_file_if_there(paths.config())?;
    remove_if_there(paths.runtime())
}

/// What the engine starts a machine with.
#[derive(Debug, Clone)]
pub enum Boot {
    /// A guest that was built here: its kernel is ours to load.
    Own(BootFiles),
    /// An imported disk, with a boot loader of its own.
    Imported(ImportedFiles),
}

/// An imported machine's files.
#[derive(Debug, Clone)]
pub struct ImportedFiles {
    /// The disk; its serial number must be `inlay-root`.
    pub disk: PathBuf,
    /// Its format.
    pub format: Format,
    /// The UEFI's code and what it remembers; the BIOS is QEMU's own.
    pub uefi: Option<Uefi>,
}

/// What a guest that was built here boots from.
#[derive(Debug, Clone)]
pub struct BootFiles {
    /// Its base image.
    pub base: Base,
    /// The uncompressed kernel.
    pub kernel: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// Root disk: qcow2, its serial number must be `inlay-root`.
    pub root_disk: PathBuf,
    /// Home disk: raw, its serial number must be `inlay-home`.
    pub home_disk: PathBuf,
}

/// Serial number by which the guest knows its root disk.
pub const ROOT_SERIAL: &str = "inlay-root";
/// Serial number by which the guest knows its home disk.
pub const HOME_SERIAL: &str = "inlay-home";

/// What a machine boots from; the initrd of one that was built here is written by [`super::initrd`].
///
/// # Errors
/// There is no such machine, or its configuration or its base is broken, or its firmware is missing.
pub fn boot_files(folders: &Folders, name: &MachineName) -> Result<(Config, Boot), CreateError> {
    let paths = folders.machine(name);
    let config = match Config::read(paths.config()) {
        Err(ConfigError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(CreateError::Unknown(name.clone()));
        }
        other => other?,
    };
    if let Some(firmware) = config.firmware {
        let files = super::import::files(&paths, firmware)?;
        return Ok((config, Boot::Imported(files)));
    }
    let base = Base::find(folders, &config.base)?;
    let (root_disk, home_disk) = (paths.disk(), paths.home_disk());
    for disk in [&root_disk, &home_disk] {
        fs::metadata(disk).map_err(CreateError::io(disk))?;
    }
    let command_line = format!(
        "console=ttyS0 loglevel=4 panic=-1 net.ifnames=0 audit=0 8250.nr_uarts=1 systemd.hostname={name} \
         systemd.show_status=0 systemd.gpt_auto=0"
    );
    Ok((config, Boot::Own(BootFiles { kernel: base.kernel(), base, command_line, root_disk, home_disk })))
}

pub(super) fn remove_if_there(folder: &Path) -> Result<(), CreateError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CreateError::io(folder)(error)),
        _ => Ok(()),
    }
}

fn remove_file_if_there(file: &Path) -> Result<(), CreateError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CreateError::io(file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "0123456789abcdef";

    /// A base as a build would leave it, with a file system that has nothing in it.
    fn with_base() -> (tempfile::TempDir, Folders, Base) {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        let folder = folders.bases().join(BASE);
        fs::create_dir_all(&folder).unwrap();
        for file in ["vmlinux", "initramfs.cpio"] {
            fs::write(folder.join(file), file).unwrap();
        }
        File::create(folder.join("root.ext4")).unwrap().set_len(1 << 20).unwrap();
        let base = Base::find(&folders, BASE).unwrap();
        (root, folders, base)
    }

    fn made(folders: &Folders, base: &Base, name: &str) -> MachineName {
        let name: MachineName = name.parse().unwrap();
        let new = folders.data().join(format!(".new-{name}"));
        make_disks(&new, base).unwrap();
        publish(&new, &folders.machine(&name), &Config::new(base.id().into())).unwrap();
        name
    }

    #[test]
    fn made_listed_deleted() {
        let (_root, folders, base) = with_base();
        assert_eq!(list(&folders).unwrap(), []);
        let (b, a) = (made(&folders, &base, "b"), made(&folders, &base, "a"));
        assert_eq!(list(&folders).unwrap(), [a.clone(), b.clone()]);
        let (config, Boot::Own(boot)) = boot_files(&folders, &a).unwrap() else {
            panic!("it was built here")
        };
        assert_eq!(config.base, BASE);
        assert!(boot.command_line.contains("systemd.hostname=a "));
        tool::run("qemu-img", "qemu-utils", |command| command.args(["check", "-q"]).arg(&boot.root_disk))
            .unwrap();
        tool::run("e2fsck", "e2fsprogs", |command| command.arg("-fn").arg(&boot.home_disk)).unwrap();

        let again = CreateOptions {
            integrated: true,
            folders: folders.clone(),
            name: a.clone(),
            base: super::super::BaseRequest::default(),
            cpus: None,
            memory: None,
        };
        assert!(matches!(create(&again, &super::super::Quiet), Err(CreateError::Exists(_))));

        let held = File::create(folders.machine(&a).lock()).unwrap();
        held.lock().unwrap();
        assert!(matches!(delete(&folders, &a), Err(CreateError::InUse(_))));
        drop(held);
        delete(&folders, &a).unwrap();
        assert!(matches!(delete(&folders, &a), Err(CreateError::Unknown(_))));
        assert!(matches!(boot_files(&folders, &a), Err(CreateError::Unknown(_))));
        assert_eq!(list(&folders).unwrap(), [b]);
        let left: Vec<_> = fs::read_dir(folders.data()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_missing_base_is_told() {
        let (_root, folders, base) = with_base();
        let name = made(&folders, &base, "m");
        fs::remove_file(base.kernel()).unwrap();
        assert!(matches!(boot_files(&folders, &name), Err(CreateError::NoBase { .. })));
    }
}
