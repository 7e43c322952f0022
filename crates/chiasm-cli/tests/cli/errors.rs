//! What goes wrong, and how it is said.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use crate::common::{FIXTURE, Reply, chiasm, command, some_files, some_library};

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn help_names_every_command() {
    let dir = empty();
    let help = chiasm(dir.path(), &["--help"]).code(0).out;
    for name in ["space", "index", "search", "similar", "classify", "info", "rm", "verify", "import", "eval", "model"] {
        assert!(help.lines().any(|l| l.trim_start().starts_with(&format!("{name} "))), "no {name} in:\n{help}");
        chiasm(dir.path(), &[name, "--help"]).code(0);
    }
    assert!(help.contains("Exit status"));
    assert!(chiasm(dir.path(), &["--version"]).code(0).out.starts_with("chiasm "));
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let dir = empty();
    for line in [
        &["serach", "x"][..],
        &[],
        &["search", "x", "-k", "0"],
        &["search", "x", "--kind", "smell"],
        &["search", "x", "--where", "kind ="],
        &["search", "x", "--weight", "-1"],
        &["search", "x", "--paths", "--json"],
        &["space", "fit", "--image", "colour-layout", "--method", "cca", "-o", "x.space"],
        &["eval", "--run", "r"],
        &["import", "--npy", "a", "--names", "b", "--names", "c", "--kind", "image", "--library", "l"],
    ] {
        let reply = chiasm(dir.path(), line).code(2);
        assert!(reply.out.is_empty(), "{line:?}: {}", reply.out);
    }
}

#[test]
fn no_library_says_what_to_do() {
    let dir = empty();
    for line in [&["search", "dog"][..], &["info"], &["verify"], &["rm", "x"], &["similar", "x"], &["eval", "--by-folder"]] {
        let reply = chiasm(dir.path(), line).code(1);
        assert!(reply.err.starts_with("error: no library here"), "{}", reply.err);
        assert!(reply.err.contains("hint: make one with `chiasm index DIR --space FILE`"), "{}", reply.err);
    }
    let named = chiasm(dir.path(), &["info", "--library", "nowhere"]).code(1);
    assert!(named.err.contains("nowhere"), "{}", named.err);
}

#[test]
fn an_absent_folder_leaves_no_library() {
    let dir = empty();
    let reply = chiasm(dir.path(), &["index", "nowhere", "--space", &FIXTURE.space()]).code(1);
    assert!(reply.err.contains("cannot index nowhere"), "{}", reply.err);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_first_index_needs_a_space() {
    let dir = some_files(1);
    let reply = chiasm(dir.path(), &["index", "."]).code(1);
    assert!(reply.err.contains("hint: give one with `--space FILE`"), "{}", reply.err);
    let reply = chiasm(dir.path(), &["index", ".", "--space", "pictures/0001.png"]).code(1);
    assert!(reply.err.contains("0001.png is no usable space"), "{}", reply.err);
}

#[test]
fn an_absent_model_names_the_ways_out() {
    let dir = empty();
    std::fs::write(dir.path().join("pairs.csv"), "image,text\na.png,a\nb.png,b\nc.png,c\nd.png,d\n").unwrap();
    let fit = ["space", "fit", "--image", "mobilenet_v2", "--text", "char-ngrams", "--pairs", "pairs.csv"];
    let reply = chiasm(dir.path(), &[&fit[..], &["--method", "cca", "-o", "x.space"]].concat()).code(1);
    for word in ["mobilenet_v2", "--models", "CHIASM_MODELS"] {
        assert!(reply.err.contains(word), "no {word} in: {}", reply.err);
    }
    assert!(!dir.path().join("x.space").exists());
    let reply = chiasm(dir.path(), &["model", "info", "mobilnet"]).code(1);
    assert!(reply.err.contains("no encoder is called `mobilnet`"), "{}", reply.err);
}

#[test]
fn refused_files_are_listed_and_the_rest_is_indexed() {
    let dir = some_files(2);
    std::fs::write(dir.path().join("empty.wav"), b"").unwrap();
    let png = std::fs::read(dir.path().join("pictures/0001.png")).unwrap();
    std::fs::write(dir.path().join("cut.png"), &png[..png.len() / 2]).unwrap();
    let index = ["index", ".", "--space", &FIXTURE.space()];
    let reply = chiasm(dir.path(), &index).code(3);
    let refused: Vec<&str> = reply.err.lines().filter(|l| l.starts_with("refused ")).collect();
    assert_eq!(refused.len(), 2, "{}", reply.err);
    assert!(
        refused.iter().any(|l| l.contains("empty.wav: ")) && refused.iter().any(|l| l.contains("cut.png: ")),
        "{refused:?}"
    );
    assert!(reply.out.contains("10 new") && reply.out.contains("2 refused"), "{}", reply.out);
    // They are told again, with `--quiet` too, and in JSON.
    let again = chiasm(dir.path(), &["index", ".", "--json", "--quiet"]).code(3);
    let json = again.json();
    assert_eq!((&json["n_unchanged"], json["refused"].as_array().unwrap().len()), (&10.into(), 2));
    assert!(again.err.contains("empty.wav"), "{}", again.err);
}

#[test]
fn another_space_is_refused_with_both_fingerprints() {
    let dir = some_library(1);
    let fit =
        ["space", "fit", "--image", "colour-layout", "--text", "char-ngrams", "--method", "cca", "--folds", "2", "--seed", "9"];
    let pairs = FIXTURE.path("world/train.csv").to_string_lossy().into_owned();
    chiasm(dir.path(), &[&fit[..], &["--pairs", &pairs, "-o", "other.space", "--quiet"]].concat()).code(0);
    let fingerprint = |file: &str| chiasm(dir.path(), &["space", "info", file, "--json"]).code(0).json()["fingerprint"].clone();
    let reply = chiasm(dir.path(), &["index", ".", "--space", "other.space"]).code(1);
    for file in ["other.space", &FIXTURE.space()] {
        let fingerprint = fingerprint(file);
        assert!(reply.err.contains(fingerprint.as_str().unwrap()), "{}", reply.err);
    }
    chiasm(dir.path(), &["index", ".", "--space", &FIXTURE.space()]).code(0);
}

#[test]
fn a_file_of_the_wrong_kind_names_the_right_option() {
    let dir = some_library(1);
    let reply = chiasm(dir.path(), &["search", "--image", "sounds/0001.wav"]).code(1);
    assert!(reply.err.contains("holds a sound, expected a picture: give it with `--audio`"), "{}", reply.err);
    let reply = chiasm(dir.path(), &["search", "--image", "nowhere.png"]).code(1);
    assert!(reply.err.contains("nowhere.png"), "{}", reply.err);
    let reply = chiasm(dir.path(), &["search", "--not", "dog"]).code(2);
    assert!(reply.err.contains("give at least one thing to look for"), "{}", reply.err);
    let reply = chiasm(dir.path(), &["search", "--like", "99999"]).code(1);
    assert!(reply.err.contains("99999"), "{}", reply.err);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = some_library(2);
    for line in [&["search", "a", "-k", "20"][..], &["search", "a", "--json"], &["info"], &["model", "list"], &["--help"]] {
        let mut child = command(dir.path()).args(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert!(!err.contains("panicked") && !err.contains("error"), "{line:?}: {err}");
        assert!(status.success(), "{line:?}: {status} {err}");
    }
}

#[test]
fn names_cannot_write_on_the_terminal() {
    let dir = some_files(1);
    let name = "pictures/evil\u{1b}[31m\nname.png";
    std::fs::rename(dir.path().join("pictures/0001.png"), dir.path().join(name)).unwrap();
    chiasm(dir.path(), &["index", ".", "--space", &FIXTURE.space()]).code(0);
    let shown = chiasm(dir.path(), &["search", "red", "--kind", "image"]).code(0).out;
    assert!(shown.contains("evil\\u{1b}[31m\\nname.png"), "{shown}");
    let exact = chiasm(dir.path(), &["search", "red", "--kind", "image", "-0"]).code(0).out;
    assert!(exact.ends_with(&format!("{name}\0")), "{exact:?}");
    // A NUL ends every path, so the count of them is the count of hits.
    assert_eq!(exact.matches('\0').count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_unicode_work() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let dir = some_files(1);
    let name = Path::new(OsStr::from_bytes(b"pictures/caf\xe9.png"));
    std::fs::rename(dir.path().join("pictures/0001.png"), dir.path().join(name)).unwrap();
    chiasm(dir.path(), &["index", ".", "--space", &FIXTURE.space()]).code(0);
    let output = command(dir.path()).args(["search", "red", "--kind", "image", "-0"]).output().unwrap();
    assert!(output.stdout.ends_with(b"pictures/caf\xe9.png\0"), "{:?}", String::from_utf8_lossy(&output.stdout));
    let found = command(dir.path()).arg("similar").arg(name).output().unwrap();
    Reply::of(found).code(0);
    let shown = chiasm(dir.path(), &["search", "red", "--kind", "image", "--json"]).code(0).json();
    assert_eq!(shown["hits"].as_array().unwrap().len(), 1);
    Reply::of(command(dir.path()).arg("rm").arg(name).output().unwrap()).code(0);
}
