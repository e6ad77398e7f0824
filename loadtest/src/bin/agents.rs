//! Looks for user agents that are dear to recognise: `make abuse-agents`.
//!
//! It climbs hills: an agent is made of words of the device rules and of real agents, changed a
//! little, and kept if it takes longer than before. The seed decides what is tried; what is kept
//! also depends on the machine's clock. It prints the dearest agents, one on a line, beside what a
//! real new agent takes.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use avtryck::enrich::{self, TableFiles, Tables};
use avtryck::hit::Hints;
use clap::Parser;
use fastrand::Rng;
use serde_json::Value;

/// The longest agent that a hit holds, less the end that makes each measured one new.
const AGENT_BYTES_MAX: usize = 512 - 8;
/// The longest model that a hint may hold and the rules still see.
const MODEL_BYTES_MAX: usize = 64;
/// Hills that are climbed side by side.
const HILLS: usize = 12;

#[derive(Parser)]
struct Options {
    /// For how long it looks.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What it tries.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the rules are.
    #[arg(long, default_value = "assets/data/rules")]
    rules: PathBuf,
    /// Agents to measure, one a line, instead of looking for others.
    #[arg(long)]
    measure: Option<PathBuf>,
    /// Real agents.
    #[arg(long, default_value = "assets/data/test/user-agents.json")]
    agents: PathBuf,
}

/// What is tried: an agent, and the model that a hint names.
#[derive(Clone, Default)]
struct Candidate {
    agent: String,
    model: String,
}

struct Climber {
    tables: Tables,
    words: Vec<String>,
    random: Rng,
    tried: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let files = TableFiles {
        rules: options.rules.join("regexes.json"),
        crawlers: options.rules.join("crawlers.json"),
        ..TableFiles::default()
    };
    let real = real_agents(&options)?;
    let mut climber = Climber {
        tables: enrich::load(&files).0,
        words: words(&options, &real)?,
        random: Rng::with_seed(options.seed),
        tried: 0,
    };
    let ordinary: Vec<Duration> = real
        .iter()
        .map(|agent| {
            climber.measure(&Candidate {
                agent: agent.clone(),
                ..Candidate::default()
            })
        })
        .collect();
    println!("real agents: {}", spread(ordinary));
    println!("resident: {}", resident());
    if let Some(file) = &options.measure {
        for agent in fs::read_to_string(file)?.lines() {
            let cost = climber.measure(&Candidate {
                agent: agent.to_owned(),
                ..Candidate::default()
            });
            println!("{:.1} us\t{agent}", cost.as_secs_f64() * 1e6);
        }
        return Ok(());
    }
    let hills = climber.climb(&real, Duration::from_secs(options.seconds));
    println!("tried: {}", climber.tried);
    println!("resident: {}", resident());
    for (cost, candidate) in hills {
        println!(
            "{:.1} us\t{}\t{}",
            cost.as_secs_f64() * 1e6,
            candidate.agent.escape_default(),
            candidate.model.escape_default(),
        );
    }
    Ok(())
}

impl Climber {
    /// Returns the dearest that was found on each hill, the dearest first.
    fn climb(&mut self, real: &[String], time: Duration) -> Vec<(Duration, Candidate)> {
        let end = Instant::now() + time;
        let mut hills: Vec<(Duration, Candidate)> = (0..HILLS)
            .map(|_| {
                let agent = real[self.random.usize(..real.len())].clone();
                let start = Candidate {
                    agent,
                    ..Candidate::default()
                };
                (self.measure(&start), start)
            })
            .collect();
        while Instant::now() < end {
            for hill in 0..HILLS {
                let mut next = hills[hill].1.clone();
                if self.random.u8(..) < 4 {
                    // Two hills meet.
                    let other = hills[self.random.usize(..HILLS)].1.agent.clone();
                    let at = self.cut(&other);
                    next.agent.push_str(&other[at..]);
                }
                for _ in 0..=self.random.usize(..3) {
                    self.change(&mut next);
                }
                let cost = self.measure(&next);
                if cost > hills[hill].0 {
                    // Once more, for a clock that was disturbed.
                    let again = self.measure(&next).min(cost);
                    if again > hills[hill].0 {
                        hills[hill] = (again, next);
                    }
                }
            }
        }
        hills.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        hills
    }

    fn change(&mut self, candidate: &mut Candidate) {
        if self.random.u8(..) < 24 {
            let word = self.words[self.random.usize(..self.words.len())].clone();
            candidate.model = match self.random.bool() {
                true => word,
                false => format!("{}{word}", candidate.model),
            };
            cut_to(&mut candidate.model, MODEL_BYTES_MAX);
            return;
        }
        let agent = &mut candidate.agent;
        let from = self.cut(agent);
        match self.random.u8(..6) {
            0 => {
                let to = self.cut(agent);
                let end = agent.floor_char_boundary(from.max(to).min(from.min(to) + 40));
                agent.replace_range(from.min(to)..end, "");
            }
            1 => {
                let to = self.cut(agent);
                let twice = agent[from.min(to)..from.max(to)].to_owned();
                agent.insert_str(from, &twice);
            }
            2 => {
                const ALPHABET: &[char] = &[
                    ' ', ';', '/', '(', ')', '.', '-', '_', ',', ':', '0', '1', '9', 'a', 'e', 'B',
                    'M', 'é', '中', '\u{212a}',
                ];
                agent.insert(from, ALPHABET[self.random.usize(..ALPHABET.len())]);
            }
            _ => {
                let word = &self.words[self.random.usize(..self.words.len())];
                if agent.len() + word.len() > AGENT_BYTES_MAX && from + word.len() <= agent.len() {
                    let mut to = from + word.len();
                    while !agent.is_char_boundary(to) {
                        to += 1;
                    }
                    agent.replace_range(from..to, word);
                } else {
                    agent.insert_str(from, word);
                }
            }
        }
        cut_to(agent, AGENT_BYTES_MAX);
    }

    /// Returns a place between two characters.
    fn cut(&mut self, text: &str) -> usize {
        let mut at = self.random.usize(..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// Returns the least of three times, each of an agent that is new by its end.
    fn measure(&mut self, candidate: &Candidate) -> Duration {
        let mut least = Duration::MAX;
        for _ in 0..3 {
            self.tried += 1;
            let agent = format!("{} {:07x}", candidate.agent, self.tried & 0xfff_ffff);
            let hints = Hints {
                model: candidate.model.as_str().into(),
                ..Hints::default()
            };
            let begun = Instant::now();
            black_box(self.tables.device(&agent, &hints));
            least = least.min(begun.elapsed());
        }
        least
    }
}

fn cut_to(text: &mut String, bytes_max: usize) {
    while text.len() > bytes_max {
        text.pop();
    }
}

fn real_agents(options: &Options) -> anyhow::Result<Vec<String>> {
    let visitors: Vec<Value> = read(&options.agents)?;
    let agents: BTreeSet<String> = visitors
        .iter()
        .filter_map(|visitor| visitor["userAgent"].as_str())
        .map(str::to_owned)
        .collect();
    Ok(agents.into_iter().collect())
}

/// Returns the words of which agents are made: pieces of patterns that stand for themselves, and
/// words of real agents.
fn words(options: &Options, real: &[String]) -> anyhow::Result<Vec<String>> {
    let rules: Value = read(&options.rules.join("regexes.json"))?;
    let crawlers: Vec<Value> = read(&options.rules.join("crawlers.json"))?;
    let lists = ["user_agent_parsers", "os_parsers", "device_parsers"];
    let patterns = lists
        .iter()
        .filter_map(|list| rules[list].as_array())
        .flatten()
        .filter_map(|rule| rule["regex"].as_str())
        .chain(
            crawlers
                .iter()
                .filter_map(|entry| entry["pattern"].as_str()),
        );
    let mut words = BTreeSet::new();
    for pattern in patterns {
        let plain = pattern
            .replace("\\/", "/")
            .replace("\\.", ".")
            .replace("\\-", "-");
        words.extend(
            plain
                .split(|c: char| "()[]{}|*+?\\^$".contains(c))
                .filter(|word| (2..=24).contains(&word.len()))
                .map(str::to_owned),
        );
    }
    for agent in real {
        words.extend(agent.split(' ').map(|word| format!("{word} ")));
    }
    Ok(words.into_iter().collect())
}

fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    format!(
        "median {:.1} us, 99th percentile {:.1} us, dearest {:.1} us",
        at(50),
        at(99),
        at(100)
    )
}

/// Returns the memory that is resident, as the system says it.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("unknown").trim().to_owned()
}
