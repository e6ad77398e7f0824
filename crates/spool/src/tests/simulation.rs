//! The spool on the model of a disk: lists of operations from a seed, with faults, crashes and
//! restarts, and after each list the question whether the promise was kept.
//!
//! `SPOOL_SEEDS=200000 cargo test --release --lib simulation` runs more lists, `SPOOL_SEED=7` that
//! one. `SPOOL_CHUNK_BYTES=262144` damages each byte of a larger chunk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::model::{Fault, ModelDisk, Random};
use super::*;

/// Lists in `make test`.
const SEEDS: u64 = 3000;
/// Lists that once failed.
const REGRESSIONS: [u64; 0] = [];
const DIR: &str = "/spool";
const SMALL_CHUNK_BYTES: u64 = 4096;

fn open_model(disk: &ModelDisk, chunks_max: u64) -> Result<Spool, OpenError> {
    let options = Options {
        dir: DIR.into(),
        ack: Ack::Disk,
        room: Room::new(chunks_max * SMALL_CHUNK_BYTES),
        chunk_bytes: SMALL_CHUNK_BYTES,
        keep: Duration::ZERO,
    };
    let pauses = Pauses {
        retry: Duration::ZERO,
        ..PAUSES
    };
    Spool::open_with(options, Arc::new(disk.clone()), Box::new(Quiet), pauses)
}

/// A payload that shows whether it is the one that was written.
fn payload(number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let length = 1 + random.below(400);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|_| random.next() as u8));
    bytes
}

/// What those who rely on the spool know.
struct World {
    disk: ModelDisk,
    random: Random,
    spool: Option<Spool>,
    chunks_max: u64,
    next: u64,
    acknowledged: BTreeSet<u64>,
    /// What a database would hold: rows and position, always together.
    rows: Vec<u64>,
    position: Position,
    records: u64,
    damage: Damage,
    torn_bytes: u64,
    flips: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        World {
            disk: ModelDisk::new(random.next()),
            spool: None,
            chunks_max: 3 + random.below(6),
            random,
            next: 0,
            acknowledged: BTreeSet::new(),
            rows: Vec::new(),
            position: Position::default(),
            records: 0,
            damage: Damage::default(),
            torn_bytes: 0,
            flips: 0,
        }
    }

    /// The open spool; opens it where it is not, without faults if need be.
    fn spool(&mut self) -> Spool {
        loop {
            if let Some(spool) = &self.spool {
                return spool.clone();
            }
            match open_model(&self.disk, self.chunks_max) {
                Ok(spool) => {
                    self.torn_bytes += spool.torn_bytes();
                    self.spool = Some(spool);
                }
                Err(OpenError::Io { .. }) => self.restart_if_off(),
                Err(error) => panic!("a spool that we wrote opens: {error}"),
            }
        }
    }

    fn restart_if_off(&mut self) {
        self.disk.disarm();
        self.disk.power_off();
        self.disk.power_on();
    }

    fn close(&mut self) {
        if let Some(spool) = self.spool.take() {
            spool.close();
        }
    }

    fn append(&mut self) {
        let spool = self.spool();
        let numbers: Vec<u64> = (0..=self.random.below(5)).map(|n| self.next + n).collect();
        self.next += numbers.len() as u64;
        let payloads: Vec<_> = numbers.iter().map(|number| payload(*number)).collect();
        let by = BY_EACH[self.random.below(2) as usize];
        let outcomes = if self.random.one_in(2) {
            append_by(by, &spool, &payloads)
        } else {
            append_at_once(by, &spool, &payloads)
        };
        let taken = numbers
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| outcome.is_ok());
        self.acknowledged.extend(taken.map(|(number, _)| *number));
    }

    /// Loads a batch, as the loader does.
    fn load(&mut self) {
        let spool = self.spool();
        let mut reader = spool.reader(self.position, self.records);
        let mut batch = Batch::default();
        let most = 1 + self.random.below(20) as usize;
        if reader.read(&mut batch, most, 1 << 20).is_err() {
            return;
        }
        for (_, bytes) in batch.records() {
            let number = u64::from_le_bytes(*bytes.first_chunk().expect("a number"));
            assert_eq!(bytes, payload(number), "a payload that was never written");
            self.rows.push(number);
        }
        self.position = batch.end;
        self.records = batch.end_records;
        self.damage.regions += batch.damage.regions;
        self.damage.missing += batch.damage.missing;
        self.damage.records += batch.damage.records;
        // A chunk that cannot be deleted now is deleted later.
        drop(spool.release(self.position));
    }

    fn load_all(&mut self) {
        loop {
            let before = (self.position, self.rows.len());
            self.load();
            if (self.position, self.rows.len()) == before {
                return;
            }
        }
    }

    fn flip_a_byte(&mut self) {
        let chunks = self.disk.chunks();
        if chunks.is_empty() {
            return;
        }
        let chunk = &chunks[self.random.below(chunks.len() as u64) as usize];
        let random = &mut self.random;
        self.disk.damage(chunk, |bytes| {
            if !bytes.is_empty() {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 + random.below(255) as u8;
            }
        });
        self.flips += 1;
    }

    fn step(&mut self, flips: bool) {
        match self.random.below(if flips { 13 } else { 12 }) {
            0..=4 => self.append(),
            5..=6 => self.load(),
            7..=8 => {
                let faults = [Fault::Write, Fault::Sync, Fault::Read, Fault::Space];
                let fault = faults[self.random.below(4) as usize];
                self.disk.arm(fault, self.random.below(6));
            }
            9 => self.disk.arm(Fault::Crash, self.random.below(12)),
            10 => self.close(),
            11 => {
                self.disk.power_off();
                self.close();
                self.disk.power_on();
            }
            _ => self.flip_a_byte(),
        }
    }

    /// Runs a list of operations and checks what came of it.
    fn run(seed: u64) {
        let mut world = World::new(seed);
        let flips = world.random.one_in(4);
        for _ in 0..10 + world.random.below(40) {
            world.step(flips);
        }
        // The machine starts once more, without faults.
        world.disk.disarm();
        world.disk.power_off();
        world.close();
        world.disk.power_on();
        world.load_all();
        world.append();
        world.load_all();
        world.close();
        let rows = &world.rows;
        assert!(
            rows.windows(2).all(|pair| pair[0] < pair[1]),
            "twice or out of order: {rows:?}"
        );
        let loaded: BTreeSet<u64> = rows.iter().copied().collect();
        let lost: Vec<_> = world.acknowledged.difference(&loaded).collect();
        if world.flips == 0 {
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            // A group that a crash tore may leave a gap before its last sound record.
            assert_eq!((world.damage.missing, world.damage.records), (0, 0));
        } else if !lost.is_empty() {
            let told = world.damage.is_some() || world.torn_bytes > 0;
            assert!(told, "lost without a word: {lost:?}");
        }
    }
}

/// Appends records in one group, as the events of one request are.
fn append_at_once(by: By, spool: &Spool, payloads: &[Vec<u8>]) -> Vec<Result<(), AppendError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        let appender = appender(spool, by);
        tokio::task::spawn_local(appender.deliver());
        let encoders = payloads
            .iter()
            .map(|payload| |out: &mut Vec<u8>| out.extend_from_slice(payload));
        match appender.append_all(encoders) {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        }
    });
    vec![outcome; payloads.len()]
}

/// Runs `check` for each number on all cores; the first that fails is named.
fn on_all_cores(numbers: std::ops::Range<u64>, check: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let outcome =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(number)));
                    if let Err(panic) = outcome {
                        next.store(numbers.end, Ordering::Relaxed);
                        eprintln!("failed at {number}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_the_disk_does_what_was_acknowledged_is_loaded_once() {
    if let Some(seed) = variable("SPOOL_SEED") {
        return World::run(seed);
    }
    REGRESSIONS.into_iter().for_each(World::run);
    on_all_cores(0..variable("SPOOL_SEEDS").unwrap_or(SEEDS), World::run);
}

#[test]
fn a_fault_or_a_crash_at_any_call_acknowledges_nothing_falsely() {
    let workload = |disk: &ModelDisk, by| {
        let mut acknowledged = Vec::new();
        if let Ok(spool) = open_model(disk, 100) {
            for number in 0..40 {
                if append_by(by, &spool, &[payload(number)])[0].is_ok() {
                    acknowledged.push(number);
                }
            }
            spool.close();
        }
        acknowledged
    };
    let disk = ModelDisk::new(0);
    assert_eq!(workload(&disk, By::TheSpool).len(), 40);
    let calls = disk.calls();
    let faults = [Fault::Sync, Fault::Write, Fault::Space, Fault::Crash];
    for (fault, by) in faults
        .into_iter()
        .flat_map(|fault| BY_EACH.map(|by| (fault, by)))
    {
        let mut struck = 0;
        for at in 0..calls {
            let disk = ModelDisk::new(at);
            disk.arm(fault, at);
            let acknowledged = workload(&disk, by);
            if disk.is_armed() {
                break;
            }
            struck += 1;
            disk.power_off();
            disk.power_on();
            let spool = open_model(&disk, 100).expect("the spool opens");
            let read: Vec<u64> = all(&spool, Position::default())
                .0
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes.first_chunk().expect("a number")))
                .collect();
            let lost: Vec<_> = acknowledged.iter().filter(|n| !read.contains(n)).collect();
            assert!(lost.is_empty(), "{fault:?} at {at}, {by:?}: {lost:?}");
            assert!(
                read.windows(2).all(|pair| pair[0] < pair[1]),
                "{fault:?} at {at}"
            );
            spool.close();
        }
        assert!(struck > 40, "{fault:?} struck {struck} times");
    }
}

/// A chunk whose every byte is damaged, in front of a second one, and the payloads of both.
struct Damaged {
    disk: ModelDisk,
    spool: Spool,
    written: Vec<Vec<u8>>,
    /// Where each record of the first chunk begins, and where the last ends.
    starts: Vec<u64>,
    chunk: PathBuf,
    sound: Vec<u8>,
}

/// The length of that chunk in `make test`. What the tests take grows with its square.
const DAMAGED_CHUNK_BYTES: u64 = 48 * 1024;

fn damaged_chunk_bytes() -> u64 {
    variable("SPOOL_CHUNK_BYTES").unwrap_or(DAMAGED_CHUNK_BYTES)
}

impl Damaged {
    fn new() -> Damaged {
        let chunk_bytes = damaged_chunk_bytes();
        let disk = ModelDisk::new(0);
        let options = Options {
            dir: DIR.into(),
            ack: Ack::Disk,
            room: Room::new(4 * chunk_bytes),
            chunk_bytes,
            keep: Duration::ZERO,
        };
        let spool =
            Spool::open(options, Arc::new(disk.clone()), Box::new(Quiet)).expect("the spool opens");
        let mut written = Vec::new();
        let mut starts = vec![HEADER_BYTES];
        let mut end = HEADER_BYTES;
        while spool.committed_position().chunk < 2 {
            let payload = payload(written.len() as u64);
            let length = (payload.len() + 8) as u64;
            append(&spool, std::slice::from_ref(&payload));
            written.push(payload);
            if spool.committed_position().chunk < 2 {
                end += length;
                starts.push(end);
            }
        }
        let chunk = chunk::path(Path::new(DIR), 1);
        let mut sound = Vec::new();
        disk.damage(&chunk, |bytes| sound.clone_from(bytes));
        Damaged {
            disk,
            spool,
            written,
            starts,
            chunk,
            sound,
        }
    }

    fn set(&self, change: impl FnOnce(&mut Vec<u8>)) {
        self.disk.damage(&self.chunk, |bytes| {
            bytes.clone_from(&self.sound);
            change(bytes);
        });
    }

    /// What is read must be what was written, without the records of `lost`, all of them counted.
    fn check(&self, lost: std::ops::Range<usize>, bytes: u64, regions: u64, at: u64) {
        let mut reader = self.spool.reader(Position::default(), 0);
        let mut batch = Batch::default();
        reader
            .read(&mut batch, usize::MAX, usize::MAX)
            .expect("no fault");
        let expected = self.written.iter().enumerate();
        let expected = expected.filter(|(index, _)| !lost.contains(index));
        assert!(
            batch
                .records()
                .map(|(_, payload)| payload)
                .eq(expected.map(|(_, payload)| &payload[..])),
            "byte {at}"
        );
        let damage = Damage {
            regions,
            bytes,
            missing: 0,
            records: lost.len() as u64,
        };
        assert_eq!(batch.damage, damage, "byte {at}");
    }

    /// The record that holds a byte of the first chunk.
    fn record_at(&self, at: u64) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }
}

#[test]
fn any_flipped_byte_of_a_chunk_costs_its_record_alone_and_is_counted() {
    on_all_cores(0..2, |part| {
        let damaged = Damaged::new();
        let end = *damaged.starts.last().expect("records");
        for at in (part..damaged_chunk_bytes()).step_by(2) {
            damaged.set(|bytes| bytes[at as usize] ^= 1 << (at % 8));
            if at < HEADER_BYTES {
                // There is a second copy of the header.
                damaged.check(0..0, 0, 0, at);
            } else if at < end {
                let record = damaged.record_at(at);
                let length = damaged.starts[record + 1] - damaged.starts[record];
                damaged.check(record..record + 1, length, 1, at);
            } else {
                damaged.check(0..0, 0, 0, at);
            }
        }
    });
}

#[test]
fn a_chunk_cut_at_any_byte_gives_what_is_before_the_cut() {
    on_all_cores(0..2, |part| {
        let damaged = Damaged::new();
        let records = damaged.starts.len() - 1;
        let end = *damaged.starts.last().expect("records");
        for at in (part..damaged_chunk_bytes()).step_by(2) {
            damaged.set(|bytes| bytes.truncate(at as usize));
            if at < HEADER_BYTES / 2 {
                damaged.check(0..records, end, 2, at);
            } else if at < HEADER_BYTES {
                damaged.check(0..records, end - HEADER_BYTES, 1, at);
            } else if at < end {
                let record = damaged.record_at(at);
                damaged.check(record..records, end - damaged.starts[record], 1, at);
            } else {
                damaged.check(0..0, 0, 0, at);
            }
        }
    });
}

#[test]
fn a_spool_opens_and_is_reported_on_wherever_its_last_chunk_is_damaged() {
    let damaged = Damaged::new();
    let id = damaged.spool.id();
    damaged.spool.close();
    let (disk, sound) = (&damaged.disk, &damaged.sound);
    disk.remove(&chunk::path(Path::new(DIR), 2))
        .expect("removed");
    let Damaged { spool, .. } = &damaged;
    let end = damaged.starts[damaged.starts.len() - 1];
    let _ = spool;
    for at in (0..end).step_by(997) {
        disk.damage(&damaged.chunk, |bytes| {
            bytes.clone_from(sound);
            bytes[at as usize] ^= 0x10;
        });
        let report = verify(Path::new(DIR), disk).expect("a spool").remove(0);
        let is_in_last = damaged.record_at(at.max(HEADER_BYTES)) == damaged.starts.len() - 2;
        assert_eq!(report.header_is_sound, at >= HEADER_BYTES);
        assert_eq!(report.torn_bytes > 0, is_in_last, "byte {at}");
        assert!(report.is_damaged());
    }
    assert_eq!(
        chunk::read_id(disk, Path::new(DIR)).expect("an ID"),
        Some(id)
    );
}
