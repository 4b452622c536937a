//! The command line: everything is said, nothing is QEMU's default. JSON where QEMU takes it, so that no path can
//! be misread.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use serde_json::{Value, json};

use super::{Accel, Boot, Disk, DiskFormat, NETWORK, Network, QemuConfig, QemuError};

/// Descriptors that QEMU inherits.
#[derive(Clone, Copy)]
pub struct InheritedFds {
    pub qmp: i32,
    pub serial: i32,
    pub tap: Option<i32>,
}

/// The arguments after the program's name.
pub fn arguments(config: &QemuConfig, fds: InheritedFds, sandbox: bool) -> Result<Vec<OsString>, QemuError> {
    let mut args = Args(Vec::new());
    args.flag("-nodefaults").flag("-no-user-config");
    args.option("-display", "none");
    args.option("-name", join("guest=", &escape(config.name.as_ref()), ",debug-threads=on"));
    if sandbox {
        args.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }
    machine(&mut args, config);
    boot(&mut args, &config.boot)?;

    args.option("-chardev", format!("socket,id=qmp,fd={}", fds.qmp));
    args.option("-mon", "chardev=qmp,mode=control");
    args.option("-chardev", format!("socket,id=serial,fd={}", fds.serial));
    args.option("-serial", "chardev:serial");

    for (index, disk) in config.disks.iter().enumerate() {
        add_disk(&mut args, index, disk, !matches!(config.boot, Boot::Kernel { .. }))?;
    }
    args.json("-object", &json!({"qom-type": "rng-random", "id": "rng", "filename": "/dev/urandom"}));
    args.json("-device", &json!({"driver": "virtio-rng-pci", "rng": "rng", "disable-legacy": "on"}));
    args.json(
        "-device",
        &json!({"driver": "virtio-balloon-pci", "free-page-reporting": true, "disable-legacy": "on"}),
    );
    let network = match config.network {
        Network::None => None,
        Network::User => Some(json!({"type": "user", "id": NETWORK})),
        Network::Tap(_) => fds.tap.map(|fd| json!({"type": "tap", "id": NETWORK, "fd": fd.to_string()})),
    };
    if let Some(network) = network {
        args.json("-netdev", &network);
        let mac = config.mac.map(|byte| format!("{byte:02x}")).join(":");
        args.json(
            "-device",
            &json!({
                "driver": "virtio-net-pci",
                "netdev": NETWORK,
                "mac": mac,
                "romfile": "",
                "disable-legacy": "on",
            }),
        );
    }
    if let Some(socket) = &config.gpu_socket {
        socket_chardev(&mut args, "gpu", socket);
        args.json("-device", &json!({"driver": "vhost-user-gpu-pci", "chardev": "gpu"}));
    }
    if let Some(socket) = &config.vsock_socket {
        socket_chardev(&mut args, "vsock", socket);
        args.json("-device", &json!({"driver": "vhost-user-vsock-pci", "chardev": "vsock"}));
    }
    for (index, socket) in config.input_sockets.iter().enumerate() {
        let id = format!("input{index}");
        socket_chardev(&mut args, &id, socket);
        args.json("-device", &json!({"driver": "vhost-user-input-pci", "chardev": id}));
    }
    for (index, (socket, tag)) in config.file_systems.iter().enumerate() {
        let id = format!("files{index}");
        socket_chardev(&mut args, &id, socket);
        args.json(
            "-device",
            &json!({"driver": "vhost-user-fs-pci", "chardev": id, "tag": tag, "queue-size": 1024}),
        );
    }
    Ok(args.0)
}

fn machine(args: &mut Args, config: &QemuConfig) {
    args.json(
        "-object",
        &json!({
            "qom-type": "memory-backend-memfd",
            "id": "mem",
            "size": u64::from(config.memory_mib) << 20,
            "share": true,
        }),
    );
    args.option("-m", format!("{}M", config.memory_mib));
    args.option("-smp", config.cpus.to_string());
    let machine = "q35,memory-backend=mem,usb=off,sata=off,smbus=off,i8042=off,vmport=off,smm=off,\
                   graphics=off,dump-guest-core=off";
    args.option("-machine", machine);
    match config.accel {
        Accel::Tcg => {
            args.option("-accel", "tcg,thread=multi");
            // Everything that TCG can do, without 5-level page tables (a fifth step in each walk of emulated tables) and
            // nested virtualisation.
            args.option("-cpu", "max,la57=off,svm=off");
        }
        Accel::Kvm => {
            args.option("-accel", "kvm");
            args.option("-cpu", "host");
        }
    }
}

fn boot(args: &mut Args, boot: &Boot) -> Result<(), QemuError> {
    match boot {
        Boot::Kernel { kernel, initrd, cmdline } => {
            args.option("-kernel", kernel);
            if let Some(initrd) = initrd {
                args.option("-initrd", initrd);
            }
            args.option("-append", cmdline);
        }
        Boot::Bios => {}
        Boot::Uefi { code, variables } => {
            for (name, path, read_only) in [("code", code, true), ("variables", variables, false)] {
                let file = json!({"driver": "file", "filename": utf8(path)?, "read-only": read_only});
                let flash = json!({"driver": "raw", "node-name": name, "read-only": read_only, "file": file});
                args.json("-blockdev", &flash);
            }
            args.option("-machine", "pflash0=code,pflash1=variables");
        }
    }
    Ok(())
}

/// A path as JSON can hold it.
fn utf8(path: &Path) -> Result<&str, QemuError> {
    path.to_str().ok_or_else(|| QemuError::Config(format!("{} is not UTF-8", path.display())))
}

/// `bootable`: the firmware looks for a boot loader on the disks, in their order.
fn add_disk(args: &mut Args, index: usize, disk: &Disk, bootable: bool) -> Result<(), QemuError> {
    let mut image = json!({
        "driver": disk.format.name(),
        "node-name": format!("disk{index}"),
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": {
            "driver": "file",
            "filename": utf8(&disk.path)?,
            "read-only": disk.read_only,
            "discard": "unmap",
        },
    });
    if disk.format == DiskFormat::Qcow2 && !disk.overlay {
        // Whatever its header says.
        image["backing"] = Value::Null;
    }
    args.json("-blockdev", &image);
    let mut device = json!({
        "driver": "virtio-blk-pci",
        "drive": format!("disk{index}"),
        "serial": disk.serial,
        "disable-legacy": "on",
    });
    if bootable {
        device["bootindex"] = json!(index);
    }
    args.json("-device", &device);
    Ok(())
}

fn socket_chardev(args: &mut Args, id: &str, socket: &Path) {
    args.option("-chardev", join(&format!("socket,id={id},path="), &escape(socket.as_os_str()), ""));
}

/// Doubles commas, as QEMU's `key=value,...` options want it.
fn escape(text: &std::ffi::OsStr) -> OsString {
    let mut out = Vec::new();
    for byte in text.as_bytes() {
        out.push(*byte);
        if *byte == b',' {
            out.push(b',');
        }
    }
    OsString::from_vec(out)
}

fn join(before: &str, text: &std::ffi::OsStr, after: &str) -> OsString {
    let mut out = OsString::from(before);
    out.push(text);
    out.push(after);
    out
}

struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) {
        self.0.push(name.into());
        self.0.push(value.as_ref().to_owned());
    }

    fn json(&mut self, name: &str, value: &Value) {
        self.option(name, value.to_string());
    }
}
