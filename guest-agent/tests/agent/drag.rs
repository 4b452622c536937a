//! What apps drag: out to the host, and over windows of the same guest.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use inlay_protocol::display::{Event, Request, SurfaceId};
use inlay_protocol::geometry::Point;
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::{Actions, Drag, DragIcon, DragStart, Feedback, Selection};
use inlay_protocol::stream::Chunk;
use wayland_client::protocol::wl_data_device::{self, WlDataDevice};
use wayland_client::protocol::wl_data_device_manager::{DndAction, WlDataDeviceManager};
use wayland_client::protocol::wl_data_offer::{self, WlDataOffer};
use wayland_client::protocol::wl_data_source::{self, WlDataSource};
use wayland_client::{
    Connection, Dispatch, Proxy as _, QueueHandle, WEnum, delegate_noop, event_created_child,
};

use crate::client::{Client, State, Told, Window};
use crate::host::Host;

const LEFT: u32 = 0x110;
const TEXT: &str = "text/plain;charset=utf-8";

struct Scene {
    host: Host,
    client: Client,
    window: Window,
    surface: SurfaceId,
    manager: WlDataDeviceManager,
    device: WlDataDevice,
}

impl Scene {
    /// A window in which the button is held.
    fn new() -> Self {
        let mut host = Host::start();
        let mut client = Client::new(&host);
        let buffer = client.buffer(100, 80);
        let (window, surface) = client.mapped(&mut host, &buffer);
        let manager: WlDataDeviceManager = client.bind(3);
        let device = manager.get_data_device(&client.seat, &client.handle, ());
        host.input(InputEvent::PointerEnter { surface, x: 10.0, y: 12.0 });
        let mut scene = Self { host, client, window, surface, manager, device };
        scene.press();
        scene
    }

    fn press(&mut self) {
        self.host.input(InputEvent::PointerButton { time_ms: 1, button: LEFT, pressed: true });
        self.told(&Told::Button { button: LEFT, pressed: true });
    }

    fn told(&mut self, wanted: &Told) {
        self.client.until(&mut self.host, &format!("{wanted:?}"), |told| (told == wanted).then_some(()));
    }

    fn source(&self, names: &[&str]) -> WlDataSource {
        let source = self.manager.create_data_source(&self.client.handle, ());
        names.iter().for_each(|name| source.offer((*name).to_owned()));
        source.set_actions(DndAction::Copy | DndAction::Move);
        source
    }

    fn start(&mut self, source: Option<&WlDataSource>) {
        let serial = self.client.state.button_serial;
        self.device.start_drag(source, &self.window.surface, None, serial);
        self.client.roundtrip();
    }

    fn request<T>(&mut self, what: &str, find: impl Fn(&Request) -> Option<T>) -> T {
        let mut found = None;
        self.host.until(what, |host| {
            found = host.requests.iter().find_map(&find);
            found.is_some()
        });
        found.unwrap()
    }

    fn started(&mut self) -> DragStart {
        self.request("the drag", |request| match request {
            Request::DragStart(start) => Some(start.clone()),
            _ => None,
        })
    }

    fn feedback(&mut self, feedback: Feedback) {
        let serial = self.started().serial;
        self.host.send(&Event::DragFeedback { serial, feedback });
    }

    fn is_said(&mut self, which: impl Fn(&Request) -> bool) -> bool {
        self.client.roundtrip();
        self.host.serve_for(Duration::from_millis(100));
        self.host.requests.iter().any(which)
    }
}

#[test]
fn an_app_drags_and_hears_what_becomes_of_it() {
    let mut scene = Scene::new();
    let source = scene.source(&["text/plain", "UTF8_STRING", "text/html"]);
    let icon = scene.client.compositor.create_surface(&scene.client.handle, ());
    let serial = scene.client.state.button_serial;
    scene.device.start_drag(Some(&source), &scene.window.surface, Some(&icon), serial);
    icon.offset(-5, 3);
    let picture = scene.client.buffer(16, 16);
    scene.client.show(&icon, &picture);
    let start = scene.started();
    assert_eq!(start.types, [TEXT, "text/html"]);
    assert_eq!((start.surface, start.actions), (scene.surface, Actions::COPY.with(Actions::MOVE)));
    let icon = scene.request("the icon", |request| match request {
        Request::DragIcon { icon: Some(icon), .. } if icon.offset != Point::default() => Some(*icon),
        _ => None,
    });
    assert_eq!(icon.offset, Point::new(-5, 3));
    scene.host.until("its pixels", |host| host.is_mapped(icon.surface));
    // The app has the pointer no more, whatever the host says of it.
    scene.told(&Told::PointerLeave { surface: scene.window.surface.id().protocol_id() });
    scene.client.state.told.clear();
    scene.host.input(InputEvent::PointerMotion { time_ms: 2, x: 30.0, y: 31.0 });
    scene.host.input(InputEvent::PointerButton { time_ms: 3, button: LEFT, pressed: false });
    scene.feedback(Feedback::Target { kind: Some(TEXT.to_owned()), action: Actions::MOVE });
    scene.told(&Told::SourceTarget(Some("UTF8_STRING".to_owned())));
    scene.told(&Told::SourceAction(2));
    let moved =
        |told: &Told| matches!(told, Told::Motion { .. } | Told::Button { .. } | Told::PointerEnter { .. });
    assert!(!scene.client.state.told.iter().any(moved), "{:?}", scene.client.state.told);
    // It is fetched, dropped and done.
    let fetch = Event::Fetch {
        stream: [3; 16],
        selection: Selection::Drag,
        serial: start.serial,
        kind: "text/html".to_owned(),
    };
    scene.host.send(&fetch);
    let got = scene.host.read_stream([3; 16], || scene.client.roundtrip());
    assert_eq!(got, b"data of text/html");
    scene.feedback(Feedback::Dropped);
    scene.told(&Told::SourceDropped);
    let surface = scene.window.surface.id().protocol_id();
    scene.told(&Told::PointerEnter { surface, x: 30.0, y: 31.0 });
    scene.feedback(Feedback::Finished { action: Actions::COPY });
    scene.told(&Told::SourceAction(1));
    scene.told(&Told::SourceFinished);
    // Another begins where the button is pressed again; its app takes it back.
    scene.host.requests.clear();
    scene.press();
    let source = scene.source(&["text/html"]);
    scene.start(Some(&source));
    let next = scene.started();
    assert!(next.serial > start.serial);
    source.destroy();
    scene.client.roundtrip();
    scene.request("its end", |request| {
        matches!(request, Request::DragCancel { serial } if *serial == next.serial).then_some(())
    });
}

#[test]
fn what_no_button_holds_is_not_dragged() {
    let mut scene = Scene::new();
    let begins = |request: &Request| matches!(request, Request::DragStart(_));
    let source = scene.source(&["text/html"]);
    scene.device.start_drag(Some(&source), &scene.window.surface, None, 0);
    scene.client.roundtrip();
    scene.told(&Told::SourceCancelled);
    scene.host.input(InputEvent::PointerButton { time_ms: 3, button: LEFT, pressed: false });
    scene.told(&Told::Button { button: LEFT, pressed: false });
    let source = scene.source(&["text/html"]);
    scene.start(Some(&source));
    scene.told(&Told::SourceCancelled);
    assert!(!scene.is_said(begins));
    // The host sees no button: the app has its pointer again.
    scene.press();
    let source = scene.source(&["text/html"]);
    scene.start(Some(&source));
    scene.feedback(Feedback::Cancelled);
    scene.told(&Told::SourceCancelled);
    let surface = scene.window.surface.id().protocol_id();
    scene.told(&Told::PointerEnter { surface, x: 10.0, y: 12.0 });
    // The surface of a window is no icon.
    scene.press();
    let serial = scene.client.state.button_serial;
    let source = scene.source(&["text/html"]);
    scene.device.start_drag(Some(&source), &scene.window.surface, Some(&scene.window.surface), serial);
    let result = scene.client.queue.roundtrip(&mut scene.client.state);
    assert!(result.is_err());
    let error = scene.client.connection.protocol_error().unwrap();
    assert_eq!((error.object_interface.as_str(), error.code), ("wl_data_device", 0));
}

#[test]
fn what_is_dragged_over_the_same_guest_does_not_cross() {
    let mut scene = Scene::new();
    let source = scene.source(&["text/uri-list", "text/html"]);
    scene.start(Some(&source));
    let start = scene.started();
    let (surface, wl) = (scene.surface, scene.window.surface.id().protocol_id());
    let enter = |own| {
        let (types, actions) = (Vec::new(), Actions::COPY);
        Event::Drag(Drag::Enter { surface, x: 5.0, y: 6.0, serial: 40, types, actions, own })
    };
    scene.host.send(&enter(Some(start.serial)));
    scene.told(&Told::DragEnter { surface: wl, offered: true });
    let names = scene.client.state.offered.clone();
    assert_eq!(names, ["text/uri-list", "text/html"]);
    let offer = scene.client.state.offer.clone().unwrap();
    offer.accept(1, Some("text/uri-list".to_owned()));
    offer.set_actions(DndAction::Move, DndAction::Move);
    scene.client.roundtrip();
    scene.told(&Told::SourceTarget(Some("text/uri-list".to_owned())));
    scene.told(&Told::SourceAction(2));
    scene.request("the answer", |request| match request {
        Request::DragAnswer { serial: 40, kind: Some(_), action: Actions::MOVE } => Some(()),
        _ => None,
    });
    scene.host.send(&Event::Drag(Drag::Drop));
    scene.told(&Told::DragDrop);
    let (mut read, write) = std::io::pipe().unwrap();
    offer.receive("text/uri-list".to_owned(), write.as_fd());
    scene.client.roundtrip();
    drop(write);
    scene.client.roundtrip();
    let mut got = String::new();
    read.read_to_string(&mut got).unwrap();
    assert_eq!(got, "data of text/uri-list");
    offer.finish();
    scene.client.roundtrip();
    scene.request("the end", |request| match request {
        Request::DragEnd { serial: 40, action: Actions::MOVE } => Some(()),
        _ => None,
    });
    assert!(!scene.is_said(|request| matches!(request, Request::Fetch { .. })));
    scene.feedback(Feedback::Dropped);
    scene.told(&Told::SourceDropped);
    scene.feedback(Feedback::Finished { action: Actions::MOVE });
    scene.told(&Told::SourceFinished);
    // Of what is over nothing can be had.
    scene.host.requests.clear();
    scene.host.send(&enter(Some(start.serial)));
    assert!(!scene.is_said(|request| matches!(request, Request::DragAnswer { .. })));
    // Without a source it is for the app alone, which knows what it is.
    scene.host.requests.clear();
    scene.press();
    scene.start(None);
    let start = scene.started();
    assert!(start.types.is_empty());
    scene.host.send(&enter(Some(start.serial)));
    scene.told(&Told::DragEnter { surface: wl, offered: false });
    scene.host.send(&Event::Drag(Drag::Drop));
    scene.told(&Told::DragDrop);
    scene.request("the end", |request| match request {
        Request::DragEnd { serial: 40, action: Actions::COPY } => Some(()),
        _ => None,
    });
}

#[test]
fn an_icon_far_away_is_kept_within_bounds() {
    let mut scene = Scene::new();
    let source = scene.source(&["text/html"]);
    let icon = scene.client.compositor.create_surface(&scene.client.handle, ());
    let serial = scene.client.state.button_serial;
    scene.device.start_drag(Some(&source), &scene.window.surface, Some(&icon), serial);
    let picture = scene.client.buffer(16, 16);
    for _ in 0..4 {
        icon.offset(i32::MAX, i32::MIN);
        scene.client.show(&icon, &picture);
        scene.client.roundtrip();
    }
    let far = inlay_protocol::limits::COORDINATE;
    scene.request("the icon", |request| match request {
        Request::DragIcon { icon: Some(DragIcon { offset, .. }), .. } => {
            (*offset == Point::new(far, -far)).then_some(())
        }
        _ => None,
    });
}

impl Dispatch<WlDataSource, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataSource,
        event: wl_data_source::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(match event {
            wl_data_source::Event::Target { mime_type } => Told::SourceTarget(mime_type),
            wl_data_source::Event::Action { dnd_action: WEnum::Value(action) } => {
                Told::SourceAction(action.bits())
            }
            wl_data_source::Event::Send { mime_type, fd } => {
                std::fs::File::from(fd).write_all(format!("data of {mime_type}").as_bytes()).unwrap();
                return;
            }
            wl_data_source::Event::DndDropPerformed => Told::SourceDropped,
            wl_data_source::Event::DndFinished => Told::SourceFinished,
            wl_data_source::Event::Cancelled => Told::SourceCancelled,
            _ => return,
        });
    }
}

impl Dispatch<WlDataDevice, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataDevice,
        event: wl_data_device::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(match event {
            wl_data_device::Event::Enter { surface, id, .. } => {
                let offered = id.is_some();
                state.offer = id;
                Told::DragEnter { surface: surface.id().protocol_id(), offered }
            }
            wl_data_device::Event::DataOffer { .. } => {
                state.offered.clear();
                return;
            }
            wl_data_device::Event::Drop => Told::DragDrop,
            _ => return,
        });
    }

    event_created_child!(State, WlDataDevice, [wl_data_device::EVT_DATA_OFFER_OPCODE => (WlDataOffer, ())]);
}

impl Dispatch<WlDataOffer, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlDataOffer,
        event: wl_data_offer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_data_offer::Event::Offer { mime_type } = event {
            state.offered.push(mime_type);
        }
    }
}

delegate_noop!(State: WlDataDeviceManager);

/// All that comes on a stream, served by its other end meanwhile.
pub fn read_all(stream: &mut inlay_protocol::connection::Connection, mut serve: impl FnMut()) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        serve();
        match stream.wait_message::<Chunk>(Some(Duration::from_millis(20))).unwrap() {
            Some((Chunk::Data(bytes), _)) => all.extend(bytes),
            Some((Chunk::End, _)) => return all,
            None => {}
        }
    }
}
