//! Answers the inquiries of the visitor's own page from Postgres, on separate connections that
//! cannot write. A failure here costs the page its figures and nothing else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio_postgres::Client;

use crate::hit::VisitorId;
use crate::hit::subject::{HELD_SHOWN_MAX, Held, Subject};
use crate::inquiry::{ANSWER_TIME_MAX, FILE_TIME_MAX, Inquiry, Piece, Wanted};
use crate::postgres::{Database, subject};

/// About how many bytes of a file are sent at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// Answers until nobody can ask anymore.
pub(super) async fn answer_all(database: Arc<Database>, mut inquiries: mpsc::Receiver<Inquiry>) {
    let mut client = None;
    while let Some(Inquiry { visitors, wanted }) = inquiries.recv().await {
        match wanted {
            // The asker has given up waiting.
            Wanted::Summary(answer) if answer.is_closed() => {}
            Wanted::Summary(answer) => {
                let summary = summarize(&database, &mut client, &visitors);
                match limit_time(ANSWER_TIME_MAX, summary).await {
                    // The asker may be gone by now.
                    Ok(held) => drop(answer.send(held)),
                    Err(error) => {
                        client = None;
                        tracing::debug!("the summary of what is held failed: {error:#}");
                    }
                }
            }
            Wanted::File { pieces, turn } => {
                let database = Arc::clone(&database);
                tokio::task::spawn_local(async move {
                    let written = write(&database, &visitors, &pieces);
                    if let Err(error) = limit_time(FILE_TIME_MAX, written).await {
                        tracing::debug!("a visitor's file was not finished: {error:#}");
                    }
                    drop(turn);
                });
            }
        }
    }
}

/// Fails after a time limit. Each connection has the same limit, so Postgres ends the query by
/// itself.
async fn limit_time<T>(
    time_max: Duration,
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::time::timeout(time_max, answer)
        .await
        .context("it took too long")?
}

async fn summarize(
    database: &Database,
    client: &mut Option<Client>,
    visitors: &[VisitorId],
) -> anyhow::Result<Vec<Held>> {
    let open = client.take().filter(|client| !client.is_closed());
    let client = match open {
        Some(open) => client.insert(open),
        None => client.insert(connect(database, ANSWER_TIME_MAX).await?),
    };
    let mut all = Vec::with_capacity(visitors.len());
    for visitor in visitors {
        all.push(subject::held(client, *visitor, HELD_SHOWN_MAX).await?);
    }
    Ok(all)
}

/// Opens a connection that only reads, and whose queries have a time limit.
async fn connect(database: &Database, query_time_max: Duration) -> anyhow::Result<Client> {
    let client = database.reach_running().await?;
    let limit = query_time_max.as_millis();
    client
        .batch_execute(&format!(
            "set default_transaction_read_only = on; set statement_timeout = {limit}"
        ))
        .await?;
    Ok(client)
}

/// Writes everything that is held about visitors, as one JSON array with an object on each line.
async fn write(
    database: &Database,
    visitors: &[VisitorId],
    pieces: &mpsc::Sender<Piece>,
) -> anyhow::Result<()> {
    let mut client = connect(database, FILE_TIME_MAX).await?;
    let mut text = BytesMut::from(&b"["[..]);
    let mut separator = "\n";
    for visitor in visitors {
        let line = async |line: String| {
            text.extend_from_slice(separator.as_bytes());
            text.extend_from_slice(line.as_bytes());
            separator = ",\n";
            if text.len() >= PIECE_BYTES {
                let piece = Piece::Bytes(text.split().freeze());
                pieces.send(piece).await.context("its reader went away")?;
            }
            anyhow::Ok(())
        };
        subject::export(&mut client, &Subject::Visitor(*visitor), line).await?;
    }
    text.extend_from_slice(b"\n]\n");
    for piece in [Piece::Bytes(text.freeze()), Piece::End] {
        pieces.send(piece).await.context("its reader went away")?;
    }
    Ok(())
}
