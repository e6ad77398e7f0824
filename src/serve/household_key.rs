//! The file of the key of households: on the volume of the spool, and nowhere else. Whoever has it
//! can find the address of each sighting of the epoch, and so can whoever has a backup of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::keys::{HouseholdKey, epoch_of};

/// The file, in the folder of the spool.
const FILE: &str = "household.key";

/// Returns the file of a spool.
pub(crate) fn path(spool: &Path) -> PathBuf {
    spool.join(FILE)
}

/// Reads the key; `None` if there is no file.
///
/// # Errors
/// Where the file is damaged, or others may read it.
pub(crate) fn read(spool: &Path) -> anyhow::Result<Option<HouseholdKey>> {
    let path = path(spool);
    let describe = || format!("the key in {}", path.display());
    let metadata = match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.with_context(describe)?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{}: others may read it ({mode:o}); 600 would be right",
        describe()
    );
    let text = std::fs::read_to_string(&path).with_context(describe)?;
    let key = HouseholdKey::parse(&text).context("it is damaged");
    key.map(Some).with_context(describe)
}

/// Makes the first key, on a UTC day since 1970.
///
/// # Errors
/// Where there is a file already, or it cannot be written.
pub(crate) fn make(spool: &Path, day: i32) -> anyhow::Result<HouseholdKey> {
    anyhow::ensure!(read(spool)?.is_none(), "there is a key already");
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("making a key")?;
    let key = HouseholdKey::new(epoch_of(day), day, secret);
    std::fs::create_dir_all(spool)?;
    replace(spool, &key)?;
    Ok(key)
}

/// Returns the key that is in force on a UTC day since 1970, and replaces the file where the next
/// one is due. `may_step` says whether the clocks can be believed.
///
/// # Errors
/// Where the file cannot be read or written; then it is as it was.
pub(crate) fn keep_up(
    spool: &Path,
    day: i32,
    may_step: bool,
) -> anyhow::Result<Option<HouseholdKey>> {
    let Some(key) = read(spool)? else {
        return Ok(None);
    };
    let Some(next) = key.due(day).filter(|_| may_step) else {
        return Ok(Some(key));
    };
    replace(spool, &next).with_context(|| format!("replacing {}", path(spool).display()))?;
    Ok(Some(next))
}

/// Puts a key in the place of the one before: at any moment the file is the one or the other. Then
/// the one before is overwritten, because its blocks are still on the disk.
fn replace(spool: &Path, key: &HouseholdKey) -> io::Result<()> {
    let path = path(spool);
    let before = OpenOptions::new().write(true).open(&path).ok();
    write_new(spool, key)?;
    std::fs::rename(path.with_extension("new"), &path)?;
    File::open(spool)?.sync_all()?;
    if let Some(mut before) = before {
        let length = before.metadata()?.len();
        before.rewind()?;
        io::copy(&mut io::Read::take(io::repeat(0), length), &mut before)?;
        before.sync_all()?;
    }
    Ok(())
}

fn write_new(spool: &Path, key: &HouseholdKey) -> io::Result<()> {
    let new = path(spool).with_extension("new");
    // What a crash left may have other permissions.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(key.to_text().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const EPOCH: i32 = 1_500;
    const FIRST_DAY: i32 = EPOCH * 14;

    fn text(spool: &Path) -> String {
        std::fs::read_to_string(path(spool)).unwrap()
    }

    #[test]
    fn the_file_holds_the_current_key_alone_and_only_its_owner_may_read_it() {
        let spool = tempfile::tempdir().unwrap();
        assert!(keep_up(spool.path(), FIRST_DAY, true).unwrap().is_none());
        let first = make(spool.path(), FIRST_DAY).unwrap();
        assert!(make(spool.path(), FIRST_DAY).is_err());
        let before = OpenOptions::new()
            .read(true)
            .open(path(spool.path()))
            .unwrap();
        let next = keep_up(spool.path(), FIRST_DAY + 14, true)
            .unwrap()
            .unwrap();
        assert_eq!(next.epoch(), first.epoch() + 1);
        assert_eq!(text(spool.path()), next.to_text());
        let mode = std::fs::metadata(path(spool.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 1);
        // Nothing is left of the old one on the disk either.
        let left = io::read_to_string(before).unwrap();
        assert!(left.bytes().all(|byte| byte == 0), "{left:?}");
    }

    #[test]
    fn a_clock_that_jumps_destroys_no_key() {
        let spool = tempfile::tempdir().unwrap();
        let first = make(spool.path(), FIRST_DAY).unwrap();
        for day in [FIRST_DAY - 400, FIRST_DAY + 400] {
            // The clocks disagree, or one of them has just jumped.
            let key = keep_up(spool.path(), day, false).unwrap().unwrap();
            assert_eq!(key.to_text(), first.to_text());
        }
        let back = keep_up(spool.path(), FIRST_DAY - 400, true)
            .unwrap()
            .unwrap();
        assert_eq!(back.to_text(), first.to_text());
        // Whatever was believed wrongly, one step a day is taken.
        for _ in 0..3 {
            let ahead = keep_up(spool.path(), FIRST_DAY + 400, true)
                .unwrap()
                .unwrap();
            assert_eq!(ahead.epoch(), first.epoch() + 1);
        }
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_one_whole_key() {
        let spool = tempfile::tempdir().unwrap();
        let first = make(spool.path(), FIRST_DAY).unwrap();
        let due = first.due(FIRST_DAY + 14).unwrap();
        // Killed while it wrote, with whatever permissions, and before it renamed.
        let new = path(spool.path()).with_extension("new");
        for left in ["", "avtryck-household-1 15", &due.to_text()] {
            std::fs::write(&new, left).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(
                read(spool.path()).unwrap().unwrap().to_text(),
                first.to_text()
            );
        }
        // The next run goes on, and comes to the same key.
        let next = keep_up(spool.path(), FIRST_DAY + 14, true)
            .unwrap()
            .unwrap();
        assert_eq!(next.to_text(), due.to_text());
        // Killed after it renamed: nothing is left to do.
        let again = keep_up(spool.path(), FIRST_DAY + 14, true)
            .unwrap()
            .unwrap();
        assert_eq!(again.to_text(), due.to_text());
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_damaged_is_refused() {
        let spool = tempfile::tempdir().unwrap();
        make(spool.path(), FIRST_DAY).unwrap();
        for mode in [0o644, 0o640, 0o660, 0o604, 0o601] {
            let wrong = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path(spool.path()), wrong).unwrap();
            let error = keep_up(spool.path(), FIRST_DAY + 14, true).err().unwrap();
            assert!(
                error.to_string().contains("600 would be right"),
                "{error:#}"
            );
        }
        std::fs::set_permissions(path(spool.path()), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        std::fs::write(path(spool.path()), "nonsense").unwrap();
        assert!(read(spool.path()).is_err());
    }
}
