//! A re-ranker that is learned for a space, kept in a file, and looks at what a library has found. The encoders are the two towers of the model that the project trained.

use std::path::Path;

use chiasm_core::{Cancel, CrossEncoder, Media, Modality, NoProgress, Picture};
use chiasm_engine::{
    EngineError, FitRequest, IndexOptions, Library, ModelDirs, Query, QueryMedia, Rerank, SearchRequest, SecondLook,
    SecondLookReport, SecondLookRequest, Space, fit_space, learn_second_look, load_media,
};

use crate::common::{in_pieces, space, words, write_things};

fn nano() -> ModelDirs {
    ModelDirs::new(vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")])
}

/// Things to learn from, and so many where it does not matter what is found.
const SOME: usize = 32;
const FEW: usize = 20;

/// Things in a folder, and a space of pictures and words fitted on them.
fn fitted(files: &Path, n: usize) -> Space {
    write_things(files, 0..n);
    let request = FitRequest {
        name: "two".to_owned(),
        encoders: [Modality::Image, Modality::Text].map(|kind| (kind, format!("chiasm-nano:{kind}"))).into(),
        method: "cca".to_owned(),
        pairs: Some(files.join(".pairs.csv")),
        root: files.to_owned(),
        folds: Some(3),
        seed: 1,
        ..FitRequest::default()
    };
    fit_space(&request, &nano(), &NoProgress, &Cancel::default(), None).unwrap().space
}

fn asked_for(files: &Path, method: &str) -> SecondLookRequest {
    SecondLookRequest {
        name: "again".to_owned(),
        method: method.to_owned(),
        pairs: files.join(".pairs.csv"),
        root: files.to_owned(),
        folds: 2,
        seed: 1,
    }
}

fn learned(space: &Space, request: &SecondLookRequest) -> Result<SecondLook, EngineError> {
    learn_second_look(space, request, &NoProgress, &Cancel::default(), None)
}

#[test]
fn a_second_look_is_learned_kept_and_puts_hits_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    let space = fitted(&files, SOME);
    std::fs::write(files.join("pictures/005.png"), b"no picture").unwrap();
    let look = learned(&space, &asked_for(&files, "scan")).unwrap();
    let report = look.report().clone();
    assert_eq!((report.n_images, report.n_texts, report.n_folds), (SOME - 1, 2 * (SOME - 1), 2));
    assert_eq!(report.dropped, [("the image cannot be read or encoded".to_owned(), 2)]);
    assert_eq!(report.bridge.as_deref(), Some("cca"));
    let [before, after] = report.before_and_after().unwrap();
    assert_eq!((before.share, after.share), (0.0, report.share));
    assert!(report.share > 0.0);
    // Of a fold's sixteen pictures chance finds one among the first five with .31.
    assert!(before.text_to_image[1] > 0.6 && after.text_to_image[1] > 0.6, "{:?}", report.figures);

    // The file holds all of it.
    let path = dir.path().join("again.rerank");
    look.save(&path).unwrap();
    let again = SecondLook::load(&path, &nano()).unwrap().expect("a re-ranker");
    assert_eq!(again.fingerprint(), look.fingerprint());
    // JSON gives the last digit of a figure back or its neighbour.
    let kept = SecondLookReport::load(&path).unwrap().expect("a re-ranker's");
    assert_eq!((kept.share, kept.dropped, kept.figures.len()), (report.share, report.dropped, report.figures.len()));
    assert!(kept.gain.iter().zip(report.gain).all(|(a, b)| (a - b).abs() < 1e-12));
    let picture = |i: usize| match load_media(&files.join(format!("pictures/{i:03}.png")), &chiasm_engine::Limits::default()) {
        Ok(Media::Image(image)) => Picture::Pixels(image),
        other => panic!("{other:?}"),
    };
    let (text, pictures) = (words(7).0, [7, 8, 20].map(picture));
    let scores = look.score_pictures(&text, &pictures).unwrap();
    assert!(scores.iter().all(|score| score.get().abs() <= 1.0 + 1e-5), "{scores:?}");
    assert_eq!(again.score_pictures(&text, &pictures).unwrap(), scores);
    // A score is of the two alone: from the other side, and whatever stands beside it.
    for (picture, score) in pictures.iter().zip(&scores) {
        assert_eq!(again.score_texts(picture, &["something else", &text]).unwrap()[1], *score);
    }

    // What a library finds stands in its order.
    let space_file = dir.path().join("two.space");
    space.save(&space_file).unwrap();
    let library = Library::create(&dir.path().join("library"), &space).unwrap();
    library.index(&[files.join("pictures")], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap();
    let request = |rerank| SearchRequest {
        query: Query::of(QueryMedia::Media(Media::Text(text.clone()))),
        k: 12,
        kinds: vec![Modality::Image],
        rerank,
        ..SearchRequest::default()
    };
    let rerank = Rerank::open(path.to_str().unwrap(), &nano(), 8).unwrap();
    let reply = library.search(&request(Some(rerank))).unwrap();
    let scored: Vec<f32> = reply.hits.iter().map_while(|hit| hit.rerank_score).collect();
    assert_eq!((scored.len(), reply.hits.len()), (8, 12));
    assert!(scored.is_sorted_by(|a, b| a >= b), "{scored:?}");
    assert!(reply.hits[8..].iter().all(|hit| hit.rerank_score.is_none()));
}

#[test]
fn what_is_no_re_ranker_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    let of_nano = fitted(&files, FEW);
    let told = |e: EngineError| e.to_string();
    // A space without texts, or whose encoders see wholes; a table without pictures; too few of them; a method of another kind.
    assert!(told(learned(&space(), &asked_for(&files, "scan")).unwrap_err()).contains("does not tell the parts"));
    assert!(told(learned(&of_nano, &asked_for(&files, "cca")).unwrap_err()).contains("scan or cross-encoder"));
    assert!(
        told(learned(&of_nano, &SecondLookRequest { folds: 1, ..asked_for(&files, "scan") }).unwrap_err()).contains("folds")
    );
    assert!(
        told(learned(&of_nano, &SecondLookRequest { folds: 40, ..asked_for(&files, "scan") }).unwrap_err()).contains("too few")
    );
    std::fs::write(files.join("sounds.csv"), "audio,text\nsounds/001.wav,one\n").unwrap();
    let of_sounds = SecondLookRequest { pairs: files.join("sounds.csv"), ..asked_for(&files, "scan") };
    assert!(told(learned(&of_nano, &of_sounds).unwrap_err()).contains("no column `image`"));

    // A space is no re-ranker, and a re-ranker no space.
    let (space_file, file) = (dir.path().join("two.space"), dir.path().join("again.rerank"));
    of_nano.save(&space_file).unwrap();
    learned(&of_nano, &asked_for(&files, "scan")).unwrap().save(&file).unwrap();
    assert!(SecondLook::load(&space_file, &nano()).unwrap().is_none());
    assert!(told(Rerank::open(space_file.to_str().unwrap(), &nano(), 5).unwrap_err()).contains("it is a space"));
    assert!(told(Space::load(&file, &nano()).unwrap_err()).contains("--rerank"));
    // One changed byte, or a few less.
    let bytes = std::fs::read(&file).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 37) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        std::fs::write(&file, &changed).unwrap();
        assert!(SecondLook::load(&file, &nano()).is_err(), "byte {at} was changed");
        std::fs::write(&file, &bytes[..at]).unwrap();
        assert!(SecondLook::load(&file, &nano()).is_err(), "cut at {at}");
    }
}

#[test]
fn learning_that_is_stopped_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let space = fitted(dir.path(), FEW);
    let request = asked_for(dir.path(), "scan");
    let through = learned(&space, &request).unwrap();
    let pieced = in_pieces(25, |draft, cancel| learn_second_look(&space, &request, &NoProgress, cancel, Some(draft)));
    assert_eq!(pieced.fingerprint(), through.fingerprint());
    assert_eq!(pieced.report().figures, through.report().figures);
}
