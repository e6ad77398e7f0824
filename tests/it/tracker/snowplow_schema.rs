//! JSON schemas of what Snowplow's trackers send: views of theirs, and rows that break them.

use serde_json::{Value, json};

use super::snowplow::{config, send};
use crate::support::{Collector, Dir, command, tempdir};

const VIEWED: &str = "iglu:com.acme/viewed_product/jsonschema/1-0-0";

/// Makes a folder with a schema, one that is none, and what else may lie there.
fn schemas() -> Dir {
    let dir = tempdir();
    let folder = dir.path().join("com.acme/viewed_product/jsonschema");
    std::fs::create_dir_all(&folder).unwrap();
    let schema = json!({
        "$schema": "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
        "description": "What somebody's visitor saw",
        "type": "object",
        "properties": {
            "productId": {"type": "string", "description": "It's the article"},
            "price": {"type": ["number", "null"]},
            "count": {"type": "integer"},
            "isNew": {"type": "boolean"},
            "seenAt": {"type": "string", "format": "date-time"},
            "tags": {"type": "array"}
        },
        "required": ["productId"]
    });
    std::fs::write(folder.join("1-0-0"), schema.to_string()).unwrap();
    std::fs::write(folder.join("2-0-0"), "no schema").unwrap();
    std::fs::write(folder.join("README"), "about").unwrap();
    dir
}

/// An event that tells what somebody saw, with a context of the same schema.
fn viewed(id: &str, data: Value, context: Option<Value>) -> Value {
    let document = |data: Value| json!({"schema": VIEWED, "data": data});
    let mut event = json!({"e": "ue", "eid": id, "aid": "shop",
        "ue_pr": json!({"schema": "u", "data": document(data)}).to_string()});
    if let Some(context) = context {
        let contexts = json!({"schema": "c", "data": [document(context)]});
        event["co"] = contexts.to_string().into();
    }
    event
}

#[tokio::test]
async fn a_schema_has_a_view_with_typed_columns_that_no_row_breaks() {
    let dir = schemas();
    let collector = Collector::start(config()).await;
    let good = json!({"productId": "A", "price": 49.95, "count": 2, "isNew": true,
        "seenAt": "2026-11-26T12:00:00+01:00", "tags": ["x"]});
    let broken = json!({"productId": 7, "price": "dear", "count": 1.5, "isNew": "yes",
        "seenAt": "2026-99-99T00:00:00Z", "tags": "x"});
    send(&collector, &viewed("1", good.clone(), Some(broken))).await;
    let other = viewed("2", good, None).to_string();
    let other = other.replace("1-0-0", "2-0-0");
    send(&collector, &serde_json::from_str(&other).unwrap()).await;
    let count = "select count(*) from avtryck.hit";
    collector.wait_for(count, 2).await;

    let mut schema = command(&["schema", "view", VIEWED, "--folder"]);
    let output = schema.arg(dir.path()).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let client = collector.database().await;
    let sql = String::from_utf8(output.stdout).unwrap();
    client
        .batch_execute(&sql)
        .await
        .unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
    let rows = client
        .query(
            "select is_context, product_id, price::float8, \"count\", is_new, \
             seen_at = '2026-11-26 11:00:00Z', tags::text, event_id, site \
             from com_acme_viewed_product_1 order by is_context",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    assert!(!row.get::<_, bool>(0) && row.get::<_, bool>(4) && row.get::<_, bool>(5));
    assert_eq!((row.get::<_, &str>(1), row.get::<_, f64>(2)), ("A", 49.95));
    assert_eq!(
        (row.get::<_, i64>(3), row.get::<_, &str>(6)),
        (2, "[\"x\"]")
    );
    assert_eq!(
        (row.get::<_, &str>(7), row.get::<_, &str>(8)),
        ("1", "the-shop")
    );
    let row = &rows[1];
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, Option<f64>>(2), None);
    assert_eq!(row.get::<_, Option<i64>>(3), None);
    assert_eq!(row.get::<_, Option<bool>>(4), None);
    assert_eq!(row.get::<_, Option<bool>>(5), None);

    for (uri, status) in [("com.acme/a", 64), ("iglu:com.acme/a/jsonschema/1-0-0", 1)] {
        let mut schema = command(&["schema", "view", uri, "--folder"]);
        let output = schema.arg(dir.path()).output().await.unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
}

#[tokio::test]
async fn a_row_that_breaks_its_schema_is_kept_and_says_so() {
    let dir = schemas();
    let folder = dir.path().display().to_string();
    let collector = Collector::start(config().set("schema.folders", vec![folder])).await;
    let good = || json!({"productId": "A"});
    send(&collector, &viewed("good", good(), Some(good()))).await;
    send(&collector, &viewed("bad", json!({"price": "dear"}), None)).await;
    send(&collector, &viewed("bad-context", good(), Some(json!({})))).await;
    let unknown = viewed("other", json!({}), None).to_string();
    let unknown = unknown.replace("viewed_product", "unheard_of");
    send(&collector, &serde_json::from_str(&unknown).unwrap()).await;
    let count = "select count(*) from avtryck.hit";
    collector.wait_for(count, 4).await;
    let rows = collector
        .rows(
            "select event_id, 'schema' = any(flags), params ->> 'schema_error' \
             from avtryck.hit_detail order by event_id",
        )
        .await;
    let rows: Vec<(String, bool, Option<String>)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let marked: Vec<_> = rows
        .iter()
        .map(|(id, is_marked, _)| (&**id, *is_marked))
        .collect();
    let expected = [
        ("bad", true),
        ("bad-context", true),
        ("good", false),
        ("other", false),
    ];
    assert_eq!(marked, expected);
    for (id, is_marked, error) in rows {
        assert_eq!(error.is_some(), is_marked, "{id}");
        if let Some(error) = error {
            assert!(
                error.starts_with(VIEWED) && error.contains("productId"),
                "{error}"
            );
        }
    }
    let (_, _, log) = collector.stop().await;
    assert!(log.contains("jsonschema/2-0-0"), "{log}");
}
