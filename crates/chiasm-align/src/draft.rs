//! What a fit puts down on its way, so that one that was stopped goes on from there, to the same space bit for bit.
//!
//! A part of a draft is named after what decides it: the rows, the method, the seed. So a draft of other rows or of another method is never taken for one's
//! own, and several fits may share a folder. A part that is damaged is as good as none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chiasm_core::{Cancel, Cancelled, Labels};
use chiasm_nn::grad::Array;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::fit::{FitError, Pairs, Run};
use crate::linalg::Mat;

/// A part that was worked on for less is not worth keeping once it is finished.
const BRIEF: Duration = Duration::from_secs(1);

/// Where parts are kept.
pub trait Draft: Sync {
    /// What was put down under a name, if anything was.
    fn get(&self, part: &str) -> Option<Vec<u8>>;
    /// Puts it down in place of what was there, whole or not at all.
    ///
    /// # Errors
    /// Why it could not, in words that name the place.
    fn put(&self, part: &str, bytes: &[u8]) -> Result<(), String>;
    /// What was put down under a name is not needed any more.
    fn forget(&self, part: &str);
    /// How long a part is worked on before it is put down anew, if that took so long the last time. What is done since is lost when the process is killed.
    fn every(&self, took: Duration) -> Duration {
        Duration::from_secs(2).max(20 * took)
    }
}

/// A draft in a folder of its own, a file for each part with its BLAKE3 sum before it. The folder is made when there is something to keep.
#[derive(Debug)]
pub struct FolderDraft {
    folder: PathBuf,
}

impl FolderDraft {
    /// The draft in a folder, which need not be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Forgets all of it: for when the work is done. What others may have put into the folder stays.
    ///
    /// # Errors
    /// Why a part, or the folder that is left empty, could not be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut is_empty = true;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == END || end == PARTIAL) {
                std::fs::remove_file(path)?;
            } else {
                is_empty = false;
            }
        }
        if is_empty { std::fs::remove_dir(&self.folder) } else { Ok(()) }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.folder.join(format!("{part}.{END}"))
    }
}

const END: &str = "draft";
const PARTIAL: &str = "partial";

impl Draft for FolderDraft {
    fn forget(&self, part: &str) {
        // One that stays takes room until the folder goes, no more.
        let _ = std::fs::remove_file(self.path(part));
    }

    fn get(&self, part: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.path(part)).ok()?;
        let (sum, bytes) = bytes.split_first_chunk::<{ blake3::OUT_LEN }>()?;
        (blake3::hash(bytes).as_bytes() == sum).then(|| bytes.to_vec())
    }

    fn put(&self, part: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.path(part);
        let partial = path.with_extension(PARTIAL);
        let write = || {
            std::fs::create_dir_all(&self.folder)?;
            let sum = blake3::hash(bytes);
            std::fs::write(&partial, [sum.as_bytes(), bytes].concat())?;
            // A process that is killed leaves the old part or the new one. A machine that goes down may leave a damaged one, which is as good as none.
            std::fs::rename(&partial, &path)
        };
        write().map_err(|e| {
            // The disk may be full: no half file is left behind. That this too can fail changes nothing.
            let _ = std::fs::remove_file(&partial);
            format!("{}: {e}", path.display())
        })
    }
}

/// The draft of a step on the way, whose parts are forgotten once the step is done.
pub(crate) struct Passing<'a> {
    draft: &'a dyn Draft,
    parts: Mutex<BTreeSet<String>>,
}

impl<'a> Passing<'a> {
    pub(crate) fn new(draft: &'a dyn Draft) -> Self {
        Self { draft, parts: Mutex::default() }
    }

    fn note(&self, part: &str) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned());
    }

    /// The step is done.
    pub(crate) fn forget_all(self) {
        let parts = self.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.iter().for_each(|part| self.draft.forget(part));
    }
}

impl Draft for Passing<'_> {
    fn get(&self, part: &str) -> Option<Vec<u8>> {
        self.note(part);
        self.draft.get(part)
    }

    fn put(&self, part: &str, bytes: &[u8]) -> Result<(), String> {
        self.note(part);
        self.draft.put(part, bytes)
    }

    fn forget(&self, part: &str) {
        self.draft.forget(part);
    }

    fn every(&self, took: Duration) -> Duration {
        self.draft.every(took)
    }
}

/// A name that says of what a part is.
pub(crate) struct Key(blake3::Hasher);

impl Key {
    pub(crate) fn words(&mut self, words: &str) {
        self.0.update(&(words.len() as u64).to_le_bytes()).update(words.as_bytes());
    }

    pub(crate) fn mat(&mut self, x: &Mat) {
        self.words(&format!("{:?}", x.shape()));
        for j in 0..x.ncols() {
            let bytes: Vec<u8> = x.col_as_slice(j).iter().flat_map(|v| v.to_le_bytes()).collect();
            self.0.update(&bytes);
        }
    }

    pub(crate) fn array(&mut self, x: &Array<f32>) {
        self.words(&format!("{:?}", x.shape()));
        let bytes: Vec<u8> = x.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.update(&bytes);
    }

    pub(crate) fn numbers(&mut self, numbers: &[u32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.words(&numbers.len().to_string());
        self.0.update(&bytes);
    }

    pub(crate) fn labels(&mut self, labels: Option<&Labels>) {
        self.words(if labels.is_some() { "classes" } else { "no classes" });
        for row in labels.iter().flat_map(|labels| (0..labels.n()).map(|row| labels.of(row))) {
            self.numbers(row);
        }
    }

    pub(crate) fn pairs(&mut self, pairs: &Pairs<'_>) {
        for view in &pairs.views {
            self.words(&format!("{} x {}", view.n(), view.dim()));
            for row in 0..view.n() {
                let bytes: Vec<u8> = view.row(row).iter().flat_map(|v| v.to_le_bytes()).collect();
                self.0.update(&bytes);
            }
        }
        self.numbers(&(0..pairs.n()).map(|row| pairs.group(row)).collect::<Vec<_>>());
        self.labels(pairs.labels);
    }
}

/// A part that is put down again and again while it is worked on, if the run has a draft.
pub struct Part<'a> {
    draft: Option<&'a dyn Draft>,
    cancel: &'a Cancel,
    name: String,
    begun: Instant,
    written: Instant,
    /// How long after the last time it is put down anew.
    every: Duration,
}

impl<'a> Part<'a> {
    /// The part of this kind of the run's draft; `key` tells what decides it, and is asked only where there is a draft.
    pub(crate) fn new(run: &Run<'a>, kind: &str, key: impl FnOnce(&mut Key)) -> Self {
        let mut name = String::new();
        if run.draft.is_some() {
            let mut hash = Key(blake3::Hasher::new());
            hash.words(env!("CARGO_PKG_VERSION"));
            hash.words(&run.seed.to_string());
            key(&mut hash);
            name = format!("{kind}-{}", &hash.0.finalize().to_hex()[..16]);
        }
        Self::named(run, name)
    }

    /// The part of this name; letters, digits and `-`, of which some say what decides it.
    pub fn named(run: &Run<'a>, name: String) -> Self {
        let now = Instant::now();
        Self {
            draft: run.draft,
            cancel: run.cancel,
            name,
            begun: now,
            written: now,
            every: run.draft.map_or(Duration::MAX, |draft| draft.every(Duration::ZERO)),
        }
    }

    /// What an earlier run put down.
    pub fn read(&self) -> Option<Vec<u8>> {
        self.draft?.get(&self.name)
    }

    /// A point at which work can be stopped. Puts down what there is if that was long ago, or if the work ends here.
    ///
    /// # Errors
    /// [`FitError::Cancelled`], [`FitError::Draft`].
    pub fn pause(&mut self, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), FitError> {
        let stopped: Result<(), Cancelled> = self.cancel.check();
        if stopped.is_err() || self.written.elapsed() > self.every {
            self.put(bytes)?;
        }
        Ok(stopped?)
    }

    /// Puts down what has come out, unless it was had in a moment.
    ///
    /// # Errors
    /// [`FitError::Draft`].
    pub fn finish(&mut self, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), FitError> {
        if self.begun.elapsed() > BRIEF { self.put(bytes) } else { Ok(()) }
    }

    fn put(&mut self, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), FitError> {
        let Some(draft) = self.draft else { return Ok(()) };
        let began = Instant::now();
        draft.put(&self.name, &bytes()).map_err(|reason| FitError::Draft { reason })?;
        (self.every, self.written) = (draft.every(began.elapsed()), Instant::now());
        Ok(())
    }
}

/// Matrices and words by name, as a part holds them.
#[derive(Default)]
pub(crate) struct Saved {
    mats: BTreeMap<String, Mat>,
    words: HashMap<String, String>,
}

impl Saved {
    fn set_mat(&mut self, name: impl Into<String>, mat: &Mat) {
        self.mats.insert(name.into(), mat.clone());
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, word: impl ToString) {
        self.words.insert(name.into(), word.to_string());
    }

    /// A number, to the bit.
    pub(crate) fn set_number(&mut self, name: impl Into<String>, number: f64) {
        self.set(name, number.to_bits());
    }

    /// Several of one name.
    pub(crate) fn set_mats(&mut self, name: &str, mats: &[Mat]) {
        mats.iter().enumerate().for_each(|(at, mat)| self.set_mat(format!("{name}.{at}"), mat));
    }

    /// All of one name, in order.
    pub(crate) fn mats(&self, name: &str) -> Vec<Mat> {
        (0..).map_while(|at| self.mats.get(&format!("{name}.{at}")).cloned()).collect()
    }

    /// All of one name, if they are as many as these and of their shapes.
    pub(crate) fn mats_like(&self, name: &str, like: &[Mat]) -> Option<Vec<Mat>> {
        let mats = self.mats(name);
        let are_alike = mats.len() == like.len() && mats.iter().zip(like).all(|(mat, like)| mat.shape() == like.shape());
        are_alike.then_some(mats)
    }

    /// The same of single precision.
    pub(crate) fn set_arrays<'x>(&mut self, name: &str, arrays: impl IntoIterator<Item = &'x Array<f32>>) {
        let mat = |a: &Array<f32>| Mat::from_fn(a.n_rows(), a.n_cols(), |i, j| f64::from(a.at(i, j)));
        self.set_mats(name, &arrays.into_iter().map(mat).collect::<Vec<_>>());
    }

    /// The same of single precision.
    pub(crate) fn arrays_like(&self, name: &str, like: &[Array<f32>]) -> Option<Vec<Array<f32>>> {
        let mats = self.mats(name);
        let are_alike = mats.len() == like.len() && mats.iter().zip(like).all(|(m, a)| [m.nrows(), m.ncols()] == a.shape());
        let array = |mat: &Mat| Array::from_fn(mat.nrows(), mat.ncols(), |i, j| mat[(i, j)] as f32);
        are_alike.then(|| mats.iter().map(array).collect())
    }

    pub(crate) fn get<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.words.get(name)?.parse().ok()
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.get(name).map(f64::from_bits)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let data = |mat: &Mat| -> Vec<u8> {
            (0..mat.ncols()).flat_map(|j| mat.col_as_slice(j)).flat_map(|v| v.to_le_bytes()).collect()
        };
        let all: Vec<(&str, [usize; 2], Vec<u8>)> =
            self.mats.iter().map(|(name, mat)| (name.as_str(), [mat.ncols(), mat.nrows()], data(mat))).collect();
        let views = all.iter().map(|(name, shape, bytes)| {
            (*name, TensorView::new(Dtype::F64, shape.to_vec(), bytes).expect("as many bytes as numbers"))
        });
        safetensors::serialize(views, Some(self.words.clone())).expect("names and numbers")
    }

    /// What [`Saved::to_bytes`] gave; none of bytes that are something else, or that hold what is no number.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let mut mats = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).ok()?.tensors() {
            let [m, n] = *view.shape() else { return None };
            if view.dtype() != Dtype::F64 {
                return None;
            }
            let eight = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("eight of them"));
            let data: Vec<f64> = view.data().chunks_exact(8).map(eight).collect();
            if !data.iter().all(|v| v.is_finite()) {
                return None;
            }
            mats.insert(name, Mat::from_fn(n, m, |i, j| data[j * n + i]));
        }
        Some(Self { mats, words: metadata.metadata().clone()? })
    }
}

/// Rows of which some may be missing, as a matrix `[n, 1 + k]` whose first column says which are there.
pub(crate) fn rows_or_none(rows: &[Option<Vec<f64>>]) -> Mat {
    let k = rows.iter().flatten().map(Vec::len).max().unwrap_or(0);
    Mat::from_fn(rows.len(), 1 + k, |i, j| match (&rows[i], j) {
        (None, _) => 0.0,
        (Some(_), 0) => 1.0,
        (Some(row), j) => row[j - 1],
    })
}

/// What [`rows_or_none`] was given.
pub(crate) fn or_none(rows: &Mat) -> Vec<Option<Vec<f64>>> {
    let row = |i: usize| (rows[(i, 0)] > 0.0).then(|| (1..rows.ncols()).map(|j| rows[(i, j)]).collect());
    (0..rows.nrows()).map(row).collect()
}
