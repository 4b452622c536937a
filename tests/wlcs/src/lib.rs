//! The module by which the Wayland Conformance Test Suite (wlcs) drives the agent: the agent's own program as the compositor, and in
//! the place of the window process a [`desktop::Desktop`] without pixels.
//!
//! The agent's program is named by `INLAY_AGENT`. What is declared here is the interface of wlcs 1.5 (`display_server.h`,
//! `pointer.h`); it calls from one thread.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod desktop;
mod mend;

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::IntoRawFd as _;
use std::ptr::null_mut;
use std::sync::Arc;

use desktop::Desktop;

/// A protocol that the compositor has; wlcs leaves tests of others out.
#[repr(C)]
struct Extension {
    name: *const c_char,
    version: u32,
}

#[repr(C)]
struct Descriptor {
    version: u32,
    count: usize,
    extensions: *const Extension,
}

// SAFETY: what the pointers in them name is static and never written.
unsafe impl Sync for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Extension {}

const fn extension(name: &'static core::ffi::CStr, version: u32) -> Extension {
    Extension { name: name.as_ptr(), version }
}

static EXTENSIONS: [Extension; 9] = [
    extension(c"wl_compositor", 6),
    extension(c"wl_subcompositor", 1),
    extension(c"wl_shm", 1),
    extension(c"wl_seat", 9),
    extension(c"wl_output", 4),
    extension(c"wl_data_device_manager", 3),
    extension(c"xdg_wm_base", 6),
    extension(c"zwp_primary_selection_device_manager_v1", 1),
    extension(c"zwp_relative_pointer_manager_v1", 1),
];

static DESCRIPTOR: Descriptor =
    Descriptor { version: 1, count: EXTENSIONS.len(), extensions: EXTENSIONS.as_ptr() };

/// `WlcsDisplayServer`, version 2, and what is behind it.
#[repr(C)]
struct Server {
    version: u32,
    start: extern "C" fn(*mut Server),
    stop: extern "C" fn(*mut Server),
    create_client_socket: extern "C" fn(*mut Server) -> c_int,
    position_window_absolute: extern "C" fn(*mut Server, *mut c_void, *mut c_void, c_int, c_int),
    create_pointer: extern "C" fn(*mut Server) -> *mut Pointer,
    create_touch: extern "C" fn(*mut Server) -> *mut c_void,
    get_descriptor: extern "C" fn(*const Server) -> *const Descriptor,
    desktop: Arc<Desktop>,
}

/// `WlcsPointer`, version 1, and what is behind it.
#[repr(C)]
struct Pointer {
    version: u32,
    move_absolute: extern "C" fn(*mut Pointer, i32, i32),
    move_relative: extern "C" fn(*mut Pointer, i32, i32),
    button_up: extern "C" fn(*mut Pointer, c_int),
    button_down: extern "C" fn(*mut Pointer, c_int),
    destroy: extern "C" fn(*mut Pointer),
    desktop: Arc<Desktop>,
}

/// `WlcsServerIntegration`.
#[repr(C)]
struct Integration {
    version: u32,
    create_server: extern "C" fn(c_int, *const *const c_char) -> *mut Server,
    destroy_server: extern "C" fn(*mut Server),
}

/// What wlcs looks for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "wlcs names it so")]
static wlcs_server_integration: Integration = Integration { version: 1, create_server, destroy_server };

extern "C" fn create_server(_: c_int, _: *const *const c_char) -> *mut Server {
    mend::begin();
    Box::into_raw(Box::new(Server {
        version: 2,
        start,
        stop,
        create_client_socket,
        position_window_absolute,
        create_pointer,
        create_touch,
        get_descriptor,
        desktop: Desktop::start(),
    }))
}

extern "C" fn destroy_server(server: *mut Server) {
    // SAFETY: wlcs gives back what `create_server` gave it, once.
    drop(unsafe { Box::from_raw(server) });
}

/// The desktop of a server.
fn desktop(server: *mut Server) -> Arc<Desktop> {
    // SAFETY: wlcs calls with what `create_server` gave it, before it destroys it.
    Arc::clone(unsafe { &(*server).desktop })
}

// It runs since it was created.
extern "C" fn start(_: *mut Server) {}

extern "C" fn stop(server: *mut Server) {
    desktop(server).stop();
}

extern "C" fn create_client_socket(server: *mut Server) -> c_int {
    desktop(server).client().into_raw_fd()
}

extern "C" fn position_window_absolute(
    server: *mut Server,
    _client: *mut c_void,
    surface: *mut c_void,
    x: c_int,
    y: c_int,
) {
    if let Some(index) = mend::toplevel(surface) {
        desktop(server).place(index, x, y);
    }
}

extern "C" fn create_pointer(server: *mut Server) -> *mut Pointer {
    Box::into_raw(Box::new(Pointer {
        version: 1,
        move_absolute,
        move_relative,
        button_up,
        button_down,
        destroy,
        desktop: desktop(server),
    }))
}

// Touch screens do not reach guests.
extern "C" fn create_touch(_: *mut Server) -> *mut c_void {
    null_mut()
}

extern "C" fn get_descriptor(_: *const Server) -> *const Descriptor {
    &raw const DESCRIPTOR
}

/// The desktop of a pointer.
fn behind(pointer: *mut Pointer) -> Arc<Desktop> {
    // SAFETY: wlcs calls with what `create_pointer` gave it, before it destroys it.
    Arc::clone(unsafe { &(*pointer).desktop })
}

/// A number of `wl_fixed_t`.
fn fixed(value: i32) -> f64 {
    f64::from(value) / 256.0
}

extern "C" fn move_absolute(pointer: *mut Pointer, x: i32, y: i32) {
    behind(pointer).move_to(fixed(x), fixed(y));
}

extern "C" fn move_relative(pointer: *mut Pointer, dx: i32, dy: i32) {
    behind(pointer).move_by(fixed(dx), fixed(dy));
}

extern "C" fn button_up(pointer: *mut Pointer, button: c_int) {
    behind(pointer).button(button.cast_unsigned(), false);
}

extern "C" fn button_down(pointer: *mut Pointer, button: c_int) {
    behind(pointer).button(button.cast_unsigned(), true);
}

extern "C" fn destroy(pointer: *mut Pointer) {
    // SAFETY: wlcs gives back what `create_pointer` gave it, once.
    drop(unsafe { Box::from_raw(pointer) });
}
