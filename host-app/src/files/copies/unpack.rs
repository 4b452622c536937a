//! What the guest sends of files that are copied out of it ([`inlay_protocol::copying`]), made into files of the host.
//!
//! Everything is made here, in a folder that was empty, each thing once and never over another: the guest says names and bytes, no paths. A
//! symbolic link is made where it cannot lead out of the folder that was chosen, and left out else: below that folder, with `..` only
//! at its beginning and no oftener than there are folders to leave. The folders that it leaves are real ones, and what it then enters
//! is either real as well or a link by the same rule.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inlay_protocol::copying::{Item, Left, Node};
use inlay_protocol::framing::{DecodeError, Decoder};
use inlay_protocol::limits;

use super::size;

/// Files, folders and links of one copy.
const MOST: u64 = 500_000;
/// What a file takes of the disk beside its bytes.
const EACH: u64 = 4096;
/// After so many bytes it is looked whether the disk is full.
const LOOK: u64 = 16 << 20;

/// How far a copy has come.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    all_files: AtomicU64,
    all_bytes: AtomicU64,
    /// The user does not want it any more.
    pub cancelled: AtomicBool,
}

impl Progress {
    /// In words, and as a part of the whole.
    pub fn told(&self) -> (String, f32) {
        let [files, bytes, all_files, all_bytes] =
            [&self.files, &self.bytes, &self.all_files, &self.all_bytes].map(|number| number.load(Relaxed));
        let text = format!("{files} of {all_files}, {} of {}", size(bytes), size(all_bytes));
        // A file without bytes is something, too.
        let (done, all) = (bytes + EACH * files, all_bytes.saturating_add(EACH.saturating_mul(all_files)));
        (text, if all == 0 { 0.0 } else { (done as f32 / all as f32).min(1.0) })
    }
}

/// What of the disk a copy may take.
pub trait Room {
    /// Bytes, where so many would be needed.
    fn most(&self, need: u64) -> u64;
    /// Nothing more must be written now.
    fn is_short(&self) -> bool;
}

/// What was not copied, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    unreadable: u64,
    special: u64,
    deep: u64,
    links: u64,
}

impl Missing {
    /// In words; nothing where nothing is missing.
    pub fn told(&self) -> Option<String> {
        let kinds = [
            (self.unreadable, "cannot be read"),
            (self.links, "links that lead out of what was chosen"),
            (self.special, "neither files nor folders"),
            (self.deep, "too deep in folders"),
        ];
        let some = kinds.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = some.map(|(count, why)| format!("{count} ({why})")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Where each of what was chosen is, below the folder; nothing for what could not be copied.
    pub arrived: Vec<Option<PathBuf>>,
    /// What is missing.
    pub missing: Missing,
    /// Bytes that it takes, about.
    pub bytes: u64,
}

/// Why nothing is copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The stream ended before all was there.
    #[error("they stopped coming before all was there")]
    Cut,
    /// The guest breaks the protocol.
    #[error("the guest sends what is no copy")]
    Decode(#[from] DecodeError),
    /// Or says what makes no sense here.
    #[error("the guest sends what is no copy: {0}")]
    Nonsense(&'static str),
    /// There is not enough space.
    #[error("{} or more are needed, and {} may be used on this disk", size(*.need), size(*.most))]
    Space {
        /// Bytes.
        need: u64,
        /// Bytes.
        most: u64,
    },
    /// There is no space left at all.
    #[error("the disk is nearly full")]
    Full,
    /// Too many files.
    #[error("they are more than {MOST} files: share the folder instead")]
    TooMany,
    /// Something cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no pipe, folder or the like.
    #[error("they cannot be received")]
    Begin(#[source] io::Error),
}

/// Reads all that comes and makes it in `folder`, which is empty. `chosen` are the guest's paths, whose names are kept.
///
/// # Errors
/// See [`CopyError`]; what was made so far stays.
pub fn unpack(
    mut from: impl Read,
    folder: &Path,
    chosen: &[PathBuf],
    room: &dyn Room,
    progress: &Progress,
) -> Result<Unpacked, CopyError> {
    let mut making = Making {
        folder,
        chosen,
        room,
        progress,
        arrived: vec![None; chosen.len()],
        missing: Missing::default(),
        taken: HashSet::new(),
        next: 0,
        current: None,
        open: Vec::new(),
        file: None,
        count: 0,
        bytes: 0,
        looked: 0,
        most: room.most(0),
    };
    let mut decoder = Decoder::default();
    let mut piece = vec![0; limits::CHUNK];
    loop {
        while let Some(item) = decoder.next_message::<Item>()? {
            if making.take(item)? {
                return Ok(Unpacked {
                    arrived: making.arrived,
                    missing: making.missing,
                    bytes: making.bytes,
                });
            }
        }
        match from.read(&mut piece) {
            Ok(0) => return Err(CopyError::Cut),
            Ok(count) => decoder.push(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Begin(error)),
        }
    }
}

/// A file that is being written.
struct Open {
    file: File,
    path: PathBuf,
    node: Node,
    length: u64,
}

struct Making<'a> {
    folder: &'a Path,
    chosen: &'a [PathBuf],
    room: &'a dyn Room,
    progress: &'a Progress,
    arrived: Vec<Option<PathBuf>>,
    missing: Missing,
    /// Names in `folder`.
    taken: HashSet<OsString>,
    /// Numbers of what was chosen come in their order.
    next: usize,
    /// The one whose turn it is, until it began.
    current: Option<usize>,
    /// Folders in each other.
    open: Vec<(PathBuf, Node)>,
    file: Option<Open>,
    count: u64,
    bytes: u64,
    looked: u64,
    most: u64,
}

impl Making<'_> {
    /// Makes the next; `true` after the last.
    fn take(&mut self, item: Item) -> Result<bool, CopyError> {
        if self.file.is_some() && !matches!(item, Item::Data(_) | Item::Hole(_) | Item::Close | Item::Broken)
        {
            return Err(CopyError::Nonsense("something within a file"));
        }
        match item {
            Item::Found { files, bytes } => self.found(files, bytes)?,
            Item::Chosen(number) => {
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                let fits = self.open.is_empty() && (self.next..self.chosen.len()).contains(&number);
                if !fits {
                    return Err(CopyError::Nonsense("a number that was not asked for"));
                }
                (self.next, self.current) = (number + 1, Some(number));
            }
            Item::Folder(node) => {
                if self.open.len() >= limits::COPY_DEPTH {
                    return Err(CopyError::Nonsense("folders that lie too deep"));
                }
                let path = self.place(&node.name)?;
                fs::create_dir(&path).map_err(written(&path))?;
                self.open.push((path, node));
            }
            Item::File(node) => {
                let path = self.place(&node.name)?;
                let mode = if node.executable { 0o777 } else { 0o666 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
                self.file = Some(Open { file: file.map_err(written(&path))?, path, node, length: 0 });
            }
            Item::Data(bytes) => self.data(&bytes)?,
            Item::Hole(bytes) => {
                let open = self.file.as_mut().ok_or(CopyError::Nonsense("bytes of no file"))?;
                let length = open.length.checked_add(bytes).filter(|length| i64::try_from(*length).is_ok());
                open.length = length.ok_or(CopyError::Nonsense("a file without end"))?;
            }
            Item::Close => self.close()?,
            Item::Broken => {
                let open = self.file.take().ok_or(CopyError::Nonsense("the end of no file"))?;
                fs::remove_file(&open.path).map_err(written(&open.path))?;
                self.missing.unreadable += 1;
                if self.open.is_empty() {
                    self.lost();
                }
            }
            Item::Link { name, target } => self.link(&name, &target)?,
            Item::Left(why) => {
                self.counted()?;
                *match why {
                    Left::Unreadable => &mut self.missing.unreadable,
                    Left::Special => &mut self.missing.special,
                    Left::Deep => &mut self.missing.deep,
                } += 1;
                if self.open.is_empty() {
                    self.current = None;
                }
            }
            Item::Done if self.open.is_empty() => return Ok(true),
            Item::Done => return Err(CopyError::Nonsense("an end within a folder")),
        }
        Ok(false)
    }

    fn found(&mut self, files: u64, bytes: u64) -> Result<(), CopyError> {
        self.progress.all_files.store(files, Relaxed);
        self.progress.all_bytes.store(bytes, Relaxed);
        if files > MOST {
            return Err(CopyError::TooMany);
        }
        if bytes > self.most {
            self.most = self.room.most(bytes);
        }
        if bytes > self.most { Err(CopyError::Space { need: bytes, most: self.most }) } else { Ok(()) }
    }

    fn counted(&mut self) -> Result<(), CopyError> {
        self.count += 1;
        self.progress.files.store(self.count, Relaxed);
        if self.count > MOST {
            return Err(CopyError::TooMany);
        }
        self.takes(EACH)
    }

    /// So many bytes of the disk will be taken.
    fn takes(&mut self, bytes: u64) -> Result<(), CopyError> {
        self.bytes += bytes;
        if self.bytes > self.most {
            return Err(CopyError::Space { need: self.bytes, most: self.most });
        }
        if self.bytes - self.looked >= LOOK {
            self.looked = self.bytes;
            if self.room.is_short() {
                return Err(CopyError::Full);
            }
        }
        Ok(())
    }

    /// Where the next file or folder is made.
    fn place(&mut self, name: &[u8]) -> Result<PathBuf, CopyError> {
        self.counted()?;
        if let Some((folder, _)) = self.open.last() {
            return Ok(folder.join(OsStr::from_bytes(name)));
        }
        let number = self.current.take().ok_or(CopyError::Nonsense("more than what was chosen"))?;
        let name = self.chosen.get(number).and_then(|path| path.file_name()).unwrap_or(OsStr::new("files"));
        let mut below = PathBuf::from(name);
        if !self.taken.insert(name.to_owned()) {
            // Another of that name, from elsewhere: each has a folder of its own.
            let free =
                (2..).map(|n: u64| OsString::from(n.to_string())).find(|n| self.taken.insert(n.clone()));
            let around = PathBuf::from(free.unwrap_or_default());
            let folder = self.folder.join(&around);
            fs::create_dir(&folder).map_err(written(&folder))?;
            below = around.join(name);
        }
        let path = self.folder.join(&below);
        if let Some(arrived) = self.arrived.get_mut(number) {
            *arrived = Some(below);
        }
        Ok(path)
    }

    /// The chosen file that was begun last is not there.
    fn lost(&mut self) {
        if let Some(arrived) = self.next.checked_sub(1).and_then(|number| self.arrived.get_mut(number)) {
            *arrived = None;
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.takes(bytes.len() as u64)?;
        let open = self.file.as_mut().ok_or(CopyError::Nonsense("bytes of no file"))?;
        let Open { file, path, length, .. } = open;
        // Behind a hole.
        let put = file.seek(SeekFrom::Start(*length)).and_then(|_| file.write_all(bytes));
        put.map_err(written(path))?;
        *length = length.saturating_add(bytes.len() as u64);
        self.progress.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn close(&mut self) -> Result<(), CopyError> {
        let (file, path, node) = match self.file.take() {
            Some(Open { file, path, node, length }) => {
                file.set_len(length).map_err(written(&path))?;
                (file, path, node)
            }
            None => {
                let (path, node) = self.open.pop().ok_or(CopyError::Nonsense("the end of nothing"))?;
                (File::open(&path).map_err(written(&path))?, path, node)
            }
        };
        if let Some(time) = time(node.modified) {
            file.set_times(FileTimes::new().set_modified(time)).map_err(written(&path))?;
        }
        Ok(())
    }

    fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), CopyError> {
        self.counted()?;
        let Some((folder, _)) = self.open.last() else {
            return Err(CopyError::Nonsense("a link where none was chosen"));
        };
        if !stays_inside(target, self.open.len() - 1) {
            self.missing.links += 1;
            return Ok(());
        }
        let path = folder.join(OsStr::from_bytes(name));
        std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).map_err(written(&path))
    }
}

/// Whether a link cannot lead out, which lies so many folders below the chosen one.
fn stays_inside(target: &[u8], depth: usize) -> bool {
    let mut leaves = 0;
    let mut entered = false;
    for component in Path::new(OsStr::from_bytes(target)).components() {
        match component {
            Component::ParentDir if entered => return false,
            Component::ParentDir => leaves += 1,
            Component::Normal(_) => entered = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    leaves <= depth
}

fn time((seconds, nanoseconds): (i64, u32)) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::framing::encode;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    struct Fixed(u64);

    impl Room for Fixed {
        fn most(&self, _: u64) -> u64 {
            self.0
        }

        fn is_short(&self) -> bool {
            false
        }
    }

    struct Bench {
        root: tempfile::TempDir,
        room: u64,
        progress: Progress,
    }

    impl Bench {
        fn new() -> Self {
            Self { root: tempfile::tempdir().unwrap(), room: 1 << 30, progress: Progress::default() }
        }

        fn folder(&self) -> PathBuf {
            let folder = self.root.path().join("in it");
            let _ = fs::create_dir(&folder);
            folder
        }

        fn unpack(&self, chosen: &[&str], items: &[Item]) -> Result<Unpacked, CopyError> {
            let bytes: Vec<u8> = items.iter().flat_map(|item| encode(item).unwrap()).collect();
            let chosen: Vec<PathBuf> = chosen.iter().map(PathBuf::from).collect();
            unpack(bytes.as_slice(), &self.folder(), &chosen, &Fixed(self.room), &self.progress)
        }

        /// What is said of a copy that is none.
        fn refused(items: &[Item]) -> String {
            let bench = Self::new();
            let said = chain(&bench.unpack(&["/a", "/b"], items).unwrap_err());
            assert!(fs::read_dir(bench.root.path()).unwrap().count() == 1, "nothing is made elsewhere");
            said
        }
    }

    use crate::machine::door::chain;

    fn node(name: &[u8]) -> Node {
        Node { name: name.to_vec(), executable: false, modified: (1_000_000_000, 5) }
    }

    fn file(name: &[u8], text: &[u8]) -> Vec<Item> {
        vec![Item::File(node(name)), Item::Data(text.to_vec()), Item::Close]
    }

    fn link(name: &[u8], target: &str) -> Item {
        Item::Link { name: name.to_vec(), target: target.into() }
    }

    #[test]
    fn files_and_folders_arrive_with_their_names_times_and_rights() {
        let bench = Bench::new();
        let odd = b"o\xffd\nd\x1b";
        let program = Node { executable: true, ..node(b"run") };
        let items = [
            vec![Item::Found { files: 5, bytes: 9 }, Item::Chosen(0)],
            file(b"whatever the guest calls it", b"dear"),
            vec![Item::Chosen(1), Item::Folder(node(b"docs")), Item::File(program), Item::Close],
            file(odd, b"odd"),
            vec![link(b"way", "run"), Item::Folder(node(b"empty")), Item::Close, Item::Close],
            vec![Item::Chosen(3), Item::Left(Left::Unreadable), Item::Chosen(4)],
            file(b"letter", b"another"),
            vec![Item::Done],
        ];
        let chosen = ["/home/letter", "/home/docs", "/skipped", "/gone", "/elsewhere/letter"];
        let came = bench.unpack(&chosen, &items.concat()).unwrap();
        let below = |path: &str| Some(PathBuf::from(path));
        assert_eq!(came.arrived, [below("letter"), below("docs"), None, None, below("2/letter")]);
        let at = |path: &str| bench.folder().join(path);
        assert_eq!(fs::read(at("letter")).unwrap(), b"dear");
        assert_eq!(fs::read(at("2/letter")).unwrap(), b"another");
        assert_eq!(fs::read(at("docs").join(OsStr::from_bytes(odd))).unwrap(), b"odd");
        assert_eq!(fs::read_link(at("docs/way")).unwrap(), Path::new("run"));
        let found = |path: &str| fs::metadata(at(path)).unwrap();
        assert_eq!((found("docs/run").permissions().mode() & 0o100, found("docs/run").len()), (0o100, 0));
        assert_eq!(found("letter").permissions().mode() & 0o7111, 0);
        for path in ["letter", "docs", "docs/empty"] {
            assert_eq!((found(path).mtime(), found(path).mtime_nsec()), (1_000_000_000, 5), "{path}");
        }
        assert_eq!(came.missing.told().as_deref(), Some("1 (cannot be read)"));
        assert_eq!(bench.progress.told().0, "8 of 5, 14 bytes of 9 bytes");
    }

    #[test]
    fn no_link_leads_out_of_what_was_chosen() {
        for good in ["a", "./a", "a/b", "a//b/", "../a", "..", "../../a", "../..", "."] {
            assert!(stays_inside(good.as_bytes(), 2), "{good}");
        }
        for bad in
            ["/", "/etc/passwd", "../../..", "../../../a", "a/..", "a/../b", "../a/../../b", "./../../../x"]
        {
            assert!(!stays_inside(bad.as_bytes(), 2), "{bad}");
        }
        assert!(!stays_inside(b"..", 0) && stays_inside(b"a", 0));
        // Through another link, which leads up, and the way back.
        let bench = Bench::new();
        let secret = bench.root.path().join("secret");
        fs::write(&secret, "s").unwrap();
        let mut items = vec![Item::Chosen(0), Item::Folder(node(b"c")), Item::Folder(node(b"d"))];
        items.push(link(b"up", ".."));
        for (at, target) in
            ["up/../../secret", "../../secret", "../../../secret", "/etc/passwd"].iter().enumerate()
        {
            items.push(link(format!("out{at}").as_bytes(), target));
        }
        items.extend([link(b"dead", "nothing"), Item::Close, Item::Close, Item::Done]);
        let came = bench.unpack(&["/c"], &items).unwrap();
        assert_eq!(came.missing, Missing { links: 4, ..Missing::default() });
        let names = fs::read_dir(bench.folder().join("c/d")).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["dead", "up"]);
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_something() {
        let outside = tempfile::tempdir().unwrap();
        // A link that would be safe where it is, as a folder, and as a file.
        for through in [vec![Item::Folder(node(b"l"))], file(b"l", b"x")] {
            let items =
                [vec![Item::Chosen(0), Item::Folder(node(b"a")), link(b"l", "target")], through].concat();
            assert!(Bench::refused(&items).starts_with("cannot write"), "{items:?}");
        }
        let twice =
            [vec![Item::Chosen(0), Item::Folder(node(b"a"))], file(b"f", b"1"), file(b"f", b"2")].concat();
        assert!(Bench::refused(&twice).contains("exists"));
        // Even if somebody put one there.
        let bench = Bench::new();
        symlink(outside.path().join("new"), bench.folder().join("a")).unwrap();
        let items = [vec![Item::Chosen(0)], file(b"a", b"x")].concat();
        assert!(matches!(bench.unpack(&["/a"], &items), Err(CopyError::Write { .. })));
        assert!(!outside.path().join("new").exists());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let begun = || Item::File(node(b"f"));
        let folder = || Item::Folder(node(b"d"));
        let cases: Vec<Vec<Item>> = vec![
            vec![begun()],
            vec![Item::Chosen(2)],
            vec![Item::Chosen(1), Item::Chosen(0)],
            vec![Item::Chosen(0), begun(), begun()],
            vec![Item::Chosen(0), begun(), Item::Done],
            vec![Item::Chosen(0), begun(), Item::Close, begun()],
            vec![Item::Chosen(0), folder(), Item::Done],
            vec![Item::Chosen(0), folder(), Item::Chosen(1)],
            vec![Item::Chosen(0), folder(), Item::Close, folder()],
            vec![Item::Chosen(0), link(b"l", "x")],
            vec![Item::Chosen(0), begun(), Item::Hole(1 << 62), Item::Hole(1 << 62)],
            vec![Item::Close],
            vec![Item::Broken],
            vec![Item::Data(vec![1])],
            vec![Item::Hole(1)],
        ];
        for items in cases {
            let said = Bench::refused(&items);
            assert!(said.starts_with("the guest sends what is no copy"), "{items:?}: {said}");
        }
        let mut deep = vec![Item::Chosen(0)];
        deep.extend((0..=limits::COPY_DEPTH).map(|_| folder()));
        assert!(Bench::refused(&deep).contains("deep"));
        assert!(Bench::refused(&[Item::Chosen(0)]).contains("stopped"));
        let bench = Bench::new();
        let noise = unpack(&[0xff; 64][..], &bench.folder(), &[], &Fixed(1), &bench.progress);
        assert!(matches!(noise, Err(CopyError::Decode(_))));
    }

    #[test]
    fn no_more_comes_than_there_is_room_for() {
        let mut bench = Bench::new();
        let found = |bytes| Item::Found { files: 1, bytes };
        let space = |result| matches!(result, Err(CopyError::Space { .. }));
        assert!(space(bench.unpack(&["/a"], &[found((1 << 30) + 1)])), "it is told before it comes");
        assert!(matches!(
            bench.unpack(&["/a"], &[Item::Found { files: MOST + 1, bytes: 0 }]),
            Err(CopyError::TooMany)
        ));
        // One that says another thing than it does.
        bench.room = 100_000;
        let piece = || Item::Data(vec![7; limits::CHUNK]);
        let lies = [found(1), Item::Chosen(0), Item::File(node(b"a")), piece(), piece()];
        assert!(space(bench.unpack(&["/a"], &lies)));
        assert_eq!(fs::metadata(bench.folder().join("a")).unwrap().len(), limits::CHUNK as u64);
        // Names take their place, too.
        let bench = Bench { room: 100_000, ..Bench::new() };
        let mut many = vec![Item::Chosen(0), Item::Folder(node(b"a"))];
        many.extend((0..100).flat_map(|n: u32| file(n.to_string().as_bytes(), b"x")));
        assert!(space(bench.unpack(&["/a"], &many)));
    }

    #[test]
    fn holes_take_no_place_and_what_breaks_is_left_out() {
        let bench = Bench::new();
        let sparse =
            [Item::File(node(b"s")), Item::Hole(1 << 31), Item::Data(b"end".to_vec()), Item::Hole(1 << 20)];
        let items = [
            vec![Item::Chosen(0)],
            sparse.to_vec(),
            vec![Item::Close, Item::Chosen(1), Item::File(node(b"b")), Item::Data(vec![1]), Item::Broken],
            vec![Item::Done],
        ];
        let came = bench.unpack(&["/s", "/b"], &items.concat()).unwrap();
        assert_eq!(came.arrived, [Some(PathBuf::from("s")), None]);
        assert_eq!(came.missing, Missing { unreadable: 1, ..Missing::default() });
        let found = fs::metadata(bench.folder().join("s")).unwrap();
        assert_eq!(found.len(), (1 << 31) + 3 + (1 << 20));
        assert!(found.blocks() * 512 < 1 << 20 && !bench.folder().join("b").exists());
    }
}
