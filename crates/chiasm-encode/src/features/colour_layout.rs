//! `colour-layout`: which colours stand where in a picture, which way its edges run, and what outlines its regions have.
//!
//! # Model
//! The picture is brought to 64 x 64 pixels (antialiased, its sides stretched alike) and to Oklab, in which equal distances
//! look about equal (Ottosson, "A perceptual color space for image processing", 2020). Each pixel is spread over 22 colour bins:
//! 16 hues, weighted by how colourful it is, and 6 greys by lightness for the rest. Blocks, in order:
//!
//! | block | numbers | what |
//! | --- | --- | --- |
//! | colours by place | 21 x 22 | roots of the shares of each colour in the whole, in quarters, in sixteenths |
//! | moments | 16 x 6 | mean and deviation of L, a, b in sixteenths |
//! | foreground | 22 | roots of the shares of each colour, each pixel weighted by its distance from the colour of the border |
//! | where | 22 x 2 | mean place (x, y) of each colour in the foreground, -1 to 1, times its share's root |
//! | edges | 21 x 9 | roots of the shares of gradient directions (20 degrees each, unsigned), of the whole, quarters, sixteenths |
//! | regions | 86 | see [`region_block`] |
//!
//! # Cost
//! About 1 ms beside the resizing; constant memory.
//! # Errors
//! None: every decoded picture has at least one pixel.

use chiasm_core::Image;
use chiasm_media::resize;

use super::{mean_std, splat, splat_circular, to_shares};

const SIDE: usize = 64;
const HUES: usize = 16;
const GREYS: usize = 6;
const COLOURS: usize = HUES + GREYS;
const CELLS: usize = 1 + 4 + 16;
const DIRECTIONS: usize = 9;
/// Largest regions that are looked at.
const REGIONS_MAX: usize = 6;
const OUTLINE: usize = 10;
const AREAS: usize = 8;
const REGION_BLOCK: usize = 3 * OUTLINE + 3 * (OUTLINE + 2) + AREAS + REGIONS_MAX + 1 + 5;

/// Numbers per picture.
pub(super) const DIM: usize = CELLS * COLOURS + 16 * 6 + COLOURS + 2 * COLOURS + CELLS * DIRECTIONS + REGION_BLOCK;

type Lab = [f32; 3];

pub(super) fn describe(image: &Image) -> Result<Vec<f32>, String> {
    let small = resize(image, SIDE as u32, SIDE as u32);
    let lab: Vec<Lab> = small.rgb.chunks_exact(3).map(|p| oklab([p[0], p[1], p[2]])).collect();
    let spread: Vec<[f32; COLOURS]> = lab.iter().map(colour_bins).collect();
    let mut row = Vec::with_capacity(DIM);

    let mut colours = vec![[0.0; COLOURS]; CELLS];
    for (at, bins) in spread.iter().enumerate() {
        for cell in cells_of(at) {
            colours[cell].iter_mut().zip(bins).for_each(|(sum, v)| *sum += v);
        }
    }
    for mut cell in colours {
        to_shares(&mut cell);
        row.extend(cell.map(f32::sqrt));
    }

    for cell in 0..16 {
        let pixels = || (0..SIDE * SIDE).filter(move |&at| cells_of(at)[2] == 5 + cell);
        for channel in 0..3 {
            let (mean, std) = mean_std(pixels().map(|at| lab[at][channel]));
            row.extend([mean, std]);
        }
    }

    let ground = border_colour(&lab);
    let (mut foreground, mut where_x, mut where_y) = ([0.0; COLOURS], [0.0; COLOURS], [0.0; COLOURS]);
    for (at, bins) in spread.iter().enumerate() {
        let stand_out = ((distance(&lab[at], &ground) - 0.06) / 0.12).clamp(0.0, 1.0);
        let (x, y) = place(at);
        for c in 0..COLOURS {
            let weight = stand_out * bins[c];
            foreground[c] += weight;
            where_x[c] += weight * x;
            where_y[c] += weight * y;
        }
    }
    let centre = |sum: f32, c: usize| if foreground[c] > 0.0 { sum / foreground[c] } else { 0.0 };
    let mut shares = foreground;
    to_shares(&mut shares);
    row.extend(shares.map(f32::sqrt));
    row.extend((0..COLOURS).map(|c| centre(where_x[c], c) * shares[c].sqrt()));
    row.extend((0..COLOURS).map(|c| centre(where_y[c], c) * shares[c].sqrt()));

    let mut edges = vec![[0.0; DIRECTIONS]; CELLS];
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let at = y * SIDE + x;
            // The strongest channel's gradient, as in HOG (Dalal and Triggs, 2005).
            let (mut strongest, mut angle) = (0.0, 0.0);
            for channel in 0..3 {
                let dx = lab[at + 1][channel] - lab[at - 1][channel];
                let dy = lab[at + SIDE][channel] - lab[at - SIDE][channel];
                let size = dx.hypot(dy);
                if size > strongest {
                    (strongest, angle) = (size, dy.atan2(dx));
                }
            }
            // Weaker than this is grain.
            let strength = (strongest - 0.04).max(0.0);
            for cell in cells_of(at) {
                splat_circular(&mut edges[cell], angle / std::f32::consts::PI * DIRECTIONS as f32, strength);
            }
        }
    }
    for mut cell in edges {
        to_shares(&mut cell);
        row.extend(cell.map(f32::sqrt));
    }

    region_block(&lab, &ground, &mut row);
    Ok(row)
}

/// The cells a pixel lies in: the whole, its quarter, its sixteenth.
fn cells_of(at: usize) -> [usize; 3] {
    let (x, y) = (at % SIDE, at / SIDE);
    let half = |v: usize| v * 2 / SIDE;
    let quarter = |v: usize| v * 4 / SIDE;
    [0, 1 + half(y) * 2 + half(x), 5 + quarter(y) * 4 + quarter(x)]
}

/// The middle of a pixel, -1 to 1 each way, y down.
fn place(at: usize) -> (f32, f32) {
    let to = |v: usize| (v as f32 + 0.5) * 2.0 / SIDE as f32 - 1.0;
    (to(at % SIDE), to(at / SIDE))
}

fn oklab(rgb: [u8; 3]) -> Lab {
    let [r, g, b] = rgb.map(|v| {
        let v = f32::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

fn distance(a: &Lab, b: &Lab) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt()
}

/// Shares of a pixel in the colour bins, summing to 1.
fn colour_bins(lab: &Lab) -> [f32; COLOURS] {
    let [l, a, b] = *lab;
    let colourful = ((a.hypot(b) - 0.03) / 0.06).clamp(0.0, 1.0);
    let mut bins = [0.0; COLOURS];
    let hue = b.atan2(a) / std::f32::consts::TAU * HUES as f32;
    splat_circular(&mut bins[..HUES], hue, colourful);
    splat(&mut bins[HUES..], l * (GREYS - 1) as f32, 1.0 - colourful);
    bins
}

/// The median of each coordinate along the border: what lies behind things, where anything does.
fn border_colour(lab: &[Lab]) -> Lab {
    let border: Vec<&Lab> = (0..SIDE * SIDE)
        .filter(|at| [at % SIDE, at / SIDE].iter().any(|v| *v == 0 || *v == SIDE - 1))
        .map(|at| &lab[at])
        .collect();
    [0, 1, 2].map(|channel| {
        let mut values: Vec<f32> = border.iter().map(|p| p[channel]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    })
}

/// A connected part of about one colour.
struct Region {
    pixels: Vec<usize>,
    x: f32,
    y: f32,
}

/// Labels that are no region's.
const FREE: usize = usize::MAX;
const GROUND: usize = usize::MAX - 1;

/// The pixels left, right, above and below, where there are such.
fn beside(at: usize) -> [Option<usize>; 4] {
    let (x, y) = (at % SIDE, at / SIDE);
    [(x > 0).then(|| at - 1), (x + 1 < SIDE).then_some(at + 1), (y > 0).then(|| at - SIDE), (y + 1 < SIDE).then_some(at + SIDE)]
}

/// Regions of at least 12 pixels, no mere threads, that are not the ground, largest first.
fn regions(lab: &[Lab], ground: &Lab) -> Vec<Region> {
    // The ground is taken from the start, or a blended edge would leak into it.
    let is_ground = |at: usize| distance(&lab[at], ground) < 0.10;
    let mut label: Vec<usize> = (0..SIDE * SIDE).map(|at| if is_ground(at) { GROUND } else { FREE }).collect();
    let mut found = Vec::new();
    for seed in 0..SIDE * SIDE {
        if label[seed] != FREE {
            continue;
        }
        label[seed] = seed;
        let (mut pixels, mut next) = (vec![seed], 0);
        let mut sum = lab[seed];
        while next < pixels.len() {
            let at = pixels[next];
            next += 1;
            for other in beside(at).into_iter().flatten() {
                // Close to its neighbour, and to the region so far: or a slow gradient would swallow all.
                let mean = sum.map(|v| v / pixels.len() as f32);
                if label[other] == FREE && distance(&lab[other], &lab[at]) < 0.09 && distance(&lab[other], &mean) < 0.14 {
                    label[other] = seed;
                    pixels.push(other);
                    sum.iter_mut().zip(lab[other]).for_each(|(s, v)| *s += v);
                }
            }
        }
        // A blended edge is a thread: long, but with hardly a pixel that has its own on all four sides.
        let own = |at: Option<usize>| at.is_some_and(|at| label[at] == seed);
        let n_inner = pixels.iter().filter(|at| beside(**at).into_iter().all(own)).count();
        if pixels.len() >= 12 && n_inner * 5 >= pixels.len() {
            let n = pixels.len() as f32;
            let (x, y) = pixels.iter().map(|at| place(*at)).fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
            found.push(Region { pixels, x, y });
        }
    }
    found.sort_by_key(|region| std::cmp::Reverse(region.pixels.len()));
    found.truncate(REGIONS_MAX);
    found
}

/// What outlines the six largest regions have: sum, greatest and least over them of [`outline`]; the two largest by themselves
/// and the next, each with the logarithm of its area and its lightness over the ground's; how large they are (soft shares of 8
/// sizes); how many there are (one of 0 to 6); how the two largest lie to each other: apart sideways, apart vertically,
/// concentric, and that difference signed by which is larger.
fn region_block(lab: &[Lab], ground: &Lab, row: &mut Vec<f32>) {
    let regions = regions(lab, ground);
    let outlines: Vec<[f32; OUTLINE]> = regions.iter().map(outline).collect();
    let over = |i: usize, start: f32, f: fn(f32, f32) -> f32| outlines.iter().map(|o| o[i]).fold(start, f);
    row.extend((0..OUTLINE).map(|i| over(i, 0.0, |a, b| a + b)));
    row.extend((0..OUTLINE).map(|i| if outlines.is_empty() { 0.0 } else { over(i, f32::MIN, f32::max) }));
    row.extend((0..OUTLINE).map(|i| if outlines.is_empty() { 0.0 } else { over(i, f32::MAX, f32::min) }));
    for i in 0..3 {
        match regions.get(i) {
            Some(region) => {
                row.extend(outlines[i]);
                let lightness = region.pixels.iter().map(|at| lab[*at][0]).sum::<f32>() / region.pixels.len() as f32;
                row.extend([(region.pixels.len() as f32).ln() / 8.0, lightness - ground[0]]);
            }
            None => row.extend([0.0; OUTLINE + 2]),
        }
    }
    let mut areas = [0.0; AREAS];
    for region in &regions {
        // 12 to 4096 pixels: 8.4 doublings.
        splat(&mut areas, (region.pixels.len() as f32 / 12.0).log2() / 8.4 * (AREAS - 1) as f32, 1.0);
    }
    row.extend(areas);
    let mut count = [0.0; REGIONS_MAX + 1];
    count[regions.len()] = 1.0;
    row.extend(count);
    match regions.as_slice() {
        [a, b, ..] => {
            let (dx, dy) = (a.x - b.x, a.y - b.y);
            row.extend([dx.abs(), dy.abs(), (1.0 - 2.0 * dx.hypot(dy)).max(0.0), dx, dy]);
        }
        _ => row.extend([0.0; 5]),
    }
}

/// How a region's outline departs from a circle: for h = 1 to 8, |sum of r exp(i h angle)| / sum of r over its pixels, seen from
/// its middle (a triangle has a strong third, a square a fourth, a five-pointed star a fifth, whichever way they are turned; a
/// disc has none); then how full its circle is; how far it is drawn out.
fn outline(region: &Region) -> [f32; OUTLINE] {
    let mut harmonics = [(0.0f32, 0.0f32); 8];
    let (mut xx, mut yy, mut xy, mut sum, mut farthest) = (0.0f32, 0.0f32, 0.0f32, 1e-6f32, 1e-3f32);
    for &at in &region.pixels {
        let (x, y) = place(at);
        let (dx, dy) = (x - region.x, y - region.y);
        (xx, yy, xy) = (xx + dx * dx, yy + dy * dy, xy + dx * dy);
        let reach = dx.hypot(dy);
        farthest = farthest.max(reach);
        sum += reach;
        let angle = dy.atan2(dx);
        for (h, (re, im)) in harmonics.iter_mut().enumerate() {
            let (sin, cos) = ((h + 1) as f32 * angle).sin_cos();
            (*re, *im) = (*re + reach * cos, *im + reach * sin);
        }
    }
    let mut numbers = [0.0; OUTLINE];
    for (number, (re, im)) in numbers.iter_mut().zip(harmonics) {
        *number = re.hypot(im) / sum;
    }
    let area = region.pixels.len() as f32 * 4.0 / (SIDE * SIDE) as f32;
    numbers[8] = area / (std::f32::consts::PI * farthest * farthest);
    numbers[9] = ((xx - yy).powi(2) + 4.0 * xy * xy).sqrt() / (xx + yy).max(1e-6);
    numbers
}
