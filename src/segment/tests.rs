#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod books;

use proptest::prelude::*;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::column::ProfileColumn;
use super::sql::{Uses, for_postgres};
use super::tree::{Comparison, Fact};
use super::*;

fn condition(text: &str) -> Expr {
    match parse(text) {
        Ok(parsed) => parsed.condition,
        Err(mistake) => panic!("{text}: {mistake}"),
    }
}

#[test]
fn what_is_allowed_is_read_and_written_back() {
    for (text, written) in [
        ("true", "true"),
        ("device_class = 'phone'", "(device_class = 'phone')"),
        ("DEVICE_AGE >= 24", "(device_age >= 24)"),
        ("device_age > -1.5", "(device_age > -1.5)"),
        (
            "permits_link and os in ('iOS', 'Android') or not permits_match",
            "((permits_link and (os in ('iOS', 'Android'))) or (not permits_match))",
        ),
        ("os not in ('iOS')", "(os not in ('iOS'))"),
        (
            "device_age between 24 and 60 and days_active not between 1 and 2",
            "((device_age between 24 and 60) and (days_active not between 1 and 2))",
        ),
        (
            "city is null or city is not null",
            "((city is null) or (city is not null))",
        ),
        (
            "coalesce(household_size, 'none') <> 'none'",
            "(coalesce(household_size, 'none') <> 'none')",
        ),
        (
            "case when permits_link then 1 else 2 end = 1",
            "((case when permits_link then 1 else 2 end) = 1)",
        ),
        (
            "events('view_phone', '14 days') >= 3 -- three looks",
            "(events('view_phone', '14 days') >= 3)",
        ),
        (
            "pages('news', '2 weeks') > 0",
            "(pages('news', '14 days') > 0)",
        ),
        (
            "seen('it''s', '1 day') = 0",
            "(seen('it''s', '1 days') = 0)",
        ),
        ("not in_segment('b')", "(not in_segment('b'))"),
        (r"os = 'a\b'", r"(os = E'a\\b')"),
    ] {
        assert_eq!(condition(text).to_string(), written, "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn everything_else_is_a_mistake_with_its_place_and_what_would_be_right() {
    let mut wrong = Vec::new();
    for (text, mistake) in [
        ("", "line 1, column 1: no expression of SQL"),
        (
            "os = 'a'; drop table x",
            "line 1, column 9: ; cannot follow; the end, and or or would be right",
        ),
        ("os = 'a' os", "line 1, column 10: os cannot follow"),
        (
            "os = 'a",
            "line 1, column 6: no expression of SQL (Unterminated string literal",
        ),
        ("os =", "line 1, column 5: no expression of SQL"),
        (
            "device_age = '24'",
            "line 1, column 14: '24' is a text; a number would be right",
        ),
        (
            "24 = os",
            "line 1, column 6: os is a text; a number would be right",
        ),
        (
            "os",
            "line 1, column 1: os is a text; a condition would be right",
        ),
        (
            "permits_link and 1",
            "line 1, column 18: 1 is a number; a condition would be right",
        ),
        (
            "os < 'b'",
            "line 1, column 1: os <: only numbers and bands have an order; = or <> would be right",
        ),
        (
            "os = null",
            "line 1, column 6: null is no value; is null would be right",
        ),
        (
            "os = \"ios\"",
            "line 1, column 6: ios is no column of profile; the text 'ios' in single quotes would be right",
        ),
        (
            "devise_age > 1",
            "line 1, column 1: devise_age is no column of profile; did you mean device_age?",
        ),
        (
            "true and\n  (devise_age > 1)",
            "line 2, column 4: devise_age is no column",
        ),
        (
            "subject = 'a'",
            "line 1, column 1: subject is no column of profile",
        ),
        (
            "device_class = 'fone'",
            "line 1, column 16: device_class is never 'fone'; one of phone, tablet",
        ),
        (
            "device_class in ('phone', 'fone')",
            "line 1, column 1: device_class is never 'fone'",
        ),
        (
            "profile.os = 'a'",
            "line 1, column 1: profile.os is not allowed",
        ),
        (
            "os like 'a%'",
            "line 1, column 1: os LIKE 'a%' is not allowed; columns of profile",
        ),
        (
            "os || 'a' = 'b'",
            "line 1, column 1: os || 'a' is not allowed",
        ),
        (
            "device_age + 1 > 2",
            "line 1, column 1: device_age + 1 is not allowed",
        ),
        (
            "os in (select 'a')",
            "line 1, column 1: os IN (SELECT 'a') is not allowed",
        ),
        ("exists (select 1)", "line 1, column"),
        ("(select true)", "line 1, column"),
        ("os::int = 1", "line 1, column 1: os::INT is not allowed"),
        ("cast(os as int) = 1", "line 1, column"),
        (
            "pg_sleep(1) is null",
            "line 1, column 1: pg_sleep is no function",
        ),
        (
            "avtryck.events('a', '1 day') > 1",
            "line 1, column 1: avtryck.events('a', '1 day') is not allowed",
        ),
        (
            "event('a', '1 day') > 1",
            "line 1, column 1: event is no function; did you mean events?",
        ),
        (
            "events('a') > 1",
            "line 1, column 1: events('name', '14 days') would be right",
        ),
        (
            "events(os, '1 day') > 1",
            "line 1, column 8: os is no text; a name in quotes would be right",
        ),
        (
            "events('', '1 day') > 1",
            "line 1, column 8: '' is no text; a name in quotes would be right",
        ),
        (
            "events('a', '2 years') > 1",
            "line 1, column 13: '2 years' is no span; a span such as '14 days'",
        ),
        (
            "events('a', '367 days') > 1",
            "line 1, column 13: '367 days' is no span",
        ),
        (
            "events('a', '-1 days') > 1",
            "line 1, column 13: '-1 days' is no span",
        ),
        (
            "events(distinct 'a', '1 day') > 1",
            "line 1, column 1: events(DISTINCT 'a', '1 day') is not allowed",
        ),
        (
            "events('a', '1 day') over () > 1",
            "line 1, column 1: events('a', '1 day') OVER () is not allowed",
        ),
        (
            "events('a', '1 day') filter (where true) > 1",
            "line 1, column 1:",
        ),
        (
            "coalesce(os) = 'a'",
            "line 1, column 1: coalesce has one value or none",
        ),
        (
            "coalesce(os, 1) = 'a'",
            "line 1, column 14: 1 is a number; a text would be right",
        ),
        (
            "case os when 'a' then true end",
            "line 1, column 6: case os when …; case when os = … would be right",
        ),
        (
            "device_age > 1e5",
            "line 1, column 14: 1e5 is no number here",
        ),
        ("device_age > $1", "line 1, column 14: $1 is not allowed"),
        ("os = $$a$$", "line 1, column 6: $$a$$ is not allowed"),
        ("os = E'a'", "line 1, column 6: E'a' is not allowed"),
        ("os = U&'a'", "line 1, column 6: U&'a' is not allowed"),
        ("os = x'61'", "line 1, column 6: X'61' is not allowed"),
        ("interval '1 day' > 1", "line 1, column"),
        ("current_user = 'a'", "line 1, column"),
        (
            "os is distinct from 'a'",
            "line 1, column 1: os IS DISTINCT FROM 'a' is not allowed",
        ),
        ("os = any('{a}')", "line 1, column"),
        (
            "os collate \"C\" = 'a'",
            "line 1, column 1: os COLLATE \"C\" is not allowed",
        ),
        ("array['a'] = os", "line 1, column"),
        (
            "in_segment(os)",
            "line 1, column 12: os is no text; the key of a segment would be right",
        ),
    ] {
        let found =
            parse(text).map_or_else(|mistake| mistake.to_string(), |_| "is read".to_owned());
        let has_right = found.contains("would be right") || found.contains("did you mean");
        if !found.starts_with(mistake) || !has_right && !found.contains("no expression of SQL") {
            wrong.push(format!("{text}\n  {found}\n  {mistake}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_expression_has_limits() {
    let deep = format!("{}true{}", "(".repeat(1_000), ")".repeat(1_000));
    let long = vec!["true"; 1_000].join(" and ");
    let chain = vec!["permits_link"; 230].join(" and ");
    let nots = format!("{}true", "not ".repeat(40));
    for text in [deep, long, nots, " ".repeat(TEXT_BYTES_MAX + 1)] {
        let mistake = parse(&text).unwrap_err();
        assert!(mistake.what.contains("fewer"), "{mistake}");
    }
    assert_eq!(condition(&chain).parts().len(), 230);
    let text = format!("os = '{}'", "a".repeat(300));
    assert!(parse(&text).is_err());
    assert!(parse("os = 'a\u{0}b'").is_err());
}

const FREE: [&str; 3] = ["os", "browser", "city"];
const NUMBERS: [&str; 3] = ["device_age", "days_active", "days_since_last"];
const TRUTHS: [&str; 3] = ["permits_link", "permits_match", "permits_locate"];

fn column(names: [&'static str; 3]) -> BoxedStrategy<Expr> {
    let named = |name| Expr::Column(ProfileColumn::from_name(name).unwrap());
    prop::sample::select(names.to_vec()).prop_map(named).boxed()
}

/// Any text without control characters, above all one that means something in SQL.
fn any_text() -> BoxedStrategy<String> {
    let hostile = prop::sample::select(vec![
        "'",
        "''",
        "\\",
        "\\'",
        "\\\\'",
        "'; drop table avtryck.hit; --",
        "/*",
        "*/",
        "$$",
        "E'",
        "\u{2019}",
        "%",
        "\"",
    ]);
    let parts = prop::collection::vec(
        prop_oneof![hostile.prop_map(str::to_owned), "[^\\p{C}]{0,6}"],
        1..4,
    );
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn text() -> BoxedStrategy<Expr> {
    prop_oneof![column(FREE), any_text().prop_map(Expr::Text)].boxed()
}

fn name() -> BoxedStrategy<String> {
    any_text()
        .prop_filter("a name is not empty", |text| !text.is_empty())
        .boxed()
}

fn number() -> BoxedStrategy<Expr> {
    let fact = prop::sample::select(Fact::ALL.to_vec());
    prop_oneof![
        column(NUMBERS),
        "-?[0-9]{1,12}(\\.[0-9]{1,6})?".prop_map(Expr::Number),
        (fact, name(), 1..=366_u16).prop_map(|((of, ..), name, days)| Expr::Count {
            of,
            name,
            days
        }),
    ]
    .boxed()
}

fn truth() -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![
        column(TRUTHS),
        any::<bool>().prop_map(Expr::Truth),
        name().prop_map(Expr::InSegment),
        (
            number(),
            prop::sample::select(Comparison::ALL.to_vec()),
            number()
        )
            .prop_map(|(one, (sign, _), other)| Expr::Compare(
                Box::new(one),
                sign,
                Box::new(other)
            )),
        (text(), any::<bool>(), text()).prop_map(|(one, is_equal, other)| {
            let sign = if is_equal {
                Comparison::Equal
            } else {
                Comparison::Unequal
            };
            Expr::Compare(Box::new(one), sign, Box::new(other))
        }),
        (text(), prop::collection::vec(text(), 1..4), any::<bool>()).prop_map(
            |(value, list, is_negated)| Expr::In {
                value: Box::new(value),
                list,
                is_negated
            }
        ),
        ([number(), number(), number()], any::<bool>()).prop_map(
            |([value, low, high], is_negated)| {
                Expr::Between {
                    value: Box::new(value),
                    low: Box::new(low),
                    high: Box::new(high),
                    is_negated,
                }
            }
        ),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let some = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            some.clone().prop_map(Expr::All),
            some.clone().prop_map(Expr::Any),
            some.prop_map(Expr::Coalesce),
            inner.clone().prop_map(|value| Expr::Not(Box::new(value))),
            (inner.clone(), any::<bool>()).prop_map(|(value, is_negated)| Expr::IsNull {
                value: Box::new(value),
                is_negated
            }),
            (
                prop::collection::vec((inner.clone(), inner.clone()), 1..3),
                prop::option::of(inner)
            )
                .prop_map(|(cases, otherwise)| Expr::Case {
                    cases,
                    otherwise: otherwise.map(Box::new)
                }),
        ]
    })
    .boxed()
}

/// The texts in quotes of SQL, in their order, as Postgres understands them.
fn texts(sql: &str) -> Vec<String> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize()
        .unwrap();
    let texts = tokens.into_iter().filter_map(|token| match token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Some(text),
        Token::SemiColon => panic!("a statement ends in {sql}"),
        _ => None,
    });
    texts.collect()
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same_tree(tree in truth()) {
        let written = tree.to_string();
        prop_assume!(written.len() <= TEXT_BYTES_MAX && !written.contains("E'"));
        prop_assert_eq!(parse(&written).map(|parsed| parsed.condition), Ok(tree));
    }

    #[test]
    fn no_text_of_an_expression_leaves_its_quotes_in_what_postgres_runs(tree in truth()) {
        let nobody = |_: &str| None;
        let uses = Uses { is_exported: false, sees_minors: false };
        let sql = for_postgres(&tree, SegmentScope::Device, &nobody, uses);
        let statement = format!("select 1 from avtryck.profile where {sql}");
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(400);
        let parsed = parser.try_with_sql(&statement).unwrap().parse_statements().unwrap();
        prop_assert_eq!(parsed.len(), 1);
        let mut wanted = Vec::new();
        tree.visit(&mut |part| match part {
            Expr::Text(text) => wanted.push(text.clone()),
            Expr::Count { of, name, .. } => {
                wanted.extend([of.kind().to_owned(), name.clone(), "UTC".to_owned()]);
            }
            _ => {}
        });
        prop_assert_eq!(texts(&statement), wanted);
    }

    #[test]
    fn no_bytes_make_the_reader_panic_and_what_it_takes_it_takes_again(text in any::<String>()) {
        if let Ok(parsed) = parse(&text) {
            prop_assert!(parse(&parsed.condition.to_string()).is_ok());
        }
    }
}

#[test]
fn sizes_have_two_digits_and_small_ones_none() {
    for (size, shown) in [
        (0, "< 100"),
        (99, "< 100"),
        (100, "about 100"),
        (104, "about 100"),
        (105, "about 110"),
        (12_345, "about 12000"),
        (99_700, "about 100000"),
    ] {
        assert_eq!(size::show(size, 100), shown);
    }
}

proptest! {
    #[test]
    fn one_person_more_seldom_shows_in_a_size(size in 1_000_u64..10_000_000) {
        let looks = (size..size + 20).map(|size| size::round(size, 100));
        let distinct: std::collections::BTreeSet<_> = looks.collect();
        prop_assert!(distinct.len() <= 2);
    }
}
