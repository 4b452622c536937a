//! Our own engine with a stock kernel and a busybox: what a whole guest would only do slowly or not at all.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{nested, within};
use inlay_tests::nested::image::Kernel;
use inlay_vmm_core::devices::balloon::Balloon;
use inlay_vmm_core::devices::block::{Block, Format, Image, ImageConfig};
use inlay_vmm_core::devices::console::Console;
use inlay_vmm_core::devices::input::{Event, Input, Kind};
use inlay_vmm_core::devices::rng::Rng;
use inlay_vmm_core::engine::Exit;
use inlay_vmm_core::engine::kvm::{KvmConfig, Vmm};
use inlay_vmm_core::transport::vhost_user::{FrontEnd, FrontEndConfig, MemoryObserver, RamRegion};
use inlay_vmm_core::virtio::Device;

/// A nested machine is slow.
const TIME: Duration = Duration::from_secs(600);
const MEMORY: u32 = 512;

/// A guest's files.
struct Files {
    folder: tempfile::TempDir,
    kernel: PathBuf,
}

impl Files {
    /// The kernel as it is packaged or unpacked, with these modules, and `init` to be run.
    fn new(packaged: bool, modules: &[&str], init: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Kernel::fetched().unwrap();
        std::fs::write(folder.path().join("initrd"), kernel.initramfs(modules, init).unwrap()).unwrap();
        let kernel = if packaged { kernel.vmlinuz() } else { kernel.vmlinux() };
        Self { folder, kernel }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> KvmConfig {
        KvmConfig {
            cpus: 2,
            memory_mib: MEMORY,
            kernel: self.kernel.clone(),
            initrd: Some(self.path("initrd")),
            cmdline: "console=ttyS0 loglevel=4 panic=-1 mitigations=off".into(),
            serial_log: self.path("serial"),
        }
    }

    fn serial(&self) -> String {
        std::fs::read_to_string(self.path("serial")).unwrap_or_default()
    }

    fn disk(&self, path: &Path) -> Box<dyn Device> {
        let image = ImageConfig {
            path: path.into(),
            format: Format::Raw,
            read_only: false,
            backing_folders: Vec::new(),
        };
        Box::new(Block::new(Image::open(&image).unwrap(), "disk", 2))
    }
}

#[test]
fn a_disk_survives_resets_and_power_off() {
    if nested::elsewhere("a_disk_survives_resets_and_power_off") {
        return;
    }
    let init = "
n=$(dd if=/dev/vda bs=16 count=1 2> /dev/null | tr -d '\\000')
n=$((${n:-0} + 1))
echo $n | dd of=/dev/vda conv=notrunc,fsync 2> /dev/null
echo \"boot $n of $(uname -r) with $(nproc) processors\" > /dev/ttyS0
# Waits until that is sent: the kernel's own words would come into it.
stty -F /dev/ttyS0 echo
case $n in
1) reboot -f ;;
2) echo b > /proc/sysrq-trigger ;;
*) poweroff -f ;;
esac
";
    // As it is packaged: the 64-bit boot protocol.
    let files = Files::new(true, &["virtio_pci", "virtio_blk"], init);
    let disk = files.path("disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let vmm = Vmm::start(&files.config(), vec![files.disk(&disk)], None).unwrap();
    let exit = vmm.wait_timeout(TIME);
    assert_eq!(exit, Some(Exit::PoweredOff), "{}", files.serial());
    let mut counter = [0; 2];
    std::fs::File::open(&disk).unwrap().read_exact_at(&mut counter, 0).unwrap();
    assert_eq!(&counter, b"3\n");
    let serial = files.serial();
    let boots: Vec<&str> = serial.lines().filter(|line| line.starts_with("boot ")).collect();
    assert_eq!(boots.len(), 3, "{serial}");
    assert!(boots.iter().all(|line| line.trim_end().ends_with("with 2 processors")), "{serial}");
}

#[test]
fn time_stands_still_while_the_guest_does() {
    if nested::elsewhere("time_stands_still_while_the_guest_does") {
        return;
    }
    let init = "
exec 3<> /dev/hvc0
stty -F /dev/hvc0 raw -echo
echo console >&3
while read -r line <&3; do
	echo \"$(cut -d ' ' -f 1 /proc/uptime) $(dmesg | grep -c -i 'lockup\\|stall') $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\" >&3
done
";
    let files = Files::new(false, &["virtio_pci", "virtio_console"], init);
    let (console, terminal) = UnixStream::pair().unwrap();
    let output = console.try_clone().unwrap();
    let devices: Vec<Box<dyn Device>> = vec![Box::new(Console::new(console.into(), output.into()).unwrap())];
    let vmm = Vmm::start(&files.config(), devices, None).unwrap();
    terminal.set_read_timeout(Some(TIME)).unwrap();
    let mut typed = terminal.try_clone().unwrap();
    let mut lines = BufReader::new(terminal).lines();
    // What is typed before somebody reads is lost.
    assert_eq!(lines.next().unwrap().unwrap(), "console", "{}", files.serial());
    let mut ask = || {
        typed.write_all(b"how late is it\n").unwrap();
        match lines.next() {
            Some(Ok(line)) => line,
            other => panic!("{other:?}: {}", files.serial()),
        }
    };
    let uptime = |line: &str| line.split(' ').next().unwrap().parse::<f64>().unwrap();
    let before = ask();
    let begun = std::time::Instant::now();
    let answered = ask();
    let one = begun.elapsed();
    vmm.pause().unwrap();
    std::thread::sleep(Duration::from_secs(60));
    vmm.resume().unwrap();
    let after = ask();
    println!("{before}; {answered} after {one:?}; after a pause of 60 s {after}");
    assert!(uptime(&after) - uptime(&answered) < 30.0, "it ran on: {answered}, {after}");
    assert_eq!(after.split(' ').nth(1), Some("0"), "a watchdog barked: {}", files.serial());
    vmm.quit();
    assert_eq!(vmm.wait_timeout(TIME), Some(Exit::Asked));
}

/// Guest memory, as the engine tells of it.
#[derive(Clone, Default)]
struct Ram(Arc<Mutex<Option<RamRegion>>>);

impl MemoryObserver for Ram {
    fn memory_changed(&mut self, regions: &[RamRegion]) {
        *self.0.lock().unwrap() = regions.first().cloned();
    }
}

impl Ram {
    /// MiB that the host has given for it.
    fn taken(&self) -> u64 {
        let region = self.0.lock().unwrap();
        (region.as_ref().unwrap().file.metadata().unwrap().blocks() * 512) >> 20
    }
}

#[test]
fn console_input_balloon_and_power_button() {
    if nested::elsewhere("console_input_balloon_and_power_button") {
        return;
    }
    let init = "
exec 3<> /dev/hvc0
stty -F /dev/hvc0 raw -echo
event() { for e in /sys/class/input/event*; do grep -q \"$1\" $e/device/name && echo /dev/input/${e##*/}; done; }
free() { grep MemFree /proc/meminfo | tr -dc '0-9'; }
echo \"console\" >&3
read -r line <&3
echo \"heard $line\" >&3
echo \"random $(dd if=/dev/hwrng bs=8 count=1 2> /dev/null | wc -c)\" >&3
keys=$(event Keyboard); pointer=$(event Pointer); button=$(event Power)
echo \"input ${keys:+keyboard} ${pointer:+pointer} ${button:+button}\" >&3
echo \"keys$(dd if=$keys bs=24 count=2 2> /dev/null | od -An -v -w24 -tu2 | awk '{ printf \" %s %s %s %s\", $9, $10, $11, $12 }')\" >&3
echo \"place$(dd if=$pointer bs=24 count=3 2> /dev/null | od -An -v -w24 -tu2 | awk '{ printf \" %s %s %s %s\", $9, $10, $11, $12 }')\" >&3
mount -t tmpfs -o size=200m tmpfs /mnt
dd if=/dev/urandom of=/mnt/file bs=1M count=128 2> /dev/null
echo filled >&3
read -r line <&3
rm /mnt/file
echo freed >&3
read -r line <&3
echo \"free $(free)\" >&3
read -r line <&3
echo \"free $(free)\" >&3
dd if=$button of=/dev/null bs=24 count=1 2> /dev/null
poweroff -f
";
    let modules =
        ["virtio_pci", "virtio_console", "virtio_rng", "virtio_input", "evdev", "button", "virtio_balloon"];
    let files = Files::new(false, &modules, &format!("mkdir /mnt\n{init}"));
    let (console, terminal) = UnixStream::pair().unwrap();
    let output = console.try_clone().unwrap();
    let [keyboard, pointer] = [Kind::Keyboard, Kind::Pointer].map(|kind| Input::new(kind).unwrap());
    let balloon = Balloon::new().unwrap();
    let (keys, places, memory) = (keyboard.handle(), pointer.handle(), balloon.handle());
    let devices: Vec<Box<dyn Device>> = vec![
        Box::new(Console::new(console.into(), output.into()).unwrap()),
        Box::new(Rng),
        Box::new(keyboard),
        Box::new(pointer),
        Box::new(balloon),
    ];
    let mut ram = Ram::default();
    let vmm = Vmm::start(&files.config(), devices, Some(&mut ram)).unwrap();
    terminal.set_read_timeout(Some(TIME)).unwrap();
    let mut typed = terminal.try_clone().unwrap();
    let mut lines = BufReader::new(terminal).lines();
    let mut next = || match lines.next() {
        Some(Ok(line)) => line,
        other => panic!("{other:?}: {}", files.serial()),
    };
    assert_eq!(next(), "console");
    typed.write_all(b"the host\n").unwrap();
    assert_eq!(next(), "heard the host");
    assert_eq!(next(), "random 8");
    assert_eq!(next(), "input keyboard pointer button");
    // Type, code and value of an event, as words of two bytes.
    let key = |value| Event { kind: 1, code: 30, value };
    // The guest opens its device when it has said so; what comes before is lost there.
    let line = within_retries(&mut next, || {
        keys.send(&[key(1)]);
        keys.send(&[key(0)]);
    });
    assert!(line == "keys 1 30 1 0 0 0 0 0" || line == "keys 1 30 0 0 0 0 0 0", "{line}");
    let line = within_retries(&mut next, || {
        let at = |code, value| Event { kind: 3, code, value };
        let other = rand() % 100;
        places.send(&[at(0, 1000 + other), at(1, 2000 + other)]);
    });
    assert!(line.starts_with("place 3 0 10") && line.contains(" 3 1 20"), "{line}");

    assert_eq!(next(), "filled");
    let filled = ram.taken();
    assert!(filled > 128, "{filled}");
    typed.write_all(b"go on\n").unwrap();
    assert_eq!(next(), "freed");
    // Free pages are reported some seconds later, in large pieces.
    within(TIME, "memory that comes back", || (ram.taken() + 100 < filled).then_some(()));
    memory.set_target(100 << 8);
    within(TIME, "100 MiB in the balloon", || (memory.actual() == 100 << 8).then_some(()));
    typed.write_all(b"go on\n").unwrap();
    let free = |line: String| line.strip_prefix("free ").unwrap().parse::<u64>().unwrap();
    let tight = free(next());
    memory.set_target(0);
    within(TIME, "an empty balloon", || (memory.actual() == 0).then_some(()));
    typed.write_all(b"go on\n").unwrap();
    let wide = free(next());
    assert!(wide > tight + 90 * 1024, "{tight} KiB free, then {wide} KiB");
    // As with keys: what comes before the guest has opened its device is lost there.
    let exit = within(TIME, "power-off by the button", || {
        // Fails only when it has ended already.
        let _ = vmm.powerdown();
        vmm.wait_timeout(Duration::from_secs(1))
    });
    assert_eq!(exit, Exit::PoweredOff, "{}", files.serial());
}

/// A file server in its jail; it ends with this.
struct FileServer(Child);

impl FileServer {
    /// Serves a folder to the first who connects to `socket`.
    fn start(folder: &Path, socket: &Path) -> Self {
        let mut command = Command::new(inlay_tests::tool("virtiofsd").unwrap());
        command.arg("--socket-path").arg(socket).arg("--shared-dir").arg(folder);
        let child = command.args(["--sandbox", "chroot", "--log-level", "warn"]).spawn().unwrap();
        let server = Self(child);
        within(TIME, "the file server's socket", || socket.exists().then_some(()));
        server
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn another_process_shares_a_folder() {
    if nested::elsewhere("another_process_shares_a_folder") {
        return;
    }
    let init = r#"
exec 3<> /dev/hvc0
stty -F /dev/hvc0 raw -echo
mkdir /mnt
mount -t virtiofs work /mnt || echo failed >&3
cat /mnt/greeting >&3
echo 'and back' > /mnt/answer
dd if=/dev/urandom of=/mnt/large bs=1M count=16 2> /dev/null
sync
echo "written $(md5sum < /mnt/large)" >&3
read -r line <&3
echo "read $(md5sum < /mnt/other)" >&3
umount /mnt
mount -t virtiofs work /mnt && echo again >&3
read -r line <&3
(cat /mnt/other > /dev/null; echo end) &
sleep 1
echo alive >&3
read -r line <&3
echo "still $line" >&3
read -r line <&3
"#;
    let files = Files::new(false, &["virtio_pci", "virtio_console", "virtiofs"], init);
    let shared = files.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("greeting"), "from the host\n").unwrap();
    let socket = files.path("fs.sock");
    let mut server = FileServer::start(&shared, &socket);
    let (console, terminal) = UnixStream::pair().unwrap();
    let output = console.try_clone().unwrap();
    let stream = UnixStream::connect(&socket).unwrap();
    let devices: Vec<Box<dyn Device>> = vec![
        Box::new(Console::new(console.into(), output.into()).unwrap()),
        Box::new(FrontEnd::new(stream, FrontEndConfig::file_system("work").unwrap()).unwrap()),
    ];
    let vmm = Vmm::start(&files.config(), devices, None).unwrap();
    terminal.set_read_timeout(Some(TIME)).unwrap();
    let mut typed = terminal.try_clone().unwrap();
    let mut lines = BufReader::new(terminal).lines();
    let mut next = || match lines.next() {
        Some(Ok(line)) => line,
        other => panic!("{other:?}: {}", files.serial()),
    };
    assert_eq!(next(), "from the host");
    let written = next();
    assert_eq!(std::fs::read(shared.join("answer")).unwrap(), b"and back\n");
    let md5 = |path: &Path| {
        let out = Command::new("md5sum").arg(path).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(written, format!("written {}  -", md5(&shared.join("large"))));
    // What it gave back for a pause it takes again.
    vmm.pause().unwrap();
    std::fs::copy(shared.join("large"), shared.join("other")).unwrap();
    vmm.resume().unwrap();
    typed.write_all(b"go on\n").unwrap();
    assert_eq!(next(), format!("read {}  -", md5(&shared.join("other"))));
    assert_eq!(next(), "again");
    // Its end is the end of the folder, not of the machine.
    server.end();
    typed.write_all(b"go on\n").unwrap();
    assert_eq!(next(), "alive");
    typed.write_all(b"answering\n").unwrap();
    assert_eq!(next(), "still answering");
    // Who waits for the folder waits in the guest; the machine still ends when it is told to.
    assert_eq!(vmm.try_wait(), None);
    vmm.quit();
    assert_eq!(vmm.wait_timeout(TIME), Some(Exit::Asked));
}

/// The guest's next line; `act` is done until it comes.
fn within_retries(next: &mut impl FnMut() -> String, act: impl Fn() + Sync) -> String {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                act();
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let line = next();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    })
}

/// A number that is another one each time: an axis that does not move says nothing.
fn rand() -> i32 {
    static NEXT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
    NEXT.fetch_add(7, std::sync::atomic::Ordering::Relaxed)
}
