//! Monitors by RandR 1.5.

use inlay_protocol::display::Output;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::xcb_ffi::XCBConnection;

/// mHz, where the display does not say (virtual displays).
const REFRESH: u32 = 60_000;

/// Asks for notice of changes.
pub fn watch(connection: &XCBConnection, root: xproto::Window) -> anyhow::Result<()> {
    let _ = connection.randr_query_version(1, 5)?.reply()?;
    connection.randr_select_input(root, randr::NotifyMask::SCREEN_CHANGE)?;
    Ok(())
}

/// The monitors, at least one.
pub fn outputs(connection: &XCBConnection, root: xproto::Window) -> Vec<Output> {
    let mut outputs = monitors(connection, root).unwrap_or_default();
    outputs.truncate(limits::OUTPUTS);
    if outputs.is_empty() {
        let size = connection.get_geometry(root).ok().and_then(|c| c.reply().ok());
        let area =
            size.map_or(Rect::new(0, 0, 1024, 768), |g| Rect::new(0, 0, g.width.into(), g.height.into()));
        let (mode, name) = (area.size(), "screen".to_owned());
        outputs.push(Output { name, area, mode, refresh: REFRESH, scale_120: 120 });
    }
    outputs
}

fn monitors(
    connection: &XCBConnection,
    root: xproto::Window,
) -> Result<Vec<Output>, x11rb::errors::ReplyError> {
    let monitors = connection.randr_get_monitors(root, true)?.reply()?.monitors;
    let resources = connection.randr_get_screen_resources_current(root)?.reply()?;
    let mut outputs = Vec::new();
    for monitor in monitors {
        let name = connection.get_atom_name(monitor.name)?.reply()?.name;
        let area = Rect::new(monitor.x.into(), monitor.y.into(), monitor.width.into(), monitor.height.into());
        let refresh = monitor.outputs.first().and_then(|output| {
            let info = connection.randr_get_output_info(*output, 0).ok()?.reply().ok()?;
            let crtc = connection.randr_get_crtc_info(info.crtc, 0).ok()?.reply().ok()?;
            let mode = resources.modes.iter().find(|m| m.id == crtc.mode)?;
            let pixels = u64::from(mode.htotal) * u64::from(mode.vtotal);
            let rate = (u64::from(mode.dot_clock) * 1000).checked_div(pixels)?;
            u32::try_from(rate).ok().filter(|r| (10_000..=1_000_000).contains(r))
        });
        outputs.push(Output {
            name: String::from_utf8_lossy(&name).chars().take(64).collect(),
            area,
            mode: Size::new(area.width, area.height),
            refresh: refresh.unwrap_or(REFRESH),
            scale_120: 120,
        });
    }
    Ok(outputs)
}
