//! What the page says of the visitor's home: from hits through nights to the page, and out again.

use avtryck::postgres::household::night;

use super::devices;
use super::{SWEDISH, page, submit, token, uuid};
use crate::support::{Collector, Config, Dir, Reply, command, tempdir};

const AGENT: (&str, &str) = (
    "User-Agent",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
);
const HOUSEHOLDS: &str =
    "select count(*) from avtryck.household_member where household is not null";

/// A collector with households and a key for them.
async fn start() -> Collector {
    let dir = tempdir();
    let config = Config::sites().set("site.open.household", true);
    config.write(&dir).await;
    make_key(&dir).await;
    Collector::start_in(dir).await
}

/// Makes the key of a collector in a folder.
pub(crate) async fn make_key(dir: &Dir) {
    let made = command(&["keys", "household"])
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

pub(crate) const HOME: &str = "2.64.77.99";

/// Sends a page view from an address. Returns the cookie that the browser has then.
async fn view(collector: &Collector, cookie: &str, address: &str, more: &str) -> String {
    let headers = [
        AGENT,
        ("Sec-Fetch-Site", "same-site"),
        ("Cookie", cookie),
        ("X-Forwarded-For", address),
    ];
    let target = format!("/p.gif?site=open{more}");
    let reply = collector.get(&target, &headers).await;
    assert_eq!(reply.status, 200);
    match reply.cookies.first() {
        Some(_) => reply.cookie().to_owned(),
        None => cookie.to_owned(),
    }
}

/// Returns the cookie of a new browser that was seen at an address.
pub(crate) async fn browser(collector: &Collector, address: &str) -> String {
    view(collector, "other=1", address, "").await
}

/// Has devices seen at home, one hit each, as if on the evenings of a week. Returns the first day
/// of the epoch, as a day since 1970.
async fn be_at_home(collector: &Collector, cookies: &[&String]) -> i32 {
    let mut nodes = Vec::new();
    for cookie in cookies {
        view(collector, cookie, HOME, "").await;
        nodes.push(format!("'{}'", uuid(cookie)));
    }
    // The collector adds them up once a minute.
    let seen = format!(
        "select distinct epoch, address, node from ( \
             select epoch, each.address, each.node from avtryck.sighting_part as part, \
                    unnest(part.address, part.node) as each (address, node) \
             union select epoch, address, node from avtryck.sighting) as seen \
         where node in ({})",
        nodes.join(", ")
    );
    let number = i64::try_from(cookies.len()).unwrap();
    let sql = format!("select count(*) from ({seen}) as seen");
    collector.wait_for(&sql, number).await;
    let sql = format!(
        "insert into avtryck.sighting_part (epoch, permit, address, node, day, hour) \
         select epoch, 63, array_agg(address), array_agg(node), \
                array_agg(date '1970-01-01' + epoch * 14 + day), array_agg(20::smallint) \
         from ({seen}) as seen, generate_series(0, 6) as day group by epoch"
    );
    collector.rows(&sql).await;
    let sql = "select max(epoch) * 14 from avtryck.sighting_part";
    collector.rows(sql).await[0].get(0)
}

async fn nights(collector: &Collector, days: impl IntoIterator<Item = i32>) {
    let mut client = collector.database().await;
    for day in days {
        night(&mut client, day).await.unwrap().unwrap();
    }
}

async fn look(collector: &Collector, cookie: &str) -> Reply {
    let seen = page(collector, &[("Cookie", cookie), SWEDISH]).await;
    assert!(seen.body.contains("id=\"home\""), "{}", seen.body);
    seen
}

/// What a page says of devices and of the home, and all that follows, without the visitor's own.
fn anonymous(page: &Reply, cookie: &str) -> String {
    let text = devices::anonymous(page, cookie);
    let beliefs = text.split_once("id=\"tied\"").unwrap();
    beliefs.1.to_owned()
}

const SHOWN: &str = "Vi tror att den här enheten delar hem med ";

async fn say(collector: &Collector, cookie: &str, page: &Reply, wish: &str) {
    let body = format!("token={}&wish={wish}", token(page));
    let reply = submit(collector, "home", cookie, &body).await;
    assert_eq!(reply.status, 303, "{}", reply.body);
}

async fn three_at_home(collector: &Collector) -> ([String; 3], i32) {
    let home = [
        browser(collector, HOME).await,
        browser(collector, HOME).await,
        browser(collector, HOME).await,
    ];
    let first = be_at_home(collector, &home.each_ref()).await;
    nights(collector, [first + 7, first + 8]).await;
    collector.wait_for(HOUSEHOLDS, 3).await;
    (home, first)
}

#[tokio::test]
async fn a_home_is_shown_after_fourteen_days_and_left_for_good() {
    let collector = start().await;
    let (home, first) = three_at_home(&collector).await;
    let [anna, bo, _] = &home;
    let nobody = browser(&collector, "2.64.80.1").await;
    view(&collector, &nobody, "2.64.80.1", "").await;
    let (unknown, none) = (
        look(&collector, anna).await,
        look(&collector, &nobody).await,
    );
    assert_eq!(anonymous(&unknown, anna), anonymous(&none, &nobody));
    nights(&collector, first + 9..first + 22).await;
    assert!(
        !look(&collector, anna).await.body.contains(SHOWN),
        "13 days"
    );
    nights(&collector, [first + 22]).await;
    let seen = look(&collector, anna).await;
    let sentence = format!(
        "{SHOWN}2 till 3 andra enheter, eftersom de har varit hemma samtidigt under minst 7 dagar, \
         på en och samma adress."
    );
    assert!(seen.body.contains(&sentence), "{}", seen.body);
    for cookie in [("Sec-GPC", "1"), ("Cookie", "avchoice=store.measure.link")] {
        let refused = page(&collector, &[("Cookie", anna), cookie]).await;
        assert!(!refused.body.contains("id=\"home\""), "{cookie:?}");
    }

    say(&collector, anna, &seen, "leave").await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 2);
    assert!(!look(&collector, anna).await.body.contains(SHOWN));
    // The others see no change for 14 days, and a replay changes nothing.
    say(&collector, anna, &seen, "leave").await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 2);
    assert!(look(&collector, bo).await.body.contains("2 till 3 andra"));
    nights(&collector, first + 23..first + 36).await;
    assert!(look(&collector, bo).await.body.contains("2 till 3 andra"));
    // The same evidence does not bring the device back. A loader notes it once an hour: this is
    // another one.
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    be_at_home(&collector, &home.each_ref()).await;
    nights(&collector, first + 36..first + 40).await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 2);
    assert!(look(&collector, bo).await.body.contains("en annan enhet"));
    assert!(!look(&collector, anna).await.body.contains(SHOWN));
}

#[tokio::test]
async fn a_household_is_never_computed_of_whoever_says_so() {
    let collector = start().await;
    let (home, first) = three_at_home(&collector).await;
    let [anna, bo, _] = &home;
    let seen = look(&collector, anna).await;
    say(&collector, anna, &seen, "never").await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 2);
    let seen = look(&collector, anna).await;
    assert!(seen.body.contains("aldrig ska beräknas"), "{}", seen.body);
    assert!(!seen.body.contains("id=\"never\""), "{}", seen.body);
    for pairs in ["sighting", "household_pair_detail", "household_member"] {
        let sql = format!(
            "select count(*) from avtryck.{pairs} where node = '{}'",
            uuid(anna)
        );
        assert_eq!(collector.number(&sql).await, 0, "{pairs}");
    }
    // It holds through hits, nights and a restart.
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    be_at_home(&collector, &home.each_ref()).await;
    nights(&collector, first + 9..first + 13).await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 2);
    let sql = format!(
        "select count(*) from avtryck.sighting where node = '{}'",
        uuid(anna)
    );
    assert_eq!(collector.number(&sql).await, 0);
    assert!(look(&collector, bo).await.body.contains("id=\"never\""));
}

#[tokio::test]
async fn a_withdrawal_takes_a_device_out_of_its_home_at_once_and_dissolves_a_home_of_one() {
    let collector = start().await;
    let (home, first) = three_at_home(&collector).await;
    nights(&collector, first + 9..first + 23).await;
    let [anna, bo, ceci] = &home;
    assert!(look(&collector, anna).await.body.contains(SHOWN));
    let origin = ("Origin", "https://www.open.example");
    let same = ("Sec-Fetch-Site", "same-site");
    let headers = [origin, same, ("Cookie", anna.as_str())];
    let target = "/consent?site=open";
    let reply = collector.request("DELETE", target, &headers, "").await;
    assert_eq!(reply.status, 200);
    collector.wait_for(HOUSEHOLDS, 2).await;
    let shown = |cookie: &str| {
        format!(
            "select count(*) from avtryck.household_shown where node = '{}'",
            uuid(cookie)
        )
    };
    assert_eq!(collector.number(&shown(anna)).await, 0);
    // A refusal by a hit does the same, and then there is no home left.
    let refused = format!("{bo}; avchoice=store.measure.link");
    view(&collector, &refused, HOME, "").await;
    collector.wait_for(HOUSEHOLDS, 0).await;
    assert_eq!(collector.number(&shown(bo)).await, 0);
    assert_eq!(collector.number(&shown(ceci)).await, 1, "for 14 days");
    nights(&collector, first + 23..first + 38).await;
    assert_eq!(collector.number(&shown(ceci)).await, 0);
    assert!(!look(&collector, ceci).await.body.contains(SHOWN));
}

#[tokio::test]
async fn a_stranger_who_names_the_maid_of_another_comes_into_no_home() {
    let collector = start().await;
    let (home, first) = three_at_home(&collector).await;
    let [anna, ..] = &home;
    let away = ["2.64.80.1", "2.64.81.1"];
    let [stranger, nobody] = [
        browser(&collector, away[0]).await,
        browser(&collector, away[1]).await,
    ];
    let maid = "&maid=38400000-8cf0-11bd-b23e-10b96e40000d";
    view(&collector, anna, HOME, maid).await;
    view(&collector, &stranger, away[0], maid).await;
    view(&collector, &nobody, away[1], "").await;
    collector
        .wait_for("select count(*) from avtryck.link_edge", 2)
        .await;
    let mut client = collector.database().await;
    let settle = avtryck::postgres::identity::group::settle_some;
    while settle(&mut client).await.unwrap().is_full() {}
    let sql = format!(
        "select count(distinct device_group) from avtryck.link_node where node in ('{}', '{}')",
        uuid(anna),
        uuid(&stranger)
    );
    assert_eq!(collector.number(&sql).await, 1, "one device, for reports");
    nights(&collector, first + 9..first + 24).await;
    assert!(look(&collector, anna).await.body.contains(SHOWN));
    let (hers, theirs) = (
        look(&collector, &stranger).await,
        look(&collector, &nobody).await,
    );
    assert_eq!(anonymous(&hers, &stranger), anonymous(&theirs, &nobody));
    // Nor does the stranger take anybody out of it by refusing.
    let refused = format!("{stranger}; avchoice=store.measure");
    view(&collector, &refused, away[0], "").await;
    let permit = format!(
        "select count(*) from avtryck.subject_permit where subject = '{}' and permit = 3",
        uuid(&stranger)
    );
    collector.wait_for(&permit, 1).await;
    assert_eq!(collector.number(HOUSEHOLDS).await, 3);
}
