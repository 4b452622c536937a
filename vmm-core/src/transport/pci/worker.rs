//! A device's thread: waits for doorbells and for the device's host source, and lets it work.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::virtio::Shared;
use crate::confine;
use crate::virtio::Wake;

const POKE: u64 = 0;
const HOST: u64 = 1;
const KICKS: u64 = 2;

/// The thread; ends with this.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, &shared.poke, POKE)?;
        let own_kicks = if shared.lock().is_elsewhere() { &[] } else { &shared.kicks[..] };
        for (index, kick) in own_kicks.iter().enumerate() {
            watch(&epoll, kick, KICKS + index as u64)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (own, told) = (shared.clone(), stop.clone());
        let thread = std::thread::Builder::new().name(shared.name.clone()).spawn(move || {
            confine::here(confine::Thread::Device);
            let _guard = Guard(&own);
            if let Err(error) = serve(&own, &epoll, &told) {
                tracing::error!(%error, device = own.name, "a device cannot wait for events; it stops");
            }
        })?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.shared.poke();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(device = self.shared.name, "a device's thread panicked");
        }
    }
}

/// Tells the driver of a panic: nobody serves the device any more.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().fail();
        }
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, token: u64) -> rustix::io::Result<()> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
}

fn serve(shared: &Shared, epoll: &OwnedFd, stop: &AtomicBool) -> rustix::io::Result<()> {
    let mut host_watched = false;
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut events: Vec<epoll::Event> = Vec::with_capacity(8);
    loop {
        // After all that was told before is read, or the call that goes with it would be taken for another's.
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let idle = update_host(shared, epoll, &mut host_watched)?;
        events.clear();
        match epoll::wait(epoll, spare_capacity(&mut events), (!idle).then_some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for event in &events {
            match event.data.u64() {
                POKE => {
                    let _ = rustix::io::read(&shared.poke, &mut [0; 8]);
                }
                HOST => shared.lock().work(Wake::HostSource),
                kick => {
                    let index = usize::try_from(kick - KICKS).unwrap_or(usize::MAX);
                    if let Some(fd) = shared.kicks.get(index) {
                        let _ = rustix::io::read(fd, &mut [0; 8]);
                        shared.lock().work(Wake::Queue(index));
                    }
                }
            }
        }
        let mut state = shared.lock();
        state.tend(shared);
        state.work_pending();
    }
}

/// Waits for the device's host source as long as the device serves it; true when there is nothing else to do.
fn update_host(shared: &Shared, epoll: &OwnedFd, watched: &mut bool) -> rustix::io::Result<bool> {
    let state = shared.lock();
    let wanted = state.serving().is_some_and(|device| device.host_source().is_some());
    if let Some(source) = state.any().and_then(|device| device.host_source())
        && wanted != *watched
    {
        if wanted {
            watch(epoll, source, HOST)?;
        } else {
            epoll::delete(epoll, source)?;
        }
        *watched = wanted;
    }
    Ok(!state.has_work())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::VirtioPci;
    use super::super::virtio::tests::Watcher;
    use crate::devices::rng::Rng;
    use crate::transport::tests::shared_ram;

    #[test]
    fn a_thread_that_was_just_woken_ends_as_well() {
        let (told, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mem = shared_ram();
            for _ in 0..2000 {
                let function = VirtioPci::new(
                    Box::new(Rng),
                    mem.clone(),
                    0xe000_0000,
                    std::sync::Arc::new(Watcher::default()),
                );
                let function = function.unwrap();
                // It calls the thread; the end calls it again.
                function.pause(false);
                assert!(function.take_apart().is_some());
            }
            told.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(120)).expect("the end of all threads");
    }
}
