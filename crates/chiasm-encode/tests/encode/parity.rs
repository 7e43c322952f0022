//! The encoders against what their reference implementations give for the same input, preprocessing included; each test prints its largest difference.
use std::path::{Path, PathBuf};

use chiasm_core::{Encoder, Image, Media, Waveform};
use chiasm_encode::{ModelDirs, class_names, open};
use safetensors::SafeTensors;

/// The folder of trained networks; `None`, with a line that says so, where it is not. On CI it must be there.
fn small_models() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder =
        std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from).join("small_models");
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", folder.display());
    eprintln!("skipped: no test data at {}", folder.display());
    None
}

fn encoder(name: &str, folder: &Path) -> Box<dyn Encoder> {
    open(name, &ModelDirs::new(vec![folder.to_owned()])).unwrap()
}

fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap().data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn mobilenet_v2_equals_its_goldens() {
    let Some(folder) = small_models() else { return };
    let (features, classes) = (encoder("mobilenet_v2", &folder), encoder("mobilenet_v2:classes", &folder));
    let names = class_names("mobilenet_v2:classes", &ModelDirs::new(vec![folder.clone()])).unwrap();
    assert_ne!(features.fingerprint(), classes.fingerprint());
    let bytes = bytes_of(&folder.join("golden_mobilenet_v2.safetensors"));
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for (picture, class) in [("cat", "Egyptian cat"), ("bird", "chickadee")] {
        let pixels = golden.tensor(&format!("{picture}.pixels")).unwrap().data().to_vec();
        let path = folder.join(format!("{picture}.bmp"));
        let decoded = chiasm_media::decode(&path, &bytes_of(&path), &chiasm_media::Limits::default()).unwrap().media;
        let Media::Image(whole) = &decoded else { panic!("a picture is no picture") };
        let resized = chiasm_media::resize(whole, 224, 224);
        let off = resized.rgb.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let n_off = resized.rgb.iter().zip(&pixels).filter(|(a, b)| a != b).count();

        let reference = Media::Image(Image { width: 224, height: 224, rgb: pixels });
        let (want, want_logits) =
            (floats(&golden, &format!("{picture}.embedding")), floats(&golden, &format!("{picture}.logits")));
        let net = largest_difference(features.encode(std::slice::from_ref(&reference)).unwrap().row(0), &want);
        let from_file = features.encode(std::slice::from_ref(&decoded)).unwrap();
        let (chain, chain_cosine) = (largest_difference(from_file.row(0), &want), cosine(from_file.row(0), &want));
        let got = classes.encode(std::slice::from_ref(&reference)).unwrap();
        // Probabilities are the softmax of the golden logits; their logarithms are the logits but for one constant.
        let log_sum = want_logits.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        let want_p: Vec<f32> = want_logits.iter().map(|v| (f64::from(*v) - log_sum).exp() as f32).collect();
        let p = largest_difference(got.row(0), &want_p);
        let ln_p: Vec<f32> = got.row(0).iter().map(|p| (f64::from(*p).ln() + log_sum) as f32).collect();
        let logits = largest_difference(&ln_p, &want_logits);
        println!(
            "{picture}: resized pixels differ by at most {off}/255, {n_off} of {}; embedding by {net:.1e} on the reference's pixels, \
             {chain:.1e} from the file (cosine {chain_cosine:.6}); probabilities by {p:.1e}, logits by {logits:.1e}",
            resized.rgb.len()
        );
        assert!(off <= 1 && net < 1e-4 && p < 1e-4 && logits < 1e-3);
        // A pixel off by one moves an input by 1/128, and the features, which range over 0..=6, by a few hundredths.
        assert!(if off == 0 { chain < 1e-4 } else { chain_cosine > 0.9995 });
        let best = (0..got.dim()).max_by(|a, b| got.row(0)[*a].total_cmp(&got.row(0)[*b])).unwrap();
        assert!(names[best].contains(class), "{picture} is called {}", names[best]);
    }
}

#[test]
fn yamnet_equals_its_goldens() {
    let Some(folder) = small_models() else { return };
    let (features, classes) = (encoder("yamnet", &folder), encoder("yamnet:classes", &folder));
    let names = class_names("yamnet:classes", &ModelDirs::new(vec![folder.clone()])).unwrap();
    let bytes = bytes_of(&folder.join("golden_yamnet.safetensors"));
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for sound in ["chirp", "dog"] {
        let samples = floats(&golden, &format!("{sound}.waveform"));
        let log_mel = chiasm_media::spectrum::LogMel::yamnet().compute(&samples);
        let mel = largest_difference(&log_mel, &floats(&golden, &format!("{sound}.log_mel")));
        let wave = [Media::Audio(Waveform { sample_rate_hz: 16_000, samples })];
        let scores = classes.encode(&wave).unwrap();
        let net = largest_difference(features.encode(&wave).unwrap().row(0), &floats(&golden, &format!("{sound}.embedding")));
        let p = largest_difference(scores.row(0), &floats(&golden, &format!("{sound}.scores")));
        println!("{sound}: log-mel differs by at most {mel:.1e}, embedding by {net:.1e}, scores by {p:.1e}");
        assert!(mel < 1e-3 && net < 1e-4 && p < 1e-4);
        if sound == "dog" {
            let dog = names.iter().position(|name| name == "Dog").unwrap();
            assert!(scores.row(0)[dog] > 0.5, "a dog scores {}", scores.row(0)[dog]);
        }
    }
}

#[test]
fn minilm_equals_sentence_transformers() {
    let Some(folder) = small_models() else { return };
    let minilm = encoder("all-MiniLM-L6-v2", &folder);
    let goldens = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/encode"));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&bytes_of(&goldens.join("minilm_50.json"))).unwrap();
    let bytes = bytes_of(&goldens.join("minilm_50.safetensors"));
    let want = floats(&SafeTensors::deserialize(&bytes).unwrap(), "embeddings");
    let texts: Vec<Media> = rows.iter().map(|row| Media::Text(row["text"].as_str().unwrap().to_owned())).collect();
    let got = minilm.encode(&texts).unwrap();
    assert_eq!((got.n(), got.dim()), (50, 384));
    let (mut smallest, mut largest) = (1.0f64, 0.0f32);
    for (got, want) in got.rows().zip(want.chunks_exact(384)) {
        smallest = smallest.min(cosine(got, want));
        largest = largest.max(largest_difference(got, want));
    }
    println!("50 texts: smallest cosine 1 - {:.1e}, largest difference {largest:.1e}", 1.0 - smallest);
    // The reference differs from itself by 3e-7 when it pads.
    assert!(smallest > 0.99999 && largest < 1e-5);
}

#[test]
fn a_row_is_the_same_to_the_bit_in_any_batch() {
    let Some(folder) = small_models() else { return };
    let noise = |n: usize, seed: u32| -> Vec<u8> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    };
    let images = (1..6u32).map(|i| {
        let (width, height) = (40 * i, 300 - 50 * i);
        Media::Image(Image { width, height, rgb: noise((width * height * 3) as usize, i) })
    });
    // From one sample to several patches, at a rate that must be resampled and at one that must not.
    let sounds =
        [(1, 16_000), (400, 8_012), (15_600, 16_000), (15_601, 16_000), (90_000, 44_100)].map(|(n, sample_rate_hz)| {
            let samples = noise(n, n as u32).into_iter().map(|v| f32::from(v) / 128.0 - 1.0).collect();
            Media::Audio(Waveform { sample_rate_hz, samples })
        });
    let texts = (0..40).map(|i| Media::Text("one more word and ".repeat(i * i % 23 + 1)));
    for (name, batch) in [
        ("mobilenet_v2", images.collect::<Vec<_>>()),
        ("yamnet", sounds.to_vec()),
        ("yamnet:classes", sounds.to_vec()),
        ("all-MiniLM-L6-v2", texts.collect()),
    ] {
        let encoder = encoder(name, &folder);
        let whole = encoder.encode(&batch).unwrap();
        for (i, media) in batch.iter().enumerate() {
            let alone = encoder.encode(std::slice::from_ref(media)).unwrap();
            assert!(alone.row(0) == whole.row(i), "{name}: item {i} depends on its batch");
        }
        let last = encoder.encode(&batch[batch.len() / 2..]).unwrap();
        assert!(last.data() == &whole.data()[batch.len() / 2 * whole.dim()..], "{name}: half a batch differs from the whole");
        assert_eq!(encoder.encode(&[]).unwrap().n(), 0);
    }
}

/// MiniLM on every caption's first hundred characters: how close the other precisions are, and whether a text still finds its like.
#[test]
fn other_precisions_are_close_to_single() {
    let Some(folder) = small_models() else { return };
    let captions = std::fs::read_to_string(folder.join("../flickr8k/captions.txt")).unwrap();
    let texts: Vec<&str> = captions.lines().skip(1).filter_map(|line| line.split_once(',')).map(|(_, text)| text).collect();
    // The first two captions of 200 photos: each of the first is a query, and its photo's second is to be found.
    let of = |nth: usize| -> Vec<Media> { (0..200).map(|photo| Media::Text(texts[photo * 5 + nth].to_owned())).collect() };
    let (queries, gallery) = (of(0), of(1));
    let single = encoder("all-MiniLM-L6-v2", &folder);
    let recall = |encoder: &dyn Encoder| {
        let (q, g) = (encoder.encode(&queries).unwrap(), encoder.encode(&gallery).unwrap());
        let score = |a: usize, b: usize| cosine(q.row(a), g.row(b));
        let found = |a: usize| (0..200).all(|b| b == a || score(a, b) < score(a, a));
        (0..200).filter(|a| found(*a)).count() as f64 / 2.0
    };
    let (exact, want) = (single.encode(&queries).unwrap(), recall(single.as_ref()));
    for (precision, floor) in [("bf16", 0.9999), ("int8", 0.99)] {
        let encoder = encoder(&format!("all-MiniLM-L6-v2+{precision}"), &folder);
        assert_ne!(encoder.fingerprint(), single.fingerprint(), "libraries of two precisions would mix");
        let got = encoder.encode(&queries).unwrap();
        let least = (0..200).map(|i| cosine(got.row(i), exact.row(i))).fold(1.0, f64::min);
        let now = recall(encoder.as_ref());
        println!("{precision}: cosine to f32 at least {least:.5}; R@1 {now:.1}, in f32 {want:.1}");
        assert!(least >= floor && (now - want).abs() <= 1.0, "{precision}");
    }
}

/// Embeddings of these encoders are means of what they see in the parts.
#[test]
fn parts_are_what_embeddings_are_made_of() {
    let Some(folder) = small_models() else { return };
    let path = folder.join("cat.bmp");
    let cat = chiasm_media::decode(&path, &bytes_of(&path), &chiasm_media::Limits::default()).unwrap().media;
    let texts = ["A dog runs.", "Two children play football in the snow."].map(|text| Media::Text(text.to_owned()));
    for (name, batch, counts, dim) in
        [("mobilenet_v2", vec![cat], vec![49], 1280), ("all-MiniLM-L6-v2", texts.to_vec(), vec![6, 10], 384)]
    {
        let encoder = encoder(name, &folder);
        let (embeddings, parts) = (encoder.encode(&batch).unwrap(), encoder.parts(&batch).unwrap());
        assert_eq!(
            parts.iter().map(|parts| (parts.n(), parts.dim())).collect::<Vec<_>>(),
            counts.iter().map(|n| (*n, dim)).collect::<Vec<_>>()
        );
        for ((media, parts), embedding) in batch.iter().zip(&parts).zip(embeddings.rows()) {
            let mean: Vec<f32> = (0..dim).map(|j| parts.rows().map(|row| row[j]).sum::<f32>() / parts.n() as f32).collect();
            assert!(cosine(&mean, embedding) > 0.999_999, "{name}: {}", cosine(&mean, embedding));
            assert_eq!(encoder.parts(std::slice::from_ref(media)).unwrap(), std::slice::from_ref(parts), "{name}");
        }
    }
    let error = encoder("colour-layout", &folder).parts(&[]).unwrap_err().to_string();
    assert!(error.starts_with("colour-layout does not tell the parts"), "{error}");
}
