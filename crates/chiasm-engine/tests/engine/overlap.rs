//! Files are decoded, embedded and stored at the same time: none of this shows in the library.

use std::path::Path;

use crate::common::{set, space, write_gif, write_png};
use chiasm_core::{Cancel, Modality, NoProgress};
use chiasm_engine::{IndexOptions, IndexReport, Library};

/// The number of an item, its hash, a name, the number of a part and its vector.
type Row = (i64, Vec<u8>, String, i64, Vec<u8>);

/// All that a library holds of contents: numbers, hashes, names, parts and vectors.
fn held(library: &Library) -> Vec<Row> {
    let db = rusqlite::Connection::open(library.dir().join("library.db")).unwrap();
    let sql = "SELECT i.id, i.hash, p.name, s.id, v.vector FROM items i JOIN paths p ON p.item = i.id JOIN segments s ON s.item = i.id
        JOIN vectors v ON v.segment = s.id ORDER BY s.id, p.path";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn index(files: &Path, library: &Library, max_waiting_bytes: usize) -> IndexReport {
    let options = IndexOptions { max_waiting_bytes, ..IndexOptions::default() };
    let report = library.index(&[files.to_owned()], &options, &NoProgress, &Cancel::default()).unwrap();
    IndexReport { wall_s: 0.0, ..report }
}

/// A JPEG of a thing, as a photo with its own noise.
fn write_jpeg(path: &Path, i: usize) {
    let png = path.with_extension("png");
    write_png(&png, i);
    image::open(&png).unwrap().to_rgb8().save(path).unwrap();
    std::fs::remove_file(&png).unwrap();
}

#[test]
fn the_same_folder_gives_the_same_library_whoever_is_faster() {
    let set = set(0..40);
    // Copies near and far, files of no use, and media larger than all others together.
    for i in 0..40 {
        std::fs::copy(set.files.join(format!("pictures/{i:03}.png")), set.files.join(format!("series/{i:03} again.png")))
            .unwrap();
    }
    std::fs::copy(set.files.join("pictures/000.png"), set.files.join("pictures/000 twin.png")).unwrap();
    std::fs::write(set.files.join("sounds/010b.wav"), b"RIFF....WAVE").unwrap();
    std::fs::write(set.files.join("texts/late.txt"), "a long story ".repeat(9_000)).unwrap();
    (0..3).for_each(|i| write_gif(&set.files.join(format!("sounds/{i:03}c.gif")), i));
    // All at once; a few files at a time; hardly more than one.
    for max_waiting_bytes in [256 << 20, 300_000, 1_000] {
        let runs: Vec<_> = (0..3)
            .map(|n| {
                let library = Library::create(&set.dir.path().join(format!("{max_waiting_bytes}-{n}")), &space()).unwrap();
                let report = index(&set.files, &library, max_waiting_bytes);
                assert!(library.verify(false).unwrap().is_clean());
                (report, held(&library))
            })
            .collect();
        let report = &runs[0].0;
        assert_eq!((report.n_new, report.n_copies, report.refused.len()), (40 * 5 + 4, 41, 1), "{report:?}");
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{max_waiting_bytes} bytes: runs differ");
    }
}

#[test]
fn damaged_photos_are_refused_by_name_and_cost_the_others_nothing() {
    let set = set(0..1);
    let photos = set.dir.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    let damaged = |i: usize| i % 7 == 3;
    for i in 0..100 {
        let path = photos.join(format!("{i:03}.jpg"));
        write_jpeg(&path, i);
        let sound = std::fs::read(&path).unwrap();
        if damaged(i) {
            // Cut off in the header, in the tables, in the data, before the end marker.
            let keep = [3, 100, sound.len() / 2, sound.len() - 2][i / 7 % 4];
            std::fs::write(&path, &sound[..keep]).unwrap();
        }
    }
    let report = index(&photos, &set.library, 200_000);
    let refused: Vec<String> =
        report.refused.iter().map(|r| r.path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let expected: Vec<String> = (0..100).filter(|i| damaged(*i)).map(|i| format!("{i:03}")).collect();
    assert_eq!(refused, expected);
    assert!(report.refused.iter().all(|r| r.reason.contains("JPEG")), "{:?}", report.refused);
    assert_eq!((report.n_new, report.n_segments), (100 - expected.len(), 100 - expected.len()));
    // Each has the vector that it has alone.
    let rows = held(&set.library);
    assert_eq!(rows.len(), 100 - expected.len());
    let space = space();
    for (_, _, name, _, vector) in rows.iter().step_by(9) {
        let media = chiasm_engine::load_media(&photos.join(name), &Default::default()).unwrap();
        assert_eq!(media.modality(), Modality::Image);
        let alone: Vec<u8> = space.embed(&[media]).unwrap().data().iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(vector, &alone, "{name}");
    }
}
