//! Links from one site to another, which know the visitor again.

use crate::browser::{Browser, Proxy};
use crate::support::{Collector, Config, until};

/// Pages at 127.0.0.1 and at localhost, each with a collector of its own name: two sites.
struct TwoSites {
    collector: Collector,
    pages: Proxy,
    proxy: Proxy,
    browser: Browser,
}

const EDGES: &str = "select count(*) from avtryck.link_edge";

impl TwoSites {
    async fn set(permit: &str) -> TwoSites {
        let pages = Proxy::start(([127, 0, 0, 1], 1).into()).await;
        let port = pages.address.port();
        let sites = format!(
            "[[site]]\nkey = \"shop\"\nhosts = [\"127.0.0.1\"]\norigins = [\"http://127.0.0.1:{port}\"]\n\
             links = [\"localhost:{port}\"]\ndefault_permit = [{permit}]\n\
             [[site]]\nkey = \"news\"\nhosts = [\"localhost\"]\norigins = [\"http://localhost:{port}\"]\n\
             default_permit = [\"store\", \"measure\", \"link\"]\n\
             [[site]]\nkey = \"open\"\ndefault_permit = [\"measure\"]\n"
        );
        let collector = Collector::start(Config::new().with(&sites)).await;
        let proxy = Proxy::start(collector.http).await;
        let tag = |host: &str, site: &str| {
            let port = proxy.address.port();
            format!(
                "<!doctype html><link rel=icon href=data:,><title>{site}</title>\
                 <script src=\"http://{host}:{port}/tag.js?site={site}\"></script>"
            )
        };
        let links = format!(
            "<a id=there href=\"http://localhost:{port}/news?a=1#part\">there</a>\
             <a id=away href=\"http://localhost:1/\">away</a><a id=here href=\"/shop?b\">here</a>"
        );
        pages.serve("/shop", &(tag("127.0.0.1", "shop") + &links));
        pages.serve("/news", &tag("localhost", "news"));
        TwoSites {
            collector,
            pages,
            proxy,
            browser: Browser::start().await,
        }
    }

    /// Opens the page with the links, as its visit of that number.
    async fn open_shop(&self, number: i64) {
        self.browser.open(&self.pages.url("/shop")).await;
        let views = "select count(*) from avtryck.hit_detail where site = 'shop'";
        self.collector.wait_for(views, number).await;
    }

    /// Waits until so many tokens were asked for, and the page has read the last one: the click
    /// waits for nothing.
    async fn until_told(&self, count: usize) {
        until(async || self.proxy.count("/link?site=shop&to=localhost") == count).await;
        let read = "return performance.getEntriesByType('resource') \
                    .some(entry => entry.name.includes('/link?') && entry.responseEnd)";
        until(async || self.browser.run(read).await == true).await;
    }

    /// Moves the pointer onto a link.
    async fn point_at(&self, id: &str) {
        let script = format!(
            "document.getElementById('{id}').dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true, composed: true }}))"
        );
        self.browser.run(&script).await;
    }
}

#[tokio::test]
async fn a_link_to_a_host_that_is_listed_knows_its_visitor_again_and_leaves_a_clean_address() {
    let stage = TwoSites::set("\"store\", \"measure\", \"link\"").await;
    let browser = &stage.browser;
    stage.open_shop(1).await;
    for other in ["away", "here"] {
        stage.point_at(other).await;
    }
    assert_eq!(
        stage.proxy.count("/link"),
        0,
        "only for the hosts that are listed"
    );
    stage.point_at("there").await;
    stage.point_at("there").await;
    stage.until_told(1).await;
    let hrefs = browser.client.execute_async(
        "const done = arguments[0]; there.addEventListener('click', event => event.preventDefault()); \
         const before = there.href; there.click(); const clicked = there.href; \
         setTimeout(() => done([clicked, there.href === before]), 50)",
        Vec::new(),
    );
    let hrefs = hrefs.await.expect("the script runs");
    let clicked = hrefs[0].as_str().expect("an address").to_owned();
    assert!(
        clicked.contains("?a=1&avlink=") && clicked.ends_with("#part"),
        "{clicked}"
    );
    assert_eq!(hrefs[1], true, "the link is as it was");

    // Now for good.
    stage.open_shop(2).await;
    stage.point_at("there").await;
    stage.until_told(2).await;
    browser.click("there").await;
    stage.collector.wait_for(EDGES, 1).await;
    let address = browser.run("return location.href").await;
    let address = address.as_str().expect("an address");
    assert!(address.ends_with("/news?a=1#part"), "{address}");
    let sql = "select count(distinct visitor_id) from avtryck.hit_detail";
    assert_eq!(
        stage.collector.number(sql).await,
        2,
        "each site keeps its own"
    );
    let views =
        "select count(*) from avtryck.hit_detail where site = 'news' and kind = 'page_view'";
    assert_eq!(stage.collector.number(views).await, 1);
    let told = "select count(*) from avtryck.hit_detail where page_url like '%avlink%' or referrer like '%avlink%' \
                or params::text like '%avlink%'";
    assert_eq!(stage.collector.number(told).await, 0);
    let synced = "select count(*) from avtryck.hit_detail as sync \
                  where kind = 'sync' and site = 'news' and partner_uid in \
                        (select visitor_id::text from avtryck.hit_detail where site = 'shop') \
                    and visitor_id in (select visitor_id from avtryck.hit_detail where kind = 'page_view' and site = 'news')";
    assert_eq!(stage.collector.number(synced).await, 1);
    assert_eq!(browser.console().await, Vec::<String>::new());
    stage.browser.close().await;
}

#[tokio::test]
async fn where_the_site_may_not_link_the_address_stays_as_it_is() {
    let stage = TwoSites::set("\"store\", \"measure\"").await;
    let browser = &stage.browser;
    stage.open_shop(1).await;
    stage.point_at("there").await;
    until(async || stage.proxy.count("/link?site=shop&to=localhost") == 1).await;
    browser.click("there").await;
    let views = "select count(*) from avtryck.hit_detail where site = 'news' and page_url like '%/news?a=1'";
    stage.collector.wait_for(views, 1).await;
    stage.collector.settle().await;
    assert_eq!(stage.collector.number(EDGES).await, 0);
    let syncs = "select count(*) from avtryck.hit_detail where kind = 'sync'";
    assert_eq!(stage.collector.number(syncs).await, 0);
    stage.browser.close().await;
}
