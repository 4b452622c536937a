//! The guest's network: its card's address, and passt, which gives it a network of its own without any right on the host.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::paths::MachineName;
use crate::process;

/// What the guest gets from passt's DHCP server: an address of its own, so that it can reach servers of this host by the
/// host's address. The host's loopback is out of its reach (`--no-map-gw`), and nobody reaches the guest.
const ARGUMENTS: [&str; 20] = [
    "--foreground",
    "--quiet",
    "--ipv4-only",
    "--address",
    "192.168.127.2",
    "--netmask",
    "24",
    "--gateway",
    "192.168.127.1",
    "--no-map-gw",
    "--dns",
    "192.168.127.1",
    "--dns-forward",
    "192.168.127.1",
    "--mtu",
    "1500",
    "--tcp-ports",
    "none",
    "--udp-ports",
    "none",
];

/// How long its end may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// The address of a machine's network card: the same at each start, and another one than that of other machines and other hosts
/// on the same bridge, in the range that KVM's guests use.
pub fn mac(name: &MachineName) -> [u8; 6] {
    // Without it, machines of this host still differ.
    let host = std::fs::read("/etc/machine-id").unwrap_or_default();
    let hash = Sha256::new().chain_update(&host).chain_update(name.to_string()).finalize();
    let [a, b, c] = [0, 1, 2].map(|at| hash.get(at).copied().unwrap_or_default());
    [0x52, 0x54, 0, a, b, c]
}

/// passt; it ends with this.
#[derive(Debug)]
pub struct Passt(Child);

impl Passt {
    /// Starts it on one end of a socket, and gives the other. Must be called on the main thread: it dies with the calling
    /// thread.
    ///
    /// # Errors
    /// It is not installed, or cannot be started.
    pub fn start(log: &Path) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = theirs.as_raw_fd();
        let mut command = Command::new("passt");
        command.args(ARGUMENTS).arg("--fd").arg(fd.to_string());
        let log = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        process::die_with_this_thread(process::outlive_session(&mut command));
        // SAFETY: between fork and exec one system call is made, on a descriptor that is open here until the child is started.
        unsafe {
            command.pre_exec(move || {
                let fd = std::os::fd::BorrowedFd::borrow_raw(fd);
                Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
            });
        }
        let child = command.spawn()?;
        Ok((Self(child), ours.into()))
    }
}

impl Drop for Passt {
    /// It ends by itself when the other end of its socket is closed. It is outside of the machine's sandbox, so that this
    /// process may not end it; what lingers goes with this process.
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
