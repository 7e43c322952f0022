//! Changing an index that is in use: inserting, removing, and making it whole again.
//!
//! The image stays as it is. A cell that gets a vector has it in a part of its own behind what the image has; a removed vector is marked and
//! no longer found. A cell that has grown too large is copied out of the image: first without its marked vectors, then, if that is not enough,
//! parted in two. So an insertion costs the search for its cell, whatever the number of vectors, and no other vector moves.
//!
//! A clone of a [`CellIndex`] shares the image and all cells, and a change copies only the cell it touches; what is copied at once are the
//! lists of what came, moved and went since the last compaction. A writer changes its own clone while readers search theirs, and hands over
//! the changed one when it is done: [`SharedCells`] does that. So many small changes are best made some hundred at a time.
//!
//! [`CellIndex::compact`] writes what is there into a new image without asking for the original vectors: codes and digits are copied as they
//! are. Each row gets a new number, in the order of ids.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chiasm_core::{Cancel, Metric, VectorIndex as _, Vectors};

use super::cell::{CellRef, Entry, Writer, put_row};
use super::image::{Image, Shape};
use super::kernel::BLOCK_SLOTS;
use super::kmeans::Centres;
use super::{CellBuildError, CellIndex, cell_of, digits};

/// A cell is parted when it has so many times the vectors of an average one.
const TOO_FULL: usize = 4;

/// No cell is parted below so many vectors.
const PARTED_FROM: usize = 128;

/// What was changed since the image was made.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    /// Cells that are no longer those of the image; empty while there are none.
    cells: Vec<Option<Arc<OwnCell>>>,
    /// Ids of the rows behind those of the image.
    ids: Vec<u64>,
    rows: HashMap<u64, u32>,
    /// Where a row is that is not where the image says.
    moved: HashMap<u32, [u32; 2]>,
    /// A bit for each row that was removed.
    dead: Vec<u64>,
    n_dead: usize,
    /// Centres of cells that were parted or added, in place of or behind those of the image.
    centres: BTreeMap<u32, Arc<[f32]>>,
}

/// A cell, or what came to it, in memory of its own.
#[derive(Clone, Default)]
pub(crate) struct OwnCell {
    /// Whether what the image has of it no longer counts.
    whole: bool,
    n: usize,
    blocks: Vec<u8>,
    records: Vec<u8>,
}

impl OwnCell {
    /// A cell that takes the place of the image's.
    fn new() -> Self {
        Self { whole: true, ..Self::default() }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(crate) fn as_ref(&self) -> CellRef<'_> {
        CellRef { n: self.n, blocks: &self.blocks, records: &self.records }
    }

    /// Makes room for one more and gives its slot.
    fn grow(&mut self, shape: &Shape) -> usize {
        self.n += 1;
        self.blocks.resize(self.n.div_ceil(BLOCK_SLOTS) * shape.block_len(), 0);
        self.records.resize(self.n * shape.record_len(), 0);
        self.n - 1
    }

    /// Takes over a slot of another cell, code and record as they are.
    fn take(&mut self, shape: &Shape, from: CellRef<'_>, slot: usize, row: u32) {
        let to = self.grow(shape);
        copy_code(shape, from.blocks, slot, &mut self.blocks, to);
        put_row(shape, &mut self.blocks, to, row);
        copy_record(shape, from, slot, &mut self.records, to, row);
    }
}

/// Copies the code of a slot: its part of each piece of its block.
fn copy_code(shape: &Shape, from: &[u8], slot: usize, to: &mut [u8], to_slot: usize) {
    let place = |slot: usize| slot / BLOCK_SLOTS * shape.block_len() + slot % BLOCK_SLOTS * 4;
    let (from_at, to_at) = (place(slot), place(to_slot));
    for step in (0..shape.codes_len()).step_by(4 * BLOCK_SLOTS) {
        to[to_at + step..to_at + step + 4].copy_from_slice(&from[from_at + step..from_at + step + 4]);
    }
}

fn copy_record(shape: &Shape, from: CellRef<'_>, slot: usize, to: &mut [u8], to_slot: usize, row: u32) {
    let record = &mut to[to_slot * shape.record_len()..(to_slot + 1) * shape.record_len()];
    record.copy_from_slice(from.record_bytes(shape, slot));
    record[8..12].copy_from_slice(&row.to_le_bytes());
}

impl Changes {
    /// What is of a cell and not in the image.
    #[inline]
    pub(crate) fn cell(&self, cell: usize) -> Option<&OwnCell> {
        self.cells.get(cell)?.as_deref()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.n_dead == 0
    }

    pub(crate) fn n_dead(&self) -> usize {
        self.n_dead
    }

    #[inline]
    pub(crate) fn is_dead(&self, row: u32) -> bool {
        self.dead.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(crate) fn n_new(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn new_id(&self, at: usize) -> Option<u64> {
        self.ids.get(at).copied()
    }

    pub(crate) fn place(&self, row: u32) -> Option<[u32; 2]> {
        self.moved.get(&row).copied()
    }

    /// Bytes beside the image's.
    pub(crate) fn memory_bytes(&self) -> usize {
        let cells: usize = self.cells.iter().flatten().map(|cell| cell.blocks.len() + cell.records.len()).sum();
        cells + 8 * self.cells.len() + 24 * (self.ids.len() + self.moved.len()) + 8 * self.dead.len()
    }
}

impl CellIndex {
    /// Rows there ever were, removed ones among them: what a filter ranges over. A row keeps its number until
    /// [`CellIndex::compact`].
    pub fn n_rows(&self) -> usize {
        self.image.shape.n + self.changes.n_new()
    }

    /// The ids that are here, in the order of their rows: ascending, those inserted since the index was made behind them.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        (0..self.n_rows() as u32).filter(|row| !self.changes.is_dead(*row)).filter_map(|row| self.id(row))
    }

    /// The row of an id that is here.
    pub fn row_of(&self, id: u64) -> Option<usize> {
        let new = self.changes.rows.get(&id).copied();
        let row = new.or_else(|| self.image.ids().binary_search(&id).ok().map(|row| row as u32))?;
        (!self.changes.is_dead(row)).then_some(row as usize)
    }

    /// Removes a vector; says whether it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(row) = self.row_of(id) else { return false };
        let changes = &mut self.changes;
        changes.dead.resize(changes.dead.len().max(row / 64 + 1), 0);
        changes.dead[row / 64] |= 1 << (row % 64);
        changes.n_dead += 1;
        changes.rows.remove(&id);
        true
    }

    /// Inserts vectors; one that is known under an id is replaced.
    ///
    /// # Errors
    /// [`CellBuildError::Vectors`] for another dimension, [`CellBuildError::Build`] for another number of ids than of vectors;
    /// [`CellBuildError::TooMany`]. Nothing is inserted then.
    pub fn insert(&mut self, ids: &[u64], vectors: &Vectors) -> Result<(), CellBuildError> {
        if vectors.dim() != self.dim() {
            return Err(CellBuildError::Vectors { got: vectors.dim(), expected: self.dim() });
        }
        if ids.len() != vectors.n() {
            return Err(crate::BuildError::Count { ids: ids.len(), vectors: vectors.n() }.into());
        }
        let after = self.n_rows() + ids.len();
        if after > u32::MAX as usize {
            return Err(CellBuildError::TooMany { got: after });
        }
        let unit;
        let vectors = if self.metric() == Metric::Cosine {
            unit = crate::exact::unit(vectors);
            &unit
        } else {
            vectors
        };
        let dims = self.image.shape.dims;
        let mut mapped = vec![0.0; vectors.n() * dims];
        self.map().map_vectors(vectors.data(), &mut mapped);
        for ((id, vector), mapped) in ids.iter().zip(vectors.rows()).zip(mapped.chunks_exact(dims)) {
            self.remove(*id);
            let row = self.n_rows() as u32;
            self.changes.ids.push(*id);
            self.changes.rows.insert(*id, row);
            let cell = self.nearest_cell(mapped);
            self.put(cell, row, vector, mapped);
            self.part_if_too_full(cell);
        }
        Ok(())
    }

    /// Where a row lies.
    pub(crate) fn place(&self, row: u32) -> Option<[u32; 2]> {
        self.changes.place(row).or_else(|| self.image.places().get(row as usize).copied())
    }

    /// The cell whose centre, as its code stands for it, is nearest, or nearly so.
    fn nearest_cell(&self, mapped: &[f32]) -> usize {
        self.coarse.levels(self.image.steps().1).nearest(mapped) as usize
    }

    /// What is of a cell and not in the image, to be changed.
    fn own(&mut self, cell: usize) -> &mut OwnCell {
        let cells = &mut self.changes.cells;
        if cells.len() < self.coarse.n {
            cells.resize(self.coarse.n, None);
        }
        Arc::make_mut(cells[cell].get_or_insert_default())
    }

    fn put(&mut self, cell: usize, row: u32, vector: &[f32], mapped: &[f32]) {
        let shape = self.image.shape;
        let mut residual = vec![0.0; shape.dims];
        self.coarse.decode(cell, self.image.steps().1, &mut residual);
        residual.iter_mut().zip(mapped).for_each(|(centre, v)| *centre = v - *centre);
        let image = self.image.clone();
        let slot_in_cell = self.cell(cell).n();
        let own = self.own(cell);
        let slot = own.grow(&shape);
        Writer::new(shape, image.mean(), image.steps().0).put(
            &mut own.blocks,
            &mut own.records,
            slot,
            Entry { row, vector, residual: &residual },
        );
        self.changes.moved.insert(row, [cell as u32, slot_in_cell as u32]);
    }

    /// Vectors of an average cell, times what is too much.
    fn most_in_a_cell(&self) -> usize {
        (self.len() / self.coarse.n * TOO_FULL).max(PARTED_FROM)
    }

    fn part_if_too_full(&mut self, cell: usize) {
        let most = self.most_in_a_cell();
        if self.cell(cell).n() <= most {
            return;
        }
        let shape = self.image.shape;
        // Without those that were removed, if that is enough.
        let (image, own) = (self.image.clone(), self.changes.cells.get(cell).cloned().flatten());
        let old = cell_of(&image, own.as_deref(), cell);
        let rows: Vec<(usize, u32)> =
            (0..old.n()).map(|slot| (slot, old.row(&shape, slot))).filter(|(_, row)| !self.changes.is_dead(*row)).collect();
        if rows.len() <= most / 2 {
            let mut kept = OwnCell::new();
            for (slot, row) in rows {
                self.changes.moved.insert(row, [cell as u32, kept.n as u32]);
                let (part, slot) = old.part(slot);
                kept.take(&shape, part, slot, row);
            }
            *self.own(cell) = kept;
            return;
        }
        // Then in two: from the digits, which stand for the vectors to twelve bits.
        let mut vectors = vec![0.0; rows.len() * shape.dim];
        for ((slot, _), vector) in rows.iter().zip(vectors.chunks_exact_mut(shape.dim)) {
            let record = old.record(&shape, *slot);
            digits::decode(record.bytes, record.halves, record.scale.scale, self.image.mean(), vector);
        }
        let mut mapped = vec![0.0; rows.len() * shape.dims];
        self.map().map_vectors(&vectors, &mut mapped);
        let halves = Centres::fit(&mapped, shape.dims, 2, 1, &Cancel::default());
        let owners = halves.assign(&mapped);
        if halves.n() < 2 || owners.iter().all(|o| *o == owners[0]) {
            // All alike: nothing parts them, and a scan is what they need.
            return;
        }
        let new = self.coarse.n;
        let (left, right) = halves.rows.split_at(shape.dims);
        self.coarse = Arc::new(self.coarse.with(&shape, &[(cell, left), (new, right)], self.image.steps().1));
        self.changes.centres.extend([(cell as u32, left.into()), (new as u32, right.into())]);
        *self.own(cell) = OwnCell::new();
        self.changes.cells[new] = Some(Arc::new(OwnCell::new()));
        for (i, (slot, row)) in rows.into_iter().enumerate() {
            let to = if owners[i] == 0 { cell } else { new };
            self.put(to, row, &vectors[i * shape.dim..(i + 1) * shape.dim], &mapped[i * shape.dims..(i + 1) * shape.dims]);
            // The record as it was: written anew it would be rounded once more.
            let (part, slot) = old.part(slot);
            let own = self.own(to);
            copy_record(&shape, part, slot, &mut own.records, own.n - 1, row);
        }
    }

    /// Writes everything that is there into a new image: marked vectors are gone, rows are in the order of ids. Original vectors are not asked
    /// for, answers stay the same.
    ///
    /// # Errors
    /// [`CellBuildError::Memory`].
    pub fn compact(&self) -> Result<Self, CellBuildError> {
        let old = self.image.shape;
        let mut ids: Vec<(u64, u32)> = (0..self.n_rows() as u32)
            .filter(|row| !self.changes.is_dead(*row))
            .map(|row| (self.id(row).unwrap_or(0), row))
            .collect();
        ids.sort_unstable();
        let mut new_rows = vec![u32::MAX; self.n_rows()];
        ids.iter().enumerate().for_each(|(new, (_, row))| new_rows[*row as usize] = new as u32);
        let n_cells = self.coarse.n;
        let alive = |cell: usize| {
            let cell = self.cell(cell);
            let rows = (0..cell.n()).map(move |slot| (slot, cell.row(&old, slot)));
            (cell, rows.filter(|(_, row)| !self.changes.is_dead(*row)).collect::<Vec<_>>())
        };
        let counts: Vec<usize> = (0..n_cells).map(|cell| alive(cell).1.len()).collect();
        let blocks = counts.iter().map(|n| n.div_ceil(BLOCK_SLOTS)).sum();
        let shape = Shape { n: ids.len(), cells: n_cells, blocks, ..old };
        let mut image = Image::new(shape).map_err(CellBuildError::Memory)?;
        let s = image.sections();
        s.mean.copy_from_slice(self.image.mean());
        let (of_vectors, of_queries) = self.image.maps();
        s.maps[..of_vectors.len()].copy_from_slice(of_vectors);
        s.maps[of_vectors.len()..].copy_from_slice(of_queries);
        let (steps, centre_steps) = self.image.steps();
        s.steps[..steps.len()].copy_from_slice(steps);
        s.steps[steps.len()..].copy_from_slice(centre_steps);
        s.centres[..self.image.centres().len()].copy_from_slice(self.image.centres());
        for (cell, centre) in &self.changes.centres {
            s.centres[*cell as usize * shape.dims..][..shape.dims].copy_from_slice(centre);
        }
        s.ids.iter_mut().zip(&ids).for_each(|(to, (id, _))| *to = *id);
        let (slots, blocks) = s.starts.split_at_mut(n_cells + 1);
        for c in 0..n_cells {
            slots[c + 1] = slots[c] + counts[c] as u64;
            blocks[c + 1] = blocks[c] + counts[c].div_ceil(BLOCK_SLOTS) as u64;
            let to_blocks = &mut s.blocks[blocks[c] as usize * shape.block_len()..blocks[c + 1] as usize * shape.block_len()];
            let to_records = &mut s.records[slots[c] as usize * shape.record_len()..slots[c + 1] as usize * shape.record_len()];
            let (from, rows) = alive(c);
            for (to, (slot, row)) in rows.into_iter().enumerate() {
                let row = new_rows[row as usize];
                s.places[row as usize] = [c as u32, to as u32];
                let (part, slot) = from.part(slot);
                copy_code(&shape, part.blocks, slot, to_blocks, to);
                put_row(&shape, to_blocks, to, row);
                copy_record(&shape, part, slot, to_records, to, row);
            }
        }
        Ok(Self::of_image(image, self.tuned))
    }
}

/// An index that some read while one changes it.
pub struct SharedCells {
    current: RwLock<Arc<CellIndex>>,
    writing: Mutex<()>,
}

impl SharedCells {
    /// Shares an index.
    pub fn new(index: CellIndex) -> Self {
        Self { current: RwLock::new(Arc::new(index)), writing: Mutex::new(()) }
    }

    /// The index as it is now; whatever happens meanwhile, this stays as it is.
    pub fn read(&self) -> Arc<CellIndex> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes a copy and then puts it in the place of the current one: readers see all of the change or nothing. Changes follow each
    /// other; when `change` fails or panics, nothing is changed.
    ///
    /// # Errors
    /// What `change` gives.
    pub fn change<T, E>(&self, change: impl FnOnce(&mut CellIndex) -> Result<T, E>) -> Result<T, E> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = CellIndex::clone(&self.read());
        let answer = change(&mut index)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
        Ok(answer)
    }
}
