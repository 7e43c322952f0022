//! Taking folders in while people watch: one job at a time, its progress as events, what was refused, and folders to choose from.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use chiasm_core::{Cancel, Progress};
use chiasm_engine::{IndexOptions, IndexReport, Library, Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Work};
use crate::error::{ApiError, ErrorDetail};
use crate::wire::{In, Params};

/// Least time between two events of one kind.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// Folders of one folder that are listed.
const MAX_FOLDERS: usize = 2_000;
/// Of Linux: who has 10 gets about a tenth of a core that one with 0 wants whole.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// What an indexing is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// None since the server started
    #[default]
    Idle,
    Running,
    /// Asked to stop; what is begun is finished
    Stopping,
    Done,
    /// Stopped before its end; the next one does the rest
    Stopped,
    Failed,
}

/// A file that was not taken in, or one to know of.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RefusedFile {
    path: String,
    reason: String,
}

impl From<Refusal> for RefusedFile {
    fn from(refusal: Refusal) -> Self {
        RefusedFile { path: refusal.path.to_string_lossy().into_owned(), reason: refusal.reason }
    }
}

/// Files that were left out on purpose.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SkippedFiles {
    reason: String,
    n: usize,
}

/// What an indexing did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ReportBody {
    n_seen: usize,
    n_new: usize,
    n_updated: usize,
    n_unchanged: usize,
    n_moved: usize,
    n_copies: usize,
    n_captions: usize,
    n_removed: usize,
    n_segments: usize,
    refused: Vec<RefusedFile>,
    skipped: Vec<SkippedFiles>,
    notes: Vec<RefusedFile>,
    wall_s: f64,
}

impl From<IndexReport> for ReportBody {
    fn from(r: IndexReport) -> Self {
        ReportBody {
            n_seen: r.n_seen,
            n_new: r.n_new,
            n_updated: r.n_updated,
            n_unchanged: r.n_unchanged,
            n_moved: r.n_moved,
            n_copies: r.n_copies,
            n_captions: r.n_captions,
            n_removed: r.n_removed,
            n_segments: r.n_segments,
            refused: r.refused.into_iter().map(RefusedFile::from).collect(),
            skipped: r.skipped.into_iter().map(|s| SkippedFiles { reason: s.reason, n: s.n }).collect(),
            notes: r.notes.into_iter().map(RefusedFile::from).collect(),
            wall_s: r.wall_s,
        }
    }
}

/// Where an indexing stands.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct IndexState {
    state: Phase,
    /// look, index, lanes, ...
    stage: Option<String>,
    done: u64,
    total: Option<u64>,
    /// Steps a second
    rate: Option<f64>,
    left_s: Option<f64>,
    roots: Vec<String>,
    report: Option<ReportBody>,
    error: Option<ErrorDetail>,
}

/// The jobs of a server: one at a time.
#[derive(Debug)]
pub(crate) struct Jobs {
    state: watch::Sender<IndexState>,
    changes: watch::Sender<u64>,
    running: Mutex<Option<Cancel>>,
    /// Held by whoever writes for a moment.
    turn: Mutex<()>,
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs {
            state: watch::Sender::new(IndexState::default()),
            changes: watch::Sender::new(0),
            running: Mutex::new(None),
            turn: Mutex::new(()),
        }
    }
}

impl Jobs {
    /// Where the last one stands.
    pub(crate) fn state(&self) -> IndexState {
        self.state.borrow().clone()
    }

    /// The contents of the library have changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// The right to write for a moment.
    ///
    /// # Errors
    /// `conflict` while folders are taken in, which may last.
    pub(crate) fn turn(&self) -> Result<MutexGuard<'_, ()>, ApiError> {
        if self.is_running() {
            return Err(ApiError::conflict("folders are being taken in").cure("wait until that has ended, or stop it"));
        }
        Ok(self.turn.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.lock().unwrap_or_else(|e| e.into_inner()).is_some()
    }

    /// Asks the one that runs to stop; says whether there was any.
    pub(crate) fn stop(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(cancel) = running.as_ref() {
            cancel.cancel();
            self.state.send_modify(|state| state.state = Phase::Stopping);
        }
        running.is_some()
    }

    /// Begins one on a thread of its own.
    fn begin(app: &Arc<App>, library: Arc<Library>, roots: Vec<PathBuf>) -> Result<IndexState, ApiError> {
        let cancel = Cancel::default();
        {
            let mut running = app.jobs.running.lock().unwrap_or_else(|e| e.into_inner());
            if running.is_some() {
                return Err(
                    ApiError::conflict("folders are being taken in already").cure("wait until that has ended, or stop it")
                );
            }
            *running = Some(cancel.clone());
        }
        let shown = roots.iter().map(|root| root.to_string_lossy().into_owned()).collect();
        app.jobs.state.send_replace(IndexState { state: Phase::Running, roots: shown, ..IndexState::default() });
        let thread = std::thread::Builder::new().name("indexing".to_owned());
        let begun = thread.spawn({
            let app = Arc::clone(app);
            move || run(&app, &library, &roots, &cancel)
        });
        if let Err(error) = begun {
            *app.jobs.running.lock().unwrap_or_else(|e| e.into_inner()) = None;
            return Err(ApiError::internal("starting a thread", &error));
        }
        Ok(app.jobs.state())
    }
}

/// Lets whoever asks go first: what a busy machine leaves over is enough for taking files in, and where nobody asks that is all of it.
#[cfg(target_os = "linux")]
fn give_way() {
    // Of this thread and those it will start. Refused, it is no worse than before.
    _ = rustix::process::nice(NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

fn run(app: &Arc<App>, library: &Library, roots: &[PathBuf], cancel: &Cancel) {
    give_way();
    let progress = Told { app, begun: Mutex::new(Instant::now()), told: Mutex::new(None), done: AtomicU64::new(0) };
    // A panic would leave the job running for ever.
    let done = {
        let _turn = app.jobs.turn.lock().unwrap_or_else(|e| e.into_inner());
        let work = || library.index(roots, &IndexOptions::default(), &progress, cancel);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
    };
    *app.jobs.running.lock().unwrap_or_else(|e| e.into_inner()) = None;
    app.jobs.state.send_modify(|state| {
        (state.stage, state.rate, state.left_s) = (None, None, None);
        let failed = |error: ApiError| Some(error.detail());
        match done {
            Ok(Ok(report)) => {
                state.state = if report.cancelled { Phase::Stopped } else { Phase::Done };
                state.report = Some(report.into());
            }
            Ok(Err(error)) => (state.state, state.error) = (Phase::Failed, failed(error.into())),
            Err(_) => (state.state, state.error) = (Phase::Failed, failed(ApiError::internal("indexing", &"a panic"))),
        }
    });
    app.jobs.changed();
}

/// Turns progress into the state that events tell.
struct Told<'a> {
    app: &'a App,
    begun: Mutex<Instant>,
    told: Mutex<Option<Instant>>,
    done: AtomicU64,
}

impl Told<'_> {
    fn tell(&self, now: bool) {
        let mut told = self.told.lock().unwrap_or_else(|e| e.into_inner());
        if !now && told.is_some_and(|at| at.elapsed() < EVENTS_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        let done = self.done.load(Ordering::Relaxed);
        let seconds = self.begun.lock().unwrap_or_else(|e| e.into_inner()).elapsed().as_secs_f64();
        let rate = (done > 0 && seconds > 0.5).then(|| done as f64 / seconds);
        self.app.jobs.state.send_modify(|state| {
            (state.done, state.rate) = (done, rate);
            state.left_s = state.total.zip(rate).map(|(total, rate)| total.saturating_sub(done) as f64 / rate);
        });
    }
}

impl Progress for Told<'_> {
    fn start(&self, stage: &str, n_steps: Option<u64>) {
        self.done.store(0, Ordering::Relaxed);
        *self.begun.lock().unwrap_or_else(|e| e.into_inner()) = Instant::now();
        self.app.jobs.state.send_modify(|state| (state.stage, state.total) = (Some(stage.to_owned()), n_steps));
        self.tell(true);
    }

    fn advance(&self, n_steps: u64) {
        self.done.fetch_add(n_steps, Ordering::Relaxed);
        self.tell(false);
        // Whoever looks at results meanwhile may look again.
        self.app.jobs.changed();
    }

    fn note(&self, _: &str) {}

    fn finish(&self) {
        self.tell(true);
    }
}

/// What to take in.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexBody {
    /// Absolute paths of folders or files on the server's machine; all that were indexed before when empty
    #[serde(default)]
    roots: Vec<String>,
}

/// Take folders of the server's machine in, or bring all of them up to date
#[utoipa::path(post, path = "/index", tag = "indexing", request_body = IndexBody, responses(
    (status = 202, description = "It runs", body = IndexState)
))]
pub(crate) async fn start(State(app): State<Arc<App>>, In(body): In<IndexBody>) -> Result<Response, ApiError> {
    let library = app.library()?;
    let begun = Arc::clone(&app);
    let state = app
        .run(Work::Quick, move |_| {
            let roots = if body.roots.is_empty() { library.roots()? } else { checked(&body.roots)? };
            if roots.is_empty() {
                return Err(ApiError::bad_request("no folder was indexed yet: name one in `roots`"));
            }
            Jobs::begin(&begun, library, roots)
        })
        .await?;
    Ok((StatusCode::ACCEPTED, Json(state)).into_response())
}

fn checked(roots: &[String]) -> Result<Vec<PathBuf>, ApiError> {
    let one = |root: &String| {
        let path = PathBuf::from(root);
        if root.contains('\0') || !path.is_absolute() {
            return Err(ApiError::bad_request(format!("`{}` is no absolute path", root.escape_debug())));
        }
        match std::fs::metadata(&path) {
            Ok(_) => Ok(path),
            Err(e) => Err(ApiError::bad_request(format!("cannot index {}: {e}", path.display()))),
        }
    };
    roots.iter().map(one).collect()
}

/// Where the last indexing stands
#[utoipa::path(get, path = "/index", tag = "indexing", responses((status = 200, description = "Where it stands", body = IndexState)))]
pub(crate) async fn state(State(app): State<Arc<App>>) -> Json<IndexState> {
    Json(app.jobs.state())
}

/// Stop the indexing that runs; what is stored stays, and the next one does the rest
#[utoipa::path(delete, path = "/index", tag = "indexing", responses((status = 202, description = "It stops", body = IndexState)))]
pub(crate) async fn stop(State(app): State<Arc<App>>) -> Response {
    app.jobs.stop();
    (StatusCode::ACCEPTED, Json(app.jobs.state())).into_response()
}

/// What happens, as it happens: `index` with the state of an indexing, `library` when contents have changed
#[utoipa::path(get, path = "/events", tag = "indexing", responses(
    (status = 200, description = "Events", body = String, content_type = "text/event-stream")
))]
pub(crate) async fn events(State(app): State<Arc<App>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, events) = mpsc::channel(4);
    tokio::spawn(tell(app, sender));
    Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::default())
}

/// Tells one listener until it leaves or the server ends.
async fn tell(app: Arc<App>, listener: mpsc::Sender<Result<Event, Infallible>>) {
    let (mut states, mut changes) = (app.jobs.state.subscribe(), app.jobs.changes.subscribe());
    // Whoever comes is told where it stands.
    states.mark_changed();
    loop {
        let (name, data) = tokio::select! {
            () = app.ending.cancelled() => return,
            () = listener.closed() => return,
            Ok(()) = states.changed() => ("index", serde_json::to_string(&*states.borrow_and_update())),
            Ok(()) = changes.changed() => {
                changes.mark_unchanged();
                let generation = app.library_if_any().and_then(|library| library.generation().ok());
                ("library", serde_json::to_string(&serde_json::json!({ "generation": generation })))
            }
            else => return,
        };
        let Ok(data) = data else { return };
        if listener.send(Ok(Event::default().event(name).data(data))).await.is_err() {
            return;
        }
        tokio::time::sleep(EVENTS_EVERY / 2).await;
    }
}

/// A stretch of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    #[param(maximum = 1000000)]
    offset: Option<usize>,
    /// 1 to 1000
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Files that were not taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedBody {
    refused: Vec<RefusedFile>,
    total: usize,
}

/// Files that could not be taken in, each with its reason
#[utoipa::path(get, path = "/refused", tag = "indexing", params(PageParams), responses(
    (status = 200, description = "A page of them", body = RefusedBody)
))]
pub(crate) async fn refused(
    State(app): State<Arc<App>>,
    Params(page): Params<PageParams>,
) -> Result<Json<RefusedBody>, ApiError> {
    let (offset, limit) = (page.offset.unwrap_or(0), page.limit.unwrap_or(200));
    if !(1..=1000).contains(&limit) || offset > 1_000_000_000 {
        return Err(ApiError::bad_request("limit must be 1 to 1000, offset at most a thousand million"));
    }
    let library = app.library()?;
    app.run(Work::Quick, move |_| {
        let page = library.refused(offset, limit)?;
        Ok(Json(RefusedBody { refused: page.refused.into_iter().map(RefusedFile::from).collect(), total: page.total }))
    })
    .await
}

/// Which folder.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FolderParams {
    /// An absolute path on the server's machine; the home folder when absent
    path: Option<String>,
}

/// A folder in another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FolderBody {
    name: String,
    path: String,
    /// Whether its name begins with a point; such folders are not indexed within others
    hidden: bool,
}

/// What a folder holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoldersBody {
    path: String,
    parent: Option<String>,
    folders: Vec<FolderBody>,
    n_files: usize,
}

/// Folders of the server's machine, to choose one to index
#[utoipa::path(get, path = "/folders", tag = "indexing", params(FolderParams), responses(
    (status = 200, description = "The folders in it", body = FoldersBody)
))]
pub(crate) async fn folders(
    State(app): State<Arc<App>>,
    Params(params): Params<FolderParams>,
) -> Result<Json<FoldersBody>, ApiError> {
    let path = match params.path.filter(|path| !path.is_empty()) {
        Some(path) if path.contains('\0') || !Path::new(&path).is_absolute() => {
            return Err(ApiError::bad_request(format!("`{}` is no absolute path", path.escape_debug())));
        }
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
    };
    app.run(Work::Quick, move |_| {
        let unreadable =
            |e: std::io::Error| ApiError::not_found("no_folder", format!("{} cannot be read: {e}", path.display()));
        let (mut folders, mut n_files) = (Vec::new(), 0);
        for entry in std::fs::read_dir(&path).map_err(unreadable)?.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    folders.push(FolderBody {
                        hidden: name.starts_with('.'),
                        path: entry.path().to_string_lossy().into_owned(),
                        name,
                    });
                }
                Ok(kind) if kind.is_file() => n_files += 1,
                _ => {}
            }
        }
        folders.sort_by(|a, b| a.hidden.cmp(&b.hidden).then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase())));
        folders.truncate(MAX_FOLDERS);
        let parent = path.parent().map(|parent| parent.to_string_lossy().into_owned());
        Ok(Json(FoldersBody { path: path.to_string_lossy().into_owned(), parent, folders, n_files }))
    })
    .await
}
