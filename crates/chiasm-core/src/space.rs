//! The two traits that carry media to vectors and vectors to where they meet.

use crate::media::{Media, Modality};
use crate::vectors::{MatrixView, Metric, ShapeError, Vectors};

/// Why media could not be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// An encoder of one modality got another.
    #[error("{encoder} takes {expected}, item {item} of the batch is {got}")]
    Modality {
        /// Name of the encoder.
        encoder: String,
        /// What it takes.
        expected: Modality,
        /// What came.
        got: Modality,
        /// Place in the batch.
        item: usize,
    },
    /// Media that the encoder can make nothing of (an empty sound, a series with no channel).
    #[error("{encoder} cannot encode item {item} of the batch: {reason}")]
    Unencodable {
        /// Name of the encoder.
        encoder: String,
        /// Place in the batch.
        item: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The network gave NaN or an infinity.
    #[error("{encoder} gave an embedding that is not finite ({cause}): the weights or the input are damaged")]
    NotFinite {
        /// Name of the encoder.
        encoder: String,
        /// Where.
        cause: ShapeError,
    },
    /// The device that computes failed, for reasons that are not the batch's.
    #[error("{encoder}: {reason}")]
    Device {
        /// Name of the encoder.
        encoder: String,
        /// What went wrong there, and what may help.
        reason: String,
    },
    /// An encoder that sees media as wholes, or does not say what it sees of their parts.
    #[error(
        "{encoder} does not tell the parts of what it takes: name a network of patches, words or a map, such as mobilenet_v2 or a BERT"
    )]
    NoParts {
        /// Name of the encoder.
        encoder: String,
    },
}

/// Media of one modality to embeddings.
pub trait Encoder: Send + Sync {
    /// The name under which the registry opens it.
    fn name(&self) -> &str;

    /// What it takes.
    fn modality(&self) -> Modality;

    /// Numbers per embedding.
    fn dim(&self) -> usize;

    /// Lower-case hexadecimal digest of all that decides its output: weights, preprocessing, version of the arithmetic.
    /// Two encoders with the same fingerprint may be used for one another.
    fn fingerprint(&self) -> &str;

    /// Embeddings `[batch.len(), dim]`; row `i` depends on `batch[i]` alone.
    ///
    /// # Errors
    /// [`EncodeError`], naming the item of the batch at fault.
    fn encode(&self, batch: &[Media]) -> Result<Vectors, EncodeError>;

    /// What it sees in the parts of each medium, at least one `[n_parts, width]` for each: states of the last layer over the places of a picture, the patches of a
    /// picture or a spectrum, the tokens of a text, those among them that stand for the whole. All have the same width, which need not be [`Encoder::dim`].
    ///
    /// # Errors
    /// As [`Encoder::encode`]; [`EncodeError::NoParts`].
    fn parts(&self, _batch: &[Media]) -> Result<Vec<Vectors>, EncodeError> {
        Err(EncodeError::NoParts { encoder: self.name().to_owned() })
    }

    /// All that it looks at of a medium, where that is less than the medium: it has the same embedding, to the last bit. A large
    /// picture is let go this way before its turn to be encoded. `None` where that is not less, or not known.
    fn reduced(&self, _media: &Media) -> Option<Media> {
        None
    }
}

/// Why embeddings could not be projected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProjectError {
    /// The space has fewer views.
    #[error("the space has {n_views} views, there is no view {view}")]
    NoSuchView {
        /// The view asked for.
        view: usize,
        /// How many there are.
        n_views: usize,
    },
    /// Embeddings of another encoder.
    #[error("view {view} takes {expected} dimensions, got {got}: encode with the encoder the space was fitted on")]
    Dimension {
        /// The view.
        view: usize,
        /// What it was fitted on.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// NaN or an infinity, in or out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// A *fitted* alignment of two or more views: each has its own input dimension, all share one output.
///
/// Views are numbered, not named by modality, since two views may be of one modality (two descriptors of a picture).
pub trait SharedSpace: Send + Sync {
    /// How closeness in the space is measured.
    fn metric(&self) -> Metric;

    /// Numbers per projected vector.
    fn dim(&self) -> usize;

    /// Number of views.
    fn n_views(&self) -> usize;

    /// Input dimension of a view, if it exists.
    fn input_dim(&self, view: usize) -> Option<usize>;

    /// Projects rows of one view, `[n, input_dim(view)]` to `[n, dim]`; for [`Metric::Cosine`] rows come out at unit length.
    ///
    /// # Errors
    /// [`ProjectError`].
    fn project(&self, view: usize, x: MatrixView<'_>) -> Result<Vectors, ProjectError>;
}
