#!/bin/bash
# Makes the disks of a Debian that knows nothing of Inlay, each with its own boot loader: without root's rights where user namespaces
# exist, without mounts of disks, without a machine.
#
#   debian.sh FOLDER SUITE SOURCE...     SOURCE: a line of its sources.list
#
#   FOLDER/bios.qcow2   MBR, syslinux; a login on its console
#   FOLDER/uefi.raw     GPT, systemd-boot on an EFI system partition; a desktop of its own (Xorg, openbox, xterm)
#
# Users: root (password "inlay") and ada (the same), as an installer would have made them.
set -euo pipefail
folder=$1 suite=$2
shift 2
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
cd "$folder"

packages=dbus,e2fsprogs,fonts-dejavu-core,foot,initramfs-tools,kmod,libpam-systemd,linux-image-amd64,openbox,systemd-boot-efi
packages+=,systemd-sysv,udev,x11-xkb-utils,x11-xserver-utils,xauth,xinit,xkb-data,xserver-xorg-core,xserver-xorg-input-libinput
packages+=,xterm,xwayland,zstd

# Run by mmdebstrap with the guest's folder as $1.
hook='
set -eu
root=$1
in_guest() { chroot "$root" "$@"; }
in_guest useradd --uid 1000 --user-group --create-home --shell /bin/bash ada
printf "root:inlay\nada:inlay\n" | in_guest chpasswd
echo foreign > "$root/etc/hostname"
printf "127.0.0.1\tlocalhost foreign\n" > "$root/etc/hosts"
printf "LABEL=foreign-root / ext4 errors=remount-ro 0 1\n" > "$root/etc/fstab"
# The console of the disk with a desktop logs its user in, who starts it.
mkdir -p "$root/etc/systemd/system/getty@tty1.service.d"
cat > "$root/etc/systemd/system/getty@tty1.service.d/desktop.conf" << END
[Service]
ExecStart=
ExecStart=-/usr/local/sbin/console
END
cat > "$root/usr/local/sbin/console" << END
#!/bin/sh
grep -qw desktop /proc/cmdline && set -- --autologin ada
exec /sbin/agetty --noreset --noclear "\$@" tty1 linux
END
chmod +x "$root/usr/local/sbin/console"
echo "[ \"\$(tty)\" = /dev/tty1 ] && grep -qw desktop /proc/cmdline && exec startx" >> "$root/home/ada/.profile"
cat > "$root/home/ada/.xinitrc" << END
xsetroot -solid "#2040a0"
xset s off -dpms
xterm -fa Monospace -fs 14 -geometry 80x12+40+40 &
exec openbox
END
in_guest chown ada:ada /home/ada/.xinitrc
# What an emulated processor unpacks in a second; the choice of whoever keeps a small initramfs.
sed -i "s/^MODULES=.*/MODULES=list/" "$root/etc/initramfs-tools/initramfs.conf"
printf "virtio_pci\nvirtio_blk\next4\nvirtio_gpu\nvirtio_input\n" >> "$root/etc/initramfs-tools/modules"
# What takes an emulated processor seconds, and serves nothing here.
for module in aesni_intel floppy ghash_clmulni_intel i2c_i801 iTCO_wdt intel_agp lpc_ich pcspkr sha1_ssse3 sha256_ssse3 sha512_ssse3; do
	echo "blacklist $module"
done > "$root/etc/modprobe.d/slow.conf"
ln -s /dev/null "$root/etc/systemd/system/systemd-binfmt.service"
in_guest update-initramfs -u
parts=$(mktemp -d "$root/tmp/parts.XXXXXX")
cp "$root"/boot/vmlinuz-* "$parts/vmlinuz"
cp "$root"/boot/initrd.img-* "$parts/initrd"
cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$parts/"
tar -C "$parts" -cf /proc/self/fd/101 .
rm -rf "$parts" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
bare=$(mktemp -d)
mount --bind "$root" "$bare"
status=0
mke2fs -q -F -t ext4 -L foreign-root -E root_owner=0:0,lazy_journal_init=1 -d "$bare" /proc/self/fd/100 || status=$?
umount "$bare"
rmdir "$bare"
exit "$status"
'
truncate -s 3G root.ext4
: > parts.tar
chmod 666 root.ext4 parts.tar
mode=unshare
[ "$(id -u)" = 0 ] && mode=root
mmdebstrap --mode="$mode" --variant=minbase --architectures=amd64 --format=null --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' --aptopt='Acquire::Languages "none"' --include="$packages" \
	--customize-hook="$hook" "$suite" /dev/null "$@" 100<> root.ext4 101<> parts.tar
mkdir parts
tar --no-same-owner -C parts -xf parts.tar

# A boot partition of 96 MiB from 1 MiB on, and the root file system behind it.
mib=$((1024 * 1024))
words="root=LABEL=foreign-root ro console=tty0 console=ttyS0 mitigations=off"
boot_partition() {
	truncate -s 96M "$1"
	mformat -i "$1" -F ::
	mcopy -i "$1" parts/vmlinuz parts/initrd ::
}
disk() {
	truncate -s $((3072 + 98))M "$1"
	sfdisk -q "$1"
	dd if="$2" of="$1" bs=$mib seek=1 conv=notrunc,sparse status=none
	dd if=root.ext4 of="$1" bs=$mib seek=97 conv=notrunc,sparse status=none
}

boot_partition bios.fat
printf 'default debian\nlabel debian\nkernel vmlinuz\nappend initrd=initrd %s\n' "$words" > parts/syslinux.cfg
mcopy -i bios.fat parts/syslinux.cfg ::
syslinux --install bios.fat
disk bios.raw bios.fat << END
label: dos
start=2048, size=196608, type=c, bootable
start=198656, size=6291456, type=83
END
dd if=/usr/lib/syslinux/mbr/mbr.bin of=bios.raw bs=440 count=1 conv=notrunc status=none

boot_partition uefi.fat
mmd -i uefi.fat ::EFI ::EFI/BOOT ::loader ::loader/entries
mcopy -i uefi.fat parts/systemd-bootx64.efi ::EFI/BOOT/BOOTX64.EFI
printf 'timeout 2\n' > parts/loader.conf
printf 'title Debian\nlinux /vmlinuz\ninitrd /initrd\noptions %s desktop\n' "$words" > parts/debian.conf
mcopy -i uefi.fat parts/loader.conf ::loader/
mcopy -i uefi.fat parts/debian.conf ::loader/entries/
disk uefi.raw uefi.fat << END
label: gpt
start=2048, size=196608, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=198656, size=6291456, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
END

qemu-img convert -f raw -O qcow2 bios.raw bios.qcow2
rm -rf parts parts.tar root.ext4 bios.raw bios.fat uefi.fat
