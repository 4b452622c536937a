//! The device with images and chains made here.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Block, Format, IOERR, Image, ImageConfig, ImageError, MOST_SECTORS, OK, UNSUPP, request};
use crate::virtio::testing::{Driver, Used};
use crate::virtio::{Device as _, DeviceError, RestoreError, Wake};

/// Sectors of the test's disks.
const SECTORS: u64 = 2048;
const SIZE: u64 = SECTORS * 512;

struct Bench {
    driver: Driver,
    disk: Block,
}

fn config(path: &Path, format: Format) -> ImageConfig {
    ImageConfig { path: path.to_path_buf(), format, read_only: false, backing_folders: Vec::new() }
}

fn read_only(path: &Path, format: Format) -> ImageConfig {
    ImageConfig { read_only: true, ..config(path, format) }
}

/// The error's whole chain.
fn lines(error: &ImageError) -> String {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    let mut all = Vec::new();
    while let Some(error) = next {
        all.push(error.to_string());
        next = error.source();
    }
    all.join("\n")
}

fn refusal(config: &ImageConfig) -> ImageError {
    match Image::open(config) {
        Ok(image) => panic!("{image:?} opens"),
        Err(error) => error,
    }
}

/// A raw image whose sectors begin with their number.
fn raw(folder: &Path) -> PathBuf {
    let path = folder.join("disk.raw");
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    for sector in 0..SECTORS {
        file.write_all_at(&pattern(sector), sector * 512).unwrap();
    }
    path
}

fn pattern(sector: u64) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.resize(512, 0x5a);
    bytes
}

fn patterns(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(pattern).collect()
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A qcow2 image over `backing`.
fn overlay(path: &Path, backing: &Path, format: &str) {
    let (path, backing) = (path.to_str().unwrap(), backing.to_str().unwrap());
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", backing, "-F", format, path]);
}

impl Bench {
    fn new(config: &ImageConfig) -> Self {
        let image = Image::open(config).unwrap_or_else(|error| panic!("{}", lines(&error)));
        Self { driver: Driver::new(1), disk: Block::new(image, "serial-of-the-first-disk", 1) }
    }

    fn send(&mut self, parts: &[&[u8]], room: &[u32]) -> Used {
        self.driver.submit(0, parts, room);
        let outcome = self.driver.drive(&mut self.disk, Wake::Queue(0)).unwrap();
        assert!(outcome.notify.contains(0));
        let mut used = self.driver.used(0);
        assert_eq!(used.len(), 1);
        used.remove(0)
    }

    /// A request's status, and the bytes before it.
    fn request(&mut self, kind: u32, sector: u64, data: &[u8], room: u32) -> (u8, Vec<u8>) {
        let header = header(kind, sector);
        let parts: &[&[u8]] = if data.is_empty() { &[&header] } else { &[&header, data] };
        let room = if room == 0 { vec![1] } else { vec![room, 1] };
        let mut used = self.send(parts, &room).data;
        (used.pop().unwrap(), used)
    }

    fn status(&mut self, kind: u32, sector: u64, data: &[u8]) -> u8 {
        self.request(kind, sector, data, 0).0
    }

    fn read(&mut self, sector: u64, count: u32) -> Vec<u8> {
        let (status, data) = self.request(request::IN, sector, &[], 512 * count);
        assert_eq!(status, OK);
        data
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    let mut b = Bench::new(&config(&path, Format::Raw));
    assert_eq!(b.read(7, 3), patterns(7, 3));
    assert_eq!(b.status(request::OUT, 8, &[0x11; 1024]), OK);
    let expected = [pattern(7), vec![0x11; 1024], pattern(10)].concat();
    assert_eq!(b.read(7, 4), expected);
    assert_eq!(b.status(request::FLUSH, 0, &[]), OK);
    let mut bytes = vec![0; 2048];
    File::open(&path).unwrap().read_exact_at(&mut bytes, 7 * 512).unwrap();
    assert_eq!(bytes, expected);
    // The ends of the disk.
    assert_eq!(b.status(request::OUT, SECTORS - 1, &[0x22; 512]), OK);
    assert_eq!(b.read(SECTORS - 1, 1), [0x22; 512]);
    assert_eq!(b.read(0, u32::try_from(SECTORS).unwrap()).len() as u64, SIZE);
}

#[test]
fn how_the_driver_cuts_a_request_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Bench::new(&config(&raw(folder.path()), Format::Raw));
    let header = header(request::OUT, 5);
    // The header in two pieces, the second with data; the status with the rest of the data.
    let joined = [&header[9..], &[0x33; 100]].concat();
    let used = b.send(&[&header[..9], &joined, &[0x33; 412]], &[1]);
    assert_eq!(used.data, [OK]);
    let header = self::header(request::IN, 4);
    let used = b.send(&[&header], &[3, 509, 700, 325]);
    let (status, data) = used.data.split_last().unwrap();
    assert_eq!((*status, data), (OK, &[pattern(4), vec![0x33; 512], pattern(6)].concat()[..]));
}

#[test]
fn sectors_that_are_not_there_and_odd_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    // Half a sector at the end is none.
    OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1; 300]).unwrap();
    let mut b = Bench::new(&config(&path, Format::Raw));
    assert_eq!(b.disk.config()[..8], SECTORS.to_le_bytes());
    let before = fs::read(&path).unwrap();
    for sector in [SECTORS - 1, SECTORS, u64::MAX / 512, u64::MAX / 512 + 1, u64::MAX] {
        assert_eq!(b.request(request::IN, sector, &[], 1024).0, IOERR);
        assert_eq!(b.status(request::OUT, sector, &[2; 1024]), IOERR);
    }
    for odd in [1, 511, 513] {
        assert_eq!(b.request(request::IN, 0, &[], odd).0, IOERR);
        assert_eq!(b.status(request::OUT, 0, &vec![2; odd as usize]), IOERR);
    }
    // A header cut short.
    assert_eq!(b.send(&[&[0; 15]], &[512, 1]).data.last(), Some(&IOERR));
    for kind in [request::DISCARD, request::WRITE_ZEROES] {
        let many = range(0, 1, 0).repeat(33);
        let bad = [
            range(SECTORS - 1, 2, 0),
            range(u64::MAX, 1, 0),
            range(0, MOST_SECTORS + 1, 0),
            range(0, u32::MAX, 0),
            range(0, 1, 0)[..15].to_vec(),
            [range(SECTORS, 1, 0), range(0, 1, 0)].concat(),
            Vec::new(),
            many,
        ];
        for data in bad {
            assert_eq!(b.status(kind, 0, &data), IOERR, "{data:?}");
        }
        assert_eq!(b.status(kind, 0, &range(0, 1, 2)), UNSUPP);
    }
    assert_eq!(b.status(request::DISCARD, 0, &range(0, 1, 1)), UNSUPP);
    assert!(fs::read(&path).unwrap() == before, "nothing changed");
    assert_eq!(b.read(1, 1), pattern(1));
}

#[test]
fn requests_without_room_for_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Bench::new(&config(&raw(folder.path()), Format::Raw));
    b.driver.submit(0, &[&header(request::FLUSH, 0)], &[]);
    let error = b.driver.drive(&mut b.disk, Wake::Queue(0)).unwrap_err();
    assert!(matches!(error, DeviceError::Chain { queue: 0, .. }));
    // Where only the status has room, nothing can be read: no sectors, well done.
    assert_eq!(b.send(&[&header(request::IN, 0)], &[1]).data, [OK]);
}

#[test]
fn who_are_you_and_what_is_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Bench::new(&config(&raw(folder.path()), Format::Raw));
    let (status, id) = b.request(request::GET_ID, 0, &[], 20);
    assert_eq!((status, &id[..]), (OK, &b"serial-of-the-first-"[..]));
    assert_eq!(b.request(request::GET_ID, 0, &[], 5), (OK, b"seria".to_vec()));
    // The status is the last byte of a room that is too big.
    assert_eq!(b.request(request::GET_ID, 0, &[], 40).0, OK);
    for kind in [2, 3, 5, 10, 12, 14, 0x8000_0000, u32::MAX] {
        assert_eq!(b.status(kind, 0, &[]), UNSUPP, "{kind}");
        assert_eq!(b.request(kind, 0, &[0; 512], 512).0, UNSUPP, "{kind}");
    }
}

#[test]
fn discards_free_room_and_zeroes_are_zeroes() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    let mut b = Bench::new(&config(&path, Format::Raw));
    assert_eq!(b.status(request::FLUSH, 0, &[]), OK);
    let before = fs::metadata(&path).unwrap().blocks();
    let ranges = [range(128, 256, 0), range(1024, 128, 0)].concat();
    assert_eq!(b.status(request::DISCARD, 0, &ranges), OK);
    assert_eq!(b.status(request::FLUSH, 0, &[]), OK);
    assert_eq!(before - fs::metadata(&path).unwrap().blocks(), 256 + 128);
    assert_eq!(b.read(127, 258), [pattern(127), vec![0; 256 * 512], pattern(384)].concat());
    // A range that is no whole page, with and without leave to free it.
    assert_eq!(b.status(request::WRITE_ZEROES, 0, &[range(9, 3, 0), range(20, 20, 1)].concat()), OK);
    assert_eq!(b.read(8, 5), [pattern(8), vec![0; 3 * 512], pattern(12)].concat());
    assert_eq!(b.read(19, 22), [pattern(19), vec![0; 20 * 512], pattern(40)].concat());
    // Of nothing, at the end of the disk.
    assert_eq!(b.status(request::WRITE_ZEROES, 0, &range(SECTORS, 0, 0)), OK);
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    let before = fs::read(&path).unwrap();
    let mut writable = Bench::new(&config(&path, Format::Raw));
    assert_eq!(writable.disk.features() & 1 << 5, 0);
    assert_eq!(writable.status(request::FLUSH, 0, &[]), OK);
    drop(writable);
    let mut b = Bench::new(&read_only(&path, Format::Raw));
    assert_eq!(b.disk.features() & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
    assert_eq!(b.read(3, 1), pattern(3));
    assert_eq!(b.status(request::OUT, 3, &[0; 512]), IOERR);
    assert_eq!(b.status(request::DISCARD, 0, &range(0, 8, 0)), IOERR);
    assert_eq!(b.status(request::WRITE_ZEROES, 0, &range(0, 8, 0)), IOERR);
    assert_eq!(b.status(request::FLUSH, 0, &[]), OK);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn several_queues_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::open(&config(&raw(folder.path()), Format::Raw)).unwrap();
    let mut disk = Block::new(image, "", 4);
    assert_eq!((disk.queue_sizes().len(), disk.config()[34..36].to_vec()), (4, vec![4, 0]));
    let mut driver = Driver::new(4);
    for queue in [3, 1] {
        for sector in 0..5 {
            driver.submit(queue, &[&header(request::IN, sector)], &[512, 1]);
        }
        driver.drive(&mut disk, Wake::Queue(queue)).unwrap();
        let used = driver.used(queue);
        assert_eq!(used.len(), 5);
        assert_eq!(used[4].data[..512], pattern(4));
    }
}

#[test]
fn qcow2_over_a_backing_file() {
    let folder = tempfile::tempdir().unwrap();
    let base = raw(folder.path());
    let before = fs::read(&base).unwrap();
    let path = folder.path().join("disk.qcow2");
    overlay(&path, Path::new("disk.raw"), "raw");
    let mut b = Bench::new(&config(&path, Format::Qcow2));
    assert_eq!(b.disk.config()[..8], SECTORS.to_le_bytes());
    assert_eq!(b.read(100, 2), patterns(100, 2));
    assert_eq!(b.status(request::OUT, 101, &[0x44; 512]), OK);
    assert_eq!(b.status(request::DISCARD, 0, &range(256, 128, 0)), OK);
    assert_eq!(b.status(request::WRITE_ZEROES, 0, &range(500, 3, 1)), OK);
    assert_eq!(b.status(request::FLUSH, 0, &[]), OK);
    let check = |b: &mut Bench| {
        assert_eq!(b.read(100, 3), [pattern(100), vec![0x44; 512], pattern(102)].concat());
        assert_eq!(b.read(255, 130), [pattern(255), vec![0; 128 * 512], pattern(384)].concat());
        assert_eq!(b.read(499, 5), [pattern(499), vec![0; 3 * 512], pattern(503)].concat());
    };
    check(&mut b);
    drop(b);
    // It is all in the file, as QEMU reads it too, and the backing file is as it was.
    let text = path.to_str().unwrap();
    qemu_img(&["check", "-q", text]);
    check(&mut Bench::new(&read_only(&path, Format::Qcow2)));
    let flat = folder.path().join("flat.raw");
    qemu_img(&["convert", "-O", "raw", text, flat.to_str().unwrap()]);
    check(&mut Bench::new(&config(&flat, Format::Raw)));
    assert!(fs::read(&base).unwrap() == before);
}

#[test]
fn backing_files_elsewhere_are_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let base = raw(other.path());
    let path = folder.path().join("disk.qcow2");
    overlay(&path, &base, "raw");
    let line = lines(&refusal(&config(&path, Format::Qcow2)));
    assert!(line.contains("disk.qcow2") && line.contains("disk.raw"), "{line}");
    assert!(line.contains("outside the folders that it may use"), "{line}");
    let mut allowed = config(&path, Format::Qcow2);
    allowed.backing_folders = vec![PathBuf::from("/nonexistent"), other.path().to_path_buf()];
    assert_eq!(Bench::new(&allowed).read(1, 1), pattern(1));
    // Neither a link nor a longer way leads there, nor does a backing file's backing file.
    let link = folder.path().join("link.raw");
    std::os::unix::fs::symlink(&base, &link).unwrap();
    let name = other.path().file_name().unwrap().to_str().unwrap();
    let second = folder.path().join("second.qcow2");
    for (backing, format) in [
        (link, "raw"),
        (folder.path().join("..").join(name).join("disk.raw"), "raw"),
        (path.clone(), "qcow2"),
    ] {
        overlay(&second, &backing, format);
        let error = refusal(&config(&second, Format::Qcow2));
        assert!(lines(&error).contains("outside the folders"), "{}", lines(&error));
    }
    // One that is gone.
    fs::remove_file(&base).unwrap();
    let line = lines(&refusal(&allowed));
    assert!(line.contains("its backing file") && line.contains("disk.raw"), "{line}");
}

#[test]
fn broken_images_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let text = path.to_str().unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", text, "1M"]);
    let good = fs::read(&path).unwrap();
    assert_eq!(Bench::new(&config(&path, Format::Qcow2)).read(1, 1), [0; 512]);
    // Its magic, its version, its cluster size, a table far away, an unknown feature, no more than its beginning.
    for (at, byte) in [(0, 0), (7, 9), (23, 63), (40, 0x7f), (72, 0x80)] {
        let mut bad = good.clone();
        bad[at] = byte;
        fs::write(&path, bad).unwrap();
        let opened = Image::open(&config(&path, Format::Qcow2));
        let Err(error) = opened else { panic!("byte {at} may be {byte}") };
        assert!(matches!(error, ImageError::Bad { .. }) && lines(&error).contains("disk.qcow2"));
    }
    for length in [0, 3, 71, 100] {
        fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(refusal(&config(&path, Format::Qcow2)), ImageError::Bad { .. }), "{length}");
    }
    let missing = folder.path().join("missing");
    assert!(matches!(refusal(&config(&missing, Format::Raw)), ImageError::Open { .. }));
    assert!(matches!(refusal(&config(folder.path(), Format::Raw)), ImageError::Open { .. }));
    assert!(!missing.exists());
    // A raw image is never taken for another format, whatever the guest writes into it.
    fs::write(&path, &good).unwrap();
    assert_eq!(Bench::new(&config(&path, Format::Raw)).read(0, 1), good[..512]);
}

#[test]
fn an_image_has_one_writer_or_many_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    let (writer, reader) = (config(&path, Format::Raw), read_only(&path, Format::Raw));
    let first = Image::open(&writer).unwrap();
    assert!(matches!(refusal(&writer), ImageError::InUse(named) if named == path));
    assert!(matches!(refusal(&reader), ImageError::InUse(_)));
    drop(first);
    let readers = [Image::open(&reader).unwrap(), Image::open(&reader).unwrap()];
    assert!(matches!(refusal(&writer), ImageError::InUse(_)));
    drop(readers);
    assert!(Image::open(&writer).is_ok());
}

/// A `qemu-io` that has the image open; ends with this.
struct Qemu(Child);

impl Qemu {
    fn open(path: &Path, read_only: bool) -> Self {
        let mut command = Command::new("qemu-io");
        if read_only {
            command.arg("-r");
        }
        command.args(["-f", "qcow2", "-c", "sleep 60000"]).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn opens(path: &Path, read_only: bool) -> bool {
        let mut command = Command::new("qemu-io");
        if read_only {
            command.arg("-r");
        }
        let output = command.args(["-f", "qcow2", "-c", "read 0 512"]).arg(path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || errors.contains("lock"), "{errors}");
        output.status.success()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody has locks on the file, without taking one: two who look at once would both go away.
fn wait_for_locks(path: &Path) {
    let end = Instant::now() + Duration::from_secs(30);
    // Those that QEMU takes last: it denies others to resize.
    let inode = format!(":{} 203 203", fs::metadata(path).unwrap().ino());
    while !fs::read_to_string("/proc/locks").unwrap().contains(&inode) {
        assert!(Instant::now() < end, "nobody takes the locks");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens an image that was just given up: a program that another test starts at that moment has its locks as well, until it runs.
fn open_given_up(config: &ImageConfig) -> Image {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match Image::open(config) {
            Err(ImageError::InUse(_)) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn qemus_locks_are_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "1M"]);
    let (writer, reader) = (config(&path, Format::Qcow2), read_only(&path, Format::Qcow2));
    let image = Image::open(&writer).unwrap();
    assert!(!Qemu::opens(&path, false) && !Qemu::opens(&path, true));
    drop(image);
    let image = open_given_up(&reader);
    assert!(!Qemu::opens(&path, false) && Qemu::opens(&path, true));
    drop(image);
    drop(open_given_up(&writer));
    assert!(Qemu::opens(&path, false));
    let qemu = Qemu::open(&path, false);
    wait_for_locks(&path);
    assert!(matches!(refusal(&reader), ImageError::InUse(_)));
    assert!(matches!(refusal(&writer), ImageError::InUse(_)));
    drop(qemu);
    let qemu = Qemu::open(&path, true);
    wait_for_locks(&path);
    assert!(matches!(refusal(&writer), ImageError::InUse(_)));
    assert!(Image::open(&reader).is_ok());
    drop(qemu);
    open_given_up(&writer);
}

#[test]
fn its_state_is_of_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = raw(folder.path());
    let mut b = Bench::new(&config(&path, Format::Raw));
    let state = b.disk.save().to_string();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    b.disk.restore(state.clone(), &b.driver.mem).unwrap();
    assert_eq!(b.read(2, 1), pattern(2));
    let mut smaller = state.clone();
    smaller["sectors"] = (SECTORS - 1).into();
    drop(b);
    let mut b = Bench::new(&read_only(&path, Format::Raw));
    for other in [state, smaller] {
        let error = b.disk.restore(other, &b.driver.mem).unwrap_err();
        assert!(matches!(error, RestoreError::Content(_)));
    }
    for garbage in [json!(null), json!({}), json!({ "sectors": -1, "read_only": true }), json!("disk")] {
        let error = b.disk.restore(garbage, &b.driver.mem).unwrap_err();
        assert!(matches!(error, RestoreError::Form(_)));
    }
}
