//! Digests of large weights, remembered from one run to the next: hashing them would take longer than all else of opening a model.
//!
//! A digest is remembered beside all that the system tells of a file: its length, when it was changed, and on Unix also when anything about
//! it was, and which file it is, none of which copying or unpacking another file to the same place leaves as it was. As git does with its
//! index, a file that was touched in these last seconds is not remembered: it may still be written, within what clocks can tell apart.
//!
//! What is remembered is a cache: where it cannot be read or written, digests are computed anew.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chiasm_nn::Weights;
use serde::{Deserialize, Serialize};

use crate::dirs::user_cache_dir;

/// Files from this size on: smaller ones are hashed in a few hundredths of a second.
const MIN_BYTES: u64 = 64 << 20;
/// Files that are remembered; beyond them all are forgotten, which costs a second each when they are next met.
const N_REMEMBERED: usize = 256;
/// How long a file must have been left alone.
const AT_REST: Duration = Duration::from_secs(2);

/// What is remembered of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    stamp: String,
    blake3: String,
}

type Memory = BTreeMap<String, Remembered>;

/// [`Weights::digest`], by what is remembered in the user's cache folder.
pub(crate) fn of(weights: &Weights) -> blake3::Hash {
    let place = user_cache_dir().map(|cache| cache.join("chiasm").join("digests.json"));
    of_with(weights, place.as_deref(), MIN_BYTES, SystemTime::now())
}

fn of_with(weights: &Weights, place: Option<&Path>, min_bytes: u64, now: SystemTime) -> blake3::Hash {
    let Some(place) = place else { return *weights.digest() };
    let memory = RefCell::new(None);
    let stamps: RefCell<BTreeMap<PathBuf, String>> = RefCell::default();
    let learnt = RefCell::new(Memory::new());
    let known = |path: &Path| {
        let about = path.metadata().ok().filter(|about| about.len() >= min_bytes)?;
        let stamp = stamp(&about);
        if is_at_rest(&about, now) {
            stamps.borrow_mut().insert(path.to_owned(), stamp.clone());
        }
        let mut memory = memory.borrow_mut();
        let remembered = memory.get_or_insert_with(|| read(place)).get(&key(path)?)?;
        (remembered.stamp == stamp).then(|| blake3::Hash::from_hex(&remembered.blake3).ok())?
    };
    let digest = *weights.digest_known(known, |path, digest| {
        if let (Some(stamp), Some(key)) = (stamps.borrow_mut().remove(path), key(path)) {
            learnt.borrow_mut().insert(key, Remembered { stamp, blake3: digest.to_hex().to_string() });
        }
    });
    let learnt = learnt.into_inner();
    if !learnt.is_empty() {
        remember(place, learnt);
    }
    digest
}

/// The same however the file is named.
fn key(path: &Path) -> Option<String> {
    path.canonicalize().ok()?.into_os_string().into_string().ok()
}

fn stamp(about: &Metadata) -> String {
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let modified = about.modified().map_or(0, since_epoch);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        format!("{} {modified} {}.{:09} {} {}", about.len(), about.ctime(), about.ctime_nsec(), about.dev(), about.ino())
    }
    #[cfg(not(unix))]
    format!("{} {modified}", about.len())
}

/// Whether nothing has happened to the file for a while.
fn is_at_rest(about: &Metadata, now: SystemTime) -> bool {
    let long_ago = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age >= AT_REST);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let changed = u64::try_from(about.ctime()).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds + 1));
        if !changed.is_ok_and(long_ago) {
            return false;
        }
    }
    about.modified().is_ok_and(long_ago)
}

fn read(place: &Path) -> Memory {
    std::fs::read(place).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Adds to what is remembered. Two programs that do so at once may lose what one of them learnt, never more.
fn remember(place: &Path, learnt: Memory) {
    let mut memory = read(place);
    if memory.len() + learnt.len() > N_REMEMBERED {
        memory.clear();
    }
    memory.extend(learnt);
    let write = || -> std::io::Result<()> {
        let folder = place.parent().ok_or(std::io::ErrorKind::NotFound)?;
        std::fs::create_dir_all(folder)?;
        let beside = place.with_extension(format!("{}.part", std::process::id()));
        let written = std::fs::File::create(&beside)
            .and_then(|mut file| file.write_all(&serde_json::to_vec(&memory)?))
            .and_then(|()| std::fs::rename(&beside, place));
        written.inspect_err(|_| drop(std::fs::remove_file(&beside)))
    };
    // A cache that cannot be written is none; see above.
    let _ = write();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(folder: &Path, value: f32) -> Weights {
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &value.to_le_bytes()].concat();
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
        Weights::open(folder).unwrap()
    }

    #[test]
    fn a_digest_is_remembered_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cache").join("digests.json");
        let soon = SystemTime::now() + Duration::from_secs(10);
        let of = |weights: &Weights| of_with(weights, Some(&place), 0, soon);

        let first = weights(folder.path(), 1.0);
        assert_eq!(of(&first), *weights(folder.path(), 1.0).digest());
        let again = Weights::open(folder.path()).unwrap();
        assert_eq!(of(&again), of(&first));
        // What is remembered is what is given: a false memory shows.
        let mut memory = read(&place);
        assert_eq!(memory.len(), 1);
        let about = folder.path().join("model.safetensors").metadata().unwrap();
        memory.values_mut().for_each(|of_file| {
            of_file.stamp = stamp(&about);
            of_file.blake3 = blake3::hash(b"another").to_hex().to_string();
        });
        std::fs::write(&place, serde_json::to_vec(&memory).unwrap()).unwrap();
        assert_eq!(of(&Weights::open(folder.path()).unwrap()), blake3::hash(b"another"));

        let second = weights(folder.path(), 2.0);
        assert_eq!(of(&second), *Weights::open(folder.path()).unwrap().digest());
    }

    #[test]
    fn what_was_just_written_is_not_remembered_nor_what_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("digests.json");
        of_with(&weights(folder.path(), 1.0), Some(&place), 0, SystemTime::now());
        of_with(&weights(folder.path(), 1.0), Some(&place), 1 << 20, SystemTime::now() + Duration::from_secs(10));
        assert!(!place.exists());
    }

    #[test]
    fn a_damaged_memory_or_none_costs_nothing_but_time() {
        let folder = tempfile::tempdir().unwrap();
        let weights = weights(folder.path(), 1.0);
        std::fs::write(folder.path().join("damaged.json"), b"{").unwrap();
        std::fs::write(folder.path().join("a file"), b"").unwrap();
        for place in [None, Some(folder.path().join("damaged.json")), Some(folder.path().join("a file").join("digests.json"))] {
            let soon = SystemTime::now() + Duration::from_secs(10);
            let digest = of_with(&Weights::open(folder.path()).unwrap(), place.as_deref(), 0, soon);
            assert_eq!(digest, *weights.digest());
        }
    }
}
