//! Checkpoints in every layout, as their own libraries write them (`reference/nn_weights.py`), and what must be refused of them.

use std::fs;
use std::path::{Path, PathBuf};

use chiasm_nn::{Weights, WeightsError};
use serde_json::Value;

const WHOLE: [&str; 7] =
    ["kinds.bin", "protocol_4.bin", "deflated.bin", "big_endian.bin", "legacy.bin", "nested.bin", "kinds.safetensors"];
const SAFE_SHARDS: [&str; 3] =
    ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const TORCH_SHARDS: [&str; 3] =
    ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/goldens/nn")).join(name)
}

fn expected(name: &str) -> Value {
    let text = fs::read(golden("weights.json")).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    // Where another file gives the same, its name stands here.
    all[name].as_str().map_or(&all[name], |same| &all[same]).clone()
}

/// A folder with copies of goldens.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::write(folder.path().join(file), fs::read(golden(file)).unwrap()).unwrap();
    }
    folder
}

fn of(bytes: &[u8]) -> Result<Weights, WeightsError> {
    Weights::from_bytes(Path::new("w.bin"), bytes.to_vec())
}

fn refusal(result: Result<Weights, WeightsError>) -> String {
    result.err().expect("this must be refused").to_string()
}

/// Takes every tensor by its own shape, whatever comes of it.
fn take_all(weights: &mut Weights) {
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    for name in names {
        let shape = weights.shape(&name).unwrap().to_vec();
        let floats = weights.take(&name, &shape).map(|v| v.len());
        let integers = weights.take_i64(&name, &shape).map(|v| v.len());
        if let Ok(n) = floats.or(integers) {
            assert_eq!(n, shape.iter().product::<usize>());
        }
    }
}

fn check(mut weights: Weights, name: &str) {
    let expected = expected(name);
    let tensors = expected.as_object().unwrap();
    assert!(!tensors.is_empty());
    for (tensor, entry) in tensors {
        let shape: Vec<usize> = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        assert_eq!(weights.shape(tensor), Some(shape.as_slice()), "{name}: {tensor}");
        let values = entry["values"].as_array().unwrap();
        // Half and brain floats fit f32; a double is rounded to it, as torch rounds.
        if entry["dtype"].as_str().unwrap().contains("float") {
            let values: Vec<f32> = values.iter().map(|v| v.as_f64().unwrap() as f32).collect();
            assert_eq!(weights.take(tensor, &shape).unwrap(), values, "{name}: {tensor}");
        } else {
            let values: Vec<i64> = values.iter().map(|v| v.as_i64().unwrap()).collect();
            assert_eq!(weights.take_i64(tensor, &shape).unwrap(), values, "{name}: {tensor}");
        }
    }
    // Of a type that is known by name alone.
    if name == "kinds.safetensors" {
        assert!(matches!(weights.take("f8", &[2]), Err(WeightsError::Dtype { .. })));
        weights.skip("f8");
    }
    weights.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn every_layout_gives_the_values_of_its_library() {
    for name in WHOLE {
        check(Weights::read(&golden(name)).unwrap_or_else(|e| panic!("{e}")), name);
        check(of(&fs::read(golden(name)).unwrap()).unwrap(), name);
    }
    for shards in [SAFE_SHARDS, TORCH_SHARDS] {
        let folder = folder(&shards);
        check(Weights::open(folder.path()).unwrap_or_else(|e| panic!("{e}")), shards[0]);
    }
}

#[test]
fn a_folder_is_searched_in_order() {
    let empty = tempfile::tempdir().unwrap();
    let message = refusal(Weights::open(empty.path()));
    for name in ["model.safetensors,", "pytorch_model.bin.index.json,", "open_clip_pytorch_model.bin is there"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(matches!(Weights::open(&empty.path().join("absent")), Err(WeightsError::Io { .. })));

    // From the last to the first, each comes before those that are there already.
    let folder = folder(&[&TORCH_SHARDS[1..], &SAFE_SHARDS[1..]].concat());
    for (from, to) in [
        ("legacy.bin", "open_clip_pytorch_model.bin"),
        (TORCH_SHARDS[0], TORCH_SHARDS[0]),
        ("kinds.bin", "pytorch_model.bin"),
        ("kinds.safetensors", "open_clip_model.safetensors"),
        (SAFE_SHARDS[0], SAFE_SHARDS[0]),
        ("kinds.safetensors", "model.safetensors"),
    ] {
        fs::write(folder.path().join(to), fs::read(golden(from)).unwrap()).unwrap();
        let weights = Weights::open(folder.path()).unwrap();
        assert_eq!(weights.file(), folder.path().join(to));
        check(weights, from);
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_not_passed_over() {
    let folder = folder(&["kinds.bin"]);
    fs::rename(folder.path().join("kinds.bin"), folder.path().join("pytorch_model.bin")).unwrap();
    std::os::unix::fs::symlink("gone", folder.path().join("model.safetensors")).unwrap();
    assert!(refusal(Weights::open(folder.path())).contains("model.safetensors"));
}

#[test]
fn digests_are_of_the_bytes() {
    let bytes = fs::read(golden("kinds.bin")).unwrap();
    assert_eq!(*Weights::read(&golden("kinds.bin")).unwrap().digest(), blake3::hash(&bytes));

    // More than is hashed on one core.
    let numbers: Vec<f64> = (0..500_000).map(f64::from).collect();
    let large = doubles(&numbers);
    assert_eq!(*of(&large).unwrap().digest(), blake3::hash(&large));

    let folder = folder(&SAFE_SHARDS);
    let mut hasher = blake3::Hasher::new();
    for name in &SAFE_SHARDS[1..] {
        hasher.update(blake3::hash(name.as_bytes()).as_bytes());
        hasher.update(blake3::hash(&fs::read(golden(name)).unwrap()).as_bytes());
    }
    assert_eq!(*Weights::open(folder.path()).unwrap().digest(), hasher.finalize());
}

#[test]
fn names_are_listed_skipped_and_shortened() {
    let mut weights = Weights::read(&golden("nested.bin")).unwrap();
    let all = ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight"];
    assert_eq!(weights.names().collect::<Vec<_>>(), all);
    assert!(weights.has("0.bias") && !weights.has("bias"));
    assert_eq!(weights.strip_prefix("0.").unwrap(), 2);
    assert_eq!(weights.strip_prefix("absent.").unwrap(), 0);
    assert!(weights.has("bias") && !weights.has("0.bias"));
    let error = weights.strip_prefix("1.").unwrap_err().to_string();
    assert!(error.contains("both `bias` and `1.bias`"), "{error}");
    assert!(weights.has("1.running_mean"), "a refused renaming changes nothing");
    assert_eq!(weights.take_opt("absent", &[2]).unwrap(), None);
    assert_eq!(weights.take_opt("bias", &[2]).unwrap().map(|b| b.len()), Some(2));
    assert!(matches!(weights.take_opt("weight", &[2]), Err(WeightsError::Shape { .. })));
    assert!(weights.has("bias"), "what was taken is still there");
    assert!(!weights.names().any(|n| n == "bias"));
    let error = weights.take_i64("weight", &[2, 3]).unwrap_err().to_string();
    assert!(error.contains("`weight`") && error.contains("is stored as F32, integers"), "{error}");
    weights.skip("weight");
    weights.skip_prefix("1.");
    weights.finish().unwrap();
}

#[test]
fn a_prefix_that_stands_twice_is_stripped_once() {
    let one = |name| (name, tensor("0", 6, 0, &[6], &[1]));
    let mut weights = pickled(&table(&[one("m.m.w"), one("m.w"), one("m."), one("other")])).unwrap();
    // `m.m.w` takes the name that `m.w` leaves; of `m.` nothing would remain.
    assert_eq!(weights.strip_prefix("m.").unwrap(), 2);
    assert_eq!(weights.names().collect::<Vec<_>>(), ["m.", "m.w", "other", "w"]);
}

/// A safetensors file with the tensor `a` of doubles.
fn doubles(numbers: &[f64]) -> Vec<u8> {
    let (n, len) = (numbers.len(), 8 * numbers.len());
    let header = format!(r#"{{"a":{{"dtype":"F64","shape":[{n}],"data_offsets":[0,{len}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

#[test]
fn a_double_that_single_precision_does_not_hold_is_refused() {
    assert_eq!(of(&doubles(&[1.5, 0.1])).unwrap().take("a", &[2]).unwrap(), [1.5, 0.1]);
    let error = of(&doubles(&[1.5, 1e300])).unwrap().take("a", &[2]).unwrap_err();
    assert!(matches!(error, WeightsError::NotFinite { at: 1, value: 1e300, .. }), "{error}");
}

#[test]
fn shards_that_do_not_fit_their_index_are_refused() {
    let index = fs::read_to_string(golden(SAFE_SHARDS[0])).unwrap();
    let refused = |change: &dyn Fn(&Path), word: &str| {
        let folder = folder(&SAFE_SHARDS);
        change(folder.path());
        let message = refusal(Weights::open(folder.path()));
        assert!(message.contains(word), "{word}: {message}");
    };
    let with_index = |text: String, word: &str| {
        assert_ne!(text, index, "the change for {word:?} changed nothing");
        refused(&|folder| fs::write(folder.join(SAFE_SHARDS[0]), &text).unwrap(), word);
    };
    let (first, second) = (SAFE_SHARDS[1], SAFE_SHARDS[2]);
    for name in ["../w", "/etc/passwd", "a/b", "..", ".", "", "a\\\\b", "C:w", "w\\u0000"] {
        with_index(index.replacen(first, name, 1), "is no plain file name");
    }
    with_index(index.replacen(first, "absent", 1), "cannot read the weights");
    with_index(index.replacen(first, second, 1), "the index says");
    with_index(index.replacen("layer.0.weight", "layer.9.weight", 1), "`layer.0.weight`");
    with_index(
        index.replacen("\"layer.0.weight\"", &format!("\"more\": \"{first}\", \"layer.0.weight\""), 1),
        "`more` is not in",
    );
    with_index(index.replacen(&format!("\"{first}\""), "7", 1), "is no string");
    with_index(index.replacen("weight_map", "weights", 1), "no object `weight_map`");
    with_index(index[..index.len() / 2].to_owned(), "does not fit its shards");
    with_index("[".repeat(100_000), "does not fit its shards");
    refused(&|folder| fs::write(folder.join(second), fs::read(folder.join(first)).unwrap()).unwrap(), "is in two of them");
    refused(&|folder| fs::remove_file(folder.join(second)).unwrap(), second);
    refused(&|folder| fs::write(folder.join(second), "version https://git-lfs.github.com/spec/v1\n").unwrap(), "git lfs pull");
}

#[test]
fn what_is_cut_off_is_refused_at_every_length() {
    for name in WHOLE {
        let bytes = fs::read(golden(name)).unwrap();
        for len in 0..bytes.len() {
            assert!(of(&bytes[..len]).is_err(), "{name} cut to {len} of {} bytes was read", bytes.len());
        }
    }
}

#[test]
fn a_changed_byte_gives_an_error_or_values() {
    let mut n_refused = 0;
    for name in WHOLE.iter().chain(&TORCH_SHARDS[1..2]) {
        let bytes = fs::read(golden(name)).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                match of(&changed) {
                    Ok(mut weights) => take_all(&mut weights),
                    Err(_) => n_refused += 1,
                }
            }
        }
    }
    assert!(n_refused > 10_000, "most of a pickle cannot be changed and still be read: {n_refused}");
}

/// An archive with members stored as they are.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let (name_len, len) = ((name.len() as u16).to_le_bytes(), (data.len() as u32).to_le_bytes());
        // Flags, method, time, date and checksum, all 0; both lengths; the name's and the extra field's.
        let fields = [&[0; 12][..], &len, &len, &name_len, &[0; 2]].concat();
        let start = (bytes.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\0\0\0\0", &fields[..], &[0; 10], &start, name.as_bytes()].concat());
        bytes.extend([b"PK\x03\x04\0\0", &fields[..], name.as_bytes(), data].concat());
    }
    let (n, start) = ((members.len() as u16).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
    let len = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0", &n[..], &n, &len, &start, &[0; 2]].concat());
    bytes
}

/// An archive of one pickle, and a storage `0` of six numbers.
fn pickled(program: &[u8]) -> Result<Weights, WeightsError> {
    let numbers: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    of(&archive(&[("a/data.pkl", program), ("a/data/0", &numbers)]))
}

fn string(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &n.to_le_bytes()].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), numbers.iter().flat_map(|n| int(*n)).collect(), b"t".to_vec()].concat()
}

/// The instructions for a tensor in storage `key`, said to have `n` numbers.
fn tensor(key: &str, n: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        string("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        string(key),
        string("cpu"),
        int(n),
        b"tQ".to_vec(),
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

fn table(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [string(name), value.clone()].concat()).collect();
    [b"\x80\x02}(".to_vec(), entries, b"u.".to_vec()].concat()
}

#[test]
fn tensors_lie_within_their_storage() {
    let one = |t: Vec<u8>| pickled(&table(&[("w", t)]));
    let mut weights = one(tensor("0", 6, 1, &[2, 2], &[1, 3])).unwrap();
    assert_eq!(weights.take("w", &[2, 2]).unwrap(), [1.0, 4.0, 2.0, 5.0]);
    let mut weights = one(tensor("0", 6, 2, &[1, 3], &[99, 1])).unwrap();
    assert_eq!(weights.take("w", &[1, 3]).unwrap(), [2.0, 3.0, 4.0]);
    let mut weights = one(tensor("0", 6, 5, &[], &[])).unwrap();
    assert_eq!(weights.take("w", &[]).unwrap(), [5.0]);
    // Sizes of which no product may be formed from the wrong end.
    let mut weights = one(tensor("0", 6, i64::MAX, &[0, i64::MAX, i64::MAX], &[1, 1, 1])).unwrap();
    assert!(weights.take("w", &[0, i64::MAX as usize, i64::MAX as usize]).unwrap().is_empty());

    for (offset, shape, strides) in [
        (0, &[7][..], &[1][..]),
        (6, &[], &[]),
        (6, &[1], &[1]),
        (1, &[2, 3], &[3, 1]),
        (0, &[2, 3], &[4, 1]),
        (i64::MAX, &[1], &[1]),
        (0, &[2], &[i64::MAX]),
        (0, &[3, 3], &[i64::MAX, i64::MAX]),
        (0, &[i64::MAX, i64::MAX], &[0, 0]),
        (0, &[i64::MAX, i64::MAX, 0], &[0, 0, 0]),
        // A flood out of one number.
        (0, &[1 << 30], &[0]),
    ] {
        let message = refusal(one(tensor("0", 6, offset, shape, strides)));
        assert!(message.contains("does not lie within its storage"), "{shape:?} {strides:?}: {message}");
    }
    for (offset, shape, strides) in
        [(-1, &[1][..], &[1][..]), (0, &[-1], &[1]), (0, &[1], &[-1]), (0, &[1], &[1, 1]), (0, &[1; 17], &[1; 17])]
    {
        let message = refusal(one(tensor("0", 6, offset, shape, strides)));
        assert!(message.contains("not described as PyTorch does"), "{shape:?} {strides:?}: {message}");
    }
    for n in [0, 5, 7, i64::MAX] {
        assert!(refusal(one(tensor("0", n, 0, &[1], &[1]))).contains("storage `0` has 24 bytes"), "{n}");
    }
    for key in ["1", "../data/0", "", "/etc/passwd", "a/../0"] {
        assert!(refusal(one(tensor(key, 6, 0, &[6], &[1]))).contains("it has no"), "{key}");
    }
}

#[test]
fn code_is_refused_by_name_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("ran");
    let argument = string(&format!("touch {}", marker.display()));
    let tuple = [&b"("[..], &argument, b"t"].concat();
    for (program, global) in [
        ([b"\x80\x02cos\nsystem\n", &tuple[..], b"R."].concat(), "os.system"),
        ([b"\x80\x02cposix\nsystem\n", &tuple[..], b"R."].concat(), "posix.system"),
        ([b"\x80\x04\x8c\x02os\x8c\x06system\x93", &tuple[..], b"R."].concat(), "os.system"),
        ([b"\x80\x02(", &argument[..], b"ios\nsystem\n."].concat(), "os.system"),
        // Known by name, but never made by this instruction.
        ([b"\x80\x02(", &argument[..], b"iargparse\nNamespace\n."].concat(), "argparse.Namespace"),
        ([b"\x80\x02c__builtin__\neval\n", &tuple[..], b"R."].concat(), "__builtin__.eval"),
        ([b"\x80\x02cbuiltins\ngetattr\n", &tuple[..], b"R."].concat(), "builtins.getattr"),
        ([b"\x80\x02ctorch.storage\n_load_from_bytes\n", &tuple[..], b"R."].concat(), "torch.storage._load_from_bytes"),
        // As an instruction that Python runs on its way to something harmless.
        (table(&[("w", [b"cos\nsystem\n", &tuple[..], b"R0N"].concat())]), "os.system"),
        (b"\x80\x02ctorch\nComplexFloatStorage\n.".to_vec(), "torch.ComplexFloatStorage"),
        (b"\x80\x02c__torch__.model\nNet\n)\x81.".to_vec(), "__torch__.model.Net"),
    ] {
        let message = refusal(pickled(&program));
        assert!(message.contains(&format!("`{global}`")) && message.contains("safetensors"), "{message}");
        // In the older layout, where the number that marks it should stand.
        let message = refusal(of(&[&program[..], &[0; 16]].concat()));
        assert!(message.contains(&format!("`{global}`")), "{message}");
    }
    assert!(!marker.exists(), "a pickle ran its code");
}

#[test]
fn malformed_programs_are_refused() {
    let good = tensor("0", 6, 0, &[6], &[1]);
    for (program, word) in [
        (b"".to_vec(), "cut off"),
        (b"\x80\x09N.".to_vec(), "protocol 9"),
        (b"\x80\x02N.".to_vec(), "no table of tensors"),
        (b"\x80\x02(.".to_vec(), "empty stack"),
        (b"\x80\x02N(0.".to_vec(), "empty stack"),
        (b"\x80\x02.".to_vec(), "empty stack"),
        (b"\x80\x02}t.".to_vec(), "a mark that it has not set"),
        (b"\x80\x02}(Nu.".to_vec(), "a key without a value"),
        (b"\x80\x02}q\x00h\x01.".to_vec(), "entry 1, which it has not kept"),
        (b"\x80\x02NNs.".to_vec(), "empty stack"),
        (b"\x80\x02NNNs.".to_vec(), "of what is no dict"),
        (b"\x80\x02}Na.".to_vec(), "to what is no list"),
        (b"\x80\x02NNb.".to_vec(), "belong to nothing"),
        (b"\x80\x02NNR.".to_vec(), "a call without arguments"),
        (b"\x80\x02N)R.".to_vec(), "calls what is no function"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.".to_vec(), "arguments that do not belong to it"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.".to_vec(), "made of no tensor"),
        (b"\x80\x02ccollections\nOrderedDict\n]N\x85a\x85R.".to_vec(), "no pairs"),
        (b"\x80\x02NQ.".to_vec(), "something else than stored numbers"),
        (b"\x80\x02\x82\x01.".to_vec(), "instruction 0x82 at byte 2"),
        (b"\x80\x02X\xff\xff\xff\xffab".to_vec(), "cut off"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffab".to_vec(), "cut off"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.".to_vec(), "no UTF-8"),
        (b"\x80\x02c\xff\nx\n.".to_vec(), "no UTF-8"),
        (b"\x80\x02NN\x93.".to_vec(), "has no name"),
        (b"\x80\x02}NNs.".to_vec(), "no name of a tensor"),
        (table(&[("w", b"}".to_vec())]), "`w` is no tensor"),
        (table(&[("w", good.clone()), ("w", good.clone())]), "`w` twice"),
        (table(&[("model", b"}".to_vec()), ("state_dict", b"}".to_vec())]), "more than one table"),
    ] {
        let message = refusal(pickled(&program));
        assert!(message.contains(word), "{word}: {message}");
    }
    // Numbers that are to be read negated, as a seventh argument says.
    let marked = [&good[..good.len() - 2], b"}", &string("neg"), b"\x88stR"].concat();
    assert!(refusal(pickled(&table(&[("w", marked)]))).contains("not described as PyTorch does"));
    // What stands beside tensors and cannot hold any is passed over.
    let weights = pickled(&table(&[("step", b"K\x07".to_vec()), ("w", good), ("note", string("x"))])).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["w"]);
}

#[test]
fn ordered_dicts_of_python_2_are_read() {
    let pair = [b"]".to_vec(), string("w"), b"a".to_vec(), tensor("0", 6, 0, &[6], &[1]), b"a".to_vec()].concat();
    let program = [&b"\x80\x02ccollections\nOrderedDict\n]"[..], &pair, b"a\x85R."].concat();
    assert_eq!(pickled(&program).unwrap().take("w", &[6]).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn what_grows_without_end_is_refused_or_costs_nothing() {
    // Each tuple holds the one before twice: 2^60 of them if anyone unfolded it.
    let laughs: Vec<u8> = (0..60).flat_map(|_| b"q\x00h\x00\x86".to_vec()).collect();
    assert!(refusal(pickled(&[&b"\x80\x02)"[..], &laughs, b"."].concat())).contains("no table of tensors"));
    // A dict that holds itself.
    let message = refusal(pickled(&[b"\x80\x02}q\x00", &string("w")[..], b"h\x00s."].concat()));
    assert!(message.contains("`w` is no tensor"), "{message}");

    let many = |op: &[u8], n: usize| [b"\x80\x02", &op.repeat(n)[..], b"."].concat();
    let one = [&tensor("0", 6, 0, &[6], &[1])[..], b"0"].concat();
    for (program, word) in [
        (many(b"N", 1 << 17), "65536 values on the stack"),
        (many(b"(", 1 << 17), "65536 marks"),
        (many(b"}0", 1 << 22), "2097152 values"),
        (many(b"N\x940", 1 << 22), "2097152 kept values"),
        (many(&one, (1 << 17) + 1), "131072 tensors"),
        // A list that is long once, and made into dicts again and again.
        (
            [
                &b"\x80\x02]q\x01(NN\x86q\x02"[..],
                &b"h\x02".repeat(999),
                b"e0",
                &b"ccollections\nOrderedDict\nh\x01\x85R0".repeat(5000),
                b"N.",
            ]
            .concat(),
            "2097152 items",
        ),
    ] {
        let message = refusal(pickled(&program));
        assert!(message.contains(&format!("its pickle has more than {word}")), "{word}: {message}");
    }
    // Longer than any table of tensors.
    assert!(refusal(pickled(&many(b"N0", 1 << 25))).contains("`a/data.pkl`: 67108867 bytes"));
}

#[test]
fn archives_that_lie_are_refused() {
    let program = table(&[("w", tensor("0", 6, 0, &[6], &[1]))]);
    let numbers = [0u8; 24];
    let good = archive(&[("a/data.pkl", &program), ("a/data/0", &numbers)]);
    of(&good).unwrap().take("w", &[6]).unwrap();
    let find = |what: &[u8], nth: usize| {
        let mut places = good.windows(what.len()).enumerate().filter(|(_, window)| *window == what).map(|(at, _)| at);
        places.nth(nth).unwrap()
    };
    let (end, entry) = (find(b"PK\x05\x06", 0), find(b"PK\x01\x02", 1));
    for (at, bytes, word) in [
        (end + 10, &[0xfe, 0xff][..], "directory of 65534 entries"),
        (end + 12, &[0xff, 0xff, 0xff, 0xfe], "its directory of 2 entries is said to be 4278190079 bytes"),
        (end + 16, &[0xf0, 0xff, 0xff, 0xff], "bytes at byte 4294967280"),
        // These say that a record for large files holds the truth, and there is none.
        (end + 10, &[0xff, 0xff], "directory for large files is missing"),
        (end + 16, &[0xff; 4], "directory for large files is missing"),
        (entry + 8, &[1], "it is encrypted"),
        (entry + 10, &[9], "method 9"),
        (entry + 20, &[0xff, 0xff, 0xff, 0x7f], "`a/data/0`: 2147483647 bytes are said to begin"),
        (entry + 24, &[0xff, 0xff, 0xff, 0x7f], "stored in 24 bytes, but has 2147483647"),
        (entry + 28, &[0xff, 0xff], "entry 2 of its directory is cut off"),
        (entry + 42, &[0xff, 0xff, 0xff, 0x7f], "nothing begins at byte 2147483647"),
    ] {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        let message = refusal(of(&changed));
        assert!(message.contains(word), "{word}: {message}");
    }
    // Deflated, and said to become a gigabyte, or a little more than can come of 24 bytes.
    for (len, word) in
        [(1u32 << 30, "more would come of its deflated data"), (24 * 1032 + 1, "cannot come of 24 deflated ones")]
    {
        let mut bomb = good.clone();
        bomb[entry + 10] = 8;
        bomb[entry + 24..entry + 28].copy_from_slice(&len.to_le_bytes());
        let message = refusal(of(&bomb));
        assert!(message.contains(word), "{word}: {message}");
    }

    for members in [
        &[("data.pkl", &program[..])][..],
        &[("a/data.pkl", &program), ("b/data.pkl", &program)],
        &[("../../data.pkl", &program)],
        &[("a/b/data.pkl", &program)],
    ] {
        assert!(refusal(of(&archive(members))).contains("an archive without one `data.pkl`"));
    }
    let twice = archive(&[("a/data.pkl", &program), ("a/data/0", &numbers), ("a/data/0", &numbers)]);
    assert!(refusal(of(&twice)).contains("`a/data/0` twice"));
    let order = |order: &[u8]| of(&archive(&[("a/data.pkl", &program), ("a/data/0", &numbers), ("a/byteorder", order)]));
    assert!(order(b"little").is_ok());
    assert!(refusal(order(b"middle")).contains("byte order"));
    assert!(refusal(order(&[b' '; 99])).contains("`a/byteorder`: 99 bytes"));
}

#[test]
fn random_programs_never_panic() {
    // Every instruction that is known, with operands that are likely to mean something.
    let known: &[&[u8]] = &[
        b".",
        b"(",
        b"0",
        b"1",
        b"2",
        b"N",
        b"\x88",
        b"K\x01",
        b"J\xff\xff\xff\xff",
        b"M\x02\0",
        b"\x8a\x01\xff",
        b"\x8b\x01\0\0\0\x06",
        b"G\0\0\0\0\0\0\0\0",
        b"U\x01x",
        b"C\x01x",
        b")",
        b"\x85",
        b"\x86",
        b"\x87",
        b"t",
        b"]",
        b"a",
        b"e",
        b"l",
        b"}",
        b"s",
        b"u",
        b"d",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"h\0",
        b"h\x01",
        b"q\0",
        b"q\x01",
        b"\x94",
        b"R",
        b"\x81",
        b"b",
        b"Q",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch\nSize\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"cnumpy\ndtype\n",
    ];
    let mut pieces: Vec<Vec<u8>> = known.iter().map(|piece| piece.to_vec()).collect();
    pieces.extend([string("w"), string("state_dict"), ints(&[1, 2]), ints(&[])]);
    pieces.extend([&[6][..], &[3], &[7]].map(|shape| tensor("0", 6, 0, shape, &[1])));
    let mut state = 1u64;
    let mut random = |n: usize| {
        // Knuth's linear congruential generator; its high bits are good enough to choose by.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let (mut n_read, mut n_refused) = (0, 0);
    for _ in 0..50_000 {
        let mut program = b"\x80\x02}".to_vec();
        for _ in 0..random(24) {
            program.extend(&pieces[random(pieces.len())]);
        }
        program.push(b'.');
        match pickled(&program) {
            Ok(mut weights) => {
                take_all(&mut weights);
                n_read += 1;
            }
            Err(_) => n_refused += 1,
        }
    }
    assert!(n_read > 100 && n_refused > 100, "{n_read} read, {n_refused} refused");
}
