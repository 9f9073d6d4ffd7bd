//! What one process of Pinfold's own uses, as `/proc` tells (proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProcessUsage {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
    /// `None` where the kernel does not tell: of a process with more rights, before Linux 6.2.
    pub(crate) open_descriptors: Option<u64>,
}

impl ProcessUsage {
    /// Looks at a process; `None` where it is gone or hidden.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).ok()?;
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        Some(Self {
            resident_bytes: resident_bytes(&status)?,
            cpu_seconds: cpu_seconds(&stat)?,
            open_descriptors: open_descriptors(&process.join("fd")),
        })
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// User and system time, fields 14 and 15.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name, in parentheses, may hold anything: fields are counted after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // Of 100 ticks a second, 32 bits are full after 497 days of one processor.
    let micros = user.checked_add(system)?.checked_mul(1_000_000)?;
    let micros = micros.checked_div(rustix::param::clock_ticks_per_second())?;
    Some(Duration::from_micros(micros).as_secs_f64())
}

fn open_descriptors(directory: &Path) -> Option<u64> {
    match fs::read_dir(directory) {
        // Looking takes one itself, which is not counted where it is another's.
        Ok(entries) => u64::try_from(entries.count()).ok(),
        // The directory's size is their number since Linux 6.2, for whoever may not read it too.
        Err(_) => fs::metadata(directory)
            .ok()
            .map(|metadata| metadata.len())
            .filter(|count| *count > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_looked_at() {
        let usage = ProcessUsage::read(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(usage.open_descriptors.unwrap() >= 3, "{usage:?}");
        assert_eq!(ProcessUsage::read(u32::MAX), None);
    }

    #[test]
    fn a_name_cannot_pass_for_fields() {
        let stat = "7 (a) 1 2 (b) S 1 2 3 4 5 6 7 8 9 10 100 50 0 0 20 0";
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        let seconds = 150.0 / f64::from(per_second);
        assert_eq!(cpu_seconds(stat), Some(seconds));
        assert_eq!(cpu_seconds("7 (a"), None);
        let years = format!("7 (a) S 1 2 3 4 5 6 7 8 9 10 {} 0 0", 1_u64 << 33);
        assert!(cpu_seconds(&years).unwrap() > 8_000_000.0, "{years}");
        assert_eq!(
            resident_bytes("VmSize: 9 kB\nVmRSS:\t  12 kB\n"),
            Some(12_288)
        );
    }
}
