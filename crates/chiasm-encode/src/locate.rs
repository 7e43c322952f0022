//! Where a model stands that was named: at a path, in a folder of models, or in Hugging Face's cache.

use std::path::{Path, PathBuf};

use crate::built_in::NANO;
use crate::dirs::ModelDirs;
use crate::error::OpenError;
use crate::names::ModelName;
use crate::published::{self, Published};
use crate::registry;

/// Where a model was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its file or folder.
    pub path: PathBuf,
    /// What kind of place that is.
    pub place: Place,
}

/// The kinds of places in which models stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The user gave the path.
    Path,
    /// One of the folders of models.
    Models,
    /// The cache that Hugging Face's own tools share.
    HubCache,
    /// Within the program itself.
    BuiltIn,
}

impl Place {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Models => "models",
            Place::HubCache => "Hugging Face's cache",
            Place::BuiltIn => "built in",
        }
    }
}

/// Where the model of this name stands, if it is here. `name` is as [`crate::open`] takes it.
pub fn locate(name: &str, models: &ModelDirs) -> Option<Location> {
    let name = registry::bare(name);
    if Path::new(name).exists() {
        return Some(Location { path: PathBuf::from(name), place: Place::Path });
    }
    let found = ModelName::parse(name).ok().and_then(|name| by_name(&name, models));
    let built_in = || (name == NANO).then(|| Location { path: PathBuf::from(NANO), place: Place::BuiltIn });
    found.or_else(built_in)
}

/// What the list of published models says of a name that [`crate::open`] takes; nothing where it is a path.
pub fn published_as(name: &str) -> Option<&'static Published> {
    let name = registry::bare(name);
    if Path::new(name).exists() { None } else { ModelName::parse(name).ok()?.published() }
}

/// The same as [`locate`], or what can be done about it.
pub(crate) fn demand(name: &str, models: &ModelDirs, catalogue: Vec<&'static str>) -> Result<PathBuf, OpenError> {
    if let Some(found) = locate(name, models) {
        return Ok(found.path);
    }
    let no_model = || OpenError::NoModel { path: PathBuf::from(name), reason: "there is no such file or folder".to_owned() };
    // What looks like a path is answered as one, so that a typing mistake in it is seen.
    let looks_like_path = name.contains('\\') || name.ends_with(".json") || name.starts_with(['.', '/', '~']);
    let Ok(parsed) = ModelName::parse(name) else { return Err(no_model()) };
    match parsed.published() {
        Some(known) => Err(OpenError::NotHere { name: parsed.to_string(), size: known.megabytes.map(megabytes) }),
        None if looks_like_path => Err(no_model()),
        None if name.contains('/') => Err(OpenError::NotHere { name: parsed.to_string(), size: None }),
        None => Err(OpenError::Unknown { name: name.to_owned(), known: catalogue }),
    }
}

/// Looks in the folders of models and then in the cache.
pub(crate) fn by_name(name: &ModelName, models: &ModelDirs) -> Option<Location> {
    // A folder may be called by an alias, as people name them by hand.
    let aliases = match name.published() {
        Some(known) if name.revision() == ModelName::MAIN => known.aliases,
        _ => &[],
    };
    let folders = || std::iter::once(name.folder()).chain(aliases.iter().map(PathBuf::from));
    let of_models = models.dirs().iter().flat_map(|dir| folders().map(move |folder| dir.join(folder)));
    let found = of_models.into_iter().find(|path| path.is_dir());
    match found {
        Some(path) => Some(Location { path, place: Place::Models }),
        None => in_hub_cache(name, models.hub_cache()?).map(|path| Location { path, place: Place::HubCache }),
    }
}

/// The snapshot of a model in Hugging Face's cache: the commit that `refs/REVISION` names, or the revision itself.
fn in_hub_cache(name: &ModelName, cache: &Path) -> Option<PathBuf> {
    let repository = cache.join(name.in_hub_cache());
    let named = std::fs::read_to_string(repository.join("refs").join(name.revision())).ok();
    let commit = named.as_deref().map_or(name.revision(), str::trim);
    // The file comes from elsewhere: only what is a commit becomes part of a path.
    let sound = commit.len() <= 64 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    let snapshot = repository.join("snapshots").join(commit);
    (sound && !commit.is_empty() && snapshot.is_dir()).then_some(snapshot)
}

/// The models of Hugging Face's cache, by name.
pub fn hub_cache(models: &ModelDirs) -> Vec<(ModelName, PathBuf)> {
    let entries = models.hub_cache().and_then(|cache| std::fs::read_dir(cache).ok()).into_iter().flatten().flatten();
    let mut found: Vec<(ModelName, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?.strip_prefix("models--")?.replace("--", "/");
            let name = ModelName::parse(&name).ok()?;
            let path = in_hub_cache(&name, models.hub_cache()?)?;
            Some((name, path))
        })
        .collect();
    found.sort();
    found
}

/// A size for people.
fn megabytes(n: u32) -> String {
    if n < 1000 { format!("about {n} MB") } else { format!("about {:.1} GB", f64::from(n) / 1000.0) }
}

/// The name by which the list of published models knows this one, if it does.
pub(crate) fn canonical(name: &str) -> Option<ModelName> {
    published::find(name).and_then(|known| ModelName::parse(known.name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: PathBuf) -> PathBuf {
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_name_is_found_where_it_stands() {
        let (first, second, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let models = ModelDirs::new(vec![first.path().into(), second.path().into()]).with_hub_cache(cache.path().into());
        let at = |name: &str| locate(name, &models).map(|found| (found.path, found.place));
        assert_eq!(at("ViT-B-32/openai"), None);

        let repository = cache.path().join("models--openai--clip-vit-base-patch32");
        let (old, new) = (folder(repository.join("snapshots/0123abcd")), folder(repository.join("snapshots/4567ef")));
        assert_eq!(at("openai/clip-vit-base-patch32"), None);
        folder(repository.join("refs"));
        std::fs::write(repository.join("refs/main"), "4567ef\n").unwrap();
        for name in
            ["openai/clip-vit-base-patch32", "ViT-B-32/openai", "hf-hub:openai/clip-vit-base-patch32", "clip-vit-base-patch32"]
        {
            assert_eq!(at(name), Some((new.clone(), Place::HubCache)), "{name}");
        }
        assert_eq!(at("ViT-B-32/openai@0123abcd"), Some((old, Place::HubCache)));
        assert_eq!(at("ViT-B-32/openai@89"), None);
        assert_eq!(
            hub_cache(&models).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            ["openai/clip-vit-base-patch32"]
        );

        // A cache that was tampered with leads nowhere.
        folder(cache.path().join("elsewhere"));
        for bad in ["../../../elsewhere", "/etc", "..", ""] {
            std::fs::write(repository.join("refs/main"), bad).unwrap();
            assert_eq!(at("ViT-B-32/openai"), None, "{bad}");
        }
        let by_hand = folder(second.path().join("clip-vit-base-patch32"));
        assert_eq!(at("ViT-B-32/openai"), Some((by_hand, Place::Models)));
        let own = folder(second.path().join("openai/clip-vit-base-patch32"));
        assert_eq!(at("ViT-B-32/openai"), Some((own, Place::Models)));
        let first_of_all = folder(first.path().join("openai/clip-vit-base-patch32"));
        assert_eq!(at("ViT-B-32/openai"), Some((first_of_all, Place::Models)));
        assert_eq!(at(&first.path().display().to_string()).unwrap().1, Place::Path);
    }

    #[test]
    fn what_is_not_here_is_told_with_the_way_to_it() {
        let models = ModelDirs::new(Vec::new());
        let said = |name: &str| demand(name, &models, vec!["colour-layout"]).unwrap_err().to_string();
        assert!(said("ViT-B-32/openai").contains("`openai/clip-vit-base-patch32` is not here"));
        assert!(said("ViT-B-32/openai").contains("chiasm model pull openai/clip-vit-base-patch32` fetches it (about 605 MB)"));
        assert!(said("some/model").contains("chiasm model pull some/model"));
        assert!(said("some-model").contains("no encoder is called `some-model`: the names are colour-layout"));
        for path in ["./some", "../some/model", "some/long/path", "some.json", "/some/model", "some\\model"] {
            assert!(said(path).contains("there is no such file or folder"), "{path}");
        }
    }
}
