//! Whose word an exchange of IDs is.

use avtryck::callback::exchange::SignedExchange;
use avtryck::clock;
use avtryck::hit::VisitorId;

use crate::support::{Collector, Config};

const SECRET: &str = "a-secret-of-sixteen";

/// A browser, with its cookie and our ID for it.
struct Browser {
    cookie: String,
    visitor: VisitorId,
}

impl Browser {
    /// Makes one that the collector has sent to the partner.
    async fn new(collector: &Collector) -> Browser {
        let reply = collector.get("/sync/signing", &[]).await;
        assert_eq!(reply.status, 302, "{reply:?}");
        let told = reply.header("location").replace("%2D", "-");
        let id = told.strip_prefix("https://match.example/?id=").unwrap();
        Browser {
            cookie: reply.cookie().to_owned(),
            visitor: VisitorId::from_uuid(id).unwrap(),
        }
    }

    async fn bring(&self, collector: &Collector, uid: &str, more: &str) {
        let target = format!("/sync/signing?bounced=1&uid={uid}{more}");
        let reply = collector.get(&target, &[("Cookie", &self.cookie)]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// What the partner adds to the address for this browser.
    fn proof(&self, uid: &str) -> String {
        let timestamp = clock::now().seconds().to_string();
        let signed = SignedExchange {
            timestamp: &timestamp,
            visitor: self.visitor,
            partner_uid: uid,
        };
        let signature = signed.signature(SECRET.as_bytes()).unwrap();
        format!("&ts={timestamp}&sig={signature}")
    }
}

#[tokio::test]
async fn what_a_browser_claims_stands_beside_no_proved_id() {
    let collector = start().await;
    let (victim, attacker) = (
        Browser::new(&collector).await,
        Browser::new(&collector).await,
    );
    // Anybody's word, before there is a proof.
    attacker.bring(&collector, "u-victim", "").await;
    victim.bring(&collector, "u-planted", "").await;
    attacker.bring(&collector, "u-attacker", "").await;
    let links = "select count(*) from avtryck.partner_id";
    collector.wait_for(links, 3).await;
    victim
        .bring(&collector, "u-victim", &victim.proof("u-victim"))
        .await;
    collector
        .wait_for(&format!("{links} where is_proved"), 1)
        .await;
    assert_eq!(collector.number(links).await, 2);
    // Afterwards, and by the proof of another browser, of another ID, or none.
    attacker.bring(&collector, "u-victim", "").await;
    attacker
        .bring(&collector, "u-victim", &victim.proof("u-victim"))
        .await;
    attacker
        .bring(&collector, "u-victim", &attacker.proof("u-attacker"))
        .await;
    victim
        .bring(&collector, "u-planted", &attacker.proof("u-planted"))
        .await;
    victim.bring(&collector, "u-victim", "").await;
    attacker
        .bring(&collector, "u-attacker", "&ts=1&sig=00")
        .await;
    let all = "select count(*) from avtryck.hit where kind = 6";
    collector.wait_for(all, 12).await;
    let sql = "select concat_ws(' ', visitor_id, partner_uid, is_proved) from avtryck.partner_id order by is_proved desc";
    let rows = collector.rows(sql).await;
    let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        rows,
        [
            format!("{} u-victim t", victim.visitor),
            format!("{} u-attacker f", attacker.visitor),
        ]
    );
    // How an exchange is proved is no parameter of the hit.
    let params = "select count(*) from avtryck.hit where params is not null";
    assert_eq!(collector.number(params).await, 0);
}

async fn start() -> Collector {
    let partner = r#"
        [[partner]]
        key = "signing"
        secret = "a-secret-of-sixteen"
        match_url = "https://match.example/?id={uid}"
        default_permit = ["store", "measure", "match"]
    "#;
    Collector::start(Config::sites().with(partner)).await
}
