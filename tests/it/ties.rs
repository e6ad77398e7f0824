//! Which IDs are tied together: pixels in, ties and permits out.

use std::time::Duration;

use crate::reload::APPLIED;
use crate::support::{Collector, Config, IPHONE};

const PAGE: (&str, &str) = ("Origin", "https://www.open.example");
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const AGENT: (&str, &str) = (
    "User-Agent",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
);
const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";
const EDGES: &str = "select count(*) from avtryck.link_edge";

async fn new_visitor(collector: &Collector) -> String {
    let reply = collector.get("/id?site=open", &[AGENT, SAME_SITE]).await;
    reply.cookie().to_owned()
}

/// Sends a page view with a visitor's cookie, and with a choice unless that is empty.
async fn hit(collector: &Collector, (cookie, choice): (&str, &str), more: &str) {
    let cookies = match choice {
        "" => cookie.to_owned(),
        choice => format!("{cookie}; avchoice={choice}"),
    };
    let headers = [AGENT, SAME_SITE, ("Cookie", &*cookies)];
    let target = format!("/p.gif?site=open{more}");
    assert_eq!(collector.get(&target, &headers).await.status, 200);
}

#[tokio::test]
async fn ids_of_one_hit_are_tied_until_the_visitor_refuses_and_again_once_they_may_be() {
    let collector = Collector::start(Config::sites()).await;
    let anna = new_visitor(&collector).await;
    let named = format!("&maid={MAID}&did=device-4711&uid=not-configured");
    hit(&collector, (&anna, ""), &named).await;
    collector.wait_for(EDGES, 2).await;
    let sql = "select count(*) from avtryck.link_edge \
               where permit & 19 = 19 and proved_day is null and is_new and 1 in (a_kind, b_kind)";
    assert_eq!(collector.number(sql).await, 2);

    // A choice without the permit to link, and one that is only counted.
    for choice in ["store.measure", "store"] {
        hit(&collector, (&anna, choice), "").await;
        collector.wait_for(EDGES, 0).await;
        let bits = if choice == "store" { 1 } else { 3 };
        let sql = format!(
            "select count(*) from avtryck.subject_permit as said \
             where permit = {bits} and consent_source = 2 and said.site = 'open' \
               and exists (select from avtryck.hit where visitor_id = said.subject)"
        );
        collector.wait_for(&sql, 1).await;
        hit(&collector, (&anna, "store.measure.link"), &named).await;
        // What is only counted holds from the end of its minute.
        if choice == "store.measure" {
            collector.wait_for(EDGES, 2).await;
        }
    }
}

#[tokio::test]
async fn a_withdrawal_takes_ties_and_permits_away() {
    let collector = Collector::start(Config::sites()).await;
    let [anna, berta] = [new_visitor(&collector).await, new_visitor(&collector).await];
    for cookie in [&anna, &berta] {
        hit(&collector, (cookie, ""), &format!("&maid={MAID}")).await;
    }
    collector.wait_for(EDGES, 2).await;
    let permits = "select count(*) from avtryck.subject_permit";
    collector.wait_for(permits, 3).await;
    let headers = [PAGE, SAME_SITE, ("Cookie", &*anna)];
    let target = "/consent?site=open";
    let reply = collector.request("DELETE", target, &headers, "").await;
    assert_eq!(reply.status, 200);
    collector.wait_for(EDGES, 1).await;
    assert_eq!(collector.number(permits).await, 2);
    // Her later hits are counts, and tie nothing.
    hit(
        &collector,
        (&anna, ""),
        &format!("&maid={MAID}&did=device-4711"),
    )
    .await;
    let counted = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(counted, 1).await;
    collector.settle().await;
    assert_eq!(collector.number(EDGES).await, 1);
    // That of the hit that was waited for is the third.
    collector.wait_for(permits, 3).await;
}

/// Waits for less than the job `link` needs to come round.
async fn wait_shortly(collector: &Collector, sql: &str, number: i64) {
    let took = collector.wait_for(sql, number).await;
    assert!(took < Duration::from_secs(20), "{sql}: {took:?}");
}

#[tokio::test]
async fn a_withdrawal_a_refusal_and_a_stricter_rule_split_groups_at_once() {
    let config = Config::sites().set("partner.network.id_type", "browser");
    let collector = Collector::start(config).await;
    let mut visitors = Vec::new();
    for number in 0..6 {
        let visitor = new_visitor(&collector).await;
        let named = match number {
            0..4 => format!("&maid={MAID}"),
            _ => "&partner=network&uid=partner-4711".to_owned(),
        };
        hit(&collector, (&visitor, ""), &named).await;
        visitors.push(visitor);
    }
    collector.wait_for(EDGES, 6).await;
    // The job runs when a collector starts.
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    let of_size =
        |size: i64| format!("select count(*) from avtryck.device_group where size = {size}");
    collector.wait_for(&of_size(5), 1).await;
    assert_eq!(collector.number(&of_size(3)).await, 1);

    let headers = [PAGE, SAME_SITE, ("Cookie", &*visitors[0])];
    let target = "/consent?site=open";
    let reply = collector.request("DELETE", target, &headers, "").await;
    assert_eq!(reply.status, 200);
    wait_shortly(&collector, &of_size(4), 1).await;
    hit(&collector, (&visitors[1], "store.measure"), "").await;
    wait_shortly(&collector, &of_size(3), 2).await;
    let splits = "avtryck_link_splits_total{reason=\"withdrawal\"}";
    collector.until_metric(splits, 2.0).await;

    collector.configure(|config| config.set("partner.network.id_type", "none"));
    collector.reload(APPLIED).await;
    wait_shortly(&collector, &of_size(3), 1).await;
    wait_shortly(&collector, EDGES, 2).await;
    let changed = "select count(*) from avtryck.link_change where reason = 'rule'";
    collector.wait_for(changed, 3).await;
    // A stranger's tie that no hit permitted is found at the next start.
    let stray = "insert into avtryck.link_edge (a, b, a_kind, b_kind, first_day, last_day, permit, consent_source, source) \
                 values (md5('1')::uuid, md5('2')::uuid, 1, 2, current_date, current_date, 63, 2, 0)";
    let database = collector.database().await;
    database.batch_execute(stray).await.unwrap();
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    collector
        .until_metric("avtryck_link_unpermitted_total", 1.0)
        .await;
    assert!((collector.metric("avtryck_link_audited_total").await - 3.0).abs() < 0.5);
    collector
        .until_metric("avtryck_hits_by_protocol_total{protocol=\"native\"}", 0.0)
        .await;
    assert_eq!(
        collector
            .get("/p.gif?site=open", &[("User-Agent", IPHONE)])
            .await
            .status,
        200
    );
    collector
        .until_metric("avtryck_hits_by_protocol_total{protocol=\"native\"}", 1.0)
        .await;
}
