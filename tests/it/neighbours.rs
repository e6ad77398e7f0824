//! Collectors that get in each other's way: two spools on one port.

use std::net::SocketAddr;
use std::process::Output;

use socket2::{Domain, Socket, Type};
use tokio::process::Command;

use crate::support::{Collector, Config, Dir, PATIENCE, command, free_address, tempdir};

/// Writes the configuration of a collector with a spool of its own.
async fn neighbour(key: &str, address: SocketAddr) -> Dir {
    let dir = tempdir();
    let config = Config::sites().without_postgres();
    config.set(key, address.to_string()).write(&dir).await;
    dir
}

fn serve(dir: &Dir, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
    command.kill_on_drop(true);
    command
}

async fn run(dir: &Dir, arguments: &[&str]) -> Output {
    let output = serve(dir, arguments).output();
    tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap()
        .unwrap()
}

#[track_caller]
fn check_refusal(output: &Output, key: &str, address: SocketAddr) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let said = format!("{key}: cannot listen on {address}: another process listens there");
    assert!(text.contains(&said), "no {said} in\n{text}");
}

#[tokio::test]
async fn a_collector_with_another_spool_does_not_share_a_port() {
    let collector = Collector::start(Config::sites().without_postgres()).await;
    for (key, address) in [
        ("http.listen", collector.http),
        ("admin.listen", collector.http),
        ("http.listen", collector.admin),
    ] {
        let dir = neighbour(key, address).await;
        for arguments in [&["serve"][..], &["serve", "--take-over"]] {
            check_refusal(&run(&dir, arguments).await, key, address);
        }
    }
    let everywhere = SocketAddr::from(([0, 0, 0, 0], collector.http.port()));
    let dir = neighbour("http.listen", everywhere).await;
    check_refusal(&run(&dir, &["serve"]).await, "http.listen", everywhere);
    // A machine may have no IPv6.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let everywhere: SocketAddr = format!("[::]:{}", everywhere.port()).parse().unwrap();
        let dir = neighbour("http.listen", everywhere).await;
        check_refusal(&run(&dir, &["serve"]).await, "http.listen", everywhere);
    }
    for _ in 0..20 {
        assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    }
}

#[tokio::test]
async fn a_program_that_would_share_its_port_is_not_joined() {
    let address = free_address();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    let dir = neighbour("http.listen", address).await;
    check_refusal(&run(&dir, &["serve"]).await, "http.listen", address);
    drop(socket);
    let collector = Collector::start_in(dir).await;
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
}

#[tokio::test]
async fn of_collectors_that_start_at_once_on_one_port_one_serves() {
    let address = free_address();
    let mut started = Vec::new();
    for _ in 0..4 {
        let dir = neighbour("http.listen", address).await;
        let mut child = serve(&dir, &["serve"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        started.push(tokio::spawn(async move {
            let status = child.wait().await.unwrap();
            drop(dir);
            status
        }));
    }
    let (mut refused, mut serving) = (0, Vec::new());
    while refused < 3 {
        let ended = started
            .iter()
            .position(tokio::task::JoinHandle::is_finished);
        if let Some(at) = ended {
            assert_eq!(started.remove(at).await.unwrap().code(), Some(1));
            refused += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    serving.append(&mut started);
    assert_eq!(serving.len(), 1);
    let stream = tokio::net::TcpStream::connect(address).await;
    assert!(stream.is_ok() && !serving[0].is_finished());
    serving[0].abort();
}

#[tokio::test]
async fn a_restart_right_after_a_kill_gets_its_port_again() {
    let mut collector = Collector::start(Config::sites().without_postgres()).await;
    let address = collector.http;
    for _ in 0..5 {
        for _ in 0..5 {
            // The collector closes these connections first, so that its side waits in TIME_WAIT.
            assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
        }
        let dir = collector.kill().await;
        collector = Collector::start_in(dir).await;
        assert_eq!(collector.http, address);
    }
}

#[tokio::test]
async fn a_successor_that_finds_its_new_port_taken_leaves_the_collector_serving() {
    let other = Collector::start(Config::sites().without_postgres()).await;
    let collector = Collector::start(Config::sites().without_postgres()).await;
    let before = Config::read(collector.dir.path());
    let config = before.clone().set("http.listen", other.http.to_string());
    config.write_as_it_is(collector.dir.path());
    let output = run(&collector.dir, &["serve", "--take-over"]).await;
    check_refusal(&output, "http.listen", other.http);
    before.write_as_it_is(collector.dir.path());
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    let (status, _, log) = collector.stop().await;
    assert!(
        status.success() && log.contains("this one goes on"),
        "{log}"
    );
}
