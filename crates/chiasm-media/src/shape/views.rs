//! Pictures of shapes: grey surfaces on white, as encoders of pictures and people can look at.
//!
//! Cameras stand in a circle around the upright shape, 30 degrees above its middle, without perspective (Su et al., "Multi-view
//! convolutional neural networks for 3D shape recognition", 2015, first setup: 12 of them). Surfaces are lit from the camera's upper left,
//! each triangle with one brightness and from both sides, since the files of many shapes do not agree on what is inside.

use chiasm_core::{Image, Mesh};

use crate::resize::resize;

/// Views that stand for a shape.
pub const N_VIEWS: usize = 12;
const ELEVATION_DEGREES: f32 = 30.0;
/// Towards the light, in the camera's right, up and back.
const LIGHT: [f32; 3] = [-0.35, 0.5, 0.79];
const AMBIENT: f32 = 0.25;
const BRIGHTEST: f32 = 235.0;
const WHITE: u8 = 255;
/// How much of half the picture the shape may reach.
const REACH: f32 = 0.94;
/// Pixels looked at for one picture, over all triangles; a shape that needs more is drawn more coarsely. About a second.
const MAX_PIXELS: u64 = 200_000_000;
/// The coarsest.
const MIN_SIDE: usize = 16;

/// Pictures of a shape from all [`N_VIEWS`] sides, `side` pixels high and wide; the first from the front, which is where y is least.
///
/// # Panics
/// When `side` is 0.
pub fn shape_views(mesh: &Mesh, side: u32) -> Vec<Image> {
    let placed = placed(mesh);
    (0..N_VIEWS).map(|i| view(mesh, &seen(&placed, i), side)).collect()
}

/// One of [`shape_views`].
///
/// # Panics
/// When `side` is 0.
pub fn shape_view(mesh: &Mesh, i: usize, side: u32) -> Image {
    view(mesh, &seen(&placed(mesh), i), side)
}

/// The vertices moved and scaled so that the middle of what is used of them is 0 and the farthest is at distance 1.
fn placed(mesh: &Mesh) -> Vec<[f32; 3]> {
    let corners = || mesh.triangles.iter().flatten().map(|corner| mesh.vertices[*corner as usize].map(f64::from));
    let (mut least, mut most) = ([f64::MAX; 3], [f64::MIN; 3]);
    for at in corners() {
        for axis in 0..3 {
            (least[axis], most[axis]) = (least[axis].min(at[axis]), most[axis].max(at[axis]));
        }
    }
    let middle: [f64; 3] = std::array::from_fn(|axis| (least[axis] + most[axis]) / 2.0);
    let from_middle = |at: [f64; 3]| -> [f64; 3] { std::array::from_fn(|axis| at[axis] - middle[axis]) };
    let radius = corners().map(|at| dot64(from_middle(at))).fold(0.0, f64::max).sqrt();
    let scale = if radius > 0.0 { 1.0 / radius } else { 0.0 };
    let place = |at: &[f32; 3]| from_middle(at.map(f64::from)).map(|v| (v * scale).clamp(-1.0, 1.0) as f32);
    mesh.vertices.iter().map(place).collect()
}

fn dot64(a: [f64; 3]) -> f64 {
    a.iter().map(|v| v * v).sum()
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Points in the axes of a camera: right, up, and towards it.
fn seen(placed: &[[f32; 3]], i: usize) -> Vec<[f32; 3]> {
    let azimuth = std::f32::consts::TAU * (i as f32 / N_VIEWS as f32 - 0.25);
    let (sin, cos) = azimuth.sin_cos();
    let (up_sin, up_cos) = ELEVATION_DEGREES.to_radians().sin_cos();
    let (right, back) = ([-sin, cos, 0.0], [up_cos * cos, up_cos * sin, up_sin]);
    let up = cross(back, right);
    placed.iter().map(|at| [dot(*at, right), dot(*at, up), dot(*at, back)]).collect()
}

fn view(mesh: &Mesh, seen: &[[f32; 3]], side: u32) -> Image {
    assert!(side > 0, "pictures of no pixels");
    // Twice as fine, so that edges are smooth.
    let mut fine = 2 * side as usize;
    while fine > MIN_SIDE && n_pixels(mesh, seen, fine) > MAX_PIXELS {
        fine /= 2;
    }
    let drawn = drawn(mesh, seen, fine);
    let image = Image { width: fine as u32, height: fine as u32, rgb: drawn.iter().flat_map(|grey| [*grey; 3]).collect() };
    resize(&image, side, side)
}

/// A triangle on a picture: corners in pixels with their depth, and the pixels that it may cover.
struct OnPicture {
    corners: [[f32; 3]; 3],
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

fn on_picture(triangle: &[u32; 3], seen: &[[f32; 3]], side: usize) -> OnPicture {
    let half = side as f32 / 2.0;
    let corners = triangle.map(|corner| {
        let [x, y, depth] = seen[corner as usize];
        [half * (1.0 + REACH * x), half * (1.0 - REACH * y), depth]
    });
    let range = |axis: usize| {
        let of = corners.map(|corner| corner[axis]);
        let (least, most) = (of.iter().copied().fold(f32::MAX, f32::min), of.iter().copied().fold(f32::MIN, f32::max));
        let first = (least - 0.5).ceil().max(0.0) as usize;
        first..((most - 0.5).floor() + 1.0).clamp(first as f32, side as f32) as usize
    };
    OnPicture { columns: range(0), rows: range(1), corners }
}

fn n_pixels(mesh: &Mesh, seen: &[[f32; 3]], side: usize) -> u64 {
    let of = |triangle| {
        let at = on_picture(triangle, seen, side);
        (at.columns.len() * at.rows.len()) as u64
    };
    mesh.triangles.iter().map(of).sum()
}

/// Greys, row by row from the top: of each pixel the triangle that is nearest to the camera.
fn drawn(mesh: &Mesh, seen: &[[f32; 3]], side: usize) -> Vec<u8> {
    let mut greys = vec![WHITE; side * side];
    let mut depths = vec![f32::MIN; side * side];
    for triangle in &mesh.triangles {
        let OnPicture { corners: [a, b, c], columns, rows } = on_picture(triangle, seen, side);
        // Twice the area that the corners span, signed; of it, what a point spans with two of them is its share of the third.
        let span = |p: [f32; 3], q: [f32; 3], x: f32, y: f32| (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]);
        let area = span(a, b, c[0], c[1]);
        if area == 0.0 {
            continue;
        }
        let grey = brightness(triangle.map(|corner| seen[corner as usize]));
        for row in rows {
            let y = row as f32 + 0.5;
            for column in columns.clone() {
                let x = column as f32 + 0.5;
                let shares = [span(b, c, x, y), span(c, a, x, y), span(a, b, x, y)].map(|s| s / area);
                if shares.iter().any(|share| *share < 0.0) {
                    continue;
                }
                let depth = shares[0] * a[2] + shares[1] * b[2] + shares[2] * c[2];
                let pixel = row * side + column;
                if depth > depths[pixel] {
                    (depths[pixel], greys[pixel]) = (depth, grey);
                }
            }
        }
    }
    greys
}

fn brightness([a, b, c]: [[f32; 3]; 3]) -> u8 {
    let from_a = |p: [f32; 3]| [p[0] - a[0], p[1] - a[1], p[2] - a[2]];
    let normal = cross(from_a(b), from_a(c));
    let length = dot(normal, normal).sqrt();
    // Turned towards the camera.
    let towards_light = if length > 0.0 { dot(normal, LIGHT) / length * normal[2].signum() } else { 0.0 };
    (BRIGHTEST * (AMBIENT + (1.0 - AMBIENT) * towards_light.max(0.0))) as u8
}

#[cfg(test)]
mod tests {
    use chiasm_core::Media;

    use super::*;

    /// Each pixel against a ray through its middle, as trimesh casts it (`reference/shape_goldens.py`).
    #[test]
    fn pictures_have_the_outlines_that_rays_meet() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/goldens/media");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let decoded = crate::decode(std::path::Path::new("shape.stl"), &read("shape.stl"), &Default::default()).unwrap();
        let Media::Shape(mesh) = decoded.media else { panic!("a shape is one") };
        let golden: serde_json::Value = serde_json::from_slice(&read("shape.json")).unwrap();
        let outlines = golden["outlines"].as_object().unwrap();
        assert_eq!(outlines.len(), 3);
        for (i, outline) in outlines {
            let expected: Vec<bool> = outline.as_str().unwrap().bytes().map(|b| b == b'#').collect();
            let side = expected.len().isqrt();
            let found = drawn(&mesh, &seen(&placed(&mesh), i.parse().unwrap()), side);
            let n_wrong = found.iter().zip(&expected).filter(|(grey, expected)| (**grey != WHITE) != **expected).count();
            // Rays along an edge.
            assert!(n_wrong <= 2, "view {i}: {n_wrong} of {} pixels", expected.len());
        }
    }
}
