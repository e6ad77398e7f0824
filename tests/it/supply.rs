//! What goes out beside the program: the systemd unit, and what every package promises of its code.

use std::process::Command;

use crate::support::{root, tempdir};

/// The most that `systemd-analyze security` may find exposed, in tenths of its 10 points. It found 12;
/// an unknown service without a sandbox has 96.
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
