//! Every layout gives the numbers of `expected.json`; every damage an error.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SMALL: Limits = Limits { max_numbers: 1 << 20, max_numbers_of_sparse: 1 << 16 };

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/eval_features").join(file)
}

fn expected(key: &str) -> Vec<Vec<f32>> {
    let all: Value = serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
    serde_json::from_value(all[key].clone()).unwrap()
}

fn source(file: &str, name: &str) -> Source {
    let (name, transposed) = name.strip_suffix('\'').map_or((name, false), |n| (n, true));
    Source { path: golden(file), name: (!name.is_empty()).then(|| name.to_owned()), transposed }
}

fn rows(features: &Features) -> Vec<Vec<f32>> {
    features.vectors.chunks_exact(features.dim).map(<[f32]>::to_vec).collect()
}

/// The classes of each row by name, or by number where they have none.
fn classes(labels: &Labels) -> Vec<Vec<String>> {
    let name = |c: &u32| labels.name(*c).map_or(c.to_string(), str::to_owned);
    (0..labels.n()).map(|row| labels.of(row).iter().map(name).collect()).collect()
}

fn table(text: &str, name: Option<&str>) -> Result<Features, FeatureError> {
    features_of_bytes("a.csv", text.as_bytes().to_vec(), name, &SMALL)
}

fn labels(text: &str, name: Option<&str>) -> Result<(Labels, String), FeatureError> {
    labels_of_bytes("a.csv", text.as_bytes().to_vec(), name, &SMALL)
}

const FEATURES: [(&str, &str, &str, &str); 48] = [
    ("plain.mat", "X", "x", "variable X, 7 x 5 f64, MAT v5"),
    ("plain.mat", "X32", "x", "7 x 5 f32"),
    ("plain.mat", "Xt'", "x", "variable Xt, 5 x 7 f64, MAT v5, transposed to 7 x 5"),
    ("plain.mat", "N8", "n", "7 x 5 i8"),
    ("plain.mat", "N16", "n", "7 x 5 i16"),
    ("plain.mat", "N64", "n", "7 x 5 i64"),
    ("plain.mat", "H", "h", "7 x 3 bool"),
    ("plain.mat", "S", "s", "7 x 5 sparse"),
    ("plain.mat", "T", "t_matlab", "4 x 2 x 3 u16, each row flattened to 6"),
    ("deflated.mat", "X", "x", "7 x 5 f64"),
    ("deflated.mat", "X32", "x", "7 x 5 f32"),
    ("deflated.mat", "Xt'", "x", "transposed"),
    ("deflated.mat", "N8", "n", "7 x 5 i8"),
    ("deflated.mat", "S", "s", "7 x 5 sparse"),
    ("deflated.mat", "T", "t_matlab", "4 x 2 x 3 u16"),
    ("big_endian.mat", "", "x", "variable X, 7 x 5 f64"),
    ("big_endian.mat", "X", "x", "variable X, 7 x 5 f64"),
    ("v73.mat", "X", "x", "variable X, 7 x 5 f64, MAT v7.3 (columns first)"),
    ("v73.mat", "X32", "x", "7 x 5 f32"),
    ("v73.mat", "H", "h", "7 x 3 bool"),
    ("v73.mat", "S", "s", "7 x 5 sparse"),
    ("v73.mat", "T", "t_matlab", "4 x 2 x 3 u16, each row flattened to 6"),
    ("earliest.h5", "X", "x", "dataset X, 7 x 5 f64, HDF5 (rows first)"),
    ("earliest.h5", "deep/N", "n", "7 x 5 i16"),
    ("earliest.h5", "/deep/f16", "x", "7 x 5 f16"),
    ("earliest.h5", "H", "h", "7 x 3 bool"),
    ("earliest.h5", "T", "t_rows", "4 x 2 x 3 i64, each row flattened to 6"),
    ("latest.h5", "X", "x", "dataset X, 7 x 5 f64"),
    ("latest.h5", "deep/N", "n", "7 x 5 i16"),
    ("latest.h5", "deep/f16", "x", "7 x 5 f16"),
    ("latest.h5", "T", "t_rows", "4 x 2 x 3 i64"),
    ("x_le_f2.npy", "", "x", "x_le_f2.npy: 7 x 5 f16, NPY"),
    ("x_be_f4.npy", "", "x", "7 x 5 f32"),
    ("x_le_f8.npy", "", "x", "7 x 5 f64"),
    ("x_be_f8.npy", "", "x", "7 x 5 f64"),
    ("x_fortran.npy", "", "x", "7 x 5 f32"),
    ("n_i1.npy", "", "n", "7 x 5 i8"),
    ("n_i2.npy", "", "n", "7 x 5 i16"),
    ("n_i4.npy", "", "n", "7 x 5 i32"),
    ("n_i8.npy", "", "n", "7 x 5 i64"),
    ("h_bool.npy", "", "h", "7 x 3 bool"),
    ("t.npy", "", "t_rows", "4 x 2 x 3 u8, each row flattened to 6"),
    ("stored.npz", "X", "x", "array X, 7 x 5 f32, NPZ"),
    ("deflated.npz", "X", "x", "array X, 7 x 5 f32, NPZ"),
    ("m.fvecs", "", "x", "m.fvecs: 7 x 5 f32, FVECS"),
    ("m.ivecs", "", "n", "7 x 5 i32"),
    ("m.bvecs", "", "h", "7 x 3 u8"),
    ("t-idx3-ubyte", "", "t_rows", "4 x 2 x 3 u8"),
];

#[test]
fn every_layout_gives_the_same_numbers() {
    let gz = ("t-idx3-ubyte.gz", "", "t_rows", "t-idx3-ubyte.gz: 4 x 2 x 3 u8, each row flattened to 6, IDX");
    for (file, name, key, found) in FEATURES.into_iter().chain([gz]) {
        let source = source(file, name);
        let features = read_features(&source, &SMALL).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rows(&features), expected(key), "{source}");
        assert!(features.found.contains(found), "{} has no `{found}`", features.found);
        assert!(features.bad_rows.is_empty());
        // Block by block, and once more from the start.
        let mut reader = open_rows(&source, &SMALL).unwrap();
        assert_eq!((reader.n(), reader.dim(), reader.found()), (features.n, features.dim, features.found.as_str()));
        for _ in 0..2 {
            let mut all = Vec::new();
            while let Some(block) = reader.next_block(3).unwrap() {
                assert!(!block.is_empty() && block.len() <= 3 * features.dim);
                all.extend(block);
            }
            assert_eq!(all, features.vectors);
            reader.rewind();
        }
    }
    // The other way round, where rows come first.
    let turned = read_features(&source("x_be_f4.npy", "'"), &SMALL).unwrap();
    assert_eq!((turned.n, turned.dim), (5, 7));
    assert_eq!(rows(&turned), rows(&read_features(&source("deflated.mat", "Xt"), &SMALL).unwrap()));
    assert_eq!(rows(&read_features(&source("plain.mat", "S'"), &SMALL).unwrap())[4][2], expected("s")[2][4]);
}

#[test]
fn labels_are_read_however_they_are_written() {
    let numbers = ["3", "1", "10", "3", "2", "", "10"].map(|c| if c.is_empty() { vec![] } else { vec![c.to_owned()] });
    for (file, name) in [
        ("plain.mat", "L"),
        ("deflated.mat", "L"),
        ("deflated.mat", "L'"),
        ("v73.mat", "L"),
        ("earliest.h5", "L"),
        ("labels.npy", ""),
        ("stored.npz", "L"),
        ("deflated.npz", "L"),
    ] {
        let (labels, found) = read_labels(&source(file, name), &SMALL).unwrap();
        assert_eq!(classes(&labels), numbers, "{file}");
        assert_eq!(labels.names(), ["1", "2", "3", "10"]);
        assert!(found.ends_with(": 4 classes, 0 rows have several, 1 none"), "{found}");
    }
    let words: [&[&str]; 7] = [&["cat"], &["dog"], &["cat", "dog"], &["bird"], &[], &["dog"], &["cat"]];
    for (file, name) in [
        ("plain.mat", "W"),
        ("deflated.mat", "W"),
        ("latest.h5", "W"),
        ("earliest.h5", "Wfixed"),
        ("words.npy", ""),
        ("stored.npz", "W"),
    ] {
        let (labels, _) = read_labels(&source(file, name), &SMALL).unwrap();
        assert_eq!(classes(&labels), words, "{file}");
    }
    for (file, name) in [("plain.mat", "C"), ("v73.mat", "C")] {
        assert_eq!(classes(&read_labels(&source(file, name), &SMALL).unwrap().0), [["a"], ["bb"], ["ccc"]]);
    }
    for (file, name) in [("plain.mat", "H"), ("v73.mat", "H"), ("earliest.h5", "H"), ("h_bool.npy", ""), ("m.bvecs", "")] {
        let (labels, found) = read_labels(&source(file, name), &SMALL).unwrap();
        assert_eq!(labels.n_classes(), 3);
        for (row, values) in expected("h").iter().enumerate() {
            let of: Vec<u32> = (0..3).filter(|c| values[*c as usize] == 1.0).collect();
            assert_eq!(labels.of(row), of, "{file}");
        }
        assert!(found.contains("multi-hot, 3 classes, 2 rows have several, 1 none"), "{found}");
    }
}

#[test]
fn tables_in_every_form() {
    let plain = [vec![1.0, 2.5], vec![-3.0, 4e2]];
    for text in [
        "1,2.5\n-3,4e2\n",
        "\u{feff}1;2.5\r\n\r\n-3;4e2",
        "1\t2.5\n-3\t4e2\n",
        "  1   2.5\n -3 4e2\n\n",
        "a,b\n1,2.5\n-3,4e2\n",
        "# by hand\n1 2.5\n# more\n-3 4e2\n",
        "\"a\",\"b \"\"c\"\"\nd\"\n\"1\",2.5\n-3,\"4e2\"\n",
    ] {
        assert_eq!(rows(&table(text, None).unwrap()), plain, "{text:?}");
    }
    let named = "id;x;y;z-1\np;1;2;3\nq;4;5;6\n";
    for (name, first) in [("2-4", vec![1., 2., 3.]), ("x,z-1", vec![1., 3.]), ("z-1", vec![3.]), ("4,2-3", vec![3., 1., 2.])] {
        assert_eq!(rows(&table(named, Some(name)).unwrap())[0], first);
    }
    assert_eq!(table(named, Some("2-4")).unwrap().found, "a.csv: columns 2-4, 2 x 3, semicolon-separated with a header");
    // pandas: columns without names are counted from 0, and so are the rows.
    let pandas = table(",0,1,2\n0,5,6,7\n1,8,9,10\n", None).unwrap();
    assert_eq!((pandas.n, pandas.dim), (2, 4));
    assert!(pandas.found.contains("leave it out by naming columns 2-4"), "{}", pandas.found);
    assert_eq!(rows(&table("1,2\n3,4\n", Some("2")).unwrap()), [[2.0], [4.0]]);
    let list = "ab-5\tx.jpg\t2\ncd-2\ty.jpg\t10\nef-1\tz.jpg\t2\n";
    let (read, found) = labels(list, Some("3")).unwrap();
    assert_eq!(classes(&read), [["2"], ["10"], ["2"]]);
    assert_eq!(found, "a.csv: column 3, 3 rows, tab-separated without header: 2 classes, one per row");
    let (read, _) = labels("file,tags\na.jpg,sea;sky\nb.jpg,\nc.jpg,sky | sea\n", Some("tags")).unwrap();
    assert_eq!((read.of(0), read.of(1), read.of(2)), (&[0, 1][..], &[][..], &[0, 1][..]));
    assert_eq!(labels("label\ncat\ndog\n", None).unwrap().0.n(), 2);
    assert_eq!(labels("cat\ndog\nhot dog\n", None).unwrap().0.n(), 3);
    // A blank line is a row without a class, but for those at the end.
    let (read, found) = labels("\n3\n\n\"3\"\n\n\n1\n\n\n", None).unwrap();
    assert_eq!((0..read.n()).map(|i| read.of(i).len()).collect::<Vec<_>>(), [1, 0, 1, 0, 0, 1]);
    assert_eq!(found, "a.csv: 6 rows, one column without header: 2 classes, 0 rows have several, 3 none");
    assert!(table("1\n\n2\n", None).unwrap_err().to_string().contains("line 2, column 1 is empty"));
    let (read, found) = labels("sea,sky\n1,0\n1,1\n0,0\n", None).unwrap();
    assert_eq!((classes(&read)[1].join("+"), read.n()), ("sea+sky".to_owned(), 3));
    assert!(found.contains("multi-hot, 2 classes"), "{found}");
    let turned = Content::Table(Table::open(&Input::of_memory(Path::new("a.csv"), b"1,2,3\n4,5,6".to_vec()), None).unwrap());
    let Content::Numbers(turned) = transpose(turned, &Input::of_memory(Path::new("a"), vec![]), "").unwrap() else { panic!() };
    assert_eq!(turned.rows::<f32>(0, 3).unwrap(), [1., 4., 2., 5., 3., 6.]);
}

#[test]
fn sources_are_cut_where_the_path_ends() {
    let exists = |path: &str| ["a.mat", "b:c.mat", "x'.npy", "y.npy"].contains(&path);
    let parse = |text| {
        let Source { path, name, transposed } = Source::parse_with(text, &exists);
        (path.to_string_lossy().into_owned(), name, transposed)
    };
    let is = |path: &str, name: Option<&str>, transposed| (path.to_owned(), name.map(str::to_owned), transposed);
    assert_eq!(parse("a.mat:X"), is("a.mat", Some("X"), false));
    assert_eq!(parse("a.mat:X'"), is("a.mat", Some("X"), true));
    assert_eq!(parse("a.mat:/g/x:y"), is("a.mat", Some("/g/x:y"), false));
    assert_eq!(parse("b:c.mat"), is("b:c.mat", None, false));
    assert_eq!(parse("b:c.mat:2-9"), is("b:c.mat", Some("2-9"), false));
    assert_eq!((parse("x'.npy"), parse("y.npy'")), (is("x'.npy", None, false), is("y.npy", None, true)));
    assert_eq!(parse("gone.csv:a,b"), is("gone.csv", Some("a,b"), false));
    assert_eq!(parse("C:\\gone.npy"), is("C:\\gone.npy", None, false));
    assert_eq!(Source::parse_with("a.mat:X'", &exists).to_string(), "a.mat:X'");
}

#[test]
fn errors_say_what_came_and_what_to_do() {
    let refused = |file: &str, name: &str| read_features(&source(file, name), &SMALL).unwrap_err().to_string();
    let no_labels = |file: &str, name: &str| read_labels(&source(file, name), &SMALL).unwrap_err().to_string();
    let has = |message: String, parts: &[&str]| {
        for part in parts {
            assert!(message.contains(part), "`{message}` has no `{part}`");
        }
    };
    has(
        refused("plain.mat", "Y"),
        &["there is no variable `Y`", "X [7 x 5 f64], X32 [7 x 5 f32]", "S [7 x 5 sparse]", "st [1 x 1 struct]"],
    );
    has(refused("plain.mat", ""), &["name the variable to take, as in", "plain.mat:X`"]);
    has(refused("plain.mat", "st"), &["variable st, a struct is not read", "`X = s.X;"]);
    has(refused("plain.mat", "z"), &["complex", "save its real part"]);
    has(refused("plain.mat", "E"), &["0 x 5 f64", "holds no numbers"]);
    has(refused("plain.mat", "C"), &["3 texts", "are they the labels?"]);
    has(
        refused("v73.mat", "Y"),
        &["no variable `Y`", "X [7 x 5 f64]", "T [4 x 2 x 3 u16]", "C [3 x 3 char]", "S [7 x 5 sparse]"],
    );
    has(refused("latest.h5", "Y"), &["no dataset `Y`", "deep/N [7 x 5 i16]", "records [3 records]", "W [7 text]"]);
    has(refused("latest.h5", "records"), &["of type records"]);
    has(refused("latest.h5", "T'"), &["4 x 2 x 3", "cannot be transposed"]);
    has(refused("stored.npz", "Y"), &["no array `Y`", "X [7 x 5 f32], L [7 i64], W [7 text]"]);
    has(refused("x_le_f8.npy", "X"), &["`X` of a file that holds one matrix", "leave the name out"]);
    has(refused("labels.npy", ""), &["one number per row: is it the labels?"]);
    has(refused("objects.npy", ""), &["`|O`", "not unpickled"]);
    has(refused("complex.npy", ""), &["`<c8`", "save real numbers"]);
    has(refused("none.npy", ""), &["none.npy"]);
    has(refused("expected.json", "").replace('\n', " "), &["expected.json", "expected a number"]);
    has(no_labels("plain.mat", "X"), &["row 1, column", "holds only 0 and 1"]);
    has(no_labels("plain.mat", "T"), &["not 3 dimensions"]);
    has(table("a,b\n1,2\n3,x\n4,5,6\n", None).unwrap_err().to_string(), &["line 4 has 3 cells, the first 2"]);
    let bad = table("a,b\r\n1,2\r\n3,x\r\n,5\r\n1,1,\r\n".replace("1,1,\r\n", "y,y\r\n").as_str(), None).unwrap_err();
    has(
        bad.to_string(),
        &[
            "line 3, column 2 (b) is `x`",
            "line 4, column 1 (a) is empty",
            "line 5, column 1 (a) is `y`",
            "(3 such lines in all)",
            "choose the columns",
        ],
    );
    has(table("a,b\n1,2\n", Some("c")).unwrap_err().to_string(), &["no column `c`", "2 columns, a, b"]);
    has(table("1,2\n3,4\n", Some("0")).unwrap_err().to_string(), &["no column `0`", "columns 1-2 without names"]);
    has(table("1,2\n\"3,4\n5,6\n", None).unwrap_err().to_string(), &["line 2: a quote is opened and never closed"]);
    has(
        labels("a;b\nx;1\ny;2\n", None).unwrap_err().to_string(),
        &["name the column to take", "a.csv:b`", "a [2 text], b [2 number]"],
    );
    has(labels("1.5\n2\n", None).unwrap_err().to_string(), &["row 1 is 1.5, expected a whole number", "are these features?"]);
    has(labels("-1\n\"\"\n-1\n", None).unwrap_err().to_string(), &["no row has a class"]);
    let of = |file: &str, bytes: &[u8]| features_of_bytes(file, bytes.to_vec(), None, &SMALL).unwrap_err().to_string();
    has(of("a.bin", b""), &["the file is empty"]);
    has(of("a.bin", b"\x01\x02\0\0"), &["no known format", "expected .mat"]);
    has(of("a.mat", b"1,2,3"), &["neither v5 nor v7.3", "-v7"]);
    has(of("a.csv", b"\xff\xfe1\0,\0"), &["UTF-16"]);
    has(of("a.csv", b"1,2\n3,\xff\n"), &["line 2: byte 3 is not UTF-8"]);
    has(of("a.fvecs", &[2, 0, 0, 0, 0, 0, 0, 0]), &["no whole number of vectors of 2"]);
    has(of("a.fvecs", &[[1, 0, 0, 0], [0; 4], [2, 0, 0, 0], [0; 4]].concat()), &["row 2 says that it has 2 dimensions"]);
}

#[test]
fn what_is_not_finite_is_told() {
    let features = table("1,2\nnan,1\n3,inf\n1e39,0\n", None).unwrap();
    assert_eq!(features.bad_rows.iter().map(|b| (b.row, b.col)).collect::<Vec<_>>(), [(1, 0), (2, 1), (3, 0)]);
    let message = features.into_vectors().unwrap_err().to_string();
    assert!(message.contains("row 2, dimension 1 is NaN (3 such rows in all): remove these rows"), "{message}");
    assert_eq!(table("1,2\n3,4\n", None).unwrap().into_vectors().unwrap().n(), 2);
}

#[test]
fn views_that_do_not_pair_up_are_told_how() {
    let of = |text: &str| table(text, None).unwrap();
    let (a, b, c) = (of("1,2,3\n4,5,6"), of("1,2\n3,4\n5,6"), of("1\n2\n3\n4"));
    let source = |name: &str| Source { path: name.into(), name: None, transposed: false };
    let (x, y) = (source("x.csv"), source("y.csv"));
    assert_eq!(mismatch_message(&[(&x, &a), (&y, &a)]), None);
    let message = mismatch_message(&[(&x, &a), (&y, &b)]).unwrap();
    assert!(message.contains("x.csv has 2 rows, y.csv has 3") && message.contains("take `y.csv'`"), "{message}");
    assert!(mismatch_message(&[(&x, &b), (&y, &c)]).unwrap().contains("training or test"));
    assert!(mismatch_message(&[(&x, &of("1,2\n3,4\n5,6\n7,8")), (&y, &b)]).unwrap().contains("a prime behind both"));
}

#[test]
fn classes_of_two_files_are_numbered_alike() {
    let read = |text: &str| labels(text, None).unwrap().0;
    let both = with_common_classes(&[read("10\n2\n3\n"), read("1\n10\n-1\n")]).unwrap();
    assert_eq!(both[0].names(), ["1", "2", "3", "10"]);
    assert_eq!(both[1].names(), both[0].names());
    assert!(both[0].share(0, &both[1], 1) && !both[0].share(1, &both[1], 0));
    let hot = |text: &str| labels(text, None).unwrap().0;
    assert!(with_common_classes(&[hot("1,0\n0,1\n"), hot("1,0\n1,1\n")]).is_ok());
    assert!(with_common_classes(&[hot("1,0\n0,1\n"), hot("1,0,1\n1,1,1\n")]).unwrap_err().contains("2 and 3 columns"));
    assert!(with_common_classes(&[hot("1,0\n0,1\n"), read("a\nb\n")]).is_err());
}

#[test]
fn limits_come_before_memory() {
    let small = Limits { max_numbers: 20, max_numbers_of_sparse: 20 };
    for (file, name, _, _) in FEATURES {
        let error = read_features(&source(file, name), &small).map(|f| f.vectors.len());
        assert!(
            error.as_ref().is_err_and(|e| matches!(e, FeatureError::TooLarge { .. })) || error.is_ok_and(|n| n <= 21),
            "{file}:{name}"
        );
    }
    // Heads that promise what is not there.
    let npy = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (900000000, 4000), }\n";
    let error = features_of_bytes("a.npy", npy.to_vec(), None, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("of shape [900000000, 4000] and 8 bytes each does not fit its"), "{error}");
    let idx = [[0, 0, 8, 2], [0x7f; 4], [0x7f; 4]].concat();
    assert!(matches!(features_of_bytes("a", idx, None, &Limits::default()), Err(FeatureError::Damaged { .. })));
}

#[test]
fn what_a_file_holds_is_listed() {
    let names = |file: &str| list(&golden(file)).unwrap().iter().map(Entry::to_string).collect::<Vec<_>>().join(", ");
    assert!(names("deflated.mat").starts_with("X [7 x 5 f64], X32 [7 x 5 f32], Xt [5 x 7 f64], N8 [7 x 5 i8]"));
    assert_eq!(names("x_fortran.npy"), "[7 x 5 f32]");
    assert_eq!(names("deflated.npz"), "X [7 x 5 f32], L [7 i64]");
    assert_eq!(names("t-idx3-ubyte.gz"), "[4 x 2 x 3 u8]");
    assert_eq!(names("m.fvecs"), "[7 x 5 f32]");
}

/// The golden files that are told by their bytes, to be damaged.
fn victims() -> Vec<(String, Vec<u8>)> {
    let folder = golden("");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    files.iter().map(read).collect()
}

fn read_everything(file: &str, bytes: &[u8]) {
    let input = Input::of_memory(Path::new(file), bytes.to_vec());
    let Ok(entries) = list_of(&input, &SMALL) else { return };
    for entry in entries.iter().take(20) {
        let name = (!entry.name.is_empty()).then_some(entry.name.as_str());
        let _ = features_of_bytes(file, bytes.to_vec(), name, &SMALL);
        let _ = labels_of_bytes(file, bytes.to_vec(), name, &SMALL);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..5),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let victims = victims();
        let (file, mut bytes) = victims[which.index(victims.len())].clone();
        for (place, value, how) in damage {
            let place = place.index(bytes.len());
            bytes[place] = match how { 0 => value, 1 => 0xff, _ => bytes[place] ^ (1 << (value % 8)) };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_everything(&file, &bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        text in "[0-9a,;\t\" \r\n.|e-]{0,80}",
        head in 0..6usize,
    ) {
        let head: &[u8] = [&b""[..], b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", &[0, 0, 8, 2], &[0x1f, 0x8b, 8]][head];
        for file in ["a.csv", "a.fvecs", "a.bvecs", "a"] {
            read_everything(file, &[head, &bytes].concat());
            read_everything(file, text.as_bytes());
        }
    }

    #[test]
    fn numbers_survive_a_table(values in proptest::collection::vec(proptest::num::f32::NORMAL, 1..40), dim in 1..5usize) {
        let values = &values[..values.len() / dim * dim];
        prop_assume!(!values.is_empty());
        let lines: Vec<String> =
            values.chunks(dim).map(|row| row.iter().map(f32::to_string).collect::<Vec<_>>().join(",")).collect();
        let features = table(&lines.join("\n"), None);
        // A first line that counts from 0 is taken for pandas' header.
        if let Ok(features) = features {
            prop_assert!(features.vectors == values || lines[0].starts_with("0,1"));
        }
    }
}
