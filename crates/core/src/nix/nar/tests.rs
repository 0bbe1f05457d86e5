use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;

use super::super::hash::Sha256;
use super::*;

/// A tree in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

fn file(contents: &[u8]) -> Tree {
    Tree::File { executable: false, contents: contents.to_owned() }
}

fn directory<const N: usize>(entries: [(&str, Tree); N]) -> Tree {
    Tree::Directory(entries.into_iter().map(|(name, tree)| (name.into(), tree)).collect())
}

/// The tree of the second vector.
fn demo() -> Tree {
    directory([
        ("a.txt", file(b"hello\n")),
        ("empty", file(b"")),
        ("run", Tree::File { executable: true, contents: b"#!/bin/sh\necho hi\n".to_vec() }),
        ("sub", directory([("link", Tree::Link(b"../a.txt".to_vec()))])),
    ])
}

fn write_tree<W: std::io::Write>(tree: &Tree, writer: &mut NarWriter<W>) -> Result<(), NarWriteError> {
    match tree {
        Tree::File { executable, contents } => {
            writer.regular(*executable, contents.len() as u64, &mut contents.as_slice())
        }
        Tree::Link(target) => writer.symlink(target),
        Tree::Directory(entries) => {
            writer.begin_directory()?;
            for (name, tree) in entries {
                writer.entry(name)?;
                write_tree(tree, writer)?;
            }
            writer.end_directory()
        }
    }
}

fn pack(tree: &Tree) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new());
    write_tree(tree, &mut writer).unwrap();
    writer.finish().unwrap()
}

fn read_with(source: impl Read, limits: NarLimits) -> Result<Tree, NarError> {
    let mut reader = NarReader::new(source, limits);
    type Open = (Vec<u8>, BTreeMap<Vec<u8>, Tree>);
    let mut open: Vec<Open> = vec![];
    let (mut name, mut root) = (vec![], None);
    while let Some(event) = reader.next_event()? {
        let tree = match event {
            Event::Entry { name: bytes } => {
                name = bytes.to_owned();
                continue;
            }
            Event::DirectoryStart => {
                open.push((std::mem::take(&mut name), BTreeMap::new()));
                continue;
            }
            Event::DirectoryEnd => {
                let (own, entries) = open.pop().unwrap();
                name = own;
                Tree::Directory(entries)
            }
            Event::Symlink { target } => Tree::Link(target.to_owned()),
            Event::Regular { executable, size, offset, mut contents } => {
                let mut bytes = vec![];
                if let Err(source) = contents.read_to_end(&mut bytes) {
                    return Err(NarError::Read { offset, source });
                }
                assert_eq!(bytes.len() as u64, size);
                Tree::File { executable, contents: bytes }
            }
        };
        match open.last_mut() {
            Some((_, entries)) => assert_eq!(entries.insert(std::mem::take(&mut name), tree), None),
            None => root = Some(tree),
        }
    }
    Ok(root.unwrap())
}

fn read(bytes: &[u8]) -> Result<Tree, NarError> {
    read_with(bytes, NarLimits::default())
}

fn tokens(tokens: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![];
    for token in tokens {
        bytes.extend((token.len() as u64).to_le_bytes());
        bytes.extend(*token);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// An archive with these tokens after the magic.
fn archive(rest: &[&[u8]]) -> Vec<u8> {
    [tokens(&[b"nix-archive-1"]), tokens(rest)].concat()
}

/// An archive of a directory that holds empty links of these names.
fn with_names(names: &[&[u8]]) -> Vec<u8> {
    let mut rest: Vec<&[u8]> = vec![b"(", b"type", b"directory"];
    for &name in names {
        rest.extend::<[&[u8]; 12]>([
            b"entry", b"(", b"name", name, b"node", b"(", b"type", b"symlink", b"target", b"x", b")", b")",
        ]);
    }
    rest.push(b")");
    archive(&rest)
}

fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    (directory, path)
}

fn unpack_bytes(bytes: &[u8], destination: &Utf8Path) -> Result<(), TreeError> {
    unpack(&mut NarReader::new(bytes, NarLimits::default()), destination)
}

#[test]
fn archives_are_as_nix_writes_them() {
    let hello = pack(&file(b"hello\n"));
    assert_eq!(hello.len(), 120);
    assert_eq!(Sha256::of(&hello).to_nix32(), "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw");

    let tree = pack(&demo());
    assert_eq!(tree.len(), 1072);
    assert_eq!(Sha256::of(&tree).to_hex(), "1f6aa3c4041976367935c13e6624b3b9d13a7ef61446964f08f52787d6b5dfea");

    let serde = pack(&directory([("libserde-1a2b.rlib", file(&b"RLIB".repeat(100)))]));
    assert_eq!(serde.len(), 696);
    assert_eq!(Sha256::of(&serde).to_nix32(), "05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9");

    let deps = pack(&directory([("manifest.json", file(b"{\"v\":1}\n"))]));
    assert_eq!(deps.len(), 296);
    assert_eq!(Sha256::of(&deps).to_nix32(), "0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm");
}

#[test]
fn contents_in_memory_are_written_as_streams_are() {
    for size in [0, 1, 7, 8, 9, BUFFER - 200, BUFFER, BUFFER + 1, 3 * BUFFER + 5] {
        let contents: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let mut writer = NarWriter::new(Vec::new());
        writer.regular_bytes(false, &contents).unwrap();
        assert!(writer.finish().unwrap() == pack(&file(&contents)), "{size}");
        assert!(read(&pack(&file(&contents))).unwrap() == file(&contents), "{size}");
    }
}

#[test]
fn offsets_say_where_contents_are() {
    let bytes = pack(&demo());
    let mut reader = NarReader::new(&bytes[..], NarLimits::default());
    let mut seen = vec![];
    while let Some(event) = reader.next_event().unwrap() {
        if let Event::Regular { size, offset, .. } = event {
            let start = usize::try_from(offset).unwrap();
            seen.push(bytes[start..start + usize::try_from(size).unwrap()].to_owned());
        }
    }
    assert_eq!(seen, [&b"hello\n"[..], b"", b"#!/bin/sh\necho hi\n"]);
}

#[test]
fn contents_that_are_not_read_are_passed_over() {
    let bytes = pack(&directory([("a", file(&[1; 100])), ("b", file(b"b"))]));
    for taken in [0, 1, 99, 100] {
        let mut reader = NarReader::new(&bytes[..], NarLimits::default());
        let mut sizes = vec![];
        while let Some(event) = reader.next_event().unwrap() {
            if let Event::Regular { size, mut contents, .. } = event {
                contents.read_exact(&mut vec![0; taken.min(usize::try_from(size).unwrap())]).unwrap();
                sizes.push(size);
            }
        }
        assert_eq!(sizes, [100, 1]);
    }
}

/// Gives one byte at a time, and is interrupted before each.
struct Dripping<'a>(&'a [u8], bool);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_stream_may_come_in_any_pieces() {
    let bytes = pack(&demo());
    assert_eq!(read_with(Dripping(&bytes, false), NarLimits::default()).unwrap(), demo());
    let mut writer = NarWriter::new(Vec::new());
    writer.regular(false, 6, &mut Dripping(b"hello\n", false)).unwrap();
    assert_eq!(writer.finish().unwrap(), pack(&file(b"hello\n")));
}

#[test]
fn a_stream_that_fails_is_an_error() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let bytes = pack(&demo());
    for end in [0, 24, 200, 1072] {
        let error = read_with(bytes[..end].chain(Failing), NarLimits::default()).unwrap_err();
        assert!(matches!(error, NarError::Read { .. }), "{end}: {error:?}");
    }
    let error = NarWriter::new(Vec::new()).regular(false, 1, &mut Failing).unwrap_err();
    assert!(matches!(error, NarWriteError::Contents { .. }));
}

#[test]
fn an_archive_that_ends_anywhere_too_early_is_refused() {
    let bytes = pack(&demo());
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end}");
        let mut reader = NarReader::new(&bytes[..end], NarLimits::default());
        let error = loop {
            match reader.next_event() {
                Ok(event) => assert!(event.is_some(), "{end}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, NarError::Truncated { .. }), "{end}: {error:?}");
        assert!(matches!(reader.next_event(), Err(NarError::AfterError)));
    }
}

#[test]
fn what_follows_an_archive_is_refused() {
    let bytes = pack(&demo());
    for rest in [&b"\0"[..], &[0; 8], &bytes] {
        let error = read(&[&bytes, rest].concat()).unwrap_err();
        assert!(matches!(error, NarError::Trailing { offset: 1072 }), "{error:?}");
    }
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    let mut bytes = pack(&file(b"hello\n"));
    // Twice eight bytes of the closing token come after the two bytes of padding.
    assert_eq!(bytes[102..104], [0, 0]);
    bytes[103] = 1;
    assert!(matches!(read(&bytes), Err(NarError::Padding { offset: 102 })));
    bytes[103] = 0;
    bytes[23] = 1;
    assert!(matches!(read(&bytes), Err(NarError::Padding { .. })));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"/etc", b"../x", b"a\0b", b"\0"] {
        let error = read(&with_names(&[name])).unwrap_err();
        assert!(matches!(error, NarError::Name { .. }), "{error:?}");
    }
    for name in [&b"..."[..], b".a", b" ", b"\\", b"a\nb", b"\xff"] {
        assert!(read(&with_names(&[name])).is_ok());
    }
}

#[test]
fn names_out_of_order_are_refused() {
    for names in [[&b"a"[..], b"a"], [b"b", b"a"], [b"ab", b"a"], [b"a", b"B"], [b"\xff", b"a"]] {
        let error = read(&with_names(&names)).unwrap_err();
        assert!(matches!(error, NarError::Order { .. }), "{error:?}");
    }
    assert!(read(&with_names(&[b"B", b"a", b"a.", b"a0", b"\xff"])).is_ok());
}

#[test]
fn targets_that_no_link_can_have_are_refused() {
    for target in [&b""[..], b"a\0b"] {
        let bytes = archive(&[b"(", b"type", b"symlink", b"target", target, b")"]);
        assert!(matches!(read(&bytes), Err(NarError::Target { .. })));
    }
}

#[test]
fn words_of_another_grammar_are_refused() {
    let file: [&[u8]; 6] = [b"(", b"type", b"regular", b"contents", b"x", b")"];
    assert!(read(&archive(&file)).is_ok());
    let grammar: [&[&[u8]]; 13] = [
        &[],
        &[b")"],
        &[b"(", b")"],
        &[b"(", b"type", b"fifo", b")"],
        &[b"(", b"type", b"Regular", b"contents", b"x", b")"],
        &[b"(", b"type", b"regular", b")"],
        &[b"(", b"type", b"regular", b"executable", b"", b")"],
        &[b"(", b"type", b"regular", b"executable", b"x", b"contents", b"x", b")"],
        &[b"(", b"type", b"regular", b"executable", b"", b"executable", b"", b"contents", b"x", b")"],
        &[b"(", b"type", b"regular", b"contents", b"x", b"contents", b"y", b")"],
        &[b"(", b"type", b"symlink", b"target", b"x"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"node", b"(", b"type", b"directory", b")", b")", b")"],
        &[b"(", b"type", b"directory", b"entry", b"(", b"name", b"x", b")", b")"],
    ];
    for rest in grammar {
        let error = read(&archive(rest)).unwrap_err();
        assert!(matches!(error, NarError::Unexpected { .. } | NarError::Truncated { .. }), "{rest:?}: {error:?}");
    }
    for magic in [&b"nix-archive-2"[..], b"", b"nix-archive-1 "] {
        let bytes = [tokens(&[magic]), tokens(&file)].concat();
        assert!(matches!(read(&bytes), Err(NarError::Unexpected { offset: 0, .. })));
    }
}

#[test]
fn absurd_lengths_are_refused_before_memory_is_taken() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40] {
        let length = length.to_le_bytes();
        let prefixes: [&[&[u8]]; 4] = [
            &[],
            &[b"(", b"type", b"regular", b"contents"],
            &[b"(", b"type", b"symlink", b"target"],
            &[b"(", b"type", b"directory", b"entry", b"(", b"name"],
        ];
        for prefix in prefixes {
            let error = read(&[archive(prefix), length.to_vec()].concat()).unwrap_err();
            assert!(matches!(error, NarError::Limit { .. } | NarError::Unexpected { .. }), "{error:?}");
        }
        let error = read(&length).unwrap_err();
        assert!(matches!(error, NarError::Unexpected { offset: 0, .. }));
    }
}

#[test]
fn each_limit_holds_exactly() {
    let deep = |depth: usize| (1..depth).fold(directory([]), |tree, _| directory([("d", tree)]));
    let default = NarLimits::default();
    let cases: [(&str, Vec<u8>, NarLimits, NarLimits); 6] = [
        (
            "bytes",
            pack(&demo()),
            NarLimits { total_bytes: 1072, ..default },
            NarLimits { total_bytes: 1071, ..default },
        ),
        (
            "bytes in a file",
            pack(&file(b"hello\n")),
            NarLimits { file_bytes: 6, ..default },
            NarLimits { file_bytes: 5, ..default },
        ),
        ("entries", pack(&demo()), NarLimits { entries: 5, ..default }, NarLimits { entries: 4, ..default }),
        ("directories inside each other", pack(&deep(64)), default, NarLimits { depth: 63, ..default }),
        ("bytes in a name", with_names(&[&[b'x'; 255]]), default, NarLimits { name: 254, ..default }),
        (
            "bytes in the target of a symbolic link",
            pack(&Tree::Link(vec![b'x'; 4095])),
            default,
            NarLimits { target: 4094, ..default },
        ),
    ];
    for (limited, bytes, wide, narrow) in cases {
        assert!(read_with(&bytes[..], wide).is_ok(), "{limited}");
        let error = read_with(&bytes[..], narrow).unwrap_err();
        assert!(matches!(error, NarError::Limit { what, .. } if what == limited), "{limited}: {error:?}");
    }
}

#[test]
fn the_writer_refuses_what_readers_refuse() {
    let mut writer = NarWriter::new(Vec::new());
    for _ in 0..64 {
        writer.begin_directory().unwrap();
        writer.entry(b"d").unwrap();
    }
    assert!(matches!(writer.begin_directory(), Err(NarWriteError::Depth)));

    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
        let mut writer = NarWriter::new(Vec::new());
        writer.begin_directory().unwrap();
        assert!(matches!(writer.entry(name), Err(NarWriteError::Name { .. })));
    }
    for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
        assert!(matches!(NarWriter::new(Vec::new()).symlink(target), Err(NarWriteError::Target)));
    }
    for second in [b"a", b"B"] {
        let mut writer = NarWriter::new(Vec::new());
        writer.begin_directory().unwrap();
        writer.entry(b"a").unwrap();
        writer.symlink(b"x").unwrap();
        assert!(matches!(writer.entry(second), Err(NarWriteError::Order { .. })));
    }
    for contents in [&b"hell"[..], b"hello!"] {
        let error = NarWriter::new(Vec::new()).regular(false, 5, &mut &contents[..]).unwrap_err();
        assert!(matches!(error, NarWriteError::Length { announced: 5 }));
    }
}

#[test]
fn the_writer_refuses_events_that_make_no_tree() {
    type Write = fn(&mut NarWriter<Vec<u8>>) -> Result<(), NarWriteError>;
    let [begin, entry, end, link]: [Write; 4] = [
        |writer| writer.begin_directory(),
        |writer| writer.entry(b"a"),
        |writer| writer.end_directory(),
        |writer| writer.symlink(b"x"),
    ];
    for events in [
        &[entry][..],
        &[end],
        &[link, link],
        &[link, begin],
        &[link, end],
        &[begin, link],
        &[begin, entry, entry],
        &[begin, entry, end],
        &[begin, end, end],
    ] {
        let mut writer = NarWriter::new(Vec::new());
        let (last, first) = events.split_last().unwrap();
        first.iter().for_each(|event| event(&mut writer).unwrap());
        assert!(matches!(last(&mut writer), Err(NarWriteError::Misplaced { .. })));
        assert!(matches!(writer.finish(), Err(NarWriteError::Misplaced { .. })));
    }
    for incomplete in [&[][..], &[begin], &[begin, entry]] {
        let mut writer = NarWriter::new(Vec::new());
        incomplete.iter().for_each(|event| event(&mut writer).unwrap());
        assert!(matches!(writer.finish(), Err(NarWriteError::Misplaced { event: "the end" })));
    }
}

#[test]
fn a_tree_survives_the_disk() {
    let (_guard, path) = scratch();
    let bytes = pack(&demo());
    unpack_bytes(&bytes, &path.join("t")).unwrap();
    assert_eq!(fs::read(path.join("t/a.txt")).unwrap(), b"hello\n");
    assert_eq!(fs::read_link(path.join("t/sub/link")).unwrap().to_str(), Some("../a.txt"));
    let mut packed = vec![];
    write_path(&path.join("t"), &mut packed).unwrap();
    assert_eq!(packed, bytes);
}

#[test]
fn a_file_or_link_alone_survives_the_disk() {
    let (_guard, path) = scratch();
    let executable = Tree::File { executable: true, contents: vec![1; BUFFER + 3] };
    for (name, tree) in [("file", file(b"x")), ("run", executable), ("link", Tree::Link(b"/nowhere".to_vec()))] {
        unpack_bytes(&pack(&tree), &path.join(name)).unwrap();
        let mut packed = vec![];
        write_path(&path.join(name), &mut packed).unwrap();
        assert!(packed == pack(&tree), "{name}");
    }
}

#[test]
fn what_is_there_is_never_replaced_and_never_removed() {
    let (_guard, path) = scratch();
    fs::write(path.join("file"), "mine").unwrap();
    fs::create_dir(path.join("directory")).unwrap();
    fs::write(path.join("directory/kept"), "mine").unwrap();
    std::os::unix::fs::symlink(path.join("elsewhere"), path.join("dangling")).unwrap();
    for tree in [file(b"theirs"), demo(), Tree::Link(b"theirs".to_vec())] {
        for name in ["file", "directory", "dangling"] {
            assert!(matches!(unpack_bytes(&pack(&tree), &path.join(name)), Err(TreeError::System { .. })), "{name}");
        }
    }
    assert_eq!(fs::read(path.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read(path.join("directory/kept")).unwrap(), b"mine");
    assert!(path.join("dangling").is_symlink() && !path.join("elsewhere").exists());
}

#[test]
fn a_link_in_an_archive_is_never_followed() {
    let (_guard, path) = scratch();
    let outside = path.join("outside");
    fs::create_dir(&outside).unwrap();
    // First a link to a directory outside, then a directory of that name with a file in it.
    let bytes = archive(&[
        b"(",
        b"type",
        b"directory",
        b"entry",
        b"(",
        b"name",
        b"d",
        b"node",
        b"(",
        b"type",
        b"symlink",
        b"target",
        outside.as_str().as_bytes(),
        b")",
        b")",
        b"entry",
        b"(",
        b"name",
        b"d",
        b"node",
        b"(",
        b"type",
        b"directory",
        b"entry",
        b"(",
        b"name",
        b"evil",
        b"node",
        b"(",
        b"type",
        b"regular",
        b"contents",
        b"x",
        b")",
        b")",
        b")",
        b")",
        b")",
    ]);
    assert!(matches!(
        unpack_bytes(&bytes, &path.join("t")),
        Err(TreeError::Archive { source: NarError::Order { .. }, .. })
    ));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!path.join("t").exists());
}

#[test]
fn what_was_unpacked_of_a_bad_archive_is_removed_again() {
    let (_guard, path) = scratch();
    let outside = path.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "mine").unwrap();
    let tree = directory([
        ("a", Tree::Link(outside.as_str().into())),
        ("b", directory([("c", file(b"x"))])),
        ("z", file(&[0; 1000])),
    ]);
    let bytes = pack(&tree);
    for end in (0..bytes.len()).step_by(8) {
        assert!(unpack_bytes(&bytes[..end], &path.join("t")).is_err());
        assert!(!path.join("t").exists(), "{end}");
    }
    let trailing = [&pack(&file(b"x"))[..], b"rest"].concat();
    assert!(unpack_bytes(&trailing, &path.join("t")).is_err());
    assert!(!path.join("t").exists());
    assert!(outside.join("kept").exists());
}

#[test]
fn a_socket_is_not_packed() {
    let (_guard, path) = scratch();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    assert!(matches!(write_path(&path, io::sink()), Err(TreeError::Special { .. })));
    assert!(matches!(write_path(&path.join("missing"), io::sink()), Err(TreeError::System { .. })));
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Tree::File { executable, contents }),
        proptest::collection::vec(1_u8.., 1..20).prop_map(Tree::Link),
    ];
    let name = proptest::collection::vec(1_u8.., 1..6).prop_filter("a name", |name| is_name(name));
    leaf.prop_recursive(4, 24, 5, move |tree| {
        proptest::collection::btree_map(name.clone(), tree, 0..5).prop_map(Tree::Directory)
    })
}

proptest! {
    #[test]
    fn trees_survive(tree in any_tree()) {
        prop_assert_eq!(read(&pack(&tree)).unwrap(), tree);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn trees_survive_the_disk(tree in any_tree()) {
        let (_guard, path) = scratch();
        unpack_bytes(&pack(&tree), &path.join("t")).unwrap();
        let mut packed = vec![];
        write_path(&path.join("t"), &mut packed).unwrap();
        prop_assert_eq!(packed, pack(&tree));
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_tree(tree in any_tree(), position: proptest::sample::Index, bit in 0_u8..8) {
        let mut bytes = pack(&tree);
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert_ne!(read(&bytes).ok(), Some(tree));
    }

    #[test]
    fn whatever_is_read_is_written_the_same(tree in any_tree(), position: proptest::sample::Index, bit in 0_u8..8) {
        let mut bytes = pack(&tree);
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        if let Ok(other) = read(&bytes) {
            prop_assert_eq!(pack(&other), bytes);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, with_magic: bool) {
        if with_magic {
            bytes = [archive(&[b"(", b"type"]), bytes].concat();
        }
        let _ = read(&bytes);
    }
}
