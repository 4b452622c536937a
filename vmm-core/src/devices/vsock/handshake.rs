//! The host's side of opening a connection: accept on the base socket, read `CONNECT <port>\n`.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvFlags, recv};

/// The longest line: `CONNECT 4294967295\n`, with some room.
const MAX_LINE: usize = 32;

/// What a host program has said so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// It wants this guest port.
    Connect(u32),
    /// Not a whole line yet.
    Partial,
    /// It hung up or does not speak this language.
    Bad,
}

/// Reads the line if all of it is there, and not a byte more.
pub fn read_line(stream: &UnixStream) -> Line {
    let mut bytes = [0; MAX_LINE];
    let got = match recv(stream, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, got)) => got,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Line::Partial,
        Err(_) => return Line::Bad,
    };
    let seen = bytes.get(..got).unwrap_or_default();
    let Some(end) = seen.iter().position(|b| *b == b'\n') else {
        return if got == 0 || got == MAX_LINE { Line::Bad } else { Line::Partial };
    };
    let Some(port) = parse(seen.get(..end).unwrap_or_default()) else { return Line::Bad };
    let Some(line) = bytes.get_mut(..=end) else { return Line::Bad };
    match recv(stream, line, RecvFlags::DONTWAIT) {
        Ok((_, taken)) if taken == end + 1 => Line::Connect(port),
        _ => Line::Bad,
    }
}

fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Tells the host program that the guest accepted.
///
/// # Errors
/// When it does not take the line at once: it hung up.
pub fn confirm(stream: &mut UnixStream, host_port: u32) -> io::Result<()> {
    io::Write::write_all(stream, format!("OK {host_port}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_line_is_taken_whole_and_alone() {
        let (mut host, device) = UnixStream::pair().unwrap();
        assert_eq!(read_line(&device), Line::Partial);
        host.write_all(b"CONN").unwrap();
        assert_eq!(read_line(&device), Line::Partial);
        host.write_all(b"ECT 70\nafter").unwrap();
        assert_eq!(read_line(&device), Line::Connect(70));
        let mut rest = [0; 5];
        (&device).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"after");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["\n", "CONNECT \n", "CONNECT x\n", "CONNECT -1\n", "CONNECT 4294967296\n", "connect 5\n"]
        {
            let (mut host, device) = UnixStream::pair().unwrap();
            host.write_all(bad.as_bytes()).unwrap();
            assert_eq!(read_line(&device), Line::Bad, "{bad:?}");
        }
        let (mut host, device) = UnixStream::pair().unwrap();
        host.write_all(&[b'1'; MAX_LINE]).unwrap();
        assert_eq!(read_line(&device), Line::Bad);
        let (host, device) = UnixStream::pair().unwrap();
        drop(host);
        assert_eq!(read_line(&device), Line::Bad);
    }
}
