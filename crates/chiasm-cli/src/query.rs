//! The parts of a query as the command line writes them: what to look for, what to keep away from, and how much each counts.
//!
//! `--weight W` follows the part that it weighs, as in `--image beach.jpg --weight 0.7 --text "at night" --not people`. Weights
//! inside a part's text (`night:0.5`) would take words and file names away from people, a list of weights at the end would have
//! to be counted out. The order of parts and weights is therefore part of the arguments, and read here by hand.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::bail;
use chiasm_core::{Media, Modality};
use chiasm_engine::{EngineError, Item, Library, Limits, Query, QueryMedia, QueryPart, load_media};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::ui::{shown, usage};

/// One part, not yet read from its file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    what: What,
    /// Above 0; the sign comes from `is_not`.
    weight: f32,
    is_not: bool,
}

/// What a part is given as.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Words(String),
    File(Modality, PathBuf),
    Item(OsString),
}

/// All parts, in the order of the command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parts(Vec<Part>);

/// Options that take a part: name, value, what it is, whether it is a negative, and the help.
const OPTIONS: &[(&str, &str, Kind, bool, &str)] = &[
    ("text", "WORDS", Kind::Words, false, "Words to look for (as WORDS, but may be repeated and weighed)"),
    ("text-file", "FILE", Kind::File(Modality::Text), false, "A text in a file"),
    ("image", "FILE", Kind::File(Modality::Image), false, "A picture"),
    ("audio", "FILE", Kind::File(Modality::Audio), false, "A sound"),
    ("series", "FILE", Kind::File(Modality::Series), false, "A sensor series"),
    ("video", "FILE", Kind::File(Modality::Video), false, "A video or an animated picture"),
    ("shape", "FILE", Kind::File(Modality::Shape), false, "A shape: STL, OBJ, PLY or OFF"),
    ("like", "PATH_OR_ID", Kind::Item, false, "An item of the library, by its path or number; nothing is encoded"),
    ("not", "WORDS", Kind::Words, true, "Words to keep away from"),
    ("not-image", "FILE", Kind::File(Modality::Image), true, "A picture to keep away from"),
    ("not-audio", "FILE", Kind::File(Modality::Audio), true, "A sound to keep away from"),
    ("not-series", "FILE", Kind::File(Modality::Series), true, "A series to keep away from"),
    ("not-video", "FILE", Kind::File(Modality::Video), true, "A video to keep away from"),
    ("not-shape", "FILE", Kind::File(Modality::Shape), true, "A shape to keep away from"),
    ("not-like", "PATH_OR_ID", Kind::Item, true, "An item to keep away from"),
];

#[derive(Clone, Copy)]
enum Kind {
    Words,
    File(Modality),
    Item,
}

const HEADING: &str = "What to look for";

impl Args for Parts {
    fn augment_args(command: Command) -> Command {
        let words = Arg::new("words")
            .value_name("WORDS")
            .num_args(0..)
            .help("Words to look for; several are one sentence")
            .help_heading(HEADING);
        let weight = Arg::new("weight")
            .long("weight")
            .value_name("W")
            .value_parser(value_parser!(f32))
            .action(ArgAction::Append)
            .help("How much the part before it counts, above 0 [default: 1]")
            .help_heading(HEADING);
        let options = OPTIONS.iter().map(|(name, value, kind, _, help)| {
            let arg =
                Arg::new(*name).long(*name).value_name(*value).action(ArgAction::Append).help(*help).help_heading(HEADING);
            match kind {
                Kind::Words => arg,
                Kind::File(_) => arg.value_parser(value_parser!(PathBuf)),
                Kind::Item => arg.value_parser(value_parser!(OsString)),
            }
        });
        command.arg(words).args(options).arg(weight)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Parts {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut parts: Vec<(usize, Part)> = Vec::new();
        for (name, _, kind, is_not, _) in OPTIONS {
            let given: Vec<What> = match kind {
                Kind::Words => values::<String>(matches, name).map(What::Words).collect(),
                Kind::File(modality) => values::<PathBuf>(matches, name).map(|path| What::File(*modality, path)).collect(),
                Kind::Item => values::<OsString>(matches, name).map(What::Item).collect(),
            };
            let places = places(matches, name);
            parts.extend(places.into_iter().zip(given).map(|(at, what)| (at, Part { what, weight: 1.0, is_not: *is_not })));
        }
        let words: Vec<String> = values::<String>(matches, "words").collect();
        if let Some(last) = places(matches, "words").last() {
            parts.push((*last, Part { what: What::Words(words.join(" ")), weight: 1.0, is_not: false }));
        }
        parts.sort_by_key(|(at, _)| *at);
        for (at, weight) in places(matches, "weight").into_iter().zip(values::<f32>(matches, "weight")) {
            let refuse =
                |why: &str| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("--weight {weight}: {why}\n"));
            if !(weight.is_finite() && weight > 0.0) {
                return Err(refuse("expected a number above 0; to keep away from something use `--not`"));
            }
            // The part before this weight, and no other weight in between (that one would have been overwritten silently).
            match parts.iter_mut().rev().find(|(place, _)| *place < at) {
                Some((_, part)) => part.weight = weight,
                None => return Err(refuse("it stands before every part; put it after the part that it weighs")),
            }
        }
        Ok(Parts(parts.into_iter().map(|(_, part)| part).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn values<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> impl Iterator<Item = T> {
    matches.get_many::<T>(name).unwrap_or_default().cloned().collect::<Vec<_>>().into_iter()
}

/// Where on the command line the values of an option stand.
fn places(matches: &ArgMatches, name: &str) -> Vec<usize> {
    match matches.value_source(name) {
        Some(ValueSource::CommandLine) => matches.indices_of(name).map(Iterator::collect).unwrap_or_default(),
        _ => Vec::new(),
    }
}

impl Parts {
    /// Reads the files and finds the items.
    pub(crate) fn resolve(&self, library: &Library) -> anyhow::Result<Query> {
        if self.0.is_empty() {
            return Err(usage(
                "nothing to look for: give words, or `--image FILE`, `--audio FILE`, `--series FILE`, `--video FILE`, `--text-file FILE`, `--like PATH`",
            ));
        }
        if self.0.iter().all(|part| part.is_not) {
            return Err(usage("only things to keep away from: give at least one thing to look for as well"));
        }
        let mut parts = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            let what = match &part.what {
                What::Words(words) if words.trim().is_empty() => {
                    return Err(usage("an empty text finds nothing: give some words"));
                }
                What::Words(words) => QueryMedia::Media(Media::Text(words.clone())),
                What::File(modality, path) => QueryMedia::Media(media(path, *modality)?),
                What::Item(name) => QueryMedia::Item(find_item(library, name)?.id),
            };
            parts.push(QueryPart { what, weight: if part.is_not { -part.weight } else { part.weight } });
        }
        Ok(Query { parts })
    }
}

/// The item that a path or a number names.
pub(crate) fn find_item(library: &Library, name: &OsStr) -> anyhow::Result<Item> {
    if let Some(name) = name.to_str() {
        return Ok(library.find_item(name)?);
    }
    // A path that is no Unicode: only the bytes themselves tell.
    let path = std::path::absolute(name)?;
    let found = library.items(None)?.into_iter().find(|item| item.paths.contains(&path));
    found.ok_or_else(|| EngineError::NoSuchItem(name.to_string_lossy().into_owned()).into())
}

/// A file that must hold one kind of media.
pub(crate) fn media(path: &Path, expected: Modality) -> anyhow::Result<Media> {
    let media = any_media(path)?;
    let got = media.modality();
    if got != expected {
        let option = if got == Modality::Text { "text-file" } else { got.as_str() };
        bail!("{} holds {}, expected {}: give it with `--{option}`", shown(path), noun(got), noun(expected));
    }
    Ok(media)
}

/// A file of any kind.
pub(crate) fn any_media(path: &Path) -> anyhow::Result<Media> {
    Ok(load_media(path, &Limits::default())?)
}

/// `a picture`, `a text`, ...
pub(crate) fn noun(modality: Modality) -> &'static str {
    match modality {
        Modality::Image => "a picture",
        Modality::Text => "a text",
        Modality::Audio => "a sound",
        Modality::Series => "a series",
        Modality::Video => "a video",
        Modality::Shape => "a shape",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Vec<Part>, clap::Error> {
        let matches = Parts::augment_args(Command::new("t").no_binary_name(true)).try_get_matches_from(line)?;
        Ok(Parts::from_arg_matches(&matches)?.0)
    }

    fn part(what: What, weight: f32, is_not: bool) -> Part {
        Part { what, weight, is_not }
    }

    #[test]
    fn weights_belong_to_the_part_before_them() {
        let parts =
            parse(&["--image", "x.jpg", "--weight", "0.7", "--text", "at night", "--not", "people", "--weight", "2"]).unwrap();
        let expected = [
            part(What::File(Modality::Image, "x.jpg".into()), 0.7, false),
            part(What::Words("at night".into()), 1.0, false),
            part(What::Words("people".into()), 2.0, true),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn bare_words_are_one_sentence() {
        let parts = parse(&["a", "dog", "runs", "--weight", "0.5", "--like", "7"]).unwrap();
        assert_eq!(parts, [part(What::Words("a dog runs".into()), 0.5, false), part(What::Item("7".into()), 1.0, false)]);
    }

    #[test]
    fn senseless_weights_are_refused() {
        for line in [&["--weight", "1", "a"][..], &["a", "--weight", "0"], &["a", "--weight", "NaN"], &["a", "--weight", "x"]] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
