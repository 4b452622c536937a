//! What level 1 boots: the kernel of the distribution's package, and an initramfs with the modules that it needs. Small guests of
//! tests boot the same kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use inlay::create::cpio::Archive;

/// Modules in the order in which they are wanted; what they need comes before each.
const WANTED: [&str; 11] = [
    "virtio_pci",
    "virtio_console",
    "virtio_rng",
    "9pnet_virtio",
    "9p",
    "overlay",
    "kvm-amd",
    "tun",
    "virtio_net",
    "vhost_vsock",
    "ext4",
];
const BUSYBOX: &str = "/bin/busybox";

/// The kernel and the initramfs of level 1; made once for a version of the package.
pub fn files(runner: &Path) -> Result<(PathBuf, PathBuf)> {
    let kernel = Kernel::of_this_system()?;
    let initramfs = kernel.0.join(format!("initramfs-{}.cpio", rustix::process::getpid().as_raw_nonzero()));
    std::fs::write(&initramfs, kernel.initramfs(&WANTED, &init(runner))?)?;
    Ok((kernel.vmlinux(), initramfs))
}

/// The kernel of the distribution's package, unpacked in a folder that is kept.
#[derive(Debug)]
pub struct Kernel(PathBuf);

impl Kernel {
    /// The newest; fetched if it is not there yet.
    ///
    /// # Errors
    /// There is no such package, or it does not come.
    pub fn of_this_system() -> Result<Self> {
        let package = package()?;
        let kernel = Self(cache()?.join(format!("{package}.2")));
        if !kernel.vmlinux().exists() {
            unpack(&package, &kernel.0)?;
        }
        Ok(kernel)
    }

    /// One that was fetched already.
    ///
    /// # Errors
    /// None was.
    pub fn fetched() -> Result<Self> {
        let folders = std::fs::read_dir(cache()?).context("no kernel was fetched")?;
        let mut kernels: Vec<_> = folders.flatten().map(|f| Self(f.path())).collect();
        kernels.retain(|kernel| kernel.vmlinuz().exists());
        kernels.sort_by_key(|kernel| kernel.0.metadata().and_then(|m| m.modified()).ok());
        kernels.pop().context("no kernel was fetched")
    }

    /// Uncompressed, with a PVH entry.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.0.join("vmlinux")
    }

    /// As it is packaged (bzImage).
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// An archive of busybox and modules (these and what they need). `init` is a script that busybox runs when `/proc`,
    /// `/sys` and `/dev` are mounted and the modules loaded.
    ///
    /// # Errors
    /// Busybox or the modules cannot be read.
    pub fn initramfs(&self, wanted: &[&str], init: &str) -> Result<Vec<u8>> {
        self.initramfs_with(wanted, init, &[])
    }

    /// The same, with these programs in `/bin` and their libraries.
    ///
    /// # Errors
    /// Something of it cannot be read.
    pub fn initramfs_with(&self, wanted: &[&str], init: &str, programs: &[&Path]) -> Result<Vec<u8>> {
        let mut all = BTreeMap::new();
        modules(&self.0.join("modules"), &mut all)?;
        let mut order: Vec<(String, Vec<u8>)> = Vec::new();
        for name in wanted {
            // ext4 asks for it by another name.
            if *name == "ext4" {
                add("crc32c_generic", &all, &mut order)?;
            }
            add(&name.replace('-', "_"), &all, &mut order)?;
        }
        let mut archive = Archive::new(Vec::new());
        for folder in ["bin", "dev", "lib", "lib/x86_64-linux-gnu", "lib64", "modules", "proc", "sys"] {
            archive.folder(folder, 0o755)?;
        }
        let busybox =
            std::fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX} (package busybox-static)"))?;
        archive.file("bin/busybox", 0o755, &busybox)?;
        for program in programs {
            let name = program.file_name().and_then(|name| name.to_str()).context("a program has no name")?;
            archive.file(&format!("bin/{name}"), 0o755, &std::fs::read(program)?)?;
        }
        for library in libraries(programs)? {
            archive.file(library.trim_start_matches('/'), 0o755, &std::fs::read(&library)?)?;
        }
        for (name, content) in &order {
            archive.file(&format!("modules/{name}.ko"), 0o644, content)?;
        }
        let load: String = order.iter().map(|(name, _)| format!("insmod /modules/{name}.ko\n")).collect();
        archive.file("init", 0o755, format!("{BEGIN}{load}{init}").as_bytes())?;
        Ok(archive.finish()?)
    }
}

fn cache() -> Result<PathBuf> {
    Ok(crate::folder()?.join("nested"))
}

/// The package of the newest kernel, with its version.
fn package() -> Result<String> {
    let text = output(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    Ok(format!("linux-image-{}", name.context("no kernel is packaged here (linux-image-amd64)")?.trim()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fetches the package and takes kernel and modules out of it.
fn unpack(package: &str, cache: &Path) -> Result<()> {
    let parent = cache.parent().context("the cache has no parent")?;
    std::fs::create_dir_all(parent)?;
    let work = tempfile::Builder::new().prefix("kernel-").tempdir_in(parent)?;
    output(Command::new("apt-get").args(["download", "-q", package]).current_dir(work.path()))?;
    let deb = std::fs::read_dir(work.path())?.flatten().map(|e| e.path()).find(|p| p.extension().is_some());
    let deb = deb.context("the package did not come")?;
    let whole = work.path().join("whole");
    output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&whole))?;
    let version = package.strip_prefix("linux-image-").unwrap_or(package);
    let ready = work.path().join("ready");
    std::fs::create_dir(&ready)?;
    let packaged = whole.join(format!("boot/vmlinuz-{version}"));
    inlay::create::kernel::unpack(&packaged, &ready.join("vmlinux"))?;
    std::fs::rename(&packaged, ready.join("vmlinuz"))?;
    let modules = [format!("lib/modules/{version}"), format!("usr/lib/modules/{version}")];
    let modules =
        modules.iter().map(|m| whole.join(m)).find(|m| m.is_dir()).context("the package has no modules")?;
    std::fs::rename(modules.join("kernel"), ready.join("modules"))?;
    // Whoever was first.
    match std::fs::rename(&ready, cache) {
        Err(_) if cache.join("vmlinux").exists() => Ok(()),
        other => other.with_context(|| format!("cannot make {}", cache.display())),
    }
}

/// What programs are linked with, by the paths where the system has it.
fn libraries(programs: &[&Path]) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for program in programs {
        let text = output(Command::new("ldd").arg(program))?;
        all.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    Ok(all)
}

/// All modules by their names.
fn modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            modules(&path, found)?;
        } else if let Some(name) = path.file_name().and_then(|n| n.to_str())
            && let Some((name, _)) = name.split_once(".ko")
        {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// A module's bytes, unpacked.
fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|e| e == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot run xz")?;
        return Ok(output.stdout);
    }
    Ok(std::fs::read(path)?)
}

/// What a module says that it depends on.
fn depends(content: &[u8]) -> Vec<String> {
    let at = content.windows(9).position(|w| w == b"\0depends=").map(|at| at + 9);
    let rest = at.and_then(|at| content.get(at..)).unwrap_or_default();
    let text = rest.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).split(',').filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect()
}

/// Adds a module behind those that it needs; what is built in is none.
fn add(name: &str, all: &BTreeMap<String, PathBuf>, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(path) = all.get(name) else { return Ok(()) };
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let content = content(path)?;
    for needed in depends(&content) {
        add(&needed, all, order)?;
    }
    order.push((name.to_owned(), content));
    Ok(())
}

/// How every init begins.
const BEGIN: &str = "#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
";

/// Level 1's: the host's file system below a memory of its own.
fn init(runner: &Path) -> String {
    format!(
        "mkdir /lower /new /rw
mount -t tmpfs -o size=3g tmpfs /rw
mkdir /rw/upper /rw/work
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro root /lower || poweroff -f
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new || poweroff -f
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs tmpfs /new/dev/shm
mount -t tmpfs tmpfs /new/run
echo advise > /new/sys/kernel/mm/transparent_hugepage/shmem_enabled
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
route add default gw 10.0.2.2
umount /proc /sys
exec switch_root /new {} --guest
",
        runner.display()
    )
}
