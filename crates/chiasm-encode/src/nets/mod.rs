//! The architectures, one file each. How a checkpoint's folder is recognised stands in [`families`].

pub(crate) mod align;
pub(crate) mod ast;
pub(crate) mod bert;
pub(crate) mod chinese_clip;
pub(crate) mod class_token;
pub(crate) mod classes;
pub(crate) mod clip;
pub(crate) mod dinov2;
pub(crate) mod efficientnet;
pub(crate) mod families;
pub(crate) mod mobilenet_v2;
pub(crate) mod patches;
pub(crate) mod r3d;
pub(crate) mod recurrent;
pub(crate) mod resnet;
pub(crate) mod sentence_bert;
pub(crate) mod siglip;
pub(crate) mod swin;
pub(crate) mod timesformer;
pub(crate) mod unicl;
pub(crate) mod vit;
pub(crate) mod windows;
pub(crate) mod xclip;
pub(crate) mod xlnet;
pub(crate) mod yamnet;
