//! `chiasm demo`: makes a small world of real files, learns a space from part of it, makes a library, and looks for things in
//! every direction. Needs no weights and no network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use chiasm_core::{CrossEncoder, Image, Media, Modality, Picture, Vectors};
use chiasm_engine::{
    FitRequest, Found, IndexOptions, Library, Limits, ModelDirs, Query, QueryMedia, SearchRequest, Space, fit_space, load_media,
};
use chiasm_eval::EvalConfig;
use chiasm_eval::cross::{CrossTable, Side, judge};
use chiasm_world::{Item, Swap, World, WorldConfig};
use clap::Args;

use crate::contact_sheet::{Card, Section, Sheet, relative_href};
use crate::ui::{Paint, Ui, count, duration, escape, shown};

/// Arguments of `chiasm demo`.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where the world and its library are made
    #[arg(long, value_name = "DIR", default_value = "chiasm-demo")]
    dir: PathBuf,
    /// Another seed, another world
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Fail unless every direction finds its own among the first ten this often on the held-out part, e.g. 0.3
    #[arg(long, value_name = "R@10")]
    require: Option<f64>,
}

/// Hits shown per question of the tour.
const N_SHOWN: usize = 5;
/// The encoders of the demo: descriptors that need no weights.
const ENCODERS: [(Modality, &str); 4] = [
    (Modality::Image, "colour-layout"),
    (Modality::Text, "char-ngrams"),
    (Modality::Audio, "mel-contour"),
    (Modality::Series, "series-spectrum"),
];

/// `chiasm demo`
pub(crate) fn run(args: &DemoArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut config = WorldConfig::default();
    config.seed = args.seed.unwrap_or(config.seed);
    let world = chiasm_world::generate(&args.dir, &config, ui, &ui.cancel)?;
    let (n_train, n_heldout) = (world.train().count(), world.heldout().count());
    say(
        ui,
        &format!(
            "A world of {} in {}: pictures, English and Chinese texts, sounds, motion series.\n\
             {n_train} scenes to learn from, {n_heldout} held out, {} of these with a combination of colour and shape never shown in training.",
            count(world.items.len() * ENCODERS.len() + world.items.len(), "file"),
            shown(&args.dir),
            world.heldout().filter(|item| item.unseen_combination).count(),
        ),
    )?;

    let models = ModelDirs::new(Vec::new());
    let request = FitRequest {
        name: "demo".to_owned(),
        encoders: ENCODERS.iter().map(|(modality, encoder)| (*modality, (*encoder).to_owned())).collect(),
        method: "mcca".to_owned(),
        pairs: Some(args.dir.join("train.csv")),
        root: args.dir.clone(),
        seed: config.seed,
        ..FitRequest::default()
    };
    let fitted = fit_space(&request, &models, ui, &ui.cancel, None)?;
    fitted.space.save(&args.dir.join("demo.space"))?;
    say(
        ui,
        &format!(
            "A space of {} dimensions learnt from the {n_train} scenes by multi-view CCA in {}.",
            fitted.space.dim(),
            duration(fitted.report.wall_s)
        ),
    )?;

    let library = make_library(&args.dir, &fitted.space, ui)?;
    let tour = tour(&world, &library, ui)?;
    let figures = heldout_figures(&world, &fitted.space, ui)?;
    let table = figures.to_string();
    say(
        ui,
        &format!(
            "\nHow the {n_heldout} held-out scenes find each other (a text is English or Chinese), chance in brackets:\n\n{table}"
        ),
    )?;

    let nano = Space::of_model(chiasm_encode::NANO, &models)?;
    let of_nano = heldout_figures(&world, &nano, ui)?;
    let nano_table = of_nano.to_string();
    say(
        ui,
        &format!(
            "\nThe same by {}, this project's own trained model, which was never shown these scenes, nor {}:\n\n{nano_table}",
            chiasm_encode::NANO,
            if config.seed == WorldConfig::default().seed {
                "any with the unseen combinations"
            } else {
                "which combinations this world holds back (it may have met some)"
            }
        ),
    )?;
    let reader = chiasm_encode::open_cross_encoder(chiasm_encode::NANO, &models)?;
    let judges = [
        ("descriptors", Judge::Space(&fitted.space)),
        (chiasm_encode::NANO, Judge::Space(&nano)),
        ("read together", Judge::Reader(&*reader)),
    ];
    let exchanged =
        judges.iter().map(|(name, judge)| Ok((*name, told_apart(&world, judge, ui)?))).collect::<anyhow::Result<Vec<_>>>()?;
    say(ui, &describe_exchanged(&exchanged))?;
    let again = looked_at_again(&world, &nano, &*reader, ui)?;
    say(ui, &format!("\n{again}"))?;

    let page = args.dir.join("demo.html");
    let sheet = Sheet {
        title: "chiasm: anything finds anything".to_owned(),
        intro: "A small generated world, and a space learnt from part of it. Each row is a question and what the library \
                answered, best first; a tick marks the scene the question was taken from, which was never learnt from."
            .to_owned(),
        sections: tour,
        tables: vec![
            ("Held-out retrieval, every direction, beside chance".to_owned(), table),
            (format!("The same by {}, a trained model", chiasm_encode::NANO), nano_table),
            ("Right words in the wrong places".to_owned(), format!("{}\n\n{again}", describe_exchanged(&exchanged))),
        ],
    };
    std::fs::write(&page, sheet.to_html()).with_context(|| format!("cannot write {}", shown(&page)))?;

    if ui.json {
        ui.print_json(&serde_json::json!({
            "world": args.dir, "library": library.dir(), "page": page, "wall_s": began.elapsed().as_secs_f64(),
            "heldout": figures, "heldout_nano": of_nano,
            "looked_at_again": again,
            "told_apart": exchanged.iter().map(|(name, of)| serde_json::json!({ "space": name, "exchanged": of })).collect::<Vec<_>>(),
        }))?;
    }
    farewell(args, &world, &library, &page, began, ui)?;
    check_floor(args.require, &figures)
}

/// A line of the story; with `--json` stdout belongs to the document, so the story is left out.
fn say(ui: &Ui, text: &str) -> anyhow::Result<()> {
    if !ui.json {
        ui.print(format_args!("{text}\n"))?;
    }
    Ok(())
}

fn make_library(dir: &Path, space: &Space, ui: &Ui) -> anyhow::Result<Library> {
    let place = dir.join(".chiasm");
    // A library of an earlier run may belong to another space; it holds nothing that is not made again here.
    if place.exists() {
        std::fs::remove_dir_all(&place).with_context(|| format!("cannot replace the earlier library {}", shown(&place)))?;
    }
    let library = Library::create(&place, space)?;
    let folders = ["pictures", "sounds", "texts", "series"].map(|folder| dir.join(folder));
    let report = library.index(&folders, &IndexOptions::default(), ui, &ui.cancel)?;
    ui.cancel.check()?;
    say(ui, &format!("A library of {} in {}.", count(report.n_new, "item"), duration(report.wall_s)))?;
    Ok(library)
}

/// The questions: each takes the first held-out scenes as they come, none is picked for its answer.
fn tour(world: &World, library: &Library, ui: &Ui) -> anyhow::Result<Vec<Section>> {
    let mut seen = world.heldout().filter(|item| !item.unseen_combination);
    let mut unseen = world.heldout().filter(|item| item.unseen_combination);
    let mut next = || seen.next().context("the world holds too few held-out scenes");
    let questions = [
        ("text → picture", next()?, Asked::Text, Modality::Image),
        ("Chinese text → picture", next()?, Asked::Chinese, Modality::Image),
        ("picture → sound", next()?, Asked::Picture, Modality::Audio),
        ("sound → picture", next()?, Asked::Sound, Modality::Image),
        ("series → text", next()?, Asked::Series, Modality::Text),
        (
            "a combination never seen in training: text → picture",
            unseen.next().context("the world holds no unseen combination")?,
            Asked::Text,
            Modality::Image,
        ),
    ];
    questions.into_iter().map(|(title, item, asked, kind)| ask(title, item, asked, kind, world, library, ui)).collect()
}

/// Which face of a scene is the question.
#[derive(Clone, Copy)]
enum Asked {
    Text,
    Chinese,
    Picture,
    Sound,
    Series,
}

fn ask(
    title: &str,
    item: &Item,
    asked: Asked,
    kind: Modality,
    world: &World,
    library: &Library,
    ui: &Ui,
) -> anyhow::Result<Section> {
    let (media, file) = match asked {
        Asked::Text => (Media::Text(item.text.clone()), None),
        Asked::Chinese => (Media::Text(item.text_zh.clone()), None),
        Asked::Picture => from_file(world, &item.image)?,
        Asked::Sound => from_file(world, &item.audio)?,
        Asked::Series => from_file(world, &item.series)?,
    };
    let query = Card {
        kind: media.modality(),
        href: file.as_deref().and_then(|f| relative_href(&world.dir, f)),
        text: match asked {
            Asked::Chinese => item.text_zh.clone(),
            Asked::Text | Asked::Picture | Asked::Sound | Asked::Series => item.text.clone(),
        },
        channels: channels(&media),
        score: None,
        right: None,
    };
    let request =
        SearchRequest { query: Query::of(QueryMedia::Media(media)), k: N_SHOWN, kinds: vec![kind], ..SearchRequest::default() };
    let reply = library.search(&request)?;

    let shown_query = match &file {
        Some(file) => format!("{}  ({})", shown(file.strip_prefix(&world.dir).unwrap_or(file)), item.text),
        None => format!("\"{}\"", query.text),
    };
    say(ui, &format!("\n{}  {}", ui.paint(Paint::Bold, title), escape(&shown_query)))?;
    let mut hits = Vec::with_capacity(reply.hits.len());
    for (i, hit) in reply.hits.iter().enumerate() {
        let found = scene_of(hit, world);
        let right = found.is_some_and(|f| f.number == item.number);
        let caption = found.map_or("", |f| f.text.as_str());
        let text = if kind == Modality::Text { hit.snippet.clone().unwrap_or_default() } else { caption.to_owned() };
        let place = hit.path.strip_prefix(world.dir.canonicalize().as_deref().unwrap_or(&world.dir)).unwrap_or(&hit.path);
        let mark = if right { ui.paint(Paint::Good, "✓") } else { " ".to_owned() };
        say(ui, &format!("  {}. {:.3} {mark} {:<22} {}", i + 1, hit.score, shown(place), escape(&text)))?;
        let href = relative_href(Path::new(""), place);
        hits.push(Card { kind, href, text, channels: Vec::new(), score: Some(hit.score), right: Some(right) });
    }
    Ok(Section { title: title.to_owned(), query, hits })
}

fn from_file(world: &World, file: &Path) -> anyhow::Result<(Media, Option<PathBuf>)> {
    let path = world.dir.join(file);
    Ok((load_media(&path, &Limits::default())?, Some(path)))
}

/// The channels of a series; nothing for other media.
fn channels(media: &Media) -> Vec<Vec<f32>> {
    let Media::Series(series) = media else { return Vec::new() };
    (0..series.n_channels).map(|c| series.values.iter().skip(c).step_by(series.n_channels).copied().collect()).collect()
}

/// The scene a hit belongs to, by its file name: `pictures/0042.png`, `texts/0042.en.txt`.
fn scene_of<'a>(hit: &Found, world: &'a World) -> Option<&'a Item> {
    let number: usize = hit.path.file_name()?.to_str()?.split('.').next()?.parse().ok()?;
    world.items.iter().find(|item| item.number == number)
}

/// Every ordered pair of kinds on the held-out scenes: the gallery is the held-out part alone, as in the field's tables.
fn heldout_figures(world: &World, space: &Space, ui: &Ui) -> anyhow::Result<CrossTable> {
    let mut sets: Vec<(Modality, Vectors, Vec<u32>)> = Vec::new();
    for modality in Modality::ALL {
        let mut media = Vec::new();
        let mut scenes = Vec::new();
        for item in world.heldout() {
            ui.cancel.check()?;
            let number = u32::try_from(item.number).context("a scene number beyond u32")?;
            let mut add = |m: Media| {
                media.push(m);
                scenes.push(number);
            };
            match modality {
                Modality::Image => add(from_file(world, &item.image)?.0),
                Modality::Audio => add(from_file(world, &item.audio)?.0),
                Modality::Series => add(from_file(world, &item.series)?.0),
                Modality::Video | Modality::Shape => {} // the world has none
                Modality::Text => {
                    add(Media::Text(item.text.clone()));
                    add(Media::Text(item.text_zh.clone()));
                }
            }
        }
        if !media.is_empty() {
            sets.push((modality, space.embed(&media)?, scenes));
        }
    }
    let config = EvalConfig::default();
    let mut reports = Vec::new();
    for (from, queries, query_scenes) in &sets {
        for (to, base, base_scenes) in sets.iter().filter(|(to, ..)| to != from) {
            // Laid out as a library ranks them.
            let (queries, base) = (space.as_query(*from, queries)?, space.as_gallery(*to, base)?);
            let query = Side { name: from.as_str(), vectors: &queries, groups: query_scenes, labels: None };
            let gallery = Side { name: to.as_str(), vectors: &base, groups: base_scenes, labels: None };
            reports.push(judge(query, gallery, space.ranking_metric())?.report(&config));
        }
    }
    Ok(CrossTable { reports })
}

/// How well captions are told from captions that are wrong by one exchange: the same words, about another picture.
#[derive(Clone, Debug, serde::Serialize)]
struct ToldApart {
    /// What is exchanged.
    what: Swap,
    /// Whether the scenes hold a combination of colour and shape never shown in training.
    unseen: bool,
    /// Share of the pictures that are closer to the right caption; .5 is chance.
    right: f64,
    n: usize,
}

/// What tells a right caption from a wrong one.
enum Judge<'a> {
    /// How close they are to the picture.
    Space(&'a Space),
    /// Each is read with the picture before it.
    Reader(&'a dyn CrossEncoder),
}

impl Judge<'_> {
    /// For how many pictures the right caption comes before the wrong one.
    fn right(&self, pictures: Vec<Image>, captions: &[[String; 2]]) -> anyhow::Result<usize> {
        match self {
            Judge::Reader(reader) => {
                let mut right = 0;
                for (picture, captions) in pictures.into_iter().zip(captions) {
                    let scores = reader.score_texts(&Picture::Pixels(picture), &captions.each_ref().map(String::as_str))?;
                    right += usize::from(scores[0] > scores[1]);
                }
                Ok(right)
            }
            Judge::Space(space) => {
                let n = pictures.len();
                let pictures: Vec<Media> = pictures.into_iter().map(Media::Image).collect();
                let pictures = space.as_query(Modality::Image, &space.embed(&pictures)?)?;
                let texts: Vec<Media> = captions.iter().flatten().cloned().map(Media::Text).collect();
                let texts = space.as_gallery(Modality::Text, &space.embed(&texts)?)?;
                let score = |i: usize, which: usize| dot(pictures.row(i), texts.row(2 * i + which));
                Ok((0..n).filter(|i| score(*i, 0) > score(*i, 1)).count())
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn picture_of(world: &World, item: &Item) -> anyhow::Result<Image> {
    let media = from_file(world, &item.image)?.0;
    let Media::Image(image) = media else {
        anyhow::bail!("{}: {} came, expected a picture", shown(&item.image), media.modality());
    };
    Ok(image)
}

fn told_apart(world: &World, judge: &Judge<'_>, ui: &Ui) -> anyhow::Result<Vec<ToldApart>> {
    let mut all = Vec::new();
    for (what, unseen) in Swap::ALL.iter().flat_map(|swap| [(*swap, false), (*swap, true)]) {
        ui.cancel.check()?;
        let items = world.heldout().filter(|item| item.unseen_combination == unseen);
        let (mut pictures, mut captions) = (Vec::new(), Vec::new());
        for (item, exchanged) in items.filter_map(|item| Some((item, item.scene.swapped(what)?))) {
            pictures.push(picture_of(world, item)?);
            let [wrong, _] = chiasm_world::captions(&exchanged, world.config.seed, item.number);
            captions.push([item.text.clone(), wrong]);
        }
        let n = pictures.len();
        all.push(ToldApart { what, unseen, right: judge.right(pictures, &captions)? as f64 / n.max(1) as f64, n });
    }
    Ok(all)
}

/// Places that are looked at again.
const N_AGAIN: usize = 20;

/// How well captions find their pictures, before and after the first [`N_AGAIN`] are looked at again.
#[derive(Clone, Debug, serde::Serialize)]
struct Again {
    /// Share of the captions whose picture comes first, by the embeddings.
    before: f64,
    /// Likewise when the first were looked at again.
    after: f64,
    /// Captions.
    n: usize,
    /// Pictures among which they look.
    among: usize,
}

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Of {} captions {:.1} % find their picture first among {} by {}'s embeddings, {:.1} % when it looks at the first {N_AGAIN} again\n\
             with the caption at hand (`chiasm search --rerank {}`).",
            self.n,
            100.0 * self.before,
            self.among,
            chiasm_encode::NANO,
            100.0 * self.after,
            chiasm_encode::NANO
        )
    }
}

fn looked_at_again(world: &World, space: &Space, reader: &dyn CrossEncoder, ui: &Ui) -> anyhow::Result<Again> {
    let pictures = world.heldout().map(|item| picture_of(world, item)).collect::<anyhow::Result<Vec<_>>>()?;
    let texts: Vec<&str> = world.heldout().flat_map(|item| [item.text.as_str(), item.text_zh.as_str()]).collect();
    let gallery: Vec<Media> = pictures.iter().cloned().map(Media::Image).collect();
    let gallery = space.as_gallery(Modality::Image, &space.embed(&gallery)?)?;
    let queries: Vec<Media> = texts.iter().map(|text| Media::Text((*text).to_owned())).collect();
    let queries = space.as_query(Modality::Text, &space.embed(&queries)?)?;
    let found: Vec<Vec<usize>> = queries
        .rows()
        .map(|query| {
            let mut order: Vec<usize> = (0..pictures.len()).collect();
            order.sort_by(|a, b| dot(query, gallery.row(*b)).total_cmp(&dot(query, gallery.row(*a))));
            order.truncate(N_AGAIN);
            order
        })
        .collect();
    // Picture by picture: each is seen once for all texts that found it.
    let mut best: Vec<Option<(chiasm_core::Score, usize)>> = vec![None; texts.len()];
    for (picture, pixels) in pictures.into_iter().enumerate() {
        ui.cancel.check()?;
        let asked: Vec<usize> = (0..texts.len()).filter(|text| found[*text].contains(&picture)).collect();
        let scores =
            reader.score_texts(&Picture::Pixels(pixels), &asked.iter().map(|text| texts[*text]).collect::<Vec<_>>())?;
        for (text, score) in asked.into_iter().zip(scores) {
            if best[text].is_none_or(|(other, _)| score > other) {
                best[text] = Some((score, picture));
            }
        }
    }
    let share = |first: &dyn Fn(usize) -> Option<usize>| {
        (0..texts.len()).filter(|text| first(*text) == Some(text / 2)).count() as f64 / texts.len().max(1) as f64
    };
    Ok(Again {
        before: share(&|text| found[text].first().copied()),
        after: share(&|text| best[text].map(|(_, picture)| picture)),
        n: texts.len(),
        among: gallery.n(),
    })
}

fn describe_exchanged(spaces: &[(&str, Vec<ToldApart>)]) -> String {
    let mut text = "Right words in the wrong places: how often a picture is closer to its own caption than to one with something exchanged,\n\
                    as \"a red star above a blue heart\" for \"a blue star above a red heart\" (chance is 50):\n\n"
        .to_owned();
    let first = spaces.first().map_or(&[][..], |(_, all)| all);
    text += &format!("{:<42}", "");
    spaces.iter().for_each(|(name, _)| text += &format!("{name:>14}"));
    for (at, row) in first.iter().enumerate() {
        let unseen = if row.unseen { ", unseen combinations" } else { "" };
        let what = format!("{:?}{unseen}", row.what).to_lowercase();
        text += &format!("\n{:<42}", format!("{what} ({} scenes)", row.n));
        spaces.iter().for_each(|(_, all)| text += &format!("{:>14.1}", 100.0 * all[at].right));
    }
    text
}

fn check_floor(floor: Option<f64>, figures: &CrossTable) -> anyhow::Result<ExitCode> {
    let Some(floor) = floor else { return Ok(ExitCode::SUCCESS) };
    for report in &figures.reports {
        let got = report.value("R@10").context("the report lacks R@10")?;
        anyhow::ensure!(got >= floor, "{}: R@10 is {got:.3} on the held-out part, required is {floor:.3}", report.title);
    }
    Ok(ExitCode::SUCCESS)
}

fn farewell(args: &DemoArgs, world: &World, library: &Library, page: &Path, began: Instant, ui: &Ui) -> anyhow::Result<()> {
    let place = shown(library.dir());
    let sound = world.heldout().next().map(|item| world.dir.join(&item.audio)).unwrap_or_default();
    let program = if std::env::var_os("CARGO").is_some() { "cargo run --release --" } else { "chiasm" };
    say(
        ui,
        &format!(
            "\nAll in {}. Look at the hits: {}\nThe library lies in {place}. Try next:\n\
             \x20 {program} search --library {place} \"two small red stars\"\n\
             \x20 {program} search --library {place} \"a small blue ring above two red squares\" --kind image --rerank {nano}\n\
             \x20 {program} search --library {place} --audio {} --kind image\n\
             \x20 {program} index --library {place} {}",
            duration(began.elapsed().as_secs_f64()),
            shown(page),
            shown(&sound),
            shown(&args.dir.join("pictures")),
            nano = chiasm_encode::NANO,
        ),
    )
}
