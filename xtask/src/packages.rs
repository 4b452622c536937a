//! Debian packages that Inlay's tasks need, in one place. Names are those of Debian 12 and 13 alike.

/// To build the workspace (beside Rust, git and a C compiler).
pub const BUILD: &[&str] = &["pkg-config", "libxkbcommon-dev", "libxkbcommon-x11-dev"];

/// To build guests, and to run them with windows.
pub const MACHINES: &[&str] = &[
    "debian-archive-keyring",
    "e2fsprogs",
    "libegl1",
    "libgl1-mesa-dri",
    "mesa-vulkan-drivers",
    "mmdebstrap",
    "passt",
    "uidmap",
    "xkb-data",
    "zstd",
];

/// QEMU, from the backports where the release's own is too old.
pub const QEMU: &[&str] = &["qemu-system-x86", "qemu-utils"];

/// A desktop without a screen.
pub const HEADLESS: &[&str] =
    &["fonts-dejavu-core", "imagemagick", "openbox", "x11-utils", "xdotool", "xvfb"];

/// Apps and tools of the tests.
pub const TESTS: &[&str] = &[
    "adwaita-icon-theme",
    "busybox-static",
    "iproute2",
    "kwin-wayland",
    "dbus",
    "desktop-file-utils",
    "fdisk",
    "foot",
    "grim",
    "gtk-3-examples",
    "libcap-ng-dev",
    "libglib2.0-bin",
    "libseccomp-dev",
    "lz4",
    "mtools",
    "ovmf",
    "python3-pyqt5",
    "qtwayland5",
    "sway",
    "syslinux",
    "syslinux-common",
    "wev",
    "wl-clipboard",
    "wlcs",
    "x11-xkb-utils",
    "xdg-utils",
    "xclip",
    "xfce4-panel",
    "xfconf",
    "xterm",
    "xwayland",
    "xz-utils",
    "zenity",
];

/// Peers that the benchmarks compare with.
pub const BENCH: &[&str] = &["waypipe", "weston"];
