//! A small Wayland client over wayland-client: toplevels, popups, subsurfaces and shm buffers, nothing hidden.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayland_client::backend::WaylandError;
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::{
    wl_buffer::{self, WlBuffer},
    wl_callback::{self, WlCallback},
    wl_compositor::WlCompositor,
    wl_registry::{self, WlRegistry},
    wl_shm::{self, WlShm},
    wl_shm_pool::WlShmPool,
    wl_subcompositor::WlSubcompositor,
    wl_subsurface::WlSubsurface,
    wl_surface::{self, WlSurface},
};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle, delegate_noop};
use wayland_protocols::xdg::shell::client::{
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::{self, XdgToplevel},
    xdg_wm_base::{self, XdgWmBase},
};

/// How long the compositor may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Default)]
pub struct Happened {
    /// Serials of configures that were not acknowledged yet, with the size that came before each.
    pub configured: Vec<(u32, (i32, i32))>,
    /// The newest size that was configured, 0 where it is the app's choice.
    pub size: (i32, i32),
    /// Frame callbacks that came.
    pub frames: u64,
    /// Buffers that were released, by their number, with the count of releases.
    pub released: HashMap<usize, u64>,
    /// Whether the user closes the window.
    pub close: bool,
}

/// A connection with the globals that every compositor has.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    queue: EventQueue<Happened>,
    handle: QueueHandle<Happened>,
    compositor: WlCompositor,
    subcompositor: Option<WlSubcompositor>,
    shm: WlShm,
    shell: XdgWmBase,
    /// What happened so far.
    pub happened: Happened,
    buffers: usize,
}

/// A toplevel window.
#[derive(Debug)]
pub struct Window {
    /// Its surface.
    pub surface: WlSurface,
    xdg: XdgSurface,
    /// Its toplevel.
    pub toplevel: XdgToplevel,
}

/// A shm buffer with its memory.
#[derive(Debug)]
pub struct Buffer {
    /// The protocol object.
    pub buffer: WlBuffer,
    /// Its number, as in [`Happened::released`].
    pub number: usize,
    file: OwnedFd,
    map: *mut u8,
    len: usize,
    stride: usize,
}

impl Client {
    /// Connects to the compositor that the environment names.
    ///
    /// # Errors
    /// When there is none or it lacks the globals.
    pub fn connect() -> Result<Self> {
        let connection = Connection::connect_to_env().context("no Wayland display")?;
        let (globals, queue) = registry_queue_init::<Happened>(&connection)?;
        let handle = queue.handle();
        Ok(Self {
            compositor: globals.bind(&handle, 4..=6, ())?,
            subcompositor: globals.bind(&handle, 1..=1, ()).ok(),
            shm: globals.bind(&handle, 1..=1, ())?,
            shell: globals.bind(&handle, 1..=6, ())?,
            happened: Happened::default(),
            buffers: 0,
            connection,
            queue,
            handle,
        })
    }

    /// A toplevel, configured once.
    ///
    /// # Errors
    /// When the compositor does not configure it.
    pub fn window(&mut self, title: &str, app_id: &str) -> Result<Window> {
        let surface = self.compositor.create_surface(&self.handle, ());
        let xdg = self.shell.get_xdg_surface(&surface, &self.handle, ());
        let toplevel = xdg.get_toplevel(&self.handle, ());
        toplevel.set_title(title.to_owned());
        toplevel.set_app_id(app_id.to_owned());
        surface.commit();
        let window = Window { surface, xdg, toplevel };
        self.wait("the first configure", |h| !h.configured.is_empty())?;
        self.acknowledge(&window);
        Ok(window)
    }

    /// Acknowledges the configures that came.
    pub fn acknowledge(&mut self, window: &Window) {
        for (serial, _) in self.happened.configured.drain(..) {
            window.xdg.ack_configure(serial);
        }
    }

    /// A subsurface at a place of its parent.
    ///
    /// # Errors
    /// When the compositor has none.
    pub fn subsurface(&mut self, parent: &WlSurface, at: (i32, i32)) -> Result<(WlSurface, WlSubsurface)> {
        let subcompositor = self.subcompositor.as_ref().context("no subsurfaces")?;
        let surface = self.compositor.create_surface(&self.handle, ());
        let subsurface = subcompositor.get_subsurface(&surface, parent, &self.handle, ());
        subsurface.set_position(at.0, at.1);
        Ok((surface, subsurface))
    }

    /// A buffer of its own pool.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn buffer(&mut self, width: u32, height: u32, alpha: bool) -> Result<Buffer> {
        let stride = 4 * width as usize;
        let len = stride * height as usize;
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, len as u64)?;
        // SAFETY: a new mapping at an address of the kernel's choice; unmapped never, the process is short.
        let map = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let pool = self.shm.create_pool(file.as_fd(), i32::try_from(len)?, &self.handle, ());
        let format = if alpha { wl_shm::Format::Argb8888 } else { wl_shm::Format::Xrgb8888 };
        let (w, h, s) = (i32::try_from(width)?, i32::try_from(height)?, i32::try_from(stride)?);
        let number = self.buffers;
        self.buffers += 1;
        let buffer = pool.create_buffer(0, w, h, s, format, &self.handle, number);
        pool.destroy();
        Ok(Buffer { buffer, number, file, map: map.cast(), len, stride })
    }

    /// Asks for a frame callback of a surface.
    pub fn request_frame(&self, surface: &WlSurface) {
        surface.frame(&self.handle, ());
    }

    /// Sends what was requested.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn flush(&self) -> Result<()> {
        Ok(self.connection.flush()?)
    }

    /// Waits until the compositor has seen everything.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn roundtrip(&mut self) -> Result<()> {
        self.queue.roundtrip(&mut self.happened)?;
        Ok(())
    }

    /// Handles events until a condition holds.
    ///
    /// # Errors
    /// When it does not within a minute, or the connection ended.
    pub fn wait(&mut self, what: &str, mut done: impl FnMut(&Happened) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done(&self.happened) {
            if Instant::now() > end {
                bail!("{what} did not come");
            }
            self.pump(Duration::from_secs(1), None)?;
        }
        Ok(())
    }

    /// Handles the events that come within a time; returns early when another descriptor is readable.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn pump(&mut self, within: Duration, other: Option<&dyn AsFdDyn>) -> Result<bool> {
        self.connection.flush()?;
        if self.queue.dispatch_pending(&mut self.happened)? > 0 {
            return Ok(false);
        }
        let Some(guard) = self.queue.prepare_read() else { return Ok(false) };
        let time =
            Timespec { tv_sec: i64::try_from(within.as_secs())?, tv_nsec: within.subsec_nanos().into() };
        let fd = guard.connection_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let other = other.map(AsFdDyn::fd_dyn);
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll(&mut fds, Some(&time))?;
        let (mine, others) =
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|f| !f.revents().is_empty()));
        if mine {
            match guard.read() {
                // Half a message came.
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => drop(other?),
            }
        } else {
            drop(guard);
        }
        self.queue.dispatch_pending(&mut self.happened)?;
        Ok(others)
    }
}

/// [`AsFd`] as a trait object.
pub trait AsFdDyn {
    /// The descriptor.
    fn fd_dyn(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd_dyn(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Buffer {
    /// Overwrites all of it.
    pub fn fill(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.len);
        // SAFETY: the mapping has `len` bytes and lives as long as self.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map, self.len) };
    }

    /// Writes one pixel.
    pub fn set(&mut self, x: u32, y: u32, pixel: [u8; 4]) {
        let at = y as usize * self.stride + 4 * x as usize;
        assert!(at + 4 <= self.len);
        // SAFETY: within the mapping, just checked.
        unsafe { std::ptr::copy_nonoverlapping(pixel.as_ptr(), self.map.add(at), 4) };
    }

    /// Overwrites a block of rows with one value: the cheapest visible change.
    pub fn wash(&mut self, rect: [u32; 4], value: u8) {
        let [left, top, width, height] = rect.map(|v| v as usize);
        assert!((top + height) * self.stride <= self.len && 4 * (left + width) <= self.stride);
        for y in top..top + height {
            // SAFETY: within the mapping, just checked.
            unsafe { std::ptr::write_bytes(self.map.add(y * self.stride + 4 * left), value, 4 * width) };
        }
    }

    /// Its memory file.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Happened {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

impl Dispatch<XdgWmBase, ()> for Happened {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

impl Dispatch<XdgSurface, ()> for Happened {
    fn event(
        state: &mut Self,
        _: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            state.configured.push((serial, state.size));
        }
    }
}

impl Dispatch<XdgToplevel, ()> for Happened {
    fn event(
        state: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, .. } => state.size = (width, height),
            xdg_toplevel::Event::Close => state.close = true,
            _ => {}
        }
    }
}

impl Dispatch<WlCallback, ()> for Happened {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            state.frames += 1;
        }
    }
}

impl Dispatch<WlBuffer, usize> for Happened {
    fn event(
        state: &mut Self,
        buffer: &WlBuffer,
        event: wl_buffer::Event,
        number: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event
            && buffer.is_alive()
        {
            *state.released.entry(*number).or_default() += 1;
        }
    }
}

impl Dispatch<WlSurface, ()> for Happened {
    fn event(
        _: &mut Self,
        _: &WlSurface,
        _: wl_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(Happened: WlCompositor);
delegate_noop!(Happened: WlSubcompositor);
delegate_noop!(Happened: WlSubsurface);
delegate_noop!(Happened: WlShmPool);
delegate_noop!(Happened: ignore WlShm);
