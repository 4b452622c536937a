//! What tools may ask the window process: which windows there are, pictures of them, figures.
//!
//! Served on a Unix socket in the machine's runtime folder, as length-framed messages; pixels come back in a memory file
//! descriptor, never through the socket.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use inlay_protocol::connection::Connection;
use inlay_protocol::display::{AgentCounters, SurfaceId};
use inlay_protocol::framing::{Invalid, Message};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use super::uploads::Upload;

/// How long an answer may take; a picture on a software rasteriser takes a while.
const ANSWER: Duration = Duration::from_secs(20);

/// Which window is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// By its place in the list of toplevels, from 1.
    Index(u32),
    /// By a part of its title or class.
    Text(String),
    /// By its surface.
    Surface(SurfaceId),
}

impl std::str::FromStr for Selector {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Index))
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiRequest {
    /// Which windows are open?
    List,
    /// What does a window show?
    Picture(Selector),
    /// What was counted?
    Counters,
    /// When were the newest commits uploaded?
    Uploads,
    /// The user starts an app: its window may take the focus. With what the launcher gave for that.
    Launched(Option<String>),
    /// An app is being opened, which takes a while: a window says so, with this text. Said again, the text is another one. It goes with
    /// whoever says so, unless [`ApiRequest::Opened`] follows.
    Opening(String),
    /// The app runs: its window will come, and take the place of that one.
    Opened,
    /// All windows of apps are to be in one window, or no more.
    Together {
        /// Whether they are.
        on: bool,
        /// Whether the one window has all of a monitor.
        fullscreen: bool,
    },
}

/// An open window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowInfo {
    /// Its surface in the guest.
    pub surface: SurfaceId,
    /// The title that its app gave it, cleaned for display; empty for popups.
    pub title: String,
    /// Its class; empty for popups.
    pub class: String,
    /// Size of its content; also the place relative to the parent for popups, and in the one window for toplevels that are together.
    pub area: Rect,
    /// Set for popups: the parent's surface.
    pub parent: Option<SurfaceId>,
}

/// Figures of the window process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Commits taken from the agent.
    pub commits: u64,
    /// Commits dropped.
    pub dropped: u64,
    /// Bytes of pixels copied into the upload ring.
    pub uploaded_bytes: u64,
    /// Bytes received from the agent on the display socket.
    pub socket_bytes: u64,
    /// CPU time of the window loop without drawing, in nanoseconds: messages, copies into the upload ring, releases.
    pub loop_cpu_ns: u64,
    /// CPU time of the window loop inside the graphics library, in nanoseconds.
    pub draw_cpu_ns: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// The agent's figures, when it is connected.
    pub agent: Option<AgentCounters>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiReply {
    /// The open windows, oldest first.
    Windows(Vec<WindowInfo>),
    /// The picture's size; its pixels are in the descriptor beside, rows of `4 * width` bytes, blue first, premultiplied.
    Picture(Size),
    /// The figures.
    Counters(Counters),
    /// The newest uploads, oldest first.
    Uploads(Vec<Upload>),
    /// It is noted.
    Done,
    /// The user does not want the app any more that is being opened.
    Cancelled,
    /// Why there is no answer.
    Failed(String),
}

impl Message for ApiRequest {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Picture(Selector::Text(text)) => Invalid::unless(text.len() <= limits::TITLE, "window"),
            Self::Opening(text) => Invalid::unless(text.len() <= limits::TITLE, "text"),
            _ => Ok(()),
        }
    }
}

impl Message for ApiReply {
    const LIMIT: usize = limits::MEMORY_MESSAGE;

    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Picture(_)))
    }
}

/// A picture of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width and height in pixels.
    pub size: Size,
    /// Rows of `4 * width` bytes: blue, green, red, alpha; colour premultiplied with alpha.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// Writes it as PNG (straight alpha, as that format has it).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_png(&self, path: &Path) -> anyhow::Result<()> {
        let straight = |colour: u8, alpha: u8| match alpha {
            0 => 0,
            255 => colour,
            _ => u8::try_from((u32::from(colour) * 255 + u32::from(alpha) / 2) / u32::from(alpha))
                .unwrap_or(255),
        };
        let rgba = self
            .bytes
            .chunks_exact(4)
            .flat_map(|p| [straight(p[2], p[3]), straight(p[1], p[3]), straight(p[0], p[3]), p[3]]);
        let image = image::RgbaImage::from_raw(self.size.width, self.size.height, rgba.collect())
            .context("the picture is incomplete")?;
        // Under a name of its own first: an interrupted command leaves no half picture.
        let part = path.with_extension("png.part");
        image
            .save_with_format(&part, image::ImageFormat::Png)
            .and_then(|()| std::fs::rename(&part, path).map_err(image::ImageError::IoError))
            .with_context(|| format!("cannot write {}", path.display()))
            .inspect_err(|_| drop(std::fs::remove_file(&part)))
    }
}

/// Asks the window process that listens on a socket.
///
/// # Errors
/// When nobody listens, the answer does not come, or it is a failure.
pub fn ask(socket: &Path, request: &ApiRequest) -> anyhow::Result<(ApiReply, Vec<OwnedFd>)> {
    let stream = UnixStream::connect(socket).context("its window process does not run")?;
    let mut connection = Connection::new(stream.into())?;
    connection.queue(request)?;
    match connection.wait_message::<ApiReply>(Some(ANSWER))? {
        Some((ApiReply::Failed(why), _)) => bail!(why),
        Some(answer) => Ok(answer),
        None => bail!("the window process does not answer"),
    }
}

/// The open windows.
///
/// # Errors
/// As [`ask`].
pub fn windows(socket: &Path) -> anyhow::Result<Vec<WindowInfo>> {
    match ask(socket, &ApiRequest::List)? {
        (ApiReply::Windows(windows), _) => Ok(windows),
        _ => bail!("the window process gave another answer"),
    }
}

/// What a window shows.
///
/// # Errors
/// As [`ask`]; also when no window fits, or more than one does.
pub fn picture(socket: &Path, window: Selector) -> anyhow::Result<Picture> {
    let (ApiReply::Picture(size), fds) = ask(socket, &ApiRequest::Picture(window))? else {
        bail!("the window process gave another answer")
    };
    let mut bytes = Vec::new();
    let fd = fds.into_iter().next().context("the picture is missing")?;
    std::fs::File::from(fd).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 == 4 * u64::from(size.width) * u64::from(size.height));
    Ok(Picture { size, bytes })
}

/// What was counted.
///
/// # Errors
/// As [`ask`].
pub fn counters(socket: &Path) -> anyhow::Result<Counters> {
    match ask(socket, &ApiRequest::Counters)? {
        (ApiReply::Counters(counters), _) => Ok(counters),
        _ => bail!("the window process gave another answer"),
    }
}

/// Says that the user starts an app; with the launcher's token, where its environment has one (xdg-activation, startup
/// notification).
///
/// # Errors
/// As [`ask`].
pub fn launched(socket: &Path) -> anyhow::Result<()> {
    let token =
        ["XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"].iter().find_map(|name| std::env::var(name).ok());
    ask(socket, &ApiRequest::Launched(token)).map(drop)
}

/// Has all windows of apps in one window, or no more.
///
/// # Errors
/// As [`ask`].
pub fn together(socket: &Path, on: bool, fullscreen: bool) -> anyhow::Result<()> {
    ask(socket, &ApiRequest::Together { on, fullscreen }).map(drop)
}

/// When the newest commits were uploaded.
///
/// # Errors
/// As [`ask`].
pub fn uploads(socket: &Path) -> anyhow::Result<Vec<Upload>> {
    match ask(socket, &ApiRequest::Uploads)? {
        (ApiReply::Uploads(uploads), _) => Ok(uploads),
        _ => bail!("the window process gave another answer"),
    }
}

/// Finds the window that is meant.
///
/// # Errors
/// Says which windows there are when none or more than one fits.
pub fn choose<'a>(windows: &'a [WindowInfo], selector: &Selector) -> Result<&'a WindowInfo, String> {
    let toplevels = || windows.iter().filter(|w| w.parent.is_none());
    let found: Vec<_> = match selector {
        Selector::Surface(surface) => windows.iter().filter(|w| w.surface == *surface).collect(),
        Selector::Index(index) => {
            let index = usize::try_from(*index).unwrap_or(0);
            toplevels().skip(index.wrapping_sub(1)).take(1).collect()
        }
        Selector::Text(text) => {
            let exact: Vec<_> = toplevels().filter(|w| w.title == *text).collect();
            let part = |w: &&WindowInfo| w.title.contains(text) || w.class.contains(text);
            if exact.is_empty() { toplevels().filter(part).collect() } else { exact }
        }
    };
    match found.as_slice() {
        [one] => Ok(one),
        several => {
            let titles: Vec<String> =
                toplevels().enumerate().map(|(i, w)| format!("{} \"{}\"", i + 1, w.title)).collect();
            let open = if titles.is_empty() { "none".to_owned() } else { titles.join(", ") };
            let what = if several.is_empty() { "no such window" } else { "more than one window fits" };
            Err(format!("{what}; open are: {open}"))
        }
    }
}

/// Puts a picture into a sealed memory file.
///
/// # Errors
/// When the system gives no memory.
pub fn memory_file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("picture", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(&fd, &bytes[done..], done as u64)?;
    }
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(id: u32, title: &str, parent: Option<SurfaceId>) -> WindowInfo {
        let class = "inlay.demo.foot".to_owned();
        WindowInfo { surface: SurfaceId(id), title: title.to_owned(), class, area: Rect::default(), parent }
    }

    #[test]
    fn windows_are_found_by_title_part_class_and_number() {
        let list = [info(1, "one", None), info(2, "", Some(SurfaceId(1))), info(3, "one more", None)];
        let find = |text: &str| choose(&list, &text.parse().unwrap()).map(|w| w.surface.0);
        assert_eq!(find("one"), Ok(1), "an exact title before a part");
        assert_eq!(find("more"), Ok(3));
        assert_eq!(find("2"), Ok(3), "popups are not counted");
        assert_eq!(
            find("foot"),
            Err("more than one window fits; open are: 1 \"one\", 2 \"one more\"".to_owned())
        );
        assert!(find("0").is_err() && find("9").is_err());
        assert_eq!(choose(&[], &Selector::Index(1)), Err("no such window; open are: none".to_owned()));
    }

    #[test]
    fn a_png_has_straight_alpha_and_red_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let picture = Picture { size: Size::new(2, 1), bytes: vec![0, 64, 128, 128, 1, 2, 3, 255] };
        picture.save_png(&path).unwrap();
        let got = image::open(&path).unwrap().to_rgba8().into_raw();
        assert_eq!(got, [255, 128, 0, 128, 3, 2, 1, 255]);
        assert!(picture.save_png(Path::new("/nowhere/a.png")).is_err());
    }
}
