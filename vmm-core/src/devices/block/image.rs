//! Disk images, by the imago crate: raw, and qcow2 with backing files.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::storage::StorageOpenOptions;
use imago::{FormatAccess, FormatDriverBuilder, Storage, format::gate::ImplicitOpenGate};
use vm_memory::VolatileSlice;

use super::lock;

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// QEMU's format, with backing files.
    Qcow2,
}

/// An image.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// The file.
    pub path: PathBuf,
    /// Its format; never guessed, because a guest could write another format's header into a raw image.
    pub format: Format,
    /// Nothing is written to it.
    pub read_only: bool,
    /// Folders in which backing files may be, besides the image's own.
    pub backing_folders: Vec<PathBuf>,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be opened.
    #[error("cannot open the disk image {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it is said to be, or needs what is not allowed.
    #[error("the disk image {path} cannot be used")]
    Bad {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another machine uses it.
    #[error("the disk image {0} is in use by another machine")]
    InUse(PathBuf),
}

/// An open image.
pub struct Image {
    access: FormatAccess<imago::file::File>,
    read_only: bool,
    path: PathBuf,
    /// Holds the locks.
    _locked: File,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("path", &self.path)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Opens and locks an image.
    ///
    /// # Errors
    /// As [`ImageError`] says; nothing was changed then.
    pub fn open(config: &ImageConfig) -> Result<Self, ImageError> {
        let path = config.path.clone();
        let opened = OpenOptions::new().read(true).write(!config.read_only).open(&path);
        let locked = opened.map_err(|source| ImageError::Open { path: path.clone(), source })?;
        match lock::take(&locked, config.read_only) {
            Ok(true) => {}
            Ok(false) => return Err(ImageError::InUse(path)),
            Err(source) => return Err(ImageError::Open { path, source }),
        }
        let bad = |source| ImageError::Bad { path: path.clone(), source };
        let access = open(config).map_err(bad)?;
        // No file system has larger files, and sums of places and lengths stay numbers.
        if i64::try_from(access.size()).is_err() {
            return Err(bad(io::Error::other("it says that it has more bytes than a disk can have")));
        }
        Ok(Self { access, read_only: config.read_only, path, _locked: locked })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.access.size()
    }

    /// Whether nothing can be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Reads into guest memory.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, slices: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        let (vector, _guard) = IoVectorMut::from_volatile_slice(slices);
        self.access.readv(vector, at)
    }

    /// Reads into memory of our own.
    ///
    /// # Errors
    /// The host's, or there is no so much from there on.
    pub fn read_bytes(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.size());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.access.read(bytes, at)
    }

    /// Writes from guest memory.
    ///
    /// # Errors
    /// The host's.
    pub fn write(&self, slices: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        let (vector, _guard) = IoVector::from_volatile_slice(slices);
        self.access.writev(vector, at)
    }

    /// Brings everything that was written to the host's disk.
    ///
    /// # Errors
    /// The host's.
    pub fn flush(&self) -> io::Result<()> {
        self.access.flush()?;
        self.access.sync()
    }

    /// Frees room; what is there afterwards is zero.
    ///
    /// # Errors
    /// The host's.
    pub fn discard(&mut self, at: u64, length: u64) -> io::Result<()> {
        self.access.discard_to_zero(at, length)
    }

    /// Fills with zeroes.
    ///
    /// # Errors
    /// The host's.
    pub fn write_zeroes(&self, at: u64, length: u64) -> io::Result<()> {
        self.access.write_zeroes(at, length)
    }
}

fn open(config: &ImageConfig) -> io::Result<FormatAccess<imago::file::File>> {
    let options = StorageOpenOptions::new().filename(&config.path).write(!config.read_only);
    let file = imago::file::File::open(options)?;
    match config.format {
        Format::Raw => {
            let raw = Raw::builder(file).write(!config.read_only).open(Gate { folders: Vec::new() })?;
            Ok(FormatAccess::new(raw))
        }
        Format::Qcow2 => {
            let own = config.path.canonicalize()?.parent().map(Path::to_path_buf);
            let allowed = config.backing_folders.iter().filter_map(|folder| folder.canonicalize().ok());
            let gate = Gate { folders: own.into_iter().chain(allowed).collect() };
            let qcow2 = Qcow2::<imago::file::File>::builder(file).write(!config.read_only).open(gate)?;
            Ok(FormatAccess::new(qcow2))
        }
    }
}

/// Lets only files in these folders be opened because an image names them.
struct Gate {
    folders: Vec<PathBuf>,
}

impl Gate {
    fn check(&self, path: Option<&Path>) -> io::Result<()> {
        let path = path.ok_or_else(|| io::Error::other("its backing file has no name"))?;
        let named = path.display();
        let real = path
            .canonicalize()
            .map_err(|error| io::Error::new(error.kind(), format!("its backing file {named}: {error}")))?;
        if self.folders.iter().any(|folder| real.starts_with(folder)) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("its backing file {named} is outside the folders that it may use"),
        ))
    }
}

impl ImplicitOpenGate<imago::file::File> for Gate {
    fn open_format<F: FormatDriverBuilder<imago::file::File>>(
        &mut self,
        builder: F,
    ) -> io::Result<FormatAccess<imago::file::File>> {
        self.check(builder.get_image_path().as_deref())?;
        let format = builder.open(Self { folders: self.folders.clone() })?;
        Ok(FormatAccess::new(format))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<imago::file::File> {
        self.check(options.get_filename())?;
        imago::file::File::open(options)
    }
}
