//! `inlay-agent`: the headless compositor and service inside the guest. In local mode it runs on the host's own kernel, and
//! nothing else differs: it speaks to a channel and takes buffers from a pool (DESIGN, decision 4).
//!
//! ```text
//! app -> handlers -> surface, windows -> export -> channel -> host      (requests)
//! app <- seat     <- inject           <- display <- channel <- host     (events)
//!        apps, exec                   <- control <- channel <- host     (commands)
//! ```

mod agent;
mod apps;
mod catalogue;
mod channel;
mod clock;
mod console;
mod control;
mod copying;
mod cursor;
mod display;
mod drag;
mod exchange;
mod exec;
mod export;
mod handlers;
mod inject;
mod links;
mod locale;
mod pool;
mod shared;
mod spawn;
mod surface;
mod watch;
mod windows;
mod x11;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction};
use smithay::reexports::wayland_server::{BindError, Display, ListeningSocket};

use crate::agent::{Agent, End, Settings};
use crate::channel::Address;
use crate::handlers::AppState;
use crate::pool::Pool;
use crate::pool::memfd::MemfdPool;
use crate::pool::virtio_gpu::VirtioGpuPool;
use crate::spawn::Inherited;

/// Shows the Wayland apps of this system as windows of the Inlay host.
///
/// Apps connect to the Wayland socket that the agent makes; the agent connects to the host. In a virtual machine the addresses
/// are vsock:PORT; on one kernel (local mode) they are unix:PATH, and the agent ends when the control connection does.
/// INLAY_LOG sets what is logged to standard error (for example INLAY_LOG=debug).
#[derive(Debug, Parser)]
#[command(name = "inlay-agent", version)]
struct Arguments {
    /// Control session of the host: unix:PATH or vsock:PORT
    #[arg(long, value_name = "ADDRESS")]
    control: Address,
    /// Display session of the host: unix:PATH or vsock:PORT
    #[arg(long, value_name = "ADDRESS")]
    display: Address,
    /// Bulk streams of the host [default: vsock:5002 when the control session is on vsock]
    #[arg(long, value_name = "ADDRESS")]
    stream: Option<Address>,
    /// Where the Wayland socket is put [default: $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    runtime_dir: Option<PathBuf>,
    /// Where pixels are put for the host; auto is memfd on unix:PATH, virtio-gpu on vsock:PORT
    #[arg(long, value_enum, default_value_t = PoolChoice::Auto)]
    pool: PoolChoice,
    /// Folder of desktop files and defaults for apps, by which they hand links to the agent
    #[arg(long, value_name = "DIRECTORY")]
    share: Option<PathBuf>,
    /// Shell command that switches the guest off
    #[arg(long, value_name = "COMMAND", default_value = "systemctl poweroff")]
    poweroff_command: String,
    /// Shell command that sets the time zone, whose name follows it
    #[arg(long, value_name = "COMMAND", default_value = "timedatectl set-timezone")]
    zone_command: String,
    /// File for the keys of the system's own consoles, which `inlay-agent set-keys FILE` sets as root
    #[arg(long, value_name = "FILE")]
    console_keys: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PoolChoice {
    Auto,
    Memfd,
    VirtioGpu,
}

fn main() -> ExitCode {
    // Before all else: this process reads what is hostile, and is none of an agent.
    let mut words = std::env::args().skip(1);
    let (word, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if word == catalogue::icons::RENDER {
        return if catalogue::icons::render_main(&argument).is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if word == links::OPEN {
        return match links::open_main(&argument) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Whoever started it may show it.
                let _ = writeln!(std::io::stderr(), "the link cannot be given to the agent: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if word == console::SET {
        return match console::set_main(&argument) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "the consoles' keyboard stays as it is: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("INLAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,smithay=warn"));
    let ansi = rustix::termios::isatty(std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let inherited = Inherited::raise();
    spawn::keep_descriptors();
    apps::adopt_orphans().context("orphans cannot be adopted")?;
    let mut event_loop = EventLoop::<Agent>::try_new().context("no event loop")?;
    let handle = event_loop.handle();
    let display = Display::<Agent>::new().context("no Wayland server")?;
    let runtime_dir = runtime_dir(arguments)?;
    let (listener, name) = listen(&runtime_dir)?;
    let settings = settings(arguments, &runtime_dir, &name);
    tracing::info!(wayland_display = settings.wayland_display, "Wayland socket");
    let mut agent = Agent::new(handle.clone(), display.handle(), settings, pool(arguments));
    agent.apps.set_inherited(inherited);
    insert_wayland(&handle, listener, display)?;
    insert_links(&handle, &agent.settings)?;
    insert_signals(&handle)?;
    if !arguments.control.is_local() {
        shared::link();
    }
    let end = loop {
        let timeout = agent.turn();
        if let Some(end) = agent.end.take() {
            break end;
        }
        event_loop.dispatch(timeout, &mut agent).context("the event loop failed")?;
    };
    // What was reported last should still arrive.
    if let Err(error) = agent.control.flush() {
        tracing::debug!(%error, "the host heard no last words");
    }
    apps::end_all(&mut agent);
    match end {
        End::Done => Ok(()),
        End::Failed(text) => Err(anyhow::anyhow!(text)),
    }
}

fn runtime_dir(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let given =
        arguments.runtime_dir.clone().or_else(|| std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    let dir = given.context("XDG_RUNTIME_DIR is not set: name a directory with --runtime-dir")?;
    std::path::absolute(&dir).with_context(|| format!("no such directory: {}", dir.display()))
}

fn settings(arguments: &Arguments, runtime_dir: &Path, name: &str) -> Settings {
    // Apps keep the session's runtime directory where there is one (sound, D-Bus); then the socket needs its whole path.
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    let session = session.unwrap_or_else(|| runtime_dir.into());
    let wayland_display =
        if session == runtime_dir { name.into() } else { runtime_dir.join(name).display().to_string() };
    let default = Address::Vsock(inlay_protocol::ports::STREAM);
    Settings {
        control: arguments.control.clone(),
        display: arguments.display.clone(),
        stream: arguments.stream.clone().or_else(|| (!arguments.control.is_local()).then_some(default)),
        wayland_display,
        folder: runtime_dir.into(),
        runtime_dir: session,
        poweroff: arguments.poweroff_command.clone(),
        zone: arguments.zone_command.clone(),
        console_keys: arguments.console_keys.clone(),
        locale: String::new(),
        share: arguments.share.clone(),
        x11: None,
    }
}

/// The Wayland socket, with the first free name.
fn listen(dir: &Path) -> anyhow::Result<(ListeningSocket, String)> {
    for number in 0..64 {
        let name = format!("inlay-{number}");
        match ListeningSocket::bind_absolute(dir.join(&name)) {
            Ok(socket) => return Ok((socket, name)),
            Err(BindError::AlreadyInUse) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("no Wayland socket in {}", dir.display()));
            }
        }
    }
    anyhow::bail!("all Wayland socket names in {} are taken", dir.display())
}

fn pool(arguments: &Arguments) -> Box<dyn Pool> {
    match arguments.pool {
        PoolChoice::Memfd => Box::new(MemfdPool),
        PoolChoice::Auto if arguments.display.is_local() => Box::new(MemfdPool),
        PoolChoice::Auto | PoolChoice::VirtioGpu => Box::new(VirtioGpuPool::default()),
    }
}

fn insert_wayland(
    handle: &LoopHandle<'static, Agent>,
    listener: ListeningSocket,
    display: Display<Agent>,
) -> anyhow::Result<()> {
    let listen = Generic::new(listener, Interest::READ, Mode::Level);
    let accepting = handle.insert_source(listen, |_, listener, agent| {
        match listener.accept() {
            Ok(Some(stream)) => {
                if let Err(error) = agent.display_handle.insert_client(stream, Arc::new(AppState::default()))
                {
                    tracing::warn!(%error, "an app cannot connect");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an app cannot connect"),
        }
        Ok(PostAction::Continue)
    });
    accepting.map_err(|error| anyhow::anyhow!("{error}")).context("the Wayland socket cannot be watched")?;
    let serve = Generic::new(display, Interest::READ, Mode::Level);
    let serving = handle.insert_source(serve, |_, display, agent| {
        // SAFETY: the display is not dropped while the loop watches its descriptor.
        if let Err(error) = unsafe { display.get_mut() }.dispatch_clients(agent) {
            tracing::warn!(%error, "apps cannot be served in this turn");
        }
        Ok(PostAction::Continue)
    });
    serving.map_err(|error| anyhow::anyhow!("{error}")).context("apps cannot be watched")?;
    Ok(())
}

/// Links that apps open, where they are to come here.
fn insert_links(handle: &LoopHandle<'static, Agent>, settings: &Settings) -> anyhow::Result<()> {
    if settings.share.is_none() {
        return Ok(());
    }
    let socket = links::listen(&settings.folder).context("no socket for links")?;
    let source = Generic::new(socket, Interest::READ, Mode::Level);
    let inserted = handle.insert_source(source, |_, socket, agent| {
        links::take(agent, socket);
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| anyhow::anyhow!("{error}")).context("links cannot be watched for")?;
    Ok(())
}

/// SIGCHLD collects programs that ended; SIGTERM and SIGINT end the agent in order.
fn insert_signals(handle: &LoopHandle<'static, Agent>) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
    insert_signal(handle, &[SIGCHLD], apps::reap)?;
    insert_signal(handle, &[SIGTERM, SIGINT], |agent| agent.end = Some(End::Done))
}

fn insert_signal(
    handle: &LoopHandle<'static, Agent>,
    numbers: &[i32],
    act: fn(&mut Agent),
) -> anyhow::Result<()> {
    let (read, write) = UnixStream::pair().context("no socket pair")?;
    read.set_nonblocking(true)?;
    for number in numbers {
        signal_hook::low_level::pipe::register(*number, write.try_clone()?)?;
    }
    let source = Generic::new(read, Interest::READ, Mode::Level);
    let inserted = handle.insert_source(source, move |_, read, agent| {
        let mut bytes = [0; 64];
        while matches!(rustix::io::read(&**read, &mut bytes), Ok(count) if count > 0) {}
        act(agent);
        Ok(PostAction::Continue)
    });
    inserted.map_err(|error| anyhow::anyhow!("{error}")).context("signals cannot be watched")?;
    Ok(())
}
