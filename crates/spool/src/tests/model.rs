//! A disk in memory that keeps what was written and what is durable apart.
//!
//! What a crash leaves: everything synced; of what was not, each write wholly, in part (by sectors
//! of 512 bytes, one of them torn) or not at all, in any combination; each change of a name or not.
//! After a failed sync the writes that it covered count as clean, as on Linux: some of them are
//! durable, the others never will be, and until the crash they are read as if they were.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::spool::lock;
use crate::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// Numbers from a seed: SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `limit` - 1.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A write stops in the middle.
    Write,
    /// A sync fails.
    Sync,
    /// A read fails.
    Read,
    /// No space is left.
    Space,
    /// The power goes.
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Create,
    Write,
    Sync,
    Read,
    Name,
}

enum Pending {
    Write(usize, Vec<u8>),
    Size(usize),
}

#[derive(Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

enum NameChange {
    Put(PathBuf, usize),
    Remove(PathBuf),
}

struct Model {
    random: Random,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    files: Vec<Content>,
    /// A fault, and how many calls that it could strike come before it.
    armed: Option<(Fault, u64)>,
    power_is_off: bool,
    is_locked: bool,
    calls: u64,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub(super) struct ModelDisk(Arc<Mutex<Model>>);

impl ModelDisk {
    pub(super) fn new(seed: u64) -> ModelDisk {
        ModelDisk(Arc::new(Mutex::new(Model {
            random: Random(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: Vec::new(),
            armed: None,
            power_is_off: false,
            is_locked: false,
            calls: 0,
        })))
    }

    /// Lets `fault` strike after so many calls that it could strike.
    pub(super) fn arm(&self, fault: Fault, after: u64) {
        lock(&self.0).armed = Some((fault, after));
    }

    pub(super) fn disarm(&self) {
        lock(&self.0).armed = None;
    }

    /// Whether the armed fault has not struck yet.
    pub(super) fn is_armed(&self) -> bool {
        lock(&self.0).armed.is_some()
    }

    /// Calls that could fail so far.
    pub(super) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    pub(super) fn power_off(&self) {
        lock(&self.0).power_is_off = true;
    }

    /// What a machine finds that starts again.
    pub(super) fn power_on(&self) {
        let mut model = lock(&self.0);
        let Model { random, files, .. } = &mut *model;
        for file in files {
            file.crash(random);
        }
        let changes = std::mem::take(&mut model.name_changes);
        let mut names = model.durable_names.clone();
        for change in changes {
            if model.random.one_in(2) {
                change.apply(&mut names);
            }
        }
        model.names.clone_from(&names);
        model.durable_names = names;
        model.armed = None;
        model.power_is_off = false;
        model.is_locked = false;
    }

    /// Changes what is stored of a file, behind everybody's back.
    pub(super) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut model = lock(&self.0);
        let id = model.names[path];
        let file = &mut model.files[id];
        change(&mut file.cached);
        file.durable.clone_from(&file.cached);
        file.pending.clear();
    }

    /// The chunks that there are.
    pub(super) fn chunks(&self) -> Vec<PathBuf> {
        let is_chunk = |path: &&PathBuf| path.extension().is_some_and(|end| end == "chunk");
        lock(&self.0)
            .names
            .keys()
            .filter(is_chunk)
            .cloned()
            .collect()
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Put(path, id) => drop(names.insert(path, id)),
            NameChange::Remove(path) => drop(names.remove(&path)),
        }
    }
}

impl Content {
    fn put(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
        let end = offset + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(new);
    }

    /// What is pending reaches the disk. What an earlier sync failed on is not pending any more.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Pending::Size(size) => self.durable.resize(size, 0),
                Pending::Write(offset, bytes) => Content::put(&mut self.durable, offset, &bytes),
            }
        }
    }

    /// Each pending change reaches the disk, or a part of it, or nothing.
    fn settle(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Pending::Size(size) if random.one_in(2) => self.durable.resize(size, 0),
                Pending::Size(_) => {}
                Pending::Write(offset, bytes) => match random.below(3) {
                    0 => Content::put(&mut self.durable, offset, &bytes),
                    1 => {}
                    _ => self.settle_sectors(offset, &bytes, random),
                },
            }
        }
    }

    fn settle_sectors(&mut self, offset: usize, bytes: &[u8], random: &mut Random) {
        let mut at = 0;
        while at < bytes.len() {
            let border = SECTOR_BYTES - (offset + at) % SECTOR_BYTES;
            let end = (at + border).min(bytes.len());
            let kept = match random.below(3) {
                0 => end,
                1 => at,
                _ => at + random.below((end - at) as u64) as usize,
            };
            Content::put(&mut self.durable, offset + at, &bytes[at..kept]);
            at = end;
        }
    }

    fn crash(&mut self, random: &mut Random) {
        self.settle(random);
        self.cached.clone_from(&self.durable);
    }
}

impl Model {
    /// Counts a call; says whether a fault strikes it.
    fn call(&mut self, call: Call) -> io::Result<()> {
        if self.power_is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.calls += u64::from(call != Call::Read);
        let Some((fault, after)) = self.armed else {
            return Ok(());
        };
        let strikes = match fault {
            Fault::Write => call == Call::Write,
            Fault::Sync => call == Call::Sync,
            Fault::Read => call == Call::Read,
            Fault::Space => matches!(call, Call::Write | Call::Create),
            Fault::Crash => call != Call::Read,
        };
        if !strikes {
            return Ok(());
        }
        if after > 0 {
            self.armed = Some((fault, after - 1));
            return Ok(());
        }
        self.armed = None;
        match fault {
            Fault::Crash => {
                self.power_is_off = true;
                Err(io::Error::other("the power went"))
            }
            Fault::Space => Err(io::ErrorKind::StorageFull.into()),
            _ => Err(io::Error::other("a fault on purpose")),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        match &change {
            NameChange::Put(path, id) => drop(self.names.insert(path.clone(), *id)),
            NameChange::Remove(path) => drop(self.names.remove(path)),
        }
        self.name_changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct ModelFile {
    disk: ModelDisk,
    id: usize,
}

struct ModelLock(ModelDisk);

impl Drop for ModelLock {
    fn drop(&mut self) {
        lock(&self.0.0).is_locked = false;
    }
}

impl Disk for ModelDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        lock(&self.0).call(Call::Name)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut model = lock(&self.0);
        if std::mem::replace(&mut model.is_locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(ModelLock(self.clone()))))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut model = lock(&self.0);
        model.call(Call::Read)?;
        let in_dir = model
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        Ok(in_dir
            .filter_map(|(path, id)| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((name, model.files[*id].cached.len() as u64))
            })
            .collect())
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut model = lock(&self.0);
        if model.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = model.files.len();
        let outcome = model.call(Call::Create);
        if model.power_is_off {
            return Err(io::Error::other("the power is off"));
        }
        // Where there is no space the file is there, without any.
        let bytes = if outcome.is_ok() { bytes as usize } else { 0 };
        model.files.push(Content {
            cached: vec![0; bytes],
            durable: Vec::new(),
            pending: vec![Pending::Size(bytes)],
        });
        model.change_name(NameChange::Put(path.to_owned(), id));
        outcome?;
        Ok(Box::new(ModelFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut model = lock(&self.0);
        model.call(Call::Read)?;
        let id = model.find(path)?;
        Ok(Box::new(ModelFile {
            disk: self.clone(),
            id,
        }))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut model = lock(&self.0);
        model.call(Call::Name)?;
        model.find(path)?;
        model.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut model = lock(&self.0);
        model.call(Call::Name)?;
        let id = model.find(from)?;
        model.change_name(NameChange::Remove(from.to_owned()));
        model.change_name(NameChange::Put(to.to_owned(), id));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut model = lock(&self.0);
        model.call(Call::Sync)?;
        model.durable_names = model.names.clone();
        model.name_changes.clear();
        Ok(())
    }
}

impl DiskFile for ModelFile {
    fn size(&self) -> io::Result<u64> {
        let mut model = lock(&self.disk.0);
        model.call(Call::Read)?;
        Ok(model.files[self.id].cached.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut model = lock(&self.disk.0);
        model.call(Call::Read)?;
        let cached = &model.files[self.id].cached;
        let rest = cached.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut model = lock(&self.disk.0);
        let outcome = model.call(Call::Write);
        let written = match outcome {
            Ok(()) => bytes.len(),
            Err(_) => model.random.below(bytes.len() as u64 + 1) as usize,
        };
        let offset = offset as usize;
        let file = &mut model.files[self.id];
        Content::put(&mut file.cached, offset, &bytes[..written]);
        file.pending
            .push(Pending::Write(offset, bytes[..written].to_vec()));
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut model = lock(&self.disk.0);
        let outcome = model.call(Call::Sync);
        let off = model.power_is_off;
        let Model { random, files, .. } = &mut *model;
        match outcome {
            Ok(()) => files[self.id].sync(),
            // The crash settles what is pending.
            Err(_) if off => {}
            Err(_) => files[self.id].settle(random),
        }
        outcome
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut model = lock(&self.disk.0);
        model.call(Call::Write)?;
        let file = &mut model.files[self.id];
        file.cached.resize(bytes as usize, 0);
        file.pending.push(Pending::Size(bytes as usize));
        Ok(())
    }
}
