//! The example configuration.

use super::super::in_force::{Layer, Setting};
use super::*;

#[test]
fn the_committed_example_comes_from_the_code_and_is_valid_with_each_key_set() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/avtryck.example.toml");
    let committed = std::fs::read_to_string(path).expect("the example is there");
    assert!(
        committed == Config::example(),
        "`avtryck example-config > avtryck.example.toml` would make it so"
    );
    let as_it_is = Config::parse(&committed, []).expect("the example is valid");
    assert_eq!(as_it_is.sites[0].key, "shop");
    let uncommented = committed
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    // The example has no secret that somebody might leave as it is. Nothing else is missing in it.
    let unproved = errors(&uncommented, &[]);
    assert_eq!(unproved.len(), 2, "{unproved:?}");
    assert!(unproved[0].contains("system crm: has nothing to prove its requests with"));
    assert!(unproved[1].contains("webhook crm, secret: none"));
    let every_key = uncommented
        .replace("\ntokens = []", "\ntokens = [\"0123456789abcdef\"]")
        .replace("\nsecret = \"\"", "\nsecret = \"0123456789abcdef\"");
    let whole = Config::parse(&every_key, []).expect("the example is valid with every key");
    let names = |config: &Config| {
        let settings = config.in_force.0.iter();
        settings.map(Setting::name).collect::<Vec<_>>()
    };
    let defaults = Config::parse(SITE, []).unwrap();
    let of_partner = |name: &String| {
        let mut tables = ["partner", "system", "segment", "webhook", "certificate"].into_iter();
        tables.any(|table| name.starts_with(table))
    };
    let (of_lists, others): (Vec<_>, Vec<_>) = names(&whole).into_iter().partition(of_partner);
    assert_eq!(others, names(&defaults));
    assert!(!of_lists.is_empty());
    let from_file = |setting: &Setting| matches!(setting.given, Some((_, Layer::File)));
    assert!(whole.in_force.0.iter().all(from_file));
}
