//! The dashboards of reports: each panel's query is answered to a role that reads nothing else.

use std::process::Command;

use serde_json::Value;

use super::report::filled;
use super::*;

/// How long a panel may take.
const PANEL_TIME_MAX: &str = "set statement_timeout = '1s'";
/// How often a panel may be asked: other tests that run at the same time slow it down.
const ATTEMPTS_MAX: usize = 5;

/// Ten days of hits about ads and pages, of 300 people.
const TEN_DAYS: &str = "select avtryck.make_hit_day(date '2026-11-15' + n) from generate_series(0, 9) as n; \
    insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, \
        hit_id, visitor_id, page_url, event_name, click_id, params) \
    select timestamptz '2026-11-15T00:00Z' + n * interval '28 s', 1, 1 + n % 2, 1 + n % 2, \
           case when n % 3 < 2 then 1 + n % 3 end, case when n % 17 = 0 then 16384 else 0 end, \
           case n % 3 when 2 then 1 + n / 3 % 2 when 1 then 3 else case when n % 5 = 0 then 4 else 2 end end, 63, 4, \
           gen_random_uuid(), ('aaaaaaaa-0000-0000-0000-' || lpad((n % 300)::text, 12, '0'))::uuid, \
           'https://shop.example/' || n % 40 || case when n % 12 = 2 then '?q=shoes&utm_source=news&utm_campaign=nov' else '' end, \
           case when n % 3 = 2 and n / 3 % 2 = 1 then 'signup' \
                when n % 3 = 0 and n % 5 > 0 then (array['measurable', 'viewable', 'start', 'complete'])[n % 5] end, \
           case when n % 15 = 0 then 'c' || n end, '{\"value\": 7}' \
    from generate_series(1, 30000) as n; \
    insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, event_name, \
        click_id, params) \
    select received_at + interval '5 min', 1, 0, 2, 63, 4, gen_random_uuid(), visitor_id, 'conversion', click_id, \
           '{\"value\": 99, \"currency\": \"SEK\"}' \
    from avtryck.hit where click_id like 'c%' and flags = 0 and received_at < '2026-11-24T12:00Z'; \
    insert into avtryck.campaign_cost values ('2026-11-24', 'spring', 'SEK', 40); analyze";

/// Makes the role of `ops/postgres/grafana.sql` as an operator does, and returns its name.
fn make_role(database: &TestDatabase) -> String {
    let config = &database.config;
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else {
        panic!("{config:?}")
    };
    let role = format!("grafana_of_{}", config.get_dbname().unwrap());
    // It may be run again.
    for _ in 0..2 {
        let output = Command::new("psql")
            .arg("--no-psqlrc")
            .arg("--host")
            .arg(socket)
            .args(["--username", config.get_user().unwrap()])
            .args(["--dbname", config.get_dbname().unwrap()])
            .args(["--set", &format!("grafana={role}")])
            .args(["--file", "ops/postgres/grafana.sql"])
            .env("GRAFANA_DATABASE_PASSWORD", "it's a 'password'")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    role
}

fn dashboard(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("ops/grafana/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Writes a query as Grafana sends it, for some sites and campaigns (as texts of SQL) and days.
fn written(sql: &str, sites: &str, campaigns: &str, days: &str) -> String {
    let sql = sql
        .replace("${site:sqlstring}", sites)
        .replace("${campaign:sqlstring}", campaigns)
        .replace("${last_day:sqlstring}", "'2026-11-24'")
        .replace("$days", days);
    assert!(!sql.contains('$'), "{sql}");
    sql
}

/// Counts the rows of a query that have a value, and fails if the query takes too long.
async fn count_rows(client: &Client, sql: &str) -> i64 {
    let sql = format!("select count(*) from ({sql}) as told where not told is null");
    for _ in 1..ATTEMPTS_MAX {
        match client.query_one(&sql, &[]).await {
            Ok(row) => return row.get(0),
            Err(error) => assert!(
                error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED),
                "{sql}: {error:?}"
            ),
        }
    }
    client.query_one(&sql, &[]).await.expect(&sql).get(0)
}

/// The texts of a variable's query, as Grafana puts them into SQL.
async fn choices(client: &Client, dashboard: &Value, name: &str) -> String {
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["name"] == name);
    let sql = written(variable.unwrap()["query"].as_str().unwrap(), "", "", "7");
    let rows = client.query(&sql, &[]).await.expect(&sql);
    assert!(!rows.is_empty(), "{sql}");
    let texts: Vec<_> = rows
        .iter()
        .map(|row| format!("'{}'", row.get::<_, &str>(0)))
        .collect();
    texts.join(",")
}

#[tokio::test]
async fn every_panel_about_reports_is_answered_in_a_second_to_a_role_that_reads_reports_alone() {
    let database = filled().await;
    let client = &database.client;
    client.batch_execute(TEN_DAYS).await.unwrap();
    let later = UnixMicros(NOON.0 + 3 * 86_400_000_000);
    while super::super::report::build_next(client, later)
        .await
        .unwrap()
    {}
    let role = make_role(&database);
    let reader = format!("set role {role}; {PANEL_TIME_MAX}");
    client.batch_execute(&reader).await.unwrap();
    assert!(client.query("select from avtryck.hit", &[]).await.is_err());
    for name in ["campaigns", "web"] {
        let dashboard = dashboard(name);
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["site", "campaign", "days", "last_day"], "{name}");
        let sites = choices(client, &dashboard, "site").await;
        let campaigns = choices(client, &dashboard, "campaign").await;
        let panels = dashboard["panels"].as_array().unwrap();
        let mut told = 0;
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            for part in ["title", "description"] {
                assert!(
                    panel[part].as_str().is_some_and(|text| !text.is_empty()),
                    "{panel}"
                );
            }
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{panel}");
            for target in targets {
                let sql = target["rawSql"].as_str().unwrap();
                for days in ["1", "7", "90"] {
                    let sql = written(sql, &sites, &campaigns, days);
                    assert!(count_rows(client, &sql).await > 0, "{sql}");
                }
                // Where nothing is chosen, or a name holds a quote, it is no mistake.
                let sql = written(sql, "''", "'it''s'", "7");
                count_rows(client, &sql).await;
                told += 1;
            }
        }
        assert!(told >= 15, "{name}: {told}");
    }
}

#[test]
fn the_data_source_of_the_dashboards_is_provisioned() {
    let text = std::fs::read_to_string("ops/grafana/provisioning/datasources/postgres.yml");
    let text = text.unwrap();
    let compose = std::fs::read_to_string("compose.yaml").unwrap();
    for name in ["campaigns", "web"] {
        let dashboard = dashboard(name);
        assert!(compose.contains(&format!(
            "./ops/grafana/{name}.json:/etc/grafana/dashboards/"
        )));
        let panels = dashboard["panels"].as_array().unwrap();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let asking = |part: &&Value| part["type"] != "row" && part["datasource"].is_object();
        for part in panels.iter().chain(variables).filter(asking) {
            let source = &part["datasource"];
            for key in ["uid", "type"] {
                let line = format!("    {key}: {}\n", source[key].as_str().unwrap());
                assert!(text.contains(&line), "{line}");
            }
        }
    }
}
