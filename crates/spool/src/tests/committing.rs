//! An appending thread that commits by itself, and when it leaves that to the spool's thread.

use std::sync::Condvar;

use super::*;

/// A real disk whose syncs of groups wait while a gate is shut.
#[derive(Clone)]
struct Gated(Arc<Gate>);

#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn set_shut(&self, is_shut: bool) {
        *lock(&self.is_shut) = is_shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let shut = lock(&self.is_shut);
        drop(
            self.opened
                .wait_while(shut, |shut| *shut)
                .expect("no panic"),
        );
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

struct GatedFile(Box<dyn DiskFile>, Arc<Gate>);

impl DiskFile for GatedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
}

impl Disk for Gated {
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
        let file = RealDisk.create(path, bytes)?;
        Ok(Box::new(GatedFile(file, Arc::clone(&self.0))))
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

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

fn put(out: &mut Vec<u8>) {
    out.extend_from_slice(b"hit");
}

/// Waits for other threads without ever stopping this one.
async fn until(check: impl Fn() -> bool) {
    while !check() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_tasks_append_that_are_ready_together_is_one_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let groups = Groups::default();
    let observer = Box::new(groups.clone());
    let spool = Spool::open(options(dir.path()), Arc::new(RealDisk), observer).expect("it opens");
    block_on(async {
        let appender = spool.committing_appender();
        tokio::task::spawn_local(appender.deliver());
        for _ in 0..3 {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let appender = appender.clone();
                tasks.spawn_local(async move { appender.append(put).expect("room").await });
            }
            let outcomes = tasks.join_all().await;
            assert!(outcomes.iter().all(Result::is_ok));
        }
    });
    assert_eq!(*lock(&groups.0), [50, 50, 50]);
}

#[test]
fn after_a_sync_that_stalled_the_thread_goes_on_while_others_stall() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = Arc::<Gate>::default();
    let pauses = Pauses {
        stall: Duration::ZERO,
        ..PAUSES
    };
    let disk = Arc::new(Gated(Arc::clone(&gate)));
    let spool = Spool::open_with(options(dir.path()), disk, Box::new(Quiet), pauses);
    let spool = spool.expect("it opens");
    block_on(async {
        let appender = spool.committing_appender();
        tokio::task::spawn_local(appender.deliver());
        // Every sync counts as a stall.
        assert_eq!(appender.append(put).expect("room").await, Ok(()));
        gate.set_shut(true);
        let first = appender.append(put).expect("room");
        until(|| gate.waiting.load(Ordering::SeqCst) == 1).await;
        let second = appender.append(put).expect("room");
        gate.set_shut(false);
        assert_eq!(first.await, Ok(()));
        assert_eq!(second.await, Ok(()));
    });
    assert_eq!(all(&spool, Position::default()).0.len(), 3);
}

#[test]
fn once_syncs_are_quick_again_the_thread_commits_by_itself_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let gate = Arc::<Gate>::default();
    let pauses = Pauses {
        stall: Duration::from_millis(300),
        ..PAUSES
    };
    let disk = Arc::new(Gated(Arc::clone(&gate)));
    let spool = Spool::open_with(options(dir.path()), disk, Box::new(Quiet), pauses);
    let spool = spool.expect("it opens");
    gate.set_shut(true);
    let opener = {
        let (gate, stall) = (Arc::clone(&gate), pauses.stall);
        std::thread::spawn(move || {
            while gate.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let since = std::time::Instant::now();
            while since.elapsed() <= stall {
                std::thread::yield_now();
            }
            gate.set_shut(false);
        })
    };
    block_on(async {
        let appender = spool.committing_appender();
        tokio::task::spawn_local(appender.deliver());
        assert_eq!(appender.append(put).expect("room").await, Ok(()));
        assert!(spool.stalls());
        let mut more = 0;
        while spool.stalls() {
            assert_eq!(appender.append(put).expect("room").await, Ok(()));
            more += 1;
            assert!(more < 1000);
        }
        assert!(more > 10, "{more}");
        assert_eq!(appender.append(put).expect("room").await, Ok(()));
    });
    opener.join().expect("no panic");
}

#[test]
fn an_empty_disk_that_a_thread_met_by_itself_is_tried_again_without_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let pauses = Pauses {
        probe: Duration::from_millis(1),
        ..PAUSES
    };
    let spool = Spool::open_with(
        options(dir.path()),
        Arc::new(RealDisk),
        Box::new(Quiet),
        pauses,
    );
    let spool = spool.expect("it opens");
    let outcomes = append_by(By::TheAppender, &spool, &payloads(41, 100_000));
    assert_eq!(outcomes.last(), Some(&Err(AppendError::Full)));
    assert!(spool.is_full());
    let end = spool.committed_position();
    spool.release(end).expect("chunks can be deleted");
    block_on(until(|| !spool.is_full()));
}

#[test]
fn what_waits_when_the_spool_is_closed_is_refused_and_never_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = open(dir.path());
    block_on(async {
        let appender = spool.committing_appender();
        tokio::task::spawn_local(appender.deliver());
        assert_eq!(appender.append(put).expect("room").await, Ok(()));
        let pending = appender.append(put).expect("room");
        spool.close();
        assert_eq!(pending.await, Err(AppendError::Closed));
    });
    assert_eq!(all(&spool, Position::default()).0.len(), 1);
}
