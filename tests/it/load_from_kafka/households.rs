//! Sightings are made by the collector, since addresses go no further.

use super::*;
use crate::privacy::home::{HOME, browser, make_key};

#[tokio::test]
async fn devices_of_one_address_have_one_number_and_the_address_does_not_reach_kafka() {
    let Some(broker) = Broker::start().await else {
        return;
    };
    let database = TestDatabase::migrated().await;
    let with_households = || {
        let config = shared(&broker).set("kafka.compression", "none");
        config.set("site.open.household", true)
    };
    let dir = tempdir();
    alone(with_households()).write(&dir).await;
    make_key(&dir).await;
    let edge = Collector::start_in(dir).await;
    let dir = tempdir();
    with_households().database_of(&database).write(&dir).await;
    let loader = loader_in(dir).await;
    let mut devices = Vec::new();
    for address in [HOME, HOME, "2.64.78.99"] {
        let cookie = browser(&edge, address).await;
        devices.push(format!("'{}'", visitor(&cookie)));
    }
    loader.wait_for(ROWS, 3).await;
    let seen = "(select each.address, each.node from avtryck.sighting_part as part, \
                 unnest(part.address, part.node) as each (address, node) \
                 union select address, node from avtryck.sighting) as seen";
    let sightings = format!("select count(*) from {seen}");
    assert_eq!(loader.number(&sightings).await, 3);
    let number = async |device: &str| -> i64 {
        let sql = format!("select address from {seen} where node = {device}");
        loader.number(&sql).await
    };
    let [one, other, elsewhere] = [&devices[0], &devices[1], &devices[2]];
    assert_eq!(number(one).await, number(other).await);
    assert_ne!(number(one).await, number(elsewhere).await);
    let stored = broker.segments("avtryck.hit").concat();
    let holds = |bytes: &[u8]| stored.windows(bytes.len()).any(|part| part == bytes);
    assert!(holds(b"open"), "what is stored is not compressed");
    assert!(!holds(&[2, 64, 77, 99]) && !holds(HOME.as_bytes()));
}
