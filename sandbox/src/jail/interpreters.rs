//! Which files of the stage the kernel executes for the entry, beside the entry itself: what a
//! script's first line names, and the loader that a dynamic program asks for. Each may have one of
//! its own.
//!
//! The bytes are the plugin's: nothing is read beyond fixed lengths, and what makes no sense has no
//! interpreter. The kernel will say so when it executes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::STAGE_DIRECTORY;

/// The kernel follows no more from one to the next (`exec_binprm`, fs/exec.c).
const DEPTH_LIMIT: usize = 5;

/// What is looked at of a file's beginning: the kernel reads 256 bytes for a script's line, and a
/// program's headers lie right behind its first 64.
const HEAD_BYTES: usize = 4096;

/// Longest first line (`BINPRM_BUF_SIZE`, linux/binfmts.h).
const LINE_BYTES: usize = 256;

/// Longest path of a loader.
const PATH_BYTES: usize = 4096;

/// The interpreters, as absolute paths of the jail, each of them a file of the stage. What lies
/// elsewhere is none of ours: a jail has nothing there that could be executed.
#[must_use]
pub fn of(stage: BorrowedFd<'_>, entry: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = open(stage, entry);
    while let Some(file) = last.take()
        && found.len() < DEPTH_LIMIT
        && let Some(path) = interpreter(file.as_fd())
    {
        let beneath = path
            .strip_prefix(STAGE_DIRECTORY)
            .and_then(|rest| rest.strip_prefix('/'));
        last = beneath.and_then(|beneath| open(stage, beneath));
        if last.is_some() {
            found.push(path);
        }
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

fn interpreter(file: BorrowedFd<'_>) -> Option<String> {
    let mut head = [0; HEAD_BYTES];
    let length = rustix::io::pread(file, &mut head, 0).ok()?;
    let head = head.get(..length)?;
    match head.strip_prefix(b"#!") {
        Some(line) => of_script(line),
        None => of_program(file, head),
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
        let loader = interpreter(own.as_fd()).unwrap();
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
