//! Pictures: the bytes decide the format; seed the corpus with testdata/goldens/media.
#![no_main]

mod common;

use std::path::Path;

use chiasm_media::{Cut, decode, segments};
use common::LIMITS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for name in ["a.png"] {
        if let Ok(decoded) = decode(Path::new(name), bytes, &LIMITS) {
            segments(&decoded.media, &Cut { max_segments: 100, ..Cut::default() });
        }
    }
});
