//! A page's fields: whatever they are called and hold, the event goes.

use serde_json::{Value, json};

use super::Stage;
use crate::support::until;

/// A purchase whose items alone take 16 KiB as JSON.
const PURCHASE: &str = "avtryck('event', 'purchase', { items: Array.from({ length: 80 }, (_, n) => ({ item_id: `sku-${n}`, \
    item_name: 'a telephone with a long name: \\'Zephyr\\' \u{e5}\u{e4}\u{f6}', item_brand: 'brand', item_category: 'phones', price: 899.5, \
    quantity: 2 })), transaction_id: 'order-4711', value: 143920, currency: 'SEK' }, { id: 'purchase-1' })";

#[tokio::test]
async fn a_purchase_of_80_items_stays_one_where_the_path_of_events_is_blocked() {
    let stage = Stage::set().await;
    stage.proxy.block("/e");
    stage.open("demo", "").await;
    stage.browser.run(PURCHASE).await;
    stage
        .until_row(
            "event_name = 'purchase' and page_url like '%/page' and site = 'demo' and 'truncated' = any(flags) \
             and params->>'transaction_id' = 'order-4711' and params->>'currency' = 'SEK' \
             and jsonb_typeof(params->'value') = 'number' and visitor_id is not null \
             and jsonb_array_length(params->'items') between 10 and 79 \
             and params->'items'->0->>'price' = '899.5'",
        )
        .await;
    stage.until_row("kind = 'page_view'").await;
    stage.close().await;
}

#[tokio::test]
async fn a_cart_of_60_items_is_kept_whole_and_an_event_beyond_the_limit_is_cut() {
    let stage = Stage::set().await;
    stage.open("demo", "").await;
    let item = json!({
        "item_id": "SKU_12345", "item_name": "Stan and Friends Tee", "affiliation": "Google Merchandise Store",
        "coupon": "SUMMER_FUN", "discount": 2.22, "index": 0, "item_brand": "Google", "item_category": "Apparel",
        "item_category2": "Adult", "item_category3": "Shirts", "item_category4": "Crew",
        "item_category5": "Short sleeve", "item_list_id": "related_products", "item_list_name": "Related Products",
        "item_variant": "green", "location_id": "ChIJIQBpAG2ahYAR_6128GcTUEo", "price": 10.01, "quantity": 3,
    });
    let fields = json!({ "items": vec![&item; 60], "value": 600.6 });
    stage
        .browser
        .run(&format!("avtryck('event', 'cart', {fields})"))
        .await;
    stage
        .until_row("event_name = 'cart' and jsonb_array_length(params->'items') = 60 and not 'truncated' = any(flags)")
        .await;
    // The text alone is more than a browser sends while a page is left.
    stage
        .browser
        .run("avtryck('event', 'big', { before: 1, text: 'x'.repeat(70000), after: 2, rows: Array(9000).fill('row') })")
        .await;
    stage
        .until_row(
            "event_name = 'big' and 'truncated' = any(flags) and params->>'before' = '1' and params->>'after' = '2' \
             and not params ? 'text' and jsonb_array_length(params->'rows') > 1000",
        )
        .await;
    stage.close().await;
}

/// Fields that JSON.stringify does not write, or not as a page means them.
const ODD: &str = "const ring = { name: 'ring' }; ring.self = ring; \
    const odd = { big: 12345678901234567890n, ring, half: 'a\\ud800b', call() {}, gone: undefined, list: [1, 'two', [3], null, undefined], \
    day: new Date(0), twice: [ring, ring], nan: NaN, get trap() { throw 1 }, price: 899.5, yes: true };";

fn check_odd(params: &Value) {
    let expected = json!({
        "big": "12345678901234567890", "ring": { "name": "ring" }, "half": "a\u{fffd}b",
        "list": [1, "two", [3], null, null], "day": "1970-01-01T00:00:00.000Z",
        "twice": [{ "name": "ring" }, { "name": "ring" }], "nan": null, "price": 899.5, "yes": true,
    });
    assert_eq!(*params, expected);
}

#[tokio::test]
async fn of_odd_fields_that_is_sent_which_can_be_told_by_either_way() {
    let stage = Stage::set().await;
    for path in ["/e", "/p.gif"] {
        if path == "/p.gif" {
            stage.proxy.block("/e");
        }
        stage
            .open(
                "demo",
                "Array.prototype.toJSON = function () { return 'spoilt' };",
            )
            .await;
        let before = stage.sent().len();
        stage
            .browser
            .run(&format!("{ODD} avtryck('event', 'odd', odd)"))
            .await;
        until(async || stage.sent()[before..].iter().any(|name| name == "odd")).await;
        let events = stage.proxy.events();
        let odd = events.iter().rfind(|event| event["e"] == "odd");
        check_odd(&odd.expect("the event")["params"]);
    }
    let sql = "select count(*) from avtryck.hit_detail where event_name = 'odd' and params->>'big' = '12345678901234567890' \
        and jsonb_typeof(params->'price') = 'number' and jsonb_typeof(params->'yes') = 'boolean' \
        and jsonb_typeof(params->'list') = 'array'";
    stage.collector.wait_for(sql, 2).await;
    stage.close().await;
}

#[tokio::test]
async fn fields_that_are_no_object_or_nested_without_an_end_do_not_stop_an_event() {
    let stage = Stage::set().await;
    stage.open("demo", "").await;
    for (name, fields) in [
        ("text", "'text'"),
        ("list", "[1, 2]"),
        ("number", "5"),
        ("nothing", "null"),
        (
            "deep",
            "(() => { let deep = 1; for (let n = 0; n < 5000; n++) deep = [deep]; return { deep, shallow: 1 } })()",
        ),
        ("page", "{ window, body: document.body, shallow: 1 }"),
    ] {
        stage
            .browser
            .run(&format!("avtryck('event', '{name}', {fields})"))
            .await;
        stage.until_row(&format!("event_name = '{name}'")).await;
    }
    let told = "select count(*) from avtryck.hit_detail where params->>'shallow' = '1'";
    assert_eq!(stage.collector.number(told).await, 2);
    stage.close().await;
}

#[tokio::test]
async fn fields_by_the_names_of_parameters_are_the_pages_own() {
    let stage = Stage::set().await;
    stage.open("demo", "").await;
    let fields = "{ id: 'phone-12', cat: 'phones', site: 'second', e: 'other', u: 'https://other.example/', cb: 1, partner: 'nobody', \
        uid: 5, ref: 'x', ch: { model: 'x' }, truncated: 1, user: 'me', at: 3 }";
    for _ in 0..3 {
        stage
            .browser
            .run(&format!("avtryck('event', 'view_item', {fields})"))
            .await;
    }
    let sql = "select count(*) from avtryck.hit_detail where event_name = 'view_item' and site = 'demo' \
        and params->>'id' = 'phone-12' and params->>'cat' = 'phones' and params->>'site' = 'second' and params->>'e' = 'other' \
        and params->>'u' = 'https://other.example/' and params->>'partner' = 'nobody' and params->>'uid' = '5' \
        and params->'ch'->>'model' = 'x' and page_url like '%/page' and flags = '{}'";
    stage
        .collector
        .wait_for(&sql.replace(" and flags = '{}'", ""), 3)
        .await;
    stage.close().await;
}

#[tokio::test]
async fn what_is_reserved_is_given_apart_a_user_is_no_field_and_at_is_dropped() {
    let stage = Stage::set().await;
    stage.open("demo", "").await;
    let order = "avtryck('event', 'order', { id: 'inner' }, { id: 'order-4711', cat: 'shop', u: 'https://shop.example/thanks', \
        user: 'kim@example.org', at: 12345 })";
    for _ in 0..2 {
        stage.browser.run(order).await;
    }
    stage
        .browser
        .run("avtryck('page', { section: 'news' }, { u: 'https://shop.example/#/news' })")
        .await;
    stage
        .browser
        .run("avtryck('page', { u: 'https://shop.example/#/old' })")
        .await;
    stage.fence().await;
    assert_eq!(stage.words().await, ["avtryck: at is dropped"; 2]);
    stage.until_row("event_name = 'fence'").await;
    stage
        .until_row(
            "event_name = 'order' and page_url = 'https://shop.example/thanks' and params = '{\"id\": \"inner\"}'",
        )
        .await;
    stage.until_row("kind = 'page_view' and page_url = 'https://shop.example/#/news' and params = '{\"section\": \"news\"}'").await;
    stage
        .until_row("kind = 'page_view' and page_url = 'https://shop.example/#/old'")
        .await;
    // Without a key for its hash nothing of the user is kept.
    let kept =
        "select count(*) from avtryck.hit_detail as hit where to_jsonb(hit)::text ~ 'kim@|12345'";
    assert_eq!(stage.collector.number(kept).await, 0);
    stage.close().await;
}

#[tokio::test]
async fn an_element_by_the_name_of_the_tag_breaks_neither_page_nor_tag() {
    let stage = Stage::set().await;
    let snippet = "window.avtryck = typeof avtryck === 'function' ? avtryck : function () { (avtryck.q = avtryck.q || []).push(arguments); };";
    for (name, element) in [
        ("div", "<div id=avtryck></div>"),
        (
            "two",
            "<p id=avtryck><form name=avtryck><input name=q></form>",
        ),
    ] {
        let tag = "<script src=\"/tag.js?site=demo\"></script>";
        // With the snippet, and without it.
        for script in [
            format!("{snippet} avtryck('event', '{name}-early')"),
            String::new(),
        ] {
            stage
                .open_html(&format!("<!doctype html><link rel=icon href=data:,>{element}<script>{script}</script>{tag}"))
                .await;
            stage
                .browser
                .run(&format!("avtryck('event', '{name}')"))
                .await;
        }
    }
    for (name, rows) in [("div-early", 1), ("div", 2), ("two-early", 1), ("two", 2)] {
        let sql = format!("select count(*) from avtryck.hit_detail where event_name = '{name}'");
        stage.collector.wait_for(&sql, rows).await;
    }
    stage.close().await;
}
