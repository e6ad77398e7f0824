//! The signal that decided the permit of a hit.

/// The signal that decided the permit of a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConsentSource {
    /// The site's configured default.
    #[default]
    Default = 1,
    /// The visitor's own choice on this site.
    Choice = 2,
    /// The browser's Global Privacy Control.
    Gpc = 3,
    /// A TCF string.
    Tcf = 4,
    /// A GPP string.
    Gpp = 5,
    /// `gdpr=0`, where the configuration says what it allows.
    Gdpr0 = 6,
    /// A signal or a partner that was meant and is not understood; never in a row.
    Unclear = 7,
}

impl ConsentSource {
    /// Every source.
    pub const ALL: [ConsentSource; 7] = [
        ConsentSource::Default,
        ConsentSource::Choice,
        ConsentSource::Gpc,
        ConsentSource::Tcf,
        ConsentSource::Gpp,
        ConsentSource::Gdpr0,
        ConsentSource::Unclear,
    ];

    /// Returns the word in SQL and in the reply of `/consent`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConsentSource::Default => "default",
            ConsentSource::Choice => "choice",
            ConsentSource::Gpc => "gpc",
            ConsentSource::Tcf => "tcf",
            ConsentSource::Gpp => "gpp",
            ConsentSource::Gdpr0 => "gdpr_0",
            ConsentSource::Unclear => "unclear",
        }
    }

    /// Returns the number in the spool and in Postgres.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the source with that number.
    pub(crate) fn from_number(number: u64) -> Option<ConsentSource> {
        ConsentSource::ALL
            .into_iter()
            .find(|source| u64::from(source.number()) == number)
    }
}
