//! `shape-distribution`: how the surface of a shape lies in space, whatever its size, its triangles and the side it is looked at from.
//!
//! # Model
//! 4,096 points are spread over the surface, evenly by area (a fixed sequence, so that a shape has one vector), and measured in units of their mean distance
//! from each other or from their middle. Blocks, in order, each the share of what falls into each bin:
//!
//! | block | numbers | what |
//! | --- | --- | --- |
//! | D2 | 64 | distances between two points, up to three times the mean (Osada et al., "Shape distributions", 2002) |
//! | A3 | 32 | angles at one of three points |
//! | D1 | 32 | distances from the middle, up to three times the mean |
//! | upright | 8 x 8 | height between bottom and top, by distance from the upright axis up to three times the mean |
//! | proportions | 4 | the roots of the variances along the three main directions over that of the first; height over width of the upright box |
//! | faces | 16 | directions of the surface against the upright axis, from lying to standing, by area |
//!
//! Turning a shape about its upright axis changes nothing but what the finite number of points makes of it; D2, A3, D1 and the first three proportions stay
//! under any turn. Mirroring changes nothing.
//!
//! # Cost
//! 5 ms, and 12 bytes per triangle.
//! # Errors
//! A shape whose triangles have no area.

use chiasm_core::Mesh;

use super::{splat, to_shares};

const POINTS: usize = 4_096;
const PAIRS: usize = 32_768;
const D2: usize = 64;
const A3: usize = 32;
const D1: usize = 32;
const HEIGHTS: usize = 8;
const RADII: usize = 8;
const PROPORTIONS: usize = 4;
const FACES: usize = 16;
/// Distances in units of their mean go up to this.
const FARTHEST: f32 = 3.0;

/// Numbers per shape.
pub(super) const DIM: usize = D2 + A3 + D1 + HEIGHTS * RADII + PROPORTIONS + FACES;

type Point = [f32; 3];

pub(super) fn describe(mesh: &Mesh) -> Result<Vec<f32>, String> {
    let corners: Vec<[Point; 3]> = in_unit(mesh);
    // Cross products of two sides: twice the area long, and upright on the triangle.
    let upright_on = |[a, b, c]: &[Point; 3]| cross(minus(*b, *a), minus(*c, *a));
    let areas: Vec<f64> = corners.iter().map(|of| f64::from(length(upright_on(of)))).collect();
    let whole: f64 = areas.iter().sum();
    if whole <= 0.0 || !whole.is_finite() {
        return Err("its triangles have no area".to_owned());
    }
    let points = spread(&corners, &areas, whole);
    let n = points.len() as f32;
    let middle: Point = std::array::from_fn(|axis| points.iter().map(|p| p[axis]).sum::<f32>() / n);
    let mut row = Vec::with_capacity(DIM);

    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut any = || points[random.below(points.len())];
    let pairs: Vec<f32> = (0..PAIRS).map(|_| length(minus(any(), any()))).collect();
    histogram(&mut row, D2, &pairs);
    let angles: Vec<f32> = (0..PAIRS).map(|_| angle(any(), any(), any())).collect();
    let mut of_angles = vec![0.0; A3];
    for angle in angles {
        splat(&mut of_angles, angle / std::f32::consts::PI * (A3 - 1) as f32, 1.0);
    }
    to_shares(&mut of_angles);
    row.extend(of_angles);
    let from_middle: Vec<f32> = points.iter().map(|p| length(minus(*p, middle))).collect();
    histogram(&mut row, D1, &from_middle);

    // Upright: the axis stands in the middle of the points.
    let (low, high) = range(points.iter().map(|p| p[2]));
    let radius = |p: &Point| (p[0] - middle[0]).hypot(p[1] - middle[1]);
    let mean_radius = points.iter().map(radius).sum::<f32>() / n;
    let mut upright = vec![0.0; HEIGHTS * RADII];
    for p in &points {
        let height = share(p[2] - low, high - low) * (HEIGHTS - 1) as f32;
        let out = share(radius(p), mean_radius * FARTHEST).min(1.0) * (RADII - 1) as f32;
        // Shared between the two nearest heights.
        let (below, above) = (height.floor(), height.fract());
        let at = |height: f32| height as usize * RADII;
        splat(&mut upright[at(below)..at(below) + RADII], out, 1.0 - above);
        if above > 0.0 {
            splat(&mut upright[at(below + 1.0)..at(below + 1.0) + RADII], out, above);
        }
    }
    to_shares(&mut upright);
    row.extend(upright);

    let deviations = main_deviations(&points, middle);
    row.extend(deviations.map(|d| share(d, deviations[0])));
    let (width, depth) = (range(points.iter().map(|p| p[0])), range(points.iter().map(|p| p[1])));
    // Of the diagonal, which turns less than either side.
    let across = (width.1 - width.0).hypot(depth.1 - depth.0);
    row.push(share(high - low, across + (high - low)));

    let mut lying = vec![0.0; FACES];
    for (of, area) in corners.iter().zip(&areas).filter(|(_, area)| **area > 0.0) {
        let steepness = (upright_on(of)[2].abs() / *area as f32).min(1.0);
        splat(&mut lying, steepness * (FACES - 1) as f32, (*area / whole) as f32);
    }
    to_shares(&mut lying);
    row.extend(lying);
    Ok(row)
}

/// Corners of every triangle, moved and scaled to within -1..=1.
fn in_unit(mesh: &Mesh) -> Vec<[Point; 3]> {
    let used = || mesh.triangles.iter().flatten().map(|corner| mesh.vertices[*corner as usize]);
    let ranges: [(f32, f32); 3] = std::array::from_fn(|axis| range(used().map(|at| at[axis])));
    // In f64: the largest floats have no difference in f32.
    let size = ranges.iter().map(|(low, high)| f64::from(*high) - f64::from(*low)).fold(0.0, f64::max);
    let scale = if size > 0.0 { 2.0 / size } else { 0.0 };
    let place = |at: Point| -> Point {
        std::array::from_fn(|axis| {
            let (low, high) = ranges[axis];
            ((f64::from(at[axis]) - (f64::from(low) + f64::from(high)) / 2.0) * scale) as f32
        })
    };
    mesh.triangles.iter().map(|corners| corners.map(|corner| place(mesh.vertices[corner as usize]))).collect()
}

/// Points evenly by area: one in each of as many equal stretches of it, at random places of their triangles.
fn spread(corners: &[[Point; 3]], areas: &[f64], whole: f64) -> Vec<Point> {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let (mut at, mut end) = (0, areas[0]);
    (0..POINTS)
        .map(|i| {
            let wanted = whole * (i as f64 + random.share()) / POINTS as f64;
            while end < wanted && at + 1 < areas.len() {
                at += 1;
                end += areas[at];
            }
            let [a, b, c] = corners[at];
            // Roots make it even over the triangle (Osada et al., equation 1).
            let (r, s) = (random.share().sqrt() as f32, random.share() as f32);
            std::array::from_fn(|axis| (1.0 - r) * a[axis] + r * (1.0 - s) * b[axis] + r * s * c[axis])
        })
        .collect()
}

/// Shares of distances, in units of their mean.
fn histogram(row: &mut Vec<f32>, n_bins: usize, distances: &[f32]) {
    let mean = distances.iter().sum::<f32>() / distances.len() as f32;
    let mut bins = vec![0.0; n_bins];
    for distance in distances {
        splat(&mut bins, share(*distance, mean * FARTHEST) * (n_bins - 1) as f32, 1.0);
    }
    to_shares(&mut bins);
    row.extend(bins);
}

/// Roots of the variances along the three main directions, the greatest first: eigenvalues of the symmetric 3 x 3 covariance, in closed form
/// (Smith, "Eigenvalues of a symmetric 3 x 3 matrix", 1961).
fn main_deviations(points: &[Point], middle: Point) -> [f32; 3] {
    let mut c = [[0.0_f64; 3]; 3];
    for p in points {
        let d = minus(*p, middle).map(f64::from);
        for i in 0..3 {
            for j in 0..3 {
                c[i][j] += d[i] * d[j] / points.len() as f64;
            }
        }
    }
    let mean = (c[0][0] + c[1][1] + c[2][2]) / 3.0;
    let off = c[0][1].powi(2) + c[0][2].powi(2) + c[1][2].powi(2);
    let spread = (0..3).map(|i| (c[i][i] - mean).powi(2)).sum::<f64>() + 2.0 * off;
    let p = (spread / 6.0).sqrt();
    let values = if p <= mean * 1e-9 {
        [mean; 3]
    } else {
        let b: [[f64; 3]; 3] =
            std::array::from_fn(|i| std::array::from_fn(|j| (c[i][j] - if i == j { mean } else { 0.0 }) / p));
        let det = b[0][0] * (b[1][1] * b[2][2] - b[1][2] * b[2][1]) - b[0][1] * (b[1][0] * b[2][2] - b[1][2] * b[2][0])
            + b[0][2] * (b[1][0] * b[2][1] - b[1][1] * b[2][0]);
        let phi = (det / 2.0).clamp(-1.0, 1.0).acos() / 3.0;
        let first = mean + 2.0 * p * phi.cos();
        let last = mean + 2.0 * p * (phi + std::f64::consts::TAU / 3.0).cos();
        [first, 3.0 * mean - first - last, last]
    };
    values.map(|v| v.max(0.0).sqrt() as f32)
}

/// The angle at `a`, in 0..=pi; 0 where two points are one.
fn angle(a: Point, b: Point, c: Point) -> f32 {
    let (u, v) = (minus(b, a), minus(c, a));
    let product = length(u) * length(v);
    if product > 0.0 { ((u[0] * v[0] + u[1] * v[1] + u[2] * v[2]) / product).clamp(-1.0, 1.0).acos() } else { 0.0 }
}

fn share(part: f32, of: f32) -> f32 {
    if of > 0.0 { part / of } else { 0.0 }
}

fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)))
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn cross(a: Point, b: Point) -> Point {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn length(a: Point) -> f32 {
    (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]).sqrt()
}

/// A fixed sequence (Marsaglia's xorshift, 64 bits).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        (self.share() * n as f64) as usize
    }
}
