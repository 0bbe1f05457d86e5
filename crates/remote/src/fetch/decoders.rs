//! Decoders of zstd, and the memory of their windows: bounded for all of them together, and used again.
//!
//! A decoder needs memory for the window that the file names, up to 128 MiB. Eight of those would be a gigabyte, so who
//! needs one waits until there is room. What is published here needs 32 MiB at the most, so that few wait.

use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use zstd::zstd_safe::{DCtx, ResetDirective};

/// The largest window of a zstd frame: 128 MiB, which is what other readers take too.
pub(super) const LARGEST: u64 = 1 << WINDOW_LOG_LIMIT;

const WINDOW_LOG_LIMIT: u32 = 27;

/// A window that every reader of zstd takes: 8 MiB. Later frames of a file may always have it.
const WINDOW_LOG_USUAL: u32 = 23;

/// The memory of all windows together. One that is larger is alone.
const ROOM: u64 = 96 << 20;

/// The decoders of all fetching.
#[derive(Default)]
pub(crate) struct Decoders {
    state: Mutex<State>,
    given_back: Condvar,
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

    /// A decoder that holds as much as is `needed`, if there is memory for it.
    fn take(&mut self, needed: u64) -> Option<(u64, Option<DCtx<'static>>)> {
        // The smallest that is large enough; if there is none, the largest.
        let fitting = (0..self.kept.len()).min_by_key(|at| {
            let memory = self.kept[*at].0;
            (memory < needed, if memory < needed { u64::MAX - memory } else { memory })
        });
        let taken = fitting.map(|at| self.kept.swap_remove(at));
        let memory = taken.as_ref().map_or(0, |(memory, _)| *memory).max(needed);
        while self.used + self.kept() + memory > ROOM && !self.kept.is_empty() {
            self.kept.pop();
        }
        if self.used > 0 && self.used + memory > ROOM {
            self.kept.extend(taken);
            return None;
        }
        self.used += memory;
        Some((memory, taken.map(|(_, context)| context)))
    }
}

/// A decoder in use.
pub(super) struct Decoder {
    decoders: Arc<Decoders>,
    /// What its window takes.
    memory: u64,
    /// The window.
    window: u64,
    /// Always there, until it is dropped.
    pub(super) context: Option<DCtx<'static>>,
}

impl Decoders {
    /// Waits for a decoder of a file that begins so, with a content of this size. What isn't written to takes no memory,
    /// so a window takes no more than the content.
    pub(super) fn take(self: &Arc<Self>, file: &mut impl BufRead, size: u64) -> std::io::Result<Decoder> {
        let window = window(file.fill_buf()?).unwrap_or(LARGEST).clamp(1, LARGEST);
        let (memory, context) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match state.take(window.min(size)) {
                    Some(taken) => break taken,
                    None => state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let context = Some(context.unwrap_or_default());
        Ok(Decoder { decoders: Arc::clone(self), memory, window, context })
    }
}

impl Decoder {
    /// The largest window that it takes: a later frame must not need more than the first one said.
    pub(super) fn window_log_max(&self) -> u32 {
        let log = self.window.next_power_of_two().trailing_zeros();
        log.clamp(WINDOW_LOG_USUAL, WINDOW_LOG_LIMIT)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut state = self.decoders.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used -= self.memory;
        // The last file may have ended in the middle of a frame: the next one doesn't go on there.
        if let Some(mut context) = self.context.take()
            && context.reset(ResetDirective::SessionAndParameters).is_ok()
        {
            state.kept.push((self.memory, context));
        }
        drop(state);
        self.decoders.given_back.notify_all();
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

    #[test]
    fn all_windows_together_stay_within_their_room() {
        let mut state = State::default();
        let small: Vec<_> = (0..8).map(|_| state.take(ROOM / 8).unwrap()).collect();
        assert_eq!(state.used, ROOM);
        assert!(state.take(1).is_none(), "there is no room, so who comes waits");
        for (memory, _) in small {
            state.used -= memory;
            state.kept.push((memory, DCtx::create()));
        }
        // What is kept is used again, and goes where a large one needs its room.
        let (memory, context) = state.take(1000).unwrap();
        assert_eq!((memory, context.is_some(), state.kept.len()), (ROOM / 8, true, 7));
        state.used -= memory;
        // One that is larger than the room is alone.
        let (memory, _) = state.take(LARGEST).unwrap();
        assert_eq!((memory, state.kept.len(), state.used), (LARGEST, 0, LARGEST));
        assert!(state.take(1).is_none());
    }
}
