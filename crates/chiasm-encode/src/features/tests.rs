use super::*;
use chiasm_core::{Image, Mesh, Series, Waveform};

fn all() -> Vec<Box<dyn Encoder>> {
    vec![colour_layout(), mel_contour(), char_ngrams(), series_spectrum(), shape_distribution()]
}

fn image(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Media {
    let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
    Media::Image(Image { width, height, rgb })
}

fn sound(sample_rate_hz: u32, samples: Vec<f32>) -> Media {
    Media::Audio(Waveform { sample_rate_hz, samples })
}

fn series(n_channels: usize, values: Vec<f32>) -> Media {
    Media::Series(Series { n_channels, names: vec![], values })
}

/// Media at the edges of what decoders let through, with the descriptor that takes them.
fn odd_media() -> Vec<Media> {
    let mut odd = vec![
        image(1, 1, |_, _| [0, 0, 0]),
        image(1, 300, |_, y| [y as u8, 255, 0]),
        image(64, 64, |_, _| [255, 255, 255]),
        image(33, 65, |x, y| [(x * y) as u8, (x ^ y) as u8, 7]),
        Media::Text(String::new()),
        Media::Text("\u{0}\n。".to_owned()),
        Media::Text("İ ß 𝒳 字".to_owned()),
    ];
    for rate in [1, 8012, 16_000, 96_000] {
        odd.push(sound(rate, vec![0.5]));
    }
    for rate in [8012, 16_000, 96_000] {
        odd.push(sound(rate, vec![0.0; 3000]));
        odd.push(sound(rate, vec![1.0; 3000]));
        odd.push(sound(rate, (0..3000).map(|i| f32::from(i % 2 == 0) * 1e30).collect()));
    }
    for n_channels in [1, 2, 3, 7, 40] {
        odd.push(series(n_channels, vec![5.0; n_channels]));
        odd.push(series(n_channels, vec![0.0; n_channels * 2]));
        odd.push(series(n_channels, vec![-3.5; n_channels * 1000]));
        odd.push(series(n_channels, (0..n_channels * 50).map(|i| if i % 3 == 0 { f32::MAX } else { f32::MIN }).collect()));
        odd.push(series(n_channels, (0..n_channels * 300).map(|i| i as f32 * 1e-30).collect()));
    }
    let triangle = |vertices: Vec<[f32; 3]>| Media::Shape(Mesh { vertices, triangles: vec![[0, 1, 2]] });
    odd.push(triangle(vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1e-20, 0.0]]));
    odd.push(triangle(vec![[f32::MAX, 0.0, 0.0], [f32::MIN, 0.0, f32::MAX], [0.0, f32::MAX, 0.0]]));
    odd.push(triangle(vec![[0.0, 0.0, 1e-30], [1e-30, 0.0, 0.0], [0.0, 1e-30, 0.0]]));
    odd
}

#[test]
fn every_valid_medium_gives_finite_numbers_of_the_right_count() {
    for encoder in all() {
        for (i, media) in odd_media().into_iter().filter(|m| m.modality() == encoder.modality()).enumerate() {
            // `Vectors` refuses what is not finite.
            let row = encoder.encode(&[media]).unwrap_or_else(|e| panic!("{} on odd medium {i}: {e}", encoder.name()));
            assert_eq!((row.n(), row.dim()), (1, encoder.dim()));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for encoder in all() {
        let media: Vec<Media> = odd_media().into_iter().filter(|m| m.modality() == encoder.modality()).collect();
        let together = encoder.encode(&media).unwrap();
        for (i, one) in media.iter().enumerate() {
            assert_eq!(encoder.encode(std::slice::from_ref(one)).unwrap().row(0), together.row(i), "{} {i}", encoder.name());
        }
        assert_eq!(encoder.encode(&[]).unwrap().n(), 0);
    }
}

#[test]
fn what_cannot_be_described_is_named() {
    let text = Media::Text("a".to_owned());
    let error = colour_layout().encode(&[image(1, 1, |_, _| [0; 3]), text]).unwrap_err();
    assert_eq!(error.to_string(), "colour-layout takes image, item 1 of the batch is text");
    let error = mel_contour().encode(&[sound(8000, vec![])]).unwrap_err();
    assert_eq!(error.to_string(), "mel-contour cannot encode item 0 of the batch: it has no samples");
    let error = series_spectrum().encode(&[series(2, vec![])]).unwrap_err();
    assert_eq!(error.to_string(), "series-spectrum cannot encode item 0 of the batch: it has no readings");
    let point = Media::Shape(Mesh { vertices: vec![[3.0; 3]], triangles: vec![[0, 0, 0]] });
    let error = shape_distribution().encode(&[point]).unwrap_err();
    assert_eq!(error.to_string(), "shape-distribution cannot encode item 0 of the batch: its triangles have no area");
}

#[test]
fn fingerprints_are_hexadecimal_and_differ() {
    let prints: std::collections::BTreeSet<String> = all().iter().map(|e| e.fingerprint().to_owned()).collect();
    assert_eq!(prints.len(), 5);
    assert!(prints.iter().all(|p| p.len() == 64 && p.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Of three media the first two share what the descriptor is to see and differ in what it is not to see.
fn nearer(encoder: &dyn Encoder, [a, b, c]: [Media; 3]) {
    let rows = encoder.encode(&[a, b, c]).unwrap();
    let (alike, unlike) = (cosine(rows.row(0), rows.row(1)), cosine(rows.row(0), rows.row(2)));
    assert!(alike > unlike, "{}: alike {alike}, unlike {unlike}", encoder.name());
}

#[test]
fn descriptors_see_what_they_are_for() {
    let disc = |cx: i32, cy: i32, colour: [u8; 3]| {
        image(96, 96, move |x, y| if (x as i32 - cx).pow(2) + (y as i32 - cy).pow(2) < 400 { colour } else { [150, 150, 150] })
    };
    nearer(colour_layout().as_ref(), [disc(40, 40, [200, 30, 30]), disc(40, 41, [190, 40, 40]), disc(40, 40, [30, 60, 200])]);
    let tone = |rate: u32, hz: f32, level: f32| {
        sound(rate, (0..rate).map(|i| level * (std::f32::consts::TAU * hz * i as f32 / rate as f32).sin()).collect())
    };
    nearer(mel_contour().as_ref(), [tone(16_000, 440.0, 0.3), tone(22_050, 442.0, 0.25), tone(16_000, 880.0, 0.3)]);
    let words = |s: &str| Media::Text(s.to_owned());
    nearer(char_ngrams().as_ref(), [words("一个小红圆"), words("小红圆在左边"), words("一个大蓝星")]);
    let wave = |n: usize, rounds: f32| {
        series(
            2,
            (0..n)
                .flat_map(|i| {
                    let (s, c) = (std::f32::consts::TAU * rounds * i as f32 / n as f32).sin_cos();
                    [s, c]
                })
                .collect(),
        )
    };
    nearer(series_spectrum().as_ref(), [wave(200, 9.0), wave(317, 9.1), wave(200, 4.0)]);
}

/// The pitch code of a tone is at its pitch: two semitones per bin from 80 Hz.
#[test]
fn pitch_is_where_it_is() {
    for hz in [110.0f32, 220.0, 440.0, 1109.0] {
        let samples = (0..16_000).map(|i| 0.2 * (std::f32::consts::TAU * hz * i as f32 / 16_000.0).sin()).collect();
        let row = mel_contour().encode(&[sound(16_000, samples)]).unwrap();
        let pitch = &row.row(0)[48 * 4 + 8 * 24 + 32..][..27];
        let expected = 6.0 * (hz / 80.0).log2();
        let mean: f32 = pitch.iter().enumerate().map(|(i, v)| i as f32 * v).sum();
        assert!((mean - expected).abs() < 0.1, "{hz} Hz: bin {mean}, expected {expected}");
    }
}

/// The third harmonic of a triangle's outline is by far its strongest, the fourth of a square's, and a disc has neither. By half as much
/// again at least: on 64 pixels corners are blunt.
#[test]
fn outlines_are_told_apart() {
    let harmonics = |inside: fn(f32, f32) -> bool| {
        let picture =
            image(128, 128, |x, y| if inside(x as f32 - 50.0, y as f32 - 71.0) { [30, 90, 200] } else { [160, 150, 150] });
        let row = colour_layout().encode(&[picture]).unwrap();
        // The sums over regions stand first in the last block; here there is one region.
        let block = &row.row(0)[COLOUR_LAYOUT_DIM - 86..];
        (block[2], block[3])
    };
    let (third, fourth) = harmonics(|x, y| y < 12.0 && y > 1.73 * x.abs() - 24.0);
    assert!(third > 0.2 && third > 1.5 * fourth, "triangle: {third} {fourth}");
    let (third, fourth) = harmonics(|x, y| x.abs() < 18.0 && y.abs() < 18.0);
    assert!(fourth > 0.1 && fourth > 1.5 * third, "square: {third} {fourth}");
    let (third, fourth) = harmonics(|x, y| x.hypot(y) < 20.0);
    assert!(third < 0.05 && fourth < 0.05, "disc: {third} {fourth}");
}

/// Solids of revolution about z, and boxes: a profile of (radius, height) turned in `n` steps, and its ends closed.
fn turned(profile: &[(f32, f32)], n: usize) -> Mesh {
    let mut mesh = Mesh { vertices: Vec::new(), triangles: Vec::new() };
    for i in 0..n {
        let (sin, cos) = (std::f32::consts::TAU * i as f32 / n as f32).sin_cos();
        mesh.vertices.extend(profile.iter().map(|(r, z)| [r * cos, r * sin, *z]));
    }
    let at = |i: usize, j: usize| (i % n * profile.len() + j) as u32;
    for i in 0..n {
        for j in 0..profile.len() - 1 {
            mesh.triangles.push([at(i, j), at(i + 1, j), at(i + 1, j + 1)]);
            mesh.triangles.push([at(i, j), at(i + 1, j + 1), at(i, j + 1)]);
        }
    }
    mesh
}

/// One of five families with these proportions, turned about the upright axis and of another size and place.
fn solid(family: usize, a: f32, b: f32, n: usize) -> Media {
    let ball = |i: usize| (std::f32::consts::PI * i as f32 / 12.0).sin_cos();
    let mut mesh = match family {
        0 => turned(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.2 * a), (0.0, 1.2 * a)], n),
        1 => turned(&[(0.0, 0.0), (1.0, 0.0), (0.0, 1.5 * a)], n),
        2 => turned(&(0..=12).map(|i| (ball(i).0, -a * ball(i).1)).collect::<Vec<_>>(), n),
        3 => turned(&(0..=24).map(|i| (1.0 + 0.35 * b * ball(i).1, 0.35 * b * ball(i).0)).collect::<Vec<_>>(), n),
        // Square, of four sides.
        _ => turned(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.2 * a), (0.0, 1.2 * a)], 4),
    };
    let (sin, cos) = (a * 31.0).sin_cos();
    for v in &mut mesh.vertices {
        *v = [v[0] * cos - v[1] * sin, v[0] * sin + v[1] * cos, v[2]].map(|x| 40.0 * b * x + 7.0);
    }
    Media::Shape(mesh)
}

#[test]
fn shapes_of_a_family_are_nearest_to_each_other() {
    let (families, each) = (5, 12);
    let proportion = |i: usize, k: usize| 0.75 + 0.5 * ((i * k % 97) as f32 / 97.0);
    let media: Vec<Media> =
        (0..families * each).map(|i| solid(i % families, proportion(i, 61), proportion(i, 37), 16 + i * 7 % 40)).collect();
    let rows = shape_distribution().encode(&media).unwrap();
    let nearest = |i: usize| {
        (0..media.len())
            .filter(|j| *j != i)
            .max_by(|a, b| cosine(rows.row(i), rows.row(*a)).total_cmp(&cosine(rows.row(i), rows.row(*b))))
    };
    let n_right = (0..media.len()).filter(|i| nearest(*i).is_some_and(|j| j % families == i % families)).count();
    assert!(n_right >= 54, "{n_right} of {}", media.len());
}

/// Of a shape in `testdata/goldens/media`, against a million pairs of points that trimesh spread over it.
#[test]
fn distances_on_a_surface_are_as_trimesh_finds_them() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/media");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&read("shape.json")).unwrap();
    let expected: Vec<f64> = golden["distances"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let media = chiasm_media::decode(std::path::Path::new("shape.stl"), &read("shape.stl"), &Default::default()).unwrap().media;
    let rows = shape_distribution().encode(&[media]).unwrap();
    let apart: f64 = rows.row(0)[..64].iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).sum();
    // Shares of 32,768 pairs in some 40 bins waver by 0.03 in sum.
    assert!(apart < 0.06, "{apart}");
}
