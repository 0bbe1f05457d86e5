//! Reads a command line, option by option.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};

use camino::Utf8PathBuf;

use super::options::{self, Meaning, Value};
use super::{ArgumentsError, CargoCommand, ConfigArgument, FeatureSelection, Subcommand, TargetNames};

impl CargoCommand {
    /// Reads the arguments after `cargo nixcache`: global options, the command, its options.
    ///
    /// # Errors
    ///
    /// When there is no command. Whatever else is wrong is left to cargo to say.
    pub fn parse(arguments: &[OsString]) -> Result<Self, ArgumentsError> {
        let mut command = Self::empty(arguments.to_vec());
        let mut left: VecDeque<OsString> = arguments.iter().cloned().collect();
        let name = loop {
            let argument = left.pop_front().ok_or(ArgumentsError::NoCommand)?;
            match argument.to_str() {
                Some(text) if text.starts_with('-') => command.option(text, &mut left, options::shared),
                Some(text) => break text.to_owned(),
                None => break argument.to_string_lossy().into_owned(),
            }
        };
        command.subcommand = Subcommand::named(&name);
        // Aliases hide external commands and cargo's own short names, but none of its commands.
        let own = ["build", "check", "test", "bench", "run", "doc", "rustc", "rustdoc"];
        if !own.contains(&name.as_str()) {
            command.alias = Some((name, left.iter().cloned().collect()));
        }
        if matches!(command.subcommand, Subcommand::Other(_)) {
            return Ok(command);
        }
        command.options(left);
        Ok(command)
    }

    /// Replaces an alias of the configuration by what it stands for; `find` knows the aliases.
    ///
    /// # Errors
    ///
    /// When what it stands for is empty.
    pub fn resolve_alias(&self, find: impl Fn(&str) -> Option<Vec<String>>) -> Result<Self, ArgumentsError> {
        let mut command = self.clone();
        // Cargo refuses aliases that stand for themselves; a bound is enough here.
        for _ in 0..16 {
            let Some((name, rest)) = &command.alias else { break };
            let Some(words) = find(name) else { break };
            let before = command.arguments.len() - rest.len() - 1;
            let arguments: Vec<OsString> = command.arguments[..before]
                .iter()
                .cloned()
                .chain(words.into_iter().map(OsString::from))
                .chain(rest.iter().cloned())
                .collect();
            command = Self::parse(&arguments)?;
        }
        Ok(command)
    }

    fn empty(arguments: Vec<OsString>) -> Self {
        Self {
            subcommand: Subcommand::Build,
            arguments,
            unplannable: Vec::new(),
            features: FeatureSelection::default(),
            targets: Vec::new(),
            target_directory: None,
            manifest_path: None,
            directory: None,
            config: Vec::new(),
            locked: false,
            offline: false,
            unstable: Vec::new(),
            jobs: None,
            message_formats: Vec::new(),
            no_run: false,
            keep_going: false,
            verbose: 0,
            quiet: false,
            color: None,
            document_private_items: false,
            trailing: Vec::new(),
            alias: None,
            packages: Vec::new(),
            workspace: false,
            exclude: Vec::new(),
            names: TargetNames::default(),
            release: false,
            profile: None,
            no_dependencies: false,
            positional: Vec::new(),
            extra: Vec::new(),
        }
    }

    fn options(&mut self, mut left: VecDeque<OsString>) {
        if self.subcommand == Subcommand::Nextest {
            let action = left.pop_front();
            match action.as_deref().and_then(OsStr::to_str) {
                Some("run" | "r" | "list" | "archive") => {}
                other => self.leave_to_cargo(other.unwrap_or("nextest"), "not an action of nextest that builds"),
            }
        }
        let lookup = match self.subcommand {
            Subcommand::Nextest => options::nextest,
            Subcommand::Clippy => clippy,
            Subcommand::Test => test,
            Subcommand::Bench => bench,
            Subcommand::Doc | Subcommand::Rustdoc => documentation,
            Subcommand::Build => build,
            _ => options::shared,
        };
        while let Some(argument) = left.pop_front() {
            match argument.to_str() {
                Some("--") => {
                    self.trailing = left.into();
                    break;
                }
                Some(text) if text.starts_with('-') && text != "-" => self.option(text, &mut left, lookup),
                _ => {
                    self.positional.push(argument);
                    if matches!(self.subcommand, Subcommand::Run | Subcommand::Rustc | Subcommand::Rustdoc) {
                        // The rest belongs to the program or the compiler, options included.
                        self.trailing = self.positional.drain(..).chain(left).collect();
                        break;
                    }
                }
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        match self.subcommand {
            Subcommand::Rustc | Subcommand::Rustdoc => {
                for argument in self.trailing.clone() {
                    match argument.into_string() {
                        Ok(argument) => self.extra.push(argument),
                        Err(argument) => self.leave_to_cargo(argument.to_string_lossy(), "not UTF-8"),
                    }
                }
            }
            Subcommand::Build | Subcommand::Check | Subcommand::Clippy | Subcommand::Doc => {
                if let Some(first) = self.positional.first() {
                    let what = first.to_string_lossy().into_owned();
                    self.leave_to_cargo(what, "an argument that the command does not know");
                }
            }
            Subcommand::Test | Subcommand::Bench if self.positional.len() > 1 => {
                let what = self.positional[1].to_string_lossy().into_owned();
                self.leave_to_cargo(what, "a second filter, which cargo refuses");
            }
            _ => {}
        }
        if self.workspace && !self.packages.is_empty() {
            // Cargo takes `--workspace -p x` as `--workspace`.
            self.packages.clear();
        }
    }

    /// Reads one option: `--name`, `--name=value`, `-n`, `-nvalue`, `-n=value`, or several short ones together.
    fn option(&mut self, text: &str, left: &mut VecDeque<OsString>, lookup: fn(&str) -> Option<Meaning>) {
        if let Some(long) = text.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let known = lookup(name).filter(|_| name.len() > 1);
            match known {
                Some(meaning) => self.known(text, meaning, attached, left),
                None => self.unknown(text),
            }
            return;
        }
        let mut rest = text.trim_start_matches('-');
        while let Some(letter) = rest.chars().next() {
            let name = letter.to_string();
            rest = &rest[letter.len_utf8()..];
            let Some(meaning) = lookup(&name) else {
                self.unknown(text);
                return;
            };
            if meaning.value() == Value::None {
                self.known(text, meaning, None, left);
                continue;
            }
            let attached = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
            self.known(text, meaning, attached, left);
            return;
        }
    }

    fn unknown(&mut self, text: &str) {
        self.leave_to_cargo(text, "an option whose effect is not known");
    }

    fn known(&mut self, text: &str, meaning: Meaning, attached: Option<String>, left: &mut VecDeque<OsString>) {
        let value = match meaning.value() {
            Value::None => {
                if attached.is_some() {
                    return self.unknown(text);
                }
                String::new()
            }
            Value::Required => match attached {
                Some(value) => value,
                None => match left.front().and_then(|next| next.to_str()) {
                    Some(next) => {
                        let next = next.to_owned();
                        left.pop_front();
                        next
                    }
                    None => return self.unknown(text),
                },
            },
        };
        match meaning {
            Meaning::Package => self.packages.push(value),
            Meaning::Exclude => self.exclude.push(value),
            Meaning::Workspace => self.workspace = true,
            Meaning::Library => self.names.library = true,
            Meaning::AllBinaries => self.names.all_binaries = true,
            Meaning::Binary => self.names.binaries.push(value),
            Meaning::AllExamples => self.names.all_examples = true,
            Meaning::Example => self.names.examples.push(value),
            Meaning::AllTests => self.names.all_tests = true,
            Meaning::Test => self.names.tests.push(value),
            Meaning::AllBenches => self.names.all_benches = true,
            Meaning::Bench => self.names.benches.push(value),
            Meaning::AllTargets => self.names.all_targets = true,
            Meaning::Doctests => self.names.doctests = true,
            Meaning::Features => {
                let words = value.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty());
                self.features.features.extend(words.map(str::to_owned));
            }
            Meaning::AllFeatures => self.features.all = true,
            Meaning::NoDefaultFeatures => self.features.no_default = true,
            Meaning::Release => self.release = true,
            Meaning::Debug => {}
            Meaning::Profile => self.profile = Some(value),
            Meaning::Target => self.targets.push(value),
            Meaning::TargetDirectory => self.target_directory = Some(Utf8PathBuf::from(value)),
            Meaning::ManifestPath => self.manifest_path = Some(Utf8PathBuf::from(value)),
            Meaning::Directory => self.directory = Some(Utf8PathBuf::from(value)),
            Meaning::Config => self.config.push(ConfigArgument(value)),
            Meaning::Locked => self.locked = true,
            Meaning::Offline => self.offline = true,
            Meaning::Frozen => (self.locked, self.offline) = (true, true),
            Meaning::Unstable => {
                let name = value.split('=').next().unwrap_or_default().to_owned();
                if !options::is_harmless_unstable(&name) {
                    self.leave_to_cargo(format!("-Z {name}"), "an unstable option that can change what is built");
                }
                self.unstable.push(value);
            }
            Meaning::Jobs => self.jobs = Some(value),
            Meaning::MessageFormat => self.message_formats.push(value),
            Meaning::NoRun => self.no_run = true,
            Meaning::KeepGoing => self.keep_going = true,
            Meaning::Verbose => self.verbose = self.verbose.saturating_add(1),
            Meaning::Quiet => self.quiet = true,
            Meaning::Color => self.color = Some(value),
            Meaning::NoDependencies => self.no_dependencies = true,
            Meaning::DocumentPrivateItems => self.document_private_items = true,
            Meaning::Nothing | Meaning::NothingWithValue => {}
        }
    }
}

fn build(name: &str) -> Option<Meaning> {
    match name {
        // It is what the default is.
        "debug" | "d" => Some(Meaning::Debug),
        "timings" => Some(Meaning::Nothing),
        _ => shared_with_timings(name),
    }
}

fn shared_with_timings(name: &str) -> Option<Meaning> {
    match name {
        "timings" => Some(Meaning::Nothing),
        _ => options::shared(name),
    }
}

fn test(name: &str) -> Option<Meaning> {
    match name {
        "doc" => Some(Meaning::Doctests),
        "no-run" => Some(Meaning::NoRun),
        "no-fail-fast" => Some(Meaning::Nothing),
        _ => shared_with_timings(name),
    }
}

fn bench(name: &str) -> Option<Meaning> {
    match name {
        // Benchmarks are always of the `bench` profile.
        "release" | "r" | "doc" => None,
        _ => test(name),
    }
}

fn documentation(name: &str) -> Option<Meaning> {
    match name {
        "no-deps" => Some(Meaning::NoDependencies),
        "document-private-items" => Some(Meaning::DocumentPrivateItems),
        "open" => Some(Meaning::Nothing),
        _ => shared_with_timings(name),
    }
}

fn clippy(name: &str) -> Option<Meaning> {
    match name {
        // Clippy's own: it is about what is linted.
        "no-deps" => Some(Meaning::Nothing),
        "fix" => None,
        _ => shared_with_timings(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, Intent, LibraryRule, PackageSelection, Rule};
    use super::*;

    fn parse(line: &str) -> CargoCommand {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        CargoCommand::parse(&words).expect("the line has a command")
    }

    fn reasons(command: &CargoCommand) -> Vec<&str> {
        command.unplannable.iter().map(|reason| reason.what.as_str()).collect()
    }

    #[test]
    fn every_spelling_of_an_option_is_read() {
        for line in [
            "build -p serde --features a,b --features=c --target x --profile=special -j4 --config k=1",
            "b -pserde -F a -Fb,c --target=x --profile special -j 4 --config=k=1",
            "--config k=1 build --package=serde -F=a -F b -F c --target x --profile special --jobs=4",
        ] {
            let command = parse(line);
            assert_eq!(command.package_selection(), PackageSelection::Packages(vec!["serde".to_owned()]), "{line}");
            assert_eq!(command.features.features, ["a", "b", "c"], "{line}");
            assert_eq!(command.targets, ["x"], "{line}");
            assert_eq!(command.profile_name(), "special", "{line}");
            assert_eq!(command.jobs.as_deref(), Some("4"), "{line}");
            assert_eq!(command.config, [ConfigArgument("k=1".to_owned())], "{line}");
            assert_eq!(reasons(&command), <[&str; 0]>::default(), "{line}");
        }
    }

    #[test]
    fn profiles_and_intents_follow_the_command() {
        for (line, profile, directory, intent) in [
            ("build", "dev", "debug", Intent::Build),
            ("build -r", "release", "release", Intent::Build),
            ("b -vvr", "release", "release", Intent::Build),
            ("check --profile test", "test", "debug", Intent::Check { test: true }),
            ("clippy", "dev", "debug", Intent::Check { test: false }),
            ("test", "test", "debug", Intent::Test),
            ("t --release", "release", "release", Intent::Test),
            ("test --doc", "test", "debug", Intent::Doctest),
            ("bench", "bench", "release", Intent::Bench),
            ("d --no-deps", "dev", "debug", Intent::Doc { dependencies: false }),
            ("rustc --profile test", "test", "debug", Intent::Test),
            ("rustc --profile check", "dev", "debug", Intent::Check { test: false }),
            ("nextest run --cargo-profile fast --profile ci", "fast", "fast", Intent::Test),
        ] {
            let command = parse(line);
            assert_eq!(command.profile_name(), profile, "{line}");
            assert_eq!(command.profile_directory(), directory, "{line}");
            assert_eq!(command.intent(), Some(intent), "{line}");
        }
        assert!(parse("clippy").is_clippy() && !parse("check").is_clippy());
        assert_eq!(parse("tree").intent(), None);
    }

    #[test]
    fn what_is_unknown_is_named_and_not_refused() {
        for (line, named) in [
            ("build --artifact-dir out", "--artifact-dir"),
            ("build --what", "--what"),
            ("build -x", "-x"),
            ("build --features", "--features"),
            ("build -Z build-std=core", "-Z build-std"),
            ("build -Zbindeps", "-Z bindeps"),
            ("bench --release", "--release"),
            ("clippy --fix", "--fix"),
            ("rustc --crate-type lib", "--crate-type"),
            ("nextest show-config", "show-config"),
            ("build extra", "extra"),
            ("build --lib=x", "--lib=x"),
        ] {
            assert!(reasons(&parse(line)).contains(&named), "{line}: {:?}", parse(line).unplannable);
        }
        for line in ["build -Z build-dir-new-layout", "build -Zunstable-options --keep-going", "build --timings"] {
            assert!(parse(line).unplannable.is_empty(), "{line}");
        }
        assert!(matches!(CargoCommand::parse(&["-v".into()]), Err(ArgumentsError::NoCommand)));
    }

    #[test]
    fn targets_are_filtered_as_named() {
        assert_eq!(parse("build").filter(), Filter::Default { skip_unavailable: true });
        assert_eq!(parse("build --bin a").filter(), Filter::binary("a"));
        let named = parse("test some_test");
        let Filter::Only { library: LibraryRule::IfAny, tests: Rule::All, examples, .. } = named.filter() else {
            panic!("{:?}", named.filter());
        };
        assert_eq!(examples, Rule::Named(Vec::new()));
        assert_eq!(parse("test -- some_test").filter(), Filter::Default { skip_unavailable: true });
        assert_eq!(parse("nextest run some_test").filter(), Filter::Default { skip_unavailable: true });
        assert_eq!(parse("bench some_bench").filter(), Filter::Default { skip_unavailable: true });
    }

    #[test]
    fn what_follows_belongs_to_the_program() {
        let run = parse("run --release program --lib -- --bin");
        assert_eq!(run.trailing, ["program", "--lib", "--", "--bin"]);
        assert!(!run.names_targets());
        assert_eq!(parse("rustc --lib -- -C opt-level=3").extra_compiler_arguments(), ["-C", "opt-level=3"]);
        assert!(parse("test -- --nocapture").extra_compiler_arguments().is_empty());
    }

    #[test]
    fn aliases_are_resolved() {
        let find = |name: &str| match name {
            "rr" => Some(vec!["b".to_owned(), "--release".to_owned()]),
            "t" => Some(vec!["nextest".to_owned(), "run".to_owned()]),
            "build" => Some(vec!["test".to_owned()]),
            "forever" => Some(vec!["forever".to_owned()]),
            _ => None,
        };
        let resolved = |line: &str| parse(line).resolve_alias(find).expect("aliases resolve");
        assert_eq!(resolved("--offline rr --lib").arguments, ["--offline", "b", "--release", "--lib"]);
        assert_eq!(resolved("rr").profile_name(), "release");
        assert_eq!(resolved("t").subcommand, Subcommand::Nextest);
        assert_eq!(resolved("build").subcommand, Subcommand::Build);
        assert_eq!(resolved("c").subcommand, Subcommand::Check);
        assert_eq!(resolved("forever").intent(), None);
        assert_eq!(resolved("tree").intent(), None);
    }
}
