//! Room that spools share, and what is removed for it.

use super::*;

#[test]
fn spools_share_their_room_and_one_makes_way_with_what_it_only_keeps() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = Room::new(4 * CHUNK_BYTES);
    let [one, other] = ["one", "other"].map(|name| {
        let options = Options {
            room: room.clone(),
            keep: Duration::from_secs(3600),
            ..options(&dir.path().join(name))
        };
        Spool::open(options, Arc::new(RealDisk), Box::new(Quiet)).expect("the spool opens")
    });
    // Ten records fill a chunk: three chunks.
    assert!(
        append(&one, &payloads(30, 100_000))
            .iter()
            .all(Result::is_ok)
    );
    assert!(
        append(&other, &payloads(10, 100_000))
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(room.used_bytes(), 4 * CHUNK_BYTES);
    let full = append(&other, &payloads(1, 100_000));
    assert_eq!(full, [Err(AppendError::Full)], "nothing may be deleted");
    one.release(one.committed_position())
        .expect("two chunks are loaded");
    assert!(
        append(&other, &payloads(20, 100_000))
            .iter()
            .all(Result::is_ok)
    );
    let full = append(&other, &payloads(1, 100_000));
    assert_eq!(
        full,
        [Err(AppendError::Full)],
        "the last chunk is not loaded"
    );
    assert_eq!(room.used_bytes(), 4 * CHUNK_BYTES);
    assert_eq!(all(&other, Position::default()).0.len(), 30);
}

#[test]
fn a_spool_that_was_read_to_its_end_can_be_removed_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shard");
    let spool = Spool::open(options(&path), Arc::new(RealDisk), Box::new(Quiet));
    let spool = spool.expect("the spool opens");
    assert_eq!(spool.first().expect("the disk works"), None);
    append(&spool, &payloads(15, 100_000));
    let (first, records) = spool.first().expect("the disk works").expect("a chunk");
    assert_eq!((first.chunk, records), (1, 0));
    spool
        .release(spool.committed_position())
        .expect("a chunk is loaded");
    let (first, records) = spool.first().expect("the disk works").expect("a chunk");
    assert_eq!(first.chunk, 2);
    assert_eq!(all(&spool, first).0.len(), 15 - records as usize);
    let before = spool.committed_position();
    append(&spool, &payloads(1, 8));
    spool.close();
    std::fs::write(path.join("beside"), "of its owner").expect("a file");
    assert!(!spool.remove(before, &[]).expect("nothing to do"));
    assert!(path.exists());
    assert!(
        spool
            .remove(spool.committed_position(), &["beside"])
            .expect("it goes")
    );
    assert!(!path.exists());
    assert_eq!(spool.used_bytes(), 0);
}
