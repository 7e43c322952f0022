//! `chiasm bench serve`: what a served library costs above the search itself, what a crowd does to it, and what becomes of it when things go wrong.
//!
//! The server is a process of its own, on a free port of this machine; it is asked by threads of this one. What a search costs without a
//! server is measured in this process on the same library, in turns with the server: A B A B. Every question is asked once, so that no
//! answer comes from what was kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chiasm_bench::measure::processor;
use chiasm_core::Progress as _;
use chiasm_engine::{IndexOptions, Library, ModelDirs, Query, SearchRequest, Space};
use clap::Args;
use serde::Serialize;

use crate::ModelsArg;
use crate::ui::Ui;

/// Arguments of `chiasm bench serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Texts in the library that is made
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    items: usize,
    /// A library that is there, in place of one that is made; files are added to it
    #[arg(long, value_name = "DIR", conflicts_with = "items")]
    library: Option<PathBuf>,
    /// The encoder of texts: any of `chiasm model list` that knows texts; `char-ngrams` needs no weights, but makes long vectors
    #[arg(long, value_name = "NAME", default_value = "all-MiniLM-L6-v2")]
    model: String,
    /// Requests of each measurement
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    requests: usize,
    /// Clients at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8,64")]
    clients: Vec<usize>,
    /// Answers to each question
    #[arg(short, value_name = "N", default_value_t = 20)]
    k: usize,
    /// Malformed requests
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    malformed: usize,
    /// Folder for texts and library while they are needed [default: the system's]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// File for the document [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    models: ModelsArg,
}

/// Latencies of one measurement.
#[derive(Clone, Debug, Serialize)]
struct Row {
    what: String,
    clients: usize,
    n: usize,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    per_s: f64,
    /// CPU time of the server (of this process for the bare search) for each request.
    cpu_ms: Option<f64>,
    /// Requests that were told to come back.
    n_busy: usize,
}

#[derive(Debug, Serialize)]
struct Outcome {
    processor: String,
    cores: usize,
    model: String,
    n_items: usize,
    rows: Vec<Row>,
    /// p50 with the server less p50 without.
    overhead_ms: f64,
    /// Resident memory of the server before and after the measurement with the fewest clients.
    rss_mib: (f64, f64),
    /// p95 while files are taken in over p95 without.
    indexing_slows: f64,
    n_indexed_meanwhile: u64,
    n_acknowledged: usize,
    n_lost: usize,
    n_malformed: usize,
    malformed_statuses: BTreeMap<u16, usize>,
    survived: bool,
}

const WORDS: [&[&str]; 6] = [
    &["small", "large", "old", "new", "broken", "shiny", "wooden", "heavy", "soft", "cold"],
    &["red", "green", "blue", "yellow", "white", "black", "grey", "brown", "pink", "golden"],
    &[
        "dog", "house", "boat", "tree", "car", "bridge", "guitar", "lamp", "horse", "mountain", "letter", "clock", "river",
        "garden",
    ],
    &["stands", "lies", "waits", "shines", "moves", "sleeps", "burns", "sings", "floats", "falls"],
    &["near", "behind", "under", "above", "beside", "before"],
    &[
        "the harbour",
        "a school",
        "the old market",
        "my kitchen",
        "the station",
        "an empty field",
        "the library",
        "a quiet lake",
    ],
];

const SYLLABLES: [&str; 32] = [
    "ba", "den", "ka", "lo", "mi", "ran", "su", "tor", "ve", "zan", "fer", "go", "hal", "jo", "kel", "lin", "mar", "ne", "pol",
    "qui", "ris", "sen", "ta", "ul", "vin", "wes", "yo", "bri", "cla", "dro", "gu", "ster",
];

/// A sentence by a number: the same for the same number, others for others. Most of its words are in thousands of sentences, the name at its
/// end, one of 32,768, in few, as words are in what people write.
fn sentence(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D;
    let mut pick = |words: &[&'static str]| {
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        words[(state >> 33) as usize % words.len()]
    };
    let [size, colour, thing, does, side, place] = WORDS.map(&mut pick);
    let name: String = (0..3).map(|_| pick(&SYLLABLES)).collect();
    format!("a {size} {colour} {thing} {does} {side} {place} of {name}")
}

fn write_texts(folder: &Path, range: std::ops::Range<usize>) -> std::io::Result<()> {
    for i in range {
        let folder = folder.join(format!("{:03}", i / 1_000));
        if i.is_multiple_of(1_000) || !folder.exists() {
            fs::create_dir_all(&folder)?;
        }
        fs::write(folder.join(format!("text-{i:06}.txt")), sentence(i as u64))?;
    }
    Ok(())
}

/// A server of its own, ended when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(library: &Path, models: &ModelDirs) -> anyhow::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--port", "0", "--json", "--quiet", "--library"]).arg(library);
        let dirs = std::env::join_paths(models.dirs()).context("a folder of models has a colon in its name")?;
        command.env("CHIASM_MODELS", dirs).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut said = String::new();
        let mut lines = BufReader::new(stdout);
        while !said.contains('}') && lines.read_line(&mut said)? > 0 {}
        let url = serde_json::from_str::<serde_json::Value>(&said).ok().and_then(|v| v["url"].as_str().map(str::to_owned));
        let address = url.as_deref().and_then(|url| url.strip_prefix("http://")).and_then(|a| a.parse().ok());
        match address {
            Some(address) => Ok(Server { child, address }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the server did not say where it listens")
            }
        }
    }

    fn rss_mib(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    }

    fn cpu_s(&self) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
    }

    /// Ends it as nothing should be ended.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection that is kept, as a program's would be.
struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Client {
    fn connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream: BufReader::new(stream), address })
    }

    /// Sends a request and reads its answer: the status and the body.
    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nX-Filename: note.txt\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message)?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<(u16, Vec<u8>)> {
        let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        let (mut status, mut length) = (0, None);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(bad("the server hung up"));
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no status"))?;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let mut body = vec![0; length.ok_or_else(|| bad("no length"))?];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    fn search(&mut self, words: &str, k: usize) -> std::io::Result<u16> {
        let body = serde_json::json!({ "query": [{ "text": words }], "k": k }).to_string();
        Ok(self.ask("POST", "/api/v1/search", "application/json", body.as_bytes())?.0)
    }
}

fn row(what: &str, clients: usize, mut ms: Vec<f64>, wall_s: f64, cpu_s: Option<f64>, n_busy: usize) -> Row {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms.get(((ms.len() as f64 * share) as usize).min(ms.len().saturating_sub(1))).copied().unwrap_or(0.0);
    let n = ms.len();
    Row {
        what: what.to_owned(),
        clients,
        n,
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        per_s: n as f64 / wall_s,
        cpu_ms: cpu_s.map(|s| s * 1e3 / n.max(1) as f64),
        n_busy,
    }
}

/// Questions that none was asked before.
struct Questions(AtomicUsize);

impl Questions {
    fn next(&self) -> String {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        sentence(n as u64 ^ 0xABCD_0000_0000)
    }
}

/// Asks until `n` answers have come.
fn crowd(
    server: &Server,
    clients: usize,
    n: usize,
    k: usize,
    questions: &Questions,
    stop: &AtomicBool,
) -> anyhow::Result<(Vec<f64>, usize)> {
    let (left, n_busy) = (AtomicUsize::new(n), AtomicUsize::new(0));
    let one = || -> std::io::Result<Vec<f64>> {
        let mut client = Client::connect(server.address)?;
        let mut ms = Vec::new();
        while !stop.load(Ordering::Relaxed)
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| l.checked_sub(1)).is_ok()
        {
            let words = questions.next();
            let started = Instant::now();
            match client.search(&words, k)? {
                200 => ms.push(started.elapsed().as_secs_f64() * 1e3),
                429 => {
                    n_busy.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                }
                status => return Err(std::io::Error::other(format!("a search was answered with {status}"))),
            }
        }
        Ok(ms)
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|t| t.join().expect("a client does not panic")).collect::<std::io::Result<Vec<_>>>()
    })?;
    Ok((all.concat(), n_busy.into_inner()))
}

/// `chiasm bench serve`
pub(crate) fn run(args: &ServeArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let scratch =
        args.scratch.clone().unwrap_or_else(std::env::temp_dir).join(format!("chiasm-bench-serve-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let done = measure(args, &scratch, ui);
    let _ = fs::remove_dir_all(&scratch);
    let outcome = done?;
    if ui.json {
        ui.print_json(&outcome)?;
    } else {
        let document = document(&outcome, args);
        match &args.output {
            Some(path) => fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?,
            None => ui.print(document)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &ServeArgs, scratch: &Path, ui: &Ui) -> anyhow::Result<Outcome> {
    let models = args.models.dirs();
    let dir = args.library.clone().unwrap_or_else(|| scratch.join("library"));
    let library = match &args.library {
        Some(dir) => Library::open(dir, &models)?,
        None => {
            let texts = scratch.join("texts");
            write_texts(&texts, 0..args.items)?;
            let library = Library::create(&dir, &Space::of_model(&args.model, &models)?)?;
            library.index(&[texts], &IndexOptions::default(), ui, &ui.cancel)?;
            ui.cancel.check()?;
            library
        }
    };
    let n_items = library.info()?.n_items;

    ui.start("bench serve", None);
    let questions = Questions(AtomicUsize::new(0));
    let never = AtomicBool::new(false);
    let mut server = Server::start(&dir, &models)?;
    let bare = |n: usize| -> anyhow::Result<(Vec<f64>, f64)> {
        let (mut ms, cpu) = (Vec::with_capacity(n), chiasm_bench::measure::cpu_s());
        for _ in 0..n {
            ui.cancel.check()?;
            let request =
                SearchRequest { query: Query::text(&questions.next()), k: args.k, hybrid: true, ..SearchRequest::default() };
            let started = Instant::now();
            library.search(&request)?;
            ms.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let took = chiasm_bench::measure::cpu_s().zip(cpu).map_or(0.0, |(after, before)| after - before);
        Ok((ms, took))
    };
    // Warm, both of them.
    bare(50)?;
    crowd(&server, 1, 50, args.k, &questions, &never)?;

    let mut rows = Vec::new();
    let quarter = (args.requests / 10).clamp(50, 1_000);
    let (mut without, mut with) = ((Vec::new(), 0.0, 0.0), (Vec::new(), 0.0, 0.0));
    for _ in 0..4 {
        let started = Instant::now();
        let (ms, cpu) = bare(quarter)?;
        without = ([without.0, ms].concat(), without.1 + started.elapsed().as_secs_f64(), without.2 + cpu);
        let (started, cpu) = (Instant::now(), server.cpu_s());
        let (ms, _) = crowd(&server, 1, quarter, args.k, &questions, &never)?;
        let took = server.cpu_s().zip(cpu).map_or(0.0, |(after, before)| after - before);
        with = ([with.0, ms].concat(), with.1 + started.elapsed().as_secs_f64(), with.2 + took);
    }
    rows.push(row("search without a server", 1, without.0, without.1, Some(without.2), 0));
    rows.push(row("the same through the server, in turns", 1, with.0, with.1, Some(with.2), 0));
    let overhead_ms = rows[1].p50_ms - rows[0].p50_ms;

    let mut rss_mib = (0.0, 0.0);
    for (at, clients) in args.clients.iter().enumerate() {
        ui.cancel.check()?;
        let (before, started, cpu) = (server.rss_mib(), Instant::now(), server.cpu_s());
        let (ms, n_busy) = crowd(&server, *clients, args.requests, args.k, &questions, &never)?;
        let took = server.cpu_s().zip(cpu).map(|(after, before)| after - before);
        rows.push(row("search", *clients, ms, started.elapsed().as_secs_f64(), took, n_busy));
        if at == 0 {
            rss_mib = (before, server.rss_mib());
        }
    }

    // While files are taken in: as many as keep it busy, stopped when the questions are answered.
    let more = scratch.join("more");
    write_texts(&more, n_items..n_items + n_items.clamp(2_000, 50_000))?;
    let n = (args.requests / 5).max(100);
    let started = Instant::now();
    let (quiet, _) = crowd(&server, 8, n, args.k, &questions, &never)?;
    rows.push(row("search", 8, quiet, started.elapsed().as_secs_f64(), None, 0));
    let quiet_p95 = rows[rows.len() - 1].p95_ms;
    // Each on a connection of its own: one that says nothing for long is closed.
    let control = |method: &str, kind: &str, body: &str| {
        Client::connect(server.address)?.ask(method, "/api/v1/index", kind, body.as_bytes())
    };
    let body = serde_json::json!({ "roots": [more] }).to_string();
    let (status, answer) = control("POST", "application/json", &body)?;
    if status != 202 {
        bail!("indexing did not begin: {status} {}", String::from_utf8_lossy(&answer));
    }
    let started = Instant::now();
    let (busy, n_busy) = crowd(&server, 8, n, args.k, &questions, &never)?;
    rows.push(row("search while files are taken in", 8, busy, started.elapsed().as_secs_f64(), None, n_busy));
    let indexing_slows = rows[rows.len() - 1].p95_ms / quiet_p95.max(1e-9);
    let state: serde_json::Value = serde_json::from_slice(&control("GET", "text/plain", "")?.1)?;
    // Once it is done, `done` is of its last stage, which is over the whole library.
    let n_indexed_meanwhile = state["report"]["n_new"].as_u64().or_else(|| state["done"].as_u64()).unwrap_or(0);
    control("DELETE", "text/plain", "")?;
    wait_until_idle(server.address)?;

    let (statuses, survived) = malformed(&server, args.malformed)?;
    let acknowledged = killed_under_load(&mut server, args.k, &questions)?;
    if acknowledged.is_empty() {
        bail!("no write was acknowledged before the server was ended, so that none could be lost");
    }
    drop(library);
    let library = Library::open(&dir, &models)?;
    let lost = acknowledged.iter().filter(|hash| !library.item_of_hash(hash).is_ok_and(|item| item.is_some())).count();
    ui.finish();
    let (processor, cores) = processor();
    Ok(Outcome {
        processor,
        cores,
        model: args.model.clone(),
        n_items,
        rows,
        overhead_ms,
        rss_mib,
        indexing_slows,
        n_indexed_meanwhile,
        n_acknowledged: acknowledged.len(),
        n_lost: lost,
        n_malformed: args.malformed,
        malformed_statuses: statuses,
        survived,
    })
}

fn wait_until_idle(address: SocketAddr) -> anyhow::Result<()> {
    let mut control = Client::connect(address)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        let state: serde_json::Value = serde_json::from_slice(&control.ask("GET", "/api/v1/index", "text/plain", b"")?.1)?;
        if !matches!(state["state"].as_str(), Some("running" | "stopping")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the indexing did not stop within two minutes")
}

/// Takes files in while others ask, ends the server at once, and gives the digests of those that were acknowledged.
fn killed_under_load(server: &mut Server, k: usize, questions: &Questions) -> anyhow::Result<Vec<String>> {
    let (stop, address) = (AtomicBool::new(false), server.address);
    let acknowledged = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for writer in 0..2_u64 {
            let (stop, acknowledged) = (&stop, &acknowledged);
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                for n in 0_u64.. {
                    let text = format!("{}, written by {writer} as {n} while others ask", sentence(n));
                    match client.ask("POST", "/api/v1/items", "application/octet-stream", text.as_bytes()) {
                        Ok((201, body)) => {
                            let item: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                            if let Some(hash) = item["hash"].as_str() {
                                acknowledged.lock().unwrap_or_else(|e| e.into_inner()).push(hash.to_owned());
                            }
                        }
                        Ok(_) if !stop.load(Ordering::Relaxed) => std::thread::sleep(Duration::from_millis(20)),
                        _ => return,
                    }
                }
            });
        }
        for _ in 0..4 {
            let stop = &stop;
            scope.spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                while !stop.load(Ordering::Relaxed) && client.search(&questions.next(), k).is_ok() {}
            });
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && acknowledged.lock().unwrap_or_else(|e| e.into_inner()).len() < 40 {
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(acknowledged.into_inner().unwrap_or_else(|e| e.into_inner()))
}

/// Requests that no honest client sends; how often each status came, and whether the server still answers. Status 0 is a connection that was
/// closed without an answer, as is right for what is no HTTP.
fn malformed(server: &Server, n: usize) -> anyhow::Result<(BTreeMap<u16, usize>, bool)> {
    let mut statuses = BTreeMap::new();
    for i in 0..n {
        let bytes = nonsense(i as u64, server.address);
        // Of what says itself how long it is the whole is there: its answer is waited for as by any client.
        let is_open_ended = matches!(i % KINDS_OF_NONSENSE, 0 | 10);
        let status = send_raw(server.address, &bytes, is_open_ended).unwrap_or(0);
        *statuses.entry(status).or_insert(0) += 1;
    }
    let survived =
        Client::connect(server.address).and_then(|mut client| client.search("are you there", 1)).is_ok_and(|s| s == 200);
    Ok((statuses, survived))
}

fn send_raw(address: SocketAddr, bytes: &[u8], is_open_ended: bool) -> std::io::Result<u16> {
    let mut client = Client::connect(address)?;
    client.stream.get_ref().set_read_timeout(Some(Duration::from_secs(10)))?;
    client.stream.get_mut().write_all(bytes)?;
    if is_open_ended {
        client.stream.get_ref().shutdown(std::net::Shutdown::Write)?;
    }
    let mut line = String::new();
    client.stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    // Read to its end, so that the server is not hung up on.
    let _ = client.stream.read_to_end(&mut Vec::new());
    Ok(status.unwrap_or(0))
}

/// How many kinds of malformed requests there are.
const KINDS_OF_NONSENSE: usize = 12;

/// A malformed request by its number.
fn nonsense(i: u64, address: SocketAddr) -> Vec<u8> {
    let mut state = i.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes = |n: usize, random: &mut dyn FnMut() -> u64| -> Vec<u8> { (0..n).map(|_| (random() >> 32) as u8).collect() };
    let post = |path: &str, kind: &str, body: &[u8]| {
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").into_bytes();
    let n = random() as usize;
    match i % KINDS_OF_NONSENSE as u64 {
        0 => bytes(200, &mut random),
        1 => post("search", "application/json", &bytes(300, &mut random)),
        2 => {
            let whole = br#"{"query":[{"text":"a dog","weight":1.0}],"k":10,"kinds":["image"],"where":"size > 1"}"#;
            post("search", "application/json", &whole[..n % whole.len()])
        }
        3 => {
            let values = ["null", "1e999", "-1", "\"\\ud800\"", "[]", "{}", "1e-400", "99999999999999999999", "true", "\"\\u0000\""];
            let (name, value) = (["k", "offset", "query", "kinds", "where", "lanes", "sort"][n % 7], values[(n >> 8) % values.len()]);
            post("search", "application/json", format!("{{\"query\":[{{\"text\":\"x\"}}],\"{name}\":{value}}}").as_bytes())
        }
        4 => {
            let part = ["\"vector\":[1e39]", "\"vector\":[]", "\"item\":-9223372036854775808", "\"upload\":\"../../x\"", "\"weight\":1e-45", "\"text\":\"\""];
            post("search", "application/json", format!("{{\"query\":[{{{},\"kind\":\"text\"}}]}}", part[n % part.len()]).as_bytes())
        }
        5 => {
            let head: [&[u8]; 7] = [b"\x89PNG\r\n\x1a\n", b"\xFF\xD8\xFF\xE0\x00\x10JFIF", b"RIFF\xFF\xFF\xFF\xFFWAVEfmt ", b"GIF89a\xFF\xFF\xFF\xFF", b"RIFF\x10\x00\x00\x00WEBPVP8 ", b"\x93NUMPY\x01\x00", b"II*\x00\x08\x00\x00\x00"];
            post("uploads", "application/octet-stream", &[head[n % head.len()], &bytes(400, &mut random)].concat())
        }
        6 => post("items", "multipart/form-data; boundary=x", &bytes(300, &mut random)),
        7 => {
            let paths = ["items/-1", "items/99999999999999999999", "items/1/thumbnail?side=abc", "items/1/file?download=999", "items?limit=-1", "items?where=(((((", "items/%00", "map?n=1e9", "facets?kind=nothing", "uploads/%2e%2e%2f/thumbnail", "folders?path=relative", "folders?path=%00", "search?q=", "search?k=x&q=a"];
            get(&format!("/api/v1/{}", paths[n % paths.len()]))
        }
        8 => get(&format!("/{}", "../".repeat(n % 20) + "etc/passwd")),
        9 => format!("GET /api/v1/items HTTP/1.1\r\nHost: {address}\r\nRange: bytes={n}-\r\nX-{}: a\r\nConnection: close\r\n\r\n", "y".repeat(n % 40_000)).into_bytes(),
        10 => format!("POST /api/v1/search HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n", n).into_bytes(),
        _ => post(["mcp", "../../mcp", "classify", "explain", "batch", "index", "session", "library"][n % 8], "application/json", &bytes(100, &mut random)),
    }
}

fn document(o: &Outcome, args: &ServeArgs) -> String {
    let mut text = format!(
        "# What a served library costs\n\n*Written by `chiasm bench serve --items {} --model {} --requests {} --output FILE`; not edited by hand. Processor: {}, {} cores.*\n\n\
        {} texts, searched by words ({} answers, models and words joined), each question asked once. Server and clients share the machine's cores, over loopback. The first two \
        rows were measured in turns, A B A B.\n\n\
        | what | clients | requests | p50, ms | p95, ms | p99, ms | a second | CPU, ms | told to come back |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        o.n_items, o.model, args.requests, o.processor, o.cores, o.n_items, args.k
    );
    for r in &o.rows {
        let cpu = r.cpu_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {cpu} | {} |",
            r.what, r.clients, r.n, r.p50_ms, r.p95_ms, r.p99_ms, r.per_s, r.n_busy
        );
    }
    let statuses: Vec<String> = o.malformed_statuses.iter().map(|(status, n)| format!("{status}: {n}")).collect();
    let n_5xx: usize = o.malformed_statuses.iter().filter(|(status, _)| **status >= 500).map(|(_, n)| n).sum();
    let _ = write!(
        text,
        "\n- The server adds {:.2} ms to the median.\n- Its memory over {} requests: {:.0} MiB before, {:.0} after.\n\
        - While {} files were taken in, p95 with 8 clients was {:.2} times what it was before.\n\
        - Ended by `kill -9` under load: of {} writes that were acknowledged {} were lost.\n\
        - {} malformed requests and uploads: {n_5xx} answers of 500 or more, and the server {} afterwards (by status, 0 where it hung up: {}).\n",
        o.overhead_ms,
        args.requests,
        o.rss_mib.0,
        o.rss_mib.1,
        o.n_indexed_meanwhile,
        o.indexing_slows,
        o.n_acknowledged,
        o.n_lost,
        o.n_malformed,
        if o.survived { "answered" } else { "did not answer" },
        statuses.join(", ")
    );
    text
}
