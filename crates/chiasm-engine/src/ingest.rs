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

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chiasm_core::{Cancel, EncodeError, Media, Modality, Progress, ProjectError, ShapeError, Span};
use chiasm_media::{Cut, Decoded, Limits, Metadata};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::in_order::{self, InOrder};
use crate::lane::{Lane, insert_gap, insert_vector};
use crate::library::{below, remove_items_without_files};
use crate::lock::WriteLock;
use crate::pipeline::{self, Content, Event, Flow, Refused, media_bytes};
use crate::store::{Writer, path_bytes, path_of};
use crate::walk::{self, Caption, File, Stat, Walked};
use crate::{EngineError, Library, Result, Space};

/// Parts that are embedded in one call of an encoder.
pub(crate) const ENCODE_PARTS: usize = 32;
/// Files without anything to embed that make a transaction.
const STORE_FILES: usize = 512;
/// Captions that make a transaction.
const STORE_CAPTIONS: usize = 64;

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
    /// early, whole batches are there and the next run does the rest.
    ///
    /// `progress` hears of two stages, `look` (no total known) and `index` (total: files and captions), and of `lanes` when a lane
    /// lacks vectors (total: parts). Stopped by `cancel` between two batches: the report says so and is no error.
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
            options,
            progress,
            cancel,
            known: Known::read(self.store.writer()?, &self.store.err("cannot read the catalogue"), &roots, &walked)?,
            report,
        };
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
        }
        report.refused.sort_by_key(|r| path_bytes(&r.path));
        report.notes.sort_by_key(|r| path_bytes(&r.path));
        report.wall_s = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// What the catalogue knew before the run.
pub(crate) struct Known {
    pub(crate) writer: Writer,
    paths: HashMap<Vec<u8>, KnownPath>,
    items: HashMap<[u8; 32], i64>,
    refusals: HashMap<Vec<u8>, KnownRefusal>,
    /// Items one of whose files is no longer where it was.
    displaced: HashSet<i64>,
}

struct KnownPath {
    stat: Stat,
    settled: bool,
    item: i64,
}

struct KnownRefusal {
    reason: String,
    stat: Stat,
    lasting: bool,
    program: String,
}

fn stat_at(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Stat> {
    Ok(Stat { size: row.get::<_, i64>(at)? as u64, mtime_ns: row.get(at + 1)? })
}

impl Known {
    fn read(writer: Writer, err: &dyn Fn(rusqlite::Error) -> EngineError, roots: &[PathBuf], walked: &Walked) -> Result<Known> {
        let read = |db: &Connection| -> rusqlite::Result<_> {
            let mut paths = HashMap::new();
            let mut refusals = HashMap::new();
            let mut of_paths = db.prepare(
                "SELECT path, size, mtime_ns, settled, item FROM paths WHERE path = ?1 OR (path >= ?2 AND path < ?3)",
            )?;
            let mut of_refusals =
                db.prepare("SELECT path, size, mtime_ns, reason, lasting, program FROM refusals WHERE path = ?1 OR (path >= ?2 AND path < ?3)")?;
            for root in roots {
                let (low, high) = below(root);
                let mut rows = of_paths.query((path_bytes(root), &low, &high))?;
                while let Some(row) = rows.next()? {
                    let known = KnownPath { stat: stat_at(row, 1)?, settled: row.get(3)?, item: row.get(4)? };
                    paths.insert(row.get::<_, Vec<u8>>(0)?, known);
                }
                let mut rows = of_refusals.query((path_bytes(root), &low, &high))?;
                while let Some(row) = rows.next()? {
                    let known = KnownRefusal {
                        stat: stat_at(row, 1)?,
                        reason: row.get(3)?,
                        lasting: row.get(4)?,
                        program: row.get(5)?,
                    };
                    refusals.insert(row.get::<_, Vec<u8>>(0)?, known);
                }
            }
            let mut items = HashMap::new();
            let mut statement = db.prepare("SELECT hash, id FROM items")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                items.insert(row.get::<_, [u8; 32]>(0)?, row.get(1)?);
            }
            Ok((paths, refusals, items))
        };
        let (paths, refusals, items) = read(writer.connection()).map_err(err)?;
        let found: HashSet<Vec<u8>> = walked.files.iter().map(|f| path_bytes(&f.path)).collect();
        let displaced = paths.iter().filter(|(path, _)| !found.contains(*path)).map(|(_, known)| known.item).collect();
        Ok(Known { writer, paths, items, refusals, displaced })
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

/// Vectors of a file's parts, or why it has none.
pub(crate) type Embedded = Result<Vec<Vec<f32>>, String>;

/// What each lane that knows a file's kind made of it, by the lane's number.
type InLanes = Vec<(i64, Embedded)>;

pub(crate) struct Run<'a> {
    pub(crate) lanes: &'a [Lane],
    pub(crate) options: &'a IndexOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
    pub(crate) known: Known,
    pub(crate) report: IndexReport,
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
        let lanes = self.lanes;
        in_order::run(
            |batch: Vec<Arc<Parts>>| embed_in_lanes(lanes, &batch),
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

    /// Attaches texts to the items they lie beside, and detaches those that no longer do.
    fn captions(&mut self, roots: &[PathBuf], walked: &Walked) -> Result<()> {
        let mut due: Vec<(&Caption, i64)> = Vec::new();
        let mut present: HashSet<(i64, Vec<u8>)> = HashSet::new();
        let err = EngineError::store("cannot read captions", Path::new(""));
        for caption in &walked.captions {
            let mut items = BTreeSet::new();
            for path in &caption.of {
                let db = self.known.writer.connection();
                let sql = "SELECT item FROM paths WHERE path = ?1";
                let found = db
                    .prepare_cached(sql)
                    .and_then(|mut s| s.query_row([path_bytes(path)], |row| row.get::<_, i64>(0)).optional());
                items.extend(found.map_err(&err)?);
            }
            let mut fresh = true;
            for item in items {
                present.insert((item, path_bytes(&caption.path)));
                if !self.options.reread && self.caption_is_known(caption, item).map_err(&err)? {
                    continue;
                }
                fresh = false;
                due.push((caption, item));
            }
            if fresh {
                self.report.n_captions += 1;
                self.progress.advance(1);
            }
        }
        if !due.is_empty() {
            self.warm_up(Modality::Text)?;
        }
        for batch in due.chunks(STORE_CAPTIONS) {
            self.cancel.check()?;
            self.store_captions(batch)?;
        }
        self.detach(roots, walked, &present)
    }

    fn caption_is_known(&self, caption: &Caption, item: i64) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM captions WHERE item = ?1 AND path = ?2 AND size = ?3 AND mtime_ns = ?4 AND settled = 1";
        let Stat { size, mtime_ns } = caption.stat;
        self.known.writer.connection().prepare_cached(sql)?.exists(params![
            item,
            path_bytes(&caption.path),
            size as i64,
            mtime_ns
        ])
    }

    fn store_captions(&mut self, batch: &[(&Caption, i64)]) -> Result<()> {
        struct Read<'a> {
            caption: &'a Caption,
            item: i64,
            content: Content,
            parts: Arc<Parts>,
        }
        let (mut read, mut same, mut waiting) = (Vec::new(), Vec::new(), Waiting::default());
        let err = EngineError::store("cannot read captions", Path::new(""));
        for (caption, item) in batch {
            match pipeline::prepare(&caption.path, &self.options.limits, |_| false, &|_| Vec::new()) {
                Err(refused) => waiting.refused.push((caption.path.clone(), caption.stat, refused)),
                Ok(mut content) => match content.decoded.take().map(|d| d.media) {
                    Some(media @ Media::Text(_)) => {
                        let known = "SELECT id FROM captions WHERE item = ?1 AND hash = ?2";
                        let db = self.known.writer.connection();
                        let found = db
                            .prepare_cached(known)
                            .and_then(|mut s| s.query_row((item, content.hash), |row| row.get::<_, i64>(0)).optional());
                        match found.map_err(&err)? {
                            Some(id) => same.push((*caption, id, content)),
                            None => {
                                let spans = chiasm_media::spans(&media, &self.options.cut).spans;
                                let parts = Arc::new(Parts { media: vec![media], spans });
                                read.push(Read { caption, item: *item, content, parts });
                            }
                        }
                    }
                    _ => {
                        let refused = Refused {
                            reason: "lies beside media as their caption, but holds no text".to_owned(),
                            lasting: true,
                        };
                        waiting.refused.push((caption.path.clone(), caption.stat, refused));
                    }
                },
            }
        }
        let parts: Vec<Arc<Parts>> = read.iter().map(|r| Arc::clone(&r.parts)).collect();
        let mut sound = Vec::new();
        for (read, embedded) in read.iter().zip(embed_in_lanes(self.lanes, &parts)?) {
            match embedded {
                Ok(in_lanes) => sound.push((read, in_lanes)),
                Err(reason) => {
                    waiting.refused.push((read.caption.path.clone(), read.caption.stat, Refused { reason, lasting: true }))
                }
            }
        }
        self.known.writer.batch(|tx| {
            for (caption, id, content) in &same {
                let sql = "UPDATE OR REPLACE captions SET path = ?1, size = ?2, mtime_ns = ?3, settled = ?4 WHERE id = ?5";
                let Stat { size, mtime_ns } = content.stat;
                tx.prepare_cached(sql)?.execute(params![
                    path_bytes(&caption.path),
                    size as i64,
                    mtime_ns,
                    content.settled,
                    id
                ])?;
                forget_refusal(tx, &path_bytes(&caption.path))?;
            }
            for (read, in_lanes) in &sound {
                let path = path_bytes(&read.caption.path);
                tx.prepare_cached("DELETE FROM captions WHERE item = ?1 AND path = ?2")?.execute((read.item, &path))?;
                let sql = "INSERT INTO captions (item, path, size, mtime_ns, settled, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let Stat { size, mtime_ns } = read.content.stat;
                let values = params![read.item, &path, size as i64, mtime_ns, read.content.settled, read.content.hash];
                tx.prepare_cached(sql)?.execute(values)?;
                let id = tx.last_insert_rowid();
                add_segments(tx, read.item, Some(id), &read.parts, in_lanes)?;
                forget_refusal(tx, &path)?;
            }
            store(tx, &waiting)
        })?;
        sound.iter().for_each(|(read, in_lanes)| self.tell(&read.caption.path, in_lanes));
        // A caption of several items is one file.
        let taken: BTreeSet<&Path> =
            same.iter().map(|(c, ..)| c.path.as_path()).chain(sound.iter().map(|(r, _)| r.caption.path.as_path())).collect();
        self.report.n_captions += taken.len();
        self.progress.advance(taken.len() as u64);
        self.stored(&mut waiting, true);
        Ok(())
    }

    fn detach(&mut self, roots: &[PathBuf], walked: &Walked, present: &HashSet<(i64, Vec<u8>)>) -> Result<()> {
        let err = EngineError::store("cannot read captions", Path::new(""));
        let list = |db: &Connection| -> rusqlite::Result<Vec<i64>> {
            let mut gone = Vec::new();
            let mut statement = db.prepare("SELECT id, item, path FROM captions WHERE path >= ?1 AND path < ?2")?;
            for root in roots {
                let mut rows = statement.query(below(root))?;
                while let Some(row) = rows.next()? {
                    let key = (row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?);
                    if !present.contains(&key) && !lies_unseen(&key.1, walked) {
                        gone.push(row.get(0)?);
                    }
                }
            }
            Ok(gone)
        };
        let gone = list(self.known.writer.connection()).map_err(&err)?;
        if gone.is_empty() {
            return Ok(());
        }
        self.known.writer.batch(|tx| {
            let mut statement = tx.prepare_cached("DELETE FROM captions WHERE id = ?1")?;
            gone.iter().try_for_each(|id| statement.execute([id]).map(|_| ()))
        })
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

/// All that the lanes look at of a picture, where that is less than the picture: one for each lane that knows pictures, or one for all.
fn reduced_for(lanes: &[Lane], media: &Media) -> Vec<Media> {
    let Media::Image(image) = media else { return Vec::new() };
    let knowing = lanes.iter().filter(|lane| lane.knows(Modality::Image));
    let mut reduced: Vec<Media> = knowing.map_while(|lane| lane.space().reduced(media)).collect();
    let n_knowing = lanes.iter().filter(|lane| lane.knows(Modality::Image)).count();
    if reduced.len() < n_knowing || reduced.iter().map(media_bytes).sum::<usize>() >= image.rgb.len() {
        return Vec::new();
    }
    if reduced.iter().all(|other| *other == reduced[0]) {
        reduced.truncate(1);
    }
    reduced
}

/// Vectors of the parts of media of one modality in every lane that knows it, or why a medium has none in any.
fn embed_in_lanes(lanes: &[Lane], batch: &[Arc<Parts>]) -> Result<Vec<Result<InLanes, String>>> {
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let knowing: Vec<&Lane> = lanes.iter().filter(|lane| lane.knows(first.modality())).collect();
    let mut of_media: Vec<InLanes> = batch.iter().map(|_| Vec::with_capacity(knowing.len())).collect();
    for (place, lane) in knowing.iter().enumerate() {
        let media: Vec<(&Media, &[Span])> = batch.iter().map(|parts| parts.of(place)).collect();
        let embedded = embed(lane.space(), &media)?;
        of_media.iter_mut().zip(embedded).for_each(|(in_lanes, embedded)| in_lanes.push((lane.id, embedded)));
    }
    let judge = |in_lanes: InLanes| {
        if in_lanes.iter().any(|(_, embedded)| embedded.is_ok()) {
            return Ok(in_lanes);
        }
        let mut reasons: Vec<String> = in_lanes.into_iter().filter_map(|(_, embedded)| embedded.err()).collect();
        reasons.dedup();
        Err(reasons.join("; "))
    };
    Ok(of_media.into_iter().map(judge).collect())
}

/// Vectors of the parts of media of one modality; what cannot be encoded is told by item and costs the others nothing.
pub(crate) fn embed(space: &Space, media: &[(&Media, &[Span])]) -> Result<Vec<Embedded>> {
    let mut out: Vec<Embedded> = media.iter().map(|_| Ok(Vec::new())).collect();
    let parts: Vec<(usize, Span)> =
        media.iter().enumerate().flat_map(|(i, (_, spans))| spans.iter().map(move |span| (i, *span))).collect();
    for chunk in parts.chunks(ENCODE_PARTS) {
        let mut chunk: Vec<(usize, Span)> = chunk.iter().filter(|(i, _)| out[*i].is_ok()).copied().collect();
        while !chunk.is_empty() {
            let batch: Vec<Media> = chunk.iter().map(|(i, span)| part(media[*i].0, *span)).collect();
            let error = match space.embed(&batch) {
                Ok(vectors) => {
                    for ((i, _), row) in chunk.iter().zip(vectors.rows()) {
                        if let Ok(rows) = &mut out[*i] {
                            rows.push(row.to_vec());
                        }
                    }
                    break;
                }
                Err(error) => error,
            };
            let Some((item, _)) = at_fault(&error).and_then(|at| chunk.get(at)).copied() else {
                return Err(error);
            };
            let reason = if let EngineError::Encode(EncodeError::Unencodable { encoder, reason, .. }) = error {
                format!("cannot be encoded by {encoder}: {reason}")
            } else {
                format!("cannot be encoded: {error}")
            };
            out[item] = Err(reason);
            chunk.retain(|(i, _)| *i != item);
        }
    }
    Ok(out)
}

/// Place in the batch of the one item that an error speaks of.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other error, present or future, is of the whole batch")]
fn at_fault(error: &EngineError) -> Option<usize> {
    match error {
        EngineError::Encode(EncodeError::Unencodable { item, .. }) => Some(*item),
        EngineError::Encode(EncodeError::NotFinite { cause: ShapeError::NotFinite { row, .. }, .. })
        | EngineError::Project(ProjectError::Shape(ShapeError::NotFinite { row, .. })) => Some(*row),
        _ => None,
    }
}

fn part(media: &Media, span: Span) -> Media {
    if span == Span::Whole { media.clone() } else { chiasm_media::part(media, span) }
}

fn add_item(tx: &Connection, pending: &Pending, in_lanes: &InLanes) -> rusqlite::Result<i64> {
    let m = &pending.metadata;
    let sql = "INSERT INTO items (hash, kind, format, size, width, height, duration_s, taken, latitude, longitude)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let kind = pending.parts.modality();
    let (format, size) = (&m.format, pending.size as i64);
    let values =
        params![pending.hash, kind.as_str(), format, size, m.width, m.height, m.duration_s, m.taken, m.latitude, m.longitude];
    tx.prepare_cached(sql)?.execute(values)?;
    let id = tx.last_insert_rowid();
    add_segments(tx, id, None, &pending.parts, in_lanes)?;
    pending.lies.iter().try_for_each(|(lies, _)| add_path(tx, lies, id))?;
    Ok(id)
}

fn add_path(tx: &Connection, lies: &Lies, item: i64) -> rusqlite::Result<()> {
    let Stat { size, mtime_ns } = lies.stat;
    insert_path(tx, &lies.path, size, mtime_ns, lies.settled, item)?;
    forget_refusal(tx, &lies.path)
}

/// Adds a path, or says that it now leads elsewhere.
pub(crate) fn insert_path(
    tx: &Connection,
    path: &[u8],
    size: u64,
    mtime_ns: i64,
    settled: bool,
    item: i64,
) -> rusqlite::Result<()> {
    let text = path_of(path.to_vec());
    // With a slash at its end, so that a pattern can tell where a folder's name ends.
    let folder = text.parent().map_or_else(String::new, |f| format!("{}/", f.to_string_lossy().trim_end_matches('/')));
    let name = text.file_name().unwrap_or_default().to_string_lossy();
    let sql =
        "INSERT OR REPLACE INTO paths (path, folder, name, size, mtime_ns, settled, item) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    tx.prepare_cached(sql)?.execute(params![path, folder, name, size as i64, mtime_ns, settled, item])?;
    Ok(())
}

/// Adds the parts of media with their vectors in each lane, and their words when they are text.
fn add_segments(tx: &Connection, item: i64, caption: Option<i64>, parts: &Parts, in_lanes: &InLanes) -> rusqlite::Result<()> {
    let (media, spans) = parts.of(0);
    for (at, span) in spans.iter().enumerate() {
        let (unit, start, end) = match span {
            Span::Whole => (None, None, None),
            Span::Time { start_s, end_s } => (Some("s"), Some(*start_s), Some(*end_s)),
            Span::Bytes { start, end } => (Some("byte"), Some(*start as f64), Some(*end as f64)),
        };
        let body = part_text(media, *span);
        let id = add_segment(tx, item, caption, media.modality(), (unit, start, end), body.as_deref())?;
        for (lane, embedded) in in_lanes {
            match embedded {
                Ok(vectors) => insert_vector(tx, *lane, id, &vectors[at])?,
                Err(reason) => insert_gap(tx, *lane, id, reason)?,
            }
        }
    }
    Ok(())
}

fn part_text(media: &Media, span: Span) -> Option<String> {
    match media {
        Media::Text(_) => match part(media, span) {
            Media::Text(text) => Some(text),
            Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) => None,
        },
        Media::Image(_) | Media::Audio(_) | Media::Series(_) | Media::Video(_) => None,
    }
}

/// Adds one part, without a vector; gives its number.
pub(crate) fn add_segment(
    tx: &Connection,
    item: i64,
    caption: Option<i64>,
    modality: Modality,
    span: (Option<&str>, Option<f64>, Option<f64>),
    body: Option<&str>,
) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO segments (item, caption, modality, span_unit, span_start, span_end) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.prepare_cached(sql)?.execute(params![item, caption, modality.as_str(), span.0, span.1, span.2])?;
    let id = tx.last_insert_rowid();
    if let Some(body) = body {
        tx.prepare_cached("INSERT INTO texts (segment, body) VALUES (?1, ?2)")?.execute(params![id, body])?;
    }
    Ok(id)
}

/// Stores what waits: paths of known contents, and refusals. A file whose content can no longer be read as media leaves the
/// catalogue; one that could only not be read just now stays.
fn store(tx: &Connection, waiting: &Waiting) -> rusqlite::Result<()> {
    waiting.lies.iter().try_for_each(|(lies, item, _)| add_path(tx, lies, *item))?;
    for (path, stat, refused) in &waiting.refused {
        let path = path_bytes(path);
        let sql =
            "INSERT OR REPLACE INTO refusals (path, reason, size, mtime_ns, lasting, program) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![path, refused.reason, stat.size as i64, stat.mtime_ns, refused.lasting, program()];
        tx.prepare_cached(sql)?.execute(values)?;
        if refused.lasting {
            tx.prepare_cached("DELETE FROM paths WHERE path = ?1")?.execute([&path])?;
        }
    }
    Ok(())
}

fn forget_refusal(tx: &Connection, path: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM refusals WHERE path = ?1")?.execute([path]).map(|_| ())
}
