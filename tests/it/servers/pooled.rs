//! PgBouncer between a collector and Postgres.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::support::cluster::Cluster;
use crate::support::{Collector, Config, free_address, until};

/// Connections that a collector with two loaders needs, as docs/deployment.md says.
const CONNECTIONS: i64 = 14;

/// A pool before a cluster.
struct Pool {
    child: Child,
    address: SocketAddr,
    cluster: Cluster,
}

impl Pool {
    async fn start(mode: &str) -> Pool {
        let cluster = Cluster::start(&[], &["host hits me all trust"]);
        cluster.prepare().await;
        let address = free_address();
        let folder = cluster.folder();
        let text = format!(
            "[databases]\nhits = host={} port={} dbname=hits\n\
             [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}/users.txt\npool_mode = {mode}\n\
             default_pool_size = {CONNECTIONS}\n",
            cluster.address.ip(),
            cluster.address.port(),
            address.ip(),
            address.port(),
            folder.display()
        );
        for (name, text) in [
            ("pool.ini", text.as_str()),
            ("users.txt", "\"me\" \"hush\"\n"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
            cluster.own(&folder.join(name));
        }
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg("-q").arg(folder.join("pool.ini"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = cluster.as_user(&mut command).spawn().unwrap();
        until(async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        Pool {
            child,
            address,
            cluster,
        }
    }

    fn config(&self) -> Config {
        let config = Config::sites().set("loader.connections", 2);
        config.set(
            "database.url",
            format!("postgres://me:hush@{}/hits", self.address),
        )
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_pool_in_session_mode_carries_a_collector_with_the_documented_connections() {
    let pool = Pool::start("session").await;
    let mut sent = 0;
    let mut collector = Collector::start(pool.config()).await;
    for _ in 0..3 {
        for _ in 0..10 {
            assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
            sent += 1;
        }
        pool.cluster
            .wait_for("select count(*) from avtryck.hit", sent)
            .await;
        let used = "select count(*) from pg_stat_activity where usename = 'me'";
        let used = pool.cluster.number(used).await;
        assert!((2..=CONNECTIONS).contains(&used), "{used} connections");
        // What is left of its sessions must not get in the way of the next.
        let dir = collector.kill().await;
        collector = Collector::start_in(dir).await;
    }
}

#[tokio::test]
async fn a_pool_that_gives_each_transaction_another_session_is_named() {
    let pool = Pool::start("transaction").await;
    let collector = Collector::start(pool.config()).await;
    collector.get("/p.gif?site=open", &[]).await;
    let named = "it must be in session mode, with server_reset_query";
    collector.until_logged(named).await;
    until(async || collector.metric("avtryck_postgres_errors_total").await > 0.0).await;
}

#[tokio::test]
async fn a_limit_below_what_the_configured_loaders_need_is_named_at_the_start() {
    for (loaders, is_enough) in [(1, true), (2, false)] {
        let cluster = Cluster::start(&[], &["host hits me all trust"]);
        cluster.prepare().await;
        let limit = format!("alter role me connection limit {}", CONNECTIONS - 1);
        let admin = cluster.client("hits").await;
        admin.batch_execute(&limit).await.unwrap();
        let url = format!("postgres://me:hush@{}/hits", cluster.address);
        let config = Config::sites().set("loader.connections", loaders);
        let collector = Collector::start(config.set("database.url", url)).await;
        collector.get("/p.gif?site=open", &[]).await;
        cluster
            .wait_for("select count(*) from avtryck.hit", 1)
            .await;
        let (_, _, log) = collector.stop().await;
        let named = format!("this collector needs {CONNECTIONS}: some of its work will wait");
        assert_eq!(!log.contains(&named), is_enough, "{log}");
    }
}
