//! SQL says the same as [`crate::hit`]: what counts, and the names of flags, permits, kinds and
//! sources of consent.

use super::*;
use crate::endpoint::Protocol;
use crate::hit::Outcome;

/// Every number that a permit may have.
const PERMITS: u8 = Permit::ALL.bits() + 1;

/// Sets of flags, those that no row has included: none, each pair, each alone, and all.
fn flag_sets() -> Vec<Flags> {
    let all = || Flags::ALL.into_iter().map(|(_, flag)| flag);
    let pairs = all().flat_map(|one| all().map(move |other| one.with(other)));
    let whole = all().fold(Flags::default(), Flags::with);
    pairs.chain([Flags::default(), whole]).collect()
}

/// For each set of flags whether SQL counts hits with it, and its names.
async fn read_flags(client: &Client) -> Vec<(Flags, bool, Vec<String>)> {
    let sql = "select avtryck.is_counted(flags), avtryck.flag_names(flags) \
               from unnest($1::int[]) with ordinality as sets (flags, number) order by number";
    let sets = flag_sets();
    let numbers: Vec<i32> = sets.iter().map(|set| set.bits().cast_signed()).collect();
    let rows = client.query(sql, &[&numbers]).await.unwrap();
    sets.into_iter()
        .zip(&rows)
        .map(|(set, row)| (set, row.get(0), row.get(1)))
        .collect()
}

/// The names of each permit in the order of its number.
async fn read_permits(client: &Client) -> Vec<Vec<String>> {
    let sql = "select avtryck.permit_names(permit::smallint) \
               from generate_series(0, $1::int - 1) as permit order by permit";
    let rows = client.query(sql, &[&i32::from(PERMITS)]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn permit_of(bits: u8) -> Permit {
    let set = Permit::NAMED
        .iter()
        .filter(|(_, flag)| bits & flag.bits() != 0);
    set.fold(Permit::NONE, |permit, (_, flag)| permit.with(*flag))
}

#[tokio::test]
async fn sql_decides_what_becomes_of_a_hit_as_the_loader_does() {
    let database = TestDatabase::migrated().await;
    let by_flags = read_flags(&database.client).await;
    let by_permit = read_permits(&database.client).await;
    assert_eq!(by_flags.len(), flag_sets().len());
    assert_eq!(by_permit.len(), usize::from(PERMITS));
    let mut found = [0; Outcome::ALL.len()];
    for (permit, names) in (0..PERMITS).map(permit_of).zip(&by_permit) {
        let is_measured = names.iter().any(|name| name == "measure");
        for (flags, is_counted, _) in &by_flags {
            let outcome = Outcome::of(Kind::Impression, *flags, permit);
            let in_sql = match (is_measured, is_counted) {
                (true, _) => Outcome::Row,
                (false, true) => Outcome::Count,
                (false, false) => Outcome::Nothing,
            };
            assert_eq!(outcome, in_sql, "flags {flags}, permit {permit}");
            found[outcome as usize] += 1;
        }
    }
    assert!(found.iter().all(|hits| *hits > 0), "{found:?}");
}

#[tokio::test]
async fn sql_gives_every_flag_and_permit_its_name() {
    let database = TestDatabase::migrated().await;
    for (flags, _, names) in read_flags(&database.client).await {
        assert_eq!(names.join("."), flags.to_string());
    }
    for (bits, names) in (0..PERMITS).zip(read_permits(&database.client).await) {
        let permit = permit_of(bits);
        assert_eq!(permit.bits(), bits);
        assert_eq!(names, permit.names().collect::<Vec<_>>(), "permit {bits}");
    }
}

#[tokio::test]
async fn sql_gives_every_kind_and_source_of_consent_its_name() {
    let database = TestDatabase::migrated().await;
    let sql = "select avtryck.kind_name($1), avtryck.consent_source_name($1)";
    let statement = database.client.prepare(sql).await.unwrap();
    let numbers = Kind::ALL.len().max(ConsentSource::ALL.len()) + 1;
    for number in 0..=i16::try_from(numbers).unwrap() {
        let row = database.client.query_one(&statement, &[&number]).await;
        let row = row.unwrap();
        let kinds = Kind::ALL.into_iter().filter(|kind| !kind.is_instruction());
        let kind = kinds
            .filter(|kind| i16::from(kind.number()) == number)
            .map(Kind::name)
            .next();
        assert_eq!(row.get::<_, Option<&str>>(0), kind, "{number}");
        let source = ConsentSource::ALL
            .into_iter()
            .filter(|source| i16::from(source.number()) == number)
            .map(ConsentSource::name)
            .next();
        assert_eq!(row.get::<_, Option<&str>>(1), source, "{number}");
    }
}

#[tokio::test]
async fn sql_gives_every_protocol_its_name() {
    let database = TestDatabase::migrated().await;
    let sql = "select avtryck.protocol_name(nullif($1, 0::smallint))";
    let statement = database.client.prepare(sql).await.unwrap();
    for number in 0..=i16::try_from(Protocol::ALL.len()).unwrap() {
        let row = database.client.query_one(&statement, &[&number]).await;
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| i16::from(*protocol as u8) == number);
        let name = row.unwrap().get::<_, Option<String>>(0);
        assert_eq!(name.as_deref(), protocol.map(Protocol::name), "{number}");
    }
}

#[tokio::test]
async fn people_can_query_every_column_of_a_hit_and_of_its_dimensions() {
    let database = TestDatabase::migrated().await;
    let sql = "select array_agg(table_name || '.' || column_name order by table_name, column_name) \
         from information_schema.columns as wanted where table_schema = 'avtryck' \
         and (table_name = 'hit' or exists (select from information_schema.columns as hit \
             where hit.table_schema = 'avtryck' and hit.table_name = 'hit' \
             and hit.column_name = wanted.table_name || '_key')) \
         and column_name not in ('is_keyed', 'last_seen', 'named_by') \
         and not exists (select from information_schema.view_column_usage as usage \
             where usage.view_schema = 'avtryck' and usage.view_name = 'hit_detail' \
             and usage.table_schema = 'avtryck' and usage.table_name = wanted.table_name \
             and usage.column_name = wanted.column_name)";
    let forgotten = database.client.query_one(sql, &[]).await.unwrap();
    assert_eq!(forgotten.get::<_, Option<Vec<String>>>(0), None);
}

#[tokio::test]
async fn acts_and_faults_of_hits_about_ads_fit_into_the_numbers_of_ad_hour() {
    let database = TestDatabase::migrated().await;
    let sql = "select avtryck.fault_mask() between 1 and (1 << 22) - 1 and cardinality(avtryck.ad_acts()) < 16";
    let fits: bool = database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(fits);
}
