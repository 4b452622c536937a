//! Monitors by RandR 1.5, and the display's scale.

use inlay_protocol::display::Output;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use x11rb::protocol::randr::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::resource_manager;
use x11rb::xcb_ffi::XCBConnection;

/// mHz, where the display does not say (virtual displays).
const REFRESH: u32 = 60_000;

/// Pixels an inch that mean a scale of 1.
const DPI: f64 = 96.0;
/// Scales are multiples of a quarter, up to this many.
const MOST_QUARTERS: f64 = 16.0;

/// Asks for notice of changes; those of resources come as properties of the root window.
pub fn watch(connection: &XCBConnection, root: xproto::Window) -> anyhow::Result<()> {
    let _ = connection.randr_query_version(1, 5)?.reply()?;
    connection.randr_select_input(root, randr::NotifyMask::SCREEN_CHANGE)?;
    let aux = xproto::ChangeWindowAttributesAux::new().event_mask(xproto::EventMask::PROPERTY_CHANGE);
    connection.change_window_attributes(root, &aux)?;
    Ok(())
}

/// The scale that the user chose for the whole display, times 120: X11 knows none, but desktops say how many pixels an inch has
/// (the resource `Xft.dpi`).
fn scale(connection: &XCBConnection) -> u32 {
    let database = resource_manager::new_from_resource_manager(connection).ok().flatten();
    let dpi = database
        .and_then(|database| database.get_string("Xft.dpi", "").and_then(|dpi| dpi.trim().parse().ok()));
    scale_of(dpi.unwrap_or(DPI))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 4 and 16")]
fn scale_of(dpi: f64) -> u32 {
    let quarters = (4.0 * dpi / DPI).round();
    30 * if quarters >= 4.0 { quarters.min(MOST_QUARTERS) as u32 } else { 4 }
}

/// The monitors, at least one; areas are in pixels.
pub fn outputs(connection: &XCBConnection, root: xproto::Window) -> Vec<Output> {
    let mut outputs = monitors(connection, root).unwrap_or_default();
    let scale_120 = scale(connection);
    outputs.truncate(limits::OUTPUTS);
    if outputs.is_empty() {
        let size = connection.get_geometry(root).ok().and_then(|c| c.reply().ok());
        let area =
            size.map_or(Rect::new(0, 0, 1024, 768), |g| Rect::new(0, 0, g.width.into(), g.height.into()));
        let (mode, name) = (area.size(), "screen".to_owned());
        outputs.push(Output { name, area, mode, refresh: REFRESH, scale_120 });
    }
    outputs.iter_mut().for_each(|output| output.scale_120 = scale_120);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_an_inch_are_scales_in_quarters() {
        let scales = [96.0, 90.0, 100.0, 120.0, 140.0, 144.0, 192.0, 1e9, 0.0, -5.0, f64::NAN].map(scale_of);
        assert_eq!(scales, [120, 120, 120, 150, 180, 180, 240, 480, 120, 120, 120]);
    }
}
