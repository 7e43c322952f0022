//! Why a model could not be opened.

use std::path::PathBuf;

use chiasm_core::{Cancelled, Modality};
use chiasm_nn::WeightsError;
use chiasm_nn::cuda::DeviceError;

use crate::names::NameError;

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A name that is not in the catalogue and no path either.
    #[error(
        "no encoder is called `{name}`: the names are {}, those that `chiasm model list` prints, or give the path of a model's .json file \
         or folder",
        known.join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A known model whose files are in none of the folders.
    #[error(
        "`{file}` of the encoder `{name}` is not in {}: name the folder that holds it with `--models DIR`, or list folders in \
         the variable CHIASM_MODELS, or give the model's path in place of its name{}",
        folders(looked),
        pull.as_ref().map_or_else(String::new, |name| format!("; `chiasm model pull {name}` fetches it"))
    )]
    Absent {
        /// The encoder asked for.
        name: String,
        /// The file or folder that makes it.
        file: String,
        /// The folders searched.
        looked: Vec<PathBuf>,
        /// The name by which it can be fetched, if it is published.
        pull: Option<String>,
    },
    /// A published model that is not here.
    #[error(
        "the model `{name}` is not here: `chiasm model pull {name}` fetches it{}, `chiasm model import FOLDER --name {name}` takes in a \
         copy from elsewhere, and `chiasm model list` tells what is here",
        size.as_ref().map_or_else(String::new, |size| format!(" ({size})"))
    )]
    NotHere {
        /// The model.
        name: String,
        /// How large its weights are, where that is known.
        size: Option<String>,
    },
    /// A path that holds no model of an architecture we have.
    #[error("{} holds no model: {reason}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What was expected there.
        reason: String,
    },
    /// A model of several towers, or of another tower than the one asked for.
    #[error("`{name}` takes {}: say which is meant by `{name}:{}`", words(towers), towers.first().map_or("", |m| m.as_str()))]
    SeveralTowers {
        /// The model.
        name: String,
        /// What its towers take.
        towers: Vec<Modality>,
    },
    /// Another precision of an encoder that has none.
    #[error("`{name}`: this encoder computes in single precision only, ask for `{bare}`")]
    NoPrecision {
        /// The encoder asked for.
        name: String,
        /// Its name without the precision.
        bare: String,
    },
    /// A GPU for an encoder that cannot use it.
    #[error(
        "`{name}`: this encoder computes on the CPU only, ask for `{bare}`; on a GPU run ViT, DINOv2, BERT and the towers of CLIP, SigLIP and their kin"
    )]
    NoDevice {
        /// The encoder asked for.
        name: String,
        /// Its name without the GPU.
        bare: String,
    },
    /// A GPU that cannot be used, or not for this model.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Class names of an encoder that has no classes.
    #[error("the encoder `{name}` has no classes: those that have are {}", known.join(", "))]
    NoClasses {
        /// The encoder asked for.
        name: String,
        /// The encoders that have classes.
        known: Vec<&'static str>,
    },
    /// A file of the model could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model's description is not what its architecture needs.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What came, what was expected.
        reason: String,
    },
    /// The model's weights are damaged, or of another model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Why the store of models refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No folder is known to put models into.
    #[error("there is no folder to put models into: name one with `--models DIR`, or in the variable CHIASM_MODELS")]
    NoPlace,
    /// What was asked for is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A folder or a repository that holds no model, or none that is whole.
    #[error("{what} is no model that can be taken in: {reason}")]
    NoModel {
        /// The folder or the repository.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tower of it does not open.
    #[error(transparent)]
    Open(OpenError),
    /// There is a model of this name already.
    #[error("`{name}` is in the store already: take it out with `chiasm model rm {name}`, or give another name with `--name`")]
    Exists {
        /// The model.
        name: String,
    },
    /// The place is taken by something that is not the store's.
    #[error("{} is there already and is not the store's: it stays as it is; give another folder with `--models DIR`", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another process takes in the same model.
    #[error("`{name}` is being taken in by another process: wait for it to end")]
    Busy {
        /// The model.
        name: String,
    },
    /// A model that is not in the store cannot be taken out of it.
    #[error(
        "`{name}` is not in the store {}{}",
        root.display(),
        elsewhere.as_ref().map_or_else(String::new, |path| format!(": it stands in {path}, and what the store did not take in is yours to remove"))
    )]
    NotInStore {
        /// The model.
        name: String,
        /// The folder of the store.
        root: PathBuf,
        /// Where the model is, if it is here.
        elsewhere: Option<String>,
    },
    /// `chiasm-model.json` is damaged.
    #[error("{} cannot be read, so what belongs to the model is not known: remove its folder by hand, or pull it again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The user asked for a stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn folders(looked: &[PathBuf]) -> String {
    if looked.is_empty() {
        return "any folder (none was given)".to_owned();
    }
    looked.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn words(modalities: &[Modality]) -> String {
    modalities.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" and ")
}
