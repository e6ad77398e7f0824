//! The container image, without a container engine: its linter, what stands beside it, and the
//! files of the image run as they are, by a user without rights.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Collector, Config, root, tempdir};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn the_dockerfile_passes_its_linter_and_a_careless_one_does_not() {
    let linter = root().join("assets/data/lint/hadolint");
    let lint = |file: &Path| Command::new(&linter).arg(file).output().unwrap();
    let output = lint(&root().join("Dockerfile"));
    assert!(output.status.success(), "{}", text(&output));
    let dir = tempdir();
    let careless = dir.path().join("Dockerfile");
    std::fs::write(&careless, "FROM debian\nRUN cd /src && sudo make\n").unwrap();
    assert!(!lint(&careless).status.success());
}

#[test]
fn compose_yaml_keeps_to_the_schema_and_mounts_what_is_there() {
    let check = |file: &Path| {
        Command::new("python3")
            .arg(root().join("script/check_compose.py"))
            .arg(root().join("assets/data/lint/schema.json"))
            .arg(file)
            .output()
            .unwrap()
    };
    let output = check(&root().join("compose.yaml"));
    assert!(output.status.success(), "{}", text(&output));
    let sound = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    for (from, to, wrong) in [
        ("restart: unless-stopped", "restart: 7", "restart"),
        (
            "./ops/grafana/avtryck.json",
            "./ops/grafana/gone.json",
            "gone.json",
        ),
        ("- spool:", "- pool:", "pool is not declared"),
        ("postgres:15-bookworm", "postgres:latest", "no version"),
    ] {
        let dir = tempdir();
        std::os::unix::fs::symlink(root().join("ops"), dir.path().join("ops")).unwrap();
        assert!(sound.contains(from), "{from}");
        let file = dir.path().join("compose.yaml");
        std::fs::write(&file, sound.replacen(from, to, 1)).unwrap();
        let output = check(&file);
        assert!(
            !output.status.success() && text(&output).contains(wrong),
            "{}",
            text(&output)
        );
    }
}

#[tokio::test]
async fn the_files_of_the_image_alone_run_the_collector_as_a_user_without_rights() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the image is not run (chroot wants root)");
        return;
    }
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    for line in [
        "RUN ops/docker/build.sh /image",
        "USER 65532:65532",
        r#"CMD ["/usr/bin/avtryck", "healthy"]"#,
        r#"ENTRYPOINT ["/usr/bin/avtryck"]"#,
        r#"CMD ["serve", "--take-over"]"#,
    ] {
        assert!(dockerfile.contains(line), "{line}");
    }
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let toolchain = toolchain.parse::<toml::Table>().unwrap();
    let version = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{version}-bookworm AS build\n")));
    let build = std::fs::read_to_string(root().join("ops/docker/build.sh")).unwrap();
    assert!(build.contains("\nops/docker/rootfs.sh target/release/avtryck \"$1\"\n"));

    let dir = tempdir();
    let image = dir.path().join("image");
    let output = Command::new(root().join("ops/docker/rootfs.sh"))
        .arg(env!("CARGO_BIN_EXE_avtryck"))
        .arg(&image)
        .env("WITHOUT_GEODATA", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!image.join("bin/sh").exists() && !image.join("usr/bin/sh").exists());
    let config = Config::new().without_postgres().at_free_addresses();
    let address = |section| config.address(section).unwrap().to_string();
    let inside = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("chroot");
        command
            .args(["--userspec=65532:65532", "--groups="])
            .arg(&image)
            .args(["/usr/bin/avtryck", "--config", "/etc/avtryck/avtryck.toml"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("AVTRYCK_HTTP_LISTEN", address("http"))
            .env("AVTRYCK_ADMIN_LISTEN", address("admin"));
        command
    };
    let serve = inside(&["serve", "--take-over"]);
    let collector = Collector::start_with(&config, serve, tempdir()).await;
    let output = inside(&["healthy"]).output().await.unwrap();
    assert!(
        output.status.success() && text(&output).starts_with("ready\n"),
        "{}",
        text(&output)
    );
    assert_eq!(collector.get("/p.gif?site=demo", &[]).await.status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.pid())).unwrap();
    assert!(
        status.contains("\nUid:\t65532\t65532\t65532\t65532\n"),
        "{status}"
    );
    let (status, _, log) = collector.stop().await;
    assert!(status.success() && log.contains("geodata"), "{log}");
    let output = inside(&["healthy"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let spool = image.join("var/lib/avtryck/spool");
    let report = Command::new(env!("CARGO_BIN_EXE_avtryck"))
        .args(["spool", "verify"])
        .arg(spool)
        .output()
        .unwrap();
    assert!(text(&report).contains(": 1 records, "), "{}", text(&report));
}
