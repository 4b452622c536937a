//! Base images: built once, named by their content, shared read-only by their machines.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::bootstrap::{self, Outputs};
use super::interrupt::Interrupts;
use super::mirror::Mirror;
use super::progress::{Progress, STEPS};
use super::{CreateError, free_mib, initramfs, kernel, tool, write_whole};
use crate::paths::Folders;

/// Size of a machine's root disk; only what is written takes space.
const ROOT_SIZE: u64 = 16 << 30;

/// Space that a build takes at its peak, in MiB.
const BUILD_MIB: u64 = 2048;

/// Begins the names of unfinished builds.
const WORK: &str = "work-";

/// What a base image is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRequest {
    /// Debian suite.
    pub suite: String,
    /// Packages beside those that every guest has.
    pub packages: Vec<String>,
    /// Address of a Debian mirror instead of the host's own.
    pub mirror: Option<String>,
    /// The locale that it has beside C.UTF-8 ([`crate::locale::generated`]).
    pub locale: Option<String>,
}

impl Default for BaseRequest {
    fn default() -> Self {
        Self { suite: "trixie".into(), packages: Vec::new(), mirror: None, locale: None }
    }
}

impl BaseRequest {
    /// Checks the names, before they become parts of a command line.
    pub(super) fn check(&self) -> Result<(), CreateError> {
        if !super::mirror::is_suite(&self.suite) {
            return Err(CreateError::Suite(self.suite.clone()));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let package = |name: &&String| {
            name.len() < 2
                || !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                || !name.bytes().all(|byte| plain(byte) || b"+.-".contains(&byte))
        };
        match self.packages.iter().find(package) {
            Some(bad) => Err(CreateError::Package(bad.clone())),
            None => Ok(()),
        }
    }

    /// All packages, sorted, each once.
    pub(super) fn all_packages(&self) -> Vec<String> {
        let mut all: Vec<_> = bootstrap::PACKAGES.iter().map(|name| (*name).to_owned()).collect();
        all.extend(self.packages.iter().cloned());
        all.extend(self.locale.iter().map(|_| "locales".to_owned()));
        all.sort();
        all.dedup();
        all
    }

    /// The same for the same request under the same recipe; mirrors serve the same packages.
    fn key(&self) -> String {
        let locale = self.locale.as_deref().unwrap_or_default();
        let request = format!("{}\n{}\n{locale}\n{ROOT_SIZE}\n", self.suite, self.all_packages().join(" "));
        id(&[request.as_bytes(), bootstrap::RECIPE.as_bytes()])
    }
}

/// A base image on the disk.
#[derive(Debug, Clone)]
pub struct Base {
    id: String,
    folder: PathBuf,
}

impl Base {
    /// The one of this id.
    ///
    /// # Errors
    /// It is not there, or a file of it is missing.
    pub fn find(folders: &Folders, id: &str) -> Result<Self, CreateError> {
        let base = Self { id: id.into(), folder: folders.bases().join(id) };
        let whole = [base.root(), base.kernel(), base.initramfs()].iter().all(|file| file.is_file());
        let missing = || CreateError::NoBase { id: id.into(), folder: folders.bases() };
        if whole { Ok(base) } else { Err(missing()) }
    }

    /// The one for this request, built if it is not there; waits for another process that builds.
    pub(super) fn ensure(
        folders: &Folders,
        request: &BaseRequest,
        progress: &dyn Progress,
        interrupts: &Interrupts,
    ) -> Result<Self, CreateError> {
        request.check()?;
        let bases = folders.bases();
        fs::create_dir_all(&bases).map_err(CreateError::io(&bases))?;
        let _lock = lock(&bases, progress, interrupts)?;
        let index = bases.join(format!("request-{}", request.key()));
        if let Ok(id) = fs::read_to_string(&index)
            && let Ok(base) = Self::find(folders, id.trim())
        {
            return Ok(base);
        }
        remove_unfinished(&bases)?;
        let id = build(&bases, request, progress, interrupts)
            .map_err(|error| error.or_no_space(&bases, BUILD_MIB))?;
        write_whole(&index, id.as_bytes()).map_err(CreateError::io(&index))?;
        Self::find(folders, &id)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its root disk: an ext4 file system, never written to.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.ext4")
    }

    /// Its kernel, unpacked.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Its half of the initramfs.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio")
    }

    /// Its packages with their versions, one a line.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.join("manifest")
    }
}

/// Builds in a folder of its own that is renamed to the base's id at the end, and removed if it does not come to that.
fn build(
    bases: &Path,
    request: &BaseRequest,
    progress: &dyn Progress,
    interrupts: &Interrupts,
) -> Result<String, CreateError> {
    let free = free_mib(bases).map_err(CreateError::io(bases))?;
    if free < BUILD_MIB {
        return Err(CreateError::NoSpace { folder: bases.into(), need_mib: BUILD_MIB, free_mib: free });
    }
    let mirror = match &request.mirror {
        Some(url) => Mirror::given(url)?,
        None => Mirror::of_host(Path::new("/etc/apt"))?,
    };
    let work = bases.join(format!("{WORK}{}", std::process::id()));
    fs::create_dir(&work).map_err(CreateError::io(&work))?;
    let temporary = bootstrap::temporary(&work);
    let result = fs::create_dir(&temporary)
        .map_err(CreateError::io(&temporary))
        .and_then(|()| Build { work: &work, request, progress, interrupts }.run(bases, &mirror, &temporary));
    for folder in [&temporary, &work] {
        match remove_tree(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // What failed is worth more than what is left of it, which the next build removes.
                tracing::warn!("{}: {error}", folder.display());
            }
            _ => {}
        }
    }
    result
}

/// One build.
struct Build<'a> {
    /// Its own folder, beside the base's final place.
    work: &'a Path,
    request: &'a BaseRequest,
    progress: &'a dyn Progress,
    interrupts: &'a Interrupts,
}

impl Build<'_> {
    fn run(&self, bases: &Path, mirror: &Mirror, temporary: &Path) -> Result<String, CreateError> {
        let base = Base { id: String::new(), folder: self.work.join("base") };
        let parts = self.work.join("parts");
        let archive = parts.join("parts.tar");
        let mode = |folder: &Path, mode| {
            fs::set_permissions(folder, Permissions::from_mode(mode)).map_err(CreateError::io(folder))
        };
        for folder in [&base.folder, &parts] {
            fs::create_dir(folder).map_err(CreateError::io(folder))?;
            mode(folder, 0o700)?;
        }
        // mmdebstrap drops privileges for its downloads, which must reach its folder.
        mode(self.work, 0o711)?;
        mode(temporary, 0o711)?;
        let open = |path: &Path| -> io::Result<File> {
            let file = File::options().read(true).write(true).create_new(true).open(path)?;
            // The root of a user namespace is not this user; no one else can reach the folder by name.
            file.set_permissions(Permissions::from_mode(0o666))?;
            Ok(file)
        };
        let image = open(&base.root()).map_err(CreateError::io(&base.root()))?;
        image.set_len(ROOT_SIZE).map_err(CreateError::io(&base.root()))?;
        let outputs = Outputs { image, parts: open(&archive).map_err(CreateError::io(&archive))? };
        bootstrap::run(self.request, mirror, temporary, &outputs, self.progress, self.interrupts)?;
        outputs.image.sync_all().map_err(CreateError::io(&base.root()))?;

        self.interrupts.check()?;
        self.progress.step(6, STEPS.len(), STEPS[5]);
        tool::run("tar", "tar", |tar| {
            tar.arg("--no-same-owner").arg("-C").arg(&parts).arg("-xf").arg(&archive)
        })?;
        kernel::unpack(&parts.join("vmlinuz"), &base.kernel())?;
        initramfs::base_cpio(&parts, &base.initramfs())?;
        let manifest = fs::read(parts.join("manifest")).map_err(CreateError::io(&parts))?;
        fs::write(base.manifest(), &manifest).map_err(CreateError::io(&base.manifest()))?;
        self.interrupts.check()?;

        let id = id(&[self.request.key().as_bytes(), &manifest]);
        for file in [base.root(), base.kernel(), base.initramfs(), base.manifest()] {
            let sync = || File::open(&file)?.sync_all();
            fs::set_permissions(&file, Permissions::from_mode(0o444))
                .and_then(|()| sync())
                .map_err(CreateError::io(&file))?;
        }
        mode(&base.folder, 0o755)?;
        let place = bases.join(&id);
        if place.exists() {
            // Incomplete, or it would have been taken.
            fs::remove_dir_all(&place).map_err(CreateError::io(&place))?;
        }
        fs::rename(&base.folder, &place).map_err(CreateError::io(&place))?;
        Ok(id)
    }
}

/// The lock of all bases, held while one is built.
fn lock(bases: &Path, progress: &dyn Progress, interrupts: &Interrupts) -> Result<File, CreateError> {
    let path = bases.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(CreateError::io(&path))?;
    let begin = Instant::now();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(CreateError::io(&path)(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told && begin.elapsed() > Duration::from_secs(1) {
            progress.note("waiting for another base image to be finished");
            told = true;
        }
        interrupts.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Removes a folder, but nothing through a mount in it.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let below = |line: &str| line.split(' ').nth(4).is_some_and(|place| Path::new(place).starts_with(folder));
    if mounts.lines().any(below) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted in it"));
    }
    for _ in 0..50 {
        match fs::remove_dir_all(folder) {
            // Something that was just killed wrote its last file.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => return result,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_dir_all(folder)
}

/// Removes what builds left that were killed; called with the lock held.
fn remove_unfinished(bases: &Path) -> Result<(), CreateError> {
    for entry in fs::read_dir(bases).map_err(CreateError::io(bases))? {
        let entry = entry.map_err(CreateError::io(bases))?;
        if entry.file_name().to_string_lossy().starts_with(WORK) {
            remove_tree(&entry.path()).map_err(CreateError::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// 16 hexadecimal digits that stand for these bytes.
fn id(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let plain = BaseRequest::default();
        let with = |packages: &[&str]| BaseRequest {
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            ..BaseRequest::default()
        };
        assert_eq!(with(&["xterm", "gimp"]).key(), with(&["gimp", "xterm", "foot"]).key());
        assert_ne!(with(&["gimp"]).key(), plain.key());
        assert_ne!(BaseRequest { suite: "bookworm".into(), ..plain.clone() }.key(), plain.key());
        assert_eq!(plain.key().len(), 16);
        with(&["libstdc++6", "0ad"]).check().unwrap();
        for bad in ["", "a", "-o", "Gimp", "a b", "a,b", "a/b", "a;b", "a\n"] {
            assert!(matches!(with(&[bad]).check(), Err(CreateError::Package(_))), "{bad:?}");
        }
        let noble = BaseRequest { suite: "noble".into(), ..plain };
        assert!(matches!(noble.check(), Err(CreateError::Suite(_))));
    }

    #[test]
    fn leftovers_are_removed_and_bases_kept() {
        let bases = tempfile::tempdir().unwrap();
        for folder in ["work-1/base", "0123456789abcdef"] {
            fs::create_dir_all(bases.path().join(folder)).unwrap();
        }
        remove_unfinished(bases.path()).unwrap();
        assert!(!bases.path().join("work-1").exists());
        assert!(bases.path().join("0123456789abcdef").exists());
    }
}
