//! What the process uses, under the names that every exporter gives it. Read at a scrape; what the
//! system does not tell keeps its last value.

use std::fs;
use std::time::Duration;

use metrics::Gauge;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;

use super::gauge_value;
use super::register::{MetricKind, Register};
use crate::clock;

/// Counters of the exporter are whole numbers, too coarse for processor time, so its line is
/// written here.
const CPU_SECONDS: &str = "process_cpu_seconds_total";
const CPU_SECONDS_HELP: &str = "Processor time used, in user and system mode.";

pub(super) struct Process {
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl Process {
    pub(super) fn register(r: &Register) -> Process {
        r.describe(
            MetricKind::Counter,
            CPU_SECONDS,
            CPU_SECONDS_HELP,
            Vec::new(),
        );
        r.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
        )
        .set(seconds(clock::now().0));
        Process {
            resident_bytes: r.gauge("process_resident_memory_bytes", "Resident memory."),
            virtual_bytes: r.gauge("process_virtual_memory_bytes", "Address space in use."),
            threads: r.gauge("process_threads", "Threads of the operating system."),
            open_fds: r.gauge("process_open_fds", "Open files and sockets."),
            max_fds: r.gauge("process_max_fds", "Files and sockets that may be open."),
        }
    }

    /// Reads all of it but the processor time.
    pub(super) fn read(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, unit, gauge) in [
            ("VmRSS:", 1024, &self.resident_bytes),
            ("VmSize:", 1024, &self.virtual_bytes),
            ("Threads:", 1, &self.threads),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            if let Some(number) = number {
                gauge.set(gauge_value(number * unit));
            }
        }
        if let Ok(number) = open_files() {
            self.open_fds.set(gauge_value(number));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(gauge_value(soft));
        }
    }

    /// Appends the processor time to a rendered text.
    pub(super) fn append_cpu_seconds(text: &mut String) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = (usage.user_time() + usage.system_time()).num_microseconds();
            let seconds = seconds(micros);
            text.push_str(&format!(
                "# HELP {CPU_SECONDS} {CPU_SECONDS_HELP}\n# TYPE {CPU_SECONDS} counter\n{CPU_SECONDS} {seconds}\n"
            ));
        }
    }
}

/// Returns how many files the process has open. Linux tells that since 6.2 as the size of a folder;
/// where the size is 0 they are counted one by one, which takes 20 ms where 16,000 are open.
fn open_files() -> std::io::Result<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER)?.len() {
        // One of them is the folder itself.
        0 => Ok(fs::read_dir(FOLDER)?.count().saturating_sub(1) as u64),
        number => Ok(number),
    }
}

fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
