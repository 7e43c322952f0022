//! A map of a library: its items in the plane, what is alike near to what is alike, whatever kind it is.
//!
//! # The gap
//! In a space of several kinds each kind fills a region of its own (Liang et al., "Mind the Gap: Understanding the Modality Gap in
//! Multi-modal Contrastive Representation Learning", NeurIPS 2022), so that a plain map shows an island for pictures and one for texts. Here
//! each kind is taken about its own mean, at unit length again for cosine, and an item is tied to its nearest of *every* kind, so a
//! caption lies where its photo does.
//! # How it is laid out
//! As UMAP does it (McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction", 2018): exact
//! nearest neighbours, weights that fall with distance beyond the nearest one, equations (1) and (2), made symmetric by `a + b - ab`; points
//! are drawn together along edges as often as these weigh and pushed from others drawn at random. Differs from it in: the kernel
//! `1 / (1 + d^2)` of t-SNE, whose gradients need no power function; principal axes as the start (Kobak, Linderman, "Initialization is
//! critical for preserving global data structure in both t-SNE and UMAP", Nature Biotechnology 2021); neighbours kind by kind. One
//! thread and one seed, so the same library gives the same map.
//!
//! No crate was taken for it: those for t-SNE and UMAP know one cloud of points, without kinds, and bring a tensor library or no seed.
//! # How true it is
//! 300 photos and as many captions of Flickr8k, MobileNetV2 and MiniLM joined by CCA: of an item's 10 nearest of its own kind in the space
//! 78 % are among the 30 nearest on the map, of its 10 nearest of the other kind 81 %; on the first two principal axes 49 % and 48 %. Of
//! all captions 4 % lie nearer to a photo than its own, on the axes 10 %. `CHIASM_TEST_DATA=... cargo test -p chiasm-engine --test engine real:: --
//! --nocapture` prints these.
//! # Cost
//! `n^2 dim` multiplications for the neighbours, on all threads; then one thread for at most 500 rounds of about `7 n` edges with ten pushes
//! each, 2 to 3 s for 10,000 items.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use chiasm_core::{Cancel, Metric, Modality, Progress, SearchOptions, VectorIndex, Vectors};
use chiasm_index::ExactIndex;
use serde::{Deserialize, Serialize};

use crate::lane::{FIRST, Lane};
use crate::live::Live;
use crate::space::{mean, write_whole};
use crate::{EngineError, Library, Result};

/// More items than this take too long to be laid out while someone waits.
const MAX_ITEMS: usize = 50_000;
/// Nearest neighbours of an item's own kind, and of all other kinds together.
const NEAREST_OWN: usize = 15;
const NEAREST_OTHER: usize = 10;
/// Points that each end of an edge is pushed from whenever the edge is drawn together.
const PUSHES: usize = 5;
/// How often the heaviest edges are drawn together: so many times in all points, within these bounds.
const STEPS: usize = 3_000_000;
const EPOCHS: std::ops::RangeInclusive<usize> = 200..=500;
/// Largest move along an axis for one edge.
const CLIP: f32 = 4.0;
/// Half of the width of the start.
const START: f32 = 10.0;
/// Clusters: one for so many items, within these bounds.
const CLUSTER_ITEMS: usize = 40;
const CLUSTERS: std::ops::RangeInclusive<usize> = 1..=24;
/// Queries whose neighbours are looked for in one call.
const AT_ONCE: usize = 512;
/// Changes whenever the same library would get another map.
const FORMAT: u32 = 1;

/// Items that lie together on a map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MapCluster {
    /// How many of those on the map.
    pub n: usize,
    /// Their middle.
    pub x: f32,
    /// Their middle.
    pub y: f32,
    /// The item nearest to it, a picture or video where there is one.
    pub example: i64,
}

/// Items in the plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SpaceMap {
    /// The lane whose space is shown.
    pub lane: String,
    /// Numbers of the items.
    pub items: Vec<i64>,
    /// Where they lie, within -1..=1.
    pub x: Vec<f32>,
    /// Where they lie, within -1..=1.
    pub y: Vec<f32>,
    /// Kinds of media on the map.
    pub kinds: Vec<String>,
    /// Place in `kinds` of each item's.
    pub kind: Vec<usize>,
    /// Place in `clusters` of each item's.
    pub cluster: Vec<usize>,
    /// What lies together.
    pub clusters: Vec<MapCluster>,
    /// Items that the lane has vectors of; more than on the map where it shows a sample.
    pub n_items: usize,
    /// How it was made, in a sentence.
    pub method: String,
}

/// A map as it lies in the library's folder.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    stamp: String,
    n: usize,
    map: SpaceMap,
}

impl Library {
    /// A map of at most `n` items, as many of each kind as can be, as a lane (the first unless named) sees them. It is kept in the library's
    /// folder and read from there until the library changes.
    ///
    /// `progress` hears of one stage, `map`.
    ///
    /// # Errors
    /// [`EngineError::NoSuchLane`]; [`EngineError::Query`] for more than 50,000 items; [`EngineError::Cancelled`]; those of a search.
    pub fn map(&self, n: usize, lane: Option<&str>, progress: &dyn Progress, cancel: &Cancel) -> Result<SpaceMap> {
        let lane = self.mapped_lane(lane)?;
        if n > MAX_ITEMS {
            return Err(EngineError::Query(format!(
                "a map shows at most {MAX_ITEMS} items, {n} were asked for: it takes a sample of them"
            )));
        }
        let live = lane.live(&self.store)?;
        let by_kind = rows_by_kind(&live);
        let n_items = by_kind.values().map(BTreeMap::len).sum();
        let n = n.min(n_items);
        let stamp = self.map_stamp(lane, live.generation)?;
        if let Some(kept) = self.kept_map(lane).filter(|kept| kept.stamp == stamp && kept.n == n) {
            return Ok(kept.map);
        }
        let mut map = laid_out(lane, &live, &by_kind, n, progress, cancel)?;
        map.n_items = n_items;
        let kept = Kept { format: FORMAT, stamp, n, map };
        // A full or read-only disk is no reason not to answer.
        let bytes = serde_json::to_vec(&kept).expect("a record of strings and finite numbers is always JSON");
        let _ = write_whole(&self.map_path(lane), &bytes);
        Ok(kept.map)
    }

    /// The map that was made last, of whatever number of items and of whatever state of the library, and whether it is of the present
    /// one: something to show while [`Library::map`] makes another.
    ///
    /// # Errors
    /// [`EngineError::NoSuchLane`], [`EngineError::Store`].
    pub fn last_map(&self, lane: Option<&str>) -> Result<Option<(SpaceMap, bool)>> {
        let lane = self.mapped_lane(lane)?;
        let Some(kept) = self.kept_map(lane) else { return Ok(None) };
        let is_current = self.map_stamp(lane, self.generation()?)? == kept.stamp;
        Ok(Some((kept.map, is_current)))
    }

    fn mapped_lane(&self, lane: Option<&str>) -> Result<&Lane> {
        match lane {
            Some(name) => Ok(self.lanes_named(&[name.to_owned()])?[0]),
            None => Ok(self.first()),
        }
    }

    fn map_path(&self, lane: &Lane) -> PathBuf {
        self.dir.join(match lane.id {
            FIRST => "map.json".to_owned(),
            _ => format!("map-{}.json", lane.space().fingerprint()),
        })
    }

    fn map_stamp(&self, lane: &Lane, generation: i64) -> Result<String> {
        let stamp = lane.stamp(&*self.store.reader()?, generation).map_err(self.store.err("cannot read the generation"))?;
        Ok(format!("{stamp:016x}"))
    }

    /// The map in the library's folder, if there is one that is whole.
    fn kept_map(&self, lane: &Lane) -> Option<Kept> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.map_path(lane)).ok()?).ok()?;
        let SpaceMap { items, x, y, kind, kinds, cluster, clusters, .. } = &kept.map;
        let n = items.len();
        let is_whole = kept.format == FORMAT
            && kept.map.lane == lane.name()
            && [x.len(), y.len(), kind.len(), cluster.len()].iter().all(|len| *len == n)
            && x.iter().chain(y).all(|v| v.abs() <= 1.0)
            && kind.iter().all(|k| *k < kinds.len())
            && cluster.iter().all(|c| *c < clusters.len());
        is_whole.then_some(kept)
    }
}

/// The rows of each item's own content, by kind.
fn rows_by_kind(live: &Live) -> BTreeMap<Modality, BTreeMap<i64, Vec<usize>>> {
    let mut by_kind: BTreeMap<Modality, BTreeMap<i64, Vec<usize>>> = BTreeMap::new();
    for (kind, (of_kind, _)) in &live.by_kind {
        let Some(own) = live.by_modality.get(kind) else { continue };
        let items = by_kind.entry(*kind).or_default();
        for row in (0..live.n_rows()).filter(|row| of_kind.contains(*row) && own.contains(*row)) {
            items.entry(live.item(row)).or_default().push(row);
        }
    }
    by_kind
}

fn laid_out(
    lane: &Lane,
    live: &Live,
    by_kind: &BTreeMap<Modality, BTreeMap<i64, Vec<usize>>>,
    n: usize,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<SpaceMap> {
    let (space, dim) = (lane.space(), lane.space().dim());
    let counts: Vec<usize> = by_kind.values().map(BTreeMap::len).collect();
    let mut map = SpaceMap { lane: lane.name().to_owned(), ..SpaceMap::default() };
    let mut clouds: Vec<Vec<f32>> = Vec::new();
    for ((kind, items), n_taken) in by_kind.iter().zip(shares(&counts, n)) {
        if n_taken == 0 {
            continue;
        }
        let all: Vec<(&i64, &Vec<usize>)> = items.iter().collect();
        let mut cloud = Vec::with_capacity(n_taken * dim);
        for i in 0..n_taken {
            let (item, rows) = all[i * all.len() / n_taken];
            map.items.push(*item);
            map.kind.push(map.kinds.len());
            cloud.extend(mean(rows.iter().map(|row| &live.index().vector(*row)[..dim]), dim, space.metric()));
        }
        map.kinds.push(kind.to_string());
        about_its_mean(&mut cloud, dim, space.metric());
        clouds.push(cloud);
    }
    let points = layout(&clouds, dim, space.metric(), progress, cancel)?;
    map.x = points.iter().map(|p| p[0]).collect();
    map.y = points.iter().map(|p| p[1]).collect();
    let is_seen: Vec<bool> = map.kind.iter().map(|k| ["image", "video"].contains(&map.kinds[*k].as_str())).collect();
    (map.cluster, map.clusters) = clusters(&points, &map.items, &is_seen);
    map.method = format!(
        "{} of {} items, each kind about its own mean, laid out by their {NEAREST_OWN} nearest of their own kind and \
         {NEAREST_OTHER} of others",
        map.items.len(),
        counts.iter().sum::<usize>()
    );
    Ok(map)
}

/// How many of each kind: as evenly as their numbers allow.
fn shares(counts: &[usize], n: usize) -> Vec<usize> {
    let mut taken = vec![0; counts.len()];
    let mut left = n.min(counts.iter().sum());
    while left > 0 {
        let open: Vec<usize> = (0..counts.len()).filter(|k| taken[*k] < counts[*k]).collect();
        let each = (left / open.len()).max(1);
        for k in open {
            let more = each.min(counts[k] - taken[k]).min(left);
            (taken[k], left) = (taken[k] + more, left - more);
        }
    }
    taken
}

/// Takes a kind's mean from its vectors; for a metric of directions they are brought back to unit length.
fn about_its_mean(cloud: &mut [f32], dim: usize, metric: Metric) {
    let n = cloud.len() / dim;
    let mut middle = vec![0.0_f64; dim];
    cloud.chunks_exact(dim).for_each(|row| middle.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n as f64));
    for row in cloud.chunks_exact_mut(dim) {
        // A kind of one item has no middle but itself.
        if n > 1 {
            row.iter_mut().zip(&middle).for_each(|(v, m)| *v -= *m as f32);
        }
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        if metric != Metric::L2 && norm > 0.0 {
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
}

/// Positions of clouds of vectors, one after the other, within -1..=1.
fn layout(clouds: &[Vec<f32>], dim: usize, metric: Metric, progress: &dyn Progress, cancel: &Cancel) -> Result<Vec<[f32; 2]>> {
    let n: usize = clouds.iter().map(|cloud| cloud.len() / dim).sum();
    if n <= 2 {
        return Ok([[-0.5, 0.0], [0.5, 0.0]][..n].to_vec());
    }
    let n_epochs = (STEPS / n).clamp(*EPOCHS.start(), *EPOCHS.end());
    progress.start("map", Some((n + n_epochs) as u64));
    let edges = edges(clouds, dim, metric, progress, cancel)?;
    let mut points = principal_axes(clouds, dim);
    arrange(&mut points, &edges, n_epochs, progress, cancel)?;
    progress.finish();
    within_bounds(&mut points);
    Ok(points)
}

/// Ties between points, each pair once, with its weight in 0..=1.
fn edges(
    clouds: &[Vec<f32>],
    dim: usize,
    metric: Metric,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<(u32, u32, f32)>> {
    let numbers = |source| EngineError::Numbers { what: "vectors of a map".to_owned(), source };
    let index_metric = if metric == Metric::L2 { Metric::L2 } else { Metric::InnerProduct };
    let starts: Vec<usize> = clouds
        .iter()
        .scan(0, |at, cloud| {
            *at += cloud.len() / dim;
            Some(*at - cloud.len() / dim)
        })
        .collect();
    let mut indexes = Vec::new();
    for cloud in clouds {
        let ids: Vec<u64> = (0..(cloud.len() / dim) as u64).collect();
        let vectors = Vectors::new(cloud.clone(), dim).map_err(numbers)?;
        indexes.push(ExactIndex::build(&ids, &vectors, index_metric).expect("ids ascend and there is one for each row"));
    }
    let n_others = clouds.len().saturating_sub(1).max(1);
    let mut ties: HashMap<(u32, u32), f32> = HashMap::new();
    for (own, cloud) in clouds.iter().enumerate() {
        for (block, rows) in cloud.chunks(AT_ONCE * dim).enumerate() {
            cancel.check()?;
            let queries = Vectors::new(rows.to_vec(), dim).map_err(numbers)?;
            for (other, index) in indexes.iter().enumerate() {
                let k = if own == other { NEAREST_OWN + 1 } else { NEAREST_OTHER.div_ceil(n_others) };
                for (at, hits) in index.search(&queries, k, &SearchOptions::default())?.into_iter().enumerate() {
                    let from = starts[own] + block * AT_ONCE + at;
                    let near: Vec<(usize, f32)> = hits
                        .iter()
                        .map(|hit| (starts[other] + hit.id as usize, distance(hit.score.get(), metric)))
                        .filter(|(to, _)| *to != from)
                        .collect();
                    for ((to, _), weight) in near.iter().zip(weights(&near)) {
                        let tie = ties.entry((from.min(*to) as u32, from.max(*to) as u32)).or_default();
                        *tie = *tie + weight - *tie * weight;
                    }
                }
            }
            progress.advance((rows.len() / dim) as u64);
        }
    }
    let mut edges: Vec<(u32, u32, f32)> = ties.into_iter().map(|((a, b), weight)| (a, b, weight)).collect();
    edges.sort_unstable_by_key(|(a, b, _)| (*a, *b));
    Ok(edges)
}

fn distance(score: f32, metric: Metric) -> f32 {
    match metric {
        Metric::L2 => (-score).max(0.0).sqrt(),
        Metric::Cosine | Metric::InnerProduct => (1.0 - score).max(0.0),
    }
}

/// Weights of neighbours: 1 for the nearest, falling at such a rate that they sum up to the logarithm of their number.
fn weights(near: &[(usize, f32)]) -> Vec<f32> {
    let nearest = near.iter().map(|(_, d)| *d).fold(f32::INFINITY, f32::min);
    let wanted = (near.len() as f32).log2().max(1.0);
    let of = |rate: f32| near.iter().map(move |(_, d)| (-(d - nearest) * rate).exp());
    let (mut low, mut high) = (0.0_f32, 1.0_f32);
    while of(high).sum::<f32>() > wanted && high < 1e12 {
        (low, high) = (high, high * 4.0);
    }
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if of(middle).sum::<f32>() > wanted { low = middle } else { high = middle }
    }
    of(high).collect()
}

/// The two directions in which all clouds together spread most, by power iteration, and each point along them.
fn principal_axes(clouds: &[Vec<f32>], dim: usize) -> Vec<[f32; 2]> {
    const ROUNDS: usize = 40;
    let rows = || clouds.iter().flat_map(|cloud| cloud.chunks_exact(dim));
    let mut random = Random(7);
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for _ in 0..2 {
        let mut axis: Vec<f64> = (0..dim).map(|_| f64::from(random.uniform()) - 0.5).collect();
        for _ in 0..ROUNDS {
            let mut next = vec![0.0_f64; dim];
            for row in rows() {
                let along: f64 = row.iter().zip(&axis).map(|(v, a)| f64::from(*v) * a).sum();
                next.iter_mut().zip(row).for_each(|(n, v)| *n += along * f64::from(*v));
            }
            for other in &axes {
                let along: f64 = next.iter().zip(other).map(|(n, o)| n * o).sum();
                next.iter_mut().zip(other).for_each(|(n, o)| *n -= along * o);
            }
            let norm = next.iter().map(|n| n * n).sum::<f64>().sqrt();
            if norm <= f64::MIN_POSITIVE {
                break;
            }
            axis = next.into_iter().map(|n| n / norm).collect();
        }
        axes.push(axis);
    }
    let along = |row: &[f32], axis: &[f64]| row.iter().zip(axis).map(|(v, a)| f64::from(*v) * a).sum::<f64>() as f32;
    rows().map(|row| [along(row, &axes[0]), along(row, &axes[1])]).collect()
}

/// Draws points together along edges and pushes them from others.
fn arrange(
    points: &mut [[f32; 2]],
    edges: &[(u32, u32, f32)],
    n_epochs: usize,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<()> {
    let n = points.len();
    let mut random = Random(11);
    let widest = points.iter().flatten().fold(0.0_f32, |most, v| most.max(v.abs())).max(f32::MIN_POSITIVE);
    for point in points.iter_mut() {
        // Points in one place could never part.
        *point = point.map(|v| v / widest * START + 1e-3 * (random.uniform() - 0.5));
    }
    let heaviest = edges.iter().map(|(.., w)| *w).fold(f32::MIN_POSITIVE, f32::max);
    // When each edge is due, in epochs; heavy ones every time.
    let every: Vec<f32> = edges.iter().map(|(.., w)| heaviest / w.max(heaviest * 1e-4)).collect();
    let mut due = every.clone();
    for epoch in 0..n_epochs {
        cancel.check()?;
        let rate = 1.0 - epoch as f32 / n_epochs as f32;
        for (at, (a, b, _)) in edges.iter().enumerate() {
            if due[at] > (epoch + 1) as f32 {
                continue;
            }
            due[at] += every[at];
            let (a, b) = (*a as usize, *b as usize);
            let (difference, square) = apart(points[a], points[b]);
            for axis in 0..2 {
                let pull = (-2.0 * difference[axis] / (1.0 + square)).clamp(-CLIP, CLIP) * rate;
                points[a][axis] += pull;
                points[b][axis] -= pull;
            }
            for end in [a, b] {
                for _ in 0..PUSHES {
                    let other = random.below(n);
                    if other == end {
                        continue;
                    }
                    let (difference, square) = apart(points[end], points[other]);
                    for axis in 0..2 {
                        let push = 2.0 * difference[axis] / ((1e-3 + square) * (1.0 + square));
                        points[end][axis] += push.clamp(-CLIP, CLIP) * rate;
                    }
                }
            }
        }
        progress.advance(1);
    }
    Ok(())
}

fn apart(a: [f32; 2], b: [f32; 2]) -> ([f32; 2], f32) {
    let difference = [a[0] - b[0], a[1] - b[1]];
    (difference, difference[0] * difference[0] + difference[1] * difference[1])
}

/// Moves and scales points into -1..=1, both axes alike, in steps that are fine enough for a screen.
fn within_bounds(points: &mut [[f32; 2]]) {
    let range = |axis: usize| points.iter().fold((f32::MAX, f32::MIN), |(a, b), p| (a.min(p[axis]), b.max(p[axis])));
    let (x, y) = (range(0), range(1));
    let half = ((x.1 - x.0).max(y.1 - y.0) / 2.0).max(f32::MIN_POSITIVE);
    let middle = [(x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0];
    for point in points {
        for axis in 0..2 {
            point[axis] = (((point[axis] - middle[axis]) / half * 1e4).round() / 1e4).clamp(-1.0, 1.0);
        }
    }
}

/// Points that lie together: k-means in the plane from a start far apart (Arthur, Vassilvitskii, "k-means++", SODA 2007), with one seed.
fn clusters(points: &[[f32; 2]], items: &[i64], is_seen: &[bool]) -> (Vec<usize>, Vec<MapCluster>) {
    const ROUNDS: usize = 50;
    if points.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let k = (points.len() / CLUSTER_ITEMS).clamp(*CLUSTERS.start(), *CLUSTERS.end());
    let mut random = Random(13);
    let mut centres = vec![points[random.below(points.len())]];
    while centres.len() < k {
        let far: Vec<f32> = points.iter().map(|p| nearest(*p, &centres).1).collect();
        let mut left = random.uniform() * far.iter().sum::<f32>();
        let next = far.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        centres.push(points[next.unwrap_or(0)]);
    }
    let mut cluster: Vec<usize> = Vec::new();
    for _ in 0..ROUNDS {
        let now: Vec<usize> = points.iter().map(|p| nearest(*p, &centres).0).collect();
        if now == cluster {
            break;
        }
        cluster = now;
        let mut sums = vec![([0.0_f64; 2], 0_usize); k];
        for (point, c) in points.iter().zip(&cluster) {
            let (sum, n) = &mut sums[*c];
            *sum = [sum[0] + f64::from(point[0]), sum[1] + f64::from(point[1])];
            *n += 1;
        }
        for (centre, (sum, n)) in centres.iter_mut().zip(sums).filter(|(_, (_, n))| *n > 0) {
            *centre = sum.map(|s| (s / n as f64) as f32);
        }
    }
    // The largest first; a start that drew nothing is none.
    let mut of: Vec<(usize, Vec<usize>)> =
        (0..k).map(|c| (c, (0..points.len()).filter(|i| cluster[*i] == c).collect())).collect();
    of.retain(|(_, members): &(usize, Vec<usize>)| !members.is_empty());
    of.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let mut told = Vec::new();
    for (place, (c, members)) in of.iter().enumerate() {
        members.iter().for_each(|i| cluster[*i] = place);
        let centre = centres[*c];
        let closest = |seen: bool| {
            let those = members.iter().filter(|i| is_seen[**i] || !seen);
            those.copied().min_by(|a, b| apart(points[*a], centre).1.total_cmp(&apart(points[*b], centre).1))
        };
        let example = closest(true).or(closest(false)).map_or(0, |i| items[i]);
        told.push(MapCluster { n: members.len(), x: centre[0], y: centre[1], example });
    }
    // `cluster` held old numbers while it was rewritten: none of them was read again.
    (cluster, told)
}

/// Which centre is nearest, and the square of how far it is.
fn nearest(point: [f32; 2], centres: &[[f32; 2]]) -> (usize, f32) {
    let squares = centres.iter().enumerate().map(|(c, centre)| (c, apart(point, *centre).1));
    squares.reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap_or((0, 0.0))
}

/// Numbers as good as random, the same from the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiasm_core::NoProgress;

    /// Two kinds of the same `n` things in `groups` groups: the second is the first moved by an offset, as a gap is, with some noise.
    fn clouds(n: usize, dim: usize, groups: usize) -> [Vec<f32>; 2] {
        let mut random = Random(3);
        let mut normal = || (0..12).map(|_| random.uniform()).sum::<f32>() - 6.0;
        let middles: Vec<f32> = (0..groups * dim).map(|_| normal()).collect();
        let offset: Vec<f32> = (0..dim).map(|_| 3.0 * normal()).collect();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for i in 0..n {
            let group = &middles[i % groups * dim..(i % groups + 1) * dim];
            let thing: Vec<f32> = group.iter().map(|m| m + 0.5 * normal()).collect();
            second.extend(thing.iter().zip(&offset).map(|(t, o)| t + o + 0.2 * normal()));
            first.extend(thing);
        }
        let mut clouds = [first, second];
        clouds.iter_mut().for_each(|cloud| about_its_mean(cloud, dim, Metric::Cosine));
        clouds
    }

    fn map_of(clouds: &[Vec<f32>], dim: usize) -> Vec<[f32; 2]> {
        layout(clouds, dim, Metric::Cosine, &NoProgress, &Cancel::default()).unwrap()
    }

    /// Share of points whose nearest one on the map, of those allowed, meets a condition.
    fn share(
        points: &[[f32; 2]],
        from: std::ops::Range<usize>,
        to: std::ops::Range<usize>,
        same: impl Fn(usize, usize) -> bool,
    ) -> f64 {
        let hit = |i: &usize| {
            let others = to.clone().filter(|j| j != i);
            let best = others.min_by(|a, b| apart(points[*i], points[*a]).1.total_cmp(&apart(points[*i], points[*b]).1));
            best.is_some_and(|j| same(*i, j))
        };
        from.clone().filter(hit).count() as f64 / from.len() as f64
    }

    #[test]
    fn groups_stay_together_and_kinds_fall_together() {
        let (n, dim, groups) = (300, 24, 20);
        let clouds = clouds(n, dim, groups);
        let points = map_of(&clouds, dim);
        let same = |i: usize, j: usize| i % n % groups == j % n % groups;
        let (own, other) = (share(&points, 0..n, 0..n, same), share(&points, 0..n, n..2 * n, same));
        let mut flat = principal_axes(&clouds, dim);
        within_bounds(&mut flat);
        let flat = share(&flat, 0..n, 0..n, same);
        // Chance is a twentieth; the plane of the principal axes mixes groups.
        assert!(own > 0.95 && other > 0.9, "{own} {other}");
        assert!(flat < 0.8, "{flat}: too easy to say anything");
        assert_eq!(points, map_of(&clouds, dim), "the same every time");
        assert!(points.iter().flatten().all(|v| v.abs() <= 1.0));
    }

    #[test]
    fn few_points_and_equal_ones_have_places() {
        for n in 0..6 {
            let points = map_of(&[vec![1.0; n * 3], vec![0.5; 3]], 3);
            assert_eq!(points.len(), n + 1);
            assert!(points.iter().flatten().all(|v| v.is_finite() && v.abs() <= 1.0));
        }
    }

    #[test]
    fn a_stop_is_heard() {
        let cancel = Cancel::default();
        cancel.cancel();
        let stopped = layout(&clouds(50, 8, 5), 8, Metric::Cosine, &NoProgress, &cancel);
        assert!(matches!(stopped, Err(EngineError::Cancelled(_))));
    }

    #[test]
    fn kinds_have_even_shares() {
        assert_eq!(shares(&[1000, 10, 500], 300), [145, 10, 145]);
        assert_eq!(shares(&[3, 4], 100), [3, 4]);
        assert_eq!(shares(&[5, 5], 3).iter().sum::<usize>(), 3);
        assert!(shares(&[], 3).is_empty());
    }

    #[test]
    fn clusters_are_where_points_lie() {
        let blob = |x: f32, y: f32| (0..80).map(move |i| [x + (i % 9) as f32 * 1e-3, y + (i / 9) as f32 * 1e-3]);
        let points: Vec<[f32; 2]> = blob(-0.9, 0.0).chain(blob(0.9, 0.5)).chain(blob(0.0, -0.9)).collect();
        let items: Vec<i64> = (100..340).collect();
        let is_seen: Vec<bool> = (0..240).map(|i| i == 7).collect();
        let (cluster, told) = clusters(&points, &items, &is_seen);
        assert_eq!((cluster.len(), told.iter().map(|c| c.n).sum::<usize>()), (240, 240));
        for blob in cluster.chunks(80) {
            // More clusters than blobs are drawn, none over two of them.
            let mine: std::collections::BTreeSet<&usize> = blob.iter().collect();
            assert!(mine.iter().all(|c| cluster.iter().filter(|d| *d == *c).count() <= 80), "{mine:?}");
        }
        assert_eq!(told[cluster[7]].example, 107, "a picture where there is one");
        assert_eq!(clusters(&[], &[], &[]), (vec![], vec![]));
    }

    #[test]
    fn weights_sum_to_the_logarithm_of_the_number() {
        let near: Vec<(usize, f32)> = (0..15).map(|i| (i, 0.2 + 0.05 * i as f32)).collect();
        let weights = weights(&near);
        assert_eq!(weights[0], 1.0);
        assert!((weights.iter().sum::<f32>() - 15_f32.log2()).abs() < 1e-2);
        assert!(weights.is_sorted_by(|a, b| a > b));
    }
}
