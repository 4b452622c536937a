//! Mends two faults in QEMU's emulation of AMD's nested virtualisation, for the nested machine of the tests. QEMU loads this library
//! (`LD_PRELOAD`); nothing of Inlay itself does. Both were seen in 10.0.2, and are in the source after it; each broke a guest or
//! the nested machine once in some minutes. Every address here is one that QEMU exports.
//!
//! `helper_vmrun` hands an injected interrupt to the guest at once, but leaves its vector in `exception_index`. When another
//! thread then asks the processor to leave its loop, and the processor notices before anything else has reset the index, the vector
//! is delivered once more, though the guest's interrupts may be off. The other kinds of injected events end in `cpu_loop_exit`,
//! and so does this one now: the call of `do_interrupt_x86_hardirq` is redirected to [`deliver`].
//!
//! Whenever a processor restores its floating-point state, `cpu_clear_ignne` clears a bit in the *first* processor's `hflags2`, by
//! reading and writing the word while that processor may change it: it can be out of guest mode with nested paging still on, so
//! that its next instruction faults. The bit is of use to MS-DOS only, so that function does nothing now.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

/// `do_interrupt_x86_hardirq` and `cpu_loop_exit_noexc`.
static DELIVER: AtomicUsize = AtomicUsize::new(0);
static EXIT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where this thread's `current_cpu` is.
    static CURRENT: Cell<*const *mut c_void> = const { Cell::new(std::ptr::null()) };
}

/// An operand of 32 bits after the call's one byte.
const CALL: u8 = 0xe8;
const CALL_LENGTH: usize = 5;
const RETURN: u8 = 0xc3;
const PAGE: usize = 4096;

// SAFETY: the loader calls what lies in this section, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    if let Err(error) = mend() {
        eprintln!("QEMU's faults stay: {error}");
    }
}

/// Gives an injected interrupt to the guest, and ends this turn of the processor's loop.
///
/// # Safety
/// Called in the place of `do_interrupt_x86_hardirq`, by a thread of a processor.
unsafe extern "C" fn deliver(env: *mut c_void, vector: c_int, is_hardware: c_int) {
    // SAFETY: the addresses of functions with these arguments (QEMU's target/i386/tcg and accel/tcg).
    unsafe {
        let deliver: unsafe extern "C" fn(*mut c_void, c_int, c_int) =
            std::mem::transmute(DELIVER.load(Ordering::Relaxed));
        let exit: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(EXIT.load(Ordering::Relaxed));
        deliver(env, vector, is_hardware);
        let mut current = CURRENT.get();
        if current.is_null() {
            current = libc::dlsym(libc::RTLD_DEFAULT, c"current_cpu".as_ptr()).cast();
            CURRENT.set(current);
        }
        exit(*current);
    }
}

fn mend() -> Result<(), &'static str> {
    let deliver_before = symbol(c"do_interrupt_x86_hardirq")?;
    DELIVER.store(deliver_before, Ordering::Relaxed);
    EXIT.store(symbol(c"cpu_loop_exit_noexc")?, Ordering::Relaxed);
    symbol(c"current_cpu")?;
    let begin = symbol(c"helper_vmrun")?;
    // The function that the compiler lays after it calls the same one elsewhere: no further than its end.
    let length = size(begin)?;
    // SAFETY: the code of a function, as long as its symbol says.
    let code = unsafe { std::slice::from_raw_parts(begin as *const u8, length) };
    let calls: Vec<usize> = (0..length.saturating_sub(CALL_LENGTH))
        .filter(|&at| {
            let Some(&[a, b, c, d]) = code.get(at + 1..).and_then(|rest| rest.first_chunk()) else {
                return false;
            };
            let distance = i32::from_le_bytes([a, b, c, d]) as isize;
            code[at] == CALL && (begin + at + CALL_LENGTH).wrapping_add_signed(distance) == deliver_before
        })
        .collect();
    let &[call] = calls.as_slice() else { return Err("its code is not as it was known") };
    let next = begin + call + CALL_LENGTH;
    let distance = i32::try_from(trampoline(begin)?.wrapping_sub(next).cast_signed());
    let distance = distance.map_err(|_| "no room near its code")?;
    write_code(next - size_of::<i32>(), &distance.to_le_bytes())?;
    write_code(symbol(c"cpu_clear_ignne")?, &[RETURN])
}

/// Replaces bytes of the program's own code.
fn write_code(at: usize, bytes: &[u8]) -> Result<(), &'static str> {
    let first = at & !(PAGE - 1);
    let length = at + bytes.len() - first;
    // SAFETY: pages of code, before the program runs any of it.
    unsafe {
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        if libc::mprotect(first as *mut c_void, length, all) != 0 {
            return Err("its code cannot be written to");
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
        libc::mprotect(first as *mut c_void, length, libc::PROT_READ | libc::PROT_EXEC);
    }
    Ok(())
}

/// A jump to [`deliver`] that a call of 32 bits' distance reaches.
fn trampoline(near: usize) -> Result<usize, &'static str> {
    // jmp *[rip], and the address.
    let mut code = [0; 14];
    code[..2].copy_from_slice(&[0xff, 0x25]);
    code[6..].copy_from_slice(&(deliver as *const () as usize).to_le_bytes());
    for distance in (1..1024).map(|step| step << 20) {
        let at = ((near - distance) & !(PAGE - 1)) as *mut c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a mapping where none is; it is written before it may be executed.
        unsafe {
            let page = libc::mmap(at, PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if page == libc::MAP_FAILED {
                continue;
            }
            page.cast::<[u8; 14]>().write(code);
            libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC);
            return Ok(page as usize);
        }
    }
    Err("no room near its code")
}

fn symbol(name: &'static CStr) -> Result<usize, &'static str> {
    // SAFETY: a name that ends in zero.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() { Err("it does not export what is needed") } else { Ok(address as usize) }
}

/// The length of a function's code, as its symbol says.
fn size(function: usize) -> Result<usize, &'static str> {
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            extra: *mut *mut c_void,
            flags: c_int,
        ) -> c_int;
    }
    const RTLD_DL_SYMENT: c_int = 1;
    let mut symbol: *mut c_void = std::ptr::null_mut();
    // SAFETY: the loader fills both in; the symbol lives as long as the program.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if dladdr1(function as *const c_void, &raw mut info, &raw mut symbol, RTLD_DL_SYMENT) == 0
            || symbol.is_null()
        {
            return Err("its symbols cannot be read");
        }
        usize::try_from((*symbol.cast::<libc::Elf64_Sym>()).st_size).map_err(|_| "its symbols cannot be read")
    }
}
