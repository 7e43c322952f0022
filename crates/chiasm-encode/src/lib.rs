//! Architectures with their own preprocessing and tokenisers, and the model registry.
