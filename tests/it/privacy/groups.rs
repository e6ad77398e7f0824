//! Which groups the page says the visitor is in, what it says of imported data, and what the
//! visitor says against both.

use serde_json::json;

use super::devices::{browser, config, log_in, send, settle, view};
use super::{SWEDISH, page, submit, token, unlisted, uuid};
use crate::support::{Collector, Reply};

const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";

/// Makes two groups and an import.
async fn prepare(collector: &Collector) {
    let sql = "insert into avtryck.segment (key, name_sv, name_en, reason_sv, reason_en) values \
               ('phone', 'Ny telefon', 'New phone', 'du läste om ”telefoner”', 'you read about “phones”'), \
               ('loyal', 'Trogen', 'Loyal', 'du kom ofta', 'you came often'); \
               insert into avtryck.attribute values \
               (1, 'housing_type', 'words', 'ordinary', 'Bostadstyp', 'Type of housing', 50); \
               insert into avtryck.import (name, supplier, legal_basis, purposes, key_kind, partner, columns, \
                                           valid_from, valid_until) \
               values ('register', 'Register & Co', 'legitimate_interest', '{profile}', 'user', '', '{1}', \
                       current_date - 9, current_date + 99)";
    collector.database().await.batch_execute(sql).await.unwrap();
}

/// Puts a subject, as SQL, into both groups, and notes where they live.
async fn put(collector: &Collector, subject: &str) {
    let sql = format!(
        "insert into avtryck.segment_member select segment, {subject}, now(), 7 from avtryck.segment; \
         insert into avtryck.attribute_value \
         select import, {subject}, md5('key')::uuid, '{{flat}}', now() from avtryck.import"
    );
    collector
        .database()
        .await
        .batch_execute(&sql)
        .await
        .unwrap();
}

async fn look(collector: &Collector, cookie: &str) -> Reply {
    let seen = page(collector, &[("Cookie", cookie), SWEDISH]).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert!(seen.body.contains("id=\"groups\""), "{}", seen.body);
    seen
}

/// Sends a form, and returns the page that it leads to.
async fn say(collector: &Collector, cookie: &str, form: &str, wish: &str, number: i64) -> Reply {
    let seen = look(collector, cookie).await;
    let body = format!("token={}&number={number}&wish={wish}", token(&seen));
    let reply = submit(collector, form, cookie, &body).await;
    assert_eq!(reply.status, 303, "{}", reply.body);
    let headers = [
        ("Cookie", cookie),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    collector.get(reply.header("location"), &headers).await
}

/// What the page says that is believed, without what the visitor said no to.
fn believed(seen: &Reply) -> &str {
    let (believed, _) = seen
        .body
        .split_once("id=\"said\"")
        .unwrap_or((&seen.body, ""));
    believed
}

async fn number(collector: &Collector, sql: &str) -> i64 {
    collector.rows(sql).await[0].get(0)
}

const MEMBERS: &str = "select count(*) from avtryck.segment_member";
const OBJECTIONS: &str = "select count(*) from avtryck.objection";
const PHONE: &str = "select segment::bigint from avtryck.segment where key = 'phone'";
const VALUES: &str = "select count(*) from avtryck.attribute_value";
const ALL_TEXTS: [&str; 9] = [
    "Ny telefon",
    "du läste om ”telefoner”",
    "Trogen",
    "Lämna gruppen",
    "Bostadstyp",
    "lägenhet",
    "Register &#38; Co",
    "berättigat intresse",
    "Invänd mot källan",
];

#[tokio::test]
async fn groups_and_sources_are_shown_with_reasons_and_whoever_leaves_them_is_out_at_once() {
    let collector = Collector::start(config()).await;
    prepare(&collector).await;
    let [anna, other] = [browser(&collector).await, browser(&collector).await];
    for cookie in [&anna, &other] {
        let sql = format!(
            "select count(*) from avtryck.subject_permit where subject = '{}'",
            uuid(cookie)
        );
        collector.wait_for(&sql, 1).await;
        put(&collector, &format!("'{}'::uuid", uuid(cookie))).await;
    }
    let seen = look(&collector, &anna).await;
    for text in ALL_TEXTS {
        assert!(seen.body.contains(text), "{text} in {}", seen.body);
    }
    // The request's own consent decides.
    for refusal in [
        ("Sec-GPC", "1"),
        ("Cookie", "avchoice=store.measure.link.locate"),
    ] {
        let seen = page(&collector, &[("Cookie", &anna), refusal]).await;
        assert!(!seen.body.contains("id=\"groups\""), "{refusal:?}");
        assert!(!seen.body.contains("id=\"sources\""), "{refusal:?}");
    }

    let phone = number(&collector, PHONE).await;
    let seen = say(&collector, &anna, "group", "leave_group", phone).await;
    assert!(seen.body.contains("Det är noterat"), "{}", seen.body);
    assert!(!believed(&seen).contains("Ny telefon"), "{}", seen.body);
    assert!(
        seen.body.contains("Du har lämnat gruppen Ny telefon."),
        "{}",
        seen.body
    );
    assert!(seen.body.contains("Trogen"), "{}", seen.body);
    assert_eq!(number(&collector, MEMBERS).await, 3);
    let sql =
        "select count(*) from avtryck.segment_change where reason = 'objection' and not is_entry";
    assert_eq!(number(&collector, sql).await, 1);

    let import = number(&collector, "select import::bigint from avtryck.import").await;
    let seen = say(&collector, &anna, "source", "object", import).await;
    assert!(seen.body.contains("Det är noterat"), "{}", seen.body);
    assert!(!believed(&seen).contains("Register"), "{}", seen.body);
    assert_eq!(number(&collector, VALUES).await, 1);

    let seen = say(&collector, &anna, "group", "leave_groups", 0).await;
    assert!(!seen.body.contains("Trogen"), "{}", seen.body);
    assert!(seen.body.contains("inte vill vara med"), "{}", seen.body);
    assert_eq!(number(&collector, MEMBERS).await, 2);
    assert_eq!(number(&collector, OBJECTIONS).await, 3);
    // What is imported of them later counts for nothing.
    let sql = format!(
        "insert into avtryck.attribute_value select import, '{}', md5('key')::uuid, '{{flat}}', now() \
         from avtryck.import",
        uuid(&anna)
    );
    collector.rows(&sql).await;
    let sql = "select count(*) from avtryck.attribute_now";
    assert_eq!(number(&collector, sql).await, 1);

    // The other visitor keeps everything, and the file and an erasure cover what anna said.
    let kept = look(&collector, &other).await;
    for text in ALL_TEXTS {
        assert!(kept.body.contains(text), "{text} in {}", kept.body);
    }
    let form = format!("token={}", token(&look(&collector, &anna).await));
    let file = submit(&collector, "file", &anna, &form).await;
    assert!(file.body.contains("objection"), "{}", file.body);
    let erased = submit(&collector, "erasure", &anna, &form).await;
    assert_eq!(erased.status, 303);
    collector.wait_for(OBJECTIONS, 0).await;
}

#[tokio::test]
async fn a_form_of_a_page_that_is_out_of_date_says_that_nothing_has_changed() {
    let collector = Collector::start(config()).await;
    prepare(&collector).await;
    let anna = browser(&collector).await;
    let sql = format!(
        "select count(*) from avtryck.subject_permit where subject = '{}'",
        uuid(&anna)
    );
    collector.wait_for(&sql, 1).await;
    put(&collector, &format!("'{}'::uuid", uuid(&anna))).await;
    let phone = number(&collector, PHONE).await;
    let import = number(&collector, "select import::bigint from avtryck.import").await;
    // That something else was done lately confirms nothing.
    for (form, wish, of) in [
        ("group", "leave_group", phone),
        ("source", "object", import),
    ] {
        let seen = say(&collector, &anna, form, wish, of).await;
        assert!(seen.body.contains("Det är noterat"), "{}", seen.body);
        let seen = say(&collector, &anna, form, wish, 999).await;
        assert!(!seen.body.contains("Det är noterat"), "{}", seen.body);
        assert!(
            seen.body
                .contains("Sidan hann bli för gammal, och inget har ändrats."),
            "{}",
            seen.body
        );
    }
    assert_eq!(number(&collector, OBJECTIONS).await, 2);
}

#[tokio::test]
async fn what_was_said_no_to_can_be_taken_back_by_whoever_said_it_and_permits_it() {
    let collector = Collector::start(config()).await;
    prepare(&collector).await;
    let [anna, other] = [browser(&collector).await, browser(&collector).await];
    for cookie in [&anna, &other] {
        let sql = format!(
            "select count(*) from avtryck.subject_permit where subject = '{}'",
            uuid(cookie)
        );
        collector.wait_for(&sql, 1).await;
        put(&collector, &format!("'{}'::uuid", uuid(cookie))).await;
    }
    let phone = number(&collector, PHONE).await;
    let import = number(&collector, "select import::bigint from avtryck.import").await;
    for (form, wish, number) in [
        ("group", "leave_group", phone),
        ("group", "leave_groups", 0),
        ("source", "object", import),
    ] {
        say(&collector, &anna, form, wish, number).await;
    }
    let seen = look(&collector, &anna).await;
    assert!(
        seen.body
            .contains("Du har invänt mot källan Register &#38; Co."),
        "{}",
        seen.body
    );
    assert_eq!(unlisted(&seen), [""; 0]);
    assert_eq!(number(&collector, OBJECTIONS).await, 3);
    // Nobody takes back what another said, and a page that permits no groups shows nothing of it.
    say(&collector, &other, "group", "take_back_group", phone).await;
    let seen = page(&collector, &[("Cookie", &anna), ("Sec-GPC", "1")]).await;
    assert!(!seen.body.contains("id=\"said\""), "{}", seen.body);
    assert_eq!(number(&collector, OBJECTIONS).await, 3);
    for (form, wish, at, left) in [
        ("group", "take_back_group", phone, 2),
        ("group", "take_back_groups", 0, 1),
        ("source", "take_back_object", import, 0),
    ] {
        say(&collector, &anna, form, wish, at).await;
        assert_eq!(number(&collector, OBJECTIONS).await, left, "{wish}");
    }
    let due = format!(
        "select count(*) from avtryck.segment_due where '{}' = any(subjects)",
        uuid(&anna)
    );
    assert!(
        number(&collector, &due).await > 0,
        "who is in a group is evaluated anew"
    );
    let seen = look(&collector, &anna).await;
    assert!(!seen.body.contains("id=\"said\""), "{}", seen.body);
    assert!(
        !seen.body.contains("Register"),
        "it comes with the next import: {}",
        seen.body
    );
}

#[tokio::test]
async fn a_stranger_who_names_a_maid_and_a_user_sees_nothing_of_them_and_objects_for_nobody() {
    let collector = Collector::start(config()).await;
    prepare(&collector).await;
    let [anna, annas_other] = [browser(&collector).await, browser(&collector).await];
    for cookie in [&anna, &annas_other] {
        log_in(&collector, cookie, "anna").await;
    }
    settle(&collector, 2).await;
    view(&collector, &anna, &format!("&maid={MAID}")).await;
    let stranger = browser(&collector).await;
    view(&collector, &stranger, &format!("&maid={MAID}")).await;
    let event = json!({"site": "open", "e": "login", "user": "anna"});
    send(&collector, &stranger, &event).await;
    settle(&collector, 5).await;
    let user = "(select distinct case a_kind when 5 then a else b end from avtryck.link_edge \
                 where 5 in (a_kind, b_kind) and proved_day is not null)";
    put(&collector, user).await;
    let maid = "(select distinct case a_kind when 2 then a else b end from avtryck.link_edge \
                 where 2 in (a_kind, b_kind))";
    put(&collector, maid).await;

    let hers = look(&collector, &stranger).await;
    for text in ["Ny telefon", "Trogen", "Register", "lägenhet"] {
        assert!(!hers.body.contains(text), "{text} in {}", hers.body);
    }
    let phone = number(&collector, PHONE).await;
    let import = number(&collector, "select import::bigint from avtryck.import").await;
    say(&collector, &stranger, "group", "leave_group", phone).await;
    say(&collector, &stranger, "source", "object", import).await;
    assert_eq!(number(&collector, OBJECTIONS).await, 0);
    say(&collector, &stranger, "group", "leave_groups", 0).await;
    assert_eq!(number(&collector, MEMBERS).await, 4);
    assert_eq!(number(&collector, VALUES).await, 2);

    // A login that the site signed shows what is known of the user, and objects for them.
    let seen = look(&collector, &annas_other).await;
    for text in ALL_TEXTS {
        assert!(seen.body.contains(text), "{text} in {}", seen.body);
    }
    say(&collector, &annas_other, "group", "leave_group", phone).await;
    assert_eq!(number(&collector, MEMBERS).await, 3);
    say(&collector, &annas_other, "source", "object", import).await;
    assert_eq!(number(&collector, VALUES).await, 1);
    let seen = look(&collector, &anna).await;
    assert!(!believed(&seen).contains("Ny telefon"), "{}", seen.body);
    assert!(!believed(&seen).contains("Register"), "{}", seen.body);
}
