//! From ads' pixels to the reports.

use crate::reload::APPLIED;
use crate::support::{Collector, Config, IPHONE, raw};

/// Of GeoLite2-ASN-Test.mmdb: a network that this collector takes for a data centre's.
const DATA_CENTRE: (&str, i64) = ("1.128.0.1", 1221);

const BIG: &str =
    "/i.gif?site=open&partner=network&campaign=spring&creative=big&placement=top&publisher=dn.se";
const SMALL: &str = "/i.gif?site=open&partner=network&campaign=spring&creative=small&placement=side&publisher=dn.se";

#[tokio::test]
async fn impressions_clicks_and_conversions_become_a_campaigns_figures() {
    let config = Config::sites().set("traffic.data_centre_asns", vec![DATA_CENTRE.1]);
    let collector = Collector::start(config).await;
    let get = async |target: &str, headers: &[(&str, &str)]| {
        let reply = collector.get(target, headers).await;
        assert_eq!(reply.status, 200, "{target}: {reply:?}");
        reply
    };
    // A visitor is shown an ad twice, clicks it, and buys.
    let first = get(BIG, &[]).await;
    let cookie = [("Cookie", first.cookie())];
    get(BIG, &cookie).await;
    // As much time as a person takes at least.
    tokio::time::sleep(avtryck::row::exposure::FAST_CLICK).await;
    get(&format!("{BIG}&ev=click&click_id=k1"), &cookie).await;
    get("/p.gif?site=open&e=conversion&avclid=k1&order=7", &cookie).await;
    // A click on what was never shown, a robot, a data centre, a preview, a page fetched ahead.
    get(&format!("{SMALL}&ev=click"), &[]).await;
    let robot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    get(BIG, &[("User-Agent", robot)]).await;
    get(BIG, &[("X-Forwarded-For", DATA_CENTRE.0)]).await;
    get(&format!("{BIG}&preview=1"), &cookie).await;
    get(BIG, &[cookie[0], ("Sec-Purpose", "prefetch")]).await;
    // The partner alone knows this one, and says so twice.
    let uid = format!("{SMALL}&uid=u-1");
    get(&format!("{uid}&id=e-1"), &[("User-Agent", IPHONE)]).await;
    get(&format!("{uid}&id=e-1"), &[]).await;
    // Who allows nothing is counted.
    let shut = BIG.replace("partner=network", "partner=asking-network");
    for _ in 0..3 {
        get(&shut, &[]).await;
    }
    collector
        .wait_for(
            "select (select count(*) from avtryck.hit) + (select coalesce(sum(hits), 0) from avtryck.hit_count)::bigint",
            13,
        )
        .await;

    let sql = "select concat_ws(' ', kind, creative, coalesce(exposure_number, -1), seen_before, click_id, \
                   array_to_string(array(select flag from unnest(flags) as flag where flag <> 'new_visitor'), ' ')) \
               from avtryck.hit_detail order by received_at";
    let rows = collector.rows(sql).await;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        rows,
        [
            "impression big 1 f ",
            "impression big 2 t ",
            "click big 2 t k1 ",
            "event -1 k1 ",
            "click small 0 f no_impression",
            "impression big 1 f bot",
            "impression big 1 f data_centre",
            "impression big -1 preview",
            "impression big -1 prefetch",
            "impression small 1 f ",
        ]
    );
    let sum = "select concat_ws(' ', sum(gross_impressions), sum(net_impressions), sum(unique_visitors), \
                   sum(gross_clicks), sum(net_clicks), sum(gross_conversions), sum(net_conversions), \
                   sum(unmeasured_impressions)) from";
    for report in ["campaign_daily", "placement_daily"] {
        let sql = format!("{sum} avtryck.{report} where campaign = 'spring'");
        let rows = collector.rows(&sql).await;
        assert_eq!(rows[0].get::<_, &str>(0), "5 3 2 2 1 1 1 3", "{report}");
    }
    let sql = "select concat_ws(' ', path.linked_by, path.creative, path.exposure_number, \
                   path.params ->> 'order', seen.hit_id = path.impression_hit_id, click.hit_id = path.click_hit_id) \
               from avtryck.conversion_path as path \
               join avtryck.hit_detail as seen on seen.kind = 'impression' and seen.seen_before \
               join avtryck.hit_detail as click on click.kind = 'click' and click.creative = 'big'";
    let rows = collector.rows(sql).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, &str>(0), "click_id big 2 7 t t");
}

#[tokio::test]
async fn the_admin_listener_has_the_report_of_a_campaigns_last_days() {
    let collector = Collector::start(Config::sites()).await;
    let ask = async |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(collector.admin, request.as_bytes()).await
    };
    collector.get(BIG, &[("User-Agent", IPHONE)]).await;
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, 1).await;
    let page = ask("/report?campaign=spring", "localhost").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none';")
    );
    for part in ["<h1>spring</h1>", "net impressions", "<b>1</b>"] {
        assert!(page.body.contains(part), "no {part} in {}", page.body);
    }
    let long = format!("/report?campaign={}", "x".repeat(300));
    for (path, host, status) in [
        ("/report?campaign=winter", "localhost", 404),
        ("/report?campaign=a%00b", "localhost", 400),
        ("/report", "localhost", 400),
        (&*long, "localhost", 400),
        ("/report?campaign=spring", "evil.example", 403),
    ] {
        assert_eq!(ask(path, host).await.status, status, "{path} {host}");
    }
    assert_eq!(
        collector.get("/report?campaign=spring", &[]).await.status,
        404
    );
}

#[tokio::test]
async fn a_sites_day_is_that_of_its_time_zone_also_once_another_is_configured() {
    // They never have the same date: 25 hours lie between them.
    let (east, west) = ("Pacific/Kiritimati", "Pacific/Pago_Pago");
    let config = Config::sites().set("site.open.time_zone", east);
    let collector = Collector::start(config).await;
    collector.get(BIG, &[("User-Agent", IPHONE)]).await;
    let on_day_in = |zone: &str| {
        format!(
            "select count(*) from avtryck.campaign_daily cross join avtryck.hit \
             where net_impressions = 1 and day = (received_at at time zone '{zone}')::date"
        )
    };
    collector.wait_for(&on_day_in(east), 1).await;
    collector.configure(|config| config.set("site.open.time_zone", west));
    collector.reload(APPLIED).await;
    collector.wait_for(&on_day_in(west), 1).await;
    let elsewhere = collector.rows(&on_day_in(east)).await;
    assert_eq!(elsewhere[0].get::<_, i64>(0), 0);
}
