//! Which files of the stage the kernel executes for the entry, beside the entry itself: what a
//! script's first line names, which may be a script again, and the loader that a dynamic program asks
//! for, with which it ends: of a loader the kernel reads no headers.
//!
//! The bytes are the plugin's: nothing is read beyond fixed lengths, and what makes no sense has no
//! interpreter. The kernel will say so when it executes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::STAGE_DIRECTORY;

/// The kernel follows no more scripts from one to the next (`exec_binprm`, fs/exec.c).
const DEPTH_LIMIT: usize = 5;

/// What is looked at of a file's beginning: the kernel reads 256 bytes for a script's line, and a
/// program's headers lie right behind its first 64.
const HEAD_BYTES: usize = 4096;

/// Longest first line (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const LINE_BYTES: usize = 256;

/// Longest path of a loader, with its terminating zero (`PATH_MAX`, linux/limits.h): a longer one neither
/// the kernel executes nor the reaper opens.
const PATH_BYTES: usize = 4096;

/// What the kernel executes in the place of a file.
#[derive(Debug, PartialEq, Eq)]
enum Interpreter {
    /// What a script names.
    OfScript(String),
    /// What loads a program.
    OfProgram(String),
}

/// The interpreters, as absolute paths of the jail, each of them a file of the stage. What lies
/// elsewhere is none of ours: a jail has nothing there that could be executed.
#[must_use]
pub fn of(stage: BorrowedFd<'_>, entry: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = open(stage, entry);
    while let Some(file) = last.take()
        && let Some(interpreter) = interpreter(file.as_fd())
    {
        let (path, is_scripts) = match interpreter {
            Interpreter::OfScript(_) if found.len() == DEPTH_LIMIT => break,
            Interpreter::OfScript(path) => (path, true),
            Interpreter::OfProgram(path) => (path, false),
        };
        let beneath = path
            .strip_prefix(STAGE_DIRECTORY)
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(opened) = beneath.and_then(|beneath| open(stage, beneath)) else {
            break;
        };
        found.push(path);
        last = is_scripts.then_some(opened);
    }
    found
}

fn open(stage: BorrowedFd<'_>, path: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(stage, path, flags, Mode::empty(), resolve).ok()?;
    let mode = rustix::fs::fstat(&file).ok()?.st_mode;
    (FileType::from_raw_mode(mode) == FileType::RegularFile).then_some(file)
}

fn interpreter(file: BorrowedFd<'_>) -> Option<Interpreter> {
    let mut head = [0; HEAD_BYTES];
    let length = rustix::io::pread(file, &mut head, 0).ok()?;
    let head = head.get(..length)?;
    match head.strip_prefix(b"#!") {
        Some(line) => of_script(line).map(Interpreter::OfScript),
        None => of_program(file, head).map(Interpreter::OfProgram),
    }
}

/// The first word of the first line.
fn of_script(line: &[u8]) -> Option<String> {
    let line = line.get(..LINE_BYTES).unwrap_or(line);
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0));
    let word = words.find(|word| !word.is_empty())?;
    String::from_utf8(word.to_vec()).ok()
}

/// `PT_INTERP` of elf(5).
const INTERPRETER: u32 = 3;
/// Size of a program header of 64 bits.
const PROGRAM_HEADER_BYTES: usize = 56;
/// 64 bits, little endian, version 1: what this launcher is built for.
const NATIVE: &[u8] = b"\x7fELF\x02\x01\x01";

fn of_program(file: BorrowedFd<'_>, head: &[u8]) -> Option<String> {
    head.strip_prefix(NATIVE)?;
    let first = usize::try_from(long(head, 32)?).ok()?;
    let count = u16::from_le_bytes(array(head, 56)?);
    let headers = head.get(first..)?.chunks_exact(PROGRAM_HEADER_BYTES);
    let wanted = headers
        .take(count.into())
        .find(|header| array(header, 0).map(u32::from_le_bytes) == Some(INTERPRETER))?;
    let (offset, size) = (long(wanted, 8)?, usize::try_from(long(wanted, 32)?).ok()?);
    if size > PATH_BYTES {
        return None;
    }
    let mut path = vec![0; size];
    let length = rustix::io::pread(file, &mut path, offset).ok()?;
    path.truncate(length);
    // Without it the kernel executes nothing either (`load_elf_binary`, fs/binfmt_elf.c).
    if length < size || path.last() != Some(&0) {
        return None;
    }
    let text = path.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn write(path: std::path::PathBuf, content: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The head of a program that asks for a loader, by these very bytes.
    fn program(loader: &[u8]) -> Vec<u8> {
        let first_header = 64_usize;
        let mut bytes = vec![0; first_header + PROGRAM_HEADER_BYTES];
        let behind = u64::try_from(bytes.len()).unwrap();
        let size = u64::try_from(loader.len()).unwrap();
        bytes[..NATIVE.len()].copy_from_slice(NATIVE);
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        let header = &mut bytes[first_header..];
        header[..4].copy_from_slice(&INTERPRETER.to_le_bytes());
        header[8..16].copy_from_slice(&behind.to_le_bytes());
        header[32..40].copy_from_slice(&size.to_le_bytes());
        bytes.extend(loader);
        bytes
    }

    #[test]
    fn what_a_loader_asks_for_is_not_executed() {
        let stage = tempfile::tempdir().unwrap();
        let at = |name: &str| stage.path().join(name);
        // Longer, as a path of the jail, than any that can be opened, though it can be from the stage.
        let endless = format!("/plugin/{}ld", "./".repeat(2043));
        assert_eq!(endless.len(), PATH_BYTES);
        write(at("entry"), &program(b"/plugin/ld\0"));
        write(at("ld"), &program(endless.as_bytes()));
        write(at("chain"), &program(b"/plugin/second\0"));
        write(at("second"), &program(b"/plugin/ld\0"));
        write(at("script"), b"#!/plugin/chain\n");
        let stage = directory(stage.path());
        let found = |entry: &str| of(stage.as_fd(), entry);
        assert_eq!(found("entry"), ["/plugin/ld"]);
        assert_eq!(found("chain"), ["/plugin/second"]);
        assert_eq!(found("script"), ["/plugin/chain", "/plugin/second"]);
        assert!(found("ld").is_empty());
    }

    #[test]
    fn the_loader_of_the_last_of_many_scripts_is_found() {
        let stage = tempfile::tempdir().unwrap();
        let at = |name: &str| stage.path().join(name);
        for number in 0..DEPTH_LIMIT {
            let line = format!("#!/plugin/{}\n", number + 1);
            write(at(&number.to_string()), line.as_bytes());
        }
        write(at(&DEPTH_LIMIT.to_string()), &program(b"/plugin/ld\0"));
        write(at("ld"), b"");
        let stage = directory(stage.path());
        let found = of(stage.as_fd(), "0");
        assert_eq!(found.len(), DEPTH_LIMIT + 1);
        assert_eq!(found.last().map(String::as_str), Some("/plugin/ld"));
    }

    #[test]
    fn a_loader_is_named_as_the_kernel_takes_it() {
        let named = |loader: &[u8]| {
            use std::io::Write;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&program(loader)).unwrap();
            interpreter(file.as_fd())
        };
        let ld = Interpreter::OfProgram("/plugin/ld".to_owned());
        assert_eq!(named(b"/plugin/ld\0"), Some(ld));
        assert_eq!(named(b"/plugin/ld"), None);
        assert_eq!(named(b""), None);
        let padded = |bytes: usize| {
            let mut path = vec![b'/'; bytes - 1];
            path.push(0);
            named(&path)
        };
        assert!(padded(PATH_BYTES).is_some());
        assert_eq!(padded(PATH_BYTES + 1), None);
    }

    #[test]
    fn each_interpreter_of_the_stage_is_found_and_no_other() {
        let stage = tempfile::tempdir().unwrap();
        let at = |name: &str| stage.path().join(name);
        write(at("start"), b"#!/plugin/bin/middle -x\nrest");
        write(at("bin/middle"), b"#! \t/plugin/bin/last");
        write(at("bin/last"), b"no program");
        write(at("outside"), b"#!/bin/sh\n");
        write(at("round"), b"#!/plugin/round\n");
        write(at("climbs"), b"#!/plugin/../etc/passwd\n");
        write(at("lost"), b"#!/plugin/nowhere\n");
        write(at("cut"), &NATIVE[..5]);
        let stage = directory(stage.path());
        let found = |entry: &str| of(stage.as_fd(), entry);
        assert_eq!(found("start"), ["/plugin/bin/middle", "/plugin/bin/last"]);
        assert_eq!(found("round").len(), DEPTH_LIMIT);
        for none in [
            "climbs", "lost", "outside", "bin/last", "cut", "absent", "bin", "../x",
        ] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn the_loader_of_a_dynamic_program_is_read_from_its_headers() {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        let Some(Interpreter::OfProgram(loader)) = interpreter(own.as_fd()) else {
            panic!("a test is linked dynamically");
        };
        assert!(
            loader.contains("ld-linux") || loader.contains("ld-musl"),
            "{loader}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(0_u8.., 0..300)) {
            use std::io::Write;
            let is_program = bytes.first().is_some_and(|byte| byte % 2 == 0);
            if is_program {
                bytes.splice(0..0, NATIVE.iter().copied());
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            drop(interpreter(file.as_fd()));
        }
    }
}
