//! Imports in Postgres: a file's rows and how far it was taken commit together.
//!
//! A portion of rows, and in `import_file` the counts with it, are one transaction. A run that is
//! cut off anywhere goes on after the last portion that committed: the position is the number of
//! rows that are counted. A portion holds the list of suppression as it is ([`suppression`]), so
//! nobody who withdraws meanwhile gets a row afterwards.

pub mod known;
mod merge;
pub mod part;
#[cfg(test)]
mod tests;

use anyhow::ensure;
use tokio_postgres::{Client, GenericClient, Transaction};
use uuid::Uuid;

use crate::attribute::{ATTRIBUTES, AttributeKind};
use crate::import::{CheckedRow, Manifest, RowKey};
use crate::postgres::session_lock;
use crate::postgres::subject::suppression;

/// The advisory lock of an import is this with its name hashed: "import" in ASCII.
const LOCK: i32 = 0x696d_706f;

/// The rows of one transaction.
pub(crate) const PORTION_ROWS: usize = 20_000;

/// How many rows of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportCounts {
    /// Rows in all.
    pub read: u64,
    /// Subjects that had no values.
    pub new: u64,
    /// Subjects that had other values.
    pub changed: u64,
    /// Subjects that had these values.
    pub unchanged: u64,
    /// Rows that are wrong.
    pub rejected: u64,
    /// Rows of subjects that withdrew or were erased.
    pub suppressed: u64,
}

impl ImportCounts {
    /// Returns whether every row is counted once.
    #[must_use]
    pub(crate) fn add_up(&self) -> bool {
        self.read == self.new + self.changed + self.unchanged + self.rejected + self.suppressed
    }

    fn add(&mut self, other: &ImportCounts) {
        self.read += other.read;
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.rejected += other.rejected;
        self.suppressed += other.suppressed;
    }
}

/// What became of a file before this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStanding {
    /// It was taken.
    Taken(ImportCounts, u64),
    /// So many of its rows are done.
    Begun(ImportCounts),
}

/// A file that is being taken.
pub struct ImportFile {
    import: i32,
    file: i32,
    is_area: bool,
    /// The day on which what it says ends.
    valid_until: String,
    /// Whether some of what was said before ends on another day.
    is_renewed: bool,
    /// Whether subjects that it does not name are ended.
    replaces: bool,
    /// What is counted so far.
    pub counts: ImportCounts,
}

/// A row's values in SQL, by what it is about.
fn table(is_area: bool) -> (&'static str, &'static str, &'static str) {
    match is_area {
        true => ("attribute_area", "area", "area"),
        false => ("attribute_value", "subject", "subject, key"),
    }
}

/// Begins to take a file, or goes on with it. Only one process at a time takes files of an import.
///
/// # Errors
/// Where another process is at it, or the import was made with other columns or keys, or for less.
pub async fn begin(
    client: &mut Client,
    manifest: &Manifest,
    sha256: [u8; 32],
    replaces: bool,
) -> anyhow::Result<(ImportFile, FileStanding)> {
    let is_free = session_lock::lock(client, LOCK, &manifest.name).await?;
    ensure!(is_free, "another process takes a file of {}", manifest.name);
    let transaction = client.transaction().await?;
    write_attributes(&transaction).await?;
    let import = write_import(&transaction, manifest, replaces).await?;
    let terms = terms(manifest)?;
    let number = find_file(&transaction, import, (&sha256, &terms), replaces).await?;
    let sql = "select file, done_at is not null, replaces, ended, rows_read, new, changed, unchanged, rejected, suppressed \
               from avtryck.import_file where file = $1";
    let row = transaction.query_one(sql, &[&number]).await?;
    let number = |at| row.try_get::<_, i64>(at).map(i64::cast_unsigned);
    let counts = ImportCounts {
        read: number(4)?,
        new: number(5)?,
        changed: number(6)?,
        unchanged: number(7)?,
        rejected: number(8)?,
        suppressed: number(9)?,
    };
    let standing = match row.try_get(1)? {
        true => FileStanding::Taken(counts, number(3)?),
        false => FileStanding::Begun(counts),
    };
    let as_begun: bool = row.try_get(2)?;
    let is_same =
        as_begun == replaces || counts.read == 0 || matches!(standing, FileStanding::Taken(..));
    ensure!(
        is_same,
        "the file was begun {} --replace; go on so",
        if as_begun { "with" } else { "without" }
    );
    let file = ImportFile {
        is_renewed: has_other_end(&transaction, import, manifest).await?,
        import,
        file: row.try_get(0)?,
        is_area: manifest.key.is_area(),
        valid_until: manifest.valid_until.to_string(),
        replaces,
        counts,
    };
    let sql = "update avtryck.import_file set replaces = $2 where file = $1";
    transaction.execute(sql, &[&file.file, &replaces]).await?;
    transaction.commit().await?;
    Ok((file, standing))
}

/// Returns the digest of what a manifest says of all values of a file.
fn terms(manifest: &Manifest) -> anyhow::Result<[u8; 32]> {
    use sha2::Digest as _;
    let terms = (
        &manifest.supplier,
        &manifest.legal_basis,
        &manifest.purposes,
        manifest.valid_until.to_string(),
    );
    Ok(sha2::Sha256::digest(serde_json::to_vec(&terms)?).into())
}

/// Returns the number of a file. It is the one of before if that is the last that was begun for the
/// import, by a manifest that says the same. After another, what it says is what holds again, so it
/// is taken anew.
async fn find_file(
    transaction: &Transaction<'_>,
    import: i32,
    (digest, terms): (&[u8], &[u8]),
    replaces: bool,
) -> anyhow::Result<i32> {
    // What was taken without ending anybody is taken once more where it is to end those who are
    // not in it.
    let sql = "select file, sha256 = $2 and coalesce(terms, $3) = $3 and (done_at is null or replaces or not $4) \
               from avtryck.import_file where import = $1 order by began_at desc, file desc limit 1";
    if let Some(row) = transaction
        .query_opt(sql, &[&import, &digest, &terms, &replaces])
        .await?
        && row.try_get(1)?
    {
        return Ok(row.try_get(0)?);
    }
    let sql = "insert into avtryck.import_file as held (import, sha256, terms, replaces, began_at) \
               values ($1, $2, $3, $4, clock_timestamp()) \
               on conflict (import, sha256) where done_at is null do update \
               set replaces = excluded.replaces, began_at = excluded.began_at, terms = excluded.terms, rows_read = 0, \
                   new = 0, changed = 0, unchanged = 0, rejected = 0, suppressed = 0 \
               returning file";
    let row = transaction
        .query_one(sql, &[&import, &digest, &terms, &replaces])
        .await?;
    Ok(row.try_get(0)?)
}

/// Returns whether a value of an import ends on another day than its manifest says.
async fn has_other_end(
    transaction: &Transaction<'_>,
    import: i32,
    manifest: &Manifest,
) -> anyhow::Result<bool> {
    let mut others = Vec::new();
    for table in ["attribute_value", "attribute_area"] {
        others.extend(["<", ">"].map(|sign| {
            format!("exists (select from avtryck.{table} where import = $1 and valid_until {sign} $2::text::date)")
        }));
    }
    let untils =
        "exists (select from avtryck.attribute_value where import = $1 and untils is not null)";
    let sql = format!("select {} or {untils}", others.join(" or "));
    let until = manifest.valid_until.to_string();
    // All of them may have the same end, of which statistics say nothing yet.
    transaction
        .batch_execute("set local enable_seqscan = off")
        .await?;
    let row = transaction.query_one(&sql, &[&import, &until]).await?;
    Ok(row.try_get(0)?)
}

/// Brings the table of attributes up to date.
async fn write_attributes(client: &impl GenericClient) -> anyhow::Result<()> {
    for attribute in &ATTRIBUTES {
        let kind = match attribute.kind {
            AttributeKind::Words => "words",
            AttributeKind::Steps => "steps",
            AttributeKind::Number => "number",
            AttributeKind::Hash => "hash",
        };
        let sql = "insert into avtryck.attribute (attribute, key, kind, class, text_sv, text_en, min_group) \
                   values ($1, $2, $3, $4, $5, $6, $7) on conflict (attribute) do update set key = excluded.key, \
                   kind = excluded.kind, class = excluded.class, text_sv = excluded.text_sv, \
                   text_en = excluded.text_en, min_group = excluded.min_group";
        let group = i32::try_from(attribute.min_group)?;
        client
            .execute(
                sql,
                &[
                    &attribute.number,
                    &attribute.key,
                    &kind,
                    &attribute.class.name(),
                    &attribute.text_sv,
                    &attribute.text_en,
                    &group,
                ],
            )
            .await?;
    }
    Ok(())
}

/// Notes an import, if it is new. Values that were imported for one purpose never serve another:
/// one is added only where everything is said anew.
async fn write_import(
    client: &impl GenericClient,
    manifest: &Manifest,
    replaces: bool,
) -> anyhow::Result<i32> {
    let (attributes, kind) = (manifest.attributes(), manifest.key.name());
    let partner = manifest.key.partner();
    let known = "select import, columns = $2 and key_kind = $3 and partner = $4, ended_at is not null, \
                     $5 <@ purposes \
                         or not exists (select from avtryck.attribute_value as held where held.import = import.import) \
                            and not exists (select from avtryck.attribute_area as held where held.import = import.import), \
                     array_to_string(purposes, ', ') \
                 from avtryck.import where name = $1";
    let purposes = &manifest.purposes;
    let row = client
        .query_opt(
            known,
            &[&manifest.name, &attributes, &kind, &partner, purposes],
        )
        .await?;
    if let Some(row) = row {
        let (is_same, is_ended): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
        ensure!(
            is_same,
            "{} has other columns or keys; another name would be right",
            manifest.name
        );
        ensure!(
            !is_ended,
            "{} was ended; another name would be right",
            manifest.name
        );
        let (is_narrow, purposes): (bool, String) = (row.try_get(3)?, row.try_get(4)?);
        ensure!(
            is_narrow || replaces,
            "{} was imported for {purposes}, and what is held may serve nothing else; a file with --replace, or another \
             name, would be right",
            manifest.name
        );
        return Ok(row.try_get(0)?);
    }
    let (from, until) = (
        manifest.valid_from.to_string(),
        manifest.valid_until.to_string(),
    );
    let sql = "insert into avtryck.import (name, supplier, legal_basis, purposes, valid_from, valid_until, \
                   columns, key_kind, partner) \
               values ($1, $2, $3, $4, $5::text::date, $6::text::date, $7, $8, $9) \
               on conflict (name) do update set name = excluded.name returning import";
    let row = client
        .query_one(
            sql,
            &[
                &manifest.name,
                &manifest.supplier,
                &manifest.legal_basis,
                &manifest.purposes,
                &from,
                &until,
                &attributes,
                &kind,
                &partner,
            ],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Has what a manifest says of its import hold from now on.
async fn write_manifest(
    client: &impl GenericClient,
    import: i32,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let sql = "update avtryck.import set supplier = $2, legal_basis = $3, purposes = $4, \
               valid_from = $5::text::date, valid_until = $6::text::date where import = $1";
    let (from, until) = (
        manifest.valid_from.to_string(),
        manifest.valid_until.to_string(),
    );
    client
        .execute(
            sql,
            &[
                &import,
                &manifest.supplier,
                &manifest.legal_basis,
                &manifest.purposes,
                &from,
                &until,
            ],
        )
        .await?;
    Ok(())
}

impl ImportFile {
    /// Notes whom the file names, before its first portion: rows that it does not name are ended
    /// in the end. Earlier notes of the file are forgotten.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn forget_named(&self, client: &Client) -> anyhow::Result<()> {
        let sql = "delete from avtryck.import_named where file = $1";
        client.execute(sql, &[&self.file]).await?;
        Ok(())
    }

    /// Notes some of those whom the file names.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn note_named(
        &self,
        client: &Client,
        rows: &[CheckedRow],
    ) -> anyhow::Result<()> {
        let named: Vec<Uuid> = rows.iter().map(key_of_row).collect();
        let sql = "insert into avtryck.import_named (file, subject) select $1, unnest($2::uuid[])";
        client.execute(sql, &[&self.file, &named]).await?;
        Ok(())
    }

    /// Returns how many of the import's rows the file does not name, and how many there are.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn count_ended(&self, client: &Client) -> anyhow::Result<(u64, u64)> {
        let (table, _, _) = table(self.is_area);
        let sql = format!(
            "select count(*) filter (where not exists (select from avtryck.import_named as named \
                 where named.file = $1 and named.subject = {subject})), count(*) \
             from avtryck.{table} as held where import = $2 and ended_at is null",
            subject = self.subject_in_sql()
        );
        let row = client.query_one(&sql, &[&self.file, &self.import]).await?;
        let (ended, all): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((ended.cast_unsigned(), all.cast_unsigned()))
    }

    fn subject_in_sql(&self) -> &'static str {
        match self.is_area {
            true => "md5(held.area)::uuid",
            false => "held.subject",
        }
    }

    /// Stores a portion, with what is counted of it, in one transaction.
    ///
    /// # Errors
    /// Where Postgres fails; then nothing of the portion is stored.
    pub async fn store(
        &mut self,
        client: &mut Client,
        rows: &[CheckedRow],
        rejected: u64,
    ) -> anyhow::Result<()> {
        let transaction = client.transaction().await?;
        let has_listed = suppression::lock_list(&transaction).await?;
        let mut counts = ImportCounts {
            read: rejected,
            rejected,
            ..ImportCounts::default()
        };
        counts.add(&self.merge_all(&transaction, rows, has_listed).await?);
        ensure!(counts.add_up(), "the counts do not add up: {counts:?}");
        let sql = "update avtryck.import_file set rows_read = rows_read + $2, new = new + $3, changed = changed + $4, \
                   unchanged = unchanged + $5, rejected = rejected + $6, suppressed = suppressed + $7 \
                   where file = $1 and rows_read = $8";
        let ImportCounts {
            read,
            new,
            changed,
            unchanged,
            rejected,
            suppressed,
        } = counts;
        let [read, new, changed, unchanged, rejected, suppressed, before] = [
            read,
            new,
            changed,
            unchanged,
            rejected,
            suppressed,
            self.counts.read,
        ]
        .map(u64::cast_signed);
        let found = transaction
            .execute(
                sql,
                &[
                    &self.file,
                    &read,
                    &new,
                    &changed,
                    &unchanged,
                    &rejected,
                    &suppressed,
                    &before,
                ],
            )
            .await?;
        ensure!(found == 1, "another process went on with the file");
        transaction.commit().await?;
        self.counts.add(&counts);
        Ok(())
    }

    /// Ends the file: what its manifest says holds from now on, and with `--replace` whom it does
    /// not name is ended. Returns how many that were.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub async fn finish(&self, client: &mut Client, manifest: &Manifest) -> anyhow::Result<u64> {
        let transaction = client.transaction().await?;
        write_manifest(&transaction, self.import, manifest).await?;
        let mut ended = 0;
        if self.replaces {
            let (table, _, _) = table(self.is_area);
            let sql = format!(
                "update avtryck.{table} as held set ended_at = now() where {}",
                self.is_ended_in_sql()
            );
            ended = transaction
                .execute(&sql, &[&self.file, &self.import])
                .await?;
            let sql = "delete from avtryck.import_named where file = $1";
            transaction.execute(sql, &[&self.file]).await?;
        }
        let sql = "update avtryck.import_file set done_at = now(), ended = $2 where file = $1";
        transaction
            .execute(sql, &[&self.file, &ended.cast_signed()])
            .await?;
        transaction.commit().await?;
        Ok(ended)
    }

    /// Forgets a file that was begun and of which no row is stored.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn abandon(&self, client: &Client) -> anyhow::Result<()> {
        self.forget_named(client).await?;
        let sql = "delete from avtryck.import_file where file = $1 and rows_read = 0";
        client.execute(sql, &[&self.file]).await?;
        let sql = "delete from avtryck.import where import = $1 \
                   and not exists (select from avtryck.import_file as file where file.import = $1)";
        client.execute(sql, &[&self.import]).await?;
        Ok(())
    }

    /// Counts what storing rows would do, in a transaction that the caller has to take back, and
    /// soon: whoever withdraws waits for its rows. A subject that is there twice is compared twice
    /// with what is stored.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn try_store<'c>(
        &mut self,
        client: &'c mut Client,
        rows: &[CheckedRow],
        rejected: u64,
    ) -> anyhow::Result<Transaction<'c>> {
        let transaction = client.transaction().await?;
        self.counts.read += rejected;
        self.counts.rejected += rejected;
        // Nothing is stored, so the list may change meanwhile.
        let counts = self.merge_all(&transaction, rows, true).await?;
        self.counts.add(&counts);
        Ok(transaction)
    }

    /// Returns the subjects whom the file does not name; those of areas are about nobody.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn find_ended(&self, client: &Client) -> anyhow::Result<Vec<Uuid>> {
        if self.is_area {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select held.subject from avtryck.attribute_value as held where {}",
            self.is_ended_in_sql()
        );
        let rows = client.query(&sql, &[&self.file, &self.import]).await?;
        let subjects = rows.iter().map(|row| row.try_get(0));
        Ok(subjects.collect::<Result<_, _>>()?)
    }

    /// Ends what the import says of some subjects, in a transaction that the caller has to take
    /// back.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn try_end<'c>(
        &self,
        client: &'c mut Client,
        subjects: &[Uuid],
    ) -> anyhow::Result<Transaction<'c>> {
        let transaction = client.transaction().await?;
        // By subject, as `held_of_row` says.
        let sql = "update avtryck.attribute_value set ended_at = now() where import + 0 = $1 and subject = any($2)";
        transaction.execute(sql, &[&self.import, &subjects]).await?;
        Ok(transaction)
    }

    /// Returns the condition of a row, `held`, that the file ($1) ends of the import ($2).
    fn is_ended_in_sql(&self) -> String {
        format!(
            "import = $2 and ended_at is null and not exists (select from avtryck.import_named as named \
                 where named.file = $1 and named.subject = {subject})",
            subject = self.subject_in_sql()
        )
    }
}

/// Returns the subjects of rows; those of areas are about nobody.
#[must_use]
pub(crate) fn subjects(rows: &[CheckedRow]) -> Vec<Uuid> {
    let subject = |row: &CheckedRow| match &row.key {
        RowKey::Subject(node, _) => Some(Uuid::from_bytes(*node)),
        RowKey::Area(_) => None,
    };
    rows.iter().filter_map(subject).collect()
}

/// Returns what `import_named` knows a row by.
fn key_of_row(row: &CheckedRow) -> Uuid {
    match &row.key {
        RowKey::Subject(node, _) => Uuid::from_bytes(*node),
        // As Postgres's md5() makes it.
        RowKey::Area(area) => {
            use md5::Digest as _;
            Uuid::from_bytes(md5::Md5::digest(area).into())
        }
    }
}
