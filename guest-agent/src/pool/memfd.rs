//! Pool buffers in memory files, for a host on the same kernel. The file is sealed, so the host may map it without fear of a
//! file that shrinks under it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use inlay_protocol::display::Backing;
use inlay_protocol::handshake::Capabilities;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::{Buffer, Mapping, Pool};

/// The pool of local mode.
#[derive(Debug, Default)]
pub struct MemfdPool;

impl Pool for MemfdPool {
    fn create(&self, size: usize) -> io::Result<Buffer> {
        let fd = memfd_create("inlay-buffer", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, size as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping = Mapping::new(fd.as_fd(), 0, size)?;
        Ok(Buffer { mapping, backing: Backing::Memfd, fd: Some(Arc::new(fd)), _handle: None })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::MEMFD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_sealed_and_shared() {
        let buffer = MemfdPool.create(8192).unwrap();
        // SAFETY: the mapping has 8192 bytes.
        unsafe { buffer.start().as_ptr().add(5000).write(7) };
        let fd = buffer.fd.as_ref().unwrap();
        assert!(ftruncate(&**fd, 4096).is_err());
        let mut byte = [0];
        rustix::io::pread(&**fd, &mut byte, 5000).unwrap();
        assert_eq!((byte[0], buffer.len()), (7, 8192));
    }
}
