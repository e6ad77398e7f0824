//! What goes out beside the program: the systemd unit, and what every package promises of its code.

use std::process::Command;

use crate::support::{root, tempdir};

/// The most that `systemd-analyze security` may find exposed, in tenths of its 10 points. It found 12;
/// an unknown service without a sandbox has 96.
const EXPOSURE_MAX: &str = "--threshold=15";

#[test]
fn the_systemd_unit_is_sound_and_leaves_little_exposed() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: the systemd unit is not checked (systemd-analyze is not installed)");
        return;
    }
    let unit = std::fs::read_to_string(root().join("ops/systemd/avtryck@.service")).unwrap();
    let installed = "ExecStart=/usr/local/bin/avtryck serve --take-over";
    assert!(unit.contains(installed));
    let dir = tempdir();
    let path = dir.path().join("avtryck@a.service");
    // Only a program that is there counts as sound.
    let here = format!(
        "ExecStart={} serve --take-over",
        env!("CARGO_BIN_EXE_avtryck")
    );
    std::fs::write(&path, unit.replace(installed, &here)).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .arg("--no-pager")
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    assert_eq!(analyze(&["verify", "--man=no"]), "");
    analyze(&["security", "--offline=true", EXPOSURE_MAX]);
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
