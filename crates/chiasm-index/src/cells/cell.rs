//! One cell: vectors that score alike, as codes to be scanned and records to be compared.

use super::codes;
use super::digits::{self, Scale};
use super::image::{RECORD_HEAD, Shape, numbers, numbers_mut};
use super::kernel::{BLOCK_SLOTS, put_code};

/// A cell: what the image has of it, and behind that what came since. Slots are counted through both.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(crate) parts: [CellRef<'a>; 2],
}

impl<'a> Cell<'a> {
    /// How many slots it has.
    #[inline]
    pub(crate) fn n(&self) -> usize {
        self.parts[0].n + self.parts[1].n
    }

    /// The part that a slot lies in, and its number there.
    #[inline]
    pub(crate) fn part(&self, slot: usize) -> (CellRef<'a>, usize) {
        let [first, second] = self.parts;
        if slot < first.n { (first, slot) } else { (second, slot - first.n) }
    }

    /// Row of a slot.
    pub(crate) fn row(&self, shape: &Shape, slot: usize) -> u32 {
        let (part, slot) = self.part(slot);
        part.row(shape, slot)
    }

    /// Bytes of a slot's record.
    #[inline]
    pub(crate) fn record_bytes(&self, shape: &Shape, slot: usize) -> &'a [u8] {
        let (part, slot) = self.part(slot);
        part.record_bytes(shape, slot)
    }

    /// A slot's record.
    #[inline]
    pub(crate) fn record(&self, shape: &Shape, slot: usize) -> Record<'a> {
        let (part, slot) = self.part(slot);
        part.record(shape, slot)
    }
}

/// A part of a cell, wherever it lies.
#[derive(Clone, Copy, Default)]
pub(crate) struct CellRef<'a> {
    pub(crate) n: usize,
    pub(crate) blocks: &'a [u8],
    pub(crate) records: &'a [u8],
}

/// What a slot's record holds.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) scale: Scale,
    pub(crate) row: u32,
    pub(crate) bytes: &'a [i8],
    pub(crate) halves: &'a [u8],
}

impl<'a> CellRef<'a> {
    /// Row of a slot, beside its code.
    #[inline]
    pub(crate) fn row(&self, shape: &Shape, slot: usize) -> u32 {
        let at = slot / BLOCK_SLOTS * shape.block_len() + shape.codes_len() + slot % BLOCK_SLOTS * 4;
        u32::from_le_bytes(self.blocks[at..at + 4].try_into().expect("four bytes"))
    }

    /// Bytes of a slot's record.
    #[inline]
    pub(crate) fn record_bytes(&self, shape: &Shape, slot: usize) -> &'a [u8] {
        let len = shape.record_len();
        &self.records[slot * len..(slot + 1) * len]
    }

    /// A slot's record.
    #[inline]
    pub(crate) fn record(&self, shape: &Shape, slot: usize) -> Record<'a> {
        let bytes = self.record_bytes(shape, slot);
        let head: &[f32] = numbers(&bytes[..8]);
        let row = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        let (first, second) = bytes[RECORD_HEAD..].split_at(shape.digits());
        // SAFETY: a signed byte for an unsigned one, of the same size and alignment.
        let first = unsafe { std::slice::from_raw_parts(first.as_ptr().cast::<i8>(), first.len()) };
        Record { scale: Scale { scale: head[0], offset: head[1] }, row, bytes: first, halves: &second[..shape.digits() / 2] }
    }
}

/// A vector that enters a cell.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) row: u32,
    pub(crate) vector: &'a [f32],
    /// What is left of it, mapped, beside the centre.
    pub(crate) residual: &'a [f32],
}

/// Writes entries into the slots of a cell; keeps the room that this takes.
pub(crate) struct Writer<'a> {
    shape: Shape,
    mean: &'a [f32],
    steps: &'a [f32],
    code: Vec<u8>,
    room: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(shape: Shape, mean: &'a [f32], steps: &'a [f32]) -> Self {
        Self { shape, mean: &mean[..shape.dim], steps, code: vec![0; shape.code_width()], room: Vec::new() }
    }

    /// Fills slot `slot` of a cell that has room for it.
    pub(crate) fn put(&mut self, blocks: &mut [u8], records: &mut [u8], slot: usize, entry: Entry<'_>) {
        let shape = &self.shape;
        codes::encode(entry.residual, self.steps, &mut self.code[..shape.dims]);
        put_code(blocks, shape.block_len(), slot, &self.code);
        put_row(shape, blocks, slot, entry.row);
        let record = &mut records[slot * shape.record_len()..(slot + 1) * shape.record_len()];
        record[8..12].copy_from_slice(&entry.row.to_le_bytes());
        let (head, rest) = record.split_at_mut(RECORD_HEAD);
        let (first, second) = rest.split_at_mut(shape.digits());
        // SAFETY: a signed byte for an unsigned one, of the same size and alignment; the slice is borrowed alone.
        let first = unsafe { std::slice::from_raw_parts_mut(first.as_mut_ptr().cast::<i8>(), first.len()) };
        let scale = digits::encode(entry.vector, self.mean, first, &mut second[..shape.digits() / 2], &mut self.room);
        let head: &mut [f32] = numbers_mut(&mut head[..8]);
        head[0] = scale;
        head[1] = digits::offset(shape.metric, entry.vector);
    }
}

/// Writes the row of a slot beside its code.
pub(crate) fn put_row(shape: &Shape, blocks: &mut [u8], slot: usize, row: u32) {
    let at = slot / BLOCK_SLOTS * shape.block_len() + shape.codes_len() + slot % BLOCK_SLOTS * 4;
    blocks[at..at + 4].copy_from_slice(&row.to_le_bytes());
}
