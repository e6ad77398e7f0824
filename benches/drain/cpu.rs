//! The CPU time of the loader's threads and of Postgres, as the kernel counts it.

use std::ops::Range;
use std::path::Path;

/// CPU seconds so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) prepare: f64,
    pub(super) main: f64,
    pub(super) connection: f64,
    pub(super) rest: f64,
}

impl Cpu {
    pub(super) fn now(postmaster: &Path) -> Cpu {
        let mut cpu = Cpu::default();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let (name, seconds) = cpu_of(&task.path()).unwrap_or_default();
            if name == "prepare" {
                cpu.prepare += seconds;
            } else if task.file_name().to_string_lossy() == std::process::id().to_string() {
                cpu.main += seconds;
            }
        }
        let pid = std::fs::read_to_string(postmaster).unwrap();
        let pid = pid.lines().next().unwrap();
        // Processes that ended since then, such as a vacuum.
        cpu.rest += ticks(Path::new(&format!("/proc/{pid}")), 13..15).unwrap_or(0.0);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap().split_whitespace() {
            let dir = format!("/proc/{child}");
            let Some((_, seconds)) = cpu_of(Path::new(&dir)) else {
                continue;
            };
            let line = std::fs::read_to_string(format!("{dir}/cmdline")).unwrap_or_default();
            if line.contains("avtryck drain_") {
                cpu.connection += seconds;
            } else {
                cpu.rest += seconds;
            }
        }
        cpu
    }
}

/// Name and CPU seconds of a thread or process.
fn cpu_of(dir: &Path) -> Option<(String, f64)> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    let name = stat.rsplit_once(") ")?.0.split_once('(')?.1.to_owned();
    Some((name, ticks(dir, 11..13)?))
}

/// Returns the sum of some fields of a `stat` after the name, in seconds.
fn ticks(dir: &Path, fields: Range<usize>) -> Option<f64> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    let fields = stat
        .rsplit_once(") ")?
        .1
        .split(' ')
        .skip(fields.start)
        .take(fields.len());
    // The kernel counts in hundredths of a second.
    Some(fields.flat_map(str::parse::<f64>).sum::<f64>() / 100.0)
}
