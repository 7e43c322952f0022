//! Models that look at the parts of a thing: the regions of a picture, the words of a text, the views of one item.
//!
//! A [`crate::PipelineSpace`] carries one vector for each thing, so what it finds is found by the closeness of two vectors. The models here see
//! more than that and give what one vector cannot: a score for each pair ([`scan`], [`reranker`]), or a query made of several views
//! ([`fusion`]). So they are types of their own, not entries of [`crate::MethodConfig`].
//!
//! | file | what it is |
//! | --- | --- |
//! | `sets.rs` | [`PartSets`], things that are sets of vectors; [`Captioned`], pictures with their texts |
//! | `scan.rs` | stacked cross attention: closeness as the sum of what each word finds in the picture |
//! | `reranker.rs` | a transformer over words and regions together, which orders anew what a dual encoder found |
//! | `second_look.rs` | either of the two beside the bridge that found what they look at |
//! | `transport.rs` | the proximal point method for optimal transport, which the reranker aligns words and regions by |
//! | `fusion.rs` | views of one item fused to one query: gated, bilinear, by attention; views may be missing |
//! | `block.rs` | the block of a transformer that the reranker and fusion by attention are made of |
//! | `learn.rs` | what all three learn by: Adam, batches, early stopping |
//!
//! # Parts come as arrays
//! Nothing here reads raw files. Regions are rows of a detector's or a grid's features ([`PartSets::of_regions`] takes what `chiasm_encode::read_regions` read), words are
//! rows of a table or states of a text encoder; either is handed over with the count of rows of each thing ([`PartSets::of_parts`] takes what
//! [`chiasm_core::Encoder::parts`] gives).
//!
//! # Determinism
//! The seed decides everything: the same seed and data give the same parameters, whatever the count of threads.

mod block;
pub mod fusion;
#[cfg(test)]
mod goldens;
mod learn;
pub mod reranker;
pub mod scan;
pub mod second_look;
mod sets;
mod transport;

pub use sets::{Captioned, PartSets, SetError};
