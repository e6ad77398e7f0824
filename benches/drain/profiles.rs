//! Rounds without profiles and with them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use avtryck::clock;
use avtryck::enrich::Tables;
use avtryck::hit::{Flags, Hit, Kind, Permit};
use avtryck::import::Manifest;
use avtryck::loader::sink::{CallbackAttributes, NamedManifests};
use avtryck::postgres::Database;
use avtryck::postgres::server::embedded::Embedded;
use spool::Spool;

use super::{Kinds, Random, drain, drop_database, fill, spool};

/// Makes one in fifty hits a callback, and takes the permit `profile` away or has callbacks bring
/// attributes.
pub(super) fn change(hit: &mut Hit<'_>, number: u64, is_on: bool) {
    if number.is_multiple_of(50) {
        hit.kind = Kind::Callback;
        hit.partner = "adform".into();
        hit.event_name = "conversion".into();
        hit.flags.set(Flags::PROVED);
        hit.partner_uid = format!("{:016x}", Random(number).below(100_000)).into();
        if is_on && hit.permit.allows(Permit::ALL) {
            hit.attributes = r#"{"housing_type":"flat","income_band":"high"}"#.into();
        }
    }
    if !is_on {
        hit.permit = hit.permit.without(Permit::PROFILE);
    }
}

/// What the callbacks of the bench bring.
const MANIFEST: &str = r#"
name = "adform-household"
supplier = "an ad network"
legal_basis = "consent"
purpose = ["profile", "export"]
key = { kind = "partner_uid", column = "uid", partner = "adform" }
valid_until = "VALID_UNTIL"
[column.home]
attribute = "housing_type"
[column.money]
attribute = "income_band"
"#;

/// Segments, a partner that was told of some members, and a webhook.
const PROFILES_ON: &str = "insert into avtryck.segment (key, size, is_exposed, min_size) \
         select 'segment-' || n, 1000000, true, 100 from generate_series(1, 12) as n; \
     insert into avtryck.export_webhook select 'crm', segment from avtryck.segment; \
     insert into avtryck.export_told (partner, segment, subject, subject_key, id, id_key, permit, number, told_at) \
         select 'adform', segment, md5(n::text)::uuid, md5(n::text)::uuid, n::text, md5('id' || n)::uuid, 15, 1, now() \
         from avtryck.segment, generate_series(1, 10000) as n";

/// The manifest, for a loader.
pub(super) fn attributes() -> Arc<CallbackAttributes> {
    let today = jiff::Timestamp::from_microsecond(clock::now().0).unwrap();
    let today = jiff::tz::TimeZone::UTC.to_datetime(today).date();
    let until = today.saturating_add(jiff::Span::new().days(300));
    let text = MANIFEST.replace("VALID_UNTIL", &until.to_string());
    let manifest = Manifest::parse(&text, today, &[]).unwrap();
    let attributes = Arc::<CallbackAttributes>::default();
    attributes.named.store(Arc::new(NamedManifests {
        manifests: vec![("adform".to_owned(), manifest)],
        user_keys: Vec::new(),
    }));
    attributes
}

pub(super) async fn compare(
    dir: &Path,
    instructions: &Spool,
    tables: &Arc<ArcSwap<Tables>>,
    (hits, rounds): (u64, u64),
) {
    let keep = Duration::from_secs(86_400);
    let [without, with] = ["without", "with"].map(|name| spool(&dir.join(name), keep));
    let now = clock::now();
    fill(&without, 0..hits, now, 25, Kinds::Profiles(false)).await;
    fill(&with, 0..hits, now, 25, Kinds::Profiles(true)).await;
    let embedded = Embedded::start(&dir.join("postgres")).await.unwrap();
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..rounds.max(2) {
        let is_on = round % 2 == 1;
        let name = format!("drain_profile_{round}");
        let config = embedded.database(&name).await.unwrap();
        let database = Arc::new(Database::at(config));
        let client = database.connect().await.unwrap();
        if is_on {
            client.batch_execute(PROFILES_ON).await.unwrap();
        }
        let spools = (if is_on { &with } else { &without }, instructions);
        let drained = drain(spools, tables, &embedded, Arc::clone(&database), hits).await;
        println!("profiles {}: {drained}", if is_on { "on" } else { "off" });
        let sql = "select (select count(*) from avtryck.subject_day_part) + (select count(*) from avtryck.subject_day), \
                       (select count(*) from avtryck.attribute_part) + (select count(*) from avtryck.attribute_value)";
        let row = client.query_one(sql, &[]).await.unwrap();
        let [facts, attributes]: [i64; 2] = [row.get(0), row.get(1)];
        let has_both = facts > 0 && attributes > 0;
        assert_eq!(
            has_both, is_on,
            "{facts} rows of facts, {attributes} of attributes"
        );
        costs[usize::from(is_on)].push((drained.prepare + drained.commit, drained.micros()));
        drop(client);
        drop_database(&embedded, &name).await;
    }
    let least = |of: &[(f64, f64)]| {
        let smaller = |one: f64, other: f64| one.min(other);
        let own = of.iter().map(|cost| cost.0).fold(f64::MAX, smaller);
        (own, of.iter().map(|cost| cost.1).fold(f64::MAX, smaller))
    };
    let [off, on] = [least(&costs[0]), least(&costs[1])];
    println!(
        "the least CPU µs a hit: loader {:.2} without profiles and {:.2} with them ({:+.1} %), \
         with Postgres {:.2} and {:.2} ({:+.1} %)",
        off.0,
        on.0,
        100.0 * (on.0 / off.0 - 1.0),
        off.1,
        on.1,
        100.0 * (on.1 / off.1 - 1.0)
    );
    for spool in [without, with] {
        spool.close();
    }
    embedded.stop().await.unwrap();
}
