//! Shapes: by a descriptor of their surfaces in a space that was fitted on them, and by pictures of them in one that knows pictures alone.

use std::fmt::Write as _;
use std::path::Path;

use crate::common::{models, set, space};
use chiasm_core::{Cancel, Media, Modality, NoProgress};
use chiasm_engine::{
    ExplainRequest, FitRequest, IndexOptions, Library, Query, QueryMedia, SearchRequest, fit_space, load_media,
};

const FAMILIES: [&str; 4] = ["cylinder", "cone", "ball", "ring"];

/// Words for a solid: what it is, and whether it is tall.
fn words(i: usize) -> String {
    format!("a {} {}, number {i}", if i % 8 < 4 { "tall" } else { "flat" }, FAMILIES[i % 4])
}

/// Turns a profile of (radius, height) about the upright axis and writes it as OFF.
fn write_off(path: &Path, i: usize) {
    let arc = |k: usize| (std::f32::consts::PI * k as f32 / 8.0).sin_cos();
    let profile: Vec<(f32, f32)> = match i % 4 {
        0 => vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
        1 => vec![(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)],
        2 => (0..=8).map(|k| (arc(k).0, -arc(k).1)).collect(),
        _ => (0..=16).map(|k| (1.0 + 0.3 * arc(k).1, 0.3 * arc(k).0)).collect(),
    };
    let tall = if i % 8 < 4 { 1.6 } else { 0.5 } + (i * 29 % 17) as f32 * 0.015;
    let n = 12 + i % 9;
    let mut text = format!("OFF\n{} {} 0\n", n * profile.len(), n * (profile.len() - 1));
    for k in 0..n {
        let (sin, cos) = (std::f32::consts::TAU * k as f32 / n as f32 + i as f32).sin_cos();
        profile.iter().for_each(|(r, z)| writeln!(text, "{} {} {}", r * cos, r * sin, tall * z).unwrap());
    }
    for k in 0..n {
        for j in 0..profile.len() - 1 {
            let at = |k: usize, j: usize| k % n * profile.len() + j;
            writeln!(text, "4 {} {} {} {}", at(k, j), at(k + 1, j), at(k + 1, j + 1), at(k, j + 1)).unwrap();
        }
    }
    std::fs::write(path, text).unwrap();
}

fn why_of(item: i64, words: &str) -> ExplainRequest {
    let query = Query::text(words);
    ExplainRequest { query, item, lanes: Vec::new(), words: false, heat: true, limits: Default::default() }
}

#[test]
fn words_find_shapes_and_shapes_find_words() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir_all(files.join("train")).unwrap();
    let mut table = "shape,text\n".to_owned();
    for i in 0..64 {
        write_off(&files.join(format!("train/{i}.off")), i);
        writeln!(table, "train/{i}.off,\"{}\"", words(i)).unwrap();
    }
    let pairs = files.join(".pairs.csv");
    std::fs::write(&pairs, table).unwrap();
    let request = FitRequest {
        name: "solids".to_owned(),
        encoders: [(Modality::Shape, "shape-distribution"), (Modality::Text, "char-ngrams")]
            .map(|(m, n)| (m, n.to_owned()))
            .into(),
        method: "cca".to_owned(),
        pairs: Some(pairs),
        root: files.clone(),
        folds: Some(3),
        ..FitRequest::default()
    };
    let space = fit_space(&request, &models(), &NoProgress, &Cancel::default(), None).unwrap().space;

    // A library of solids that were not there when the space was fitted.
    let unseen = dir.path().join("unseen");
    std::fs::create_dir(&unseen).unwrap();
    for i in 64..88 {
        write_off(&unseen.join(format!("{i}.off")), i);
        std::fs::write(unseen.join(format!("words {i}.txt")), words(i)).unwrap();
    }
    std::fs::write(unseen.join("broken.stl"), "solid x\nfacet").unwrap();
    let library = Library::create(&dir.path().join("library"), &space).unwrap();
    let report =
        library.index(std::slice::from_ref(&unseen), &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap();
    assert_eq!((report.n_new, report.refused.len()), (48, 1), "{report:?}");
    assert!(report.refused[0].reason.contains("damaged STL"), "{:?}", report.refused);
    let best = |query: Query, kind| {
        let request = SearchRequest { query, k: 3, kinds: vec![kind], ..SearchRequest::default() };
        library.search(&request).unwrap().hits.into_iter().map(|hit| hit.path).collect::<Vec<_>>()
    };
    let number =
        |path: &Path| -> usize { path.file_stem().unwrap().to_str().unwrap().rsplit(' ').next().unwrap().parse().unwrap() };
    // Of the 24, three are of the same family and as tall: one in eight by chance.
    let alike = |i: usize, path: &Path| number(path) % 8 == i % 8;
    let (mut by_words, mut by_shape) = (0, 0);
    for i in 64..88 {
        by_words += usize::from(alike(i, &best(Query::text(&words(i)), Modality::Shape)[0]));
        let shape = load_media(&unseen.join(format!("{i}.off")), &Default::default()).unwrap();
        by_shape += usize::from(alike(i, &best(Query::of(QueryMedia::Media(shape)), Modality::Text)[0]));
    }
    assert!(by_words >= 20 && by_shape >= 20, "{by_words} and {by_shape} of 24");
    assert!(library.verify(true).unwrap().is_clean());

    // What a descriptor sees has no place on a picture.
    let shape = library.find_item(unseen.join("64.off").to_str().unwrap()).unwrap().id;
    let why = library.explain(&why_of(shape, "a tall ball"), &Cancel::default()).unwrap();
    assert!(why.heat.is_none() && !why.remarks.is_empty(), "{why:?}");
}

#[test]
fn where_only_pictures_are_known_a_shape_is_the_mean_of_its_views() {
    let space = space();
    assert!(space.modalities().contains(&Modality::Shape));
    let dir = tempfile::tempdir().unwrap();
    write_off(&dir.path().join("a.off"), 1);
    let shape = load_media(&dir.path().join("a.off"), &Default::default()).unwrap();
    let Media::Shape(mesh) = &shape else { panic!("a shape is one") };
    let views: Vec<Media> = chiasm_media::shape_views(mesh, 256).into_iter().map(Media::Image).collect();
    let pictures = space.embed(&views).unwrap();
    let sum: Vec<f32> = (0..space.dim()).map(|c| pictures.rows().map(|row| row[c]).sum()).collect();
    let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    let found = space.embed(std::slice::from_ref(&shape)).unwrap();
    assert!(found.row(0).iter().zip(&sum).all(|(a, b)| (a - b / norm).abs() < 1e-5));

    let set = set(0..6);
    (0..8).for_each(|i| write_off(&set.files.join(format!("{i}.off")), i));
    assert_eq!(set.index().n_new, 38);
    let id = set.id("1.off");
    let similar = set.library.similar(id, 3, &[Modality::Shape], None).unwrap();
    assert!(similar.hits.iter().all(|hit| hit.kind == Modality::Shape && hit.item != id), "{similar:?}");
    let why = set.library.explain(&why_of(id, "a white square"), &Cancel::default()).unwrap();
    let heat = serde_json::to_value(why.heat.unwrap()).unwrap();
    assert!(heat["view"].as_u64().unwrap() < 12 && heat["drop"].as_array().unwrap().len() == 64, "{heat}");
}
