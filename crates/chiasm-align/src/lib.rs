//! Bridges between modalities: one file per method.
