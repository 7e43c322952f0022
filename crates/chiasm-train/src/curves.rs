//! Pages with the curves of a training: one HTML file, with nothing from elsewhere.

use std::fmt::Write as _;

use crate::log::Line;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 44.0;
/// Points of a curve at most: of more, means of neighbours.
const POINTS: usize = 600;
const COLOURS: [&str; 8] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2"];

/// One curve.
pub(crate) struct Curve {
    /// What it is of.
    pub(crate) name: String,
    /// Across, in rising order, and up. A point that is no number is left out.
    pub(crate) points: Vec<[f64; 2]>,
}

/// The page of a run of [`crate::train`].
pub(crate) fn page_of_run(title: &str, lines: &[Line]) -> String {
    let of_steps = |value: &dyn Fn(&Line) -> Option<f64>| {
        let points = lines.iter().filter_map(|line| match line {
            Line::Step { step, .. } => Some([*step as f64, value(line)?]),
            Line::Validation { .. } => None,
        });
        thinned(points.collect())
    };
    let mut directions: Vec<Curve> = Vec::new();
    let mut swaps: Vec<Curve> = Vec::new();
    let mut last = String::new();
    for line in lines {
        let Line::Validation { step, epoch, figure, directions: of_each, swaps: of_swaps, .. } = line else { continue };
        for d in of_each {
            add(&mut directions, format!("{} → {}", d.from, d.to), [*step as f64, d.recall[0]]);
        }
        for s in of_swaps {
            add(&mut swaps, format!("{} in {}", s.what, s.media), [*step as f64, s.right]);
        }
        last = format!(
            "<p>Epoch {epoch}, step {step}: mean reciprocal rank {figure:.3}.</p><table><tr><th>direction<th>R@1<th>R@5<th>R@10<th>MRR<th>queries<th>among"
        );
        for d in of_each {
            let [a, b, c] = d.recall;
            let _ = write!(
                last,
                "<tr><td>{} → {}<td>{a:.3}<td>{b:.3}<td>{c:.3}<td>{:.3}<td>{}<td>{}",
                escaped(&d.from),
                escaped(&d.to),
                d.mrr,
                d.n_queries,
                d.n_gallery
            );
        }
        last.push_str("</table>");
    }
    let single = |name: &str, points: Vec<[f64; 2]>| vec![Curve { name: name.to_owned(), points }];
    let loss = of_steps(&|line| if let Line::Step { loss, .. } = line { Some(*loss) } else { None });
    let rate = of_steps(&|line| if let Line::Step { rate, .. } = line { Some(*rate) } else { None });
    let speed = of_steps(&|line| if let Line::Step { items_per_s, .. } = line { Some(*items_per_s) } else { None });
    let plots = [
        ("Loss", single("loss", loss)),
        ("R@1 of what was set aside", directions),
        ("Right text before one that is wrong by an exchange (.5 is chance)", swaps),
        ("Learning rate", single("rate", rate)),
        ("Things per second", single("things/s", speed)),
    ];
    page(title, &last, &plots.map(|(title, curves)| (title.to_owned(), curves)))
}

/// A page of plots, each a title and its curves; plots without a point are left out. `head` is HTML that stands before them.
pub(crate) fn page(title: &str, head: &str, plots: &[(String, Vec<Curve>)]) -> String {
    let mut body = String::new();
    for (title, curves) in plots {
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            let _ = write!(body, "<h2>{}</h2>{}", escaped(title), plot(curves));
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:15px system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}}h2{{font-size:1rem;margin:1.6rem 0 .3rem}}\
         svg{{width:100%;height:auto}}table{{border-collapse:collapse}}td,th{{padding:.15rem .7rem .15rem 0;text-align:left}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}text{{fill:#ccc}}}}</style><h1>{title}</h1>{head}{body}</html>\n",
        title = escaped(title)
    )
}

fn add(curves: &mut Vec<Curve>, name: String, point: [f64; 2]) {
    match curves.iter_mut().find(|curve| curve.name == name) {
        Some(curve) => curve.points.push(point),
        None => curves.push(Curve { name, points: vec![point] }),
    }
}

/// Means of neighbours, so that a page of a long run stays small.
fn thinned(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let size = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[[f64; 2]]| [0, 1].map(|at| part.iter().map(|p| p[at]).sum::<f64>() / part.len() as f64);
    points.chunks(size).map(mean).collect()
}

fn plot(curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points).filter(|p| p[1].is_finite());
    let ends =
        |at: usize| all().fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], p| [least.min(p[at]), most.max(p[at])]);
    let ([x0, x1], [y0, y1]) = (ends(0), ends(1));
    let y0 = y0.min(0.0);
    let spread = |least: f64, most: f64| if most > least { most - least } else { 1.0 };
    let x = |v: f64| MARGIN + (v - x0) / spread(x0, x1) * (WIDTH - 2.0 * MARGIN);
    let y = |v: f64| HEIGHT - 24.0 - (v - y0) / spread(y0, y1) * (HEIGHT - 44.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", HEIGHT + 18.0 * curves.len().div_ceil(3) as f64);
    for part in 0..=4 {
        let value = y0 + (y1 - y0) * f64::from(part) / 4.0;
        let at = y(value);
        let _ = write!(
            svg,
            "<path d=\"M{MARGIN} {at:.1}H{:.1}\" stroke=\"#8884\"/><text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"end\">{}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            at + 4.0,
            short(value)
        );
    }
    for end in [x0, x1] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\">{}</text>",
            x(end),
            HEIGHT - 6.0,
            short(end)
        );
    }
    for (i, curve) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        // More curves than colours: the second round is broken lines.
        let dash = if i / COLOURS.len() % 2 == 1 { " stroke-dasharray=\"6 3\"" } else { "" };
        let points: Vec<String> =
            curve.points.iter().filter(|p| p[1].is_finite()).map(|p| format!("{:.1},{:.1}", x(p[0]), y(p[1]))).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>",
            points.join(" ")
        );
        let (column, line) = (i % 3, i / 3);
        let (left, top) = (MARGIN + 220.0 * column as f64, HEIGHT + 12.0 + 18.0 * line as f64);
        let _ = write!(
            svg,
            "<path d=\"M{left} {}h18\" stroke=\"{colour}\" stroke-width=\"3\"{dash}/><text x=\"{}\" y=\"{top}\" font-size=\"12\">{}</text>",
            top - 4.0,
            left + 24.0,
            escaped(&curve.name)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 0.01 => format!("{value:.1e}"),
        v if v < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
