//! Towers trained from raw files: pictures, texts, sounds and series to one space; or those of a dual encoder that was trained elsewhere, tuned.
//!
//! [`Config::read`] reads what is to be trained on what, [`train`] does it. What comes out is a folder that [`chiasm_encode::open`] opens, and with it every other part
//! of this project; beside the model stand a checkpoint, a log of a line for each step and a page of curves.
//!
//! # A stop loses nothing
//! Everything that is drawn is drawn from the seed and the number of the step, so a run has no other state than its weights, the optimiser's means and a
//! few counters, all of which a checkpoint holds. It is written beside the old one and renamed. A run that was stopped, or killed at any moment, goes on with
//! [`Begin::Resume`] and gives the same weights, to the bit, as one that was not.
//!
//! # Determinism
//! The same description, data and processor give the same weights whatever the count of threads.
#![forbid(unsafe_code)]

mod clip;
mod config;
mod curves;
mod data;
mod distill;
mod error;
mod files;
mod fit_log;
mod log;
mod loss;
mod matching;
mod model;
mod probe;
mod run;
mod tape;
mod tower;
mod validate;
mod words;

pub use config::{
    Audio, Config, Distill, Image, Learns, Lora, Matching, Model, Objective, Series, Source, Start, Text, Train, Tune,
};
pub use error::{Result, TrainError};
pub use fit_log::{FitLine, FitLog};
pub use log::{Direction, Line, Swapped};
pub use probe::{ClipProbe, Probe, Probed};
pub use run::{Begin, Outcome, train};
