//! `chiasm serve` and `chiasm token`: a library over HTTP, and who may ask it there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use chiasm_server::{Config, LogTo, Scope, Tokens};
use clap::{Args, Subcommand, ValueEnum, value_parser};

use crate::locate::{FOLDER, LibraryArg};
use crate::search::RerankArgs;
use crate::ui::{STOPPED, Ui, escape, shown, usage};

/// Arguments of `chiasm serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; other machines can reach it only at an address of this machine's network, which needs --token or --insecure
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The port; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 7700)]
    port: u16,
    /// Callers need a token (`chiasm token add`); the first one is made and shown when there is none
    #[arg(long)]
    token: bool,
    /// Listen without tokens even where others can reach it: whoever does may do everything
    #[arg(long, conflicts_with = "token")]
    insecure: bool,
    /// Largest file that may be sent, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = value_parser!(u64).range(1..=1 << 32))]
    max_upload: u64,
    /// Requests that may wait; more are told to come back
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..))]
    max_waiting: u32,
    /// What is logged on stderr: problems, requests (a line each), json (the same for programs)
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    log: Log,
    #[command(flatten)]
    rerank: RerankArgs,
    #[command(flatten)]
    library: LibraryArg,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Log {
    #[default]
    Problems,
    Requests,
    Json,
}

/// `chiasm serve`
pub(crate) fn run(args: &ServeArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    // The page can make a library, so there need be none yet.
    let library = match args.library.path() {
        Ok(path) => path,
        Err(_) => std::env::current_dir()?.join(FOLDER),
    };
    let config = Config {
        address: SocketAddr::new(args.address, args.port),
        tokens: args.token,
        insecure: args.insecure,
        max_upload_bytes: usize::try_from(args.max_upload).unwrap_or(usize::MAX),
        max_waiting: args.max_waiting as usize,
        rerank: args.rerank.open(&args.library.dirs())?,
        ..Config::new(library.clone(), args.library.dirs())
    };
    chiasm_server::log(match args.log {
        Log::Problems => LogTo::Problems,
        Log::Requests => LogTo::Requests,
        Log::Json => LogTo::Json,
    });
    if args.token && Tokens::of(&library).list()?.is_empty() {
        std::fs::create_dir_all(&library)?;
        let token = Tokens::of(&library).add("first", Scope::Admin)?;
        ui.complaint(format!("a token was made, and is shown this once: {token}"));
    }
    let listening = |address: SocketAddr| {
        let url = format!("http://{address}");
        let told = if ui.json {
            ui.print_json(&serde_json::json!({ "url": url, "library": library.to_string_lossy() }))
        } else {
            ui.print(format!("{url}\n")).map_err(anyhow::Error::from)
        };
        // Whoever started it may not read what it says.
        let _ = told;
        ui.hint(format!("open {url} in a browser; Ctrl-C ends the server"));
    };
    chiasm_server::serve(config, &ui.cancel, listening)?;
    Ok(if ui.cancel.is_cancelled() { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
}

/// `chiasm token ...`
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and show it, this once
    Add(AddArgs),
    /// Names and scopes of the tokens
    List(ListArgs),
    /// Take a token away: whoever has it is refused from now on
    Rm(RmArgs),
}

/// Arguments of `chiasm token add`.
#[derive(Args)]
pub(crate) struct AddArgs {
    /// What to call it, such as the machine or the program that is to have it
    name: String,
    /// What it is good for: read (search and look), write (add, remove, tag), admin (index folders of this machine); each includes those before it
    #[arg(long, value_enum, default_value_t)]
    scope: ScopeArg,
    #[command(flatten)]
    library: LibraryArg,
}

/// Arguments of `chiasm token list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    library: LibraryArg,
}

/// Arguments of `chiasm token rm`.
#[derive(Args)]
pub(crate) struct RmArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    library: LibraryArg,
}

/// A scope by its word.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ScopeArg {
    #[default]
    Read,
    Write,
    Admin,
}

/// `chiasm token ...`
pub(crate) fn token(command: &TokenCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Add(args) => {
            let name = args.name.trim();
            if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
                return Err(usage("the name of a token is 1 to 100 characters on one line"));
            }
            let scope = match args.scope {
                ScopeArg::Read => Scope::Read,
                ScopeArg::Write => Scope::Write,
                ScopeArg::Admin => Scope::Admin,
            };
            let library = args.library.path()?;
            let token = Tokens::of(&library).add(name, scope)?;
            if ui.json {
                ui.print_json(&serde_json::json!({ "name": name, "scope": scope, "token": token }))?;
            } else {
                ui.print(format!("{token}\n"))?;
                ui.hint("keep it: only its digest is stored, so it cannot be shown again");
            }
        }
        TokenCommand::List(args) => {
            let library = args.library.path()?;
            let tokens = Tokens::of(&library).list()?;
            let rows: Vec<_> = tokens.iter().map(|t| serde_json::json!({ "name": t.name, "scope": t.scope })).collect();
            if ui.json {
                ui.print_json(&rows)?;
            } else {
                for token in &tokens {
                    ui.print(format!("{:<6} {}\n", token.scope.as_str(), escape(&token.name)))?;
                }
                if tokens.is_empty() {
                    ui.remark(format!("no token for {}: `chiasm token add NAME` makes one", shown(&library)));
                }
            }
        }
        TokenCommand::Rm(args) => {
            Tokens::of(&args.library.path()?).remove(&args.name)?;
            if ui.json {
                ui.print_json(&serde_json::json!({ "removed": args.name }))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
