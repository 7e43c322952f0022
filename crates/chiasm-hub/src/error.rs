//! Why a model could not be fetched.

use chiasm_core::Cancelled;
use chiasm_encode::StoreError;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The user wants no network.
    #[error("`{name}` was not fetched, since {}: {}", by, ways(name))]
    Offline {
        /// The model.
        name: String,
        /// What says so.
        by: &'static str,
    },
    /// Nobody answers.
    #[error("{endpoint} cannot be reached ({reason}): {}", ways(name))]
    Unreachable {
        /// The model.
        name: String,
        /// The server.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// No such model, or none that is shown to everybody.
    #[error(
        "{endpoint} shows no model `{name}` ({status}): look whether the name is right; {}",
        if *signed_in {
            "the token in HF_TOKEN may not read it, if it is private or asks for consent to its terms"
        } else {
            "if it is private or asks for consent to its terms, give a token that may read it in the variable HF_TOKEN"
        }
    )]
    NotShown {
        /// The model.
        name: String,
        /// The server.
        endpoint: String,
        /// The answer's status.
        status: u16,
        /// Whether a token was sent.
        signed_in: bool,
    },
    /// An answer that is none.
    #[error("{url} answers with status {status}{}", reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")))]
    Status {
        /// What was asked for.
        url: String,
        /// The answer's status.
        status: u16,
        /// What the server says of it.
        reason: Option<String>,
    },
    /// The server asks for what is not done.
    #[error("{what}: {reason}; nothing of it was kept")]
    Refused {
        /// The address or the model.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The variable HF_ENDPOINT is no address.
    #[error("`{endpoint}` is no address of a server: HF_ENDPOINT must be https://HOST or http://HOST, perhaps with a path")]
    Endpoint {
        /// What came.
        endpoint: String,
    },
    /// A file is not what the server states.
    #[error(
        "{file} of `{name}` arrived with {what} {got}, the server states {expected}: it was not kept; pull again, or from elsewhere by \
         HF_ENDPOINT"
    )]
    Mismatch {
        /// The model.
        name: String,
        /// The file.
        file: String,
        /// Length or checksum.
        what: &'static str,
        /// What came.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// Weights whose checksum nobody states.
    #[error(
        "the server states no SHA-256 of {file} of `{name}`: weights that cannot be checked are not fetched; pull from elsewhere by HF_ENDPOINT"
    )]
    NoChecksum {
        /// The model.
        name: String,
        /// The file.
        file: String,
    },
    /// The connection broke again and again.
    #[error(
        "the connection broke while {file} of `{name}` came ({reason}), after {got} bytes: what came is kept, and the same command goes on \
         from there"
    )]
    Broken {
        /// The model.
        name: String,
        /// The file.
        file: String,
        /// Bytes that are here.
        got: u64,
        /// What happened last.
        reason: String,
    },
    /// All came as published, and is not a model that can be opened here.
    #[error(
        "`{name}` was fetched whole and does not open: {source}; it stays in the store, `chiasm model rm {name}` takes it out"
    )]
    DoesNotOpen {
        /// The model.
        name: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// A file could not be written.
    #[error("writing {}: {source}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// The user asked for a stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<StoreError> for HubError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Cancelled(cancelled) = error { Self::Cancelled(cancelled) } else { Self::Store(Box::new(error)) }
    }
}

/// The ways to a model without its server.
fn ways(name: &str) -> String {
    format!(
        "fetch it through a mirror (HF_ENDPOINT=https://HOST), or copy its folder from a machine that has it and take it in with \
         `chiasm model import FOLDER --name {name}`, or use a model that is here already (`chiasm model list`)"
    )
}
