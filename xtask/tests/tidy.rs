//! What the documents promise, checked on every test run: the arrows between crates, the paths named in documents, the files
//! every method and encoder must bring, and what must not stand in the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `crate: what it may import of ours`, as drawn in docs/architecture.md. Tests and examples may import more.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("media", &["core"]),
    ("nn", &["core"]),
    ("index", &["core"]),
    ("eval", &["core"]),
    ("align", &["core", "nn"]),
    ("world", &["core"]),
    ("encode", &["core", "media", "nn"]),
    ("train", &["core", "media", "nn", "encode", "world"]),
    ("hub", &["core", "encode"]),
    ("engine", &["core", "media", "encode", "align", "index"]),
    ("server", &["core", "media", "encode", "engine"]),
    ("bench", &["core", "media", "nn", "encode", "align", "index", "eval", "train"]),
    ("cli", &["bench", "server", "core", "media", "encode", "hub", "align", "index", "eval", "engine", "world", "train"]),
];

/// Crates that a room must never draw in, whoever asks for them.
const NEVER: &[(&str, &[&str])] = &[
    ("core", &["serde", "serde_json", "rayon", "image"]),
    ("media", &["safetensors", "tokenizers", "gemm"]),
    ("index", &["serde", "rusqlite"]),
    ("encode", &["ureq", "rustls", "ring"]),
    ("engine", &["clap", "indicatif", "anyhow", "ureq", "chiasm-hub", "axum", "tokio"]),
    ("server", &["clap", "indicatif", "ureq", "chiasm-hub"]),
    ("cli", &["ureq", "rustls", "axum", "tokio", "hyper"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the root").to_owned()
}

fn tracked(pattern: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"])
        .args(pattern)
        .current_dir(root())
        .output();
    let Ok(output) = output else { return Vec::new() };
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    names.split('\0').filter(|n| !n.is_empty()).map(|n| root().join(n)).filter(|p| p.is_file()).collect()
}

/// The `[dependencies]` section of a crate's manifest, names only.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let section = text.split("\n[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let rooms: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let on_disk: Vec<String> = fs::read_dir(root().join("crates"))
        .expect("crates/")
        .map(|e| e.expect("entry").file_name().to_string_lossy().trim_start_matches("chiasm-").to_owned())
        .collect();
    for room in &on_disk {
        let allowed = rooms.get(room.as_str()).unwrap_or_else(|| panic!("crates/chiasm-{room} has no row in ARROWS"));
        let found = dependencies(&root().join(format!("crates/chiasm-{room}/Cargo.toml")));
        for ours in found.iter().filter_map(|d| d.strip_prefix("chiasm-")) {
            assert!(allowed.contains(&ours), "chiasm-{room} imports chiasm-{ours}: the arrows allow {allowed:?}");
        }
        for (_, never) in NEVER.iter().filter(|(r, _)| r == room) {
            for crate_name in *never {
                assert!(!found.iter().any(|d| d == crate_name), "chiasm-{room} must never import {crate_name}");
            }
        }
    }
    assert_eq!(on_disk.len(), ARROWS.len(), "a row in ARROWS names no crate: {on_disk:?}");
}

#[test]
fn paths_named_in_documents_exist() {
    let mut missing = Vec::new();
    for document in tracked(&["*.md"]) {
        let text = fs::read_to_string(&document).expect("a readable document");
        for quoted in text.split('`').skip(1).step_by(2) {
            let looks_like_path = ["crates/", "docs/", "reference/", "testdata/", "xtask/", "fuzz/", ".ci/", "ui/"]
                .iter()
                .any(|start| quoted.starts_with(start));
            let is_pattern = quoted.contains(['*', '<', '{', ' ', '$']);
            if looks_like_path && !is_pattern && !root().join(quoted).exists() {
                missing.push(format!("{}: `{quoted}`", document.strip_prefix(root()).unwrap_or(&document).display()));
            }
        }
    }
    assert!(missing.is_empty(), "documents name paths that are not there:\n{}", missing.join("\n"));
}

#[test]
fn source_is_clean() {
    let mut found = Vec::new();
    for file in tracked(&["crates/*.rs"]) {
        let text = fs::read_to_string(&file).expect("readable source");
        for word in ["dbg!(", "todo!(", "unimplemented!(", "#[ignore"] {
            if text.contains(word) {
                found.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "left behind:\n{}", found.join("\n"));
}

#[test]
fn crates_without_kernels_forbid_unsafe() {
    // Kernels use SIMD, the index maps files; every other room has no reason for unsafe code.
    let excused = ["nn", "index"];
    for (room, _) in ARROWS.iter().filter(|(room, _)| !excused.contains(room)) {
        let (lib, main) =
            (root().join(format!("crates/chiasm-{room}/src/lib.rs")), root().join("crates/chiasm-cli/src/main.rs"));
        let text = fs::read_to_string(if *room == "cli" { &main } else { &lib }).expect("crate root");
        assert!(text.contains("#![forbid(unsafe_code)]"), "chiasm-{room} should forbid unsafe code");
    }
}

#[test]
fn every_method_is_documented() {
    let methods = fs::read_to_string(root().join("crates/chiasm-align/src/method.rs")).expect("the one list of methods");
    let documented = fs::read_to_string(root().join("docs/methods.md")).expect("docs/methods.md");
    let list = methods.split("fn names()").nth(1).and_then(|rest| rest.split("&[").nth(1)).expect("fn names() in method.rs");
    let names = list.split(']').next().expect("a split gives at least one part");
    let names: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "no method is listed");
    for name in names {
        assert!(documented.contains(&format!("`{name}`")), "docs/methods.md does not mention method `{name}`");
    }
}

#[test]
fn goldens_have_their_script() {
    for golden in tracked(&["testdata/goldens/*"]) {
        let below = golden.strip_prefix(root().join("testdata/goldens")).expect("that is where they were looked for");
        let area = below.components().next().expect("goldens stand in a folder of their area");
        let area = area.as_os_str().to_string_lossy();
        let scripts = tracked(&[&format!("reference/{area}_*.py")]);
        assert!(!scripts.is_empty(), "{}: no script reference/{area}_*.py writes it", golden.display());
    }
}
