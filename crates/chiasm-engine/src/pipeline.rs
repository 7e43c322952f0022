//! Reading and decoding on several threads, beside the encoder, in order and within a bound of memory.
//!
//! Each thread takes the next file, reads, hashes and decodes it, lets go what no encoder will look at, waits for its turn, and hands it
//! over: what comes out is in the order of the files whatever the threads do, so the same folder always gives the same library.
//!
//! # Memory
//! What was handed over and is not yet given back is at most `max_waiting_bytes`, or one file if that alone is larger, or what the
//! receiver lets pass; besides it each of at most [`MAX_THREADS`] threads holds the one file it works on, bounded by [`chiasm_media::Limits`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime};

use chiasm_core::Media;
use chiasm_media::{Decoded, Limits, MediaError};

use crate::Result;
use crate::walk::Stat;

/// A file changed so shortly before it was read could change again and keep its time: coarse clocks of file systems tick in
/// up to 2 s (FAT).
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How long the receiver waits before it looks whether the threads wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Threads that read and decode, where there are as many cores.
const MAX_THREADS: usize = 16;

/// Why a file was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    /// Whether only another content or another program could change that.
    pub(crate) lasting: bool,
}

/// A file that was read.
pub(crate) struct Content {
    pub(crate) hash: [u8; 32],
    pub(crate) stat: Stat,
    pub(crate) settled: bool,
    /// Absent when the content is known already. Its media may be what the first encoder looks at of the file's.
    pub(crate) decoded: Option<Decoded>,
    /// What each further encoder looks at, where that is not the same.
    pub(crate) further: Vec<Media>,
}

impl Content {
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.decoded.iter().map(|d| &d.media).chain(&self.further).map(media_bytes).sum()
    }
}

/// Bytes that decoded media take.
pub(crate) fn media_bytes(media: &Media) -> usize {
    match media {
        Media::Image(image) => image.rgb.len(),
        Media::Text(text) => text.len(),
        Media::Audio(wave) => wave.samples.len() * 4,
        Media::Series(series) => series.values.len() * 4,
        Media::Video(video) => video.frames.iter().map(|frame| frame.rgb.len()).sum(),
        Media::Shape(mesh) => (mesh.vertices.len() + mesh.triangles.len()) * 12,
    }
}

/// All that the encoders look at of a medium, one for each or one for all; none where that is the medium itself.
pub(crate) type Reduce<'a> = dyn Fn(&Media) -> Vec<Media> + Sync + 'a;

/// Reads a file whole, hashes it, and decodes it unless `known` says that its hash is. Stops no program: whatever a file holds
/// ends as content or as a refusal.
pub(crate) fn prepare(
    path: &Path,
    limits: &Limits,
    known: impl Fn(&[u8; 32]) -> bool,
    reduce: &Reduce<'_>,
) -> Result<Content, Refused> {
    let (bytes, stat, settled) = read_at_rest(path, limits)?;
    let hash = *blake3::hash(&bytes).as_bytes();
    if known(&hash) {
        return Ok(Content { hash, stat, settled, decoded: None, further: Vec::new() });
    }
    // Decoders are written to give errors; should one panic on a file nobody thought of, that file alone is lost.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let mut decoded = chiasm_media::decode(path, &bytes, limits)?;
        let mut further = reduce(&decoded.media);
        if !further.is_empty() {
            decoded.media = further.remove(0);
        }
        Ok::<_, MediaError>((decoded, further))
    }));
    let decoded = decoded
        .map_err(|_| Refused { reason: "the decoder failed on it: please report the file".to_owned(), lasting: true })?;
    match decoded {
        Ok((decoded, further)) => Ok(Content { hash, stat, settled, decoded: Some(decoded), further }),
        Err(e) => Err(refused(&e)),
    }
}

fn refused(error: &MediaError) -> Refused {
    let lasting = !matches!(error, MediaError::Io(_) | MediaError::NotAFile { .. } | MediaError::NoProgram { .. });
    Refused { reason: error.to_string(), lasting }
}

/// The bytes of a file that was the same before and after they were read.
fn read_at_rest(path: &Path, limits: &Limits) -> Result<(Vec<u8>, Stat, bool), Refused> {
    let stat = || std::fs::metadata(path).map(|m| Stat::of(&m)).map_err(|e| refused(&MediaError::Io(e)));
    for _ in 0..2 {
        let started = SystemTime::now();
        let before = stat()?;
        let bytes = chiasm_media::read(path, limits).map_err(|e| refused(&e))?;
        if stat()? == before && bytes.len() as u64 == before.size {
            let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
            let settled = i128::from(before.mtime_ns) + (SETTLED_AFTER.as_nanos() as i128) < started;
            return Ok((bytes, before, settled));
        }
    }
    Err(Refused { reason: "changes while it is read: index again when it is finished".to_owned(), lasting: false })
}

/// What a receiver is told.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack, and nearly all are files")]
pub(crate) enum Event {
    /// The next file, by its place.
    File(usize, Result<Content, Refused>),
    /// The threads wait for memory with all that was given back: give some more with [`Flow::give_back`], or [`Flow::let_pass`].
    Full,
    /// The next file is not there yet.
    Idle,
}

/// Order and memory between the threads and the receiver.
pub(crate) struct Flow {
    max_waiting: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose turn it is to hand over.
    turn: usize,
    waiting: usize,
    /// Whether the one whose turn it is waits for memory, and has looked since some was last given back.
    full: bool,
    /// Whether the next one passes whatever waits.
    pass: bool,
    stopped: bool,
}

impl Flow {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits for the turn of `place` and for room; `false` when all is to stop.
    fn enter(&self, place: usize, n_bytes: usize) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            let room = state.pass || state.waiting == 0 || state.waiting.saturating_add(n_bytes) <= self.max_waiting;
            if state.turn == place && room {
                state.waiting += n_bytes;
                (state.full, state.pass) = (false, false);
                return true;
            }
            state.full |= state.turn == place;
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    fn leave(&self) {
        self.lock().turn += 1;
        self.changed.notify_all();
    }

    /// Media were encoded and dropped.
    pub(crate) fn give_back(&self, n_bytes: usize) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(n_bytes);
        state.full = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the next file pass even though there is no room.
    pub(crate) fn let_pass(&self) {
        let mut state = self.lock();
        (state.full, state.pass) = (false, true);
        drop(state);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn is_full(&self) -> bool {
        self.lock().full
    }
}

/// Prepares every file and tells `receive` of each in order, on this thread. An error of `receive` stops everything.
pub(crate) fn run(
    paths: &[&Path],
    limits: &Limits,
    max_waiting: usize,
    known: &(dyn Fn(&[u8; 32]) -> bool + Sync),
    reduce: &Reduce<'_>,
    mut receive: impl FnMut(Event, &Flow) -> Result<()>,
) -> Result<()> {
    let flow = Flow { max_waiting, state: Mutex::new(State::default()), changed: Condvar::new() };
    let next = AtomicUsize::new(0);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(paths.len().max(1));
    let (sender, receiver) = sync_channel(2 * n_threads);
    let work = |sender: SyncSender<(usize, Result<Content, Refused>)>| {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(place) else { return };
            let content = prepare(path, limits, known, reduce);
            let n_bytes = content.as_ref().map_or(0, Content::waiting_bytes);
            if !flow.enter(place, n_bytes) || sender.send((place, content)).is_err() {
                return;
            }
            flow.leave();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        let received = loop {
            let done = match receiver.recv_timeout(LOOK_AGAIN) {
                Ok((place, content)) => receive(Event::File(place, content), &flow),
                Err(RecvTimeoutError::Timeout) if flow.is_full() => receive(Event::Full, &flow),
                Err(RecvTimeoutError::Timeout) => receive(Event::Idle, &flow),
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            };
            if done.is_err() {
                break done;
            }
        };
        flow.stop();
        drop(receiver);
        received
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineError;

    fn whole(_: &Media) -> Vec<Media> {
        Vec::new()
    }

    fn texts(dir: &Path, n: usize, n_bytes: usize) -> Vec<std::path::PathBuf> {
        let path = |i: usize| dir.join(format!("{i:03}.txt"));
        (0..n).for_each(|i| std::fs::write(path(i), format!("{i} {}", "x".repeat(n_bytes))).unwrap());
        (0..n).map(path).collect()
    }

    #[test]
    fn files_come_in_order_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let paths = texts(dir.path(), 60, 1000);
        let paths: Vec<&Path> = paths.iter().map(|p| p.as_path()).collect();
        let (mut places, mut held, mut most, mut fulls) = (Vec::new(), 0, 0, 0);
        run(&paths, &Limits::default(), 5_000, &|_| false, &whole, |event, flow| {
            match event {
                Event::File(place, content) => {
                    places.push(place);
                    held += content.unwrap().waiting_bytes();
                    most = most.max(held);
                }
                // Given back only when the threads are stuck: the worst of receivers.
                Event::Full => {
                    fulls += 1;
                    flow.give_back(std::mem::take(&mut held));
                }
                Event::Idle => {}
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(places, (0..60).collect::<Vec<_>>());
        assert!(most <= 5_000 && fulls >= 10, "{most} bytes, full {fulls} times");
    }

    #[test]
    fn what_is_let_pass_passes_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let paths = texts(dir.path(), 9, 1000);
        let paths: Vec<&Path> = paths.iter().map(|p| p.as_path()).collect();
        let (mut n, mut passes) = (0, 0);
        run(&paths, &Limits::default(), 3_500, &|_| false, &whole, |event, flow| {
            match event {
                Event::File(..) => n += 1,
                Event::Full => {
                    assert_eq!(n, 3 + passes);
                    passes += 1;
                    flow.let_pass();
                }
                Event::Idle => {}
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((n, passes), (9, 6));
    }

    #[test]
    fn a_file_beyond_the_bound_passes_alone_and_an_error_stops_all() {
        let dir = tempfile::tempdir().unwrap();
        let paths = texts(dir.path(), 12, 1000);
        let paths: Vec<&Path> = paths.iter().map(|p| p.as_path()).collect();
        let mut n = 0;
        let stopped = run(&paths, &Limits::default(), 10, &|_| false, &whole, |event, flow| {
            if let Event::File(_, content) = event {
                flow.give_back(content.unwrap().waiting_bytes());
                n += 1;
            }
            if n == 7 { Err(EngineError::Query("enough".to_owned())) } else { Ok(()) }
        });
        assert!(stopped.is_err() && n == 7);
    }

    #[test]
    fn only_what_encoders_look_at_waits() {
        let dir = tempfile::tempdir().unwrap();
        let paths = texts(dir.path(), 40, 10_000);
        let paths: Vec<&Path> = paths.iter().map(|p| p.as_path()).collect();
        let words = |media: &Media| {
            let Media::Text(text) = media else { return Vec::new() };
            [3, 5].map(|n| Media::Text(text[..n].to_owned())).into()
        };
        let mut n = 0;
        // All 40 whole would be 400,000 bytes; nothing is given back.
        run(&paths, &Limits::default(), 40 * 8, &|_| false, &words, |event, _| {
            if let Event::File(place, content) = event {
                let content = content.unwrap();
                assert_eq!((content.waiting_bytes(), content.further.len()), (8, 1));
                let Some(Decoded { media: Media::Text(text), .. }) = content.decoded else { panic!("no text") };
                assert_eq!(text, format!("{place} xx")[..3]);
                n += 1;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(n, 40);
    }

    #[test]
    fn known_contents_are_not_decoded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "words").unwrap();
        let hash = *blake3::hash(b"words").as_bytes();
        assert!(prepare(&path, &Limits::default(), |h| *h == hash, &whole).unwrap().decoded.is_none());
        let refused = prepare(&dir.path().join("absent.txt"), &Limits::default(), |_| false, &whole).err().unwrap();
        assert!(!refused.lasting);
    }
}
