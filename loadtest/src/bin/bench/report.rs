//! The table: what was found beside what is wanted.

mod tracked;

use std::process::Command;

use crate::cost::{Cost, Micros, median, ratio};
use crate::figures::{Closed, EndToEnd, Figures, Handshakes, Open, Tracked};
use crate::plan::Plan;
use loadtest::rig::process::root;

/// Titled tables of texts.
pub(crate) struct Report {
    about: Vec<String>,
    tables: Vec<Table>,
}

struct Table {
    title: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(title: &'static str, head: [&'static str; N]) -> Table {
        Table {
            title,
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// A goal with an upper bound.
    fn at_most(&mut self, name: &str, found: f64, bound: f64, unit: &str) {
        self.goal(
            name,
            found,
            &format!("≤ {bound}{unit}"),
            unit,
            found <= bound,
        );
    }

    /// A goal with a lower bound.
    fn at_least(&mut self, name: &str, found: f64, bound: f64, unit: &str) {
        self.goal(
            name,
            found,
            &format!("≥ {bound}{unit}"),
            unit,
            found >= bound,
        );
    }

    fn goal(&mut self, name: &str, found: f64, goal: &str, unit: &str, is_reached: bool) {
        let found = if found.abs() >= 1000.0 {
            format!("{found:.0}{unit}")
        } else {
            format!("{found:.2}{unit}")
        };
        let reached = if is_reached { "yes" } else { "**no**" };
        self.row([name.to_owned(), goal.to_owned(), found, reached.to_owned()]);
    }
}

impl Report {
    pub(crate) fn of(figures: &Figures, plan: &Plan) -> anyhow::Result<Report> {
        Ok(Report {
            about: about(figures.edge.len(), plan),
            tables: vec![
                goals(figures),
                contenders(figures),
                parts(figures),
                latencies(figures),
                tracked::table(&figures.trackers),
                others(figures),
            ],
        })
    }

    /// The report of a run of what trackers send alone.
    pub(crate) fn of_trackers(figures: &[Tracked], plan: &Plan) -> Report {
        let mut goals = Table::new("Goals", ["", "goal", "found", "reached"]);
        tracked::wanted(figures, &mut goals);
        let rounds = figures.first().map_or(0, |load| load.micros.len());
        Report {
            about: about(rounds, plan),
            tables: vec![goals, tracked::table(figures)],
        }
    }

    /// For people's eyes: columns under each other.
    pub(crate) fn terminal(&self) -> String {
        self.render(|out, table| {
            let rows = || std::iter::once(None).chain(table.rows.iter().map(Some));
            let cell = |row: Option<&Vec<String>>, column: usize| match row {
                Some(row) => row.get(column).map_or("", String::as_str).replace("**", ""),
                None => table.head.get(column).copied().unwrap_or("").to_owned(),
            };
            for row in rows() {
                let line = (0..table.head.len()).map(|column| {
                    let width = rows().map(|row| cell(row, column).chars().count()).max();
                    let text = cell(row, column);
                    let gap = width.unwrap_or(0).saturating_sub(text.chars().count()) + 2;
                    format!("{text}{}", " ".repeat(gap))
                });
                let line: String = line.collect();
                out.push_str(line.trim_end());
                out.push('\n');
            }
        })
    }

    /// For the repository.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::from(
            "# What a hit costs\n\nWritten by `make bench`; [docs/performance.md](../docs/performance.md) says what it means.\n\n",
        );
        out.push_str(&self.render(|out, table| {
            let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            out.push_str(&line(
                &table
                    .head
                    .iter()
                    .map(|cell| (*cell).to_owned())
                    .collect::<Vec<_>>(),
            ));
            out.push_str(&line(
                &table
                    .head
                    .iter()
                    .map(|_| "---".to_owned())
                    .collect::<Vec<_>>(),
            ));
            for row in &table.rows {
                out.push_str(&line(row));
            }
        }));
        out.push_str("\n![Hits a second, and hits that wait](RESULTS.svg)\n");
        out
    }

    fn render(&self, table: impl Fn(&mut String, &Table)) -> String {
        let mut out = String::new();
        for line in &self.about {
            out.push_str(&format!("- {line}\n"));
        }
        for each in &self.tables {
            out.push_str(&format!("\n## {}\n", each.title));
            table(&mut out, each);
        }
        out
    }
}

fn about(rounds: usize, plan: &Plan) -> Vec<String> {
    let read = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().trim().to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let changed = if read(
        "git",
        &["status", "--porcelain", "src", "loadtest", "Cargo.lock"],
    )
    .is_empty()
    {
        ""
    } else {
        ", with changes"
    };
    vec![
        format!(
            "Machine: {cores} cores of {model}, Linux {}; load and contenders share them.",
            read("uname", &["-r"])
        ),
        format!(
            "Commit: {}{changed}; {}; {}.",
            read("git", &["rev-parse", "--short", "HEAD"]),
            read("rustc", &["--version"]),
            read("psql", &["--version"])
        ),
        format!(
            "Plan: {}, {rounds} rounds; medians of the rounds, and of each round's own ratios.",
            plan.name
        ),
    ]
}

/// Rounds of two costs that add up.
fn sums(a: &[Cost], b: &[Cost]) -> Vec<f64> {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| a.micros().sum() + b.micros().sum())
        .collect()
}

fn costs<T>(rounds: &[T], cost: impl Fn(&T) -> &Cost) -> Vec<Cost> {
    rounds.iter().map(|round| cost(round).clone()).collect()
}

fn goals(figures: &Figures) -> Table {
    let mut table = Table::new("Goals", ["", "goal", "found", "reached"]);
    costs_wanted(figures, &mut table);
    handshakes_wanted(figures, &mut table);
    tracked::wanted(&figures.trackers, &mut table);
    speed_and_size_wanted(figures, &mut table);
    table
}

fn costs_wanted(figures: &Figures, table: &mut Table) {
    let closed = |rounds: &[Closed]| costs(rounds, |round| &round.cost);
    let whole = |rounds: &[EndToEnd]| costs(rounds, |round| &round.cost);
    let (edge, collector) = (closed(&figures.edge), whole(&figures.collector));
    table.at_most(
        "CPU a hit: edge / bare hyper",
        ratio(&edge, &closed(&figures.floor)),
        1.25,
        "",
    );
    table.at_most(
        "CPU a hit: edge / nginx",
        ratio(&edge, &closed(&figures.nginx)),
        1.0,
        "",
    );
    table.at_most(
        "CPU a hit: edge / edge by hyper alone",
        ratio(&edge, &closed(&figures.edge_by_hyper)),
        0.9,
        "",
    );
    let floor = sums(&closed(&figures.floor), &figures.floor_copy);
    let to_floor = collector
        .iter()
        .zip(floor)
        .map(|(cost, floor)| cost.micros().sum() / floor);
    table.at_most(
        "CPU a hit: collector and Postgres / bare hyper and COPY",
        median(to_floor),
        1.5,
        "",
    );
    table.at_most(
        "CPU a hit: collector and Postgres / nginx-copy",
        ratio(&collector, &whole(&figures.nginx_copy)),
        0.75,
        "",
    );
    table.at_most(
        "CPU a hit: collector and Postgres / nginx-rsyslog",
        ratio(&collector, &whole(&figures.nginx_rsyslog)),
        0.25,
        "",
    );
    for open in figures.open.iter().filter(|open| open.name == "collector") {
        let saturated = median(collector.iter().map(|cost| cost.micros().sum()));
        let name = format!("CPU a hit: at saturation / at {} a second", open.rate);
        table.at_most(&name, saturated / open.cost.micros().sum(), 1.1, "");
    }
}

fn handshakes_wanted(figures: &Figures, table: &mut Table) {
    for (by_ticket, name) in [
        (false, "New connections with TLS a second: edge / nginx"),
        (true, "The same by ticket: edge / nginx"),
    ] {
        let rounds = figures
            .tls
            .iter()
            .filter(|round| round.by_ticket == by_ticket);
        let ratios = rounds.map(|round| round.edge.rate / round.nginx.rate);
        table.at_least(name, median(ratios), 1.0, "");
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes, far fewer than 2^52")]
fn speed_and_size_wanted(figures: &Figures, table: &mut Table) {
    let rate = median(figures.collector.iter().map(|round| round.rate));
    table.at_least("From request to committed row", rate, 40_000.0, " hits/s");
    table.at_least(
        "Loaded from a backlog while 10,000 arrive",
        figures.drain.rate,
        30_000.0,
        " hits/s",
    );
    if let Some(at_10k) = figures
        .open
        .iter()
        .find(|open| open.name == "collector" && open.rate == 10_000)
    {
        table.at_most(
            "Latency at 10,000 a second, p99",
            at_10k.outcome.millis(0.99),
            3.0,
            " ms",
        );
        table.at_most(
            "Latency at 10,000 a second, p99.9",
            at_10k.outcome.millis(0.999),
            10.0,
            " ms",
        );
        table.goal(
            "Failed of those",
            at_10k.outcome.failed as f64,
            "0",
            "",
            at_10k.outcome.failed == 0,
        );
    }
    let memory = figures.memory_bytes.iter().map(|(_, bytes)| *bytes).max();
    let memory = memory.unwrap_or_default() as f64 / f64::from(1 << 20);
    table.at_most("Memory beyond the geodata, at most", memory, 96.0, " MiB");
    table.at_most(
        "Postgres, indexes included",
        figures.size.row_bytes,
        300.0,
        " bytes a row",
    );
    table.at_most(
        "Device of a known user agent",
        figures.device.cached,
        0.2,
        " µs",
    );
    table.at_most(
        "Device of a new user agent",
        figures.device.new,
        40.0,
        " µs",
    );
}

fn contenders(figures: &Figures) -> Table {
    let mut table = Table::new(
        "CPU a hit at saturation, and hits a second",
        [
            "contender",
            "µs a hit",
            "user",
            "kernel",
            "hits/s answered",
            "hits/s to the last row",
        ],
    );
    let mut add = |name: &str, costs: Vec<Micros>, answered: Option<f64>, whole: Option<f64>| {
        let of = |part: fn(&Micros) -> f64| format!("{:.2}", median(costs.iter().map(part)));
        let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.0}"));
        table.row([
            name.to_owned(),
            of(|micros| micros.sum()),
            of(|micros| micros.user),
            of(|micros| micros.kernel),
            rate(answered),
            rate(whole),
        ]);
    };
    for (name, rounds) in [
        ("floor: bare hyper", &figures.floor),
        ("edge", &figures.edge),
        ("edge, by hyper alone", &figures.edge_by_hyper),
        ("nginx", &figures.nginx),
        ("floor, a connection each", &figures.floor_close),
        ("edge, a connection each", &figures.edge_close),
        ("nginx, a connection each", &figures.nginx_close),
    ] {
        let micros = rounds.iter().map(|round| round.cost.micros()).collect();
        add(
            name,
            micros,
            Some(median(rounds.iter().map(|round| round.rate))),
            None,
        );
    }
    for by_ticket in [false, true] {
        let rounds = || {
            figures
                .tls
                .iter()
                .filter(move |round| round.by_ticket == by_ticket)
        };
        let of = |name, closed: fn(&Handshakes) -> &Closed| {
            let how = if by_ticket { "by ticket" } else { "whole" };
            let micros = rounds().map(|round| closed(round).cost.micros()).collect();
            let rate = median(rounds().map(|round| closed(round).rate));
            (format!("{name}, a handshake each, {how}"), micros, rate)
        };
        for (name, micros, rate) in [
            of("edge", |round| &round.edge),
            of("nginx", |round| &round.nginx),
        ] {
            add(&name, micros, Some(rate), None);
        }
    }
    let copy: Vec<Micros> = figures.floor_copy.iter().map(Cost::micros).collect();
    add("floor: COPY from a file", copy, None, None);
    for (name, rounds) in [
        ("collector and Postgres", &figures.collector),
        ("nginx-copy", &figures.nginx_copy),
        ("nginx-rsyslog (3,000 a second)", &figures.nginx_rsyslog),
    ] {
        let micros = rounds.iter().map(|round| round.cost.micros()).collect();
        let answered = median(rounds.iter().map(|round| round.answered_rate));
        add(
            name,
            micros,
            Some(answered),
            Some(median(rounds.iter().map(|round| round.rate))),
        );
    }
    table
}

/// Where the time goes, of the round in the middle.
fn parts(figures: &Figures) -> Table {
    let mut table = Table::new(
        "Where it goes: thread or process",
        ["contender", "part", "µs a hit", "user", "kernel"],
    );
    let mut add = |name: &str, mut costs: Vec<Cost>| {
        costs.sort_by(|a, b| a.micros().sum().total_cmp(&b.micros().sum()));
        let Some(cost) = costs.get(costs.len() / 2) else {
            return;
        };
        for (part, time) in &cost.parts {
            let micros = cost.of(*time);
            if micros.sum() >= 0.01 {
                table.row([
                    name.to_owned(),
                    part.clone(),
                    format!("{:.2}", micros.sum()),
                    format!("{:.2}", micros.user),
                    format!("{:.2}", micros.kernel),
                ]);
            }
        }
    };
    add("edge", costs(&figures.edge, |round| &round.cost));
    add("collector", costs(&figures.collector, |round| &round.cost));
    add("floor: COPY", figures.floor_copy.clone());
    add(
        "nginx-copy",
        costs(&figures.nginx_copy, |round| &round.cost),
    );
    add(
        "nginx-rsyslog",
        costs(&figures.nginx_rsyslog, |round| &round.cost),
    );
    table
}

fn latencies(figures: &Figures) -> Table {
    let mut table = Table::new(
        "Latency from the moment that a request was due, in ms",
        [
            "contender",
            "a second",
            "p50",
            "p99",
            "p99.9",
            "largest",
            "failed",
            "µs a hit",
        ],
    );
    for Open {
        name,
        rate,
        outcome,
        cost,
    } in &figures.open
    {
        let millis = |quantile| format!("{:.2}", outcome.millis(quantile));
        table.row([
            (*name).to_owned(),
            rate.to_string(),
            millis(0.5),
            millis(0.99),
            millis(0.999),
            millis(1.0),
            outcome.failed.to_string(),
            format!("{:.2}", cost.micros().sum()),
        ]);
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "bytes, far fewer than 2^52")]
fn others(figures: &Figures) -> Table {
    let mut table = Table::new("Sizes and times", ["", ""]);
    let mut add = |name: String, value: String| table.row([name, value]);
    for (name, bytes) in &figures.memory_bytes {
        let mebibytes = *bytes as f64 / f64::from(1 << 20);
        add(
            format!("Memory beyond the geodata, {name}"),
            format!("{mebibytes:.1} MiB"),
        );
    }
    add(
        "Geodata".to_owned(),
        format!(
            "{:.1} MiB",
            figures.geodata_bytes as f64 / f64::from(1 << 20)
        ),
    );
    add(
        "Spool".to_owned(),
        format!("{:.0} bytes a hit", figures.spool_bytes),
    );
    add(
        "Postgres, rows and their indexes".to_owned(),
        format!("{:.0} bytes a row", figures.size.row_bytes),
    );
    add(
        "Postgres, every table".to_owned(),
        format!("{:.0} bytes a row", figures.size.all_bytes),
    );
    let millis = |time: fn(&loadtest::rig::collector::Started) -> std::time::Duration| {
        median(
            figures
                .started
                .iter()
                .map(|started| time(started).as_secs_f64() * 1000.0),
        )
    };
    add(
        "Start, until a pixel is answered".to_owned(),
        format!("{:.0} ms", millis(|started| started.answering)),
    );
    add(
        "Start, until geodata and rules are loaded".to_owned(),
        format!("{:.0} ms", millis(|started| started.enriching)),
    );
    let lost: u64 = figures.nginx_rsyslog.iter().map(|round| round.lost).sum();
    add(
        "Answered by nginx and not carried by rsyslog, in all rounds".to_owned(),
        format!("{lost} hits"),
    );
    let drain = figures.drain;
    add(
        format!(
            "Loaded a second of a backlog of {} while {} arrive",
            drain.backlog, drain.arriving_rate
        ),
        format!("{:.0}", drain.rate),
    );
    table
}
