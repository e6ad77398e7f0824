use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::*;

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let (tables, errors) = load(&rule_sources());
    assert_eq!(problems(&errors), [""; 0]);
    tables
});

/// `expect`: class | brand | model | OS version | browser version.
#[track_caller]
fn check(user_agent: &str, hints: &Hints<'_>, expect: &str) {
    let device = TABLES.device(user_agent, hints);
    let again = TABLES.device(user_agent, hints);
    assert!(Arc::ptr_eq(&device, &again), "cached");
    assert_eq!(shown(&device.value), expect, "{user_agent}\n{hints:?}");
}

fn shown(device: &Device) -> String {
    let Device {
        class,
        brand,
        model,
        os,
        os_version,
        browser,
        browser_version,
        is_bot,
    } = device;
    assert_eq!(*is_bot, *class == DeviceClass::Bot);
    [
        class.name(),
        brand,
        model,
        format!("{os} {os_version}").trim(),
        format!("{browser} {browser_version}").trim(),
    ]
    .join(" | ")
}

/// Hints as Chrome sends them: brands, mobile, platform, its version, model.
fn hints<'a>(
    brands: &'a str,
    mobile: bool,
    platform: &'a str,
    platform_version: &'a str,
    model: &'a str,
) -> Hints<'a> {
    Hints {
        brands: brands.into(),
        mobile: Some(mobile),
        platform: platform.into(),
        platform_version: platform_version.into(),
        model: model.into(),
        ..Hints::default()
    }
}

const CHROME: &str = r#""Chromium";v="128", "Not;A=Brand";v="24", "Google Chrome";v="128""#;

#[test]
fn apple_devices_are_told_apart_as_far_as_they_tell() {
    let none = Hints::default();
    check(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        &none,
        "phone | Apple | iPhone | iOS 17.5.1 | Mobile Safari 17.5",
    );
    // Safari 26 froze the OS version at 18.6, later 18.7.
    check(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.6.1 Mobile/15E148 Safari/604.1",
        &none,
        "phone | Apple | iPhone | iOS 26.6.1 | Mobile Safari 26.6",
    );
    check(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.7 Mobile/15E148 Safari/604.1",
        &none,
        "phone | Apple | iPhone | iOS 18.7 | Mobile Safari 18.7",
    );
    check(
        "Mozilla/5.0 (iPad; CPU OS 16_7_8 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
        &none,
        "tablet | Apple | iPad | iOS 16.7.8 | Mobile Safari 16.6",
    );
    // A Mac, or an iPad that asks for desktop pages: no byte differs.
    check(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
        &none,
        "desktop | Apple | Mac | Mac OS X | Safari 17.5",
    );
    check(
        "atc/1.0 watchOS/10.0 model/Watch6,2 hwp/t8301 build/21R356 (6; dt:265)",
        &none,
        "watch | Apple | Watch6,2 | WatchOS 10 | Apple Watch App 6.2",
    );
    check(
        "AppleTV11,1/11.1",
        &none,
        "tv | Apple | AppleTV | ATV OS X | ",
    );
}

const GALAXY: &str = "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36";
const REDUCED: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36";
const REDUCED_TABLET: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36";

#[test]
fn a_reduced_android_is_known_by_its_hints_only() {
    let none = Hints::default();
    check(
        GALAXY,
        &none,
        "phone | Samsung | SM-S918B | Android 14 | Chrome Mobile 128",
    );
    check(REDUCED, &none, "phone |  |  | Android | Chrome Mobile 128");
    check(
        REDUCED,
        &hints(CHROME, true, "Android", "", ""),
        "phone |  |  | Android | Chrome Mobile 128",
    );
    check(
        REDUCED,
        &hints(CHROME, true, "Android", "14.0.0", "SM-S918B"),
        "phone | Samsung | SM-S918B | Android 14 | Chrome Mobile 128",
    );
    check(
        REDUCED,
        &hints(CHROME, true, "Android", "", "SM-S918B"),
        "phone | Samsung | SM-S918B | Android | Chrome Mobile 128",
    );
    check(
        REDUCED,
        &hints(CHROME, true, "Android", "15.0.0", "Pixel 8 Pro"),
        "phone | Google | Pixel 8 Pro | Android 15 | Chrome Mobile 128",
    );
    check(
        REDUCED_TABLET,
        &hints(CHROME, false, "Android", "14.0.0", "SM-X910"),
        "tablet | Samsung | SM-X910 | Android 14 | Chrome 128",
    );
    check(REDUCED_TABLET, &none, "tablet |  |  | Android | Chrome 128");
    // A phone that asks for desktop pages.
    check(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
        &hints(CHROME, false, "Linux", "", "SM-S918B"),
        "desktop | Samsung | SM-S918B | Linux | Chrome 128",
    );
    // A hint that cannot be a model has no effect on the rules.
    check(
        REDUCED,
        &hints(
            CHROME,
            true,
            "Android",
            "14.0.0",
            "x) AppleWebKit; Googlebot/2.1",
        ),
        "phone |  |  | Android 14 | Chrome Mobile 128",
    );
}

#[test]
fn windows_is_10_or_11_by_its_hint() {
    let user_agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36";
    for (platform_version, windows) in [
        ("", "10"),
        ("0.1.0", "7"),
        ("0.2.0", "8"),
        ("0.3.0", "8.1"),
        ("1.0.0", "10"),
        ("10.0.0", "10"),
        ("11.0.0", "10"),
        ("13.0.0", "11"),
        ("15.0.0", "11"),
        ("rubbish", "10"),
    ] {
        check(
            user_agent,
            &hints(CHROME, false, "Windows", platform_version, ""),
            &format!("desktop |  |  | Windows {windows} | Chrome 128"),
        );
    }
    check(
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)",
        &Hints::default(),
        "desktop |  |  | Windows 7 | IE 8",
    );
}

#[test]
fn desktops_have_the_version_that_is_not_frozen() {
    let none = Hints::default();
    let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36";
    check(mac, &none, "desktop | Apple | Mac | Mac OS X | Chrome 128");
    check(
        mac,
        &hints(CHROME, false, "macOS", "14.5.0", ""),
        "desktop | Apple | Mac | Mac OS X 14.5 | Chrome 128",
    );
    check(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:129.0) Gecko/20100101 Firefox/129.0",
        &none,
        "desktop | Apple | Mac | Mac OS X | Firefox 129",
    );
    check(
        "Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0",
        &none,
        "desktop |  |  | Linux | Firefox 129",
    );
    check(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36 Edg/128.0.2739.42",
        &none,
        "desktop |  |  | Windows 10 | Edge 128",
    );
    check(
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
        &hints(CHROME, false, "Chrome OS", "16002.44.0", ""),
        "desktop |  |  | Chrome OS 16002.44 | Chrome 128",
    );
    check(
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
        &none,
        "desktop |  |  | Chrome OS | Chrome 128",
    );
}

#[test]
fn brands_count_where_the_user_agent_says_less() {
    let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36";
    for (brands, expect) in [
        (CHROME, "Chrome 128"),
        (
            r#""Not/A)Brand";v="8", "Chromium";v="128", "Brave";v="128""#,
            "Brave 128",
        ),
        (
            r#""Chromium";v="128", "Not=A?Brand, Inc";v="8""#,
            "Chrome 128",
        ),
        (r#""Chromium";v="128""#, "Chrome 128"),
        ("rubbish", "Chrome 128"),
        (r#"""""""#, "Chrome 128"),
    ] {
        check(
            chrome,
            &hints(brands, false, "Windows", "15.0.0", ""),
            &format!("desktop |  |  | Windows 11 | {expect}"),
        );
    }
    let edge = r#""Chromium";v="128", "Microsoft Edge";v="128""#;
    check(
        "SomeApp",
        &hints(edge, false, "Windows", "15.0.0", ""),
        "desktop |  |  | Windows 11 | Edge 128",
    );
    check(
        "Mozilla/5.0 (X11; Linux x86_64; rv:129.0) Gecko/20100101 Firefox/129.0",
        &hints(edge, false, "Linux", "", ""),
        "desktop |  |  | Linux | Firefox 129",
    );
}

#[test]
fn the_class_comes_from_form_factors_then_mobile_then_the_user_agent() {
    for (form_factors, mobile, class) in [
        ("", None, "phone"),
        ("", Some(true), "phone"),
        ("", Some(false), "tablet"),
        ("\"Tablet\"", Some(true), "tablet"),
        ("\"Mobile\"", Some(false), "phone"),
        ("\"Desktop\", \"Tablet\"", None, "tablet"),
        ("\"Automotive\"", None, "car"),
        ("\"Watch\", \"Mobile\"", None, "watch"),
        ("\"XR\"", None, "other"),
        ("\"Toaster\"", None, "phone"),
        ("Mobile", None, "phone"),
    ] {
        let hints = Hints {
            form_factors: form_factors.into(),
            mobile,
            ..Hints::default()
        };
        let device = TABLES.device(REDUCED, &hints);
        assert_eq!(
            device.value.class.name(),
            class,
            "{form_factors} {mobile:?}"
        );
    }
}

#[test]
fn televisions_consoles_and_cars_are_not_desktops() {
    let none = Hints::default();
    check(
        "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) 85.0.4183.93/6.5 TV Safari/537.36",
        &none,
        "tv | Samsung | SMART-TV | Tizen 6.5 | Safari",
    );
    check(
        "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
        &none,
        "tv | LG | Web0S SmartTV | Web0S | Chrome 94",
    );
    check(
        "Mozilla/5.0 (PlayStation; PlayStation 5/9.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.4 Safari/605.1.15",
        &none,
        "console | Sony | PlayStation 5 |  | Safari 15.4",
    );
    check(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edge/44.18363.8131",
        &hints("", false, "Windows", "", ""),
        "console | Microsoft | Xbox One | Windows 10 | Edge 44.18363",
    );
    check(
        "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 (KHTML, like Gecko) NF/6.0.2.21.3 NintendoBrowser/5.1.0.22474",
        &none,
        "console | Nintendo | Switch |  | ",
    );
    check(
        "Mozilla/5.0 (X11; GNU/Linux) AppleWebKit/537.36 (KHTML, like Gecko) Chromium/79.0.3945.130 Chrome/79.0.3945.130 Safari/537.36 Tesla/2020.16.2.1-e99c70fff409",
        &none,
        "car |  |  | Linux | Chromium 79",
    );
}

#[test]
fn bots_are_bots_whatever_device_they_claim() {
    let none = Hints::default();
    check(
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.6613.84 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        &hints(CHROME, true, "Android", "", "Nexus 5X"),
        "bot |  |  | Android 6.0.1 | Googlebot 2.1",
    );
    check("curl/8.5.0", &none, "bot |  |  |  | curl 8.5");
    for empty in ["", "  "] {
        check(
            empty,
            &hints(CHROME, true, "Android", "", ""),
            "other |  |  |  | ",
        );
    }
    check("qwertz", &none, "other |  |  |  | ");
}

#[test]
fn every_sample_of_the_crawler_list_is_a_bot_and_no_observed_visitor_is() {
    let list = fs::read(fetched("assets/data/rules/crawlers.json")).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
    let samples = list
        .iter()
        .flat_map(|entry| entry["instances"].as_array().unwrap());
    let mut count = 0;
    // What our own list takes for people's.
    let apps = [
        "okhttp/",
        "MetaIAB Facebook",
        "Build/AP3A.240617.008",
        " Code/1.",
        " Trae/1.",
        " Fluid/",
    ];
    let mut people = 0;
    for sample in samples.map(|sample| sample.as_str().unwrap()) {
        let device = TABLES.device(sample, &Hints::default());
        let is_machine = matches!(
            device.value.class,
            DeviceClass::Bot | DeviceClass::MailProxy
        );
        let is_app = apps.iter().any(|app| sample.contains(app));
        assert_ne!(is_machine, is_app, "{sample}");
        people += u32::from(is_app);
        count += 1;
    }
    assert!(count >= 2_000, "{count} samples");
    assert!((6..=15).contains(&people), "{people} are taken for people");

    let visitors = fs::read(fetched("assets/data/test/user-agents.json")).unwrap();
    let visitors: Vec<Value> = serde_json::from_slice(&visitors).unwrap();
    for visitor in &visitors {
        let user_agent = visitor["userAgent"].as_str().unwrap();
        let device = TABLES.device(user_agent, &Hints::default());
        let class = match visitor["deviceCategory"].as_str().unwrap() {
            "mobile" => DeviceClass::Phone,
            "tablet" => DeviceClass::Tablet,
            _ => DeviceClass::Desktop,
        };
        assert_eq!(device.value.class, class, "{user_agent}");
    }
    assert!(visitors.len() >= 10_000);
}

#[test]
fn without_rules_the_hints_and_plain_words_still_tell() {
    let (tables, errors) = load(&TableFiles::default());
    assert_eq!(errors.len(), 2, "{:?}", problems(&errors));
    let device = tables.device(
        REDUCED,
        &hints(CHROME, true, "Android", "14.0.0", "SM-S918B"),
    );
    assert_eq!(
        shown(&device.value),
        "phone | Samsung | SM-S918B | Android 14 | Chrome 128"
    );
}

#[test]
fn a_rule_that_does_not_compile_is_told_by_a_check_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let sources = TableFiles {
        rules: dir.path().join("regexes.json"),
        ..rule_sources()
    };
    let write = |browsers: serde_json::Value| {
        let rules = json!({
            "user_agent_parsers": browsers, "os_parsers": [], "device_parsers": [],
        });
        fs::write(&sources.rules, rules.to_string()).unwrap();
    };
    // The engine refuses what would take more than 10 MiB.
    let (lacks_group, too_large) = ("Browser", "(?:[^x]{999}y){999}z");
    let good = json!({"regex": "(Browser)/(\\d+)"});
    for wrong in [
        json!({"regex": lacks_group, "family_replacement": "$1"}),
        json!({ "regex": format!("({too_large})?(Browser)") }),
    ] {
        write(json!([wrong, good]));
        let (tables, errors) = load(&sources);
        assert!(errors.is_empty(), "{:?}", problems(&errors));
        let device = tables.device("Browser/7", &Hints::default());
        assert_eq!(device.value.browser, "Browser", "{wrong}");
        let [error] = &*crate::enrich::check(&sources) else {
            panic!("{wrong} compiles");
        };
        assert_eq!(error.path, sources.rules);
        assert!(!error.is_partial());
    }
    write(json!([good]));
    assert!(crate::enrich::check(&sources).is_empty());
    // What is no pattern at all is refused at once.
    write(json!([{"regex": "(Browser"}, good]));
    assert_eq!(load(&sources).1.len(), 1);
}

#[test]
fn broken_rules_leave_the_old_ones_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let sources = TableFiles {
        rules: dir.path().join("regexes.json"),
        crawlers: dir.path().join("crawlers.json"),
        ..TableFiles::default()
    };
    let rules = json!({
        "user_agent_parsers": [{"regex": "(Browser)/(\\d+)"}],
        "os_parsers": [{"regex": "(System) (\\d+)"}],
        "device_parsers": [{"regex": "; (Thing)", "brand_replacement": "Maker"}],
    });
    fs::write(&sources.rules, rules.to_string()).unwrap();
    let crawlers = json!([{"pattern": "^Robo"}, {"pattern": "a(?!b)"}, {"pattern": "(?<=x)y"}]);
    fs::write(&sources.crawlers, crawlers.to_string()).unwrap();
    let (tables, errors) = load(&sources);
    let [error] = errors.as_slice() else {
        panic!("{:?}", problems(&errors));
    };
    assert!(error.is_partial());
    assert_eq!(error.path, sources.crawlers);
    let text = error.to_string();
    assert!(
        text.contains("2 of 3 crawler patterns skipped, the first is \"a(?!b)\""),
        "{text}"
    );

    let expect = "other | Maker | Thing | System 3 | Browser 7";
    let user_agent = "Browser/7 (System 3; Thing)";
    let device = tables.device(user_agent, &Hints::default());
    assert_eq!(shown(&device.value), expect);

    for broken in [
        "{",
        "[]",
        r#"{"user_agent_parsers": [{"regex": "("}], "os_parsers": [], "device_parsers": []}"#,
    ] {
        fs::write(&sources.rules, broken).unwrap();
        fs::write(&sources.crawlers, "{}").unwrap();
        let (reloaded, errors) = reload(&sources, &tables);
        assert_eq!(errors.len(), 2, "{:?}", problems(&errors));
        assert_eq!(errors[0].path, sources.rules);
        let device = reloaded.device(user_agent, &Hints::default());
        assert_eq!(shown(&device.value), expect);
        assert!(reloaded.device("Robot", &Hints::default()).value.is_bot);

        let (first, errors) = load(&sources);
        assert_eq!(errors.len(), 2, "{:?}", problems(&errors));
        assert!(!first.device("Robot", &Hints::default()).value.is_bot);
    }
}

/// Agents that `make abuse-agents` found to be dear.
const DEAR_AGENTS: &str = include_str!("../../../loadtest/src/abuse/agents.txt");

#[test]
fn the_dearest_agents_that_were_found_cost_a_few_times_what_real_ones_do() {
    /// They took 14 to 43 times as long before length and rules were bounded, and 2 to 4 after.
    const TIMES_MAX: u32 = 12;
    let least = |agent: &str| {
        let looks = (0..5).map(|look| {
            let agent = format!("{agent} {look}");
            let begun = clock::monotonic();
            drop(TABLES.device(&agent, &Hints::default()));
            begun.elapsed()
        });
        looks.min().unwrap()
    };
    let visitors = fs::read(fetched("assets/data/test/user-agents.json")).unwrap();
    let visitors: Vec<Value> = serde_json::from_slice(&visitors).unwrap();
    // Each once: the second time it is known.
    let real: BTreeSet<&str> = visitors
        .iter()
        .map(|visitor| visitor["userAgent"].as_str().unwrap())
        .collect();
    let mut real: Vec<_> = real.into_iter().step_by(5).map(least).collect();
    real.sort_unstable();
    let ordinary = real[real.len() / 2];
    let dear: Vec<(&str, std::time::Duration)> = DEAR_AGENTS
        .lines()
        .map(|agent| (agent, least(agent)))
        .filter(|(_, time)| *time > ordinary * TIMES_MAX)
        .collect();
    assert!(dear.is_empty(), "{ordinary:?} are ordinary: {dear:#?}");
    assert!(DEAR_AGENTS.lines().count() >= 12);
}

#[test]
fn letters_that_are_not_in_ascii_leave_a_device_what_it_is() {
    let none = Hints::default();
    check(
        "Mozilla/5.0 (Linux; Android 14; SM-S918B) Bäst/1 AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
        &none,
        "phone | Samsung | SM-S918B | Android 14 | Chrome Mobile 128",
    );
    check(
        "Mozilla/5.0 (Linux; Android 14; 小米 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
        &none,
        "phone |  | \u{fffd}\u{fffd} 14 | Android 14 | Chrome Mobile 128",
    );
    check(
        REDUCED,
        &hints(CHROME, true, "Android", "14.0.0", "小米 14"),
        "phone |  | 小米 14 | Android 14 | Chrome Mobile 128",
    );
    let long = "m".repeat(300);
    let device = TABLES.device(REDUCED, &hints(CHROME, true, &long, "14.0.0", ""));
    assert!(device.value.os.len() <= 64);
}
