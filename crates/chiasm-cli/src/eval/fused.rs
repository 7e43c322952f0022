//! Several finished runs of the same queries, fused into one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chiasm_core::{Hit, Score};
use chiasm_eval::trec::{self, Retrieved, Run};
use chiasm_index::{Fusion, Normalisation, fuse};
use clap::{Args, ValueEnum};

use crate::ui::{shown, usage};

/// How runs are fused.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FuseArgs {
    /// How several `--run` become one
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "run")]
    fuse: How,
    /// What is done to the scores of each run first [default: none; rrf and borda look at ranks alone]
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "run")]
    normalise: Scale,
    /// Weight of each run, for `--fuse weighted`
    #[arg(long, value_name = "W,...", value_delimiter = ',', requires = "run")]
    weights: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum How {
    /// Reciprocal ranks, k = 60
    #[default]
    Rrf,
    /// Sum of scores (CombSUM)
    Sum,
    /// Sum of scores times the number of runs that found the item (CombMNZ)
    Mnz,
    /// Places counted from the end
    Borda,
    /// Weighted sum of scores
    Weighted,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Scale {
    /// Scores as they are
    #[default]
    None,
    /// 0 to 1 in each list
    MinMax,
    /// Mean 0 and variance 1 in each list
    Z,
    /// The rank instead of the score
    Rank,
}

/// Reads the runs and fuses them query by query.
pub(crate) fn read(paths: &[PathBuf], args: &FuseArgs) -> anyhow::Result<Run> {
    let read = |path: &PathBuf| trec::read_run(super::open(path)?).with_context(|| shown(path));
    let mut runs: Vec<Run> = paths.iter().map(read).collect::<anyhow::Result<_>>()?;
    if runs.len() == 1 {
        return Ok(runs.swap_remove(0));
    }
    let fusion = match args.fuse {
        How::Rrf => Fusion::default(),
        How::Sum => Fusion::CombSum,
        How::Mnz => Fusion::CombMnz,
        How::Borda => Fusion::Borda,
        How::Weighted if args.weights.len() == runs.len() => Fusion::Weighted(args.weights.clone()),
        How::Weighted => return Err(usage(format!("--fuse weighted: give {} weights with `--weights`", runs.len()))),
    };
    let normalisation = match args.normalise {
        Scale::None => Normalisation::None,
        Scale::MinMax => Normalisation::MinMax,
        Scale::Z => Normalisation::ZScore,
        Scale::Rank => Normalisation::Rank,
    };
    let queries: BTreeSet<&String> = runs.iter().flat_map(|run| run.queries.keys()).collect();
    let mut fused = Run { tag: runs.iter().map(|run| run.tag.as_str()).collect::<Vec<_>>().join("+"), ..Run::default() };
    for query in queries {
        let found: Vec<&[Retrieved]> = runs.iter().map(|run| run.queries.get(query).map_or(&[][..], Vec::as_slice)).collect();
        // Documents numbered in the order of their names, so that ties stand by name.
        let names: BTreeSet<&str> = found.iter().flat_map(|list| list.iter().map(|r| r.document.as_str())).collect();
        let numbers: BTreeMap<&str, u64> = names.iter().zip(0..).map(|(name, number)| (*name, number)).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let hits = |list: &&[Retrieved], path: &Path| -> anyhow::Result<Vec<Hit>> {
            let hit = |r: &Retrieved| {
                let score = Score::new(r.score as f32).with_context(|| format!("{}: query {query}", shown(path)))?;
                Ok(Hit { id: numbers[r.document.as_str()], score })
            };
            list.iter().map(hit).collect()
        };
        let lists: Vec<Vec<Hit>> =
            found.iter().zip(paths).map(|(list, path)| hits(list, path)).collect::<anyhow::Result<_>>()?;
        let one = fuse(&lists, &fusion, normalisation).with_context(|| format!("query {query}"))?;
        let retrieved = one.iter().map(|hit| Retrieved { document: names[hit.id as usize].to_owned(), score: hit.score });
        fused.queries.insert(query.clone(), retrieved.collect());
    }
    Ok(fused)
}
