//! Architectures with their own preprocessing and tokenisers, and the model registry.
//!
//! Everything outside meets an encoder through [`open`], which takes a name of the [`catalogue`] or the path of a model and
//! gives a [`chiasm_core::Encoder`]. A name may also be that of a published model ([`published()`]) that stands in chiasm's own [`Store`] or in
//! Hugging Face's cache; nothing is fetched from here. One file holds one architecture together with the preprocessing its weights were trained
//! on, since the two are worth nothing apart.
#![forbid(unsafe_code)]

mod batch;
mod built_in;
mod checkpoint;
mod cross;
mod digests;
mod dirs;
mod error;
mod features;
mod files;
mod input;
mod locate;
mod model;
mod names;
mod net;
mod nets;
#[cfg(all(test, feature = "cuda"))]
mod on_device;
#[cfg(test)]
mod parity;
mod published;
mod registry;
mod store;
mod temperature;

pub use built_in::NANO;
pub use chiasm_nn::{Precision, instructions};
pub use cross::{RegionsFileError, open_cross_encoder, read_regions};
pub use dirs::ModelDirs;
pub use error::{OpenError, StoreError};
pub use files::{in_two_layouts, is_index, is_inside, is_known, select, shards};
pub use locate::{Location, Place, hub_cache, locate, published_as};
pub use names::{ModelName, NameError};
pub use nets::chiasm::{AudioTower, EPS, ImageTower, JointConfig, MODEL_TYPE, SeriesTower, Sizes, TextTower};
pub use nets::clip::{ClipTower, ClipTowers};
pub use nets::inputs::{Inputs, Prepared};
pub use published::{Figure, Published, published};
pub use registry::{ModelInfo, bare, catalogue, class_names, open, temperature, tower_name, towers, towers_of};
pub use store::{Entry, MANIFEST, Manifest, Problem, Removed, Stage, Store, StoredFile, TowerInfo, towers_at};
pub use temperature::Temperature;
