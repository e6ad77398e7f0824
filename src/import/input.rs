//! The files of an import on disk: which may be read, and what one is known by.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Manifest;

/// Checks that the files can be read twice, and that the file of rejects is not one of them.
/// It opens nothing. A path that leads nowhere is right here: whoever opens it says so.
///
/// # Errors
/// What is wrong, and what would be right.
pub(crate) fn check_paths(
    files: &[PathBuf],
    manifest: &Path,
    rejects: Option<&Path>,
) -> Result<(), String> {
    for path in files {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(format!(
                "{}: is no regular file, and a file is read more than once; a file on disk would be right",
                path.display()
            ));
        }
    }
    let Some(rejects) = rejects else {
        return Ok(());
    };
    let mut read = files.iter().map(PathBuf::as_path).chain([manifest]);
    match read.find(|path| is_same(path, rejects)) {
        None => Ok(()),
        Some(path) => Err(format!(
            "--rejects {}: is {}, which would be overwritten; another file would be right",
            rejects.display(),
            path.display()
        )),
    }
}

/// Returns whether two paths lead to one file, also by links.
fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    let plain = |path: &Path| fs::canonicalize(path).ok();
    let is_same_number = number(one).is_some_and(|found| number(other) == Some(found));
    is_same_number || plain(one).is_some_and(|found| plain(other) == Some(found))
}

/// Returns what a file is known by: the digest of its bytes, and what the manifest makes of them.
/// So a file is taken again by a manifest that was corrected, and a run that was cut off under
/// another one is not continued.
///
/// # Errors
/// Never, as long as a manifest can be written as JSON.
pub(crate) fn identify(
    digest: &[u8; 32],
    manifest: &Manifest,
) -> Result<[u8; 32], serde_json::Error> {
    let mut hash = Sha256::new();
    hash.update(digest);
    hash.update(manifest.mapping()?);
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn rejects_never_go_into_a_file_that_is_read_whatever_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.csv", "b.csv", "m.toml", "other.csv"] {
            fs::write(at(name), name).unwrap();
        }
        fs::hard_link(at("b.csv"), at("hard.csv")).unwrap();
        symlink(at("m.toml"), at("soft.csv")).unwrap();
        fs::create_dir(at("below")).unwrap();
        let files = [at("a.csv"), at("b.csv")];
        let check = |rejects: &Path| check_paths(&files, &at("m.toml"), Some(rejects));
        for name in [
            "a.csv",
            "b.csv",
            "m.toml",
            "hard.csv",
            "soft.csv",
            "below/../a.csv",
        ] {
            let error = check(&at(name)).unwrap_err();
            assert!(error.contains("which would be overwritten"), "{error}");
        }
        for name in ["other.csv", "new.csv"] {
            assert_eq!(check(&at(name)), Ok(()), "{name}");
        }
        assert_eq!(check_paths(&files, &at("m.toml"), None), Ok(()));
    }

    #[test]
    fn what_can_be_read_only_once_is_no_file() {
        let manifest = Path::new("m.toml");
        let error = check_paths(&["/dev/null".into()], manifest, None).unwrap_err();
        assert!(error.contains("is no regular file"), "{error}");
        assert_eq!(check_paths(&["/nowhere".into()], manifest, None), Ok(()));
    }
}
