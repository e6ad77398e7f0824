//! Why ties go.

use tokio_postgres::{Error, Transaction};

/// Why device groups lost a tie, as `link_regroup.reason` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The subject of an ID said no.
    Withdrawal,
    /// It was erased.
    Erasure,
    /// The two were not seen together for long.
    Expiry,
    /// The rules of today would not make the tie.
    Rule,
    /// An ID has more ties than one device can have.
    Hub,
    /// A visitor said that the two are not one device.
    NotMine,
    /// A visitor asked for it.
    Forgotten,
    /// Nobody said why.
    Other,
}

impl Loss {
    /// Every reason.
    pub(crate) const ALL: [Loss; 8] = [
        Loss::Withdrawal,
        Loss::Erasure,
        Loss::Expiry,
        Loss::Rule,
        Loss::Hub,
        Loss::NotMine,
        Loss::Forgotten,
        Loss::Other,
    ];

    /// Returns the word in SQL.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Loss::Withdrawal => "withdrawal",
            Loss::Erasure => "erasure",
            Loss::Expiry => "expiry",
            Loss::Rule => "rule",
            Loss::Hub => "hub",
            Loss::NotMine => "not_mine",
            Loss::Forgotten => "forgotten",
            Loss::Other => "other",
        }
    }

    /// Returns the reason with that word.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Loss {
        let mut all = Loss::ALL.into_iter();
        all.find(|loss| loss.name() == name).unwrap_or(Loss::Other)
    }

    /// Returns what `link_change` says of an ID that came elsewhere by it: what somebody asked for
    /// of one ID is no reason to tell the others of.
    #[must_use]
    pub(super) fn change(self) -> &'static str {
        match self {
            Loss::Expiry | Loss::Rule => self.name(),
            _ => "split",
        }
    }

    /// Makes the transaction note it as the reason of the ties that it deletes from now on.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn note(self, transaction: &Transaction<'_>) -> Result<(), Error> {
        note(transaction, self.name()).await
    }
}

/// The same for a reason by its word.
pub(super) async fn note(transaction: &Transaction<'_>, reason: &str) -> Result<(), Error> {
    let sql = "select set_config('avtryck.reason', $1, true)";
    transaction.execute(sql, &[&reason]).await?;
    Ok(())
}
