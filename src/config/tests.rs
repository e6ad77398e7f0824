mod example;
mod files;
mod trackers;
mod wrong_values;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spool::Ack;

use super::*;
use crate::callback::names::Mapping;
use crate::endpoint::Endpoint;
use crate::hit::Permit;

const SITE: &str = "[[site]]\nkey = \"a\"\n";

fn errors(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Config::parse(text, environment).map_or_else(|errors| errors.0, |_| Vec::new())
}

#[test]
fn the_demo_configuration_and_the_defaults_are_valid() {
    let demo = Config::parse(include_str!("../../demo.toml"), []).expect("demo.toml is valid");
    assert_eq!(demo.sites[0].default_permit, Permit::ALL);
    let bare = Config::parse(SITE, []).expect("a site is all that is needed");
    assert_eq!(bare.sites[0].default_permit, Permit::NONE);
    assert_eq!(bare.spool.ack, Ack::Disk);
    assert_eq!(
        bare.cookie.max_age,
        std::time::Duration::from_hours(24 * u64::from(crate::visitor::COOKIE_DAYS))
    );
}

#[test]
fn every_mistake_is_reported_at_once_with_what_would_be_right() {
    let text = r#"
        [http]
        listen = "here"
        lisen = 1
        trusted_proxies = ["10.0.0.0/8", "10.0.0.0/99"]
        [spool]
        ack = "maybe"
        max_bytes = "100MiB"
        chunk_bytes = "64MiB"
        [cookie]
        keys = ["1:c2hvcnQ="]
        max_age = "397d"
        [database]
        url = "mysql://me:hush@db/x"
        [colour]
        [[site]]
        hosts = "px"
        origins = ["*"]
    "#;
    assert_eq!(
        errors(
            text,
            &[
                ("AVTRYCK_LOADER_BATCH_WAIT", "soon"),
                ("AVTRYCK_HTTP_LISTN", "x"),
                ("AVTRYCK_LOG", "debug")
            ]
        ),
        [
            r#"line 3: http.listen: "here" is wrong; an address with a port would be right"#,
            "line 4: http.lisen: is no key; did you mean listen?",
            r#"line 5: http.trusted_proxies: "10.0.0.0/99" is wrong; networks such as 10.0.0.0/8 would be right"#,
            r#"line 7: spool.ack: "maybe" is wrong; disk or memory would be right"#,
            "line 8: spool.max_bytes: less than two chunks for each shard; at least 2 × spool.chunk_bytes × spool.shards would be right",
            r#"line 11: cookie.keys: "(not shown)" is wrong; ID:BASE64, an ID of 0 to 255 and at least 32 bytes would be right"#,
            r#"line 12: cookie.max_age: "397d" is wrong; 1d to 396d (13 months) would be right"#,
            "line 14: database.url: begins with mysql://, which is no Postgres; embedded, or a URL such as postgres://user:password@host/database would be right",
            "line 15: colour: is no section; one of http, tls, limit, path, admin, spool, database, loader, kafka, geoip, device, schema, category, privacy, traffic, cookie, click, user, link, household, import, protocol, certificate, site, partner, system, segment, webhook would be right",
            "line 16: site[0].key: is missing; 1 to 64 of a-z 0-9 . - _ would be right",
            r#"line 17: site[0].hosts: "px" is wrong; a list would be right"#,
            r#"line 18: site[0].origins: "*" is wrong; origins such as https://www.telenor.se, as browsers send them would be right"#,
            r#"AVTRYCK_LOADER_BATCH_WAIT: "soon" is wrong; 10ms to 60s would be right"#,
            "AVTRYCK_HTTP_LISTN: names no key; did you mean AVTRYCK_HTTP_LISTEN?",
        ]
    );
    assert_eq!(errors("", &[]).len(), 1);
    let twice = format!("{SITE}{SITE}[path]\npixel = \"/e\"\n");
    assert_eq!(
        errors(&twice, &[]),
        [
            "line 4: site.key: a is there twice; each once would be right",
            "line 6: path: /e is there twice; each once would be right",
        ]
    );
    let two_mistakes = [
        "line 2: no TOML (key with no value, expected `=`)",
        "AVTRYCK_HTTP_LISTEN: \"here\" is wrong; an address with a port would be right",
    ];
    assert_eq!(
        errors("[cookie]\nkeys\n", &[("AVTRYCK_HTTP_LISTEN", "here")]),
        two_mistakes
    );
}

#[test]
fn what_would_fail_later_is_refused_at_once() {
    for text in [
        "[cookie]\nname = \"avchoice\"",
        "[cookie]\nname = \"\"",
        "[http]\nlisten = \"10.0.0.1:80\"\n[admin]\nlisten = \"0.0.0.0:80\"",
        "[spool]\ndir = \"\"",
        "[path]\npixel = \"/a/../b\"",
        "[path]\npixel = \"/privacy/x\"",
        "[path]\nset_uid = \"/x\"",
        "[[partner]]\nkey = \"a\"\nsecret = \"short\"",
        "[[partner]]\nkey = \"a\"\nmapping = \"else\"",
        "[[partner]]\nkey = \"a\"\nsite = \"b\"",
        "[[partner]]\nkey = \"a\"\nmatch_url = \"https://p.example/\"",
        "[[partner]]\nkey = \"a\"\nmatch_url = \"javascript:{uid}\"",
        "[[partner]]\nkey = \"a\"\nfields = [\"a\"]",
        "[[partner]]\nkey = \"a\"\n[partner.fields]\ncid = 1",
        "[path]\npixel = \"/a//b\"",
        "[[site]]\nkey = \"b\"\nhosts = [\"px.example:80\"]",
        "[[site]]\nkey = \"b\"\ncookie_domain = \"10.0.0.1\"",
        "[[site]]\nkey = \"b\"\ncookie_domain = \"se\"",
        "[[site]]\nkey = \"b\"\norigins = [\"https://www.example:443\"]",
        "[[site]]\nkey = \"b\"\norigins = [\"https://www.example/\"]",
        "[[site]]\nkey = \"\"",
        "[[partner]]\nkey = [\"a\"]",
        "[[partner]]\nkey = \"a\"\ngvl_id = 65536",
        "[[site]]\nkey = \"b\"\ngvl_id = -1",
        "[[site]]\nkey = \"b\"\ngdpr_0_permit = [\"all\"]",
        "[path]\nconsent = \"/id\"",
        "[click]\nkeys = [\"1:c2hvcnQ=\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"*\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"*.se\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"https://a.example\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"a.example:0\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"a.example:080\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"a.example:65536\"]",
        "[[site]]\nkey = \"b\"\nclick_hosts = [\"a.example:\"]",
        "[cookie]\nformer_name = \"avid\"",
        "[cookie]\nformer_choice_name = \"AVID\"",
        "[cookie]\nname = \"__host-avid\"",
        "[cookie]\nchoice_name = \"__SECURE-avchoice\"",
        "[cookie]\nname = \"__Host-avid\"\n[[site]]\nkey = \"b\"\ncookie_domain = \"b.example\"",
        "[[partner]]\nkey = \"a\"\nsites = [\"b\"]",
    ] {
        let errors = errors(&format!("{SITE}{text}\n"), &[]);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    }
    let right = "[path]\npixel = \"/consented/p.gif\"\n[cookie]\nname = \"__Secure-avid\"\nformer_name = \"avid\"\nchoice_name = \"__Secure-avchoice\"\nformer_choice_name = \"avchoice\"\n[[site]]\nkey = \"b\"\nhosts = [\"px.example\", \"[::1]\"]\norigins = [\"http://[::1]:8080\", \"https://a.example\"]\ncookie_domain = \"b.example\"\n";
    assert_eq!(errors(&format!("{SITE}{right}"), &[]), [""; 0]);
}

#[test]
fn sites_and_partners_allow_nothing_by_default() {
    let text = format!(
        "{SITE}gvl_id = 77\n[[partner]]\nkey = \"b\"\n[[partner]]\nkey = \"c\"\ngvl_id = 755\ndefault_permit = [\"measure\"]\ngdpr_0_permit = [\"store\", \"measure\"]\n"
    );
    let config = Config::parse(&text, []).expect("a valid configuration");
    let site = &config.sites[0];
    assert_eq!(
        (site.gvl_id, site.default_permit, site.gdpr_0_permit),
        (Some(77), Permit::NONE, Permit::NONE)
    );
    let rules = |at: usize| {
        let partner = &config.partners[at];
        (
            partner.gvl_id,
            partner.default_permit,
            partner.gdpr_0_permit,
        )
    };
    assert_eq!(rules(0), (None, Permit::NONE, Permit::NONE));
    let both = Permit::STORE.with(Permit::MEASURE);
    assert_eq!(rules(1), (Some(755), Permit::MEASURE, both));
    assert_eq!(config.path.of(Endpoint::Consent), "/consent");
}

#[test]
fn the_environment_outweighs_the_file() {
    let text = format!("{SITE}[http]\nlisten = \"127.0.0.1:1\"\n");
    let environment = [
        ("AVTRYCK_HTTP_LISTEN", "127.0.0.1:2"),
        ("AVTRYCK_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("AVTRYCK_SPOOL_MAX_BYTES", "1GB"),
    ];
    let config = Config::parse(
        &text,
        environment.map(|(name, value)| (name.into(), value.into())),
    )
    .expect("a valid configuration");
    assert_eq!(config.http.listen.port(), 2);
    assert_eq!(config.http.trusted_proxies.len(), 2);
    assert_eq!(config.spool.bytes_max, 1_000_000_000);
}

#[test]
fn what_is_in_force_reads_back_as_the_same_configuration() {
    let text = format!(
        "{SITE}hosts = [\"px.example\"]\ndefault_permit = [\"store\"]\n[spool]\nmax_bytes = \"1GiB\"\n\
         [[partner]]\nkey = \"p\"\n[partner.fields]\n\"device.ifa\" = \"maid\"\n"
    );
    let environment = || [("AVTRYCK_HTTP_THREADS".into(), "3".into())];
    let shown = Config::parse(&text, environment())
        .unwrap()
        .in_force
        .to_string();
    for line in [
        "threads = 3  # environment",
        "max_bytes = \"1GiB\"  # file",
        "chunk_bytes = \"64MiB\"  # default",
        "hosts = [\"px.example\"]  # file",
        "fields = { \"device.ifa\" = \"maid\" }  # file",
    ] {
        assert!(shown.contains(line), "no {line} in\n{shown}");
    }
    let line = Config::parse(&text, environment())
        .unwrap()
        .in_force
        .in_one_line();
    assert!(!line.contains('\n'));
    for entry in [
        "http.threads = 3 (environment), ",
        ", spool.max_bytes = \"1GiB\" (file), ",
        ", site.hosts = [\"px.example\"] (file), ",
        ", partner.key = \"p\" (file), ",
    ] {
        assert!(line.contains(entry), "no {entry} in {line}");
    }
    let again = Config::parse(&shown, []).unwrap().in_force.to_string();
    let values = |text: &str| {
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&shown), values(&again));
}

#[test]
fn secrets_are_not_shown() {
    let secret = STANDARD.encode([7; 32]);
    let sound = format!(
        "{SITE}[cookie]\nkeys = [\"1:{secret}\"]\n[click]\nkeys = [\"1:{secret}\"]\n[user]\nkeys = [\"1:{secret}\"]\n[database]\nurl = \"postgres://me:hush@db/x?password=hush@there\"\n"
    );
    let config = Config::parse(&sound, []).expect("a valid configuration");
    let mut shown = format!("{config:?}{}{}", config.in_force, config.database.url)
        + &config.in_force.in_one_line();
    for wrong in [
        format!("{SITE}[cookie]\nkeys = \"1:{secret}\"\n"),
        format!("{SITE}[cookie]\nkeys = \"1:{secret}\n"),
        format!("{SITE}[cookie]\nkeys = [\"300:{secret}\"]\n"),
        format!("{SITE}[database]\nurl = [\"hush\"]\n"),
    ] {
        let errors = errors(&wrong, &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        shown.push_str(&errors.concat());
    }
    assert!(
        !shown.contains("hush") && !shown.contains(&secret) && !shown.contains("7, 7"),
        "{shown}"
    );
}

#[test]
fn a_reload_applies_what_it_can_and_names_the_keys_that_wait_for_a_restart() {
    let reload = |running: &Config, text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        running.reload(Some(file.path()), [], |_| Ok(()))
    };
    let url = |word: &str| format!("[database]\nurl = \"postgres://me:{word}@db/x\"\n");
    let running = Config::parse(&format!("{SITE}{}", url("hush")), []).unwrap();
    let text = format!(
        "{}[http]\nlisten = \"127.0.0.1:2\"\nh2c = true\n[cookie]\nname = \"b\"\n{SITE}{}",
        url("still"),
        SITE.replace("\"a\"", "\"b\"")
    );
    let (taken, waiting) = reload(&running, &text).unwrap();
    assert_eq!(taken.http.listen, running.http.listen);
    assert!(taken.database.url == running.database.url);
    assert_eq!((taken.http.h2c, taken.cookie.name.as_str()), (true, "b"));
    assert_eq!(taken.sites.len(), 2);
    let waits = |key: &str, in_force: &str, wanted: &str| Waiting {
        key: key.to_owned(),
        in_force: in_force.to_owned(),
        wanted: wanted.to_owned(),
    };
    assert_eq!(
        waiting,
        [
            waits("http.listen", "\"127.0.0.1:8080\"", "\"127.0.0.1:2\""),
            waits("database.url", "\"(not shown)\"", "\"(not shown)\""),
        ]
    );
    // A key waits at the next reload too, until the file has the value in force again.
    let (again, waiting) = reload(&taken, &text).unwrap();
    assert_eq!(waiting.len(), 2);
    let (_, waiting) = reload(&again, &format!("{SITE}{}", url("hush"))).unwrap();
    assert_eq!(waiting, []);
    // A mistake in a key that waits for the restart refuses the file as well.
    let wrong = format!("{SITE}[http]\nlisten = \"here\"\n[cookie]\nname = \"avchoice\"\n");
    assert_eq!(reload(&running, &wrong).unwrap_err().0.len(), 2);
    let refuse = |_: &Config| Err(ConfigErrors(vec!["refused".to_owned()]));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SITE).unwrap();
    let refused = taken.reload(Some(file.path()), [], refuse).unwrap_err();
    assert_eq!(refused.0, ["refused"]);
}

#[test]
fn tls_needs_a_certificate_and_its_own_port_and_proxy_protocol_needs_trusted_proxies() {
    let certificate = "[[certificate]]\nchain = \"a.pem\"\nkey = \"a.key\"\n";
    for (text, right) in [
        (
            format!("[tls]\nlisten = \"0.0.0.0:8443\"\n{SITE}"),
            "line 2: certificate: no [[certificate]] is configured for tls.listen; one with chain and key would be right",
        ),
        (
            format!("[tls]\nlisten = \"0.0.0.0:8080\"\n{certificate}{SITE}"),
            "line 2: tls.listen: the same as http.listen; another port would be right",
        ),
        (
            format!("[tls]\nlisten = \"0.0.0.0:8090\"\n{certificate}{SITE}"),
            "line 2: tls.listen: the same as admin.listen; another port would be right",
        ),
        (
            format!("[http]\nproxy_protocol = true\n{SITE}"),
            "http.trusted_proxies: the list is empty, so no PROXY protocol would be believed; the load balancer's network would be right",
        ),
        (
            format!("[tls]\nhsts = \"731d\"\n{SITE}"),
            "line 2: tls.hsts: \"731d\" is wrong; 0s (nothing is said) to 730d would be right",
        ),
    ] {
        assert_eq!(errors(&text, &[]), [right]);
    }
    let sound = format!("[tls]\nlisten = \"0.0.0.0:8443\"\n{certificate}{SITE}");
    assert_eq!(errors(&sound, &[]), Vec::<String>::new());
}

#[test]
fn messages_name_every_permit_and_mapping_and_the_longest_cookie_age() {
    let text = format!("{SITE}[[partner]]\nkey = \"b\"\n");
    let config = Config::parse(&text, []).unwrap();
    let right = |name: &str| {
        let mut settings = config.in_force.0.iter();
        settings
            .find(|setting| setting.name() == name)
            .unwrap()
            .right
    };
    let permits = Permit::NAMED.map(|(name, _)| name);
    assert_eq!(right("site[0].default_permit"), permits.join(", "));
    let mappings = Mapping::ALL.map(Mapping::name).join(", ");
    assert_eq!(right("partner[0].mapping").replace(" or ", ", "), mappings);
    let days_max = crate::visitor::COOKIE_DAYS_MAX;
    let ages = format!("1d to {days_max}d (13 months)");
    assert_eq!(right("cookie.max_age"), ages);
    for (days, mistakes) in [(days_max, 0), (days_max + 1, 1)] {
        let text = format!("{SITE}[cookie]\nmax_age = \"{days}d\"\n");
        assert_eq!(errors(&text, &[]).len(), mistakes, "{days}");
    }
}

#[test]
fn each_mistake_in_a_file_names_the_file_and_the_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "# sites\n[[site]]\nkey = \"a\"\nhosts = [\n  \"px.example\",\n  \"PX\",\n]\n\n[limit]\nburst = 0\ndrop = \"yes\"\n";
    std::fs::write(file.path(), text).unwrap();
    let name = file.path().display();
    let errors = Config::load(Some(file.path()), []).unwrap_err().0;
    assert_eq!(
        errors,
        [
            format!(
                "{name}:6: site[0].hosts: \"PX\" is wrong; host names in lower case, without ports would be right"
            ),
            format!("{name}:10: limit.burst: \"0\" is wrong; 1 to 1000000 would be right"),
            format!("{name}:11: limit.drop: \"yes\" is wrong; true or false would be right"),
        ]
    );
    std::fs::write(file.path(), b"[[site]]\nkey = \"a\"\n# caf\xe9\n").unwrap();
    let errors = Config::load(Some(file.path()), []).unwrap_err().0;
    assert_eq!(
        errors,
        [format!("{name}:3: is no UTF-8; UTF-8 would be right")]
    );
    std::fs::write(file.path(), "\u{feff}[[site]]\r\nkey = \"a\"\r\n").unwrap();
    assert!(Config::load(Some(file.path()), []).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    for (path, why) in [
        (folder.path(), "Is a directory"),
        (&missing, "No such file or directory"),
    ] {
        let errors = Config::load(Some(path), []).unwrap_err().0;
        let start = format!("{}: cannot be read ({why}", path.display());
        assert!(
            errors.len() == 1 && errors[0].starts_with(&start),
            "{errors:?}"
        );
    }
}

#[test]
fn misspelt_sections_and_keys_get_a_suggestion_and_strange_ones_none() {
    for (text, expected) in [
        (
            "[htpp]\n",
            "line 3: htpp: is no section; did you mean [http]?",
        ),
        (
            "[Database]\n",
            "line 3: Database: is no section; did you mean [database]?",
        ),
        (
            "[geo]\n",
            "line 3: geo: is no section; did you mean [geoip]?",
        ),
        (
            "[[sites]]\nkey = \"b\"\n",
            "line 3: sites: is no section; did you mean [[site]]?",
        ),
        (
            "[[partners]]\n",
            "line 3: partners: is no section; did you mean [[partner]]?",
        ),
        (
            "[partner]\nkey = \"b\"\n",
            "line 3: partner: is no list of tables; [[partner]] would be right",
        ),
        (
            "[[http]]\n",
            "line 3: http: is no table; [http] would be right",
        ),
        (
            "[spool]\nmax-bytes = \"1GB\"\n",
            "line 4: spool.max-bytes: is no key; did you mean max_bytes?",
        ),
        (
            "[spool]\nMAX_BYTES = \"1GB\"\n",
            "line 4: spool.MAX_BYTES: is no key; did you mean max_bytes?",
        ),
        (
            "[http]\nburst = 5\n",
            "line 4: http.burst: is no key; [limit] has one of this name",
        ),
        (
            "[limit]\nlisten = 5\n",
            "line 4: limit.listen: is no key; [http] or [tls] or [admin] has one of this name",
        ),
        (
            "[http]\ncolour = 5\n",
            "line 4: http.colour: is no key; `avtryck example-config` has all of them",
        ),
        (
            "[http.listen]\nip = 1\n",
            "line 3: http.listen: is a table; an address with a port would be right",
        ),
        (
            "[http]\nlisten = [1]\n",
            "line 4: http.listen: is a list; an address with a port would be right",
        ),
        (
            "[http]\nthreads = 1.5\n",
            "line 4: http.threads: \"1.5\" is wrong; 0 (one per core) to 256 would be right",
        ),
        (
            "[http]\nthreads = 99999999999999999999\n",
            "line 4: http.threads: \"99999999999999999999\" is wrong; 0 (one per core) to 256 would be right",
        ),
        (
            "[[partner]]\nkey = \"b\"\nsite = \"aa\"\n",
            "line 5: partner b, site: aa is no site; did you mean a?",
        ),
        (
            "[admin]\nlisten = \"[::ffff:127.0.0.1]:8080\"\n",
            "line 4: admin.listen: the same as http.listen; an address that the public cannot reach would be right",
        ),
    ] {
        assert_eq!(errors(&format!("{SITE}{text}"), &[]), [expected], "{text}");
    }
    assert_eq!(
        errors(&format!("listen = \"127.0.0.1:1\"\n{SITE}"), &[]),
        ["line 1: listen: stands in no section; [http] or [tls] or [admin] has one of this name"]
    );
    assert_eq!(
        errors(SITE, &[("AVTRYCK_WHATEVER_ELSE_THERE_IS", "1")]),
        ["AVTRYCK_WHATEVER_ELSE_THERE_IS: names no key; `avtryck example-config` has all of them"]
    );
}

#[test]
fn a_line_that_is_no_toml_hides_no_other_mistake() {
    let text =
        "[http]\nlisten = 127.0.0.1:80\nthreads = 9000\n[spool]\nack = \"maybe\"\nack = \"disk\"\n";
    let errors = errors(text, &[]);
    let places: Vec<&str> = errors
        .iter()
        .map(|error| error.split_inclusive(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["line 2: ", "line 3: ", "line 5: ", "line 6: "],
        "{errors:?}"
    );
    assert!(
        errors[0].contains("no TOML") && errors[3].contains("ack is there twice"),
        "{errors:?}"
    );
}

#[test]
fn a_url_of_another_database_is_named_by_its_scheme_and_shows_no_password() {
    for (url, why) in [
        (
            "mysql://me:hush@db/x",
            "begins with mysql://, which is no Postgres",
        ),
        (
            "http://me:hush@db",
            "begins with http://, which is no Postgres",
        ),
        ("jdbc:postgresql://me:hush@db/x", "begins with no scheme"),
        (
            "db.example",
            "is no URL, because no scheme such as postgres:// begins it",
        ),
        (
            "host=db user=me password=hush",
            "is no URL, because no scheme such as postgres:// begins it",
        ),
        (
            "Postgres://me:hush@db/x",
            "has a scheme with capitals or blanks",
        ),
        ("hush hush://x", "begins with no scheme"),
        ("", "is empty"),
        ("Embedded", "is not in lower case"),
    ] {
        let text = format!("{SITE}[database]\nurl = \"{url}\"\n");
        let right =
            "embedded, or a URL such as postgres://user:password@host/database would be right";
        assert_eq!(
            errors(&text, &[]),
            [format!("line 4: database.url: {why}; {right}")]
        );
        let variable = [("AVTRYCK_DATABASE_URL", url)];
        assert_eq!(
            errors(SITE, &variable),
            [format!("AVTRYCK_DATABASE_URL: {why}; {right}")]
        );
    }
    for (url, shown) in [
        ("postgres://me:hush@db/x", "postgres://…@db/x"),
        ("postgres://db/x?password=hush", "postgres://db/x"),
        ("postgres://me:hu@sh@db/x", "postgres://…@db/x"),
        ("postgres://me:hu?sh@db/x", "postgres://…"),
        ("postgres://me:hu/sh@db/x", "postgres://…@db/x"),
    ] {
        assert_eq!(DatabaseUrl::Url(url.to_owned()).to_string(), shown);
    }
}
