//! chiasm's own store of models: what was pulled or imported, each with the checksums by which it can be verified.
//!
//! # Layout
//! `ROOT/org/name/` or `ROOT/name/` holds the files of a model as they were published, and `chiasm-model.json`, which says where they come
//! from and what each must be. A revision other than the main one stands beside it as `name@revision`. What is on its way stands below
//! `ROOT/.partial/` and becomes a model by one renaming, so there is never half of one under a name. A folder without
//! `chiasm-model.json` is not the store's: it is found by name as any model is, and never changed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Cancelled, Modality, Progress};
use serde::{Deserialize, Serialize};

use crate::dirs::ModelDirs;
use crate::error::{OpenError, StoreError};
use crate::files;
use crate::locate::{self, Place};
use crate::names::ModelName;
use crate::registry;

/// What stands beside the files of a model of the store.
pub const MANIFEST: &str = "chiasm-model.json";
/// The version of its form.
const FORMAT: u32 = 1;
/// Where models stand that are on their way.
const PARTIAL: &str = ".partial";
/// Holds a model's folder for one process while it is filled.
const LOCK: &str = ".lock";
/// Bytes that are hashed or copied at once.
const CHUNK: usize = 1 << 22;

/// `chiasm-model.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The name it was pulled or imported by.
    pub name: String,
    /// The address or the folder it comes from.
    pub source: String,
    /// The commit that was pulled.
    pub commit: Option<String>,
    /// Its files, in the order of names.
    pub files: Vec<StoredFile>,
    /// Its towers, as they opened when it was taken in.
    pub towers: Vec<TowerInfo>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A file of a model and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name below the model's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: String,
}

/// What a tower gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TowerInfo {
    /// The kind of media that it takes.
    pub kind: String,
    /// Numbers per embedding.
    pub dim: usize,
    /// See [`chiasm_core::Encoder::fingerprint`].
    pub fingerprint: String,
}

/// A model of the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: ModelName,
    /// Where it stands.
    pub folder: PathBuf,
    /// What stands beside it; none when that cannot be read.
    pub manifest: Option<Manifest>,
}

/// What is wrong with a file of a stored model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What came and what was expected.
    pub what: String,
}

/// What came of taking a model out of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Bytes that were freed.
    pub bytes: u64,
    /// What stood beside the model's files without being of the store, and stays.
    pub left: Vec<PathBuf>,
}

/// The store below a folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store that a user means, which need not exist yet.
    ///
    /// # Errors
    /// [`StoreError::NoPlace`] when neither the user nor the system names a folder for it.
    pub fn of(models: &ModelDirs) -> Result<Self, StoreError> {
        models.store().map(Self::at).ok_or(StoreError::NoPlace)
    }

    /// The store below this folder.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its models in the order of names.
    pub fn entries(&self) -> Vec<Entry> {
        let mut found = Vec::new();
        for (first, folder) in folders(&self.root) {
            if folder.join(MANIFEST).is_file() {
                found.extend(ModelName::literal(&first).map(|name| read_entry(name, folder)));
                continue;
            }
            let of_org = folders(&folder).into_iter().filter(|(_, folder)| folder.join(MANIFEST).is_file());
            found.extend(
                of_org.filter_map(|(second, f)| Some(read_entry(ModelName::literal(&format!("{first}/{second}"))?, f))),
            );
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The model of this name, if it is in the store.
    pub fn entry(&self, name: &ModelName) -> Option<Entry> {
        let folder = self.root.join(name.folder());
        folder.join(MANIFEST).is_file().then(|| read_entry(name.clone(), folder))
    }

    /// Takes in a copy of a model's folder, after every tower of the copy has opened. Without `name` it is called as its folder is. With
    /// `link` its files are hard links where the file system has them, which costs no space but changes when the original is
    /// changed in place.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left behind then.
    pub fn import(
        &self,
        from: &Path,
        name: Option<&str>,
        link: bool,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Entry, StoreError> {
        let refuse = |reason: String| StoreError::NoModel { what: from.display().to_string(), reason };
        if !from.is_dir() {
            return Err(refuse("give the folder of a model".to_owned()));
        }
        let name = match name {
            Some(name) => ModelName::parse(name)?,
            None => {
                name_of_folder(from).ok_or_else(|| refuse("its folder's name is no name: give one with `--name`".to_owned()))?
            }
        };
        if self.entry(&name).is_some() {
            return Err(StoreError::Exists { name: name.to_string() });
        }
        let stage = self.stage(&name)?;
        let taken = copy_in(&stage, from, link, progress, cancel).and_then(|files| stage.check().map(|towers| (files, towers)));
        match taken {
            Ok((files, towers)) => {
                let from = fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
                stage.finish(from.display().to_string(), None, files, towers)
            }
            Err(error) => {
                stage.discard();
                Err(error)
            }
        }
    }

    /// Hashes a model's files anew and tells which are missing or changed.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`].
    pub fn verify(&self, entry: &Entry, progress: &dyn Progress, cancel: &Cancel) -> Result<Vec<Problem>, StoreError> {
        let Some(manifest) = &entry.manifest else {
            return Ok(vec![Problem { file: MANIFEST.to_owned(), what: "it cannot be read".to_owned() }]);
        };
        progress.start(&format!("verifying {}", entry.name), Some(manifest.bytes()));
        let mut problems = Vec::new();
        for stored in &manifest.files {
            let mut problem = |what: String| problems.push(Problem { file: stored.file.clone(), what });
            if !files::is_inside(&stored.file) {
                problem("its name leads out of the model's folder".to_owned());
                continue;
            }
            match hash(&entry.folder.join(&stored.file), progress, cancel)? {
                Err(e) if e.kind() == io::ErrorKind::NotFound => problem("it is missing".to_owned()),
                Err(e) => problem(format!("it cannot be read: {e}")),
                Ok((bytes, _)) if bytes != stored.bytes => {
                    problem(format!("it has {bytes} bytes, {} were taken in", stored.bytes))
                }
                Ok((_, digest)) if digest != stored.blake3 => problem("its content has changed".to_owned()),
                Ok(_) => {}
            }
        }
        progress.finish();
        Ok(problems)
    }

    /// Takes a model out of the store, and what an interrupted attempt to fetch it left. Files beside it that are not the store's stay.
    ///
    /// # Errors
    /// [`StoreError::NotInStore`] when it is elsewhere or not here at all: nothing is removed but what this store took in.
    pub fn remove(&self, name: &ModelName, models: &ModelDirs) -> Result<Removed, StoreError> {
        let begun = self.discard_begun(name)?;
        let Some(entry) = self.entry(name) else {
            if begun > 0 {
                return Ok(Removed { bytes: begun, left: Vec::new() });
            }
            let elsewhere = locate::by_name(name, models).map(|found| match found.place {
                Place::HubCache => format!("{}, which is Hugging Face's cache", found.path.display()),
                Place::BuiltIn => "the program itself".to_owned(),
                Place::Path | Place::Models => found.path.display().to_string(),
            });
            return Err(StoreError::NotInStore { name: name.to_string(), root: self.root.clone(), elsewhere });
        };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing: "removing", path, source }
        };
        // A link would lead to files that are someone else's.
        let linked = |path: &Path| path.symlink_metadata().is_ok_and(|data| data.is_symlink());
        if linked(&entry.folder) || entry.folder.parent().is_some_and(|org| org != self.root && linked(org)) {
            return Err(StoreError::NotInStore {
                name: name.to_string(),
                root: self.root.clone(),
                elsewhere: Some(format!("{}, which is a link", entry.folder.display())),
            });
        }
        let Some(manifest) = &entry.manifest else {
            return Err(StoreError::Manifest { path: entry.folder.join(MANIFEST) });
        };
        let mut freed = begun;
        // The manifest last: what is interrupted can be begun anew.
        for file in manifest.files.iter().map(|f| f.file.as_str()).filter(|f| files::is_inside(f)).chain([MANIFEST]) {
            let path = entry.folder.join(file);
            let bytes = path.symlink_metadata().map_or(0, |data| data.len());
            match fs::remove_file(&path) {
                Ok(()) => freed += bytes,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io(&path)(e)),
            }
        }
        // Folders that are not empty are not the store's alone, and stay.
        let inner = manifest.files.iter().filter_map(|f| f.file.split_once('/')).map(|(folder, _)| entry.folder.join(folder));
        inner.for_each(|folder| drop(fs::remove_dir(folder)));
        let _ = fs::remove_dir(&entry.folder);
        if let Some(org) = entry.folder.parent().filter(|org| *org != self.root) {
            let _ = fs::remove_dir(org);
        }
        let left = fs::read_dir(&entry.folder).into_iter().flatten().flatten().map(|left| left.path()).collect();
        Ok(Removed { bytes: freed, left })
    }

    /// Removes what an interrupted attempt to fetch a model left, and tells its bytes.
    fn discard_begun(&self, name: &ModelName) -> Result<u64, StoreError> {
        let folder = self.root.join(PARTIAL).join(name.flat());
        if !folder.is_dir() {
            return Ok(0);
        }
        let bytes = names_in(&folder).into_iter().filter_map(|file| fs::symlink_metadata(folder.join(file)).ok());
        let bytes = bytes.filter(|data| data.is_file()).map(|data| data.len()).sum();
        self.stage(name)?.discard();
        Ok(bytes)
    }

    /// Begins to take in a model. What an earlier attempt left is still there.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another process does the same, [`StoreError::Foreign`] when the model's place is taken by a folder
    /// that is not the store's, [`StoreError::Io`].
    pub fn stage(&self, name: &ModelName) -> Result<Stage, StoreError> {
        let place = self.root.join(name.folder());
        if place.symlink_metadata().is_ok() && !place.join(MANIFEST).is_file() {
            return Err(StoreError::Foreign { path: place });
        }
        let folder = self.root.join(PARTIAL).join(name.flat());
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing: "making", path, source }
        };
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        let lock = File::create(folder.join(LOCK)).map_err(io(&folder.join(LOCK)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Busy { name: name.to_string() }),
            // A file system without locks: two at once would be the user's own doing.
            Err(fs::TryLockError::Error(_)) => {}
        }
        Ok(Stage { place, name: name.clone(), folder, lock, root: self.root.clone() })
    }
}

/// A model that is on its way into the store.
pub struct Stage {
    root: PathBuf,
    place: PathBuf,
    name: ModelName,
    folder: PathBuf,
    lock: File,
}

impl Stage {
    /// The folder that is filled.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where one of its files stands; the folder above it is made.
    ///
    /// # Errors
    /// [`StoreError::NoModel`] for a name that leads elsewhere, [`StoreError::Io`].
    pub fn path(&self, file: &str) -> Result<PathBuf, StoreError> {
        if !files::is_inside(file) {
            let reason = format!("it names the file `{}`, which would lead out of the model's folder", file.escape_default());
            return Err(StoreError::NoModel { what: self.name.to_string(), reason });
        }
        let path = self.folder.join(file);
        if let Some((inner, _)) = file.split_once('/') {
            let inner = self.folder.join(inner);
            fs::create_dir_all(&inner).map_err(|source| StoreError::Io { doing: "making", path: inner, source })?;
        }
        Ok(path)
    }

    /// Opens every tower, and refuses towers that do not belong together.
    ///
    /// # Errors
    /// [`StoreError::Open`], [`StoreError::NoModel`].
    pub fn check(&self) -> Result<Vec<TowerInfo>, StoreError> {
        towers_at(&self.folder)
    }

    /// Refuses a model whose description is here already and is of no architecture that can be opened, before the weights are.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn check_description(&self) -> Result<(), StoreError> {
        registry::architecture_at(&self.folder).map_err(StoreError::Open)
    }

    /// Puts the model in its place, in that of an older one of the same name too.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(
        self,
        source: String,
        commit: Option<String>,
        mut files: Vec<StoredFile>,
        towers: Vec<TowerInfo>,
    ) -> Result<Entry, StoreError> {
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let manifest = Manifest { format: FORMAT, name: self.name.to_string(), source, commit, files, towers };
        let path = self.folder.join(MANIFEST);
        let io = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        let text = serde_json::to_string_pretty(&manifest).expect("a record of strings and numbers is always JSON");
        let write = || -> io::Result<()> {
            let mut file = File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(io("writing", &path))?;
        let _ = fs::remove_file(self.folder.join(LOCK));
        drop(self.lock);
        if let Some(org) = self.place.parent() {
            fs::create_dir_all(org).map_err(io("making", org))?;
        }
        let old = self.root.join(PARTIAL).join(format!("{}.old", self.name.flat()));
        let _ = fs::remove_dir_all(&old);
        if self.place.exists() {
            fs::rename(&self.place, &old).map_err(io("replacing", &self.place))?;
        }
        fs::rename(&self.folder, &self.place).map_err(io("putting in its place", &self.place))?;
        let _ = fs::remove_dir_all(&old);
        let _ = fs::remove_dir(self.root.join(PARTIAL));
        Ok(Entry { name: self.name, folder: self.place, manifest: Some(manifest) })
    }

    /// Leaves nothing of it.
    pub fn discard(self) {
        drop(self.lock);
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir(self.root.join(PARTIAL));
    }
}

/// The towers of the model in a folder, each opened. Those of a dual encoder must give vectors of one length.
///
/// # Errors
/// [`StoreError::Open`], [`StoreError::NoModel`].
pub fn towers_at(folder: &Path) -> Result<Vec<TowerInfo>, StoreError> {
    let path = folder.to_string_lossy();
    let none = ModelDirs::default();
    let kinds = registry::towers(&path, &none).map_err(StoreError::Open)?;
    let open = |kind: &Modality| -> Result<TowerInfo, OpenError> {
        let encoder = registry::open(&registry::tower_name(&path, *kind), &none)?;
        Ok(TowerInfo { kind: kind.to_string(), dim: encoder.dim(), fingerprint: encoder.fingerprint().to_owned() })
    };
    let towers: Vec<TowerInfo> = kinds.iter().map(open).collect::<Result<_, OpenError>>().map_err(StoreError::Open)?;
    match towers.iter().find(|tower| tower.dim != towers[0].dim) {
        Some(other) => {
            let reason = format!(
                "its {} tower gives {} numbers, its {} tower {}: they are towers of two models",
                towers[0].kind, towers[0].dim, other.kind, other.dim
            );
            Err(StoreError::NoModel { what: folder.display().to_string(), reason })
        }
        None => Ok(towers),
    }
}

/// Length and BLAKE3 of a file, in hexadecimal digits; the inner error is the file's.
///
/// # Errors
/// [`StoreError::Cancelled`].
fn hash(path: &Path, progress: &dyn Progress, cancel: &Cancel) -> Result<io::Result<(u64, String)>, Cancelled> {
    let mut hasher = blake3::Hasher::new();
    let each = |chunk: &[u8]| {
        hasher.update_rayon(chunk);
        Ok(())
    };
    Ok(chunks(path, each, progress, cancel)?.map(|bytes| (bytes, hasher.finalize().to_hex().to_string())))
}

/// Reads a file chunk by chunk and tells its length.
fn chunks(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<io::Result<u64>, Cancelled> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) => return Ok(Err(e)),
    };
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        cancel.check()?;
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(Ok(total)),
            Ok(n) => n,
            Err(e) => return Ok(Err(e)),
        };
        if let Err(e) = each(&buffer[..n]) {
            return Ok(Err(e));
        }
        total += n as u64;
        progress.advance(n as u64);
    }
}

/// Copies what is read of a model into the stage.
fn copy_in(
    stage: &Stage,
    from: &Path,
    link: bool,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<StoredFile>, StoreError> {
    // What a path to a file elsewhere may not do is done before anything is copied: a folder that is no model is refused at once.
    registry::architecture_at(from).map_err(StoreError::Open)?;
    let refuse = |reason: String| StoreError::NoModel { what: from.display().to_string(), reason };
    let read =
        |path: &Path| fs::read(path).map_err(|source| StoreError::Io { doing: "reading", path: path.to_owned(), source });
    let names = names_in(from);
    let known = !files::in_two_layouts(&names) || files::is_known(&read(&from.join("config.json"))?);
    let mut taken = files::select(&names, known).map_err(refuse)?;
    for index in taken.iter().filter(|name| files::is_index(name)).cloned().collect::<Vec<_>>() {
        taken.extend(files::shards(&read(&from.join(&index))?).map_err(|reason| refuse(format!("{index}: {reason}")))?);
    }
    let total = taken.iter().filter_map(|file| fs::metadata(from.join(file)).ok()).map(|data| data.len()).sum();
    progress.start("copying", Some(total));
    let mut stored = Vec::new();
    for file in taken {
        let (source, target) = (from.join(&file), stage.path(&file)?);
        let failed = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        let _ = fs::remove_file(&target);
        // A link to a link would lead out of the store, so what a link leads to is linked.
        let original = fs::canonicalize(&source).map_err(failed("reading", &source))?;
        if link && fs::hard_link(&original, &target).is_ok() {
            let (bytes, blake3) = hash(&target, progress, cancel)?.map_err(failed("reading", &target))?;
            stored.push(StoredFile { file, bytes, blake3 });
            continue;
        }
        let mut out = File::create(&target).map_err(failed("writing", &target))?;
        let mut hasher = blake3::Hasher::new();
        let each = |chunk: &[u8]| {
            hasher.update_rayon(chunk);
            out.write_all(chunk)
        };
        let bytes = chunks(&original, each, progress, cancel)?.map_err(failed("copying", &original))?;
        out.sync_all().map_err(failed("writing", &target))?;
        stored.push(StoredFile { file, bytes, blake3: hasher.finalize().to_hex().to_string() });
    }
    progress.finish();
    Ok(stored)
}

/// The names of the files of a folder, and of those one folder below.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let inner = fs::read_dir(entry.path()).into_iter().flatten().flatten();
        names.extend(inner.filter_map(|below| Some(format!("{name}/{}", below.file_name().into_string().ok()?))));
        names.push(name);
    }
    names
}

/// The folders in a folder, by name; those that begin with a dot are left out.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named.filter(|(name, path)| !name.starts_with('.') && path.is_dir()).collect()
}

fn read_entry(name: ModelName, folder: PathBuf) -> Entry {
    let read = || -> Option<Manifest> {
        let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
        (manifest.format == FORMAT).then_some(manifest)
    };
    let manifest = read();
    Entry { name, folder, manifest }
}

/// What a folder is called: its own name, or that of the repository whose snapshot it is in Hugging Face's cache.
fn name_of_folder(folder: &Path) -> Option<ModelName> {
    let folder = fs::canonicalize(folder).ok()?;
    let mut above = folder.ancestors().filter_map(|path| path.file_name()?.to_str());
    let own = above.next()?;
    match (above.next(), above.next().and_then(|name| name.strip_prefix("models--"))) {
        (Some("snapshots"), Some(repository)) => ModelName::parse(&repository.replace("--", "/")).ok(),
        _ => ModelName::parse(own).ok(),
    }
}
