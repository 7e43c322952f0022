//! A scene as a motion: a hand with a sensor traces the outlines in the air, subject first, and taps at each corner.
//!
//! | attribute | what is felt |
//! | --- | --- |
//! | shape | the path in the plane (x, y), and how many taps (z) on the way round |
//! | colour | the tempo: eight from 1.0 to 4.0 rounds per second |
//! | size | the amplitude |
//! | relation | where the second outline lies, as seen from the first: a shift of the path; inside: no shift, but z deeper |
//! | count | a scene of one kind of thing has as many bursts with rests between |
//!
//! What varies freely: where the trace begins, tempo by 3 %, a tilt of the sensor by some 10 degrees, drift, noise.

use chiasm_core::Series;
use libm::{cos, exp, exp2, sin};
use std::f64::consts::TAU;

use crate::dice::Dice;
use crate::outline::{along, n_corners, outline};
use crate::scene::{Colour, Relation, Scene, Size, Thing};

/// Readings per second.
pub(crate) const RATE_HZ: f64 = 50.0;
/// Readings per series: four seconds.
pub(crate) const STEPS: usize = 200;

/// Moves as a scene: `[STEPS, 3]`, centimetres.
pub(crate) fn trace(scene: &Scene, dice: &mut Dice) -> Series {
    let mut path = vec![[0.0f64; 3]; STEPS];
    match scene.other {
        None => {
            let n_bursts = usize::from(scene.subject.count);
            let slot = STEPS / n_bursts;
            for burst in 0..n_bursts {
                // The last fifth of a slot is rest, unless there is one only.
                let end = if n_bursts == 1 { STEPS } else { burst * slot + slot * 4 / 5 };
                round(&mut path[burst * slot..end], scene.subject, [0.0; 3], dice);
            }
        }
        Some((relation, other)) => {
            let shift = match relation {
                Relation::LeftOf => [1.0, 0.0, 0.0],
                Relation::RightOf => [-1.0, 0.0, 0.0],
                Relation::Above => [0.0, 1.0, 0.0],
                Relation::Below => [0.0, -1.0, 0.0],
                Relation::Inside => [0.0, 0.0, -1.2],
            };
            let (first, second) = path.split_at_mut(STEPS / 2);
            round(first, scene.subject, shift.map(|s| -2.5 * s), dice);
            round(second, other, shift.map(|s| 2.5 * s), dice);
        }
    }
    let (a, b) = (dice.around(0.0, 0.18), dice.around(0.0, 0.18));
    let (drift, noise) = ([dice.noise(), dice.noise(), dice.noise()], dice.around(0.14, 0.06));
    let mut values = Vec::with_capacity(STEPS * 3);
    for (i, [x, y, z]) in path.into_iter().enumerate() {
        // The sensor sits askew: a turn about x, then about y.
        let (y, z) = (cos(a) * y - sin(a) * z, sin(a) * y + cos(a) * z);
        let (x, z) = (cos(b) * x + sin(b) * z, cos(b) * z - sin(b) * x);
        let t = i as f64 / STEPS as f64 - 0.5;
        for (value, drift) in [x, y, z].into_iter().zip(drift) {
            values.push((value + 0.5 * drift * t + noise * dice.noise()) as f32);
        }
    }
    Series { n_channels: 3, names: ["x", "y", "z"].map(str::to_owned).to_vec(), values }
}

/// Traces one outline round and round for as long as `path` is.
fn round(path: &mut [[f64; 3]], thing: Thing, centre: [f64; 3], dice: &mut Dice) {
    let degree = Colour::ALL.iter().position(|c| *c == thing.colour).unwrap_or(0) as f64;
    let rounds_per_s = exp2(2.0 * degree / 7.0) * dice.around(1.0, 0.03);
    let amplitude = match thing.size {
        Size::Small => dice.around(1.6, 0.2),
        Size::Large => dice.around(3.6, 0.4),
    };
    let polygon = outline(thing.shape);
    let corners = n_corners(thing.shape) as f64;
    let start = dice.unit();
    for (i, point) in path.iter_mut().enumerate() {
        let turn = start + rounds_per_s * i as f64 / RATE_HZ;
        let (x, y) = along(&polygon, turn);
        // A tap is a dent of 2 cm, a quarter of the way between two corners wide.
        let tap = if corners > 0.0 { -2.0 * exp(2.0 * (cos(TAU * corners * turn) - 1.0)) } else { 0.0 };
        *point = [centre[0] + amplitude * x, centre[1] + amplitude * y, centre[2] + tap];
    }
}

/// The series as a CSV file with a header; three decimals, a tenth of the noise.
pub(crate) fn to_csv(series: &Series) -> String {
    let mut csv = series.names.join(",");
    csv.push('\n');
    for row in series.values.chunks_exact(series.n_channels) {
        let cells: Vec<String> = row.iter().map(|v| format!("{v:.3}")).collect();
        csv.push_str(&cells.join(","));
        csv.push('\n');
    }
    csv
}
