//! Monitors: `wl_output`, with their place and scale from `zxdg_output_v1` where it is offered.

use inlay_protocol::display::Output;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::limits;
use wayland_client::backend::ObjectId;
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum};
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_manager_v1::ZxdgOutputManagerV1;
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_v1::{self, ZxdgOutputV1};

use super::{HostEvent, State};

/// A monitor, as it was told of so far.
#[derive(Debug)]
struct Monitor {
    name: u32,
    output: WlOutput,
    xdg: Option<ZxdgOutputV1>,
    title: String,
    at: Point,
    mode: Size,
    turned: bool,
    refresh: u32,
    scale: u32,
    logical: Option<Rect>,
}

/// All monitors.
#[derive(Debug, Default)]
pub struct Outputs {
    monitors: Vec<Monitor>,
    told: Vec<Output>,
}

impl Monitor {
    /// In the compositor's logical pixels; `None` until it was told of.
    fn described(&self) -> Option<Output> {
        let size = if self.turned { Size::new(self.mode.height, self.mode.width) } else { self.mode };
        if size.is_empty() {
            return None;
        }
        let scale = self.scale.max(1);
        let plain = Rect::new(self.at.x, self.at.y, size.width / scale, size.height / scale);
        let area = self.logical.filter(|l| !l.is_empty()).unwrap_or(plain);
        // Fractions show in the logical size only.
        let scale_120 = (120 * size.width + area.width / 2) / area.width.max(1);
        let sane = area.is_sane() && size.is_sane();
        let name = if self.title.is_empty() { format!("output-{}", self.name) } else { self.title.clone() };
        sane.then_some(Output {
            name: name.chars().take(64).collect(),
            area,
            mode: size,
            refresh: self.refresh,
            scale_120: scale_120.clamp(30, 120 * 16),
        })
    }
}

impl Outputs {
    /// A monitor that was plugged in.
    pub fn add(
        &mut self,
        name: u32,
        output: WlOutput,
        manager: Option<&ZxdgOutputManagerV1>,
        handle: &QueueHandle<State>,
    ) {
        let xdg = manager.map(|manager| manager.get_xdg_output(&output, handle, output.id()));
        self.monitors.push(Monitor {
            name,
            output,
            xdg,
            title: String::new(),
            at: Point::default(),
            mode: Size::default(),
            turned: false,
            refresh: 60_000,
            scale: 1,
            logical: None,
        });
    }

    /// One that was unplugged; whether there was such a one.
    pub fn remove(&mut self, name: u32) -> bool {
        let Some(at) = self.monitors.iter().position(|m| m.name == name) else { return false };
        let gone = self.monitors.remove(at);
        if let Some(xdg) = gone.xdg {
            xdg.destroy();
        }
        if gone.output.version() >= 3 {
            gone.output.release();
        }
        true
    }

    /// As they were last told, at least one.
    pub fn told(&self) -> &[Output] {
        &self.told
    }

    /// These, as places in what was told.
    pub fn places(&self, entered: &[ObjectId]) -> Vec<u8> {
        let known = self.monitors.iter().filter(|m| m.described().is_some());
        let inside = known.enumerate().filter(|(_, m)| entered.contains(&m.output.id()));
        inside.filter_map(|(at, _)| u8::try_from(at).ok().filter(|_| at < self.told.len())).collect()
    }

    /// The largest scale of a monitor, in 120ths.
    pub fn largest_scale(&self) -> Option<u32> {
        self.told.iter().map(|output| output.scale_120).max()
    }

    /// The whole scale of the largest of these.
    pub fn scale(&self, entered: &[ObjectId]) -> Option<u32> {
        self.monitors.iter().filter(|m| entered.contains(&m.output.id())).map(|m| m.scale.max(1)).max()
    }

    fn get(&mut self, id: &ObjectId) -> Option<&mut Monitor> {
        self.monitors.iter_mut().find(|m| m.output.id() == *id)
    }
}

impl State {
    /// Notes the monitors as they are now, and tells when they are others than before.
    pub(super) fn tell_outputs(&mut self) {
        let mut now: Vec<Output> = self.outputs.monitors.iter().filter_map(Monitor::described).collect();
        now.truncate(limits::OUTPUTS);
        if now.is_empty() {
            // None is plugged in just now: windows keep what they had.
            now = std::mem::take(&mut self.outputs.told);
        }
        if now.is_empty() {
            let area = Rect::new(0, 0, 1920, 1080);
            let (name, mode) = ("none".to_owned(), area.size());
            now = vec![Output { name, area, mode, refresh: 60_000, scale_120: 120 }];
        }
        if now != self.outputs.told {
            self.outputs.told = now;
            self.events.push(HostEvent::Outputs);
            self.rescale_all();
        }
    }
}

impl Dispatch<WlOutput, ()> for State {
    fn event(
        state: &mut Self,
        output: &WlOutput,
        event: wl_output::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(monitor) = state.outputs.get(&output.id()) else { return };
        let side = |v: i32| u32::try_from(v).unwrap_or(0);
        match event {
            wl_output::Event::Geometry { x, y, transform, .. } => {
                monitor.at = Point::new(x, y);
                // By a quarter or three (the odd numbers).
                monitor.turned = matches!(transform, WEnum::Value(t) if u32::from(t) % 2 == 1);
            }
            wl_output::Event::Mode { flags: WEnum::Value(flags), width, height, refresh }
                if flags.contains(wl_output::Mode::Current) =>
            {
                monitor.mode = Size::new(side(width), side(height));
                monitor.refresh = if refresh > 0 { side(refresh) } else { 60_000 };
            }
            wl_output::Event::Scale { factor } => monitor.scale = side(factor),
            wl_output::Event::Name { name } => monitor.title = name,
            wl_output::Event::Done => state.tell_outputs(),
            _ => {}
        }
    }
}

impl Dispatch<ZxdgOutputV1, ObjectId> for State {
    fn event(
        state: &mut Self,
        _: &ZxdgOutputV1,
        event: zxdg_output_v1::Event,
        output: &ObjectId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(monitor) = state.outputs.get(output) else { return };
        let logical = monitor.logical.get_or_insert_default();
        match event {
            zxdg_output_v1::Event::LogicalPosition { x, y } => (logical.x, logical.y) = (x, y),
            zxdg_output_v1::Event::LogicalSize { width, height } => {
                logical.width = u32::try_from(width).unwrap_or(0);
                logical.height = u32::try_from(height).unwrap_or(0);
            }
            zxdg_output_v1::Event::Name { name } if monitor.title.is_empty() => monitor.title = name,
            // Before version 3; later wl_output says so.
            zxdg_output_v1::Event::Done => state.tell_outputs(),
            _ => {}
        }
    }
}
