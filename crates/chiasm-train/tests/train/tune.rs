//! Checkpoints of CLIP that are tuned: that the towers on the tape are those of the encoder and of torch, that only what may change does, and that what is written
//! is a checkpoint like the one it began as. `reference/train_clip_goldens.py` writes the numbers of torch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Image, Media, NoProgress};
use chiasm_encode::ModelDirs;
use chiasm_train::{Begin, ClipProbe, Config, Distill, Line};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::common::{Tensor, config, lines, losses, run, same_files, stopped_after, tensors};

/// What `reference/train_clip_goldens.py` wrote of a model.
struct Golden {
    json: Value,
    bytes: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let path = format!("{}/../../testdata/goldens/train/{name}", env!("CARGO_MANIFEST_DIR"));
        let read = |ending: &str| std::fs::read(format!("{path}.{ending}")).expect("the goldens stand in the repository");
        Self { json: serde_json::from_slice(&read("json")).unwrap(), bytes: read("safetensors") }
    }

    /// Writes the checkpoint, with some of its files otherwise.
    fn checkpoint(&self, folder: &Path, change: impl Fn(&str, &mut Value)) {
        std::fs::create_dir_all(folder).unwrap();
        for (file, content) in self.json["files"].as_object().unwrap() {
            let mut content = content.clone();
            change(file, &mut content);
            std::fs::write(folder.join(file), content.to_string()).unwrap();
        }
        let tensors: Vec<(&String, Vec<usize>, Vec<u8>)> = self.json["tensors"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, recipe)| {
                let shape: Vec<usize> = serde_json::from_value(recipe[0].clone()).unwrap();
                let [centre, spread] = [1, 2].map(|at| recipe[at].as_f64().unwrap() as f32);
                let values = numbers(name, shape.iter().product(), centre, spread);
                (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        // As older checkpoints have it.
        let positions: Vec<u8> = (0..12_i64).flat_map(i64::to_le_bytes).collect();
        let buffer = ("text_model.embeddings.position_ids", TensorView::new(Dtype::I64, vec![1, 12], &positions).unwrap());
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        serialize_to_file(views.chain([buffer]), None, &folder.join("model.safetensors")).unwrap();
    }

    fn pictures(&self) -> Vec<Media> {
        let side = self.json["files"]["config.json"]["vision_config"]["image_size"].as_u64().unwrap() as usize;
        let n = self.texts().len();
        let bytes = numbers(self.json["pictures"].as_str().unwrap(), n * side * side * 3, 0.0, 1.0);
        let bytes: Vec<u8> = bytes.iter().map(|u| (127.5 + 127.5 * u).floor() as u8).collect();
        let picture = |rgb: &[u8]| Media::Image(Image { width: side as u32, height: side as u32, rgb: rgb.to_vec() });
        bytes.chunks_exact(side * side * 3).map(picture).collect()
    }

    fn texts(&self) -> Vec<Media> {
        self.json["texts"].as_array().unwrap().iter().map(|text| Media::Text(text.as_str().unwrap().to_owned())).collect()
    }

    fn expected(&self, name: &str) -> Vec<f32> {
        let all = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = all.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// Numbers that depend on a name and their place alone, as `reference/encode_shared.py` makes them: FNV-1a, then splitmix64.
fn numbers(name: &str, n: usize, centre: f32, spread: f32) -> Vec<f32> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let number = |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        centre + spread * ((z >> 40) as f32 / 8_388_608.0 - 1.0)
    };
    (1..=n as u64).map(number).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

fn encoded(folder: &Path, kind: &str, media: &[Media]) -> Vec<f32> {
    let encoder = chiasm_encode::open(&format!("{}:{kind}", folder.display()), &ModelDirs::default()).unwrap();
    encoder.encode(media).unwrap().into_data()
}

const GOLDENS: [&str; 2] = ["clip_quick", "clip_gelu"];

#[test]
fn the_tape_the_encoder_and_torch_agree() {
    for name in GOLDENS {
        let (golden, folder) = (Golden::read(name), tempfile::tempdir().unwrap());
        golden.checkpoint(folder.path(), |_, _| ());
        let probe = ClipProbe::open(folder.path()).unwrap();
        for (kind, media) in [("image", golden.pictures()), ("text", golden.texts())] {
            let on_tape = probe.embed(&media).unwrap();
            let by_encoder = apart(on_tape.data(), &encoded(folder.path(), kind, &media));
            let by_torch = apart(on_tape.data(), &golden.expected(kind));
            println!("{name}, {kind}: {by_encoder:.1e} from the encoder, {by_torch:.1e} from torch in double precision");
            // Unit vectors in single precision.
            assert!(by_encoder < 1e-5 && by_torch < 1e-5, "{name}, {kind}: {by_encoder:e} {by_torch:e}");
        }
    }
}

#[test]
fn gradients_are_torchs() {
    for name in GOLDENS {
        let (golden, folder) = (Golden::read(name), tempfile::tempdir().unwrap());
        golden.checkpoint(folder.path(), |_, _| ());
        let probe = ClipProbe::open(folder.path()).unwrap();
        let (loss, gradients) = probe.gradients(&golden.pictures(), &golden.texts()).unwrap();
        let expected = golden.expected("loss")[0];
        assert!((loss - expected).abs() < 1e-5 * expected, "{name}: loss {loss}, torch's {expected}");
        let largest = |of: &[f32]| of.iter().map(|g| g.abs()).fold(0.0, f32::max);
        let all: Vec<(&String, Vec<f32>)> =
            gradients.keys().map(|tensor| (tensor, golden.expected(&format!("gradient.{tensor}")))).collect();
        assert_eq!(all.len(), golden.json["tensors"].as_object().unwrap().len(), "every tensor is learned");
        let most_of_all = all.iter().map(|(_, expected)| largest(expected)).fold(0.0, f32::max);
        let (mut most, mut of) = (0.0, "");
        for (tensor, expected) in &all {
            let off = apart(gradients[*tensor].data(), expected);
            // A key's bias moves all scores of a row alike, so that its gradient is nothing and what is left of it is rounding.
            let is_nothing = tensor.ends_with("k_proj.bias");
            let size = if is_nothing { most_of_all } else { largest(expected) };
            assert!(is_nothing || largest(expected) > 1e-6, "{tensor} has no gradient to be compared");
            assert!(off < 1e-5 * size, "{name}, {tensor}: off by {off:e}, its greatest is {size:e}");
            if off / size > most {
                (most, of) = (off / size, tensor);
            }
        }
        println!("{name}: loss {loss:.6}, {} gradients within {most:.1e} of torch's, the farthest {of}", all.len());
    }
}

/// A checkpoint that knows the commonest words of a small world's captions, and these pictures and captions.
struct Things {
    dir: tempfile::TempDir,
}

impl Things {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = chiasm_world::WorldConfig { seed: 2, n_train: 48, n_heldout: 16 };
        let items = chiasm_world::generate(&dir.path().join("world"), &made, &NoProgress, &Cancel::default()).unwrap().items;
        let rows = items.iter().map(|item| json!({ "picture": format!("world/{}", item.image.display()), "said": item.text }));
        let rows: String = rows.map(|row| row.to_string() + "\n").collect();
        std::fs::write(dir.path().join("things.jsonl"), rows).unwrap();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let words = items.iter().flat_map(|item| item.text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
        words.filter(|word| word.len() > 1).for_each(|word| *counts.entry(word).or_default() += 1);
        let mut words: Vec<(String, usize)> = counts.into_iter().collect();
        words.sort_by_key(|(word, n)| (std::cmp::Reverse(*n), word.clone()));
        Golden::read("clip_quick").checkpoint(&dir.path().join("clip"), |file, content| {
            if file == "tokenizer.json" {
                let named = words.iter().take(61).enumerate().map(|(i, (word, _))| (word.clone(), json!(i + 1)));
                let special =
                    [("w0", 0), ("<|startoftext|>", 62), ("<|endoftext|>", 63)].map(|(word, i)| (word.to_owned(), json!(i)));
                content["model"]["vocab"] = Value::Object(named.chain(special).collect());
            }
        });
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, image: &str, text: &str, more: &str) -> Config {
        let towers = format!("image = {{ {image} }}\ntext = {{ {text} }}");
        let data = "[[data]]\nkind = \"table\"\nfile = \"things.jsonl\"\ncolumns = { image = [\"picture\"], text = [\"said\"] }\nvalidation = 0.25";
        config(
            self.dir.path(),
            &format!("seed = 3\n[start]\ncheckpoint = \"clip\"\n{towers}\n{data}\n[train]\nwarm_up = 2\n{more}\n"),
        )
    }

    fn media(&self) -> (Vec<Media>, Vec<Media>) {
        let scenes = chiasm_world::deck(&chiasm_world::WorldConfig { seed: 2, n_train: 12, n_heldout: 0 }).unwrap();
        let each = scenes.iter().enumerate();
        let pictures = each.clone().map(|(i, scene)| Media::Image(chiasm_world::picture(scene, 2, i + 1))).collect();
        (pictures, each.map(|(i, scene)| Media::Text(chiasm_world::captions(scene, 2, i + 1)[0].clone())).collect())
    }
}

const FULL: &str = "train = \"full\"";
const FROZEN: &str = "train = \"frozen\"";
const LORA: &str = "train = \"lora\", rank = 2, alpha = 8";
const QUICK: &str = "epochs = 12\nbatch = 16\nrate = 3e-3";

/// Names of the tensors that differ between two folders, of which the shapes and types do not.
fn changed(before: &BTreeMap<String, Tensor>, after: &BTreeMap<String, Tensor>) -> Vec<String> {
    let shapes = |of: &BTreeMap<String, Tensor>| {
        of.iter().map(|(name, (dtype, shape, _))| (name.clone(), dtype.clone(), shape.clone())).collect::<Vec<_>>()
    };
    assert_eq!(shapes(before), shapes(after), "names, types and shapes");
    before.iter().filter(|(name, tensor)| after[*name] != **tensor).map(|(name, _)| name.clone()).collect()
}

#[test]
fn without_a_step_the_checkpoint_is_written_as_it_came() {
    let things = Things::new();
    let folder = things.at("same");
    let outcome = run(&things.config(LORA, FULL, "epochs = 0"), &folder, Begin::New).unwrap();
    assert_eq!((outcome.n_steps, outcome.best_epoch), (0, 0));
    assert!(matches!(outcome.best, Some(Line::Validation { step: 0, epoch: 0, .. })), "{:?}", outcome.best);
    assert_eq!(changed(&tensors(&things.at("clip")), &tensors(&folder)), Vec::<String>::new());
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert!(std::fs::read(folder.join(file)).unwrap() == std::fs::read(things.at("clip").join(file)).unwrap(), "{file}");
    }
    let (pictures, texts) = things.media();
    for (kind, media) in [("image", &pictures), ("text", &texts)] {
        assert!(encoded(&folder, kind, media) == encoded(&things.at("clip"), kind, media), "{kind}");
    }
}

#[test]
fn only_what_may_change_does_and_the_loss_falls() {
    let things = Things::new();
    let before = tensors(&things.at("clip"));
    let of_image = |name: &str| name.starts_with("vision_model.") || name.starts_with("visual_projection.");
    let of_text =
        |name: &str| (name.starts_with("text_model.") || name.starts_with("text_projection.")) && !name.ends_with("_ids");
    let dense = |name: &str| {
        let parts = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"];
        parts.iter().any(|part| name.ends_with(&format!("{part}.weight")))
    };
    let mut firsts = Vec::new();
    for (image, text, objective) in [
        (FULL, FULL, "infonce"),
        (FROZEN, FULL, "infonce"),
        (LORA, FROZEN, "infonce"),
        (LORA, LORA, "infonce"),
        (FROZEN, LORA, "siglip"),
        (FULL, FROZEN, "triplet"),
    ] {
        let what = format!("image {image}, text {text}, {objective}").replace('"', "");
        let folder = things.at(&what);
        // What was set aside is best as it came for a model of random weights; here the last weights are looked at.
        let mut config = things.config(image, text, &format!("{QUICK}\nobjective = \"{objective}\"\ndecay = 0.01"));
        let chiasm_train::Source::Table { validation, .. } = &mut config.data[0] else { panic!("a table") };
        *validation = 0.0;
        run(&config, &folder, Begin::New).unwrap();
        let losses = losses(&folder);
        println!("{what}: loss {:.3} to {:.3} in {} steps", losses[0], losses[losses.len() - 1], losses.len());
        assert!(losses[losses.len() - 1] < 0.95 * losses[0], "{what}: {losses:?}");
        let mut after = tensors(&folder);
        assert_eq!(after.remove("logit_bias").is_some(), objective == "siglip");
        let found = changed(&before, &after);
        let may = |how: &str, name: &str| how == FULL || (how == LORA && dense(name));
        let expected: Vec<String> = before
            .keys()
            .filter(|name| {
                (of_image(name) && may(image, name))
                    || (of_text(name) && may(text, name))
                    || (*name == "logit_scale" && objective != "triplet")
            })
            .cloned()
            .collect();
        assert_eq!(found, expected, "{what}");
        // It is opened as any model.
        let (pictures, texts) = things.media();
        encoded(&folder, "image", &pictures);
        encoded(&folder, "text", &texts);
        if objective == "infonce" {
            firsts.push(losses[0]);
        }
    }
    // The first loss is that of the checkpoint, whether the tape or the encoder computes it.
    let most = firsts.iter().map(|loss| (loss - firsts[0]).abs()).fold(0.0, f64::max);
    println!("first losses differ by {most:.1e} at most");
    assert!(most < 1e-5, "{firsts:?}");
}

/// What `[start]` writes is a checkpoint, so it can be tuned again.
#[test]
fn the_best_weights_are_kept_and_tuned_again() {
    let things = Things::new();
    let folder = things.at("tuned");
    let outcome =
        run(&things.config(FULL, FULL, "epochs = 60\nbatch = 12\nrate = 3e-3\nema = 0.9"), &folder, Begin::New).unwrap();
    let figures: Vec<f64> = lines(&folder)
        .iter()
        .filter_map(|line| if let Line::Validation { figure, .. } = line { Some(*figure) } else { None })
        .collect();
    let most = figures.iter().copied().fold(0.0, f64::max);
    println!(
        "mean reciprocal rank of 16 things set aside: {:.3} as it came, {most:.3} at epoch {}",
        figures[0], outcome.best_epoch
    );
    assert_eq!(figures.len(), 61, "the checkpoint as it came, and every epoch");
    assert_eq!(figures.iter().position(|figure| *figure == most), Some(outcome.best_epoch));
    let mut config = things.config(FROZEN, LORA, "epochs = 1\nbatch = 12");
    config.start.as_mut().unwrap().checkpoint = folder.display().to_string();
    let again = things.at("again");
    run(&config, &again, Begin::New).unwrap();
    let Line::Validation { figure, .. } = &lines(&again)[0] else { panic!("what it finds as it comes") };
    // The frozen tower is the encoder's, which rounds otherwise than the tape: things equally close might change places.
    assert!((figure - most).abs() < 1e-2, "{figure} and {most}");
}

#[test]
fn a_stopped_tuning_goes_on_as_if_it_had_not_been() {
    let things = Things::new();
    for (at, (image, text)) in [(FROZEN, FULL), (LORA, FULL)].into_iter().enumerate() {
        let config = things.config(image, text, "epochs = 4\nbatch = 12\nrate = 1e-3\ndropout = 0.1");
        let [through, halves] = ["through", "halves"].map(|name| things.at(&format!("{name} {at}")));
        run(&config, &through, Begin::New).unwrap();
        stopped_after(3, &config, &halves, Begin::New);
        std::fs::write(halves.join("checkpoint.safetensors.partial"), b"half").unwrap();
        stopped_after(4, &config, &halves, Begin::Resume);
        run(&config, &halves, Begin::Resume).unwrap();
        same_files(&through, &halves);
        assert_eq!(lines(&through), lines(&halves));
    }
    // What stays as it is stands in the checkpoint that was tuned, which must be the same then.
    let config = things.config(FROZEN, FULL, "epochs = 4\nbatch = 12\nrate = 1e-3\ndropout = 0.1");
    let weights = things.at("clip").join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let refused = run(&config, &things.at("through 0"), Begin::Resume).unwrap_err().to_string();
    assert!(refused.contains("began with other weights"), "{refused}");
}

#[test]
fn chunks_and_a_small_cache_change_nothing() {
    let things = Things::new();
    let of = |name: &str, more: &str| {
        let folder = things.at(name);
        let more = format!("batch = 24\nepochs = 3\noptimiser = \"sgd\"\nrate = 0.05\ndecay = 0.0\n{more}");
        run(&things.config(FROZEN, FULL, &more), &folder, Begin::New).unwrap();
        losses(&folder)
    };
    let (whole, chunked, uncached) = (of("whole", ""), of("chunked", "chunk = 7"), of("uncached", "cache_bytes = 100"));
    let most = whole.iter().zip(&chunked).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(most < 1e-4, "{whole:?} {chunked:?}");
    assert_eq!(whole, uncached, "embeddings that are computed again are the same");
}

/// A checkpoint that is its own teacher has nothing to learn from it, whichever of its towers the tape computes.
#[test]
fn a_checkpoint_is_as_its_teacher_says() {
    let things = Things::new();
    let mut config = things.config(FULL, LORA, "epochs = 1\nbatch = 16\nrate = 1e-3");
    let teacher = things.at("clip").display().to_string();
    config.distill = Some(Distill { teacher, weight: 1.0, cosine: 1.0, objective: 0.0, scale: None });
    run(&config, &things.at("taught"), Begin::New).unwrap();
    let first = losses(&things.at("taught"))[0];
    println!("a checkpoint taught by itself: first loss {first:.1e}");
    assert!(first.abs() < 1e-5, "{first}");
    // Another's is another.
    Golden::read("clip_gelu").checkpoint(&things.at("other"), |_, _| ());
    config.distill.as_mut().unwrap().teacher = things.at("other").display().to_string();
    run(&config, &things.at("taught by another"), Begin::New).unwrap();
    assert!(losses(&things.at("taught by another"))[0] > 0.1);
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_by_name() {
    let things = Things::new();
    let golden = Golden::read("clip_quick");
    let said = |change: &dyn Fn(&mut Value), name: &str| {
        golden.checkpoint(&things.at(name), |file, content| {
            if file == "config.json" {
                change(content)
            }
        });
        let mut config = things.config(FULL, FULL, QUICK);
        config.start.as_mut().unwrap().checkpoint = things.at(name).display().to_string();
        run(&config, &things.at(&format!("{name} tuned")), Begin::New).unwrap_err().to_string()
    };
    type Change = fn(&mut Value);
    let cases: [(&str, Change, [&str; 2]); 4] = [
        ("siglip", |c| c["model_type"] = json!("siglip"), ["type `siglip`", "model_type `clip`"]),
        (
            "relu",
            |c| c["text_config"]["hidden_act"] = json!("relu"),
            ["text_config: hidden_act is Relu", "expected quick_gelu or gelu"],
        ),
        ("wide", |c| c["projection_dim"] = json!(13), ["projection", "[13, 24]"]),
        (
            "deep",
            |c| c["vision_config"]["num_hidden_layers"] = json!(3),
            ["no tensor `vision_model.encoder.layers.2.", "another model"],
        ),
    ];
    for (name, change, words) in cases {
        let said = said(&change, name);
        assert!(words.iter().all(|word| said.contains(word)) && said.contains(name), "{words:?} are not in: {said}");
    }
    let refused = |text: &str| {
        let path = things.at("train.toml");
        std::fs::write(&path, format!("{text}\n[[data]]\nkind = \"world\"\nworld = 1\nscenes = 10\n")).unwrap();
        match Config::read(&path) {
            Err(e) => e.to_string(),
            Ok(config) => run(&config, &things.at("none"), Begin::New).unwrap_err().to_string(),
        }
    };
    for (text, word) in [
        (
            "[start]\ncheckpoint = \"clip\"\nimage = { train = \"frozen\" }\ntext = { train = \"frozen\" }",
            "nothing would be learned",
        ),
        ("[start]\ncheckpoint = \"clip\"\nimage = { train = \"lora\" }", "start.image.train is lora without a rank"),
        ("[start]\ncheckpoint = \"clip\"\ntext = { train = \"full\", rank = 8 }", "start.text: rank and alpha"),
        ("[start]\ncheckpoint = \"clip\"\ntext = { train = \"half\" }", "half"),
        ("[start]\ncheckpoint = \"clip:image\"", "name the whole model"),
        ("[start]\ncheckpoint = \"openai/clip-vit-base-patch32\"", "chiasm model pull openai/clip-vit-base-patch32"),
        ("[start]\ncheckpoint = \"clip\"\n[model]\nprojection = 8", "[model] and [start] both"),
        ("seed = 1", "neither [model] nor [start]"),
        ("[start]\ncheckpoint = \"clip\"\n[distill]\nteacher = \"clip\"\nweight = 0.0", "the teacher teaches nothing"),
    ] {
        let said = refused(text);
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}
