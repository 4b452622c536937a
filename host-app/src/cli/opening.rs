//! The window that says that an app is being opened: there at once, while the machine starts and until the app's own is there.
//!
//! A thread of its own speaks to the window process, which the machine process starts before all else, so the window does not wait for
//! the guest. Its "Cancel" ends this command.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};

use super::power;
use crate::api::{Client, Reply, Request};
use crate::machine::Sockets;
use crate::paths::MachinePaths;
use crate::windows::api::{ApiReply, ApiRequest};

/// The window process is looked for this often.
const SOON: Duration = Duration::from_millis(5);
/// It is told this often how long it takes.
const OFTEN: Duration = Duration::from_millis(250);
/// The exit status of a command that the user cancelled, as after Ctrl-C.
const CANCELLED: i32 = 130;

#[derive(Debug)]
enum News {
    /// The machine process was started by this command.
    Started,
    /// It goes on: this is what happens.
    Progress(String),
    /// The app runs.
    Opened,
}

/// The window; it goes when this is dropped, unless the app runs.
#[derive(Debug)]
pub(super) struct Opening {
    news: Option<mpsc::Sender<News>>,
    thread: Option<JoinHandle<()>>,
}

impl Opening {
    /// Shows it as soon as there is a window process.
    pub fn begin(paths: &MachinePaths, app: &str) -> Self {
        let (news, told) = mpsc::channel();
        let (paths, app) = (paths.clone(), app.to_owned());
        let thread =
            std::thread::Builder::new().name("opening".into()).spawn(move || run(&paths, &app, &told));
        // Without it the app opens all the same.
        Self { news: Some(news), thread: thread.ok() }
    }

    /// The machine was off: it is started for this app.
    pub fn started(&self) {
        self.tell(News::Started);
    }

    /// What happens.
    pub fn progress(&self, text: &str) {
        self.tell(News::Progress(text.to_owned()));
    }

    /// The app runs.
    pub fn opened(&self) {
        self.tell(News::Opened);
    }

    fn tell(&self, news: News) {
        if let Some(sender) = &self.news {
            // The thread may have found no window process.
            let _ = sender.send(news);
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.news = None;
        if let Some(thread) = self.thread.take() {
            // Its last words are on their way then.
            let _ = thread.join();
        }
    }
}

fn run(paths: &MachinePaths, app: &str, told: &mpsc::Receiver<News>) {
    let began = Instant::now();
    let socket: PathBuf = Sockets::new(paths.runtime()).windows();
    let name = paths.name();
    let mut connection: Option<Connection> = None;
    let (mut started, mut stage) = (false, String::from("the machine starts"));
    loop {
        let limit = if connection.is_some() { OFTEN } else { SOON };
        match told.recv_timeout(limit) {
            Ok(News::Started) => started = true,
            Ok(News::Progress(text)) => stage = text,
            Ok(News::Opened) => {
                let told = connection.map(|mut connection| {
                    connection.queue(&ApiRequest::Opened)?;
                    connection.wait_message::<ApiReply>(Some(Duration::from_secs(2)))
                });
                if let Some(Err(error)) = told {
                    tracing::debug!(%error, "the window process does not know that the app runs");
                }
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if connection.is_none() {
            let stream = std::os::unix::net::UnixStream::connect(&socket);
            connection = stream.ok().and_then(|stream| Connection::new(stream.into()).ok());
        }
        let seconds = began.elapsed().as_secs();
        let text = format!("{app} is being opened.\n\n{name}: {stage} ({seconds} s)");
        match connection.as_mut().map(|connection| say(connection, text)) {
            Some(Ok(true)) => {
                cancel(paths, started);
                std::process::exit(CANCELLED);
            }
            // It may come back.
            Some(Err(_)) => connection = None,
            _ => {}
        }
    }
}

/// Says how far it has come; whether the user cancelled.
fn say(connection: &mut Connection, text: String) -> Result<bool, ConnectionError> {
    connection.queue(&ApiRequest::Opening(text))?;
    connection.flush()?;
    connection.receive()?;
    while let Some((reply, _)) = connection.next_message::<ApiReply>()? {
        if reply == ApiReply::Cancelled {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A machine that was started for this app only is switched off again.
fn cancel(paths: &MachinePaths, started: bool) {
    let Ok(Some(mut client)) = Client::connect(&Sockets::new(paths.runtime()).api()) else { return };
    let unused =
        matches!(client.ask(&Request::Status, &mut |_| {}), Ok((Reply::Status(s), _)) if s.apps == 0);
    if started && unused {
        // It boots: there is nothing in it to be ended in order.
        if let Err(error) = power::switch_off(&mut client, paths, true, Duration::ZERO) {
            tracing::warn!("the machine goes on: {error:#}");
        }
    }
}
