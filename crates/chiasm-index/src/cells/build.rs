//! Building: learn the map, make the cells, write every vector into its own.

use std::path::Path;

use chiasm_core::{Cancel, MatrixView, Metric, Progress, Vectors};
use rayon::prelude::*;

use super::cell::{Entry, Writer};
use super::coarse::Coarse;
use super::draft::{Draft, Learned, Subject};
use super::image::{Image, Shape};
use super::kernel::{BLOCK_SLOTS, CODE_DIMS_MAX};
use super::kmeans::Centres;
use super::map::{self, Fitted};
use super::{CellBuildError, CellConfig, codes};
use crate::exact::{BuildError, check_order};
use crate::pages::Pages;

/// Vectors per cell at least, on average: with fewer, centres lie where these vectors are and not where the next ones will be.
const CELL_ROWS_MIN: usize = 40;

/// Rows whose cells are found, and kept in a draft, at a time.
const PIECE: usize = 1 << 16;

/// How a build goes about: who hears of it, who may stop it, and where it keeps what it has so far.
#[derive(Clone, Copy)]
pub struct Building<'a> {
    /// Hears of the stages.
    pub progress: &'a dyn Progress,
    /// Stops the build within about a second.
    pub cancel: &'a Cancel,
    /// A file in which what was found is kept as it comes, 4 bytes per vector and some megabytes: a build of the same vectors with the same
    /// settings that was stopped or killed goes on from there, to the same index. The caller deletes it once the index is written.
    pub draft: Option<&'a Path>,
}

/// What an index is built of; see [`CellIndex::build`](super::CellIndex::build).
#[derive(Clone, Copy)]
pub(crate) struct Material<'a> {
    pub(crate) ids: &'a [u64],
    /// At unit length for the cosine, as is the sample.
    pub(crate) vectors: MatrixView<'a>,
    pub(crate) metric: Metric,
    pub(crate) sample: Option<&'a Vectors>,
}

/// Builds the image of an index.
pub(crate) fn build(of: Material<'_>, config: &CellConfig, how: &Building<'_>) -> Result<Image, CellBuildError> {
    let (Material { ids, vectors, metric, sample }, Building { progress, cancel, .. }) = (of, *how);
    if ids.len() != vectors.n() {
        return Err(BuildError::Count { ids: ids.len(), vectors: vectors.n() }.into());
    }
    check_order(ids, 0, None)?;
    if let Some(sample) = sample.filter(|sample| sample.dim() != vectors.dim()) {
        return Err(CellBuildError::Sample { got: sample.dim(), expected: vectors.dim() });
    }
    if vectors.n() > u32::MAX as usize {
        return Err(CellBuildError::TooMany { got: vectors.n() });
    }
    let (n, dim) = (vectors.n(), vectors.dim());
    let Divided { fitted, centres, mut mapped, owners } = divide(of, config, how)?;
    let dims = fitted.dims;

    progress.start("index: filling cells", Some(n as u64));
    let n_cells = centres.n().max(1);
    let mut members = vec![Vec::new(); n_cells];
    owners.iter().enumerate().for_each(|(row, cell)| members[*cell as usize].push(row as u32));
    let blocks_of = |members: &Vec<u32>| members.len().div_ceil(BLOCK_SLOTS);
    let shape = Shape { metric, n, dim, dims, cells: n_cells, blocks: members.iter().map(blocks_of).sum() };
    let mut image = Image::new(shape).map_err(CellBuildError::Memory)?;
    let s = image.sections();
    s.mean.copy_from_slice(&fitted.mean);
    s.maps[..fitted.of_vectors.len()].copy_from_slice(&fitted.of_vectors);
    s.maps[fitted.of_vectors.len()..].copy_from_slice(&fitted.of_queries);
    s.centres[..centres.rows.len()].copy_from_slice(&centres.rows);
    s.ids.copy_from_slice(ids);
    let centre_steps = codes::steps(s.centres, dims);
    // A centre is what its code stands for, so that scanning codes of centres gives the very scores that vectors are added to.
    let coarse = Coarse::new(&shape, s.centres, &centre_steps);
    let mut decoded = vec![0.0; n_cells * dims];
    decoded.chunks_exact_mut(dims).enumerate().for_each(|(cell, out)| coarse.decode(cell, &centre_steps, out));
    mapped.par_chunks_exact_mut(dims).zip(&owners).for_each(|(row, cell)| {
        row.iter_mut().zip(&decoded[*cell as usize * dims..]).for_each(|(v, c)| *v -= c);
    });
    let residuals = &mapped[..];
    let steps = codes::steps(residuals, dims);
    s.steps[..dims].copy_from_slice(&steps);
    s.steps[dims..].copy_from_slice(&centre_steps);
    for (c, members) in members.iter().enumerate() {
        let (slots, blocks) = s.starts.split_at_mut(n_cells + 1);
        slots[c + 1] = slots[c] + members.len() as u64;
        blocks[c + 1] = blocks[c] + blocks_of(members) as u64;
        members.iter().enumerate().for_each(|(slot, row)| s.places[*row as usize] = [c as u32, slot as u32]);
    }
    // Each cell's part of the two large sections, to be filled by whoever is free.
    let (mut blocks, mut records) = (s.blocks, s.records);
    let mut parts = Vec::with_capacity(n_cells);
    for members in &members {
        let (own_blocks, other_blocks) = blocks.split_at_mut(blocks_of(members) * shape.block_len());
        let (own_records, other_records) = records.split_at_mut(members.len() * shape.record_len());
        (blocks, records) = (other_blocks, other_records);
        parts.push((members, own_blocks, own_records));
    }
    parts.into_par_iter().for_each_init(
        || Writer::new(shape, &fitted.mean, &steps),
        |writer, (members, blocks, records)| {
            if cancel.is_cancelled() {
                return;
            }
            for (slot, row) in members.iter().enumerate() {
                let (vector, residual) = (vectors.row(*row as usize), &residuals[*row as usize * dims..][..dims]);
                writer.put(blocks, records, slot, Entry { row: *row, vector, residual });
            }
            progress.advance(members.len() as u64);
        },
    );
    progress.finish();
    cancel.check()?;
    Ok(image)
}

/// Vectors divided into cells.
struct Divided {
    fitted: Fitted,
    centres: Centres,
    /// Every vector after the map.
    mapped: Pages<f32>,
    /// The cell of each.
    owners: Vec<u32>,
}

/// Learns the map and the centres and finds the cell of every vector, or takes them from the draft as far as they stand there.
fn divide(of: Material<'_>, config: &CellConfig, how: &Building<'_>) -> Result<Divided, CellBuildError> {
    let (Material { vectors, metric, sample, .. }, Building { progress, cancel, .. }) = (of, *how);
    let (n, dim) = (vectors.n(), vectors.dim());
    // A draft saves time, no more: where it cannot be kept, the build goes on without.
    let without = |e: std::io::Error| progress.note(&format!("a build that is stopped now will begin anew: {e}"));
    let mut draft = how.draft.and_then(|path| {
        let subject = Subject::of(of, config);
        Draft::open(path, &subject, n, map::width(metric, dim)).map_err(without).ok()
    });
    let keep = |draft: &mut Option<Draft>, put: &dyn Fn(&mut Draft) -> std::io::Result<()>| {
        if let Some(Err(e)) = draft.as_mut().map(put) {
            without(e);
            *draft = None;
        }
    };

    let (fitted, known) = match draft.as_mut().and_then(|draft| draft.learned.take()) {
        Some(Learned { fitted, centres }) => {
            let known = draft.as_ref().map_or(0, |draft| draft.owners.len());
            progress.note(&format!("index: goes on with a build that was stopped; {known} of {n} vectors have their cells"));
            (fitted, Some(centres))
        }
        None => {
            progress.start("index: learning which directions matter", None);
            let dims = config.code_dims.clamp(1, CODE_DIMS_MAX);
            let fitted = Fitted::fit(metric, vectors, sample.map(Vectors::view), dims);
            progress.finish();
            (fitted, None)
        }
    };
    let (map, dims) = (fitted.map(metric, dim), fitted.dims);
    let mut mapped = Pages::try_zeros(n * dims).map_err(CellBuildError::Memory)?;
    for (vectors, mapped) in vectors.data().chunks(PIECE * dim).zip(mapped.chunks_mut(PIECE * dims)) {
        cancel.check()?;
        map.map_vectors(vectors, mapped);
    }

    let centres = match known {
        Some(centres) => centres,
        None => {
            progress.start("index: making cells", None);
            let wanted = config.cells.unwrap_or((5.0 * (n as f64).sqrt()) as usize);
            let wanted = wanted.clamp(1, n.div_ceil(CELL_ROWS_MIN).max(1));
            let centres = Centres::fit(&mapped, dims, wanted, config.seed, cancel);
            progress.finish();
            cancel.check()?;
            keep(&mut draft, &|draft| draft.keep_learned(&fitted, &centres));
            centres
        }
    };

    progress.start("index: finding cells", Some(n as u64));
    let mut owners = draft.as_mut().map(|draft| std::mem::take(&mut draft.owners)).unwrap_or_default();
    progress.advance(owners.len() as u64);
    for mapped in mapped[owners.len() * dims..].chunks(PIECE * dims) {
        cancel.check()?;
        let piece = centres.assign(mapped);
        keep(&mut draft, &|draft| draft.keep_owners(&piece));
        progress.advance(piece.len() as u64);
        owners.extend(piece);
    }
    progress.finish();
    Ok(Divided { fitted, centres, mapped, owners })
}
