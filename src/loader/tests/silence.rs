//! A Postgres that stops answering, and one that only takes its time.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// How long the loaders here put up with silence.
const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// A loader with a spool and a database of its own.
struct Scene {
    postgres: testing::TestDatabase,
    spool: Spool,
    instructions: Spool,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        Scene {
            postgres: testing::TestDatabase::migrated().await,
            spool: spool(&dir.path().join("spool")),
            instructions: spool(&dir.path().join("instruction")),
            _dir: dir,
        }
    }

    fn loader(&self, config: tokio_postgres::Config) -> Loader {
        let loader = loader(&self.spool, &self.instructions, config);
        Loader {
            sink: loader.sink.give_up_after(SILENCE_MAX),
            ..loader
        }
    }

    /// The processes of its database, but for the test's own.
    async fn backends(&self) -> Vec<i32> {
        let sql = "select pid from pg_stat_activity \
            where datname = current_database() and pid <> pg_backend_pid() \
            and backend_type = 'client backend' order by backend_start";
        let rows = self.postgres.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Returns whether its backends are the loader's two, both idle, and nothing that batches
    /// stored is to be added up. Those that made the database may take a while to end.
    async fn rests(&self) -> bool {
        let sql = "select (select count(*) = 2 and bool_and(state = 'idle') from pg_stat_activity \
                where datname = current_database() and pid <> pg_backend_pid() \
                and backend_type = 'client backend') \
            and not exists (select from avtryck.exposure_part) and not exists (select from avtryck.link_part) \
            and not exists (select from avtryck.permit_part) and not exists (select from avtryck.subject_day_part)";
        let row = self.postgres.client.query_one(sql, &[]).await.unwrap();
        row.get(0)
    }
}

fn signal(backend: i32, signal: Signal) {
    kill_process(Pid::from_raw(backend).unwrap(), signal).unwrap();
}

/// Makes one of the loader's two connections stand still between batches, and hits come.
async fn stop_backend(which: usize) {
    let scene = Scene::new().await;
    let loader = scene.loader(scene.postgres.config.clone());
    let (progress, metrics) = (Arc::clone(&loader.progress), Arc::clone(&loader.metrics));
    let (stop, stopped) = watch::channel(false);
    let loading = tokio::task::spawn_local(loader.run(stopped));
    append(&scene.spool, 0..4).await;
    until("the first batch", async || {
        progress.position(0) == scene.spool.committed_position()
    })
    .await;

    // What batches stored is added up between batches too, under locks that would stand with it.
    until("both rest", async || scene.rests().await).await;
    let backend = scene.backends().await[which];
    signal(backend, Signal::STOP);
    let (received, began) = (clock::now(), Instant::now());
    let has_errors = |count: u32| {
        let line = format!("avtryck_postgres_errors_total {count}\n");
        metrics.render().contains(&line)
    };
    // One batch more may be committed before the connection is needed.
    let mut appended = 4;
    while has_errors(0) {
        append(&scene.spool, appended..appended + 4).await;
        appended += 4;
        let oldest = oldest_after(&scene.spool, progress.position(0));
        assert!(
            oldest.is_none_or(|oldest| oldest >= received),
            "it is a new hit's"
        );
        until("the loader goes on without it", async || {
            progress.position(0) == scene.spool.committed_position()
        })
        .await;
    }
    let took = began.elapsed();
    assert!(appended <= 12, "{appended} hits were loaded meanwhile");
    assert!(
        took >= SILENCE_MAX * 2 / 3 && took < SILENCE_MAX * 4,
        "{took:?}"
    );
    assert!(has_errors(1));
    signal(backend, Signal::CONT);
    stop.send_replace(true);
    loading.await.unwrap();
    let (rows, others) = (appended as i64 / 2, appended as i64 / 4);
    let expected = [rows, rows, others, others];
    assert_eq!(outcome(&scene.postgres.client).await, expected);
}

#[tokio::test]
async fn a_backend_that_stands_still_is_given_up_and_each_hit_is_loaded_once() {
    let work = async {
        for which in [0, 1] {
            stop_backend(which).await;
        }
    };
    tokio::task::LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_proxy_that_takes_everything_and_says_nothing_ends_the_connection() {
    let work = async {
        let scene = Scene::new().await;
        let (silence, silent) = watch::channel(false);
        let config = behind_silence(&scene.postgres.config, silent).await;
        let loader = scene.loader(config);
        let progress = Arc::clone(&loader.progress);
        let (stop, stopped) = watch::channel(false);
        let loading = tokio::task::spawn_local(loader.run(stopped));
        append(&scene.spool, 0..4).await;
        until("the first batch", async || progress.is_connected()).await;

        silence.send_replace(true);
        append(&scene.spool, 4..8).await;
        let began = Instant::now();
        until("silence is noticed", async || !progress.is_connected()).await;
        assert!(began.elapsed() < SILENCE_MAX * 2, "{:?}", began.elapsed());
        assert!(oldest_after(&scene.spool, progress.position(0)).is_some());

        silence.send_replace(false);
        until("it goes on", async || {
            progress.position(0) == scene.spool.committed_position()
        })
        .await;
        stop.send_replace(true);
        loading.await.unwrap();
        assert_eq!(outcome(&scene.postgres.client).await, [4, 4, 2, 2]);
    };
    tokio::task::LocalSet::new().run_until(work).await;
}

/// Returns how to reach a database through a proxy that holds back every byte while `silent`.
async fn behind_silence(
    config: &tokio_postgres::Config,
    silent: watch::Receiver<bool>,
) -> tokio_postgres::Config {
    let tokio_postgres::config::Host::Unix(dir) = &config.get_hosts()[0] else {
        panic!("it is no socket");
    };
    let socket = dir.join(".s.PGSQL.5432");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::task::spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::task::spawn_local(hold_back(from_client, to_server, silent.clone()));
            tokio::task::spawn_local(hold_back(from_server, to_client, silent.clone()));
        }
    });
    let mut through = tokio_postgres::Config::new();
    through
        .host("127.0.0.1")
        .port(port)
        .user(config.get_user().unwrap())
        .dbname(config.get_dbname().unwrap());
    through
}

async fn hold_back(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_statement_that_takes_long_and_gets_on_is_left_alone() {
    let work = async {
        let scene = Scene::new().await;
        let slow = "create function avtryck.take_time() returns trigger language plpgsql as \
                $$ begin perform pg_sleep(0.05); return new; end $$; \
            create trigger take_time before insert on avtryck.hit \
                for each row execute function avtryck.take_time()";
        scene.postgres.client.batch_execute(slow).await.unwrap();
        append(&scene.spool, 0..400).await;
        let loader = scene.loader(scene.postgres.config.clone());
        let began = Instant::now();
        load_once(&loader).await.unwrap();
        assert!(began.elapsed() > SILENCE_MAX * 2, "{:?}", began.elapsed());
        assert_eq!(outcome(&scene.postgres.client).await, [200, 200, 100, 100]);
    };
    tokio::task::LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_lock_that_holds_up_a_batch_is_named_and_the_batch_is_loaded_later() {
    let work = async {
        let scene = Scene::new().await;
        let mut other = scene.postgres.connect().await;
        let row = other.query_one("select pg_backend_pid()", &[]).await;
        let holder: i32 = row.unwrap().get(0);
        let lock = other.transaction().await.unwrap();
        lock.batch_execute("lock table avtryck.hit in access exclusive mode")
            .await
            .unwrap();
        append(&scene.spool, 0..4).await;
        let loader = scene.loader(scene.postgres.config.clone());
        let error = format!("{:#}", load_once(&loader).await.unwrap_err());
        let named = format!("waits for Lock:relation, held up by {holder}");
        assert!(
            error.contains("Postgres has not answered for 1.5 s"),
            "{error}"
        );
        assert!(error.contains(&named), "{error}");
        // Nothing of the attempt is left that would stand in the way of the next.
        until("the statement is cancelled", async || {
            scene.backends().await == [holder]
        })
        .await;
        lock.commit().await.unwrap();
        load_once(&loader).await.unwrap();
        assert_eq!(outcome(&scene.postgres.client).await, [2, 2, 1, 1]);
    };
    tokio::task::LocalSet::new().run_until(work).await;
}
