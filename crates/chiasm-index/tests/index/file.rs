//! The index file: written whole or not at all, opened without reading it, refused by name when it is not what it should be.

use std::fs;
use std::path::{Path, PathBuf};

use chiasm_core::{Metric, SearchOptions, VectorIndex, Vectors};
use chiasm_index::{BuildError, ExactIndex, FileError, IndexWriter};

fn sample() -> (Vec<u64>, Vectors) {
    let data = (0..21).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
    (vec![2, 3, 5, 7, 11, 13, 17], Vectors::new(data, 3).unwrap())
}

fn write_sample(path: &Path, stamp: u64) {
    let (ids, vectors) = sample();
    ExactIndex::build(&ids, &vectors, Metric::InnerProduct).unwrap().write(path, stamp).unwrap();
}

fn v1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/index/exact-v1.idx")
}

#[test]
fn version_1_stays_openable_and_is_still_what_is_written() {
    let (index, stamp) = ExactIndex::open(&v1()).unwrap();
    index.verify().unwrap();
    let (ids, vectors) = sample();
    assert_eq!((stamp, index.ids(), index.metric(), index.dim()), (42, &ids[..], Metric::InnerProduct, 3));
    assert!((0..7).all(|row| index.vector(row) == vectors.row(row)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.idx");
    write_sample(&path, 42);
    // A new version writes new bytes; then this line compares with a new committed file, and the lines above keep the old one.
    assert_eq!(fs::read(path).unwrap(), fs::read(v1()).unwrap());
}

#[test]
fn a_file_written_in_pieces_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, pieces) = (folder.path().join("whole.idx"), folder.path().join("pieces.idx"));
    let (ids, vectors) = sample();
    for metric in [Metric::Cosine, Metric::InnerProduct, Metric::L2] {
        ExactIndex::build(&ids, &vectors, metric).unwrap().write(&whole, 9).unwrap();
        let mut writer = IndexWriter::create(&pieces, 3, metric).unwrap();
        let part =
            |rows: std::ops::Range<usize>| Vectors::new(vectors.data()[rows.start * 3..rows.end * 3].to_vec(), 3).unwrap();
        writer.push(&ids[..2], &part(0..2)).unwrap();
        writer.push(&[], &part(0..0)).unwrap();
        assert!(matches!(writer.push(&ids[1..2], &part(1..2)), Err(FileError::Build(BuildError::Order { row: 2, .. }))));
        assert!(matches!(writer.push(&ids[2..3], &part(2..4)), Err(FileError::Build(BuildError::Count { .. }))));
        let other = Vectors::new(vec![1.0], 1).unwrap();
        assert!(matches!(writer.push(&ids[2..3], &other), Err(FileError::Dimension { got: 1, expected: 3 })));
        writer.push(&ids[2..], &part(2..7)).unwrap();
        writer.finish(9).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&pieces).unwrap());
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.idx");
    let good = fs::read(v1()).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        ExactIndex::open(&path).and_then(|(index, _)| index.verify())
    };
    read(&good).unwrap();
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            let error = read(&bad).expect_err(&format!("byte {at}"));
            match (at, &error) {
                (0..8, FileError::Foreign { .. })
                | (8..12, FileError::NewerVersion { .. })
                | (8.., FileError::Damaged { .. }) => {}
                (_, other) => panic!("byte {at}: {other}"),
            }
            // The payload is left to `verify`, the header is not.
            assert_eq!(ExactIndex::open(&path).is_ok(), at >= 160, "byte {at}");
        }
    }
    for len in 0..good.len() {
        let error = read(&good[..len]).expect_err(&format!("cut to {len}"));
        assert!(matches!((len, &error), (0, FileError::Foreign { .. }) | (1.., FileError::Length { .. })), "{len}: {error}");
    }
    let longer: Vec<u8> = good.iter().copied().chain([0]).collect();
    assert!(matches!(read(&longer), Err(FileError::Length { found, expected, .. }) if found == expected + 1));
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.idx");
    let message = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        ExactIndex::open(&path).unwrap_err().to_string()
    };
    assert!(message(b"SQLite format 3\0").contains("is no chiasm index: it begins with \"SQLite f\""));
    let mut newer = fs::read(v1()).unwrap();
    newer[8] = 2;
    assert!(message(&newer).contains("has format 2, this program reads 1"));
    let mut turned = fs::read(v1()).unwrap();
    turned[12..16].reverse();
    assert!(message(&turned).contains("of another byte order"));
    let missing = ExactIndex::open(&folder.path().join("no.idx")).unwrap_err();
    assert!(matches!(missing, FileError::Io { action: "open", .. }));
    assert!(ExactIndex::open(folder.path()).is_err());
}

#[test]
fn a_reader_keeps_what_it_opened_while_a_new_file_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.idx");
    write_sample(&path, 1);
    let (old, _) = ExactIndex::open(&path).unwrap();
    let other = Vectors::new(vec![9.0; 30_000], 3).unwrap();
    let ids: Vec<u64> = (0..10_000).collect();
    ExactIndex::build(&ids, &other, Metric::L2).unwrap().write(&path, 2).unwrap();
    assert_eq!(old.ids(), sample().0);
    old.verify().unwrap();
    assert_eq!(old.search(&sample().1, 1, &SearchOptions::default()).unwrap().len(), 7);
    let (new, stamp) = ExactIndex::open(&path).unwrap();
    assert_eq!((new.len(), stamp), (10_000, 2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn what_fails_leaves_the_old_file_and_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.idx");
    write_sample(&path, 1);
    let before = fs::read(&path).unwrap();
    // Dropped before it was finished, as by an error of the caller's or a panic.
    let (ids, vectors) = sample();
    let mut writer = IndexWriter::create(&path, 3, Metric::L2).unwrap();
    writer.push(&ids, &vectors).unwrap();
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A folder stands in the way: the rename fails at the very end.
    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("inside")).unwrap();
    let index = ExactIndex::build(&ids, &vectors, Metric::L2).unwrap();
    assert!(matches!(index.write(&taken, 1), Err(FileError::Io { action: "rename to", .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(matches!(index.write(&folder.path().join("no/such"), 1), Err(FileError::Io { action: "create", .. })));
}
