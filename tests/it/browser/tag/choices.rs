//! Several choices of one visitor: cookies of one name that lie under different domains.

use super::super::pages::page;
use super::super::{Browser, Proxy, config};
use super::LISTEN;
use crate::support::{Collector, Config, until};

/// Pages on one host of a domain, and a collector on another one. Browsers find every name that
/// ends in `localhost` on the loopback address.
struct Shop {
    collector: Collector,
    pages: Proxy,
    proxy: Proxy,
    browser: Browser,
}

impl Shop {
    async fn open() -> Shop {
        // Nothing is behind the proxy of the pages.
        let pages = Proxy::start(([127, 0, 0, 1], 1).into()).await;
        let origin = format!("http://www.shop.localhost:{}", pages.address.port());
        let site = format!(
            "[[site]]\nkey = \"asks\"\ndefault_permit = []\n\
             cookie_domain = \"shop.localhost\"\norigins = [\"{origin}\"]\n"
        );
        let collector = Collector::start(Config::new().with(&site)).await;
        let proxy = Proxy::start(collector.http).await;
        let tag = format!("http://px.shop.localhost:{}/tag.js", proxy.address.port());
        pages.serve("/page", &page("asks", LISTEN).replace("/tag.js", &tag));
        pages.serve("/empty", "<!doctype html><link rel=icon href=data:,>");
        Shop {
            collector,
            pages,
            proxy,
            browser: Browser::start().await,
        }
    }

    /// Opens a page of the shop whose visitor has these cookies.
    async fn open_with(&self, cookies: &[&str]) {
        let port = self.pages.address.port();
        let url = |path| format!("http://www.shop.localhost:{port}{path}");
        self.browser.open(&url("/empty")).await;
        self.keep(cookies).await;
        self.browser.run("sessionStorage.clear()").await;
        self.browser.open(&url("/page?avclid=c-1")).await;
    }

    async fn keep(&self, cookies: &[&str]) {
        self.browser
            .client
            .delete_all_cookies()
            .await
            .expect("none");
        for cookie in cookies {
            self.browser
                .run(&format!("document.cookie = '{cookie}'"))
                .await;
        }
    }

    /// Returns every choice that the page that is open has.
    async fn choices(&self) -> Vec<String> {
        let cookies = self.browser.run("return document.cookie").await;
        let cookies = cookies.as_str().expect("a text").split("; ");
        let choices = cookies.filter(|cookie| cookie.starts_with("avchoice="));
        choices.map(str::to_owned).collect()
    }
}

const OF_THE_DOMAIN: &str = ";path=/;domain=shop.localhost";
const OF_THE_HOST: &str = ";path=/";

#[tokio::test]
async fn of_several_choices_the_tag_does_what_all_of_them_permit() {
    let shop = Shop::open().await;
    let mut sent = 0;
    for (choices, is_sent, is_kept) in [
        (&["store.measure", "none"][..], false, false),
        (&["none", "store.measure"], false, false),
        (&["measure", "link"], false, false),
        (&["nonsense"], false, false),
        (&[], false, false),
        (&["store.measure"], true, true),
        (&["store.measure", "store"], true, true),
        (&["store.measure", "measure"], true, false),
        (&["measure", "measure.store"], true, false),
    ] {
        for domains in [[OF_THE_DOMAIN, OF_THE_HOST], [OF_THE_HOST, OF_THE_DOMAIN]] {
            let cookies = choices.iter().zip(domains);
            let cookies = cookies.map(|(choice, domain)| format!("avchoice={choice}{domain}"));
            let cookies: Vec<String> = cookies.collect();
            let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
            shop.open_with(&cookies).await;
            assert_eq!(shop.choices().await.len(), choices.len(), "{choices:?}");
            shop.browser.run("avtryck('event', 'next')").await;
            if is_sent {
                sent += 2;
                until(async || shop.proxy.events().len() >= sent).await;
            }
            // What a page of the first five sends when it is left would be counted later.
            assert_eq!(shop.proxy.events().len(), sent, "{choices:?}");
            let kept = shop.browser.run("return 'avclid' in sessionStorage").await;
            assert_eq!(kept, is_kept, "{choices:?}");
        }
    }
    shop.browser.close().await;
}

#[tokio::test]
async fn a_new_choice_ends_every_former_one_on_the_pages_host_and_on_the_collectors() {
    let shop = Shop::open().await;
    let port = shop.proxy.address.port();
    let of_collector = format!("http://px.shop.localhost:{port}/robots.txt");
    let refusals = [
        "avchoice=none;path=/",
        "avchoice=none;path=/;secure",
        "avchoice=none;path=/;secure;partitioned",
        "avchoice=none;path=/;domain=www.shop.localhost",
        "avchoice=none;path=/;domain=shop.localhost",
    ];
    for refusal in refusals {
        shop.open_with(&[refusal]).await;
        assert_eq!(shop.choices().await, ["avchoice=none"], "{refusal}");
        shop.browser.open(&of_collector).await;
        shop.browser
            .run("document.cookie = 'avchoice=none;path=/'")
            .await;
        let page = format!(
            "http://www.shop.localhost:{}/page",
            shop.pages.address.port()
        );
        shop.browser.open(&page).await;
        let name = refusal.replace(['=', ';', '/'], "-");
        // The event is there before the module that ends what was chosen before.
        let consent =
            format!("avtryck('consent', ['store', 'measure']); avtryck('event', '{name}')");
        shop.browser.run(&consent).await;
        let row = format!(
            "select count(*) from avtryck.hit_detail where event_name = '{name}' \
             and consent_source = 'choice' and visitor_id is not null"
        );
        shop.collector.wait_for(&row, 1).await;
        assert_eq!(
            shop.choices().await,
            ["avchoice=store.measure"],
            "{refusal}"
        );
        shop.browser.open(&of_collector).await;
        assert_eq!(
            shop.choices().await,
            ["avchoice=store.measure"],
            "{refusal}"
        );
    }
    // And a refusal ends every consent.
    let consent = "avchoice=store.measure;path=/";
    shop.open_with(&[consent, "avchoice=store;path=/;domain=shop.localhost"])
        .await;
    shop.browser.run("avtryck('consent', [])").await;
    until(async || shop.choices().await == ["avchoice=none"]).await;
    shop.browser.close().await;
}

#[tokio::test]
async fn a_page_that_does_not_name_the_module_is_told_its_segments_too() {
    let segment = "[[segment]]\nkey = \"phone\"\nwhere = \"permits_link\"\nexpose = [\"demo\"]\n";
    let collector = Collector::start(config().with(segment)).await;
    let proxy = Proxy::start(collector.http).await;
    let browser = Browser::start().await;
    proxy.serve("/page", &page("demo", LISTEN));
    browser.open(&proxy.url("/page")).await;
    let ask = "avtryck('segments', keys => { window.told = JSON.stringify(keys); })";
    browser.run(ask).await;
    until(async || browser.run("return window.told").await == "[]").await;
    assert!(proxy.count("/segments?site=demo") > 0);
    browser.close().await;
}
