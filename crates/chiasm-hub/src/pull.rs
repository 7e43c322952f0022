//! A whole model: listed, fetched file by file, opened, and put into the store.

use std::fs;

use chiasm_core::{Cancel, Progress};
use chiasm_encode::{
    Entry, ModelName, Stage, Store, StoreError, StoredFile, in_two_layouts, is_index, is_known, select, shards,
};

use crate::client::Hub;
use crate::download::{Wanted, fetch};
use crate::error::HubError;
use crate::listing::{self, Listing};

/// What came of it.
#[derive(Debug)]
pub struct Pulled {
    /// The model in the store.
    pub entry: Entry,
    /// Whether it was there already, and whole.
    pub was_here: bool,
}

/// Fetches a model into the store, unless it is there and whole. What an interrupted attempt left is gone on with; of a damaged model only
/// what is damaged is fetched anew.
///
/// # Errors
/// [`HubError`]. What came and is what the server states is kept for the next attempt.
pub fn pull(hub: &Hub, store: &Store, name: &ModelName, progress: &dyn Progress, cancel: &Cancel) -> Result<Pulled, HubError> {
    let here = store.entry(name);
    if let Some(entry) = &here
        && store.verify(entry, progress, cancel)?.is_empty()
    {
        return Ok(Pulled { entry: entry.clone(), was_here: true });
    }
    if let Some(by) = hub.config.offline {
        return Err(HubError::Offline { name: name.to_string(), by });
    }
    progress.start(&format!("asking {} for {name}", hub.endpoint), None);
    let listed = listing::of(hub, name, cancel);
    progress.finish();
    let listed = listed?;
    let names: Vec<String> = listed.files.keys().cloned().collect();
    let refuse = |reason: String| HubError::Refused { what: name.to_string(), reason };
    let stage = store.stage(name)?;
    let known = !in_two_layouts(&names) || config_is_known(hub, &stage, name, &listed, progress, cancel)?;
    let wanted = match select(&names, known) {
        Ok(wanted) => wanted,
        Err(reason) => {
            stage.discard();
            return Err(refuse(reason));
        }
    };
    if let Some(entry) = &here {
        reuse(entry, &stage, &wanted);
    }
    let files = match fill(hub, &stage, name, &listed, wanted, progress, cancel) {
        Ok(files) => files,
        // Of no use here, now or later.
        Err(HubError::Store(error)) if matches!(*error, StoreError::Open(_)) => {
            stage.discard();
            return Err(HubError::Store(error));
        }
        Err(error) => return Err(error),
    };
    progress.start("opening", None);
    let checked = stage.check();
    progress.finish();
    let source = format!("{}/{}", hub.endpoint, name.repository());
    match checked {
        Ok(towers) => Ok(Pulled { entry: stage.finish(source, Some(listed.commit), files, towers)?, was_here: false }),
        Err(source_error) => {
            stage.finish(source, Some(listed.commit), files, Vec::new())?;
            Err(HubError::DoesNotOpen { name: name.to_string(), source: Box::new(source_error) })
        }
    }
}

/// Fetches the descriptions, and once they are of an architecture that can be opened, the weights.
fn fill(
    hub: &Hub,
    stage: &Stage,
    name: &ModelName,
    listed: &Listing,
    wanted: Vec<String>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<StoredFile>, HubError> {
    let one = |file: &str| one(hub, stage, name, listed, file, progress, cancel);
    let (weights, descriptions): (Vec<String>, Vec<String>) = wanted.into_iter().partition(|file| is_weights(file));
    let mut stored = Vec::new();
    progress.start(&format!("describing {name}"), Some(size(stage, listed, name, &descriptions)));
    for file in &descriptions {
        stored.push(one(file)?);
    }
    progress.finish();
    // Gigabytes of an architecture that is unknown here would be of no use.
    stage.check_description()?;
    let mut to_come = weights;
    for index in descriptions.iter().filter(|file| is_index(file)) {
        let path = stage.path(index)?;
        let text = fs::read(&path).map_err(|source| HubError::Io { path, source })?;
        to_come.extend(shards(&text).map_err(|reason| HubError::Refused { what: name.to_string(), reason })?);
    }
    progress.start(&format!("fetching {name}"), Some(size(stage, listed, name, &to_come)));
    for file in &to_come {
        stored.push(one(file)?);
    }
    progress.finish();
    Ok(stored)
}

/// Fetches a file of the listing.
fn one(
    hub: &Hub,
    stage: &Stage,
    name: &ModelName,
    listed: &Listing,
    file: &str,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<StoredFile, HubError> {
    let stated = listed.files.get(file).cloned();
    let stated = stated.ok_or_else(|| HubError::Refused {
        what: name.to_string(),
        reason: format!("its index names `{file}`, which the listing does not"),
    })?;
    fetch(hub, stage, Wanted { name, commit: &listed.commit, file, stated }, progress, cancel)
}

/// Whether the `config.json` beside a model in open_clip's layout describes a model that can be opened: it is fetched first. Else it would
/// be taken for the description, so it is not kept.
fn config_is_known(
    hub: &Hub,
    stage: &Stage,
    name: &ModelName,
    listed: &Listing,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<bool, HubError> {
    const FILE: &str = "config.json";
    progress.start(&format!("describing {name}"), None);
    let fetched = one(hub, stage, name, listed, FILE, progress, cancel);
    progress.finish();
    fetched?;
    let path = stage.path(FILE)?;
    let known = fs::read(&path).map(|config| is_known(&config));
    let known = known.and_then(|known| if known { Ok(true) } else { fs::remove_file(&path).map(|()| false) });
    known.map_err(|source| HubError::Io { path, source })
}

fn is_weights(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".bin")
}

/// Bytes that are still to come, as far as the listing states them.
fn size(stage: &Stage, listed: &Listing, name: &ModelName, files: &[String]) -> u64 {
    let left = |file: &String| {
        let stated = listed.files.get(file)?.clone();
        let (bytes, path) = (stated.bytes?, stage.path(file).ok()?);
        if path.is_file() {
            return Some(0);
        }
        let part = Wanted { name, commit: &listed.commit, file, stated }.part(&path);
        Some(bytes.saturating_sub(fs::metadata(part).map_or(0, |data| data.len())))
    };
    files.iter().filter_map(left).sum()
}

/// Takes what an older, damaged model still has; each file is checked when its turn comes.
fn reuse(entry: &Entry, stage: &Stage, wanted: &[String]) {
    let shards = entry.manifest.iter().flat_map(|manifest| &manifest.files).map(|file| file.file.clone());
    for file in wanted.iter().cloned().chain(shards) {
        let old = entry.folder.join(&file);
        if let Ok(new) = stage.path(&file)
            && !new.exists()
            && old.is_file()
        {
            // A copy and not a link: the damaged one is about to be replaced.
            let _ = fs::copy(old, new);
        }
    }
}
