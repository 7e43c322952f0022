//! `chiasm tag`: words that people put on files, and words that files like them have.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chiasm_engine::{EngineError, Item, Library, Limits, SuggestRequest, SuggestedTags, TagSuggestions, TagWay};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;

use crate::locate::LibraryArg;
use crate::ui::{SOME_REFUSED, Ui, count, escape, shown, usage};

/// `chiasm tag ...`
#[derive(Subcommand)]
pub(crate) enum TagCommand {
    /// Put a tag on files, beside those they have
    Add(Change),
    /// Take a tag off files
    Rm(Change),
    /// The tags of files, or all tags and how many files have them
    List {
        /// Indexed files, or numbers of items [default: all tags]
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        #[command(flatten)]
        library: LibraryArg,
    },
    /// Put the tags of a table on files, beside those they have
    Import {
        /// CSV with a header and two columns: file and tags, several separated by `|`
        #[arg(value_name = "FILE")]
        table: PathBuf,
        /// Folder in which the table's files lie [default: the table's own]
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        #[command(flatten)]
        library: LibraryArg,
    },
    /// Tags that files may be given, learned from those that others have
    Suggest(Suggest),
}

/// Arguments of `chiasm tag add` and `chiasm tag rm`.
#[derive(Args)]
pub(crate) struct Change {
    /// The tag, of up to 64 characters
    tag: String,
    /// Indexed files, or numbers of items
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    library: LibraryArg,
}

/// Arguments of `chiasm tag suggest`.
#[derive(Args)]
pub(crate) struct Suggest {
    /// Indexed files, or numbers of items [default: all that have no tag]
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// How many tags for each
    #[arg(short, value_name = "N", default_value_t = 3)]
    k: usize,
    /// How tags are learned [default: the way that finds more of the tags that are known]
    #[arg(long, value_enum, value_name = "WAY")]
    by: Option<WayArg>,
    /// Decides every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    library: LibraryArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum WayArg {
    /// From the ten nearest tagged files
    Neighbours,
    /// By a graph network along the edges between files and tags
    Graphsage,
}

/// `chiasm tag ...`
pub(crate) fn run(command: &TagCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        TagCommand::Add(change) => with_change(change, ui, |tags, tag| tags.push(tag.to_owned())),
        TagCommand::Rm(change) => with_change(change, ui, |tags, tag| tags.retain(|has| !has.eq_ignore_ascii_case(tag))),
        TagCommand::List { files, library } => list(files, &library.open()?, ui),
        TagCommand::Import { table, root, library } => import(table, root.as_deref(), &library.open()?, ui),
        TagCommand::Suggest(args) => suggest(args, ui),
    }
}

fn name(item: &Item) -> String {
    item.paths.first().map_or_else(|| item.id.to_string(), |path| shown(path))
}

/// Changes the tags of each file and prints what it has then.
fn with_change(args: &Change, ui: &Ui, change: impl Fn(&mut Vec<String>, &str)) -> anyhow::Result<ExitCode> {
    let library = args.library.open()?;
    // All are looked up first, so that a mistyped name leaves everything as it was.
    let items: Vec<Item> = args.files.iter().map(|file| library.find_item(file)).collect::<Result<_, _>>()?;
    let mut told = Vec::new();
    for item in items {
        let mut tags = library.tags_of(item.id)?;
        change(&mut tags, args.tag.trim());
        told.push(Tagged { tags: library.set_tags(item.id, &tags)?, item });
    }
    tell(&told, ui)
}

/// A file and the tags that it has.
#[derive(Serialize)]
struct Tagged {
    item: Item,
    tags: Vec<String>,
}

/// Prints items with their tags.
fn tell(told: &[Tagged], ui: &Ui) -> anyhow::Result<ExitCode> {
    if ui.json {
        ui.print_json(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    for Tagged { item, tags } in told {
        let tags = if tags.is_empty() { "no tag".to_owned() } else { escape(&tags.join(", ")) };
        ui.print(format!("{}: {tags}\n", name(item)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(files: &[String], library: &Library, ui: &Ui) -> anyhow::Result<ExitCode> {
    if !files.is_empty() {
        let told = files.iter().map(|file| {
            let item = library.find_item(file)?;
            anyhow::Ok(Tagged { tags: library.tags_of(item.id)?, item })
        });
        return tell(&told.collect::<Result<Vec<_>, _>>()?, ui);
    }
    let tags = library.all_tags()?;
    if ui.json {
        let all: Vec<_> = tags.iter().map(|(tag, n)| json!({ "tag": tag, "items": n })).collect();
        ui.print_json(&all)?;
    } else if tags.is_empty() {
        ui.hint("nothing is tagged: `chiasm tag add TAG FILE...`");
    } else {
        tags.iter().try_for_each(|(tag, n)| ui.print(format!("{n:>7}  {}\n", escape(tag))))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn import(table: &std::path::Path, root: Option<&std::path::Path>, library: &Library, ui: &Ui) -> anyhow::Result<ExitCode> {
    let bytes = chiasm_media::read(table, &Limits::default()).with_context(|| shown(table))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes.as_slice());
    let width = reader.headers().with_context(|| shown(table))?.len();
    if width != 2 {
        bail!("{} has {width} columns, expected two: file and tags", shown(table));
    }
    let root = root.or_else(|| table.parent()).unwrap_or(std::path::Path::new("."));
    // Several lines of one file add up.
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (line, record) in (2..).zip(reader.records()) {
        let record = record.with_context(|| shown(table))?;
        let (Some(file), Some(tags), 2) = (record.get(0), record.get(1), record.len()) else {
            bail!("{}, line {line}: {} cells, expected two: file and tags", shown(table), record.len());
        };
        let tags = tags.split('|').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned);
        wanted.entry(file.to_owned()).or_default().extend(tags);
    }
    let (mut n_tagged, mut missing) = (0, Vec::new());
    for (file, more) in wanted {
        ui.cancel.check()?;
        // A name of digits is no number of an item here: tables name files.
        let of_number = |item: &Item| file.parse::<i64>().is_ok() && !item.paths.iter().any(|path| path.ends_with(&file));
        let found = library.find_item(&root.join(&file).to_string_lossy()).or_else(|_| library.find_item(&file));
        match found.and_then(|item| if of_number(&item) { Err(EngineError::NoSuchItem(file.clone())) } else { Ok(item) }) {
            Ok(item) => {
                let mut tags = library.tags_of(item.id)?;
                tags.extend(more);
                library.set_tags(item.id, &tags).with_context(|| format!("{}, {}", shown(table), escape(&file)))?;
                n_tagged += 1;
            }
            Err(e) => {
                ui.complaint(format!("{}: {e}", shown(table)));
                missing.push(file);
            }
        }
    }
    if ui.json {
        ui.print_json(&json!({ "n_tagged": n_tagged, "missing": missing }))?;
    } else {
        ui.print(format!("{} tagged\n", count(n_tagged, "file")))?;
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME_REFUSED) })
}

fn suggest(args: &Suggest, ui: &Ui) -> anyhow::Result<ExitCode> {
    if args.k == 0 {
        return Err(usage("-k 0: expected at least 1"));
    }
    let library = args.library.open()?;
    let items = args.files.iter().map(|file| Ok(library.find_item(file)?.id)).collect::<anyhow::Result<_>>()?;
    let way = args.by.map(|way| match way {
        WayArg::Neighbours => TagWay::Neighbours,
        WayArg::Graphsage => TagWay::GraphSage,
    });
    let request = SuggestRequest { items, k: args.k, way, seed: args.seed };
    let suggestions = library.suggest_tags(&request, ui, &ui.cancel)?;
    if ui.json {
        ui.print_json(&suggestions)?;
        return Ok(ExitCode::SUCCESS);
    }
    for SuggestedTags { item, suggested, .. } in &suggestions.items {
        let tags: Vec<String> = suggested.iter().map(|s| format!("{} {:.2}", escape(&s.tag), s.score)).collect();
        ui.print(format!("{}: {}\n", name(item), if tags.is_empty() { "nothing".to_owned() } else { tags.join(", ") }))?;
    }
    ui.hint(trust(&suggestions));
    Ok(ExitCode::SUCCESS)
}

/// How far suggestions may be trusted, in a sentence.
fn trust(suggestions: &TagSuggestions) -> String {
    let way = match suggestions.way {
        TagWay::Neighbours => "the nearest tagged files",
        TagWay::GraphSage => "a graph network",
    };
    let from = format!("by {way}, from {} with {}", count(suggestions.n_tagged, "file"), count(suggestions.n_tags, "tag"));
    match &suggestions.figures {
        None => format!("{from}: too few to measure how well tags are found"),
        Some(figures) => format!(
            "{from}; of files that were set aside, {:.0} % of the tags are among {} suggested ({:.0} % among the most frequent; {})",
            100.0 * figures.recall,
            figures.k,
            100.0 * figures.most_frequent,
            count(figures.measured_on, "file"),
        ),
    }
}
