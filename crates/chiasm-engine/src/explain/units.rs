//! The pieces of a text that are left out in turn: words, and sentences.

use std::ops::Range;

use super::MAX_UNITS;

/// A piece of a text: the bytes that are shown, and those that go when it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) shown: Range<usize>,
    pub(super) cut: Range<usize>,
}

/// What a character is written like, as far as words are told apart by it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Han,
    Hiragana,
    Katakana,
    Spaced,
}

fn script(c: char) -> Script {
    match c {
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' | '々' => {
            Script::Han
        }
        '\u{3041}'..='\u{309f}' => Script::Hiragana,
        '\u{30a0}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' => Script::Katakana,
        _ => Script::Spaced,
    }
}

/// The words of a text, at most 32 pieces: neighbours go together where there are more. Scripts with spaces are cut at them. Chinese
/// is cut into characters, each of which means something; in Japanese a run of one script is about a word.
pub(super) fn units(text: &str) -> Vec<Unit> {
    let is_japanese = text.chars().any(|c| matches!(script(c), Script::Hiragana | Script::Katakana));
    let mut units = Vec::new();
    for token in split_at(text, char::is_whitespace) {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut last: Option<Script> = None;
        for (at, c) in text[token.clone()].char_indices() {
            let at = token.start + at;
            let (end, own) = (at + c.len_utf8(), script(c));
            let in_word = own != Script::Spaced || c.is_alphanumeric() || "'’-_".contains(c);
            let goes_on = in_word && last == Some(own) && (own != Script::Han || is_japanese);
            match runs.last_mut().filter(|_| goes_on) {
                Some(run) => run.end = end,
                None if in_word => runs.push(at..end),
                None => {}
            }
            last = in_word.then_some(own);
        }
        runs.retain(|run| text[run.clone()].chars().any(char::is_alphanumeric));
        match runs.as_slice() {
            // Marks that stand at a word go with it.
            [one] => units.push(Unit { shown: one.clone(), cut: token }),
            several => units.extend(several.iter().map(|run| Unit { shown: run.clone(), cut: run.clone() })),
        }
    }
    grouped(units)
}

/// The sentences of a text, ended by their marks or by a line's end.
pub(super) fn sentences(text: &str) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    let mut push = |range: Range<usize>| {
        let shown = text[range.clone()].trim();
        if shown.chars().any(char::is_alphanumeric) {
            let first = range.start + (text[range.clone()].len() - text[range.clone()].trim_start().len());
            units.push(Unit { shown: first..first + shown.len(), cut: range });
        }
    };
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        let is_mark = matches!(c, '.' | '!' | '?' | '…') && next.is_none_or(char::is_whitespace);
        let is_cjk_mark = matches!(c, '。' | '！' | '？' | '；' | '｡') && !next.is_some_and(|n| "”’」』）》".contains(n));
        let closes = matches!(c, '”' | '’' | '」' | '』' | '"') && text[..at].ends_with(['.', '!', '?', '。', '！', '？']);
        if is_mark || is_cjk_mark || closes || c == '\n' || next.is_none() {
            push(start..end);
            start = end;
        }
    }
    units
}

/// At most [`MAX_UNITS`] pieces, neighbours put together as evenly as can be.
pub(super) fn grouped(units: Vec<Unit>) -> Vec<Unit> {
    let n = units.len();
    if n <= MAX_UNITS {
        return units;
    }
    let group = |i: usize| {
        let (first, last) = (&units[i * n / MAX_UNITS], &units[(i + 1) * n / MAX_UNITS - 1]);
        Unit { shown: first.shown.start..last.shown.end, cut: first.cut.start..last.cut.end }
    };
    (0..MAX_UNITS).map(group).collect()
}

fn split_at(text: &str, is_gap: fn(char) -> bool) -> Vec<Range<usize>> {
    let base = text.as_ptr() as usize;
    let range = |piece: &str| {
        let start = piece.as_ptr() as usize - base;
        start..start + piece.len()
    };
    text.split(is_gap).filter(|piece| !piece.is_empty()).map(range).collect()
}

/// A text without a piece of it, and without the gap that it leaves.
pub(super) fn left_out(text: &str, unit: &Unit) -> String {
    let (before, after) = (&text[..unit.cut.start], &text[unit.cut.end..]);
    let gap = before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace);
    let (before, after) = (before.trim_end(), after.trim_start());
    let between = if gap && !before.is_empty() && !after.is_empty() { " " } else { "" };
    format!("{before}{between}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<&str> {
        units(text).into_iter().map(|unit| &text[unit.shown]).collect()
    }

    #[test]
    fn words_are_what_can_be_left_out() {
        assert_eq!(shown("a black dog, running"), ["a", "black", "dog", "running"]);
        assert_eq!(shown("  (don't)  - stop! "), ["don't", "stop"]);
        assert_eq!(shown("红色的方块 left"), ["红", "色", "的", "方", "块", "left"]);
        assert_eq!(shown("赤い車がベンチの前に"), ["赤", "い", "車", "が", "ベンチ", "の", "前", "に"]);
        assert_eq!(shown("iPhone手机"), ["iPhone", "手", "机"]);
        assert!(shown("?! …").is_empty());
        let without = |text: &str| units(text).iter().map(|unit| left_out(text, unit)).collect::<Vec<_>>();
        assert_eq!(
            without("a black dog, running"),
            ["black dog, running", "a dog, running", "a black running", "a black dog,"]
        );
        assert_eq!(without("红车"), ["车", "红"]);
        assert_eq!(without("dog"), [""]);
        let long = "word ".repeat(100);
        assert_eq!(units(&long).len(), MAX_UNITS);
    }

    #[test]
    fn sentences_end_at_their_marks() {
        let shown = |text: &'static str| sentences(text).into_iter().map(|u| &text[u.shown]).collect::<Vec<_>>();
        assert_eq!(
            shown("It is 3.5 m. He said \"no.\" Then left!\nA line"),
            ["It is 3.5 m.", "He said \"no.\"", "Then left!", "A line"]
        );
        assert_eq!(shown("狗在跑。“猫呢？”他问"), ["狗在跑。", "“猫呢？”", "他问"]);
        assert_eq!(shown("one"), ["one"]);
    }

    proptest! {
        #[test]
        fn pieces_lie_within_the_text_in_order(text in "[a-c 。,.!\n红い'-]{0,80}") {
            for units in [units(&text), grouped(sentences(&text))] {
                prop_assert!(units.len() <= MAX_UNITS);
                prop_assert!(units.windows(2).all(|w| w[0].shown.end <= w[1].shown.start && w[0].cut.end <= w[1].cut.start));
                for unit in &units {
                    prop_assert!(!text[unit.shown.clone()].trim().is_empty());
                    prop_assert!(left_out(&text, unit).len() < text.len());
                }
            }
        }
    }
}
