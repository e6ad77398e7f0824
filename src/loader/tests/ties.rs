//! Ties and permits against a model in memory: hits of every permit, through the loader into
//! Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{ConsentSource, Flags, UserKey, VisitorId};
use crate::identity::{IdType, Ids, LinkPermit, Node, TieRules};
use crate::postgres::identity::group;
use crate::postgres::user_key;

/// xorshift64*: the same hits on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub(super) fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

const USER_KEYS: [[u8; 16]; 1] = [[9; 16]];

/// Two visitors in three are on several devices, and each device has been used by several.
fn visitor(number: u64) -> VisitorId {
    VisitorId([number as u8 + 1; 16])
}

fn maid(number: u64) -> String {
    format!("38400000-8cf0-11bd-b23e-10b96e4000{number:02x}")
}

/// Makes a hit as the edge leaves it: without the permit to store it has no ID.
fn made(at: UnixMicros, random: &mut Random) -> Hit<'static> {
    let kinds = [
        Kind::PageView,
        Kind::Event,
        Kind::Impression,
        Kind::Sync,
        Kind::Callback,
    ];
    let mut hit = Hit::new(at, random.of(&kinds), random.of(&["shop", "news"]));
    let permits = [
        Permit::ALL,
        Permit::ALL,
        LinkPermit::NEEDED,
        Permit::ALL.without(Permit::LINK),
        Permit::STORE.with(Permit::MEASURE),
        Permit::ALL.without(Permit::STORE),
        Permit::MEASURE.with(Permit::LINK),
        Permit::NONE,
    ];
    hit.permit = random.of(&permits);
    hit.consent_source = random.of(&[
        ConsentSource::Default,
        ConsentSource::Choice,
        ConsentSource::Tcf,
        ConsentSource::Gdpr0,
    ]);
    hit.partner = random.of(&["", "browsers", "persons", "none"]).into();
    let flags = [
        Flags::BOT,
        Flags::THIRD_PARTY,
        Flags::OVER_LIMIT,
        Flags::PREFETCH,
    ];
    if random.below(8) == 0 {
        hit.flags = random.of(&flags);
    }
    if random.below(4) == 0 {
        hit.flags.set(random.of(&[Flags::PROVED, Flags::SIGNED]));
    }
    if hit.permit.allows(Permit::STORE.with(Permit::MEASURE)) {
        if random.below(3) > 0 {
            hit.visitor = Some(visitor(random.below(6)));
        }
        match random.below(6) {
            0..3 => hit.maid = maid(random.below(4)).into(),
            3 => {
                hit.maid = random
                    .of(&["short", "11111111-1111-1111-1111-111111111111"])
                    .into()
            }
            _ => {}
        }
        match random.below(6) {
            0..2 => hit.device_id = format!("device-{}", random.below(4)).into(),
            2 => hit.device_id = random.of(&["7", "88888888", "Blocked-1"]).into(),
            _ => {}
        }
        if random.below(2) == 0 {
            hit.partner_uid = format!("partner-{}", random.below(4)).into();
        }
        if random.below(3) == 0 {
            hit.user_key = Some(UserKey([0x50 + random.below(3) as u8; 16]));
        }
    }
    hit
}

fn rules() -> TieRules {
    let types = [("browsers", IdType::Browser), ("persons", IdType::Person)];
    let types = types.map(|(partner, id_type)| (partner.to_owned(), id_type));
    TieRules::new(types, &["blocked-1".to_owned()], [])
}

type Edge = (Node, Node);

/// What should be stored. It is written from the rules, not from the code.
#[derive(Debug, Default)]
struct Model {
    edges: BTreeMap<Edge, bool>,
    permits: BTreeMap<(Node, String, String), (u8, u8)>,
}

impl Model {
    fn load(&mut self, hit: &Hit<'_>, rules: &TieRules) {
        let ids = ids(hit);
        assert_eq!(
            ids.iter().flatten().count(),
            Ids::of(hit, rules).each().count()
        );
        let each = || ids.iter().flatten().copied();
        let explicit = [2, 3, 4, 5].contains(&hit.consent_source.number());
        let bits = hit.permit.bits();
        let refuses = explicit && bits & 1 == 1 && bits & 19 != 19;
        if refuses || !hit.flags.has(Flags::BOT) {
            for node in each() {
                let key = (node, hit.site.to_string(), hit.partner.to_string());
                let said = (bits, hit.consent_source.number());
                let known = self.permits.entry(key).or_insert(said);
                // A default says nothing of who has spoken.
                if explicit || !(2..=5).contains(&known.1) {
                    *known = said;
                }
            }
        }
        if refuses {
            self.edges
                .retain(|(a, b), _| !each().any(|node| node == *a || node == *b));
        }
        if bits & 19 != 19 {
            return;
        }
        let bad = [
            Flags::BOT,
            Flags::THIRD_PARTY,
            Flags::OVER_LIMIT,
            Flags::PREFETCH,
        ];
        let is_proved = hit.flags.has(Flags::PROVED);
        if bad.iter().any(|flag| hit.flags.has(*flag)) || hit.kind == Kind::Callback && !is_proved {
            return;
        }
        let [visitor, maid, device, uid, user] = ids;
        let uid = uid.filter(|_| hit.partner == "browsers");
        let Some(hub) = visitor.or(maid).or(device).or(uid) else {
            return;
        };
        for (kind, node) in [maid, device, uid, user].into_iter().enumerate() {
            let Some(node) = node.filter(|node| *node != hub) else {
                continue;
            };
            let proved = match (hit.kind, is_proved) {
                (Kind::Callback, _) => true,
                (_, true) => visitor.is_some() && kind == 3,
                (Kind::Sync, _) => hit.flags.has(Flags::SIGNED) && visitor.is_some() && kind == 2,
                _ => false,
            };
            *self
                .edges
                .entry((hub.min(node), hub.max(node)))
                .or_default() |= proved;
        }
    }
}

/// The IDs of a hit that may stand for somebody.
fn ids(hit: &Hit<'_>) -> [Option<Node>; 5] {
    let text = |text: &str, prefix: &str, subject: Subject<'_>| {
        text.starts_with(prefix).then(|| Node::of(&subject))
    };
    let (partner, uid) = (&*hit.partner, &*hit.partner_uid);
    [
        hit.visitor.map(|visitor| Node(visitor.0)),
        text(&hit.maid, "3840", Subject::Maid(&hit.maid)),
        text(&hit.device_id, "device-", Subject::DeviceId(&hit.device_id)),
        text(uid, "partner-", Subject::PartnerUid { partner, uid }).filter(|_| !partner.is_empty()),
        hit.user_key.map(|user| Node(Subject::User(user).key())),
    ]
}

async fn edges(client: &Client) -> BTreeMap<Edge, bool> {
    let sql = "select a, b, proved_day is not null, permit from avtryck.link_edge";
    let rows = client.query(sql, &[]).await.unwrap();
    let edge = |row: &tokio_postgres::Row| {
        let node = |column| Node(row.get::<_, uuid::Uuid>(column).into_bytes());
        assert_eq!(row.get::<_, i16>(3) & 19, 19);
        ((node(0), node(1)), row.get(2))
    };
    rows.iter().map(edge).collect()
}

async fn permits(client: &Client) -> BTreeMap<(Node, String, String), (u8, u8)> {
    let sql = "select subject, site, partner, permit, consent_source from avtryck.subject_permit";
    let rows = client.query(sql, &[]).await.unwrap();
    let permit = |row: &tokio_postgres::Row| {
        let node = Node(row.get::<_, uuid::Uuid>(0).into_bytes());
        let number = |column| row.get::<_, i16>(column) as u8;
        ((node, row.get(1), row.get(2)), (number(3), number(4)))
    };
    rows.iter().map(permit).collect()
}

pub(super) async fn append_all(spool: &Spool, hits: &[Hit<'static>]) {
    let appender = spool.appender();
    let deliver = tokio::task::spawn_local(appender.deliver());
    let encoders = hits
        .iter()
        .map(|hit| move |out: &mut Vec<u8>| hit.encode(out));
    appender.append_all(encoders).unwrap().await.unwrap();
    deliver.abort();
}

fn tying(spool: &Spool, instructions: &Spool, config: tokio_postgres::Config) -> Loader {
    let loader = loader(spool, instructions, config);
    let rules = Arc::new(ArcSwap::from_pointee(rules()));
    Loader {
        sink: loader
            .sink
            .with_user_keys(USER_KEYS.to_vec())
            .with_tie_rules(rules),
        batch_rows: 9,
        ..loader
    }
}

/// Times that differ, the last of them now.
fn times(hits: i64) -> impl Iterator<Item = UnixMicros> {
    let now = clock::now().0;
    (0..hits).map(move |number| UnixMicros(now - (hits - number) * 1_000))
}

/// A loader at work.
struct Working {
    progress: Arc<Progress>,
    spool: Spool,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Working {
    fn start(spool: &Spool, instructions: &Spool, config: &tokio_postgres::Config) -> Working {
        let loader = tying(spool, instructions, config.clone());
        let (stop, stopped) = watch::channel(false);
        Working {
            progress: Arc::clone(&loader.progress),
            spool: spool.clone(),
            stop,
            task: tokio::task::spawn_local(loader.run(stopped)),
        }
    }

    /// Appends hits, and waits until they are loaded and added up.
    async fn load(&self, client: &Client, hits: &[Hit<'static>]) {
        append_all(&self.spool, hits).await;
        let is_done = async || {
            let sql = "select not exists (select from avtryck.link_part) \
                       and not exists (select from avtryck.permit_part)";
            self.progress.position(0) == self.spool.committed_position()
                && client.query_one(sql, &[]).await.unwrap().get(0)
        };
        until("the hits are added up", is_done).await;
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        self.spool.close();
    }
}

async fn tie_random_hits() {
    let postgres = testing::TestDatabase::migrated().await;
    user_key::claim(&postgres.client, &USER_KEYS).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let instructions = spool(&dir.path().join("instruction"));
    for seed in 1..=25 {
        let hits = spool(&dir.path().join(format!("hits-{seed}")));
        let working = Working::start(&hits, &instructions, &postgres.config);
        let mut random = Random(seed);
        let (mut model, rules) = (Model::default(), rules());
        let made: Vec<_> = times(150).map(|at| made(at, &mut random)).collect();
        for some in made.chunks(random.below(60) as usize + 10) {
            for hit in some {
                model.load(hit, &rules);
            }
            working.load(&postgres.client, some).await;
            assert_eq!(edges(&postgres.client).await, model.edges, "seed {seed}");
            assert_eq!(
                permits(&postgres.client).await,
                model.permits,
                "seed {seed}"
            );
        }
        assert!(!model.edges.is_empty(), "seed {seed}");
        working.stop().await;
        // The audit finds a hit for each, by whatever ID leads the tie.
        let sql = "select count(*), count(*) filter (where not is_permitted) \
                   from avtryck.audit_ties(10000, current_date - 1, current_date)";
        let row = postgres.client.query_one(sql, &[]).await.unwrap();
        let audited = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        assert_eq!(audited, (model.edges.len() as i64, 0), "seed {seed}");
        let sql = "truncate avtryck.link_edge, avtryck.subject_permit";
        postgres.client.batch_execute(sql).await.unwrap();
    }
    instructions.close();
}

#[tokio::test]
async fn ties_and_permits_are_what_the_rules_make_of_random_hits() {
    tokio::task::LocalSet::new()
        .run_until(tie_random_hits())
        .await;
}

/// A hit of a visitor that ties a MAID, with the given permit.
fn tied(at: UnixMicros, permit: Permit) -> Hit<'static> {
    let mut hit = Hit::new(at, Kind::Event, "shop");
    (hit.permit, hit.consent_source) = (permit, ConsentSource::Choice);
    (hit.visitor, hit.maid) = (Some(visitor(1)), maid(1).into());
    hit
}

/// Two loaders at work on one database, and what stops them.
async fn with_two(test: impl AsyncFnOnce(&Client, &Working, &Working)) {
    let postgres = testing::TestDatabase::migrated().await;
    user_key::claim(&postgres.client, &USER_KEYS).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [one, other, instructions] =
        ["one", "other", "instruction"].map(|name| spool(&dir.path().join(name)));
    let [one, other] =
        [one, other].map(|hits| Working::start(&hits, &instructions, &postgres.config));
    test(&postgres.client, &one, &other).await;
    one.stop().await;
    other.stop().await;
    instructions.close();
}

#[tokio::test]
async fn a_tie_of_a_row_that_was_left_out_is_stored_with_the_next_hit() {
    let test = async |client: &Client, one: &Working, _: &Working| {
        let mut times = times(8);
        let mut next = |user: Option<u8>, event: &'static str, params: &'static str| {
            let mut hit = tied(times.next().unwrap(), Permit::ALL);
            (hit.event_id, hit.params) = (event.into(), params.into());
            (hit.maid, hit.user_key) = ("".into(), user.map(|user| UserKey([user; 16])));
            hit
        };
        // A repeat, which may name another user, is left out, and so is what Postgres refuses.
        let hits = [
            next(None, "once", ""),
            next(Some(1), "once", ""),
            next(Some(2), "", "{\"broken\":"),
        ];
        for hit in hits {
            one.load(client, &[hit]).await;
            assert_eq!(edges(client).await.len(), 0);
        }
        for (user, count) in [(1, 1), (2, 2)] {
            one.load(client, &[next(Some(user), "", "")]).await;
            assert_eq!(edges(client).await.len(), count);
        }
    };
    let all = with_two(test);
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn what_one_collector_unlinked_another_ties_again_when_that_is_permitted_again() {
    let test = async |client: &Client, one: &Working, other: &Working| {
        let yes = || tied(clock::now(), Permit::ALL);
        let mut no = tied(clock::now(), Permit::STORE.with(Permit::MEASURE));
        no.maid = "".into();
        one.load(client, &[yes()]).await;
        assert_eq!(edges(client).await.len(), 1);
        no.received_at = clock::now();
        other.load(client, &[no]).await;
        assert_eq!(edges(client).await.len(), 0);
        // The first collector hears of it a moment later.
        until("the tie is back", async || {
            one.load(client, &[yes()]).await;
            edges(client).await.len() == 1
        })
        .await;
    };
    let all = with_two(test);
    tokio::task::LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn what_was_received_before_a_refusal_ties_nothing_however_late_it_is_loaded() {
    let test = async |client: &Client, one: &Working, other: &Working| {
        let mut times = times(9);
        let mut next = |permit| tied(times.next().unwrap(), permit);
        let refused = Permit::STORE.with(Permit::MEASURE);
        let (early, refusal) = (next(Permit::ALL), next(refused));
        let later = next(Permit::ALL);
        one.load(client, &[refusal]).await;
        other.load(client, &[early]).await;
        assert_eq!(edges(client).await.len(), 0);
        let stored = permits(client).await;
        let refused = (refused.bits(), ConsentSource::Choice.number());
        assert_eq!(stored.len(), 2);
        assert!(
            stored.values().all(|permit| *permit == refused),
            "the later one holds"
        );
        other.load(client, std::slice::from_ref(&later)).await;
        let all = (Permit::ALL.bits(), ConsentSource::Choice.number());
        // The other collector remembers that it stored the same, until it hears otherwise.
        until("the later permit is stored", async || {
            let again = tied(clock::now(), Permit::ALL);
            other.load(client, &[again]).await;
            permits(client).await.values().all(|permit| *permit == all)
                && edges(client).await.len() == 1
        })
        .await;
    };
    let all = with_two(test);
    tokio::task::LocalSet::new().run_until(all).await;
}

/// Makes the hits of devices with two browsers, a MAID and a device ID each, some of them proved,
/// and of one device in three with a login. No cap is reached.
fn of_devices(random: &mut Random) -> Vec<Hit<'static>> {
    let mut hits = Vec::new();
    for (number, at) in (0_u8..120).zip(times(120)) {
        let device = u64::from(number % 30);
        let mut hit = tied(at, Permit::ALL);
        hit.visitor = Some(visitor(10 + 2 * device + random.below(2)));
        hit.maid = maid(device).into();
        if random.below(2) == 0 {
            hit.device_id = format!("device-{device:04}").into();
        }
        if random.below(4) == 0 {
            (hit.visitor, hit.kind) = (None, Kind::Callback);
            hit.flags.set(Flags::PROVED);
            hit.device_id = format!("device-{device:04}").into();
        }
        if device.is_multiple_of(3) {
            hit.user_key = Some(UserKey([0x60 + (device % 2) as u8; 16]));
        }
        hits.push(hit);
    }
    hits
}

/// Returns the IDs of each group, and each owner with the IDs that it owns.
async fn groups(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for column in ["device_group", "proved_group"] {
        let sql = format!(
            "select '{column} ' || string_agg(node::text, ' ' order by node) \
             from avtryck.link_node where {column} <> 0 group by {column} \
             union all \
             select '{column} ' || owner || is_proved || string_agg(node::text, ' ' order by node) \
             from avtryck.device_owner as owner join avtryck.link_node using (device_group) \
             group by device_group, owner, is_proved order by 1"
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        all.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    all
}

async fn group_all(client: &mut Client) {
    while group::settle_some(client).await.unwrap().is_full() {}
}

async fn find_groups_twice() {
    for seed in 1..=5 {
        let all = of_devices(&mut Random(seed));
        let mut found = Vec::new();
        for collectors in [1_usize, 2] {
            let mut postgres = testing::TestDatabase::migrated().await;
            user_key::claim(&postgres.client, &USER_KEYS).await.unwrap();
            let dir = tempfile::tempdir().unwrap();
            let spools: Vec<Spool> = (0..=collectors)
                .map(|number| spool(&dir.path().join(format!("{number}"))))
                .collect();
            let instructions = &spools[collectors];
            let start = |hits: &Spool| Working::start(hits, instructions, &postgres.config);
            let working: Vec<Working> = spools[..collectors].iter().map(start).collect();
            let mut other = postgres.connect().await;
            for (number, some) in all.chunks(17).enumerate() {
                let loader = &working[number % collectors];
                append_all(&loader.spool, some).await;
                // Both jobs run, while either loader adds ties.
                tokio::join!(group_all(&mut postgres.client), group_all(&mut other));
            }
            for loader in &working {
                loader.load(&other, &[]).await;
            }
            tokio::join!(group_all(&mut postgres.client), group_all(&mut other));
            for loader in working {
                loader.stop().await;
            }
            instructions.close();
            found.push(groups(&other).await);
        }
        assert!(found[0].len() > 60, "seed {seed}: {}", found[0].len());
        assert_eq!(found[0], found[1], "seed {seed}");
    }
}

#[tokio::test]
async fn two_collectors_of_one_database_find_the_groups_and_owners_that_one_finds() {
    tokio::task::LocalSet::new()
        .run_until(find_groups_twice())
        .await;
}
