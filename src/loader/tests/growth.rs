//! What a stranger's hits may cost and leave behind: devices looked up, and rows of dimensions.

use super::*;
use crate::enrich::{self, TableFiles};
use crate::hit::{Flags, VisitorId};

/// Appends one hit for each number.
async fn append_each(spool: &Spool, numbers: std::ops::Range<u64>, make: fn(u64) -> Hit<'static>) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = numbers.map(|number| move |out: &mut Vec<u8>| make(number).encode(out));
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

fn page_view() -> Hit<'static> {
    let mut hit = Hit::new(clock::now(), Kind::PageView, "shop");
    hit.permit = Permit::MEASURE.with(Permit::STORE);
    hit.client_ip = Some([203, 0, 113, 7].into());
    hit
}

/// Runs a test with a database, a spool and a loader of it.
async fn with_loader(test: impl AsyncFnOnce(&mut Loader, &Client)) {
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let hits = spool(&dir.path().join("spool"));
    let instructions = spool(&dir.path().join("instruction"));
    let mut loader = loader(&hits, &instructions, postgres.config.clone());
    loader.batch_rows = 10_000;
    let local = tokio::task::LocalSet::new();
    local.run_until(test(&mut loader, &postgres.client)).await;
}

/// Replaces the sink: as after a restart, it knows of nothing.
fn restart(loader: &mut Loader, postgres: &tokio_postgres::Config, new_names_max: u64) {
    let database = Arc::new(Database::at(postgres.clone()));
    let sink = PostgresSink::new(database, Arc::clone(&loader.metrics));
    loader.sink = sink.limit_new_names(new_names_max);
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn flagged(client: &Client, flag: Flags) -> i64 {
    let sql = format!(
        "select count(*) from avtryck.hit where flags & {} <> 0",
        flag.bits()
    );
    number(client, &sql).await
}

#[tokio::test]
async fn devices_beyond_the_budget_of_a_batch_are_unknown_and_flagged_and_known_ones_are_not() {
    with_loader(async |loader, client| {
        let files = TableFiles {
            rules: "assets/data/rules/regexes.json".into(),
            ..TableFiles::default()
        };
        loader.tables = Arc::new(ArcSwap::from_pointee(enrich::load(&files).0));
        // A known one among them, three times, and hints that vary on it.
        append_each(&loader.spools[0], 0..2_000, |number| {
            let mut hit = page_view();
            let known = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
            hit.user_agent = match number % 4 {
                0 => known.into(),
                1 => {
                    hit.hints.platform_version = format!("{number}").into();
                    known.into()
                }
                _ => format!("Mozilla/5.0 (Linux; Android 14; SM-{number}) Bäst/{number}").into(),
            };
            hit
        })
        .await;
        append_each(&loader.spools[0], 0..600, |number| {
            let mut hit = page_view();
            hit.user_agent = format!("Mozilla/5.0 (Linux; Android 14; GT-{number}) AppleWebKit/537.36").into();
            hit
        })
        .await;
        load_once(loader).await.unwrap();
        let all = number(client, "select count(*) from avtryck.hit").await;
        // 1,000 strange agents, 600 others and the known one: 1,024 are looked up.
        assert_eq!((all, flagged(client, Flags::DEVICE_LATER).await), (2_600, 577));
        let unknown = "select count(*) from avtryck.hit join avtryck.device on key = device_key \
            where os is null and class = 'other'";
        assert_eq!(number(client, unknown).await, 577);
        let phones = "select count(*) from avtryck.hit join avtryck.device on key = device_key \
            where model = 'iPhone'";
        assert_eq!(number(client, phones).await, 1_000);
        // The next batch looks up what is left.
        append_each(&loader.spools[0], 0..600, |number| {
            let mut hit = page_view();
            hit.user_agent = format!("Mozilla/5.0 (Linux; Android 14; GT-{number}) AppleWebKit/537.36").into();
            hit
        })
        .await;
        load_once(loader).await.unwrap();
        assert_eq!(flagged(client, Flags::DEVICE_LATER).await, 577);
    })
    .await;
}

#[tokio::test]
async fn names_beyond_the_days_limit_are_other_in_rows_counts_and_exposures_whoever_loads_them() {
    let postgres = testing::TestDatabase::migrated().await;
    let client = &postgres.client;
    let dir = tempfile::tempdir().unwrap();
    let hits = spool(&dir.path().join("spool"));
    let instructions = spool(&dir.path().join("instruction"));
    let mut loader = loader(&hits, &instructions, postgres.config.clone());
    loader.batch_rows = 10_000;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let made = |number: u64| {
                let mut hit = page_view();
                hit.kind = Kind::Impression;
                hit.visitor = Some(VisitorId([1; 16]));
                hit.partner = "net".into();
                hit.campaign = format!("c{number}").into();
                hit.category = format!("k{number}").into();
                if number % 2 == 1 {
                    hit.permit = Permit::NONE;
                    hit.visitor = None;
                }
                hit
            };
            let state = async || {
                let ads = "select count(*) from avtryck.ad where campaign like 'c%'";
                let categories = "select count(*) from avtryck.site where category like 'k%'";
                let other = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count_detail \
                    where campaign = 'other' and site_category = 'other' and partner = 'net'";
                let seen = "select coalesce(sum(impressions), 0)::bigint from avtryck.exposure_detail \
                    where campaign = 'other' and partner = 'net'";
                let rows = "select count(*) from avtryck.hit join avtryck.ad on ad.key = ad_key \
                    join avtryck.site on site.key = site_key \
                    where ad.campaign = 'other' and site.category = 'other' and site.site = 'shop'";
                [
                    number(client, ads).await,
                    number(client, categories).await,
                    number(client, rows).await,
                    flagged(client, Flags::OTHER_AD).await,
                    number(client, other).await,
                    number(client, seen).await,
                ]
            };
            restart(&mut loader, &postgres.config, 10);
            append_each(&loader.spools[0], 0..30, made).await;
            load_once(&loader).await.unwrap();
            assert_eq!(state().await, [10, 10, 10, 10, 10, 10]);
            // The names that are known still are, and no others, even after a restart.
            append_each(&loader.spools[0], 0..30, made).await;
            load_once(&loader).await.unwrap();
            restart(&mut loader, &postgres.config, 10);
            append_each(&loader.spools[0], 20..40, made).await;
            load_once(&loader).await.unwrap();
            assert_eq!(state().await, [10, 10, 30, 30, 30, 30]);
            // Another site has names of its own.
            append_each(&loader.spools[0], 50..56, |number| {
                let mut hit = page_view();
                hit.site = "other.se".into();
                hit.category = format!("k{number}").into();
                hit
            })
            .await;
            load_once(&loader).await.unwrap();
            assert_eq!(state().await[1], 16);
            // Another day has too.
            client
                .execute("update avtryck.new_name set day = day - 1", &[])
                .await
                .unwrap();
            restart(&mut loader, &postgres.config, 10);
            append_each(&loader.spools[0], 20..40, made).await;
            load_once(&loader).await.unwrap();
            assert_eq!(state().await, [20, 26, 35, 35, 35, 35]);
            let rendered = loader.metrics.render();
            assert!(rendered.contains("avtryck_loader_other_names_total 140"), "{rendered}");
        })
        .await;
}

#[tokio::test]
async fn domains_of_pages_beyond_the_days_limit_are_other_for_each_site_and_partner() {
    let postgres = testing::TestDatabase::migrated().await;
    let client = &postgres.client;
    let dir = tempfile::tempdir().unwrap();
    let hits = spool(&dir.path().join("spool"));
    let instructions = spool(&dir.path().join("instruction"));
    let mut loader = loader(&hits, &instructions, postgres.config.clone());
    loader.batch_rows = 10_000;
    restart(&mut loader, &postgres.config, 10);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            append_each(&loader.spools[0], 0..60, |number| {
                let mut hit = page_view();
                hit.page_url = format!("https://www.d{}.se/{number}", number % 30).into();
                if number >= 30 {
                    hit.partner = "net".into();
                    hit.page_url = "about:blank".into();
                    hit.publisher = format!("p{number}.se").into();
                }
                hit
            })
            .await;
            load_once(&loader).await.unwrap();
            let domains = "select count(*) from avtryck.page_domain where domain like";
            let of_pages = number(client, &format!("{domains} 'd%'")).await;
            let of_publishers = number(client, &format!("{domains} 'p%'")).await;
            let others = "select count(*) from avtryck.hit_detail where page_domain = 'other' \
                and flags @> '{other_ad}' and page_category is null and not is_sensitive_page";
            let found = [of_pages, of_publishers, number(client, others).await];
            assert_eq!(found, [10, 10, 40]);
        })
        .await;
}

#[tokio::test]
async fn a_name_that_was_refused_is_stored_once_it_may_be_though_the_loader_knew_it() {
    let postgres = testing::TestDatabase::migrated().await;
    let client = &postgres.client;
    let dir = tempfile::tempdir().unwrap();
    let hits = spool(&dir.path().join("spool"));
    let instructions = spool(&dir.path().join("instruction"));
    let mut loader = loader(&hits, &instructions, postgres.config.clone());
    loader.batch_rows = 4;
    restart(&mut loader, &postgres.config, 1);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            // Five batches over one connection, each of which is prepared while the one before it
            // commits.
            append_each(&loader.spools[0], 0..20, |number| {
                let mut hit = page_view();
                hit.campaign = format!("c{}", number % 4).into();
                hit
            })
            .await;
            let (stop, mut stopped) = watch::channel(false);
            let progress = Arc::clone(&loader.progress);
            let end = async {
                while loader.spools[0].backlog_bytes(progress.position(0)) > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                stop.send(true).unwrap();
            };
            let mut pause = PAUSE_MIN;
            let (session, ()) = tokio::join!(session::run(&loader, &mut stopped, &mut pause), end);
            session.unwrap();
            let dangling = "select count(*) from avtryck.hit left join avtryck.ad on key = ad_key where key is null";
            assert_eq!(number(client, dangling).await, 0);
            assert_eq!(flagged(client, Flags::OTHER_AD).await, 15);
        })
        .await;
}

#[tokio::test]
async fn what_a_hit_brings_again_is_seen_on_its_day_and_a_swept_row_comes_back() {
    with_loader(async |loader, client| {
        let today =
            "select count(*) from avtryck.site where last_seen = (now() at time zone 'UTC')::date";
        append_each(&loader.spools[0], 0..1, |_| page_view()).await;
        load_once(loader).await.unwrap();
        assert_eq!(number(client, today).await, 1);
        client
            .execute("update avtryck.site set last_seen = '2026-01-01'", &[])
            .await
            .unwrap();
        append_each(&loader.spools[0], 0..1, |_| page_view()).await;
        load_once(loader).await.unwrap();
        assert_eq!(number(client, today).await, 1);
        client
            .execute("delete from avtryck.site", &[])
            .await
            .unwrap();
        // A hit of a day to come keeps what it points to until that day is gone.
        append_each(&loader.spools[0], 0..1, |_| {
            let mut hit = page_view();
            hit.received_at = UnixMicros(2_000_000_000_000_000);
            hit
        })
        .await;
        load_once(loader).await.unwrap();
        let then = "select count(*) from avtryck.site where last_seen = '2033-05-18'";
        assert_eq!(number(client, then).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_oldest_hit_is_that_which_is_not_committed_while_a_batch_is_prepared() {
    with_loader(async |loader, _| {
        append_each(&loader.spools[0], 0..1, |_| page_view()).await;
        load_once(loader).await.unwrap();
        append_each(&loader.spools[0], 0..3_000, |number| {
            let mut hit = page_view();
            hit.received_at = UnixMicros(1_800_000_000_000_000 + number.cast_signed());
            hit
        })
        .await;
        let (mut writer, companion) = loader.sink.open().await.unwrap();
        let mut preparing = loader.begin(&writer).await.unwrap();
        preparing.ask(2_000);
        let oldest = || oldest_after(&loader.spools[0], loader.progress.position(0));
        let mut prepared = super::super::session::next_batch(&mut preparing, &companion)
            .await
            .unwrap();
        assert_eq!(oldest(), Some(UnixMicros(1_800_000_000_000_000)));
        let mut overtaking =
            instruction::Overtaking::new("Postgres", &loader.instructions, &writer)
                .await
                .unwrap();
        loader
            .load(&mut writer, &mut overtaking, &mut prepared)
            .await
            .unwrap();
        assert_eq!(oldest(), Some(UnixMicros(1_800_000_000_002_000)));
    })
    .await;
}
