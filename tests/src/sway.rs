//! sway without a screen.

use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whom it runs as where this is root: it refuses to run as that.
const NOBODY: u32 = 65534;

/// Headless sway with so many outputs, named `HEADLESS-1` and so on; its sockets are in `runtime`, which becomes its own.
///
/// # Errors
/// The files cannot be given to whom it runs as.
pub fn command(runtime: &Path, config: &Path, outputs: usize) -> io::Result<Command> {
    let mut command = Command::new("sway");
    if rustix::process::getuid().is_root() {
        for path in [runtime, config] {
            chown(path, Some(NOBODY), Some(NOBODY))?;
        }
        let id = NOBODY.to_string();
        command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sway"]);
    }
    command.arg("--config").arg(config).env("XDG_RUNTIME_DIR", runtime).env("HOME", runtime);
    command.env("WLR_BACKENDS", "headless").env("WLR_HEADLESS_OUTPUTS", outputs.to_string());
    command.env("WLR_RENDERER", "pixman").env("WLR_LIBINPUT_NO_DEVICES", "1");
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}
