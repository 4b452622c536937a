//! The graphics device, while it is being opened and after: that takes longer than all else of a start, and nothing of the host's own
//! waits for it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::windows::render::{DisplayHandle, Renderer};

/// The device, sooner or later.
#[derive(Debug)]
pub struct Graphics {
    renderer: Option<Renderer>,
    /// Opens it; the descriptor is readable when that is over.
    opening: Option<(JoinHandle<anyhow::Result<Renderer>>, OwnedFd)>,
}

impl Graphics {
    /// Begins to open it.
    ///
    /// # Errors
    /// There are no threads or descriptors left.
    pub fn open(display: DisplayHandle) -> anyhow::Result<Self> {
        let (over, ends) = pipe_with(PipeFlags::CLOEXEC)?;
        let open = move || {
            let renderer = Renderer::new(display);
            drop(ends);
            renderer
        };
        let thread = std::thread::Builder::new().name("graphics".into()).spawn(open)?;
        Ok(Self { renderer: None, opening: Some((thread, over)) })
    }

    /// Whether it is there by now.
    ///
    /// # Errors
    /// No driver works.
    pub fn get(&mut self) -> anyhow::Result<Option<&mut Renderer>> {
        if let Some((thread, _)) = self.opening.take_if(|(thread, _)| thread.is_finished()) {
            let opened = thread.join().map_err(|_| anyhow!("the graphics driver failed"));
            self.renderer = Some(opened.flatten().context("no windows can be drawn")?);
        }
        Ok(self.renderer())
    }

    /// It, once [`Graphics::get`] found it.
    pub fn renderer(&mut self) -> Option<&mut Renderer> {
        self.renderer.as_mut()
    }

    /// CPU time that it took so far, in nanoseconds.
    pub fn busy_ns(&self) -> u64 {
        self.renderer.as_ref().map_or(0, Renderer::busy_ns)
    }

    /// To be waited for while it is being opened.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.opening.as_ref().map(|(_, over)| over.as_fd())
    }
}
