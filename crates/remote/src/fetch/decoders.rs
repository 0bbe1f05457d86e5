//! Decoders of zstd, and the memory of their windows: bounded for all of them together, and used again.
//!
//! A decoder needs memory for the window that the file names, up to 128 MiB. Eight of those would be a gigabyte, so who
//! needs one waits until there is room: before the file is asked for. A file that is under way and that nobody reads
//! takes room of its connection, over HTTP/2, from those that would give their decoders back.
//!
//! What window a file names is known when it comes. What is published here needs 32 MiB at the most, so that much is
//! reserved; what needs more is asked for a second time, when there is room for any window.

use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use zstd::zstd_safe::{DCtx, ResetDirective};

/// The largest window of a zstd frame: 128 MiB, which is what other readers take too.
pub(super) const LARGEST: u64 = 1 << WINDOW_LOG_LIMIT;

/// The largest window of what is published here.
pub(super) const EXPECTED: u64 = 32 << 20;

const WINDOW_LOG_LIMIT: u32 = 27;

/// A window that every reader of zstd takes: 8 MiB. Later frames of a file may always have it.
const WINDOW_LOG_USUAL: u32 = 23;

/// The memory of all windows together. One that is larger is alone.
const ROOM: u64 = 96 << 20;

/// What a decoder may hold in any case, however little is needed.
const WASTED: u64 = 1 << 20;

/// The decoders of all fetching.
#[derive(Default)]
pub(crate) struct Decoders {
    state: Mutex<State>,
    /// Who waits first holds this. Without an order, one that needs much would wait until nobody needs little.
    first: tokio::sync::Mutex<()>,
    given_back: Notify,
}

#[derive(Default)]
struct State {
    /// The windows of the decoders that are in use.
    used: u64,
    /// Decoders that wait for the next file, and the memory that they hold. New memory has to be made ready by the
    /// system, page by page, which takes longer than a tenth of the decompression.
    kept: Vec<(u64, DCtx<'static>)>,
}

impl State {
    fn kept(&self) -> u64 {
        self.kept.iter().map(|(memory, _)| memory).sum()
    }

    /// A decoder that may take as much as is `needed`, if there is memory for it: the one, and what it holds already.
    fn take(&mut self, needed: u64) -> Option<Taken> {
        // The smallest that is large enough, unless it would take from others what it has no use for; if there is none,
        // the largest that is too small.
        let most = needed.saturating_mul(2).max(WASTED);
        let usable = (0..self.kept.len()).filter(|at| self.kept[*at].0 <= most);
        let fitting = usable.min_by_key(|at| {
            let memory = self.kept[*at].0;
            (memory < needed, if memory < needed { u64::MAX - memory } else { memory })
        });
        let taken = fitting.map(|at| self.kept.swap_remove(at));
        let held = taken.as_ref().map_or(0, |(memory, _)| *memory);
        let memory = held.max(needed);
        while self.used + self.kept() + memory > ROOM && !self.kept.is_empty() {
            self.kept.pop();
        }
        if self.used > 0 && self.used + memory > ROOM {
            self.kept.extend(taken);
            return None;
        }
        self.used += memory;
        Some(Taken { memory, held, context: taken.map(|(_, context)| context) })
    }
}

struct Taken {
    /// What is counted as used.
    memory: u64,
    held: u64,
    context: Option<DCtx<'static>>,
}

/// A decoder in use.
pub(super) struct Decoder {
    decoders: Arc<Decoders>,
    /// What is counted for it.
    memory: u64,
    /// What it held before, and holds in any case.
    held: u64,
    /// The window.
    window: u64,
    /// Always there, until it is dropped.
    pub(super) context: Option<DCtx<'static>>,
}

impl Decoders {
    /// Waits for a decoder that has so much memory for its window.
    pub(super) async fn reserve(self: &Arc<Self>, memory: u64) -> Decoder {
        let memory = memory.clamp(1, LARGEST);
        let _first = self.first.lock().await;
        loop {
            // One who gave something back after this is noticed.
            let given_back = self.given_back.notified();
            if let Some(Taken { memory, held, context }) = self.state().take(memory) {
                let context = Some(context.unwrap_or_default());
                return Decoder { decoders: Arc::clone(self), memory, held, window: memory, context };
            }
            given_back.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decoder {
    /// Gets ready for a file that begins so, with a content of `size` bytes: what isn't written to takes no memory, so a
    /// window takes no more than the content. What was reserved and isn't needed is given back. If more is needed than
    /// was reserved, the error is [`io::ErrorKind::OutOfMemory`]; nothing is waited for.
    pub(super) fn fit(&mut self, file: &mut impl BufRead, size: u64) -> io::Result<()> {
        let window = window(file.fill_buf()?).unwrap_or(LARGEST).clamp(1, LARGEST);
        let needed = window.min(size).max(self.held);
        if needed > self.memory {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "its window needs more memory than was reserved"));
        }
        self.window = window;
        self.decoders.state().used -= self.memory - needed;
        self.memory = needed;
        self.decoders.given_back.notify_one();
        Ok(())
    }

    /// The largest window that it takes: a later frame must not need more than the first one said.
    pub(super) fn window_log_max(&self) -> u32 {
        let log = self.window.next_power_of_two().trailing_zeros();
        log.clamp(WINDOW_LOG_USUAL, WINDOW_LOG_LIMIT)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut state = self.decoders.state();
        state.used -= self.memory;
        // The last file may have ended in the middle of a frame: the next one doesn't go on there. One that is larger
        // than usual would be of use to nobody.
        if self.memory <= EXPECTED
            && let Some(mut context) = self.context.take()
            && context.reset(ResetDirective::SessionAndParameters).is_ok()
        {
            state.kept.push((self.memory, context));
        }
        drop(state);
        self.decoders.given_back.notify_one();
    }
}

/// The window of the zstd frame that begins here. `None` if it doesn't say, or not here.
fn window(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk()?;
    if u32::from_le_bytes(*magic) != zstd::zstd_safe::MAGICNUMBER {
        return None;
    }
    let (descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..length].copy_from_slice(rest.get(dictionary..dictionary + length)?);
    Some(u64::from_le_bytes(size) + if length == 2 { 256 } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn compressed(size: usize, pledged: bool, window_log: Option<u32>) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        if pledged {
            encoder.set_pledged_src_size(Some(size as u64)).unwrap();
        }
        if let Some(log) = window_log {
            encoder.window_log(log).unwrap();
        }
        encoder.write_all(&vec![7; size]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_window_of_a_file_is_what_zstd_says_it_is() {
        for size in [0, 1, 255, 256, 257, 65_791, 65_792, 1 << 20] {
            assert_eq!(window(&compressed(size, true, None)), Some(size as u64), "{size}");
        }
        for log in [10, 17, 24, 27] {
            assert_eq!(window(&compressed(1 << 20, false, Some(log))), Some(1 << log), "{log}");
        }
        // One with eighths: 2^20 and 3/8 of it.
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd, 0, (10 << 3) | 3]), Some((1 << 20) + 3 * (1 << 17)));
        for broken in
            [&b""[..], b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00", b"\x28\xb5\x2f\xfd\xe0\x01", b"plain text"]
        {
            assert_eq!(window(broken), None);
        }
    }

    fn back(state: &mut State, taken: Taken) {
        state.used -= taken.memory;
        state.kept.push((taken.memory, DCtx::create()));
    }

    #[test]
    fn all_windows_together_stay_within_their_room() {
        let mut state = State::default();
        let small: Vec<_> = (0..8).map(|_| state.take(ROOM / 8).unwrap()).collect();
        assert_eq!(state.used, ROOM);
        assert!(state.take(1).is_none(), "there is no room, so who comes waits");
        small.into_iter().for_each(|taken| back(&mut state, taken));
        // What is kept is used again, and goes where a large one needs its room.
        let taken = state.take(ROOM / 10).unwrap();
        assert_eq!((taken.memory, taken.context.is_some(), state.kept.len()), (ROOM / 8, true, 7));
        back(&mut state, taken);
        // One that is larger than the room is alone.
        let taken = state.take(LARGEST).unwrap();
        assert_eq!((taken.memory, state.kept.len(), state.used), (LARGEST, 0, LARGEST));
        assert!(state.take(1).is_none());
    }

    #[test]
    fn little_ones_do_not_hold_what_large_ones_left() {
        let mut state = State::default();
        let large: Vec<_> = (0..3).map(|_| state.take(EXPECTED).unwrap()).collect();
        large.into_iter().for_each(|taken| back(&mut state, taken));
        let little: Vec<_> = (0..8).map(|_| state.take(1000).unwrap()).collect();
        assert!(little.iter().all(|taken| taken.memory == 1000) && state.used + state.kept() <= ROOM);
    }

    #[tokio::test]
    async fn what_a_file_does_not_need_goes_to_who_waits_and_more_it_does_not_get() {
        let decoders = Arc::<Decoders>::default();
        let size = 100 << 20;
        let mut first = decoders.reserve(EXPECTED).await;
        let held = [decoders.reserve(EXPECTED).await, decoders.reserve(EXPECTED).await];
        let mut waits = std::pin::pin!(decoders.reserve(EXPECTED / 2));
        assert!(futures_util::poll!(&mut waits).is_pending());
        first.fit(&mut compressed(1 << 20, false, Some(23)).as_slice(), size).unwrap();
        let mut second = waits.await;
        let error = second.fit(&mut compressed(1 << 20, false, Some(25)).as_slice(), size).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        // A small content needs no large window.
        second.fit(&mut compressed(1 << 20, false, Some(25)).as_slice(), 1 << 20).unwrap();
        drop((first, second, held));
        let state = decoders.state();
        assert!(state.used == 0 && state.kept() <= ROOM);
    }

    #[tokio::test]
    async fn who_needs_much_is_not_passed_by_those_who_need_little() {
        let decoders = Arc::<Decoders>::default();
        let held = decoders.reserve(EXPECTED).await;
        let mut large = std::pin::pin!(decoders.reserve(LARGEST));
        assert!(futures_util::poll!(&mut large).is_pending());
        let mut little = std::pin::pin!(decoders.reserve(1));
        assert!(futures_util::poll!(&mut little).is_pending());
        drop(held);
        let large = large.await;
        assert!(futures_util::poll!(&mut little).is_pending());
        drop(large);
        little.await;
    }
}
