//! Videos in a space that has no view for them: found by words, and finding, through their frames.

use std::sync::Arc;

use crate::common::{set, space, words, write_gif};
use chiasm_core::{Image, Media, Modality, Span, Video};
use chiasm_engine::{EngineError, Filter, IndexOptions, Query, QueryMedia, SearchRequest, load_media};

fn picture(i: usize) -> Arc<Image> {
    let dir = tempfile::tempdir().unwrap();
    crate::common::write_png(&dir.path().join("a.png"), i);
    let Media::Image(image) = load_media(&dir.path().join("a.png"), &Default::default()).unwrap() else {
        panic!("a picture is one")
    };
    Arc::new(image)
}

fn unit(rows: &[&[f32]]) -> Vec<f32> {
    let sum: Vec<f32> = (0..rows[0].len()).map(|c| rows.iter().map(|r| r[c]).sum()).collect();
    let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    sum.iter().map(|v| v / norm).collect()
}

fn assert_close(a: &[f32], b: &[f32]) {
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(a.len() == b.len() && off < 1e-5, "differs by {off}");
}

#[test]
fn a_video_is_the_mean_of_its_frames() {
    let space = space();
    assert!(space.modalities().contains(&Modality::Video) && space.describe().views.len() == 4);
    let frames: Vec<Arc<Image>> = (0..3).map(picture).collect();
    let stills: Vec<Media> = frames.iter().map(|f| Media::Image((**f).clone())).collect();
    let stills = space.embed(&stills).unwrap();
    let video = |frames: &[&Arc<Image>], times_s: &[f64], duration_s| {
        let frames = frames.iter().map(|f| Arc::clone(f)).collect();
        Media::Video(Video { frames, times_s: times_s.to_vec(), duration_s })
    };
    // One frame; two for as long; and one that is shown for five of eight stretches of time, another for three.
    let batch = [
        video(&[&frames[0]], &[0.0], 0.0),
        video(&[&frames[0], &frames[1]], &[0.0, 1.0], 2.0),
        video(&[&frames[2], &frames[1]], &[0.0, 5.0], 8.0),
    ];
    let rows = space.embed(&batch).unwrap();
    assert_close(rows.row(0), stills.row(0));
    assert_close(rows.row(1), &unit(&[stills.row(0), stills.row(1)]));
    let of = |n: usize, row: usize| vec![stills.row(row); n];
    assert_close(rows.row(2), &unit(&[of(5, 2), of(3, 1)].concat()));
    for (i, media) in batch.iter().enumerate() {
        assert_eq!(space.embed(std::slice::from_ref(media)).unwrap().row(0), rows.row(i), "a row depends on its batch");
    }
    let mixed = space.embed(&[batch[0].clone(), Media::Text("red".to_owned())]).unwrap_err();
    assert!(matches!(mixed, EngineError::Encode(_)), "{mixed}");
}

#[test]
fn words_find_videos_and_videos_find_pictures() {
    let set = set(0..24);
    std::fs::create_dir(set.files.join("films")).unwrap();
    (24..36).for_each(|i| write_gif(&set.files.join(format!("films/{i}.gif")), i));
    let report = set.index();
    assert!(report.refused.is_empty() && report.n_new == 24 * 5 + 12, "{report:?}");
    assert_eq!(set.index().n_unchanged, 24 * 5 + 12);
    let hits = |query: Query, kind| {
        let request = SearchRequest { query, k: 3, kinds: vec![kind], ..SearchRequest::default() };
        set.library.search(&request).unwrap().hits
    };
    // Of twelve films one is the thing that the words tell; two in twelve would be among the first two by chance.
    let mut n_right = 0;
    for i in 24..36 {
        let found = hits(Query::text(&words(i).0), Modality::Video);
        assert!(found.iter().all(|h| h.kind == Modality::Video && h.via == Modality::Video && h.span == Span::Whole));
        assert!((found[0].metadata.duration_s.unwrap() - 2.0).abs() < 1e-6, "{:?}", found[0].metadata);
        n_right += usize::from(found[..2].iter().any(|h| h.path.ends_with(format!("films/{i}.gif"))));
    }
    assert!(n_right >= 9, "{n_right} of 12 films are found");
    let film = load_media(&set.files.join("films/24.gif"), &Default::default()).unwrap();
    assert_eq!(film.modality(), Modality::Video);
    let found = hits(Query::of(QueryMedia::Media(film)), Modality::Image);
    assert!(found[0].path.ends_with("pictures/000.png") || found[0].path.ends_with("pictures/012.png"), "{:?}", found[0].path);
    let similar = set.library.similar(set.id("films/24.gif"), 2, &[Modality::Video], None).unwrap();
    assert!(!similar.hits.iter().any(|h| h.path.ends_with("films/24.gif")) && similar.hits.len() == 2);
    let filter = Filter::parse("kind = video AND duration < 3 AND format = GIF").unwrap();
    assert_eq!(set.library.items(Some(&filter)).unwrap().len(), 12);
}

#[test]
fn a_long_video_is_found_by_its_window() {
    let set = set(0..12);
    let path = set.files.join("long.gif");
    let mut encoder = image::codecs::gif::GifEncoder::new(std::fs::File::create(&path).unwrap());
    // 36 s: blue, then ten seconds of red, then blue again.
    for (i, seconds) in [(2usize, 10), (0, 10), (8, 16)] {
        let still = picture(i);
        let canvas = image::RgbImage::from_raw(still.width, still.height, still.rgb.clone()).unwrap();
        let canvas = image::DynamicImage::ImageRgb8(canvas).to_rgba8();
        let delay = image::Delay::from_numer_denom_ms(seconds * 1000, 1);
        encoder.encode_frame(image::Frame::from_parts(canvas, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    let report = set.index();
    assert_eq!(report.n_segments, 12 * 5 + 4, "{report:?}");
    let request =
        SearchRequest { query: Query::text(&words(0).0), k: 1, kinds: vec![Modality::Video], ..SearchRequest::default() };
    let found = set.library.search(&request).unwrap().hits;
    assert_eq!(found[0].span, Span::Time { start_s: 10.0, end_s: 20.0 });
}

#[test]
fn a_film_without_its_program_is_listed_and_tried_again() {
    let set = set(0..4);
    std::fs::write(set.files.join("a.mkv"), b"\x1a\x45\xdf\xa3\x42\x82\x88matroska").unwrap();
    // No time for the program is as good as no program.
    let options =
        IndexOptions { limits: chiasm_engine::Limits { max_ffmpeg_s: 0, ..Default::default() }, ..IndexOptions::default() };
    for _ in 0..2 {
        let report = set.index_with(&options);
        assert_eq!((report.n_seen, report.refused.len()), (21, 1));
        assert!(report.refused[0].reason.contains("install ffmpeg"), "{:?}", report.refused);
    }
}
