//! Hard limits of every message. A peer that passes one is disconnected with an error that names it.

/// Bytes of one message on the control, display and stream channels.
pub const MESSAGE: usize = 512 * 1024;
/// Bytes of one message on the memory channel (page lists of large buffers).
pub const MEMORY_MESSAGE: usize = 8 * 1024 * 1024;
/// Bytes that may wait to be written to a peer before it counts as stuck.
pub const OUTBOX: usize = 16 * 1024 * 1024;
/// File descriptors that may wait to be claimed by messages.
pub const PENDING_FDS: usize = 64;

/// Width and height of a buffer or surface, in pixels.
pub const DIMENSION: u32 = 16_384;
/// Coordinates and distances, in logical pixels, either sign.
pub const COORDINATE: i32 = 1 << 20;
/// Bytes of one buffer (two 16384 x 16384 ones could not be addressed by 32-bit upload offsets anyway).
pub const BUFFER_BYTES: u64 = 1 << 30;
/// Surfaces alive on one display connection.
pub const SURFACES: usize = 4096;
/// Buffers alive on one display connection.
pub const BUFFERS: usize = 8192;
/// Commits in one transaction.
pub const COMMITS: usize = 512;
/// Damage rectangles in one commit; a sender with more sends their bounding box.
pub const DAMAGE_RECTS: usize = 64;
/// Rectangles of an input or opaque region; a sender with more sends their bounding box.
pub const REGION_RECTS: usize = 64;
/// Subsurfaces directly below one surface.
pub const CHILDREN: usize = 256;
/// Depth of a surface tree.
pub const TREE_DEPTH: usize = 16;
/// Bytes of a title or application id.
pub const TITLE: usize = 4096;
/// Width and height of an icon, in pixels.
pub const ICON: u32 = 128;
/// Icons of one toplevel.
pub const ICONS: usize = 4;
/// Rectangles of a window's shape; a sender with more sends the whole window.
pub const SHAPE_RECTS: usize = 8192;
/// Bytes of an XKB keymap in text form.
pub const KEYMAP: usize = 256 * 1024;
/// Keys held at once.
pub const KEYS: usize = 256;
/// Outputs of the host.
pub const OUTPUTS: usize = 16;
/// Arguments or environment entries of a program.
pub const ARGUMENTS: usize = 4096;
/// Bytes of all arguments and environment entries of a program together.
pub const ARGUMENT_BYTES: usize = 256 * 1024;
/// Bytes of one chunk of a stream.
pub const CHUNK: usize = 64 * 1024;
/// Types in one offer of a selection.
pub const TYPES: usize = 128;
/// Bytes of the name of a type.
pub const TYPE: usize = 256;
/// Transfers of selections at once, each way.
pub const TRANSFERS: usize = 32;
/// Page runs of one resource.
pub const PAGE_RUNS: usize = 300_000;
/// Apps of a guest that are listed.
pub const APPS: usize = 2048;
/// Categories, types and classes of one app together.
pub const APP_WORDS: usize = 1024;
/// Further things that one app does.
pub const APP_ACTIONS: usize = 32;
/// Bytes of one icon file of an app.
pub const APP_ICON: usize = 96 * 1024;
/// Bytes of a link that the host opens.
pub const LINK: usize = 8192;
/// Bytes of the name of a time zone.
pub const TIME_ZONE: usize = 64;
/// Questions for the time that the host answers after it had the guest look at its clock.
pub const TIMES: u32 = 8;
/// Bytes of a path, with the NUL at its end (`PATH_MAX`).
pub const PATH: usize = 4096;
/// Paths in one message about what is copied out of the guest.
pub const COPY_PATHS: usize = 1024;
/// Bytes of these paths together.
pub const COPY_PATHS_BYTES: usize = 256 * 1024;
/// Files and folders that are chosen at once to be copied out of the guest.
pub const COPY_CHOSEN: usize = 20_000;
/// Folders in each other, of what is copied out of the guest.
pub const COPY_DEPTH: usize = 128;
