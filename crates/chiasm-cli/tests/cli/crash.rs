//! Killed, stopped, out of space: a library stays whole, holds all that was reported as stored, and the next run does the rest.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{FIXTURE, Reply, chiasm, command, some_files};

/// Moments of the kill.
const KILLS: u64 = 100;
/// However slow the machine, the test ends: the moments tried by then must do, and it says how many they were.
const PATIENCE: Duration = Duration::from_secs(180);
const SCENES: usize = 12;

/// A full-period generator modulo 2^64 (Knuth's MMIX), of which the upper bits are used: moments need no better chance.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Starts an indexing of `dir` that reports each stored batch, and gives how many files it reported before it ended.
/// `act` may end it early.
fn index(dir: &Path, library: &Path, act: impl FnOnce(u32)) -> (std::process::ExitStatus, u64) {
    index_with(dir, library, &["--space", &FIXTURE.space()], "index", act)
}

/// The same with other options; counted are the steps that were reported of one stage.
fn index_with(
    dir: &Path,
    library: &Path,
    options: &[&str],
    stage: &'static str,
    act: impl FnOnce(u32),
) -> (std::process::ExitStatus, u64) {
    let mut child = command(dir)
        .args(["--progress", "json", "index", "."])
        .args(options)
        .arg("--library")
        .arg(library)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let reader = thread::spawn(move || {
        let mut stored = 0;
        for line in lines.map_while(Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["stage"] == stage {
                stored = event["done"].as_u64().unwrap_or(stored);
            }
        }
        stored
    });
    act(child.id());
    let status = child.wait().unwrap();
    (status, reader.join().unwrap())
}

#[cfg(unix)]
fn kill(pid: u32, signal: &str) {
    // The process may have ended by itself.
    let _ = std::process::Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

#[cfg(unix)]
#[test]
fn kill_9_at_a_hundred_moments_loses_nothing_stored() {
    survives(&["--space", &FIXTURE.space()], KILLS);
}

#[cfg(unix)]
#[test]
fn kill_9_loses_nothing_stored_in_several_lanes() {
    survives(&["--space", &FIXTURE.space(), "--model", "char-ngrams", "--model", "colour-layout"], KILLS / 4);
}

#[cfg(unix)]
fn survives(options: &[&str], kills: u64) {
    let dir = some_files(SCENES);
    let index = |dir: &Path, library: &Path, act: &mut dyn FnMut(u32)| index_with(dir, library, options, "index", act);
    let n_files = 5 * SCENES as u64;
    let library = dir.path().join("lib");
    // How long a whole run takes here decides from which moments to draw.
    let began = Instant::now();
    let (status, stored) = index(dir.path(), &library, &mut |_| {});
    assert!(status.success());
    assert_eq!(stored, n_files, "the last report of a whole run names every file");
    let whole = began.elapsed().as_millis() as u64;
    let (mut state, mut most_left, mut completed, mut tried) = (7, 0, 0, 0);
    let began = Instant::now();
    let lib = library.to_string_lossy().into_owned();
    let check = |reported: u64, at: u64| {
        if !library.join("library.db").exists() {
            assert_eq!(reported, 0, "killed after {at} ms: files were reported as stored, there is no library");
            return 0;
        }
        let verified = chiasm(dir.path(), &["verify", "--json", "--library", &lib]);
        if verified.code != 0
            && reported == 0
            && (verified.err.contains("no library") || verified.err.contains("no chiasm library"))
        {
            return 0; // Killed while it was being made: nothing was promised yet, and the next run makes it.
        }
        assert_eq!(verified.code(0).json()["problems"], Value::Array(Vec::new()), "killed after {at} ms");
        let info = chiasm(dir.path(), &["info", "--json", "--library", &lib]).code(0).json();
        let there = info["n_paths"].as_u64().unwrap();
        assert!(there >= reported, "killed after {at} ms: {reported} reported as stored, {there} there");
        there
    };
    while tried < kills && began.elapsed() < PATIENCE {
        if completed == n_files || tried == 0 {
            // From the beginning again: most moments should fall into work, not into its end.
            fs::remove_dir_all(&library).unwrap();
        }
        let at = draw(&mut state, whole + whole / 8);
        let (_, reported) = index(dir.path(), &library, &mut |pid| {
            thread::sleep(Duration::from_millis(at));
            kill(pid, "-KILL");
        });
        completed = check(reported, at);
        if completed < n_files {
            most_left = most_left.max(completed);
        }
        tried += 1;
    }
    println!("killed {tried} times within {whole} ms runs; the fullest unfinished library had {most_left} of {n_files} files");
    assert!(tried >= kills / 4, "only {tried} kills in {PATIENCE:?}");
    assert_eq!(index(dir.path(), &library, &mut |_| {}).0.code(), Some(0));
    assert_eq!(check(n_files, 0), n_files);
}

#[cfg(unix)]
#[test]
fn kill_9_while_a_lane_is_added_loses_nothing_stored() {
    let dir = some_files(SCENES);
    let (whole_library, library) = (dir.path().join("whole"), dir.path().join("lib"));
    assert!(index(dir.path(), &whole_library, |_| {}).0.success());
    let lib = library.to_string_lossy().into_owned();
    let again = || {
        let _ = fs::remove_dir_all(&library);
        fs::create_dir(&library).unwrap();
        for entry in fs::read_dir(&whole_library).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, library.join(path.file_name().unwrap())).unwrap();
        }
    };
    let add = |act: &mut dyn FnMut(u32)| {
        let options = ["--add-lane", "--model", "char-ngrams", "--model", "colour-layout"];
        index_with(dir.path(), &library, &options, "lanes", act)
    };
    // What the added lanes have, and what they lack, after a library that must be sound.
    let state = || {
        let verified = chiasm(dir.path(), &["verify", "--json", "--library", &lib]).code(0).json();
        assert_eq!(verified["problems"], Value::Array(Vec::new()));
        let info = chiasm(dir.path(), &["info", "--json", "--library", &lib]).code(0).json();
        assert_eq!(info["n_paths"], 5 * SCENES);
        let lanes = info["lanes"].as_array().unwrap();
        let sum = |field: &str| lanes.iter().skip(1).map(|lane| lane[field].as_u64().unwrap()).sum::<u64>();
        (lanes.len(), sum("n_vectors"), sum("n_lacking"))
    };
    again();
    let began = Instant::now();
    let (status, made) = add(&mut |_| {});
    let whole = began.elapsed().as_millis() as u64;
    assert!(status.success() && made > 0);
    assert_eq!(state(), (3, made, 0));
    let (mut draws, mut tried, mut unfinished) = (11, 0, 0);
    again();
    let (mut before, began) = (0, Instant::now());
    while tried < KILLS / 4 && began.elapsed() < PATIENCE {
        let at = draw(&mut draws, whole + whole / 8);
        let (_, reported) = add(&mut |pid| {
            thread::sleep(Duration::from_millis(at));
            kill(pid, "-KILL");
        });
        let (lanes, there, lacking) = state();
        assert!(there >= before + reported, "killed after {at} ms: {reported} reported, {before} before, {there} there");
        (before, tried) = (there, tried + 1);
        unfinished += u64::from(lanes > 1 && lacking > 0);
        if lanes == 3 && lacking == 0 {
            again();
            before = 0;
        }
    }
    println!("killed {tried} times within {whole} ms runs, {unfinished} times with vectors still to be made");
    assert!(tried >= KILLS / 16, "only {tried} kills in {PATIENCE:?}");
    assert!(add(&mut |_| {}).0.success());
    assert_eq!(state(), (3, made, 0));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_at_a_safe_point() {
    let dir = some_files(SCENES);
    let library = dir.path().join("lib");
    let mut codes = Vec::new();
    for wait_ms in [30, 60, 120, 240] {
        let (status, reported) = index(dir.path(), &library, |pid| {
            thread::sleep(Duration::from_millis(wait_ms));
            kill(pid, "-INT");
        });
        codes.push(status.code());
        if library.join("library.db").exists() && status.code().is_some() {
            let lib = library.to_string_lossy().into_owned();
            chiasm(dir.path(), &["verify", "--library", &lib]).code(0);
            let there = chiasm(dir.path(), &["info", "--json", "--library", &lib]).code(0).json()["n_paths"].as_u64().unwrap();
            assert!(there >= reported);
        }
    }
    // Before the handler stands the signal ends the process by itself; after the work it comes too late.
    assert!(codes.iter().all(|code| matches!(code, None | Some(0 | 130))), "{codes:?}");
    assert_eq!(index(dir.path(), &library, |_| {}).0.code(), Some(0));
}

/// A file system of its own, unmounted at the end.
#[cfg(target_os = "linux")]
struct Mounted(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[cfg(target_os = "linux")]
fn small_disk(at: &Path, size: &str) -> Option<Mounted> {
    let size = format!("size={size}");
    let line = ["-t", "tmpfs", "-o", &size, "tmpfs"];
    let mounted = std::process::Command::new("mount").args(line).arg(at).stderr(Stdio::null()).status();
    mounted.is_ok_and(|status| status.success()).then(|| Mounted(at.to_owned()))
}

/// Enough short texts that their vectors, texts and word index outgrow the disk.
fn many_texts(dir: &Path) {
    for i in 0..1500 {
        let text = format!("note {i}: {}\n", "words that fill a disk ".repeat(20 + i % 7));
        fs::write(dir.join(format!("{i:05}.txt")), text).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_library_readable() {
    let texts = tempfile::tempdir().unwrap();
    many_texts(texts.path());
    let disk = tempfile::tempdir().unwrap();
    let line = |library: &Path| -> Vec<String> {
        let library = library.to_string_lossy().into_owned();
        ["index", ".", "--space", &FIXTURE.space(), "--library", &library, "--quiet"].map(str::to_owned).to_vec()
    };
    let library = disk.path().join("lib");
    let lib = library.to_string_lossy().into_owned();
    let _mounted = match small_disk(disk.path(), "3m") {
        Some(mounted) => {
            let reply = chiasm(texts.path(), &line(&library)).code(1);
            assert!(reply.err.contains("disk is full") || reply.err.contains("No space left"), "{}", reply.err);
            Some(mounted)
        }
        None => {
            println!("no right to mount a small disk: a limit on the size of files takes its place");
            let exe = env!("CARGO_BIN_EXE_chiasm");
            let script = format!("ulimit -f 2048; exec '{exe}' \"$@\"");
            let output = std::process::Command::new("sh")
                .args(["-c", &script, "chiasm"])
                .args(line(&library))
                .current_dir(texts.path())
                .output()
                .unwrap();
            assert!(!output.status.success());
            None
        }
    };
    let there = chiasm(texts.path(), &["info", "--json", "--library", &lib]).code(0).json()["n_items"].as_u64().unwrap();
    assert!(there < 1500, "the disk was not full: {there}");
    assert_eq!(chiasm(texts.path(), &["verify", "--json", "--library", &lib]).code(0).json()["clean"], true);
    let found = chiasm(texts.path(), &["search", "words that fill", "--json", "--library", &lib]).code(0).json();
    assert_eq!(found["hits"].as_array().unwrap().len() as u64, there.min(10));
    // With room again the rest is taken in.
    if let Some(mounted) = &_mounted {
        let status = std::process::Command::new("mount").args(["-o", "remount,size=200m"]).arg(&mounted.0).status().unwrap();
        assert!(status.success());
    }
    let output = command(texts.path()).args(line(&library)).output().unwrap();
    Reply::of(output).code(0);
    let there = chiasm(texts.path(), &["info", "--json", "--library", &lib]).code(0).json()["n_items"].as_u64().unwrap();
    assert_eq!(there, 1500);
}
