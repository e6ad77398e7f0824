//! Answers the inquiries of the visitor's own page from Postgres, on separate connections. Only one
//! that is opened for a contradiction can write. A failure here costs the page its figures and
//! nothing else.
//!
//! Files are read a page at a time, and while a page waits for its reader nothing is done in
//! Postgres: [`FILE_CONNECTIONS`] connections are enough for all of them, whose pages take turns.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};
use tokio_postgres::Client;

use crate::hit::belief::{GROUPS_NEEDED, PageScope, Wish};
use crate::hit::subject::{HELD_SHOWN_MAX, Held, Subject};
use crate::hit::{Permit, VisitorId};
use crate::identity::LinkPermit;
use crate::inquiry::{
    ANSWER_TIME_MAX, Contradiction, FILE_TIME_MAX, FileInquiry, Inquiries, Inquiry, Piece, Question,
};
use crate::postgres::identity::{self, Removal};
use crate::postgres::subject::{self, Export, HeldReader};
use crate::postgres::{Database, FILE_CONNECTIONS, household, segment};

/// About how many bytes of a file are sent at a time.
const PIECE_BYTES: usize = 32 * 1024;
/// How long one statement of a summary may take: it reads a bounded number of rows.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(1);

/// Drops what is asked, which its asker notices: there is no Postgres here. Never returns.
pub(super) async fn refuse_all(mut inquiries: Inquiries) {
    loop {
        drop(inquiries.next().await);
    }
}

/// Answers, as long as it is polled.
pub(super) async fn answer_all(database: Arc<Database>, mut inquiries: Inquiries) {
    let mut reader = None;
    let files = Rc::new(FileConnections::new(Arc::clone(&database)));
    loop {
        match inquiries.next().await {
            Inquiry::Question(question) => answer(&database, &mut reader, question).await,
            Inquiry::File(file) => {
                let files = Rc::clone(&files);
                tokio::task::spawn_local(async move { files.write(file).await });
            }
        }
    }
}

async fn answer(database: &Database, reader: &mut Option<HeldReader>, question: Question) {
    let Question {
        visitors,
        scope,
        contradiction,
        answer,
    } = question;
    if answer.is_closed() {
        // The asker has given up waiting.
        return;
    }
    let summary = async {
        let Some(contradiction) = contradiction else {
            return summarize(database, reader, &visitors, &scope).await;
        };
        // What its asker was told is not done is not done.
        let is_gone = || answer.is_closed();
        let done = contradict(database, &visitors, &scope, &contradiction, is_gone).await;
        // One entry says that something was done.
        done.map(|is_done| match is_done {
            true => vec![Held::default()],
            false => Vec::new(),
        })
    };
    match limit_time(ANSWER_TIME_MAX, summary).await {
        // The asker may be gone by now.
        Ok(held) => drop(answer.send(Ok(held))),
        Err(error) => {
            *reader = None;
            tracing::debug!("the summary of what is held failed: {error:#}");
        }
    }
}

/// Fails after a time limit.
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
    reader: &mut Option<HeldReader>,
    visitors: &[VisitorId],
    scope: &PageScope,
) -> anyhow::Result<Vec<Held>> {
    let open = reader.take().filter(|reader| !reader.is_closed());
    let reader = match open {
        Some(open) => reader.insert(open),
        None => {
            let client = connect(database).await?;
            let limit = STATEMENT_TIME_MAX.as_millis();
            let limit = format!("set statement_timeout = {limit}");
            client.batch_execute(&limit).await?;
            reader.insert(HeldReader::new(client).await?)
        }
    };
    let mut all = Vec::with_capacity(visitors.len());
    for visitor in visitors {
        all.push(reader.read(*visitor, scope, HELD_SHOWN_MAX).await?);
    }
    Ok(all)
}

/// Does what visitors say against what is believed of them: nothing where the request or what is
/// stored of their permits does not show it to them. Returns whether anything was done.
async fn contradict(
    database: &Database,
    visitors: &[VisitorId],
    scope: &PageScope,
    contradiction: &Contradiction,
    is_gone: impl Fn() -> bool,
) -> anyhow::Result<bool> {
    let Contradiction {
        wish,
        number,
        is_meant,
    } = contradiction;
    let needed = match wish {
        Wish::NotMine | Wish::Forget => LinkPermit::NEEDED,
        Wish::LeaveHome => LinkPermit::NEEDED.with(Permit::LOCATE),
        // Whoever permits nothing may refuse.
        Wish::NeverHome | Wish::LeaveGroup | Wish::LeaveGroups | Wish::RefuseSupplier => {
            Permit::NONE
        }
        Wish::TakeBackGroup | Wish::TakeBackGroups | Wish::TakeBackSupplier => GROUPS_NEEDED,
    };
    if !scope.permit.allows(needed) {
        return Ok(false);
    }
    let mut client = database.reach_running().await?;
    identity::own::set_up(&client, STATEMENT_TIME_MAX.as_millis()).await?;
    let mut has_done = false;
    for visitor in visitors {
        let transaction = client.transaction().await?;
        let of = (*visitor, &*scope.site);
        let is_done = match wish {
            Wish::NotMine | Wish::Forget => {
                let reason = match wish {
                    Wish::NotMine => Removal::NotMine,
                    _ => Removal::Forgotten,
                };
                identity::own::contradict(&transaction, of, reason, is_meant).await?
            }
            Wish::LeaveHome | Wish::NeverHome => {
                household::own::contradict(&transaction, of, *wish).await?
            }
            Wish::LeaveGroup | Wish::LeaveGroups | Wish::RefuseSupplier => {
                let of = (*visitor, scope);
                segment::own::object(&transaction, of, (*wish, *number)).await?
            }
            Wish::TakeBackGroup | Wish::TakeBackGroups | Wish::TakeBackSupplier => {
                let of = (*visitor, scope);
                segment::own::take_back(&transaction, of, (*wish, *number)).await?
            }
        };
        if is_done && !is_gone() {
            transaction.commit().await?;
            has_done = true;
        }
    }
    Ok(has_done)
}

/// Opens a connection that only reads.
async fn connect(database: &Database) -> anyhow::Result<Client> {
    let client = database.reach_running().await?;
    client
        .batch_execute("set default_transaction_read_only = on")
        .await?;
    Ok(client)
}

/// The connections that files are read over.
struct FileConnections {
    database: Arc<Database>,
    /// One for each connection that may be in use.
    free: Semaphore,
    /// Those that are open and not in use.
    idle: RefCell<Vec<Client>>,
    /// How many files are being written.
    files: Cell<usize>,
}

impl FileConnections {
    fn new(database: Arc<Database>) -> FileConnections {
        FileConnections {
            database,
            free: Semaphore::new(FILE_CONNECTIONS.into()),
            idle: RefCell::default(),
            files: Cell::default(),
        }
    }

    async fn write(&self, file: FileInquiry) {
        let FileInquiry {
            visitors,
            pieces,
            turn,
        } = file;
        self.files.set(self.files.get() + 1);
        let written = self.write_pieces(&visitors, &pieces);
        if let Err(error) = limit_time(FILE_TIME_MAX, written).await {
            tracing::debug!("a visitor's file was not finished: {error:#}");
        }
        drop(turn);
        self.files.set(self.files.get() - 1);
        if self.files.get() == 0 {
            self.idle.borrow_mut().clear();
        }
    }

    /// Writes everything that is held about visitors, as one JSON array with an object on each
    /// line.
    async fn write_pieces(
        &self,
        visitors: &[VisitorId],
        pieces: &mpsc::Sender<Piece>,
    ) -> anyhow::Result<()> {
        let send = async |piece| pieces.send(piece).await.context("its reader went away");
        let mut begun = false;
        let mut separator = "\n";
        for visitor in visitors {
            let mut export = Export::new(Subject::Visitor(*visitor));
            while let Some(lines) = self.next_page(&mut export).await? {
                // That Postgres answers is known now.
                if !begun {
                    begun = true;
                    send(Piece::Bytes(Bytes::from_static(b"["))).await?;
                }
                let mut text = BytesMut::new();
                for line in lines {
                    text.extend_from_slice(separator.as_bytes());
                    text.extend_from_slice(line.as_bytes());
                    separator = ",\n";
                    if text.len() >= PIECE_BYTES {
                        send(Piece::Bytes(text.split().freeze())).await?;
                    }
                }
                if !text.is_empty() {
                    send(Piece::Bytes(text.freeze())).await?;
                }
            }
        }
        let end: &[u8] = if begun { b"\n]\n" } else { b"[\n]\n" };
        send(Piece::Bytes(Bytes::from_static(end))).await?;
        send(Piece::End).await
    }

    /// Reads the next page over a connection, which is free for the pages of others afterwards.
    async fn next_page(&self, export: &mut Export<'_>) -> anyhow::Result<Option<Vec<String>>> {
        let free = self.free.acquire().await?;
        let idle = self.idle.borrow_mut().pop();
        let client = match idle.filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let client = connect(&self.database).await?;
                subject::set_up(&client).await?;
                client
            }
        };
        let page = export.next(&client).await?;
        self.idle.borrow_mut().push(client);
        drop(free);
        Ok(page)
    }
}
