//! An X11 client that does what a test tells it.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Window, WindowClass,
};
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

use crate::host::{Host, LONG};

pub struct XClient {
    pub c: RustConnection,
    pub root: Window,
    pub events: Vec<Event>,
}

impl XClient {
    /// Connects with the key that the agent put beside its Wayland socket. Starts Xwayland where it does not run.
    pub fn new(host: &Host) -> Self {
        let names = std::fs::read_dir(host.dir.path()).unwrap().map(|e| e.unwrap().file_name());
        let number = names.filter_map(|n| Some(n.to_str()?.strip_prefix("inlay-xauthority-")?.to_owned()));
        let number = number.last().expect("no X display");
        let key = std::fs::read(host.dir.path().join(format!("inlay-xauthority-{number}"))).unwrap();
        let key = key[key.len() - 16..].to_vec();
        let stream = UnixStream::connect(format!("/tmp/.X11-unix/X{number}")).unwrap();
        let (stream, _) = DefaultStream::from_unix_stream(stream).unwrap();
        let name = b"MIT-MAGIC-COOKIE-1".to_vec();
        let c = RustConnection::connect_to_stream_with_auth_info(stream, 0, name, key).unwrap();
        let root = c.setup().roots[0].root;
        Self { c, root, events: Vec::new() }
    }

    pub fn atom(&self, name: &str) -> Atom {
        self.c.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
    }

    /// A window that is not mapped, filled with a colour.
    pub fn create(&self, area: (i16, i16, u16, u16), colour: u32, override_redirect: bool) -> Window {
        let id = self.c.generate_id().unwrap();
        let mask = EventMask::STRUCTURE_NOTIFY
            | EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::POINTER_MOTION
            | EventMask::ENTER_WINDOW
            | EventMask::FOCUS_CHANGE
            | EventMask::PROPERTY_CHANGE;
        let aux = CreateWindowAux::new()
            .background_pixel(colour)
            .override_redirect(u32::from(override_redirect))
            .event_mask(mask);
        let (x, y, w, h) = area;
        let only = WindowClass::INPUT_OUTPUT;
        self.c.create_window(0, id, self.root, x, y, w, h, 0, only, 0, &aux).unwrap();
        id
    }

    pub fn text(&self, window: Window, property: impl Into<Atom>, text: &[u8]) {
        self.c.change_property8(PropMode::REPLACE, window, property, AtomEnum::STRING, text).unwrap();
    }

    pub fn numbers(&self, window: Window, property: Atom, kind: impl Into<Atom>, values: &[u32]) {
        self.c.change_property32(PropMode::REPLACE, window, property, kind.into(), values).unwrap();
    }

    /// A list of atoms as a property.
    pub fn atoms(&self, window: Window, property: &str, names: &[&str]) {
        let values: Vec<u32> = names.iter().map(|n| self.atom(n)).collect();
        self.numbers(window, self.atom(property), AtomEnum::ATOM, &values);
    }

    pub fn property(&self, window: Window, property: &str) -> Vec<u32> {
        let reply = self.c.get_property(false, window, self.atom(property), AtomEnum::ANY, 0, 64).unwrap();
        reply.reply().unwrap().value32().map(Iterator::collect).unwrap_or_default()
    }

    pub fn map(&self, window: Window) {
        self.c.map_window(window).unwrap();
        self.c.flush().unwrap();
    }

    /// A message to the window manager.
    pub fn ask(&self, window: Window, kind: &str, data: [u32; 5]) {
        let event = x11rb::protocol::xproto::ClientMessageEvent::new(32, window, self.atom(kind), data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.c.send_event(false, self.root, mask, event).unwrap();
        self.c.flush().unwrap();
    }

    /// Serves both until an event comes that fits, and takes it.
    #[track_caller]
    pub fn until<T>(&mut self, host: &mut Host, what: &str, fits: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            while let Some(event) = self.c.poll_for_event().unwrap() {
                self.events.push(event);
            }
            if let Some(at) = self.events.iter().position(|e| fits(e).is_some()) {
                return fits(&self.events.remove(at)).unwrap();
            }
            assert!(Instant::now() < end, "the X client never saw {what}: {:?}", self.events);
            host.serve(Duration::from_millis(2));
        }
    }
}
