//! Feature files as they are published: the readers against figures taken from the same files by numpy and scipy.

use std::path::{Path, PathBuf};

use chiasm_eval::features::{
    Features, Limits, Source, list, mismatch_message, open_rows, read_features, read_labels, with_common_classes,
};

fn data(folder: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let root = std::env::var_os("CHIASM_TEST_DATA").map_or_else(|| Path::new(default).to_owned(), PathBuf::from);
    let path = root.join(folder);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no test data at {}", path.display());
    eprintln!("skipped: no test data at {}", path.display());
    None
}

fn source(folder: &Path, text: &str) -> Source {
    Source::parse(folder.join(text).to_str().expect("the folder of test data is UTF-8"))
}

fn features(folder: &Path, text: &str) -> Features {
    read_features(&source(folder, text), &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// The sum of all numbers, and the last.
fn sum(features: &Features) -> (f64, f32) {
    assert!(features.bad_rows.is_empty());
    (features.vectors.iter().map(|v| f64::from(*v)).sum(), *features.vectors.last().expect("a file of numbers"))
}

#[test]
fn wikipedia_is_read_from_all_its_files() {
    let Some(folder) = data("wikipedia_2010") else { return };
    let i_tr = features(&folder, "raw_features.mat:I_tr");
    assert_eq!((i_tr.n, i_tr.dim), (2173, 128));
    assert_eq!(i_tr.found, "raw_features.mat: variable I_tr, 2173 x 128 f64, MAT v5");
    // A bag of words at unit L1 length: each row sums to 1.
    assert!((sum(&i_tr).0 - 2173.0).abs() < 1e-3, "{}", sum(&i_tr).0);
    let t_tr = features(&folder, "raw_features.mat:T_tr");
    assert!((sum(&t_tr).0 - 2173.0).abs() < 1e-3, "{}", sum(&t_tr).0);
    assert_eq!(features(&folder, "wikiData_with_labels.mat:I_tr").vectors, i_tr.vectors);
    let tfidf = features(&folder, "raw_features_plus_tfidf1000.mat:T_tfidf_te");
    assert_eq!((tfidf.n, tfidf.dim), (693, 1000));

    // The class stands in the third column of a list and in a variable.
    let limits = Limits::default();
    let (listed, found) = read_labels(&source(&folder, "trainset_txt_img_cat.list:3"), &limits).unwrap();
    assert_eq!(found, "trainset_txt_img_cat.list: column 3, 2173 rows, tab-separated without header: 10 classes, one per row");
    let (variable, _) = read_labels(&source(&folder, "wikiData_with_labels.mat:L_tr"), &limits).unwrap();
    assert_eq!(listed, variable);
    assert_eq!(listed.names()[9], "10");
    let (test, _) = read_labels(&source(&folder, "testset_txt_img_cat.list:3"), &limits).unwrap();
    let both = with_common_classes(&[listed, test]).unwrap();
    assert_eq!((both[0].n(), both[1].n(), both[1].n_classes()), (2173, 693, 10));

    let entries: Vec<String> = list(&folder.join("raw_features.mat")).unwrap().iter().map(|e| e.to_string()).collect();
    assert_eq!(entries, ["I_tr [2173 x 128 f64]", "I_te [693 x 128 f64]", "T_tr [2173 x 10 f64]", "T_te [693 x 10 f64]"]);
    let error = read_features(&source(&folder, "raw_features.mat:X"), &limits).unwrap_err().to_string();
    assert!(error.contains("there is no variable `X`: the file holds I_tr [2173 x 128 f64]"), "{error}");
    let turned = features(&folder, "raw_features.mat:I_tr'");
    let message = mismatch_message(&[
        (&source(&folder, "raw_features.mat:I_tr'"), &turned),
        (&source(&folder, "raw_features.mat:T_tr"), &t_tr),
    ]);
    assert!(message.is_some_and(|m| m.contains("the first has its rows as columns") && m.contains("raw_features.mat:I_tr`")));
}

#[test]
fn digits_arrays_pictures_and_embeddings() {
    let limits = Limits::default();
    if let Some(folder) = data("uci_digits_views") {
        let views = [("I_tr", 76), ("T_tr", 64), ("P_tr", 240)];
        for (name, dim) in views {
            let view = features(&folder, &format!("uci_all.mat:{name}"));
            assert_eq!((view.n, view.dim), (1500, dim));
        }
        let (labels, _) = read_labels(&source(&folder, "uci_all.mat:L_te"), &limits).unwrap();
        assert_eq!((labels.n(), labels.n_classes(), labels.is_single()), (500, 10, true));
    }
    if let Some(folder) = data("touch_biotac20") {
        let entries: Vec<String> = list(&folder.join("touch.npz")).unwrap().iter().map(|e| e.to_string()).collect();
        assert_eq!(entries.len(), 2, "{entries:?}");
        let mut readings = open_rows(&source(&folder, "touch.npz:readings"), &limits).unwrap();
        assert_eq!((readings.n(), readings.dim()), (800, 400 * 44));
        assert!(readings.found().contains("800 x 400 x 44 u16, each row flattened to 17600"), "{}", readings.found());
        assert_eq!(readings.next_block(10).unwrap().map(|b| b.len()), Some(176_000));
        let (labels, _) = read_labels(&source(&folder, "touch.npz:material"), &limits).unwrap();
        assert_eq!((labels.n(), labels.n_classes()), (800, 20));
        let (names, _) = read_labels(&source(&folder, "materials.tsv:1"), &limits).unwrap();
        assert_eq!(names.n(), 20);
    }
    if let Some(folder) = data("fashion_embeddings_99") {
        let images = features(&folder, "image_embeddings.npy");
        assert_eq!(images.found, "image_embeddings.npy: 99 x 512 f32, NPY");
        let (types, found) = read_labels(&source(&folder, "styles.csv:articleType"), &limits).unwrap();
        assert_eq!(types.n(), 99, "{found}");
        assert_eq!(types.name(types.of(0)[0]), Some("Shirts"));
        let error = read_features(&source(&folder, "styles.csv"), &limits).unwrap_err().to_string();
        assert!(error.contains("line 2, column 2 (gender) is `Men`, expected a number"), "{error}");
    }
    if let Some(folder) = data("mnist_t10k") {
        let pictures = features(&folder, "t10k-images-idx3-ubyte.gz");
        assert_eq!((pictures.n, pictures.dim), (10_000, 784));
        let (labels, _) = read_labels(&source(&folder, "t10k-labels-idx1-ubyte.gz"), &limits).unwrap();
        assert_eq!(labels.names(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        // The first test picture is a seven.
        assert_eq!((labels.n(), labels.name(labels.of(0)[0])), (10_000, Some("7")));
    }
}

/// Exact sums, as numpy gives them after rounding to f32.
#[test]
fn sums_are_those_of_numpy() {
    let cases = [
        ("wikipedia_2010", "raw_features_plus_tfidf1000.mat:T_tfidf_tr", 13873.287063715048, 0.0),
        ("wikipedia_2010", "raw_features.mat:T_te", 693.0000003920868, 0.048822604),
        ("uci_digits_views", "uci_all.mat:P_te", 363333.0, 0.0),
        ("uci_digits_views", "uci_all.mat:I_tr", 10450.391739046128, 0.06328703),
        ("touch_biotac20", "touch.npz:readings", 1253031156.0, 7.0),
        ("fashion_embeddings_99", "text_embeddings.npy", -775.1714291551616, 0.054357886),
        ("mnist_t10k", "t10k-images-idx3-ubyte.gz", 264923200.0, 0.0),
    ];
    for (folder, text, total, last) in cases {
        let Some(folder) = data(folder) else { return };
        let (read, end) = sum(&features(&folder, text));
        assert!((read - total).abs() <= 1e-9 * total.abs(), "{text}: {read}");
        assert_eq!(end, last, "{text}");
    }
}
