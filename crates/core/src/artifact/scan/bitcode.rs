//! Paths in LLVM bitcode, which is written bit by bit.
//!
//! With link-time optimisation rustc writes bitcode in place of machine code, and a path in a constant then
//! begins at any bit of a byte. Constants are arrays of 8 bits per character, of 7 bits where they are
//! zero-terminated ASCII, or, in functions, of two 6-bit chunks (LLVM's `BitcodeWriter.cpp`, `writeConstants`;
//! LLVM's "Bitcode File Format"). Each root is therefore searched in each encoding at each of eight offsets,
//! without the incomplete bytes at both ends. Bits are written lowest first.

use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::super::RootKind;

/// What bitcode begins with.
pub(super) const MAGIC: &[u8] = b"BC\xc0\xde";

/// Searches for paths at all bit offsets.
#[derive(Debug)]
pub(super) struct BitcodeSearch {
    patterns: Option<AhoCorasick>,
    kinds: Vec<RootKind>,
    longest: usize,
}

impl BitcodeSearch {
    pub(super) fn new<'a>(needles: impl IntoIterator<Item = (RootKind, &'a [u8])>) -> Self {
        let (mut patterns, mut kinds) = (Vec::new(), Vec::new());
        for (kind, bytes) in needles {
            for encode in [eight_bits, seven_bits, six_bit_chunks] {
                let mut bits = Vec::new();
                bytes.iter().for_each(|byte| encode(*byte, &mut bits));
                for shift in 0..8 {
                    let pattern = interior(&bits, shift);
                    if !pattern.is_empty() {
                        patterns.push(pattern);
                        kinds.push(kind);
                    }
                }
            }
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        // It fails only for more patterns than memory holds; then everything in bitcode is found to be bound.
        Self { patterns: AhoCorasick::new(&patterns).ok(), kinds, longest }
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Reports the roots that occur in `bytes`, and where.
    pub(super) fn search(&self, bytes: &[u8], found: &mut dyn FnMut(RootKind, Range<usize>)) {
        match &self.patterns {
            Some(patterns) => {
                for occurrence in patterns.find_overlapping_iter(bytes) {
                    found(self.kinds[occurrence.pattern().as_usize()], occurrence.range());
                }
            }
            None => self.kinds.iter().for_each(|kind| found(*kind, 0..bytes.len())),
        }
    }
}

fn eight_bits(byte: u8, bits: &mut Vec<bool>) {
    push(byte, 8, bits);
}

fn seven_bits(byte: u8, bits: &mut Vec<bool>) {
    push(byte, 7, bits);
}

/// LLVM's variable bit rate of 6: five bits of value each, and one that says that more follow.
fn six_bit_chunks(byte: u8, bits: &mut Vec<bool>) {
    let mut value = byte;
    while value >= 32 {
        push(value & 31 | 32, 6, bits);
        value >>= 5;
    }
    push(value, 6, bits);
}

fn push(value: u8, width: u32, bits: &mut Vec<bool>) {
    bits.extend((0..width).map(|bit| value >> bit & 1 == 1));
}

/// The bytes that `bits` fill completely when they begin at bit `shift` of a byte.
fn interior(bits: &[bool], shift: usize) -> Vec<u8> {
    let skipped = (8 - shift) % 8;
    let whole = bits.get(skipped..).unwrap_or_default().chunks_exact(8);
    whole.map(|byte| byte.iter().rev().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_at_every_bit() {
        let path = b"/home/a/work";
        let search = BitcodeSearch::new([(RootKind::Workspace, &path[..])]);
        for encode in [eight_bits, seven_bits, six_bit_chunks] {
            for shift in 0..8 {
                let mut bits = vec![true; 40 + shift];
                path.iter().for_each(|byte| encode(*byte, &mut bits));
                bits.resize(bits.len() + 64, true);
                let mut found = Vec::new();
                search.search(&interior(&bits, 0), &mut |kind, _| found.push(kind));
                assert!(found.contains(&RootKind::Workspace), "shift {shift}");
            }
        }
        search.search(b"/home/b/work", &mut |kind, place| panic!("{kind:?} at {place:?}"));
    }
}
