//! What the roles of readers may read, as the catalogue has it: a view or a function that is new is
//! read here too.

use super::report::{filled, lines};
use super::*;

const ROLES: [&str; 2] = ["avtryck_reader", "avtryck_analyst"];

/// Every view that a role may read.
const VIEWS: &str = "select format('select * from avtryck.%I', relname) from pg_class \
    where relnamespace = 'avtryck'::regnamespace and relkind = 'v' \
      and has_table_privilege(current_user, oid, 'select') order by 1";
/// Every function for reports, which answers with rows, with arguments that suit their types: those
/// that read with the owner's rights, and those that are named.
const FUNCTIONS: &str = "select format('select * from avtryck.%I(%s)', proname, ( \
        select string_agg(case \
            when type = 'date'::regtype then '''2026-11-24''::date' \
            when type = 'timestamptz'::regtype then '''2026-11-24''::timestamptz' \
            when type = 'interval'::regtype then '''1 day''::interval' \
            when type = 'text[]'::regtype then 'array[''click'']' \
            when proargnames[number] = 'model' then '''linear''' \
            when proargnames[number] = 'part' then '''all''' \
            else 'null::' || type::regtype end, ', ' order by number) \
        from unnest(proargtypes) with ordinality as argument (type, number))) \
    from pg_proc where pronamespace = 'avtryck'::regnamespace and proretset \
      and (prosecdef or proname::text = any($1::text[])) order by 1";

/// Returns why a role cannot run a query.
async fn refusal(client: &Client, role: &str, query: &str) -> Option<String> {
    let sql = format!("begin; set local role {role}; {query}; commit");
    let error = client.batch_execute(&sql).await.err()?;
    client.batch_execute("rollback").await.unwrap();
    Some(format!("{role}: {query}: {error:?}"))
}

/// Returns the functions that the page about reports has in its table.
fn documented_functions() -> Vec<&'static str> {
    let page = include_str!("../../../docs/reports.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let calls = rows.filter_map(|row| row.split('`').next()?.split_once('('));
    let names: Vec<&str> = calls.map(|(name, _)| name).collect();
    assert!(names.contains(&"conversions_through"), "{names:?}");
    names
}

#[tokio::test]
async fn each_role_reads_every_view_that_it_is_granted_and_calls_every_report() {
    let database = filled().await;
    let client = &database.client;
    let rows = client
        .query(FUNCTIONS, &[&documented_functions()])
        .await
        .unwrap();
    let functions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(functions.len() > 10, "{functions:?}");
    let mut refused = Vec::new();
    for role in ROLES {
        let set_role = format!("set role {role}");
        client.batch_execute(&set_role).await.unwrap();
        let views = lines(client, VIEWS).await;
        client.batch_execute("reset role").await.unwrap();
        assert!(views.len() > 5, "{role}: {views:?}");
        for query in views.iter().chain(&functions) {
            refused.extend(refusal(client, role, query).await);
        }
    }
    assert_eq!(refused, [""; 0]);
}

#[tokio::test]
async fn an_analyst_is_granted_every_view() {
    let database = TestDatabase::migrated().await;
    let sql = "select relname::text from pg_class \
               where relnamespace = 'avtryck'::regnamespace and relkind = 'v' \
                 and not has_table_privilege('avtryck_analyst', oid, 'select')";
    assert_eq!(lines(&database.client, sql).await, [""; 0]);
}
