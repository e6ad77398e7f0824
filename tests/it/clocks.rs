//! What a collector does when clocks are wrong. The nights in `src/jobs/tests/` have the rest.

use crate::support::{Collector, until};

/// Starts a collector anew.
async fn start_again(collector: Collector) -> Collector {
    let (status, dir, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    Collector::start_in(dir).await
}

async fn change(collector: &Collector, sql: &str) {
    collector.database().await.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn after_a_jump_of_the_clock_hits_are_loaded_nothing_is_deleted_and_readiness_says_so() {
    let collector = Collector::open().await;
    // The clocks' difference, some microseconds at least, is told once the first jobs have run.
    // They would still delete what is made old below.
    until(async || collector.metric("avtryck_clock_difference_seconds").await != 0.0).await;
    assert_eq!(collector.metric("avtryck_jobs_suspended").await, 0.0);
    change(
        &collector,
        "select avtryck.make_hit_day(current_date - n) from generate_series(200, 202) as n; \
         insert into avtryck.event_key values (gen_random_uuid(), current_date - 100); \
         insert into avtryck.exposure values (gen_random_uuid(), 1, now() - interval '200 days', now() - interval '200 days', 1, 0); \
         update avtryck.clock set seen_at = now() - interval '3 days'",
    )
    .await;
    let old = "select (select count(*) from avtryck.hit_day where day < current_date - 90) \
        + (select count(*) from avtryck.event_key) + (select count(*) from avtryck.exposure)";

    let collector = start_again(collector).await;
    collector.until_metric("avtryck_jobs_suspended", 1.0).await;
    let ready = collector.admin("/readyz").await;
    let clock = "clock: Postgres's clock moved by 72 h while no collector ran; \
        nothing is deleted by age until both have run in step for 24 h\n";
    assert_eq!(ready.status, 200);
    assert!(ready.body.ends_with(clock), "{}", ready.body);
    collector.get("/p.gif?site=open", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    assert_eq!(collector.number(old).await, 5);

    // Whoever knows better says so, and the jobs go on: a day's worth at a time.
    change(
        &collector,
        "update avtryck.clock set in_step_since = now() - interval '1 day'",
    )
    .await;
    let collector = start_again(collector).await;
    collector.wait_for(old, 2).await;
    collector.until_metric("avtryck_jobs_held_back", 2.0).await;
    let body = collector.admin("/readyz").await.body;
    let remark = "retention: 2 more days are due; one goes each hour\n";
    assert!(body.ends_with(remark), "{body}");
    assert_eq!(collector.metric("avtryck_jobs_suspended").await, 0.0);
    until(async || {
        collector
            .metric("avtryck_clock_difference_seconds")
            .await
            .abs()
            < 60.0
    })
    .await;
    let (_, _dir, log) = collector.stop().await;
    assert!(log.contains("2 more days are due"), "{log}");
}
