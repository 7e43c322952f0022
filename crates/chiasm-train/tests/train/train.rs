//! Trainings of small towers from raw files: that they learn, that what they give is what encoders compute, and that a stop loses nothing.

use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Media, NoProgress, Picture};
use chiasm_encode::ModelDirs;
use chiasm_train::{Begin, Config, Line};

use crate::common::{config, lines, losses, run, same_files, stopped_after, tensors};

/// Towers small enough for a test.
const MODEL: &str = r#"
[model]
projection = 32
image = { size = 32, patch = 8, width = 32, inner = 64, layers = 1, heads = 2 }
text = { vocabulary = 400, tokens = 24, width = 32, inner = 64, layers = 1, heads = 2 }
"#;

fn world(model: &str, scenes: usize, train: &str) -> String {
    format!(
        "seed = 3\n{model}\n[[data]]\nkind = \"world\"\nworld = 5\nscenes = {scenes}\nvalidation = 40\n\n[train]\nwarm_up = 5\n{train}\n"
    )
}

#[test]
fn towers_learn_and_are_opened_as_any_model() {
    let dir = tempfile::tempdir().unwrap();
    let text = world(MODEL, 300, "batch = 50\nepochs = 25\nrate = 3e-3");
    let folder = dir.path().join("model");
    let outcome = run(&config(dir.path(), &text), &folder, Begin::New).unwrap();
    let Some(Line::Validation { directions, .. }) = &outcome.best else { panic!("things were set aside") };
    for d in directions {
        println!("{} to {}: R@1 {:.2}, R@10 {:.2} among {}", d.from, d.to, d.recall[0], d.recall[2], d.n_gallery);
        assert!(d.recall[2] > 2.0 * 10.0 / d.n_gallery as f64, "no better than chance: {d:?}");
    }
    // The folder is a model, whose encoders put a scene's picture nearer to its caption than to others'.
    let name = folder.to_str().unwrap();
    let none = ModelDirs::default();
    let [images, texts] = ["image", "text"].map(|kind| chiasm_encode::open(&format!("{name}:{kind}"), &none).unwrap());
    let scenes = chiasm_world::deck(&chiasm_world::WorldConfig { seed: 5, n_train: 300, n_heldout: 40 }).unwrap();
    let media = |of: &dyn Fn(&chiasm_world::Scene, usize) -> Media| {
        scenes[..20].iter().enumerate().map(|(i, scene)| of(scene, i + 1)).collect::<Vec<_>>()
    };
    let pictures = images.encode(&media(&|scene, i| Media::Image(chiasm_world::picture(scene, 5, i)))).unwrap();
    let captions = texts.encode(&media(&|scene, i| Media::Text(chiasm_world::captions(scene, 5, i)[0].clone()))).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let ahead = (0..20)
        .map(|i| (0..20).filter(|j| dot(pictures.row(i), captions.row(*j)) > dot(pictures.row(i), captions.row(i))).count())
        .sum::<usize>();
    assert!(ahead < 20 * 3, "of learned scenes {ahead} captions stand before the right ones, chance gives 190");
    assert!(folder.join("curves.html").is_file());
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let text = world(MODEL, 60, "batch = 20\nepochs = 4\ndropout = 0.1\naccumulate = 1");
    let config = config(dir.path(), &text);
    let at = |name: &str| dir.path().join(name);
    run(&config, &at("through"), Begin::New).unwrap();
    stopped_after(4, &config, &at("halves"), Begin::New);
    // A run that is killed leaves lines in the log that are newer than the checkpoint, and perhaps half a file.
    let log = at("halves").join("log.jsonl");
    let mut text = std::fs::read_to_string(&log).unwrap();
    text.push_str("{\"kind\":\"step\",\"step\":99");
    std::fs::write(&log, text).unwrap();
    std::fs::write(at("halves").join("checkpoint.safetensors.partial"), b"half").unwrap();
    stopped_after(3, &config, &at("halves"), Begin::Resume);
    run(&config, &at("halves"), Begin::Resume).unwrap();
    same_files(&at("through"), &at("halves"));
    assert_eq!(lines(&at("through")), lines(&at("halves")));
    // What is there is not overwritten unasked, nor gone on with in another way.
    let refused = run(&config, &at("halves"), Begin::New).unwrap_err().to_string();
    assert!(refused.contains("--resume"), "{refused}");
    let mut other = config.clone();
    other.train.rate = 0.5;
    let refused = run(&other, &at("halves"), Begin::Resume).unwrap_err().to_string();
    assert!(refused.contains("another description"), "{refused}");
}

/// What reads a text with a picture before it.
const MATCHING: &str = "matching = { width = 32, inner = 64, layers = 1, heads = 2, pairs = 16 }";

#[test]
fn what_reads_texts_with_pictures_learns_and_re_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let model = format!("{MODEL}{}", MATCHING.replace("pairs = 16", "pairs = 0"));
    let text = world(&model, 300, "batch = 50\nepochs = 40\nrate = 3e-3")
        .replace("validation = 40", "validation = 40\nswapped = true");
    let folder = dir.path().join("model");
    let outcome = run(&config(dir.path(), &text), &folder, Begin::New).unwrap();
    let Some(Line::Validation { directions, swaps, .. }) = &outcome.best else { panic!("things were set aside") };
    for d in directions {
        println!("{} to {}: R@1 {:.2}, R@10 {:.2} among {}", d.from, d.to, d.recall[0], d.recall[2], d.n_gallery);
    }
    swaps.iter().for_each(|s| println!("{}, {}: {:.2} of {}", s.media, s.what, s.right, s.n));
    let of = |to: &str| directions.iter().find(|d| d.to == to).unwrap();
    for matched in ["image (matched)", "text (matched)"].map(of) {
        // The first places are taken from what the towers found, so that chance would not be much worse than these.
        assert!(matched.mrr > 3.0 / matched.n_gallery as f64 && matched.n_queries == matched.n_gallery, "{matched:?}");
    }
    // The same folder is a cross-encoder.
    let encoder = chiasm_encode::open_cross_encoder(folder.to_str().unwrap(), &ModelDirs::default()).unwrap();
    let scenes = chiasm_world::deck(&chiasm_world::WorldConfig { seed: 5, n_train: 300, n_heldout: 40 }).unwrap();
    const N: usize = 60;
    let pictures: Vec<Picture> = (0..N).map(|i| Picture::Pixels(chiasm_world::picture(&scenes[i], 5, i + 1))).collect();
    let among_first = |i: &usize| {
        let scores = encoder.score_pictures(&chiasm_world::captions(&scenes[*i], 5, i + 1)[0], &pictures).unwrap();
        scores.iter().filter(|score| **score >= scores[*i]).count() <= N / 4
    };
    let found = (0..N).filter(among_first).count();
    println!("of {N} captions of learned scenes, {found} find theirs in the first quarter of {N}");
    assert!(found >= 30, "{found}, chance gives {}", N / 4);
}

#[test]
fn a_stopped_run_that_reads_goes_on_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let text = world(&format!("{MODEL}{MATCHING}"), 60, "batch = 20\nepochs = 3\ndropout = 0.1");
    let config = config(dir.path(), &text);
    let at = |name: &str| dir.path().join(name);
    run(&config, &at("through"), Begin::New).unwrap();
    stopped_after(4, &config, &at("halves"), Begin::New);
    run(&config, &at("halves"), Begin::Resume).unwrap();
    same_files(&at("through"), &at("halves"));
}

#[test]
fn changes_at_random_are_drawn_again_where_a_stopped_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let others = "audio = { bands = 32, frames = 160, patch = 8, width = 16, inner = 32, layers = 1, heads = 2 }\n\
                  series = { steps = 96, channels = 4, window = 8, width = 16, inner = 32, layers = 1, heads = 2 }\n";
    let text = world(&format!("{MODEL}{others}"), 40, "batch = 20\nepochs = 3");
    let changes = "[augment]\nimage = { area = 0.6, mirror = true, light = 0.2 }\n\
                   audio = { speed = 0.1, gain_db = 3, noise = 0.05, bands = 4, frames = 10 }\nseries = { scale = 0.1, noise = 0.05 }\n";
    let (plain, changed) = (config(dir.path(), &text), config(dir.path(), &format!("{text}\n{changes}")));
    let at = |name: &str| dir.path().join(name);
    run(&changed, &at("through"), Begin::New).unwrap();
    stopped_after(3, &changed, &at("halves"), Begin::New);
    run(&changed, &at("halves"), Begin::Resume).unwrap();
    same_files(&at("through"), &at("halves"));
    run(&plain, &at("plain"), Begin::New).unwrap();
    let [with, without] = ["through", "plain"].map(|name| losses(&at(name)));
    assert!(with.iter().zip(&without).all(|(a, b)| a != b), "{with:?} and {without:?}");
}

#[test]
fn products_in_bfloat16_learn_about_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let text = world(MODEL, 60, "batch = 20\nepochs = 6\nrate = 3e-3");
    let at = |name: &str| dir.path().join(name);
    run(&config(dir.path(), &text), &at("f32"), Begin::New).unwrap();
    run(&config(dir.path(), &format!("{text}precision = \"bf16\"\n")), &at("bf16"), Begin::New).unwrap();
    let [single, rounded] = ["f32", "bf16"].map(|name| losses(&at(name)));
    let apart: Vec<f64> = single.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).collect();
    println!("losses of {} steps differ by at most {:.4}", apart.len(), apart.iter().copied().fold(0.0, f64::max));
    // Each of them is between 2 and 3; a bfloat16 has eight bits, and the paths of two trainings part slowly.
    assert!(apart.iter().any(|d| *d > 0.0) && apart.iter().all(|d| *d < 0.1), "{single:?} and {rounded:?}");
}

#[test]
fn chunks_give_the_gradients_of_the_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str, more: &str| {
        let text = world(MODEL, 48, &format!("batch = 24\nepochs = 3\noptimiser = \"sgd\"\nrate = 0.1\ndecay = 0.0\n{more}"));
        let folder = dir.path().join(name);
        run(&config(dir.path(), &text), &folder, Begin::New).unwrap();
        losses(&folder)
    };
    let (whole, chunked) = (of("whole", ""), of("chunked", "chunk = 7"));
    let most = whole.iter().zip(&chunked).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!(
        "losses of {} steps, {:.4} to {:.4}: chunks change them by {most:.1e} at most",
        whole.len(),
        whole[0],
        whole[whole.len() - 1]
    );
    assert!(most < 1e-4, "{whole:?} {chunked:?}");
    // What is left out is drawn for each chunk by itself: that this changes the first loss shows that there are chunks at all.
    let (whole, chunked) = (of("whole, dropped", "dropout = 0.2"), of("chunked, dropped", "dropout = 0.2\nchunk = 7"));
    assert!((whole[0] - chunked[0]).abs() > 1e-4, "{} and {}: a batch was not cut", whole[0], chunked[0]);
}

#[test]
fn every_objective_and_optimiser_learns() {
    let dir = tempfile::tempdir().unwrap();
    for (objective, optimiser, rate) in [
        ("infonce", "adamw", 3e-3),
        ("siglip", "adam", 3e-3),
        ("triplet", "adamw", 3e-3),
        ("infonce", "lamb", 2e-2),
        ("infonce", "sgd", 0.3),
    ] {
        let text = world(
            MODEL,
            60,
            &format!(
                "batch = 60\nepochs = 25\nobjective = \"{objective}\"\noptimiser = \"{optimiser}\"\nrate = {rate}\nsmoothing = 0.0"
            ),
        );
        let folder = dir.path().join(format!("{objective}-{optimiser}"));
        run(&config(dir.path(), &text), &folder, Begin::New).unwrap();
        let losses = losses(&folder);
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        println!("{objective} by {optimiser}: loss {first:.3} to {last:.3}");
        assert!(last < 0.9 * first, "{objective} by {optimiser}: {first} to {last}");
    }
}

/// A modality bound through a frozen one meets the others too: sounds are trained with pictures alone, and find texts.
#[test]
fn a_kind_bound_through_a_frozen_tower_meets_the_others() {
    const AUDIO: &str = "audio = { bands = 32, frames = 160, patch = 8, width = 32, inner = 64, layers = 1, heads = 2 }\n";
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    let text = world(MODEL, 400, "batch = 50\nepochs = 25\nrate = 3e-3");
    run(&config(dir.path(), &text), &first, Begin::New).unwrap();
    let bound = dir.path().join("bound");
    let model = format!("{MODEL}{AUDIO}start = \"first\"\nfreeze = [\"image\", \"text\"]\n");
    let all = "pairs = [[\"image\", \"audio\"]]";
    let text = world(&model, 400, &format!("batch = 50\nepochs = 25\nrate = 3e-3\n{all}"));
    run(&config(dir.path(), &text), &bound, Begin::New).unwrap();
    let frozen = |folder: &Path| {
        let mut all = tensors(folder);
        all.retain(|name, _| name.starts_with("image.") || name.starts_with("text."));
        all
    };
    assert!(frozen(&first) == frozen(&bound), "frozen towers have changed");
    // The pair that was never trained.
    let none = ModelDirs::default();
    let [sounds, texts] =
        ["audio", "text"].map(|kind| chiasm_encode::open(&format!("{}:{kind}", bound.to_str().unwrap()), &none).unwrap());
    let scenes = chiasm_world::deck(&chiasm_world::WorldConfig { seed: 5, n_train: 400, n_heldout: 40 }).unwrap();
    let unseen = || scenes[400..].iter().enumerate().map(|(i, scene)| (scene, 401 + i));
    let played: Vec<Media> = unseen().map(|(scene, i)| Media::Audio(chiasm_world::sound(scene, 5, i))).collect();
    let told: Vec<Media> = unseen().map(|(scene, i)| Media::Text(chiasm_world::captions(scene, 5, i)[0].clone())).collect();
    let (a, t) = (sounds.encode(&played).unwrap(), texts.encode(&told).unwrap());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let found =
        (0..40).filter(|i| (0..40).filter(|j| dot(a.row(*i), t.row(*j)) > dot(a.row(*i), t.row(*i))).count() < 10).count();
    println!("sounds to texts, never trained together: R@10 {:.2} among 40, chance .25", found as f64 / 40.0);
    assert!(found > 16, "R@10 {found} of 40, chance 10");
}

#[test]
fn low_rank_changes_are_merged_into_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    run(&config(dir.path(), &world(MODEL, 60, "batch = 30\nepochs = 3")), &first, Begin::New).unwrap();
    let model = format!("{MODEL}start = \"first\"\nlora = {{ rank = 2, towers = [\"image\", \"text\"] }}\n");
    let text = world(&model, 60, "batch = 30\nepochs = 8\nrate = 1e-2");
    let changed = dir.path().join("changed");
    let outcome = run(&config(dir.path(), &text), &changed, Begin::New).unwrap();
    let losses = losses(&changed);
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    // Two towers of one block: six dense layers of rank 2, and the temperature.
    let of_layer = |n_in: usize, n_out: usize| 2 * (n_in + n_out);
    assert_eq!(outcome.n_parameters, 2 * (4 * of_layer(32, 32) + of_layer(32, 64) + of_layer(64, 32)) + 1);
    let [a, b] = [&first, &changed].map(|folder| std::fs::metadata(folder.join("model.safetensors")).unwrap().len());
    assert_eq!(a, b, "the change has no tensors of its own");
    chiasm_encode::open(&format!("{}:image", changed.to_str().unwrap()), &ModelDirs::default()).unwrap();
}

/// The same things as a table, as JSON lines, as a folder with captions and as shards.
#[test]
fn every_layout_of_data_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let made = chiasm_world::WorldConfig { seed: 2, n_train: 30, n_heldout: 10 };
    let items = chiasm_world::generate(&at("world"), &made, &NoProgress, &Cancel::default()).unwrap().items;
    let mut captions = String::from("file,caption\n");
    let mut jsonl = String::new();
    let mut shard = tar::Builder::new(std::fs::File::create(at("shard.tar")).unwrap());
    for item in &items {
        captions += &format!("{},{}\n{},{}\n", item.image.display(), item.text, item.image.display(), item.text_zh);
        jsonl +=
            &serde_json::json!({ "picture": format!("world/{}", item.image.display()), "said": [item.text, item.text_zh] })
                .to_string();
        jsonl.push('\n');
        shard.append_path_with_name(at("world").join(&item.image), format!("a/{:04}.png", item.number)).unwrap();
        for (ending, file) in [("en.txt", &item.text_file), ("zh.txt", &item.text_zh_file)] {
            shard.append_path_with_name(at("world").join(file), format!("a/{:04}.{ending}", item.number)).unwrap();
        }
    }
    shard.finish().unwrap();
    std::fs::write(at("captions.csv"), captions).unwrap();
    std::fs::write(at("things.jsonl"), jsonl).unwrap();
    let sources = [
        (
            "csv",
            "kind = \"table\"\nfile = \"world/train.csv\"\ncolumns = { image = [\"image\"], text = [\"text\", \"text_zh\"] }",
        ),
        ("jsonl", "kind = \"table\"\nfile = \"things.jsonl\"\ncolumns = { image = [\"picture\"], text = [\"said\"] }"),
        ("folder", "kind = \"folder\"\ndir = \"world\"\ncaptions = \"captions.csv\""),
        ("shards", "kind = \"shards\"\nfiles = [\"shard.tar\"]"),
    ];
    for (name, source) in sources {
        let text = format!("{MODEL}\n[[data]]\n{source}\nvalidation = 0.2\n\n[train]\nbatch = 10\nepochs = 1\n");
        let outcome = run(&config(dir.path(), &text), &at(name), Begin::New).unwrap_or_else(|e| panic!("{name}: {e}"));
        let n = if name == "csv" { 30 } else { 40 };
        assert_eq!(outcome.n_things, [n - n / 5, n / 5], "{name}");
        assert!(outcome.refused.is_empty(), "{name}: {:?}", outcome.refused);
    }
    // A picture that is none is told, and the others are learned from.
    std::fs::write(at("world").join(&items[0].image), b"no picture").unwrap();
    let text = format!("{MODEL}\n[[data]]\n{}\nvalidation = 0.0\n\n[train]\nbatch = 40\nepochs = 2\n", sources[2].1);
    let outcome = run(&config(dir.path(), &text), &at("broken"), Begin::New).unwrap();
    assert_eq!(outcome.refused.len(), 1, "{:?}", outcome.refused);
    assert!(outcome.refused[0].contains("0001.png"), "{:?}", outcome.refused);
    // A shard that was cut off.
    let bytes = std::fs::read(at("shard.tar")).unwrap();
    std::fs::write(at("cut.tar"), &bytes[..bytes.len() / 2 + 700]).unwrap();
    let text = format!("{MODEL}\n[[data]]\nkind = \"shards\"\nfiles = [\"cut.tar\"]\n");
    let refused = run(&config(dir.path(), &text), &at("cut"), Begin::New).unwrap_err().to_string();
    assert!(refused.contains("cut.tar"), "{refused}");
}

#[test]
fn a_description_that_cannot_be_followed_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("train.toml");
    let data = "[[data]]\nkind = \"world\"\nworld = 1\nscenes = 10\n";
    let refused = |text: String| {
        std::fs::write(&path, text).unwrap();
        Config::read(&path).unwrap_err().to_string()
    };
    for (text, word) in [
        (format!("{MODEL}{data}[train]\nepoch = 3\n"), "epoch"),
        (format!("{MODEL}{data}[train]\nbatch = 1\n"), "train.batch is 1"),
        (format!("{MODEL}{data}[train]\nrate = -1.0\n"), "train.rate is -1"),
        (format!("{MODEL}{data}[train]\noptimiser = \"newton\"\n"), "newton"),
        (format!("{MODEL}{data}[train]\npairs = [[\"image\", \"smell\"]]\n"), "smell"),
        (format!("{MODEL}{data}[train]\nweights = \"f8\"\n"), "f8"),
        (format!("{MODEL}freeze = [\"image\"]\n{data}"), "model.start"),
        (format!("[model]\nprojection = 8\nimage = {{ size = 32 }}\n{data}"), "1 towers"),
        (MODEL.replace("heads = 2", "heads = 5") + data, "heads 5"),
        (format!("{MODEL}{data}[train]\nprecision = \"int8\"\n"), "train.precision is `int8`"),
        (format!("{MODEL}{}\n{data}", MATCHING.replace("pairs = 16", "exchanges = 0")), "model.matching.exchanges is 0"),
        (format!("{MODEL}{data}[augment]\nimage = {{ area = 0.0 }}\n"), "augment.image.area is 0"),
        (format!("{MODEL}{data}[augment]\nimage = {{ hue = 1 }}\n"), "hue"),
        (format!("{MODEL}{data}[augment]\naudio = {{ speed = 0.1 }}\n"), "augment: `audio` is no tower of this model"),
        (
            format!(
                "[start]\ncheckpoint = \"x\"\nimage = {{ train = \"frozen\" }}\n{data}[augment]\nimage = {{ mirror = true }}\n"
            ),
            "start.image is frozen",
        ),
        (format!("{MODEL}{MATCHING}\n{data}[train]\nchunk = 5\n"), "model.matching beside train.chunk"),
        (format!("{MODEL}{}\n{data}", MATCHING.replace("pairs = 16", "weight = -1.0")), "model.matching.weight is -1"),
        (format!("{MODEL}{}\n{data}", MATCHING.replace("heads = 2", "heads = 3")), "model.matching: width 32"),
        (
            format!("{MODEL}series = {{}}\n{MATCHING}\n{data}[train]\npairs = [[\"image\", \"series\"]]\n"),
            "train.pairs leaves one of them out",
        ),
        (format!("[model]\nprojection = 8\nimage = {{}}\nseries = {{}}\n{MATCHING}\n{data}"), "expected towers for both"),
        (
            MODEL.to_owned() + "[[data]]\nkind = \"folder\"\ndir = \"x\"\ncaptions = \"y\"\nvalidation = 2.0\n",
            "validation is 2",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(word) && said.contains("train.toml"), "`{word}` is not in: {said}");
    }
    // What holds together but is not there.
    let absent = config(dir.path(), &(MODEL.to_owned() + "[[data]]\nkind = \"folder\"\ndir = \"x\"\ncaptions = \"y.csv\"\n"));
    let said = run(&absent, &dir.path().join("model"), Begin::New).unwrap_err().to_string();
    assert!(said.contains("y.csv"), "{said}");
    let patches = config(dir.path(), &(MODEL.replace("patch = 8", "patch = 7") + data));
    let said = run(&patches, &dir.path().join("model"), Begin::New).unwrap_err().to_string();
    assert!(said.contains("does not divide"), "{said}");
}
