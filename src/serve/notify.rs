//! Tells the service manager how the collector is doing (systemd's `Type=notify`, see
//! sd_notify(3)). Without `NOTIFY_SOCKET` in the environment nothing happens.
//!
//! A hand-over needs no `MAINPID`: each of the two processes is the main process of a unit of its
//! own. The successor is ready once it serves, and its predecessor stops.

use std::io;

use sd_notify::NotifyState;

/// The listeners answer, or a reload is done.
pub(super) fn ready() {
    send(Ok([NotifyState::Ready].into()));
}

/// A reload begins; `ready` ends it.
pub(super) fn tell_reloading() {
    // systemd compares the time with that of the signal, to tell whose reload this is.
    let since_boot = NotifyState::monotonic_usec_now();
    send(since_boot.map(|since_boot| vec![NotifyState::Reloading, since_boot]));
}

/// The collector is about to end.
pub(super) fn tell_stopping() {
    send(Ok([NotifyState::Stopping].into()));
}

fn send(states: io::Result<Vec<NotifyState<'_>>>) {
    if let Err(error) = states.and_then(|states| sd_notify::notify(&states)) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
