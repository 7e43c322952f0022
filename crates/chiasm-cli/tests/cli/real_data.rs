//! The main job on real photos, captions and sounds with the real small networks, on parts small enough for every test run.
//! The whole of it, with its figures held against floors, is `.ci/figures`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{chiasm, test_data};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn figure(report: &serde_json::Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))["value"].as_f64().unwrap()
}

/// The first photos of the set with their captions: a table of the first `n_fit`, a folder and a table of the `n_held` after.
struct Photos {
    fit: PathBuf,
    held: PathBuf,
    images: PathBuf,
    folder: PathBuf,
}

fn photos(dir: &Path, flickr: &Path, n_fit: usize, n_held: usize) -> Photos {
    let table = fs::read_to_string(flickr.join("captions.txt")).unwrap();
    let mut lines = table.lines();
    let header = lines.next().unwrap();
    let (mut fit, mut held) = (format!("{header}\n"), format!("{header}\n"));
    let folder = dir.join("photos");
    fs::create_dir(&folder).unwrap();
    let (mut n, mut last) = (0, "");
    for line in lines {
        let (name, _) = line.split_once(',').unwrap();
        if name != last {
            (n, last) = (n + 1, name);
            if n > n_fit + n_held {
                break;
            }
            if n > n_fit {
                fs::copy(flickr.join("images").join(name), folder.join(name)).unwrap();
            }
        }
        let table = if n <= n_fit { &mut fit } else { &mut held };
        table.push_str(line);
        table.push('\n');
    }
    let write = |name: &str, table: &str| {
        fs::write(dir.join(name), table).unwrap();
        dir.join(name)
    };
    Photos { fit: write("fit.csv", &fit), held: write("held.csv", &held), images: flickr.join("images"), folder }
}

#[test]
fn ready_embeddings_give_the_known_figures_exactly() {
    let Some(data) = test_data("fashion_embeddings_99") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| text(&data.join(name));
    let (i, it, t, tt) = (file("image_embeddings.npy"), file("image.csv"), file("text_embeddings.npy"), file("styles.csv"));
    let image = ["import", "--npy", &i, "--names", &it, "--kind", "image"];
    let words = ["--npy", &t, "--names", &tt, "--kind", "text", "--library", "fashion"];
    chiasm(dir.path(), &[&image[..], &words].concat()).code(0);
    let reply = chiasm(dir.path(), &["eval", "--library", "fashion", "--by-name", "--json"]).code(0).json();
    let of = |title: &str| reply["reports"].as_array().unwrap().iter().find(|r| r["title"] == title).unwrap();
    let shown = |title: &str, name: &str| format!("{:.2}", 100.0 * figure(of(title), name));
    assert_eq!([shown("image->text", "R@1"), shown("image->text", "R@5")], ["84.85", "100.00"]);
    assert_eq!(["R@1", "R@5", "R@10"].map(|name| shown("text->image", name)), ["85.86", "98.99", "100.00"]);
    let shoe =
        chiasm(dir.path(), &["search", "--library", "fashion", "--like", "15970.jpg", "--kind", "text", "-k", "1"]).code(0);
    assert!(shoe.out.contains("Turtle Check Men Navy Blue Shirt"), "{}", shoe.out);
}

#[test]
fn photos_and_captions_find_each_other() {
    let (Some(flickr), Some(models)) = (test_data("flickr8k"), test_data("small_models")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let photos = photos(dir.path(), &flickr, 100, 50);
    let models = text(&models);
    let fit = ["space", "fit", "--image", "mobilenet_v2", "--text", "all-MiniLM-L6-v2", "--method", "cca", "--folds", "2"];
    let (table, images) = (text(&photos.fit), text(&photos.images));
    let pairs = ["--pairs", &table, "--images", &images, "-o", "photos.space", "--models", &models, "--json"];
    let fitted = chiasm(dir.path(), &[&fit[..], &pairs].concat()).code(0).json();
    assert_eq!(fitted["space"]["report"]["n_pairs"], 500);

    let folder = text(&photos.folder);
    let index = ["index", &folder, "--space", "photos.space", "--library", "lib", "--models", &models, "--json"];
    let indexed = chiasm(dir.path(), &index).code(0).json();
    assert_eq!((&indexed["n_new"], &indexed["refused"]), (&50.into(), &serde_json::json!([])));
    let again = chiasm(dir.path(), &index).code(0).json();
    assert_eq!((&again["n_unchanged"], &again["n_segments"]), (&50.into(), &0.into()));

    // Fitted on a seventh of the photos there are, so the floor is lower than that of the whole; chance is 0.2.
    let held = text(&photos.held);
    let eval = ["eval", "--library", "lib", "--pairs", &held, "--images", &folder, "--models", &models, "--json"];
    let floors = ["--require", "text->image R@10 >= 0.55", "--require", "image->text R@10 >= 0.55"];
    let reply = chiasm(dir.path(), &[&eval[..], &floors].concat()).code(0).json();
    println!("{}", reply["required"]);
    let found = chiasm(dir.path(), &["search", "a dog runs", "--library", "lib", "--models", &models, "--json"]).code(0).json();
    assert_eq!(found["hits"].as_array().unwrap().len(), 10);
    assert!(found["hits"][0]["z"].as_f64().unwrap() > 1.0, "{found}");
}

#[test]
fn sounds_and_pictures_meet_through_words_without_training() {
    let (Some(flickr), Some(sounds), Some(models)) =
        (test_data("flickr8k"), test_data("animal_sounds"), test_data("small_models"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let models_dir = text(&models);
    let fit = ["space", "fit", "--image", "mobilenet_v2:classes", "--audio", "yamnet:classes", "--text", "all-MiniLM-L6-v2"];
    chiasm(dir.path(), &[&fit[..], &["--method", "conse", "-o", "joint.space", "--models", &models_dir]].concat()).code(0);

    for animal in ["bird", "cat", "cow", "dog", "frog", "sheep"] {
        let to = dir.path().join("sounds").join(animal);
        fs::create_dir_all(&to).unwrap();
        let mut files: Vec<PathBuf> = fs::read_dir(sounds.join(animal)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files.iter().take(4) {
            fs::copy(file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    let index = ["index", "sounds", "--space", "joint.space", "--library", "lib", "--models", &models_dir, "--json"];
    assert_eq!(chiasm(dir.path(), &index).code(0).json()["n_new"], 24);
    let eval = ["eval", "--library", "lib", "--by-folder", "--models", &models_dir, "--json", "--require", "MAP >= 0.7"];
    chiasm(dir.path(), &eval).code(0);

    // Pictures: a cat is called a cat, a bird a bird, and a bark finds dogs before other photos.
    let (cat, bird) = (text(&models.join("cat.bmp")), text(&models.join("bird.bmp")));
    let classify = ["classify", "--space", "joint.space", "--labels", "cat,bird,car,house,bicycle", &cat, &bird];
    let named = chiasm(dir.path(), &[&classify[..], &["--models", &models_dir, "--json"]].concat()).code(0).json();
    assert_eq!((&named[0]["labels"][0]["label"], &named[1]["labels"][0]["label"]), (&"cat".into(), &"bird".into()));

    let photos = photos(dir.path(), &flickr, 0, 60);
    let folder = text(&photos.folder);
    chiasm(dir.path(), &["index", &folder, "--library", "lib", "--models", &models_dir]).code(0);
    let bark = fs::read_dir(dir.path().join("sounds/dog")).unwrap().map(|e| text(&e.unwrap().path())).min().unwrap();
    let search =
        ["search", "--audio", &bark, "--kind", "image", "-k", "5", "--library", "lib", "--models", &models_dir, "--json"];
    let found = chiasm(dir.path(), &search).code(0).json();
    let captions = fs::read_to_string(&photos.held).unwrap().to_lowercase();
    let shows_dog = |hit: &serde_json::Value| {
        let path = hit["path"].as_str().unwrap();
        let name = Path::new(path).file_name().unwrap().to_string_lossy().to_lowercase();
        captions.lines().any(|l| l.starts_with(&name) && (l.contains("dog") || l.contains("puppy")))
    };
    let n_dogs = found["hits"].as_array().unwrap().iter().filter(|hit| shows_dog(hit)).count();
    assert!(n_dogs >= 3, "{n_dogs} of 5 show a dog: {found}");
}
