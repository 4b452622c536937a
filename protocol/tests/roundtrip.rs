//! Properties of the wire: what is sent comes back, and arbitrary bytes never do harm.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use inlay_protocol::control::{Command, Exit, LaunchError, Program, Report, TerminalSize};
use inlay_protocol::copying::Item;
use inlay_protocol::display::*;
use inlay_protocol::framing::{self, Decoder, Message};
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use inlay_protocol::handshake::{Hello, Welcome};
use inlay_protocol::input::{AxisSource, InputEvent, Modifiers, Scroll};
use inlay_protocol::limits;
use inlay_protocol::memory::{Notice, Region, Run};
use inlay_protocol::selection::{Actions, Drag, DragIcon, DragStart, Feedback, Offer, Selection};
use inlay_protocol::stream::{Chunk, Input, Output};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn surface() -> impl Strategy<Value = SurfaceId> {
    any::<u32>().prop_map(SurfaceId)
}

fn selection() -> impl Strategy<Value = Selection> {
    prop::sample::select(Selection::ALL.to_vec())
}

fn kind() -> impl Strategy<Value = String> {
    "[a-z]{1,8}/[a-z.;=-]{1,20}"
}

fn offer() -> impl Strategy<Value = Offer> {
    (selection(), any::<u64>(), vec(kind(), 0..5)).prop_map(|(selection, serial, types)| Offer {
        selection,
        serial,
        types,
    })
}

fn drag() -> impl Strategy<Value = Drag> {
    let place = || (-500.0..500.0, -500.0..500.0);
    prop_oneof![
        (surface(), place(), any::<u64>(), vec(kind(), 0..5), 0..8_u8, option::of(any::<u64>())).prop_map(
            |(surface, (x, y), serial, types, actions, own)| Drag::Enter {
                surface,
                x,
                y,
                serial,
                types,
                actions: Actions(actions),
                own
            }
        ),
        (any::<u64>(), place()).prop_map(|(time_ms, (x, y))| Drag::Motion { time_ms, x, y }),
        Just(Drag::Leave),
        Just(Drag::Drop),
    ]
}

fn feedback() -> impl Strategy<Value = Feedback> {
    prop_oneof![
        (option::of(kind()), action()).prop_map(|(kind, action)| Feedback::Target { kind, action }),
        Just(Feedback::Dropped),
        action().prop_map(|action| Feedback::Finished { action }),
        Just(Feedback::Cancelled),
    ]
}

fn action() -> impl Strategy<Value = Actions> {
    prop::sample::select(vec![Actions::NONE, Actions::COPY, Actions::MOVE, Actions::ASK])
}

fn point() -> impl Strategy<Value = Point> {
    (-5000..5000, -5000..5000).prop_map(|(x, y)| Point::new(x, y))
}

fn size() -> impl Strategy<Value = Size> {
    (1..5000_u32, 1..5000_u32).prop_map(|(w, h)| Size::new(w, h))
}

fn rect() -> impl Strategy<Value = Rect> {
    (point(), size()).prop_map(|(p, s)| Rect { x: p.x, y: p.y, ..Rect::of_size(s) })
}

fn content() -> impl Strategy<Value = Content> {
    (any::<u32>(), 0..1000_u64, size(), 0..64_u32, any::<bool>()).prop_map(
        |(buffer, offset, size, pad, alpha)| Content {
            buffer: BufferId(buffer),
            offset: offset * 4,
            size,
            stride: 4 * (size.width + pad),
            format: if alpha { Format::Argb8888 } else { Format::Xrgb8888 },
        },
    )
}

fn commit() -> impl Strategy<Value = Commit> {
    let source = (0.0..500.0, 0.0..500.0, 0.0..500.0, 0.0..500.0).prop_map(|(x, y, width, height)| RectF {
        x,
        y,
        width,
        height,
    });
    let children = vec((1..u32::MAX, point()), 0..5).prop_map(|list| {
        let sub = |(id, position)| Child::Subsurface { surface: SurfaceId(id), position };
        if list.is_empty() {
            vec![]
        } else {
            [Child::Itself].into_iter().chain(list.into_iter().map(sub)).collect()
        }
    });
    let first =
        (any::<u64>(), option::of(content()), vec(rect(), 0..9), 1..4_u32, option::of(source), size());
    let second = (
        children,
        option::of(vec(rect(), 0..4)),
        option::of(rect()),
        option::of(any::<u32>()),
        any::<bool>(),
    );
    (first, second).prop_map(|(a, b)| Commit {
        surface: SurfaceId(0),
        number: a.0,
        content: a.1,
        damage: a.2,
        scale: a.3,
        transform: Transform::Flipped90,
        source: a.4,
        size: a.5,
        children: b.0,
        input: b.1,
        opaque: vec![],
        geometry: b.2,
        acked: b.3,
        wants_frame: b.4,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let text = "\\PC{0,40}";
    let positioner = (size(), rect(), 0..3_u8, 0..3_u8, 0..64_u8, point(), any::<bool>()).prop_map(
        |(size, anchor_rect, anchor, gravity, adjustment, offset, reactive)| Positioner {
            size,
            anchor_rect,
            anchor: Edges([0, 5, 10][usize::from(anchor)]),
            gravity: Edges([0, 1, 8][usize::from(gravity)]),
            adjustment: ConstraintAdjustment(adjustment),
            offset,
            reactive,
        },
    );
    let place = prop_oneof![positioner.prop_map(Place::Positioner), rect().prop_map(Place::Fixed)];
    prop_oneof![
        (any::<u32>(), 1..1_u64 << 30, any::<u32>()).prop_map(|(buffer, size, resource)| {
            Request::CreateBuffer { buffer: BufferId(buffer), size, backing: Backing::VirtioGpu { resource } }
        }),
        vec(commit(), 0..4).prop_map(Request::Transaction),
        (surface(), text, text, option::of(surface()), size(), size()).prop_map(
            |(surface, title, app_id, parent, min_size, max_size)| Request::Toplevel(Toplevel {
                surface,
                title,
                app_id,
                parent,
                min_size,
                max_size,
                base_size: min_size,
                increment: Size::new(6, 13),
                decoration: Decoration::ServerSide,
                kind: WindowKind::Utility,
                modal: parent.is_some(),
                urgent: true,
                no_focus: false,
                keeps_awake: true,
                inhibits_shortcuts: true,
                content_type: ContentType::Video,
                place: Some(Placed { at: Point::new(-3, 70), by_user: parent.is_none() }),
            })
        ),
        (surface(), surface(), place, any::<bool>(), option::of(any::<u32>())).prop_map(
            |(surface, parent, place, grab, reposition)| Request::Popup(Popup {
                surface,
                parent,
                place,
                kind: PopupKind::Tooltip,
                grab,
                reposition
            })
        ),
        (surface(), vec((1..9_u32, 1..9_u32), 0..4)).prop_map(|(surface, sizes)| {
            let icon = |(width, height): (u32, u32)| Icon {
                size: Size::new(width, height),
                pixels: (0..4 * width * height).map(|i| i.to_le_bytes()[0]).collect(),
            };
            Request::Icons { surface, icons: sizes.into_iter().map(icon).collect() }
        }),
        (surface(), option::of(vec(rect(), 0..9)))
            .prop_map(|(surface, rects)| Request::Shape { surface, rects }),
        (surface(), any::<u32>()).prop_map(|(surface, serial)| Request::Pong { surface, serial }),
        (surface(), point()).prop_map(|(surface, at)| Request::Act { surface, act: Act::WindowMenu(at) }),
        (surface(), option::of(Just(Constraint::Locked)))
            .prop_map(|(surface, how)| Request::Constrain { surface, how }),
        (surface(), point())
            .prop_map(|(surface, hotspot)| Request::Cursor(Cursor::Surface { surface, hotspot })),
        any::<[u64; 5]>().prop_map(|[commits, copied_bytes, socket_bytes, cpu_micros, resident_bytes]| {
            Request::Counters(AgentCounters {
                commits,
                copied_bytes,
                socket_bytes,
                cpu_micros,
                resident_bytes,
            })
        }),
        Just(Request::SayAgain),
        offer().prop_map(Request::Offer),
        (any::<u64>(), option::of(kind()), action()).prop_map(|(serial, kind, action)| Request::DragAnswer {
            serial,
            kind,
            action
        }),
        (any::<u64>(), action()).prop_map(|(serial, action)| Request::DragEnd { serial, action }),
        (any::<u64>(), surface(), vec(kind(), 0..5), 0..8_u8).prop_map(
            |(serial, surface, types, actions)| {
                Request::DragStart(DragStart { serial, surface, types, actions: Actions(actions) })
            }
        ),
        (any::<u64>(), option::of((surface(), point()))).prop_map(|(serial, icon)| Request::DragIcon {
            serial,
            icon: icon.map(|(surface, offset)| DragIcon { surface, offset })
        }),
        any::<u64>().prop_map(|serial| Request::DragCancel { serial }),
        "[!-~]{0,80}".prop_map(|rest| Request::OpenLink(format!("https:{rest}"))),
        (any::<u64>(), selection(), any::<u64>(), kind()).prop_map(|(transfer, selection, serial, kind)| {
            Request::Fetch { transfer, selection, serial, kind }
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let scroll = || {
        (-500.0..500.0, -1200..1200, any::<bool>()).prop_map(|(pixels, v120, stop)| Scroll {
            pixels,
            v120,
            stop,
        })
    };
    let input =
        prop_oneof![
            "\\PC{0,400}".prop_map(InputEvent::Keymap),
            (surface(), vec(0..0x2ff_u32, 0..9), any::<[u32; 4]>()).prop_map(|(surface, keys, m)| {
                let modifiers = Modifiers { depressed: m[0], latched: m[1], locked: m[2], group: m[3] };
                InputEvent::KeyboardEnter { surface, keys, modifiers }
            }),
            (any::<u64>(), 0..0x2ff_u32, any::<bool>()).prop_map(|(time_ms, key, pressed)| InputEvent::Key {
                time_ms,
                key,
                pressed
            }),
            (any::<u64>(), -500.0..500.0, -500.0..500.0)
                .prop_map(|(time_ms, x, y)| InputEvent::PointerMotion { time_ms, x, y }),
            (any::<u64>(), scroll(), scroll()).prop_map(|(time_ms, horizontal, vertical)| {
                InputEvent::PointerAxis { time_ms, source: AxisSource::Finger, horizontal, vertical }
            }),
        ];
    prop_oneof![
        input.prop_map(Event::Input),
        (surface(), any::<u32>(), option::of(size()), any::<u32>()).prop_map(
            |(surface, serial, size, states)| {
                Event::ConfigureToplevel { surface, serial, size, states: States(states), bounds: size }
            }
        ),
        (surface(), any::<u32>(), rect(), option::of(any::<u32>())).prop_map(
            |(surface, serial, area, reposition)| Event::ConfigurePopup { surface, serial, area, reposition }
        ),
        (surface(), any::<u64>()).prop_map(|(surface, number)| Event::Release { surface, number }),
        (surface(), any::<u32>()).prop_map(|(surface, serial)| Event::Ping { surface, serial }),
        surface().prop_map(|surface| Event::Kill { surface }),
        (surface(), point()).prop_map(|(surface, at)| Event::Place { surface, at }),
        (surface(), any::<bool>()).prop_map(|(surface, held)| Event::Constrained { surface, held }),
        offer().prop_map(Event::Offer),
        (any::<[u8; 16]>(), selection(), any::<u64>(), kind())
            .prop_map(|(stream, selection, serial, kind)| Event::Fetch { stream, selection, serial, kind }),
        (any::<u64>(), option::of(any::<[u8; 16]>()))
            .prop_map(|(transfer, stream)| Event::Stream { transfer, stream }),
        (any::<[u8; 16]>(), vec(vec(1..=255_u8, 0..40), 0..9), any::<bool>()).prop_map(
            |(stream, paths, last)| {
                let paths = paths.into_iter().map(|path| [b"/".to_vec(), path].concat()).collect();
                Event::CopyOut { stream, paths, last }
            }
        ),
        drag().prop_map(Event::Drag),
        (any::<u64>(), feedback()).prop_map(|(serial, feedback)| Event::DragFeedback { serial, feedback }),
        (surface(), vec(0..16_u8, 0..4), 30..1920_u32)
            .prop_map(|(surface, outputs, scale_120)| Event::Shown { surface, outputs, scale_120 }),
        option::of(surface()).prop_map(|surface| Event::Refresh { surface }),
        ("[a-z]{1,9}", rect(), size()).prop_map(|(name, area, mode)| {
            Event::Outputs(vec![inlay_protocol::display::Output {
                name,
                area,
                mode,
                refresh: 60_000,
                scale_120: 150,
            }])
        }),
    ]
}

fn comes_back<M: Message + PartialEq + std::fmt::Debug>(message: &M) -> Result<(), TestCaseError> {
    let bytes = framing::encode(message).unwrap();
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    let got = decoder.next_message::<M>().map_err(|e| TestCaseError::fail(format!("{e}: {e:?}")))?;
    prop_assert_eq!(got.as_ref(), Some(message));
    prop_assert!(decoder.is_empty());
    Ok(())
}

fn survives<M: Message>(bytes: &[u8]) {
    if let Ok(message) = framing::decode::<M>(bytes) {
        // What was accepted can be sent on.
        let again = framing::encode(&message).unwrap();
        assert!(framing::decode::<M>(&again[framing::HEADER..]).is_ok());
    }
}

proptest! {
    #[test]
    fn requests_come_back(request in request()) {
        comes_back(&request)?;
    }

    #[test]
    fn events_come_back(event in event()) {
        comes_back(&event)?;
    }

    #[test]
    fn commands_and_reports_come_back(
        id: u64,
        argv in vec("[^\0]{0,20}", 1..5),
        stream: [u8; 16],
        columns: u16,
        text in "\\PC{0,40}",
    ) {
        let program = Program { argv, env: vec![("A".to_owned(), text.clone())], directory: None };
        comes_back(&Command::Launch { id, program: program.clone() })?;
        let terminal = Some(TerminalSize { columns, rows: columns });
        comes_back(&Command::Exec { id, program, stream, terminal })?;
        comes_back(&Report::LaunchFailed { id, error: LaunchError::NotFound(text) })?;
        comes_back(&Report::Exited { id, exit: Exit::Signal(9) })?;
    }

    #[test]
    fn streams_and_memory_come_back(bytes in vec(any::<u8>(), 0..2000), runs in vec(any::<(u64, u64)>(), 0..50)) {
        comes_back(&Input::Stdin(bytes.clone()))?;
        if !bytes.is_empty() {
            comes_back(&Chunk::Data(bytes.clone()))?;
            comes_back(&Item::Data(bytes.clone()))?;
        }
        comes_back(&Chunk::End)?;
        comes_back(&Output::Stderr(bytes))?;
        let runs = runs.into_iter().map(|(addr, len)| Run { addr, len }).collect();
        comes_back(&Notice::Resource { id: 1, generation: 2, runs })?;
        comes_back(&Notice::Regions(vec![Region { guest_addr: 0, size: 4096, file_offset: 0 }]))?;
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        survives::<Request>(&bytes);
        survives::<Event>(&bytes);
        survives::<Command>(&bytes);
        survives::<Report>(&bytes);
        survives::<Input>(&bytes);
        survives::<Output>(&bytes);
        survives::<Chunk>(&bytes);
        survives::<Item>(&bytes);
        survives::<Notice>(&bytes);
    }

    #[test]
    fn damaged_messages_do_no_harm(request in request(), at: prop::sample::Index, value: u8) {
        let mut bytes = framing::encode(&request).unwrap().split_off(framing::HEADER);
        let at = at.index(bytes.len());
        bytes[at] = value;
        survives::<Request>(&bytes);
    }

    #[test]
    fn handshakes_of_any_bytes_do_no_harm(hello in vec(any::<u8>(), 48), magic: bool) {
        let mut hello: [u8; Hello::SIZE] = hello.try_into().unwrap();
        if magic {
            hello[..4].copy_from_slice(b"INLY");
        }
        if let Ok(read) = Hello::decode(&hello) {
            prop_assert_eq!(Hello::decode(&read.encode()), Ok(read));
        }
        let welcome: [u8; Welcome::SIZE] = hello[..Welcome::SIZE].try_into().unwrap();
        let _ = Welcome::decode(&welcome);
    }
}

#[test]
fn fields_out_of_their_limits_are_refused() {
    let refused = |request: Request| {
        let bytes = framing::encode(&request).unwrap();
        assert!(framing::decode::<Request>(&bytes[framing::HEADER..]).is_err(), "{request:?}");
    };
    let act = |act| Request::Act { surface: SurfaceId(1), act };
    refused(act(Act::Resize(Edges(3))));
    refused(act(Act::Resize(Edges(255))));
    refused(act(Act::WindowMenu(Point::new(i32::MIN, 0))));
    let buffer = |size| Request::CreateBuffer { buffer: BufferId(1), size, backing: Backing::Memfd };
    refused(buffer(0));
    let icon = |width, bytes| Request::Icons {
        surface: SurfaceId(1),
        icons: vec![Icon { size: Size::new(width, 1), pixels: vec![0; bytes] }],
    };
    refused(icon(2, 7));
    refused(icon(0, 0));
    refused(icon(limits::ICON + 1, 4 * (limits::ICON as usize + 1)));
    let rects = vec![Rect::new(0, 0, 1, 1); limits::SHAPE_RECTS + 1];
    refused(Request::Shape { surface: SurfaceId(1), rects: Some(rects) });
    refused(Request::Popup(Popup {
        surface: SurfaceId(1),
        parent: SurfaceId(2),
        place: Place::Fixed(Rect::default()),
        kind: PopupKind::Menu,
        grab: false,
        reposition: None,
    }));
    refused(buffer(u64::MAX));
    let offer = |types| Request::Offer(Offer { selection: Selection::Clipboard, serial: 1, types });
    refused(offer(vec!["a/b".to_owned(); limits::TYPES + 1]));
    refused(offer(vec!["x".repeat(limits::TYPE + 1)]));
    let fetch = |kind: &str| Request::Fetch {
        transfer: 1,
        selection: Selection::Primary,
        serial: 1,
        kind: kind.to_owned(),
    };
    refused(fetch(""));
    refused(fetch("a/b\n"));
    refused(Request::Offer(Offer { selection: Selection::Drag, serial: 1, types: vec![] }));
    refused(Request::DragEnd { serial: 1, action: Actions(3) });
    refused(Request::DragAnswer { serial: 1, kind: None, action: Actions(8) });
    let start = |types: Vec<String>, actions| {
        let surface = SurfaceId(1);
        Request::DragStart(DragStart { serial: 1, surface, types, actions })
    };
    refused(start(vec!["a/b".to_owned(); limits::TYPES + 1], Actions::COPY));
    refused(start(vec!["a/b".to_owned()], Actions(8)));
    let far = DragIcon { surface: SurfaceId(1), offset: Point::new(i32::MAX, 0) };
    refused(Request::DragIcon { serial: 1, icon: Some(far) });
    let wild =
        InputEvent::PointerRelative { time_us: 0, delta: (0.0, f64::INFINITY), unaccelerated: (0.0, 0.0) };
    let bytes = framing::encode(&Event::Input(wild)).unwrap();
    assert!(framing::decode::<Event>(&bytes[framing::HEADER..]).is_err());
    let nowhere = Event::Shown { surface: SurfaceId(1), outputs: vec![99], scale_120: 120 };
    assert!(framing::decode::<Event>(&framing::encode(&nowhere).unwrap()[framing::HEADER..]).is_err());
    let nan = InputEvent::PointerMotion { time_ms: 0, x: f64::NAN, y: 0.0 };
    let bytes = framing::encode(&Event::Input(nan)).unwrap();
    assert!(framing::decode::<Event>(&bytes[framing::HEADER..]).is_err());
    let empty = Command::Launch { id: 1, program: Program::default() };
    let bytes = framing::encode(&empty).unwrap();
    assert!(framing::decode::<Command>(&bytes[framing::HEADER..]).is_err());
}
