//! Bytes to media: decoding under limits, resizing, resampling, spectra.
