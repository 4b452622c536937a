//! The server: holds level 1, and gives it one command at a time.

use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frames::{self, Kind};
use super::image;

/// Without a command for so long it ends.
const IDLE: Duration = Duration::from_secs(180);

/// Beside this program: without it QEMU gives guests of level 1 interrupts twice.
const MEND: &str = "libinlay_qemu_mend.so";

/// Boots level 1 and serves commands until none came for a while.
///
/// # Errors
/// Level 1 does not boot.
pub fn serve() -> Result<()> {
    let folder = super::folder()?;
    std::fs::write(folder.join("started"), std::process::id().to_string())?;
    let runner = std::env::current_exe()?;
    let (kernel, initramfs) = image::files(&runner)?;
    let port = folder.join("port");
    let _ = std::fs::remove_file(&port);
    let listener = UnixListener::bind(&port)?;
    // The one before may tell why it broke down.
    let _ = std::fs::rename(folder.join("console.log"), folder.join("console.log.old"));
    let mut qemu = Qemu(start(&folder, &kernel, &initramfs)?);
    let mut level1 = accept(&listener, &mut qemu)?;
    match frames::read(&mut level1).context("level 1 ended while it booted")? {
        (Kind::Ready, _) => {}
        (kind, _) => bail!("level 1 says {kind:?} first"),
    }
    let _ = std::fs::remove_file(&initramfs);
    let socket = folder.join("socket");
    let _ = std::fs::remove_file(&socket);
    let clients = UnixListener::bind(&socket)?;
    let result = loop {
        let idle = Timespec { tv_sec: IDLE.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(&clients, PollFlags::IN)], Some(&idle)) {
            Ok(0) => break Ok(()),
            Ok(_) => {
                let (client, _) = clients.accept()?;
                if let Err(error) = relay(client, &mut level1) {
                    break Err(error);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => break Err(error.into()),
        }
    };
    let _ = std::fs::remove_file(&socket);
    result
}

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &std::path::Path, kernel: &std::path::Path, initramfs: &std::path::Path) -> Result<Child> {
    let mut command = Command::new("qemu-system-x86_64");
    let mend = std::env::current_exe()?.with_file_name(MEND);
    if !mend.exists() {
        bail!("{} is missing: build the whole workspace first (cargo xtask test)", mend.display());
    }
    command.env("LD_PRELOAD", mend);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args([
        "-machine",
        "q35,usb=off,sata=off,smbus=off,vmport=off,graphics=off",
        "-m",
        "6G",
        "-smp",
        "2",
    ]);
    // By its usual family and model LLVM, and with it the software renderer, takes it for a processor without 64 bits.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,family=23,model=1"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    command
        .args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off audit=0 random.trust_cpu=on"]);
    command.arg("-chardev").arg(format!("file,id=serial,path={}", folder.join("console.log").display()));
    command.args(["-serial", "chardev:serial", "-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
    command.arg("-chardev").arg(format!("socket,id=run,path={}", folder.join("port").display()));
    command.args(["-device", "virtserialport,chardev=run,name=run"]);
    command.args(["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]);
    command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: one system call between fork and exec: it ends with this process, however that ends.
    unsafe {
        command.pre_exec(|| {
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
    command.spawn().context("cannot start qemu-system-x86_64")
}

fn accept(listener: &UnixListener, qemu: &mut Qemu) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + super::BOOT;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            return Ok(stream);
        }
        if let Some(status) = qemu.0.try_wait()? {
            bail!("QEMU does not run: {status}");
        }
        if Instant::now() > end {
            bail!("QEMU does not open its port");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Serves one client. Its end ends its command; level 1's end is an error.
fn relay(mut client: UnixStream, level1: &mut UnixStream) -> Result<()> {
    let Ok((Kind::Order, order)) = frames::read(&mut client) else { return Ok(()) };
    frames::write(level1, Kind::Order, &order).context("level 1 is gone")?;
    let mut listening = true;
    loop {
        let mut fds = vec![PollFd::new(&*level1, PollFlags::IN)];
        if listening {
            fds.push(PollFd::new(&client, PollFlags::IN));
        }
        poll(&mut fds, None)?;
        let [from_level1, from_client] =
            [0, 1].map(|i| fds.get(i).is_some_and(|fd| !fd.revents().is_empty()));
        drop(fds);
        if from_client {
            // It says nothing more: its end.
            listening = false;
            frames::write(level1, Kind::Kill, &[]).context("level 1 is gone")?;
        }
        if from_level1 {
            let (kind, bytes) = frames::read(level1).context("level 1 is gone")?;
            if frames::write(&mut client, kind, &bytes).is_err() && listening {
                listening = false;
                frames::write(level1, Kind::Kill, &[]).context("level 1 is gone")?;
            }
            if matches!(kind, Kind::Exit | Kind::Failed) {
                return Ok(());
            }
        }
    }
}
