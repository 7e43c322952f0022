//! One file: fetched from where an earlier attempt stopped, checked against what the server states, and only then called by its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chiasm_core::{Cancel, Progress};
use chiasm_encode::{ModelName, Stage, StoredFile};

use crate::client::{Failure, Hub, Reply, TRIES, header, is_passing};
use crate::digest::{Digest, Stated};
use crate::error::HubError;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;
/// Bytes of a file whose length nobody states.
const UNSTATED_LEN_MAX: u64 = 1 << 26;

/// What is fetched.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a ModelName,
    pub(crate) commit: &'a str,
    pub(crate) file: &'a str,
    /// What the listing states of it.
    pub(crate) stated: Stated,
}

impl Wanted<'_> {
    /// The file while it comes. Its name holds a mark of the content, so that parts of two versions are not put together.
    pub(crate) fn part(&self, path: &Path) -> PathBuf {
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", self.stated.mark()));
        part.into()
    }

    fn mismatch(&self, what: &'static str, got: String, expected: String) -> HubError {
        HubError::Mismatch { name: self.name.to_string(), file: self.file.to_owned(), what, got, expected }
    }
}

/// Fetches a file into the stage.
pub(crate) fn fetch(
    hub: &Hub,
    stage: &Stage,
    mut wanted: Wanted<'_>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<StoredFile, HubError> {
    let path = stage.path(wanted.file)?;
    let part = wanted.part(&path);
    let io = |source| HubError::Io { path: part.clone(), source };
    if path.is_file() {
        // It came whole the last time, unless someone has been at it since.
        let sums = Digest::of_file(&path, wanted.stated.bytes, cancel)?.map_err(io)?.finish();
        if sums.differs(&wanted.stated).is_none() {
            return Ok(StoredFile { file: wanted.file.to_owned(), bytes: sums.bytes, blake3: sums.blake3 });
        }
        fs::remove_file(&path).map_err(io)?;
    }
    let mut out = OpenOptions::new().create(true).append(true).open(&part).map_err(io)?;
    let mut digest = Digest::of_file(&part, wanted.stated.bytes, cancel)?.map_err(io)?;
    let url = format!("{}/{}/resolve/{}/{}", hub.endpoint, wanted.name.repository(), wanted.commit, wanted.file);
    let mut tries = 0;
    while wanted.stated.bytes.is_none_or(|bytes| digest.bytes() != bytes) {
        cancel.check()?;
        let before = digest.bytes();
        let outcome = attempt(hub, &url, &mut wanted, &mut out, &mut digest, progress, cancel);
        let reason = match outcome {
            Ok(()) => break,
            Err(Attempt::Again(reason)) => reason,
            Err(Attempt::Stop(error)) => {
                // What is too long or of another kind is no beginning of the right one.
                if matches!(error, HubError::Mismatch { .. } | HubError::Refused { .. }) {
                    let _ = fs::remove_file(&part);
                }
                return Err(error);
            }
        };
        // As long as something comes, it is worth going on.
        tries = if digest.bytes() > before { 1 } else { tries + 1 };
        if tries >= TRIES {
            let (name, file) = (wanted.name.to_string(), wanted.file.to_owned());
            return Err(HubError::Broken { name, file, got: digest.bytes(), reason });
        }
        hub.wait(tries, cancel)?;
    }
    out.sync_all().map_err(io)?;
    drop(out);
    let sums = digest.finish();
    if let Some((what, got, expected)) = sums.differs(&wanted.stated) {
        fs::remove_file(&part).map_err(io)?;
        return Err(wanted.mismatch(what, got, expected));
    }
    fs::rename(&part, &path).map_err(io)?;
    Ok(StoredFile { file: wanted.file.to_owned(), bytes: sums.bytes, blake3: sums.blake3 })
}

/// How an attempt ended short of the file's end.
enum Attempt {
    Again(String),
    Stop(HubError),
}

impl From<HubError> for Attempt {
    fn from(error: HubError) -> Self {
        Attempt::Stop(error)
    }
}

/// One connection: takes what comes, from where the part ends.
fn attempt(
    hub: &Hub,
    url: &str,
    wanted: &mut Wanted<'_>,
    out: &mut File,
    digest: &mut Digest,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), Attempt> {
    let from = digest.bytes();
    let reply = match hub.get(url, from) {
        Ok(reply) => reply,
        Err(Failure::Final(error)) => return Err(Attempt::Stop(error)),
        Err(Failure::Transport(reason)) => return Err(Attempt::Again(reason)),
    };
    let fresh = match reply.status {
        200 => true,
        206 if begins_at(&reply, from) => false,
        // The part is longer than the file is, or the server has lost count: from the beginning.
        206 | 416 => {
            restart(out, digest, wanted).map_err(|source| io_error(wanted, source))?;
            return Err(Attempt::Again(format!("the server does not go on from byte {from}")));
        }
        status if is_passing(status) => return Err(Attempt::Again(format!("status {status}"))),
        status => {
            let reason = header(&reply.headers, "x-error-message").map(str::to_owned);
            return Err(Attempt::Stop(HubError::Status { url: url.to_owned(), status, reason }));
        }
    };
    agree(wanted, &reply)?;
    if fresh {
        // Only now is the length known, with which git's name begins; and what came before, if anything did, comes again.
        restart(out, digest, wanted).map_err(|source| io_error(wanted, source))?;
    }
    let limit = wanted.stated.bytes.unwrap_or(UNSTATED_LEN_MAX);
    let mut reader = reply.body.into_reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        cancel.check().map_err(HubError::from)?;
        let n = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return Err(Attempt::Again(e.to_string())),
        };
        if digest.bytes() + n as u64 > limit {
            return Err(Attempt::Stop(wanted.mismatch("the length", format!("above {limit}"), limit.to_string())));
        }
        out.write_all(&buffer[..n]).map_err(|source| io_error(wanted, source))?;
        digest.update(&buffer[..n]);
        progress.advance(n as u64);
    }
    match wanted.stated.bytes {
        Some(bytes) if digest.bytes() < bytes => Err(Attempt::Again(format!("{} of {bytes} bytes came", digest.bytes()))),
        _ => Ok(()),
    }
}

/// Takes what the answer states beside what the listing did; the two must not differ.
fn agree(wanted: &mut Wanted<'_>, reply: &Reply) -> Result<(), HubError> {
    if let (Some(listed), Some(stated)) = (&wanted.stated.sha256, &reply.stated.sha256)
        && !listed.eq_ignore_ascii_case(stated)
    {
        return Err(wanted.mismatch("the SHA-256 that its answer states,", stated.clone(), listed.clone()));
    }
    let length = header(&reply.headers, "content-length").and_then(|v| v.parse().ok()).filter(|_| reply.status == 200);
    let length = reply.stated.bytes.or(length).or_else(|| total(reply));
    match (wanted.stated.bytes, length) {
        (Some(listed), Some(stated)) if listed != stated => {
            return Err(wanted.mismatch("the length", stated.to_string(), listed.to_string()));
        }
        (listed, stated) => wanted.stated.bytes = listed.or(stated),
    }
    wanted.stated.sha256 = wanted.stated.sha256.take().or_else(|| reply.stated.sha256.clone());
    wanted.stated.git = wanted.stated.git.take().or_else(|| reply.stated.git.clone());
    let is_weights = wanted.file.ends_with(".safetensors") || wanted.file.ends_with(".bin");
    if is_weights && wanted.stated.sha256.is_none() {
        return Err(HubError::NoChecksum { name: wanted.name.to_string(), file: wanted.file.to_owned() });
    }
    Ok(())
}

/// Whether a partial answer begins where it was asked to.
fn begins_at(reply: &Reply, from: u64) -> bool {
    let range = header(&reply.headers, "content-range").and_then(|v| v.strip_prefix("bytes "));
    range.and_then(|v| v.split_once('-')).and_then(|(start, _)| start.trim().parse().ok()) == Some(from)
}

/// The length of the whole file that a partial answer states.
fn total(reply: &Reply) -> Option<u64> {
    header(&reply.headers, "content-range")?.rsplit_once('/')?.1.trim().parse().ok()
}

/// Forgets what has come.
fn restart(out: &mut File, digest: &mut Digest, wanted: &Wanted<'_>) -> io::Result<()> {
    out.set_len(0)?;
    *digest = Digest::new(wanted.stated.bytes);
    Ok(())
}

fn io_error(wanted: &Wanted<'_>, source: io::Error) -> HubError {
    HubError::Io { path: PathBuf::from(wanted.file), source }
}
