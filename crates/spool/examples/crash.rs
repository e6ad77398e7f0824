//! Appends records in a child process, kills it without warning, and recovers: every acknowledged
//! record is there, once and in order.
//!
//! ```text
//! cargo run -p spool --example crash
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spool::{Ack, Batch, Observer, Options, Position, RealDisk, Spool};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

/// Acknowledged records after which the child is killed.
const ACKNOWLEDGED: u64 = 1000;

/// Ignores what the writer reports; a server would count it.
struct Ignore;

impl Observer for Ignore {
    fn note_commit(&self, _records: u64, _append_wait: Duration, _sync: Duration) {}
    fn note_failure(&self, _error: &io::Error) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(dir) => append_forever(Path::new(&dir)),
        None => crash_and_recover(),
    }
}

fn open(dir: &Path) -> Result<Spool, spool::OpenError> {
    let options = Options {
        dir: dir.to_owned(),
        ack: Ack::Disk,
        room: spool::Room::new(64 << 20),
        chunk_bytes: 1 << 20,
        keep: Duration::ZERO,
    };
    Spool::open(options, Arc::new(RealDisk), Box::new(Ignore))
}

/// The child: appends numbers and prints each one once it is safe.
fn append_forever(dir: &Path) -> Result<(), Box<dyn Error>> {
    let spool = open(dir)?;
    let runtime = Builder::new_current_thread().build()?;
    LocalSet::new().block_on(&runtime, async {
        let appender = spool.appender();
        // Outcomes reach those who wait through this task of the same thread.
        spawn_local(appender.deliver());
        for number in 1_u64.. {
            let pending = appender.append(|out| out.extend_from_slice(&number.to_le_bytes()))?;
            pending.await?;
            writeln!(io::stdout(), "{number}")?;
        }
        Ok(())
    })
}

/// The parent: kills the child in the middle of its work, then opens the spool that it left.
fn crash_and_recover() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let mut acknowledged = 0;
    for line in BufReader::new(output).lines() {
        acknowledged = line?.parse()?;
        if acknowledged == ACKNOWLEDGED {
            child.kill()?;
        }
    }
    child.wait()?;
    println!("killed after {acknowledged} acknowledged records");

    let spool = open(dir.path())?;
    let mut reader = spool.reader(Position::default(), 0);
    let mut batch = Batch::default();
    let mut recovered = 0;
    loop {
        reader.read(&mut batch, 100, usize::MAX)?;
        if batch.is_empty() {
            break;
        }
        for (_, payload) in batch.records() {
            let number = u64::from_le_bytes(payload.try_into()?);
            if number != recovered + 1 {
                return Err(format!("record {number} follows record {recovered}").into());
            }
            recovered = number;
        }
        // A database would commit `batch.end` together with what it made of the records.
        spool.release(batch.end)?;
    }
    spool.close();
    if recovered < acknowledged {
        return Err(format!("only {recovered} of {acknowledged} records are there").into());
    }
    println!("recovered {recovered} records, in order and each once");
    Ok(())
}
