//! Tap devices: an Ethernet interface of the host whose other end is a descriptor (the kernel's
//! Documentation/networking/tuntap.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

const DEVICE: &str = "/dev/net/tun";
/// `IFNAMSIZ`, with the zero at the end.
const NAME: usize = 16;
/// `IFF_TAP | IFF_NO_PI`.
const FLAGS: libc::c_short = 0x1002;

/// Why a tap device is not to be had; each says what mends it.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// It is no name of an interface.
    #[error("{0:?} is not the name of a network interface")]
    Name(String),
    /// There is no such interface.
    #[error(
        "there is no tap device {0}: make it with `sudo ip tuntap add dev {0} mode tap user $USER && sudo ip link set {0} up`"
    )]
    Missing(String),
    /// The kernel refuses.
    #[error("cannot use the tap device {name}")]
    Refused {
        /// Which.
        name: String,
        /// Why: of another user (EPERM), in use by another machine (EBUSY), an interface of another kind (EINVAL), ...
        source: io::Error,
    },
}

/// Whether this can be the name of an interface.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fine = |c: u8| c.is_ascii_graphic() && c != b'/' && c != b':';
    (1..NAME).contains(&name.len()) && name.bytes().all(fine) && name != "." && name != ".."
}

/// Opens a tap device that exists, without headers of the kernel's before frames.
///
/// # Errors
/// It does not exist, is another user's or in use.
pub fn open(name: &str) -> Result<OwnedFd, TapError> {
    if !is_name(name) {
        return Err(TapError::Name(name.into()));
    }
    // The kernel would make one, if we may, that goes with us: nobody could have given it an address.
    let refused = |source| TapError::Refused { name: name.into(), source };
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    let socket = socket.map_err(|error| refused(error.into()))?;
    match rustix::net::netdevice::name_to_index(&socket, name) {
        Ok(_) => {}
        Err(Errno::NODEV) => return Err(TapError::Missing(name.into())),
        Err(error) => return Err(refused(error.into())),
    }
    let file = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(refused)?;
    attach(&file, name).map_err(refused)?;
    Ok(file.into())
}

/// `struct ifreq`, as `TUNSETIFF` takes it.
#[repr(C)]
struct Request {
    name: [u8; NAME],
    flags: libc::c_short,
    /// The rest of the union.
    rest: [u8; 22],
}

fn attach(file: &File, name: &str) -> io::Result<()> {
    let mut request = Request { name: [0; NAME], flags: FLAGS, rest: [0; 22] };
    request.name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` (40 bytes), which lives until the call is over.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
