//! Plots as SVG, plain enough to be read in a page or a document.

use std::fmt::Write;

/// One line of a plot.
pub struct Line {
    /// What it is called.
    pub name: String,
    /// `(x, y)`, x ascending and above 0.
    pub points: Vec<(f64, f64)>,
    /// Whether it stands beside the line before it: in the same colour, dashed.
    pub beside: bool,
}

/// How a plot is drawn.
pub struct Axes {
    /// Above the plot.
    pub title: String,
    /// Below the horizontal axis, whose scale is logarithmic.
    pub x: String,
    /// Where that axis is marked, and with what; at every point's place when there are none.
    pub x_ticks: Vec<(f64, String)>,
    /// Beside the vertical axis.
    pub y: String,
    /// Whether the vertical scale is logarithmic too.
    pub log_y: bool,
}

const COLOURS: [&str; 10] =
    ["#1b6ca8", "#c8553d", "#3c8d53", "#8e5aa8", "#b8860b", "#2a9d9d", "#a83256", "#5b6b2f", "#555555", "#e07b39"];
/// Size of the picture, and where the field of the plot lies in it.
const SIZE: (f64, f64) = (780.0, 430.0);
const LEFT: f64 = 70.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 370.0;

/// The plot; lines without points are left out, and of none at all comes an empty field.
pub fn svg(axes: &Axes, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|l| &l.points);
    let scale_y = |y: f64| if axes.log_y { y.max(1e-12).log10() } else { y };
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low < high {
            (low, high)
        } else if low.is_finite() {
            (low - 0.5, high + 0.5)
        } else {
            (0.0, 1.0)
        }
    };
    let (x0, x1) = range(&mut points().map(|p| p.0.log10()));
    let (mut y0, mut y1) = range(&mut points().map(|p| scale_y(p.1)));
    let margin = 0.06 * (y1 - y0);
    (y0, y1) = (y0 - margin, y1 + margin);
    let place = |x: f64, y: f64| {
        (LEFT + (x.log10() - x0) / (x1 - x0) * (RIGHT - LEFT), BOTTOM - (scale_y(y) - y0) / (y1 - y0) * (BOTTOM - TOP))
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        SIZE.0,
        SIZE.1,
        escape(&axes.title)
    );
    let mut ticks = axes.x_ticks.clone();
    if ticks.is_empty() {
        let mut xs: Vec<f64> = points().map(|p| p.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        ticks = xs.into_iter().map(|x| (x, x.to_string())).collect();
    }
    for (x, mark) in ticks.iter().filter(|(x, _)| (x0..=x1).contains(&x.log10())) {
        let (at, _) = place(*x, 1.0);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 18.0,
            escape(mark)
        );
    }
    for tick in 0..=5 {
        let value = y0 + (y1 - y0) * f64::from(tick) / 5.0;
        let y = BOTTOM - (BOTTOM - TOP) * f64::from(tick) / 5.0;
        let shown = if axes.log_y { short(10f64.powf(value)) } else { format!("{value:.3}") };
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#eee\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{shown}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 42.0,
        escape(&axes.x),
        (TOP + BOTTOM) / 2.0,
        escape(&axes.y)
    );
    let mut n_colours = 0;
    for (i, line) in lines.iter().filter(|l| !l.points.is_empty()).enumerate() {
        n_colours += usize::from(!line.beside || i == 0);
        let colour = COLOURS[(n_colours - 1) % COLOURS.len()];
        // Past ten colours lines are told apart by their dashes.
        let dash = if n_colours > COLOURS.len() || line.beside { " stroke-dasharray=\"5 3\"" } else { "" };
        let at: Vec<(f64, f64)> = line.points.iter().map(|p| place(p.0, p.1)).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            path.join(" ")
        );
        for (x, y) in at {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let y = TOP + 10.0 + 17.0 * i as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            RIGHT + 14.0,
            RIGHT + 38.0,
            RIGHT + 44.0,
            y + 4.0,
            escape(&line.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_and_names() {
        let word = str::to_owned;
        let mut axes = Axes { title: word("MAP & bits"), x: word("bits"), x_ticks: Vec::new(), y: word("MAP"), log_y: false };
        let line = |name: &str, beside| Line { name: name.to_owned(), points: vec![(16.0, 0.2), (32.0, 0.3)], beside };
        let drawn = svg(&axes, &[line("a<b", false), line("c", true)]);
        assert!(drawn.contains("MAP &amp; bits") && drawn.contains("a&lt;b") && drawn.contains("<polyline"));
        assert_eq!((drawn.matches("<circle").count(), drawn.matches("dasharray").count()), (4, 2));
        assert!(!drawn.contains(COLOURS[1]));
        assert!(drawn.contains(">16</text>") && drawn.contains(">32</text>"));
        // Marks that are given stand for those of the points, and those outside the field are left out.
        axes.x_ticks = vec![(20.0, "twenty".to_owned()), (64.0, "beyond".to_owned())];
        let marked = svg(&axes, &[line("a", false)]);
        assert!(marked.contains(">twenty</text>") && !marked.contains(">16</text>") && !marked.contains("beyond"));
        assert!(!svg(&axes, &[]).contains("NaN"));
    }
}
