//! The sentences in which labels are put before a model is asked which of them fits.
//!
//! The sets are data: `src/prompts/`, each file with its source. A line is a sentence, `{}` stands for the label, and lines that
//! begin with `#` are remarks; files of one's own are written alike.

use chiasm_core::Modality;

use crate::{EngineError, Result};

/// Which sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prompts {
    /// What suits the space: `Short` where a model brought it along, whose texts were captions from the web, else `Plain`.
    #[default]
    Suitable,
    /// The 80 that CLIP was asked ImageNet's classes in. Of sounds, the sentence that models of sounds are asked in; of other media,
    /// `Plain`.
    ImageNet,
    /// The seven best of the 80; of other media as `ImageNet`.
    Short,
    /// The label by itself and little more.
    Plain,
    /// These, for all media and in any language.
    Own(Vec<String>),
}

/// What the sentences are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese.
    Chinese,
}

/// English and Chinese.
type Set = [&'static str; 2];

const IMAGENET: Set = [include_str!("prompts/imagenet.en.txt"), include_str!("prompts/imagenet.zh.txt")];
const SHORT: Set = [include_str!("prompts/short.en.txt"), include_str!("prompts/short.zh.txt")];
const PLAIN: Set = [include_str!("prompts/plain.en.txt"), include_str!("prompts/plain.zh.txt")];
const SOUND: Set = [include_str!("prompts/sound.en.txt"), include_str!("prompts/sound.zh.txt")];

impl Prompts {
    /// The set that a file holds.
    ///
    /// # Errors
    /// [`EngineError::Query`] for a sentence without `{}`, and when there is none at all.
    pub fn parse(text: &str) -> Result<Prompts> {
        let own = Prompts::Own(sentences(text.trim_start_matches('\u{feff}')).map(str::to_owned).collect());
        own.check().map(|()| own)
    }

    /// Whether there are sentences, each with a place for the label.
    pub(crate) fn check(&self) -> Result<()> {
        let Prompts::Own(own) = self else { return Ok(()) };
        if own.is_empty() {
            return Err(EngineError::Query(
                "no sentences to put the labels in: give one a line, with `{}` for the label".to_owned(),
            ));
        }
        match own.iter().find(|sentence| !sentence.contains("{}")) {
            Some(bad) => Err(EngineError::Query(format!("the template `{bad}` has no `{{}}` where the label goes"))),
            None => Ok(()),
        }
    }

    /// The texts that stand for a label when media of a kind are asked. `_` stands for a space, and `|` between names of one thing,
    /// of which each is put into every sentence. The language is the label's own unless given.
    pub(crate) fn texts(&self, media: Modality, of_model: bool, label: &str, language: Option<Language>) -> Vec<String> {
        let names = || label.split('|').map(|name| name.replace('_', " ").trim().to_owned()).filter(|name| !name.is_empty());
        let expand = |sentence: &str| names().map(|name| sentence.replace("{}", &name)).collect::<Vec<_>>();
        if let Prompts::Own(own) = self {
            return own.iter().flat_map(|sentence| expand(sentence)).collect();
        }
        let set = self.set(media, of_model)[language.unwrap_or_else(|| language_of(label)) as usize];
        sentences(set).flat_map(expand).collect()
    }

    fn set(&self, media: Modality, of_model: bool) -> Set {
        let is_plain = *self == Prompts::Plain || (*self == Prompts::Suitable && !of_model);
        if is_plain {
            PLAIN
        } else if media == Modality::Audio {
            SOUND
        } else if !matches!(media, Modality::Image | Modality::Video | Modality::Shape) {
            PLAIN
        } else if *self == Prompts::ImageNet {
            IMAGENET
        } else {
            SHORT
        }
    }
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Chinese where there are Han characters, and none of the kana that would make it Japanese.
fn language_of(label: &str) -> Language {
    let has = |ranges: &[(char, char)]| label.chars().any(|c| ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)));
    let han = [('\u{3400}', '\u{4dbf}'), ('\u{4e00}', '\u{9fff}'), ('\u{f900}', '\u{faff}'), ('\u{20000}', '\u{323af}')];
    if has(&han) && !has(&[('\u{3040}', '\u{30ff}')]) { Language::Chinese } else { Language::English }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_whole() {
        for (set, n) in [(IMAGENET, [80, 42]), (SHORT, [7, 7]), (PLAIN, [3, 3]), (SOUND, [1, 1])] {
            for (text, n) in set.into_iter().zip(n) {
                let Prompts::Own(own) = Prompts::parse(text).unwrap() else { unreachable!() };
                let distinct: std::collections::BTreeSet<&String> = own.iter().collect();
                assert_eq!((own.len(), distinct.len()), (n, n), "{text}");
            }
        }
        for (short, whole) in SHORT.into_iter().zip(IMAGENET) {
            assert!(sentences(short).all(|sentence| sentences(whole).any(|s| s == sentence)), "{short}");
        }
    }

    #[test]
    fn labels_are_put_into_what_suits_them() {
        let texts = |prompts: Prompts, media, label: &str| prompts.texts(media, true, label, None);
        assert_eq!(texts(Prompts::Suitable, Modality::Audio, "rain_drops"), ["this is a sound of rain drops"]);
        assert_eq!(texts(Prompts::Suitable, Modality::Audio, "雨"), ["这是雨的声音"]);
        assert_eq!(texts(Prompts::Suitable, Modality::Image, "dog")[0], "itap of a dog.");
        assert_eq!(texts(Prompts::ImageNet, Modality::Image, "dog").len(), 80);
        assert_eq!(texts(Prompts::ImageNet, Modality::Video, "dog").len(), 80);
        assert_eq!(texts(Prompts::ImageNet, Modality::Series, "run"), ["run", "a run", "this is a run"]);
        assert_eq!(Prompts::Suitable.texts(Modality::Image, false, "dog", None), ["dog", "a dog", "this is a dog"]);
        let own = Prompts::Own(vec!["one {}".to_owned(), "{}!".to_owned()]);
        assert_eq!(texts(own, Modality::Text, "sofa | couch|"), ["one sofa", "one couch", "sofa!", "couch!"]);
        let english = Prompts::Plain.texts(Modality::Image, true, "狗", Some(Language::English));
        assert_eq!(english, ["狗", "a 狗", "this is a 狗"]);
        assert_eq!(texts(Prompts::Plain, Modality::Image, "ねこ猫"), ["ねこ猫", "a ねこ猫", "this is a ねこ猫"]);
    }

    #[test]
    fn files_without_a_place_for_the_label_are_refused() {
        assert_eq!(Prompts::parse("\u{feff}# mine\r\n\r\n a {} \n").unwrap(), Prompts::Own(vec!["a {}".to_owned()]));
        assert!(Prompts::parse("a {}\nno place\n").unwrap_err().to_string().contains("`no place` has no `{}`"));
        assert!(Prompts::parse("# nothing\n").unwrap_err().to_string().contains("no sentences"));
    }
}
