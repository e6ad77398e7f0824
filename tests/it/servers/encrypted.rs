//! TLS between a collector and Postgres: what each `sslmode` takes, and what it refuses.

use std::path::Path;

use crate::support::cluster::Cluster;
use crate::support::tls::Authority;
use crate::support::{Collector, Config, Dir, command, tempdir};

/// Who may come: `me` by a password over TLS alone, `certified` by a certificate, `trusted` by
/// nothing.
const HBA: [&str; 3] = [
    "hostssl hits me all scram-sha-256",
    "hostssl hits certified all cert",
    "hostssl hits trusted all trust",
];

const SSL: [&str; 4] = [
    "ssl = on",
    "ssl_cert_file = '{dir}/server.pem'",
    "ssl_key_file = '{dir}/server.key'",
    "ssl_ca_file = '{dir}/authority.pem'",
];

/// Makes a server speak TLS, with a certificate of an authority for `names`; it asks for
/// certificates of the same authority.
pub(super) fn encrypt(cluster: &Cluster, authority: &Authority, names: &[&str]) {
    let trusted = cluster.folder().join("authority.pem");
    authority.write(&trusted);
    cluster.own(&trusted);
    certify(cluster, authority, names, 2100);
    cluster.set(&SSL);
}

/// Gives a server another certificate, which it reads as it is reloaded.
fn certify(cluster: &Cluster, authority: &Authority, names: &[&str], until_year: i32) {
    let stem = cluster.folder().join("server");
    authority.issue(&stem, names, until_year);
    cluster.own(&stem.with_extension("key"));
    cluster.own(&stem.with_extension("pem"));
}

/// A server with TLS, its authority, and another.
struct Encrypted {
    cluster: Cluster,
    authority: Authority,
    dir: Dir,
}

impl Encrypted {
    async fn start() -> Encrypted {
        let authority = Authority::new();
        let dir = tempdir();
        authority.write(&dir.path().join("authority.pem"));
        Authority::new().write(&dir.path().join("stranger.pem"));
        let cluster = Cluster::start(&[], &HBA);
        cluster.prepare().await;
        let more = "create role certified login in role me; create role trusted login in role me";
        cluster
            .client("postgres")
            .await
            .batch_execute(more)
            .await
            .unwrap();
        encrypt(&cluster, &authority, &["db.test"]);
        Encrypted {
            cluster,
            authority,
            dir,
        }
    }

    fn url(&self, user: &str, host: &str, options: &str) -> String {
        let options = options.replace("{dir}", &self.dir.path().display().to_string());
        let (ip, port) = (self.cluster.address.ip(), self.cluster.address.port());
        format!("postgres://{user}@{host}:{port}/hits?hostaddr={ip}&connect_timeout=20{options}")
    }

    /// Connects with these users, hosts and options, and looks for what is said where one is
    /// refused.
    async fn check<const CASES: usize>(&self, cases: [(&str, &str, String, Option<&str>); CASES]) {
        for (user, host, options, refused) in cases {
            let said = migrate(&self.url(user, host, &options)).await;
            match (refused, &said) {
                (None, Ok(_)) => {}
                (Some(why), Err(error)) if error.contains(why) => {}
                _ => panic!("{user} {host} {options}: {refused:?} and not {said:?}"),
            }
            assert!(!format!("{said:?}").contains("hush"), "{said:?}");
        }
    }
}

/// Connects by `avtryck migrate`; what it said.
async fn migrate(url: &str) -> Result<String, String> {
    run("migrate", url).await
}

async fn run(what: &str, url: &str) -> Result<String, String> {
    let dir = tempdir();
    Config::sites().set("database.url", url).write(&dir).await;
    let mut command = command(&[what]);
    command.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[tokio::test]
async fn each_sslmode_takes_the_servers_that_it_should_and_says_why_it_refuses_others() {
    let encrypted = Encrypted::start().await;
    let root = "&sslrootcert={dir}/authority.pem";
    let stranger = "&sslrootcert={dir}/stranger.pem";
    encrypted
        .check([
            (
                "me:hush",
                "db.test",
                format!("&sslmode=verify-full{root}"),
                None,
            ),
            (
                "me:hush",
                "db.test",
                format!("&sslmode=verify-full{stranger}"),
                Some("UnknownIssuer; sslrootcert would name"),
            ),
            (
                "me:hush",
                "db.test",
                "&sslmode=verify-full".to_owned(),
                Some("UnknownIssuer; sslrootcert would name"),
            ),
            (
                "me:hush",
                "other.test",
                format!("&sslmode=verify-full{root}"),
                Some("the host of database.url must be among the names"),
            ),
            (
                "me:hush",
                "other.test",
                format!("&sslmode=verify-ca{root}"),
                None,
            ),
            (
                "me:hush",
                "db.test",
                format!("&sslmode=verify-ca{stranger}"),
                Some("UnknownIssuer"),
            ),
            ("me:hush", "other.test", "&sslmode=require".to_owned(), None),
            (
                "me:hush",
                "db.test",
                format!("&sslmode=require{stranger}"),
                Some("UnknownIssuer"),
            ),
            ("me:hush", "other.test", "&sslmode=prefer".to_owned(), None),
            (
                "me:hush",
                "db.test",
                "&sslmode=disable".to_owned(),
                Some("no encryption"),
            ),
        ])
        .await;
}

#[tokio::test]
async fn tls_is_the_default_where_something_is_said_of_it_and_a_password_can_be_bound_to_it() {
    let encrypted = Encrypted::start().await;
    let root = "&sslrootcert={dir}/authority.pem";
    encrypted
        .check([
            // A loopback address is plain, unless something is said of TLS.
            ("me:hush", "db.test", String::new(), Some("no encryption")),
            (
                "me:hush",
                "other.test",
                root.to_owned(),
                Some("must be among the names"),
            ),
            ("me:hush", "db.test", root.to_owned(), None),
            (
                "me:hush",
                "db.test",
                format!("&channel_binding=require{root}"),
                None,
            ),
            (
                "me:hush",
                "db.test",
                "&sslmode=require&channel_binding=require".to_owned(),
                None,
            ),
            (
                "trusted",
                "db.test",
                "&sslmode=require&channel_binding=require".to_owned(),
                Some("server did not use channel binding"),
            ),
            (
                "me:wrong",
                "db.test",
                root.to_owned(),
                Some("password authentication failed"),
            ),
        ])
        .await;
}

#[tokio::test]
async fn certificates_of_servers_and_clients_are_checked_until_they_end() {
    let encrypted = Encrypted::start().await;
    let root = "&sslrootcert={dir}/authority.pem";
    let me = encrypted.dir.path().join("certified");
    encrypted.authority.issue_named(&me, "certified");
    let strange = encrypted.dir.path().join("strange");
    Authority::new().issue_named(&strange, "certified");
    let by = |stem: &Path, key: &Path| {
        format!(
            "{root}&sslcert={}.pem&sslkey={}.key",
            stem.display(),
            key.display()
        )
    };
    let reach =
        async |options: &str| migrate(&encrypted.url("certified", "db.test", options)).await;
    let by_password = encrypted.url("me:hush", "db.test", root);
    migrate(&by_password).await.unwrap();
    reach(&by(&me, &me)).await.unwrap();
    for (options, why) in [
        (root.to_owned(), "certificate"),
        (by(&strange, &strange), "fatal alert: UnknownCA"),
        (by(&me, &strange), "do not go together"),
        (
            by(&me, Path::new("/nowhere")),
            "sslkey=/nowhere.key, which cannot be read",
        ),
    ] {
        let error = reach(&options).await.unwrap_err();
        assert!(error.contains(why), "{options}: {error}");
    }
    // What can be known without the server is known to `check-config`.
    let url = encrypted.url("certified", "db.test", &by(&me, Path::new("/nowhere")));
    let error = run("check-config", &url).await.unwrap_err();
    assert!(
        error.contains("database.url: has sslkey=/nowhere.key, which cannot be read"),
        "{error}"
    );

    certify(&encrypted.cluster, &encrypted.authority, &["db.test"], 2020);
    encrypted.cluster.reload();
    let url = encrypted.url("me:hush", "db.test", root);
    let error = migrate(&url).await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
    // The certificate of a server may be its own root.
    let own = encrypted.cluster.folder().join("server");
    Authority::sign_itself(&own, "db.test");
    encrypted.cluster.own(&own.with_extension("key"));
    std::fs::copy(
        own.with_extension("pem"),
        encrypted.dir.path().join("own.pem"),
    )
    .unwrap();
    encrypted.cluster.own(&own.with_extension("pem"));
    encrypted.cluster.reload();
    let own = "&sslrootcert={dir}/own.pem";
    migrate(&encrypted.url("me:hush", "db.test", own))
        .await
        .unwrap();
    let error = migrate(&encrypted.url("me:hush", "other.test", own))
        .await
        .unwrap_err();
    assert!(error.contains("must be among the names"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_gets_nothing_where_it_is_asked_for() {
    let cluster = Cluster::start(&[], &["host hits me all trust"]);
    cluster.prepare().await;
    let address = cluster.address;
    let url = |options: &str| format!("postgres://me:hush@{address}/hits{options}");
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = migrate(&url(&format!("?sslmode={mode}")))
            .await
            .unwrap_err();
        let why = format!(
            "the server does not encrypt this connection (ssl = off?), and sslmode={mode} asks for it"
        );
        assert!(error.contains(&why), "{error}");
    }
    let said = migrate(&url("?sslmode=prefer")).await.unwrap();
    assert!(
        said.contains("the connection to Postgres is not encrypted"),
        "{said}"
    );
    migrate(&url("")).await.unwrap();
}

#[tokio::test]
async fn every_connection_of_a_collector_is_encrypted() {
    let encrypted = Encrypted::start().await;
    let root = "&sslrootcert={dir}/authority.pem&channel_binding=require";
    let url = encrypted.url("me:hush", "db.test", root);
    let collector = Collector::start(Config::sites().set("database.url", url)).await;
    for _ in 0..20 {
        assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    }
    encrypted
        .cluster
        .wait_for("select count(*) from avtryck.hit", 20)
        .await;
    let sql = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
               where usename = 'me' and ssl";
    assert!(encrypted.cluster.number(sql).await >= 3);
    let sql = sql.replace("and ssl", "and not ssl");
    assert_eq!(encrypted.cluster.number(&sql).await, 0);
}
