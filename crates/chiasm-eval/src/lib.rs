//! Metrics, protocols, significance tests, TREC files, data set readers.
