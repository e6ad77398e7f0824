//! nginx as people set it up for pixels: `empty_gif`, `userid`, and an access log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;

use crate::tls::Files;
use loadtest::rig::collector::geodata;
use loadtest::rig::process::{
    PATIENCE, Process, folder, free_address, unprivileged, until_answered,
};
use loadtest::rig::usage::{Parts, Root, children};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// A line of a buffered file.
    Buffered,
    /// The same, with the place of its address.
    Places,
    /// A message to the logger behind a socket.
    Syslog,
}

/// A running nginx.
pub(crate) struct Nginx {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) tls: SocketAddr,
    dir: PathBuf,
}

impl Nginx {
    /// Starts one whose files are in `dir`.
    pub(crate) async fn start(dir: &Path, log: Log, certificate: &Files) -> anyhow::Result<Nginx> {
        folder(dir)?;
        let (address, tls) = (free_address()?, free_address()?);
        if log == Log::Places {
            for file in geodata() {
                let name = file.file_name().context("a file has a name")?;
                std::fs::copy(&file, dir.join(name)).context("copying the geodata")?;
            }
        }
        let conf = dir.join("nginx.conf");
        std::fs::write(&conf, configuration(dir, (address, tls), log, certificate))?;
        let mut command = unprivileged("/usr/sbin/nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&conf);
        command.arg("-e").arg(dir.join("error.log"));
        let process = Process::start(command.stderr(Stdio::null()))
            .context("`script/setup bench` installs it")?;
        until_answered(address)
            .await
            .with_context(|| std::fs::read_to_string(dir.join("error.log")).unwrap_or_default())?;
        Ok(Nginx {
            process,
            address,
            tls,
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn root(&self) -> Root {
        Root {
            pid: self.process.pid,
            parts: Parts::One("nginx"),
        }
    }

    /// The log so far, which nginx no longer writes to once this returns: it goes on in a new file.
    pub(crate) async fn rotate(&self, to: &Path) -> anyhow::Result<()> {
        let log = self.dir.join("access.log");
        std::fs::rename(&log, to).context("moving the log")?;
        self.process.signal("USR1").await?;
        // Each worker writes out its buffer before it lets go of the file, which a busy one does
        // late.
        let started = std::time::Instant::now();
        while self.holds(to) || !log.exists() {
            anyhow::ensure!(started.elapsed() < PATIENCE, "nginx keeps its log open");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        Ok(())
    }

    fn holds(&self, file: &Path) -> bool {
        let workers = children().remove(&self.process.pid).unwrap_or_default();
        workers.into_iter().chain([self.process.pid]).any(|pid| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
            let mut open = open.into_iter().flatten().flatten();
            open.any(|each| std::fs::read_link(each.path()).is_ok_and(|path| path == file))
        })
    }
}

fn configuration(
    dir: &Path,
    (address, tls): (SocketAddr, SocketAddr),
    log: Log,
    certificate: &Files,
) -> String {
    let (dir, chain, key) = (
        dir.display(),
        certificate.chain.display(),
        certificate.key.display(),
    );
    let fields = "$time_iso8601\\t$remote_addr\\t$uid_got$uid_set\\t$request_uri\\t$http_referer\\t$http_user_agent";
    let (module, geo, fields, log) = match log {
        Log::Buffered => (
            "",
            String::new(),
            fields.to_owned(),
            format!("{dir}/access.log hit buffer=64k flush=1s"),
        ),
        Log::Places => (
            "load_module /usr/lib/nginx/modules/ngx_http_geoip2_module.so;",
            places(&dir.to_string()),
            format!(
                "{fields}\\t$country\\t$region\\t$city\\t$postal_code\\t$latitude\\t$longitude\\t$time_zone"
            ),
            format!("{dir}/access.log hit buffer=64k flush=1s"),
        ),
        Log::Syslog => (
            "",
            String::new(),
            fields.to_owned(),
            format!("syslog:server=unix:{dir}/log.socket,nohostname,tag=nginx hit"),
        ),
    };
    format!(
        r#"{module}
daemon off;
worker_processes auto;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  keepalive_requests 10000;
  set_real_ip_from 127.0.0.1;
  real_ip_header X-Forwarded-For;
  userid on;
  userid_name uid;
  userid_expires 365d;
  userid_path /;
{geo}
  log_format hit escape=default "{fields}";
  server {{
    listen {address} reuseport;
    listen {tls} ssl http2 reuseport;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {chain};
    ssl_certificate_key {key};
    location / {{ empty_gif; access_log {log}; }}
  }}
}}
"#
    )
}

/// Looks an address up in the file of its own family; the other one's variables are empty.
fn places(dir: &str) -> String {
    let fields = [
        ("country", "country_code"),
        ("region", "state1"),
        ("city", "city"),
        ("postal_code", "postcode"),
        ("latitude", "latitude"),
        ("longitude", "longitude"),
        ("time_zone", "timezone"),
    ];
    let of = |family: &str| {
        let variables = fields.map(|(name, key)| format!("    ${name}_{family} {key};\n"));
        format!(
            "  geoip2 {dir}/dbip-city-{family}.mmdb {{\n{}  }}\n",
            variables.concat()
        )
    };
    let maps = fields.map(|(name, _)| {
        let both = format!("${{{name}_ipv4}}${{{name}_ipv6}}");
        format!("  map \"{both}\" ${name} {{ default \"{both}\"; }}\n")
    });
    [of("ipv4"), of("ipv6"), maps.concat()].concat()
}
