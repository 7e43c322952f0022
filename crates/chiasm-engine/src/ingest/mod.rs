//! Folders into the library.
//!
//! 1. *Look*: the walk finds files by name, size and time. A file whose path, size and time are known costs nothing more.
//! 2. *Files*: the others are read and hashed on several threads (`pipeline.rs`). A known hash costs one row: the file was moved
//!    or copied. A new one is decoded, resized, cut, embedded in batches by modality and stored, one transaction per batch. All of
//!    this goes on at once: while batches are embedded (`in_order.rs`), later files are decoded and earlier batches are stored.
//! 3. *Captions*: texts beside media are embedded as text segments of the media's items.
//! 4. *Gone*: paths under the roots that were not found, and items none of whose files is left, leave in one transaction.
//! 5. *Lanes*: a lane that was added later gets the vectors it lacks (`fill.rs`). New files get those of all lanes at once, so that each is
//!    read and decoded once.
//!
//! A file is reported to `progress`, and counted, only after its transaction is on the disk. Refused files are kept with
//! their size and time and are tried again when those change, when another version of the program runs, or when the cause may
//! have passed (permissions, a file being written).

mod captions;
mod embed;
mod known;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chiasm_core::{Cancel, Media, Modality, Progress, Span};
use chiasm_media::{Cut, Decoded, Limits, Metadata};
use rayon::ThreadPool;
use rusqlite::Connection;
use serde::Serialize;

pub(crate) use self::embed::{Embedded, embed};
use self::embed::{InLanes, embed_in_lanes, reduced_for};
use self::known::Known;
use self::rows::{add_item, forget_refusal, store};
pub(crate) use self::rows::{add_segment, insert_path};
use crate::in_order::{self, InOrder};
use crate::lane::Lane;
use crate::library::remove_items_without_files;
use crate::lock::WriteLock;
use crate::pipeline::{self, Content, Event, Flow, Refused};
use crate::store::{path_bytes, path_of};
use crate::walk::{self, File, Stat, Walked};
use crate::{EngineError, Library, Result};

/// Parts that are embedded in one call of an encoder.
pub(crate) const ENCODE_PARTS: usize = 32;
/// Files without anything to embed that make a transaction.
const STORE_FILES: usize = 512;

/// How folders are taken in.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// How much one file may ask for.
    pub limits: Limits,
    /// How long media are cut.
    pub cut: Cut,
    /// Whether `photo.txt` and `photo.jpg.txt` beside `photo.jpg` are its caption (default) or texts of their own.
    pub captions: bool,
    /// Whether to wait for another writer to end instead of failing with [`EngineError::Locked`].
    pub wait: bool,
    /// Whether to read every file anew even when its size and time say that it has not changed.
    pub reread: bool,
    /// Bytes of decoded media that may wait for the encoder at any moment; a larger file waits beside at most half of that. Default 256 MiB.
    pub max_waiting_bytes: usize,
    /// The recall that searches are tuned for, from now on; see [`crate::CellsInfo`]. `None` leaves it as it is: a library of many vectors
    /// has what it was tuned for last, or [`crate::DEFAULT_RECALL`], one of few is exact.
    pub recall: Option<f64>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        IndexOptions {
            limits: Limits::default(),
            cut: Cut::default(),
            captions: true,
            wait: false,
            reread: false,
            max_waiting_bytes: 256 << 20,
            recall: None,
        }
    }
}

/// A file that could not be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file or folder.
    #[serde(serialize_with = "crate::serial::path")]
    pub path: PathBuf,
    /// Why, and what to do.
    pub reason: String,
}

/// Files that were left out on purpose, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Why: `hidden`, `not media: .xyz`, `no audio view in this space`, ...
    pub reason: String,
    /// How many.
    pub n: usize,
}

/// What a lane that was added later still lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// The lane.
    pub lane: String,
    /// Parts without a vector.
    pub n_segments: usize,
}

/// What an indexing did. Every file seen is counted in exactly one of `n_new`, `n_updated`, `n_unchanged`, `n_moved`,
/// `n_copies`, `n_captions`, `refused`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IndexReport {
    /// Media files and captions found.
    pub n_seen: usize,
    /// Files with contents that the library did not have.
    pub n_new: usize,
    /// Files whose content changed, taken in anew.
    pub n_updated: usize,
    /// Files that are as they were.
    pub n_unchanged: usize,
    /// Files that lie elsewhere than before; no embedding was made.
    pub n_moved: usize,
    /// Further copies of contents that the library has; no embedding was made.
    pub n_copies: usize,
    /// Captions beside media files, new, changed or as they were.
    pub n_captions: usize,
    /// Items that left the library, since none of their files is there any more.
    pub n_removed: usize,
    /// Vectors that were made, of all lanes.
    pub n_segments: usize,
    /// Items that a lane still lacks since their files could not be read; those of other lanes are there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<Lacking>,
    /// Files and folders that could not be read, each with its reason, in byte order of their paths; also those known from
    /// before that have not changed.
    pub refused: Vec<Refusal>,
    /// Files that were left out on purpose.
    pub skipped: Vec<Skipped>,
    /// What a user should know of files that were taken in: path and note, in byte order of the paths.
    pub notes: Vec<Refusal>,
    /// Whether the run was stopped on request; what it had finished is stored.
    pub cancelled: bool,
    /// Seconds from start to end.
    pub wall_s: f64,
}

impl Library {
    /// Brings the library up to date with files and folders: new and changed files are embedded and stored, moved ones keep
    /// their item, contents whose files are gone from under `roots` leave. One transaction per batch: whatever ends the run
    /// early, whole batches are there and the next run does the rest. It decodes and encodes on threads of its own, which on Linux have the
    /// priority of the calling one.
    ///
    /// `progress` hears of two stages, `look` (no total known) and `index` (total: files and captions), and of `lanes` when a lane
    /// lacks vectors (total: parts), and of `index: ...` while the cells of a large library are made. Stopped by `cancel` between two batches: the report says so and is no error.
    ///
    /// # Errors
    /// [`EngineError::Locked`], [`EngineError::LanesChanged`], [`EngineError::Io`] for a root that is not there,
    /// [`EngineError::DiskFull`], [`EngineError::Model`], [`EngineError::NoEncoder`]. Files at fault are no error: they are in [`IndexReport::refused`].
    pub fn index(
        &self,
        roots: &[PathBuf],
        options: &IndexOptions,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<IndexReport> {
        let started = Instant::now();
        let waiting = |holder: Option<u32>| {
            let holder = holder.map_or_else(String::new, |pid| format!(" (process {pid})"));
            progress.note(&format!("another writer has the library{holder}: waiting for it to end"));
        };
        let _lock = match options.wait {
            true => WriteLock::wait(&self.dir, cancel, waiting)?,
            false => WriteLock::take(&self.dir)?,
        };
        self.check_lanes()?;
        let roots = walk::roots(roots)?;
        let mut report = IndexReport::default();
        progress.start("look", None);
        let views: Vec<Modality> = Modality::ALL.into_iter().filter(|m| self.lanes.iter().any(|lane| lane.knows(*m))).collect();
        let walked = walk::walk(&roots, &views, options.captions, progress, cancel);
        progress.finish();
        let walked = match walked {
            Err(EngineError::Cancelled(_)) => {
                report.cancelled = true;
                report.wall_s = started.elapsed().as_secs_f64();
                return Ok(report);
            }
            other => other?,
        };
        report.n_seen = walked.files.len() + walked.captions.len();
        report.skipped = walked.skipped.iter().map(|(reason, n)| Skipped { reason: reason.clone(), n: *n }).collect();

        let mut run = Run {
            lanes: &self.lanes,
            encoders: encoders(&self.dir)?,
            options,
            progress,
            cancel,
            known: Known::read(self.store.writer()?, &self.store.err("cannot read the catalogue"), &roots, &walked)?,
            report,
        };
        // A library from before there was an index of words gets it now, whether anything else changes or not.
        if !crate::words::exist(run.known.writer.connection()).map_err(self.store.err("cannot look for the index of words"))? {
            run.known.writer.batch(|_| Ok(()))?;
        }
        let done = run.all(&roots, &walked);
        progress.finish();
        let Run { mut report, .. } = run;
        match done {
            Err(EngineError::Cancelled(_)) => report.cancelled = true,
            other => other?,
        }
        // Left to the next question when stopped: who stops wants to stop now.
        if !report.cancelled {
            self.refresh()?;
            match self.refresh_cells(options.recall, progress, cancel) {
                Err(EngineError::Cancelled(_)) => {
                    progress.finish();
                    report.cancelled = true;
                }
                other => other?,
            }
        }
        report.refused.sort_by_key(|r| path_bytes(&r.path));
        report.notes.sort_by_key(|r| path_bytes(&r.path));
        report.wall_s = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// Why a file that was taken in is counted as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    New,
    Updated,
    Unchanged,
    Moved,
    Copy,
}

/// A path that now leads to a content.
struct Lies {
    path: Vec<u8>,
    stat: Stat,
    settled: bool,
}

/// A new content on its way to the encoder and to the disk.
struct Pending {
    hash: [u8; 32],
    parts: Arc<Parts>,
    metadata: Metadata,
    size: u64,
    lies: Vec<(Lies, Fate)>,
    n_bytes: usize,
}

/// What of a content is embedded.
struct Parts {
    /// What the lanes look at, one for each that knows its kind or one for all.
    media: Vec<Media>,
    spans: Vec<Span>,
}

impl Parts {
    fn modality(&self) -> Modality {
        self.media[0].modality()
    }

    /// What a lane embeds, by its place among those that know the kind.
    fn of(&self, place: usize) -> (&Media, &[Span]) {
        (self.media.get(place).unwrap_or(&self.media[0]), &self.spans)
    }
}

/// Batches whose vectors are made on other threads.
type Encoding<'a> = InOrder<'a, Vec<Arc<Parts>>, Result<Vec<Result<InLanes, String>>>>;

/// What waits for the next transaction.
#[derive(Default)]
struct Waiting {
    lies: Vec<(Lies, i64, Fate)>,
    refused: Vec<(PathBuf, Stat, Refused)>,
}

/// New contents between the decoder and the disk.
#[derive(Default)]
struct OnTheirWay {
    /// Those that gather, by kind.
    batches: BTreeMap<Modality, Vec<Pending>>,
    /// Those whose vectors are being made, oldest first.
    encoded: VecDeque<Vec<Pending>>,
    /// Those that no encoder could make anything of, and why.
    failed: HashMap<[u8; 32], String>,
    /// What needs no encoder.
    waiting: Waiting,
}

impl OnTheirWay {
    fn find(&mut self, hash: &[u8; 32]) -> Option<&mut Pending> {
        self.encoded.iter_mut().flatten().chain(self.batches.values_mut().flatten()).find(|p| p.hash == *hash)
    }

    /// Bytes of media that gather.
    fn n_bytes(&self) -> usize {
        self.batches.values().flatten().map(|p| p.n_bytes).sum()
    }

    /// Takes the batch out that holds most.
    fn fullest(&mut self) -> Option<Vec<Pending>> {
        let n_bytes = |batch: &[Pending]| batch.iter().map(|p| p.n_bytes).sum::<usize>();
        let kind = self.batches.iter().max_by_key(|(_, batch)| n_bytes(batch)).map(|(kind, _)| *kind)?;
        self.batches.remove(&kind)
    }
}

impl Waiting {
    fn n(&self) -> usize {
        self.lies.len() + self.refused.len()
    }
}

pub(crate) struct Run<'a> {
    pub(crate) lanes: &'a [Lane],
    /// The threads on which encoders work.
    pub(crate) encoders: Arc<ThreadPool>,
    pub(crate) options: &'a IndexOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
    pub(crate) known: Known,
    pub(crate) report: IndexReport,
}

/// Threads of this run's own, so that questions asked meanwhile do not wait behind its batches. On Linux they have the priority of the
/// thread that makes them.
fn encoders(library: &Path) -> Result<Arc<ThreadPool>> {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(rayon::current_num_threads());
    let failed = |e| EngineError::io("cannot start threads to index", library)(std::io::Error::other(e));
    threads.thread_name(|i| format!("encoder {i}")).build().map(Arc::new).map_err(failed)
}

impl Run<'_> {
    fn all(&mut self, roots: &[PathBuf], walked: &Walked) -> Result<()> {
        self.progress.start("index", Some((walked.files.len() + walked.captions.len()) as u64));
        self.roots(roots)?;
        let files = self.changed(walked)?;
        // An absent model is told before anything is read.
        let kinds: BTreeSet<Modality> = files.iter().map(|f| f.modality).collect();
        kinds.into_iter().try_for_each(|kind| self.warm_up(kind))?;
        self.files(&files)?;
        self.captions(roots, walked)?;
        self.gone(walked)?;
        self.fill()
    }

    /// Opens the encoders of a kind of media.
    fn warm_up(&self, kind: Modality) -> Result<()> {
        let knowing: Vec<&Lane> = self.lanes.iter().filter(|lane| lane.knows(kind)).collect();
        match knowing.as_slice() {
            // The error of a space without a view for it.
            [] => self.lanes[0].space().warm_up(kind),
            knowing => knowing.iter().try_for_each(|lane| lane.space().warm_up(kind)),
        }
    }

    /// Notes where a file that was taken in has no vectors, and counts those it has.
    pub(crate) fn tell(&mut self, path: &Path, in_lanes: &[(i64, Embedded)]) {
        for (id, embedded) in in_lanes {
            match embedded {
                Ok(vectors) => self.report.n_segments += vectors.len(),
                Err(reason) => {
                    let lane = self.lanes.iter().find(|lane| lane.id == *id).map_or("", Lane::name);
                    self.report
                        .notes
                        .push(Refusal { path: path.to_owned(), reason: format!("not in the lane {lane}: {reason}") });
                }
            }
        }
    }

    /// Remembers what was indexed, and what could not be looked at.
    fn roots(&mut self, roots: &[PathBuf]) -> Result<()> {
        let known = |db: &Connection| -> rusqlite::Result<bool> {
            let mut statement = db.prepare("SELECT 1 FROM roots WHERE path = ?1")?;
            roots.iter().try_fold(true, |all, root| Ok(all && statement.exists([path_bytes(root)])?))
        };
        if known(self.known.writer.connection()).is_ok_and(|all| all) {
            return Ok(());
        }
        self.known.writer.batch(|tx| {
            roots.iter().try_for_each(|root| {
                tx.execute("INSERT INTO roots (path) VALUES (?1) ON CONFLICT DO NOTHING", [path_bytes(root)]).map(|_| ())
            })
        })
    }

    /// Counts what is as it was and gives the files that must be read.
    fn changed<'w>(&mut self, walked: &'w Walked) -> Result<Vec<&'w File>> {
        let (mut changed, mut n_done) = (Vec::new(), 0);
        for file in &walked.files {
            let key = path_bytes(&file.path);
            let reread = self.options.reread;
            if self.known.paths.get(&key).is_some_and(|k| k.settled && k.stat == file.stat && !reread) {
                self.report.n_unchanged += 1;
                n_done += 1;
                continue;
            }
            let refusal = self.known.refusals.get(&key);
            if let Some(known) = refusal.filter(|k| k.lasting && k.stat == file.stat && k.program == program() && !reread) {
                self.report.refused.push(Refusal { path: file.path.clone(), reason: known.reason.clone() });
                n_done += 1;
                continue;
            }
            changed.push(file);
        }
        self.progress.advance(n_done);
        if !walked.refused.is_empty() {
            let nowhere = Stat { size: 0, mtime_ns: 0 };
            let refused =
                walked.refused.iter().map(|r| (r.path.clone(), nowhere, Refused { reason: r.reason.clone(), lasting: false }));
            self.store_waiting(&mut Waiting { lies: Vec::new(), refused: refused.collect() }, false)?;
        }
        Ok(changed)
    }

    fn files(&mut self, files: &[&File]) -> Result<()> {
        let (lanes, encoders) = (self.lanes, Arc::clone(&self.encoders));
        in_order::run(
            |batch: Vec<Arc<Parts>>| encoders.install(|| embed_in_lanes(lanes, &batch)),
            |encoding| {
                let mut way = OnTheirWay::default();
                let done = self.files_beside(files, encoding, &mut way);
                if let Err(EngineError::Cancelled(_)) = done {
                    // What was begun is finished, and what waits without need of the encoder; the rest is left to the next run.
                    encoding.stop();
                    while let (Some(batch), Some(made)) = (way.encoded.pop_front(), encoding.take()) {
                        self.store_batch(batch, made?, &mut way)?;
                    }
                    self.store_waiting(&mut way.waiting, true)?;
                }
                done
            },
        )
    }

    /// Takes files in while `encoding` goes on. How files are put together to batches depends on the files alone, not on who is faster,
    /// so the same folder always gives the same library.
    fn files_beside(&mut self, files: &[&File], encoding: &mut Encoding<'_>, way: &mut OnTheirWay) -> Result<()> {
        let paths: Vec<&Path> = files.iter().map(|f| f.path.as_path()).collect();
        // Hashes that need no decoding: the catalogue's, and those on their way. What happened to those is decided in order.
        let no_decoding: Mutex<HashSet<[u8; 32]>> = Mutex::new(self.known.items.keys().copied().collect());
        let known = |hash: &[u8; 32]| no_decoding.lock().unwrap_or_else(|e| e.into_inner()).contains(hash);
        let max_batch_bytes = self.options.max_waiting_bytes / 4;
        let (lanes, cancel) = (self.lanes, self.cancel.clone());
        let reduce = |media: &Media| reduced_for(lanes, media);
        let (limits, max_waiting) = (&self.options.limits, self.options.max_waiting_bytes);
        pipeline::run(&paths, limits, max_waiting, &known, &reduce, |event, flow| {
            cancel.check()?;
            while let Some(made) = encoding.try_take() {
                flow.give_back(self.store_oldest(made?, way)?);
            }
            let (place, content) = match event {
                Event::Idle => return Ok(()),
                Event::Full => {
                    // What is encoded gives memory back by itself. What gathers is at most half, so the next file is large; it must not
                    // end a batch before it is looked at, for whether a copy was decoded is chance.
                    match encoding.take() {
                        Some(made) => flow.give_back(self.store_oldest(made?, way)?),
                        None => flow.let_pass(),
                    }
                    return Ok(());
                }
                Event::File(place, content) => (place, content),
            };
            let path = files[place].path.as_path();
            let full = match content {
                Err(refused) => {
                    way.waiting.refused.push((path.to_owned(), files[place].stat, refused));
                    None
                }
                Ok(content) => self.sort_in(path, content, way, flow, |hash| {
                    no_decoding.lock().unwrap_or_else(|e| e.into_inner()).insert(hash);
                }),
            };
            let is_full = |batch: &Vec<Pending>| {
                batch.iter().map(|p| p.parts.spans.len()).sum::<usize>() >= ENCODE_PARTS
                    || batch.iter().map(|p| p.n_bytes).sum::<usize>() >= max_batch_bytes
            };
            if let Some(kind) = full.filter(|kind| way.batches.get(kind).is_some_and(is_full)) {
                let batch = way.batches.remove(&kind).unwrap_or_default();
                flow.give_back(self.encode(batch, encoding, way)?);
            }
            while way.n_bytes() > max_waiting / 2
                && let Some(batch) = way.fullest()
            {
                flow.give_back(self.encode(batch, encoding, way)?);
            }
            if way.waiting.n() >= STORE_FILES {
                self.store_waiting(&mut way.waiting, true)?;
            }
            Ok(())
        })?;
        for (_, batch) in std::mem::take(&mut way.batches) {
            self.encode(batch, encoding, way)?;
        }
        while let Some(made) = encoding.take() {
            self.store_oldest(made?, way)?;
            self.cancel.check()?;
        }
        self.store_waiting(&mut way.waiting, true)?;
        Ok(self.cancel.check()?)
    }

    /// Gives a batch to the encoders, after waiting for room among them; gives the bytes of what was stored meanwhile.
    fn encode(&mut self, batch: Vec<Pending>, encoding: &mut Encoding<'_>, way: &mut OnTheirWay) -> Result<usize> {
        let mut n_bytes = 0;
        while !encoding.has_room() {
            if let Some(made) = encoding.take() {
                n_bytes += self.store_oldest(made?, way)?;
            }
            self.cancel.check()?;
        }
        encoding.give(batch.iter().map(|p| Arc::clone(&p.parts)).collect());
        way.encoded.push_back(batch);
        Ok(n_bytes)
    }

    /// Decides what a file's content is to the library. Gives the modality whose batch grew.
    fn sort_in(
        &mut self,
        path: &Path,
        content: Content,
        way: &mut OnTheirWay,
        flow: &Flow,
        decode_no_more: impl FnOnce([u8; 32]),
    ) -> Option<Modality> {
        let n_bytes = content.waiting_bytes();
        let Content { hash, stat, settled, decoded, further } = content;
        let lies = Lies { path: path_bytes(path), stat, settled };
        let before = self.known.paths.get(&lies.path).map(|k| k.item);
        if let Some(id) = self.known.items.get(&hash).copied() {
            flow.give_back(n_bytes);
            let fate = match before {
                Some(item) if item == id => Fate::Unchanged,
                Some(_) => Fate::Updated,
                None if self.known.displaced.contains(&id) => Fate::Moved,
                None => Fate::Copy,
            };
            way.waiting.lies.push((lies, id, fate));
            return None;
        }
        if let Some(pending) = way.find(&hash) {
            flow.give_back(n_bytes);
            // As above: whether its twin is stored yet is chance.
            pending.lies.push((lies, if before.is_some() { Fate::Updated } else { Fate::Copy }));
            return None;
        }
        let mut refuse = |reason: String| {
            way.waiting.refused.push((path.to_owned(), stat, Refused { reason, lasting: true }));
            None
        };
        if let Some(reason) = way.failed.get(&hash) {
            flow.give_back(n_bytes);
            return refuse(reason.clone());
        }
        let Some(Decoded { media, metadata }) = decoded else {
            // Its twin was taken for decoded, yet is nowhere: it was refused for a reason that is not its content's.
            return refuse("could not be taken in together with its copy: index again".to_owned());
        };
        let kind = media.modality();
        if !self.lanes.iter().any(|lane| lane.knows(kind)) {
            flow.give_back(n_bytes);
            return refuse(format!("holds {kind}, for which the space has no view"));
        }
        let cut = chiasm_media::spans(&media, &self.options.cut);
        let note = |text: String| Refusal { path: path.to_owned(), reason: text };
        self.report.notes.extend(metadata.notes.iter().map(|n| note(n.clone())));
        if cut.n_dropped > 0 {
            self.report.notes.push(note(format!(
                "{} parts beyond the first {} were left out: split it, or raise `max_segments`",
                cut.n_dropped,
                cut.spans.len()
            )));
        }
        decode_no_more(hash);
        let fate = if before.is_some() { Fate::Updated } else { Fate::New };
        let media = std::iter::once(media).chain(further).collect();
        let parts = Arc::new(Parts { media, spans: cut.spans });
        let pending = Pending { hash, parts, metadata, size: stat.size, lies: vec![(lies, fate)], n_bytes };
        way.batches.entry(kind).or_default().push(pending);
        Some(kind)
    }

    /// Stores the batch that was given to the encoders first, of which they made this; gives the bytes its media took.
    fn store_oldest(&mut self, made: Vec<Result<InLanes, String>>, way: &mut OnTheirWay) -> Result<usize> {
        let batch = way.encoded.pop_front().unwrap_or_default();
        self.store_batch(batch, made, way)
    }

    /// Stores a batch of one modality, together with all that waits.
    fn store_batch(
        &mut self,
        batch: Vec<Pending>,
        embedded: Vec<Result<InLanes, String>>,
        way: &mut OnTheirWay,
    ) -> Result<usize> {
        let mut sound = Vec::new();
        for (pending, embedded) in batch.iter().zip(embedded) {
            match embedded {
                Ok(in_lanes) => sound.push((pending, in_lanes)),
                Err(reason) => {
                    way.failed.insert(pending.hash, reason.clone());
                    for (lies, _) in &pending.lies {
                        let refused = Refused { reason: reason.clone(), lasting: true };
                        way.waiting.refused.push((path_of(lies.path.clone()), lies.stat, refused));
                    }
                }
            }
        }
        let ids = self.known.writer.batch(|tx| {
            let ids = sound.iter().map(|(p, in_lanes)| add_item(tx, p, in_lanes)).collect::<rusqlite::Result<Vec<i64>>>()?;
            store(tx, &way.waiting).map(|()| ids)
        })?;
        for ((pending, in_lanes), id) in sound.iter().zip(ids) {
            self.known.items.insert(pending.hash, id);
            let path = pending.lies.first().map_or_else(PathBuf::new, |(lies, _)| path_of(lies.path.clone()));
            self.tell(&path, in_lanes);
            pending.lies.iter().for_each(|(_, fate)| self.count(*fate));
            self.progress.advance(pending.lies.len() as u64);
        }
        self.stored(&mut way.waiting, true);
        Ok(batch.iter().map(|p| p.n_bytes).sum())
    }

    fn store_waiting(&mut self, waiting: &mut Waiting, counted: bool) -> Result<()> {
        if waiting.n() > 0 {
            self.known.writer.batch(|tx| store(tx, waiting))?;
            self.stored(waiting, counted);
        }
        Ok(())
    }

    /// Counts and reports what is now on the disk; `counted` when these files are among the total of the progress.
    fn stored(&mut self, waiting: &mut Waiting, counted: bool) {
        self.progress.advance(if counted { waiting.n() as u64 } else { 0 });
        let Waiting { lies, refused } = std::mem::take(waiting);
        lies.iter().for_each(|(_, _, fate)| self.count(*fate));
        for (path, _, refused) in refused {
            self.progress.note(&format!("refused {}: {}", shown(&path), refused.reason));
            self.report.refused.push(Refusal { path, reason: refused.reason });
        }
    }

    fn count(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::New => &mut self.report.n_new,
            Fate::Updated => &mut self.report.n_updated,
            Fate::Unchanged => &mut self.report.n_unchanged,
            Fate::Moved => &mut self.report.n_moved,
            Fate::Copy => &mut self.report.n_copies,
        };
        *counter += 1;
    }

    /// Takes out what is no longer there.
    fn gone(&mut self, walked: &Walked) -> Result<()> {
        self.cancel.check()?;
        let found: HashSet<Vec<u8>> = walked
            .files
            .iter()
            .map(|f| path_bytes(&f.path))
            .chain(walked.captions.iter().map(|c| path_bytes(&c.path)))
            .chain(walked.refused.iter().map(|r| path_bytes(&r.path)))
            .collect();
        let is_gone = |path: &Vec<u8>| !found.contains(path) && !lies_unseen(path, walked);
        // A caption is found, but no longer an item of its own; a refused file is found, but may have been deleted before it
        // was: only files count for paths.
        let files: HashSet<Vec<u8>> = walked.files.iter().map(|f| path_bytes(&f.path)).collect();
        let mut paths: Vec<&Vec<u8>> =
            self.known.paths.keys().filter(|p| !files.contains(*p) && !lies_unseen(p, walked)).collect();
        paths.sort();
        let mut refusals: Vec<&Vec<u8>> = self.known.refusals.keys().filter(|p| is_gone(p)).collect();
        refusals.sort();
        let orphans = "SELECT count(*) FROM items WHERE NOT EXISTS (SELECT 1 FROM paths p WHERE p.item = items.id)";
        let err = EngineError::store("cannot read the catalogue", Path::new(""));
        let n_orphans: i64 = self.known.writer.connection().query_row(orphans, [], |row| row.get(0)).map_err(&err)?;
        if paths.is_empty() && refusals.is_empty() && n_orphans == 0 {
            return Ok(());
        }
        let n = self.known.writer.batch(|tx| {
            let mut statement = tx.prepare_cached("DELETE FROM paths WHERE path = ?1")?;
            paths.iter().try_for_each(|path| statement.execute([path]).map(|_| ()))?;
            refusals.iter().try_for_each(|path| forget_refusal(tx, path))?;
            remove_items_without_files(tx)
        })?;
        self.report.n_removed = n;
        Ok(())
    }
}

fn program() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Whether a path lies in or is what could not be looked at, so that nothing is known of it.
fn lies_unseen(path: &[u8], walked: &Walked) -> bool {
    let path = path_of(path.to_vec());
    walked.unseen.iter().any(|unseen| path.starts_with(unseen))
}

/// A path on one line.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}
