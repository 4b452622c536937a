# The guest's own recipe: run by mmdebstrap with the guest's root folder as $1, as root or as the root of a user
# namespace, after its packages were installed. Leaves two things on descriptors that were opened outside:
#   $INLAY_IMAGE   a file of the size of the root disk, which becomes an ext4 file system
#   $INLAY_PARTS   a tar archive of what the boot needs: kernel, modules in their order, busybox, e2fsck, manifest
set -eu
root=$1
in_guest() { chroot "$root" "$@"; }
step() { echo "inlay-step: $1" >&2; }

step configure
# The language of the host's user, where that is known.
if [ -n "${INLAY_LOCALE:-}" ]; then
	echo "$INLAY_LOCALE UTF-8" > "$root/etc/locale.gen"
	in_guest locale-gen >&2 || echo "this system cannot make the locale $INLAY_LOCALE" >&2
fi
in_guest useradd --uid 1000 --user-group --no-create-home --shell /bin/bash \
	--groups audio,video,render,input,plugdev user
# The machine is its user's own: packages are installed with sudo, without a password that nobody ever set.
echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/inlay"
chmod 440 "$root/etc/sudoers.d/inlay"
echo inlay > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n' > "$root/etc/hosts"
# Filled in by the initramfs at the machine's first start.
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
ln -s /run/inlay/resolv.conf "$root/etc/resolv.conf"
# Both disks are checked and mounted by the initramfs.
: > "$root/etc/fstab"
kernels=$(in_guest dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'linux-image-*' | sed -n 's/^installed //p')
# shellcheck disable=SC2086 # A list of packages.
in_guest apt-mark hold $kernels > /dev/null

etc=$root/etc/systemd
mkdir -p "$etc/journald.conf.d" "$etc/system.conf.d" "$etc/system-generators"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\nAudit=no\n' > "$etc/journald.conf.d/inlay.conf"
printf '[Manager]\nDefaultTimeoutStopSec=5s\nShowStatus=no\n' > "$etc/system.conf.d/inlay.conf"
# Nothing of these serves a guest without console, firmware, hibernation or removable parts; each costs start time.
for unit in \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	systemd-tmpfiles-clean.timer \
	getty.target getty-static.service systemd-ask-password-console.path systemd-ask-password-wall.path \
	systemd-logind.service systemd-user-sessions.service remote-fs.target \
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-hibernate-clear.service systemd-pstore.service \
	systemd-modules-load.service kmod-static-nodes.service systemd-random-seed.service systemd-update-utmp.service \
	systemd-firstboot.service systemd-machine-id-commit.service systemd-hwdb-update.service ldconfig.service \
	systemd-journal-catalog-update.service systemd-journal-flush.service systemd-update-done.service \
	systemd-sysusers.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-remount-fs.service \
	systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
	systemd-creds.socket systemd-hostnamed.socket systemd-pcrextend.socket systemd-pcrlock.socket systemd-sysext.socket \
	systemd-bootctl.socket systemd-journald-audit.socket systemd-initctl.socket \
	systemd-tmpfiles-setup-dev-early.service systemd-udev-load-credentials.service \
	dev-hugepages.mount dev-mqueue.mount run-lock.mount sys-fs-fuse-connections.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
do
	ln -sf /dev/null "$etc/system/$unit"
done
# Devices are looked through once the agent is up, and not before the apps.
mkdir -p "$etc/system/systemd-udev-trigger.service.d" "$etc/system/systemd-udevd.service.d"
printf '[Unit]\nAfter=inlay-agent.service\n' > "$etc/system/systemd-udev-trigger.service.d/inlay.conf"
printf '[Service]\nNice=10\n' > "$etc/system/systemd-udevd.service.d/inlay.conf"
ln -sf /usr/lib/systemd/system/multi-user.target "$etc/system/default.target"
# The emulated board has parts that no guest uses; finding their drivers takes seconds under emulation.
for module in ahci floppy i2c_i801 i2c_smbus iTCO_wdt intel_agp joydev lpc_ich mousedev pcspkr psmouse qemu_fw_cfg \
	serio_raw vmw_vmci; do
	echo "blacklist $module"
done > "$root/etc/modprobe.d/inlay.conf"
for path in "$root"/usr/lib/systemd/system-generators/*; do
	[ -e "$path" ] || continue
	case ${path##*/} in
	systemd-fstab-generator) ;;
	*) ln -sf /dev/null "$etc/system-generators/${path##*/}" ;;
	esac
done

step collect
version=$(ls "$root/usr/lib/modules" | sort -V | tail -n 1)
parts=$(mktemp -d "$root/tmp/parts.XXXXXX")
mkdir "$parts/modules" "$parts/lib" "$parts/bin"
in_guest dpkg-query -W -f '${Package} ${Version}\n' > "$parts/manifest"
echo "$version" > "$parts/kernel-version"
cp "$root/boot/vmlinuz-$version" "$parts/vmlinuz"
cp "$root/usr/bin/busybox" "$parts/bin/busybox"
cp -L "$root/usr/sbin/e2fsck" "$parts/bin/e2fsck"
in_guest ldd /usr/sbin/e2fsck | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
	cp -L "$root$library" "$parts/lib/"
done
# What the initramfs loads, each list in the order of its dependencies: before the root disk, and beside it.
collect() {
	list=$1
	shift
	: > "$parts/modules/$list"
	for wanted in "$@"; do
		in_guest modprobe --set-version "$version" --show-depends "$wanted" | while read -r verb path _; do
			[ "$verb" = insmod ] || continue
			name=${path##*/}
			name=${name%.xz}
			name=${name%.zst}
			grep -qx "$name" "$parts"/modules/order.* && continue
			case $path in
			*.xz) in_guest busybox xzcat "$path" > "$parts/modules/$name" ;;
			*.zst) zstd -dcq "$root$path" > "$parts/modules/$name" ;;
			*) cp "$root$path" "$parts/modules/$name" ;;
			esac
			echo "$name" >> "$parts/modules/$list"
		done
	done
}
collect order.root virtio_pci virtio_blk ext4
# systemd itself asks for autofs4 before it does anything else.
collect order.rest autofs4 vmw_vsock_virtio_transport virtio_gpu virtio_rng virtio_net virtio_balloon
tar -C "$parts" -cf "/proc/self/fd/$INLAY_PARTS" .
rm -rf "$parts"

step image
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/var/cache/debconf/*-old \
	"$root"/var/lib/dpkg/*-old "$root"/boot/System.map-* "$root"/etc/apt/apt.conf.d/99mmdebstrap \
	"$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
# A bind mount shows the folder without what is mounted in it (proc, sys, dev).
bare=$(mktemp -d)
mount --bind "$root" "$bare"
status=0
mke2fs -q -F -t ext4 -L inlay-root -m 1 -E root_owner=0:0,lazy_journal_init=1 -d "$bare" "/proc/self/fd/$INLAY_IMAGE" \
	|| status=$?
umount "$bare"
rmdir "$bare"
exit "$status"
