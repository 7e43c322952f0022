//! The outcomes as a document.

use std::fmt::Write;

use crate::protocol::{Database, FOLDS, Figures, Outcome, Point, Tuning};
use crate::published;
use crate::task::Task;

/// What a whole run gave, set by set.
pub struct Section {
    /// The set.
    pub task: Task,
    /// One for each method and database, in the order of the plan.
    pub outcomes: Vec<Outcome>,
    /// Methods that refused, and why.
    pub refused: Vec<(String, String)>,
    /// Hashing with some classes known.
    pub labelled: Vec<Point>,
    /// Rows that come in chunks.
    pub stream: Vec<Point>,
}

/// The document: `command` is what makes it again.
pub fn document(sections: &[Section], command: &str) -> String {
    let mut out = format!(
        "# Results\n\n*Written by `{command}`; not edited by hand.*\n\n\
         MAP is over the whole ranking, divided by all relevant items, with its 95 % bootstrap interval over queries. Equal scores stand in \
         the order of the gallery; `ties` is MAP's expectation over all orders of the tied, where it differs. `@50` is the mean average \
         precision of the first 50 divided by the hits among them, as the hashing literature has it. R@1 and R@10 count queries with a right \
         answer that early. Chance is exact. *CV*: hyper-parameters chosen by {FOLDS}-fold cross-validation on the training part; *stated*: as a \
         paper or the data's description states them, or as this program's defaults; *on cca*: preprocessing, axes, ridges and weights are those that \
         cross-validation on the training part chose for `cca`, as which the towers begin, all else is stated, and how long to train is found on a part of the \
         training part. *Correlation*: that of each coordinate of one view with its partner of the other on the test part, added up over the coordinates. Methods that draw lots are fitted with several seeds where so asked: *±* is the standard deviation \
         of so many fits, and the figure before it their mean. R-sum adds up R@1, R@5 and R@10 of both directions. *Of folds*: the same hyper-parameters on {FOLDS} folds of the training part, each searched by what \
         the others taught; by these figures one may choose, the galleries being smaller. Published figures carry their source's mark: S read in a public copy, R re-measured \
         from the equations on the same features, U remembered and unproven. Time and memory are those of one fit without the choice of \
         hyper-parameters; memory is what the process took on top.\n"
    );
    for section in sections {
        let _ = write!(out, "\n## {}\n\n{}\n", section.task.title, section.task.protocol);
        real_valued(&mut out, section);
        codes(&mut out, section);
        points(
            &mut out,
            "Classes of some rows only",
            "32 bits at most, codes of the training part per view, by the share of training rows whose classes are known: `ssh` learns from the \
             pairing of the others too (eta 1), `scm-seq` from the labelled rows alone.",
            &section.labelled,
        );
        points(
            &mut out,
            "Rows that come in chunks",
            "By the share of training rows that have come: `cca` from sums (ridge .01, weighted by correlation; gallery: the test part), and \
             hashing to a codebook of 32 bits whose codes stay once given (gallery: the codes given so far).",
            &section.stream,
        );
        for (method, why) in &section.refused {
            let _ = write!(out, "\n{method} refuses this set: {why}.\n");
        }
        hyper_parameters(&mut out, section);
    }
    out
}

fn real_valued(out: &mut String, section: &Section) {
    let rows: Vec<&Outcome> = section.outcomes.iter().filter(|o| o.bits.is_none()).collect();
    let Some(first) = rows.first() else { return };
    if let Some(chance) = first.figures.first() {
        let _ = write!(out, "\nChance: {}.\n", chances(&first.figures, chance));
    }
    let directions = |o: &Outcome| o.figures.iter().map(|f| f.direction.clone()).collect::<Vec<_>>();
    if first.figures.len() > 2 || rows.iter().any(|o| directions(o) != directions(first)) {
        every_direction(out, &rows);
        return;
    }
    let (a, b) = (&first.figures[0].direction, &first.figures[1].direction);
    let asked = section.task.correlations;
    let mut heads: Vec<String> = asked.iter().map(|k| format!(" correlation of {k} |")).collect();
    let folds = rows.iter().any(|o| o.folds.is_some());
    if folds {
        let what = if section.task.train.labels.is_some() { "MAP" } else { "R-sum" };
        heads.push(format!(" {what} of folds |"));
    }
    let (head, rule) = (heads.concat(), " --- |".repeat(heads.len()));
    let _ = write!(
        out,
        "\n| method |{head} {a} MAP | {b} MAP | published (source, mark) | @50 | R@1 | R@10 | R-sum | fit, s (CPU) | MiB |\n| --- |{rule} --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for o in rows {
        let (x, y) = (&o.figures[0], &o.figures[1]);
        let _ = writeln!(
            out,
            "| {} |{}{} {} | {} | {} | {:.3} / {:.3} | {} / {} | {} / {} | {:.1} | {} | {} |",
            name(o),
            asked.map_or(String::new(), |_| format!(" {} |", correlation(o))),
            if folds { format!(" {} |", of_folds(section, o)) } else { String::new() },
            map(x),
            map(y),
            published_of(section.task.key, o),
            x.map_at_50,
            y.map_at_50,
            hits(x, 0),
            hits(y, 0),
            hits(x, 2),
            hits(y, 2),
            100.0 * x.hits.iter().chain(&y.hits).sum::<f64>(),
            time(o),
            memory(o)
        );
    }
}

/// As the columns beside it tell the test part: MAP by classes, else the sum of six shares of which the figure is the mean.
fn of_folds(section: &Section, o: &Outcome) -> String {
    let told =
        |mean: f64| if section.task.train.labels.is_some() { format!("{mean:.4}") } else { format!("{:.1}", 600.0 * mean) };
    o.folds.map_or(String::new(), told)
}

fn correlation(o: &Outcome) -> String {
    o.correlation.map_or(String::new(), |c| c.deviation.map_or(format!("{:.2}", c.sum), |d| format!("{:.2} ± {d:.2}", c.sum)))
}

fn every_direction(out: &mut String, rows: &[&Outcome]) {
    let _ = write!(
        out,
        "\n| method | direction | MAP | R@1 | R@5 | R@10 | fit, s (CPU) | MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for o in rows {
        for (i, f) in o.figures.iter().enumerate() {
            let once = |text: String| if i == 0 { text } else { String::new() };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                once(name(o)),
                f.direction,
                map(f),
                hits(f, 0),
                hits(f, 1),
                hits(f, 2),
                once(time(o)),
                once(memory(o))
            );
        }
    }
}

fn codes(out: &mut String, section: &Section) {
    let rows: Vec<&Outcome> = section.outcomes.iter().filter(|o| o.bits.is_some()).collect();
    let Some(first) = rows.first() else { return };
    let (a, b) = (&first.figures[0].direction, &first.figures[1].direction);
    let _ = write!(
        out,
        "\n### Binary codes\n\nDatabase codes: *per view*, each item by the function of its own kind; *shared*, one code for both kinds of a \
         pair that took part in the fit. `lookup` is precision / recall of everything within Hamming radius 2, queries that find nothing there \
         counting 0.\n\n| method | bits | database | {a} MAP | {b} MAP | ties | published (source, mark) | @50 | lookup {a} | lookup {b} | fit, s \
         (CPU) | MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for o in rows {
        let (x, y) = (&o.figures[0], &o.figures[1]);
        let lookup = |f: &Figures| f.radius_2.map_or(String::new(), |[p, r, _]| format!("{p:.3} / {r:.3}"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.4} / {:.4} | {} | {:.3} / {:.3} | {} | {} | {} | {} |",
            name(o),
            o.bits.unwrap_or_default(),
            if o.database == Database::Shared { "shared" } else { "per view" },
            map(x),
            map(y),
            x.map_over_ties,
            y.map_over_ties,
            published_of(section.task.key, o),
            x.map_at_50,
            y.map_at_50,
            lookup(x),
            lookup(y),
            time(o),
            memory(o)
        );
    }
}

/// A line for each method and direction, a column for each place.
fn points(out: &mut String, title: &str, words: &str, points: &[Point]) {
    let Some(first) = points.first() else { return };
    let mut methods: Vec<&str> = points.iter().map(|p| p.method).collect();
    methods.sort_unstable();
    methods.dedup();
    let of = |method: &str| points.iter().filter(|p| p.method == method).collect::<Vec<_>>();
    let places = of(first.method);
    let heads: Vec<String> = places.iter().map(|p| format!("{:.0} %", 100.0 * p.at)).collect();
    let _ = write!(
        out,
        "\n### {title}\n\n{words}\n\n| method | MAP | {} |\n| --- | --- |{}\n",
        heads.join(" | "),
        " --- |".repeat(heads.len())
    );
    for method in methods {
        for (direction, word) in ["first view searches second", "second searches first"].iter().enumerate() {
            let cells: Vec<String> = of(method).iter().map(|p| format!("{:.4}", p.map[direction])).collect();
            let _ = writeln!(out, "| {method} | {word} | {} |", cells.join(" | "));
        }
    }
}

fn hyper_parameters(out: &mut String, section: &Section) {
    let _ = write!(out, "\n<details><summary>Hyper-parameters</summary>\n\n");
    let mut said = std::collections::BTreeSet::new();
    for o in section.outcomes.iter().filter(|o| !o.parameters.is_empty()) {
        let parameters: Vec<String> = o.parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let bits = o.bits.map_or(String::new(), |bits| format!(", {bits} bits"));
        let line = format!("- {}{bits}: {}\n", name(o), parameters.join("; "));
        if said.insert(line.clone()) {
            out.push_str(&line);
        }
    }
    out.push_str("\n</details>\n");
}

fn name(o: &Outcome) -> String {
    let how = match (o.method, o.tuning) {
        ("none", _) => "",
        (_, Tuning::CrossValidated) => ", CV",
        (_, Tuning::OnCca) => ", on cca",
        (_, Tuning::Stated) => ", stated",
    };
    let variant = if o.variant.is_empty() { String::new() } else { format!(" ({})", o.variant) };
    format!("{}{variant}{how}", o.method)
}

/// A share of [`Figures::hits`] in per cent.
fn hits(f: &Figures, which: usize) -> String {
    let deviation = f.seeds.map_or(String::new(), |seeds| format!(" ± {:.1}", 100.0 * seeds.hits[which]));
    format!("{:.1}{deviation}", 100.0 * f.hits[which])
}

fn map(f: &Figures) -> String {
    if let Some(seeds) = f.seeds {
        return format!("{:.4} ± {:.4}", f.map, seeds.map);
    }
    f.interval.map_or(format!("{:.4}", f.map), |(low, high)| format!("{:.4} [{low:.3}, {high:.3}]", f.map))
}

fn time(o: &Outcome) -> String {
    o.cost.cpu_s.map_or(format!("{:.2}", o.cost.wall_s), |cpu| format!("{:.2} ({cpu:.2})", o.cost.wall_s))
}

fn memory(o: &Outcome) -> String {
    o.cost.extra_mib.map_or("-".to_owned(), |mib| format!("{mib:.0}"))
}

fn published_of(task: &str, o: &Outcome) -> String {
    let of = |p: &published::Published| format!("{:.4} / {:.4} ({}, {})", p.map[0], p.map[1], p.source, p.mark);
    let mut all: Vec<String> = published::find(task, o.method, o.bits).iter().map(of).collect();
    let at_50 =
        published::CMFH_AT_50.iter().find(|(bits, _)| task == "wikipedia" && o.method == "cmfh" && o.bits == Some(*bits));
    all.extend(at_50.map(|(_, [a, b])| format!("@50 {a:.3} / {b:.3} (DJSRH's table, S)")));
    all.join("; ")
}

fn chances(figures: &[Figures], first: &Figures) -> String {
    match figures {
        [a, b] => format!("{:.4} / {:.4}", a.chance, b.chance),
        _ => format!("{:.4}", first.chance),
    }
}
