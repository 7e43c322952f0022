//! chiasm: find anything with anything.
//!
//! A thin front: each command is a file that turns arguments into calls of `chiasm-engine` and `chiasm-eval`, and what they
//! give back into text for people or JSON for programs.

#![forbid(unsafe_code)]

mod bench;
mod bench_serve;
mod classify;
mod contact_sheet;
mod demo;
mod draft;
mod eval;
mod features;
mod import;
mod index;
mod info;
mod locate;
mod model;
mod model_store;
mod query;
mod rm;
mod search;
mod second_look;
mod serve;
mod space;
mod tag;
mod thumbs;
mod train;
mod ui;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use chiasm_encode::ModelDirs;
use clap::{Args, Parser, Subcommand};

use crate::ui::{ProgressMode, Ui};

const AFTER_HELP: &str = "\
Data goes to stdout, progress and errors to stderr.
Exit status: 0 all done; 1 error; 2 usage; 3 done, but some files were refused; 130 stopped by Ctrl-C.
The library is `--library PATH`, else $CHIASM_LIBRARY, else the nearest `.chiasm` folder here or above.";

/// Find anything with anything: pictures, texts, sounds, videos and sensor series in one library.
#[derive(Parser)]
#[command(name = "chiasm", version, about, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    /// Answer with one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    /// No progress and no remarks on stderr; errors and refused files only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// How progress is told on stderr: auto, json (a line a step), never
    #[arg(long, global = true, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    progress: ProgressMode,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a small world, learn it, and look for things in every direction: needs no weights and no files
    Demo(demo::DemoArgs),
    /// Learn a space in which several kinds of media meet, or look at one
    #[command(subcommand)]
    Space(space::SpaceCommand),
    /// Train towers of one's own from raw files, by a description: towers that meet in one space
    Train(train::TrainArgs),
    /// Take folders into a library; a second run takes in what changed
    Index(index::IndexArgs),
    /// Find by words, picture, sound, series, or any mixture of them
    Search(search::SearchArgs),
    /// Find what is like an indexed file
    Similar(search::SimilarArgs),
    /// Choose among labels for files, without training on them
    Classify(classify::ClassifyArgs),
    /// What a library holds
    Info(info::InfoArgs),
    /// A library in the browser and over HTTP
    Serve(serve::ServeArgs),
    /// Who may ask a served library
    #[command(subcommand)]
    Token(serve::TokenCommand),
    /// Take files out of a library; the files themselves stay
    Rm(rm::RmArgs),
    /// Words that people put on files, and words that are suggested for others
    #[command(subcommand)]
    Tag(tag::TagCommand),
    /// Check that a library is whole
    Verify(verify::VerifyArgs),
    /// Make a library of embeddings that were made elsewhere
    Import(import::ImportArgs),
    /// How well a space, a library or a run finds what belongs together
    Eval(Box<eval::EvalArgs>),
    /// Compare bridges on real sets under one protocol
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Models that turn files into vectors: which there are, what is here, and how they come here
    #[command(subcommand)]
    Model(model::ModelCommand),
}

/// Where models are looked for.
#[derive(Args)]
pub(crate) struct ModelsArg {
    /// Folder that holds models [else: $CHIASM_MODELS (a list), ./models, the user's data folder, Hugging Face's cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
}

impl ModelsArg {
    pub(crate) fn dirs(&self) -> ModelDirs {
        ModelDirs::from_env(self.models.as_deref())
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(cli.json, cli.quiet, cli.progress);
    ui.listen_for_ctrl_c();
    let outcome = match &cli.command {
        Command::Demo(args) => demo::run(args, &ui),
        Command::Space(command) => space::run(command, &ui),
        Command::Train(args) => train::run(args, &ui),
        Command::Index(args) => index::run(args, &ui),
        Command::Search(args) => search::search(args, &ui),
        Command::Similar(args) => search::similar(args, &ui),
        Command::Classify(args) => classify::run(args, &ui),
        Command::Info(args) => info::run(args, &ui),
        Command::Serve(args) => serve::run(args, &ui),
        Command::Token(command) => serve::token(command, &ui),
        Command::Rm(args) => rm::run(args, &ui),
        Command::Tag(command) => tag::run(command, &ui),
        Command::Verify(args) => verify::run(args, &ui),
        Command::Import(args) => import::run(args, &ui),
        Command::Eval(args) => eval::run(args, &ui),
        Command::Bench(command) => bench::run(command, &ui),
        Command::Model(command) => model::run(command, &ui),
    };
    outcome.unwrap_or_else(|error| ui.fail(&error))
}
