//! Building: learn the map, make the cells, write every vector into its own.

use chiasm_core::{Metric, Progress, Vectors};
use rayon::prelude::*;

use super::cell::{Entry, Writer};
use super::image::{Image, Shape};
use super::kernel::{BLOCK_SLOTS, CODE_DIMS_MAX};
use super::kmeans::Centres;
use super::map::Fitted;
use super::{CellBuildError, CellConfig, Coarse, codes};
use crate::exact::{BuildError, check_order};

/// Vectors per cell at least, on average: with fewer, centres lie where these vectors are and not where the next ones will be.
const CELL_ROWS_MIN: usize = 40;

/// Builds the image of an index. See [`CellIndex::build`](super::CellIndex::build).
pub(crate) fn build(
    ids: &[u64],
    vectors: &Vectors,
    metric: Metric,
    sample: Option<&Vectors>,
    config: &CellConfig,
    progress: &dyn Progress,
) -> Result<Image, CellBuildError> {
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

    progress.start("index: learning which directions matter", None);
    let fitted = Fitted::fit(metric, vectors, sample, config.code_dims.clamp(1, CODE_DIMS_MAX));
    let map = fitted.map(metric, dim);
    let dims = map.dims;
    let mut mapped = vec![0.0; n * dims];
    map.map_vectors(vectors.data(), &mut mapped);
    progress.finish();

    progress.start("index: making cells", None);
    let wanted = config.cells.unwrap_or((5.0 * (n as f64).sqrt()) as usize);
    let centres = Centres::fit(&mapped, dims, wanted.clamp(1, n.div_ceil(CELL_ROWS_MIN).max(1)), config.seed);
    progress.finish();

    progress.start("index: filling cells", Some(n as u64));
    let owners = centres.assign(&mapped);
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
    let residuals = mapped;
    let steps = codes::steps(&residuals, dims);
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
            for (slot, row) in members.iter().enumerate() {
                let (vector, residual) = (vectors.row(*row as usize), &residuals[*row as usize * dims..][..dims]);
                writer.put(blocks, records, slot, Entry { row: *row, vector, residual });
            }
            progress.advance(members.len() as u64);
        },
    );
    progress.finish();
    Ok(image)
}
