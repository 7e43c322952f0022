//! Rows summed as they are read, in memory that does not grow with their number.

use chiasm_align::{FitError, MethodConfig, Moments, Pairs, Run};
use chiasm_core::{Labels, MatrixView};
use chiasm_eval::features::RowReader;

use crate::error::BenchError;

/// Numbers of one view that are held at once, at most: 64 MiB of f32.
const MOST_NUMBERS: usize = 1 << 24;
/// Rows that are read at once, at most.
const MOST_ROWS: usize = 8192;

/// Sums for a method, and rows left out because of NaN or an infinity in any view.
pub struct Summed {
    /// The sums.
    pub moments: Moments,
    /// How many rows were left out.
    pub n_dropped: usize,
}

/// Reads all views together, block by block. Memory is that of the sums and of one block.
///
/// # Errors
/// [`BenchError::Sum`] for a method that needs the rows themselves and for rows that do not match; [`BenchError::BadRow`] for numbers that are
/// not finite unless `drop_bad`; [`BenchError::Feature`], [`BenchError::Cancelled`].
pub fn sum(
    method: &MethodConfig,
    views: &mut [RowReader],
    labels: Option<&Labels>,
    drop_bad: bool,
    run: &Run<'_>,
) -> Result<Summed, BenchError> {
    let dims: Vec<usize> = views.iter().map(RowReader::dim).collect();
    let n = views.first().map_or(0, RowReader::n);
    if let Some((view, odd)) = views.iter().enumerate().find(|(_, reader)| reader.n() != n) {
        return Err(BenchError::Sum(FitError::Rows { view, got: odd.n(), expected: n }));
    }
    if let Some(labels) = labels.filter(|labels| labels.n() != n) {
        return Err(BenchError::Sum(FitError::Labels { got: labels.n(), expected: n }));
    }
    let mut moments = method.moments(&dims, labels.map(Labels::n_classes)).map_err(BenchError::Sum)?;
    let at_once = dims.iter().map(|d| MOST_NUMBERS / d).min().unwrap_or(1).clamp(1, MOST_ROWS);
    let (mut first, mut n_dropped) = (0, 0);
    run.progress.start("summing rows", Some(n as u64));
    while first < n {
        run.cancel.check()?;
        let rows = at_once.min(n - first);
        let mut blocks = Vec::new();
        for reader in views.iter_mut() {
            blocks.push(reader.next_block(rows)?.unwrap_or_default());
        }
        let bad = |row: usize| {
            let col = |(block, d): (&Vec<f32>, &usize)| block[row * d..(row + 1) * d].iter().position(|x| !x.is_finite());
            blocks.iter().zip(&dims).enumerate().find_map(|(v, of)| Some((v, col(of)?)))
        };
        let good: Vec<usize> = (0..rows).filter(|row| bad(*row).is_none()).collect();
        if good.len() < rows {
            let row = (0..rows).find(|row| bad(*row).is_some()).expect("fewer are good than there are");
            let (view, col) = bad(row).expect("it is bad");
            if !drop_bad {
                return Err(BenchError::BadRow {
                    found: views[view].found().to_owned(),
                    row: first + row + 1,
                    col: col + 1,
                    value: blocks[view][row * dims[view] + col],
                });
            }
            n_dropped += rows - good.len();
            for (block, d) in blocks.iter_mut().zip(&dims) {
                *block = good.iter().flat_map(|row| block[row * d..(row + 1) * d].to_vec()).collect();
            }
        }
        let labels = labels.map(|labels| labels.pick(&good.iter().map(|row| first + row).collect::<Vec<_>>()));
        let views = blocks.iter().zip(&dims).map(|(block, d)| MatrixView::new(block, *d)).collect::<Result<_, _>>()?;
        moments.add(&Pairs { views, groups: None, labels: labels.as_ref() }).map_err(BenchError::Sum)?;
        run.progress.advance(rows as u64);
        first += rows;
    }
    run.progress.finish();
    Ok(Summed { moments, n_dropped })
}
