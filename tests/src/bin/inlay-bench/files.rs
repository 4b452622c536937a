//! A shared folder: our file server beside the program virtiofsd, under the same QEMU with the same guest.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use inlay_tests::nested::image::Kernel;
use inlay_tests::tool;

use super::local::program;
use super::small::{Helper, run_to_its_end};
use super::{median, say};

const INIT: &str = "
echo > /dev/ttyS0
mkdir /mnt
mount -t virtiofs inlay /mnt
folder=/mnt
[ -d /mnt/shared ] && folder=/mnt/shared
echo \"data $(/bin/inlay-load $folder/load.data)\" > /dev/ttyS0
now() { read -r up idle < /proc/uptime; echo \"$up\"; }
start=$(now)
mkdir $folder/many
i=0
while [ $i -lt 400 ]; do echo $i > $folder/many/$i; i=$((i + 1)); done
made=$(now)
cat $folder/many/* > /dev/null
ls -l $folder/many > /dev/null
rm -r $folder/many
echo \"many $start $made $(now)\" > /dev/ttyS0
poweroff -f
";
const MODULES: [&str; 2] = ["virtio_pci", "virtiofs"];
const WHAT: [(&str, &str); 6] = [
    ("written in order", "MB/s"),
    ("read in order", "MB/s"),
    ("4 KiB read at random", "/s"),
    ("4 KiB written at random", "/s"),
    ("files made", "/s"),
    ("files read, listed, removed", "/s"),
];

/// Prints both servers' figures and their ratios.
///
/// # Errors
/// A guest or a server does not do what it should.
pub fn report(runs: usize) -> Result<()> {
    let guest = Guest::make()?;
    let mut all: Vec<[[f64; 6]; 2]> = Vec::new();
    for run in 0..runs {
        // Which of them comes first alternates: a machine that warms up or slows down favours neither.
        let ours_first = run % 2 == 1;
        let first = guest.run(ours_first)?;
        let second = guest.run(!ours_first)?;
        all.push(if ours_first { [second, first] } else { [first, second] });
    }
    say("A shared folder under QEMU (medians; the ratio is of each run's pair)");
    for (at, (what, unit)) in WHAT.into_iter().enumerate() {
        let [theirs, ours] = [0, 1].map(|who| median(all.iter().map(|run| run[who][at]).collect()));
        let ratio = median(all.iter().map(|run| run[1][at] / run[0][at]).collect());
        say(&format!("  {what:<28} virtiofsd {theirs:8.0} {unit:<5} Inlay {ours:8.0} {unit:<5} {ratio:.2}x"));
    }
    Ok(())
}

struct Guest {
    folder: tempfile::TempDir,
    kernel: PathBuf,
}

impl Guest {
    fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kernel = Kernel::of_this_system()?;
        let initrd = kernel.initramfs_with(&MODULES, INIT, &[&program("inlay-load")?])?;
        std::fs::write(folder.path().join("initrd"), initrd)?;
        Ok(Self { folder, kernel: kernel.vmlinux() })
    }

    /// One run with either server.
    fn run(&self, ours: bool) -> Result<[f64; 6]> {
        let folder = tempfile::tempdir()?;
        let shared = folder.path().join("shared");
        std::fs::create_dir(&shared)?;
        let (_server, socket) =
            if ours { serve(folder.path(), &shared)? } else { theirs(folder.path(), &shared)? };
        let serial = folder.path().join("serial");
        self.qemu(&socket, &serial)?;
        let text = std::fs::read_to_string(&serial)?;
        let numbers = |word: &str| -> Result<Vec<f64>> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
            let line = line.with_context(|| format!("the guest does not say {word}: {text}"))?;
            Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
        };
        match (numbers("data ")?.as_slice(), numbers("many ")?.as_slice()) {
            ([write, read, reads, writes], [start, made, end]) => {
                Ok([*write, *read, *reads, *writes, 400.0 / (made - start), 400.0 / (end - made)])
            }
            _ => bail!("the guest says something else: {text}"),
        }
    }

    fn qemu(&self, files: &Path, serial: &Path) -> Result<()> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,svm=off", "-smp", "1", "-m", "512M"]);
        qemu.args(["-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,graphics=off,memory-backend=ram"]);
        qemu.args(["-object", "memory-backend-memfd,id=ram,share=on,size=512M"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.folder.path().join("initrd"));
        qemu.args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off"]);
        qemu.arg("-serial").arg(format!("file:{}", serial.display()));
        qemu.arg("-chardev").arg(format!("socket,id=fs,path={}", files.display()));
        qemu.args(["-device", "vhost-user-fs-pci,tag=inlay,chardev=fs,queue-size=1024"]);
        run_to_its_end(&mut qemu)
    }
}

fn theirs(folder: &Path, shared: &Path) -> Result<(Helper, PathBuf)> {
    let socket = folder.join("fs.sock");
    let mut files = Command::new(tool("virtiofsd")?);
    files.arg("--socket-path").arg(&socket).arg("--shared-dir").arg(shared).args(["--sandbox", "namespace"]);
    Ok((Helper::start(&mut files, &socket)?, socket))
}

/// `inlay files`, as of a machine `bench` in folders of its own.
fn serve(folder: &Path, shared: &Path) -> Result<(Helper, PathBuf)> {
    let (config, run) = (folder.join("config"), folder.join("run"));
    std::fs::create_dir_all(config.join("inlay/shares"))?;
    std::fs::create_dir_all(run.join("inlay/bench"))?;
    let list = format!("[[folder]]\nname = \"shared\"\npath = \"{}\"\n", shared.canonicalize()?.display());
    std::fs::write(config.join("inlay/shares/bench.toml"), list)?;
    let mut command = Command::new(program("inlay")?);
    command.args(["files", "bench"]).env("XDG_CONFIG_HOME", &config).env("XDG_RUNTIME_DIR", &run);
    command.env("XDG_DATA_HOME", folder.join("data"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("no output")?;
    let server = Helper(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line.starts_with("listening"), "the file server says {line}");
    Ok((server, run.join("inlay/bench/vhost-files.sock")))
}
