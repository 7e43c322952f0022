//! `chiasm search` and `chiasm similar`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chiasm_core::{Modality, Span};
use chiasm_engine::{Filter, Library, ModelDirs, Query, QueryMedia, Rerank, SearchReply, SearchRequest, Strength};
use clap::{ArgAction, Args, value_parser};

use crate::locate::LibraryArg;
use crate::query::{self, Parts};
use crate::thumbs::{Protocol, Thumbs, thumbnail};
use crate::ui::{Paint, Ui, escape, path_bytes, shown};

/// Arguments of `chiasm search`.
#[derive(Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    parts: Parts,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    rerank: RerankArgs,
    #[command(flatten)]
    library: LibraryArg,
}

/// Arguments of `chiasm similar`.
#[derive(Args)]
pub(crate) struct SimilarArgs {
    /// An indexed file or an item's number; a file that is not indexed is encoded
    #[arg(value_name = "PATH_OR_ID")]
    item: OsString,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    rerank: RerankArgs,
    #[command(flatten)]
    library: LibraryArg,
}

/// Who looks at the first hits again.
#[derive(Args)]
pub(crate) struct RerankArgs {
    /// A cross-encoder, by name or folder (BLIP for pictures, X-CLIP for videos, one of `chiasm train`), or a file of `chiasm space rerank`: it looks at the query and each of the
    /// first hits together and puts those in order
    #[arg(long, value_name = "MODEL")]
    rerank: Option<String>,
    /// How many hits it looks at
    #[arg(long, value_name = "N", default_value_t = 20, requires = "rerank", value_parser = value_parser!(u32).range(1..))]
    rerank_top: u32,
}

impl RerankArgs {
    /// Whether anyone looks.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.rerank.is_some()
    }

    /// Who looks.
    pub(crate) fn open(&self, models: &ModelDirs) -> anyhow::Result<Option<Rerank>> {
        let open = |name: &String| Rerank::open(name, models, self.rerank_top as usize);
        Ok(self.rerank.as_ref().map(open).transpose()?)
    }
}

/// Which hits, and how they are shown.
#[derive(Args)]
struct AnswerArgs {
    /// How many hits
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    k: u32,
    /// Only these kinds of media: image, text, audio, series, video
    #[arg(long = "kind", value_name = "KIND,...", value_delimiter = ',')]
    kinds: Vec<Modality>,
    /// Only items for which this holds, e.g. "taken > 2020-01-01 AND folder = 'trips/*' AND size < 2MB"
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<Filter>,
    /// Only these rankings: models by the names that `chiasm info` prints, `meaning` (all models), `words` (words in texts and captions), `names`
    /// (words in the names of files). Else all models are asked; rankings are joined
    #[arg(long = "lane", value_name = "NAME,...", value_delimiter = ',')]
    lanes: Vec<String>,
    /// Paths only, one a line (a path that holds a line feed needs -0)
    #[arg(long, conflicts_with_all = ["json", "nul"])]
    paths: bool,
    /// Paths only, each ended by a NUL byte, for `xargs -0`
    #[arg(short = '0', long = "null", id = "nul", action = ArgAction::SetTrue, conflicts_with = "json")]
    nul: bool,
    /// Pictures beside the hits, in terminals that speak kitty's or iTerm2's protocol
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    thumbs: Thumbs,
}

/// `chiasm search`
pub(crate) fn search(args: &SearchArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let library = args.library.open()?;
    let query = args.parts.resolve(&library)?;
    answer(&library, query, &args.answer, args.rerank.open(&args.library.dirs())?, ui)
}

/// `chiasm similar`
pub(crate) fn similar(args: &SimilarArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let library = args.library.open()?;
    let what = match query::find_item(&library, &args.item) {
        Ok(item) => QueryMedia::Item(item.id),
        // Not in the library, but there: its content is as good a question.
        Err(_) if Path::new(&args.item).is_file() => QueryMedia::Media(query::any_media(Path::new(&args.item))?),
        Err(error) => return Err(error),
    };
    answer(&library, Query::of(what), &args.answer, args.rerank.open(&args.library.dirs())?, ui)
}

fn answer(library: &Library, query: Query, args: &AnswerArgs, rerank: Option<Rerank>, ui: &Ui) -> anyhow::Result<ExitCode> {
    let request = SearchRequest {
        query,
        k: args.k as usize,
        kinds: args.kinds.clone(),
        filter: args.filter.clone(),
        lanes: args.lanes.clone(),
        rerank,
        ..SearchRequest::default()
    };
    let reply = library.search(&request)?;
    reply.remarks.iter().for_each(|remark| ui.remark(remark));
    if ui.json {
        ui.print_json(&document(&reply))?;
    } else if args.paths || args.nul {
        let end = if args.nul { b'\0' } else { b'\n' };
        let mut out = Vec::new();
        for hit in &reply.hits {
            out.extend(path_bytes(&hit.path));
            out.push(end);
        }
        ui.print_bytes(&out)?;
    } else {
        show(&reply, args.thumbs.protocol(), ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How a strength is told apart in a terminal.
fn paint(strength: Strength) -> Paint {
    match strength {
        Strength::Strong => Paint::Good,
        Strength::Fair => Paint::Bold,
        Strength::Weak | Strength::Unknown => Paint::Dim,
    }
}

fn document(reply: &SearchReply) -> serde_json::Value {
    let hits: Vec<serde_json::Value> = reply
        .hits
        .iter()
        .enumerate()
        .map(|(i, hit)| {
            let mut value = serde_json::to_value(hit).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("rank".to_owned(), (i + 1).into());
                object.insert("strength".to_owned(), hit.strength().as_str().into());
            }
            value
        })
        .collect();
    let mut document = serde_json::json!({
        "hits": hits,
        "stands_out": reply.stands_out(),
        "remarks": reply.remarks,
        "n_candidates": reply.n_candidates,
        "cut": reply.cut,
        "elapsed_ms": reply.elapsed_ms,
    });
    if let Some(object) = document.as_object_mut().filter(|_| !reply.lanes.is_empty()) {
        object.insert("lanes".to_owned(), serde_json::to_value(&reply.lanes).unwrap_or_default());
    }
    document
}

fn show(reply: &SearchReply, pictures: Option<Protocol>, ui: &Ui) -> anyhow::Result<()> {
    let here = std::env::current_dir().unwrap_or_default();
    let rank_width = reply.hits.len().to_string().len();
    let reranked = reply.hits.iter().any(|hit| hit.rerank_score.is_some());
    for (i, hit) in reply.hits.iter().enumerate() {
        let strength = hit.strength();
        // Beside the closeness, where any hit was looked at again, what came of that.
        let rerank_score = match hit.rerank_score {
            Some(score) => format!("  {score:>6.3}"),
            None if reranked => format!("  {:>6}", "-"),
            None => String::new(),
        };
        let mut line = format!(
            "{:>rank_width$}{rerank_score}  {:>6.3}  {}  {:<6}  {}",
            i + 1,
            hit.score,
            ui.paint(paint(strength), &format!("{:<6}", strength.as_str())),
            hit.kind.as_str(),
            ui.paint(Paint::Bold, &shown(&nearer(&hit.path, &here))),
        );
        if let Some(span) = span(&hit.span) {
            line.push_str(&format!("  {span}"));
        }
        let ranks: Vec<String> = hit.lanes.iter().map(|lane| format!("{} {}", escape(&lane.lane), lane.rank)).collect();
        if !ranks.is_empty() {
            line.push_str(&format!("  {}", ui.paint(Paint::Dim, &format!("({})", ranks.join(", ")))));
        }
        line.push('\n');
        if let Some(snippet) = hit.snippet.as_deref().filter(|s| !s.trim().is_empty()) {
            let indent = " ".repeat(rank_width + rerank_score.len() + 2 + 6 + 2 + 6 + 2 + 6 + 2);
            line.push_str(&format!("{indent}{}\n", ui.paint(Paint::Dim, &one_line(snippet, 100))));
        }
        if let (Some(protocol), Modality::Image | Modality::Video | Modality::Shape) = (pictures, hit.kind) {
            line.push_str(&thumbnail(&hit.path, protocol).unwrap_or_default());
        }
        ui.print(line)?;
    }
    for lane in &reply.lanes {
        if let Some(reason) = &lane.left_out {
            ui.remark(format!("lane {} was not asked: {reason}", escape(&lane.lane)));
        }
    }
    if reply.hits.is_empty() {
        ui.remark(format!("nothing found among {} candidates", reply.n_candidates));
    } else if reply.stands_out() == Some(false) {
        ui.remark("nothing here stands out: by chance alone some items of this library come as close as the first of these");
    }
    ui.remark(format!("{} candidates, {:.1} ms", reply.n_candidates, reply.elapsed_ms));
    Ok(())
}

/// The path from here, where it lies below; as it stands otherwise.
pub(crate) fn nearer(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

/// `0:03-0:08` for a stretch of a sound or video, `bytes 100-420` for one of a text.
fn span(span: &Span) -> Option<String> {
    match *span {
        Span::Whole => None,
        Span::Time { start_s, end_s } => Some(format!("{}-{}", clock(start_s), clock(end_s))),
        Span::Bytes { start, end } => Some(format!("bytes {start}-{end}")),
    }
}

fn clock(seconds: f64) -> String {
    let tenths = (seconds * 10.0).round() as u64;
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let point = if tenth == 0 { String::new() } else { format!(".{tenth}") };
    match whole {
        0..3600 => format!("{}:{:02}{point}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}{point}", whole / 3600, whole % 3600 / 60, whole % 60),
    }
}

/// A text's beginning on one line of at most `n_chars`.
pub(crate) fn one_line(text: &str, n_chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = words.chars().take(n_chars).collect();
    if short.len() < words.len() {
        short.push('…');
    }
    escape(&short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_for_people() {
        assert_eq!(span(&Span::Time { start_s: 3.0, end_s: 3725.46 }), Some("0:03-1:02:05.5".to_owned()));
        assert_eq!(span(&Span::Bytes { start: 5, end: 9 }), Some("bytes 5-9".to_owned()));
        assert_eq!(span(&Span::Whole), None);
    }

    #[test]
    fn snippets_are_one_clean_line() {
        assert_eq!(one_line("a\n  b\u{1b}[2J c", 4), "a b\\u{1b}…");
        assert_eq!(one_line("短い文", 10), "短い文");
    }
}
