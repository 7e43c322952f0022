//! Choosing how hard a search looks, by measuring.

use chiasm_core::{RowSet, SearchError, SearchOptions, Vectors};

use super::image::Tuned;
use super::{CellIndex, Effort};

/// What the parts of a search cost beside each other: a code of a scan, a cell that is entered, a record.
const CELL_COST: f64 = 12.0;
const RECORD_COST: f64 = 16.0;

/// What was chosen, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// How hard a plain search looks from now on.
    pub effort: Effort,
    /// The recall that was asked for.
    pub wanted: f64,
    /// Recall at `k` on queries that had no part in the choice; on all of them where there are fewer than two.
    pub recall: f64,
    /// Queries that the recall was measured on.
    pub measured_on: usize,
}

impl CellIndex {
    /// How hard a plain search looks.
    pub fn effort(&self) -> Effort {
        Effort { probes: self.tuned.probes, rerank: self.tuned.rerank }
    }

    /// What [`CellIndex::tune`] chose and measured, if it was asked; of an opened file what it was written with.
    pub fn tuning(&self) -> Option<Tuning> {
        let Tuned { wanted, measured, measured_on, .. } = self.tuned;
        (!measured.is_nan()).then(|| Tuning { effort: self.effort(), wanted, recall: measured, measured_on })
    }

    /// Chooses the least effort that finds `recall` of the exact `k` nearest of every second query, and measures it on the others.
    /// `truth` are the ids of the exact `k` nearest of each query. What is least is told by counting what is looked at, not by a clock, so the
    /// choice is the same on every machine. Where no effort finds so much, the greatest is taken. A filter narrows all searches; `truth` was
    /// found under it.
    ///
    /// # Errors
    /// [`SearchError`] for queries of another dimension.
    ///
    /// # Panics
    /// When there are not as many lists as queries.
    pub fn tune(
        &mut self,
        queries: &Vectors,
        truth: &[Vec<u64>],
        k: usize,
        recall: f64,
        allow: Option<&RowSet>,
    ) -> Result<Tuning, SearchError> {
        assert_eq!(queries.n(), truth.len(), "one list for each query");
        let every_second = |first: usize| -> Vec<usize> { (first..queries.n()).step_by(2).collect() };
        let (choosing, measuring) =
            if queries.n() < 2 { (every_second(0), every_second(0)) } else { (every_second(0), every_second(1)) };
        let n_cells = self.n_cells();
        let recall_of = |which: &[usize], effort| self.recall_of(queries, truth, which, k, effort, allow);
        let mut best: Option<(f64, Effort)> = None;
        for rerank in [k, 2 * k, 3 * k, 5 * k, 8 * k, 12 * k, 20 * k] {
            // The fewest cells by halving: recall grows with them.
            let (mut low, mut high) = (0, n_cells);
            if recall_of(&choosing, Effort { probes: high, rerank })? < recall {
                continue;
            }
            while high - low > 1 {
                let middle = (low + high) / 2;
                if recall_of(&choosing, Effort { probes: middle, rerank })? >= recall { high = middle } else { low = middle }
            }
            let rows = self.n_rows() as f64 / n_cells as f64;
            let cost = high as f64 * (rows + CELL_COST) + rerank as f64 * RECORD_COST;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, Effort { probes: high, rerank }));
            }
        }
        let effort = best.map_or(Effort { probes: n_cells, rerank: 40 * k }, |(_, effort)| effort);
        let measured = recall_of(&measuring, effort)?;
        let measured_on = measuring.len();
        self.tuned = Tuned { probes: effort.probes, rerank: effort.rerank, wanted: recall, measured, measured_on };
        Ok(Tuning { effort, wanted: recall, recall: measured, measured_on })
    }

    /// Share of the exact nearest that is found, over these queries.
    fn recall_of(
        &self,
        queries: &Vectors,
        truth: &[Vec<u64>],
        which: &[usize],
        k: usize,
        effort: Effort,
        allow: Option<&RowSet>,
    ) -> Result<f64, SearchError> {
        let data = which.iter().flat_map(|q| queries.row(*q)).copied().collect();
        let asked = Vectors::new(data, queries.dim()).expect("rows of checked vectors");
        let found = self.search_with(&asked, k, &SearchOptions { allow }, effort)?;
        let (mut right, mut all) = (0, 0);
        for (hits, q) in found.iter().zip(which) {
            let truth = &truth[*q][..truth[*q].len().min(k)];
            all += truth.len();
            right += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
        }
        Ok(if all == 0 { 1.0 } else { right as f64 / all as f64 })
    }
}
