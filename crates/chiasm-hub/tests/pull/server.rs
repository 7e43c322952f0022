//! The smallest HTTP server that can pretend to be the hub: one request a connection, every answer made by a function.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// The byte that was asked for first.
    pub(crate) from: u64,
}

/// An answer.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body after which the connection breaks.
    cut: Option<usize>,
    measured: bool,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None, measured: true }
    }

    /// A file, from the byte that was asked for.
    pub(crate) fn file(seen: &Seen, content: &[u8]) -> Self {
        let total = content.len() as u64;
        match seen.from {
            0 => Self::status(200).body(content),
            from if from >= total => Self::status(416).with("content-range", &format!("bytes */{total}")),
            from => Self::status(206)
                .with("content-range", &format!("bytes {from}-{}/{total}", total - 1))
                .body(&content[from as usize..]),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub(crate) fn unmeasured(mut self) -> Self {
        self.measured = false;
        self
    }
}

/// A server that lives as long as the test.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `answer` is given the request and how often its path was asked for before.
    pub(crate) fn new(answer: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::<Seen>::new())));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answer: &(dyn Fn(&Seen, usize) -> Answer + Send + Sync), log: &Mutex<Vec<Seen>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut seen = Seen { path, token: None, from: 0 };
    for line in lines.take_while(|line| !line.is_empty()) {
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "authorization" => seen.token = Some(value.to_owned()),
            Some((name, value)) if name == "range" => {
                let from = value.trim_start_matches("bytes=").trim_end_matches('-');
                seen.from = from.parse().unwrap();
            }
            _ => {}
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.iter().filter(|other| other.path == seen.path).count() - 1
    };
    let answer = answer(&seen, before);
    let mut head = format!("HTTP/1.1 {} Answer\r\nconnection: close\r\n", answer.status);
    if answer.measured {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len()).min(answer.body.len())];
    let mut stream = stream;
    // Who has heard enough hangs up.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}

/// The answer to the question which files there are, if that was it.
pub(crate) fn listing(seen: &Seen, name: &str, commit: &str, files: &BTreeMap<String, Vec<u8>>) -> Option<Answer> {
    let entry = |(file, content): (&String, &Vec<u8>)| {
        let mut entry = serde_json::json!({ "rfilename": file, "size": content.len(), "blobId": git(content) });
        if file.ends_with(".safetensors") || file.ends_with(".bin") {
            entry["lfs"] = serde_json::json!({ "sha256": sha256(content), "size": content.len(), "pointerSize": 134 });
        }
        entry
    };
    asked(seen, name).then(|| listed(commit, files.iter().map(entry).collect()))
}

/// The same from a server that states nothing but names.
pub(crate) fn bare_listing(seen: &Seen, name: &str, commit: &str, files: &BTreeMap<String, Vec<u8>>) -> Option<Answer> {
    asked(seen, name).then(|| listed(commit, files.keys().map(|file| serde_json::json!({ "rfilename": file })).collect()))
}

fn asked(seen: &Seen, name: &str) -> bool {
    seen.path == format!("/api/models/{name}/revision/main?blobs=true")
}

fn listed(commit: &str, siblings: Vec<serde_json::Value>) -> Answer {
    let listing = serde_json::json!({ "id": "test", "sha": commit, "gated": false, "siblings": siblings });
    Answer::status(200).body(listing.to_string().as_bytes())
}

pub(crate) fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn git(content: &[u8]) -> String {
    let whole = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
