//! The spool's chunks: read and reported on whatever is in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use spool::{
    Ack, AppendError, Batch, Damage, Disk, DiskFile, Observer, Options, Position, RECORD_BYTES_MAX,
    Spool, verify,
};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

const DIR: &str = "/spool";
const ID: [u8; 16] = *b"the spool's ID..";
const HEADER_BYTES: usize = 128;
const FRAME_BYTES: usize = 8;

/// With a first byte of 0 the rest is a spool's last chunk; else it is damage to a sound one: an
/// offset of two bytes and what to flip there, and so on.
pub fn chunk(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, bytes)) => anything(bytes),
        Some((_, edits)) => damaged(edits),
        None => {}
    }
}

/// What a naive reader finds is found, and what is no record is counted.
fn anything(bytes: &[u8]) {
    let (expected, end, corrupt_bytes) = scan(bytes);
    let disk = MemoryDisk::holding(&[bytes.to_vec()]);
    let report = verify(Path::new(DIR), &disk).expect("a spool").remove(0);
    assert_eq!(report.records, expected.len() as u64);
    assert_eq!(report.corrupt.bytes, corrupt_bytes);
    let spool = open(&disk);
    let (mut read, mut damage) = read(&spool);
    // A header that is damaged in both copies counts too.
    if damage.bytes == corrupt_bytes + HEADER_BYTES as u64 {
        assert!(!report.header_is_sound);
        damage.bytes = corrupt_bytes;
    }
    assert_eq!(read, expected);
    assert_eq!(damage.bytes, corrupt_bytes);
    assert!(spool.torn_bytes() <= bytes.len().saturating_sub(end) as u64);
    // The spool goes on behind it.
    assert_eq!(append(&spool, b"behind"), Ok(()));
    read.push(b"behind".to_vec());
    assert_eq!(self::read(&spool).0, read);
    spool.close();
}

/// Each record is read that was not damaged, the others are counted, and none is made up.
fn damaged(edits: &[u8]) {
    let written: Vec<Vec<u8>> = (1..=12_usize)
        .map(|number| format!("{number:03}").into_bytes().repeat(number * 7))
        .collect();
    let sound = encode(1, [0, 0, 0], &written);
    let mut bytes = sound.clone();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] ^= edit[2];
    }
    let next = encode(2, [1, sound.len() as u64, 12], &[b"next".to_vec()]);
    let disk = MemoryDisk::holding(&[bytes.clone(), next]);
    let mut at = HEADER_BYTES;
    let mut expected = written;
    expected.retain(|payload| {
        let frame = at..at + FRAME_BYTES + payload.len();
        at = frame.end;
        bytes[frame.clone()] == sound[frame]
    });
    let lost = 12 - expected.len() as u64;
    let reports = verify(Path::new(DIR), &disk).expect("a spool");
    assert_eq!(reports[0].records, expected.len() as u64);
    assert_eq!(reports[0].is_damaged(), bytes != sound);
    assert!(!reports[1].is_damaged());
    expected.push(b"next".to_vec());
    let spool = open(&disk);
    let (read, damage) = read(&spool);
    assert_eq!(read, expected);
    assert_eq!(damage.records, lost);
    assert_eq!(damage.missing, 0);
    spool.close();
}

/// The records of a last chunk, where the last of them ends, and the bytes before that which are
/// none: straight from the format's description, byte by byte.
fn scan(bytes: &[u8]) -> (Vec<Vec<u8>>, usize, u64) {
    let (mut records, mut end, mut corrupt, mut skipped) = (Vec::new(), HEADER_BYTES, 0, 0);
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        match record(&bytes[at..]) {
            Some(payload) => {
                records.push(payload.to_vec());
                at += FRAME_BYTES + payload.len();
                end = at;
                corrupt += std::mem::take(&mut skipped);
            }
            None => {
                at += 1;
                skipped += 1;
            }
        }
    }
    (records, end, corrupt)
}

fn record(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    let payload = bytes.get(FRAME_BYTES..FRAME_BYTES + usize::try_from(length).ok()?)?;
    let is_sound = (1..=RECORD_BYTES_MAX).contains(&payload.len())
        && bytes[4..FRAME_BYTES] == crc(length, payload).to_le_bytes();
    is_sound.then_some(payload)
}

fn crc(length: u32, payload: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&ID), &length.to_le_bytes());
    crc32c::crc32c_append(head, payload)
}

/// A chunk as the format says. `before` is the chunk before, where that ends, and the records
/// before.
fn encode(number: u64, before: [u64; 3], payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut rest = ID.to_vec();
    for number in [number].iter().chain(&before) {
        rest.extend_from_slice(&number.to_le_bytes());
    }
    let start = *b"AVTRYCK\n\x01\0\0\0";
    let crc_of_header = crc32c::crc32c_append(crc32c::crc32c(&start), &rest);
    let copy = [&start[..], &crc_of_header.to_le_bytes(), &rest].concat();
    let mut bytes = copy.repeat(2);
    for payload in payloads {
        let length = u32::try_from(payload.len()).expect("a small record");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc(length, payload).to_le_bytes());
        bytes.extend_from_slice(payload);
    }
    bytes
}

struct Quiet;

impl Observer for Quiet {
    fn note_commit(&self, _: u64, _: Duration, _: Duration) {}
    fn note_failure(&self, error: &io::Error) {
        panic!("memory does not fail: {error}");
    }
}

fn open(disk: &MemoryDisk) -> Spool {
    let options = Options {
        dir: DIR.into(),
        ack: Ack::Disk,
        room: spool::Room::new(64 << 20),
        chunk_bytes: 4096,
        keep: Duration::ZERO,
    };
    Spool::open(options, Arc::new(disk.clone()), Box::new(Quiet)).expect("a spool opens")
}

/// All payloads, and all damage on the way.
fn read(spool: &Spool) -> (Vec<Vec<u8>>, Damage) {
    let mut reader = spool.reader(Position::default(), 0);
    let mut batch = Batch::default();
    let (mut payloads, mut damage) = (Vec::new(), Damage::default());
    loop {
        reader.read(&mut batch, 5, 1 << 20).expect("memory reads");
        payloads.extend(batch.records().map(|(_, payload)| payload.to_vec()));
        damage.regions += batch.damage.regions;
        damage.bytes += batch.damage.bytes;
        damage.missing += batch.damage.missing;
        damage.records += batch.damage.records;
        if batch.is_empty() && !batch.damage.is_some() {
            return (payloads, damage);
        }
    }
}

fn append(spool: &Spool, payload: &[u8]) -> Result<(), AppendError> {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let appender = spool.appender();
        spawn_local(appender.deliver());
        appender.append(|out| out.extend_from_slice(payload))?.await
    })
}

type Content = Arc<Mutex<Vec<u8>>>;

/// Files in memory.
#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

struct MemoryFile(Content);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// A spool's files: its ID, and chunks from number 1 on.
    fn holding(chunks: &[Vec<u8>]) -> MemoryDisk {
        let disk = MemoryDisk::default();
        let id = format!("{:032x}\n", u128::from_be_bytes(ID));
        disk.put("id".to_owned(), id.into_bytes());
        for (number, bytes) in (1..).zip(chunks) {
            disk.put(format!("{number:016x}.chunk"), bytes.clone());
        }
        disk
    }

    fn put(&self, name: String, bytes: Vec<u8>) {
        let content = Arc::new(Mutex::new(bytes));
        lock(&self.0).insert(Path::new(DIR).join(name), content);
    }

    fn find(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let found = lock(&self.0).get(path).cloned();
        let content = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile(content)))
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        Ok(Some(Box::new(())))
    }
    fn list(&self, _: &Path) -> io::Result<Vec<(String, u64)>> {
        let files = lock(&self.0);
        let name = |path: &Path| path.file_name().map(|name| name.display().to_string());
        let size = |content: &Content| lock(content).len() as u64;
        let entries = files.iter();
        Ok(entries
            .filter_map(|(path, content)| Some((name(path)?, size(content))))
            .collect())
    }
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        let content = Arc::new(Mutex::new(vec![0; size]));
        lock(&self.0).insert(path.to_owned(), Arc::clone(&content));
        Ok(Box::new(MemoryFile(content)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.find(path)
    }
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.find(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).remove(path);
        Ok(())
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.0);
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.0);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let there = content.get(from..).unwrap_or_default();
        let length = there.len().min(bytes.len());
        bytes[..length].copy_from_slice(&there[..length]);
        Ok(length)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = lock(&self.0);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[from..end].copy_from_slice(bytes);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        lock(&self.0).resize(usize::try_from(bytes).map_err(io::Error::other)?, 0);
        Ok(())
    }
}
