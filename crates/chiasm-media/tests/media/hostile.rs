//! Hostile bytes: nothing panics, hangs or takes memory beyond its limits. The same entry points stand in `fuzz/`.
use std::path::Path;

use crate::common::{golden, golden_names};
use chiasm_core::Media;
use chiasm_media::{Cut, Limits, MediaError, decode, read_npy_f32, segments, shape_view};
use proptest::prelude::*;

/// Small limits, so that an allocation beyond them would be seen as an oversized result.
const LIMITS: Limits = Limits {
    max_file_bytes: 1 << 22,
    max_pixels: 1 << 16,
    max_audio_samples: 1 << 17,
    max_text_bytes: 1 << 18,
    max_series_values: 1 << 16,
    max_animation_pixels: 1 << 22,
    max_video_frames: 64,
    max_video_bytes: 1 << 22,
    max_video_s: 600,
    max_triangles: 1 << 14,
    max_ffmpeg_s: 0,
};

/// Decodes and checks what every result promises. A decoder's own panic, which `decode` turns into a refusal, fails here.
fn check(name: &str, bytes: &[u8]) {
    match decode(Path::new(name), bytes, &LIMITS) {
        Ok(decoded) => {
            match &decoded.media {
                Media::Image(image) => {
                    assert_eq!(image.rgb.len() as u64, u64::from(image.width) * u64::from(image.height) * 3);
                    assert!(image.rgb.len() as u64 <= 3 * LIMITS.max_pixels && !image.rgb.is_empty());
                }
                Media::Video(video) => {
                    let frame = &video.frames[0];
                    assert!(video.frames.len() as u64 <= LIMITS.max_video_frames && !frame.rgb.is_empty());
                    let shape = (frame.width, frame.height, frame.rgb.len());
                    assert!(video.frames.iter().all(|f| (f.width, f.height, f.rgb.len()) == shape));
                    assert!(video.times_s.len() == video.frames.len() && video.times_s[0] == 0.0);
                    assert!(video.times_s.is_sorted() && video.duration_s >= video.times_s[video.times_s.len() - 1]);
                }
                Media::Audio(wave) => {
                    assert!(!wave.samples.is_empty() && wave.samples.len() as u64 <= LIMITS.max_audio_samples);
                    assert!(wave.samples.iter().all(|s| s.is_finite()) && wave.sample_rate_hz >= 1_000);
                }
                Media::Text(text) => assert!(!text.contains('\0') && !text.trim().is_empty()),
                Media::Series(series) => {
                    assert!(series.n_channels > 0 && !series.values.is_empty());
                    assert_eq!(series.values.len() % series.n_channels, 0);
                    assert!(series.values.iter().all(|v| v.is_finite()));
                    assert!(series.names.is_empty() || series.names.len() == series.n_channels);
                }
                Media::Shape(mesh) => {
                    assert!(!mesh.triangles.is_empty() && mesh.triangles.len() as u64 <= LIMITS.max_triangles);
                    assert!(mesh.vertices.iter().flatten().all(|v| v.is_finite()));
                    assert!(mesh.triangles.iter().flatten().all(|corner| (*corner as usize) < mesh.vertices.len()));
                }
            }
            if let Media::Shape(mesh) = &decoded.media {
                assert!(shape_view(mesh, 1, 8).rgb.len() == 192);
            }
            assert!(
                !segments(
                    &decoded.media,
                    &Cut {
                        audio_whole_s: 0.1,
                        audio_window_s: 0.1,
                        audio_hop_s: 0.05,
                        video_whole_s: 0.1,
                        video_window_s: 0.2,
                        video_hop_s: 0.1,
                        text_max_chars: 50,
                        max_segments: 100,
                    }
                )
                .is_empty()
            );
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains("its decoder failed"), "{name}: {message}");
            assert!(!message.is_empty() && !message.contains('\n') && !message.ends_with('.'), "{message:?}");
        }
    }
}

/// Names that lead to every decoder.
const NAMES: [&str; 13] =
    ["a.png", "a.wav", "a.mp3", "a.aac", "a.txt", "a.jsonl", "a.csv", "a.tsv", "a.npy", "a.stl", "a.obj", "a.ply", "a.off"];

/// Beginnings that lead random bytes into a decoder.
const HEADS: [&[u8]; 26] = [
    b"",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0",
    b"\xff\xd8\xff\xe1\0\x20Exif\0\0II*\0",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"RIFF\0\0\0\0WEBPVP8L",
    b"RIFF\xff\xff\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0",
    b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"fLaC\0\0\0\x22",
    b"OggS\0\x02",
    b"\xff\xfb\x90\x00",
    b"\xff\xf1\x50\x80",
    b"\0\0\0\x18ftypM4A \0\0\0\0",
    b"\0\0\0\x0cftypisom\0\0\0\x40moov\0\0\0\x38trak\0\0\0\x30mdia\0\0\0\x28hdlr\0\0\0\0\0\0\0\0vide",
    b"\x1a\x45\xdf\xa3\x01\0\0\0",
    b"RIFF\0\0\0\0AVI LIST",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x02\x08\x02\0\0\0\xfd\xd4\x9a\x73\0\0\0\x08acTL\0\0\0\x02\0\0\0\0",
    b"FORM\0\0\0\x40AIFFCOMM",
    b"\x93NUMPY\x01\0\x40\0{'descr': '<f4', 'shape': (",
    b"ply\nformat binary_big_endian 1.0\nelement vertex 3\nproperty char x\nproperty char y\nproperty char z\nelement face 2\nproperty list uchar uchar vertex_index\nend_header\n",
    b"OFF 3 1 0\n0 0 1\n0 1 0\n1 0 0\n3 ",
    b"solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex ",
    b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(head in 0usize..HEADS.len(), name in 0usize..NAMES.len(), tail in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(NAMES[name], &[HEADS[head], &tail].concat());
    }

    #[test]
    fn tables_and_lines_of_random_characters(name in 4usize..8, text in "[0-9a-z\"{}:,;.\\t\\n eE+-]{0,300}") {
        check(NAMES[name], text.as_bytes());
    }

    #[test]
    fn shapes_of_random_words(name in 9usize..13, text in "(ply\\n|OFF|solid x|format ascii 1.0\\n|element (vertex|face) [0-9]{1,3}\\n|property (list uchar )?(float|int) (x|y|z|vertex_index)\\n|end_header\\n|[vf] |endloop|facet normal |vertex |[0-9/.-]{1,6}[ \\n]){0,60}") {
        check(NAMES[name], text.as_bytes());
    }

    #[test]
    fn random_array_headers(header in "\\{('(descr|shape|fortran_order)': ?('[<>|][fiuc][1248]'|True|False|\\([0-9, ]{0,24}\\)),? ?){0,4}\\}", data in proptest::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &data].concat();
        if let Ok((values, shape)) = read_npy_f32(&bytes, 1_000) {
            prop_assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
}

/// Files of every format, cut anywhere and with bytes changed: by a fixed stream of random numbers, so that a failure repeats.
#[test]
fn real_files_cut_and_altered() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let names: Vec<String> = golden_names()
        .into_iter()
        .filter(|n| !n.ends_with(".expected.png") && !n.starts_with("resize_") && !n.starts_with("resample_"))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let whole = golden(&name);
        for _ in 0..12 {
            check(&name, &whole[..random(whole.len())]);
            let mut altered = whole.clone();
            for _ in 0..1 + random(8) {
                // Headers decide most, so they are hit most.
                let at = if random(2) == 0 { random(altered.len().min(64)) } else { random(altered.len()) };
                altered[at] = [0, 0xff, 0x7f, 0x80, random(256) as u8][random(5)];
            }
            check(&name, &altered);
        }
    }
}

#[test]
fn a_lying_gif_frame_or_tiff_strip_takes_no_memory() {
    // A GIF whose screen is small and whose frame claims 65535 x 65535.
    let mut gif = golden("three.gif");
    let at = gif.windows(2).position(|w| w == [0x2c, 0]).unwrap();
    gif[at + 5..at + 9].fill(0xff);
    check("a.gif", &gif);
    // A WAV whose header promises 4 GB.
    let mut wav = crate::common::wav(1, 1, 8_000, 16, &[1; 64]);
    wav[40..44].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let decoded = decode(Path::new("a.wav"), &wav, &LIMITS).unwrap();
    assert_eq!(crate::common::sound(decoded).samples.len(), 32);
    let long = decode(Path::new("a.wav"), &crate::common::wav(1, 1, 8_000, 8, &vec![1; 1 << 18]), &LIMITS);
    assert!(matches!(long, Err(MediaError::TooLarge { option: "max_audio_samples", .. })));
}
