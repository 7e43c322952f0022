//! A scene as a picture: filled outlines on a tinted, noisy ground.
//!
//! What a scene fixes: colours, shapes, sizes, how many, on which side. What varies freely: the exact places, a turn of up to
//! 15 degrees, a shift of each colour, light falling from one side, the ground's tint, dust and pixel noise.

use chiasm_core::Image;
use libm::{cos, hypot, sin};

use crate::dice::Dice;
use crate::outline::{contains, outline};
use crate::scene::{Colour, Relation, Scene, Size, Thing};

/// Pixels per side.
pub(crate) const SIDE: u32 = 128;
const SIDE_F: f64 = SIDE as f64;
/// Each pixel is sampled this many times each way.
const SUPER: u32 = 3;

/// A thing with its place, in pixels.
struct Placed {
    thing: Thing,
    x: f64,
    y: f64,
    radius: f64,
}

/// Draws a scene.
pub(crate) fn draw(scene: &Scene, dice: &mut Dice) -> Image {
    let placed = place(scene, dice);
    let tint = [dice.around(158.0, 22.0), dice.around(158.0, 22.0), dice.around(158.0, 22.0)];
    let light = (dice.around(0.0, 0.12), dice.around(0.0, 0.12));
    let mut canvas = vec![tint; (SIDE * SIDE) as usize];
    for _ in 0..dice.below(14) {
        speck(&mut canvas, dice);
    }
    for p in &placed {
        fill(&mut canvas, p, dice);
    }
    let mut rgb = Vec::with_capacity(canvas.len() * 3);
    for (at, pixel) in canvas.iter().enumerate() {
        let (x, y) = ((at as u32 % SIDE) as f64 / SIDE_F - 0.5, (at as u32 / SIDE) as f64 / SIDE_F - 0.5);
        let shade = 1.0 + 2.0 * (light.0 * x + light.1 * y);
        // Grain is mostly of brightness, as a camera's is, with a little of colour.
        let grain = 3.0 * dice.noise();
        for channel in pixel {
            rgb.push((channel * shade + grain + 1.5 * dice.noise() + 0.5).clamp(0.0, 255.0) as u8);
        }
    }
    Image { width: SIDE, height: SIDE, rgb }
}

/// Puts things where the relation wants them, no two overlapping (except one inside another).
fn place(scene: &Scene, dice: &mut Dice) -> Vec<Placed> {
    let radius = |thing: Thing, dice: &mut Dice| match thing.size {
        Size::Small => dice.around(12.0, 1.5),
        Size::Large => dice.around(24.0, 2.5),
    };
    let Some((relation, other)) = scene.other else {
        return scatter(scene.subject, dice, radius);
    };
    if relation == Relation::Inside {
        let (x, y, host) = (dice.around(64.0, 12.0), dice.around(64.0, 12.0), dice.around(40.0, 3.0));
        let guest = Placed {
            thing: scene.subject,
            x: dice.around(x, 3.0),
            y: dice.around(y, 3.0) + 2.0,
            radius: dice.around(11.0, 1.0),
        };
        return vec![Placed { thing: other, x, y, radius: host }, guest];
    }
    let (first, second) = (radius(scene.subject, dice), radius(other, dice));
    // Along the axis of the relation the two stand a quarter and three quarters across, crosswise anywhere near the middle.
    let gap = (first + second) * 1.3 + 4.0;
    let middle = dice.around(64.0, 5.0);
    let half = (0.5 * gap).max(dice.around(30.0, 4.0)).min(34.0);
    let (low, high) = (middle - half, middle + half);
    let mut across = || dice.around(64.0, 16.0);
    let (a, b) = (across(), across());
    let ((x1, y1), (x2, y2)) = match relation {
        Relation::LeftOf | Relation::Inside => ((low, a), (high, b)),
        Relation::RightOf => ((high, a), (low, b)),
        Relation::Above => ((a, low), (b, high)),
        Relation::Below => ((a, high), (b, low)),
    };
    vec![Placed { thing: scene.subject, x: x1, y: y1, radius: first }, Placed { thing: other, x: x2, y: y2, radius: second }]
}

/// Several things of one kind, apart from each other.
fn scatter(thing: Thing, dice: &mut Dice, radius: impl Fn(Thing, &mut Dice) -> f64) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    let mut n_tries = 0;
    while placed.len() < usize::from(thing.count) {
        let r = radius(thing, dice);
        let reach = SIDE_F / 2.0 - 1.2 * r;
        let (x, y) = (dice.around(64.0, reach), dice.around(64.0, reach));
        if placed.iter().all(|p| hypot(p.x - x, p.y - y) > 1.25 * (p.radius + r)) {
            placed.push(Placed { thing, x, y, radius: r });
        }
        n_tries += 1;
        // Two large things in awkward places can leave no room for a third: start over.
        if n_tries % 50 == 0 {
            placed.clear();
        }
    }
    placed
}

fn fill(canvas: &mut [[f64; 3]], p: &Placed, dice: &mut Dice) {
    let colour = pigment(p.thing.colour);
    let brightness = dice.around(1.0, 0.08);
    let colour = colour.map(|c| (c + dice.around(0.0, 10.0)) * brightness);
    let angle = dice.around(0.0, std::f64::consts::PI / 12.0);
    let (cosine, sine) = (cos(angle), sin(angle));
    let polygon = outline(p.thing.shape);
    let reach = 1.5 * p.radius;
    let range = |centre: f64| (centre - reach).max(0.0) as u32..((centre + reach).ceil().max(0.0) as u32).min(SIDE);
    for y in range(p.y) {
        for x in range(p.x) {
            let mut n_inside = 0;
            for sub in 0..SUPER * SUPER {
                let offset = |i: u32| (f64::from(i) + 0.5) / f64::from(SUPER);
                let dx = (f64::from(x) + offset(sub % SUPER) - p.x) / p.radius;
                let dy = (f64::from(y) + offset(sub / SUPER) - p.y) / p.radius;
                n_inside += u32::from(contains(&polygon, (cosine * dx + sine * dy, cosine * dy - sine * dx)));
            }
            let cover = f64::from(n_inside) / f64::from(SUPER * SUPER);
            let pixel = &mut canvas[(y * SIDE + x) as usize];
            for (old, new) in pixel.iter_mut().zip(colour) {
                *old += cover * (new - *old);
            }
        }
    }
}

/// A fleck of dust that means nothing.
fn speck(canvas: &mut [[f64; 3]], dice: &mut Dice) {
    let (x, y, grey) = (dice.below(SIDE as usize), dice.below(SIDE as usize), dice.around(150.0, 80.0));
    let (w, h) = (1 + dice.below(3), 1 + dice.below(3));
    for y in y..(y + h).min(SIDE as usize) {
        for x in x..(x + w).min(SIDE as usize) {
            canvas[y * SIDE as usize + x] = [grey; 3];
        }
    }
}

/// sRGB, 0 to 255.
fn pigment(colour: Colour) -> [f64; 3] {
    match colour {
        Colour::Red => [208.0, 38.0, 42.0],
        Colour::Orange => [242.0, 132.0, 28.0],
        Colour::Yellow => [246.0, 218.0, 48.0],
        Colour::Green => [46.0, 150.0, 72.0],
        Colour::Blue => [44.0, 88.0, 204.0],
        Colour::Purple => [132.0, 58.0, 168.0],
        Colour::Black => [26.0, 26.0, 28.0],
        Colour::White => [244.0, 244.0, 242.0],
    }
}
