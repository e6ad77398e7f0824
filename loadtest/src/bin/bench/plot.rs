//! The plot: hits a second in and out, and how many wait between, over the end-to-end rounds.

use std::fmt::Write as _;

use crate::figures::Course;

const WIDE: f64 = 960.0;
const TALL: f64 = 360.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 30.0;

struct Line {
    name: &'static str,
    colour: &'static str,
    /// Seconds and value.
    points: Vec<(f64, f64)>,
}

impl Line {
    fn new(
        name: &'static str,
        colour: &'static str,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Line {
        Line {
            name,
            colour,
            points: points.into_iter().collect(),
        }
    }
}

/// Draws it as SVG.
pub(crate) fn svg(course: &Course) -> String {
    let rates = |count: fn(&loadtest::rig::collector::Counters) -> u64| -> Vec<(f64, f64)> {
        let pairs = course.0.windows(2).filter_map(|pair| {
            let [(from, before), (to, after)] = pair else {
                return None;
            };
            let seconds = to.checked_sub(*from)?.as_secs_f64();
            let more = count(after).saturating_sub(count(before));
            (seconds > 0.05).then(|| (to.as_secs_f64(), float(more) / seconds))
        });
        pairs.collect()
    };
    let waiting = course.0.iter().map(|(at, counters)| {
        let waiting = counters.answered.saturating_sub(counters.loaded);
        (at.as_secs_f64(), float(waiting))
    });
    let lines = [
        Line::new(
            "answered a second",
            "#1f6feb",
            rates(|counters| counters.answered),
        ),
        Line::new(
            "loaded a second",
            "#2da44e",
            rates(|counters| counters.loaded),
        ),
        Line::new("waiting", "#cf222e", waiting),
    ];
    draw(&lines)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 hits")]
fn float(count: u64) -> f64 {
    count as f64
}

fn draw(lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let seconds = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let most = points().map(|(_, value)| *value).fold(1.0, f64::max);
    let step = 10_f64.powf(most.log10().floor()) / 2.0;
    let x = |at: f64| LEFT + at / seconds * (WIDE - LEFT - 20.0);
    let y = |value: f64| TALL - BOTTOM - value / most * (TALL - BOTTOM - TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDE} {TALL}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDE}\" height=\"{TALL}\" fill=\"white\"/>\n"
    );
    let mut add = |text: String| out.write_str(&text).expect("a String takes any text");
    let mut level = 0.0;
    while level <= most {
        add(format!(
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{level:.0}</text>\n",
            y = y(level),
            right = WIDE - 20.0,
            x = LEFT - 6.0,
        ));
        level += step;
    }
    add(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{seconds:.0} s</text>\n",
        WIDE - 20.0,
        TALL - 14.0
    ));
    let mut at = LEFT;
    for Line {
        name,
        colour,
        points,
    } in lines
    {
        let path = points
            .iter()
            .map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value)));
        let path: Vec<String> = path.collect();
        if !path.is_empty() {
            add(format!(
                "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n",
                path.join("L")
            ));
        }
        add(format!(
            "<text x=\"{at}\" y=\"18\" fill=\"{colour}\">{name}</text>\n"
        ));
        at += 150.0;
    }
    add("</svg>\n".to_owned());
    out
}
