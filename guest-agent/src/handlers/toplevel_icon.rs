//! `xdg_toplevel_icon_manager_v1`: pictures that apps give their toplevels. Pixels are copied when the app adds them, which it must not
//! change afterwards. Names of icons are not followed: they mean files of the guest's theme.

use std::sync::{Arc, Mutex, PoisonError};

use inlay_protocol::display::{Format, Icon};
use inlay_protocol::limits;
use smithay::reexports::wayland_protocols::xdg::toplevel_icon::v1::server::xdg_toplevel_icon_manager_v1::{
    self, XdgToplevelIconManagerV1,
};
use smithay::reexports::wayland_protocols::xdg::toplevel_icon::v1::server::xdg_toplevel_icon_v1::{
    self, XdgToplevelIconV1,
};
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource as _,
};

use smithay::wayland::shm::with_buffer_contents;

use crate::agent::Agent;
use crate::export::copy;
use crate::surface::id_of;
use crate::windows;

/// Pictures of one icon that are kept; the host is told the best of them.
const PICTURES: usize = 16;
/// Sizes that apps are told to bring, in logical pixels.
const SIZES: [i32; 4] = [16, 32, 48, 128];

/// What an app put into an icon.
#[derive(Debug, Default)]
pub struct Content {
    /// Set when a toplevel has it: it stays as it is from then on.
    fixed: bool,
    /// The pixels, and the buffers that they are from: as long as the icon, those must not go.
    pictures: Vec<(WlBuffer, i32, Icon)>,
}

/// The data of an icon's object.
type Shared = Arc<Mutex<Content>>;

fn locked(content: &Shared) -> std::sync::MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offers the protocol.
pub fn offer(display: &DisplayHandle) {
    display.create_global::<Agent, XdgToplevelIconManagerV1, ()>(1, ());
}

impl GlobalDispatch<XdgToplevelIconManagerV1, ()> for Agent {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        manager: New<XdgToplevelIconManagerV1>,
        (): &(),
        data: &mut DataInit<'_, Self>,
    ) {
        let manager = data.init(manager, ());
        SIZES.into_iter().for_each(|size| manager.icon_size(size));
        manager.done();
    }
}

impl Dispatch<XdgToplevelIconManagerV1, ()> for Agent {
    fn request(
        agent: &mut Self,
        _: &Client,
        _: &XdgToplevelIconManagerV1,
        request: xdg_toplevel_icon_manager_v1::Request,
        (): &(),
        _: &DisplayHandle,
        data: &mut DataInit<'_, Self>,
    ) {
        match request {
            xdg_toplevel_icon_manager_v1::Request::CreateIcon { id } => {
                data.init(id, Shared::default());
            }
            xdg_toplevel_icon_manager_v1::Request::SetIcon { toplevel, icon } => {
                let mut icons = Vec::new();
                if let Some(icon) = icon
                    && let Some(content) = icon.data::<Shared>()
                {
                    let mut content = locked(content);
                    if content.pictures.iter().any(|(buffer, ..)| !buffer.is_alive()) {
                        icon.post_error(
                            xdg_toplevel_icon_v1::Error::NoBuffer,
                            "a buffer of the icon is gone before the icon",
                        );
                        return;
                    }
                    content.fixed = true;
                    icons = content.pictures.iter().map(|(.., icon)| icon.clone()).collect();
                }
                let window = agent.windows.toplevels.iter_mut();
                let window = window.map(|(_, window)| window).find(|w| *w.handle.xdg_toplevel() == toplevel);
                if let Some(window) = window {
                    window.icons = Arc::new(windows::choose_icons(icons));
                    let id = id_of(window.handle.wl_surface());
                    id.into_iter().for_each(|id| agent.windows.mark(id));
                }
            }
            _ => {}
        }
    }
}

impl Dispatch<XdgToplevelIconV1, Shared> for Agent {
    fn request(
        _: &mut Self,
        _: &Client,
        icon: &XdgToplevelIconV1,
        request: xdg_toplevel_icon_v1::Request,
        content: &Shared,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        use xdg_toplevel_icon_v1::{Error, Request};
        let mut content = locked(content);
        if content.fixed && matches!(request, Request::SetName { .. } | Request::AddBuffer { .. }) {
            icon.post_error(Error::Immutable, "the icon is a toplevel's already");
            return;
        }
        let Request::AddBuffer { buffer, scale } = request else { return };
        let in_memory = with_buffer_contents(&buffer, |_, _, _| ()).is_ok();
        let Some(layout) = copy::layout(&buffer).ok().filter(|_| in_memory) else {
            icon.post_error(Error::InvalidBuffer, "no wl_shm buffer of a known format");
            return;
        };
        if layout.size.width != layout.size.height {
            icon.post_error(Error::InvalidBuffer, "the buffer is not square");
            return;
        }
        // Larger ones are more than a host shows.
        if layout.size.width > limits::ICON || content.pictures.len() >= PICTURES {
            return;
        }
        let Ok(mut pixels) = copy::pixels(&buffer, layout) else {
            icon.post_error(Error::InvalidBuffer, "the buffer cannot be read");
            return;
        };
        if layout.format == Format::Xrgb8888 {
            pixels.iter_mut().skip(3).step_by(4).for_each(|alpha| *alpha = 255);
        }
        content.pictures.retain(|(_, s, known)| (*s, known.size) != (scale, layout.size));
        content.pictures.push((buffer, scale, Icon { size: layout.size, pixels }));
    }
}
