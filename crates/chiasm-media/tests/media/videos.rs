//! Videos: animated pictures made here and against Pillow's first frame; real films where the program `ffmpeg` is at hand.
use std::path::Path;
use std::process::Command;

use crate::common::{files_below, golden, open, picture, real_data, refusal};
use chiasm_core::{Media, Modality, Video};
use chiasm_media::{Decoded, Limits, decode, read};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, Rgba, RgbaImage};

fn video(decoded: Decoded) -> Video {
    let modality = decoded.modality();
    let Media::Video(video) = decoded.media else { panic!("expected a video, got {modality}") };
    video
}

/// A GIF whose frames have these colours and last so many milliseconds.
fn gif(width: u32, height: u32, frames: &[([u8; 3], u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).unwrap();
    for ([r, g, b], ms) in frames {
        let canvas = RgbaImage::from_pixel(width, height, Rgba([*r, *g, *b, 255]));
        encoder.encode_frame(Frame::from_parts(canvas, 0, 0, Delay::from_numer_denom_ms(*ms, 1))).unwrap();
    }
    drop(encoder);
    bytes
}

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn an_animated_picture_is_a_video() {
    let decoded = open("a.gif", &gif(6, 4, &[(RED, 200), (BLUE, 300), (RED, 50), (BLUE, 0)])).unwrap();
    let m = &decoded.metadata;
    assert_eq!((m.format.as_str(), m.width, m.height, m.n_frames), ("GIF", Some(6), Some(4), Some(4)));
    let video = video(decoded);
    // Without a delay a frame is shown for a tenth of a second.
    assert!((video.duration_s - 0.65).abs() < 1e-9, "{}", video.duration_s);
    // The last comes 50 ms after the one before it, which is faster than frames are looked at.
    assert_eq!(video.times_s, [0.0, 0.2, 0.5]);
    let colours: Vec<&[u8]> = video.frames.iter().map(|f| &f.rgb[..3]).collect();
    assert_eq!(colours, [RED, BLUE, RED]);
}

#[test]
fn one_frame_is_a_picture() {
    let decoded = open("a.gif", &gif(6, 4, &[(RED, 200)])).unwrap();
    assert_eq!((decoded.modality(), decoded.metadata.n_frames), (Modality::Image, Some(1)));
}

#[test]
fn every_animated_format_begins_as_the_reference_does() {
    for (name, format, tolerance) in [("three.gif", "GIF", 0), ("three.png", "PNG", 0), ("three.webp", "WebP", 0)] {
        let decoded = open(name, &golden(name)).unwrap();
        assert_eq!((decoded.metadata.format.as_str(), decoded.metadata.n_frames), (format, Some(3)));
        let video = video(decoded);
        assert!(video.frames.len() > 1 && video.frames.len() == video.times_s.len(), "{name}: {:?}", video.times_s);
        let expected = picture(open("x.png", &golden(&format!("{name}.expected.png"))).unwrap());
        let first = &video.frames[0];
        assert_eq!((first.width, first.height), (expected.width, expected.height), "{name}");
        let largest = first.rgb.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(largest <= tolerance, "{name} differs by {largest}");
        assert_ne!(video.frames[0], video.frames[1], "{name}");
    }
}

#[test]
fn limits_bound_frames_bytes_time_and_work() {
    let frames: Vec<([u8; 3], u32)> = (0..200u32).map(|i| ([(i % 200) as u8, 0, 0], 200)).collect();
    let bytes = gif(30, 20, &frames);
    let with = |limits: Limits| decode(Path::new("a.gif"), &bytes, &limits);
    let whole = video(with(Limits::default()).unwrap());
    assert_eq!((whole.frames.len(), whole.duration_s.round()), (200, 40.0));
    let few = video(with(Limits { max_video_frames: 10, ..Limits::default() }).unwrap());
    assert!((5..=10).contains(&few.frames.len()) && few.duration_s == whole.duration_s);
    let light = video(with(Limits { max_video_bytes: 30 * 20 * 3 * 50, ..Limits::default() }).unwrap());
    assert!((25..=50).contains(&light.frames.len()));
    let short = with(Limits { max_video_s: 4, ..Limits::default() }).unwrap();
    assert!(short.metadata.notes[0].contains("first 4 seconds"), "{:?}", short.metadata.notes);
    assert!((20..=21).contains(&video(short).frames.len()));
    let message = refusal(with(Limits { max_animation_pixels: 100_000, ..Limits::default() }));
    assert!(message.contains("200 frames of 30 x 20") && message.contains("max_animation_pixels"), "{message}");
}

#[test]
fn a_file_that_ends_early_gives_what_is_there() {
    let whole = gif(30, 20, &[(RED, 200), (BLUE, 200), (RED, 200), (BLUE, 200)]);
    let mut seen = Vec::new();
    for n in (whole.len() / 3..whole.len()).step_by(7) {
        let Ok(decoded) = open("a.gif", &whole[..n]) else { continue };
        assert!(!decoded.metadata.notes.is_empty(), "{n} of {} bytes, and no word of it", whole.len());
        seen.push(decoded.modality());
    }
    assert!(seen.contains(&Modality::Image) && seen.contains(&Modality::Video), "{seen:?}");
}

/// Whether the program is there; says so if it is not.
fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: no ffmpeg on this machine");
    }
    found
}

#[test]
fn films_are_decoded_by_ffmpeg() {
    if !has_ffmpeg() {
        return;
    }
    // A film of which everything is known: 3 s at 25 frames, 640 x 360, turned into every container.
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, options: &[&str]| {
        let path = dir.path().join(name);
        let source =
            ["-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=640x360:rate=25:duration=3", "-pix_fmt", "yuv420p"];
        let made = Command::new("ffmpeg").args(source).args(options).arg(&path).output().unwrap();
        made.status.success().then_some(path)
    };
    let mut n_seen = 0;
    for (name, format, options) in [
        ("a.mp4", "MP4", &["-c:v", "mpeg4"][..]),
        ("a.mov", "QuickTime", &["-c:v", "mpeg4"]),
        ("a.mkv", "Matroska", &["-c:v", "mpeg4"]),
        ("a.webm", "WebM", &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"]),
        ("a.avi", "AVI", &["-c:v", "mpeg4"]),
        ("a.mpg", "MPEG", &["-c:v", "mpeg1video"]),
        ("a.flv", "FLV", &["-c:v", "flv"]),
        ("a.ogv", "Ogg Theora", &["-c:v", "libtheora"]),
        ("a.wmv", "Windows Media", &["-c:v", "wmv2"]),
        ("a.m2ts", "MPEG-TS", &["-c:v", "mpeg2video"]),
    ] {
        let Some(path) = make(name, options) else {
            println!("skipped: this ffmpeg cannot write {name}");
            continue;
        };
        let bytes = read(&path, &Limits::default()).unwrap();
        let decoded = decode(&path, &bytes, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let m = &decoded.metadata;
        assert_eq!((m.format.as_str(), m.width, m.height), (format, Some(640), Some(360)), "{name}");
        assert!(m.notes.is_empty(), "{name}: {:?}", m.notes);
        let by_path = video(decoded);
        assert!((by_path.duration_s - 3.0).abs() < 0.21, "{name}: {} s", by_path.duration_s);
        assert!((28..=32).contains(&by_path.frames.len()), "{name}: {} frames", by_path.frames.len());
        assert_eq!((by_path.frames[0].width, by_path.frames[0].height), (455, 256), "{name}");
        // Bytes without their file go through a temporary one.
        let by_bytes = video(decode(Path::new(name), &bytes, &Limits::default()).unwrap());
        assert_eq!(by_bytes, by_path, "{name}");
        n_seen += 1;
    }
    assert!(n_seen >= 5, "only {n_seen} containers were tried");
}

#[test]
fn real_films() {
    let Some(folder) = real_data("sign_video") else { return };
    if !has_ffmpeg() {
        return;
    }
    let files = files_below(&folder, &["mp4"]);
    let (mut n_frames, mut seconds) = (0, 0.0);
    for path in files.iter().take(12) {
        let decoded = decode(path, &read(path, &Limits::default()).unwrap(), &Limits::default());
        let decoded = decoded.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(decoded.metadata.width > Some(0));
        let video = video(decoded);
        assert!(video.frames.len() > 3 && video.duration_s > 0.3, "{}: {:?}", path.display(), video.times_s);
        n_frames += video.frames.len();
        seconds += video.duration_s;
    }
    println!("{} of {} films: {n_frames} frames of {seconds:.1} s", files.len().min(12), files.len());
}

#[test]
fn hostile_films_are_refused_in_time() {
    if !has_ffmpeg() {
        return;
    }
    // A playlist within a film's name: the demuxer is the one that the first bytes ask for, so it opens nothing else.
    let playlist = b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n";
    assert!(refusal(open("a.mp4", playlist)).contains("in no known format"));
    let rubbish: Vec<u8> = b"\x1a\x45\xdf\xa3webm".iter().copied().chain((0..4000u32).map(|i| (i * i % 251) as u8)).collect();
    assert!(refusal(open("a.webm", &rubbish)).contains("damaged WebM"));
    assert!(refusal(open("a.avi", b"RIFF\x10\0\0\0AVI LIST\xff\xff\xff\xff")).contains("damaged AVI"));
}
