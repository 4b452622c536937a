//! The host's side of `inlay-load --vsock`: answers small messages, takes many bytes, gives as many.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Bytes of a small message.
pub const SMALL: usize = 64;
/// Small messages.
pub const ROUNDS: u32 = 1000;
/// Bytes in each direction.
pub const BULK: usize = 64 << 20;

/// Serves one client to its end.
///
/// # Errors
/// The connection breaks.
pub fn serve(mut client: UnixStream) -> io::Result<()> {
    let mut small = [0; SMALL];
    for _ in 0..ROUNDS {
        client.read_exact(&mut small)?;
        client.write_all(&small)?;
    }
    let mut large = vec![0; 1 << 16];
    for _ in 0..BULK / large.len() {
        client.read_exact(&mut large)?;
    }
    client.write_all(&small[..1])?;
    for _ in 0..BULK / large.len() {
        client.write_all(&large)?;
    }
    Ok(())
}
