//! Searching: choose cells by their centres' codes, vectors by their own codes, and order the best by their digits.

use chiasm_core::{Hit, Metric, RowSet, Score, SearchError, SearchOptions, VectorIndex, Vectors};
use rayon::prelude::*;

use super::codes::CodeQuery;
use super::digits::DigitQuery;
use super::{CellIndex, Effort};

/// Queries of one task.
const TASK_QUERIES: usize = 32;

/// Blocks of centres that are scanned before the best are taken stock of.
const COARSE_BLOCKS: usize = 16;

/// Of the hits of a list, so many more are compared by all digits as there are hits wanted, at least.
const SPARE_MIN: usize = 4;

/// Records that are asked for ahead of the one that is compared.
const RECORDS_AHEAD: usize = 2;

/// Comparing a row by itself costs as much as so many codes in a scan.
const ROW_COST: usize = 16;

/// With a share `s` of the rows allowed, `s` to the minus this times as many cells are looked into.
const WIDENING: f64 = 0.35;

/// What all queries of a search have in common.
struct Plan<'a> {
    k: usize,
    probes: usize,
    rerank: usize,
    allow: Option<&'a RowSet>,
    /// The allowed rows, where there are few enough to compare each.
    rows: Option<Vec<u32>>,
}

/// Room that searches of one thread share.
#[derive(Default)]
struct Room {
    mapped: Vec<f32>,
    centres: CodeQuery,
    codes: CodeQuery,
    digits: DigitQuery,
    cells: Vec<(i32, u32)>,
    /// Sum of the codes, cell and slot.
    found: Vec<(i32, u32, u32)>,
    scored: Vec<Scored>,
}

/// Score by eight bits, cell and slot.
type Scored = (f64, u32, u32);

impl CellIndex {
    /// The best `k` rows for each query that this effort finds, in [`Hit::rank_cmp`] order. A filter ranges over [`CellIndex::n_rows`] rows.
    ///
    /// # Errors
    /// [`SearchError`]; a dimension or a filter made for another index.
    pub fn search_with(
        &self,
        queries: &Vectors,
        k: usize,
        options: &SearchOptions<'_>,
        effort: Effort,
    ) -> Result<Vec<Vec<Hit>>, SearchError> {
        let (dim, n) = (self.dim(), self.n_rows());
        if queries.dim() != dim {
            return Err(SearchError::Dimension { got: queries.dim(), expected: dim });
        }
        if let Some(allow) = options.allow.filter(|allow| allow.n_rows() != n) {
            return Err(SearchError::Filter { got: allow.n_rows(), expected: n });
        }
        if k == 0 || self.is_empty() || queries.n() == 0 {
            return Ok(vec![Vec::new(); queries.n()]);
        }
        let unit;
        let queries = if self.metric() == Metric::Cosine {
            unit = crate::exact::unit(queries);
            &unit
        } else {
            queries
        };
        let plan = self.plan(k, options.allow, effort);
        let answers: Vec<Vec<Vec<Hit>>> = queries
            .data()
            .par_chunks(TASK_QUERIES * dim)
            .map_init(Room::default, |room, queries| match &plan.rows {
                Some(rows) => self.compare_rows(queries, rows, plan.k),
                None => self.search_cells(queries, &plan, room),
            })
            .collect();
        Ok(answers.into_iter().flatten().collect())
    }

    /// What a filter asks for. Of few allowed rows each is compared; for more, as many more cells are looked into as
    /// the nearest allowed vectors lie farther away.
    fn plan<'a>(&self, k: usize, allow: Option<&'a RowSet>, effort: Effort) -> Plan<'a> {
        let n_cells = self.coarse.n;
        let plain = Plan { k, probes: effort.probes.clamp(1, n_cells), rerank: effort.rerank.max(k), allow, rows: None };
        let Some(allow) = allow else { return plain };
        let (allowed, n) = (allow.count().max(1), self.n_rows());
        let widened = (plain.probes as f64 * (n as f64 / allowed as f64).powf(WIDENING)).ceil() as usize;
        let probes = widened.clamp(1, n_cells);
        if allowed * ROW_COST <= n_cells + n / n_cells * probes {
            let rows = allow.words().iter().enumerate().flat_map(|(w, word)| {
                let mut word = *word;
                std::iter::from_fn(move || {
                    let bit = (word != 0).then(|| word.trailing_zeros())?;
                    word &= word - 1;
                    Some(w as u32 * 64 + bit)
                })
            });
            return Plan { rows: Some(rows.collect()), ..plain };
        }
        Plan { probes, ..plain }
    }

    /// Looks into cells for each of some queries.
    fn search_cells(&self, queries: &[f32], plan: &Plan<'_>, room: &mut Room) -> Vec<Vec<Hit>> {
        let shape = &self.image.shape;
        let mut mapped = std::mem::take(&mut room.mapped);
        mapped.resize(queries.len() / shape.dim * shape.dims, 0.0);
        self.map().map_queries(queries, &mut mapped);
        let each = queries.chunks_exact(shape.dim).zip(mapped.chunks_exact(shape.dims));
        let answers = each.map(|(query, mapped)| {
            self.find_in_cells(mapped, plan, room);
            room.digits.set(query, &self.image.mean()[..shape.dim]);
            room.scored.clear();
            for (i, (_, cell, slot)) in room.found.iter().enumerate() {
                if let Some((_, cell, slot)) = room.found.get(i + RECORDS_AHEAD) {
                    prefetch(self.cell(*cell as usize).record_bytes(shape, *slot as usize), shape.digits());
                }
                let record = self.cell(*cell as usize).record(shape, *slot as usize);
                room.scored.push((room.digits.first(self.kernel, record.bytes, record.scale), *cell, *slot));
            }
            self.rank(query, &room.digits, &mut room.scored, plan.k)
        });
        let answers = answers.collect();
        room.mapped = mapped;
        answers
    }

    /// Compares each of these rows with each of some queries, as long as they are there.
    fn compare_rows(&self, queries: &[f32], rows: &[u32], k: usize) -> Vec<Vec<Hit>> {
        let shape = &self.image.shape;
        let mut asked: Vec<(DigitQuery, Vec<Scored>)> = queries
            .chunks_exact(shape.dim)
            .map(|query| {
                let mut digits = DigitQuery::default();
                digits.set(query, &self.image.mean()[..shape.dim]);
                (digits, Vec::with_capacity(rows.len()))
            })
            .collect();
        for row in rows.iter().filter(|row| !self.changes.is_dead(**row)) {
            // A place that is not there can only come from a damaged file.
            if let Some([cell, slot]) = self.place(*row)
                && (cell as usize) < self.coarse.n
                && (slot as usize) < self.cell(cell as usize).n()
            {
                let record = self.cell(cell as usize).record(shape, slot as usize);
                for (digits, scored) in &mut asked {
                    scored.push((digits.first(self.kernel, record.bytes, record.scale), cell, slot));
                }
            }
        }
        let each = queries.chunks_exact(shape.dim).zip(asked);
        each.map(|(query, (digits, mut scored))| self.rank(query, &digits, &mut scored, k)).collect()
    }

    /// The best `k` of what was scored by eight bits, by twelve.
    fn rank(&self, query: &[f32], digits: &DigitQuery, scored: &mut Vec<Scored>, k: usize) -> Vec<Hit> {
        let shape = &self.image.shape;
        let kept = k + k.div_ceil(2).max(SPARE_MIN);
        if scored.len() > kept {
            scored.select_nth_unstable_by(kept - 1, |a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            scored.truncate(kept);
        }
        let own = if shape.metric == Metric::L2 { query.iter().map(|v| f64::from(*v) * f64::from(*v)).sum() } else { 0.0 };
        let mut hits: Vec<Hit> = Vec::with_capacity(scored.len());
        for (score, cell, slot) in scored {
            let record = self.cell(*cell as usize).record(shape, *slot as usize);
            let score = *score + digits.second(self.kernel, record.halves, record.scale);
            let score = if shape.metric == Metric::L2 { (2.0 * score - own).min(0.0) } else { score };
            let score = Score::new(score as f32).unwrap_or(Score::new(f32::NEG_INFINITY).expect("minus infinity is a number"));
            if let Some(id) = self.id(record.row) {
                hits.push(Hit { id, score });
            }
        }
        hits.sort_unstable_by(Hit::rank_cmp);
        hits.truncate(k);
        hits
    }

    /// Puts the best vectors of the best cells into `found`, by their codes.
    fn find_in_cells(&self, mapped: &[f32], plan: &Plan<'_>, room: &mut Room) {
        let shape = &self.image.shape;
        let (steps, centre_steps) = self.image.steps();
        room.centres.set(mapped, centre_steps, shape.code_width());
        self.choose_cells(plan.probes, &room.centres, &mut room.cells);
        room.codes.set(mapped, steps, shape.code_width());
        room.found.clear();
        let mut floor = i32::MIN;
        let narrowed = plan.allow.is_some() || self.changes.n_dead() > 0;
        for (i, (sum, c)) in room.cells.iter().enumerate() {
            let base = room.codes.units(room.centres.score(*sum));
            if let Some((_, next)) = room.cells.get(i + 1) {
                prefetch(self.cell(*next as usize).parts[0].blocks, shape.block_len());
            }
            let found = &mut room.found;
            let mut first = 0;
            for part in self.cell(*c as usize).parts {
                let floor = floor.saturating_sub(base);
                self.kernel.scan(part.blocks, shape.block_len(), &room.codes.weights, part.n, floor, |slot, sum| {
                    if !narrowed || self.is_asked_for(plan, part.row(shape, slot)) {
                        found.push((sum + base, *c, (first + slot) as u32));
                    }
                });
                first += part.n;
            }
            if found.len() >= 2 * plan.rerank + 32 {
                floor = keep_best(found, plan.rerank).0;
            }
        }
        if room.found.len() > plan.rerank {
            keep_best(&mut room.found, plan.rerank);
        }
    }

    fn is_asked_for(&self, plan: &Plan<'_>, row: u32) -> bool {
        plan.allow.is_none_or(|allow| allow.contains(row as usize)) && !self.changes.is_dead(row)
    }

    /// The cells whose centres score best, best first.
    fn choose_cells(&self, probes: usize, query: &CodeQuery, cells: &mut Vec<(i32, u32)>) {
        let (n, stride) = (self.coarse.n, self.image.shape.codes_len());
        let probes = probes.clamp(1, n);
        cells.clear();
        let mut floor = i32::MIN;
        for (part, blocks) in self.coarse.codes.chunks(COARSE_BLOCKS * stride).enumerate() {
            let first = part * COARSE_BLOCKS * super::BLOCK_SLOTS;
            let n = (n - first).min(COARSE_BLOCKS * super::BLOCK_SLOTS);
            self.kernel.scan(blocks, stride, &query.weights, n, floor, |cell, sum| cells.push((sum, (first + cell) as u32)));
            if cells.len() >= 2 * probes {
                floor = keep_best(cells, probes).0;
            }
        }
        if cells.len() > probes {
            keep_best(cells, probes);
        }
        cells.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// Keeps the best `most` of more than that, and gives the worst of them.
fn keep_best<T: Ord + Copy>(found: &mut Vec<T>, most: usize) -> T {
    let (_, worst, _) = found.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
    let worst = *worst;
    found.truncate(most);
    worst
}

/// Asks for the first `len` bytes, or those there are: they will be read after the next ones.
#[inline]
fn prefetch(bytes: &[u8], len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes[..len.min(bytes.len())].chunks(64) {
        // SAFETY: a prefetch is a hint, never a fault; SSE is part of x86-64.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, len);
}
