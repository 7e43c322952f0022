//! Fetches published models from Hugging Face or a mirror of it, into chiasm's own store.
//!
//! This is the only room that knows the network, and [`pull`] its only door: nothing is fetched unless someone asks for it by name.
//! What comes is checked against what the server states of it before it becomes a model.
#![forbid(unsafe_code)]

mod client;
mod digest;
mod download;
mod error;
mod listing;
mod pull;

pub use client::{Hub, HubConfig};
pub use error::HubError;
pub use pull::{Pulled, pull};
