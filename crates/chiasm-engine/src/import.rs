//! Ready embeddings as a library.

use std::path::Path;

use chiasm_align::{About, PipelineSpace, View as PipelineView};
use chiasm_core::{Cancel, Metric, Modality, Progress, Vectors};
use chiasm_encode::ModelDirs;
use rusqlite::Connection;

use crate::ingest::{add_segment, insert_path};
use crate::lane::{self, insert_vector};
use crate::space::{IMPORTED, References, View};
use crate::store::vector_bytes;
use crate::{EngineError, Library, Result, Space};

/// Rows per transaction.
const BATCH: usize = 1000;

/// Vectors that were made elsewhere, of one modality, with a name for each.
#[derive(Clone, Debug)]
pub struct ReadyVectors {
    /// What they stand for.
    pub modality: Modality,
    /// `[n, dim]`; scaled to unit length when the metric is cosine.
    pub vectors: Vectors,
    /// One per row; paths or any names, distinct within the modality. They become the items' paths; where
    /// two modalities share a name, the later one is `kind:name`.
    pub names: Vec<String>,
    /// One per row or empty: what is searched by words and shown as snippet (a caption, a text).
    pub texts: Vec<String>,
}

impl Library {
    /// Makes a library of vectors that were made elsewhere by a dual encoder: its space has the identity for each modality and
    /// no encoders, so it is asked by items and by vectors. All must have the same dimension. An item's content hash is that
    /// of its modality, name and vector.
    ///
    /// # Errors
    /// [`EngineError::Import`] for vectors that do not fit; those of [`Library::create`].
    pub fn import_vectors(
        dir: &Path,
        space_name: &str,
        metric: Metric,
        ready: &[ReadyVectors],
        progress: &dyn Progress,
    ) -> Result<Library> {
        let refuse = |reason: String| Err(EngineError::Import(reason));
        let Some(dim) = ready.first().map(|r| r.vectors.dim()) else {
            return refuse("nothing to import: give at least one file of vectors".to_owned());
        };
        let mut views = Vec::new();
        for r in ready {
            let n = r.vectors.n();
            if r.vectors.dim() != dim {
                return refuse(format!(
                    "{} vectors have {} dimensions, the others {dim}: all must be of one space",
                    r.modality,
                    r.vectors.dim()
                ));
            }
            if r.names.len() != n || !(r.texts.is_empty() || r.texts.len() == n) {
                return refuse(format!(
                    "{n} {} vectors came with {} names and {} texts: one name each is needed",
                    r.modality,
                    r.names.len(),
                    r.texts.len()
                ));
            }
            let mut seen = std::collections::HashSet::new();
            if let Some(twice) = r.names.iter().find(|name| !seen.insert(name.as_str())) {
                return refuse(format!("the name `{twice}` stands for two {} vectors: names must differ", r.modality));
            }
            if views.iter().any(|(m, _)| *m == r.modality) {
                return refuse(format!("{} came twice: put its vectors into one file", r.modality));
            }
            views.push((r.modality, PipelineView { input_dim: dim, steps: Vec::new() }));
        }
        let projection = PipelineSpace::new(
            metric,
            views.iter().map(|(_, v)| v.clone()).collect(),
            About { method: IMPORTED.to_owned(), ..About::default() },
        )?;
        // Nothing tells two imports of the same shape apart but what they are called.
        let view = |m: &Modality| View {
            modality: *m,
            encoder: IMPORTED.to_owned(),
            encoder_fingerprint: format!("{IMPORTED} {space_name}"),
        };
        let views: Vec<View> = views.iter().map(|(m, _)| view(m)).collect();
        let references = References { views: vec![Vec::new(); views.len()], paired: false };
        let space = Space::assemble(space_name.to_owned(), views, projection, references, None, ModelDirs::default())?;
        let library = Library::create(dir, &space)?;
        let _lock = crate::lock::WriteLock::take(dir)?;
        let mut writer = library.store.writer()?;
        progress.start("import", Some(ready.iter().map(|r| r.vectors.n() as u64).sum()));
        for r in ready {
            let mut vectors = r.vectors.clone();
            if metric == Metric::Cosine {
                vectors.normalise();
            }
            let rows: Vec<(usize, &[f32])> = vectors.rows().enumerate().collect();
            for chunk in rows.chunks(BATCH) {
                writer.batch(|tx| chunk.iter().try_for_each(|(i, row)| add(tx, r, *i, row)))?;
                progress.advance(chunk.len() as u64);
            }
        }
        progress.finish();
        drop(writer);
        library.refresh()?;
        // Not to be stopped: there is no command that would make them later.
        library.refresh_cells(None, progress, &Cancel::default())?;
        Ok(library)
    }
}

fn add(tx: &Connection, ready: &ReadyVectors, i: usize, row: &[f32]) -> rusqlite::Result<()> {
    let (kind, name) = (ready.modality.as_str(), &ready.names[i]);
    let mut hasher = blake3::Hasher::new();
    for part in [kind.as_bytes(), name.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&vector_bytes(row));
    let sql = "INSERT INTO items (hash, kind, format, size) VALUES (?1, ?2, 'imported', 0)";
    tx.prepare_cached(sql)?.execute((hasher.finalize().as_bytes(), kind))?;
    let item = tx.last_insert_rowid();
    // One name may stand for a picture and for its text: paths are told apart by the kind.
    let taken = tx.prepare_cached("SELECT 1 FROM paths WHERE path = ?1")?.exists([name.as_bytes()])?;
    let path = if taken { format!("{kind}:{name}") } else { name.clone() };
    insert_path(tx, path.as_bytes(), 0, 0, true, item)?;
    let body = ready.texts.get(i).map(String::as_str);
    let segment = add_segment(tx, item, None, ready.modality, (None, None, None), body)?;
    insert_vector(tx, lane::FIRST, segment, row)
}
