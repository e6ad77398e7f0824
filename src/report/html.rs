//! The report as one page: no script, no picture, no address of another server in it.

use std::fmt::Write as _;

use anyhow::Context as _;
use askama::Template;
use serde_json::Value;

use super::chapter::{CHAPTERS, ChapterRows, Chart};
use super::{Contents, show};

/// The size of a chart, in units of its `viewBox`.
const WIDTH: f64 = 720.0;
/// Where lines have their most, below their names, and where they have none, above the days.
const LINES_TOP: f64 = 34.0;
const LINES_BOTTOM: f64 = 190.0;
const LINES_HEIGHT: f64 = 218.0;
/// The height of a bar with the room around it, and where bars begin, right of their labels.
const BAR_HEIGHT: f64 = 26.0;
const BARS_LEFT: f64 = 190.0;
/// Room for the number after the longest bar.
const BARS_RIGHT: f64 = 110.0;
/// The most bars, and the most characters of a label.
const BARS_MAX: usize = 15;
const LABEL_CHARS_MAX: usize = 18;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    campaign: &'a str,
    first: String,
    last: String,
    read_at: &'a str,
    figures: Vec<Figure>,
    parts: Vec<Part>,
    /// The meaning of each column that is not its name.
    meanings: Vec<(&'static str, &'static str)>,
}

/// One of the large figures at the top.
struct Figure {
    name: &'static str,
    meaning: &'static str,
    value: String,
}

/// A chapter.
struct Part {
    title: &'static str,
    about: &'static str,
    heads: Vec<Head>,
    rows: Vec<Vec<Cell>>,
    /// An SVG, whose texts are escaped.
    chart: String,
}

/// The head of a column.
struct Head {
    name: &'static str,
    meaning: &'static str,
    is_number: bool,
}

struct Cell {
    text: String,
    is_number: bool,
}

/// Writes the page.
pub(super) fn write(contents: &Contents<'_>) -> anyhow::Result<String> {
    let mut chapters = CHAPTERS.iter().zip(&contents.rows);
    let figures = chapters.next().map(|(chapter, rows)| {
        let columns = chapter.columns.iter().zip(rows.iter().flatten());
        columns
            .map(|((name, meaning), value)| Figure {
                name,
                meaning,
                value: show_number(value),
            })
            .collect()
    });
    let parts = chapters.map(|(chapter, rows)| Part {
        title: chapter.title,
        about: chapter.about,
        heads: heads(chapter.columns, rows),
        rows: rows.iter().map(|row| cells(row)).collect(),
        chart: draw(chapter.chart, rows, chapter.columns),
    });
    let mut meanings: Vec<(&str, &str)> = Vec::new();
    for meaning in CHAPTERS.iter().flat_map(|chapter| chapter.columns) {
        if !meanings.contains(meaning) {
            meanings.push(*meaning);
        }
    }
    let page = Page {
        campaign: contents.campaign,
        first: contents.first.to_string(),
        last: contents.last.to_string(),
        read_at: &contents.read_at,
        figures: figures.unwrap_or_default(),
        parts: parts.collect(),
        meanings,
    };
    page.render().context("writing the page")
}

fn heads(columns: &'static [(&'static str, &'static str)], rows: &ChapterRows) -> Vec<Head> {
    let columns = columns.iter().enumerate();
    let head = |(at, (name, meaning)): (usize, &(&'static str, &'static str))| Head {
        name,
        meaning,
        is_number: rows.iter().all(|row| {
            row.get(at)
                .is_none_or(|value| value.is_number() || value.is_null())
        }),
    };
    columns.map(head).collect()
}

fn cells(row: &[Value]) -> Vec<Cell> {
    let cell = |value: &Value| Cell {
        text: show_number(value),
        is_number: value.is_number() || value.is_null(),
    };
    row.iter().map(cell).collect()
}

/// Returns a value with a thin space after each three digits of a whole number.
fn show_number(value: &Value) -> String {
    let text = show(value);
    if !value.is_number() {
        return text;
    }
    let (whole, rest) = text.find('.').map_or((&*text, ""), |at| text.split_at(at));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// Returns the whole part of a number as [`show_number`] does.
fn show_whole(number: f64) -> String {
    let text = format!("{number:.0}");
    show_number(&text.parse::<i64>().map_or(Value::Null, Value::from))
}

/// Returns an SVG of the rows of a chapter; an empty text where there is nothing to draw.
pub(super) fn draw(
    chart: Chart,
    rows: &ChapterRows,
    columns: &[(&'static str, &'static str)],
) -> String {
    match chart {
        _ if rows.is_empty() => String::new(),
        Chart::None => String::new(),
        Chart::Lines(lines) => draw_lines(rows, columns, lines),
        Chart::Bars { label, value } => draw_bars(rows, label, value),
    }
}

fn number(row: &[Value], column: usize) -> f64 {
    row.get(column).and_then(Value::as_f64).unwrap_or(0.0)
}

fn most(rows: &ChapterRows, column: usize) -> f64 {
    let numbers = rows.iter().map(|row| number(row, column));
    numbers.fold(0.0, f64::max).max(1.0)
}

/// Draws each column over its own height, because there are a hundred times as many impressions as
/// clicks.
fn draw_lines(
    rows: &ChapterRows,
    columns: &[(&'static str, &'static str)],
    lines: &[usize],
) -> String {
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| columns.get(*line))
        .map(|(name, _)| *name)
        .collect();
    let mut svg = begin(LINES_HEIGHT, &format!("{} by day", names.join(", ")));
    #[expect(clippy::cast_precision_loss, reason = "days are few")]
    let step = WIDTH / (rows.len().max(2) - 1) as f64;
    for (at, (line, name)) in lines.iter().zip(&names).enumerate() {
        let most = most(rows, *line);
        let mut points = String::new();
        let mut x = 0.0;
        for row in rows {
            let y = LINES_BOTTOM - (LINES_BOTTOM - LINES_TOP) * number(row, *line) / most;
            write!(points, "{x:.1},{y:.1} ").ok();
            x += step;
        }
        let left = if at == 0 { 0.0 } else { WIDTH / 2.0 };
        write!(
            svg,
            "<polyline class=\"line line-{at}\" points=\"{points}\"/>\
             <text class=\"legend-{at}\" x=\"{left}\" y=\"20\">{} (up to {})</text>",
            escape(name),
            show_whole(most)
        )
        .ok();
    }
    let day = |row: Option<&Vec<Value>>| {
        row.and_then(|row| row.first())
            .map(show)
            .unwrap_or_default()
    };
    write!(
        svg,
        "<path class=\"base\" d=\"M0 {LINES_BOTTOM}H{WIDTH}\"/>\
         <text class=\"axis\" x=\"0\" y=\"{0:.0}\">{1}</text>\
         <text class=\"axis\" x=\"{WIDTH}\" y=\"{0:.0}\" text-anchor=\"end\">{2}</text>",
        LINES_HEIGHT - 6.0,
        escape(&day(rows.first())),
        escape(&day(rows.last())),
    )
    .ok();
    svg + "</svg>"
}

fn draw_bars(rows: &ChapterRows, label: usize, value: usize) -> String {
    let shown = rows.len().min(BARS_MAX);
    #[expect(clippy::cast_precision_loss, reason = "bars are few")]
    let height = shown as f64 * BAR_HEIGHT;
    let most = most(rows, value);
    let mut svg = begin(height, "the figures of the table below as bars");
    let mut y = 0.0;
    for row in rows.iter().take(shown) {
        let name = row.get(label).map(show).unwrap_or_default();
        let mut name: String = name.chars().take(LABEL_CHARS_MAX + 1).collect();
        if name.chars().count() > LABEL_CHARS_MAX {
            name.pop();
            name.push('…');
        }
        let width = (WIDTH - BARS_LEFT - BARS_RIGHT) * number(row, value).max(0.0) / most;
        let number = row.get(value).map(show_number).unwrap_or_default();
        write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar\" x=\"{BARS_LEFT}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{number}</text>",
            BARS_LEFT - 8.0,
            y + 16.0,
            escape(&name),
            y + 4.0,
            BARS_LEFT + width + 8.0,
            y + 16.0,
        )
        .ok();
        y += BAR_HEIGHT;
    }
    svg + "</svg>"
}

fn begin(height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
