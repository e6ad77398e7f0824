//! `ua-parser` and the older `uaparser` read the same rules; they must say the same of every user
//! agent, or the product's engine has a mistake.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ua_parser::{Extractor, Regexes};
use uaparser::{Parser, UserAgentParser};

const RULES: &str = "assets/data/rules/regexes.json";

/// A file that `script/fetch` gets.
fn fetched(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "{} is missing: run script/fetch rules test (make test does)",
        path.display()
    );
    path
}

fn read_json(path: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(fetched(path)).unwrap()).unwrap()
}

fn crawlers() -> BTreeSet<String> {
    let list = read_json("assets/data/rules/crawlers.json");
    let samples = list
        .iter()
        .flat_map(|entry| entry["instances"].as_array().unwrap());
    samples
        .map(|sample| sample.as_str().unwrap().to_owned())
        .collect()
}

fn visitors() -> BTreeSet<String> {
    read_json("assets/data/test/user-agents.json")
        .iter()
        .map(|visitor| visitor["userAgent"].as_str().unwrap().to_owned())
        .collect()
}

/// Family, major, minor of the browser; family, major, minor, patch of the OS; family, brand, model
/// of the device. What is missing is empty, a family that no rule knows is "Other".
type Answer = [String; 10];

fn text(part: Option<&str>) -> String {
    part.unwrap_or("").to_owned()
}

fn answer(rules: &Extractor<'_>, user_agent: &str) -> Answer {
    let (browser, os, device) = rules.extract(user_agent);
    let other = || "Other".to_owned();
    let [family, major, minor] = browser.map_or_else(
        || [other(), String::new(), String::new()],
        |browser| {
            [
                browser.family.into_owned(),
                text(browser.major),
                text(browser.minor),
            ]
        },
    );
    let [os_family, os_major, os_minor, os_patch] = os.map_or_else(
        || [other(), String::new(), String::new(), String::new()],
        |os| {
            [
                os.os.into_owned(),
                text(os.major.as_deref()),
                text(os.minor.as_deref()),
                text(os.patch.as_deref()),
            ]
        },
    );
    let [device_family, brand, model] = device.map_or_else(
        || [other(), String::new(), String::new()],
        |device| {
            [
                device.device.into_owned(),
                text(device.brand.as_deref()),
                text(device.model.as_deref()),
            ]
        },
    );
    [
        family,
        major,
        minor,
        os_family,
        os_major,
        os_minor,
        os_patch,
        device_family,
        brand,
        model,
    ]
}

fn answer_of_oracle(rules: &UserAgentParser, user_agent: &str) -> Answer {
    let client = rules.parse(user_agent);
    let (browser, os, device) = (client.user_agent, client.os, client.device);
    [
        browser.family.into_owned(),
        text(browser.major.as_deref()),
        text(browser.minor.as_deref()),
        os.family.into_owned(),
        text(os.major.as_deref()),
        text(os.minor.as_deref()),
        text(os.patch.as_deref()),
        device.family.into_owned(),
        text(device.brand.as_deref()),
        text(device.model.as_deref()),
    ]
}

/// The pattern as `ua-parser` rewrites it before it compiles it: `x{0,300}` is `x*`, `x{1,300}` is
/// `x+`, for bounds of three digits and more. That is on purpose (the bounds keep backtracking
/// engines from hanging, and cost this one memory), and is no difference between the engines.
fn widened(pattern: &str) -> String {
    let mut wide = String::new();
    let mut rest = pattern;
    while let Some(start) = rest.find('{') {
        let (before, from_brace) = rest.split_at(start);
        wide.push_str(before);
        let bounds = from_brace.split_once('}').map(|(bounds, _)| bounds);
        let sign = bounds.and_then(|bounds| {
            let (least, most) = bounds.get(1..)?.split_once(',')?;
            let is_wide = most.len() >= 3 && most.bytes().all(|byte| byte.is_ascii_digit());
            match least {
                "0" if is_wide => Some('*'),
                "1" if is_wide => Some('+'),
                _ => None,
            }
        });
        match (sign, bounds) {
            (Some(sign), Some(bounds)) if !before.ends_with('\\') => {
                wide.push(sign);
                rest = &from_brace[bounds.len() + 1..];
            }
            _ => {
                wide.push('{');
                rest = &from_brace[1..];
            }
        }
    }
    wide.push_str(rest);
    wide
}

fn widen(rules: &mut Value) {
    for list in rules.as_object_mut().unwrap().values_mut() {
        for rule in list.as_array_mut().unwrap() {
            rule["regex"] = widened(rule["regex"].as_str().unwrap()).into();
        }
    }
}

/// The user agents that the two engines answer differently, with both answers.
fn differences(rules_of_oracle: &[u8], user_agents: &[String]) -> Vec<String> {
    let rules = fs::read(fetched(RULES)).unwrap();
    let rules: Regexes<'static> = serde_json::from_slice(&rules).unwrap();
    let rules = Extractor::try_from(rules).unwrap();
    // JSON is YAML, which the oracle reads.
    let oracle = UserAgentParser::builder()
        .with_unicode_support(false)
        .build_from_bytes(rules_of_oracle)
        .unwrap();
    let difference = |user_agent: &String| {
        let ours = answer(&rules, user_agent);
        let theirs = answer_of_oracle(&oracle, user_agent);
        (ours != theirs).then(|| format!("{user_agent}\n  {ours:?}\n  {theirs:?}"))
    };
    user_agents.iter().filter_map(difference).collect()
}

#[track_caller]
fn assert_none(differences: &[String]) {
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{count} differ:\n{}",
        differences.join("\n")
    );
}

#[test]
fn both_engines_say_the_same_of_every_user_agent() {
    let mut rules: Value = serde_json::from_slice(&fs::read(fetched(RULES)).unwrap()).unwrap();
    widen(&mut rules);
    let user_agents: Vec<String> = crawlers().union(&visitors()).cloned().collect();
    assert!(user_agents.len() >= 2_000, "{}", user_agents.len());
    assert_none(&differences(rules.to_string().as_bytes(), &user_agents));
}

#[test]
fn the_wider_patterns_change_the_answer_for_no_observed_visitor() {
    let rules = fs::read(fetched(RULES)).unwrap();
    let visitors: Vec<String> = visitors().into_iter().collect();
    assert!(visitors.len() >= 900, "{}", visitors.len());
    assert_none(&differences(&rules, &visitors));
}
