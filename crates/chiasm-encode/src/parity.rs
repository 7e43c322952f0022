//! Every architecture against the class that defines it, layer by layer, on weights that both sides make up alike.
//!
//! A golden is two files, written by `reference/encode_*.py`: `NAME.json` holds the descriptions of a small random checkpoint (what
//! its `config.json` and the rest say) and the recipe of every tensor; `NAME.safetensors` holds inputs, hidden states and
//! embeddings. So no weights are stored, and the same test runs over checkpoints of full size, which the script writes with `--full`
//! into a folder that the variable `CHIASM_PARITY` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chiasm_core::{Image, Modality, Picture, PictureForm, Regions, Video};
use chiasm_nn::FeatureMap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::cross::{PairNet, open_cross_encoder};
use crate::dirs::ModelDirs;
use crate::error::OpenError;
use crate::model::Output;
use crate::net::{Net, Tower, Wanted};
use crate::nets::{blip, classes, families, lxmert, sentence_bert, visual_bert, xclip};
use crate::temperature;

/// Largest difference of any hidden state and embedding, relative to their size where that is above 1.
const TOLERANCE: f32 = 1e-4;

/// `NAME.json`.
#[derive(Deserialize)]
pub(crate) struct Golden {
    /// Files of the checkpoint by name.
    files: serde_json::Map<String, serde_json::Value>,
    /// Name of every tensor and how it is made.
    tensors: serde_json::Map<String, serde_json::Value>,
    /// The tower that is meant.
    pub(crate) tower: String,
    /// The file of the weights; several where they are sharded is not tried here.
    weights: String,
}

/// Shape, centre and spread of a tensor: its numbers are `centre + spread u` with `u` in -1..1, see [`numbers`].
#[derive(Deserialize)]
struct Recipe(Vec<usize>, f32, f32);

/// Numbers that depend on a tensor's name and their place in it alone; `reference/encode_shared.py` makes the same.
fn numbers(name: &str, n: usize, centre: f32, spread: f32) -> Vec<f32> {
    // FNV-1a of the name begins the sequence, splitmix64 continues it.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (1..=n as u64)
        .map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            centre + spread * ((z >> 40) as f32 / 8_388_608.0 - 1.0)
        })
        .collect()
}

/// Writes the checkpoint into `folder`.
pub(crate) fn write(golden: &Golden, folder: &Path) {
    for (file, content) in &golden.files {
        let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = golden
        .tensors
        .iter()
        .map(|(name, recipe)| {
            let Recipe(shape, centre, spread) = Recipe::deserialize(recipe).unwrap();
            let values = numbers(name, shape.iter().product(), centre, spread);
            (name.clone(), shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views =
        tensors.iter().map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &folder.join(&golden.weights)).unwrap();
}

/// Compares one golden; gives the largest difference.
fn compare(json: &Path) -> f32 {
    let golden: Golden = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let bytes = std::fs::read(json.with_extension("safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(&golden, folder.path());
    let mut files = Checkpoint::new(folder.path());
    if golden.tower == "pair" {
        return compare_pair(&mut files, &expected).unwrap_or_else(|e| panic!("{}: {e}", json.display()));
    }
    let modality: Modality = golden.tower.parse().unwrap();
    let opened = if files.has("modules.json") {
        sentence_bert::open(&mut files)
    } else {
        let family = families::family_of(folder.path()).unwrap();
        assert!(family.modalities.contains(&modality));
        (family.open)(&mut files, Wanted { modality, output: Output::Embedding })
    };
    let opened = opened.unwrap_or_else(|e| panic!("{}: {e}", json.display()));
    let off = match &opened.tower {
        Tower::Image(_, net) | Tower::Audio(_, net) | Tower::Series(_, net) => {
            run(net.as_ref(), &pictures(&expected, "input"), &expected)
        }
        Tower::Text(_, net) => run(net.as_ref(), &texts(&expected), &expected),
        Tower::Video(_, net) => run(net.as_ref(), &clips(&expected, "input"), &expected),
    };
    if expected.names().contains(&"temperature") {
        let weights = families::family_of(folder.path()).unwrap().weights(&mut Checkpoint::new(folder.path())).unwrap();
        let got = temperature::read(weights, Some(Modality::Image)).unwrap().expect("the reference has one");
        let off = difference(&[got.scale, got.bias.unwrap_or(0.0)].map(|v| v as f32), &floats(&expected, "temperature"));
        assert!(off <= TOLERANCE, "the temperature differs by {off:.1e}");
    }
    if expected.names().contains(&"classes") { off.max(compare_classes(folder.path(), modality, &expected)) } else { off }
}

/// The same checkpoint with its classifier on top.
fn compare_classes(folder: &Path, modality: Modality, expected: &SafeTensors<'_>) -> f32 {
    let family = families::family_of(folder).unwrap();
    assert!(family.has_classes());
    let wanted = Wanted { modality, output: Output::Classes };
    let opened = (family.open)(&mut Checkpoint::new(folder), wanted).unwrap();
    let (Tower::Image(_, net) | Tower::Audio(_, net)) = &opened.tower else { panic!("only pictures and sounds have classes") };
    let got = net.embed(&pictures(expected, "input"), &mut |_, _| {}).concat();
    assert_eq!(net.dim(), classes::names(folder).unwrap().len());
    let off = difference(&got, &floats(expected, "classes"));
    assert!(off <= TOLERANCE, "the classes differ by {off:.1e}");
    off
}

/// Runs the network and compares what it shows on its way and what it gives. A state may be shorter than the reference's (nothing is
/// computed for padding): the reference states what counts in `rows.N`, the rows of each item.
fn run<I>(net: &dyn Net<I>, inputs: &[I], expected: &SafeTensors<'_>) -> f32 {
    let (mut largest, mut seen) = (0.0f32, 0);
    let got = net.embed(inputs, &mut |name, states| {
        let want = floats(expected, name);
        assert_eq!(states.len(), want.len(), "size of {name}");
        let off = difference(states, &want);
        assert!(off <= TOLERANCE, "{name} differs by {off:.1e}");
        (largest, seen) = (largest.max(off), seen + 1);
    });
    let n_states = expected.names().iter().filter(|name| name.starts_with("hidden.")).count();
    assert_eq!(seen, n_states, "hidden states compared");
    let got: Vec<f32> = got.concat();
    let off = difference(&got, &floats(expected, "embedding"));
    assert!(off <= TOLERANCE, "the embedding differs by {off:.1e}");
    // Each input by itself gives the same bits as in the batch.
    for (input, row) in inputs.iter().zip(got.chunks_exact(net.dim())) {
        let mut last = 0;
        let alone = net.embed(std::slice::from_ref(input), &mut |_, states| last = states.len());
        if let Some(width) = net.width() {
            // What the parts of media are read from.
            assert!(last >= width && last.is_multiple_of(width), "{last} numbers of states of {width}");
        }
        assert!(alone[0] == row, "an item depends on its batch");
    }
    largest.max(off)
}

/// The largest of them; what is not a number is larger than any, so that it cannot pass unseen.
fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).max_by(f32::total_cmp).unwrap_or(0.0)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|_| panic!("the golden has no {name}"));
    tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A cross-encoder of whatever family.
fn compare_pair(files: &mut Checkpoint, expected: &SafeTensors<'_>) -> Result<f32, OpenError> {
    let regions = || {
        let dim = expected.tensor("features").unwrap().shape()[1];
        Regions::new(floats(expected, "features"), dim, Some(floats(expected, "boxes"))).unwrap()
    };
    Ok(match families::model_type(&files.path(""))?.unwrap_or_default().as_str() {
        "blip" => run_pair(blip::open_pair(files)?.net.as_ref(), &pictures(expected, "pixels")[0], expected),
        "lxmert" => run_pair(lxmert::open(files)?.net.as_ref(), &regions(), expected),
        "visual_bert" => run_pair(visual_bert::open(files)?.net.as_ref(), &regions(), expected),
        "xclip" => run_pair(xclip::open_pair(files)?.net.as_ref(), &clips(expected, "pixels")[0], expected),
        other => panic!("no network over pairs is a {other}"),
    })
}

/// A network over pairs: all texts with the one picture.
fn run_pair<P>(net: &dyn PairNet<P>, picture: &P, expected: &SafeTensors<'_>) -> f32 {
    let (mut largest, mut seen) = (0.0f32, 0);
    let mut watch = |name: &str, states: &[f32]| {
        let want = floats(expected, name);
        assert_eq!(states.len(), want.len(), "size of {name}");
        let off = difference(states, &want);
        assert!(off <= TOLERANCE, "{name} differs by {off:.1e}");
        (largest, seen) = (largest.max(off), seen + 1);
    };
    let texts = texts(expected);
    let picture = net.see(picture, &mut watch);
    let scores = net.read(&picture, &texts, &mut watch);
    watch("score", &scores);
    // All that the reference has but what goes in.
    let goes_in = ["input", "lengths", "pixels", "features", "boxes"];
    let n_states = expected.names().iter().filter(|name| !goes_in.contains(*name)).count();
    assert_eq!(seen, n_states, "states compared");
    for (text, score) in texts.iter().zip(scores) {
        let alone = net.read(&picture, std::slice::from_ref(text), &mut |_, _| {});
        assert!(alone == [score], "a pair depends on the others");
    }
    largest
}

/// Pictures `[n, channels, height, width]` by their name; where their shapes differ, each is a tensor of its own, `name.0` and so on.
pub(crate) fn pictures(file: &SafeTensors<'_>, name: &str) -> Vec<FeatureMap> {
    if file.tensor(name).is_err() {
        let each = (0..).map(|i| format!("{name}.{i}")).take_while(|name| file.tensor(name).is_ok());
        return each.flat_map(|name| pictures(file, &name)).collect();
    }
    let [_, shape @ ..]: [usize; 4] = file.tensor(name).unwrap().shape().try_into().unwrap();
    maps(&floats(file, name), shape)
}

/// Videos `[n, frames, channels, height, width]` by their name.
fn clips(file: &SafeTensors<'_>, name: &str) -> Vec<Vec<FeatureMap>> {
    let [_, n_frames, shape @ ..]: [usize; 5] = file.tensor(name).unwrap().shape().try_into().unwrap();
    maps(&floats(file, name), shape).chunks_exact(n_frames).map(<[FeatureMap]>::to_vec).collect()
}

fn maps(values: &[f32], [channels, height, width]: [usize; 3]) -> Vec<FeatureMap> {
    values
        .chunks_exact(channels * height * width)
        .map(|planes| {
            let mut map = FeatureMap { height, width, channels, data: Vec::with_capacity(planes.len()) };
            for at in 0..height * width {
                map.data.extend((0..channels).map(|c| planes[c * height * width + at]));
            }
            map
        })
        .collect()
}

/// `input`, ids of all texts one after the other, and `lengths`, how many belong to each.
pub(crate) fn texts(file: &SafeTensors<'_>) -> Vec<Vec<u32>> {
    let ints = |name: &str| -> Vec<u32> {
        let tensor = file.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|b| u32::try_from(i64::from_le_bytes(*b)).unwrap()).collect()
    };
    let ids = ints("input");
    let mut at = 0;
    ints("lengths")
        .into_iter()
        .map(|n| {
            at += n as usize;
            ids[at - n as usize..at].to_vec()
        })
        .collect()
}

pub(crate) fn goldens(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    files
}

#[test]
fn every_architecture_equals_its_reference_layer_by_layer() {
    let files = goldens(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/nets")));
    assert!(!files.is_empty(), "no goldens");
    for file in &files {
        let off = compare(file);
        eprintln!("{}: largest difference {off:.1e}", file.file_stem().unwrap().to_string_lossy());
    }
}

/// Checkpoints of full size, where the variable names a folder of them.
#[test]
fn full_sizes_equal_their_reference() {
    let Some(folder) = std::env::var_os("CHIASM_PARITY") else {
        eprintln!("skipped: CHIASM_PARITY names no folder of goldens of full size");
        return;
    };
    for file in &goldens(Path::new(&folder)) {
        let off = compare(file);
        eprintln!("{}: largest difference {off:.1e}", file.file_stem().unwrap().to_string_lossy());
    }
}

/// A text that is read with a picture begins with `[ENC]` where the tokeniser has it, in place of what the tokeniser puts there.
#[test]
fn a_tokeniser_decides_how_blip_begins_a_text() {
    let json = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode/nets/blip_pair.json");
    let mut golden: Golden = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let image = Image { width: 20, height: 20, rgb: (0..1200).map(|i| (i * 7) as u8).collect() };
    let mut scores = |first: Option<u32>, ids: Vec<u32>| {
        let folder = tempfile::tempdir().unwrap();
        let vocabulary = golden.files["tokenizer.json"]["model"]["vocab"].as_object_mut().unwrap();
        let (word, other) = if first.is_some() { ("w59", "[ENC]") } else { ("[ENC]", "w59") };
        if let Some(id) = vocabulary.remove(word) {
            vocabulary.insert(other.to_owned(), id);
        }
        write(&golden, folder.path());
        let opened = blip::open_pair(&mut Checkpoint::new(folder.path())).unwrap();
        assert_eq!(opened.first, first);
        let picture = Picture::Pixels(image.clone());
        let seen = opened.net.see(&opened.look.prepare(&picture).unwrap(), &mut |_, _| {});
        let expected = opened.net.read(&seen, &[ids], &mut |_, _| {});
        let encoder = open_cross_encoder(&folder.path().to_string_lossy(), &ModelDirs::default()).unwrap();
        let got = encoder.score_pictures("w5 w6 w7", std::slice::from_ref(&picture)).unwrap();
        assert_eq!([got[0].get()].as_slice(), expected);
        let back = encoder.score_texts(&picture, &["w9", "w5 w6 w7", "w1 w2"]).unwrap();
        assert_eq!(back[1], got[0]);
        got[0]
    };
    assert_ne!(scores(None, vec![5, 6, 7]), scores(Some(59), vec![59, 6, 7]));
}

/// Cross-encoders over videos and over pictures, and what either is given.
#[test]
fn a_cross_encoder_takes_pictures_of_one_form() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let json = format!("{}/../../testdata/goldens/encode/nets/{name}_pair.json", env!("CARGO_MANIFEST_DIR"));
        let golden: Golden = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        let folder = folder.path().join(name);
        write(&golden, &folder);
        open_cross_encoder(&folder.to_string_lossy(), &ModelDirs::default()).unwrap()
    };
    let frame = |seed: usize| Image { width: 20, height: 20, rgb: (0..1200).map(|i| (i * seed) as u8).collect() };
    let video = |seeds: &[usize]| {
        let times_s = (0..seeds.len()).map(|i| i as f64 / 2.0).collect();
        let frames = seeds.iter().map(|seed| Arc::new(frame(*seed))).collect();
        Picture::Frames(Video { frames, times_s, duration_s: seeds.len() as f64 / 2.0 })
    };
    let pixels = Picture::Pixels(frame(7));
    let regions = Picture::Regions(Regions::new(vec![0.5; 20], 10, None).unwrap());
    let videos = [video(&[3, 5, 11]), video(&[13]), video(&[3, 5, 11, 11])];

    for (name, takes, wrong) in [
        ("xclip", PictureForm::Frames, [&pixels, &regions]),
        ("blip", PictureForm::Pixels, [&videos[0], &regions]),
        ("visual_bert", PictureForm::Regions, [&pixels, &videos[0]]),
    ] {
        let encoder = open(name);
        assert_eq!(encoder.takes(), takes);
        for other in wrong {
            let reason = format!("{} came, expected {takes}", other.form());
            assert_eq!(encoder.check(other), Err(reason.clone()));
            let error = encoder.score_texts(other, &["w5"]).unwrap_err().to_string();
            assert!(error.contains(&reason) && error.contains(encoder.name()), "{error}");
        }
    }

    let encoder = open("xclip");
    let texts = ["w5 w6 w7", "w9", "w1 w2"];
    let of_text = encoder.score_pictures(texts[0], &videos).unwrap();
    assert!(of_text[0] != of_text[1] && of_text.iter().all(|score| (-1.0..=1.0).contains(&score.get())), "{of_text:?}");
    for (video, score) in videos.iter().zip(of_text) {
        assert_eq!(encoder.score_texts(video, &texts).unwrap()[0], score);
    }
    assert_eq!(encoder.score_texts(&videos[0], &[]).unwrap(), []);
}
