//! What makes a conversion net, and what a stranger cannot make net.

mod exchange;
mod permit;

use avtryck::row::exposure::FAST_CLICK;

use crate::support::{Collector, Config, command};

const TOKEN: &str = "0123456789abcdef";
/// How browsers say that a request comes from another site's page.
const CROSS_SITE: (&str, &str) = ("Sec-Fetch-Site", "cross-site");

fn config() -> Config {
    Config::sites().with(
        r#"
        click.keys = ["3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="]
        [[site]]
        key = "strict"
        conversions = "signed"
        default_permit = ["store", "measure"]
        [[partner]]
        key = "server"
        token = "0123456789abcdef"
        site = "open"
        default_permit = ["store", "measure"]
    "#,
    )
}

/// A collector that counts what it was sent.
struct Counting {
    collector: Collector,
    sent: i64,
}

impl Counting {
    async fn start() -> Counting {
        Counting {
            collector: Collector::start(config()).await,
            sent: 0,
        }
    }

    /// Sends a hit and returns the visitor's cookie, where the reply sets one.
    async fn send(&mut self, target: &str, headers: &[(&str, &str)]) -> String {
        let reply = self.collector.get(target, headers).await;
        assert!([200, 204].contains(&reply.status), "{target}: {reply:?}");
        self.sent += 1;
        match reply.cookies.is_empty() {
            true => String::new(),
            false => reply.cookie().to_owned(),
        }
    }

    /// Shows an ad of a campaign to a visitor who then clicks it, and returns the cookie.
    async fn click(&mut self, campaign: &str, click_id: &str) -> String {
        let ad = format!("/i.gif?site=open&partner=network&campaign={campaign}&creative=big");
        let cookie = self.send(&ad, &[]).await;
        tokio::time::sleep(FAST_CLICK).await;
        let click = format!("{ad}&ev=click&click_id={click_id}");
        self.send(&click, &[("Cookie", &cookie)]).await;
        cookie
    }

    async fn convert(&mut self, more: &str, cookie: &str) -> String {
        let headers = [("Cookie", cookie)];
        let headers = if cookie.is_empty() { &[][..] } else { &headers };
        let target = format!("/p.gif?site=open&e=conversion&{more}");
        self.send(&target, headers).await
    }

    async fn report(&mut self, more: &str) {
        let target = format!("/cb/server?token={TOKEN}&{more}");
        self.send(&target, &[]).await;
    }

    /// Waits until all is loaded.
    async fn settle(&self) {
        let all = "select count(*) from avtryck.hit";
        self.collector.wait_for(all, self.sent).await;
    }

    /// The gross and the net conversions of a campaign.
    async fn conversions(&self, campaign: &str) -> String {
        self.settle().await;
        let of = async |report: &str| {
            let sql = format!(
                "select concat_ws(' ', sum(gross_conversions), sum(net_conversions)) from avtryck.{report} \
                 where campaign = '{campaign}'"
            );
            self.collector.rows(&sql).await[0].get::<_, String>(0)
        };
        let figures = of("campaign_daily").await;
        assert_eq!(of("placement_daily").await, figures, "{campaign}");
        let sql = format!(
            "select concat_ws(' ', count(*), count(*) filter (where is_valid)) from avtryck.conversion_path \
             where campaign = '{campaign}' and linked_by <> 'impression'"
        );
        let paths: String = self.collector.rows(&sql).await[0].get(0);
        assert_eq!(paths, figures, "{campaign}");
        figures
    }

    async fn foreign(&self) -> i64 {
        self.settle().await;
        let sql = "select count(*) from avtryck.hit where flags & 16777216 <> 0";
        self.collector.number(sql).await
    }
}

#[tokio::test]
async fn a_click_id_that_is_spread_in_links_takes_nobodys_conversions() {
    let mut world = Counting::start().await;
    let rival = world.click("rival", "spread").await;
    let honest = world.click("honest", "own").await;
    // Loaded before the others, and with them in one batch.
    world.convert("avclid=spread&id=o-1", "").await;
    world.settle().await;
    for order in 2..5 {
        let more = format!("avclid=spread&id=o-{order}");
        world.convert(&more, "").await;
    }
    // Somebody who clicked another campaign comes by the rival's link.
    world.convert("avclid=spread&id=o-5", &honest).await;
    // A click of the same ID, by the rival of the rival.
    let taker =
        "/i.gif?site=open&partner=network&campaign=taker&creative=big&ev=click&click_id=spread";
    world.send(taker, &[CROSS_SITE]).await;
    world.convert("avclid=spread&id=o-6", &rival).await;
    assert_eq!(world.conversions("rival").await, "5 1");
    assert_eq!(world.conversions("honest").await, "1 1");
    assert_eq!(world.conversions("taker").await, "0 0");
    assert_eq!(world.foreign().await, 5);
}

#[tokio::test]
async fn a_third_partys_click_is_followed_by_one_visitor() {
    let mut world = Counting::start().await;
    let click =
        "/i.gif?site=open&partner=network&campaign=spring&creative=big&ev=click&click_id=k1";
    world.send(click, &[CROSS_SITE]).await;
    let buyer = world.convert("avclid=k1&id=o-1", "").await;
    world.convert("avclid=k1&id=o-2", "").await;
    world.settle().await;
    world.convert("avclid=k1&id=o-3", "").await;
    world.convert("avclid=k1&id=o-4", &buyer).await;
    assert_eq!(world.conversions("spring").await, "4 2");
    assert_eq!(world.foreign().await, 2);
}

#[tokio::test]
async fn one_conversion_of_a_click_and_an_event_id_is_net() {
    let mut world = Counting::start().await;
    let cookie = world.click("spring", "k1").await;
    world.convert("avclid=k1&id=o-1", &cookie).await;
    // A server reports the same order, and another one.
    world.report("ev=conversion&id=o-1&click_id=k1").await;
    world.report("ev=conversion&id=o-2&click_id=k1").await;
    // Without an ID nothing tells two orders from one that is sent twice.
    world.convert("avclid=k1", &cookie).await;
    world.convert("avclid=k1", &cookie).await;
    // The visitor's last click is the same.
    world.convert("id=o-3", &cookie).await;
    assert_eq!(world.conversions("spring").await, "6 4");
}

#[tokio::test]
async fn an_event_id_counts_once_for_its_click_on_later_days_too() {
    let mut world = Counting::start().await;
    let cookie = world.click("spring", "k1").await;
    world.convert("avclid=k1&id=o-1", &cookie).await;
    world.convert("id=o-2", &cookie).await;
    world.settle().await;
    let database = world.collector.database().await;
    // What was yesterday's is moved there, because a test cannot wait for tomorrow.
    let move_back = "select avtryck.make_hit_day(((now() - interval '1 day') at time zone 'UTC')::date); \
                     update avtryck.hit set received_at = received_at - interval '1 day'; \
                     delete from avtryck.event_key";
    database.batch_execute(move_back).await.unwrap();
    assert_eq!(world.conversions("spring").await, "2 2");
    for order in ["avclid=k1&id=o-1", "id=o-2", "avclid=k1&id=o-3"] {
        world.convert(order, &cookie).await;
    }
    assert_eq!(world.conversions("spring").await, "5 3");
}

#[tokio::test]
async fn a_campaign_that_a_conversion_names_itself_counts_as_gross_unless_it_was_shown() {
    let mut world = Counting::start().await;
    let named = "partner=network&campaign=spring";
    // A stranger, a visitor who saw another campaign, and one who saw this one.
    world.convert(&format!("{named}&id=o-1"), "").await;
    let ad = "/i.gif?site=open&partner=network&campaign=autumn&creative=big";
    let other = world.send(ad, &[]).await;
    world.convert(&format!("{named}&id=o-2"), &other).await;
    assert_eq!(world.conversions("spring").await, "2 0");
    let ad = ad.replace("autumn", "spring");
    let viewer = world.send(&ad, &[]).await;
    world.convert(&format!("{named}&id=o-3"), &viewer).await;
    assert_eq!(world.conversions("spring").await, "3 1");
    // A server's own word needs an impression or a click as well, of the person that it names.
    world.report("ev=conversion&campaign=app&id=o-4").await;
    world
        .report("ev=conversion&campaign=app&id=o-5&maid=M-1")
        .await;
    world
        .report("ev=conversion&campaign=app&id=o-6&uid=u-1")
        .await;
    assert_eq!(world.conversions("app").await, "3 0");
}

#[tokio::test]
async fn what_follows_an_ad_in_an_app_is_net_when_the_network_reports_it() {
    let mut world = Counting::start().await;
    // The app's click has the MAID; so has what the network reports of it.
    let click = "/i.gif?site=open&partner=server&campaign=clicked&creative=big&ev=click&maid=M-1";
    world.send(click, &[CROSS_SITE]).await;
    world
        .report("ev=conversion&campaign=clicked&id=o-1&maid=m-1")
        .await;
    world
        .report("ev=impression&campaign=seen&creative=big&uid=u-1")
        .await;
    world
        .report("ev=conversion&campaign=seen&creative=big&id=o-2&uid=u-1")
        .await;
    world
        .report("ev=conversion&campaign=seen&creative=big&id=o-3&uid=u-2")
        .await;
    // An ID that met another campaign.
    world
        .report("ev=conversion&campaign=clicked&id=o-4&uid=u-1")
        .await;
    assert_eq!(world.conversions("clicked").await, "2 1");
    assert_eq!(world.conversions("seen").await, "2 1");
    let exposure = "select count(*) from avtryck.exposure_detail where campaign = 'seen'";
    world.collector.wait_for(exposure, 1).await;
}

#[tokio::test]
async fn where_a_site_asks_for_it_only_proved_conversions_are_net() {
    let mut world = Counting::start().await;
    let click = async |world: &mut Counting, campaign: &str, click_id: &str| {
        let click = format!(
            "/i.gif?site=strict&partner=network&campaign={campaign}&creative=big&ev=click&click_id={click_id}"
        );
        world.send(&click, &[CROSS_SITE]).await;
    };
    click(&mut world, "unsigned", "k1").await;
    let plain = "/p.gif?site=strict&e=conversion&id=o-1&avclid=k1";
    let cookie = world.send(plain, &[]).await;
    // Under the key of a site that asks for nothing.
    world.convert("avclid=k1&id=o-2", &cookie).await;
    let signed = conversion_url(&world.collector, "o-3").await;
    let dearer = conversion_url(&world.collector, "o-8").await;
    for forged in [
        signed.replace("id=o-3", "id=o-4"),
        dearer.replace("value=899", "value=9000"),
    ] {
        let forged = format!("{forged}&avclid=k1");
        world.send(&forged, &[("Cookie", &cookie)]).await;
    }
    // A body could say something else than the address that was signed.
    let event = format!("/e?{}", signed.split_once('?').unwrap().1);
    let body = r#"{"avclid": "k1", "id": "o-5"}"#;
    let headers = [("Cookie", &*cookie)];
    let reply = world.collector.post(&event, &headers, body).await;
    assert_eq!(reply.status, 204);
    world.sent += 1;
    assert_eq!(world.conversions("unsigned").await, "5 0");

    click(&mut world, "signed", "k2").await;
    let cookie = world.send(&format!("{signed}&avclid=k2"), &[]).await;
    // Sent again it is left out.
    world
        .send(&format!("{signed}&avclid=k2"), &[("Cookie", &cookie)])
        .await;
    world.sent -= 1;
    world
        .report("site=strict&ev=conversion&id=o-6&click_id=k2")
        .await;
    assert_eq!(world.conversions("signed").await, "2 2");
    let flags = "select count(*) from avtryck.hit where flags & 1073741824 <> 0";
    assert_eq!(world.collector.number(flags).await, 1);
}

/// What `avtryck conversion-url` prints for a collector's configuration, without the origin.
async fn conversion_url(collector: &Collector, id: &str) -> String {
    let arguments = [
        "conversion-url",
        "--at",
        "https://px.example",
        "--site",
        "strict",
    ];
    let output = command(&arguments)
        .args(["--id", id, "--param", "value=899"])
        .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let url = String::from_utf8(output.stdout).unwrap();
    let path = url.trim().strip_prefix("https://px.example");
    path.unwrap().to_owned()
}

#[tokio::test]
async fn a_campaigns_quality_shows_new_visitors_and_one_network() {
    let mut world = Counting::start().await;
    let ad = "/i.gif?site=open&partner=network&creative=big&campaign=";
    for _ in 0..3 {
        world.send(&format!("{ad}farm"), &[]).await;
    }
    let cookie = world.send(&format!("{ad}honest"), &[]).await;
    let again = [("Cookie", &*cookie), ("X-Forwarded-For", "1.128.0.1")];
    world.send(&format!("{ad}honest"), &again).await;
    world.settle().await;
    let sql = "select concat_ws(' ', campaign, kind, net_hits, new_visitor_share, top_network_share) \
               from avtryck.campaign_quality where day >= current_date - 1 order by 1";
    let rows = world.collector.rows(sql).await;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("farm impression 3 1.0000"), "{rows:?}");
    assert!(
        rows[1].starts_with("honest impression 2 0.5000"),
        "{rows:?}"
    );
}
