//! What the collector does at each signal that somebody may send.
//!
//! | signals | what it does |
//! | --- | --- |
//! | SIGHUP | reloads |
//! | SIGTERM, SIGINT, SIGQUIT, SIGPWR, SIGXCPU | stops as a stop is meant: requests are answered, the spool is closed |
//! | SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT | says in the log that they mean nothing here |
//! | the realtime signals | nothing: every command holds them back from its start |
//! | SIGPIPE, SIGXFSZ | nothing: the write that caused it fails, and its error is handled |
//! | SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP | left to the system, because they report a fault of the program |
//! | SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT | left to the system: the shell's job control |
//!
//! All but the second row are obeyed from the first moment of a start. Until the collector serves,
//! nothing is lost if the system ends it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Read the configuration again.
    Reload,
    /// End.
    Stop,
}

/// What is done at a signal.
#[derive(Clone, Copy)]
enum Action {
    /// The collector does what it asks for.
    Obey(Event),
    /// The log says why nothing happens.
    Explain(&'static str),
    /// Nothing is worth saying.
    Ignore,
}

/// What those who send a signal without a meaning here may have wanted.
const NO_MEANING: &str = "it means nothing here";

/// Every signal that is obeyed or explained. Rust ignores SIGPIPE.
const SIGNALS: [(Number, &str, Action); 14] = [
    (Number::HUP, "SIGHUP", Action::Obey(Event::Reload)),
    (Number::TERM, "SIGTERM", Action::Obey(Event::Stop)),
    (Number::INT, "SIGINT", Action::Obey(Event::Stop)),
    (Number::QUIT, "SIGQUIT", Action::Obey(Event::Stop)),
    (Number::POWER, "SIGPWR", Action::Obey(Event::Stop)),
    (Number::XCPU, "SIGXCPU", Action::Obey(Event::Stop)),
    (
        Number::USR1,
        "SIGUSR1",
        Action::Explain("the log goes to standard error, so there is no file to open again"),
    ),
    (
        Number::USR2,
        "SIGUSR2",
        Action::Explain("`avtryck serve --take-over` starts another version in place of this one"),
    ),
    (Number::ALARM, "SIGALRM", Action::Explain(NO_MEANING)),
    (Number::VTALARM, "SIGVTALRM", Action::Explain(NO_MEANING)),
    (Number::PROF, "SIGPROF", Action::Explain(NO_MEANING)),
    (Number::IO, "SIGIO", Action::Explain(NO_MEANING)),
    (Number::STKFLT, "SIGSTKFLT", Action::Explain(NO_MEANING)),
    (Number::XFSZ, "SIGXFSZ", Action::Ignore),
];

/// Receives signals.
pub(super) struct ProcessSignals(Vec<Received>);

/// One signal as it is received.
struct Received {
    signal: Signal,
    name: &'static str,
    action: Action,
}

impl ProcessSignals {
    /// Receives all but those that ask to stop, which end the process at once until
    /// [`ProcessSignals::obey_stops`].
    pub(super) fn new() -> io::Result<ProcessSignals> {
        let mut signals = ProcessSignals(Vec::new());
        for (number, name, action) in SIGNALS {
            if !is_stop(action) {
                signals.add(number, name, action)?;
            }
        }
        Ok(signals)
    }

    /// Receives those that ask to stop, too.
    pub(super) fn obey_stops(&mut self) -> io::Result<()> {
        for (number, name, action) in SIGNALS {
            if is_stop(action) {
                self.add(number, name, action)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, number: Number, name: &'static str, action: Action) -> io::Result<()> {
        let signal = signal(SignalKind::from_raw(number.as_raw()))?;
        self.0.push(Received {
            signal,
            name,
            action,
        });
        Ok(())
    }

    /// Waits for the next signal that asks for something.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let (name, action) = poll_fn(|cx| self.poll(cx, |_| true)).await;
            match action {
                Action::Obey(event) => return event,
                Action::Explain(why) => tracing::warn!("{name} is ignored: {why}"),
                Action::Ignore => {}
            }
        }
    }

    /// Waits for a signal to stop. Others wait for the next call of [`ProcessSignals::next`].
    pub(super) async fn stop(&mut self) {
        poll_fn(|cx| self.poll(cx, is_stop)).await;
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        is_wanted: impl Fn(Action) -> bool,
    ) -> Poll<(&'static str, Action)> {
        for received in &mut self.0 {
            if is_wanted(received.action) && received.signal.poll_recv(cx).is_ready() {
                return Poll::Ready((received.name, received.action));
            }
        }
        Poll::Pending
    }
}

fn is_stop(action: Action) -> bool {
    matches!(action, Action::Obey(Event::Stop))
}
