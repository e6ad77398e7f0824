//! An ad of one site in the page of another, from the impression to the conversion.

use super::{Browser, Proxy, config};
use crate::support::Collector;

#[tokio::test]
async fn an_ad_in_a_frame_is_shown_clicked_and_converts_and_its_rows_hang_together() {
    let config = config().set("site.demo.click_hosts", vec!["127.0.0.1"]);
    let collector = Collector::start(config).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;

    browser.open(&proxy.url("/publisher")).await;
    let shown =
        "select count(*) from avtryck.hit_detail where kind = 'impression' and creative = 'banner'";
    collector.wait_for(shown, 1).await;
    browser
        .client
        .enter_frame(0)
        .await
        .expect("the frame is there");
    browser.click("ad").await;
    // The frame is gone with its page.
    let page = browser.client.window().await.expect("the window");
    browser
        .client
        .switch_to_window(page)
        .await
        .expect("the page");
    browser.wait_for_text("landed", "here").await;
    let url = browser.client.current_url().await.expect("the URL");
    let (_, click_id) = url.as_str().split_once("avclid=").expect("a click ID");
    assert_eq!((url.path(), click_id.len()), ("/landing", 22));

    browser
        .run("avtryck('event', 'conversion', { id: 'order-1', value: 899 })")
        .await;
    let together = format!(
        "select count(*) from avtryck.hit_detail impression \
         join avtryck.hit_detail click on click.params->>'imp_id' = impression.params->>'imp_id' \
              and (click.campaign, click.creative) = (impression.campaign, impression.creative) \
         join avtryck.hit_detail conversion on conversion.click_id = click.click_id \
         where impression.kind = 'impression' and click.kind = 'click' and click.click_id = '{click_id}' \
           and conversion.kind = 'event' and conversion.event_name = 'conversion' and conversion.params->>'value' = '899'"
    );
    collector.wait_for(&together, 1).await;

    // A later page of the visit names the click too, for the site permits to store.
    browser.open(&proxy.url("/landing")).await;
    browser
        .run("avtryck('event', 'conversion', { id: 'order-2', value: 899 })")
        .await;
    collector.wait_for(&together, 2).await;
    browser.close().await;
}
