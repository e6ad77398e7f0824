//! What is shipped with the program: the systemd units, and what every package promises of its
//! code.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use crate::support::{Collector, Config, PATIENCE, command, root, tempdir};

/// The most that `systemd-analyze security` may find exposed, in tenths of its 10 points. It found
/// 12; a service without a sandbox has 96.
const EXPOSURE_MAX: &str = "--threshold=15";

#[test]
fn the_systemd_units_are_sound_and_leave_little_exposed() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: the systemd units are not checked (systemd-analyze is not installed)");
        return;
    }
    let dir = tempdir();
    let analyze = |arguments: &[&str], name: &str| {
        let output = Command::new("systemd-analyze")
            .arg("--no-pager")
            .args(arguments)
            .arg(dir.path().join(name))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let update = root().join("geoip/update");
    let units = [
        (
            "avtryck@a.service",
            "/usr/local/bin/avtryck serve --take-over",
            format!("{} serve --take-over", env!("CARGO_BIN_EXE_avtryck")),
        ),
        (
            "avtryck-geodata.service",
            "/usr/local/lib/avtryck/geoip-update",
            update.display().to_string(),
        ),
        ("avtryck-geodata.timer", "", String::new()),
    ];
    for (name, installed, here) in &units {
        let unit =
            std::fs::read_to_string(root().join("ops/systemd").join(name.replace("@a", "@")))
                .unwrap();
        let start = |program: &str| format!("ExecStart={program}");
        assert!(unit.contains(&start(installed)) || installed.is_empty());
        // Only a program that is there counts as sound.
        let unit = unit.replace(&start(installed), &start(here));
        std::fs::write(dir.path().join(name), unit).unwrap();
    }
    for (name, installed, _) in &units {
        assert_eq!(analyze(&["verify", "--man=no"], name), "");
        if !installed.is_empty() {
            analyze(&["security", "--offline=true", EXPOSURE_MAX], name);
        }
    }
}

/// What a service manager has been told, in order.
struct Manager(UnixDatagram);

impl Manager {
    fn open(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // An embedded Postgres runs as another user.
        std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        Manager(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 256];
        let bytes = self.0.recv(&mut message).unwrap();
        String::from_utf8(message[..bytes].to_vec()).unwrap()
    }

    fn heard_no_more(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.recv(&mut [0]).is_err()
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_start_reload_hand_over_and_stop() {
    let dir = tempdir();
    Config::sites().embedded().write(&dir).await;
    let sockets = tempdir();
    let [first, second] = ["first", "second"].map(|name| sockets.path().join(name));
    let managers = (Manager::open(&first), Manager::open(&second));
    let serve = |socket: &Path| {
        let mut command = command(&["serve", "--take-over"]);
        command.env("NOTIFY_SOCKET", socket);
        command
    };
    let collector = Collector::start_by(serve(&first), dir).await;
    assert_eq!(managers.0.next(), "READY=1\n");
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    collector.until_up().await;

    collector.signal("HUP");
    let reload = managers.0.next();
    let (state, time) = reload.split_once('\n').unwrap();
    assert_eq!(state, "RELOADING=1");
    let micros = time.trim_end().strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    assert_eq!(managers.0.next(), "READY=1\n");

    let (collector, status, log) = collector.hand_over_to(serve(&second)).await;
    assert!(status.success(), "{log}");
    assert_eq!(managers.0.next(), "STOPPING=1\n");
    assert_eq!(managers.1.next(), "READY=1\n");
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);

    let (status, _, log) = collector.stop().await;
    assert!(status.success(), "{log}");
    assert_eq!(managers.1.next(), "STOPPING=1\n");
    // Postgres, which can speak the same protocol, tells nothing.
    assert!(managers.0.heard_no_more() && managers.1.heard_no_more());
}

#[test]
fn no_package_may_hold_unsafe_code() {
    let manifest = |path: &str| {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        text.parse::<toml::Table>().unwrap()
    };
    let forbids = |lints: &toml::Value| lints["rust"]["unsafe_code"].as_str() == Some("forbid");
    let workspace = manifest("Cargo.toml");
    assert!(forbids(&workspace["workspace"]["lints"]));
    for member in ["Cargo.toml", "loadtest/Cargo.toml"] {
        let inherits = manifest(member)["lints"]["workspace"].as_bool();
        assert_eq!(inherits, Some(true), "{member}");
    }
    assert!(forbids(&manifest("fuzz/Cargo.toml")["lints"]));
}
