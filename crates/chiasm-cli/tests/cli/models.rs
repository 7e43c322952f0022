//! A library in the space of a dual encoder. The checkpoint is a CLIP of a few thousand made-up weights: what it finds means
//! nothing, but all of the chain runs on it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

use crate::common::{Reply, chiasm, command};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes the checkpoint that a golden describes; `make` gives a tensor's numbers from its name, how many, and its recipe.
fn write_checkpoint(folder: &Path, golden: &Value, mut make: impl FnMut(&str, usize, f32, f32) -> Vec<f32>) {
    std::fs::create_dir(folder).unwrap();
    for (file, content) in golden["files"].as_object().unwrap() {
        std::fs::write(folder.join(file), content.to_string()).unwrap();
    }
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = golden["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, recipe)| {
            let (shape, centre, spread): (Vec<usize>, f32, f32) = serde_json::from_value(recipe.clone()).unwrap();
            let numbers = make(name, shape.iter().product(), centre, spread);
            (name.as_str(), shape, numbers.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, b)| (*name, TensorView::new(Dtype::F32, shape.clone(), b).unwrap()));
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// A small CLIP with weights of its own.
pub(crate) fn checkpoint(folder: &Path) -> PathBuf {
    checkpoint_of(folder, "clip_quick_image", "tiny-clip")
}

/// The model of a golden of the encoders in a folder `name`, with weights of its own.
pub(crate) fn checkpoint_of(folder: &Path, of: &str, name: &str) -> PathBuf {
    let folder = folder.join(name);
    let mut state = 1u32;
    write_checkpoint(&folder, &golden(&format!("encode/nets/{of}.json")), |_, n, _, _| {
        let mut number = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 0.9
        };
        (0..n).map(|_| number()).collect()
    });
    folder
}

/// What `reference/encode_shared.py` makes of a tensor's name: FNV-1a begins the sequence, splitmix64 continues it.
fn numbers(name: &str, n: usize, centre: f32, spread: f32) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let number = |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        centre + spread * (((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0)
    };
    (1..=n as u64).map(number).collect()
}

pub(crate) fn pictures(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (i, colour) in [[250u8, 10, 10], [10, 250, 10], [10, 10, 250]].into_iter().enumerate() {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| {
            if (x / 8 + y / (4 + i as u32)).is_multiple_of(2) { image::Rgb(colour) } else { image::Rgb([240; 3]) }
        });
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(folder.join("note.txt"), "w3 w14 w15").unwrap();
}

#[test]
fn a_library_stands_in_the_space_of_a_dual_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    pictures(&dir.path().join("photos"));
    // Named from the folder it stands in, and found later from elsewhere.
    let reply = chiasm(dir.path(), &["index", "photos", "--model", "tiny-clip", "--json"]).code(0).json();
    assert_eq!((&reply["n_new"], &reply["refused"]), (&4.into(), &Value::Array(Vec::new())));
    let found = chiasm(&dir.path().join("photos"), &["search", "w3 w14", "--kind", "image", "--json"]).code(0).json();
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 3);
    let scores: Vec<f64> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]) && scores[0] > scores[2], "{scores:?}");
    // The same text is nearest to itself.
    let found = chiasm(&dir.path().join("photos"), &["search", "w3 w14 w15", "--kind", "text", "--json"]).code(0).json();
    assert!((found["hits"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{found}");

    let labels = ["classify", "photos/0.png", "--labels", "w1,w2 w9", "--model", "tiny-clip", "--json"];
    let rows = chiasm(dir.path(), &labels).code(0).json();
    assert_eq!(rows[0]["labels"].as_array().unwrap().len(), 2);

    let described = chiasm(dir.path(), &["space", "of-model", "tiny-clip", "-o", "clip.space", "--json"]).code(0).json();
    assert_eq!((&described["dim"], described["views"].as_array().unwrap().len()), (&16.into(), 2));
    assert_eq!(reply["space"], described["fingerprint"]);

    // Weights that change under a library are noticed, not searched with.
    let file = model.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = chiasm(&dir.path().join("photos"), &["search", "w3"]);
    assert!(refused.code != 0 && refused.err.contains("fingerprint"), "{}", refused.err);
}

/// Colours in turn, each for so long, as a GIF.
pub(crate) fn film(path: &Path, colours: &[[u8; 3]], each_ms: u32) {
    let mut encoder = image::codecs::gif::GifEncoder::new(std::fs::File::create(path).unwrap());
    for [r, g, b] in colours {
        let canvas = image::RgbaImage::from_pixel(40, 30, image::Rgba([*r, *g, *b, 255]));
        let delay = image::Delay::from_numer_denom_ms(each_ms, 1);
        encoder.encode_frame(image::Frame::from_parts(canvas, 0, 0, delay)).unwrap();
    }
}

#[test]
fn videos_are_found_through_their_frames_in_the_space_of_a_dual_encoder() {
    let dir = tempfile::tempdir().unwrap();
    checkpoint(dir.path());
    pictures(&dir.path().join("files"));
    film(&dir.path().join("files/a.gif"), &[[250, 10, 10], [240, 240, 240]], 500);
    film(&dir.path().join("files/b.gif"), &[[10, 10, 250], [0, 0, 0]], 500);
    std::fs::write(dir.path().join("files/c.avi"), b"RIFF\x10\0\0\0AVI LIST\x04\0\0\0hdrl").unwrap();
    let run = |ffmpeg: &str, args: &[&str]| {
        let mut command = crate::common::command(dir.path());
        crate::common::Reply::of(command.env("CHIASM_FFMPEG", ffmpeg).args(args).output().unwrap())
    };
    // Without the program the film is listed with what to do, and the rest is taken in.
    let index = ["index", "files", "--model", "tiny-clip", "--json"];
    let reply = run("/no/such/ffmpeg", &index);
    let report = reply.json();
    assert_eq!((&report["n_new"], report["refused"].as_array().unwrap().len()), (&6.into(), 1), "{}", reply.err);
    let reason = report["refused"][0]["reason"].as_str().unwrap();
    assert!(["AVI", "/no/such/ffmpeg", "install ffmpeg", "CHIASM_FFMPEG"].iter().all(|w| reason.contains(w)), "{reason}");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Two frames of red, as the real program would give them.
        let program = dir.path().join("films.sh");
        let frame = "printf 'P6\\n2 1\\n255\\n\\372\\012\\012\\372\\012\\012'";
        std::fs::write(&program, format!("#!/bin/sh\n{frame}\n{frame}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let report = run(program.to_str().unwrap(), &index).code(0).json();
        assert_eq!((&report["n_new"], &report["n_unchanged"]), (&1.into(), &6.into()), "{report}");
    }
    let n = if cfg!(unix) { 3 } else { 2 };
    let hits = |args: &[&str]| {
        let all = [args, &["--kind", "video", "--json", "--library", "files/.chiasm"]].concat();
        chiasm(dir.path(), &all).code(0).json()["hits"].as_array().unwrap().clone()
    };
    let found = hits(&["search", "w3 w14"]);
    assert_eq!((found.len(), &found[0]["kind"], &found[0]["via"]), (n, &"video".into(), &"video".into()));
    // A film is nearest to itself, and a still of its first frame no film at all.
    let found = hits(&["search", "--video", "files/b.gif"]);
    assert!((found[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{found:?}");
    assert!(found[0]["path"].as_str().unwrap().ends_with("b.gif"));
    let wrong = chiasm(dir.path(), &["search", "--video", "files/0.png", "--library", "files/.chiasm"]);
    assert!(
        wrong.code != 0 && wrong.err.contains("holds a picture, expected a video: give it with `--image`"),
        "{}",
        wrong.err
    );
    let shown = chiasm(dir.path(), &["search", "w3", "--kind", "video", "--thumbs", "always", "--library", "files/.chiasm"]);
    assert_eq!(shown.code(0).out.matches("]1337;File=").count(), 2);
}

/// Writes tones of 16-bit samples.
fn sounds(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (i, (hz, rate, seconds)) in
        [(200.0, 4_000u32, 0.3), (700.0, 8_000, 1.4), (1_500.0, 16_000, 0.9)].into_iter().enumerate()
    {
        let n = (seconds * f64::from(rate)) as usize;
        let sample = |at: usize| {
            let t = at as f64 / f64::from(rate);
            (9_000.0 * (std::f64::consts::TAU * hz * t).sin() * (1.0 - t / 2.0)) as i16
        };
        let data: Vec<u8> = (0..n).flat_map(|at| sample(at).to_le_bytes()).collect();
        let mut wav = b"RIFF".to_vec();
        wav.extend((36 + data.len() as u32).to_le_bytes());
        wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        wav.extend(rate.to_le_bytes());
        wav.extend((2 * rate).to_le_bytes());
        wav.extend(b"\x02\0\x10\0data");
        wav.extend((data.len() as u32).to_le_bytes());
        wav.extend(data);
        std::fs::write(folder.join(format!("{i}.wav")), wav).unwrap();
    }
    std::fs::write(folder.join("note.txt"), "w5 w14 w15").unwrap();
}

#[test]
fn sounds_and_texts_find_each_other_in_the_space_of_a_clap() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("tiny-clap"), &golden("encode/nets/clap_text.json"), numbers);
    let folder = dir.path().join("sounds");
    sounds(&folder);
    let reply = chiasm(dir.path(), &["index", "sounds", "--model", "tiny-clap", "--json"]).code(0).json();
    assert_eq!((&reply["n_new"], &reply["refused"]), (&4.into(), &Value::Array(Vec::new())));
    let hits = |line: &[&str]| chiasm(&folder, line).code(0).json()["hits"].as_array().unwrap().clone();
    let by_text = hits(&["search", "w5 w14", "--kind", "audio", "--json"]);
    let scores: Vec<f64> = by_text.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.windows(2).all(|pair| pair[0] >= pair[1]) && scores[0] > scores[2], "{scores:?}");
    // A sound and a text are nearest to themselves, and either finds the other kind.
    let by_sound = hits(&["search", "--audio", "1.wav", "--json"]);
    assert!(by_sound.len() == 4 && (by_sound[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{by_sound:?}");
    assert!(by_sound[0].to_string().contains("1.wav"), "{}", by_sound[0]);
    let same = hits(&["search", "w5 w14 w15", "--kind", "text", "--json"]);
    assert!((same[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{same:?}");
}

#[test]
fn a_model_that_is_not_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    pictures(&dir.path().join("photos"));
    let index = |words: &str| {
        let reply = chiasm(dir.path(), &["index", "photos", "--model", "tiny-clip"]);
        assert!(reply.code != 0 && reply.err.contains(words), "expected `{words}`:\n{}", reply.err);
        assert!(!dir.path().join("photos/.chiasm").exists(), "a library was left behind");
    };
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    for (change, words) in [
        (config.replace("\"model_type\":\"clip\"", "\"model_type\":\"clap_of_thunder\""), "model_type is `clap_of_thunder`"),
        (config.replace("\"num_attention_heads\":4", "\"num_attention_heads\":5"), "does not divide into 5 attention heads"),
        (config.replace("\"quick_gelu\"", "\"slow_gelu\""), "the activation `slow_gelu` is unknown"),
        (config.replace("\"patch_size\":5", "\"patch_size\":0"), "patch_size 0 does not fit"),
        (config.replace("\"image_size\":20", "\"image_size\":40"), "the preprocessing gives pictures of 20 x 20"),
        (config.replace("\"projection_dim\":16", "\"projection_dim\":17"), "has shape [16, 32], the model needs [17, 32]"),
        (config[..config.len() / 2].to_owned(), "config.json"),
    ] {
        assert_ne!(change, config, "{words}: nothing was changed");
        std::fs::write(model.join("config.json"), change).unwrap();
        index(words);
    }
    std::fs::write(model.join("config.json"), &config).unwrap();
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    index("model.safetensors");
    let several = chiasm(
        dir.path(),
        &["space", "fit", "--image", "tiny-clip", "--text", "char-ngrams", "--pairs", "x.csv", "--method", "cca", "-o", "x"],
    );
    assert!(several.code != 0, "{}", several.out);
}

/// Closeness and probabilities of labels are the reference's, for a model of shares and one that judges each label by itself.
#[test]
fn labels_have_the_probabilities_of_the_reference() {
    for name in ["classify_clip", "classify_siglip"] {
        let golden = golden(&format!("engine/{name}.json"));
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&dir.path().join(name), &golden, numbers);
        let files: Vec<String> = (0..3).map(|i| format!("{i}.png")).collect();
        for (file, pixels) in files.iter().zip(golden["pictures"].as_array().unwrap()) {
            let pixels: Vec<u8> = serde_json::from_value(pixels.clone()).unwrap();
            image::RgbImage::from_raw(20, 20, pixels).unwrap().save(dir.path().join(file)).unwrap();
        }
        let labels: Vec<String> = serde_json::from_value(golden["labels"].clone()).unwrap();
        let joined = labels.join(",");
        let classify = |more: &[&str]| {
            let line = ["classify", "--labels", &joined, "--model", name, "--json", "-k", "9"];
            let line: Vec<&str> = line.iter().chain(more).copied().chain(files.iter().map(String::as_str)).collect();
            chiasm(dir.path(), &line).code(0).json()
        };
        let mut largest = (0.0f64, 0.0f64);
        for (set, expected) in golden["sets"].as_object().unwrap() {
            let rows = classify(&["--prompts", set]);
            for (at, row) in rows.as_array().unwrap().iter().enumerate() {
                assert_eq!(row["logits"]["squash"], golden["logits"]["squash"]);
                for number in ["scale", "bias"] {
                    let (got, want) = (row["logits"][number].as_f64().unwrap(), golden["logits"][number].as_f64().unwrap());
                    assert!((got - want).abs() <= 1e-5 * want.abs(), "{number} is {got}, expected {want}");
                }
                assert_eq!(row["labels"].as_array().unwrap().len(), labels.len());
                for found in row["labels"].as_array().unwrap() {
                    let of_label = labels.iter().position(|label| found["label"] == label.as_str()).unwrap();
                    let off = |field: &str, list: &str| {
                        (found[field].as_f64().unwrap() - expected[list][at][of_label].as_f64().unwrap()).abs()
                    };
                    largest = (largest.0.max(off("score", "scores")), largest.1.max(off("probability", "probabilities")));
                }
            }
        }
        eprintln!("{name}: scores differ by {:.1e}, probabilities by {:.1e} at most", largest.0, largest.1);
        // Logits are some 25 times the scores.
        assert!(largest.0 <= 1e-5 && largest.1 <= 1e-4, "{largest:?}");
        // What is asked when nothing is said, and what a file says.
        assert_eq!(classify(&[]), classify(&["--prompts", "short"]));
        std::fs::write(dir.path().join("mine.txt"), "# as the set\n{}\na {}\nthis is a {}\n").unwrap();
        let english = classify(&["--prompts", "plain", "--language", "en"]);
        assert_eq!(classify(&["--prompts", "mine.txt"]), english);
        assert_ne!(classify(&["--prompts", "plain"]), english, "a Chinese label is asked in Chinese");
        let line = ["classify", "--labels", &joined, "--model", name, "--prompts", "photographs", "0.png"];
        let refused = chiasm(dir.path(), &line).code(1);
        assert!(refused.err.contains("expected imagenet, short, plain or a file"), "{}", refused.err);
    }
}

#[test]
fn a_model_is_taken_in_named_everywhere_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    pictures(&dir.path().join("photos"));
    let run = |args: &[&str]| chiasm(dir.path(), args);
    let imported = run(&["model", "import", "tiny-clip", "--name", "someone/clip", "--json"]).code(0).json();
    assert_eq!((&imported["name"], imported["model"]["towers"].as_array().unwrap().len()), (&"someone/clip".into(), 2));
    assert!(imported["path"].as_str().unwrap().ends_with("chiasm/models/someone/clip"), "{imported}");
    std::fs::remove_dir_all(&model).unwrap();

    // Everywhere a model is named, offline.
    let described = run(&["space", "of-model", "someone/clip", "-o", "clip.space", "--json"]).code(0).json();
    let again = run(&["space", "of-model", "hf-hub:someone/clip", "-o", "again.space", "--json"]).code(0).json();
    assert_eq!(described["fingerprint"], again["fingerprint"]);
    assert_eq!(run(&["index", "photos", "--model", "someone/clip", "--json"]).code(0).json()["n_new"], 4);
    let found = run(&["search", "w3 w14", "--kind", "image", "--library", "photos/.chiasm", "--json"]).code(0).json();
    assert_eq!(found["hits"].as_array().unwrap().len(), 3);
    run(&["classify", "photos/0.png", "--labels", "w1,w2 w9", "--model", "someone/clip", "--json"]).code(0);
    let info = run(&["model", "info", "someone/clip", "--json"]).code(0).json();
    assert_eq!((&info["dim"], info["towers"][1]["kind"].as_str()), (&16.into(), Some("text")));
    assert_eq!(info["towers"][1]["fingerprint"], imported["model"]["towers"][1]["fingerprint"]);
    let one = run(&["model", "info", "someone/clip:text", "--json"]).code(0).json();
    assert_eq!(one["fingerprint"], info["towers"][1]["fingerprint"]);

    let list = run(&["model", "list", "--here", "--json"]).code(0).json();
    let row = list["models"].as_array().unwrap().iter().find(|row| row["name"] == "someone/clip").unwrap().clone();
    assert_eq!((&row["place"], &row["kind"], &row["dim"]), (&"store".into(), &"image+text".into(), &16.into()));
    assert!(run(&["model", "list"]).code(0).out.contains("openai/clip-vit-base-patch32"));

    assert_eq!(run(&["model", "verify", "--json"]).code(0).json()["clean"], true);
    let weights = dir.path().join(".local/share/chiasm/models/someone/clip/model.safetensors");
    if weights.exists() {
        let mut bytes = std::fs::read(&weights).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&weights, bytes).unwrap();
        let damaged = run(&["model", "verify"]).code(1);
        assert!(damaged.out.contains("model.safetensors: its content has changed"), "{}", damaged.out);
    }
    let removed = run(&["model", "rm", "someone/clip"]).code(0);
    assert!(removed.out.contains("someone/clip: removed, ") && removed.out.contains("freed"), "{}", removed.out);
    let gone = run(&["model", "rm", "someone/clip"]).code(1);
    assert!(gone.err.contains("is not in the store"), "{}", gone.err);
    let absent = run(&["index", "photos", "--library", "new", "--model", "someone/clip"]).code(1);
    assert!(absent.err.contains("chiasm model pull someone/clip"), "{}", absent.err);
    assert!(!dir.path().join("new").exists());
}

#[test]
fn nothing_is_fetched_unless_asked_and_refusals_name_the_ways_out() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| chiasm(dir.path(), args);
    // Facts are told of what is not here.
    let info = run(&["model", "info", "ViT-B-32/openai", "--json"]).code(0).json();
    assert_eq!((&info["published_as"], &info["found"]), (&"openai/clip-vit-base-patch32".into(), &false.into()));
    assert!(info["figures"][0]["source"].as_str().unwrap().contains("open_clip"), "{info}");
    let told = run(&["model", "info", "ViT-B-32/openai"]).code(0);
    for part in ["licence      not stated", "512 numbers", "R@10", "chiasm model pull openai/clip-vit-base-patch32"] {
        assert!(told.out.contains(part) || told.err.contains(part), "no {part} in:\n{}\n{}", told.out, told.err);
    }
    for (args, code, words) in [
        (&["model", "pull", "ViT-B-32/openai", "--offline"][..], 1, "--offline was given"),
        (&["model", "pull", "../../etc"], 2, "is no name of a model"),
        (&["model", "pull", "char-ngrams"], 2, "needs no weights"),
        (&["model", "pull", "yamnet"], 1, "put `yamnet.json`"),
        (&["model", "verify", "ViT-B-32/openai"], 1, "is not in the store"),
        (&["model", "import", "nowhere"], 1, "give the folder of a model"),
    ] {
        let reply = run(args).code(code);
        assert!(reply.err.contains(words), "{args:?}: no `{words}` in: {}", reply.err);
    }
    let offline = command(dir.path()).args(["model", "pull", "ViT-B-32/openai"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let offline = Reply::of(offline).code(1);
    for way in ["HF_HUB_OFFLINE is set", "HF_ENDPOINT=", "chiasm model import FOLDER", "chiasm model list"] {
        assert!(offline.err.contains(way), "no {way} in: {}", offline.err);
    }
    assert!(run(&["model", "verify"]).code(0).out.contains("holds no models"));
}

#[test]
fn a_pull_through_a_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let model = checkpoint(dir.path());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    // A mirror that states no checksums of the small files, and of the weights one.
    let weights = "model.safetensors";
    let sum = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(model.join(weights)).unwrap());
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let files: Vec<String> =
        std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let siblings: Vec<Value> = files.iter().map(|file| serde_json::json!({ "rfilename": file })).collect();
    let listing = serde_json::json!({ "sha": commit, "siblings": siblings }).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let body = match path.rsplit_once('/') {
                _ if path.starts_with("/mirror/api/models/someone/clip/revision/main") => Some(listing.clone().into_bytes()),
                Some((_, file)) if path.starts_with(&format!("/mirror/someone/clip/resolve/{commit}/")) => {
                    std::fs::read(model.join(file)).ok()
                }
                _ => None,
            };
            let tag = if path.ends_with(weights) { format!("etag: \"{sum}\"\r\n") } else { String::new() };
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{tag}content-length: {}\r\n\r\n", body.len());
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
        }
    });
    let pull = |name: &str, more: &[&str]| {
        let mut command = command(dir.path());
        command.env("HF_ENDPOINT", format!("http://{address}/mirror/")).args(["model", "pull", name]).args(more);
        Reply::of(command.output().unwrap())
    };
    let missing = pull("someone/else", &[]).code(1);
    assert!(missing.err.contains("shows no model `someone/else` (404)"), "{}", missing.err);
    let pulled = pull("hf-hub:someone/clip", &["--progress", "json"]).code(0);
    assert!(
        pulled.out.starts_with("someone/clip: fetched; image to 16 numbers, text to 16 numbers; 4 files, "),
        "{}",
        pulled.out
    );
    assert!(pulled.err.contains(r#""stage":"fetching someone/clip""#), "{}", pulled.err);
    assert_eq!(pull("someone/clip", &["--json"]).code(0).json()["was_here"], true);
    assert!(
        chiasm(dir.path(), &["model", "pull", "someone/clip", "--offline"]).code(0).out.contains("here already, and whole")
    );
    assert_eq!(chiasm(dir.path(), &["model", "verify", "someone/clip"]).code(0).err, "");
}
