//! Rounds without a feature and with it, in turn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use avtryck::clock::{self, UnixMicros};
use avtryck::enrich::Tables;
use avtryck::hit::{Flags, Hit, Kind, Permit};
use avtryck::import::Manifest;
use avtryck::loader::sink::{CallbackAttributes, NamedManifests, PostgresSink};
use avtryck::postgres::Database;
use avtryck::postgres::server::embedded::Embedded;
use spool::{Position, Spool};
use tokio_postgres::Client;

use super::{Kinds, Random, SITES, drain_with, drop_database, fill, maid, spool};

/// What every second round has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// The permit `profile`, attributes of callbacks, segments, a partner that is told of them and
    /// a webhook.
    Profiles,
    /// Impressions come with the MAID of their visitor's device, to which it is tied. In rounds
    /// without, the MAID is as long and no UUID, so that it is stored and ties nothing. (Rounds in
    /// which nobody permits `link` would be no measure: a refusal has a cost of its own.)
    Ties,
    /// Households for every site. Visitors have an IPv4 address and an IPv6 prefix each.
    Households,
    /// All of these.
    All,
}

impl Feature {
    pub(super) fn parse(name: &str) -> Feature {
        match name {
            "profiles" => Feature::Profiles,
            "ties" => Feature::Ties,
            "households" => Feature::Households,
            "all" => Feature::All,
            other => panic!("DRAIN_COMPARE is profiles, ties, households or all, not {other:?}"),
        }
    }

    fn has(self, other: Feature) -> bool {
        self == other || self == Feature::All
    }

    /// Makes one in fifty hits a callback that brings attributes, and gives the hits of rounds with
    /// the feature what it needs.
    pub(super) fn change(self, hit: &mut Hit<'_>, number: u64, is_on: bool) {
        let has_profiles = self.has(Feature::Profiles);
        if has_profiles && number.is_multiple_of(50) {
            hit.kind = Kind::Callback;
            hit.partner = "adform".into();
            hit.event_name = "conversion".into();
            hit.flags.set(Flags::PROVED);
            hit.partner_uid = format!("{:016x}", Random(number).below(100_000)).into();
            if is_on && hit.permit.allows(Permit::ALL) {
                hit.attributes = r#"{"housing_type":"flat","income_band":"high"}"#.into();
            }
        }
        if !is_on && has_profiles {
            hit.permit = hit.permit.without(Permit::PROFILE);
        }
        if self.has(Feature::Ties)
            && let (Kind::Impression, Some(visitor)) = (hit.kind, hit.visitor)
        {
            let maid = maid((u128::from_be_bytes(visitor.0) >> 64) as u64);
            hit.maid = if is_on { maid } else { maid.replace('-', "_") }.into();
        }
        if self.has(Feature::Households)
            && let Some(visitor) = hit.visitor
        {
            let home = u128::from_be_bytes(visitor.0) >> 64;
            hit.client_ip = Some(match hit.client_ip {
                Some(IpAddr::V6(_)) => Ipv6Addr::from(0x2a01_0000 << 96 | home << 64 | home).into(),
                _ => Ipv4Addr::from(0x0200_0000 | home as u32 & 0x3fff_ffff).into(),
            });
        }
    }

    fn sink(self, sink: PostgresSink, now: UnixMicros, is_on: bool) -> PostgresSink {
        if !is_on || !self.has(Feature::Households) {
            return sink;
        }
        sink.with_households_of(&SITES, now).unwrap()
    }

    /// Checks that exactly the rounds with it have its rows.
    async fn check(self, client: &Client, is_on: bool) {
        let tables: &[(Feature, [&str; 2])] = &[
            (Feature::Profiles, ["subject_day_part", "subject_day"]),
            (Feature::Profiles, ["attribute_part", "attribute_value"]),
            (Feature::Ties, ["link_part", "link_edge"]),
            (Feature::Households, ["sighting_part", "sighting"]),
        ];
        for (_, [part, whole]) in tables.iter().filter(|(feature, _)| self.has(*feature)) {
            let sql = format!(
                "select (select count(*) from avtryck.{part}) + (select count(*) from avtryck.{whole})"
            );
            let rows: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            assert_eq!(rows > 0, is_on, "{rows} rows of {whole}");
        }
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
    feature: Feature,
    dir: &Path,
    instructions: &Spool,
    tables: &Arc<ArcSwap<Tables>>,
    (hits, rounds): (u64, u64),
) {
    let keep = Duration::from_secs(86_400);
    // A position tells how many hits are before it, because one chunk holds all.
    let [without, with] = ["without", "with"].map(|name| spool(&dir.join(name), keep, 1 << 30));
    let now = clock::now();
    let fill_both = async |begun| {
        for (spool, is_on) in [(&without, false), (&with, true)] {
            fill(spool, 0..hits, begun, 25, Kinds::Compared(feature, is_on)).await;
        }
    };
    let mut begun = now;
    let mut after = [Position::default(); 2];
    if super::variable("DRAIN_SEEN", 0) == 1 {
        fill_both(begun).await;
        after = [&without, &with].map(Spool::committed_position);
        begun = UnixMicros(now.0 + (hits * 25) as i64);
    }
    fill_both(begun).await;
    let mut embedded = Embedded::start(&dir.join("postgres")).await.unwrap();
    let has_statements = super::variable("DRAIN_STATEMENTS", 0) == 1;
    if has_statements {
        embedded = with_statements(embedded, dir).await;
    }
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..rounds.max(2) {
        let is_on = round % 2 == 1;
        let name = format!("drain_compare_{round}");
        let config = embedded.database(&name).await.unwrap();
        let database = Arc::new(Database::at(config));
        let client = database.connect().await.unwrap();
        if is_on && feature.has(Feature::Profiles) {
            client.batch_execute(PROFILES_ON).await.unwrap();
        }
        let spools = (if is_on { &with } else { &without }, instructions);
        let sink = |sink| feature.sink(sink, now, is_on);
        let job = (hits, after[usize::from(is_on)], &sink as _);
        let drained = drain_with(spools, tables, &embedded, database, job).await;
        println!(
            "{feature:?} {}: {drained}",
            if is_on { "on" } else { "off" }
        );
        feature.check(&client, is_on).await;
        if has_statements {
            println!("{}", statements(&embedded, hits).await);
        }
        if is_on && feature.has(Feature::Ties) {
            println!("{}", edge_bytes(&client).await);
        }
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
        "the least CPU µs a hit: loader {:.2} without {feature:?} and {:.2} with it ({:+.1} %), \
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

/// Has the server note what each statement takes.
async fn with_statements(embedded: Embedded, dir: &Path) -> Embedded {
    let library = "shared_preload_libraries=pg_stat_statements".to_owned();
    let embedded = super::settings(embedded, dir, Some(&library)).await;
    let client = avtryck::postgres::connect(&embedded.config())
        .await
        .unwrap();
    for sql in [
        "create extension pg_stat_statements schema public",
        "alter system set pg_stat_statements.track = 'all'",
        "select pg_reload_conf()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    embedded
}

/// Says what each statement of a round took, nested ones included, and forgets it.
async fn statements(embedded: &Embedded, hits: u64) -> String {
    let client = avtryck::postgres::connect(&embedded.config())
        .await
        .unwrap();
    let sql = "select toplevel, calls, rows, total_exec_time, wal_bytes::float8, \
                      left(regexp_replace(query, '\\s+', ' ', 'g'), 110) \
               from public.pg_stat_statements where total_exec_time > 5 order by total_exec_time desc limit 40";
    let rows = client.query(sql, &[]).await.unwrap();
    let lines = rows.iter().map(|row| {
        let (is_top, calls, found): (bool, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let (millis, wal): (f64, f64) = (row.get(3), row.get(4));
        let [micros, wal] = [millis * 1e3, wal].map(|all| all / hits as f64);
        let depth = if is_top { "" } else { "  within: " };
        let text: &str = row.get(5);
        format!(
            "{micros:.2} µs and {wal:.0} bytes of WAL a hit, {calls} calls, {found} rows: {depth}{text}\n"
        )
    });
    let lines = lines.collect();
    client
        .batch_execute("select public.pg_stat_statements_reset()")
        .await
        .unwrap();
    lines
}

/// Says how many bytes an edge takes, with its indexes.
async fn edge_bytes(client: &Client) -> String {
    let sql = "select count(*), pg_total_relation_size('avtryck.link_edge'), \
                      pg_total_relation_size('avtryck.link_node') from avtryck.link_edge";
    let row = client.query_one(sql, &[]).await.unwrap();
    let [edges, bytes, nodes]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    let each = |bytes: i64| bytes as f64 / edges.max(1) as f64;
    format!(
        "{edges} edges: {:.0} bytes each, and {:.0} of nodes",
        each(bytes),
        each(nodes)
    )
}
