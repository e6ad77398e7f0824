//! A database that others use too: the collector's role has what it needs and nothing more, and
//! nothing that a stranger makes there runs as that role.

use std::process::Command;

use crate::privacy::{page, token, uuid, visitor};
use crate::support::{Collector, Config, root};
use crate::testing::TestDatabase;

/// Runs `ops/postgres/role.sql` as an operator does; returns the role that it makes.
fn make_role(database: &TestDatabase) -> String {
    let config = &database.config;
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else {
        panic!("{config:?}")
    };
    let role = format!("collector_of_{}", config.get_dbname().unwrap());
    let output = Command::new("psql")
        .arg("--no-psqlrc")
        .arg("--host")
        .arg(socket)
        .args(["--username", config.get_user().unwrap()])
        .args(["--dbname", config.get_dbname().unwrap()])
        .args(["--set", &format!("role={role}")])
        .arg("--file")
        .arg(root().join("ops/postgres/role.sql"))
        .env("AVTRYCK_PASSWORD", "it's a 'password'")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    role
}

/// Functions and operators of a stranger which fit the collector's calls better than those of
/// Postgres do, or would where names are looked up in another order. Each does the same, and notes
/// who called it.
const TRAPS: [(&str, &str); 13] = [
    (
        "to_timestamp(a bigint) returns timestamptz",
        "pg_catalog.to_timestamp(a::float8)",
    ),
    (
        "to_timestamp(a integer) returns timestamptz",
        "pg_catalog.to_timestamp(a::float8)",
    ),
    (
        "to_char(a date, b text) returns text",
        "pg_catalog.to_char(a::timestamptz, b)",
    ),
    (
        "to_date(a name, b text) returns date",
        "pg_catalog.to_date(a::text, b)",
    ),
    (
        "substr(a name, b integer) returns text",
        "pg_catalog.substr(a::text, b)",
    ),
    (
        "format(a text, b text) returns text",
        "pg_catalog.format(a, b)",
    ),
    (
        "hashtextextended(a text, b integer) returns bigint",
        "pg_catalog.hashtextextended(a, b::bigint)",
    ),
    ("unnest(a bigint[]) returns setof bigint", "null"),
    ("unnest(a text[]) returns setof text", "null"),
    ("unnest(a uuid[]) returns setof uuid", "null"),
    (
        "times(a numeric, b integer) returns numeric",
        "a operator(pg_catalog.*) b::numeric",
    ),
    (
        "both(a smallint, b integer) returns integer",
        "a::integer operator(pg_catalog.&) b",
    ),
    (
        "row_to_json(a record) returns json",
        "pg_catalog.row_to_json(a)",
    ),
];

/// Makes the traps in `public`, as a role that may do so and nothing else.
async fn set_traps(database: &TestDatabase) {
    let stranger = format!("stranger_of_{}", database.config.get_dbname().unwrap());
    let mut sql = format!(
        "create role {stranger}; grant create, usage on schema public to {stranger}; \
         set role {stranger}; create table public.caught (who text, what text); \
         grant insert on public.caught to public; "
    );
    for (signature, answer) in TRAPS {
        let name = signature.split('(').next().unwrap();
        let answer = match signature.contains("setof") {
            true => "return query select elements from pg_catalog.unnest(a) as elements".to_owned(),
            false => format!("return {answer}"),
        };
        sql.push_str(&format!(
            "create function public.{signature} language plpgsql as $trap$ begin \
             insert into public.caught values (current_user, '{name}'); {answer}; end $trap$; "
        ));
    }
    sql.push_str(
        "create operator public.* (leftarg = numeric, rightarg = integer, function = public.times); \
         create operator public.& (leftarg = smallint, rightarg = integer, function = public.both); \
         reset role",
    );
    database.client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one history, told from its beginning to its end"
)]
async fn the_documented_rights_suffice_from_an_empty_database_on_and_nothing_of_a_stranger_runs() {
    let database = TestDatabase::empty().await;
    let role = make_role(&database);
    set_traps(&database).await;
    let admin = database.connect().await;
    let number = async |sql: &str| admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let mut config = database.config.clone();
    config.user(&role);

    // The traps work: without a fixed order of names they run as the collector's role.
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("select to_timestamp(1::bigint)")
        .await
        .unwrap();
    let caught = format!("select count(*) from public.caught where who = '{role}'");
    assert_eq!(number(&caught).await, 1);
    admin
        .batch_execute("delete from public.caught")
        .await
        .unwrap();
    // It may do nothing but what it is for.
    for forbidden in [
        "create schema mine",
        "create role mine",
        "create database mine",
        "select pg_read_file('PG_VERSION')",
        "copy (select 1) to program 'true'",
    ] {
        assert!(
            client.batch_execute(forbidden).await.is_err(),
            "{forbidden}"
        );
    }

    let url = Config::sites().database_of(&TestDatabase { config, client });
    let collector = Collector::start(url).await;
    let (anna, bo) = (visitor(&collector).await, visitor(&collector).await);
    for who in [&anna, &bo] {
        for target in [
            "/p.gif?site=open",
            "/i.gif?site=open&partner=network&campaign=spring&creative=one",
            "/p.gif?site=open&e=conversion&partner=network",
            "/sync/network?site=open&uid=4711",
            "/p.gif?site=shut",
        ] {
            collector.get(target, &[("Cookie", who)]).await;
        }
        let of_who = format!(
            "select least(count(*), 3) from avtryck.hit where visitor_id = '{}'",
            uuid(who)
        );
        collector.wait_for(&of_who, 3).await;
    }
    collector
        .wait_for("select least(count(*), 1) from avtryck.hit_count", 1)
        .await;
    assert!(
        number("select count(*) from avtryck.hit_day").await >= 4,
        "partitions of days to come"
    );
    let seen = page(&collector, &[("Cookie", &anna)]).await;
    assert!(seen.body.contains("spring"), "{}", seen.body);
    let headers = [
        ("Origin", "http://127.0.0.1"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Cookie", anna.as_str()),
    ];
    let body = format!("token={}", token(&seen));
    let file = collector
        .post("/privacy/file?site=open", &headers, &body)
        .await;
    assert!(
        file.status == 200 && file.body.contains("spring"),
        "{}",
        file.body
    );
    let erased = collector
        .post("/privacy/erasure?site=open", &headers, &body)
        .await;
    assert_eq!(erased.status, 303);
    let left = format!(
        "select count(*) from avtryck.hit where visitor_id = '{}'",
        uuid(&anna)
    );
    collector
        .wait_for("select count(*) from avtryck.erasure", 1)
        .await;
    assert_eq!(number(&left).await, 0);
    // A night of households sorts what it reads into temporary tables.
    let pairs = "select avtryck.find_household_pairs(0, 14, false)";
    assert_eq!(collector.number(pairs).await, 0);
    collector
        .number("select count(*) from avtryck.show_households(current_date)")
        .await;
    // Reports are asked for by whoever looks at them, and the collector's role may as well.
    for report in [
        "campaign_daily",
        "placement_daily",
        "campaign_quality",
        "conversion_path",
        "exposure_detail",
        "hit_detail",
    ] {
        let sql =
            format!("select count(*) from (select * from avtryck.{report} offset 0) as report");
        collector.number(&sql).await;
    }
    let (status, _dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    let caught = admin
        .query("select who, what from public.caught", &[])
        .await
        .unwrap();
    let caught: Vec<(String, String)> = caught.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(caught.is_empty(), "{caught:?}");
    let owners = "select count(*) from pg_class where relnamespace = 'avtryck'::regnamespace \
                  and pg_get_userbyid(relowner) <> ";
    assert_eq!(number(&format!("{owners}'{role}'")).await, 0);
}

#[tokio::test]
async fn what_a_function_or_a_view_of_the_schema_calls_is_fixed() {
    let database = TestDatabase::migrated().await;
    let rows = async |sql: &str| -> Vec<String> {
        let rows = database.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    // A body that is read once, or names that are looked up in Postgres alone.
    let loose = "select oid::regprocedure::text from pg_proc where pronamespace = 'avtryck'::regnamespace \
                 and prosqlbody is null \
                 and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
    assert_eq!(rows(loose).await, [""; 0]);
    // A fixed search_path keeps a function in SQL from becoming a part of the query that calls it.
    let slow = "select oid::regprocedure::text from pg_proc where pronamespace = 'avtryck'::regnamespace \
                and prolang = (select oid from pg_language where lanname = 'sql') and proconfig is not null";
    assert_eq!(
        rows(slow).await,
        [""; 0],
        "write `begin atomic … end` instead of a text"
    );
    let compiled = "select oid::regprocedure::text from pg_proc where pronamespace = 'avtryck'::regnamespace \
                    and ('enable_nestloop=off' = any(proconfig) \
                         or prolang = (select oid from pg_language where lanname = 'plpgsql') and proretset and provolatile = 's') \
                    and not coalesce('jit=off' = any(proconfig), false)";
    assert_eq!(rows(compiled).await, [""; 0]);
    let foreign = "select distinct pg_describe_object(classid, objid, objsubid) from pg_depend \
                   where refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass) \
                   and pg_describe_object(classid, objid, 0) like '%avtryck.%' \
                   and refobjid in (select oid from pg_proc where pronamespace::regnamespace::text not in ('pg_catalog', 'avtryck') \
                                    union select oid from pg_operator where oprnamespace::regnamespace::text <> 'pg_catalog')";
    assert_eq!(rows(foreign).await, [""; 0]);
}
