//! The outlines of the shapes: one source for the picture, which fills them, and the motion, which traces them.

use libm::{cos, sin};
use std::f64::consts::{PI, TAU};

use crate::scene::Shape;

/// Corners of a closed polygon around the origin, clockwise on a screen (y down), scaled so that all shapes look about as large
/// as a circle of radius 1.
pub(crate) fn outline(shape: Shape) -> Vec<(f64, f64)> {
    match shape {
        Shape::Circle => (0..48).map(|i| on_circle(1.0, f64::from(i) / 48.0)).collect(),
        Shape::Square => [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)].to_vec(),
        Shape::Triangle => (0..3).map(|i| on_circle(1.28, f64::from(i) / 3.0)).collect(),
        Shape::Star => (0..10).map(|i| on_circle(if i % 2 == 0 { 1.3 } else { 0.53 }, f64::from(i) / 10.0)).collect(),
        Shape::Cross => {
            let (arm, half) = (1.2, 0.4);
            let quarter = [(-half, -arm), (half, -arm), (half, -half)];
            // Each quarter turn of (x, y) on a screen is (-y, x).
            let turn = |(x, y): (f64, f64), n: usize| (0..n).fold((x, y), |(x, y), _| (-y, x));
            (0..4).flat_map(|n| quarter.map(|corner| turn(corner, n))).collect()
        }
        Shape::Heart => (0..48)
            .map(|i| {
                // The well-known heart curve, from the notch clockwise.
                let t = TAU * f64::from(i) / 48.0;
                let x = 16.0 * sin(t) * sin(t) * sin(t);
                let y = 13.0 * cos(t) - 5.0 * cos(2.0 * t) - 2.0 * cos(3.0 * t) - cos(4.0 * t);
                (x / 14.0, -(y + 2.0) / 14.0)
            })
            .collect(),
    }
}

/// How many corners a hand feels on the way round.
pub(crate) fn n_corners(shape: Shape) -> usize {
    match shape {
        Shape::Circle => 0,
        Shape::Square => 4,
        Shape::Triangle => 3,
        Shape::Star => 5,
        Shape::Cross => 4,
        Shape::Heart => 2,
    }
}

/// The point at `turn` (0..1, from the top, clockwise on a screen).
fn on_circle(radius: f64, turn: f64) -> (f64, f64) {
    (radius * cos(TAU * turn - PI / 2.0), radius * sin(TAU * turn - PI / 2.0))
}

/// Whether a point lies inside a polygon (even-odd rule).
pub(crate) fn contains(polygon: &[(f64, f64)], (x, y): (f64, f64)) -> bool {
    let mut inside = false;
    let mut from = polygon[polygon.len() - 1];
    for &to in polygon {
        if (from.1 > y) != (to.1 > y) && x < (to.0 - from.0) * (y - from.1) / (to.1 - from.1) + from.0 {
            inside = !inside;
        }
        from = to;
    }
    inside
}

/// The point at `turn` (0..1) of the way round a polygon, by length, so that a hand moves at an even pace.
pub(crate) fn along(polygon: &[(f64, f64)], turn: f64) -> (f64, f64) {
    let length = |i: usize| {
        let (a, b) = (polygon[i], polygon[(i + 1) % polygon.len()]);
        libm::hypot(b.0 - a.0, b.1 - a.1)
    };
    let mut rest = (turn - libm::floor(turn)) * (0..polygon.len()).map(length).sum::<f64>();
    for i in 0..polygon.len() {
        let side = length(i);
        if rest <= side {
            let (a, b) = (polygon[i], polygon[(i + 1) % polygon.len()]);
            let t = if side > 0.0 { rest / side } else { 0.0 };
            return (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
        }
        rest -= side;
    }
    polygon[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_are_about_as_large_as_a_circle_and_hold_their_middle() {
        for shape in Shape::ALL {
            let polygon = outline(*shape);
            let area: f64 = (0..polygon.len())
                .map(|i| {
                    let (a, b) = (polygon[i], polygon[(i + 1) % polygon.len()]);
                    (a.0 * b.1 - b.0 * a.1) / 2.0
                })
                .sum();
            // Positive: clockwise on a screen.
            assert!((1.7..3.5).contains(&area), "{shape:?} has area {area}");
            assert!(contains(&polygon, (0.0, 0.0)) && !contains(&polygon, (1.5, 1.5)), "{shape:?}");
            let (start, end) = (along(&polygon, 0.0), along(&polygon, 0.999_999));
            assert!((start.0 - end.0).abs() < 1e-3 && (start.1 - end.1).abs() < 1e-3, "{shape:?} is closed");
        }
    }
}
