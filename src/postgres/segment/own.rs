//! The groups that a visitor is in, what is imported of them, and what they say against it.
//!
//! It is about the visitor whom a cookie proves. With ties it is also about the devices that the
//! page shows as theirs ([`DEVICES`]) and about the one user who is logged in, as somebody vouches:
//! nobody is shown the groups of another by naming their ID.

use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};
use uuid::Uuid;

use crate::clock::UnixMicros;
use crate::hit::VisitorId;
use crate::hit::belief::{
    AttributeBelief, DEVICES_SHOWN_MAX, GroupBelief, GroupBeliefs, ObjectionBelief, PageScope, Wish,
};
use crate::identity::LinkPermit;
use crate::postgres::identity;
use crate::postgres::identity::own::{DEVICES, read_device};

/// Reads what a visitor's page shows of groups and of imported data.
///
/// # Errors
/// Where Postgres fails.
pub async fn read(
    client: &Client,
    visitor: VisitorId,
    scope: &PageScope,
) -> Result<GroupBeliefs, Error> {
    let own = subjects(client, visitor, scope).await?;
    let groups = client
        .query(include_str!("own/groups.sql"), &[&own])
        .await?;
    let attributes = client
        .query(include_str!("own/attributes.sql"), &[&own])
        .await?;
    let sql = "select coalesce(bool_or(kind = 'segments'), false), \
                      coalesce(bool_or(kind <> 'supplier' and at > now() - interval '5 minutes'), false), \
                      coalesce(bool_or(kind = 'supplier' and at > now() - interval '5 minutes'), false) \
               from avtryck.objection where subject = any($1)";
    let said = client.query_one(sql, &[&own]).await?;
    let sql = include_str!("own/objections.sql");
    let objections = client.query(sql, &[&own]).await?;
    Ok(GroupBeliefs {
        groups: groups.iter().map(read_group).collect::<Result<_, _>>()?,
        attributes: attributes
            .iter()
            .map(read_attribute)
            .collect::<Result<_, _>>()?,
        objections: objections
            .iter()
            .map(read_objection)
            .collect::<Result<_, _>>()?,
        is_never: said.try_get(0)?,
        has_left: said.try_get(1)?,
        has_objected: said.try_get(2)?,
    })
}

/// Notes what a visitor objects to, which takes effect in the same transaction. Returns whether
/// there was anything to object to. It is for the caller to commit.
///
/// # Errors
/// Where Postgres fails.
pub async fn object(
    transaction: &Transaction<'_>,
    (visitor, scope): (VisitorId, &PageScope),
    (wish, number): (Wish, i32),
) -> Result<bool, Error> {
    // The lock under which segments are evaluated.
    identity::lock(transaction).await?;
    let kind = match wish {
        Wish::LeaveGroup => "segment",
        Wish::LeaveGroups => "segments",
        Wish::RefuseSupplier => "supplier",
        _ => return Ok(false),
    };
    let own = subjects(transaction, visitor, scope).await?;
    let sql = include_str!("own/object.sql");
    let noted = transaction.execute(sql, &[&own, &kind, &number]).await?;
    Ok(noted > 0)
}

/// Takes back what a visitor objects to; who is in a group is evaluated anew. What a supplier said
/// comes back with its next import only. Returns whether there was such an objection. It is for the
/// caller to commit.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn take_back(
    transaction: &Transaction<'_>,
    (visitor, scope): (VisitorId, &PageScope),
    (wish, number): (Wish, i32),
) -> Result<bool, Error> {
    identity::lock(transaction).await?;
    let kind = match wish {
        Wish::TakeBackGroup => "segment",
        Wish::TakeBackGroups => "segments",
        Wish::TakeBackSupplier => "supplier",
        _ => return Ok(false),
    };
    let own = subjects(transaction, visitor, scope).await?;
    let sql = include_str!("own/take_back.sql");
    let taken = transaction.execute(sql, &[&own, &kind, &number]).await?;
    if taken > 0 {
        let sql = "select avtryck.touch_subjects(array(select avtryck.subjects_touched_with($1)))";
        transaction.execute(sql, &[&own]).await?;
    }
    Ok(taken > 0)
}

/// Returns the subjects that a visitor is, as far as the request permits.
async fn subjects(
    client: &impl GenericClient,
    visitor: VisitorId,
    scope: &PageScope,
) -> Result<Vec<Uuid>, Error> {
    let node = Uuid::from_bytes(visitor.0);
    let is_linked = LinkPermit::new(scope.permit).is_some();
    let mut devices = Vec::new();
    if is_linked {
        let sql: &str = DEVICES;
        let rows = client
            .query(sql, &[&node, &scope.site, &DEVICES_SHOWN_MAX])
            .await?;
        for row in &rows {
            devices.push(Uuid::from_bytes(read_device(row)?.node));
        }
    }
    let sql = include_str!("own/subjects.sql");
    let rows = client
        .query(sql, &[&node, &scope.site, &devices, &is_linked])
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn read_group(row: &Row) -> Result<GroupBelief, Error> {
    Ok(GroupBelief {
        number: row.try_get("number")?,
        names: [row.try_get("name_sv")?, row.try_get("name_en")?],
        reasons: [row.try_get("reason_sv")?, row.try_get("reason_en")?],
        since: UnixMicros(row.try_get("since")?),
    })
}

fn read_objection(row: &Row) -> Result<ObjectionBelief, Error> {
    let number = row.try_get("number")?;
    Ok(match row.try_get("supplier")? {
        Some(supplier) => ObjectionBelief::Supplier {
            import: number,
            supplier,
        },
        None => ObjectionBelief::Group {
            number,
            names: [row.try_get("name_sv")?, row.try_get("name_en")?],
        },
    })
}

fn read_attribute(row: &Row) -> Result<AttributeBelief, Error> {
    Ok(AttributeBelief {
        import: row.try_get("import")?,
        supplier: row.try_get("supplier")?,
        legal_basis: row.try_get("legal_basis")?,
        attribute: row.try_get("attribute")?,
        value: row.try_get("value")?,
        changed_at: UnixMicros(row.try_get("changed_at")?),
        valid_until: row.try_get("valid_until")?,
    })
}

#[cfg(test)]
mod tests;
