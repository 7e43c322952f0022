//! A kind of media joins a space that was fitted without it; a few examples make classification surer than names alone.

use std::path::Path;

use crate::common::{N_THINGS, in_pieces, models, space, write_things};
use chiasm_core::{Cancel, Modality, NoProgress};
use chiasm_engine::{
    BindRequest, Classifier, FitRequest, IndexOptions, LabelledFiles, Library, Prompts, Space, bind_space, fit_space,
    load_media,
};

fn two_kinds(dir: &Path) -> FitRequest {
    FitRequest {
        name: "two".to_owned(),
        encoders: [(Modality::Image, "colour-layout".to_owned()), (Modality::Text, "char-ngrams".to_owned())].into(),
        method: "cca".to_owned(),
        pairs: Some(dir.join(".pairs.csv")),
        root: dir.to_owned(),
        folds: Some(3),
        seed: 1,
        ..FitRequest::default()
    }
}

fn of_two_kinds(dir: &Path) -> Space {
    let request = two_kinds(dir);
    fit_space(&request, &models(), &NoProgress, &Cancel::default(), None).unwrap().space
}

#[test]
fn a_fit_that_is_stopped_goes_on_and_embeds_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    write_things(dir.path(), 0..N_THINGS);
    // What was refused once is remembered as well as what was embedded.
    std::fs::write(dir.path().join("pictures/003.png"), b"no picture").unwrap();
    let request = two_kinds(dir.path());
    let through = fit_space(&request, &models(), &NoProgress, &Cancel::default(), None).unwrap();
    let pieced = in_pieces(4, |draft, cancel| fit_space(&request, &models(), &NoProgress, cancel, Some(draft)));
    assert_eq!(through.space.fingerprint(), pieced.space.fingerprint());
    assert_eq!((&through.report.dropped, &through.report.tried), (&pieced.report.dropped, &pieced.report.tried));
    assert_eq!(through.report.dropped, [("the image file cannot be read".to_owned(), 2)], "two texts go with the picture");
}

fn binding(dir: &Path) -> BindRequest {
    BindRequest {
        name: "three".to_owned(),
        through: Modality::Image,
        encoder: (Modality::Audio, "mel-contour".to_owned()),
        method: "infonce".to_owned(),
        pairs: dir.join(".pairs.csv"),
        root: dir.to_owned(),
        folds: 3,
        seed: 1,
    }
}

#[test]
fn a_kind_that_is_bound_is_found_by_kinds_it_was_never_seen_with() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    write_things(&files, 0..N_THINGS);
    let two = of_two_kinds(&files);
    let outcome = bind_space(&two, &binding(&files), &models(), &NoProgress, &Cancel::default(), None).unwrap();
    let [to, from] = &outcome.report.figures[..] else { panic!("two directions: {:?}", outcome.report.figures) };
    assert_eq!((to.query, to.item, from.query), (Modality::Image, Modality::Audio, Modality::Audio));
    // Twelve looks and sounds among sixteen things of a fold; chance finds one of ten with .63.
    assert!(to.r_at_10 > 0.75 && from.r_at_10 > 0.75, "{:?}", outcome.report.figures);
    assert!(outcome.report.views[2].contains("bound through image"), "{:?}", outcome.report.views);

    // What was there stays, to the last bit, through the file too.
    let path = dir.path().join("three.space");
    outcome.space.save(&path).unwrap();
    let three = Space::load(&path, &models()).unwrap();
    assert_eq!(three.fingerprint(), outcome.space.fingerprint());
    let picture = load_media(&files.join("pictures/003.png"), &Default::default()).unwrap();
    assert_eq!(two.embed_query(&picture).unwrap(), three.embed_query(&picture).unwrap());

    // Words find sounds, which no pair ever put beside them.
    let library = Library::create(&dir.path().join("library"), &three).unwrap();
    library.index(&[files.join("sounds")], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap();
    let mut right = 0;
    for i in 0..12 {
        let request = chiasm_engine::SearchRequest {
            query: chiasm_engine::Query::text(&crate::common::words(i).0),
            kinds: vec![Modality::Audio],
            k: 8,
            ..Default::default()
        };
        let hits = library.search(&request).unwrap().hits;
        let of_colour = |path: &Path| path.file_stem().unwrap().to_string_lossy().parse::<usize>().unwrap() % 6;
        right += hits.iter().filter(|hit| of_colour(&hit.path) == i % 6).count();
    }
    // Of 96 sounds a sixth would be of the right colour by chance.
    assert!(right >= 40, "{right} of 96 sounds are of the colour that was asked for");
}

#[test]
fn what_cannot_be_bound_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write_things(dir.path(), 0..N_THINGS);
    let two = of_two_kinds(dir.path());
    let said = |change: &dyn Fn(&mut BindRequest)| {
        let mut request = binding(dir.path());
        change(&mut request);
        bind_space(&two, &request, &models(), &NoProgress, &Cancel::default(), None).unwrap_err().to_string()
    };
    let twice = said(&|r| r.encoder = (Modality::Text, "char-ngrams".to_owned()));
    assert!(twice.contains("has a view for text already (image, text)"), "{twice}");
    assert!(said(&|r| r.through = Modality::Series).contains("no view for series to bind through"));
    assert!(said(&|r| r.encoder = (Modality::Shape, "shape-distribution".to_owned())).contains("has no column for shape"));
    assert!(said(&|r| r.encoder.1 = "char-ngrams".to_owned()).contains("encodes text, it was given for audio"));
    assert!(said(&|r| r.method = "dcca".to_owned()).contains("method is dcca"));
    assert!(said(&|r| r.pairs = dir.path().join("none.csv")).contains("none.csv"));
}

#[test]
fn a_few_examples_make_names_surer() {
    let dir = tempfile::tempdir().unwrap();
    write_things(dir.path(), 0..2 * N_THINGS);
    // Labels that say nothing of what is seen, and examples of them by colour.
    let labels = ["a", "b", "c", "d", "e", "f"].map(|name| format!("kind {name}"));
    let folder = dir.path().join("examples");
    for i in 0..N_THINGS {
        let of = folder.join(&labels[i % 6]);
        std::fs::create_dir_all(&of).unwrap();
        std::fs::copy(dir.path().join(format!("pictures/{i:03}.png")), of.join(format!("{i:03}.png"))).unwrap();
    }
    std::fs::write(folder.join(&labels[0]).join("notes.bin"), [0, 159, 146, 150]).unwrap();
    let examples = LabelledFiles::read(&folder).unwrap();
    assert_eq!(examples.labels(), labels);
    let space = space();
    let right = |classifier: &Classifier<'_>| {
        let of = |i: usize| {
            let media = load_media(&dir.path().join(format!("pictures/{i:03}.png")), &Default::default()).unwrap();
            let ranked = classifier.classify(&media).unwrap();
            assert!((ranked.iter().map(|label| label.probability).sum::<f32>() - 1.0).abs() < 1e-5);
            ranked[0].label == labels[i % 6]
        };
        (N_THINGS..2 * N_THINGS).filter(|i| of(*i)).count()
    };
    let by_names = Classifier::new(&space, &labels, &Prompts::Plain, None).unwrap();
    let none = right(&by_names);
    let (with_examples, refused) = by_names.with_examples(&examples, &NoProgress, &Cancel::default()).unwrap();
    assert!(refused.len() == 1 && refused[0].contains("notes.bin"), "{refused:?}");
    assert_eq!((with_examples.n_examples(Modality::Image), with_examples.n_examples(Modality::Audio)), (N_THINGS, 0));
    let few = right(&with_examples);
    assert!(few > 40 && few > 2 * none, "{few} of {N_THINGS} right with examples, {none} by names");

    // One label alone is judged by its name, whatever examples there are.
    let alone = Classifier::new(&space, &labels[..1], &Prompts::Plain, None).unwrap();
    let (alone, _) = alone.with_examples(&examples, &NoProgress, &Cancel::default()).unwrap();
    let media = load_media(&dir.path().join("pictures/050.png"), &Default::default()).unwrap();
    assert_eq!((alone.classify(&media).unwrap()[0].probability, alone.n_examples(Modality::Image)), (1.0, 0));

    // A table says the same; one without a label for a file does not.
    let table = dir.path().join("examples.csv");
    let lines: String = (0..12).map(|i| format!("pictures/{i:03}.png,{}\n", labels[i % 6])).collect();
    std::fs::write(&table, format!("file,label\n{lines}")).unwrap();
    assert_eq!(LabelledFiles::read(&table).unwrap().labels(), labels);
    let said = |text: &str| {
        std::fs::write(&table, text).unwrap();
        LabelledFiles::read(&table).unwrap_err().to_string()
    };
    assert!(said("file,label\na.png,\n").contains("line 2: has no file or no label"));
    assert!(said("file,kind\na.png,x\n").contains("has no column `label`"));
    assert!(said("file,label\n").contains("names no file with a label"));
}
