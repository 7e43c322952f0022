//! A scene in words: two small grammars, each with several ways to say a thing.
//!
//! A caption names every attribute of its scene. Words for one attribute never contain a word for another, so that what a
//! caption says can be checked by looking for its words.

use crate::dice::Dice;
use crate::scene::{Colour, Relation, Scene, Shape, Size, Thing};

/// A caption in English.
pub(crate) fn english(scene: &Scene, dice: &mut Dice) -> String {
    let subject = noun_phrase(scene.subject, dice);
    let Some((relation, other)) = scene.other else {
        let number = ["", "", "two ", "three "][usize::from(scene.subject.count)];
        return match (scene.subject.count, dice.below(4)) {
            (1, 0) => format!("{} {subject}", article(&subject)),
            (1, 1) => format!("there is {} {subject}", article(&subject)),
            (1, 2) => format!("a picture of {} {subject}", article(&subject)),
            (1, _) => format!("{} {subject} all alone", article(&subject)),
            (_, 0) => format!("{number}{subject}s"),
            (_, 1) => format!("there are {number}{subject}s"),
            (_, 2) => format!("a picture of {number}{subject}s"),
            (_, _) => format!("{number}{subject}s side by side"),
        };
    };
    let other = noun_phrase(other, dice);
    let how = dice.pick(english_relation(relation));
    let (a, b) = (article(&subject), article(&other));
    match dice.below(5) {
        0 => format!("{a} {subject} {how} {b} {other}"),
        1 => format!("{a} {subject} is {how} {b} {other}"),
        2 => format!("there is {a} {subject} {how} {b} {other}"),
        3 => format!("{how} {b} {other} there is {a} {subject}"),
        _ => format!("a picture of {a} {subject} {how} {b} {other}"),
    }
}

/// A caption in Chinese.
pub(crate) fn chinese(scene: &Scene, dice: &mut Dice) -> String {
    let Some((relation, other)) = scene.other else {
        let subject = noun_phrase_zh(scene.subject, dice);
        let number = ["", "一个", "两个", "三个"][usize::from(scene.subject.count)];
        return match dice.below(4) {
            0 => format!("{number}{subject}"),
            1 => format!("图里有{number}{subject}"),
            2 => format!("画面上是{number}{subject}"),
            _ => format!("这里有{number}{subject}"),
        };
    };
    let (subject, other) = (noun_phrase_zh(scene.subject, dice), noun_phrase_zh(other, dice));
    let how = dice.pick(chinese_relation(relation));
    match dice.below(4) {
        0 => format!("一个{subject}在{other}{how}"),
        1 => format!("一个{subject}在一个{other}的{how}"),
        2 => format!("{other}的{how}有一个{subject}"),
        _ => format!("{subject}位于{other}的{how}"),
    }
}

/// Words for a size.
pub(crate) fn english_size(size: Size) -> &'static [&'static str] {
    match size {
        Size::Small => &["small", "little", "tiny"],
        Size::Large => &["large", "big"],
    }
}

/// The word for a colour.
pub(crate) fn english_colour(colour: Colour) -> &'static str {
    match colour {
        Colour::Red => "red",
        Colour::Orange => "orange",
        Colour::Yellow => "yellow",
        Colour::Green => "green",
        Colour::Blue => "blue",
        Colour::Purple => "purple",
        Colour::Black => "black",
        Colour::White => "white",
    }
}

/// Words for a shape, each with a plural in -s.
pub(crate) fn english_shape(shape: Shape) -> &'static [&'static str] {
    match shape {
        Shape::Circle => &["circle", "disc"],
        Shape::Square => &["square"],
        Shape::Triangle => &["triangle"],
        Shape::Star => &["star"],
        Shape::Cross => &["plus sign", "plus"],
        Shape::Heart => &["heart"],
    }
}

/// Words for a relation.
pub(crate) fn english_relation(relation: Relation) -> &'static [&'static str] {
    match relation {
        Relation::LeftOf => &["left of", "to the left of"],
        Relation::RightOf => &["right of", "to the right of"],
        Relation::Above => &["above", "over", "on top of"],
        Relation::Below => &["below", "under", "beneath"],
        Relation::Inside => &["inside", "within"],
    }
}

/// The character for a size.
pub(crate) fn chinese_size(size: Size) -> &'static str {
    match size {
        Size::Small => "小",
        Size::Large => "大",
    }
}

/// The character for a colour.
pub(crate) fn chinese_colour(colour: Colour) -> &'static str {
    match colour {
        Colour::Red => "红",
        Colour::Orange => "橙",
        Colour::Yellow => "黄",
        Colour::Green => "绿",
        Colour::Blue => "蓝",
        Colour::Purple => "紫",
        Colour::Black => "黑",
        Colour::White => "白",
    }
}

/// Words for a shape.
pub(crate) fn chinese_shape(shape: Shape) -> &'static [&'static str] {
    match shape {
        Shape::Circle => &["圆", "圆形"],
        Shape::Square => &["方块", "正方形"],
        Shape::Triangle => &["三角", "三角形"],
        Shape::Star => &["星星", "五角星"],
        Shape::Cross => &["十字", "十字形"],
        Shape::Heart => &["心形", "爱心"],
    }
}

/// Words for a relation.
pub(crate) fn chinese_relation(relation: Relation) -> &'static [&'static str] {
    match relation {
        Relation::LeftOf => &["左边", "左侧", "左面"],
        Relation::RightOf => &["右边", "右侧", "右面"],
        Relation::Above => &["上面", "上方", "上边"],
        Relation::Below => &["下面", "下方", "下边"],
        Relation::Inside => &["里面", "内部", "里边"],
    }
}

fn noun_phrase(thing: Thing, dice: &mut Dice) -> String {
    let (size, shape) = (dice.pick(english_size(thing.size)), dice.pick(english_shape(thing.shape)));
    let shape = if thing.count > 1 && shape == "plus" { "plus sign" } else { shape };
    format!("{size} {} {shape}", english_colour(thing.colour))
}

fn noun_phrase_zh(thing: Thing, dice: &mut Dice) -> String {
    let (size, colour) = (chinese_size(thing.size), chinese_colour(thing.colour));
    let shape = dice.pick(chinese_shape(thing.shape));
    match dice.below(3) {
        0 => format!("{size}{colour}{shape}"),
        1 => format!("{size}{colour}色{shape}"),
        _ => format!("{colour}色的{size}{shape}"),
    }
}

fn article(phrase: &str) -> &'static str {
    if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorldConfig;
    use crate::scene::deal;

    /// Words of a caption say exactly what the scene holds: every attribute present is named, none that is absent.
    #[test]
    fn captions_say_the_truth() {
        let config = WorldConfig { seed: 3, n_train: 300, n_heldout: 100 };
        for (i, dealt) in deal(&config).into_iter().enumerate() {
            let scene = dealt.scene;
            let mut dice = Dice::new(3, i as u64);
            let (en, zh) = (format!(" {} ", english(&scene, &mut dice)), chinese(&scene, &mut dice));
            let said = |words: &[&str]| words.iter().any(|w| en.contains(&format!(" {w} ")) || en.contains(&format!(" {w}s ")));
            let said_zh = |words: &[&str]| words.iter().any(|w| zh.contains(w));
            for colour in Colour::ALL {
                let is = scene.things().any(|t| t.colour == *colour);
                assert_eq!(said(&[english_colour(*colour)]), is, "{colour:?} in {en}");
                assert_eq!(said_zh(&[chinese_colour(*colour)]), is, "{colour:?} in {zh}");
            }
            for shape in Shape::ALL {
                let is = scene.things().any(|t| t.shape == *shape);
                assert_eq!(said(english_shape(*shape)), is, "{shape:?} in {en}");
                assert_eq!(said_zh(chinese_shape(*shape)), is, "{shape:?} in {zh}");
            }
            for size in Size::ALL {
                let is = scene.things().any(|t| t.size == *size);
                assert_eq!(said(english_size(*size)), is, "{size:?} in {en}");
                assert_eq!(said_zh(&[chinese_size(*size)]), is, "{size:?} in {zh}");
            }
            for relation in Relation::ALL {
                let is = scene.other.is_some_and(|(r, _)| r == *relation);
                assert_eq!(said(english_relation(*relation)), is, "{relation:?} in {en}");
                assert_eq!(said_zh(chinese_relation(*relation)), is, "{relation:?} in {zh}");
            }
            assert_eq!(en.contains(" two ") && zh.contains('两'), scene.subject.count == 2, "{en} {zh}");
            assert_eq!(en.contains(" three ") && zh.contains("三个"), scene.subject.count == 3, "{en} {zh}");
        }
    }
}
