//! Limits on reads and writes at one disk: `io.max` on version 2, `blkio.throttle.*` on version 1.

use pinfold_policy::Control;

use super::dir::Dir;
use super::{Applied, How, Reason};

/// A whole disk, as the kernel numbers it: of a partition the disk that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The driver's number.
    pub major: u32,
    /// The disk's number with that driver.
    pub minor: u32,
}

/// Limits at one disk, each a second. `None`: not limited. None of them may be 0, which the kernel
/// takes for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoLimits {
    /// The disk.
    pub disk: Disk,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Reads.
    pub read_operations: Option<u32>,
    /// Writes.
    pub write_operations: Option<u32>,
}

impl IoLimits {
    /// Limits that hold nobody up: to see whether there can be any.
    #[must_use]
    pub const fn ample(disk: Disk) -> Self {
        Self {
            disk,
            read_bytes: Some(1 << 30),
            write_bytes: Some(1 << 30),
            read_operations: Some(100_000),
            write_operations: Some(100_000),
        }
    }

    /// The limits by the key that `io.max` has for each, and the file that version 1 has.
    fn each(&self) -> [(&'static str, &'static str, Option<u64>); 4] {
        [
            ("rbps", "blkio.throttle.read_bps_device", self.read_bytes),
            ("wbps", "blkio.throttle.write_bps_device", self.write_bytes),
            (
                "riops",
                "blkio.throttle.read_iops_device",
                self.read_operations.map(u64::from),
            ),
            (
                "wiops",
                "blkio.throttle.write_iops_device",
                self.write_operations.map(u64::from),
            ),
        ]
    }
}

/// Sets the limits of a group of version 2, and reads them.
pub(super) fn limit_v2(dir: &Dir, limits: &IoLimits) -> Applied {
    const FILE: &str = "io.max";
    let Disk { major, minor } = limits.disk;
    let values = limits.each().map(|(key, _, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key}=max"),
    });
    let line = format!("{major}:{minor} {}", values.join(" "));
    let set = write(dir, FILE, &line).and_then(|()| read(dir, FILE));
    let is_unlimited = limits.each().iter().all(|(_, _, value)| value.is_none());
    match set {
        Ok(text) if is_unlimited || text.lines().any(|found| found == line) => {
            Applied::enforced(Control::Io, How::V2)
        }
        Ok(text) => Applied::missing(Control::Io, differs(FILE, &text)),
        Err(reason) => Applied::missing(Control::Io, reason),
    }
}

/// Sets the limits of a group of version 1, and reads them.
pub(super) fn limit_v1(dir: &Dir, limits: &IoLimits) -> Applied {
    let Disk { major, minor } = limits.disk;
    for (_, file, value) in limits.each() {
        let Some(value) = value else { continue };
        let line = format!("{major}:{minor} {value}");
        let set = write(dir, file, &line).and_then(|()| read(dir, file));
        match set {
            Ok(text) if text.lines().any(|found| found == line) => {}
            Ok(text) => return Applied::missing(Control::Io, differs(file, &text)),
            Err(reason) => return Applied::missing(Control::Io, reason),
        }
    }
    let gap = "what is written later, by the kernel for it, counts for nobody on version 1";
    let reason = Reason::absent("limit buffered writes", gap);
    Applied::partial(Control::Io, How::V1, reason)
}

fn write(dir: &Dir, file: &str, line: &str) -> Result<(), Reason> {
    dir.write(file, line)
        .map_err(|error| Reason::refused(format!("write {line:?} to {file}"), dir.path(), &error))
}

fn read(dir: &Dir, file: &str) -> Result<String, Reason> {
    dir.read(file)
        .map_err(|error| Reason::refused(format!("read {file}"), dir.path(), &error))
}

fn differs(file: &str, text: &str) -> Reason {
    Reason::absent("look at what was written", format!("{file} says {text:?}"))
}
