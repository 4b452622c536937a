//! Runs mmdebstrap with our recipe: follows its steps, passes the two files that it fills, and ends it with everything
//! that it started when the user interrupts.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};

use super::interrupt::Interrupts;
use super::mirror::Mirror;
use super::progress::{Progress, STEPS};
use super::{BaseRequest, CreateError, tool};

/// What every guest has; the rest comes by dependencies.
pub(super) const PACKAGES: [&str; 15] = [
    "busybox-static",
    "dbus",
    "e2fsprogs",
    "fonts-dejavu-core",
    "foot",
    "gtk-3-examples",
    "kmod",
    "linux-image-amd64",
    "sudo",
    "systemd-sysv",
    "udev",
    "x11-xkb-utils",
    "xdg-utils",
    "xkb-data",
    "xwayland",
];

/// The guest's own set-up, run in its folder by mmdebstrap.
pub(super) const RECIPE: &str = include_str!("../../../assets/guest/customize.sh");

/// Lines of a program's output that are kept to tell why it failed.
const LINES_KEPT: usize = 200;

/// Least number of the descriptors that are handed down: mmdebstrap's own must stay below 10, as the shell of its hooks
/// knows no others.
const HIGH_FD: i32 = 100;

/// How long mmdebstrap may take to clean up after itself.
const GRACE: Duration = Duration::from_secs(20);

/// The two files that the recipe fills: the root disk's file system, and a tar archive of parts.
pub(super) struct Outputs {
    /// Of the size of the disk.
    pub(super) image: File,
    /// Empty.
    pub(super) parts: File,
}

/// Where mmdebstrap may put its files: beside the base; in the system's folder for a user, whose own folders may be out
/// of reach for the root of a user namespace.
pub(super) fn temporary(work: &Path) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return work.join("tmp");
    }
    std::env::temp_dir().join(format!("inlay-build-{}", std::process::id()))
}

/// Builds the guest; `work` is a folder for temporary files.
pub(super) fn run(
    request: &BaseRequest,
    mirror: &Mirror,
    work: &Path,
    outputs: &Outputs,
    progress: &dyn Progress,
    interrupts: &Interrupts,
) -> Result<(), CreateError> {
    let inherited = |file: &File| -> rustix::io::Result<OwnedFd> {
        let fd = fcntl_dupfd_cloexec(file, HIGH_FD)?;
        fcntl_setfd(&fd, FdFlags::empty())?;
        Ok(fd)
    };
    // By descriptor: in a user namespace, the paths of these files may be out of reach.
    let image = inherited(&outputs.image).map_err(|error| CreateError::io(work)(error.into()))?;
    let parts = inherited(&outputs.parts).map_err(|error| CreateError::io(work)(error.into()))?;
    let mut child = command(request, mirror, work, [&image, &parts])
        .spawn()
        .map_err(|error| tool::missing("mmdebstrap", "mmdebstrap", error))?;
    let followed = follow(&mut child, progress, interrupts);
    if followed.is_err() {
        end(&mut child);
    }
    followed
}

fn command(request: &BaseRequest, mirror: &Mirror, work: &Path, [image, parts]: [&OwnedFd; 2]) -> Command {
    let root = rustix::process::geteuid().is_root();
    // Ended with us, even when we are killed.
    let mut command = Command::new("setpriv");
    // (unshare blocks TERM; killed, it takes all of its namespace with it. As a user, mmdebstrap has to clean up itself.)
    command.args(["--pdeathsig", if root { "KILL" } else { "TERM" }, "--"]);
    if root {
        // What mmdebstrap mounts is never seen outside and ends with it, as do all its children: removing the folder
        // afterwards cannot reach into a mount.
        command.args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child=KILL",
        ]);
        command.args(["--mount-proc", "--"]);
    }
    command.arg("mmdebstrap");
    command.arg(if root { "--mode=root" } else { "--mode=unshare" });
    command.args(["--variant=minbase", "--architectures=amd64", "--format=null"]);
    command.arg("--dpkgopt=force-unsafe-io");
    for folder in ["doc", "man", "info", "locale", "help", "gtk-doc"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    if let Some(locale) = &request.locale {
        // Texts of the one language that is spoken here.
        let language = locale.split('_').next().unwrap_or_default();
        for name in [format!("{language}/*"), format!("{language}[_@]*")] {
            command.arg(format!("--dpkgopt=path-include=/usr/share/locale/{name}"));
        }
        command.env("INLAY_LOCALE", locale);
    }
    command.arg("--aptopt=Acquire::Languages \"none\"");
    command.arg("--aptopt=Acquire::Retries \"3\"");
    command.arg(format!("--include={}", request.all_packages().join(",")));
    command.arg(format!("--customize-hook={RECIPE}"));
    command.args([request.suite.as_str(), "/dev/null"]);
    command.args(mirror.lines(&request.suite));
    command
        .env("PATH", tool::path())
        .env("LC_ALL", "C")
        // The kernel's package would build an initramfs that is never used.
        .env("INITRD", "No")
        .env("TMPDIR", work)
        .env("INLAY_IMAGE", image.as_raw_fd().to_string())
        .env("INLAY_PARTS", parts.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C reaches us alone; we end it in order.
        .process_group(0);
    command
}

/// Follows the child's words to its end.
fn follow(child: &mut Child, progress: &dyn Progress, interrupts: &Interrupts) -> Result<(), CreateError> {
    let (sender, lines) = mpsc::sync_channel(64);
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    let mut kept = std::collections::VecDeque::new();
    let mut current = 0;
    loop {
        interrupts.check()?;
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                tracing::debug!(target: "mmdebstrap", "{line}");
                let step = step_of(&line).unwrap_or(current);
                if step > current {
                    current = step;
                    progress.step(step, STEPS.len(), STEPS[step - 1]);
                }
                kept.push_back(line);
                if kept.len() > LINES_KEPT {
                    kept.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(CreateError::io("mmdebstrap".as_ref()))?;
    if status.success() {
        return Ok(());
    }
    // Its own output closed because it was ended with us.
    interrupts.check()?;
    let said = tool::telling(kept.iter().map(String::as_str), &status.to_string());
    Err(CreateError::Tool { program: "mmdebstrap", said })
}

/// Which step, from 1, a line of mmdebstrap or of the recipe begins.
fn step_of(line: &str) -> Option<usize> {
    const MARKS: [(&str, usize); 6] = [
        ("I: running apt-get update", 1),
        ("I: downloading packages", 1),
        ("I: extracting archives", 2),
        ("I: installing", 3),
        ("inlay-step: configure", 4),
        ("inlay-step: image", 5),
    ];
    MARKS.iter().find(|(mark, _)| line.starts_with(mark)).map(|(_, step)| *step)
}

/// Ends it and all that it started: asked first, so that it removes its files, then by force.
fn end(child: &mut Child) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    // Any error means that the group is gone already.
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}
