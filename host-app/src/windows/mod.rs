//! The window process: the display session and everything that touches the desktop.
//!
//! One thread, one loop. It polls the display, the agent, the machine process and the tools that ask ([`api`]), and wakes
//! for the next tick only while something is to be drawn. The same process serves a machine and local mode.
//!
//! ```text
//! agent -> session -> scene (buffers, memory, pixels) -> render -> presenter -> desktop
//!            ^------------------------- input, configure, close ------'
//! ```

pub mod api;
mod buffers;
#[cfg(test)]
mod corpus;
mod dialogs;
mod event_loop;
mod exchange;
mod focus;
mod gate;
mod heap;
pub mod launcher;
mod memory;
mod own_key;
mod paint;
mod pixels;
pub mod placement;
mod presenter;
mod render;
mod scene;
mod screen;
mod session;
pub mod uploads;
mod window;

use crate::apps::Apps;
use crate::files::lists::FileLists;
use crate::paths::{Folders, MachineName};
use std::path::PathBuf;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};

pub(crate) use window::clean;

use presenter::Presenter;
use presenter::desk::Desk;
use presenter::framed::{Border, Framed};
use presenter::headless::Headless;
use presenter::scaled::Scaled;
use presenter::wayland::Wayland;
use presenter::x11::X11;

/// Where windows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Screen {
    /// The display that the environment names; an error when there is none.
    #[default]
    Auto,
    /// The Wayland display that `WAYLAND_DISPLAY` names.
    Wayland,
    /// The X display that `DISPLAY` names.
    X11,
    /// Nowhere; pictures can be taken.
    Headless,
}

/// How to run the window process.
#[derive(Debug, Clone)]
pub struct Options {
    /// The machine's name, or `local`.
    pub name: String,
    /// Unix socket on which the agent's display connection arrives.
    pub display_socket: PathBuf,
    /// Unix socket of the machine process's memory channel; none in local mode.
    pub memory_socket: Option<PathBuf>,
    /// Unix socket on which [`api`] is served.
    pub api_socket: PathBuf,
    /// Where windows are shown.
    pub screen: Screen,
    /// What may be exchanged with the guest; without a file everything.
    pub permissions: Option<PathBuf>,
    /// How lists of files cross, where host and guest have files of their own.
    pub lists: Option<FileLists>,
    /// Whose item is in the desktop's tray, if there is to be one.
    pub tray: Option<(Folders, MachineName)>,
    /// The guest's apps, where it has some of its own.
    pub apps: Option<Apps>,
    /// The colour (red, green, blue) of a border around the guest's windows, if they are to have one.
    pub border: Option<[u8; 3]>,
}

/// Runs the window process until its machine ends.
///
/// # Errors
/// When there is no display, no graphics driver, or a socket cannot be made; when the display goes away.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (presenter, display) = desktop(options.screen)?;
    let border = options.border.map(Border::new);
    let desk: Box<dyn Presenter> = Box::new(Desk::new(presenter, &options.name, border));
    let presenter = match border {
        Some(border) => Box::new(Framed::new(desk, border)),
        None => desk,
    };
    event_loop::Loop::new(options, presenter, display)?.run()
}

/// Says something in a window, until the user has closed it: for a command that nobody sees otherwise.
///
/// # Errors
/// There is no display.
pub fn notice(text: &str) -> anyhow::Result<()> {
    let (mut presenter, _) = desktop(Screen::Auto)?;
    let mut dialogs = dialogs::Dialogs::default();
    dialogs.say(text);
    loop {
        dialogs.turn(presenter.as_mut());
        if dialogs.is_empty() {
            return Ok(());
        }
        presenter.flush();
        let events = presenter.dispatch().context("the display is gone")?;
        if events.is_empty()
            && let Some(fd) = presenter.fd()
        {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
        }
        for event in events {
            dialogs.take(event);
        }
    }
}

/// A desktop to show windows on, and its display, for a device that draws them.
fn desktop(screen: Screen) -> anyhow::Result<(Box<dyn Presenter>, render::DisplayHandle)> {
    Ok(match screen {
        Screen::Headless => (Box::new(Headless::default()), None),
        Screen::Wayland => wayland()?,
        Screen::Auto if is_set("WAYLAND_DISPLAY") => wayland()?,
        Screen::Auto | Screen::X11 => {
            no_display_hint()?;
            let x11 = X11::connect().context("no windows can be opened")?;
            let display = x11.display();
            (Box::new(Scaled::new(Box::new(x11))), Some(display))
        }
    })
}

fn wayland() -> anyhow::Result<(Box<dyn Presenter>, render::DisplayHandle)> {
    let wayland = Wayland::connect().context("no windows can be opened")?;
    let display = wayland.display();
    Ok((Box::new(wayland), Some(display)))
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// An error that says what to do when there is no display.
///
/// # Errors
/// When neither `WAYLAND_DISPLAY` nor `DISPLAY` is set.
pub fn no_display_hint() -> anyhow::Result<()> {
    let some = ["WAYLAND_DISPLAY", "DISPLAY"].into_iter().any(is_set);
    anyhow::ensure!(
        some,
        "there is no display: set WAYLAND_DISPLAY or DISPLAY, or use --headless to run without windows"
    );
    Ok(())
}
