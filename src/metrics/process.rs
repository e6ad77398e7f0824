//! What the process takes, by the names that every exporter gives it. Read when somebody scrapes; what the
//! system does not tell stays as it was.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use prometheus::{Counter, Gauge, IntGauge, Result};

use super::Register;
use crate::clock;

pub(super) struct Process {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

impl Process {
    pub(super) fn register(r: &Register) -> Result<Process> {
        let start_seconds = r.add(Gauge::new(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
        )?)?;
        start_seconds.set(seconds(clock::now().0));
        Ok(Process {
            cpu_seconds: r.add(Counter::new(
                "process_cpu_seconds_total",
                "Processor time spent, in user and system mode.",
            )?)?,
            resident_bytes: r.gauge("process_resident_memory_bytes", "Memory held.")?,
            virtual_bytes: r.gauge("process_virtual_memory_bytes", "Address space taken.")?,
            threads: r.gauge("process_threads", "Threads of the system.")?,
            open_fds: r.gauge("process_open_fds", "Open files and sockets.")?,
            max_fds: r.gauge("process_max_fds", "Files and sockets that may be open.")?,
        })
    }

    pub(super) fn read(&self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = (usage.user_time() + usage.system_time()).num_microseconds();
            let new = seconds(micros) - self.cpu_seconds.get();
            self.cpu_seconds.inc_by(new.max(0.0));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, unit, gauge) in [
            ("VmRSS:", 1024, &self.resident_bytes),
            ("VmSize:", 1024, &self.virtual_bytes),
            ("Threads:", 1, &self.threads),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
            if let Some(number) = number {
                gauge.set(number * unit);
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            self.open_fds
                .set(i64::try_from(files.count()).unwrap_or(i64::MAX) - 1);
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
    }
}

fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
