//! What every test of the real binary needs: a way to run it, and a small world with a space fitted on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use chiasm_core::{Cancel, NoProgress};
use chiasm_world::{WorldConfig, generate};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test, in a folder, with none of the user's own settings.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chiasm"));
    command.current_dir(dir).stdin(std::process::Stdio::null());
    for name in ["CHIASM_LIBRARY", "CHIASM_MODELS", "CHIASM_FFMPEG", "NO_COLOR", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    // No models of the user's own, and no way to fetch any: nobody listens there.
    command.env("HOME", dir).env("HF_ENDPOINT", "http://127.0.0.1:9");
    command
}

/// What a run gave.
pub(crate) struct Reply {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Reply {
    pub(crate) fn of(output: Output) -> Reply {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Reply { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The reply, which must have this exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Reply {
        assert_eq!(self.code, expected, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not one JSON document ({e}):\n{}\n{}", self.out, self.err))
    }
}

/// Runs the binary in a folder.
pub(crate) fn chiasm<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Reply {
    Reply::of(command(dir).args(args).output().expect("the binary starts"))
}

/// A world of 48 scenes (five files each) and a space fitted on 40 of them.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn space(&self) -> String {
        self.path("world.space").to_string_lossy().into_owned()
    }
}

/// Made once for all tests of a binary.
pub(crate) static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = WorldConfig { seed: 5, n_train: 40, n_heldout: 8 };
    generate(&dir.path().join("world"), &config, &NoProgress, &Cancel::default()).expect("a world");
    let args = [
        ["space", "fit", "--image", "colour-layout", "--text", "char-ngrams", "--audio", "mel-contour"].as_slice(),
        &["--series", "series-spectrum", "--method", "mcca", "--folds", "2", "--pairs", "world/train.csv", "--quiet"],
        &["-o", "world.space"],
    ]
    .concat();
    chiasm(dir.path(), &args).code(0);
    Fixture { dir }
});

/// A folder with the first `n` scenes of the world, copied.
pub(crate) fn some_files(n: usize) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kinds = [("pictures", "png"), ("sounds", "wav"), ("texts", "en.txt"), ("texts", "zh.txt"), ("series", "csv")];
    for (folder, ending) in kinds {
        std::fs::create_dir_all(dir.path().join(folder)).expect("a folder");
        for i in 1..=n {
            let name = format!("{folder}/{i:04}.{ending}");
            std::fs::copy(FIXTURE.path("world").join(&name), dir.path().join(&name)).expect("a file of the world");
        }
    }
    dir
}

/// The same, indexed into `.chiasm`.
pub(crate) fn some_library(n: usize) -> TempDir {
    let dir = some_files(n);
    let reply = chiasm(dir.path(), &["index", ".", "--space", &FIXTURE.space(), "--json", "--quiet"]).code(0).json();
    assert_eq!(reply["n_new"], 5 * n);
    dir
}

/// Where the real data lies; `None`, after a line that says so, when it is absent and this is not CI.
pub(crate) fn test_data(what: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let dir = PathBuf::from(std::env::var_os("CHIASM_TEST_DATA").unwrap_or_else(|| default.into()));
    let path = dir.join(what);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs the test data, {} is not there", path.display());
    println!("skipped: no test data at {}", path.display());
    None
}
