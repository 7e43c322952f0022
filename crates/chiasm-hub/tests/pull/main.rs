//! Models fetched from a server on this machine that pretends to be the hub, well or badly.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chiasm_core::{Cancel, NoProgress, Progress};
use chiasm_encode::{ModelDirs, ModelName, Store};
use chiasm_hub::{Hub, HubConfig, HubError, Pulled, pull};
use safetensors::tensor::{Dtype, TensorView, serialize};
use server::{Answer, Seen, Server};

const NAME: &str = "test/tiny-clip";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A CLIP of a few thousand made-up weights, as it would be published: with the weights twice, and files that nobody reads here.
fn published() -> BTreeMap<String, Vec<u8>> {
    let mut files = of_golden("clip_quick_image");
    for other in ["pytorch_model.bin", "README.md", ".gitattributes", "onnx/model.onnx", "open_clip_config.json"] {
        files.insert(other.to_owned(), other.as_bytes().to_vec());
    }
    files
}

/// The files of the model of a golden, with made-up weights.
fn of_golden(name: &str) -> BTreeMap<String, Vec<u8>> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/encode/nets");
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(goldens.join(format!("{name}.json"))).unwrap()).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (file, content) in golden["files"].as_object().unwrap() {
        files.insert(file.clone(), content.to_string().into_bytes());
    }
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = golden["tensors"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, recipe)| {
            let shape: Vec<usize> = serde_json::from_value(recipe[0].clone()).unwrap();
            let n = shape.iter().product::<usize>();
            let bytes = (0..n).flat_map(|i| ((i % 17) as f32 / 20.0 - 0.4).to_le_bytes()).collect();
            (name.as_str(), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    files.insert(golden["weights"].as_str().unwrap().to_owned(), serialize(views, None).unwrap());
    files
}

/// A server, a store, and how one fetches from the one into the other.
struct Place {
    hub: Server,
    dir: tempfile::TempDir,
    config: HubConfig,
}

impl Place {
    fn new(hub: Server) -> Self {
        let config = HubConfig {
            endpoint: hub.address(),
            wait: Duration::from_millis(1),
            silence: Duration::from_secs(20),
            ..HubConfig::default()
        };
        Self { hub, dir: tempfile::tempdir().unwrap(), config }
    }

    fn store(&self) -> Store {
        Store::at(&self.dir.path().join("store"))
    }

    fn pull(&self) -> Result<Pulled, HubError> {
        self.pull_with(&NoProgress, &Cancel::default())
    }

    fn pull_with(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Pulled, HubError> {
        let hub = Hub::new(self.config.clone())?;
        pull(&hub, &self.store(), &ModelName::parse(NAME).unwrap(), progress, cancel)
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> HubError {
        let error = self.pull().unwrap_err();
        let said = error.to_string();
        for word in words {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
        error
    }

    /// Every file below the store.
    fn on_disk(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    found.push(path.strip_prefix(self.dir.path()).unwrap().to_string_lossy().replace('\\', "/"));
                }
            }
        }
        found.sort();
        found
    }
}

/// The hub as it is: large files are elsewhere.
fn hub_and_storage(files: BTreeMap<String, Vec<u8>>) -> (Server, Server) {
    let content = files.clone();
    let storage = Server::new(move |seen, _| Answer::file(seen, &content[seen.path.trim_start_matches("/store/")]));
    let at = storage.address();
    let hub = Server::new(move |seen, _| {
        if let Some(answer) = server::listing(seen, NAME, COMMIT, &files) {
            return answer;
        }
        let file = seen.path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, file)| file.to_owned());
        match file.as_deref() {
            Some(large) if large.ends_with(".safetensors") => {
                let sum = server::sha256(&files[large]);
                Answer::status(302)
                    .with("location", &format!("{at}/store/{large}"))
                    .with("x-linked-etag", &format!("\"{sum}\""))
                    .with("x-linked-size", &files[large].len().to_string())
            }
            Some(small) => {
                let to = format!("/small/{small}");
                Answer::status(307).with("location", &to).with("etag", &format!("\"{}\"", server::git(&files[small])))
            }
            None => match seen.path.strip_prefix("/small/") {
                Some(small) => Answer::file(seen, &files[small]),
                None => Answer::status(404),
            },
        }
    });
    (hub, storage)
}

/// A hub that answers itself; `bend` may change its answer to the request for a file, given how often that was asked for.
fn bent(
    files: BTreeMap<String, Vec<u8>>,
    bend: impl Fn(&str, usize, &Seen, Answer) -> Answer + Send + Sync + 'static,
) -> Server {
    Server::new(move |seen, n| {
        if let Some(answer) = server::listing(seen, NAME, COMMIT, &files) {
            return answer;
        }
        let Some((_, file)) = seen.path.split_once(&format!("/resolve/{COMMIT}/")) else { return Answer::status(404) };
        bend(file, n, seen, Answer::file(seen, &files[file]))
    })
}

#[test]
fn a_model_comes_whole_and_only_once() {
    let files = published();
    let (hub, storage) = hub_and_storage(files.clone());
    let place = Place::new(hub);
    let pulled = place.pull().unwrap();
    assert!(!pulled.was_here);
    let manifest = pulled.entry.manifest.unwrap();
    assert_eq!((manifest.name.as_str(), manifest.commit.as_deref()), (NAME, Some(COMMIT)));
    assert_eq!(manifest.source, format!("{}/{NAME}", place.hub.address()));
    let kinds: Vec<&str> = manifest.towers.iter().map(|tower| tower.kind.as_str()).collect();
    assert_eq!(kinds, ["image", "text"]);

    // What is read here and nothing else, under one name.
    let here = ["chiasm-model.json", "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"];
    assert_eq!(place.on_disk(), here.map(|file| format!("store/{NAME}/{file}")));
    for file in &here[1..] {
        assert_eq!(std::fs::read(pulled.entry.folder.join(file)).unwrap(), files[*file], "{file}");
    }
    assert_eq!(storage.seen().len(), 1);

    // It opens by every name, and there is nothing more to be asked for.
    let models = ModelDirs::new(vec![place.store().root().to_owned()]);
    for name in [NAME, "hf-hub:test/tiny-clip", "https://huggingface.co/test/tiny-clip"] {
        let encoder = chiasm_encode::open(&format!("{name}:text"), &models).unwrap();
        assert_eq!(encoder.fingerprint(), manifest.towers[1].fingerprint);
    }
    let asked = place.hub.seen().len();
    assert!(place.pull().unwrap().was_here);
    assert_eq!(place.hub.seen().len(), asked);
}

#[test]
fn of_two_layouts_the_one_that_describes_the_model_comes() {
    // timm's description and weights of the image tower alone, beside the whole model in open_clip's layout.
    let mut files = of_golden("open_clip_quick_image");
    files.insert("config.json".to_owned(), br#"{"architecture": "vit_base_patch32_clip_224"}"#.to_vec());
    files.insert("model.safetensors".to_owned(), b"timm's".to_vec());
    let (hub, _storage) = hub_and_storage(files.clone());
    let place = Place::new(hub);
    let pulled = place.pull().unwrap();
    let here = ["chiasm-model.json", "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"];
    assert_eq!(place.on_disk(), here.map(|file| format!("store/{NAME}/{file}")));
    assert_eq!(pulled.entry.manifest.unwrap().towers.len(), 2);

    // The same model in both layouts: Hugging Face's, as where it stands alone.
    files.extend(of_golden("clip_quick_image"));
    let (hub, _storage) = hub_and_storage(files);
    let place = Place::new(hub);
    place.pull().unwrap();
    let here = ["chiasm-model.json", "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"];
    assert_eq!(place.on_disk(), here.map(|file| format!("store/{NAME}/{file}")));
}

#[test]
fn the_token_is_seen_by_the_hub_alone() {
    let (hub, storage) = hub_and_storage(published());
    let mut place = Place::new(hub);
    place.config.token = Some("hf_secret".to_owned());
    place.pull().unwrap();
    assert!(place.hub.seen().iter().all(|seen| seen.token.as_deref() == Some("Bearer hf_secret")));
    assert!(storage.seen().len() == 1 && storage.seen().iter().all(|seen| seen.token.is_none()), "{:?}", storage.seen());
    let manifest = std::fs::read_to_string(place.store().root().join(NAME).join("chiasm-model.json")).unwrap();
    assert!(!manifest.contains("secret"));
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let files = published();
    let weights = files["model.safetensors"].clone();
    let half = weights.len() / 2;
    let place = Place::new(bent(files, move |file, n, _, answer| match (file, n) {
        ("model.safetensors", 0) => answer.cut(half),
        ("model.safetensors", 1) => answer.cut(100),
        _ => answer,
    }));
    let entry = place.pull().unwrap().entry;
    assert_eq!(std::fs::read(entry.folder.join("model.safetensors")).unwrap(), weights);
    let asked: Vec<u64> = place.hub.seen().iter().filter(|s| s.path.ends_with("model.safetensors")).map(|s| s.from).collect();
    assert_eq!(asked, [0, half as u64, half as u64 + 100]);
}

#[test]
fn what_breaks_for_good_is_gone_on_with_by_the_next_attempt() {
    let files = published();
    let weights = files["model.safetensors"].clone();
    let place = Place::new(bent(files, |file, n, _, answer| match (file, n) {
        ("model.safetensors", 0) => answer.cut(1000),
        ("model.safetensors", 1..=4) => Answer::status(503),
        _ => answer,
    }));
    let error = place.refused(&["model.safetensors", "1000 bytes", "goes on from there", "status 503"]);
    assert!(matches!(error, HubError::Broken { got: 1000, .. }));
    assert!(!place.store().root().join(NAME).exists());
    let entry = place.pull().unwrap().entry;
    assert_eq!(std::fs::read(entry.folder.join("model.safetensors")).unwrap(), weights);
    assert_eq!(place.hub.seen().last().unwrap().from, 1000);
    // The small files came the first time already.
    assert_eq!(place.hub.seen().iter().filter(|s| s.path.ends_with("/config.json")).count(), 1);
}

/// Asks for a stop once some bytes have come.
struct StopAfter<'a>(&'a Cancel, std::sync::atomic::AtomicU64);

impl Progress for StopAfter<'_> {
    fn start(&self, stage: &str, _: Option<u64>) {
        if stage.starts_with("fetching") {
            self.1.store(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn advance(&self, _: u64) {
        if self.1.load(std::sync::atomic::Ordering::Relaxed) == 1 {
            self.0.cancel();
        }
    }
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

#[test]
fn a_stop_leaves_what_can_be_gone_on_with() {
    let mut files = published();
    // Enough for several reads, and no whole safetensors file any more: what is tried here is the stop.
    let mut weights = files["model.safetensors"].clone();
    weights.resize(weights.len() + 3_000_000, 0);
    files.insert("model.safetensors".to_owned(), weights.clone());
    let place = Place::new(bent(files, |_, _, _, answer| answer));
    let cancel = Cancel::default();
    let error = place.pull_with(&StopAfter(&cancel, 0.into()), &cancel).unwrap_err();
    assert!(matches!(error, HubError::Cancelled(_)), "{error}");
    let part = place.on_disk().into_iter().find(|file| file.ends_with(".part")).unwrap();
    let got = std::fs::metadata(place.dir.path().join(&part)).unwrap().len();
    assert!(got > 0 && got < weights.len() as u64, "{got}");
    assert!(!place.store().root().join(NAME).exists());
    let error = place.refused(&["was fetched whole and does not open", "safetensors", "chiasm model rm"]);
    assert!(matches!(error, HubError::DoesNotOpen { .. }));
    assert_eq!(place.hub.seen().last().unwrap().from, got);

    // What does not open is whole all the same, and can be removed.
    let (name, models) = (ModelName::parse(NAME).unwrap(), ModelDirs::new(vec![place.store().root().to_owned()]));
    let entry = place.store().entry(&name).unwrap();
    assert!(place.store().verify(&entry, &NoProgress, &Cancel::default()).unwrap().is_empty());
    assert!(place.store().remove(&name, &models).unwrap().bytes > weights.len() as u64);
    assert_eq!(place.on_disk(), Vec::<String>::new());
}

#[test]
fn content_of_another_checksum_is_not_kept() {
    for wrong in ["model.safetensors", "config.json"] {
        let files = published();
        let right = files.clone();
        let place = Place::new(bent(files, move |file, _, seen, answer| {
            if file != wrong {
                return answer;
            }
            let mut changed = right[file].clone();
            let last = changed.len() - 1;
            changed[last] ^= 1;
            Answer::file(seen, &changed)
        }));
        let error = place.refused(&[wrong, "the server states", "was not kept"]);
        assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
        assert!(place.on_disk().iter().all(|file| !file.contains(wrong)), "{:?}", place.on_disk());
        assert!(place.store().entries().is_empty());
    }
}

#[test]
fn lengths_must_agree() {
    let files = published();
    let longer = files["model.safetensors"].clone();
    let place = Place::new(bent(files.clone(), move |file, _, seen, answer| {
        if file != "model.safetensors" {
            return answer;
        }
        // Without a word on its length, and longer than was listed.
        Answer::file(seen, &[longer.as_slice(), b"and more"].concat()).unmeasured()
    }));
    place.refused(&["model.safetensors", "the length", "was not kept"]);
    assert!(place.on_disk().iter().all(|file| !file.contains("model.safetensors")));

    // One whose answer states another checksum than the listing.
    let place = Place::new(bent(files, |file, _, _, answer| {
        if file == "model.safetensors" { answer.with("x-linked-etag", &format!("\"{}\"", "0".repeat(64))) } else { answer }
    }));
    place.refused(&["model.safetensors", "the SHA-256 that its answer states"]);
}

#[test]
fn a_server_that_does_not_go_on_begins_anew() {
    let files = published();
    let weights = files["model.safetensors"].clone();
    let whole = weights.clone();
    let place = Place::new(bent(files, move |file, n, seen, answer| match (file, n) {
        ("model.safetensors", 0) => answer.cut(700),
        ("model.safetensors", _) => Answer::file(&Seen { from: 0, ..seen.clone() }, &whole),
        _ => answer,
    }));
    let entry = place.pull().unwrap().entry;
    assert_eq!(std::fs::read(entry.folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn what_the_hub_does_not_show_is_told_with_the_cure() {
    for status in [401, 403, 404] {
        let mut place = Place::new(Server::new(move |_, _| Answer::status(status)));
        place.refused(&[NAME, "shows no model", &status.to_string(), "HF_TOKEN", "look whether the name is right"]);
        place.config.token = Some("hf_secret".to_owned());
        let error = place.refused(&["the token in HF_TOKEN may not read it"]);
        assert!(!error.to_string().contains("hf_secret"));
        assert_eq!(place.on_disk(), Vec::<String>::new());
    }
    let place = Place::new(Server::new(|_, _| Answer::status(404).with("x-error-code", "RevisionNotFound")));
    place.refused(&["404", "there is no revision `main`"]);
    let place = Place::new(Server::new(|_, _| Answer::status(500)));
    place.refused(&["500"]);
    assert_eq!(place.hub.seen().len(), 5);
    let place = Place::new(Server::new(|_, _| Answer::status(200).body(b"<html>a captive portal</html>")));
    place.refused(&["no listing of a model", "nothing of it was kept"]);
}

#[test]
fn without_a_network_the_ways_out_are_named() {
    let (hub, _storage) = hub_and_storage(published());
    let mut place = Place::new(hub);
    place.config.offline = Some("--offline was given");
    let ways = ["HF_ENDPOINT=", "chiasm model import FOLDER --name test/tiny-clip", "chiasm model list"];
    place.refused(&[&["--offline was given"][..], &ways].concat());
    assert!(place.hub.seen().is_empty());
    // What is here needs none.
    place.config.offline = None;
    place.pull().unwrap();
    place.config.offline = Some("HF_HUB_OFFLINE is set");
    assert!(place.pull().unwrap().was_here);

    let gone = Place::new(Server::new(|_, _| Answer::status(200)));
    let config = HubConfig { endpoint: "http://127.0.0.1:9".to_owned(), ..gone.config.clone() };
    let gone = Place { config, ..gone };
    gone.refused(&[&["cannot be reached"][..], &ways].concat());
}

#[test]
fn a_listing_that_leads_out_of_the_folder_is_refused_whole() {
    for name in ["../model.safetensors", "/tmp/model.safetensors", "a/../../config.json", "..\\config.json", "C:config.json"] {
        let mut files = published();
        files.insert(name.to_owned(), b"{}".to_vec());
        let (hub, _storage) = hub_and_storage(files);
        let place = Place::new(hub);
        place.refused(&["would lead out of the model's folder"]);
        assert_eq!(place.on_disk(), Vec::<String>::new(), "{name}");
    }
    // An index is read before its shards are fetched, and may not name what is none.
    let mut files = published();
    files.remove("model.safetensors");
    let index = r#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
    files.insert("model.safetensors.index.json".to_owned(), index.into());
    let place = Place::new(bent(files, |_, _, _, answer| answer));
    place.refused(&["names the file `../../evil.safetensors`"]);
    assert!(!place.dir.path().join("evil.safetensors").exists());
}

#[test]
fn shards_come_with_their_index() {
    let mut files = published();
    let whole = files.remove("model.safetensors").unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let names: Vec<String> = tensors.names().into_iter().map(|name| name.to_owned()).collect();
    let mut map = serde_json::Map::new();
    for (i, half) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", i + 1);
        let views = half.iter().map(|name| (name.as_str(), tensors.tensor(name).unwrap()));
        files.insert(file.clone(), serialize(views, None).unwrap());
        map.extend(half.iter().map(|name| (name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "weight_map": map });
    files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
    let (hub, storage) = hub_and_storage(files);
    let place = Place::new(hub);
    let manifest = place.pull().unwrap().entry.manifest.unwrap();
    assert_eq!((manifest.towers.len(), manifest.files.len(), storage.seen().len()), (2, 6, 2));
}

#[test]
fn an_unknown_architecture_costs_no_weights() {
    let mut files = published();
    files.insert("config.json".to_owned(), br#"{"model_type": "llama"}"#.to_vec());
    let (hub, storage) = hub_and_storage(files);
    let place = Place::new(hub);
    place.refused(&["model_type is `llama`"]);
    assert!(storage.seen().is_empty());
    assert_eq!(place.on_disk(), Vec::<String>::new());

    let mut files = published();
    files.retain(|name, _| !name.ends_with(".safetensors") && !name.ends_with(".bin"));
    let (hub, _storage) = hub_and_storage(files);
    Place::new(hub).refused(&["it has no weights"]);
}

#[test]
fn weights_that_cannot_be_checked_are_not_fetched() {
    let files = published();
    let place = Place::new(Server::new(move |seen, _| {
        if let Some(answer) = server::bare_listing(seen, NAME, COMMIT, &files) {
            return answer;
        }
        let (_, file) = seen.path.rsplit_once('/').unwrap();
        Answer::file(seen, &files[file])
    }));
    place.refused(&["states no SHA-256 of model.safetensors"]);
}

#[test]
fn only_what_is_damaged_is_fetched_anew() {
    let files = published();
    let (hub, storage) = hub_and_storage(files.clone());
    let place = Place::new(hub);
    let entry = place.pull().unwrap().entry;
    let path = entry.folder.join("tokenizer.json");
    let (before, in_storage) = (place.hub.seen().len(), storage.seen().len());
    std::fs::write(&path, b"spoilt").unwrap();
    std::fs::remove_file(entry.folder.join("preprocessor_config.json")).unwrap();
    let problems = place.store().verify(&entry, &NoProgress, &Cancel::default()).unwrap();
    let told: Vec<(&str, &str)> = problems.iter().map(|p| (p.file.as_str(), p.what.as_str())).collect();
    assert_eq!(told[0], ("preprocessor_config.json", "it is missing"));
    assert!(told[1].0 == "tokenizer.json" && told[1].1.contains("it has 6 bytes"), "{told:?}");
    assert!(!place.pull().unwrap().was_here);
    assert_eq!(std::fs::read(&path).unwrap(), files["tokenizer.json"]);
    assert_eq!(storage.seen().len(), in_storage);
    let anew: Vec<String> = place.hub.seen()[before..].iter().map(|s| s.path.rsplit_once('/').unwrap().1.to_owned()).collect();
    assert!(anew.contains(&"tokenizer.json".to_owned()) && !anew.contains(&"config.json".to_owned()), "{anew:?}");
    assert_eq!(place.on_disk().len(), 5);
}

#[test]
fn a_folder_of_the_users_own_is_left_alone() {
    let (hub, _storage) = hub_and_storage(published());
    let place = Place::new(hub);
    let own = place.store().root().join(NAME);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("mine.txt"), "mine").unwrap();
    place.refused(&["is there already and is not the store's"]);
    assert_eq!(place.on_disk(), [format!("store/{NAME}/mine.txt")]);
    let models = ModelDirs::new(vec![place.store().root().to_owned()]);
    let error = place.store().remove(&ModelName::parse(NAME).unwrap(), &models).unwrap_err().to_string();
    assert!(error.contains("yours to remove"), "{error}");
    assert!(Path::new(&own).join("mine.txt").exists());
}

#[test]
fn redirections_end() {
    let round = Place::new(Server::new(|_, _| Answer::status(302).with("location", "/round")));
    round.refused(&["sends us on more than 8 times"]);
    let nowhere = Place::new(Server::new(|_, _| Answer::status(302).with("location", "file:///etc/passwd")));
    nowhere.refused(&["sends us to nowhere"]);
}
