//! Unpacks the kernel proper (an ELF file with a PVH entry) out of a distribution's compressed bzImage, because a guest
//! under emulation needs five seconds for that.
//!
//! The place of the payload is in the boot header (Linux, `Documentation/arch/x86/boot.rst`: `payload_offset` and
//! `payload_length`, from protocol 2.08 on); its first bytes tell the compression.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a kernel could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file of it.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an x86 kernel image of the last fifteen years.
    #[error("{0} is not a bzImage with a payload")]
    NotBzImage(PathBuf),
    /// A compression that is not known.
    #[error("{0} is compressed in an unknown way")]
    UnknownCompression(PathBuf),
    /// The tool is missing.
    #[error("unpacking the kernel needs the program {program}: apt-get install {package}")]
    NoTool {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The tool gave something else than a kernel.
    #[error("{program} did not unpack a kernel from {path}: {said}")]
    BadPayload {
        /// The tool.
        program: &'static str,
        /// The compressed kernel.
        path: PathBuf,
        /// The last line of the tool's own words.
        said: String,
    },
}

/// What unpacks a payload: its first bytes, the program, its arguments, the package.
type Tool = (&'static [u8], &'static str, &'static [&'static str], &'static str);

const TOOLS: [Tool; 5] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", &["-dcq"], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", &["--single-stream", "-dcq"], "xz-utils"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4", &["-dcq"], "lz4"),
    (&[0x1f, 0x8b], "gzip", &["-dcq"], "gzip"),
    (b"BZh", "bzip2", &["-dcq"], "bzip2"),
];

const ELF: &[u8] = b"\x7fELF";

/// Unpacks `image` into the new file `out`.
///
/// # Errors
/// The image is none, its tool is missing, or files cannot be used.
pub fn unpack(image: &Path, out: &Path) -> Result<(), KernelError> {
    let read = |path: &Path| fs::read(path).map_err(|source| KernelError::Io { path: path.into(), source });
    let bytes = read(image)?;
    let payload = payload(&bytes).ok_or_else(|| KernelError::NotBzImage(image.into()))?;
    let io = |source| KernelError::Io { path: out.into(), source };
    if payload.starts_with(ELF) {
        return fs::write(out, payload).map_err(io);
    }
    let (_, program, arguments, package) = TOOLS
        .into_iter()
        .find(|(magic, ..)| payload.starts_with(magic))
        .ok_or_else(|| KernelError::UnknownCompression(image.into()))?;
    // By a file: the tools complain of what follows the stream (its unpacked size), after all of it was unpacked.
    let packed = out.with_extension("packed");
    fs::write(&packed, payload).map_err(io)?;
    let result = fs::File::create(out).and_then(|file| {
        let input = fs::File::open(&packed)?;
        Command::new(program).args(arguments).stdin(input).stdout(file).stderr(Stdio::piped()).output()
    });
    fs::remove_file(&packed).map_err(io)?;
    let output = result.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KernelError::NoTool { program, package },
        _ => io(error),
    })?;
    if is_whole_elf(&read(out)?) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no message").to_owned();
    Err(KernelError::BadPayload { program, path: image.into(), said })
}

/// The compressed part of a bzImage.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?));
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let version = u16::from_le_bytes(image.get(0x206..0x208)?.try_into().ok()?);
    if version < 0x208 {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1).checked_mul(512)?.checked_add(usize::try_from(u32_at(0x248)?).ok()?)?;
    let length = usize::try_from(u32_at(0x24c)?).ok()?;
    image.get(start..start.checked_add(length)?).filter(|payload| !payload.is_empty())
}

/// Whether every part that the ELF file's program headers name is in it.
fn is_whole_elf(file: &[u8]) -> bool {
    super::elf::Elf::parse(file).is_some_and(|elf| elf.end_of_contents() <= file.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::elf::tests::tiny_elf;

    /// A bzImage around a payload.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 512 * 3];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&64_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend([0xcc; 64]);
        image.extend(payload);
        image.extend([0xcc; 100]);
        image
    }

    fn compressed(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in");
        fs::write(&file, content).unwrap();
        let input = fs::File::open(&file).unwrap();
        let output = Command::new(program).args(arguments).stdin(input).output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn unpacks_each_compression() {
        let folder = tempfile::tempdir().unwrap();
        let (packed, out) = (folder.path().join("vmlinuz"), folder.path().join("vmlinux"));
        let kernel = tiny_elf(70_000);
        for (program, arguments) in
            [("zstd", &["-cq"][..]), ("xz", &["-c", "--check=crc32"]), ("lz4", &["-cql"]), ("gzip", &["-c"])]
        {
            let mut payload = compressed(program, arguments, &kernel);
            // As the kernel's build does it for most.
            if program != "gzip" {
                payload.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
            }
            fs::write(&packed, image(&payload)).unwrap();
            unpack(&packed, &out).unwrap();
            assert_eq!(fs::read(&out).unwrap()[..kernel.len()], kernel, "{program}");
            assert!(!folder.path().join("vmlinux.packed").exists());
        }
    }

    #[test]
    fn refuses_what_is_no_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let (packed, out) = (folder.path().join("vmlinuz"), folder.path().join("vmlinux"));
        fs::write(&packed, b"no").unwrap();
        assert!(matches!(unpack(&packed, &out), Err(KernelError::NotBzImage(_))));
        let mut cut = image(b"\x1f\x8b and more");
        cut.truncate(1700);
        cut[0x24c] = 0xff;
        fs::write(&packed, &cut).unwrap();
        assert!(matches!(unpack(&packed, &out), Err(KernelError::NotBzImage(_))));
        fs::write(&packed, image(b"what is this?")).unwrap();
        assert!(matches!(unpack(&packed, &out), Err(KernelError::UnknownCompression(_))));
        fs::write(&packed, image(b"\x1f\x8b and not gzip")).unwrap();
        assert!(matches!(unpack(&packed, &out), Err(KernelError::BadPayload { program: "gzip", .. })));
    }
}
