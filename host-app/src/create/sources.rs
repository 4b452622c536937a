//! What a file was made of, kept beside it, so that it is made anew only when one of those changed.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::CreateError;

/// Bytes of a list.
const MOST: u64 = 64 << 10;

fn list_of(made: &Path) -> PathBuf {
    made.with_extension("sources")
}

/// Whether `made` is as it was, and so is all that it was made of, beginning with these.
pub fn are_unchanged(made: &Path, first: &[&Path]) -> bool {
    let Ok(list) = read(&list_of(made)) else { return false };
    let mut lines = list.lines();
    [made].iter().chain(first).all(|path| lines.next() == Some(line(path).trim_end()))
        && lines.all(|kept| {
            kept.split_once(' ').is_some_and(|(_, path)| line(Path::new(path)).trim_end() == kept)
        })
        && !list.lines().any(|line| line.starts_with(UNKNOWN))
}

/// What a list says. It lies where the machine's own process may write: what it left there is read no further than a list goes.
fn read(path: &Path) -> io::Result<String> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut list = String::new();
    file.take(MOST).read_to_string(&mut list)?;
    Ok(list)
}

/// Keeps what it was made of: [`line()`]s.
///
/// # Errors
/// The list cannot be written.
pub fn keep(made: &Path, sources: &str) -> Result<(), CreateError> {
    let path = list_of(made);
    let list = line(made) + sources;
    super::write_whole(&path, list.as_bytes()).map_err(CreateError::io(&path))
}

/// Of a file that cannot be told from a later version of it.
const UNKNOWN: &str = "- ";

/// What tells a version of a file from another: where it is, how large, and when it was changed.
pub fn line(path: &Path) -> String {
    let Ok(file) = fs::metadata(path) else { return format!("{UNKNOWN}{}\n", path.display()) };
    let written = format!("{}.{}", file.mtime(), file.mtime_nsec());
    let changed = format!("{}.{}", file.ctime(), file.ctime_nsec());
    format!("{}:{}:{}:{written}:{changed} {}\n", file.dev(), file.ino(), file.size(), path.display())
}
