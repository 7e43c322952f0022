//! What a scene is, and how scenes are dealt into training and held-out ones.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::WorldConfig;
use crate::dice::Dice;

macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
        }
    };
}

attribute! {
    /// The colour of a thing: its pigment in the picture, its pitch in the sound, its tempo in the motion.
    Colour {
        /// 红
        Red,
        /// 橙
        Orange,
        /// 黄
        Yellow,
        /// 绿
        Green,
        /// 蓝
        Blue,
        /// 紫
        Purple,
        /// 黑
        Black,
        /// 白
        White,
    }
}

attribute! {
    /// The outline of a thing: drawn in the picture, traced in the air by the motion, an instrument in the sound.
    Shape {
        /// 圆
        Circle,
        /// 正方形
        Square,
        /// 三角形
        Triangle,
        /// 星
        Star,
        /// 十字
        Cross,
        /// 心
        Heart,
    }
}

attribute! {
    /// How large a thing is: area in the picture, length and loudness of notes in the sound, amplitude of the motion.
    Size {
        /// 小
        Small,
        /// 大
        Large,
    }
}

attribute! {
    /// How the first thing of a scene stands to the second.
    Relation {
        /// 在……左边
        LeftOf,
        /// 在……右边
        RightOf,
        /// 在……上面
        Above,
        /// 在……下面
        Below,
        /// 在……里面
        Inside,
    }
}

attribute! {
    /// Which part of the world a scene belongs to.
    Split {
        /// May be learnt from.
        Train,
        /// Kept for evaluation.
        Heldout,
    }
}

/// One kind of thing in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// How many alike there are, 1 to 3; always 1 in a scene with a relation.
    pub count: u8,
    /// Small or large.
    pub size: Size,
    /// Colour.
    pub colour: Colour,
    /// Shape.
    pub shape: Shape,
}

/// What is behind a picture, two captions, a sound and a motion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// The thing a caption names as its subject; it sounds and moves first.
    pub subject: Thing,
    /// The thing it stands in relation to, if the scene has two.
    pub other: Option<(Relation, Thing)>,
}

attribute! {
    /// What is exchanged to make a scene that is wrong though every word of it is right.
    Swap {
        /// The colours of the two things.
        Colours,
        /// Their shapes.
        Shapes,
        /// The relation, for its contrary.
        Relation,
    }
}

impl Scene {
    /// The scene with one thing exchanged, which looks otherwise; none where nothing would: a scene of one kind of thing, shapes of two things of one shape, the
    /// relation of something inside another.
    pub fn swapped(&self, swap: Swap) -> Option<Scene> {
        let (relation, other) = self.other?;
        let (mut subject, mut other, mut contrary) = (self.subject, other, relation);
        match swap {
            Swap::Colours => std::mem::swap(&mut subject.colour, &mut other.colour),
            Swap::Shapes => std::mem::swap(&mut subject.shape, &mut other.shape),
            Swap::Relation => contrary = opposite(relation),
        }
        let swapped = Scene { subject, other: Some((contrary, other)) };
        // Told from the other thing, a scene is the same scene.
        let told = Scene { subject: other, other: Some((opposite(contrary), subject)) };
        (swapped != *self && (told != *self || contrary == Relation::Inside)).then_some(swapped)
    }

    /// The things in it, subject first.
    pub fn things(&self) -> impl Iterator<Item = Thing> {
        [Some(self.subject), self.other.map(|(_, thing)| thing)].into_iter().flatten()
    }
}

/// The same relation, told from the other thing.
fn opposite(relation: Relation) -> Relation {
    match relation {
        Relation::LeftOf => Relation::RightOf,
        Relation::RightOf => Relation::LeftOf,
        Relation::Above => Relation::Below,
        Relation::Below => Relation::Above,
        Relation::Inside => Relation::Inside,
    }
}

/// A scene with its place in the world.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dealt {
    pub(crate) scene: Scene,
    pub(crate) split: Split,
    pub(crate) unseen_combination: bool,
}

/// The pairs of colour and shape that training never shows: one per shape, no colour twice.
pub(crate) fn unseen_pairs(seed: u64) -> Vec<(Colour, Shape)> {
    let order = Dice::new(seed, STREAM_PAIRS).permutation(Colour::ALL.len());
    Shape::ALL.iter().zip(order).map(|(shape, colour)| (Colour::ALL[colour], *shape)).collect()
}

// Streams 0.. belong to scenes, four each; these are far above them.
const STREAM_PAIRS: u64 = 1 << 40;
const STREAM_DEAL: u64 = (1 << 40) + 1;

/// How many scenes can be told apart (those with two things: 6 shapes in 2 sizes times ordered pairs of 8 colours, times relations).
pub(crate) const SCENES_MAX: usize = 9_999;

/// Deals the scenes of a world: all different, training scenes first. Half of the held-out scenes (the later half) contain an
/// unseen pair of colour and shape, the other scenes contain none.
pub(crate) fn deal(config: &WorldConfig) -> Vec<Dealt> {
    let unseen: BTreeSet<(Colour, Shape)> = unseen_pairs(config.seed).into_iter().collect();
    let n_ordinary = config.n_train + config.n_heldout.div_ceil(2);
    let mut dice = Dice::new(config.seed, STREAM_DEAL);
    let mut dealt_before = BTreeSet::new();
    let mut deck = Vec::with_capacity(config.n_train + config.n_heldout);
    while deck.len() < config.n_train + config.n_heldout {
        let scene = draw(&mut dice);
        let unseen_combination = scene.things().any(|t| unseen.contains(&(t.colour, t.shape)));
        // Rejection keeps both parts uniform over what they may contain. It ends: SCENES_MAX is far below the number of
        // different scenes of either part.
        if unseen_combination != (deck.len() >= n_ordinary) || !dealt_before.insert(scene.clone()) {
            continue;
        }
        let split = if deck.len() < config.n_train { Split::Train } else { Split::Heldout };
        deck.push(Dealt { scene, split, unseen_combination });
    }
    deck
}

fn draw(dice: &mut Dice) -> Scene {
    let mut thing =
        |count| Thing { count, size: dice.pick(Size::ALL), colour: dice.pick(Colour::ALL), shape: dice.pick(Shape::ALL) };
    let (mut subject, mut second) = (thing(1), thing(1));
    // One scene in five has a single kind of thing, one to three of it.
    if dice.below(5) == 0 {
        subject.count = 1 + dice.below(3) as u8;
        return Scene { subject, other: None };
    }
    // Two things of one colour would melt into each other.
    while second.colour == subject.colour {
        second.colour = dice.pick(Colour::ALL);
    }
    let relation = dice.pick(Relation::ALL);
    if relation == Relation::Inside {
        (subject.size, second.size) = (Size::Small, Size::Large);
    }
    Scene { subject, other: Some((relation, second)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_says_something_else_with_the_same_words() {
        let config = WorldConfig { seed: 5, n_train: 300, n_heldout: 10 };
        let mut n = [0; 3];
        for dealt in deal(&config) {
            for (at, swap) in Swap::ALL.iter().enumerate() {
                let Some(wrong) = dealt.scene.swapped(*swap) else { continue };
                n[at] += 1;
                assert_ne!(wrong, dealt.scene);
                let sorted = |scene: &Scene, of: fn(Thing) -> usize| {
                    let mut all: Vec<usize> = scene.things().map(of).collect();
                    all.sort_unstable();
                    all
                };
                let numbers: [fn(Thing) -> usize; 3] = [|t| t.colour as usize, |t| t.shape as usize, |t| t.size as usize];
                for of in numbers {
                    assert_eq!(sorted(&wrong, of), sorted(&dealt.scene, of), "{wrong:?}");
                }
                let told = wrong
                    .other
                    .map(|(relation, other)| Scene { subject: other, other: Some((opposite(relation), wrong.subject)) });
                assert!(told.as_ref() != Some(&dealt.scene) || wrong.other.is_some_and(|(r, _)| r == Relation::Inside));
            }
        }
        assert!(n.iter().all(|n| *n > 100), "{n:?}");
    }

    #[test]
    fn training_never_shows_the_unseen_pairs() {
        for seed in 0..20 {
            let config = WorldConfig { seed, n_train: 400, n_heldout: 101 };
            let deck = deal(&config);
            let unseen = unseen_pairs(seed);
            let has = |d: &Dealt| d.scene.things().any(|t| unseen.contains(&(t.colour, t.shape)));
            let (train, heldout) = deck.split_at(400);
            assert!(train.iter().all(|d| d.split == Split::Train && !d.unseen_combination && !has(d)));
            assert!(heldout.iter().all(|d| d.split == Split::Heldout && d.unseen_combination == has(d)));
            assert_eq!(heldout.iter().filter(|d| has(d)).count(), 50);
            // Yet each half of every unseen pair is seen in training, or nothing could be expected of it.
            for (colour, shape) in unseen {
                assert!(train.iter().any(|d| d.scene.things().any(|t| t.colour == colour)));
                assert!(train.iter().any(|d| d.scene.things().any(|t| t.shape == shape)));
            }
            let different: BTreeSet<_> = deck.iter().map(|d| &d.scene).collect();
            assert_eq!(different.len(), deck.len());
        }
    }
}
