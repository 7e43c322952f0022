//! The server through its router: what a client sees, without a network.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use chiasm_core::{Cancel, Modality, NoProgress};
use chiasm_engine::{FitRequest, IndexOptions, Library, ModelDirs, Space, fit_space};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::App;
use crate::tokens::Scope;
use crate::{Config, router};

const COLOURS: [(&str, &str, [u8; 3]); 6] = [
    ("red", "红色", [220, 30, 30]),
    ("green", "绿色", [30, 200, 40]),
    ("blue", "蓝色", [30, 50, 220]),
    ("yellow", "黄色", [230, 220, 40]),
    ("white", "白色", [245, 245, 245]),
    ("black", "黑色", [15, 15, 15]),
];

fn picture(i: usize) -> image::RgbImage {
    let (_, _, colour) = COLOURS[i % COLOURS.len()];
    let left = (i / COLOURS.len()).is_multiple_of(2);
    image::RgbImage::from_fn(64, 48, |x, y| {
        let inside = (12..36).contains(&y) && if left { (6..30).contains(&x) } else { (34..58).contains(&x) };
        let noise = ((x as usize * 7 + y as usize * 13 + i * 31) % 11) as u8;
        image::Rgb(if inside { colour.map(|c| c.saturating_sub(noise)) } else { [120 + noise; 3] })
    })
}

fn words(i: usize) -> String {
    let place = if (i / COLOURS.len()).is_multiple_of(2) { "left" } else { "right" };
    format!("a {} square on the {place}, number {i}", COLOURS[i % COLOURS.len()].0)
}

fn png(i: usize) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture(i).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn wav() -> Vec<u8> {
    let spec = hound::WavSpec { channels: 1, sample_rate: 8_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    (0..4_000).for_each(|n| writer.write_sample(((n as f32 * 0.3).sin() * 20_000.0) as i16).unwrap());
    writer.finalize().unwrap();
    bytes.into_inner()
}

/// A space of pictures, texts and sounds, fitted once.
fn space() -> Space {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut table = "image,text\n".to_owned();
        for i in 0..48 {
            picture(i).save(dir.path().join(format!("{i}.png"))).unwrap();
            table.push_str(&format!("{i}.png,\"{}\"\n", words(i)));
        }
        std::fs::write(dir.path().join("pairs.csv"), table).unwrap();
        let encoders = [(Modality::Image, "colour-layout".to_owned()), (Modality::Text, "char-ngrams".to_owned())];
        let request = FitRequest {
            name: "squares".to_owned(),
            encoders: encoders.into(),
            method: "cca".to_owned(),
            pairs: Some(dir.path().join("pairs.csv")),
            root: dir.path().to_owned(),
            folds: Some(3),
            seed: 1,
            ..FitRequest::default()
        };
        let outcome = fit_space(&request, &models(), &NoProgress, &Cancel::default(), None).unwrap();
        let path = dir.path().join("squares.space");
        outcome.space.save(&path).unwrap();
        (dir, path)
    });
    Space::load(path, &models()).unwrap()
}

fn models() -> ModelDirs {
    ModelDirs::new(Vec::new())
}

/// A server over a small library.
struct Served {
    dir: tempfile::TempDir,
    app: Arc<App>,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Served {
    fn with(change: impl FnOnce(&mut Config)) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("files");
        std::fs::create_dir_all(files.join("trips")).unwrap();
        for i in 0..24 {
            let folder = if i < 4 { files.join("trips") } else { files.clone() };
            picture(i).save(folder.join(format!("{i:03}.png"))).unwrap();
            std::fs::write(files.join(format!("note-{i:03}.txt")), words(i)).unwrap();
        }
        std::fs::write(files.join("trips/000.txt"), "grandmother's <script>alert(1)</script> birthday").unwrap();
        std::fs::write(files.join("broken.png"), b"\x89PNG\r\n\x1a\nnot a picture").unwrap();
        let library = Library::create(&dir.path().join("library"), &space()).unwrap();
        library.index(&[files], &IndexOptions::default(), &NoProgress, &Cancel::default()).unwrap();
        let mut config = Config::new(dir.path().join("library"), models());
        change(&mut config);
        let app = Arc::new(App::new(config, Some(library)));
        Served { dir, router: router(&app), app }
    }

    fn new() -> Served {
        Served::with(|_| {})
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let request = request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn send_bytes(&self, path: &str, name: &str, bytes: Vec<u8>) -> Answer {
        self.send(request(Method::POST, path).header("x-filename", name).body(Body::from(bytes)).unwrap()).await
    }

    /// The number of an item by the end of its path.
    async fn item(&self, ending: &str) -> i64 {
        let page = self.get("/api/v1/items?limit=1000").await.json();
        let found =
            page["items"].as_array().unwrap().iter().find(|item| item["path"].as_str().unwrap().ends_with(ending)).unwrap();
        found["item"].as_i64().unwrap()
    }
}

fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:7700")
}

fn names(reply: &Value) -> Vec<String> {
    reply["hits"].as_array().unwrap().iter().map(|hit| hit["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn words_find_pictures_and_texts_with_all_that_a_page_shows() {
    let served = Served::new();
    let reply = served
        .post("/api/v1/search", json!({ "query": [{ "text": "a red square on the left" }], "k": 8, "kinds": ["image"] }))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", String::from_utf8_lossy(&reply.bytes));
    let reply = reply.json();
    let first = &reply["hits"][0];
    assert!(["000.png", "012.png"].contains(&first["name"].as_str().unwrap()), "{first}");
    assert_eq!(
        (first["rank"].as_i64(), first["kind"].as_str(), first["metadata"]["width"].as_i64()),
        (Some(1), Some("image"), Some(64))
    );
    assert!(first["confidence"].as_f64().is_some_and(|c| (0.0..=1.0).contains(&c)));
    assert_eq!((reply["n_candidates"].as_i64(), reply["next_offset"].as_i64()), (Some(24), Some(8)));
    // The same by the address, page by page.
    let whole = served.get("/api/v1/search?q=a%20blue%20square&k=48").await.json();
    let mut pages = Vec::new();
    let mut offset = Some(0);
    while let Some(at) = offset {
        let page = served.get(&format!("/api/v1/search?q=a%20blue%20square&k=10&offset={at}")).await.json();
        pages.extend(names(&page));
        offset = page["next_offset"].as_i64();
    }
    assert_eq!(pages, names(&whole));
    // Words alone, marked.
    let words = served.get("/api/v1/search?q=grandmothers&lane=words").await.json();
    let hit = &words["hits"][0];
    assert_eq!(
        (hit["name"].as_str(), hit["all_words"].as_bool(), hit["marks"].as_array().map(Vec::len)),
        (Some("000.png"), Some(true), Some(1))
    );
}

#[tokio::test]
async fn parts_of_every_sort_are_mixed_and_weighed() {
    let served = Served::new();
    let upload = served.send_bytes("/api/v1/uploads", "red%20square.png", png(36)).await;
    assert_eq!(upload.status, StatusCode::CREATED);
    let upload = upload.json();
    assert_eq!((upload["kind"].as_str(), upload["name"].as_str()), (Some("image"), Some("red square.png")));
    let id = upload["upload"].as_str().unwrap();
    assert_eq!(served.get(&format!("/api/v1/uploads/{id}")).await.json(), upload);
    let thumbnail = served.get(&format!("/api/v1/uploads/{id}/thumbnail")).await;
    assert_eq!((thumbnail.status, &thumbnail.bytes[..2]), (StatusCode::OK, &[0xFF, 0xD8][..]));
    let by_picture =
        served.post("/api/v1/search", json!({ "query": [{ "upload": id }], "k": 3, "kinds": ["text"] })).await.json();
    assert!(by_picture["hits"][0]["snippet"].as_str().unwrap().starts_with("a red square"), "{by_picture}");
    let item = served.item("trips/001.png").await;
    let mixed =
        json!({ "query": [{ "upload": id, "weight": 0.5 }, { "item": item }, { "text": "left", "weight": -1.0 }], "k": 5 });
    let mixed = served.post("/api/v1/search", mixed).await.json();
    assert!(mixed["hits"].as_array().is_some_and(|hits| hits.len() == 5 && hits.iter().all(|hit| hit["item"] != item)));
    let dim = space().dim();
    let by_vector = served.post("/api/v1/search", json!({ "query": [{ "vector": vec![0.1; dim], "kind": "image" }] })).await;
    assert_eq!(by_vector.status, StatusCode::OK);
    // As a form, as browsers send it.
    let form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\na green square\r\n--x--\r\n";
    let sent = request(Method::POST, "/api/v1/uploads").header(header::CONTENT_TYPE, "multipart/form-data; boundary=x");
    let sent = served.send(sent.body(Body::from(form)).unwrap()).await;
    assert_eq!((sent.status, sent.json()["kind"].as_str()), (StatusCode::CREATED, Some("text")));
}

#[tokio::test]
async fn what_cannot_be_answered_says_why_and_what_to_do() {
    let served = Served::new();
    let text = |words: &str| json!({ "text": words });
    for (body, status, code) in [
        (json!({ "query": [] }), 400, "bad_request"),
        (json!({ "query": [text(" ")] }), 400, "bad_request"),
        (json!({ "query": [text("x")], "k": 0 }), 400, "bad_request"),
        (json!({ "query": [text("x")], "k": 1001 }), 400, "bad_request"),
        (json!({ "query": [text("x")], "where": "taken >" }), 400, "bad_filter"),
        (json!({ "query": [text("x")], "lanes": ["nothing"] }), 400, "no_such_lane"),
        (json!({ "query": [{ "item": 99999 }] }), 404, "no_such_item"),
        (json!({ "query": [{ "upload": "0" }] }), 404, "no_such_upload"),
        (json!({ "query": [{ "vector": [1.0], "kind": "image" }] }), 400, "bad_request"),
        (json!({ "query": [{ "vector": [1.0] }] }), 400, "bad_request"),
        (json!({ "query": [{ "text": "x", "item": 1 }] }), 400, "bad_request"),
        (json!({ "query": [{ "text": "x", "weight": 0 }] }), 400, "bad_request"),
        (json!({ "query": [{ "text": "x", "weight": -1 }] }), 400, "bad_request"),
        (json!({ "query": [text("x")], "unknown": 1 }), 400, "bad_request"),
        (json!({ "query": [text("x")], "rerank": true }), 400, "bad_request"),
        (json!("words"), 400, "bad_request"),
    ] {
        let answer = served.post("/api/v1/search", body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{body}");
        let error = &answer.json()["error"];
        assert_eq!(error["request_id"].as_str(), Some(answer.header("x-request-id")));
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    let filter = served.get("/api/v1/items?where=size%20%3E").await;
    assert_eq!((filter.code().as_str(), filter.json()["error"]["at"].as_i64()), ("bad_filter", Some(6)));
    assert_eq!(served.get("/api/v1/nothing").await.code(), "not_found");
    let wrong = served.send(request(Method::PUT, "/api/v1/search").body(Body::empty()).unwrap()).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
    let no_json = served.send(request(Method::POST, "/api/v1/search").body(Body::from("{}")).unwrap()).await;
    assert_eq!(no_json.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let sound = served.send_bytes("/api/v1/uploads", "a.wav", wav()).await;
    assert_eq!(
        (sound.status, sound.code().as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"),
        "no view for sounds"
    );
    let broken = served.send_bytes("/api/v1/uploads", "a.png", b"\x89PNG\r\n\x1a\n".to_vec()).await;
    assert_eq!(broken.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(served.send_bytes("/api/v1/uploads", "a", Vec::new()).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn files_too_large_are_refused_before_and_while_they_come() {
    let served = Served::with(|config| config.max_upload_bytes = 1_000);
    let answer = served.send_bytes("/api/v1/uploads", "a.txt", vec![b'a'; 1_001]).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b'a'; 100]));
    let streamed = request(Method::POST, "/api/v1/uploads").body(Body::from_stream(tokio_stream::iter(chunks))).unwrap();
    assert_eq!(served.send(streamed).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let stated = request(Method::POST, "/api/v1/uploads").header(header::CONTENT_LENGTH, "99999999999");
    assert_eq!(served.send(stated.body(Body::empty()).unwrap()).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let body = json!({ "query": [{ "text": "x".repeat(5 << 20) }] });
    assert_eq!(served.post("/api/v1/search", body).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn long_lists_are_lines() {
    let served = Served::new();
    let ask =
        |path: &str| request(Method::GET, path).header(header::ACCEPT, "application/x-ndjson").body(Body::empty()).unwrap();
    let found = served.send(ask("/api/v1/search?q=square&k=100")).await;
    assert_eq!(found.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> =
        found.bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!((lines.len(), lines[0]["n_candidates"].as_i64(), lines[1]["rank"].as_i64()), (49, Some(48), Some(1)));
    let items = served.send(ask("/api/v1/items?limit=7")).await;
    assert_eq!(items.bytes.iter().filter(|b| **b == b'\n').count(), 48);
    // What the library refuses does not stop the others; what no library could answer refuses them all.
    let both = |second: Value| json!({ "searches": [{ "query": [{ "text": "red" }] }, second] });
    let batch = served.post("/api/v1/batch", both(json!({ "query": [{ "text": "red" }], "lanes": ["no such"] }))).await.json();
    assert!(batch["replies"][0]["hits"].is_array());
    assert_eq!(batch["replies"][1]["error"]["code"].as_str(), Some("no_such_lane"));
    let refused = served.post("/api/v1/batch", both(json!({ "query": [] }))).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_request")));
}

#[tokio::test]
async fn originals_come_whole_in_ranges_and_never_as_something_that_runs() {
    let served = Served::new();
    let item = served.item("trips/000.png").await;
    let path = served.dir.path().join("files/trips/000.png");
    let bytes = std::fs::read(&path).unwrap();
    let whole = served.get(&format!("/api/v1/items/{item}/file")).await;
    assert_eq!((whole.status, whole.header("content-type"), &whole.bytes), (StatusCode::OK, "image/png", &bytes));
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert!(whole.header("content-security-policy").contains("sandbox"));
    let ranged = |range: &str| {
        request(Method::GET, &format!("/api/v1/items/{item}/file")).header(header::RANGE, range).body(Body::empty()).unwrap()
    };
    let part = served.send(ranged("bytes=10-19")).await;
    assert_eq!((part.status, &part.bytes[..]), (StatusCode::PARTIAL_CONTENT, &bytes[10..20]));
    assert_eq!(part.header("content-range"), format!("bytes 10-19/{}", bytes.len()));
    let outside = served.send(ranged("bytes=999999-")).await;
    assert_eq!(
        (outside.status, outside.header("content-range")),
        (StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{}", bytes.len()).as_str())
    );
    let again = request(Method::GET, &format!("/api/v1/items/{item}/file"))
        .header(header::IF_NONE_MATCH, whole.header("etag"))
        .body(Body::empty());
    assert_eq!(served.send(again.unwrap()).await.status, StatusCode::NOT_MODIFIED);
    let saved = served.get(&format!("/api/v1/items/{item}/file?download=1")).await;
    assert!(saved.header("content-disposition").starts_with("attachment"));
    let small = served.get(&format!("/api/v1/items/{item}/thumbnail?side=160")).await;
    assert_eq!(
        (small.status, small.header("content-type"), &small.bytes[..2]),
        (StatusCode::OK, "image/jpeg", &[0xFF, 0xD8][..])
    );
    assert_eq!(served.get(&format!("/api/v1/items/{item}/thumbnail?side=161")).await.status, StatusCode::BAD_REQUEST);
    let note = served.item("note-000.txt").await;
    assert_eq!(served.get(&format!("/api/v1/items/{note}/thumbnail")).await.code(), "no_thumbnail");
    assert_eq!(served.get("/api/v1/items/99999/file").await.code(), "no_such_item");
    assert_eq!(served.get("/api/v1/items/x/file").await.status, StatusCode::BAD_REQUEST);
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_outside_of_what_was_indexed_is_served() {
    let served = Served::new();
    let item = served.item("trips/000.png").await;
    let path = served.dir.path().join("files/trips/000.png");
    let (bytes, secret) = (std::fs::read(&path).unwrap(), served.dir.path().join("secret.png"));
    // Another content of the same length, then a link to the same content elsewhere, then no file.
    let mut other = bytes.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    std::fs::write(&path, &other).unwrap();
    for view in ["file", "thumbnail"] {
        let answer = served.get(&format!("/api/v1/items/{item}/{view}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "conflict"), "{view}");
    }
    std::fs::write(&secret, &bytes).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    for view in ["file", "thumbnail"] {
        let answer = served.get(&format!("/api/v1/items/{item}/{view}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "forbidden"), "{view}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(served.get(&format!("/api/v1/items/{item}/file")).await.code(), "no_file");
    for path in [
        "/ui/../Cargo.toml",
        "/ui/%2e%2e%2fCargo.toml",
        "/ui/..%2f..%2fetc%2fpasswd",
        "/../etc/passwd",
        "//etc/passwd",
        "/ui/tests",
    ] {
        assert_eq!(served.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn items_are_listed_described_tagged_counted_and_taken_out() {
    let served = Served::new();
    let page = served.get("/api/v1/items?kind=image&sort=name&limit=5&where=folder%20%3D%20trips").await.json();
    assert_eq!((page["total"].as_i64(), page["items"].as_array().map(Vec::len)), (Some(4), Some(4)));
    let item = served.item("trips/000.png").await;
    let details = served.get(&format!("/api/v1/items/{item}")).await.json();
    assert_eq!(details["captions"][0].as_str(), Some("grandmother's <script>alert(1)</script> birthday"));
    let tags = request(Method::PUT, &format!("/api/v1/items/{item}/tags")).header(header::CONTENT_TYPE, "application/json");
    let tags = served.send(tags.body(Body::from(r#"["family","red"]"#)).unwrap()).await;
    assert_eq!(tags.json(), json!(["family", "red"]));
    let facets = served.get("/api/v1/facets").await.json();
    assert_eq!(facets["n_items"].as_i64(), Some(48));
    assert_eq!(served.get("/api/v1/items?where=tag%20%3D%20family").await.json()["total"].as_i64(), Some(1));
    let neighbours = served.get(&format!("/api/v1/items/{item}/neighbours?k=2")).await.json();
    assert_eq!(neighbours["neighbours"].as_array().map(Vec::len), Some(2));
    let removed = served.send(request(Method::DELETE, &format!("/api/v1/items/{item}")).body(Body::empty()).unwrap()).await;
    assert_eq!(removed.json()["removed"].as_i64(), Some(1));
    assert_eq!(served.get(&format!("/api/v1/items/{item}")).await.status, StatusCode::NOT_FOUND);
    assert!(served.dir.path().join("files/trips/000.png").exists(), "the file stays");
}

#[tokio::test]
async fn files_are_taken_in_once_and_are_found_at_once() {
    let served = Served::new();
    let added = served.send_bytes("/api/v1/items", "..%2F..%2Fnew%20one.png", png(30)).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&added.bytes));
    let added = added.json();
    assert_eq!(added["name"].as_str(), Some("new one.png"));
    assert!(
        Path::new(added["path"].as_str().unwrap()).starts_with(served.dir.path().canonicalize().unwrap().join("library/added"))
    );
    let again = served.send_bytes("/api/v1/items", "other.png", png(30)).await;
    assert_eq!((again.status, &again.json()["item"]), (StatusCode::OK, &added["item"]));
    let found = served.get("/api/v1/search?q=new%20one&lane=names").await.json();
    assert_eq!(found["hits"][0]["item"], added["item"]);
    for (name, bytes) in [("a.png", b"\x89PNG\r\n\x1a\n".to_vec()), ("a.wav", wav())] {
        let refused = served.send_bytes("/api/v1/items", name, bytes).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    assert_eq!(served.get("/api/v1/status").await.json()["library"]["n_items"].as_i64(), Some(49));
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_indexed_while_it_is_told_how_far() {
    let served = Served::new();
    let more = served.dir.path().join("more");
    std::fs::create_dir(&more).unwrap();
    for i in 24..30 {
        picture(i).save(more.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(more.join("broken.jpg"), b"\xFF\xD8\xFF\xE0 no").unwrap();
    let begun = served.post("/api/v1/index", json!({ "roots": [more] })).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&begun.bytes));
    let state = loop {
        let state = served.get("/api/v1/index").await.json();
        if state["state"] != "running" {
            break state;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((state["state"].as_str(), state["report"]["n_new"].as_i64()), (Some("done"), Some(6)), "{state}");
    let refused = served.get("/api/v1/refused").await.json();
    assert_eq!(refused["total"].as_i64(), Some(2), "{refused}");
    let folders = served.get(&format!("/api/v1/folders?path={}", served.dir.path().display())).await.json();
    assert!(folders["folders"].as_array().unwrap().iter().any(|folder| folder["name"] == "more"), "{folders}");
    for bad in [json!({ "roots": ["relative"] }), json!({ "roots": ["/nowhere/at/all"] }), json!({ "roots": ["/a\u{0}b"] })] {
        assert_eq!(served.post("/api/v1/index", bad.clone()).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let served = Served::with(|config| config.tokens = true);
    let secrets: Vec<String> =
        [Scope::Read, Scope::Write, Scope::Admin].map(|scope| served.app.tokens.add(scope.as_str(), scope).unwrap()).into();
    let ask = async |token: Option<&str>, method: Method, path: &str| {
        let mut request = request(method, path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        served.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    for path in ["/api/v1/status", "/api/v1/search?q=a", "/api/v1/items/1/file", "/metrics", "/api/v1/events"] {
        assert_eq!(ask(None, Method::GET, path).await, 401, "{path}");
        assert_eq!(ask(Some("chiasm_wrong"), Method::GET, path).await, 401, "{path}");
    }
    for path in ["/", "/health", "/ui/app.js", "/api/v1/openapi.json"] {
        assert_eq!(ask(None, Method::GET, path).await, 200, "{path}");
    }
    let cases = [
        (Method::GET, "/api/v1/search?q=a", [200, 200, 200]),
        (Method::DELETE, "/api/v1/items/99999", [403, 404, 404]),
        (Method::GET, "/api/v1/folders?path=/", [403, 403, 200]),
        (Method::GET, "/api/v1/spaces", [403, 403, 200]),
    ];
    for (method, path, expected) in cases {
        for (token, expected) in secrets.iter().zip(expected) {
            assert_eq!(ask(Some(token), method.clone(), path).await, expected, "{method} {path}");
        }
    }
    // A browser logs in, and is asked no more.
    let login = served.post("/api/v1/session", json!({ "token": secrets[0] })).await;
    let cookie = login.header("set-cookie").to_owned();
    assert!(login.status == StatusCode::NO_CONTENT && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let with_cookie = request(Method::GET, "/api/v1/status").header(header::COOKIE, cookie.split(';').next().unwrap());
    let status = served.send(with_cookie.body(Body::empty()).unwrap()).await.json();
    assert_eq!(status["scopes"], json!(["read"]));
    assert_eq!(served.post("/api/v1/session", json!({ "token": "x" })).await.status, StatusCode::UNAUTHORIZED);
    // With tokens any name may lead here.
    let elsewhere = Request::get("/health").header(header::HOST, "chiasm.example").body(Body::empty()).unwrap();
    assert_eq!(served.send(elsewhere).await.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let served = Served::new();
    for host in ["evil.example", "evil.example:7700", "127.0.0.1.evil.example", ""] {
        let rebound = Request::get("/api/v1/status").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(served.send(rebound).await.status, StatusCode::FORBIDDEN, "{host}");
    }
    for (name, value, expected) in [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://127.0.0.1:7701", 403),
        ("origin", "http://127.0.0.1:7700", 200),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "same-origin", 200),
    ] {
        let asked =
            request(Method::POST, "/api/v1/search").header(name, value).header(header::CONTENT_TYPE, "application/json");
        let body = json!({ "query": [{ "text": "red" }] }).to_string();
        assert_eq!(served.send(asked.body(Body::from(body)).unwrap()).await.status.as_u16(), expected, "{name}: {value}");
    }
    let page = served.get("/").await;
    assert!(
        page.header("content-security-policy").starts_with("default-src 'self'")
            && !page.header("content-security-policy").contains("unsafe")
    );
    assert_eq!(page.header("access-control-allow-origin"), "");
    let missing = served.get("/nothing/here").await;
    assert_eq!((missing.status, missing.header("content-type")), (StatusCode::NOT_FOUND, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn a_crowd_is_told_to_come_back() {
    let served = Served::with(|config| config.max_waiting = 1);
    let ask = || served.post("/api/v1/search", json!({ "query": [{ "text": format!("red {}", rand::random::<u64>()) }] }));
    let answers: Vec<Answer> = {
        let mut asked: Vec<_> = (0..64).map(|_| Box::pin(ask())).collect();
        let mut done = Vec::new();
        // All of them at once, on one thread: each is polled before any is answered.
        std::future::poll_fn(|context| {
            asked.retain_mut(|one| match one.as_mut().poll(context) {
                std::task::Poll::Ready(answer) => {
                    done.push(answer);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if asked.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        done
    };
    let turned_away: Vec<&Answer> = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).collect();
    assert!(!turned_away.is_empty() && answers.iter().any(|answer| answer.status == StatusCode::OK));
    assert!(turned_away.iter().all(|answer| answer.header("retry-after") == "1" && answer.code() == "busy"));
    // And then it is quiet again.
    assert_eq!(ask().await.status, StatusCode::OK);
    let metrics = String::from_utf8(served.get("/metrics").await.bytes).unwrap();
    assert!(metrics.contains("chiasm_turned_away_total") && metrics.contains("chiasm_waiting_requests 0"), "{metrics}");
}

#[tokio::test]
async fn labels_are_chosen_and_explanations_given() {
    let served = Served::new();
    let item = served.item("trips/000.png").await;
    let labels =
        served.post("/api/v1/classify", json!({ "labels": ["a red square", "a blue square"], "item": item })).await.json();
    assert_eq!(labels["labels"][0]["label"].as_str(), Some("a red square"), "{labels}");
    let why = json!({ "query": [{ "text": "a red square" }], "item": item, "words": true, "heat": true });
    let why = served.post("/api/v1/explain", why).await.json();
    assert_eq!((why["heat"]["kind"].as_str(), why["heat"]["drop"].as_array().map(Vec::len)), (Some("grid"), Some(64)), "{why}");
    assert_eq!((why["words"].as_array().map(Vec::len), why["lanes"][0]["lane"].as_str()), (Some(3), Some("squares")));
    let map = served.get("/api/v1/map?n=40").await.json();
    assert_eq!((map["items"].as_array().map(Vec::len), map["n_items"].as_i64()), (Some(40), Some(48)), "{map}");
    assert!(map["x"].as_array().unwrap().iter().all(|x| (-1.0..=1.0).contains(&x.as_f64().unwrap())));
    assert_eq!(served.get("/api/v1/map?n=0").await.status, StatusCode::BAD_REQUEST);
    let text = served.post("/api/v1/classify", json!({ "labels": ["x"], "text": "y", "item": 1 })).await;
    assert_eq!(text.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_interface_describes_itself() {
    let served = Served::new();
    let document = served.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap();
    for path in ["/search", "/items/{item}/file", "/index", "/uploads", "/facets", "/map", "/explain", "/batch", "/session"] {
        assert!(paths.contains_key(path), "{path}: {:?}", paths.keys().collect::<Vec<_>>());
    }
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn assistants_find_tools() {
    let served = Served::new();
    let call = async |method: &str, params: Value| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let asked = request(Method::POST, "/mcp")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18");
        served.send(asked.body(Body::from(body)).unwrap()).await
    };
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
    let hello = call("initialize", hello).await;
    assert_eq!(
        hello.json()["result"]["serverInfo"]["name"].as_str(),
        Some("chiasm"),
        "{}",
        String::from_utf8_lossy(&hello.bytes)
    );
    let tools = call("tools/list", json!({})).await.json();
    let listed: Vec<&str> = tools["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(listed, ["search", "similar", "describe_item", "classify"]);
    let found =
        call("tools/call", json!({ "name": "search", "arguments": { "query": "a red square", "kinds": ["image"], "k": 3 } }))
            .await
            .json();
    let hits = found["result"]["structuredContent"]["hits"].as_array().unwrap();
    assert_eq!((hits.len(), found["result"]["isError"].as_bool()), (3, Some(false)));
    let item = hits[0]["item"].clone();
    let described = call("tools/call", json!({ "name": "describe_item", "arguments": { "item": item } })).await.json();
    assert!(described["result"]["structuredContent"]["item"]["path"].is_string());
    // What is not there is told in the result, what cannot be called is an error of the protocol.
    let missing = call("tools/call", json!({ "name": "similar", "arguments": { "item": 99999 } })).await.json();
    assert!(
        missing["result"]["isError"].as_bool() == Some(true)
            && missing["result"]["content"][0]["text"].as_str().unwrap().contains("no_such_item")
    );
    let unknown = call("tools/call", json!({ "name": "nothing", "arguments": {} })).await.json();
    assert_eq!(unknown["error"]["code"].as_i64(), Some(-32602), "{unknown}");
    let wrong = call("tools/call", json!({ "name": "search", "arguments": { "words": "x" } })).await.json();
    assert_eq!(wrong["error"]["code"].as_i64(), Some(-32602), "{wrong}");
}

#[tokio::test]
async fn a_server_without_a_library_offers_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    space().save(&dir.path().join("squares.space")).unwrap();
    let app = Arc::new(App::new(Config::new(dir.path().join(".chiasm"), models()), None));
    let served = Served { dir, router: router(&app), app };
    let status = served.get("/api/v1/status").await.json();
    assert!(status["library"].is_null());
    assert_eq!(served.get("/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let refused = served.get("/api/v1/search?q=a").await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::CONFLICT, "no_library"));
    let spaces = served.get("/api/v1/spaces").await.json();
    let name = spaces["spaces"][0]["name"].as_str().unwrap_or_else(|| panic!("{spaces}")).to_owned();
    assert_eq!(served.post("/api/v1/library", json!({ "name": "nothing" })).await.code(), "no_such_space");
    let made = served.post("/api/v1/library", json!({ "name": name })).await;
    assert_eq!((made.status, made.json()["library"]["n_items"].as_i64()), (StatusCode::CREATED, Some(0)));
    assert_eq!(served.get("/ready").await.status, StatusCode::OK);
    assert_eq!(served.post("/api/v1/library", json!({ "name": name })).await.status, StatusCode::CONFLICT);
}
