//! An X11 app of the tests' own that is dropped upon (XDND 5), and does as much of its part as it is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Window,
    WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

x11rb::atom_manager! {
    Atoms: AtomsCookie {
        XdndAware,
        XdndEnter,
        XdndPosition,
        XdndStatus,
        XdndLeave,
        XdndDrop,
        XdndFinished,
        XdndSelection,
        XdndTypeList,
        XdndActionCopy,
        DATA,
    }
}

/// Whether something is dragged on a display.
pub fn is_dragged(display: &str) -> bool {
    let (c, _) = RustConnection::connect(Some(display)).unwrap();
    let selection = c.intern_atom(false, b"XdndSelection").unwrap().reply().unwrap().atom;
    c.get_selection_owner(selection).unwrap().reply().unwrap().owner != x11rb::NONE
}

/// What the app does.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// It takes what is dragged over it.
    pub accepts: bool,
    /// It says that it is done.
    pub finishes: bool,
}

/// What it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Enter(Vec<String>),
    Position,
    Leave,
    Drop,
    /// What was fetched; nothing where it was refused.
    Data(Option<Vec<u8>>),
}

/// The app, which lives as long as this.
#[derive(Debug)]
pub struct Target {
    seen: Arc<Mutex<Vec<Seen>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Target {
    /// A window at this place of a display that fetches what is dropped as this type.
    pub fn start(display: &str, (x, y): (i16, i16), fetches: &'static str, manners: Manners) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (c, screen) = RustConnection::connect(Some(display)).unwrap();
        let app = App::open(c, screen, (x, y), fetches, manners, seen.clone());
        let end = ends.clone();
        let thread = std::thread::spawn(move || app.run(&end));
        Self { seen, ends, thread: Some(thread) }
    }

    /// What it saw, positions left out.
    pub fn seen(&self) -> Vec<Seen> {
        let all = self.seen.lock().unwrap();
        all.iter().filter(|seen| **seen != Seen::Position).cloned().collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        assert!(joined.is_none_or(|joined| joined.is_ok()) || std::thread::panicking());
    }
}

struct App {
    c: RustConnection,
    atoms: Atoms,
    window: Window,
    fetches: u32,
    manners: Manners,
    seen: Arc<Mutex<Vec<Seen>>>,
    source: Window,
}

impl App {
    fn open(
        c: RustConnection,
        screen: usize,
        (x, y): (i16, i16),
        fetches: &str,
        manners: Manners,
        seen: Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        let atoms = Atoms::new(&c).unwrap().reply().unwrap();
        let root = c.setup().roots[screen].root;
        let window = c.generate_id().unwrap();
        let aux = CreateWindowAux::new().override_redirect(1).background_pixel(0x33_66_99);
        let (class, copy) = (WindowClass::INPUT_OUTPUT, x11rb::COPY_FROM_PARENT);
        c.create_window(0, window, root, x, y, 200, 150, 0, class, copy, &aux).unwrap();
        c.change_property32(PropMode::REPLACE, window, atoms.XdndAware, AtomEnum::ATOM, &[5]).unwrap();
        c.map_window(window).unwrap();
        let fetches = c.intern_atom(false, fetches.as_bytes()).unwrap().reply().unwrap().atom;
        c.sync().unwrap();
        Self { c, atoms, window, fetches, manners, seen, source: x11rb::NONE }
    }

    fn run(mut self, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            match self.c.poll_for_event().unwrap() {
                Some(event) => self.take(event),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }

    fn tell(&self, kind: u32, rest: [u32; 4]) {
        let [a, b, d, e] = rest;
        let message = ClientMessageEvent::new(32, self.source, kind, [self.window, a, b, d, e]);
        self.c.send_event(false, self.source, EventMask::NO_EVENT, message).unwrap();
        self.c.flush().unwrap();
    }

    fn names(&self, data: [u32; 5]) -> Vec<String> {
        let mut list = data[2..].to_vec();
        if data[1] & 1 != 0 {
            let of = (data[0], self.atoms.XdndTypeList);
            let reply = self.c.get_property(false, of.0, of.1, AtomEnum::ATOM, 0, 1000).unwrap().reply();
            list = reply.unwrap().value32().unwrap().collect();
        }
        let name = |atom| {
            let reply = self.c.get_atom_name(atom).unwrap().reply().unwrap();
            String::from_utf8(reply.name).unwrap()
        };
        list.into_iter().filter(|atom| *atom != 0).map(name).collect()
    }

    fn take(&mut self, event: Event) {
        let a = self.atoms;
        match event {
            Event::ClientMessage(e) => {
                let data = e.data.as_data32();
                let accepts = u32::from(self.manners.accepts);
                match e.type_ {
                    t if t == a.XdndEnter => {
                        self.source = data[0];
                        self.note(Seen::Enter(self.names(data)));
                    }
                    t if t == a.XdndPosition => {
                        self.note(Seen::Position);
                        self.tell(a.XdndStatus, [accepts, 0, 0, accepts * a.XdndActionCopy]);
                    }
                    t if t == a.XdndLeave => self.note(Seen::Leave),
                    t if t == a.XdndDrop => {
                        self.note(Seen::Drop);
                        let (of, time) = (a.XdndSelection, data[2]);
                        self.c.convert_selection(self.window, of, self.fetches, a.DATA, time).unwrap();
                        self.c.flush().unwrap();
                    }
                    _ => {}
                }
            }
            Event::SelectionNotify(e) => {
                let data = (e.property != 0).then(|| {
                    let reply = self.c.get_property(true, self.window, a.DATA, AtomEnum::ANY, 0, 1 << 20);
                    reply.unwrap().reply().unwrap().value
                });
                self.note(Seen::Data(data));
                if self.manners.finishes {
                    self.tell(a.XdndFinished, [1, a.XdndActionCopy, 0, 0]);
                }
            }
            _ => {}
        }
    }
}
