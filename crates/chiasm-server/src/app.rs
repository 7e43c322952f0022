//! What the handlers share: the library, the bounded room for work, and what is kept between requests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use chiasm_core::{Media, Modality};
use chiasm_engine::{Embedded, Library};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::ApiError;
use crate::indexing::Jobs;
use crate::metrics::{Metrics, Stage};
use crate::shelf::Shelf;
use crate::tokens::Tokens;

/// Texts whose vectors are kept: a page of results is one more search for the same words.
const TEXTS: usize = 2_000;
/// Bytes of uploads that are kept to ask with: thumbnails and vectors, not the files.
const UPLOAD_BYTES: u64 = 64 << 20;
const UPLOADS: usize = 4_000;
/// Bytes of thumbnails that are kept in memory.
const THUMBNAIL_BYTES: u64 = 32 << 20;

/// Bytes of thumbnails that are kept on the disk, in the library's folder.
const THUMBNAILS_ON_DISK: u64 = 1 << 30;

/// Something that was sent to ask with.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) kind: Modality,
    /// As whoever sent it first called it.
    pub(crate) name: Option<String>,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) metadata: chiasm_media::Metadata,
    pub(crate) embedded: Arc<Embedded>,
    /// JPEG, of pictures and videos.
    pub(crate) thumbnail: Option<Vec<u8>>,
    /// Loudness over time, of sounds.
    pub(crate) peaks: Option<Vec<f32>>,
}

#[derive(Clone)]
pub(crate) struct UploadBytes;

impl Weighter<String, Arc<Upload>> for UploadBytes {
    fn weight(&self, _: &String, upload: &Arc<Upload>) -> u64 {
        // Its vectors are a few thousand numbers.
        16_384 + upload.thumbnail.as_ref().map_or(0, |t| t.len() as u64)
    }
}

#[derive(Clone)]
pub(crate) struct ThumbnailBytes;

impl Weighter<String, axum::body::Bytes> for ThumbnailBytes {
    fn weight(&self, key: &String, jpeg: &axum::body::Bytes) -> u64 {
        (key.len() + jpeg.len() + 64) as u64
    }
}

/// The state of a server.
pub(crate) struct App {
    pub(crate) config: Config,
    library: RwLock<Option<Arc<Library>>>,
    pub(crate) tokens: Tokens,
    pub(crate) jobs: Jobs,
    pub(crate) metrics: Metrics,
    pub(crate) uploads: Cache<String, Arc<Upload>, UploadBytes>,
    pub(crate) thumbnails: Cache<String, axum::body::Bytes, ThumbnailBytes>,
    /// Those that were made, on the disk.
    pub(crate) shelf: Shelf,
    /// Files that were seen to hold what the catalogue says, by path, size and time.
    pub(crate) seen: Cache<(PathBuf, u64, u128), ()>,
    texts: Cache<String, Arc<Embedded>>,
    quick: Room,
    slow: Room,
    /// Cancelled when the server is to end.
    pub(crate) ending: CancellationToken,
}

/// Room for so many requests at once, and so many that wait.
struct Room {
    threads: Semaphore,
    n_waiting: AtomicUsize,
    max_waiting: usize,
}

/// How long work takes, and so with which other it competes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Milliseconds: searches, listings.
    Quick,
    /// Up to seconds: decoding files, explanations, maps.
    Slow,
}

impl App {
    pub(crate) fn new(config: Config, library: Option<Library>) -> App {
        let n_threads = std::thread::available_parallelism().map_or(2, usize::from);
        let room =
            |n: usize, max_waiting: usize| Room { threads: Semaphore::new(n), n_waiting: AtomicUsize::new(0), max_waiting };
        App {
            tokens: Tokens::of(&config.library),
            jobs: Jobs::default(),
            metrics: Metrics::new(),
            uploads: Cache::with_weighter(UPLOADS, UPLOAD_BYTES, UploadBytes),
            thumbnails: Cache::with_weighter(4_000, THUMBNAIL_BYTES, ThumbnailBytes),
            shelf: Shelf::new(config.library.join("thumbnails"), THUMBNAILS_ON_DISK),
            seen: Cache::new(10_000),
            texts: Cache::new(TEXTS),
            quick: room(n_threads.max(2), config.max_waiting),
            slow: room(n_threads.max(2), config.max_waiting),
            ending: CancellationToken::new(),
            library: RwLock::new(library.map(Arc::new)),
            config,
        }
    }

    /// The library.
    pub(crate) fn library(&self) -> Result<Arc<Library>, ApiError> {
        self.library_if_any().ok_or_else(ApiError::no_library)
    }

    pub(crate) fn library_if_any(&self) -> Option<Arc<Library>> {
        self.library.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Serves this library from now on. Vectors that were kept are of the lanes before.
    pub(crate) fn set_library(&self, library: Library) {
        *self.library.write().unwrap_or_else(|e| e.into_inner()) = Some(Arc::new(library));
        self.texts.clear();
        self.uploads.clear();
    }

    /// Does work that takes a thread, as soon as one is free. Whoever would have to wait behind too many is turned away at once, so that a crowd is told
    /// to come back instead of being kept until it gives up.
    ///
    /// # Errors
    /// `busy`, and those of the work.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: Work,
        f: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let room = match work {
            Work::Quick => &self.quick,
            Work::Slow => &self.slow,
        };
        let started = Instant::now();
        let permit = match room.threads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Waiting::new(self, room).ok_or_else(|| {
                    self.metrics.turned_away.inc();
                    ApiError::busy()
                })?;
                let permit = room.threads.acquire().await.map_err(|e| ApiError::internal("waiting for a thread", &e))?;
                drop(waiting);
                permit
            }
        };
        self.metrics.stage(Stage::Queue, started.elapsed());
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || f(&app)).await;
        drop(permit);
        done.map_err(|e| ApiError::internal("the request", &e))?
    }

    /// A text as the lanes see it, from what was kept where it was asked before.
    pub(crate) fn embed_text(&self, library: &Library, text: &str) -> Result<Arc<Embedded>, ApiError> {
        if let Some(kept) = self.texts.get(text) {
            return Ok(kept);
        }
        let started = Instant::now();
        let embedded = Arc::new(library.embed(&Media::Text(text.to_owned()))?);
        self.metrics.stage(Stage::Encode, started.elapsed());
        self.texts.insert(text.to_owned(), Arc::clone(&embedded));
        Ok(embedded)
    }
}

/// One who waits.
struct Waiting<'a> {
    app: &'a App,
    room: &'a Room,
}

impl<'a> Waiting<'a> {
    fn new(app: &'a App, room: &'a Room) -> Option<Waiting<'a>> {
        let waiting = room.n_waiting.fetch_add(1, Ordering::AcqRel);
        app.metrics.waiting.inc();
        let waits = Waiting { app, room };
        (waiting < room.max_waiting).then_some(waits)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.n_waiting.fetch_sub(1, Ordering::AcqRel);
        self.app.metrics.waiting.dec();
    }
}
