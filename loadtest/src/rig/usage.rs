//! CPU time of processes and their threads, user and kernel apart, from /proc.
//!
//! The kernel counts the sum exactly and splits it by sampling at each tick of 10 ms, in which
//! /proc gives both: a round of seconds is right to a thousandth in all and to a few hundredths
//! apart.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

/// Ticks of /proc a second (USER_HZ): 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// How the processes below a root are told apart in a table.
#[derive(Clone, Copy, Debug)]
pub enum Parts {
    /// Each thread by its name.
    Threads,
    /// Each process by what Postgres calls it in its title.
    Titles,
    /// All under one name.
    One(&'static str),
}

/// A process whose CPU time, with that of all its descendants, is counted.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    /// The process.
    pub pid: u32,
    /// How what it used is told apart.
    pub parts: Parts,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Time {
    /// In the process itself.
    pub user: Duration,
    /// In the kernel for it.
    pub kernel: Duration,
}

impl Time {
    fn ticks(user: u32, kernel: u32) -> Time {
        Time {
            user: TICK * user,
            kernel: TICK * kernel,
        }
    }

    fn plus(self, other: Time) -> Time {
        Time {
            user: self.user + other.user,
            kernel: self.kernel + other.kernel,
        }
    }

    fn since(self, earlier: Time) -> Time {
        Time {
            user: self.user.saturating_sub(earlier.user),
            kernel: self.kernel.saturating_sub(earlier.kernel),
        }
    }
}

/// What has been used so far, by process and thread.
#[derive(Default)]
pub struct Reading(HashMap<(u32, u32), (String, Time)>);

impl Reading {
    /// Reads what `roots` and their descendants have used.
    pub fn of(roots: &[Root]) -> Reading {
        let children = children();
        let mut reading = Reading::default();
        for root in roots {
            let mut rest = vec![root.pid];
            while let Some(pid) = rest.pop() {
                rest.extend(children.get(&pid).into_iter().flatten());
                reading.add(pid, root.parts);
            }
        }
        reading
    }

    fn add(&mut self, pid: u32, parts: Parts) {
        // Children that have ended count where their parent has waited for them.
        if let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) {
            let name = match parts {
                Parts::Titles => "postgres, ended".to_owned(),
                Parts::Threads => "ended".to_owned(),
                Parts::One(name) => name.to_owned(),
            };
            self.0.insert((pid, 0), (name, stat.ended));
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = format!("/proc/{pid}/task/{tid}/stat");
            if let Some(stat) = Stat::read(&path) {
                let name = match parts {
                    Parts::Threads => stat.name,
                    Parts::Titles => title(pid),
                    Parts::One(name) => name.to_owned(),
                };
                self.0.insert((pid, tid), (name, stat.own));
            }
        }
    }

    /// What was used between `earlier` and this, by name.
    pub fn since(&self, earlier: &Reading) -> BTreeMap<String, Time> {
        let mut parts = BTreeMap::<String, Time>::new();
        for (key, (name, time)) in &self.0 {
            let before = earlier
                .0
                .get(key)
                .map(|(_, time)| *time)
                .unwrap_or_default();
            let part = parts.entry(name.clone()).or_default();
            *part = part.plus(time.since(before));
        }
        parts.retain(|_, time| *time != Time::default());
        parts
    }
}

struct Stat {
    name: String,
    own: Time,
    ended: Time,
}

impl Stat {
    /// Fields 2 and 14 to 17 of proc(5).
    fn read(path: &str) -> Option<Stat> {
        let text = fs::read_to_string(path).ok()?;
        let (front, rest) = text.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let mut fields = rest.split_whitespace().skip(11);
        let mut next = || fields.next().and_then(|field| field.parse().ok());
        Some(Stat {
            name,
            own: Time::ticks(next()?, next()?),
            ended: Time::ticks(next()?, next()?),
        })
    }
}

/// Every process's children.
pub fn children() -> HashMap<u32, Vec<u32>> {
    let mut children = HashMap::<u32, Vec<u32>>::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// `postgres: walwriter` for a server's own process, `postgres: backend` for one that serves a
/// client.
fn title(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let line = line.trim_end_matches('\0').trim_end();
    match line.strip_prefix("postgres: ") {
        Some(own) if own.contains('[') || own.contains("idle") => "postgres: backend".to_owned(),
        Some(own) if own.starts_with("autovacuum worker") => "postgres: autovacuum".to_owned(),
        Some(own) => format!("postgres: {own}"),
        None => "postgres".to_owned(),
    }
}

/// A line of /proc/PID/status, in bytes.
pub fn memory_bytes(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|each| each.strip_prefix(line))?;
    let kilobytes: u64 = value
        .trim_start_matches(':')
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_counted_under_its_name() {
        let root = Root {
            pid: std::process::id(),
            parts: Parts::Threads,
        };
        let before = Reading::of(&[root]);
        let busy = std::thread::Builder::new().name("busy 1".to_owned());
        let (told, tell) = std::sync::mpsc::channel::<()>();
        let busy = busy
            .spawn(move || {
                let own = || Stat::read("/proc/thread-self/stat").unwrap().own;
                while own().user + own().kernel < TICK * 5 {}
                tell.recv().unwrap_err();
            })
            .unwrap();
        loop {
            let used = Reading::of(&[root]).since(&before);
            let busy = used.get("busy 1").copied().unwrap_or_default();
            if busy.user + busy.kernel >= TICK * 5 {
                break;
            }
            std::thread::yield_now();
        }
        drop(told);
        busy.join().unwrap();
    }
}
