//! What batches saw is counted as plain SQL counts it, and a refusal costs what it is about.

use super::*;

/// Parts as batches store them, of facts by chance that are permitted now: `raw` has each fact once
/// more.
async fn say(client: &Client, random: &mut fastrand::Rng) {
    let (seed, facts) = (random.u32(..), random.u32(1..60));
    let sql = format!(
        "with by_chance as (
             select md5((h % 5)::text)::uuid as subject, (array['shop', 'news'])[1 + (h / 5) % 2] as site,
                    (array['event', 'page', 'ad'])[1 + (h / 10) % 3] as kind, 'n' || (h / 30) % 9 as name,
                    1 + (h / 300) % 3 as n, 1 + (h / 1000) % 50 as device,
                    now() - (h / 7) % 4 * interval '1 day' - h % 100 * interval '1 microsecond' as at,
                    (array[7, 15, 63])[1 + (h / 11) % 3] as permit
             from (select hashint8(n + {seed})::bigint & 1048575 as h from generate_series(1, {facts}) as n) as hashed
         ),
         fact as (
             select by_chance.* from by_chance join avtryck.subject_permit as known using (subject, site)
             where known.permit & 7 = 7
         ),
         noted as (insert into raw select subject, site, kind, name, n, device, permit, at from fact)
         insert into avtryck.subject_day_part
         select array_agg(subject), array_agg(site), array_agg(''::text), array_agg(kind), array_agg(name),
                array_agg(n::integer), array_agg(device), array_agg(0::bigint), array_agg(permit::smallint), array_agg(at)
         from fact having count(*) > 0"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// Has a subject refuse on a site, or permit again there.
async fn decide(client: &Client, random: &mut fastrand::Rng) {
    let (subject, site) = (random.u8(..5), ["shop", "news"][random.usize(..2)]);
    let permit = [3, 7][random.usize(..2)];
    let sql = format!(
        "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at)
         values (md5('{subject}')::uuid, '{site}', '', {permit}, 2, now())
         on conflict (subject, site, partner) do update
         set permit = excluded.permit, consent_source = excluded.consent_source, at = excluded.at;
         delete from raw where {permit} = 3 and subject = md5('{subject}')::uuid
         and (site = '{site}' or not exists (
             select from avtryck.subject_permit as other where other.subject = raw.subject and other.permit & 7 = 7))"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn facts_are_counted_as_plain_sql_counts_them_however_they_are_split() {
    const WRONG: &str = "
        with counted as (select subject, day, site, partner, kind, name, n::bigint, permit::integer from avtryck.subject_day),
        wanted as (
            select subject, (at at time zone 'UTC')::date as day, site, '', kind, name, sum(n)::bigint, bit_and(permit)::integer
            from raw group by 1, 2, 3, 4, 5, 6)
        select (select count(*) from (table counted except all table wanted) as too_many)
             + (select count(*) from (table wanted except all table counted) as missing)";
    // Only where nobody refused it is known from the facts alone when a subject was seen.
    const SEEN_WRONG: &str = "
        with seen as (select subject, first_day, last_day, device_key, permit::bigint from avtryck.subject_seen),
        wanted as (
            select distinct on (subject) subject, min((at at time zone 'UTC')::date) over (partition by subject),
                   (at at time zone 'UTC')::date, device, permit
            from raw order by subject, at desc, device desc)
        select (select count(*) from (table seen except all table wanted) as too_many)
             + (select count(*) from (table wanted except all table seen) as missing)";
    let mut rows = 0;
    for seed in 0..12 {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        let refuses = seed % 2 == 1;
        let mut random = fastrand::Rng::with_seed(seed);
        let sql = "create temporary table raw (subject uuid, site text, kind text, name text, n bigint, \
                   device bigint, permit bigint, at timestamptz); \
                   insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                   select md5(n::text)::uuid, site, '', 7, 0, now() - interval '9 days' \
                   from generate_series(0, 4) as n, unnest(array['shop', 'news']) as site";
        client.batch_execute(sql).await.unwrap();
        for step in 0..10 {
            for _ in 0..random.usize(1..4) {
                say(client, &mut random).await;
            }
            if refuses && random.bool() {
                decide(client, &mut random).await;
            }
            if random.bool() {
                fold(client).await.unwrap();
                let wrong = count(client, WRONG).await;
                assert_eq!(wrong, 0, "seed {seed}, step {step}");
            }
        }
        fold(client).await.unwrap();
        assert_eq!(count(client, WRONG).await, 0, "seed {seed}");
        if !refuses {
            assert_eq!(count(client, SEEN_WRONG).await, 0, "seed {seed}");
        }
        rows += count(client, "select count(*) from avtryck.subject_day").await;
    }
    assert!(rows > 1_000, "{rows} rows are too few to show anything");
}

#[tokio::test]
async fn a_refusal_asks_for_the_permits_of_those_alone_whom_it_is_of() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 3_000, 15, 0).await;
    let sql = "insert into avtryck.export_told \
                   (partner, segment, subject, subject_key, id, id_key, permit, number, told_at) \
               select 'net', segment, md5(n::text)::uuid, md5(n::text)::uuid, 'id' || n, md5('id' || n)::uuid, 15, 1, now() \
               from generate_series(0, 2999) as n, generate_series(1, 2) as segment; \
               analyze avtryck.export_told; set track_functions = 'all'";
    client.batch_execute(sql).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let sql = "update avtryck.subject_permit set permit = case subject when md5('0')::uuid then 7 else 3 end \
               where subject in (md5('0')::uuid, md5('1')::uuid)";
    transaction.batch_execute(sql).await.unwrap();
    let sql = "select coalesce(sum(calls), 0)::bigint from pg_stat_xact_user_functions where funcname = 'permits_export'";
    let calls: i64 = transaction.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(calls, 4, "two told rows of each of the two");
    transaction.commit().await.unwrap();
    let told = "select count(*) from avtryck.export_outbox where id in ('id0', 'id1')";
    assert_eq!(count(client, told).await, 4);
    let left = "select count(*) from avtryck.export_told";
    assert_eq!(count(client, left).await, 5_996);
}

#[tokio::test]
async fn a_plan_of_the_first_hour_reads_no_table_whole_when_it_has_grown() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    client.batch_execute("vacuum analyze").await.unwrap();
    people(client, 0, 1, 7, 0).await;
    // What a session does first while tables are empty it goes on doing.
    let work = async |client: &Client, n: i32| {
        let subject = format!("md5('{n}')::uuid");
        let sql = format!(
            "insert into avtryck.subject_day_part values \
             (array[{subject}], '{{shop}}', '{{\"\"}}', '{{page}}', '{{\"\"}}', '{{1}}', '{{0}}', '{{0}}', '{{7}}', array[now()]); \
             select avtryck.fold_subject_days(20); \
             update avtryck.subject_permit set permit = 3, at = clock_timestamp() where subject = {subject}; \
             select avtryck.forget_sightings(array[{subject}])"
        );
        client.batch_execute(&sql).await.unwrap();
    };
    work(client, 0).await;
    people(client, 1, 6_000, 7, 0).await;
    let sql = "insert into avtryck.subject_day select md5(n::text)::uuid, current_date, 'shop', '', 'page', 'n', 1, 7 \
               from generate_series(1, 5999) as n";
    client.batch_execute(sql).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    for n in 1..5 {
        work(transaction.client(), n).await;
    }
    let sql = "select relname::text, seq_tup_read from pg_stat_xact_user_tables \
               where schemaname = 'avtryck' and seq_tup_read > 1000";
    let read = transaction.query(sql, &[]).await.unwrap();
    let read: Vec<(String, i64)> = read.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(read, [], "read whole");
}

#[tokio::test]
async fn what_waits_of_whoever_refuses_never_counts_and_what_waits_of_others_does() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    people(client, 0, 3_000, 55, 0).await;
    let sql = "insert into avtryck.subject_day_part \
               select array_agg(md5(n::text)::uuid), array_agg('shop'::text), array_agg(''::text), array_agg('page'::text), \
                      array_agg(''::text), array_agg(1), array_agg(0::bigint), array_agg(0::bigint), array_agg(7::smallint), \
                      array_agg(now()) from generate_series(0, 2999) as n; \
               insert into avtryck.sighting_part (epoch, permit, address, node, day, hour) \
               select 1, 55, array_agg(n::bigint), array_agg(md5(n::text)::uuid), array_agg(current_date), \
                      array_agg(1::smallint) from generate_series(0, 2999) as n";
    client.batch_execute(sql).await.unwrap();
    let decide = async |said: &str, from: i32, until: i32| {
        let sql = format!(
            "update avtryck.subject_permit set {said}, at = clock_timestamp() \
             where subject in (select md5(n::text)::uuid from generate_series({from}, {until}) as n)"
        );
        client.batch_execute(&sql).await.unwrap();
    };
    decide("permit = 1, consent_source = 2", 0, 999).await;
    let waiting = "select count(*) from avtryck.sighting_part, unnest(node) as whose";
    let gone = "where whose in (select md5(n::text)::uuid from generate_series(0, 999) as n)";
    let gone = format!("{waiting} {gone}");
    assert_eq!(count(client, &gone).await, 0);
    assert_eq!(count(client, waiting).await, 2_000);
    // Who permits it again permits what comes then. A rule refuses as long as it is in force.
    decide("permit = 55", 0, 499).await;
    decide("permit = 1, consent_source = 0", 1_000, 1_999).await;
    decide("permit = 55", 1_500, 1_999).await;
    fold(client).await.unwrap();
    let counted = "select count(distinct subject) from avtryck.subject_day where subject in \
                   (select md5(n::text)::uuid from generate_series";
    for (from, until, expected) in [(0, 999, 0), (1_000, 1_499, 0), (1_500, 2_999, 1_500)] {
        let sql = format!("{counted}({from}, {until}) as n)");
        assert_eq!(count(client, &sql).await, expected, "{from} to {until}");
    }
    add_facts(client, 1, 7, "page").await;
    fold(client).await.unwrap();
    let again = "select count(*) from avtryck.subject_day where subject = md5('0')::uuid";
    assert_eq!(count(client, again).await, 1);
}

#[tokio::test]
async fn an_evaluation_counts_what_no_loader_has_added_up_yet() {
    let mut database = TestDatabase::migrated().await;
    let client = &mut database.client;
    people(client, 0, 1, 7, 0).await;
    add_facts(client, 1, 7, "event").await;
    run(client, &book(&[("first", "events('n1', '1 day') = 1")])).await;
    assert_eq!(members(client).await, 1);
}

/// The plans that an import takes, in which two lists are compared row by row.
const FEW_ROWS: &str = "set enable_hashjoin = off; set enable_mergejoin = off";

#[tokio::test]
async fn those_whom_an_update_changes_are_found_among_many_in_time() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    let sql = "insert into avtryck.attribute_value (import, subject, key, \"values\", changed_at) \
               select 1, md5(n::text)::uuid, md5(n::text)::uuid, array['a', null], now() from generate_series(1, 30000) as n; \
               insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day) \
               select md5(n::text)::uuid, 1, 0, 0, 1, current_date, current_date from generate_series(1, 30000) as n; \
               insert into avtryck.segment (key) values ('any')";
    client.batch_execute(sql).await.unwrap();
    // Row by row it is 900 million comparisons.
    client.batch_execute(FEW_ROWS).await.unwrap();
    let patience = "set statement_timeout = '20s'";
    client.batch_execute(patience).await.unwrap();
    let due =
        "select count(distinct subject) from avtryck.segment_due, unnest(subjects) as subject";
    for (changes, changed) in [
        ("attribute_value set changed_at = now()", 0),
        ("attribute_value set valid_until = current_date", 30_000),
        ("attribute_value set valid_until = current_date + 1", 0),
        ("attribute_value set \"values\" = array['a', 'b']", 30_000),
        ("attribute_value set ended_at = now()", 30_000),
        ("link_node set degree = 2", 0),
        (
            "link_node set proved_group = hashtextextended(node::text, 7)",
            30_000,
        ),
        ("link_node set proved_group = 7", 30_000),
    ] {
        client
            .batch_execute("delete from avtryck.segment_due")
            .await
            .unwrap();
        let update = format!("update avtryck.{changes}");
        client.batch_execute(&update).await.unwrap();
        assert_eq!(count(client, due).await, changed, "{changes}");
    }
}

/// Returns how many subjects are due and should not be, or the reverse, and how many are due.
async fn compare_due(client: &Client, right_ones: &str) -> [i64; 2] {
    let sql = format!(
        "with said as (select distinct subject from avtryck.segment_due, unnest(subjects) as subject), \
              right_ones as ({right_ones}) \
         select (select count(*) from said full join right_ones using (subject) \
                 where said.subject is null or right_ones.subject is null), (select count(*) from said)"
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    [row.get(0), row.get(1)]
}

#[tokio::test]
async fn those_whom_an_update_changes_are_those_whose_versions_differ() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    let sql = "insert into avtryck.segment (key) values ('any'); \
               insert into avtryck.attribute_value (import, subject, key, \"values\", changed_at) \
               select import, md5(n::text)::uuid, md5(n::text)::uuid, array['a', 'b'], now() \
               from generate_series(1, 40) as n, generate_series(1, 2) as import; \
               insert into avtryck.link_node (node, kind, device_group, proved_group, degree, first_day, last_day) \
               select md5(n::text)::uuid, 1, 0, 0, 1, current_date, current_date from generate_series(1, 40) as n";
    client.batch_execute(sql).await.unwrap();
    let mut sizes = [0_i64; 2];
    for seed in 0..60 {
        let before = "create temporary table before as table avtryck.attribute_value; \
                      create temporary table node_before as table avtryck.link_node; \
                      delete from avtryck.segment_due";
        client.batch_execute(before).await.unwrap();
        let some = format!(
            "update avtryck.attribute_value as held \
             set \"values\" = case (h / 8) % 4 when 0 then array['a', null] when 1 then array[null, 'b'] \
                               when 2 then array['b', 'a'] else array['a', 'b'] end, \
                 ended_at = (array[null, timestamptz '2026-01-01', timestamptz '2026-01-02'])[1 + (h / 32) % 3], \
                 valid_until = date '2026-01-01' + (h / 96) % 3 \
             from ( \
                 select subject, import, (hashtextextended(subject::text || import, {seed}) & 1048575)::integer as h \
                 from avtryck.attribute_value \
             ) as by_chance \
             where by_chance.subject = held.subject and by_chance.import = held.import and h % 8 < 3"
        );
        client.batch_execute(&some).await.unwrap();
        let right_ones = "select distinct subject from before join avtryck.attribute_value as now using (subject, import) \
             where now.\"values\" is distinct from before.\"values\" or now.ended_at is distinct from before.ended_at \
                or now.valid_until < before.valid_until";
        let [wrong, all] = compare_due(client, right_ones).await;
        assert_eq!(wrong, 0, "seed {seed}: {some}");
        sizes[0] += all;

        let moved = format!(
            "delete from avtryck.segment_due; \
             update avtryck.link_node \
             set proved_group = (hashtextextended(node::text, {seed}) & 3), degree = degree + 1 \
             where hashtextextended(node::text, {seed} + 1000) & 7 < 2"
        );
        client.batch_execute(&moved).await.unwrap();
        let right_ones = "select distinct known.node as subject \
             from node_before as before join avtryck.link_node as now using (node) \
             join avtryck.link_node as known on known.node = now.node \
               or known.proved_group <> 0 and known.proved_group in (before.proved_group, now.proved_group) \
             where before.proved_group <> now.proved_group";
        let [wrong, all] = compare_due(client, right_ones).await;
        assert_eq!(wrong, 0, "seed {seed}: {moved}");
        sizes[1] += all;
        let after = "drop table before; drop table node_before";
        client.batch_execute(after).await.unwrap();
    }
    assert!(sizes.iter().all(|size| *size > 60), "{sizes:?}");
}
