//! Loads in guests. `inlay-load FILE`: how fast a disk is, past the page cache: writes and reads a file in order and at random
//! places, and prints MB/s and 4 KiB requests a second. `inlay-load --vsock PORT`: how fast the host's other end of a socket answers
//! and takes and gives bytes: microseconds, MB/s, MB/s.

use std::alloc::Layout;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use inlay_tests::echo;

/// Bytes of the file.
const SIZE: u64 = 128 << 20;
const LARGE: usize = 1 << 20;
const SMALL: usize = 4096;
/// How long each of the random loads runs.
const TIME: Duration = Duration::from_secs(4);
/// `O_DIRECT` of x86-64.
const DIRECT: i32 = 0o40000;

/// Memory as `O_DIRECT` wants it.
struct Buffer(*mut u8, Layout);

impl Buffer {
    fn new() -> Result<Self> {
        let layout = Layout::from_size_align(LARGE, 4096)?;
        // SAFETY: the size is not 0.
        let memory = unsafe { std::alloc::alloc(layout) };
        anyhow::ensure!(!memory.is_null(), "no memory");
        // SAFETY: the memory is this one's own. Not zeroes: a disk may know those.
        unsafe { memory.write_bytes(0xa5, LARGE) };
        Ok(Self(memory, layout))
    }

    fn get(&mut self, size: usize) -> &mut [u8] {
        // SAFETY: so many bytes are there, initialised, and borrowed from this only.
        unsafe { std::slice::from_raw_parts_mut(self.0, size.min(LARGE)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.0, self.1) };
    }
}

/// Places in the file, in no order.
struct Places(u64);

impl Iterator for Places {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0 % (SIZE / SMALL as u64) * SMALL as u64)
    }
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let result = match (words.next().as_deref(), words.next()) {
        (Some("--vsock"), Some(port)) => vsock(port.parse()?)?,
        (Some(path), None) => disk(path)?,
        _ => bail!("usage: inlay-load FILE | --vsock PORT"),
    };
    println!("{result}");
    Ok(())
}

/// The host's side is [`inlay_tests::echo`].
fn vsock(port: u32) -> Result<String> {
    // SAFETY: plain numbers; the descriptor is owned by nobody else.
    let mut socket = unsafe {
        let raw = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        anyhow::ensure!(raw >= 0, "no vsock: {}", std::io::Error::last_os_error());
        File::from_raw_fd(raw)
    };
    // SAFETY: all bytes of a sockaddr_vm may be zero; it is valid for its length.
    unsafe {
        let mut address: libc::sockaddr_vm = std::mem::zeroed();
        address.svm_family = u16::try_from(libc::AF_VSOCK)?;
        address.svm_cid = libc::VMADDR_CID_HOST;
        address.svm_port = port;
        let length = u32::try_from(size_of_val(&address))?;
        let result = libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length);
        anyhow::ensure!(result == 0, "cannot connect: {}", std::io::Error::last_os_error());
    }
    let mut small = [7; echo::SMALL];
    let begin = Instant::now();
    for _ in 0..echo::ROUNDS {
        socket.write_all(&small)?;
        socket.read_exact(&mut small)?;
    }
    let round = begin.elapsed().as_secs_f64() * 1e6 / f64::from(echo::ROUNDS);
    let mut large = vec![7; 1 << 16];
    let rate = |begin: Instant| echo::BULK as f64 / 1e6 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for _ in 0..echo::BULK / large.len() {
        socket.write_all(&large)?;
    }
    socket.read_exact(&mut small[..1])?;
    let up = rate(begin);
    let begin = Instant::now();
    for _ in 0..echo::BULK / large.len() {
        socket.read_exact(&mut large)?;
    }
    Ok(format!("{round} {up} {}", rate(begin)))
}

fn disk(path: &str) -> Result<String> {
    // virtiofsd ignores the flag where a file is opened, but not where it is made.
    File::create(path)?;
    let file = File::options().read(true).write(true).custom_flags(DIRECT).open(path)?;
    let mut buffer = Buffer::new()?;
    // Once over, so that there is room for all.
    for at in (0..SIZE).step_by(LARGE) {
        file.write_all_at(buffer.get(LARGE), at)?;
    }
    file.sync_all()?;
    let mut in_order = |act: &dyn Fn(&mut [u8], u64) -> std::io::Result<()>| -> Result<f64> {
        let begin = Instant::now();
        let mut passes = 0.0;
        // As often as it takes to be measured: one is a tenth of a second where it is fast.
        while passes < 1.0 || begin.elapsed() < TIME / 2 {
            for at in (0..SIZE).step_by(LARGE) {
                act(buffer.get(LARGE), at)?;
            }
            file.sync_data()?;
            passes += 1.0;
        }
        Ok(passes * SIZE as f64 / 1e6 / begin.elapsed().as_secs_f64())
    };
    let write = in_order(&|bytes, at| file.write_all_at(bytes, at))?;
    let read = in_order(&|bytes, at| file.read_exact_at(bytes, at))?;
    let mut at_random = |act: &dyn Fn(&mut [u8], u64) -> std::io::Result<()>| -> Result<f64> {
        let begin = Instant::now();
        let mut count = 0;
        for at in Places(0x9e37_79b9_7f4a_7c15) {
            act(buffer.get(SMALL), at)?;
            count += 1;
            if begin.elapsed() > TIME {
                break;
            }
        }
        Ok(f64::from(count) / begin.elapsed().as_secs_f64())
    };
    let random_read = at_random(&|bytes, at| file.read_exact_at(bytes, at))?;
    let random_write = at_random(&|bytes, at| file.write_all_at(bytes, at))?;
    drop(file);
    std::fs::remove_file(path)?;
    Ok(format!("{write} {read} {random_read} {random_write}"))
}
