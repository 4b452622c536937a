//! Machines of disks that were not made here: a Linux with its own boot loader, under QEMU, which has the firmware for it.
//!
//! The disk is copied, in its format and with its holes; whoever gives it keeps it as it is. What is in it comes from anywhere: of an
//! image's header only what is checked here counts, and no other file is ever opened because it is named there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use inlay_vmm_core::devices::block::{Format, Image, ImageConfig, ImageError};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::interrupt::Interrupts;
use super::machines::{ImportedFiles, check_free, permit, publish, remove_if_there};
use super::progress::Progress;
use super::{CreateError, free_mib, loader};
use crate::config::{Accel, Border, Config, Firmware};
use crate::paths::{Folders, MachineName, MachinePaths};

/// Read and written at once; as many zeroes become a hole.
const CHUNK: usize = 1 << 20;
/// Space that is left beside the copy, in MiB.
const BESIDE_MIB: u64 = 64;
/// How an image begins that has QEMU's format.
const QCOW2: [u8; 4] = *b"QFI\xfb";
/// Formats that are known and not taken: where they have which bytes.
const OTHERS: [(usize, &[u8], &str); 6] = [
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"conectix", "vpc"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"QED\0", "qed"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "vdi"),
];
/// Where distributions have UEFI for QEMU: its code, and what it remembers at first.
const UEFI: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

/// What `inlay import` is asked for.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The user's folders.
    pub folders: Folders,
    /// Name of the new machine.
    pub name: MachineName,
    /// The disk.
    pub disk: PathBuf,
    /// What runs its boot loader; as the disk looks when not given.
    pub firmware: Option<Firmware>,
    /// Processors, if not the default.
    pub cpus: Option<u32>,
    /// Memory in MiB, if not the default.
    pub memory: Option<u32>,
    /// Whether it is a part of the user's desktop, or kept apart.
    pub integrated: bool,
    /// Whether the host's KVM runs guests.
    pub kvm: bool,
}

/// Why a disk cannot be a machine's.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is none, or it may not be read.
    #[error("cannot read the disk {path}")]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file.
    #[error("{0} is not a file: import an image of the disk")]
    NoFile(PathBuf),
    /// It is of a format that is not taken.
    #[error(
        "{path} is a disk of the format {format}: `qemu-img convert -O qcow2` makes one that can be imported"
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Its name.
        format: &'static str,
    },
    /// A part of its content is in another file.
    #[error(
        "{0} is only a part of a disk, and names another file that has the rest: `qemu-img convert -O qcow2` makes a whole one"
    )]
    Part(PathBuf),
    /// It is encrypted by its format.
    #[error("the image {0} is encrypted: `qemu-img convert -O qcow2` makes one that is not")]
    Encrypted(PathBuf),
    /// Its header makes no sense, or somebody uses it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It has no boot loader.
    #[error(
        "{0} does not look like a disk with a boot loader: it has neither boot code nor an EFI system partition (--firmware takes it all the same)"
    )]
    NoLoader(PathBuf),
    /// There is no UEFI.
    #[error("this disk boots by UEFI, which is not installed: apt-get install ovmf")]
    NoUefi,
    /// The UEFI that this machine began with is gone.
    #[error("the UEFI that this machine was imported with is not installed: apt-get install ovmf")]
    UefiGone,
}

/// A UEFI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    /// Its code, which nobody changes.
    pub code: PathBuf,
    /// What it remembers.
    pub variables: PathBuf,
}

/// Makes a machine of a copy of somebody's disk; what its boot loader needs.
///
/// Signals that would end the process are answered by cleaning up and [`CreateError::Interrupted`].
///
/// # Errors
/// The name is taken, the disk is none, in use, or not taken; no space. Nothing half-made is left.
pub fn import(options: &ImportOptions, progress: &dyn Progress) -> Result<Firmware, CreateError> {
    let interrupts = Interrupts::noted();
    let result = make(options, progress, &interrupts);
    progress.end();
    result
}

fn make(
    options: &ImportOptions,
    progress: &dyn Progress,
    interrupts: &Interrupts,
) -> Result<Firmware, CreateError> {
    let paths = options.folders.machine(&options.name);
    check_free(&options.folders, &options.name)?;
    let source = Source::open(&options.disk)?;
    let firmware = match options.firmware {
        Some(firmware) => firmware,
        None => source.firmware()?,
    };
    let uefi = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => Some(installed(&UEFI).next().ok_or(ImportError::NoUefi)?),
    };
    let mut config = Config::imported(firmware);
    config.cpus = options.cpus.unwrap_or(config.cpus);
    config.memory = options.memory.unwrap_or(config.memory);
    config.accel = if options.kvm { Accel::Kvm } else { Accel::Tcg };
    if !options.integrated {
        config.border = Border::Auto;
    }
    config.check(paths.config())?;

    let (data, bases) = (options.folders.data(), options.folders.bases());
    fs::create_dir_all(&bases).map_err(CreateError::io(&bases))?;
    let need_mib = source.taken.div_ceil(1 << 20) + BESIDE_MIB;
    let free = free_mib(data).map_err(CreateError::io(data))?;
    if free < need_mib {
        return Err(CreateError::NoSpace { folder: data.into(), need_mib, free_mib: free });
    }
    // One machine is made at a time, so that the name can be looked up and taken.
    let lock_path = bases.join("machines.lock");
    let lock = File::create(&lock_path).map_err(CreateError::io(&lock_path))?;
    lock.lock().map_err(CreateError::io(&lock_path))?;
    check_free(&options.folders, &options.name)?;
    progress.step(1, 1, "copying the disk");
    let new = data.join(format!(".new-{}", options.name));
    let made = remove_if_there(&new)
        .and_then(|()| fs::create_dir(&new).map_err(CreateError::io(&new)))
        .and_then(|()| source.copy(&new.join(source.name()), progress, interrupts))
        .and_then(|()| match &uefi {
            Some((_, variables)) => {
                let to = new.join("uefi-variables.fd");
                let copied = fs::read(variables).and_then(|bytes| fs::write(&to, bytes));
                copied.map_err(CreateError::io(&to))
            }
            None => Ok(()),
        })
        .and_then(|()| interrupts.check())
        .and_then(|()| permit(&options.folders, &options.name, options.integrated))
        .and_then(|()| publish(&new, &paths, &config));
    made.map_err(|error| {
        let error = error.or_no_space(data, need_mib);
        // The next attempt removes what cannot be removed now.
        let _ = fs::remove_dir_all(&new);
        let _ = fs::remove_file(options.folders.permissions(&options.name));
        error
    })?;
    Ok(firmware)
}

/// The files of an imported machine.
pub(super) fn files(paths: &MachinePaths, firmware: Firmware) -> Result<ImportedFiles, CreateError> {
    // By its name, as what is in it can be written by the guest.
    let (raw, qcow2) = (paths.raw_disk(), paths.disk());
    let (disk, format) = if raw.exists() { (raw, Format::Raw) } else { (qcow2, Format::Qcow2) };
    fs::metadata(&disk).map_err(CreateError::io(&disk))?;
    let uefi = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => Some(uefi(paths.uefi_variables())?),
    };
    Ok(ImportedFiles { disk, format, uefi })
}

/// The UEFI that goes with what a machine's remembers: code and variables of different sizes are of different builds.
fn uefi(variables: PathBuf) -> Result<Uefi, CreateError> {
    let size = |path: &Path| Ok::<_, CreateError>(fs::metadata(path).map_err(CreateError::io(path))?.len());
    let own = size(&variables)?;
    for (code, first) in installed(&UEFI) {
        if size(first)? == own {
            return Ok(Uefi { code: code.into(), variables });
        }
    }
    Err(ImportError::UefiGone.into())
}

/// Whether a UEFI is installed.
#[must_use]
pub fn has_uefi() -> bool {
    installed(&UEFI).next().is_some()
}

fn installed<'a>(known: &'a [(&str, &str)]) -> impl Iterator<Item = (&'a Path, &'a Path)> {
    let pairs = known.iter().map(|(code, variables)| (Path::new(*code), Path::new(*variables)));
    pairs.filter(|(code, variables)| code.is_file() && variables.is_file())
}

/// Somebody's disk, which nobody writes to while this is here.
struct Source {
    path: PathBuf,
    file: File,
    format: Format,
    image: Image,
    /// Bytes of the file, and those that are no holes.
    length: u64,
    taken: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let unread = |source| ImportError::Unread { path: path.into(), source };
        let meta = fs::metadata(path).map_err(unread)?;
        if !meta.is_file() {
            return Err(ImportError::NoFile(path.into()));
        }
        let file = File::open(path).map_err(unread)?;
        let format = format(path, &head(&file).map_err(unread)?)?;
        let image = ImageConfig { path: path.into(), format, read_only: true, backing_folders: Vec::new() };
        let (length, blocks) = (meta.len(), meta.blocks().saturating_mul(512));
        Ok(Self {
            path: path.into(),
            file,
            format,
            image: Image::open(&image)?,
            length,
            taken: blocks.min(length),
        })
    }

    /// What runs its boot loader.
    fn firmware(&self) -> Result<Firmware, ImportError> {
        let unread = |source| ImportError::Unread { path: self.path.clone(), source };
        let none = || ImportError::NoLoader(self.path.clone());
        if self.image.size() < 512 {
            return Err(none());
        }
        loader::firmware(|bytes, at| self.image.read_bytes(bytes, at)).map_err(unread)?.ok_or_else(none)
    }

    /// The copy's name in a machine's folder.
    fn name(&self) -> &'static str {
        match self.format {
            Format::Raw => "disk.raw",
            Format::Qcow2 => "disk.qcow2",
        }
    }

    /// Copies it, without what is zero.
    fn copy(&self, to: &Path, progress: &dyn Progress, interrupts: &Interrupts) -> Result<(), CreateError> {
        let unread = |source| ImportError::Unread { path: self.path.clone(), source };
        let out = File::create_new(to).map_err(CreateError::io(to))?;
        let mut bytes = vec![0; CHUNK];
        let (mut at, mut done) = (0, 0);
        while at < self.length {
            interrupts.check()?;
            // File systems that know no holes say that all is data.
            at = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(error) => return Err(unread(error.into()).into()),
            };
            let rest = usize::try_from(self.length.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let count = self.file.read_at(&mut bytes[..rest], at).map_err(unread)?;
            if count == 0 {
                break;
            }
            if bytes[..count].iter().any(|byte| *byte != 0) {
                out.write_all_at(&bytes[..count], at).map_err(CreateError::io(to))?;
            }
            at += count as u64;
            done += count as u64;
            progress.part(done.min(self.taken), self.taken);
        }
        out.set_len(self.length).and_then(|()| out.sync_all()).map_err(CreateError::io(to))
    }
}

/// The first bytes of a file, as many as there are.
fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 512];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The format of an image, by how it begins; an image that needs other files is refused before anybody opens those.
fn format(path: &Path, head: &[u8]) -> Result<Format, ImportError> {
    let known =
        |(at, bytes, _): &&(usize, &[u8], &str)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes));
    if let Some((_, _, format)) = OTHERS.iter().find(known) {
        return Err(ImportError::Format { path: path.into(), format });
    }
    if !head.starts_with(&QCOW2) {
        return Ok(Format::Raw);
    }
    // QEMU, docs/interop/qcow2.txt: "Header".
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at + size).unwrap_or_default();
        bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (version, backing, encrypted) = (number(4, 4), number(8, 8), number(32, 4));
    // Bit 2 of what cannot be ignored: the data is in a file of its own.
    let elsewhere = version >= 3 && number(72, 8) & 4 != 0;
    if backing != 0 || elsewhere {
        return Err(ImportError::Part(path.into()));
    }
    if encrypted != 0 {
        return Err(ImportError::Encrypted(path.into()));
    }
    Ok(Format::Qcow2)
}

#[cfg(test)]
mod tests {
    use super::super::{Quiet, tool};
    use super::*;

    struct Home {
        root: tempfile::TempDir,
        folders: Folders,
    }

    impl Home {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let folders = Folders::below(&root.path().join("home")).unwrap();
            Self { root, folders }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// A disk with boot code, and with a byte far behind.
        fn disk(&self, name: &str) -> PathBuf {
            let path = self.path(name);
            let file = File::create(&path).unwrap();
            file.set_len(3 << 30).unwrap();
            file.write_all_at(&[0xeb, 0x3c], 0).unwrap();
            file.write_all_at(&[0x55, 0xaa], 510).unwrap();
            file.write_all_at(b"far", 2 << 30).unwrap();
            path
        }

        fn image(&self, arguments: &[&str]) -> PathBuf {
            tool::run("qemu-img", "qemu-utils", |command| {
                command.arg("create").arg("-q").args(arguments).current_dir(self.root.path())
            })
            .unwrap();
            self.path(arguments.last().unwrap())
        }

        fn import(&self, name: &str, disk: &Path) -> Result<Firmware, CreateError> {
            let options = ImportOptions {
                folders: self.folders.clone(),
                name: name.parse().unwrap(),
                disk: disk.into(),
                firmware: None,
                cpus: None,
                memory: None,
                integrated: false,
                kvm: false,
            };
            import(&options, &Quiet)
        }

        /// It is not taken; why, and nothing is left of it.
        #[track_caller]
        fn refuses(&self, disk: &Path) -> String {
            let error = self.import("bad", disk).unwrap_err();
            let data = self.folders.data();
            let left = fs::read_dir(data).into_iter().flatten().flatten().map(|entry| entry.file_name());
            assert!(left.into_iter().all(|name| name == ".bases" || name == "good"));
            assert!(!self.folders.machine(&"bad".parse().unwrap()).config().exists());
            crate::machine::door::chain(&error)
        }
    }

    #[test]
    fn a_disk_is_copied_with_its_holes_and_kept() {
        let home = Home::new();
        let disk = home.disk("disk");
        assert_eq!(home.import("good", &disk).unwrap(), Firmware::Bios);
        let paths = home.folders.machine(&"good".parse().unwrap());
        let copy = fs::metadata(paths.raw_disk()).unwrap();
        assert_eq!(copy.len(), 3 << 30);
        assert!(copy.blocks() * 512 < 8 << 20, "{}", copy.blocks());
        let mut bytes = [0; 3];
        File::open(paths.raw_disk()).unwrap().read_exact_at(&mut bytes, 2 << 30).unwrap();
        assert_eq!(&bytes, b"far");
        let config = Config::read(paths.config()).unwrap();
        assert_eq!((config.firmware, config.border), (Some(Firmware::Bios), Border::Auto));
        assert_eq!(files(&paths, Firmware::Bios).unwrap().format, Format::Raw);
        assert!(matches!(home.import("good", &disk), Err(CreateError::Exists(_))));

        tool::run("qemu-img", "qemu-utils", |command| {
            command.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&disk).arg(home.path("disk.qcow2"))
        })
        .unwrap();
        assert_eq!(home.import("other", &home.path("disk.qcow2")).unwrap(), Firmware::Bios);
        let paths = home.folders.machine(&"other".parse().unwrap());
        assert_eq!(fs::read(paths.disk()).unwrap(), fs::read(home.path("disk.qcow2")).unwrap());
        assert_eq!(files(&paths, Firmware::Bios).unwrap().format, Format::Qcow2);
    }

    #[test]
    fn what_is_no_disk_is_told_and_leaves_nothing() {
        let home = Home::new();
        assert!(home.refuses(&home.path("none")).contains("No such file"));
        assert!(home.refuses(home.root.path()).contains("not a file"));
        fs::write(home.path("text"), "hello\n").unwrap();
        assert!(home.refuses(&home.path("text")).contains("boot loader"));
        fs::write(home.path("empty"), "").unwrap();
        assert!(home.refuses(&home.path("empty")).contains("boot loader"));
        home.disk("base");
        let overlay = home.image(&["-f", "qcow2", "-F", "raw", "-b", "base", "overlay"]);
        assert!(home.refuses(&overlay).contains("only a part"));
        let data = home.image(&["-f", "qcow2", "-o", "data_file=data", "with-data", "1M"]);
        assert!(
            home.refuses(&home.path("1M").with_file_name("with-data")).contains("only a part"),
            "{data:?}"
        );
        let vmdk = home.image(&["-f", "vmdk", "disk.vmdk", "1M"]).with_file_name("disk.vmdk");
        assert!(home.refuses(&vmdk).contains("format vmdk"));
        let blank = home.image(&["-f", "qcow2", "blank", "1M"]).with_file_name("blank");
        assert!(home.refuses(&blank).contains("boot loader"));
        // A header and nothing behind it, and one that is cut off.
        fs::write(home.path("cut"), &fs::read(&blank).unwrap()[..80]).unwrap();
        assert!(home.refuses(&home.path("cut")).contains("cannot be used"));
        let mut lies = fs::read(&blank).unwrap();
        lies[24..32].fill(0xff);
        fs::write(home.path("lies"), lies).unwrap();
        let said = home.refuses(&home.path("lies"));
        assert!(said.contains("cannot be used") || said.contains("cannot read"), "{said}");
    }

    #[test]
    fn a_disk_that_a_machine_uses_is_told() {
        let home = Home::new();
        let disk = home.disk("disk");
        let config = ImageConfig {
            path: disk.clone(),
            format: Format::Raw,
            read_only: false,
            backing_folders: Vec::new(),
        };
        let used = Image::open(&config).unwrap();
        assert!(home.refuses(&disk).contains("in use by another machine"));
        drop(used);
        home.import("good", &disk).unwrap();
    }

    #[test]
    fn a_uefi_is_found_by_what_the_machine_remembers() {
        let home = Home::new();
        let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
        let names = ["code", "variables", "none"].map(path);
        for name in &names[..2] {
            fs::write(name, name).unwrap();
        }
        let known = [(names[0].as_str(), names[2].as_str()), (&names[0], &names[1])];
        assert_eq!(installed(&known).collect::<Vec<_>>(), [(Path::new(&names[0]), Path::new(&names[1]))]);
        fs::write(home.path("own"), "of another size").unwrap();
        assert!(matches!(uefi(home.path("own")), Err(CreateError::Import(ImportError::UefiGone))));
    }
}
