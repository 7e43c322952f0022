//! A small generated world with ground truth in every modality.
