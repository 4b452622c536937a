//! The agent: all its state, and one turn of its loop. Everything runs on one thread.
//!
//! A turn: the loop hands in what is ready (apps, sockets, signals); then [`Agent::turn`] sends what changed to the host, writes
//! to the sockets and apps, and says when it wants to be woken at the latest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use inlay_protocol::control::{Command, Report};
use inlay_protocol::display::{Act, Event, Request, SurfaceId};
use inlay_protocol::handshake::{Capabilities, Role};
use inlay_protocol::limits;
use smithay::input::{Seat, SeatState};
use smithay::reexports::calloop::LoopHandle;
use smithay::reexports::wayland_server::DisplayHandle;

use crate::apps::Apps;
use crate::catalogue::Catalogue;
use crate::channel::{Address, Link, LinkError};
use crate::clock::Clock;
use crate::cursor::{self, CursorState};
use crate::drag::{self, Drags};
use crate::exchange::{self, Exchange};
use crate::export::{self, Counted};
use crate::handlers::Protocols;
use crate::handlers::output::Outputs;
use crate::inject::{self, InputState};
use crate::links::Links;
use crate::pool::Pool;
use crate::pool::recycler::Recycler;
use crate::surface::Surfaces;
use crate::watch::{Source, Watch};
use crate::windows::{self, Windows};
use crate::x11::{self, X11};
use crate::{control, display};

/// Pause between frame callbacks while no host shows anything.
const IDLE_FRAME: Duration = Duration::from_secs(1);
/// Pause between two looks for the pool's device.
const POOL_PAUSE: Duration = Duration::from_millis(25);
/// How long a host on the same kernel may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the agent was started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The control session of the host.
    pub control: Address,
    /// The display session of the host.
    pub display: Address,
    /// Bulk streams of the host.
    pub stream: Option<Address>,
    /// The Wayland socket, as apps name it.
    pub wayland_display: String,
    /// Where the agent's own sockets and keys are.
    pub folder: PathBuf,
    /// `XDG_RUNTIME_DIR` of apps.
    pub runtime_dir: PathBuf,
    /// Switches the guest off.
    pub poweroff: String,
    /// Sets the guest's time zone to the one whose name follows.
    pub zone: String,
    /// What the keys of the guest's own consoles are is written to here.
    pub console_keys: Option<PathBuf>,
    /// The locale of the host's user; empty for none.
    pub locale: String,
    /// Desktop files and defaults of ours for apps, where links may be opened elsewhere.
    pub share: Option<PathBuf>,
    /// `DISPLAY` and `XAUTHORITY` of apps, where X11 apps can run.
    pub x11: Option<(String, PathBuf)>,
}

/// Why the agent ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was asked to, or the host on the same kernel is gone.
    Done,
    /// It cannot work.
    Failed(String),
}

/// All state.
pub struct Agent {
    /// The event loop.
    pub loop_handle: LoopHandle<'static, Agent>,
    /// The Wayland server.
    pub display_handle: DisplayHandle,
    /// How the agent was started.
    pub settings: Settings,
    /// smithay's protocol states.
    pub protocols: Protocols,
    /// smithay's seats.
    pub seat_state: SeatState<Agent>,
    /// The one seat.
    pub seat: Seat<Agent>,
    /// Held keys and buttons.
    pub input: InputState,
    /// Monitors.
    pub outputs: Outputs,
    /// Surfaces.
    pub surfaces: Surfaces,
    /// Toplevels and popups.
    pub windows: Windows,
    /// The pointer image.
    pub cursor: CursorState,
    /// Pool buffers.
    pub recycler: Recycler,
    /// Counters.
    pub exported: Counted,
    /// The display session.
    pub display: Link,
    /// The control session.
    pub control: Link,
    /// The guest's clock, beside the host's.
    pub clock: Clock,
    /// Programs that were started.
    pub apps: Apps,
    /// Apps that could be started.
    pub catalogue: Catalogue,
    /// Where links go.
    pub links: Links,
    /// X11 apps.
    pub x11: X11,
    /// What is copied and pasted.
    pub exchange: Exchange,
    /// What is dragged.
    pub drags: Drags,
    /// Set when the agent is to end.
    pub end: Option<End>,
    watches: [Watch; 2],
    started: Instant,
    control_was_up: bool,
    next_idle_frame: Instant,
}

impl Agent {
    /// Everything set up, nothing connected.
    pub fn new(
        loop_handle: LoopHandle<'static, Agent>,
        display_handle: DisplayHandle,
        mut settings: Settings,
        pool: Box<dyn Pool>,
    ) -> Self {
        let protocols = Protocols::new(&display_handle);
        let mut seat_state = SeatState::new();
        let mut seat = seat_state.new_wl_seat(&display_handle, "seat0");
        seat.add_pointer();
        let mut outputs = Outputs::default();
        outputs.set(&display_handle, &[]);
        let now = Instant::now();
        let capabilities = pool.capabilities();
        let x11 = X11::new(&display_handle, &settings.folder);
        settings.x11 = x11.environment();
        let mut agent = Self {
            loop_handle,
            display_handle,
            protocols,
            seat_state,
            seat,
            input: InputState::default(),
            outputs,
            surfaces: Surfaces::default(),
            windows: Windows::default(),
            cursor: CursorState::default(),
            recycler: Recycler::new(pool),
            exported: Counted::default(),
            display: Link::new(Role::Display, settings.display.clone(), capabilities),
            control: Link::new(Role::Control, settings.control.clone(), Capabilities::default()),
            clock: Clock::default(),
            apps: Apps::default(),
            catalogue: Catalogue::default(),
            links: Links::default(),
            x11,
            exchange: Exchange::default(),
            drags: Drags::default(),
            end: None,
            watches: Default::default(),
            started: now,
            control_was_up: false,
            next_idle_frame: now + IDLE_FRAME,
            settings,
        };
        inject::keyboard::add(&mut agent);
        agent
    }

    /// Milliseconds since the start, as Wayland has them.
    #[must_use]
    pub fn now_ms(&self) -> u32 {
        inject::wire_ms(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Tells the window process; nobody is told while there is none.
    pub fn send(&mut self, request: &Request) {
        if !self.display.send(request) {
            tracing::error!("a request is too long to be sent");
        }
    }

    /// Tells the window process what an app asks for, unless so much waits for it already that more would cut the session off.
    pub fn send_act(&mut self, surface: SurfaceId, act: Act) {
        if self.display.waiting() < limits::OUTBOX / 4 {
            self.send(&Request::Act { surface, act });
        }
    }

    /// Tells the machine process.
    pub fn report(&mut self, report: &Report) {
        if !self.control.send(report) {
            tracing::error!("a report is too long to be sent");
        }
    }

    /// Something is ready to be read or written.
    pub fn ready(&mut self, source: Source) {
        match source {
            Source::Control => {
                let result = self.serve_control();
                self.judge(source, result);
            }
            Source::Display => {
                let result = self.serve_display();
                self.judge(source, result);
            }
            Source::Exec(id) => crate::exec::ready(self, id),
            Source::Keep => exchange::kept_ready(self),
            Source::Transfer(id) => exchange::ready(self, id),
            Source::X11 => x11::ready(self),
        }
    }

    fn serve_control(&mut self) -> Result<(), LinkError> {
        if self.control.ready()? {
            tracing::info!(address = %self.control.address(), "control session");
            self.control_was_up = true;
            control::up(self);
        }
        while let Some(command) = self.control.next_message::<Command>()? {
            control::handle(self, command);
        }
        Ok(())
    }

    fn serve_display(&mut self) -> Result<(), LinkError> {
        if self.display.ready()? {
            tracing::info!(address = %self.display.address(), "display session");
            self.surfaces.mark_all();
            exchange::up(self);
        }
        while let Some(event) = self.display.next_message::<Event>()? {
            display::handle(self, event);
        }
        Ok(())
    }

    /// Takes a link down whose work failed.
    fn judge(&mut self, source: Source, result: Result<(), LinkError>) {
        let Err(error) = result else { return };
        let link = if source == Source::Control { &mut self.control } else { &mut self.display };
        let was_up = link.is_up();
        link.drop_connection();
        let address = link.address().clone();
        if was_up {
            tracing::info!(%address, error = &error as &dyn std::error::Error, "the host is gone");
        } else {
            tracing::debug!(%address, error = &error as &dyn std::error::Error, "no host yet");
        }
        let refused = matches!(error, LinkError::Handshake(_));
        if refused && !was_up {
            tracing::warn!(%address, %error, "the host refuses the agent");
        }
        if source == Source::Display && was_up {
            self.display_lost();
        }
        if source == Source::Control && address.is_local() {
            if self.control_was_up {
                self.end = Some(End::Done);
            } else if refused || self.started.elapsed() > PATIENCE {
                self.end = Some(End::Failed(format!("{address}: {error}")));
            }
        }
    }

    /// The window process is gone: all is said again when it comes back.
    fn display_lost(&mut self) {
        self.surfaces.iter_mut().for_each(crate::surface::Surface::disconnected);
        self.windows.disconnected();
        self.x11.disconnected();
        self.recycler.disconnected();
        self.cursor.disconnected();
        inject::disconnected(self);
        drag::disconnected(self);
        exchange::disconnected(self);
        windows::configure_waiting(self);
        self.next_idle_frame = Instant::now() + IDLE_FRAME;
    }

    /// The end of a turn of the loop; when the next one is due at the latest.
    pub fn turn(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.attempt(now);
        crate::exec::turn(self, now);
        exchange::turn(self, now);
        crate::apps::turn(self, now);
        if !self.display.is_up() && now >= self.next_idle_frame {
            self.next_idle_frame = now + IDLE_FRAME;
            let time = self.now_ms();
            self.surfaces.iter_mut().for_each(|s| s.frame(time, None));
        }
        x11::turn(self);
        export::flush(self);
        cursor::say(self);
        inject::constraint::say(self);
        let flushed = self.display.flush();
        self.judge(Source::Display, flushed);
        let flushed = self.control.flush();
        self.judge(Source::Control, flushed);
        self.watch();
        if let Err(error) = self.display_handle.flush_clients() {
            tracing::debug!(%error, "an app does not take its events");
        }
        let idle = (!self.display.is_up()).then_some(self.next_idle_frame);
        let no_pool = self.surfaces.is_any_dirty() && self.display.is_up() && !self.recycler.is_ready();
        let pool = no_pool.then_some(now + POOL_PAUSE);
        let [exec, apps, x11] = [crate::exec::due(self), crate::apps::due(self), x11::due(self)];
        let due = [self.display.due(), self.control.due(), idle, pool, exec, apps, x11, exchange::due(self)];
        due.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Connects where it is time to.
    fn attempt(&mut self, now: Instant) {
        for source in [Source::Control, Source::Display] {
            let link = if source == Source::Control { &mut self.control } else { &mut self.display };
            if link.due().is_some_and(|due| due <= now) {
                let result = if link.is_down() { link.try_connect() } else { Err(LinkError::Silent) };
                self.judge(source, result);
            }
        }
    }

    fn watch(&mut self) {
        let [control, display] = &mut self.watches;
        for (watch, link, source) in
            [(control, &self.control, Source::Control), (display, &self.display, Source::Display)]
        {
            watch.set(&self.loop_handle, source, link.wish());
        }
        crate::exec::watch(self);
        exchange::watch(self);
        x11::watch(self, Instant::now());
    }
}
