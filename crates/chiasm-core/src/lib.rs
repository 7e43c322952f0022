//! The nouns and the traits that the rooms of chiasm share.
//!
//! Nothing here reads a file, knows a tensor library or serialises: a type stands in this crate only when two or more other
//! crates need the same one. The way of the data, in these words: a file is decoded to [`Media`], an [`Encoder`] turns media
//! into [`Vectors`], a fitted [`SharedSpace`] projects them to where all modalities meet, a [`VectorIndex`] ranks them as
//! [`Hit`]s.

#![forbid(unsafe_code)]

mod cross;
mod labels;
mod media;
mod run;
mod search;
mod space;
mod vectors;

pub use cross::{CrossEncoder, Picture, PictureForm, Regions, RegionsError};
pub use labels::{Labels, LabelsError};
pub use media::{Image, Media, Mesh, Modality, Series, Span, UnknownModality, Video, Waveform};
pub use run::{Cancel, Cancelled, NoProgress, Progress};
pub use search::{Hit, NotANumber, RowSet, Score, SearchError, SearchOptions, VectorIndex};
pub use space::{EncodeError, Encoder, ProjectError, SharedSpace};
pub use vectors::{MatrixView, Metric, ShapeError, Vectors, to_unit_length};
