//! Device tests: each is a driver in guest memory and a call of the queue loop.

use std::sync::{Arc, Mutex};

use vm_memory::{ByteValued, GuestAddress, GuestMemory};

use super::protocol::{self as p, CtrlHdr};
use super::{
    Area, CursorImage, Gpu, GpuLimits, PageRun, ResourceInfo, ResourceObserver, Scanout, ScreenHandle,
};
use crate::virtio::testing::{Driver, Used};
use crate::virtio::{Device, DeviceError, Wake};

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Backed(ResourceInfo),
    Gone(u32, u64),
    Scanout(Option<Scanout>),
    Flushed(Area),
    Cursor(Option<CursorImage>),
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl ResourceObserver for Log {
    fn backed(&mut self, resource: &ResourceInfo) {
        self.0.lock().unwrap().push(Seen::Backed(resource.clone()));
    }
    fn gone(&mut self, id: u32, generation: u64) {
        self.0.lock().unwrap().push(Seen::Gone(id, generation));
    }
    fn scanout(&mut self, scanout: Option<Scanout>) {
        self.0.lock().unwrap().push(Seen::Scanout(scanout));
    }
    fn flushed(&mut self, area: Area) {
        self.0.lock().unwrap().push(Seen::Flushed(area));
    }
    fn cursor(&mut self, cursor: Option<CursorImage>) {
        self.0.lock().unwrap().push(Seen::Cursor(cursor));
    }
}

struct Bench {
    driver: Driver,
    gpu: Gpu,
    screen: ScreenHandle,
    log: Log,
}

fn header(cmd: u32) -> CtrlHdr {
    CtrlHdr { cmd: cmd.into(), ..CtrlHdr::default() }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn entries(list: &[(u64, u32)]) -> Vec<u8> {
    list.iter().flat_map(|(a, l)| [a.to_le_bytes(), u64::from(*l).to_le_bytes()].concat()).collect()
}

fn code(used: &Used) -> u32 {
    u32::from_le_bytes(used.data[..4].try_into().unwrap())
}

impl Bench {
    fn new(limits: GpuLimits) -> Self {
        let log = Log::default();
        let screen = ScreenHandle::new().unwrap();
        let gpu = Gpu::new(limits, Box::new(log.clone()), screen.clone());
        Self { driver: Driver::new(2), gpu, screen, log }
    }

    fn send(&mut self, cmd: CtrlHdr, parts: &[&[u8]], room: u32) -> Used {
        let mut read = vec![cmd.as_slice()];
        read.extend(parts);
        self.driver.submit(0, &read, &[room]);
        self.driver.drive(&mut self.gpu, Wake::Queue(0)).unwrap();
        let mut used = self.driver.used(0);
        assert_eq!(used.len(), 1);
        used.remove(0)
    }

    fn command(&mut self, cmd: u32, parts: &[&[u8]]) -> u32 {
        code(&self.send(header(cmd), parts, 24))
    }

    fn create(&mut self, id: u32, width: u32, height: u32) -> u32 {
        self.command(p::CMD_RESOURCE_CREATE_2D, &[&words(&[id, 2, width, height])])
    }

    fn attach(&mut self, id: u32, list: &[(u64, u32)]) -> u32 {
        let count = u32::try_from(list.len()).unwrap();
        self.command(p::CMD_RESOURCE_ATTACH_BACKING, &[&words(&[id, count]), &entries(list)])
    }
}

#[test]
fn a_backed_resource_is_told_with_merged_runs_and_its_end() {
    let mut b = Bench::new(GpuLimits::default());
    assert_eq!(b.create(7, 64, 32), p::RESP_OK_NODATA);
    assert_eq!(b.attach(7, &[(0x5000, 0x1000), (0x6000, 0x1000), (0x9000, 0x800)]), p::RESP_OK_NODATA);
    let runs = [PageRun { addr: 0x5000, len: 0x2000 }, PageRun { addr: 0x9000, len: 0x800 }];
    let Seen::Backed(info) = b.log.take().remove(0) else { panic!("not told") };
    assert_eq!((info.id, info.width, info.height, info.format), (7, 64, 32, 2));
    assert_eq!(*info.runs, runs);
    assert_eq!(b.command(p::CMD_RESOURCE_DETACH_BACKING, &[&words(&[7, 0])]), p::RESP_OK_NODATA);
    assert_eq!(b.log.take(), [Seen::Gone(7, info.generation)]);
    assert_eq!(b.attach(7, &[(0x5000, 0x1000)]), p::RESP_OK_NODATA);
    let Seen::Backed(again) = b.log.take().remove(0) else { panic!("not told") };
    assert_ne!(again.generation, info.generation);
    assert_eq!(b.command(p::CMD_RESOURCE_UNREF, &[&words(&[7, 0])]), p::RESP_OK_NODATA);
    assert_eq!(b.log.take(), [Seen::Gone(7, again.generation)]);
    assert_eq!(b.command(p::CMD_RESOURCE_UNREF, &[&words(&[7, 0])]), p::RESP_ERR_INVALID_RESOURCE_ID);
}

#[test]
fn an_unbacked_resource_is_never_told() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 1, 1);
    assert_eq!(b.command(p::CMD_RESOURCE_DETACH_BACKING, &[&words(&[1, 0])]), p::RESP_ERR_INVALID_PARAMETER);
    b.command(p::CMD_RESOURCE_UNREF, &[&words(&[1, 0])]);
    assert_eq!(b.log.take(), []);
}

#[test]
fn pages_outside_ram_are_refused() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 16, 16);
    let bad = [
        (4 << 20, 0x1000),           // in the hole
        ((4 << 20) - 0x800, 0x1000), // runs into the hole
        ((9 << 20) - 1, 2),          // runs over the end
        (u64::MAX - 0xfff, 0x1000),  // wraps
        (0x5000, 0),                 // empty
    ];
    for entry in bad {
        assert_eq!(b.attach(1, &[(0x5000, 0x1000), entry]), p::RESP_ERR_INVALID_PARAMETER, "{entry:x?}");
    }
    assert_eq!(b.log.take(), []);
    assert_eq!(b.attach(1, &[(8 << 20, 1 << 20)]), p::RESP_OK_NODATA);
}

#[test]
fn limits_hold() {
    let limits = GpuLimits { resources: 2, dimension: 100, entries: 4, backing_bytes: 0x3000, total_runs: 3 };
    let mut b = Bench::new(limits);
    assert_eq!(b.create(0, 1, 1), p::RESP_ERR_INVALID_RESOURCE_ID);
    assert_eq!(b.create(1, 101, 1), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(b.create(1, 0, 1), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(
        b.command(p::CMD_RESOURCE_CREATE_2D, &[&words(&[1, 99, 1, 1])]),
        p::RESP_ERR_INVALID_PARAMETER
    );
    assert_eq!(b.create(1, 100, 100), p::RESP_OK_NODATA);
    assert_eq!(b.create(1, 1, 1), p::RESP_ERR_INVALID_RESOURCE_ID);
    assert_eq!(b.create(2, 1, 1), p::RESP_OK_NODATA);
    assert_eq!(b.create(3, 1, 1), p::RESP_ERR_OUT_OF_MEMORY);
    assert_eq!(b.attach(1, &[(0, 1); 5]), p::RESP_ERR_OUT_OF_MEMORY);
    assert_eq!(b.attach(1, &[(0, 0x3001)]), p::RESP_ERR_OUT_OF_MEMORY);
    assert_eq!(b.attach(1, &[(0, 1), (8, 1)]), p::RESP_OK_NODATA);
    assert_eq!(b.attach(1, &[(0, 1)]), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(b.attach(2, &[(0, 1), (8, 1)]), p::RESP_ERR_OUT_OF_MEMORY);
    assert_eq!(b.attach(2, &[(0, 1)]), p::RESP_OK_NODATA);
    b.command(p::CMD_RESOURCE_UNREF, &[&words(&[1, 0])]);
    assert_eq!(b.create(3, 1, 1), p::RESP_OK_NODATA);
    assert_eq!(b.attach(3, &[(0, 1), (8, 1)]), p::RESP_OK_NODATA);
}

#[test]
fn a_count_without_its_entries_is_refused() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 1, 1);
    let got = b.command(p::CMD_RESOURCE_ATTACH_BACKING, &[&words(&[1, 65536]), &entries(&[(0, 1)])]);
    assert_eq!(got, p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(b.command(p::CMD_RESOURCE_CREATE_2D, &[&[1, 2, 3]]), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(b.attach(1, &[]), p::RESP_ERR_INVALID_PARAMETER);
}

impl Bench {
    fn scanout(&mut self, rect: [u32; 4], scanout: u32, id: u32) -> u32 {
        let [x, y, width, height] = rect;
        self.command(p::CMD_SET_SCANOUT, &[&words(&[x, y, width, height, scanout, id])])
    }

    fn flush(&mut self, v: [u32; 6]) -> u32 {
        self.command(p::CMD_RESOURCE_FLUSH, &[&words(&v)])
    }

    fn cursor(&mut self, cmd: u32, scanout: u32, id: u32) {
        let body = words(&[scanout, 5, 6, 0, id, 1, 2, 0]);
        self.driver.submit(1, &[header(cmd).as_slice(), &body], &[]);
        assert!(self.driver.drive(&mut self.gpu, Wake::Queue(1)).unwrap().notify.contains(1));
        assert_eq!(self.driver.used(1).len(), 1);
    }
}

fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
    Area { x, y, width, height }
}

#[test]
fn the_display_is_what_the_host_wants() {
    let mut b = Bench::new(GpuLimits::default());
    let info = b.send(header(p::CMD_GET_DISPLAY_INFO), &[], 24 + 16 * 24);
    assert_eq!(code(&info), p::RESP_OK_DISPLAY_INFO);
    assert_eq!(info.data.len(), 24 + 16 * 24);
    assert!(info.data[24..].iter().all(|b| *b == 0), "it is off");
    let none = b.send(header(p::CMD_GET_EDID), &[&words(&[0, 0])], 24 + 8 + 1024);
    assert_eq!(code(&none), p::RESP_ERR_UNSPEC);
    assert!(!b.gpu.config_changed());
    b.screen.set_display(Some((1280, 800)));
    b.driver.drive(&mut b.gpu, Wake::HostSource).unwrap();
    assert!(b.gpu.config_changed() && !b.gpu.config_changed());
    assert_eq!(b.gpu.config()[..4], [1, 0, 0, 0], "VIRTIO_GPU_EVENT_DISPLAY");
    b.gpu.write_config(4, &[1, 0, 0, 0]);
    b.gpu.write_config(usize::MAX, &[1; 8]);
    assert_eq!(b.gpu.config()[..4], [0; 4]);
    let info = b.send(header(p::CMD_GET_DISPLAY_INFO), &[], 24 + 16 * 24);
    assert_eq!(info.data[24..48], words(&[0, 0, 1280, 800, 1, 0]));
    assert!(info.data[48..].iter().all(|b| *b == 0));
    let edid = b.send(header(p::CMD_GET_EDID), &[&words(&[0, 0])], 24 + 8 + 1024);
    assert_eq!(code(&edid), p::RESP_OK_EDID);
    assert_eq!(edid.data[24..28], 128_u32.to_le_bytes());
    assert_eq!(edid.data[32..40], [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let other = b.send(header(p::CMD_GET_EDID), &[&words(&[1, 0])], 24 + 8 + 1024);
    assert_eq!(code(&other), p::RESP_ERR_INVALID_SCANOUT_ID);
}

#[test]
fn a_scanout_is_told_with_what_is_drawn_in_it() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 8, 6);
    b.attach(1, &[(0x4000, 8 * 6 * 4)]);
    b.log.take();
    assert_eq!(b.scanout([2, 1, 4, 3], 0, 1), p::RESP_OK_NODATA);
    let shown = Scanout { id: 1, generation: 1, stride: 32, area: area(2, 1, 4, 3) };
    assert_eq!(b.log.take(), [Seen::Scanout(Some(shown))]);
    for (flushed, seen) in [
        ([0, 0, 8, 6, 1, 0], Some(area(0, 0, 4, 3))),
        ([3, 2, 1, 1, 1, 0], Some(area(1, 1, 1, 1))),
        ([4, 3, 4, 3, 1, 0], Some(area(2, 2, 2, 1))),
        ([6, 0, 2, 6, 1, 0], None),
        ([0, 0, 0, 0, 1, 0], None),
    ] {
        assert_eq!(b.flush(flushed), p::RESP_OK_NODATA);
        assert_eq!(b.log.take(), seen.map(Seen::Flushed).into_iter().collect::<Vec<_>>());
    }
    // Pages that go and come.
    b.command(p::CMD_RESOURCE_DETACH_BACKING, &[&words(&[1, 0])]);
    assert_eq!(b.log.take(), [Seen::Scanout(None), Seen::Gone(1, 1)]);
    b.attach(1, &[(0x5000, 8 * 6 * 4)]);
    let again = Scanout { generation: 2, ..shown };
    assert_eq!(b.log.take()[1..], [Seen::Scanout(Some(again))]);
    assert_eq!(b.scanout([0; 4], 0, 0), p::RESP_OK_NODATA);
    assert_eq!(b.log.take(), [Seen::Scanout(None)]);
    b.flush([0, 0, 8, 6, 1, 0]);
    assert_eq!(b.log.take(), []);
    // The resource on the screen goes; what is drawn later into one of that id is not on the screen.
    b.scanout([0, 0, 8, 6], 0, 1);
    b.log.take();
    b.command(p::CMD_RESOURCE_UNREF, &[&words(&[1, 0])]);
    assert_eq!(b.log.take(), [Seen::Scanout(None), Seen::Gone(1, 2)]);
    b.create(1, 8, 6);
    b.attach(1, &[(0x4000, 8 * 6 * 4)]);
    assert_eq!(b.log.take().len(), 1);
}

#[test]
fn scanouts_that_cannot_be_are_refused() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 8, 6);
    assert_eq!(b.scanout([0, 0, 8, 6], 1, 1), p::RESP_ERR_INVALID_SCANOUT_ID);
    assert_eq!(b.scanout([0, 0, 8, 6], 0, 2), p::RESP_ERR_INVALID_RESOURCE_ID);
    for bad in [[0, 0, 9, 6], [1, 0, 8, 6], [0, 0, 0, 6], [0, 0, 8, 0], [u32::MAX, 0, 2, 1], [8, 6, 1, 1]] {
        assert_eq!(b.scanout(bad, 0, 1), p::RESP_ERR_INVALID_PARAMETER, "{bad:?}");
    }
    // Red before blue.
    assert_eq!(b.command(p::CMD_RESOURCE_CREATE_2D, &[&words(&[2, 67, 8, 6])]), p::RESP_OK_NODATA);
    assert_eq!(b.scanout([0, 0, 8, 6], 0, 2), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(b.log.take(), []);
    for cmd in [0x0108, 0x0109, 0x0200, p::CMD_UPDATE_CURSOR, 0xffff_ffff] {
        assert_eq!(b.command(cmd, &[&[0; 32]]), p::RESP_ERR_UNSPEC);
    }
}

#[test]
fn the_pointer_has_an_image_and_loses_it() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(3, 64, 64);
    b.attach(3, &[(0x4000, 64 * 64 * 4)]);
    b.log.take();
    b.cursor(p::CMD_UPDATE_CURSOR, 0, 3);
    let image = CursorImage { id: 3, generation: 1, width: 64, height: 64, hot_x: 1, hot_y: 2 };
    assert_eq!(b.log.take(), [Seen::Cursor(Some(image))]);
    b.cursor(p::CMD_MOVE_CURSOR, 0, 3);
    b.cursor(p::CMD_UPDATE_CURSOR, 1, 3);
    b.cursor(p::CMD_UPDATE_CURSOR, 0, 4);
    b.cursor(0xffff, 0, 3);
    assert_eq!(b.log.take(), []);
    b.cursor(p::CMD_UPDATE_CURSOR, 0, 0);
    assert_eq!(b.log.take(), [Seen::Cursor(None)]);
    b.cursor(p::CMD_UPDATE_CURSOR, 0, 3);
    b.log.take();
    b.gpu.reset();
    assert_eq!(b.log.take(), [Seen::Cursor(None), Seen::Gone(3, 1)]);
    // Too short a command has no answer either.
    b.driver.submit(1, &[&[0, 3, 0, 0]], &[]);
    assert!(b.driver.drive(&mut b.gpu, Wake::Queue(1)).unwrap().notify.contains(1));
}

#[test]
fn the_screen_survives_as_json() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 8, 6);
    b.attach(1, &[(0x4000, 8 * 6 * 4)]);
    b.scanout([0, 0, 8, 6], 0, 1);
    b.create(2, 4, 4);
    b.attach(2, &[(0x5000, 64)]);
    b.cursor(p::CMD_UPDATE_CURSOR, 0, 2);
    let good = b.gpu.save();
    let mut other = Bench::new(GpuLimits::default());
    other.gpu.restore(good.clone(), &other.driver.mem).unwrap();
    let seen = other.log.take();
    let shown = |seen: &Seen| matches!(seen, Seen::Scanout(Some(s)) if s.area == area(0, 0, 8, 6));
    assert!(seen.iter().any(shown), "{seen:?}");
    assert!(seen.iter().any(|s| matches!(s, Seen::Cursor(Some(c)) if c.id == 2)), "{seen:?}");
    // What does not fit its resource is not shown.
    let mut wide = good;
    wide["scanout"][1]["width"] = u32::MAX.into();
    wide["cursor"]["id"] = 77.into();
    other.gpu.restore(wide, &other.driver.mem).unwrap();
    let seen = other.log.take();
    assert!(!seen.iter().any(|s| matches!(s, Seen::Scanout(Some(_)) | Seen::Cursor(Some(_)))), "{seen:?}");
}

#[test]
fn rectangles_are_checked() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 8, 4);
    let flush = |b: &mut Bench, v: [u32; 6]| b.command(p::CMD_RESOURCE_FLUSH, &[&words(&v)]);
    assert_eq!(flush(&mut b, [0, 0, 8, 4, 1, 0]), p::RESP_OK_NODATA);
    assert_eq!(flush(&mut b, [1, 0, 8, 4, 1, 0]), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(flush(&mut b, [0, u32::MAX, 8, 4, 1, 0]), p::RESP_ERR_INVALID_PARAMETER);
    assert_eq!(flush(&mut b, [0, 0, 8, 4, 2, 0]), p::RESP_ERR_INVALID_RESOURCE_ID);
    let transfer = words(&[4, 2, 4, 2, 0, 0, 1, 0]);
    assert_eq!(b.command(p::CMD_TRANSFER_TO_HOST_2D, &[&transfer]), p::RESP_OK_NODATA);
}

#[test]
fn a_fence_is_answered() {
    let mut b = Bench::new(GpuLimits::default());
    let mut cmd = header(p::CMD_RESOURCE_UNREF);
    cmd.flags = 1.into();
    cmd.fence_id = 0x1122_3344_5566.into();
    cmd.ctx_id = 5.into();
    let used = b.send(cmd, &[&words(&[3, 0])], 24);
    let mut reply = CtrlHdr::default();
    reply.as_mut_slice().copy_from_slice(&used.data);
    assert_eq!(reply.flags.to_native(), p::FLAG_FENCE);
    assert_eq!(reply.fence_id.to_native(), 0x1122_3344_5566);
    assert_eq!(reply.ctx_id.to_native(), 5);
}

#[test]
fn reset_ends_all_and_generations_go_on() {
    let mut b = Bench::new(GpuLimits::default());
    for id in 1..=3 {
        b.create(id, 4, 4);
        b.attach(id, &[(0x4000, 64)]);
    }
    b.log.take();
    b.gpu.reset();
    assert_eq!(b.log.take(), [Seen::Gone(1, 1), Seen::Gone(2, 2), Seen::Gone(3, 3)]);
    b.create(1, 4, 4);
    b.attach(1, &[(0x4000, 64)]);
    let seen = b.log.take();
    assert!(matches!(&seen[..], [Seen::Backed(info)] if info.generation == 4), "{seen:?}");
}

#[test]
fn state_survives_as_json() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 4, 4);
    b.attach(1, &[(0x4000, 64)]);
    b.create(2, 5, 5);
    let json = b.gpu.save().to_string();
    let mut other = Bench::new(GpuLimits::default());
    other.gpu.restore(serde_json::from_str(&json).unwrap(), &other.driver.mem).unwrap();
    let seen = other.log.take();
    assert!(matches!(&seen[..1], [Seen::Backed(i)] if i.id == 1 && i.generation == 2), "{seen:?}");
    assert_eq!(other.attach(2, &[(0x5000, 100)]), p::RESP_OK_NODATA);
    assert!(other.driver.mem.check_range(GuestAddress(0x5000), 100));
}

#[test]
fn states_that_are_none_are_refused() {
    let mut b = Bench::new(GpuLimits::default());
    b.create(1, 4, 4);
    b.attach(1, &[(0x4000, 64)]);
    let good = b.gpu.save();
    b.log.take();
    let mut late = good.clone();
    late["next_generation"] = u64::MAX.into();
    let mut longer = good.clone();
    longer["scanouts"] = 1.into();
    for garbage in [serde_json::Value::Null, serde_json::json!({ "resources": [] }), late, longer] {
        assert!(b.gpu.restore(garbage, &b.driver.mem).is_err());
    }
    assert_eq!(b.log.take(), [], "nothing changed");
    // Pages that this guest does not have.
    let mut far = good;
    far["resources"][0][1]["backing"]["runs"][0]["addr"] = (5_u64 << 20).into();
    b.gpu.restore(far, &b.driver.mem).unwrap();
    assert_eq!(b.log.take(), [Seen::Gone(1, 1), Seen::Scanout(None), Seen::Cursor(None)]);
}

#[test]
fn many_commands_at_once_and_the_cursor_queue() {
    let mut b = Bench::new(GpuLimits::default());
    let cmd = header(p::CMD_RESOURCE_CREATE_2D);
    for id in 1..=20 {
        b.driver.submit(0, &[cmd.as_slice(), &words(&[id, 2, 8, 8])], &[24]);
    }
    let outcome = b.driver.drive(&mut b.gpu, Wake::Queue(0)).unwrap();
    assert!(outcome.notify.contains(0));
    assert_eq!(b.driver.used(0).len(), 20);
    b.driver.submit(1, &[&[0; 56]], &[]);
    assert!(b.driver.drive(&mut b.gpu, Wake::Queue(1)).unwrap().notify.contains(1));
    assert_eq!(b.driver.used(1).len(), 1);
}

#[test]
fn broken_chains_stop_the_device() {
    let mut b = Bench::new(GpuLimits::default());
    b.driver.submit_raw(0, &[(5 << 20, 24, 0)]);
    let error = b.driver.drive(&mut b.gpu, Wake::Queue(0)).unwrap_err();
    assert!(matches!(error, DeviceError::Chain { queue: 0, .. }), "{error}");
    // No room for an answer.
    let mut b = Bench::new(GpuLimits::default());
    b.driver.submit(0, &[header(p::CMD_GET_DISPLAY_INFO).as_slice()], &[100]);
    assert!(b.driver.drive(&mut b.gpu, Wake::Queue(0)).is_err());
    // A readable buffer behind a writable one.
    let mut b = Bench::new(GpuLimits::default());
    b.driver.submit_raw(0, &[(0x10_0000, 24, 2), (0x10_1000, 24, 0)]);
    assert!(b.driver.drive(&mut b.gpu, Wake::Queue(0)).is_err());
}
