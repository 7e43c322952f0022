//! Embeddings of two modalities with a gap between them, made from a seed: what measurements use when no real ones are given.
//!
//! # Model
//! ```text
//! z     = centre of a topic (topics lie in families, few of them are frequent) + local part      what an item is about
//! S(z)  a random network of two layers with tanh, the same for both modalities                   what training aligns
//! P(z, u)  such a network for each modality, with latents u of its own                            what it does not
//! x = unit(offset + a S(z + e) + b P(z, u) + c noise),   e: what a caption leaves open, for the second modality only
//! ```
//! Axes of `z` shrink by a power law, so the data have few dimensions locally and many globally. Offsets, shares and noise have the size that
//! embeddings of pictures and captions have in common spaces: items of one modality are closer to each other than to their own pairs.
//!
//! # Determinism
//! Rows come in blocks of `BLOCK`, each with a stream of random numbers of its own, so the number of threads changes nothing.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use chiasm_core::{Cancel, Progress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::error::BenchError;

/// Numbers per vector.
pub const DIM: usize = 512;
/// Rows that share a stream of random numbers.
const BLOCK: usize = 512;
/// Blocks that are in memory at once.
const BLOCKS: usize = 32;
const LATENT: usize = 48;
const PRIVATE: usize = 24;
const HIDDEN: usize = 256;
const TOPICS: usize = 4000;
const FAMILIES: usize = 80;
/// Rows by which networks are centred and scaled.
const CALIBRATION: usize = 500;

/// Squared lengths: of the part both modalities share, of each one's own, of noise, of the offsets; and the cosine between offsets.
const SHARED_POWER: f32 = 0.165;
const PRIVATE_POWER: f32 = 0.26;
const NOISE_POWER: f32 = 0.05;
const OFFSET_POWER: [f32; 2] = [0.535, 0.515];
const OFFSET_COSINE: f32 = 0.309;
/// Sizes of a topic's distance from the middle, of items' from their topic, and of what a caption leaves open.
const TOPIC_SPREAD: f32 = 0.8;
const LOCAL_SPREAD: f32 = 0.6;
const CAPTION_SPREAD: f32 = 0.35;

/// Which of the two modalities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That of the base, such as pictures.
    First,
    /// The other one, such as captions.
    Second,
}

/// A world: everything but the items.
pub struct World {
    seed: u64,
    /// Size of each latent axis; their squares sum to 1.
    scale: Vec<f32>,
    centres: Vec<f32>,
    local: Vec<f32>,
    /// Summed frequencies of the topics.
    up_to: Vec<f64>,
    shared: Net,
    private: [Net; 2],
    offset: [Vec<f32>; 2],
}

/// A network of two layers, centred and of unit mean square length over what it was calibrated on.
struct Net {
    n_in: usize,
    /// `[n_in, HIDDEN]`.
    first: Vec<f32>,
    bias: Vec<f32>,
    /// `[HIDDEN, DIM]`.
    second: Vec<f32>,
    mean: Vec<f32>,
    scale: f32,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let raw: Vec<f32> = (1..=LATENT).map(|axis| (axis as f32).powf(-0.45)).collect();
        let length = raw.iter().map(|v| v * v).sum::<f32>().sqrt();
        let scale: Vec<f32> = raw.iter().map(|v| v / length).collect();
        let families = normals(&mut rng, FAMILIES * LATENT);
        let mut centres = normals(&mut rng, TOPICS * LATENT);
        for centre in centres.chunks_exact_mut(LATENT) {
            let family = rng.random_range(0..FAMILIES);
            let family = &families[family * LATENT..][..LATENT];
            for ((own, family), scale) in centre.iter_mut().zip(family).zip(&scale) {
                *own = TOPIC_SPREAD * (0.75 * family + 0.66 * *own) * scale;
            }
        }
        let local = (0..TOPICS).map(|_| LOCAL_SPREAD * rng.random_range(0.6..1.4)).collect();
        let mut sum = 0.0;
        let up_to = (1..=TOPICS).map(|rank| {
            sum += (rank as f64).powf(-0.7);
            sum
        });
        let up_to = up_to.collect();
        let shared = Net::new(&mut rng, LATENT);
        let private = [Net::new(&mut rng, LATENT + PRIVATE), Net::new(&mut rng, LATENT + PRIVATE)];
        let offset = offsets(&mut rng);
        let mut world = Self { seed, scale, centres, local, up_to, shared, private, offset };
        let z = world.latents(&mut rng, CALIBRATION);
        let own = with_private(&mut rng, &z);
        world.shared.calibrate(&z);
        world.private.iter_mut().for_each(|net| net.calibrate(&own));
        world
    }

    /// Writes `n` items of a modality to a file, row after row; `part` tells sets of items of one world apart.
    ///
    /// # Errors
    /// [`BenchError::File`] when it cannot be written; [`BenchError::Cancelled`].
    pub fn write(
        &self,
        path: &Path,
        side: Side,
        n: usize,
        part: u64,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), BenchError> {
        let failed = |e: std::io::Error| BenchError::File { path: path.to_owned(), reason: e.to_string() };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        for first in (0..n).step_by(BLOCK * BLOCKS) {
            cancel.check()?;
            let blocks: Vec<usize> = (first..n.min(first + BLOCK * BLOCKS)).step_by(BLOCK).collect();
            let rows: Vec<Vec<f32>> = blocks.par_iter().map(|at| self.block(side, part, *at, BLOCK.min(n - at))).collect();
            for row in rows {
                file.write_all(&row.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).map_err(failed)?;
                progress.advance((row.len() / DIM) as u64);
            }
        }
        file.flush().map_err(failed)
    }

    fn block(&self, side: Side, part: u64, at: usize, n: usize) -> Vec<f32> {
        let z = self.latents(&mut self.stream(part, at, 0), n);
        self.embed(side, &z, &mut self.stream(part, at, 1))
    }

    /// What the rows from `at` on draw from. Items and what a modality adds to them have streams of their own.
    fn stream(&self, part: u64, at: usize, what: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Stream 0 made the world.
        rng.set_stream(1 + what + 2 * (part + 8 * (at / BLOCK) as u64));
        rng
    }

    /// `n` items: what they are about.
    fn latents(&self, rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
        let mut z = normals(rng, n * LATENT);
        for z in z.chunks_exact_mut(LATENT) {
            let drawn = rng.random::<f64>() * self.up_to[TOPICS - 1];
            let topic = self.up_to.partition_point(|sum| *sum < drawn).min(TOPICS - 1);
            let centre = &self.centres[topic * LATENT..][..LATENT];
            for ((z, centre), scale) in z.iter_mut().zip(centre).zip(&self.scale) {
                *z = centre + self.local[topic] * *z * scale;
            }
        }
        z
    }

    /// Items as a modality shows them.
    fn embed(&self, side: Side, z: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut z = z.to_vec();
        if side == Side::Second {
            let open = normals(rng, z.len());
            for ((z, open), scale) in z.iter_mut().zip(open).zip(self.scale.iter().cycle()) {
                *z += CAPTION_SPREAD * open * scale;
            }
        }
        let own = with_private(rng, &z);
        let mut rows = self.shared.of(&z);
        let private = self.private[side as usize].of(&own);
        let noise = normals(rng, rows.len());
        let size = (NOISE_POWER / DIM as f32).sqrt();
        let parts = rows.chunks_exact_mut(DIM).zip(private.chunks_exact(DIM)).zip(noise.chunks_exact(DIM));
        for ((row, private), noise) in parts {
            for (((x, private), noise), offset) in row.iter_mut().zip(private).zip(noise).zip(&self.offset[side as usize]) {
                *x = offset + SHARED_POWER.sqrt() * *x + PRIVATE_POWER.sqrt() * private + size * noise;
            }
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= length);
        }
        rows
    }
}

impl Net {
    fn new(rng: &mut ChaCha8Rng, n_in: usize) -> Self {
        let times = |values: Vec<f32>, by: f32| values.into_iter().map(|v| v * by).collect();
        let first = times(normals(rng, n_in * HIDDEN), 1.5);
        let bias = times(normals(rng, HIDDEN), 0.5);
        let second = times(normals(rng, HIDDEN * DIM), 1.0 / (HIDDEN as f32).sqrt());
        Self { n_in, first, bias, second, mean: vec![0.0; DIM], scale: 1.0 }
    }

    fn calibrate(&mut self, x: &[f32]) {
        let out = self.of(x);
        let n = (out.len() / DIM) as f32;
        let mut mean = vec![0.0; DIM];
        for row in out.chunks_exact(DIM) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v / n);
        }
        let apart = |row: &[f32]| row.iter().zip(&mean).map(|(v, mean)| (v - mean).powi(2)).sum::<f32>();
        self.scale = (out.chunks_exact(DIM).map(apart).sum::<f32>() / n).sqrt().recip();
        self.mean = mean;
    }

    /// `[n, DIM]` of `[n, n_in]`.
    fn of(&self, x: &[f32]) -> Vec<f32> {
        let n = x.len() / self.n_in;
        let mut hidden: Vec<f32> = self.bias.iter().copied().cycle().take(n * HIDDEN).collect();
        add_product(&mut hidden, x, &self.first, HIDDEN);
        hidden.iter_mut().for_each(|v| *v = v.tanh());
        let mut out = vec![0.0; n * DIM];
        add_product(&mut out, &hidden, &self.second, DIM);
        for row in out.chunks_exact_mut(DIM) {
            row.iter_mut().zip(&self.mean).for_each(|(v, mean)| *v = (*v - mean) * self.scale);
        }
        out
    }
}

/// Adds `[n, m]` times `[m, width]` to `[n, width]`, four rows of the second at once so that sums are loaded and stored less often.
fn add_product(sums: &mut [f32], x: &[f32], weights: &[f32], width: usize) {
    const AT_ONCE: usize = 4;
    let m = weights.len() / width;
    debug_assert!(m.is_multiple_of(AT_ONCE));
    for (sums, x) in sums.chunks_exact_mut(width).zip(x.chunks_exact(m)) {
        for (x, weights) in x.as_chunks::<AT_ONCE>().0.iter().zip(weights.chunks_exact(AT_ONCE * width)) {
            let (a, rest) = weights.split_at(width);
            let (b, rest) = rest.split_at(width);
            let (c, d) = rest.split_at(width);
            for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum += (x[0] * a + x[1] * b) + (x[2] * c + x[3] * d);
            }
        }
    }
}

/// Latents with a modality's own behind them.
fn with_private(rng: &mut ChaCha8Rng, z: &[f32]) -> Vec<f32> {
    let size = 0.6 / (PRIVATE as f32).sqrt();
    z.chunks_exact(LATENT)
        .flat_map(|z| [z, &normals(rng, PRIVATE).iter().map(|v| v * size).collect::<Vec<_>>()].concat())
        .collect()
}

/// Two directions at the stated cosine, at the stated lengths.
fn offsets(rng: &mut ChaCha8Rng) -> [Vec<f32>; 2] {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let unit = |v: Vec<f32>| {
        let length = dot(&v, &v).sqrt();
        v.into_iter().map(|v| v / length).collect::<Vec<_>>()
    };
    let one = unit(normals(rng, DIM));
    let other = normals(rng, DIM);
    let along = dot(&one, &other);
    let across = unit(other.iter().zip(&one).map(|(v, one)| v - along * one).collect());
    let turned =
        one.iter().zip(&across).map(|(one, across)| OFFSET_COSINE * one + (1.0 - OFFSET_COSINE.powi(2)).sqrt() * across);
    let turned: Vec<f32> = turned.collect();
    let long = |v: Vec<f32>, power: f32| v.into_iter().map(|v| v * power.sqrt()).collect();
    [long(one, OFFSET_POWER[0]), long(turned, OFFSET_POWER[1])]
}

/// Normal random numbers, two from two uniform ones (Box and Muller).
pub(super) fn normals(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        out.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    out.truncate(n);
    out
}

#[cfg(test)]
mod tests {
    use chiasm_core::NoProgress;

    use super::*;

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn modalities_lie_apart_and_pairs_are_closer_than_others() {
        let world = World::new(7);
        let n = 120;
        let z = world.latents(&mut world.stream(0, 0, 0), n);
        let (first, second) = (
            world.embed(Side::First, &z, &mut world.stream(0, 0, 1)),
            world.embed(Side::Second, &z, &mut world.stream(1, 0, 1)),
        );
        let (first, second): (Vec<&[f32]>, Vec<&[f32]>) = (first.chunks(DIM).collect(), second.chunks(DIM).collect());
        assert!(first.iter().chain(&second).all(|row| (cosine(row, row) - 1.0).abs() < 1e-4));
        let mean = |a: &[&[f32]], b: &[&[f32]], same: bool| {
            let all = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|(i, j)| (i == j) == same);
            let all: Vec<f32> = all.map(|(i, j)| cosine(a[i], b[j])).collect();
            all.iter().sum::<f32>() / all.len() as f32
        };
        let (within, other) = (mean(&first, &first, false), mean(&second, &second, false));
        let (pairs, random) = (mean(&first, &second, true), mean(&first, &second, false));
        // The gap: whatever two items of one modality are about, they are closer than an item and its own caption.
        assert!(within > 0.45 && other > 0.45, "{within} {other}");
        assert!(pairs < within - 0.15 && pairs < other - 0.15, "pairs {pairs}, within {within} and {other}");
        assert!(pairs > random + 0.05, "pairs {pairs}, random {random}");
        let first_is_best = |i: usize| (0..n).all(|j| cosine(second[i], first[i]) >= cosine(second[i], first[j]));
        let found = (0..n).filter(|i| first_is_best(*i)).count();
        assert!(found > n / 4, "{found} of {n} captions find their own picture");
    }

    #[test]
    fn a_seed_makes_the_same_file_on_any_number_of_threads() {
        let folder = std::env::temp_dir().join(format!("chiasm-bench-ann-world-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let worlds = [World::new(3), World::new(4)];
        let write = |name: &str, seed: usize, threads: usize, n: usize, part: u64| {
            let path = folder.join(name);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| worlds[seed - 3].write(&path, Side::First, n, part, &NoProgress, &Cancel::default())).unwrap();
            std::fs::read(path).unwrap()
        };
        let n = 2 * BLOCK + 10;
        let one = write("one", 3, 1, n, 0);
        assert_eq!(one.len(), n * DIM * 4);
        assert!(one == write("two", 3, 2, n, 0), "threads change the data");
        assert!(one[..8] != one[BLOCK * DIM * 4..][..8], "blocks repeat");
        let apart = |other: Vec<u8>| one[..BLOCK * DIM * 4] != other[..];
        assert!(apart(write("seed", 4, 2, BLOCK, 0)) && apart(write("part", 3, 2, BLOCK, 1)));
        let stop = Cancel::default();
        stop.cancel();
        assert!(worlds[0].write(&folder.join("stopped"), Side::First, n, 0, &NoProgress, &stop).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
