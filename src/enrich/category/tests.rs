use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::enrich::{Problem, load, reload};

/// What tables without lists say of a page and a publisher.
fn domain_of(page_url: &str, publisher: &str) -> Option<String> {
    let found = Tables::default().page_domain(page_url, publisher)?;
    Some(found.value.domain.clone())
}

#[test]
fn a_page_has_the_registrable_domain_of_its_url_however_that_is_written() {
    let long = "a".repeat(63);
    let too_long = "a".repeat(64);
    for (url, domain) in [
        ("https://www.example.se/a?b#c", Some("example.se")),
        ("HTTPS://WWW.EXAMPLE.SE", Some("example.se")),
        ("http://example.se.:8080/", Some("example.se")),
        ("http://example.se:/", Some("example.se")),
        ("https://me:pass@blog.example.se:443", Some("example.se")),
        ("https://other.se@example.se/", Some("example.se")),
        ("https://other.se:80@example.se/", Some("example.se")),
        ("https://example.se\\@other.se/", Some("example.se")),
        ("https://example.se?@other.se/", Some("example.se")),
        ("https://example.se#@other.se/", Some("example.se")),
        ("https:/example.se/", Some("example.se")),
        ("https:\\\\example.se\\a", Some("example.se")),
        ("  https://example.se/", Some("example.se")),
        ("//example.se/a", Some("example.se")),
        ("https://shop.example.co.uk/", Some("example.co.uk")),
        ("https://me.github.io/page", Some("me.github.io")),
        ("https://a.b.me.github.io/page", Some("me.github.io")),
        ("https://räksmörgås.se/", Some("xn--rksmrgs-5wao1o.se")),
        ("https://RÄKSMÖRGÅS.se/", Some("xn--rksmrgs-5wao1o.se")),
        (
            "https://www.xn--rksmrgs-5wao1o.se/",
            Some("xn--rksmrgs-5wao1o.se"),
        ),
        ("https://例え。jp/", Some("xn--r8jz45g.jp")),
        ("https://shop%2Eexample%2Ese/", Some("example.se")),
        ("https://my_shop.example/", Some("my_shop.example")),
        (&format!("https://{long}.se/"), Some(&*format!("{long}.se"))),
        // Nobody can register a suffix.
        ("https://co.uk/", None),
        ("https://github.io/", None),
        ("https://se/", None),
        ("https://localhost:8080/", None),
        ("http://192.0.2.1/", None),
        ("http://192.0.2.1.:80/", None),
        ("http://[2001:db8::1]:80/", None),
        ("http://0x7f.1/", None),
        ("http://3221225985/", None),
        ("https://a..se/", None),
        ("https://.example.se/", None),
        ("https://example.se../", None),
        (&format!("https://{too_long}.se/"), None),
        (&format!("https://{}.se/", "a".repeat(300)), None),
        (&format!("https://{}se/", "a.".repeat(127)), None),
        (&format!("https://{}se/", "é.".repeat(900)), None),
        ("https://exa mple.se/", None),
        ("https://exa<mple.se/", None),
        ("https://example.se:port/", None),
        ("https://%00.se/", None),
        ("https://", None),
        ("https:///", None),
        ("https:example.se", None),
        ("https://@/", None),
        ("example.se/a", None),
        ("data:text/html,https://example.se/", None),
        ("about:blank", None),
        ("file:///home/example.se/", None),
        ("app://example.se/", None),
        ("javascript://example.se/%0aalert(1)", None),
        ("", None),
        (":", None),
        ("\u{202e}", None),
    ] {
        assert_eq!(domain_of(url, "").as_deref(), domain, "{url}");
    }
}

#[test]
fn a_publisher_stands_in_for_a_page_without_a_domain_where_it_is_a_domain_or_a_url() {
    for (publisher, domain) in [
        ("dn.se", Some("dn.se")),
        ("www.DN.se", Some("dn.se")),
        ("dn.se/kultur", Some("dn.se")),
        ("https://dn.se/kultur", Some("dn.se")),
        ("tv.aftonbladet.se", Some("aftonbladet.se")),
        ("blog.example.com", Some("example.com")),
        ("se.example.com", Some("example.com")),
        ("www.bbc.co.uk:443", Some("bbc.co.uk")),
        ("räksmörgås.se", Some("xn--rksmrgs-5wao1o.se")),
        // IDs of apps, names and numbers.
        ("com.example.app", None),
        ("com.example.tv", None),
        ("se.tv4.play", None),
        ("org.mozilla.firefox.dev", None),
        ("paper", None),
        ("Dagens Nyheter", None),
        ("4711", None),
        ("47.11", None),
        ("v1.2.3.beta", None),
        ("192.0.2.1", None),
        ("co.uk", None),
        ("", None),
    ] {
        for page in ["", "about:blank", "http://192.0.2.1/"] {
            assert_eq!(domain_of(page, publisher).as_deref(), domain, "{publisher}");
        }
        let page = domain_of("https://example.se/", publisher);
        assert_eq!(page.as_deref(), Some("example.se"));
    }
}

proptest! {
    #[test]
    fn a_page_never_has_the_host_of_another_than_a_browser_would_ask(
        scheme in "(http|https|HTTPS)",
        slashes in r"[/\\]{0,3}",
        rest in r"([a-z0-9]{1,6}|[.@:/\\?#%\[\]_\-\tåÅ。 ]|\.se|%2e|co\.uk){0,12}",
    ) {
        let text = format!("{scheme}:{slashes}{rest}");
        let ours = domain::authority(&text).and_then(domain::name_of);
        if let (Some(ours), Ok(url)) = (ours, url::Url::parse(&text)) {
            let theirs = url.host_str().unwrap_or_default();
            prop_assert_eq!(ours, theirs.trim_end_matches('.'), "{}", text);
        }
    }
}

/// Files in a folder, and what tables are read from.
struct Lists {
    dir: tempfile::TempDir,
    sources: TableFiles,
}

impl Lists {
    fn new(files: &[(&str, &[u8])], lists: &[&str]) -> Lists {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let sources = TableFiles {
            categories: lists.iter().map(|list| dir.path().join(list)).collect(),
            taxonomy: "assets/data/rules/taxonomy.json".into(),
            ..TableFiles::default()
        };
        Lists { dir, sources }
    }

    fn read(&self) -> (Tables, Vec<String>) {
        self.read_again(&Tables::default())
    }

    fn read_again(&self, old: &Tables) -> (Tables, Vec<String>) {
        let (tables, errors) = reload(&self.sources, old);
        let of_lists =
            |error: &&LoadError| matches!(error.table, TableFile::Category | TableFile::Taxonomy);
        let root = format!("{}/", self.dir.path().display());
        let errors = errors.iter().filter(of_lists);
        let errors = errors
            .map(|error| error.to_string().replace(&root, ""))
            .collect();
        (tables, errors)
    }
}

/// Domain, categories, source and whether they are sensitive.
fn said(tables: &Tables, host: &str) -> String {
    let found = tables.page_domain(&format!("https://{host}/"), "").unwrap();
    let PageDomain {
        domain,
        category,
        source,
        is_sensitive,
    } = &found.value;
    let mark = if *is_sensitive { " !" } else { "" };
    format!("{domain}: {category} ({source}){mark}")
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const CSV: &str = "\u{feff}domain,category,source\r\n\
    # Our own.\r\n\
    example.se,News\r\n\
    blog.example.se, 459 ,hand\r\n\
    \"bank.se\",\"Personal Finance;consumer banking\",\"said \"\"us\"\"\"\r\n\
    *.räksmörgås.se,\"Ear, Nose and Throat Conditions\"\r\n\
    odd.se,Our Own Words,\r\n\
    co.uk,everything British\r\n\
    github.io,hosting\r\n\
    192.0.2.1,an address\r\n\
    two.se,Travel\r\n\
    two.se,rm3sit\r\n\
    two.se,Travel,again";

#[test]
fn csv_gives_names_and_ids_of_the_taxonomy_own_words_and_sources() {
    for (name, bytes) in [
        ("own.csv", CSV.as_bytes().to_vec()),
        ("OWN.CSV.gz", packed(CSV.as_bytes())),
    ] {
        let (tables, errors) = Lists::new(&[(name, &bytes)], &[name]).read();
        assert_eq!(errors, [""; 0]);
        let own = &name[..3];
        for (host, expected) in [
            ("example.se", format!("example.se: News ({own})")),
            ("www.example.se", format!("example.se: News ({own})")),
            // The longest entry counts, and it is that of the page's own domain.
            (
                "blog.example.se",
                "example.se: Christianity (hand) !".into(),
            ),
            (
                "a.blog.example.se",
                "example.se: Christianity (hand) !".into(),
            ),
            ("notexample.se", "notexample.se:  ()".into()),
            (
                "bank.se",
                "bank.se: Personal Finance; Consumer Banking (said \"us\")".into(),
            ),
            (
                "räksmörgås.se",
                format!("xn--rksmrgs-5wao1o.se: Ear, Nose and Throat Conditions ({own}) !"),
            ),
            ("odd.se", format!("odd.se: Our Own Words ({own})")),
            // A public suffix says nothing of those below it.
            ("example.co.uk", "example.co.uk:  ()".into()),
            ("me.github.io", "me.github.io:  ()".into()),
            ("two.se", format!("two.se: Travel; rm3sit ({own}; again)")),
        ] {
            assert_eq!(said(&tables, host), expected, "{name}");
        }
        assert_eq!(tables.listed_domains(), 8, "{name}");
    }
}

#[test]
fn folders_of_domains_and_hosts_files_are_read_in_their_order() {
    let hosts = "127.0.0.1 localhost localhost.localdomain\n\
        ::1 ip6-localhost\n\
        0.0.0.0 0.0.0.0\n\
        0.0.0.0 casino.se www.casino.se # the house wins\n\
        0.0.0.0\tbet.se\r\n\
        poker.se\n\
        192.0.2.77\n";
    let adult = packed(b"both.se\nnude.se.\n\n192.0.2.9\n");
    let lists = Lists::new(
        &[
            ("own.csv", b"both.se,Sports,hand\n"),
            ("gambling.hosts.txt", hosts.as_bytes()),
            ("ut1/adult/domains.gz", &adult),
            ("ut1/adult/urls", b"what.se/is/not/read\n"),
            ("ut1/sex/lingerie/domains", b"lace.se\nboth.se\n"),
            ("ut1/press/domains", b"news.se\nboth.se\n"),
            ("ut1/README", b"Not a list.\n"),
        ],
        &["own.csv", "gambling.hosts.txt", "ut1"],
    );
    let (tables, errors) = lists.read();
    assert_eq!(errors, [""; 0]);
    for (host, expected) in [
        ("both.se", "both.se: Sports (hand)"),
        ("casino.se", "casino.se: gambling (gambling) !"),
        ("sub.bet.se", "bet.se: gambling (gambling) !"),
        ("poker.se", "poker.se: gambling (gambling) !"),
        ("nude.se", "nude.se: adult (ut1) !"),
        ("lace.se", "lace.se: sex/lingerie (ut1) !"),
        ("news.se", "news.se: press (ut1)"),
        ("what.se", "what.se:  ()"),
    ] {
        assert_eq!(said(&tables, host), expected);
    }
    // A folder that is itself a category, and the order of lists turned round.
    let files: &[(&str, &[u8])] = &[
        ("adult/domains", b"both.se\n"),
        ("own.csv", b"both.se,Sports\n"),
    ];
    let (tables, errors) = Lists::new(files, &["adult", "own.csv"]).read();
    assert_eq!(errors, [""; 0]);
    assert_eq!(said(&tables, "both.se"), "both.se: adult (adult) !");
}

#[test]
fn a_broken_line_costs_itself_and_the_first_is_named() {
    let long = "x".repeat(5_000);
    for (line, why) in [
        ("one.se", "not domain,category or domain,category,source"),
        (
            "a.se,b,c,d",
            "not domain,category or domain,category,source",
        ),
        (
            "a.se,",
            "a category or a source is empty, or longer than 100 bytes",
        ),
        (
            "a.se,b;",
            "a category or a source is empty, or longer than 100 bytes",
        ),
        ("a.se,\"b", "a quoted field does not end, or goes on"),
        ("a.se,\"b\"c", "a quoted field does not end, or goes on"),
        ("https://a.se/,b", "not a domain"),
        ("a.se/path,b", "not a domain"),
        ("a b.se,b", "not a domain"),
        ("a..se,b", "not a domain"),
        ("localhost,b", "not a domain"),
        (",b", "not a domain"),
        (&format!("{}.se,b", "a".repeat(300)), "not a domain"),
        (
            &format!("a.se,{}", "b".repeat(101)),
            "a category or a source is empty, or longer than 100 bytes",
        ),
        (&format!("a.se,{long}"), "longer than 4096 bytes"),
    ] {
        let csv = format!("before.se,A\n{line}\nworse\nafter.se,B\n");
        let (tables, errors) = Lists::new(&[("l.csv", csv.as_bytes())], &["l.csv"]).read();
        let expected = format!("l.csv: 2 of 4 lines skipped, the first is line 2: {why}");
        assert_eq!(errors, [expected]);
        assert_eq!(said(&tables, "before.se"), "before.se: A (l)");
        assert_eq!(said(&tables, "after.se"), "after.se: B (l)");
    }
    let files: &[(&str, &[u8])] = &[
        (
            "ut1/adult/domains",
            b"a.se\n\xff\xfe.se\nb.se c.se\n||d.se^\n",
        ),
        ("ut1/press/domains", b"news.se\n"),
    ];
    let lists = Lists::new(files, &["ut1"]);
    let (tables, errors) = lists.read();
    let expected = "ut1/adult/domains: 3 of 4 lines skipped, the first is line 2: not UTF-8";
    assert_eq!(errors, [expected]);
    assert!(load(&lists.sources).1.iter().any(LoadError::is_partial));
    assert_eq!(said(&tables, "news.se"), "news.se: press (ut1)");
}

#[test]
fn a_list_that_cannot_be_read_stays_as_it_was_and_others_go_on() {
    let good = packed(b"gone.se,News\n");
    let files: &[(&str, &[u8])] = &[("a.csv.gz", &good), ("b.csv", b"stays.se,Sports\n")];
    let mut lists = Lists::new(files, &["a.csv.gz", "b.csv"]);
    let (tables, errors) = lists.read();
    assert_eq!(errors, [""; 0]);
    let mut damaged = good.clone();
    damaged.truncate(good.len() - 6);
    for (bytes, why) in [
        (damaged, "a.csv.gz: unexpected end of file"),
        (
            b"\x7fELF\n\x00\x01\n".to_vec(),
            "a.csv.gz: 2 of 2 lines skipped, the first is line 1: ",
        ),
    ] {
        fs::write(lists.dir.path().join("a.csv.gz"), bytes).unwrap();
        let (again, errors) = lists.read_again(&tables);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with(why), "{errors:?}");
        assert_eq!(said(&again, "gone.se"), "gone.se: News (a)");
        assert_eq!(said(&again, "stays.se"), "stays.se: Sports (b)");
        // Whoever starts with it does without.
        let (fresh, _) = lists.read();
        assert_eq!(said(&fresh, "gone.se"), "gone.se:  ()");
    }
    fs::remove_file(lists.dir.path().join("a.csv.gz")).unwrap();
    lists.sources.taxonomy = lists.dir.path().join("none.json");
    lists
        .sources
        .categories
        .push(lists.dir.path().join("empty"));
    fs::create_dir(lists.dir.path().join("empty")).unwrap();
    let (again, errors) = lists.read_again(&tables);
    assert_eq!(
        errors,
        [
            "none.json: No such file or directory (os error 2)",
            "a.csv.gz: No such file or directory (os error 2)",
            "empty: 0 files named domains, not 1 to 2000",
        ]
    );
    assert_eq!(said(&again, "gone.se"), "gone.se: News (a)");
    // Without lists nothing is read, not even the names.
    lists.sources.categories.clear();
    let (none, errors) = lists.read_again(&again);
    assert_eq!(errors, [""; 0]);
    assert_eq!(said(&none, "gone.se"), "gone.se:  ()");
}

#[test]
fn what_is_sensitive_follows_the_configuration_also_where_an_old_list_stays() {
    let mut lists = Lists::new(
        &[("l.csv", b"knit.se,Knitting\nfaith.se,461\n")],
        &["l.csv"],
    );
    let (tables, _) = lists.read();
    assert_eq!(said(&tables, "knit.se"), "knit.se: Knitting (l)");
    assert_eq!(said(&tables, "faith.se"), "faith.se: Islam (l) !");
    lists.sources.sensitive = vec!["knitting".to_owned()];
    fs::remove_file(lists.dir.path().join("l.csv")).unwrap();
    let (tables, _) = lists.read_again(&tables);
    assert_eq!(said(&tables, "knit.se"), "knit.se: Knitting (l) !");
}

#[test]
fn a_domain_that_is_known_is_found_again_and_strangers_do_not_fill_memory() {
    let tables = Tables::default();
    let find = |url: &str| tables.page_domain(url, "").unwrap();
    let first = find("https://www.example.se/a");
    assert!(Arc::ptr_eq(&first, &find("https://www.example.se/b?c")));
    for number in 0..3 * DOMAINS_CACHED_MAX {
        find(&format!("https://d{number}.se/"));
    }
    assert!(tables.categories.found.len() <= DOMAINS_CACHED_MAX + DOMAINS_CACHED_MAX / 8);
}

#[test]
fn a_list_that_is_too_large_is_not_used() {
    let mut builder = index::Builder::default();
    for number in 0..index::LABELS_MAX {
        let category = number.to_string();
        let source = String::new();
        builder.label(Label { category, source }).unwrap();
    }
    let label = |category: &str| Label {
        category: category.to_owned(),
        source: String::new(),
    };
    assert_eq!(builder.label(label("one more")), Err(index::Full));
    assert_eq!(builder.label(label("7")), Ok(7));
    let problem = Problem::TooLarge {
        bytes: 1,
        domains: 2,
        categories: 3,
    };
    let error = problem.of(TableFile::Category, Path::new("l"));
    assert!(!error.is_partial());
    assert_eq!(
        error.to_string(),
        "l: more than 1 bytes, 2 domains or 3 names of categories"
    );
}
