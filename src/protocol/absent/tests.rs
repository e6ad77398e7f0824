use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use md5::Md5;
use proptest::prelude::*;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::*;

mod further;
mod marks;

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names that people give to the macros of IDs.
const NAMES: [&str; 13] = [
    "UID",
    "uid",
    "Uid",
    "USER_ID",
    "user_id",
    "userId",
    "AdvertisingID",
    "ORDER_ID_1",
    "order.id",
    "contact.order-id",
    "user_id_64",
    "click id",
    "IDFA",
];

#[test]
fn a_macro_of_any_style_is_no_id() {
    for name in NAMES {
        for (open, close) in [
            ("${", "}"),
            ("%%", "%%"),
            ("{{", "}}"),
            ("{{ ", " }}"),
            ("{{{", "}}}"),
            ("{", "}"),
            ("{ ", " }"),
            ("{% ", " %}"),
            ("#{", "}"),
            ("%{", "}"),
            ("@{", "}"),
            ("$(", ")"),
            ("%(", ")s"),
            ("<%= ", " %>"),
            ("<?= $", " ?>"),
            ("<", ">"),
            ("<<", ">>"),
            ("[", "]"),
            ("[[", "]]"),
            ("[%", "%]"),
            ("[{", "}]"),
            ("({", "})"),
            ("(", ")"),
            ("*|", "|*"),
            ("##", "##"),
            ("#", "#"),
            ("@", "@"),
            ("@@", "@@"),
            ("__", "__"),
            ("%", "%"),
            ("$", "$"),
            ("$", ""),
            ("%", ""),
            (":", ""),
            (":", ":"),
            ("~", "~"),
            ("|", "|"),
            ("!", "!"),
            ("^", "^"),
            ("order-{{", "}}"),
            ("order_[", "]"),
            ("gdpr=${", "}"),
            ("\"{{", "}}\""),
            ("'${", "}'"),
            (" {{", "}}\n"),
            ("{{", "}}-1"),
            ("{{", "}}@shop.example"),
            ("4711-${", "}"),
            ("a-{{x}}-{{", "}}"),
            ("user/{", "}/7"),
            ("[", "]:1"),
            ("shop-<", ">-x"),
            ("u:%%", "%%:2"),
            ("u%", "%1"),
            ("__", "__-1"),
            ("order-$", ""),
            ("order-%7B%7B", "%7D%7D"),
        ] {
            let value = format!("{open}{name}{close}");
            assert!(absence_of_id(&value).is_some(), "{value}");
        }
    }
    assert_eq!(absence_of_id("{{order}}"), Some(Absence::Macro));
    assert_eq!(absence_of_id("%ecid!"), Some(Absence::Macro));
}

#[test]
fn a_macro_that_was_escaped_is_no_id_either() {
    for value in [
        "%7B%7BUID%7D%7D",
        "%257BUID%257D",
        "%25257BUID%25257D",
        "&#123;&#123;UID&#125;&#125;",
        "&#x7b;UID&#x7D;",
        "&lt;ID&gt;",
        "&amp;lt;ID&amp;gt;",
        "&lbrace;order&rbrace;",
        "&dollar;{order}",
        "&quot;null&quot;",
        "\\{\\{UID\\}\\}",
        "\\u007border\\u007d",
        "\\x7border\\x7d",
        "%u007Border%u007D",
        "\\\"undefined\\\"",
        "%22null%22",
    ] {
        assert!(absence_of_id(value).is_some(), "{value}");
    }
}

/// What programs write where they know no ID.
const NO_IDS: &[&str] = &[
    "",
    " ",
    "0",
    "00",
    "000000000000000",
    "0-0",
    "0.0",
    "0x0",
    "0x00000000",
    "-0",
    "-1",
    "-2",
    "00000000-0000-0000-0000-000000000000",
    "{00000000-0000-0000-0000-000000000000}",
    "00000000000000000000000000000000",
    "00:00:00:00:00:00",
    "\0\0\0\0",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "AAAAAAAAAAAAAAAAAAAAAA==",
    "null",
    "NULL",
    "Null",
    "nil",
    "None",
    "none",
    "undefined",
    "Undefined",
    "NaN",
    "nan",
    "false",
    "False",
    "true",
    "unknown",
    "UNKNOWN",
    "N/A",
    "n/a",
    "NA",
    "n.a.",
    "#N/A",
    "-",
    "--",
    "_",
    ".",
    "?",
    "*",
    "...",
    "{}",
    "[]",
    "()",
    "\"\"",
    "''",
    "\u{2013}",
    "\u{200b}",
    "[object Object]",
    "[object Undefined]",
    "object Object",
    "(null)",
    "<null>",
    "<nil>",
    "\"null\"",
    "'undefined'",
    "[null]",
    "null,null",
    "undefined.undefined",
    "undefined-undefined-undefined",
    "NaN-NaN",
    "0-undefined",
    " null ",
    "null\n",
    "order-undefined",
    "order_null",
    "ORDER-NaN",
    "user:undefined",
    "not set",
    "(not set)",
    "anonymous",
    "guest",
    "anonymousUser",
    "AnonymousUser",
    "not logged in",
    "not_logged_in",
    "Optional.empty",
    "OPTOUT",
    "opt_out",
    "opt-out",
    "no-consent",
    "Infinity",
    "9774d56d682e549c",
    "UID",
    "uid",
    "user_id",
    "userId",
    "USER-ID",
    "_UID_",
    "-id-",
    "click_id",
    "order id",
    "idfa",
    "@id",
    "#id",
    "order-",
    "order_",
    "user:",
    "uid=",
    "visitor/",
    "click_id-",
    "acme-order-0",
    "user-0",
    "user-00000000-0000-0000-0000-000000000000",
    "client.null",
    "session-none",
    "orderId:unknown",
    "acme_null",
    "\\N",
    "\"\\N\"",
    "NaT",
    "#REF!",
    "#VALUE!",
    "#DIV/0!",
    "%!s(<nil>)",
    "%!d(MISSING)",
    "<no value>",
    "(not provided)",
    "02:00:00:00:00:00",
    "02-00-00-00-00-00",
    "020000000000",
    "ff:ff:ff:ff:ff:ff",
    "FFFFFFFFFFFF",
    "ffffffffffffffffffffffffffffffff",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx",
    "XXXX",
    "00000000-0000-4000-8000-000000000000",
    "{FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF}",
    "YOUR_USER_ID",
    "<YOUR_USER_ID>",
    "your-client-id",
    "yourUserId",
    "YOURUSERID",
    "INSERT_ID_HERE",
    "replace_with_user_id",
    "Enter your email here",
    "user id here",
    "PLACEHOLDER",
    "changeme",
    "string",
    "customer_id",
    "externalUserId",
    "MEMBER-ID",
    "clientid",
    "subscriber.uuid",
];

#[test]
fn what_programs_write_where_they_know_no_id_is_no_id() {
    for value in NO_IDS {
        assert_eq!(absence_of_id(value), Some(Absence::NoId), "{value:?}");
    }
}

#[test]
fn a_hash_of_no_id_is_no_id() {
    let mut hashes = 0;
    for text in [
        "",
        "null",
        "NULL",
        "undefined",
        "None",
        "NaN",
        "0",
        "unknown",
        "false",
        "-",
        "n/a",
        "N/A",
        "[object Object]",
        "{}",
        "-1",
        "00000000-0000-0000-0000-000000000000",
        "\n",
        "null\n",
        "0\n",
        "anonymous",
        "OPTOUT",
    ] {
        for digest in [
            Md5::digest(text).to_vec(),
            Sha1::digest(text).to_vec(),
            Sha224::digest(text).to_vec(),
            Sha256::digest(text).to_vec(),
            Sha384::digest(text).to_vec(),
            Sha512::digest(text).to_vec(),
        ] {
            let hex = to_hex(&digest);
            for value in [
                hex.to_uppercase(),
                hex,
                STANDARD.encode(&digest),
                STANDARD_NO_PAD.encode(&digest),
                URL_SAFE.encode(&digest),
                URL_SAFE_NO_PAD.encode(&digest),
            ] {
                assert_eq!(
                    absence_of_id(&value),
                    Some(Absence::NoId),
                    "{text:?}: {value}"
                );
                hashes += 1;
            }
        }
    }
    assert_eq!(hashes, 21 * 6 * 6);
    // Known from many logs.
    for value in [
        "d41d8cd98f00b204e9800998ecf8427e",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "37a6259cc0c1dae299a7866489dff0bd",
        "68b329da9893e34099c7d8ad5cb9c940",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "MD5=d41d8cd98f00b204e9800998ecf8427e",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ] {
        assert_eq!(absence_of_id(value), Some(Absence::NoId), "{value}");
    }
}

/// IDs that begin or end like something else.
const STRANGE_IDS: &[&str] = &[
    "1",
    "7",
    "a",
    "x1",
    "10",
    "1000",
    "0001",
    "-3",
    "order-4711",
    "phone-12",
    "e-1",
    "u1",
    "order-null-7",
    "nullpointer",
    "undefined7",
    "none-of-ours",
    "Nan-Lee-1",
    "true-blue-2",
    "__Xk3vB9qLm2Rt",
    "__Xk3vB9qLm2Rt__",
    "_aZ3k9_",
    "-KuHs7x2QfLw",
    "--x7Bq--",
    "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
    "$2b$12$abcdefghijklmnopqrstuu",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3",
    "$device:18f3a7c2b9d",
    "dGVsZW5vcg==",
    "bm9uZQ==",
    "AAAA+/8=",
    "+abc/DEF=",
    "/abc/",
    "{38400000-8cf0-11bd-b23e-10b96e40000d}",
    "[a1b2c3]",
    "(4711)",
    "<4711>",
    "%41lice",
    "<CAF=x7Bq9z@mail.example>",
    "<order@shop.example>",
    "@alice_99x",
    "#1001",
    "#A-1001",
    "{\"id\":5}",
    "[1,2]",
    "GA1.2.1234567890.1764119000",
    "fb.1.1596403881668.1116446470",
    "ID5*aB3-xYz9",
    "EUID:A4AAAAKzX",
    "00000000-0000-0000-0000-000000000001",
    "ffffffff-ffff-ffff-ffff-fffffffffffe",
    "0a000000000000000000000000000000",
    "d41d8cd98f00b204e9800998ecf8427f",
    "\u{e5}\u{e4}\u{f6}",
    "\u{1f389}",
    "0\u{e5}",
    "anna@shop.example",
    "idan",
    "uid-5",
    "guest-17",
    "100%",
    "50% off",
    "a&b",
    "&c7",
    "\\x9z1q",
    "AB$cd",
    "INV$2024",
    "US$100",
    "$1001",
    "$alice",
    "$AAPL",
    "li.nan",
    "anna.null",
    "joe-none-1",
    "[[1001]]",
    "[[a1b2c3d4]]",
    "((4711))",
    "##A-1001##",
    "__alice__",
    "--alice--",
    "~bob~",
    "*star*",
    "##alice##",
    "@alice@",
    ":alice",
    "%alice",
    "group[alice]",
    "ORD[12]",
    "A[1]",
    "AB[C]",
    "item(2)",
    "a<b>c",
    "team{red}",
    "alice",
    "madison",
    "dana",
    "noah",
    "nadia",
    "nilsson",
    "trueman",
    "voidwalker",
    "anon7",
    "user-1",
    "order-10",
    "alice-0",
    "tele2-",
    "acme-",
    "user0",
    "Xn-",
    "id7",
    "uid1",
    "here",
    "add",
    "your",
    "enterprise",
    "putnam",
    "yourstruly",
    "addison",
    "sid",
    "add-item",
    "xx",
    "ff",
    "ffffffff",
    "02:00:00:00:00:01",
    "020000000001",
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "google-oauth2|103547991597142817347",
    "gid://shopify/Order/450789469",
    "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "arn:aws:iam::123456789012:user/anna",
    "+46701234567",
    "+46 70 123 45 67",
    "070-123 45 67",
    "cs_live_a1B2c3D4e5F6g7H8i9J0",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
];

#[test]
fn an_id_that_looks_strange_is_an_id() {
    for value in STRANGE_IDS {
        assert_eq!(absence_of_id(value), None, "{value:?}");
    }
}

/// Returns strings such as senders make IDs of: by the usual generators, and by hand.
fn real_ids() -> impl Strategy<Value = String> {
    let bytes = proptest::collection::vec(any::<u8>(), 16..33);
    let mails = "[a-z]{2,9}(\\.[a-z]{2,9})?[0-9]{0,2}@[a-z]{3,9}\\.(se|no|com)";
    let hash = |mail: String| to_hex(&Sha256::digest(mail));
    let random = prop_oneof![
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "[0-9A-F]{8}-[0-9A-F]{4}-7[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}",
        "\\{[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}\\}",
        "[0-9a-f]{16}",
        "[0-9a-f]{24}",
        "[0-9a-f]{32}",
        "[0-9a-f]{40}",
        "[0-9a-f]{64}",
        "([0-9A-F]{2}:){5}[0-9A-F]{2}",
        "[A-Za-z0-9_-]{10}",
        "[A-Za-z0-9_-]{16}",
        "[A-Za-z0-9_-]{21}",
        "-[A-Za-z0-9_-]{19}",
        "[0-7][0-9A-HJKMNP-TV-Z]{25}",
        "[0-9A-Za-z]{27}",
        "[0-9a-v]{20}",
        "c[a-z0-9]{24}",
        "(cus|pi|cs_live)_[A-Za-z0-9]{14,24}",
        "auth0\\|[0-9a-f]{24}",
        "\\$2[aby]\\$1[0-2]\\$[./A-Za-z0-9]{53}",
        bytes.clone().prop_map(|bytes| STANDARD.encode(bytes)),
        bytes
            .clone()
            .prop_map(|bytes| STANDARD_NO_PAD.encode(bytes)),
        bytes.prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
    ];
    let written = prop_oneof![
        "[1-9][0-9]{3,18}",
        "(order|user|click|ad)[-_:/.][1-9][0-9]{0,8}",
        "[A-Z]{2,3}-[0-9]{4}-[0-9]{2,6}",
        "[A-Z]{2,4}[$#][1-9][0-9]{2,7}",
        "[A-Z]{1,4}\\[[1-9][0-9]{0,6}\\]",
        "[$#][1-9][0-9]{3,6}",
        "\\+(46|47|45|358)[1-9][0-9]{7,8}",
        "GA1\\.[12]\\.[1-9][0-9]{8}\\.1[0-9]{9}",
        "1[0-9]{12}-[0-9]{1,10},[0-9]{1,3}",
        "s:[A-Za-z0-9_-]{32}\\.[A-Za-z0-9]{43}",
        mails,
        mails.prop_map(hash),
    ];
    // Chance makes a macro now and then: `__MACRO__`, also with other marks around it.
    let is_marks = |two: &str| two.chars().all(|sign| matches!(sign, '_' | '-'));
    let is_macro = move |id: &String| {
        let begins = id.get(..2).is_some_and(is_marks);
        begins && id.len() > 2 && id.get(id.len() - 2..).is_some_and(is_marks)
    };
    prop_oneof![2 => random, 1 => written].prop_filter("__MACRO__ is one", move |id| !is_macro(id))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40_000))]

    #[test]
    fn no_id_that_somebody_may_have_counts_as_absent(id in real_ids()) {
        prop_assert_eq!(absence_of_id(&id), None);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~å\\u{0}]{0,40}") {
        absence_of_id(&text);
    }

    #[test]
    fn zeros_of_any_length_are_no_id(length in 1..300_usize) {
        prop_assert_eq!(absence_of_id(&"0".repeat(length)), Some(Absence::NoId));
    }
}

#[test]
fn a_hash_in_the_form_of_a_uuid_is_no_id() {
    for value in [
        // The MD5 of nothing and of a UUID of zeros, without hyphens and with them.
        "d41d8cd9-8f00-b204-e980-0998ecf8427e",
        "9f89c84a559f573636a47ff8daed0d33",
        "9F89C84A-559F-5736-36A4-7FF8DAED0D33",
        // UUIDs that are named by nothing in the name space of DNS, by MD5 and by SHA-1.
        "c87ee674-4ddc-3efe-a74e-dfe25da5d7b3",
        "4ebd0208-8328-5d69-8c44-ec50939c0967",
        "C87EE6744DDC3EFEA74EDFE25DA5D7B3",
    ] {
        assert_eq!(absence_of_id(value), Some(Absence::NoId), "{value}");
    }
}
