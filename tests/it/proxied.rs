//! Behind the proxies of docs/deployment.md, configured by what stands there: a pixel through each
//! reaches a row with the address of its client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{Collector, Config, PATIENCE, free_address, root, tempdir};

const HOST: &str = "px.telenor.se";
/// Another address of this machine than the proxy's.
const CLIENT: &str = "127.9.8.7";

/// The configuration that the document shows for a proxy, with replacements.
fn shown(language: &str, replacements: &[(&str, &str)]) -> String {
    let page = std::fs::read_to_string(root().join("docs/deployment.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    let mut text = rest.split_once("\n```").unwrap().0.to_owned() + "\n";
    for (from, to) in replacements {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

/// A key and a certificate of its own that a proxy shows.
fn certificate(dir: &Path) -> (String, String) {
    let [key, chain] = ["key.pem", "chain.pem"].map(|name| dir.join(name).display().to_string());
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args([
            "-subj",
            &format!("/CN={HOST}"),
            "-keyout",
            &key,
            "-out",
            &chain,
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (key, chain)
}

/// A collector that trusts the proxy alone.
async fn collector() -> Collector {
    let config = Config::sites().set("http.trusted_proxies", vec!["127.0.0.1"]);
    Collector::start(config).await
}

fn checked(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|_| panic!("{program} is installed by script/setup test"));
    assert!(output.status.success(), "{output:?}");
}

fn start(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Sends a pixel through the proxy as a client that claims to be another one, and looks at its row.
async fn a_pixel_reaches_its_row(collector: &Collector, proxy: SocketAddr) {
    let started = Instant::now();
    while TcpStream::connect(proxy).await.is_err() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let port = proxy.port();
    let reply = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--insecure",
            "--include",
            "--http2",
        ])
        .args(["--interface", CLIENT, "--retry", "20", "--retry-delay", "1"])
        .args(["--resolve", &format!("{HOST}:{port}:{}", proxy.ip())])
        .args([
            "--header",
            "X-Forwarded-For: 6.6.6.6",
            "--header",
            "X-Forwarded-Proto: http",
        ])
        .arg(format!("https://{HOST}:{port}/p.gif?site=open&e=through"))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&reply.stdout).to_lowercase();
    assert!(text.starts_with("http/2 200"), "{reply:?}");
    let cookie = text
        .lines()
        .find(|line| line.starts_with("set-cookie: "))
        .unwrap();
    assert!(cookie.contains("; secure"), "{cookie}");
    let sql = "select count(*) from avtryck.hit where event_name = 'through'";
    collector.wait_for(sql, 1).await;
    let rows = collector
        .rows("select client_ip::text from avtryck.hit")
        .await;
    assert_eq!(rows[0].get::<_, &str>(0), "127.9.8.0/24");
}

#[tokio::test]
async fn behind_nginx_as_documented_a_pixel_reaches_a_row_with_its_client_s_address() {
    let collector = collector().await;
    let dir = tempdir();
    let (key, chain) = certificate(dir.path());
    let proxy = free_address();
    let servers = shown(
        "nginx",
        &[
            ("127.0.0.1:8080", &collector.http.to_string()),
            ("listen 443 ", &format!("listen {proxy} ")),
            ("/etc/ssl/px.telenor.se/fullchain.pem", &chain),
            ("/etc/ssl/px.telenor.se/privkey.pem", &key),
        ],
    );
    let path = dir.path().display();
    let text = format!(
        "daemon off; master_process off; pid {path}/pid; error_log stderr crit;\nevents {{}}\nhttp {{\n\
         client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
         uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n{servers}}}\n"
    );
    let file = dir.path().join("nginx.conf").display().to_string();
    std::fs::write(&file, text).unwrap();
    let program = ["/usr/sbin/nginx", "nginx"]
        .into_iter()
        .find(|program| Path::new(program).exists())
        .unwrap_or("nginx");
    checked(program, &["-t", "-q", "-e", "stderr", "-c", &file]);
    let _nginx = start(program, &["-e", "stderr", "-c", &file]);
    a_pixel_reaches_its_row(&collector, proxy).await;
}

#[tokio::test]
async fn behind_haproxy_as_documented_a_pixel_reaches_a_row_with_its_client_s_address() {
    let collector = collector().await;
    let dir = tempdir();
    let (key, chain) = certificate(dir.path());
    let both = dir.path().join("both.pem").display().to_string();
    let pem = [&chain, &key].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&both, pem.concat()).unwrap();
    let proxy = free_address();
    let text = shown(
        "haproxy",
        &[
            ("127.0.0.1:8080", &collector.http.to_string()),
            ("port 8090", &format!("port {}", collector.admin.port())),
            ("bind :443 ", &format!("bind {proxy} ")),
            ("/etc/haproxy/px.telenor.se.pem", &both),
        ],
    );
    let file = dir.path().join("haproxy.cfg").display().to_string();
    std::fs::write(&file, text).unwrap();
    let program = ["/usr/sbin/haproxy", "haproxy"]
        .into_iter()
        .find(|program| Path::new(program).exists())
        .unwrap_or("haproxy");
    checked(program, &["-c", "-q", "-f", &file]);
    let _haproxy = start(program, &["-db", "-f", &file]);
    a_pixel_reaches_its_row(&collector, proxy).await;
}
