//! Answers to the tools that ask the window process ([`api`]).

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::{Point, Rect};
use rustix::time::ClockId;

use super::{HELLO, Loop};
use crate::windows::api::{self, ApiReply, ApiRequest, Counters, WindowInfo};
use crate::windows::presenter::desk::{self, Desk};
use crate::windows::screen;
use crate::windows::session::Session;
use crate::windows::uploads::nanoseconds;
use crate::windows::window::{self, Role as WindowRole};

/// A tool that asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub connection: Connection,
    /// It waits for the agent's counters until then.
    pub counters_until: Option<Instant>,
    /// Its own number.
    pub number: u64,
}

impl Loop {
    /// Tools' questions.
    pub(super) fn answer(&mut self) {
        let mut staying = Vec::new();
        for mut asker in std::mem::take(&mut self.askers) {
            match self.answer_one(&mut asker) {
                Ok(()) => staying.push(asker),
                Err(_) => self.dialogs.opener_gone(asker.number),
            }
        }
        self.askers = staying;
    }

    fn answer_one(&mut self, asker: &mut Asker) -> Result<(), ConnectionError> {
        asker.connection.receive()?;
        while asker.counters_until.is_none()
            && let Some((request, _)) = asker.connection.next_message::<ApiRequest>()?
        {
            match request {
                ApiRequest::List => asker.connection.queue(&ApiReply::Windows(self.list()))?,
                ApiRequest::Picture(selector) => {
                    let made = api::choose(&self.list(), &selector).map(|w| w.surface);
                    let made = made.and_then(|w| self.picture(w).map_err(|e| format!("{e:#}")));
                    match made {
                        Ok((reply, fd)) => asker.connection.queue_with(&reply, vec![Arc::new(fd)])?,
                        Err(why) => asker.connection.queue(&ApiReply::Failed(why))?,
                    }
                }
                ApiRequest::Launched(token) => {
                    self.presenter.expect_window(token);
                    asker.connection.queue(&ApiReply::Done)?;
                }
                ApiRequest::Opening(text) => self.dialogs.opening(asker.number, &text),
                ApiRequest::Opened => {
                    self.dialogs.opened(asker.number);
                    asker.connection.queue(&ApiReply::Done)?;
                }
                ApiRequest::Together { on, fullscreen } => {
                    let reply = if self.put_together(on, fullscreen) {
                        ApiReply::Done
                    } else {
                        ApiReply::Failed("a question waits for an answer, in a window on the desktop".into())
                    };
                    asker.connection.queue(&reply)?;
                }
                ApiRequest::Uploads => {
                    let uploads = self.session.as_ref().map(|s| s.uploads.all()).unwrap_or_default();
                    asker.connection.queue(&ApiReply::Uploads(uploads))?;
                }
                ApiRequest::Counters => {
                    asker.counters_until = Some(Instant::now() + HELLO);
                    self.with_session(|s, _| s.query_counters().and_then(|()| s.flush()));
                }
            }
        }
        if self.dialogs.is_cancelled(asker.number) {
            asker.connection.queue(&ApiReply::Cancelled)?;
        }
        if let Some(until) = asker.counters_until {
            let agent = self.session.as_ref().and_then(|s| s.agent_counters);
            if agent.is_some() || self.session.is_none() || Instant::now() >= until {
                asker.counters_until = None;
                let counters = Counters { agent, ..self.counters() };
                asker.connection.queue(&ApiReply::Counters(counters))?;
            }
        }
        asker.connection.flush()
    }

    fn list(&self) -> Vec<WindowInfo> {
        let screen = self.screen.info().map(|(title, class, size)| {
            let (title, area) = (title.to_owned(), Rect::of_size(size));
            WindowInfo { surface: screen::WINDOW, title, class, area, parent: None }
        });
        let together = self.presenter.desk().and_then(Desk::info).map(|(title, class, size)| {
            let (title, area) = (title.to_owned(), Rect::of_size(size));
            WindowInfo { surface: desk::WINDOW, title, class, area, parent: None }
        });
        let apps = self.session.as_ref().map(|session| self.list_apps(session)).unwrap_or_default();
        apps.into_iter().chain(together).chain(screen).collect()
    }

    fn list_apps(&self, session: &Session) -> Vec<WindowInfo> {
        let open = session.windows.iter().filter(|(_, w)| w.is_open());
        open.map(|(surface, w)| match &w.role {
            WindowRole::Toplevel(toplevel) => {
                let (title, class) = (window::title(toplevel), window::class(toplevel, &self.name));
                let at = self.presenter.desk().and_then(|desk| desk.area(*surface));
                let at = at.map(|area| Point::new(area.x, area.y)).unwrap_or_default();
                let area = Rect::of_size(w.size).translated(at);
                WindowInfo { surface: *surface, title, class, area, parent: None }
            }
            WindowRole::Popup(popup, area) => WindowInfo {
                surface: *surface,
                title: String::new(),
                class: String::new(),
                area: *area,
                parent: Some(popup.parent),
            },
        })
        .collect()
    }

    fn picture(&mut self, window: SurfaceId) -> anyhow::Result<(ApiReply, std::os::fd::OwnedFd)> {
        let renderer = self.graphics.renderer().context("the graphics device is still being opened")?;
        if window == screen::WINDOW {
            let (_, _, size) = self.screen.info().context("there is no such window")?;
            let quads = self.screen.quads(120, renderer);
            return Ok((ApiReply::Picture(size), api::memory_file(&renderer.picture(size, &quads)?)?));
        }
        if window == desk::WINDOW {
            let desk = self.presenter.desk_mut().context("there is no such window")?;
            let (_, _, size) = desk.info().context("there is no such window")?;
            let quads = desk.quads(120, renderer);
            return Ok((ApiReply::Picture(size), api::memory_file(&renderer.picture(size, &quads)?)?));
        }
        let session = self.session.as_ref().context("there is no such window")?;
        let size = session.windows.get(&window).context("there is no such window")?.size;
        let mut bytes = renderer.picture(size, &session.scene.quads(window, 120))?;
        if let Some(outline) = session.outline(window) {
            window::cut_out(&mut bytes, size, &outline);
        }
        Ok((ApiReply::Picture(size), api::memory_file(&bytes)?))
    }

    fn counters(&self) -> Counters {
        let pixels = self.session.as_ref().map(Session::counters).unwrap_or_default();
        let received = self.session.as_ref().map_or(0, |s| s.connection().received());
        let draw_cpu_ns = self.graphics.busy_ns();
        Counters {
            commits: pixels.commits,
            dropped: pixels.dropped,
            uploaded_bytes: pixels.uploaded_bytes,
            socket_bytes: self.received_before + received,
            loop_cpu_ns: nanoseconds(ClockId::ThreadCPUTime).saturating_sub(draw_cpu_ns),
            draw_cpu_ns,
            resident_bytes: resident_bytes(),
            agent: None,
        }
    }
}

/// Resident memory of this process (`/proc/self/statm`).
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|p| p.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
