//! The keys of dimension rows, and the secret that they need.

use super::*;
use crate::enrich::{self, DeviceClass, Network, Place};
use crate::postgres::batch::dimension::read_keyer;
use crate::row::{Ad, Site, UNKNOWN_KEY};

async fn keyer_of(client: &Client) -> anyhow::Result<Keyer> {
    read_keyer(client, DIMENSIONS.into_iter().zip(enrich::new_keys())).await
}

#[tokio::test]
async fn content_that_was_stored_before_there_was_a_secret_keeps_its_key() {
    let database = TestDatabase::migrated().await;
    let sql = "insert into avtryck.place (key, country, city, latitude, longitude) \
                   values (1, 'SE', 'Solna', 59.36, 18); \
               insert into avtryck.network (key, asn, name) values (2, 2119, 'Telenor'), (3, null, 'Other'); \
               insert into avtryck.device (key, class, os, is_bot) values (4, 'phone', 'Android', true); \
               insert into avtryck.ad (key, campaign, creative) values (5, 'spring', 'banner'); \
               insert into avtryck.site (key, site) values (6, 'shop'); \
               insert into avtryck.site (key, site, is_keyed) values (7, 'new', true)";
    database.client.batch_execute(sql).await.unwrap();
    let keyer = keyer_of(&database.client).await.unwrap();
    let place = Place {
        country: "SE".into(),
        city: "Solna".into(),
        latitude: Some(59.36),
        longitude: Some(18.0),
        ..Place::default()
    };
    assert_eq!(keyer.key(&place), 1);
    for (asn, name, key) in [(Some(2119), "Telenor", 2), (None, "Other", 3)] {
        let name = name.into();
        assert_eq!(keyer.key(&Network { asn, name }), key);
    }
    let device = Device {
        class: DeviceClass::Phone,
        os: "Android".into(),
        is_bot: true,
        ..Device::default()
    };
    assert_eq!(keyer.key(&device), 4);
    let ad = |creative| Ad {
        campaign: "spring",
        creative,
        ..Ad::default()
    };
    let site = |site| Site { site, category: "" };
    assert_eq!((keyer.key(&ad("banner")), keyer.key(&site("shop"))), (5, 6));
    for (new, key) in [
        (keyer.key(&ad("other")), keyer.new_key(&ad("other"))),
        (keyer.key(&site("new")), keyer.new_key(&site("new"))),
        (keyer.key(&place.coarse()), keyer.new_key(&place.coarse())),
    ] {
        assert_eq!(new, key);
        assert!(!(1..8).contains(&key));
    }
}

#[tokio::test]
async fn each_database_has_a_secret_of_its_own_which_nobody_else_may_read() {
    let mut secrets = Vec::new();
    for role in ["secret_reader_1", "secret_reader_2"] {
        let mut database = TestDatabase::empty().await;
        let sql = format!(
            "create role {role}; alter default privileges grant all on tables to {role}, public"
        );
        database.client.batch_execute(&sql).await.unwrap();
        migrate(&mut database.client).await.unwrap();
        let sql = format!(
            "select value, has_table_privilege('{role}', 'avtryck.secret', 'select'), \
                    has_table_privilege('{role}', 'avtryck.hit', 'select') from avtryck.secret"
        );
        let row = database.client.query_one(&sql, &[]).await.unwrap();
        assert!(!row.get::<_, bool>(1), "the secret");
        assert!(row.get::<_, bool>(2), "the hits");
        let secret: Vec<u8> = row.get(0);
        assert_eq!(secret.len(), 32);
        secrets.push(secret);
        let drop = format!("drop owned by {role}; drop role {role}");
        database.client.batch_execute(&drop).await.unwrap();
        let spoil = "update avtryck.secret set value = 'short'";
        database.client.batch_execute(spoil).await.unwrap();
        assert!(keyer_of(&database.client).await.is_err());
    }
    assert_ne!(secrets[0], secrets[1]);
}

#[tokio::test]
async fn a_row_whose_key_has_other_content_makes_its_dimension_unknown_in_rows_and_counts() {
    let mut database = TestDatabase::migrated().await;
    let sql = "insert into avtryck.ad (key, campaign) values (11, 'other'), (12, 'same'); \
               insert into avtryck.site (key, site) values (1, 'other')";
    database.client.batch_execute(sql).await.unwrap();
    let keys = |ad| {
        let mut keys = SITE_ALONE;
        keys[DimensionTable::Ad as usize] = ad;
        Row {
            keys: Cow::Owned(keys.to_vec()),
            ..row(usize::try_from(ad.unwrap_or_default()).unwrap())
        }
    };
    let rows = [Some(11), Some(12), Some(13), None].map(|ad| (1, keys(ad), None));
    let mut batch = load(rows);
    let ad = |campaign| Ad {
        campaign,
        ..Ad::default()
    };
    let tables = [
        (DimensionTable::Ad, 11, ad("ours")),
        (DimensionTable::Ad, 12, ad("same")),
        (DimensionTable::Ad, 13, ad("new")),
    ];
    for (table, key, ad) in tables {
        batch.dimensions.of(table as usize).unwrap().push(key, &ad);
    }
    let site = Site {
        site: "shop",
        category: "",
    };
    let sites = batch.dimensions.of(DimensionTable::Site as usize);
    sites.unwrap().push(1, &site);
    for (site_key, ad_key) in [(1, 11), (1, 12), (2, 0)] {
        batch.counts.add(Count {
            minute: 1,
            site_key,
            ad_key,
            kind: Kind::Impression,
        });
    }
    let loaded = commit(&mut database.client, batch).await.unwrap();
    assert_eq!(loaded.rows, 4);
    assert_eq!((loaded.new_dimensions, loaded.refused_dimensions), (1, 2));
    let read = async |sql| -> Vec<i64> {
        let rows = database.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let ads = "select coalesce(ad_key, -1) from avtryck.hit order by 1";
    assert_eq!(read(ads).await, [-1, UNKNOWN_KEY, 12, 13]);
    let sites = "select distinct site_key from avtryck.hit";
    assert_eq!(read(sites).await, [UNKNOWN_KEY]);
    let counts = "select site_key * 100 + ad_key from avtryck.hit_count order by 1";
    assert_eq!(read(counts).await, [0, 12, 200]);
}
