//! Citus, where there is one: no package registry that the tests use has it. What does not need it,
//! the SQL and the choice of layouts, is tested beside the code.

use crate::support::{Collector, Config, PATIENCE, command, tempdir};

#[tokio::test]
#[ignore = "skipped: needs Citus; CITUS_URL would name an empty database of a coordinator"]
async fn hits_that_are_spread_over_servers_are_each_one_row_and_can_be_erased() {
    let url = std::env::var("CITUS_URL").expect("CITUS_URL");
    let dir = tempdir();
    let config = Config::sites().set("database.url", url);
    config.write(&dir).await;
    let mut migrate = command(&["migrate", "--distribute"]);
    migrate.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
    assert!(migrate.status().await.unwrap().success());
    let collector = Collector::start_in(dir).await;
    let maid = "c0ffee00-0000-4000-8000-000000000001";
    for number in 0..200 {
        let target = format!("/p.gif?site=open&e=citus-{number}&maid={maid}");
        assert_eq!(collector.get(&target, &[]).await.status, 200);
    }
    let rows = "select count(*) from avtryck.hit where event_name like 'citus-%'";
    collector.wait_for(rows, 200).await;
    let mut erase = command(&["subject", "erase", "--maid", maid]);
    erase.env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"));
    let erased = tokio::time::timeout(PATIENCE, erase.status()).await;
    assert!(erased.unwrap().unwrap().success());
    assert_eq!(collector.number(rows).await, 0);
}
