//! The device between a driver made here and a server that keeps what it gets in a file.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use super::{Fs, Request, Server, config};
use crate::virtio::testing::Driver;
use crate::virtio::{Device as _, Wake};

/// A request is a place and a kind (0: answer with 8 bytes of the file from there, behind a mark; else: write the rest there).
struct Keeper(File);

impl Server for Keeper {
    fn serve(&mut self, request: &mut Request<'_>) {
        let mut head = [0; 2];
        if request.read(&mut head).is_err() {
            return;
        }
        let at = u64::from(head[0]);
        if head[1] == 0 {
            let read = request.read_file(self.0.as_fd(), at, 8, 2).unwrap();
            request.write(&[0xab, u8::try_from(read).unwrap()]).unwrap();
            request.advance(read);
        } else {
            let length = request.left();
            let written = request.write_file(self.0.as_fd(), at, length).unwrap();
            assert_eq!(request.left(), length - written);
            request.write(&[u8::try_from(written).unwrap()]).unwrap();
        }
    }

    fn reset(&mut self) {
        self.0.set_len(0).unwrap();
    }
}

fn bench() -> (Driver, Fs<Keeper>, File) {
    let file = tempfile::tempfile().unwrap();
    let fs = Fs::new("work", Keeper(file.try_clone().unwrap())).unwrap();
    (Driver::new(2), fs, file)
}

#[test]
fn data_go_between_files_and_the_guest_in_whatever_pieces() {
    let (mut driver, mut fs, file) = bench();
    driver.submit(1, &[&[3], &[1, b'a'], b"bcd", b"", b"efghijk"], &[1]);
    driver.drive(&mut fs, Wake::Queue(1)).unwrap();
    assert_eq!(driver.used(1)[0].data, [11]);
    let mut bytes = [0; 14];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"\0\0\0abcdefghijk");

    // Behind what is skipped, which ends within a piece; less where the file ends.
    driver.submit(1, &[&[3, 0]], &[1, 3, 3, 20]);
    driver.submit(0, &[&[10, 0]], &[64]);
    driver.drive(&mut fs, Wake::Queue(1)).unwrap();
    driver.drive(&mut fs, Wake::Queue(0)).unwrap();
    assert_eq!(driver.used(1)[0].data, b"\xab\x08abcdefgh");
    assert_eq!(driver.used(0)[0].data, b"\xab\x04hijk");
}

#[test]
fn a_request_of_nothing_is_given_back() {
    let (mut driver, mut fs, _file) = bench();
    driver.submit(1, &[&[1]], &[]);
    driver.submit(1, &[], &[4]);
    driver.drive(&mut fs, Wake::Queue(1)).unwrap();
    let used = driver.used(1);
    assert_eq!(used.len(), 2);
    assert!(used.iter().all(|used| used.data.is_empty()));
}

#[test]
fn the_guest_finds_it_by_its_tag() {
    let (_, mut fs, file) = bench();
    let config_space = fs.config();
    assert_eq!(config_space.len(), 40);
    assert_eq!(&config_space[..5], b"work\0");
    assert_eq!(config_space[36..], [1, 0, 0, 0]);
    for bad in ["", "a\0b", &"x".repeat(37)] {
        assert!(config(bad).unwrap_err().contains("no tag"));
    }
    file.set_len(4).unwrap();
    fs.reset();
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert!(fs.restore(fs.save(), &crate::virtio::Mem::new()).is_err());
}
