//! The names of published models, as people write them.
//!
//! | written | means |
//! | --- | --- |
//! | `openai/clip-vit-base-patch32`, `google-bert/bert-base-uncased` | the model of that name |
//! | `hf-hub:org/name`, `hf://org/name`, `https://huggingface.co/org/name` | the same |
//! | `ViT-B-32/openai`, `all-MiniLM-L6-v2` | an alias of [`crate::published()`] |
//! | `org/name@revision` | that branch, tag or commit |
//!
//! A name becomes folders of a store, so it is taken apart and checked before anything else is done with it.

use std::fmt::{self, Display};
use std::path::PathBuf;

use crate::published::{self, Published};

/// Bytes of one part of a name at most.
const PART_LEN_MAX: usize = 96;
/// What is written in front of a name without changing it.
const PREFIXES: [&str; 4] = ["hf-hub:", "hf://", "https://huggingface.co/", "https://hf.co/"];

/// A name whose parts are plain: letters, digits, `-`, `_` and single dots, so that none leads out of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName {
    org: Option<String>,
    name: String,
    revision: Option<String>,
}

/// Why something is no name of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name of a model: {reason}; expected `org/name` or `name`, with `@revision` behind it if one is meant")]
pub struct NameError {
    /// What came.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ModelName {
    /// The revision that is meant when none is written.
    pub(crate) const MAIN: &'static str = "main";

    /// Takes a written name apart; an alias becomes the name that it stands for.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(written: &str) -> Result<Self, NameError> {
        let refuse = |reason: String| NameError { name: written.to_owned(), reason };
        let bare = PREFIXES.iter().find_map(|prefix| written.strip_prefix(prefix)).unwrap_or(written);
        let (whole, revision) = match bare.split_once('@') {
            Some((whole, revision)) => (whole, Some(revision)),
            None => (bare, None),
        };
        let parts: Vec<&str> = whole.split('/').collect();
        for part in parts.iter().copied().chain(revision) {
            check(part).map_err(|reason| refuse(format!("in the part `{part}`, {reason}")))?;
        }
        let revision = revision.filter(|r| *r != Self::MAIN).map(str::to_owned);
        let (org, name) = match (published::find(whole), parts.as_slice()) {
            // The spelling of the list, where a name was written in other capitals.
            (Some(known), _) => match known.name.split_once('/') {
                Some((org, name)) => (Some(org), name),
                None => (None, known.name),
            },
            (None, [name]) => (None, *name),
            (None, [org, name]) => (Some(*org), *name),
            (None, _) => return Err(refuse(format!("it has {} parts between slashes", parts.len()))),
        };
        Ok(Self { org: org.map(str::to_owned), name: name.to_owned(), revision })
    }

    /// A name as it is written on a folder of a store, where an alias means nothing.
    pub(crate) fn literal(written: &str) -> Option<Self> {
        let (whole, revision) = written.split_once('@').map_or((written, None), |(whole, revision)| (whole, Some(revision)));
        let (org, name) = whole.split_once('/').map_or((None, whole), |(org, name)| (Some(org), name));
        let plain = org.into_iter().chain([name]).chain(revision).all(|part| check(part).is_ok());
        let owned = |part: &str| part.to_owned();
        plain.then(|| Self { org: org.map(owned), name: owned(name), revision: revision.map(owned) })
    }

    /// What the list of published models says of it.
    pub fn published(&self) -> Option<&'static Published> {
        published::find(&self.repository())
    }

    /// `org/name`, without the revision.
    pub fn repository(&self) -> String {
        match &self.org {
            Some(org) => format!("{org}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The branch, tag or commit that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(Self::MAIN)
    }

    /// Where it stands below the root of a store: `org/name` or `org/name@revision`.
    pub(crate) fn folder(&self) -> PathBuf {
        let last = match &self.revision {
            Some(revision) => format!("{}@{revision}", self.name),
            None => self.name.clone(),
        };
        self.org.iter().cloned().chain([last]).collect()
    }

    /// The name in one piece, as one folder: `org--name@revision`. No part holds `--`, so no two names give the same.
    pub(crate) fn flat(&self) -> String {
        self.to_string().replace('/', "--")
    }

    /// The folder of a repository in the cache that Hugging Face's own tools share.
    pub(crate) fn in_hub_cache(&self) -> String {
        format!("models--{}", self.repository().replace('/', "--"))
    }
}

impl Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Refuses a part that is more than a plain name, on any system.
fn check(part: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if part.is_empty() {
        return Err("there is nothing".to_owned());
    }
    if part.len() > PART_LEN_MAX {
        return Err(format!("there are {} characters, at most {PART_LEN_MAX} may be", part.len()));
    }
    if let Some(c) = part.chars().find(|c| !plain(*c)) {
        return Err(format!("`{}` may not stand", c.escape_default()));
    }
    if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) || part.contains("..") || part.contains("--") {
        return Err("dots and dashes may stand only singly, between other characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_many_spellings() {
        let name = ModelName::parse("openai/clip-vit-base-patch32").unwrap();
        for written in [
            "ViT-B-32/openai",
            "vit-b-32/OpenAI",
            "hf-hub:openai/clip-vit-base-patch32",
            "hf://openai/clip-vit-base-patch32",
            "https://huggingface.co/openai/clip-vit-base-patch32",
            "OpenAI/CLIP-ViT-base-patch32@main",
        ] {
            assert_eq!(ModelName::parse(written).unwrap(), name, "{written}");
        }
        assert_eq!(name.to_string(), "openai/clip-vit-base-patch32");
        assert_eq!(name.published().unwrap().name, "openai/clip-vit-base-patch32");
        let pinned = ModelName::parse("ViT-B-32/openai@3d74acf").unwrap();
        assert_eq!((pinned.revision(), pinned.repository().as_str()), ("3d74acf", "openai/clip-vit-base-patch32"));
        assert_eq!(pinned.folder(), PathBuf::from("openai/clip-vit-base-patch32@3d74acf"));
        assert_eq!(ModelName::parse("mine").unwrap().folder(), PathBuf::from("mine"));
        assert_eq!(ModelName::parse("a/b_c.d").unwrap().in_hub_cache(), "models--a--b_c.d");
    }

    #[test]
    fn no_name_leads_anywhere() {
        let long = "a".repeat(97);
        for written in [
            "",
            "/",
            "a/",
            "/a",
            "/etc/passwd",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            "a/b/c",
            ".hidden",
            "a\\b",
            "C:\\a",
            "c:a",
            "a b",
            "a\0b",
            "a\nb",
            "a/b@",
            "a/b@../c",
            "a/b@x/y",
            "a@b@c",
            "a..b",
            "a--b/c",
            "-a",
            "a-",
            "a.",
            "模型",
            &long,
            "hf-hub:",
            "hf-hub:../a",
            "https://example.org/a/b",
            "~/a",
            "a/b?c",
            "a/b#c",
            "a%2fb",
        ] {
            let error = ModelName::parse(written).unwrap_err();
            assert!(error.to_string().contains("expected `org/name`"), "{written}: {error}");
        }
    }
}
