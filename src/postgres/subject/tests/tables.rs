//! Every column that can hold an ID is covered by export and erasure, or is an exception with its
//! reason.

use std::collections::{BTreeMap, BTreeSet};

use super::super::TABLES;
use crate::enrich::DimensionTable;
use crate::postgres::server::embedded::testing::TestDatabase;
use crate::row::dimension::Columns;

/// Tables without an ID of a subject, and why each column that could hold one does not. A column
/// that is not here, in a table that export and erasure do not read, fails the test. Dimensions say
/// it themselves.
const EXCEPTIONS: [(&str, &[&str], &str); 47] = [
    ("area_size", &["area", "kind"], "areas"),
    (
        "ad_sum",
        &[
            "campaign",
            "country",
            "creative",
            "device_class",
            "partner",
            "placement",
            "publisher",
            "region",
            "site",
            "time_zone",
        ],
        "names",
    ),
    ("audience", &["country", "device_class", "region"], "names"),
    ("campaign_cost", &["campaign", "currency"], "names"),
    (
        "conversion_link",
        &[
            "click_hit_id",
            "click_id",
            "hit_id",
            "impression_hit_id",
            "linked_by",
        ],
        "keys of hits, which name their subjects; they go with the hits that are erased",
    ),
    (
        "campaign_day",
        &[
            "campaign",
            "country",
            "device_class",
            "partner",
            "region",
            "site",
        ],
        "names",
    ),
    (
        "attribute",
        &["class", "key", "kind", "text_en", "text_sv"],
        "names of attributes",
    ),
    (
        "attribute_area",
        &["area", "values"],
        "postal codes and names of municipalities",
    ),
    (
        "attribute_part",
        &["keys", "subjects", "values"],
        "added within seconds, but for an ID on the list of suppression",
    ),
    (
        "device_alias",
        &["alias", "kind", "maker", "name"],
        "names of models",
    ),
    (
        "device_model",
        &[
            "brand",
            "family",
            "maker",
            "model",
            "name",
            "source",
            "source_version",
        ],
        "names of models",
    ),
    (
        "event_key",
        &["key"],
        "keyed hashes, for a week; they keep erased events from coming back",
    ),
    (
        "exposure_part",
        &["subjects"],
        "added to exposure before anything is erased",
    ),
    (
        "export_delivery",
        &["delivery", "from_id", "kind", "target", "until_id"],
        "IDs of deliveries; where a part begins and ends, until it is delivered",
    ),
    ("export_segment", &["partner"], "names of partners"),
    (
        "export_target",
        &["full_id", "target"],
        "where the last part of a full list ended, until the last is made",
    ),
    ("export_webhook", &["webhook"], "names of webhooks"),
    ("household_gone", &["key"], "hashes, until the night after"),
    (
        "import",
        &[
            "key_kind",
            "legal_basis",
            "name",
            "partner",
            "purposes",
            "supplier",
        ],
        "what manifests say",
    ),
    (
        "import_file",
        &["sha256", "terms"],
        "digests of files, and of what manifests say",
    ),
    (
        "import_named",
        &["subject"],
        "whom a file names, until it is taken; nothing is known of them by it",
    ),
    ("job", &["name"], "names of jobs"),
    (
        "kafka_partition",
        &["cluster", "spool_id", "topic"],
        "partitions of topics",
    ),
    (
        "late_hit",
        &[
            "click_id",
            "client_ip",
            "device_id",
            "event_id",
            "event_name",
            "hit_id",
            "maid",
            "page_url",
            "params",
            "partner_uid",
            "referrer",
            "session_id",
            "user_key",
            "visitor_id",
        ],
        "copies of hits, for some minutes; they go in the transaction that deletes the hits",
    ),
    (
        "link_part",
        &["a", "b", "partners"],
        "added to link_edge before an ID gets on the list of suppression",
    ),
    ("link_regroup", &["reason"], "words"),
    (
        "migration",
        &["applied_on", "checksum", "name"],
        "names of migrations",
    ),
    (
        "new_name",
        &["dimension", "scope"],
        "names of sites and partners",
    ),
    (
        "permit_part",
        &["ids", "partners", "sites", "subjects"],
        "added to subject_permit before an ID gets on the list of suppression",
    ),
    (
        "placement_day",
        &[
            "campaign",
            "creative",
            "partner",
            "placement",
            "publisher",
            "site",
        ],
        "names",
    ),
    (
        "quality_day",
        &["campaign", "kind", "partner", "site", "top_network"],
        "names",
    ),
    ("secret", &["name", "value"], "secrets of the database"),
    (
        "sighting_part",
        &["node"],
        "cleared of an ID when it gets on the list of suppression",
    ),
    (
        "segment",
        &[
            "digest",
            "error",
            "key",
            "name_en",
            "name_sv",
            "reason_en",
            "reason_sv",
            "state",
        ],
        "names of segments",
    ),
    (
        "segment_due",
        &["subjects"],
        "evaluated within a minute, and cleared of an ID that is erased",
    ),
    ("spool_position", &["spool_id"], "IDs of spools"),
    (
        "subject_day_part",
        &["kinds", "names", "partners", "sites", "subjects"],
        "cleared of an ID when it gets on the list of suppression",
    ),
    ("user_key_maker", &["fingerprint"], "fingerprints of keys"),
    ("site_zone", &["site", "time_zone"], "names"),
    ("ad_sum_day", &["time_zone"], "a time zone"),
    (
        "web_day",
        &[
            "campaign",
            "country",
            "device_class",
            "medium",
            "origin",
            "site",
        ],
        STORED,
    ),
    ("web_event_day", &["event", "site"], STORED),
    ("web_page_day", &["page", "site"], STORED),
    ("web_page_sum", &["page", "site", "time_zone"], STORED),
    ("web_search_day", &["search", "site"], STORED),
    (
        "web_sum",
        &[
            "campaign",
            "country",
            "device_class",
            "medium",
            "origin",
            "site",
            "time_zone",
        ],
        STORED,
    ),
    ("web_sum_day", &["time_zone"], "a time zone"),
];

/// Why a stored report is not read: it is made of hits, and made anew without those that go.
const STORED: &str = "sums, made anew without the hits of whoever is erased";

/// The columns of a row that hold texts.
#[derive(Default)]
struct Texts(BTreeSet<String>);

impl Columns for Texts {
    fn text(&mut self, column: &'static str, _: &str) {
        self.0.insert(column.to_owned());
    }
    fn name(&mut self, column: &'static str, text: &str) {
        self.text(column, text);
    }
    fn integer(&mut self, _: &'static str, _: Option<u32>) {}
    fn real(&mut self, _: &'static str, _: Option<f64>) {}
    fn boolean(&mut self, _: &'static str, _: bool) {}
}

#[tokio::test]
async fn each_column_that_can_hold_an_id_is_covered_or_an_exception() {
    let database = TestDatabase::migrated().await;
    // Partitions have the columns of their table.
    let sql = "select columns.table_name::text, columns.column_name::text \
               from information_schema.columns \
               join information_schema.tables using (table_schema, table_name) \
               join pg_class on pg_class.oid = format('avtryck.%I', columns.table_name)::regclass \
               where table_schema = 'avtryck' and table_type = 'BASE TABLE' and not relispartition \
                 and udt_name in ('uuid', '_uuid', 'text', '_text', 'varchar', '_varchar', 'bytea', '_bytea', \
                                  'json', 'jsonb', 'inet', 'cidr')";
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in database.client.query(sql, &[]).await.unwrap() {
        columns.entry(row.get(0)).or_default().insert(row.get(1));
    }
    assert!(columns["hit"].contains("visitor_id"));
    for covered in TABLES
        .iter()
        .map(|table| table.name)
        .chain(["rejected_hit"])
    {
        assert!(
            columns.remove(covered).is_some(),
            "{covered} has no such column"
        );
    }
    let exceptions = EXCEPTIONS.iter().map(|(table, columns, reason)| {
        assert!(!reason.is_empty());
        let columns = columns.iter().map(|column| (*column).to_owned());
        ((*table).to_owned(), columns.collect())
    });
    let dimensions = DimensionTable::ALL.map(|dimension| {
        let mut texts = Texts::default();
        dimension.give_columns(&mut texts);
        let (name, reason) = dimension.describe();
        assert!(!reason.is_empty(), "{name}");
        (dimension.table().to_owned(), texts.0)
    });
    assert_eq!(columns, exceptions.chain(dimensions).collect());
}
