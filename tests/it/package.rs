//! The Debian package: what it is made of is there, and its man page knows every command. `make
//! deb-test` installs it.

use std::process::Command;

use crate::support::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn all_that_the_package_is_made_of_is_there() {
    let manifest = read("Cargo.toml").parse::<toml::Table>().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        if source.starts_with("target/") {
            continue;
        }
        let folder = source.split('*').next().unwrap();
        assert!(root().join(folder).exists(), "{source}");
    }
    assert!(
        root()
            .join(deb["license-file"][0].as_str().unwrap())
            .exists()
    );
    for script in ["postinst", "prerm", "postrm"] {
        let path = root().join("ops/debian").join(script);
        let output = Command::new("sh").arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_man_page_knows_every_command_and_every_option() {
    let page = read("ops/debian/avtryck.1").replace("\\-", "-");
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_avtryck"))
            .args(arguments)
            .arg("--help")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = |help: &str| -> Vec<String> {
        let list = help
            .split_once("\nCommands:\n")
            .map_or("", |(_, list)| list);
        let names = list.lines().take_while(|line| line.starts_with("  "));
        names
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    };
    let top = commands(&help(&[]));
    assert!(top.contains(&"serve".to_owned()));
    for command in top {
        assert!(
            page.contains(&format!(" {command}")) || page.contains(&format!("\"{command} ")),
            "{command}"
        );
        if command == "help" {
            continue;
        }
        let own = help(&[&command]);
        let below = commands(&own);
        let all: Vec<String> = below
            .iter()
            .filter(|name| *name != "help")
            .map(|name| help(&[&command, name]))
            .chain([own])
            .collect();
        for name in below.iter().filter(|name| *name != "help") {
            assert!(
                page.contains(&format!("{command} {name}")),
                "{command} {name}"
            );
        }
        let words = all.iter().flat_map(|text| text.lines());
        for option in words.filter_map(|line| line.trim().strip_prefix("--")) {
            let name = option.split([' ', '=']).next().unwrap();
            assert!(page.contains(&format!("--{name}")), "{command} --{name}");
        }
    }
}
