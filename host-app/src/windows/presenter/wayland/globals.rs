//! What the compositor offers.

use anyhow::Context;
use wayland_client::globals::{GlobalList, GlobalListContents};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_region::WlRegion;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::protocol::wl_shm::WlShm;
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::WpContentTypeManagerV1;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1::ZwpPointerConstraintsV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;
use wayland_protocols::xdg::activation::v1::client::xdg_activation_v1::XdgActivationV1;
use wayland_protocols::xdg::decoration::zv1::client::zxdg_decoration_manager_v1::ZxdgDecorationManagerV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_wm_dialog_v1::XdgWmDialogV1;
use wayland_protocols::xdg::shell::client::xdg_positioner::XdgPositioner;
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1;
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_v1::XdgToplevelIconV1;
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_manager_v1::ZxdgOutputManagerV1;

use super::State;
use super::decor::Frames;

/// The globals that are there once; those that are not needed may be missing.
#[derive(Debug)]
pub struct Globals {
    pub compositor: WlCompositor,
    pub wm_base: XdgWmBase,
    pub shm: WlShm,
    pub decoration: Option<ZxdgDecorationManagerV1>,
    pub fractional_scale: Option<WpFractionalScaleManagerV1>,
    pub viewporter: Option<WpViewporter>,
    pub cursor_shape: Option<WpCursorShapeManagerV1>,
    pub xdg_output: Option<ZxdgOutputManagerV1>,
    pub frames: Option<Frames>,
    pub activation: Option<XdgActivationV1>,
    pub icons: Option<XdgToplevelIconManagerV1>,
    pub idle_inhibit: Option<ZwpIdleInhibitManagerV1>,
    pub shortcuts: Option<ZwpKeyboardShortcutsInhibitManagerV1>,
    pub content_type: Option<WpContentTypeManagerV1>,
    pub dialog: Option<XdgWmDialogV1>,
    pub constraints: Option<ZwpPointerConstraintsV1>,
    pub relative_pointer: Option<ZwpRelativePointerManagerV1>,
    /// The first seat: the one that windows are used with.
    pub seat: Option<(u32, WlSeat)>,
}

impl Globals {
    /// Binds what is there.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn bind(list: &GlobalList, handle: &QueueHandle<State>) -> anyhow::Result<Self> {
        let lacks = "the Wayland desktop lacks";
        let shm = list.bind(handle, 1..=1, ()).with_context(|| format!("{lacks} wl_shm"))?;
        Ok(Self {
            frames: Frames::bind(list, handle, &shm),
            activation: list.bind(handle, 1..=1, ()).ok(),
            icons: list.bind(handle, 1..=1, ()).ok(),
            idle_inhibit: list.bind(handle, 1..=1, ()).ok(),
            shortcuts: list.bind(handle, 1..=1, ()).ok(),
            content_type: list.bind(handle, 1..=1, ()).ok(),
            dialog: list.bind(handle, 1..=1, ()).ok(),
            constraints: list.bind(handle, 1..=1, ()).ok(),
            relative_pointer: list.bind(handle, 1..=1, ()).ok(),
            compositor: list.bind(handle, 4..=6, ()).with_context(|| format!("{lacks} wl_compositor 4"))?,
            wm_base: list.bind(handle, 1..=6, ()).with_context(|| format!("{lacks} xdg_wm_base"))?,
            shm,
            decoration: list.bind(handle, 1..=1, ()).ok(),
            fractional_scale: list.bind(handle, 1..=1, ()).ok(),
            viewporter: list.bind(handle, 1..=1, ()).ok(),
            cursor_shape: list.bind(handle, 1..=1, ()).ok(),
            xdg_output: list.bind(handle, 1..=3, ()).ok(),
            seat: None,
        })
    }
}

impl State {
    /// A global of which there may be several.
    pub(super) fn appeared(&mut self, registry: &WlRegistry, name: u32, interface: &str, version: u32) {
        if interface == WlOutput::interface().name {
            let output = registry.bind::<WlOutput, _, _>(name, version.min(4), &self.handle, ());
            self.outputs.add(name, output, self.globals.xdg_output.as_ref(), &self.handle);
        } else if interface == WlSeat::interface().name && self.globals.seat.is_none() {
            let seat = registry.bind::<WlSeat, _, _>(name, version.min(8), &self.handle, ());
            self.selections.take_seat(&seat, &self.handle);
            self.globals.seat = Some((name, seat));
        }
    }

    fn vanished(&mut self, name: u32) {
        if self.outputs.remove(name) {
            self.tell_outputs();
        }
        if self.globals.seat.take_if(|(seat, _)| *seat == name).is_some() {
            self.drop_pointer();
            self.drop_keyboard();
            self.selections.drop_seat();
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global { name, interface, version } => {
                state.appeared(registry, name, &interface, version);
            }
            wl_registry::Event::GlobalRemove { name } => state.vanished(name),
            _ => {}
        }
    }
}

impl Dispatch<XdgWmBase, ()> for State {
    fn event(
        _: &mut Self,
        wm_base: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            wm_base.pong(serial);
        }
    }
}

impl Dispatch<WlSeat, ()> for State {
    fn event(
        state: &mut Self,
        seat: &WlSeat,
        event: wl_seat::Event,
        (): &(),
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        if let wl_seat::Event::Capabilities { capabilities: WEnum::Value(capabilities) } = event {
            let has = |what| capabilities.contains(what);
            if has(wl_seat::Capability::Pointer) {
                state.take_pointer(seat, handle);
            } else {
                state.drop_pointer();
            }
            if has(wl_seat::Capability::Keyboard) {
                state.keyboard.take(seat, handle);
            } else {
                state.drop_keyboard();
            }
        }
    }
}

delegate_noop!(State: WlCompositor);
delegate_noop!(State: WlRegion);
delegate_noop!(State: ignore WlShm);
delegate_noop!(State: XdgPositioner);
delegate_noop!(State: WpViewporter);
delegate_noop!(State: WpViewport);
delegate_noop!(State: WpFractionalScaleManagerV1);
delegate_noop!(State: WpCursorShapeManagerV1);
delegate_noop!(State: ZxdgDecorationManagerV1);
delegate_noop!(State: ZxdgOutputManagerV1);
delegate_noop!(State: XdgActivationV1);
// The sizes that it likes: the guest's are what there is.
delegate_noop!(State: ignore XdgToplevelIconManagerV1);
delegate_noop!(State: XdgToplevelIconV1);
delegate_noop!(State: ZwpPointerConstraintsV1);
delegate_noop!(State: ZwpRelativePointerManagerV1);
