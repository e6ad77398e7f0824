//! The timer of an edge thread: coarse, and without a system call per request.
//!
//! hyper arms and drops a header timeout for each request. On tokio's timer each of them wakes the
//! driver (an eventfd write; a request took 20 instead of 16 µs when measured). Here arming is one
//! atomic store: a sleep has an entry in a wheel of [`SLOTS`] slots, which one task advances every
//! [`TICK`], and its deadline is checked when its slot comes up. A sleep ends up to one tick late,
//! or later if thousands end at once. An entry that nobody waits for is reused in its slot, so the
//! wheel holds as many entries as there ever were sleeps at one time, and not one for each request
//! of the last turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use crate::clock;

/// How often the wheel advances.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Slots of the wheel. A sleep longer than a turn stays in its slot for another turn.
const SLOTS: u64 = 64;

/// How many tasks are woken at a time, with a pause in between, when many sleeps end at one tick:
/// 8,000 a second.
const WAKE_BATCH: usize = 8;
const WAKING_PAUSE: Duration = Duration::from_millis(1);

/// A wheel of sleeps. Its clones share one wheel.
#[derive(Clone)]
pub(crate) struct Wheel(Arc<Shared>);

struct Shared {
    started: Instant,
    now_tick: AtomicU64,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Vec<Arc<Entry>>>,
    spare: Vec<Arc<Entry>>,
}

struct Entry {
    /// The tick of the slot that it is in; [`DROPPED`] if it is in none.
    slot_tick: AtomicU64,
    /// The tick at which it ends; [`DROPPED`] once nobody waits for it.
    deadline_tick: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

const DROPPED: u64 = u64::MAX;

impl Wheel {
    pub(crate) fn new() -> Wheel {
        Wheel(Arc::new(Shared {
            started: clock::monotonic(),
            now_tick: AtomicU64::new(0),
            state: Mutex::new(State {
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                spare: Vec::new(),
            }),
        }))
    }

    /// Advances the wheel at every tick. Never returns.
    pub(crate) async fn turn(self) {
        let mut interval = tokio::time::interval(TICK);
        loop {
            interval.tick().await;
            let ended = self.advance(self.tick_of(clock::monotonic()));
            for (number, waker) in ended.into_iter().enumerate() {
                // Thousands of slow clients that are cut off at one tick must not delay the others.
                if number % WAKE_BATCH == WAKE_BATCH - 1 {
                    tokio::time::sleep(WAKING_PAUSE).await;
                }
                waker.wake();
            }
        }
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let ticks = at.saturating_duration_since(self.0.started).as_millis() / TICK.as_millis();
        u64::try_from(ticks).unwrap_or(DROPPED - 1)
    }

    /// Advances to a tick and returns the wakers that are due.
    #[must_use]
    fn advance(&self, to: u64) -> Vec<Waker> {
        let mut ended = Vec::new();
        let from = self.0.now_tick.swap(to, Ordering::Relaxed);
        let mut state = self.state();
        for tick in from.saturating_add(1).max(to.saturating_sub(SLOTS - 1))..=to {
            let Some(slot) = state.slots.get_mut(slot_of(tick)) else {
                continue;
            };
            for entry in std::mem::take(slot) {
                let deadline = entry.deadline_tick.load(Ordering::Relaxed);
                if deadline == DROPPED {
                    entry.slot_tick.store(DROPPED, Ordering::Relaxed);
                } else if deadline > to {
                    state.place(entry, deadline);
                } else {
                    entry.slot_tick.store(DROPPED, Ordering::Relaxed);
                    let waker = entry
                        .waker
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take();
                    ended.extend(waker);
                }
            }
        }
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a sleep that ends after `duration`, up to one tick late.
    pub(crate) fn sleep(&self, duration: Duration) -> CoarseSleep {
        self.sleep_until(clock::monotonic() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> CoarseSleep {
        // The extra tick keeps a sleep from ending early.
        let deadline_tick = self.tick_of(deadline) + 1;
        let mut state = self.state();
        let entry = match state.spare.pop() {
            Some(entry) if entry.slot_tick.load(Ordering::Relaxed) <= deadline_tick => {
                // It is in an earlier slot and moves on when that slot comes up.
                entry.deadline_tick.store(deadline_tick, Ordering::Relaxed);
                entry
            }
            Some(entry) if entry.slot_tick.load(Ordering::Relaxed) == DROPPED => {
                entry.deadline_tick.store(deadline_tick, Ordering::Relaxed);
                state.place(Arc::clone(&entry), deadline_tick);
                entry
            }
            later => {
                state.spare.extend(later);
                let entry = Arc::new(Entry {
                    slot_tick: AtomicU64::new(DROPPED),
                    deadline_tick: AtomicU64::new(deadline_tick),
                    waker: Mutex::new(None),
                });
                state.place(Arc::clone(&entry), deadline_tick);
                entry
            }
        };
        CoarseSleep {
            wheel: self.clone(),
            entry,
        }
    }
}

impl State {
    fn place(&mut self, entry: Arc<Entry>, tick: u64) {
        entry.slot_tick.store(tick, Ordering::Relaxed);
        if let Some(slot) = self.slots.get_mut(slot_of(tick)) {
            slot.push(entry);
        }
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS).unwrap_or(0)
}

/// A sleep in the wheel.
pub(crate) struct CoarseSleep {
    wheel: Wheel,
    entry: Arc<Entry>,
}

impl CoarseSleep {
    /// Starts again: the sleep ends `duration` from now, up to two ticks late.
    pub(crate) fn restart(&self, duration: Duration) {
        let shared = &self.wheel.0;
        let ticks = duration.as_millis().div_ceil(TICK.as_millis());
        let now_tick = shared.now_tick.load(Ordering::Relaxed);
        let deadline_tick = u64::try_from(ticks).map_or(DROPPED - 1, |ticks| now_tick + ticks + 1);
        self.entry
            .deadline_tick
            .store(deadline_tick, Ordering::Relaxed);
        // Its slot may have come up while nobody waited for it.
        if self.entry.slot_tick.load(Ordering::Relaxed) == DROPPED {
            self.wheel
                .state()
                .place(Arc::clone(&self.entry), deadline_tick);
        }
    }
}

impl Future for CoarseSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.entry.deadline_tick.load(Ordering::Relaxed);
        if deadline <= self.wheel.0.now_tick.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let mut waker = self
            .entry
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for CoarseSleep {
    fn drop(&mut self) {
        self.entry.deadline_tick.store(DROPPED, Ordering::Relaxed);
        self.wheel.state().spare.push(Arc::clone(&self.entry));
    }
}

impl Sleep for CoarseSleep {}

impl Timer for Wheel {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wheel::sleep(self, duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wheel::sleep_until(self, deadline))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake(ended: Vec<Waker>) {
        ended.into_iter().for_each(Waker::wake);
    }

    #[test]
    fn a_sleep_ends_once_after_its_deadline_even_beyond_one_turn() {
        for ticks in [1, 5, SLOTS, 3 * SLOTS + 7] {
            let wheel = Wheel::new();
            let count = Arc::new(Count(AtomicU64::new(0)));
            let waker = Waker::from(Arc::clone(&count));
            let mut cx = Context::from_waker(&waker);
            let tick_millis = u64::try_from(TICK.as_millis()).expect("small");
            let mut sleep = Box::pin(wheel.sleep(Duration::from_millis(ticks * tick_millis)));
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
            for now in 1..=ticks {
                wake(wheel.advance(now));
                assert!(
                    sleep.as_mut().poll(&mut cx).is_pending(),
                    "{now} of {ticks}"
                );
            }
            wake(wheel.advance(ticks + 2));
            assert_eq!(count.0.load(Ordering::Relaxed), 1);
            assert!(sleep.as_mut().poll(&mut cx).is_ready());
        }
    }

    #[test]
    fn a_restarted_sleep_ends_after_its_new_time_even_if_its_slot_has_come_up() {
        let wheel = Wheel::new();
        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut sleep = Box::pin(wheel.sleep(4 * TICK));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        wake(wheel.advance(3));
        sleep.restart(4 * TICK);
        wake(wheel.advance(7));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        wake(wheel.advance(8));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        sleep.restart(4 * TICK);
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        wake(wheel.advance(12));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        wake(wheel.advance(13));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn the_entries_of_dropped_sleeps_are_reused_in_their_slots() {
        let wheel = Wheel::new();
        for _ in 0..1000 {
            drop((wheel.sleep(40 * TICK), wheel.sleep(40 * TICK)));
        }
        let entries = || wheel.state().slots.iter().map(Vec::len).sum::<usize>();
        assert_eq!((entries(), wheel.state().spare.len()), (2, 2));
        let mut short = Box::pin(wheel.sleep(TICK));
        wake(wheel.advance(3));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            short.as_mut().poll(&mut cx).is_ready(),
            "a short sleep must not reuse an entry in a later slot"
        );
        wake(wheel.advance(SLOTS));
        assert_eq!(entries(), 0);
    }
}
