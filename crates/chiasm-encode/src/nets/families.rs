//! Which architecture a checkpoint's folder holds: the one list.

use std::path::Path;

use chiasm_core::Modality;
use chiasm_nn::Weights;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::net::{Opened, Wanted};
use crate::nets::{
    align, ast, bert, blip, brivl, chiasm, chinese_clip, clap, clip, cnn14, dinov2, efficientnet, open_clip, r3d, recurrent,
    resnet, siglip, siglip2, swin, timesformer, unicl, vit, xclip, xlnet,
};
use crate::{built_in, model};

/// An architecture of checkpoints that describe themselves.
pub(crate) struct Family {
    /// `model_type` of `config.json`.
    pub(crate) model_type: &'static str,
    /// What its towers take.
    pub(crate) modalities: &'static [Modality],
    /// Opens one of them.
    pub(crate) open: fn(&mut Checkpoint, Wanted) -> Result<Opened, OpenError>,
}

/// The list. To add an architecture, see `docs/adding-an-encoder.md`.
const FAMILIES: &[Family] = &[
    Family { model_type: clip::MODEL_TYPE, modalities: &[Modality::Image, Modality::Text], open: clip::open },
    Family { model_type: "siglip", modalities: &[Modality::Image, Modality::Text], open: siglip::open },
    Family { model_type: "siglip2", modalities: &[Modality::Image, Modality::Text], open: siglip2::open },
    Family { model_type: "vit", modalities: &[Modality::Image], open: vit::open },
    Family { model_type: "dinov2", modalities: &[Modality::Image], open: dinov2::open },
    Family { model_type: "swin", modalities: &[Modality::Image], open: swin::open },
    Family { model_type: "unicl", modalities: &[Modality::Image, Modality::Text], open: unicl::open },
    Family { model_type: "chinese_clip", modalities: &[Modality::Image, Modality::Text], open: chinese_clip::open },
    Family { model_type: "resnet", modalities: &[Modality::Image], open: resnet::open },
    Family { model_type: "efficientnet", modalities: &[Modality::Image], open: efficientnet::open },
    Family { model_type: "align", modalities: &[Modality::Image, Modality::Text], open: align::open },
    Family { model_type: "brivl", modalities: &[Modality::Image, Modality::Text], open: brivl::open },
    Family { model_type: "timesformer", modalities: &[Modality::Video], open: timesformer::open },
    Family { model_type: "r3d", modalities: &[Modality::Video], open: r3d::open },
    Family { model_type: "xclip", modalities: &[Modality::Video, Modality::Text], open: xclip::open },
    Family { model_type: "blip", modalities: &[Modality::Image, Modality::Text], open: blip::open },
    Family { model_type: "bert", modalities: bert::MODALITIES, open: bert::open },
    Family { model_type: "roberta", modalities: bert::MODALITIES, open: bert::open },
    Family { model_type: "xlm-roberta", modalities: bert::MODALITIES, open: bert::open },
    Family { model_type: "audio-spectrogram-transformer", modalities: &[Modality::Audio], open: ast::open },
    Family { model_type: "cnn14", modalities: &[Modality::Audio], open: cnn14::open },
    Family { model_type: "clap", modalities: &[Modality::Audio, Modality::Text], open: clap::open },
    Family { model_type: "xlnet", modalities: xlnet::MODALITIES, open: xlnet::open },
    Family {
        model_type: chiasm::MODEL_TYPE,
        modalities: &[Modality::Image, Modality::Text, Modality::Audio, Modality::Series],
        open: chiasm::open,
    },
    Family { model_type: "lstm", modalities: recurrent::MODALITIES, open: recurrent::open },
    Family { model_type: "gru", modalities: recurrent::MODALITIES, open: recurrent::open },
];

/// Those whose classifier is read, see [`crate::nets::classes`].
const CLASSIFIERS: &[&str] = &["vit", "dinov2", "resnet", "efficientnet", "audio-spectrogram-transformer", "cnn14"];

impl Family {
    /// What the towers of its checkpoint in a folder take: of the one architecture whose checkpoints need not have them all, as its description says.
    pub(crate) fn towers(&self, folder: &Path) -> Result<Vec<Modality>, OpenError> {
        if self.model_type == chiasm::MODEL_TYPE { chiasm::modalities(folder) } else { Ok(self.modalities.to_vec()) }
    }

    /// Whether its checkpoints may name classes.
    pub(crate) fn has_classes(&self) -> bool {
        CLASSIFIERS.contains(&self.model_type)
    }

    /// The weights that its towers are opened with: where a folder has those of another layout too, not those.
    pub(crate) fn weights(&self, files: &mut Checkpoint) -> Result<Weights, OpenError> {
        if self.model_type == OPEN_CLIP.model_type { open_clip::weights(files) } else { files.weights() }
    }
}

/// open_clip's own layout, whose description has another name.
const OPEN_CLIP: Family =
    Family { model_type: "open_clip", modalities: &[Modality::Image, Modality::Text], open: open_clip::open };

/// What the towers of an architecture take, if it is one of the list.
pub(crate) fn modalities(model_type: &str) -> Option<&'static [Modality]> {
    FAMILIES.iter().chain([&OPEN_CLIP]).find(|family| family.model_type == model_type).map(|family| family.modalities)
}

/// This project's own.
pub(crate) fn own() -> &'static Family {
    FAMILIES.iter().find(|family| family.model_type == chiasm::MODEL_TYPE).expect("it stands in the list")
}

/// The family of the checkpoint in a folder. Many folders hold one model in both layouts: Hugging Face's is taken where its weights are
/// there and its architecture is in the list.
pub(crate) fn family_of(folder: &Path) -> Result<&'static Family, OpenError> {
    let of_open_clip = folder.join(open_clip::DESCRIPTION).is_file();
    if of_open_clip && !folder.join("config.json").is_file() {
        return Ok(&OPEN_CLIP);
    }
    let model_type = model_type(folder)?;
    let family = FAMILIES.iter().find(|family| Some(family.model_type) == model_type.as_deref());
    match family {
        Some(family) if !of_open_clip || open_clip::other_weights(folder) => Ok(family),
        Some(_) | None if of_open_clip => Ok(&OPEN_CLIP),
        Some(_) | None => {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            Err(unknown(folder, model_type.as_deref(), &known))
        }
    }
}

/// What the description in a folder says the checkpoint is.
pub(crate) fn model_type(folder: &Path) -> Result<Option<String>, OpenError> {
    #[derive(Deserialize)]
    struct Typed {
        model_type: Option<String>,
    }
    let path = folder.join("config.json");
    if let Some(bytes) = built_in::file(folder, "config.json") {
        let typed: Typed = model::parse(&path, bytes)?;
        return Ok(typed.model_type);
    }
    if !path.is_file() {
        return Err(OpenError::NoModel {
            path: folder.to_owned(),
            reason: "a folder must hold config.json (Hugging Face), open_clip_config.json (open_clip) or modules.json \
                     (sentence-transformers)"
                .to_owned(),
        });
    }
    let typed: Typed = model::parse(&path, &model::read(&path)?)?;
    Ok(typed.model_type)
}

/// The refusal of a type that is not among those that would do.
pub(crate) fn unknown(folder: &Path, model_type: Option<&str>, known: &[&str]) -> OpenError {
    let came = model_type.map_or_else(|| "no model_type".to_owned(), |other| format!("model_type is `{other}`"));
    model::config(&folder.join("config.json"), format!("{came}, expected one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_layouts_in_one_folder_the_one_with_weights_is_taken() {
        let family = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
            family_of(folder.path()).map(|family| family.model_type).map_err(|e| e.to_string())
        };
        let (ours, theirs) = ((open_clip::DESCRIPTION, "{}"), ("config.json", r#"{"model_type": "clip"}"#));
        let timms = ("config.json", r#"{"architecture": "vit_base_patch32_clip_224"}"#);
        let (our_weights, their_weights) = (("open_clip_model.safetensors", ""), ("model.safetensors", ""));
        assert_eq!(family(&[ours]).unwrap(), "open_clip");
        assert_eq!(family(&[theirs]).unwrap(), "clip");
        assert_eq!(family(&[ours, our_weights, theirs]).unwrap(), "open_clip");
        assert_eq!(family(&[ours, our_weights, theirs, their_weights]).unwrap(), "clip");
        // A description of the image tower alone, as timm's folders have it beside the whole.
        assert_eq!(family(&[ours, our_weights, timms, their_weights]).unwrap(), "open_clip");
        assert!(family(&[timms, their_weights]).unwrap_err().contains("no model_type"));
        // Those of one size call themselves `siglip`.
        let any_shape = ("config.json", r#"{"model_type": "siglip2"}"#);
        assert_eq!(family(&[any_shape, their_weights]).unwrap(), "siglip2");
        assert!(family(&[our_weights]).unwrap_err().contains("open_clip_config.json (open_clip)"));
    }
}
