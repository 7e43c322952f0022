//! Scenes of the small world, made while they are learned from.

use std::sync::Arc;

use chiasm_core::Modality;
use chiasm_world::{Swap, WorldConfig, captions, deck};

use super::{Part, Row};
use crate::error::{Result, TrainError};

/// Numbers of scenes of one variant lie so far from those of the next: a world has fewer.
const VARIANT: usize = 10_000;

/// The scenes to learn from behind those that are passed over, then those to validate with; each in as many variants, texts in both languages.
pub(super) fn rows(seed: u64, [skip, n_train, n_validation]: [usize; 3], n_variants: usize, swapped: bool) -> Result<Vec<Row>> {
    let config = WorldConfig { seed, n_train: skip.saturating_add(n_train), n_heldout: n_validation };
    let scenes = deck(&config)
        .map_err(|e| TrainError::Data { path: format!("the world of seed {seed}").into(), reason: e.to_string() })?;
    let row = |(at, scene): (usize, chiasm_world::Scene)| {
        let scene = Arc::new(scene);
        let numbers = (0..n_variants).map(|variant| variant * VARIANT + at + 1);
        let drawn = || numbers.clone().map(|number| Part::Drawn { scene: Arc::clone(&scene), seed, number }).collect();
        let texts = numbers.clone().flat_map(|number| captions(&scene, seed, number)).map(Part::Text).collect();
        let parts =
            [(Modality::Image, drawn()), (Modality::Text, texts), (Modality::Audio, drawn()), (Modality::Series, drawn())];
        let swaps = Swap::ALL.iter().filter(|_| swapped).filter_map(|swap| Some((*swap, scene.swapped(*swap)?)));
        // What is learned from is told wrongly in as many ways as rightly, or a way of telling would be enough to know it by.
        let n_wrong = if at < skip + n_train { n_variants } else { 1 };
        let told = |(swap, wrong): (Swap, chiasm_world::Scene)| {
            let numbers = numbers.clone().take(n_wrong);
            numbers.flat_map(move |number| captions(&wrong, seed, number)).map(move |text| (swap, text))
        };
        Row { parts: parts.into(), wrong: swaps.flat_map(told).collect() }
    };
    Ok(scenes.into_iter().enumerate().skip(skip).map(row).collect())
}
