//! What the linker reads, of which rustc says nothing: libraries and scripts that arguments name, what those name in
//! their turn, libraries in directories that are searched, and the programs that link.
//!
//! `#[link]` names its library in the code, where nobody looks: of each directory that is searched all libraries
//! count. Called by gather for what rustc compiled. What cannot be followed is a reason not to keep the unit.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::Roots;
use crate::artifact::dynamic::{DynamicInput, Way, is_base_library};
use crate::cargo::invocation::RustcInvocation;

use super::gather::NotKept;
use super::matching::absolute;

/// Scripts that name each other deeper than this are not followed.
const DEEPEST: usize = 16;

/// What is longer is no script.
const LONGEST_SCRIPT: u64 = 1 << 20;

/// Libraries of every kind.
const LIBRARIES: [&str; 4] = ["*.a", "*.so", "*.lib", "*.dylib"];

/// What a compiler driver takes from a directory besides: what each program begins with.
const START_FILES: &str = "*.o";

/// The programs that a compiler driver runs to link.
const PROGRAMS: &str = "{ld,ld.*,*-ld,*-ld.*,collect2,lto-wrapper}";

/// One call of rustc, and what is known of the build around it.
pub(super) struct LinkingCall<'a> {
    /// The call.
    pub(super) invocation: &'a RustcInvocation,
    /// The directory that it ran in.
    pub(super) directory: &'a Utf8Path,
    /// This machine's directories.
    pub(super) roots: &'a Roots,
    /// The `OUT_DIR`s of the build, whose content is in the key already.
    pub(super) out_dirs: &'a [Utf8PathBuf],
    /// Where cargo itself puts what it builds: there only libraries that are asked for by name count.
    pub(super) of_cargo: &'a [Utf8PathBuf],
    /// The variables of the linker.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether what is linked is for the user. Of build scripts and proc macros it does not matter who linked them.
    pub(super) is_for_user: bool,
}

/// Everything that only the linker reads.
pub(super) fn linker_inputs(call: &LinkingCall<'_>) -> Result<BTreeSet<DynamicInput>, NotKept> {
    let invocation = call.invocation;
    if !invocation.emit.iter().any(|kind| kind == "link") {
        return Ok(BTreeSet::new());
    }
    let (inputs, directories) = (BTreeSet::new(), Vec::new());
    let mut linking =
        Linking { call, inputs, directories, libraries: BTreeSet::new(), response_files: BTreeSet::new() };
    // rustc itself takes static libraries out of these, also for what is not linked.
    for search in invocation.search_paths.iter().filter(|search| matches!(search.kind.as_str(), "native" | "all")) {
        linking.directories.push(linking.absolute(search.path.as_str()));
    }
    if is_linked(invocation) {
        linking.linker(invocation.linker.as_deref())?;
        let arguments = arguments(invocation);
        linking.options(&arguments)?;
        linking.variables()?;
        linking.words(&arguments)?;
    }
    linking.all_of_directories()?;
    Ok(linking.inputs)
}

/// Whether rustc runs a linker.
fn is_linked(invocation: &RustcInvocation) -> bool {
    let is_archive = |kind: &String| matches!(kind.as_str(), "lib" | "rlib" | "staticlib");
    invocation.test || invocation.crate_types.is_empty() || !invocation.crate_types.iter().all(is_archive)
}

/// The words that rustc hands to the linker, by each of its options, with what is wrapped for a compiler driver taken
/// apart.
fn arguments(invocation: &RustcInvocation) -> Vec<String> {
    let unstable = invocation.unstable.iter().filter_map(|option| {
        let (name, value) = option.split_once('=')?;
        name.replace('_', "-").starts_with("pre-link-arg").then_some(value)
    });
    let kind = |kind: &Option<String>| kind.as_deref().is_some_and(|kind| kind.starts_with("link-arg"));
    let by_library = invocation.native_libraries.iter().filter(|library| kind(&library.kind));
    let all = unstable
        .chain(by_library.map(|library| library.name.as_str()))
        .chain(invocation.link_args.iter().map(String::as_str));
    all.flat_map(split_argument).collect()
}

fn split_argument(argument: &str) -> Vec<String> {
    let words = argument.split_whitespace().flat_map(|word| match word.strip_prefix("-Wl,") {
        Some(wrapped) => wrapped.split(',').collect(),
        None => vec![word],
    });
    words.filter(|word| !word.is_empty() && *word != "-Xlinker").map(str::to_owned).collect()
}

struct Linking<'a, 'c> {
    call: &'a LinkingCall<'c>,
    inputs: BTreeSet<DynamicInput>,
    /// Where libraries and scripts are searched, in order.
    directories: Vec<Utf8PathBuf>,
    /// The libraries that are asked for by name.
    libraries: BTreeSet<String>,
    /// The files with more arguments, as far as they were read.
    response_files: BTreeSet<Utf8PathBuf>,
}

impl Linking<'_, '_> {
    fn absolute(&self, path: &str) -> Utf8PathBuf {
        absolute(self.call.directory, Utf8Path::new(path))
    }

    /// Where a path leads that begins in an `OUT_DIR`, whose files the key has already.
    fn way(&self, path: &Utf8Path) -> Option<Way> {
        Way::of(self.call.out_dirs, path)
    }

    fn is_pinned(&self, path: &Utf8Path) -> bool {
        self.way(path) == Some(Way::Within)
    }

    fn file(&mut self, path: &Utf8Path) {
        match self.way(path) {
            Some(way) => self.inputs.extend(way.inputs(false, self.call.roots)),
            None => drop(self.inputs.insert(DynamicInput::File { path: self.call.roots.hide(path) })),
        }
    }

    fn files(&mut self, directory: &Utf8Path, pattern: &str) {
        let path = self.call.roots.hide(directory);
        self.inputs.insert(DynamicInput::Glob { path, pattern: pattern.to_owned() });
    }

    /// The program that links. One that the plan names by content, by a name or a path of the system's, is there.
    fn linker(&mut self, linker: Option<&str>) -> Result<(), NotKept> {
        let Some(linker) = linker else { return Ok(()) };
        if !linker.contains('/') {
            if self.call.is_for_user {
                self.inputs.insert(DynamicInput::Tool { program: linker.to_owned() });
            }
            return Ok(());
        }
        let path = self.absolute(linker);
        if !path.is_file() {
            return Err(unstable(format!("there is no linker {path}")));
        }
        if !self.call.is_for_user && (is_systems(&path) || path.starts_with("/nix")) {
            return Ok(());
        }
        // The flags, which are in the key, name an absolute path as it is.
        if linker.starts_with('/') && self.call.roots.hide(&path) == path && !linker.contains(char::is_whitespace) {
            self.inputs.insert(DynamicInput::Tool { program: linker.to_owned() });
        } else {
            self.file(&path);
        }
        Ok(())
    }

    /// What options say, whatever their order: directories and libraries.
    fn options(&mut self, arguments: &[String]) -> Result<(), NotKept> {
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = |short: &str, long: &str| -> Option<String> {
                let separate = word == short || !long.is_empty() && word == long;
                let own = word.strip_prefix(short).filter(|_| !word.starts_with("--"));
                let attached = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')).or(own);
                if separate { words.next().map(str::to_owned) } else { attached.map(str::to_owned) }
            };
            if let Some(directory) = value("-L", "--library-path") {
                self.search(&directory)?;
            } else if let Some(library) = value("-l", "--library") {
                self.libraries.insert(library);
            } else if let Some(program) = word.strip_prefix("-fuse-ld=") {
                if self.call.is_for_user && !program.contains('/') {
                    for program in [format!("ld.{program}"), program.to_owned()] {
                        self.inputs.insert(DynamicInput::Tool { program });
                    }
                }
            } else if !["-Bstatic", "-Bdynamic", "-Bshareable", "-Bsymbolic", "-Bsymbolic-functions", "-Bgroup"]
                .contains(&word)
                && let Some(directory) = value("-B", "")
            {
                self.driver_directory(&directory);
            } else if let Some(file) = word.strip_prefix('@') {
                self.response_file(file)?;
            }
        }
        Ok(())
    }

    /// A directory in which the linker searches.
    fn search(&mut self, directory: &str) -> Result<(), NotKept> {
        if directory.starts_with(['=', '$']) {
            return Err(unstable(format!("{directory} is relative to the linker's own directory")));
        }
        let directory = self.absolute(directory);
        self.directories.push(directory);
        Ok(())
    }

    /// A directory in which a compiler driver searches for programs, start files and libraries.
    fn driver_directory(&mut self, directory: &str) {
        let directory = self.absolute(directory);
        if is_systems(&directory) {
            return;
        }
        if self.call.is_for_user {
            self.files(&directory, PROGRAMS);
        }
        self.files(&directory, START_FILES);
        self.directories.push(directory);
    }

    fn response_file(&mut self, file: &str) -> Result<(), NotKept> {
        let path = self.absolute(file);
        // Each once: they can name each other, and themselves.
        if !self.response_files.insert(path.clone()) {
            return Ok(());
        }
        let Some(text) = script(&path) else { return Ok(()) };
        let unquoted = text.replace(['"', '\''], " ");
        let arguments = split_argument(&unquoted);
        self.file(&path);
        self.options(&arguments)?;
        self.words(&arguments)
    }

    /// What the environment tells the linker and its driver.
    fn variables(&mut self) -> Result<(), NotKept> {
        let value = |name: &str| (self.call.variable)(name).filter(|value| !value.is_empty());
        if value("GCC_EXEC_PREFIX").is_some() {
            return Err(unstable("GCC_EXEC_PREFIX lets another compiler link".to_owned()));
        }
        let programs = value("COMPILER_PATH").filter(|_| self.call.is_for_user);
        for directory in programs.iter().flat_map(|value| value.split(':')) {
            let directory = self.absolute(directory);
            self.files(&directory, PROGRAMS);
        }
        // An empty name is the current directory.
        for directory in value("LIBRARY_PATH").iter().flat_map(|value| value.split(':')) {
            let directory = self.absolute(directory);
            if !is_systems(&directory) {
                self.files(&directory, START_FILES);
            }
            self.directories.push(directory);
        }
        Ok(())
    }

    /// The files that arguments name: objects, libraries, scripts.
    fn words(&mut self, arguments: &[String]) -> Result<(), NotKept> {
        for (at, argument) in arguments.iter().enumerate() {
            let is_script =
                at > 0 && matches!(arguments[at - 1].as_str(), "-T" | "--script") || argument.starts_with("--script=");
            for word in argument.split([',', '=']) {
                for start in ["", "-T"] {
                    let Some(path) = word.strip_prefix(start).filter(|path| !path.is_empty() && !path.starts_with('-'))
                    else {
                        continue;
                    };
                    // `-Ttext=…` is an address.
                    let is_address = ["text", "data", "bss", "rodata", "ldata"].iter().any(|of| path.starts_with(of));
                    let is_named = is_script && word != "--script" || start == "-T" && !is_address;
                    self.found_file(path, is_named, 0)?;
                }
            }
        }
        Ok(())
    }

    /// A file that is searched here and then where libraries are. The places where it is not count, too: it would be
    /// found there first. `must_be` says that without it nothing could have been linked.
    fn found_file(&mut self, name: &str, must_be: bool, depth: usize) -> Result<(), NotKept> {
        if depth > DEEPEST {
            return Err(unstable(format!("scripts of the linker name each other too deeply, as far as {name}")));
        }
        let mut places: Vec<_> = std::iter::once(self.absolute(name)).collect();
        if !name.starts_with('/') {
            places.extend(self.directories.iter().map(|directory| absolute(directory, Utf8Path::new(name))));
        }
        let Some(found) = places.iter().position(|place| place.is_file()) else {
            return if must_be {
                Err(unstable(format!("{name}, which the linker read, is not found")))
            } else {
                Ok(())
            };
        };
        for place in &places[..=found] {
            self.file(place);
        }
        self.follow(&places[found], must_be, depth)
    }

    /// What a linker script names.
    fn follow(&mut self, path: &Utf8Path, must_be: bool, depth: usize) -> Result<(), NotKept> {
        let Some(text) = script(path) else { return Ok(()) };
        let text = without_comments(&text).replace('(', " ( ").replace(')', " ) ").replace([',', ';', '"'], " ");
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let is_list = words.peek() == Some(&"(");
            match word {
                "INCLUDE" => {
                    if let Some(name) = words.next() {
                        self.found_file(name, must_be, depth + 1)?;
                    }
                }
                "INPUT" | "GROUP" | "STARTUP" | "SEARCH_DIR" if is_list => {
                    let mut open = 0_usize;
                    for item in words.by_ref() {
                        match item {
                            "(" => open += 1,
                            ")" => open -= 1,
                            "AS_NEEDED" => {}
                            _ if word == "SEARCH_DIR" => self.search(item.trim_start_matches('='))?,
                            _ => match item.strip_prefix("-l") {
                                Some(library) => drop(self.libraries.insert(library.to_owned())),
                                None => self.found_file(item.trim_start_matches('='), must_be, depth + 1)?,
                            },
                        }
                        if open == 0 {
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The libraries of the directories that are searched, and those that were asked for by name wherever they are.
    fn all_of_directories(&mut self) -> Result<(), NotKept> {
        let mut at = 0;
        // Scripts among the libraries can name more directories.
        while at < self.directories.len() {
            let directory = self.directories[at].clone();
            at += 1;
            let way = self.way(&directory);
            self.inputs.extend(way.iter().flat_map(|way| way.places(self.call.roots)));
            let directory = match &way {
                Some(Way::Out { path, .. }) => path.clone(),
                _ => directory,
            };
            if is_systems(&directory) || self.call.of_cargo.contains(&directory) {
                continue;
            }
            let is_pinned = way == Some(Way::Within);
            if !is_pinned {
                LIBRARIES.iter().for_each(|pattern| self.files(&directory, pattern));
            }
            for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
                if !matches!(entry.path().extension(), Some("a" | "so" | "lib" | "dylib")) {
                    continue;
                }
                if is_pinned {
                    // It may be a link to what lies elsewhere.
                    self.file(entry.path());
                }
                self.follow(entry.path(), false, 0)?;
            }
            if at > 1000 {
                return Err(unstable("too many directories are searched for libraries".to_owned()));
            }
        }
        for library in std::mem::take(&mut self.libraries) {
            self.library(&library)?;
        }
        Ok(())
    }

    fn library(&mut self, name: &str) -> Result<(), NotKept> {
        if let Some(file) = name.strip_prefix(':') {
            let of_system = SYSTEMS_OWN.iter().map(|directory| Utf8Path::new(directory).join(file));
            let given = self.directories.iter().map(|directory| directory.join(file));
            let places: Vec<_> = given.chain(of_system).collect();
            let Some(found) = places.iter().position(|place| place.is_file()) else {
                return Err(unstable(format!("the library {file} is not found")));
            };
            places[..=found].iter().for_each(|place| self.file(place));
            return self.follow(&places[found], false, 0);
        }
        if is_base_library(name) {
            return Ok(());
        }
        let search = self.directories.iter().filter(|directory| !self.is_pinned(directory));
        let search: Vec<_> = search.map(|directory| self.call.roots.hide(directory)).collect();
        // Which of the two is taken depends on what stands before it.
        for kind in ["dylib", "static"] {
            let (kind, name, search) = (kind.to_owned(), name.to_owned(), search.clone());
            self.inputs.insert(DynamicInput::SystemLibrary { kind, name, search });
        }
        Ok(())
    }
}

/// Directories whose libraries come with the system.
const SYSTEMS_OWN: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

fn is_systems(path: &Utf8Path) -> bool {
    SYSTEMS_OWN.iter().chain(&["/usr/bin", "/bin"]).any(|own| path.starts_with(own))
}

fn unstable(what: String) -> NotKept {
    NotKept::Unstable { what }
}

/// The text of a file, if it can be a script of the linker rather than code.
fn script(path: &Utf8Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))?;
    let mut start = [0; 8];
    let mut limited = file.take(LONGEST_SCRIPT);
    let known = limited.read(&mut start).ok()?;
    if start.starts_with(b"\x7fELF") || start.starts_with(b"!<arch>") || start.starts_with(b"!<thin>") {
        return None;
    }
    let mut bytes = start[..known].to_vec();
    limited.read_to_end(&mut bytes).ok()?;
    text.push_str(&String::from_utf8_lossy(&bytes));
    (!text.contains('\0')).then_some(text)
}

fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, comment)) = rest.split_once("/*") {
        kept.push_str(before);
        kept.push(' ');
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What a program that is called with these arguments depends upon, as texts. `OUT_DIR` is `<root>/out`.
    fn inputs(
        root: &Utf8Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        is_for_user: bool,
    ) -> Result<Vec<String>, String> {
        let arguments = [&["--crate-name=app", "--crate-type=bin", "--emit=dep-info,link"], arguments].concat();
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let found = linker_inputs(&LinkingCall {
            invocation: &RustcInvocation::parse(&arguments),
            directory: root,
            roots: &Roots::new([]),
            out_dirs: &[root.join("out")],
            of_cargo: &[root.join("debug")],
            variable: &|name| variables.get(name).map(|value| (*value).to_owned()),
            is_for_user,
        });
        let texts = |found: BTreeSet<DynamicInput>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        found
            .map(texts)
            .map_err(|error| error.to_string().replace(root.as_str(), ""))
            .map(|texts| texts.iter().map(|text| text.replace(root.as_str(), "")).collect())
    }

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        for name in ["out", "debug", "native", "tools"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        (directory, root)
    }

    const NATIVE: [&str; 4] =
        ["files /native/*.a", "files /native/*.dylib", "files /native/*.lib", "files /native/*.so"];

    #[test]
    fn ordinary_calls_depend_on_nothing_here() {
        let (_directory, root) = directory();
        let out = format!("native={root}/out/lib");
        let ordinary =
            ["-L", &out, "-Ldebug", "-L/usr/lib/x", "-Clink-arg=-Wl,--as-needed", "-Clink-arg=-lm", "-Clinker=cc"];
        assert_eq!(inputs(&root, &ordinary, &[("LIBRARY_PATH", "/usr/lib")], false).unwrap(), [""; 0]);
        let of_archive = ["-Clink-arg=-Lnative", "-Clink-arg=-lfoo"];
        let archive = [&["--crate-type=rlib"][..], &of_archive].concat();
        let invocation = RustcInvocation::parse(&[&["--emit=link"][..], &archive].concat());
        assert!(!is_linked(&invocation));
    }

    #[test]
    fn libraries_and_directories_are_found_in_every_form() {
        let (_directory, root) = directory();
        let named = ["system library foo (dylib)", "system library foo (static)"];
        let forms: [&[&str]; 8] = [
            &["-Clink-arg=-Lnative", "-Clink-arg=-lfoo"],
            &["-Clink-args=-L native -l foo"],
            &["-C", "link-arg=-Wl,-Lnative,-lfoo"],
            &["-C", "link_arg=-Wl,--library-path=native,--library,foo"],
            &["--codegen=link-args=-Xlinker -Lnative -Xlinker -lfoo"],
            &["-Zpre-link-args=-Lnative -lfoo"],
            &["-Lnative=native", "-llink-arg=-lfoo"],
            &["-Clink-arg=-lfoo", "-Clink-arg=-L", "-Clink-arg=native"],
        ];
        for form in forms {
            let mut expected = NATIVE.to_vec();
            expected.extend(named);
            assert_eq!(inputs(&root, form, &[], false).unwrap(), expected, "{form:?}");
        }
        fs::write(root.join("arguments"), "-Lnative \"-lfoo\"\n").unwrap();
        let by_file = inputs(&root, &["-Clink-arg=@arguments"], &[], false).unwrap();
        assert!(by_file.contains(&"file /arguments".to_owned()) && by_file.contains(&named[0].to_owned()));
        fs::write(root.join("native/libfoo.so.2"), "").unwrap();
        let exact = inputs(&root, &["-Clink-args=-Lnative -l:libfoo.so.2"], &[], false).unwrap();
        assert!(exact.contains(&"file /native/libfoo.so.2".to_owned()), "{exact:?}");
    }

    #[test]
    fn files_of_arguments_that_name_themselves_are_read_once() {
        let (_directory, root) = directory();
        fs::write(root.join("arguments"), "@arguments -lfoo").unwrap();
        let found = inputs(&root, &["-Clink-arg=@arguments"], &[], false).unwrap();
        assert_eq!(found, ["file /arguments", "system library foo (dylib)", "system library foo (static)"]);
    }

    #[test]
    fn what_scripts_include_counts_and_so_do_the_places_where_it_is_not() {
        let (_directory, root) = directory();
        fs::write(root.join("out/link.x"), "INCLUDE memory.x /* INCLUDE no.x */ SECTIONS { .text : { *(.text) } }")
            .unwrap();
        let arguments = ["-Lout", "-Lnative", "-Clink-arg=-Tlink.x", "-Clink-arg=-Ttext=0x1000"];
        let refused = inputs(&root, &arguments, &[], false).unwrap_err();
        assert!(refused.contains("memory.x"), "{refused}");
        fs::write(root.join("native/memory.x"), "GROUP ( native/one.o AS_NEEDED ( -lfoo ) )").unwrap();
        assert!(inputs(&root, &arguments, &[], false).unwrap_err().contains("native/one.o"));
        fs::write(root.join("native/one.o"), b"\x7fELF").unwrap();
        let found = inputs(&root, &arguments, &[], false).unwrap();
        let files = ["file /link.x", "file /memory.x", "file /native/memory.x", "file /native/one.o"];
        assert_eq!(found[..4], files, "{found:?}");
        assert!(found.contains(&"system library foo (static)".to_owned()), "{found:?}");
        // A library that is a script.
        fs::write(root.join("native/memory.x"), "").unwrap();
        fs::write(root.join("native/libbar.so"), "INPUT(/nowhere/libbar.a tools/libbar.a)").unwrap();
        fs::write(root.join("tools/libbar.a"), "!<arch>").unwrap();
        let found = inputs(&root, &arguments, &[], false).unwrap();
        assert!(found.contains(&"file /tools/libbar.a".to_owned()), "{found:?}");
        fs::write(root.join("memory.x"), "INCLUDE memory.x").unwrap();
        assert!(inputs(&root, &arguments, &[], false).unwrap_err().contains("deeply"));
    }

    #[test]
    fn the_programs_that_link_for_the_user_count() {
        let (_directory, root) = directory();
        let both = |arguments: &[&str], variables: &[(&str, &str)]| {
            [true, false].map(|is_for_user| inputs(&root, arguments, variables, is_for_user))
        };
        let [user, other] = both(&["-Clink-arg=-fuse-ld=mold", "-Clinker=clang"], &[]);
        assert_eq!(user.unwrap(), ["program clang", "program ld.mold", "program mold"]);
        assert_eq!(other.unwrap(), [""; 0]);
        let programs = format!("files /tools/{PROGRAMS}");
        let compiler_path = [("COMPILER_PATH", "tools")];
        let [user, other] = both(&[], &compiler_path);
        assert_eq!((user.unwrap(), other.unwrap()), (vec![programs.clone()], Vec::new()));
        let [user, other] = both(&["-Clink-arg=-Btools", "-Clink-arg=-Wl,-Bstatic"], &[]);
        let (user, other) = (user.unwrap(), other.unwrap());
        assert!(user.contains(&programs) && !other.contains(&programs), "{user:?}");
        assert!([user, other].iter().all(|inputs| inputs.contains(&"files /tools/*.o".to_owned())));
        let [user, other] = both(&["-Clinker=./script"], &[]);
        assert!(user.unwrap_err().contains("no linker") && other.unwrap_err().contains("no linker"));
        fs::write(root.join("script"), "").unwrap();
        for found in both(&["-C", "linker=./script"], &[]) {
            assert_eq!(found.unwrap(), ["file /script"]);
        }
        assert!(both(&[], &[("GCC_EXEC_PREFIX", "tools/")]).iter().all(Result::is_err));
    }

    #[test]
    fn all_libraries_of_the_library_path_count() {
        let (_directory, root) = directory();
        let found = inputs(&root, &[], &[("LIBRARY_PATH", "native:/usr/lib")], false).unwrap();
        let mut expected = NATIVE.to_vec();
        expected.insert(2, "files /native/*.o");
        expected.sort_unstable();
        let mut found_sorted = found;
        found_sorted.sort_unstable();
        assert_eq!(found_sorted, expected);
    }
}
