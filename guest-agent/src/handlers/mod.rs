//! What apps say in Wayland, one file per protocol. Window path, hop 1 of 6 begins in [`compositor`].

pub mod activation;
pub mod compositor;
pub mod content_type;
pub mod decoration;
pub mod dialog;
pub mod idle_inhibit;
pub mod output;
pub mod positioner;
pub mod presentation;
pub mod seat;
pub mod selection;
pub mod shm;
pub mod shortcuts;
pub mod toplevel_icon;
pub mod viewporter;
pub mod xdg_rules;
pub mod xdg_shell;

use std::collections::HashMap;

use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_wm_base::XdgWmBase;
use smithay::reexports::wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use smithay::reexports::wayland_server::{Client, DisplayHandle};
use smithay::wayland::compositor::{CompositorClientState, CompositorState};
use smithay::wayland::content_type::ContentTypeState;
use smithay::wayland::cursor_shape::CursorShapeManagerState;
use smithay::wayland::fractional_scale::FractionalScaleManagerState;
use smithay::wayland::idle_inhibit::IdleInhibitManagerState;
use smithay::wayland::keyboard_shortcuts_inhibit::KeyboardShortcutsInhibitState;
use smithay::wayland::output::OutputManagerState;
use smithay::wayland::pointer_constraints::PointerConstraintsState;
use smithay::wayland::presentation::PresentationState;
use smithay::wayland::relative_pointer::RelativePointerManagerState;
use smithay::wayland::selection::data_device::DataDeviceState;
use smithay::wayland::selection::ext_data_control::DataControlState as ExtDataControlState;
use smithay::wayland::selection::primary_selection::PrimarySelectionState;
use smithay::wayland::selection::wlr_data_control::DataControlState as WlrDataControlState;
use smithay::wayland::shell::xdg::XdgShellState;
use smithay::wayland::shell::xdg::decoration::XdgDecorationState;
use smithay::wayland::shell::xdg::dialog::XdgDialogState;
use smithay::wayland::shm::ShmState;
use smithay::wayland::single_pixel_buffer::SinglePixelBufferState;
use smithay::wayland::viewporter::ViewporterState;
use smithay::wayland::xdg_activation::XdgActivationState;

use crate::agent::Agent;

/// The globals that apps see, each with smithay's state for it.
pub struct Protocols {
    /// `wl_compositor`, `wl_subcompositor`.
    pub compositor: CompositorState,
    /// `wl_shm`.
    pub shm: ShmState,
    /// `xdg_wm_base`.
    pub xdg_shell: XdgShellState,
    /// An object that each app bound to it.
    pub wm_bases: HashMap<ClientId, XdgWmBase>,
    /// `wl_data_device_manager`.
    pub data_device: DataDeviceState,
    /// `zwp_primary_selection_device_manager_v1`.
    pub primary_selection: PrimarySelectionState,
    /// `ext_data_control_manager_v1`.
    pub ext_data_control: ExtDataControlState,
    /// `zwlr_data_control_manager_v1`.
    pub wlr_data_control: WlrDataControlState,
    /// `xdg_activation_v1`.
    pub activation: XdgActivationState,
    /// `zwp_keyboard_shortcuts_inhibit_manager_v1`.
    pub shortcuts: KeyboardShortcutsInhibitState,
    _content_type: ContentTypeState,
    _dialog: XdgDialogState,
    _presentation: PresentationState,
    _single_pixel: SinglePixelBufferState,
    _idle_inhibit: IdleInhibitManagerState,
    _constraints: PointerConstraintsState,
    _relative_pointer: RelativePointerManagerState,
    _decoration: XdgDecorationState,
    _viewporter: ViewporterState,
    _cursor_shape: CursorShapeManagerState,
    _fractional_scale: FractionalScaleManagerState,
    _output: OutputManagerState,
}

impl Protocols {
    /// Offers all protocols.
    #[must_use]
    pub fn new(display: &DisplayHandle) -> Self {
        toplevel_icon::offer(display);
        let primary_selection = PrimarySelectionState::new::<Agent>(display);
        Self {
            compositor: CompositorState::new_v6::<Agent>(display),
            shm: ShmState::new::<Agent>(display, []),
            xdg_shell: XdgShellState::new::<Agent>(display),
            wm_bases: HashMap::new(),
            data_device: DataDeviceState::new::<Agent>(display),
            ext_data_control: ExtDataControlState::new::<Agent, _>(
                display,
                Some(&primary_selection),
                is_no_x11,
            ),
            wlr_data_control: WlrDataControlState::new::<Agent, _>(
                display,
                Some(&primary_selection),
                is_no_x11,
            ),
            primary_selection,
            activation: XdgActivationState::new::<Agent>(display),
            shortcuts: KeyboardShortcutsInhibitState::new::<Agent>(display),
            _content_type: ContentTypeState::new::<Agent>(display),
            _dialog: XdgDialogState::new::<Agent>(display),
            _presentation: PresentationState::new::<Agent>(display, presentation::CLOCK),
            _single_pixel: SinglePixelBufferState::new::<Agent>(display),
            _idle_inhibit: IdleInhibitManagerState::new::<Agent>(display),
            _constraints: PointerConstraintsState::new::<Agent>(display),
            _relative_pointer: RelativePointerManagerState::new::<Agent>(display),
            _decoration: XdgDecorationState::new::<Agent>(display),
            _viewporter: ViewporterState::new::<Agent>(display),
            _cursor_shape: CursorShapeManagerState::new::<Agent>(display),
            _fractional_scale: FractionalScaleManagerState::new::<Agent>(display),
            _output: OutputManagerState::new_with_xdg_output::<Agent>(display),
        }
    }
}

/// Whether an app is one of Wayland: X11's have selections of their own.
fn is_no_x11(client: &Client) -> bool {
    client.get_data::<AppState>().is_some_and(|app| !app.xwayland)
}

/// What smithay keeps for each app.
#[derive(Debug, Default)]
pub struct AppState {
    /// Its `wl_compositor` state.
    pub compositor: CompositorClientState,
    /// Whether it is Xwayland.
    pub xwayland: bool,
}

impl ClientData for AppState {
    fn initialized(&self, _: ClientId) {}

    fn disconnected(&self, client: ClientId, reason: DisconnectReason) {
        match reason {
            DisconnectReason::ConnectionClosed => tracing::debug!(?client, "an app is gone"),
            DisconnectReason::ProtocolError(error) => {
                tracing::warn!(?client, %error, "an app broke the Wayland protocol");
            }
        }
    }
}
