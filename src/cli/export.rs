//! `avtryck export`: tells partners and webhooks who is in which segment.
//!
//! It is a process of its own, so the collector opens no connection to anybody. Killed at any
//! point it goes on where it was, and what may have arrived is sent again under the same ID.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use tokio_postgres::Client;

use super::UsageError;
use super::migrate::with_database;
use crate::config::{Config, Partner, Webhook};
use crate::export::{Delivery, ExportId, Folder, HttpsPost, NotTaken};
use crate::postgres::export::compare::{MemberComparison, ToldPartner};
use crate::postgres::export::{self, webhook_target};

/// The pause before it is looked again whether there is anything to send.
const PERIOD: Duration = Duration::from_secs(30);
/// The first pause after a failure. Each later one is twice as long, up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(5);

/// Tell a partner or a webhook who is in which segment: removals at once, who came each hour, and
/// everything each week. It runs until it is stopped.
#[derive(clap::Args)]
pub(super) struct ExportCommand {
    /// The partner, by its key.
    #[arg(
        long,
        value_name = "KEY",
        required_unless_present = "webhook",
        conflicts_with = "webhook"
    )]
    partner: Option<String>,
    /// The webhook, by its key.
    #[arg(long, value_name = "KEY")]
    webhook: Option<String>,
    /// Send what is due, then end. Exit status 1 if something did not arrive.
    #[arg(long)]
    once: bool,
    /// Send the partner everything, whenever that was done last. A webhook is told of changes
    /// alone.
    // A clap rule that requires `partner` is lifted where `webhook` rules that out.
    #[arg(long, conflicts_with = "webhook")]
    full: bool,
}

/// Who is told.
enum Receiver {
    Partner(ToldPartner, Option<MemberComparison>),
    Webhook(String),
}

/// How deliveries get there.
enum Way {
    Post(HttpsPost),
    Folder(Folder),
}

impl ExportCommand {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let (mut receiver, way) = match (&self.partner, &self.webhook) {
            (Some(key), _) => find_partner(config, key)?,
            (None, Some(key)) => find_webhook(config, key)?,
            (None, None) => {
                return Err(UsageError("neither --partner nor --webhook".to_owned()).into());
            }
        };
        with_database(config, async |client| {
            let target = receiver.target();
            ensure!(
                export::claim(client, &target).await?,
                "another process sends to {target}"
            );
            if self.full {
                export::begin_full(client, &target).await?;
            }
            send_all(client, config, &mut receiver, &way, self.once).await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn find_partner(config: &Config, key: &str) -> anyhow::Result<(Receiver, Way)> {
    let mut partners = config.partners.iter();
    let Some(partner) = partners.find(|partner| partner.key == key) else {
        return Err(UsageError(format!("--partner: {key} is the key of no [[partner]]")).into());
    };
    let way = match &partner.export_dir {
        Some(dir) => Way::Folder(Folder(dir.clone())),
        None if partner.export_url.is_empty() => {
            let error = format!("partner {key} has no export_url and no export_dir");
            return Err(UsageError(error).into());
        }
        None => Way::Post(HttpsPost::new(&partner.export_url, &partner.export_secret)?),
    };
    if partner.export_id == ExportId::None {
        tracing::warn!("partner {key} has no export_id, so it is told nothing but removals");
    }
    Ok((
        Receiver::Partner(describe_partner(config, partner), None),
        way,
    ))
}

fn describe_partner(config: &Config, partner: &Partner) -> ToldPartner {
    let segments = config.segments.iter();
    let told = segments.filter(|segment| segment.partners.contains(&partner.key));
    ToldPartner {
        key: partner.key.clone(),
        id: partner.export_id,
        export_key: partner.export_key.clone(),
        segments: told.map(|segment| segment.key.clone()).collect(),
    }
}

fn find_webhook(config: &Config, key: &str) -> anyhow::Result<(Receiver, Way)> {
    let mut webhooks = config.webhooks.iter();
    let Some(Webhook { url, secret, .. }) = webhooks.find(|webhook| webhook.key == key) else {
        return Err(UsageError(format!("--webhook: {key} is the key of no [[webhook]]")).into());
    };
    let way = Way::Post(HttpsPost::new(url, secret)?);
    Ok((Receiver::Webhook(key.to_owned()), way))
}

/// Sends what there is, until nothing is left where `is_once`.
async fn send_all(
    client: &mut Client,
    config: &Config,
    receiver: &mut Receiver,
    way: &Way,
    is_once: bool,
) -> anyhow::Result<()> {
    let webhooks: Vec<(&str, &[String])> = config
        .webhooks
        .iter()
        .map(|webhook| (&*webhook.key, &*webhook.segments))
        .collect();
    let target = receiver.target();
    let mut retry_pause = RETRY_PAUSE;
    loop {
        if matches!(receiver, Receiver::Webhook(_)) {
            // A segment has its number once it was evaluated.
            export::note_webhooks(client, &webhooks).await?;
        }
        let Some(delivery) = receiver.next(client).await? else {
            if is_once {
                return Ok(());
            }
            tokio::time::sleep(PERIOD).await;
            continue;
        };
        let (number, kind) = (delivery.number, delivery.kind.name());
        match way.send(&delivery).await {
            Ok(()) => {
                export::finish(client, &target, &delivery).await?;
                let lines = delivery.lines.len();
                tracing::info!(%target, number, kind, lines, "a delivery arrived");
                retry_pause = RETRY_PAUSE;
            }
            Err(error) if is_once => {
                return Err(error.context(format!("delivery {number} to {target}")));
            }
            Err(error) => {
                let asked = error
                    .downcast_ref()
                    .and_then(|no: &NotTaken| no.retry_after);
                let pause = retry_pause.max(asked.unwrap_or_default().min(RETRY_PAUSE_MAX));
                tracing::warn!(
                    %target,
                    number,
                    kind,
                    "a delivery did not arrive and is sent again in {} s: {error:#}",
                    pause.as_secs()
                );
                tokio::time::sleep(pause).await;
                retry_pause = (retry_pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
    }
}

impl Receiver {
    fn target(&self) -> String {
        match self {
            Receiver::Partner(partner, _) => partner.key.clone(),
            Receiver::Webhook(webhook) => webhook_target(webhook),
        }
    }

    async fn next(&mut self, client: &mut Client) -> anyhow::Result<Option<Delivery>> {
        match self {
            Receiver::Partner(partner, under_way) => {
                export::next_for_partner(client, partner, under_way).await
            }
            Receiver::Webhook(webhook) => export::next_for_webhook(client, webhook).await,
        }
    }
}

impl Way {
    async fn send(&self, delivery: &Delivery) -> anyhow::Result<()> {
        match self {
            Way::Post(post) => post.send(delivery).await,
            Way::Folder(folder) => folder.put(delivery),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use crate::cli::Arguments;

    #[test]
    fn everything_is_sent_to_partners_alone() {
        for (arguments, mistake) in [
            (&["--partner", "net", "--full"][..], None),
            (&["--webhook", "crm", "--once"][..], None),
            (
                &["--webhook", "crm", "--full"][..],
                Some(ErrorKind::ArgumentConflict),
            ),
            (&["--full"][..], Some(ErrorKind::MissingRequiredArgument)),
        ] {
            let line = ["avtryck", "export"].iter().chain(arguments).copied();
            let parsed = Arguments::try_parse_from(line);
            let kind = parsed.err().map(|error| error.kind());
            assert_eq!(kind, mistake, "{arguments:?}");
        }
    }
}
