//! The published models that people know by name: what each is, and what is known of it before it is here.
//!
//! It is a table of facts, each from a source that is named: a field without one is left out. Sizes are those of the weights in single
//! precision. The names are those of Hugging Face; the aliases are those of open_clip (`architecture/pretrained`) and the short ones.
//!
//! Sources: `open_clip retrieval` is `docs/openclip_retrieval_results.csv` of mlfoundations/open_clip, which evaluated the released weights
//! anew; sizes of what stands there are four bytes for each parameter of its `docs/model_profile.csv`. Licences and the other sizes are those
//! that the model's page states.

use chiasm_core::Modality::{self, Audio, Image, Text};

use crate::nets::families;

/// A published model.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// `org/name`, as Hugging Face has it.
    pub name: &'static str,
    /// What else it is called.
    pub aliases: &'static [&'static str],
    /// The architecture: `model_type` of its `config.json`, or `sentence-transformers`.
    pub family: &'static str,
    /// What its towers take, for architectures that cannot say it themselves; see [`Published::towers`].
    modalities: &'static [Modality],
    /// Numbers per embedding.
    pub dim: usize,
    /// What it is, in a line.
    pub about: &'static str,
    /// Languages of its texts; none where it reads none, or where no source says it.
    pub languages: Option<&'static str>,
    /// Licence of the weights, where the model's page states one.
    pub licence: Option<&'static str>,
    /// Size of the weights in megabytes, about.
    pub megabytes: Option<u32>,
    /// Published retrieval figures.
    pub figures: &'static [Figure],
}

impl Published {
    /// What its towers take; empty where that is a kind of media that there is none of here.
    pub fn towers(&self) -> &'static [Modality] {
        families::modalities(self.family).unwrap_or(self.modalities)
    }

    /// Whether its architecture is among those that can be opened here.
    pub fn is_supported(&self) -> bool {
        self.family == SENTENCES || families::modalities(self.family).is_some()
    }
}

/// A figure that others published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The set and the direction.
    pub task: &'static str,
    /// R@1, R@5 and R@10 in percent.
    pub recalls: [f64; 3],
    /// Where it was read.
    pub source: &'static str,
}

/// All of them, dual encoders first.
pub fn published() -> &'static [Published] {
    PUBLISHED
}

/// The model of this name or alias, in whatever capitals.
pub(crate) fn find(name: &str) -> Option<&'static Published> {
    let known = |entry: &&Published| std::iter::once(&entry.name).chain(entry.aliases).any(|n| n.eq_ignore_ascii_case(name));
    PUBLISHED.iter().find(known)
}

/// Folders of sentence-transformers, whatever their encoder.
const SENTENCES: &str = "sentence-transformers";
const ENGLISH: Option<&str> = Some("English");
const APACHE: Option<&str> = Some("Apache-2.0");
const MIT: Option<&str> = Some("MIT");
const BOTH: &[Modality] = &[Image, Text];
const OPEN_CLIP: &str = "open_clip retrieval";

/// What holds where an entry is silent.
const BARE: Published = Published {
    name: "",
    aliases: &[],
    family: "",
    modalities: &[],
    dim: 0,
    about: "",
    languages: None,
    licence: None,
    megabytes: None,
    figures: &[],
};

/// The two directions over the two sets of open_clip's table: Flickr30K (1,000 photos) and COCO (5,000).
const fn open_clip(flickr: [[f64; 3]; 2], coco: [[f64; 3]; 2]) -> [Figure; 4] {
    [
        Figure { task: "Flickr30K text->image", recalls: flickr[0], source: OPEN_CLIP },
        Figure { task: "Flickr30K image->text", recalls: flickr[1], source: OPEN_CLIP },
        Figure { task: "COCO 5K text->image", recalls: coco[0], source: OPEN_CLIP },
        Figure { task: "COCO 5K image->text", recalls: coco[1], source: OPEN_CLIP },
    ]
}

const CHINESE_CLIP: &str = "Results.md of OFA-Sys/Chinese-CLIP, zero-shot";

/// The list.
const PUBLISHED: &[Published] = &[
    Published {
        name: "openai/clip-vit-base-patch32",
        aliases: &["ViT-B-32/openai", "ViT-B-32-quickgelu/openai", "clip-vit-base-patch32"],
        family: "clip",
        modalities: BOTH,
        dim: 512,
        about: "CLIP, ViT-B/32 at 224 pixels: the first of its kind, and fast",
        languages: ENGLISH,
        megabytes: Some(605),
        figures: &open_clip([[58.78, 83.56, 90.02], [78.9, 94.9, 98.2]], [[30.44, 55.94, 66.87], [50.12, 75.0, 83.52]]),
        ..BARE
    },
    Published {
        name: "openai/clip-vit-base-patch16",
        aliases: &["ViT-B-16/openai", "clip-vit-base-patch16"],
        family: "clip",
        modalities: BOTH,
        dim: 512,
        about: "CLIP, ViT-B/16 at 224 pixels",
        languages: ENGLISH,
        megabytes: Some(598),
        figures: &open_clip([[62.16, 85.72, 91.92], [82.2, 96.6, 99.0]], [[33.09, 58.42, 68.99], [52.42, 76.7, 84.62]]),
        ..BARE
    },
    Published {
        name: "openai/clip-vit-large-patch14",
        aliases: &["ViT-L-14/openai", "clip-vit-large-patch14"],
        family: "clip",
        modalities: BOTH,
        dim: 768,
        about: "CLIP, ViT-L/14 at 224 pixels",
        languages: ENGLISH,
        megabytes: Some(1710),
        figures: &open_clip([[64.96, 87.24, 92.04], [85.2, 97.4, 99.2]], [[36.51, 61.06, 71.13], [56.34, 79.38, 86.6]]),
        ..BARE
    },
    Published {
        name: "openai/clip-vit-large-patch14-336",
        aliases: &["ViT-L-14-336/openai", "clip-vit-large-patch14-336"],
        family: "clip",
        modalities: BOTH,
        dim: 768,
        about: "CLIP, ViT-L/14 at 336 pixels",
        languages: ENGLISH,
        megabytes: Some(1712),
        figures: &open_clip([[66.9, 89.0, 93.34], [87.7, 98.5, 99.4]], [[37.09, 61.62, 71.47], [57.94, 81.2, 87.92]]),
        ..BARE
    },
    Published {
        name: "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        aliases: &["ViT-B-32/laion2b_s34b_b79k"],
        family: "clip",
        modalities: BOTH,
        dim: 512,
        about: "CLIP trained on LAION-2B, ViT-B/32 at 224 pixels",
        languages: ENGLISH,
        megabytes: Some(605),
        figures: &open_clip([[66.78, 88.38, 93.1], [84.1, 96.2, 98.3]], [[39.34, 65.43, 75.61], [56.32, 79.84, 87.12]]),
        ..BARE
    },
    Published {
        name: "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        aliases: &["ViT-B-16/laion2b_s34b_b88k"],
        family: "clip",
        modalities: BOTH,
        dim: 512,
        about: "CLIP trained on LAION-2B, ViT-B/16 at 224 pixels",
        languages: ENGLISH,
        megabytes: Some(598),
        figures: &open_clip([[69.84, 90.38, 94.56], [86.3, 97.9, 99.4]], [[42.31, 67.7, 77.06], [59.44, 81.78, 88.62]]),
        ..BARE
    },
    Published {
        name: "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        aliases: &["ViT-L-14/laion2b_s32b_b82k"],
        family: "clip",
        modalities: BOTH,
        dim: 768,
        about: "CLIP trained on LAION-2B, ViT-L/14 at 224 pixels",
        languages: ENGLISH,
        licence: MIT,
        megabytes: Some(1710),
        figures: &open_clip([[75.52, 92.86, 95.94], [89.5, 98.7, 99.4]], [[46.51, 71.08, 79.8], [63.36, 83.98, 90.74]]),
    },
    Published {
        name: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        aliases: &["ViT-H-14/laion2b_s32b_b79k"],
        family: "clip",
        modalities: BOTH,
        dim: 1024,
        about: "CLIP trained on LAION-2B, ViT-H/14 at 224 pixels",
        languages: ENGLISH,
        licence: MIT,
        megabytes: Some(3944),
        figures: &open_clip([[77.64, 94.18, 96.6], [90.7, 99.2, 99.7]], [[49.48, 73.38, 81.51], [65.92, 86.06, 91.88]]),
    },
    Published {
        name: "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        aliases: &["xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"],
        family: "open_clip",
        modalities: BOTH,
        dim: 512,
        about: "CLIP trained on LAION-5B, ViT-B/32 with XLM-R for the texts",
        languages: Some("those of XLM-R"),
        megabytes: Some(1464),
        figures: &open_clip([[64.48, 86.28, 91.68], [82.7, 96.4, 97.8]], [[37.78, 63.44, 73.48], [53.54, 77.98, 86.4]]),
        ..BARE
    },
    Published {
        name: "google/siglip-base-patch16-224",
        aliases: &["ViT-B-16-SigLIP/webli", "siglip-base-patch16-224"],
        family: "siglip",
        modalities: BOTH,
        dim: 768,
        about: "SigLIP, ViT-B/16 at 224 pixels",
        languages: ENGLISH,
        licence: APACHE,
        megabytes: Some(813),
        figures: &open_clip([[74.68, 92.3, 95.62], [89.1, 98.0, 99.3]], [[47.78, 72.44, 81.0], [65.74, 85.42, 91.26]]),
    },
    Published {
        name: "google/siglip-base-patch16-256-multilingual",
        aliases: &["ViT-B-16-SigLIP-i18n-256/webli", "siglip-base-patch16-256-multilingual"],
        family: "siglip",
        modalities: BOTH,
        dim: 768,
        about: "SigLIP, ViT-B/16 at 256 pixels, texts of many languages",
        languages: Some("many"),
        licence: APACHE,
        megabytes: Some(1480),
        figures: &open_clip([[72.16, 90.36, 94.7], [89.6, 98.2, 99.1]], [[44.92, 69.48, 78.37], [64.48, 84.34, 90.6]]),
    },
    Published {
        name: "google/siglip-base-patch16-384",
        aliases: &["ViT-B-16-SigLIP-384/webli", "siglip-base-patch16-384"],
        family: "siglip",
        modalities: BOTH,
        dim: 768,
        about: "SigLIP, ViT-B/16 at 384 pixels",
        languages: ENGLISH,
        licence: APACHE,
        megabytes: Some(814),
        figures: &open_clip([[78.48, 94.16, 97.08], [92.7, 99.1, 99.8]], [[49.9, 73.66, 82.04], [67.74, 87.58, 92.58]]),
    },
    Published {
        name: "google/siglip-so400m-patch14-384",
        aliases: &["ViT-SO400M-14-SigLIP-384/webli", "siglip-so400m-patch14-384"],
        family: "siglip",
        modalities: BOTH,
        dim: 1152,
        about: "SigLIP, shape-optimised ViT/14 at 384 pixels: the best figures of this list, and slow",
        languages: ENGLISH,
        megabytes: Some(3512),
        figures: &open_clip([[82.96, 96.1, 98.04], [94.3, 99.7, 99.8]], [[54.21, 76.78, 84.24], [72.42, 89.98, 94.48]]),
        ..BARE
    },
    Published {
        name: "google/siglip2-base-patch16-224",
        aliases: &["ViT-B-16-SigLIP2/webli", "siglip2-base-patch16-224"],
        family: "siglip",
        modalities: BOTH,
        dim: 768,
        about: "SigLIP 2, ViT-B/16 at 224 pixels, texts of many languages",
        languages: Some("many"),
        ..BARE
    },
    Published {
        name: "google/siglip2-base-patch16-naflex",
        aliases: &["siglip2-base-patch16-naflex"],
        family: "siglip2",
        modalities: BOTH,
        dim: 768,
        about: "SigLIP 2, ViT-B/16 over pictures that keep their shape (NaFlex), texts of many languages",
        languages: Some("many"),
        ..BARE
    },
    Published {
        name: "OFA-Sys/chinese-clip-vit-base-patch16",
        aliases: &["chinese-clip-vit-base-patch16", "cn-clip/ViT-B-16"],
        family: "chinese_clip",
        modalities: BOTH,
        dim: 512,
        about: "Chinese CLIP, ViT-B/16 at 224 pixels with RoBERTa-wwm for the texts",
        languages: Some("Chinese"),
        megabytes: Some(752),
        figures: &[
            Figure { task: "Flickr30K-CN text->image", recalls: [62.7, 86.9, 92.8], source: CHINESE_CLIP },
            Figure { task: "Flickr30K-CN image->text", recalls: [74.6, 93.5, 97.1], source: CHINESE_CLIP },
            Figure { task: "COCO-CN text->image", recalls: [62.2, 86.6, 94.9], source: CHINESE_CLIP },
            Figure { task: "COCO-CN image->text", recalls: [57.0, 84.1, 93.6], source: CHINESE_CLIP },
            Figure { task: "MUGE text->image", recalls: [52.1, 76.7, 84.4], source: CHINESE_CLIP },
        ],
        ..BARE
    },
    Published {
        name: "apple/MobileCLIP-S1-OpenCLIP",
        aliases: &["MobileCLIP-S1/datacompdr"],
        family: "open_clip",
        modalities: BOTH,
        dim: 512,
        about: "MobileCLIP S1: small and fast",
        languages: ENGLISH,
        licence: Some("apple-amlr"),
        ..BARE
    },
    Published {
        name: "kakaobrain/align-base",
        aliases: &["align-base"],
        family: "align",
        modalities: BOTH,
        dim: 640,
        about: "ALIGN: pictures by EfficientNet, texts by BERT",
        languages: ENGLISH,
        ..BARE
    },
    Published {
        name: "Salesforce/blip-itm-base-coco",
        aliases: &["blip-itm-base-coco"],
        family: "blip",
        modalities: BOTH,
        dim: 256,
        about: "BLIP for retrieval, ViT-B/16 at 384 pixels, tuned on COCO",
        languages: ENGLISH,
        licence: Some("BSD-3-Clause"),
        ..BARE
    },
    Published {
        name: "laion/clap-htsat-unfused",
        aliases: &["clap-htsat-unfused"],
        family: "clap",
        modalities: &[Audio, Text],
        dim: 512,
        about: "CLAP: sounds by HTSAT, texts by RoBERTa",
        languages: ENGLISH,
        licence: APACHE,
        ..BARE
    },
    Published {
        name: "microsoft/xclip-base-patch32",
        aliases: &["xclip-base-patch32"],
        family: "xclip",
        dim: 512,
        about: "X-CLIP: moving pictures and texts",
        languages: ENGLISH,
        licence: MIT,
        ..BARE
    },
    Published {
        name: "facebook/dinov2-base",
        aliases: &["dinov2-base"],
        family: "dinov2",
        modalities: &[Image],
        dim: 768,
        about: "DINOv2, ViT-B/14: pictures alone, learnt without any text",
        licence: APACHE,
        megabytes: Some(346),
        ..BARE
    },
    Published {
        name: "google/vit-base-patch16-224",
        aliases: &["vit-base-patch16-224"],
        family: "vit",
        modalities: &[Image],
        dim: 768,
        about: "ViT-B/16, trained on ImageNet-21k and ImageNet",
        licence: APACHE,
        megabytes: Some(346),
        ..BARE
    },
    Published {
        name: "microsoft/resnet-50",
        aliases: &["resnet-50"],
        family: "resnet",
        modalities: &[Image],
        dim: 2048,
        about: "ResNet-50, trained on ImageNet",
        licence: APACHE,
        ..BARE
    },
    Published {
        name: "google/efficientnet-b0",
        aliases: &["efficientnet-b0"],
        family: "efficientnet",
        modalities: &[Image],
        dim: 1280,
        about: "EfficientNet-B0, trained on ImageNet",
        licence: APACHE,
        megabytes: Some(21),
        ..BARE
    },
    Published {
        name: "microsoft/swin-tiny-patch4-window7-224",
        aliases: &["swin-tiny-patch4-window7-224"],
        family: "swin",
        modalities: &[Image],
        dim: 768,
        about: "Swin-T, trained on ImageNet",
        licence: APACHE,
        megabytes: Some(113),
        ..BARE
    },
    Published {
        name: "sentence-transformers/all-MiniLM-L6-v2",
        aliases: &["all-MiniLM-L6-v2"],
        family: SENTENCES,
        modalities: &[Text],
        dim: 384,
        about: "MiniLM, six layers: sentences and short paragraphs",
        languages: ENGLISH,
        licence: APACHE,
        ..BARE
    },
    Published {
        name: "sentence-transformers/all-MiniLM-L12-v2",
        aliases: &["all-MiniLM-L12-v2"],
        family: SENTENCES,
        modalities: &[Text],
        dim: 384,
        about: "MiniLM, twelve layers: sentences and short paragraphs",
        languages: ENGLISH,
        ..BARE
    },
    Published {
        name: "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        aliases: &["paraphrase-multilingual-MiniLM-L12-v2"],
        family: SENTENCES,
        modalities: &[Text],
        dim: 384,
        about: "MiniLM, twelve layers: sentences of many languages meet",
        languages: Some("50, among them Arabic, Chinese, English, French, German, Hindi, Japanese, Russian, Spanish"),
        licence: APACHE,
        megabytes: Some(471),
        ..BARE
    },
    Published {
        name: "google-bert/bert-base-uncased",
        aliases: &["bert-base-uncased"],
        family: "bert",
        modalities: &[Text],
        dim: 768,
        about: "BERT as it was trained, without a way of comparing sentences",
        languages: ENGLISH,
        ..BARE
    },
    Published {
        name: "FacebookAI/roberta-base",
        aliases: &["roberta-base"],
        family: "roberta",
        modalities: &[Text],
        dim: 768,
        about: "RoBERTa as it was trained, without a way of comparing sentences",
        languages: ENGLISH,
        ..BARE
    },
    Published {
        name: "FacebookAI/xlm-roberta-base",
        aliases: &["xlm-roberta-base"],
        family: "xlm-roberta",
        modalities: &[Text],
        dim: 768,
        about: "XLM-R as it was trained, without a way of comparing sentences",
        languages: Some("94"),
        licence: MIT,
        megabytes: Some(1120),
        ..BARE
    },
    Published {
        name: "xlnet/xlnet-base-cased",
        aliases: &["xlnet-base-cased"],
        family: "xlnet",
        modalities: &[Text],
        dim: 768,
        about: "XLNet as it was trained, without a way of comparing sentences",
        languages: ENGLISH,
        licence: MIT,
        ..BARE
    },
    Published {
        name: "MIT/ast-finetuned-audioset-10-10-0.4593",
        aliases: &["ast-finetuned-audioset-10-10-0.4593"],
        family: "audio-spectrogram-transformer",
        modalities: &[Audio],
        dim: 768,
        about: "Audio Spectrogram Transformer, trained on AudioSet",
        licence: Some("BSD-3-Clause"),
        megabytes: Some(346),
        ..BARE
    },
    Published {
        name: "facebook/timesformer-base-finetuned-k400",
        aliases: &["timesformer-base-finetuned-k400"],
        family: "timesformer",
        dim: 768,
        about: "TimeSformer: moving pictures, trained on Kinetics-400",
        licence: Some("CC-BY-NC-4.0"),
        megabytes: Some(486),
        ..BARE
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ModelName;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_and_alias_means_one_model() {
        let mut seen = BTreeSet::new();
        for model in PUBLISHED {
            for name in std::iter::once(&model.name).chain(model.aliases) {
                assert!(seen.insert(name.to_ascii_lowercase()), "`{name}` stands twice");
                assert_eq!(ModelName::parse(name).unwrap().published().unwrap().name, model.name, "{name}");
            }
            assert!(!model.family.is_empty() && !model.about.is_empty() && model.dim > 0, "{}", model.name);
            assert_eq!(model.name.split('/').count(), 2, "{}", model.name);
            for figure in model.figures {
                assert!(figure.recalls.is_sorted() && figure.recalls[2] <= 100.0, "{}: {figure:?}", model.name);
            }
        }
    }
}
