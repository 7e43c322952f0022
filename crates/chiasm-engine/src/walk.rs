//! What lies under the roots: found by name and size alone, without opening anything, in an order that depends on names only.
//!
//! Hidden files and folders (names that begin with `.`, `.chiasm` among them) and libraries are left out. Links to folders are
//! not followed, so that no loop can occur; links to files are. What could not be looked into is remembered, for its files are
//! not to be taken for deleted.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use chiasm_core::{Cancel, Modality, Progress};
use chiasm_media::modality_of;

use crate::ingest::Refusal;
use crate::{EngineError, Result};

/// Size and time of a file, by which a change is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Nanoseconds since 1970; before it negative.
    pub(crate) mtime_ns: i64,
}

impl Stat {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Stat {
        let mtime_ns = match metadata.modified().map(|t| t.duration_since(UNIX_EPOCH)) {
            Ok(Ok(after)) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Ok(Err(before)) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
            Err(_) => 0,
        };
        Stat { size: metadata.len(), mtime_ns }
    }
}

/// A file that may become an item.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
    /// By its name; the content decides.
    pub(crate) modality: Modality,
}

/// A text that describes media files beside it.
#[derive(Clone, Debug)]
pub(crate) struct Caption {
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
    /// The media files it describes.
    pub(crate) of: Vec<PathBuf>,
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) files: Vec<File>,
    pub(crate) captions: Vec<Caption>,
    pub(crate) refused: Vec<Refusal>,
    /// Files and folders that could not be looked at.
    pub(crate) unseen: Vec<PathBuf>,
    pub(crate) skipped: BTreeMap<String, usize>,
}

/// An absolute path without `..`, links in its folders resolved, its own last link kept: as the catalogue writes paths.
pub(crate) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return path.canonicalize();
    };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        // A folder that is gone may still be in the catalogue.
        Err(_) => std::path::absolute(path),
    }
}

/// The roots as the catalogue writes them, without those that lie under others.
///
/// # Errors
/// [`EngineError::Io`] for a root that is not there: an unplugged disk must not empty a library.
pub(crate) fn roots(roots: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let resolved: Vec<PathBuf> = roots
        .iter()
        .map(|root| {
            let is_dir = std::fs::metadata(root).map_err(EngineError::io("cannot be indexed", root))?.is_dir();
            let path = if is_dir { root.canonicalize() } else { absolute(root) };
            path.map_err(EngineError::io("cannot be indexed", root))
        })
        .collect::<Result<_>>()?;
    let lies_under_another = |r: &PathBuf| resolved.iter().any(|o| o != r && r.starts_with(o));
    let mut kept: Vec<PathBuf> = resolved.iter().filter(|r| !lies_under_another(r)).cloned().collect();
    kept.sort();
    kept.dedup();
    Ok(kept)
}

/// Finds all files under the roots.
pub(crate) fn walk(
    roots: &[PathBuf],
    views: &[Modality],
    captions: bool,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Walked> {
    let mut walked = Walked::default();
    let mut skipped_hidden = 0;
    for root in roots {
        let entries = walkdir::WalkDir::new(root).follow_links(false).sort_by_file_name().into_iter();
        let entries = entries.filter_entry(|entry| {
            let hidden = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
            skipped_hidden += usize::from(hidden);
            let library = entry.file_type().is_dir() && is_library(entry.path());
            !hidden && !library
        });
        for entry in entries {
            cancel.check()?;
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => {
                    look(entry.path(), entry.path_is_symlink(), views, &mut walked);
                    progress.advance(1);
                }
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    let cause = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    walked.refused.push(Refusal { path: path.clone(), reason: format!("cannot be looked into: {cause}") });
                    walked.unseen.push(path);
                }
            }
        }
    }
    if skipped_hidden > 0 {
        walked.skipped.insert("hidden".to_owned(), skipped_hidden);
    }
    if captions && views.contains(&Modality::Text) {
        attach_captions(&mut walked);
    }
    Ok(walked)
}

fn is_library(folder: &Path) -> bool {
    folder.join(crate::store::FILE_NAME).is_file() && folder.join(crate::space::SPACE_FILE).is_file()
}

fn look(path: &Path, is_link: bool, views: &[Modality], walked: &mut Walked) {
    let mut skip = |reason: String| *walked.skipped.entry(reason).or_insert(0) += 1;
    if is_link && path.is_dir() {
        return skip("link to a folder".to_owned());
    }
    let Some(modality) = modality_of(path) else {
        return skip(match path.extension() {
            Some(extension) => format!("not media: .{}", extension.to_string_lossy().to_lowercase()),
            None => "not media: no extension".to_owned(),
        });
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            walked.refused.push(Refusal { path: path.to_owned(), reason: format!("cannot be looked at: {error}") });
            // A link to nothing is gone, anything else may come back.
            if error.kind() != std::io::ErrorKind::NotFound {
                walked.unseen.push(path.to_owned());
            }
            return;
        }
    };
    if !metadata.is_file() {
        let reason = "is a pipe, socket or device, expected a regular file".to_owned();
        return walked.refused.push(Refusal { path: path.to_owned(), reason });
    }
    // Only its content tells whether it moves: where pictures have no view, it is a video or it is refused.
    let may_move = modality == Modality::Image && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"));
    let is_video = may_move && !views.contains(&Modality::Image) && views.contains(&Modality::Video);
    let modality = if is_video { Modality::Video } else { modality };
    if !views.contains(&modality) {
        return skip(format!("no {modality} view in this space"));
    }
    walked.files.push(File { path: path.to_owned(), stat: Stat::of(&metadata), modality });
}

/// `photo.txt` and `photo.jpg.txt` describe `photo.jpg`: they leave the files and become captions. A text that describes only
/// texts stays a text.
fn attach_captions(walked: &mut Walked) {
    let mut media: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
    for file in walked.files.iter().filter(|f| f.modality != Modality::Text) {
        for key in [file.path.clone(), file.path.with_extension("")] {
            media.entry(key).or_default().push(file.path.clone());
        }
    }
    let is_txt = |f: &File| f.path.extension().is_some_and(|e| e.eq_ignore_ascii_case(OsStr::new("txt")));
    let mut files = Vec::with_capacity(walked.files.len());
    for file in std::mem::take(&mut walked.files) {
        let of = media.get(&file.path.with_extension("")).filter(|_| is_txt(&file));
        match of {
            Some(of) => walked.captions.push(Caption { path: file.path, stat: file.stat, of: of.clone() }),
            None => files.push(file),
        }
    }
    walked.files = files;
}
