//! Real photos and captions in a space that was fitted on them: what words add to it, what is shown of why, and how true the map is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chiasm_core::{Cancel, Modality, NoProgress};
use chiasm_engine::{
    ExplainRequest, FitRequest, Heat, IndexOptions, Library, Limits, ModelDirs, Query, SearchRequest, Space, SpaceMap,
    fit_space,
};

/// Photos that the space is fitted on.
const N_PHOTOS: usize = 300;
/// Photos after them that are asked for with words.
const N_ASKED: usize = 150;
/// Pictures of a dog's photo and another.
const N_BOTH: usize = 10;

/// Where the real data lies; `None`, after a line that says so, when it is absent and this is not CI.
fn test_data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let dir = PathBuf::from(std::env::var_os("CHIASM_TEST_DATA").unwrap_or_else(|| default.into()));
    let found = ["flickr8k", "small_models"].iter().all(|part| dir.join(part).exists());
    assert!(found || std::env::var_os("CI").is_none(), "CI needs the test data, {} is not there", dir.display());
    if !found {
        println!("skipped: no test data at {}", dir.display());
    }
    found.then_some(dir)
}

/// Photos with their captions, in the order of the table.
fn captions(data: &Path) -> Vec<(String, Vec<String>)> {
    let table = std::fs::read_to_string(data.join("flickr8k/captions.txt")).unwrap();
    let mut photos: Vec<(String, Vec<String>)> = Vec::new();
    for line in table.lines().skip(1) {
        let (photo, caption) = line.split_once(',').unwrap();
        match photos.last_mut().filter(|(last, _)| last == photo) {
            Some((_, captions)) => captions.push(caption.to_owned()),
            None => photos.push((photo.to_owned(), vec![caption.to_owned()])),
        }
    }
    photos
}

/// The space of the first photos, fitted once for all tests.
fn space(data: &Path) -> &'static Space {
    static SPACE: OnceLock<Space> = OnceLock::new();
    SPACE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut table = "image,caption\n".to_owned();
        for (photo, captions) in &captions(data)[..N_PHOTOS] {
            table.extend(captions.iter().map(|c| format!("{photo},\"{}\"\n", c.replace('"', "\"\""))));
        }
        std::fs::write(dir.path().join("pairs.csv"), table).unwrap();
        let fit = FitRequest {
            name: "photos".to_owned(),
            encoders: [(Modality::Image, "mobilenet_v2"), (Modality::Text, "all-MiniLM-L6-v2")]
                .map(|(m, e)| (m, e.to_owned()))
                .into(),
            method: "cca".to_owned(),
            pairs: Some(dir.path().join("pairs.csv")),
            root: data.join("flickr8k/images"),
            folds: Some(2),
            seed: 1,
            ..FitRequest::default()
        };
        fit_space(&fit, &ModelDirs::new(vec![data.join("small_models")]), &NoProgress, &Cancel::default(), None).unwrap().space
    })
}

fn index(library: &Library, files: &Path) {
    library.index(&[files.to_owned()], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap();
}

/// Photos that the space has not seen, each with one caption, are asked for by that caption's rarest words and by another caption: what
/// the models find alone, and what they and words find together.
#[test]
fn words_help_who_types_a_few_and_do_not_hurt_who_describes() {
    let Some(data) = test_data() else { return };
    let photos = captions(&data);
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let asked = &photos[N_PHOTOS..N_PHOTOS + N_ASKED];
    for (photo, captions) in asked {
        std::fs::copy(data.join("flickr8k/images").join(photo), files.join(photo)).unwrap();
        std::fs::write(files.join(photo).with_extension("txt"), &captions[0]).unwrap();
    }
    let library = Library::create(&dir.path().join("library"), space(&data)).unwrap();
    index(&library, &files);

    let words = |caption: &str| -> Vec<String> {
        let lower = caption.to_lowercase();
        lower.split(|c: char| !c.is_alphabetic()).filter(|w| w.len() > 2).map(str::to_owned).collect()
    };
    let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
    for caption in photos[..N_PHOTOS].iter().flat_map(|(_, captions)| captions) {
        words(caption)
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .for_each(|word| *frequency.entry(word).or_default() += 1);
    }
    let rarest = |caption: &String| -> String {
        let mut words = words(caption);
        words.sort_by_key(|word| frequency.get(word).copied().unwrap_or(0));
        words.dedup();
        words.truncate(2);
        words.join(" ")
    };
    type Asking<'a> = &'a dyn Fn(&[String]) -> String;
    // Percent at rank 1, 5 and 10.
    let hit_rates = |query: Asking<'_>, hybrid: bool| -> [f64; 3] {
        let mut n_within = [0; 3];
        for (photo, captions) in asked {
            let query = Query::text(&query(captions));
            let request = SearchRequest { query, k: 10, hybrid, kinds: vec![Modality::Image], ..SearchRequest::default() };
            let hits = library.search(&request).unwrap().hits;
            let rank = hits.iter().position(|hit| hit.path.ends_with(photo)).unwrap_or(usize::MAX);
            n_within.iter_mut().zip([1, 5, 10]).for_each(|(n, k)| *n += usize::from(rank < k));
        }
        n_within.map(|n| 100.0 * n as f64 / N_ASKED as f64)
    };
    let queries: [(&str, Asking<'_>); 3] = [
        ("two words of the caption", &|captions| rarest(&captions[0])),
        ("two words of another", &|captions| rarest(&captions[1])),
        ("another caption", &|captions| captions[1].clone()),
    ];
    let mut gains = Vec::new();
    for (name, query) in queries {
        let (alone, joined) = (hit_rates(query, false), hit_rates(query, true));
        println!("{name}: R@1/5/10 of models {alone:.1?}, with words {joined:.1?}");
        gains.push(joined.iter().sum::<f64>() - alone.iter().sum::<f64>());
    }
    assert!(gains[0] > 20.0 && gains[1] > -1.0 && gains[2] > -2.0, "{gains:?}");
}

#[test]
fn a_dog_is_hot_and_a_caption_lies_by_its_photo() {
    let Some(data) = test_data() else { return };
    let photos = captions(&data);
    let (fitted, others) = photos.split_at(N_PHOTOS);
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    for folder in ["photos", "captions"] {
        std::fs::create_dir_all(files.join(folder)).unwrap();
    }
    for (photo, captions) in fitted {
        std::fs::copy(data.join("flickr8k/images").join(photo), files.join("photos").join(photo)).unwrap();
        std::fs::write(files.join("captions").join(photo).with_extension("txt"), &captions[0]).unwrap();
    }

    // What a dog's photo and a photo without one make together, the dog on either side.
    let mentions = |captions: &[String], words: &[&str]| {
        captions.iter().filter(|c| words.iter().any(|w| c.to_lowercase().split(' ').any(|own| own.starts_with(w)))).count()
    };
    let dogs =
        others.iter().filter(|(_, c)| mentions(c, &["dog"]) == c.len() && mentions(c, &["two", "dogs", "man", "woman"]) == 0);
    let dogs: Vec<&str> = dogs.map(|(photo, _)| photo.as_str()).take(N_BOTH).collect();
    let without = others.iter().filter(|(_, c)| mentions(c, &["dog", "animal", "pup", "horse", "cat"]) == 0);
    let without: Vec<&str> = without.map(|(photo, _)| photo.as_str()).take(N_BOTH).collect();
    let open = |photo: &str| {
        image::open(data.join("flickr8k/images").join(photo))
            .unwrap()
            .resize_exact(240, 320, image::imageops::FilterType::Triangle)
            .to_rgb8()
    };
    for (i, (dog, other)) in dogs.iter().zip(&without).enumerate() {
        let (dog, other) = (open(dog), open(other));
        let (left, right) = if i % 2 == 0 { (dog, other) } else { (other, dog) };
        let mut both = image::RgbImage::new(480, 320);
        image::imageops::replace(&mut both, &left, 0, 0);
        image::imageops::replace(&mut both, &right, 240, 0);
        both.save(files.join(format!("both{i}.png"))).unwrap();
    }

    let library = Library::create(&dir.path().join("library"), space(&data)).unwrap();
    index(&library, &files);

    let map = library.map(2 * N_PHOTOS + N_BOTH, None, &NoProgress, &Cancel::default()).unwrap();
    let space = Vectors::of(&library, &map);
    let on_map: Vec<Vec<f32>> = map.x.iter().zip(&map.y).map(|(x, y)| vec![*x, *y]).collect();
    let on_axes = space.on_principal_axes();
    let shares = |plane: &[Vec<f32>]| [true, false].map(|own| space.kept(plane, own));
    let (map_shares, axes_shares) = (shares(&on_map), shares(&on_axes));
    println!("of the 10 nearest in the space, among the 30 nearest in the plane:");
    println!("  map:            own kind {:.3}, other kind {:.3}", map_shares[0], map_shares[1]);
    println!("  principal axes: own kind {:.3}, other kind {:.3}", axes_shares[0], axes_shares[1]);
    assert!(map_shares[0] > axes_shares[0] + 0.1 && map_shares[1] > axes_shares[1] + 0.1);
    // How many captions are nearer to their photo than its own, as a share of all.
    let own_caption = |plane: &[Vec<f32>]| {
        let place: BTreeMap<String, usize> = (0..map.items.len()).map(|i| (name_of(&library, map.items[i]), i)).collect();
        let ranks: Vec<f64> = fitted
            .iter()
            .map(|(photo, _)| {
                let (at, caption) = (place[photo], place[&photo.replace(".jpg", ".txt")]);
                let nearer = (0..plane.len()).filter(|j| map.kind[*j] != map.kind[at]);
                nearer.filter(|j| gap(&plane[at], &plane[*j]) < gap(&plane[at], &plane[caption])).count() as f64
            })
            .collect();
        ranks.iter().sum::<f64>() / (ranks.len() * N_PHOTOS) as f64
    };
    let (of_map, of_axes) = (own_caption(&on_map), own_caption(&on_axes));
    println!("captions nearer to a photo than its own, chance 0.5: map {of_map:.3}, principal axes {of_axes:.3}");
    assert!(of_map < of_axes);

    // Where the model sees no dog there is nothing to explain.
    let (mut n_right, mut n_seen, mut halves) = (0, 0, [0.0, 0.0]);
    for i in 0..N_BOTH {
        let item = library.find_item(files.join(format!("both{i}.png")).to_str().unwrap()).unwrap().id;
        let request = ExplainRequest {
            query: Query::text("a dog"),
            item,
            lanes: Vec::new(),
            words: true,
            heat: true,
            limits: Limits::default(),
        };
        let told = library.explain(&request, &Cancel::default()).unwrap();
        let Some(Heat::Grid { drop, .. }) = &told.heat else { panic!("{told:?}") };
        let half = |left: bool| (0..64).filter(|c| (c % 8 < 4) == left).map(|c| drop[c]).sum::<f32>() / 32.0;
        let (dog, other) = if i % 2 == 0 { (half(true), half(false)) } else { (half(false), half(true)) };
        let (z, took) = (told.lanes[0].z.unwrap(), told.elapsed_ms);
        println!("picture {i}: z {z:.2} drops by {dog:.3} on the dog's half, by {other:.3} on the other; {took:.0} ms");
        if z > 1.5 {
            n_seen += 1;
            n_right += usize::from(dog > other);
            halves = [halves[0] + dog, halves[1] + other];
        }
        let said = told.words.unwrap();
        assert!(said[1].drop > said[0].drop, "`dog` says more than `a`: {said:?}");
    }
    println!("{n_right} of {n_seen} pictures that match, in all {halves:?}");
    assert!(
        n_seen >= 5 && n_right * 10 >= n_seen * 9 && halves[0] > 2.0 * halves[1].max(0.0),
        "{n_right} of {n_seen}, {halves:?}"
    );
}

fn name_of(library: &Library, item: i64) -> String {
    library.entry(item).unwrap().name
}

fn gap(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The vectors of what is on a map, each kind about its own mean and at unit length.
struct Vectors {
    rows: Vec<Vec<f32>>,
    kinds: Vec<usize>,
}

impl Vectors {
    fn of(library: &Library, map: &SpaceMap) -> Vectors {
        let db = rusqlite::Connection::open(library.dir().join("library.db")).unwrap();
        let sql = "SELECT v.vector FROM segments s JOIN vectors v ON v.segment = s.id WHERE s.item = ?1";
        let read = |item: &i64| -> Vec<f32> {
            let bytes: Vec<u8> = db.query_row(sql, [item], |row| row.get(0)).unwrap();
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let mut rows: Vec<Vec<f32>> = map.items.iter().map(read).collect();
        for kind in 0..map.kinds.len() {
            let of_kind: Vec<usize> = (0..rows.len()).filter(|i| map.kind[*i] == kind).collect();
            let mut mean = vec![0.0; rows[0].len()];
            of_kind.iter().for_each(|i| mean.iter_mut().zip(&rows[*i]).for_each(|(m, v)| *m += v / of_kind.len() as f32));
            for i in of_kind {
                rows[i].iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
                let norm = rows[i].iter().map(|v| v * v).sum::<f32>().sqrt();
                rows[i].iter_mut().for_each(|v| *v /= norm);
            }
        }
        Vectors { rows, kinds: map.kind.clone() }
    }

    fn on_principal_axes(&self) -> Vec<Vec<f32>> {
        let dim = self.rows[0].len();
        let mut axes: Vec<Vec<f32>> = Vec::new();
        for first in 0..2 {
            let mut axis: Vec<f32> = (0..dim).map(|d| if d % 3 == first { 1.0 } else { -0.3 }).collect();
            for _ in 0..100 {
                let mut next = vec![0.0; dim];
                for row in &self.rows {
                    let along: f32 = row.iter().zip(&axis).map(|(v, a)| v * a).sum();
                    next.iter_mut().zip(row).for_each(|(n, v)| *n += along * v);
                }
                for other in &axes {
                    let along: f32 = next.iter().zip(other).map(|(n, o)| n * o).sum();
                    next.iter_mut().zip(other).for_each(|(n, o)| *n -= along * o);
                }
                let norm = next.iter().map(|v| v * v).sum::<f32>().sqrt();
                axis = next.into_iter().map(|v| v / norm).collect();
            }
            axes.push(axis);
        }
        let along = |row: &Vec<f32>| axes.iter().map(|axis| row.iter().zip(axis).map(|(v, a)| v * a).sum()).collect();
        self.rows.iter().map(along).collect()
    }

    /// Share of the 10 nearest in the space, of the own kind or of the other, that are among the 30 nearest of these in a plane.
    fn kept(&self, plane: &[Vec<f32>], own: bool) -> f64 {
        let nearest = |points: &[Vec<f32>], i: usize, k: usize| -> BTreeSet<usize> {
            let others = (0..points.len()).filter(|j| *j != i && (self.kinds[*j] == self.kinds[i]) == own);
            let mut others: Vec<(f32, usize)> = others.map(|j| (gap(&points[i], &points[j]), j)).collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            others.into_iter().take(k).map(|(_, j)| j).collect()
        };
        let of = |i: usize| nearest(&self.rows, i, 10).intersection(&nearest(plane, i, 30)).count();
        (0..plane.len()).map(of).sum::<usize>() as f64 / (10 * plane.len()) as f64
    }
}
