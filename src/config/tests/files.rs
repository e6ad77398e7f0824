//! Files that are no configuration, and mistakes that only the whole document shows.

use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

#[test]
fn a_file_of_any_kind_neither_makes_the_caller_wait_nor_takes_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let huge = folder.path().join("huge");
    let file = std::fs::File::create(&huge).unwrap();
    file.set_len(1 << 40).unwrap();
    for (path, why) in [
        (&*fifo, "it is no file"),
        (Path::new("/dev/zero"), "it has more than 1 MiB"),
        (&huge, "it has more than 1 MiB"),
        (folder.path(), "Is a directory"),
    ] {
        let errors = Config::load(Some(path), []).unwrap_err().0;
        let start = format!("{}: cannot be read ({why}", path.display());
        assert!(
            errors.len() == 1 && errors[0].starts_with(&start),
            "{errors:?}"
        );
    }
    let errors = Config::load(Some(Path::new("/dev/null")), [])
        .unwrap_err()
        .0;
    assert!(
        errors.len() == 1 && errors[0].starts_with("site: no [[site]]"),
        "{errors:?}"
    );
}

#[test]
fn a_section_or_a_key_that_is_there_twice_is_named() {
    for (text, named) in [
        ("[http]\nlisten = \"127.0.0.1:1\"\n[http]\n", "line 5: http"),
        ("[http]\nthreads = 1\nthreads = 2\n", "line 5: threads"),
        ("[[partner]]\nkey = \"a\"\nkey = \"b\"\n", "line 5: key"),
    ] {
        let said = format!("{named} is there twice; each section and each key once would be right");
        assert_eq!(errors(&format!("{SITE}{text}"), &[]), [said], "{text}");
    }
}

#[test]
fn a_path_where_another_endpoint_has_paths_of_its_own_is_refused() {
    for (key, path, base) in [
        ("pixel", "/cb/network", "/cb"),
        ("event", "/cb/a/b", "/cb"),
        ("tag", "/sync/x", "/sync"),
        ("consent", "/privacy/x", "/privacy"),
        ("sync", "/cb/sync", "/cb"),
    ] {
        let errors = errors(&format!("{SITE}[path]\n{key} = \"{path}\"\n"), &[]);
        let said = format!("line 4: path.{key}: {path} lies below {base}, where ");
        assert!(
            errors.len() == 1 && errors[0].starts_with(&said),
            "{errors:?}"
        );
    }
    let sound = "[path]\npixel = \"/cbx/a\"\nevent = \"/c/b\"\nclick = \"/c\"\n";
    assert_eq!(errors(&format!("{SITE}{sound}"), &[]), [""; 0]);
}

#[test]
fn mistakes_that_only_the_parts_find_stand_among_the_others_by_their_lines() {
    let text =
        format!("{SITE}[spool]\ndir = \"/x\"\n[http]\nlisen = 1\n[geoip]\ncity = [\"/y\"]\n");
    let found = || {
        ["geoip.city", "spool.dir", "database.dir", "device.rules"]
            .map(|key| Unusable::new(key, "is no file"))
            .to_vec()
    };
    let (config, mut mistakes) = Config::read_all(&ConfigText::of(&text), [], Kept::new());
    mistakes.add_unusable(found(), &config.in_force);
    assert_eq!(
        mistakes.into_result().unwrap_err().0,
        [
            "line 4: spool.dir: is no file",
            "line 6: http.lisen: is no key; did you mean listen?",
            "line 8: geoip.city: is no file",
        ],
        "a default may stand for what was not understood"
    );
    let mut alone = Mistakes::default();
    alone.add_unusable(found(), &Config::parse(SITE, []).unwrap().in_force);
    assert_eq!(alone.into_result().unwrap_err().0.len(), 4);
}

#[test]
fn what_visitors_are_told_of_a_site_leads_where_it_says() {
    let wrong = |key: &str, value: &str| {
        let errors = errors(&format!("{SITE}{key} = \"{value}\"\n"), &[]);
        errors.iter().any(|error| error.contains(key))
    };
    for (key, right, mistakes) in [
        (
            "contact",
            &[
                "data@shop.example",
                "a.b+c@Shop.Example",
                "https://shop.example/contact?a=b",
            ][..],
            &[
                "data",
                "data@",
                "@shop.example",
                "data@localhost",
                "a b@shop.example",
                "data@shop.example?subject=x",
                "javascript:alert(1)",
                "mailto:data@shop.example",
            ][..],
        ),
        (
            "policy",
            &["https://shop.example/privacy", "http://shop.example"],
            &[
                "shop.example/privacy",
                "javascript://shop.example/%0aalert(1)",
                "https://",
                "https://shop.example/a b",
            ],
        ),
        (
            "time_zone",
            &["Europe/Stockholm", "UTC", "america/new_york"],
            &[
                "Europe/Atlantis",
                "Stockholm",
                "+02:00",
                "CET-1CEST",
                "Etc/Unknown",
                " UTC",
            ],
        ),
        ("name", &["Shop & Co", "Affären"], &[" Shop", "Shop\\u0007"]),
    ] {
        for value in right {
            assert!(!wrong(key, value), "{key}: {value}");
        }
        for value in mistakes {
            assert!(wrong(key, value), "{key}: {value}");
        }
    }
}

#[test]
fn keys_of_users_are_four_at_most_and_each_is_another_one() {
    let errors = |numbers: &[u8]| {
        let secret = |byte: u8| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode([byte; 32])
        };
        let keys = numbers.iter().enumerate();
        let keys: Vec<String> = keys
            .map(|(id, byte)| format!("\"{id}:{}\"", secret(*byte)))
            .collect();
        errors(
            &format!("{SITE}[user]\nkeys = [{}]\n", keys.join(", ")),
            &[],
        )
    };
    assert_eq!(errors(&[1, 2, 3, 4]), [""; 0]);
    let told = errors(&[1, 2, 3, 4, 5]).concat();
    assert!(told.contains("user.keys: 5 keys; at most 4"), "{told}");
    let told = errors(&[7, 8, 7]).concat();
    assert!(
        told.contains("user.keys: 2 is the key 0 once more"),
        "{told}"
    );
}
