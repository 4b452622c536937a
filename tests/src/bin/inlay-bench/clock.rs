//! Clocks, and the floor: one memcpy.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::{Case, median};

/// CPU time of this thread, in milliseconds.
fn thread_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Milliseconds of CPU for copying the damaged rows once, from one of several buffers to one of several others, so that they are
/// no warmer in the caches than a client's frame is.
pub fn memcpy(case: Case) -> f64 {
    let stride = 4 * case.size.0 as usize;
    let (row, rows) = (4 * case.damage.0 as usize, case.damage.1 as usize);
    let bytes = stride * case.size.1 as usize;
    let count = (128 << 20) / bytes + 2;
    let sources: Vec<Vec<u8>> = (0..count).map(|i| vec![i.to_le_bytes()[0]; bytes]).collect();
    let mut targets: Vec<Vec<u8>> = (0..count).map(|_| vec![1; row * rows]).collect();
    let times = (0..60).map(|turn| {
        let from = &sources[turn % count];
        let to = &mut targets[(turn + 1) % count];
        let start = thread_ms();
        if row == stride {
            to.copy_from_slice(&from[..row * rows]);
        } else {
            for (line, target) in from.chunks(stride).zip(to.chunks_mut(row)) {
                target.copy_from_slice(&line[..row]);
            }
        }
        let time = thread_ms() - start;
        std::hint::black_box(to);
        time
    });
    median(times.collect())
}

/// CPU time of a process's threads so far, in milliseconds (`/proc/PID/task/TID/schedstat`).
pub fn process_ms(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| -> Option<f64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(|task| of(task.path())).sum::<f64>() / 1e6
}

/// A process and its descendants.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}
