//! A stock kernel with nothing but what is measured, on our engine and on QEMU's: a folder that virtiofsd shares, and sockets: our
//! device beside the program vhost-device-vsock.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use inlay_tests::nested::image::Kernel;
use inlay_tests::{echo, tool};
use inlay_vmm_core::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use inlay_vmm_core::engine::Exit;
use inlay_vmm_core::engine::kvm::{KvmConfig, Vmm};
use inlay_vmm_core::transport::vhost_user::{FrontEnd, FrontEndConfig};
use inlay_vmm_core::virtio::Device;

use super::local::{eventually, program};

const MEMORY: u32 = 512;
const CID: u32 = 5;
const PORT: u32 = 9000;
/// In a nested machine.
const TIME: Duration = Duration::from_secs(400);
const CMDLINE: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off";
/// It begins on a line of its own: QEMU's firmware leaves one unfinished.
const INIT: &str = "
echo > /dev/ttyS0
mkdir /mnt
mount -t virtiofs work /mnt && echo \"shared $(/bin/inlay-load /mnt/load.data)\" > /dev/ttyS0
echo \"vsock $(/bin/inlay-load --vsock 9000)\" > /dev/ttyS0
poweroff -f
";
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "vmw_vsock_virtio_transport"];

/// What one run gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// A shared folder: MB/s written and read in order, 4 KiB/s read and written at random.
    pub shared: [f64; 4],
    /// A socket: microseconds of a round trip, MB/s to the host and from it.
    pub vsock: [f64; 3],
}

/// A program that ends with this.
pub struct Helper(pub Child);

impl Helper {
    /// Starts it, and waits for its socket.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command, socket: &Path) -> Result<Self> {
        let helper = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        eventually("a helper's socket", || socket.exists().then_some(()))?;
        Ok(helper)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The guest's files, made once.
pub struct Guest {
    folder: tempfile::TempDir,
    kernel: PathBuf,
}

impl Guest {
    /// # Errors
    /// The kernel or a program is not there.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kernel = Kernel::fetched()?;
        let initrd = kernel.initramfs_with(&MODULES, INIT, &[&program("inlay-load")?])?;
        std::fs::write(folder.path().join("initrd"), initrd)?;
        Ok(Self { folder, kernel: kernel.vmlinux() })
    }

    /// One run of an engine.
    ///
    /// # Errors
    /// The guest does not say what it should.
    pub fn run(&self, engine: &str) -> Result<Run> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let shared = path("shared");
        std::fs::create_dir(&shared)?;
        let mut files = Command::new(tool("virtiofsd")?);
        files.arg("--socket-path").arg(path("fs.sock")).arg("--shared-dir").arg(&shared);
        let _files = Helper::start(files.args(["--sandbox", "chroot"]), &path("fs.sock"))?;
        let listener = UnixListener::bind(path(&format!("v_{PORT}")))?;
        std::thread::spawn(move || {
            if let Ok((client, _)) = listener.accept() {
                // The guest says how it went.
                let _ = echo::serve(client);
            }
        });
        let serial = path("serial");
        match engine {
            "kvm" => self.ours(&path("fs.sock"), &path("v"), &serial)?,
            _ => self.qemu(&path("fs.sock"), &path("v"), &path("vsock.sock"), &serial)?,
        }
        let text = std::fs::read_to_string(&serial)?;
        let numbers = |word: &str| -> Result<Vec<f64>> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
            let line =
                line.with_context(|| format!("the guest under {engine} does not say {word}: {text}"))?;
            Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
        };
        let wrong = |_| anyhow::anyhow!("the guest under {engine} says something else: {text}");
        Ok(Run {
            shared: numbers("shared ")?.try_into().map_err(wrong)?,
            vsock: numbers("vsock ")?.try_into().map_err(wrong)?,
        })
    }

    fn ours(&self, files: &Path, sockets: &Path, serial: &Path) -> Result<()> {
        let config = KvmConfig {
            cpus: 2,
            memory_mib: MEMORY,
            kernel: self.kernel.clone(),
            initrd: Some(self.folder.path().join("initrd")),
            cmdline: CMDLINE.into(),
            serial_log: serial.into(),
        };
        let vsock = VsockConfig {
            guest_cid: CID,
            socket: sockets.into(),
            privileged_ports: [].into(),
            limits: VsockLimits::default(),
        };
        let devices: Vec<Box<dyn Device>> = vec![
            Box::new(FrontEnd::new(UnixStream::connect(files)?, FrontEndConfig::file_system("work")?)?),
            Box::new(Vsock::new(vsock)?),
        ];
        let vmm = Vmm::start(&config, devices, None)?;
        match vmm.wait_timeout(TIME) {
            Some(Exit::PoweredOff) => Ok(()),
            other => bail!("our engine: {other:?}"),
        }
    }

    fn qemu(&self, files: &Path, sockets: &Path, vsock: &Path, serial: &Path) -> Result<()> {
        let mut helper = Command::new(tool("vhost-device-vsock")?);
        helper.args(["--guest-cid", &CID.to_string(), "--socket"]).arg(vsock).arg("--uds-path").arg(sockets);
        let _sockets = Helper::start(&mut helper, vsock)?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-accel", "kvm"]);
        qemu.args(["-cpu", "host", "-smp", "2", "-m"]).arg(format!("{MEMORY}M"));
        qemu.args(["-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,graphics=off,memory-backend=ram"]);
        qemu.arg("-object").arg(format!("memory-backend-memfd,id=ram,share=on,size={MEMORY}M"));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.folder.path().join("initrd"));
        qemu.args(["-append", CMDLINE]);
        qemu.arg("-serial").arg(format!("file:{}", serial.display()));
        for (id, socket, device) in
            [("fs", files, "vhost-user-fs-pci,tag=work"), ("vs", vsock, "vhost-user-vsock-pci")]
        {
            qemu.arg("-chardev").arg(format!("socket,id={id},path={}", socket.display()));
            qemu.args(["-device", &format!("{device},chardev={id}")]);
        }
        run_to_its_end(&mut qemu)
    }
}

/// Runs a QEMU until its guest is off.
///
/// # Errors
/// It cannot be started, fails, or does not end in time.
pub fn run_to_its_end(qemu: &mut Command) -> Result<()> {
    let mut child = qemu.stdin(Stdio::null()).spawn().context("cannot start qemu-system-x86_64")?;
    let end = std::time::Instant::now() + TIME;
    while std::time::Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "QEMU: {status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!("QEMU's guest does not end")
}
