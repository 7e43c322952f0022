//! Searching: choose cells by their centres' codes, vectors by their own codes, and order the best by their digits.
//!
//! # Many queries at once
//! Codes of a large base come from memory, which takes longer than comparing them. So where many queries of a batch look into the same cells, it is
//! cells that are gone through: each is read once and scanned for all queries that chose it. What is found is the best by a total order (score, cell,
//! slot), so neither way nor batch changes an answer.

use chiasm_core::{Hit, Metric, RowSet, Score, SearchError, SearchOptions, VectorIndex, Vectors};
use rayon::prelude::*;

use super::coarse;
use super::codes::CodeQuery;
use super::digits::DigitQuery;
use super::image::RECORD_HEAD;
use super::{CellIndex, Effort};

/// Queries of one task: at most so many, whose codes and candidates stay in the second and third cache, and no fewer than these.
const TASK_QUERIES: usize = 1024;
const TASK_QUERIES_MIN: usize = 32;

/// Cells are gone through from so many queries on that look into each, on average.
const VISITORS: usize = 2;

/// Before that a query looks into its best cells by itself, until it has seen so many times as many vectors as it will compare: what is worse than these is then
/// passed over in all others.
const SEEN_BEFORE: usize = 4;

/// Of the hits of a list, so many more are compared by all digits as there are hits wanted, at least.
const SPARE_MIN: usize = 4;

/// Records that are asked for ahead of the one that is compared.
const RECORDS_AHEAD: usize = 4;

/// Queries whose weights are asked for ahead of the one that looks into a cell.
const QUERIES_AHEAD: usize = 4;

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
    /// Whether some rows are not asked for.
    narrowed: bool,
}

/// Room that searches of one thread share.
#[derive(Default)]
struct Room {
    mapped: Vec<f32>,
    centres: CodeQuery,
    coarse: coarse::Room,
    digits: DigitQuery,
    cells: Vec<(i32, u32)>,
    codes: CodeQuery,
    asked: Asked,
    visits: Visits,
    scored: Vec<Scored>,
}

/// Queries on their way through the cells: what a cell needs of each stands side by side, for those that look into a cell are anywhere among them.
#[derive(Default)]
struct Asked {
    /// Numbers of a code.
    width: usize,
    /// Those of the first query, then of the next.
    weights: Vec<i8>,
    /// What is below was passed over.
    floors: Vec<i32>,
    found: Vec<Vec<Found>>,
}

/// Sum of the codes, cell and slot.
type Found = (i32, u32, u32);

impl Asked {
    /// Room for `n` queries that have found nothing yet.
    fn begin(&mut self, n: usize, width: usize) {
        self.width = width;
        self.weights.clear();
        self.floors.clear();
        self.floors.resize(n, i32::MIN);
        self.found.resize_with(n.max(self.found.len()), Vec::new);
        self.found.iter_mut().for_each(Vec::clear);
    }

    fn weights(&self, query: usize) -> &[i8] {
        &self.weights[query * self.width..(query + 1) * self.width]
    }
}

/// Which queries look into which cells.
#[derive(Default)]
struct Visits {
    /// Cell, query, and what the cell's centre adds to sums, as they came.
    all: Vec<(u32, u32, i32)>,
    /// Query and addition, cell after cell.
    by_cell: Vec<(u32, i32)>,
    /// Where each cell's visits end.
    ends: Vec<usize>,
}

impl Visits {
    fn sort(&mut self, n_cells: usize) {
        self.ends.clear();
        self.ends.resize(n_cells + 1, 0);
        // First where each begins, one place further on; each visit that is put there moves that towards the end.
        self.all.iter().for_each(|(cell, ..)| self.ends[*cell as usize + 1] += 1);
        (1..=n_cells).for_each(|c| self.ends[c] += self.ends[c - 1]);
        self.by_cell.resize(self.all.len(), (0, 0));
        for (cell, query, base) in self.all.drain(..) {
            let at = &mut self.ends[cell as usize];
            self.by_cell[*at] = (query, base);
            *at += 1;
        }
    }

    fn of_cell(&self, cell: usize) -> &[(u32, i32)] {
        let first = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.by_cell[first..self.ends[cell]]
    }
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
        let of_thread = queries.n().div_ceil(rayon::current_num_threads());
        let most = if plan.rows.is_some() { TASK_QUERIES_MIN } else { TASK_QUERIES };
        let answers: Vec<Vec<Vec<Hit>>> = queries
            .data()
            .par_chunks(of_thread.clamp(TASK_QUERIES_MIN, most) * dim)
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
        let narrowed = allow.is_some() || self.changes.n_dead() > 0;
        let probes = effort.probes.clamp(1, n_cells);
        let plain = Plan { k, probes, rerank: effort.rerank.max(k), allow, rows: None, narrowed };
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
        self.find_in_cells(&mapped, plan, room);
        let answers = queries.chunks_exact(shape.dim).zip(&room.asked.found).map(|(query, found)| {
            room.digits.set(query, &self.image.mean()[..shape.dim]);
            room.scored.clear();
            for (i, (_, cell, slot)) in found.iter().enumerate() {
                if let Some((_, cell, slot)) = found.get(i + RECORDS_AHEAD) {
                    prefetch(self.cell(*cell as usize).record_bytes(shape, *slot as usize), RECORD_HEAD + shape.digits());
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

    /// Puts the best vectors of the best cells of each query into its `found`, by their codes.
    fn find_in_cells(&self, mapped: &[f32], plan: &Plan<'_>, room: &mut Room) {
        let (shape, n_cells) = (&self.image.shape, self.coarse.n);
        let (steps, centre_steps) = self.image.steps();
        let n = mapped.len() / shape.dims;
        let by_cell = n * plan.probes >= VISITORS * n_cells;
        let of_cell = (self.n_rows() / n_cells).max(1);
        let alone = if by_cell { (SEEN_BEFORE * plan.rerank).div_ceil(of_cell) } else { plan.probes };
        let Room { centres, coarse, cells, codes, asked, visits, .. } = room;
        asked.begin(n, shape.code_width());
        for (query, mapped) in mapped.chunks_exact(shape.dims).enumerate() {
            centres.set(mapped, centre_steps, shape.code_width());
            self.coarse.choose(self.kernel, [plan.probes, alone], centres, coarse, cells);
            codes.set(mapped, steps, shape.code_width());
            asked.weights.extend_from_slice(&codes.weights);
            for (i, (sum, cell)) in cells.iter().enumerate() {
                let base = codes.units(centres.score(*sum));
                if i >= alone {
                    visits.all.push((*cell, query as u32, base));
                    continue;
                }
                if let Some((_, next)) = cells.get(i + 1) {
                    self.ask_for(*next as usize);
                }
                self.look_into(*cell, base, plan, query, asked);
            }
        }
        if by_cell {
            visits.sort(n_cells);
            for cell in 0..n_cells {
                self.ask_for((cell + 1) % n_cells);
                let visits = visits.of_cell(cell);
                for (i, (query, base)) in visits.iter().enumerate() {
                    if let Some((next, _)) = visits.get(i + QUERIES_AHEAD) {
                        prefetch(asked.weights(*next as usize), asked.width);
                    }
                    self.look_into(cell as u32, *base, plan, *query as usize, asked);
                }
            }
        }
        for found in asked.found.iter_mut().filter(|found| found.len() > plan.rerank) {
            keep_best(found, plan.rerank);
        }
    }

    /// Asks for the beginning of a cell's codes.
    #[inline]
    fn ask_for(&self, cell: usize) {
        prefetch(self.cell(cell).parts[0].blocks, self.image.shape.block_len());
    }

    /// Adds what is good enough in a cell to what a query has found.
    fn look_into(&self, cell: u32, base: i32, plan: &Plan<'_>, query: usize, asked: &mut Asked) {
        let shape = &self.image.shape;
        let floor = asked.floors[query];
        // What is level with the worst is let in, or the order of cells would decide between them.
        let floor_here = floor.saturating_sub(base).saturating_sub(1);
        // Not by the method, which would hold what is found as well.
        let weights = &asked.weights[query * asked.width..(query + 1) * asked.width];
        let found = &mut asked.found[query];
        let mut first = 0;
        for part in self.cell(cell as usize).parts {
            self.kernel.scan(part.blocks, shape.block_len(), weights, part.n, floor_here, |slot, sum| {
                if !plan.narrowed || self.is_asked_for(plan, part.row(shape, slot)) {
                    found.push((sum + base, cell, (first + slot) as u32));
                }
            });
            first += part.n;
        }
        if found.len() >= 2 * plan.rerank + 32 {
            asked.floors[query] = keep_best(found, plan.rerank).0;
        }
    }

    fn is_asked_for(&self, plan: &Plan<'_>, row: u32) -> bool {
        plan.allow.is_none_or(|allow| allow.contains(row as usize)) && !self.changes.is_dead(row)
    }
}

/// Keeps the best `most` of more than that, and gives the worst of them.
pub(super) fn keep_best<T: Ord + Copy>(found: &mut Vec<T>, most: usize) -> T {
    let (_, worst, _) = found.select_nth_unstable_by(most - 1, |a, b| b.cmp(a));
    let worst = *worst;
    found.truncate(most);
    worst
}

/// Asks for the first `len` bytes, or those there are: they will be read after the next ones.
#[inline]
fn prefetch<T>(bytes: &[T], len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes[..len.min(bytes.len())].chunks(64) {
        // SAFETY: a prefetch is a hint, never a fault; SSE is part of x86-64.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, len);
}
