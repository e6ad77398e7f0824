//! Devices that are dear to recognise, and names that nobody had before.

use crate::support::{Collector, Config, until};

const ANDROID: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36";

#[tokio::test]
async fn new_devices_in_a_large_batch_are_loaded_soon_and_known_ones_stay_known() {
    let collector = Collector::open().await;
    let known = [("User-Agent", ANDROID)];
    let target = "/e?site=open&ch_model=SM-S918B";
    collector
        .get("/p.gif?site=open&ch_model=SM-S918B", &known)
        .await;
    let of_model = "select count(*) from avtryck.hit_detail where device_model = 'SM-S918B'";
    collector.wait_for(of_model, 1).await;
    for request in 0..3 {
        let events: Vec<String> = (0..1_000)
            .map(|event| format!(r#"{{"ch_model":"XX-{request}-{event}"}}"#))
            .collect();
        let body = format!("[{}]", events.join(","));
        let headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", ANDROID),
        ];
        assert_eq!(
            collector.post("/e?site=open", &headers, &body).await.status,
            204
        );
    }
    collector.post(target, &known, "[{}]").await;
    collector
        .wait_for("select count(*) from avtryck.hit", 3_002)
        .await;
    assert_eq!(collector.number(of_model).await, 2);
    until(async || {
        collector
            .metric("avtryck_spool_oldest_unloaded_seconds")
            .await
            == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_site_and_partner_get_as_many_new_ads_in_a_day_as_the_configuration_says() {
    let config = Config::sites().set("loader.new_names_per_day", 5);
    let collector = Collector::start(config).await;
    let ad =
        |number: u32| format!("/i.gif?site=open&partner=network&campaign=c{number}&cat=k{number}");
    for number in 0..12 {
        collector.get(&ad(number), &[("User-Agent", ANDROID)]).await;
    }
    collector
        .wait_for("select count(*) from avtryck.hit", 12)
        .await;
    let campaigns =
        "select count(distinct campaign) from avtryck.hit_detail where campaign like 'c%'";
    assert_eq!(collector.number(campaigns).await, 5);
    let other = "select count(*) from avtryck.hit_detail where partner = 'network' and campaign = 'other' \
        and site = 'open' and site_category = 'other' and flags is not null";
    assert_eq!(collector.number(other).await, 7);
    assert!(collector.metric("avtryck_loader_other_names_total").await >= 14.0);
    // A restart begins nothing anew, and what is known is found.
    let (collector, _, _) = collector.hand_over().await;
    for number in [0, 1, 20] {
        collector.get(&ad(number), &[("User-Agent", ANDROID)]).await;
    }
    collector
        .wait_for("select count(*) from avtryck.hit", 15)
        .await;
    assert_eq!(collector.number(campaigns).await, 5);
    assert_eq!(collector.number(other).await, 8);
}
