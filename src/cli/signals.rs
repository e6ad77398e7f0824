//! The signals that no command means anything by.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Holds back the realtime signals, each of which would end the process, in this thread and in
/// those that it starts.
pub(super) fn block_realtime() -> nix::Result<()> {
    // The set of all is the only one that has them.
    SigSet::all().thread_block()?;
    let others: SigSet = Signal::iterator().collect();
    others.thread_swap_mask(SigmaskHow::SIG_UNBLOCK).map(drop)
}
