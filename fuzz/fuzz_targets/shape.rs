//! Shapes of every format, and pictures of what was read.
#![no_main]

mod common;

use std::path::Path;

use chiasm_core::Media;
use chiasm_media::{decode, shape_view};
use common::LIMITS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for name in ["a.stl", "a.obj", "a.ply", "a.off"] {
        if let Ok(decoded) = decode(Path::new(name), bytes, &LIMITS) {
            if let Media::Shape(mesh) = &decoded.media {
                shape_view(mesh, 0, 16);
            }
        }
    }
});
