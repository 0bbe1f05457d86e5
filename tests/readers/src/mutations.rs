//! Changed inputs, the same in each run.

/// Parts that readers look for.
const WORDS: &[&[u8]] = &[
    b"\0\0\0\0\0\0\0\0",
    b"\x01\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"(",
    b")",
    b"type",
    b"regular",
    b"directory",
    b"symlink",
    b"entry",
    b"name",
    b"node",
    b"contents",
    b"executable",
    b"..",
    b"/",
    b"\n",
    b"\r\n",
    b": ",
    b" ",
    b"#",
    b"\"",
    b"\\",
    b"%00",
    b"%2e",
    b"?",
    b"&",
    b"=",
    b"@",
    b"[",
    b"]",
    b"sha256:",
    b"fixed:r:",
    b"/nix/store/",
    b"0",
    b"-1",
    b"18446744073709551616",
    b"machine",
    b"default",
    b"macdef",
    b"\xc3\xa9",
    b"\xf0\x9f\x92\xa9",
    b"\xff",
    b"\x1b[31m",
];

/// The longest input that is made.
const LONGEST: usize = 1 << 16;

/// `count` inputs, each of which is one of `seeds` with a few changes.
pub fn mutated(seeds: &[Vec<u8>], seed: u64, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(seed | 1);
    (0..count).map(move |_| {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut input, seeds, &mut random);
        }
        input.truncate(LONGEST);
        input
    })
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(at.min(end)..end)),
        4 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            let end = (at + word.len()).min(input.len());
            input.splice(at..end, word.iter().copied());
        }
        6 => {
            let part = input[at.min(end)..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.extend((0..random.below(64)).map(|_| random.next() as u8)),
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
