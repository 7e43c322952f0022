//! Why a model could not be opened.

use std::path::PathBuf;

use chiasm_core::Modality;
use chiasm_nn::WeightsError;

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A name that is not in the catalogue and no path either.
    #[error("no encoder is called `{name}`: the names are {}, or give the path of a model's .json file or folder", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A known model whose files are in none of the folders.
    #[error(
        "`{file}` of the encoder `{name}` is not in {}: name the folder that holds it with `--models DIR`, or list folders in \
         the variable CHIASM_MODELS, or give the model's path in place of its name",
        folders(looked)
    )]
    Absent {
        /// The encoder asked for.
        name: String,
        /// The file or folder that makes it.
        file: String,
        /// The folders searched.
        looked: Vec<PathBuf>,
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

fn folders(looked: &[PathBuf]) -> String {
    if looked.is_empty() {
        return "any folder (none was given)".to_owned();
    }
    looked.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn words(modalities: &[Modality]) -> String {
    modalities.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" and ")
}
