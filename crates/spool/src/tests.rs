#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes in these tests are small"
)]

mod committing;
mod model;
mod room;
mod simulation;

use std::sync::atomic::AtomicUsize;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::*;
use crate::frame::HEADER_BYTES;
use crate::spool::lock;

struct Quiet;

impl Observer for Quiet {
    fn note_commit(&self, _: u64, _: Duration, _: Duration) {}
    fn note_failure(&self, _: &io::Error) {}
}

const CHUNK_BYTES: u64 = 1 << 20;

fn options(dir: &std::path::Path) -> Options {
    Options {
        dir: dir.to_owned(),
        ack: Ack::Disk,
        room: Room::new(4 * CHUNK_BYTES),
        chunk_bytes: CHUNK_BYTES,
        keep: Duration::ZERO,
    }
}

fn open(dir: &std::path::Path) -> Spool {
    Spool::open(options(dir), Arc::new(RealDisk), Box::new(Quiet)).expect("the spool opens")
}

/// Who commits.
#[derive(Clone, Copy, Debug)]
enum By {
    TheSpool,
    TheAppender,
}

const BY_EACH: [By; 2] = [By::TheSpool, By::TheAppender];

fn appender(spool: &Spool, by: By) -> Appender {
    match by {
        By::TheSpool => spool.appender(),
        By::TheAppender => spool.committing_appender(),
    }
}

/// Appends payloads from an edge thread's runtime and says what became of each.
fn append(spool: &Spool, payloads: &[Vec<u8>]) -> Vec<Result<(), AppendError>> {
    append_by(By::TheSpool, spool, payloads)
}

fn append_by(by: By, spool: &Spool, payloads: &[Vec<u8>]) -> Vec<Result<(), AppendError>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let appender = appender(spool, by);
        tokio::task::spawn_local(appender.deliver());
        let mut outcomes = Vec::new();
        for payload in payloads {
            outcomes.push(
                match appender.append(|out| out.extend_from_slice(payload)) {
                    Ok(pending) => pending.await,
                    Err(error) => Err(error),
                },
            );
        }
        outcomes
    })
}

fn all(spool: &Spool, from: Position) -> (Vec<Vec<u8>>, Damage) {
    let mut reader = spool.reader(from, 0);
    let mut batch = Batch::default();
    let (mut payloads, mut damage) = (Vec::new(), Damage::default());
    loop {
        reader
            .read(&mut batch, 7, 1 << 20)
            .expect("the disk is sound");
        payloads.extend(batch.records().map(|(_, payload)| payload.to_vec()));
        damage.regions += batch.damage.regions;
        damage.bytes += batch.damage.bytes;
        damage.missing += batch.damage.missing;
        damage.records += batch.damage.records;
        if batch.is_empty() && batch.damage == Damage::default() {
            return (payloads, damage);
        }
    }
}

fn payloads(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| format!("{n:08}").into_bytes().repeat(bytes / 8))
        .collect()
}

fn chunk_files(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "chunk"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_appended_is_read_in_order_across_chunks_and_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = payloads(20, 100_000);
    let spool = open(dir.path());
    assert!(append(&spool, &written[..15]).iter().all(Result::is_ok));
    assert_eq!(all(&spool, Position::default()).0, written[..15]);
    spool.close();
    drop(spool);
    let spool = open(dir.path());
    assert!(append(&spool, &written[15..]).iter().all(Result::is_ok));
    assert_eq!(
        all(&spool, Position::default()),
        (written, Damage::default())
    );
    assert_eq!(chunk_files(dir.path()).len(), 3);
    let reports = verify(dir.path(), &RealDisk).expect("a spool");
    assert_eq!(reports.iter().map(|report| report.records).sum::<u64>(), 20);
    assert!(!reports.iter().any(ChunkReport::is_damaged));
}

#[test]
fn a_full_spool_refuses_and_takes_again_once_chunks_are_released() {
    for by in BY_EACH {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = open(dir.path());
        let outcomes = append_by(by, &spool, &payloads(50, 100_000));
        let taken = outcomes
            .iter()
            .take_while(|outcome| outcome.is_ok())
            .count();
        assert_eq!(taken, 40);
        assert!(
            outcomes[taken..]
                .iter()
                .all(|outcome| *outcome == Err(AppendError::Full))
        );
        assert!(spool.is_full());
        assert_eq!(spool.used_bytes(), 4 * CHUNK_BYTES);
        spool
            .release(spool.committed_position())
            .expect("chunks can be deleted");
        assert_eq!(spool.used_bytes(), CHUNK_BYTES);
        assert_eq!(append_by(by, &spool, &payloads(1, 100_000)), [Ok(())]);
        assert!(!spool.is_full());
    }
}

#[test]
fn a_chunk_number_is_never_used_twice_so_no_position_is_ahead_of_new_records() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 1..=4 {
        let spool = open(dir.path());
        let before = spool.committed_position();
        assert_eq!(append(&spool, &payloads(1, 8)), [Ok(())]);
        assert_eq!(spool.committed_position().chunk, round);
        assert_eq!(all(&spool, before).0.len(), 1);
        spool
            .release(spool.committed_position())
            .expect("chunks can be deleted");
        spool.close();
    }
    assert_eq!(chunk_files(dir.path()).len(), 1);
}

#[test]
fn a_spool_that_was_emptied_by_hand_is_another_spool() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    append(&spool, &payloads(1, 8));
    let id = spool.id();
    spool.close();
    drop(spool);
    let spool = open(dir.path());
    assert_eq!(spool.id(), id);
    spool.close();
    drop(spool);
    for file in chunk_files(dir.path()) {
        std::fs::remove_file(file).expect("removed");
    }
    assert_ne!(open(dir.path()).id(), id);
}

#[test]
fn many_starts_do_not_fill_the_spool() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..20 {
        let spool = open(dir.path());
        assert_eq!(append(&spool, &payloads(1, 8)), [Ok(())]);
        spool.close();
    }
    assert_eq!(all(&open(dir.path()), Position::default()).0.len(), 20);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    let second = Spool::open(options(dir.path()), Arc::new(RealDisk), Box::new(Quiet));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    spool.close();
    for by in BY_EACH {
        let refused = append_by(by, &spool, &payloads(1, 8));
        assert_eq!(refused, [Err(AppendError::Closed)]);
    }
}

#[test]
fn what_a_killed_process_was_starting_keeps_nobody_out_for_long() {
    let dir = tempfile::tempdir().expect("a directory");
    let lock = std::fs::File::create(dir.path().join("lock")).expect("a file");
    lock.lock().expect("the lock");
    let opening = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || open(&dir)
    });
    // Whoever comes only once it is free waits for nothing.
    std::thread::sleep(Duration::from_millis(50));
    drop(lock);
    opening.join().expect("the spool opens").close();
}

#[test]
fn a_record_that_is_empty_or_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    let outcomes = append(
        &spool,
        &[
            vec![1],
            vec![],
            vec![2; RECORD_BYTES_MAX + 1],
            vec![3; RECORD_BYTES_MAX],
        ],
    );
    let too_large = Err(AppendError::TooLarge);
    assert_eq!(outcomes, [Ok(()), too_large, too_large, Ok(())]);
    assert_eq!(all(&spool, Position::default()).0.len(), 2);
}

#[test]
fn a_torn_tail_ends_the_chunk_wherever_it_is_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = payloads(4, 64);
    let spool = open(dir.path());
    append(&spool, &written);
    let end = spool.committed_position().offset;
    spool.close();
    drop(spool);
    let file = chunk_files(dir.path()).remove(0);
    let sound = std::fs::read(&file).expect("the chunk");
    for cut in end - 72..end {
        let mut bytes = sound.clone();
        bytes[usize::try_from(cut).expect("small")..].fill(0);
        std::fs::write(&file, &bytes).expect("written");
        let report = &verify(dir.path(), &RealDisk).expect("a spool")[0];
        assert_eq!((report.records, report.torn_bytes > 0), (3, cut > end - 72));
        let spool = open(dir.path());
        assert_eq!(
            all(&spool, Position::default()),
            (written[..3].to_vec(), Damage::default())
        );
        let report = &verify(dir.path(), &RealDisk).expect("a spool")[0];
        assert!(!report.is_damaged(), "the torn tail is cut off");
        assert_eq!(spool.used_bytes(), end - 72);
        spool.close();
    }
}

#[test]
fn any_flipped_byte_costs_one_record_at_the_most_and_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = payloads(12, 40);
    let spool = open(dir.path());
    append(&spool, &written);
    let end = usize::try_from(spool.committed_position().offset).expect("small");
    spool.close();
    drop(spool);
    let file = chunk_files(dir.path()).remove(0);
    let sound = std::fs::read(&file).expect("the chunk");
    // A second chunk says where the first one ends: what is damaged before it is corrupt, not torn.
    let spool = open(dir.path());
    append(&spool, &[b"next".to_vec()]);
    spool.close();
    drop(spool);
    for at in 128..end {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&file, &bytes).expect("written");
        let spool = open(dir.path());
        let (read, damage) = all(&spool, Position::default());
        let mut expected = written.clone();
        expected.remove((at - 128) / 48);
        expected.push(b"next".to_vec());
        assert_eq!(read, expected, "byte {at}");
        assert_eq!(
            damage,
            Damage {
                regions: 1,
                bytes: 48,
                missing: 0,
                records: 1,
            },
            "byte {at}"
        );
        spool.close();
        let report = &verify(dir.path(), &RealDisk).expect("a spool")[0];
        assert_eq!(report.records, 11);
        assert_eq!((report.corrupt.regions, report.corrupt.bytes), (1, 48));
    }
}

/// A real disk whose writes and syncs of chunks fail at one call.
struct Faulty {
    calls: Arc<AtomicUsize>,
    fails_at: usize,
}

struct FaultyFile {
    inner: Box<dyn DiskFile>,
    calls: Arc<AtomicUsize>,
    fails_at: usize,
}

impl FaultyFile {
    fn call(&self) -> io::Result<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.fails_at {
            return Err(io::Error::other("a fault on purpose"));
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)?;
        self.call()
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.call()
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.inner.truncate(bytes)
    }
}

impl Disk for Faulty {
    fn create_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn lock(&self, path: &std::path::Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        RealDisk.lock(path)
    }
    fn list(&self, dir: &std::path::Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(dir)
    }
    fn create(&self, path: &std::path::Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let inner = RealDisk.create(path, bytes)?;
        Ok(Box::new(FaultyFile {
            inner,
            calls: Arc::clone(&self.calls),
            fails_at: self.fails_at,
        }))
    }
    fn open(&self, path: &std::path::Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn open_to_write(&self, path: &std::path::Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open_to_write(path)
    }
    fn remove(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        RealDisk.remove_dir(dir)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn sync_dir(&self, dir: &std::path::Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
}

#[test]
fn whichever_write_or_sync_fails_what_was_acknowledged_is_read_once_and_nothing_twice() {
    // The ID's file takes the first two calls, each chunk two for its header, each group two.
    for (fails_at, by) in (2..24).flat_map(|at| BY_EACH.map(|by| (at, by))) {
        let dir = tempfile::tempdir().expect("a directory");
        let written = payloads(10, 64);
        let calls = Arc::new(AtomicUsize::new(0));
        let disk = Faulty {
            calls: Arc::clone(&calls),
            fails_at,
        };
        let spool = Spool::open(options(dir.path()), Arc::new(disk), Box::new(Quiet))
            .expect("the spool opens");
        let outcomes = append_by(by, &spool, &written);
        assert!(
            calls.load(Ordering::Relaxed) > fails_at,
            "the fault was reached"
        );
        let acknowledged: Vec<_> = written
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(payload, _)| payload.clone())
            .collect();
        assert_eq!(
            all(&spool, Position::default()),
            (acknowledged.clone(), Damage::default())
        );
        spool.close();
        drop(spool);
        let spool = open(dir.path());
        assert_eq!(
            all(&spool, Position::default()),
            (acknowledged, Damage::default()),
            "{fails_at}, {by:?}"
        );
    }
}

#[test]
fn a_hit_that_arrives_while_a_group_syncs_is_in_the_next_and_all_are_woken() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let spool = spool.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .expect("a runtime");
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async {
                    let appender = spool.appender();
                    tokio::task::spawn_local(appender.deliver());
                    let mut tasks = tokio::task::JoinSet::new();
                    for hit in 0..500 {
                        let appender = appender.clone();
                        tasks.spawn_local(async move {
                            let text = format!("{thread} {hit}");
                            appender
                                .append(|out| out.extend_from_slice(text.as_bytes()))
                                .expect("room")
                                .await
                        });
                    }
                    tasks
                        .join_all()
                        .await
                        .into_iter()
                        .all(|outcome| outcome.is_ok())
                })
            })
        })
        .collect();
    assert!(
        threads
            .into_iter()
            .all(|thread| thread.join().expect("no panic"))
    );
    let mut read = all(&spool, Position::default()).0;
    read.sort();
    read.dedup();
    assert_eq!(read.len(), 2000);
}

#[test]
fn a_spool_restored_from_an_older_copy_is_not_read_where_its_new_records_would_be_skipped() {
    let dir = tempfile::tempdir().expect("a directory");
    let older = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    append(&spool, &[vec![1; 10]]);
    spool.close();
    drop(spool);
    for entry in std::fs::read_dir(dir.path()).expect("the spool") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), older.path().join(entry.file_name())).expect("a copy");
    }
    // The life that the copy does not know: another chunk, which was loaded.
    let spool = open(dir.path());
    append(&spool, &[vec![2; 10]]);
    let loaded = spool.committed_position();
    assert_eq!(spool.check_start(Position::default()), Ok(()));
    assert_eq!(spool.check_start(loaded), Ok(()), "what came since counts");
    spool.close();
    drop(spool);

    let restored = open(older.path());
    append(&restored, &[vec![3; 10]]);
    assert!(restored.committed_position().chunk >= loaded.chunk);
    assert!(restored.check_start(loaded).is_err());
    append(&restored, &[vec![4; 10]]);
    assert!(restored.check_start(loaded).is_err(), "however often");
}

/// How many records each group had.
#[derive(Clone, Default)]
struct Groups(Arc<Mutex<Vec<u64>>>);

impl Observer for Groups {
    fn note_commit(&self, records: u64, _: Duration, _: Duration) {
        lock(&self.0).push(records);
    }
    fn note_failure(&self, _: &io::Error) {}
}

#[test]
fn hits_are_gathered_while_many_arrive_and_a_hit_among_few_waits_for_no_other() {
    const HOUR: Duration = Duration::from_secs(3600);
    let dir = tempfile::tempdir().expect("a directory");
    let groups = Groups::default();
    let pauses = Pauses {
        gather: HOUR,
        busy: HOUR,
        ..PAUSES
    };
    let observer = Box::new(groups.clone());
    let spool = Spool::open_with(options(dir.path()), Arc::new(RealDisk), observer, pauses)
        .expect("the spool opens");
    let few = append(&spool, &payloads(3, 100));
    assert!(few.iter().all(Result::is_ok));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let appender = spool.appender();
        tokio::task::spawn_local(appender.deliver());
        let hit = |out: &mut Vec<u8>| out.extend_from_slice(b"hit");
        let many = appender.append_all([hit; 100]).expect("room");
        assert_eq!(many.await, Ok(()));
        let gathered = [appender.append(hit), appender.append(hit)];
        // The end waits for no more.
        spool.close();
        for pending in gathered {
            assert_eq!(pending.expect("room").await, Ok(()));
        }
    });
    assert_eq!(*lock(&groups.0), [1, 1, 1, 100, 2]);
}
