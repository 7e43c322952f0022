//! How the closeness of two towers' embeddings becomes a probability, as the model learnt it.
//!
//! # Reference
//! Radford et al., ICML 2021: logits are cosines times `exp(logit_scale)`, and a softmax makes shares of them. Zhai et al., ICCV
//! 2023: `logit_bias` is added, and a sigmoid makes each a probability of its own. Wu et al., ICASSP 2023 have a scale for each
//! direction, of which that of a sound asked by texts is `logit_scale_a`. Jia et al., ICML 2021 (ALIGN) keep what a cosine is divided by,
//! `temperature`.

use chiasm_core::Modality;
use chiasm_nn::{Weights, WeightsError};

use crate::error::OpenError;
use crate::model;

/// Logits are `scale * cosine + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// What a cosine is multiplied with, above 0: the exponential has been taken.
    pub scale: f64,
    /// What is added. Models that have it were trained on each pair by itself: a sigmoid makes the probability. Of the others a
    /// softmax over all texts does.
    pub bias: Option<f64>,
}

/// That of a checkpoint, where its weights have one; `modality` is what the texts are compared with.
pub(crate) fn read(mut weights: Weights, modality: Option<Modality>) -> Result<Option<Temperature>, OpenError> {
    let own = if modality == Some(Modality::Audio) { "logit_scale_a" } else { "logit_scale_t" };
    let Some(scale) = ["logit_scale", own].into_iter().find_map(|name| number(&mut weights, name).transpose()) else {
        return divisor(&mut weights);
    };
    let (stored, bias) = (scale?, number(&mut weights, "logit_bias")?);
    let scale = f64::from(stored).exp();
    model::expect(weights.file(), scale.is_finite() && scale > 0.0, || {
        format!("logit_scale is {stored}, whose exponential is no factor: expected about 4.6")
    })?;
    Ok(Some(Temperature { scale, bias: bias.map(f64::from) }))
}

/// ALIGN's, of which a softmax makes probabilities as well.
fn divisor(weights: &mut Weights) -> Result<Option<Temperature>, OpenError> {
    let Some(stored) = number(weights, "temperature")? else { return Ok(None) };
    let scale = 1.0 / f64::from(stored);
    model::expect(weights.file(), scale.is_finite() && scale > 0.0, || {
        format!("temperature is {stored}, by which no cosine is divided: expected about 0.07")
    })?;
    Ok(Some(Temperature { scale, bias: None }))
}

/// A number that stands as a scalar or as the only one of a row.
fn number(weights: &mut Weights, name: &str) -> Result<Option<f32>, WeightsError> {
    let is_row = weights.shape(name).is_some_and(|shape| shape == [1]);
    let values = weights.take_opt(name, if is_row { &[1] } else { &[] })?;
    Ok(values.and_then(|v| v.first().copied()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::nets::families;
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    fn read_of(tensors: &[(&str, &[usize], f32)], modality: Modality) -> Result<Option<Temperature>, OpenError> {
        let folder = tempfile::tempdir().unwrap();
        write(tensors, &folder.path().join("model.safetensors"));
        read(Weights::open(folder.path()).unwrap(), Some(modality))
    }

    fn write(tensors: &[(&str, &[usize], f32)], path: &Path) {
        let bytes: Vec<_> = tensors.iter().map(|(name, shape, v)| (*name, shape.to_vec(), v.to_le_bytes())).collect();
        let views = bytes.iter().map(|(name, shape, v)| (*name, TensorView::new(Dtype::F32, shape.clone(), v).unwrap()));
        serialize_to_file(views, None, path).unwrap();
    }

    #[test]
    fn of_two_layouts_in_one_folder_the_one_that_is_opened_says_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        // timm's image tower beside the whole, which was saved by training on several machines.
        std::fs::write(at("config.json"), r#"{"architecture": "fastvit_mci1"}"#).unwrap();
        std::fs::write(at("open_clip_config.json"), "{}").unwrap();
        write(&[("head.bias", &[1], 0.0)], &at("model.safetensors"));
        write(&[("module.logit_scale", &[], 4.6)], &at("open_clip_model.safetensors"));
        let family = families::family_of(folder.path()).unwrap();
        let weights = family.weights(&mut Checkpoint::new(folder.path())).unwrap();
        assert_eq!(
            read(weights, Some(Modality::Image)).unwrap(),
            Some(Temperature { scale: f64::from(4.6f32).exp(), bias: None })
        );
    }

    #[test]
    fn a_checkpoint_brings_its_own() {
        let scale = f64::from(4.6f32).exp();
        let of = |tensors: &[_], modality| read_of(tensors, modality).unwrap();
        let image = Modality::Image;
        assert_eq!(of(&[("logit_scale", &[], 4.6)], image), Some(Temperature { scale, bias: None }));
        let bias = Some(-16.5);
        let both: [(&str, &[usize], f32); 2] = [("logit_bias", &[1], -16.5), ("logit_scale", &[1], 4.6)];
        assert_eq!(of(&both, image), Some(Temperature { scale, bias }));
        let two: [(&str, &[usize], f32); 2] = [("logit_scale_a", &[], 4.6), ("logit_scale_t", &[], 1.0)];
        assert_eq!(of(&two, Modality::Audio), Some(Temperature { scale, bias: None }));
        assert_eq!(of(&[("temperature", &[], 0.0625)], image), Some(Temperature { scale: 16.0, bias: None }));
        assert_eq!(of(&[("weight", &[1], 1.0)], image), None);
    }

    #[test]
    fn what_is_no_temperature_is_refused() {
        let refused = |tensors: &[_]| read_of(tensors, Modality::Image).unwrap_err().to_string();
        assert!(refused(&[("logit_scale", &[], 2000.0)]).contains("logit_scale is 2000"));
        assert!(refused(&[("temperature", &[], 0.0)]).contains("temperature is 0"));
        assert!(refused(&[("logit_scale", &[], f32::NAN)]).contains("NaN"));
        assert!(refused(&[("logit_scale", &[1, 1], 1.0)]).contains("shape [1, 1]"));
        assert!(refused(&[("logit_scale", &[], 1.0), ("logit_bias", &[], f32::INFINITY)]).contains("logit_bias"));
    }
}
