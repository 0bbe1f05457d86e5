//! Turns: how many NARs are fetched at once, and which comes next.
//!
//! Most turns go by who came first. Some go to the largest NAR that waits: one that is as large as many others takes
//! as long as they do, and begun last it would be waited for alone. Not all go to the largest: of a slow cache a few
//! small NARs are worth more than half of a large one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Of so many turns, one is for large NARs.
const ONE_LARGE_IN: usize = 4;

/// Gives turns.
pub(crate) struct Turns {
    state: Mutex<State>,
}

struct State {
    /// Free turns for whoever comes first, and free ones for the largest.
    free: [usize; 2],
    /// By number: who came first has the lowest.
    waiting: BTreeMap<u64, (u64, oneshot::Sender<Turn>)>,
    next: u64,
}

/// A turn. It goes on to another when it is dropped.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    for_large: bool,
}

impl Turns {
    /// So many turns at once, one at the least.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let for_large = count / ONE_LARGE_IN;
        let free = [count.max(1) - for_large, for_large];
        Arc::new(Self { state: Mutex::new(State { free, waiting: BTreeMap::new(), next: 0 }) })
    }

    /// Waits for a turn, for a NAR of `size` bytes.
    pub(crate) async fn take(self: &Arc<Self>, size: u64) -> Turn {
        let receiver = {
            let mut state = self.state();
            if let Some(kind) = state.free.iter().position(|free| *free > 0) {
                state.free[kind] -= 1;
                return Turn { turns: Arc::clone(self), for_large: kind == 1 };
            }
            let (sender, receiver) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.insert(number, (size, sender));
            receiver
        };
        receiver.await.expect("who waits is in the list until a turn is sent")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one that waits; without one, the turn is free.
    fn next(&self, for_large: bool) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state();
        let first = match for_large {
            // Of equal ones the first.
            true => state.waiting.iter().max_by_key(|(number, (size, _))| (*size, u64::MAX - **number)),
            false => state.waiting.iter().next(),
        };
        match first.map(|(number, _)| *number) {
            Some(number) => state.waiting.remove(&number).map(|(_, sender)| sender),
            None => {
                state.free[usize::from(for_large)] += 1;
                None
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        while let Some(sender) = self.turns.next(self.for_large) {
            let turn = Self { turns: Arc::clone(&self.turns), for_large: self.for_large };
            match sender.send(turn) {
                Ok(()) => return,
                // Nobody waits there any more: not given back by its own end, but to the next one here.
                Err(mut turn) => turn.forget(),
            }
        }
    }
}

impl Turn {
    fn forget(&mut self) {
        // A list of its own, which nobody waits in.
        self.turns = Turns::new(1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn some_turns_are_for_the_largest_and_the_others_for_the_first() {
        let turns = Turns::new(4);
        let mut held: Vec<Turn> = (0..4).map(|_| poll(&mut Box::pin(turns.take(1))).unwrap()).collect();
        let mut waiting: Vec<_> = [10, 30, 20, 30].map(|size| Box::pin(turns.take(size))).into();
        assert!(waiting.iter_mut().all(|waiting| poll(waiting).is_none()));
        let large = held.iter().position(|turn| turn.for_large).unwrap();
        // The turn for large ones: the first of the largest.
        drop(held.remove(large));
        let largest = poll(&mut waiting[1]).expect("the largest has its turn");
        assert!(poll(&mut waiting[0]).is_none());
        // Another one: who came first.
        drop(held.pop());
        let _first = poll(&mut waiting[0]).expect("the first has its turn");
        assert!(poll(&mut waiting[2]).is_none());
        drop(largest);
        assert!(poll(&mut waiting[3]).is_some(), "the largest again");
    }

    #[test]
    fn who_gives_up_takes_no_turn_along() {
        let turns = Turns::new(1);
        let held = poll(&mut Box::pin(turns.take(1))).unwrap();
        let mut gone = Box::pin(turns.take(1));
        let mut sent = Box::pin(turns.take(1));
        let mut last = Box::pin(turns.take(1));
        assert!(poll(&mut gone).is_none() && poll(&mut sent).is_none() && poll(&mut last).is_none());
        drop(gone);
        drop(held);
        // It was sent on, and never received.
        drop(sent);
        drop(poll(&mut last).expect("the turn came here"));
        assert!(poll(&mut Box::pin(turns.take(1))).is_some());
    }
}
