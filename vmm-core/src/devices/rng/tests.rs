//! The device with chains made here.

use super::Rng;
use crate::virtio::testing::Driver;
use crate::virtio::{Device as _, RestoreError, Wake};

#[test]
fn answers_are_random_and_bounded() {
    let mut driver = Driver::new(1);
    for room in [[16, 16], [5000, 5000], [0, 0]] {
        driver.submit(0, &[], &room);
    }
    let outcome = driver.drive(&mut Rng, Wake::Queue(0)).unwrap();
    assert!(outcome.notify.contains(0));
    let used = driver.used(0);
    assert_eq!(used.iter().map(|u| u.data.len()).collect::<Vec<_>>(), [32, 4096, 0]);
    let (first, second) = used[1].data.split_at(2048);
    assert!(first != second && used[0].data != first[..32], "not the same twice");
}

#[test]
fn its_state_is_nothing() {
    let mut driver = Driver::new(1);
    let state = Rng.save();
    Rng.restore(state, &driver.mem).unwrap();
    for garbage in [serde_json::json!(7), serde_json::json!({}), serde_json::json!([null])] {
        assert!(matches!(Rng.restore(garbage, &driver.mem), Err(RestoreError::Form(_))));
    }
    driver.submit(0, &[], &[8]);
    driver.drive(&mut Rng, Wake::Queue(0)).unwrap();
    assert_eq!(driver.used(0)[0].data.len(), 8);
}
