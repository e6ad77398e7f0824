//! Exposures against a model in memory: hits of many visitors on many creatives, in batches of any
//! size, over connections that break.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::enrich::{DIMENSIONS, new_keys};
use crate::hit::subject::Subject;
use crate::hit::{Flags, VisitorId};
use crate::postgres::batch::dimension::read_keyer;
use crate::row::{Ad, Keyer};

const HITS: u64 = 1_500;
/// The most hits between two batches of a loader.
const STEP_MAX: u64 = 40;

/// xorshift64*: the same hits, batches and cuts on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Makes the hit with that number, as the seed determines it.
fn made(number: u64, at: UnixMicros, random: &mut Random) -> Hit<'static> {
    let kind = match random.below(10) {
        0 => Kind::PageView,
        1..6 => Kind::Impression,
        6..9 => Kind::Click,
        _ => Kind::Callback,
    };
    let mut hit = Hit::new(at, kind, "site");
    hit.permit = Permit::MEASURE.with(Permit::STORE);
    hit.page_url = format!("{number}").into();
    hit.partner = "network".into();
    if kind == Kind::Callback {
        hit.event_name = ["impression", "click", "conversion"][random.below(3) as usize].into();
    }
    let person = random.below(8);
    let [has_visitor, has_maid, has_uid] = [2, 3, 2].map(|limit| random.below(limit) == 0);
    if has_visitor {
        hit.visitor = Some(VisitorId([person as u8 + 1; 16]));
    }
    if has_maid {
        hit.maid = format!("Maid-{person}").into();
    }
    if has_uid {
        hit.partner_uid = format!("uid-{person}").into();
    }
    match random.below(20) {
        0 => {}
        1 => hit.campaign = "c-0".into(),
        _ => {
            hit.campaign = format!("c-{}", random.below(2)).into();
            hit.creative = format!("big-{}", random.below(3)).into();
        }
    }
    hit.placement = format!("p-{}", random.below(3)).into();
    match random.below(12) {
        0 => hit.params = "{\"broken\":".into(),
        1 => {
            // What an event says differs by placement alone.
            let id = random.below(40);
            hit.event_id = format!("id-{id}").into();
            hit.visitor = Some(VisitorId([id as u8 + 1; 16]));
            (hit.maid, hit.partner_uid) = ("".into(), "".into());
            (hit.campaign, hit.creative) = ("c-0".into(), "big-0".into());
        }
        2 => hit.flags = Flags::PREVIEW,
        3..6 => hit.flags = Flags::THIRD_PARTY,
        _ => {}
    }
    hit
}

/// When each impression and click of a subject on a creative was.
#[derive(Default)]
struct Times {
    impressions: Vec<i64>,
    clicks: Vec<i64>,
}

/// What the database must hold: the number and flags of each row, and every pair.
#[derive(Default)]
struct Model {
    rows: BTreeMap<u64, (Option<i32>, u32)>,
    pairs: BTreeMap<([u8; 16], i64), Times>,
    /// The placements that each event was said to have, the one that has its ID first.
    events: HashMap<(Kind, String, String), Vec<String>>,
    keyer: Option<Keyer>,
}

impl Model {
    fn add(&mut self, number: u64, hit: &Hit<'_>) {
        if !hit.params.is_empty() {
            return;
        }
        let [name, id] = [&hit.event_name, &hit.event_id].map(ToString::to_string);
        let mut is_conflict = false;
        if !hit.event_id.is_empty() {
            let placements = self.events.entry((hit.kind, name, id)).or_default();
            let placement = hit.placement.to_string();
            if placements.contains(&placement) {
                return;
            }
            is_conflict = !placements.is_empty();
            placements.push(placement);
        }
        let (exposure_number, flags) = match is_conflict {
            true => (self.number(hit), Some(Flags::ID_CONFLICT)),
            false => self.count(hit).unzip(),
        };
        let flags = hit.flags.with(flags.unwrap_or_default()).bits();
        self.rows.insert(number, (exposure_number, flags));
    }

    /// Who does what to which creative: the pair, and whether it is a click.
    fn pair(&self, hit: &Hit<'_>) -> Option<(([u8; 16], i64), bool)> {
        let is_click = match (hit.kind, &*hit.event_name) {
            (Kind::Impression, _) | (Kind::Callback, "impression") => false,
            (Kind::Click, _) | (Kind::Callback, "click") => true,
            _ => return None,
        };
        let partner = &*hit.partner;
        let subject = if let Some(visitor) = hit.visitor {
            visitor.0
        } else if hit.kind != Kind::Callback {
            // A browser speaks for its own visitor only.
            return None;
        } else if !hit.maid.is_empty() {
            Subject::Maid(&hit.maid.to_lowercase()).key()
        } else if !hit.partner_uid.is_empty() {
            let uid = &*hit.partner_uid;
            Subject::PartnerUid { partner, uid }.key()
        } else {
            return None;
        };
        if hit.campaign.is_empty() || hit.flags.has(Flags::PREVIEW) {
            return None;
        }
        let creative = Ad {
            partner,
            campaign: &*hit.campaign,
            creative: &*hit.creative,
            placement: "",
            publisher: "",
        };
        let creative_key = self.keyer.as_ref().unwrap().key(&creative);
        Some(((subject, creative_key), is_click))
    }

    /// The exposure number of a hit that does not count.
    fn number(&self, hit: &Hit<'_>) -> Option<i32> {
        let (pair, _) = self.pair(hit)?;
        let times = self.pairs.get(&pair);
        Some(times.map_or(0, |times| times.impressions.len() as i32))
    }

    fn count(&mut self, hit: &Hit<'_>) -> Option<(i32, Flags)> {
        let (pair, is_click) = self.pair(hit)?;
        let times = self.pairs.entry(pair).or_default();
        let at = hit.received_at.0;
        let mut flags = Flags::default();
        if is_click {
            times.clicks.push(at);
            let last = times.impressions.iter().max();
            if last.is_none() && hit.kind == Kind::Click && !hit.flags.has(Flags::THIRD_PARTY) {
                flags.set(Flags::NO_IMPRESSION);
            }
            if last.is_some_and(|last| at - last < 100_000) && hit.kind == Kind::Click {
                flags.set(Flags::FAST_CLICK);
            }
        } else {
            times.impressions.push(at);
        }
        Some((times.impressions.len() as i32, flags))
    }
}

pub(super) async fn append_payloads(spool: &Spool, payloads: Vec<Vec<u8>>) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = payloads
        .iter()
        .map(|payload| |out: &mut Vec<u8>| out.extend_from_slice(payload));
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

async fn stored_rows(client: &Client) -> BTreeMap<u64, (Option<i32>, u32)> {
    let sql = "select page_url, exposure_number, flags from avtryck.hit";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let number = row.get::<_, &str>(0).parse().unwrap();
            (number, (row.get(1), row.get::<_, i32>(2).cast_unsigned()))
        })
        .collect()
}

async fn stored_pairs(client: &Client) -> Vec<(String, i64, [i64; 4])> {
    crate::postgres::batch::exposure::add_up(client)
        .await
        .unwrap();
    let micros = |column| format!("(extract(epoch from {column}) * 1000000)::bigint");
    let sql = format!(
        "select replace(subject::text, '-', ''), creative_key, {}, {}, impressions::bigint, clicks::bigint \
         from avtryck.exposure order by subject, creative_key",
        micros("first_at"),
        micros("last_at")
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let numbers = [2, 3, 4, 5].map(|column| row.get(column));
            (row.get(0), row.get(1), numbers)
        })
        .collect()
}

pub(super) fn is_loaded(loader: &Loader) -> bool {
    let mut spools = loader.spools.iter().enumerate();
    spools.all(|(index, spool)| loader.progress.position(index) == spool.committed_position())
}

/// Loads batch after batch over one connection; one is prepared while another is loaded.
async fn load_all(loader: &Loader) -> anyhow::Result<()> {
    let (_stop, mut stopped) = watch::channel(false);
    let mut pause = PAUSE_MIN;
    let all_is_loaded = async {
        while !is_loaded(loader) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = session::run(loader, &mut stopped, &mut pause) => ended,
        () = all_is_loaded => Ok(()),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one history, told from its beginning to its end"
)]
async fn check(seed: u64, shards: usize) {
    let postgres = testing::TestDatabase::migrated().await;
    let dir = tempfile::tempdir().unwrap();
    let spools: Vec<Spool> = (0..shards)
        .map(|shard| spool(&dir.path().join(format!("spool-{shard}"))))
        .collect();
    let mut random = Random(seed);
    let instructions = super::spool(&dir.path().join("instruction"));
    let mut loaders = Vec::new();
    for way in [Way::ToPostgres, Way::FromPostgres] {
        let (config, cut) = through_proxy(&postgres.config, way).await;
        let loader = Loader {
            spools: spools.clone(),
            ..loader(&spools[0], &instructions, config)
        };
        loaders.push((loader, cut));
    }
    let read = read_keyer(&postgres.client, DIMENSIONS.into_iter().zip(new_keys()));
    let mut model = Model {
        keyer: Some(read.await.unwrap()),
        ..Model::default()
    };
    let mut at = 1_795_523_696_000_000;
    let (mut number, mut broken) = (0, 0);
    loop {
        let step = (number..HITS).take(random.below(STEP_MAX) as usize);
        let mut payloads = vec![Vec::new(); shards];
        for number in step {
            at += match random.below(100) {
                0 => 1_000_000,
                _ => 1 + random.below(2_000) as i64,
            };
            let hit = made(number, UnixMicros(at), &mut random);
            model.add(number, &hit);
            let mut payload = Vec::new();
            hit.encode(&mut payload);
            // Whichever thread takes it.
            payloads[random.below(shards as u64) as usize].push(payload);
        }
        number += payloads.iter().map(Vec::len).sum::<usize>() as u64;
        for (spool, payloads) in spools.iter().zip(payloads) {
            append_payloads(spool, payloads).await;
        }
        let is_over = number == HITS;
        let after = match random.below(3) {
            _ if is_over => u64::MAX,
            0 => u64::MAX,
            _ => random.below(24_000),
        };
        let (loader, cut) = &mut loaders[random.below(2) as usize];
        cut.after.store(after, Ordering::Relaxed);
        cut.seen.store(0, Ordering::Relaxed);
        cut.begun.store(false, Ordering::Relaxed);
        loader.batch_rows = 1 + random.below(STEP_MAX) as usize;
        let loaded = match random.below(2) {
            0 => load_once(loader).await,
            _ => load_all(loader).await,
        };
        if let Err(error) = loaded {
            broken += 1;
            assert!(broken < HITS, "it loads nothing: {error:#}");
        }
        if is_over && is_loaded(loader) {
            break;
        }
    }
    assert!(broken > 10, "{broken} connections broke");
    assert_eq!(
        stored_rows(&postgres.client).await,
        model.rows,
        "seed {seed}, {shards} shards"
    );
    let pairs = model.pairs.iter().map(|((subject, creative), times)| {
        let shown = match &times.impressions[..] {
            [] => &times.clicks,
            impressions => impressions,
        };
        let numbers = [
            *shown.iter().min().unwrap(),
            *shown.iter().max().unwrap(),
            times.impressions.len() as i64,
            times.clicks.len() as i64,
        ];
        let subject = VisitorId(*subject).to_string().replace('-', "");
        (subject, *creative, numbers)
    });
    let pairs: Vec<_> = pairs.collect();
    assert_eq!(
        stored_pairs(&postgres.client).await,
        pairs,
        "seed {seed}, {shards} shards"
    );
    let flagged = |flag: Flags| {
        let rows = model.rows.values();
        rows.filter(|(_, flags)| flags & flag.bits() != 0).count()
    };
    for flag in [Flags::NO_IMPRESSION, Flags::FAST_CLICK, Flags::ID_CONFLICT] {
        assert!(flagged(flag) > 10, "{flag:?}");
    }
    spools.iter().for_each(Spool::close);
}

#[tokio::test]
async fn exposures_match_a_model_whatever_breaks_and_wherever_batches_end() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for (seed, shards) in [(1, 1), (2, 1), (3, 2), (4, 5)] {
                check(seed, shards).await;
            }
        })
        .await;
}
