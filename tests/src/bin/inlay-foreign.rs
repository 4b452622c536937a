//! Makes the disks of foreign guests that the tests import, and tells where they are.

use inlay_tests::foreign::Disk;

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn main() -> anyhow::Result<()> {
    for disk in [Disk::Bios, Disk::Uefi] {
        println!("{}", disk.path()?.display());
    }
    Ok(())
}
