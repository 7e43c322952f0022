//! Evaluation: metrics, their exact expectation over ties and under chance, significance, TREC files, pairs files.
//!
//! Everything here takes rankings, scores or vectors and knows neither index nor encoder, so that any method, any index and any
//! rival is judged by the same code.
//!
//! - [`Judged`] is one query's ranking against its judgements; its methods are the metrics.
//! - [`TiedRanking`] gives the exact expectation of each metric when equal scores are broken at random.
//! - [`evaluate`] makes a [`Report`] of many queries, with chance and confidence intervals beside the figures.
//! - [`cross`] does so for two embedded sets in both directions, or for every ordered pair of many.
//! - [`significance`] has the paired tests, [`trec`] the run and qrels files, [`pairs`] the readers of pairs files.
//! - [`features`] reads matrices and labels in the layouts in which they are kept: .mat, HDF5, .npy, .npz, tables and more.
//!
//! # Names
//! `R@K` in a report is the *hit rate* of the image-text literature (1 when any relevant item is in the top K); the share of the
//! relevant items that are there is called `recall@K`. Queries without a relevant item are skipped and counted, never scored 0.

#![forbid(unsafe_code)]

pub mod cross;
pub mod features;
mod metrics;
pub mod pairs;
mod report;
pub mod significance;
mod ties;
pub mod trec;

pub use metrics::{Denominator, Gain, JudgeError, Judged, median};
pub use report::{EvalConfig, Figure, Report, Unit, evaluate, r_sum};
pub use ties::{Chance, TieError, TiedRanking};
