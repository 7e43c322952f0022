//! A library on disk: catalogue, ingest, search, fusion, calibration.
