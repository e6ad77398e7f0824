//! Which IDs are tied together: pixels in, ties and permits out.

use crate::support::{Collector, Config};

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
