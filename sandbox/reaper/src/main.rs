//! The reaper's program: an entry and a panic handler around the library.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

// The standard library would ask for it; the start code and the memory functions are in it.
#[link(name = "c", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// What the C library's start code calls. The launcher gives process 1 its name and nothing else; a
/// second argument makes it the program of a trial, which has no right that it does not start with.
#[unsafe(no_mangle)]
pub extern "C" fn main(arguments: i32, _values: *const *const u8) -> i32 {
    match arguments {
        ..2 => pinfold_reaper::run(),
        2.. => pinfold_reaper::trial::run(),
    }
}

/// Ends the jail: as process 1 of its namespace, what it leaves is killed. An invalid instruction
/// needs no call that a filter could refuse.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    pinfold_reaper::abort()
}
