//! Results tables: every bridge on every set, under one fixed protocol, beside what was published.
//!
//! A [`Task`] is a set with its split; [`plan`](plan::plan) says which methods run on it; [`run`](protocol::run) fits one method
//! on the training part and judges it on the rest; [`markdown`] and [`plot`] show the outcome. `align` times fits beside
//! reference implementations, [`encode`] encoders beside other runtimes, [`index`] whole folders beside other programs, [`train`]
//! trainings beside PyTorch; [`parts`] compares models that look at parts with bridges of single vectors.
//!
//! # Protocol
//! Hyper-parameters are either those a paper states, and then named, or chosen by cross-validation on the training part. The test
//! part is looked at once. Scores tie in the order of the gallery ("stable"), and the expectation over all orders of the tied is given
//! beside it where it differs. Intervals are percentile bootstraps over queries.

#![forbid(unsafe_code)]

pub mod align;
pub mod ann;
pub mod data;
pub mod encode;
mod error;
pub mod index;
pub mod markdown;
pub mod measure;
pub mod parts;
pub mod plan;
pub mod plot;
pub mod protocol;
pub mod published;
pub mod rivals;
pub mod stream;
pub mod task;
pub mod train;

pub use error::BenchError;
pub use protocol::{Database, Outcome};
pub use task::{Part, Task};
